/* Fuzz target: the decoders of store/record.c and store/layout.c, and of commands.
 *
 * The first byte chooses the decoder; the rest is its input, as it is and, where there
 * is a checksum, once more with the checksum repaired. What is accepted must encode to
 * the same bytes again, but for those that a reader does not look at. */
#include "fuzz/fuzz.h"

#include "base/enc.h"
#include "base/limits.h"
#include "base/mem.h"
#include "meta/internal.h"
#include "store/layout.h"
#include "store/record.h"

enum {
    ENTRY,
    WAL,
    BATCH,
    GROUP,
    HEAD,
    NODE,
    META,
    SEGMENT,
    FOOTER,
    STATE,
    COMMAND,
    DECODERS
};

/* -- entry ----------------------------------------------------------------------- */

static void check_entry(const struct mp_entry *e, memphis_slice in, size_t size)
{
    size_t again_size = mp_entry_size(e);
    uint8_t *again = malloc(again_size);
    struct mp_entry second;
    memphis_error err;

    check(size <= in.size && size % 8 == 0, "an entry is longer than its input");
    check_inside(e->subject, in);
    check_inside(e->id, in);
    check_inside(e->headers, in);
    check_inside(e->payload, in);
    check(again_size == size, "an entry would have another size");
    uint32_t crc = mp_entry_encode(e, again);
    check(crc == mp_crc32c(0, again, again_size), "the checksum returned is wrong");
    /* all but checksum and padding */
    const uint8_t *end = (const uint8_t *)in.data + size - 7;
    check(memcmp(again, in.data, 4) == 0 &&
              memcmp(again + 8, (const uint8_t *)in.data + 8,
                     (size_t)(end - (const uint8_t *)in.data) - 8) == 0,
          "an entry is encoded differently");
    check(mp_entry_decode(mp_slice(again, again_size), true, &second, &size, &err) ==
                  MEMPHIS_OK &&
              size == again_size,
          "what was encoded cannot be decoded");
    free(again);
}

static void try_entry(memphis_slice in, bool has_checksum)
{
    struct mp_entry e;
    memphis_error err;
    size_t size = 0;
    memphis_status st = mp_entry_decode(in, has_checksum, &e, &size, &err);

    if (st == MEMPHIS_OK && e.type < MP_ENTRY_OPTIONAL)
        check_entry(&e, in, size);
    if (st == MEMPHIS_OK)
        check(size >= MP_ENTRY_HEADER_SIZE && size <= in.size, "a wrong length");
}

static void fuzz_entry(uint8_t *bytes, size_t size)
{
    try_entry(mp_slice(bytes, size), true);
    try_entry(mp_slice(bytes, size), false);
    if (size < MP_ENTRY_HEADER_SIZE)
        return;
    size_t length = mp_get_u32(bytes);
    if (length < MP_ENTRY_HEADER_SIZE || length > size || length % 8 != 0) {
        length = size & ~(size_t)7;
        mp_set_u32(bytes, (uint32_t)length);
    }
    mp_set_u32(bytes + 4, mp_crc32c(0, bytes + 8, length - 8));
    try_entry(mp_slice(bytes, size), true);
}

/* -- blocks: magic, checksum of what follows --------------------------------------- */

/* Which bytes a decoder looks at: [8, end) but those of `skip`, pairs of offsets. */
struct block {
    const char *magic;
    size_t size, end;
    uint16_t skip[4];
    /* False: not accepted. Else `out` is what it encodes to. */
    bool (*again)(memphis_slice in, uint8_t *out);
};

static bool again_wal(memphis_slice in, uint8_t *out)
{
    struct mp_wal_header h;
    memphis_error err;

    if (mp_wal_header_decode(in, &h, &err) != MEMPHIS_OK)
        return false;
    mp_wal_header_encode(&h, out);
    return true;
}

static bool again_batch(memphis_slice in, uint8_t *out)
{
    struct mp_batch_header h;

    if (!mp_batch_header_decode(in, &h) || h.lsn % MP_BLOCK_SIZE != 0)
        return false; /* the reader compares the LSN with where it reads */
    uint32_t crc = h.crc;
    mp_batch_header_encode(&h, out);
    check(crc == h.crc, "another checksum of a batch");
    return true;
}

