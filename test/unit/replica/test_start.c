#include "unit/replica/history.h"

#include "base/enc.h"

/* -- what comes back --------------------------------------------------------------- */

static void a_start_finds_what_was_flushed_after_any_end(void **state)
{
    (void)state;

    for (int outcome = -1; outcome < MP_CRASH_OUTCOMES; outcome++) {
        struct world *w = with_history(30 + (uint64_t)outcome);
        for (int round = 0; round < 2; round++) {
            if (outcome < 0)
                stop(w);
            else
                crash(w, (enum mp_disk_outcome)outcome);
            must_start(w);
            assert_int_equal(w->report.messages, 183 + 30);
            expect_history(w);
        }
        flush(w); /* and it goes on from there */
        w->next[8] = mp_log_last(data_log(w), 8) + 1;
        produce(w, 8, 100, 1000);
        stop(w);
        must_start(w);
        expect_range(w, 8, 1, 130);
        world_free(w);
    }
}

static void what_came_after_the_flush_is_replayed_on_top(void **state)
{
    struct world *w = with_history(41);
    (void)state;

    produce(w, 7, 4, 100);
    assert_int_equal(progress(w, 7, 2), MEMPHIS_OK);
    assert_int_equal(set_floor(w, MP_SHARD_DATA, 7, 50), MEMPHIS_OK);
    delete_some(w, 7, 60, 3);
    open_partition(w, 9);
    produce(w, 9, 2, 100);
    for (int round = 0; round < 3; round++) {
        crash(w, MP_CRASH_NOTHING);
        must_start(w);
        expect_7(w, 1, MEMPHIS_OK, 50);
        expect_7(w, 60, MEMPHIS_OK, 63);
        expect_7(w, 204, MEMPHIS_OK, 204);
        assert_int_equal(w->groups[7], 42);
        expect_range(w, 9, 1, 2);
        if (round == 1)
            flush(w);
    }
    world_free(w);
}

static void the_table_of_partitions_comes_back(void **state)
{
    struct world *w = world_new(42);
    uint8_t payload[] = { 1, 3, 0, 0, 0, 5, 0, 0, 0, 9, 0, 0, 0, 'x', 'y', 'z' };
    struct mp_entry e = { .type = MP_ENTRY_PARTITION, .pid = 7,
                          .payload = { payload, sizeof payload } };
    (void)state;

    must_start(w);
    assert_int_equal(append(w, MP_SHARD_DATA, &e), MEMPHIS_OK);
    open_partition(w, 8); /* never gets a message: it has no files */
    open_partition(w, 9);
    drop_partition(w, 9);
    produce(w, 7, 1, 100);
    payload[0] = 2; /* configured anew */
    payload[1] = 4;
    payload[15] = 'w';
    assert_int_equal(append(w, MP_SHARD_DATA, &e), MEMPHIS_OK);
    flush(w);
    for (int round = 0; round < 2; round++) {
        stop(w);
        must_start(w);
        const struct mp_partition *p = partition_of(w, 7);
        assert_int_equal(p->config_version, 4);
        assert_int_equal(p->number, 5);
        assert_int_equal(p->station, 9);
        assert_int_equal(p->settings.size, 3);
        assert_memory_equal(p->settings.data, "xyw", 3);
        assert_true(w->is_open[7] && w->is_open[8]);
        assert_false(w->is_open[9]);
        assert_null(partition_of(w, 9));
        w->next[8] = mp_log_last(data_log(w), 8) + 1;
        produce(w, 8, 1, 100);
    }
    expect_range(w, 8, 1, 2);
    world_free(w);
}

/* -- ids --------------------------------------------------------------------------- */

