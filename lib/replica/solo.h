/* replica/solo.h -- the inside of mp_replica while every shard has one voter.
 *
 * Each shard collects appends into its open entry (a *record*), closed at the end of a
 * turn. Closed records of all shards form one WAL batch; when it is durable their
 * appends are applied, in log order. A memory shard commits at the end of the turn.
 *
 *   appends:  [ applied | in flight | closed | open ]
 *   records:            [ r r       | r r    ] + open
 *
 * Thread: core.
 */
#ifndef MP_REPLICA_SOLO_H
#define MP_REPLICA_SOLO_H

#include "replica/replica.h"
#include "store/flush.h"
#include "store/partition.h"
#include "store/recover.h"
#include "store/wal.h"

enum { MP_SHARDS = 3 };

/* What one call of mp_log_append put into the log; contiguous in its chunk. */
struct mp_append {
    uint64_t tag;
    struct mp_chunk *chunk;
    uint32_t offset, size;
    uint32_t entries;
};

/* A run of bytes of a record in one chunk. */
struct mp_piece {
    struct mp_chunk *chunk;
    uint32_t offset, size;
};

/* An entry of the shard's log: appends that commit together. */
struct mp_record {
    uint64_t index, time_ns;
    uint64_t bytes;
    uint32_t appends, entries, pieces;
    uint32_t body_crc;
};

/* Queues in arrays: [first, count) are waiting. */
struct mp_append_queue {
    struct mp_append *items;
    size_t first, count, capacity;
};
struct mp_piece_queue {
    struct mp_piece *items;
    size_t first, count, capacity;
};
struct mp_record_queue {
    struct mp_record *items;
    size_t first, count, capacity;
};

struct mp_shard {
    struct mp_log log;            /* first */
    struct mp_replica *replica;
    bool in_memory;               /* never written to the WAL */
    bool has_started;
    bool is_replaying;            /* until the start is over */
    struct mp_partitions partitions;
    struct mp_chunks chunks;
    struct mp_append_queue appends;
    struct mp_piece_queue pieces;
    struct mp_record_queue records;
    struct mp_record open;        /* appends == 0: there is no open entry */
    uint64_t last_index;          /* of the newest closed record */
    uint64_t commit;
    uint64_t replayed_index;      /* a start: where the log ended */
    uint64_t last_time_ns;        /* of the newest closed record: never falls */
    uint32_t in_flight; /* records at the front, in a batch or chosen for it */
    struct mp_entry *scratch;     /* decoded entries of the append being applied */
    size_t scratch_capacity;
    uint32_t applied;             /* entries of it that took effect */
};

/* A WAL file, and the newest entry of each shard that has a record in it. */
struct mp_wal_span {
    uint64_t base;
    uint64_t last_index[MP_SHARDS];
};

/* Sequences lost to damage that was accepted, found by the replay. */
struct mp_lost_range {
    uint32_t pid;
    uint64_t first, last;
};

struct mp_replica {
    struct mp_replica_options o;
    struct mp_clock clock;
    struct mp_wal *wal;           /* NULL: diskless */
    struct mp_recovery recovery;
    struct mp_node node;
    struct mp_shard shards[MP_SHARDS];
    bool broken, closing, is_ready;
    struct mp_cold *cold;         /* NULL: diskless */
    struct mp_worker *flusher;    /* likewise */
    struct mp_flush flush;        /* the pass under way */
    bool is_flushing;
    bool wants_flush;             /* the start left more WAL files than it should */
    bool flush_lacks_space;       /* the last pass met a full disk, or the like */
    bool asked_checkpoint;        /* and has not got it yet */
    uint64_t flush_retry_ns, trim_ns;
    uint64_t flushes, flushed_bytes, damaged_ranges;
    struct mp_wal_span *spans;    /* the WAL files, oldest first */
    size_t spans_count, spans_capacity;
    bool uncovered;               /* the newest batch held something */
    uint64_t batch_ns;            /* broker time of the newest batch */
    uint64_t meta_safe;           /* index of shard 1 that meta.db holds for sure */
    uint64_t replayed;
    uint64_t opened_ns;
    bool has_gap;                 /* the replay met a hole in the log */
    bool lost_table;              /* accepted: which partitions there are is unknown */
    uint32_t accepted;            /* partitions with damaged files, likewise */
    struct mp_lost_range *lost;
    size_t lost_count;
};

