#include "support/broker.h"

#include "api/api.h"

#include <pthread.h>
#include <stdio.h>
#include <unistd.h>

struct world {
    struct test_world w;
    memphis_station *s;
    memphis_producer *p;
    memphis_consumer *c;
    memphis_error err;
};

static struct world *begin(int mode, uint32_t partitions)
{
    static struct world x;
    memphis_station_options o = { .partitions = partitions };

    x = (struct world){ .s = NULL };
    test_world_init(&x.w, mode, true);
    assert_int_equal(test_world_open(&x.w), MEMPHIS_OK);
    assert_int_equal(memphis_station_create(x.w.b, "s", &o, &x.s, NULL), MEMPHIS_OK);
    assert_int_equal(memphis_producer_open(x.s, "p", &x.p, NULL), MEMPHIS_OK);
    return &x;
}

static memphis_consumer *join(struct world *x, const char *name,
                              const memphis_consumer_options *o)
{
    memphis_consumer *c = NULL;

    if (memphis_consumer_open(x->s, name, o, &c, &x->err) != MEMPHIS_OK)
        fail_msg("%s", x->err.message);
    return c;
}

static void end(struct world *x)
{
    memphis_consumer_close(x->c);
    memphis_producer_close(x->p);
    memphis_station_close(x->s);
    test_world_end(&x->w);
}

static void produce(struct world *x, int first, int last)
{
    char body[16];

    for (int i = first; i <= last; i++) {
        int size = snprintf(body, sizeof body, "m%d", i);
        assert_int_equal(memphis_produce(x->p, body, (size_t)size, NULL, NULL, NULL),
                         MEMPHIS_OK);
    }
}

static uint32_t fetch(memphis_consumer *c, memphis_message **m, uint32_t max,
                      uint32_t wait_ms)
{
    uint32_t got = 99;

    assert_int_equal(memphis_fetch(c, m, max, wait_ms, &got, NULL), MEMPHIS_OK);
    assert_true(got <= max);
    return got;
}

/* The next message; it is there or comes within seconds. */
static memphis_message *next(memphis_consumer *c)
{
    memphis_message *m = NULL;

    assert_int_equal(fetch(c, &m, 1, 20000), 1);
    return m;
}

static void expect_nothing(memphis_consumer *c)
{
    memphis_message *m;

    assert_int_equal(fetch(c, &m, 1, 0), 0);
}

static void settle(memphis_message *m, memphis_status (*how)(memphis_message *))
{
    assert_int_equal(how(m), MEMPHIS_OK);
    memphis_message_unref(m);
}

/* -- messages ---------------------------------------------------------------------- */

static void a_message_tells_what_it_is(void **state)
{
    (void)state;
    for (int mode = 0; mode < TEST_MODES; mode++) {
        struct world *x = begin(mode, 1);
        memphis_header h = { "color", "green", 0 };
        memphis_produce_options o = { .headers = &h, .headers_count = 1 };
        x->c = join(x, "C", NULL);
        assert_int_equal(memphis_produce(x->p, "hello", 5, &o, NULL, NULL), MEMPHIS_OK);
        memphis_message *m = next(x->c);
        assert_int_equal(memphis_message_data(m).size, 5);
        assert_memory_equal(memphis_message_data(m).data, "hello", 5);
        assert_int_equal(memphis_message_header(m, "color").size, 5);
        assert_memory_equal(memphis_message_header(m, "color").data, "green", 5);
        assert_memory_equal(memphis_message_header(m, "$memphis_producedBy").data, "p",
                            1);
        assert_null(memphis_message_header(m, "Color").data);
        assert_int_equal(memphis_message_sequence(m), 1);
        assert_int_equal(memphis_message_partition(m), 1);
        assert_int_equal(memphis_message_deliveries(m), 1);
        assert_true(memphis_message_time_ms(m) > 1600000000000ull);
        assert_ptr_equal(memphis_message_ref(m), m);
        memphis_message_unref(m);
        assert_memory_equal(memphis_message_data(m).data, "hello", 5);
        settle(m, memphis_message_ack);
        memphis_message_unref(NULL);
        assert_int_equal(memphis_message_ack(NULL), MEMPHIS_INVALID);
        assert_int_equal(memphis_message_extend(NULL), MEMPHIS_INVALID);
        end(x);
    }
}

