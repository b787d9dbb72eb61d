#include "unit/broker/world.h"

#include "broker/dls.h"
#include "replica/solo.h"

/* One station with one partition, and groups "billing" and "shipping" on it. */
static struct mp_stream *stream_of(struct world *w)
{
    return mp_station_stream(station(w, "orders"), 1);
}

static struct mp_stream_group *group(struct world *w, const char *name)
{
    return mp_stream_group(stream_of(w), mp_slice_text(name));
}

static void add_group(struct world *w, const char *name, uint32_t deliveries_max)
{
    struct mp_consumer_request r = { .name = name, .group = name, .connection_id = "c1",
                                     .app_id = "app", .sdk = "go", .user = "root",
                                     .version = 4, .ack_wait_ms = 100,
                                     .deliveries_max = deliveries_max,
                                     .start_sequence = 1, .last_messages = -1 };
    struct said said;

    mp_consumer_add(station(w, "orders"), &r, then_say(&said));
    settle_down(w);
    assert_int_equal(said.status, MEMPHIS_OK);
}

static struct world *world_with(const char *dls_station, bool poison)
{
    struct world *w = world_new();
    struct mp_station_settings s = settings(1);
    struct said said;

    s.dls_station = dls_station;
    s.dls_poison = poison;
    mp_station_create(w->broker, "orders", &s, "root", then_say(&said));
    settle_down(w);
    assert_int_equal(said.status, MEMPHIS_OK);
    add_group(w, "billing", 1);
    add_group(w, "shipping", 1);
    return w;
}

static void produce(struct world *w, const char *payload)
{
    mp_stream_produce(stream_of(w), MP_STR("NATS/1.0\r\ncolor: red\r\n\r\n"),
                      mp_slice_text(payload), MP_STR(""), NULL, NULL);
    settle_down(w);
}

static int pull(struct world *w, const char *name)
{
    struct mp_pull_request r = { .batch = 10, .no_wait = true };

    w->heard_count = 0;
    mp_stream_pull(group(w, name), &r, MP_STR("_INBOX.pull"));
    settle_down(w);
    pass(w, 5); /* what is on disk is fetched first */
    int messages = 0;
    for (int i = 0; i < w->heard_count; i++)
        messages += strncmp(w->heard[i], "NATS/1.0", 8) != 0;
    w->heard_count = 0;
    return messages;
}

/* Delivered once, and its ack wait passes. */
static void give_up(struct world *w, const char *name)
{
    assert_int_equal(pull(w, name), 1);
    pass(w, 150);
    settle_down(w);
}

/* "seven", "eight", "eight" ... become dead letters of "billing". */
static void lose(struct world *w, int n)
{
    for (int i = 0; i < n; i++)
        produce(w, i == 0 ? "seven" : "eight");
    for (int left = n; left > 0; left -= 10)
        assert_int_equal(pull(w, "billing"), left < 10 ? left : 10);
    pass(w, 150);
    settle_down(w);
}

static struct mp_dead_row *only_row(struct world *w)
{
    struct mp_dead_row *row = mp_dls_next(station(w, "orders"), NULL);

    assert_non_null(row);
    assert_null(mp_dls_next(station(w, "orders"), row));
    return row;
}

static bool has_rows(struct world *w)
{
    return mp_dls_next(station(w, "orders"), NULL) != NULL;
}

struct seen {
    int count;
    bool gone;
    char payload[64], headers[64];
};

static void see(void *ctx, struct mp_dead_row *row, const struct mp_dead_letter *l)
{
    struct seen *s = ctx;

    s->count++;
    s->gone = row == NULL;
    if (row == NULL)
        return;
    snprintf(s->payload, sizeof(s->payload), "%.*s", (int)l->payload.size,
             (const char *)l->payload.data);
    snprintf(s->headers, sizeof(s->headers), "%.*s", (int)l->headers.size,
             (const char *)l->headers.data);
}

static struct seen read_letter(struct world *w, uint32_t id)
{
    struct seen s = { .count = 0 };

    mp_dls_read(w->broker, id, see, &s);
    settle_down(w);
    assert_int_equal(s.count, 1);
    return s;
}

static void check_row(struct world *w, uint32_t groups)
{
    struct mp_dead_row *row = only_row(w);
    struct seen s = read_letter(w, row->id);

    struct mp_log_stats st;

    mp_log_stats(w->broker->data_log, 0, &st);
    assert_int_equal(st.messages, 1); /* what it has replaced is gone */
    assert_int_equal(row->seq, 1);
    assert_int_equal(row->gids_count, groups);
    assert_non_null(mp_dls_group(row, groups - 1));
    assert_false(s.gone);
    assert_string_equal(s.payload, "seven");
    assert_string_equal(s.headers, "NATS/1.0\r\ncolor: red\r\n\r\n");
}

