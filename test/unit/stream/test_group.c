#include "support/test.h"

#include "base/str.h"
#include "stream/group.h"

#include <stdio.h>
#include <stdlib.h>

enum { MESSAGES = 600 };

/* === A naive model: one record per message === */

enum state { UNSEEN, PENDING, SETTLED, DEAD };

struct model {
    enum state state[MESSAGES + 1];
    uint32_t deliveries[MESSAGES + 1];
    uint64_t next;
};

struct world {
    struct mp_group g;
    struct model m;
    struct mp_group_config c;
    uint64_t now;
    uint64_t last;             /* committed in the log */
    uint32_t seed;
    uint32_t dead;
    struct mp_buf log;         /* committed progress entries: u32 length, bytes */
    struct mp_buf flight;      /* encoded, not committed */
    bool acked_durable[MESSAGES + 1]; /* settled in a committed progress */
    bool settled_in_flight[MESSAGES + 1];
    uint32_t made_durable[MESSAGES + 1]; /* deliveries as of that progress */
    uint32_t made_in_flight[MESSAGES + 1];
    bool dying[MESSAGES + 1], buried[MESSAGES + 1]; /* PENDING ones */
};

static uint32_t rnd(struct world *w, uint32_t n)
{
    w->seed = w->seed * 1664525u + 1013904223u;
    return (w->seed >> 8) % n;
}

static void on_dead(void *ctx, uint64_t seq, uint32_t deliveries)
{
    struct world *w = ctx;

    assert_int_equal(w->m.state[seq], PENDING);
    assert_true(deliveries >= w->c.deliveries_max);
    assert_false(w->dying[seq]);
    w->dead++;
    if (rnd(w, 2) == 0) { /* somebody takes care of it later */
        w->dying[seq] = true;
        return;
    }
    w->m.state[seq] = DEAD;
    assert_true(mp_group_ack(&w->g, seq));
}

static void deliver(struct world *w)
{
    uint64_t seq, dseq;
    uint32_t deliveries;
    enum mp_group_pick p = mp_group_pick(&w->g, w->last, &seq);

    if (p == MP_PICK_NONE)
        return;
    mp_group_deliver(&w->g, seq, w->now, &deliveries, &dseq);
    if (p == MP_PICK_NEW) {
        assert_int_equal(seq, w->m.next);
        assert_int_equal(w->m.state[seq], UNSEEN);
        w->m.next = seq + 1;
        assert_int_equal(deliveries, 1);
    } else {
        assert_int_equal(w->m.state[seq], PENDING);
        assert_false(w->dying[seq]);
        assert_true(deliveries > w->m.deliveries[seq]);
    }
    assert_true(deliveries <= w->c.deliveries_max);
    w->m.state[seq] = PENDING;
    w->m.deliveries[seq] = deliveries;
}

static void settle_some(struct world *w)
{
    uint64_t seq = 1 + rnd(w, (uint32_t)w->last);
    bool pending = w->m.state[seq] == PENDING;

    switch (rnd(w, 11)) {
    case 10: /* terminated by its consumer */
        if (mp_group_die(&w->g, seq)) {
            assert_true(pending && !w->dying[seq]);
            w->dying[seq] = true;
        }
        break;
    case 8: case 9: /* a delivery that nobody saw */
        if (mp_group_return(&w->g, seq, w->m.deliveries[seq])) {
            assert_true(pending && !w->dying[seq]);
            w->m.deliveries[seq]--;
            assert_false(mp_group_return(&w->g, seq, w->m.deliveries[seq]));
        }
        break;
    case 0:
        mp_group_nack(&w->g, seq, 0, w->now, on_dead, w);
        break;
    case 1:
        mp_group_nack(&w->g, seq, 1 + rnd(w, 5000), w->now, on_dead, w);
        break;
    case 2:
        mp_group_extend(&w->g, seq, w->now);
        break;
    default:
        assert_int_equal(mp_group_ack(&w->g, seq), pending);
        if (pending)
            w->m.state[seq] = SETTLED;
    }
}

static void start_progress(struct world *w)
{
    for (uint64_t s = 1; s <= MESSAGES && !w->g.in_flight; s++)
        if (w->dying[s] && rnd(w, 2) == 0) /* unless it was settled after all */
            w->buried[s] = mp_group_bury(&w->g, s);
    if (!mp_group_has_progress(&w->g))
        return;
    mp_buf_clear(&w->flight);
    mp_group_progress_encode(&w->g, &w->flight);
    for (uint64_t s = 1; s <= MESSAGES; s++) {
        w->settled_in_flight[s] = w->m.state[s] >= SETTLED || w->buried[s];
        w->made_in_flight[s] = w->m.deliveries[s];
    }
}

