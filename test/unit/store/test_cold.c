#include "unit/store/world.h"

/* Pid 7 with messages 1..count in segments, none of them in memory. */
static struct mp_partition *with_cold(struct world *w, uint32_t pid, uint64_t count,
                                      uint32_t size)
{
    struct mp_partition *p = open_partition(w, pid);

    messages(w, pid, 1, count, size);
    flush(w, pid, 1);
    evict(w);
    assert_int_equal(p->memtable.live, 0);
    return p;
}

static const struct mp_segment *segment_of(const struct mp_partition *p, uint64_t seq)
{
    for (uint32_t i = 0; i < p->segments_count; i++)
        if (seq <= p->segments[i].last)
            return &p->segments[i];
    return NULL;
}

static void limit_to(struct world *w, uint64_t bytes)
{
    struct mp_cold_options o = { .env = w->env, .shard = SHARD, .bytes_max = bytes,
                                 .ready = on_ready, .damaged = on_damaged, .ctx = w };

    mp_cold_stop(w->cold);
    mp_mailbox_drain(&w->box);
    mp_cold_free(w->cold);
    assert_int_equal(mp_cold_new(&o, &w->cold, NULL), MEMPHIS_OK);
    w->t.cold = w->cold;
}

static void a_block_is_fetched_once_and_serves_all_that_is_in_it(void **state)
{
    struct world *w = world_new(1);
    struct mp_partition *p = with_cold(w, 7, 100, 200);
    struct mp_stored m;
    uint64_t empty_to;
    (void)state;

    const struct mp_segment *g = segment_of(p, 1);
    assert_int_equal(mp_cold_find(w->cold, &p->cold, 1, &m, &empty_to), MP_PENDING);
    mp_cold_want(w->cold, &p->cold, 7, g, 1);
    mp_cold_want(w->cold, &p->cold, 7, g, 1); /* asked again: the same wish */
    assert_int_equal(mp_cold_find(w->cold, &p->cold, 1, &m, &empty_to), MP_PENDING);
    assert_int_equal(w->readies, 0); /* nothing happens but in the mailbox */
    mp_mailbox_drain(&w->box);
    assert_int_equal(w->readies, 1);
    for (int round = 0; round < 2; round++) {
        for (uint64_t i = 1; i <= g->last; i++) {
            uint64_t seq = round ? g->last + 1 - i : i; /* there and back */
            assert_int_equal(mp_cold_find(w->cold, &p->cold, seq, &m, &empty_to),
                             MEMPHIS_OK);
            check_entry(&m.entry, 7, seq);
            mp_stored_release(&m);
        }
    }
    assert_int_equal(w->readies, 1);
    world_free(w);
}

static void memory_is_bounded_and_the_least_used_block_goes_first(void **state)
{
    struct world *w = world_new(2);
    uint64_t most = 0, empty_to;
    struct mp_stored m;
    (void)state;

    limit_to(w, 100 << 10);
    struct mp_partition *p = with_cold(w, 7, 1000, 1000);
    for (uint64_t seq = 1; seq <= 1000; seq++) {
        assert_int_equal(read_at(w, p, seq, &m), MEMPHIS_OK);
        check_entry(&m.entry, 7, seq);
        mp_stored_release(&m);
        if (mp_cold_bytes(w->cold) > most)
            most = mp_cold_bytes(w->cold);
        if (seq > 20) { /* the first block is in use all the time: it stays */
            assert_int_equal(mp_cold_find(w->cold, &p->cold, 1, &m, &empty_to),
                             MEMPHIS_OK);
            mp_stored_release(&m);
        }
    }
    assert_true(most <= (100 << 10));
    assert_true(most > (50 << 10));
    assert_int_equal(mp_cold_find(w->cold, &p->cold, 300, &m, &empty_to), MP_PENDING);
    world_free(w);
}

static void a_block_larger_than_the_bound_is_served_all_the_same(void **state)
{
    struct world *w = world_new(3);
    struct mp_stored m;
    (void)state;

    limit_to(w, 1000);
    struct mp_partition *p = with_cold(w, 7, 30, 100000);
    for (uint64_t seq = 1; seq <= 30; seq++) {
        assert_int_equal(read_at(w, p, seq, &m), MEMPHIS_OK);
        check_entry(&m.entry, 7, seq);
        mp_stored_release(&m);
    }
    assert_true(mp_cold_bytes(w->cold) < 110000);
    world_free(w);
}

