#include "world.h"

#include "base/limits.h"

#define FULL UINT64_MAX

/* One message at most was heard on that inbox since the last time; its payload. */
static const struct heard *only(struct world *w)
{
    assert_int_equal(w->heard_count, 1);
    w->heard_count = 0;
    return &w->heard[0];
}

static void nothing(struct world *w)
{
    assert_int_equal(w->heard_count, 0);
}

static struct mp_stream_group *world_with_group(struct world **w, int messages,
                                                uint32_t deliveries_max)
{
    *w = world_new(&ORDERS);
    make_group(*w, "billing", deliveries_max);
    store(*w, messages);
    forget(*w);
    return group(*w, "billing");
}

static struct mp_stream_group *after_restart(struct world *w)
{
    restart(w);
    return group(w, "billing");
}

/* Deliveries so far, from the ack subject; 0: nothing came. */
static int delivered(struct world *w, struct mp_stream_group *g, uint64_t *seq)
{
    struct mp_pull_request r = { .batch = 1, .no_wait = true };
    int deliveries = 0, number = 0;

    forget(w);
    mp_stream_pull(g, &r, MP_STR("_INBOX.one"));
    settle_down(w);
    assert_int_equal(w->heard_count, 1);
    if (sscanf(w->heard[0].reply, "$JS.ACK.orders$1.billing.%d.%d.", &deliveries,
               &number) != 2)
        assert_non_null(strstr(w->heard[0].headers, "404 No Messages"));
    if (seq != NULL)
        *seq = (uint64_t)number;
    forget(w);
    return deliveries;
}

/* === Pulls === */

static void CSM_03_a_pulled_message_shows_its_subject_and_how_to_ack_it(void **state)
{
    struct world *w;
    struct mp_stream_group *g = world_with_group(&w, 3, 2);
    const struct heard *h;
    char want[128];

    (void)state;
    pull(g, 1, "_INBOX.p");
    settle_down(w);

    h = only(w);
    assert_string_equal(h->subject, "orders$1.final");
    assert_string_equal(h->payload, "hello");
    snprintf(want, sizeof(want), "$JS.ACK.orders$1.billing.1.1.1.");
    assert_memory_equal(h->reply, want, strlen(want));
    assert_string_equal(strrchr(h->reply, '.'), ".2"); /* two more are unseen */
    assert_int_equal(mp_stream_group_unseen(g), 2);
    world_free(w);
}

static void members_share_messages_one_by_one(void **state)
{
    struct world *w;
    struct mp_stream_group *g = world_with_group(&w, 0, 2);

    (void)state;
    pull(g, 2, "_INBOX.a");
    pull(g, 2, "_INBOX.b");
    store(w, 4);

    assert_int_equal(w->heard_count, 4);
    for (int i = 0; i < 4; i++)
        assert_non_null(strstr(w->heard[i].reply, "billing.1."));
    assert_int_equal(g->pulls.count, 0);
    world_free(w);
}

static void a_pull_that_cannot_wait_ends_with_404_or_408(void **state)
{
    struct world *w;
    struct mp_stream_group *g = world_with_group(&w, 1, 2);
    struct mp_pull_request r = { .batch = 2, .no_wait = true };

    (void)state;
    mp_stream_pull(g, &r, MP_STR("_INBOX.p"));
    settle_down(w);
    assert_int_equal(w->heard_count, 2);
    assert_string_equal(w->heard[1].headers,
                        "NATS/1.0 408 Request Timeout\r\nNats-Pending-Messages: 1\r\n"
                        "Nats-Pending-Bytes: 0\r\n\r\n");
    forget(w);
    mp_stream_pull(g, &r, MP_STR("_INBOX.p"));
    settle_down(w);
    assert_string_equal(only(w)->headers, "NATS/1.0 404 No Messages\r\n\r\n");
    world_free(w);
}

