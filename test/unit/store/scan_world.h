/* test/unit/store/scan_world.h -- WAL files made byte by byte, so that each of them can
 * be wrong in its own way. The body of record `index` is its number over and over: what
 * is read back is known. */
#ifndef TEST_UNIT_STORE_SCAN_WORLD_H
#define TEST_UNIT_STORE_SCAN_WORLD_H

#include "support/test.h"

#include "base/enc.h"
#include "base/status.h"
#include "base/str.h"
#include "env/env_mem.h"
#include "store/scan.h"
#include "store/wal.h"

#include <stdio.h>

enum { BODY = 24, FILE_SIZE = 6 * MP_BLOCK_SIZE, FIRST = MP_BLOCK_SIZE };

struct batch {
    uint64_t lsn, durable;
    uint64_t index;        /* of its first record */
    uint64_t last;         /* what its heads say; 0: the one before the first record */
    uint32_t records;
    uint32_t shard;        /* of its records and its heads; 0: the data */
    uint16_t flags;        /* of the records */
    uint8_t kind;          /* of the records; 0: entries */
    uint8_t raft_more;     /* of the records: their RAFT type less 1 */
    struct mp_lsn_range settled; /* to: 0: none */
};

struct world {
    struct mp_disk *disk;
    struct mp_env *env;
    uint64_t base, epoch; /* of the file being written */
    uint32_t chain;
    uint64_t wal_first;   /* what `node` says */
    struct mp_scan scan;
    memphis_error err;
};

static inline struct world *begin(void)
{
    static struct world w;

    w = (struct world){ .disk = mp_disk_new(7) };
    w.env = mp_env_mem_open(w.disk, NULL);
    assert_int_equal(w.env->mkdir(w.env, "wal", NULL), MEMPHIS_OK);
    return &w;
}

static inline void end(struct world *w)
{
    mp_scan_fini(&w->scan);
    w->env->close(w->env);
    mp_disk_free(w->disk);
}

static inline void put_bytes(struct world *w, uint64_t offset, const void *bytes,
                             size_t size)
{
    char name[MP_WAL_NAME_SIZE];
    memphis_slice v = { bytes, size };
    struct mp_file *f;

    mp_wal_name(w->base, name);
    w->env->file_open(w->env, name, MP_FILE_WRITE | MP_FILE_CREATE, &f, NULL);
    assert_int_equal(w->env->file_write(w->env, f, offset, &v, 1, NULL), MEMPHIS_OK);
    w->env->file_close(w->env, f);
}

static inline void put_header(struct world *w, uint64_t base, uint64_t size)
{
    struct mp_wal_header h = { .epoch = w->epoch, .base = base, .size = size };
    uint8_t block[MP_BLOCK_SIZE];

    mp_wal_header_encode(&h, block);
    put_bytes(w, 0, block, sizeof block);
}

static inline void put_file(struct world *w, uint64_t base)
{
    static const uint8_t zeros[FILE_SIZE];

    w->base = base;
    w->epoch = base + 1001;
    w->chain = 0;
    put_bytes(w, 0, zeros, sizeof zeros);
    put_header(w, base, FILE_SIZE);
}

static inline void put_record(struct mp_buf *body, uint32_t *crc, uint64_t epoch,
                              struct mp_group_header h, memphis_slice bytes)
{
    h.length = (uint32_t)(MP_GROUP_HEADER_SIZE + bytes.size);
    h.body_crc = mp_crc32c(0, bytes.data, bytes.size);
    uint8_t *at = mp_buf_add(body, MP_GROUP_HEADER_SIZE);
    mp_group_header_encode(&h, epoch, at);
    *crc = mp_crc32c(*crc, at, MP_GROUP_HEADER_SIZE);
    mp_buf_put_slice(body, bytes);
}

static inline void fill_body(uint64_t index, uint8_t out[BODY])
{
    for (size_t i = 0; i < BODY; i += 8)
        mp_set_u64(out + i, index);
}

static inline uint32_t put_records(struct world *w, const struct batch *b,
                                   struct mp_buf *body, uint32_t *count)
{
    struct mp_head head = { .shard = b->shard ? b->shard : 2,
                            .last_index = b->last ? b->last : b->index - 1,
                            .commit = b->lsn };
    uint8_t bytes[MP_HEAD_SIZE];
    uint32_t crc = 0;

