#include "unit/proto/test_sdk_world.h"

#include "base/status.h"
#include "proto/jsapi_internal.h"

/* === Pull requests, pure (sdk-protocol 3.5) === */

static struct mp_pull_request parsed(const char *body)
{
    struct mp_pull_request r;
    memphis_error err;

    assert_int_equal(mp_jsapi_pull_parse(mp_slice_text(body), &r, &err), MEMPHIS_OK);
    return r;
}

static void the_pulls_of_all_sdks_are_read(void **state)
{
    struct mp_pull_request r;

    (void)state;
    r = parsed("{\"expires\":5000000000,\"batch\":10}"); /* Go */
    assert_int_equal(r.batch, 10);
    assert_true(r.has_expires);
    assert_int_equal(r.expires_ns, 5000000000);
    assert_false(r.no_wait);
    r = parsed("{\"batch\":10,\"max_bytes\":0,\"idle_heartbeat\":500000000,"
               "\"expires\":1000000000}"); /* JS */
    assert_int_equal(r.bytes_max, 0);
    assert_int_equal(r.heartbeat_ns, 500000000);
    /* Python */
    r = parsed("{\"batch\": 10, \"expires\": 4999900000, \"no_wait\": true}");
    assert_int_equal(r.expires_ns, 4999900000);
    assert_true(r.no_wait);
    r = parsed("{\"batch\":1,\"no_wait\":false,\"max_bytes\":77}\r\n");
    assert_false(r.no_wait);
    assert_false(r.has_expires);
    assert_int_equal(r.bytes_max, 77);
}

static void odd_pulls_count_as_one_message(void **state)
{
    static const char *const bodies[] = { "", " ", "abc", "-1", "0", "1x", "{}", "{ }",
                                          "{\"batch\":0}", "{\"batch\":-1}", "[5]",
                                          "{\"batch\":null}" };

    (void)state;
    for (size_t i = 0; i < sizeof(bodies) / sizeof(bodies[0]); i++) {
        struct mp_pull_request r = parsed(bodies[i]);

        assert_int_equal(r.batch, 1);
        assert_false(r.has_expires);
        assert_false(r.no_wait);
    }
    assert_int_equal(parsed("25").batch, 25);
    assert_int_equal(parsed("99999999999").batch, INT32_MAX);
}

static void a_negative_expiry_is_over_at_once(void **state)
{
    struct mp_pull_request r = parsed("{\"expires\":-1}");

    (void)state;
    assert_true(r.has_expires);
    assert_int_equal(r.expires_ns, 0);
    assert_false(parsed("{\"expires\":0}").has_expires);
}

static void unusual_pulls_go_through_the_whole_reader(void **state)
{
    (void)state;
    assert_int_equal(parsed("{\"unknown\":[1,{}],\"BATCH\":7}").batch, 7);
    assert_int_equal(parsed("{\"batch\":1e1}").batch, 10);
    assert_int_equal(parsed("{\"b\\u0061tch\":3}").batch, 3);
    assert_int_equal(parsed("{\"batch\":4,\"id\":\"x\"}").batch, 4);
    assert_int_equal(parsed("{\"expires\":9223372036854775807}").expires_ns, INT64_MAX);
}

static void the_quick_and_the_whole_reader_agree(void **state)
{
    static const char *const same[][2] = {
        { "{\"batch\":5,\"expires\":100,\"no_wait\":true}",
          "{\"x\":0,\"batch\":5,\"expires\":100,\"no_wait\":true}" },
        { " { \"max_bytes\" : 9 , \"batch\" : 2 } ",
          "{\"max_bytes\":9,\"batch\":2,\"x\":null}" },
        { "{\"idle_heartbeat\":50,\"expires\":100}",
          "{\"idle_heartbeat\":50,\"x\":true,\"expires\":100}" },
        { "{\"idle_heartbeat\":-5,\"max_bytes\":-1,\"batch\":-7}",
          "{\"idle_heartbeat\":-5,\"max_bytes\":-1,\"x\":1,\"batch\":-7}" },
    };

    (void)state;
    for (size_t i = 0; i < sizeof(same) / sizeof(same[0]); i++) {
        struct mp_pull_request a = parsed(same[i][0]), b = parsed(same[i][1]);

        assert_int_equal(a.batch, b.batch);
        assert_int_equal(a.has_expires, b.has_expires);
        assert_int_equal(a.expires_ns, b.expires_ns);
        assert_int_equal(a.no_wait, b.no_wait);
        assert_int_equal(a.bytes_max, b.bytes_max);
        assert_int_equal(a.heartbeat_ns, b.heartbeat_ns);
    }
}

