#include "unit/admin/world.h"

static bool lists(struct world *w, const char *part)
{
    assert_int_equal(call(w, NULL, "user_list", "{}"), MEMPHIS_OK);
    return strstr(said_by_verb.json, part) != NULL;
}

static void USR_04_a_user_is_shown_as_it_was_made(void **state)
{
    struct world *w = world_new();
    (void)state;

    says(w, "root", "user_add",
         "{\"username\":\"Billing\",\"password\":\"Secret1!\","
         "\"user_type\":\"application\",\"description\":\"pays\",\"team\":\"t\","
         "\"avatar_id\":3,\"allow_read_permissions\":[\"prod.*\",\"orders\"],"
         "\"deny_write_permissions\":[]}",
         "{}");
    assert_true(lists(w, "\"username\":\"billing\",\"user_type\":\"application\","
                         "\"created_at\":\""));
    assert_true(lists(w, "\"owner\":\"root\",\"description\":\"pays\","
                         "\"full_name\":\"\",\"team\":\"t\",\"position\":\"\","
                         "\"avatar_id\":3,\"permissions\":{"
                         "\"allow_read_permissions\":[\"prod.*\",\"orders\"],"
                         "\"allow_write_permissions\":[],"
                         "\"deny_read_permissions\":[],"
                         "\"deny_write_permissions\":[]}}"));
    assert_false(lists(w, "$2b$")); /* no hash, whoever asks */
    world_free(w);
}

static void arguments_that_make_no_sense_are_refused(void **state)
{
    static const struct {
        const char *json, *words;
    } cases[] = {
        { "{}", "needs a name" },
        { "{\"username\":\"a\"}", "type of a user" },
        { "{\"username\":\"a\",\"user_type\":\"root\"}", "type of a user" },
        { "{\"user_type\":\"application\"}", "needs a name" },
        { "{\"user_type\":\"application\",\"username\":\"a\"}", "a password" },
        { "{\"avatar_id\":9}", "avatar_id" },
        { "{\"avatar_id\":-1}", "avatar_id" },
        { "{\"team\":[]}", "team" },
        { "{\"allow_read_permissions\":{}}", "must be a list" },
        { "{\"deny_read_permissions\":\"secret\"}", "must be a list" },
        { "{\"deny_read_permissions\":7}", "must be a list" },
        { "{\"allow_read_permissions\":[1]}", "" },
        { "{\"allow_read_permissions\":[\"a\\nb\"]}", "a line" },
        { "{\"allow_read_permissions\":[null]}", "a line" },
        { "{\"user_type\":\"application\",\"username\":\"a\","
          "\"password\":\"Secret1!\",\"allow_read_permissions\":[\"\"]}",
          "a line" },
        { "{\"user_type\":\"application\",\"username\":\"a\","
          "\"password\":\"Secret1!\",\"allow_read_permissions\":[\"x\",\"Y\"]}",
          "pattern" },
    };
    struct world *w = world_new();
    (void)state;

    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        refused(w, NULL, "user_add", cases[i].json, MEMPHIS_INVALID, cases[i].words);
    world_free(w);
}

static void USR_07_who_may_remove_and_rename_whom(void **state)
{
    struct world *w = world_with_users();
    (void)state;

    refused(w, "boss", "user_remove", "{\"username\":\"root\"}", MEMPHIS_DENIED,
            "root");
    refused(w, "boss", "user_remove", "{\"username\":\"Boss\"}", MEMPHIS_DENIED,
            "himself");
    refused(w, "boss", "user_remove", "{}", MEMPHIS_INVALID, "username is missing");
    refused(w, "boss", "user_set_password",
            "{\"username\":\"app\",\"password\":\"Another2?\"}", MEMPHIS_DENIED,
            "only root");
    refused(w, "boss", "user_set_password", "{\"username\":\"boss\"}", MEMPHIS_INVALID,
            "password is missing");
    says(w, "boss", "user_set_password",
         "{\"username\":\"boss\",\"password\":\"Another2?\"}", "{}");
    says(w, "root", "user_set_password",
         "{\"username\":\"app\",\"password\":\"Another2?\"}", "{}");
    says(w, "boss", "user_add",
         "{\"username\":\"other\",\"password\":\"Secret1!\","
         "\"user_type\":\"management\"}",
         "{}");
    refused(w, "boss", "user_remove", "{\"username\":\"Other\"}", MEMPHIS_DENIED,
            "only root removes");
    says(w, "root", "user_remove", "{\"username\":\"other\"}", "{}");
    says(w, "boss", "user_remove", "{\"username\":\"APP\"}", "{}");
    refused(w, "boss", "user_remove", "{\"username\":\"app\"}", MEMPHIS_NOT_FOUND,
            "no user");
    world_free(w);
}

