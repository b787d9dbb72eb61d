#include "unit/proto/test_sdk_world.h"

#include "broker/permission.h"

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

/* -- permissions (3.9, USR-10) -- */

static const char *wants_producer(struct world *w, const char *station)
{
    char body[192];

    snprintf(body, sizeof(body),
             "{\"name\":\"p\",\"station_name\":\"%s\",\"connection_id\":\"conn-1\","
             "\"producer_type\":\"application\",\"req_version\":4}",
             station);
    return ask(w, PRODUCER, body);
}

static const char *wants_consumer(struct world *w, const char *station)
{
    char body[256];

    snprintf(body, sizeof(body),
             "{\"name\":\"c\",\"station_name\":\"%s\",\"connection_id\":\"conn-1\","
             "\"consumer_type\":\"application\",\"start_consume_from_sequence\":1,"
             "\"last_messages\":-1,\"req_version\":4}",
             station);
    return ask(w, "$memphis_consumer_creations", body);
}

static void USR_10_requests_are_held_to_the_permissions_of_their_user(void **state)
{
    static const struct mp_user_row row = { .is_restricted = true,
                                            .allow_read = "in.*",
                                            .allow_write = "out.*" };
    static const char denied[] = "user ann is not allowed to access station %s";
    struct mp_grants *g = mp_grants_new(&row);
    struct world w;
    char text[96];

    (void)state;
    world_open(&w);
    make_station(&w, "in.a", 1);
    make_station(&w, "out.a", 1);
    make_station(&w, "other", 1);
    w.client.user = "ann";
    w.client.grants = g;

    assert_string_equal(asks(&w, "$memphis_station_creations",
                             "{'name':'in.b','partitions_number':1}"),
                        "user ann is not allowed to create station in.b");
    assert_string_equal(asks(&w, "$memphis_station_creations",
                             "{'name':'out.b','partitions_number':1}"),
                        "");
    assert_string_equal(asks(&w, "$memphis_station_creations",
                             "{'name':'out.c','partitions_number':1,"
                             "'dls_station':'in.a'}"),
                        "user ann is not allowed to access station in.a");
    /* Creating what is there makes nothing: no error, as for everybody. */
    assert_string_equal(asks(&w, "$memphis_station_creations",
                             "{'name':'other','partitions_number':1}"),
                        "");

    snprintf(text, sizeof(text), denied, "in.a");
    assert_non_null(strstr(wants_producer(&w, "in.a"), text));
    assert_non_null(strstr(wants_producer(&w, "out.a"), "\"error\":\"\""));
    assert_non_null(strstr(wants_producer(&w, "out.new"), "\"error\":\"\""));
    snprintf(text, sizeof(text), denied, "out.a");
    assert_string_equal(wants_consumer(&w, "out.a"), text);
    assert_non_null(strstr(wants_consumer(&w, "in.a"), "\"error\":\"\""));
    assert_string_equal(wants_consumer(&w, "in.new"),
                        "user ann is not allowed to create station in.new");

    snprintf(text, sizeof(text), denied, "in.a");
    assert_string_equal(asks(&w, "$memphis_producer_destructions",
                             "{'name':'p','station_name':'in.a',"
                             "'connection_id':'conn-1','req_version':1}"),
                        text);
    assert_string_equal(asks(&w, "$memphis_station_destructions",
                             "{'station_name':'in.a'}"),
                        text);
    assert_non_null(mp_station_find(w.broker, MP_STR("in.a")));
    assert_string_equal(asks(&w, "$memphis_station_destructions",
                             "{'station_name':'out.a'}"),
                        "");
    assert_null(mp_station_find(w.broker, MP_STR("out.a")));
    world_close(&w);
    mp_grants_free(g);
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
        leak_checked(USR_10_requests_are_held_to_the_permissions_of_their_user),
    };

    return run_tests("proto/sdk", tests);
}
