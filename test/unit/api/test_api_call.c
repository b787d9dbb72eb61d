#include "support/broker.h"

#include "api/api.h"

#include <pthread.h>
#include <unistd.h>

/* A call that the core ends when the test says so. */
struct slow_call {
    struct api_call call; /* first */
    memphis_status status;
    const char *text;
    bool ends_at_once;
};

static struct slow_call *held; /* ran, and is not finished yet */
static int ran, ended;

static void run_slow(struct api_call *call)
{
    struct slow_call *c = (struct slow_call *)(void *)call;

    ran++;
    if (c->ends_at_once)
        api_finish(call, c->status, c->text);
    else
        held = c;
}

static void fini_slow(struct api_call *call)
{
    (void)call;
    ended++;
}

static struct slow_call *make(memphis_broker *b, bool ends_at_once)
{
    struct slow_call *c = api_call_new(b, sizeof *c, run_slow);

    assert_non_null(c);
    c->call.fini = fini_slow;
    c->ends_at_once = ends_at_once;
    return c;
}

static void begin(struct test_world *w, int mode)
{
    held = NULL;
    ran = ended = 0;
    test_world_init(w, mode, false);
    assert_int_equal(test_world_open(w), MEMPHIS_OK);
}

/* On the core: ends what is held there. */
static void run_end_held(struct api_call *call)
{
    if (held != NULL)
        api_finish(&held->call, held->status, held->text);
    held = NULL;
    api_finish(call, MEMPHIS_OK, "");
}

static void end_held(memphis_broker *b)
{
    struct api_call *c = api_call_new(b, sizeof *c, run_end_held);

    assert_int_equal(api_run(c, UINT32_MAX, NULL), MEMPHIS_OK);
    api_call_unref(c);
}

/* -- outcomes ---------------------------------------------------------------------- */

static void a_call_returns_what_the_core_made_of_it(void **state)
{
    static const struct {
        memphis_status status;
        const char *text, *shown;
    } cases[] = { { MEMPHIS_OK, "", NULL },
                  { MEMPHIS_NOT_FOUND, "no such horse", "no such horse" },
                  { MEMPHIS_FULL, "", "limit reached" },
                  { MEMPHIS_FULL, NULL, "limit reached" } };

    (void)state;
    for (int mode = 0; mode < TEST_MODES; mode++) {
        struct test_world w;
        begin(&w, mode);
        for (size_t i = 0; i < 4; i++) {
            struct slow_call *c = make(w.b, true);
            memphis_error err = { 0 };
            c->status = cases[i].status;
            c->text = cases[i].text;
            assert_int_equal(api_run(&c->call, 1000, &err), cases[i].status);
            assert_int_equal(err.status, cases[i].status);
            if (cases[i].shown != NULL)
                assert_non_null(strstr(err.message, cases[i].shown));
            else
                assert_int_equal(err.message[0], 0); /* untouched */
            api_call_unref(&c->call);
        }
        assert_int_equal(ran, 4);
        assert_int_equal(ended, 4);
        test_world_end(&w);
    }
}

static void a_caller_whose_deadline_passes_leaves_and_the_core_goes_on(void **state)
{
    (void)state;
    for (int mode = 0; mode < TEST_MODES; mode++) {
        struct test_world w;
        memphis_error err = { 0 };
        begin(&w, mode);
        struct slow_call *c = make(w.b, false);
        assert_int_equal(api_run(&c->call, 1, &err), MEMPHIS_TIMEOUT);
        assert_non_null(strstr(err.message, "the outcome is unknown"));
        assert_int_equal(ran, 1); /* never before it ran: its arguments were lent */
        api_call_unref(&c->call);
        assert_int_equal(ended, 0); /* the core still has it */
        end_held(w.b);
        memphis_close(w.b); /* the core has let go by then */
        w.b = NULL;
        assert_int_equal(ended, 1);
        test_world_end(&w);
    }
}

/* Interrupts its own caller, who waits already. */
static void run_interrupt(struct api_call *call)
{
    memphis_interrupt(call->b);
    run_slow(call);
}

static void run_late(struct api_call *call)
{
    usleep(5000); /* the caller sleeps already, and past its deadline */
    run_slow(call);
}

