#include "support/broker.h"

#include "api/api.h"

#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

/* A station with a producer and a consumer, and a message that was fetched. A session
 * costs a hash of root's password, so not all tests have one. */
struct handles {
    memphis_station *s;
    memphis_producer *p;
    memphis_consumer *c;
    memphis_message *m;
    memphis_session *session;
};

static void no_output(void *ctx, const memphis_slice *v, size_t n)
{
    (void)ctx, (void)v, (void)n;
}

static void no_close(void *ctx, const char *why)
{
    (void)ctx, (void)why;
}

static void open_all(struct test_world *w, struct handles *h)
{
    uint32_t got = 0;

    *h = (struct handles){ .s = NULL };
    assert_int_equal(memphis_station_create(w->b, "s", NULL, &h->s, NULL), MEMPHIS_OK);
    assert_int_equal(memphis_producer_open(h->s, "p", &h->p, NULL), MEMPHIS_OK);
    assert_int_equal(memphis_consumer_open(h->s, "c", NULL, &h->c, NULL), MEMPHIS_OK);
    assert_int_equal(memphis_produce(h->p, "hi", 2, NULL, NULL, NULL), MEMPHIS_OK);
    assert_int_equal(memphis_fetch(h->c, &h->m, 1, 5000, &got, NULL), MEMPHIS_OK);
    assert_int_equal(got, 1);
}

static void open_session(struct test_world *w, struct handles *h)
{
    memphis_pipe pipe = { .write = no_output, .close = no_close };

    assert_int_equal(memphis_session_new(w->b, &pipe, NULL, &h->session, NULL),
                     MEMPHIS_OK);
}

static void close_one(struct handles *h, int which)
{
    if (which == 0)
        memphis_station_close(h->s);
    else if (which == 1)
        memphis_producer_close(h->p);
    else if (which == 2)
        memphis_consumer_close(h->c);
    else
        memphis_session_free(h->session);
}

static void close_all(struct handles *h)
{
    memphis_message_unref(h->m);
    for (int i = 0; i < 4; i++)
        close_one(h, i);
}

/* What every call of a broker that cannot be used says. */
static void expect_refused(struct test_world *w, struct handles *h, memphis_status st)
{
    memphis_pipe pipe = { .write = no_output, .close = no_close };
    memphis_error err = { 0 };
    memphis_station *s;
    memphis_producer *p;
    memphis_consumer *c;
    memphis_session *session;
    memphis_message *m;
    uint32_t got;

    if (w->b != NULL) {
        assert_int_equal(memphis_station_create(w->b, "x", NULL, &s, &err), st);
        assert_int_equal(err.status, st);
        assert_true(err.message[0] != 0);
        assert_int_equal(memphis_station_open(w->b, "s", &s, NULL), st);
        assert_int_equal(memphis_session_new(w->b, &pipe, NULL, &session, NULL), st);
        assert_int_equal(memphis_step(w->b, NULL),
                         w->options.mode == MEMPHIS_MANUAL ? st : MEMPHIS_MISUSE);
    }
    err = (memphis_error){ 0 };
    assert_int_equal(memphis_produce_async(h->p, "x", 1, NULL, NULL, NULL, &err), st);
    assert_int_equal(err.status, st);
    assert_int_equal(memphis_produce(h->p, "x", 1, NULL, NULL, &err), st);
    assert_int_equal(memphis_producer_open(h->s, "x", &p, &err), st);
    assert_int_equal(memphis_consumer_open(h->s, "x", NULL, &c, &err), st);
    assert_int_equal(memphis_fetch(h->c, &m, 1, 10000, &got, &err), st);
    assert_int_equal(memphis_station_drop(h->s, &err), st);
    assert_int_equal(memphis_message_ack(h->m), st);
    assert_int_equal(memphis_message_nack(h->m, 5), st);
    assert_int_equal(memphis_session_feed(h->session, "PING\r\n", 6), st);
}

/* -- open -------------------------------------------------------------------------- */

static void each_mode_stores_closes_and_recovers(void **state)
{
    (void)state;
    for (int mode = 0; mode < TEST_MODES; mode++) {
        for (int on_disk = 0; on_disk < 2; on_disk++) {
            struct test_world w;
            struct handles h;
            test_world_init(&w, mode, on_disk);
            assert_int_equal(test_world_open(&w), MEMPHIS_OK);
            assert_string_equal(memphis_recovery_text(w.b), "new store");
            open_all(&w, &h);
            close_all(&h);
            memphis_close(w.b);
            assert_int_equal(test_world_open(&w), MEMPHIS_OK);
            const char *found = memphis_recovery_text(w.b);
            assert_non_null(strstr(found, on_disk ? "recovered 1 message in" : "new"));
            memphis_status st = memphis_station_open(w.b, "s", &h.s, NULL);
            assert_int_equal(st, on_disk ? MEMPHIS_OK : MEMPHIS_NOT_FOUND);
            if (st == MEMPHIS_OK)
                memphis_station_close(h.s);
            assert_int_equal(w.fatal, 0);
            test_world_end(&w);
        }
    }
}

