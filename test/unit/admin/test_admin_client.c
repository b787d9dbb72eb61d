#include "unit/admin/world.h"

#include "broker/client.h"
#include "broker/connection.h"

static void add_producer(struct world *w, const char *name, const char *connection)
{
    struct mp_producer_request r = { .name = name, .connection_id = connection,
                                     .app_id = "app", .sdk = "go", .user = "root",
                                     .version = 4 };

    mp_producer_add(station(w, "orders"), &r, (struct mp_then){ 0 });
    settle_down(w);
}

static void PRO_01_producers_are_listed_with_who_is_there(void **state)
{
    struct world *w = world_new();
    char names[512], next[64];

    (void)state;
    make_station(w, "orders", 1);
    make_station(w, "other", 1);
    says(w, NULL, "producer_list", "{\"name\":\"orders\"}",
         "{\"producers\":[],\"next\":null}");
    mp_connection_up(w->broker, "c-1");
    add_producer(w, "shop", "c-1");
    add_producer(w, "kiosk", "c-2");
    assert_int_equal(call(w, NULL, "producer_list", "{\"name\":\"Orders\"}"),
                     MEMPHIS_OK);
    assert_non_null(strstr(said_by_verb.json,
                           "\"name\":\"shop\",\"type\":\"application\","
                           "\"connection_id\":\"c-1\",\"app_id\":\"app\","
                           "\"sdk\":\"go\",\"username\":\"root\","
                           "\"is_active\":true,\"created_at\":\""));
    assert_non_null(strstr(said_by_verb.json, "\"connection_id\":\"c-2\""));
    assert_non_null(strstr(said_by_verb.json, "\"is_active\":false"));
    assert_non_null(strstr(said_by_verb.json, "\"next\":null}"));
    assert_int_equal(call(w, NULL, "producer_list", "{\"name\":\"other\"}"),
                     MEMPHIS_OK);
    assert_string_equal(said_by_verb.json, "{\"producers\":[],\"next\":null}");
    for (int i = 0; i < 5; i++) {
        char name[8];
        snprintf(name, sizeof name, "p%d", i);
        add_producer(w, name, "c-1");
    }
    assert_int_equal(call(w, NULL, "producer_list",
                          "{\"name\":\"orders\",\"limit\":3}"),
                     MEMPHIS_OK);
    assert_non_null(strstr(said_by_verb.json, "\"name\":\"p0\""));
    assert_null(strstr(said_by_verb.json, "\"name\":\"p1\""));
    const char *more = strstr(said_by_verb.json, "\"next\":");
    snprintf(next, sizeof next, "%.*s", (int)strcspn(more + 7, "}"), more + 7);
    snprintf(names, sizeof names, "{\"name\":\"orders\",\"limit\":1000,\"after\":%s}",
             next);
    assert_int_equal(call(w, NULL, "producer_list", names), MEMPHIS_OK);
    assert_null(strstr(said_by_verb.json, "\"name\":\"p0\""));
    for (int i = 1; i < 5; i++) {
        snprintf(names, sizeof names, "\"name\":\"p%d\"", i);
        assert_non_null(strstr(said_by_verb.json, names));
    }
    assert_non_null(strstr(said_by_verb.json, "\"next\":null}"));
    world_free(w);
}

static void CSM_01_consumers_are_listed_with_their_groups(void **state)
{
    struct world *w = world_with_users();
    struct mp_consumer_request r = { .name = "c", .group = "billing",
                                     .connection_id = "c-1", .app_id = "app",
                                     .sdk = "python", .user = "app", .version = 4,
                                     .ack_wait_ms = 5000, .deliveries_max = 3,
                                     .start_sequence = 1, .last_messages = -1 };

    (void)state;
    make_station(w, "orders", 1);
    mp_consumer_add(station(w, "orders"), &r, (struct mp_then){ 0 });
    settle_down(w);
    assert_int_equal(call(w, NULL, "consumer_list", "{\"name\":\"orders\"}"),
                     MEMPHIS_OK);
    assert_non_null(strstr(said_by_verb.json,
                           "\"consumers_group\":\"billing\",\"max_ack_time_ms\":5000,"
                           "\"max_msg_deliveries\":3,\"start_consume_from_sequence\":1,"
                           "\"last_messages\":-1}],\"next\":null}"));
    refused(w, NULL, "consumer_list", "{\"name\":\"orders\",\"limit\":0}",
            MEMPHIS_INVALID, "limit");
    refused(w, NULL, "consumer_list", "{\"name\":\"orders\",\"after\":-1}",
            MEMPHIS_INVALID, "after");
    refused(w, NULL, "producer_list", "{\"name\":\"nowhere\"}", MEMPHIS_NOT_FOUND,
            "does not exist");
    says(w, NULL, "user_set_permissions",
         "{\"username\":\"app\",\"allow_read_permissions\":[\"mine\"]}", "{}");
    refused(w, "app", "consumer_list", "{\"name\":\"orders\"}", MEMPHIS_DENIED,
            "not allowed");
    world_free(w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        leak_checked(PRO_01_producers_are_listed_with_who_is_there),
        leak_checked(CSM_01_consumers_are_listed_with_their_groups),
    };

    return run_tests("admin/admin_client", tests);
}