static void an_acknowledged_message_is_done_and_a_refused_one_comes_again(void **state)
{
    (void)state;
    for (int mode = 0; mode < TEST_MODES; mode++) {
        struct world *x = begin(mode, 1);
        memphis_message *m[3];
        x->c = join(x, "c", NULL);
        produce(x, 1, 3);
        for (int i = 0; i < 3; i++)
            m[i] = next(x->c);
        expect_nothing(x->c);
        settle(m[0], memphis_message_ack);
        assert_int_equal(memphis_message_nack(m[1], 0), MEMPHIS_OK);
        memphis_message_unref(m[1]);
        assert_int_equal(memphis_message_dead_letter(m[2], NULL), MEMPHIS_OK);
        memphis_message_unref(m[2]);
        m[1] = next(x->c);
        assert_int_equal(memphis_message_sequence(m[1]), 2);
        assert_int_equal(memphis_message_deliveries(m[1]), 2);
        assert_int_equal(memphis_message_ack(m[1]), MEMPHIS_OK);
        assert_int_equal(memphis_message_nack(m[1], 0), MEMPHIS_OK); /* too late */
        memphis_message_unref(m[1]);
        expect_nothing(x->c);
        end(x);
    }
}

static void a_delayed_one_comes_after_its_delay_and_not_before(void **state)
{
    struct world *x = begin(1, 1);

    (void)state;
    x->c = join(x, "c", NULL);
    produce(x, 1, 1);
    memphis_message *m = next(x->c);
    uint64_t began = api_boot_ms();
    assert_int_equal(memphis_message_nack(m, 60), MEMPHIS_OK);
    memphis_message_unref(m);
    expect_nothing(x->c);
    m = next(x->c);
    assert_true(api_boot_ms() - began >= 59);
    settle(m, memphis_message_ack);
    end(x);
}

static void a_duration_without_end_is_one(void **state)
{
    struct world *x = begin(1, 1);
    static const uint64_t longs[] = { UINT64_MAX, UINT64_MAX / 1000000 + 1,
                                      1ull << 62 };

    (void)state;
    for (int i = 0; i < 3; i++) {
        char name[4] = { 'c', (char)('0' + i), 0 };
        memphis_consumer_options o = { .ack_wait_ms = longs[i] };
        memphis_message *m;
        x->c = join(x, name, &o);
        if (i == 0)
            produce(x, 1, 2);
        m = next(x->c);
        assert_int_equal(memphis_message_nack(m, longs[i]), MEMPHIS_OK);
        memphis_message_unref(m);
        memphis_message_unref(next(x->c));
        for (int k = 0; k < 20; k++) {
            usleep(100);
            assert_int_equal(memphis_step(x->w.b, NULL), MEMPHIS_OK);
        }
        expect_nothing(x->c);
        memphis_consumer_close(x->c);
    }
    x->c = NULL;
    end(x);
}

static void what_is_not_settled_in_time_comes_again(void **state)
{
    struct world *x = begin(0, 1);
    memphis_consumer_options o = { .ack_wait_ms = 50 };

    (void)state;
    x->c = join(x, "c", &o);
    produce(x, 1, 1);
    memphis_message *first = next(x->c);
    assert_int_equal(memphis_message_extend(first), MEMPHIS_OK);
    memphis_message *second = next(x->c);
    assert_int_equal(memphis_message_deliveries(second), 2);
    memphis_message_unref(first);
    settle(second, memphis_message_ack);
    end(x);
}

/* -- groups ------------------------------------------------------------------------ */

