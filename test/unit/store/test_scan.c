#include "support/test.h"

#include "base/enc.h"
#include "base/status.h"
#include "base/str.h"
#include "env/env_mem.h"
#include "store/scan.h"
#include "store/wal.h"

#include <stdio.h>

/* WAL files made byte by byte, so that each of them can be wrong in its own way. The
 * body of record `index` is its number over and over: what is read back is known. */
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

static struct world *begin(void)
{
    static struct world w;

    w = (struct world){ .disk = mp_disk_new(7) };
    w.env = mp_env_mem_open(w.disk, NULL);
    assert_int_equal(w.env->mkdir(w.env, "wal", NULL), MEMPHIS_OK);
    return &w;
}

static void end(struct world *w)
{
    mp_scan_fini(&w->scan);
    w->env->close(w->env);
    mp_disk_free(w->disk);
}

static void put_bytes(struct world *w, uint64_t offset, const void *bytes, size_t size)
{
    char name[MP_WAL_NAME_SIZE];
    memphis_slice v = { bytes, size };
    struct mp_file *f;

    mp_wal_name(w->base, name);
    w->env->file_open(w->env, name, MP_FILE_WRITE | MP_FILE_CREATE, &f, NULL);
    assert_int_equal(w->env->file_write(w->env, f, offset, &v, 1, NULL), MEMPHIS_OK);
    w->env->file_close(w->env, f);
}

static void put_header(struct world *w, uint64_t base, uint64_t size)
{
    struct mp_wal_header h = { .epoch = w->epoch, .base = base, .size = size };
    uint8_t block[MP_BLOCK_SIZE];

    mp_wal_header_encode(&h, block);
    put_bytes(w, 0, block, sizeof block);
}

static void put_file(struct world *w, uint64_t base)
{
    static const uint8_t zeros[FILE_SIZE];

    w->base = base;
    w->epoch = base + 1001;
    w->chain = 0;
    put_bytes(w, 0, zeros, sizeof zeros);
    put_header(w, base, FILE_SIZE);
}

static void put_record(struct mp_buf *body, uint32_t *crc, uint64_t epoch,
                       struct mp_group_header h, memphis_slice bytes)
{
    h.length = (uint32_t)(MP_GROUP_HEADER_SIZE + bytes.size);
    h.body_crc = mp_crc32c(0, bytes.data, bytes.size);
    uint8_t *at = mp_buf_add(body, MP_GROUP_HEADER_SIZE);
    mp_group_header_encode(&h, epoch, at);
    *crc = mp_crc32c(*crc, at, MP_GROUP_HEADER_SIZE);
    mp_buf_put_slice(body, bytes);
}

static void fill_body(uint64_t index, uint8_t out[BODY])
{
    for (size_t i = 0; i < BODY; i += 8)
        mp_set_u64(out + i, index);
}

static uint32_t put_records(struct world *w, const struct batch *b, struct mp_buf *body,
                            uint32_t *count)
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
static uint64_t put_batch(struct world *w, struct batch b)
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
static uint64_t put_batches(struct world *w, uint32_t n)
{
    uint64_t lsn = FIRST;

    put_file(w, 0);
    for (uint32_t i = 0; i < n; i++)
        lsn = put_batch(w, (struct batch){ .lsn = lsn, .durable = lsn, .records = 2,
                                           .index = 2 * i + 1 });
    return lsn;
}

static void flip(struct world *w, uint64_t base, uint64_t offset)
{
    char name[MP_WAL_NAME_SIZE];

    mp_wal_name(base, name);
    assert_true(mp_disk_flip(w->disk, name, offset, 4));
}

static memphis_status scan(struct world *w, uint64_t durable_upto, bool accept_loss)
{
    mp_scan_fini(&w->scan);
    w->err.message[0] = 0;
    return mp_scan_run(&w->scan, w->env, durable_upto, w->wal_first, accept_loss,
                       &w->err);
}

/* What was found, as a bit per index; each record is what was written, and comes once.
 */
static uint64_t found(struct world *w)
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

static uint64_t bits(uint64_t first, uint64_t last)
{
    return (1ull << (last + 1)) - (1ull << first);
}

/* -- what holds -------------------------------------------------------------------- */

static void a_log_without_files_is_damage(void **state)
{
    struct world *w = begin();

    (void)state;
    w->base = 99;
    put_bytes(w, 0, "x", 1); /* other names are nobody's business */
    assert_int_equal(w->env->rename(w->env, "wal/00000000000000000099.wal", "wal/next",
                                    NULL), MEMPHIS_OK);
    w->wal_first = 5 * FILE_SIZE;
    for (uint64_t durable = 0; durable < 7 * FILE_SIZE; durable += FILE_SIZE + 1) {
        assert_int_equal(scan(w, durable, false), MEMPHIS_CORRUPT);
        assert_non_null(strstr(w->err.message, "no WAL file"));
        assert_int_equal(scan(w, durable, true), MEMPHIS_OK);
        assert_int_equal(w->scan.files_count, 0);
        assert_int_equal(w->scan.records_count, 0);
        assert_int_equal(w->scan.lost_count, 1);
        assert_int_equal(w->scan.lost[0].from, w->wal_first);
        assert_int_equal(w->scan.files_end % MP_BLOCK_SIZE, 0);
        assert_true(w->scan.files_end > w->wal_first);
        assert_true(w->scan.files_end >= durable);
        assert_int_equal(w->scan.end, w->scan.files_end);
    }
    end(w);
}

