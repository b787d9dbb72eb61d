#include "unit/broker/dls_world.h"

#include "unit/admin/world.h"

static uint32_t dead_letter(struct world *w, const char *payload)
{
    produce(w, payload);
    give_up(w, "billing");
    struct mp_dead_row *row = NULL, *last = NULL;
    while ((row = mp_dls_next(station(w, "orders"), row)) != NULL)
        last = row;
    assert_non_null(last);
    return last->id;
}

static void letters_are_listed_oldest_change_first(void **state)
{
    struct world *w = world_with("", true);
    char expected[128];
    (void)state;

    says(w, NULL, "dls_list", "{\"name\":\"orders\"}",
         "{\"letters\":[],\"next\":null,\"total\":0,"
         "\"resend\":{\"is_running\":false,\"done\":0,\"total\":0}}");
    uint32_t first = dead_letter(w, "seven");
    uint32_t second = dead_letter(w, "eight");
    assert_int_equal(call(w, NULL, "dls_list", "{\"name\":\"orders\",\"limit\":1}"),
                     MEMPHIS_OK);
    snprintf(expected, sizeof expected,
             "{\"letters\":[{\"id\":%u,\"reason\":\"unacked\",\"partition\":1,"
             "\"message_seq\":1,\"deliveries\":",
             first);
    assert_memory_equal(said_by_verb.json, expected, strlen(expected));
    assert_non_null(strstr(said_by_verb.json, "\"poisoned_cgs\":[\"billing\"]}]"));
    assert_non_null(strstr(said_by_verb.json, "\"total\":2,"));
    snprintf(expected, sizeof expected, "\"id\":%u,", second);
    assert_null(strstr(said_by_verb.json, expected));
    char out[512], next[64], ids[3][16], json[128];
    read_page(w, NULL, "dls_list", "{\"name\":\"orders\",\"limit\":1}", "id", out,
              next);
    snprintf(ids[0], sizeof ids[0], "%u", first);
    snprintf(ids[1], sizeof ids[1], "%u", second);
    snprintf(ids[2], sizeof ids[2], "%u", dead_letter(w, "nine"));
    assert_string_equal(out, ids[0]);
    assert_string_equal(next, ids[0]);
    snprintf(json, sizeof json, "{\"name\":\"orders\",\"limit\":2,\"after\":%s}", next);
    read_page(w, NULL, "dls_list", json, "id", out, next);
    snprintf(expected, sizeof expected, "%s %s", ids[1], ids[2]);
    assert_string_equal(out, expected);
    assert_string_equal(next, "null");
    assert_non_null(strstr(said_by_verb.json, "\"total\":3,"));
    refused(w, NULL, "dls_list", "{\"name\":\"orders\",\"after\":0}", MEMPHIS_NOT_FOUND,
            "gone");
    says(w, NULL, "station_create", "{\"name\":\"others\"}", "{}");
    snprintf(json, sizeof json, "{\"name\":\"others\",\"after\":%u}", first);
    refused(w, NULL, "dls_list", json, MEMPHIS_NOT_FOUND, "gone");
    world_free(w);
}

static void letters_are_dropped_and_resent(void **state)
{
    struct world *w = world_with("", true);
    char json[96];
    (void)state;

    uint32_t first = dead_letter(w, "seven");
    dead_letter(w, "eight");
    struct mp_subscription *s;
    assert_int_equal(mp_bus_subscribe(w->broker->bus, &w->client,
                                      MP_STR("$memphis_dls_orders.billing"), MP_STR(""),
                                      &s),
                     MEMPHIS_OK);
    snprintf(json, sizeof json, "{\"name\":\"orders\",\"ids\":[%u,99999]}", first);
    w->heard_count = 0;
    says(w, NULL, "dls_resend", json, "{}");
    pass(w, 50);
    assert_int_equal(w->heard_count, 1);
    assert_string_equal(heard(w), "seven");
    w->heard_count = 0;
    says(w, NULL, "dls_resend", "{\"name\":\"orders\",\"all\":true}", "{}");
    pass(w, 50);
    assert_int_equal(w->heard_count, 2);
    says(w, NULL, "dls_resend", "{\"name\":\"orders\",\"ids\":[]}", "{}");
    pass(w, 50);
    assert_int_equal(w->heard_count, 2);
    says(w, NULL, "dls_drop", json, "{}");
    assert_null(mp_dls_find(w->broker, first));
    assert_true(has_rows(w));
    says(w, NULL, "dls_drop", "{\"name\":\"orders\",\"ids\":[]}", "{}");
    assert_true(has_rows(w));
    says(w, NULL, "dls_drop", "{\"name\":\"orders\",\"all\":true}", "{}");
    assert_false(has_rows(w));
    world_free(w);
}