static void members_share_the_messages_and_groups_see_all(void **state)
{
    struct world *x = begin(0, 2);
    memphis_consumer_options o = { .group = "G" };
    memphis_message *m[20];
    uint32_t shared = 0;

    (void)state;
    memphis_consumer *a = join(x, "a", &o), *b = join(x, "b", &o);
    x->c = join(x, "alone", NULL);
    produce(x, 1, 20);
    for (int turn = 0; shared < 20; turn++) { /* one of each partition at most */
        uint32_t got = fetch(turn % 2 ? a : b, m, 2, 20000);
        for (uint32_t i = 0; i < got; i++)
            settle(m[i], memphis_message_ack);
        shared += got;
    }
    expect_nothing(a);
    uint32_t seen = 0;
    for (int i = 0; i < 20; i++) {
        memphis_message *one = next(x->c);
        seen |= 1u << (10 * (memphis_message_partition(one) - 1) +
                       memphis_message_sequence(one) - 1);
        settle(one, memphis_message_ack);
    }
    assert_int_equal(seen, (1u << 20) - 1);
    memphis_consumer_close(a);
    memphis_consumer_close(b);
    end(x);
}

static void a_group_begins_where_it_was_asked_to_and_keeps_its_place(void **state)
{
    struct world *x = begin(1, 1);
    memphis_consumer_options options[] = { { .start_sequence = 3 },
                                           { .last_messages = 2 },
                                           { .only_new = 1 },
                                           { .start_sequence = 1 } };
    static const uint64_t firsts[] = { 3, 4, 6, 1 };

    (void)state;
    produce(x, 1, 5);
    memphis_consumer *c[4];
    for (int i = 0; i < 4; i++) {
        char name[4] = { 'c', (char)('0' + i), 0 };
        c[i] = join(x, name, &options[i]);
    }
    produce(x, 6, 6);
    for (int i = 0; i < 4; i++) {
        memphis_message *m = next(c[i]);
        assert_int_equal(memphis_message_sequence(m), firsts[i]);
        settle(m, memphis_message_ack);
        memphis_consumer_close(c[i]);
    }
    x->c = join(x, "c3", &options[0]); /* the group is there already */
    memphis_message *m = next(x->c);
    assert_int_equal(memphis_message_sequence(m), 2);
    settle(m, memphis_message_ack);
    end(x);
}

static void a_member_of_one_partition_sees_only_that(void **state)
{
    struct world *x = begin(1, 3);
    memphis_consumer_options o = { .partition = 2 };

    (void)state;
    x->c = join(x, "c", &o);
    produce(x, 1, 6);
    for (int i = 0; i < 2; i++) {
        memphis_message *m = next(x->c);
        assert_int_equal(memphis_message_partition(m), 2);
        settle(m, memphis_message_ack);
    }
    expect_nothing(x->c);
    end(x);
}

static void options_that_make_no_sense_are_invalid(void **state)
{
    struct world *x = begin(1, 2);
    memphis_consumer *c = NULL;
    memphis_message *m;
    uint32_t got;

    (void)state;
    for (size_t i = 0; i < 13; i++) {
        memphis_consumer_options o = { .group = "g" };
        if (i < 8)
            o.reserved[i] = 1;
        o.reserved0 = i == 8;
        o.start_sequence = i == 9 || i == 10 ? 2 : 0;
        o.last_messages = i == 9 || i == 11 ? 2 : 0;
        o.only_new = i == 10 || i == 11;
        o.partition = i == 12 ? 3 : 0;
        assert_int_equal(memphis_consumer_open(x->s, "c", &o, &c, &x->err),
                         MEMPHIS_INVALID);
        assert_true(x->err.message[0] != 0);
    }
    memphis_consumer_options bad_group = { .group = "a b" };
    assert_int_equal(memphis_consumer_open(x->s, "c", &bad_group, &c, NULL),
                     MEMPHIS_INVALID);
    assert_int_equal(memphis_consumer_open(x->s, "a b", NULL, &c, NULL),
                     MEMPHIS_INVALID);
    assert_int_equal(memphis_consumer_open(NULL, "c", NULL, &c, NULL), MEMPHIS_INVALID);
    assert_int_equal(memphis_consumer_open(x->s, "c", NULL, NULL, NULL),
                     MEMPHIS_INVALID);
    x->c = join(x, "c", NULL);
    assert_int_equal(memphis_fetch(NULL, &m, 1, 0, &got, NULL), MEMPHIS_INVALID);
    assert_int_equal(memphis_fetch(x->c, NULL, 1, 0, &got, NULL), MEMPHIS_INVALID);
    assert_int_equal(memphis_fetch(x->c, &m, 0, 0, &got, NULL), MEMPHIS_INVALID);
    assert_int_equal(memphis_fetch(x->c, &m, 1, 0, NULL, NULL), MEMPHIS_INVALID);
    assert_int_equal(memphis_consume(x->c, 1, 0, NULL, NULL, NULL, NULL),
                     MEMPHIS_INVALID);
    memphis_consumer_close(NULL);
    end(x);
}

