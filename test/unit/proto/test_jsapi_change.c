#include "unit/proto/test_sdk_world.h"

#include "broker/permission.h"
#include "stream/nats.h"

static const char *change(struct world *w, const char *verb, const char *name,
                          const char *body)
{
    char subject[200];

    snprintf(subject, sizeof(subject), API "STREAM.%s.%s", verb, name);
    return asks(w, subject, body);
}

static void expect(struct world *w, const char *verb, const char *name,
                   const char *body, const char *part)
{
    const char *answer = change(w, verb, name, body);
    char text[256];
    size_t i;

    for (i = 0; part[i] != 0; i++)
        text[i] = part[i] == '\'' ? '"' : part[i];
    text[i] = 0;
    if (answer == NULL || strstr(answer, text) == NULL)
        fail_msg("%s %s %s: %s", verb, name, body, answer != NULL ? answer : "nothing");
}

static uint64_t messages(struct world *w, const char *name)
{
    struct mp_stream *s = mp_broker_stream(w->broker, mp_slice_text(name));
    struct mp_log_stats st;

    assert_non_null(s);
    mp_log_stats(s->log, s->pid, &st);
    return st.messages;
}

static void a_stream_of_a_nats_client_is_a_station(void **state) /* 3.8 */
{
    struct world w;
    struct mp_station *s;

    (void)state;
    world_open(&w);
    assert_shape(change(&w, "CREATE", "Orders",
                        "{'name':'Orders','subjects':['o.*'],"
                        "'max_age':60000000000}"),
                 TYPE("stream_create") ",'config':{'name':'Orders','subjects':['o.*'],'"
                                       "retention':'limits',"
                                       "'max_consumers':-1,'max_msgs':-1,'max_bytes':-"
                                       "1,'max_age':60000000000,"
                                       "'max_msgs_per_subject':-1,'max_msg_size':-1,'"
                                       "discard':'old','storage':'file',"
                                       "'num_replicas':1,'duplicate_window':"
                                       "60000000000,'compression':'none',"
                                       "'allow_direct':false,'mirror_direct':false,'"
                                       "sealed':false,'deny_delete':false,"
                                       "'deny_purge':false,'allow_rollup_hdrs':false,'"
                                       "consumer_limits':{}},"
                                       "'created':'#','state':{'messages':0,'bytes':0,'"
                                       "first_seq':0,"
                                       "'first_ts':'0001-01-01T00:00:00Z','last_seq':0,"
                                       "'last_ts':'0001-01-01T00:00:00Z','consumer_"
                                       "count':0},'ts':'#',"
                                       "'did_create':true}");
    s = mp_station_find(w.broker, MP_STR("orders"));
    assert_non_null(s);
    assert_false(s->settings.native);
    assert_int_equal(s->settings.retention, MP_RETAIN_AGE);
    assert_int_equal(s->settings.retention_value, 60);
    assert_shape(asks(&w, "o.a", "m"), "{'stream':'Orders', 'seq':1}");
    assert_shape(asks(&w, API "STREAM.NAMES", "{'subject':'o.a'}"),
                 TYPE("stream_names") PAGE(1, 0, 1024) ",'streams':['Orders']}");
    assert_null(mp_broker_stream(w.broker, MP_STR("orders"))); /* letter by letter */

    /* The same again, and another one. */
    expect(&w, "CREATE", "Orders",
           "{'name':'Orders','subjects':['o.*'],"
           "'max_age':60000000000}",
           "'did_create':true");
    expect(&w, "CREATE", "Orders", "{'name':'Orders'}", "'err_code':10058");
    expect(&w, "CREATE", "orders", "{'name':'orders'}", "'err_code':10058");
    expect(&w, "DELETE", "Orders", "", "'success':true");
    assert_null(mp_station_find(w.broker, MP_STR("orders")));
    assert_null(asks(&w, "o.a", "m"));

    /* The Memphis request removes one, too. */
    expect(&w, "CREATE", "Two", "{'name':'Two'}", "'did_create':true");
    assert_string_equal(
        asks(&w, "$memphis_station_destructions", "{'station_name':'two'}"), "");
    expect(&w, "INFO", "Two", "", "'err_code':10059");
    world_close(&w);
}

