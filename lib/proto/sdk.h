/* proto/sdk.h -- the requests of the Memphis SDKs: "$memphis_station_creations" and its
 * like, as services on the bus.
 *
 *   request --> JSON body --> checks --> command of broker/ --> committed --> one reply
 *                 |              |                                              ^
 *                 +--------------+----------- refusal, in the subject's style --+
 *
 * Each subject is one row of a table in sdk.c: its fields, its handler and the style of
 * its replies. The SDKs compare and index what they get, so texts, key order and shapes
 * are those of sdk-protocol 2 (sdk_text.h, tests). A request is answered exactly once,
 * when its command is committed; without a reply subject it is executed silently.
 *
 * Who asks is the authenticated user of the client, whatever the body says.
 *
 * Thread: core.
 */
#ifndef MP_PROTO_SDK_H
#define MP_PROTO_SDK_H

struct mp_broker;

void mp_sdk_start(struct mp_broker *b);
/* Takes no more requests; those on their way are still answered. NULL-safe. */
void mp_sdk_stop(struct mp_broker *b);

/* An SDK's connection is authenticated: the notice of sdk-protocol 2.7. */
void mp_sdk_connection_up(struct mp_broker *b, const char *connection_id);

#endif
