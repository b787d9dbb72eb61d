#include "store/layout.h"

#include "base/assert.h"
#include "base/enc.h"
#include "base/status.h"

#include <assert.h>

/* Every block and header starts {magic 4, checksum 4}. */
enum { AT_MAGIC = 0, AT_CRC = 4, AT_REST = 8 };

static void put_magic(uint8_t *out, const char *magic)
{
    memcpy(out + AT_MAGIC, magic, 4);
}

static bool has_magic(const uint8_t *p, const char *magic)
{
    return memcmp(p + AT_MAGIC, magic, 4) == 0;
}

uint32_t mp_block_crc(const uint8_t *p, size_t size)
{
    uint32_t crc = mp_crc32c(0, p + AT_MAGIC, AT_CRC - AT_MAGIC);

    return mp_crc32c(crc, p + AT_REST, size - AT_REST);
}

static uint32_t seal(uint8_t *out, size_t size)
{
    uint32_t crc = mp_block_crc(out, size);

    mp_set_u32(out + AT_CRC, crc);
    return crc;
}

static bool is_sealed(const uint8_t *p, size_t size)
{
    return mp_block_crc(p, size) == mp_get_u32(p + AT_CRC);
}

/* OK; CORRUPT; VERSION: whole, and the last character names a newer release. */
static memphis_status check_block(const uint8_t *p, const char *magic, size_t size)
{
    if (memcmp(p, magic, 3) != 0 || p[3] < magic[3] || !is_sealed(p, size))
        return MEMPHIS_CORRUPT;
    return p[3] == magic[3] ? MEMPHIS_OK : MEMPHIS_VERSION;
}

/* -- WAL file header --------------------------------------------------------------- */

enum {
    WAL_VERSION = 8,
    WAL_OLDEST_READER = 10,
    WAL_FLAGS = 12,
    WAL_EPOCH = 16,
    WAL_BASE = 24,
    WAL_SIZE = 32,
    WAL_BASE_BEFORE = 40,
    WAL_END = 48
};
static_assert(WAL_BASE_BEFORE + 8 == WAL_END, "no holes");

void mp_wal_header_encode(const struct mp_wal_header *h, uint8_t out[MP_BLOCK_SIZE])
{
    mp_assert(h->size % MP_BLOCK_SIZE == 0);
    mp_assert(h->base % MP_BLOCK_SIZE == 0);
    memset(out, 0, MP_BLOCK_SIZE);
    put_magic(out, "MWF1");
    mp_set_u16(out + WAL_VERSION, MP_FORMAT_VERSION);
    mp_set_u16(out + WAL_OLDEST_READER, MP_FORMAT_VERSION);
    mp_set_u32(out + WAL_FLAGS, 0);
    mp_set_u64(out + WAL_EPOCH, h->epoch);
    mp_set_u64(out + WAL_BASE, h->base);
    mp_set_u64(out + WAL_SIZE, h->size);
    mp_set_u64(out + WAL_BASE_BEFORE, h->base_before);
    (void)seal(out, MP_BLOCK_SIZE);
}

memphis_status mp_wal_header_decode(memphis_slice bytes, struct mp_wal_header *out,
                                    memphis_error *err)
{
    const uint8_t *p = bytes.data;
    memphis_status s = MEMPHIS_CORRUPT;

    if (bytes.size >= MP_BLOCK_SIZE)
        s = check_block(p, "MWF1", MP_BLOCK_SIZE);
    if (s == MEMPHIS_CORRUPT)
        return mp_fail(err, s, "the header of a WAL file is damaged");
    if (s != MEMPHIS_OK || mp_get_u16(p + WAL_OLDEST_READER) > MP_FORMAT_VERSION ||
        mp_get_u32(p + WAL_FLAGS) != 0)
        return mp_fail(err, MEMPHIS_VERSION, "the WAL was written by a newer release");
    *out = (struct mp_wal_header){ .epoch = mp_get_u64(p + WAL_EPOCH),
                                   .base = mp_get_u64(p + WAL_BASE),
                                   .size = mp_get_u64(p + WAL_SIZE),
                                   .base_before = mp_get_u64(p + WAL_BASE_BEFORE) };
    if (out->size % MP_BLOCK_SIZE != 0 || out->base % MP_BLOCK_SIZE != 0)
        return mp_fail(err, MEMPHIS_CORRUPT, "the header of a WAL file makes no sense");
    return MEMPHIS_OK;
}