static void good_batches_give_records_heads_and_clock(void **state)
{
    struct world *w = begin();

    (void)state;
    uint64_t tail = put_batches(w, 3);
    assert_int_equal(scan(w, 0, false), MEMPHIS_OK);
    assert_int_equal(found(w), bits(1, 6));
    assert_int_equal(w->scan.end, tail);
    assert_int_equal(w->scan.durable_upto, tail - MP_BLOCK_SIZE);
    assert_int_equal(w->scan.files_end, FILE_SIZE);
    assert_int_equal(w->scan.last_base, 0);
    assert_int_equal(w->scan.torn_bytes, 0);
    assert_int_equal(w->scan.lost_count, 0);
    assert_int_equal(w->scan.wall_ns, tail - MP_BLOCK_SIZE + 5);
    assert_int_equal(w->scan.broker_ns, tail - MP_BLOCK_SIZE + 6);
    assert_int_equal(w->scan.heads_count, 1);
    assert_int_equal(w->scan.heads[0].last_index, 4);
    end(w);
}

static void the_unused_rest_of_a_file_is_no_bad_batch(void **state)
{
    struct world *w = begin();

    (void)state;
    uint64_t lsn = put_batches(w, 2);
    put_file(w, FILE_SIZE);
    put_batch(w, (struct batch){ .lsn = FILE_SIZE + FIRST, .durable = lsn, .index = 5,
                                 .records = 2 });
    assert_int_equal(scan(w, 0, false), MEMPHIS_OK);
    assert_int_equal(found(w), bits(1, 6));
    assert_int_equal(w->scan.last_base, FILE_SIZE);
    assert_int_equal(w->scan.end, FILE_SIZE + 2 * MP_BLOCK_SIZE);

    /* A next file without a batch yet: the end is in the one before. */
    put_file(w, 2 * FILE_SIZE);
    assert_int_equal(scan(w, 0, false), MEMPHIS_OK);
    assert_int_equal(found(w), bits(1, 6));
    assert_int_equal(w->scan.files_end, 3 * FILE_SIZE);
    end(w);
}

/* -- torn or damaged --------------------------------------------------------------- */

static void a_torn_last_batch_is_dropped_and_its_bytes_counted(void **state)
{
    struct world *w = begin();

    (void)state;
    uint64_t tail = put_batches(w, 3);
    flip(w, 0, tail - MP_BLOCK_SIZE + 300); /* in a body */
    assert_int_equal(scan(w, 0, false), MEMPHIS_OK);
    assert_int_equal(found(w), bits(1, 4));
    assert_int_equal(w->scan.end, tail - MP_BLOCK_SIZE);
    assert_int_equal(w->scan.torn_bytes, MP_BLOCK_SIZE);
    assert_int_equal(w->scan.wall_ns, tail - 2 * MP_BLOCK_SIZE + 5);
    end(w);
}

static void a_bad_batch_below_d_is_damage_and_its_place_is_named(void **state)
{
    struct world *w = begin();

    (void)state;
    put_batches(w, 3);
    flip(w, 0, 2 * MP_BLOCK_SIZE + 300); /* covered by the third one */
    assert_int_equal(scan(w, 0, false), MEMPHIS_CORRUPT);
    assert_non_null(strstr(w->err.message, "'wal/00000000000000000000.wal'"));
    assert_non_null(strstr(w->err.message, "offset 8192, length 4096"));
    end(w);
}

static void what_a_slot_knows_to_be_durable_may_not_be_missing(void **state)
{
    struct world *w = begin();

    (void)state;
    uint64_t tail = put_batches(w, 3);
    assert_int_equal(scan(w, tail, false), MEMPHIS_OK);
    flip(w, 0, tail - MP_BLOCK_SIZE + 10);
    assert_int_equal(scan(w, tail - MP_BLOCK_SIZE, false), MEMPHIS_OK);
    assert_int_equal(scan(w, tail, false), MEMPHIS_CORRUPT);
    assert_non_null(strstr(w->err.message, "offset 12288"));
    end(w);
}

static void a_good_batch_behind_a_bad_one_tells_by_its_durable_upto(void **state)
{
    struct world *w = begin();

    (void)state;
    put_file(w, 0);
    uint64_t second = put_batch(w, (struct batch){ .lsn = FIRST, .durable = FIRST,
                                                   .index = 1, .records = 2 });
    uint64_t third = put_batch(w, (struct batch){ .lsn = second, .durable = second,
                                                  .index = 3, .records = 2 });
    uint32_t chain = w->chain;
    flip(w, 0, second + 300);
    /* Built before the second one was durable, as without syncs: both unknown. */
    put_batch(w, (struct batch){ .lsn = third, .durable = second, .index = 5,
                                 .records = 2 });
    assert_int_equal(scan(w, 0, false), MEMPHIS_OK);
    assert_int_equal(found(w), bits(1, 2));
    assert_int_equal(w->scan.broker_ns, FIRST + 6); /* nor does its clock count */
    /* Built after it: the second one was acknowledged. */
    w->chain = chain;
    put_batch(w, (struct batch){ .lsn = third, .durable = third, .index = 5,
                                 .records = 2 });
    assert_int_equal(scan(w, 0, false), MEMPHIS_CORRUPT);
    end(w);
}

