/* Streams: queries. */
#include "proto/jsapi_internal.h"

#include "base/assert.h"
#include "base/enc.h"
#include "base/limits.h"
#include "base/mem.h"
#include "base/status.h"
#include "stream/nats.h"

#include <stdlib.h>

enum { NAMES_PAGE = 1024, LIST_PAGE = 256 };
enum { SCAN_MAX = 4096 }; /* messages looked at by one MSG.GET by subject */

static const char ZERO_TIME[] = "0001-01-01T00:00:00Z";

/* === What a stream looks like (sdk-protocol 3.3) === */

static int64_t limit_of(const struct mp_stream *s, uint32_t limit, int64_t without)
{
    return s->settings.limit == limit ? (int64_t)s->settings.limit_value : without;
}

static void put_config(struct mp_json_writer *w, const struct mp_broker *b,
                       const struct mp_stream *s)
{
    const struct mp_station_row *row =
        mp_meta_station_by_id(b->meta, s->settings.station_id);
    char subject[MP_NAME_MAX + 16];

    if (s->nats != NULL) {
        mp_nats_put_raw(w, "config", mp_slice_text(s->settings.nats));
        return;
    }
    mp_format(subject, sizeof(subject), "%s.>", s->name);
    mp_json_object(w, "config");
    mp_json_put_str(w, "name", s->name);
    mp_json_array(w, "subjects");
    mp_json_put_str(w, NULL, subject);
    mp_json_array_end(w);
    mp_json_put_str(w, "retention",
                    s->settings.limit == MP_LIMIT_ACKED ? "interest" : "limits");
    mp_json_put_int(w, "max_consumers", -1);
    mp_json_put_int(w, "max_msgs", limit_of(s, MP_LIMIT_MESSAGES, -1));
    mp_json_put_int(w, "max_bytes", limit_of(s, MP_LIMIT_BYTES, -1));
    mp_json_put_int(w, "max_age", limit_of(s, MP_LIMIT_AGE, 0));
    mp_json_put_int(w, "max_msgs_per_subject", -1);
    mp_json_put_int(w, "max_msg_size", -1);
    mp_json_put_str(w, "discard", "old");
    mp_json_put_str(w, "storage", s->log->shard == MP_SHARD_MEMORY ? "memory" : "file");
    mp_json_put_int(w, "num_replicas", row != NULL ? row->settings.replicas : 1);
    mp_json_put_uint(w, "duplicate_window", s->settings.window_ns);
    mp_json_put_bool(w, "tiered_storage_enabled", row != NULL && row->settings.tiered);
    mp_json_put_str(w, "compression", "none");
    mp_json_put_bool(w, "allow_direct", false);
    mp_json_put_bool(w, "mirror_direct", false);
    mp_json_put_bool(w, "sealed", false);
    mp_json_put_bool(w, "deny_delete", false);
    mp_json_put_bool(w, "deny_purge", false);
    mp_json_put_bool(w, "allow_rollup_hdrs", false);
    mp_json_object(w, "consumer_limits");
    mp_json_object_end(w);
    mp_json_object_end(w);
}

static void put_time_or_zero(struct mp_json_writer *w, const char *key,
                             const struct mp_broker *b, uint64_t broker_ns)
{
    if (broker_ns == 0)
        mp_json_put_str(w, key, ZERO_TIME);
    else
        mp_jsapi_put_time(w, key, mp_wall_of(&b->streams.wall, broker_ns));
}

static void put_state(struct mp_json_writer *w, const struct mp_broker *b,
                      struct mp_stream *s)
{
    struct mp_log_stats st;
    uint64_t span;

