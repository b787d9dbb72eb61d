/* Starts that accept a loss: what is kept, what is told, and what is not asked again.
 */
#include "unit/replica/history.h"

/* -- WAL files --------------------------------------------------------------------- */

/* A log of several files, the first of which is not the first one ever. */
static struct world *with_files(bool slots_are_ahead)
{
    struct world *w = world_new(90);

    w->options.memory_max = 64 << 20; /* nothing is given back by itself */
    w->options.wal_total_max = 64 << 20;
    must_start(w);
    open_partition(w, 7);
    open_partition(w, 8);
    produce(w, 7, 20, 1000);
    produce(w, 8, 20, 1000);
    flush(w);
    idle(w, 1);
    assert_true(w->replica->node.wal_first > 0);
    produce(w, 7, 100, 1000);
    crash(w, MP_CRASH_NOTHING);
    must_start(w); /* what it settles must not excuse what is missed later */
    produce(w, 7, 100, 1000);
    stop(w);
    if (slots_are_ahead) { /* of `node`: a pass in the midst of a replay */
        w->options.memory_max = 256 << 10;
        must_start(w);
        w->options.memory_max = 64 << 20;
        assert_true(partition_of(w, 7)->flushed_index >
                    w->replica->node.items[1].base_index);
        stop(w);
    }
    return w;
}

/* Starts as often as the flag is not needed any more, and goes on in between. */
static void expect_life_after_loss(struct world *w)
{
    w->options.accept_loss = true;
    must_start(w);
    w->options.accept_loss = false;
    assert_true(w->report.lost_ranges > 0);
    uint64_t last = mp_log_last(data_log(w), 7);
    assert_true(last > 65536); /* no sequence twice */
    w->next[7] = last + 1;
    for (int round = 0; round < 4; round++) {
        produce(w, 7, 1, 500);
        if (round == 2)
            flush(w);
        crash(w, round == 1 ? MP_CRASH_PROCESS : MP_CRASH_NOTHING);
        must_start(w);
        assert_int_equal(w->report.lost_ranges, 0);
        for (int i = 0; i <= round; i++)
            expect_7(w, last + 1 + (uint64_t)i, MEMPHIS_OK, last + 1 + (uint64_t)i);
        expect_7(w, 20, MEMPHIS_OK, 20);
        expect_range(w, 8, 1, 20);
    }
}

/* The first and the last one, too: refused, told, and not asked for again. */
static void any_missing_wal_file_is_accepted_once(void **state)
{
    (void)state;

    for (int n = 0;; n++) {
        struct world *w = with_files(false);
        struct nth_name file = { "wal/", ".wal", n, { 0 } };
        mp_disk_each(w->disk, take_nth, &file);
        int left = count_files(w, "wal/", ".wal");
        if (n == left) {
            assert_true(n >= 5);
            world_free(w);
            return;
        }
        remove_name(w, "wal", file.name + 4);
        for (int round = 0; round < 2; round++)
            refuses_to_start(w, MEMPHIS_CORRUPT, "WAL file is missing: from LSN");
        assert_int_equal(count_files(w, "wal/", ".wal"), left - 1);
        expect_life_after_loss(w);
        world_free(w);
    }
}

/* Many messages in one record behind the hole: only those before them are lost. */
static void a_lost_wal_file_costs_what_was_in_it(void **state)
{
    struct world *w = with_files(false);
    struct nth_name file = { "wal/", ".wal", 2, { 0 } };
    struct mp_stored m;
    uint64_t lost = 0;
    (void)state;

    mp_disk_each(w->disk, take_nth, &file);
    remove_name(w, "wal", file.name + 4);
    w->options.accept_loss = true;
    must_start(w);
    for (uint64_t seq = 1; seq <= 220; seq++) {
        if (read_at(w, MP_SHARD_DATA, 7, seq, &m) == MEMPHIS_OK) {
            check_message(&m, 7, seq);
            mp_stored_release(&m);
        } else {
            lost++;
        }
    }
    assert_true(lost > 10 && lost * 1000 < 64 << 10);
    world_free(w);
}

/* What opened a partition was in the file that is lost: the metadata knows it, and what
 * verifies is served, at the next start as well. */