static void a_batch_that_does_not_continue_the_chain_is_not_taken(void **state)
{
    struct world *w = begin();

    (void)state;
    uint64_t lsn = put_batches(w, 2);
    w->chain ^= 1;
    put_batch(w, (struct batch){ .lsn = lsn, .durable = FIRST, .index = 5,
                                 .records = 2 });
    assert_int_equal(scan(w, 0, false), MEMPHIS_OK);
    assert_int_equal(found(w), bits(1, 4));
    end(w);
}

static void batches_of_an_earlier_use_of_the_file_are_not_seen(void **state)
{
    struct world *w = begin();

    (void)state;
    put_batches(w, 4);
    w->epoch += 77; /* used again: same place, same LSNs, another epoch */
    put_header(w, 0, FILE_SIZE);
    w->chain = 0;
    uint64_t lsn = put_batch(w, (struct batch){ .lsn = FIRST, .durable = FIRST,
                                                .index = 11, .records = 2 });
    assert_int_equal(scan(w, 0, false), MEMPHIS_OK);
    assert_int_equal(found(w), bits(11, 12));
    assert_int_equal(w->scan.end, lsn);
    assert_int_equal(w->scan.torn_bytes, 0);
    /* Not by a search for records either. */
    assert_int_equal(scan(w, 3 * MP_BLOCK_SIZE, true), MEMPHIS_OK);
    assert_int_equal(found(w), bits(11, 12));
    end(w);
}

static void settled_ranges_are_skipped_and_read_from_the_copies(void **state)
{
    struct world *w = begin();

    (void)state;
    uint64_t tail = put_batches(w, 3);
    uint64_t from = tail - 2 * MP_BLOCK_SIZE; /* two batches; the last one is bad */
    flip(w, 0, tail - MP_BLOCK_SIZE + 300);
    put_file(w, FILE_SIZE);
    uint64_t lsn = put_batch(w, (struct batch){
        .lsn = FILE_SIZE + FIRST, .durable = from, .index = 3, .records = 2,
        .flags = MP_RECORD_COPY, .settled = { from, FILE_SIZE } });
    put_batch(w, (struct batch){ .lsn = lsn, .durable = lsn, .index = 5,
                                 .records = 1 });
    assert_int_equal(scan(w, 0, false), MEMPHIS_OK);
    assert_int_equal(found(w), bits(1, 5));
    assert_int_equal(w->scan.settled_count, 1);
    assert_true(w->scan.records[2].is_copy);
    assert_int_equal(w->scan.records[2].file, 1);

    /* Without it the bad one below D is damage. */
    flip(w, FILE_SIZE, FIRST + 300);
    assert_int_equal(scan(w, 0, false), MEMPHIS_CORRUPT);
    end(w);
}

static void a_good_batch_behind_a_torn_one_stays_settled(void **state)
{
    struct world *w = begin();

    (void)state;
    uint64_t torn = put_batches(w, 1);
    uint64_t third = put_batch(w, (struct batch){ .lsn = torn, .durable = torn,
                                                  .index = 3, .records = 2 });
    put_batch(w, (struct batch){ .lsn = third, .durable = torn, .index = 5,
                                 .records = 2 });
    flip(w, 0, torn + 300);
    put_file(w, FILE_SIZE);
    uint64_t lsn = put_batch(w, (struct batch){
        .lsn = FILE_SIZE + FIRST, .durable = torn, .index = 3, .records = 0,
        .settled = { torn, FILE_SIZE } });
    put_batch(w, (struct batch){ .lsn = lsn, .durable = lsn, .index = 3,
                                 .records = 2 });
    assert_int_equal(scan(w, 0, false), MEMPHIS_OK);
    assert_int_equal(found(w), bits(1, 4));
    assert_int_equal(w->scan.records[2].file, 1);
    end(w);
}

/* The file before is full: its end leads to the first batch of the next one. */
static void what_is_settled_may_be_the_first_batch_of_a_file(void **state)
{
    struct world *w = begin();

    (void)state;
    assert_int_equal(put_batches(w, FILE_SIZE / MP_BLOCK_SIZE - 1), FILE_SIZE);
    put_file(w, FILE_SIZE);
    const uint64_t bad = FILE_SIZE + FIRST;
    uint64_t lsn = put_batch(w, (struct batch){ .lsn = bad, .durable = FILE_SIZE,
                                                .index = 11, .records = 2 });
    put_batch(w, (struct batch){ .lsn = lsn, .durable = lsn, .index = 13,
                                 .records = 2 });
    flip(w, FILE_SIZE, FIRST + 300);
    assert_int_equal(scan(w, 0, false), MEMPHIS_CORRUPT);
    put_file(w, 2 * FILE_SIZE);
    lsn = put_batch(w, (struct batch){ .lsn = 2 * FILE_SIZE + FIRST,
                                       .durable = lsn + MP_BLOCK_SIZE, .index = 15,
                                       .records = 1, .settled = { bad, lsn } });
    assert_int_equal(scan(w, lsn, false), MEMPHIS_OK);
    assert_int_equal(found(w), bits(1, 10) | bits(13, 15));
    end(w);
}

