#include "base/map.h"

#include "base/assert.h"
#include "base/buf.h"
#include "base/mem.h"
#include "base/str.h"

enum { SLOTS_MIN = 8 };

/* -- SipHash (Aumasson, Bernstein 2012) ----------------------------------------------
 *
 * 2-4 is what the authors recommend; 1-3 is enough where no hash leaves the process. */

static inline uint64_t rotate(uint64_t x, uint32_t n)
{
    return x << n | x >> (64 - n);
}

static inline void sip_rounds(uint64_t v[4], uint32_t n)
{
    while (n-- > 0) {
        v[0] += v[1];
        v[1] = rotate(v[1], 13) ^ v[0];
        v[0] = rotate(v[0], 32);
        v[2] += v[3];
        v[3] = rotate(v[3], 16) ^ v[2];
        v[0] += v[3];
        v[3] = rotate(v[3], 21) ^ v[0];
        v[2] += v[1];
        v[1] = rotate(v[1], 17) ^ v[2];
        v[2] = rotate(v[2], 32);
    }
}

static inline void sip_absorb(uint64_t v[4], uint64_t word, uint32_t rounds)
{
    v[3] ^= word;
    sip_rounds(v, rounds);
    v[0] ^= word;
}

static inline void sip_init(uint64_t v[4], const uint64_t key[2])
{
    v[0] = key[0] ^ 0x736f6d6570736575;
    v[1] = key[1] ^ 0x646f72616e646f6d;
    v[2] = key[0] ^ 0x6c7967656e657261;
    v[3] = key[1] ^ 0x7465646279746573;
}

/* Everything between start and finalization, with `rounds` for each word. */
static inline void sip_update(uint64_t v[4], const void *data, size_t size,
                              uint32_t rounds)
{
    const uint8_t *p = data;
    uint64_t last = (uint64_t)size << 56;

    for (; size >= 8; size -= 8, p += 8)
        sip_absorb(v, mp_get_u64(p), rounds);
    for (size_t i = 0; i < size; i++)
        last |= (uint64_t)p[i] << 8 * i;
    sip_absorb(v, last, rounds);
}

static inline uint64_t sip_sum(const uint64_t v[4])
{
    return v[0] ^ v[1] ^ v[2] ^ v[3];
}

uint64_t mp_siphash(const uint64_t key[2], const void *data, size_t size)
{
    uint64_t v[4];

    sip_init(v, key);
    sip_update(v, data, size, 1);
    v[2] ^= 0xff;
    sip_rounds(v, 3);
    return sip_sum(v);
}

void mp_siphash128(const uint64_t key[2], const void *data, size_t size,
                   uint64_t out[2])
{
    uint64_t v[4];

    sip_init(v, key);
    v[1] ^= 0xee;
    sip_update(v, data, size, 2);
    v[2] ^= 0xee;
    sip_rounds(v, 4);
    out[0] = sip_sum(v);
    v[1] ^= 0xdd;
    sip_rounds(v, 4);
    out[1] = sip_sum(v);
}

/* -- map --------------------------------------------------------------------------- */

/* An empty key may come without an address, which would mark a removed item. */
static memphis_slice with_address(memphis_slice key)
{
    return key.data != NULL ? key : (memphis_slice){ "", 0 };
}

/* Slot of the item with that key, or the free slot where the search ended. The slot of
 * a removed item stays in use until the next rebuild, so that searches walk past it. */
static uint32_t slot_of(const struct mp_map *m, memphis_slice key, uint64_t hash)
{
    uint32_t mask = m->slots_count - 1;
    uint32_t at = (uint32_t)hash & mask;

    for (; m->slots[at] != 0; at = (at + 1) & mask) {
        const struct mp_map_item *item = &m->items[m->slots[at] - 1];
        if (item->hash == hash && item->key.data != NULL &&
            mp_slice_equal(item->key, key))
            break;
    }
    return at;
}