    mp_log_stats(s->log, s->pid, &st);
    mp_json_object(w, "state");
    mp_json_put_uint(w, "messages", st.messages);
    mp_json_put_uint(w, "bytes", st.bytes);
    /* Nothing ever stored: 0. Everything gone: the next one. */
    mp_json_put_uint(w, "first_seq",
                     st.last_seq == 0 ? 0
                     : st.messages > 0 ? st.first_seq
                                       : st.last_seq + 1);
    put_time_or_zero(w, "first_ts", b, st.messages > 0 ? st.first_time_ns : 0);
    mp_json_put_uint(w, "last_seq", st.last_seq);
    put_time_or_zero(w, "last_ts", b, st.last_time_ns);
    if (st.messages > 0) {
        /* Those of a partition are not told apart. */
        mp_json_put_uint(w, "num_subjects",
                         s->nats != NULL ? mp_nats_subjects_count(s) : 1);
        span = st.last_seq - st.first_seq + 1;
        if (span > st.messages)
            mp_json_put_uint(w, "num_deleted", span - st.messages);
    }
    mp_json_put_uint(w, "consumer_count", s->groups.count);
    mp_json_object_end(w);
}

void mp_jsapi_put_stream(struct mp_json_writer *w, const struct mp_broker *b,
                         struct mp_stream *s, bool cluster)
{
    put_config(w, b, s);
    mp_jsapi_put_time(w, "created", s->created_ns);
    put_state(w, b, s);
    if (cluster) {
        mp_json_object(w, "cluster");
        mp_json_put_str(w, "leader", b->name);
        mp_json_object_end(w);
    }
    mp_jsapi_put_time(w, "ts", mp_broker_wall_ns(b));
}

/* === Which streams === */

struct selection {
    struct mp_stream **items; /* sorted by name */
    size_t count;
};

static int by_name(const void *a, const void *b)
{
    const struct mp_stream *const *s = a, *const *t = b;

    return strcmp((*s)->name, (*t)->name);
}

static struct mp_stream *stream_of(struct mp_list *l)
{
    return mp_container_of(l, struct mp_stream, node);
}

/* Some literal matches both the filter and "<stream>.>". */
static bool overlaps(const struct mp_stream *s, memphis_slice filter)
{
    char pattern[MP_NAME_MAX + 16];
    size_t size = mp_format(pattern, sizeof(pattern), "%s.>", s->name);

    if (s->nats != NULL && filter.size > 0)
        return mp_nats_config_overlaps(s->nats->config, filter);
    return filter.size == 0 || mp_subject_overlaps(mp_slice(pattern, size), filter);
}

/* Python and Java ask with the subject they publish to: that names its stream. */
static bool select_literal(struct mp_broker *b, memphis_slice filter,
                           struct selection *out)
{
    struct mp_stream *s;

    if (!mp_subject_is_literal(filter))
        return false;
    s = mp_broker_stream(b, mp_subject_token(filter, 0));
    if (s == NULL || s->nats != NULL)
        return false; /* perhaps one of NATS streams' subjects */
    if (!overlaps(s, filter))
        return true;
    out->items = mp_realloc(NULL, sizeof(*out->items));
    out->items[out->count++] = s;
    return true;
}

static void select_streams(struct mp_broker *b, memphis_slice filter,
                           struct selection *out)
{
    *out = (struct selection){ 0 };
    if (filter.size > 0 &&
        (!mp_subject_is_valid(filter) || select_literal(b, filter, out)))
        return;
    out->items = mp_realloc(NULL, (b->counters.partitions + 1) * sizeof(*out->items));
    for (struct mp_list *l = b->all_streams.next; l != &b->all_streams; l = l->next) {
        if (!overlaps(stream_of(l), filter))
            continue;
        mp_assert(out->count < b->counters.partitions);
        out->items[out->count++] = stream_of(l);
    }
    qsort(out->items, out->count, sizeof(*out->items), by_name);
}

static size_t page_end(const struct selection *s, uint64_t offset, size_t page)
{
    if (offset >= s->count)
        return 0;
    return s->count - offset > page ? (size_t)offset + page : s->count;
}

/* === Handlers === */

