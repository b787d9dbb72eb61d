/* base/map.h -- hash map from bytes to a pointer; iteration in order of insertion.
 *
 * Open addressing over an array of items in insertion order; SipHash with a random key
 * per map, so that names chosen by clients cannot make it slow. The map borrows the key
 * bytes: they must live as long as the item (usually they are part of the value).
 * Zero-initialise; an empty map owns no memory. Thread: core of its owner (pure).
 */
#ifndef MP_BASE_MAP_H
#define MP_BASE_MAP_H

#include <memphis/base.h>

struct mp_map_item {
    memphis_slice key;   /* data NULL: a removed item */
    void *value;
    uint64_t hash;
};

struct mp_map {
    struct mp_map_item *items; /* in order of insertion, with holes */
    uint32_t *slots;           /* item number + 1; 0: empty */
    uint32_t items_count;      /* holes included */
    uint32_t items_capacity;
    uint32_t slots_count;      /* a power of two */
    uint32_t count;            /* live items */
    uint64_t key[2];
};

void mp_map_seed(struct mp_map *m, uint64_t k0, uint64_t k1); /* before the first put */
void mp_map_fini(struct mp_map *m);
void *mp_map_find(const struct mp_map *m, memphis_slice key);  /* NULL: none */
/* The value before, or NULL. `value` is not NULL. */
void *mp_map_put(struct mp_map *m, memphis_slice key, void *value);
void *mp_map_remove(struct mp_map *m, memphis_slice key);      /* the value or NULL */

/* for (uint32_t i = 0; (v = mp_map_next(m, &i)) != NULL;) ... Removing the current
 * item inside the loop is allowed, putting is not. */
void *mp_map_next(const struct mp_map *m, uint32_t *at);
/* *at for what follows that key; false: it is not there. */
bool mp_map_behind(const struct mp_map *m, memphis_slice key, uint32_t *at);

/* SipHash-1-3 for tables, and SipHash-2-4 with 128 bits. */
uint64_t mp_siphash(const uint64_t key[2], const void *data, size_t size);
void mp_siphash128(const uint64_t key[2], const void *data, size_t size,
                   uint64_t out[2]);

#endif
