/* memphis/broker.h -- open a broker, run it, close it.
 *
 * One data directory is one broker, in one process. Without a directory everything is
 * in memory and gone at close. Who does the work:
 *
 *   MEMPHIS_THREADED             the broker's own threads; call from any thread
 *   MEMPHIS_MANUAL, workers 0    no thread at all: everything happens inside
 *                                memphis_step and waiting calls, disk writes included
 *   MEMPHIS_MANUAL, workers 1+   your loop is the core: call from one thread, and
 *                                memphis_step when memphis_wakeup_fd is readable or
 *                                next_ms has passed; disk and passwords have threads
 */
#ifndef MEMPHIS_BROKER_H
#define MEMPHIS_BROKER_H

#include <memphis/status.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct memphis_broker memphis_broker;

enum { MEMPHIS_THREADED = 0, MEMPHIS_MANUAL = 1 };

/* What an acknowledgement promises: ALWAYS: it is on disk (fdatasync, shared by all
 * that arrive together). INTERVAL: written, synced every sync_interval_ms. NONE:
 * written. */
enum { MEMPHIS_SYNC_ALWAYS = 0, MEMPHIS_SYNC_INTERVAL = 1, MEMPHIS_SYNC_NONE = 2 };

/* Damage found at a start: AUTO and STRICT refuse with its place in the text;
 * ACCEPT_LOSS keeps all that verifies and starts. */
enum {
    MEMPHIS_RECOVERY_AUTO = 0,
    MEMPHIS_RECOVERY_STRICT = 1,
    MEMPHIS_RECOVERY_ACCEPT_LOSS = 2
};

/* BATTERY: no spinning for work. */
enum { MEMPHIS_PROFILE_SERVER = 0, MEMPHIS_PROFILE_BATTERY = 1 };

typedef struct memphis_fatal {
    memphis_status status;
    uint32_t reserved;
    const char *text; /* valid during the call */
} memphis_fatal;

typedef struct memphis_options {
    const char *data_dir;      /* NULL: memory only. Made when missing (one level) */
    const char *name;          /* node name; NULL: "memphis-0" */
    uint32_t mode;             /* MEMPHIS_THREADED or MEMPHIS_MANUAL */
    uint32_t workers;          /* MANUAL: 0: no thread at all; else threads for disk and
                                  passwords. THREADED has them always */
    uint64_t memory_max;       /* bytes for messages in memory and buffers; 0: 256 MiB;
                                  at least 4 MiB */
    uint64_t disk_max;         /* bytes on disk; not yet: UNSUPPORTED unless 0 */
    uint64_t disk_reserve;     /* bytes of the file system that messages leave free:
                                  NO_SPACE; 0: 5 % of it, at most 1 GiB */
    uint32_t sync;             /* MEMPHIS_SYNC_*; default: acknowledged = on disk */
    uint32_t sync_interval_ms; /* for MEMPHIS_SYNC_INTERVAL; 0: 100 */
    uint32_t profile;          /* MEMPHIS_PROFILE_* */
    uint32_t recovery;         /* MEMPHIS_RECOVERY_* */
    uint32_t call_wait_ms;     /* deadline of waiting calls that take none; 0: 30 s;
                                  UINT32_MAX: for ever. TIMEOUT: outcome unknown */
    int32_t log_level;         /* MEMPHIS_LOG_*; 0: no lines */
    memphis_log_fn log;
    void *log_ctx;
    void (*on_fatal)(void *ctx, const memphis_fatal *why); /* once; then every call
                                  returns MEMPHIS_BROKEN. Any thread; only memphis_close
                                  may follow */
    void *fatal_ctx;
    const memphis_allocator *allocator; /* NULL: malloc. Copied */
    const char *root_password; /* of sessions; NULL: "memphis"; at most 72 bytes */
    uint32_t max_payload;      /* header block and body of a message; 0: 1 MiB; at most
                                  8 MiB */
    uint32_t session_port;     /* shown to session clients in INFO; 0: 6666 */
    const char *session_host;  /* likewise; NULL: "127.0.0.1" */
    const char *connection_token; /* of sessions: what all users share in place of their
                                  passwords; NULL: each has his own; at most 72 bytes */
    uint32_t websocket_port;   /* shown to those behind a WebSocket; 0: 7770 */
    uint32_t dls_retention_hours; /* dead letters are kept for, after their last change;
                                  0: 3; at most 30 */
    uint64_t dls_max_bytes;    /* of dead letters: the oldest ones go before their time;
                                  0: 1 GiB */
    uint32_t gc_producer_consumer_retention_hours; /* producers and consumers whose
                                  connection is gone are kept for, their groups for
                                  ever; 0: 3; at most 168 */
    uint32_t reserved0;
    uint64_t reserved[2];
} memphis_options;

/* Opens and recovers; blocks meanwhile. Statuses: INVALID (options, or a directory that
 * is not ours), DENIED (no permission there), UNSUPPORTED (disk_max), BUSY (open in
 * this or another process), CORRUPT (damage: see recovery), VERSION (written by a newer
 * release), IO, NO_SPACE, NOMEM. Thread: any. */
MEMPHIS_API memphis_status memphis_open(const memphis_options *o, memphis_broker **out,
                                        memphis_error *err);

/* Finishes what was accepted, syncs, stops threads, frees. Handles of this broker stay
 * valid to close; every other call on them returns CLOSED. Blocks. Thread: any, not
 * inside a callback of this broker. */
MEMPHIS_API void memphis_close(memphis_broker *b);

/* MANUAL: one turn. *next_ms (may be NULL): call again at the latest after that many
 * milliseconds; 0: at once; UINT64_MAX: only when the fd says so. MISUSE in THREADED
 * mode or on another thread than the first. BROKEN after a fatal error. */
MEMPHIS_API memphis_status memphis_step(memphis_broker *b, uint64_t *next_ms);

/* MANUAL: a descriptor that is readable when memphis_step has work, or has to be asked
 * again for next_ms because another call brought some (level-triggered, memphis_step
 * drains it, valid until memphis_close). -1 in THREADED mode. */
MEMPHIS_API int memphis_wakeup_fd(const memphis_broker *b);

/* Every call that waits on this broker returns CANCELED, once. Any thread, and signal
 * handlers. */
MEMPHIS_API void memphis_interrupt(memphis_broker *b);

/* What the start found, valid until memphis_close: "new store", or a sentence such as
 * "recovered 3 messages in 4 ms". Thread: any. */
MEMPHIS_API const char *memphis_recovery_text(const memphis_broker *b);

#ifdef __cplusplus
}
#endif
#endif
