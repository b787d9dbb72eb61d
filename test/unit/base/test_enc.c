#include "support/test.h"

/* The source itself, because the tables for other processors are static there. */
#include "base/enc.c"

#include <stdlib.h>

/* -- CRC32C ------------------------------------------------------------------------ */

static uint32_t bitwise_crc(uint32_t crc, const uint8_t *p, size_t size)
{
    crc = ~crc;
    for (; size > 0; size--) {
        crc ^= *p++;
        for (int bit = 0; bit < 8; bit++)
            crc = crc & 1 ? crc >> 1 ^ 0x82f63b78 : crc >> 1;
    }
    return ~crc;
}

static uint8_t source[12000], target[12000];

static int fill_source(void **state)
{
    uint32_t v = 1;

    (void)state;
    for (size_t i = 0; i < sizeof source; i++) {
        v = v * 1664525 + 1013904223;
        source[i] = (uint8_t)(v >> 24);
    }
    return 0;
}

static void crc32c_gives_the_vectors_of_the_standard(void **state)
{
    static const uint8_t read_command[48] = {
        0x01, 0xc0, 0, 0, 0, 0, 0,    0, 0,    0, 0, 0,    0, 0, 0, 0,
        0x14, 0,    0, 0, 0, 0, 0x04, 0, 0,    0, 0, 0x14, 0, 0, 0, 0x18,
        0x28, 0,    0, 0, 0, 0, 0,    0, 0x02, 0, 0, 0,    0, 0, 0, 0,
    }; /* RFC 3720 B.4: a SCSI read command */
    uint8_t bytes[32] = { 0 };

    (void)state;
    assert_int_equal(mp_crc32c(0, NULL, 0), 0);
    assert_int_equal(mp_crc32c(0, "123456789", 9), 0xe3069283);
    assert_int_equal(mp_crc32c(0, bytes, 32), 0x8a9136aa);
    memset(bytes, 0xff, 32);
    assert_int_equal(mp_crc32c(0, bytes, 32), 0x62a8ab43);
    for (size_t i = 0; i < 32; i++)
        bytes[i] = (uint8_t)i;
    assert_int_equal(mp_crc32c(0, bytes, 32), 0x46dd794e);
    for (size_t i = 0; i < 32; i++)
        bytes[i] = (uint8_t)(31 - i);
    assert_int_equal(mp_crc32c(0, bytes, 32), 0x113fdb5c);
    assert_int_equal(mp_crc32c(0, read_command, 48), 0xd9963a56);
}

static void every_size_at_every_alignment_agrees_with_the_bitwise_sum(void **state)
{
    (void)state;
    for (size_t size = 0; size < 1700; size += size < 300 ? 1 : 13) {
        for (size_t shift = 0; shift < 9; shift += 4) {
            uint32_t seed = (uint32_t)(size * 77);
            uint32_t expected = bitwise_crc(seed, source + shift, size);
            assert_int_equal(mp_crc32c(seed, source + shift, size), expected);
            memset(target, 0xee, size + 32);
            assert_int_equal(
                mp_crc32c_copy(seed, target + 8 - shift, source + shift, size),
                expected);
            if (size > 0)
                assert_memory_equal(target + 8 - shift, source + shift, size);
            assert_int_equal(target[8 - shift + size], 0xee); /* nothing beyond */
            assert_true(shift == 8 || target[7 - shift] == 0xee);
        }
    }
    for (size_t size = 4000; size < sizeof source; size += 1531)
        assert_int_equal(mp_crc32c(0, source, size), bitwise_crc(0, source, size));
}

static void the_tables_agree_with_the_bitwise_sum_too(void **state)
{
    (void)state;
    for (size_t size = 0; size < 200; size++) {
        uint32_t expected = bitwise_crc(5, source + size % 9, size);
        assert_int_equal(table_crc(5, source + size % 9, size), expected);
        memset(target, 0xee, size + 2);
        assert_int_equal(table_crc_copy(5, target + 1, source + size % 9, size),
                         expected);
        assert_int_equal(memcmp(target + 1, source + size % 9, size), 0);
        assert_int_equal(target[1 + size], 0xee);
    }
    assert_int_equal(table_crc(0, (const uint8_t *)"123456789", 9), 0xe3069283);
}

