#include "unit/proto/test_sdk_world.h"

#define PRODUCER "$memphis_producer_creations"
#define PRODUCER_END "$memphis_producer_destructions"
#define CONSUMER "$memphis_consumer_creations"
#define CONSUMER_END "$memphis_consumer_destructions"

#define NO_SCHEMA \
    "{'schema_update':{'schema_name':'','active_version':{'version_number':0," \
    "'descriptor':'','schema_content':'','message_struct_name':''},'type':''},"
#define PRODUCER_ANSWER(partitions) \
    NO_SCHEMA "'partitions_update':{'partitions_list':[" partitions \
    "]},'schemaverse_to_dls':true,'send_notification':false,'station_version':2," \
    "'station_partitions_first_functions':{},'error':''}"
#define CONSUMER_ANSWER(partitions) \
    NO_SCHEMA "'partitions_update':{'partitions_list':[" partitions "]},'error':''}"

static struct mp_station *station(struct world *w, const char *name)
{
    return mp_station_find(w->broker, mp_slice_text(name));
}

/* === Producers === */

static const char GO_PRODUCER[] =
    "{'name':'P1','station_name':'pc3','connection_id':'c-uuid','producer_type':"
    "'application','req_version':4,'username':'x','app_id':'app-1','sdk_lang':'go'}";

static void a_producer_gets_the_answer_of_the_captures(void **state) /* 2.3 */
{
    struct world w;
    struct mp_producer_row *row;

    (void)state;
    world_open(&w);
    make_station(&w, "pc3", 3);
    station(&w, "pc3")->settings.dls_schema = true;

    assert_shape(asks(&w, PRODUCER, GO_PRODUCER), PRODUCER_ANSWER("1,2,3"));

    row = mp_meta_producer_next(w.broker->meta, station(&w, "pc3")->id, NULL);
    assert_non_null(row);
    assert_string_equal(row->name, "p1");
    assert_string_equal(row->user, "root");
    assert_string_equal(row->connection_id, "c-uuid");
    assert_string_equal(row->app_id, "app-1");
    assert_string_equal(row->sdk, "go");
    assert_int_equal(row->version, 4);
    assert_int_equal(row->type, MP_CLIENT_APPLICATION);
    world_close(&w);
}

static void a_producer_makes_its_station(void **state) /* 2.1.1 */
{
    struct world w;

    (void)state;
    world_open(&w);

    assert_shape(asks(&w, PRODUCER,
                      "{'name':'p','station_name':'Auto.Made','connection_id':'c',"
                      "'producer_type':'APPLICATION','req_version':2}"),
                 PRODUCER_ANSWER("1"));

    assert_non_null(station(&w, "auto.made"));
    world_close(&w);
}

static void dot_net_names_the_station_in_its_internal_form(void **state) /* 0.1 */
{
    struct world w;

    (void)state;
    world_open(&w);
    w.client.lang = ".NET";
    make_station(&w, "orders.eu", 2);
    station(&w, "orders.eu")->settings.dls_schema = true;

    assert_shape(asks(&w, PRODUCER,
                      "{'name':'p','station_name':'orders#eu','connection_id':'c',"
                      "'producer_type':'application','req_version':4,'app_id':'a',"
                      "'sdk_lang':'.NET'}"),
                 PRODUCER_ANSWER("1,2"));

    assert_int_equal(w.broker->counters.stations, 1);
    world_close(&w);
}

static void every_refused_producer_hears_why_in_a_whole_object(void **state) /* 2.3 */
{
    static const struct {
        const char *body, *text;
    } cases[] = {
        { "{}", "Station name can not be empty" },
        { "{'name':'x','station_name':'bad name'}",
          "Only alphanumeric and the '_', '-', '.' characters are allowed in Station" },
        { "{'name':'','station_name':'st','producer_type':'foo'}",
          "Producer name can not be empty" },
        { "{'name':'_p','station_name':'st'}",
          "Producer name can not start or end with non alphanumeric character" },
        { "{'name':'x','station_name':'st'}",
          "producer type has to be one of the following application/connector" },
        { "{'name':'x','station_name':'st','producer_type':'application',"
          "'req_version':1}",
          "to produce to this station please upgrade your SDK version" },
        { "{'name':'x','station_name':'no','producer_type':'connector'}",
          "this station does not exist, a default station can not be created "
          "automatically, please upgrade your SDK version" },
        { "{'name':7}", "name must be a string" },
    };
    struct world w;
    char shape[1024];

    (void)state;
    world_open(&w);
    make_station(&w, "st", 1);

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        const char *answer = asks(&w, PRODUCER, cases[i].body);
        size_t head;

        assert_non_null(answer);
        snprintf(shape, sizeof(shape),
                 NO_SCHEMA "'partitions_update':{'partitions_list':[]},"
                           "'schemaverse_to_dls':false,'send_notification':false,"
                           "'station_version':0,"
                           "'station_partitions_first_functions':{},'error':");
        head = strlen(shape);
        for (size_t k = 0; k < head; k++)
            if (shape[k] == '\'')
                shape[k] = '"';
        assert_memory_equal(answer, shape, head);
        snprintf(shape, sizeof(shape), "\"%s\"}", cases[i].text);
        assert_string_equal(answer + head, shape);
    }
    assert_int_equal(w.broker->counters.stations, 1);
    world_close(&w);
}