static void options_that_make_no_sense_are_invalid(void **state)
{
    static char long_password[74];
    struct test_world w;
    memphis_options *o = &w.options;

    (void)state;
    memset(long_password, 'x', 73);
    for (int i = 0; i < 17; i++) {
        test_world_init(&w, 0, false);
        if (i < 2)
            o->reserved[i] = 1;
        o->reserved0 = i == 2;
        o->gc_producer_consumer_retention_hours = i == 16 ? 169 : 168;
        o->connection_token = i == 4 ? long_password : NULL;
        o->dls_retention_hours = i == 3 || i == 5 ? 31 : 0;
        o->mode = i == 6 ? 2 : o->mode;
        o->sync = i == 7 ? 3 : 0;
        o->profile = i == 8 ? 2 : 0;
        o->recovery = i == 9 ? 3 : 0;
        o->memory_max = i == 10 ? (4 << 20) - 1 : 4 << 20;
        o->root_password = i == 11 ? "" : i == 12 ? long_password : "x";
        o->max_payload = i == 13 ? (8 << 20) + 1 : 8 << 20;
        o->data_dir = i == 14 ? "" : NULL;
        memphis_status st =
            i == 15 ? memphis_open(o, NULL, &w.err) : memphis_open(o, &w.b, &w.err);
        assert_int_equal(st, MEMPHIS_INVALID);
        assert_int_equal(w.err.status, MEMPHIS_INVALID);
        assert_true(w.err.message[0] != 0);
        assert_null(w.b);
        test_world_end(&w);
    }
}

/* How rows end is tested with virtual time: test_connection.c. */
static void CSM_25_the_retention_of_rows_is_an_option_and_counted(void **state)
{
    const uint64_t hour = 3600ull * 1000000000;
    memphis_stats st;
    struct test_world w;

    (void)state;
    for (uint32_t hours = 0; hours <= 168; hours += 168) {
        test_world_init(&w, 1, false);
        w.options.gc_producer_consumer_retention_hours = hours;
        assert_int_equal(test_world_open(&w), MEMPHIS_OK);
        assert_int_equal(w.b->core->idle.keep_ns, (hours > 0 ? hours : 3) * hour);
        w.b->core->counters.idle_removed = 7;
        assert_int_equal(memphis_step(w.b, NULL), MEMPHIS_OK);
        memphis_stats_read(w.b, &st);
        assert_int_equal(st.idle_removed, 7);
        test_world_end(&w);
    }
}

static void the_defaults_need_no_options(void **state)
{
    memphis_broker *b;

    (void)state;
    assert_int_equal(memphis_open(NULL, &b, NULL), MEMPHIS_OK);
    memphis_close(b);
    memphis_close(NULL);
    memphis_interrupt(NULL);
}

static void damage(const struct test_world *w, const char *name, long at, int with)
{
    char path[128];

    snprintf(path, sizeof path, "%s/%s", w->dir, name);
    FILE *f = fopen(path, "r+");
    f = f != NULL ? f : fopen(path, "w");
    assert_non_null(f);
    assert_int_equal(fseek(f, at, SEEK_SET), 0);
    for (int i = 0; i < 8192; i++)
        fputc(with, f);
    fclose(f);
}

static void what_is_not_there_yet_is_not_promised(void **state)
{
    struct test_world w;

    (void)state;
    test_world_init(&w, 1, true);
    w.options.disk_max = 1 << 30;
    assert_int_equal(test_world_open(&w), MEMPHIS_UNSUPPORTED);
    assert_non_null(strstr(w.err.message, "disk_max"));
    test_world_end(&w);
}

