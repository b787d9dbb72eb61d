#include "store/record.h"

#include "base/assert.h"
#include "base/enc.h"
#include "base/limits.h"
#include "base/status.h"

#include <assert.h>

/* Offsets of the header (docs/disk-format.md, "Entry"). */
enum {
    AT_LENGTH = 0,
    AT_CRC = 4,
    AT_TYPE = 8,
    AT_FLAGS = 9,
    AT_HEADERS_SIZE = 10,
    AT_PID = 12,
    AT_SEQ = 16,
    AT_TIME = 24,
    AT_PAYLOAD_SENT = 32,
    AT_PAYLOAD_STORED = 36
};
static_assert(AT_PAYLOAD_STORED + 4 == MP_ENTRY_HEADER_SIZE, "no holes");

enum {
    FLAGS_OF_PARTS = MP_ENTRY_HAS_HEADERS | MP_ENTRY_HAS_ID | MP_ENTRY_HAS_SUBJECT,
    FLAGS_RESERVED = MP_ENTRY_ZSTD | MP_ENTRY_TOMBSTONE | MP_ENTRY_HAS_SOURCE
};

static size_t pad8(size_t n)
{
    return (n + 7) & ~(size_t)7;
}

static size_t parts_size(const struct mp_entry *e)
{
    size_t size = e->headers.size + e->payload.size;

    if (e->subject.size > 0)
        size += 2 + e->subject.size;
    if (e->id.size > 0)
        size += 1 + e->id.size;
    return size;
}

size_t mp_entry_size(const struct mp_entry *e)
{
    return pad8(MP_ENTRY_HEADER_SIZE + parts_size(e));
}

static uint8_t flags_of(const struct mp_entry *e)
{
    uint32_t flags = e->flags & ~(uint32_t)FLAGS_OF_PARTS;

    if (e->subject.size > 0)
        flags |= MP_ENTRY_HAS_SUBJECT;
    if (e->id.size > 0)
        flags |= MP_ENTRY_HAS_ID;
    if (e->headers.size > 0)
        flags |= MP_ENTRY_HAS_HEADERS;
    return (uint8_t)flags;
}

/* The short parts in front of the headers; returns where they end. */
static uint8_t *put_small_parts(const struct mp_entry *e, uint8_t *at)
{
    if (e->subject.size > 0) {
        mp_assert(e->subject.size <= MP_SUBJECT_MAX);
        mp_set_u16(at, (uint16_t)e->subject.size);
        memcpy(at + 2, e->subject.data, e->subject.size);
        at += 2 + e->subject.size;
    }
    if (e->id.size > 0) {
        mp_assert(e->id.size <= MP_MESSAGE_ID_MAX);
        *at = (uint8_t)e->id.size;
        memcpy(at + 1, e->id.data, e->id.size);
        at += 1 + e->id.size;
    }
    return at;
}

uint32_t mp_entry_encode(const struct mp_entry *e, uint8_t *out)
{
    size_t size = mp_entry_size(e);

    mp_assert(e->headers.size <= MP_HEADERS_MAX);
    mp_assert(size <= UINT32_MAX);
    mp_assert(!(e->flags & FLAGS_RESERVED));
    mp_set_u32(out + AT_LENGTH, (uint32_t)size);
    out[AT_TYPE] = e->type;
    out[AT_FLAGS] = flags_of(e);
    mp_set_u16(out + AT_HEADERS_SIZE, (uint16_t)e->headers.size);
    mp_set_u32(out + AT_PID, e->pid);
    mp_set_u64(out + AT_SEQ, e->seq);
    mp_set_u64(out + AT_TIME, e->time_ns);
    mp_set_u32(out + AT_PAYLOAD_SENT, (uint32_t)e->payload.size);
    mp_set_u32(out + AT_PAYLOAD_STORED, (uint32_t)e->payload.size);
    uint8_t *at = put_small_parts(e, out + MP_ENTRY_HEADER_SIZE);
    uint32_t crc = mp_crc32c(0, out + AT_TYPE, (size_t)(at - out) - AT_TYPE);
    if (e->headers.size > 0) {
        crc = mp_crc32c_copy(crc, at, e->headers.data, e->headers.size);
        at += e->headers.size;
    }
    if (e->payload.size > 0) {
        crc = mp_crc32c_copy(crc, at, e->payload.data, e->payload.size);
        at += e->payload.size;
    }
    size_t padding = size - (size_t)(at - out);
    if (padding > 0) {
        memset(at, 0, padding);
        crc = mp_crc32c(crc, at, padding);
    }
    mp_set_u32(out + AT_CRC, crc);
    return mp_crc32c_combine(mp_crc32c(0, out, AT_TYPE), crc, size - AT_TYPE);
}

