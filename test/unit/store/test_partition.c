#include "unit/store/world.h"

enum { SEQS = 700, STEPS = 400 };

/* -- a model that is too simple to be wrong ---------------------------------------- */

struct model {
    uint32_t size[SEQS];         /* encoded; 0: no message there */
    bool is_lost[SEQS];          /* damaged */
    uint64_t floor, last;
    bool is_exact;               /* all that lives is in memory: bytes are exact */
};

static uint32_t encoded(uint32_t payload)
{
    return (40 + payload + 7) & ~7u;
}

static void kill(struct model *m, uint64_t from, uint64_t end)
{
    for (uint64_t i = from; i < end && i < SEQS; i++)
        m->size[i] = 0;
}

static void random_message(struct world *w, struct model *m)
{
    uint32_t size = HEAD_SIZE + (uint32_t)draw(w, 900);
    uint64_t gap = draw(w, 10) == 0 ? draw(w, 4) : 0;

    m->last += 1 + gap;
    message(w, 7, m->last, size, draw(w, 3) == 0 ? m->last : 0);
    if (m->last >= m->floor)
        m->size[m->last] = encoded(size);
    if (m->size[m->last] > 0 && draw(w, 3) == 0)
        m->size[m->last] = 0, delete_some(w, 7, m->last, 1);
}

/* An id takes room, too: the size of what is stored. */
static void note_size(struct model *m, struct world *w, uint64_t seq)
{
    struct mp_partition *p = mp_partitions_find(&w->t, 7);
    const struct mp_memslot *slot = mp_memtable_get(&p->memtable, seq);

    if (m->size[seq] > 0)
        m->size[seq] = slot->size;
}

static void random_hole(struct world *w, struct model *m, uint8_t type)
{
    uint64_t first = type == MP_ENTRY_SKIP ? m->last + 1 : 1 + draw(w, m->last + 3);
    uint64_t last = first + draw(w, 6);
    uint8_t payload[16];

    mp_damage_payload(first, last, payload);
    apply(w, &(struct mp_entry){
                 .type = type, .pid = 7, .seq = type == MP_ENTRY_SKIP ? first : 0,
                 .payload = type == MP_ENTRY_SKIP ? mp_slice(payload + 8, 8)
                                                  : mp_slice(payload, 16) });
    for (uint64_t i = first; i <= last && type == MP_ENTRY_DAMAGE; i++)
        m->is_lost[i] = i >= m->floor;
    if (last > m->last && (type == MP_ENTRY_SKIP || last >= m->floor))
        m->last = last;
}

static void random_step(struct world *w, struct model *m)
{
    uint64_t what = draw(w, 100), at, count;

    if (what < 60) {
        random_message(w, m);
        note_size(m, w, m->last);
    } else if (what < 68) {
        at = m->floor < m->last ? m->last - m->floor : 0;
        at = m->floor + draw(w, at + 3);
        at = draw(w, 4) == 0 ? at : m->floor + (at - m->floor) / 4;
        set_floor(w, 7, at);
        if (at > m->floor) {
            kill(m, 0, at);
            memset(m->is_lost, 0, at * sizeof *m->is_lost);
            m->floor = at;
        }
    } else if (what < 80) {
        at = 1 + draw(w, m->last + 1);
        count = 1 + draw(w, 9);
        delete_some(w, 7, at, (uint8_t)count);
        kill(m, at, at + count);
    } else if (what < 84) {
        random_hole(w, m, MP_ENTRY_SKIP);
    } else if (what < 87) {
        random_hole(w, m, MP_ENTRY_DAMAGE);
    } else if (what < 93) {
        flush(w, 7, 1);
    } else if (what < 96) {
        evict(w);
        m->is_exact &= mp_partitions_find(&w->t, 7)->flushed_seq == 0;
    }
}

/* -- the comparison ---------------------------------------------------------------- */