static void STA_10_acked_by_all_groups_a_message_is_gone(void **state)
{
    memphis_station_options o = { .retention = MEMPHIS_RETAIN_UNTIL_ACKED };
    (void)state;

    for (int mode = 0; mode < 2; mode++) {
        struct world *x = begin(mode, 1);
        memphis_consumer *late;
        memphis_message *m[8];
        memphis_station_close(x->s);
        memphis_producer_close(x->p);
        assert_int_equal(memphis_station_create(x->w.b, "acked", &o, &x->s, NULL),
                         MEMPHIS_OK);
        assert_int_equal(memphis_producer_open(x->s, "p", &x->p, NULL), MEMPHIS_OK);
        produce(x, 1, 1); /* nobody wants it */
        x->c = join(x, "a", NULL);
        produce(x, 2, 4);
        for (int i = 2; i <= 4; i++) {
            memphis_message *own = next(x->c);
            if (i == 3)
                assert_int_equal(memphis_message_ack(own), MEMPHIS_OK);
            memphis_message_unref(own);
        }
        for (int i = 0; i < 20; i++) { /* the ack is recorded, the message removed */
            usleep(2000);
            if (mode == MEMPHIS_MANUAL)
                assert_int_equal(memphis_step(x->w.b, NULL), MEMPHIS_OK);
        }
        late = join(x, "late", NULL);
        assert_int_equal(fetch(late, m, 2, 20000), 2);
        assert_int_equal(memphis_message_sequence(m[0]), 2);
        assert_int_equal(memphis_message_sequence(m[1]), 4);
        for (int i = 0; i < 2; i++)
            memphis_message_unref(m[i]);
        memphis_consumer_close(late);
        end(x);
    }
}

/* -- fetched ahead ----------------------------------------------------------------- */

/* What came: a bit per partition and sequence, each delivered for the first time. */
static uint32_t take(struct world *x, uint32_t max)
{
    memphis_message *m[8];
    uint32_t got = fetch(x->c, m, max, 20000), seen = 0;

    assert_true(got > 0);
    for (uint32_t i = 0; i < got; i++) {
        assert_int_equal(memphis_message_deliveries(m[i]), 1);
        seen |= 1u << (8 * (memphis_message_partition(m[i]) - 1) +
                       memphis_message_sequence(m[i]) - 1);
        settle(m[i], memphis_message_ack);
    }
    return seen;
}

static void what_was_handed_to_nobody_was_not_delivered(void **state)
{
    (void)state;
    for (int round = 0; round < 3 * TEST_MODES; round++) {
        struct world *x = begin(round % TEST_MODES, 4);
        memphis_consumer_options o = { .deliveries_max = 1 };
        memphis_stats stats;
        uint32_t seen = 0;
        x->c = join(x, "c", &o);
        produce(x, 1, 8);
        for (int i = 0; i < 2; i++) /* more than asked for has come */
            seen |= take(x, 1);
        if (round / TEST_MODES == 0) {
            memphis_consumer_close(x->c);
            x->c = join(x, "c", &o);
        } else if (round / TEST_MODES == 1) {
            memphis_close(x->w.b);
            memphis_consumer_close(x->c);
            memphis_producer_close(x->p);
            memphis_station_close(x->s);
            x->p = NULL;
            assert_int_equal(test_world_open(&x->w), MEMPHIS_OK);
            assert_int_equal(memphis_station_open(x->w.b, "s", &x->s, NULL),
                             MEMPHIS_OK);
            x->c = join(x, "c", &o);
        }
        while (seen != 0x03030303)
            seen |= take(x, 5);
        expect_nothing(x->c);
        memphis_stats_read(x->w.b, &stats);
        assert_int_equal(stats.dead, 0);
        assert_int_equal(stats.redelivered, 0);
        if (round / TEST_MODES != 1)
            assert_int_equal(stats.delivered, 8);
        end(x);
    }
}

