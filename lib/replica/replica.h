/* replica/replica.h -- all local shards of one broker over one data directory.
 *
 * Opens the store (WAL, segments, recovery), registers a sink per shard, replays, and
 * from then on turns appends into commits. Standalone: shards 1 (meta), 2 (data) and 3
 * (memory), one voter each: committed = durable in the own WAL. Without a data
 * directory all three commit at the end of the turn.
 *
 * Order of a start: mp_replica_open (lock, scan, verdicts; nothing applied) ->
 * mp_replica_start(META) -> mp_replica_start(DATA) -> ... mp_replica_ready: the closing
 * batch of the recovery is durable, listeners may open. Thread: core.
 */
#ifndef MP_REPLICA_REPLICA_H
#define MP_REPLICA_REPLICA_H

#include "base/logger.h"
#include "env/env.h"
#include "store/log.h"

struct mp_replica;

struct mp_replica_options {
    struct mp_env *env; /* with its mailbox set */
    struct mp_logger *logger;
    bool diskless;       /* no WAL at all */
    bool accept_loss;    /* keep all that verifies (storage-design 11) */
    uint64_t memory_max; /* log chunks take 1/2, cold reads 1/8 of it */
    uint64_t disk_reserve; /* bytes that stay free; a start may take of them */
    uint32_t sync, sync_interval_ms; /* MEMPHIS_SYNC_* */
    uint32_t spin_us;                /* of the WAL writer */
    void (*broken)(void *ctx,
                   const memphis_error *why); /* once: I/O error, core thread */
    /* The WAL wants space back that shard 1 holds: see mp_replica_meta_safe. */
    void (*checkpoint)(void *ctx);
    /* An accepted start: calls fn with the open entry of each partition that should be
     * on disk, since what told of it may be among the losses. NULL: nobody knows. */
    void (*partitions)(void *ctx, void (*fn)(void *to, const struct mp_entry *open),
                       void *to);
    void *ctx;
    /* Sizes for tests that want many files soon; 0: as in base/limits.h. */
    uint64_t wal_file_min, wal_file_max, wal_total_max, segment_size;
    uint32_t chunk_size;
};

/* What a start found; for the log line and the daemon's first lines. */
struct mp_recovery_report {
    bool fresh;        /* a new, empty store */
    bool clean;        /* the last stop was clean */
    uint64_t messages; /* live, all partitions */
    uint64_t entries_replayed;
    uint64_t torn_bytes;  /* dropped tail, never acknowledged */
    uint64_t lost_ranges; /* accepted with accept_loss */
    uint64_t milliseconds;
};

/* Locks and scans. BUSY: open elsewhere. INVALID: a foreign directory. CORRUPT: damage,
 * the text names file, offset and length. VERSION: written by a newer release. */
memphis_status mp_replica_open(const struct mp_replica_options *o,
                               struct mp_replica **out, memphis_error *err);
struct mp_log *mp_replica_log(struct mp_replica *r, uint32_t shard);
/* As the start has found it: the log of that shard begins behind this index, and its
 * owner must have what was before. */
uint64_t mp_replica_base(const struct mp_replica *r, uint32_t shard);
struct mp_clock *mp_replica_clock(struct mp_replica *r);

/* Restores states and replays the shard into its sink (log->sink must be set). */
memphis_status mp_replica_start(struct mp_replica *r, uint32_t shard,
                                memphis_error *err);
/* After the start of shard 1: meta.db has everything up to `index`. True: the log has
 * lost its end (a power cut without sync, accepted damage) and goes on behind that;
 * then it must be safe in meta.db before mp_replica_ready. In a directory without
 * `node` all is lost but that: the next mp_replica_start says so. */
bool mp_replica_meta_ahead(struct mp_replica *r, uint64_t index);
/* Ends the recovery: writes the closing batch and waits for it (blocks: start only). */
memphis_status mp_replica_ready(struct mp_replica *r, struct mp_recovery_report *report,
                                memphis_error *err);

/* End of a turn, after mp_log_close_entry of every shard: hands one batch to the WAL
 * when none is in flight; starts a flush when memory or WAL space asks for it. */
void mp_replica_submit(struct mp_replica *r, uint64_t now_ns);
bool mp_replica_is_idle(
    const struct mp_replica *r); /* nothing open, nothing in flight */

/* Highest index of the metadata shard that is safe in meta.db (a completed checkpoint):
 * WAL files below it may be recycled. */
void mp_replica_meta_safe(struct mp_replica *r, uint64_t index);

/* For the operator and for tests; bytes but where the name says otherwise. */
struct mp_replica_stats {
    uint64_t log_bytes, unflushed_bytes; /* chunks of the disk shards */
    uint64_t memory_bytes;               /* chunks of memory stations */
    uint64_t cold_bytes;                 /* blocks read from segments */
    uint64_t wal_bytes, wal_files;
    uint64_t flushes, flushed_bytes;     /* since the start */
    uint64_t damaged_ranges;             /* found by reads since the start */
};
void mp_replica_stats(const struct mp_replica *r, struct mp_replica_stats *out);

/* Next time in broker ns at which mp_replica_submit has something to do by itself (a
 * cover batch, an entry that an apply has opened since); UINT64_MAX: nothing. */
uint64_t mp_replica_next_ns(const struct mp_replica *r);

/* Clean stop: last batch, clean flag, unlock. Blocks, and drains the mailbox of the
 * environment. Every mp_stored must have been released. After `broken` nothing is
 * written, the next start recovers as after a crash. NULL-safe. */
void mp_replica_close(struct mp_replica *r);

#endif
