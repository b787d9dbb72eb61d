/* The state file of a partition: state + later entries == all entries. */
#include "world.h"

/* === A copy of the stream, as a start would make it === */

struct copy {
    struct mp_timers timers;
    struct mp_stream_host host;
    struct mp_stream *stream;
};

/* The log is the living one's, at its present end; entries come from the journal. */
static void copy_begin(struct copy *c, struct world *w)
{
    struct mp_stream_settings s = w->stream->settings;

    s.limit = MP_LIMIT_ACKED; /* a copy proposes nothing */
    mp_stream_host_init(&c->host);
    mp_timers_init(&c->timers, w->now_ns / MILLI);
    c->host.bus = mp_bus_new(5);
    c->host.timers = &c->timers;
    c->host.now_ns = &w->now_ns;
    c->stream = mp_stream_new(&c->host, w->log, PID, &s);
}

static void copy_end(struct copy *c)
{
    mp_stream_free(c->stream, false);
    mp_bus_free(c->host.bus);
}

static void copy_replay(struct copy *c, struct world *w, size_t from)
{
    for (size_t at = from; at < w->journal.size;) {
        uint32_t size = mp_get_u32(w->journal.data + at);
        struct mp_entry e;
        size_t decoded;

        at += 4;
        assert_int_equal(mp_entry_decode(mp_slice(w->journal.data + at, size), true, &e,
                                         &decoded, NULL),
                         MEMPHIS_OK);
        if (e.type != MP_ENTRY_PARTITION)
            mp_stream_apply(c->stream, &e, 0);
        at += size;
    }
    mp_stream_replay_done(c->stream);
}

/* === Comparing === */

struct random {
    uint32_t seed;
};

static uint32_t rnd(struct random *r, uint32_t n)
{
    r->seed = r->seed * 1664525u + 1013904223u;
    return (r->seed >> 8) % n;
}

struct run {
    struct world *w;
    struct random r;
    bool moves_deadlines; /* +WPI and changed ack waits, which are not logged */
    struct mp_buf state;  /* taken at this point of the journal */
    size_t state_at;
    bool has_state;
    bool was_quiet;       /* since then all that the state may have known is logged */
    int checks, exact_checks;
};

/* When it is due: 0 when that is over, however it is kept. */
static uint64_t due_of(const struct mp_group *g, const struct mp_pending_item *i,
                       uint64_t now_ns)
{
    uint64_t due = 0;

    if (i->state == MP_PENDING_WAITING)
        due = i->time_ns + g->config.ack_wait_ns;
    else if (i->state == MP_PENDING_DELAYED)
        due = i->time_ns;
    return due > now_ns ? due : 0;
}

static void same_config(const struct mp_stream_group *a,
                        const struct mp_stream_group *b)
{
    assert_int_equal(a->gid, b->gid);
    assert_string_equal(a->name, b->name);
    assert_string_equal(a->ack_prefix, b->ack_prefix);
    assert_int_equal(a->filter == NULL, b->filter == NULL);
    if (a->filter != NULL)
        assert_string_equal(a->filter, b->filter);
    assert_int_equal(a->group.config.ack_wait_ns, b->group.config.ack_wait_ns);
    assert_int_equal(a->group.config.deliveries_max, b->group.config.deliveries_max);
    assert_int_equal(a->group.config.pending_max, b->group.config.pending_max);
    assert_int_equal(a->policy, b->policy);
    assert_int_equal(a->asked_start, b->asked_start);
    assert_int_equal(a->plain, b->plain);
    assert_int_equal(a->created_ns, b->created_ns);
}

/* Exactly the same cursor and pending set. A start makes first deliveries due at once:
 * `due_too` between copies only. */
static void same_progress(struct run *run, const struct mp_group *a,
                          const struct mp_group *b, bool due_too)
{
    uint64_t now = run->w->now_ns;

    assert_int_equal(a->next, b->next);
    assert_int_equal(a->floor, b->floor);
    assert_int_equal(a->pending.count, b->pending.count);
    assert_int_equal(a->redelivered, b->redelivered);
    for (uint64_t s = a->floor + 1; s < a->next; s++) {
        const struct mp_pending_item *x = mp_pending_find(&a->pending, s);
        const struct mp_pending_item *y = mp_pending_find(&b->pending, s);

        assert_int_equal(x == NULL, y == NULL);
        if (x == NULL)
            continue;
        assert_int_equal(x->deliveries, y->deliveries);
        if (due_too && !run->moves_deadlines)
            assert_int_equal(due_of(a, x, now), due_of(b, y, now));
    }
}

