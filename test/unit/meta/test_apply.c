#include "unit/meta/model.h"

static void a_station_is_created_once(void **state)
{
    struct world *w = world_new("");
    struct mp_command c = station_of(w->meta, "orders.eu");
    struct mp_command again = station_of(w->meta, "orders.eu");

    (void)state;
    assert_int_equal(world_do(w, &c), MEMPHIS_OK);
    struct mp_station_row *row = w->row;
    again.u.station.settings.replicas = 5;
    assert_int_equal(world_do(w, &again), MEMPHIS_EXISTS);

    assert_ptr_equal(w->row, row);
    assert_int_equal(row->settings.replicas, 1);
    assert_int_equal(row->created_ns, 1000);
    assert_string_equal(row->created_by, "root");
    assert_ptr_equal(mp_meta_station(w->meta, MP_STR("orders.eu")), row);
    assert_ptr_equal(mp_meta_station_by_id(w->meta, row->id), row);
    assert_null(mp_meta_station(w->meta, MP_STR("orders")));
    assert_null(mp_meta_station_by_id(w->meta, again.u.station.id));
    world_free(w);
}

static void a_dropped_station_takes_its_members_along(void **state)
{
    struct world *w = world_new("");
    struct mp_command s = station_of(w->meta, "s"), drop = station_drop_of("s");

    (void)state;
    world_do(w, &s);
    uint32_t id = s.u.station.id;
    struct mp_command p = producer_of(w->meta, id, "p", "c1");
    struct mp_command c = consumer_of(w->meta, id, "c", "c1");
    assert_int_equal(world_do(w, &p), MEMPHIS_OK);
    assert_int_equal(world_do(w, &c), MEMPHIS_OK);

    assert_int_equal(world_do(w, &drop), MEMPHIS_OK);
    assert_null(mp_meta_station(w->meta, MP_STR("s")));
    assert_null(mp_meta_producer_next(w->meta, id, NULL));
    assert_null(mp_meta_consumer_next(w->meta, id, NULL));
    assert_int_equal(world_do(w, &p), MEMPHIS_NOT_FOUND);
    assert_int_equal(world_do(w, &c), MEMPHIS_NOT_FOUND);
    assert_int_equal(world_do(w, &drop), MEMPHIS_NOT_FOUND);
    world_turn(w);
    assert_int_equal(w->broken_count, 0);
    world_free(w);
}

static void look_at_removed_row(struct world *w, const struct mp_command *c)
{
    if (c->kind != MP_COMMAND_STATION_DROP)
        return;
    struct mp_station_row *row = w->row;
    assert_string_equal(row->name, "s");
    assert_int_equal(row->settings.partitions, 3);
    assert_null(mp_meta_station(w->meta, MP_STR("s")));
}

static void a_removed_row_is_valid_during_the_callback(void **state)
{
    struct world *w = world_new("");
    struct mp_command s = station_of(w->meta, "s"), drop = station_drop_of("s");

    (void)state;
    world_do(w, &s);
    w->also = look_at_removed_row;
    assert_int_equal(world_do(w, &drop), MEMPHIS_OK);
    world_free(w);
}

static void of_equal_members_the_oldest_is_dropped(void **state)
{
    struct world *w = world_new("");
    struct mp_command s = station_of(w->meta, "s");
    struct mp_producer_row *row;

    (void)state;
    world_do(w, &s);
    uint32_t id = s.u.station.id;
    struct mp_command first = producer_of(w->meta, id, "p", "c1");
    struct mp_command second = producer_of(w->meta, id, "p", "c1");
    struct mp_command other = producer_of(w->meta, id, "p", "c2");
    world_do(w, &other);
    world_do(w, &second);
    world_do(w, &first);

    struct mp_command drop = member_drop_of(MP_COMMAND_PRODUCER_DROP, id, "p", "c1");
    assert_int_equal(world_do(w, &drop), MEMPHIS_OK);
    row = mp_meta_producer_next(w->meta, id, NULL);
    assert_int_equal(row->id, second.u.producer.id);
    row = mp_meta_producer_next(w->meta, id, row);
    assert_int_equal(row->id, other.u.producer.id);
    assert_null(mp_meta_producer_next(w->meta, id, row));

    assert_int_equal(world_do(w, &drop), MEMPHIS_OK);
    assert_int_equal(world_do(w, &drop), MEMPHIS_NOT_FOUND);
    world_free(w);
}

