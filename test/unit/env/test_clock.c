#include "support/test.h"

#include "base/assert.h"
#include "env/env_mem.h"

#define SECOND 1000000000ull
#define HOUR (3600 * SECOND)

static struct mp_disk *disk;
static struct mp_env *env;

static void begin(void)
{
    disk = mp_disk_new(1);
    env = mp_env_mem_open(disk, NULL);
}

static void end(void)
{
    env->close(env);
    mp_disk_free(disk);
}

static void a_new_store_begins_with_the_wall_clock(void **state)
{
    struct mp_clock c;

    (void)state;
    begin();
    mp_clock_init(&c, env, 0, 0);
    assert_int_equal(c.broker_ns, env->wall_ns(env));
    assert_int_equal(c.wall_ns, env->wall_ns(env));
    end();
}

static void broker_time_follows_the_boot_clock(void **state)
{
    struct mp_clock c;

    (void)state;
    begin();
    mp_clock_init(&c, env, 0, 0);
    uint64_t start = c.broker_ns;
    mp_disk_advance(disk, 5 * SECOND);
    assert_int_equal(c.broker_ns, start); /* only a tick moves it */
    mp_clock_tick(&c);
    assert_int_equal(c.broker_ns, start + 5 * SECOND);
    mp_clock_tick(&c);
    assert_int_equal(c.broker_ns, start + 5 * SECOND);
    end();
}

static void a_step_of_the_wall_clock_moves_only_the_wall(void **state)
{
    static const int64_t steps[] = { (int64_t)HOUR, -2 * (int64_t)HOUR, 1 };
    struct mp_clock c;

    (void)state;
    begin();
    mp_clock_init(&c, env, 0, 0);
    for (size_t i = 0; i < 3; i++) {
        uint64_t broker = c.broker_ns, wall = c.wall_ns;
        mp_disk_step_wall(disk, steps[i]);
        mp_disk_advance(disk, SECOND);
        mp_clock_tick(&c);
        assert_int_equal(c.broker_ns, broker + SECOND);
        assert_int_equal(c.wall_ns, wall + SECOND + (uint64_t)steps[i]);
    }
    end();
}

static void the_time_of_a_stop_counts(void **state)
{
    struct mp_clock c;

    (void)state;
    begin();
    mp_clock_init(&c, env, 0, 0);
    mp_disk_step_wall(disk, (int64_t)HOUR); /* B and W differ by an hour */
    mp_clock_tick(&c);
    uint64_t w1 = c.wall_ns, b1 = c.broker_ns;
    mp_disk_advance(disk, 10 * SECOND);
    mp_clock_init(&c, env, w1, b1);
    assert_int_equal(c.broker_ns, b1 + 10 * SECOND);
    assert_int_equal(c.wall_ns, w1 + 10 * SECOND);
    mp_disk_advance(disk, SECOND);
    mp_clock_tick(&c);
    assert_int_equal(c.broker_ns, b1 + 11 * SECOND);
    end();
}

static void a_wall_clock_set_back_during_a_stop_does_not_set_it_back(void **state)
{
    struct mp_clock c;

    (void)state;
    begin();
    uint64_t w1 = env->wall_ns(env), b1 = w1 + HOUR;
    mp_disk_step_wall(disk, -24 * (int64_t)HOUR);
    mp_clock_init(&c, env, w1, b1);
    assert_int_equal(c.broker_ns, b1);
    mp_disk_advance(disk, SECOND);
    mp_clock_tick(&c);
    assert_int_equal(c.broker_ns, b1 + SECOND);
    end();
}

/* Runs, stops and steps at random: broker time never falls, and within a run it takes
 * exactly the time that passed. */
static void it_never_falls_whatever_the_wall_clock_does(void **state)
{
    uint64_t random = 12345;
    struct mp_clock c;

    (void)state;
    begin();
    mp_clock_init(&c, env, 0, 0);
    for (int i = 0; i < 2000; i++) {
        uint64_t broker = c.broker_ns, wall = c.wall_ns;
        random = random * 6364136223846793005ull + 1442695040888963407ull;
        uint64_t passed = random >> 33;
        bool restarts = (random >> 20 & 7) == 0;
        mp_disk_advance(disk, passed);
        mp_disk_step_wall(disk, (int64_t)(random >> 16 & 0xffffffff) - 0x80000000ll);
        if (restarts)
            mp_clock_init(&c, env, wall, broker);
        else
            mp_clock_tick(&c);
        assert_true(c.broker_ns >= broker);
        if (!restarts)
            assert_int_equal(c.broker_ns, broker + passed);
        assert_int_equal(c.wall_ns, env->wall_ns(env));
    }
    end();
}

static uint64_t falling_clock(struct mp_env *e)
{
    static uint64_t now = 1000;

    (void)e;
    return now -= 10;
}

static void a_boot_clock_that_falls_is_a_bug(void **state)
{
    struct mp_clock c;

    (void)state;
    begin();
    env->boot_ns = falling_clock;
    mp_clock_init(&c, env, 0, 0);
    expect_assert_failure(mp_clock_tick(&c));
    end();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        leak_checked(a_new_store_begins_with_the_wall_clock),
        leak_checked(broker_time_follows_the_boot_clock),
        leak_checked(a_step_of_the_wall_clock_moves_only_the_wall),
        leak_checked(the_time_of_a_stop_counts),
        leak_checked(a_wall_clock_set_back_during_a_stop_does_not_set_it_back),
        leak_checked(it_never_falls_whatever_the_wall_clock_does),
        leak_checked(a_boot_clock_that_falls_is_a_bug),
    };

    return run_tests("env/clock", tests);
}