/* The state may know more than was logged by then, never less: what it has settled
 * stays settled unless a later entry names it, what is pending after all entries and
 * not after the state was settled by its consumer. */
static void at_least_as_far(const struct mp_group *all, const struct mp_group *restored,
                            const struct mp_group *living)
{
    assert_true(restored->next >= all->next);
    assert_true(restored->next <= living->next);
    for (uint64_t s = 1; s < restored->next; s++) {
        bool in_all = mp_pending_find(&all->pending, s) != NULL;
        bool in_restored = mp_pending_find(&restored->pending, s) != NULL;
        bool in_living = mp_pending_find(&living->pending, s) != NULL;

        if (s < all->next && !in_all)
            assert_false(in_restored); /* a logged settlement never comes back */
        if (in_living)
            assert_true(in_restored); /* what nobody settled is not forgotten */
    }
}

static void check_copies(struct run *run, bool quiet)
{
    struct world *w = run->w;
    struct copy all, restored;
    struct mp_stream_group *g, *r;
    memphis_error err;

    copy_begin(&all, w);
    copy_replay(&all, w, 0);
    copy_begin(&restored, w);
    assert_int_equal(mp_stream_restore(restored.stream, mp_buf_slice(&run->state),
                                       &err),
                     MEMPHIS_OK);
    copy_replay(&restored, w, run->state_at);
    assert_int_equal(all.stream->groups.count, restored.stream->groups.count);
    assert_int_equal(all.stream->proposed_last, restored.stream->proposed_last);
    for (uint32_t i = 0; (g = mp_map_next(&all.stream->groups, &i)) != NULL;) {
        struct mp_stream_group *living = group(w, g->name);

        r = mp_stream_group(restored.stream, mp_slice_text(g->name));
        assert_non_null(r);
        assert_non_null(living);
        mp_group_check(&g->group);
        mp_group_check(&r->group);
        same_config(g, r);
        same_config(g, living);
        at_least_as_far(&g->group, &r->group, &living->group);
        if (quiet) {
            same_progress(run, &g->group, &r->group, true);
            same_progress(run, &g->group, &living->group, false);
        }
    }
    copy_end(&all);
    copy_end(&restored);
    run->checks++;
    run->exact_checks += quiet;
}

/* === Random histories === */

static const char *const NAMES[] = { "billing", "audit", "mail#eu" };

static void any_create(struct run *run)
{
    struct world *w = run->w;
    const char *name = NAMES[rnd(&run->r, 3)];
    uint32_t policy = rnd(&run->r, 4);
    uint64_t n = 1 + rnd(&run->r, (uint32_t)last_seq(w) + 2);
    struct mp_stream_group_config c = {
        .name = name,
        .start = mp_stream_start_of(w->stream, policy, n),
        .group = { .ack_wait_ns = 50 * MILLI, .deliveries_max = rnd(&run->r, 6),
                   .pending_max = 40 },
        .policy = policy,
        .asked_start = policy == MP_START_SEQUENCE ? n : 0,
        .filter = rnd(&run->r, 3) == 0 ? "orders$1.>" : NULL,
        .plain = rnd(&run->r, 2),
    };

    create_group(w, &c);
}

static void any_group_change(struct run *run)
{
    struct mp_stream_group *g = group(run->w, NAMES[rnd(&run->r, 3)]);
    struct mp_group_config c = { .ack_wait_ns = 50 * MILLI, .pending_max = 40 };
    struct mp_buf b = { 0 };

    if (g == NULL) {
        any_create(run);
        return;
    }
    switch (rnd(&run->r, 8)) {
    case 0:
        mp_stream_group_delete_encode(g, &b);
        append_group(run->w, &b);
        break;
    case 1:
        c.deliveries_max = rnd(&run->r, 6);
        if (run->moves_deadlines)
            c.ack_wait_ns = (10 + rnd(&run->r, 100)) * MILLI;
        mp_stream_group_update_encode(g, &c, NULL, &b);
        append_group(run->w, &b);
        break;
    default:
        break;
    }
}

static void any_publish(struct run *run)
{
    char headers[64];

    for (uint32_t n = 1 + rnd(&run->r, 4); n > 0; n--) {
        snprintf(headers, sizeof(headers), "NATS/1.0\r\nmsg-id: %u\r\n\r\n",
                 rnd(&run->r, 500));
        publish_with(run->w, rnd(&run->r, 6) ? "orders$1.final" : "orders$1.other", "",
                     rnd(&run->r, 2) ? headers : "", "x");
    }
}

