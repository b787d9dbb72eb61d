#include "unit/stream/world.h"

#include "base/status.h"
#include "stream/consumer.h"
#include "stream/nats.h"

/* A stream "S" on "s.>" with these settings (' for "). */
static struct world *world(const char *settings)
{
    return world_with_nats("S", "s.>", settings);
}

static void send(struct world *w, const char *subject, const char *payload)
{
    publish_with(w, subject, "", "", payload);
    settle_down(w);
}

/* A consumer "c" of that configuration. */
static struct mp_stream_group *consumer(struct world *w, const char *config)
{
    struct mp_consumer_config *o;
    struct mp_stream_group_config g = { .name = "c", .filter = "", .plain = true };
    char text[512];

    snprintf(text, sizeof(text), "{'durable_name':'c'%s}", config);
    for (char *p = text; *p != 0; p++)
        *p = *p == '\'' ? '"' : *p;
    assert_int_equal(mp_consumer_config_parse(mp_slice_text(text), &o, NULL),
                     MEMPHIS_OK);
    assert_int_equal(mp_consumer_start_of(w->stream, o, &g.start, &g.asked_start),
                     MEMPHIS_OK);
    g.policy = o->policy;
    g.nats = o->text;
    g.group = (struct mp_group_config){ .ack_wait_ns = o->ack_wait_ns,
                                        .deliveries_max = o->deliveries_max,
                                        .pending_max = o->pending_max };
    if (g.group.ack_wait_ns < MILLI)
        g.group.ack_wait_ns = MILLI;
    create_group(w, &g);
    mp_consumer_config_free(o);
    settle_down(w);
    return group(w, "c");
}

/* What came to the inbox: "payload(pending) ..." */
static const char *came(struct world *w)
{
    static char text[512];
    size_t n = 0;

    text[0] = 0;
    for (int i = 0; i < w->heard_count; i++) {
        const char *dot = strrchr(w->heard[i].reply, '.');

        if (strncmp(w->heard[i].headers, "NATS/1.0 1", 10) == 0 ||
            strncmp(w->heard[i].headers, "NATS/1.0 4", 10) == 0)
            n += (size_t)snprintf(text + n, sizeof(text) - n, "[%.3s] ",
                                  w->heard[i].headers + 9);
        else
            n += (size_t)snprintf(text + n, sizeof(text) - n, "%s(%s) ",
                                  w->heard[i].payload, dot != NULL ? dot + 1 : "");
    }
    forget(w);
    return text;
}

static const char *fetch(struct world *w, uint32_t n)
{
    forget(w);
    pull(group(w, "c"), n, "_INBOX.p");
    settle_down(w);
    return came(w);
}

static void fill(struct world *w)
{
    send(w, "s.a", "a1");
    send(w, "s.b", "b1");
    send(w, "s.a", "a2");
    send(w, "s.c", "c1");
    send(w, "s.b", "b2");
}

static void several_filters_count_what_matches(void **state)
{
    struct world *w = world(",'max_msgs_per_subject':10");

    (void)state;
    fill(w);
    consumer(w, ",'filter_subjects':['s.a','s.c']");
    assert_int_equal(mp_consumer_unseen(group(w, "c")), 3);
    assert_string_equal(fetch(w, 2), "a1(2) a2(1) ");
    send(w, "s.b", "b3");
    send(w, "s.a", "a3");
    assert_int_equal(mp_consumer_unseen(group(w, "c")), 2);
    assert_string_equal(fetch(w, 2), "c1(1) a3(0) ");
    world_free(w);
}

static void pending_messages_are_counted_without_lists_too(void **state)
{
    struct world *w = world("");

    (void)state;
    fill(w);
    consumer(w, ",'filter_subject':'s.b'");
    assert_string_equal(fetch(w, 1), "b1(1) ");
    world_free(w);
}

static void what_goes_is_pending_no_more(void **state)
{
    struct world *w = world(",'max_msgs_per_subject':1");

    (void)state;
    send(w, "s.a", "a1");
    send(w, "s.b", "b1");
    consumer(w, "");
    assert_int_equal(mp_consumer_unseen(group(w, "c")), 2);
    send(w, "s.a", "a2"); /* drives out a1 */
    assert_int_equal(mp_consumer_unseen(group(w, "c")), 2);
    assert_string_equal(fetch(w, 2), "b1(1) a2(0) ");
    world_free(w);
}

