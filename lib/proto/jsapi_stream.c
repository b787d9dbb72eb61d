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

/* What a STREAM.INFO may ask for besides, found by a scan. */
struct census {
    struct mp_scan scan; /* first */
    struct mp_jsapi_command *command;
    char *filter;
    struct mp_map subjects; /* -> struct tally */
    uint64_t offset;
    bool deleted;
};

struct tally {
    uint64_t messages;
    uint32_t size;
    char subject[];
};

enum { SUBJECTS_PAGE = 100000, DELETED_MAX = 100000 };

static void put_subjects(struct mp_json_writer *w, const struct census *x)
{
    const struct tally *t;
    uint64_t n = 0;

    mp_json_object(w, "subjects");
    for (uint32_t i = 0; (t = mp_map_next(&x->subjects, &i)) != NULL; n++)
        if (n >= x->offset && n < x->offset + SUBJECTS_PAGE)
            mp_json_put_uint(w, t->subject, t->messages);
    mp_json_object_end(w);
}

static void put_deleted(struct mp_json_writer *w, const struct mp_stream *s)
{
    struct mp_log_stats st;
    int n = 0;

    mp_log_stats(s->log, s->pid, &st);
    mp_json_array(w, "deleted");
    for (uint64_t seq = st.first_seq; seq <= st.last_seq && n < DELETED_MAX; seq++)
        if (!mp_log_has(s->log, s->pid, seq)) {
            mp_json_put_uint(w, NULL, seq);
            n++;
        }
    mp_json_array_end(w);
}

/* `x`: NULL, or what was asked for besides. */
static void put_state(struct mp_json_writer *w, const struct mp_broker *b,
                      struct mp_stream *s, const struct census *x)
{
    struct mp_log_stats st;
    bool has_gaps;

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
    }
    has_gaps = st.messages > 0 && st.last_seq - st.first_seq + 1 > st.messages;
    if (has_gaps)
        mp_json_put_uint(w, "num_deleted",
                         st.last_seq - st.first_seq + 1 - st.messages);
    if (x != NULL && x->filter != NULL)
        put_subjects(w, x);
    if (x != NULL && x->deleted && has_gaps)
        put_deleted(w, s);
    mp_json_put_uint(w, "consumer_count", s->groups.count);
    mp_json_object_end(w);
}

static void put_tail(struct mp_json_writer *w, const struct mp_broker *b, bool cluster)
{
    if (cluster) {
        mp_json_object(w, "cluster");
        mp_json_put_str(w, "leader", b->name);
        mp_json_object_end(w);
    }
    mp_jsapi_put_time(w, "ts", mp_broker_wall_ns(b));
}

void mp_jsapi_put_stream(struct mp_json_writer *w, const struct mp_broker *b,
                         struct mp_stream *s, bool cluster)
{
    put_config(w, b, s);
    mp_jsapi_put_time(w, "created", s->created_ns);
    put_state(w, b, s, NULL);
    put_tail(w, b, cluster);
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

static bool count_subject(struct mp_scan *scan, const struct mp_stored *m)
{
    struct census *x = (struct census *)(void *)scan;
    memphis_slice subject = mp_stream_subject_of(scan->stream, &m->entry);
    struct tally *t = mp_map_find(&x->subjects, subject);

    if (t == NULL) {
        t = mp_alloc(sizeof(*t) + subject.size + 1);
        t->size = (uint32_t)subject.size;
        memcpy(t->subject, subject.data, subject.size);
        mp_map_put(&x->subjects, mp_slice(t->subject, t->size), t);
    }
    t->messages++;
    return true;
}

static void census_done(struct mp_scan *scan, memphis_status st)
{
    struct census *x = (struct census *)(void *)scan;
    struct mp_jsapi_call c = mp_jsapi_command_call(x->command);
    struct tally *t;

    if (st == MEMPHIS_OK) {
        mp_jsapi_begin(&c);
        mp_jsapi_put_page(&c.w, x->subjects.count, x->offset,
                          x->filter != NULL ? SUBJECTS_PAGE : 0);
        put_config(&c.w, c.broker, scan->stream);
        mp_jsapi_put_time(&c.w, "created", scan->stream->created_ns);
        put_state(&c.w, c.broker, scan->stream, x);
        put_tail(&c.w, c.broker, true);
        mp_jsapi_send(&c);
    } else if (st == MEMPHIS_NOT_FOUND) {
        mp_jsapi_fail(&c, &mp_jsapi_stream_not_found);
    }
    for (uint32_t i = 0; (t = mp_map_next(&x->subjects, &i)) != NULL;)
        mp_free(t);
    mp_map_fini(&x->subjects);
    mp_free(x->filter);
    mp_free(x->command);
    mp_free(x);
}

static void take_census(struct mp_jsapi_call *c, struct mp_stream *s,
                        const char *filter, bool deleted, uint64_t offset)
{
    struct census *x = mp_alloc(sizeof(*x));

    x->command = mp_jsapi_command_new(c, mp_slice(s->name, s->name_size), MP_STR(""));
    x->offset = offset;
    x->deleted = deleted;
    mp_map_seed(&x->subjects, s->host->dedup_key[0], s->host->dedup_key[1]);
    x->scan = (struct mp_scan){
        .stream = s, .at = 1, .end = 1, .each = count_subject, .done = census_done
    };
    if (filter != NULL) {
        x->filter = mp_strdup(filter);
        x->scan.filter = mp_slice_text(x->filter);
        x->scan.at = mp_log_first(s->log, s->pid);
        x->scan.end = mp_log_last(s->log, s->pid) + 1;
    }
    mp_scan_start(&x->scan);
}

/* The body may ask for subjects or deleted sequences. */
bool mp_jsapi_stream_info(struct mp_jsapi_call *c)
{
    struct mp_stream *s = mp_jsapi_stream(c);
    struct mp_json *doc = NULL;
    const char *filter = NULL;
    bool deleted = false, bad = false;
    uint64_t offset;

    if (!mp_jsapi_list_body(c, &doc, &offset, NULL))
        return true;
    if (doc != NULL)
        bad = mp_json_get_text(mp_json_root(doc), "subjects_filter", &filter, NULL) !=
                  MEMPHIS_OK ||
              mp_json_get_bool(mp_json_root(doc), "deleted_details", &deleted, NULL) !=
                  MEMPHIS_OK;
    if (filter != NULL && filter[0] == 0)
        filter = NULL;
    if (bad || (filter != NULL && !mp_subject_is_valid(mp_slice_text(filter)))) {
        mp_jsapi_fail(c, bad ? &mp_jsapi_invalid_json : &mp_jsapi_bad_request);
    } else if (s == NULL) {
        mp_jsapi_fail(c, &mp_jsapi_stream_not_found);
    } else if (filter != NULL || deleted) {
        take_census(c, s, filter, deleted, offset);
    } else {
        mp_jsapi_begin(c);
        mp_jsapi_put_page(&c->w, 0, 0, 0);
        mp_jsapi_put_stream(&c->w, c->broker, s, true);
        mp_jsapi_send(c);
    }
    mp_json_free(doc);
    return true;
}
