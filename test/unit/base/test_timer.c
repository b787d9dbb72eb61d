#include "support/test.h"

#include "base/timer.h"

static struct mp_timers wheel;

/* -- a log of what fires ----------------------------------------------------------- */

struct alarm {
    struct mp_timer timer;
    char name;
};

static char fired[64];
static size_t fired_count;
static uint64_t fired_now;

static void note(struct mp_timer *t, uint64_t now_ms)
{
    struct alarm *a = (struct alarm *)t;

    assert_false(mp_timer_is_set(t));
    fired[fired_count++] = a->name;
    fired[fired_count] = 0;
    fired_now = now_ms;
}

static int fresh(void **state)
{
    (void)state;
    mp_timers_init(&wheel, 1000);
    fired_count = 0;
    fired[0] = 0;
    return 0;
}

#define ALARM(letter)                                                                  \
    {                                                                                  \
        .timer = { .fire = note }, .name = (letter)                                    \
    }

static void an_empty_wheel_has_nothing_to_do(void **state)
{
    (void)state;
    assert_true(mp_timers_next(&wheel) == UINT64_MAX);
    assert_int_equal(mp_timers_advance(&wheel, 1000), 0);
    assert_int_equal(mp_timers_advance(&wheel, UINT64_C(1) << 50), 0);
    assert_true(mp_timers_next(&wheel) == UINT64_MAX);
}

static void a_timer_fires_at_its_tick_and_not_before(void **state)
{
    static const uint64_t delays[] = { 1,
                                       2,
                                       255,
                                       256,
                                       257,
                                       511,
                                       512,
                                       1000,
                                       65535,
                                       65536,
                                       65537,
                                       131072,
                                       1u << 24,
                                       (1u << 24) + 1,
                                       UINT32_MAX,
                                       UINT64_C(1) << 32,
                                       (UINT64_C(1) << 33) + 12345 };
    (void)state;
    for (size_t i = 0; i < sizeof delays / sizeof delays[0]; i++) {
        struct alarm a = ALARM('a');
        fresh(NULL);
        mp_timer_set(&wheel, &a.timer, 1000 + delays[i]);
        assert_true(mp_timer_is_set(&a.timer));
        assert_int_equal(mp_timers_advance(&wheel, 1000 + delays[i] - 1), 0);
        assert_true(mp_timer_is_set(&a.timer));
        assert_true(mp_timers_next(&wheel) == 1000 + delays[i]);
        assert_int_equal(mp_timers_advance(&wheel, 1000 + delays[i]), 1);
        assert_int_equal(fired_count, 1);
        assert_false(mp_timer_is_set(&a.timer));
        assert_int_equal(wheel.count, 0);
    }
}

static void a_tick_that_has_passed_fires_at_the_next_call(void **state)
{
    struct alarm a = ALARM('a'), b = ALARM('b'), c = ALARM('c');

    (void)state;
    mp_timer_set(&wheel, &a.timer, 1000);
    mp_timer_set(&wheel, &b.timer, 3);
    mp_timer_set(&wheel, &c.timer, 0);
    assert_int_equal(mp_timers_next(&wheel), 1000);
    assert_int_equal(mp_timers_advance(&wheel, 1000), 3);
    assert_string_equal(fired, "abc");
}

static void timers_fire_by_tick_and_then_in_the_order_of_setting(void **state)
{
    struct alarm a = ALARM('a'), b = ALARM('b'), c = ALARM('c'), d = ALARM('d');

    (void)state;
    mp_timer_set(&wheel, &a.timer, 90000); /* far away, comes down twice */
    mp_timer_set(&wheel, &b.timer, 89999);
    mp_timers_advance(&wheel, 89000);
    mp_timer_set(&wheel, &c.timer, 90000);
    mp_timers_advance(&wheel, 89990);
    mp_timer_set(&wheel, &d.timer, 90000);
    assert_int_equal(mp_timers_advance(&wheel, 200000), 4);
    assert_string_equal(fired, "bacd");
    assert_int_equal(fired_now, 200000); /* the time of the call, not the tick */
}

