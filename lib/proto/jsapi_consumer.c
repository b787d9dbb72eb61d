/* Consumers: pulls and acks (hot), info, removal. */
#include "proto/jsapi_internal.h"

#include "base/assert.h"
#include "base/limits.h"
#include "base/mem.h"
#include "base/status.h"
#include "stream/consumer.h"
#include "stream/nats_config.h"

#include <inttypes.h>
#include <stdlib.h>

enum { NAMES_PAGE = 1024, LIST_PAGE = 256 };

/* === Pull requests (sdk-protocol 3.5) === */

/* As sent; the meaning of zero and below is settled afterwards. */
struct pull_fields {
    int64_t batch, expires, bytes_max, heartbeat;
    bool no_wait;
};

static const struct pull_key {
    const char *name;
    bool is_bool;
    size_t offset;
} pull_keys[] = {
    { "\"batch\"", false, offsetof(struct pull_fields, batch) },
    { "\"expires\"", false, offsetof(struct pull_fields, expires) },
    { "\"idle_heartbeat\"", false, offsetof(struct pull_fields, heartbeat) },
    { "\"no_wait\"", true, offsetof(struct pull_fields, no_wait) },
    { "\"max_bytes\"", false, offsetof(struct pull_fields, bytes_max) },
};

enum { PULL_KEYS_COUNT = sizeof(pull_keys) / sizeof(pull_keys[0]) };

struct scan {
    const char *at, *end;
};

