/* Consumers: pulls and acks (hot), info, and what NATS clients make and remove. */
#include "proto/jsapi_internal.h"

#include "base/assert.h"
#include "base/limits.h"
#include "base/mem.h"
#include "base/status.h"

#include <stdlib.h>

static const uint64_t MS = 1000000;

enum { NAMES_PAGE = 1024, LIST_PAGE = 256 };
enum { ACK_PENDING_DEFAULT = 1000, DELIVERIES_MAX = 65535 };

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
    else
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

static void put_group(struct mp_json_writer *w, const struct mp_broker *b,
                      const struct mp_stream_group *g)
{
    uint64_t acked = mp_group_ack_floor_dseq(&g->group);

    mp_json_put_text(w, "stream_name", mp_slice(g->stream->name, g->stream->name_size));
    mp_json_put_text(w, "name", mp_slice(g->name, g->name_size));
    mp_jsapi_put_time(w, "created", g->created_ns);
    put_config(w, g);
    put_position(w, "delivered", g->group.dseq, g->group.next - 1, g->last_active_ns);
    put_position(w, "ack_floor", acked, g->group.floor,
                 acked > 0 ? g->last_active_ns : 0);
    mp_json_put_uint(w, "num_ack_pending", g->group.pending.count);
    mp_json_put_uint(w, "num_redelivered", g->group.redelivered);
    mp_json_put_uint(w, "num_waiting", g->pulls.count);
    mp_json_put_uint(w, "num_pending", mp_stream_group_unseen(g));
    mp_jsapi_put_time(w, "ts", mp_broker_wall_ns(b));
}

/* === Queries === */

/* The group that a call names; NULL: it was answered with an error. */
static struct mp_stream_group *group_of(struct mp_jsapi_call *c)
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
    g = group_of(c);
    if (g == NULL)
        return true;
    mp_jsapi_begin(c);
    put_group(&c->w, c->broker, g);
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
        put_group(&c->w, c->broker, p.items[i]);
        mp_json_object_end(&c->w);
    }
    end_page(c, &p);
    return true;
}

/* === Commands === */

/* Made or updated: the answer shows what it is now. */
static void created(void *ctx, memphis_status st, const char *text)
{
    struct mp_jsapi_command *k = ctx;
    struct mp_jsapi_call c = mp_jsapi_command_call(k);
    struct mp_stream_group *g;

    (void)text;
    if (st != MEMPHIS_OK) {
        mp_jsapi_fail(&c, &mp_jsapi_unavailable);
    } else if ((g = group_of(&c)) != NULL) { /* else: removed in the same breath */
        mp_jsapi_begin(&c);
        put_group(&c.w, k->broker, g);
        mp_jsapi_send(&c);
    }
    mp_free(k);
}

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

static void append(struct mp_stream *s, memphis_slice payload, struct mp_then then)
{
    struct mp_jsapi_command *k = then.ctx;
    struct mp_operation *op = mp_operation_new(k->broker, then);
    struct mp_entry e = { .type = MP_ENTRY_GROUP, .pid = s->pid,
                          .time_ns = k->broker->now_ns, .payload = payload };
    memphis_status st = mp_log_append(s->log, &e, 1, mp_operation_tag(op));

    if (st != MEMPHIS_OK) {
        mp_operation_fail(op, st, "the consumer could not be written");
        mp_operation_done(op);
    }
    mp_operation_done(op);
}

bool mp_jsapi_consumer_delete(struct mp_jsapi_call *c)
{
    struct mp_stream_group *g = group_of(c);
    struct mp_buf payload = { 0 };
    struct mp_jsapi_command *k;

    if (g == NULL)
        return true;
    k = mp_jsapi_command_new(c, mp_slice(g->stream->name, g->stream->name_size),
                             mp_slice(g->name, g->name_size));
    mp_stream_group_delete_encode(g, &payload);
    append(g->stream, mp_buf_slice(&payload), (struct mp_then){ deleted, k });
    mp_buf_fini(&payload);
    return true;
}

/* === CONSUMER.CREATE === */

/* The config of a request; NULL and 0 where absent. */
struct asked {
    const char *stream, *durable, *name, *deliver, *ack, *replay, *filter, *push;
    int64_t start, ack_wait, deliveries, pending, waiting;
    size_t filters;
    uint32_t policy;
};

#define NOT_UPDATABLE(what) { 500, 10012, what " can not be updated" }
#define NOT_SUPPORTED(what) { 500, 10012, what " not supported by this release" }