static void message_ids_of_the_window_are_told_again(void **state)
{
    struct world *w = world_new(43);
    uint64_t since = 0;
    (void)state;

    must_start(w);
    open_partition(w, 7);
    for (uint64_t i = 1; i <= 90; i++) {
        if (i == 41)
            since = now_ns(w) + 1; /* the time of the next message */
        assert_int_equal(try_produce(w, MP_SHARD_DATA, 7, 1000, i), MEMPHIS_OK);
        if (i == 90) /* dies before it reaches a segment */
            delete_some(w, 7, 90, 1);
        settle(w);
    }
    flush(w);
    w->ids_since = since;
    stop(w);
    must_start(w);
    assert_int_equal(w->ids_count, 50);
    for (size_t i = 0; i < w->ids_count; i++) {
        assert_int_equal(w->ids[i].pid, 7);
        assert_int_equal(w->ids[i].seq, 41 + i);
        assert_int_equal(w->ids[i].number, 41 + i);
    }
    w->ids_since = UINT64_MAX;
    stop(w);
    must_start(w);
    assert_int_equal(w->ids_count, 0);
    expect_range(w, 7, 1, 89);
    world_free(w);
}

/* -- dropped partitions ------------------------------------------------------------ */

static void a_directory_that_is_half_removed_is_nobodys_and_goes(void **state)
{
    (void)state;

    for (int which = 0; which < 4; which++) {
        for (int flushed = 0; flushed < 2; flushed++) {
            struct world *w = with_history(44);
            struct nth_name seg = { DIR7, ".seg", which, { 0 } };
            drop_partition(w, 7);
            settle(w); /* its files are still there: the next turn removes them */
            mp_disk_fail(w->disk, MP_DISK_UNLINK, 1, MEMPHIS_IO, true);
            idle(w, 2);
            mp_disk_heal(w->disk);
            if (flushed) /* the drop itself is in no WAL file any more */
                flush(w);
            stop(w);
            mp_disk_each(w->disk, take_nth, &seg);
            assert_true(seg.name[0] != 0);
            if (which == 3)
                remove_name(w, DIR7, "meta");
            else
                remove_name(w, DIR7, seg.name + sizeof DIR7);
            must_start(w);
            assert_false(w->is_open[7]);
            expect_range(w, 8, 1, 30);
            idle(w, 2);
            if (count_files(w, DIR7, "") != 0) fail_msg("%d %d", which, flushed);
            world_free(w);
        }
    }
}

/* -- replay ------------------------------------------------------------------------ */

static void a_replay_larger_than_memory_is_flushed_on_the_way(void **state)
{
    struct world *w = world_new(45);
    (void)state;

    w->options.memory_max = 64 << 20;
    w->options.wal_total_max = 64 << 20;
    must_start(w);
    open_partition(w, 7);
    open_partition(w, 8);
    for (int i = 0; i < 20; i++) {
        produce(w, 7, 100, 1000);
        produce(w, 8, 10, 500);
        assert_int_equal(progress(w, 7, 1), MEMPHIS_OK);
    }
    assert_int_equal(set_floor(w, MP_SHARD_DATA, 7, 301), MEMPHIS_OK);
    settle(w);
    w->options.memory_max = 256 << 10;
    for (int round = 0; round < 3; round++) {
        crash(w, MP_CRASH_PROCESS);
        must_start(w);
        assert_true(mp_shard_of(w->replica, MP_SHARD_DATA)->chunks.bytes <= 128 << 10);
        assert_true(round > 0 || w->replica->flushes > 5);
        assert_int_equal(w->groups[7], 20);
        expect_range(w, 7, 301, 2000);
        expect_range(w, 8, 1, 200);
    }
    idle(w, 5);
    assert_true(w->replica->spans_count <= 4);
    world_free(w);
}

/* What a start after a clean stop has written, and a kill has left in the page cache,
 * is not trusted by the next one. */