static void any_settlement(struct run *run)
{
    struct mp_stream_group *g = group(run->w, NAMES[rnd(&run->r, 3)]);
    char verdict[64];
    uint64_t seq;

    if (g == NULL)
        return;
    seq = g->group.floor + 1 + rnd(&run->r, 12);
    snprintf(verdict, sizeof(verdict), "+ACK");
    switch (rnd(&run->r, 8)) {
    case 0:
    case 1:
        snprintf(verdict, sizeof(verdict), "-NAK");
        break;
    case 2:
        snprintf(verdict, sizeof(verdict), "-NAK {\"delay\": %llu}",
                 (1 + rnd(&run->r, 200)) * MILLI);
        break;
    case 3:
        if (run->moves_deadlines)
            snprintf(verdict, sizeof(verdict), "+WPI");
        break;
    case 4:
        snprintf(verdict, sizeof(verdict), "+TERM no good");
        break;
    default:
        break;
    }
    mp_stream_settle(g, seq, mp_slice_text(verdict),
                     rnd(&run->r, 4) ? MP_STR("") : MP_STR("_INBOX.ack"));
}

static void any_pull(struct run *run)
{
    struct mp_stream_group *g = group(run->w, NAMES[rnd(&run->r, 3)]);
    struct mp_pull_request r = { .batch = 1 + rnd(&run->r, 8),
                                 .expires_ns = rnd(&run->r, 50) * MILLI,
                                 .has_expires = true,
                                 .no_wait = rnd(&run->r, 2) };

    if (g != NULL)
        mp_stream_pull(g, &r, MP_STR("_INBOX.pull"));
}

static void purge_some(struct run *run)
{
    struct mp_buf b = { 0 };
    struct mp_entry e = { .type = MP_ENTRY_FLOOR, .pid = PID,
                          .time_ns = run->w->now_ns };
    uint64_t first = mp_log_first(run->w->log, PID), last = last_seq(run->w);

    mp_buf_put_u64(&b, first + rnd(&run->r, (uint32_t)(last + 2 - first)));
    mp_buf_put_u8(&b, 4);
    e.payload = mp_buf_slice(&b);
    append(run->w, &e);
    mp_buf_fini(&b);
}

static void take_state(struct run *run)
{
    mp_buf_clear(&run->state);
    mp_stream_state(run->w->stream, &run->state);
    run->state_at = run->w->journal.size;
    run->has_state = true;
}

static void one_step(struct run *run)
{
    struct world *w = run->w;

    switch (rnd(&run->r, 40)) {
    case 0:
        any_group_change(run);
        break;
    case 1:
        if (rnd(&run->r, 4) == 0)
            purge_some(run);
        break;
    case 2:
        take_state(run); /* in the middle of a turn, or with a batch in flight */
        break;
    case 3:
    case 4:
    case 5:
        any_publish(run);
        break;
    case 6:
    case 7:
    case 8:
    case 9:
    case 10:
    case 11:
        any_pull(run);
        break;
    case 12:
    case 13:
    case 14:
        begin_turn(w);
        break;
    case 15:
        mp_streams_log_progress(&w->host);
        break;
    case 16:
    case 17:
    case 18:
        hand_over(w);
        break;
    case 19:
    case 20:
        mp_disk_advance(w->disk, rnd(&run->r, 30) * MILLI);
        break;
    case 21:
    case 22:
    case 23:
    case 24:
        mp_streams_serve(&w->host, 1 + rnd(&run->r, 8), 1 << 20);
        break;
    default:
        any_settlement(run);
    }
    forget(w);
}

static void run_seed(uint32_t seed, int steps, bool moves_deadlines)
{
    struct run run = { .w = world_new(&ORDERS), .r = { seed },
                       .moves_deadlines = moves_deadlines };

    for (int step = 0; step < steps; step++) {
        one_step(&run);
        if (step % 20 == 0 && run.has_state)
            check_copies(&run, false);
        if (step % 101 == 0 && run.has_state) {
            settle_down(run.w);
            check_copies(&run, true);
        }
    }
    assert_true(run.exact_checks > 0 && run.checks > run.exact_checks);
    mp_buf_fini(&run.state);
    world_free(run.w);
}

static void a_state_and_the_later_entries_say_what_all_entries_say(void **state)
{
    (void)state;
    for (uint32_t seed = 1; seed <= 40; seed++) {
        if (getenv("V"))
            printf("seed %u\n", seed);
        run_seed(seed * 7919, 2000, false);
    }
}

static void it_holds_also_when_deadlines_are_moved(void **state)
{
    (void)state;
    for (uint32_t seed = 1; seed <= 20; seed++) {
        if (getenv("V"))
            printf("seed %u\n", seed);
        run_seed(seed * 104729, 2000, true);
    }
}

/* === Stories === */