static void wrong_pulls_are_refused(void **state)
{
    static const char *const bodies[] = { "{bad", "{", "{\"batch\":}", "{\"batch\":1,}",
                                          "{\"batch\":01}", "{\"batch\":\"5\"}",
                                          "{\"no_wait\":1}", "{\"batch\":1}}",
                                          "{\"batch\":1.5}", "{\"batch\":-}" };
    struct mp_pull_request r;
    memphis_error err;

    (void)state;
    for (size_t i = 0; i < sizeof(bodies) / sizeof(bodies[0]); i++) {
        memset(&err, 0, sizeof(err));
        assert_int_equal(mp_jsapi_pull_parse(mp_slice_text(bodies[i]), &r, &err),
                         MEMPHIS_INVALID);
        assert_true(err.message[0] != 0);
    }
}

static void a_heartbeat_fits_twice_into_the_expiry(void **state)
{
    struct mp_pull_request r;
    memphis_error err;

    (void)state;
    r = parsed("{\"idle_heartbeat\":50,\"expires\":100}");
    assert_int_equal(r.heartbeat_ns, 50);
    assert_int_equal(mp_jsapi_pull_parse(
                         MP_STR("{\"idle_heartbeat\":51,\"expires\":100}"), &r, &err),
                     MEMPHIS_INVALID);
    assert_string_equal(err.message, "heartbeat value too large");
    assert_int_equal(mp_jsapi_pull_parse(MP_STR("{\"idle_heartbeat\":1}"), &r, &err),
                     MEMPHIS_INVALID);
}

/* === Ack subjects, pure (3.7) === */

static void an_ack_subject_has_nine_tokens(void **state)
{
    struct mp_jsapi_ack_subject a;

    (void)state;
    assert_true(
        mp_jsapi_ack_parse(MP_STR("$JS.ACK.orders#eu$1.g#x.1.41.17.1795417246.3"), &a));
    assert_true(mp_slice_equal(a.stream, MP_STR("orders#eu$1")));
    assert_true(mp_slice_equal(a.durable, MP_STR("g#x")));
    assert_true(a.has_seq);
    assert_int_equal(a.seq, 41);
    assert_true(mp_jsapi_ack_parse(MP_STR("$JS.ACK.s.g.a.b.c.d.e"), &a));
    assert_false(a.has_seq);
    assert_false(mp_jsapi_ack_parse(MP_STR("$JS.ACK.s.g.1.2.3.4"), &a));
    assert_false(mp_jsapi_ack_parse(MP_STR("$JS.ACK.s.g.1.2.3.4.5.6"), &a));
    assert_false(mp_jsapi_ack_parse(MP_STR("$JS.ACK.d.h.s.c.1.2.3.4.5.r"), &a));
}

/* === Consumers === */

#define INFO_HEAD(type, stream, name) \
    TYPE(type) ",'stream_name':'" stream "','name':'" name "','created':'#',"
#define G1_CONFIG \
    "'config':{'durable_name':'g1','deliver_policy':'all','ack_policy':'explicit'," \
    "'ack_wait':30000000000,'max_deliver':2,'filter_subject':'jb$1.final'," \
    "'replay_policy':'instant','max_waiting':512,'max_ack_pending':-1," \
    "'num_replicas':0},"
#define UNTOUCHED(pending) \
    "'delivered':{'consumer_seq':0,'stream_seq':0}," \
    "'ack_floor':{'consumer_seq':0,'stream_seq':0},'num_ack_pending':0," \
    "'num_redelivered':0,'num_waiting':0,'num_pending':" #pending ",'ts':'#'}"

