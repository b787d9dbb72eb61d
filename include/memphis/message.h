/* memphis/message.h -- a received message: refcounted, immutable.
 *
 * Inside a handler a message is borrowed; memphis_message_ref keeps it longer. A
 * message pins log memory: let go when you are done. Thread: any (pure), but for the
 * settling calls, which are as memphis_broker's mode says.
 */
#ifndef MEMPHIS_MESSAGE_H
#define MEMPHIS_MESSAGE_H

#include <memphis/status.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct memphis_message memphis_message;

typedef struct memphis_header {
    const char *name, *value;
    uint64_t reserved;
} memphis_header;

MEMPHIS_API memphis_message *memphis_message_ref(memphis_message *m);
MEMPHIS_API void memphis_message_unref(memphis_message *m);

/* The body; valid while you hold a reference. */
MEMPHIS_API memphis_slice memphis_message_data(const memphis_message *m);
/* Value of a header, case-sensitive; data NULL: none. Valid as the body. */
MEMPHIS_API memphis_slice memphis_message_header(const memphis_message *m,
                                                 const char *name);
MEMPHIS_API uint64_t memphis_message_sequence(const memphis_message *m);
MEMPHIS_API uint32_t memphis_message_partition(const memphis_message *m); /* from 1 */
MEMPHIS_API uint64_t memphis_message_time_ms(const memphis_message *m); /* since 1970 */
MEMPHIS_API uint32_t memphis_message_deliveries(const memphis_message *m); /* from 1 */
/* memphis_dead.id of the dead letter that was sent once more and came as this message;
 * 0: it is none. Its deliveries are those until it was given up. */
MEMPHIS_API uint64_t memphis_message_dead_id(const memphis_message *m);

/* Settle a message that was kept (MEMPHIS_KEEP) or fetched. An acknowledgement is
 * remembered at once and durable within milliseconds: a crash may deliver the message
 * again (at least once). Settling twice is ignored. INVALID (NULL), MISUSE (wrong
 * thread, a forked child, a message of memphis_dls_each), NOMEM, BROKEN, CLOSED.
 *
 * A dead letter that was sent once more (memphis_message_dead_id) is settled by an
 * acknowledgement; anything else leaves it a dead letter, and it can be resent. */
MEMPHIS_API memphis_status memphis_message_ack(memphis_message *m);
/* Again, at once or in delay_ms. UNSUPPORTED: a dead letter cannot be delayed. */
MEMPHIS_API memphis_status memphis_message_nack(memphis_message *m, uint64_t delay_ms);
MEMPHIS_API memphis_status
memphis_message_extend(memphis_message *m); /* restart its ack wait */
/* Never again for this group: it becomes a dead letter (memphis/dls.h) with these words
 * (copied; UTF-8, cut behind 1,024 bytes; NULL or "": none) and leaves the group in one
 * durable step. The message stays in the station, for other groups. */
MEMPHIS_API memphis_status memphis_message_dead_letter(memphis_message *m,
                                                       const char *reason);

#ifdef __cplusplus
}
#endif
#endif
