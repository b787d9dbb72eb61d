/* store/layout.h -- the bytes around the entries: WAL file header, batch header, group
 * record, heads, and the slot files (storage-design 4.0, 4.1, 4.1b, 4.6).
 *
 * As in store/record.h: decoders take any bytes, check every length and checksum, and
 * return false (or a status) for what is not valid. docs/disk-format.md has the tables.
 *
 * Thread: any (pure).
 */
#ifndef MP_STORE_LAYOUT_H
#define MP_STORE_LAYOUT_H

#include "base/buf.h"

#include <memphis/status.h>

enum {
    MP_BLOCK_SIZE = 4096,  /* batches start on its multiples; one header, one slot */
    MP_FORMAT_VERSION = 1, /* what this release writes */
    MP_BATCH_HEADER_SIZE = 64,
    MP_GROUP_HEADER_SIZE = 72,
    MP_HEAD_SIZE = 48,
    MP_NODE_ITEM_SIZE = 40,
    MP_NODE_ITEMS_MAX = 99
};

static inline uint64_t mp_block_up(uint64_t n)
{
    return (n + MP_BLOCK_SIZE - 1) & ~(uint64_t)(MP_BLOCK_SIZE - 1);
}

/* What a block's checksum, at 4, is to be: over its magic, which tells the version, and
 * all that follows the checksum. */
uint32_t mp_block_crc(const uint8_t *p, size_t size);

/* -- WAL file header (4.0), one block -- */
struct mp_wal_header {
    uint64_t epoch;           /* random per use of the file */
    uint64_t base;            /* LSN of its first byte */
    uint64_t size;
    uint64_t base_before;     /* of the file before; of the first file: its own */
};
void mp_wal_header_encode(const struct mp_wal_header *h, uint8_t out[MP_BLOCK_SIZE]);
/* CORRUPT, or VERSION with a sentence. */
memphis_status mp_wal_header_decode(memphis_slice bytes, struct mp_wal_header *out,
                                    memphis_error *err);

/* -- batch header (4.1) -- */
struct mp_batch_header {
    uint64_t epoch, lsn;
    uint64_t durable_upto;    /* LSN below which all was durable when it was built */
    uint32_t body_size;       /* without the padding */
    uint32_t records;
    uint32_t records_crc;     /* over the group record headers, in order */
    uint32_t chain;           /* `crc` of the batch before in this file; 0: the first */
    uint64_t wall_ns, broker_ns;
    uint32_t crc;             /* its own; set by both functions */
    bool is_newer;            /* of a newer release: nothing else is to be trusted */
};
void mp_batch_header_encode(struct mp_batch_header *h,
                            uint8_t out[MP_BATCH_HEADER_SIZE]);
bool mp_batch_header_decode(memphis_slice bytes, struct mp_batch_header *out);

/* -- group record header (4.1b) -- */
enum {
    MP_RECORD_ENTRY = 1,
    MP_RECORD_HARD_STATE = 2,
    MP_RECORD_TRUNCATE = 3,
    MP_RECORD_BASE = 4,
    MP_RECORD_CREATED = 5,
    MP_RECORD_REMOVED = 6,
    MP_RECORD_HEADS = 7,
    MP_RECORD_SETTLED = 8,

    MP_RAFT_NORMAL = 1,       /* RAFT entry type of a record of kind 1 */
    MP_RECORD_COPY = 1        /* flag: rewritten by a repair or a recovery */
};
struct mp_group_header {
    uint32_t length;          /* header, body, padding to 8 */
    uint32_t body_crc;        /* over bytes 72..length, not salted */
    uint32_t shard, shard_epoch, replica;
    uint8_t kind, raft_type;
    uint16_t flags;
    uint32_t entries;
    uint64_t index, term, commit;
    uint64_t term_before;     /* of the entry at index - 1 */
    uint64_t time_ns;         /* broker time at which the entry was made */
};
void mp_group_header_encode(const struct mp_group_header *h, uint64_t epoch,
                            uint8_t out[MP_GROUP_HEADER_SIZE]);
/* False: the checksum, salted with the epoch, or the length is wrong. */
bool mp_group_header_decode(memphis_slice bytes, uint64_t epoch,
                            struct mp_group_header *out);