static void a_start_that_flushes_after_a_clean_stop_may_be_killed(void **state)
{
    bool ended = false;
    (void)state;

    for (uint64_t n = 1; !ended; n++) {
        struct world *w = world_new(90);
        memphis_error err = { 0 };
        w->options.memory_max = 64 << 20;
        w->options.wal_total_max = 64 << 20;
        must_start(w);
        open_partition(w, 7);
        produce(w, 7, 20, 1000);
        assert_int_equal(progress(w, 7, 1), MEMPHIS_OK);
        flush(w);
        assert_int_equal(progress(w, 7, 1), MEMPHIS_OK);
        produce(w, 7, 100, 1000);
        stop(w);
        w->options.memory_max = 256 << 10;
        mp_disk_crash_at(w->disk, n);
        ended = start(w, &err) == MEMPHIS_OK;
        if (ended) {
            crash(w, MP_CRASH_PROCESS);
        } else {
            stop(w);
            mp_disk_crash(w->disk, MP_CRASH_PROCESS, n);
        }
        for (int round = 0; round < 2; round++) {
            must_start(w);
            expect_range(w, 7, 1, 120);
            assert_int_equal(w->groups[7], 2);
            crash(w, MP_CRASH_NOTHING);
        }
        world_free(w);
    }
}

/* A pass during the replay would write slots that do not know of the segment. */
static void a_replay_larger_than_memory_does_not_cover_damage(void **state)
{
    struct world *w = with_history(46);
    struct nth_name seg = { DIR7, ".seg", 0, { 0 } };
    (void)state;

    w->options.memory_max = 64 << 20;
    w->options.wal_total_max = 64 << 20;
    stop(w);
    must_start(w);
    w->next[7] = 201;
    produce(w, 7, 1000, 1000);
    crash(w, MP_CRASH_NOTHING);
    while (seg.n = 0, seg.name[0] = 0, mp_disk_each(w->disk, take_nth, &seg),
           seg.name[0] != 0)
        remove_name(w, DIR7, seg.name + sizeof DIR7);
    w->options.memory_max = 256 << 10;
    for (int round = 0; round < 3; round++)
        refuses_to_start(w, MEMPHIS_CORRUPT, "00000007");
    world_free(w);
}

/* -- WAL files --------------------------------------------------------------------- */

static void wal_files_that_were_given_back_are_left_overs_when_they_return(void **state)
{
    struct world *w = with_history(47);
    uint64_t kept = w->replica->spans_count;
    struct mp_file *f = NULL;
    (void)state;

    crash(w, MP_CRASH_NOTHING);
    struct mp_env *e = mp_env_mem_open(w->disk, NULL); /* as if that was not synced */
    char name[MP_WAL_NAME_SIZE];
    mp_wal_name(0, name);
    assert_int_equal(e->file_open(e, name, MP_FILE_WRITE | MP_FILE_CREATE, &f, NULL),
                     MEMPHIS_OK);
    e->file_close(e, f);
    e->close(e);
    assert_true(count_files(w, "wal/", ".wal") > (int)kept);
    must_start(w);
    assert_int_equal(count_files(w, "wal/", ".wal"), w->replica->spans_count);
    assert_int_equal(w->replica->spans_count, kept + 1);
    expect_history(w);
    world_free(w);
}

static void a_missing_wal_file_is_told_by_name(void **state)
{
    struct world *w = with_history(48);
    struct nth_name file = { "wal/", ".wal", 1, { 0 } };
    (void)state;

    w->options.wal_total_max = 64 << 20; /* nothing is given back */
    w->options.memory_max = 64 << 20;
    stop(w);
    must_start(w);
    w->next[7] = 201;
    produce(w, 7, 300, 1000);
    stop(w);
    mp_disk_each(w->disk, take_nth, &file);
    remove_name(w, "wal", file.name + 4);
    refuses_to_start(w, MEMPHIS_CORRUPT, "a WAL file is missing: from LSN");
    refuses_to_start(w, MEMPHIS_CORRUPT, "a WAL file is missing: from LSN");

    w->options.accept_loss = true;
    must_start(w);
    assert_true(w->report.lost_ranges > 0);
    assert_true(mp_log_last(data_log(w), 7) >= 500 + 65536);
    expect_7(w, 11, MEMPHIS_OK, 11);
    expect_7(w, 200, MEMPHIS_OK, 200);
    expect_range(w, 8, 1, 30);
    w->options.accept_loss = false;
    idle(w, 1); /* the files before the hole are given back */
    crash(w, MP_CRASH_PROCESS);
    must_start(w);
    expect_7(w, 200, MEMPHIS_OK, 200);
    world_free(w);
}

