/* store/record.h -- the bytes of an entry: encode and decode, with checksums.
 *
 * The unit of every log: storage-design 4.2, written down in docs/disk-format.md; what
 * lies around entries is in store/layout.h. Little-endian. The decoder takes any bytes
 * and returns a status; it never asserts on input and never reads outside the slice.
 * The encoder asserts its limits.
 *
 * Thread: any (pure).
 */
#ifndef MP_STORE_RECORD_H
#define MP_STORE_RECORD_H

#include "base/buf.h"

#include <memphis/status.h>

/* -- entry (4.2): WAL and segment share it, so a flush is a copy -- */
enum {
    MP_ENTRY_MESSAGE = 1,
    MP_ENTRY_MESSAGE_BATCH = 2,   /* reserved */
    MP_ENTRY_GROUP = 3,
    MP_ENTRY_DELETE = 4,
    MP_ENTRY_ID = 5,
    MP_ENTRY_DLS = 6,             /* reserved */
    MP_ENTRY_PARTITION = 7,
    MP_ENTRY_BYPASS = 9,          /* reserved */
    MP_ENTRY_SKIP = 10,
    MP_ENTRY_FORWARD = 11,        /* reserved */
    MP_ENTRY_FLOOR = 12,
    MP_ENTRY_HASH = 13,           /* reserved */
    MP_ENTRY_DAMAGE = 14,
    MP_ENTRY_META = 15,
    MP_ENTRY_CLOCK = 16,
    MP_ENTRY_OPTIONAL = 128       /* from here on: unknown ones are skipped */
};
enum {
    MP_ENTRY_ZSTD = 1,            /* reserved */
    MP_ENTRY_HAS_HEADERS = 2,
    MP_ENTRY_HAS_ID = 4,
    MP_ENTRY_NO_REPLY = 8,
    MP_ENTRY_TOMBSTONE = 16,      /* reserved */
    MP_ENTRY_HAS_SOURCE = 32,     /* reserved: design D20 */
    MP_ENTRY_CHAINED = 64,        /* belongs with the next entry: one atomic commit */
    MP_ENTRY_HAS_SUBJECT = 128    /* absent: "<stream>.final" */
};
enum {
    MP_ENTRY_HEADER_SIZE = 40,
    MP_ENTRY_SIZE_MAX = 16 << 20  /* no message is larger: what says so is damaged */
};

/* The decoded view. The slices are borrowed: from the caller at append, from chunk or
 * file memory after a read. The flags HAS_* follow from the slices when encoding. */
struct mp_entry {
    uint8_t type, flags;
    uint32_t pid;                 /* partition; 0: the shard itself */
    uint64_t seq;                 /* of the message; else as the type says (4.8) */
    uint64_t time_ns;             /* broker time */
    memphis_slice subject;        /* only when it is not "<stream>.final" */
    memphis_slice id;             /* message id, at most 255 bytes */
    memphis_slice headers;        /* verbatim NATS/1.0 block, at most 65,535 bytes */
    memphis_slice payload;
};

size_t mp_entry_size(const struct mp_entry *e);  /* encoded, padded to 8 */
/* Writes mp_entry_size(e) bytes; returns the CRC32C over all of them, for the body CRC
 * of the group record (combined, so the payload is passed over once). */
uint32_t mp_entry_encode(const struct mp_entry *e, uint8_t *out);
/* One entry at the start of `bytes`; *size is its length. CORRUPT: lengths or checksum
 * are wrong; UNSUPPORTED: unknown type or flag (text names it). `check` false: the
 * bytes were checked before (chunks in memory). */
memphis_status mp_entry_decode(memphis_slice bytes, bool check, struct mp_entry *out,
                               size_t *size, memphis_error *err);

#endif