static void rows_are_found_by_their_connection(void **state)
{
    struct world *w = world_new("");
    struct mp_command s = station_of(w->meta, "s"), t = station_of(w->meta, "t");
    struct mp_command drop = station_drop_of("s");
    uint32_t at = 0;

    (void)state;
    world_do(w, &s);
    world_do(w, &t);
    struct mp_command p = producer_of(w->meta, s.u.station.id, "p", "c1");
    struct mp_command q = producer_of(w->meta, t.u.station.id, "p", "c1");
    struct mp_command c = consumer_of(w->meta, s.u.station.id, "c", "c2");
    world_do(w, &p);
    world_do(w, &q);
    world_do(w, &c);
    assert_connections(w->meta);
    assert_int_equal(mp_meta_producer_of(w->meta, "c1", NULL)->id, p.u.producer.id);
    assert_int_equal(mp_meta_consumer_of(w->meta, "c2", NULL)->id, c.u.consumer.id);
    assert_null(mp_meta_consumer_of(w->meta, "c1", NULL));
    assert_null(mp_meta_producer_of(w->meta, "c3", NULL));

    world_do(w, &drop);
    assert_int_equal(mp_meta_producer_of(w->meta, "c1", NULL)->id, q.u.producer.id);
    assert_string_equal(mp_meta_connection_next(w->meta, &at), "c1");
    assert_null(mp_meta_connection_next(w->meta, &at));
    world_free(w);
}

static void a_user_is_replaced(void **state)
{
    struct world *w = world_new("");
    struct mp_command a = user_of("bob", "one"), b = user_of("bob", "two");
    struct mp_command drop = user_drop_of("bob");

    (void)state;
    assert_int_equal(world_do(w, &a), MEMPHIS_OK);
    assert_int_equal(world_do(w, &b), MEMPHIS_OK);
    assert_string_equal(mp_meta_user(w->meta, MP_STR("bob"))->hash, "two");
    assert_int_equal(world_do(w, &drop), MEMPHIS_OK);
    assert_null(mp_meta_user(w->meta, MP_STR("bob")));
    assert_int_equal(world_do(w, &drop), MEMPHIS_NOT_FOUND);
    world_free(w);
}

static void ids_are_never_handed_out_twice(void **state)
{
    struct world *w = world_new("");

    (void)state;
    assert_int_equal(mp_meta_next_station_id(w->meta), 1);
    assert_int_equal(mp_meta_next_station_id(w->meta), 2);
    assert_int_equal(mp_meta_take_pids(w->meta, 3), 1);
    assert_int_equal(mp_meta_take_pids(w->meta, 1), 4);
    assert_int_equal(mp_meta_next_row_id(w->meta), 1);

    /* Somebody else's command was in the log. */
    struct mp_command c = station_of(w->meta, "s");
    c.u.station.id = 40;
    c.u.station.first_pid = 100;
    world_do(w, &c);
    assert_int_equal(mp_meta_next_station_id(w->meta), 41);
    assert_int_equal(mp_meta_take_pids(w->meta, 2), 103);
    assert_int_equal(mp_meta_take_pids(w->meta, 1), 105);
    world_free(w);
}

