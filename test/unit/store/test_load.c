#include "unit/store/world.h"

#define DIR7 "s/00000002/00000007"

/* Pid 7 with ten segments or so, messages 11..200 (20..24 are dead), a state file; and
 * pid 8, whose files are left alone. */
static struct world *with_files(uint64_t seed)
{
    struct world *w = world_new(seed);

    open_partition(w, 7);
    open_partition(w, 8);
    messages(w, 7, 1, 200, 900);
    set_floor(w, 7, 11);
    delete_some(w, 7, 20, 5);
    messages(w, 8, 1, 3, 50);
    flush(w, 8, 8);
    flush(w, 7, 7);
    return w;
}

static void name_of_segment(const struct mp_partition *p, uint32_t i,
                            char path[MP_PATH_SIZE])
{
    mp_path_segment(SHARD, 7, p->segments[i].first, path);
}

static struct mp_partition *load_7(struct world *w)
{
    memphis_error err = { 0 };

    if (try_load(w, 0, &err) != MEMPHIS_OK)
        fail_msg("%s", err.message);
    assert_int_equal(loaded(w, 8)->damaged.status, MEMPHIS_OK);
    assert_int_equal(loaded(w, 8)->last, 3);
    return loaded(w, 7);
}

static bool is_whole(const struct mp_partition *p)
{
    return p->damaged.status == MEMPHIS_OK && p->missing_last < p->floor;
}

static void complains_of(const struct mp_partition *p, const char *name, bool is_range)
{
    assert_int_equal(p->damaged.status, MEMPHIS_CORRUPT);
    if (strstr(p->damaged.message, name) == NULL)
        fail_msg("'%s' does not name %s", p->damaged.message, name);
    assert_int_equal(p->damage_is_range, is_range);
}

static void segments_come_in_order_with_their_ranges(void **state)
{
    struct world *w = with_files(1);
    const struct mp_partition *p = mp_partitions_find(&w->t, 7);
    uint32_t count = p->segments_count;
    struct mp_segment before[32];
    (void)state;

    assert_true(count > 4 && count <= 32);
    memcpy(before, p->segments, count * sizeof *before);
    p = load_7(w);
    assert_true(is_whole(p));
    assert_int_equal(p->segments_count, count);
    for (uint32_t i = 0; i < count; i++) {
        assert_int_equal(p->segments[i].first, before[i].first);
        assert_int_equal(p->segments[i].last, before[i].last);
        assert_int_equal(p->segments[i].length, before[i].length);
        assert_int_equal(p->segments[i].min_time_ns, before[i].min_time_ns);
        assert_int_equal(p->segments[i].max_time_ns, before[i].max_time_ns);
        assert_int_equal(p->segments[i].is_sealed, before[i].is_sealed);
    }
    world_free(w);
}

static void names_that_are_not_partitions_are_let_be(void **state)
{
    struct world *w = with_files(2);
    static const char *const names[] = { "s/00000002/0000000g", "s/00000002/7",
                                         "s/00000002/00000000", "s/00000002/x",
                                         DIR7 "/1.seg", DIR7 "/readme" };
    (void)state;

    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        put_file(w, names[i], 0, "x", 1);
    assert_true(is_whole(load_7(w)));
    assert_int_equal(w->t.loaded_count, 2);
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        assert_int_equal(count_files(w, names[i], ""), 1);
    world_free(w);
}

static void a_shard_without_files_is_empty(void **state)
{
    struct world *w = world_new(3);
    (void)state;

    assert_int_equal(try_load(w, 0, NULL), MEMPHIS_OK);
    assert_int_equal(w->t.loaded_count, 0);
    world_free(w);
}

/* -- left-overs -------------------------------------------------------------------- */