static void a_message_out_of_deliveries_is_a_dead_letter_once(void **state) /* DLS-01 */
{
    struct world *w = world_with("", true);

    (void)state;
    produce(w, "seven");
    give_up(w, "billing");
    check_row(w, 1);
    assert_int_equal(only_row(w)->reason, MP_DEAD_UNACKED);
    assert_int_equal(group(w, "billing")->group.pending.count, 0);
    assert_int_equal(group(w, "billing")->group.floor, 1);
    assert_int_equal(pull(w, "billing"), 0);
    uint32_t id = only_row(w)->id;

    restart(w); /* from the log */
    check_row(w, 1);
    assert_int_equal(only_row(w)->id, id);
    assert_int_equal(pull(w, "billing"), 0);
    give_up(w, "shipping"); /* the message is there, for others */
    check_row(w, 2);
    assert_int_equal(only_row(w)->id, id); /* one row per message */
    restart(w);
    check_row(w, 2);
    world_free(w);
}

static void a_settled_group_leaves_the_row_and_the_last_one_takes_it_along(void **state)
{
    struct world *w = world_with("", true);

    (void)state;
    produce(w, "seven");
    give_up(w, "billing");
    give_up(w, "shipping");
    uint32_t id = only_row(w)->id;
    mp_dls_settle(w->broker, id, MP_STR("nobody"));
    mp_dls_settle(w->broker, id + 1000, MP_STR("billing"));
    mp_dls_settle(w->broker, id, MP_STR("Billing")); /* as SDKs have it */
    mp_dls_settle(w->broker, id, MP_STR("billing")); /* and again */
    settle_down(w);
    check_row(w, 1);
    assert_ptr_equal(mp_dls_group(only_row(w), 0), group(w, "shipping"));
    restart(w);
    check_row(w, 1);
    assert_int_equal(only_row(w)->id, id);
    mp_dls_settle(w->broker, id, MP_STR("shipping"));
    settle_down(w);
    assert_false(has_rows(w));
    assert_true(read_letter(w, id).gone);
    restart(w);
    assert_false(has_rows(w));
    world_free(w);
}

static void a_terminated_message_is_a_dead_letter_with_its_reason(void **state)
{
    struct world *w = world_with("", true);

    (void)state;
    produce(w, "seven");
    assert_int_equal(pull(w, "billing"), 1);
    mp_stream_settle(group(w, "billing"), 1, MP_STR("+TERM"), MP_STR(""));
    /* The notice follows, before the letter is written ... */
    mp_dls_nacked(station(w, "orders"), 1, 1, MP_STR("billing"), MP_STR("bad total"));
    settle_down(w);
    check_row(w, 1);
    assert_int_equal(only_row(w)->reason, MP_DEAD_NACKED);
    assert_string_equal(only_row(w)->text, "bad total");
    /* ... or later; also one that nobody needs. */
    mp_dls_nacked(station(w, "orders"), 1, 1, MP_STR("billing"), MP_STR("worse"));
    mp_dls_nacked(station(w, "orders"), 0, 1, MP_STR("billing"), MP_STR("x"));
    mp_dls_nacked(station(w, "orders"), 1, 99, MP_STR("billing"), MP_STR("x"));
    mp_dls_nacked(station(w, "orders"), 1, 1, MP_STR("nobody"), MP_STR("x"));
    settle_down(w);
    restart(w);
    check_row(w, 1);
    assert_string_equal(only_row(w)->text, "worse");

    assert_int_equal(pull(w, "shipping"), 1); /* the API's form */
    mp_stream_settle(group(w, "shipping"), 1, MP_STR("+TERM not ours"), MP_STR(""));
    settle_down(w);
    check_row(w, 2);
    assert_string_equal(only_row(w)->text, "not ours");
    world_free(w);
}

static void a_late_ack_of_a_dying_message_counts(void **state)
{
    struct world *w = world_with("", true);

    (void)state;
    produce(w, "seven");
    assert_int_equal(pull(w, "billing"), 1);
    mp_stream_settle(group(w, "billing"), 1, MP_STR("+TERM"), MP_STR(""));
    mp_stream_settle(group(w, "billing"), 1, MP_STR("+ACK"), MP_STR(""));
    settle_down(w);
    assert_false(has_rows(w));
    assert_int_equal(group(w, "billing")->group.floor, 1);
    world_free(w);
}