static void a_call_that_runs_behind_its_deadline_is_left_all_the_same(void **state)
{
    struct test_world w;

    (void)state;
    begin(&w, 0);
    for (int i = 0; i < 2; i++) {
        struct slow_call *c = make(w.b, false);
        c->call.run = i == 0 ? run_late : run_interrupt;
        memphis_status st = api_run(&c->call, i == 0 ? 1 : 60000, NULL);
        assert_int_equal(st, i == 0 ? MEMPHIS_TIMEOUT : MEMPHIS_CANCELED);
        api_call_unref(&c->call);
        end_held(w.b);
    }
    test_world_end(&w);
}

static void a_call_that_was_only_posted_runs_all_the_same(void **state)
{
    (void)state;
    for (int mode = 0; mode < TEST_MODES; mode++) {
        struct test_world w;
        begin(&w, mode);
        struct slow_call *c = make(w.b, true);
        assert_int_equal(api_post(&c->call, NULL), MEMPHIS_OK);
        api_call_unref(&c->call);
        end_held(w.b); /* behind it */
        if (mode > 0)
            memphis_step(w.b, NULL);
        memphis_close(w.b);
        w.b = NULL;
        assert_int_equal(ran, 1);
        assert_int_equal(ended, 1);
        test_world_end(&w);
    }
}

static void mail_that_the_close_finds_was_accepted_and_runs(void **state)
{
    struct test_world w;

    (void)state;
    begin(&w, 1); /* MANUAL: nobody takes it out before */
    struct slow_call *c = make(w.b, true), *late = make(w.b, true);
    memphis_broker *b = api_ref(w.b);
    assert_int_equal(api_post(&c->call, NULL), MEMPHIS_OK);
    memphis_close(w.b);
    w.b = NULL;
    assert_int_equal(ran, 1);
    assert_int_equal(c->call.status, MEMPHIS_OK);
    assert_int_equal(api_post(&late->call, NULL), MEMPHIS_CLOSED);
    assert_int_equal(ran, 1);
    api_call_unref(&c->call);
    api_call_unref(&late->call);
    assert_int_equal(ended, 2);
    api_unref(b);
    test_world_end(&w);
}

/* -- waiting ----------------------------------------------------------------------- */

struct waiter {
    memphis_broker *b;
    struct slow_call *c;
    memphis_status st;
    memphis_error err;
    pthread_t thread;
    uint64_t number;
};

static void *wait_for_it(void *ctx)
{
    struct waiter *x = ctx;

    x->st = api_run(&x->c->call, UINT32_MAX, &x->err);
    return NULL;
}

/* Until it waits on the core for something that will not come by itself. */
static void until_it_ran(memphis_broker *b, struct slow_call *c)
{
    for (bool has_run = false; !has_run;) {
        pthread_mutex_lock(&b->lock);
        has_run = c->call.ran;
        pthread_mutex_unlock(&b->lock);
        usleep(100);
    }
}

static void an_interrupt_cancels_every_waiting_call_once(void **state)
{
    struct waiter waiters[2];
    struct test_world w;

    (void)state;
    begin(&w, 0);
    for (int i = 0; i < 2; i++) {
        waiters[i] = (struct waiter){ .b = w.b, .c = make(w.b, false) };
        pthread_create(&waiters[i].thread, NULL, wait_for_it, &waiters[i]);
        until_it_ran(w.b, waiters[i].c);
    }
    memphis_interrupt(w.b);
    for (int i = 0; i < 2; i++) {
        pthread_join(waiters[i].thread, NULL);
        assert_int_equal(waiters[i].st, MEMPHIS_CANCELED);
        assert_int_equal(waiters[i].err.status, MEMPHIS_CANCELED);
    }
    /* A call that begins later waits undisturbed. */
    struct slow_call *c = make(w.b, true);
    assert_int_equal(api_run(&c->call, 1000, NULL), MEMPHIS_OK);
    api_call_unref(&c->call);
    for (int i = 0; i < 2; i++) {
        held = waiters[i].c;
        end_held(w.b);
        api_call_unref(&waiters[i].c->call);
    }
    test_world_end(&w);
    assert_int_equal(ended, 3);
}

