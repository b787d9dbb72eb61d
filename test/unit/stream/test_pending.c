#include "support/test.h"

#include "stream/pending.h"

#include <stdlib.h>

/* === A naive model: arrays, everything by looking at all of it === */

enum { ITEMS = 700 };

struct model_item {
    enum mp_pending_state state;
    uint64_t time_ns;
    uint64_t order; /* of entering its list */
};

struct world {
    struct mp_pending p;
    uint64_t base; /* sequences are base + 0 .. ITEMS - 1 */
    struct model_item items[ITEMS];
    uint64_t orders, now, count;
    uint32_t seed;
};

static uint32_t rnd(struct world *w, uint32_t n)
{
    w->seed = w->seed * 1664525u + 1013904223u;
    return (w->seed >> 8) % n;
}

/* Index of the best item of a list; -1: none. DELAYED by time, others by order. */
static int model_first(const struct world *w, enum mp_pending_state s, uint64_t after)
{
    int best = -1;

    for (int i = 0; i < ITEMS; i++) {
        const struct model_item *m = &w->items[i], *b = &w->items[best < 0 ? 0 : best];

        if (m->state != s || m->order <= after)
            continue;
        if (best < 0 || (s == MP_PENDING_DELAYED ? m->time_ns < b->time_ns
                                                 : m->order < b->order))
            best = i;
    }
    return best;
}

static void check_list(struct world *w, enum mp_pending_state s)
{
    uint64_t seq, after = 0;
    bool more = mp_pending_first(&w->p, s, &seq);

    for (int steps = 0; more && steps < 5; steps++) {
        int i = model_first(w, s, after);

        assert_true(i >= 0);
        assert_int_equal(seq, w->base + (uint64_t)i);
        after = w->items[i].order;
        more = mp_pending_after(&w->p, mp_pending_find(&w->p, seq), &seq);
        assert_int_equal(more, model_first(w, s, after) >= 0);
    }
    if (after == 0)
        assert_int_equal(model_first(w, s, 0), -1);
}

static void check_due(struct world *w)
{
    uint64_t seq, time_ns;
    int i = model_first(w, MP_PENDING_DELAYED, 0);

    assert_int_equal(mp_pending_due(&w->p, &seq, &time_ns), i >= 0);
    if (i >= 0) {
        assert_int_equal(seq, w->base + (uint64_t)i); /* of equal times the lowest */
        assert_int_equal(time_ns, w->items[i].time_ns);
    }
}

static void check_lowest(struct world *w)
{
    uint32_t from = rnd(w, ITEMS + 20);
    uint64_t seq;
    uint32_t i = from;

    while (i < ITEMS && w->items[i].state == MP_PENDING_NONE)
        i++;
    assert_int_equal(mp_pending_lowest(&w->p, w->base + from, &seq), i < ITEMS);
    if (i < ITEMS)
        assert_int_equal(seq, w->base + i);
}

static void check(struct world *w)
{
    mp_pending_check(&w->p);
    assert_int_equal(w->p.count, w->count);
    for (uint32_t i = 0; i < ITEMS; i++) {
        const struct mp_pending_item *item = mp_pending_find(&w->p, w->base + i);

        assert_int_equal(item != NULL, w->items[i].state != MP_PENDING_NONE);
        if (item != NULL) {
            assert_int_equal(item->state, w->items[i].state);
            assert_int_equal(item->deliveries, i % 1000);
        }
    }
    check_list(w, MP_PENDING_WAITING);
    check_list(w, MP_PENDING_COUNTING);
    check_list(w, MP_PENDING_READY);
    check_due(w);
    check_lowest(w);
}

static void step(struct world *w, uint32_t spread)
{
    uint32_t at = (uint32_t)(w->orders / 8 + rnd(w, spread)) % ITEMS;
    struct model_item *m = &w->items[at];
    struct mp_pending_item *i = mp_pending_find(&w->p, w->base + at);
    enum mp_pending_state to = MP_PENDING_WAITING + rnd(w, 4);
    uint64_t time_ns = w->now;

    w->now += rnd(w, 3);
    if (to == MP_PENDING_DELAYED)
        time_ns = w->now + rnd(w, 50);
    if (i != NULL && rnd(w, 2)) {
        mp_pending_remove(&w->p, w->base + at);
        m->state = MP_PENDING_NONE;
        w->count--;
        return;
    }
    if (i == NULL) {
        i = mp_pending_add(&w->p, w->base + at, to, time_ns);
        i->deliveries = (uint16_t)(at % 1000);
        w->count++;
    } else {
        mp_pending_move(&w->p, w->base + at, i, to, time_ns);
    }
    *m = (struct model_item){ to, time_ns, ++w->orders };
}

static void run_seed(uint32_t seed, uint64_t base, uint32_t spread)
{
    struct world *w = calloc(1, sizeof(*w));

    w->seed = seed;
    w->base = base;
    w->now = 1;
    mp_pending_init(&w->p);
    for (int n = 0; n < 3000; n++) {
        step(w, spread);
        if (n % 7 == 0)
            check(w);
    }
    for (uint32_t i = 0; i < ITEMS; i++)
        if (w->items[i].state != MP_PENDING_NONE)
            mp_pending_remove(&w->p, w->base + i);
    assert_int_equal(w->p.pages_count, 0); /* every page was given back */
    assert_int_equal(w->p.count, 0);
    mp_pending_fini(&w->p);
    free(w);
}

