#include "proto/jsapi_internal.h"

#include "base/assert.h"
#include "base/enc.h"
#include "base/mem.h"
#include "base/status.h"
#include "proto/sdk_text.h"

const struct mp_jsapi_error mp_jsapi_bad_request = { 400, 10003, "bad request" };
const struct mp_jsapi_error mp_jsapi_invalid_json = { 400, 10025, "invalid JSON" };
const struct mp_jsapi_error mp_jsapi_stream_not_found = {
    404, 10059, MP_TEXT_STREAM_NOT_FOUND
};
const struct mp_jsapi_error mp_jsapi_consumer_not_found = {
    404, 10014, MP_TEXT_CONSUMER_NOT_FOUND
};
const struct mp_jsapi_error mp_jsapi_unavailable = { 503, 10008, MP_TEXT_UNAVAILABLE };

/* === The table === */

#define TYPE(x) "io.nats.jetstream.api.v1." x "_response"
#define PAGE ",\"total\":0,\"offset\":0,\"limit\":0"

enum { ANY = 512 }; /* tokens: a filter subject has as many as it likes */

/* Often used ones first. */
static const struct mp_jsapi_row rows[] = {
    { "CONSUMER.MSG.NEXT", 2, 2, mp_jsapi_message_next, "", "" },
    { "CONSUMER.INFO", 2, 2, mp_jsapi_consumer_info, TYPE("consumer_info"), "" },
    { "INFO", 0, 0, mp_jsapi_account_info, TYPE("account_info"), "" },
    { "STREAM.NAMES", 0, 0, mp_jsapi_stream_names, TYPE("stream_names"),
      PAGE ",\"streams\":null" },
    { "STREAM.INFO", 1, 1, mp_jsapi_stream_info, TYPE("stream_info"), PAGE },
    { "CONSUMER.CREATE", 1, ANY, mp_jsapi_consumer_create, TYPE("consumer_create"),
      "" },
    { "CONSUMER.DURABLE.CREATE", 2, 2, mp_jsapi_consumer_create,
      TYPE("consumer_create"), "" },
    { "CONSUMER.DELETE", 2, 2, mp_jsapi_consumer_delete, TYPE("consumer_delete"), "" },
    { "CONSUMER.NAMES", 1, 1, mp_jsapi_consumer_names, TYPE("consumer_names"),
      PAGE ",\"consumers\":[]" },
    { "CONSUMER.LIST", 1, 1, mp_jsapi_consumer_list, TYPE("consumer_list"),
      PAGE ",\"consumers\":[]" },
    { "STREAM.LIST", 0, 0, mp_jsapi_stream_list, TYPE("stream_list"),
      PAGE ",\"streams\":[]" },
    { "DIRECT.GET", 1, ANY, mp_jsapi_direct_get, "", "" },
    { "STREAM.MSG.GET", 1, 1, mp_jsapi_message_get, TYPE("stream_msg_get"), "" },
    { "STREAM.CREATE", 1, 1, mp_jsapi_stream_create, TYPE("stream_create"), "" },
    { "STREAM.UPDATE", 1, 1, mp_jsapi_stream_create, TYPE("stream_update"), "" },
    { "STREAM.DELETE", 1, 1, mp_jsapi_stream_delete, TYPE("stream_delete"), "" },
    { "STREAM.PURGE", 1, 1, mp_jsapi_stream_purge, TYPE("stream_purge"),
      ",\"purged\":0" },
    { "STREAM.MSG.DELETE", 1, 1, mp_jsapi_message_delete, TYPE("stream_msg_delete"),
      "" },
};

enum { ROWS_COUNT = sizeof(rows) / sizeof(rows[0]) };

/* What follows the row's prefix, without the dot. False: not this row's. */
static bool rest_of(memphis_slice subject, const struct mp_jsapi_row *row,
                    memphis_slice *rest)
{
    size_t size = strlen(row->prefix);
    const char *p = subject.data;

    if (subject.size < size || memcmp(p, row->prefix, size) != 0)
        return false;
    if (subject.size == size) {
        *rest = mp_slice(NULL, 0);
        return row->tokens_min == 0;
    }
    if (p[size] != '.')
        return false;
    *rest = mp_slice(p + size + 1, subject.size - size - 1);
    return mp_subject_tokens(*rest) >= row->tokens_min &&
           mp_subject_tokens(*rest) <= row->tokens_max;
}

