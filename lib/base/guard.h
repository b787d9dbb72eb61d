/* base/guard.h -- where a failed assertion or allocation lands.
 *
 *      api call, turn, worker job
 *             |  mp_guard_run(heap, fn, ctx, err)
 *             v
 *           fn(ctx) ... deep inside: mp_assert(false) or mp_alloc() without memory
 *             ^                               |
 *             +------- longjmp ---------------+      -> INTERNAL or NOMEM, text in err
 *
 * The caller marks its broker BROKEN and never touches the state again. Sound because
 * the core holds no locks while it computes (design D13). Guards nest per thread. The
 * guard also says which heap mp_alloc uses on this thread.
 *
 * guard.c is the only file with setjmp. Thread: any; a guard belongs to its thread.
 */
#ifndef MP_BASE_GUARD_H
#define MP_BASE_GUARD_H

#include <memphis/status.h>
#include <stdnoreturn.h>

struct mp_heap;

/* Runs fn(ctx). MEMPHIS_OK when it returned; INTERNAL (assertion) or NOMEM when it
 * did not: then whatever it worked on must not be used again. */
memphis_status mp_guard_run(struct mp_heap *heap, void (*fn)(void *ctx), void *ctx,
                            memphis_error *err);

/* Lands in the guard of this thread with NOMEM: for base/mem.c, and for callers that
 * cannot go on without memory they asked for with a *_try function. */
noreturn void mp_guard_no_memory(size_t size);

/* Tests only, for the calling thread: called instead of the jump of a failed assertion,
 * and when memory ends outside any guard; must not return. NULL: none. */
void mp_guard_set_hook(void (*hook)(const char *expression, const char *file,
                                    int line));

#endif
