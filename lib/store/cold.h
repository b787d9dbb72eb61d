/* store/cold.h -- reading what is not in memory any more: blocks of segments, fetched
 * by a worker, kept until their share of memory is needed for others.
 *
 *   mp_log_read -> partition: not in the memtable -> block here? -> yes: served from it
 *                                                               -> no: want, PENDING
 *   worker "mp-read": pread, checksums -> core: block kept, `ready` -> read again
 *
 * The core never waits for a disk. Wishes are served in the order in which they came,
 * so that one fast reader does not starve the others. The least recently used block
 * goes first; a reader that still holds a message of it keeps its bytes alive. What
 * cannot be read for want of memory or descriptors is tried again after a second.
 *
 * Thread: core; the job runs on its worker.
 */
#ifndef MP_STORE_COLD_H
#define MP_STORE_COLD_H

#include "base/list.h"
#include "base/logger.h"
#include "store/log.h"
#include "store/segment.h"

struct mp_cold;

/* What a partition has here. Zero-initialise. */
struct mp_cold_set {
    struct mp_list blocks;        /* the most recently used one first */
    struct mp_list wishes;        /* asked for, not read yet */
};

struct mp_cold_options {
    struct mp_env *env;
    struct mp_logger *logger;
    uint32_t shard;
    uint64_t bytes_max;
    /* A wanted read has come to its end: the partition can be asked again. Before, when
     * something was damaged: sequences first..last cannot be read. */
    void (*ready)(void *ctx, uint32_t pid);
    void (*damaged)(void *ctx, uint32_t pid, uint64_t first, uint64_t last,
                    const memphis_error *why);
    /* A read did not come to its end (its guard): nothing is read any more. */
    void (*failed)(void *ctx, const memphis_error *why);
    void *ctx;
};

memphis_status mp_cold_new(const struct mp_cold_options *o, struct mp_cold **out,
                           memphis_error *err);
void mp_cold_stop(struct mp_cold *c); /* ends the thread; its mail is in the mailbox */
void mp_cold_free(struct mp_cold *c); /* NULL-safe; sets must have been forgotten */

/* OK: *out is the first message at or above `seq` that a block knows of. NOT_FOUND: a
 * block says that there is none up to *empty_to. MP_PENDING: no block has `seq`. */
memphis_status mp_cold_find(struct mp_cold *c, struct mp_cold_set *set, uint64_t seq,
                            struct mp_stored *out, uint64_t *empty_to);
/* Fetches the block of `segment` that begins at the first entry at or above `seq`. */
void mp_cold_want(struct mp_cold *c, struct mp_cold_set *set, uint32_t pid,
                  const struct mp_segment *segment, uint64_t seq);
/* Once a turn, and when it is next_ns: a read that could not be made is tried again. */
void mp_cold_tick(struct mp_cold *c, uint64_t now_ns);
uint64_t mp_cold_next_ns(const struct mp_cold *c); /* UINT64_MAX: never */
/* The partition goes away, or its files do: blocks and wishes are dropped. */
void mp_cold_forget(struct mp_cold *c, struct mp_cold_set *set);
uint64_t mp_cold_bytes(const struct mp_cold *c);

#endif
