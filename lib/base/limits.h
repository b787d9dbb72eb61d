/* base/limits.h -- every bound of the broker in one place (design D11).
 *
 * Over a limit: a clear error for the client that did it, a counter for the operator,
 * no harm to others. Sizes are bytes unless the name says otherwise.
 */
#ifndef MP_BASE_LIMITS_H
#define MP_BASE_LIMITS_H

enum {
    MP_CONNECTIONS_MAX = 65536,
    MP_SUBSCRIPTIONS_MAX = 10000,      /* per connection */
    MP_CONTROL_LINE_MAX = 4096,        /* arguments of one protocol line */
    MP_HEADERS_MAX = 65535,            /* header block of a message */
    MP_SUBJECT_MAX = 1024,
    MP_PAYLOAD_MAX_DEFAULT = 1 << 20,  /* header block and body together */
    MP_PAYLOAD_MAX_CEILING = 8 << 20,
    MP_OUTPUT_BACKLOG_MAX = 64 << 20,  /* and at most memory_max / 4 */
    MP_PULLS_WAITING_MAX = 512,        /* per group and partition */
    MP_PENDING_MAX = 1000000,          /* unsettled messages of a group and partition */
    MP_DEDUPE_IDS_MAX = 4000000,       /* per partition */
    MP_DEDUPE_SHARE = 16,              /* of memory_max, for all of them: a 16th */
    MP_PARTITIONS_MAX = 10000,         /* per station */
    MP_GROUPS_MAX = 10000,             /* per partition */
    MP_NAME_MAX = 128,                 /* station, producer, consumer, group */
    MP_PASSWORD_MAX = 72,              /* bcrypt looks no further */
    MP_MESSAGE_ID_MAX = 255,           /* one length byte in the entry */
    MP_DELIVERIES_MAX = 10,
    MP_DEAD_REASON_MAX = 1024,         /* what a C program says of a dead letter */
    MP_JSON_DEPTH_MAX = 64,
    MP_JSON_VALUES_MAX = 1 << 20,      /* in one text; each takes 80 bytes */
    MP_WS_HEAD_MAX = 8 << 10,          /* the request that opens a WebSocket */
    MP_WS_MESSAGE_MAX = 64 << 20,      /* its frames with their headers, on the wire */
    MP_AUTH_HELD_INPUT_MAX = 64 << 10, /* held while a verdict is out ... */
    MP_AUTH_HELD_TOTAL_MAX = 16 << 20, /* ... of all; beyond it only of those that */
    MP_AUTH_HELD_SMALL = 8 << 10,      /* have little more than a CONNECT */

    MP_CHUNK_SIZE = 64 << 10,          /* log memory comes in chunks of this size */
    MP_ENTRY_BYTES_MAX = 1 << 20,      /* one shard entry (one commit) ... */
    MP_ENTRY_OPERATIONS_MAX = 4096,    /* ... and the appends in it */
    MP_TURN_BYTES_MAX = 1 << 20,       /* input applied in one turn ... */
    MP_TURN_OPERATIONS_MAX = 4096,
    MP_TURN_SESSION_BYTES_MAX = 64 << 10, /* ... and of one session */

    MP_WAL_FILE_MIN = 1 << 20,
    MP_WAL_FILE_MAX = 64 << 20,
    MP_WAL_TOTAL_MAX = 1 << 30,
    MP_SEGMENT_SIZE = 64 << 20,

    MP_PROGRESS_DELAY_MS = 5,          /* acks wait at most this long for a log entry */
    MP_COVER_DELAY_MS = 1000,          /* then an idle log covers its last batch */
    MP_AUTH_TIMEOUT_MS = 2000,         /* CONNECT must come within */
    MP_AUTH_TIMEOUT_TLS_MS = 30000,    /* behind a handshake, which has its own */
    MP_PING_INTERVAL_MS = 120000,
    MP_PINGS_OUT_MAX = 2,
    MP_WRITE_STALL_MS = 10000,         /* a slow reader is closed after */
    MP_DLS_RETENTION_DEFAULT_H = 3,
    MP_DLS_RETENTION_MAX_H = 30,
    MP_IDLE_RETENTION_DEFAULT_H = 3,   /* producers, consumers without connection */
    MP_IDLE_RETENTION_MAX_H = 168,
    MP_ACK_WAIT_DEFAULT_MS = 30000,
    MP_IDEMPOTENCY_DEFAULT_MS = 120000,
    MP_IDEMPOTENCY_MIN_MS = 100,
    MP_IDEMPOTENCY_MAX_MS = 86400000,
    MP_RETENTION_AGE_DEFAULT_S = 3600,
    MP_RETENTION_AGE_MAX_S = 50 * 365 * 86400 /* fifty years: its ns fit in 64 bits */
};

#define MP_MEMORY_MAX_DEFAULT (256ull << 20)
#define MP_SUBJECTS_BYTES_DEFAULT (MP_MEMORY_MAX_DEFAULT / 16) /* indexes by subject */
#define MP_DLS_BYTES_MAX_DEFAULT (1ull << 30)
#define MP_MEMORY_MAX_FLOOR (4ull << 20)
#define MP_DISK_RESERVE_MAX (1ull << 30) /* of the default: 5 % of the file system */

#endif