static void consumer_info_is_that_of_the_captures(void **state) /* 3.3 */
{
    struct world w;

    (void)state;
    world_open(&w);
    make_station(&w, "jb", 1);
    make_consumer(&w, "jb", "g1");
    for (int i = 0; i < 5; i++)
        ask(&w, "jb$1.final", "m");

    assert_shape(asks(&w, API "CONSUMER.INFO.jb$1.g1", ""),
                 INFO_HEAD("consumer_info", "jb$1", "g1") G1_CONFIG UNTOUCHED(5));

    publish(&w, API "CONSUMER.MSG.NEXT.jb$1.g1", "_INBOX.p", "{\"batch\":3}");
    settle_down(&w);
    publish(&w, w.heard[w.heard_count - 3].reply, "", "+ACK");
    settle_down(&w);
    assert_shape(asks(&w, API "CONSUMER.INFO.jb$1.g1", ""),
                 INFO_HEAD("consumer_info", "jb$1", "g1") G1_CONFIG
                 "'delivered':{'consumer_seq':3,'stream_seq':3,'last_active':'#'},"
                 "'ack_floor':{'consumer_seq':1,'stream_seq':1,'last_active':'#'},"
                 "'num_ack_pending':2,'num_redelivered':0,'num_waiting':0,"
                 "'num_pending':2,'ts':'#'}");
    world_close(&w);
}

static void consumer_info_shows_where_a_group_started(void **state) /* 2.5 */
{
    struct world w;

    (void)state;
    world_open(&w);
    make_station(&w, "jb", 1);
    ask(&w, "jb$1.final", "m");
    asks(&w, "$memphis_consumer_creations",
         "{'name':'g','station_name':'jb','consumer_type':'application',"
         "'req_version':4,"
         "'start_consume_from_sequence':100,'last_messages':-1}");
    asks(&w, "$memphis_consumer_creations",
         "{'name':'n','station_name':'jb','consumer_type':'application',"
         "'req_version':4,"
         "'start_consume_from_sequence':1,'last_messages':0}");

    /* The number asked for, not where the stream ends now. */
    assert_non_null(strstr(asks(&w, API "CONSUMER.INFO.jb$1.g", ""),
                           "\"deliver_policy\":\"by_start_sequence\","
                           "\"opt_start_seq\":100,\"ack_policy\""));
    assert_non_null(strstr(asks(&w, API "CONSUMER.INFO.jb$1.n", ""),
                           "\"deliver_policy\":\"new\",\"ack_policy\""));
    world_close(&w);
}

static void consumer_calls_have_their_errors(void **state) /* 7.1 */
{
    static const struct {
        const char *subject, *body, *shape;
    } cases[] = {
        { API "CONSUMER.INFO.jb$1.nosuch", "", TYPE("consumer_info") NO_CONSUMER "}" },
        { API "CONSUMER.INFO.nosuch.g1", "", TYPE("consumer_info") NO_STREAM "}" },
        { API "CONSUMER.INFO.jb$1.g1", "x",
          TYPE("consumer_info") ERROR(400, 10038, "expected an empty request payload")
          "}" },
        { API "CONSUMER.NAMES.nosuch", "",
          TYPE("consumer_names") NO_STREAM PAGE(0, 0, 0) ",'consumers':[]}" },
        { API "CONSUMER.DELETE.jb$1.nosuch", "",
          TYPE("consumer_delete") NO_CONSUMER "}" },
        { API "CONSUMER.DELETE.nosuch.g1", "", TYPE("consumer_delete") NO_STREAM "}" },
    };
    struct world w;

    (void)state;
    world_open(&w);
    make_station(&w, "jb", 1);
    make_consumer(&w, "jb", "g1");

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        assert_shape(asks(&w, cases[i].subject, cases[i].body), cases[i].shape);
    world_close(&w);
}

static void consumers_are_listed_in_pages(void **state) /* 3.3 */
{
    struct world w;

    (void)state;
    world_open(&w);
    make_station(&w, "jb", 1);
    make_consumer(&w, "jb", "g1");

    assert_shape(asks(&w, API "CONSUMER.LIST.jb$1", "{'offset':0}"),
                 TYPE("consumer_list") PAGE(1, 0, 256)
                 ",'consumers':[{'stream_name':'jb$1','name':'g1','created':'#',"
                 G1_CONFIG UNTOUCHED(0) "]}");
    make_consumer(&w, "jb", "b");
    assert_shape(asks(&w, API "CONSUMER.NAMES.jb$1", ""),
                 TYPE("consumer_names") PAGE(2, 0, 1024) ",'consumers':['b','g1']}");
    assert_shape(asks(&w, API "CONSUMER.NAMES.jb$1", "{'offset':1}"),
                 TYPE("consumer_names") PAGE(2, 1, 1024) ",'consumers':['g1']}");
    assert_shape(asks(&w, API "CONSUMER.NAMES.jb$1", "{'offset':2}"),
                 TYPE("consumer_names") PAGE(2, 2, 1024) ",'consumers':[]}");
    world_close(&w);
}

