#include "world.h"

/* === Streams of NATS clients === */

static struct mp_nats_config *nats_config(const char *text)
{
    struct mp_nats_config *c;

    assert_int_equal(mp_nats_config_parse(mp_slice_text(text), &c, NULL), MEMPHIS_OK);
    return c;
}

static struct mp_station *make_stream(struct world *w, const char *name,
                                      const struct mp_nats_config *c)
{
    struct mp_station_settings s;
    struct said said;

    mp_station_settings_nats(c, &s);
    mp_station_create(w->broker, name, &s, "root", then_say(&said));
    settle_down(w);
    assert_int_equal(said.status, MEMPHIS_OK);
    return station(w, name);
}

static void CON_14_a_stream_of_a_nats_client_survives_a_start(void **state)
{
    struct mp_nats_config *file = nats_config(
        "{\"name\":\"KV_a\",\"subjects\":[\"a.>\"],\"max_msgs_per_subject\":1}");
    struct mp_nats_config *memory =
        nats_config("{\"name\":\"M\",\"storage\":\"memory\"}");
    struct world *w = world_new();
    struct mp_stream *s;

    (void)state;
    make_stream(w, "kv_a", file);
    make_stream(w, "m", memory);
    for (int i = 0; i < 3; i++)
        publish(w, "a.x", "m");
    publish(w, "M", "m");
    settle_down(w);
    restart(w);
    settle_down(w);
    s = mp_broker_stream(w->broker, MP_STR("KV_a"));
    assert_non_null(s);
    assert_string_equal(s->settings.nats, file->text);
    assert_false(mp_log_has(s->log, s->pid, 2));
    assert_true(mp_log_has(s->log, s->pid, 3));
    publish(w, "a.x", "m");
    settle_down(w);
    assert_false(mp_log_has(s->log, s->pid, 3)); /* the index was made again */
    s = mp_broker_stream(w->broker, MP_STR("M"));
    assert_string_equal(s->settings.nats, memory->text);
    assert_int_equal(mp_log_last(s->log, s->pid), 0);
    mp_nats_config_free(file);
    mp_nats_config_free(memory);
    world_free(w);
}

/* The crash came between the metadata and the partition. */
static void a_change_half_done_is_finished_by_the_next_start(void **state)
{
    struct mp_nats_config *before =
        nats_config("{\"name\":\"S\",\"subjects\":[\"a.>\"]}");
    struct mp_nats_config *after = nats_config(
        "{\"name\":\"S\",\"subjects\":[\"a.>\"],\"max_msgs_per_subject\":1}");
    struct world *w = world_new();
    struct mp_station *st = make_stream(w, "s", before);
    struct mp_command c = { .kind = MP_COMMAND_STATION_CHANGE, .time_ns = 1 };
    struct mp_stream *s;
    struct said said;

    (void)state;
    for (int i = 0; i < 3; i++)
        publish(w, "a.x", "m");
    settle_down(w);
    c.u.station = *mp_meta_station_by_id(w->broker->meta, st->id);
    mp_station_settings_nats(after, &c.u.station.settings);
    assert_int_equal(mp_meta_propose(w->broker->meta, &c, 1), MEMPHIS_OK);
    settle_down(w);
    restart(w);
    settle_down(w);
    s = mp_broker_stream(w->broker, MP_STR("S"));
    assert_string_equal(s->settings.nats, after->text);
    assert_false(mp_log_has(s->log, s->pid, 2));
    restart(w); /* and now the log says it */
    s = mp_broker_stream(w->broker, MP_STR("S"));
    assert_string_equal(s->settings.nats, after->text);
    mp_station_change(station(w, "s"), &station(w, "s")->settings, then_say(&said));
    settle_down(w);
    assert_int_equal(said.status, MEMPHIS_OK);
    mp_nats_config_free(before);
    mp_nats_config_free(after);
    world_free(w);
}

/* === Settings === */

static void expect_invalid(struct mp_station_settings s, memphis_status st,
                           const char *text)
{
    memphis_error err;

    assert_int_equal(mp_station_settings_check(&s, "orders", &err), st);
    assert_string_equal(err.message, text);
}

static void STA_15_one_to_ten_thousand_partitions(void **state)
{
    struct mp_station_settings s = settings(10000);

    (void)state;
    assert_int_equal(mp_station_settings_check(&s, "orders", NULL), MEMPHIS_OK);
    expect_invalid(settings(0), MEMPHIS_INVALID,
                   "cannot create station with 0 partitions (max:10000 min:1): "
                   "Station -  orders, ");
    expect_invalid(settings(10001), MEMPHIS_INVALID,
                   "cannot create station with 10001 partitions (max:10000 min:1): "
                   "Station -  orders, ");
}