/* Each needs a block of its own, and there is room for one only. */
static void readers_at_different_places_all_progress(void **state)
{
    struct world *w = world_new(4);
    enum { READERS = 3 };
    struct mp_partition *p[READERS];
    uint64_t at[READERS] = { 1, 400, 200 };
    struct mp_stored m;
    int rounds = 0;
    (void)state;

    limit_to(w, 40 << 10);
    p[0] = p[1] = with_cold(w, 7, 600, 1000);
    p[2] = with_cold(w, 8, 600, 1000);
    while (at[0] < 100 || at[1] < 500 || at[2] < 300) {
        for (int i = 0; i < READERS; i++) {
            /* A reader takes what is there, then waits for `ready`. */
            memphis_status s;
            while ((s = mp_partition_read(p[i], w->cold, at[i], &m)) == MEMPHIS_OK) {
                check_entry(&m.entry, i == 2 ? 8 : 7, at[i]);
                mp_stored_release(&m);
                at[i]++;
            }
            assert_true(s == MP_PENDING || s == MEMPHIS_NOT_FOUND);
        }
        uint64_t before[READERS] = { at[0], at[1], at[2] };
        mp_mailbox_drain(&w->box);
        if (++rounds > 500)
            fail_msg("no progress: %d %d %d", (int)before[0], (int)before[1],
                     (int)before[2]);
    }
    world_free(w);
}

static void a_reader_that_holds_a_message_keeps_its_bytes(void **state)
{
    struct world *w = world_new(5);
    struct mp_stored held, m;
    (void)state;

    limit_to(w, 40 << 10);
    struct mp_partition *p = with_cold(w, 7, 300, 1000);
    assert_int_equal(read_at(w, p, 3, &held), MEMPHIS_OK);
    for (uint64_t seq = 100; seq <= 300; seq++) {
        assert_int_equal(read_at(w, p, seq, &m), MEMPHIS_OK);
        mp_stored_release(&m);
    }
    check_entry(&held.entry, 7, 3);
    world_free(w);
    check_entry(&held.entry, 7, 3); /* also when there is nothing left to read from */
    mp_stored_release(&held);
}

static void what_is_forgotten_while_it_is_read_comes_to_nothing(void **state)
{
    struct world *w = world_new(6);
    (void)state;

    struct mp_partition *p = with_cold(w, 7, 100, 1000);
    struct mp_partition *other = with_cold(w, 8, 100, 1000);
    for (uint64_t seq = 1; seq <= 90; seq += 30) /* one is being read, two wait */
        mp_cold_want(w->cold, &p->cold, 7, segment_of(p, seq), seq);
    mp_cold_want(w->cold, &other->cold, 8, segment_of(other, 5), 5);
    mp_cold_forget(w->cold, &p->cold);
    mp_cold_forget(w->cold, &p->cold);
    while (mp_mailbox_drain(&w->box) > 0)
        continue;
    assert_int_equal(w->readies, 1); /* of the other one */
    assert_true(mp_list_is_empty(&p->cold.blocks));
    assert_true(mp_cold_bytes(w->cold) <= 64 << 10);

    uint8_t drop[13] = { 3 }; /* and when the partition itself goes */
    mp_cold_want(w->cold, &p->cold, 7, segment_of(p, 1), 1);
    apply(w, &(struct mp_entry){ .type = MP_ENTRY_PARTITION, .pid = 7,
                                 .payload = { drop, sizeof drop } });
    assert_null(mp_partitions_find(&w->t, 7));
    while (mp_mailbox_drain(&w->box) > 0)
        continue;
    assert_int_equal(w->readies, 1);
    world_free(w);
}

