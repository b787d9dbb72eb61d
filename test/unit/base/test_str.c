#include "support/test.h"

#include "base/limits.h"
#include "base/str.h"

static memphis_slice of(const char *text)
{
    return mp_slice_text(text);
}

static const memphis_slice nothing = { NULL, 0 };

static void slices_are_equal_byte_by_byte(void **state)
{
    (void)state;
    assert_true(mp_slice_equal(of("abc"), MP_STR("abc")));
    assert_false(mp_slice_equal(of("abc"), of("abd")));
    assert_false(mp_slice_equal(of("abc"), of("ab")));
    assert_true(mp_slice_equal(nothing, of("")));
    assert_true(mp_slice_equal(mp_slice("a\0b", 3), mp_slice("a\0b", 3)));
    assert_false(mp_slice_equal(mp_slice("a\0b", 3), mp_slice("a\0c", 3)));
    assert_int_equal(mp_slice_text(NULL).size, 0);
}

static void fold_ignores_the_case_of_ascii_letters_only(void **state)
{
    (void)state;
    assert_true(mp_slice_equal_fold(of("SchemaVerse"), of("schemaverse")));
    assert_true(mp_slice_equal_fold(of("AZaz"), of("azAZ")));
    assert_true(mp_slice_equal_fold(nothing, of("")));
    assert_false(mp_slice_equal_fold(of("abc"), of("abcd")));
    assert_false(mp_slice_equal_fold(of("@["), of("`{"))); /* beside the letters */
    assert_false(mp_slice_equal_fold(of("\xc3\x84"), of("\xc3\xa4"))); /* umlauts */
    for (int c = 0; c < 256; c++) {
        char up = (char)c, low = up;
        mp_fold_lower(&low, 1);
        assert_int_equal((uint8_t)low, c >= 'A' && c <= 'Z' ? c + 32 : c);
        assert_true(mp_slice_equal_fold(mp_slice(&up, 1), mp_slice(&low, 1)));
    }
}

static void starts_and_contains_know_the_empty_part(void **state)
{
    (void)state;
    assert_true(mp_slice_starts(of("orders"), of("ord")));
    assert_true(mp_slice_starts(of("orders"), of("orders")));
    assert_false(mp_slice_starts(of("orders"), of("orders1")));
    assert_false(mp_slice_starts(of("orders"), of("rd")));
    assert_true(mp_slice_starts(of("x"), nothing));
    assert_true(mp_slice_starts(nothing, nothing));
    assert_true(mp_slice_contains(of("orders"), of("der")));
    assert_true(mp_slice_contains(of("orders"), of("rs")));
    assert_false(mp_slice_contains(of("orders"), of("rss")));
    assert_true(mp_slice_contains(of("orders"), nothing));
    assert_true(mp_slice_contains(nothing, nothing));
    assert_false(mp_slice_contains(nothing, of("a")));
}

static void compare_orders_by_bytes_then_by_length(void **state)
{
    static const char *const order[] = { "", "a", "a\x01", "aa", "ab", "b", "\x80" };

    (void)state;
    for (int i = 0; i < 7; i++) {
        for (int k = 0; k < 7; k++) {
            int c = mp_slice_compare(of(order[i]), of(order[k]));
            assert_int_equal((c > 0) - (c < 0), (i > k) - (i < k));
        }
    }
    assert_int_equal(mp_slice_compare(nothing, of("")), 0);
}