static void STA_21_the_window_has_100_ms_to_24_h_and_ends_with_the_retention(
    void **state)
{
    static const struct {
        uint64_t asked, got;
    } windows[] = { { 0, 120000 }, { 1, 100 }, { 99, 100 }, { 100, 100 },
                    { 3600000, 3600000 } };
    struct mp_station_settings s;

    (void)state;
    for (size_t i = 0; i < sizeof(windows) / sizeof(windows[0]); i++) {
        s = settings(1);
        s.idempotency_ms = windows[i].asked;
        assert_int_equal(mp_station_settings_check(&s, "o", NULL), MEMPHIS_OK);
        assert_int_equal(s.idempotency_ms, windows[i].got);
    }
    s.idempotency_ms = 3600001;
    expect_invalid(s, MEMPHIS_INVALID,
                   "idempotency window cannot be greater than the station retention");
    s.idempotency_ms = 86400001;
    expect_invalid(s, MEMPHIS_INVALID, "idempotency window can not exceed 24 hours");
    s.retention = MP_RETAIN_MESSAGES;
    s.idempotency_ms = 86400000;
    assert_int_equal(mp_station_settings_check(&s, "o", NULL), MEMPHIS_OK);
    s = settings(1);
    s.retention_value = 1; /* the default window gives way to a short retention */
    assert_int_equal(mp_station_settings_check(&s, "o", NULL), MEMPHIS_OK);
    assert_int_equal(s.idempotency_ms, 1000);
}

static void a_retention_without_a_value_is_an_hour(void **state)
{
    struct mp_station_settings s = settings(1);

    (void)state;
    s.retention = MP_RETAIN_BYTES;
    s.retention_value = 0;
    assert_int_equal(mp_station_settings_check(&s, "o", NULL), MEMPHIS_OK);
    assert_int_equal(s.retention, MP_RETAIN_AGE);
    assert_int_equal(s.retention_value, 3600);
    s.retention = MP_RETAIN_ACKED;
    s.retention_value = 0;
    assert_int_equal(mp_station_settings_check(&s, "o", NULL), MEMPHIS_OK);
    assert_int_equal(s.retention, MP_RETAIN_ACKED);
    s.replicas = 2;
    expect_invalid(s, MEMPHIS_UNSUPPORTED,
                   "station can not be created, probably since replicas count is "
                   "larger than the cluster size");
}

/* === Life === */

static void STA_01_a_station_is_answered_when_its_partitions_are_open(void **state)
{
    struct world *w = world_new();
    struct mp_station_settings s = settings(3);
    struct said said;

    (void)state;
    mp_station_create(w->broker, "orders.eu", &s, "root", then_say(&said));
    turn(w);
    assert_int_equal(said.count, 0);
    settle_down(w);

    assert_int_equal(said.status, MEMPHIS_OK);
    assert_ptr_equal(station(w, "Orders.EU"), station(w, "orders#eu"));
    assert_true(mp_station_is_ready(station(w, "orders.eu")));
    assert_null(mp_station_stream(station(w, "orders.eu"), 0));
    assert_null(mp_station_stream(station(w, "orders.eu"), 4));
    assert_non_null(mp_broker_stream(w->broker, MP_STR("orders#eu$3")));
    assert_null(mp_broker_stream(w->broker, MP_STR("orders#eu$4")));
    assert_null(mp_broker_stream(w->broker, MP_STR("Orders#eu$1")));
    assert_null(mp_broker_stream(w->broker, MP_STR("orders#eu$")));
    assert_null(mp_broker_stream(w->broker, MP_STR("$1")));
    world_free(w);
}

static void racing_creations_all_succeed_and_make_one_station(void **state)
{
    struct world *w = world_new();
    struct mp_station_settings s = settings(2), other = settings(5);
    struct said a, b, c, late;

    (void)state;
    mp_station_create(w->broker, "orders", &s, "root", then_say(&a));
    mp_station_create(w->broker, "orders", &other, "root", then_say(&b));
    mp_station_ensure(w->broker, "orders", true, "root", then_say(&c));
    settle_down(w);
    assert_int_equal(a.status, MEMPHIS_OK);
    assert_int_equal(b.status, MEMPHIS_EXISTS);
    assert_int_equal(c.status, MEMPHIS_OK);
    mp_station_create(w->broker, "orders", &other, "root", then_say(&late));

    assert_int_equal(late.status, MEMPHIS_EXISTS);
    assert_int_equal(station(w, "orders")->settings.partitions, 2);
    assert_int_equal(w->broker->counters.stations, 1);
    world_free(w);
}

