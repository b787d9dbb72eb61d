#include "unit/admin/world.h"

static void a_station_is_made_listed_and_removed(void **state)
{
    struct world *w = world_new();
    (void)state;

    says(w, NULL, "station_create",
         "{\"name\":\"Orders.EU\",\"partitions_number\":3,"
         "\"retention_type\":\"messages\",\"retention_value\":50,"
         "\"storage_type\":\"memory\",\"idempotency_window_in_ms\":5000}",
         "{}");
    assert_int_equal(station(w, "orders.eu")->settings.partitions, 3);
    assert_int_equal(station(w, "orders.eu")->settings.storage, MP_STORAGE_MEMORY);
    assert_int_equal(station(w, "orders.eu")->settings.retention, MP_RETAIN_MESSAGES);
    publish(w, "orders#eu$2.final", "seven");
    settle_down(w);
    assert_int_equal(call(w, NULL, "station_list", "{}"), MEMPHIS_OK);
    assert_non_null(strstr(said_by_verb.json,
                           "\"partitions_number\":3,\"retention_type\":\"messages\","
                           "\"retention_value\":50,\"storage_type\":\"memory\","
                           "\"idempotency_window_in_ms\":5000,\"dls_station\":\"\","
                           "\"total_messages\":1,\"total_bytes\":"));
    refused(w, NULL, "station_purge",
            "{\"name\":\"orders.eu\",\"partition_number\":4}", MEMPHIS_NOT_FOUND, "");
    refused(w, NULL, "station_purge",
            "{\"name\":\"orders.eu\",\"partition_number\":-1}", MEMPHIS_INVALID, "");
    says(w, NULL, "station_purge", "{\"name\":\"orders.eu\",\"partition_number\":1}",
         "{}");
    assert_int_equal(call(w, NULL, "station_list", "{}"), MEMPHIS_OK);
    assert_non_null(strstr(said_by_verb.json, "\"total_messages\":1"));
    says(w, NULL, "station_purge", "{\"name\":\"orders.eu\"}", "{}");
    assert_int_equal(call(w, NULL, "station_list", "{}"), MEMPHIS_OK);
    assert_non_null(strstr(said_by_verb.json, "\"total_messages\":0"));
    refused(w, NULL, "station_create", "{\"name\":\"orders.eu\"}", MEMPHIS_EXISTS,
            "already");
    says(w, NULL, "station_remove", "{\"name\":\"ORDERS.eu\"}", "{}");
    assert_null(station(w, "orders.eu"));
    refused(w, NULL, "station_remove", "{\"name\":\"orders.eu\"}", MEMPHIS_NOT_FOUND,
            "Station orders.eu does not exist");
    says(w, NULL, "station_list", "{}", "{\"stations\":[],\"next\":null}");
    world_free(w);
}

static void STA_24_chosen_messages_are_removed(void **state)
{
    struct world *w = world_with_users();
    struct mp_log_stats st;
    (void)state;

    says(w, NULL, "station_create", "{\"name\":\"s\",\"partitions_number\":2}", "{}");
    for (int i = 0; i < 5; i++)
        publish(w, "s$2.final", "m");
    settle_down(w);
    refused(w, NULL, "message_remove", "{\"name\":\"s\"}", MEMPHIS_INVALID,
            "sequences");
    refused(w, NULL, "message_remove", "{\"name\":\"s\",\"sequences\":[0]}",
            MEMPHIS_INVALID, "whole numbers");
    refused(w, NULL, "message_remove",
            "{\"name\":\"s\",\"partition_number\":3,\"sequences\":[1]}",
            MEMPHIS_NOT_FOUND, "partition");
    says(w, NULL, "message_remove",
         "{\"name\":\"s\",\"partition_number\":2,\"sequences\":[4,2,4,99]}", "{}");
    mp_log_stats(w->broker->data_log, station(w, "s")->first_pid + 1, &st);
    assert_int_equal(st.messages, 3);
    assert_false(mp_log_has(w->broker->data_log, station(w, "s")->first_pid + 1, 4));
    says(w, NULL, "user_set_permissions",
         "{\"username\":\"app\",\"allow_read_permissions\":[\"s\"],"
         "\"allow_write_permissions\":[]}",
         "{}");
    refused(w, "app", "message_remove", "{\"name\":\"s\",\"sequences\":[1]}",
            MEMPHIS_DENIED, "not allowed");
    world_free(w);
}

static void STA_28_what_dead_letters_do_is_changed(void **state)
{
    struct world *w = world_with_users();
    (void)state;

    says(w, NULL, "station_create", "{\"name\":\"s\",\"partitions_number\":2}", "{}");
    says(w, NULL, "station_set_dls", "{\"name\":\"s\",\"poison\":false}", "{}");
    assert_false(station(w, "s")->settings.dls_poison);
    assert_true(station(w, "s")->settings.dls_schema); /* is not named: stays */
    says(w, NULL, "station_set_dls",
         "{\"name\":\"S\",\"schemaverse\":false,\"dls_station\":\"Graves\"}", "{}");
    assert_false(station(w, "s")->settings.dls_poison);
    assert_false(station(w, "s")->settings.dls_schema);
    assert_string_equal(station(w, "s")->settings.dls_station, "graves");
    assert_non_null(station(w, "graves")); /* was made */
    publish(w, "s$2.final", "still a station");
    settle_down(w);
    restart(w);
    assert_false(station(w, "s")->settings.dls_poison);
    assert_string_equal(station(w, "s")->settings.dls_station, "graves");
    assert_int_equal(last_of(w, "s", 2), 1);
    says(w, NULL, "station_set_dls",
         "{\"name\":\"s\",\"poison\":true,\"dls_station\":\"\"}", "{}");
    assert_true(station(w, "s")->settings.dls_poison);
    assert_string_equal(station(w, "s")->settings.dls_station, "");
    refused(w, NULL, "station_set_dls", "{\"name\":\"s\",\"dls_station\":\"S\"}",
            MEMPHIS_INVALID, "for itself");
    refused(w, NULL, "station_set_dls", "{\"name\":\"s\",\"dls_station\":\"a b\"}",
            MEMPHIS_INVALID, "alphanumeric");
    refused(w, NULL, "station_set_dls", "{\"name\":\"s\",\"poison\":1}",
            MEMPHIS_INVALID, "poison");
    refused(w, NULL, "station_set_dls", "{\"name\":\"nowhere\"}", MEMPHIS_NOT_FOUND,
            "does not exist");
    says(w, NULL, "user_set_permissions",
         "{\"username\":\"app\",\"allow_read_permissions\":[],"
         "\"allow_write_permissions\":[\"s\"]}",
         "{}");
    refused(w, "app", "station_set_dls", "{\"name\":\"graves\",\"poison\":true}",
            MEMPHIS_DENIED, "not allowed");
    refused(w, "app", "station_set_dls", "{\"name\":\"s\",\"dls_station\":\"graves\"}",
            MEMPHIS_DENIED, "not allowed");
    world_free(w);
}