static void without_the_setting_a_message_just_leaves(void **state)
{
    struct world *w = world_with("", false);

    (void)state;
    produce(w, "seven");
    give_up(w, "billing");
    assert_false(has_rows(w));
    assert_int_equal(group(w, "billing")->group.floor, 1);
    assert_int_equal(w->broker->streams.counters.dead, 1);
    world_free(w);
}

static void a_resent_message_comes_to_the_failed_groups_only(void **state)
{
    struct world *w = world_with("", true);
    struct mp_subscription *s[3];
    static const char *const subjects[] = { "$memphis_dls_orders.billing",
                                            "$memphis_dls_orders_billing",
                                            "$memphis_dls_orders.shipping" };

    (void)state;
    produce(w, "seven");
    give_up(w, "billing");
    uint32_t id = only_row(w)->id;
    for (int i = 0; i < 3; i++)
        assert_int_equal(mp_bus_subscribe(w->broker->bus, &w->client,
                                          mp_slice_text(subjects[i]), MP_STR(""),
                                          &s[i]),
                         MEMPHIS_OK);
    w->heard_count = 0;
    mp_dls_resend(w->broker, id);
    mp_dls_resend(w->broker, id + 1000);
    settle_down(w);
    assert_int_equal(w->heard_count, 2); /* both forms of one group's subject */
    assert_string_equal(w->heard[0], "seven");
    check_row(w, 1); /* it stays until it is settled */
    world_free(w);
}

static void rows_are_dropped_and_go_with_their_station(void **state)
{
    struct world *w = world_with("", true);
    struct said said;

    (void)state;
    lose(w, 2);
    uint32_t id = mp_dls_next(station(w, "orders"), NULL)->id;
    struct mp_station *other = make_station(w, "bills", 1);
    mp_dls_drop(other, &id, 1, then_say(&said)); /* not its own */
    settle_down(w);
    assert_non_null(mp_dls_find(w->broker, id));
    mp_dls_drop(station(w, "orders"), &id, 1, then_say(&said));
    assert_int_equal(said.count, 0);
    settle_down(w);
    assert_int_equal(said.status, MEMPHIS_OK);
    assert_null(mp_dls_find(w->broker, id));
    assert_string_equal(read_letter(w, only_row(w)->id).payload, "eight");
    id = only_row(w)->id;

    mp_station_drop(w->broker, station(w, "orders"), "root", then_say(&said));
    settle_down(w);
    assert_null(mp_dls_find(w->broker, id));
    restart(w);
    assert_null(mp_dls_find(w->broker, id));
    assert_true(read_letter(w, id).gone);
    world_free(w);
}

static void a_row_goes_with_its_last_group(void **state)
{
    struct world *w = world_with("", true);
    struct said said;

    (void)state;
    produce(w, "seven");
    give_up(w, "billing");
    give_up(w, "shipping");
    mp_consumer_drop(station(w, "orders"), "billing", "c1", then_say(&said));
    settle_down(w);
    check_row(w, 1);
    mp_consumer_drop(station(w, "orders"), "shipping", "c1", then_say(&said));
    settle_down(w);
    assert_false(has_rows(w));
    world_free(w);
}

static void rows_end_with_their_retention(void **state)
{
    struct world *w = world_with("", true);

    (void)state;
    lose(w, 2);
    mp_disk_advance(w->disk, (uint64_t)(MP_DLS_RETENTION_MS - 10000) * 1000000);
    pass(w, 3);
    assert_true(has_rows(w));
    restart(w);
    assert_true(has_rows(w));
    mp_disk_advance(w->disk, 20000ull * 1000000);
    pass(w, 3);
    settle_down(w);
    assert_false(has_rows(w));
    restart(w);
    assert_false(has_rows(w));
    world_free(w);
}

static void copies_go_to_the_station_that_wants_them(void **state)
{
    struct world *w = world_with("graves", true);
    struct mp_stored m;

    (void)state;
    make_station(w, "graves", 1);
    produce(w, "seven");
    give_up(w, "billing");
    give_up(w, "shipping"); /* once per message */
    settle_down(w);
    assert_int_equal(last_of(w, "graves", 1), 1);
    struct mp_stream *s = mp_station_stream(station(w, "graves"), 1);
    assert_int_equal(mp_log_read(s->log, s->pid, 1, &m), MEMPHIS_OK);
    assert_true(mp_slice_equal(m.entry.payload, MP_STR("seven")));
    assert_true(mp_slice_equal(mp_header_find(m.entry.headers, "station"),
                               MP_STR("orders")));
    assert_true(mp_slice_equal(mp_header_find(m.entry.headers, "type"),
                               MP_STR("unacked")));
    assert_true(mp_slice_equal(mp_header_find(m.entry.headers, "color"),
                               MP_STR("red")));
    mp_stored_release(&m);
    world_free(w);
}