static const struct mp_jsapi_row *row_of(memphis_slice subject, memphis_slice *rest)
{
    for (size_t i = 0; i < ROWS_COUNT; i++)
        if (rest_of(subject, &rows[i], rest))
            return &rows[i];
    return NULL;
}

/* === Answers === */

void mp_jsapi_begin(struct mp_jsapi_call *c)
{
    mp_buf_reserve(&c->out, 1024);
    c->w = (struct mp_json_writer){ .out = &c->out };
    mp_json_object(&c->w, NULL);
    mp_json_put_str(&c->w, "type", c->row->type);
}

static void deliver(struct mp_jsapi_call *c)
{
    struct mp_message m = { .subject = c->reply, .payload = mp_buf_slice(&c->out) };

    if (c->reply.size > 0)
        mp_bus_deliver(c->broker->bus, c->reply, &m);
    mp_buf_fini(&c->out);
}

void mp_jsapi_send(struct mp_jsapi_call *c)
{
    mp_json_object_end(&c->w);
    deliver(c);
}

/* Exactly three keys in the object; the rest of an empty list stands behind it. */
void mp_jsapi_fail(struct mp_jsapi_call *c, const struct mp_jsapi_error *e)
{
    if (c->counters != NULL)
        c->counters->errors++;
    mp_jsapi_begin(c);
    mp_json_object(&c->w, "error");
    mp_json_put_int(&c->w, "code", e->code);
    mp_json_put_int(&c->w, "err_code", e->err_code);
    mp_json_put_str(&c->w, "description", e->text);
    mp_json_object_end(&c->w);
    mp_buf_put_text(&c->out, c->row->error_tail);
    mp_jsapi_send(c);
}

void mp_jsapi_put_time(struct mp_json_writer *w, const char *key, uint64_t wall_ns)
{
    char text[MP_TIME_TEXT_SIZE + 1];

    mp_time_text(wall_ns, text);
    mp_json_put_text(w, key, mp_slice(text, MP_TIME_TEXT_SIZE));
}

void mp_jsapi_put_page(struct mp_json_writer *w, uint64_t total, uint64_t offset,
                       uint64_t limit)
{
    mp_json_put_uint(w, "total", total);
    mp_json_put_uint(w, "offset", offset);
    mp_json_put_uint(w, "limit", limit);
}

/* === Common parts of requests === */

/* JS counts the partitions of keyed messages from 0 to P - 1, all others from 1 to P:
 * its 0 is our P, so that all of them are used (sdk-protocol 9, item 31). */
static struct mp_stream *stream_of_js_key(const struct mp_jsapi_call *c)
{
    const char *p = c->stream.data;
    size_t size = c->stream.size;
    struct mp_station *s;

    if (size < 3 || p[size - 1] != '0' || p[size - 2] != '$' ||
        strcmp(c->lang, MP_TEXT_LANG_JS) != 0)
        return NULL;
    s = mp_station_find(c->broker, mp_slice(p, size - 2));
    /* Names of streams are compared letter by letter, those of stations are not. */
    if (s == NULL || !mp_slice_equal(mp_slice_text(s->internal), mp_slice(p, size - 2)))
        return NULL;
    mp_logf(c->broker->logger, MEMPHIS_LOG_DEBUG, "jsapi",
            "partition 0 of a JS client is taken as the last one station=%s", s->name);
    return mp_station_stream(s, s->settings.partitions);
}

struct mp_stream *mp_jsapi_stream(const struct mp_jsapi_call *c)
{
    struct mp_stream *s = mp_broker_stream(c->broker, c->stream);

    return s != NULL ? s : stream_of_js_key(c);
}

bool mp_jsapi_list_body(struct mp_jsapi_call *c, struct mp_json **doc, uint64_t *offset,
                        const char **subject)
{
    int64_t from = 0;
    memphis_status st;

    *doc = NULL;
    *offset = 0;
    if (c->body.size == 0)
        return true;
    st = mp_json_parse(c->body, doc, NULL);
    if (st == MEMPHIS_OK)
        st = mp_json_get_int(mp_json_root(*doc), "offset", &from, NULL);
    if (st == MEMPHIS_OK && subject != NULL)
        st = mp_json_get_text(mp_json_root(*doc), "subject", subject, NULL);
    if (st != MEMPHIS_OK) {
        mp_json_free(*doc);
        *doc = NULL;
        mp_jsapi_fail(c, &mp_jsapi_invalid_json);
        return false;
    }
    *offset = from > 0 ? (uint64_t)from : 0;
    return true;
}