static void nothing_happens_before_the_commit(void **state)
{
    struct world *w = world_new("");
    struct mp_command c = station_of(w->meta, "s");

    (void)state;
    assert_int_equal(mp_meta_propose(w->meta, &c, 5), MEMPHIS_OK);
    assert_null(mp_meta_station(w->meta, MP_STR("s")));
    assert_int_equal(w->applied_count, 0);
    world_commit(w);
    assert_int_equal(w->tag, 5);
    assert_non_null(mp_meta_station(w->meta, MP_STR("s")));
    world_free(w);
}

static void a_command_that_failed_is_told(void **state)
{
    struct world *w = world_new("");
    struct mp_command c = station_of(w->meta, "s");

    (void)state;
    w->append_status = MEMPHIS_BROKEN;
    assert_int_equal(mp_meta_propose(w->meta, &c, 5), MEMPHIS_BROKEN);
    w->log.sink.failed(w->log.sink.ctx, 6, MEMPHIS_NO_SPACE);
    assert_int_equal(w->failed_tag, 6);
    assert_int_equal(w->result, MEMPHIS_NO_SPACE);
    world_free(w);
}

static void a_faulty_command_is_not_proposed(void **state)
{
    struct world *w = world_new("");
    struct mp_command c = producer_of(w->meta, 1, "p", "c");

    (void)state;
    c.u.producer.type = 7;
    assert_int_equal(mp_meta_propose(w->meta, &c, 1), MEMPHIS_INVALID);
    c = user_of("", "hash");
    assert_int_equal(mp_meta_propose(w->meta, &c, 1), MEMPHIS_INVALID);
    c.kind = 99;
    assert_int_equal(mp_meta_propose(w->meta, &c, 1), MEMPHIS_INVALID);
    assert_int_equal(w->count, 0);
    world_free(w);
}

static void a_command_that_nobody_can_read_stops_the_broker(void **state)
{
    struct world *w = world_new("");
    struct mp_command c = user_of("bob", "x");

    (void)state;
    world_add(w, MP_STR("\x63\0\1\0"), 0);
    world_commit(w);
    assert_int_equal(w->broken_count, 1);
    assert_int_equal(w->broken.status, MEMPHIS_UNSUPPORTED);
    assert_non_null(strstr(w->broken.message, "newer version"));
    assert_int_equal(mp_meta_propose(w->meta, &c, 1), MEMPHIS_BROKEN);

    world_add(w, MP_STR("\x63\0\1\0"), 0);
    world_commit(w);
    assert_int_equal(w->broken_count, 1);
    world_free(w);
}

static void a_station_id_used_twice_stops_the_broker(void **state)
{
    struct world *w = world_new("");
    struct mp_command a = station_of(w->meta, "a"), b = station_of(w->meta, "b");

    (void)state;
    world_do(w, &a);
    b.u.station.id = a.u.station.id;
    assert_int_equal(mp_meta_propose(w->meta, &b, 7), MEMPHIS_OK);
    world_commit(w);
    assert_int_equal(w->broken_count, 1);
    assert_int_equal(w->broken.status, MEMPHIS_INTERNAL);
    assert_null(mp_meta_station(w->meta, MP_STR("b")));
    world_free(w);
}

/* Answers a new station by a producer in it. */
static void add_producer(struct world *w, const struct mp_command *c)
{
    if (c->kind != MP_COMMAND_STATION_CREATE)
        return;
    struct mp_command p = producer_of(w->meta, c->u.station.id, "p", "c");
    assert_int_equal(mp_meta_propose(w->meta, &p, 0), MEMPHIS_OK);
}

static void a_callback_may_propose_on_a_log_that_commits_at_once(void **state)
{
    struct world *w = world_new("");
    struct mp_command s = station_of(w->meta, "s"), drop = station_drop_of("s");

    (void)state;
    w->also = add_producer;
    w->commits_at_once = true;
    assert_int_equal(mp_meta_propose(w->meta, &s, 1), MEMPHIS_OK);
    assert_int_equal(w->applied_count, 2);
    assert_non_null(mp_meta_producer_next(w->meta, s.u.station.id, NULL));
    world_turn(w);
    assert_int_equal(mp_meta_propose(w->meta, &drop, 2), MEMPHIS_OK);
    world_turn(w);
    assert_int_equal(w->broken_count, 0);
    world_free(w);
}

