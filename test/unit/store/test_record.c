#include "support/test.h"

#include "base/enc.h"
#include "base/str.h"
#include "store/record.h"

#include <stdlib.h>

static uint32_t seed;

static uint32_t rnd(uint32_t n)
{
    seed = seed * 1664525u + 1013904223u;
    return (seed >> 8) % n;
}

/* A message with every optional part in or out, as the bits of `parts` say. */
static struct mp_entry message(uint32_t parts, const char *bytes)
{
    struct mp_entry e = { .type = MP_ENTRY_MESSAGE,
                          .pid = 7,
                          .seq = 1000 + parts,
                          .time_ns = 123456789,
                          .payload = mp_slice(bytes, parts * 3) };

    if (parts & 1)
        e.subject = MP_STR("orders$1.x.y");
    if (parts & 2)
        e.id = MP_STR("order-17");
    if (parts & 4)
        e.headers = MP_STR("NATS/1.0\r\na: b\r\n\r\n");
    return e;
}

static void assert_same(const struct mp_entry *a, const struct mp_entry *b)
{
    assert_int_equal(a->type, b->type);
    assert_int_equal(a->pid, b->pid);
    assert_int_equal(a->seq, b->seq);
    assert_int_equal(a->time_ns, b->time_ns);
    assert_true(mp_slice_equal(a->subject, b->subject));
    assert_true(mp_slice_equal(a->id, b->id));
    assert_true(mp_slice_equal(a->headers, b->headers));
    assert_true(mp_slice_equal(a->payload, b->payload));
}

static void
every_combination_of_optional_parts_reads_back_as_it_was_written(void **state)
{
    char bytes[64];
    uint8_t out[512];

    (void)state;
    for (size_t i = 0; i < sizeof bytes; i++)
        bytes[i] = (char)(i * 7);
    for (uint32_t parts = 0; parts < 16; parts++) {
        struct mp_entry e = message(parts, bytes), got;
        size_t size = mp_entry_size(&e), used = 0;

        assert_int_equal(size % 8, 0);
        mp_entry_encode(&e, out);
        assert_int_equal(
            mp_entry_decode(mp_slice(out, sizeof out), true, &got, &used, NULL),
            MEMPHIS_OK);
        assert_int_equal(used, size);
        assert_same(&e, &got);
    }
}

static void the_returned_checksum_covers_the_whole_entry(void **state)
{
    struct mp_entry e = message(15, "0123456789abcdefghijklmnopqrstuvwxyz0123456789");
    uint8_t out[512];
    uint32_t crc = mp_entry_encode(&e, out);

    (void)state;
    assert_int_equal(crc, mp_crc32c(0, out, mp_entry_size(&e)));
}

static void a_flip_of_any_bit_is_noticed(void **state)
{
    struct mp_entry e = message(15, "0123456789abcdefghijklmnopqrstuvwxyz0123456789");
    struct mp_entry got;
    uint8_t out[512];
    size_t size = mp_entry_size(&e), used;

    (void)state;
    mp_entry_encode(&e, out);
    for (size_t bit = 0; bit < size * 8; bit++) {
        out[bit / 8] ^= (uint8_t)(1 << bit % 8);
        assert_int_not_equal(
            mp_entry_decode(mp_slice(out, size), true, &got, &used, NULL), MEMPHIS_OK);
        out[bit / 8] ^= (uint8_t)(1 << bit % 8);
    }
}

static void a_cut_entry_is_corrupt_at_every_length(void **state)
{
    struct mp_entry e = message(7, "0123456789abcdefghijklmnopqrstuvwxyz");
    struct mp_entry got;
    uint8_t out[512];
    size_t size = mp_entry_size(&e), used;

    (void)state;
    mp_entry_encode(&e, out);
    for (size_t n = 0; n < size; n++) {
        uint8_t *cut = malloc(n + 1); /* so that a read behind the end is seen */

        memcpy(cut, out, n);
        assert_int_equal(mp_entry_decode(mp_slice(cut, n), true, &got, &used, NULL),
                         MEMPHIS_CORRUPT);
        free(cut);
    }
}

/* Whatever the lengths inside claim: the checksum is made right, so only the bounds
 * checks stand between them and the memory behind. */
static void lengths_that_lie_behind_a_right_checksum_never_read_outside(void **state)
{
    struct mp_entry e = message(15, "0123456789abcdefghijklmnopqrstuvwxyz0123456789");
    size_t size = mp_entry_size(&e);
    uint8_t out[512];

    (void)state;
    seed = 7;
    mp_entry_encode(&e, out);
    for (int i = 0; i < 50000; i++) {
        uint8_t *bytes = malloc(size);
        struct mp_entry got;
        size_t used;

        memcpy(bytes, out, size);
        for (uint32_t n = 1 + rnd(3); n > 0; n--)
            bytes[8 + rnd((uint32_t)size - 8)] = (uint8_t)rnd(256);
        mp_set_u32(bytes + 4, mp_crc32c(0, bytes + 8, size - 8));
        if (mp_entry_decode(mp_slice(bytes, size), true, &got, &used, NULL) ==
            MEMPHIS_OK) {
            assert_true(got.payload.size <= size);
            assert_true(got.headers.size <= size);
            assert_true(used <= size);
        }
        free(bytes);
    }
}