static void messages_whose_open_entry_is_lost_are_kept(void **state)
{
    (void)state;

    for (int known = 0; known < 2; known++) {
        struct world *w = world_new(91);
        struct mp_stored m;
        w->options.memory_max = 64 << 20;
        w->options.wal_total_max = 64 << 20;
        must_start(w);
        open_partition(w, 7);
        produce(w, 7, 200, 1000);
        open_partition(w, 8);
        produce(w, 8, 10, 1000);
        stop(w);
        char name[MP_WAL_NAME_SIZE];
        mp_wal_name(0, name);
        remove_name(w, "wal", name + 4);
        refuses_to_start(w, MEMPHIS_CORRUPT, "WAL file is missing");
        w->is_known[7] = w->is_known[8] = known > 0;
        w->options.accept_loss = true;
        must_start(w);
        w->options.accept_loss = false;
        for (int round = 0; round < 3; round++) {
            assert_int_equal(w->is_open[7], known);
            if (known) {
                assert_int_equal(read_at(w, MP_SHARD_DATA, 7, 1, &m), MEMPHIS_CORRUPT);
                uint64_t first = m.entry.seq + 1;
                assert_true(first > 10 && first < 100);
                for (uint64_t seq = first; seq <= 200; seq++)
                    expect_7(w, seq, MEMPHIS_OK, seq);
                assert_true(mp_log_last(data_log(w), 7) >= 200 + 65536);
            }
            expect_messages(w, 8, 10);
            crash(w, MP_CRASH_NOTHING);
            must_start(w);
            assert_int_equal(w->report.lost_ranges, 0);
        }
        world_free(w);
    }
}

/* Nothing but the flag: every message is there, and the next start does not ask. */
static void a_damaged_wal_header_is_accepted_once(void **state)
{
    (void)state;

    for (int n = 0;; n++) {
        struct world *w = with_files(false);
        struct nth_name file = { "wal/", ".wal", n, { 0 } };
        mp_disk_each(w->disk, take_nth, &file);
        if (n == count_files(w, "wal/", ".wal")) {
            assert_true(n >= 5);
            world_free(w);
            return;
        }
        assert_true(mp_disk_flip(w->disk, file.name, 17, 1));
        refuses_to_start(w, MEMPHIS_CORRUPT, file.name);
        expect_life_after_loss(w);
        for (uint64_t seq = 1; seq <= 220; seq++)
            expect_7(w, seq, MEMPHIS_OK, seq);
        world_free(w);
    }
}

/* The log goes on above all that `node`, slots and files have seen of it. */
static void a_log_that_is_gone_is_accepted_once(void **state)
{
    (void)state;

    for (int ahead = 0; ahead < 2; ahead++) {
        struct world *w = with_files(ahead > 0);
        while (count_files(w, "wal/", ".wal") > 0) {
            struct nth_name file = { "wal/", ".wal", 0, { 0 } };
            mp_disk_each(w->disk, take_nth, &file);
            remove_name(w, "wal", file.name + 4);
        }
        for (int round = 0; round < 2; round++)
            refuses_to_start(w, MEMPHIS_CORRUPT, "no WAL file");
        expect_life_after_loss(w);
        world_free(w);
    }
}

/* -- files of partitions ----------------------------------------------------------- */

static void damage_files(struct world *w, int how, const char *name, uint64_t footer)
{
    if (how == 0)
        assert_true(mp_disk_flip(w->disk, name, 20, 1));
    if (how == 1)
        assert_true(mp_disk_flip(w->disk, name, footer, 1));
    if (how == 2) { /* both, and both slots */
        assert_true(mp_disk_flip(w->disk, name, 20, 1));
        rot_newest_slot(w, DIR7 "/meta");
        wipe_newest_slot(w, DIR7 "/meta");
    }
    if (how == 3)
        rot_newest_slot(w, DIR7 "/meta");
    if (how == 4 || how == 6) {
        assert_true(mp_disk_flip(w->disk, DIR7 "/meta", 70, 1));
        assert_true(mp_disk_flip(w->disk, DIR7 "/meta", MP_BLOCK_SIZE + 70, 1));
    }
    if (how == 5 || how == 7)
        remove_name(w, DIR7, "meta");
}