/* -- batch header ------------------------------------------------------------------ */

enum {
    BATCH_EPOCH = 8,
    BATCH_LSN = 16,
    BATCH_DURABLE = 24,
    BATCH_BODY_SIZE = 32,
    BATCH_RECORDS = 36,
    BATCH_RECORDS_CRC = 40,
    BATCH_CHAIN = 44,
    BATCH_WALL = 48,
    BATCH_BROKER = 56
};
static_assert(BATCH_BROKER + 8 == MP_BATCH_HEADER_SIZE, "no holes");

void mp_batch_header_encode(struct mp_batch_header *h,
                            uint8_t out[MP_BATCH_HEADER_SIZE])
{
    mp_assert(h->lsn % MP_BLOCK_SIZE == 0);
    mp_assert(h->body_size % 8 == 0);
    put_magic(out, "MWB1");
    mp_set_u64(out + BATCH_EPOCH, h->epoch);
    mp_set_u64(out + BATCH_LSN, h->lsn);
    mp_set_u64(out + BATCH_DURABLE, h->durable_upto);
    mp_set_u32(out + BATCH_BODY_SIZE, h->body_size);
    mp_set_u32(out + BATCH_RECORDS, h->records);
    mp_set_u32(out + BATCH_RECORDS_CRC, h->records_crc);
    mp_set_u32(out + BATCH_CHAIN, h->chain);
    mp_set_u64(out + BATCH_WALL, h->wall_ns);
    mp_set_u64(out + BATCH_BROKER, h->broker_ns);
    h->crc = seal(out, MP_BATCH_HEADER_SIZE);
}

bool mp_batch_header_decode(memphis_slice bytes, struct mp_batch_header *out)
{
    const uint8_t *p = bytes.data;
    memphis_status s = MEMPHIS_CORRUPT;

    if (bytes.size >= MP_BATCH_HEADER_SIZE)
        s = check_block(p, "MWB1", MP_BATCH_HEADER_SIZE);
    if (s == MEMPHIS_CORRUPT)
        return false;
    *out = (struct mp_batch_header){ .is_newer = s != MEMPHIS_OK,
                                     .epoch = mp_get_u64(p + BATCH_EPOCH),
                                     .lsn = mp_get_u64(p + BATCH_LSN),
                                     .durable_upto = mp_get_u64(p + BATCH_DURABLE),
                                     .body_size = mp_get_u32(p + BATCH_BODY_SIZE),
                                     .records = mp_get_u32(p + BATCH_RECORDS),
                                     .records_crc = mp_get_u32(p + BATCH_RECORDS_CRC),
                                     .chain = mp_get_u32(p + BATCH_CHAIN),
                                     .wall_ns = mp_get_u64(p + BATCH_WALL),
                                     .broker_ns = mp_get_u64(p + BATCH_BROKER),
                                     .crc = mp_get_u32(p + AT_CRC) };
    return out->is_newer || out->body_size % 8 == 0;
}

/* -- group record header ----------------------------------------------------------- */

enum {
    GROUP_LENGTH = 0,
    GROUP_CRC = 4,
    GROUP_BODY_CRC = 8,
    GROUP_SHARD = 12,
    GROUP_SHARD_EPOCH = 16,
    GROUP_REPLICA = 20,
    GROUP_KIND = 24,
    GROUP_RAFT_TYPE = 25,
    GROUP_FLAGS = 26,
    GROUP_ENTRIES = 28,
    GROUP_INDEX = 32,
    GROUP_TERM = 40,
    GROUP_COMMIT = 48,
    GROUP_TERM_BEFORE = 56,
    GROUP_TIME = 64
};
static_assert(GROUP_TIME + 8 == MP_GROUP_HEADER_SIZE, "no holes");