static void an_unknown_type_is_refused_and_an_optional_one_is_not(void **state)
{
    struct mp_entry e = message(0, ""), got;
    uint8_t out[512];
    size_t size = mp_entry_size(&e), used;
    memphis_error err = { 0 };

    (void)state;
    mp_entry_encode(&e, out);
    out[8] = 77;
    mp_set_u32(out + 4, mp_crc32c(0, out + 8, size - 8));
    assert_int_equal(mp_entry_decode(mp_slice(out, size), true, &got, &used, &err),
                     MEMPHIS_UNSUPPORTED);
    assert_non_null(strstr(err.message, "77"));
    out[8] = 200;
    mp_set_u32(out + 4, mp_crc32c(0, out + 8, size - 8));
    assert_int_equal(mp_entry_decode(mp_slice(out, size), true, &got, &used, NULL),
                     MEMPHIS_OK);
    assert_int_equal(used, size);
}

static memphis_status decode_with(size_t at, uint8_t value, memphis_error *err)
{
    struct mp_entry e = message(0, ""), got;
    size_t size = mp_entry_size(&e), used;
    uint8_t out[512];

    mp_entry_encode(&e, out);
    out[at] = value;
    mp_set_u32(out + 4, mp_crc32c(0, out + 8, size - 8));
    return mp_entry_decode(mp_slice(out, size), true, &got, &used, err);
}

static void what_is_reserved_is_refused_by_name(void **state)
{
    static const uint8_t types[] = { 2, 6, 9, 11, 13, 17, 127 };
    static const struct {
        uint8_t flag;
        const char *name;
    } flags[] = { { 1, "flag 1 " }, { 16, "flag 16 " }, { 32, "flag 32 " } };
    char name[16];
    memphis_error err;

    (void)state;
    for (size_t i = 0; i < sizeof types; i++) {
        err = (memphis_error){ 0 };
        assert_int_equal(decode_with(8, types[i], &err), MEMPHIS_UNSUPPORTED);
        mp_format(name, sizeof name, "type %u ", types[i]);
        assert_non_null(strstr(err.message, name));
    }
    for (size_t i = 0; i < sizeof flags / sizeof flags[0]; i++) {
        err = (memphis_error){ 0 };
        assert_int_equal(decode_with(9, flags[i].flag, &err), MEMPHIS_UNSUPPORTED);
        assert_non_null(strstr(err.message, flags[i].name));
    }
    assert_int_equal(decode_with(9, 8 | 64, &err), MEMPHIS_OK);
}

static void the_bytes_of_version_1_stay_as_they_are(void **state)
{
    /* A message "hi" in partition 2, sequence 3, time 4, written once and kept. */
    struct mp_entry e = { .type = MP_ENTRY_MESSAGE,
                          .pid = 2,
                          .seq = 3,
                          .time_ns = 4,
                          .payload = MP_STR("hi") };
    static const uint8_t kept[48] = { 48, 0, 0, 0, 0,   0,   0, 0, 1, 0, 0, 0,
                                      2,  0, 0, 0, 3,   0,   0, 0, 0, 0, 0, 0,
                                      4,  0, 0, 0, 0,   0,   0, 0, 2, 0, 0, 0,
                                      2,  0, 0, 0, 'h', 'i', 0, 0, 0, 0, 0, 0 };
    uint8_t out[64];

    (void)state;
    assert_int_equal(mp_entry_size(&e), sizeof kept);
    mp_entry_encode(&e, out);
    assert_int_equal(mp_get_u32(out + 4), mp_crc32c(0, kept + 8, sizeof kept - 8));
    memset(out + 4, 0, 4);
    assert_memory_equal(out, kept, sizeof kept);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        leak_checked(every_combination_of_optional_parts_reads_back_as_it_was_written),
        leak_checked(the_returned_checksum_covers_the_whole_entry),
        leak_checked(a_flip_of_any_bit_is_noticed),
        leak_checked(a_cut_entry_is_corrupt_at_every_length),
        leak_checked(lengths_that_lie_behind_a_right_checksum_never_read_outside),
        leak_checked(an_unknown_type_is_refused_and_an_optional_one_is_not),
        leak_checked(what_is_reserved_is_refused_by_name),
        leak_checked(the_bytes_of_version_1_stay_as_they_are),
    };

    return run_tests("store/record", tests);
}