/* What is stored can be read and settled all the same. */
static void
a_disk_with_no_more_than_its_reserve_opens_and_takes_no_messages(void **state)
{
    struct test_world w;
    struct handles h;
    uint32_t got = 0;

    (void)state;
    test_world_init(&w, 1, true);
    assert_int_equal(test_world_open(&w), MEMPHIS_OK);
    open_all(&w, &h);
    close_all(&h);
    memphis_close(w.b);
    w.options.disk_reserve = UINT64_MAX / 2;
    for (int round = 0; round < 3; round++) {
        h = (struct handles){ .s = NULL };
        assert_int_equal(test_world_open(&w), MEMPHIS_OK);
        assert_int_equal(memphis_station_open(w.b, "s", &h.s, NULL), MEMPHIS_OK);
        assert_int_equal(memphis_producer_open(h.s, "p", &h.p, NULL), MEMPHIS_OK);
        assert_int_equal(memphis_step(w.b, NULL), MEMPHIS_OK); /* it looks for room */
        assert_int_equal(memphis_produce(h.p, "no", 2, NULL, NULL, NULL),
                         MEMPHIS_NO_SPACE);
        assert_int_equal(memphis_consumer_open(h.s, "c", NULL, &h.c, NULL), MEMPHIS_OK);
        assert_int_equal(memphis_fetch(h.c, &h.m, 1, 100, &got, NULL), MEMPHIS_OK);
        assert_int_equal(got, 1);
        assert_int_equal(memphis_message_nack(h.m, 0), MEMPHIS_OK); /* again, please */
        close_all(&h);
        memphis_close(w.b);
    }
    w.b = NULL;
    test_world_end(&w);
}

static void a_directory_that_cannot_be_used_says_why(void **state)
{
    struct test_world w;
    char below[96];

    (void)state;
    test_world_init(&w, 1, true);
    snprintf(below, sizeof below, "%s/a/b", w.dir);
    w.options.data_dir = below;
    assert_int_equal(test_world_open(&w), MEMPHIS_NOT_FOUND);
    w.options.data_dir = w.dir;
    assert_int_equal(test_world_open(&w), MEMPHIS_OK);
    memphis_close(w.b);
    damage(&w, "node", 0, 0);
    assert_int_equal(test_world_open(&w), MEMPHIS_CORRUPT);
    assert_int_equal(w.err.status, MEMPHIS_CORRUPT);
    test_world_end(&w);

    test_world_init(&w, 1, true);
    damage(&w, "letters.txt", 0, 'x');
    assert_int_equal(test_world_open(&w), MEMPHIS_INVALID);
    assert_non_null(strstr(w.err.message, "letters.txt"));
    w.b = NULL;
    test_world_end(&w);
}

static void a_directory_is_open_once_in_a_process(void **state)
{
    (void)state;
    for (int mode = 0; mode < TEST_MODES; mode++) {
        struct test_world w;
        memphis_broker *second = NULL;
        test_world_init(&w, mode, true);
        assert_int_equal(test_world_open(&w), MEMPHIS_OK);
        assert_int_equal(memphis_open(&w.options, &second, &w.err), MEMPHIS_BUSY);
        assert_non_null(strstr(w.err.message, w.dir));
        assert_null(second);
        memphis_close(w.b);
        assert_int_equal(test_world_open(&w), MEMPHIS_OK);
        test_world_end(&w);
    }
}

static void two_brokers_live_side_by_side(void **state)
{
    (void)state;
    for (int mode = 0; mode < TEST_MODES; mode++) {
        struct test_world w[2];
        struct handles h[2];
        memphis_stats stats;
        for (int i = 0; i < 2; i++) {
            test_world_init(&w[i], mode, true);
            assert_int_equal(test_world_open(&w[i]), MEMPHIS_OK);
            open_all(&w[i], &h[i]);
        }
        assert_int_equal(memphis_produce(h[0].p, "x", 1, NULL, NULL, NULL), MEMPHIS_OK);
        memphis_stats_read(w[0].b, &stats);
        assert_int_equal(stats.stored, 2);
        memphis_stats_read(w[1].b, &stats);
        assert_int_equal(stats.stored, 1);
        assert_int_equal(stats.stations, 1);
        assert_true(stats.memory_bytes > 0);
        close_all(&h[0]);
        memphis_close(w[0].b);
        w[0].b = NULL;
        assert_int_equal(memphis_produce(h[1].p, "x", 1, NULL, NULL, NULL), MEMPHIS_OK);
        close_all(&h[1]);
        memphis_close(w[1].b);
        w[1].b = NULL;
        test_world_end(&w[0]);
        test_world_end(&w[1]);
    }
}

static void the_first_call_wakes_a_core_that_fell_asleep_at_once(void **state)
{
    (void)state;
    for (int round = 0; round < 300; round++) {
        struct test_world w;
        memphis_station *s;
        test_world_init(&w, 0, false);
        assert_int_equal(test_world_open(&w), MEMPHIS_OK);
        if (round % 2)
            sched_yield();
        assert_int_equal(memphis_station_create(w.b, "s", NULL, &s, NULL), MEMPHIS_OK);
        memphis_station_close(s);
        test_world_end(&w);
    }
}