    mp_head_encode(&head, bytes);
    put_record(body, &crc, w->epoch,
               (struct mp_group_header){ .kind = MP_RECORD_HEADS },
               mp_slice(bytes, MP_HEAD_SIZE));
    *count = 1;
    if (b->settled.to > 0) {
        mp_set_u64(bytes, b->settled.from);
        mp_set_u64(bytes + 8, b->settled.to);
        put_record(body, &crc, w->epoch,
                   (struct mp_group_header){ .kind = MP_RECORD_SETTLED },
                   mp_slice(bytes, 16));
        ++*count;
    }
    for (uint32_t i = 0; i < b->records; i++, ++*count) {
        struct mp_group_header h = { .kind = b->kind ? b->kind : MP_RECORD_ENTRY,
                                     .raft_type = MP_RAFT_NORMAL + b->raft_more,
                                     .flags = b->flags, .shard = head.shard,
                                     .entries = 1, .index = b->index + i };
        fill_body(h.index, bytes);
        put_record(body, &crc, w->epoch, h, mp_slice(bytes, BODY));
    }
    return crc;
}

/* Returns the LSN behind it. */
static inline uint64_t put_batch(struct world *w, struct batch b)
{
    struct mp_buf body = { 0 };
    uint8_t header[MP_BATCH_HEADER_SIZE];
    struct mp_batch_header h = { .epoch = w->epoch, .lsn = b.lsn,
                                 .durable_upto = b.durable, .chain = w->chain,
                                 .wall_ns = b.lsn + 5, .broker_ns = b.lsn + 6 };

    h.records_crc = put_records(w, &b, &body, &h.records);
    h.body_size = (uint32_t)body.size;
    mp_batch_header_encode(&h, header);
    put_bytes(w, b.lsn - w->base, header, sizeof header);
    put_bytes(w, b.lsn - w->base + MP_BATCH_HEADER_SIZE, body.data, body.size);
    mp_buf_fini(&body);
    w->chain = h.crc;
    return b.lsn + mp_block_up(MP_BATCH_HEADER_SIZE + (uint64_t)h.body_size);
}

/* File 0 with batches of two records each, as one batch in flight leaves them:
 * indexes 1 to 2 * n. Returns the LSN behind the last one. */
static inline uint64_t put_batches(struct world *w, uint32_t n)
{
    uint64_t lsn = FIRST;

    put_file(w, 0);
    for (uint32_t i = 0; i < n; i++)
        lsn = put_batch(w, (struct batch){ .lsn = lsn, .durable = lsn, .records = 2,
                                           .index = 2 * i + 1 });
    return lsn;
}

static inline void flip(struct world *w, uint64_t base, uint64_t offset)
{
    char name[MP_WAL_NAME_SIZE];

    mp_wal_name(base, name);
    assert_true(mp_disk_flip(w->disk, name, offset, 4));
}

static inline memphis_status scan(struct world *w, uint64_t durable_upto,
                                  bool accept_loss)
{
    mp_scan_fini(&w->scan);
    w->err.message[0] = 0;
    return mp_scan_run(&w->scan, w->env, durable_upto, w->wal_first, accept_loss,
                       &w->err);
}

/* What was found, as a bit per index; each record is what was written, and comes once.
 */
static inline uint64_t found(struct world *w)
{
    uint64_t bits = 0, last = 0;
    uint8_t expected[BODY];

    for (size_t i = 0; i < w->scan.records_count; i++) {
        const struct mp_scan_record *r = &w->scan.records[i];
        struct mp_group_header h;
        memphis_slice body;
        assert_int_equal(mp_scan_read(&w->scan, r, &h, &body, &w->err), MEMPHIS_OK);
        assert_int_equal(h.index, r->index);
        assert_true(r->index > last && r->index < 64); /* in order */
        fill_body(r->index, expected);
        assert_int_equal(body.size, BODY);
        assert_memory_equal(body.data, expected, BODY);
        last = r->index;
        bits |= 1ull << r->index;
    }
    return bits;
}

static inline uint64_t bits(uint64_t first, uint64_t last)
{
    return (1ull << (last + 1)) - (1ull << first);
}

static inline void three_files(struct world *w)
{
    uint64_t lsn = put_batches(w, 2);

    for (uint64_t i = 1; i < 3; i++) {
        put_file(w, i * FILE_SIZE);
        lsn = put_batch(w, (struct batch){ .lsn = i * FILE_SIZE + FIRST, .durable = lsn,
                                           .index = 2 * i + 3, .records = 2 });
    }
}

#endif
