#include "unit/stream/world.h"

#include "base/status.h"
#include "stream/nats.h"

/* A stream "KV" on "kv.>" with these settings (' for "). */
static struct world *kv(const char *settings)
{
    return world_with_nats("KV", "kv.>", settings);
}

/* What the publisher hears. */
static const char *put_with(struct world *w, const char *subject, const char *headers)
{
    forget(w);
    publish_with(w, subject, "_INBOX.p", headers, "v");
    settle_down(w);
    for (int i = 0; i < w->heard_count; i++)
        if (strcmp(w->heard[i].to, "_INBOX.>") == 0)
            return w->heard[i].payload;
    return "";
}

static void put_ok(struct world *w, const char *subject, uint64_t seq)
{
    char want[64];

    snprintf(want, sizeof(want), "{\"stream\":\"KV\", \"seq\":%llu}",
             (unsigned long long)seq);
    assert_string_equal(put_with(w, subject, ""), want);
}

static void expect(struct world *w, const char *subject, const char *headers,
                   const char *part)
{
    char block[256];
    const char *answer;

    snprintf(block, sizeof(block), "NATS/1.0\r\n%s\r\n\r\n", headers);
    answer = put_with(w, subject, block);
    if (strstr(answer, part) == NULL)
        fail_msg("%s: %s", headers, answer);
}

/* The sequences that are stored, as "1 4 5 ". */
static const char *stored(struct world *w)
{
    static char text[256];
    size_t n = 0;

    text[0] = 0;
    for (uint64_t seq = 1; seq <= last_seq(w); seq++)
        if (mp_log_has(w->log, PID, seq))
            n += (size_t)snprintf(text + n, sizeof(text) - n, "%d ", (int)seq);
    return text;
}

static uint64_t last_of(struct world *w, const char *subject)
{
    uint64_t seq;

    assert_true(mp_nats_last_of(w->stream, mp_slice_text(subject), &seq));
    return seq;
}

static void a_stream_takes_its_own_subjects(void **state)
{
    struct world *w = kv("");

    (void)state;
    put_ok(w, "kv.a", 1);
    assert_string_equal(put_with(w, "other.a", ""), "");
    assert_string_equal(put_with(w, "KV.final", ""), ""); /* no Memphis partition */
    assert_string_equal(stored(w), "1 ");
    mp_nats_configure(w->stream, "{\"name\":\"KV\",\"subjects\":[\"other.*\"]}", true);
    put_ok(w, "other.a", 2);
    assert_string_equal(put_with(w, "kv.a", ""), "");
    world_free(w);
}

static void a_new_message_drives_out_the_oldest_of_its_subject(void **state)
{
    struct world *w = kv(",'max_msgs_per_subject':2");

    (void)state;
    put_ok(w, "kv.a", 1);
    put_ok(w, "kv.b", 2);
    put_ok(w, "kv.a", 3);
    assert_string_equal(stored(w), "1 2 3 ");
    put_ok(w, "kv.a", 4);
    assert_string_equal(stored(w), "2 3 4 ");
    /* In one turn, before anything is committed. */
    for (int i = 0; i < 5; i++)
        publish_with(w, "kv.a", "", "", "v");
    settle_down(w);
    assert_string_equal(stored(w), "2 8 9 ");
    assert_int_equal(mp_nats_subjects_count(w->stream), 2);
    world_free(w);
}

static void a_removed_message_makes_room_in_its_subject(void **state)
{
    struct world *w = kv(",'max_msgs_per_subject':3");
    uint64_t seq = 2;
    struct mp_buf b = { 0 };
    struct mp_entry e = { .type = MP_ENTRY_DELETE, .pid = PID, .seq = 2 };

    (void)state;
    for (uint64_t i = 1; i <= 3; i++)
        put_ok(w, "kv.a", i);
    mp_stream_removal_encode(&seq, 1, &b);
    e.payload = mp_buf_slice(&b);
    append(w, &e);
    mp_buf_fini(&b);
    settle_down(w);
    put_ok(w, "kv.a", 4);
    assert_string_equal(stored(w), "1 3 4 ");
    put_ok(w, "kv.a", 5);
    assert_string_equal(stored(w), "3 4 5 ");
    world_free(w);
}

static void a_publish_is_guarded_by_its_subject(void **state)
{
    struct world *w = kv(",'max_msgs_per_subject':1");

    (void)state;
    expect(w, "kv.a", "Nats-Expected-Last-Subject-Sequence: 0", "\"seq\":1}");
    expect(w, "kv.a", "Nats-Expected-Last-Subject-Sequence: 0",
           "\"err_code\":10071,\"description\":\"wrong last sequence: 1\"");
    put_ok(w, "kv.b", 2);
    expect(w, "kv.a", "Nats-Expected-Last-Subject-Sequence: 1", "\"seq\":3}");
    expect(w, "kv.c",
           "Nats-Expected-Last-Subject-Sequence: 2\r\n"
           "Nats-Expected-Last-Subject-Sequence-Subject: kv.b",
           "\"seq\":4}");
    /* The second of one turn sees the first. */
    forget(w);
    for (int i = 0; i < 2; i++)
        publish_with(w, "kv.a", "_INBOX.p",
                     "NATS/1.0\r\nNats-Expected-Last-Subject-Sequence: 3\r\n\r\n", "v");
    settle_down(w);
    assert_string_equal(stored(w), "2 4 5 ");
    world_free(w);
}

