#include "unit/stream/world.h"

#include "base/status.h"

struct seen {
    struct mp_scan scan; /* first */
    uint64_t seqs[16];
    int count, enough;
    memphis_status status; /* -1: it goes on */
};

static bool each(struct mp_scan *s, const struct mp_stored *m)
{
    struct seen *seen = (struct seen *)(void *)s;

    if (seen->count < 16)
        seen->seqs[seen->count] = m->entry.seq;
    return ++seen->count != seen->enough;
}

static void done(struct mp_scan *s, memphis_status st)
{
    ((struct seen *)(void *)s)->status = st;
}

static void scan(struct world *w, struct seen *seen, uint64_t at, uint64_t end,
                 bool backwards, const char *filter)
{
    int enough = seen->enough;

    *seen = (struct seen){ .enough = enough, .status = -1 };
    seen->scan = (struct mp_scan){ .stream = w->stream,
                                   .at = at,
                                   .end = end,
                                   .backwards = backwards,
                                   .each = each,
                                   .done = done,
                                   .filter = mp_slice_text(filter) };
    mp_scan_start(&seen->scan);
}

static void remove_message(struct world *w, uint64_t seq)
{
    struct mp_buf b = { 0 };
    struct mp_entry e = { .type = MP_ENTRY_DELETE, .pid = PID, .seq = seq };

    mp_stream_removal_encode(&seq, 1, &b);
    e.payload = mp_buf_slice(&b);
    append(w, &e);
    mp_buf_fini(&b);
    settle_down(w);
}

static void a_scan_sees_what_matches_in_both_directions(void **state)
{
    struct world *w = world_new(&ORDERS);
    struct seen s = { 0 };

    (void)state;
    for (int i = 0; i < 6; i++)
        publish_with(w, i % 2 ? "orders$1.a.x" : "orders$1.final", "", "", "m");
    settle_down(w);
    remove_message(w, 4);

    scan(w, &s, 1, 7, false, "");
    assert_int_equal(s.status, MEMPHIS_OK);
    assert_int_equal(s.count, 5);
    assert_int_equal(s.seqs[3], 5);
    scan(w, &s, 1, 7, false, "*.a.>");
    assert_int_equal(s.count, 2);
    assert_int_equal(s.seqs[0], 2);
    assert_int_equal(s.seqs[1], 6);
    scan(w, &s, 6, 2, true, "");
    assert_int_equal(s.count, 4);
    assert_int_equal(s.seqs[1], 5);
    assert_int_equal(s.seqs[3], 2);
    scan(w, &s, 1, 3, false, "");
    assert_int_equal(s.count, 2);
    s.enough = 1;
    scan(w, &s, 6, 1, true, "orders$1.final");
    assert_int_equal(s.count, 1);
    assert_int_equal(s.seqs[0], 5);
    world_free(w);
}

static void a_long_scan_takes_several_turns(void **state)
{
    struct world *w = world_new(&ORDERS);
    struct seen s = { 0 };

    (void)state;
    for (int i = 0; i < 5; i++)
        store(w, 1000);
    scan(w, &s, 1, 5001, false, "");
    assert_int_equal(s.status, -1);
    assert_true(s.count > 0 && s.count < 5000);
    turn(w);
    turn(w);
    assert_int_equal(s.status, MEMPHIS_OK);
    assert_int_equal(s.count, 5000);
    world_free(w);
}

static void a_scan_ends_with_its_stream(void **state)
{
    struct world *w = world_new(&ORDERS);
    struct seen s = { 0 };

    (void)state;
    for (int i = 0; i < 3; i++)
        store(w, 1000);
    scan(w, &s, 1, 5001, false, "");
    assert_int_equal(s.status, -1);
    mp_stream_free(w->stream, true);
    w->stream = NULL;
    assert_int_equal(s.status, MEMPHIS_NOT_FOUND);
    turn(w); /* it is in no list any more */
    world_free(w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_scan_sees_what_matches_in_both_directions),
        cmocka_unit_test(a_long_scan_takes_several_turns),
        cmocka_unit_test(a_scan_ends_with_its_stream),
    };

    return cmocka_run_group_tests_name("stream/scan", tests, NULL, NULL);
}
