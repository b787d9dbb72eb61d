#include "unit/proto/test_sdk_world.h"

#include "broker/permission.h"
#include "stream/consumer.h"

static const char *create(struct world *w, const char *subject, const char *config)
{
    char full[200], body[1024];

    snprintf(full, sizeof(full), API "CONSUMER.%s", subject);
    snprintf(body, sizeof(body), "{'stream_name':'N','config':{%s}}", config);
    return asks(w, full, body);
}

static void expect(struct world *w, const char *subject, const char *config,
                   const char *part)
{
    const char *answer = create(w, subject, config);
    char text[256];
    size_t i;

    for (i = 0; part[i] != 0; i++)
        text[i] = part[i] == '\'' ? '"' : part[i];
    text[i] = 0;
    if (answer == NULL || strstr(answer, text) == NULL)
        fail_msg("%s {%s}: %s", subject, config, answer != NULL ? answer : "nothing");
}

static void world_with_stream(struct world *w, const char *settings)
{
    char body[256];

    world_open(w);
    snprintf(body, sizeof(body), "{'name':'N','subjects':['n.>']%s}", settings);
    assert_non_null(strstr(asks(w, API "STREAM.CREATE.N", body), "did_create"));
    for (int i = 0; i < 4; i++)
        asks(w, i % 2 ? "n.a" : "n.b", "m");
}

static struct mp_stream_group *group_of(struct world *w, const char *name)
{
    return mp_stream_group(mp_broker_stream(w->broker, MP_STR("N")),
                           mp_slice_text(name));
}

static void the_answer_shows_the_consumer(void **state)
{
    struct world w;

    (void)state;
    world_with_stream(&w, "");
    assert_shape(create(&w, "CREATE.N.d.n.a",
                        "'durable_name':'d','name':'d','filter_subject':'n.a',"
                        "'ack_policy':'explicit','description':'x'"),
                 TYPE("consumer_create") ",'stream_name':'N','name':'d','created':'#','"
                                         "config':{'durable_name':'d',"
                                         "'description':'x','deliver_policy':'all','"
                                         "ack_policy':'explicit',"
                                         "'ack_wait':30000000000,'max_deliver':-1,'"
                                         "filter_subject':'n.a',"
                                         "'replay_policy':'instant','max_waiting':512,'"
                                         "max_ack_pending':1000,"
                                         "'num_replicas':0},'delivered':{'consumer_seq'"
                                         ":0,'stream_seq':0},"
                                         "'ack_floor':{'consumer_seq':0,'stream_seq':0}"
                                         ",'num_ack_pending':0,"
                                         "'num_redelivered':0,'num_waiting':0,'num_"
                                         "pending':2,'ts':'#'}");
    world_close(&w);
}

static void a_consumer_without_a_name_gets_one(void **state)
{
    struct world w;
    struct mp_stream *s;

    (void)state;
    world_with_stream(&w, "");
    expect(&w, "CREATE.N", "'ack_policy':'none'", "'inactive_threshold':5000000000");
    expect(&w, "CREATE.N", "'ack_policy':'none'", "'max_deliver':-1");
    s = mp_broker_stream(w.broker, MP_STR("N"));
    assert_int_equal(s->groups.count, 2);
    expect(&w, "CREATE.N.mine", "'name':'mine'", "'name':'mine','created'");
    for (int i = 0; i < 70; i++) {
        mp_disk_advance(w.disk, 100000000);
        turn(&w);
    }
    settle_down(&w);
    assert_int_equal(s->groups.count, 0);
    world_close(&w);
}