/* Without syncs a power cut has torn a batch and left good ones behind it, under the
 * sequences of which others are acknowledged later. */
static void what_a_start_has_dropped_does_not_replace_what_came_later(void **state)
{
    struct world *w = world_new(54);
    char name[MP_WAL_NAME_SIZE];
    struct mp_stored m;
    (void)state;

    w->options.sync = MP_SYNC_INTERVAL;
    w->options.sync_interval_ms = 1000000;
    must_start(w);
    open_partition(w, 7);
    produce(w, 7, 8, 500);
    mp_wal_name(mp_wal_file_base(w->replica->wal), name);
    uint64_t torn = mp_wal_end(w->replica->wal) - mp_wal_file_base(w->replica->wal);
    for (int i = 0; i < 4; i++)
        produce(w, 7, 1, 2000);
    crash(w, MP_CRASH_EVERYTHING);
    assert_true(mp_disk_flip(w->disk, name, torn + 20, 1));
    for (int round = 0; round < 3; round++) {
        if (round == 1) { /* the batch that told of it */
            w->options.accept_loss = true;
            assert_true(mp_disk_flip(w->disk, name, MP_BLOCK_SIZE + 20, 1));
        }
        must_start(w);
        w->options.accept_loss = false;
        if (round == 0) {
            mp_wal_name(mp_wal_file_base(w->replica->wal), name);
            assert_int_equal(mp_log_last(data_log(w), 7), 8);
            w->next[7] = 9;
            produce(w, 7, 6, 200);
        }
        for (uint64_t seq = 1; seq <= 14; seq++) {
            assert_int_equal(read_at(w, MP_SHARD_DATA, 7, seq, &m), MEMPHIS_OK);
            assert_int_equal(m.entry.seq, seq);
            assert_int_equal(m.entry.payload.size, seq <= 8 ? 500 : 200);
            mp_stored_release(&m);
        }
        stop(w);
    }
    must_start(w);
    world_free(w);
}

/* All bytes of the log are good, and entries are missing in it nevertheless. */
static void a_log_without_some_of_its_entries_is_refused_or_accepted(void **state)
{
    (void)state;

    for (int at_end = 0; at_end < 2; at_end++) {
        struct world *w = world_new(55);
        must_start(w);
        open_partition(w, 7);
        produce(w, 7, 10, 100);
        struct mp_shard *s = mp_shard_of(w->replica, MP_SHARD_DATA);
        s->last_index = s->commit += 3;
        if (at_end)
            idle(w, 3); /* a batch that says so covers the last one */
        else
            produce(w, 7, 2, 100);
        stop(w);
        for (int round = 0; round < 2; round++)
            refuses_to_start(w, MEMPHIS_CORRUPT,
                             at_end ? "went on to" : "misses its entries");
        refuses_to_start(w, MEMPHIS_CORRUPT, "--accept-loss");
        w->options.accept_loss = true;
        for (int round = 0; round < 3; round++) {
            must_start(w);
            assert_int_equal(w->report.lost_ranges, round == 0);
            expect_messages(w, 7, at_end ? 10 : 12);
            assert_int_equal(mp_log_last(data_log(w), 7), (at_end ? 10 : 12) + 65536);
            w->options.accept_loss = false;
            if (round == 0)
                crash(w, MP_CRASH_NOTHING);
            else
                stop(w);
        }
        world_free(w);
    }
}

/* -- files of partitions ----------------------------------------------------------- */

