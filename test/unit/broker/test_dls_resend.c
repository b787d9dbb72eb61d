#include "unit/broker/dls_world.h"

#include "broker/permission.h"

/* A consumer that hears what is resent to "billing", and has room for so many. */
struct reader {
    struct mp_client client;
    int count, room;
    uint32_t ids[512]; /* in the order in which they came */
    char headers[256];
};

static struct reader *readers[8];
static int readers_count;

static void on_letter(struct mp_client *c, struct mp_subscription *s,
                      const struct mp_message *m)
{
    struct reader *r = mp_container_of(c, struct reader, client);
    uint64_t id = 0;

    (void)s;
    assert_true(r->count < 512);
    assert_true(mp_parse_u64(mp_header_find(m->headers, "$memphis_pm_id"), &id));
    r->ids[r->count++] = (uint32_t)id;
    r->room--;
    snprintf(r->headers, sizeof(r->headers), "%.*s", (int)m->headers.size,
             (const char *)m->headers.data);
}

static bool has_room(struct mp_client *c, size_t size)
{
    (void)size;
    return mp_container_of(c, struct reader, client)->room > 0;
}

static void listen_to(struct world *w, struct reader *r, const char *subject, int room)
{
    struct mp_subscription *s;

    *r = (struct reader){ .client = { .deliver = on_letter, .has_room = has_room },
                          .room = room };
    assert_true(readers_count < 8);
    readers[readers_count++] = r;
    mp_bus_join(w->broker->bus, &r->client);
    assert_int_equal(mp_bus_subscribe(w->broker->bus, &r->client,
                                      mp_slice_text(subject), MP_STR("q"), &s),
                     MEMPHIS_OK);
}

static void readers_leave(struct world *w)
{
    while (readers_count > 0)
        mp_bus_leave(w->broker->bus, &readers[--readers_count]->client);
}

static void resend(struct world *w, const uint32_t *ids, size_t n)
{
    assert_int_equal(mp_dls_resend(station(w, "orders"), ids, n), MEMPHIS_OK);
}

static struct mp_resend_progress progress(struct world *w)
{
    struct mp_resend_progress p;

    mp_dls_resend_progress(station(w, "orders"), &p);
    return p;
}

static void resend_all(struct world *w)
{
    struct said said;

    mp_dls_resend_all(station(w, "orders"), then_say(&said));
    settle_down(w);
    assert_int_equal(said.count, 1);
    assert_int_equal(said.status, MEMPHIS_OK);
}

static uint64_t messages_of_dls(struct world *w)
{
    struct mp_log_stats st;

    mp_log_stats(w->broker->data_log, 0, &st);
    return st.messages;
}

static void a_resent_message_comes_to_the_failed_groups_only(void **state) /* DLS-06 */
{
    struct world *w = world_with("", true);
    struct reader billing, old, shipping;
    char headers[160];

    (void)state;
    produce(w, "seven");
    give_up(w, "billing");
    uint32_t id = only_row(w)->id, ids[] = { id, id + 1000 };
    listen_to(w, &billing, "$memphis_dls_orders.billing", 9);
    listen_to(w, &old, "$memphis_dls_orders_billing", 9);
    listen_to(w, &shipping, "$memphis_dls_orders.shipping", 9);
    resend(w, ids, 2);
    settle_down(w);
    assert_int_equal(billing.count, 1);
    assert_int_equal(old.count, 1);
    assert_int_equal(shipping.count, 0);
    snprintf(headers, sizeof(headers),
             "NATS/1.0\r\ncolor: red\r\n$memphis_pm_id: %u\r\n"
             "$memphis_pm_cg_name: billing\r\n$memphis_producedBy: $memphis_dls"
             "\r\n\r\n", id);
    assert_string_equal(billing.headers, headers);
    check_row(w, 1); /* it stays until it is settled */
    assert_int_equal(progress(w).done, 2);
    assert_int_equal(progress(w).total, 2);
    assert_false(progress(w).is_running);
    readers_leave(w);
    world_free(w);
}

static bool as_granted(struct mp_client *c, memphis_slice subject)
{
    return mp_grants_subject(c->grants, false, subject);
}