static void a_pull_expires_at_its_time_never_before(void **state)
{
    struct world *w;
    struct mp_stream_group *g = world_with_group(&w, 0, 2);
    struct mp_pull_request r = { .batch = 1, .expires_ns = 100 * MILLI,
                                 .has_expires = true };
    uint64_t asked = w->now_ns;

    (void)state;
    mp_stream_pull(g, &r, MP_STR("_INBOX.p"));
    turn(w);
    while (w->heard_count == 0)
        pass(w, 1);

    assert_in_range(w->now_ns - asked, 102 * MILLI, 104 * MILLI); /* MP_PULL_LATE_NS */
    assert_non_null(strstr(only(w)->headers, "408 Request Timeout"));
    world_free(w);
}

static void the_513th_waiting_pull_is_refused(void **state)
{
    struct world *w;
    struct mp_stream_group *g = world_with_group(&w, 0, 2);

    (void)state;
    for (int i = 0; i < MP_PULLS_WAITING_MAX; i++)
        pull(g, 1, "_INBOX.p");
    nothing(w);
    pull(g, 1, "_INBOX.p");
    assert_string_equal(only(w)->headers, "NATS/1.0 409 Exceeded MaxWaiting\r\n\r\n");
    mp_stream_pull_cancel(g, MP_STR("_INBOX.p"));
    assert_int_equal(g->pulls.count, 0);
    world_free(w);
}

static void a_pull_whose_client_left_costs_no_delivery(void **state)
{
    struct world *w;
    struct mp_stream_group *g = world_with_group(&w, 0, 2);

    (void)state;
    pull(g, 1, "_INBOX.gone");
    mp_bus_leave(w->host.bus, &w->client);
    mp_bus_join(w->host.bus, &w->client);
    store(w, 1);
    assert_int_equal(g->pulls.count, 0);
    assert_int_equal(g->group.next, 1);
    listen_to(w, "_INBOX.>");
    assert_int_equal(delivered(w, g, NULL), 1);
    world_free(w);
}

static bool may_hear_nothing(struct mp_client *c, memphis_slice subject)
{
    (void)c;
    assert_int_equal(subject.size, strlen("orders$1.final"));
    assert_memory_equal(subject.data, "orders$1.final", subject.size);
    return false;
}

/* Nor does one whose inbox is heard by somebody else, too. */
static void a_pull_of_who_may_not_read_any_more_costs_no_delivery(void **state)
{
    struct world *w;
    struct mp_stream_group *g = world_with_group(&w, 0, 2);

    (void)state;
    listen_to(w, "_INBOX.p");
    pull(g, 5, "_INBOX.p");
    w->client.may_hear = may_hear_nothing;
    store(w, 1);
    nothing(w);
    assert_int_equal(g->pulls.count, 0);
    assert_int_equal(g->group.next, 1);
    w->client.may_hear = NULL;
    assert_int_equal(delivered(w, g, NULL), 1);
    world_free(w);
}

static void pulls_of_clients_that_left_make_place_for_others(void **state)
{
    struct world *w;
    struct mp_stream_group *g = world_with_group(&w, 0, 2);

    (void)state;
    for (int i = 0; i < MP_PULLS_WAITING_MAX; i++)
        pull(g, 1, "_INBOX.gone");
    mp_bus_leave(w->host.bus, &w->client);
    mp_bus_join(w->host.bus, &w->client);
    listen_to(w, "_INBOX.p");
    pull(g, 1, "_INBOX.p");
    assert_int_equal(g->pulls.count, 1);
    store(w, 1);
    assert_string_equal(only(w)->payload, "hello");
    world_free(w);
}

/* Clients that take no message of more than `room` bytes. */
struct narrow {
    struct mp_client client;
    size_t room;
    int got;
};

static bool narrow_room(struct mp_client *c, size_t size)
{
    return size <= mp_container_of(c, struct narrow, client)->room;
}

static void narrow_hear(struct mp_client *c, struct mp_subscription *s,
                        const struct mp_message *m)
{
    (void)s, (void)m;
    mp_container_of(c, struct narrow, client)->got++;
}

static struct narrow *narrow(struct world *w, struct narrow *n, const char *inbox)
{
    struct mp_subscription *s;

    *n = (struct narrow){ .client = { .deliver = narrow_hear, .has_room = narrow_room,
                                      .connection_id = "" } };
    mp_bus_join(w->host.bus, &n->client);
    assert_int_equal(mp_bus_subscribe(w->host.bus, &n->client, mp_slice_text(inbox),
                                      MP_STR(""), &s),
                     MEMPHIS_OK);
    return n;
}

