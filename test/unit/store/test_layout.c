#include "support/test.h"

#include "base/enc.h"
#include "base/str.h"
#include "store/layout.h"

/* Every byte of a checksummed block counts: after a flip anywhere it is not valid. */
#define assert_flips_noticed(block, size, valid)                                       \
    for (size_t at = 0; at < (size); at++) {                                           \
        (block)[at] ^= 0x10;                                                           \
        assert_false(valid);                                                           \
        (block)[at] ^= 0x10;                                                           \
    }                                                                                  \
    assert_true(valid)

static void a_wal_file_header_reads_back_and_notices_every_flip(void **state)
{
    struct mp_wal_header h = {
        .epoch = 0x1122334455667788, .base = 1 << 20, .size = 2 << 20, .base_before = 0
    };
    struct mp_wal_header got;
    uint8_t block[MP_BLOCK_SIZE];

    (void)state;
    mp_wal_header_encode(&h, block);
    assert_int_equal(mp_wal_header_decode(mp_slice(block, sizeof block), &got, NULL),
                     MEMPHIS_OK);
    assert_int_equal(got.epoch, h.epoch);
    assert_int_equal(got.base, h.base);
    assert_int_equal(got.size, h.size);
    assert_memory_equal(block, "MWF1", 4);
    assert_flips_noticed(
        block, sizeof block,
        mp_wal_header_decode(mp_slice(block, sizeof block), &got, NULL) == MEMPHIS_OK);
}

static void a_newer_wal_file_is_refused_by_its_version(void **state)
{
    struct mp_wal_header h = { .epoch = 1, .size = 1 << 20 }, got;
    uint8_t block[MP_BLOCK_SIZE];
    memphis_error err = { 0 };

    (void)state;
    mp_wal_header_encode(&h, block);
    mp_set_u16(block + 8, 9);
    mp_set_u16(block + 10, 9);
    mp_set_u32(block + 4, mp_block_crc(block, sizeof block));
    assert_int_equal(mp_wal_header_decode(mp_slice(block, sizeof block), &got, &err),
                     MEMPHIS_VERSION);
    assert_true(err.message[0] != 0);
}

static void a_batch_header_reads_back_and_notices_every_flip(void **state)
{
    struct mp_batch_header h = { .epoch = 5,
                                 .lsn = 8192,
                                 .durable_upto = 4096,
                                 .body_size = 104,
                                 .records = 2,
                                 .records_crc = 77,
                                 .chain = 88,
                                 .wall_ns = 99,
                                 .broker_ns = 111 };
    struct mp_batch_header got;
    uint8_t bytes[MP_BATCH_HEADER_SIZE];

    (void)state;
    mp_batch_header_encode(&h, bytes);
    assert_true(mp_batch_header_decode(mp_slice(bytes, sizeof bytes), &got));
    assert_int_equal(got.lsn, 8192);
    assert_int_equal(got.durable_upto, 4096);
    assert_int_equal(got.chain, 88);
    assert_int_equal(got.broker_ns, 111);
    assert_int_equal(got.crc, h.crc);
    assert_flips_noticed(bytes, sizeof bytes,
                         mp_batch_header_decode(mp_slice(bytes, sizeof bytes), &got));
    assert_false(mp_batch_header_decode(mp_slice(bytes, sizeof bytes - 1), &got));
}

static void a_group_record_of_another_epoch_is_not_valid(void **state)
{
    struct mp_group_header h = { .length = MP_GROUP_HEADER_SIZE + 8,
                                 .shard = 2,
                                 .shard_epoch = 1,
                                 .replica = 2,
                                 .kind = MP_RECORD_ENTRY,
                                 .raft_type = MP_RAFT_NORMAL,
                                 .entries = 1,
                                 .index = 5,
                                 .term = 1,
                                 .commit = 4,
                                 .term_before = 1,
                                 .time_ns = 9 };
    struct mp_group_header got;
    uint8_t bytes[MP_GROUP_HEADER_SIZE];

    (void)state;
    mp_group_header_encode(&h, 1234, bytes);
    assert_true(mp_group_header_decode(mp_slice(bytes, sizeof bytes), 1234, &got));
    assert_int_equal(got.index, 5);
    assert_int_equal(got.entries, 1);
    assert_false(mp_group_header_decode(mp_slice(bytes, sizeof bytes), 1235, &got));
    /* From the checksum on; the length in front is vouched for by the batch's own
     * checksum over its record headers, and by the body's. */
    assert_flips_noticed(
        bytes + 4, sizeof bytes - 4,
        mp_group_header_decode(mp_slice(bytes, sizeof bytes), 1234, &got));
}