static void end_burial(struct world *w, bool committed)
{
    for (uint64_t s = 1; s <= MESSAGES; s++) {
        if (!w->buried[s])
            continue;
        w->buried[s] = false;
        if (committed && mp_group_ack(&w->g, s))
            w->m.state[s] = DEAD;
        else if (!committed)
            mp_group_exhume(&w->g, s);
    }
}

static void commit_progress(struct world *w)
{
    if (!w->g.in_flight)
        return;
    if (rnd(w, 8) == 0) { /* a full disk */
        mp_group_progress_failed(&w->g);
        end_burial(w, false);
        return;
    }
    mp_buf_put_u32(&w->log, (uint32_t)w->flight.size);
    mp_buf_put_slice(&w->log, mp_buf_slice(&w->flight));
    memcpy(w->acked_durable, w->settled_in_flight, sizeof(w->acked_durable));
    memcpy(w->made_durable, w->made_in_flight, sizeof(w->made_durable));
    mp_group_progress_committed(&w->g);
    end_burial(w, true);
}

/* What a start makes of the committed progress. */
static void replay(struct world *w, struct mp_group *g)
{
    struct mp_cursor c = mp_cursor_of(mp_buf_slice(&w->log));

    mp_group_init(g, &w->c, 1);
    while (mp_cursor_left(&c) > 0) {
        uint32_t size = mp_cursor_u32(&c);
        struct mp_cursor p = mp_cursor_of(mp_cursor_take(&c, size));

        assert_int_equal(mp_group_progress_replay(g, &p), MEMPHIS_OK);
        assert_int_equal(mp_cursor_left(&p), 0);
    }
    mp_group_replay_done(g, w->last, w->now);
    mp_group_check(g);
}

static void check_replay(struct world *w)
{
    struct mp_group g;

    replay(w, &g);
    assert_true(g.next <= w->g.next);
    for (uint64_t s = 1; s < g.next; s++) {
        const struct mp_pending_item *i = mp_pending_find(&g.pending, s);
        bool pending = i != NULL;

        if (pending) /* no delivery is forgotten, and the third and later ones are */
            assert_in_range(i->deliveries, w->made_durable[s], /* counted ahead */
                            w->made_durable[s] + (i->deliveries >= 3));
        if (w->acked_durable[s])
            assert_false(pending); /* a confirmed ack never comes back */
        else
            assert_true(pending);  /* nothing unsettled is forgotten */
    }
    mp_group_fini(&g);
}

/* The state of a flush equals the group: replaying it alone gives the same sets. */
static void check_state_file(struct world *w)
{
    struct mp_buf b = { 0 };
    struct mp_group g;
    struct mp_cursor c;

    mp_group_state_encode(&w->g, &b);
    c = mp_cursor_of(mp_buf_slice(&b));
    mp_group_init(&g, &w->c, 1);
    assert_int_equal(mp_group_progress_replay(&g, &c), MEMPHIS_OK);
    assert_int_equal(g.next, w->g.next);
    assert_int_equal(g.floor, w->g.floor);
    assert_int_equal(g.pending.count, w->g.pending.count);
    for (uint64_t s = 1; s < g.next; s++) {
        const struct mp_pending_item *a = mp_pending_find(&w->g.pending, s);
        const struct mp_pending_item *r = mp_pending_find(&g.pending, s);

        assert_int_equal(a == NULL, r == NULL);
        if (a != NULL)
            assert_int_equal(a->deliveries, r->deliveries);
    }
    mp_group_fini(&g);
    mp_buf_fini(&b);
}

static void check(struct world *w)
{
    uint64_t pending = 0;

    mp_group_check(&w->g);
    for (uint64_t s = 1; s <= w->last; s++) {
        bool p = mp_pending_find(&w->g.pending, s) != NULL;

        assert_int_equal(p, w->m.state[s] == PENDING);
        pending += p;
        if (s <= w->g.floor)
            assert_true(w->m.state[s] >= SETTLED);
    }
    assert_int_equal(pending, w->g.pending.count);
    assert_int_equal(w->g.next, w->m.next);
}