static void both_ways_to_multiply_agree(void **state)
{
    (void)state;
    if (!has_hardware())
        skip();
    for (size_t i = 0; i < 1000; i += 8) {
        uint32_t a = mp_get_u32(source + i), b = mp_get_u32(source + i + 4);
        assert_int_equal(table_multiply(a, b), hardware_multiply(a, b));
    }
    assert_int_equal(table_multiply(0, 0x12345678), 0);
    assert_int_equal(table_multiply(0x12345678, 0), 0);
}

static void a_sum_goes_on_where_the_last_one_ended(void **state)
{
    uint32_t whole = mp_crc32c(0, source, 2000);

    (void)state;
    for (size_t cut = 0; cut <= 2000; cut += 37) {
        uint32_t crc = mp_crc32c(0, source, cut);
        assert_int_equal(mp_crc32c(crc, source + cut, 2000 - cut), whole);
        crc = mp_crc32c_copy(0, target, source, cut);
        assert_int_equal(mp_crc32c_copy(crc, target + cut, source + cut, 2000 - cut),
                         whole);
    }
    assert_memory_equal(target, source, 2000);
}

static void sums_of_parts_combine_to_the_sum_of_the_whole(void **state)
{
    (void)state;
    for (size_t size_b = 0; size_b < 5000; size_b += size_b < 40 ? 1 : 61) {
        uint32_t a = mp_crc32c(0, source, 123);
        uint32_t b = mp_crc32c(0, source + 123, size_b);
        assert_int_equal(mp_crc32c_combine(a, b, size_b),
                         mp_crc32c(0, source, 123 + size_b));
    }
    assert_int_equal(mp_crc32c_combine(0, 0x12345678, 99), 0x12345678);
    assert_int_equal(mp_crc32c_combine(0x12345678, 0, 0), 0x12345678);
}

static void combine_knows_parts_of_any_size(void **state)
{
    uint8_t *zeros = calloc(1, 16 << 20);

    (void)state;
    uint32_t one = mp_crc32c(0, "x", 1), sum = mp_crc32c(0, zeros, 16 << 20);
    assert_int_equal(mp_crc32c_combine(one, sum, 16 << 20),
                     mp_crc32c(one, zeros, 16 << 20));
    free(zeros);
    /* Each doubling must agree with two steps of the half, up to 2^63 bytes. */
    uint64_t size = 16 << 20;
    for (; size <= UINT64_C(1) << 62; size *= 2) {
        uint32_t twice = mp_crc32c_combine(mp_crc32c_combine(one, 0, size), 0, size);
        assert_int_equal(mp_crc32c_combine(one, 0, 2 * size), twice);
    }
    /* The order of x is 2^31 - 1, so as many bytes change nothing. */
    assert_int_equal(mp_crc32c_combine(one, 0, (UINT64_C(1) << 31) - 1), one);
    assert_int_equal(mp_crc32c_combine(one, 0, ((UINT64_C(1) << 31) - 1) << 31), one);
}

/* Reflected: bit 31 is x^0. */
static uint32_t times_x(uint32_t v)
{
    return v >> 1 ^ (v & 1 ? 0x82f63b78 : 0);
}

static uint32_t power_of_x(uint64_t n)
{
    uint32_t v = UINT32_C(1) << 31;

    for (n %= (UINT64_C(1) << 31) - 1; n > 0; n--)
        v = times_x(v);
    return v;
}

static void the_tables_are_powers_of_x(void **state)
{
    (void)state;
    for (uint32_t words = 1; words <= 2 * MP_CRC_LANE_WORDS; words++)
        assert_int_equal(mp_crc_past_words[words], power_of_x(64ull * words - 33));
    for (uint32_t digit = 0; digit < 4; digit++) {
        for (uint64_t d = 1; d < 16; d++) {
            uint64_t bits = 8 * d << 4 * digit;
            if (bits > 33)
                assert_int_equal(mp_crc_past_bytes[digit][d], power_of_x(bits - 33));
        }
    }
    uint32_t x33 = mp_crc_past_bytes[0][0]; /* x^-33 */
    for (int i = 0; i < 33; i++)
        x33 = times_x(x33);
    assert_int_equal(x33, UINT32_C(1) << 31);
}