/* "$memphis_dls_orders_billing" could be of a group "x" of "orders_billing", too. */
static void old_sdks_hear_the_letters_of_their_stations_only(void **state)
{
    static const char *const patterns[] = { "orders_*", "orders" };
    struct world *w = world_with("", true);
    struct mp_grants *grants[2];
    struct reader r[2];

    (void)state;
    produce(w, "seven");
    give_up(w, "billing");
    uint32_t id = only_row(w)->id;
    for (int i = 0; i < 2; i++) {
        struct mp_user_row row = { .is_restricted = true, .allow_read = patterns[i] };
        listen_to(w, &r[i], "$memphis_dls_orders_billing", 9);
        r[i].client.may_hear = as_granted;
        r[i].client.grants = grants[i] = mp_grants_new(&row);
    }
    for (int i = 0; i < 4; i++)
        resend(w, &id, 1);
    settle_down(w);
    assert_int_equal(r[0].count, 0);
    assert_int_equal(r[1].count, 4);
    r[0].room = 0; /* nor is he waited for */
    mp_bus_leave(w->broker->bus, &r[1].client);
    resend(w, &id, 1);
    settle_down(w);
    assert_false(progress(w).is_running);
    for (int i = 0; i < 2; i++)
        mp_grants_free(grants[i]);
    readers_leave(w);
    world_free(w);
}

/* DLS-07: a turn has its bound, and every letter its turn. */
static void all_are_resent_step_by_step(void **state)
{
    struct world *w = world_with("", true);
    struct reader r;
    struct said said;

    (void)state;
    lose(w, 200);
    pass(w, 200);
    assert_int_equal(station(w, "orders")->dead_count, 200);
    listen_to(w, &r, "$memphis_dls_orders.billing", 1000);
    mp_dls_resend_all(station(w, "orders"), then_say(&said));
    assert_int_equal(r.count, 64);
    assert_true(progress(w).is_running);
    assert_int_equal(progress(w).done, 64);
    assert_int_equal(progress(w).total, 200);
    struct said again;
    mp_dls_resend_all(station(w, "orders"), then_say(&again));
    assert_int_equal(again.status, MEMPHIS_BUSY);
    assert_int_equal(turn(w), 0); /* and the next one comes at once */
    assert_int_equal(r.count, 128);
    pass(w, 20);
    settle_down(w);
    assert_int_equal(said.status, MEMPHIS_OK);
    assert_int_equal(r.count, 200);
    for (int i = 1; i < 200; i++)
        assert_true(r.ids[i] > r.ids[i - 1]);
    assert_false(progress(w).is_running);
    assert_int_equal(progress(w).done, 200);
    assert_int_equal(messages_of_dls(w), 200); /* its note is gone */
    readers_leave(w);
    restart(w);
    listen_to(w, &r, "$memphis_dls_orders.billing", 1000);
    pass(w, 11000);
    assert_int_equal(r.count, 0);
    readers_leave(w);
    world_free(w);
}

static void a_slow_reader_is_waited_for_and_given_up_in_the_end(void **state)
{
    struct world *w = world_with("", true);
    struct reader r;

    (void)state;
    lose(w, 30);
    listen_to(w, &r, "$memphis_dls_orders.billing", 10);
    resend_all(w);
    pass(w, 2000);
    assert_int_equal(r.count, 10);
    r.room = 5;
    pass(w, 100);
    assert_int_equal(r.count, 15);
    assert_true(progress(w).is_running);
    mp_disk_advance(w->disk, 21 * 60 * 1000000000ull);
    pass(w, 3);
    assert_false(progress(w).is_running);
    assert_int_equal(progress(w).done, 15);
    settle_down(w);
    assert_int_equal(messages_of_dls(w), 30);
    readers_leave(w);
    world_free(w);
}

/* A member of the group that has room gets what another has none for. */
static void a_member_with_room_gets_them(void **state)
{
    struct world *w = world_with("", true);
    struct reader slow, quick;

    (void)state;
    lose(w, 30);
    listen_to(w, &slow, "$memphis_dls_orders.billing", 3);
    listen_to(w, &quick, "$memphis_dls_orders.billing", 1000);
    resend_all(w);
    pass(w, 100);
    assert_int_equal(slow.count, 3);
    assert_int_equal(quick.count, 27);
    readers_leave(w);
    world_free(w);
}

/* Rows move to the end of the list, leave it, or come while it is walked. */
static void what_changes_meanwhile_is_resent_once(void **state)
{
    struct world *w = world_with("", true);
    struct reader r;
    struct said said;

    (void)state;
    lose(w, 10);
    listen_to(w, &r, "$memphis_dls_orders.billing", 3);
    resend_all(w);
    pass(w, 50);
    assert_int_equal(r.count, 3);
    assert_int_equal(pull(w, "shipping"), 10); /* all rows are written anew */
    mp_stream_settle(group(w, "shipping"), 2, MP_STR("+TERM"), MP_STR(""));
    mp_stream_settle(group(w, "shipping"), 3, MP_STR("+TERM"), MP_STR(""));
    mp_stream_settle(group(w, "shipping"), 4, MP_STR("+TERM"), MP_STR(""));
    mp_stream_settle(group(w, "shipping"), 5, MP_STR("+TERM"), MP_STR(""));
    settle_down(w);
    mp_dls_settle(w->broker, r.ids[0], MP_STR("billing")); /* this one leaves */
    uint32_t other = mp_dls_next(station(w, "orders"), NULL)->id;
    mp_dls_drop(station(w, "orders"), &other, 1, then_say(&said));
    produce(w, "new");
    give_up(w, "billing");
    r.room = 100;
    pass(w, 100);
    settle_down(w);
    assert_false(progress(w).is_running);
    assert_true(r.count == 10 || r.count == 9); /* the dropped one may be missing */
    for (int i = 0; i < r.count; i++)
        for (int k = 0; k < i; k++)
            assert_int_not_equal(r.ids[i], r.ids[k]);
    readers_leave(w);
    world_free(w);
}

