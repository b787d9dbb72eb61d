#include "support/test.h"

#include "base/str.h"
#include "stream/wall.h"

static void take(struct mp_wall *w, uint64_t since_ns, int64_t offset_ns)
{
    struct mp_buf b = { 0 };

    mp_wall_put_step(&b, since_ns, offset_ns);
    mp_wall_take(w, mp_buf_slice(&b));
    mp_buf_fini(&b);
}

static void a_clock_that_never_stepped_shows_broker_time(void **state)
{
    struct mp_wall w = { .count = 0 };

    (void)state;
    assert_int_equal(mp_wall_of(&w, 77), 77);
    assert_int_equal(mp_wall_offset(&w), 0);
}

static void each_moment_has_the_offset_of_its_time(void **state)
{
    struct mp_wall w = { .count = 0 };

    (void)state;
    take(&w, 100, 1000);
    take(&w, 200, -50);
    assert_int_equal(mp_wall_of(&w, 99), 99);
    assert_int_equal(mp_wall_of(&w, 100), 1100);
    assert_int_equal(mp_wall_of(&w, 199), 1199);
    assert_int_equal(mp_wall_of(&w, 200), 150);
    assert_true(mp_wall_offset(&w) == -50);
    take(&w, 200, 7); /* at the same moment: the later one counts */
    take(&w, 150, 8);
    assert_int_equal(mp_wall_of(&w, 200), 208);
    assert_int_equal(mp_wall_of(&w, 199), 1199);
    assert_int_equal(w.count, 2);
}

static void the_oldest_of_too_many_steps_become_one(void **state)
{
    struct mp_wall w = { .count = 0 };

    (void)state;
    for (int i = 1; i <= MP_WALL_STEPS_MAX + 10; i++)
        take(&w, (uint64_t)i * 100, i);
    assert_int_equal(w.count, MP_WALL_STEPS_MAX);
    assert_int_equal(mp_wall_of(&w, 1), 1 + 11);
    assert_int_equal(mp_wall_of(&w, 1100), 1100 + 11);
    assert_int_equal(mp_wall_of(&w, 1200), 1200 + 12);
    assert_int_equal(mp_wall_offset(&w), MP_WALL_STEPS_MAX + 10);
}

static void the_table_reads_back_and_a_rest_is_left_out(void **state)
{
    struct mp_wall w = { .count = 0 }, got = { .count = 0 };
    struct mp_buf b = { 0 };

    (void)state;
    for (int i = 1; i <= 5; i++)
        take(&w, (uint64_t)i * 100, -i);
    mp_buf_put_u16(&b, 16); /* what is not its own */
    mp_buf_put_u32(&b, 3);
    mp_buf_put_text(&b, "abc");
    mp_wall_state(&w, &b);
    mp_wall_restore(&got, mp_buf_slice(&b));
    assert_memory_equal(&got, &w, sizeof w);
    for (size_t size = 0; size <= b.size; size++) {
        got.count = 0;
        mp_wall_restore(&got, mp_slice(b.data, size));
        assert_true(got.count == 0 || size == b.size);
    }
    mp_buf_clear(&b);
    mp_wall_put_step(&b, 900, 1);
    mp_buf_put_u64(&b, 9);
    mp_wall_take(&got, mp_buf_slice(&b));
    assert_int_equal(got.count, 6);
    got.count = 0;
    mp_buf_clear(&b);
    mp_wall_state(&got, &b);
    assert_int_equal(b.size, 0);
    mp_buf_fini(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        leak_checked(a_clock_that_never_stepped_shows_broker_time),
        leak_checked(each_moment_has_the_offset_of_its_time),
        leak_checked(the_oldest_of_too_many_steps_become_one),
        leak_checked(the_table_reads_back_and_a_rest_is_left_out),
    };

    return run_tests("stream/wall", tests);
}