static void a_node_slot_reads_back_and_notices_every_flip(void **state)
{
    struct mp_node n = { .generation = 3,
                         .node_id = 1,
                         .boots = 4,
                         .durable_upto = 4096,
                         .flags = MP_NODE_CLEAN,
                         .items_count = 2 };
    struct mp_node got;
    uint8_t block[MP_BLOCK_SIZE];

    (void)state;
    n.items[1] = (struct mp_node_item){ .shard = 2,
                                        .shard_epoch = 1,
                                        .replica = 2,
                                        .vote = 2,
                                        .term = 1,
                                        .base_index = 17,
                                        .base_term = 1 };
    mp_node_encode(&n, block);
    assert_int_equal(mp_node_decode(mp_slice(block, sizeof block), &got, NULL),
                     MEMPHIS_OK);
    assert_int_equal(got.generation, 3);
    assert_int_equal(got.items_count, 2);
    assert_int_equal(got.items[1].base_index, 17);
    assert_flips_noticed(block, sizeof block,
                         mp_node_decode(mp_slice(block, sizeof block), &got, NULL) ==
                             MEMPHIS_OK);
}

static void a_node_slot_with_too_many_items_is_corrupt(void **state)
{
    struct mp_node n = { .generation = 1, .items_count = 1 }, got;
    uint8_t block[MP_BLOCK_SIZE];

    (void)state;
    mp_node_encode(&n, block);
    mp_set_u32(block + 80, MP_NODE_ITEMS_MAX + 1);
    mp_set_u32(block + 4, mp_block_crc(block, sizeof block));
    assert_int_not_equal(mp_node_decode(mp_slice(block, sizeof block), &got, NULL),
                         MEMPHIS_OK);
}

static void reseal(uint8_t block[MP_BLOCK_SIZE])
{
    mp_set_u32(block + 4, mp_block_crc(block, MP_BLOCK_SIZE));
}

/* With a right checksum, and yet nothing that this release writes. */
static void what_no_encoder_writes_is_not_valid(void **state)
{
    struct mp_meta_slot m = { .generation = 1 };
    struct mp_segment_header h = { .first_seq = 1 };
    struct mp_segment_footer f = { .first_seq = 1, .last_seq = 2 };
    uint8_t block[MP_BLOCK_SIZE];
    memphis_slice s = { block, sizeof block };

    (void)state;
    mp_meta_slot_encode(&m, block);
    assert_true(mp_meta_slot_decode(s, &m));
    mp_set_u64(block + 8, 0); /* generation */
    reseal(block);
    assert_false(mp_meta_slot_decode(s, &m));
    mp_segment_header_encode(&h, block);
    assert_int_equal(mp_segment_header_decode(s, &h), MEMPHIS_OK);
    mp_set_u64(block + 16, 0); /* first sequence */
    reseal(block);
    assert_int_equal(mp_segment_header_decode(s, &h), MEMPHIS_CORRUPT);
    mp_segment_footer_encode(&f, block);
    assert_true(mp_segment_footer_decode(s, &f));
    mp_set_u64(block + 8, 3); /* first sequence, behind the last */
    reseal(block);
    assert_false(mp_segment_footer_decode(s, &f));
}

static void heads_read_back(void **state)
{
    struct mp_head h = { 1, 2, 3, 4, 5, 6, 7, 8 }, got;
    uint8_t bytes[MP_HEAD_SIZE];

    (void)state;
    mp_head_encode(&h, bytes);
    mp_head_decode(bytes, &got);
    assert_memory_equal(&h, &got, sizeof h);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        leak_checked(a_wal_file_header_reads_back_and_notices_every_flip),
        leak_checked(a_newer_wal_file_is_refused_by_its_version),
        leak_checked(a_batch_header_reads_back_and_notices_every_flip),
        leak_checked(a_group_record_of_another_epoch_is_not_valid),
        leak_checked(a_node_slot_reads_back_and_notices_every_flip),
        leak_checked(a_node_slot_with_too_many_items_is_corrupt),
        leak_checked(what_no_encoder_writes_is_not_valid),
        leak_checked(heads_read_back),
    };

    return run_tests("store/layout", tests);
}