/* A record of a recycled file has another epoch, so it can never look valid. */
static uint32_t group_crc(const uint8_t *p, uint64_t epoch)
{
    uint8_t salt[8];

    mp_set_u64(salt, epoch);
    uint32_t crc = mp_crc32c(0, salt, sizeof salt);
    return mp_crc32c(crc, p + GROUP_BODY_CRC, MP_GROUP_HEADER_SIZE - GROUP_BODY_CRC);
}

void mp_group_header_encode(const struct mp_group_header *h, uint64_t epoch,
                            uint8_t out[MP_GROUP_HEADER_SIZE])
{
    mp_assert(h->length >= MP_GROUP_HEADER_SIZE);
    mp_assert(h->length % 8 == 0);
    mp_set_u32(out + GROUP_LENGTH, h->length);
    mp_set_u32(out + GROUP_BODY_CRC, h->body_crc);
    mp_set_u32(out + GROUP_SHARD, h->shard);
    mp_set_u32(out + GROUP_SHARD_EPOCH, h->shard_epoch);
    mp_set_u32(out + GROUP_REPLICA, h->replica);
    out[GROUP_KIND] = h->kind;
    out[GROUP_RAFT_TYPE] = h->raft_type;
    mp_set_u16(out + GROUP_FLAGS, h->flags);
    mp_set_u32(out + GROUP_ENTRIES, h->entries);
    mp_set_u64(out + GROUP_INDEX, h->index);
    mp_set_u64(out + GROUP_TERM, h->term);
    mp_set_u64(out + GROUP_COMMIT, h->commit);
    mp_set_u64(out + GROUP_TERM_BEFORE, h->term_before);
    mp_set_u64(out + GROUP_TIME, h->time_ns);
    mp_set_u32(out + GROUP_CRC, group_crc(out, epoch));
}

bool mp_group_header_decode(memphis_slice bytes, uint64_t epoch,
                            struct mp_group_header *out)
{
    const uint8_t *p = bytes.data;

    if (bytes.size < MP_GROUP_HEADER_SIZE ||
        group_crc(p, epoch) != mp_get_u32(p + GROUP_CRC))
        return false;
    *out = (struct mp_group_header){ .length = mp_get_u32(p + GROUP_LENGTH),
                                     .body_crc = mp_get_u32(p + GROUP_BODY_CRC),
                                     .shard = mp_get_u32(p + GROUP_SHARD),
                                     .shard_epoch = mp_get_u32(p + GROUP_SHARD_EPOCH),
                                     .replica = mp_get_u32(p + GROUP_REPLICA),
                                     .kind = p[GROUP_KIND],
                                     .raft_type = p[GROUP_RAFT_TYPE],
                                     .flags = mp_get_u16(p + GROUP_FLAGS),
                                     .entries = mp_get_u32(p + GROUP_ENTRIES),
                                     .index = mp_get_u64(p + GROUP_INDEX),
                                     .term = mp_get_u64(p + GROUP_TERM),
                                     .commit = mp_get_u64(p + GROUP_COMMIT),
                                     .term_before = mp_get_u64(p + GROUP_TERM_BEFORE),
                                     .time_ns = mp_get_u64(p + GROUP_TIME) };
    return out->length >= MP_GROUP_HEADER_SIZE && out->length % 8 == 0;
}

/* -- heads ------------------------------------------------------------------------- */

enum {
    HEAD_SHARD = 0,
    HEAD_SHARD_EPOCH = 4,
    HEAD_REPLICA = 8,
    HEAD_VOTE = 12,
    HEAD_TERM = 16,
    HEAD_COMMIT = 24,
    HEAD_LAST_INDEX = 32,
    HEAD_LAST_TERM = 40
};
static_assert(HEAD_LAST_TERM + 8 == MP_HEAD_SIZE, "no holes");