static void the_order_holds_beyond_the_reach_of_the_wheel(void **state)
{
    struct alarm a = ALARM('a'), b = ALARM('b'), c = ALARM('c');
    uint64_t due = (UINT64_C(3) << 32) + 77;

    (void)state;
    mp_timer_set(&wheel, &a.timer, due);
    mp_timers_advance(&wheel, due - (UINT64_C(255) << 24));
    mp_timer_set(&wheel, &b.timer, due);
    mp_timers_advance(&wheel, due - 70000);
    mp_timer_set(&wheel, &c.timer, due);
    assert_int_equal(mp_timers_advance(&wheel, due), 3);
    assert_string_equal(fired, "abc");
}

static void setting_again_moves_a_timer_to_the_end(void **state)
{
    struct alarm a = ALARM('a'), b = ALARM('b'), c = ALARM('c');

    (void)state;
    mp_timer_set(&wheel, &a.timer, 1010);
    mp_timer_set(&wheel, &b.timer, 1010);
    mp_timer_set(&wheel, &c.timer, 5000);
    mp_timer_set(&wheel, &a.timer, 1010);
    mp_timer_set(&wheel, &c.timer, 1009);
    assert_int_equal(wheel.count, 3);
    assert_int_equal(mp_timers_advance(&wheel, 6000), 3);
    assert_string_equal(fired, "cba");
}

static void a_cancelled_timer_does_not_fire(void **state)
{
    static const uint64_t delays[] = { 0, 5, 300, 70000, 1u << 25, UINT64_C(1) << 40 };

    (void)state;
    for (size_t i = 0; i < sizeof delays / sizeof delays[0]; i++) {
        struct alarm a = ALARM('a'), never = ALARM('n');
        fresh(NULL);
        mp_timer_cancel(&wheel, &never.timer);
        mp_timer_set(&wheel, &a.timer, 1000 + delays[i]);
        mp_timer_cancel(&wheel, &a.timer);
        mp_timer_cancel(&wheel, &a.timer);
        assert_int_equal(wheel.count, 0);
        assert_true(mp_timers_next(&wheel) == UINT64_MAX);
        assert_int_equal(mp_timers_advance(&wheel, UINT64_C(1) << 41), 0);
    }
}

static struct alarm *victim, *mover;

static void cancel_one_and_move_one(struct mp_timer *t, uint64_t now_ms)
{
    note(t, now_ms);
    mp_timer_cancel(&wheel, &victim->timer);
    mp_timer_set(&wheel, &mover->timer, mover->timer.due_ms + 5);
}

static void a_callback_may_cancel_and_move_timers_of_its_own_tick(void **state)
{
    struct alarm a = { .timer = { .fire = cancel_one_and_move_one }, .name = 'a' };
    struct alarm b = ALARM('b'), c = ALARM('c'), d = ALARM('d'), e = ALARM('e');

    (void)state;
    victim = &b;
    mover = &c;
    mp_timer_set(&wheel, &a.timer, 1100);
    mp_timer_set(&wheel, &b.timer, 1100);
    mp_timer_set(&wheel, &c.timer, 1100);
    mp_timer_set(&wheel, &d.timer, 1100);
    mp_timer_set(&wheel, &e.timer, 1103);
    assert_int_equal(mp_timers_advance(&wheel, 1104), 3);
    assert_string_equal(fired, "ade");
    assert_int_equal(mp_timers_next(&wheel), 1105);
    assert_int_equal(mp_timers_advance(&wheel, 1105), 1);
    assert_string_equal(fired, "adec");
}

static void again_at_once(struct mp_timer *t, uint64_t now_ms)
{
    note(t, now_ms);
    mp_timer_set(&wheel, t, t->due_ms);
    assert_true(mp_timers_next(&wheel) <= now_ms); /* also from inside */
}

static void
a_callback_that_sets_itself_for_a_past_tick_waits_for_the_next_call(void **state)
{
    struct alarm a = { .timer = { .fire = again_at_once }, .name = 'a' };
    struct alarm b = ALARM('b');

    (void)state;
    mp_timer_set(&wheel, &a.timer, 1100);
    mp_timer_set(&wheel, &b.timer, 1101);
    assert_int_equal(mp_timers_advance(&wheel, 1102), 2);
    assert_string_equal(fired, "ab");
    assert_int_equal(mp_timers_next(&wheel), 1102);
    assert_int_equal(mp_timers_advance(&wheel, 1102), 1);
    assert_int_equal(mp_timers_advance(&wheel, 9000), 1);
    mp_timer_cancel(&wheel, &a.timer);
    assert_int_equal(mp_timers_advance(&wheel, 9001), 0);
}