static void run_seed(uint32_t seed, uint32_t deliveries_max)
{
    struct world *w = calloc(1, sizeof(*w));

    w->seed = seed;
    w->c = (struct mp_group_config){ .ack_wait_ns = 1000,
                                     .deliveries_max = deliveries_max,
                                     .pending_max = 200 };
    w->m.next = 1;
    w->now = 1;
    mp_group_init(&w->g, &w->c, 1);
    for (int step = 0; step < 4000; step++) {
        switch (rnd(w, 10)) {
        case 0:
            w->last += w->last < MESSAGES ? 1 + rnd(w, 3) : 0;
            w->last = w->last > MESSAGES ? MESSAGES : w->last;
            break;
        case 1: case 2: case 3:
            deliver(w);
            break;
        case 4: case 5: case 6:
            if (w->last > 0)
                settle_some(w);
            break;
        case 7:
            w->now += rnd(w, 400);
            mp_group_tick(&w->g, w->now, on_dead, w);
            break;
        case 8:
            start_progress(w);
            break;
        default:
            commit_progress(w);
        }
        if (step % 16 == 0) {
            check(w);
            check_replay(w);
        }
        if (step % 64 == 0)
            check_state_file(w);
    }
    mp_group_fini(&w->g);
    mp_buf_fini(&w->log);
    mp_buf_fini(&w->flight);
    free(w);
}

static void a_group_equals_its_model_under_random_operations_and_replay(void **state)
{
    (void)state;
    for (uint32_t seed = 1; seed <= 60; seed++) {
        if (getenv("V"))
            printf("seed %u\n", seed);
        run_seed(seed * 7919, 1 + seed % 5);
    }
}

/* === Stories === */

static const struct mp_group_config THREE = { .ack_wait_ns = 100, .deliveries_max = 3,
                                              .pending_max = 10 };

static void never(void *ctx, uint64_t seq, uint32_t deliveries)
{
    (void)ctx, (void)seq, (void)deliveries;
    fail_msg("nothing dies here");
}

struct counted {
    struct mp_group *group;
    uint32_t dead;
};

static void count_dead(void *ctx, uint64_t seq, uint32_t deliveries)
{
    struct counted *c = ctx;

    (void)deliveries;
    c->dead++;
    assert_true(mp_group_ack(c->group, seq));
}

static uint32_t give(struct mp_group *g, uint64_t last, uint64_t now, uint64_t *seq)
{
    uint32_t deliveries;
    uint64_t dseq;

    if (mp_group_pick(g, last, seq) == MP_PICK_NONE)
        return 0;
    mp_group_deliver(g, *seq, now, &deliveries, &dseq);
    return deliveries;
}

static void a_delivery_that_nobody_saw_is_not_counted(void **state)
{
    struct mp_group_config one = { .ack_wait_ns = 100, .deliveries_max = 1,
                                   .pending_max = 10 };
    struct mp_group g, r;
    struct mp_buf b = { 0 };
    struct mp_cursor c;
    struct counted dead = { .dead = 0 };
    uint64_t seq;

    (void)state;
    mp_group_init(&g, &one, 1);
    give(&g, 2, 0, &seq);
    give(&g, 2, 0, &seq);
    assert_false(mp_group_return(&g, 1, 2)); /* another delivery than its last */
    assert_false(mp_group_return(&g, 3, 1));
    assert_true(mp_group_return(&g, 1, 1));
    assert_false(mp_group_return(&g, 1, 1));
    mp_group_progress_encode(&g, &b);
    mp_group_progress_committed(&g);

    /* After a start it is still unseen, and the other one is given up. */
    mp_group_init(&r, &one, 1);
    c = mp_cursor_of(mp_buf_slice(&b));
    assert_int_equal(mp_group_progress_replay(&r, &c), MEMPHIS_OK);
    mp_group_replay_done(&r, 2, 50);
    dead.group = &r;
    mp_group_tick(&r, 50, count_dead, &dead);
    assert_int_equal(dead.dead, 1);
    assert_int_equal(give(&r, 2, 50, &seq), 1);
    assert_int_equal(seq, 1);
    assert_int_equal(give(&r, 2, 50, &seq), 0);

    /* Seen at last, there or here, it is not seen again after the next start. */
    for (int i = 0; i < 2; i++) {
        struct mp_group *seen = i == 0 ? &r : &g;
        struct mp_buf log = { 0 };
        struct mp_group s;

        if (i == 1)
            assert_int_equal(give(&g, 2, 50, &seq), 1);
        assert_int_equal(seen->redelivered, 0);
        mp_buf_put_slice(&log, mp_buf_slice(&b));
        mp_group_progress_encode(seen, &log);
        mp_group_init(&s, &one, 1);
        for (c = mp_cursor_of(mp_buf_slice(&log)); mp_cursor_left(&c) > 0;)
            assert_int_equal(mp_group_progress_replay(&s, &c), MEMPHIS_OK);
        mp_group_replay_done(&s, 2, 500);
        dead.group = &s;
        mp_group_tick(&s, 500, count_dead, &dead);
        assert_int_equal(give(&s, 2, 500, &seq), 0);
        mp_group_fini(&s);
        mp_buf_fini(&log);
    }
    assert_int_equal(dead.dead, 4); /* the first start, then 1 there, both here */
    mp_group_fini(&r);
    mp_group_fini(&g);
    mp_buf_fini(&b);
}

