/* store/partition.h -- the partitions of one shard: what each holds, and what the
 * entries of the log do to it.
 *
 * Messages, floors, deletes, skips, damage, open and drop change a partition at commit,
 * in log order, and at replay in the same way (storage-design 4.8). Everything else is
 * the business of the shard's sink.
 *
 *    floor        memtable.base     flushed_seq        last
 *      |               |                 |               |
 *   ---[ segments only | segments, cached| memory only   ]---> sequence
 *
 * A sequence from floor to last is a message, or *dead* (deleted, skipped, never
 * there), or damaged. Messages at or below flushed_seq are in a segment; those that the
 * memtable has, too, are read from there. The rest is read in blocks by store/cold.h.
 *
 * Partition 0 is the shard itself: it is always there, and its state file holds the
 * table of the others. Messages for a partition that is not open (dropped by an earlier
 * entry) are ignored. Thread: core.
 */
#ifndef MP_STORE_PARTITION_H
#define MP_STORE_PARTITION_H

#include "store/cold.h"
#include "store/log.h"
#include "store/memtable.h"
#include "store/ranges.h"
#include "store/segment.h"

/* A message that died before it reached a segment, but whose id must be remembered. */
struct mp_dead_id {
    uint64_t seq;
    struct mp_memslot slot;       /* a live entry of its chunk, until the next flush */
};

struct mp_partition {
    uint32_t pid;
    uint32_t config_version, number, station;
    struct mp_buf settings;       /* TLV, as in its partition entry */
    uint64_t floor;               /* first sequence that may be live */
    uint64_t last;                /* highest committed; 0: none ever */
    uint64_t bytes;               /* of the live messages; in the head segment of a
                                     partition that was trimmed: by its average */
    struct mp_memtable memtable;
    struct mp_ranges dead;        /* from floor to last, no message there */
    struct mp_ranges damage;      /* likewise, declared lost */
    struct mp_ranges unreadable;  /* likewise, found by reads of this run: a file may
                                     be restored before the next one */
    struct mp_dead_id *dead_ids;  /* ascending */
    size_t dead_ids_count, dead_ids_capacity;

    struct mp_segment *segments;  /* ascending; the last one may be active */
    uint32_t segments_count, segments_capacity;
    struct mp_cold_set cold;
    uint64_t flushed_seq;         /* all up to here are in segments, or dead */
    uint64_t flushed_index;       /* effects of shard entries up to here are in files */
    uint64_t touched_index;       /* newest entry that changed something here */
    uint64_t state_index;         /* names the state file; 0: none */
    uint64_t generation;          /* of the newest valid meta slot; 0: none */
    bool has_directory;           /* or a pass that did not end may have made it */
    bool must_flush;              /* a pass did not end here: it is done again */
    bool is_attached;             /* a start: its state went to the sink */
    bool keeps_ids;               /* the shard has files: dead_ids go there */

    /* A start: its files, until it is known whether the partition still exists. */
    struct mp_buf loaded_state;   /* items of the state file */
    uint64_t logged_seq;          /* from it on the log has all messages; 0: unknown */
    uint64_t seen;                /* newest sequence behind a hole of the log */
    uint64_t missing_last;        /* newest sequence of a segment that is missing */
    memphis_error damaged;        /* status OK: all files are as they should be */
    bool is_old;                  /* its newest slot is damaged */
    bool is_rebuilt;              /* its files were found without a slot */
    bool damage_is_range;         /* ... but for sequences that may be declared lost */
    bool is_accepted;             /* and the operator has accepted it */
    bool is_guessed;              /* neither table nor log has opened it, so far */
};

struct mp_partitions {
    struct mp_partition **slots;  /* open addressing by pid */
    uint32_t slots_count;         /* a power of two, or 0 */
    uint32_t count;
    struct mp_partition *newest;  /* the last one found: appends come in runs */
    struct mp_cold *cold;         /* NULL: the shard has no files */
    struct mp_partition **loaded; /* a start: with files, not opened yet */
    uint32_t loaded_count;
    bool has_dead_segments;       /* somewhere a floor has passed a whole one */
    uint32_t *dropped;            /* pids whose directories are to be removed */
    uint32_t dropped_count;
};

