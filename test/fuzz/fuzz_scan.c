/* Fuzz target: the scan of the write-ahead log (store/scan.c).
 *
 * The input is a script that writes WAL files: good files, batches and records with
 * right checksums whose numbers are the script's, then holes and flipped bytes.
 * Whatever stands there, a scan ends with a verdict, reads inside the files, and:
 *
 *   strict OK        accepting loss changes nothing
 *   each record      can be read again and is what the scan says */
#include "fuzz/fuzz.h"

#include "base/enc.h"
#include "base/mem.h"
#include "env/env_mem.h"
#include "store/scan.h"
#include "store/wal.h"

enum { FILES_MAX = 4, BLOCKS_MAX = 8, STEPS_MAX = 64, RECORDS_MAX = 8 };

enum step { FILE_NEW, BATCH, HOLE, FLIP, CUT, STEPS };

struct image {
    struct mp_wal_header header;
    uint8_t bytes[BLOCKS_MAX * MP_BLOCK_SIZE];
    size_t at, end; /* where the next batch goes; what is written of the file */
    uint32_t crc;   /* of the batch before */
};

static struct image files[FILES_MAX];
static uint32_t files_count;
static struct mp_lsn_range bodies[STEPS_MAX]; /* of the batches that were written */
static uint32_t bodies_count;

/* -- the script -------------------------------------------------------------------- */

/* Small numbers mostly, so that they meet each other. */
static uint64_t number(struct mp_cursor *c, uint64_t near)
{
    uint8_t how = mp_cursor_u8(c);

    if (how < 160)
        return near;
    if (how < 240)
        return near + (uint64_t)(how - 200) * MP_BLOCK_SIZE;
    return mp_cursor_u64(c);
}

static void file_new(struct mp_cursor *c)
{
    uint8_t gap = mp_cursor_u8(c), blocks = mp_cursor_u8(c);
    uint64_t base = 0;

    if (files_count == FILES_MAX)
        return;
    if (files_count > 0) {
        const struct mp_wal_header *h = &files[files_count - 1].header;
        base =
            h->base + h->size + (gap > 200 ? (uint64_t)(gap - 200) : 0) * MP_BLOCK_SIZE;
    }
    struct image *f = &files[files_count++];
    memset(f, 0, sizeof *f);
    f->header = (struct mp_wal_header){ .epoch = 7 + gap % 3,
                                        .base = base,
                                        .base_before = number(c, 0) };
    f->header.size = (uint64_t)(2 + blocks % (BLOCKS_MAX - 1)) * MP_BLOCK_SIZE;
    f->end = (size_t)f->header.size;
    f->at = MP_BLOCK_SIZE;
    mp_wal_header_encode(&f->header, f->bytes);
}

/* The body of a record: heads, pairs of LSNs, or bytes. */
static void put_body(struct mp_cursor *c, uint8_t kind, uint64_t lsn, struct mp_buf *b)
{
    uint8_t n = mp_cursor_u8(c) % 5;

    for (; n > 0; n--) {
        if (kind == MP_RECORD_HEADS) {
            uint8_t head[MP_HEAD_SIZE];
            mp_head_encode(&(struct mp_head){ .shard = n, .commit = mp_cursor_u8(c) },
                           head);
            mp_buf_put(b, head, sizeof head);
        } else if (kind == MP_RECORD_SETTLED) {
            mp_buf_put_u64(b, number(c, lsn - MP_BLOCK_SIZE));
            mp_buf_put_u64(b, number(c, lsn));
        } else {
            mp_buf_put_u64(b, mp_cursor_u8(c));
        }
    }
}

static void put_record(struct mp_cursor *c, bool first, uint64_t epoch, uint64_t lsn,
                       struct mp_buf *out, uint32_t *crc)
{
    static const uint8_t kinds[] = { MP_RECORD_ENTRY,   MP_RECORD_ENTRY,
                                     MP_RECORD_ENTRY,   MP_RECORD_SETTLED,
                                     MP_RECORD_SETTLED, MP_RECORD_BASE,
                                     MP_RECORD_HEADS,   9 };
    uint8_t header[MP_GROUP_HEADER_SIZE], how = mp_cursor_u8(c);
    struct mp_buf body = { 0 };
    struct mp_group_header h = { .kind = first && how < 250 ? MP_RECORD_HEADS
                                                            : kinds[how % 8],
                                 .raft_type = MP_RAFT_NORMAL,
                                 .shard = 1 + (how >> 3) % 2,
                                 .flags = how > 220 ? MP_RECORD_COPY : 0,
                                 .index = mp_cursor_u8(c) };

