#include "unit/proto/test_sdk_world.h"

#include "broker/dls.h"
#include "broker/permission.h"

static struct mp_station *orders(struct world *w)
{
    return mp_station_find(w->broker, MP_STR("orders.eu"));
}

static struct mp_dead_row *first_row(struct world *w)
{
    return mp_dls_next(orders(w), NULL);
}

/* A notice: whatever is in it, nobody is answered. */
static void tell(struct world *w, const char *subject, const char *body)
{
    assert_null(asks(w, subject, body));
    assert_int_equal(w->responders, 1);
}

/* A station, and a group that has been given message 1. */
static void open_with_a_delivery(struct world *w)
{
    world_open(w);
    make_station(w, "orders.eu", 1);
    asks(w, "$memphis_consumer_creations",
         "{'name':'c','station_name':'orders.eu','connection_id':'conn-1',"
         "'consumer_type':'application','consumers_group':'billing.eu',"
         "'max_ack_time_ms':30000,'max_msg_deliveries':2,"
         "'start_consume_from_sequence':1,'last_messages':-1,'req_version':4}");
    ask(w, "orders#eu$1.final", "seven");
    forget(w);
    publish(w, "$JS.API.CONSUMER.MSG.NEXT.orders#eu$1.billing#eu", "_INBOX.pull", "");
    settle_down(w);
    assert_string_equal(w->heard[0].payload, "seven");
}

static void a_nacked_message_is_a_row_with_its_reason(void **state) /* 2.13 */
{
    struct world w;
    char *ack;

    (void)state;
    open_with_a_delivery(&w);
    ack = mp_strdup(w.heard[0].reply);
    publish(&w, ack, "", "+TERM"); /* as SDKs do, one behind the other */
    tell(&w, "$memphis_nacked_dls",
         "{'station_name':'orders#eu','error':'bad total','partition':1,"
         "'cg_name':'Billing.eu','seq':1}");
    assert_non_null(first_row(&w));
    assert_int_equal(first_row(&w)->reason, MP_DEAD_NACKED);
    assert_string_equal(first_row(&w)->text, "bad total");
    mp_free(ack);
    world_close(&w);
}

static void a_resent_message_is_settled_by_its_id(void **state) /* 2.12 */
{
    struct world w;
    char body[160];

    (void)state;
    open_with_a_delivery(&w);
    publish(&w, w.heard[0].reply, "", "+TERM");
    settle_down(&w);
    uint32_t id = first_row(&w)->id;
    listen_to(&w, "$memphis_dls_orders#eu.billing#eu");
    forget(&w);
    assert_int_equal(mp_dls_resend(orders(&w), &id, 1), MEMPHIS_OK);
    assert_int_equal(w.heard_count, 1);
    assert_string_equal(w.heard[0].payload, "seven");
    snprintf(body, sizeof(body),
             "NATS/1.0\r\n$memphis_pm_id: %u\r\n$memphis_pm_cg_name: billing#eu"
             "\r\n$memphis_producedBy: $memphis_dls\r\n\r\n", id);
    assert_string_equal(w.heard[0].headers, body);
    snprintf(body, sizeof(body), "{'id':%u,'cg_name':'billing#eu'}", id);
    tell(&w, "$memphis_pm_acks", body);
    assert_null(first_row(&w));
    world_close(&w);
}

static void a_message_that_breaks_its_schema_is_kept(void **state) /* 2.14 */
{
    struct world w;
    struct mp_dead_row *row;

    (void)state;
    world_open(&w);
    make_station(&w, "orders.eu", 1);
    mp_station_find(w.broker, MP_STR("orders.eu"))->settings.dls_schema = true;
    tell(&w, "$memphis_schemaverse_dls",
         "{'station_name':'orders.eu','producer':{'name':'p','connection_id':'c'},"
         "'message':{'data':'7b7D','headers':{'a':'b','bad':'x\\r\\ny'}},"
         "'validation_error':'no total','partition_number':1}");
    row = first_row(&w);
    assert_non_null(row);
    assert_int_equal(row->reason, MP_DEAD_SCHEMA);
    assert_string_equal(row->text, "no total");
    tell(&w, "$memphis_schemaverse_dls",
         "{'station_name':'orders.eu','message':{'data':'7b7'}}"); /* half a byte */
    assert_null(mp_dls_next(orders(&w), row));
    world_close(&w);
}

