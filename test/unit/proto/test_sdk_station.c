#include "unit/proto/test_sdk_world.h"

#define CREATE "$memphis_station_creations"
#define DESTROY "$memphis_station_destructions"

static struct mp_station *station(struct world *w, const char *name)
{
    return mp_station_find(w->broker, mp_slice_text(name));
}

static void a_station_is_created_with_the_body_of_the_go_sdk(void **state)
{
    struct world w;
    struct mp_station *s;

    (void)state;
    world_open(&w);

    assert_string_equal(
        asks(&w, CREATE,
             "{'name':'Orders.EU','retention_type':'messages','retention_value':50,"
             "'storage_type':'memory','replicas':1,'idempotency_window_in_ms':5000,"
             "'schema_name':'','dls_configuration':{'poison':true,'schemaverse':false},"
             "'username':'nobody','tiered_storage_enabled':false,'partitions_number':3,"
             "'dls_station':''}"),
        "");

    s = station(&w, "orders.eu");
    assert_non_null(s);
    assert_string_equal(s->name, "orders.eu");
    assert_string_equal(s->internal, "orders#eu");
    assert_int_equal(s->settings.partitions, 3);
    assert_int_equal(s->settings.retention, MP_RETAIN_MESSAGES);
    assert_int_equal(s->settings.retention_value, 50);
    assert_int_equal(s->settings.storage, MP_STORAGE_MEMORY);
    assert_int_equal(s->settings.idempotency_ms, 5000);
    assert_true(s->settings.dls_poison);
    assert_false(s->settings.dls_schema);
    /* Whoever the body names: the user is the connection's (9, item 1). */
    assert_string_equal(
        mp_meta_station(w.broker->meta, mp_slice_text("orders.eu"))->created_by,
        "root");
    world_close(&w);
}

static void keys_of_a_body_match_in_any_case(void **state) /* 2.0 */
{
    struct world w;

    (void)state;
    world_open(&w);

    assert_string_equal(asks(&w, CREATE,
                             "{'NAME':'caps','PARTITIONS_NUMBER':1,"
                             "'dls_configuration':{'Poison':true,'SchemaVerse':true}}"),
                        "");

    assert_true(station(&w, "caps")->settings.dls_poison);
    assert_true(station(&w, "caps")->settings.dls_schema);
    world_close(&w);
}

static void the_window_of_dot_net_is_read_under_its_misspelt_key(void **state)
{
    struct world w;

    (void)state;
    world_open(&w);

    assert_string_equal(asks(&w, CREATE,
                             "{'name':'n','partitions_number':1,"
                             "'idempotency_windows_in_ms':777}"),
                        "");

    assert_int_equal(station(&w, "n")->settings.idempotency_ms, 777);
    world_close(&w);
}

static void an_existing_station_is_no_error_and_stays_as_it_is(void **state) /* 2.1 */
{
    struct world w;

    (void)state;
    world_open(&w);
    make_station(&w, "orders", 2);

    assert_string_equal(asks(&w, CREATE, "{'name':'ORDERS','partitions_number':5}"),
                        "");
    /* Nothing behind the name is looked at any more. */
    assert_string_equal(asks(&w, CREATE, "{'name':'orders'}"), "");

    assert_int_equal(station(&w, "orders")->settings.partitions, 2);
    world_close(&w);
}

static void racing_creations_of_one_station_all_succeed(void **state) /* 9, item 39 */
{
    struct world w;
    int empty = 0;

    (void)state;
    world_open(&w);

    for (int i = 0; i < 8; i++)
        publish(&w, CREATE, "_INBOX.race",
                "{\"name\":\"race\",\"partitions_number\":2}");
    settle_down(&w);

    for (int i = 0; i < w.heard_count; i++)
        empty += w.heard[i].payload[0] == 0;
    assert_int_equal(w.heard_count, 8);
    assert_int_equal(empty, 8);
    world_close(&w);
}