static void a_reader_without_room_holds_his_group_back_and_no_other(void **state)
{
    struct world *w;
    struct mp_stream_group *g = world_with_group(&w, 0, 2);
    struct narrow a, b;

    (void)state;
    narrow(w, &a, "narrow.a");
    narrow(w, &b, "narrow.b");
    pull(g, 5, "narrow.a");
    store(w, 3);
    turn(w);
    assert_int_equal(a.got, 0);
    assert_int_equal(g->group.next, 1); /* no delivery is counted */
    assert_true(g->is_held);
    assert_true(mp_list_is_empty(&w->host.serving)); /* no turn is spent on it */

    b.room = 1000; /* a new pull of one who has room goes on at once */
    pull(g, 1, "narrow.b");
    turn(w);
    assert_int_equal(b.got, 1);
    turn(w);
    assert_int_equal(a.got, 0);

    a.room = 1000;
    mp_streams_have_room(&w->host);
    turn(w);
    assert_int_equal(a.got, 2);
    assert_false(g->is_held);
    assert_int_equal(g->group.next, 4);

    a.room = 0; /* it may be deleted while it waits */
    store(w, 1);
    turn(w);
    assert_true(g->is_held);
    mp_bus_leave(w->host.bus, &a.client);
    mp_bus_leave(w->host.bus, &b.client);
    world_free(w);
}

static void a_deleted_group_tells_its_pulls(void **state)
{
    struct world *w;
    struct mp_stream_group *g = world_with_group(&w, 0, 2);
    struct mp_buf b = { 0 };

    (void)state;
    pull(g, 1, "_INBOX.p");
    mp_stream_group_delete_encode(g, &b);
    append_group(w, &b);
    settle_down(w);
    assert_string_equal(only(w)->headers, "NATS/1.0 409 Consumer Deleted\r\n\r\n");
    assert_null(group(w, "billing"));
    world_free(w);
}

/* === Settlements === */

static void CSM_05_an_acked_message_never_comes_back(void **state)
{
    struct world *w;
    struct mp_stream_group *g = world_with_group(&w, 1, 2);

    (void)state;
    assert_int_equal(delivered(w, g, NULL), 1);
    settle(g, 1, "+ACK");
    settle(g, 1, "+ACK"); /* again: ignored */
    settle(g, 99, "+ACK"); /* never heard of */
    pass(w, 2000);
    assert_int_equal(delivered(w, g, NULL), 0);
    assert_int_equal(w->host.counters.acked, 1);

    g = after_restart(w);

    assert_int_equal(delivered(w, g, NULL), 0);
    assert_int_equal(g->group.floor, 1);
    world_free(w);
}

static void CSM_06_a_nacked_message_comes_back_at_once(void **state)
{
    struct world *w;
    struct mp_stream_group *g = world_with_group(&w, 2, 3);
    uint64_t seq;

    (void)state;
    delivered(w, g, NULL);
    settle(g, 1, "-NAK");
    assert_int_equal(delivered(w, g, &seq), 2);
    assert_int_equal(seq, 1); /* before the new one */
    assert_int_equal(w->host.counters.redelivered, 1);
    world_free(w);
}

static void CSM_08_a_delayed_message_comes_when_its_time_is_over(void **state)
{
    static const char *const same[] = { "-NAK {\"delay\": 2000000000}", "-NAK 2s",
                                        "-NAK 2000000000", "-NAK 1s1000ms",
                                        "-NAK 0.25s1.75s" };
    uint64_t seq;

    (void)state;
    for (size_t i = 0; i < sizeof(same) / sizeof(same[0]); i++) {
        struct world *w;
        struct mp_stream_group *g = world_with_group(&w, 2, 3);

        delivered(w, g, NULL);
        settle(g, 1, same[i]);
        assert_int_equal(delivered(w, g, &seq), 1); /* others flow on */
        assert_int_equal(seq, 2);
        settle(g, 2, "+ACK");
        pass(w, 1900);
        assert_int_equal(delivered(w, g, &seq), 0);
        g = after_restart(w); /* a delay outlives a start */
        assert_int_equal(delivered(w, g, &seq), 0);
        pass(w, 110);
        assert_int_equal(delivered(w, g, &seq), 2);
        assert_int_equal(seq, 1);
        world_free(w);
    }
}