static void create_and_update_may_be_told_apart(void **state)
{
    static const char body[] = "{'stream_name':'N','action':'%s','config':{"
                               "'durable_name':'d','max_deliver':%d}}";
    struct world w;
    char text[200];

    (void)state;
    world_with_stream(&w, "");
    snprintf(text, sizeof(text), body, "update", 3);
    assert_non_null(strstr(asks(&w, API "CONSUMER.CREATE.N.d", text), ":10149,"));
    snprintf(text, sizeof(text), body, "create", 3);
    assert_null(strstr(asks(&w, API "CONSUMER.CREATE.N.d", text), "error"));
    assert_null(strstr(asks(&w, API "CONSUMER.CREATE.N.d", text), "error"));
    snprintf(text, sizeof(text), body, "create", 4);
    assert_non_null(strstr(asks(&w, API "CONSUMER.CREATE.N.d", text), ":10148,"));
    snprintf(text, sizeof(text), body, "update", 4);
    assert_non_null(
        strstr(asks(&w, API "CONSUMER.CREATE.N.d", text), "\"max_deliver\":4"));
    assert_int_equal(group_of(&w, "d")->group.config.deliveries_max, 4);
    expect(&w, "CREATE.N.d", "'durable_name':'d','deliver_policy':'new'",
           "deliver policy can not be updated");
    world_close(&w);
}

static void what_cannot_be_has_its_error(void **state)
{
    static const struct {
        const char *subject, *config, *part;
    } cases[] = {
        { "CREATE.N.d", "'durable_name':'e'", "'err_code':10017" },
        { "CREATE.N.d.n.a", "'name':'d','filter_subject':'n.b'", "'err_code':10131" },
        { "CREATE.N.d", "'name':'d','filter_subjects':['n.*','n.a']",
          "'err_code':10136" },
        { "CREATE.N.d", "'name':'d','filter_subject':'a..b'", "'err_code':10003" },
        { "CREATE.N.d", "'name':'d','deliver_policy':'by_start_sequence'",
          "'err_code':10094" },
        { "CREATE.N.d", "'name':'d','rate_limit_bps':9", "rate limits are not" },
        { "CREATE.none.d", "'name':'d'", "'err_code':10056" },
        { "CREATE.N.d", "'name':'d','ack_policy':5", "'err_code':10012" },
    };
    struct world w;

    (void)state;
    world_with_stream(&w, "");
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        expect(&w, cases[i].subject, cases[i].config, cases[i].part);
    assert_non_null(strstr(asks(&w, API "CONSUMER.CREATE.none.d",
                                "{'stream_name':'none','config':{'name':'d'}}"),
                           ":10059,"));
    world_close(&w);
}

static void consumers_of_a_work_queue_share_nothing(void **state)
{
    struct world w;

    (void)state;
    world_with_stream(&w, ",'retention':'workqueue','max_consumers':2");
    expect(&w, "CREATE.N.a", "'name':'a'", "'err_code':10098");
    expect(&w, "CREATE.N.a",
           "'name':'a','ack_policy':'explicit','deliver_policy':'new'",
           "'err_code':10101");
    expect(&w, "CREATE.N.a.n.a",
           "'durable_name':'a','ack_policy':'explicit','filter_subject':'n.a'",
           "'num_pending':2");
    expect(&w, "CREATE.N.b", "'name':'b','ack_policy':'explicit'", "'err_code':10099");
    expect(&w, "CREATE.N.b",
           "'name':'b','ack_policy':'explicit',"
           "'filter_subjects':['n.b','n.*']",
           "'err_code':10136");
    expect(&w, "CREATE.N.b.n.*",
           "'name':'b','ack_policy':'explicit','filter_subject':'n.*'",
           "'err_code':10100");
    expect(&w, "CREATE.N.b.n.b",
           "'durable_name':'b','ack_policy':'explicit','filter_subject':'n.b'",
           "'num_pending':2");
    expect(&w, "CREATE.N.c.n.c",
           "'name':'c','ack_policy':'explicit','filter_subject':'n.c'",
           "'err_code':10026");
    world_close(&w);
}

static void a_push_consumer_shows_who_hears_it(void **state)
{
    struct world w;

    (void)state;
    world_with_stream(&w, "");
    expect(&w, "CREATE.N.d", "'durable_name':'d','deliver_subject':'my.box'",
           "'push_bound':false");
    listen_to(&w, "my.box");
    settle_down(&w);
    assert_non_null(
        strstr(ask(&w, API "CONSUMER.INFO.N.d", ""), "\"push_bound\":true"));
    forget(&w);
    publish(&w, API "CONSUMER.MSG.NEXT.N.d", "_INBOX.p", "");
    settle_down(&w);
    assert_string_equal(w.heard[0].headers,
                        "NATS/1.0 409 Consumer is push based\r\n\r\n");
    world_close(&w);
}

