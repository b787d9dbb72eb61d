#include "world.h"

#include "base/status.h"
#include "replica/solo.h"
#include "support/sqlite.h"

/* === Sources === */

struct source {
    struct mp_source source;
    int input, worked, flushed;
};

static size_t work(struct mp_source *s, size_t bytes_max, uint32_t *operations)
{
    struct source *x = mp_container_of(s, struct source, source);

    assert_true(bytes_max > 0 && *operations > 0);
    x->input--;
    x->worked++;
    --*operations;
    return 100;
}

static bool has_input(struct mp_source *s)
{
    return mp_container_of(s, struct source, source)->input > 0;
}

static void flush(struct mp_source *s)
{
    mp_container_of(s, struct source, source)->flushed++;
}

static struct source source(int input)
{
    return (struct source){
        .source = { .work = work, .has_input = has_input, .flush = flush },
        .input = input
    };
}

static void sources_work_in_turns_and_write_once_a_turn(void **state)
{
    struct world *w = world_new();
    struct source a = source(3), b = source(1);

    (void)state;
    mp_broker_wants_turn(w->broker, &a.source);
    mp_broker_wants_turn(w->broker, &a.source);
    mp_broker_wants_turn(w->broker, &b.source);
    mp_broker_wants_flush(w->broker, &a.source);
    mp_broker_wants_flush(w->broker, &a.source);
    assert_int_equal(turn(w), 0); /* a has more: at once */
    assert_int_equal(a.worked, 1);
    assert_int_equal(b.worked, 1);
    assert_int_equal(a.flushed, 1);
    turn(w);
    turn(w);
    turn(w);
    assert_int_equal(a.worked, 3);
    assert_int_equal(b.worked, 1);
    assert_int_equal(a.flushed, 1);
    world_free(w);
}

static void a_forgotten_source_is_not_called(void **state)
{
    struct world *w = world_new();
    struct source a = source(3);

    (void)state;
    mp_broker_wants_turn(w->broker, &a.source);
    mp_broker_wants_flush(w->broker, &a.source);
    mp_broker_forget_source(w->broker, &a.source);
    turn(w);
    assert_int_equal(a.worked + a.flushed, 0);
    world_free(w);
}

/* === The disk === */

static uint64_t reserve_on(uint64_t disk_bytes)
{
    struct world *w = world_new();

    stop(w);
    mp_disk_limit(w->disk, disk_bytes);
    start(w);
    uint64_t reserve = w->broker->replica->o.disk_reserve;
    world_free(w);
    return reserve;
}

static void some_of_the_disk_is_left_free(void **state)
{
    (void)state;
    assert_int_equal(reserve_on(100 << 20), 5 << 20);
    assert_int_equal(reserve_on(1ull << 40), 1 << 30);
    assert_int_equal(reserve_on(UINT64_MAX), 1 << 30); /* it cannot say */
}

/* === Time === */

static void an_idle_broker_sleeps_and_a_group_wakes_it_for_its_progress(void **state)
{
    struct world *w = world_new();
    struct mp_consumer_request r = { .name = "c",
                                     .group = "g",
                                     .connection_id = "c1",
                                     .ack_wait_ms = 1000,
                                     .deliveries_max = 2,
                                     .start_sequence = 1,
                                     .last_messages = -1 };
    struct mp_pull_request pull = { .batch = 1, .no_wait = true };
    struct mp_stream_group *g;
    struct said said;

    (void)state;
    make_station(w, "orders", 1);
    mp_consumer_add(station(w, "orders"), &r, then_say(&said));
    publish(w, "orders$1.final", "x");
    settle_down(w);
    g = mp_stream_group(mp_station_stream(station(w, "orders"), 1), MP_STR("g"));
    w->heard_count = 0;
    mp_stream_pull(g, &pull, MP_STR("_INBOX.x"));
    turn(w);
    assert_string_equal(heard(w), "x");
    mp_stream_settle(g, 1, MP_STR("+ACK"), MP_STR(""));
    assert_in_range(turn(w), 1, MP_PROGRESS_DELAY_MS * 1000000);
    settle_down(w);
    pass(w, 2000); /* the log covers its last batch */
    assert_true(turn(w) > 1000000000ull);
    world_free(w);
}