static void a_removed_message_is_pending_no_more(void **state)
{
    struct world *w = world(",'max_msgs_per_subject':5");
    uint64_t seqs[] = { 1, 3 };
    struct mp_buf b = { 0 };
    struct mp_entry e = { .type = MP_ENTRY_DELETE, .pid = PID, .seq = 1 };

    (void)state;
    fill(w);
    consumer(w, ",'deliver_policy':'last_per_subject'");
    assert_int_equal(mp_consumer_unseen(group(w, "c")), 3);
    mp_stream_removal_encode(seqs, 2, &b); /* all of s.a, by somebody else */
    e.payload = mp_buf_slice(&b);
    assert_int_equal(mp_log_append(w->log, &e, 1, 77), MEMPHIS_OK);
    mp_buf_fini(&b);
    settle_down(w);
    assert_int_equal(mp_nats_subjects_count(w->stream), 2);
    assert_string_equal(fetch(w, 2), "c1(1) b2(0) ");
    world_free(w);
}

static void the_last_of_each_subject_comes_first(void **state)
{
    struct world *w = world(",'max_msgs_per_subject':5");

    (void)state;
    fill(w);
    consumer(w, ",'deliver_policy':'last_per_subject'");
    assert_int_equal(mp_consumer_unseen(group(w, "c")), 3);
    assert_string_equal(fetch(w, 3), "a2(2) c1(1) b2(0) ");
    send(w, "s.a", "a3");
    send(w, "s.a", "a4");
    assert_string_equal(fetch(w, 2), "a3(1) a4(0) ");
    world_free(w);
}

static void a_consumer_starts_where_it_was_told(void **state)
{
    static const struct {
        const char *config;
        uint64_t start;
    } cases[] = {
        { "{'name':'x','deliver_policy':'last'}", 5 },
        { "{'name':'x','deliver_policy':'last','filter_subject':'s.a'}", 3 },
        { "{'name':'x','deliver_policy':'last','filter_subject':'s.none'}", 6 },
        { "{'name':'x','deliver_policy':'new'}", 6 },
        { "{'name':'x','deliver_policy':'by_start_sequence','opt_start_seq':4}", 4 },
        { "{'name':'x','deliver_policy':'by_start_time',"
          "'opt_start_time':'1970-01-01T00:00:01Z'}",
          1 },
        { "{'name':'x','deliver_policy':'by_start_time',"
          "'opt_start_time':'2999-01-01T00:00:01Z'}",
          6 },
    };
    struct world *w = world("");
    char text[256];

    (void)state;
    fill(w);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct mp_consumer_config *o;
        uint64_t start, asked;

        snprintf(text, sizeof(text), "%s", cases[i].config);
        for (char *p = text; *p != 0; p++)
            *p = *p == '\'' ? '"' : *p;
        assert_int_equal(mp_consumer_config_parse(mp_slice_text(text), &o, NULL),
                         MEMPHIS_OK);
        assert_int_equal(mp_consumer_start_of(w->stream, o, &start, &asked),
                         MEMPHIS_OK);
        assert_int_equal(start, cases[i].start);
        mp_consumer_config_free(o);
    }
    world_free(w);
}

static void without_acks_a_message_is_settled_when_it_goes_out(void **state)
{
    struct world *w = world("");

    (void)state;
    fill(w);
    consumer(w, "");
    fetch(w, 3);
    assert_int_equal(group(w, "c")->group.pending.count, 0);
    assert_int_equal(group(w, "c")->group.floor, 3);
    world_free(w);
}

static void an_ack_of_all_settles_what_came_before(void **state)
{
    struct world *w = world("");

    (void)state;
    fill(w);
    consumer(w, ",'ack_policy':'all'");
    fetch(w, 5);
    assert_int_equal(group(w, "c")->group.pending.count, 5);
    settle(group(w, "c"), 4, "+ACK");
    assert_int_equal(group(w, "c")->group.pending.count, 1);
    assert_int_equal(group(w, "c")->group.floor, 4);
    world_free(w);
}

static void each_delivery_waits_as_its_number_says(void **state)
{
    struct world *w = world("");

    (void)state;
    send(w, "s.a", "a1");
    consumer(w, ",'ack_policy':'explicit','backoff':[100000000,400000000]");
    assert_string_equal(fetch(w, 1), "a1(0) ");
    pull(group(w, "c"), 5, "_INBOX.p");
    pass(w, 90);
    assert_int_equal(w->heard_count, 0);
    pass(w, 20);
    assert_string_equal(came(w), "a1(0) "); /* after 100 ms; the next after 400 */
    pass(w, 300);
    settle(group(w, "c"), 1, "+WPI");
    pass(w, 380);
    assert_int_equal(w->heard_count, 0);
    pass(w, 30);
    assert_string_equal(came(w), "a1(0) ");
    settle(group(w, "c"), 1, "+ACK");
    assert_int_equal(group(w, "c")->group.pending.count, 0);
    world_free(w);
}

