#include "unit/admin/world.h"

static void verbs_are_found_by_name_and_take_an_object(void **state)
{
    struct world *w = world_new();
    (void)state;

    refused(w, NULL, "no_such_verb", "{}", MEMPHIS_NOT_FOUND, "no such verb");
    refused(w, NULL, "user_list", "[]", MEMPHIS_INVALID, "JSON object");
    refused(w, NULL, "user_list", "{", MEMPHIS_INVALID, "");
    refused(w, NULL, "user_add", "{\"username\":7}", MEMPHIS_INVALID, "username");
    says(w, NULL, "user_list", "", "{\"users\":[],\"next\":null}");
    world_free(w);
}

/* Each verb for each kind of user: who is not in the table may not. */
static void only_those_in_the_table_may(void **state)
{
    static const struct {
        const char *verb;
        bool for_all;
    } verbs[] = {
        { "user_add", false },       { "user_list", false },
        { "user_remove", false },    { "user_set_password", false },
        { "user_set_permissions", false },
        { "station_create", true },  { "station_list", true },
        { "station_purge", true },
        { "station_remove", true },  { "dls_list", true },
        { "dls_resend", true },      { "dls_drop", true },
    };
    struct world *w = world_with_users();
    (void)state;

    for (size_t i = 0; i < sizeof verbs / sizeof verbs[0]; i++) {
        assert_int_equal(call(w, "app", verbs[i].verb, "{}") != MEMPHIS_DENIED,
                         verbs[i].for_all);
        assert_int_not_equal(call(w, "boss", verbs[i].verb, "{}"), MEMPHIS_DENIED);
        assert_int_not_equal(call(w, "root", verbs[i].verb, "{}"), MEMPHIS_DENIED);
        assert_int_not_equal(call(w, NULL, verbs[i].verb, "{}"), MEMPHIS_DENIED);
        assert_int_equal(call(w, "nobody", verbs[i].verb, "{}"), MEMPHIS_DENIED);
    }
    world_free(w);
}

static void keys_that_a_verb_does_not_have_are_refused(void **state)
{
    static const char *const verbs[] = {
        "user_add", "user_list", "user_remove", "user_set_password",
        "user_set_permissions", "station_create", "station_list", "station_purge",
        "station_remove", "dls_list", "dls_resend", "dls_drop",
    };
    struct world *w = world_with_users();
    (void)state;

    for (size_t i = 0; i < sizeof verbs / sizeof verbs[0]; i++)
        refused(w, "root", verbs[i], "{\"usrname\":\"app\"}", MEMPHIS_INVALID,
                "no key 'usrname'");
    refused(w, "root", "user_remove", "{\"username\":\"a\",\"UserName\":\"app\"}",
            MEMPHIS_INVALID, "twice");
    says(w, "root", "user_remove", "{\"UserName\":\"app\"}", "{}");
    world_free(w);
}

static void requests_on_the_bus_act_for_their_user(void **state)
{
    struct world *w = world_with_users();
    (void)state;

    mp_admin_start(w->broker);
    w->client.user = "root";
    publish_with_reply(w, "$memphis_admin.station_create", "{\"name\":\"a\"}");
    assert_string_equal(heard(w), "{}");
    assert_non_null(station(w, "a"));
    w->client.user = "app";
    publish_with_reply(w, "$memphis_admin.user_remove", "{\"username\":\"boss\"}");
    assert_non_null(strstr(heard(w), "only root and management"));
    publish_with_reply(w, "$memphis_admin.nothing", "");
    assert_non_null(strstr(heard(w), "no such verb"));
    mp_admin_stop(w->broker);
    mp_admin_stop(w->broker);
    world_free(w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        leak_checked(verbs_are_found_by_name_and_take_an_object),
        leak_checked(only_those_in_the_table_may),
        leak_checked(keys_that_a_verb_does_not_have_are_refused),
        leak_checked(requests_on_the_bus_act_for_their_user),
    };

    return run_tests("admin/admin", tests);
}
