#include "support/test.h"

#include "base/mem.h"
#include "base/str.h"
#include "stream/consumer_config.h"
#include "stream/stream.h"

/* With ' for ". */
static memphis_status read(const char *text, struct mp_consumer_config **out,
                           memphis_error *err)
{
    char *json = mp_strdup(text);
    memphis_status st;

    for (char *p = json; *p != 0; p++)
        *p = *p == '\'' ? '"' : *p;
    st = mp_consumer_config_parse(mp_slice_text(json), out, err);
    mp_free(json);
    return st;
}

static void a_configuration_has_one_normal_form(void **state)
{
    struct mp_consumer_config *a, *b;

    (void)state;
    assert_int_equal(
        read("{'durable_name':'d','name':'d','ack_policy':'explicit',"
             "'backoff':[5000000,6000000],"
             "'filter_subjects':['a','b'],'metadata':{'k':'v'},'max_deliver':3,"
             "'deliver_policy':'by_start_time',"
             "'opt_start_time':'2026-01-01T00:00:01.5Z'}",
             &a, NULL),
        MEMPHIS_OK);
    assert_int_equal(mp_consumer_config_parse(mp_slice_text(a->text), &b, NULL),
                     MEMPHIS_OK);
    assert_string_equal(a->text, b->text);
    assert_true(a->is_durable);
    assert_int_equal(a->filters_count, 2);
    assert_int_equal(a->backoff_count, 2);
    assert_int_equal(a->ack_wait_ns, 5000000);
    assert_int_equal(a->start_time_ns, 1767225601500000000);
    assert_int_equal(a->pending_max, 1000);
    assert_int_equal(a->inactive_ns, 0);
    mp_consumer_config_free(a);
    mp_consumer_config_free(b);
}

static void times_may_have_offsets_and_fractions(void **state)
{
    static const struct {
        const char *time;
        uint64_t ns;
    } cases[] = {
        { "1970-01-01T00:00:01Z", 1000000000 },
        { "1970-01-01T01:00:01+01:00", 1000000000 },
        { "1969-12-31T23:00:01-01:00", 1000000000 },
        { "1970-01-01T00:00:01.000000001Z", 1000000001 },
        { "1970-01-01T00:00:01", 0 },
        { "1970-1-01T00:00:01Z", 0 },
        { "1970-01-01T00:00:01Zx", 0 },
        { "", 0 },
    };
    char text[256];

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct mp_consumer_config *c;

        mp_format(text, sizeof(text),
                  "{'name':'d','deliver_policy':'by_start_time','opt_start_time':'%s'}",
                  cases[i].time);
        assert_int_equal(read(text, &c, NULL),
                         cases[i].ns > 0 ? MEMPHIS_OK : MEMPHIS_INVALID);
        if (c != NULL)
            assert_int_equal(c->start_time_ns, cases[i].ns);
        mp_consumer_config_free(c);
    }
}

static void an_ephemeral_one_goes_when_nobody_uses_it(void **state)
{
    struct mp_consumer_config *c;

    (void)state;
    assert_int_equal(read("{'name':'e'}", &c, NULL), MEMPHIS_OK);
    assert_false(c->is_durable);
    assert_int_equal(c->ack, MP_ACK_NONE);
    assert_int_equal(c->inactive_ns, 5000000000);
    assert_int_equal(c->waiting_max, 512);
    assert_null(strstr(c->text, "ack_wait"));
    assert_null(strstr(c->text, "max_ack_pending"));
    mp_consumer_config_free(c);
}

static void what_makes_no_sense_is_refused(void **state)
{
    static const struct {
        const char *json, *says;
        memphis_status st;
    } cases[] = {
        { "{'name':'d','deliver_policy':'never'}", "unknown", MEMPHIS_INVALID },
        { "{'name':'d','deliver_policy':'by_start_sequence'}",
          "start sequence is not set", MEMPHIS_INVALID },
        { "{'name':'d','ack_policy':'some'}", "ack policy", MEMPHIS_INVALID },
        { "{'name':'d','filter_subject':'a','filter_subjects':['b']}", "both",
          MEMPHIS_INVALID },
        { "{'name':'d','filter_subjects':['a.*','a.b']}", "overlap", MEMPHIS_INVALID },
        { "{'name':'d','filter_subject':'a..b'}", "bad request", MEMPHIS_INVALID },
        { "{'name':'d','max_deliver':1,'backoff':[1,2]}", "backoff", MEMPHIS_INVALID },
        { "{'name':'d','backoff':[999999]}", "1 ms", MEMPHIS_INVALID },
        { "{'name':'d','flow_control':true}", "require a delivery subject",
          MEMPHIS_INVALID },
        { "{'name':'d','deliver_subject':'a.*'}", "wildcards", MEMPHIS_INVALID },
        { "{'name':'d','deliver_subject':'$JS.API.INFO'}", "belongs to the broker",
          MEMPHIS_INVALID },
        { "{'name':'d','deliver_subject':'a','flow_control':true}",
          "also needs heartbeats", MEMPHIS_INVALID },
        { "{'name':'d','deliver_subject':'a','idle_heartbeat':5}", "100ms",
          MEMPHIS_INVALID },
        { "{'name':'d','replay_policy':'original'}", "replay", MEMPHIS_UNSUPPORTED },
        { "{'name':'d','rate_limit_bps':5}", "rate limits", MEMPHIS_UNSUPPORTED },
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct mp_consumer_config *c;
        memphis_error err;

        assert_int_equal(read(cases[i].json, &c, &err), cases[i].st);
        assert_null(c);
        if (strstr(err.message, cases[i].says) == NULL)
            fail_msg("%s: %s", cases[i].json, err.message);
    }
}

static void some_things_stay_as_they_are(void **state)
{
    static const struct {
        const char *json;
        bool may;
    } cases[] = {
        { "{'durable_name':'d','description':'x','filter_subject':'a'}", true },
        { "{'durable_name':'d','max_deliver':4}", true },
        { "{'durable_name':'d','deliver_policy':'new'}", false },
        { "{'durable_name':'d','ack_policy':'explicit'}", false },
        { "{'durable_name':'d','max_waiting':3}", false },
        { "{'durable_name':'d','deliver_subject':'a'}", false },
    };
    struct mp_consumer_config *now, *then;

    (void)state;
    assert_int_equal(read("{'durable_name':'d'}", &now, NULL), MEMPHIS_OK);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        assert_int_equal(read(cases[i].json, &then, NULL), MEMPHIS_OK);
        assert_int_equal(mp_consumer_config_fixed(now, then) == NULL, cases[i].may);
        mp_consumer_config_free(then);
    }
    mp_consumer_config_free(now);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_configuration_has_one_normal_form),
        cmocka_unit_test(times_may_have_offsets_and_fractions),
        cmocka_unit_test(an_ephemeral_one_goes_when_nobody_uses_it),
        cmocka_unit_test(what_makes_no_sense_is_refused),
        cmocka_unit_test(some_things_stay_as_they_are),
    };

    return cmocka_run_group_tests_name("stream/consumer_config", tests, NULL, NULL);
}