static void entries_of_other_types_only_move_the_index(void **state)
{
    struct world *w = world_new("");
    struct mp_entry e = { .type = MP_ENTRY_CLOCK, .payload = MP_STR("0123456789") };

    (void)state;
    w->log.sink.apply(w->log.sink.ctx, 12, 0, &e, 1, 0);
    assert_int_equal(mp_meta_applied_index(w->meta), 12);
    assert_int_equal(w->applied_count, 0);
    world_free(w);
}

static void the_log_gets_its_answers(void **state)
{
    struct world *w = world_new("");
    struct mp_log_sink *s = &w->log.sink;
    struct mp_buf out = { 0 };

    (void)state;
    s->state(s->ctx, 0, &out);
    assert_int_equal(out.size, 0);
    assert_int_equal(s->restore(s->ctx, 0, 3, mp_buf_slice(&out), NULL), MEMPHIS_OK);
    s->ready(s->ctx, 1);
    world_free(w);
}

static void random_commands_agree_with_the_model(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 20; seed++) {
        struct world *w = world_new("");
        struct model *o = mp_alloc(sizeof *o);

        o->random = seed * 0x9e3779b97f4a7c15;
        for (int i = 0; i < 300; i++) {
            model_step(o, w);
            if (i % 7 == 0)
                world_turn(w);
            model_assert_equal(o, w->meta);
        }
        assert_int_equal(w->broken_count, 0);
        mp_free(o);
        world_free(w);
    }
}

static void a_replay_gives_the_same_catalogue(void **state)
{
    struct world *w = world_new("");
    struct model *o = mp_alloc(sizeof *o);

    (void)state;
    o->random = 42;
    for (int i = 0; i < 1000; i++)
        model_step(o, w);
    uint32_t applied = w->applied_count;
    world_stop(w);

    /* In memory nothing was kept: the index is 0 and the log brings everything. */
    world_start(w);
    assert_int_equal(mp_meta_applied_index(w->meta), 0);
    w->applied_count = 0;
    w->tag = 99;
    world_replay(w, 0);
    assert_int_equal(w->applied_count, applied);
    assert_int_equal(w->tag, 0);
    model_assert_equal(o, w->meta);
    assert_true(mp_meta_next_station_id(w->meta) > o->last_station_id);
    assert_true(mp_meta_take_pids(w->meta, 1) > o->last_pid);
    assert_true(mp_meta_next_row_id(w->meta) > o->last_row_id);
    mp_free(o);
    world_free(w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        leak_checked(a_station_is_created_once),
        leak_checked(a_dropped_station_takes_its_members_along),
        leak_checked(a_removed_row_is_valid_during_the_callback),
        leak_checked(of_equal_members_the_oldest_is_dropped),
        leak_checked(rows_are_found_by_their_connection),
        leak_checked(a_user_is_replaced),
        leak_checked(ids_are_never_handed_out_twice),
        leak_checked(nothing_happens_before_the_commit),
        leak_checked(a_command_that_failed_is_told),
        leak_checked(a_faulty_command_is_not_proposed),
        leak_checked(a_command_that_nobody_can_read_stops_the_broker),
        leak_checked(a_station_id_used_twice_stops_the_broker),
        leak_checked(a_callback_may_propose_on_a_log_that_commits_at_once),
        leak_checked(entries_of_other_types_only_move_the_index),
        leak_checked(the_log_gets_its_answers),
        leak_checked(random_commands_agree_with_the_model),
        leak_checked(a_replay_gives_the_same_catalogue),
    };

    return run_tests("meta/apply", tests);
}