static void a_missing_segment_is_refused_or_accepted_once(void **state)
{
    (void)state;

    for (int n = 0; n < 8; n++) {
        struct world *w = with_history(49 + (uint64_t)n);
        struct mp_partition *p = partition_of(w, 7);
        uint32_t index = (uint32_t)n % p->segments_count;
        struct mp_segment gone = p->segments[index];
        struct mp_stored m;
        char name[32];

        stop(w);
        snprintf(name, sizeof name, "%020llu.seg", (unsigned long long)gone.first);
        remove_name(w, DIR7, name);
        refuses_to_start(w, MEMPHIS_CORRUPT, "partition 7");
        refuses_to_start(w, MEMPHIS_CORRUPT, "--accept-loss");
        w->options.accept_loss = true;
        for (int round = 0; round < 3; round++) {
            must_start(w);
            assert_int_equal(w->report.lost_ranges, round == 0);
            for (uint64_t seq = 11; seq <= 200; seq++) {
                memphis_status s = read_at(w, MP_SHARD_DATA, 7, seq, &m);
                bool is_gone = seq >= gone.first && seq <= gone.last;
                if (s == MEMPHIS_OK) {
                    assert_true(!is_gone || m.entry.seq > seq); /* dead ones there */
                    check_message(&m, 7, m.entry.seq);
                    mp_stored_release(&m);
                } else {
                    assert_int_equal(s, MEMPHIS_CORRUPT);
                    assert_true(m.entry.seq >= gone.last - 1);
                    assert_true(m.entry.seq <= gone.last + 6);
                }
                assert_true(is_gone || s == MEMPHIS_OK || seq + 6 >= gone.first);
            }
            assert_int_equal(w->groups[7], 40);
            assert_int_equal(mp_log_last(data_log(w), 7), 200 + 65536);
            w->options.accept_loss = false; /* it is told now, by WAL or files */
            if (round == 1)
                flush(w);
            if (round == 0)
                crash(w, MP_CRASH_NOTHING);
            else
                stop(w);
        }
        world_free(w);
    }
}

static void damaged_files_are_told_by_name_and_may_be_accepted(void **state)
{
    static const struct {
        const char *suffix;
        int n;
        uint64_t offset;
    } places[] = {
        { ".seg", 0, 20 },                 /* header of a sealed segment */
        { ".seg", 2, 40 },
        { "state", 0, 45 },
        { "state", 0, 10 },
    };
    (void)state;

    for (size_t i = 0; i < sizeof places / sizeof places[0]; i++) {
        struct world *w = with_history(60 + i);
        bool is_state = strcmp(places[i].suffix, "state") == 0;
        char state_name[32];
        snprintf(state_name, sizeof state_name, "state.%020llu",
                 (unsigned long long)partition_of(w, 7)->state_index);
        stop(w);
        struct nth_name x = { DIR7, is_state ? state_name : places[i].suffix,
                              places[i].n, { 0 } };
        mp_disk_each(w->disk, take_nth, &x);
        assert_true(x.name[0] != 0);
        assert_true(mp_disk_flip(w->disk, x.name, places[i].offset, 8));
        refuses_to_start(w, MEMPHIS_CORRUPT, x.name);
        w->options.accept_loss = true;
        must_start(w);
        expect_7(w, 30, MEMPHIS_OK, 30);
        assert_int_equal(w->groups[8], 2);
        expect_7(w, 200, MEMPHIS_OK, 200);
        if (is_state) { /* the next pass writes another one */
            assert_int_equal(w->groups[7], 0);
            idle(w, 1);
            w->options.accept_loss = false;
            stop(w);
            must_start(w);
            expect_7(w, 30, MEMPHIS_OK, 30);
        }
        world_free(w);
    }
}

static void nth_file(const struct world *w, struct nth_name *x)
{
    mp_disk_each(w->disk, take_nth, x);
    assert_true(x->name[0] != 0);
}