static void older_requests_say_less_of_the_client(void **state) /* 2.3 */
{
    struct world w;
    struct mp_producer_row *row;

    (void)state;
    world_open(&w);
    w.client.lang = "python3";
    make_station(&w, "st", 1);

    /* Version 3 of Java: no SDK, no application, "::<user>" behind the id. */
    assert_non_null(asks(&w, PRODUCER,
                         "{'name':'p','station_name':'st','connection_id':'uu::root',"
                         "'producer_type':'application','req_version':3,"
                         "'app_id':'no'}"));

    row = mp_meta_producer_next(w.broker->meta, station(&w, "st")->id, NULL);
    assert_string_equal(row->connection_id, "uu");
    assert_string_equal(row->app_id, "uu");
    assert_string_equal(row->sdk, "python");

    /* Version 99 is read like 4, and without an id the connection's own is taken. */
    assert_non_null(asks(&w, PRODUCER,
                         "{'name':'q','station_name':'st','producer_type':'connector',"
                         "'req_version':99,'app_id':'a','sdk_lang':'go'}"));
    row = mp_meta_producer_next(w.broker->meta, station(&w, "st")->id, row);
    assert_string_equal(row->connection_id, "conn-1");
    assert_string_equal(row->sdk, "go");
    assert_int_equal(row->version, 4);
    assert_int_equal(row->type, MP_CLIENT_CONNECTOR);
    world_close(&w);
}

static void a_producer_is_destroyed_and_a_second_time_too(void **state) /* 2.4 */
{
    static const char end[] = "{'name':'p1','station_name':'PC3','username':'root',"
                              "'connection_id':'c-uuid','req_version':1}";
    struct world w;

    (void)state;
    world_open(&w);
    make_station(&w, "pc3", 1);
    asks(&w, PRODUCER, GO_PRODUCER);

    assert_string_equal(asks(&w, PRODUCER_END, end), "");

    assert_null(mp_meta_producer_next(w.broker->meta, station(&w, "pc3")->id, NULL));
    assert_string_equal(asks(&w, PRODUCER_END, end), "");
    assert_string_equal(
        asks(&w, PRODUCER_END, "{'name':'p1','station_name':'nosuchst'}"), "");
    world_close(&w);
}

static void version_0_destroys_by_the_id_of_the_connection(void **state) /* 2.4 */
{
    struct world w;

    (void)state;
    world_open(&w);
    asks(&w, PRODUCER,
         "{'name':'p','station_name':'st','producer_type':'application',"
         "'req_version':4}");

    assert_string_equal(asks(&w, PRODUCER_END, "{'name':'P','station_name':'st'}"), "");

    assert_null(mp_meta_producer_next(w.broker->meta, station(&w, "st")->id, NULL));
    world_close(&w);
}

/* === Consumers === */

#define CONSUMER_BODY(fields) \
    "{'name':'C1','station_name':'st','connection_id':'conn-1','consumer_type':" \
    "'application','req_version':4," fields "}"

static struct mp_stream_group *group(struct world *w, uint32_t partition,
                                     const char *durable)
{
    return mp_stream_group(mp_station_stream(station(w, "st"), partition),
                           mp_slice_text(durable));
}