static bool again_node(memphis_slice in, uint8_t *out)
{
    struct mp_node n;
    memphis_error err;

    if (mp_node_decode(in, &n, &err) != MEMPHIS_OK)
        return false;
    check(n.items_count <= MP_NODE_ITEMS_MAX, "too many items");
    mp_node_encode(&n, out);
    /* behind its items nothing is read */
    size_t used = 128 + n.items_count * MP_NODE_ITEM_SIZE;
    check(memcmp(out + 128, (const uint8_t *)in.data + 128, used - 128) == 0,
          "the items of a node slot are encoded differently");
    return true;
}

static bool again_meta(memphis_slice in, uint8_t *out)
{
    struct mp_meta_slot m;

    if (!mp_meta_slot_decode(in, &m))
        return false;
    mp_meta_slot_encode(&m, out);
    return true;
}

static bool again_segment(memphis_slice in, uint8_t *out)
{
    struct mp_segment_header h;

    if (mp_segment_header_decode(in, &h) != MEMPHIS_OK)
        return false;
    mp_segment_header_encode(&h, out);
    return true;
}

static bool again_footer(memphis_slice in, uint8_t *out)
{
    struct mp_segment_footer f;

    if (!mp_segment_footer_decode(in, &f))
        return false;
    mp_segment_footer_encode(&f, out);
    return true;
}

static const struct block blocks[DECODERS] = {
    [WAL] = { "MWF1", MP_BLOCK_SIZE, 48, { 8, 12 }, again_wal },
    [BATCH] = { "MWB1", MP_BATCH_HEADER_SIZE, 64, { 0 }, again_batch },
    [NODE] = { "MPN1", MP_BLOCK_SIZE, 128, { 72, 76, 84, 128 }, again_node },
    [META] = { "MPM1", MP_BLOCK_SIZE, 116, { 0 }, again_meta },
    [SEGMENT] = { "MSG1", MP_BLOCK_SIZE, 56, { 8, 10 }, again_segment },
    [FOOTER] = { "MSF1", MP_BLOCK_SIZE, 72, { 0 }, again_footer },
};

static bool is_skipped(const struct block *b, size_t at)
{
    return (at >= b->skip[0] && at < b->skip[1]) ||
           (at >= b->skip[2] && at < b->skip[3]);
}

static void fuzz_block(const struct block *b, uint8_t *bytes, size_t size)
{
    uint8_t out[MP_BLOCK_SIZE], second[MP_BLOCK_SIZE];

    b->again(mp_slice(bytes, size), out);
    if (size < b->size)
        return;
    memcpy(bytes, b->magic, 4);
    mp_set_u32(bytes + 4, mp_block_crc(bytes, b->size));
    if (!b->again(mp_slice(bytes, size), out))
        return;
    for (size_t at = 8; at < b->end; at++)
        check(is_skipped(b, at) || out[at] == bytes[at],
              "a block is encoded differently");
    check(b->again(mp_slice(out, b->size), second) && memcmp(out, second, b->size) == 0,
          "what was encoded is not decoded to the same");
}

/* -- group record header, head ----------------------------------------------------- */

static void try_group(const uint8_t *bytes, size_t size, uint64_t epoch)
{
    uint8_t out[MP_GROUP_HEADER_SIZE];
    struct mp_group_header h;

    if (!mp_group_header_decode(mp_slice(bytes, size), epoch, &h))
        return;
    check(!mp_group_header_decode(mp_slice(bytes, size), epoch + 1, &h),
          "a record of another epoch looks valid");
    check(mp_group_header_decode(mp_slice(bytes, size), epoch, &h), "another verdict");
    mp_group_header_encode(&h, epoch, out);
    check(memcmp(out, bytes, sizeof out) == 0, "a record is encoded differently");
}

static void fuzz_group(uint8_t *bytes, size_t size)
{
    uint8_t salt[8];

    try_group(bytes, size, 7);
    if (size < MP_GROUP_HEADER_SIZE)
        return;
    mp_set_u64(salt, 7);
    mp_set_u32(bytes + 4, mp_crc32c(mp_crc32c(0, salt, sizeof salt), bytes + 8,
                                    MP_GROUP_HEADER_SIZE - 8));
    try_group(bytes, size, 7);
}

static void fuzz_head(const uint8_t *bytes, size_t size)
{
    uint8_t out[MP_HEAD_SIZE];
    struct mp_head h;

    if (size < MP_HEAD_SIZE)
        return;
    mp_head_decode(bytes, &h);
    mp_head_encode(&h, out);
    check(memcmp(out, bytes, sizeof out) == 0, "a head is encoded differently");
}

/* -- state file -------------------------------------------------------------------- */