static void records_in_another_order_make_a_batch_bad(void **state)
{
    struct world *w = begin();
    uint8_t both[2 * (MP_GROUP_HEADER_SIZE + BODY)];
    const uint64_t at = FIRST + MP_BATCH_HEADER_SIZE + MP_GROUP_HEADER_SIZE +
                        MP_HEAD_SIZE;
    struct mp_file *f;
    size_t got;

    (void)state;
    put_batches(w, 1);
    w->env->file_open(w->env, "wal/00000000000000000000.wal", MP_FILE_READ, &f, NULL);
    w->env->file_read(w->env, f, at, both, sizeof both, &got, NULL);
    w->env->file_close(w->env, f);
    assert_int_equal(mp_get_u64(both + 32), 1); /* the first record's index */
    put_bytes(w, at, both + sizeof both / 2, sizeof both / 2);
    put_bytes(w, at + sizeof both / 2, both, sizeof both / 2);
    assert_int_equal(scan(w, 0, false), MEMPHIS_OK);
    assert_int_equal(found(w), 0);
    end(w);
}

/* -- files ------------------------------------------------------------------------- */

static void three_files(struct world *w)
{
    uint64_t lsn = put_batches(w, 2);

    for (uint64_t i = 1; i < 3; i++) {
        put_file(w, i * FILE_SIZE);
        lsn = put_batch(w, (struct batch){ .lsn = i * FILE_SIZE + FIRST, .durable = lsn,
                                           .index = 2 * i + 3, .records = 2 });
    }
}

static void a_file_missing_in_the_middle_is_damage(void **state)
{
    struct world *w = begin();
    char name[MP_WAL_NAME_SIZE];

    (void)state;
    three_files(w);
    assert_int_equal(scan(w, 0, false), MEMPHIS_OK);
    assert_int_equal(found(w), bits(1, 8));
    mp_wal_name(FILE_SIZE, name);
    assert_int_equal(w->env->unlink(w->env, name, NULL), MEMPHIS_OK);
    assert_int_equal(scan(w, 0, false), MEMPHIS_CORRUPT);
    assert_non_null(strstr(w->err.message, "from LSN 24576 to 49152"));

    assert_int_equal(scan(w, 0, true), MEMPHIS_OK);
    assert_int_equal(found(w), bits(1, 4) | bits(7, 8));
    assert_true(w->scan.lost_count > 0);
    end(w);
}

static void the_oldest_files_may_be_gone_when_node_says_so(void **state)
{
    struct world *w = begin();
    char name[MP_WAL_NAME_SIZE];

    (void)state;
    three_files(w);
    mp_wal_name(0, name);
    assert_int_equal(w->env->unlink(w->env, name, NULL), MEMPHIS_OK);
    assert_int_equal(scan(w, 0, false), MEMPHIS_CORRUPT);
    assert_non_null(strstr(w->err.message, "missing: from LSN 0 to 24576"));
    assert_int_equal(scan(w, 0, true), MEMPHIS_OK);
    assert_int_equal(w->scan.lost_count, 1);
    assert_int_equal(found(w), bits(5, 8));
    w->wal_first = FILE_SIZE;
    assert_int_equal(scan(w, 0, false), MEMPHIS_OK);
    assert_int_equal(found(w), bits(5, 8));
    end(w);
}

static void a_file_of_the_wrong_size_or_name_is_damage(void **state)
{
    struct world *w = begin();
    char name[MP_WAL_NAME_SIZE], other[MP_WAL_NAME_SIZE];
    struct mp_file *f;

    (void)state;
    three_files(w);
    mp_wal_name(FILE_SIZE, name);
    w->env->file_open(w->env, name, MP_FILE_WRITE, &f, NULL);
    w->env->file_truncate(w->env, f, FILE_SIZE - MP_BLOCK_SIZE, NULL);
    w->env->file_close(w->env, f);
    assert_int_equal(scan(w, 0, false), MEMPHIS_CORRUPT);
    assert_non_null(strstr(w->err.message, name));
    assert_int_equal(scan(w, 0, true), MEMPHIS_OK);
    assert_int_equal(w->scan.lost_count, 2); /* its header, and what was cut off */
    assert_int_equal(found(w), bits(1, 8));

    three_files(w);
    mp_wal_name(2 * FILE_SIZE, name);
    mp_wal_name(3 * FILE_SIZE, other);
    assert_int_equal(w->env->rename(w->env, name, other, NULL), MEMPHIS_OK);
    assert_int_equal(scan(w, 0, false), MEMPHIS_CORRUPT);
    assert_non_null(strstr(w->err.message, "missing: from LSN 49152 to 73728"));
    assert_int_equal(scan(w, 0, true), MEMPHIS_OK);
    assert_int_equal(found(w), bits(1, 6));
    end(w);
}