static void a_counted_delivery_that_nobody_saw_is_made_again_with_its_count(
    void **state)
{
    struct mp_group g;
    struct mp_buf b = { 0 };
    uint64_t seq;

    (void)state;
    mp_group_init(&g, &THREE, 1);
    for (int i = 0; i < 2; i++) {
        give(&g, 1, 0, &seq);
        mp_group_nack(&g, 1, 0, 0, never, NULL);
    }
    mp_group_progress_encode(&g, &b);
    mp_group_progress_committed(&g);
    assert_int_equal(give(&g, 1, 0, &seq), 3);
    assert_true(mp_group_return(&g, 1, 3));
    assert_int_equal(g.redelivered, 1);
    assert_int_equal(give(&g, 1, 0, &seq), 3);
    assert_true(mp_group_ack(&g, 1));
    assert_int_equal(g.redelivered, 0);
    mp_buf_fini(&b);
    mp_group_fini(&g);
}

static void a_message_returns_after_its_ack_deadline(void **state)
{
    struct mp_group g;
    uint64_t seq;

    (void)state;
    mp_group_init(&g, &THREE, 1);
    assert_int_equal(give(&g, 2, 1000, &seq), 1);

    mp_group_tick(&g, 1099, never, NULL);
    assert_int_equal(give(&g, 1, 1099, &seq), 0);
    mp_group_tick(&g, 1100, never, NULL);

    assert_int_equal(give(&g, 1, 1100, &seq), 2);
    assert_int_equal(seq, 1);
    mp_group_fini(&g);
}

static void the_third_delivery_waits_until_its_count_is_committed(void **state)
{
    struct mp_group g;
    struct mp_buf b = { 0 };
    uint64_t seq;

    (void)state;
    mp_group_init(&g, &THREE, 1);
    give(&g, 1, 0, &seq);
    mp_group_nack(&g, 1, 0, 0, never, NULL);
    assert_int_equal(give(&g, 1, 0, &seq), 2);
    mp_group_nack(&g, 1, 0, 0, never, NULL);
    assert_int_equal(give(&g, 1, 0, &seq), 0);

    mp_group_progress_encode(&g, &b);
    assert_int_equal(give(&g, 1, 0, &seq), 0);
    assert_int_equal(mp_group_deliveries(&g, 1), 2);
    mp_group_progress_committed(&g);
    assert_int_equal(mp_group_deliveries(&g, 1), 2);

    assert_int_equal(give(&g, 1, 0, &seq), 3);
    assert_int_equal(mp_group_deliveries(&g, 1), 3);
    assert_int_equal(mp_group_deliveries(&g, 2), 0);
    mp_buf_fini(&b);
    mp_group_fini(&g);
}

/* Its floor is that of before, since until it is committed the message is pending. */
static void what_one_progress_delivers_and_buries_holds_no_floor_back(void **state)
{
    struct mp_group g, r;
    struct mp_buf b = { 0 };
    struct mp_cursor c;
    uint64_t seq;

    (void)state;
    mp_group_init(&g, &THREE, 1);
    give(&g, 2, 0, &seq);
    give(&g, 2, 0, &seq);
    assert_true(mp_group_die(&g, 1));
    assert_true(mp_group_bury(&g, 1));
    mp_group_progress_encode(&g, &b);
    mp_group_init(&r, &THREE, 1);
    c = mp_cursor_of(mp_buf_slice(&b));
    assert_int_equal(mp_group_progress_replay(&r, &c), MEMPHIS_OK);
    assert_int_equal(r.floor, 1);
    assert_true(mp_group_ack(&r, 2));
    assert_int_equal(r.floor, 2);
    mp_buf_fini(&b);
    mp_group_fini(&r);
    mp_group_fini(&g);
}