static void what_the_slot_does_not_name_is_removed(void **state)
{
    struct world *w = with_files(4);
    const struct mp_partition *p = mp_partitions_find(&w->t, 7);
    char path[MP_PATH_SIZE], active[MP_PATH_SIZE];
    (void)state;

    name_of_segment(p, p->segments_count - 1, active);
    uint64_t length = p->segments[p->segments_count - 1].length;
    put_file(w, active, length, "the tail of a pass that did not end", 35);
    mp_path_segment(SHARD, 7, 205, path);
    put_file(w, path, 0, "also of it", 10);
    mp_path_index(SHARD, 7, 205, path);
    put_file(w, path, 0, "and this", 8);
    mp_path_index(SHARD, 7, 3, path); /* its segment is gone */
    put_file(w, path, 0, "and this", 8);
    mp_path_state(SHARD, 7, 1, path);
    put_file(w, path, 0, "older", 5);
    mp_path_state(SHARD, 7, 10000, path);
    put_file(w, path, 0, "newer", 5);
    put_file(w, DIR7 "/state.x", 0, "odd", 3);
    int files = count_files(w, DIR7, "");

    p = load_7(w);
    assert_true(is_whole(p));
    assert_int_equal(p->segments[p->segments_count - 1].length, length);
    assert_int_equal(count_files(w, DIR7, ""), files - 6);
    assert_int_equal(count_files(w, DIR7 "/state.", ""), 1);
    world_free(w);
}

/* A segment in the middle of the chain which nothing names: of a pass that found no
 * room, and cut its segments elsewhere the next time. */
static void a_segment_between_others_that_none_names_is_removed(void **state)
{
    struct world *w = with_files(5);
    const struct mp_partition *p = mp_partitions_find(&w->t, 7);
    char path[MP_PATH_SIZE];
    (void)state;

    mp_path_segment(SHARD, 7, p->segments[2].first + 1, path);
    put_file(w, path, 0, "stale", 5);
    uint32_t count = p->segments_count;
    p = load_7(w);
    assert_true(is_whole(p));
    assert_int_equal(p->segments_count, count);
    assert_int_equal(count_files(w, path, ""), 0);
    world_free(w);
}

/* With a slot that is too old the newest messages would be the "left-overs". */
static void files_of_a_pass_that_has_ended_are_no_left_overs(void **state)
{
    enum { DAMAGED, LOST_WITH_SEGMENT, LOST_WITH_STATE };
    (void)state;

    for (int what = DAMAGED; what <= LOST_WITH_STATE; what++) {
        struct world *w = with_files(6);
        uint8_t slot[MP_BLOCK_SIZE];
        struct mp_partition *p = open_partition(w, 9);
        messages(w, 9, 1, 3, 900);
        flush(w, 9, 0);
        messages(w, 9, 4, what == LOST_WITH_SEGMENT ? 90 : 5, 900);
        flush(w, 9, what == LOST_WITH_STATE ? 1 : 0);
        get_file(w, "s/00000002/00000009/meta", 0, slot, sizeof slot);
        if (what == DAMAGED)
            slot[100] ^= 1;
        else
            memset(slot, 0, sizeof slot);
        put_file(w, "s/00000002/00000009/meta", 0, slot, sizeof slot);
        int files = count_files(w, "s/00000002/00000009", ".seg");

        assert_int_equal(try_load(w, w->index, NULL), MEMPHIS_OK);
        p = loaded(w, 9);
        complains_of(p, "s/00000002/00000009/meta", false);
        assert_int_equal(count_files(w, "s/00000002/00000009", ".seg"), files);
        world_free(w);
    }
}

static void a_slot_that_a_crash_has_torn_is_as_if_it_was_never_written(void **state)
{
    struct world *w = with_files(7);
    uint8_t slot[MP_BLOCK_SIZE];
    (void)state;

    uint64_t ended = w->index; /* the first pass; the second one was interrupted */
    int files = count_files(w, DIR7, ".seg");
    mp_disk_fail(w->disk, MP_DISK_UNLINK, 1, MEMPHIS_IO, true);
    messages(w, 7, 201, 250, 900);
    struct mp_flush f;
    begin_pass(w, &f);
    add_part(w, &f, mp_partitions_find(&w->t, 7), 9);
    assert_int_equal(run_pass(w, &f), MEMPHIS_IO);
    mp_disk_heal(w->disk);
    uint64_t at = (mp_partitions_find(&w->t, 7)->generation + 1) % 2 * MP_BLOCK_SIZE;
    get_file(w, DIR7 "/meta", at, slot, sizeof slot);
    slot[100] ^= 1;
    put_file(w, DIR7 "/meta", at, slot, sizeof slot);

    assert_int_equal(try_load(w, ended, NULL), MEMPHIS_OK);
    struct mp_partition *p = loaded(w, 7);
    assert_true(is_whole(p));
    assert_int_equal(p->last, 200);
    assert_int_equal(count_files(w, DIR7, ".seg"), files);
    world_free(w);
}