#define CREATE_SUBJECT API "CONSUMER.DURABLE.CREATE.jb$1.d1"
#define CREATE_BODY(fields) \
    "{'stream_name':'jb$1','config':{'durable_name':'d1'," \
    "'ack_policy':'explicit'," fields "'filter_subject':'jb$1.final'}}"
#define D1(policy, wait, deliver, filter, pending) \
    INFO_HEAD("consumer_create", "jb$1", "d1") \
    "'config':{'durable_name':'d1','deliver_policy':" policy \
    ",'ack_policy':'explicit','ack_wait':" wait ",'max_deliver':" deliver filter \
    ",'replay_policy':'instant','max_waiting':512,'max_ack_pending':" pending \
    ",'num_replicas':0},"

static void a_nats_client_makes_a_durable_and_asks_again(void **state) /* 3.3 */
{
    struct world w;

    (void)state;
    world_open(&w);
    make_station(&w, "jb", 1);

    for (int i = 0; i < 2; i++)
        assert_shape(asks(&w, CREATE_SUBJECT, CREATE_BODY("'deliver_policy':'all',")),
                     D1("'all'", "30000000000", "-1", ",'filter_subject':'jb$1.final'",
                        "1000") UNTOUCHED(0));

    assert_shape(asks(&w, CREATE_SUBJECT,
                      CREATE_BODY("'ack_wait':1000000000,'max_deliver':3,")),
                 D1("'all'", "1000000000", "3", ",'filter_subject':'jb$1.final'",
                    "1000") UNTOUCHED(0));
    world_close(&w);
}

static void a_durable_without_filter_gets_every_subject(void **state)
{
    struct world w;

    (void)state;
    world_open(&w);
    make_station(&w, "jb", 1);
    ask(&w, "jb$1.other", "m");

    assert_shape(asks(&w, API "CONSUMER.CREATE.jb$1.d1",
                      "{'stream_name':'jb$1','config':{'durable_name':'d1','name':'d1',"
                      "'ack_policy':'explicit','max_ack_pending':-1,"
                      "'deliver_policy':'by_start_sequence','opt_start_seq':1}}"),
                 D1("'by_start_sequence','opt_start_seq':1", "30000000000", "-1", "",
                    "-1") UNTOUCHED(1));

    forget(&w);
    publish(&w, API "CONSUMER.MSG.NEXT.jb$1.d1", "_INBOX.p", "");
    settle_down(&w);
    assert_int_equal(w.heard_count, 1);
    assert_string_equal(w.heard[0].subject, "jb$1.other");
    world_close(&w);
}

static void python_creates_with_the_filter_in_the_subject(void **state) /* 3.2 */
{
    static const char body[] =
        "{'stream_name':'jb$1','config':{'name':'d1','durable_name':'d1',"
        "'deliver_policy':'all','ack_policy':'explicit','replay_policy':'instant',"
        "'filter_subject':'jb$1.final','ack_wait':30000000000,'max_ack_pending':1000}}";
    struct world w;

    (void)state;
    world_open(&w);
    make_station(&w, "jb", 1);

    assert_shape(asks(&w, API "CONSUMER.CREATE.jb$1.d1.jb$1.final", body),
                 D1("'all'", "30000000000", "-1", ",'filter_subject':'jb$1.final'",
                    "1000") UNTOUCHED(0));
    assert_shape(asks(&w, API "CONSUMER.CREATE.jb$1.d1.jb$1.other", body),
                 TYPE("consumer_create")
                 ERROR(400, 10131, "Consumer create request did not match filtered "
                                   "subject from create subject") "}");
    world_close(&w);
}

