#include "support/test.h"

#include "base/logger.h"

#include <stdio.h>

static struct {
    size_t lines;
    int32_t level;
    char module[32];
    char last[2000];
    size_t held_reports;
    uint64_t held_lines;
} log_seen;

static void sink(void *ctx, int32_t level, const char *module, const char *line)
{
    const char *count = strstr(line, "count=");

    assert_ptr_equal(ctx, &log_seen);
    if (strncmp(line, "Lines like ", 11) == 0) {
        unsigned long long n = 0;
        assert_non_null(count);
        assert_int_equal(sscanf(count, "count=%llu", &n), 1);
        log_seen.held_reports++;
        log_seen.held_lines += n;
        return;
    }
    log_seen.lines++;
    log_seen.level = level;
    snprintf(log_seen.module, sizeof log_seen.module, "%s", module);
    snprintf(log_seen.last, sizeof log_seen.last, "%s", line);
}

static struct mp_logger logger;

static int start_logger(void **state)
{
    (void)state;
    memset(&log_seen, 0, sizeof log_seen);
    mp_logger_init(&logger, MEMPHIS_LOG_INFO, sink, &log_seen);
    return 0;
}

static int stop_logger(void **state)
{
    mp_logger_fini(&logger);
    return test_no_leaks(state);
}

static void a_line_reaches_the_sink_as_it_was_written(void **state)
{
    (void)state;
    mp_logf(&logger, MEMPHIS_LOG_WARN, "store", "disk is slow, ms=%d file=%s", 12,
            "wal");
    assert_int_equal(log_seen.lines, 1);
    assert_int_equal(log_seen.level, MEMPHIS_LOG_WARN);
    assert_string_equal(log_seen.module, "store");
    assert_string_equal(log_seen.last, "disk is slow, ms=12 file=wal");
}

static void lines_above_the_level_are_dropped(void **state)
{
    (void)state;
    for (int32_t level = MEMPHIS_LOG_ERROR; level <= MEMPHIS_LOG_TRACE; level++)
        mp_logf(&logger, level, "x", "level %d", level);
    assert_int_equal(log_seen.lines, 3);
    assert_string_equal(log_seen.last, "level 3");
    logger.level = 0;
    mp_logf(&logger, MEMPHIS_LOG_ERROR, "x", "nothing at all");
    assert_int_equal(log_seen.lines, 3);
}

static void no_logger_and_no_sink_are_fine(void **state)
{
    struct mp_logger silent;

    (void)state;
    mp_logf(NULL, MEMPHIS_LOG_ERROR, "x", "nobody reads %s", "this");
    mp_logger_init(&silent, MEMPHIS_LOG_TRACE, NULL, NULL);
    mp_logf(&silent, MEMPHIS_LOG_ERROR, "x", "nor %s", "this");
    mp_logger_fini(&silent);
}

static void a_line_stays_one_line(void **state)
{
    (void)state;
    mp_logf(&logger, MEMPHIS_LOG_INFO, "x", "name=%s",
            "a\nERROR forged\r\t\x1b[0m\x7f.");
    assert_string_equal(log_seen.last, "name=a ERROR forged   [0m .");
    mp_logf(&logger, MEMPHIS_LOG_INFO, "x", "name=%s", "caf\xc3\xa9");
    assert_string_equal(log_seen.last, "name=caf\xc3\xa9");
}

static void a_long_line_ends_after_a_thousand_bytes(void **state)
{
    char text[1500];

    (void)state;
    memset(text, 'a', sizeof text);
    text[sizeof text - 1] = 0;
    mp_logf(&logger, MEMPHIS_LOG_INFO, "x", "%s", text);
    assert_int_equal(strlen(log_seen.last), 1000);
    mp_logf(&logger, MEMPHIS_LOG_INFO, "x", "%.1000s", text);
    assert_int_equal(strlen(log_seen.last), 1000);
    mp_logf(&logger, MEMPHIS_LOG_INFO, "x", "%.999s", text);
    assert_int_equal(strlen(log_seen.last), 999);
}