/* Memory commits at the end of a turn, when the groups were served already. */
static void what_memory_commits_in_a_turn_is_served_in_the_next_at_once(void **state)
{
    struct world *w = world_new();
    struct mp_station_settings memory = settings(1);
    struct mp_consumer_request r = { .name = "c",
                                     .group = "g",
                                     .connection_id = "c1",
                                     .ack_wait_ms = 1000,
                                     .deliveries_max = 2,
                                     .start_sequence = 1,
                                     .last_messages = -1 };
    struct mp_pull_request pull = { .batch = 1,
                                    .has_expires = true,
                                    .expires_ns = 5000000000ull };
    struct mp_message m = { .subject = MP_STR("orders$1.final"),
                            .payload = MP_STR("x") };
    struct said said;

    (void)state;
    memory.storage = MP_STORAGE_MEMORY;
    mp_station_create(w->broker, "orders", &memory, "root", then_say(&said));
    settle_down(w);
    mp_consumer_add(station(w, "orders"), &r, then_say(&said));
    settle_down(w);
    mp_stream_pull(
        mp_stream_group(mp_station_stream(station(w, "orders"), 1), MP_STR("g")), &pull,
        MP_STR("_INBOX.x"));
    pass(w, 2000);
    assert_true(turn(w) > 100000000); /* nothing to do until the pull expires */
    mp_bus_publish(w->broker->bus, &w->client, &m);
    assert_int_equal(w->heard_count, 0);
    assert_int_equal(turn(w), 0);
    (void)turn(w);
    assert_string_equal(heard(w), "x");
    world_free(w);
}

static void a_step_of_the_wall_clock_moves_no_deadline(void **state)
{
    struct world *w = world_new();
    uint64_t now, wall;

    (void)state;
    turn(w);
    now = mp_broker_now_ms(w->broker);
    wall = mp_broker_wall_ns(w->broker);
    mp_disk_step_wall(w->disk, 3600 * 1000000000ll);
    turn(w);
    assert_in_range(mp_broker_now_ms(w->broker) - now, 0, 1);
    assert_true(mp_broker_wall_ns(w->broker) - wall >= 3600 * 1000000000ull);
    world_free(w);
}

static uint64_t shown(struct world *w, uint64_t seq)
{
    struct mp_stream *s = mp_station_stream(station(w, "orders"), 1);
    struct mp_stored m;

    while (mp_log_read(s->log, s->pid, seq, &m) == MP_PENDING)
        turn(w);
    assert_int_equal(m.entry.seq, seq);
    uint64_t wall = mp_wall_of(&w->broker->streams.wall, m.entry.time_ns);
    mp_stored_release(&m);
    return wall;
}

/* Stored with one time, shown with that for ever: before a step, behind it, after a
 * restart with the log, and one with the files. */
static void a_message_keeps_the_time_that_the_wall_clock_showed(void **state)
{
    struct world *w = world_new();
    const int64_t steps[] = { 3600, -7200, 30 };
    uint64_t was[4];

    (void)state;
    make_station(w, "orders", 1);
    for (uint64_t i = 0; i < 4; i++) {
        if (i > 0)
            mp_disk_step_wall(w->disk, steps[i - 1] * 1000000000);
        if (i == 2)
            restart(w); /* the step came while it was off */
        pass(w, 10);
        mp_broker_enter(w->broker);
        was[i] = mp_broker_wall_ns(w->broker);
        publish(w, "orders$1.final", "x");
        settle_down(w);
        w->heard_count = 0;
    }
    for (int round = 0; round < 3; round++) {
        for (uint64_t i = 0; i < 4; i++)
            assert_in_range(shown(w, i + 1) + 1000000 - was[i], 0, 2000000);
        if (round == 1) {
            w->broker->replica->wants_flush = true;
            pass(w, 5);
        }
        restart(w);
    }
    world_free(w);
}