static void headers_only_tells_the_size(void **state)
{
    struct world *w = world("");

    (void)state;
    send(w, "s.a", "seven!!");
    publish_with(w, "s.a", "", "NATS/1.0\r\nk: v\r\n\r\n", "x");
    settle_down(w);
    consumer(w, ",'headers_only':true");
    forget(w);
    pull(group(w, "c"), 2, "_INBOX.p");
    settle_down(w);
    assert_string_equal(w->heard[0].payload, "");
    assert_string_equal(w->heard[0].headers, "NATS/1.0\r\nNats-Msg-Size: 7\r\n\r\n");
    assert_string_equal(w->heard[1].headers,
                        "NATS/1.0\r\nk: v\r\nNats-Msg-Size: 1\r\n\r\n");
    world_free(w);
}

static void a_push_consumer_waits_for_its_listener(void **state)
{
    struct world *w = world("");
    struct mp_subscription *s;

    (void)state;
    send(w, "s.a", "a1");
    consumer(w, ",'deliver_subject':'to.me','idle_heartbeat':1000000000");
    pass(w, 1500);
    assert_int_equal(w->heard_count, 0);
    assert_int_equal(group(w, "c")->group.dseq, 0);
    assert_int_equal(
        mp_bus_subscribe(w->host.bus, &w->client, MP_STR("to.*"), MP_STR(""), &s),
        MEMPHIS_OK);
    settle_down(w);
    assert_string_equal(came(w), "a1(0) ");
    send(w, "s.a", "a2");
    assert_string_equal(came(w), "a2(0) ");
    pass(w, 1100);
    assert_string_equal(came(w), "[100] ");
    mp_bus_unsubscribe(w->host.bus, s);
    send(w, "s.a", "a3"); /* nobody is there: nothing is used up */
    assert_int_equal(group(w, "c")->group.dseq, 2);
    listen_to(w, "to.me");
    settle_down(w);
    assert_string_equal(came(w), "a3(0) ");
    world_free(w);
}

static void flow_control_holds_back_who_does_not_answer(void **state)
{
    struct world *w = world("");
    char payload[60 << 10];
    int messages = 0, questions = 0;

    (void)state;
    memset(payload, 'x', sizeof(payload) - 1);
    payload[sizeof(payload) - 1] = 0;
    for (int i = 0; i < 40; i++)
        send(w, "s.a", payload);
    listen_to(w, "to.me");
    consumer(w, ",'deliver_subject':'to.me','flow_control':true,"
                "'idle_heartbeat':1000000000");
    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < w->heard_count; i++) {
            if (strstr(w->heard[i].headers, "FlowControl") != NULL) {
                questions++;
                assert_non_null(strstr(w->heard[i].reply, "$JS.FC.S.c."));
            } else if (strstr(w->heard[i].reply, "$JS.ACK") != NULL) {
                messages++;
            }
        }
        assert_int_equal(questions, 1);
        assert_true(messages >= 8 && messages <= 12); /* two windows, about */
        forget(w);
        pass(w, 400);
    }
    pass(w, 1000); /* the heartbeat says what it waits for */
    assert_non_null(strstr(w->heard[0].headers, "Nats-Consumer-Stalled: $JS.FC.S.c.1"));
    forget(w);
    mp_consumer_flow(group(w, "c"));
    settle_down(w);
    assert_true(w->heard_count > 3);
    world_free(w);
}

static void a_consumer_that_nobody_uses_goes(void **state)
{
    struct world *w = world("");

    (void)state;
    consumer(w, ",'inactive_threshold':1000000000");
    pass(w, 900);
    assert_non_null(group(w, "c"));
    pull(group(w, "c"), 1, "_INBOX.p"); /* waits a minute */
    pass(w, 3000);
    assert_non_null(group(w, "c"));
    mp_stream_pull_cancel(group(w, "c"), MP_STR("_INBOX.p"));
    pass(w, 2500);
    settle_down(w);
    assert_null(group(w, "c"));
    world_free(w);
}