/* Headers, footers, slots, whatever tells about messages may rot: they are kept, the
 * groups with them, and the next start does not ask. */
static void what_tells_of_messages_may_be_lost_without_them(void **state)
{
    (void)state;

    for (int how = 0; how < 8; how++) {
        struct world *w = with_history(95);
        struct mp_partition *p = partition_of(w, 7);
        char name[96];
        uint64_t footer = mp_block_up(p->segments[1].length) + 20;
        assert_true(p->segments_count > 3);
        if (how == 6 || how == 7) { /* the WAL knows something that is newer */
            produce(w, 7, 3, 1000);
            assert_int_equal(progress(w, 7, 2), MEMPHIS_OK);
            settle(w);
        }
        uint64_t last = how >= 6 ? 203 : 200,
                 first = p->segments[how % 2 ? 1 : 2].first;
        snprintf(name, sizeof name, DIR7 "/%020llu.seg", (unsigned long long)first);
        int segments = count_files(w, DIR7, ".seg");
        stop(w);
        damage_files(w, how, name, footer);
        memphis_error err = { 0 };
        memphis_status s = start(w, &err);
        stop(w);
        if (s == MEMPHIS_OK) { /* the slot before told the same */
            world_free(w);
            continue;
        }
        assert_int_equal(s, MEMPHIS_CORRUPT);
        if (strstr(err.message, "00000007") == NULL)
            fail_msg("'%s' does not name it", err.message);
        w->options.accept_loss = true;
        must_start(w);
        w->options.accept_loss = false;
        for (int round = 0; round < 4; round++) {
            for (uint64_t seq = 30; seq <= last; seq++)
                expect_7(w, seq, MEMPHIS_OK, seq == 195 || seq == 196 ? 197 : seq);
            assert_int_equal(w->groups[7], how >= 6 ? 42 : 40);
            assert_int_equal(w->groups[8], 2);
            expect_messages(w, 8, 30);
            assert_true(count_files(w, DIR7, ".seg") >= segments);
            if (round == 0) {
                w->next[7] = mp_log_last(data_log(w), 7) + 1;
                assert_true(w->next[7] > last);
            }
            if (round < 2)
                produce(w, 7, 30, 1000);
            if (round == 1)
                flush(w);
            if (round % 2 == 0)
                crash(w, MP_CRASH_NOTHING);
            else
                stop(w);
            must_start(w);
            expect_7(w, w->next[7] - 1, MEMPHIS_OK, w->next[7] - 1);
        }
        world_free(w);
    }
}

static void damage_table(struct world *w, int how, const char *name)
{
    if (how == 0)
        rot_newest_slot(w, TABLE "/meta");
    if (how == 1)
        remove_name(w, TABLE, "meta");
    if (how == 2)
        rot_newest_slot(w, TABLE "/meta");
    if (how == 3)
        remove_name(w, TABLE, name);
    if (how == 4) {
        rot_newest_slot(w, TABLE "/meta");
        remove_name(w, TABLE, name); /* nothing but partition 9 itself tells */
    }
    if (how == 5) {
        wipe_newest_slot(w, TABLE "/meta");
        remove_name(w, TABLE, name);
    }
}

/* Whoever the metadata knows goes on with all he has; nobody's files are let be. */
static void read_block(struct world *w, const char *name, uint8_t block[MP_BLOCK_SIZE])
{
    struct mp_env *e = mp_env_mem_open(w->disk, NULL);
    struct mp_file *f = NULL;
    size_t got = 0;

    assert_int_equal(e->file_open(e, name, MP_FILE_READ, &f, NULL), MEMPHIS_OK);
    assert_int_equal(e->file_read(e, f, 0, block, MP_BLOCK_SIZE, &got, NULL), 0);
    assert_int_equal(got, MP_BLOCK_SIZE);
    e->file_close(e, f);
    e->close(e);
}

/* A repair makes headers anew that say nothing, and leaves the others as they are, also
 * those that only a newer release can read. */
