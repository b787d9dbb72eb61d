#include "support/test.h"

#include "base/json.h"
#include "base/limits.h"
#include "base/str.h"

#include <stdio.h>

static struct mp_json *parsed(const char *text)
{
    struct mp_json *doc = NULL;
    memphis_error err = { 0 };

    if (mp_json_parse(mp_slice_text(text), &doc, &err) != MEMPHIS_OK)
        fail_msg("%s: %s", text, err.message);
    assert_non_null(doc);
    return doc;
}

/* -- reader ------------------------------------------------------------------------ */

static void values_are_read_by_key(void **state)
{
    struct mp_json *doc = parsed(
        " {\"name\": \"orders\", \"replicas\":3, \"dls\":true,\r\n\t\"off\":false} ");
    const struct mp_json_value *root = mp_json_root(doc);
    const char *name = NULL;
    int64_t replicas = 0;
    bool dls = false, off = true;

    (void)state;
    assert_true(mp_json_is_object(root));
    assert_int_equal(mp_json_get_text(root, "name", &name, NULL), MEMPHIS_OK);
    assert_string_equal(name, "orders");
    assert_int_equal(mp_json_get_int(root, "replicas", &replicas, NULL), MEMPHIS_OK);
    assert_int_equal(replicas, 3);
    assert_int_equal(mp_json_get_bool(root, "dls", &dls, NULL), MEMPHIS_OK);
    assert_true(dls);
    assert_int_equal(mp_json_get_bool(root, "off", &off, NULL), MEMPHIS_OK);
    assert_false(off);
    mp_json_free(doc);
    mp_json_free(NULL);
}

static void keys_match_in_any_case_and_the_exact_one_first(void **state)
{
    struct mp_json *doc = parsed("{\"SchemaVerse\":1,\"NAME\":2,\"name\":3,\"Name\":4,"
                                 "\"name\":5,\"schemaVerse\":6}");
    const struct mp_json_value *root = mp_json_root(doc);
    static const struct {
        const char *key;
        int64_t value;
    } cases[] = { { "schemaverse", 1 }, { "Schemaverse", 1 }, { "SCHEMAVERSE", 1 },
                  { "name", 3 },        { "Name", 4 },        { "NAME", 2 },
                  { "nAME", 2 },        { "schemavers", -1 }, { "", -1 } };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        int64_t v = -1;
        assert_int_equal(mp_json_get_int(root, cases[i].key, &v, NULL), MEMPHIS_OK);
        assert_int_equal(v, cases[i].value);
    }
    mp_json_free(doc);
}

static void missing_and_null_leave_the_default(void **state)
{
    struct mp_json *doc = parsed("{\"a\":null}");
    static const char *const keys[] = { "a", "b" };

    (void)state;
    for (size_t i = 0; i < 2; i++) {
        const struct mp_json_value *roots[] = { mp_json_root(doc), NULL };
        for (size_t k = 0; k < 2; k++) {
            const char *text = "default";
            int64_t number = 42;
            bool flag = true;
            assert_null(mp_json_get(roots[k], keys[i]));
            assert_int_equal(mp_json_get_text(roots[k], keys[i], &text, NULL),
                             MEMPHIS_OK);
            assert_int_equal(mp_json_get_int(roots[k], keys[i], &number, NULL),
                             MEMPHIS_OK);
            assert_int_equal(mp_json_get_bool(roots[k], keys[i], &flag, NULL),
                             MEMPHIS_OK);
            assert_string_equal(text, "default");
            assert_int_equal(number, 42);
            assert_true(flag);
        }
    }
    mp_json_free(doc);
}