static void damage_is_told_before_the_reader_is_woken(void **state)
{
    struct world *w = world_new(7);
    struct mp_stored m;
    char path[MP_PATH_SIZE];
    (void)state;

    struct mp_partition *p = with_cold(w, 7, 100, 1000);
    mp_path_segment(SHARD, 7, 1, path);
    assert_true(mp_disk_flip(w->disk, path, 4096 + 1040 * 2 + 100, 1));
    assert_int_equal(read_at(w, p, 1, &m), MEMPHIS_OK); /* up to there */
    mp_stored_release(&m);
    assert_int_equal(w->damages, 0);
    assert_int_equal(read_at(w, p, 3, &m), MEMPHIS_CORRUPT);
    assert_int_equal(m.entry.seq, 3);
    assert_int_equal(w->damages, 1);
    assert_int_equal(w->damage_first, 3);
    assert_int_equal(w->damage_last, 3);
    assert_int_equal(read_at(w, p, 3, &m), MEMPHIS_CORRUPT); /* known by now */
    assert_int_equal(w->damages, 1);
    assert_int_equal(read_at(w, p, 4, &m), MEMPHIS_OK);
    check_entry(&m.entry, 7, 4);
    mp_stored_release(&m);

    uint64_t last = p->segments[1].last; /* a missing file; a disk that does not read */
    mp_path_segment(SHARD, 7, p->segments[1].first, path);
    assert_int_equal(w->env->unlink(w->env, path, NULL), MEMPHIS_OK);
    assert_int_equal(read_at(w, p, p->segments[1].first, &m), MEMPHIS_CORRUPT);
    assert_int_equal(m.entry.seq, last);
    mp_disk_fail(w->disk, MP_DISK_READ, 1, MEMPHIS_IO, true);
    assert_int_equal(read_at(w, p, last + 1, &m), MEMPHIS_CORRUPT);
    mp_disk_heal(w->disk);
    assert_int_equal(p->last, 100);
    assert_int_equal(p->damage.count, 0); /* nothing of this is for the files */
    world_free(w);
}

/* Ids and what was deleted before the flush: no message up to the end of the block. */
static void blocks_without_messages_say_so(void **state)
{
    struct world *w = world_new(8);
    struct mp_partition *p = open_partition(w, 7);
    struct mp_stored m;
    (void)state;

    for (uint64_t seq = 1; seq <= 100; seq++)
        message(w, 7, seq, 500, seq);
    delete_some(w, 7, 10, 60);
    delete_some(w, 7, 95, 6);
    flush(w, 7, 1);
    evict(w);
    mp_ranges_fini(&p->dead); /* as if nobody knew */
    assert_int_equal(read_at(w, p, 10, &m), MEMPHIS_OK);
    check_entry(&m.entry, 7, 70);
    mp_stored_release(&m);
    assert_int_equal(read_at(w, p, 95, &m), MEMPHIS_NOT_FOUND);
    world_free(w);
}

/* The way over dead messages that nobody knows of needs two blocks, and there is room
 * for one: what the first said is not asked again. */
static void a_walk_over_several_blocks_comes_to_its_end(void **state)
{
    struct world *w = world_new(10);
    struct mp_partition *p = open_partition(w, 7);
    struct mp_stored m;
    (void)state;

    limit_to(w, 1000);
    messages(w, 7, 1, 3, 10000);
    messages(w, 7, 4, 6, 30000);
    delete_some(w, 7, 2, 1);
    delete_some(w, 7, 4, 2);
    flush(w, 7, 1);
    evict(w);
    mp_ranges_fini(&p->dead);        /* as if nobody knew */
    mp_ranges_add(&p->dead, 3, 3);   /* but one: message 3 is in the block of 2 */
    assert_int_equal(read_at(w, p, 2, &m), MEMPHIS_OK);
    check_entry(&m.entry, 7, 6);
    mp_stored_release(&m);
    assert_int_equal(p->dead.total, 2);
    world_free(w);
}

static void a_stop_leaves_wishes_to_be_forgotten(void **state)
{
    struct world *w = world_new(9);
    (void)state;

    struct mp_partition *p = with_cold(w, 7, 100, 1000);
    for (uint64_t seq = 1; seq <= 90; seq += 30)
        mp_cold_want(w->cold, &p->cold, 7, segment_of(p, seq), seq);
    mp_cold_stop(w->cold);
    mp_mailbox_drain(&w->box);
    mp_cold_want(w->cold, &p->cold, 7, segment_of(p, 2), 2);
    world_free(w); /* closes all: nothing is left */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        leak_checked(a_block_is_fetched_once_and_serves_all_that_is_in_it),
        leak_checked(memory_is_bounded_and_the_least_used_block_goes_first),
        leak_checked(a_block_larger_than_the_bound_is_served_all_the_same),
        leak_checked(readers_at_different_places_all_progress),
        leak_checked(a_reader_that_holds_a_message_keeps_its_bytes),
        leak_checked(what_is_forgotten_while_it_is_read_comes_to_nothing),
        leak_checked(damage_is_told_before_the_reader_is_woken),
        leak_checked(blocks_without_messages_say_so),
        leak_checked(a_walk_over_several_blocks_comes_to_its_end),
        leak_checked(a_stop_leaves_wishes_to_be_forgotten),
    };

    return run_tests("store/cold", tests);
}