static void a_repair_leaves_good_headers_as_they_are(void **state)
{
    (void)state;

    for (int newer = 0; newer < 2; newer++) {
        struct world *w = with_history(67);
        struct nth_name file = { .part = DIR7, .suffix = ".seg", .n = 1 };
        uint8_t before[MP_BLOCK_SIZE], after[MP_BLOCK_SIZE];
        stop(w);
        mp_disk_each(w->disk, take_nth, &file);
        assert_true(file.name[0] != 0);
        if (newer > 0)
            set_byte(w, file.name, 0, 3, '2', MP_BLOCK_SIZE);
        remove_name(w, DIR7, "meta");
        read_block(w, file.name, before);
        w->options.accept_loss = true;
        if (newer > 0) {
            refuses_to_start(w, MEMPHIS_VERSION, file.name);
        } else {
            must_start(w);
            expect_7(w, 30, MEMPHIS_OK, 30);
        }
        read_block(w, file.name, after);
        assert_memory_equal(after, before, MP_BLOCK_SIZE);
        world_free(w);
    }
}

static void a_damaged_table_of_partitions_costs_nobody_his_files(void **state)
{
    (void)state;

    for (int round = 0; round < 12; round++) {
        struct world *w = with_history(66);
        int how = round % 6;
        bool is_known = round < 6; /* by the metadata */
        char name[32];
        int files = 0;
        if (how == 5) { /* a table of none */
            drop_partition(w, 7);
            drop_partition(w, 8);
            flush(w);
        }
        if (how >= 2) { /* a partition that an older table does not know */
            open_partition(w, 9);
            produce(w, 9, 200, 1000);
            flush(w);
        }
        snprintf(name, sizeof name, "state.%020llu",
                 (unsigned long long)partition_of(w, 0)->state_index);
        stop(w);
        files = count_files(w, "s/00000002/0000000", "");
        damage_table(w, how, name);
        refuses_to_start(w, MEMPHIS_CORRUPT, TABLE);
        refuses_to_start(w, MEMPHIS_CORRUPT, TABLE);
        assert_int_equal(count_files(w, "s/00000002/0000000", ""), files);
        int segments = count_files(w, "s/00000002/0000000", ".seg");
        int states = count_states(w);
        w->is_known[7] = w->is_known[8] = is_known && how != 5;
        w->is_known[9] = is_known && how >= 2;
        w->options.accept_loss = true;
        must_start(w);
        assert_true(w->report.lost_ranges > 0);
        w->options.accept_loss = false;
        for (int i = 0; i < 4; i++) {
            if (is_known && how != 5) {
                expect_7(w, 30, MEMPHIS_OK, 30);
                expect_7(w, 200, MEMPHIS_OK, 200);
                expect_messages(w, 8, 30);
                assert_int_equal(w->groups[7], 40);
                assert_int_equal(w->groups[8], 2);
                assert_true(mp_log_last(data_log(w), 7) >= 200);
            }
            if (is_known && how >= 2)
                expect_messages(w, 9, 200);
            if (i > 0 && how != 5) { /* what nobody had asked for was kept */
                assert_int_equal(w->groups[7], 40);
                assert_int_equal(w->groups[8], 2);
            }
            assert_true(count_files(w, "s/00000002/0000000", ".seg") >= segments);
            assert_true(count_states(w) >= states);
            if (i == 2)
                idle(w, 3);
            if (i % 2 == 0)
                crash(w, MP_CRASH_NOTHING);
            else
                stop(w);
            must_start(w); /* without the flag */
            assert_int_equal(w->report.lost_ranges, 0);
        }
        world_free(w);
    }
}

static void lose_directory_7(struct world *w)
{
    for (;;) {
        struct nth_name file = { DIR7 "/", "", 0, { 0 } };
        mp_disk_each(w->disk, take_nth, &file);
        if (file.name[0] == 0)
            return;
        remove_name(w, DIR7, file.name + sizeof DIR7);
    }
}