static void a_delay_that_cannot_be_read_is_none(void **state)
{
    static const char *const odd[] = { "-NAK {\"delay\":}", "-NAK {", "-NAK 1parsec",
                                       "-NAK s", "-NAK {\"x\":1}", "-NAK 9e99s",
                                       "-NAK 99999999999999999999h" };

    (void)state;
    for (size_t i = 0; i < sizeof(odd) / sizeof(odd[0]); i++) {
        struct world *w;
        struct mp_stream_group *g = world_with_group(&w, 1, 3);

        delivered(w, g, NULL);
        settle(g, 1, odd[i]);
        assert_int_equal(delivered(w, g, NULL), 2);
        world_free(w);
    }
}

static void CSM_09_silence_brings_a_message_back_and_work_in_progress_puts_it_off(
    void **state)
{
    struct world *w;
    struct mp_stream_group *g = world_with_group(&w, 1, 3);

    (void)state;
    delivered(w, g, NULL);
    pass(w, 900);
    settle(g, 1, "+WPI");
    pass(w, 900);
    assert_int_equal(delivered(w, g, NULL), 0);
    pass(w, 110);
    assert_int_equal(delivered(w, g, NULL), 2);
    world_free(w);
}

static void CSM_10_after_its_last_delivery_a_message_is_given_up(void **state)
{
    struct world *w;
    struct mp_stream_group *g = world_with_group(&w, 1, 3);

    (void)state;
    for (int n = 1; n <= 3; n++) {
        assert_int_equal(delivered(w, g, NULL), n);
        pass(w, 1001);
    }
    assert_int_equal(delivered(w, g, NULL), 0);
    assert_int_equal(w->host.counters.dead, 1);
    assert_int_equal(g->group.floor, 1);
    g = after_restart(w);
    assert_int_equal(delivered(w, g, NULL), 0);
    world_free(w);
}

static void CSM_07_a_terminated_message_is_settled(void **state)
{
    struct world *w;
    struct mp_stream_group *g = world_with_group(&w, 1, 3);

    (void)state;
    delivered(w, g, NULL);
    settle(g, 1, "+TERMINATED"); /* no such word */
    assert_int_equal(g->group.floor, 0);
    settle(g, 1, "+TERM bad total");
    assert_int_equal(g->group.floor, 1);
    assert_int_equal(w->host.counters.terminated, 1);
    world_free(w);
}

static void counts_outlive_a_start(void **state)
{
    struct world *w;
    struct mp_stream_group *g = world_with_group(&w, 1, 4);

    (void)state;
    for (int n = 1; n <= 3; n++) {
        assert_int_equal(delivered(w, g, NULL), n);
        settle(g, 1, "-NAK");
        settle_down(w);
    }
    g = after_restart(w);
    assert_int_equal(delivered(w, g, NULL), 4);
    settle(g, 1, "-NAK");
    assert_int_equal(delivered(w, g, NULL), 0);
    assert_int_equal(w->host.counters.dead, 1);
    world_free(w);
}

static void with_one_delivery_at_most_a_start_makes_no_second_one(void **state)
{
    struct world *w;
    struct mp_stream_group *g = world_with_group(&w, 1, 1);

    (void)state;
    assert_int_equal(delivered(w, g, NULL), 1);
    g = after_restart(w);
    assert_int_equal(delivered(w, g, NULL), 0);
    pass(w, 2);
    assert_int_equal(w->host.counters.dead, 1);
    assert_int_equal(g->group.floor, 1);
    world_free(w);
}

