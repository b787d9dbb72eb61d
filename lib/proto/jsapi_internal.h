/* proto/jsapi_internal.h -- what the files of the JetStream API share.
 *
 * A handler gets a call: the row of the table, the tokens behind the prefix, and a JSON
 * writer that is set up for the answer. It calls mp_jsapi_begin, writes keys, calls
 * mp_jsapi_send; or mp_jsapi_error. Thread: core; the parsers are pure.
 */
#ifndef MP_PROTO_JSAPI_INTERNAL_H
#define MP_PROTO_JSAPI_INTERNAL_H

#include "base/json.h"
#include "base/limits.h"
#include "broker/station.h"
#include "proto/jsapi.h"

struct mp_jsapi_row;

struct mp_jsapi_counters {
    uint64_t total, errors;
};

struct mp_jsapi_call {
    struct mp_broker *broker;
    const struct mp_jsapi_row *row;
    struct mp_jsapi_counters *counters; /* NULL in an answer that comes later */
    const char *lang;                   /* of CONNECT */
    const char *user;                   /* NULL: the program itself */
    const struct mp_grants *grants;     /* his; NULL: all */
    memphis_slice reply, body;
    memphis_slice stream, name, filter; /* tokens behind the prefix; filter: the rest */
    struct mp_buf out;
    struct mp_json_writer w;
};

struct mp_jsapi_row {
    const char *prefix;                 /* behind "$JS.API." */
    uint32_t tokens_min, tokens_max;    /* behind the prefix */
    bool (*handle)(struct mp_jsapi_call *c); /* false: no responder */
    const char *type;                   /* of the answer */
    const char *error_tail;             /* keys that stand behind an error object */
};

/* sdk-protocol 7.1. */
struct mp_jsapi_error {
    int code, err_code;
    const char *text;
};
extern const struct mp_jsapi_error mp_jsapi_bad_request, mp_jsapi_invalid_json,
    mp_jsapi_stream_not_found, mp_jsapi_consumer_not_found, mp_jsapi_unavailable;

/* -- answers (jsapi.c) -- */
void mp_jsapi_begin(struct mp_jsapi_call *c);   /* {"type":"..." */
void mp_jsapi_send(struct mp_jsapi_call *c);    /* } and off */
void mp_jsapi_fail(struct mp_jsapi_call *c, const struct mp_jsapi_error *e);
void mp_jsapi_put_time(struct mp_json_writer *w, const char *key, uint64_t wall_ns);
void mp_jsapi_put_page(struct mp_json_writer *w, uint64_t total, uint64_t offset,
                       uint64_t limit);

/* The one place where a stream is looked up by the name a client uses. NULL: none. */
struct mp_stream *mp_jsapi_stream(const struct mp_jsapi_call *c);
/* The body of a list request: {"offset":0}, with "subject" when `subject` is not NULL.
 * Empty: everything. False: it was answered with an error. The document is the
 * caller's to free. */
bool mp_jsapi_list_body(struct mp_jsapi_call *c, struct mp_json **doc, uint64_t *offset,
                        const char **subject);

/* A command on its way; its answer comes later, in another call. */
struct mp_jsapi_command {
    struct mp_broker *broker;
    const struct mp_jsapi_row *row;
    char stream[MP_NAME_MAX + 8], name[MP_NAME_MAX + 1];
    struct mp_log_stats before; /* of the stream, when it was asked */
    uint32_t reply_size;
    char reply[];
};
struct mp_jsapi_command *mp_jsapi_command_new(const struct mp_jsapi_call *c,
                                              memphis_slice stream, memphis_slice name);
/* The call that answers it; borrows from `k`, which the caller frees. */
struct mp_jsapi_call mp_jsapi_command_call(struct mp_jsapi_command *k);

/* -- jsapi_stream.c -- */
void mp_jsapi_put_stream(struct mp_json_writer *w, const struct mp_broker *b,
                         struct mp_stream *s, bool cluster);
bool mp_jsapi_account_info(struct mp_jsapi_call *c);
bool mp_jsapi_stream_names(struct mp_jsapi_call *c);
bool mp_jsapi_stream_info(struct mp_jsapi_call *c);
bool mp_jsapi_stream_list(struct mp_jsapi_call *c);

/* -- jsapi_message.c -- */
bool mp_jsapi_message_get(struct mp_jsapi_call *c);
bool mp_jsapi_direct_get(struct mp_jsapi_call *c);

/* -- jsapi_change.c -- */
bool mp_jsapi_stream_create(struct mp_jsapi_call *c); /* and update */
bool mp_jsapi_stream_delete(struct mp_jsapi_call *c);
bool mp_jsapi_stream_purge(struct mp_jsapi_call *c);
bool mp_jsapi_message_delete(struct mp_jsapi_call *c);

/* -- jsapi_consumer.c -- */
bool mp_jsapi_consumer_info(struct mp_jsapi_call *c);
bool mp_jsapi_consumer_names(struct mp_jsapi_call *c);
bool mp_jsapi_consumer_list(struct mp_jsapi_call *c);
bool mp_jsapi_consumer_delete(struct mp_jsapi_call *c);
bool mp_jsapi_message_next(struct mp_jsapi_call *c);
/* A message on "$JS.ACK.>", and one on "$JS.FC.>". False: no responder. */
bool mp_jsapi_ack(struct mp_broker *b, const struct mp_message *m);
bool mp_jsapi_flow(struct mp_broker *b, const struct mp_message *m);
/* The group that a call names; NULL: it was answered with an error. */
struct mp_stream_group *mp_jsapi_group(struct mp_jsapi_call *c);
void mp_jsapi_put_group(struct mp_json_writer *w, const struct mp_broker *b,
                        struct mp_stream_group *g);

/* -- jsapi_create.c -- */
bool mp_jsapi_consumer_create(struct mp_jsapi_call *c);
/* then.ctx is a struct mp_jsapi_command. */
void mp_jsapi_append_group(struct mp_stream *s, memphis_slice payload,
                           struct mp_then then);

/* -- pure parsers (jsapi_consumer.c) -- */

/* The body of a pull request (sdk-protocol 3.5). INVALID: the text of the status. */
memphis_status mp_jsapi_pull_parse(memphis_slice body, struct mp_pull_request *out,
                                   memphis_error *err);

/* "$JS.ACK.<stream>.<durable>.<deliveries>.<seq>.<dseq>.<ts>.<pending>" */
struct mp_jsapi_ack_subject {
    memphis_slice stream, durable;
    uint64_t seq;
    bool has_seq;                       /* its token is a number */
};
/* False: not nine tokens. */
bool mp_jsapi_ack_parse(memphis_slice subject, struct mp_jsapi_ack_subject *out);

#endif