static void USR_10_permissions_are_set_and_lifted(void **state)
{
    struct world *w = world_with_users();
    (void)state;

    says(w, "boss", "user_set_permissions",
         "{\"username\":\"app\",\"allow_write_permissions\":[\"log\"]}", "{}");
    assert_true(lists(w, "\"allow_write_permissions\":[\"log\"]"));
    says(w, "boss", "user_set_permissions",
         "{\"username\":\"app\",\"allow_read_permissions\":[]}", "{}");
    assert_true(lists(w, "\"allow_read_permissions\":[]"));
    refused(w, "boss", "user_set_permissions",
            "{\"username\":\"app\",\"allow_read\":[\"a\"]}", MEMPHIS_INVALID,
            "there is no key 'allow_read', but: username allow_read_permissions");
    assert_true(lists(w, "\"allow_read_permissions\":[]"));
    says(w, "boss", "user_set_permissions", "{\"username\":\"app\"}", "{}");
    assert_false(lists(w, "allow_read_permissions"));
    refused(w, "boss", "user_set_permissions",
            "{\"username\":\"app\",\"deny_read_permissions\":[\"?\"]}", MEMPHIS_INVALID,
            "pattern");
    world_free(w);
}

static void users_are_listed_in_pages(void **state)
{
    struct world *w = world_with_users(); /* app, boss */
    char out[512], next[64], json[128];
    (void)state;

    for (char c = 'a'; c <= 'c'; c++) {
        snprintf(json, sizeof json,
                 "{\"username\":\"%c\",\"password\":\"Secret1!\","
                 "\"user_type\":\"application\"}",
                 c);
        says(w, NULL, "user_add", json, "{}");
    }
    read_page(w, NULL, "user_list", "{\"limit\":2}", "username", out, next);
    assert_string_equal(out, "app boss");
    assert_string_equal(next, "boss");
    read_page(w, NULL, "user_list", "{\"limit\":2,\"after\":\"boss\"}", "username", out,
              next);
    assert_string_equal(out, "a b");
    assert_string_equal(next, "b");
    says(w, NULL, "user_remove", "{\"username\":\"boss\"}", "{}");
    read_page(w, NULL, "user_list", "{\"limit\":1,\"after\":\"b\"}", "username", out,
              next);
    assert_string_equal(out, "c");
    assert_string_equal(next, "null");
    read_page(w, NULL, "user_list", "{\"after\":\"c\"}", "username", out, next);
    assert_string_equal(out, "");
    refused(w, NULL, "user_list", "{\"after\":\"boss\"}", MEMPHIS_NOT_FOUND, "gone");
    static const char *const wrong[] = { "0", "-1", "1001", "\"1\"", "1.5" };
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        snprintf(json, sizeof json, "{\"limit\":%s}", wrong[i]);
        refused(w, NULL, "user_list", json, MEMPHIS_INVALID, "limit");
        refused(w, NULL, "station_list", json, MEMPHIS_INVALID, "limit");
    }
    refused(w, NULL, "user_list", "{\"after\":1}", MEMPHIS_INVALID, "after");
    world_free(w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        leak_checked(USR_04_a_user_is_shown_as_it_was_made),
        leak_checked(arguments_that_make_no_sense_are_refused),
        leak_checked(USR_07_who_may_remove_and_rename_whom),
        leak_checked(USR_10_permissions_are_set_and_lifted),
        leak_checked(users_are_listed_in_pages),
    };

    return run_tests("admin/admin_user", tests);
}