/* -- damage ------------------------------------------------------------------------ */

static void a_missing_segment_is_noticed(void **state)
{
    (void)state;

    for (uint32_t i = 0; i < 5; i++) {
        struct world *w = with_files(8);
        const struct mp_partition *p = mp_partitions_find(&w->t, 7);
        char path[MP_PATH_SIZE];
        uint32_t which = i < 4 ? i : p->segments_count - 1;
        uint64_t last = p->segments[which].last;
        uint32_t count = p->segments_count;
        name_of_segment(p, which, path);
        assert_int_equal(w->env->unlink(w->env, path, NULL), MEMPHIS_OK);
        p = load_7(w);
        assert_int_equal(p->missing_last, last);
        assert_int_equal(p->segments_count, count - 1);
        world_free(w);
    }
}

/* Their removal was on its way: the floor had passed them. */
static void missing_segments_below_the_floor_are_fine(void **state)
{
    for (int which = 0; which < 4; which++) {
        struct world *w = with_files(9);
        const struct mp_partition *p = mp_partitions_find(&w->t, 7);
        char path[MP_PATH_SIZE];
        (void)state;

        set_floor(w, 7, p->segments[3].first);
        flush(w, 7, 7);
        for (uint32_t i = 0; i < 3; i++) {
            if (which == 3 || (int)i == which) {
                name_of_segment(p, i, path);
                assert_int_equal(w->env->unlink(w->env, path, NULL), MEMPHIS_OK);
            }
        }
        assert_true(is_whole(load_7(w)));
        world_free(w);
    }
}

static void a_flipped_bit_is_told_by_name_of_the_file(void **state)
{
    static const struct {
        bool state, active, is_range;
        int64_t offset;           /* below 0: from the end */
    } places[] = {
        { false, false, false, 4 },    { false, false, false, 30 },
        { false, false, true, -4096 }, { false, false, true, -4000 },
        { false, true, false, 30 },    { false, true, true, 4096 + 20 },
        { true, false, false, 9 },     { true, false, false, 41 },
        { true, false, false, -1 },
    };
    (void)state;

    for (size_t i = 0; i < sizeof places / sizeof places[0]; i++) {
        struct world *w = with_files(10);
        const struct mp_partition *p = mp_partitions_find(&w->t, 7);
        char path[MP_PATH_SIZE];
        if (places[i].state)
            mp_path_state(SHARD, 7, p->state_index, path);
        else
            name_of_segment(p, places[i].active ? p->segments_count - 1 : 2, path);
        struct name_search x = { .part = path, .suffix = "" };
        mp_disk_each(w->disk, look_at_name, &x);
        uint64_t at = places[i].offset < 0 ? x.size - (uint64_t)-places[i].offset
                                           : (uint64_t)places[i].offset;
        assert_true(mp_disk_flip(w->disk, path, at, 4));
        p = load_7(w);
        complains_of(p, path, places[i].is_range);
        assert_int_equal(count_files(w, path, ""), 1); /* and left as it is */
        world_free(w);
    }
}

static void a_header_of_another_segment_is_told(void **state)
{
    struct world *w = with_files(18);
    struct mp_partition *p = mp_partitions_find(&w->t, 7);
    uint8_t block[MP_BLOCK_SIZE];
    char path[MP_PATH_SIZE];
    (void)state;

    name_of_segment(p, 1, path);
    get_file(w, path, 0, block, sizeof block);
    name_of_segment(p, 3, path);
    put_file(w, path, 0, block, sizeof block);
    complains_of(load_7(w), path, false);
    world_free(w);
}

