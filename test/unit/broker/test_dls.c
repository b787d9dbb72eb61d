#include "unit/broker/dls_world.h"

#include "replica/solo.h"

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

static void two_groups_may_settle_in_one_breath(void **state)
{
    struct world *w = world_with("", true);

    (void)state;
    produce(w, "seven");
    give_up(w, "billing");
    give_up(w, "shipping");
    uint32_t id = only_row(w)->id;
    mp_dls_settle(w->broker, id, MP_STR("billing"));
    mp_dls_settle(w->broker, id, MP_STR("shipping"));
    settle_down(w);
    assert_false(has_rows(w));
    restart(w);
    assert_false(has_rows(w));
    world_free(w);
}

/* "shipping" gives up, and its letter is on its way when this returns. */
static void begin_to_give_up(struct world *w)
{
    assert_int_equal(pull(w, "shipping"), 1);
    mp_stream_settle(group(w, "shipping"), 1, MP_STR("+TERM"), MP_STR(""));
    for (int i = 0; i < 20 && !only_row(w)->is_changing; i++)
        pass(w, 1);
    assert_true(only_row(w)->is_changing);
}

static void a_group_settles_while_another_one_gives_up(void **state)
{
    struct world *w = world_with("", true);

    (void)state;
    produce(w, "seven");
    give_up(w, "billing");
    begin_to_give_up(w);
    mp_dls_settle(w->broker, only_row(w)->id, MP_STR("billing"));
    settle_down(w);
    check_row(w, 1);
    assert_ptr_equal(mp_dls_group(only_row(w), 0), group(w, "shipping"));
    world_free(w);
}

static void a_group_that_is_gone_does_not_come_back_with_a_letter(void **state)
{
    (void)state;
    for (uint64_t ms = 0; ms < 8; ms++) {
        struct world *w = world_with("", true);
        struct said said;

        produce(w, "seven");
        give_up(w, "billing");
        assert_int_equal(pull(w, "shipping"), 1);
        mp_stream_settle(group(w, "shipping"), 1, MP_STR("+TERM"), MP_STR(""));
        pass(w, ms);
        mp_consumer_drop(station(w, "orders"), "billing", "c1", then_say(&said));
        settle_down(w);
        assert_int_equal(said.status, MEMPHIS_OK);
        check_row(w, 1);
        assert_ptr_equal(mp_dls_group(only_row(w), 0), group(w, "shipping"));
        world_free(w);
    }
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

static void leave_open(struct mp_log *log)
{
    (void)log;
}

/* Several letters, and a change that waits for one of them, when the disk is full. */
static void letters_that_the_log_lost_leave_their_sequences(void **state)
{
    struct world *w = world_with("", true);
    struct mp_log *log = w->broker->data_log;
    struct mp_log_ops open = *log->ops;

    (void)state;
    produce(w, "seven");
    give_up(w, "billing");
    give_up(w, "shipping");
    settle_down(w);
    uint32_t id = only_row(w)->id;
    uint64_t last = mp_log_last(log, 0);
    whole = log->ops;
    open.close_entry = leave_open;
    log->ops = &open;
    mp_dls_settle(w->broker, id, MP_STR("billing"));
    mp_dls_settle(w->broker, id, MP_STR("shipping")); /* after that */
    mp_dls_refused(station(w, "orders"), MP_STR(""), MP_STR("{}"), MP_STR("a"));
    turn(w);
    mp_shard_fail(mp_container_of(log, struct mp_shard, log), MEMPHIS_NO_SPACE);
    mp_dls_refused(station(w, "orders"), MP_STR(""), MP_STR("{}"), MP_STR("b"));
    log->ops = whole;
    settle_down(w);
    assert_int_equal(count_rows(w), 2); /* without shipping; the second refused one */
    assert_int_equal(mp_dls_find(w->broker, id)->gids_count, 1);
    assert_int_equal(mp_log_last(log, 0), last + 2);
    restart(w);
    assert_int_equal(count_rows(w), 2);
    assert_string_equal(read_letter(w, id).payload, "seven");
    world_free(w);
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
        leak_checked(two_groups_may_settle_in_one_breath),
        leak_checked(a_group_settles_while_another_one_gives_up),
        leak_checked(a_group_that_is_gone_does_not_come_back_with_a_letter),
        leak_checked(a_terminated_message_is_a_dead_letter_with_its_reason),
        leak_checked(a_late_ack_of_a_dying_message_counts),
        leak_checked(without_the_setting_a_message_just_leaves),
        leak_checked(a_row_goes_with_its_last_group),
        leak_checked(copies_go_to_the_station_that_wants_them),
        leak_checked(what_a_producer_refused_is_a_row_without_a_group),
        leak_checked(a_full_disk_delays_letters_and_not_acks),
        leak_checked(letters_that_the_log_lost_leave_their_sequences),
        leak_checked(many_die_at_once_in_order),
        leak_checked(a_rotten_letter_costs_itself),
        leak_checked(rows_outlive_the_log_that_made_them),
        leak_checked(a_crash_leaves_a_message_in_its_group_or_in_a_row),
    };

    return run_tests("broker/dls", tests);
}