void mp_head_encode(const struct mp_head *h, uint8_t out[MP_HEAD_SIZE])
{
    mp_set_u32(out + HEAD_SHARD, h->shard);
    mp_set_u32(out + HEAD_SHARD_EPOCH, h->shard_epoch);
    mp_set_u32(out + HEAD_REPLICA, h->replica);
    mp_set_u32(out + HEAD_VOTE, h->vote);
    mp_set_u64(out + HEAD_TERM, h->term);
    mp_set_u64(out + HEAD_COMMIT, h->commit);
    mp_set_u64(out + HEAD_LAST_INDEX, h->last_index);
    mp_set_u64(out + HEAD_LAST_TERM, h->last_term);
}

void mp_head_decode(const uint8_t bytes[MP_HEAD_SIZE], struct mp_head *out)
{
    *out = (struct mp_head){ .shard = mp_get_u32(bytes + HEAD_SHARD),
                             .shard_epoch = mp_get_u32(bytes + HEAD_SHARD_EPOCH),
                             .replica = mp_get_u32(bytes + HEAD_REPLICA),
                             .vote = mp_get_u32(bytes + HEAD_VOTE),
                             .term = mp_get_u64(bytes + HEAD_TERM),
                             .commit = mp_get_u64(bytes + HEAD_COMMIT),
                             .last_index = mp_get_u64(bytes + HEAD_LAST_INDEX),
                             .last_term = mp_get_u64(bytes + HEAD_LAST_TERM) };
}

/* -- node slot --------------------------------------------------------------------- */

enum {
    NODE_GENERATION = 8,
    NODE_UUID = 16,
    NODE_CLUSTER = 32,
    NODE_ID = 48,
    NODE_BOOTS = 56,
    NODE_DURABLE = 64,
    NODE_VERSION = 72,
    NODE_OLDEST_READER = 74,
    NODE_FLAGS = 76,
    NODE_COUNT = 80,
    NODE_RESERVED = 84,
    NODE_WAL_FIRST = 88,
    NODE_ITEMS = 128,

    ITEM_SHARD = 0,
    ITEM_SHARD_EPOCH = 4,
    ITEM_REPLICA = 8,
    ITEM_VOTE = 12,
    ITEM_TERM = 16,
    ITEM_BASE_INDEX = 24,
    ITEM_BASE_TERM = 32
};
static_assert(NODE_RESERVED + 44 == NODE_ITEMS, "no holes");
static_assert(ITEM_BASE_TERM + 8 == MP_NODE_ITEM_SIZE, "no holes");
static_assert(NODE_ITEMS + MP_NODE_ITEMS_MAX * MP_NODE_ITEM_SIZE + 8 == MP_BLOCK_SIZE,
              "the items fill the slot but for eight bytes");

void mp_node_encode(const struct mp_node *n, uint8_t out[MP_BLOCK_SIZE])
{
    mp_assert(n->items_count <= MP_NODE_ITEMS_MAX);
    memset(out, 0, MP_BLOCK_SIZE);
    put_magic(out, "MPN1");
    mp_set_u64(out + NODE_GENERATION, n->generation);
    memcpy(out + NODE_UUID, n->uuid, sizeof n->uuid);
    memcpy(out + NODE_CLUSTER, n->cluster, sizeof n->cluster);
    mp_set_u64(out + NODE_ID, n->node_id);
    mp_set_u64(out + NODE_BOOTS, n->boots);
    mp_set_u64(out + NODE_DURABLE, n->durable_upto);
    mp_set_u16(out + NODE_VERSION, MP_FORMAT_VERSION);
    mp_set_u16(out + NODE_OLDEST_READER, MP_FORMAT_VERSION);
    mp_set_u32(out + NODE_FLAGS, n->flags);
    mp_set_u32(out + NODE_COUNT, n->items_count);
    mp_set_u64(out + NODE_WAL_FIRST, n->wal_first);
    for (uint32_t i = 0; i < n->items_count; i++) {
        const struct mp_node_item *item = &n->items[i];
        uint8_t *at = out + NODE_ITEMS + i * MP_NODE_ITEM_SIZE;
        mp_set_u32(at + ITEM_SHARD, item->shard);
        mp_set_u32(at + ITEM_SHARD_EPOCH, item->shard_epoch);
        mp_set_u32(at + ITEM_REPLICA, item->replica);
        mp_set_u32(at + ITEM_VOTE, item->vote);
        mp_set_u64(at + ITEM_TERM, item->term);
        mp_set_u64(at + ITEM_BASE_INDEX, item->base_index);
        mp_set_u64(at + ITEM_BASE_TERM, item->base_term);
    }
    (void)seal(out, MP_BLOCK_SIZE);
}