static uint64_t hash_of(const struct mp_map *m, memphis_slice key)
{
    return mp_siphash(m->key, key.data, key.size);
}

static struct mp_map_item *find_item(const struct mp_map *m, memphis_slice key,
                                     uint64_t hash)
{
    if (m->count == 0)
        return NULL;
    uint32_t at = slot_of(m, key, hash);
    return m->slots[at] != 0 ? &m->items[m->slots[at] - 1] : NULL;
}

static void append(struct mp_map *m, memphis_slice key, void *value, uint64_t hash)
{
    uint32_t at = slot_of(m, key, hash);

    m->items[m->items_count] = (struct mp_map_item){ key, value, hash };
    m->slots[at] = ++m->items_count;
    m->count++;
}

/* Moves the live items into a fresh table that is at most half full, with the holes
 * gone. Items and slots share one block, which starts at the items. */
static void rebuild(struct mp_map *m)
{
    uint32_t slots_count = SLOTS_MIN;

    while (slots_count / 4 < m->count / 2 + 1) {
        mp_assert(slots_count < UINT32_C(1) << 31);
        slots_count *= 2;
    }
    uint32_t capacity = slots_count / 4 * 3; /* searches stay short */
    size_t items_size = capacity * sizeof(struct mp_map_item);
    void *block = mp_alloc(items_size + slots_count * sizeof(uint32_t));
    struct mp_map before = *m;

    m->items = block;
    m->items_count = m->count = 0;
    m->items_capacity = capacity;
    m->slots = (uint32_t *)(void *)((char *)block + items_size);
    m->slots_count = slots_count;
    for (uint32_t i = 0; i < before.items_count; i++) {
        const struct mp_map_item *item = &before.items[i];
        if (item->key.data != NULL)
            append(m, item->key, item->value, item->hash);
    }
    mp_free(before.items);
}

void mp_map_seed(struct mp_map *m, uint64_t k0, uint64_t k1)
{
    mp_assert(m->count == 0);
    m->key[0] = k0;
    m->key[1] = k1;
}

void mp_map_fini(struct mp_map *m)
{
    mp_free(m->items);
    *m = (struct mp_map){ .key = { m->key[0], m->key[1] } };
}

void *mp_map_find(const struct mp_map *m, memphis_slice key)
{
    const struct mp_map_item *item = find_item(m, key, hash_of(m, key));

    return item != NULL ? item->value : NULL;
}

void *mp_map_put(struct mp_map *m, memphis_slice key, void *value)
{
    mp_assert(value != NULL);
    key = with_address(key);
    uint64_t hash = hash_of(m, key);
    struct mp_map_item *item = find_item(m, key, hash);
    if (item != NULL) {
        void *old = item->value;
        item->key = key; /* the old bytes may go with the old value */
        item->value = value;
        return old;
    }
    if (m->items_count == m->items_capacity)
        rebuild(m);
    append(m, key, value, hash);
    return NULL;
}

void *mp_map_remove(struct mp_map *m, memphis_slice key)
{
    struct mp_map_item *item = find_item(m, key, hash_of(m, key));

    if (item == NULL)
        return NULL;
    void *value = item->value;
    item->key.data = NULL;
    item->value = NULL;
    if (--m->count == 0)
        mp_map_fini(m); /* an empty map owns no memory */
    return value;
}

bool mp_map_behind(const struct mp_map *m, memphis_slice key, uint32_t *at)
{
    const struct mp_map_item *item = find_item(m, key, hash_of(m, key));

    if (item != NULL)
        *at = (uint32_t)(item - m->items) + 1;
    return item != NULL;
}

void *mp_map_next(const struct mp_map *m, uint32_t *at)
{
    while (*at < m->items_count) {
        const struct mp_map_item *item = &m->items[(*at)++];
        if (item->key.data != NULL)
            return item->value;
    }
    return NULL;
}