static void arguments_that_make_no_sense_are_refused(void **state)
{
    static const char *const cases[] = {
        "{}",
        "{\"name\":\"\"}",
        "{\"name\":\"a b\"}",
        "{\"name\":\"a\",\"retention_type\":\"for ever\"}",
        "{\"name\":\"a\",\"retention_value\":-1}",
        "{\"name\":\"a\",\"storage_type\":7}",
        "{\"name\":\"a\",\"storage_type\":\"tape\"}",
        "{\"name\":\"a\",\"partitions_number\":10001}",
        "{\"name\":\"a\",\"partitions_number\":\"1\"}",
        "{\"name\":\"a\",\"idempotency_window_in_ms\":86400001}",
    };
    struct world *w = world_new();
    (void)state;

    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        refused(w, NULL, "station_create", cases[i], MEMPHIS_INVALID, "");
    assert_null(station(w, "a"));
    world_free(w);
}

static void USR_10_an_application_sees_and_makes_its_own_stations(void **state)
{
    struct world *w = world_with_users();
    (void)state;

    says(w, NULL, "station_create", "{\"name\":\"in.a\"}", "{}");
    says(w, NULL, "station_create", "{\"name\":\"other\"}", "{}");
    says(w, NULL, "user_set_permissions",
         "{\"username\":\"app\",\"allow_read_permissions\":[\"in.*\"],"
         "\"allow_write_permissions\":[\"out.*\"]}",
         "{}");
    assert_int_equal(call(w, "app", "station_list", "{}"), MEMPHIS_OK);
    assert_non_null(strstr(said_by_verb.json, "\"in.a\""));
    assert_null(strstr(said_by_verb.json, "\"other\""));
    says(w, "app", "station_create", "{\"name\":\"out.a\"}", "{}");
    refused(w, "app", "station_create", "{\"name\":\"in.b\"}", MEMPHIS_DENIED,
            "user app is not allowed to create station in.b");
    refused(w, "app", "station_remove", "{\"name\":\"in.a\"}", MEMPHIS_DENIED,
            "not allowed to remove");
    says(w, "app", "station_remove", "{\"name\":\"out.a\"}", "{}");
    world_free(w);
}

static void stations_are_listed_in_pages(void **state)
{
    struct world *w = world_with_users();
    char out[512], next[64], json[128];
    (void)state;

    for (char c = 'a'; c <= 'e'; c++) {
        snprintf(json, sizeof json, "{\"name\":\"%s.%c\",\"partitions_number\":%d}",
                 c % 2 != 0 ? "in" : "other", c, c == 'd' ? 10000 : 1);
        says(w, NULL, "station_create", json, "{}");
    }
    read_page(w, NULL, "station_list", "{\"limit\":3}", "name", out, next);
    assert_string_equal(out, "in.a other.b in.c");
    assert_string_equal(next, "in.c");
    /* So many partitions are enough for a turn. */
    read_page(w, NULL, "station_list", "{\"after\":\"IN.c\"}", "name", out, next);
    assert_string_equal(out, "other.d");
    read_page(w, NULL, "station_list", "{\"after\":\"other.d\"}", "name", out, next);
    assert_string_equal(out, "in.e");
    assert_string_equal(next, "null");
    says(w, NULL, "user_set_permissions",
         "{\"username\":\"app\",\"allow_read_permissions\":[\"in.*\"]}", "{}");
    read_page(w, "app", "station_list", "{\"limit\":2}", "name", out, next);
    assert_string_equal(out, "in.a in.c");
    assert_string_equal(next, "in.c");
    read_page(w, "app", "station_list", "{\"limit\":2,\"after\":\"in.c\"}", "name", out,
              next);
    assert_string_equal(out, "in.e");
    assert_string_equal(next, "null");
    refused(w, NULL, "station_list", "{\"after\":\"x\"}", MEMPHIS_NOT_FOUND, "gone");
    refused(w, "app", "station_list", "{\"after\":\"other.b\"}", MEMPHIS_NOT_FOUND,
            "gone"); /* whether it is there is none of his business */
    world_free(w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        leak_checked(a_station_is_made_listed_and_removed),
        leak_checked(STA_24_chosen_messages_are_removed),
        leak_checked(STA_28_what_dead_letters_do_is_changed),
        leak_checked(arguments_that_make_no_sense_are_refused),
        leak_checked(stations_are_listed_in_pages),
        leak_checked(USR_10_an_application_sees_and_makes_its_own_stations),
    };

    return run_tests("admin/admin_station", tests);
}