static void every_refused_creation_has_its_error(void **state) /* 7.1 */
{
    static const struct {
        const char *subject, *body, *error;
    } cases[] = {
        { CREATE_SUBJECT, "{bad", ERROR(400, 10025, "invalid JSON") },
        { CREATE_SUBJECT, "", ERROR(400, 10025, "invalid JSON") },
        { CREATE_SUBJECT, "{'stream_name':'other','config':{'durable_name':'d1'}}",
          ERROR(400, 10056, "stream name in subject does not match request") },
        { CREATE_SUBJECT, "{'stream_name':'jb$1','config':{'durable_name':'d2'}}",
          ERROR(400, 10017,
                "consumer name in subject does not match durable name in "
                "request") },
        { API "CONSUMER.DURABLE.CREATE.nosuch.d4",
          "{'stream_name':'nosuch','config':{'durable_name':'d4'}}",
          ERROR(404, 10059, "stream not found") },
        { CREATE_SUBJECT, CREATE_BODY("'deliver_policy':'by_start_sequence',"),
          ERROR(400, 10094,
                "consumer delivery policy is deliver by start sequence, "
                "but optional start sequence is not set") },
        { CREATE_SUBJECT, CREATE_BODY("'deliver_policy':'new',"),
          ERROR(500, 10012, "deliver policy can not be updated") },
        { CREATE_SUBJECT, CREATE_BODY("'replay_policy':'original',"),
          ERROR(500, 10012,
                "replay policies other than instant are not supported by "
                "this release") },
        { CREATE_SUBJECT, CREATE_BODY("'max_waiting':100,"),
          ERROR(500, 10012, "max waiting can not be updated") },
        { CREATE_SUBJECT,
          "{'stream_name':'jb$1','config':{'durable_name':'d1','ack_policy':'all',"
          "'filter_subject':'jb$1.final'}}",
          ERROR(500, 10012, "ack policy can not be updated") },
        { API "CONSUMER.CREATE.jb$1",
          "{'stream_name':'jb$1','config':{'durable_name':'a.b'}}",
          ERROR(400, 10003, "bad request: the consumer name is not valid") },
    };
    struct world w;
    char shape[512];

    (void)state;
    world_open(&w);
    make_station(&w, "jb", 1);
    asks(&w, CREATE_SUBJECT, CREATE_BODY(""));

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        snprintf(shape, sizeof(shape), TYPE("consumer_create") "%s}", cases[i].error);
        assert_shape(asks(&w, cases[i].subject, cases[i].body), shape);
    }
    assert_int_equal(mp_broker_stream(w.broker, MP_STR("jb$1"))->groups.count, 1);
    world_close(&w);
}

static void a_name_as_long_as_allowed_can_be_pulled_from(void **state)
{
    struct world w;
    char name[140], subject[256], body[300];

    (void)state;
    world_open(&w);
    memset(name, 's', 128);
    name[128] = 0;
    make_station(&w, name, 1);
    snprintf(subject, sizeof(subject), "%s$1.final", name);
    ask(&w, subject, "m");

    for (int size = 128; size <= 129; size++) {
        memset(name, 's', 128);
        name[128] = 0;
        snprintf(subject, sizeof(subject), API "CONSUMER.CREATE.%s$1", name);
        memset(name, 'd', (size_t)size);
        name[size] = 0;
        snprintf(body, sizeof(body),
                 "{'config':{'durable_name':'%s','ack_policy':'explicit'}}", name);
        assert_int_equal(strstr(asks(&w, subject, body), "error") != NULL, size > 128);
    }

    memset(name, 'd', 128);
    name[128] = 0;
    snprintf(body, sizeof(body), API "CONSUMER.MSG.NEXT.%s.%s",
             strrchr(subject, '.') + 1, name);
    forget(&w);
    publish(&w, body, "_INBOX.p", "");
    settle_down(&w);
    assert_int_equal(w.heard_count, 1);
    world_close(&w);
}

