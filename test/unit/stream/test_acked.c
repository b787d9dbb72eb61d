#include "world.h"

static struct world *new_world(void)
{
    struct mp_stream_settings s = { .name = "orders$1", .limit = MP_LIMIT_ACKED,
                                    .window_ns = 60000 * MILLI, .station_id = 1,
                                    .number = 1 };

    return world_new(&s);
}

/* A bit for each message of 1 to 63 that is stored. */
static uint64_t stored(struct world *w)
{
    uint64_t bits = 0;
    struct mp_stored m;

    for (uint64_t seq = 1; seq < 64; seq++)
        if (mp_log_read(w->log, PID, seq, &m) == MEMPHIS_OK) {
            bits |= (uint64_t)(m.entry.seq == seq) << seq;
            mp_stored_release(&m);
        }
    return bits;
}

static uint64_t bits(uint64_t first, uint64_t last)
{
    uint64_t b = 0;

    for (; first <= last; first++)
        b |= 1ull << first;
    return b;
}

static void ack(struct world *w, struct mp_stream_group *g, uint64_t first,
                uint64_t last)
{
    for (; first <= last; first++)
        settle(g, first, "+ACK");
    settle_down(w);
    pass(w, 10);
}

/* It is acknowledged all the same, and its sequence is used up. */
static void STA_10_without_groups_a_message_goes_at_once(void **state)
{
    struct world *w = new_world();
    (void)state;

    publish_with(w, "orders$1.final", "_INBOX.a", "", "one");
    settle_down(w);
    assert_string_equal(w->heard[0].payload, "{\"stream\":\"orders$1\", \"seq\":1}");
    assert_int_equal(stored(w), 0);
    store(w, 3);
    settle_down(w);
    assert_int_equal(last_seq(w), 4);
    assert_int_equal(mp_log_first(w->log, PID), 5);
    restart(w);
    assert_int_equal(last_seq(w), 4);
    assert_int_equal(stored(w), 0);
    world_free(w);
}

static void STA_10_a_message_goes_when_all_groups_have_acked_it(void **state)
{
    struct world *w = new_world();
    struct mp_stream_group *a = make_group(w, "a", 10), *b = make_group(w, "b", 10);
    (void)state;

    store(w, 8);
    settle_down(w);
    assert_int_equal(stored(w), bits(1, 8));
    pull(a, 8, "_INBOX.a");
    pull(b, 6, "_INBOX.b");
    settle_down(w);
    ack(w, a, 1, 8);
    assert_int_equal(stored(w), bits(1, 8));
    ack(w, b, 1, 2);
    assert_int_equal(stored(w), bits(3, 8));
    assert_int_equal(mp_log_first(w->log, PID), 3);
    ack(w, b, 4, 6); /* not in order: 3 stays, and what b has not seen */
    assert_int_equal(stored(w), bits(3, 3) | bits(7, 8));
    restart(w);
    assert_int_equal(stored(w), bits(3, 3) | bits(7, 8));
    world_free(w);
}

static void STA_10_what_is_terminated_or_dead_goes_too(void **state)
{
    struct world *w = new_world();
    struct mp_stream_group *a = make_group(w, "a", 1);
    (void)state;

    store(w, 3);
    pull(a, 3, "_INBOX.a");
    settle_down(w);
    settle(a, 1, "+TERM");
    settle(a, 2, "-NAK");
    settle_down(w);
    pass(w, 10);
    assert_int_equal(stored(w), bits(3, 3));
    world_free(w);
}

