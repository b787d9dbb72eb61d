/* store/memtable.h -- the messages of one partition that are in memory.
 *
 * A ring of {chunk, offset, size}, 16 bytes each, indexed by sequence: what is appended
 * in order needs no search. Holes (deleted messages, skipped sequences) are empty.
 *
 *         base                       end
 *          |                          |       slot of s = slots[s mod capacity]
 *   -------[ m m - m m m - - m m m m ]-------> sequence
 *
 * A slot stands for one live entry of its chunk: dropping it may free the chunk.
 * Invariant: base is live, or the table is empty. Thread: core.
 */
#ifndef MP_STORE_MEMTABLE_H
#define MP_STORE_MEMTABLE_H

#include "store/chunk.h"

struct mp_memslot {
    struct mp_chunk *chunk;   /* NULL: a hole */
    uint32_t offset, size;    /* of the encoded entry */
};

struct mp_memtable {
    struct mp_memslot *slots; /* NULL when it never held anything, or was emptied */
    uint64_t base, end;       /* base == end: empty */
    uint32_t capacity;        /* a power of two */
    uint32_t live;            /* slots that are no holes */
    uint64_t bytes;           /* of them */
};

void mp_memtable_fini(struct mp_memtable *m);  /* drops everything */

/* `seq` >= end. Takes one live entry of the chunk over. */
void mp_memtable_put(struct mp_memtable *m, uint64_t seq, struct mp_chunk *c,
                     uint32_t offset, uint32_t size);
void mp_memtable_drop(struct mp_memtable *m, uint64_t seq);  /* a hole is fine */
void mp_memtable_trim(struct mp_memtable *m, uint64_t first); /* drops what is below */
/* Gives the slot back when it still points into `c`: eviction of a chunk. */
void mp_memtable_evict(struct mp_memtable *m, uint64_t seq, const struct mp_chunk *c);

/* The live one of exactly that sequence; NULL: a hole, or not here. */
const struct mp_memslot *mp_memtable_get(const struct mp_memtable *m, uint64_t seq);
/* The first live one at or above *seq, which is set to its sequence; NULL: none. */
const struct mp_memslot *mp_memtable_next(const struct mp_memtable *m, uint64_t *seq);

#endif
