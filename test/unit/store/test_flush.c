#include "unit/store/world.h"

#define DIR7 "s/00000002/00000007"

/* Walks the entries of all segments in order. */
struct walk {
    uint64_t seqs[2000];
    uint8_t types[2000];
    size_t count;
    uint64_t bytes;
};

static void walk_entry(void *ctx, const struct mp_entry *e, memphis_slice bytes)
{
    struct walk *x = ctx;

    assert_true(x->count < 2000);
    if (e->type == MP_ENTRY_MESSAGE)
        check_entry(e, e->pid, e->seq);
    else
        assert_int_equal(e->payload.size, 0);
    x->types[x->count] = e->type;
    x->seqs[x->count++] = e->seq;
    x->bytes += bytes.size;
}

static void walk_segments(struct world *w, const struct mp_partition *p, struct walk *x)
{
    *x = (struct walk){ .count = 0 };
    assert_int_equal(mp_load_since(w->env, SHARD, p, 0, walk_entry, x, NULL),
                     MEMPHIS_OK);
}

static void expect_range(const struct walk *x, uint64_t first, uint64_t last)
{
    assert_int_equal(x->count, last - first + 1);
    for (size_t i = 0; i < x->count; i++)
        assert_int_equal(x->seqs[i], first + i);
}

/* -- what a pass writes ------------------------------------------------------------ */

static void a_load_gives_back_exactly_what_a_pass_wrote(void **state)
{
    struct world *w = world_new(1);
    struct walk x;
    (void)state;

    struct mp_partition *p = open_partition(w, 7);
    messages(w, 7, 1, 60, 700);
    delete_some(w, 7, 50, 3);
    set_floor(w, 7, 5);
    uint64_t bytes = p->bytes;
    struct mp_flush f;
    begin_pass(w, &f);
    add_part(w, &f, p, 99);
    add_part(w, &f, mp_partitions_find(&w->t, 0), 0);
    assert_int_equal(run_pass(w, &f), MEMPHIS_OK);
    uint64_t index = w->index;

    mp_disk_crash_at(w->disk, 1); /* nothing that is needed is unsynced */
    w->env->dir_sync(w->env, "", NULL);
    close_env(w);
    mp_disk_crash(w->disk, MP_CRASH_NOTHING, 1);
    open_env(w);
    assert_int_equal(try_load(w, index, NULL), MEMPHIS_OK);
    p = loaded(w, 7);
    assert_int_equal(p->damaged.status, MEMPHIS_OK);
    assert_true(p->missing_last < p->floor);
    assert_int_equal(p->floor, 5);
    assert_int_equal(p->last, 60);
    assert_int_equal(p->flushed_seq, 60);
    assert_int_equal(p->flushed_index, index);
    assert_int_equal(p->state_index, index);
    assert_int_equal(p->generation, 1);
    assert_int_equal(p->bytes, bytes);
    assert_true(p->has_directory);
    assert_int_equal(p->dead.count, 1);
    assert_int_equal(p->dead.items[0].first, 50);
    assert_int_equal(p->dead.items[0].last, 52);

    struct mp_cursor c = mp_cursor_of(mp_buf_slice(&p->loaded_state));
    memphis_slice v = { NULL, 0 };
    uint16_t tag = 0;
    while (tag != GROUP_TAG && mp_state_next(&c, &tag, &v))
        continue;
    assert_int_equal(tag, GROUP_TAG);
    assert_int_equal(mp_get_u64(v.data), 99);
    walk_segments(w, p, &x);
    assert_int_equal(x.count, 53);
    assert_int_equal(x.seqs[0], 5);
    assert_int_equal(x.seqs[45], 53);
    assert_non_null(loaded(w, 0));
    world_free(w);
}

