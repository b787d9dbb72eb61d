#include "unit/store/scan_world.h"

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
    };

    return run_tests("store/scan", tests);
}