static void other_guards_and_limits_have_their_errors(void **state)
{
    struct world *w = kv(",'max_msg_size':3,'discard':'new','max_msgs':2");

    (void)state;
    forget(w);
    publish_with(w, "kv.a", "_INBOX.p", "", "four");
    settle_down(w);
    assert_non_null(strstr(w->heard[0].payload, "\"err_code\":10054"));
    put_ok(w, "kv.a", 1);
    mp_nats_configure(w->stream,
                      "{\"name\":\"KV\",\"subjects\":[\"kv.>\"],"
                      "\"discard\":\"new\",\"max_msgs\":2}",
                      true);
    expect(w, "kv.a", "Nats-Rollup: sub", "\"err_code\":10111");
    expect(w, "kv.a", "Nats-TTL: 5", "\"err_code\":10166");
    expect(w, "kv.a", "Nats-Expected-Last-Msg-Id: x", "\"err_code\":10070");
    expect(w, "kv.a", "Nats-Msg-Id: x", "\"seq\":2}");
    assert_non_null(strstr(put_with(w, "kv.a", ""), "\"err_code\":10077"));
    assert_string_equal(stored(w), "1 2 ");
    world_free(w);
}

static void a_rollup_removes_what_was_before(void **state)
{
    static const char *const settings[] = {
        ",'allow_rollup_hdrs':true,'max_msgs_per_subject':64",
        ",'allow_rollup_hdrs':true", /* without lists: a scan */
    };

    (void)state;
    for (int i = 0; i < 2; i++) {
        struct world *w = kv(settings[i]);

        put_ok(w, "kv.a", 1);
        put_ok(w, "kv.b", 2);
        put_ok(w, "kv.a", 3);
        expect(w, "kv.a", "Nats-Rollup: sub", "\"seq\":4}");
        settle_down(w);
        assert_string_equal(stored(w), "2 4 ");
        expect(w, "kv.c", "Nats-Rollup: all", "\"seq\":5}");
        settle_down(w);
        assert_string_equal(stored(w), "5 ");
        world_free(w);
    }
}

static void several_limits_hold_together(void **state)
{
    struct world *w = kv(",'max_msgs':4,'max_age':1000000000,'duplicate_window':0");

    (void)state;
    for (uint64_t i = 1; i <= 6; i++)
        put_ok(w, "kv.a", i);
    settle_down(w);
    assert_string_equal(stored(w), "3 4 5 6 ");
    pass(w, 1100);
    settle_down(w);
    assert_string_equal(stored(w), "");
    world_free(w);
}

static void after_a_start_the_index_is_made_again(void **state)
{
    struct world *w = kv(",'max_msgs_per_subject':2");

    (void)state;
    put_ok(w, "kv.a", 1);
    put_ok(w, "kv.a", 2);
    put_ok(w, "kv.b", 3);
    restart(w);
    assert_int_equal(last_of(w, "kv.a"), 2);
    assert_int_equal(last_of(w, "kv.c"), 0);
    put_ok(w, "kv.a", 4);
    assert_string_equal(stored(w), "2 3 4 ");
    world_free(w);
}

static void without_an_index_the_stream_is_looked_at(void **state)
{
    struct world *w = kv("");

    (void)state;
    w->host.subjects_bytes_max = 300;
    put_ok(w, "kv.a", 1);
    for (uint64_t i = 2; i < 12; i++) {
        char subject[16];

        snprintf(subject, sizeof(subject), "kv.x%d", (int)i);
        put_ok(w, subject, i);
    }
    assert_int_equal(w->host.subjects_given_up, 1);
    assert_int_equal(w->host.subjects_bytes, 0);
    assert_int_equal(last_of(w, "kv.a"), 1);
    assert_int_equal(last_of(w, "kv.x7"), 7);
    assert_int_equal(last_of(w, "kv.none"), 0);
    expect(w, "kv.a", "Nats-Expected-Last-Subject-Sequence: 1", "\"seq\":12}");
    world_free(w);
}

static void a_stream_that_needs_the_index_refuses_new_subjects(void **state)
{
    struct world *w = kv(",'max_msgs_per_subject':1");

    (void)state;
    w->host.subjects_bytes_max = 100;
    put_ok(w, "kv.a", 1);
    assert_non_null(strstr(put_with(w, "kv.b", ""), "\"err_code\":10023"));
    put_ok(w, "kv.a", 2);
    assert_string_equal(stored(w), "2 ");
    world_free(w);
}

