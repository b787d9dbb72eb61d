/* base/mem.h -- memory: heaps, blocks that cannot fail, blocks that may, arenas.
 *
 * A *heap* is the account of one broker: the embedder's allocator, what is in use, and
 * the fault counter of tests. Blocks carry a 16-byte header (heap and size), so that
 * mp_free works from every thread and needs no heap. mp_alloc takes from the current
 * heap of the thread: that of its guard, or of mp_heap_enter, or the process's own.
 *
 *   mp_alloc      structural, small: zeroed, never NULL (no memory: jumps to the guard)
 *   mp_alloc_try  size comes from a user, after a limit check: not zeroed, may be NULL
 *   mp_arena      lifetime of one request: dropped whole
 *
 * Thread: any. The counters are atomic.
 */
#ifndef MP_BASE_MEM_H
#define MP_BASE_MEM_H

#include <memphis/base.h>
#include <stdatomic.h>

struct mp_heap {
    memphis_allocator hooks;
    _Atomic uint64_t used_bytes;
    _Atomic uint64_t live_blocks;
    _Atomic int64_t fail_in;   /* tests: the n-th allocation from now fails; 0: none */
    _Atomic bool failed;       /* tests: the planned fault has happened */
};

/* `hooks` NULL: malloc and free. */
void mp_heap_init(struct mp_heap *h, const memphis_allocator *hooks);

/* Makes `h` the current heap of this thread (NULL: the process's own); returns the
 * one before, to be entered again at the end. */
struct mp_heap *mp_heap_enter(struct mp_heap *h);
struct mp_heap *mp_heap_current(void);

void *mp_alloc(size_t size);
void *mp_alloc_try(size_t size);
void *mp_realloc(void *p, size_t size);     /* never NULL; new bytes are not zeroed */
void *mp_realloc_try(void *p, size_t size); /* NULL: p is as before */
void mp_free(void *p);                      /* NULL is fine */
char *mp_strdup(const char *s);
char *mp_strndup(const void *data, size_t size); /* adds the final zero */

/* Blocks of one request, freed together. Zero-initialise. */
struct mp_arena {
    struct mp_arena_block *blocks;
};
void *mp_arena_alloc(struct mp_arena *a, size_t size); /* zeroed, never NULL */
char *mp_arena_strndup(struct mp_arena *a, const void *data, size_t size);
void mp_arena_fini(struct mp_arena *a);

#endif