/* Only what was hit is given up, be it the last entry. */
static void damage_in_the_active_segment_keeps_all_around_it(void **state)
{
    (void)state;

    for (int is_last = 0; is_last < 2; is_last++) {
        struct world *w = with_files(11);
        const struct mp_partition *p = mp_partitions_find(&w->t, 7);
        struct mp_segment before = p->segments[p->segments_count - 1];
        char path[MP_PATH_SIZE];
        assert_true(before.last > before.first + 2);
        name_of_segment(p, p->segments_count - 1, path);
        uint64_t at = is_last ? before.length - 400 : 4096 + 2 * 944 + 500;
        uint64_t seq = is_last ? before.last : before.first + 2;
        assert_true(mp_disk_flip(w->disk, path, at, 1));
        p = load_7(w);
        complains_of(p, path, true);
        const struct mp_segment *g = &p->segments[p->segments_count - 1];
        assert_int_equal(g->first, before.first);
        assert_int_equal(g->last, is_last ? before.last - 1 : before.last);
        assert_int_equal(g->length, before.length);
        assert_int_equal(p->last, 200);
        assert_int_equal(p->unreadable.count, 1);
        assert_int_equal(p->unreadable.items[0].first, seq);
        assert_int_equal(p->unreadable.items[0].last, is_last ? 200 : seq);
        world_free(w);
    }
}

static void a_missing_state_file_is_told(void **state)
{
    struct world *w = with_files(12);
    struct mp_partition *p = mp_partitions_find(&w->t, 7);
    char path[MP_PATH_SIZE];
    (void)state;

    mp_path_state(SHARD, 7, p->state_index, path);
    assert_int_equal(w->env->unlink(w->env, path, NULL), MEMPHIS_OK);
    complains_of(load_7(w), path, false);
    world_free(w);
}

static void a_state_file_of_another_partition_is_not_taken(void **state)
{
    struct world *w = with_files(13);
    struct mp_partition *p = mp_partitions_find(&w->t, 7);
    char path[MP_PATH_SIZE], other[MP_PATH_SIZE];
    uint8_t bytes[4096];
    (void)state;

    mp_path_state(SHARD, 7, p->state_index, path);
    mp_path_state(SHARD, 8, mp_partitions_find(&w->t, 8)->state_index, other);
    size_t size = get_file(w, other, 0, bytes, sizeof bytes);
    assert_int_equal(w->env->unlink(w->env, path, NULL), MEMPHIS_OK);
    put_file(w, path, 0, bytes, size);
    p = load_7(w);
    complains_of(p, path, false);
    assert_int_equal(p->loaded_state.size, 0);
    world_free(w);
}

static void a_directory_without_a_valid_slot_is_as_new(void **state)
{
    (void)state;

    for (int missing = 0; missing < 2; missing++) {
        struct world *w = with_files(14);
        if (missing)
            assert_int_equal(w->env->unlink(w->env, DIR7 "/meta", NULL), MEMPHIS_OK);
        else
            assert_true(mp_disk_flip(w->disk, DIR7 "/meta", MP_BLOCK_SIZE + 30, 1));
        int files = count_files(w, DIR7, "");
        const struct mp_partition *p = load_7(w);
        assert_int_equal(p->generation, 0);
        assert_int_equal(p->last, 0);
        assert_int_equal(p->segments_count, 0);
        assert_true(p->has_directory); /* so that a drop removes it */
        assert_int_equal(count_files(w, DIR7, ""), files);
        world_free(w);
    }
}

