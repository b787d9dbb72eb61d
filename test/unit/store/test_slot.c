#include "support/test.h"

#include "base/enc.h"
#include "base/str.h"
#include "env/env_mem.h"
#include "store/slot.h"

#define NAME "node"

/* A slot of generation g, filled with a pattern of its own. */
static void make(uint8_t block[MP_BLOCK_SIZE], uint64_t generation)
{
    memset(block, (int)(generation * 37 & 0xff), MP_BLOCK_SIZE);
    memcpy(block, "MPN1", 4);
    mp_set_u64(block + 8, generation);
    mp_set_u32(block + 4, mp_block_crc(block, MP_BLOCK_SIZE));
}

static memphis_status put(struct mp_env *e, uint64_t generation)
{
    uint8_t block[MP_BLOCK_SIZE];

    make(block, generation);
    return mp_slot_write(e, NAME, block, true, NULL);
}

/* The generation that counts; 0: none. What is returned is whole. */
static uint64_t newest(struct mp_env *e)
{
    uint8_t got[MP_BLOCK_SIZE] = { 0 }, expected[MP_BLOCK_SIZE];
    bool exists;

    memphis_status s = mp_slot_read(e, NAME, "MPN1", got, &exists, NULL);
    if (s == MEMPHIS_NOT_FOUND)
        return 0;
    assert_int_equal(s, MEMPHIS_OK);
    assert_true(exists);
    make(expected, mp_get_u64(got + 8));
    assert_memory_equal(got, expected, sizeof got);
    return mp_get_u64(got + 8);
}

static struct mp_disk *disk_with(uint64_t generations)
{
    struct mp_disk *d = mp_disk_new(1);
    struct mp_env *e = mp_env_mem_open(d, NULL);

    for (uint64_t g = 1; g <= generations; g++)
        assert_int_equal(put(e, g), MEMPHIS_OK);
    assert_int_equal(e->dir_sync(e, "", NULL), MEMPHIS_OK);
    e->close(e);
    return d;
}

static void the_newest_generation_counts(void **state)
{
    struct mp_disk *d = disk_with(1);
    struct mp_env *e = mp_env_mem_open(d, NULL);

    (void)state;
    assert_int_equal(newest(e), 1);
    for (uint64_t g = 2; g <= 5; g++) {
        assert_int_equal(put(e, g), MEMPHIS_OK);
        assert_int_equal(newest(e), g);
    }
    e->close(e);
    mp_disk_free(d);
}

static void a_missing_file_and_one_without_a_slot_are_told_apart(void **state)
{
    struct mp_disk *d = mp_disk_new(1);
    struct mp_env *e = mp_env_mem_open(d, NULL);
    uint8_t block[MP_BLOCK_SIZE];
    memphis_error err = { 0 };
    struct mp_file *f;
    bool exists = true;

    (void)state;
    assert_int_equal(mp_slot_read(e, NAME, "MPN1", block, &exists, &err),
                     MEMPHIS_NOT_FOUND);
    assert_false(exists);

    e->file_open(e, NAME, MP_FILE_WRITE | MP_FILE_CREATE, &f, NULL);
    e->file_close(e, f);
    assert_int_equal(mp_slot_read(e, NAME, "MPN1", block, &exists, &err),
                     MEMPHIS_NOT_FOUND);
    assert_true(exists);
    assert_non_null(strstr(err.message, "no valid slot"));

    assert_int_equal(put(e, 1), MEMPHIS_OK); /* of another kind */
    assert_int_equal(mp_slot_read(e, NAME, "MPM1", block, &exists, &err),
                     MEMPHIS_NOT_FOUND);
    e->close(e);
    mp_disk_free(d);
}

static void a_torn_write_of_either_slot_leaves_the_other(void **state)
{
    (void)state;
    for (uint64_t before = 1; before <= 2; before++) {
        for (int outcome = 0; outcome < MP_CRASH_OUTCOMES; outcome++) {
            for (uint64_t seed = 1; seed <= 20; seed++) {
                struct mp_disk *d = disk_with(before);
                struct mp_env *e = mp_env_mem_open(d, NULL);
                mp_disk_crash_at(d, 1); /* its write is under way */
                assert_int_equal(put(e, before + 1), MEMPHIS_IO);
                e->close(e);
                mp_disk_crash(d, outcome, seed);
                e = mp_env_mem_open(d, NULL);
                uint64_t g = newest(e);
                assert_true(g == before || g == before + 1);
                e->close(e);
                mp_disk_free(d);
            }
        }
    }
}