static void a_pull_is_held_to_the_configuration(void **state)
{
    static const struct {
        const char *body, *says;
    } cases[] = {
        { "{\"batch\":6}", "409 Exceeded MaxRequestBatch of 5" },
        { "{\"batch\":5,\"expires\":3000000000}",
          "409 Exceeded MaxRequestExpires of 2000ms" },
        { "{\"batch\":5,\"expires\":1000000000,\"max_bytes\":200}",
          "409 Exceeded MaxRequestMaxBytes of 100" },
    };
    struct world w;

    (void)state;
    world_with_stream(&w, "");
    expect(&w, "CREATE.N.d",
           "'durable_name':'d','max_batch':5,'max_expires':2000000000,'max_bytes':100,"
           "'max_waiting':1,'deliver_policy':'new'",
           "'max_batch':5");
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        forget(&w);
        publish(&w, API "CONSUMER.MSG.NEXT.N.d", "_INBOX.p", cases[i].body);
        settle_down(&w);
        assert_int_equal(w.heard_count, 1);
        assert_non_null(strstr(w.heard[0].headers, cases[i].says));
    }
    forget(&w);
    for (int i = 0; i < 2; i++)
        publish(&w, API "CONSUMER.MSG.NEXT.N.d", "_INBOX.p",
                "{\"batch\":1,\"expires\":1000000000}");
    settle_down(&w);
    assert_int_equal(w.heard_count, 1);
    assert_non_null(strstr(w.heard[0].headers, "409 Exceeded MaxWaiting"));
    world_close(&w);
}

static void a_restricted_user_cannot_push_to_others(void **state)
{
    struct mp_user_row row = { .name = "bob",
                               .is_restricted = true,
                               .allow_read = "n",
                               .allow_write = "",
                               .deny_read = "",
                               .deny_write = "" };
    struct world w;
    struct mp_grants *g;

    (void)state;
    world_with_stream(&w, "");
    g = mp_grants_new(&row);
    w.client.grants = g;
    expect(&w, "CREATE.N.d", "'durable_name':'d','deliver_subject':'other.final'",
           "not allowed to write to the deliver subject");
    expect(&w, "CREATE.N.d", "'durable_name':'d','deliver_subject':'_INBOX.me'",
           "'deliver_subject':'_INBOX.me'");
    w.client.grants = NULL;
    mp_grants_free(g);
    world_close(&w);
}

static void flow_control_is_answered_by_its_subject(void **state)
{
    struct world w;

    (void)state;
    world_with_stream(&w, "");
    expect(&w, "CREATE.N.d",
           "'durable_name':'d','deliver_subject':'my.box','flow_control':true,"
           "'idle_heartbeat':1000000000",
           "'flow_control':true");
    group_of(&w, "d")->nats->flow_asked = true;
    publish(&w, "$JS.FC.N.d.1", "", "");
    assert_int_equal(w.responders, 1);
    assert_false(group_of(&w, "d")->nats->flow_asked);
    publish(&w, "$JS.FC.N.none.1", "", "");
    assert_int_equal(w.responders, 0);
    world_close(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_answer_shows_the_consumer),
        cmocka_unit_test(a_consumer_without_a_name_gets_one),
        cmocka_unit_test(create_and_update_may_be_told_apart),
        cmocka_unit_test(what_cannot_be_has_its_error),
        cmocka_unit_test(consumers_of_a_work_queue_share_nothing),
        cmocka_unit_test(a_push_consumer_shows_who_hears_it),
        cmocka_unit_test(a_pull_is_held_to_the_configuration),
        cmocka_unit_test(a_restricted_user_cannot_push_to_others),
        cmocka_unit_test(flow_control_is_answered_by_its_subject),
    };

    return cmocka_run_group_tests_name("proto/jsapi_create", tests, NULL, NULL);
}