static void STA_10_a_new_group_sees_what_is_left(void **state)
{
    struct world *w = new_world();
    struct mp_stream_group *a = make_group(w, "a", 10);
    (void)state;

    store(w, 5);
    pull(a, 5, "_INBOX.a");
    settle_down(w);
    ack(w, a, 2, 2);
    ack(w, a, 4, 4);
    struct mp_stream_group *b = make_group(w, "b", 10);
    forget(w);
    pull(b, 5, "_INBOX.b");
    settle_down(w);
    assert_int_equal(w->heard_count, 3); /* 1, 3 and 5 */
    ack(w, a, 1, 5);
    assert_int_equal(stored(w), bits(1, 1) | bits(3, 3) | bits(5, 5));
    ack(w, b, 3, 3);
    assert_int_equal(stored(w), bits(1, 1) | bits(5, 5));
    ack(w, b, 1, 5);
    assert_int_equal(stored(w), 0);
    assert_int_equal(mp_log_first(w->log, PID), 6);
    world_free(w);
}

/* What only it had not acked goes with it; with the last one all does. */
static void STA_10_a_group_that_is_deleted_holds_nothing_back(void **state)
{
    struct world *w = new_world();
    struct mp_stream_group *a = make_group(w, "a", 10), *b = make_group(w, "b", 10);
    struct mp_buf out = { 0 };
    (void)state;

    store(w, 4);
    pull(a, 4, "_INBOX.a");
    pull(b, 4, "_INBOX.b");
    settle_down(w);
    ack(w, a, 1, 1);
    ack(w, a, 3, 3);
    assert_int_equal(stored(w), bits(1, 4));
    mp_stream_group_delete_encode(b, &out);
    append_group(w, &out);
    settle_down(w);
    pass(w, 10);
    assert_int_equal(stored(w), bits(2, 2) | bits(4, 4));
    mp_buf_clear(&out);
    mp_stream_group_delete_encode(a, &out);
    append_group(w, &out);
    settle_down(w);
    pass(w, 10);
    assert_int_equal(stored(w), 0);
    mp_buf_fini(&out);
    world_free(w);
}

/* The ack is committed, the removal is not: the next start removes it. */
static void a_removal_that_a_crash_took_is_made_by_the_next_start(void **state)
{
    struct world *w = new_world();
    struct mp_stream_group *a = make_group(w, "a", 10);
    (void)state;

    store(w, 5);
    pull(a, 5, "_INBOX.a");
    settle_down(w);
    w->stream->settings.limit = MP_LIMIT_AGE; /* as if nothing looked */
    w->stream->settings.limit_value = UINT64_MAX;
    ack(w, a, 1, 1);
    ack(w, a, 3, 4);
    assert_int_equal(stored(w), bits(1, 5));
    restart(w);
    settle_down(w);
    pass(w, 10);
    assert_int_equal(stored(w), bits(2, 2) | bits(5, 5));
    world_free(w);
}

/* Nothing is removed twice, nothing is left: against a model, in random order. */
static void random_acks_remove_exactly_what_all_have_acked(void **state)
{
    (void)state;

    for (uint32_t seed = 1; seed <= 40; seed++) {
        struct world *w = new_world();
        struct mp_stream_group *g[3];
        uint64_t acked[3] = { 0 }, random = seed * 7919;
        char name[2] = "a";

        for (int i = 0; i < 3; i++, name[0]++)
            g[i] = make_group(w, name, 10);
        store(w, 60);
        for (int i = 0; i < 3; i++)
            pull(g[i], 60, "_INBOX.x");
        settle_down(w);
        for (int step = 0; step < 200; step++) {
            random = random * 6364136223846793005ull + 1442695040888963407ull;
            int i = (int)((random >> 33) % 3);
            uint64_t seq = 1 + (random >> 40) % 60;
            settle(g[i], seq, "+ACK");
            acked[i] |= 1ull << seq;
            if (step % 7 != 0)
                continue;
            settle_down(w);
            pass(w, 10);
            assert_int_equal(stored(w),
                             bits(1, 60) & ~(acked[0] & acked[1] & acked[2]));
        }
        world_free(w);
    }
}

/* A log that takes no removals, as on a full disk. */
static const struct mp_log_ops *whole;
static int refused;

