/* proto/jsapi.h -- the part of the JetStream API that the SDKs and NATS tools use, as
 * two services on the bus.
 *
 *   "$JS.API.>"  one table of subject prefixes: queries are answered at once from
 *                memory, commands when they are committed, MSG.NEXT becomes a pull
 *   "$JS.ACK.>"  acks: split by hand, straight to the group
 *
 * CONSUMER.INFO comes before every fetch of JS and .NET, MSG.NEXT with every fetch, an
 * ack with every message: none of them builds a tree or looks at the metadata. A
 * subject that is not in the table, and a pull or an ack for something that does not
 * exist, has no responder: the client hears 503 at once (sdk-protocol 9, item 9).
 *
 * Shapes and error objects are those of sdk-protocol 3 and 7.1: nats-py passes the
 * error object on as keyword arguments, so it has three keys and no more.
 *
 * Thread: core.
 */
#ifndef MP_PROTO_JSAPI_H
#define MP_PROTO_JSAPI_H

struct mp_broker;

void mp_jsapi_start(struct mp_broker *b);
/* Takes no more requests; those on their way are still answered. NULL-safe. */
void mp_jsapi_stop(struct mp_broker *b);

#endif
