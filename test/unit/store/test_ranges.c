#include "support/test.h"

#include "store/ranges.h"

enum { SEQS = 512, STEPS = 4000 };

struct world {
    uint64_t random;
    bool has[SEQS]; /* the model */
    struct mp_ranges ranges;
};

static uint64_t draw(struct world *w, uint64_t n)
{
    uint64_t z = w->random += 0x9e3779b97f4a7c15ull;

    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ z >> 27) * 0x94d049bb133111ebull;
    return (z ^ z >> 31) % n;
}

static void expect_same(const struct world *w)
{
    const struct mp_ranges *r = &w->ranges;
    uint64_t total = 0, free_at = SEQS;

    for (uint64_t s = SEQS; s-- > 0;) {
        free_at = w->has[s] ? free_at : s;
        assert_int_equal(mp_ranges_skip(r, s), free_at);
        total += w->has[s];
    }
    assert_int_equal(r->total, total);
    for (size_t i = 0; i < r->count; i++) {
        assert_true(r->items[i].first <= r->items[i].last);
        if (i > 0) /* sorted, and neighbours have grown together */
            assert_true(r->items[i - 1].last + 1 < r->items[i].first);
    }
}

static void it_holds_what_a_bitmap_holds(void **state)
{
    static struct world w;

    (void)state;
    for (uint64_t seed = 1; seed <= 8; seed++) {
        w = (struct world){ .random = seed };
        for (int i = 0; i < STEPS / 8; i++) {
            uint64_t first = draw(&w, SEQS);
            if (draw(&w, 50) == 0) {
                mp_ranges_trim(&w.ranges, first / 4);
                memset(w.has, 0, (size_t)first / 4 * sizeof w.has[0]);
            } else if (draw(&w, 50) == 0) {
                uint64_t end = SEQS - first / 4;
                mp_ranges_cut(&w.ranges, end);
                memset(w.has + end, 0, (size_t)(SEQS - end) * sizeof w.has[0]);
            } else {
                uint64_t last = first + draw(&w, draw(&w, 8) == 0 ? 60 : 3);
                last = last < SEQS ? last : SEQS - 1;
                mp_ranges_add(&w.ranges, first, last);
                for (uint64_t s = first; s <= last; s++)
                    w.has[s] = true;
            }
            expect_same(&w);
        }
        mp_ranges_fini(&w.ranges);
    }
}

static void an_empty_set_has_nothing(void **state)
{
    struct mp_ranges r = { 0 };

    (void)state;
    assert_int_equal(mp_ranges_skip(&r, 7), 7);
    mp_ranges_trim(&r, 100);
    mp_ranges_cut(&r, 1);
    mp_ranges_fini(&r);
}

static void a_range_swallows_all_that_it_touches(void **state)
{
    struct mp_ranges r = { 0 };

    (void)state;
    for (uint64_t s = 10; s < 100; s += 10)
        mp_ranges_add(&r, s, s + 1);
    assert_int_equal(r.count, 9);
    mp_ranges_add(&r, 12, 89); /* touches 10..11 and 90..91 */
    assert_int_equal(r.count, 1);
    assert_int_equal(r.items[0].first, 10);
    assert_int_equal(r.items[0].last, 91);
    assert_int_equal(r.total, 82);
    mp_ranges_fini(&r);
}

static void a_trim_cuts_through_a_range(void **state)
{
    struct mp_ranges r = { 0 };

    (void)state;
    mp_ranges_add(&r, 1, 5);
    mp_ranges_add(&r, 10, 20);
    mp_ranges_trim(&r, 15);
    assert_int_equal(r.count, 1);
    assert_int_equal(r.total, 6);
    assert_int_equal(r.items[0].first, 15);
    mp_ranges_trim(&r, 21);
    assert_int_equal(r.count, 0);
    assert_int_equal(r.total, 0);
    mp_ranges_fini(&r);
}

static void a_range_backwards_is_a_bug(void **state)
{
    struct mp_ranges r = { 0 };

    (void)state;
    expect_assert_failure(mp_ranges_add(&r, 5, 4));
    mp_ranges_fini(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        leak_checked(it_holds_what_a_bitmap_holds),
        leak_checked(an_empty_set_has_nothing),
        leak_checked(a_range_swallows_all_that_it_touches),
        leak_checked(a_trim_cuts_through_a_range),
        leak_checked(a_range_backwards_is_a_bug),
    };

    return run_tests("store/ranges", tests);
}