    put_body(c, h.kind, lsn, &body);
    size_t size = body.size;
    if (how % 32 == 16) { /* a record that ends behind its batch, in the padding */
        size_t more = mp_cursor_u8(c) % 16 * (size_t)8;
        memset(mp_buf_add(&body, more + 1), 0, more + 1);
        body.size--;
    }
    h.length = (uint32_t)(MP_GROUP_HEADER_SIZE + body.size);
    h.body_crc = mp_crc32c(0, body.data, body.size);
    mp_group_header_encode(&h, epoch, header);
    *crc = mp_crc32c(*crc, header, sizeof header);
    mp_buf_put(out, header, sizeof header);
    mp_buf_put(out, body.data, size);
    mp_buf_fini(&body);
}

static void batch(struct mp_cursor *c, struct image *f)
{
    uint8_t count = 1 + mp_cursor_u8(c) % RECORDS_MAX;
    uint64_t lsn = f->header.base + f->at;
    struct mp_batch_header h = {
        .epoch = f->header.epoch, .lsn = lsn, .wall_ns = 1, .records = count
    };
    struct mp_buf body = { 0 };

    for (uint8_t i = 0; i < count; i++)
        put_record(c, i == 0, h.epoch, lsn, &body, &h.records_crc);
    h.durable_upto = number(c, lsn);
    h.chain = mp_cursor_u8(c) < 240 ? f->crc : 1;
    h.broker_ns = mp_cursor_u8(c);
    h.body_size = (uint32_t)body.size;
    size_t total = (size_t)mp_block_up(MP_BATCH_HEADER_SIZE + body.size);
    if (f->at + total <= f->end) {
        mp_batch_header_encode(&h, f->bytes + f->at);
        memcpy(f->bytes + f->at + MP_BATCH_HEADER_SIZE, body.data, body.size);
        f->crc = h.crc;
        lsn += MP_BATCH_HEADER_SIZE;
        bodies[bodies_count++] = (struct mp_lsn_range){ lsn, lsn + body.size };
        f->at += total;
    }
    mp_buf_fini(&body);
}

static void write_images(memphis_slice script)
{
    struct mp_cursor c = mp_cursor_of(script);

    files_count = bodies_count = 0;
    for (int i = 0; i < STEPS_MAX && mp_cursor_left(&c) > 0; i++) {
        enum step what = mp_cursor_u8(&c) % STEPS;
        struct image *f = files_count > 0 ? &files[files_count - 1] : NULL;

        if (f == NULL || what == FILE_NEW) {
            file_new(&c);
        } else if (what == BATCH) {
            batch(&c, f);
        } else if (what == HOLE) {
            f->at += f->at + MP_BLOCK_SIZE < f->end ? MP_BLOCK_SIZE : 0;
        } else if (what == FLIP) {
            size_t at = mp_cursor_u16(&c) % f->end;
            f->bytes[at] ^= mp_cursor_u8(&c);
        } else if (mp_cursor_u8(&c) > 230) {
            f->end =
                1 + mp_cursor_u16(&c) % f->end; /* the file is shorter than it says */
            f->at = f->at > f->end ? f->end : f->at;
        }
    }
}

static void write_files(struct mp_env *e)
{
    memphis_error err;
    struct mp_file *file;
    char name[MP_WAL_NAME_SIZE];

    check(e->mkdir(e, "wal", &err) == MEMPHIS_OK, "no folder");
    for (uint32_t i = 0; i < files_count; i++) {
        memphis_slice bytes = { files[i].bytes, files[i].end };
        mp_wal_name(files[i].header.base, name);
        check(e->file_open(e, name, MP_FILE_WRITE | MP_FILE_CREATE, &file, &err) ==
                      MEMPHIS_OK &&
                  e->file_write(e, file, 0, &bytes, 1, &err) == MEMPHIS_OK,
              "a file cannot be written");
        e->file_close(e, file);
    }
}

/* -- the scan ---------------------------------------------------------------------- */

static bool is_in_a_batch(const struct mp_scan_record *r)
{
    for (uint32_t i = 0; i < bodies_count; i++)
        if (r->lsn >= bodies[i].from && r->lsn + r->size <= bodies[i].to)
            return true;
    return false;
}

