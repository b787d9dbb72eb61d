#include "support/test.h"

#include "base/str.h"
#include "stream/dedup.h"

#include <stdio.h>

static const uint64_t KEY[2] = { 1, 2 };

enum { IDS = 200, STEPS = 20000, WINDOW = 500 };

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
    mp_dedup_init(&d, KEY, WINDOW, 100000);
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
    mp_dedup_init(&d, KEY, WINDOW, 10);
    for (uint32_t i = 0; i < 25; i++)
        mp_dedup_put(&d, id_of(i, text), i + 1, 1);
    assert_int_equal(d.dropped, 15);
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
    mp_dedup_init(&d, KEY, WINDOW, 100);
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
    mp_dedup_init(&d, KEY, WINDOW, 1000);
    for (uint32_t i = 0; i < IDS; i++)
        mp_dedup_put(&d, id_of(i, text), i + 1, 1);
    mp_dedup_expire(&d, 1 + WINDOW);
    assert_int_equal(d.count, 0);
    assert_null(d.ring);
    mp_dedup_put(&d, id_of(1, text), 1000, 1 + WINDOW);
    assert_int_equal(d.count, 1);
    mp_dedup_fini(&d);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        leak_checked(ids_are_known_for_exactly_their_window),
        leak_checked(over_the_bound_the_oldest_id_goes_and_is_counted),
        leak_checked(ids_of_messages_that_were_never_stored_are_taken_back),
        leak_checked(a_quiet_partition_keeps_no_table),
    };

    return run_tests("stream/dedup", tests);
}