/* -- turns ------------------------------------------------------------------------- */

static void *step_elsewhere(void *ctx)
{
    memphis_broker *b = ctx;
    memphis_station *s;
    memphis_status *st = calloc(2, sizeof *st);

    st[0] = memphis_step(b, NULL);
    st[1] = memphis_station_create(b, "x", NULL, &s, NULL);
    return st;
}

static void a_manual_broker_belongs_to_its_first_thread(void **state)
{
    struct test_world w;
    pthread_t thread;
    memphis_status *st;
    uint64_t next = 7;

    (void)state;
    test_world_init(&w, 1, false);
    assert_int_equal(test_world_open(&w), MEMPHIS_OK);
    assert_int_equal(memphis_step(w.b, &next), MEMPHIS_OK);
    assert_true(next != 7);
    assert_int_equal(memphis_step(w.b, NULL), MEMPHIS_OK);
    pthread_create(&thread, NULL, step_elsewhere, w.b);
    pthread_join(thread, (void **)&st);
    assert_int_equal(st[0], MEMPHIS_MISUSE);
    assert_int_equal(st[1], MEMPHIS_MISUSE);
    free(st);
    assert_int_equal(memphis_step(NULL, NULL), MEMPHIS_MISUSE);
    test_world_end(&w);
}

static void *close_elsewhere(void *ctx)
{
    struct handles *h = ctx;

    memphis_consumer_close(h->c);
    memphis_session_free(h->session);
    memphis_producer_close(h->p);
    h->p = NULL;
    return NULL;
}

static void a_handle_given_back_on_the_wrong_thread_stays_as_it_was(void **state)
{
    (void)state;
    for (int mode = 1; mode < TEST_MODES; mode++) {
        struct test_world w;
        struct handles h;
        memphis_message *m;
        pthread_t thread;
        uint32_t got;
        test_world_init(&w, mode, false);
        assert_int_equal(test_world_open(&w), MEMPHIS_OK);
        open_all(&w, &h);
        open_session(&w, &h);
        pthread_create(&thread, NULL, close_elsewhere, &h);
        pthread_join(thread, NULL);
        assert_int_equal(memphis_step(w.b, NULL), MEMPHIS_OK);
        assert_int_equal(memphis_session_feed(h.session, "PING\r\n", 6), MEMPHIS_OK);
        assert_int_equal(memphis_fetch(h.c, &m, 1, 0, &got, NULL), MEMPHIS_OK);
        close_all(&h);
        test_world_end(&w);
    }
}

static void a_threaded_broker_is_not_stepped(void **state)
{
    struct test_world w;

    (void)state;
    test_world_init(&w, 0, false);
    assert_int_equal(test_world_open(&w), MEMPHIS_OK);
    assert_int_equal(memphis_step(w.b, NULL), MEMPHIS_MISUSE);
    assert_int_equal(memphis_wakeup_fd(w.b), -1);
    assert_int_equal(memphis_wakeup_fd(NULL), -1);
    test_world_end(&w);
}

static void count_outcome(void *ctx, const memphis_receipt *r, const memphis_error *e)
{
    (void)r;
    *(int *)ctx += e == NULL ? 1 : 100;
}

static void the_descriptor_tells_a_loop_when_to_step(void **state)
{
    struct test_world w;
    struct handles h;
    int stored = 0;

    (void)state;
    test_world_init(&w, 2, true);
    assert_int_equal(test_world_open(&w), MEMPHIS_OK);
    open_all(&w, &h);
    struct pollfd p = { .fd = memphis_wakeup_fd(w.b), .events = POLLIN };
    assert_int_equal(
        memphis_produce_async(h.p, "x", 1, NULL, count_outcome, &stored, NULL),
        MEMPHIS_OK);
    for (int i = 0; stored == 0 && i < 1000; i++) {
        uint64_t next;
        assert_int_equal(memphis_step(w.b, &next), MEMPHIS_OK);
        if (next > 0) /* the worker's mail is what wakes it */
            assert_int_equal(poll(&p, 1, next > 10000 ? 10000 : (int)next) >= 0, 1);
        memphis_producer_flush(h.p, 0);
    }
    assert_int_equal(stored, 1);
    close_all(&h);
    test_world_end(&w);
}

/* What a loop does that has nothing to do: true when it is woken. */
static bool is_woken(struct test_world *w)
{
    struct pollfd p = { .fd = memphis_wakeup_fd(w->b), .events = POLLIN };

    return poll(&p, 1, 0) == 1;
}