/* 3.3 */
static void a_deleted_consumer_tells_who_waits_and_then_who_asked(void **state)
{
    struct world w;

    (void)state;
    world_open(&w);
    make_station(&w, "jb", 1);
    make_consumer(&w, "jb", "g1");
    forget(&w);
    publish(&w, API "CONSUMER.MSG.NEXT.jb$1.g1", "_INBOX.p", "");
    settle_down(&w);
    assert_int_equal(w.heard_count, 0);

    publish(&w, API "CONSUMER.DELETE.jb$1.g1", "_INBOX.d", "");
    settle_down(&w);

    assert_int_equal(w.heard_count, 2);
    assert_string_equal(w.heard[0].subject, "_INBOX.p");
    assert_string_equal(w.heard[0].headers, "NATS/1.0 409 Consumer Deleted\r\n\r\n");
    assert_string_equal(w.heard[1].subject, "_INBOX.d");
    assert_shape(w.heard[1].payload, TYPE("consumer_delete") ",'success':true}");
    assert_null(
        mp_stream_group(mp_broker_stream(w.broker, MP_STR("jb$1")), MP_STR("g1")));
    world_close(&w);
}

/* === Pulls and acks === */

static void world_with_messages(struct world *w, int count)
{
    world_open(w);
    make_station(w, "jb", 1);
    make_consumer(w, "jb", "g1");
    for (int i = 0; i < count; i++)
        ask(w, "jb$1.final", "m");
    forget(w);
}

static void pull(struct world *w, const char *body)
{
    forget(w);
    publish(w, API "CONSUMER.MSG.NEXT.jb$1.g1", "_INBOX.p", body);
    settle_down(w);
}

static struct mp_group *g1(struct world *w)
{
    return &mp_stream_group(mp_broker_stream(w->broker, MP_STR("jb$1")), MP_STR("g1"))
                ->group;
}

static void a_pull_brings_messages_with_subject_and_ack_subject(void **state) /* 3.5 */
{
    struct world w;
    char prefix[] = "$JS.ACK.jb$1.g1.1.1.1.";

    (void)state;
    world_with_messages(&w, 3);

    pull(&w, "{\"batch\":2,\"no_wait\":true}");

    assert_int_equal(w.heard_count, 2); /* filled: no status */
    assert_string_equal(w.heard[0].to, "_INBOX.>");
    assert_string_equal(w.heard[0].subject, "jb$1.final");
    assert_memory_equal(w.heard[0].reply, prefix, sizeof(prefix) - 1);
    assert_string_equal(strrchr(w.heard[0].reply, '.'), ".2");
    world_close(&w);
}

static void a_bad_pull_hears_400_on_its_inbox(void **state) /* 3.5 */
{
    struct world w;
    static const char prefix[] = "NATS/1.0 400 Bad Request - ";

    (void)state;
    world_with_messages(&w, 1);

    pull(&w, "{\"batch\":5,\"expires\":500000000,\"idle_heartbeat\":300000000}");
    assert_int_equal(w.heard_count, 1);
    assert_string_equal(w.heard[0].subject, "_INBOX.p");
    assert_string_equal(
        w.heard[0].headers,
        "NATS/1.0 400 Bad Request - heartbeat value too large\r\n\r\n");
    assert_string_equal(w.heard[0].payload, "");

    pull(&w, "{bad");
    assert_int_equal(w.heard_count, 1);
    assert_memory_equal(w.heard[0].headers, prefix, sizeof(prefix) - 1);
    assert_int_equal(g1(&w)->pending.count, 0);
    world_close(&w);
}

static void a_pull_that_nobody_hears_uses_up_nothing(void **state) /* 3.5 */
{
    struct world w;

    (void)state;
    world_with_messages(&w, 1);

    publish(&w, API "CONSUMER.MSG.NEXT.jb$1.g1", "", "");
    assert_int_equal(w.responders, 1);
    publish(&w, API "CONSUMER.MSG.NEXT.jb$1.g1", "nobody.there", "");
    assert_int_equal(w.responders, 1);
    settle_down(&w);

    assert_int_equal(g1(&w)->dseq, 0);
    world_close(&w);
}

static void an_ack_settles_and_is_answered(void **state) /* 3.7 */
{
    static const char *const verdicts[] = { "", "+ACK", "+OK", "+TERM", "+TERM why" };
    struct world w;

    (void)state;
    world_with_messages(&w, 5);

    for (size_t i = 0; i < 5; i++) {
        char subject[64];

        pull(&w, "");
        assert_int_equal(w.heard_count, 1);
        snprintf(subject, sizeof(subject), "%s", w.heard[0].reply);
        assert_string_equal(ask(&w, subject, verdicts[i]), "");
        assert_int_equal(g1(&w)->floor, i + 1);
        assert_int_equal(g1(&w)->pending.count, 0);
    }
    world_close(&w);
}

