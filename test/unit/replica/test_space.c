#include "unit/replica/world.h"

static struct mp_replica_stats stats_of(const struct world *w)
{
    struct mp_replica_stats st;

    mp_replica_stats(w->replica, &st);
    return st;
}

static uint64_t share_of(const struct world *w)
{
    return w->options.memory_max / 2;
}

static memphis_status produce_meta(struct world *w, uint32_t size)
{
    uint8_t b[512] = { 0 };
    struct mp_entry e = { .type = MP_ENTRY_META, .payload = { b, size } };

    return append(w, MP_SHARD_META, &e);
}

/* -- memory ------------------------------------------------------------------------ */

static void memory_stays_within_its_share_under_a_hundred_times_as_many_messages(
    void **state)
{
    struct world *w = world_new(1);
    enum { SIZE = 1000 };
    uint32_t count = (uint32_t)(100 * share_of(w) / SIZE);
    (void)state;

    must_start(w);
    open_partition(w, 7);
    produce(w, 7, count, SIZE);
    assert_true(w->log_bytes_most <= share_of(w));
    expect_range(w, 7, 1, count);
    assert_true(w->cold_bytes_most <= w->options.memory_max / 8 + (64 << 10));

    struct mp_log_stats st;
    mp_log_stats(data_log(w), 7, &st);
    assert_int_equal(st.messages, count);
    assert_true(st.bytes >= (uint64_t)count * SIZE);
    assert_true(stats_of(w).flushes > 10);
    assert_true(stats_of(w).flushed_bytes >= (uint64_t)count * SIZE / 2);
    world_free(w);
}

static void readers_who_hold_messages_keep_them_and_no_more(void **state)
{
    struct world *w = world_new(2);
    struct mp_stored held;
    (void)state;

    must_start(w);
    open_partition(w, 7);
    produce(w, 7, 3, 1000);
    assert_int_equal(read_at(w, MP_SHARD_DATA, 7, 2, &held), MEMPHIS_OK);
    produce(w, 7, 1000, 1000);
    check_message(&held, 7, 2);
    assert_true(w->log_bytes_most <= share_of(w));
    mp_stored_release(&held);
    world_free(w);
}

static void a_message_larger_than_the_memory_share_goes_through(void **state)
{
    struct world *w = world_new(3);
    uint32_t big = (uint32_t)share_of(w) * 3;
    (void)state;

    must_start(w);
    open_partition(w, 7);
    produce(w, 7, 1, 100);
    produce(w, 7, 2, big);
    produce(w, 7, 5, 100);
    idle(w, 10);
    produce(w, 7, 1, big);
    idle(w, 10);
    produce(w, 7, 20, 3000);
    assert_true(stats_of(w).unflushed_bytes < share_of(w));
    expect_range(w, 7, 1, 29);
    stop(w);
    must_start(w);
    expect_range(w, 7, 1, 29);
    world_free(w);
}

/* A batch that was given back because the disk is full leaves chunks that wait for
 * entries which never come. */
static void appends_that_failed_do_not_hold_memory(void **state)
{
    struct world *w = world_new(4);
    (void)state;

    must_start(w);
    open_partition(w, 7);
    produce(w, 7, 1, 100);
    uint64_t next = w->next[7];
    mp_disk_limit(w->disk, mp_disk_used(w->disk));
    for (int i = 0; i < 100; i++) /* more than a file can hold */
        assert_int_equal(try_produce(w, MP_SHARD_DATA, 7, 900, 0), MEMPHIS_OK);
    for (int i = 0; i < 5; i++)
        turn(w);
    assert_int_equal(w->failed, 100);
    assert_int_equal(w->failed_status, MEMPHIS_NO_SPACE);
    assert_int_equal(mp_log_last(data_log(w), 7), next - 1);
    w->next[7] = next;
    mp_disk_limit(w->disk, UINT64_MAX);
    idle(w, 3);
    flush(w);
    const struct mp_chunks *l = &mp_shard_of(w->replica, MP_SHARD_DATA)->chunks;
    for (struct mp_list *n = l->all.next; n != &l->all; n = n->next) {
        const struct mp_chunk *c = mp_container_of(n, struct mp_chunk, node);
        assert_true(c->last_index <= mp_shard_of(w->replica, MP_SHARD_DATA)->commit);
    }
    produce(w, 7, 10, 900);
    world_free(w);
}

/* -- WAL files --------------------------------------------------------------------- */

