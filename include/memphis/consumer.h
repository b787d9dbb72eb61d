/* memphis/consumer.h -- take messages out of a station, as a member of a group.
 *
 * Members of one group share the messages; each group sees all of them. What is not
 * acknowledged within the ack wait comes again, to any member.
 */
#ifndef MEMPHIS_CONSUMER_H
#define MEMPHIS_CONSUMER_H

#include <memphis/message.h>
#include <memphis/station.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct memphis_consumer memphis_consumer;

/* The verdict on a message: done; again, please; never again: it becomes a dead letter
 * (memphis_message_dead_letter says why, then return KEEP); later (settle it with
 * memphis_message_ack and friends: the handler has taken a reference). Any other number
 * is no acknowledgement: again, please. */
enum { MEMPHIS_ACK = 0, MEMPHIS_NACK = 1, MEMPHIS_DEAD = 2, MEMPHIS_KEEP = 3 };

/* Returns the verdict; `m` is borrowed. */
typedef int32_t (*memphis_message_fn)(void *ctx, memphis_message *m);

typedef struct memphis_consumer_options {
    const char *group;       /* NULL: the consumer's own name */
    uint64_t ack_wait_ms;    /* 0: 30 s */
    uint32_t deliveries_max; /* 0 or more than 10: 10 */
    uint32_t partition;      /* only this one; 0: all */
    uint64_t start_sequence; /* where a new group begins; 0, 1: at the first message */
    uint64_t last_messages;  /* a new group begins with the last n of each partition */
    uint32_t only_new;       /* 1: a new group begins behind the last message */
    uint32_t reserved0;
    uint64_t reserved[8];
} memphis_consumer_options;

/* INVALID, NOT_FOUND (station removed), BROKEN, CLOSED; TIMEOUT, CANCELED: the group
 * may have been made. */
MEMPHIS_API memphis_status memphis_consumer_open(memphis_station *s, const char *name,
                                                 const memphis_consumer_options *o,
                                                 memphis_consumer **out,
                                                 memphis_error *err);

/* Takes up to `max` messages, waiting at most wait_ms for the first, and calls fn for
 * each on this thread; its verdicts are the acknowledgements. *handled (may be NULL):
 * how many. A quiet station is OK with 0. Dead letters of the group that are resent
 * (memphis/dls.h) come before new messages, of any partition, each to one member; one
 * that does not fetch lets 256 (or 1 MiB) wait. CANCELED, BROKEN, CLOSED, NOT_FOUND. */
MEMPHIS_API memphis_status memphis_consume(memphis_consumer *c, uint32_t max,
                                           uint32_t wait_ms, memphis_message_fn fn,
                                           void *ctx, uint32_t *handled,
                                           memphis_error *err);

/* The same without a handler: out[0..*fetched) are yours to settle and to unref. */
MEMPHIS_API memphis_status memphis_fetch(memphis_consumer *c, memphis_message **out,
                                         uint32_t max, uint32_t wait_ms,
                                         uint32_t *fetched, memphis_error *err);

/* The group keeps its place. */
MEMPHIS_API void memphis_consumer_close(memphis_consumer *c);

#ifdef __cplusplus
}
#endif
#endif
