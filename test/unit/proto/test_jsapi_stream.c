#include "unit/proto/test_sdk_world.h"

static void account_info_lets_js_connect(void **state) /* 3.3 */
{
    struct world w;

    (void)state;
    world_open(&w);
    make_station(&w, "jb", 2);
    make_consumer(&w, "jb", "g1");
    asks(&w, API "STREAM.INFO.nosuch", "");

    assert_shape(asks(&w, API "INFO", "{bad"),
                 TYPE("account_info")
                 ",'memory':0,'storage':^,'streams':2,'consumers':2,'limits':{"
                 "'max_memory':-1,'max_storage':-1,'max_streams':-1,'max_consumers':-1,"
                 "'max_ack_pending':-1,'memory_max_stream_bytes':-1,"
                 "'storage_max_stream_bytes':-1,'max_bytes_required':false},"
                 "'api':{'total':2,'errors':1}}");
    world_close(&w);
}

static void python_and_java_find_the_stream_of_a_subject(void **state) /* 3.3 */
{
    static const struct {
        const char *body, *rest;
    } cases[] = {
        { "{'subject': 'jb$1.final'}", PAGE(1, 0, 1024) ",'streams':['jb$1']}" },
        { "{'subject':'nosuch.final'}", PAGE(0, 0, 1024) ",'streams':null}" },
        { "{'subject':'jb$2.>'}", PAGE(1, 0, 1024) ",'streams':['jb$2']}" },
        { "{'subject':'jb$1.final','offset':1}", PAGE(1, 1, 1024) ",'streams':null}" },
        { "{'subject':'jb$1'}", PAGE(0, 0, 1024) ",'streams':null}" },
        { "{'subject':'a..b'}", PAGE(0, 0, 1024) ",'streams':null}" },
        { "", PAGE(3, 0, 1024) ",'streams':['aa$1','jb$1','jb$2']}" },
        { "{}", PAGE(3, 0, 1024) ",'streams':['aa$1','jb$1','jb$2']}" },
        { "{'offset':2}", PAGE(3, 2, 1024) ",'streams':['jb$2']}" },
        { "{'subject':'*.final','offset':-4}",
          PAGE(3, 0, 1024) ",'streams':['aa$1','jb$1','jb$2']}" },
        { "{bad", ERROR(400, 10025, "invalid JSON") PAGE(0, 0, 0) ",'streams':null}" },
    };
    struct world w;
    char shape[256];

    (void)state;
    world_open(&w);
    make_station(&w, "jb", 2);
    make_station(&w, "aa", 1);

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        snprintf(shape, sizeof(shape), TYPE("stream_names") "%s", cases[i].rest);
        assert_shape(asks(&w, API "STREAM.NAMES", cases[i].body), shape);
    }
    world_close(&w);
}

#define CONFIG(name, retention, msgs, age, storage, window) \
    "'config':{'name':'" name "','subjects':['" name ".>'],'retention':'" retention \
    "','max_consumers':-1,'max_msgs':" msgs ",'max_bytes':-1,'max_age':" age \
    ",'max_msgs_per_subject':-1,'max_msg_size':-1,'discard':'old','storage':'" storage \
    "','num_replicas':1,'duplicate_window':" window \
    ",'tiered_storage_enabled':false,'compression':'none','allow_direct':false," \
    "'mirror_direct':false,'sealed':false,'deny_delete':false,'deny_purge':false," \
    "'allow_rollup_hdrs':false,'consumer_limits':{}},'created':'#',"
#define CONFIG_JB \
    CONFIG("jb$1", "limits", "-1", "3600000000000", "file", "120000000000")

static void stream_info_shows_an_empty_and_a_filled_stream(void **state) /* 3.3 */
{
    struct world w;

    (void)state;
    world_open(&w);
    make_station(&w, "jb", 1);

    assert_shape(asks(&w, API "STREAM.INFO.jb$1", ""),
                 TYPE("stream_info") PAGE(0, 0, 0) "," CONFIG_JB
                 "'state':{'messages':0,'bytes':0,'first_seq':0,"
                 "'first_ts':'0001-01-01T00:00:00Z','last_seq':0,"
                 "'last_ts':'0001-01-01T00:00:00Z','consumer_count':0},"
                 "'cluster':{'leader':'memphis-0'},'ts':'#'}");

    make_consumer(&w, "jb", "g1");
    for (int i = 0; i < 5; i++)
        ask(&w, "jb$1.final", "m");
    assert_shape(asks(&w, API "STREAM.INFO.jb$1", "{'deleted_details':true}"),
                 TYPE("stream_info") PAGE(0, 0, 0) "," CONFIG_JB
                 "'state':{'messages':5,'bytes':^,'first_seq':1,'first_ts':'#',"
                 "'last_seq':5,'last_ts':'#','num_subjects':1,'consumer_count':1},"
                 "'cluster':{'leader':'memphis-0'},'ts':'#'}");
    world_close(&w);
}