static void a_number_is_digits_and_nothing_else(void **state)
{
    static const char *const wrong[] = { "",
                                         " 1",
                                         "1 ",
                                         "+1",
                                         "-1",
                                         "1.0",
                                         "0x1",
                                         "1e3",
                                         "/0",
                                         ":",
                                         "1\n",
                                         "18446744073709551616",
                                         "18446744073709551620",
                                         "99999999999999999999",
                                         "100000000000000000000" };
    uint64_t v = 7;

    (void)state;
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        assert_false(mp_parse_u64(of(wrong[i]), &v));
        assert_int_equal(v, 7);
    }
    assert_false(mp_parse_u64(mp_slice("1\0", 2), &v));
    assert_true(mp_parse_u64(of("0"), &v) && v == 0);
    assert_true(mp_parse_u64(of("007"), &v) && v == 7);
    assert_true(mp_parse_u64(of("9223372036854775808"), &v) && v == UINT64_C(1) << 63);
    assert_true(mp_parse_u64(of("18446744073709551615"), &v) && v == UINT64_MAX);
    assert_true(mp_parse_u64(mp_slice("123", 2), &v) && v == 12);
}

static void split_walks_from_part_to_part(void **state)
{
    memphis_slice rest = of("a..bc.");

    (void)state;
    assert_true(mp_slice_equal(mp_slice_split(&rest, '.'), of("a")));
    assert_true(mp_slice_equal(rest, of(".bc.")));
    assert_true(mp_slice_equal(mp_slice_split(&rest, '.'), of("")));
    assert_true(mp_slice_equal(mp_slice_split(&rest, '.'), of("bc")));
    assert_int_equal(rest.size, 0);
    assert_int_equal(mp_slice_split(&rest, '.').size, 0);
    rest = of("whole");
    assert_true(mp_slice_equal(mp_slice_split(&rest, '.'), of("whole")));
    assert_int_equal(rest.size, 0);
    rest = nothing;
    assert_int_equal(mp_slice_split(&rest, '.').size, 0);
}

static void utf8_is_what_unicode_allows(void **state)
{
    static const char *const good[] = {
        "",
        "plain text, long enough for words of eight bytes",
        "\xc2\x80",
        "\xdf\xbf",
        "\xe0\xa0\x80",
        "\xed\x9f\xbf",
        "\xee\x80\x80",
        "\xef\xbf\xbf",
        "\xf0\x90\x80\x80",
        "\xf4\x8f\xbf\xbf",
        "12345678\xc3\xa4(even)\xf0\x9f\x98\x80",
    };
    static const char *const bad[] = {
        "\x80",
        "\xbf",
        "\xc0\x80",
        "\xc1\xbf",
        "\xc2",
        "\xc2\x41",
        "\xe0\x9f\xbf",
        "\xed\xa0\x80",
        "\xe2\x82",
        "\xe2\x82\x41",
        "\xf0\x8f\xbf\xbf",
        "\xf4\x90\x80\x80",
        "\xf0\x9f\x98",
        "\xf0\x9f\x98\x41",
        "\xf0\x9f\xc3\x80",
        "\xf5\x80\x80\x80",
        "\xff",
        "12345678\xff",
        "1234567\xff",
        "12345678(234567\x80",
    };
    (void)state;
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++)
        assert_true(mp_utf8_is_valid(of(good[i])));
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_false(mp_utf8_is_valid(of(bad[i])));
    assert_true(mp_utf8_is_valid(nothing));
}

static size_t encode(uint32_t c, char out[4])
{
    if (c < 0x80) {
        out[0] = (char)c;
        return 1;
    }
    size_t size = c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
    for (size_t i = size - 1; i > 0; i--, c >>= 6)
        out[i] = (char)(0x80 | (c & 0x3f));
    out[0] = (char)(c | (0xf00u >> size & 0xff));
    return size;
}

static void every_character_of_unicode_is_accepted_and_no_surrogate(void **state)
{
    char text[4];

    (void)state;
    for (uint32_t c = 0; c < 0x110800; c++) {
        size_t size = encode(c, text);
        bool is_character = (c < 0xd800 || c > 0xdfff) && c < 0x110000;
        if (mp_utf8_first(mp_slice(text, size)) != (is_character ? size : 0))
            fail_msg("U+%04X", c);
        if (size > 1 && mp_utf8_first(mp_slice(text, size - 1)) != 0)
            fail_msg("U+%04X without its last byte", c);
    }
    assert_int_equal(mp_utf8_first(nothing), 0);
}