void mp_partitions_fini(struct mp_partitions *t);
struct mp_partition *mp_partitions_find(const struct mp_partitions *t, uint32_t pid);
struct mp_partition *mp_partitions_add(struct mp_partitions *t, uint32_t pid);
/* Walks all of them: for (i = 0; (p = mp_partitions_next(t, &i)) != NULL;) */
struct mp_partition *mp_partitions_next(const struct mp_partitions *t, uint32_t *at);
/* A partition of its own, in no table; and a start's: it waits for its open entry. */
struct mp_partition *mp_partition_new(uint32_t pid);
void mp_partition_free(struct mp_partition *p, struct mp_cold *cold);
void mp_partitions_note_dropped(struct mp_partitions *t, uint32_t pid);
void mp_partitions_keep_loaded(struct mp_partitions *t, struct mp_partition *p);

/* Where the encoded entry lies; its chunk counts it as live. */
struct mp_place {
    struct mp_chunk *chunk;
    uint32_t offset, size;
};

/* The effect of a committed entry of shard entry `index`. *kept: the partition took the
 * live entry over, else the caller drops it. CORRUPT: the payload is malformed, or the
 * sequence goes back. */
memphis_status mp_partitions_apply(struct mp_partitions *t, const struct mp_entry *e,
                                   const struct mp_place *at, uint64_t index,
                                   bool *kept, memphis_error *err);
/* Replay: whether the entry's effect is in the files already. */
bool mp_partitions_has_flushed(const struct mp_partitions *t, const struct mp_entry *e,
                               uint64_t index);

/* As mp_log_read and its relatives. */
memphis_status mp_partition_read(struct mp_partition *p, struct mp_cold *cold,
                                 uint64_t seq, struct mp_stored *out);
bool mp_partition_has(const struct mp_partition *p, uint64_t seq);
uint64_t mp_partition_first(const struct mp_partition *p);
void mp_partition_stats(const struct mp_partition *p, struct mp_log_stats *out);
/* Sequences first..last cannot be read: from now on reads say so. */
void mp_partition_damage(struct mp_partition *p, uint64_t first, uint64_t last);
/* The same for this run only, and only up to the last sequence there is. */
void mp_partition_lose(struct mp_partition *p, uint64_t first, uint64_t last);
/* What files say of that sequence and of those above is forgotten: the log tells it. */
void mp_partition_cut(struct mp_partition *p, uint64_t seq);

/* What is flushed holds the ids, too. */
void mp_partition_forget_ids(struct mp_partition *p);
/* Sets has_dead_segments as it is now. */
void mp_partitions_check_dead(struct mp_partitions *t);

/* All messages of a chunk that are flushed leave the memtables: it is freed when its
 * last reader lets go. */
void mp_partitions_evict(struct mp_partitions *t, struct mp_chunk *c);

/* The store's own items of a state file (storage-design 4.9). */
void mp_partition_state_put(const struct mp_partition *p, struct mp_buf *out);
/* For a pass that writes the slots of all partitions which were touched. */
void mp_partitions_table_put(const struct mp_partitions *t, struct mp_buf *out);
/* Fills dead and damage from the items. CORRUPT; UNSUPPORTED: one of them is unknown
 * (the sink need not look for that again). */
memphis_status mp_partition_state_take(struct mp_partition *p, memphis_slice items,
                                       memphis_error *err);
/* A row of the table as the entry that opened it; `payload` holds its bytes. */
bool mp_partitions_table_row(memphis_slice row, struct mp_entry *out, bool *has_files,
                             struct mp_buf *payload);

/* Payload of a damage or skip entry. */
void mp_damage_payload(uint64_t first, uint64_t last, uint8_t out[16]);

#endif