/* Whatever bit flips, a load ends, and what it offers as whole is what was written. */
static void no_flipped_bit_of_the_small_files_is_taken_for_good(void **state)
{
    (void)state;

    for (uint64_t at = 0; at < 4096; at += at < 300 ? 1 : 97) {
        struct world *w = with_files(15);
        uint64_t state_index = mp_partitions_find(&w->t, 7)->state_index;
        char path[MP_PATH_SIZE];
        mp_path_state(SHARD, 7, state_index, path);
        bool has_flipped = mp_disk_flip(w->disk, path, at, 16);
        (void)mp_disk_flip(w->disk, DIR7 "/meta", at, 16); /* the slot not in use */
        const struct mp_partition *p = load_7(w);
        assert_int_equal(p->last, 200);
        assert_true(has_flipped == !is_whole(p));
        world_free(w);

        w = with_files(15);
        assert_true(mp_disk_flip(w->disk, DIR7 "/meta", MP_BLOCK_SIZE + at, 16));
        assert_int_equal(load_7(w)->generation, 0);
        world_free(w);
    }
}

/* -- repair ------------------------------------------------------------------------ */

static struct mp_partition *repaired_7(struct world *w)
{
    memphis_error err = { 0 };

    assert_int_equal(try_load(w, w->index, &err), MEMPHIS_OK);
    struct mp_partition *p = loaded(w, 7);
    if (mp_load_repair(w->env, SHARD, w->index, p, &err) != MEMPHIS_OK)
        fail_msg("%s", err.message);
    return p;
}

/* Without a footer a search finds its end; it must not go on into the next one. */
static void a_segment_ends_where_the_next_one_begins(void **state)
{
    struct world *w = with_files(19);
    struct mp_partition *p = mp_partitions_find(&w->t, 7);
    uint32_t count = p->segments_count;
    uint64_t last = p->segments[1].last, next = p->segments[2].first;
    char path[MP_PATH_SIZE];
    uint8_t bytes[128];
    (void)state;

    struct mp_entry e = { .type = MP_ENTRY_MESSAGE, .pid = 7, .seq = next,
                          .payload = { "of a pass that did not end", 26 } };
    (void)mp_entry_encode(&e, bytes);
    name_of_segment(p, 1, path);
    put_file(w, path, p->segments[1].length, bytes, mp_entry_size(&e));
    assert_true(mp_disk_flip(w->disk, path, mp_block_up(p->segments[1].length) + 9, 1));
    assert_int_equal(w->env->unlink(w->env, DIR7 "/meta", NULL), MEMPHIS_OK);
    p = repaired_7(w);
    assert_int_equal(p->segments_count, count);
    assert_int_equal(p->segments[1].last, last);
    assert_int_equal(p->segments[2].first, next);
    assert_int_equal(p->unreadable.count, 0);
    assert_int_equal(p->last, 200);
    world_free(w);
}

/* The old slot knows an older one, which is still there. */
static void the_newest_good_state_counts_whatever_an_old_slot_names(void **state)
{
    (void)state;

    for (int rotten = 0; rotten < 2; rotten++) {
        struct world *w = with_files(20);
        struct mp_partition *p = mp_partitions_find(&w->t, 7);
        uint64_t before = p->state_index, dead = p->dead.total;
        uint8_t bytes[MP_BLOCK_SIZE];
        char path[MP_PATH_SIZE];
        mp_path_state(SHARD, 7, before, path);
        size_t size = get_file(w, path, 0, bytes, sizeof bytes);
        messages(w, 7, 201, 220, 900);
        delete_some(w, 7, 205, 5);
        flush(w, 7, 9);
        uint64_t after = p->state_index, newest = p->generation % 2 * MP_BLOCK_SIZE;
        put_file(w, path, 0, bytes, size); /* its removal was not synced */
        assert_true(mp_disk_flip(w->disk, DIR7 "/meta", newest + 100, 1));
        mp_path_state(SHARD, 7, after, path);
        if (rotten)
            assert_true(mp_disk_flip(w->disk, path, 50, 1));
        p = repaired_7(w);
        assert_true(p->is_rebuilt && after > before);
        assert_int_equal(p->state_index, rotten ? before : after);
        assert_int_equal(p->dead.total, rotten ? dead : dead + 5);
        assert_int_equal(p->last, 220);
        world_free(w);
    }
}

