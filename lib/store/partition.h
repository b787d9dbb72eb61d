/* store/partition.h -- the partitions of one shard: what each holds, and what the
 * entries of the log do to it.
 *
 * Messages, floors, deletes, skips, damage, open and drop change a partition at commit,
 * in log order, and at replay in the same way (storage-design 4.8). Everything else is
 * the business of the shard's sink.
 *
 * Partition 0 is the shard itself: it is always there. Messages for a partition that is
 * not open (dropped by an earlier entry) are ignored. Thread: core.
 */
#ifndef MP_STORE_PARTITION_H
#define MP_STORE_PARTITION_H

#include "store/log.h"
#include "store/memtable.h"

struct mp_range {
    uint64_t first, last;
};

struct mp_partition {
    uint32_t pid;
    uint32_t config_version, number, station;
    struct mp_buf settings;       /* TLV, as in its partition entry */
    uint64_t floor;               /* first sequence that may be live */
    uint64_t last;                /* highest committed; 0: none ever */
    struct mp_memtable memtable;
    struct mp_range *damage;      /* declared lost, ascending */
    uint32_t damage_count;
};

struct mp_partitions {
    struct mp_partition **slots;  /* open addressing by pid */
    uint32_t slots_count;         /* a power of two, or 0 */
    uint32_t count;
    struct mp_partition *newest;  /* the last one found: appends come in runs */
};

void mp_partitions_fini(struct mp_partitions *t);
struct mp_partition *mp_partitions_find(const struct mp_partitions *t, uint32_t pid);
struct mp_partition *mp_partitions_add(struct mp_partitions *t, uint32_t pid);
/* Walks all of them: for (i = 0; (p = mp_partitions_next(t, &i)) != NULL;) */
struct mp_partition *mp_partitions_next(const struct mp_partitions *t, uint32_t *at);

/* Where the encoded entry lies; its chunk counts it as live. */
struct mp_place {
    struct mp_chunk *chunk;
    uint32_t offset, size;
};

/* The effect of a committed entry. *kept: the memtable took the live entry over, else
 * the caller drops it. CORRUPT: the payload is malformed, or the sequence goes back. */
memphis_status mp_partitions_apply(struct mp_partitions *t, const struct mp_entry *e,
                                   const struct mp_place *at, bool *kept,
                                   memphis_error *err);

/* As mp_log_read and its relatives. */
memphis_status mp_partition_read(const struct mp_partition *p, uint64_t seq,
                                 struct mp_stored *out);
uint64_t mp_partition_first(const struct mp_partition *p);
void mp_partition_stats(const struct mp_partition *p, struct mp_log_stats *out);

/* Payload of a damage or skip entry. */
void mp_damage_payload(uint64_t first, uint64_t last, uint8_t out[16]);

#endif