static void every_second(struct mp_timer *t, uint64_t now_ms)
{
    note(t, now_ms);
    mp_timer_set(&wheel, t, t->due_ms + 1000);
}

static void a_late_call_fires_a_periodic_timer_for_each_period(void **state)
{
    struct alarm a = { .timer = { .fire = every_second }, .name = 'a' };

    (void)state;
    mp_timer_set(&wheel, &a.timer, 2000);
    assert_int_equal(mp_timers_advance(&wheel, 11500), 10);
    assert_int_equal(mp_timers_next(&wheel) <= 12000, 1);
    mp_timer_cancel(&wheel, &a.timer);
}

static void free_itself(struct mp_timer *t, uint64_t now_ms)
{
    (void)now_ms;
    mp_free(t);
}

static void a_callback_may_free_its_timer(void **state)
{
    (void)state;
    for (uint64_t i = 0; i < 10; i++) {
        struct mp_timer *t = mp_alloc(sizeof *t);
        t->fire = free_itself;
        mp_timer_set(&wheel, t, 1001 + i / 2);
    }
    assert_int_equal(mp_timers_advance(&wheel, 2000), 10);
}

static void advance_inside(struct mp_timer *t, uint64_t now_ms)
{
    (void)t;
    mp_timers_advance(&wheel, now_ms);
}

static void time_that_falls_and_calls_from_inside_are_assertions(void **state)
{
    struct alarm a = { .timer = { .fire = advance_inside } }, without = { .name = 'x' };

    (void)state;
    expect_assert_failure(mp_timers_advance(&wheel, 999));
    expect_assert_failure(mp_timer_set(&wheel, &without.timer, 2000));
    mp_timer_set(&wheel, &a.timer, 1001);
    expect_assert_failure(mp_timers_advance(&wheel, 1001));
}

/* -- against a model --------------------------------------------------------------- */

enum { TIMERS = 60 };

/* What a timer of the wheel should do, in the plainest words. */
struct model_timer {
    struct mp_timer timer;
    bool is_set;
    uint64_t tick;   /* when it is due, or when it was set if that was later */
    uint64_t number; /* of the setting */
    uint64_t call;   /* first call of advance that may fire it */
};

static struct {
    struct model_timer timers[TIMERS];
    uint64_t now, random, settings, call, target;
    bool is_advancing;
} model;

static uint64_t next_random(void)
{
    model.random ^= model.random << 13;
    model.random ^= model.random >> 7;
    model.random ^= model.random << 17;
    return model.random;
}

/* Small values and large ones are equally likely. */
static uint64_t random_span(uint32_t bits_max)
{
    uint64_t bits = next_random() % (bits_max + 1);

    return next_random() & ((UINT64_C(1) << bits) - 1);
}

/* The one that fires first, or NULL. */
static struct model_timer *first_of(bool this_call, uint64_t until)
{
    struct model_timer *best = NULL;

    for (size_t i = 0; i < TIMERS; i++) {
        struct model_timer *m = &model.timers[i];
        if (!m->is_set || m->tick > until || (this_call && m->call > model.call))
            continue;
        if (best == NULL || m->tick < best->tick ||
            (m->tick == best->tick && m->number < best->number))
            best = m;
    }
    return best;
}

static void change_something(void)
{
    struct model_timer *m = &model.timers[next_random() % TIMERS];

    if (next_random() % 4 == 0) {
        mp_timer_cancel(&wheel, &m->timer);
        m->is_set = false;
        return;
    }
    uint64_t due = model.now + random_span(34);
    if (next_random() % 8 == 0)
        due = model.now - random_span(9);
    if (next_random() % 8 == 0) /* many timers on one tick */
        due = (model.now | 0xfff) + 1;
    mp_timer_set(&wheel, &m->timer, due);
    m->is_set = true;
    m->number = ++model.settings;
    bool is_late = due <= model.now;
    m->tick = !is_late ? due : model.is_advancing ? model.target : model.now;
    m->call = model.is_advancing && !is_late ? model.call : model.call + 1;
}

static void check_and_change(struct mp_timer *t, uint64_t now_ms)
{
    struct model_timer *expected = first_of(true, model.target);

    assert_int_equal(now_ms, model.target);
    assert_non_null(expected);
    assert_ptr_equal(t, &expected->timer);
    expected->is_set = false;
    model.now = expected->tick;
    for (uint64_t n = next_random() % 3; n > 0; n--)
        change_something();
}

