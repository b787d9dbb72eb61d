/* What a scan keeps of a damaged log when the loss is accepted, and of a bad disk. */
#include "unit/store/scan_world.h"

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

/* What came behind the damage must be of that shard, or its end may be lost. */
static void each_shard_is_whole_by_its_own_records(void **state)
{
    struct world *w = begin();

    (void)state;
    uint64_t lsn = put_batches(w, 2);
    assert_int_equal(scan(w, 0, true), MEMPHIS_OK);
    assert_int_equal(mp_scan_whole_from(&w->scan, 2), 0);
    assert_int_equal(mp_scan_whole_from(&w->scan, 1), 4);
    flip(w, 0, FIRST + MP_BLOCK_SIZE + 64 + 72 + 48 + 72 + 5); /* record 3 */
    lsn = put_batch(w, (struct batch){ .lsn = lsn, .durable = lsn, .index = 1,
                                       .records = 1, .shard = 1 });
    assert_int_equal(scan(w, 0, true), MEMPHIS_OK);
    assert_int_equal(w->scan.records_count, 4);
    assert_int_equal(mp_scan_whole_from(&w->scan, 2), 4);
    assert_int_equal(mp_scan_whole_from(&w->scan, 1), 3);
    put_batch(w, (struct batch){ .lsn = lsn, .durable = lsn, .index = 5,
                                 .records = 1 });
    assert_int_equal(scan(w, 0, true), MEMPHIS_OK);
    assert_int_equal(w->scan.records[2].index, 4);
    assert_int_equal(mp_scan_whole_from(&w->scan, 2), 2);
    end(w);
}

/* A copy stands behind damage in which what came later may have been. */
static void a_copy_does_not_make_a_log_whole(void **state)
{
    struct world *w = begin();

    (void)state;
    uint64_t lsn = put_batches(w, 3);
    const struct mp_lsn_range lost = { FIRST + MP_BLOCK_SIZE, lsn - MP_BLOCK_SIZE };
    flip(w, 0, lost.from + 20);
    put_file(w, FILE_SIZE);
    put_batch(w, (struct batch){ .lsn = FILE_SIZE + FIRST, .durable = lsn, .index = 3,
                                 .records = 2, .last = 6, .flags = MP_RECORD_COPY,
                                 .settled = lost });
    assert_int_equal(scan(w, 0, true), MEMPHIS_OK);
    assert_int_equal(mp_scan_whole_from(&w->scan, 2), 0);
    for (uint32_t i = 0; i < 2; i++) /* both records of the last batch */
        flip(w, 0, lost.to + 64 + 72 + 48 + 72 + i * (72 + BODY) + 5);
    assert_int_equal(scan(w, 0, true), MEMPHIS_OK);
    assert_int_equal(found(w), bits(1, 4));
    assert_int_equal(mp_scan_whole_from(&w->scan, 2), w->scan.records_count);
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

struct spoiler {
    struct world *w;
    uint64_t block;
};

static void spoil(void *ctx, const char *name, uint64_t size)
{
    const struct spoiler *x = ctx;
    uint64_t at = x->block * MP_BLOCK_SIZE;

    (void)size;
    if (strncmp(name, "wal/0", 5) == 0)
        assert_true(mp_disk_spoil(x->w->disk, name, at, at + MP_BLOCK_SIZE));
}

/* One bad sector per file: what is around it is kept. */
static void a_block_that_cannot_be_read_costs_itself(void **state)
{
    (void)state;

    for (uint64_t b = 0; b < 6; b++) {
        struct world *w = begin();
        uint64_t tail = put_batches(w, 3), hit = 0;
        struct spoiler spoiler = { w, b };
        mp_disk_each(w->disk, spoil, &spoiler);
        assert_int_equal(scan(w, tail, false), MEMPHIS_IO);
        assert_non_null(strstr(w->err.message, "wal/"));
        assert_non_null(strstr(w->err.message, "--accept-loss"));
        assert_int_equal(scan(w, tail, true), MEMPHIS_OK);
        if (b >= 1 && b <= 3)
            hit = bits(2 * b - 1, 2 * b);
        assert_int_equal(found(w), b == 0 ? bits(1, 6) : bits(1, 6) & ~hit);
        assert_true(w->scan.lost_count >= 1);
        assert_int_equal(w->scan.lost[0].from, b * MP_BLOCK_SIZE);
        assert_int_equal(w->scan.lost[0].to, (b + 1) * MP_BLOCK_SIZE);
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
        leak_checked(parts_of_a_newer_release_are_refused_whatever_is_accepted),
        leak_checked(a_newer_record_in_what_is_salvaged_is_refused),
        leak_checked(accepted_loss_keeps_every_record_that_is_whole),
        leak_checked(accepted_loss_of_nothing_is_no_loss),
        leak_checked(a_torn_tail_does_not_come_back_with_its_settlement_lost),
        leak_checked(heads_tell_where_a_log_ended),
        leak_checked(copies_take_the_place_of_what_they_repeat),
        leak_checked(each_shard_is_whole_by_its_own_records),
        leak_checked(a_copy_does_not_make_a_log_whole),
        leak_checked(a_flip_anywhere_never_gives_a_different_record),
        leak_checked(a_read_error_refuses_the_start),
        leak_checked(a_block_that_cannot_be_read_costs_itself),
        leak_checked(a_record_that_changed_since_the_scan_is_corrupt),
    };

    return run_tests("store/scan_loss", tests);
}
