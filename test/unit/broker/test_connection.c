#include "world.h"

enum { MINUTE = 60, HOUR = 3600 };

struct lines {
    struct mp_logger logger;
    int count;
    char last[256];
};

static void take_line(void *ctx, int32_t level, const char *module, const char *text)
{
    struct lines *l = ctx;

    (void)level, (void)module;
    if (strstr(text, "had no connection") == NULL)
        return;
    l->count++;
    snprintf(l->last, sizeof(l->last), "%s", text);
}

static void read_lines(struct world *w, struct lines *l)
{
    memset(l, 0, sizeof(*l));
    mp_logger_init(&l->logger, MEMPHIS_LOG_INFO, take_line, l);
    w->broker->logger = &l->logger;
}

/* Long enough for some batches of a sweep. */
static void wait_seconds(struct world *w, uint64_t n)
{
    mp_disk_advance(w->disk, n * 1000000000);
    pass(w, 100);
    settle_down(w);
}

static void produce(struct world *w, const char *name, const char *connection)
{
    struct mp_producer_request r = { .name = name, .connection_id = connection };

    mp_producer_add(station(w, "orders"), &r, (struct mp_then){ 0 });
}

static void consume(struct world *w, const char *name, const char *connection)
{
    struct mp_consumer_request r = { .name = name, .group = "billing",
                                     .connection_id = connection,
                                     .ack_wait_ms = 30000, .deliveries_max = 2,
                                     .start_sequence = 1, .last_messages = -1 };

    mp_consumer_add(station(w, "orders"), &r, (struct mp_then){ 0 });
}

static int producers(struct world *w, const char *connection)
{
    struct mp_producer_row *row = NULL;
    int n = 0;

    while ((row = mp_meta_producer_of(w->broker->meta, connection, row)) != NULL)
        n++;
    return n;
}

static int consumers(struct world *w, const char *connection)
{
    struct mp_consumer_row *row = NULL;
    int n = 0;

    while ((row = mp_meta_consumer_of(w->broker->meta, connection, row)) != NULL)
        n++;
    return n;
}

static bool has_group(struct world *w)
{
    struct mp_stream *s = mp_station_stream(station(w, "orders"), 1);

    return mp_stream_group(s, MP_STR("billing")) != NULL;
}

/* A station; "a" and "b" are connected and have a producer and a consumer each. */
static struct world *world_of_two(void)
{
    struct world *w = world_new();

    make_station(w, "orders", 1);
    for (const char *const *id = (const char *const[]){ "a", "b", NULL }; *id; id++) {
        mp_connection_up(w->broker, *id);
        produce(w, "p", *id);
        consume(w, "c", *id);
    }
    settle_down(w);
    return w;
}

static void connections_are_counted(void **state)
{
    struct world *w = world_new();

    (void)state;
    mp_connection_up(w->broker, "x");
    mp_connection_up(w->broker, "x");
    mp_connection_down(w->broker, "x");
    assert_true(mp_connection_is_up(w->broker, "x"));
    mp_connection_down(w->broker, "x");
    assert_false(mp_connection_is_up(w->broker, "x"));
    assert_int_equal(w->broker->counters.connections, 0);
    expect_assert_failure(mp_connection_down(w->broker, "x"));
    assert_int_equal(w->broker->connections.count, 0); /* it had no rows */
    world_free(w);
}

static void CSM_25_rows_without_a_connection_end_and_groups_stay(void **state)
{
    struct world *w = world_of_two();
    struct lines l;

    (void)state;
    read_lines(w, &l);
    wait_seconds(w, 100 * HOUR);
    mp_connection_down(w->broker, "a");
    assert_false(mp_connection_is_up(w->broker, "a"));
    wait_seconds(w, 3 * HOUR - 10);
    assert_int_equal(producers(w, "a") + consumers(w, "a"), 2);
    wait_seconds(w, 10);
    assert_int_equal(producers(w, "a") + consumers(w, "a"), 0);
    assert_int_equal(producers(w, "b") + consumers(w, "b"), 2);
    assert_int_equal(w->broker->counters.idle_removed, 2);
    assert_int_equal(l.count, 1);
    assert_non_null(strstr(l.last, "for 3 hours: producers=1 consumers=1"));
    mp_connection_down(w->broker, "b");
    wait_seconds(w, 3 * HOUR);
    assert_int_equal(producers(w, "b") + consumers(w, "b"), 0);
    assert_true(has_group(w)); /* CSM-18: although its last member was collected */
    restart(w);
    assert_int_equal(producers(w, "a") + producers(w, "b"), 0);
    assert_true(has_group(w));
    mp_logger_fini(&l.logger);
    world_free(w);
}

