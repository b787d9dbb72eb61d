#include "support/test.h"

#include "base/str.h"
#include "store/memtable.h"

/* The model: a plain array of all sequences that a run can reach. */
enum { SEQS = 4000, STEPS = 20000, FIRST = 1000 };

struct expected {
    struct mp_chunk *chunk; /* NULL: none */
    uint32_t offset, size;
};

struct world {
    uint64_t random, end;
    struct expected model[SEQS];
    struct mp_chunks chunks;
    struct mp_memtable table;
};

static uint64_t draw(struct world *w, uint64_t n)
{
    uint64_t z = w->random += 0x9e3779b97f4a7c15ull;

    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ z >> 27) * 0x94d049bb133111ebull;
    return (z ^ z >> 31) % n;
}

static struct world *begin(uint64_t seed)
{
    static struct world w;

    w = (struct world){ .random = seed, .end = FIRST };
    mp_chunks_init(&w.chunks, 256);
    return &w;
}

static struct expected *at(struct world *w, uint64_t seq)
{
    return &w->model[seq - FIRST];
}

static void put(struct world *w, uint64_t seq, uint32_t size)
{
    struct mp_chunk *c = mp_chunks_room(&w->chunks, size);

    *at(w, seq) = (struct expected){ c, c->used, size };
    c->live++;
    mp_memtable_put(&w->table, seq, c, c->used, size);
    c->used += size;
    w->end = seq + 1;
}

static void expect_same(struct world *w)
{
    uint64_t seq = 0, bytes = 0;
    uint32_t live = 0;

    for (uint64_t s = FIRST; s < w->end; s++) {
        const struct expected *e = at(w, s);
        if (e->chunk == NULL)
            continue;
        live++;
        bytes += e->size;
        const struct mp_memslot *got = mp_memtable_next(&w->table, &seq);
        assert_non_null(got);
        assert_int_equal(seq, s);
        assert_ptr_equal(got->chunk, e->chunk);
        assert_int_equal(got->offset, e->offset);
        assert_int_equal(got->size, e->size);
        seq++;
    }
    assert_null(mp_memtable_next(&w->table, &seq));
    assert_int_equal(w->table.live, live);
    assert_int_equal(w->table.bytes, bytes);
    /* The invariant of the header: base is live, or the table is empty. */
    if (live > 0)
        assert_non_null(at(w, w->table.base)->chunk);
    else
        assert_int_equal(w->table.base, w->table.end);
}

static void step(struct world *w)
{
    uint64_t seq = FIRST + draw(w, w->end - FIRST + 10);
    uint64_t dice = draw(w, 100);

    if (dice < 50 && w->end + 20 < FIRST + SEQS) {
        put(w, w->end + (dice < 5 ? draw(w, 20) : 0), 8 + 8 * (uint32_t)draw(w, 40));
    } else if (dice < 80) {
        mp_memtable_drop(&w->table, seq);
        at(w, seq)->chunk = NULL;
    } else if (dice < 82) {
        mp_memtable_trim(&w->table, seq);
        for (uint64_t s = FIRST; s < seq; s++)
            at(w, s)->chunk = NULL;
    } else {
        const struct mp_chunk *c = at(w, seq)->chunk;
        bool same = dice < 95 && c != NULL;
        mp_memtable_evict(&w->table, seq, same ? c : (const void *)w);
        if (same)
            at(w, seq)->chunk = NULL;
    }
}

static void it_holds_what_a_plain_array_holds(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 5; seed++) {
        struct world *w = begin(seed);
        for (int i = 0; i < STEPS && w->end + 20 < FIRST + SEQS; i++) {
            step(w);
            if (i % 16 == 0)
                expect_same(w);
        }
        expect_same(w);
        mp_memtable_fini(&w->table);
        mp_chunks_seal(&w->chunks);
        assert_int_equal(w->chunks.bytes, 0); /* no live entry was forgotten */
        mp_chunks_fini(&w->chunks);
    }
}

static void an_empty_table_has_nothing_and_forgives(void **state)
{
    struct mp_memtable m = { 0 };
    uint64_t seq = 0;

    (void)state;
    assert_null(mp_memtable_next(&m, &seq));
    mp_memtable_drop(&m, 5);
    mp_memtable_trim(&m, 5);
    mp_memtable_evict(&m, 5, NULL);
    mp_memtable_fini(&m);
}

static void a_search_begins_at_the_sequence_asked_for(void **state)
{
    struct world *w = begin(1);
    uint64_t seq = FIRST + 3;

    (void)state;
    put(w, FIRST + 2, 8);
    put(w, FIRST + 7, 8);
    assert_non_null(mp_memtable_next(&w->table, &seq));
    assert_int_equal(seq, FIRST + 7);
    seq = FIRST + 8;
    assert_null(mp_memtable_next(&w->table, &seq));
    assert_int_equal(seq, FIRST + 8); /* untouched */
    mp_memtable_fini(&w->table);
    mp_chunks_fini(&w->chunks);
}

static void a_sequence_never_comes_twice(void **state)
{
    struct world *w = begin(1);

    (void)state;
    put(w, FIRST + 1, 8);
    expect_assert_failure(put(w, FIRST + 1, 8));
    expect_assert_failure(put(w, FIRST, 8));
    mp_memtable_fini(&w->table);
    mp_chunks_fini(&w->chunks);
}

static void an_emptied_large_ring_is_given_back(void **state)
{
    struct mp_memtable m = { 0 };
    struct mp_chunk *c = mp_chunk_new(8);

    (void)state;
    c->is_open = true;
    c->live = 5000;
    for (uint64_t s = 1; s <= 5000; s++)
        mp_memtable_put(&m, s, c, 0, 8);
    assert_int_equal(m.capacity, 8192);
    mp_memtable_trim(&m, 5000);
    assert_int_equal(m.live, 1);
    assert_int_equal(m.capacity, 8192);
    mp_memtable_drop(&m, 5000);
    assert_null(m.slots);
    c->live = 1;
    mp_memtable_put(&m, 6000, c, 0, 8); /* and it begins anew */
    assert_int_equal(m.capacity, 16);
    mp_memtable_fini(&m);
    mp_chunk_unref(c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        leak_checked(it_holds_what_a_plain_array_holds),
        leak_checked(an_empty_table_has_nothing_and_forgives),
        leak_checked(a_search_begins_at_the_sequence_asked_for),
        leak_checked(a_sequence_never_comes_twice),
        leak_checked(an_emptied_large_ring_is_given_back),
    };

    return run_tests("store/memtable", tests);
}