/* Item 6 of broker-semantics 12: partition 0 killed the reference. */
static void notices_that_make_no_sense_change_nothing(void **state)
{
    static const char *const bodies[] = {
        "", "7", "{", "{}", "{'station_name':'orders.eu','seq':1,'cg_name':'g'}",
        "{'station_name':'orders.eu','partition':-1,'seq':1,'cg_name':'billing.eu'}",
        "{'station_name':'orders.eu','partition':2,'seq':1,'cg_name':'billing.eu'}",
        "{'station_name':'orders.eu','partition':1,'seq':-1,'cg_name':'billing.eu'}",
        "{'station_name':'gone','partition':1,'seq':1,'cg_name':'billing.eu'}",
        "{'station_name':7}", "{'id':-1,'cg_name':''}", "{'id':99,'cg_name':'x'}",
        "{'station_name':'gone','message':7}",
    };
    static const char *const subjects[] = { "$memphis_nacked_dls", "$memphis_pm_acks",
                                            "$memphis_schemaverse_dls" };
    struct world w;

    (void)state;
    open_with_a_delivery(&w);
    for (size_t s = 0; s < 3; s++)
        for (size_t i = 0; i < sizeof(bodies) / sizeof(bodies[0]); i++)
            tell(&w, subjects[s], bodies[i]);
    assert_null(first_row(&w));
    world_close(&w);
}

/* Who may not read a station settles nothing there, and blames no one. */
static void USR_10_notices_of_who_may_not_read_are_not_heard(void **state)
{
    static const struct mp_user_row none = { .is_restricted = true };
    struct mp_grants *g = mp_grants_new(&none);
    struct world w;
    char body[96];

    (void)state;
    open_with_a_delivery(&w);
    publish(&w, w.heard[0].reply, "", "+TERM");
    settle_down(&w);
    w.client.grants = g;
    snprintf(body, sizeof(body), "{'id':%u,'cg_name':'billing#eu'}", first_row(&w)->id);
    tell(&w, "$memphis_pm_acks", body);
    tell(&w, "$memphis_nacked_dls",
         "{'station_name':'orders#eu','error':'slander','partition':1,"
         "'cg_name':'Billing.eu','seq':1}");
    orders(&w)->settings.dls_schema = true;
    tell(&w, "$memphis_schemaverse_dls",
         "{'station_name':'orders.eu','message':{'data':'7b7D'}}");
    assert_non_null(first_row(&w));
    assert_null(first_row(&w)->text);
    assert_null(mp_dls_next(orders(&w), first_row(&w)));
    w.client.grants = NULL;
    tell(&w, "$memphis_pm_acks", body);
    assert_null(first_row(&w));
    world_close(&w);
    mp_grants_free(g);
}

/* The row is there until its removal is committed, its station is not. */
static void an_ack_while_the_station_goes_finds_nothing(void **state)
{
    struct world w;
    char body[96];

    (void)state;
    open_with_a_delivery(&w);
    publish(&w, w.heard[0].reply, "", "+TERM");
    settle_down(&w);
    snprintf(body, sizeof(body), "{\"id\":%u,\"cg_name\":\"billing#eu\"}",
             first_row(&w)->id);
    mp_station_drop(w.broker, orders(&w), "root", (struct mp_then){ 0 });
    for (int i = 0; i < 20; i++) {
        turn(&w);
        publish(&w, "$memphis_pm_acks", "", body);
    }
    settle_down(&w);
    assert_null(orders(&w));
    world_close(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        leak_checked(a_nacked_message_is_a_row_with_its_reason),
        leak_checked(a_resent_message_is_settled_by_its_id),
        leak_checked(a_message_that_breaks_its_schema_is_kept),
        leak_checked(notices_that_make_no_sense_change_nothing),
        leak_checked(USR_10_notices_of_who_may_not_read_are_not_heard),
        leak_checked(an_ack_while_the_station_goes_finds_nothing),
    };

    return run_tests("proto/sdk_dls", tests);
}
