/* bus/bus.h -- publish and subscribe inside one broker; everything internal is a
 * client.
 *
 *   session (socket) ----+                     +---- session
 *   in-process consumer -+--> bus: interest ---+---- in-process consumer
 *   broker's replies ----+      |              +---- queue group: one member
 *                               +--> services: $memphis_..., $JS..., stations' subjects
 *
 * A *client* publishes and subscribes. A *service* is the broker's own: it takes what
 * clients publish on its pattern. Services have a tree of their own, so a client that
 * subscribes to ">" never sees requests of others; a service with MP_SERVICE_TAP
 * (stations) lets ordinary subscribers hear the message too, at once, with nothing
 * promised (sdk-protocol 3.4). Messages that the broker publishes go to clients only.
 *
 * A message is borrowed for the call; who keeps it copies it. Subscriptions may come
 * and go inside deliver(): one that was removed gets nothing more, and a removed
 * client's memory may be freed as soon as mp_bus_leave returned.
 *
 * Thread: core of its owner (pure: no clocks, no randomness but the seed).
 */
#ifndef MP_BUS_BUS_H
#define MP_BUS_BUS_H

#include "base/list.h"
#include "bus/subject.h"

struct mp_bus;
struct mp_client;
struct mp_grants;

/* What travels. `subject` is what the receiver is shown; where it goes is said apart.
 */
struct mp_message {
    memphis_slice subject;
    memphis_slice reply;   /* empty: none */
    memphis_slice headers; /* verbatim NATS/1.0 block, or empty */
    memphis_slice payload;
    const void *stored; /* struct mp_stored * when it comes out of a log */
    /* For those only who may subscribe to this, whatever they did subscribe to: an
     * inbox says nothing of the station. Empty: for all. */
    memphis_slice heard_as;
};

struct mp_subscription {
    struct mp_list of_client; /* bus internal from here ... */
    struct mp_client *client;
    struct mp_interest_node *node;
    uint64_t order;        /* of subscribing */
    uint64_t turn;         /* of its group, while it is the first member */
    char *subject, *queue; /* owned; queue NULL: none */
    uint32_t subject_size, queue_size;
    uint32_t cost; /* ... to here */
    void *ctx;            /* the client's */
};

/* Embedded in a session or an in-process consumer. Fill deliver, mp_bus_join, use. */
struct mp_client {
    uint64_t id; /* set by mp_bus_join; never reused */
    /* Called inside mp_bus_publish. `s` may be gone after it returns. */
    void (*deliver)(struct mp_client *c, struct mp_subscription *s,
                    const struct mp_message *m);
    /* Whether it can take a message of about `size` bytes now; who says no says later,
     * in his own way, that he can again. NULL: always. */
    bool (*has_room)(struct mp_client *c, size_t size);
    /* Whether it may have what is heard as that (mp_message). NULL: always. */
    bool (*may_hear)(struct mp_client *c, memphis_slice subject);
    bool no_echo;              /* own messages are not delivered back */
    const char *user;          /* identity; NULL until authenticated. Owned by client */
    const char *connection_id; /* "" for plain clients */
    const char *lang;          /* CONNECT lang, "" none */
    const struct mp_grants *grants; /* NULL: all; see broker/permission.h */
    struct mp_list subscriptions;
    uint32_t subscriptions_cost; /* of all together */
};

enum {
    MP_SERVICE_TAP = 1,
    MP_SERVICE_LAST = 2 /* only where no other service matches */
};

/* True: taken (there was a responder). False: as if nobody served the subject. */
typedef bool (*mp_service_fn)(void *ctx, struct mp_client *from,
                              const struct mp_message *m);
struct mp_service; /* handle of mp_bus_serve */

struct mp_bus *mp_bus_new(uint64_t seed);
void mp_bus_free(struct mp_bus *b);

void mp_bus_join(struct mp_bus *b, struct mp_client *c);
void mp_bus_leave(struct mp_bus *b, struct mp_client *c); /* with its subscriptions */

/* INVALID: subject or queue name; FULL: MP_SUBSCRIPTIONS_MAX. A subject of many tokens
 * counts as several: each token may need a node of the tree. */
memphis_status mp_bus_subscribe(struct mp_bus *b, struct mp_client *c,
                                memphis_slice subject, memphis_slice queue,
                                struct mp_subscription **out);
void mp_bus_unsubscribe(struct mp_bus *b, struct mp_subscription *s); /* frees it */

/* `fn` hears of every subscription that is added; a second call replaces the first. */
void mp_bus_watch(struct mp_bus *b, void (*fn)(void *ctx, memphis_slice pattern),
                  void *ctx);

/* The first service that matches, in order of registration, gets the message. */
struct mp_service *mp_bus_serve(struct mp_bus *b, memphis_slice pattern, uint32_t flags,
                                mp_service_fn fn, void *ctx);
void mp_bus_unserve(struct mp_bus *b, struct mp_service *s);

/* A client publishes: services first, then subscribers (each plain one, and one member
 * of each queue group, chosen in turn). Returns how many took it: 0 is "no responders".
 */
uint32_t mp_bus_publish(struct mp_bus *b, struct mp_client *from,
                        const struct mp_message *m);

/* The broker publishes to whoever subscribed to `to` (an inbox, mostly), while the
 * message may show another subject: pulled messages carry their station's. */
uint32_t mp_bus_deliver(struct mp_bus *b, memphis_slice to, const struct mp_message *m);

bool mp_bus_has_interest(struct mp_bus *b, memphis_slice subject); /* clients only */
/* Before a delivery that can wait: does anybody subscribe who may hear it (`heard_as`
 * as in mp_message), and has one of them room? */
enum mp_bus_reach { MP_BUS_NOBODY, MP_BUS_BUSY, MP_BUS_READY };
enum mp_bus_reach mp_bus_reach(struct mp_bus *b, memphis_slice subject,
                               memphis_slice heard_as, size_t size);
/* Whether `c` itself would receive what is published on `subject`: its subscription. */
struct mp_subscription *mp_bus_own_interest(struct mp_bus *b, struct mp_client *c,
                                            memphis_slice subject);

/* Headers of a verbatim block, "key:value" and "key: value" alike, key case-sensitive.
 * `value` NULL data: not there. Never fails on odd bytes. */
memphis_slice mp_header_find(memphis_slice headers, const char *key);

#endif