static void wal_files_are_given_back(void **state)
{
    struct world *w = world_new(5);
    uint64_t most = w->options.wal_total_max + 2 * w->options.wal_file_max;
    (void)state;

    must_start(w);
    open_partition(w, 7);
    produce(w, 7, 5000, 1000);
    assert_true(w->wal_bytes_most <= most);
    assert_true(count_files(w, "wal/", ".wal") <= (int)(most / (32 << 10)));
    assert_int_equal(count_files(w, "wal/", ".wal"), stats_of(w).wal_files);
    crash(w, MP_CRASH_NOTHING);
    must_start(w);
    expect_range(w, 7, 1, 5000);
    world_free(w);
}

static void shard_1_is_asked_once_for_a_checkpoint_and_its_files_go_after_it(
    void **state)
{
    struct world *w = world_new(6);
    (void)state;

    must_start(w);
    open_partition(w, 7);
    for (int round = 1; round <= 2; round++) {
        for (int i = 0; i < 40; i++) {
            assert_int_equal(produce_meta(w, 300), MEMPHIS_OK);
            settle(w);
        }
        /* Input never has to wait for it up to half of what the WAL may have. */
        for (int i = 0; i < 200 && stats_of(w).wal_bytes < (160 << 10); i++)
            produce(w, 7, 1, 1000);
        idle(w, 30);
        assert_int_equal(w->checkpoints, round);
        uint64_t files = stats_of(w).wal_files, bytes = stats_of(w).wal_bytes;
        assert_true(bytes >= (128 << 10));

        uint64_t index = mp_shard_of(w->replica, MP_SHARD_META)->commit;
        mp_replica_meta_safe(w->replica, index);
        idle(w, 1);
        assert_true(stats_of(w).wal_files < files);
        assert_true(stats_of(w).wal_bytes <= 2 * w->options.wal_file_max);
        assert_int_equal(count_files(w, "wal/", ".wal"), stats_of(w).wal_files);
    }
    uint64_t last = w->next[7] - 1;
    crash(w, MP_CRASH_PROCESS);
    must_start(w);
    expect_range(w, 7, 1, last);
    world_free(w);
}

static void a_wal_full_of_metadata_makes_input_wait_until_the_checkpoint(void **state)
{
    struct world *w = world_new(7);
    (void)state;

    must_start(w);
    open_partition(w, 7);
    for (int i = 0; i < 400 && !mp_log_is_full(data_log(w)); i++) {
        assert_int_equal(produce_meta(w, 500), MEMPHIS_OK);
        settle(w);
    }
    assert_true(mp_log_is_full(data_log(w)));
    idle(w, 5);
    assert_int_equal(w->checkpoints, 1);
    assert_true(mp_log_is_full(data_log(w)));
    mp_replica_meta_safe(w->replica, mp_shard_of(w->replica, MP_SHARD_META)->commit);
    idle(w, 1);
    assert_false(mp_log_is_full(data_log(w)));
    produce(w, 7, 10, 100);
    world_free(w);
}

/* -- segments that nobody needs ---------------------------------------------------- */

static struct mp_partition *partition_of(const struct world *w, uint32_t pid)
{
    return mp_partitions_find(&mp_shard_of(w->replica, MP_SHARD_DATA)->partitions, pid);
}

/* Of pid 7: those that hold something from `floor` on, and their files, are left. */
static void expect_no_dead_segment(const struct world *w, uint32_t pid, uint64_t floor)
{
    const struct mp_partition *p = partition_of(w, pid);
    int count = (int)p->segments_count;

    assert_true(count > 0 && count < 4);
    assert_true(p->segments[0].last >= floor);
    assert_int_equal(count_files(w, "s/00000002/00000007/", ".seg"), count);
    assert_int_equal(count_files(w, "s/00000002/00000007/", ".idx"), count - 1);
}

static void whole_segments_below_a_floor_are_removed(void **state)
{
    struct world *w = world_new(8);
    (void)state;

    must_start(w);
    open_partition(w, 7);
    produce(w, 7, 400, 1000);
    flush(w);
    int before = count_files(w, "s/00000002/00000007/", ".seg");
    assert_true(before > 10);
    assert_int_equal(count_files(w, "s/00000002/00000007/", ".idx"), before - 1);

    assert_int_equal(set_floor(w, MP_SHARD_DATA, 7, 395), MEMPHIS_OK);
    idle(w, 30);
    expect_no_dead_segment(w, 7, 395);
    expect_range(w, 7, 395, 400);
    assert_int_equal(set_floor(w, MP_SHARD_DATA, 7, 401), MEMPHIS_OK);
    idle(w, 30);
    assert_int_equal(count_files(w, "s/00000002/00000007/", ".seg"), 0);
    produce(w, 7, 50, 1000);
    flush(w);
    crash(w, MP_CRASH_NOTHING);
    must_start(w);
    expect_range(w, 7, 401, 450);
    world_free(w);
}

