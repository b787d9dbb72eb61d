/* stream/dedup.h -- the idempotency window of one partition: message id -> sequence.
 *
 * An id is known for `window` after its message was stored; a duplicate does not
 * prolong it (broker-semantics 3). Ids are compared by a 128-bit keyed SipHash alone,
 * never by reading the entry back (storage-design 8). The records stand in a ring in
 * order of time, so expiry takes from the front, and an open-addressing table finds
 * them.
 *
 *   ring:  | hash seq time | hash seq time | ...      table: hash -> number in the ring
 *
 * Bounds: MP_DEDUPE_IDS_MAX each, and a budget of bytes for all partitions together. A
 * window that may not grow forgets its oldest id early, which is counted. One that is
 * small gets its room from the largest, so that shares become equal and nobody loses
 * his window to somebody else's storm.
 *
 * Rebuilt after a start from the entries inside the window. Thread: core (pure).
 */
#ifndef MP_STREAM_DEDUP_H
#define MP_STREAM_DEDUP_H

#include "base/list.h"

#include <memphis/base.h>

struct mp_dedup_record {
    uint64_t hash[2];
    uint64_t seq, time_ns;
};

/* What all partitions share. */
struct mp_dedup_budget {
    uint64_t bytes, bytes_max; /* of all tables but the smallest size */
    uint64_t dropped;          /* ids that went before their time */
    struct mp_list tables;     /* those above the smallest size */
};

struct mp_dedup {
    struct mp_dedup_budget *budget;
    struct mp_list table; /* of the budget's */
    uint64_t key[2];
    uint64_t window_ns;
    struct mp_dedup_record *ring; /* capacity is a power of two */
    uint64_t first, count;        /* numbers of records ever taken out / in the ring */
    uint64_t capacity;
    uint32_t *slots; /* low bits of the number, plus one; 0: empty */
    uint64_t slots_count;
    uint64_t ids_max;
};

void mp_dedup_budget_init(struct mp_dedup_budget *b, uint64_t bytes_max);

/* The budget outlives it. */
void mp_dedup_init(struct mp_dedup *d, struct mp_dedup_budget *b, const uint64_t key[2],
                   uint64_t window_ns, uint64_t ids_max);
void mp_dedup_fini(struct mp_dedup *d);

/* True: the id was stored within the window before now_ns; *seq is its message's. */
bool mp_dedup_find(struct mp_dedup *d, memphis_slice id, uint64_t now_ns,
                   uint64_t *seq);
/* The id is not known; time_ns does not fall. */
void mp_dedup_put(struct mp_dedup *d, memphis_slice id, uint64_t seq, uint64_t time_ns);
/* Forgets what has expired. Called by find and put, and by an idle timer. */
void mp_dedup_expire(struct mp_dedup *d, uint64_t now_ns);
/* Ids of messages from `from_seq` on were never stored (append failed): takes them
 * back. */
void mp_dedup_undo(struct mp_dedup *d, uint64_t from_seq);

#endif