static void compare_read(struct world *w, const struct model *m, uint64_t seq)
{
    struct mp_partition *p = mp_partitions_find(&w->t, 7);
    uint64_t at = seq > m->floor ? seq : m->floor;
    struct mp_stored got;
    memphis_status s = read_at(w, p, seq, &got);

    while (at <= m->last && m->size[at] == 0 && !m->is_lost[at])
        at++;
    if (at > m->last) {
        assert_int_equal(s, MEMPHIS_NOT_FOUND);
        return;
    }
    if (m->is_lost[at]) {
        while (at < m->last && m->is_lost[at + 1])
            at++;
        assert_int_equal(s, MEMPHIS_CORRUPT);
        assert_int_equal(got.entry.seq, at);
        return;
    }
    assert_int_equal(s, MEMPHIS_OK);
    check_entry(&got.entry, 7, at);
    assert_true(mp_partition_has(p, at));
    assert_int_equal(mp_partition_has(p, seq), seq == at);
    mp_stored_release(&got);
}

static void compare(struct world *w, const struct model *m)
{
    struct mp_partition *p = mp_partitions_find(&w->t, 7);
    struct mp_log_stats st;
    uint64_t messages_count = 0, bytes = 0, first = m->last + 1;

    for (uint64_t i = m->last; i >= m->floor && i > 0; i--) {
        if (m->size[i] == 0)
            continue;
        messages_count++;
        bytes += m->size[i];
        first = i;
    }
    mp_partition_stats(p, &st);
    assert_int_equal(st.messages, messages_count);
    assert_int_equal(st.last_seq, m->last);
    assert_int_equal(st.first_seq, first);
    assert_int_equal(mp_partition_first(p), first);
    if (m->is_exact || messages_count == 0)
        assert_int_equal(st.bytes, bytes);
    for (int i = 0; i < 6; i++)
        compare_read(w, m, draw(w, m->last + 3));
}

/* What the state file holds makes the same partition. */
static void compare_state(struct world *w)
{
    struct mp_partition *p = mp_partitions_find(&w->t, 7);
    struct mp_partition *other = mp_partition_new(7);
    struct mp_buf b = { 0 };

    other->floor = p->floor;
    other->last = p->last;
    mp_partition_state_put(p, &b);
    assert_int_equal(mp_partition_state_take(other, mp_buf_slice(&b), NULL), 0);
    assert_int_equal(other->dead.count, p->dead.count);
    assert_int_equal(other->dead.total, p->dead.total);
    assert_int_equal(other->damage.count, p->damage.count);
    for (size_t i = 0; i < p->dead.count; i++)
        assert_memory_equal(&other->dead.items[i], &p->dead.items[i],
                            sizeof p->dead.items[i]);
    for (size_t i = 0; i < p->damage.count; i++)
        assert_memory_equal(&other->damage.items[i], &p->damage.items[i],
                            sizeof p->damage.items[i]);
    mp_buf_fini(&b);
    mp_partition_free(other, NULL);
}

static void a_partition_does_what_an_array_would_do(void **state)
{
    (void)state;

    for (uint64_t seed = 1; seed <= 60; seed++) {
        struct world *w = world_new(seed);
        struct model *m = calloc(1, sizeof *m);
        m->floor = 1;
        m->is_exact = true;
        open_partition(w, 7);
        for (int i = 0; i < STEPS && m->last < SEQS - 20; i++) {
            random_step(w, m);
            compare(w, m);
        }
        for (uint64_t seq = 0; seq <= m->last + 1; seq++)
            compare_read(w, m, seq);
        compare_state(w);
        free(m);
        world_free(w);
    }
}

/* -- ids of the dead --------------------------------------------------------------- */

static void ids_of_messages_that_die_before_a_flush_are_kept_until_it(void **state)
{
    struct world *w = world_new(1);
    struct mp_partition *p = open_partition(w, 7);
    (void)state;

    for (uint64_t seq = 1; seq <= 20; seq++)
        message(w, 7, seq, 100, seq % 2 ? seq : 0);
    delete_some(w, 7, 15, 3); /* 15, 17 have ids */
    set_floor(w, 7, 5);       /* 1, 3 */
    assert_int_equal(p->dead_ids_count, 4);
    static const uint64_t seqs[] = { 1, 3, 15, 17 };
    for (size_t i = 0; i < 4; i++)
        assert_int_equal(p->dead_ids[i].seq, seqs[i]);
    flush(w, 7, 1);
    assert_int_equal(p->dead_ids_count, 0);
    delete_some(w, 7, 9, 1); /* its entry is in a segment */
    assert_int_equal(p->dead_ids_count, 0);
    message(w, 7, 21, 100, 21);
    delete_some(w, 7, 21, 1);
    assert_int_equal(p->dead_ids_count, 1);
    p->flushed_seq = 20;
    mp_partition_forget_ids(p); /* a pass that began before */
    assert_int_equal(p->dead_ids_count, 1);
    world_free(w);
}