static void a_wrong_type_is_invalid_and_named(void **state)
{
    struct mp_json *doc =
        parsed("{\"t\":\"x\",\"n\":1,\"b\":true,\"o\":{},\"a\":[],\"f\":1.5}");
    const struct mp_json_value *root = mp_json_root(doc);
    static const char *const not_text[] = { "n", "b", "o", "a" };
    static const char *const not_int[] = { "t", "b", "o", "a", "f" };
    static const char *const not_bool[] = { "t", "n", "o", "a" };
    memphis_error err;
    const char *text = "default";
    int64_t number = 42;
    bool flag = true;
    char expected[64];

    (void)state;
    for (size_t i = 0; i < 4; i++) {
        assert_int_equal(mp_json_get_text(root, not_text[i], &text, &err),
                         MEMPHIS_INVALID);
        snprintf(expected, sizeof expected, "%s must be a string", not_text[i]);
        assert_string_equal(err.message, expected);
        assert_int_equal(mp_json_get_bool(root, not_bool[i], &flag, &err),
                         MEMPHIS_INVALID);
        snprintf(expected, sizeof expected, "%s must be true or false", not_bool[i]);
        assert_string_equal(err.message, expected);
    }
    for (size_t i = 0; i < 5; i++) {
        assert_int_equal(mp_json_get_int(root, not_int[i], &number, &err),
                         MEMPHIS_INVALID);
        snprintf(expected, sizeof expected, "%s must be a whole number", not_int[i]);
        assert_string_equal(err.message, expected);
    }
    assert_string_equal(text, "default");
    assert_int_equal(number, 42);
    assert_true(flag);
    mp_json_free(doc);
}

static void whole_numbers_are_exact(void **state)
{
    static const struct {
        const char *text;
        int64_t value;
    } cases[] = {
        { "0", 0 },
        { "-0", 0 },
        { "-0.0", 0 },
        { "0e99", 0 },
        { "-7", -7 },
        { "9007199254740992", 9007199254740992 },
        { "9007199254740993", 9007199254740993 }, /* 2^53 + 1: no double */
        { "-9007199254740993", -9007199254740993 },
        { "1767225600123456789", 1767225600123456789 },
        { "9223372036854775806", INT64_MAX - 1 },
        { "9223372036854775807", INT64_MAX },
        { "-9223372036854775808", INT64_MIN },
        { "-9223372036854775807", INT64_MIN + 1 },
        { "1.0", 1 },
        { "1e3", 1000 },
        { "1E+3", 1000 },
        { "-12.5e1", -125 },
        { "120e-1", 12 },
        { "9007199254740993.000", 9007199254740993 },
        { "9223372036854775807.0e0", INT64_MAX },
        { "0.9223372036854775807e19", INT64_MAX },
        { "0.00000000000000000000000000000000000000000000000001e50", 1 },
        { "100000000000000000000000000000000000000000000000000e-50", 1 },
        { "0e999999999999999999999999", 0 },
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char text[200];
        int64_t v = -1;
        snprintf(text, sizeof text, "[\"5, 6\",{\"7\":\"\\\"8\"},%s,9]", cases[i].text);
        struct mp_json *doc = parsed(text);
        const struct mp_json_value *number = mp_json_at(mp_json_root(doc), 2);
        if (mp_json_get_int(number, NULL, &v, NULL) != MEMPHIS_OK ||
            v != cases[i].value)
            fail_msg("%s became %lld", cases[i].text, (long long)v);
        number = mp_json_at(mp_json_root(doc), 3);
        assert_int_equal(mp_json_get_int(number, NULL, &v, NULL), MEMPHIS_OK);
        assert_int_equal(v, 9);
        mp_json_free(doc);
    }
}

