#include "store/memtable.h"

#include "base/assert.h"

enum { CAPACITY_FIRST = 16, CAPACITY_KEPT = 4096 };

static struct mp_memslot *slot_of(const struct mp_memtable *m, uint64_t seq)
{
    return &m->slots[seq & (m->capacity - 1)];
}

void mp_memtable_fini(struct mp_memtable *m)
{
    mp_memtable_trim(m, m->end);
    mp_assert(m->live == 0);
    mp_free(m->slots);
    *m = (struct mp_memtable){ 0 };
}

/* Room for `span` sequences from base on. */
static void reserve(struct mp_memtable *m, uint64_t span)
{
    uint64_t capacity = m->capacity > 0 ? m->capacity : CAPACITY_FIRST;

    if (span <= m->capacity)
        return;
    while (capacity < span)
        capacity *= 2;
    mp_assert(capacity <= UINT32_MAX);
    struct mp_memslot *slots = mp_realloc(NULL, (size_t)capacity * sizeof *slots);
    for (uint64_t seq = m->base; seq < m->end; seq++)
        slots[seq & (capacity - 1)] = *slot_of(m, seq);
    mp_free(m->slots);
    m->slots = slots;
    m->capacity = (uint32_t)capacity;
}

void mp_memtable_put(struct mp_memtable *m, uint64_t seq, struct mp_chunk *c,
                     uint32_t offset, uint32_t size)
{
    mp_assert(seq >= m->end);
    mp_assert(c->live > 0);
    if (m->base == m->end)
        m->base = m->end = seq;
    reserve(m, seq - m->base + 1);
    for (; m->end < seq; m->end++)
        *slot_of(m, m->end) = (struct mp_memslot){ 0 };
    *slot_of(m, seq) = (struct mp_memslot){ c, offset, size };
    m->end = seq + 1;
    m->live++;
    m->bytes += size;
}

static void clear_slot(struct mp_memtable *m, struct mp_memslot *slot)
{
    struct mp_chunk *c = slot->chunk;

    mp_assert(m->live > 0);
    mp_assert(m->bytes >= slot->size);
    m->live--;
    m->bytes -= slot->size;
    *slot = (struct mp_memslot){ 0 };
    mp_chunk_drop(c);
}

/* Base moves up to the next live slot; an emptied table gives a large ring back. */
static void skip_holes(struct mp_memtable *m)
{
    if (m->live == 0)
        m->base = m->end;
    while (m->base < m->end && slot_of(m, m->base)->chunk == NULL)
        m->base++;
    if (m->live == 0 && m->capacity > CAPACITY_KEPT) {
        mp_free(m->slots);
        m->slots = NULL;
        m->capacity = 0;
    }
}

void mp_memtable_drop(struct mp_memtable *m, uint64_t seq)
{
    if (seq < m->base || seq >= m->end || slot_of(m, seq)->chunk == NULL)
        return;
    clear_slot(m, slot_of(m, seq));
    skip_holes(m);
}

void mp_memtable_evict(struct mp_memtable *m, uint64_t seq, const struct mp_chunk *c)
{
    if (seq >= m->base && seq < m->end && slot_of(m, seq)->chunk == c)
        mp_memtable_drop(m, seq);
}

void mp_memtable_trim(struct mp_memtable *m, uint64_t first)
{
    uint64_t end = first < m->end ? first : m->end;

    for (; m->base < end; m->base++) {
        struct mp_memslot *slot = slot_of(m, m->base);
        if (slot->chunk != NULL)
            clear_slot(m, slot);
    }
    skip_holes(m);
    mp_assert(m->live == 0 || m->base >= first);
}

const struct mp_memslot *mp_memtable_get(const struct mp_memtable *m, uint64_t seq)
{
    if (seq < m->base || seq >= m->end || slot_of(m, seq)->chunk == NULL)
        return NULL;
    return slot_of(m, seq);
}

const struct mp_memslot *mp_memtable_next(const struct mp_memtable *m, uint64_t *seq)
{
    uint64_t at = *seq > m->base ? *seq : m->base;

    for (; at < m->end; at++) {
        const struct mp_memslot *slot = slot_of(m, at);
        if (slot->chunk != NULL) {
            *seq = at;
            return slot;
        }
    }
    return NULL;
}