static void a_flipped_bit_makes_the_older_one_count(void **state)
{
    struct mp_disk *d = disk_with(3); /* generation 2 in slot 0, 3 in slot 1 */
    struct mp_env *e = mp_env_mem_open(d, NULL);

    (void)state;
    for (uint64_t at = 0; at < 2 * MP_BLOCK_SIZE; at++) {
        assert_true(mp_disk_flip(d, NAME, at, 2)); /* in the magic: "MPN3" */
        assert_int_equal(newest(e), at < MP_BLOCK_SIZE ? 3 : 2);
        assert_true(mp_disk_flip(d, NAME, at, 2));
    }
    assert_true(mp_disk_flip(d, NAME, 100, 1));
    assert_true(mp_disk_flip(d, NAME, MP_BLOCK_SIZE + 100, 1));
    assert_int_equal(newest(e), 0);
    e->close(e);
    mp_disk_free(d);
}

static void a_slot_of_a_newer_release_is_refused(void **state)
{
    uint8_t block[MP_BLOCK_SIZE] = "MPN2";
    bool exists;

    (void)state;
    for (uint64_t g = 1; g <= 4; g++) { /* newer or older than the one beside it */
        struct mp_disk *d = disk_with(3);
        struct mp_env *e = mp_env_mem_open(d, NULL);
        memphis_error err = { 0 };
        mp_set_u64(block + 8, g);
        mp_set_u32(block + 4, mp_block_crc(block, sizeof block));
        uint8_t out[MP_BLOCK_SIZE];
        assert_int_equal(mp_slot_write(e, NAME, block, true, NULL), MEMPHIS_OK);
        assert_int_equal(mp_slot_read(e, NAME, "MPN1", out, &exists, &err),
                         MEMPHIS_VERSION);
        assert_non_null(strstr(err.message, NAME));
        e->close(e);
        mp_disk_free(d);
    }
}

static void a_slot_that_cannot_be_read_is_a_damaged_one(void **state)
{
    struct mp_disk *d = disk_with(2); /* generation 2 in slot 0, 1 in slot 1 */
    struct mp_env *e = mp_env_mem_open(d, NULL);
    uint8_t block[MP_BLOCK_SIZE];
    memphis_error err = { 0 };
    bool exists = false;

    (void)state;
    for (uint64_t n = 1; n <= 2; n++) {
        mp_disk_fail(d, MP_DISK_READ, n, MEMPHIS_IO, false);
        assert_int_equal(newest(e), n);
    }
    mp_disk_fail(d, MP_DISK_READ, 1, MEMPHIS_IO, true);
    assert_int_equal(mp_slot_read(e, NAME, "MPN1", block, &exists, &err),
                     MEMPHIS_NOT_FOUND);
    assert_true(exists);
    assert_non_null(strstr(err.message, "'node' cannot be read"));
    assert_non_null(strstr(err.message, "restore it from a backup"));
    mp_disk_heal(d);
    mp_disk_fail(d, MP_DISK_READ, 1, MEMPHIS_NOMEM, false); /* it may be good */
    assert_int_equal(mp_slot_read(e, NAME, "MPN1", block, &exists, &err),
                     MEMPHIS_NOMEM);
    e->close(e);
    mp_disk_free(d);
}

static void a_failed_write_or_sync_is_told(void **state)
{
    struct mp_disk *d = disk_with(2);
    struct mp_env *e = mp_env_mem_open(d, NULL);
    uint8_t block[MP_BLOCK_SIZE];

    (void)state;
    mp_disk_fail(d, MP_DISK_WRITE, 1, MEMPHIS_IO, false);
    assert_int_equal(put(e, 3), MEMPHIS_IO);
    mp_disk_fail(d, MP_DISK_SYNC, 1, MEMPHIS_IO, false);
    assert_int_equal(put(e, 3), MEMPHIS_IO);
    mp_disk_fail(d, MP_DISK_SYNC, 1, MEMPHIS_IO, false);
    make(block, 3);
    assert_int_equal(mp_slot_write(e, NAME, block, false, NULL), MEMPHIS_OK);
    mp_disk_heal(d);
    make(block, 0); /* generation 0 would be taken for "none" */
    expect_assert_failure(mp_slot_write(e, NAME, block, true, NULL));
    e->close(e);
    mp_disk_free(d);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        leak_checked(the_newest_generation_counts),
        leak_checked(a_missing_file_and_one_without_a_slot_are_told_apart),
        leak_checked(a_torn_write_of_either_slot_leaves_the_other),
        leak_checked(a_flipped_bit_makes_the_older_one_count),
        leak_checked(a_slot_of_a_newer_release_is_refused),
        leak_checked(a_slot_that_cannot_be_read_is_a_damaged_one),
        leak_checked(a_failed_write_or_sync_is_told),
    };

    return run_tests("store/slot", tests);
}