static void small_fetches_take_the_partitions_in_turn(void **state)
{
    (void)state;
    for (int mode = 0; mode < TEST_MODES; mode++) {
        struct world *x = begin(mode, 3);
        x->c = join(x, "c", NULL);
        produce(x, 1, 9);
        for (int i = 0; i < 3; i++) {
            uint32_t seen = 0;
            for (int p = 0; p < 3; p++)
                seen |= take(x, 1);
            assert_int_equal(seen, 0x010101u << i);
        }
        end(x);
    }
}

/* -- consume ----------------------------------------------------------------------- */

struct handler {
    int calls;
    memphis_message *kept;
};

/* m1: done; m2: again, then done; m3: never; m4: kept; others: done. */
static int32_t judge(void *ctx, memphis_message *m)
{
    struct handler *h = ctx;
    uint64_t seq = memphis_message_sequence(m);

    h->calls++;
    if (seq == 2 && memphis_message_deliveries(m) == 1)
        return MEMPHIS_NACK;
    if (seq == 4) {
        h->kept = memphis_message_ref(m);
        return MEMPHIS_KEEP;
    }
    return seq == 3 ? MEMPHIS_DEAD : MEMPHIS_ACK;
}

static void the_verdicts_of_a_handler_settle_its_messages(void **state)
{
    (void)state;
    for (int mode = 0; mode < TEST_MODES; mode++) {
        struct world *x = begin(mode, 1);
        struct handler h = { 0 };
        uint32_t handled = 99;
        x->c = join(x, "c", NULL);
        assert_int_equal(memphis_consume(x->c, 10, 0, judge, &h, &handled, NULL),
                         MEMPHIS_OK);
        assert_int_equal(handled, 0); /* quiet */
        produce(x, 1, 5);
        for (int i = 0; h.calls < 6; i++) {
            assert_true(i < 10);
            assert_int_equal(memphis_consume(x->c, 10, 20000, judge, &h, NULL, NULL),
                             MEMPHIS_OK);
        }
        expect_nothing(x->c); /* the kept one is out */
        assert_int_equal(memphis_message_nack(h.kept, 0), MEMPHIS_OK);
        memphis_message_unref(h.kept);
        memphis_message *m = next(x->c);
        assert_int_equal(memphis_message_sequence(m), 4);
        settle(m, memphis_message_ack);
        assert_int_equal(h.calls, 6);
        end(x);
    }
}

static const int32_t strange[] = { -1, 4, 100, INT32_MAX, INT32_MIN };

static int32_t say_something_strange(void *ctx, memphis_message *m)
{
    int *calls = ctx;

    (void)m;
    return *calls < 5 ? strange[(*calls)++] : MEMPHIS_ACK;
}

static void a_verdict_that_does_not_exist_acknowledges_nothing(void **state)
{
    struct world *x = begin(1, 1);
    int calls = 0;

    (void)state;
    x->c = join(x, "c", NULL);
    produce(x, 1, 1);
    for (int i = 1; i <= 5; i++) {
        uint32_t handled = 0;
        assert_int_equal(memphis_consume(x->c, 1, 20000, say_something_strange, &calls,
                                         &handled, NULL), MEMPHIS_OK);
        assert_int_equal(handled, 1);
        assert_int_equal(calls, i);
    }
    memphis_message *m = next(x->c);
    assert_int_equal(memphis_message_deliveries(m), 6);
    settle(m, memphis_message_ack);
    end(x);
}

static void consume_takes_no_more_than_it_was_asked_for(void **state)
{
    struct world *x = begin(0, 1);
    struct handler h = { 0 };
    uint32_t handled, total = 0;

    (void)state;
    x->c = join(x, "c", NULL);
    produce(x, 1, 3);
    for (int i = 0; i < 600; i++)
        assert_int_equal(memphis_produce_async(x->p, "x", 1, NULL, NULL, NULL, NULL),
                         MEMPHIS_OK);
    assert_int_equal(memphis_producer_flush(x->p, 30000), MEMPHIS_OK);
    while (total < 500) { /* more than one piece */
        assert_int_equal(memphis_consume(x->c, 500 - total, 20000, judge, &h, &handled,
                                         NULL), MEMPHIS_OK);
        assert_true(handled > 0 && handled <= 500 - total);
        total += handled;
    }
    assert_int_equal(h.calls, 500);
    memphis_message_unref(h.kept);
    end(x);
}