static void segments_with_ids_that_matter_are_kept_until_the_window_has_passed(
    void **state)
{
    struct world *w = world_new(9);
    (void)state;

    must_start(w);
    open_partition(w, 7);
    uint64_t begin = now_ns(w);
    for (int i = 1; i <= 100; i++) {
        assert_int_equal(try_produce(w, MP_SHARD_DATA, 7, 1000, (uint64_t)i),
                         MEMPHIS_OK);
        settle(w);
    }
    flush(w);
    w->ids_since = begin;
    assert_int_equal(set_floor(w, MP_SHARD_DATA, 7, 101), MEMPHIS_OK);
    idle(w, 25);
    int before = count_files(w, "s/00000002/00000007/", ".seg");
    assert_true(before > 2);
    idle(w, 60);
    assert_int_equal(count_files(w, "s/00000002/00000007/", ".seg"), before);

    w->ids_since = now_ns(w); /* the window has moved on */
    idle(w, 25);
    assert_int_equal(count_files(w, "s/00000002/00000007/", ".seg"), 0);
    assert_true(mp_replica_next_ns(w->replica) == UINT64_MAX);
    world_free(w);
}

/* The file that the slot names is never written again, also when nothing but a dead
 * segment is the reason of a pass. */
static void a_pass_for_dead_segments_alone_leaves_the_state_file_as_it_is(void **state)
{
    struct world *w = world_new(10);
    (void)state;

    must_start(w);
    open_partition(w, 7);
    assert_int_equal(progress(w, 7, 5), MEMPHIS_OK);
    produce(w, 7, 100, 1000);
    w->ids_since = 0;
    assert_int_equal(set_floor(w, MP_SHARD_DATA, 7, 90), MEMPHIS_OK);
    flush(w);
    int before = count_files(w, "s/00000002/00000007/", ".seg");
    uint64_t index = mp_shard_of(w->replica, MP_SHARD_DATA)->commit;
    w->ids_since = UINT64_MAX;
    mp_disk_fail(w->disk, MP_DISK_TRUNCATE, 1, MEMPHIS_IO, true);
    idle(w, 15); /* no file is begun anew */
    assert_int_equal(w->broken, 0);
    mp_disk_heal(w->disk);
    assert_true(count_files(w, "s/00000002/00000007/", ".seg") < before);
    assert_int_equal(mp_shard_of(w->replica, MP_SHARD_DATA)->commit, index);
    crash(w, MP_CRASH_NOTHING);
    must_start(w);
    assert_int_equal(w->groups[7], 5);
    expect_range(w, 7, 90, 100);
    world_free(w);
}

static void the_files_of_a_dropped_partition_go(void **state)
{
    struct world *w = world_new(11);
    (void)state;

    must_start(w);
    open_partition(w, 7);
    open_partition(w, 8);
    produce(w, 7, 100, 1000);
    produce(w, 8, 10, 1000);
    flush(w);
    assert_true(count_files(w, "s/00000002/00000007", "") > 4);
    drop_partition(w, 7);
    settle(w);
    idle(w, 2);
    assert_int_equal(count_files(w, "s/00000002/00000007", ""), 0);
    crash(w, MP_CRASH_NOTHING);
    must_start(w);
    assert_false(w->is_open[7]);
    expect_range(w, 8, 1, 10);
    settle(w);
    assert_int_equal(count_files(w, "s/00000002/00000007", ""), 0);
    world_free(w);
}

/* -- memory stations --------------------------------------------------------------- */

static void memory_stations_refuse_messages_at_their_limit(void **state)
{
    struct world *w = world_new(12);
    uint32_t taken = 0;
    (void)state;

    for (int diskless = 0; diskless < 2; diskless++) {
        w->diskless = diskless;
        uint64_t limit = share_of(w) / (diskless ? 1 : 2);
        must_start(w);
        w->next[9] = 1;
        assert_int_equal(change(w, MP_SHARD_MEMORY, 9, 1), MEMPHIS_OK);
        memphis_status s;
        for (taken = 0; taken < 1000; taken++, turn(w))
            if ((s = try_produce(w, MP_SHARD_MEMORY, 9, 1000, 0)) != MEMPHIS_OK)
                break;
        assert_int_equal(s, MEMPHIS_NO_SPACE);
        assert_true(stats_of(w).memory_bytes >= limit);
        assert_true(stats_of(w).memory_bytes <= limit + w->options.chunk_size);
        assert_true(taken > limit / 1500);

        /* Acknowledged messages make room; what settles them is taken. */
        assert_int_equal(set_floor(w, MP_SHARD_MEMORY, 9, taken / 2), MEMPHIS_OK);
        turn(w);
        assert_int_equal(try_produce(w, MP_SHARD_MEMORY, 9, 1000, 0), MEMPHIS_OK);
        assert_int_equal(change(w, MP_SHARD_MEMORY, 9, 3), MEMPHIS_OK);
        turn(w);
        assert_true(stats_of(w).memory_bytes <= w->options.chunk_size);
        assert_true(mp_replica_next_ns(w->replica) > now_ns(w));
        stop(w);
    }
    world_free(w);
}