static void after_its_last_delivery_a_message_is_dead_once(void **state)
{
    struct mp_group_config one = { .ack_wait_ns = 100, .deliveries_max = 1,
                                   .pending_max = 10 };
    struct mp_group g;
    struct counted dead = { .dead = 0 };
    uint64_t seq;

    (void)state;
    mp_group_init(&g, &one, 1);
    give(&g, 1, 0, &seq);

    dead.group = &g;
    mp_group_tick(&g, 100, count_dead, &dead);
    mp_group_tick(&g, 500, count_dead, &dead);

    assert_int_equal(dead.dead, 1);
    assert_int_equal(g.floor, 1);
    mp_group_fini(&g);
}

static void lowering_max_deliveries_below_a_count_loses_no_dead_letter(void **state)
{
    struct mp_group_config c = THREE;
    struct mp_group g;
    struct counted dead = { .dead = 0 };
    uint64_t seq;

    (void)state;
    mp_group_init(&g, &c, 1);
    give(&g, 1, 0, &seq);
    mp_group_nack(&g, 1, 0, 0, never, NULL);
    give(&g, 1, 0, &seq);
    c.deliveries_max = 1;
    mp_group_configure(&g, &c);

    dead.group = &g;
    mp_group_tick(&g, 100, count_dead, &dead);

    assert_int_equal(dead.dead, 1);
    mp_group_fini(&g);
}

/* Settled by the progress, and not before that is committed. */
static void a_buried_message_leaves_with_its_progress(void **state)
{
    struct mp_group g, r;
    struct mp_buf progress = { 0 }, file = { 0 };
    struct mp_cursor c;
    uint64_t seq;

    (void)state;
    mp_group_init(&g, &THREE, 1);
    give(&g, 2, 0, &seq);
    give(&g, 2, 0, &seq);
    assert_true(mp_group_die(&g, 1));
    assert_false(mp_group_die(&g, 1));
    assert_false(mp_group_nack(&g, 1, 0, 0, never, NULL));
    assert_false(mp_group_bury(&g, 2)); /* alive */
    assert_true(mp_group_bury(&g, 1));
    mp_group_progress_encode(&g, &progress);
    mp_group_state_encode(&g, &file); /* a flush in between: only what is committed */

    mp_group_init(&r, &THREE, 1);
    c = mp_cursor_of(mp_buf_slice(&file));
    assert_int_equal(mp_group_progress_replay(&r, &c), MEMPHIS_OK);
    assert_int_equal(r.pending.count, 2);
    c = mp_cursor_of(mp_buf_slice(&progress)); /* which comes after it */
    assert_int_equal(mp_group_progress_replay(&r, &c), MEMPHIS_OK);
    assert_int_equal(r.pending.count, 1);
    assert_null(mp_pending_find(&r.pending, 1));
    mp_group_fini(&r);

    mp_group_progress_failed(&g); /* and once more, whole */
    mp_group_exhume(&g, 1);
    assert_true(mp_group_bury(&g, 1));
    mp_buf_clear(&progress);
    mp_group_progress_encode(&g, &progress);
    mp_group_progress_committed(&g);
    assert_true(mp_group_ack(&g, 1));
    assert_int_equal(g.floor, 1);
    mp_group_init(&r, &THREE, 1);
    c = mp_cursor_of(mp_buf_slice(&progress));
    assert_int_equal(mp_group_progress_replay(&r, &c), MEMPHIS_OK);
    assert_null(mp_pending_find(&r.pending, 1));
    assert_non_null(mp_pending_find(&r.pending, 2));
    mp_group_fini(&r);
    mp_group_fini(&g);
    mp_buf_fini(&progress);
    mp_buf_fini(&file);
}

static void leave_dying(void *ctx, uint64_t seq, uint32_t deliveries)
{
    (void)ctx, (void)seq, (void)deliveries;
}

