#include "support/test.h"

#include "base/assert.h"
#include "base/status.h"

#include <pthread.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

static void count(void *ctx)
{
    ++*(int *)ctx;
}

static void fail_assertion(void *ctx)
{
    int one = 1;

    count(ctx);
    mp_assert(one == 2);
    count(ctx);
}

static void use_up_memory(void *ctx)
{
    count(ctx);
    (void)mp_alloc(SIZE_MAX);
    count(ctx);
}

/* Most tests here want the jump itself, not the hook of the fixture. */
static int without_hook(void **state)
{
    (void)state;
    mp_guard_set_hook(NULL);
    return 0;
}

#define unhooked(f) cmocka_unit_test_setup_teardown(f, without_hook, test_no_leaks)

static void a_function_that_returns_is_ok_and_leaves_err_alone(void **state)
{
    memphis_error err, before;
    int calls = 0;

    (void)state;
    memset(&err, 0x5a, sizeof err);
    before = err;
    assert_int_equal(mp_guard_run(NULL, count, &calls, &err), MEMPHIS_OK);
    assert_int_equal(calls, 1);
    assert_memory_equal(&err, &before, sizeof err);
}

static void a_failed_assertion_is_internal_and_says_where(void **state)
{
    memphis_error err = { 0 };
    int calls = 0;

    (void)state;
    assert_int_equal(mp_guard_run(NULL, fail_assertion, &calls, &err),
                     MEMPHIS_INTERNAL);
    assert_int_equal(calls, 1);
    assert_int_equal(err.status, MEMPHIS_INTERNAL);
    assert_non_null(strstr(err.message, "'one == 2'"));
    assert_non_null(strstr(err.message, "test_guard.c:"));
    assert_int_equal(mp_guard_run(NULL, fail_assertion, &calls, NULL),
                     MEMPHIS_INTERNAL);
}

static void an_allocation_without_memory_is_nomem(void **state)
{
    memphis_error err = { 0 };
    int calls = 0;

    (void)state;
    assert_int_equal(mp_guard_run(NULL, use_up_memory, &calls, &err), MEMPHIS_NOMEM);
    assert_int_equal(calls, 1);
    assert_int_equal(err.status, MEMPHIS_NOMEM);
    assert_non_null(strstr(err.message, "out of memory"));
}

struct nested {
    struct mp_heap heap;
    memphis_status inner;
    memphis_error inner_err;
    int inner_calls, steps;
    struct mp_heap *seen_inside, *seen_after;
};

static void look_and_fail(void *ctx)
{
    struct nested *n = ctx;

    n->seen_inside = mp_heap_current();
    fail_assertion(&n->inner_calls);
}

static void run_inner(void *ctx)
{
    struct nested *n = ctx;

    n->steps++;
    n->inner = mp_guard_run(&n->heap, look_and_fail, n, &n->inner_err);
    n->seen_after = mp_heap_current();
    n->steps++;
}

static void run_inner_and_fail(void *ctx)
{
    run_inner(ctx);
    fail_assertion(&((struct nested *)ctx)->steps);
}

static void the_innermost_guard_lands_and_the_outer_one_goes_on(void **state)
{
    struct nested n = { 0 };
    memphis_error err = { 0 };

    (void)state;
    assert_int_equal(mp_guard_run(NULL, run_inner, &n, &err), MEMPHIS_OK);
    assert_int_equal(n.inner, MEMPHIS_INTERNAL);
    assert_int_equal(n.inner_calls, 1);
    assert_int_equal(n.steps, 2);
    assert_int_equal(n.inner_err.status, MEMPHIS_INTERNAL);
    assert_int_equal(err.status, MEMPHIS_OK);
}

static void the_outer_guard_works_after_the_inner_one_has_landed(void **state)
{
    struct nested n = { 0 };
    memphis_error err = { 0 };

    (void)state;
    assert_int_equal(mp_guard_run(NULL, run_inner_and_fail, &n, &err),
                     MEMPHIS_INTERNAL);
    assert_int_equal(n.inner, MEMPHIS_INTERNAL);
    assert_int_equal(n.steps, 3);
    assert_int_equal(err.status, MEMPHIS_INTERNAL);
}

static void each_guard_brings_its_heap_and_gives_the_one_before_back(void **state)
{
    struct mp_heap outer, *process = mp_heap_current();
    struct nested n = { 0 };

    (void)state;
    mp_heap_init(&outer, NULL);
    mp_heap_init(&n.heap, NULL);
    mp_guard_run(&outer, run_inner, &n, NULL);
    assert_ptr_equal(n.seen_inside, &n.heap);
    assert_ptr_equal(n.seen_after, &outer);
    assert_ptr_equal(mp_heap_current(), process);
    mp_guard_run(&outer, run_inner_and_fail, &n, NULL);
    assert_ptr_equal(mp_heap_current(), process);
}

struct again {
    int depth;
    memphis_status worst;
};

static void nest(void *ctx)
{
    struct again *a = ctx;
    int calls = 0;

    if (a->depth-- == 0)
        return;
    if (mp_guard_run(NULL, fail_assertion, &calls, NULL) != MEMPHIS_INTERNAL)
        a->worst = MEMPHIS_INVALID;
    if (mp_guard_run(NULL, nest, a, NULL) != MEMPHIS_OK)
        a->worst = MEMPHIS_INVALID;
    if (mp_guard_run(NULL, fail_assertion, &calls, NULL) != MEMPHIS_INTERNAL)
        a->worst = MEMPHIS_INVALID;
}

