#include "support/test.h"

#include "base/limits.h"
#include "base/str.h"
#include "stream/pull.h"

static struct mp_pull *add(struct mp_pulls *p, const struct mp_pull_request *r,
                           const char *inbox, uint64_t now)
{
    struct mp_pull *q = NULL;

    assert_int_equal(mp_pull_add(p, r, mp_slice_text(inbox), now, &q), MEMPHIS_OK);
    return q;
}

static void members_share_messages_one_by_one(void **state)
{
    struct mp_pulls p;
    struct mp_pull_request r = { .batch = 3 };
    struct mp_pull *a, *b;

    (void)state;
    mp_pulls_init(&p);
    a = add(&p, &r, "a", 0);
    b = add(&p, &r, "b", 0);
    for (int i = 0; i < 2; i++) {
        assert_ptr_equal(mp_pull_head(&p), a);
        assert_false(mp_pull_served(&p, a, 1, 0));
        assert_ptr_equal(mp_pull_head(&p), b);
        assert_false(mp_pull_served(&p, b, 1, 0));
    }
    assert_true(mp_pull_served(&p, a, 1, 0)); /* its batch is complete */
    assert_ptr_equal(mp_pull_head(&p), b);
    assert_int_equal(p.count, 1);
    mp_pulls_fini(&p);
}

static void a_pull_expires_at_its_time_and_not_before(void **state)
{
    struct mp_pulls p;
    struct mp_pull_request r = { .batch = 1, .has_expires = true, .expires_ns = 100 };
    struct mp_pull *q;

    (void)state;
    mp_pulls_init(&p);
    q = add(&p, &r, "a", 1000);
    assert_int_equal(mp_pulls_due_ns(&p), 1100 + MP_PULL_LATE_NS);
    assert_int_equal(mp_pull_tick(q, 1099 + MP_PULL_LATE_NS), MP_PULL_GOES_ON);
    assert_int_equal(mp_pull_tick(q, 1100 + MP_PULL_LATE_NS), MP_PULL_EXPIRED);
    mp_pulls_fini(&p);
}

static void without_an_expiry_it_waits_for_ever(void **state)
{
    struct mp_pulls p;
    struct mp_pull_request r = { .batch = 1 };

    (void)state;
    mp_pulls_init(&p);
    assert_int_equal(mp_pull_tick(add(&p, &r, "a", 0), UINT64_MAX - 1),
                     MP_PULL_GOES_ON);
    assert_int_equal(mp_pulls_due_ns(&p), UINT64_MAX);
    mp_pulls_fini(&p);
}

static void an_expiry_beyond_the_end_of_time_does_not_wrap(void **state)
{
    struct mp_pulls p;
    struct mp_pull_request r = { .batch = 1, .has_expires = true,
                                 .expires_ns = UINT64_MAX - 5 };

    (void)state;
    mp_pulls_init(&p);
    assert_int_equal(mp_pull_tick(add(&p, &r, "a", 1000), 2000), MP_PULL_GOES_ON);
    mp_pulls_fini(&p);
}

static void heartbeats_come_at_their_interval_and_a_message_restarts_it(void **state)
{
    struct mp_pulls p;
    struct mp_pull_request r = { .batch = 5, .heartbeat_ns = 50 };
    struct mp_pull *q;

    (void)state;
    mp_pulls_init(&p);
    q = add(&p, &r, "a", 0);
    assert_int_equal(mp_pull_tick(q, 49), MP_PULL_GOES_ON);
    assert_int_equal(mp_pull_tick(q, 50), MP_PULL_BEAT);
    assert_int_equal(mp_pull_tick(q, 99), MP_PULL_GOES_ON);
    mp_pull_served(&p, q, 1, 99);
    assert_int_equal(mp_pull_tick(q, 148), MP_PULL_GOES_ON);
    assert_int_equal(mp_pull_tick(q, 149), MP_PULL_BEAT);
    mp_pulls_fini(&p);
}

static void a_standing_request_is_never_complete(void **state)
{
    struct mp_pulls p;
    struct mp_pull_request r = { .batch = 1, .heartbeat_ns = 10 };
    struct mp_pull *q;

    (void)state;
    mp_pulls_init(&p);
    assert_int_equal(mp_pull_add(&p, &r, MP_STR("in"), 0, &q), MEMPHIS_OK);
    q->is_standing = true;
    for (int i = 0; i < 100; i++)
        assert_false(mp_pull_served(&p, q, 1, 5));
    assert_int_equal(p.count, 1);
    assert_int_equal(mp_pulls_due_ns(&p), 15);
    mp_pulls_fini(&p);
}

static void the_513th_request_is_refused_and_the_others_stay(void **state)
{
    struct mp_pulls p;
    struct mp_pull_request r = { .batch = 1 };
    struct mp_pull *q;

    (void)state;
    mp_pulls_init(&p);
    for (int i = 0; i < MP_PULLS_WAITING_MAX; i++)
        add(&p, &r, "a", 0);
    assert_int_equal(mp_pull_add(&p, &r, MP_STR("a"), 0, &q), MEMPHIS_FULL);
    assert_int_equal(p.count, MP_PULLS_WAITING_MAX);
    mp_pulls_fini(&p);
}

static void a_byte_budget_shrinks_with_each_message(void **state)
{
    struct mp_pulls p;
    struct mp_pull_request r = { .batch = 5, .bytes_max = 100 };
    struct mp_pull *q;

    (void)state;
    mp_pulls_init(&p);
    q = add(&p, &r, "a", 0);
    mp_pull_served(&p, q, 60, 0);
    assert_int_equal(q->bytes_left, 40);
    expect_assert_failure(mp_pull_served(&p, q, 41, 0));
    mp_pulls_fini(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        leak_checked(members_share_messages_one_by_one),
        leak_checked(a_pull_expires_at_its_time_and_not_before),
        leak_checked(without_an_expiry_it_waits_for_ever),
        leak_checked(an_expiry_beyond_the_end_of_time_does_not_wrap),
        leak_checked(heartbeats_come_at_their_interval_and_a_message_restarts_it),
        leak_checked(a_standing_request_is_never_complete),
        leak_checked(the_513th_request_is_refused_and_the_others_stay),
        leak_checked(a_byte_budget_shrinks_with_each_message),
    };

    return run_tests("stream/pull", tests);
}