static void files_of_a_newer_release_are_refused_whatever_is_accepted(void **state)
{
    struct nth_name sealed = { .part = DIR7, .suffix = ".seg", .n = 1 };
    struct nth_name last = { .part = "s/00000002/00000008/", .suffix = ".seg" };
    struct nth_name state_file = { .part = DIR7 "/state.", .suffix = "" };
    struct world *w = with_history(51);
    (void)state;

    stop(w);
    nth_file(w, &sealed);
    nth_file(w, &last);
    nth_file(w, &state_file);
    struct {
        const char *file, *text;
        uint64_t block, at;
        size_t sealed;
        memphis_status status;
        uint8_t value;
    } cases[] = {
        { sealed.name, sealed.name, 0, 3, MP_BLOCK_SIZE, MEMPHIS_VERSION, '2' },
        { sealed.name, sealed.name, 0, 8, MP_BLOCK_SIZE, MEMPHIS_VERSION, 2 },
        { sealed.name, sealed.name, 0, 10, MP_BLOCK_SIZE, MEMPHIS_VERSION, 1 },
        { last.name, last.name, MP_BLOCK_SIZE, 8, 0, MEMPHIS_UNSUPPORTED, 6 },
        { state_file.name, state_file.name, 0, 3, 0, MEMPHIS_VERSION, '2' },
        { state_file.name, state_file.name, 0, 10, 0, MEMPHIS_VERSION, 2 },
        { state_file.name, state_file.name, 0, 40, 0, MEMPHIS_UNSUPPORTED, 99 },
        { DIR7 "/meta", DIR7 "/meta", newest_slot(w, DIR7 "/meta"), 3, MP_BLOCK_SIZE,
          MEMPHIS_VERSION, '2' },
        { "node", "'node'", newest_slot(w, "node"), 3, MP_BLOCK_SIZE, MEMPHIS_VERSION,
          '2' },
        { "node", "newer", newest_slot(w, "node"), 76, MP_BLOCK_SIZE, MEMPHIS_VERSION,
          3 },
        { "node", "shard 9", newest_slot(w, "node"), 128, MP_BLOCK_SIZE,
          MEMPHIS_VERSION, 9 },
    };
    struct mp_disk *before = w->disk;
    for (size_t i = 0; i < 2 * sizeof cases / sizeof cases[0]; i++) {
        size_t length = cases[i / 2].sealed;
        w->disk = mp_disk_clone(before);
        if (cases[i / 2].block == MP_BLOCK_SIZE && length == 0) /* of its first entry */
            length = mp_entry_size(&(struct mp_entry){ .payload = { "", 100 } });
        set_byte(w, cases[i / 2].file, cases[i / 2].block, cases[i / 2].at,
                 cases[i / 2].value, length);
        w->options.accept_loss = i % 2 == 1;
        refuses_to_start(w, cases[i / 2].status, cases[i / 2].text);
        mp_disk_free(w->disk);
    }
    w->disk = before;
    w->options.accept_loss = false;
    must_start(w);
    expect_history(w);
    world_free(w);
}

static void a_log_of_a_shard_that_is_not_known_is_refused(void **state)
{
    struct world *w = world_new(52);
    (void)state;

    must_start(w);
    mp_shard_of(w->replica, MP_SHARD_MEMORY)->in_memory = false; /* of tomorrow */
    assert_int_equal(change(w, MP_SHARD_MEMORY, 7, 1), MEMPHIS_OK);
    settle(w);
    stop(w);
    for (int accept_loss = 0; accept_loss < 2; accept_loss++) {
        w->options.accept_loss = accept_loss;
        refuses_to_start(w, MEMPHIS_VERSION, "shard 3");
    }
    world_free(w);
}

static void a_missing_state_file_is_told_by_name(void **state)
{
    struct world *w = with_history(65);
    char name[32];
    (void)state;

    snprintf(name, sizeof name, "state.%020llu",
             (unsigned long long)partition_of(w, 7)->state_index);
    stop(w);
    remove_name(w, DIR7, name);
    refuses_to_start(w, MEMPHIS_CORRUPT, name);
    refuses_to_start(w, MEMPHIS_CORRUPT, name);
    world_free(w);
}