static void a_step_that_the_log_did_not_take_is_told_again(void **state)
{
    struct world *w = world_new();

    (void)state;
    make_station(w, "orders", 1);
    mp_disk_step_wall(w->disk, 3600 * 1000000000ll);
    mp_broker_enter(w->broker);
    struct mp_log_sink *sink = &w->broker->data_log->sink;
    sink->lost(sink->ctx, MEMPHIS_NO_SPACE);
    assert_int_equal(w->broker->streams.wall.count, 0);
    settle_down(w);
    assert_true(w->broker->streams.wall.count > 0);
    world_free(w);
}

/* === What the log says === */

static void the_state_of_a_partition_goes_out_and_in_by_the_sink(void **state)
{
    struct world *w = world_new();
    struct mp_log_sink *sink;
    struct mp_buf b = { 0 };
    uint32_t pid;
    memphis_error err;

    (void)state;
    make_station(w, "orders", 1);
    sink = &w->broker->data_log->sink;
    pid = mp_station_stream(station(w, "orders"), 1)->pid;
    sink->state(sink->ctx, 99, &b); /* nobody's: nothing */
    assert_int_equal(b.size, 0);
    assert_int_equal(sink->restore(sink->ctx, 99, 1, MP_STR("x"), &err), MEMPHIS_OK);
    assert_int_equal(sink->restore(sink->ctx, pid, 1, MP_STR("x"), &err),
                     MEMPHIS_CORRUPT);
    assert_non_null(strstr(err.message, "orders$1"));
    sink->ready(sink->ctx, 99);
    sink->ready(sink->ctx, pid);
    world_free(w);
}

static void what_one_log_gives_back_is_not_the_other_ones(void **state)
{
    struct world *w = world_new();
    struct mp_station_settings s = settings(1);
    struct mp_log_sink *sink;
    struct said said;

    (void)state;
    make_station(w, "file", 1);
    s.storage = MP_STORAGE_MEMORY;
    mp_station_create(w->broker, "memory", &s, "root", then_say(&said));
    settle_down(w);
    publish(w, "file$1.final", "x");
    publish(w, "memory$1.final", "x");
    sink = &w->broker->memory_log->sink;
    sink->lost(sink->ctx, MEMPHIS_NO_SPACE);

    assert_non_null(strstr(heard(w), "\"stream\":\"memory$1\""));
    assert_int_equal(mp_station_stream(station(w, "file"), 1)->proposed_last, 1);
    assert_int_equal(mp_station_stream(station(w, "memory"), 1)->proposed_last, 0);
    sink = &w->broker->data_log->sink;
    sink->lost(sink->ctx, MEMPHIS_NO_SPACE);
    assert_non_null(strstr(heard(w), "\"err_code\":10047"));
    assert_int_equal(mp_station_stream(station(w, "file"), 1)->proposed_last, 0);
    mp_station_stream(station(w, "file"), 1)->proposed_last = 1;   /* it was a lie: */
    mp_station_stream(station(w, "memory"), 1)->proposed_last = 1; /* both will come */
    world_free(w);
}

/* === Broken === */

static void an_io_error_breaks_the_broker_once_and_silences_it(void **state)
{
    struct world *w = world_new();
    struct mp_station_settings s = settings(1);
    struct source a = source(1);
    struct said said;

    (void)state;
    make_station(w, "orders", 1);
    mp_disk_fail(w->disk, MP_DISK_WRITE, 1, MEMPHIS_IO, true);
    publish(w, "orders$1.final", "x");
    mp_station_create(w->broker, "bills", &s, "root", then_say(&said));
    turn(w);
    turn(w);
    assert_int_equal(w->broken, 1);
    assert_true(w->broker->is_broken);
    mp_broker_wants_turn(w->broker, &a.source);
    assert_int_equal(turn(w), UINT64_MAX);
    assert_int_equal(a.worked, 0);
    assert_int_equal(w->heard_count, 0);
    mp_broker_break(w->broker, &w->broker->why);
    assert_int_equal(w->broken, 1);
    mp_broker_forget_source(w->broker, &a.source);
    mp_disk_heal(w->disk);
    restart(w);
    publish(w, "orders$1.final", "x");
    settle_down(w);
    assert_non_null(strstr(heard(w), "\"seq\":"));
    world_free(w);
}

