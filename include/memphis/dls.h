/* memphis/dls.h -- the dead-letter station: what consumer groups have given up.
 *
 * A message that ran out of deliveries, or that a handler called dead, leaves its group
 * and becomes a dead letter of its station in one durable step: a full copy, one per
 * message, with the groups that gave it up and why. It stays until every one of them
 * has acknowledged it after a resend, until it is dropped, for dls_retention_hours
 * (memphis_options), or until its station goes.
 *
 * Thread of all functions: as the mode of the broker says. After fork: MISUSE.
 */
#ifndef MEMPHIS_DLS_H
#define MEMPHIS_DLS_H

#include <memphis/message.h>
#include <memphis/station.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Why: not acknowledged in its last delivery; a consumer said so; a producer's SDK
 * found that it breaks the schema of the station, and has not stored it. */
enum { MEMPHIS_DEAD_UNACKED = 1, MEMPHIS_DEAD_NACKED = 2, MEMPHIS_DEAD_SCHEMA = 3 };

/* All of it is valid inside the callback only. */
typedef struct memphis_dead {
    uint64_t id;           /* unique in the broker */
    uint32_t reason;       /* MEMPHIS_DEAD_* */
    uint32_t deliveries;   /* until it was given up; SCHEMA: 0 */
    const char *group;     /* the first of the groups; "": none (SCHEMA) */
    const char *const *groups; /* who gave it up and has not settled it since */
    uint32_t groups_count;
    uint32_t reserved0;
    const char *detail; /* what was said of it, else a sentence that tells the reason */
    uint64_t time_ms;   /* of its last change, since 1970; retention counts from then */
    memphis_message *message; /* the message as it was stored (SCHEMA: partition and
                                 sequence 0). memphis_message_ref keeps it; it is
                                 nobody's to settle: MISUSE */
    uint64_t reserved[4];
} memphis_dead;

typedef bool (*memphis_dead_fn)(void *ctx, const memphis_dead *d); /* false stops */

/* Calls fn, on this thread, for each dead letter that is there now, the one whose last
 * change is the oldest first. fn may call anything, also to drop and to resend. A
 * letter that changes meanwhile may come twice, one that is dropped meanwhile not at
 * all. INVALID, NOT_FOUND (station removed), TIMEOUT, CANCELED (interrupted), NOMEM,
 * BROKEN, CLOSED: some may have been shown. */
MEMPHIS_API memphis_status memphis_dls_each(memphis_station *s, memphis_dead_fn fn,
                                            void *ctx, memphis_error *err);

/* Sends letters once more to the groups that gave them up, and to no other: their SDK
 * clients, and memphis_fetch and memphis_consume, get them; an acknowledgement settles
 * the letter for its group. SCHEMA letters have no group and go nowhere. Does not wait
 * for that: the broker sends at the pace of those who read (memphis_dls_read_info tells
 * how far it is), to those that are connected then. What is not acknowledged stays a
 * dead letter.
 *
 * `ids`: n of them (borrowed until it returns), OK at once; ids that are none of this
 * station are left out. NULL with n 0: all that are there now, OK when the order is
 * durable: a restart goes on with it.
 * INVALID (NULL with an n), FULL (100,000 ids wait; retry), BUSY (all of this station
 * are being resent), NOT_FOUND (station removed), NO_SPACE, NOMEM, TIMEOUT, CANCELED,
 * BROKEN, CLOSED. */
MEMPHIS_API memphis_status memphis_dls_resend(memphis_station *s, const uint64_t *ids,
                                              size_t n, memphis_error *err);

/* Removes letters; OK when that is durable. `ids` as above; NULL with n 0: all that are
 * there now (when that fails, some may be gone). INVALID, NOT_FOUND (station removed),
 * NOMEM, TIMEOUT, CANCELED (outcome unknown), BROKEN, CLOSED. */
MEMPHIS_API memphis_status memphis_dls_drop(memphis_station *s, const uint64_t *ids,
                                            size_t n, memphis_error *err);

typedef struct memphis_dls_info {
    uint64_t letters;        /* now */
    uint64_t resent, resend; /* done, and how many it is in all, of what was asked to
                                be resent since nothing was under way; what was gone
                                before its turn counts as done */
    uint32_t resending;      /* 1: it is under way */
    uint32_t reserved0;
    uint64_t reserved[4];
} memphis_dls_info;

/* INVALID, NOT_FOUND (station removed), NOMEM, TIMEOUT, CANCELED, BROKEN, CLOSED. */
MEMPHIS_API memphis_status memphis_dls_read_info(memphis_station *s,
                                                 memphis_dls_info *out,
                                                 memphis_error *err);

#ifdef __cplusplus
}
#endif
#endif