static void a_consumer_survives_a_start(void **state)
{
    struct world *w = world(",'max_msgs_per_subject':5");

    (void)state;
    fill(w);
    consumer(w, ",'filter_subjects':['s.a','s.c'],'ack_policy':'explicit'");
    fetch(w, 1);
    settle(group(w, "c"), 1, "+ACK");
    settle_down(w);
    restart(w);
    assert_non_null(group(w, "c")->nats);
    assert_string_equal(fetch(w, 5), "a2(1) c1(0) ");
    world_free(w);
}

static void an_update_changes_the_filter(void **state)
{
    struct world *w = world(",'max_msgs_per_subject':5");
    struct mp_buf b = { 0 };
    struct mp_group_config now = { .ack_wait_ns = 5000 * MILLI };

    (void)state;
    fill(w);
    consumer(w, ",'filter_subject':'s.a'");
    mp_stream_group_update_encode(
        group(w, "c"), &now,
        "{\"durable_name\":\"c\",\"filter_subject\":\"s.c\",\"max_ack_pending\":7,"
        "\"ack_policy\":\"explicit\"}",
        &b);
    append_group(w, &b);
    settle_down(w);
    assert_int_equal(group(w, "c")->group.config.pending_max, 7);
    assert_string_equal(fetch(w, 5), "c1(0) ");
    world_free(w);
}

static void with_interest_a_message_stays_until_all_have_settled_it(void **state)
{
    struct world *w = world(",'retention':'interest','max_msgs':4");

    (void)state;
    send(w, "s.a", "nobody is interested");
    pass(w, 20);
    assert_false(mp_log_has(w->log, PID, 1));
    consumer(w, ",'ack_policy':'explicit'");
    for (int i = 0; i < 3; i++)
        send(w, "s.a", "m");
    fetch(w, 3);
    settle(group(w, "c"), 3, "+ACK");
    settle_down(w);
    pass(w, 20);
    assert_true(mp_log_has(w->log, PID, 2));
    assert_false(mp_log_has(w->log, PID, 3));
    assert_true(mp_log_has(w->log, PID, 4));
    for (int i = 0; i < 4; i++) /* the other limit holds as well */
        send(w, "s.a", "m");
    pass(w, 20);
    assert_false(mp_log_has(w->log, PID, 2));
    world_free(w);
}

static void a_work_queue_lets_go_of_what_is_acknowledged(void **state)
{
    struct world *w = world(",'retention':'workqueue'");

    (void)state;
    fill(w);
    assert_true(mp_log_has(w->log, PID, 1)); /* kept without a consumer */
    consumer(w, ",'ack_policy':'explicit','filter_subject':'s.a'");
    fetch(w, 2);
    settle(group(w, "c"), 3, "+ACK");
    settle_down(w);
    pass(w, 20);
    assert_true(mp_log_has(w->log, PID, 1));
    assert_true(mp_log_has(w->log, PID, 2)); /* nobody wants it: it stays */
    assert_false(mp_log_has(w->log, PID, 3));
    restart(w);
    assert_false(mp_log_has(w->log, PID, 3));
    world_free(w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(several_filters_count_what_matches),
        cmocka_unit_test(pending_messages_are_counted_without_lists_too),
        cmocka_unit_test(what_goes_is_pending_no_more),
        cmocka_unit_test(a_removed_message_is_pending_no_more),
        cmocka_unit_test(the_last_of_each_subject_comes_first),
        cmocka_unit_test(a_consumer_starts_where_it_was_told),
        cmocka_unit_test(without_acks_a_message_is_settled_when_it_goes_out),
        cmocka_unit_test(an_ack_of_all_settles_what_came_before),
        cmocka_unit_test(each_delivery_waits_as_its_number_says),
        cmocka_unit_test(headers_only_tells_the_size),
        cmocka_unit_test(a_push_consumer_waits_for_its_listener),
        cmocka_unit_test(flow_control_holds_back_who_does_not_answer),
        cmocka_unit_test(a_consumer_that_nobody_uses_goes),
        cmocka_unit_test(a_consumer_survives_a_start),
        cmocka_unit_test(an_update_changes_the_filter),
        cmocka_unit_test(with_interest_a_message_stays_until_all_have_settled_it),
        cmocka_unit_test(a_work_queue_lets_go_of_what_is_acknowledged),
    };

    return cmocka_run_group_tests_name("stream/consumer", tests, NULL, NULL);
}