static void try_state(memphis_slice in)
{
    struct mp_state_header h;
    struct mp_buf again = { 0 };
    memphis_slice items, value;
    memphis_error err;
    uint16_t tag;

    if (mp_state_decode(in, &h, &items, &err) != MEMPHIS_OK)
        return;
    check_inside(items, in);
    struct mp_cursor c = mp_cursor_of(items);
    memset(mp_buf_add(&again, MP_STATE_HEADER_SIZE), 0, MP_STATE_HEADER_SIZE);
    while (mp_state_next(&c, &tag, &value)) {
        check(!c.bad, "an item of a malformed rest");
        check_inside(value, items);
        mp_state_put(&again, tag, value.data, value.size);
    }
    if (!c.bad) {
        const uint8_t *p = in.data;

        check(mp_cursor_left(&c) == 0, "the items do not end");
        mp_state_seal(&again, &h);
        check(again.size == in.size &&
                  memcmp(again.data + 12, p + 12, in.size - 12) == 0,
              "a state file is encoded differently");
    }
    mp_buf_fini(&again);
}

static void fuzz_state(uint8_t *bytes, size_t size)
{
    try_state(mp_slice(bytes, size));
    if (size < MP_STATE_HEADER_SIZE)
        return;
    memcpy(bytes, "MPT1", 4);
    mp_set_u32(bytes + 36, (uint32_t)size);
    mp_set_u32(bytes + 4, mp_block_crc(bytes, size));
    try_state(mp_slice(bytes, size));
}

/* -- command ----------------------------------------------------------------------- */

static void fuzz_command(memphis_slice in)
{
    struct mp_command c, second;
    struct mp_arena arena = { 0 };
    struct mp_buf once = { 0 }, twice = { 0 };
    memphis_error err;

    if (mp_command_decode(in, &c, &arena, &err) == MEMPHIS_OK) {
        struct mp_cursor items = mp_cursor_of(in);
        mp_cursor_u32(&items); /* kind and version */
        check(!items.bad && are_items(items), "a command that is cut off is accepted");
        check(mp_command_fault(&c) == NULL, "a command with a fault is accepted");
        mp_command_encode(&c, &once);
        check(mp_command_decode(mp_buf_slice(&once), &second, &arena, &err) ==
                  MEMPHIS_OK,
              "what was encoded cannot be decoded");
        mp_command_encode(&second, &twice);
        check(once.size == twice.size && memcmp(once.data, twice.data, once.size) == 0,
              "a command is encoded differently");
    }
    mp_buf_fini(&once);
    mp_buf_fini(&twice);
    mp_arena_fini(&arena);
}

/* -- seeds ------------------------------------------------------------------------- */

static size_t seed_entry(size_t which, uint8_t *out)
{
    struct mp_entry e = { .type = MP_ENTRY_MESSAGE,
                          .pid = 7,
                          .seq = 9,
                          .time_ns = 11,
                          .payload = mp_slice("hello", 5) };

    if (which & 1)
        e.subject = mp_slice("orders$1.x", 10);
    if (which & 2)
        e.id = mp_slice("id-1", 4);
    if (which & 4)
        e.headers = mp_slice("NATS/1.0\r\na: b\r\n\r\n", 18);
    if (which == 8)
        e.type = MP_ENTRY_GROUP;
    mp_entry_encode(&e, out);
    return mp_entry_size(&e);
}

static size_t seed_command(size_t kind, uint8_t *out)
{
    struct mp_command c = { .kind = (uint16_t)kind, .time_ns = 5 };
    struct mp_buf b = { 0 };
    char *name = "a-name", *text = "text";

    if (kind <= MP_COMMAND_STATION_DROP || kind == MP_COMMAND_STATION_CHANGE)
        c.u.station = (struct mp_station_row){ .id = 4,
                                               .name = name,
                                               .first_pid = 6,
                                               .created_by = text,
                                               .settings = { .retention_value = 7,
                                                             .partitions = 3,
                                                             .replicas = 1,
                                                             .idempotency_ms = 9,
                                                             .schema = text,
                                                             .dls_station = text,
                                                             .native = true } };
    else if (kind <= MP_COMMAND_PRODUCER_DROP)
        c.u.producer = (struct mp_producer_row){ .id = 4,
                                                 .name = name,
                                                 .station_id = 3,
                                                 .connection_id = text,
                                                 .app_id = text,
                                                 .sdk = text,
                                                 .user = text,
                                                 .version = 4 };
    else if (kind <= MP_COMMAND_CONSUMER_DROP)
        c.u.consumer = (struct mp_consumer_row){ .id = 4,
                                                 .name = name,
                                                 .group = text,
                                                 .station_id = 3,
                                                 .connection_id = text,
                                                 .ack_wait_ms = 30000,
                                                 .last_messages = -1 };
    else
        c.u.user = (struct mp_user_row){ .name = name, .type = 1, .hash = text };
    mp_command_encode(&c, &b);
    size_t size = b.size;
    memcpy(out, b.data, size);
    mp_buf_fini(&b);
    return size;
}