static void what_was_accepted_is_brought_to_an_end_by_a_stop(void **state)
{
    struct world *w = world_new();
    struct mp_station_settings s = settings(2);
    struct said said;

    (void)state;
    mp_station_create(w->broker, "orders", &s, "root", then_say(&said));
    stop(w);
    assert_int_equal(said.status, MEMPHIS_OK);
    start(w);
    assert_true(mp_station_is_ready(station(w, "orders")));
    assert_true(w->broker->recovery.clean);
    world_free(w);
}

static void a_broker_that_cannot_open_leaves_nothing_behind(void **state)
{
    struct world *w = world_new();
    memphis_error err;

    (void)state;
    make_station(w, "orders", 2);
    stop(w);
    for (uint64_t n = 1; n < 6; n++) {
        mp_disk_fail(w->disk, MP_DISK_READ, n, MEMPHIS_IO, true);
        assert_int_not_equal(try_start(w, &err), MEMPHIS_OK);
        assert_true(err.message[0] != 0);
        mp_disk_heal(w->disk);
    }
    w->broker = NULL;
    start(w);
    assert_true(mp_station_is_ready(station(w, "orders")));
    world_free(w);
}

/* === meta.db and the log of shard 1 === */

static void path_of_db(const struct world *w, const char *name, char path[64])
{
    snprintf(path, 64, "%s/%s", w->dir, name);
}

static void copy_file(const char *from, const char *to)
{
    char command[160];

    snprintf(command, sizeof(command), "cp '%s' '%s'", from, to);
    assert_int_equal(system(command), 0);
}

/* The log gets more files than one. */
static void fill_the_log(struct world *w)
{
    static uint8_t payload[600 << 10];
    struct mp_message m = { .subject = MP_STR("orders$1.final"),
                            .payload = { payload, sizeof(payload) } };

    for (int i = 0; i < 4; i++) {
        mp_bus_publish(w->broker->bus, &w->client, &m);
        settle_down(w);
    }
}

/* Until the first WAL file, and the metadata in it, is given back. */
static void outgrow_the_log(struct world *w)
{
    fill_the_log(w);
    mp_meta_checkpoint(w->broker->meta);
    pass(w, 5);
    w->broker->replica->wants_flush = true;
    pass(w, 5);
    assert_true(w->broker->replica->node.items[0].base_index > 0);
}

static void expect_refused(struct world *w, memphis_status status, const char *text)
{
    memphis_error err = { 0 };
    int broken = w->broken;

    assert_int_equal(try_start(w, &err), status);
    if (strstr(err.message, text) == NULL)
        fail_msg("'%s' is not in '%s'", text, err.message);
    w->broker = NULL;
    assert_int_equal(w->broken, broken); /* nobody was told who is not open yet */
}

static void without_its_meta_db_a_log_that_is_cut_is_refused(void **state)
{
    struct world *w = world_new();
    char path[64], old[64], new[64];

    (void)state;
    path_of_db(w, "meta.db", path);
    path_of_db(w, "old", old);
    path_of_db(w, "new", new);
    stop(w);
    copy_file(path, old);
    start(w);
    make_station(w, "orders", 1);
    outgrow_the_log(w);
    stop(w);
    copy_file(path, new);
    for (int round = 0; round < 6; round++) {
        w->accept_loss = round % 2 > 0;
        assert_int_equal(unlink(path), 0);
        if (round / 2 == 1)
            copy_file(old, path);
        if (round / 2 == 2)
            copy_file("/dev/null", path);
        expect_refused(w, MEMPHIS_CORRUPT, "restore");
        if (round / 2 == 0)
            assert_int_not_equal(access(path, F_OK), 0);
        copy_file(new, path);
    }
    w->accept_loss = false;
    start(w);
    assert_true(mp_station_is_ready(station(w, "orders")));
    settle_down(w);
    assert_int_equal(last_of(w, "orders", 1), 4);
    assert_int_equal(unlink(old) + unlink(new), 0);
    world_free(w);
}