static void a_shard_without_files_keeps_no_ids_and_no_chunk(void **state)
{
    struct world *w = world_new(2);
    (void)state;

    w->t.cold = NULL;
    struct mp_partition *p = open_partition(w, 7);
    for (uint64_t seq = 1; seq <= 200; seq++)
        message(w, 7, seq, 100, seq);
    set_floor(w, 7, 201);
    assert_int_equal(p->dead_ids_count, 0);
    mp_chunks_seal(&w->chunks);
    assert_int_equal(w->chunks.bytes, 0);
    w->t.cold = w->cold;
    world_free(w);
}

/* -- the table --------------------------------------------------------------------- */

static void rows_of_the_table_are_open_entries_again(void **state)
{
    struct world *w = world_new(3);
    struct mp_buf b = { 0 }, payload = { 0 };
    bool seen[20] = { false }, has_files;
    memphis_slice row;
    struct mp_entry e;
    uint16_t tag;
    (void)state;

    for (uint32_t pid = 1; pid < 20; pid++) {
        uint8_t open[15] = { 1, (uint8_t)pid, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0,
                             's', 't' };
        apply(w, &(struct mp_entry){ .type = MP_ENTRY_PARTITION, .pid = pid,
                                     .payload = { open, 13 + pid % 3 } });
    }
    messages(w, 5, 1, 3, 50);                           /* part of this pass */
    mp_partitions_find(&w->t, 6)->generation = 1;       /* of an earlier one */
    mp_partitions_find(&w->t, 8)->has_directory = true; /* nobody knows what is in it */
    mp_partitions_table_put(&w->t, &b);
    struct mp_cursor c = mp_cursor_of(mp_buf_slice(&b));
    while (mp_state_next(&c, &tag, &row)) {
        assert_int_equal(tag, MP_STATE_PARTITION);
        assert_true(mp_partitions_table_row(row, &e, &has_files, &payload));
        assert_false(seen[e.pid]);
        seen[e.pid] = true;
        assert_int_equal(has_files, e.pid == 5 || e.pid == 6);
        const uint8_t *p = e.payload.data;
        assert_int_equal(e.payload.size, 13 + e.pid % 3);
        assert_int_equal(p[0], 1);
        assert_int_equal(p[1], e.pid);
        assert_int_equal(p[5], 2);
        assert_int_equal(p[9], 3);
        assert_true(e.pid % 3 == 0 || p[13] == 's');
        for (size_t size = 0; size < row.size; size++) /* cut off: never good */
            assert_false(mp_partitions_table_row(mp_slice(row.data, size), &e,
                                                 &has_files, &payload));
    }
    assert_false(c.bad);
    for (uint32_t pid = 1; pid < 20; pid++)
        assert_true(seen[pid]);
    mp_buf_fini(&b);
    mp_buf_fini(&payload);
    world_free(w);
}

static void many_partitions_come_and_go(void **state)
{
    struct world *w = world_new(4);
    bool is_open[2000] = { false };
    uint8_t drop[13] = { 3 };
    uint32_t count = 0, walked = 0;
    (void)state;

    for (int i = 0; i < 4000; i++) {
        uint32_t pid = 1 + (uint32_t)draw(w, 1999);
        if (!is_open[pid]) {
            open_partition(w, pid);
            if (pid % 5 == 0)
                mp_partitions_find(&w->t, pid)->has_directory = true;
        } else {
            uint32_t before = w->t.dropped_count;
            apply(w, &(struct mp_entry){ .type = MP_ENTRY_PARTITION, .pid = pid,
                                         .payload = { drop, sizeof drop } });
            assert_int_equal(w->t.dropped_count, before + (pid % 5 == 0));
        }
        is_open[pid] = !is_open[pid];
    }
    struct mp_partition *p;
    for (uint32_t i = 0; (p = mp_partitions_next(&w->t, &i)) != NULL; walked++)
        assert_true(p->pid == 0 || is_open[p->pid]);
    for (uint32_t pid = 1; pid < 2000; pid++) {
        count += is_open[pid];
        assert_int_equal(mp_partitions_find(&w->t, pid) != NULL, is_open[pid]);
    }
    assert_int_equal(walked, count + 1);
    world_free(w);
}