static void streams_that_cannot_be_are_refused(void **state) /* 7.1, 3.8 */
{
    static const struct {
        const char *verb, *name, *body, *part;
    } cases[] = {
        { "CREATE", "S", "{", "'err_code':10025" },
        { "CREATE", "S", "{'name':'T'}", "'err_code':10056" },
        { "CREATE", "-S", "{'name':'-S'}",
          "'code':500,'err_code':10049,'description':'stream name can not start or end "
          "with non alphanumeric character'" },
        { "CREATE", "S#", "{'name':'S#'}", "'err_code':10049" },
        { "CREATE", "S", "{'name':'S','subjects':['jb$1.final']}", "'err_code':10065" },
        { "CREATE", "S", "{'name':'S','subjects':['*.final']}", "'err_code':10065" },
        { "CREATE", "S", "{'name':'S','subjects':['n.a']}", "'err_code':10065" },
        { "CREATE", "S", "{'name':'S','num_replicas':3}", "'err_code':10074" },
        { "CREATE", "S", "{'name':'S','mirror':{'name':'N'}}", "'err_code':10052" },
        { "CREATE", "jb", "{'name':'jb'}", "'err_code':10058" },
        { "CREATE", "jb$1", "{'name':'jb$1'}", "'err_code':10052" },
        { "UPDATE", "S", "{'name':'S'}", "'err_code':10059" },
        { "UPDATE", "N", "{'name':'N','storage':'memory'}", "'err_code':10052" },
        { "UPDATE", "N", "{'name':'N','subjects':['q.a']}", "'err_code':10065" },
        { "UPDATE", "jb$1", "{'name':'jb$1'}", "'err_code':10052" },
        { "DELETE", "jb$1", "", "'err_code':10052" },
        { "DELETE", "S", "", "'err_code':10059" },
        { "PURGE", "N", "{'keep':1,'seq':1}", "'err_code':10003" },
        { "PURGE", "N", "{'filter':'a..b'}", "'err_code':10003" },
        { "PURGE", "N", "{", "'err_code':10025" },
        { "PURGE", "D", "", "'err_code':10110" },
        { "MSG.DELETE", "S", "{'seq':1}", "'err_code':10059" },
        { "MSG.DELETE", "N", "{'seq':0}", "'err_code':10043" },
        { "MSG.DELETE", "N", "{'seq':9}",
          "'code':500,'err_code':10057,'description':'stream store EOF'" },
        { "MSG.DELETE", "D", "{'seq':1}", "message delete not permitted" },
    };
    struct world w;

    (void)state;
    world_open(&w);
    make_station(&w, "jb", 1);
    expect(&w, "CREATE", "N", "{'name':'N','subjects':['n.>']}", "'did_create'");
    expect(&w, "CREATE", "Q", "{'name':'Q','subjects':['q.>']}", "'did_create'");
    expect(&w, "CREATE", "D", "{'name':'D','deny_purge':true,'deny_delete':true}",
           "'did_create'");
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        expect(&w, cases[i].verb, cases[i].name, cases[i].body, cases[i].part);
    world_close(&w);
}

static void sdk_clients_do_not_use_a_nats_stream(void **state)
{
    struct world w;

    (void)state;
    world_open(&w);
    expect(&w, "CREATE", "N", "{'name':'N'}", "did_create");
    assert_non_null(
        strstr(asks(&w, "$memphis_producer_creations",
                    "{'name':'p','station_name':'n','connection_id':'conn-1',"
                    "'producer_type':'application','req_version':4,'app_id':'a',"
                    "'sdk_lang':'go'}"),
               "a stream of a NATS client"));
    assert_non_null(strstr(
        asks(&w, "$memphis_consumer_creations",
             "{'name':'c','station_name':'n','connection_id':'conn-1',"
             "'consumer_type':'application','consumers_group':'c',"
             "'max_ack_time_ms':30000,'max_msg_deliveries':2,"
             "'start_consume_from_sequence':1,'last_messages':-1,'req_version':4,"
             "'app_id':'a','sdk_lang':'go'}"),
        "a stream of a NATS client"));
    world_close(&w);
}

static void a_restricted_user_makes_streams_of_what_he_may_use(void **state)
{
    struct mp_user_row row = { .name = "bob",
                               .is_restricted = true,
                               .allow_read = "mine",
                               .allow_write = "mine\nletterbox",
                               .deny_read = "",
                               .deny_write = "" };
    struct world w;
    struct mp_grants *g;

    (void)state;
    world_open(&w);
    g = mp_grants_new(&row);
    w.client.grants = g;
    expect(&w, "CREATE", "mine", "{'name':'mine','subjects':['theirs.>']}",
           "not allowed to read and write");
    expect(&w, "CREATE", "mine", "{'name':'mine','subjects':['_INBOX.>']}",
           "not allowed to read and write");
    expect(&w, "CREATE", "mine", "{'name':'mine','subjects':['letterbox.>']}",
           "not allowed to read and write"); /* of others: he would read it there */
    expect(&w, "CREATE", "mine", "{'name':'mine','subjects':['mine.>']}", "did_create");
    expect(&w, "UPDATE", "mine", "{'name':'mine','subjects':['>x','mine.*']}",
           "not allowed to read and write");
    w.client.grants = NULL;
    mp_grants_free(g);
    world_close(&w);
}