/* However long its history was: what the log still has of it counts. */
static void a_lost_directory_may_have_told_of_any_number_of_messages(void **state)
{
    const uint64_t many = 1ull << 28;
    (void)state;

    for (int skips = 0; skips < 2; skips++) { /* the log begins with a skip, or not */
        struct world *w = world_new(98);
        uint8_t range[16];
        struct mp_stored m;
        must_start(w);
        open_partition(w, 7);
        open_partition(w, 8);
        produce(w, 7, 20, 100);
        flush(w);
        stop(w);
        must_start(w); /* nothing of it is in memory */
        struct mp_entry skip = { .type = MP_ENTRY_SKIP, .pid = 7, .seq = 21,
                                 .payload = { range + 8, 8 } };
        for (; skip.seq < many; skip.seq += 1 << 25) {
            mp_damage_payload(skip.seq, skip.seq + (1 << 25) - 1, range);
            assert_int_equal(append(w, MP_SHARD_DATA, &skip), MEMPHIS_OK);
        }
        w->next[7] = skip.seq;
        produce(w, 7, 20, 100);
        produce(w, 8, 20, 1000);
        flush(w);
        idle(w, 1);
        produce(w, 8, 100, 1000);
        flush(w);
        idle(w, 1);
        if (skips > 0) {
            skip.seq = w->next[7];
            mp_damage_payload(skip.seq, skip.seq + 9, range);
            assert_int_equal(append(w, MP_SHARD_DATA, &skip), MEMPHIS_OK);
            w->next[7] += 10;
        }
        uint64_t first = w->next[7];
        produce(w, 7, 5, 100);
        stop(w);
        lose_directory_7(w);
        refuses_to_start(w, MEMPHIS_CORRUPT, "damaged or unreadable: restore it");
        w->options.accept_loss = true;
        must_start(w);
        w->options.accept_loss = false;
        for (int round = 0; round < 3; round++) {
            assert_int_equal(read_at(w, MP_SHARD_DATA, 7, 1, &m), MEMPHIS_OK);
            check_message(&m, 7, first);
            mp_stored_release(&m);
            for (uint64_t seq = first; seq < first + 5; seq++)
                expect_7(w, seq, MEMPHIS_OK, seq);
            expect_range(w, 8, 1, 120);
            crash(w, MP_CRASH_NOTHING);
            must_start(w);
            assert_int_equal(w->report.lost_ranges, 0);
        }
        world_free(w);
    }
}

struct pick {
    uint64_t left; /* bytes of files until the one that is hit */
    char name[96];
    uint64_t offset, bytes; /* of all of them */
};

static void pick_byte(void *ctx, const char *name, uint64_t size)
{
    struct pick *p = ctx;

    if (strncmp(name, "LOCK", 4) == 0 || strncmp(name, "node", 4) == 0)
        return;
    p->bytes += size;
    if (p->name[0] == 0 && p->left < size) {
        snprintf(p->name, sizeof p->name, "%s", name);
        p->offset = p->left;
    }
    p->left -= p->left < size ? 0 : size;
}

/* Of all that a disk holds: it costs a message at most, and is asked for once. */
static void a_flipped_bit_anywhere_costs_one_message(void **state)
{
    (void)state;

    for (uint64_t n = 0; n < 400; n++) {
        struct world *w = with_history(97);
        struct pick all = { .left = UINT64_MAX }, one = { .left = 0 };
        memphis_error err = { 0 };
        struct mp_stored m;
        uint64_t lost = 0;
        w->is_known[7] = w->is_known[8] = true;
        produce(w, 7, 20, 1000);
        if (n % 2 == 0)
            crash(w, MP_CRASH_NOTHING);
        else
            stop(w);
        mp_disk_each(w->disk, pick_byte, &all);
        one.left = n * 7919 * 104729 % all.bytes;
        if (n % 4 >= 2)
            one.left = one.left / MP_BLOCK_SIZE * MP_BLOCK_SIZE + n % 64; /* headers */
        mp_disk_each(w->disk, pick_byte, &one);
        assert_true(
            mp_disk_flip(w->disk, one.name, one.offset, (uint8_t)(1u << n % 8)));
        bool is_state = strstr(one.name, "state") != NULL;
        memphis_status s = start(w, &err);
        if (s != MEMPHIS_OK) {
            if (s == MEMPHIS_VERSION) {
                world_free(w);
                continue;
            }
            assert_int_equal(s, MEMPHIS_CORRUPT);
            stop(w);
            w->options.accept_loss = true;
            must_start(w);
            w->options.accept_loss = false;
        }
        for (int round = 0; round < 2; round++, lost = 0) {
            for (uint64_t seq = 11; seq <= 220; seq++) {
                bool is_dead = (seq >= 20 && seq < 25) || seq == 195 || seq == 196;
                if (read_at(w, MP_SHARD_DATA, 7, seq, &m) == MEMPHIS_OK) {
                    lost += m.entry.seq != seq && !is_dead;
                    check_message(&m, 7, m.entry.seq);
                    mp_stored_release(&m);
                } else {
                    lost += !is_dead;
                }
            }
            /* A damaged record of the log may hold a few. */
            if (lost > (strncmp(one.name, "wal/", 4) == 0 ? 8 : 1))
                fail_msg("'%s' at %llu: %llu messages", one.name,
                         (unsigned long long)one.offset, (unsigned long long)lost);
            if (!is_state && w->groups[7] != 40)
                fail_msg("'%s' at %llu: the group", one.name,
                         (unsigned long long)one.offset);
            crash(w, MP_CRASH_NOTHING);
            must_start(w);
        }
        world_free(w);
    }
}

