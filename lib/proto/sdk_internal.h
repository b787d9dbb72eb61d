/* proto/sdk_internal.h -- what the files of the SDK requests share.
 *
 * sdk.c reads a request and knows the table; sdk_station.c and sdk_client.c hold the
 * handlers. A handler checks the body, starts a command, and ends in exactly one
 * mp_sdk_finish or mp_sdk_refuse, now or when the command is committed; both free the
 * request. Thread: core.
 */
#ifndef MP_PROTO_SDK_INTERNAL_H
#define MP_PROTO_SDK_INTERNAL_H

#include "base/limits.h"
#include "broker/permission.h"
#include "broker/station.h"

struct mp_sdk_subject;
struct mp_json;

enum { MP_SDK_TEXT_MAX = 255 };  /* connection id, application id, SDK, user */

/* What a body can hold; each subject reads the fields of its own list. Texts are
 * borrowed from the document and never NULL where the list has them. */
struct mp_sdk_body {
    const char *name, *station_name, *connection_id, *app_id, *sdk_lang;
    const char *type, *group;
    const char *schema_name, *retention_type, *storage_type, *dls_station;
    int64_t req_version;
    int64_t retention_value, replicas, window_ms, partitions;
    int64_t ack_wait_ms, deliveries_max, start_sequence, last_messages;
    bool dls_poison, dls_schema, tiered;
    const char *text, *data;        /* of a dead letter: reason; payload in hex */
    int64_t id, seq, partition;
};

/* A request on its way: one allocation, freed with the answer. */
struct mp_sdk_request {
    struct mp_broker *broker;
    const struct mp_sdk_subject *subject;
    bool is_java;
    uint32_t type, version;
    struct mp_station_settings settings;
    uint64_t ack_wait_ms, start_sequence;
    uint32_t deliveries_max;
    int64_t last_messages;
    char station[MP_NAME_MAX + 1], dls_station[MP_NAME_MAX + 1]; /* external, folded */
    char name[MP_NAME_MAX + 1], group[MP_NAME_MAX + 1];
    char user[MP_SDK_TEXT_MAX + 1], connection_id[MP_SDK_TEXT_MAX + 1];
    char app_id[MP_SDK_TEXT_MAX + 1], sdk[MP_SDK_TEXT_MAX + 1];
    uint32_t reply_size;
    char reply[];
};

/* What is there only during the call of the service. */
struct mp_sdk_call {
    struct mp_broker *broker;
    const struct mp_client *from;
    const struct mp_json *doc;
    struct mp_sdk_body body;
};

/* -- answers (sdk.c) -- */
void mp_sdk_finish(struct mp_sdk_request *r, memphis_slice payload);
void mp_sdk_finish_empty(struct mp_sdk_request *r);
void mp_sdk_refuse(struct mp_sdk_request *r, const char *text); /* in its style */
void mp_sdk_refuse_status(struct mp_sdk_request *r, memphis_status st,
                          const char *text);
void mp_sdk_refuse_gone(struct mp_sdk_request *r);              /* its station */

/* -- reading (sdk.c) -- */
memphis_status mp_sdk_take_text(const char *text, const char *what,
                                char out[MP_SDK_TEXT_MAX + 1], memphis_error *err);
/* Folds to lower case and checks; `internal`: "a#b" is taken as "a.b". */
memphis_status mp_sdk_take_name(const char *text, const char *object, bool internal,
                                char out[MP_NAME_MAX + 1], memphis_error *err);
int64_t mp_sdk_clamp(int64_t v, int64_t low, int64_t high);
/* Whether who asks may do one of `what` (broker/permission.h); `verb` is for the words:
 * "access", "create". DENIED. */
memphis_status mp_sdk_may(const struct mp_sdk_call *c, uint32_t what, const char *verb,
                          const char *station, memphis_error *err);

struct mp_sdk_choice {
    const char *name;            /* NULL ends the list */
    uint32_t value;
};
bool mp_sdk_choose(const struct mp_sdk_choice *c, const char *text, uint32_t *out);

/* -- handlers -- */
void mp_sdk_create_station(const struct mp_sdk_call *c, struct mp_sdk_request *r);
void mp_sdk_destroy_station(const struct mp_sdk_call *c, struct mp_sdk_request *r);
void mp_sdk_create_producer(const struct mp_sdk_call *c, struct mp_sdk_request *r);
void mp_sdk_destroy_producer(const struct mp_sdk_call *c, struct mp_sdk_request *r);
void mp_sdk_create_consumer(const struct mp_sdk_call *c, struct mp_sdk_request *r);
void mp_sdk_destroy_consumer(const struct mp_sdk_call *c, struct mp_sdk_request *r);
void mp_sdk_take_nacked(const struct mp_sdk_call *c, struct mp_sdk_request *r);
void mp_sdk_take_refused(const struct mp_sdk_call *c, struct mp_sdk_request *r);
void mp_sdk_take_settled(const struct mp_sdk_call *c, struct mp_sdk_request *r);
/* A station was removed, by whomever: SDKs of all connections drop what they remember
 * of it (sdk-protocol 2.2). `name` as it is shown. */
void mp_sdk_station_removed(struct mp_broker *b, const char *name);
void mp_sdk_station_changed(struct mp_broker *b, const struct mp_station *s);
/* The whole object of a producer creation, empty but for the error (sdk_client.c). */
void mp_sdk_put_producer_error(struct mp_buf *out, const char *text);

#endif