static void check_records(struct mp_scan *s)
{
    struct mp_group_header h;
    memphis_slice body;
    memphis_error err;

    for (size_t i = 0; i < s->records_count; i++) {
        const struct mp_scan_record *r = &s->records[i];
        check(mp_scan_read(s, r, &h, &body, &err) == MEMPHIS_OK,
              "a kept record cannot be read");
        check(h.index == r->index && h.shard == r->shard && h.length == r->size &&
                  body.size == r->size - MP_GROUP_HEADER_SIZE,
              "a record is not what the scan says");
        check_inside(body, mp_buf_slice(&s->window));
        /* in what is lost whole records are looked for, not batches */
        check(s->lost_count > 0 || is_in_a_batch(r), "a record ends behind its batch");
    }
    check(s->heads_count <= 32, "too many heads");
    for (uint32_t i = 0; i < s->lost_count; i++)
        check(s->lost[i].from <= s->lost[i].to, "a lost range ends before it begins");
}

static bool is_verdict(memphis_status st)
{
    return st == MEMPHIS_OK || st == MEMPHIS_CORRUPT || st == MEMPHIS_VERSION;
}

static void scan(struct mp_env *e, uint64_t durable)
{
    struct mp_scan strict, loose;
    memphis_error err;
    memphis_status first = mp_scan_run(&strict, e, durable, 0, false, &err);
    memphis_status second = mp_scan_run(&loose, e, durable, 0, true, &err);

    check(is_verdict(first) && is_verdict(second), "no verdict");
    if (first == MEMPHIS_OK) {
        check(second == MEMPHIS_OK && loose.lost_count == 0,
              "a clean log has a loss to accept");
        check(strict.end == loose.end && strict.records_count == loose.records_count,
              "accepting loss changes a clean log");
        check_records(&strict);
    }
    if (second == MEMPHIS_OK)
        check_records(&loose);
    else
        check(first != MEMPHIS_OK, "accepting loss refuses a good log");
    mp_scan_fini(&strict);
    mp_scan_fini(&loose);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct mp_disk *disk = mp_disk_new(1);
    struct mp_env *e = mp_env_mem_open(disk, mp_heap_current());
    uint64_t durable =
        size > 1 && data[0] > 200 ? (uint64_t)data[1] * MP_BLOCK_SIZE : 0;
    size_t head = size > 1 ? 2 : size;

    write_images(mp_slice(data + head, size - head));
    write_files(e);
    scan(e, durable);
    e->close(e);
    mp_disk_free(disk);
    check(mp_heap_current()->live_blocks == 0, "memory is left");
    return 0;
}

/* -- seeds ------------------------------------------------------------------------- */

/* BATCH: two records (heads, entry); durable as expected; chain; time. */
#define TWO(index) 1, 1, 0, 0, 1, 0, 8, index, 1, 5, 0, 0, index
/* BATCH: heads and a settled pair around the block before. */
#define SETTLED 1, 1, 0, 0, 1, 0, 3, 0, 1, 0, 0, 0, 0, 9
#define NEW_FILE 0, 0, 3, 0
/* BATCH: heads, and an entry whose length is 16 more than the batch has. */
#define LONG(index) 1, 1, 0, 0, 1, 0, 16, index, 1, 5, 2, 0, 0, index

static const uint8_t two_files[] = { 0,      0,        NEW_FILE, TWO(1), TWO(2),
                                     TWO(3), NEW_FILE, TWO(4),   TWO(5) };
static const uint8_t hole[] = { 0, 0, NEW_FILE, TWO(1), 2, TWO(2), TWO(3) };
static const uint8_t settled[] = { 0,      0,        NEW_FILE, TWO(1), 2,
                                   TWO(2), NEW_FILE, SETTLED,  TWO(3) };
static const uint8_t flipped[] = {
    0, 0, NEW_FILE, TWO(1), TWO(2), 3, 70, 16, 1, TWO(3)
};
static const uint8_t too_long[] = { 0, 0, NEW_FILE, TWO(1), LONG(2), TWO(3) };
static const uint8_t slots[] = { 255, 9, NEW_FILE, TWO(1), TWO(2), 4, 255, 0, 64 };

size_t fuzz_seed(size_t i, uint8_t out[FUZZ_SEED_MAX])
{
    static const struct {
        const uint8_t *bytes;
        size_t size;
    } all[] = { { two_files, sizeof two_files }, { hole, sizeof hole },
                { settled, sizeof settled },     { flipped, sizeof flipped },
                { slots, sizeof slots },         { too_long, sizeof too_long } };

    if (i >= sizeof all / sizeof all[0])
        return 0;
    memcpy(out, all[i].bytes, all[i].size);
    return all[i].size;
}