static void assert_name(const char *name, const char *object, const char *text)
{
    memphis_error err = { 0 };
    memphis_status s = mp_name_check(of(name), object, &err);

    assert_int_equal(s, text == NULL ? MEMPHIS_OK : MEMPHIS_INVALID);
    assert_string_equal(err.message, text == NULL ? "" : text);
    assert_int_equal(mp_name_check(of(name), object, NULL), s);
}

static void a_name_gets_the_text_that_users_know(void **state)
{
    static const char empty[] = "Station name can not be empty";
    static const char letters[] =
        "Only alphanumeric and the '_', '-', '.' characters are "
        "allowed in Producer";
    static const char ends[] =
        "Consumer name can not start or end with non alphanumeric character";

    (void)state;
    assert_name("orders", "Station", NULL);
    assert_name("a", "Station", NULL);
    assert_name("0-a_b.c9", "Station", NULL);
    assert_name("", "Station", empty);
    static const char *const strange[] = { "Orders",    "or ders", "a#b", "a/b",
                                           "a\xc3\xa4", "a*",      "a>",  "a$b",
                                           "a\nb",      "a`",      "a{",  "a:" };
    for (size_t i = 0; i < sizeof strange / sizeof strange[0]; i++)
        assert_name(strange[i], "Producer", letters);
    static const char *const edges[] = { ".a", "-a", "_a", "a.", "a-",
                                         "a_", ".",  "-",  "_" };
    for (size_t i = 0; i < sizeof edges / sizeof edges[0]; i++)
        assert_name(edges[i], "Consumer", ends);
    assert_name("-A", "Producer", letters); /* the letters come first */
}

static void a_name_may_have_128_characters_and_no_more(void **state)
{
    char name[MP_NAME_MAX + 2];

    (void)state;
    memset(name, 'a', sizeof name);
    name[MP_NAME_MAX] = 0;
    assert_name(name, "Station", NULL);
    name[MP_NAME_MAX] = 'a';
    name[MP_NAME_MAX + 1] = 0;
    assert_name(name, "Station", "Station should be under 128 characters");
    name[5] = ' '; /* the length comes first */
    assert_name(name, "Consumer group",
                "Consumer group should be under 128 characters");
}

static void the_internal_name_has_no_dots(void **state)
{
    char name[] = "orders.eu.1";

    (void)state;
    mp_name_internal(name, strlen(name));
    assert_string_equal(name, "orders#eu#1");
    mp_name_external(name, strlen(name));
    assert_string_equal(name, "orders.eu.1");
    mp_name_internal(name, 0);
    assert_string_equal(name, "orders.eu.1");
}

static void format_asserts_that_the_text_fits(void **state)
{
    char out[6];

    (void)state;
    assert_int_equal(mp_format(out, sizeof out, "%d-%s", 12, "ab"), 5);
    assert_string_equal(out, "12-ab");
    assert_int_equal(mp_format(out, sizeof out, "%s", ""), 0);
    expect_assert_failure(mp_format(out, sizeof out, "%s", "123456"));
}

static const struct CMUnitTest tests[] = {
    leak_checked(slices_are_equal_byte_by_byte),
    leak_checked(fold_ignores_the_case_of_ascii_letters_only),
    leak_checked(starts_and_contains_know_the_empty_part),
    leak_checked(compare_orders_by_bytes_then_by_length),
    leak_checked(a_number_is_digits_and_nothing_else),
    leak_checked(split_walks_from_part_to_part),
    leak_checked(utf8_is_what_unicode_allows),
    leak_checked(every_character_of_unicode_is_accepted_and_no_surrogate),
    leak_checked(a_name_gets_the_text_that_users_know),
    leak_checked(a_name_may_have_128_characters_and_no_more),
    leak_checked(the_internal_name_has_no_dots),
    leak_checked(format_asserts_that_the_text_fits),
};

int main(void)
{
    return run_tests("base/str", tests);
}