memphis_status mp_node_decode(memphis_slice bytes, struct mp_node *out,
                              memphis_error *err)
{
    const uint8_t *p = bytes.data;

    if (bytes.size < MP_BLOCK_SIZE || !has_magic(p, "MPN1") ||
        !is_sealed(p, MP_BLOCK_SIZE) || mp_get_u32(p + NODE_COUNT) > MP_NODE_ITEMS_MAX)
        return mp_fail(err, MEMPHIS_CORRUPT, "a slot of 'node' is not valid");
    if (mp_get_u16(p + NODE_OLDEST_READER) > MP_FORMAT_VERSION ||
        (mp_get_u32(p + NODE_FLAGS) & ~(uint32_t)MP_NODE_CLEAN) != 0)
        return mp_fail(err, MEMPHIS_VERSION,
                       "the data was written by a newer release; use that one");
    memset(out, 0, sizeof *out);
    out->generation = mp_get_u64(p + NODE_GENERATION);
    memcpy(out->uuid, p + NODE_UUID, sizeof out->uuid);
    memcpy(out->cluster, p + NODE_CLUSTER, sizeof out->cluster);
    out->node_id = mp_get_u64(p + NODE_ID);
    out->boots = mp_get_u64(p + NODE_BOOTS);
    out->durable_upto = mp_get_u64(p + NODE_DURABLE);
    out->flags = mp_get_u32(p + NODE_FLAGS);
    out->items_count = mp_get_u32(p + NODE_COUNT);
    out->wal_first = mp_get_u64(p + NODE_WAL_FIRST);
    for (uint32_t i = 0; i < out->items_count; i++) {
        const uint8_t *at = p + NODE_ITEMS + i * MP_NODE_ITEM_SIZE;
        out->items[i] = (struct mp_node_item){
            .shard = mp_get_u32(at + ITEM_SHARD),
            .shard_epoch = mp_get_u32(at + ITEM_SHARD_EPOCH),
            .replica = mp_get_u32(at + ITEM_REPLICA),
            .vote = mp_get_u32(at + ITEM_VOTE),
            .term = mp_get_u64(at + ITEM_TERM),
            .base_index = mp_get_u64(at + ITEM_BASE_INDEX),
            .base_term = mp_get_u64(at + ITEM_BASE_TERM)
        };
    }
    return MEMPHIS_OK;
}

/* -- partition meta slot ----------------------------------------------------------- */

enum {
    META_GENERATION = 8,
    META_FIRST_SEQ = 16,
    META_FLUSHED_SEQ = 24,
    META_FLUSHED_INDEX = 32,
    META_DURABLE = 40,
    META_LIVE_MESSAGES = 48,
    META_LIVE_BYTES = 56,
    META_TIER = 64,
    META_ACTIVE_FIRST = 72,
    META_ACTIVE_LENGTH = 80,
    META_STATE_INDEX = 88,
    META_CONFIG = 96,
    META_NEXT_GROUP = 100,
    META_SLOT = 104,
    META_STATION = 108,
    META_NUMBER = 112,
    META_END = 116
};
static_assert(META_NUMBER + 4 == META_END, "no holes");