static void a_stream_without_groups_has_an_empty_state(void **state)
{
    struct world *w = world_new(&ORDERS);
    struct mp_buf b = { 0 };

    (void)state;
    store(w, 3);

    mp_stream_state(w->stream, &b);

    assert_int_equal(b.size, 0);
    assert_int_equal(mp_stream_restore(w->stream, mp_buf_slice(&b), NULL), MEMPHIS_OK);
    world_free(w);
}

/* A group with a hole, a delayed message and one on its third delivery. */
static void make_a_state(struct world *w, struct mp_buf *out)
{
    struct mp_stream_group *g = make_group(w, "billing", 5);

    store(w, 6);
    for (int i = 0; i < 3; i++) {
        pull(g, 6, "_INBOX.p");
        settle_down(w);
        settle(g, 2, "-NAK");
    }
    settle(g, 4, "+ACK");
    settle(g, 5, "-NAK 60s");
    settle_down(w);
    mp_stream_state(w->stream, out);
}

static void a_cut_state_is_corrupt_and_a_damaged_one_never_crashes(void **state)
{
    struct world *w = world_new(&ORDERS);
    struct mp_buf b = { 0 }, progress = { 0 };
    struct copy c;
    memphis_error err;
    size_t window;

    (void)state;
    make_a_state(w, &b);
    mp_group_state_encode(&group(w, "billing")->group, &progress);
    window = b.size - progress.size; /* next and floor stand there */
    for (size_t size = 1; size < b.size; size++) {
        copy_begin(&c, w);
        assert_int_equal(
            mp_stream_restore(c.stream, mp_slice(b.data, size), &err),
            MEMPHIS_CORRUPT);
        assert_non_null(strstr(err.message, "orders$1"));
        copy_end(&c);
    }
    /* The file has a checksum, so a flipped byte comes from no disk; the two numbers
     * that say how much memory is needed stay as they are. */
    for (size_t at = 0; at < b.size; at++) {
        if (at >= window && at < window + 16)
            continue;
        b.data[at] ^= 0x01;
        copy_begin(&c, w);
        (void)mp_stream_restore(c.stream, mp_buf_slice(&b), NULL);
        copy_end(&c);
        b.data[at] ^= 0x01;
    }
    mp_buf_fini(&progress);
    mp_buf_fini(&b);
    world_free(w);
}

static void the_same_group_twice_in_a_state_is_corrupt(void **state)
{
    struct world *w = world_new(&ORDERS);
    struct mp_buf b = { 0 };
    struct copy c;

    (void)state;
    make_a_state(w, &b);
    for (size_t size = b.size, i = 0; i < size; i++)
        mp_buf_put_u8(&b, b.data[i]);
    copy_begin(&c, w);

    assert_int_equal(mp_stream_restore(c.stream, mp_buf_slice(&b), NULL),
                     MEMPHIS_CORRUPT);

    copy_end(&c);
    mp_buf_fini(&b);
    world_free(w);
}

static void a_state_brings_back_counts_delays_and_holes(void **state)
{
    struct world *w = world_new(&ORDERS);
    struct mp_buf b = { 0 };
    struct mp_stream_group *g;
    struct copy c;

    (void)state;
    make_a_state(w, &b);
    copy_begin(&c, w);
    assert_int_equal(mp_stream_restore(c.stream, mp_buf_slice(&b), NULL), MEMPHIS_OK);
    mp_stream_replay_done(c.stream);

    g = mp_stream_group(c.stream, MP_STR("billing"));
    assert_int_equal(g->group.next, 7);
    assert_int_equal(g->group.floor, 0);
    assert_null(mp_pending_find(&g->group.pending, 4));
    assert_int_equal(mp_pending_find(&g->group.pending, 1)->deliveries, 1);
    assert_int_equal(mp_pending_find(&g->group.pending, 2)->deliveries, 4);
    assert_int_equal(mp_pending_find(&g->group.pending, 5)->state, MP_PENDING_DELAYED);
    assert_true(mp_pending_find(&g->group.pending, 5)->time_ns >
                w->now_ns + 59000 * MILLI);

    copy_end(&c);
    mp_buf_fini(&b);
    world_free(w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        leak_checked(a_state_and_the_later_entries_say_what_all_entries_say),
        leak_checked(it_holds_also_when_deadlines_are_moved),
        leak_checked(a_stream_without_groups_has_an_empty_state),
        leak_checked(a_cut_state_is_corrupt_and_a_damaged_one_never_crashes),
        leak_checked(the_same_group_twice_in_a_state_is_corrupt),
        leak_checked(a_state_brings_back_counts_delays_and_holes),
    };

    return run_tests("stream/state", tests);
}
