#include "unit/proto/test_sdk_world.h"

static void world_with_streams(struct world *w)
{
    world_open(w);
    asks(w, API "STREAM.CREATE.D",
         "{'name':'D','subjects':['d.>'],'allow_direct':true,"
         "'max_msgs_per_subject':5}");
    asks(w, API "STREAM.CREATE.N", "{'name':'N','subjects':['n.>']}");
    for (int i = 0; i < 3; i++) {
        asks(w, "d.a", "one");
        asks(w, "d.b.c", "two");
        asks(w, "n.a", "m");
    }
}

/* The headers of the answer, whose payload is in w->heard[0]. NULL: no responder. */
static const char *direct(struct world *w, const char *subject, const char *body)
{
    char full[200], text[200];
    size_t i;

    for (i = 0; body[i] != 0; i++)
        text[i] = body[i] == '\'' ? '"' : body[i];
    text[i] = 0;
    snprintf(full, sizeof(full), API "DIRECT.GET.%s", subject);
    forget(w);
    publish(w, full, "_INBOX.d", text);
    settle_down(w);
    return w->heard_count > 0 ? w->heard[0].headers : NULL;
}

static void a_direct_get_answers_with_the_message(void **state)
{
    struct world w;

    (void)state;
    world_with_streams(&w);
    assert_shape(direct(&w, "D", "{'seq':3}"),
                 "NATS/1.0\r\nNats-Stream: D\r\nNats-Subject: d.a\r\nNats-Sequence: 3"
                 "\r\nNats-Time-Stamp: #\r\n\r\n");
    assert_string_equal(w.heard[0].payload, "one");
    assert_string_equal(w.heard[0].subject, "_INBOX.d");
    assert_non_null(strstr(direct(&w, "D", "{'last_by_subj':'d.b.c'}"), "Sequence: 6"));
    assert_non_null(
        strstr(direct(&w, "D", "{'seq':3,'next_by_subj':'d.*.c'}"), "Sequence: 4"));
    assert_non_null(strstr(direct(&w, "D.d.b.c", ""), "Sequence: 6"));
    assert_non_null(strstr(direct(&w, "D.d.a", ""), "Sequence: 5"));
    assert_string_equal(direct(&w, "D.d.none", ""),
                        "NATS/1.0 404 Message Not Found\r\n\r\n");
    assert_string_equal(direct(&w, "D", "{'seq':30}"),
                        "NATS/1.0 404 Message Not Found\r\n\r\n");
    assert_string_equal(direct(&w, "D", ""), "NATS/1.0 408 Empty Request\r\n\r\n");
    assert_string_equal(direct(&w, "D", "{'multi_last':['d.>']}"),
                        "NATS/1.0 408 Bad Request\r\n\r\n");
    assert_null(direct(&w, "N", "{'seq':1}")); /* it does not allow that */
    assert_null(direct(&w, "none", "{'seq':1}"));
    world_close(&w);
}

static void the_headers_of_the_message_stay_in_front(void **state)
{
    struct world w;
    struct mp_message m = { .subject = MP_STR("d.h"),
                            .headers = MP_STR("NATS/1.0\r\nk: v\r\n\r\n") };

    (void)state;
    world_with_streams(&w);
    mp_bus_publish(w.broker->bus, &w.client, &m);
    settle_down(&w);
    assert_shape(direct(&w, "D.d.h", ""),
                 "NATS/1.0\r\nk: v\r\nNats-Stream: D\r\nNats-Subject: d.h\r\n"
                 "Nats-Sequence: 7\r\nNats-Time-Stamp: #\r\n\r\n");
    world_close(&w);
}

/* More than one turn of a scan passes. */
static void publish_many(struct world *w, const char *subject)
{
    struct mp_message m = { .subject = mp_slice_text(subject) };

    for (int i = 0; i < 9000; i++) {
        mp_bus_publish(w->broker->bus, &w->client, &m);
        if (i % 1000 == 0)
            settle_down(w);
    }
    settle_down(w);
}

/* Without a list, and far from the end: found by a scan over several turns. */
static void the_last_one_of_a_subject_is_found_however_far(void **state)
{
    struct world w;

    (void)state;
    world_with_streams(&w);
    publish_many(&w, "n.b");
    assert_non_null(strstr(asks(&w, API "STREAM.MSG.GET.N", "{'last_by_subj':'*.a'}"),
                           "\"seq\":3,"));
    assert_non_null(
        strstr(asks(&w, API "STREAM.MSG.GET.N", "{'last_by_subj':'x'}"), ":10037,"));
    assert_non_null(strstr(
        asks(&w, API "STREAM.MSG.GET.N", "{'seq':4,'next_by_subj':'n.a'}"), ":10037,"));
    world_close(&w);
}

static void a_search_ends_with_its_stream(void **state)
{
    struct world w;

    (void)state;
    world_with_streams(&w);
    publish_many(&w, "n.b");
    forget(&w);
    publish(&w, API "STREAM.MSG.GET.N", "_INBOX.g", "{\"last_by_subj\":\"x\"}");
    publish(&w, API "STREAM.DELETE.N", "_INBOX.x", "");
    settle_down(&w);
    assert_int_equal(w.heard_count, 2);
    world_close(&w);
}

static void the_subjects_of_a_stream_are_counted(void **state)
{
    struct world w;

    (void)state;
    world_with_streams(&w);
    assert_non_null(strstr(asks(&w, API "STREAM.INFO.D", "{'subjects_filter':'>'}"),
                           "\"subjects\":{\"d.a\":3,\"d.b.c\":3}"));
    assert_non_null(strstr(asks(&w, API "STREAM.INFO.D", "{'subjects_filter':'d.*'}"),
                           "\"total\":1,\"offset\":0,\"limit\":100000,"));
    assert_non_null(
        strstr(asks(&w, API "STREAM.INFO.D", "{'subjects_filter':'>','offset':1}"),
               "\"subjects\":{\"d.b.c\":3}"));
    asks(&w, API "STREAM.MSG.DELETE.D", "{'seq':2}");
    asks(&w, API "STREAM.MSG.DELETE.D", "{'seq':5}");
    assert_non_null(strstr(asks(&w, API "STREAM.INFO.D", "{'deleted_details':true}"),
                           "\"num_deleted\":2,\"deleted\":[2,5]"));
    assert_non_null(
        strstr(asks(&w, API "STREAM.INFO.D", "{'subjects_filter':'a..b'}"), ":10003,"));
    world_close(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_direct_get_answers_with_the_message),
        cmocka_unit_test(the_headers_of_the_message_stay_in_front),
        cmocka_unit_test(the_last_one_of_a_subject_is_found_however_far),
        cmocka_unit_test(a_search_ends_with_its_stream),
        cmocka_unit_test(the_subjects_of_a_stream_are_counted),
    };

    return cmocka_run_group_tests_name("proto/jsapi_message", tests, NULL, NULL);
}