static const struct mp_jsapi_error
    wrong_stream = { 400, 10056, "stream name in subject does not match request" },
    wrong_name = { 400, 10017,
                   "consumer name in subject does not match durable name in request" },
    wrong_filter = { 400, 10131,
                     "Consumer create request did not match filtered subject from "
                     "create subject" },
    no_start = { 400, 10094,
                 "consumer delivery policy is deliver by start sequence, but optional "
                 "start sequence is not set" },
    too_many = { 400, 10026, "maximum consumers limit reached" },
    bad_name = { 400, 10003, "bad request: the consumer name is not valid" },
    bad_filter = { 400, 10003, "bad request: the filter subject is not valid" },
    no_push = NOT_SUPPORTED("push consumers are"),
    no_filters = NOT_SUPPORTED("several filter subjects are"),
    no_ephemeral = NOT_SUPPORTED("consumers without durable_name are"),
    no_policy = NOT_SUPPORTED("this deliver policy is"),
    no_ack_policy = NOT_SUPPORTED("ack policies other than explicit are"),
    no_replay = NOT_SUPPORTED("replay policies other than instant are"),
    fixed_policy = NOT_UPDATABLE("deliver policy"),
    fixed_start = NOT_UPDATABLE("start sequence"),
    fixed_ack = NOT_UPDATABLE("ack policy"),
    fixed_replay = NOT_UPDATABLE("replay policy"),
    fixed_waiting = NOT_UPDATABLE("max waiting"),
    fixed_pending = NOT_UPDATABLE("max ack pending"),
    fixed_filter = NOT_UPDATABLE("filter subject");

static bool read_asked(const struct mp_json *doc, struct asked *a)
{
    const struct mp_json_value *root = mp_json_root(doc);
    const struct mp_json_value *v = mp_json_get(root, "config");
    const struct {
        const char *key;
        const char **to;
    } texts[] = { { "durable_name", &a->durable }, { "name", &a->name },
                  { "deliver_policy", &a->deliver }, { "ack_policy", &a->ack },
                  { "replay_policy", &a->replay }, { "filter_subject", &a->filter },
                  { "deliver_subject", &a->push } };
    const struct {
        const char *key;
        int64_t *to;
    } numbers[] = { { "opt_start_seq", &a->start }, { "ack_wait", &a->ack_wait },
                    { "max_deliver", &a->deliveries },
                    { "max_ack_pending", &a->pending },
                    { "max_waiting", &a->waiting } };

    if (!mp_json_is_object(root) ||
        mp_json_get_text(root, "stream_name", &a->stream, NULL) != MEMPHIS_OK)
        return false;
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
        if (mp_json_get_text(v, texts[i].key, texts[i].to, NULL) != MEMPHIS_OK)
            return false;
    for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++)
        if (mp_json_get_int(v, numbers[i].key, numbers[i].to, NULL) != MEMPHIS_OK)
            return false;
    a->filters = mp_json_count(mp_json_get(v, "filter_subjects"));
    return true;
}

static bool is_same(const char *text, memphis_slice s)
{
    return mp_slice_equal(mp_slice_text(text), s);
}

static bool is_set(const char *text)
{
    return text != NULL && text[0] != 0;
}

/* "" and a missing value mean the default. */
static bool is_other(const char *text, const char *than)
{
    return is_set(text) && strcmp(text, than) != 0;
}

/* Subject against body, and what this release can do at all. NULL: fine. */
static const struct mp_jsapi_error *check_names(const struct mp_jsapi_call *c,
                                                struct asked *a)
{
    if (is_set(a->stream) && !is_same(a->stream, c->stream))
        return &wrong_stream;
    if (is_set(a->push))
        return &no_push;
    if (!is_set(a->durable))
        return &no_ephemeral;
    if (c->name.size > 0 && !is_same(a->durable, c->name))
        return &wrong_name;
    if (is_set(a->name) && strcmp(a->name, a->durable) != 0)
        return &wrong_name;
    if (strlen(a->durable) > MP_NAME_MAX ||
        strpbrk(a->durable, ". \t\r\n*>/\\") != NULL)
        return &bad_name;
    if (c->filter.size > 0 && !is_same(is_set(a->filter) ? a->filter : "", c->filter))
        return &wrong_filter;
    if (a->filters > 0)
        return &no_filters;
    if (is_set(a->filter) && (strlen(a->filter) > MP_SUBJECT_MAX ||
                              !mp_subject_is_valid(mp_slice_text(a->filter))))
        return &bad_filter;
    return NULL;
}

static const struct mp_jsapi_error *check_policy(struct asked *a)
{
    static const struct {
        const char *name;
        uint32_t policy;
    } names[] = { { "all", MP_START_ALL }, { "new", MP_START_NEW },
                  { "by_start_sequence", MP_START_SEQUENCE } };

    if (!is_set(a->deliver))
        a->deliver = "all";
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        if (strcmp(a->deliver, names[i].name) != 0)
            continue;
        a->policy = names[i].policy;
        return a->policy == MP_START_SEQUENCE && a->start <= 0 ? &no_start : NULL;
    }
    return &no_policy;
}