static void segments_are_sealed_at_their_size_and_name_the_one_before(void **state)
{
    struct world *w = world_new(2);
    uint8_t block[MP_BLOCK_SIZE];
    struct mp_segment_header h;
    struct mp_segment g;
    struct walk x;
    char path[MP_PATH_SIZE];
    (void)state;

    struct mp_partition *p = open_partition(w, 7);
    for (uint64_t seq = 1; seq <= 200; seq++) {
        message(w, 7, seq, 900, 0);
        if (seq % 33 == 0)
            flush(w, 7, seq);
    }
    flush(w, 7, 1);
    assert_true(p->segments_count > 5);
    for (uint32_t i = 0; i < p->segments_count; i++) {
        const struct mp_segment *s = &p->segments[i], *before = s - 1;
        bool is_last = i + 1 == p->segments_count;
        assert_int_equal(s->is_sealed, !is_last);
        assert_true(mp_block_up(s->length) + MP_BLOCK_SIZE <= SEGMENT_SIZE);
        mp_path_segment(SHARD, 7, s->first, path);
        assert_int_equal(get_file(w, path, 0, block, sizeof block), sizeof block);
        assert_int_equal(mp_segment_header_decode(mp_slice(block, sizeof block), &h),
                         MEMPHIS_OK);
        assert_int_equal(h.pid, 7);
        assert_int_equal(h.before_first, i > 0 ? before->first : 0);
        assert_int_equal(h.before_last, i > 0 ? before->last : 0);
        if (is_last)
            continue;
        assert_int_equal(mp_segment_open_sealed(w->env, SHARD, 7, s->first, &g, NULL),
                         MEMPHIS_OK);
        assert_int_equal(g.last, s->last);
        assert_int_equal(g.length, s->length);
        assert_int_equal(g.min_time_ns, s->min_time_ns);
        assert_int_equal(g.max_time_ns, s->max_time_ns);
        assert_true(g.is_sealed);
    }
    assert_int_equal(count_files(w, DIR7, ".idx"), p->segments_count - 1);
    assert_int_equal(count_files(w, DIR7 "/state.", ""), 1); /* the old ones went */
    walk_segments(w, p, &x);
    expect_range(&x, 1, 200);
    world_free(w);
}

static void an_entry_larger_than_a_segment_has_one_of_its_own(void **state)
{
    struct world *w = world_new(3);
    struct walk x;
    (void)state;

    struct mp_partition *p = open_partition(w, 7);
    for (int at_once = 0; at_once < 2; at_once++) {
        uint64_t first = p->last + 1;
        for (uint64_t seq = first; seq < first + 6; seq++) {
            message(w, 7, seq, seq % 3 == 0 ? 3 * SEGMENT_SIZE : 100, 0);
            if (!at_once)
                flush(w, 7, 1);
        }
        flush(w, 7, 1);
    }
    walk_segments(w, p, &x);
    expect_range(&x, 1, 12);
    for (uint32_t i = 0; i < p->segments_count; i++) {
        const struct mp_segment *g = &p->segments[i];
        assert_true(g->length <= SEGMENT_SIZE || g->first == g->last);
    }
    world_free(w);
}

static void ids_of_messages_that_died_early_are_written_in_order(void **state)
{
    struct world *w = world_new(4);
    struct walk x;
    (void)state;

    struct mp_partition *p = open_partition(w, 7);
    for (uint64_t seq = 1; seq <= 1500; seq++)
        message(w, 7, seq, 16, seq);
    set_floor(w, 7, 1001);
    delete_some(w, 7, 1100, 100);
    delete_some(w, 7, 1020, 5);
    assert_int_equal(p->dead_ids_count, 1105);
    flush(w, 7, 1);
    assert_int_equal(p->dead_ids_count, 0);
    walk_segments(w, p, &x);
    expect_range(&x, 1, 1500);
    for (size_t i = 0; i < x.count; i++) {
        uint64_t seq = x.seqs[i];
        bool dead = seq < 1001 || (seq >= 1020 && seq < 1025) ||
                    (seq >= 1100 && seq < 1200);
        assert_int_equal(x.types[i], dead ? MP_ENTRY_ID : MP_ENTRY_MESSAGE);
    }
    world_free(w);
}

/* An index counts sequences in 32 bits. */
static void sequences_far_apart_do_not_share_a_segment(void **state)
{
    struct world *w = world_new(5);
    struct mp_partition *p = open_partition(w, 7);
    struct mp_stored m;
    uint64_t seq = 1;
    (void)state;

    for (int i = 0; i < 70; i++, seq += 1 << 26) {
        message(w, 7, seq, 32, 0);
        flush(w, 7, 1);
        evict(w);
    }
    assert_true(p->segments_count == 2);
    for (seq = 1; seq <= p->last; seq += 1 << 26) {
        assert_int_equal(read_at(w, p, seq, &m), MEMPHIS_OK);
        check_entry(&m.entry, 7, seq);
        mp_stored_release(&m);
    }
    world_free(w);
}