static void a_connection_that_comes_back_keeps_its_rows(void **state)
{
    struct world *w = world_of_two();

    (void)state;
    mp_connection_down(w->broker, "a");
    wait_seconds(w, 3 * HOUR - 10);
    mp_connection_up(w->broker, "a");
    assert_true(mp_connection_is_up(w->broker, "a"));
    wait_seconds(w, 100 * HOUR);
    assert_int_equal(producers(w, "a") + consumers(w, "a"), 2);
    mp_connection_down(w->broker, "a"); /* from now on, not from the first time */
    wait_seconds(w, 3 * HOUR - 10);
    assert_int_equal(producers(w, "a") + consumers(w, "a"), 2);
    wait_seconds(w, 10);
    assert_int_equal(producers(w, "a") + consumers(w, "a"), 0);
    mp_connection_down(w->broker, "b");
    world_free(w);
}

static void after_a_start_rows_are_idle_until_their_connection_comes(void **state)
{
    struct world *w = world_of_two();

    (void)state;
    mp_connection_down(w->broker, "a");
    wait_seconds(w, 2 * HOUR);
    restart(w); /* which counts as an end of both */
    mp_connection_up(w->broker, "b");
    wait_seconds(w, 3 * HOUR - 10);
    assert_int_equal(producers(w, "a") + consumers(w, "a"), 2);
    wait_seconds(w, 10);
    assert_int_equal(producers(w, "a") + consumers(w, "a"), 0);
    assert_int_equal(producers(w, "b") + consumers(w, "b"), 2);
    stop(w);
    mp_disk_advance(w->disk, 100ull * HOUR * 1000000000);
    start(w); /* while it was down, nobody could come back */
    pass(w, 100);
    assert_int_equal(producers(w, "b") + consumers(w, "b"), 2);
    wait_seconds(w, 3 * HOUR);
    assert_int_equal(producers(w, "b") + consumers(w, "b"), 0);
    world_free(w);
}

/* All that there is of zombies: a request may name whatever id it likes. */
static void CSM_26_a_row_of_an_id_that_never_connected_is_idle(void **state)
{
    struct world *w = world_of_two();

    (void)state;
    produce(w, "p", "nobody");
    settle_down(w);
    wait_seconds(w, HOUR);
    mp_connection_down(w->broker, "a");
    wait_seconds(w, HOUR);
    consume(w, "c", "nobody"); /* a sign of life: "a" is the oldest now */
    settle_down(w);
    wait_seconds(w, 2 * HOUR);
    assert_int_equal(producers(w, "a"), 0);
    wait_seconds(w, HOUR - 10);
    assert_int_equal(producers(w, "nobody") + consumers(w, "nobody"), 2);
    wait_seconds(w, 10);
    assert_int_equal(producers(w, "nobody") + consumers(w, "nobody"), 0);
    assert_int_equal(w->broker->connections.count, 1); /* and it is forgotten */
    mp_connection_down(w->broker, "b");
    world_free(w);
}

static void a_row_that_comes_after_its_connection_has_ended_is_idle(void **state)
{
    struct world *w = world_of_two();

    (void)state;
    mp_connection_up(w->broker, "x");
    produce(w, "p", "x");
    mp_connection_down(w->broker, "x"); /* before it is committed */
    settle_down(w);
    assert_int_equal(producers(w, "x"), 1);
    wait_seconds(w, 3 * HOUR);
    assert_int_equal(producers(w, "x"), 0);
    mp_connection_down(w->broker, "a");
    mp_connection_down(w->broker, "b");
    world_free(w);
}

