#include "support/test.h"

#include "base/buf.h"
#include "base/str.h"

#include <stdio.h>

#define assert_text(b, text) assert_bytes((b), (text), strlen(text))

static void assert_bytes(const struct mp_buf *b, const void *bytes, size_t size)
{
    assert_int_equal(b->size, size);
    if (size > 0)
        assert_memory_equal(b->data, bytes, size);
}

static void an_empty_buffer_owns_nothing(void **state)
{
    struct mp_buf b = { 0 };

    (void)state;
    mp_buf_put(&b, NULL, 0);
    mp_buf_put_text(&b, "");
    mp_buf_put_slice(&b, mp_slice(NULL, 0));
    mp_buf_reserve(&b, 0);
    mp_buf_consume(&b, 0);
    assert_null(mp_buf_add(&b, 0));
    assert_int_equal(mp_buf_slice(&b).size, 0);
    assert_int_equal(mp_heap_current()->live_blocks, 0);
    mp_buf_fini(&b);
}

static void what_is_put_stands_one_after_the_other(void **state)
{
    struct mp_buf b = { 0 };

    (void)state;
    mp_buf_put(&b, "ab", 2);
    mp_buf_put_text(&b, "cd");
    mp_buf_put_slice(&b, MP_STR("ef"));
    mp_buf_put_u8(&b, 'g');
    memcpy(mp_buf_add(&b, 2), "hi", 2);
    assert_text(&b, "abcdefghi");
    memphis_slice s = mp_buf_slice(&b);
    assert_ptr_equal(s.data, b.data);
    assert_int_equal(s.size, 9);
    mp_buf_fini(&b);
    assert_null(b.data);
    assert_int_equal(b.capacity, 0);
}

static void integers_are_little_endian(void **state)
{
    static const uint8_t expected[] = { 0x02, 0x01, 0x06, 0x05, 0x04, 0x03, 0x0e,
                                        0x0d, 0x0c, 0x0b, 0x0a, 0x09, 0x08, 0x07 };
    struct mp_buf b = { 0 };

    (void)state;
    mp_buf_put_u16(&b, 0x0102);
    mp_buf_put_u32(&b, 0x03040506);
    mp_buf_put_u64(&b, 0x0708090a0b0c0d0e);
    assert_bytes(&b, expected, sizeof expected);
    struct mp_cursor c = mp_cursor_of(mp_buf_slice(&b));
    assert_int_equal(mp_cursor_u16(&c), 0x0102);
    assert_int_equal(mp_cursor_u32(&c), 0x03040506);
    assert_int_equal(mp_cursor_u64(&c), 0x0708090a0b0c0d0e);
    assert_int_equal(mp_cursor_left(&c), 0);
    assert_false(c.bad);
    mp_buf_fini(&b);
}

static void a_buffer_of_a_mebibyte_grows_in_few_steps(void **state)
{
    struct mp_buf b = { 0 };
    size_t steps = 0, capacity = 0;

    (void)state;
    for (size_t i = 0; i < 1 << 20; i++) {
        mp_buf_put_u8(&b, (uint8_t)(i * 7));
        steps += b.capacity != capacity;
        capacity = b.capacity;
    }
    assert_true(steps < 20);
    for (size_t i = 0; i < 1 << 20; i++)
        assert_int_equal(b.data[i], (uint8_t)(i * 7));
    mp_buf_fini(&b);
}

static void clear_keeps_the_memory(void **state)
{
    struct mp_buf b = { 0 };

    (void)state;
    mp_buf_put_text(&b, "something");
    uint8_t *data = b.data;
    mp_buf_clear(&b);
    assert_int_equal(b.size, 0);
    mp_buf_put_text(&b, "else");
    assert_ptr_equal(b.data, data);
    mp_buf_fini(&b);
}

static void reserve_makes_room_for_exactly_that_many_bytes(void **state)
{
    struct mp_buf b = { 0 };

    (void)state;
    mp_buf_put_text(&b, "abc");
    mp_buf_reserve(&b, 1000);
    uint8_t *data = b.data;
    memset(mp_buf_add(&b, 1000), 'x', 1000);
    assert_ptr_equal(b.data, data);
    assert_int_equal(b.size, 1003);
    mp_buf_fini(&b);
}

static void reserve_try_says_no_and_changes_nothing(void **state)
{
    struct mp_buf b = { 0 };

    (void)state;
    assert_true(mp_buf_reserve_try(&b, 10));
    mp_buf_put_text(&b, "abc");
    assert_true(mp_buf_reserve_try(&b, b.capacity - b.size));
    struct mp_buf before = b;
    assert_false(mp_buf_reserve_try(&b, SIZE_MAX));
    assert_false(mp_buf_reserve_try(&b, SIZE_MAX - 2)); /* the sum would wrap */
    mp_heap_current()->fail_in = 1;
    assert_false(mp_buf_reserve_try(&b, 1000));
    assert_memory_equal(&b, &before, sizeof b);
    assert_text(&b, "abc");
    assert_true(mp_buf_reserve_try(&b, 1000));
    mp_buf_fini(&b);
}