/* -- heads: an item per local replica, as of the end of the batch before -- */
struct mp_head {
    uint32_t shard, shard_epoch, replica, vote;
    uint64_t term, commit, last_index, last_term;
};
void mp_head_encode(const struct mp_head *h, uint8_t out[MP_HEAD_SIZE]);
void mp_head_decode(const uint8_t bytes[MP_HEAD_SIZE], struct mp_head *out);

/* -- node slot (4.6) -- */
enum { MP_NODE_CLEAN = 1 };
struct mp_node_item {
    uint32_t shard, shard_epoch, replica, vote;
    uint64_t term;
    uint64_t base_index, base_term; /* the log at and below is not needed any more */
};
struct mp_node {
    uint64_t generation;
    uint8_t uuid[16], cluster[16];
    uint64_t node_id, boots, durable_upto;
    uint64_t wal_first;       /* WAL files with a base below it are left-overs */
    uint32_t flags;
    uint32_t items_count;
    struct mp_node_item items[MP_NODE_ITEMS_MAX];
};
void mp_node_encode(const struct mp_node *n, uint8_t out[MP_BLOCK_SIZE]);
/* CORRUPT: not a valid slot. VERSION: written by a newer release. */
memphis_status mp_node_decode(memphis_slice bytes, struct mp_node *out,
                              memphis_error *err);

/* -- partition meta slot (4.5) -- */
struct mp_meta_slot {
    uint64_t generation;
    uint64_t first_seq;       /* purge floor */
    uint64_t flushed_seq;     /* last one that is in a segment, or dead */
    uint64_t flushed_index;   /* effects of shard entries up to here are in the files */
    uint64_t durable_upto;
    uint64_t live_messages, live_bytes;
    uint64_t tier_seq;        /* second release */
    uint64_t active_first;    /* names the active segment; 0: none */
    uint64_t active_length;   /* its synced length */
    uint64_t state_index;     /* names the state file; 0: none */
    uint32_t config_version, next_group, slot, station, number;
};
void mp_meta_slot_encode(const struct mp_meta_slot *m, uint8_t out[MP_BLOCK_SIZE]);
bool mp_meta_slot_decode(memphis_slice bytes, struct mp_meta_slot *out);

/* -- segment header and footer (4.3), one block each -- */
struct mp_segment_header {
    uint32_t pid, shard, shard_epoch;
    uint64_t first_seq, created_ns, index, term;
    uint64_t before_first, before_last; /* sequences of the segment before; 0: none */
};
struct mp_segment_footer {
    uint64_t first_seq, last_seq, min_time_ns, max_time_ns;
    uint64_t data_bytes, live_bytes;
    uint32_t count, live, index_crc, data_crc;
};
void mp_segment_header_encode(const struct mp_segment_header *h,
                              uint8_t out[MP_BLOCK_SIZE]);
/* CORRUPT; VERSION: written by a newer release. */
memphis_status mp_segment_header_decode(memphis_slice bytes,
                                        struct mp_segment_header *out);
void mp_segment_footer_encode(const struct mp_segment_footer *f,
                              uint8_t out[MP_BLOCK_SIZE]);
bool mp_segment_footer_decode(memphis_slice bytes, struct mp_segment_footer *out);

/* -- state file (4.9): a header, then items {tag u16, length u32, value} -- */
enum {
    MP_STATE_HEADER_SIZE = 40,
    MP_STATE_GROUP = 1,       /* the sink's: a consumer group */
    MP_STATE_DEAD = 3,        /* pairs {first u64, last u64}: deleted or never there */
    MP_STATE_DAMAGE = 4,      /* pairs {first u64, last u64}: declared lost */
    MP_STATE_PARTITION = 16,  /* pid 0 only: one of the partition table */
    MP_STATE_CLOCK = 18,      /* pid 0 only, the sink's: steps of the wall clock */
    MP_STATE_OPTIONAL = 32768 /* from here on: unknown ones are skipped */
};
struct mp_state_header {
    uint32_t pid, items;
    uint64_t index, time_ns;
};
/* Seals a file that begins with room for the header. */
void mp_state_seal(struct mp_buf *file, const struct mp_state_header *h);
/* CORRUPT or VERSION; the items are what follows the header. */
memphis_status mp_state_decode(memphis_slice file, struct mp_state_header *out,
                               memphis_slice *items, memphis_error *err);
/* The next item; false: none is left (cursor.bad: the rest is malformed). */
bool mp_state_next(struct mp_cursor *c, uint16_t *tag, memphis_slice *value);
void mp_state_put(struct mp_buf *file, uint16_t tag, const void *value, size_t size);

#endif