static void a_pending_set_equals_its_model_under_random_operations(void **state)
{
    (void)state;
    for (uint32_t seed = 1; seed <= 12; seed++) {
        run_seed(seed * 7919, 0, ITEMS);
        run_seed(seed * 104729, 1000000007, 40);
    }
}

static void links_survive_the_end_of_their_32_bits(void **state)
{
    (void)state;
    for (uint32_t seed = 1; seed <= 6; seed++) {
        run_seed(seed * 31337, (1ull << 32) - 300, ITEMS);
        run_seed(seed * 271828, (7ull << 32) - 350, 90);
    }
}

/* === Stories === */

static void an_empty_set_has_no_first_no_due_and_no_lowest(void **state)
{
    struct mp_pending p;
    uint64_t seq, time_ns;

    (void)state;
    mp_pending_init(&p);
    assert_null(mp_pending_find(&p, 0));
    for (int s = MP_PENDING_WAITING; s < MP_PENDING_STATES; s++)
        assert_false(mp_pending_first(&p, (enum mp_pending_state)s, &seq));
    assert_false(mp_pending_due(&p, &seq, &time_ns));
    assert_false(mp_pending_lowest(&p, 0, &seq));
    mp_pending_check(&p);
    mp_pending_fini(&p);
}

static void one_message_that_stays_costs_one_page(void **state)
{
    struct mp_pending p;
    uint64_t blocks, seq;

    (void)state;
    mp_pending_init(&p);
    mp_pending_add(&p, 5, MP_PENDING_WAITING, 1);
    blocks = mp_heap_current()->live_blocks;
    for (seq = 6; seq < 100000; seq++) {
        mp_pending_add(&p, seq, MP_PENDING_WAITING, seq);
        mp_pending_remove(&p, seq);
    }
    /* The page of 5, one spare, the directory. */
    assert_true(mp_heap_current()->live_blocks <= blocks + 1);
    assert_true(mp_pending_lowest(&p, 0, &seq));
    assert_int_equal(seq, 5);
    mp_pending_fini(&p);
}

static void a_lower_sequence_may_come_later(void **state)
{
    struct mp_pending p;
    uint64_t seq;

    (void)state;
    mp_pending_init(&p);
    mp_pending_add(&p, 5000, MP_PENDING_READY, 0);
    mp_pending_add(&p, 3, MP_PENDING_READY, 0);

    assert_true(mp_pending_first(&p, MP_PENDING_READY, &seq));
    assert_int_equal(seq, 5000);
    assert_true(mp_pending_after(&p, mp_pending_find(&p, 5000), &seq));
    assert_int_equal(seq, 3);
    mp_pending_check(&p);
    mp_pending_fini(&p);
}

static void a_delay_that_was_changed_counts_with_its_last_time_only(void **state)
{
    struct mp_pending p;
    struct mp_pending_item *i;
    uint64_t seq, time_ns;

    (void)state;
    mp_pending_init(&p);
    i = mp_pending_add(&p, 1, MP_PENDING_DELAYED, 100);
    mp_pending_move(&p, 1, i, MP_PENDING_DELAYED, 50);
    mp_pending_move(&p, 1, i, MP_PENDING_DELAYED, 70);
    assert_true(mp_pending_due(&p, &seq, &time_ns));
    assert_int_equal(time_ns, 70);
    mp_pending_move(&p, 1, i, MP_PENDING_WAITING, 60);
    assert_false(mp_pending_due(&p, &seq, &time_ns));
    mp_pending_fini(&p);
}

static void a_delay_that_changes_for_ever_takes_no_memory(void **state)
{
    struct mp_pending p;
    struct mp_pending_item *i;
    uint64_t seq, time_ns;

    (void)state;
    mp_pending_init(&p);
    mp_pending_add(&p, 1, MP_PENDING_DELAYED, 500);
    i = mp_pending_add(&p, 2, MP_PENDING_DELAYED, 1000);
    for (uint64_t n = 0; n < 100000; n++) {
        mp_pending_move(&p, 2, i, MP_PENDING_DELAYED, 1001 + n);
        mp_pending_move(&p, 2, i, MP_PENDING_DELAYED, 1001 + n);
    }
    assert_true(p.heap_capacity <= 64);
    assert_true(mp_pending_due(&p, &seq, &time_ns));
    assert_int_equal(seq, 1);
    mp_pending_remove(&p, 1);
    assert_true(mp_pending_due(&p, &seq, &time_ns));
    assert_int_equal(time_ns, 101000);
    mp_pending_fini(&p);
}

static void the_window_has_an_end(void **state)
{
    struct mp_pending p;

    (void)state;
    mp_pending_init(&p);
    mp_pending_add(&p, 0, MP_PENDING_READY, 0);
    expect_assert_failure(
        mp_pending_add(&p, MP_PENDING_WINDOW_MAX, MP_PENDING_READY, 0));
    mp_pending_fini(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        leak_checked(a_pending_set_equals_its_model_under_random_operations),
        leak_checked(links_survive_the_end_of_their_32_bits),
        leak_checked(an_empty_set_has_no_first_no_due_and_no_lowest),
        leak_checked(one_message_that_stays_costs_one_page),
        leak_checked(a_lower_sequence_may_come_later),
        leak_checked(a_delay_that_was_changed_counts_with_its_last_time_only),
        leak_checked(a_delay_that_changes_for_ever_takes_no_memory),
        leak_checked(the_window_has_an_end),
    };

    return run_tests("stream/pending", tests);
}
