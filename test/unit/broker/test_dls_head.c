#include "support/test.h"

#include "base/str.h"
#include "broker/dls_head.h"

static struct mp_dead_head sample(void)
{
    return (struct mp_dead_head){ .reason = 2, .deliveries = 10, .id = 14,
                                  .station_id = 3, .pid = 7, .seq = 1ull << 40,
                                  .time_ns = 1ull << 60,
                                  .gids = mp_slice("\1\0\0\0\2\0\0\0", 8),
                                  .text = MP_STR("bad total") };
}

static void a_head_says_what_was_put_into_it(void **state)
{
    struct mp_dead_head in = sample(), out;
    struct mp_buf b = { 0 };

    (void)state;
    mp_dead_head_put(&in, &b);
    mp_buf_put_text(&b, "seven");
    assert_true(mp_dead_head_take(mp_buf_slice(&b), &out));
    assert_int_equal(out.reason, 2);
    assert_int_equal(out.deliveries, 10);
    assert_int_equal(out.id, 14);
    assert_int_equal(out.station_id, 3);
    assert_int_equal(out.pid, 7);
    assert_int_equal(out.seq, in.seq);
    assert_int_equal(out.time_ns, in.time_ns);
    assert_true(mp_slice_equal(out.gids, in.gids));
    assert_true(mp_slice_equal(out.text, in.text));
    assert_true(mp_slice_equal(out.payload, MP_STR("seven")));
    mp_buf_fini(&b);
}

static void what_is_cut_or_of_another_kind_is_no_head(void **state)
{
    struct mp_dead_head in = sample(), out;
    struct mp_buf b = { 0 };

    (void)state;
    mp_dead_head_put(&in, &b);
    for (size_t n = 0; n < b.size; n++)
        assert_false(mp_dead_head_take(mp_slice(b.data, n), &out));
    b.data[0] = 99;
    assert_false(mp_dead_head_take(mp_buf_slice(&b), &out));
    mp_buf_fini(&b);
}

static void a_note_of_a_resend_is_no_letter(void **state)
{
    struct mp_resend_note in = { .station_id = 3, .upto = 14, .behind = 1ull << 40,
                                 .done = 5, .total = 9 }, out;
    struct mp_dead_head head;
    struct mp_buf b = { 0 };

    (void)state;
    mp_resend_note_put(&in, &b);
    assert_true(mp_resend_note_take(mp_buf_slice(&b), &out));
    assert_int_equal(out.station_id, 3);
    assert_int_equal(out.upto, 14);
    assert_int_equal(out.behind, in.behind);
    assert_int_equal(out.done, 5);
    assert_int_equal(out.total, 9);
    assert_false(mp_dead_head_take(mp_buf_slice(&b), &head));
    for (size_t n = 0; n < b.size; n++)
        assert_false(mp_resend_note_take(mp_slice(b.data, n), &out));
    mp_buf_fini(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        leak_checked(a_head_says_what_was_put_into_it),
        leak_checked(what_is_cut_or_of_another_kind_is_no_head),
        leak_checked(a_note_of_a_resend_is_no_letter),
    };

    return run_tests("broker/dls_head", tests);
}