static void an_old_slot_of_a_partition_is_not_taken_for_the_newest(void **state)
{
    (void)state;

    for (int has_state = 0; has_state < 2; has_state++) {
        struct world *w = world_new(67);
        must_start(w);
        open_partition(w, 7);
        open_partition(w, 8);
        produce(w, 7, 10, 1000);
        flush(w);
        if (has_state)
            assert_int_equal(progress(w, 7, 1), MEMPHIS_OK);
        produce(w, 7, has_state ? 1 : 60, 1000);
        flush(w);
        produce(w, 8, 300, 1000); /* the WAL files go that told the same */
        idle(w, 2);
        stop(w);
        int files = count_files(w, DIR7, "");
        rot_newest_slot(w, DIR7 "/meta");
        refuses_to_start(w, MEMPHIS_CORRUPT, DIR7 "/meta");
        refuses_to_start(w, MEMPHIS_CORRUPT, DIR7 "/meta");
        assert_int_equal(count_files(w, DIR7, ""), files);
        w->options.accept_loss = true; /* what it does not know is found */
        must_start(w);
        w->options.accept_loss = false;
        for (int round = 0; round < 3; round++) {
            expect_messages(w, 7, has_state ? 11 : 70);
            assert_int_equal(w->groups[7], has_state);
            assert_true(mp_log_last(data_log(w), 7) > 65536);
            if (round == 1)
                flush(w);
            crash(w, MP_CRASH_NOTHING);
            must_start(w);
        }
        world_free(w);
    }
}

static void a_partition_whose_files_are_all_gone_is_told_by_name(void **state)
{
    struct world *w = with_history(68);
    struct mp_env *e;
    memphis_error err = { 0 };
    (void)state;

    stop(w);
    e = mp_env_mem_open(w->disk, NULL);
    assert_int_equal(mp_flush_remove(e, 2, 7, &err), MEMPHIS_OK);
    assert_int_equal(e->dir_sync(e, "s/00000002", NULL), MEMPHIS_OK);
    e->close(e);
    refuses_to_start(w, MEMPHIS_CORRUPT, DIR7);
    w->options.accept_loss = true;
    must_start(w);
    expect_range(w, 8, 1, 30);
    assert_true(mp_log_last(data_log(w), 7) >= 65536); /* no sequence twice */
    idle(w, 1);
    w->options.accept_loss = false;
    stop(w);
    must_start(w);
    expect_range(w, 8, 1, 30);
    world_free(w);
}

/* Its empty entries would fill the memory, and the next index would be none. */
static void a_slot_that_is_far_ahead_of_the_log_is_told_by_name(void **state)
{
    (void)state;

    for (int loses_log = 0; loses_log < 2; loses_log++) {
        struct world *w = with_history(69);
        struct nth_name file = { "wal/", ".wal", 0, { 0 } };
        stop(w);
        set_byte(w, DIR7 "/meta", newest_slot(w, DIR7 "/meta"), loses_log ? 39 : 34,
                 loses_log ? 255 : 2, MP_BLOCK_SIZE);
        if (loses_log) {
            nth_file(w, &file);
            remove_name(w, "wal", file.name + 4);
        }
        for (int accept_loss = loses_log; accept_loss < 2; accept_loss++) {
            w->options.accept_loss = accept_loss;
            refuses_to_start(w, MEMPHIS_CORRUPT, "the files of partition 7 know");
            refuses_to_start(w, MEMPHIS_CORRUPT, "remove 'meta'");
        }
        remove_name(w, DIR7, "meta"); /* and that helps */
        for (int round = 0; round < 2; round++) {
            must_start(w);
            expect_7(w, 11, MEMPHIS_OK, 11);
            expect_7(w, 200, MEMPHIS_OK, 200);
            expect_range(w, 8, 1, 30);
            w->options.accept_loss = false;
            stop(w);
        }
        must_start(w);
        world_free(w);
    }
}

/* -- other syncs ------------------------------------------------------------------- */

/* With sync: interval or none the files of a pass must not be ahead of the WAL: entries
 * that come after a crash would be taken for known ones. */