static void one_message_larger_than_the_limit_of_memory_stations_leaves_again(
    void **state)
{
    struct world *w = world_new(13);
    (void)state;

    must_start(w);
    assert_int_equal(change(w, MP_SHARD_MEMORY, 9, 1), MEMPHIS_OK);
    turn(w);
    assert_int_equal(try_produce(w, MP_SHARD_MEMORY, 9, 300 << 10, 0), MEMPHIS_OK);
    turn(w);
    assert_int_equal(try_produce(w, MP_SHARD_MEMORY, 9, 100, 0), MEMPHIS_NO_SPACE);
    assert_int_equal(set_floor(w, MP_SHARD_MEMORY, 9, 2), MEMPHIS_OK);
    turn(w);
    assert_int_equal(try_produce(w, MP_SHARD_MEMORY, 9, 100, 0), MEMPHIS_OK);
    world_free(w);
}

static void full_memory_stations_leave_half_of_the_share_to_the_disk_ones(void **state)
{
    struct world *w = world_new(14);
    (void)state;

    must_start(w);
    open_partition(w, 7);
    assert_int_equal(change(w, MP_SHARD_MEMORY, 9, 1), MEMPHIS_OK);
    while (try_produce(w, MP_SHARD_MEMORY, 9, 1000, 0) == MEMPHIS_OK)
        turn(w);
    produce(w, 7, 1000, 1000);
    assert_true(w->log_bytes_most <= share_of(w) / 2);
    expect_range(w, 7, 1, 1000);
    world_free(w);
}

/* -- a full disk ------------------------------------------------------------------- */

/* Produces until the broker refuses; the number of messages it took. */
static uint32_t produce_until_refused(struct world *w, uint32_t pid)
{
    memphis_status s = MEMPHIS_OK;
    int refused = 0;

    for (int i = 0; i < 5000 && refused < 3; i++) {
        if (!mp_log_is_full(data_log(w)))
            s = try_produce(w, MP_SHARD_DATA, pid, 1000, 0);
        refused = s == MEMPHIS_NO_SPACE ? refused + 1 : 0;
        turn(w);
        mp_disk_advance(w->disk, SECOND_NS / 10);
        turn(w);
        if (w->failed > 0) { /* given back: it was never there */
            w->next[pid] -= (uint64_t)w->failed;
            w->failed = 0;
        }
    }
    assert_int_equal(s, MEMPHIS_NO_SPACE);
    assert_int_equal(w->broken, 0);
    return (uint32_t)w->next[pid] - 1;
}

static void a_full_disk_refuses_messages_and_recovers_by_itself(void **state)
{
    (void)state;

    for (uint64_t room = 0; room < 400; room += 17) {
        struct world *w = world_new(15 + room);
        must_start(w);
        open_partition(w, 7);
        open_partition(w, 8); /* its directory may be made on a full disk */
        produce(w, 7, 20, 1000);
        mp_disk_limit(w->disk, mp_disk_used(w->disk) + room * 1024);
        assert_int_equal(try_produce(w, MP_SHARD_DATA, 8, 100, 0), MEMPHIS_OK);
        uint32_t count = produce_until_refused(w, 7);

        /* Groups go on and may even make room; nobody spins. */
        assert_int_equal(progress(w, 7, 3), MEMPHIS_OK);
        assert_int_equal(set_floor(w, MP_SHARD_DATA, 7, 5), MEMPHIS_OK);
        idle(w, 20);
        assert_int_equal(w->broken, 0);
        expect_range(w, 7, 5, count);

        mp_disk_limit(w->disk, UINT64_MAX);
        idle(w, 20);
        w->failed = 0;
        produce(w, 7, 300, 1000);
        assert_int_equal(w->failed, 0);
        expect_range(w, 7, 5, count + 300);
        flush(w);
        crash(w, MP_CRASH_NOTHING);
        must_start(w);
        expect_range(w, 7, 5, count + 300);
        assert_true(mp_log_last(data_log(w), 8) <= 1);
        world_free(w);
    }
}