static void STA_02_ensure_makes_a_default_station_or_says_that_there_is_none(
    void **state)
{
    struct world *w = world_new();
    struct said said;

    (void)state;
    mp_station_ensure(w->broker, "orders#eu", false, "root", then_say(&said));
    assert_int_equal(said.status, MEMPHIS_NOT_FOUND);
    mp_station_ensure(w->broker, "orders#eu", true, "root", then_say(&said));
    settle_down(w);
    assert_int_equal(said.status, MEMPHIS_OK);
    assert_string_equal(station(w, "orders.eu")->name, "orders.eu");
    assert_int_equal(station(w, "orders.eu")->settings.retention_value, 3600);
    world_free(w);
}

static void STA_11_a_file_station_outlives_a_start_STA_12_a_memory_one_empties(
    void **state)
{
    struct world *w = world_new();
    struct mp_station_settings s = settings(1);
    struct said said;

    (void)state;
    make_station(w, "file", 2);
    s.storage = MP_STORAGE_MEMORY;
    mp_station_create(w->broker, "memory", &s, "root", then_say(&said));
    settle_down(w);
    publish(w, "file$2.final", "x");
    publish(w, "memory$1.final", "x");
    settle_down(w);
    assert_int_equal(last_of(w, "file", 2), 1);
    assert_int_equal(last_of(w, "memory", 1), 1);

    restart(w);
    settle_down(w);

    assert_true(mp_station_is_ready(station(w, "memory")));
    assert_int_equal(last_of(w, "file", 2), 1);
    assert_int_equal(last_of(w, "memory", 1), 0);
    world_free(w);
}

static void STA_05_a_creation_right_behind_a_removal_makes_a_new_station(void **state)
{
    struct world *w = world_new();
    struct mp_station *s = make_station(w, "orders", 2);
    struct mp_station_settings wanted = settings(2);
    struct said dropped, made;
    uint32_t old = s->id;

    (void)state;
    publish(w, "orders$1.final", "x");
    settle_down(w);
    mp_station_drop(w->broker, s, "root", then_say(&dropped));
    mp_station_create(w->broker, "orders", &wanted, "root", then_say(&made));
    settle_down(w);
    assert_int_equal(dropped.status, MEMPHIS_OK);
    assert_int_equal(made.status, MEMPHIS_OK);
    assert_true(station(w, "orders")->id != old);
    assert_int_equal(last_of(w, "orders", 1), 0);
    world_free(w);
}

static void a_station_that_is_being_removed_is_not_there_for_who_asks(void **state)
{
    struct world *w = world_new();
    struct mp_station *s = make_station(w, "orders", 2);
    struct said dropped, asked, made;
    uint32_t old = s->id;

    (void)state;
    mp_station_drop(w->broker, s, "root", then_say(&dropped));
    mp_station_ensure(w->broker, "orders", false, "root", then_say(&asked));
    mp_station_ensure(w->broker, "orders", true, "root", then_say(&made));
    settle_down(w);
    assert_int_equal(dropped.status, MEMPHIS_OK);
    assert_int_equal(asked.status, MEMPHIS_NOT_FOUND);
    assert_int_equal(made.status, MEMPHIS_OK);
    assert_true(station(w, "orders")->id != old);
    world_free(w);
}

static void STA_05_a_dropped_station_takes_everything_along_for_good(void **state)
{
    struct world *w = world_new();
    struct mp_station *s = make_station(w, "orders", 2);
    struct said said, again;

    (void)state;
    publish(w, "orders$1.final", "x");
    settle_down(w);
    mp_station_drop(w->broker, s, "root", then_say(&said));
    mp_station_drop(w->broker, s, "root", then_say(&again));
    settle_down(w);
    assert_int_equal(said.status, MEMPHIS_OK);
    assert_int_equal(again.status, MEMPHIS_NOT_FOUND);
    assert_null(station(w, "orders"));
    assert_int_equal(w->broker->counters.partitions, 0);
    restart(w);
    assert_null(station(w, "orders"));
    make_station(w, "orders", 2);
    assert_int_equal(last_of(w, "orders", 1), 0);
    world_free(w);
}

static void check_range(struct world *w, uint32_t partition, uint64_t first,
                        uint64_t last)
{
    struct mp_stream *s = mp_station_stream(station(w, "orders"), partition);

    assert_int_equal(mp_log_first(s->log, s->pid), first);
    assert_int_equal(mp_log_last(s->log, s->pid), last);
}

