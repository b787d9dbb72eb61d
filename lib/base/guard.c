#include "base/guard.h"

#include "base/assert.h"
#include "base/mem.h"
#include "base/status.h"

#include <setjmp.h>

struct guard {
    jmp_buf target;
    struct guard *outer;
    struct mp_heap *heap_before;
    memphis_error *err;
    volatile memphis_status status; /* set between setjmp and longjmp */
};

static _Thread_local struct guard *innermost;
static _Thread_local void (*test_hook)(const char *expression, const char *file,
                                       int line);

/* The hook of a test leaves by a jump of its own, to a frame outside of every guard:
 * none of them may stay behind as a target, and the heap is the outermost one's. */
static void call_hook(const char *expression, const char *file, int line)
{
    while (innermost != NULL) {
        (void)mp_heap_enter(innermost->heap_before);
        innermost = innermost->outer;
    }
    test_hook(expression, file, line);
}

static noreturn void land(memphis_status status)
{
    innermost->status = status;
    longjmp(innermost->target, 1);
}

memphis_status mp_guard_run(struct mp_heap *heap, void (*fn)(void *ctx), void *ctx,
                            memphis_error *err)
{
    struct guard g = { .outer = innermost, .err = err };

    g.heap_before = mp_heap_enter(heap);
    innermost = &g;
    if (setjmp(g.target) == 0)
        fn(ctx);
    innermost = g.outer;
    (void)mp_heap_enter(g.heap_before);
    return g.status;
}

void mp_guard_set_hook(void (*hook)(const char *expression, const char *file, int line))
{
    test_hook = hook;
}

noreturn void mp_assert_failed(const char *expression, const char *file, int line)
{
    if (test_hook != NULL)
        call_hook(expression, file, line);
    else if (innermost != NULL)
        land(mp_fail(innermost->err, MEMPHIS_INTERNAL,
                     "internal error: '%s' does not hold at %s:%d; please report it",
                     expression, file, line));
    __builtin_trap(); /* nobody can carry on, and the library never calls abort() */
}

noreturn void mp_guard_no_memory(size_t size)
{
    if (innermost != NULL)
        land(mp_fail(innermost->err, MEMPHIS_NOMEM,
                     "out of memory: a block of %zu bytes could not be had", size));
    if (test_hook != NULL)
        call_hook("memory outside of a guard", __FILE__, __LINE__);
    __builtin_trap();
}