/* The name says the base, a batch the epoch: nothing else is lost with it. */
static void a_damaged_header_costs_nothing_but_itself(void **state)
{
    (void)state;

    for (uint64_t i = 0; i < 3; i++) {
        struct world *w = begin();
        char name[MP_WAL_NAME_SIZE];
        three_files(w);
        mp_wal_name(i * FILE_SIZE, name);
        flip(w, i * FILE_SIZE, 17);
        assert_int_equal(scan(w, 0, false), MEMPHIS_CORRUPT);
        assert_non_null(strstr(w->err.message, name));
        assert_non_null(strstr(w->err.message, "--accept-loss"));
        assert_int_equal(scan(w, 0, true), MEMPHIS_OK);
        assert_int_equal(found(w), bits(1, 8));
        assert_int_equal(w->scan.lost_count, 1);
        assert_int_equal(w->scan.lost[0].from, i * FILE_SIZE);
        assert_int_equal(w->scan.lost[0].to, i * FILE_SIZE + MP_BLOCK_SIZE);
        assert_int_equal(w->scan.files_end, 3 * FILE_SIZE);

        /* A record of the first batch is hit, too: its own header still tells. */
        flip(w, i * FILE_SIZE, FIRST + 64 + 72 + 48 + 72 + 5);
        assert_int_equal(scan(w, 3 * FILE_SIZE, true), MEMPHIS_OK);
        uint64_t hit = i == 0 ? 1 : 2 * i + 3;
        assert_int_equal(found(w), bits(1, 8) & ~bits(hit, hit));

        /* The first batch tells no more: another one does, where there is one. */
        flip(w, i * FILE_SIZE, FIRST + 10);
        assert_int_equal(scan(w, 0, true), MEMPHIS_OK);
        assert_int_equal(found(w),
                         i == 0 ? bits(2, 8) : bits(1, 8) & ~bits(hit, hit + 1));
        assert_int_equal(w->scan.files_end, 3 * FILE_SIZE);
        if (i == 0)
            flip(w, 0, FIRST + MP_BLOCK_SIZE + 10);
        assert_int_equal(scan(w, 0, true), MEMPHIS_OK);
        assert_int_equal(found(w),
                         i == 0 ? bits(5, 8) : bits(1, 8) & ~bits(hit, hit + 1));
        assert_int_equal(w->scan.files_end, 3 * FILE_SIZE);
        end(w);
    }
}

/* A spare that became this file holds batches of its own LSNs. */
static void a_batch_of_an_earlier_use_does_not_tell_the_epoch(void **state)
{
    struct world *w = begin();

    (void)state;
    put_batches(w, 2);
    put_file(w, FILE_SIZE);
    const uint64_t first = FILE_SIZE + FIRST;
    uint64_t lsn = put_batch(w, (struct batch){ .lsn = first, .index = 5,
                                                .durable = 3 * MP_BLOCK_SIZE,
                                                .records = 2 });
    put_batch(w, (struct batch){ .lsn = lsn + MP_BLOCK_SIZE, .durable = lsn,
                                 .index = 7, .records = 2 });
    w->base = MP_BLOCK_SIZE;  /* written as if of there, then put into its place */
    w->epoch = 77;
    put_batch(w, (struct batch){ .lsn = lsn - FILE_SIZE + MP_BLOCK_SIZE, .index = 33,
                                 .records = 2 });
    uint8_t block[MP_BLOCK_SIZE];
    char name[MP_WAL_NAME_SIZE];
    struct mp_file *f;
    size_t got;
    mp_wal_name(w->base, name);
    w->env->file_open(w->env, name, MP_FILE_READ, &f, NULL);
    w->env->file_read(w->env, f, lsn - FILE_SIZE, block, sizeof block, &got, NULL);
    w->env->file_close(w->env, f);
    assert_int_equal(w->env->unlink(w->env, name, NULL), MEMPHIS_OK);
    w->base = FILE_SIZE;
    put_bytes(w, lsn - FILE_SIZE, block, got);
    flip(w, FILE_SIZE, 17);
    flip(w, FILE_SIZE, FIRST + 10);
    assert_int_equal(scan(w, 0, true), MEMPHIS_OK);
    assert_int_equal(found(w), bits(1, 8));
    end(w);
}

static void a_newer_release_is_told_apart_from_damage(void **state)
{
    struct world *w = begin();
    uint8_t block[MP_BLOCK_SIZE];
    struct mp_wal_header h = { .epoch = 5, .base = FILE_SIZE, .size = FILE_SIZE };

    (void)state;
    uint64_t lsn = put_batches(w, 1);
    put_batch(w, (struct batch){ .lsn = lsn, .durable = lsn, .index = 3, .records = 1,
                                 .kind = MP_RECORD_TRUNCATE });
    assert_int_equal(scan(w, 0, true), MEMPHIS_VERSION);
    assert_non_null(strstr(w->err.message, "kind 3"));

    put_batches(w, 1);
    put_file(w, FILE_SIZE);
    mp_wal_header_encode(&h, block);
    mp_set_u16(block + 10, MP_FORMAT_VERSION + 1);
    mp_set_u32(block + 4, mp_block_crc(block, sizeof block));
    put_bytes(w, 0, block, sizeof block);
    assert_int_equal(scan(w, 0, false), MEMPHIS_VERSION);
    assert_int_equal(scan(w, 0, true), MEMPHIS_VERSION);
    end(w);
}

/* -- accepted loss ----------------------------------------------------------------- */

static void set_byte(struct world *w, uint64_t offset, uint8_t value, size_t sealed)
{
    uint8_t block[MP_BLOCK_SIZE];
    char name[MP_WAL_NAME_SIZE];
    struct mp_file *f;
    size_t got;

    mp_wal_name(w->base, name);
    w->env->file_open(w->env, name, MP_FILE_READ, &f, NULL);
    w->env->file_read(w->env, f, offset & ~(uint64_t)(MP_BLOCK_SIZE - 1), block,
                      sizeof block, &got, NULL);
    w->env->file_close(w->env, f);
    block[offset % MP_BLOCK_SIZE] = value;
    mp_set_u32(block + 4, mp_block_crc(block, sealed));
    put_bytes(w, offset & ~(uint64_t)(MP_BLOCK_SIZE - 1), block, sizeof block);
}