static size_t seed_block(size_t which, uint8_t *out)
{
    struct mp_batch_header batch = { .epoch = 7,
                                     .lsn = MP_BLOCK_SIZE,
                                     .body_size = 88 };
    struct mp_node node = { .generation = 3,
                            .node_id = 5,
                            .items_count = 2,
                            .items = { { .shard = 1 }, { .shard = 2, .term = 1 } } };

    if (which == WAL)
        mp_wal_header_encode(&(struct mp_wal_header){ .epoch = 7, .size = 1 << 20 },
                             out);
    else if (which == BATCH)
        mp_batch_header_encode(&batch, out);
    else if (which == NODE)
        mp_node_encode(&node, out);
    else if (which == META)
        mp_meta_slot_encode(&(struct mp_meta_slot){ .generation = 3, .slot = 1 }, out);
    else if (which == SEGMENT)
        mp_segment_header_encode(
            &(struct mp_segment_header){ .pid = 3, .first_seq = 1 }, out);
    else
        mp_segment_footer_encode(
            &(struct mp_segment_footer){ .first_seq = 1, .last_seq = 9 }, out);
    return blocks[which].size;
}

static size_t seed_rest(size_t which, uint8_t *out)
{
    struct mp_buf b = { 0 };
    struct mp_group_header h = {
        .length = MP_GROUP_HEADER_SIZE, .shard = 2, .kind = MP_RECORD_ENTRY, .index = 5
    };

    if (which == GROUP) {
        mp_group_header_encode(&h, 7, out);
        return MP_GROUP_HEADER_SIZE;
    }
    if (which == HEAD) {
        mp_head_encode(&(struct mp_head){ .shard = 2, .commit = 8 }, out);
        return MP_HEAD_SIZE;
    }
    memset(mp_buf_add(&b, MP_STATE_HEADER_SIZE), 0, MP_STATE_HEADER_SIZE);
    mp_state_put(&b, MP_STATE_DEAD, "0123456789abcdef", 16);
    mp_state_put(&b, 1, "", 0);
    mp_state_seal(&b, &(struct mp_state_header){ .pid = 3, .items = 2, .index = 4 });
    size_t size = b.size;
    memcpy(out, b.data, size);
    mp_buf_fini(&b);
    return size;
}

enum { ENTRY_SEEDS = 17, COMMAND_SEEDS = MP_COMMANDS_END - 1 };

size_t fuzz_seed(size_t i, uint8_t out[FUZZ_SEED_MAX])
{
    if (i < ENTRY_SEEDS) {
        out[0] = ENTRY;
        return 1 + seed_entry(i, out + 1);
    }
    i -= ENTRY_SEEDS;
    if (i < COMMAND_SEEDS) {
        out[0] = COMMAND;
        return 1 + seed_command(i + 1, out + 1);
    }
    i -= COMMAND_SEEDS;
    out[0] = (uint8_t)(ENTRY + 1 + i);
    if (out[0] >= COMMAND)
        return 0;
    return 1 + (blocks[out[0]].again != NULL ? seed_block(out[0], out + 1)
                                             : seed_rest(out[0], out + 1));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint8_t which = size > 0 ? data[0] % DECODERS : 0;
    memphis_slice rest = mp_slice(data + (size > 0), size > 0 ? size - 1 : 0);
    uint8_t *bytes = exact_copy(rest);

    if (which == ENTRY)
        fuzz_entry(bytes, rest.size);
    else if (which == GROUP)
        fuzz_group(bytes, rest.size);
    else if (which == HEAD)
        fuzz_head(bytes, rest.size);
    else if (which == STATE)
        fuzz_state(bytes, rest.size);
    else if (which == COMMAND)
        fuzz_command(mp_slice(bytes, rest.size));
    else
        fuzz_block(&blocks[which], bytes, rest.size);
    free(bytes);
    check(mp_heap_current()->live_blocks == 0, "memory is left");
    return 0;
}
