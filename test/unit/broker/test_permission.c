#include "support/test.h"

#include "base/mem.h"
#include "base/str.h"
#include "broker/permission.h"

static bool may(const struct mp_user_row *row, uint32_t what, const char *station)
{
    struct mp_grants *g = mp_grants_new(row);
    bool result = mp_grants_station(g, what, mp_slice_text(station));

    mp_grants_free(g);
    return result;
}

static bool allows(const char *pattern, const char *station)
{
    struct mp_user_row row = { .is_restricted = true, .allow_read = pattern };

    return may(&row, MP_MAY_READ, station);
}

static void USR_10_a_user_without_lists_may_do_everything(void **state)
{
    struct mp_user_row row = { .allow_read = "ignored" };

    (void)state;
    assert_null(mp_grants_new(&row));
    assert_true(mp_grants_station(NULL, MP_MAY_WRITE, MP_STR("any")));
    assert_true(mp_grants_subject(NULL, true, MP_STR("$JS.API.STREAM.DELETE.any$1")));
}

static void USR_11_patterns(void **state)
{
    static const struct {
        const char *pattern, *station;
        bool matches;
    } cases[] = {
        { "orders", "orders", true },      { "orders", "orders.eu", false },
        { "orders", "order", false },      { "prod.*", "prod.a", true },
        { "prod.*", "prod.a.b", true },    { "prod.*", "prod.", false },
        { "prod.*", "prod", false },       { "prod.*", "xprod.a", false },
        { "*", "a", true },                { "*", "", false },
        { "*.eu", "orders.eu", true },     { "*.eu", ".eu", false },
        { "*.eu", "orders.eu.x", false },  { "a*b*c", "axbyc", true },
        { "a*b*c", "abc", false },         { "a*b*c", "axbbbc", true },
        { "a*b*c", "axbyd", false },       { "x\nprod.*\ny", "prod.1", true },
        { "x\nprod.*\ny", "y", true },     { "x\nprod.*\ny", "z", false },
        { "", "a", false },                { "a.b", "axb", false },
        { "*a", "aaaa", true },            { "*ab", "aabab", true },
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        if (allows(cases[i].pattern, cases[i].station) != cases[i].matches)
            fail_msg("'%s' and '%s'", cases[i].pattern, cases[i].station);
}

/* A pattern is a client's: it must not be slow to match. */
static void many_stars_take_no_time(void **state)
{
    char pattern[121], name[129];

    (void)state;
    for (int i = 0; i < 120; i++)
        pattern[i] = i % 2 == 0 ? '*' : 'a';
    pattern[120] = 0;
    memset(name, 'a', 128);
    name[128] = 0;
    assert_true(allows(pattern, name));
    name[127] = 'b';
    assert_false(allows(pattern, name));
}

static void USR_10_read_write_and_deny(void **state)
{
    struct mp_user_row row = { .is_restricted = true,
                               .allow_read = "prod.*",
                               .allow_write = "prod.*\nlog",
                               .deny_write = "prod.secret" };

    (void)state;
    assert_true(may(&row, MP_MAY_READ, "prod.secret"));
    assert_false(may(&row, MP_MAY_WRITE, "prod.secret"));
    assert_true(may(&row, MP_MAY_READ | MP_MAY_WRITE, "prod.secret"));
    assert_true(may(&row, MP_MAY_WRITE, "log"));
    assert_false(may(&row, MP_MAY_READ, "log"));
    row = (struct mp_user_row){ .is_restricted = true };
    assert_false(may(&row, MP_MAY_READ | MP_MAY_WRITE, "log"));
}

struct subject_case {
    const char *subject;
    bool publish, subscribe;
};

/* For one who may read "in.a" and write "out". */
static void judge(const struct subject_case *cases, size_t n)
{
    struct mp_user_row row = { .is_restricted = true, .allow_read = "in.a",
                               .allow_write = "out" };
    struct mp_grants *g = mp_grants_new(&row);

    for (size_t i = 0; i < n; i++) {
        memphis_slice subject = mp_slice_text(cases[i].subject);
        if (mp_grants_subject(g, true, subject) != cases[i].publish)
            fail_msg("publish '%s'", cases[i].subject);
        if (mp_grants_subject(g, false, subject) != cases[i].subscribe)
            fail_msg("subscribe '%s'", cases[i].subject);
    }
    mp_grants_free(g);
}

static void subjects_are_judged_by_the_station_in_them(void **state)
{
    static const struct subject_case cases[] = {
        /* of "in.a", which may be read */
        { "in#a$1.final", false, true },
        { "in#a$12.>", false, true },
        { "$JS.ACK.in#a$1.group.1.5.5.99.0", true, false },
        { "$JS.API.CONSUMER.MSG.NEXT.in#a$1.group", true, false },
        { "$JS.API.CONSUMER.CREATE.in#a$1.group", true, false },
        { "$JS.API.CONSUMER.DURABLE.CREATE.in#a$1.group", true, false },
        { "$JS.API.STREAM.INFO.in#a$1", true, false },
        { "$JS.API.STREAM.DELETE.in#a$1", false, false },
        { "$memphis_schema_updates_in#a", true, true },
        { "$memphis_dls_in#a.group", true, true },
        /* of "out", which may be written */
        { "out$1.final", true, false },
        { "out.final", true, false },
        { "$JS.ACK.out$1.group.1.5.5.99.0", false, false },
        { "$JS.API.STREAM.CREATE.out$1", true, false },
        { "$JS.API.STREAM.MSG.GET.out$1", false, false },
        { "$JS.FC.in#a$1.group.1", true, false },
        { "$JS.API.DIRECT.GET.in#a$1.x.y", true, false },
        { "$JS.API.DIRECT.GET.out$1", false, false },
        { "$JS.API.STREAM.PURGE.in#a$1", false, false },
        { "$JS.API.STREAM.PURGE.out$1", true, false },
        { "$JS.API.STREAM.MSG.DELETE.in#a$1", false, false },
        { "$JS.API.STREAM.MSG.DELETE.out$1", true, false },
        { "$memphis_functions_updates_out", true, true },
        { "$memphis_configurations_updates.init.out", true, true },
        /* of others, of all, of none */
        { "other$1.final", false, false },
        { "in#b$1.final", false, false },
        { "$JS.API.STREAM.MSG.GET.IN#A$1", true, false }, /* names have no case */
        { "$JS.API.STREAM.DELETE.OTHER", false, false },
        { "*.final", false, false },
        { ">", false, false },
        { "in#a$*.>", false, false },
        { "$JS.API.CONSUMER.MSG.NEXT.*.group", false, false },
        { "$JS.API.CONSUMER.MSG.NEXT.", false, false },
        { "$JS.API.>", false, false },
        { "$SYS.REQ.USER.INFO", false, false },
        { "$memphis_dls_*.>", false, false },
        { "$1.final", false, false },
        { "", false, false },
        /* everybody's */
        { "_INBOX.abc.1", true, true },
        { "_INBOX", false, false },
        { "$memphis_station_creations", true, true },
        { "$memphis_schema_attachments", true, true },
        { "$memphis_station_creations.x", false, false },
        { "$JS.API.INFO", true, true },
        { "$JS.API.STREAM.NAMES", true, true },
    };

    (void)state;
    judge(cases, sizeof cases / sizeof cases[0]);
}

static void subjects_of_old_sdks_have_several_readings(void **state)
{
    static const struct subject_case cases[] = {
        { "$memphis_dls_in#a_group", true, true },
        { "$memphis_dls_in#a_b_group", true, true },
        { "$memphis_dls_in#a_b.group", false, false },
        { "$memphis_dls_in#a_", false, false },
        { "$memphis_dls_in#b_group", false, false },
        { "$memphis_dls_", false, false },
        { "$memphis_dls__", false, false },
    };

    (void)state;
    judge(cases, sizeof cases / sizeof cases[0]);
}

static void of_inboxes_only_ones_own_are_heard(void **state)
{
    static const struct subject_case cases[] = {
        { "_INBOX.abc", true, true },
        { "_INBOX.abc.*", true, true },
        { "_INBOX.abc.>", true, true },
        { "_INBOX.a*.>", true, true }, /* no wildcard */
        { "_INBOX.>", false, false },
        { "_INBOX.*", false, false },
        { "_INBOX.*.x", false, false },
        { "_INBOX.*.>", false, false },
    };

    (void)state;
    judge(cases, sizeof cases / sizeof cases[0]);
}

static void faults_of_patterns(void **state)
{
    char longest[122];

    (void)state;
    memset(longest, 'a', sizeof longest);
    assert_null(mp_pattern_fault(MP_STR("prod.*")));
    assert_null(mp_pattern_fault(MP_STR("a-b_c.9")));
    assert_null(mp_pattern_fault(mp_slice(longest, 120)));
    assert_non_null(mp_pattern_fault(mp_slice(longest, 121)));
    assert_non_null(mp_pattern_fault(MP_STR("")));
    assert_non_null(mp_pattern_fault(MP_STR("Prod")));
    assert_non_null(mp_pattern_fault(MP_STR("a b")));
    assert_non_null(mp_pattern_fault(MP_STR("a\nb")));
    assert_non_null(mp_pattern_fault(mp_slice("a\0b", 3)));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        leak_checked(USR_10_a_user_without_lists_may_do_everything),
        leak_checked(USR_11_patterns),
        leak_checked(many_stars_take_no_time),
        leak_checked(USR_10_read_write_and_deny),
        leak_checked(subjects_are_judged_by_the_station_in_them),
        leak_checked(subjects_of_old_sdks_have_several_readings),
        leak_checked(of_inboxes_only_ones_own_are_heard),
        leak_checked(faults_of_patterns),
    };

    return run_tests("broker/permission", tests);
}