static void refused_as_newer(struct world *w, const char *what)
{
    for (int accept_loss = 0; accept_loss < 2; accept_loss++) {
        assert_int_equal(scan(w, 0, accept_loss), MEMPHIS_VERSION);
        if (strstr(w->err.message, what) == NULL)
            fail_msg("'%s' does not say '%s'", w->err.message, what);
    }
}

static void parts_of_a_newer_release_are_refused_whatever_is_accepted(void **state)
{
    struct world *w = begin();

    (void)state;
    uint64_t lsn = put_batches(w, 2);
    put_batch(w, (struct batch){ .lsn = lsn, .index = 5, .records = 1, .flags = 4 });
    refused_as_newer(w, "flags 4");
    put_batches(w, 2);
    put_batch(w, (struct batch){ .lsn = lsn, .index = 5, .records = 1,
                                 .raft_more = 1 });
    refused_as_newer(w, "type 2");
    put_batches(w, 3);
    set_byte(w, lsn + 3, '2', MP_BATCH_HEADER_SIZE);
    refused_as_newer(w, "newer release");
    put_batches(w, 3);
    set_byte(w, 3, '2', MP_BLOCK_SIZE);
    refused_as_newer(w, "newer release");
    end(w);
}

/* Not only in batches that are whole. */
static void a_newer_record_in_what_is_salvaged_is_refused(void **state)
{
    struct world *w = begin();

    (void)state;
    uint64_t lsn = put_batches(w, 1);
    uint64_t next = put_batch(w, (struct batch){ .lsn = lsn, .durable = lsn, .index = 3,
                                                 .records = 2, .kind = 9 });
    put_batch(w, (struct batch){ .lsn = next, .durable = next, .index = 5,
                                 .records = 1 });
    flip(w, 0, lsn + 20); /* the header of the batch, so that only records are left */
    assert_int_equal(scan(w, 0, false), MEMPHIS_CORRUPT);
    assert_int_equal(scan(w, 0, true), MEMPHIS_VERSION);
    assert_non_null(strstr(w->err.message, "kind 9"));
    end(w);
}

static void accepted_loss_keeps_every_record_that_is_whole(void **state)
{
    struct world *w = begin();

    (void)state;
    put_file(w, 0);
    uint64_t lsn = put_batch(w, (struct batch){ .lsn = FIRST, .durable = FIRST,
                                                .index = 1, .records = 3 });
    put_batch(w, (struct batch){ .lsn = lsn, .durable = lsn, .index = 4,
                                 .records = 1 });
    /* Record 2: behind the batch header, the heads and record 1. */
    flip(w, 0, FIRST + 64 + 72 + 48 + (72 + BODY) + 72 + 5);
    assert_int_equal(scan(w, 0, false), MEMPHIS_CORRUPT);
    assert_int_equal(scan(w, 0, true), MEMPHIS_OK);
    assert_int_equal(found(w), bits(1, 1) | bits(3, 4));
    assert_int_equal(w->scan.lost_count, 1);
    assert_int_equal(w->scan.lost[0].from, FIRST);
    assert_int_equal(w->scan.lost[0].to, lsn);
    end(w);
}

static void accepted_loss_of_nothing_is_no_loss(void **state)
{
    struct world *w = begin();

    (void)state;
    put_batches(w, 3);
    assert_int_equal(scan(w, 0, true), MEMPHIS_OK);
    assert_int_equal(w->scan.lost_count, 0);
    assert_int_equal(found(w), bits(1, 6));
    end(w);
}

/* Batches 1 and 2 are whole; 3 and 4 torn, 5 and 6 good behind them, as without syncs;
 * the start that settles them goes on with another 3. Returns the LSN of the torn one.
 */
static uint64_t put_settled_tail(struct world *w)
{
    uint64_t torn = put_batches(w, 1);
    uint64_t next = put_batch(w, (struct batch){ .lsn = torn, .durable = torn,
                                                 .index = 3, .records = 2 });

    put_batch(w, (struct batch){ .lsn = next, .durable = torn, .index = 5,
                                 .records = 2 });
    flip(w, 0, torn + 20); /* the batch, and none of its records */
    put_file(w, FILE_SIZE);
    uint64_t lsn = put_batch(w, (struct batch){
        .lsn = FILE_SIZE + FIRST, .durable = torn, .index = 3,
        .settled = { torn, FILE_SIZE } });
    for (uint64_t index = 3; index < 5; index++)
        lsn = put_batch(w, (struct batch){ .lsn = lsn, .durable = lsn, .index = index,
                                           .records = 1 });
    return torn;
}