static void a_start_goes_on_with_it(void **state)
{
    struct world *w = world_with("", true);
    struct reader r;

    (void)state;
    lose(w, 30);
    listen_to(w, &r, "$memphis_dls_orders.billing", 10);
    resend_all(w);
    pass(w, 1500); /* how far it is, is noted once a second */
    for (int round = 0; round < 2; round++) {
        if (round == 1)
            flush(w);
        assert_int_equal(r.count, 10 * (round == 0));
        readers_leave(w);
        restart(w);
        assert_int_equal(progress(w).done, 10);
        assert_int_equal(progress(w).total, 30);
        listen_to(w, &r, "$memphis_dls_orders.billing", 0);
    }
    r.room = 100;
    pass(w, 100);
    assert_int_equal(r.count, 0); /* clients come back first */
    pass(w, 11000);
    settle_down(w);
    assert_int_equal(r.count, 20);
    assert_false(progress(w).is_running);
    assert_int_equal(progress(w).done, 30);
    assert_int_equal(messages_of_dls(w), 30);
    readers_leave(w);
    restart(w);
    assert_int_equal(progress(w).total, 0);
    readers_leave(w);
    world_free(w);
}

static void it_ends_with_its_station(void **state)
{
    struct world *w = world_with("", true);
    struct reader r;
    struct said said, dropped;

    (void)state;
    lose(w, 30);
    listen_to(w, &r, "$memphis_dls_orders.billing", 10);
    mp_dls_resend_all(station(w, "orders"), then_say(&said));
    mp_station_drop(w->broker, station(w, "orders"), "root", then_say(&dropped));
    settle_down(w);
    assert_int_equal(said.count, 1);
    assert_int_equal(dropped.status, MEMPHIS_OK);
    pass(w, 100);
    settle_down(w);
    assert_int_equal(r.count, 10);
    assert_int_equal(messages_of_dls(w), 0);
    readers_leave(w);
    restart(w);
    assert_int_equal(messages_of_dls(w), 0);
    readers_leave(w);
    world_free(w);
}

static void letters_that_lie_in_segments_are_fetched(void **state)
{
    struct world *w = world_with("", true);
    struct reader r;

    (void)state;
    lose(w, 30);
    flush(w);
    readers_leave(w);
    restart(w);
    listen_to(w, &r, "$memphis_dls_orders.billing", 100);
    resend_all(w);
    pass(w, 200);
    assert_int_equal(r.count, 30);
    resend_all(w); /* and closed in the midst of it */
    readers_leave(w);
    world_free(w);
}

static void too_many_ids_are_refused(void **state)
{
    struct world *w = world_with("", true);
    uint32_t *ids = calloc(100001, sizeof(*ids));

    (void)state;
    assert_int_equal(mp_dls_resend(station(w, "orders"), ids, 100001), MEMPHIS_FULL);
    resend(w, ids, 100000); /* 0 is no id: they only cost their look, in steps */
    assert_true(progress(w).is_running);
    pass(w, 200);
    assert_false(progress(w).is_running);
    assert_int_equal(progress(w).done, 100000);
    resend(w, ids, 0);
    free(ids);
    readers_leave(w);
    world_free(w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        leak_checked(a_resent_message_comes_to_the_failed_groups_only),
        leak_checked(old_sdks_hear_the_letters_of_their_stations_only),
        leak_checked(all_are_resent_step_by_step),
        leak_checked(a_slow_reader_is_waited_for_and_given_up_in_the_end),
        leak_checked(a_member_with_room_gets_them),
        leak_checked(what_changes_meanwhile_is_resent_once),
        leak_checked(a_start_goes_on_with_it),
        leak_checked(it_ends_with_its_station),
        leak_checked(letters_that_lie_in_segments_are_fetched),
        leak_checked(too_many_ids_are_refused),
    };

    return run_tests("broker/dls_resend", tests);
}