/* Steps until the loop would sleep. */
static uint64_t step_to_sleep(struct test_world *w)
{
    uint64_t next = 0;

    do
        assert_int_equal(memphis_step(w->b, &next), MEMPHIS_OK);
    while (next == 0 || is_woken(w) || !mp_broker_is_idle(w->b->core));
    return next;
}

static void the_descriptor_tells_of_work_that_another_call_brought(void **state)
{
    (void)state;
    for (int mode = 1; mode < TEST_MODES; mode++) {
        struct test_world w;
        struct handles h;
        memphis_consumer_options o = { .ack_wait_ms = 50 };
        uint32_t got = 0;
        test_world_init(&w, mode, false);
        assert_int_equal(test_world_open(&w), MEMPHIS_OK);
        open_all(&w, &h);
        assert_int_equal(memphis_message_ack(h.m), MEMPHIS_OK);
        memphis_message_unref(h.m);
        h.m = NULL;
        memphis_consumer_close(h.c);
        assert_int_equal(memphis_consumer_open(h.s, "d", &o, &h.c, NULL), MEMPHIS_OK);
        (void)step_to_sleep(&w);
        open_session(&w, &h); /* its INFO wants to go out */
        assert_true(is_woken(&w));
        (void)step_to_sleep(&w);
        assert_int_equal(memphis_session_feed(h.session, "PING\r\n", 6), MEMPHIS_OK);
        assert_true(is_woken(&w));
        assert_true(step_to_sleep(&w) > 50);
        assert_int_equal(memphis_fetch(h.c, &h.m, 1, 5000, &got, NULL), MEMPHIS_OK);
        assert_true(is_woken(&w)); /* its ack wait runs */
        assert_true(step_to_sleep(&w) <= 50);
        memphis_message_unref(h.m);
        h.m = NULL;
        for (int i = 0; i < 3; i++) { /* a loop that looks each time does not spin */
            assert_int_equal(memphis_fetch(h.c, &h.m, 1, 0, &got, NULL), MEMPHIS_OK);
            if (got > 0) {
                memphis_message_unref(h.m);
                h.m = NULL;
                i = -1;
            } else if (i > 0) {
                assert_false(is_woken(&w));
            }
            (void)step_to_sleep(&w);
        }
        close_all(&h);
        assert_true(is_woken(&w));
        test_world_end(&w);
    }
}

/* -- close ------------------------------------------------------------------------- */

static void handles_may_be_closed_in_any_order(void **state)
{
    (void)state;
    for (int order = 0; order < 120 * TEST_MODES; order++) {
        int left[5] = { 0, 1, 2, 3, 4 }, rest = order % 120;
        struct test_world w;
        struct handles h;
        test_world_init(&w, order / 120, false);
        assert_int_equal(test_world_open(&w), MEMPHIS_OK);
        open_all(&w, &h);
        memphis_message_unref(h.m);
        if (order % 12 == 0)
            open_session(&w, &h);
        for (int n = 5; n > 0; n--) { /* the permutation of that number */
            int at = rest % n;
            rest /= n;
            if (left[at] < 4)
                close_one(&h, left[at]);
            else
                memphis_close(w.b);
            left[at] = left[n - 1];
        }
        w.b = NULL;
        test_world_end(&w);
    }
}

static void after_the_close_every_call_says_closed(void **state)
{
    (void)state;
    for (int mode = 0; mode < TEST_MODES; mode++) {
        struct test_world w;
        struct handles h;
        int outcomes = 0;
        test_world_init(&w, mode, true);
        assert_int_equal(test_world_open(&w), MEMPHIS_OK);
        open_all(&w, &h);
        open_session(&w, &h);
        memphis_produce_async(h.p, "x", 1, NULL, count_outcome, &outcomes, NULL);
        memphis_close(w.b);
        w.b = NULL;
        (void)memphis_producer_flush(h.p, 1000);
        assert_true(outcomes == 1 || outcomes == 100); /* it was accepted before */
        expect_refused(&w, &h, MEMPHIS_CLOSED);
        for (int i = 0; i < 4; i++)
            close_one(&h, i);
        test_world_end_broken(&w); /* with the message, which pins its consumer */
    }
}

static memphis_status (*real_sync)(struct mp_env *, struct mp_file *, memphis_error *);

static memphis_status slow_sync(struct mp_env *e, struct mp_file *f, memphis_error *err)
{
    usleep(100000);
    return real_sync(e, f, err);
}