/* A loop that takes less than a second may still see two of the clock. */
static void a_line_that_repeats_is_held_back_and_counted(void **state)
{
    (void)state;
    for (int i = 0; i < 5000; i++)
        mp_logf(&logger, MEMPHIS_LOG_ERROR, "net", "connection %d was refused", i);
    assert_true(log_seen.lines >= 10 && log_seen.lines <= 50);
    assert_true(log_seen.lines % 10 == 0);
    mp_logf(&logger, MEMPHIS_LOG_ERROR, "net", "another line");
    assert_string_equal(log_seen.last, "another line");
    size_t lines = log_seen.lines - 1;
    mp_logger_fini(&logger); /* says what is still held back */
    assert_true(log_seen.held_reports >= 1);
    assert_int_equal(lines + log_seen.held_lines, 5000);
    start_logger(NULL);
}

static void ten_lines_in_a_second_are_not_too_many(void **state)
{
    (void)state;
    for (int i = 0; i < 10; i++)
        mp_logf(&logger, MEMPHIS_LOG_ERROR, "net", "connection %d was refused", i);
    assert_int_equal(log_seen.lines, 10);
    mp_logger_fini(&logger);
    assert_int_equal(log_seen.held_reports, 0);
    start_logger(NULL);
}

static void a_second_that_is_over_is_reported_with_the_next_line(void **state)
{
    (void)state;
    for (int i = 0; i < 400; i++)
        mp_logf(&logger, MEMPHIS_LOG_ERROR, "net", "refused %d", i);
    size_t lines = log_seen.lines;
    log_seen.held_lines = 0;
    for (size_t i = 0; i < sizeof logger.repeats / sizeof logger.repeats[0]; i++)
        logger.repeats[i].second -= 60; /* as if a minute had passed */
    mp_logf(&logger, MEMPHIS_LOG_ERROR, "other", "something else");
    assert_int_equal(log_seen.lines, lines + 1);
    assert_true(log_seen.held_lines > 0);
    mp_logf(&logger, MEMPHIS_LOG_ERROR, "net", "refused %d", 7);
    assert_string_equal(log_seen.last, "refused 7");
}

static void more_formats_than_entries_lose_no_line(void **state)
{
    static const char *const formats[40] = {
        "%d 0",  "%d 1",  "%d 2",  "%d 3",  "%d 4",  "%d 5",  "%d 6",  "%d 7",
        "%d 8",  "%d 9",  "%d 10", "%d 11", "%d 12", "%d 13", "%d 14", "%d 15",
        "%d 16", "%d 17", "%d 18", "%d 19", "%d 20", "%d 21", "%d 22", "%d 23",
    };
    (void)state;
    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < 24; i++) {
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
            mp_logf(&logger, MEMPHIS_LOG_ERROR, "x", formats[i], round);
#pragma GCC diagnostic pop
        }
    }
    assert_int_equal(log_seen.lines, 72);
    assert_string_equal(log_seen.last, "2 23");
}

static void *log_a_lot(void *ctx)
{
    for (int i = 0; i < 2000; i++)
        mp_logf(&logger, MEMPHIS_LOG_INFO, ctx, "thread %s line %d", (char *)ctx, i);
    return NULL;
}

static void the_sink_is_called_by_one_thread_at_a_time(void **state)
{
    static char names[4][2] = { "a", "b", "c", "d" };
    pthread_t threads[4];

    (void)state;
    for (size_t i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, log_a_lot, names[i]), 0);
    for (size_t i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    size_t lines = log_seen.lines;
    mp_logger_fini(&logger);
    assert_int_equal(lines + log_seen.held_lines, 8000);
    start_logger(NULL);
}

#define logged(f) cmocka_unit_test_setup_teardown(f, start_logger, stop_logger)

static const struct CMUnitTest tests[] = {
    logged(a_line_reaches_the_sink_as_it_was_written),
    logged(lines_above_the_level_are_dropped),
    logged(no_logger_and_no_sink_are_fine),
    logged(a_line_stays_one_line),
    logged(a_long_line_ends_after_a_thousand_bytes),
    logged(a_line_that_repeats_is_held_back_and_counted),
    logged(ten_lines_in_a_second_are_not_too_many),
    logged(a_second_that_is_over_is_reported_with_the_next_line),
    logged(more_formats_than_entries_lose_no_line),
    logged(the_sink_is_called_by_one_thread_at_a_time),
};

int main(void)
{
    return run_tests("base/logger", tests);
}