bool mp_jsapi_account_info(struct mp_jsapi_call *c)
{
    static const char *const limits[] = {
        "max_memory", "max_storage", "max_streams", "max_consumers", "max_ack_pending",
        "memory_max_stream_bytes", "storage_max_stream_bytes",
    };
    struct mp_broker *b = c->broker;
    uint64_t bytes[2] = { 0, 0 }, streams = 0, consumers = 0;

    for (struct mp_list *l = b->all_streams.next; l != &b->all_streams; l = l->next) {
        const struct mp_stream *s = stream_of(l);
        struct mp_log_stats st;

        mp_log_stats(s->log, s->pid, &st);
        bytes[s->log->shard == MP_SHARD_MEMORY] += st.bytes;
        streams++;
        consumers += s->groups.count;
    }
    mp_jsapi_begin(c);
    mp_json_put_uint(&c->w, "memory", bytes[1]);
    mp_json_put_uint(&c->w, "storage", bytes[0]);
    mp_json_put_uint(&c->w, "streams", streams);
    mp_json_put_uint(&c->w, "consumers", consumers);
    mp_json_object(&c->w, "limits");
    for (size_t i = 0; i < sizeof(limits) / sizeof(limits[0]); i++)
        mp_json_put_int(&c->w, limits[i], -1);
    mp_json_put_bool(&c->w, "max_bytes_required", false);
    mp_json_object_end(&c->w);
    mp_json_object(&c->w, "api");
    mp_json_put_uint(&c->w, "total", c->counters->total);
    mp_json_put_uint(&c->w, "errors", c->counters->errors);
    mp_json_object_end(&c->w);
    mp_jsapi_send(c);
    return true;
}

bool mp_jsapi_stream_names(struct mp_jsapi_call *c)
{
    struct mp_json *doc;
    uint64_t offset;
    const char *subject = "";
    struct selection s;
    size_t end;

    if (!mp_jsapi_list_body(c, &doc, &offset, &subject))
        return true;
    select_streams(c->broker, mp_slice_text(subject), &s);
    end = page_end(&s, offset, NAMES_PAGE);
    mp_jsapi_begin(c);
    mp_jsapi_put_page(&c->w, s.count, offset, NAMES_PAGE);
    if (end == 0) {
        mp_json_put_null(&c->w, "streams");
    } else {
        mp_json_array(&c->w, "streams");
        for (size_t i = (size_t)offset; i < end; i++)
            mp_json_put_str(&c->w, NULL, s.items[i]->name);
        mp_json_array_end(&c->w);
    }
    mp_free(s.items);
    mp_json_free(doc);
    mp_jsapi_send(c);
    return true;
}

bool mp_jsapi_stream_list(struct mp_jsapi_call *c)
{
    struct mp_json *doc;
    uint64_t offset;
    const char *subject = "";
    struct selection s;
    size_t end;

    if (!mp_jsapi_list_body(c, &doc, &offset, &subject))
        return true;
    select_streams(c->broker, mp_slice_text(subject), &s);
    end = page_end(&s, offset, LIST_PAGE);
    mp_jsapi_begin(c);
    mp_jsapi_put_page(&c->w, s.count, offset, LIST_PAGE);
    mp_json_array(&c->w, "streams");
    for (size_t i = (size_t)offset; i < end; i++) {
        mp_json_object(&c->w, NULL);
        mp_jsapi_put_stream(&c->w, c->broker, s.items[i], false);
        mp_json_object_end(&c->w);
    }
    mp_json_array_end(&c->w);
    mp_free(s.items);
    mp_json_free(doc);
    mp_jsapi_send(c);
    return true;
}

/* The body may ask for subjects or deleted sequences: both are optional answers. */
bool mp_jsapi_stream_info(struct mp_jsapi_call *c)
{
    struct mp_stream *s;
    struct mp_json *doc;
    uint64_t offset;

    if (!mp_jsapi_list_body(c, &doc, &offset, NULL))
        return true;
    mp_json_free(doc);
    s = mp_jsapi_stream(c);
    if (s == NULL) {
        mp_jsapi_fail(c, &mp_jsapi_stream_not_found);
        return true;
    }
    mp_jsapi_begin(c);
    mp_jsapi_put_page(&c->w, 0, 0, 0);
    mp_jsapi_put_stream(&c->w, c->broker, s, true);
    mp_jsapi_send(c);
    return true;
}