/* -- closing ----------------------------------------------------------------------- */

static int32_t say_done(void *ctx, memphis_message *m)
{
    (void)ctx, (void)m;
    return MEMPHIS_ACK;
}

static void close_broker(struct world *x)
{
    memphis_close(x->w.b);
    memphis_consumer_close(x->c);
    memphis_producer_close(x->p);
    memphis_station_close(x->s);
    x->c = NULL;
    x->p = NULL;
}

static void open_again(struct world *x)
{
    assert_int_equal(test_world_open(&x->w), MEMPHIS_OK);
    assert_int_equal(memphis_station_open(x->w.b, "s", &x->s, NULL), MEMPHIS_OK);
    x->c = join(x, "c", NULL);
}

static void what_was_acknowledged_before_a_close_is_done(void **state)
{
    (void)state;
    for (int round = 0; round < 10 * TEST_MODES; round++) {
        struct world *x = begin(round % TEST_MODES, 1);
        x->c = join(x, "c", NULL);
        produce(x, 1, 2);
        assert_int_equal(memphis_consume(x->c, 1, 20000, say_done, NULL, NULL, NULL),
                         MEMPHIS_OK);
        settle(next(x->c), memphis_message_ack);
        close_broker(x);
        open_again(x);
        expect_nothing(x->c);
        end(x);
    }
}

static void a_consumer_that_closes_has_settled_what_it_said_before(void **state)
{
    (void)state;
    for (int mode = 1; mode < TEST_MODES; mode++) {
        struct world *x = begin(mode, 1);
        x->c = join(x, "c", NULL);
        produce(x, 1, 1);
        settle(next(x->c), memphis_message_ack);
        memphis_consumer_close(x->c);
        x->c = NULL;
        assert_int_equal(x->w.b->core->streams.counters.acked, 1);
        end(x);
    }
}

static uint64_t stopped_ns;

static uint64_t stopped_clock(struct mp_env *e)
{
    (void)e;
    return stopped_ns;
}

static void a_close_does_not_wait_for_the_delay_of_acknowledgements(void **state)
{
    (void)state;
    for (int mode = 1; mode < TEST_MODES; mode++) {
        struct world *x = begin(mode, 1);
        x->c = join(x, "c", NULL);
        produce(x, 1, 1);
        assert_int_equal(memphis_consume(x->c, 1, 20000, say_done, NULL, NULL, NULL),
                         MEMPHIS_OK);
        while (!mp_broker_is_idle(x->w.b->core)) /* what its delivery has to log */
            assert_int_equal(memphis_step(x->w.b, NULL), MEMPHIS_OK);
        produce(x, 2, 2);
        struct mp_env *env = x->w.b->core->env;
        stopped_ns = env->boot_ns(env);
        env->boot_ns = stopped_clock; /* so fast that no time passes */
        settle(next(x->c), memphis_message_ack);
        assert_int_equal(memphis_step(x->w.b, NULL), MEMPHIS_OK);
        close_broker(x);
        open_again(x);
        expect_nothing(x->c);
        end(x);
    }
}

/* -- waiting ----------------------------------------------------------------------- */

struct fetcher {
    memphis_consumer *c;
    memphis_message *m;
    memphis_status st;
    uint32_t wait_ms, got;
    pthread_t thread;
    _Atomic bool is_done;
};

static void *fetch_one(void *ctx)
{
    struct fetcher *f = ctx;

    do /* start_fetch may be looking just now */
        f->st = memphis_fetch(f->c, &f->m, 1, f->wait_ms, &f->got, NULL);
    while (f->st == MEMPHIS_BUSY);
    f->is_done = true;
    return NULL;
}

static struct fetcher *start_fetch(struct world *x, uint32_t wait_ms)
{
    static struct fetcher f;
    uint32_t got;
    memphis_message *m;