/* Of `node` the other slot is as good, but for what is done once more. */
static void a_start_needs_one_slot_of_node_that_can_be_read(void **state)
{
    (void)state;

    for (uint64_t n = 0; n < 4; n++) {
        struct world *w = world_new(96);
        w->options.memory_max = 64 << 20; /* no WAL file is given back */
        w->options.wal_total_max = 64 << 20;
        must_start(w);
        open_partition(w, 7);
        stop(w); /* both slots are written */
        must_start(w);
        produce(w, 7, 100, 1000);
        if (n % 2 == 0)
            stop(w);
        else
            crash(w, MP_CRASH_NOTHING);
        mp_disk_fail(w->disk, MP_DISK_READ, 1 + n / 2, MEMPHIS_IO, false);
        must_start(w);
        assert_int_equal(w->report.lost_ranges, 0);
        expect_range(w, 7, 1, 100);
        produce(w, 7, 10, 1000);
        stop(w);
        must_start(w);
        expect_range(w, 7, 1, 110);
        stop(w);
        mp_disk_fail(w->disk, MP_DISK_READ, 1, MEMPHIS_IO, true);
        memphis_error err = { 0 };
        assert_int_not_equal(start(w, &err), MEMPHIS_OK);
        stop(w);
        mp_disk_heal(w->disk);
        must_start(w);
        expect_range(w, 7, 1, 110);
        world_free(w);
    }
}

/* The newest batch is damaged: it must not be taken for a torn one by the start after
 * that, which would give its sequences again. */
static void a_crash_does_not_make_a_damaged_end_a_torn_one(void **state)
{
    bool crashed = true;
    (void)state;

    for (uint64_t n = 1; crashed; n++) {
        struct world *w = world_new(95);
        memphis_error err = { 0 };
        char name[MP_WAL_NAME_SIZE];
        must_start(w);
        open_partition(w, 7);
        produce(w, 7, 3, 100);
        settle(w);
        produce(w, 7, 1, 100);
        settle(w);
        uint64_t base = mp_wal_file_base(w->replica->wal);
        uint64_t at = mp_wal_durable_upto(w->replica->wal) - MP_BLOCK_SIZE + 300;
        stop(w);
        mp_wal_name(base, name);
        assert_true(mp_disk_flip(w->disk, name, at - base, 1));
        w->options.accept_loss = true;
        mp_disk_crash_at(w->disk, n);
        (void)start(w, &err);
        crashed = mp_disk_has_crashed(w->disk);
        crash(w, MP_CRASH_EVERYTHING);
        must_start(w);
        if (mp_log_last(data_log(w), 7) < 65536)
            fail_msg("operation %d: %d comes again", (int)n,
                     (int)mp_log_last(data_log(w), 7) + 1);
        world_free(w);
    }
}

static uint32_t readable(struct world *w, uint32_t pid, uint64_t last)
{
    struct mp_stored m;
    uint32_t bits = 0;

    for (uint64_t seq = 1; seq <= last; seq++)
        if (read_at(w, MP_SHARD_DATA, pid, seq, &m) == MEMPHIS_OK) {
            bits |= (uint32_t)(m.entry.seq == seq) << seq;
            mp_stored_release(&m);
        }
    return bits;
}