/* Segments are written while more than the reserve is free, and no longer. */
static void the_flusher_leaves_the_reserve_free(void **state)
{
    struct world *w = world_new(26);
    (void)state;

    w->options.disk_reserve = 300 << 10;
    must_start(w);
    open_partition(w, 7);
    settle(w);
    mp_disk_limit(w->disk, mp_disk_used(w->disk) + (800 << 10));
    uint32_t count = produce_until_refused(w, 7);
    assert_true(count > 100);
    assert_true(w->env->free_bytes(w->env) > (280 << 10)); /* slots, state files */
    assert_true(w->env->free_bytes(w->env) < (450 << 10));
    expect_range(w, 7, 1, count);

    /* A pass that writes no messages gives room back. */
    assert_int_equal(set_floor(w, MP_SHARD_DATA, 7, count + 1), MEMPHIS_OK);
    idle(w, 30);
    assert_true(w->env->free_bytes(w->env) > (600 << 10));
    produce(w, 7, 50, 1000);
    expect_range(w, 7, count + 1, count + 50);
    world_free(w);
}

static void a_start_needs_no_more_room_than_there_is(void **state)
{
    struct world *w = world_new(27);
    (void)state;

    w->options.disk_reserve = 300 << 10;
    must_start(w);
    open_partition(w, 7);
    produce(w, 7, 30, 1000);
    mp_disk_limit(w->disk, mp_disk_used(w->disk)); /* others have filled it */
    uint32_t count = produce_until_refused(w, 7);
    for (int i = 0; i < 3; i++) {
        crash(w, i % 2 ? MP_CRASH_PROCESS : MP_CRASH_NOTHING);
        mp_disk_limit(w->disk, mp_disk_used(w->disk) + (40 << 10));
        must_start(w);
        expect_range(w, 7, 1, count);
        assert_int_equal(progress(w, 7, 1), MEMPHIS_OK);
        settle(w);
        assert_int_equal(w->groups[7], i + 1);
    }
    world_free(w);
}

/* The last batch fills the last file: nothing can cover it, and nothing tries to. */
static void a_last_batch_that_cannot_be_covered_is_left_alone(void **state)
{
    (void)state;
    for (int sync = MP_SYNC_ALWAYS; sync <= MP_SYNC_INTERVAL; sync++) {
        struct world *w = world_new(25);
        w->options.sync = (uint32_t)sync;
        w->options.sync_interval_ms = 100;
        must_start(w);
        open_partition(w, 7);
        settle(w);
        mp_disk_limit(w->disk, mp_disk_used(w->disk));
        struct mp_wal *wal = w->replica->wal;
        for (int i = 0; i < 100; i++) {
            if (mp_wal_is_out_of_space(wal) && mp_wal_end(wal) == mp_wal_file_end(wal))
                break;
            assert_int_equal(progress(w, 7, 1), MEMPHIS_OK);
            turn(w);
            turn(w);
        }
        assert_int_equal(mp_wal_end(wal), mp_wal_file_end(wal));
        idle(w, 10);
        mp_disk_limit(w->disk, UINT64_MAX);
        idle(w, 2);
        assert_true(mp_wal_end(wal) < mp_wal_file_end(wal)); /* now it is */
        assert_true(mp_replica_next_ns(w->replica) == UINT64_MAX);
        world_free(w);
    }
}

/* -- when nothing is left to do, nothing is done ----------------------------------- */

static void a_pass_that_lacked_room_and_lost_its_reason_is_forgotten(void **state)
{
    struct world *w = world_new(16);
    (void)state;

    must_start(w);
    open_partition(w, 7);
    produce(w, 7, 15, 1000);
    mp_disk_fail(w->disk, MP_DISK_OPEN, 1, MEMPHIS_NO_SPACE, true);
    w->replica->wants_flush = true;
    idle(w, 5);
    assert_true(w->replica->flush_lacks_space);
    assert_int_equal(w->broken, 0);
    drop_partition(w, 7);
    idle(w, 5);
    mp_disk_heal(w->disk);
    idle(w, 5);
    assert_false(w->replica->flush_lacks_space);
    assert_true(mp_replica_next_ns(w->replica) > now_ns(w) + 5 * SECOND_NS);
    world_free(w);
}