void mp_meta_slot_encode(const struct mp_meta_slot *m, uint8_t out[MP_BLOCK_SIZE])
{
    mp_assert(m->generation > 0);
    memset(out, 0, MP_BLOCK_SIZE);
    put_magic(out, "MPM1");
    mp_set_u64(out + META_GENERATION, m->generation);
    mp_set_u64(out + META_FIRST_SEQ, m->first_seq);
    mp_set_u64(out + META_FLUSHED_SEQ, m->flushed_seq);
    mp_set_u64(out + META_FLUSHED_INDEX, m->flushed_index);
    mp_set_u64(out + META_DURABLE, m->durable_upto);
    mp_set_u64(out + META_LIVE_MESSAGES, m->live_messages);
    mp_set_u64(out + META_LIVE_BYTES, m->live_bytes);
    mp_set_u64(out + META_TIER, m->tier_seq);
    mp_set_u64(out + META_ACTIVE_FIRST, m->active_first);
    mp_set_u64(out + META_ACTIVE_LENGTH, m->active_length);
    mp_set_u64(out + META_STATE_INDEX, m->state_index);
    mp_set_u32(out + META_CONFIG, m->config_version);
    mp_set_u32(out + META_NEXT_GROUP, m->next_group);
    mp_set_u32(out + META_SLOT, m->slot);
    mp_set_u32(out + META_STATION, m->station);
    mp_set_u32(out + META_NUMBER, m->number);
    (void)seal(out, MP_BLOCK_SIZE);
}

bool mp_meta_slot_decode(memphis_slice bytes, struct mp_meta_slot *out)
{
    const uint8_t *p = bytes.data;

    if (bytes.size < MP_BLOCK_SIZE || !has_magic(p, "MPM1") ||
        !is_sealed(p, MP_BLOCK_SIZE))
        return false;
    *out = (struct mp_meta_slot){ .generation = mp_get_u64(p + META_GENERATION),
                                  .first_seq = mp_get_u64(p + META_FIRST_SEQ),
                                  .flushed_seq = mp_get_u64(p + META_FLUSHED_SEQ),
                                  .flushed_index = mp_get_u64(p + META_FLUSHED_INDEX),
                                  .durable_upto = mp_get_u64(p + META_DURABLE),
                                  .live_messages = mp_get_u64(p + META_LIVE_MESSAGES),
                                  .live_bytes = mp_get_u64(p + META_LIVE_BYTES),
                                  .tier_seq = mp_get_u64(p + META_TIER),
                                  .active_first = mp_get_u64(p + META_ACTIVE_FIRST),
                                  .active_length = mp_get_u64(p + META_ACTIVE_LENGTH),
                                  .state_index = mp_get_u64(p + META_STATE_INDEX),
                                  .config_version = mp_get_u32(p + META_CONFIG),
                                  .next_group = mp_get_u32(p + META_NEXT_GROUP),
                                  .slot = mp_get_u32(p + META_SLOT),
                                  .station = mp_get_u32(p + META_STATION),
                                  .number = mp_get_u32(p + META_NUMBER) };
    return out->generation > 0;
}

/* -- segment ----------------------------------------------------------------------- */

enum {
    SEGMENT_VERSION = 8,
    SEGMENT_FLAGS = 10,
    SEGMENT_PID = 12,
    SEGMENT_FIRST = 16,
    SEGMENT_CREATED = 24,
    SEGMENT_SHARD = 32,
    SEGMENT_SHARD_EPOCH = 36,
    SEGMENT_INDEX = 40,
    SEGMENT_TERM = 48,
    SEGMENT_BEFORE_FIRST = 56,
    SEGMENT_BEFORE_LAST = 64,
    SEGMENT_END = 72,

    FOOTER_FIRST = 8,
    FOOTER_LAST = 16,
    FOOTER_MIN_TIME = 24,
    FOOTER_MAX_TIME = 32,
    FOOTER_DATA_BYTES = 40,
    FOOTER_LIVE_BYTES = 48,
    FOOTER_COUNT = 56,
    FOOTER_LIVE = 60,
    FOOTER_INDEX_CRC = 64,
    FOOTER_DATA_CRC = 68,
    FOOTER_END = 72
};
static_assert(SEGMENT_BEFORE_LAST + 8 == SEGMENT_END, "no holes");
static_assert(FOOTER_DATA_CRC + 4 == FOOTER_END, "no holes");