static void odd_acks_change_nothing_and_are_answered(void **state) /* 3.7 */
{
    struct world w;
    char subject[64];

    (void)state;
    world_with_messages(&w, 1);
    pull(&w, "");
    snprintf(subject, sizeof(subject), "%s", w.heard[0].reply);

    assert_string_equal(ask(&w, subject, "+ack"), "");
    assert_string_equal(ask(&w, subject, "hello"), "");
    assert_string_equal(ask(&w, "$JS.ACK.jb$1.g1.x.y.z.t.p", "+ACK"), "");
    assert_string_equal(ask(&w, "$JS.ACK.jb$1.g1.1.77.1.1.0", "+ACK"), "");
    assert_int_equal(g1(&w)->pending.count, 1);

    /* Any delivery's subject acks the message: only its sequence counts. */
    assert_string_equal(ask(&w, "$JS.ACK.jb$1.g1.9.1.9.9.9", "+ACK"), "");
    assert_int_equal(g1(&w)->pending.count, 0);
    world_close(&w);
}

static void next_acks_and_pulls_at_once(void **state) /* 3.7 */
{
    struct world w;
    char subject[64];

    (void)state;
    world_with_messages(&w, 4);
    pull(&w, "");
    snprintf(subject, sizeof(subject), "%s", w.heard[0].reply);
    forget(&w);

    publish(&w, subject, "_INBOX.nx", "+NXT {\"batch\":2,\"no_wait\":true}");
    settle_down(&w);
    assert_int_equal(w.heard_count, 2); /* messages, and no answer to the ack */
    assert_string_equal(w.heard[0].subject, "jb$1.final");
    assert_int_equal(g1(&w)->floor, 1);

    snprintf(subject, sizeof(subject), "%s", w.heard[0].reply);
    forget(&w);
    publish(&w, subject, "_INBOX.nx", "+NXT 1");
    settle_down(&w);
    assert_int_equal(w.heard_count, 1);
    assert_int_equal(g1(&w)->floor, 2);
    assert_int_equal(g1(&w)->dseq, 4);
    world_close(&w);
}

static void a_creation_on_its_way_is_freed_with_the_broker(void **state)
{
    struct world w;

    (void)state;
    world_open(&w);
    make_station(&w, "jb", 1);

    publish(&w, CREATE_SUBJECT, "_INBOX.late",
            "{\"config\":{\"durable_name\":\"d1\",\"ack_policy\":\"explicit\"}}");

    world_close(&w); /* the teardown counts the blocks */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        leak_checked(the_pulls_of_all_sdks_are_read),
        leak_checked(odd_pulls_count_as_one_message),
        leak_checked(a_negative_expiry_is_over_at_once),
        leak_checked(unusual_pulls_go_through_the_whole_reader),
        leak_checked(the_quick_and_the_whole_reader_agree),
        leak_checked(wrong_pulls_are_refused),
        leak_checked(a_heartbeat_fits_twice_into_the_expiry),
        leak_checked(an_ack_subject_has_nine_tokens),
        leak_checked(consumer_info_is_that_of_the_captures),
        leak_checked(consumer_info_shows_where_a_group_started),
        leak_checked(consumer_calls_have_their_errors),
        leak_checked(consumers_are_listed_in_pages),
        leak_checked(a_nats_client_makes_a_durable_and_asks_again),
        leak_checked(a_durable_without_filter_gets_every_subject),
        leak_checked(python_creates_with_the_filter_in_the_subject),
        leak_checked(every_refused_creation_has_its_error),
        leak_checked(a_name_as_long_as_allowed_can_be_pulled_from),
        leak_checked(a_deleted_consumer_tells_who_waits_and_then_who_asked),
        leak_checked(a_pull_brings_messages_with_subject_and_ack_subject),
        leak_checked(a_bad_pull_hears_400_on_its_inbox),
        leak_checked(a_pull_that_nobody_hears_uses_up_nothing),
        leak_checked(an_ack_settles_and_is_answered),
        leak_checked(odd_acks_change_nothing_and_are_answered),
        leak_checked(next_acks_and_pulls_at_once),
        leak_checked(a_creation_on_its_way_is_freed_with_the_broker),
    };

    return run_tests("proto/jsapi_consumer", tests);
}
