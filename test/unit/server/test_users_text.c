/* The daemon is no library: its reader is taken in whole, before names clash. */
#include "../../../server/users_text.c"

#include "support/test.h"

#include <stdio.h>
#include <stdlib.h>

static struct {
    char text[2048]; /* "m:user:password " of each */
    int count, most;
} heard;

static bool hear(void *ctx, const struct users_entry *e)
{
    size_t n = strlen(heard.text);

    (void)ctx;
    snprintf(heard.text + n, sizeof heard.text - n, "%s%s:%s:%s", n > 0 ? " " : "",
             e->is_management ? "m" : "c", e->user, e->password);
    return ++heard.count != heard.most;
}

static struct users_fault read_text(const char *text)
{
    struct users_fault fault;

    memset(&heard, 0, sizeof heard);
    bool is_read = users_read(text, hear, NULL, &fault);
    assert_int_equal(is_read, fault.what == NULL);
    return fault;
}

static void reads(const char *text, const char *expected)
{
    struct users_fault fault = read_text(text);

    if (fault.what != NULL)
        fail_msg("%s\n%u:%u: %s", text, fault.line, fault.column, fault.what);
    assert_string_equal(heard.text, expected);
}

static void refuses(const char *text, const char *what, unsigned line)
{
    struct users_fault fault = read_text(text);

    if (fault.what == NULL || strstr(fault.what, what) == NULL || fault.line != line)
        fail_msg("%s\n%u:%u: %s", text, fault.line, fault.column, fault.what);
}

static void both_styles_of_yaml_and_json_say_the_same(void **state)
{
    (void)state;
    static const char *const texts[] = {
        "users:\n  mgmt:\n  - {user: admin, password: Admin1!}\n"
        "  client:\n  - {user: app, password: \"App1!@\"}\n",
        "---\n# all\nusers: # who\n    mgmt:\n        - user: admin\n"
        "          password: Admin1! # his\n\n    client:\n"
        "        - password: 'App1!@'\n          user: app",
        "users:\r\n  mgmt:\r\n  -\r\n    user: admin\r\n    password: Admin1!\r\n"
        "  client:\r\n  - \"user\": \"app\"\r\n    'password' : App1!@\r\n",
        "{\"users\":{\"mgmt\":[{\"user\":\"admin\",\"password\":\"Admin1!\"}],"
        "\"client\":[{\"user\":\"app\",\"password\":\"App1!@\"}]}}",
        "{\n\t\"users\": {\n\t\"mgmt\": [ {\"user\": \"admin\",\n"
        "\"password\": \"Admin1!\"}, ],\n\"client\": [\n"
        "{ \"password\": \"App1!@\" , \"user\" : \"app\", } ]\n}\n}\n",
        "users: {mgmt: [{user: admin, password: Admin1!}],\n"
        " client: [{user: app, password: App1!@}]}",
    };
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++)
        reads(texts[i], "m:admin:Admin1! c:app:App1!@");
    reads("users:\n  mgmt:\n  client:\n", "");
    reads("users:\n  client: []\n  mgmt:\n  - {user: a, password: b}", "m:a:b");
}

static void scalars_are_what_yaml_says(void **state)
{
    (void)state;
    static const struct {
        const char *scalar, *text;
    } cases[] = {
        { "a#b", "a#b" },           { "a #b", "a" },
        { "a:b", "a:b" },           { "-a", "-a" },
        { "?a", "?a" },             { "a b  ", "a b" },
        { "\"a # b\"", "a # b" },   { "\"a\\\"\\\\\\/\"", "a\"\\/" },
        { "'it''s \\'", "it's \\" }, { "user", "user" },
        { "password", "password" }, { "mgmt", "mgmt" },
        { "\"client:\"", "client:" },
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char text[128], expected[64];
        snprintf(expected, sizeof expected, "c:%s:x", cases[i].text);
        snprintf(text, sizeof text, "users:\n  client:\n  - user: %s\n    password: x",
                 cases[i].scalar);
        reads(text, expected);
        if (strchr(cases[i].scalar, '#') != NULL && cases[i].scalar[1] == ' ')
            continue; /* a comment, also of the bracket */
        snprintf(text, sizeof text, "users:\n client:\n - {user: %s, password: x}",
                 cases[i].scalar);
        reads(text, expected);
    }
    reads("users:\n  client:\n  - user: a{b},[c]\n    password: x", "c:a{b},[c]:x");
}