static bool same_filter(const struct mp_stream_group *g, const char *asked)
{
    const char *now = g->filter != NULL ? g->filter : g->stream->final_subject;

    return strcmp(now, is_set(asked) ? asked : "") == 0;
}

/* An existing durable keeps its position; ack wait and deliveries may change. */
static const struct mp_jsapi_error *check_update(const struct mp_stream_group *g,
                                                 const struct asked *a)
{
    if (strcmp(policies[g->policy], a->deliver) != 0)
        return &fixed_policy;
    if (a->policy == MP_START_SEQUENCE && (uint64_t)a->start != g->asked_start)
        return &fixed_start;
    if (is_other(a->ack != NULL ? a->ack : "none", "explicit"))
        return &fixed_ack;
    if (is_other(a->replay, "instant"))
        return &fixed_replay;
    if (a->waiting > 0 && a->waiting != MP_PULLS_WAITING_MAX)
        return &fixed_waiting;
    if (a->pending > 0 && (uint64_t)a->pending != g->group.config.pending_max)
        return &fixed_pending;
    return same_filter(g, a->filter) ? NULL : &fixed_filter;
}

static const struct mp_jsapi_error *check_new(const struct mp_stream *s,
                                              const struct asked *a)
{
    if (is_other(is_set(a->ack) ? a->ack : "none", "explicit"))
        return &no_ack_policy;
    if (is_other(a->replay, "instant"))
        return &no_replay;
    return s->groups.count >= MP_GROUPS_MAX ? &too_many : NULL;
}

static struct mp_group_config config_of(const struct asked *a)
{
    uint64_t wait =
        a->ack_wait > 0 ? (uint64_t)a->ack_wait : MP_ACK_WAIT_DEFAULT_MS * MS;
    struct mp_group_config c = {
        .ack_wait_ns = (wait + MS - 1) / MS * MS, /* the log counts milliseconds */
        .pending_max = ACK_PENDING_DEFAULT,
    };

    if (a->deliveries > 0)
        c.deliveries_max =
            a->deliveries < DELIVERIES_MAX ? (uint32_t)a->deliveries : DELIVERIES_MAX;
    if (a->pending < 0 || a->pending > MP_PENDING_MAX)
        c.pending_max = MP_PENDING_MAX;
    else if (a->pending > 0)
        c.pending_max = (uint32_t)a->pending;
    return c;
}

static void create(struct mp_stream *s, const struct asked *a, struct mp_buf *out)
{
    struct mp_stream_group_config g = {
        .name = a->durable, .group = config_of(a), .policy = a->policy,
        .asked_start = (uint64_t)a->start, .plain = true,
        .start = mp_stream_start_of(s, a->policy, (uint64_t)a->start),
        .filter = is_set(a->filter) ? a->filter : "",
    };

    if (strcmp(g.filter, s->final_subject) == 0)
        g.filter = NULL;
    mp_stream_group_create_encode(s, &g, out);
}

/* The entry to append, if one is needed. */
static const struct mp_jsapi_error *encode(struct mp_stream *s, const struct asked *a,
                                           struct mp_buf *out)
{
    struct mp_stream_group *named = mp_stream_group(s, mp_slice_text(a->durable));
    struct mp_stream_group *g = named != NULL && named->leaving ? NULL : named;
    const struct mp_jsapi_error *e = g != NULL ? check_update(g, a) : check_new(s, a);
    struct mp_group_config now = config_of(a);

    if (e != NULL)
        return e;
    if (g == NULL)
        create(s, a, out);
    else if (now.ack_wait_ns != g->group.config.ack_wait_ns ||
             now.deliveries_max != g->group.config.deliveries_max)
        mp_stream_group_update_encode(g, &now, out);
    return NULL;
}

bool mp_jsapi_consumer_create(struct mp_jsapi_call *c)
{
    struct mp_json *doc = NULL;
    struct mp_stream *s = mp_jsapi_stream(c);
    struct asked a = { 0 };
    struct mp_buf payload = { 0 };
    const struct mp_jsapi_error *e = NULL;
    struct mp_jsapi_command *k;

    if (mp_json_parse(c->body, &doc, NULL) != MEMPHIS_OK || !read_asked(doc, &a))
        e = &mp_jsapi_invalid_json;
    if (e == NULL)
        e = check_names(c, &a);
    if (e == NULL)
        e = s == NULL ? &mp_jsapi_stream_not_found : check_policy(&a);
    if (e == NULL)
        e = encode(s, &a, &payload);
    if (e != NULL) {
        mp_jsapi_fail(c, e);
    } else {
        k = mp_jsapi_command_new(c, mp_slice(s->name, s->name_size),
                                 mp_slice_text(a.durable));
        if (payload.size > 0)
            append(s, mp_buf_slice(&payload), (struct mp_then){ created, k });
        else
            created(k, MEMPHIS_OK, "");
    }
    mp_buf_fini(&payload);
    mp_json_free(doc);
    return true;
}
