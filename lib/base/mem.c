#include "base/mem.h"

#include "base/guard.h"

#include <assert.h>
#include <stdalign.h>
#include <stdlib.h>
#include <string.h>

/* Before each block. It keeps the alignment of 16 bytes that the hooks promise. */
struct header {
    alignas(16) struct mp_heap *heap;
    size_t size; /* what the caller asked for */
};
static_assert(sizeof(struct header) == 16, "blocks would lose their alignment");

/* No object may be larger, so nothing above is worth asking for. */
#define SIZE_LIMIT ((size_t)PTRDIFF_MAX - sizeof(struct header))

enum { ARENA_BLOCK_SIZE = 1024 - 64 };

struct mp_arena_block {
    alignas(16) struct mp_arena_block *next;
    size_t used;
    size_t size;
    alignas(16) uint8_t data[];
};

static void *default_alloc(void *ctx, size_t size)
{
    (void)ctx;
    return malloc(size);
}

static void *default_realloc(void *ctx, void *p, size_t size)
{
    (void)ctx;
    return realloc(p, size);
}

static void default_free(void *ctx, void *p)
{
    (void)ctx;
    free(p);
}

#define DEFAULT_HOOKS                                                                  \
    {                                                                                  \
        .alloc = default_alloc, .realloc = default_realloc, .free = default_free       \
    }

/* The account of everything that belongs to no broker. */
static struct mp_heap process_heap = { .hooks = DEFAULT_HOOKS };

static _Thread_local struct mp_heap *current; /* NULL: process_heap */

static struct header *header_of(void *p)
{
    return (struct header *)p - 1;
}

static void add(_Atomic uint64_t *counter, uint64_t n)
{
    atomic_fetch_add_explicit(counter, n, memory_order_relaxed);
}

static void subtract(_Atomic uint64_t *counter, uint64_t n)
{
    atomic_fetch_sub_explicit(counter, n, memory_order_relaxed);
}

/* Whether a test wants this allocation to fail. */
static bool is_planned_fault(struct mp_heap *h)
{
    if (atomic_load_explicit(&h->fail_in, memory_order_relaxed) <= 0)
        return false;
    if (atomic_fetch_sub(&h->fail_in, 1) != 1)
        return false;
    atomic_store(&h->failed, true);
    return true;
}

void mp_heap_init(struct mp_heap *h, const memphis_allocator *hooks)
{
    static const memphis_allocator defaults = DEFAULT_HOOKS;

    h->hooks = hooks != NULL ? *hooks : defaults;
    atomic_init(&h->used_bytes, 0);
    atomic_init(&h->live_blocks, 0);
    atomic_init(&h->fail_in, 0);
    atomic_init(&h->failed, false);
}

struct mp_heap *mp_heap_enter(struct mp_heap *h)
{
    struct mp_heap *before = current;

    current = h;
    return before;
}

struct mp_heap *mp_heap_current(void)
{
    return current != NULL ? current : &process_heap;
}

void *mp_alloc(size_t size)
{
    void *p = mp_alloc_try(size);

    if (p == NULL)
        mp_guard_no_memory(size);
    return memset(p, 0, size);
}

void *mp_alloc_try(size_t size)
{
    struct mp_heap *heap = mp_heap_current();

    if (size > SIZE_LIMIT || is_planned_fault(heap))
        return NULL;
    struct header *h = heap->hooks.alloc(heap->hooks.ctx, sizeof *h + size);
    if (h == NULL)
        return NULL;
    h->heap = heap;
    h->size = size;
    add(&heap->used_bytes, sizeof *h + size);
    add(&heap->live_blocks, 1);
    return h + 1;
}

void *mp_realloc(void *p, size_t size)
{
    p = mp_realloc_try(p, size);
    if (p == NULL)
        mp_guard_no_memory(size);
    return p;
}

void *mp_realloc_try(void *p, size_t size)
{
    if (p == NULL)
        return mp_alloc_try(size);
    struct header *h = header_of(p);
    struct mp_heap *heap = h->heap;
    size_t size_before = h->size;
    if (size > SIZE_LIMIT || is_planned_fault(heap))
        return NULL;
    h = heap->hooks.realloc(heap->hooks.ctx, h, sizeof *h + size);
    if (h == NULL)
        return NULL;
    h->size = size;
    add(&heap->used_bytes, size);
    subtract(&heap->used_bytes, size_before);
    return h + 1;
}

void mp_free(void *p)
{
    if (p == NULL)
        return;
    struct header *h = header_of(p);
    struct mp_heap *heap = h->heap;
    subtract(&heap->used_bytes, sizeof *h + h->size);
    subtract(&heap->live_blocks, 1);
    heap->hooks.free(heap->hooks.ctx, h);
}

char *mp_strdup(const char *s)
{
    return mp_strndup(s, strlen(s));
}

char *mp_strndup(const void *data, size_t size)
{
    char *s = mp_realloc(NULL, size < SIZE_LIMIT ? size + 1 : size);

    if (size > 0)
        memcpy(s, data, size);
    s[size] = 0;
    return s;
}

/* -- arenas ------------------------------------------------------------------------ */

void *mp_arena_alloc(struct mp_arena *a, size_t size)
{
    struct mp_arena_block *b = a->blocks;
    size_t rounded = (size + 15) & ~(size_t)15;

    if (rounded < size || rounded > SIZE_LIMIT - sizeof *b)
        mp_guard_no_memory(size);
    if (b == NULL || b->size - b->used < rounded) {
        size_t room = rounded > ARENA_BLOCK_SIZE ? rounded : ARENA_BLOCK_SIZE;
        struct mp_arena_block *fresh = mp_realloc(NULL, sizeof *b + room);
        *fresh = (struct mp_arena_block){ .size = room };
        if (b != NULL && room - rounded < b->size - b->used) {
            fresh->next = b->next; /* the block in use has more room left: it stays */
            b->next = fresh;
        } else {
            fresh->next = b;
            a->blocks = fresh;
        }
        b = fresh;
    }
    uint8_t *p = b->data + b->used;
    b->used += rounded;
    return memset(p, 0, size);
}

char *mp_arena_strndup(struct mp_arena *a, const void *data, size_t size)
{
    char *s = mp_arena_alloc(a, size < SIZE_MAX ? size + 1 : size);

    if (size > 0)
        memcpy(s, data, size);
    return s;
}

void mp_arena_fini(struct mp_arena *a)
{
    struct mp_arena_block *next;

    for (struct mp_arena_block *b = a->blocks; b != NULL; b = next) {
        next = b->next;
        mp_free(b);
    }
    a->blocks = NULL;
}