/* -- base64, hexadecimal ----------------------------------------------------------- */

static void base64_gives_the_vectors_of_the_standard(void **state)
{
    static const char *const text = "foobar";
    static const char *const encoded[] = { "",         "Zg==",     "Zm8=",    "Zm9v",
                                           "Zm9vYg==", "Zm9vYmE=", "Zm9vYmFy" };
    (void)state;
    for (size_t size = 0; size <= 6; size++) {
        char out[9];
        uint8_t back[6];
        size_t back_size = 99;
        assert_int_equal(mp_base64_size(size), strlen(encoded[size]));
        assert_int_equal(mp_base64_encode(text, size, out), strlen(encoded[size]));
        assert_string_equal(out, encoded[size]);
        assert_true(mp_base64_decode(out, strlen(out), back, &back_size));
        assert_int_equal(back_size, size);
        if (size > 0)
            assert_memory_equal(back, text, size);
    }
}

static void all_bytes_survive_base64(void **state)
{
    (void)state;
    for (size_t size = 0; size < 700; size += 11) {
        char out[1000];
        uint8_t back[700];
        size_t back_size;
        size_t length = mp_base64_encode(source, size, out);
        assert_int_equal(length, mp_base64_size(size));
        assert_int_equal(out[length], 0);
        assert_true(mp_base64_decode(out, length, back, &back_size));
        assert_int_equal(back_size, size);
        if (size > 0)
            assert_memory_equal(back, source, size);
    }
    char both[5];
    mp_base64_encode("\xfb\xff\xbf", 3, both);
    assert_string_equal(both, "+/+/");
}

static void what_no_encoder_writes_is_not_base64(void **state)
{
    static const char *const wrong[] = {
        "Z",      "Zg",   "Zg=",  "Zg==Zg==", "=",          "====",
        "Z===",   "Zh==", "Zm9=", "Zm 9",     "Zm9-",       "Zm9_",
        "Zm9v\n", "Z=g=", "Zm=v", "Zm9v====", "\xc3\xa4Zg", "Zm9vZg=a",
    };
    uint8_t out[16];
    size_t size;

    (void)state;
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++)
        assert_false(mp_base64_decode(wrong[i], strlen(wrong[i]), out, &size));
    assert_false(mp_base64_decode("Zm\0v", 4, out, &size));
}

static void hexadecimal_is_written_in_lower_case_and_read_in_both(void **state)
{
    static const char *const wrong[] = { "0",  "0g", "g0", "/0", ":0",
                                         "@0", "`0", " 0", "0x" };
    uint8_t bytes[4];
    char out[8];

    (void)state;
    mp_hex_encode("\x00\x1f\xab\xff", 4, out);
    assert_memory_equal(out, "001fabff", 8);
    assert_true(mp_hex_decode("001FabFf", 8, bytes));
    assert_memory_equal(bytes, "\x00\x1f\xab\xff", 4);
    assert_true(mp_hex_decode("", 0, bytes));
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++)
        assert_false(mp_hex_decode(wrong[i], strlen(wrong[i]), bytes));
    for (int i = 0; i < 256; i++) {
        uint8_t byte = (uint8_t)i, back;
        mp_hex_encode(&byte, 1, out);
        assert_true(mp_hex_decode(out, 2, &back) && back == byte);
    }
}

/* -- ids and times ----------------------------------------------------------------- */

static void a_nuid_has_22_letters_and_digits_and_differs_with_each_bit(void **state)
{
    uint8_t random[16] = { 0 };
    char plain[MP_NUID_SIZE + 1], other[MP_NUID_SIZE + 1];

    (void)state;
    mp_nuid_text(random, plain);
    assert_string_equal(plain, "0000000000000000000000");
    for (size_t bit = 0; bit < 128; bit++) {
        memset(random, 0, sizeof random);
        random[bit / 8] = (uint8_t)(1 << bit % 8);
        mp_nuid_text(random, other);
        assert_int_equal(strlen(other), MP_NUID_SIZE);
        assert_string_not_equal(other, plain);
    }
    memset(random, 0xff, sizeof random);
    mp_nuid_text(random, other);
    assert_int_equal(strspn(other, "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"
                                   "abcdefghijklmnopqrstuvwxyz"),
                     MP_NUID_SIZE);
    assert_memory_equal(other, "FYHA61aHgyLFYHA61aHgyL", MP_NUID_SIZE);
}

