#include "unit/proto/test_sdk_world.h"

static void unknown_api_subjects_have_no_responder(void **state) /* 9, item 9 */
{
    static const char *const subjects[] = {
        API "FOO.BAR", API "STREAM.INFO", API "STREAM.INFO.a.b",
        API "CONSUMER.INFO.jb$1",
        API "INFO.x", API "INFOX", API "DIRECT.GET.jb$1", API "CONSUMER.MSG.NEXT.jb$1",
        API "CONSUMER.MSG.NEXT.jb$1.nosuch", API "CONSUMER.MSG.NEXT.nosuch.g1",
        API "CONSUMER.CREATE", "$JS.ACK.jb$1.nosuch.1.1.1.1.0",
        "$JS.ACK.nosuch$1.g1.1.1.1.1.0", "$JS.ACK.jb$1.g1.1.1.1.1",
    };
    struct world w;

    (void)state;
    world_open(&w);
    make_station(&w, "jb", 1);
    make_consumer(&w, "jb", "g1");

    for (size_t i = 0; i < sizeof(subjects) / sizeof(subjects[0]); i++) {
        assert_null(asks(&w, subjects[i], ""));
        assert_int_equal(w.responders, 0);
    }
    world_close(&w);
}

static void the_key_partition_0_of_js_is_the_last_one(void **state) /* 9, item 31 */
{
    struct world w;
    const char *answer;

    (void)state;
    world_open(&w);
    make_station(&w, "a.b", 3);
    make_consumer(&w, "a.b", "g1");

    assert_non_null(strstr(asks(&w, API "CONSUMER.INFO.a#b$0.g1", ""), "not found"));
    w.client.lang = "nats.js";
    answer = asks(&w, API "CONSUMER.INFO.a#b$0.g1", "");
    assert_non_null(strstr(answer, "\"stream_name\":\"a#b$3\""));
    assert_non_null(strstr(asks(&w, API "CONSUMER.INFO.A#b$0.g1", ""), "not found"));
    assert_non_null(strstr(asks(&w, API "CONSUMER.INFO.c$0.g1", ""), "not found"));

    ask(&w, "a#b$3.final", "m");
    forget(&w);
    publish(&w, API "CONSUMER.MSG.NEXT.a#b$0.g1", "_INBOX.p", "");
    settle_down(&w);
    assert_int_equal(w.responders, 1);
    assert_int_equal(w.heard_count, 1);
    assert_string_equal(w.heard[0].subject, "a#b$3.final");
    world_close(&w);
}

static void the_api_has_no_responder_after_the_stop(void **state)
{
    struct world w;

    (void)state;
    world_open(&w);
    publish(&w, "$memphis_services_end.jsapi", "", "");
    assert_int_equal(w.responders, 0); /* no client ends a service */

    mp_jsapi_stop(w.broker);

    assert_null(asks(&w, API "INFO", ""));
    assert_int_equal(w.responders, 0);
    mp_jsapi_stop(NULL);
    world_close(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        leak_checked(unknown_api_subjects_have_no_responder),
        leak_checked(the_key_partition_0_of_js_is_the_last_one),
        leak_checked(the_api_has_no_responder_after_the_stop),
    };

    return run_tests("proto/jsapi", tests);
}