static void a_trim_on_a_full_disk_is_tried_again_without_spinning(void **state)
{
    struct world *w = world_new(17);
    (void)state;

    must_start(w);
    open_partition(w, 7);
    produce(w, 7, 100, 1000);
    flush(w);
    assert_int_equal(set_floor(w, MP_SHARD_DATA, 7, 95), MEMPHIS_OK);
    assert_int_equal(progress(w, 7, 1), MEMPHIS_OK);
    settle(w);
    mp_disk_limit(w->disk, mp_disk_used(w->disk)); /* no room for the state file */
    idle(w, 60);
    assert_true(w->replica->flush_lacks_space);
    mp_disk_limit(w->disk, UINT64_MAX);
    idle(w, 60);
    assert_false(w->replica->flush_lacks_space);
    assert_int_equal(w->broken, 0);
    expect_no_dead_segment(w, 7, 95);
    expect_range(w, 7, 95, 100);
    world_free(w);
}

/* -- slots ------------------------------------------------------------------------- */

/* The two slots of a meta file take turns: a torn write of one leaves the other. */
static void a_pass_that_failed_does_not_put_the_next_one_on_the_valid_slot(void **state)
{
    struct world *w = world_new(18);
    (void)state;

    must_start(w);
    open_partition(w, 7);
    produce(w, 7, 20, 1000);
    flush(w);
    for (int i = 0; i < 3; i++) {
        produce(w, 7, 1, 1000);
        mp_disk_fail(w->disk, i == 0 ? MP_DISK_REOPEN : MP_DISK_WRITE, 1,
                     i == 0 ? MEMPHIS_NOMEM : MEMPHIS_NO_SPACE, false);
        w->replica->wants_flush = true;
        turn(w); /* the pass comes first in a turn */
        assert_true(mp_mailbox_drain(&w->box) > 0);
        assert_true(w->replica->flush_lacks_space);
        idle(w, 3);
        assert_false(w->replica->flush_lacks_space);
    }
    assert_int_equal(partition_of(w, 7)->generation, 4);
    world_free(w);
}

static void a_thousand_partitions_go_in_one_pass(void **state)
{
    struct world *w = world_new(19);
    (void)state;

    w->options.memory_max = 4 << 20;
    w->options.wal_total_max = 4 << 20;
    must_start(w);
    for (uint32_t pid = 1; pid <= 1000; pid++) {
        open_partition(w, pid);
        assert_int_equal(try_produce(w, MP_SHARD_DATA, pid, 64, pid), MEMPHIS_OK);
        assert_int_equal(progress(w, pid, pid), MEMPHIS_OK);
        if (pid % 100 == 0)
            settle(w);
    }
    flush(w);
    assert_int_equal(stats_of(w).flushes, 1);
    assert_int_equal(count_files(w, "s/00000002/", "/meta"), 1001);
    crash(w, MP_CRASH_NOTHING);
    must_start(w);
    for (uint32_t pid = 1; pid <= 1000; pid++) {
        assert_int_equal(w->groups[pid], pid);
        expect_range(w, pid, 1, 1);
    }
    world_free(w);
}

/* -- damage ------------------------------------------------------------------------ */

static void damage_that_a_read_meets_is_told_and_not_written_down(void **state)
{
    struct world *w = world_new(20);
    struct mp_stored m;
    const char *name = "s/00000002/00000007/00000000000000000001.seg";
    (void)state;

    must_start(w);
    open_partition(w, 7);
    produce(w, 7, 400, 1000);
    flush(w);
    assert_true(mp_disk_flip(w->disk, name, 4096 + 5 * 1040 + 500, 4));
    assert_int_equal(read_at(w, MP_SHARD_DATA, 7, 6, &m), MEMPHIS_CORRUPT);
    uint64_t last = m.entry.seq;
    assert_true(last >= 6 && last < 12);
    assert_int_equal(stats_of(w).damaged_ranges, 1);
    assert_int_equal(mp_log_last(data_log(w), 7), 400);
    assert_int_equal(read_at(w, MP_SHARD_DATA, 7, 5, &m), MEMPHIS_OK);
    check_message(&m, 7, 5);
    mp_stored_release(&m);
    assert_int_equal(read_at(w, MP_SHARD_DATA, 7, last + 1, &m), MEMPHIS_OK);
    check_message(&m, 7, last + 1);
    mp_stored_release(&m);

    /* A backup of the file is put back while the broker is down. */
    assert_int_equal(progress(w, 7, 1), MEMPHIS_OK);
    flush(w);
    stop(w);
    assert_true(mp_disk_flip(w->disk, name, 4096 + 5 * 1040 + 500, 4));
    must_start(w);
    expect_range(w, 7, 1, 400);
    world_free(w);
}

static struct mp_job *held;
static struct mp_worker *held_by;