static void a_message_that_is_gone_is_not_delivered_again(void **state)
{
    struct world *w;
    struct mp_stream_group *g = world_with_group(&w, 2, 3);
    struct mp_buf b = { 0 };
    struct mp_entry e = { .type = MP_ENTRY_FLOOR, .pid = PID };

    (void)state;
    delivered(w, g, NULL);
    mp_buf_put_u64(&b, 3);
    mp_buf_put_u8(&b, 4);
    e.payload = mp_buf_slice(&b);
    append(w, &e);
    mp_buf_fini(&b);
    settle_down(w);

    assert_int_equal(g->group.floor, 2);
    assert_int_equal(mp_stream_group_unseen(g), 0);
    settle(g, 1, "-NAK"); /* a late one: ignored */
    assert_int_equal(delivered(w, g, NULL), 0);
    world_free(w);
}

/* === Progress === */

static memphis_status no_memory(struct mp_log *log, const struct mp_entry *e, size_t n,
                                uint64_t tag)
{
    (void)log, (void)e, (void)n, (void)tag;
    return MEMPHIS_NOMEM;
}

static void progress_that_finds_no_memory_is_logged_later(void **state)
{
    struct world *w;
    struct mp_stream_group *g = world_with_group(&w, 1, 3);
    const struct mp_log_ops *real = w->log->ops;
    struct mp_log_ops ops = *real;

    (void)state;
    assert_int_equal(delivered(w, g, NULL), 1);
    settle_down(w);
    ops.append = no_memory;
    w->log->ops = &ops;
    mp_stream_settle(g, 1, MP_STR("+ACK"), MP_STR("_INBOX.reply"));
    pass(w, 20);
    assert_int_equal(w->heard_count, 0); /* not confirmed */
    w->log->ops = real;
    pass(w, 1100);
    assert_int_equal(w->heard_count, 1);
    g = after_restart(w);
    assert_int_equal(g->group.floor, 1);
    assert_int_equal(delivered(w, g, NULL), 0);
    world_free(w);
}

static void an_ack_with_a_reply_is_confirmed_when_it_is_durable(void **state)
{
    struct world *w;
    struct mp_stream_group *g = world_with_group(&w, 1, 3);

    (void)state;
    delivered(w, g, NULL);
    mp_stream_settle(g, 1, MP_STR("+ACK"), MP_STR("_INBOX.ack"));
    turn(w);
    nothing(w); /* handed over, its sync is not heard of */
    begin_turn(w);
    assert_string_equal(only(w)->to, "_INBOX.>");
    settle_down(w);
    mp_stream_settle(g, 1, MP_STR("+ACK"), MP_STR("_INBOX.ack"));
    only(w); /* settled and durable already: at once */
    world_free(w);
}

static void acks_are_logged_five_milliseconds_later_at_most(void **state)
{
    struct world *w;
    struct mp_stream_group *g = world_with_group(&w, 2, 3);

    (void)state;
    delivered(w, g, NULL);
    settle(g, 1, "+ACK");
    turn(w);
    assert_true(g->group.dirty);
    pass(w, MP_PROGRESS_DELAY_MS + 1);
    assert_false(g->group.dirty);
    assert_false(g->group.in_flight);
    world_free(w);
}

static void an_ack_while_a_progress_is_in_flight_is_logged_soon_too(void **state)
{
    struct world *w;
    struct mp_stream_group *g = world_with_group(&w, 2, 3);

    (void)state;
    delivered(w, g, NULL);
    delivered(w, g, NULL);
    settle(g, 1, "+ACK");
    mp_disk_advance(w->disk, 6 * MILLI);
    turn(w);
    assert_true(g->group.in_flight);
    settle(g, 2, "+ACK");
    w->host.urgent = true; /* somebody else's */
    mp_streams_log_progress(&w->host);

    pass(w, 8);

    assert_false(g->group.dirty);
    g = after_restart(w);
    assert_int_equal(g->group.floor, 2);
    world_free(w);
}

static int heard_on(const struct world *w, const char *inbox)
{
    int n = 0;

    for (int i = 0; i < w->heard_count; i++)
        n += strcmp(w->heard[i].subject, inbox) == 0;
    return n;
}

