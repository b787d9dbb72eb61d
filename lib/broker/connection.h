/* broker/connection.h -- who is connected, and what becomes of the rows of those who
 * are not.
 *
 * The row of a producer or consumer (client.h) is active while its connection id has a
 * living connection. That is not stored: it is known, since a broker sees each of its
 * connections end (a peer that vanished leaves its PINGs unanswered: session.h). An id
 * that has rows but no connection is *gone*, since the last of these came to pass:
 *
 *   its last connection ended
 *   the broker started
 *   a row was added in its name: a request may name an id that is not its connection's
 *
 * A connection that brings the id back makes its rows active again. After the retention
 * they are removed; their groups stay, with all that they have acknowledged.
 *
 *   gone ids, the oldest first; one timer: oldest + retention, and not before 15
 *   minutes after the sweep before it. A sweep drops at most 256 rows at once, and the
 *   next ones when these are committed.
 *
 * Thread: core.
 */
#ifndef MP_BROKER_CONNECTION_H
#define MP_BROKER_CONNECTION_H

#include "broker/broker.h"

/* A connection id has a living connection (counted: a client may hold several). */
void mp_connection_up(struct mp_broker *b, const char *id);
void mp_connection_down(struct mp_broker *b, const char *id);
bool mp_connection_is_up(const struct mp_broker *b, const char *id);

/* How long the rows of a gone id are kept; holds at once. 0: 3 hours. INVALID: more
 * than 168. */
memphis_status mp_connections_keep(struct mp_broker *b, uint32_t hours,
                                   memphis_error *err);
/* The broker's own calls: */
void mp_connections_init(struct mp_broker *b);
void mp_connections_started(struct mp_broker *b); /* the catalogue is complete */
void mp_connections_applied(struct mp_broker *b, const struct mp_command *c,
                            memphis_status result, const void *row, uint64_t tag);
void mp_connections_free(struct mp_broker *b);

#endif
