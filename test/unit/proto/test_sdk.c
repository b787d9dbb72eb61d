#include "unit/proto/test_sdk_world.h"

#include "proto/sdk_text.h"

#define CREATE "$memphis_station_creations"
#define PRODUCER "$memphis_producer_creations"

static void notices_are_taken_without_a_word(void **state) /* 2.12 to 2.15 */
{
    static const char *const subjects[] = {
        "$memphis_notifications", "$memphis_pm_acks", "$memphis_nacked_dls",
        "$memphis_schemaverse_dls",
    };
    struct world w;

    (void)state;
    world_open(&w);

    for (size_t i = 0; i < 4; i++) {
        assert_null(asks(&w, subjects[i], "{'partition':0}"));
        assert_int_equal(w.responders, 1);
    }
    world_close(&w);
}

static void schemas_are_refused_in_the_style_of_the_subject(void **state) /* 2.8 */
{
    struct world w;

    (void)state;
    world_open(&w);

    assert_shape(asks(&w, "$memphis_schema_creations", "{'name':'s','type':'json'}"),
                 "{'error':'schemas are not supported by this release'}");
    assert_string_equal(asks(&w, "$memphis_schema_attachments", "{'name':'s'}"),
                        "schemas are not supported by this release");
    assert_string_equal(asks(&w, "$memphis_schema_detachments", "{}"),
                        "schemas are not supported by this release");
    world_close(&w);
}

static void a_new_connection_hears_its_init_notice(void **state) /* 2.7 */
{
    struct world w;

    (void)state;
    world_open(&w);
    listen_to(&w, "$memphis_configurations_updates.init.conn-1");

    mp_sdk_connection_up(w.broker, "conn-1");
    mp_sdk_connection_up(w.broker, "another");
    mp_sdk_connection_up(w.broker, "a b\r\n*"); /* no subject at all */

    assert_int_equal(w.heard_count, 1);
    assert_shape(w.heard[0].payload, "{'notifications':false}");
    world_close(&w);
}

static void requests_have_no_responder_after_the_stop(void **state)
{
    struct world w;

    (void)state;
    world_open(&w);
    publish(&w, "$memphis_services_end.sdk", "", "");
    assert_int_equal(w.responders, 0); /* no client ends a service */

    mp_sdk_stop(w.broker);

    assert_null(asks(&w, CREATE, "{'name':'x','partitions_number':1}"));
    assert_int_equal(w.responders, 0);
    mp_sdk_stop(w.broker);
    mp_sdk_stop(NULL);
    world_close(&w);
}

static void a_request_that_is_on_its_way_is_freed_with_the_broker(void **state)
{
    struct world w;

    (void)state;
    world_open(&w);

    publish(&w, PRODUCER, "_INBOX.late",
            "{\"name\":\"p\",\"station_name\":\"s\",\"producer_type\":\"application\","
            "\"req_version\":4}");

    world_close(&w); /* the teardown counts the blocks */
}

static void texts_that_sdks_compare_are_pinned(void **state) /* 7.2 */
{
    (void)state;
    assert_non_null(strstr(MP_TEXT_STATION_GONE, "not exist"));
    assert_string_equal(MP_TEXT_CONSUMER_NOT_FOUND, "consumer not found");
    assert_string_equal(MP_TEXT_STREAM_NOT_FOUND, "stream not found");
    assert_string_equal(MP_TEXT_UNAVAILABLE,
                        "JetStream system temporarily unavailable");
    assert_null(strstr(MP_TEXT_NO_SCHEMAS, "already exist"));
    assert_null(strstr(MP_TEXT_NO_SCHEMAS, "not exist"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        leak_checked(notices_are_taken_without_a_word),
        leak_checked(schemas_are_refused_in_the_style_of_the_subject),
        leak_checked(a_new_connection_hears_its_init_notice),
        leak_checked(requests_have_no_responder_after_the_stop),
        leak_checked(a_request_that_is_on_its_way_is_freed_with_the_broker),
        leak_checked(texts_that_sdks_compare_are_pinned),
    };

    return run_tests("proto/sdk", tests);
}