enum { MANY = 40 };

/* A pass over many partitions that the power ends at operation n; 0: it does not. */
static bool many_partitions(uint64_t n, enum mp_disk_outcome outcome)
{
    struct world *w = world_new(6);
    struct mp_flush f;
    struct walk x;

    for (uint32_t pid = 1; pid <= MANY; pid++) {
        open_partition(w, pid);
        messages(w, pid, 1, 5, 50);
    }
    begin_pass(w, &f);
    for (uint32_t pid = 0; pid <= MANY; pid++)
        add_part(w, &f, mp_partitions_find(&w->t, pid), pid);
    mp_disk_crash_at(w->disk, n);
    bool ended = run_pass(w, &f) == MEMPHIS_OK;
    if (ended) {
        mp_disk_crash_at(w->disk, 1);
        w->env->dir_sync(w->env, "", NULL);
    }
    close_env(w);
    mp_disk_crash(w->disk, outcome, n + 1);
    open_env(w);
    assert_int_equal(try_load(w, 0, NULL), MEMPHIS_OK);
    for (uint32_t pid = 1; pid <= MANY; pid++) {
        const struct mp_partition *p = loaded(w, pid);
        assert_true(!ended || (p != NULL && p->generation == 1));
        if (p == NULL || p->generation == 0)
            continue;
        assert_int_equal(p->damaged.status, MEMPHIS_OK);
        walk_segments(w, p, &x);
        expect_range(&x, 1, 5);
    }
    world_free(w);
    return ended;
}

static void many_partitions_are_synced_together(void **state)
{
    (void)state;

    assert_true(many_partitions(0, MP_CRASH_NOTHING));
    for (int o = 0; o < MP_CRASH_OUTCOMES; o++)
        for (uint64_t n = 1; !many_partitions(n, (enum mp_disk_outcome)o); n += 13)
            continue;
}

/* They would look like files of a later pass one day. */
static void left_overs_of_a_first_pass_that_did_not_end_are_removed(void **state)
{
    struct world *w = world_new(9);
    struct walk x;
    (void)state;

    struct mp_partition *p = open_partition(w, 7);
    assert_int_equal(w->env->mkdir(w->env, "s", NULL), MEMPHIS_OK);
    assert_int_equal(w->env->mkdir(w->env, "s/00000002", NULL), MEMPHIS_OK);
    assert_int_equal(w->env->mkdir(w->env, DIR7, NULL), MEMPHIS_OK);
    put_file(w, DIR7 "/state.00000000000000000099", 0, "x", 1);
    put_file(w, DIR7 "/00000000000000000050.seg", 0, "x", 1);
    put_file(w, DIR7 "/meta", 0, "x", 1);
    messages(w, 7, 1, 5, 100);
    flush(w, 7, 1);
    assert_int_equal(count_files(w, DIR7 "/", ""), 3); /* meta, segment, state */
    assert_int_equal(try_load(w, w->index, NULL), MEMPHIS_OK);
    p = loaded(w, 7);
    assert_int_equal(p->damaged.status, MEMPHIS_OK);
    walk_segments(w, p, &x);
    expect_range(&x, 1, 5);
    world_free(w);
}

static void what_is_not_needed_any_more_is_removed(void **state)
{
    struct world *w = world_new(7);
    struct mp_flush f;
    (void)state;

    struct mp_partition *p = open_partition(w, 7);
    messages(w, 7, 1, 100, 900);
    flush(w, 7, 1);
    assert_int_equal(w->env->mkdir(w->env, "wal", NULL), MEMPHIS_OK);
    for (uint64_t base = 0; base < 3; base++) {
        char name[MP_WAL_NAME_SIZE];
        mp_wal_name(base * 4096, name);
        put_file(w, name, 0, "x", 1);
    }
    message(w, 7, 101, 50, 0);
    begin_pass(w, &f);
    struct mp_flush_part *part = add_part(w, &f, p, 2);
    part->dead = mp_realloc(NULL, 2 * sizeof *part->dead);
    part->dead[part->dead_count++] = p->segments[0].first;
    part->dead[part->dead_count++] = p->segments[1].first;
    f.write_node = true;
    f.node.node_id = 42;
    f.wal_files = mp_realloc(NULL, 3 * sizeof *f.wal_files);
    f.wal_files[f.wal_files_count++] = 0;
    f.wal_files[f.wal_files_count++] = 4096;
    f.wal_files[f.wal_files_count++] = 999; /* gone already: fine */
    int segments = count_files(w, DIR7, ".seg");
    assert_int_equal(run_pass(w, &f), MEMPHIS_OK);
    assert_int_equal(count_files(w, DIR7, ".seg"), segments - 2);
    assert_int_equal(count_files(w, DIR7 "/state.", ""), 1);
    assert_int_equal(count_files(w, "wal/", ".wal"), 1);
    assert_int_equal(count_files(w, "node", ""), 1);
    world_free(w);
}