static void stream_info_follows_the_settings_of_its_station(void **state) /* 2.1 */
{
    struct world w;
    const char *answer;

    (void)state;
    world_open(&w);
    asks(&w, "$memphis_station_creations",
         "{'name':'a.b','partitions_number':1,'retention_type':'messages',"
         "'retention_value':50,'storage_type':'memory',"
         "'idempotency_window_in_ms':100}");
    asks(&w, "$memphis_station_creations",
         "{'name':'ack','partitions_number':1,'retention_type':'ack_based'}");

    answer = asks(&w, API "STREAM.LIST", "{'subject':'a#b$1.x'}");
    assert_shape(answer, TYPE("stream_list") PAGE(1, 0, 256) ",'streams':[{"
                 CONFIG("a#b$1", "limits", "50", "0", "memory", "100000000")
                 "'state':{'messages':0,'bytes':0,'first_seq':0,"
                 "'first_ts':'0001-01-01T00:00:00Z','last_seq':0,"
                 "'last_ts':'0001-01-01T00:00:00Z','consumer_count':0},'ts':'#'}]}");
    answer = asks(&w, API "STREAM.INFO.ack$1", "");
    assert_non_null(strstr(answer, "\"retention\":\"interest\""));
    assert_non_null(strstr(answer, "\"max_age\":0,"));
    assert_shape(asks(&w, API "STREAM.LIST", "{'subject':'nosuch'}"),
                 TYPE("stream_list") PAGE(0, 0, 256) ",'streams':[]}");
    world_close(&w);
}

static void stream_calls_have_their_errors(void **state) /* 7.1 */
{
    static const struct {
        const char *subject, *body, *shape;
    } cases[] = {
        { API "STREAM.INFO.nosuch", "",
          TYPE("stream_info") NO_STREAM PAGE(0, 0, 0) "}" },
        { API "STREAM.INFO.JB$1", "",
          TYPE("stream_info") NO_STREAM PAGE(0, 0, 0) "}" },
        { API "STREAM.INFO.jb$1", "{bad",
          TYPE("stream_info") ERROR(400, 10025, "invalid JSON") PAGE(0, 0, 0) "}" },
        { API "STREAM.PURGE.nosuch", "",
          TYPE("stream_purge") NO_STREAM ",'purged':0}" },
        { API "STREAM.DELETE.nosuch", "", TYPE("stream_delete") NO_STREAM "}" },
        { API "STREAM.MSG.GET.nosuch", "{'seq':1}",
          TYPE("stream_msg_get") NO_STREAM "}" },
        { API "STREAM.MSG.GET.jb$1", "",
          TYPE("stream_msg_get") ERROR(400, 10003, "bad request") "}" },
        { API "STREAM.MSG.GET.jb$1", "{}",
          TYPE("stream_msg_get") ERROR(400, 10003, "bad request") "}" },
        { API "STREAM.MSG.GET.jb$1", "{'seq':0}",
          TYPE("stream_msg_get") ERROR(400, 10003, "bad request") "}" },
        { API "STREAM.MSG.GET.jb$1", "{'seq':99}",
          TYPE("stream_msg_get") ERROR(404, 10037, "no message found") "}" },
        { API "STREAM.MSG.GET.jb$1", "{'last_by_subj':'x.y'}",
          TYPE("stream_msg_get") ERROR(404, 10037, "no message found") "}" },
    };
    struct world w;

    (void)state;
    world_open(&w);
    make_station(&w, "jb", 1);
    ask(&w, "jb$1.final", "m");

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        assert_shape(asks(&w, cases[i].subject, cases[i].body), cases[i].shape);
    world_close(&w);
}

static void a_message_is_read_by_sequence_and_by_subject(void **state) /* 3.3 */
{
    static const char headers[] = "NATS/1.0\r\n$memphis_producedBy: p1\r\nk: v\r\n\r\n";
    struct world w;
    struct mp_message m = { .subject = MP_STR("jb$1.final"), .payload = MP_STR("m0"),
                            .headers = MP_STR(headers) };

    (void)state;
    world_open(&w);
    make_station(&w, "jb", 1);
    mp_bus_publish(w.broker->bus, &w.client, &m);
    ask(&w, "jb$1.other", "m1");
    ask(&w, "jb$1.final", "");

    assert_shape(asks(&w, API "STREAM.MSG.GET.jb$1", "{'seq':1}"),
                 TYPE("stream_msg_get")
                 ",'message':{'subject':'jb$1.final','seq':1,"
                 "'hdrs':'TkFUUy8xLjANCiRtZW1waGlzX3Byb2R1Y2VkQnk6IHAxDQprOiB2DQo"
                 "NCg==',"
                 "'data':'bTA=','time':'#','reply_subject':'','tenant_name':''}}");
    assert_shape(asks(&w, API "STREAM.MSG.GET.jb$1", "{'last_by_subj':'jb$1.final'}"),
                 TYPE("stream_msg_get")
                 ",'message':{'subject':'jb$1.final','seq':3,'time':'#',"
                 "'reply_subject':'','tenant_name':''}}");
    assert_shape(asks(&w, API "STREAM.MSG.GET.jb$1",
                      "{'seq':2,'next_by_subj':'jb$1.>'}"),
                 TYPE("stream_msg_get")
                 ",'message':{'subject':'jb$1.other','seq':2,'data':'bTE=','time':'#',"
                 "'reply_subject':'','tenant_name':''}}");
    world_close(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        leak_checked(account_info_lets_js_connect),
        leak_checked(python_and_java_find_the_stream_of_a_subject),
        leak_checked(stream_info_shows_an_empty_and_a_filled_stream),
        leak_checked(stream_info_follows_the_settings_of_its_station),
        leak_checked(stream_calls_have_their_errors),
        leak_checked(a_message_is_read_by_sequence_and_by_subject),
    };

    return run_tests("proto/jsapi_stream", tests);
}