/* The table is not built again: only what stands behind it in the same run moves. */
static void a_drop_takes_no_memory_and_loses_nobody_else(void **state)
{
    struct mp_partitions t = { .count = 0 };
    uint8_t drop[13] = { 3 };
    memphis_error err;
    bool kept;
    (void)state;

    for (uint32_t pid = 0; pid < 500; pid++)
        (void)mp_partitions_add(&t, pid);
    for (uint32_t i = 1; i < 500; i++) {
        uint32_t pid = i * 7 % 500; /* in no order of theirs */
        struct mp_entry e = { .type = MP_ENTRY_PARTITION,
                              .pid = pid,
                              .payload = { drop, sizeof drop } };
        mp_heap_current()->fail_in = 1;
        assert_int_equal(mp_partitions_apply(&t, &e, NULL, i, &kept, &err), MEMPHIS_OK);
        assert_int_equal(mp_heap_current()->fail_in, 1);
        mp_heap_current()->fail_in = 0;
        assert_null(mp_partitions_find(&t, pid));
        for (uint32_t k = i + 1; k < 500; k++)
            assert_non_null(mp_partitions_find(&t, k * 7 % 500));
    }
    assert_int_equal(t.count, 1);
    mp_partitions_fini(&t);
}

static void entries_of_a_partition_that_is_not_open_are_ignored(void **state)
{
    struct world *w = world_new(5);
    uint8_t configure[13] = { 2 };
    (void)state;

    messages(w, 7, 1, 3, 50);
    set_floor(w, 7, 2);
    apply(w, &(struct mp_entry){ .type = MP_ENTRY_PARTITION, .pid = 7,
                                 .payload = { configure, sizeof configure } });
    assert_null(mp_partitions_find(&w->t, 7));
    mp_chunks_seal(&w->chunks);
    assert_int_equal(w->chunks.bytes, 0);
    world_free(w);
}

/* -- input that makes no sense ----------------------------------------------------- */

static void is_refused(struct world *w, const struct mp_entry *e)
{
    memphis_error err = { 0 };
    bool kept = false;
    uint64_t last = mp_partitions_find(&w->t, 7)->last;

    assert_int_equal(apply_try(w, e, &kept, &err), MEMPHIS_CORRUPT);
    assert_non_null(strstr(err.message, "restore the data directory from a backup"));
    assert_false(kept);
    assert_int_equal(mp_partitions_find(&w->t, 7)->last, last);
}

static void entries_that_make_no_sense_are_refused(void **state)
{
    struct world *w = world_new(6);
    uint8_t range[16], many[12] = { 1, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
                                    0xff, 0xff, 1 };
    uint8_t op[13] = { 9 };
    (void)state;

    open_partition(w, 7);
    messages(w, 7, 1, 10, 50);
    struct mp_entry e = { .type = MP_ENTRY_MESSAGE, .pid = 7, .seq = 10 };
    is_refused(w, &e);
    e.seq = 12 + (1 << 26); /* memory would grow with it */
    is_refused(w, &e);
    e.seq = 1ull << 63;
    is_refused(w, &e);
    e = (struct mp_entry){ .type = MP_ENTRY_FLOOR, .pid = 7, .payload = { range, 7 } };
    is_refused(w, &e);
    e = (struct mp_entry){ .type = MP_ENTRY_DELETE, .pid = 7, .seq = 5,
                           .payload = { many, 2 } };
    is_refused(w, &e);
    e.payload = mp_slice(many, sizeof many);
    e.seq = UINT64_MAX - 5;
    is_refused(w, &e);
    e = (struct mp_entry){ .type = MP_ENTRY_DAMAGE, .pid = 7,
                           .payload = { range, sizeof range } };
    mp_set_u64(range, 5);
    mp_set_u64(range + 8, 4);
    is_refused(w, &e);
    mp_set_u64(range + 8, 1ull << 63);
    is_refused(w, &e);
    e = (struct mp_entry){ .type = MP_ENTRY_PARTITION, .pid = 7,
                           .payload = { op, sizeof op } };
    is_refused(w, &e);
    world_free(w);
}