static void an_update_takes_effect_at_once(void **state)
{
    struct world w;
    struct mp_stream *s;

    (void)state;
    world_open(&w);
    expect(&w, "CREATE", "N", "{'name':'N','subjects':['n.>']}", "did_create");
    for (int i = 0; i < 4; i++)
        asks(&w, "n.a", "m");
    expect(&w, "UPDATE", "N",
           "{'name':'N','subjects':['n.>','o'],'max_msgs_per_subject':2}",
           "'subjects':['n.>','o']");
    s = mp_broker_stream(w.broker, MP_STR("N"));
    settle_down(&w);
    assert_int_equal(messages(&w, "N"), 2);
    assert_shape(asks(&w, "o", "m"), "{'stream':'N', 'seq':5}");
    assert_string_equal(mp_station_find(w.broker, MP_STR("n"))->settings.stream,
                        s->settings.nats);
    world_close(&w);
}

static void a_purge_may_keep_some(void **state)
{
    struct world w;

    (void)state;
    world_open(&w);
    expect(&w, "CREATE", "N", "{'name':'N','subjects':['n.>']}", "did_create");
    for (int i = 0; i < 12; i++)
        asks(&w, i % 2 ? "n.a" : "n.b", "m"); /* n.a: 2 4 6 8 10 12 */
    expect(&w, "PURGE", "N", "{'filter':'n.a','keep':4}", "'success':true,'purged':2}");
    expect(&w, "PURGE", "N", "{'filter':'n.a','seq':7}", "'purged':1}");
    assert_int_equal(messages(&w, "N"), 9);
    expect(&w, "PURGE", "N", "{'filter':'none'}", "'purged':0}");
    expect(&w, "PURGE", "N", "{'seq':4}", "'purged':2}"); /* 1, 3 */
    expect(&w, "PURGE", "N", "{'keep':3}", "'purged':4}");
    assert_shape(asks(&w, API "STREAM.MSG.GET.N", "{'seq':10}"),
                 TYPE("stream_msg_get") ",'message':{'subject':'n.a','seq':10,'data':'"
                                        "bQ==','time':'#',"
                                        "'reply_subject':'','tenant_name':''}}");
    expect(&w, "PURGE", "N", "{'keep':30}", "'purged':0}");
    expect(&w, "PURGE", "N", "", "'purged':3}");
    expect(&w, "INFO", "N", "", "'first_seq':13,");
    world_close(&w);
}

static void a_message_is_deleted_from_any_stream(void **state)
{
    static const char *const names[] = { "N", "jb$1" };
    static const char *const subjects[] = { "n.a", "jb$1.final" };
    struct world w;

    (void)state;
    world_open(&w);
    make_station(&w, "jb", 1);
    expect(&w, "CREATE", "N", "{'name':'N','subjects':['n.>']}", "did_create");
    for (int i = 0; i < 2; i++) {
        for (int k = 0; k < 3; k++)
            asks(&w, subjects[i], "m");
        expect(&w, "MSG.DELETE", names[i], "{'seq':2}", "'success':true}");
        assert_int_equal(messages(&w, names[i]), 2);
        expect(&w, "MSG.DELETE", names[i], "{'seq':2}",
               "'description':'sequence 2 not found'");
        expect(&w, "INFO", names[i], "", "'num_deleted':1,");
    }
    world_close(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_stream_of_a_nats_client_is_a_station),
        cmocka_unit_test(streams_that_cannot_be_are_refused),
        cmocka_unit_test(sdk_clients_do_not_use_a_nats_stream),
        cmocka_unit_test(a_restricted_user_makes_streams_of_what_he_may_use),
        cmocka_unit_test(an_update_takes_effect_at_once),
        cmocka_unit_test(a_purge_may_keep_some),
        cmocka_unit_test(a_message_is_deleted_from_any_stream),
    };

    return cmocka_run_group_tests_name("proto/jsapi_change", tests, NULL, NULL);
}