static void what_is_not_this_picture_is_refused(void **state)
{
    (void)state;
    static const struct {
        const char *text, *what;
        unsigned line;
    } cases[] = {
        { "", "expected", 1 },
        { "users", "colon", 1 },
        { "users:", "expected", 1 },
        { "user:\n", "users only", 1 },
        { "users:\n  admins:\n", "mgmt and client", 2 },
        { "users:\n  mgmt:\n  mgmt:\n", "twice", 3 },
        { "users:\n  mgmt:\nusers:\n  client:\n", "twice", 3 },
        /* values are no keys, and entries do not bleed into each other */
        { "users:\n  client:\n  - {user: password, password: user}\n"
          "  - {user: password}\n",
          "needs user and password", 4 },
        { "users:\n  client:\n  - user: a\n  - password: b\n", "needs user", 4 },
        { "users:\n  client:\n  - {password: a}\n  - {user: b, password: c}\n",
          "needs user", 3 },
        { "users:\n  client:\n  - {user: a, user: b}\n", "twice", 3 },
        { "users:\n  client:\n  - {user: a, pasword: b}\n", "only", 3 },
        { "users:\n  client:\n  - {user: a, password: b, type: c}\n", "only", 3 },
        { "users:\n  client:\n  - {user: , password: b}\n", "sign of YAML", 3 },
        { "users:\n  client:\n  - user:\n    password: b\n", "missing", 3 },
        { "users:\n  client:\n  - {user: \"\", password: b}\n", "missing", 3 },
        { "users:\n  client:\n  - {user: [a], password: b}\n", "sign of YAML", 3 },
        { "users:\n  client:\n  - {user: a, password: b\n", "comma or }", 4 },
        { "users:\n  client:\n  - {user: a password: b}\n", "comma or }", 3 },
        { "users:\n  client:\n  - {user: a, password: b}}\n", "goes on", 3 },
        { "users:\n  client:\n  - {user: a, password: b} x\n", "goes on", 3 },
        { "users:\n  client:\n  - user: \"a\" b\n", "goes on", 3 },
        { "users:\n  client:\n  - user: a: b\n", "goes on", 3 },
        { "users:\n  client:\n  - user: a\n      password: b\n", "indented", 4 },
        { "users:\n  client:\n  - user: a\n   password: b\n", "indented", 4 },
        { "users:\n  client:\n  - user: a\n    password: b\n    more\n", "colon", 5 },
        { "users:\n  client:\n  - user: a\n    password: b\n      more\n", "indented",
          5 },
        { "users:\n  client:\n  - user: a\n    password: !b\n", "quotes", 4 },
        { "users:\n  client:\n  - user: &x a\n", "quotes", 3 },
        { "users:\n  client:\n  - user: |\n", "quotes", 3 },
        { "users:\n  client:\n  - user: \"a\n", "not closed", 3 },
        { "users:\n  client:\n  - user: 'a", "not closed", 3 },
        { "users:\n  client:\n  - user: \"\\n\"", "escapes", 3 },
        { "users:\n  client:\n  - user: \"\\", "escapes", 3 },
        { "users:\n  client:\n  - user: a\tb", "control", 3 },
        { "users:\n\tclient:\n", "tabs", 2 },
        { "users:\n  client: app\n", "list", 2 },
        { "users:\n  client: {user: a, password: b}\n", "list", 2 },
        { "users:\n  client: - {user: a, password: b}\n", "list", 2 },
        { "users:\n  client:\n  - a\n", "colon", 3 },
        { "users:\n  client:\n  - - user: a\n", "quotes", 3 },
        { "users: client:\n", "expected", 1 },
        { "users: [a]\n", "", 1 },
        { "{\"users\":{\"client\":[\"a\"]}}", "expected", 1 },
        { "{\"users\":{\"client\":}}", "list", 1 },
        { "{\"users\":{}", "comma or }", 1 },
        { "{\"users\":{}} x", "goes on", 1 },
        { "  users:\n    client:\n users:\n", "indented", 3 },
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        refuses(cases[i].text, cases[i].what, cases[i].line);
}

static void texts_have_an_end(void **state)
{
    char text[400];
    (void)state;

    snprintf(text, sizeof text, "users:\n client:\n - {user: %0127d, password: x}", 7);
    assert_null(read_text(text).what);
    assert_int_equal(heard.count, 1);
    snprintf(text, sizeof text, "users:\n client:\n - {user: %0128d, password: x}", 7);
    refuses(text, "too long", 3);
    snprintf(text, sizeof text, "users:\n client:\n - {\"%0128d\": x}", 7);
    refuses(text, "too long", 3);
}

static void whoever_has_enough_hears_no_more(void **state)
{
    struct users_fault fault;
    (void)state;

    memset(&heard, 0, sizeof heard);
    heard.most = 1;
    assert_true(users_read("users:\n  client:\n  - {user: a, password: b}\n"
                           "  - {user: c, password: d}\n  - nonsense",
                           hear, NULL, &fault));
    assert_string_equal(heard.text, "c:a:b");
}

/* Each beginning is refused or says less, and nothing is read behind its end. */
static void every_beginning_of_a_text_is_survived(void **state)
{
    static const char whole[] =
        "---\nusers:\n  mgmt:\n  - {user: \"a\\\"b\", password: 'it''s'} # x\n"
        "  client: [{user: c, password: d}]\n";
    (void)state;

    for (size_t n = 0; n < sizeof whole; n++) {
        char *text = strndup(whole, n);
        (void)read_text(text);
        assert_true(heard.count <= 2);
        free(text);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        leak_checked(both_styles_of_yaml_and_json_say_the_same),
        leak_checked(scalars_are_what_yaml_says),
        leak_checked(what_is_not_this_picture_is_refused),
        leak_checked(texts_have_an_end),
        leak_checked(whoever_has_enough_hears_no_more),
        leak_checked(every_beginning_of_a_text_is_survived),
    };

    return run_tests("server/users_text", tests);
}
