/* store/scan.h -- reads the WAL at a start and gives the verdict: clean, torn, damaged.
 *
 * Everything is read twice: once here, to know what holds, and once by replay. A batch
 * is *good* when its header, its LSN, the epoch and all checksums are right.
 *
 *   D       the largest durable_upto in any good batch or slot: all below was durable
 *   end     where the contiguous good batches end
 *   end >= D: what lies behind was never acknowledged: a torn tail, dropped
 *   end <  D: damage; refused, or, with accept_loss, every good record is kept
 *
 * A roll leaves a rest of the file before unused: that is no bad batch when the first
 * batch of the next file carries its start as durable_upto. Ranges that an earlier
 * recovery has settled (kind 8) are skipped, their records are read from its copies.
 * Where that is lost, what it had given up is told by what came later: see
 * drop_given_up.
 *
 * LSNs that no file covers, a header that is damaged, a block that the disk does not
 * give back: each is a range of LSNs, too, and damage when it is not settled. So the
 * rest of the file is read, and what was accepted once is not asked for again.
 *
 * Thread: core, at a start; blocks on the disk.
 */
#ifndef MP_STORE_SCAN_H
#define MP_STORE_SCAN_H

#include "base/logger.h"
#include "env/env.h"
#include "store/layout.h"

struct mp_scan_file {
    struct mp_wal_header header;
    struct mp_file *file;
    uint64_t bad;      /* bytes at its start that say nothing; 0: a good header */
    memphis_error why; /* what is wrong with it */
};

/* A good group record of kind 1. */
struct mp_scan_record {
    uint64_t lsn;             /* of its header */
    uint64_t index;
    uint32_t shard, size;
    uint32_t file;            /* which of files[] */
    bool is_copy;
};

struct mp_lsn_range {
    uint64_t from, to;        /* [from, to) */
};

struct mp_scan {
    struct mp_env *env;
    struct mp_scan_file *files;
    uint32_t files_count;
    struct mp_scan_record *records;   /* kept ones; ascending within a shard */
    size_t records_count, records_capacity;
    struct mp_lsn_range *settled;     /* by earlier recoveries */
    uint32_t settled_count;
    struct mp_lsn_range *lost;        /* damage that was accepted */
    uint32_t lost_count;
    struct mp_lsn_range *unreadable; /* blocks that the disk does not give back */
    uint32_t unreadable_count;
    memphis_error unread;             /* its words */
    struct mp_scan_batch *batches;    /* good ones, in LSN order */
    size_t batches_count, batches_capacity;
    struct mp_buf window;             /* of the file being read */
    uint32_t window_file;
    uint64_t window_at;
    uint64_t durable_upto;            /* D */
    uint64_t end;                     /* LSN behind the last good batch */
    uint64_t files_end;               /* LSN behind the last file */
    uint64_t last_base;               /* base LSN of the last file */
    uint64_t wall_ns, broker_ns;      /* clock pair of the newest good batch */
    uint64_t torn_bytes;
    struct mp_head heads[32];         /* of the newest kept batch */
    uint32_t heads_count;
    uint64_t heads_lsn;
};

/* Scans wal/, but for files below `wal_first`: they are left-overs of a flush.
 * `durable_upto`: what the slots know. CORRUPT (the text names file, offset and
 * length), VERSION, IO. Free it in every case. */
memphis_status mp_scan_run(struct mp_scan *s, struct mp_env *e, uint64_t durable_upto,
                           uint64_t wal_first, bool accept_loss, memphis_error *err);
/* From that record on the log of the shard is whole, up to its end. records_count: that
 * is nowhere so. */
size_t mp_scan_whole_from(const struct mp_scan *s, uint32_t shard);
void mp_scan_fini(struct mp_scan *s);

/* Reads a record again: its header and its body, borrowed until the next call. */
memphis_status mp_scan_read(struct mp_scan *s, const struct mp_scan_record *r,
                            struct mp_group_header *header, memphis_slice *body,
                            memphis_error *err);

#endif