void mp_segment_header_encode(const struct mp_segment_header *h,
                              uint8_t out[MP_BLOCK_SIZE])
{
    mp_assert(h->first_seq > 0);
    memset(out, 0, MP_BLOCK_SIZE);
    put_magic(out, "MSG1");
    mp_set_u16(out + SEGMENT_VERSION, MP_FORMAT_VERSION);
    mp_set_u16(out + SEGMENT_FLAGS, 0);
    mp_set_u32(out + SEGMENT_PID, h->pid);
    mp_set_u64(out + SEGMENT_FIRST, h->first_seq);
    mp_set_u64(out + SEGMENT_CREATED, h->created_ns);
    mp_set_u32(out + SEGMENT_SHARD, h->shard);
    mp_set_u32(out + SEGMENT_SHARD_EPOCH, h->shard_epoch);
    mp_set_u64(out + SEGMENT_INDEX, h->index);
    mp_set_u64(out + SEGMENT_TERM, h->term);
    mp_set_u64(out + SEGMENT_BEFORE_FIRST, h->before_first);
    mp_set_u64(out + SEGMENT_BEFORE_LAST, h->before_last);
    (void)seal(out, MP_BLOCK_SIZE);
}

memphis_status mp_segment_header_decode(memphis_slice bytes,
                                        struct mp_segment_header *out)
{
    const uint8_t *p = bytes.data;
    memphis_status s = MEMPHIS_CORRUPT;

    if (bytes.size >= MP_BLOCK_SIZE)
        s = check_block(p, "MSG1", MP_BLOCK_SIZE);
    if (s != MEMPHIS_OK)
        return s;
    if (mp_get_u16(p + SEGMENT_VERSION) > MP_FORMAT_VERSION ||
        mp_get_u16(p + SEGMENT_FLAGS) != 0)
        return MEMPHIS_VERSION;
    *out =
        (struct mp_segment_header){ .pid = mp_get_u32(p + SEGMENT_PID),
                                    .shard = mp_get_u32(p + SEGMENT_SHARD),
                                    .shard_epoch = mp_get_u32(p + SEGMENT_SHARD_EPOCH),
                                    .first_seq = mp_get_u64(p + SEGMENT_FIRST),
                                    .created_ns = mp_get_u64(p + SEGMENT_CREATED),
                                    .index = mp_get_u64(p + SEGMENT_INDEX),
                                    .term = mp_get_u64(p + SEGMENT_TERM),
                                    .before_first =
                                        mp_get_u64(p + SEGMENT_BEFORE_FIRST),
                                    .before_last =
                                        mp_get_u64(p + SEGMENT_BEFORE_LAST) };
    return out->first_seq > 0 ? MEMPHIS_OK : MEMPHIS_CORRUPT;
}

void mp_segment_footer_encode(const struct mp_segment_footer *f,
                              uint8_t out[MP_BLOCK_SIZE])
{
    mp_assert(f->first_seq <= f->last_seq);
    memset(out, 0, MP_BLOCK_SIZE);
    put_magic(out, "MSF1");
    mp_set_u64(out + FOOTER_FIRST, f->first_seq);
    mp_set_u64(out + FOOTER_LAST, f->last_seq);
    mp_set_u64(out + FOOTER_MIN_TIME, f->min_time_ns);
    mp_set_u64(out + FOOTER_MAX_TIME, f->max_time_ns);
    mp_set_u64(out + FOOTER_DATA_BYTES, f->data_bytes);
    mp_set_u64(out + FOOTER_LIVE_BYTES, f->live_bytes);
    mp_set_u32(out + FOOTER_COUNT, f->count);
    mp_set_u32(out + FOOTER_LIVE, f->live);
    mp_set_u32(out + FOOTER_INDEX_CRC, f->index_crc);
    mp_set_u32(out + FOOTER_DATA_CRC, f->data_crc);
    (void)seal(out, MP_BLOCK_SIZE);
}

