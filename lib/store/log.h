/* store/log.h -- the committed log of one shard: the interface on which streams,
 * metadata and broker stand.
 *
 * A shard is the unit of agreement (design D3): one RAFT group in a cluster, one voter
 * on a standalone broker. It serves many partitions. A standalone broker has shard 1
 * (metadata), shard 2 (data) and shard 3 (memory stations: never written to disk).
 *
 *     append, append ... close_entry        one entry per shard and turn
 *            |
 *            v   one batch for all shards, one write, one sync (on the WAL writer)
 *         durable = committed               (with RAFT: on a majority)
 *            |
 *            v
 *     messages linked into the partition's memtable; sink.apply in log order
 *
 * An append is nothing but a proposal: its effect happens in `apply`, and what is not
 * applied may be lost. What a caller assumes meanwhile (next sequence, reserved ids) is
 * his own to drop when `failed` comes. Reads never go beyond what is committed.
 *
 * Behind it: replica/solo.c now, replica/shard.c with RAFT later. Nothing above level 3
 * knows which.
 *
 * Thread: core. Never blocks (but inline environments, where the work is done at once).
 */
#ifndef MP_STORE_LOG_H
#define MP_STORE_LOG_H

#include "store/chunk.h"
#include "store/record.h"

enum { MP_SHARD_META = 1, MP_SHARD_DATA = 2, MP_SHARD_MEMORY = 3 };

struct mp_log;

/* A stored message: its entry, and the chunk that its slices point into. */
struct mp_stored {
    struct mp_entry entry;
    struct mp_chunk *chunk;       /* one reference, yours: mp_stored_release */
};

struct mp_log_stats {
    uint64_t messages, bytes; /* live; bytes: encoded entries (documented in README) */
    uint64_t first_seq, last_seq; /* first > last: empty */
    uint64_t first_time_ns, last_time_ns; /* broker time; 0: none */
};

/* Callbacks of the shard's owner. They may append, they must not free the log. */
struct mp_log_sink {
    /* One committed append, in log order; the appends of one shard entry come one by
     * one with the same index. own_tag: as given to mp_log_append; 0 at replay, where
     * an entry comes whole. The entries' slices are valid during the call. Message
     * entries are already readable when it is called. */
    void (*apply)(void *ctx, uint64_t index, uint64_t time_ns,
                  const struct mp_entry *entries, size_t n, uint64_t own_tag);
    /* Nothing that was appended and not applied is in the log (NO_SPACE), or its fate
     * is unknown (IO: no more appends will succeed, answer nothing). Once for all of
     * them, so that what is appended from now on is not taken for one; NULL-able. */
    void (*lost)(void *ctx, memphis_status status);
    /* Then, for each of them that has a tag. */
    void (*failed)(void *ctx, uint64_t tag, memphis_status status);
    /* A read of this partition that said MP_PENDING can be asked again. */
    void (*ready)(void *ctx, uint32_t pid);
    /* Flush: encode what state.<index> holds for that partition (TLV items, 4.9); pid
     * 0: the shard's own. Committed effects only. */
    void (*state)(void *ctx, uint32_t pid, struct mp_buf *out);
    /* Start: the state file of that partition, before any replay; pid 0 first.
     * CORRUPT refuses the start. */
    memphis_status (*restore)(void *ctx, uint32_t pid, uint64_t index,
                              memphis_slice state, memphis_error *err);
    /* Message ids of that partition matter from that broker time on; UINT64_MAX: not at
     * all. After `restore` the ids that lie in segments come as ID entries by apply,
     * and segments with such ids are kept although their messages are gone. */
    uint64_t (*ids_since)(void *ctx, uint32_t pid);
    void *ctx;
};

/* Adds entries to the shard's open entry, all or none, together (a chain of one atomic
 * commit lies in one append). Copies everything. MESSAGE entries need pid, seq (the
 * next one of the partition), time. NO_SPACE: refused, messages only; BROKEN: after an
 * I/O error; TOO_BIG: no chunk can hold it; NOMEM. tag > 0 comes back in apply or
 * failed. */
memphis_status mp_log_append(struct mp_log *log, const struct mp_entry *entries,
                             size_t n, uint64_t tag);

/* True when the open entry is full (MP_ENTRY_BYTES_MAX) or log memory is used up: take
 * no more input until something commits. Appends still succeed (settlements,
 * metadata). */
bool mp_log_is_full(const struct mp_log *log);

/* End of a turn: propose the open entry, if there is one. While a batch is in flight it
 * stays open and grows. */
void mp_log_close_entry(struct mp_log *log);
bool mp_log_has_open_entry(const struct mp_log *log);

/* The first stored message at or above `seq`. OK: *out holds a reference. NOT_FOUND:
 * none is committed there. MP_PENDING: it lies on disk and is being fetched, a ready
 * call follows. CORRUPT: a damaged range (logged); out->entry.seq is its last one. */
memphis_status mp_log_read(struct mp_log *log, uint32_t pid, uint64_t seq,
                           struct mp_stored *out);
void mp_stored_release(struct mp_stored *s);

/* Whether that message is stored, as far as is known without a look at the disk. */
bool mp_log_has(const struct mp_log *log, uint32_t pid, uint64_t seq);

/* The first readable one (last + 1: none), and the newest one (0: none ever). */
uint64_t mp_log_first(const struct mp_log *log, uint32_t pid);
uint64_t mp_log_last(const struct mp_log *log, uint32_t pid);
void mp_log_stats(const struct mp_log *log, uint32_t pid, struct mp_log_stats *out);

/* Implementations (replica/) fill this in; everybody else calls the functions above. */
struct mp_log_ops {
    memphis_status (*append)(struct mp_log *, const struct mp_entry *, size_t,
                             uint64_t);
    bool (*is_full)(const struct mp_log *);
    void (*close_entry)(struct mp_log *);
    bool (*has_open_entry)(const struct mp_log *);
    memphis_status (*read)(struct mp_log *, uint32_t, uint64_t, struct mp_stored *);
    bool (*has)(const struct mp_log *, uint32_t, uint64_t);
    uint64_t (*first)(const struct mp_log *, uint32_t);
    uint64_t (*last)(const struct mp_log *, uint32_t);
    void (*stats)(const struct mp_log *, uint32_t, struct mp_log_stats *);
};
struct mp_log {
    const struct mp_log_ops *ops;
    struct mp_log_sink sink;
    uint32_t shard;
};

#endif
