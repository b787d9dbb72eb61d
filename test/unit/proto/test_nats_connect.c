#include "support/test.h"

#include "base/str.h"
#include "proto/nats_connect.h"

static bool reads(const char *json, struct mp_nats_connect *out)
{
    struct mp_json *doc = NULL;
    bool result = mp_json_parse(mp_slice_text(json), &doc, NULL) == MEMPHIS_OK &&
                  mp_nats_connect_read(doc, out);

    out->user = out->name = out->lang = NULL; /* they go with the document */
    mp_json_free(doc);
    return result;
}

static void missing_keys_have_their_own_defaults(void **state)
{
    struct mp_nats_connect c;

    (void)state;
    assert_true(reads("{}", &c));
    assert_true(c.verbose && c.pedantic && c.echo);
    assert_false(c.headers || c.no_responders || c.tls_required);
    assert_int_equal(c.protocol, 0);
    assert_null(c.pass);
    assert_null(c.token);
    assert_true(reads("{\"Verbose\":false,\"ECHO\":false,\"protocol\":1,\"x\":[]}",
                      &c));
    assert_false(c.verbose || c.echo);
    assert_true(c.pedantic);
    assert_int_equal(c.protocol, 1);
}

static void values_of_another_type_are_refused(void **state)
{
    static const char *const bad[] = { "[]", "1", "{\"user\":1}", "{\"verbose\":1}",
                                       "{\"protocol\":\"1\"}", "{\"jwt\":{}}",
                                       "{\"headers\":\"\"}" };
    struct mp_nats_connect c;

    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        if (reads(bad[i], &c))
            fail_msg("%s", bad[i]);
}

static void check_name(const char *name, bool good, const char *id, const char *user)
{
    memphis_slice a, b;

    assert_int_equal(mp_nats_connect_name(mp_slice_text(name), &a, &b), good);
    if (!good)
        return;
    assert_int_equal(a.data == NULL, id == NULL);
    assert_int_equal(b.data == NULL, user == NULL);
    assert_true(mp_slice_equal(a, mp_slice_text(id)));
    assert_true(mp_slice_equal(b, mp_slice_text(user)));
}

static void a_name_has_two_parts_or_none(void **state)
{
    (void)state;
    check_name(NULL, true, NULL, NULL);
    check_name("", true, NULL, NULL);
    check_name("plain", true, NULL, NULL);
    check_name("a:b", true, NULL, NULL);
    check_name("id::root", true, "id", "root");
    check_name("::root", true, "", "root");
    check_name("id::", true, "id", "");
    check_name("a::b::c", false, NULL, NULL);
    check_name("a::::c", false, NULL, NULL);
    check_name("NATS CLI Version v0.1::x::y", true, NULL, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        leak_checked(missing_keys_have_their_own_defaults),
        leak_checked(values_of_another_type_are_refused),
        leak_checked(a_name_has_two_parts_or_none),
    };

    return run_tests("proto/nats_connect", tests);
}