/* The log that had them is lost, and no slot names the segment. */
static void what_an_interrupted_pass_has_left_is_kept_for_good(void **state)
{
    bool crashed = true;
    uint32_t kept = 0;
    (void)state;

    for (uint64_t n = 1; crashed; n++) {
        struct world *w = world_new(94);
        char name[MP_WAL_NAME_SIZE];
        must_start(w);
        open_partition(w, 7);
        produce(w, 7, 20, 1000);
        settle(w);
        mp_disk_crash_at(w->disk, n);
        w->replica->wants_flush = true;
        settle(w);
        crashed = mp_disk_has_crashed(w->disk);
        stop(w);
        mp_disk_crash(w->disk, MP_CRASH_EVERYTHING, 1);
        must_start(w);
        mp_wal_name(w->replica->spans[0].base, name);
        stop(w);
        remove_name(w, "wal", name + 4);
        w->is_known[7] = true;
        w->options.accept_loss = true;
        must_start(w);
        w->options.accept_loss = false;
        uint32_t bits = readable(w, 7, 20);
        kept |= bits;
        for (int round = 0; round < 2; round++) {
            crash(w, MP_CRASH_NOTHING);
            must_start(w);
            assert_int_equal(readable(w, 7, 20), bits);
        }
        world_free(w);
    }
    assert_true(kept > 0);
}

/* Letters as well, which are messages of partition 0, in 'dls' behind all the others: a
 * pass that was torn has left some in a segment, and the log has all of them. */
static void what_the_log_has_of_letters_counts_before_a_torn_segment(void **state)
{
    bool crashed = true;
    int rebuilt = 0;
    (void)state;

    for (uint64_t n = 1; crashed; n++) {
        for (uint64_t seed = 1; seed <= 4; seed++) {
            struct world *w = world_new(100);
            struct nth_name file = { "wal/", ".wal", 0, { 0 } };
            must_start(w);
            for (uint32_t pid = 7; pid < 12; pid++) {
                open_partition(w, pid);
                produce(w, pid, 3, 200);
            }
            produce(w, 0, 20, 300);
            settle(w);
            mp_disk_crash_at(w->disk, n);
            w->replica->wants_flush = true;
            settle(w);
            crashed = mp_disk_has_crashed(w->disk);
            stop(w);
            mp_disk_crash(w->disk, MP_CRASH_SECTORS, seed);
            mp_disk_each(w->disk, take_nth, &file); /* it costs partition 7 some */
            assert_true(mp_disk_flip(w->disk, file.name, 2 * MP_BLOCK_SIZE + 500, 1));
            w->options.accept_loss = true;
            must_start(w);
            rebuilt += partition_of(w, 0)->is_rebuilt;
            if (readable(w, 0, 20) != 0x1ffffe)
                fail_msg("operation %d: letters %x", (int)n, readable(w, 0, 20));
            world_free(w);
        }
    }
    assert_true(rebuilt > 0);
}

/* What it has written to files may be ahead of the log then: nobody misses entries. */
static void an_accepting_start_may_be_crashed_anywhere(void **state)
{
    bool crashed = true;
    (void)state;

    for (uint64_t n = 1; crashed; n++) {
        struct world *w = world_new(93);
        struct nth_name file = { DIR7, ".seg", 0, { 0 } };
        memphis_error err = { 0 };
        must_start(w);
        open_partition(w, 7);
        open_partition(w, 8);
        produce(w, 7, 200, 1000);
        produce(w, 8, 30, 1000);
        flush(w);
        idle(w, 1);
        stop(w);
        mp_disk_each(w->disk, take_nth, &file);
        remove_name(w, DIR7, file.name + sizeof DIR7);
        w->options.accept_loss = true;
        mp_disk_crash_at(w->disk, n);
        (void)start(w, &err);
        crashed = mp_disk_has_crashed(w->disk);
        crash(w, n % 2 ? MP_CRASH_EVERYTHING : MP_CRASH_NOTHING);
        must_start(w);
        w->options.accept_loss = false;
        for (int round = 0; round < 3; round++) {
            expect_range(w, 8, 1, 30);
            w->next[7] = mp_log_last(data_log(w), 7) + 1;
            produce(w, 7, 1, 500);
            crash(w, MP_CRASH_NOTHING);
            must_start(w);
        }
        world_free(w);
    }
}