static void arguments_that_make_no_sense_are_refused(void **state)
{
    static const char *const which[] = {
        "\"ids\":{}", "\"ids\":\"1\"", "\"ids\":7", "\"ids\":[0]", "\"ids\":[-1]",
        "\"ids\":[\"1\"]", "\"ids\":[2147483648]", "\"ids\":[1.5]",
        /* all of them only when it is said */
        "\"ids\":null", "\"id\":[1]", "\"all\":false", "\"all\":1", "\"all\":null",
        "\"all\":true,\"ids\":[]", "\"ids\":null,\"all\":\"true\"",
    };
    struct world *w = world_with("", true);
    char json[96];
    (void)state;

    dead_letter(w, "seven");
    refused(w, NULL, "dls_drop", "{\"name\":\"orders\"}", MEMPHIS_INVALID, "all: true");
    for (size_t i = 0; i < sizeof which / sizeof which[0]; i++) {
        snprintf(json, sizeof json, "{\"name\":\"orders\",%s}", which[i]);
        refused(w, NULL, "dls_drop", json, MEMPHIS_INVALID, "");
        refused(w, NULL, "dls_resend", json, MEMPHIS_INVALID, "");
    }
    assert_true(has_rows(w));
    refused(w, NULL, "dls_list", "{\"name\":\"orders\",\"limit\":\"x\"}",
            MEMPHIS_INVALID, "limit");
    refused(w, NULL, "dls_list", "{\"name\":\"gone\"}", MEMPHIS_NOT_FOUND, "gone");
    world_free(w);
}

static void USR_10_letters_are_those_of_stations_that_may_be_read(void **state)
{
    static const char *const verbs[] = { "dls_list", "dls_resend" };
    struct world *w = world_with("", true);
    (void)state;

    dead_letter(w, "seven");
    says(w, NULL, "user_add",
         "{\"username\":\"app\",\"password\":\"Secret1!\","
         "\"user_type\":\"application\",\"allow_write_permissions\":[\"orders\"]}",
         "{}");
    for (size_t i = 0; i < 2; i++)
        refused(w, "app", verbs[i], "{\"name\":\"orders\"}", MEMPHIS_DENIED,
                "user app is not allowed to access station orders");
    says(w, NULL, "user_set_permissions",
         "{\"username\":\"app\",\"allow_read_permissions\":[\"orders\"]}", "{}");
    assert_int_equal(call(w, "app", "dls_list", "{\"name\":\"orders\"}"), MEMPHIS_OK);
    refused(w, "app", "dls_drop", "{\"name\":\"orders\"}", MEMPHIS_DENIED, "access");
    assert_true(has_rows(w));
    says(w, NULL, "user_set_permissions",
         "{\"username\":\"app\",\"allow_write_permissions\":[\"orders\"]}", "{}");
    says(w, "app", "dls_drop", "{\"name\":\"orders\",\"all\":true}", "{}");
    assert_false(has_rows(w));
    world_free(w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        leak_checked(letters_are_listed_oldest_change_first),
        leak_checked(letters_are_dropped_and_resent),
        leak_checked(arguments_that_make_no_sense_are_refused),
        leak_checked(USR_10_letters_are_those_of_stations_that_may_be_read),
    };

    return run_tests("admin/admin_dls", tests);
}