/* -- failures ---------------------------------------------------------------------- */

/* Pids 7, 8 and 0 with a first pass behind them, and enough for more segments; 9 is
 * new. */
static struct world *before_a_pass(uint64_t seed)
{
    struct world *w = world_new(seed);

    open_partition(w, 7);
    open_partition(w, 8);
    messages(w, 7, 1, 40, 900);
    messages(w, 8, 1, 5, 100);
    flush(w, 7, 1);
    flush(w, 8, 2);
    flush(w, 0, 0);
    open_partition(w, 9);
    messages(w, 7, 41, 110, 900);
    messages(w, 8, 6, 9, 100);
    messages(w, 9, 1, 3, 100);
    set_floor(w, 7, 3);
    return w;
}

static memphis_status second_pass(struct world *w)
{
    struct mp_flush f;

    begin_pass(w, &f);
    for (uint32_t pid = 7; pid <= 9; pid++)
        add_part(w, &f, mp_partitions_find(&w->t, pid), pid);
    add_part(w, &f, mp_partitions_find(&w->t, 0), 0);
    return run_pass(w, &f);
}

static void expect_loaded(struct world *w, uint32_t pid, uint64_t first, uint64_t last)
{
    struct mp_partition *p = loaded(w, pid);
    struct walk x;

    assert_non_null(p);
    assert_int_equal(p->damaged.status, MEMPHIS_OK);
    assert_int_equal(p->last, last);
    assert_true(p->missing_last < p->floor);
    if (last == 0)
        return;
    walk_segments(w, p, &x);
    expect_range(&x, first, last);
}

/* What a crash right now would leave; *before: for all of the partitions or none. */
static void expect_files(struct world *w, bool before)
{
    struct mp_disk *disk = w->disk;
    struct world other = { .disk = mp_disk_clone(disk) };

    open_env(&other);
    assert_int_equal(try_load(&other, 0, NULL), MEMPHIS_OK);
    expect_loaded(&other, 7, 1, before ? 40 : 110);
    expect_loaded(&other, 8, 1, before ? 5 : 9);
    if (!before || loaded(&other, 9) != NULL)
        expect_loaded(&other, 9, 1, before ? 0 : 3);
    close_env(&other);
    mp_disk_free(other.disk);
}

static void a_pass_without_room_changes_nothing_and_the_next_one_does_it_all(
    void **state)
{
    static const enum mp_disk_op ops[] = { MP_DISK_OPEN, MP_DISK_REOPEN, MP_DISK_WRITE,
                                           MP_DISK_MKDIR, MP_DISK_TRUNCATE };
    int refused = 0;
    (void)state;

    for (size_t i = 0; i < sizeof ops / sizeof ops[0]; i++) {
        for (uint64_t n = 1;; n++) {
            struct world *w = before_a_pass(20 + n);
            mp_disk_fail(w->disk, ops[i], n, MEMPHIS_NO_SPACE, false);
            memphis_status s = second_pass(w);
            mp_disk_heal(w->disk);
            if (s == MEMPHIS_NO_SPACE) {
                refused++;
                expect_files(w, true);
                /* More has died until the next one: its segments begin elsewhere. */
                delete_some(w, 8, 7, 1);
                message(w, 8, 10, 100, 0);
                delete_some(w, 8, 10, 1);
                assert_int_equal(second_pass(w), MEMPHIS_OK);
                assert_int_equal(try_load(w, 0, NULL), MEMPHIS_OK);
                expect_loaded(w, 7, 1, 110);
                expect_loaded(w, 9, 1, 3);
                assert_int_equal(loaded(w, 8)->last, 10);
            } else if (s == MEMPHIS_OK) {
                expect_files(w, false);
            } else {
                assert_int_equal(s, MEMPHIS_IO); /* while the slots were written */
            }
            world_free(w);
            if (s == MEMPHIS_OK)
                break;
        }
    }
    assert_true(refused > 20);
}