/* Nor by what the replay flushes on its way when it is larger than memory: a segment
 * without a slot would be taken for all that there is. */
static void an_accepting_start_that_lacks_memory_may_be_crashed_anywhere(void **state)
{
    bool crashed = true;
    (void)state;

    for (uint64_t n = 1; crashed; n++) {
        struct world *w = world_new(94);
        memphis_error err = { 0 };
        w->options.memory_max = 64 << 20; /* nothing is flushed by itself */
        w->options.wal_total_max = 64 << 20;
        must_start(w);
        open_partition(w, 7);
        produce(w, 7, 20, 1000);
        flush(w);
        idle(w, 1);
        produce(w, 7, 300, 1000);
        stop(w);
        remove_name(w, DIR7, "meta");
        w->options.memory_max = 64 << 10;
        w->options.accept_loss = true;
        mp_disk_crash_at(w->disk, n);
        (void)start(w, &err);
        crashed = mp_disk_has_crashed(w->disk);
        crash(w, n % 2 ? MP_CRASH_SECTORS : MP_CRASH_LOSE_BLOCK);
        must_start(w);
        expect_range(w, 7, 1, 320);
        world_free(w);
    }
}

/* What was accepted once is no reason to keep the whole log in memory for ever. */
static void a_start_after_an_accepted_loss_flushes_when_memory_is_short(void **state)
{
    struct world *w = world_new(99);
    struct nth_name file = { DIR7, ".seg", 0, { 0 } };
    struct mp_replica_stats st;
    (void)state;

    w->options.memory_max = 64 << 20; /* nothing is flushed by itself */
    w->options.wal_total_max = 64 << 20;
    must_start(w);
    open_partition(w, 7);
    produce(w, 7, 100, 1000);
    flush(w);
    idle(w, 1);
    stop(w);
    mp_disk_each(w->disk, take_nth, &file);
    remove_name(w, DIR7, file.name + sizeof DIR7);
    w->options.accept_loss = true;
    must_start(w);
    w->options.accept_loss = false;
    uint64_t first = w->next[7] = mp_log_last(data_log(w), 7) + 1;
    produce(w, 7, 2000, 1000);
    stop(w);
    w->options.memory_max = 256 << 10;
    must_start(w);
    mp_replica_stats(w->replica, &st);
    assert_true(st.flushes > 0);
    if (st.log_bytes > w->options.memory_max)
        fail_msg("%d KiB of the log are in memory", (int)(st.log_bytes >> 10));
    expect_range(w, 7, first, first + 1999);
    world_free(w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        leak_checked(any_missing_wal_file_is_accepted_once),
        leak_checked(a_lost_wal_file_costs_what_was_in_it),
        leak_checked(messages_whose_open_entry_is_lost_are_kept),
        leak_checked(a_damaged_wal_header_is_accepted_once),
        leak_checked(a_log_that_is_gone_is_accepted_once),
        leak_checked(what_tells_of_messages_may_be_lost_without_them),
        leak_checked(a_repair_leaves_good_headers_as_they_are),
        leak_checked(a_damaged_table_of_partitions_costs_nobody_his_files),
        leak_checked(a_lost_directory_may_have_told_of_any_number_of_messages),
        leak_checked(what_the_log_has_of_letters_counts_before_a_torn_segment),
        leak_checked(a_flipped_bit_anywhere_costs_one_message),
        leak_checked(an_accepting_start_may_be_crashed_anywhere),
        leak_checked(an_accepting_start_that_lacks_memory_may_be_crashed_anywhere),
        leak_checked(a_start_after_an_accepted_loss_flushes_when_memory_is_short),
        leak_checked(a_start_needs_one_slot_of_node_that_can_be_read),
        leak_checked(a_crash_does_not_make_a_damaged_end_a_torn_one),
        leak_checked(what_an_interrupted_pass_has_left_is_kept_for_good),
    };

    return run_tests("replica/files", tests);
}