static void guards_nest_a_hundred_deep(void **state)
{
    struct again a = { .depth = 100 };

    (void)state;
    assert_int_equal(mp_guard_run(NULL, nest, &a, NULL), MEMPHIS_OK);
    assert_int_equal(a.worst, MEMPHIS_OK);
}

/* Two threads, each inside a guard of its own when the first of them fails. */
struct pair {
    pthread_barrier_t barrier;
    pthread_t thread;
    memphis_status other;
    int calls, other_calls;
};

static void wait_and_fail(void *ctx)
{
    struct pair *p = ctx;

    pthread_barrier_wait(&p->barrier); /* both are inside */
    pthread_barrier_wait(&p->barrier); /* the first has landed */
    fail_assertion(&p->other_calls);
}

static void *fail_on_a_thread(void *ctx)
{
    struct pair *p = ctx;

    p->other = mp_guard_run(NULL, wait_and_fail, p, NULL);
    return NULL;
}

static void fail_beside_a_thread(void *ctx)
{
    struct pair *p = ctx;

    assert_int_equal(pthread_create(&p->thread, NULL, fail_on_a_thread, p), 0);
    pthread_barrier_wait(&p->barrier);
    fail_assertion(&p->calls);
}

static void a_guard_belongs_to_its_thread(void **state)
{
    struct pair p = { .other = MEMPHIS_OK };

    (void)state;
    assert_int_equal(pthread_barrier_init(&p.barrier, NULL, 2), 0);
    assert_int_equal(mp_guard_run(NULL, fail_beside_a_thread, &p, NULL),
                     MEMPHIS_INTERNAL);
    assert_int_equal(p.calls, 1);
    pthread_barrier_wait(&p.barrier);
    pthread_join(p.thread, NULL);
    assert_int_equal(p.other, MEMPHIS_INTERNAL);
    assert_int_equal(p.other_calls, 1);
    pthread_barrier_destroy(&p.barrier);
}

static void run_and_fail(void *ctx)
{
    mp_guard_run(((struct nested *)ctx)->seen_after, fail_assertion, ctx, NULL);
}

static void the_hook_of_a_test_comes_before_the_guards(void **state)
{
    struct mp_heap heap, *process = mp_heap_current();
    struct nested n = { .seen_after = &heap };
    int calls = 0;

    (void)state;
    mp_heap_init(&heap, NULL);
    test_setup(NULL);
    expect_assert_failure(mp_guard_run(&heap, fail_assertion, &calls, NULL));
    assert_ptr_equal(mp_heap_current(), process);
    expect_assert_failure(mp_guard_run(&heap, run_and_fail, &n, NULL));
    assert_ptr_equal(mp_heap_current(), process);
    expect_assert_failure(mp_assert(calls == 77));
    expect_assert_failure(mp_alloc(SIZE_MAX)); /* no guard here */
}

static void a_shortage_of_memory_lands_in_the_guard_even_with_a_hook(void **state)
{
    int calls = 0;

    (void)state;
    test_setup(NULL);
    assert_int_equal(mp_guard_run(NULL, use_up_memory, &calls, NULL), MEMPHIS_NOMEM);
}

/* The signal that ends a child which runs fn(ctx) with neither guard nor hook. */
static int signal_of(void (*fn)(void *ctx), void *ctx)
{
    pid_t child = fork();
    int status;

    if (child == 0) {
        setrlimit(RLIMIT_CORE, &(struct rlimit){ 0 });
        signal(SIGILL, SIG_DFL);
        fn(ctx);
        _exit(0);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    return WIFSIGNALED(status) ? WTERMSIG(status) : 0;
}

static void without_guard_and_hook_the_processor_stops_the_program(void **state)
{
    int calls = 0;

    (void)state;
    assert_int_equal(signal_of(count, &calls), 0);
    int by_assertion = signal_of(fail_assertion, &calls);
    assert_true(by_assertion == SIGILL || by_assertion == SIGTRAP);
    int by_memory = signal_of(use_up_memory, &calls);
    assert_true(by_memory == SIGILL || by_memory == SIGTRAP);
}

static void an_assertion_that_holds_costs_nothing_but_a_look(void **state)
{
    int evaluated = 0;

    (void)state;
    mp_assert(++evaluated == 1);
    assert_int_equal(evaluated, 1);
}

static const struct CMUnitTest tests[] = {
    unhooked(a_function_that_returns_is_ok_and_leaves_err_alone),
    unhooked(a_failed_assertion_is_internal_and_says_where),
    unhooked(an_allocation_without_memory_is_nomem),
    unhooked(the_innermost_guard_lands_and_the_outer_one_goes_on),
    unhooked(the_outer_guard_works_after_the_inner_one_has_landed),
    unhooked(each_guard_brings_its_heap_and_gives_the_one_before_back),
    unhooked(guards_nest_a_hundred_deep),
    unhooked(a_guard_belongs_to_its_thread),
    unhooked(the_hook_of_a_test_comes_before_the_guards),
    unhooked(a_shortage_of_memory_lands_in_the_guard_even_with_a_hook),
    unhooked(without_guard_and_hook_the_processor_stops_the_program),
    unhooked(an_assertion_that_holds_costs_nothing_but_a_look),
};

int main(void)
{
    return run_tests("base/guard", tests);
}