static void check_next(void)
{
    const struct model_timer *first = first_of(false, UINT64_MAX);
    uint64_t next = mp_timers_next(&wheel);

    if (first == NULL) {
        assert_true(next == UINT64_MAX);
    } else if (first->tick <= model.now + 256) {
        assert_int_equal(next, first->tick);
    } else {
        assert_true(next > model.now && next <= first->tick);
    }
}

static void advance_both(uint64_t target)
{
    uint64_t live = 0;

    model.target = target;
    model.call++;
    model.is_advancing = true;
    mp_timers_advance(&wheel, target);
    model.is_advancing = false;
    model.now = target;
    assert_null(first_of(true, target));
    for (size_t i = 0; i < TIMERS; i++) {
        assert_int_equal(mp_timer_is_set(&model.timers[i].timer),
                         model.timers[i].is_set);
        live += model.timers[i].is_set;
    }
    assert_int_equal(wheel.count, live);
}

static void start_both(uint64_t now, uint64_t seed)
{
    memset(&model, 0, sizeof model);
    model.now = now;
    model.random = seed;
    for (size_t i = 0; i < TIMERS; i++)
        model.timers[i].timer.fire = check_and_change;
    mp_timers_init(&wheel, now);
}

static void a_random_history_agrees_with_the_model(void **state)
{
    static const uint64_t starts[] = {
        0, 255, 65000, (1u << 24) - 700, (UINT64_C(1) << 32) - 300, 1767225600000
    };
    (void)state;
    for (uint64_t round = 0; round < 24; round++) {
        start_both(starts[round % 6], round * 7919 + 1);
        for (int step = 0; step < 3000; step++) {
            for (uint64_t n = next_random() % 4; n > 0; n--)
                change_something();
            check_next();
            advance_both(model.now + random_span(next_random() % 64 == 0 ? 34 : 11));
            check_next();
        }
    }
}

static void check_tick(struct mp_timer *t, uint64_t now_ms)
{
    check_and_change(t, now_ms);
    assert_true(model.now == now_ms); /* nobody fires late */
}

static void advancing_to_next_fires_everything_at_its_tick(void **state)
{
    (void)state;
    for (uint64_t round = 0; round < 50; round++) {
        uint64_t calls = 0;
        start_both(1000003 * round, round + 99);
        for (size_t i = 0; i < TIMERS; i++) {
            model.timers[i].timer.fire = check_tick;
            change_something();
        }
        for (; calls < 3000 && mp_timers_next(&wheel) != UINT64_MAX; calls++)
            advance_both(mp_timers_next(&wheel));
        /* A timer costs its own call and one for each level it comes down. */
        assert_true(calls < 5 * model.settings + 5 || calls == 3000);
    }
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test_setup(an_empty_wheel_has_nothing_to_do, fresh),
    cmocka_unit_test_setup(a_timer_fires_at_its_tick_and_not_before, fresh),
    cmocka_unit_test_setup(a_tick_that_has_passed_fires_at_the_next_call, fresh),
    cmocka_unit_test_setup(timers_fire_by_tick_and_then_in_the_order_of_setting, fresh),
    cmocka_unit_test_setup(the_order_holds_beyond_the_reach_of_the_wheel, fresh),
    cmocka_unit_test_setup(setting_again_moves_a_timer_to_the_end, fresh),
    cmocka_unit_test_setup(a_cancelled_timer_does_not_fire, fresh),
    cmocka_unit_test_setup(a_callback_may_cancel_and_move_timers_of_its_own_tick,
                           fresh),
    cmocka_unit_test_setup(
        a_callback_that_sets_itself_for_a_past_tick_waits_for_the_next_call, fresh),
    cmocka_unit_test_setup(a_late_call_fires_a_periodic_timer_for_each_period, fresh),
    cmocka_unit_test_setup_teardown(a_callback_may_free_its_timer, fresh,
                                    test_no_leaks),
    cmocka_unit_test_setup(time_that_falls_and_calls_from_inside_are_assertions, fresh),
    cmocka_unit_test(a_random_history_agrees_with_the_model),
    cmocka_unit_test(advancing_to_next_fires_everything_at_its_tick),
};

int main(void)
{
    return run_tests("base/timer", tests);
}