static void sweeps_are_a_quarter_of_an_hour_apart(void **state)
{
    struct world *w = world_of_two();
    struct lines l;
    char id[16];

    (void)state;
    read_lines(w, &l);
    for (int i = 0; i < 20; i++) { /* one a minute */
        snprintf(id, sizeof(id), "x%d", i);
        produce(w, "p", id);
        settle_down(w);
        wait_seconds(w, MINUTE);
    }
    wait_seconds(w, 2 * HOUR + 39 * MINUTE);
    assert_int_equal(l.count, 0);
    wait_seconds(w, MINUTE);
    assert_int_equal(l.count, 1);
    assert_non_null(strstr(l.last, "producers=1 consumers=0"));
    for (int i = 0; i < 15; i++)
        wait_seconds(w, MINUTE - 1);
    assert_int_equal(l.count, 1);
    wait_seconds(w, MINUTE);
    assert_int_equal(l.count, 2);
    assert_int_equal(w->broker->counters.idle_removed, 16);
    mp_connection_up(w->broker, "x19"); /* the next one looks, and says nothing */
    wait_seconds(w, 15 * MINUTE);
    assert_int_equal(l.count, 3);
    assert_int_equal(w->broker->counters.idle_removed, 19);
    assert_int_equal(producers(w, "x19"), 1);
    mp_logger_fini(&l.logger);
    world_free(w);
}

/* Rows of one id, and as many ids with one row: at most 256 in a turn. */
static void a_sweep_of_many_rows_takes_many_turns(void **state)
{
    struct world *w = world_of_two();
    struct lines l;
    char text[16];
    uint64_t before, most = 0;

    (void)state;
    for (int i = 0; i < 2000; i++) {
        snprintf(text, sizeof(text), "x%d", i);
        produce(w, text, "many");
        consume(w, "c", text);
        if (i % 100 == 0)
            settle_down(w);
    }
    settle_down(w);
    read_lines(w, &l);
    mp_disk_advance(w->disk, (3ull * HOUR + 5) * 1000000000);
    for (int i = 0; i < 300 && l.count == 0; i++) {
        before = w->broker->counters.idle_removed;
        if (i == 100)
            mp_connection_up(w->broker, "x1999"); /* comes while it is swept */
        pass(w, 1);
        if (w->broker->counters.idle_removed - before > most)
            most = w->broker->counters.idle_removed - before;
    }
    assert_int_equal(most, 256);
    assert_int_equal(l.count, 1);
    assert_non_null(strstr(l.last, "producers=2000 consumers=1999"));
    assert_int_equal(w->broker->connections.count, 3);
    assert_int_equal(consumers(w, "x1999"), 1);
    assert_int_equal(producers(w, "a") + consumers(w, "a"), 2);
    mp_logger_fini(&l.logger);
    restart(w);
    assert_int_equal(producers(w, "many"), 0);
    world_free(w);
}

/* A battery's broker has no timer for nothing. */
static void an_id_whose_rows_were_dropped_is_forgotten(void **state)
{
    struct world *w = world_of_two();
    struct said said;

    (void)state;
    mp_connection_down(w->broker, "a");
    assert_true(mp_timer_is_set(&w->broker->idle.timer));
    mp_producer_drop(station(w, "orders"), "p", "a", then_say(&said));
    settle_down(w);
    assert_true(mp_timer_is_set(&w->broker->idle.timer));
    mp_consumer_forget(station(w, "orders"), "c", "a", then_say(&said));
    settle_down(w);
    assert_false(mp_timer_is_set(&w->broker->idle.timer));
    assert_int_equal(w->broker->connections.count, 1);
    mp_connection_down(w->broker, "b");
    mp_connection_up(w->broker, "b");
    assert_false(mp_timer_is_set(&w->broker->idle.timer));
    mp_station_drop(w->broker, station(w, "orders"), "root", then_say(&said));
    settle_down(w);
    assert_int_equal(said.status, MEMPHIS_OK);
    mp_connection_down(w->broker, "b");
    assert_int_equal(w->broker->connections.count, 0);
    world_free(w);
}

static void a_client_may_drop_what_is_swept(void **state)
{
    struct world *w = world_of_two();
    struct said said;

    (void)state;
    mp_connection_down(w->broker, "a");
    mp_disk_advance(w->disk, (3ull * HOUR + 1) * 1000000000);
    mp_producer_drop(station(w, "orders"), "p", "a", then_say(&said));
    turn(w); /* and the sweep's command is behind it */
    settle_down(w);
    assert_int_equal(said.status, MEMPHIS_OK);
    pass(w, 30);
    assert_int_equal(producers(w, "a") + consumers(w, "a"), 0);
    assert_int_equal(w->broker->counters.idle_removed, 1);
    assert_int_equal(w->broker->connections.count, 1);
    mp_connection_down(w->broker, "b");
    world_free(w);
}