static void reserve_everything(void *ctx)
{
    mp_buf_reserve(ctx, SIZE_MAX - 1);
}

static void reserve_without_memory_lands_in_the_guard(void **state)
{
    struct mp_buf b = { 0 };

    (void)state;
    mp_buf_put_text(&b, "abc");
    assert_int_equal(mp_guard_run(NULL, reserve_everything, &b, NULL), MEMPHIS_NOMEM);
    assert_text(&b, "abc");
    mp_buf_fini(&b);
}

static void consume_drops_the_first_bytes(void **state)
{
    struct mp_buf b = { 0 };

    (void)state;
    mp_buf_put_text(&b, "abcdef");
    mp_buf_consume(&b, 2);
    assert_text(&b, "cdef");
    mp_buf_consume(&b, 0);
    mp_buf_consume(&b, 4);
    assert_text(&b, "");
    mp_buf_put_text(&b, "g");
    expect_assert_failure(mp_buf_consume(&b, 2));
    assert_text(&b, "g");
    mp_buf_fini(&b);
}

static const uint64_t edges[] = { 0,
                                  1,
                                  9,
                                  10,
                                  99,
                                  100,
                                  127,
                                  128,
                                  999,
                                  1000,
                                  16383,
                                  16384,
                                  99999,
                                  100000,
                                  2097151,
                                  2097152,
                                  4294967295,
                                  4294967296,
                                  INT64_MAX,
                                  UINT64_C(1) << 63,
                                  UINT64_MAX - 1,
                                  UINT64_MAX };
enum { EDGES = sizeof edges / sizeof edges[0] };

static void a_number_in_decimal_is_what_printf_says(void **state)
{
    (void)state;
    for (size_t i = 0; i < EDGES; i++) {
        struct mp_buf b = { 0 };
        char expected[32];
        snprintf(expected, sizeof expected, "%llu", (unsigned long long)edges[i]);
        mp_buf_put_decimal(&b, edges[i]);
        assert_text(&b, expected);
        mp_buf_fini(&b);
    }
    for (uint64_t v = 0; v < 12000; v++) {
        struct mp_buf b = { 0 };
        uint64_t back;
        mp_buf_put_decimal(&b, v);
        assert_true(mp_parse_u64(mp_buf_slice(&b), &back) && back == v);
        mp_buf_fini(&b);
    }
}

static void a_varint_comes_back_as_it_was(void **state)
{
    struct mp_buf b = { 0 };

    (void)state;
    for (size_t i = 0; i < EDGES; i++)
        mp_buf_put_varint(&b, edges[i]);
    for (uint32_t shift = 0; shift < 64; shift++)
        mp_buf_put_varint(&b, UINT64_C(1) << shift);
    struct mp_cursor c = mp_cursor_of(mp_buf_slice(&b));
    for (size_t i = 0; i < EDGES; i++)
        assert_int_equal(mp_cursor_varint(&c), edges[i]);
    for (uint32_t shift = 0; shift < 64; shift++)
        assert_int_equal(mp_cursor_varint(&c), UINT64_C(1) << shift);
    assert_int_equal(mp_cursor_left(&c), 0);
    assert_false(c.bad);
    mp_buf_fini(&b);
}

static void a_varint_is_leb128(void **state)
{
    struct mp_buf b = { 0 };

    (void)state;
    mp_buf_put_varint(&b, 127);
    mp_buf_put_varint(&b, 624485); /* the example of the DWARF standard */
    assert_bytes(&b, "\x7f\xe5\x8e\x26", 4);
    mp_buf_clear(&b);
    mp_buf_put_varint(&b, UINT64_MAX);
    assert_bytes(&b, "\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", 10);
    mp_buf_fini(&b);
}

static void a_varint_of_more_than_64_bits_or_without_an_end_is_bad(void **state)
{
    static const memphis_slice wrong[] = {
        { "", 0 },
        { "\x80", 1 },
        { "\xff\xff\xff\xff\xff\xff\xff\xff\xff", 9 },
        { "\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02", 10 },
        { "\xff\xff\xff\xff\xff\xff\xff\xff\xff\x81\x00", 11 },
        { "\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80", 12 },
    };
    (void)state;
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        struct mp_cursor c = mp_cursor_of(wrong[i]);
        assert_int_equal(mp_cursor_varint(&c), 0);
        assert_true(c.bad);
        assert_int_equal(mp_cursor_left(&c), 0);
    }
}