static void a_refused_message_drives_nothing_out(void **state)
{
    struct world *w = kv(",'max_msgs_per_subject':1");
    static char payload[64 << 10];

    (void)state;
    stop(w); /* again with small files, so that the log meets the end of the disk */
    w->file_size = 256 << 10;
    start(w);
    put_ok(w, "kv.a", 1);
    mp_disk_limit(w->disk, mp_disk_used(w->disk));
    memset(payload, 'x', sizeof(payload) - 1);
    for (int i = 0; i < 10; i++)
        publish_with(w, "kv.a", "_INBOX.p", "", payload);
    forget(w);
    settle_down(w);
    assert_true(w->failures > 0 && w->heard_count > 0);
    assert_non_null(strstr(w->heard[0].payload, "10047"));
    mp_disk_limit(w->disk, UINT64_MAX);
    pass(w, 3000);
    assert_string_equal(stored(w), "1 ");
    assert_int_equal(last_of(w, "kv.a"), 1);
    world_free(w);
}

static void settings_without_sense_are_not_opened(void **state)
{
    struct mp_stream_settings s = { .name = "KV", .limit = MP_LIMIT_NATS }, out;
    struct mp_arena a = { 0 };

    (void)state;
    for (int i = 0; i < 2; i++) {
        struct mp_buf b = { 0 };
        struct mp_cursor c;

        s.nats = i == 0 ? "{" : "{\"name\":\"KV\",\"sealed\":true}";
        mp_stream_settings_encode(&s, &b);
        c = mp_cursor_of(mp_buf_slice(&b));
        assert_int_equal(mp_stream_settings_decode(&c, &a, &out),
                         i == 0 ? MEMPHIS_CORRUPT : MEMPHIS_UNSUPPORTED);
        mp_buf_fini(&b);
    }
    mp_arena_fini(&a);
}

/* What a scan has seen so far is not the last: unknown, until it is done. */
static void while_the_index_is_made_nothing_old_is_told(void **state)
{
    enum { COUNT = 6000 };
    struct world *w = kv("");
    uint64_t seq;
    int unknown = 0;

    (void)state;
    for (int i = 0; i < COUNT; i++) {
        publish_with(w, "kv.a", "", "", "v");
        if (i % 500 == 0)
            settle_down(w);
    }
    settle_down(w);
    mp_nats_configure(w->stream,
                      "{\"name\":\"KV\",\"subjects\":[\"kv.>\"],"
                      "\"max_msgs_per_subject\":10000}",
                      true); /* lists: the index is made anew */
    for (int i = 0; i < 100; i++) {
        if (!mp_nats_last_of(w->stream, MP_STR("kv.a"), &seq))
            unknown++;
        else
            assert_int_equal(seq, COUNT);
        turn(w);
    }
    assert_true(unknown > 0);
    assert_int_equal(last_of(w, "kv.a"), COUNT);
    world_free(w);
}

static void an_update_stops_no_expiry(void **state)
{
    struct world *w = kv(",'max_age':2000000000");

    (void)state;
    put_ok(w, "kv.a", 1);
    put_ok(w, "kv.b", 2);
    put_ok(w, "kv.c", 3);
    mp_nats_configure(w->stream,
                      "{\"name\":\"KV\",\"subjects\":[\"kv.>\"],"
                      "\"max_age\":2000000000,\"max_msgs\":2}",
                      true);
    settle_down(w);
    assert_string_equal(stored(w), "2 3 "); /* a new limit holds at once */
    pass(w, 3000);
    assert_string_equal(stored(w), "");
    world_free(w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_stream_takes_its_own_subjects),
        cmocka_unit_test(a_new_message_drives_out_the_oldest_of_its_subject),
        cmocka_unit_test(a_removed_message_makes_room_in_its_subject),
        cmocka_unit_test(a_publish_is_guarded_by_its_subject),
        cmocka_unit_test(other_guards_and_limits_have_their_errors),
        cmocka_unit_test(a_rollup_removes_what_was_before),
        cmocka_unit_test(several_limits_hold_together),
        cmocka_unit_test(after_a_start_the_index_is_made_again),
        cmocka_unit_test(without_an_index_the_stream_is_looked_at),
        cmocka_unit_test(while_the_index_is_made_nothing_old_is_told),
        cmocka_unit_test(an_update_stops_no_expiry),
        cmocka_unit_test(a_stream_that_needs_the_index_refuses_new_subjects),
        cmocka_unit_test(a_refused_message_drives_nothing_out),
        cmocka_unit_test(settings_without_sense_are_not_opened),
    };

    return cmocka_run_group_tests_name("stream/nats", tests, NULL, NULL);
}