static void numbers_that_are_not_whole_or_do_not_fit_are_refused(void **state)
{
    static const char *const fractions[] = { "0.5", "-1e-1", "9007199254740993.5",
                                             "1e-999999999999", "10e-2" };
    static const char *const large[] = { "9223372036854775808",
                                         "-9223372036854775809",
                                         "18446744073709551615",
                                         "18446744073709551616",
                                         "9999999999999999999",
                                         "10000000000000000000",
                                         "1e19",
                                         "1e400",
                                         "-1e999999999999999999999",
                                         "123456789012345678901234567890" };
    memphis_error err;
    int64_t v = 42;

    (void)state;
    for (size_t i = 0; i < sizeof fractions / sizeof fractions[0]; i++) {
        struct mp_json *doc = parsed(fractions[i]);
        assert_int_equal(mp_json_get_int(mp_json_root(doc), NULL, &v, &err),
                         MEMPHIS_INVALID);
        assert_string_equal(err.message, "value must be a whole number");
        mp_json_free(doc);
    }
    for (size_t i = 0; i < sizeof large / sizeof large[0]; i++) {
        struct mp_json *doc = parsed(large[i]);
        assert_int_equal(mp_json_get_int(mp_json_root(doc), NULL, &v, &err),
                         MEMPHIS_INVALID);
        assert_string_equal(err.message,
                            "value must be a whole number of at most 64 bits");
        mp_json_free(doc);
    }
    assert_int_equal(v, 42);
}

static void each_number_of_a_deep_document_keeps_its_own_value(void **state)
{
    struct mp_json *doc =
        parsed("{\"a\":[1,[2,{\"b\":-3,\"c\":[]}],4],\"d-5\":\"-6\\\\\",\"e\":7}");
    const struct mp_json_value *a = mp_json_get(mp_json_root(doc), "a");
    const struct mp_json_value *inner = mp_json_at(a, 1);
    int64_t v = 0;

    (void)state;
    assert_int_equal(mp_json_count(a), 3);
    assert_int_equal(mp_json_count(inner), 2);
    mp_json_get_int(mp_json_at(a, 0), NULL, &v, NULL);
    assert_int_equal(v, 1);
    mp_json_get_int(mp_json_at(inner, 0), NULL, &v, NULL);
    assert_int_equal(v, 2);
    mp_json_get_int(mp_json_at(inner, 1), "b", &v, NULL);
    assert_int_equal(v, -3);
    mp_json_get_int(mp_json_at(a, 2), NULL, &v, NULL);
    assert_int_equal(v, 4);
    mp_json_get_int(mp_json_root(doc), "e", &v, NULL);
    assert_int_equal(v, 7);
    mp_json_free(doc);
}

static void arrays_are_indexed(void **state)
{
    struct mp_json *doc =
        parsed("{\"v\":[\"a\",null,\"b\"],\"none\":[],\"o\":{\"x\":1}}");
    const struct mp_json_value *v = mp_json_get(mp_json_root(doc), "v");
    const char *text = NULL;

    (void)state;
    assert_int_equal(mp_json_count(v), 3);
    assert_int_equal(mp_json_get_text(mp_json_at(v, 2), NULL, &text, NULL), MEMPHIS_OK);
    assert_string_equal(text, "b");
    assert_true(mp_json_is_null(mp_json_at(v, 1)));
    assert_int_equal(mp_json_get_text(mp_json_at(v, 1), NULL, &text, NULL), MEMPHIS_OK);
    assert_string_equal(text, "b");
    assert_null(mp_json_at(v, 3));
    assert_null(mp_json_at(v, SIZE_MAX));
    assert_int_equal(mp_json_count(mp_json_get(mp_json_root(doc), "none")), 0);
    assert_null(mp_json_at(mp_json_get(mp_json_root(doc), "none"), 0));
    assert_int_equal(mp_json_count(mp_json_get(mp_json_root(doc), "o")), 0);
    assert_int_equal(mp_json_count(NULL), 0);
    assert_null(mp_json_at(NULL, 0));
    assert_true(mp_json_is_null(NULL));
    assert_false(mp_json_is_object(NULL));
    assert_false(mp_json_is_object(v));
    assert_null(mp_json_get(v, "a"));
    mp_json_free(doc);
}

