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

static void drop_first(struct mp_dedup *d)
{
    table_remove(d, d->first);
    d->first++;
    d->count--;
}

/* === Tables === */

enum { CAPACITY_MIN = 64 };

static uint64_t bytes_of(uint64_t capacity)
{
    return capacity > CAPACITY_MIN
               ? capacity * (sizeof(struct mp_dedup_record) + 2 * sizeof(uint32_t))
               : 0;
}

/* To hold `capacity` ids, a power of two not below their number; 0: no table. */
static void resize(struct mp_dedup *d, uint64_t capacity)
{
    struct mp_dedup_record *ring =
        capacity > 0 ? mp_realloc(NULL, capacity * sizeof(*ring)) : NULL;

    for (uint64_t n = d->first; n < d->first + d->count; n++)
        ring[n & (capacity - 1)] = *record(d, n);
    mp_free(d->ring);
    mp_free(d->slots);
    d->budget->bytes += bytes_of(capacity) - bytes_of(d->capacity);
    d->ring = ring;
    d->capacity = capacity;
    d->slots_count = capacity * 2;
    d->slots = capacity > 0 ? mp_alloc(d->slots_count * sizeof(*d->slots)) : NULL;
    for (uint64_t n = d->first; n < d->first + d->count; n++)
        table_put(d, n);
    if (capacity <= CAPACITY_MIN)
        mp_list_remove(&d->table);
    else if (!mp_list_is_linked(&d->table))
        mp_list_push_back(&d->budget->tables, &d->table);
}

static void forget_early(struct mp_dedup *d, uint64_t count)
{
    d->budget->dropped += count;
    for (; count > 0; count--)
        drop_first(d);
}

static struct mp_dedup *largest(const struct mp_dedup_budget *b)
{
    struct mp_dedup *most = NULL;

    for (struct mp_list *l = b->tables.next; l != &b->tables; l = l->next) {
        struct mp_dedup *d = mp_container_of(l, struct mp_dedup, table);
        if (most == NULL || d->capacity > most->capacity)
            most = d;
    }
    return most;
}

/* Twice the room, if need be at the cost of whoever has more than that. False: the
 * budget does not allow it. */
static bool grow(struct mp_dedup *d)
{
    struct mp_dedup_budget *b = d->budget;
    uint64_t capacity = d->capacity > 0 ? d->capacity * 2 : CAPACITY_MIN;
    uint64_t more = bytes_of(capacity) - bytes_of(d->capacity);

    while (more > 0 && b->bytes + more > b->bytes_max) {
        struct mp_dedup *from = largest(b);
        if (from == NULL || from->capacity <= capacity)
            return false;
        if (from->count > from->capacity / 2)
            forget_early(from, from->count - from->capacity / 2);
        resize(from, from->capacity / 2);
    }
    resize(d, capacity);
    return true;
}

/* === Public === */

void mp_dedup_budget_init(struct mp_dedup_budget *b, uint64_t bytes_max)
{
    *b = (struct mp_dedup_budget){ .bytes_max = bytes_max };
    mp_list_init(&b->tables);
}

void mp_dedup_init(struct mp_dedup *d, struct mp_dedup_budget *b, const uint64_t key[2],
                   uint64_t window_ns, uint64_t ids_max)
{
    mp_assert(ids_max > 0 && ids_max < 1u << 31);
    memset(d, 0, sizeof(*d));
    d->budget = b;
    d->key[0] = key[0];
    d->key[1] = key[1];
    d->window_ns = window_ns;
    d->ids_max = ids_max;
}

void mp_dedup_fini(struct mp_dedup *d)
{
    d->count = 0;
    if (d->budget != NULL)
        resize(d, 0);
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
    if (d->count == d->ids_max || (d->count == d->capacity && !grow(d)))
        forget_early(d, 1);
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
    uint64_t capacity = d->capacity;
    while (capacity > CAPACITY_MIN && d->count < capacity / 8)
        capacity /= 2;
    if (d->count == 0)
        capacity = 0;
    if (capacity < d->capacity) /* what is not used is for others */
        resize(d, capacity);
}

void mp_dedup_undo(struct mp_dedup *d, uint64_t from_seq)
{
    while (d->count > 0 && record(d, d->first + d->count - 1)->seq >= from_seq) {
        table_remove(d, d->first + d->count - 1);
        d->count--;
    }
}