static void while_the_log_is_whole_meta_db_is_made_anew(void **state)
{
    struct world *w = world_new();
    char path[64];

    (void)state;
    make_station(w, "orders", 1);
    stop(w);
    path_of_db(w, "meta.db", path);
    assert_int_equal(unlink(path), 0);
    start(w);
    assert_true(mp_station_is_ready(station(w, "orders")));
    world_free(w);
}

/* The power goes: meta.db, on a disk of its own here, keeps what the log loses. */
static void lose_the_log(struct world *w)
{
    mp_disk_crash_at(w->disk, 1);
    w->broker->env->dir_sync(w->broker->env, "", NULL); /* which the crash hits */
    stop(w);
    mp_disk_crash(w->disk, MP_CRASH_NOTHING, 1);
    w->broken = 0;
}

static void a_log_that_lost_what_meta_db_knows_goes_on_behind_it(void **state)
{
    struct world *w = world_new();

    (void)state;
    stop(w);
    w->sync = MP_SYNC_NONE;
    start(w);
    make_station(w, "orders", 1);
    make_station(w, "bills", 1);
    lose_the_log(w);
    w->sync = MP_SYNC_ALWAYS;
    for (uint64_t n = 1; n < 30; n++) { /* power cuts in the start that mends it */
        memphis_error err;
        mp_disk_crash_at(w->disk, n);
        if (try_start(w, &err) == MEMPHIS_OK)
            stop(w);
        mp_disk_crash(w->disk, MP_CRASH_NOTHING, n);
    }
    w->broken = 0;
    for (int round = 0; round < 3; round++) {
        start(w);
        char name[] = { 'n', (char)('a' + round), 0 };
        make_station(w, name, 1); /* answered, although its index is a used one */
        assert_true(mp_station_is_ready(station(w, "orders")));
        mp_meta_checkpoint(w->broker->meta);
        settle_down(w);
        assert_int_equal(w->broken, 0);
        if (round < 2)
            lose_the_log(w); /* what was acknowledged since is kept */
    }
    restart(w);
    assert_int_equal(mp_meta_applied_index(w->broker->meta), 2 + 3);
    for (int round = 0; round < 3; round++) {
        char name[] = { 'n', (char)('a' + round), 0 };
        assert_true(mp_station_is_ready(station(w, name)));
    }
    world_free(w);
}

/* A broker that is only called when it asked for it, once nothing comes from outside.
 */
static void sleep_for(struct world *w, uint64_t seconds)
{
    uint64_t left = seconds * 1000000000, next = 0;

    while (left > 0) {
        next = turn(w);
        next = next < left ? next : left;
        mp_disk_advance(w->disk, next);
        left -= next;
    }
    turn(w);
}

static void a_log_that_waits_for_a_reader_of_meta_db_goes_on_behind_him(void **state)
{
    struct world *w = world_new();
    char path[64];

    (void)state;
    make_station(w, "orders", 1);
    fill_the_log(w);
    sleep_for(w, 5);
    path_of_db(w, "meta.db", path);
    struct sqlite3 *reader = begin_to_read(path);
    make_station(w, "bills", 1);
    w->broker->replica->o.wal_total_max = 2 << 20;
    sleep_for(w, 5);
    assert_true(mp_log_is_full(w->broker->data_log));
    assert_true(w->broker->replica->asked_checkpoint);
    sqlite3_close(reader);
    sleep_for(w, 3);
    assert_false(mp_log_is_full(w->broker->data_log));
    assert_int_equal(w->broken, 0);
    world_free(w);
}