static void a_close_waits_for_a_slow_disk(void **state)
{
    struct test_world w;
    struct handles h;
    memphis_station *s;
    int stored = 0;

    (void)state;
    test_world_init(&w, 2, true);
    assert_int_equal(test_world_open(&w), MEMPHIS_OK);
    open_all(&w, &h);
    while (!mp_broker_is_idle(w.b->core))
        assert_int_equal(memphis_step(w.b, NULL), MEMPHIS_OK);
    real_sync = w.b->core->env->file_sync;
    w.b->core->env->file_sync = slow_sync;
    w.b->call_wait_ms = 0;
    memphis_produce_async(h.p, "x", 1, NULL, count_outcome, &stored, NULL);
    assert_int_equal(memphis_station_create(w.b, "late", NULL, &s, NULL),
                     MEMPHIS_TIMEOUT); /* its partitions are not open yet */
    memphis_message_unref(h.m);
    memphis_close(w.b);
    assert_int_equal(memphis_producer_flush(h.p, 0), MEMPHIS_OK);
    assert_int_equal(stored, 1);
    for (int i = 0; i < 4; i++)
        close_one(&h, i);
    assert_int_equal(test_world_open(&w), MEMPHIS_OK);
    assert_int_equal(memphis_station_open(w.b, "late", &s, NULL), MEMPHIS_OK);
    memphis_station_close(s);
    test_world_end(&w);
}

struct racer {
    memphis_station *s;
    memphis_status last;
    pthread_t thread;
};

static void *produce_until_refused(void *ctx)
{
    struct racer *r = ctx;
    memphis_producer *p = NULL;

    r->last = memphis_producer_open(r->s, "racer", &p, NULL);
    while (r->last == MEMPHIS_OK)
        r->last = memphis_produce(p, "x", 1, NULL, NULL, NULL);
    memphis_producer_close(p);
    return NULL;
}

static void a_close_under_calls_of_other_threads_refuses_the_rest(void **state)
{
    (void)state;
    for (int round = 0; round < 20; round++) {
        struct racer racers[3];
        struct test_world w;
        memphis_stats stats = { .stored = 0 };
        test_world_init(&w, 0, false);
        assert_int_equal(test_world_open(&w), MEMPHIS_OK);
        for (int i = 0; i < 3; i++) {
            assert_int_equal(memphis_station_create(w.b, "s", NULL, &racers[i].s, NULL),
                             MEMPHIS_OK);
            pthread_create(&racers[i].thread, NULL, produce_until_refused, &racers[i]);
        }
        while (stats.stored < 20)
            memphis_stats_read(w.b, &stats);
        memphis_close(w.b);
        w.b = NULL;
        for (int i = 0; i < 3; i++) {
            pthread_join(racers[i].thread, NULL);
            assert_int_equal(racers[i].last, MEMPHIS_CLOSED);
            memphis_station_close(racers[i].s);
        }
        test_world_end(&w);
    }
}

/* -- fork -------------------------------------------------------------------------- */

static int32_t keep(void *ctx, memphis_message *m)
{
    (void)ctx, (void)m;
    return MEMPHIS_KEEP;
}

/* In the child; cmocka's assertions would go on with the parent's tests. */
static int child_status(struct test_world *w, struct handles *h)
{
    memphis_pipe pipe = { .write = no_output, .close = no_close };
    struct pollfd fd = { .fd = w->b->wake_fd, .events = POLLIN };
    memphis_session *session;
    memphis_producer *p;
    memphis_consumer *c;
    memphis_stats stats;
    memphis_station *s;
    memphis_message *m;
    uint32_t got;
    int wrong = 0;

    alarm(10); /* a lock that nobody will ever give back */
    wrong |= memphis_station_open(w->b, "s", &s, NULL) != MEMPHIS_MISUSE;
    wrong |= memphis_station_create(w->b, "t", NULL, &s, NULL) != MEMPHIS_MISUSE;
    wrong |= memphis_station_drop(h->s, NULL) != MEMPHIS_MISUSE;
    wrong |= memphis_producer_open(h->s, "q", &p, NULL) != MEMPHIS_MISUSE;
    wrong |= memphis_consumer_open(h->s, "d", NULL, &c, NULL) != MEMPHIS_MISUSE;
    wrong |= memphis_session_new(w->b, &pipe, NULL, &session, NULL) != MEMPHIS_MISUSE;
    wrong |= (memphis_step(w->b, NULL) != MEMPHIS_MISUSE) << 1;
    wrong |= (memphis_produce(h->p, "x", 1, NULL, NULL, NULL) != MEMPHIS_MISUSE) << 2;
    wrong |=
        (memphis_produce_async(h->p, "x", 1, NULL, NULL, NULL, NULL) != MEMPHIS_MISUSE)
        << 3;
    wrong |= (memphis_producer_flush(h->p, 0) != MEMPHIS_MISUSE) << 4;
    wrong |= (memphis_fetch(h->c, &m, 1, 0, &got, NULL) != MEMPHIS_MISUSE) << 5;
    wrong |= (memphis_consume(h->c, 1, 0, keep, NULL, &got, NULL) != MEMPHIS_MISUSE)
             << 5;
    wrong |= (memphis_message_ack(h->m) != MEMPHIS_MISUSE) << 6;
    wrong |= (memphis_session_feed(h->session, "x", 1) != MEMPHIS_MISUSE) << 6;
    memphis_session_drained(h->session, 1);
    memphis_interrupt(w->b);
    memphis_stats_read(w->b, &stats);
    wrong |= (stats.stored != 0) << 7;
    close_all(h);
    memphis_close(w->b);
    if (w->options.mode == MEMPHIS_MANUAL && w->options.workers == 0)
        wrong |= (poll(&fd, 1, 0) != 0) << 7; /* nobody has woken the parent */
    return wrong;
}