static bool is_blank(char c)
{
    return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

/* Skips blanks; true and past it when `c` comes next. */
static bool take(struct scan *s, char c)
{
    while (s->at < s->end && is_blank(*s->at))
        s->at++;
    if (s->at == s->end || *s->at != c)
        return false;
    s->at++;
    return true;
}

static bool take_word(struct scan *s, const char *word)
{
    size_t size = strlen(word);

    if ((size_t)(s->end - s->at) < size || memcmp(s->at, word, size) != 0)
        return false;
    s->at += size;
    return true;
}

/* Whole numbers of up to 18 digits; anything else is left to the real reader. */
static bool take_number(struct scan *s, int64_t *out)
{
    bool negative = take_word(s, "-");
    const char *digits = s->at;
    int64_t v = 0;

    while (s->at < s->end && *s->at >= '0' && *s->at <= '9' && s->at - digits < 18)
        v = v * 10 + (*s->at++ - '0');
    *out = negative ? -v : v;
    if (s->at == digits || (*digits == '0' && s->at - digits > 1))
        return false;
    return s->at < s->end && (is_blank(*s->at) || *s->at == ',' || *s->at == '}');
}

static bool take_bool(struct scan *s, bool *out)
{
    *out = take_word(s, "true");
    return *out || take_word(s, "false");
}

static bool take_pair(struct scan *s, struct pull_fields *f)
{
    const struct pull_key *k = pull_keys, *end = pull_keys + PULL_KEYS_COUNT;
    void *to;

    while (s->at < s->end && is_blank(*s->at))
        s->at++;
    while (k < end && !take_word(s, k->name))
        k++;
    if (k == end || !take(s, ':'))
        return false;
    while (s->at < s->end && is_blank(*s->at))
        s->at++;
    to = (char *)f + k->offset;
    return k->is_bool ? take_bool(s, to) : take_number(s, to);
}

/* What the SDKs send: known keys, plain values. False: something else, or nothing. */
static bool scan_pull(memphis_slice body, struct pull_fields *f)
{
    struct scan s = { body.data, (const char *)body.data + body.size };

    if (!take(&s, '{'))
        return false;
    if (take(&s, '}'))
        return s.at == s.end;
    do {
        if (!take_pair(&s, f))
            return false;
    } while (take(&s, ','));
    return take(&s, '}') && s.at == s.end;
}

static memphis_status read_pull(memphis_slice body, struct pull_fields *f,
                                memphis_error *err)
{
    struct mp_json *doc = NULL;
    const struct mp_json_value *v;
    memphis_status st = mp_json_parse(body, &doc, err);

    if (st != MEMPHIS_OK)
        return st;
    v = mp_json_root(doc);
    st = mp_json_get_int(v, "batch", &f->batch, err);
    if (st == MEMPHIS_OK)
        st = mp_json_get_int(v, "expires", &f->expires, err);
    if (st == MEMPHIS_OK)
        st = mp_json_get_int(v, "idle_heartbeat", &f->heartbeat, err);
    if (st == MEMPHIS_OK)
        st = mp_json_get_bool(v, "no_wait", &f->no_wait, err);
    if (st == MEMPHIS_OK)
        st = mp_json_get_int(v, "max_bytes", &f->bytes_max, err);
    mp_json_free(doc);
    return st;
}

static uint32_t batch_of(uint64_t asked)
{
    return asked == 0 ? 1 : asked > INT32_MAX ? INT32_MAX : (uint32_t)asked;
}

static memphis_slice trim(memphis_slice s)
{
    const char *p = s.data;

    while (s.size > 0 && is_blank(p[s.size - 1]))
        s.size--;
    while (s.size > 0 && is_blank(*p))
        p++, s.size--;
    return mp_slice(p, s.size);
}

memphis_status mp_jsapi_pull_parse(memphis_slice body, struct mp_pull_request *out,
                                   memphis_error *err)
{
    struct pull_fields f = { 0 };
    uint64_t number = 0;
    memphis_status st;

    *out = (struct mp_pull_request){ .batch = 1, .expires_ns = UINT64_MAX };
    body = trim(body);
    if (body.size == 0 || *(const char *)body.data != '{') {
        if (mp_parse_u64(body, &number)) /* everything else counts as 1 */
            out->batch = batch_of(number);
        return MEMPHIS_OK;
    }
    if (!scan_pull(body, &f)) {
        memset(&f, 0, sizeof(f));
        st = read_pull(body, &f, err);
        if (st != MEMPHIS_OK)
            return st;
    }
    if (f.heartbeat > 0 && (f.expires <= 0 || f.heartbeat > f.expires / 2))
        return mp_fail(err, MEMPHIS_INVALID, "heartbeat value too large");
    out->batch = f.batch > 0 ? batch_of((uint64_t)f.batch) : 1;
    out->has_expires = f.expires != 0;
    if (out->has_expires) /* below zero: expired at once */
        out->expires_ns = f.expires > 0 ? (uint64_t)f.expires : 0;
    out->no_wait = f.no_wait;
    out->bytes_max = f.bytes_max > 0 ? (uint64_t)f.bytes_max : 0;
    out->heartbeat_ns = f.heartbeat > 0 ? (uint64_t)f.heartbeat : 0;
    return MEMPHIS_OK;
}

static void send_bad_request(struct mp_broker *b, memphis_slice inbox, const char *text)
{
    struct mp_buf headers = { 0 };
    struct mp_message m = { .subject = inbox };

    mp_buf_format(&headers, "NATS/1.0 400 Bad Request - %s\r\n\r\n", text);
    m.headers = mp_buf_slice(&headers);
    mp_bus_deliver(b->bus, inbox, &m);
    mp_buf_fini(&headers);
}

/* What the consumer's configuration says of requests. False: it was refused. */
static bool is_allowed(struct mp_broker *b, const struct mp_consumer_config *o,
                       const struct mp_pull_request *r, memphis_slice inbox)
{
    struct mp_buf why = { 0 };
    struct mp_message m = { .subject = inbox };

    if (o->deliver_subject != NULL)
        mp_buf_put_text(&why, "Consumer is push based");
    else if (o->batch_max > 0 && r->batch > o->batch_max)
        mp_buf_format(&why, "Exceeded MaxRequestBatch of %" PRIu64, o->batch_max);
    else if (o->expires_max_ns > 0 && r->expires_ns > o->expires_max_ns)
        mp_buf_format(&why, "Exceeded MaxRequestExpires of %" PRIu64 "ms",
                      o->expires_max_ns / 1000000);
    else if (o->request_bytes_max > 0 && r->bytes_max > o->request_bytes_max)
        mp_buf_format(&why, "Exceeded MaxRequestMaxBytes of %" PRIu64,
                      o->request_bytes_max);
    if (why.size > 0) {
        struct mp_buf headers = { 0 };

        mp_buf_format(&headers, "NATS/1.0 409 %.*s\r\n\r\n", (int)why.size,
                      (const char *)why.data);
        m.headers = mp_buf_slice(&headers);
        mp_bus_deliver(b->bus, inbox, &m);
        mp_buf_fini(&headers);
    }
    mp_buf_fini(&why);
    return m.headers.size == 0;
}

/* A request without an inbox, or with one that cannot be, is dropped without a word. */
static void pull(struct mp_broker *b, struct mp_stream_group *g, memphis_slice inbox,
                 memphis_slice body)
{
    struct mp_pull_request r;
    memphis_error err;

    if (inbox.size == 0 || inbox.size > MP_CONTROL_LINE_MAX)
        return;
    if (mp_jsapi_pull_parse(body, &r, &err) != MEMPHIS_OK)
        send_bad_request(b, inbox, err.message);
    else if (g->nats == NULL || is_allowed(b, g->nats->config, &r, inbox))
        mp_stream_pull(g, &r, inbox);
}

bool mp_jsapi_message_next(struct mp_jsapi_call *c)
{
    struct mp_stream *s = mp_jsapi_stream(c);
    struct mp_stream_group *g = s != NULL ? mp_stream_group(s, c->name) : NULL;

    if (g == NULL)
        return false;
    pull(c->broker, g, c->reply, c->body);
    return true;
}

/* === Acks (3.7) === */

bool mp_jsapi_ack_parse(memphis_slice subject, struct mp_jsapi_ack_subject *out)
{
    enum { STREAM = 2, DURABLE = 3, SEQ = 5, TOKENS = 9 };
    const char *p = subject.data, *end = p + subject.size;
    uint32_t n = 0;

    for (;;) {
        const char *dot = memchr(p, '.', (size_t)(end - p));
        memphis_slice token = mp_slice(p, (size_t)((dot != NULL ? dot : end) - p));

        if (n == STREAM)
            out->stream = token;
        else if (n == DURABLE)
            out->durable = token;
        else if (n == SEQ)
            out->has_seq = mp_parse_u64(token, &out->seq);
        n++;
        if (dot == NULL || n > TOKENS)
            break;
        p = dot + 1;
    }
    return n == TOKENS;
}

bool mp_jsapi_ack(struct mp_broker *b, const struct mp_message *m)
{
    struct mp_jsapi_ack_subject a;
    struct mp_message answer = { .subject = m->reply };
    struct mp_stream *s;
    struct mp_stream_group *g;

    if (!mp_jsapi_ack_parse(m->subject, &a))
        return false;
    s = mp_broker_stream(b, a.stream);
    g = s != NULL ? mp_stream_group(s, a.durable) : NULL;
    if (g == NULL)
        return false;
    if (!a.has_seq) {
        if (m->reply.size > 0)
            mp_bus_deliver(b->bus, m->reply, &answer);
    } else if (mp_slice_starts(m->payload, MP_STR("+NXT"))) {
        /* Its reply gets the next messages instead of an answer. */
        mp_stream_settle(g, a.seq, m->payload, MP_STR(""));
        pull(b, g, m->reply,
             mp_slice((const char *)m->payload.data + 4, m->payload.size - 4));
    } else {
        mp_stream_settle(g, a.seq, m->payload, m->reply);
    }
    return true;
}

bool mp_jsapi_flow(struct mp_broker *b, const struct mp_message *m)
{
    struct mp_stream *s = mp_broker_stream(b, mp_subject_token(m->subject, 2));
    struct mp_stream_group *g =
        s != NULL ? mp_stream_group(s, mp_subject_token(m->subject, 3)) : NULL;

    if (g == NULL || g->nats == NULL)
        return false;
    mp_consumer_flow(g);
    return true;
}

/* === What a consumer looks like (3.3) === */

static const char *const policies[] = {
    [MP_START_ALL] = "all",
    [MP_START_NEW] = "new",
    [MP_START_SEQUENCE] = "by_start_sequence",
    [MP_START_LAST] = "by_start_sequence",
};

static void put_config(struct mp_json_writer *w, const struct mp_stream_group *g)
{
    const struct mp_group_config *c = &g->group.config;

    if (g->nats != NULL) {
        mp_nats_put_raw(w, "config", mp_slice_text(g->nats->config->text));
        return;
    }
    mp_json_object(w, "config");
    mp_json_put_text(w, "durable_name", mp_slice(g->name, g->name_size));
    mp_json_put_str(w, "deliver_policy", policies[g->policy]);
    if (g->policy == MP_START_SEQUENCE || g->policy == MP_START_LAST)
        mp_json_put_uint(w, "opt_start_seq", g->asked_start);
    mp_json_put_str(w, "ack_policy", "explicit");
    mp_json_put_uint(w, "ack_wait", c->ack_wait_ns);
    mp_json_put_int(w, "max_deliver",
                    c->deliveries_max > 0 ? (int64_t)c->deliveries_max : -1);
    if (g->filter == NULL) /* Java compares it with its subject, byte for byte */
        mp_json_put_text(w, "filter_subject",
                         mp_slice(g->stream->final_subject, g->stream->final_size));
    else if (g->filter[0] != 0)
        mp_json_put_str(w, "filter_subject", g->filter);
    mp_json_put_str(w, "replay_policy", "instant");
    mp_json_put_int(w, "max_waiting", MP_PULLS_WAITING_MAX);
    mp_json_put_int(w, "max_ack_pending",
                    c->pending_max < MP_PENDING_MAX ? (int64_t)c->pending_max : -1);
    mp_json_put_int(w, "num_replicas", 0);
    mp_json_object_end(w);
}

/* `active`: when it last moved, wall time; 0: never. */
static void put_position(struct mp_json_writer *w, const char *key,
                         uint64_t consumer_seq, uint64_t stream_seq, uint64_t active)
{
    mp_json_object(w, key);
    mp_json_put_uint(w, "consumer_seq", consumer_seq);
    mp_json_put_uint(w, "stream_seq", stream_seq);
    if (active > 0)
        mp_jsapi_put_time(w, "last_active", active);
    mp_json_object_end(w);
}

void mp_jsapi_put_group(struct mp_json_writer *w, const struct mp_broker *b,
                        struct mp_stream_group *g)
{
    uint64_t acked = mp_group_ack_floor_dseq(&g->group);
    const char *push = g->nats != NULL ? g->nats->config->deliver_subject : NULL;

    mp_json_put_text(w, "stream_name", mp_slice(g->stream->name, g->stream->name_size));
    mp_json_put_text(w, "name", mp_slice(g->name, g->name_size));
    mp_jsapi_put_time(w, "created", g->created_ns);
    put_config(w, g);
    put_position(w, "delivered", g->group.dseq, g->group.next - 1, g->last_active_ns);
    put_position(w, "ack_floor", acked, g->group.floor,
                 acked > 0 ? g->last_active_ns : 0);
    mp_json_put_uint(w, "num_ack_pending", g->group.pending.count);
    mp_json_put_uint(w, "num_redelivered", g->group.redelivered);
    mp_json_put_uint(w, "num_waiting", push != NULL ? 0 : g->pulls.count);
    mp_json_put_uint(w, "num_pending", mp_stream_group_unseen(g));
    if (push != NULL)
        mp_json_put_bool(w, "push_bound",
                         mp_bus_has_interest(b->bus, mp_slice_text(push)));
    mp_jsapi_put_time(w, "ts", mp_broker_wall_ns(b));
}

/* === Queries === */

struct mp_stream_group *mp_jsapi_group(struct mp_jsapi_call *c)
{
    struct mp_stream *s = mp_jsapi_stream(c);
    struct mp_stream_group *g = s != NULL ? mp_stream_group(s, c->name) : NULL;

    if (g == NULL)
        mp_jsapi_fail(c, s == NULL ? &mp_jsapi_stream_not_found
                                   : &mp_jsapi_consumer_not_found);
    return g;
}

bool mp_jsapi_consumer_info(struct mp_jsapi_call *c)
{
    static const struct mp_jsapi_error not_empty = {
        400, 10038, "expected an empty request payload"
    };
    struct mp_stream_group *g;

    if (c->body.size > 0) {
        mp_jsapi_fail(c, &not_empty);
        return true;
    }
    g = mp_jsapi_group(c);
    if (g == NULL)
        return true;
    mp_jsapi_begin(c);
    mp_jsapi_put_group(&c->w, c->broker, g);
    mp_jsapi_send(c);
    return true;
}

static int by_name(const void *a, const void *b)
{
    const struct mp_stream_group *const *g = a, *const *h = b;

    return strcmp((*g)->name, (*h)->name);
}

/* One page of a stream's groups, sorted by name. */
struct page {
    struct mp_stream_group **items; /* all of them */
    size_t from, to;                /* the page */
};

/* Begins the answer and writes its counters. False: it was answered with an error. */
static bool begin_page(struct mp_jsapi_call *c, size_t page_size, struct page *out)
{
    struct mp_stream *s;
    struct mp_stream_group *g;
    struct mp_json *doc;
    uint64_t offset;
    size_t n = 0;

    if (!mp_jsapi_list_body(c, &doc, &offset, NULL))
        return false;
    mp_json_free(doc);
    s = mp_jsapi_stream(c);
    if (s == NULL) {
        mp_jsapi_fail(c, &mp_jsapi_stream_not_found);
        return false;
    }
    out->items = mp_realloc(NULL, (s->groups.count + 1) * sizeof(g));
    for (uint32_t i = 0; (g = mp_map_next(&s->groups, &i)) != NULL;)
        out->items[n++] = g;
    qsort(out->items, n, sizeof(g), by_name);
    out->from = offset < n ? (size_t)offset : n;
    out->to = n - out->from > page_size ? out->from + page_size : n;
    mp_jsapi_begin(c);
    mp_jsapi_put_page(&c->w, n, offset, page_size);
    mp_json_array(&c->w, "consumers");
    return true;
}

static void end_page(struct mp_jsapi_call *c, struct page *p)
{
    mp_json_array_end(&c->w);
    mp_free(p->items);
    mp_jsapi_send(c);
}

bool mp_jsapi_consumer_names(struct mp_jsapi_call *c)
{
    struct page p;

    if (!begin_page(c, NAMES_PAGE, &p))
        return true;
    for (size_t i = p.from; i < p.to; i++)
        mp_json_put_str(&c->w, NULL, p.items[i]->name);
    end_page(c, &p);
    return true;
}

bool mp_jsapi_consumer_list(struct mp_jsapi_call *c)
{
    struct page p;

    if (!begin_page(c, LIST_PAGE, &p))
        return true;
    for (size_t i = p.from; i < p.to; i++) {
        mp_json_object(&c->w, NULL);
        mp_jsapi_put_group(&c->w, c->broker, p.items[i]);
        mp_json_object_end(&c->w);
    }
    end_page(c, &p);
    return true;
}

/* === Commands === */

static void deleted(void *ctx, memphis_status st, const char *text)
{
    struct mp_jsapi_command *k = ctx;
    struct mp_jsapi_call c = mp_jsapi_command_call(k);

    (void)text;
    if (st != MEMPHIS_OK) {
        mp_jsapi_fail(&c, &mp_jsapi_unavailable);
    } else {
        mp_jsapi_begin(&c);
        mp_json_put_bool(&c.w, "success", true);
        mp_jsapi_send(&c);
    }
    mp_free(k);
}

bool mp_jsapi_consumer_delete(struct mp_jsapi_call *c)
{
    struct mp_stream_group *g = mp_jsapi_group(c);
    struct mp_buf payload = { 0 };
    struct mp_jsapi_command *k;

    if (g == NULL)
        return true;
    k = mp_jsapi_command_new(c, mp_slice(g->stream->name, g->stream->name_size),
                             mp_slice(g->name, g->name_size));
    mp_stream_group_delete_encode(g, &payload);
    mp_jsapi_append_group(g->stream, mp_buf_slice(&payload),
                          (struct mp_then){ deleted, k });
    mp_buf_fini(&payload);
    return true;
}