static void format_writes_what_fits_and_what_does_not(void **state)
{
    struct mp_buf b = { 0 };
    char text[700];

    (void)state;
    mp_buf_format(&b, "%s-%d", "a", 7);
    assert_text(&b, "a-7");
    for (size_t size = 0; size < sizeof text - 1; size++) {
        memset(text, 'y', sizeof text);
        text[size] = 0;
        mp_buf_fini(&b);
        mp_buf_put_u8(&b, 'x');
        mp_buf_format(&b, "%s%s", text, "!");
        assert_int_equal(b.size, size + 2);
        assert_memory_equal(b.data + 1, text, size);
        assert_int_equal(b.data[size + 1], '!');
    }
    mp_buf_fini(&b);
}

static void a_cursor_stops_at_its_end_and_stays_bad(void **state)
{
    struct mp_cursor c = mp_cursor_of(MP_STR("\x01\x02\x03"));

    (void)state;
    assert_int_equal(mp_cursor_left(&c), 3);
    assert_int_equal(mp_cursor_u16(&c), 0x0201);
    assert_int_equal(mp_cursor_u16(&c), 0); /* one byte too few */
    assert_true(c.bad);
    assert_int_equal(mp_cursor_u8(&c), 0); /* the byte that was left is gone too */
    assert_int_equal(mp_cursor_left(&c), 0);
    assert_int_equal(mp_cursor_take(&c, 0).size, 0);
    assert_true(c.bad);
}

static void every_read_needs_all_of_its_bytes(void **state)
{
    static const uint8_t bytes[9] = { 1, 1, 1, 1, 1, 1, 1, 1, 1 };

    (void)state;
    for (size_t size = 0; size <= 9; size++) {
        struct mp_cursor c = mp_cursor_of(mp_slice(bytes, size)), d = c, e = c, f = c;
        assert_int_equal(mp_cursor_u8(&c) == 1, size >= 1);
        assert_int_equal(c.bad, size < 1);
        assert_int_equal(mp_cursor_u16(&d) == 0x0101, size >= 2);
        assert_int_equal(d.bad, size < 2);
        assert_int_equal(mp_cursor_u32(&e) == 0x01010101, size >= 4);
        assert_int_equal(e.bad, size < 4);
        assert_int_equal(mp_cursor_u64(&f) == 0x0101010101010101, size >= 8);
        assert_int_equal(f.bad, size < 8);
    }
}

static void take_borrows_from_the_slice(void **state)
{
    static const char text[] = "abcdef";
    struct mp_cursor c = mp_cursor_of(mp_slice(text, 6));
    struct mp_cursor nothing = mp_cursor_of(mp_slice(NULL, 0));

    (void)state;
    memphis_slice s = mp_cursor_take(&c, 2);
    assert_ptr_equal(s.data, text);
    assert_int_equal(s.size, 2);
    assert_int_equal(mp_cursor_take(&c, 4).size, 4);
    assert_int_equal(mp_cursor_take(&c, 0).size, 0);
    assert_false(c.bad);
    assert_int_equal(mp_cursor_take(&c, SIZE_MAX).size, 0);
    assert_true(c.bad);
    assert_int_equal(mp_cursor_take(&nothing, 0).size, 0);
    assert_false(nothing.bad);
    assert_int_equal(mp_cursor_take(&nothing, 1).size, 0);
    assert_true(nothing.bad);
}

static const struct CMUnitTest tests[] = {
    leak_checked(an_empty_buffer_owns_nothing),
    leak_checked(what_is_put_stands_one_after_the_other),
    leak_checked(integers_are_little_endian),
    leak_checked(a_buffer_of_a_mebibyte_grows_in_few_steps),
    leak_checked(clear_keeps_the_memory),
    leak_checked(reserve_makes_room_for_exactly_that_many_bytes),
    leak_checked(reserve_try_says_no_and_changes_nothing),
    leak_checked(reserve_without_memory_lands_in_the_guard),
    leak_checked(consume_drops_the_first_bytes),
    leak_checked(a_number_in_decimal_is_what_printf_says),
    leak_checked(a_varint_comes_back_as_it_was),
    leak_checked(a_varint_is_leb128),
    leak_checked(a_varint_of_more_than_64_bits_or_without_an_end_is_bad),
    leak_checked(format_writes_what_fits_and_what_does_not),
    leak_checked(a_cursor_stops_at_its_end_and_stays_bad),
    leak_checked(every_read_needs_all_of_its_bytes),
    leak_checked(take_borrows_from_the_slice),
};

int main(void)
{
    return run_tests("base/buf", tests);
}