static void what_a_producer_refused_is_a_row_without_a_group(void **state)
{
    struct world *w = world_with("", true);

    (void)state;
    mp_dls_refused(station(w, "orders"), MP_STR("NATS/1.0\r\na: b\r\n\r\n"),
                   MP_STR("{}"), MP_STR("no total"));
    settle_down(w);
    restart(w);
    struct mp_dead_row *row = only_row(w);
    assert_int_equal(row->reason, MP_DEAD_SCHEMA);
    assert_int_equal(row->gids_count, 0);
    assert_string_equal(row->text, "no total");
    assert_string_equal(read_letter(w, row->id).payload, "{}");
    world_free(w);
}

static void flush(struct world *w)
{
    struct mp_replica_stats before, now;

    mp_replica_stats(w->broker->replica, &before);
    w->broker->replica->wants_flush = true;
    settle_down(w);
    pass(w, 2000);
    mp_replica_stats(w->broker->replica, &now);
    assert_true(now.flushes > before.flushes);
}

/* When the log has given them up, rows come from the segments of partition 0. */
static void rows_outlive_the_log_that_made_them(void **state)
{
    struct world *w = world_with("", true);
    struct said said;

    (void)state;
    lose(w, 4);
    struct mp_dead_row *row = mp_dls_next(station(w, "orders"), NULL);
    uint32_t first = row->id, second = mp_dls_next(station(w, "orders"), row)->id;
    flush(w);
    mp_dls_drop(station(w, "orders"), &second, 1, then_say(&said));
    settle_down(w);
    for (int round = 0; round < 3; round++) {
        if (round == 1)
            flush(w);
        restart(w);
        assert_int_equal(mp_dls_next(station(w, "orders"), NULL)->id, first);
        assert_null(mp_dls_find(w->broker, second));
        assert_string_equal(read_letter(w, first).payload, "seven");
    }
    assert_int_equal(pull(w, "billing"), 0);
    assert_int_equal(pull(w, "shipping"), 4);
    pass(w, 150); /* new letters follow on the old ones */
    settle_down(w);
    assert_int_equal(mp_dls_find(w->broker, first)->gids_count, 2);
    restart(w);
    assert_int_equal(mp_dls_find(w->broker, first)->gids_count, 2);
    world_free(w);
}

/* A log that takes no messages, as on a full disk. */
static const struct mp_log_ops *whole;

static memphis_status refuse_messages(struct mp_log *log, const struct mp_entry *e,
                                      size_t n, uint64_t tag)
{
    for (size_t i = 0; i < n; i++)
        if (e[i].type == MP_ENTRY_MESSAGE)
            return MEMPHIS_NO_SPACE;
    return whole->append(log, e, n, tag);
}

static void a_full_disk_delays_letters_and_not_acks(void **state)
{
    struct world *w = world_with("", true);
    struct mp_log_ops full = *w->broker->data_log->ops;

    (void)state;
    whole = w->broker->data_log->ops;
    full.append = refuse_messages;
    produce(w, "seven");
    produce(w, "eight");
    assert_int_equal(pull(w, "billing"), 2);
    w->broker->data_log->ops = &full;
    mp_stream_settle(group(w, "billing"), 1, MP_STR("+TERM"), MP_STR(""));
    mp_stream_settle(group(w, "billing"), 2, MP_STR(""), MP_STR("_INBOX.ack"));
    pass(w, 50);
    assert_string_equal(heard(w), ""); /* the ack is durable, and confirmed */
    assert_false(has_rows(w));
    assert_non_null(mp_pending_find(&group(w, "billing")->group.pending, 1));
    uint64_t turns = w->broker->counters.turns;
    uint64_t index = mp_log_last(w->broker->data_log, 0);
    pass(w, 500); /* and no storm until there is room */
    assert_true(w->broker->counters.turns - turns <= 500);
    assert_int_equal(mp_log_last(w->broker->data_log, 0), index);
    w->broker->data_log->ops = whole;
    pass(w, 1500);
    settle_down(w);
    check_row(w, 1);
    assert_int_equal(group(w, "billing")->group.floor, 2);
    world_free(w);
}

static int count_rows(struct world *w)
{
    int n = 0;

    for (struct mp_dead_row *row = NULL;
         (row = mp_dls_next(station(w, "orders"), row)) != NULL;)
        n++;
    return n;
}