static void what_was_dying_dies_after_a_start_and_is_not_delivered(void **state)
{
    struct mp_group_config two = { .ack_wait_ns = 100, .deliveries_max = 2,
                                   .pending_max = 10 };
    struct mp_group g, r;
    struct mp_buf b = { 0 };
    struct counted dead = { .group = &r };
    struct mp_cursor c;
    uint64_t seq;

    (void)state;
    mp_group_init(&g, &two, 1);
    give(&g, 1, 0, &seq);
    mp_group_nack(&g, 1, 0, 0, never, NULL);
    assert_int_equal(give(&g, 1, 0, &seq), 2);
    mp_group_tick(&g, 100, leave_dying, NULL);
    mp_group_state_encode(&g, &b);
    mp_group_init(&r, &two, 1);
    c = mp_cursor_of(mp_buf_slice(&b));
    assert_int_equal(mp_group_progress_replay(&r, &c), MEMPHIS_OK);
    mp_group_replay_done(&r, 1, 150);
    assert_int_equal(give(&r, 1, 150, &seq), 0);
    mp_group_tick(&r, 150, count_dead, &dead);
    assert_int_equal(dead.dead, 1);
    mp_group_fini(&r);
    mp_group_fini(&g);
    mp_buf_fini(&b);
}

static void work_in_progress_restarts_the_deadline(void **state)
{
    struct mp_group g;
    uint64_t seq;

    (void)state;
    mp_group_init(&g, &THREE, 1);
    give(&g, 1, 0, &seq);
    assert_true(mp_group_extend(&g, 1, 90));

    mp_group_tick(&g, 189, never, NULL);
    assert_int_equal(give(&g, 1, 189, &seq), 0);
    mp_group_tick(&g, 190, never, NULL);
    assert_int_equal(give(&g, 1, 190, &seq), 2);
    mp_group_fini(&g);
}

static void a_delivery_may_have_a_deadline_of_its_own(void **state)
{
    struct mp_group g;
    uint64_t seq;

    (void)state;
    mp_group_init(&g, &THREE, 1);
    give(&g, 1, 0, &seq);
    mp_group_delay(&g, 1, 300);
    mp_group_delay(&g, 2, 5); /* not delivered: nothing happens */
    mp_group_tick(&g, 299, never, NULL);
    assert_int_equal(give(&g, 1, 299, &seq), 0);
    mp_group_delay(&g, 1, 400); /* and once more */
    mp_group_tick(&g, 399, never, NULL);
    assert_int_equal(give(&g, 1, 399, &seq), 0);
    mp_group_tick(&g, 400, never, NULL);
    assert_int_equal(give(&g, 1, 400, &seq), 2);
    mp_group_fini(&g);
}

static void a_time_beyond_the_end_of_time_is_its_end(void **state)
{
    struct mp_group_config c = { .ack_wait_ns = UINT64_MAX, .deliveries_max = 3,
                                 .pending_max = 10 };
    struct mp_group g, r;
    struct mp_buf b = { 0 };
    struct mp_cursor in;
    uint64_t seq;

    (void)state;
    mp_group_init(&g, &c, 1);
    for (int i = 0; i < 3; i++)
        give(&g, 3, 1000, &seq);
    mp_group_nack(&g, 1, UINT64_MAX, 1000, never, NULL);
    mp_group_nack(&g, 2, UINT64_MAX - 1000, 1000, never, NULL);
    assert_int_equal(mp_group_due_ns(&g), UINT64_MAX);
    mp_group_tick(&g, 1u << 30, never, NULL);
    assert_int_equal(give(&g, 3, 1u << 30, &seq), 0);

    mp_group_state_encode(&g, &b);
    mp_group_init(&r, &c, 1);
    in = mp_cursor_of(mp_buf_slice(&b));
    assert_int_equal(mp_group_progress_replay(&r, &in), MEMPHIS_OK);
    assert_int_equal(give(&r, 3, 2000, &seq), 2); /* 3: delivered, and unnamed */
    assert_int_equal(seq, 3);
    assert_int_equal(give(&r, 3, 2000, &seq), 0);
    mp_buf_fini(&b);
    mp_group_fini(&r);
    mp_group_fini(&g);
}

static void nacked_messages_come_in_the_order_of_their_nacks(void **state)
{
    struct mp_group g;
    uint64_t seq;

    (void)state;
    mp_group_init(&g, &THREE, 1);
    for (int i = 0; i < 3; i++)
        give(&g, 3, 0, &seq);
    mp_group_nack(&g, 2, 0, 0, never, NULL);
    mp_group_nack(&g, 3, 0, 0, never, NULL);
    mp_group_nack(&g, 1, 0, 0, never, NULL);

    give(&g, 3, 0, &seq);
    assert_int_equal(seq, 2);
    give(&g, 3, 0, &seq);
    assert_int_equal(seq, 3);
    give(&g, 3, 0, &seq);
    assert_int_equal(seq, 1);
    mp_group_fini(&g);
}