/* Whatever was there before may be lost: the rest counts, and memory holds no more than
 * that. */
static void a_gap_in_front_of_what_is_in_memory_may_be_of_any_size(void **state)
{
    (void)state;

    for (int how = 0; how < 3; how++) {
        struct world *w = world_new(9);
        struct mp_partition *p = open_partition(w, 7);
        struct mp_stored m;
        uint64_t at = 1ull << (how == 0 ? 27 : 60);
        uint8_t range[16];
        if (how == 1) { /* nor does what was there and has left it matter */
            messages(w, 7, 1, 10, 50);
            flush(w, 7, 1);
            evict(w);
            assert_int_equal(p->memtable.live, 0);
        }
        if (how == 2) { /* of an accepting start, which knew what is lost now */
            mp_damage_payload(at, at + 65535, range);
            apply(w, &(struct mp_entry){ .type = MP_ENTRY_SKIP, .pid = 7, .seq = at,
                                         .payload = { range + 8, 8 } });
            at += 65536;
        }
        for (uint64_t seq = at; seq < at + 10; seq++)
            message(w, 7, seq, 50, 0);
        assert_true(p->memtable.capacity <= 16);
        assert_int_equal(read_at(w, p, 11, &m), MEMPHIS_OK);
        check_entry(&m.entry, 7, at);
        mp_stored_release(&m);
        assert_int_equal(p->last, at + 9);
        world_free(w);
    }
}

static void a_state_file_that_makes_no_sense_is_refused(void **state)
{
    struct world *w = world_new(7);
    struct mp_partition *p = open_partition(w, 7);
    struct mp_buf b = { 0 };
    memphis_error err = { 0 };
    (void)state;

    messages(w, 7, 1, 30, 50);
    delete_some(w, 7, 5, 3);
    delete_some(w, 7, 15, 3);
    mp_partition_state_put(p, &b);
    for (size_t size = 1; size < b.size; size++) {
        struct mp_partition *other = mp_partition_new(7);
        other->last = 30;
        assert_int_equal(mp_partition_state_take(other, mp_slice(b.data, size), &err),
                         MEMPHIS_CORRUPT);
        mp_partition_free(other, NULL);
    }
    struct mp_partition *other = mp_partition_new(7);
    other->last = 16; /* its ranges go further than its messages */
    assert_int_equal(mp_partition_state_take(other, mp_buf_slice(&b), &err),
                     MEMPHIS_CORRUPT);
    mp_partition_free(other, NULL);
    mp_buf_fini(&b);
    world_free(w);
}

static void an_unknown_item_of_a_state_file_is_refused(void **state)
{
    struct mp_partition *p = mp_partition_new(7);
    memphis_error err = { 0 };
    (void)state;

    for (uint32_t tag = 0; tag <= UINT16_MAX; tag++) {
        bool known = tag == 1 || tag == MP_STATE_DEAD || tag == MP_STATE_DAMAGE ||
                     tag == MP_STATE_PARTITION || tag == 18 || tag >= 32768;
        struct mp_buf b = { 0 };
        mp_state_put(&b, (uint16_t)tag, "", 0);
        assert_int_equal(mp_partition_state_take(p, mp_buf_slice(&b), &err),
                         known ? MEMPHIS_OK : MEMPHIS_UNSUPPORTED);
        mp_buf_fini(&b);
    }
    assert_non_null(strstr(err.message, "items of type 32767 "));
    mp_partition_free(p, NULL);
}