    f = (struct fetcher){ .c = x->c, .wait_ms = wait_ms };
    pthread_create(&f.thread, NULL, fetch_one, &f);
    /* It waits when a second one hears so. */
    while (memphis_fetch(x->c, &m, 1, 0, &got, &x->err) != MEMPHIS_BUSY)
        assert_int_equal(got, 0);
    assert_int_equal(x->err.status, MEMPHIS_BUSY);
    return &f;
}

static void a_waiting_fetch_gets_what_comes(void **state)
{
    struct world *x = begin(0, 3);

    (void)state;
    x->c = join(x, "c", NULL);
    struct fetcher *f = start_fetch(x, 30000);
    produce(x, 1, 1);
    pthread_join(f->thread, NULL);
    assert_int_equal(f->st, MEMPHIS_OK);
    assert_int_equal(f->got, 1);
    settle(f->m, memphis_message_ack);
    assert_int_equal(fetch(x->c, &f->m, 1, 20), 0); /* and this one ends by itself */
    end(x);
}

static void an_interrupt_ends_a_fetch_and_loses_nothing(void **state)
{
    struct world *x = begin(0, 1);

    (void)state;
    x->c = join(x, "c", NULL);
    struct fetcher *f = start_fetch(x, UINT32_MAX);
    while (!f->is_done) { /* perhaps the call had not begun to wait */
        memphis_interrupt(x->w.b);
        usleep(200);
    }
    pthread_join(f->thread, NULL);
    assert_int_equal(f->st, MEMPHIS_CANCELED);
    produce(x, 1, 1);
    memphis_message *m = next(x->c);
    assert_int_equal(memphis_message_deliveries(m), 1);
    settle(m, memphis_message_ack);
    end(x);
}

static void a_manual_fetch_is_interrupted_while_it_waits(void **state)
{
    struct world *x = begin(1, 1);
    memphis_message *m;
    uint32_t got;

    (void)state;
    x->c = join(x, "c", NULL);
    test_interrupt_at_allocation(x->w.b, 2); /* while it waits */
    assert_int_equal(memphis_fetch(x->c, &m, 1, 30000, &got, &x->err),
                     MEMPHIS_CANCELED);
    assert_int_equal(x->err.status, MEMPHIS_CANCELED);
    produce(x, 1, 1);
    settle(next(x->c), memphis_message_ack);
    end(x);
}

static void a_close_ends_a_fetch(void **state)
{
    struct world *x = begin(0, 1);

    (void)state;
    x->c = join(x, "c", NULL);
    struct fetcher *f = start_fetch(x, UINT32_MAX);
    memphis_close(x->w.b);
    x->w.b = NULL;
    pthread_join(f->thread, NULL);
    assert_int_equal(f->st, MEMPHIS_CLOSED);
    end(x);
}

static void a_station_that_was_dropped_ends_it_too(void **state)
{
    struct world *x = begin(1, 1);
    memphis_consumer *c;
    memphis_message *m;
    uint32_t got;

    (void)state;
    x->c = join(x, "c", NULL);
    produce(x, 1, 1);
    m = next(x->c);
    assert_int_equal(memphis_station_drop(x->s, NULL), MEMPHIS_OK);
    assert_int_equal(memphis_message_ack(m), MEMPHIS_OK); /* nothing left to settle */
    memphis_message_unref(m);
    assert_int_equal(memphis_fetch(x->c, &m, 1, 0, &got, &x->err), MEMPHIS_NOT_FOUND);
    assert_int_equal(x->err.status, MEMPHIS_NOT_FOUND);
    assert_int_equal(memphis_consumer_open(x->s, "d", NULL, &c, &x->err),
                     MEMPHIS_NOT_FOUND);
    end(x);
}

static void an_interrupted_open_leaves_no_consumer_behind(void **state)
{
    (void)state;
    for (uint64_t n = 3; n < 12; n++) {
        struct world *x = begin(1, 1);
        memphis_consumer *c = NULL;
        test_interrupt_at_allocation(x->w.b, n);
        memphis_status st = memphis_consumer_open(x->s, "c", NULL, &c, &x->err);
        assert_true(st == MEMPHIS_OK || st == MEMPHIS_CANCELED);
        test_interrupt_at_allocation(NULL, 0);
        memphis_consumer_close(c);
        for (int i = 0; i < 5; i++) /* what was under way comes to its end */
            assert_int_equal(memphis_step(x->w.b, NULL), MEMPHIS_OK);
        x->c = join(x, "c", NULL);
        produce(x, 1, 1);
        settle(next(x->c), memphis_message_ack);
        end(x);
    }
}

