#include "support/test.h"

#include "base/status.h"
#include "base/status_table.h"

#include <stdio.h>

struct row {
    memphis_status number, declared;
    bool retryable;
    int http;
    const char *name, *text;
};

/* The left number is the table's, the right one that of the public header. */
#define ROW(name, number, retryable, http, text)                                       \
    { number, MEMPHIS_##name, retryable, http, #name, text },
static const struct row rows[] = { MP_STATUS_TABLE(ROW) };
enum { ROWS = sizeof rows / sizeof rows[0] };

static void every_number_of_the_table_is_that_of_the_public_header(void **state)
{
    (void)state;
    assert_int_equal(ROWS, 26);
    for (size_t i = 0; i < ROWS; i++) {
        assert_int_equal(rows[i].number, rows[i].declared);
        if (i > 0)
            assert_true(rows[i].number > rows[i - 1].number);
    }
    assert_int_equal(rows[ROWS - 1].number, 80);
}

static void name_text_and_http_code_come_from_the_table(void **state)
{
    (void)state;
    for (size_t i = 0; i < ROWS; i++) {
        memphis_status s = rows[i].number;
        assert_string_equal(memphis_status_name(s), rows[i].name);
        assert_string_equal(memphis_status_text(s), rows[i].text);
        assert_int_equal(memphis_status_is_retryable(s), rows[i].retryable);
        assert_int_equal(mp_status_http(s), rows[i].http);
    }
    assert_string_equal(memphis_status_name(MEMPHIS_NOT_FOUND), "NOT_FOUND");
    assert_int_equal(mp_status_http(MEMPHIS_NOT_FOUND), 404);
    assert_int_equal(mp_status_http(MEMPHIS_OK), 200);
}

static void exactly_the_statuses_marked_in_the_header_can_be_retried(void **state)
{
    static const memphis_status retryable[] = { MEMPHIS_NOMEM,      MEMPHIS_TIMEOUT,
                                                MEMPHIS_BUSY,       MEMPHIS_FULL,
                                                MEMPHIS_NOT_LEADER, MEMPHIS_NO_QUORUM,
                                                MEMPHIS_NO_SPACE };
    (void)state;
    for (memphis_status s = -2; s < 100; s++) {
        bool expected = false;
        for (size_t i = 0; i < sizeof retryable / sizeof retryable[0]; i++)
            expected |= retryable[i] == s;
        assert_int_equal(memphis_status_is_retryable(s), expected);
    }
}

static void an_unknown_number_is_named_so(void **state)
{
    (void)state;
    assert_string_equal(memphis_status_name(7), "UNKNOWN");
    assert_string_equal(memphis_status_name(81), "UNKNOWN");
    assert_string_equal(memphis_status_name(MP_PENDING), "UNKNOWN");
    assert_string_equal(memphis_status_text(INT32_MIN), "unknown status");
    assert_int_equal(mp_status_http(INT32_MAX), 500);
    assert_false(memphis_status_is_retryable(7));
}

static void mp_fail_fills_the_error_and_returns_the_status(void **state)
{
    memphis_error err;

    (void)state;
    memset(&err, 0xff, sizeof err);
    assert_int_equal(
        mp_fail(&err, MEMPHIS_NOT_FOUND, "station '%s' does not exist", "a"),
        MEMPHIS_NOT_FOUND);
    assert_int_equal(err.status, MEMPHIS_NOT_FOUND);
    assert_int_equal(err.reserved, 0);
    assert_string_equal(err.message, "station 'a' does not exist");
    assert_int_equal(mp_fail(NULL, MEMPHIS_BUSY, "nobody reads this %d", 1),
                     MEMPHIS_BUSY);
}

static void a_message_of_247_bytes_fits_and_one_more_is_cut(void **state)
{
    struct {
        memphis_error err;
        char after[8];
    } room = { .after = "beyond" };
    memphis_error *err = &room.err;
    char text[260];

    (void)state;
    for (int size = 246; size < 252; size++) {
        memset(text, 'x', sizeof text);
        text[size] = 0;
        mp_fail(err, MEMPHIS_IO, "%s", text);
        assert_int_equal(strlen(err->message), size < 247 ? size : 247);
        assert_string_equal(room.after, "beyond");
    }
    mp_fail(err, MEMPHIS_IO, "%s", "");
    assert_string_equal(err->message, "");
}

static void a_cut_message_never_ends_in_half_a_character(void **state)
{
    static const char *const characters[] = { "\xc3\xa4", "\xe2\x82\xac",
                                              "\xf0\x9f\x98\x80" };
    memphis_error err;

    (void)state;
    for (size_t i = 0; i < 3; i++) {
        for (int before = 240; before < 248; before++) {
            char text[300];
            memset(text, 'x', sizeof text);
            snprintf(text + before, sizeof text - (size_t)before, "%s and more of it",
                     characters[i]);
            mp_fail(&err, MEMPHIS_IO, "%s", text);
            size_t whole = (size_t)before + strlen(characters[i]);
            assert_int_equal(strlen(err.message), whole <= 247 ? 247 : before);
        }
    }
}

static void a_message_may_quote_the_error_it_replaces(void **state)
{
    memphis_error err;

    (void)state;
    mp_fail(&err, MEMPHIS_IO, "disk gone");
    mp_fail(&err, MEMPHIS_BROKEN, "stopped: %s", err.message);
    assert_string_equal(err.message, "stopped: disk gone");
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(every_number_of_the_table_is_that_of_the_public_header),
    cmocka_unit_test(name_text_and_http_code_come_from_the_table),
    cmocka_unit_test(exactly_the_statuses_marked_in_the_header_can_be_retried),
    cmocka_unit_test(an_unknown_number_is_named_so),
    cmocka_unit_test(mp_fail_fills_the_error_and_returns_the_status),
    cmocka_unit_test(a_message_of_247_bytes_fits_and_one_more_is_cut),
    cmocka_unit_test(a_cut_message_never_ends_in_half_a_character),
    cmocka_unit_test(a_message_may_quote_the_error_it_replaces),
};

int main(void)
{
    return run_tests("base/status", tests);
}