static void a_delay_that_is_cut_short_is_short_after_a_start_too(void **state)
{
    struct mp_group g, r;
    struct mp_buf b = { 0 };
    struct mp_cursor c;
    uint64_t seq;

    (void)state;
    mp_group_init(&g, &THREE, 1);
    give(&g, 1, 0, &seq);
    mp_group_nack(&g, 1, 1000000, 0, never, NULL);
    mp_group_progress_encode(&g, &b);
    mp_group_progress_committed(&g);
    mp_group_nack(&g, 1, 0, 0, never, NULL);
    assert_true(mp_group_has_progress(&g));
    mp_group_progress_encode(&g, &b);

    mp_group_init(&r, &THREE, 1);
    for (c = mp_cursor_of(mp_buf_slice(&b)); mp_cursor_left(&c) > 0;)
        assert_int_equal(mp_group_progress_replay(&r, &c), MEMPHIS_OK);

    assert_int_equal(give(&r, 1, 0, &seq), 2);
    mp_buf_fini(&b);
    mp_group_fini(&g);
    mp_group_fini(&r);
}

/* What came back once is logged with its deadline. */
static void a_nack_of_what_came_back_once_holds_after_a_start_too(void **state)
{
    struct mp_group g, r;
    struct mp_buf b = { 0 };
    struct mp_cursor c;
    uint64_t seq;

    (void)state;
    mp_group_init(&g, &THREE, 1);
    give(&g, 1, 0, &seq);
    assert_true(mp_group_return(&g, 1, 1));
    assert_int_equal(give(&g, 1, 0, &seq), 1);
    mp_group_progress_encode(&g, &b);
    mp_group_progress_committed(&g);
    mp_group_nack(&g, 1, 0, 0, never, NULL);
    assert_true(mp_group_has_progress(&g));
    mp_group_progress_encode(&g, &b);

    mp_group_init(&r, &THREE, 1);
    for (c = mp_cursor_of(mp_buf_slice(&b)); mp_cursor_left(&c) > 0;)
        assert_int_equal(mp_group_progress_replay(&r, &c), MEMPHIS_OK);
    assert_int_equal(give(&r, 1, 0, &seq), 2);
    mp_buf_fini(&b);
    mp_group_fini(&g);
    mp_group_fini(&r);
}

static void a_full_group_takes_no_new_message_until_one_is_settled(void **state)
{
    struct mp_group_config two = { .ack_wait_ns = 100, .deliveries_max = 3,
                                   .pending_max = 2 };
    struct mp_group g;
    uint64_t seq;

    (void)state;
    mp_group_init(&g, &two, 1);
    give(&g, 9, 0, &seq);
    give(&g, 9, 0, &seq);
    assert_int_equal(give(&g, 9, 0, &seq), 0);
    mp_group_ack(&g, 1);
    assert_int_equal(give(&g, 9, 0, &seq), 1);
    assert_int_equal(seq, 3);
    mp_group_fini(&g);
}

/* floor 0, next 2^30; settled: all but the first and the last. */
static void a_wide_window_with_few_open_messages_is_replayed_at_once(void **state)
{
    struct mp_group_config config = { .ack_wait_ns = 1, .pending_max = 10 };
    struct mp_group g;
    struct mp_buf b = { 0 };

    (void)state;
    mp_group_init(&g, &config, 1);
    mp_buf_put_u64(&b, 1u << 30);
    mp_buf_put_u64(&b, 0);
    mp_buf_put_varint(&b, 1);
    mp_buf_put_varint(&b, 2);
    mp_buf_put_varint(&b, (1u << 30) - 3);
    mp_buf_put_varint(&b, 0);
    struct mp_cursor c = mp_cursor_of(mp_buf_slice(&b));
    assert_int_equal(mp_group_progress_replay(&g, &c), MEMPHIS_OK);
    assert_int_equal(g.pending.count, 2);
    mp_group_check(&g);
    mp_buf_clear(&b);
    mp_buf_put_u64(&b, 1ull << 31); /* and one with more open than a group can have */
    mp_buf_put_u64(&b, 0);
    mp_buf_put_u16(&b, 0);
    c = mp_cursor_of(mp_buf_slice(&b));
    assert_int_equal(mp_group_progress_replay(&g, &c), MEMPHIS_CORRUPT);
    mp_group_check(&g);
    mp_group_fini(&g);
    mp_buf_fini(&b);
}