static void a_connection_that_comes_while_its_rows_go_has_them_again(void **state)
{
    struct world *w = world_of_two();
    uint64_t created = mp_meta_consumer_of(w->broker->meta, "a", NULL)->created_ns;

    (void)state;
    mp_connection_down(w->broker, "a");
    mp_disk_advance(w->disk, (3ull * HOUR + 1) * 1000000000);
    turn(w); /* the commands are on their way */
    assert_int_equal(producers(w, "a") + consumers(w, "a"), 2);
    mp_connection_up(w->broker, "a");
    settle_down(w);
    pass(w, 100);
    assert_int_equal(w->broker->counters.idle_removed, 0);
    assert_int_equal(producers(w, "a"), 1);
    assert_int_equal(consumers(w, "a"), 1);
    struct mp_consumer_row *row = mp_meta_consumer_of(w->broker->meta, "a", NULL);
    assert_string_equal(row->group, "billing");
    assert_int_equal(row->created_ns, created);
    restart(w);
    assert_int_equal(producers(w, "a") + consumers(w, "a"), 2);
    world_free(w);
}

static memphis_status append_fails(struct mp_log *log, const struct mp_entry *entries,
                                   size_t n, uint64_t tag)
{
    (void)log, (void)entries, (void)n, (void)tag;
    return MEMPHIS_NO_SPACE;
}

static void a_full_disk_leaves_it_to_the_next_sweep(void **state)
{
    struct world *w = world_of_two();
    struct mp_log *log = w->broker->meta_log;
    const struct mp_log_ops *whole = log->ops;
    struct mp_log_ops full = *whole;

    (void)state;
    full.append = append_fails;
    log->ops = &full;
    mp_connection_down(w->broker, "a");
    mp_disk_advance(w->disk, (3ull * HOUR + 1) * 1000000000);
    pass(w, 100);
    assert_int_equal(producers(w, "a") + consumers(w, "a"), 2);
    log->ops = whole;
    wait_seconds(w, 14 * MINUTE);
    assert_int_equal(producers(w, "a") + consumers(w, "a"), 2);
    wait_seconds(w, MINUTE);
    assert_int_equal(producers(w, "a") + consumers(w, "a"), 0);
    mp_connection_down(w->broker, "b");
    world_free(w);
}

static void how_long_can_be_set_and_holds_at_once(void **state)
{
    struct world *w = world_of_two();
    memphis_error err;

    (void)state;
    assert_int_equal(mp_connections_keep(w->broker, 169, &err), MEMPHIS_INVALID);
    assert_non_null(strstr(err.message, "1 to 168 hours"));
    assert_int_equal(mp_connections_keep(w->broker, 168, &err), MEMPHIS_OK);
    mp_connection_down(w->broker, "a");
    wait_seconds(w, 167 * HOUR);
    assert_int_equal(producers(w, "a"), 1);
    mp_connection_down(w->broker, "b");
    assert_int_equal(mp_connections_keep(w->broker, 1, &err), MEMPHIS_OK);
    wait_seconds(w, 1);
    assert_int_equal(producers(w, "a"), 0);
    assert_int_equal(producers(w, "b"), 1);
    wait_seconds(w, HOUR);
    assert_int_equal(producers(w, "b"), 0);
    world_free(w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        leak_checked(connections_are_counted),
        leak_checked(CSM_25_rows_without_a_connection_end_and_groups_stay),
        leak_checked(a_connection_that_comes_back_keeps_its_rows),
        leak_checked(after_a_start_rows_are_idle_until_their_connection_comes),
        leak_checked(CSM_26_a_row_of_an_id_that_never_connected_is_idle),
        leak_checked(a_row_that_comes_after_its_connection_has_ended_is_idle),
        leak_checked(sweeps_are_a_quarter_of_an_hour_apart),
        leak_checked(a_sweep_of_many_rows_takes_many_turns),
        leak_checked(an_id_whose_rows_were_dropped_is_forgotten),
        leak_checked(a_client_may_drop_what_is_swept),
        leak_checked(a_connection_that_comes_while_its_rows_go_has_them_again),
        leak_checked(a_full_disk_leaves_it_to_the_next_sweep),
        leak_checked(how_long_can_be_set_and_holds_at_once),
    };

    return run_tests("broker/connection", tests);
}
