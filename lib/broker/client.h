/* broker/client.h -- producers and consumers as resources.
 *
 * A producer or consumer is a metadata row per (name, station, connection); whether it
 * is active, and how long it stays when it is not: connection.h. A consumer group is a
 * group on every partition; it is made by its first member and removed with its last
 * active one (sdk-protocol 2.5, 2.6). Disconnecting alone never removes a group.
 *
 * Thread: core.
 */
#ifndef MP_BROKER_CLIENT_H
#define MP_BROKER_CLIENT_H

#include "broker/station.h"

/* A producer's request, texts borrowed; names folded and checked. */
struct mp_producer_request {
    const char *name, *connection_id, *app_id, *sdk, *user;
    uint32_t type, version;
};
void mp_producer_add(struct mp_station *s, const struct mp_producer_request *r,
                     struct mp_then then);
/* NOT_FOUND when there is no such row. */
void mp_producer_drop(struct mp_station *s, const char *name, const char *connection_id,
                      struct mp_then then);

struct mp_consumer_request {
    const char *name, *group; /* group: external form, never empty */
    const char *connection_id, *app_id, *sdk, *user;
    uint32_t type, version;
    uint64_t ack_wait_ms;
    uint32_t deliveries_max;
    uint64_t start_sequence; /* 1: from the first */
    int64_t last_messages;   /* -1: all; 0 with start 1: only new ones */
};
/* Makes the group on every partition, or updates its ack wait and deliveries, and adds
 * the row; `then` when all of it is committed. */
void mp_consumer_add(struct mp_station *s, const struct mp_consumer_request *r,
                     struct mp_then then);
void mp_consumer_drop(struct mp_station *s, const char *name, const char *connection_id,
                      struct mp_then then);

/* Removes the row but keeps the group: a consumer that goes away in good order. */
void mp_consumer_forget(struct mp_station *s, const char *name,
                        const char *connection_id, struct mp_then then);

/* "billing.eu" -> durable "billing#eu"; out has room for MP_NAME_MAX + 1. */
void mp_durable_name(const char *group, char *out);

#endif