static void a_group_never_stands_beyond_the_log_after_a_start(void **state)
{
    struct mp_group g;
    uint64_t seq;

    (void)state;
    mp_group_init(&g, &THREE, 1);
    for (int i = 0; i < 5; i++)
        give(&g, 5, 0, &seq);
    mp_group_replay_done(&g, 3, 0);
    assert_int_equal(g.next, 4);
    assert_int_equal(g.pending.count, 3);
    mp_group_check(&g);
    mp_group_fini(&g);
}

static void a_trimmed_stream_takes_its_pending_messages_along(void **state)
{
    struct mp_group g;
    uint64_t seq;

    (void)state;
    mp_group_init(&g, &THREE, 1);
    for (int i = 0; i < 5; i++)
        give(&g, 5, 0, &seq);
    mp_group_trim(&g, 4);
    assert_int_equal(g.floor, 3);
    assert_int_equal(g.pending.count, 2);
    mp_group_trim(&g, 100);
    assert_int_equal(g.next, 100);
    assert_int_equal(g.pending.count, 0);
    mp_group_check(&g);
    mp_group_fini(&g);
}

static void damaged_progress_is_refused_and_never_crashes(void **state)
{
    struct mp_group g, r;
    struct mp_buf b = { 0 };
    uint64_t seq;
    uint32_t seed = 1;

    (void)state;
    mp_group_init(&g, &THREE, 1);
    for (int i = 0; i < 8; i++)
        give(&g, 8, 0, &seq);
    mp_group_ack(&g, 2);
    mp_group_nack(&g, 4, 50, 0, never, NULL);
    mp_group_ack(&g, 6);
    mp_group_progress_encode(&g, &b);
    for (int i = 0; i < 20000; i++) {
        struct mp_cursor c;
        uint8_t before;
        size_t at;

        seed = seed * 1664525u + 1013904223u;
        at = (seed >> 8) % b.size;
        before = b.data[at];
        b.data[at] = (uint8_t)(seed >> 24);
        c = mp_cursor_of(mp_slice(b.data, i % 3 ? b.size : (seed >> 4) % b.size));
        /* Sequences far away cost memory in proportion to the window, so the two fixed
         * fields stay small here. */
        if (at >= 16) {
            mp_group_init(&r, &THREE, 1);
            (void)mp_group_progress_replay(&r, &c);
            mp_group_fini(&r);
        }
        b.data[at] = before;
    }
    mp_buf_fini(&b);
    mp_group_fini(&g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        leak_checked(a_group_equals_its_model_under_random_operations_and_replay),
        leak_checked(a_delivery_that_nobody_saw_is_not_counted),
        leak_checked(a_counted_delivery_that_nobody_saw_is_made_again_with_its_count),
        leak_checked(a_message_returns_after_its_ack_deadline),
        leak_checked(the_third_delivery_waits_until_its_count_is_committed),
        leak_checked(after_its_last_delivery_a_message_is_dead_once),
        leak_checked(lowering_max_deliveries_below_a_count_loses_no_dead_letter),
        leak_checked(a_buried_message_leaves_with_its_progress),
        leak_checked(what_one_progress_delivers_and_buries_holds_no_floor_back),
        leak_checked(what_was_dying_dies_after_a_start_and_is_not_delivered),
        leak_checked(work_in_progress_restarts_the_deadline),
        leak_checked(a_delivery_may_have_a_deadline_of_its_own),
        leak_checked(a_time_beyond_the_end_of_time_is_its_end),
        leak_checked(nacked_messages_come_in_the_order_of_their_nacks),
        leak_checked(a_delay_that_is_cut_short_is_short_after_a_start_too),
        leak_checked(a_nack_of_what_came_back_once_holds_after_a_start_too),
        leak_checked(a_full_group_takes_no_new_message_until_one_is_settled),
        leak_checked(a_wide_window_with_few_open_messages_is_replayed_at_once),
        leak_checked(a_group_never_stands_beyond_the_log_after_a_start),
        leak_checked(a_trimmed_stream_takes_its_pending_messages_along),
        leak_checked(damaged_progress_is_refused_and_never_crashes),
    };

    return run_tests("stream/group", tests);
}