/* The last messages have died before they came to a file. */
static void a_sequence_that_only_the_state_knows_is_not_given_again(void **state)
{
    struct world *w = with_files(21);
    (void)state;

    messages(w, 7, 201, 210, 900);
    delete_some(w, 7, 201, 10);
    flush(w, 7, 9);
    assert_int_equal(w->env->unlink(w->env, DIR7 "/meta", NULL), MEMPHIS_OK);
    struct mp_partition *p = repaired_7(w);
    assert_int_equal(p->segments[p->segments_count - 1].last, 200);
    assert_int_equal(p->last, 210);
    assert_int_equal(p->flushed_seq, 210);
    world_free(w);
}

/* A bad block of what describes the messages costs none of them. */
static void bad_blocks_of_headers_footers_and_states_are_told_and_repaired(void **state)
{
    enum { HEADER, FOOTER, OTHER_SLOT, STATE };
    (void)state;

    for (int what = HEADER; what <= STATE; what++) {
        struct world *w = with_files(22);
        struct mp_partition *p = mp_partitions_find(&w->t, 7);
        uint32_t count = p->segments_count;
        uint64_t at = 0;
        char path[MP_PATH_SIZE];
        name_of_segment(p, 2, path);
        if (what == FOOTER)
            at = mp_block_up(p->segments[2].length);
        if (what == OTHER_SLOT) {
            mp_path_meta(SHARD, 7, path);
            at = (p->generation + 1) % 2 * MP_BLOCK_SIZE;
        }
        if (what == STATE)
            mp_path_state(SHARD, 7, p->state_index, path);
        assert_true(mp_disk_spoil(w->disk, path, at, at + MP_BLOCK_SIZE));
        p = load_7(w);
        complains_of(p, path, what == FOOTER);
        p = repaired_7(w);
        assert_int_equal(p->segments_count, count);
        assert_int_equal(p->segments[2].is_sealed, true);
        assert_int_equal(p->unreadable.count, 0);
        assert_int_equal(p->last, 200);
        world_free(w);
    }
}

/* -- ids --------------------------------------------------------------------------- */

struct since {
    uint64_t first, last;
    size_t count;
};

static void note_since(void *ctx, const struct mp_entry *e, memphis_slice bytes)
{
    struct since *s = ctx;

    assert_true(bytes.size > 0);
    if (s->count++ == 0)
        s->first = e->seq;
    s->last = e->seq;
}

static void only_segments_of_the_window_are_read(void **state)
{
    struct world *w = with_files(16);
    struct mp_partition *p = mp_partitions_find(&w->t, 7);
    struct since s = { .count = 0 };
    char path[MP_PATH_SIZE];
    (void)state;

    assert_int_equal(mp_load_since(w->env, SHARD, p, 0, note_since, &s, NULL), 0);
    assert_int_equal(s.first, 11);
    assert_int_equal(s.last, 200);
    assert_int_equal(s.count, 185);
    s.count = 0;
    uint64_t since = p->segments[2].max_time_ns;
    assert_int_equal(mp_load_since(w->env, SHARD, p, since, note_since, &s, NULL), 0);
    assert_int_equal(s.first, p->segments[2].first);
    assert_int_equal(s.last, 200);
    s.count = 0;
    assert_int_equal(mp_load_since(w->env, SHARD, p, 200001, note_since, &s, NULL), 0);
    assert_int_equal(s.count, 0);

    /* Damage costs one message, a file that cannot be read what is in it. */
    name_of_segment(p, 1, path);
    assert_true(mp_disk_flip(w->disk, path, 4096 + 50, 1));
    assert_int_equal(mp_load_since(w->env, SHARD, p, 0, note_since, &s, NULL), 0);
    assert_int_equal(s.count, 184);
    assert_int_equal(s.last, 200);
    uint64_t inside = p->segments[1].last - p->segments[1].first + 1;
    s.count = 0;
    assert_true(mp_disk_spoil(w->disk, path, 0, 1 << 30));
    assert_int_equal(mp_load_since(w->env, SHARD, p, 0, note_since, &s, NULL), 0);
    assert_int_equal(s.count, 185 - inside);
    assert_int_equal(s.last, 200);
    world_free(w);
}