static void check_forked_child(bool kernel_wipes)
{
    for (int mode = 0; mode < TEST_MODES; mode++) {
        struct test_world w;
        struct handles h;
        uint64_t next;
        int status = 1;
        test_world_init(&w, mode, true);
        assert_int_equal(test_world_open(&w), MEMPHIS_OK);
        assert_non_null(w.b->alive);
        volatile uint8_t *page = w.b->alive;
        if (!kernel_wipes)
            w.b->alive = NULL;
        open_all(&w, &h);
        open_session(&w, &h);
        while (mode > 0 && memphis_step(w.b, &next) == MEMPHIS_OK && next == 0)
            ;
        pthread_mutex_lock(&w.b->lock); /* as a thread of the parent may hold it */
        test_hold_allocator(true);
        pid_t child = fork();
        if (child == 0)
            _exit(child_status(&w, &h));
        test_hold_allocator(false);
        pthread_mutex_unlock(&w.b->lock);
        assert_int_equal(waitpid(child, &status, 0), child);
        assert_true(WIFEXITED(status));
        assert_int_equal(WEXITSTATUS(status), 0);
        /* Nor is the directory unlocked. */
        memphis_broker *second;
        assert_int_equal(memphis_open(&w.options, &second, NULL), MEMPHIS_BUSY);
        assert_int_equal(memphis_produce(h.p, "x", 1, NULL, NULL, NULL), MEMPHIS_OK);
        w.b->alive = page;
        close_all(&h);
        test_world_end(&w);
    }
}

static void a_forked_child_is_refused_and_touches_nothing(void **state)
{
    (void)state;
    check_forked_child(true);
}

static void a_forked_child_is_refused_on_a_kernel_that_does_not_wipe(void **state)
{
    (void)state;
    check_forked_child(false);
}

/* -- broken ------------------------------------------------------------------------ */

static void a_failed_write_or_sync_breaks_it_once_and_for_all(void **state)
{
    (void)state;
    for (int i = 0; i < 2 * TEST_MODES; i++) {
        struct test_world w;
        struct handles h;
        memphis_error err = { 0 };
        test_world_init(&w, i / 2, true);
        assert_int_equal(test_world_open(&w), MEMPHIS_OK);
        open_all(&w, &h);
        open_session(&w, &h);
        test_break_wal(&w, i % 2);
        assert_int_equal(memphis_produce(h.p, "lost", 4, NULL, NULL, &err),
                         MEMPHIS_BROKEN);
        assert_non_null(strstr(err.message, "the broker has stopped"));
        expect_refused(&w, &h, MEMPHIS_BROKEN);
        assert_int_equal(memphis_producer_flush(h.p, 0), MEMPHIS_OK);

        /* The process lives, and so does what was acknowledged. */
        memphis_close(w.b);
        assert_int_equal(w.fatal, 1);
        assert_int_equal(w.fatal_status, MEMPHIS_IO);
        struct handles again = { .s = NULL };
        assert_int_equal(test_world_open(&w), MEMPHIS_OK);
        assert_int_equal(memphis_station_open(w.b, "s", &again.s, NULL), MEMPHIS_OK);
        assert_non_null(strstr(memphis_recovery_text(w.b), "recovered 1 message in"));
        close_all(&again);
        for (int k = 0; k < 4; k++)
            close_one(&h, k);
        test_world_end_broken(&w);
    }
}