static memphis_status refuse_removals(struct mp_log *log, const struct mp_entry *e,
                                      size_t n, uint64_t tag)
{
    if (e->type != MP_ENTRY_DELETE && e->type != MP_ENTRY_FLOOR)
        return whole->append(log, e, n, tag);
    refused++;
    return MEMPHIS_NO_SPACE;
}

static void a_full_disk_puts_a_removal_off_for_a_second(void **state)
{
    struct world *w = new_world();
    struct mp_stream_group *a = make_group(w, "a", 10);
    struct mp_log_ops full = *w->log->ops;
    (void)state;

    store(w, 6);
    pull(a, 6, "_INBOX.a");
    settle_down(w);
    whole = w->log->ops;
    full.append = refuse_removals;
    w->log->ops = &full;
    refused = 0;
    ack(w, a, 3, 3); /* a removal */
    assert_int_equal(refused, 1);
    pass(w, 1100);
    assert_int_equal(refused, 2);
    ack(w, a, 1, 1); /* now a floor */
    pass(w, 1100);
    assert_int_equal(stored(w), bits(1, 6));
    w->log->ops = whole;
    pass(w, 1100); /* and nobody settles anything more */
    assert_int_equal(stored(w), bits(2, 2) | bits(4, 6));
    ack(w, a, 5, 5);
    mp_stream_failed(w->stream, MEMPHIS_NO_SPACE); /* forgets what was on its way */
    ack(w, a, 6, 6);
    pass(w, 1100);
    assert_int_equal(stored(w), bits(2, 2) | bits(4, 4));
    world_free(w);
}

/* More than one look takes, and the looks go on by themselves. */
static void what_is_pending_in_many_groups_is_looked_at_in_parts(void **state)
{
    enum { GROUPS = 40, COUNT = 1000 };
    struct world *w = new_world();
    struct mp_stream_group *g[GROUPS];
    struct mp_log_stats st;
    char name[8];
    (void)state;

    for (int i = 0; i < GROUPS; i++) {
        snprintf(name, sizeof name, "g%d", i);
        g[i] = make_group(w, name, 10);
    }
    store(w, COUNT);
    settle_down(w);
    for (int i = 0; i < GROUPS; i++)
        for (int n = 0; n < COUNT; n += 50) {
            forget(w);
            pull(g[i], 50, "_INBOX.x");
            settle_down(w);
        }
    for (uint64_t seq = 2; seq <= COUNT; seq += 2) /* 1, 3, ... are pending in all */
        for (int i = 0; i < GROUPS; i++)
            settle(g[i], seq, "+ACK");
    settle_down(w);
    pass(w, 10);
    mp_log_stats(w->log, PID, &st);
    assert_in_range(st.messages, COUNT / 2 + 1, COUNT); /* a part of them is gone */
    pass(w, 1000);
    mp_log_stats(w->log, PID, &st);
    assert_int_equal(st.messages, COUNT / 2);
    for (int i = 1; i < GROUPS; i++)
        settle(g[i], 999, "+ACK");
    pass(w, 1000);
    settle(g[0], 999, "+ACK"); /* behind where a look would have to begin */
    settle(g[0], 1, "+ACK");
    pass(w, 1000);
    mp_log_stats(w->log, PID, &st);
    assert_int_equal(st.messages, COUNT / 2 - 1);
    world_free(w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        leak_checked(STA_10_without_groups_a_message_goes_at_once),
        leak_checked(STA_10_a_message_goes_when_all_groups_have_acked_it),
        leak_checked(STA_10_what_is_terminated_or_dead_goes_too),
        leak_checked(STA_10_a_new_group_sees_what_is_left),
        leak_checked(STA_10_a_group_that_is_deleted_holds_nothing_back),
        leak_checked(a_removal_that_a_crash_took_is_made_by_the_next_start),
        leak_checked(random_acks_remove_exactly_what_all_have_acked),
        leak_checked(a_full_disk_puts_a_removal_off_for_a_second),
        leak_checked(what_is_pending_in_many_groups_is_looked_at_in_parts),
    };

    return run_tests("stream/acked", tests);
}