/* === Commands === */

struct mp_jsapi_command *mp_jsapi_command_new(const struct mp_jsapi_call *c,
                                              memphis_slice stream, memphis_slice name)
{
    struct mp_jsapi_command *k = mp_alloc(sizeof(*k) + c->reply.size);

    mp_assert(stream.size < sizeof(k->stream) && name.size < sizeof(k->name));
    k->broker = c->broker;
    k->row = c->row;
    memcpy(k->stream, stream.data, stream.size);
    if (name.size > 0)
        memcpy(k->name, name.data, name.size);
    k->reply_size = (uint32_t)c->reply.size;
    if (c->reply.size > 0)
        memcpy(k->reply, c->reply.data, c->reply.size);
    return k;
}

struct mp_jsapi_call mp_jsapi_command_call(struct mp_jsapi_command *k)
{
    return (struct mp_jsapi_call){
        .broker = k->broker,
        .row = k->row,
        .lang = "",
        .reply = mp_slice(k->reply, k->reply_size),
        .stream = mp_slice_text(k->stream),
        .name = mp_slice_text(k->name),
    };
}

/* === Services === */

/* What start made for one broker; reached again by its last service. */
struct jsapi {
    struct mp_broker *broker;
    struct mp_jsapi_counters counters;
    struct mp_service *api, *ack, *flow, *ending;
};

#define API_PREFIX "$JS.API."

/* No client can take part in it: see on_ending. */
#define ENDING_SUBJECT MP_STR("$memphis_services_end.jsapi")

static bool on_api(void *ctx, struct mp_client *from, const struct mp_message *m)
{
    struct jsapi *j = ctx;
    const size_t skip = sizeof(API_PREFIX) - 1; /* the service's pattern has it */
    memphis_slice rest = { 0 };
    memphis_slice subject =
        mp_slice((const char *)m->subject.data + skip, m->subject.size - skip);
    struct mp_jsapi_call c = {
        .broker = j->broker,
        .counters = &j->counters,
        .reply = m->reply,
        .body = m->payload,
        .lang = from != NULL && from->lang != NULL ? from->lang : "",
        .user = from != NULL ? from->user : NULL,
        .grants = from != NULL ? from->grants : NULL,
    };

    c.row = row_of(subject, &rest);
    if (c.row == NULL)
        return false;
    j->counters.total++;
    c.stream = mp_slice_split(&rest, '.');
    c.name = mp_slice_split(&rest, '.');
    c.filter = rest;
    return c.row->handle(&c);
}

static bool on_ack(void *ctx, struct mp_client *from, const struct mp_message *m)
{
    struct jsapi *j = ctx;

    (void)from;
    return mp_jsapi_ack(j->broker, m);
}

static bool on_flow(void *ctx, struct mp_client *from, const struct mp_message *m)
{
    struct jsapi *j = ctx;

    (void)from;
    return mp_jsapi_flow(j->broker, m);
}

/* Only the broker itself publishes without a client. */
static bool on_ending(void *ctx, struct mp_client *from, const struct mp_message *m)
{
    struct jsapi *j = ctx;
    struct mp_bus *bus = j->broker->bus;

    (void)m;
    if (from != NULL)
        return false;
    mp_bus_unserve(bus, j->api);
    mp_bus_unserve(bus, j->ack);
    mp_bus_unserve(bus, j->flow);
    mp_bus_unserve(bus, j->ending);
    mp_free(j);
    return true;
}

void mp_jsapi_start(struct mp_broker *b)
{
    struct jsapi *j = mp_alloc(sizeof(*j));

    j->broker = b;
    j->api = mp_bus_serve(b->bus, MP_STR(API_PREFIX ">"), 0, on_api, j);
    j->ack = mp_bus_serve(b->bus, MP_STR("$JS.ACK.>"), 0, on_ack, j);
    j->flow = mp_bus_serve(b->bus, MP_STR("$JS.FC.>"), 0, on_flow, j);
    j->ending = mp_bus_serve(b->bus, ENDING_SUBJECT, 0, on_ending, j);
}

void mp_jsapi_stop(struct mp_broker *b)
{
    struct mp_message end = { .subject = ENDING_SUBJECT };

    if (b != NULL)
        mp_bus_publish(b->bus, NULL, &end);
}