/* It may be for once, or for good: the start is refused, and nothing is touched. */
static void a_read_that_fails_is_told_and_costs_nothing(void **state)
{
    (void)state;

    for (uint64_t n = 1; n <= 80; n++) { /* there are fewer */
        struct world *w = with_files(17);
        memphis_error err = { 0 };
        messages(w, 7, 201, 203, 900);
        flush(w, 7, 9); /* there is an older slot */
        int files = count_files(w, DIR7, "");
        uint32_t segments = mp_partitions_find(&w->t, 7)->segments_count;
        uint64_t index = mp_partitions_find(&w->t, 7)->state_index;
        mp_disk_fail(w->disk, MP_DISK_READ, n, MEMPHIS_IO, false);
        memphis_status s = try_load(w, w->index, &err);
        mp_disk_heal(w->disk);
        assert_int_equal(count_files(w, DIR7, ""), files);
        assert_true(s == MEMPHIS_OK || (s == MEMPHIS_IO && err.message[0] != 0));
        if (s == MEMPHIS_OK && is_whole(loaded(w, 7))) {
            assert_int_equal(loaded(w, 7)->segments_count, segments);
            assert_int_equal(loaded(w, 7)->state_index, index);
            assert_int_equal(loaded(w, 7)->last, 203);
        }
        assert_true(is_whole(load_7(w)));
        world_free(w);
    }
}

/* A pass that appended only: no other file tells of it. */
static void a_slot_that_was_not_read_for_once_is_missed(void **state)
{
    (void)state;

    for (uint64_t n = 1; n <= 12; n++) {
        struct world *w = world_new(23);
        open_partition(w, 7);
        for (uint64_t seq = 1; seq <= 3; seq++) {
            messages(w, 7, seq, seq, 100);
            flush(w, 7, 0);
        }
        mp_disk_fail(w->disk, MP_DISK_READ, n, MEMPHIS_IO, false);
        memphis_status s = try_load(w, w->index, NULL);
        mp_disk_heal(w->disk);
        const struct mp_partition *p = loaded(w, 7);
        assert_true(s != MEMPHIS_OK || !is_whole(p) || p->last == 3);
        world_free(w);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        leak_checked(segments_come_in_order_with_their_ranges),
        leak_checked(names_that_are_not_partitions_are_let_be),
        leak_checked(a_shard_without_files_is_empty),
        leak_checked(what_the_slot_does_not_name_is_removed),
        leak_checked(a_segment_between_others_that_none_names_is_removed),
        leak_checked(files_of_a_pass_that_has_ended_are_no_left_overs),
        leak_checked(a_slot_that_a_crash_has_torn_is_as_if_it_was_never_written),
        leak_checked(a_missing_segment_is_noticed),
        leak_checked(missing_segments_below_the_floor_are_fine),
        leak_checked(a_flipped_bit_is_told_by_name_of_the_file),
        leak_checked(a_header_of_another_segment_is_told),
        leak_checked(damage_in_the_active_segment_keeps_all_around_it),
        leak_checked(a_missing_state_file_is_told),
        leak_checked(a_state_file_of_another_partition_is_not_taken),
        leak_checked(a_directory_without_a_valid_slot_is_as_new),
        leak_checked(no_flipped_bit_of_the_small_files_is_taken_for_good),
        leak_checked(a_segment_ends_where_the_next_one_begins),
        leak_checked(the_newest_good_state_counts_whatever_an_old_slot_names),
        leak_checked(a_sequence_that_only_the_state_knows_is_not_given_again),
        leak_checked(bad_blocks_of_headers_footers_and_states_are_told_and_repaired),
        leak_checked(only_segments_of_the_window_are_read),
        leak_checked(a_read_that_fails_is_told_and_costs_nothing),
        leak_checked(a_slot_that_was_not_read_for_once_is_missed),
    };

    return run_tests("store/load", tests);
}