static void a_time_is_written_as_in_rfc_3339(void **state)
{
    static const struct {
        uint64_t seconds, ns;
        const char *text;
    } times[] = {
        { 0, 0, "1970-01-01T00:00:00.000000000Z" },
        { 0, 1, "1970-01-01T00:00:00.000000001Z" },
        { 86399, 999999999, "1970-01-01T23:59:59.999999999Z" },
        { 951782399, 0, "2000-02-28T23:59:59.000000000Z" },
        { 951782400, 0, "2000-02-29T00:00:00.000000000Z" },
        { 951868800, 0, "2000-03-01T00:00:00.000000000Z" },
        { 978307199, 0, "2000-12-31T23:59:59.000000000Z" },
        { 1709164800, 0, "2024-02-29T00:00:00.000000000Z" },
        { 1767261600, 1, "2026-01-01T10:00:00.000000001Z" },
        { 4107542400, 0, "2100-03-01T00:00:00.000000000Z" },
        { 18446744073, 709551615, "2554-07-21T23:34:33.709551615Z" },
    };
    (void)state;
    for (size_t i = 0; i < sizeof times / sizeof times[0]; i++) {
        char out[MP_TIME_TEXT_SIZE + 1];
        mp_time_text(times[i].seconds * 1000000000 + times[i].ns, out);
        assert_string_equal(out, times[i].text);
    }
}

static void each_day_of_two_centuries_follows_the_one_before(void **state)
{
    static const int lengths[] = { 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31 };
    int year = 1970, month = 1, day = 1;

    (void)state;
    for (uint64_t days = 0; year < 2200; days++) {
        char out[MP_TIME_TEXT_SIZE + 1];
        mp_time_text(days * 86400000000000, out);
        int seen_year = (int)strtol(out, NULL, 10);
        int seen_month = (int)strtol(out + 5, NULL, 10);
        int seen_day = (int)strtol(out + 8, NULL, 10);
        if (seen_year != year || seen_month != month || seen_day != day)
            fail_msg("%s is not %d-%d-%d", out, year, month, day);
        bool leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
        if (++day > lengths[month - 1] + (month == 2 && leap)) {
            day = 1;
            month++;
        }
        if (month > 12) {
            month = 1;
            year++;
        }
    }
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(crc32c_gives_the_vectors_of_the_standard),
    cmocka_unit_test_setup(every_size_at_every_alignment_agrees_with_the_bitwise_sum,
                           fill_source),
    cmocka_unit_test_setup(the_tables_agree_with_the_bitwise_sum_too, fill_source),
    cmocka_unit_test_setup(both_ways_to_multiply_agree, fill_source),
    cmocka_unit_test_setup(a_sum_goes_on_where_the_last_one_ended, fill_source),
    cmocka_unit_test_setup(sums_of_parts_combine_to_the_sum_of_the_whole, fill_source),
    cmocka_unit_test(combine_knows_parts_of_any_size),
    cmocka_unit_test(the_tables_are_powers_of_x),
    cmocka_unit_test(base64_gives_the_vectors_of_the_standard),
    cmocka_unit_test_setup(all_bytes_survive_base64, fill_source),
    cmocka_unit_test(what_no_encoder_writes_is_not_base64),
    cmocka_unit_test(hexadecimal_is_written_in_lower_case_and_read_in_both),
    cmocka_unit_test(a_nuid_has_22_letters_and_digits_and_differs_with_each_bit),
    cmocka_unit_test(a_time_is_written_as_in_rfc_3339),
    cmocka_unit_test(each_day_of_two_centuries_follows_the_one_before),
};

int main(void)
{
    return run_tests("base/enc", tests);
}