static void a_manual_call_is_interrupted_while_it_waits(void **state)
{
    (void)state;
    for (int mode = 1; mode < TEST_MODES; mode++) {
        struct test_world w;
        begin(&w, mode);
        memphis_interrupt(w.b); /* before it: not its business */
        struct slow_call *c = make(w.b, false);
        assert_int_equal(api_run(&c->call, 1, NULL), MEMPHIS_TIMEOUT);
        api_call_unref(&c->call);
        end_held(w.b);
        c = make(w.b, false);
        c->call.run = run_interrupt;
        assert_int_equal(api_run(&c->call, UINT32_MAX, NULL), MEMPHIS_CANCELED);
        api_call_unref(&c->call);
        end_held(w.b);
        test_world_end(&w);
    }
}

static void *wait_for_number(void *ctx)
{
    struct waiter *x = ctx;

    api_wait_finish(x->b, x->number, 60000);
    return NULL;
}

static void who_waits_for_any_outcome_hears_of_it_and_of_interrupts(void **state)
{
    struct test_world w;

    (void)state;
    begin(&w, 0);
    for (int i = 0; i < 3; i++) {
        struct waiter x = { .b = w.b, .number = api_finish_number(w.b) };
        uint64_t began = api_boot_ms();
        pthread_create(&x.thread, NULL, wait_for_number, &x);
        if (i == 0)
            memphis_interrupt(w.b);
        else if (i == 1)
            end_held(w.b);
        else
            memphis_interrupt(w.b); /* and a second time */
        pthread_join(x.thread, NULL);
        assert_true(api_boot_ms() - began < 30000);
    }
    uint64_t number = api_finish_number(w.b);
    api_wait_finish(w.b, number - 1, 60000); /* it has come already */
    api_wait_finish(w.b, number, 1);         /* or does not come in time */
    assert_int_equal(api_finish_number(w.b), number);
    test_world_end(&w);
}

static void close_ends_a_call_that_waits(void **state)
{
    struct waiter x;
    struct test_world w;

    (void)state;
    begin(&w, 0);
    x = (struct waiter){ .b = api_ref(w.b), .c = make(w.b, false) };
    pthread_create(&x.thread, NULL, wait_for_it, &x);
    until_it_ran(w.b, x.c);
    memphis_close(w.b);
    w.b = NULL;
    pthread_join(x.thread, NULL);
    assert_int_equal(x.st, MEMPHIS_CLOSED);
    api_call_unref(&x.c->call);
    api_call_unref(&held->call); /* the core's, whose end never came */
    api_unref(x.b);
    assert_int_equal(ended, 1);
    test_world_end(&w);
}

/* -- small parts ------------------------------------------------------------------- */

static void a_call_without_memory_is_none(void **state)
{
    struct test_world w;

    (void)state;
    begin(&w, 1);
    test_fail_allocation(1);
    assert_null(api_call_new(w.b, sizeof(struct api_call), run_slow));
    test_world_end(&w);
}

static void reserved_words_are_looked_at_to_the_last(void **state)
{
    uint64_t words[3] = { 0 };

    (void)state;
    assert_true(api_reserved_is_zero(words, 3));
    words[2] = 1ull << 63;
    assert_false(api_reserved_is_zero(words, 3));
    assert_true(api_reserved_is_zero(words, 2));
}

static void a_default_deadline_is_half_a_minute(void **state)
{
    struct test_world w;

    (void)state;
    begin(&w, 1);
    assert_int_equal(api_default_wait(w.b), 30000);
    memphis_close(w.b);
    w.options.call_wait_ms = 7;
    assert_int_equal(test_world_open(&w), MEMPHIS_OK);
    assert_int_equal(api_default_wait(w.b), 7);
    test_world_end(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        leak_checked(a_call_returns_what_the_core_made_of_it),
        leak_checked(a_caller_whose_deadline_passes_leaves_and_the_core_goes_on),
        leak_checked(a_call_that_runs_behind_its_deadline_is_left_all_the_same),
        leak_checked(a_call_that_was_only_posted_runs_all_the_same),
        leak_checked(mail_that_the_close_finds_was_accepted_and_runs),
        leak_checked(an_interrupt_cancels_every_waiting_call_once),
        leak_checked(a_manual_call_is_interrupted_while_it_waits),
        leak_checked(who_waits_for_any_outcome_hears_of_it_and_of_interrupts),
        leak_checked(close_ends_a_call_that_waits),
        leak_checked(a_call_without_memory_is_none),
        leak_checked(reserved_words_are_looked_at_to_the_last),
        leak_checked(a_default_deadline_is_half_a_minute),
    };

    return run_tests("api/api_call", tests);
}