static void files_are_never_ahead_of_the_wal(void **state)
{
    (void)state;

    for (uint32_t sync = MP_SYNC_INTERVAL; sync <= MP_SYNC_NONE; sync++) {
        struct world *w = world_new(70 + sync);
        w->options.sync = sync;
        w->options.sync_interval_ms = 3600000;
        must_start(w);
        open_partition(w, 7);
        open_partition(w, 8);
        produce(w, 7, 10, 100);
        produce(w, 8, 10, 100);
        flush(w);
        crash(w, MP_CRASH_NOTHING);
        must_start(w);
        expect_range(w, 7, 1, 10);
        w->next[7] = 11;
        produce(w, 7, 1, 100);
        flush(w);
        crash(w, MP_CRASH_NOTHING);
        must_start(w);
        expect_range(w, 7, 1, 11);
        drop_partition(w, 8);
        settle(w);
        idle(w, 1); /* removes its files: the drop must be on disk before */
        crash(w, MP_CRASH_NAMES_ONLY);
        must_start(w);
        assert_null(partition_of(w, 8));
        expect_range(w, 7, 1, 11);
        world_free(w);
    }
}

/* -- faults ------------------------------------------------------------------------ */

/* A start that cannot read or write something says so, harms nothing, leaks nothing. */
static void a_start_may_fail_at_each_operation(void **state)
{
    (void)state;

    for (int op = 0; op < MP_DISK_OPS; op++) {
        for (uint64_t n = 1; n < 200; n++) {
            struct world *w = with_history(80);
            memphis_error err = { 0 };
            produce(w, 7, 3, 1000);
            crash(w, MP_CRASH_NOTHING);
            mp_disk_fail(w->disk, (enum mp_disk_op)op, n,
                         op == MP_DISK_WRITE && n % 2 ? MEMPHIS_NO_SPACE : MEMPHIS_IO,
                         false);
            memphis_status s = start(w, &err);
            mp_disk_heal(w->disk);
            if (s != MEMPHIS_OK) {
                assert_true(s != MEMPHIS_IO || strstr(err.message, "check the disk") ||
                            strstr(err.message, "restore"));
                stop(w);
                must_start(w);
            }
            expect_7(w, 203, MEMPHIS_OK, 203);
            expect_7(w, 11, MEMPHIS_OK, 11);
            expect_range(w, 8, 1, 30);
            assert_int_equal(w->groups[7], 40);
            world_free(w);
            if (s == MEMPHIS_OK)
                break;
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        leak_checked(a_start_finds_what_was_flushed_after_any_end),
        leak_checked(what_came_after_the_flush_is_replayed_on_top),
        leak_checked(the_table_of_partitions_comes_back),
        leak_checked(message_ids_of_the_window_are_told_again),
        leak_checked(a_directory_that_is_half_removed_is_nobodys_and_goes),
        leak_checked(a_replay_larger_than_memory_is_flushed_on_the_way),
        leak_checked(a_start_that_flushes_after_a_clean_stop_may_be_killed),
        leak_checked(a_replay_larger_than_memory_does_not_cover_damage),
        leak_checked(wal_files_that_were_given_back_are_left_overs_when_they_return),
        leak_checked(a_missing_wal_file_is_told_by_name),
        leak_checked(what_a_start_has_dropped_does_not_replace_what_came_later),
        leak_checked(a_log_without_some_of_its_entries_is_refused_or_accepted),
        leak_checked(a_missing_segment_is_refused_or_accepted_once),
        leak_checked(damaged_files_are_told_by_name_and_may_be_accepted),
        leak_checked(files_of_a_newer_release_are_refused_whatever_is_accepted),
        leak_checked(a_log_of_a_shard_that_is_not_known_is_refused),
        leak_checked(a_missing_state_file_is_told_by_name),
        leak_checked(an_old_slot_of_a_partition_is_not_taken_for_the_newest),
        leak_checked(a_partition_whose_files_are_all_gone_is_told_by_name),
        leak_checked(a_slot_that_is_far_ahead_of_the_log_is_told_by_name),
        leak_checked(files_are_never_ahead_of_the_wal),
        leak_checked(a_start_may_fail_at_each_operation),
    };

    return run_tests("replica/start", tests);
}