static void hold_job(struct mp_env *e, struct mp_worker *worker, struct mp_job *j)
{
    (void)e;
    held = j;
    held_by = worker;
}

/* The WAL's worker has a thread of its own, and does not know that all is over. */
static void what_the_wal_writes_stays_until_its_worker_has_stopped(void **state)
{
    struct world *w = world_new(23);
    (void)state;

    must_start(w);
    open_partition(w, 7);
    produce(w, 7, 1, 100);
    for (int i = 0; i < 12; i++) /* three chunks, all but the last one closed */
        assert_int_equal(try_produce(w, MP_SHARD_DATA, 7, 1000, 0), MEMPHIS_OK);
    void (*post)(struct mp_env *, struct mp_worker *, struct mp_job *) =
        w->env->worker_post;
    w->env->worker_post = hold_job;
    turn(w);
    w->env->worker_post = post;
    uint64_t bytes = stats_of(w).log_bytes;

    mp_disk_fail(w->disk, MP_DISK_MKDIR, 1, MEMPHIS_IO, false);
    w->replica->wants_flush = true;
    turn(w);
    turn(w);
    assert_int_equal(w->broken, 1);
    assert_int_equal(w->failed, 12);
    assert_int_equal(stats_of(w).log_bytes, bytes);
    post(w->env, held_by, held);
    stop(w);
    must_start(w);
    expect_range(w, 7, 1, 13);
    world_free(w);
}

/* As when a daemon's clients have taken all descriptors. */
static void a_read_that_lacks_a_descriptor_is_repeated_and_tells_no_damage(void **state)
{
    struct world *w = world_new(22);
    struct mp_stored m;
    (void)state;

    must_start(w);
    open_partition(w, 7);
    produce(w, 7, 400, 1000);
    flush(w);
    w->readies = 0;
    mp_disk_fail(w->disk, MP_DISK_REOPEN, 1, MEMPHIS_NOMEM, true);
    assert_int_equal(mp_log_read(data_log(w), 7, 6, &m), MP_PENDING);
    idle(w, 10);
    assert_int_equal(w->readies, 0);
    assert_int_equal(mp_log_read(data_log(w), 7, 6, &m), MP_PENDING);
    mp_disk_heal(w->disk);
    idle(w, 2);
    assert_int_equal(w->readies, 1);
    assert_int_equal(stats_of(w).damaged_ranges, 0);
    assert_int_equal(w->broken, 0);
    expect_range(w, 7, 1, 400);
    assert_true(mp_replica_next_ns(w->replica) == UINT64_MAX);
    world_free(w);
}

/* A pass that seals a segment reads it again: one rotten entry is told, as by a read,
 * and the broker goes on. */
static void rot_in_an_active_segment_costs_one_message(void **state)
{
    const char *name = "s/00000002/00000007/00000000000000000001.seg";
    (void)state;

    for (int how = 0; how < 3; how++) { /* running; started with it; in the length */
        struct world *w = world_new(21);
        struct mp_stored m;
        must_start(w);
        open_partition(w, 7);
        produce(w, 7, 15, 1000);
        flush(w);
        uint64_t at = 4096 + 4 * 1040 + (how == 2 ? 1 : 500);
        assert_true(mp_disk_flip(w->disk, name, at, 4));
        if (how == 1) {
            stop(w);
            refuses_to_start(w, MEMPHIS_CORRUPT, name);
            w->options.accept_loss = true;
            must_start(w);
            assert_int_equal(w->report.lost_ranges, 1);
            w->options.accept_loss = false;
            w->next[7] = mp_log_last(data_log(w), 7) + 1;
        }
        uint64_t next = w->next[7];
        produce(w, 7, 60, 1000);
        flush(w);
        assert_int_equal(w->broken, 0);
        assert_int_equal(stats_of(w).damaged_ranges, how != 1);
        for (int round = 0; round < 2; round++) {
            for (uint64_t seq = 1; seq < next + 60; seq++) {
                if (seq > 15 && seq < next)
                    continue;
                memphis_status s = read_at(w, MP_SHARD_DATA, 7, seq, &m);
                assert_int_equal(s, seq == 5 ? MEMPHIS_CORRUPT : MEMPHIS_OK);
                assert_int_equal(m.entry.seq, seq);
                if (s == MEMPHIS_OK)
                    mp_stored_release(&m);
            }
            stop(w);
            must_start(w);
        }
        world_free(w);
    }
}

