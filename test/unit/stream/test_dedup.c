#include "support/test.h"

#include "base/str.h"
#include "stream/dedup.h"

#include <stdio.h>

static const uint64_t KEY[2] = { 1, 2 };

enum { IDS = 200, STEPS = 20000, WINDOW = 500 };

static struct mp_dedup_budget shared;

static struct mp_dedup_budget *budget(uint64_t bytes)
{
    mp_dedup_budget_init(&shared, bytes);
    return &shared;
}

/* The newest storing of each id. */
static struct {
    uint64_t seq, time_ns;
} model[IDS];

static memphis_slice id_of(uint32_t n, char out[16])
{
    int size = snprintf(out, 16, "id-%u", n);

    return mp_slice(out, (size_t)size);
}

static void ids_are_known_for_exactly_their_window(void **state)
{
    struct mp_dedup d;
    uint32_t seed = 42;
    uint64_t now = 1000, seq = 0, got = 0;
    char text[16];

    (void)state;
    memset(model, 0, sizeof model);
    mp_dedup_init(&d, budget(1 << 20), KEY, WINDOW, 100000);
    for (int step = 0; step < STEPS; step++) {
        uint32_t n;
        bool known;

        seed = seed * 1664525u + 1013904223u;
        n = (seed >> 8) % IDS;
        now += (seed >> 20) % 7;
        known = model[n].seq > 0 && model[n].time_ns + WINDOW > now;
        assert_int_equal(mp_dedup_find(&d, id_of(n, text), now, &got), known);
        if (known) {
            assert_int_equal(got, model[n].seq); /* and it is not prolonged */
            continue;
        }
        model[n].seq = ++seq;
        model[n].time_ns = now;
        mp_dedup_put(&d, id_of(n, text), seq, now);
    }
    mp_dedup_fini(&d);
}

static void over_the_bound_the_oldest_id_goes_and_is_counted(void **state)
{
    struct mp_dedup d;
    uint64_t got;
    char text[16];

    (void)state;
    mp_dedup_init(&d, budget(1 << 20), KEY, WINDOW, 10);
    for (uint32_t i = 0; i < 25; i++)
        mp_dedup_put(&d, id_of(i, text), i + 1, 1);
    assert_int_equal(shared.dropped, 15);
    assert_false(mp_dedup_find(&d, id_of(14, text), 1, &got));
    assert_true(mp_dedup_find(&d, id_of(15, text), 1, &got));
    assert_int_equal(got, 16);
    mp_dedup_fini(&d);
}

static void ids_of_messages_that_were_never_stored_are_taken_back(void **state)
{
    struct mp_dedup d;
    uint64_t got;
    char text[16];

    (void)state;
    mp_dedup_init(&d, budget(1 << 20), KEY, WINDOW, 100);
    for (uint32_t i = 0; i < 20; i++)
        mp_dedup_put(&d, id_of(i, text), i + 1, 1);
    mp_dedup_undo(&d, 11);
    assert_true(mp_dedup_find(&d, id_of(9, text), 1, &got));
    assert_false(mp_dedup_find(&d, id_of(10, text), 1, &got));
    mp_dedup_fini(&d);
}

static void a_quiet_partition_keeps_no_table(void **state)
{
    struct mp_dedup d;
    char text[16];

    (void)state;
    mp_dedup_init(&d, budget(1 << 20), KEY, WINDOW, 1000);
    for (uint32_t i = 0; i < IDS; i++)
        mp_dedup_put(&d, id_of(i, text), i + 1, 1);
    mp_dedup_expire(&d, 1 + WINDOW);
    assert_int_equal(d.count, 0);
    assert_null(d.ring);
    mp_dedup_put(&d, id_of(1, text), 1000, 1 + WINDOW);
    assert_int_equal(d.count, 1);
    mp_dedup_fini(&d);
}

static void fill(struct mp_dedup *d, uint32_t from, uint32_t to)
{
    char text[16];

    for (uint32_t i = from; i < to; i++)
        mp_dedup_put(d, id_of(i, text), i + 1, 1);
}

static bool knows(struct mp_dedup *d, uint32_t n)
{
    uint64_t seq = 0;
    char text[16];

    return mp_dedup_find(d, id_of(n, text), 1, &seq) && seq == n + 1;
}

/* 40 bytes an id: 1,000 of them are 16 tables of 64, or one of 512 and so on. */
static void the_bytes_of_all_windows_are_bounded(void **state)
{
    struct mp_dedup d;

    (void)state;
    mp_dedup_init(&d, budget(1000 * 40), KEY, WINDOW, 100000);
    fill(&d, 0, 512);
    assert_int_equal(shared.dropped, 0);
    assert_int_equal(shared.bytes, 512 * 40);
    fill(&d, 512, 700);
    assert_int_equal(shared.dropped, 188);
    assert_int_equal(shared.bytes, 512 * 40);
    assert_false(knows(&d, 187));
    for (uint32_t i = 188; i < 700; i++)
        assert_true(knows(&d, i));
    mp_dedup_fini(&d);
    assert_int_equal(shared.bytes, 0);
    assert_true(mp_list_is_empty(&shared.tables));
}

static void a_small_window_gets_its_room_from_the_largest(void **state)
{
    struct mp_dedup large, small;

    (void)state;
    mp_dedup_init(&large, budget(1100 * 40), KEY, WINDOW, 100000);
    mp_dedup_init(&small, &shared, KEY, WINDOW, 100000);
    fill(&large, 0, 1024);
    fill(&small, 0, 64); /* the smallest table is everybody's */
    assert_int_equal(shared.dropped, 0);
    fill(&small, 64, 300);
    assert_int_equal(shared.dropped, 512); /* of the large one: its older half */
    for (uint32_t i = 0; i < 300; i++)
        assert_true(knows(&small, i));
    assert_false(knows(&large, 511));
    for (uint32_t i = 512; i < 1024; i++)
        assert_true(knows(&large, i));
    fill(&small, 300, 600); /* as large as the other: from now on its own go */
    assert_int_equal(shared.dropped, 512 + 600 - 512);
    assert_true(knows(&large, 512));
    assert_false(knows(&small, 87));
    assert_true(knows(&small, 88));
    assert_true(shared.bytes <= shared.bytes_max);
    mp_dedup_fini(&large);
    mp_dedup_fini(&small);
    assert_int_equal(shared.bytes, 0);
}

static void what_is_not_used_any_more_is_for_others(void **state)
{
    struct mp_dedup d;
    char text[16];

    (void)state;
    mp_dedup_init(&d, budget(1 << 20), KEY, WINDOW, 100000);
    fill(&d, 0, 4096);
    for (uint32_t i = 0; i < 100; i++)
        mp_dedup_put(&d, id_of(5000 + i, text), 5001 + i, 300);
    assert_int_equal(shared.bytes, 8192 * 40);
    mp_dedup_expire(&d, 1 + WINDOW);
    assert_int_equal(d.count, 100);
    assert_true(shared.bytes <= 512 * 40);
    assert_true(knows(&d, 5050));
    mp_dedup_fini(&d);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        leak_checked(ids_are_known_for_exactly_their_window),
        leak_checked(over_the_bound_the_oldest_id_goes_and_is_counted),
        leak_checked(ids_of_messages_that_were_never_stored_are_taken_back),
        leak_checked(a_quiet_partition_keeps_no_table),
        leak_checked(the_bytes_of_all_windows_are_bounded),
        leak_checked(a_small_window_gets_its_room_from_the_largest),
        leak_checked(what_is_not_used_any_more_is_for_others),
    };

    return run_tests("stream/dedup", tests);
}