static void a_long_array_is_read_in_linear_time(void **state)
{
    struct mp_buf b = { 0 };
    struct mp_json_writer w = { .out = &b };
    enum { COUNT = 100000 };
    int64_t v = 0;

    (void)state;
    mp_json_array(&w, NULL);
    for (int64_t i = 0; i < COUNT; i++)
        mp_json_put_int(&w, NULL, i - 500);
    mp_json_array_end(&w);
    struct mp_json *doc = NULL;
    assert_int_equal(mp_json_parse(mp_buf_slice(&b), &doc, NULL), MEMPHIS_OK);
    assert_int_equal(mp_json_count(mp_json_root(doc)), COUNT);
    for (size_t i = 0; i < COUNT; i++) {
        mp_json_get_int(mp_json_at(mp_json_root(doc), i), NULL, &v, NULL);
        assert_int_equal(v, (int64_t)i - 500);
    }
    mp_json_free(doc);
    mp_buf_fini(&b);
}

static void escapes_become_characters(void **state)
{
    struct mp_json *doc = parsed("[\"\\\"\\\\\\/\\b\\f\\n\\r\\t\\u0041\\u00e9\\u20AC"
                                 "\\ud83d\\ude00\xc3\xa9\"]");
    const char *text = NULL;

    (void)state;
    mp_json_get_text(mp_json_at(mp_json_root(doc), 0), NULL, &text, NULL);
    assert_string_equal(text,
                        "\"\\/\b\f\n\r\tA\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80\xc3\xa9");
    mp_json_free(doc);
}

static const char *const garbage[] = {
    "",
    " ",
    "{",
    "}",
    "[",
    "]",
    "[1",
    "[1,",
    "[1,]",
    "[,1]",
    "[1 2]",
    "{\"a\"}",
    "{\"a\":}",
    "{\"a\":1,}",
    "{a:1}",
    "{\"a\" 1}",
    "{\"a\":1 \"b\":2}",
    "{1:2}",
    "{,}",
    "[}",
    "{]",
    "\"",
    "\"abc",
    "\"\\\"",
    "\"\\x\"",
    "\"\\u12\"",
    "\"\\u12g4\"",
    "\"\\ud800\"",
    "\"\\ud800x\"",
    "\"\\ud800\\u0041\"",
    "\"\\udc00\"",
    "\"\\u0000\"",
    "\"a\nb\"",
    "\"\x01\"",
    "tru",
    "truE",
    "nul",
    "False",
    "None",
    "NaN",
    "Infinity",
    "-",
    "+1",
    "01",
    "-01",
    "1.",
    ".5",
    "1e",
    "1e+",
    "0x10",
    "1.5.5",
    "1e5e5",
    "--1",
    "'a'",
    "[1]x",
    "{}{}",
    "1 2",
    "// comment\n1",
    "\xef\xbb\xbf{}",
    "\xff",
    "\"\xc3\"",
    "\"\xed\xa0\x80\"",
    "\x00",
    "nullnull",
    "[\"a\",]",
    "{\"a\":\"b\"\"c\"}",
};

static void what_is_no_json_is_refused(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof garbage / sizeof garbage[0]; i++) {
        struct mp_json *doc = (struct mp_json *)&doc;
        memphis_error err = { 0 };
        memphis_status s = mp_json_parse(mp_slice_text(garbage[i]), &doc, &err);
        if (s != MEMPHIS_INVALID || doc != NULL)
            fail_msg("%s was accepted", garbage[i]);
        assert_memory_equal(err.message, "not valid JSON: ", 16);
        assert_int_equal(mp_json_parse(mp_slice_text(garbage[i]), &doc, NULL), s);
    }
    struct mp_json *doc;
    assert_int_equal(mp_json_parse(mp_slice(NULL, 0), &doc, NULL), MEMPHIS_INVALID);
    assert_int_equal(mp_json_parse(mp_slice("1\0", 2), &doc, NULL), MEMPHIS_INVALID);
    assert_int_equal(mp_json_parse(mp_slice("\"a\0b\"", 5), &doc, NULL),
                     MEMPHIS_INVALID);
}