static void a_torn_tail_does_not_come_back_with_its_settlement_lost(void **state)
{
    struct world *w = begin();

    (void)state;
    uint64_t torn = put_settled_tail(w);
    assert_int_equal(scan(w, 0, false), MEMPHIS_OK);
    assert_int_equal(found(w), bits(1, 4));
    flip(w, FILE_SIZE, FIRST + 20);
    assert_int_equal(scan(w, 0, false), MEMPHIS_CORRUPT);
    assert_int_equal(scan(w, 0, true), MEMPHIS_OK);
    assert_int_equal(found(w), bits(1, 4));
    assert_int_equal(w->scan.records[2].file, 1);
    assert_int_equal(w->scan.records[3].file, 1);

    /* The start that has accepted that settles what it could not read, no more. */
    put_file(w, 2 * FILE_SIZE);
    put_batch(w, (struct batch){ .lsn = 2 * FILE_SIZE + FIRST,
                                 .durable = FILE_SIZE + FIRST + 3 * MP_BLOCK_SIZE,
                                 .index = 5, .records = 1,
                                 .settled = { torn, torn + MP_BLOCK_SIZE } });
    put_batch(w, (struct batch){
        .lsn = 2 * FILE_SIZE + FIRST + MP_BLOCK_SIZE,
        .durable = 2 * FILE_SIZE + FIRST, .index = 6,
        .settled = { torn + 2 * MP_BLOCK_SIZE, FILE_SIZE + FIRST + MP_BLOCK_SIZE } });
    assert_int_equal(scan(w, 0, false), MEMPHIS_OK);
    assert_int_equal(found(w), bits(1, 5));
    assert_int_equal(w->scan.records[4].file, 2);
    end(w);
}

/* No record of the shard came later: the heads say that it had none. */
static void heads_tell_where_a_log_ended(void **state)
{
    struct world *w = begin();

    (void)state;
    for (uint64_t last = 2; last < 5; last++) {
        uint64_t torn = put_settled_tail(w);
        put_batch(w, (struct batch){ .lsn = FILE_SIZE + FIRST + 3 * MP_BLOCK_SIZE,
                                     .durable = FILE_SIZE + FIRST + 3 * MP_BLOCK_SIZE,
                                     .index = last + 1, .shard = 1 });
        w->base = 0; /* what is torn is of another shard */
        w->epoch = 1001;
        put_batch(w, (struct batch){ .lsn = torn, .index = 3, .records = 2,
                                     .shard = 1 });
        flip(w, 0, torn + 20);
        flip(w, FILE_SIZE, FIRST + 20);
        assert_int_equal(scan(w, 0, true), MEMPHIS_OK);
        assert_int_equal(w->scan.records_count, 4 + last - 2);
    }
    end(w);
}

/* Behind higher indexes, in two closing batches: nothing goes, nothing comes twice. */
static void copies_take_the_place_of_what_they_repeat(void **state)
{
    struct world *w = begin();

    (void)state;
    uint64_t lsn = put_batches(w, 3);
    const struct mp_lsn_range lost = { FIRST + MP_BLOCK_SIZE, lsn - MP_BLOCK_SIZE };
    flip(w, 0, lost.from + 300);
    for (uint64_t i = 1; i < 3; i++) {
        put_file(w, i * FILE_SIZE);
        lsn = put_batch(w, (struct batch){
            .lsn = i * FILE_SIZE + FIRST, .durable = lsn, .index = 3, .records = 2,
            .last = 5 + i, .flags = MP_RECORD_COPY, .settled = lost });
        lsn = put_batch(w, (struct batch){ .lsn = lsn, .durable = lsn, .index = 6 + i,
                                           .records = 1 });
    }
    assert_int_equal(scan(w, 0, false), MEMPHIS_OK);
    assert_int_equal(found(w), bits(1, 8));
    assert_int_equal(w->scan.records[2].file, 2);
    assert_int_equal(w->scan.records[4].file, 0);
    end(w);
}

/* -- every byte, every error ------------------------------------------------------- */

static void a_flip_anywhere_never_gives_a_different_record(void **state)
{
    struct world *w = begin();

    (void)state;
    put_batches(w, 3); /* 1 to 4 are covered; 5 and 6 are in the last batch */
    for (uint64_t at = 0; at < 4 * MP_BLOCK_SIZE; at++) {
        flip(w, 0, at);
        memphis_status s = scan(w, 0, false);
        if (s == MEMPHIS_OK)
            assert_true(found(w) == bits(1, 6) || found(w) == bits(1, 4));
        else
            assert_true(s == MEMPHIS_CORRUPT || s == MEMPHIS_VERSION);
        if (scan(w, 0, true) == MEMPHIS_OK) {
            uint64_t missing = bits(1, 6) & ~found(w);
            /* At most the batch that was hit, and of it at most one record. */
            if (at < MP_BLOCK_SIZE)
                assert_true(missing == 0);
            else if (at < 3 * MP_BLOCK_SIZE)
                assert_true((missing & (missing - 1)) == 0);
            else
                assert_true(missing == 0 || missing == bits(5, 6));
        }
        flip(w, 0, at);
    }
    assert_int_equal(scan(w, 0, false), MEMPHIS_OK);
    assert_int_equal(found(w), bits(1, 6));
    end(w);
}

static void a_read_error_refuses_the_start(void **state)
{
    struct world *w = begin();
    memphis_status s = MEMPHIS_IO;

    (void)state;
    three_files(w);
    for (uint64_t n = 1; s != MEMPHIS_OK; n++) {
        assert_true(n < 100);
        mp_disk_fail(w->disk, MP_DISK_READ, n, MEMPHIS_IO, false);
        s = scan(w, 0, n % 2 == 0);
        assert_true(s == MEMPHIS_OK || s == MEMPHIS_IO);
        if (s == MEMPHIS_IO)
            assert_non_null(strstr(w->err.message, "wal/"));
        mp_disk_heal(w->disk);
    }
    assert_int_equal(found(w), bits(1, 8));
    end(w);
}