static void a_consumer_has_its_group_on_every_partition_when_answered(void **state)
{
    struct world w;
    struct mp_consumer_row *row;

    (void)state;
    world_open(&w);
    make_station(&w, "st", 2);

    assert_shape(asks(&w, CONSUMER,
                      CONSUMER_BODY("'consumers_group':'G.Dot','max_ack_time_ms':5000,"
                                    "'max_msg_deliveries':3,"
                                    "'start_consume_from_sequence':1,"
                                    "'last_messages':-1")),
                 CONSUMER_ANSWER("1,2"));

    assert_non_null(group(&w, 1, "g#dot"));
    assert_non_null(group(&w, 2, "g#dot"));
    assert_int_equal(group(&w, 2, "g#dot")->group.config.ack_wait_ns, 5000000000);
    assert_int_equal(group(&w, 2, "g#dot")->group.config.deliveries_max, 3);
    row = mp_meta_consumer_next(w.broker->meta, station(&w, "st")->id, NULL);
    assert_string_equal(row->name, "c1");
    assert_string_equal(row->group, "g.dot");
    assert_string_equal(row->user, "root");
    world_close(&w);
}

static void java_must_not_see_an_error_key_after_success(void **state) /* 2.5 */
{
    struct world w;

    (void)state;
    world_open(&w);
    w.client.lang = "java";

    assert_shape(asks(&w, CONSUMER,
                      "{'name':'c','station_name':'st','connection_id':'u::root',"
                      "'consumer_type':'application','consumers_group':'c',"
                      "'max_ack_time_ms':5000,'max_msg_deliveries':10,"
                      "'start_consume_from_sequence':1,'last_messages':-1,"
                      "'req_version':3}"),
                 NO_SCHEMA "'partitions_update':{'partitions_list':[1]}}");

    assert_non_null(group(&w, 1, "c"));
    world_close(&w);
}

static void a_consumer_without_a_group_is_its_own(void **state) /* 2.5, Python */
{
    struct world w;

    (void)state;
    world_open(&w);

    asks(&w, CONSUMER,
         CONSUMER_BODY("'consumers_group':'','start_consume_from_sequence':1,"
                       "'last_messages':-1,'max_ack_time_ms':-5,"
                       "'max_msg_deliveries':11"));

    assert_non_null(group(&w, 1, "c1"));
    assert_int_equal(group(&w, 1, "c1")->group.config.ack_wait_ns, 30000000000);
    assert_int_equal(group(&w, 1, "c1")->group.config.deliveries_max, 10);
    world_close(&w);
}

static void every_refused_consumer_hears_one_text(void **state) /* 2.5 */
{
    static const struct {
        const char *body, *text;
    } cases[] = {
        { "{}", "startConsumeFromSequence has to be a positive number" },
        { CONSUMER_BODY("'start_consume_from_sequence':-1"),
          "startConsumeFromSequence has to be a positive number" },
        { CONSUMER_BODY("'start_consume_from_sequence':1,'last_messages':-2"),
          "min value for LastMessages is -1" },
        { CONSUMER_BODY("'start_consume_from_sequence':5,'last_messages':0"),
          "consumer creation options can't contain both startConsumeFromSequence and "
          "lastMessages" },
        { "{'name':'a','station_name':'pc#two','start_consume_from_sequence':1}",
          "Only alphanumeric and the '_', '-', '.' characters are allowed in Station" },
        { "{'name':'','station_name':'st','consumers_group':'g',"
          "'start_consume_from_sequence':1}",
          "Consumer name can not be empty" },
        { "{'name':'k','station_name':'st','consumers_group':'bad name',"
          "'start_consume_from_sequence':1}",
          "Only alphanumeric and the '_', '-', '.' characters are allowed in "
          "Consumer" },
        { "{'name':'k','station_name':'st','consumer_type':'Foo',"
          "'start_consume_from_sequence':1}",
          "consumer type has to be one of the following application/connector and not "
          "foo" },
        { "{'name':'k','station_name':'st','start_consume_from_sequence':1}",
          "consumer type has to be one of the following application/connector and "
          "not " },
        { "{'name':'k','station_name':'st','consumer_type':'application',"
          "'start_consume_from_sequence':1,'req_version':1}",
          "to consume from this station please upgrade your SDK version" },
        { "{'name':'k','station_name':'no','consumer_type':'application',"
          "'start_consume_from_sequence':1,'req_version':1}",
          "This station does not exist, a default station can not be created "
          "automatically, please upgrade your SDK version" },
    };
    struct world w;

    (void)state;
    world_open(&w);
    make_station(&w, "st", 1);

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        assert_string_equal(asks(&w, CONSUMER, cases[i].body), cases[i].text);
        assert_int_equal(w.heard_count, 1); /* 9, item 10 */
    }
    assert_shape(asks(&w, CONSUMER, "{'name':5}"), "{'error':'name must be a string'}");
    assert_int_equal(w.broker->counters.stations, 1);
    world_close(&w);
}