static void a_disk_of_any_size_is_enough_or_not(void **state)
{
    (void)state;

    for (uint64_t room = 0; room < 130; room += 3) {
        struct world *w = before_a_pass(400 + room);
        mp_disk_limit(w->disk, mp_disk_used(w->disk) + room * 1024);
        memphis_status s = second_pass(w);
        assert_true(s == MEMPHIS_OK || s == MEMPHIS_NO_SPACE); /* never a broken one */
        expect_files(w, s != MEMPHIS_OK);
        mp_disk_limit(w->disk, UINT64_MAX);
        if (s != MEMPHIS_OK)
            assert_int_equal(second_pass(w), MEMPHIS_OK);
        expect_files(w, false);
        world_free(w);
    }
}

static void a_failed_operation_is_told_and_the_files_are_still_good(void **state)
{
    int failures = 0;
    (void)state;

    for (int op = 0; op < MP_DISK_OPS; op++) {
        for (uint64_t n = 1;; n++) {
            struct world *w = before_a_pass(600 + n);
            mp_disk_fail(w->disk, (enum mp_disk_op)op, n, MEMPHIS_IO, false);
            memphis_status s = second_pass(w);
            mp_disk_heal(w->disk);
            assert_true(s == MEMPHIS_OK || s == MEMPHIS_IO);
            failures += s != MEMPHIS_OK;
            assert_int_equal(try_load(w, 0, NULL), MEMPHIS_OK);
            for (uint32_t pid = 7; pid <= 8; pid++) { /* each as before or as after */
                uint64_t old = pid == 7 ? 40 : 5, last = loaded(w, pid)->last;
                assert_true(last == old || last == (pid == 7 ? 110 : 9));
                expect_loaded(w, pid, 1, last);
            }
            world_free(w);
            if (s == MEMPHIS_OK)
                break;
        }
    }
    assert_true(failures > 40);
}

/* -- removal ----------------------------------------------------------------------- */

static void a_partitions_directory_is_removed_with_all_that_is_in_it(void **state)
{
    struct world *w = before_a_pass(8);
    memphis_error err = { 0 };
    (void)state;

    assert_true(count_files(w, DIR7, "") > 4);
    mp_disk_fail(w->disk, MP_DISK_UNLINK, 2, MEMPHIS_IO, false);
    assert_int_equal(mp_flush_remove(w->env, SHARD, 7, &err), MEMPHIS_IO);
    assert_true(err.message[0] != 0);
    assert_int_equal(mp_flush_remove(w->env, SHARD, 7, &err), MEMPHIS_OK);
    assert_int_equal(count_files(w, DIR7, ""), 0);
    assert_int_equal(mp_flush_remove(w->env, SHARD, 7, &err), MEMPHIS_OK);
    assert_true(count_files(w, "s/00000002/00000008", "") > 2);
    world_free(w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        leak_checked(a_load_gives_back_exactly_what_a_pass_wrote),
        leak_checked(segments_are_sealed_at_their_size_and_name_the_one_before),
        leak_checked(an_entry_larger_than_a_segment_has_one_of_its_own),
        leak_checked(ids_of_messages_that_died_early_are_written_in_order),
        leak_checked(sequences_far_apart_do_not_share_a_segment),
        leak_checked(many_partitions_are_synced_together),
        leak_checked(left_overs_of_a_first_pass_that_did_not_end_are_removed),
        leak_checked(what_is_not_needed_any_more_is_removed),
        leak_checked(a_pass_without_room_changes_nothing_and_the_next_one_does_it_all),
        leak_checked(a_disk_of_any_size_is_enough_or_not),
        leak_checked(a_failed_operation_is_told_and_the_files_are_still_good),
        leak_checked(a_partitions_directory_is_removed_with_all_that_is_in_it),
    };

    return run_tests("store/flush", tests);
}