/* More than one append holds, and some are settled before their turn. */
static void many_die_at_once_in_order(void **state)
{
    struct world *w = world_with("", true);
    uint64_t seq = 0;

    (void)state;
    for (int i = 0; i < 50; i++)
        produce(w, "eight");
    for (int i = 0; i < 5; i++)
        assert_int_equal(pull(w, "billing"), 10);
    for (uint64_t i = 1; i <= 50; i++)
        mp_stream_settle(group(w, "billing"), i, MP_STR("+TERM"), MP_STR(""));
    mp_stream_settle(group(w, "billing"), 1, MP_STR(""), MP_STR(""));
    mp_stream_settle(group(w, "billing"), 30, MP_STR(""), MP_STR(""));
    settle_down(w);
    pass(w, 100);
    assert_int_equal(count_rows(w), 48);
    for (struct mp_dead_row *row = NULL;
         (row = mp_dls_next(station(w, "orders"), row)) != NULL;) {
        assert_true(row->seq > seq);
        seq = row->seq;
    }
    assert_int_equal(group(w, "billing")->group.floor, 50);
    assert_int_equal(group(w, "billing")->dying_count, 0);
    world_free(w);
}

/* It is no damage of the table of partitions, and is not asked about again. */
static void a_rotten_letter_costs_itself(void **state)
{
    static const char segment[] = "s/00000002/dls/00000000000000000001.seg";
    struct world *w = world_with("", true);
    memphis_error err;

    (void)state;
    lose(w, 4);
    flush(w);
    stop(w);
    assert_true(mp_disk_flip(w->disk, segment, MP_BLOCK_SIZE + 60, 1));
    assert_int_equal(try_start(w, &err), MEMPHIS_CORRUPT);
    assert_non_null(strstr(err.message, segment));
    w->accept_loss = true;
    start(w);
    assert_int_equal(count_rows(w), 3);
    w->accept_loss = false;
    for (int round = 0; round < 2; round++) {
        restart(w);
        assert_int_equal(count_rows(w), 3);
        assert_int_equal(pull(w, "billing"), 0);
    }
    world_free(w);
}

/* At each operation of the disk: the message is pending or a dead letter, never both,
 * never neither. */
static void a_crash_leaves_a_message_in_its_group_or_in_a_row(void **state)
{
    int pending = 0, dead = 0;
    bool crashed = true;

    (void)state;
    for (uint64_t n = 1; crashed; n++) {
        struct world *w = world_with("", true);
        produce(w, "seven");
        assert_int_equal(pull(w, "billing"), 1);
        mp_disk_crash_at(w->disk, n);
        pass(w, 150);
        mp_disk_advance(w->disk, 2000ull * 1000000);
        pass(w, 5);
        crashed = mp_disk_has_crashed(w->disk);
        mp_disk_crash_at(w->disk, 1);
        w->broker->env->dir_sync(w->broker->env, "", NULL);
        stop(w);
        mp_disk_crash(w->disk, MP_CRASH_NOTHING, n);
        w->broken = 0;
        start(w);
        bool is_pending =
            mp_pending_find(&group(w, "billing")->group.pending, 1) != NULL;
        assert_true(is_pending != has_rows(w));
        pending += is_pending;
        dead += !is_pending;
        pass(w, 200); /* and in the end it is one */
        settle_down(w);
        check_row(w, 1);
        world_free(w);
    }
    assert_true(pending > 0 && dead > 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        leak_checked(a_message_out_of_deliveries_is_a_dead_letter_once),
        leak_checked(a_settled_group_leaves_the_row_and_the_last_one_takes_it_along),
        leak_checked(a_terminated_message_is_a_dead_letter_with_its_reason),
        leak_checked(a_late_ack_of_a_dying_message_counts),
        leak_checked(without_the_setting_a_message_just_leaves),
        leak_checked(a_resent_message_comes_to_the_failed_groups_only),
        leak_checked(rows_are_dropped_and_go_with_their_station),
        leak_checked(a_row_goes_with_its_last_group),
        leak_checked(rows_end_with_their_retention),
        leak_checked(copies_go_to_the_station_that_wants_them),
        leak_checked(what_a_producer_refused_is_a_row_without_a_group),
        leak_checked(a_full_disk_delays_letters_and_not_acks),
        leak_checked(many_die_at_once_in_order),
        leak_checked(a_rotten_letter_costs_itself),
        leak_checked(rows_outlive_the_log_that_made_them),
        leak_checked(a_crash_leaves_a_message_in_its_group_or_in_a_row),
    };

    return run_tests("broker/dls", tests);
}