/* What a failed call of the scenario may say; of TIMEOUT the outcome is unknown. */
static bool is_no_memory(memphis_status st)
{
    return st == MEMPHIS_NOMEM || st == MEMPHIS_BROKEN || st == MEMPHIS_TIMEOUT;
}

/* Opens, stores, fetches. *stored: it was acknowledged. */
static memphis_status scenario(struct test_world *w, struct handles *h, bool *stored)
{
    memphis_status st = test_world_open(w);
    uint32_t got = 0;

    *h = (struct handles){ .s = NULL };
    if (st == MEMPHIS_OK)
        st = memphis_station_create(w->b, "s", NULL, &h->s, NULL);
    if (st == MEMPHIS_OK)
        st = memphis_producer_open(h->s, "p", &h->p, NULL);
    if (st == MEMPHIS_OK)
        st = memphis_consumer_open(h->s, "c", NULL, &h->c, NULL);
    if (st == MEMPHIS_OK) {
        st = memphis_produce(h->p, "hi", 2, NULL, NULL, NULL);
        *stored = st == MEMPHIS_OK;
    }
    if (st == MEMPHIS_OK)
        st = memphis_fetch(h->c, &h->m, 1, 200, &got, NULL);
    if (st == MEMPHIS_OK && got == 1)
        st = memphis_message_ack(h->m);
    if (st != MEMPHIS_OK && !is_no_memory(st))
        fail_msg("%s", memphis_status_name(st));
    if (st == MEMPHIS_BROKEN)
        assert_int_equal(
            memphis_station_open(w->b, "s", &(memphis_station *){ NULL }, NULL),
            MEMPHIS_BROKEN);
    return st;
}

static void whichever_allocation_fails_the_directory_can_be_opened_again(void **state)
{
    (void)state;
    for (int mode = 0; mode < TEST_MODES; mode++) {
        uint64_t step = mode == 1 ? 29 : 151; /* what breaks leaks its descriptors */
        bool failed = true;
        for (uint64_t n = 1; failed; n += step) {
            struct test_world w;
            struct handles h;
            bool stored = false;
            test_world_init(&w, mode, true);
            test_fail_allocation(n);
            w.options.call_wait_ms = 200;
            memphis_status st = scenario(&w, &h, &stored);
            memphis_message_unref(h.m);
            for (int i = 0; i < 3; i++)
                close_one(&h, i);
            memphis_close(w.b);
            w.b = NULL;
            failed = test_allocation_failed();
            test_fail_allocation(0);
            if (st == MEMPHIS_BROKEN)
                assert_int_equal(w.fatal_status, MEMPHIS_NOMEM);
            assert_true(w.fatal <= 1 && (w.fatal == 1 || st != MEMPHIS_BROKEN));

            assert_int_equal(test_world_open(&w), MEMPHIS_OK);
            if (stored)
                assert_non_null(strstr(memphis_recovery_text(w.b), " 1 message "));
            test_world_end_broken(&w);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        leak_checked(each_mode_stores_closes_and_recovers),
        leak_checked(options_that_make_no_sense_are_invalid),
        leak_checked(CSM_25_the_retention_of_rows_is_an_option_and_counted),
        leak_checked(the_defaults_need_no_options),
        leak_checked(what_is_not_there_yet_is_not_promised),
        leak_checked(a_disk_with_no_more_than_its_reserve_opens_and_takes_no_messages),
        leak_checked(a_directory_that_cannot_be_used_says_why),
        leak_checked(a_directory_is_open_once_in_a_process),
        leak_checked(two_brokers_live_side_by_side),
        leak_checked(the_first_call_wakes_a_core_that_fell_asleep_at_once),
        leak_checked(a_manual_broker_belongs_to_its_first_thread),
        leak_checked(a_handle_given_back_on_the_wrong_thread_stays_as_it_was),
        leak_checked(a_threaded_broker_is_not_stepped),
        leak_checked(the_descriptor_tells_a_loop_when_to_step),
        leak_checked(the_descriptor_tells_of_work_that_another_call_brought),
        leak_checked(handles_may_be_closed_in_any_order),
        leak_checked(after_the_close_every_call_says_closed),
        leak_checked(a_close_waits_for_a_slow_disk),
        leak_checked(a_close_under_calls_of_other_threads_refuses_the_rest),
        leak_checked(a_forked_child_is_refused_and_touches_nothing),
        leak_checked(a_forked_child_is_refused_on_a_kernel_that_does_not_wipe),
        leak_checked(a_failed_write_or_sync_breaks_it_once_and_for_all),
        leak_checked(whichever_allocation_fails_the_directory_can_be_opened_again),
    };

    return run_tests("api/api_broker", tests);
}