/* -- decoding ---------------------------------------------------------------------- */

static bool is_known(uint8_t type)
{
    switch (type) {
    case MP_ENTRY_MESSAGE:
    case MP_ENTRY_GROUP:
    case MP_ENTRY_DELETE:
    case MP_ENTRY_ID:
    case MP_ENTRY_PARTITION:
    case MP_ENTRY_SKIP:
    case MP_ENTRY_FLOOR:
    case MP_ENTRY_DAMAGE:
    case MP_ENTRY_META:
    case MP_ENTRY_CLOCK:
        return true;
    default:
        return type >= MP_ENTRY_OPTIONAL;
    }
}

/* The parts behind the header; false: they do not fill the entry exactly. */
static bool take_parts(memphis_slice parts, size_t headers_size, size_t payload_size,
                       struct mp_entry *out)
{
    struct mp_cursor c = mp_cursor_of(parts);

    if (out->flags & MP_ENTRY_HAS_SUBJECT) {
        out->subject = mp_cursor_take(&c, mp_cursor_u16(&c));
        c.bad |= out->subject.size == 0 || out->subject.size > MP_SUBJECT_MAX;
    }
    if (out->flags & MP_ENTRY_HAS_ID) {
        out->id = mp_cursor_take(&c, mp_cursor_u8(&c));
        c.bad |= out->id.size == 0;
    }
    out->headers = mp_cursor_take(&c, headers_size);
    out->payload = mp_cursor_take(&c, payload_size);
    return !c.bad && mp_cursor_left(&c) < 8;
}

memphis_status mp_entry_decode(memphis_slice bytes, bool check, struct mp_entry *out,
                               size_t *size, memphis_error *err)
{
    const uint8_t *p = bytes.data;

    if (bytes.size < MP_ENTRY_HEADER_SIZE)
        return mp_fail(err, MEMPHIS_CORRUPT, "an entry is cut off");
    size_t length = mp_get_u32(p + AT_LENGTH);
    if (length < MP_ENTRY_HEADER_SIZE || length % 8 != 0 || length > bytes.size)
        return mp_fail(err, MEMPHIS_CORRUPT, "an entry has an impossible length");
    if (check && mp_crc32c(0, p + AT_TYPE, length - AT_TYPE) != mp_get_u32(p + AT_CRC))
        return mp_fail(err, MEMPHIS_CORRUPT, "the checksum of an entry is wrong");
    *out = (struct mp_entry){ .type = p[AT_TYPE],
                              .flags = p[AT_FLAGS],
                              .pid = mp_get_u32(p + AT_PID),
                              .seq = mp_get_u64(p + AT_SEQ),
                              .time_ns = mp_get_u64(p + AT_TIME) };
    *size = length;
    if (!is_known(out->type))
        return mp_fail(err, MEMPHIS_UNSUPPORTED,
                       "entries of type %u need a newer release", out->type);
    if (out->type >= MP_ENTRY_OPTIONAL)
        return MEMPHIS_OK; /* a reader that does not know it skips it by its length */
    if (out->flags & FLAGS_RESERVED)
        return mp_fail(err, MEMPHIS_UNSUPPORTED,
                       "entries with the flag %u need a newer release",
                       out->flags & FLAGS_RESERVED);
    size_t headers_size = mp_get_u16(p + AT_HEADERS_SIZE);
    size_t payload_size = mp_get_u32(p + AT_PAYLOAD_STORED);
    memphis_slice parts = { p + MP_ENTRY_HEADER_SIZE, length - MP_ENTRY_HEADER_SIZE };
    bool has_headers = (out->flags & MP_ENTRY_HAS_HEADERS) != 0;
    if (payload_size != mp_get_u32(p + AT_PAYLOAD_SENT) ||
        has_headers != (headers_size > 0) ||
        !take_parts(parts, headers_size, payload_size, out))
        return mp_fail(err, MEMPHIS_CORRUPT,
                       "the parts of an entry do not fit into it");
    return MEMPHIS_OK;
}
