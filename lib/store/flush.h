/* store/flush.h -- one pass of the flusher: what is committed leaves memory for the
 * partitions' files (storage-design 5, step 3).
 *
 *   core:    a *plan*: per partition that was touched since its last flush the places
 *            of its messages in the chunks, its state, and what its slot will say
 *   worker:  segments, state files -- synced --> meta slots -- synced -->
 *            old state files and dead segments unlinked; the `node` slot with the new
 *            bases -- synced --> WAL files unlinked
 *   core:    the partitions learn of their new segments; the chunks may be evicted
 *
 * A crash between any two of these steps leaves slots of which each describes its
 * files: replay skips what they hold and repeats the rest. What no slot names is a
 * left-over.
 *
 * Thread: built and freed on the core, run on the worker.
 */
#ifndef MP_STORE_FLUSH_H
#define MP_STORE_FLUSH_H

#include "store/chunk.h"
#include "store/memtable.h"
#include "store/segment.h"

enum { MP_FLUSH_ID_ONLY = 1 }; /* in the size of a slot: an entry of type 5 goes out */

struct mp_flush_part {
    uint32_t pid;
    struct mp_memslot *slots;     /* ascending by sequence; sizes are multiples of 8 */
    size_t slots_count;
    struct mp_buf state;          /* a sealed state file; empty: as before */
    struct mp_meta_slot slot;     /* to be written; active_* are filled by the job */
    uint64_t old_state;           /* its file goes; 0: none */
    struct mp_segment *segments;  /* in: the last one, if any; out: that and new ones */
    uint32_t segments_count;
    bool is_new;                  /* no directory yet */
    struct mp_ranges damage;      /* out: old rot in what was sealed */
    uint64_t *dead;               /* first sequences of segments that go */
    uint32_t dead_count;
};

struct mp_flush {
    struct mp_job job;            /* first */
    struct mp_env *env;
    uint32_t shard;
    uint64_t segment_size;
    uint64_t disk_reserve;        /* bytes that stay free when messages are written */
    uint64_t index, time_ns;      /* applied index of the plan; broker time */
    struct mp_flush_part *parts;
    size_t parts_count, parts_capacity;
    struct mp_chunk **chunks;     /* one reference each */
    size_t chunks_count, chunks_capacity;
    bool sync_wal;                /* what was applied may be in the page cache only */
    bool write_node;
    struct mp_node node;          /* with the new bases; generation raised by the job */
    uint64_t *wal_files;          /* bases of those that go */
    size_t wal_files_count;
    memphis_status status;
    memphis_error why;
    uint64_t bytes;               /* out: written to segments */
};

/* Worker: does it all, or stops at the first failure. NO_SPACE, NOMEM: nothing has
 * changed, a later plan does it again; IO. */
void mp_flush_run(struct mp_job *job);

struct mp_flush_part *mp_flush_add(struct mp_flush *f);
void mp_flush_hold(struct mp_flush *f, struct mp_chunk *c); /* repeated ones are fine */
void mp_flush_fini(struct mp_flush *f);

/* The directory of a partition with all that is in it. Missing is fine. */
memphis_status mp_flush_remove(struct mp_env *e, uint32_t shard, uint32_t pid,
                               memphis_error *err);

#endif