/* -- blocks that the disk does not give back -- */

static struct {
    memphis_status (*file_read)(struct mp_env *e, struct mp_file *f, uint64_t offset,
                                void *out, size_t size, size_t *got,
                                memphis_error *err);
    uint64_t block; /* of each file; UINT64_MAX: none */
} bad_disk;

static memphis_status read_bad(struct mp_env *e, struct mp_file *f, uint64_t offset,
                               void *out, size_t size, size_t *got, memphis_error *err)
{
    uint64_t at = bad_disk.block * MP_BLOCK_SIZE;

    if (offset < at + MP_BLOCK_SIZE && offset + size > at) {
        *got = 0;
        return mp_fail(err, MEMPHIS_IO, "a bad sector in 'wal/'");
    }
    return bad_disk.file_read(e, f, offset, out, size, got, err);
}

/* One bad sector per file: what is around it is kept. */
static void a_block_that_cannot_be_read_costs_itself(void **state)
{
    (void)state;

    for (bad_disk.block = 0; bad_disk.block < 6; bad_disk.block++) {
        struct world *w = begin();
        uint64_t tail = put_batches(w, 3);
        bad_disk.file_read = w->env->file_read;
        w->env->file_read = read_bad;
        assert_int_equal(scan(w, tail, false), MEMPHIS_IO);
        assert_non_null(strstr(w->err.message, "wal/"));
        assert_non_null(strstr(w->err.message, "--accept-loss"));
        assert_int_equal(scan(w, tail, true), MEMPHIS_OK);
        uint64_t b = bad_disk.block, hit = 0;
        if (b >= 1 && b <= 3)
            hit = bits(2 * b - 1, 2 * b);
        assert_int_equal(found(w), b == 0 ? bits(1, 6) : bits(1, 6) & ~hit);
        assert_true(w->scan.lost_count >= 1);
        assert_int_equal(w->scan.lost[0].from, b * MP_BLOCK_SIZE);
        assert_int_equal(w->scan.lost[0].to, (b + 1) * MP_BLOCK_SIZE);

        w->env->file_read = bad_disk.file_read;
        end(w);
    }
}

static void a_record_that_changed_since_the_scan_is_corrupt(void **state)
{
    struct world *w = begin();
    struct mp_group_header h;
    memphis_slice body;

    (void)state;
    put_batches(w, 2);
    assert_int_equal(scan(w, 0, false), MEMPHIS_OK);
    flip(w, 0, w->scan.records[0].lsn + 20);
    w->scan.window_file = UINT32_MAX; /* it is read from the disk again */
    assert_int_equal(mp_scan_read(&w->scan, &w->scan.records[0], &h, &body, &w->err),
                     MEMPHIS_CORRUPT);
    end(w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        leak_checked(a_log_without_files_is_damage),
        leak_checked(good_batches_give_records_heads_and_clock),
        leak_checked(the_unused_rest_of_a_file_is_no_bad_batch),
        leak_checked(a_torn_last_batch_is_dropped_and_its_bytes_counted),
        leak_checked(a_bad_batch_below_d_is_damage_and_its_place_is_named),
        leak_checked(what_a_slot_knows_to_be_durable_may_not_be_missing),
        leak_checked(a_good_batch_behind_a_bad_one_tells_by_its_durable_upto),
        leak_checked(a_batch_that_does_not_continue_the_chain_is_not_taken),
        leak_checked(batches_of_an_earlier_use_of_the_file_are_not_seen),
        leak_checked(settled_ranges_are_skipped_and_read_from_the_copies),
        leak_checked(what_is_settled_may_be_the_first_batch_of_a_file),
        leak_checked(a_good_batch_behind_a_torn_one_stays_settled),
        leak_checked(records_in_another_order_make_a_batch_bad),
        leak_checked(a_file_missing_in_the_middle_is_damage),
        leak_checked(the_oldest_files_may_be_gone_when_node_says_so),
        leak_checked(a_file_of_the_wrong_size_or_name_is_damage),
        leak_checked(a_damaged_header_costs_nothing_but_itself),
        leak_checked(a_batch_of_an_earlier_use_does_not_tell_the_epoch),
        leak_checked(a_newer_release_is_told_apart_from_damage),
        leak_checked(parts_of_a_newer_release_are_refused_whatever_is_accepted),
        leak_checked(a_newer_record_in_what_is_salvaged_is_refused),
        leak_checked(accepted_loss_keeps_every_record_that_is_whole),
        leak_checked(accepted_loss_of_nothing_is_no_loss),
        leak_checked(a_torn_tail_does_not_come_back_with_its_settlement_lost),
        leak_checked(heads_tell_where_a_log_ended),
        leak_checked(copies_take_the_place_of_what_they_repeat),
        leak_checked(a_flip_anywhere_never_gives_a_different_record),
        leak_checked(a_read_error_refuses_the_start),
        leak_checked(a_block_that_cannot_be_read_costs_itself),
        leak_checked(a_record_that_changed_since_the_scan_is_corrupt),
    };

    return run_tests("store/scan", tests);
}