/* What a read finds out never moves the end of the partition. */
static void what_cannot_be_read_is_bounded_by_what_there_is(void **state)
{
    struct world *w = world_new(8);
    struct mp_partition *p = open_partition(w, 7);
    struct mp_stored m;
    struct mp_buf b = { 0 };
    (void)state;

    messages(w, 7, 1, 10, 50);
    mp_partition_lose(p, 8, 4000000000);
    assert_int_equal(p->last, 10);
    assert_int_equal(read_at(w, p, 9, &m), MEMPHIS_CORRUPT);
    assert_int_equal(m.entry.seq, 10);
    message(w, 7, 11, 50, 0);
    assert_int_equal(read_at(w, p, 11, &m), MEMPHIS_OK);
    mp_stored_release(&m);
    mp_partition_state_put(p, &b);
    assert_int_equal(b.size, 0); /* nor is it written down */
    set_floor(w, 7, 11);
    assert_int_equal(p->unreadable.count, 0);
    mp_partition_lose(p, 3, 7);
    assert_int_equal(p->unreadable.count, 0);
    mp_buf_fini(&b);
    world_free(w);
}

/* A slot has known 30 messages, and of the segments only one is left. */
static void what_files_have_lost_at_their_end_the_log_tells_again(void **state)
{
    static const char expected[32] = ".mmmmmmmmmm.llmmldmlllllllllllll";
    struct world *w = world_new(10);
    struct mp_partition *p = open_partition(w, 7);
    struct mp_stored m;
    (void)state;

    messages(w, 7, 1, 10, 50);
    flush(w, 7, 1);
    evict(w);
    p->last = p->flushed_seq = 31;
    mp_ranges_add(&p->dead, 11, 11);
    mp_ranges_add(&p->dead, 17, 17);
    p->is_rebuilt = true;
    for (uint64_t seq = 1; seq <= 18; seq++) {
        struct mp_entry e = { .type = MP_ENTRY_MESSAGE, .pid = 7, .seq = seq };
        bool is_told = seq == 14 || seq == 15 || seq == 18;
        if (seq < 12 || seq == 17)
            assert_true(mp_partitions_has_flushed(&w->t, &e, w->index + 1));
        if (!is_told)
            continue;
        assert_false(mp_partitions_has_flushed(&w->t, &e, w->index + 1));
        message(w, 7, seq, 50, 0);
        assert_true(mp_partitions_has_flushed(&w->t, &e, w->index + 1));
    }
    assert_int_equal(p->flushed_seq, 13); /* a segment takes them */
    mp_partition_lose(p, 12, 13);         /* as the end of a start does */
    for (int round = 0; round < 2; round++) {
        assert_int_equal(p->last, 31);
        for (uint64_t seq = 1; seq <= 31; seq++) {
            memphis_status s = read_at(w, p, seq, &m);
            uint64_t found = m.entry.seq;
            if (s == MEMPHIS_OK)
                mp_stored_release(&m);
            if (expected[seq] == 'm')
                assert_true(s == MEMPHIS_OK && found == seq);
            if (expected[seq] == 'l')
                assert_true(s == MEMPHIS_CORRUPT && found >= seq);
        }
        flush(w, 7, 1);
        evict(w);
        assert_int_equal(p->memtable.live, 0);
    }
    world_free(w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        leak_checked(a_partition_does_what_an_array_would_do),
        leak_checked(ids_of_messages_that_die_before_a_flush_are_kept_until_it),
        leak_checked(a_shard_without_files_keeps_no_ids_and_no_chunk),
        leak_checked(rows_of_the_table_are_open_entries_again),
        leak_checked(many_partitions_come_and_go),
        leak_checked(a_drop_takes_no_memory_and_loses_nobody_else),
        leak_checked(entries_of_a_partition_that_is_not_open_are_ignored),
        leak_checked(entries_that_make_no_sense_are_refused),
        leak_checked(a_gap_in_front_of_what_is_in_memory_may_be_of_any_size),
        leak_checked(a_state_file_that_makes_no_sense_is_refused),
        leak_checked(an_unknown_item_of_a_state_file_is_refused),
        leak_checked(what_files_have_lost_at_their_end_the_log_tells_again),
        leak_checked(what_cannot_be_read_is_bounded_by_what_there_is),
    };

    return run_tests("store/partition", tests);
}