static void a_command_that_nobody_can_read_refuses_the_start(void **state)
{
    struct world *w = world_new();
    struct mp_entry e = { .type = MP_ENTRY_META, .payload = MP_STR("\x63\0\1\0") };

    (void)state;
    make_station(w, "orders", 1);
    assert_int_equal(mp_log_append(w->broker->meta_log, &e, 1, 0), MEMPHIS_OK);
    turn(w);
    turn(w);
    assert_true(w->broker->is_broken);
    stop(w);
    expect_refused(w, MEMPHIS_UNSUPPORTED, "newer version");
    world_free(w);
}

static void settings_that_nobody_can_read_refuse_the_start(void **state)
{
    struct world *w = world_new();
    struct mp_stream_settings s = { .name = "orders$2", .number = 2 };
    struct mp_buf payload = { 0 };

    (void)state;
    make_station(w, "orders", 1);
    s.station_id = station(w, "orders")->id;
    mp_buf_put(&payload, "\1\1\0\0\0\2\0\0\0\1\0\0\0", 13); /* open */
    mp_stream_settings_encode(&s, &payload);
    mp_buf_put(&payload, "\x20\0\0\0\0\0", 6); /* a tag of a newer release */
    struct mp_entry e = { .type = MP_ENTRY_PARTITION, .pid = 77,
                          .payload = mp_buf_slice(&payload) };
    assert_int_equal(mp_log_append(w->broker->data_log, &e, 1, 0), MEMPHIS_OK);
    turn(w);
    turn(w);
    stop(w);
    expect_refused(w, MEMPHIS_UNSUPPORTED, "partition 77");
    mp_buf_fini(&payload);
    world_free(w);
}

static void a_group_entry_of_a_newer_release_refuses_the_start(void **state)
{
    struct world *w = world_new();
    struct mp_entry e = { .type = MP_ENTRY_GROUP, .payload = MP_STR("\5\1\0\0\0") };

    (void)state;
    make_station(w, "orders", 1);
    e.pid = mp_station_stream(station(w, "orders"), 1)->pid;
    assert_int_equal(mp_log_append(w->broker->data_log, &e, 1, 0), MEMPHIS_OK);
    turn(w);
    turn(w);
    stop(w);
    expect_refused(w, MEMPHIS_UNSUPPORTED, "orders$1");
    world_free(w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        leak_checked(sources_work_in_turns_and_write_once_a_turn),
        leak_checked(a_forgotten_source_is_not_called),
        leak_checked(some_of_the_disk_is_left_free),
        leak_checked(an_idle_broker_sleeps_and_a_group_wakes_it_for_its_progress),
        leak_checked(what_memory_commits_in_a_turn_is_served_in_the_next_at_once),
        leak_checked(a_step_of_the_wall_clock_moves_no_deadline),
        leak_checked(a_message_keeps_the_time_that_the_wall_clock_showed),
        leak_checked(a_step_that_the_log_did_not_take_is_told_again),
        leak_checked(the_state_of_a_partition_goes_out_and_in_by_the_sink),
        leak_checked(what_one_log_gives_back_is_not_the_other_ones),
        leak_checked(an_io_error_breaks_the_broker_once_and_silences_it),
        leak_checked(what_was_accepted_is_brought_to_an_end_by_a_stop),
        leak_checked(a_broker_that_cannot_open_leaves_nothing_behind),
        leak_checked(without_its_meta_db_a_log_that_is_cut_is_refused),
        leak_checked(while_the_log_is_whole_meta_db_is_made_anew),
        leak_checked(a_log_that_lost_what_meta_db_knows_goes_on_behind_it),
        leak_checked(a_log_that_waits_for_a_reader_of_meta_db_goes_on_behind_him),
        leak_checked(a_command_that_nobody_can_read_refuses_the_start),
        leak_checked(settings_that_nobody_can_read_refuse_the_start),
        leak_checked(a_group_entry_of_a_newer_release_refuses_the_start),
    };

    return run_tests("broker/broker", tests);
}
