#include "store/chunk.h"

#include "base/assert.h"

enum { ENTRY_SIZE_MIN = 40 };

struct mp_chunk *mp_chunk_new(size_t size)
{
    mp_assert(size > 0);
    mp_assert(size <= UINT32_MAX);
    struct mp_chunk *c = mp_alloc_try(sizeof *c + size);
    if (c == NULL)
        return NULL;
    *c = (struct mp_chunk){ .size = (uint32_t)size };
    atomic_init(&c->refs, 1);
    return c;
}

void mp_chunk_ref(struct mp_chunk *c)
{
    uint32_t before = atomic_fetch_add_explicit(&c->refs, 1, memory_order_relaxed);

    mp_assert(before > 0);
}

void mp_chunk_unref(struct mp_chunk *c)
{
    if (c == NULL)
        return;
    uint32_t before = atomic_fetch_sub_explicit(&c->refs, 1, memory_order_acq_rel);
    mp_assert(before > 0);
    if (before > 1)
        return;
    mp_free(c);
}

struct mp_chunk *mp_chunks_room(struct mp_chunks *l, size_t size)
{
    struct mp_chunk *c = l->open;

    if (c != NULL && c->size - c->used >= size)
        return c;
    size_t wanted = size > l->chunk_size ? size : l->chunk_size;
    struct mp_chunk *fresh = mp_chunk_new(wanted);
    if (fresh == NULL)
        return NULL;
    mp_chunks_seal(l);
    mp_list_push_back(&l->all, &fresh->node);
    fresh->log = l;
    l->bytes += fresh->size;
    l->unflushed += fresh->size;
    l->open = fresh;
    fresh->is_open = true;
    return fresh;
}

void mp_chunks_init(struct mp_chunks *l, size_t chunk_size)
{
    mp_assert(chunk_size > 0);
    *l = (struct mp_chunks){ .chunk_size = chunk_size };
    mp_list_init(&l->all);
}

void mp_chunks_fini(struct mp_chunks *l)
{
    struct mp_list *n;

    if (l->all.next == NULL)
        return;
    while ((n = mp_list_pop_front(&l->all)) != NULL) {
        struct mp_chunk *c = mp_container_of(n, struct mp_chunk, node);
        c->log = NULL;
        mp_chunk_unref(c);
    }
    l->open = NULL;
    l->bytes = l->unflushed = 0;
}

/* Whoever still reads from it holds a reference of his own. */
static void let_go(struct mp_chunk *c)
{
    struct mp_chunks *l = c->log;

    mp_list_remove(&c->node);
    if (l != NULL) {
        mp_assert(l->bytes >= c->size);
        l->bytes -= c->size;
        l->unflushed -= c->is_flushed ? 0 : c->size;
        c->log = NULL;
    }
    mp_chunk_unref(c);
}

void mp_chunks_seal(struct mp_chunks *l)
{
    struct mp_chunk *c = l->open;

    if (c == NULL)
        return;
    mp_assert(c->is_open);
    l->open = NULL;
    c->is_open = false;
    if (c->live == 0)
        let_go(c);
}

void mp_chunks_seal_full(struct mp_chunks *l)
{
    if (l->open != NULL && l->open->size - l->open->used < ENTRY_SIZE_MIN)
        mp_chunks_seal(l);
}

void mp_chunks_fail(struct mp_chunks *l, uint64_t index)
{
    for (struct mp_list *n = l->all.prev; n != &l->all; n = n->prev) {
        struct mp_chunk *c = mp_container_of(n, struct mp_chunk, node);
        if (c->last_index <= index)
            return;
        c->last_index = index;
    }
}

void mp_chunk_drop(struct mp_chunk *c)
{
    mp_assert(c->live > 0);
    if (--c->live == 0 && !c->is_open)
        let_go(c);
}

void mp_chunks_flushed(struct mp_chunks *l, uint64_t index)
{
    for (struct mp_list *n = l->all.next; n != &l->all; n = n->next) {
        struct mp_chunk *c = mp_container_of(n, struct mp_chunk, node);
        if (c->is_flushed)
            continue;
        if (c->is_open || c->last_index > index)
            return; /* so are all behind it */
        c->is_flushed = true;
        l->unflushed -= c->size;
    }
}

struct mp_chunk *mp_chunks_evictable(const struct mp_chunks *l)
{
    if (mp_list_is_empty(&l->all))
        return NULL;
    struct mp_chunk *c = mp_container_of(l->all.next, struct mp_chunk, node);
    return c->is_flushed ? c : NULL;
}