static void a_failed_write_of_the_flusher_breaks_the_broker_with_its_sentence(
    void **state)
{
    struct world *w = world_new(21);
    (void)state;

    must_start(w);
    open_partition(w, 7);
    produce(w, 7, 15, 1000);
    mp_disk_fail(w->disk, MP_DISK_MKDIR, 1, MEMPHIS_IO, false);
    w->replica->wants_flush = true;
    settle(w);
    assert_int_equal(w->broken, 1);
    assert_non_null(strstr(w->broken_why, "'s'"));
    assert_int_equal(try_produce(w, MP_SHARD_DATA, 7, 100, 0), MEMPHIS_BROKEN);
    assert_true(mp_replica_next_ns(w->replica) == UINT64_MAX);
    stop(w);
    must_start(w);
    expect_range(w, 7, 1, 15);
    world_free(w);
}

/* -- jobs that do not come to their end -------------------------------------------- */

static memphis_status open_without_memory(struct mp_env *e, const char *name,
                                          uint32_t flags, struct mp_file **out,
                                          memphis_error *err)
{
    (void)e, (void)name, (void)flags, (void)out, (void)err;
    mp_guard_no_memory(1);
}

static memphis_status list_without_memory(struct mp_env *e, const char *name,
                                          bool (*fn)(void *ctx, const char *name),
                                          void *ctx, memphis_error *err)
{
    (void)e, (void)name, (void)fn, (void)ctx, (void)err;
    mp_guard_no_memory(1);
}

/* What they had begun to change must not be used again. */
static void a_job_whose_guard_caught_something_breaks_the_broker(void **state)
{
    (void)state;
    for (int removal = 0; removal < 2; removal++) {
        struct world *w = world_new(24);
        struct mp_stored m;
        must_start(w);
        open_partition(w, 7);
        produce(w, 7, 400, 1000);
        flush(w);
        if (removal) {
            drop_partition(w, 7);
            w->env->dir_list = list_without_memory;
            settle(w);
        } else {
            w->env->file_open = open_without_memory;
            assert_int_equal(mp_log_read(data_log(w), 7, 6, &m), MP_PENDING);
        }
        turn(w);
        turn(w);
        assert_int_equal(w->broken, 1);
        assert_non_null(strstr(w->broken_why, "out of memory"));
        assert_int_equal(stats_of(w).damaged_ranges, 0);
        stop(w);
        must_start(w);
        if (!removal)
            expect_range(w, 7, 1, 400);
        world_free(w);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        leak_checked(
            memory_stays_within_its_share_under_a_hundred_times_as_many_messages),
        leak_checked(readers_who_hold_messages_keep_them_and_no_more),
        leak_checked(a_message_larger_than_the_memory_share_goes_through),
        leak_checked(appends_that_failed_do_not_hold_memory),
        leak_checked(wal_files_are_given_back),
        leak_checked(shard_1_is_asked_once_for_a_checkpoint_and_its_files_go_after_it),
        leak_checked(a_wal_full_of_metadata_makes_input_wait_until_the_checkpoint),
        leak_checked(whole_segments_below_a_floor_are_removed),
        leak_checked(
            segments_with_ids_that_matter_are_kept_until_the_window_has_passed),
        leak_checked(a_pass_for_dead_segments_alone_leaves_the_state_file_as_it_is),
        leak_checked(the_files_of_a_dropped_partition_go),
        leak_checked(memory_stations_refuse_messages_at_their_limit),
        leak_checked(one_message_larger_than_the_limit_of_memory_stations_leaves_again),
        leak_checked(full_memory_stations_leave_half_of_the_share_to_the_disk_ones),
        leak_checked(a_full_disk_refuses_messages_and_recovers_by_itself),
        leak_checked(the_flusher_leaves_the_reserve_free),
        leak_checked(a_start_needs_no_more_room_than_there_is),
        leak_checked(a_last_batch_that_cannot_be_covered_is_left_alone),
        leak_checked(a_pass_that_lacked_room_and_lost_its_reason_is_forgotten),
        leak_checked(a_trim_on_a_full_disk_is_tried_again_without_spinning),
        leak_checked(a_pass_that_failed_does_not_put_the_next_one_on_the_valid_slot),
        leak_checked(a_thousand_partitions_go_in_one_pass),
        leak_checked(damage_that_a_read_meets_is_told_and_not_written_down),
        leak_checked(a_read_that_lacks_a_descriptor_is_repeated_and_tells_no_damage),
        leak_checked(what_the_wal_writes_stays_until_its_worker_has_stopped),
        leak_checked(rot_in_an_active_segment_costs_one_message),
        leak_checked(a_failed_write_of_the_flusher_breaks_the_broker_with_its_sentence),
        leak_checked(a_job_whose_guard_caught_something_breaks_the_broker),
    };

    return run_tests("replica/space", tests);
}
