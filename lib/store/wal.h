/* store/wal.h -- the write-ahead log: one for all shards of a data directory.
 *
 * A batch holds the records of every shard that has something, and is one write and one
 * sync on the writer's thread. One batch is in flight at a time:
 *
 *   core:    mp_wal_begin -> mp_wal_add ... -> mp_wal_post            done(OK) -> next
 *   writer:                               [rename next] write, sync --^
 *   preparer:  wal/next: zeros, header, sync -------------------------- ready
 *
 * Files are prepared ahead, as `wal/next`, by a worker of their own: all blocks written
 * and synced, so that a batch needs no metadata of the file system; a file that a flush
 * has left as `wal/spare` is taken over as it is. At a roll the
 * writer renames it and syncs the directory before the first batch of the file.
 *
 * Rules that make recovery possible (storage-design 5.1, 11.1): a batch starts on a
 * block boundary, carries its own LSN, the epoch of its file, and `durable_upto`; the
 * first record of each batch is the heads. Nothing is ever written behind a batch that
 * is not durable (sync: always).
 *
 * Thread: core; the jobs run on the workers.
 */
#ifndef MP_STORE_WAL_H
#define MP_STORE_WAL_H

#include "base/logger.h"
#include "env/env.h"
#include "store/layout.h"

struct mp_wal;

enum { MP_SYNC_ALWAYS = 0, MP_SYNC_INTERVAL = 1, MP_SYNC_NONE = 2 };

struct mp_wal_options {
    struct mp_env *env;
    struct mp_logger *logger;
    uint32_t sync, sync_interval_ms;
    uint32_t spin_us;              /* of the writer */
    uint64_t file_min, file_max;   /* sizes; a larger batch gets a file of its own */
    uint64_t disk_reserve;         /* bytes that stay free; a start may take of them */
    /* The batch in flight is durable (as `sync` says), or its fate is unknown (IO). */
    void (*done)(void *ctx, memphis_status status, const memphis_error *why);
    void *ctx;
};

memphis_status mp_wal_new(const struct mp_wal_options *o, struct mp_wal **out,
                          memphis_error *err);
/* Ends the threads; what they had is finished, and its mail is in the mailbox. From
 * then on files are made on this thread. */
void mp_wal_stop(struct mp_wal *w);
void mp_wal_free(struct mp_wal *w);  /* NULL-safe; drain the mailbox before */

/* Makes the file that this run begins with, at LSN `base` behind the one at
 * `base_before`, with room for a batch of `batch_size`. `durable_upto` is what the
 * first batch will carry. Blocks: start only. */
memphis_status mp_wal_create(struct mp_wal *w, uint64_t base, uint64_t base_before,
                             uint64_t durable_upto, uint64_t batch_size,
                             memphis_error *err);

/* Whether a batch can be built now: none is in flight, and there is a file with room
 * for `size` bytes. */
bool mp_wal_can_take(const struct mp_wal *w, uint64_t size);
/* Likewise; otherwise a file is prepared, as far as that is possible. */
bool mp_wal_has_room(struct mp_wal *w, uint64_t size, uint64_t now_ns);
bool mp_wal_is_busy(const struct mp_wal *w);        /* a batch is in flight */
bool mp_wal_is_out_of_space(const struct mp_wal *w); /* no next file can be made now */
bool mp_wal_is_stuck(const struct mp_wal *w, uint64_t size); /* and this one is full */
uint64_t mp_wal_retry_ns(const struct mp_wal *w);   /* UINT64_MAX: nothing to retry */
/* sync: interval: when the newest batch is to be synced, by one more; UINT64_MAX:
   never */
uint64_t mp_wal_sync_ns(const struct mp_wal *w);

/* Size of a batch with these many heads and records, whose bodies have body_bytes. */
uint64_t mp_wal_batch_size(uint32_t heads, uint32_t records, uint64_t body_bytes);

/* Builds one batch. The header of a record gets its length and salt here; the pieces
 * of its body are borrowed until `done`. */
void mp_wal_begin(struct mp_wal *w, uint64_t size, const struct mp_head *heads,
                  uint32_t heads_count, uint32_t records);
void mp_wal_add(struct mp_wal *w, const struct mp_group_header *header);
void mp_wal_add_piece(struct mp_wal *w, memphis_slice piece);
void mp_wal_post(struct mp_wal *w, uint64_t wall_ns, uint64_t broker_ns);
/* The same on this thread, until it is durable: start and stop only. `done` is not
 * called. */
memphis_status mp_wal_write(struct mp_wal *w, uint64_t wall_ns, uint64_t broker_ns,
                            memphis_error *err);

/* Starts making the next file, if there is none. */
void mp_wal_prepare(struct mp_wal *w, uint64_t now_ns);

uint64_t mp_wal_file_base(const struct mp_wal *w);    /* of the current file */
uint64_t mp_wal_file_end(const struct mp_wal *w);
uint64_t mp_wal_end(const struct mp_wal *w);          /* LSN behind the newest batch */
uint64_t mp_wal_durable_upto(const struct mp_wal *w);

#define MP_WAL_SPARE_NAME "wal/spare"

/* "wal/00000000000000000000.wal" */
enum { MP_WAL_NAME_SIZE = 32 };
void mp_wal_name(uint64_t base, char out[MP_WAL_NAME_SIZE]);

#endif
