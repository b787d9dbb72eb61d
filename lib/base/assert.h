/* base/assert.h -- invariants, always on (design D13).
 *
 * A failed assertion is a bug of ours: control jumps to the guard of this thread
 * (base/guard.h), the broker is BROKEN, the host process lives. Input from a socket or
 * a disk is never asserted; it goes through a parser that returns a status.
 *
 * Thread: any (pure).
 */
#ifndef MP_BASE_ASSERT_H
#define MP_BASE_ASSERT_H

#include <stdnoreturn.h>

/* Lands in the guard of this thread; in a test that expects it, in the test's hook. */
noreturn void mp_assert_failed(const char *expression, const char *file, int line);

#define mp_assert(x) ((x) ? (void)0 : mp_assert_failed(#x, __FILE__, __LINE__))

/* Loops over data structures: on in builds with MP_DEBUG (tests and sanitizers). */
#ifdef MP_DEBUG
#define mp_debug(x) mp_assert(x)
#else
#define mp_debug(x) ((void)sizeof(x))
#endif

#endif