bool mp_segment_footer_decode(memphis_slice bytes, struct mp_segment_footer *out)
{
    const uint8_t *p = bytes.data;

    if (bytes.size < MP_BLOCK_SIZE || !has_magic(p, "MSF1") ||
        !is_sealed(p, MP_BLOCK_SIZE))
        return false;
    *out = (struct mp_segment_footer){ .first_seq = mp_get_u64(p + FOOTER_FIRST),
                                       .last_seq = mp_get_u64(p + FOOTER_LAST),
                                       .min_time_ns = mp_get_u64(p + FOOTER_MIN_TIME),
                                       .max_time_ns = mp_get_u64(p + FOOTER_MAX_TIME),
                                       .data_bytes = mp_get_u64(p + FOOTER_DATA_BYTES),
                                       .live_bytes = mp_get_u64(p + FOOTER_LIVE_BYTES),
                                       .count = mp_get_u32(p + FOOTER_COUNT),
                                       .live = mp_get_u32(p + FOOTER_LIVE),
                                       .index_crc = mp_get_u32(p + FOOTER_INDEX_CRC),
                                       .data_crc = mp_get_u32(p + FOOTER_DATA_CRC) };
    return out->first_seq <= out->last_seq;
}

/* -- state file -------------------------------------------------------------------- */

enum {
    STATE_VERSION = 8,
    STATE_OLDEST_READER = 10,
    STATE_PID = 12,
    STATE_INDEX = 16,
    STATE_TIME = 24,
    STATE_ITEMS = 32,
    STATE_LENGTH = 36
};
static_assert(STATE_LENGTH + 4 == MP_STATE_HEADER_SIZE, "no holes");

void mp_state_seal(struct mp_buf *file, const struct mp_state_header *h)
{
    uint8_t *p = file->data;

    mp_assert(file->size >= MP_STATE_HEADER_SIZE);
    mp_assert(file->size <= UINT32_MAX);
    put_magic(p, "MPT1");
    mp_set_u16(p + STATE_VERSION, MP_FORMAT_VERSION);
    mp_set_u16(p + STATE_OLDEST_READER, MP_FORMAT_VERSION);
    mp_set_u32(p + STATE_PID, h->pid);
    mp_set_u64(p + STATE_INDEX, h->index);
    mp_set_u64(p + STATE_TIME, h->time_ns);
    mp_set_u32(p + STATE_ITEMS, h->items);
    mp_set_u32(p + STATE_LENGTH, (uint32_t)file->size);
    (void)seal(p, file->size);
}

memphis_status mp_state_decode(memphis_slice file, struct mp_state_header *out,
                               memphis_slice *items, memphis_error *err)
{
    const uint8_t *p = file.data;
    memphis_status s = MEMPHIS_CORRUPT;

    if (file.size >= MP_STATE_HEADER_SIZE && mp_get_u32(p + STATE_LENGTH) == file.size)
        s = check_block(p, "MPT1", file.size);
    if (s == MEMPHIS_CORRUPT)
        return mp_fail(err, s, "a state file is damaged");
    if (s != MEMPHIS_OK || mp_get_u16(p + STATE_OLDEST_READER) > MP_FORMAT_VERSION)
        return mp_fail(err, MEMPHIS_VERSION, "it was written by a newer release");
    *out = (struct mp_state_header){ .pid = mp_get_u32(p + STATE_PID),
                                     .items = mp_get_u32(p + STATE_ITEMS),
                                     .index = mp_get_u64(p + STATE_INDEX),
                                     .time_ns = mp_get_u64(p + STATE_TIME) };
    *items = (memphis_slice){ p + MP_STATE_HEADER_SIZE,
                              file.size - MP_STATE_HEADER_SIZE };
    return MEMPHIS_OK;
}

bool mp_state_next(struct mp_cursor *c, uint16_t *tag, memphis_slice *value)
{
    if (mp_cursor_left(c) == 0)
        return false;
    *tag = mp_cursor_u16(c);
    *value = mp_cursor_take(c, mp_cursor_u32(c));
    return !c->bad;
}

void mp_state_put(struct mp_buf *file, uint16_t tag, const void *value, size_t size)
{
    mp_assert(size <= UINT32_MAX);
    mp_buf_put_u16(file, tag);
    mp_buf_put_u32(file, (uint32_t)size);
    mp_buf_put(file, value, size);
}