static void an_open_that_takes_too_long_leaves_no_consumer_behind(void **state)
{
    struct world *x = begin(1, 1);
    memphis_consumer *c = NULL;
    memphis_stats stats;

    (void)state;
    x->w.b->call_wait_ms = 0; /* as if the time were over after one turn */
    assert_int_equal(memphis_consumer_open(x->s, "c", NULL, &c, &x->err),
                     MEMPHIS_TIMEOUT);
    assert_int_equal(x->err.status, MEMPHIS_TIMEOUT);
    assert_null(c);
    x->w.b->call_wait_ms = 30000;
    for (int i = 0; i < 5; i++)
        assert_int_equal(memphis_step(x->w.b, NULL), MEMPHIS_OK);
    assert_true(mp_list_is_empty(&x->w.b->consumers));
    x->c = join(x, "c", NULL);
    produce(x, 1, 1);
    settle(next(x->c), memphis_message_ack);
    memphis_stats_read(x->w.b, &stats);
    assert_int_equal(stats.sessions, 0); /* a consumer is none */
    end(x);
}

static void without_memory_the_consumer_is_as_before(void **state)
{
    struct world *x = begin(1, 1);
    memphis_consumer *c = NULL;
    memphis_message *m;
    uint32_t got;

    (void)state;
    x->c = join(x, "c", NULL);
    produce(x, 1, 1);
    for (uint64_t n = 1; n <= 2; n++) {
        test_fail_allocation(n);
        assert_int_equal(memphis_consumer_open(x->s, "d", NULL, &c, &x->err),
                         MEMPHIS_NOMEM);
    }
    test_fail_allocation(1);
    assert_int_equal(memphis_fetch(x->c, &m, 1, 0, &got, &x->err), MEMPHIS_NOMEM);
    m = next(x->c);
    test_fail_allocation(1);
    assert_int_equal(memphis_message_ack(m), MEMPHIS_NOMEM);
    settle(m, memphis_message_ack);
    end(x);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        leak_checked(a_message_tells_what_it_is),
        leak_checked(an_acknowledged_message_is_done_and_a_refused_one_comes_again),
        leak_checked(a_delayed_one_comes_after_its_delay_and_not_before),
        leak_checked(a_duration_without_end_is_one),
        leak_checked(what_is_not_settled_in_time_comes_again),
        leak_checked(members_share_the_messages_and_groups_see_all),
        leak_checked(a_group_begins_where_it_was_asked_to_and_keeps_its_place),
        leak_checked(a_member_of_one_partition_sees_only_that),
        leak_checked(options_that_make_no_sense_are_invalid),
        leak_checked(STA_10_acked_by_all_groups_a_message_is_gone),
        leak_checked(what_was_handed_to_nobody_was_not_delivered),
        leak_checked(small_fetches_take_the_partitions_in_turn),
        leak_checked(the_verdicts_of_a_handler_settle_its_messages),
        leak_checked(a_verdict_that_does_not_exist_acknowledges_nothing),
        leak_checked(consume_takes_no_more_than_it_was_asked_for),
        leak_checked(what_was_acknowledged_before_a_close_is_done),
        leak_checked(a_consumer_that_closes_has_settled_what_it_said_before),
        leak_checked(a_close_does_not_wait_for_the_delay_of_acknowledgements),
        leak_checked(a_waiting_fetch_gets_what_comes),
        leak_checked(an_interrupt_ends_a_fetch_and_loses_nothing),
        leak_checked(a_manual_fetch_is_interrupted_while_it_waits),
        leak_checked(a_close_ends_a_fetch),
        leak_checked(a_station_that_was_dropped_ends_it_too),
        leak_checked(an_interrupted_open_leaves_no_consumer_behind),
        leak_checked(an_open_that_takes_too_long_leaves_no_consumer_behind),
        leak_checked(without_memory_the_consumer_is_as_before),
    };

    return run_tests("api/api_consumer", tests);
}