/* === STREAM.MSG.GET === */

struct get_request {
    int64_t seq;
    const char *last_by_subject, *next_by_subject;
};

static memphis_slice subject_of(const struct mp_stream *s, const struct mp_entry *e)
{
    return e->subject.size > 0 ? e->subject : mp_slice(s->final_subject, s->final_size);
}

/* The message `seq` itself. */
static memphis_status read_exactly(struct mp_stream *s, uint64_t seq,
                                   struct mp_stored *out)
{
    memphis_status st = mp_log_read(s->log, s->pid, seq, out);

    if (st == MEMPHIS_OK && out->entry.seq != seq) {
        mp_stored_release(out);
        return MEMPHIS_NOT_FOUND;
    }
    return st;
}

/* The first match at or above `seq`. BUSY: it lies too far away; MP_PENDING. */
static memphis_status read_next(struct mp_stream *s, uint64_t seq, memphis_slice filter,
                                struct mp_stored *out)
{
    for (int i = 0; i < SCAN_MAX; i++) {
        memphis_status st = mp_log_read(s->log, s->pid, seq, out);

        if (st != MEMPHIS_OK && st != MEMPHIS_CORRUPT)
            return st;
        if (st == MEMPHIS_OK &&
            mp_subject_matches(filter, subject_of(s, &out->entry)))
            return MEMPHIS_OK;
        seq = out->entry.seq + 1; /* damage was reported by the log */
        if (st == MEMPHIS_OK)
            mp_stored_release(out);
    }
    return MEMPHIS_BUSY;
}

static memphis_status read_last(struct mp_stream *s, memphis_slice filter,
                                struct mp_stored *out)
{
    uint64_t first = mp_log_first(s->log, s->pid);
    uint64_t seq = mp_log_last(s->log, s->pid);

    for (int i = 0; i < SCAN_MAX; i++, seq--) {
        memphis_status st;

        if (seq < first || seq == 0)
            return MEMPHIS_NOT_FOUND;
        st = read_exactly(s, seq, out);
        if (st == MP_PENDING)
            return st;
        if (st != MEMPHIS_OK)
            continue; /* a hole, or damage that the log has reported */
        if (mp_subject_matches(filter, subject_of(s, &out->entry)))
            return MEMPHIS_OK;
        mp_stored_release(out);
    }
    return MEMPHIS_BUSY;
}

static memphis_status read_asked(struct mp_stream *s, const struct get_request *r,
                                 struct mp_stored *out)
{
    if (r->last_by_subject != NULL)
        return read_last(s, mp_slice_text(r->last_by_subject), out);
    if (r->next_by_subject != NULL)
        return read_next(s, r->seq > 0 ? (uint64_t)r->seq : 1,
                         mp_slice_text(r->next_by_subject), out);
    return read_exactly(s, (uint64_t)r->seq, out);
}

static void put_base64(struct mp_json_writer *w, const char *key, memphis_slice bytes)
{
    char *text;
    size_t size;

    if (bytes.size == 0)
        return;
    text = mp_realloc(NULL, mp_base64_size(bytes.size) + 1);
    size = mp_base64_encode(bytes.data, bytes.size, text);
    mp_json_put_text(w, key, mp_slice(text, size));
    mp_free(text);
}

static void send_message(struct mp_jsapi_call *c, const struct mp_stream *s,
                         const struct mp_entry *e)
{
    mp_jsapi_begin(c);
    mp_json_object(&c->w, "message");
    mp_json_put_text(&c->w, "subject", subject_of(s, e));
    mp_json_put_uint(&c->w, "seq", e->seq);
    put_base64(&c->w, "hdrs", e->headers);
    put_base64(&c->w, "data", e->payload);
    mp_jsapi_put_time(&c->w, "time", mp_wall_of(&c->broker->streams.wall, e->time_ns));
    mp_json_put_str(&c->w, "reply_subject", "");
    mp_json_put_str(&c->w, "tenant_name", "");
    mp_json_object_end(&c->w);
    mp_jsapi_send(c);
}