static void every_beginning_of_a_text_is_refused_and_every_change_survived(void **state)
{
    static const char text[] =
        "{\"a\":[1,-2.5e+3,true,null,\"x\\u00e9\\ud83d\\ude00\"],"
        "\"b\":{\"c\":\"\xc3\xa9\",\"d\":false}}";
    struct mp_json *doc;

    (void)state;
    for (size_t size = 0; size < sizeof text - 1; size++) {
        char *copy = mp_realloc(NULL, size); /* no zero behind it, for the sanitizer */
        memcpy(copy, text, size);
        assert_int_equal(mp_json_parse(mp_slice(copy, size), &doc, NULL),
                         MEMPHIS_INVALID);
        mp_free(copy);
    }
    for (size_t at = 0; at < sizeof text - 1; at++) {
        for (int c = 0; c < 256; c++) {
            char *copy = mp_strndup(text, sizeof text - 1);
            copy[at] = (char)c;
            memphis_status s =
                mp_json_parse(mp_slice(copy, sizeof text - 1), &doc, NULL);
            assert_true(s == MEMPHIS_OK || s == MEMPHIS_INVALID);
            mp_json_free(doc);
            mp_free(copy);
        }
    }
}

/* Parses `depth` times `open`, a value, and as many times `close`. */
static memphis_status parse_nested(size_t depth, const char *open, const char *close,
                                   memphis_error *err)
{
    struct mp_buf b = { 0 };
    struct mp_json *doc;

    for (size_t i = 0; i < depth; i++)
        mp_buf_put_text(&b, open);
    mp_buf_put_u8(&b, '1');
    for (size_t i = 0; i < depth; i++)
        mp_buf_put_text(&b, close);
    memphis_status s = mp_json_parse(mp_buf_slice(&b), &doc, err);
    mp_json_free(doc);
    mp_buf_fini(&b);
    return s;
}

static void the_depth_is_bounded(void **state)
{
    enum { MAX = MP_JSON_DEPTH_MAX };
    memphis_error err;

    (void)state;
    assert_int_equal(parse_nested(MAX, "[", "]", NULL), MEMPHIS_OK);
    assert_int_equal(parse_nested(MAX, "{\"k\":", "}", NULL), MEMPHIS_OK);
    assert_int_equal(parse_nested(MAX + 1, "[", "]", &err), MEMPHIS_INVALID);
    assert_non_null(strstr(err.message, "nested too deep"));
    assert_int_equal(parse_nested(MAX + 1, "{\"k\":", "}", NULL), MEMPHIS_INVALID);
    /* A million brackets must not use up the stack. */
    assert_int_equal(parse_nested(1000000, "[", "]", NULL), MEMPHIS_INVALID);
}

static memphis_status parse_values(size_t values)
{
    struct mp_buf b = { 0 };
    struct mp_json *doc;

    mp_buf_put_u8(&b, '[');
    for (size_t i = 1; i < values; i++)
        mp_buf_put_text(&b, i > 1 ? ",1" : "1");
    mp_buf_put_u8(&b, ']');
    memphis_status s = mp_json_parse(mp_buf_slice(&b), &doc, NULL);
    mp_json_free(doc);
    mp_buf_fini(&b);
    return s;
}

static void size_values_and_digits_are_bounded(void **state)
{
    struct mp_buf b = { 0 };
    struct mp_json *doc;
    memphis_error err;

    (void)state;
    assert_int_equal(parse_values(MP_JSON_VALUES_MAX), MEMPHIS_OK);
    assert_int_equal(parse_values(MP_JSON_VALUES_MAX + 1), MEMPHIS_INVALID);
    for (size_t extra = 0; extra < 2; extra++) {
        mp_buf_clear(&b);
        size_t size = MP_PAYLOAD_MAX_CEILING + extra;
        memset(mp_buf_add(&b, size), 'x', size);
        b.data[0] = b.data[size - 1] = '"';
        memphis_status s = mp_json_parse(mp_buf_slice(&b), &doc, &err);
        assert_int_equal(s, extra ? MEMPHIS_INVALID : MEMPHIS_OK);
        mp_json_free(doc);
    }
    for (size_t digits = 63; digits < 65; digits++) {
        mp_buf_clear(&b);
        memset(mp_buf_add(&b, digits), '7', digits);
        memphis_status s = mp_json_parse(mp_buf_slice(&b), &doc, &err);
        assert_int_equal(s, digits == 63 ? MEMPHIS_OK : MEMPHIS_INVALID);
        mp_json_free(doc);
    }
    mp_buf_fini(&b);
}