static void STA_23_a_purge_takes_all_that_was_produced_and_sequences_go_on(void **state)
{
    struct world *w = world_new();
    struct said one, all, none;

    (void)state;
    make_station(w, "orders", 2);
    publish(w, "orders$1.final", "x");
    publish(w, "orders$2.final", "x");
    mp_station_purge(station(w, "orders"), 2, then_say(&one)); /* on its way, too */
    mp_station_purge(station(w, "orders"), 3, then_say(&none));
    assert_int_equal(none.status, MEMPHIS_NOT_FOUND);
    assert_int_equal(one.count, 0);
    settle_down(w);
    assert_int_equal(one.status, MEMPHIS_OK);
    check_range(w, 1, 1, 1);
    check_range(w, 2, 2, 1);

    publish(w, "orders$2.final", "x");
    settle_down(w);
    check_range(w, 2, 2, 2);
    mp_station_purge(station(w, "orders"), 0, then_say(&all));
    settle_down(w);
    assert_int_equal(all.status, MEMPHIS_OK);
    restart(w);
    check_range(w, 1, 2, 1);
    check_range(w, 2, 3, 2);
    world_free(w);
}

static void who_waits_for_partitions_that_find_no_room_hears_it_and_may_ask_again(
    void **state)
{
    struct world *w = world_new();
    struct mp_station_settings s = settings(3);
    struct said said;

    (void)state;
    mp_station_create(w->broker, "orders", &s, "root", then_say(&said));
    while (station(w, "orders") == NULL)
        turn(w);
    assert_int_equal(said.count, 0);
    w->broker->data_log->sink.lost(w->broker, MEMPHIS_NO_SPACE);

    assert_int_equal(said.status, MEMPHIS_NO_SPACE);
    assert_string_equal(said.text,
                        "the partitions of the station could not be opened");
    assert_false(station(w, "orders")->opening);
    mp_station_ensure(w->broker, "orders", false, "root", then_say(&said));
    assert_true(station(w, "orders")->opening);
    settle_down(w);
    assert_int_equal(said.status, MEMPHIS_OK);
    world_free(w);
}

/* Power goes at the n-th operation of the disk. False: that was too late. */
static bool create_and_crash(uint64_t n, int *half_made)
{
    struct world *w = world_new();
    struct mp_station_settings s = settings(3);
    struct said said;
    bool crashed;

    mp_disk_crash_at(w->disk, n);
    mp_station_create(w->broker, "orders", &s, "root", then_say(&said));
    for (int i = 0; i < 10; i++)
        turn(w);
    *half_made += said.count == 0 && station(w, "orders") != NULL;
    stop(w);
    crashed = mp_disk_has_crashed(w->disk);
    mp_disk_crash_at(w->disk, 0);
    assert_int_equal(said.count, 1);
    if (crashed)
        mp_disk_crash(w->disk, MP_CRASH_NOTHING, n);
    start(w);
    settle_down(w);
    if (said.status == MEMPHIS_OK)
        assert_non_null(station(w, "orders"));
    if (station(w, "orders") != NULL)
        assert_true(mp_station_is_ready(station(w, "orders")));
    world_free(w);
    return crashed;
}

static void a_crash_between_row_and_partitions_is_mended_by_the_start(void **state)
{
    int half_made = 0;
    uint64_t n = 1;

    (void)state;
    while (create_and_crash(n, &half_made))
        n++;
    assert_true(half_made > 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        leak_checked(CON_14_a_stream_of_a_nats_client_survives_a_start),
        leak_checked(a_change_half_done_is_finished_by_the_next_start),
        leak_checked(STA_15_one_to_ten_thousand_partitions),
        leak_checked(STA_21_the_window_has_100_ms_to_24_h_and_ends_with_the_retention),
        leak_checked(a_retention_without_a_value_is_an_hour),
        leak_checked(STA_01_a_station_is_answered_when_its_partitions_are_open),
        leak_checked(racing_creations_all_succeed_and_make_one_station),
        leak_checked(STA_02_ensure_makes_a_default_station_or_says_that_there_is_none),
        leak_checked(
            STA_11_a_file_station_outlives_a_start_STA_12_a_memory_one_empties),
        leak_checked(STA_05_a_dropped_station_takes_everything_along_for_good),
        leak_checked(a_station_that_is_being_removed_is_not_there_for_who_asks),
        leak_checked(STA_05_a_creation_right_behind_a_removal_makes_a_new_station),
        leak_checked(STA_23_a_purge_takes_all_that_was_produced_and_sequences_go_on),
        leak_checked(
            who_waits_for_partitions_that_find_no_room_hears_it_and_may_ask_again),
        leak_checked(a_crash_between_row_and_partitions_is_mended_by_the_start),
    };

    return run_tests("broker/station", tests);
}