/* From now on the log takes nothing: the last file of a full disk is full, too. */
static void fill_disk(struct world *w, struct mp_stream_group *g)
{
    static char payload[32 << 10];

    memset(payload, 'x', sizeof(payload) - 1);
    mp_disk_limit(w->disk, mp_disk_used(w->disk));
    for (int i = 0; i < 100 && w->failures == 0; i++) {
        publish(w, payload);
        mp_stream_settle(g, 99, MP_STR("+ACK"), MP_STR("_INBOX.none"));
        w->host.urgent = true;
        pass(w, 1);
    }
    assert_true(w->failures > 0);
    assert_false(w->is_broken);
}

static void progress_that_finds_no_room_is_logged_when_there_is(void **state)
{
    struct world *w = calloc(1, sizeof(*w));
    struct mp_stream_group *g;
    int failures;

    (void)state;
    w->disk = mp_disk_new(1);
    w->file_size = 256 << 10;
    start(w);
    open_stream(w, &ORDERS);
    g = make_group(w, "billing", 4);
    store(w, 4);
    for (int i = 0; i < 4; i++)
        delivered(w, g, NULL);
    settle(g, 4, "+ACK");
    fill_disk(w, g);
    pass(w, 2);
    forget(w);

    settle(g, 2, "+ACK");
    settle(g, 3, "-NAK 60s");
    mp_stream_settle(g, 1, MP_STR("+ACK"), MP_STR("_INBOX.ack"));
    mp_streams_log_progress(&w->host);
    assert_true(g->group.in_flight);
    mp_stream_settle(g, 1, MP_STR("+ACK"), MP_STR("_INBOX.again"));
    pass(w, 2);
    assert_false(g->group.in_flight);
    failures = w->failures;
    pass(w, 900);
    assert_in_range(w->failures - failures, 0, 1); /* no hurry */
    nothing(w);
    mp_disk_limit(w->disk, FULL);
    pass(w, 5000);

    assert_int_equal(heard_on(w, "_INBOX.ack"), 1);
    assert_int_equal(heard_on(w, "_INBOX.again"), 1);
    assert_false(g->group.dirty);
    g = after_restart(w);
    assert_int_equal(g->group.floor, 2);
    assert_int_equal(g->group.pending.count, 1);
    assert_int_equal(mp_pending_find(&g->group.pending, 3)->state, MP_PENDING_DELAYED);
    world_free(w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        leak_checked(CSM_03_a_pulled_message_shows_its_subject_and_how_to_ack_it),
        leak_checked(members_share_messages_one_by_one),
        leak_checked(a_pull_that_cannot_wait_ends_with_404_or_408),
        leak_checked(a_pull_expires_at_its_time_never_before),
        leak_checked(the_513th_waiting_pull_is_refused),
        leak_checked(a_pull_whose_client_left_costs_no_delivery),
        leak_checked(a_pull_of_who_may_not_read_any_more_costs_no_delivery),
        leak_checked(pulls_of_clients_that_left_make_place_for_others),
        leak_checked(a_reader_without_room_holds_his_group_back_and_no_other),
        leak_checked(a_deleted_group_tells_its_pulls),
        leak_checked(CSM_05_an_acked_message_never_comes_back),
        leak_checked(CSM_06_a_nacked_message_comes_back_at_once),
        leak_checked(CSM_08_a_delayed_message_comes_when_its_time_is_over),
        leak_checked(a_delay_that_cannot_be_read_is_none),
        leak_checked(
            CSM_09_silence_brings_a_message_back_and_work_in_progress_puts_it_off),
        leak_checked(CSM_10_after_its_last_delivery_a_message_is_given_up),
        leak_checked(CSM_07_a_terminated_message_is_settled),
        leak_checked(counts_outlive_a_start),
        leak_checked(with_one_delivery_at_most_a_start_makes_no_second_one),
        leak_checked(a_message_that_is_gone_is_not_delivered_again),
        leak_checked(an_ack_with_a_reply_is_confirmed_when_it_is_durable),
        leak_checked(progress_that_finds_no_memory_is_logged_later),
        leak_checked(acks_are_logged_five_milliseconds_later_at_most),
        leak_checked(an_ack_while_a_progress_is_in_flight_is_logged_soon_too),
        leak_checked(progress_that_finds_no_room_is_logged_when_there_is),
    };

    return run_tests("stream/deliver", tests);
}