struct mp_shard *mp_shard_of(struct mp_replica *r, uint32_t shard);
void mp_shard_init(struct mp_shard *s, struct mp_replica *r, uint32_t id);
void mp_shard_fini(struct mp_shard *s);

/* One committed append (or, at replay, one record): effects first, then the sink. */
memphis_status mp_shard_apply(struct mp_shard *s, uint64_t index, uint64_t time_ns,
                              const struct mp_append *a, memphis_error *err);
/* Closes the open entry, if there is one: it gets its index and time. */
void mp_shard_close(struct mp_shard *s);
/* Applies the records in flight. */
void mp_shard_commit(struct mp_shard *s);
/* Gives all appends that are not committed back to their owners. */
void mp_shard_fail(struct mp_shard *s, memphis_status status);

/* -- start.c -- */

bool mp_replica_has_loss(const struct mp_replica *r); /* of the WAL, accepted */
void mp_replica_add_lost(struct mp_replica *r, uint32_t pid, uint64_t first,
                         uint64_t last);

/* -- files.c: the partitions' files at a start -- */

/* Before the replay of the data shard: all of them, and what the table says. */
memphis_status mp_files_load(struct mp_shard *s, memphis_error *err);
/* A partition whose open entry has been seen goes on with what its files hold. */
memphis_status mp_files_attach(struct mp_shard *s, uint32_t pid, memphis_error *err);
/* Whether its files miss or cannot tell something that nobody has accepted. */
bool mp_files_is_damaged(struct mp_replica *r, const struct mp_partition *p);
/* Behind the replay: what is damaged or missing is told, or accepted. */
memphis_status mp_files_check(struct mp_replica *r, memphis_error *err);

/* -- space.c: memory and WAL files are given back -- */

memphis_status mp_space_open(struct mp_replica *r, memphis_error *err);
void mp_space_stop(struct mp_replica *r); /* ends the threads: their mail is there */
void mp_space_close(struct mp_replica *r);
/* At the end of a turn: starts a pass when memory or WAL ask for it, evicts. */
void mp_space_tick(struct mp_replica *r, uint64_t now_ns);
uint64_t mp_space_next_ns(const struct mp_replica *r);
/* A start, between two records of the log: a pass on this thread when memory is short.
 * Whatever was applied must be durable. */
memphis_status mp_space_flush_now(struct mp_replica *r, memphis_error *err);
/* The same whether it is short or not, with the losses that were accepted. */
memphis_status mp_space_flush_all(struct mp_replica *r, memphis_error *err);
/* Messages must wait for the flusher; or are refused, since it cannot go on. */
bool mp_space_is_short(const struct mp_shard *s);
bool mp_space_refuses(const struct mp_shard *s);
/* The batch being built holds entries of that shard up to `index`. */
void mp_space_note_batch(struct mp_replica *r, uint32_t shard, uint64_t index);
/* A WAL file that a start has found. */
void mp_space_note_file(struct mp_replica *r, uint64_t base, uint32_t shard,
                        uint64_t index);

/* The heads of all shards in the WAL; returns how many. */
uint32_t mp_replica_heads(const struct mp_replica *r, struct mp_head heads[MP_SHARDS]);
/* Breaks the broker: the fate of what waits is unknown. */
void mp_replica_break(struct mp_replica *r, const memphis_error *why);
/* The WAL says that the batch in flight is durable, or that its fate is unknown. */
void mp_replica_done(void *ctx, memphis_status status, const memphis_error *why);
/* Builds a batch of what is closed; `bytes` is what mp_replica_batch_size said. */
uint64_t mp_replica_batch_size(struct mp_replica *r, uint32_t *records);
void mp_replica_build(struct mp_replica *r, uint64_t size, uint32_t records);

#endif