static void the_position_of_the_mistake_is_told(void **state)
{
    struct mp_json *doc;
    memphis_error err;

    (void)state;
    mp_json_parse(MP_STR("{\"a\":1,\"b\":x}"), &doc, &err);
    assert_string_equal(err.message,
                        "not valid JSON: a value was expected, at byte 11");
}

static void no_memory_is_nomem(void **state)
{
    struct mp_json *doc;

    (void)state;
    mp_heap_current()->fail_in = 1;
    assert_int_equal(mp_json_parse(MP_STR("[1,2]"), &doc, NULL), MEMPHIS_NOMEM);
    assert_null(doc);
}

/* -- writer ------------------------------------------------------------------------ */

static void keys_are_compared_with_those_that_are_known(void **state)
{
    static const struct {
        const char *text, *known, *words;
    } cases[] = {
        { "{}", "", NULL },
        { "{\"a\":1,\"Bb\":null}", "bb a", NULL },
        { "{\"b\":1}", "bb a", "no key 'b', but: bb a" },
        { "{\"\":1}", "bb a", "no key ''" },
        { "{\"bb a\":1}", "bb a", "no key 'bb a'" },
        { "{\"a\":1}", "", "no key 'a', but: none" },
        { "{\"a\":1,\"b\":2,\"A\":1}", "a b", "'A' is there twice" },
    };
    memphis_error err;
    (void)state;

    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct mp_json *doc = parsed(cases[i].text);
        memphis_status st =
            mp_json_check_keys(mp_json_root(doc), cases[i].known, &err);
        assert_int_equal(st, cases[i].words ? MEMPHIS_INVALID : MEMPHIS_OK);
        if (cases[i].words != NULL)
            assert_non_null(strstr(err.message, cases[i].words));
        mp_json_free(doc);
    }
}

static void commas_stand_where_they_belong(void **state)
{
    struct mp_buf b = { 0 };
    struct mp_json_writer w = { .out = &b };

    (void)state;
    mp_json_object(&w, NULL);
    mp_json_put_str(&w, "name", "orders");
    mp_json_object(&w, "empty");
    mp_json_object_end(&w);
    mp_json_array(&w, "list");
    mp_json_put_int(&w, NULL, -1);
    mp_json_object(&w, NULL);
    mp_json_put_bool(&w, "yes", true);
    mp_json_put_bool(&w, "no", false);
    mp_json_object_end(&w);
    mp_json_array(&w, NULL);
    mp_json_array_end(&w);
    mp_json_put_null(&w, NULL);
    mp_json_array_end(&w);
    mp_json_put_uint(&w, "max", UINT64_MAX);
    mp_json_put_int(&w, "min", INT64_MIN);
    mp_json_put_text(&w, "none", mp_slice(NULL, 0));
    mp_json_put_str(&w, "null", NULL);
    mp_json_object_end(&w);
    mp_buf_put_u8(&b, 0);
    assert_string_equal((char *)b.data,
                        "{\"name\":\"orders\",\"empty\":{},\"list\":[-1,{\"yes\":true,"
                        "\"no\":false},[],null],\"max\":18446744073709551615,"
                        "\"min\":-9223372036854775808,\"none\":\"\",\"null\":\"\"}");
    mp_buf_fini(&b);
}