static void a_group_starts_where_its_first_member_asks(void **state) /* 2.5 */
{
    static const struct {
        const char *name, *start;
        uint64_t next[2];
    } cases[] = {
        { "all", "'start_consume_from_sequence':1,'last_messages':-1", { 1, 1 } },
        { "new", "'start_consume_from_sequence':1,'last_messages':0", { 5, 1 } },
        { "last", "'start_consume_from_sequence':1,'last_messages':3", { 2, 1 } },
        { "from", "'start_consume_from_sequence':3,'last_messages':-1", { 3, 1 } },
    };
    struct world w;

    (void)state;
    world_open(&w);
    make_station(&w, "st", 2);
    for (int i = 0; i < 4; i++)
        ask(&w, "st$1.final", "m");

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char body[256];

        snprintf(body, sizeof(body), CONSUMER_BODY("'consumers_group':'%s',%s"),
                 cases[i].name, cases[i].start);
        assert_shape(asks(&w, CONSUMER, body), CONSUMER_ANSWER("1,2"));
        assert_int_equal(group(&w, 1, cases[i].name)->group.next, cases[i].next[0]);
        assert_int_equal(group(&w, 2, cases[i].name)->group.next, cases[i].next[1]);
    }
    world_close(&w);
}

/* 2.5 */
static void a_later_member_changes_the_ack_wait_and_not_the_start(void **state)
{
    struct world w;

    (void)state;
    world_open(&w);
    make_station(&w, "st", 1);
    make_consumer(&w, "st", "g");

    assert_shape(asks(&w, CONSUMER,
                      CONSUMER_BODY("'consumers_group':'g','max_ack_time_ms':6000,"
                                    "'max_msg_deliveries':7,"
                                    "'start_consume_from_sequence':4,"
                                    "'last_messages':-1")),
                 CONSUMER_ANSWER("1"));

    assert_int_equal(group(&w, 1, "g")->group.config.ack_wait_ns, 6000000000);
    assert_int_equal(group(&w, 1, "g")->group.config.deliveries_max, 7);
    assert_int_equal(group(&w, 1, "g")->policy, MP_START_ALL);
    world_close(&w);
}

static void the_last_member_takes_its_group_along(void **state) /* 2.6 */
{
    static const char end[] =
        "{'name':'%s','station_name':'st','connection_id':'conn-1','req_version':1}";
    struct world w;
    char body[160];

    (void)state;
    world_open(&w);
    make_station(&w, "st", 2);
    make_consumer(&w, "st", "g");
    asks(&w, CONSUMER,
         CONSUMER_BODY("'consumers_group':'g','start_consume_from_sequence':1,"
                       "'last_messages':-1"));

    snprintf(body, sizeof(body), end, "G");
    assert_string_equal(asks(&w, CONSUMER_END, body), "");
    assert_non_null(group(&w, 1, "g"));

    snprintf(body, sizeof(body), end, "c1");
    assert_string_equal(asks(&w, CONSUMER_END, body), "");
    assert_null(group(&w, 1, "g"));
    assert_null(group(&w, 2, "g"));

    /* Uniform with producers: done is done (9, item 34). */
    assert_string_equal(asks(&w, CONSUMER_END, body), "");
    world_close(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        leak_checked(a_producer_gets_the_answer_of_the_captures),
        leak_checked(a_producer_makes_its_station),
        leak_checked(dot_net_names_the_station_in_its_internal_form),
        leak_checked(every_refused_producer_hears_why_in_a_whole_object),
        leak_checked(older_requests_say_less_of_the_client),
        leak_checked(a_producer_is_destroyed_and_a_second_time_too),
        leak_checked(version_0_destroys_by_the_id_of_the_connection),
        leak_checked(a_consumer_has_its_group_on_every_partition_when_answered),
        leak_checked(java_must_not_see_an_error_key_after_success),
        leak_checked(a_consumer_without_a_group_is_its_own),
        leak_checked(every_refused_consumer_hears_one_text),
        leak_checked(a_group_starts_where_its_first_member_asks),
        leak_checked(a_later_member_changes_the_ack_wait_and_not_the_start),
        leak_checked(the_last_member_takes_its_group_along),
    };

    return run_tests("proto/sdk_client", tests);
}