static void every_wrong_setting_of_a_station_has_its_text(void **state) /* 2.1 */
{
    static const struct {
        const char *body, *text;
    } cases[] = {
        { "{'name':'','partitions_number':1}", "Station name can not be empty" },
        { "{'name':'a b','partitions_number':1}",
          "Only alphanumeric and the '_', '-', '.' characters are allowed in Station" },
        { "{'name':'a#b','partitions_number':1}",
          "Only alphanumeric and the '_', '-', '.' characters are allowed in Station" },
        { "{'name':'_a','partitions_number':1}",
          "Station name can not start or end with non alphanumeric character" },
        { "{'name':'x'}", "you are using an old SDK, make sure to update your SDK" },
        { "{'name':'x','partitions_number':-1}",
          "cannot create station with -1 partitions (max:10000 min:1): "
          "Station -  x, " },
        { "{'name':'x','partitions_number':10001}",
          "cannot create station with 10001 partitions (max:10000 min:1): "
          "Station -  x, " },
        { "{'name':'x','partitions_number':4294967297}",
          "cannot create station with 2147483647 partitions (max:10000 min:1): "
          "Station -  x, " },
        { "{'name':'x','partitions_number':1,'schema_name':'NoSuch',"
          "'retention_type':'foo'}",
          "Schema nosuch does not exist" },
        { "{'name':'x','partitions_number':1,'retention_type':'foo',"
          "'storage_type':'disk'}",
          "retention type can be one of the following "
          "message_age_sec/messages/bytes/ack_based" },
        { "{'name':'x','partitions_number':1,'storage_type':'disk','replicas':3}",
          "storage type can be one of the following file/memory" },
        { "{'name':'x','partitions_number':1,'replicas':2,"
          "'idempotency_window_in_ms':86400001}",
          "station can not be created, probably since replicas count is larger than "
          "the cluster size" },
        { "{'name':'x','partitions_number':1,'idempotency_window_in_ms':86400001}",
          "idempotency window can not exceed 24 hours" },
        { "{'name':'x','partitions_number':1,'idempotency_window_in_ms':86400000}",
          "idempotency window cannot be greater than the station retention" },
        { "{'name':'x','partitions_number':1,'dls_station':'bad name'}",
          "Only alphanumeric and the '_', '-', '.' characters are allowed in Station" },
        { "[]", "the request must be a JSON object" },
        { "{'name':5}", "name must be a string" },
        { "null", "Station name can not be empty" },
    };
    struct world w;

    (void)state;
    world_open(&w);

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        assert_string_equal(asks(&w, CREATE, cases[i].body), cases[i].text);

    assert_null(station(&w, "x"));
    assert_int_equal(w.broker->counters.stations, 0);
    world_close(&w);
}

static void retention_falls_back_to_its_default(void **state) /* 2.1 */
{
    static const struct {
        const char *fields;
        uint32_t retention;
        uint64_t value;
    } cases[] = {
        { "'retention_type':'','retention_value':60", MP_RETAIN_AGE, 3600 },
        { "'retention_type':'messages','retention_value':0", MP_RETAIN_AGE, 3600 },
        { "'retention_type':'bytes','retention_value':-1", MP_RETAIN_AGE, 3600 },
        { "'retention_type':'ACK_based','retention_value':0", MP_RETAIN_ACKED, 0 },
        { "'retention_type':'MESSAGES','retention_value':5", MP_RETAIN_MESSAGES, 5 },
    };
    struct world w;

    (void)state;
    world_open(&w);

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char body[160], name[8];

        snprintf(name, sizeof(name), "r%zu", i);
        snprintf(body, sizeof(body), "{'name':'%s','partitions_number':1,%s}", name,
                 cases[i].fields);
        assert_string_equal(asks(&w, CREATE, body), "");
        assert_int_equal(station(&w, name)->settings.retention, cases[i].retention);
        assert_int_equal(station(&w, name)->settings.retention_value, cases[i].value);
    }
    world_close(&w);
}

static void a_missing_dead_letter_station_is_made_too(void **state) /* 2.1 */
{
    struct world w;

    (void)state;
    world_open(&w);

    assert_string_equal(
        asks(&w, CREATE,
             "{'name':'src','partitions_number':1,'dls_station':'DLS.St'}"),
        "");

    assert_string_equal(station(&w, "src")->settings.dls_station, "dls.st");
    assert_int_equal(station(&w, "dls.st")->settings.partitions, 1);
    world_close(&w);
}

static void a_request_without_reply_is_executed_silently(void **state) /* 2.0 */
{
    struct world w;

    (void)state;
    world_open(&w);

    publish(&w, CREATE, "", "{\"name\":\"quiet\",\"partitions_number\":1}");
    publish(&w, CREATE, "", "{\"name\":\"\",\"partitions_number\":1}");
    publish(&w, DESTROY, "", "{bad");
    settle_down(&w);

    assert_int_equal(w.heard_count, 0);
    assert_non_null(station(&w, "quiet"));
    world_close(&w);
}

