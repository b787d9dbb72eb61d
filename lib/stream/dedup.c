#include "stream/dedup.h"

#include "base/assert.h"
#include "base/map.h"
#include "base/mem.h"

#include <string.h>

static struct mp_dedup_record *record(const struct mp_dedup *d, uint64_t number)
{
    return &d->ring[number & (d->capacity - 1)];
}

/* === The table: linear probing, deletion by shifting back === */

static uint64_t home(const struct mp_dedup *d, const struct mp_dedup_record *r)
{
    return r->hash[0] & (d->slots_count - 1);
}

/* A slot holds the low 31 bits of the number, plus one: never 0, and unambiguous, since
 * the ring holds fewer than 2^31 records. */
enum { NUMBER_MASK = 0x7fffffff };

static uint64_t number_of(const struct mp_dedup *d, uint32_t slot)
{
    return d->first + ((slot - 1 - (uint32_t)d->first) & NUMBER_MASK);
}

static uint32_t slot_value(uint64_t number)
{
    return (uint32_t)(number & NUMBER_MASK) + 1;
}

static void table_put(struct mp_dedup *d, uint64_t number)
{
    uint64_t at = home(d, record(d, number));

    while (d->slots[at] != 0)
        at = (at + 1) & (d->slots_count - 1);
    d->slots[at] = slot_value(number);
}

static void table_remove(struct mp_dedup *d, uint64_t number)
{
    uint64_t mask = d->slots_count - 1;
    uint64_t hole = home(d, record(d, number));

    while (d->slots[hole] != slot_value(number)) {
        mp_assert(d->slots[hole] != 0);
        hole = (hole + 1) & mask;
    }
    for (uint64_t at = (hole + 1) & mask; d->slots[at] != 0; at = (at + 1) & mask) {
        uint64_t h = home(d, record(d, number_of(d, d->slots[at])));

        if (((at - h) & mask) >= ((at - hole) & mask)) {
            d->slots[hole] = d->slots[at];
            hole = at;
        }
    }
    d->slots[hole] = 0;
}

static void grow(struct mp_dedup *d)
{
    uint64_t capacity = d->capacity ? d->capacity * 2 : 64;
    struct mp_dedup_record *ring = mp_realloc(NULL, capacity * sizeof(*ring));

    for (uint64_t n = d->first; n < d->first + d->count; n++)
        ring[n & (capacity - 1)] = *record(d, n);
    mp_free(d->ring);
    mp_free(d->slots);
    d->ring = ring;
    d->capacity = capacity;
    d->slots_count = capacity * 2;
    d->slots = mp_alloc(d->slots_count * sizeof(*d->slots));
    for (uint64_t n = d->first; n < d->first + d->count; n++)
        table_put(d, n);
}

static void drop_first(struct mp_dedup *d)
{
    table_remove(d, d->first);
    d->first++;
    d->count--;
}

/* === Public === */

void mp_dedup_init(struct mp_dedup *d, const uint64_t key[2], uint64_t window_ns,
                   uint64_t ids_max)
{
    mp_assert(ids_max > 0 && ids_max < 1u << 31);
    memset(d, 0, sizeof(*d));
    d->key[0] = key[0];
    d->key[1] = key[1];
    d->window_ns = window_ns;
    d->ids_max = ids_max;
}

void mp_dedup_fini(struct mp_dedup *d)
{
    mp_free(d->ring);
    mp_free(d->slots);
    memset(d, 0, sizeof(*d));
}

bool mp_dedup_find(struct mp_dedup *d, memphis_slice id, uint64_t now_ns, uint64_t *seq)
{
    uint64_t hash[2];

    mp_dedup_expire(d, now_ns);
    if (d->count == 0)
        return false;
    mp_siphash128(d->key, id.data, id.size, hash);
    for (uint64_t at = hash[0] & (d->slots_count - 1); d->slots[at] != 0;
         at = (at + 1) & (d->slots_count - 1)) {
        const struct mp_dedup_record *r = record(d, number_of(d, d->slots[at]));

        if (r->hash[0] == hash[0] && r->hash[1] == hash[1]) {
            *seq = r->seq;
            return true;
        }
    }
    return false;
}

void mp_dedup_put(struct mp_dedup *d, memphis_slice id, uint64_t seq, uint64_t time_ns)
{
    struct mp_dedup_record *r;

    mp_dedup_expire(d, time_ns);
    if (d->count == d->ids_max) {
        drop_first(d);
        d->dropped++;
    }
    if (d->count == d->capacity)
        grow(d);
    r = record(d, d->first + d->count);
    mp_siphash128(d->key, id.data, id.size, r->hash);
    r->seq = seq;
    r->time_ns = time_ns;
    d->count++;
    table_put(d, d->first + d->count - 1);
}

void mp_dedup_expire(struct mp_dedup *d, uint64_t now_ns)
{
    while (d->count > 0 && record(d, d->first)->time_ns + d->window_ns <= now_ns)
        drop_first(d);
    if (d->count == 0 && d->capacity > 64) { /* a quiet partition keeps no table */
        mp_free(d->ring);
        mp_free(d->slots);
        d->ring = NULL;
        d->slots = NULL;
        d->capacity = d->slots_count = 0;
    }
}

void mp_dedup_undo(struct mp_dedup *d, uint64_t from_seq)
{
    while (d->count > 0 && record(d, d->first + d->count - 1)->seq >= from_seq) {
        table_remove(d, d->first + d->count - 1);
        d->count--;
    }
}