static const struct mp_jsapi_error *read_get(const struct mp_json *doc,
                                             struct get_request *r)
{
    const struct mp_json_value *v = mp_json_root(doc);
    memphis_status st = mp_json_get_int(v, "seq", &r->seq, NULL);

    if (st == MEMPHIS_OK)
        st = mp_json_get_text(v, "last_by_subj", &r->last_by_subject, NULL);
    if (st == MEMPHIS_OK)
        st = mp_json_get_text(v, "next_by_subj", &r->next_by_subject, NULL);
    if (st != MEMPHIS_OK)
        return &mp_jsapi_invalid_json;
    if (r->last_by_subject == NULL && r->next_by_subject == NULL && r->seq <= 0)
        return &mp_jsapi_bad_request;
    return NULL;
}

/* A request whose message is being fetched from disk. */
struct get_waiter {
    struct mp_stream_waiter waiter; /* first */
    struct mp_broker *broker;
    const struct mp_jsapi_row *row;
    struct get_request request;
    struct mp_arena texts;          /* of the request, and the reply subject */
    memphis_slice reply;
};

static void get_again(struct mp_stream_waiter *waiter, struct mp_stream *s);

static memphis_slice keep(struct mp_arena *a, memphis_slice v)
{
    return mp_slice(mp_arena_strndup(a, v.data, v.size), v.size);
}

static void wait_for(struct mp_jsapi_call *c, struct mp_stream *s,
                     const struct get_request *r)
{
    struct get_waiter *w = mp_alloc(sizeof(*w));

    w->waiter.again = get_again;
    w->broker = c->broker;
    w->row = c->row;
    w->reply = keep(&w->texts, c->reply);
    w->request.seq = r->seq;
    if (r->last_by_subject != NULL)
        w->request.last_by_subject =
            keep(&w->texts, mp_slice_text(r->last_by_subject)).data;
    if (r->next_by_subject != NULL)
        w->request.next_by_subject =
            keep(&w->texts, mp_slice_text(r->next_by_subject)).data;
    mp_stream_wait(s, &w->waiter);
}

static void answer_get(struct mp_jsapi_call *c, struct mp_stream *s,
                       const struct get_request *r)
{
    static const struct mp_jsapi_error none = { 404, 10037, "no message found" };
    struct mp_stored m;
    memphis_status st = read_asked(s, r, &m);

    if (st == MEMPHIS_OK) {
        send_message(c, s, &m.entry);
        mp_stored_release(&m);
    } else if (st == MP_PENDING) {
        wait_for(c, s, r);
    } else {
        mp_jsapi_fail(c, st == MEMPHIS_BUSY ? &mp_jsapi_unavailable : &none);
    }
}

static void get_again(struct mp_stream_waiter *waiter, struct mp_stream *s)
{
    struct get_waiter *w = (struct get_waiter *)(void *)waiter;
    struct mp_jsapi_call c = { .broker = w->broker, .row = w->row, .reply = w->reply };

    if (s != NULL)
        answer_get(&c, s, &w->request);
    else
        mp_jsapi_fail(&c, &mp_jsapi_stream_not_found);
    mp_arena_fini(&w->texts);
    mp_free(w);
}

bool mp_jsapi_message_get(struct mp_jsapi_call *c)
{
    struct mp_stream *s = mp_jsapi_stream(c);
    struct get_request r = { 0 };
    const struct mp_jsapi_error *e = s == NULL ? &mp_jsapi_stream_not_found : NULL;
    struct mp_json *doc = NULL;

    if (e == NULL && c->body.size == 0)
        e = &mp_jsapi_bad_request;
    if (e == NULL && mp_json_parse(c->body, &doc, NULL) != MEMPHIS_OK)
        e = &mp_jsapi_invalid_json;
    if (e == NULL)
        e = read_get(doc, &r);
    if (e == NULL)
        answer_get(c, s, &r);
    else
        mp_jsapi_fail(c, e);
    mp_json_free(doc);
    return true;
}