static void texts_and_keys_are_escaped(void **state)
{
    struct mp_buf b = { 0 };
    struct mp_json_writer w = { .out = &b };

    (void)state;
    mp_json_object(&w, NULL);
    mp_json_put_str(&w, "a\"\n", "\"\\/\b\f\n\r\t\x01\x1f\x7f\xc3\xa9\xf0\x9f\x98\x80");
    mp_json_put_text(&w, "zero", mp_slice("\0", 1));
    mp_json_object_end(&w);
    mp_buf_put_u8(&b, 0);
    assert_string_equal(
        (char *)b.data,
        "{\"a\\\"\\n\":\"\\\"\\\\/\\b\\f\\n\\r\\t\\u0001\\u001f\x7f\xc3\xa9"
        "\xf0\x9f\x98\x80\",\"zero\":\"\\u0000\"}");
    mp_buf_fini(&b);
}

static void bytes_that_are_no_utf8_become_the_replacement_character(void **state)
{
#define R "\xef\xbf\xbd"
    static const struct {
        const char *text, *written;
    } cases[] = {
        { "\xff", "\"" R "\"" },
        { "a\x80z", "\"a" R "z\"" },
        { "\xc3", "\"" R "\"" },
        { "\xc3\xc3\xa9", "\"" R "\xc3\xa9\"" },
        { "\xed\xa0\x80", "\"" R R R "\"" },
        { "\xe2\x82", "\"" R R "\"" },
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct mp_buf b = { 0 };
        struct mp_json_writer w = { .out = &b };
        mp_json_put_str(&w, NULL, cases[i].text);
        mp_buf_put_u8(&b, 0);
        assert_string_equal((char *)b.data, cases[i].written);
        mp_buf_fini(&b);
    }
}

static void any_bytes_that_are_written_can_be_read(void **state)
{
    uint64_t random = 7;

    (void)state;
    for (int round = 0; round < 2000; round++) {
        struct mp_buf b = { 0 };
        struct mp_json_writer w = { .out = &b };
        struct mp_json *doc;
        char bytes[40];
        int64_t number = (int64_t)(random >> round % 64), back = 0;
        for (size_t i = 0; i < sizeof bytes; i++) {
            random = random * UINT64_C(6364136223846793005) + 1442695040888963407;
            bytes[i] = (char)((random >> 40) % 255 + 1);
        }
        mp_json_object(&w, NULL);
        mp_json_put_text(&w, "text", mp_slice(bytes, (size_t)round % sizeof bytes));
        mp_json_put_int(&w, "number", number);
        mp_json_object_end(&w);
        assert_int_equal(mp_json_parse(mp_buf_slice(&b), &doc, NULL), MEMPHIS_OK);
        assert_int_equal(mp_json_get_int(mp_json_root(doc), "number", &back, NULL), 0);
        assert_int_equal(back, number);
        mp_json_free(doc);
        mp_buf_fini(&b);
    }
}

static const struct CMUnitTest tests[] = {
    leak_checked(values_are_read_by_key),
    leak_checked(keys_match_in_any_case_and_the_exact_one_first),
    leak_checked(missing_and_null_leave_the_default),
    leak_checked(a_wrong_type_is_invalid_and_named),
    leak_checked(whole_numbers_are_exact),
    leak_checked(numbers_that_are_not_whole_or_do_not_fit_are_refused),
    leak_checked(each_number_of_a_deep_document_keeps_its_own_value),
    leak_checked(arrays_are_indexed),
    leak_checked(a_long_array_is_read_in_linear_time),
    leak_checked(escapes_become_characters),
    leak_checked(what_is_no_json_is_refused),
    leak_checked(every_beginning_of_a_text_is_refused_and_every_change_survived),
    leak_checked(the_depth_is_bounded),
    leak_checked(size_values_and_digits_are_bounded),
    leak_checked(the_position_of_the_mistake_is_told),
    leak_checked(no_memory_is_nomem),
    leak_checked(keys_are_compared_with_those_that_are_known),
    leak_checked(commas_stand_where_they_belong),
    leak_checked(texts_and_keys_are_escaped),
    leak_checked(bytes_that_are_no_utf8_become_the_replacement_character),
    leak_checked(any_bytes_that_are_written_can_be_read),
};

int main(void)
{
    return run_tests("base/json", tests);
}
