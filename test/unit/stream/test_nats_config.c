#include "support/test.h"

#include "base/mem.h"
#include "base/str.h"
#include "stream/nats_config.h"

#include <stdio.h>

/* With ' for ". */
static memphis_status read(const char *text, struct mp_nats_config **out,
                           memphis_error *err)
{
    char *json = mp_strdup(text);
    memphis_status st;

    for (char *p = json; *p != 0; p++)
        *p = *p == '\'' ? '"' : *p;
    st = mp_nats_config_parse(mp_slice_text(json), out, err);
    mp_free(json);
    return st;
}

static void a_configuration_has_one_normal_form(void **state)
{
    struct mp_nats_config *a, *b;

    (void)state;
    assert_int_equal(read("{'name':'S','subjects':['a.>','b'],'max_msgs':-1,"
                          "'metadata':{'k':'v'},'description':'d'}",
                          &a, NULL),
                     MEMPHIS_OK);
    assert_int_equal(mp_nats_config_parse(mp_slice_text(a->text), &b, NULL),
                     MEMPHIS_OK);
    assert_string_equal(a->text, b->text);
    assert_non_null(strstr(a->text, "\"metadata\":{\"k\":\"v\"}"));
    assert_non_null(strstr(a->text, "\"description\":\"d\""));
    assert_non_null(strstr(a->text, "\"max_msgs\":-1,"));
    assert_int_equal(a->subjects_count, 2);
    assert_int_equal(a->messages_max, 0);
    assert_int_equal(a->window_ns, 120000000000);
    mp_nats_config_free(a);
    mp_nats_config_free(b);
}

static void all_its_limits_are_read(void **state)
{
    struct mp_nats_config *c;

    (void)state;
    assert_int_equal(
        read(
            "{'name':'S','retention':'workqueue','storage':'memory','discard':'new',"
            "'max_msgs':1,'max_bytes':2,'max_age':1000000000,'max_msg_size':4,"
            "'max_msgs_per_subject':5,'max_consumers':6,'discard_new_per_subject':true,"
            "'allow_direct':true,'deny_delete':true,'deny_purge':true,"
            "'allow_rollup_hdrs':true}",
            &c, NULL),
        MEMPHIS_OK);
    assert_string_equal(c->subjects[0], "S"); /* its name, when none is given */
    assert_int_equal(c->retention, MP_NATS_WORKQUEUE);
    assert_true(c->memory && c->discard_new && c->discard_new_per_subject);
    assert_true(c->allow_direct && c->deny_delete && c->deny_purge && c->allow_rollup);
    assert_int_equal(c->messages_max, 1);
    assert_int_equal(c->bytes_max, 2);
    assert_int_equal(c->message_size_max, 4);
    assert_int_equal(c->per_subject_max, 5);
    assert_int_equal(c->consumers_max, 6);
    assert_int_equal(c->window_ns, 1000000000); /* not longer than the age */
    mp_nats_config_free(c);
}

static void what_cannot_be_done_is_refused_by_name(void **state)
{
    static const struct {
        const char *json, *says;
        memphis_status st;
    } cases[] = {
        { "{'name':'S','mirror':{'name':'x'}}", "mirror", MEMPHIS_UNSUPPORTED },
        { "{'name':'S','sources':[{'name':'x'}]}", "sources", MEMPHIS_UNSUPPORTED },
        { "{'name':'S','sealed':true}", "sealed", MEMPHIS_UNSUPPORTED },
        { "{'name':'S','compression':'s2'}", "compression", MEMPHIS_UNSUPPORTED },
        { "{'name':'S','num_replicas':3}", "replicas > 1", MEMPHIS_UNSUPPORTED },
        { "{'name':'S','subjects':['a..b']}", "invalid subject", MEMPHIS_INVALID },
        { "{'name':'S','subjects':['a.*','a.b']}", "overlap", MEMPHIS_INVALID },
        { "{'name':'S','subjects':['>']}", "broker's own", MEMPHIS_INVALID },
        { "{'name':'S','subjects':['$memphis_x']}", "broker's own", MEMPHIS_INVALID },
        { "{'name':'S','subjects':['$JS.API.x']}", "broker's own", MEMPHIS_INVALID },
        { "{'name':'S','max_age':5}", "100ms", MEMPHIS_INVALID },
        { "{'name':'S','max_age':1000000000,'duplicate_window':2000000000}",
          "larger then max age", MEMPHIS_INVALID },
        { "{'name':'S','retention':'no'}", "unknown", MEMPHIS_INVALID },
        { "{'name':'S','discard_new_per_subject':true}", "requires", MEMPHIS_INVALID },
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct mp_nats_config *c;
        memphis_error err;

        assert_int_equal(read(cases[i].json, &c, &err), cases[i].st);
        assert_null(c);
        if (strstr(err.message, cases[i].says) == NULL)
            fail_msg("%s: %s", cases[i].json, err.message);
    }
}

static void defaults_that_clients_send_are_no_wishes(void **state)
{
    struct mp_nats_config *c;

    (void)state;
    assert_int_equal(read("{'name':'S','mirror':null,'sources':[],'sealed':false,"
                          "'consumer_limits':{},'persist_mode':'default',"
                          "'first_seq':0,'compression':'none','placement':null}",
                          &c, NULL),
                     MEMPHIS_OK);
    mp_nats_config_free(c);
}

static void some_things_stay_as_they_are(void **state)
{
    static const struct {
        const char *json;
        bool may;
    } cases[] = {
        { "{'name':'S','max_msgs':7,'subjects':['b']}", true },
        { "{'name':'T'}", false },
        { "{'name':'S','storage':'memory'}", false },
        { "{'name':'S','retention':'interest'}", false },
        { "{'name':'S','max_consumers':3}", false },
        { "{'name':'S','deny_delete':true}", true },
    };
    struct mp_nats_config *now, *then;

    (void)state;
    assert_int_equal(read("{'name':'S'}", &now, NULL), MEMPHIS_OK);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        assert_int_equal(read(cases[i].json, &then, NULL), MEMPHIS_OK);
        assert_int_equal(mp_nats_config_fixed(now, then) == NULL, cases[i].may);
        if (strstr(cases[i].json, "deny_delete") != NULL)
            assert_non_null(mp_nats_config_fixed(then, now)); /* never taken back */
        mp_nats_config_free(then);
    }
    mp_nats_config_free(now);
}

static void a_filter_is_held_against_the_subjects(void **state)
{
    struct mp_nats_config *c;

    (void)state;
    assert_int_equal(read("{'name':'S','subjects':['a.>']}", &c, NULL), MEMPHIS_OK);
    assert_true(mp_nats_config_is_all(c, MP_STR("")));
    assert_true(mp_nats_config_is_all(c, MP_STR("a.>")));
    assert_false(mp_nats_config_is_all(c, MP_STR("a.b")));
    assert_true(mp_nats_config_overlaps(c, MP_STR("*.b")));
    assert_false(mp_nats_config_overlaps(c, MP_STR("b.>")));
    mp_nats_config_free(c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_configuration_has_one_normal_form),
        cmocka_unit_test(all_its_limits_are_read),
        cmocka_unit_test(what_cannot_be_done_is_refused_by_name),
        cmocka_unit_test(defaults_that_clients_send_are_no_wishes),
        cmocka_unit_test(some_things_stay_as_they_are),
        cmocka_unit_test(a_filter_is_held_against_the_subjects),
    };

    return cmocka_run_group_tests_name("stream/nats_config", tests, NULL, NULL);
}