/* 2.10 */
static void a_removed_station_is_told_to_all_sdks_before_the_reply(void **state)
{
    struct world w;

    (void)state;
    world_open(&w);
    listen_to(&w, "$memphis_sdk_clients_updates");
    make_station(&w, "orders.eu", 2);

    assert_string_equal(
        asks(&w, DESTROY, "{'station_name':'Orders.EU','username':'nobody'}"), "");

    assert_int_equal(w.heard_count, 2);
    assert_string_equal(w.heard[0].subject, "$memphis_sdk_clients_updates");
    assert_shape(w.heard[0].payload,
                 "{'station_name':'orders#eu','type':'remove_station','update':null}");
    assert_null(station(&w, "orders.eu"));
    world_close(&w);
}

/* 2.10, 9.25: with the new value, at each change of the two flags. */
static void SDKs_hear_what_dead_letters_do_now(void **state)
{
    struct world w;
    struct mp_station *s;
    struct mp_station_settings wanted;

    (void)state;
    world_open(&w);
    listen_to(&w, "$memphis_sdk_clients_updates");
    make_station(&w, "orders.eu", 2);
    s = station(&w, "orders.eu");
    wanted = s->settings;
    forget(&w);
    wanted.dls_schema = false;
    mp_station_change(s, &wanted, (struct mp_then){ NULL, NULL });
    settle_down(&w);
    assert_int_equal(w.heard_count, 1);
    assert_shape(
        w.heard[0].payload,
        "{'station_name':'orders#eu','type':'schemaverse_to_dls','update':false}");
    wanted = s->settings; /* the texts of before have gone with the change */
    wanted.dls_poison = false;
    mp_station_change(s, &wanted, (struct mp_then){ NULL, NULL });
    settle_down(&w);
    assert_int_equal(w.heard_count, 2);
    wanted = s->settings;
    wanted.dls_schema = true;
    mp_station_change(s, &wanted, (struct mp_then){ NULL, NULL });
    settle_down(&w);
    assert_int_equal(w.heard_count, 3);
    assert_shape(
        w.heard[2].payload,
        "{'station_name':'orders#eu','type':'schemaverse_to_dls','update':true}");
    world_close(&w);
}

static void an_unknown_station_cannot_be_removed(void **state) /* 2.2 */
{
    struct world w;

    (void)state;
    world_open(&w);

    assert_string_equal(asks(&w, DESTROY, "{'station_name':'nosuch'}"),
                        "Station nosuch does not exist");
    assert_string_equal(asks(&w, DESTROY, "{'station_name':''}"),
                        "Station name can not be empty");
    assert_string_equal(
        asks(&w, DESTROY, "{'station_name':'dls#st'}"),
        "Only alphanumeric and the '_', '-', '.' characters are allowed in Station");
    world_close(&w);
}

static void a_station_that_is_made_again_starts_at_sequence_1(void **state) /* 2.2 */
{
    struct world w;

    (void)state;
    world_open(&w);
    make_station(&w, "orders", 1);
    assert_string_equal(ask(&w, "orders$1.final", "one"),
                        "{\"stream\":\"orders$1\", \"seq\":1}");
    assert_string_equal(ask(&w, "orders$1.final", "two"),
                        "{\"stream\":\"orders$1\", \"seq\":2}");

    assert_string_equal(asks(&w, DESTROY, "{'station_name':'orders'}"), "");
    make_station(&w, "orders", 1);

    assert_string_equal(ask(&w, "orders$1.final", "three"),
                        "{\"stream\":\"orders$1\", \"seq\":1}");
    world_close(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        leak_checked(a_station_is_created_with_the_body_of_the_go_sdk),
        leak_checked(keys_of_a_body_match_in_any_case),
        leak_checked(the_window_of_dot_net_is_read_under_its_misspelt_key),
        leak_checked(an_existing_station_is_no_error_and_stays_as_it_is),
        leak_checked(racing_creations_of_one_station_all_succeed),
        leak_checked(every_wrong_setting_of_a_station_has_its_text),
        leak_checked(retention_falls_back_to_its_default),
        leak_checked(a_missing_dead_letter_station_is_made_too),
        leak_checked(a_request_without_reply_is_executed_silently),
        leak_checked(a_removed_station_is_told_to_all_sdks_before_the_reply),
        leak_checked(SDKs_hear_what_dead_letters_do_now),
        leak_checked(an_unknown_station_cannot_be_removed),
        leak_checked(a_station_that_is_made_again_starts_at_sequence_1),
    };

    return run_tests("proto/sdk_station", tests);
}
