#include "stream/nats.h"

#include "base/assert.h"
#include "base/limits.h"
#include "base/status.h"
#include "stream/internal.h"

#include <inttypes.h>
#include <stdlib.h>

/* === Configuration and subjects === */

static uint64_t age_of(const struct mp_nats_config *c)
{
    return c->age_max_ns > 0 ? c->age_max_ns : UINT64_MAX;
}

static void serve_subjects(struct mp_nats *n)
{
    struct mp_bus *bus = n->stream->host->bus;
    const struct mp_nats_config *c = n->config;

    n->services = mp_alloc(c->subjects_count * sizeof(*n->services));
    n->services_count = c->subjects_count;
    for (uint32_t i = 0; i < c->subjects_count; i++)
        n->services[i] =
            mp_bus_serve(bus, mp_slice_text(c->subjects[i]),
                         MP_SERVICE_TAP | MP_SERVICE_LAST, n->on_publish, n->stream);
}

static void unserve_subjects(struct mp_nats *n)
{
    for (uint32_t i = 0; i < n->services_count; i++)
        mp_bus_unserve(n->stream->host->bus, n->services[i]);
    mp_free(n->services);
    n->services = NULL;
    n->services_count = 0;
}

/* === The index === */

static void count_index(struct mp_nats *n)
{
    n->stream->host->subjects_bytes += n->subjects.bytes - n->counted_bytes;
    n->counted_bytes = n->subjects.bytes;
}

static void empty_index(struct mp_nats *n)
{
    struct mp_stream_host *h = n->stream->host;

    if (n->building != NULL) {
        mp_scan_cancel(n->building);
        mp_free(n->building);
        n->building = NULL;
    }
    mp_subjects_fini(&n->subjects);
    count_index(n);
    mp_subjects_init(&n->subjects, h->dedup_key, n->config->per_subject_max > 0);
    n->is_indexed = false;
}

/* The limit per subject needs it: then new subjects are refused instead. */
static void bound_index(struct mp_nats *n)
{
    struct mp_stream_host *h = n->stream->host;

    count_index(n);
    if (h->subjects_bytes <= h->subjects_bytes_max || n->subjects.has_lists)
        return;
    mp_logf(h->logger, MEMPHIS_LOG_WARN, "stream",
            "the index by subject is given up: questions by subject read the stream "
            "stream=%s bytes=%" PRIu64,
            n->stream->name, n->subjects.bytes);
    empty_index(n);
    n->has_given_up = true;
    h->subjects_given_up++;
}

static void index_put(struct mp_nats *n, memphis_slice subject, uint64_t seq)
{
    if (n->has_given_up)
        return;
    mp_subjects_put(&n->subjects, subject, seq);
    bound_index(n);
}

static void remove_all(struct mp_stream *s, const uint64_t *seqs, size_t count)
{
    for (size_t i = 0; i < count; i += MP_STREAM_REMOVALS_MAX) {
        size_t part = count - i;
        struct mp_buf payload = { 0 };
        struct mp_entry e = { .type = MP_ENTRY_DELETE,
                              .pid = s->pid,
                              .seq = seqs[i],
                              .time_ns = *s->host->now_ns };

        part = part < MP_STREAM_REMOVALS_MAX ? part : MP_STREAM_REMOVALS_MAX;
        mp_stream_removal_encode(seqs + i, part, &payload);
        e.payload = mp_buf_slice(&payload);
        (void)mp_log_append(s->log, &e, 1, MP_STREAM_TAG); /* else: a start does it */
        mp_buf_fini(&payload);
    }
}

static int by_seq(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

    return x < y ? -1 : x > y;
}

/* A limit that is new, or was not kept up while the index was being made. */
static void enforce_per_subject(struct mp_nats *n)
{
    uint64_t max = n->config->per_subject_max, *seqs = NULL;
    size_t count = 0, capacity = 0;
    struct mp_subject_item *i;

    for (uint32_t at = 0; (i = mp_subjects_next(&n->subjects, &at)) != NULL;)
        while (i->count - i->first > max) {
            if (count == capacity) {
                capacity = capacity > 0 ? capacity * 2 : 64;
                seqs = mp_realloc(seqs, capacity * sizeof(*seqs));
            }
            seqs[count++] = i->seqs[i->first++];
        }
    if (count > 1)
        qsort(seqs, count, sizeof(*seqs), by_seq);
    remove_all(n->stream, seqs, count);
    mp_free(seqs);
}

static bool index_each(struct mp_scan *scan, const struct mp_stored *m)
{
    struct mp_nats *n = scan->stream->nats;

    mp_subjects_put(&n->subjects, mp_stream_subject_of(n->stream, &m->entry),
                    m->entry.seq);
    return n->subjects.has_lists ||
           n->stream->host->subjects_bytes + n->subjects.bytes - n->counted_bytes <=
               n->stream->host->subjects_bytes_max;
}

static void index_done(struct mp_scan *scan, memphis_status st)
{
    struct mp_nats *n = scan->stream->nats;

    n->building = NULL;
    mp_free(scan);
    if (st != MEMPHIS_OK)
        return;
    bound_index(n);
    n->is_indexed = !n->has_given_up;
    if (n->is_indexed && n->subjects.has_lists)
        enforce_per_subject(n);
}

/* What was given out already is put in by those who gave it. */
static void build_index(struct mp_nats *n)
{
    struct mp_stream *s = n->stream;
    struct mp_scan *scan = mp_alloc(sizeof(*scan));

    empty_index(n);
    n->has_given_up = false;
    *scan = (struct mp_scan){ .stream = s,
                              .at = mp_log_first(s->log, s->pid),
                              .end = mp_log_last(s->log, s->pid) + 1,
                              .each = index_each,
                              .done = index_done };
    if (scan->at == 0)
        scan->at = 1;
    n->building = scan;
    mp_scan_start(scan);
}

/* Removed on a way that the index was not told of. */
static bool is_there(struct mp_stream *s, uint64_t seq)
{
    return seq > mp_log_last(s->log, s->pid) || mp_log_has(s->log, s->pid, seq);
}

enum { LOOK_BACK = 4096 };

/* Without a list: below its last one, which is gone. */
static bool look_back(struct mp_stream *s, memphis_slice subject, uint64_t from,
                      uint64_t *seq)
{
    uint64_t first = mp_log_first(s->log, s->pid), last = mp_log_last(s->log, s->pid);

    *seq = 0;
    from = from < last ? from : last;
    for (int i = 0; i < LOOK_BACK; i++, from--) {
        struct mp_stored m;
        memphis_status st;
        bool found;

        if (from < first || from == 0)
            return true;
        st = mp_log_read(s->log, s->pid, from, &m);
        if (st == MP_PENDING)
            return false;
        if (st != MEMPHIS_OK)
            continue;
        found = m.entry.seq == from &&
                mp_slice_equal(subject, mp_stream_subject_of(s, &m.entry));
        mp_stored_release(&m);
        if (found) {
            *seq = from;
            return true;
        }
    }
    return false;
}

bool mp_nats_last_of(struct mp_stream *s, memphis_slice subject, uint64_t *seq)
{
    struct mp_nats *n = s->nats;
    struct mp_subject_item *i = mp_subjects_find(&n->subjects, subject);

    *seq = 0;
    if (n->has_given_up)
        return look_back(s, subject, s->proposed_last, seq) &&
               s->proposed_last == mp_log_last(s->log, s->pid);
    /* What the scan has seen so far need not be the last; what came since is. */
    if (!n->is_indexed &&
        (i == NULL || n->building == NULL || i->last < n->building->end))
        return false;
    if (i != NULL && !n->subjects.has_lists && !is_there(s, i->last))
        return look_back(s, subject, i->last - 1, seq);
    while (i != NULL && !is_there(s, i->last))
        i = mp_subjects_remove(&n->subjects, i, i->last);
    *seq = i != NULL ? i->last : 0;
    return true;
}

void mp_nats_deleted(struct mp_stream *s, uint64_t own_tag)
{
    /* What a message drove out left the lists with it. */
    if (own_tag != MP_STREAM_TAG || s->nats->config->retention != MP_NATS_LIMITS)
        s->nats->has_dead = true;
}

void mp_nats_weed(struct mp_stream *s)
{
    struct mp_nats *n = s->nats;
    struct mp_subject_item *i;

    mp_subjects_trim(&n->subjects, mp_log_first(s->log, s->pid));
    for (uint32_t at = 0; n->has_dead && n->subjects.has_lists &&
                          (i = mp_subjects_next(&n->subjects, &at)) != NULL;)
        for (uint32_t k = i->count - i->first; k > 0 && i != NULL; k--) {
            uint64_t seq = i->seqs[i->first + k - 1];

            if (!is_there(s, seq))
                i = mp_subjects_remove(&n->subjects, i, seq);
        }
    n->has_dead = false;
    count_index(n);
}

uint64_t mp_nats_subjects_count(struct mp_stream *s)
{
    mp_nats_weed(s);
    return s->nats->subjects.map.count;
}

/* === Publishing === */

static const struct mp_refusal
    WRONG_SUBJECT_SEQ = { MEMPHIS_INVALID, 400, 10071, "wrong last sequence: " },
    WRONG_ID = { MEMPHIS_INVALID, 400, 10070, "wrong last msg ID: " },
    NO_ROLLUP = { MEMPHIS_UNSUPPORTED, 500, 10111, "rollup not permitted" },
    BAD_ROLLUP = { MEMPHIS_INVALID, 500, 10111, "rollup value invalid" },
    NO_TTL = { MEMPHIS_UNSUPPORTED, 400, 10166, "per-message TTL is disabled" },
    TOO_BIG = { MEMPHIS_TOO_BIG, 400, 10054, "message size exceeds maximum allowed" },
    FULL = { MEMPHIS_FULL, 503, 10077, "maximum messages exceeded" },
    FULL_BYTES = { MEMPHIS_FULL, 503, 10077, "maximum bytes exceeded" },
    FULL_SUBJECT = { MEMPHIS_FULL, 503, 10077,
                     "maximum messages per subject exceeded" },
    NO_RESOURCES = { MEMPHIS_NOMEM, 503, 10023, "insufficient resources" },
    UNAVAILABLE = { MEMPHIS_BUSY, 503, 10008,
                    "JetStream system temporarily unavailable" };

static bool is_rollup(const struct mp_nats *n, memphis_slice headers, bool *all)
{
    memphis_slice v = mp_header_find(headers, "Nats-Rollup");

    *all = mp_slice_equal(v, MP_STR("all"));
    return n->config->allow_rollup && (*all || mp_slice_equal(v, MP_STR("sub")));
}

/* Of the newest message, if that can be read now. */
static bool last_id_is(struct mp_stream *s, memphis_slice id)
{
    struct mp_stored m;
    bool same = false;

    if (s->proposed_last == 0)
        return false;
    if (s->proposed_last != mp_log_last(s->log, s->pid) ||
        mp_log_read(s->log, s->pid, s->proposed_last, &m) != MEMPHIS_OK)
        return false;
    same = mp_slice_equal(m.entry.id, id);
    mp_stored_release(&m);
    return same;
}

static const struct mp_refusal *
check_headers(struct mp_stream *s, const struct mp_message *m, char detail[24])
{
    memphis_slice h = m->headers, v, subject = m->subject;
    uint64_t expected, last;
    bool all;

    if (mp_header_find(h, "Nats-Rollup").data != NULL && !is_rollup(s->nats, h, &all))
        return s->nats->config->allow_rollup ? &BAD_ROLLUP : &NO_ROLLUP;
    if (mp_header_find(h, "Nats-TTL").size > 0)
        return &NO_TTL;
    v = mp_header_find(h, "Nats-Expected-Last-Msg-Id");
    if (v.size > 0 && !last_id_is(s, v))
        return &WRONG_ID;
    v = mp_header_find(h, "Nats-Expected-Last-Subject-Sequence");
    if (v.size == 0)
        return NULL;
    if (mp_header_find(h, "Nats-Expected-Last-Subject-Sequence-Subject").size > 0)
        subject = mp_header_find(h, "Nats-Expected-Last-Subject-Sequence-Subject");
    if (!mp_nats_last_of(s, subject, &last))
        return &UNAVAILABLE;
    if (mp_parse_u64(v, &expected) && expected == last)
        return NULL;
    mp_format(detail, 24, "%" PRIu64, last);
    return &WRONG_SUBJECT_SEQ;
}

/* Limits that refuse the new instead of dropping the old. */
static const struct mp_refusal *check_room(struct mp_stream *s,
                                           const struct mp_message *m)
{
    const struct mp_nats *n = s->nats;
    const struct mp_nats_config *c = n->config;
    const struct mp_subject_item *i = NULL;
    struct mp_log_stats st;
    uint64_t open = s->proposed_last - mp_log_last(s->log, s->pid);

    if (c->message_size_max > 0 &&
        m->headers.size + m->payload.size > c->message_size_max)
        return &TOO_BIG;
    if (c->per_subject_max > 0) {
        i = mp_subjects_find(&n->subjects, m->subject);
        if (i == NULL && s->host->subjects_bytes > s->host->subjects_bytes_max)
            return &NO_RESOURCES;
    }
    if (!c->discard_new)
        return NULL;
    if (c->discard_new_per_subject && i != NULL &&
        i->count - i->first >= c->per_subject_max)
        return &FULL_SUBJECT;
    mp_log_stats(s->log, s->pid, &st);
    if (c->messages_max > 0 && st.messages + open >= c->messages_max)
        return &FULL;
    if (c->bytes_max > 0 && st.bytes + n->waiting_bytes + m->headers.size +
                                    m->payload.size + MP_ENTRY_HEADER_SIZE >
                                c->bytes_max)
        return &FULL_BYTES;
    return NULL;
}

const struct mp_refusal *mp_nats_refusal(struct mp_stream *s,
                                         const struct mp_message *m, char detail[24])
{
    const struct mp_refusal *r = NULL;

    detail[0] = 0;
    if (m->headers.size > 0 &&
        memmem(m->headers.data, m->headers.size, "Nats-", 5) != NULL)
        r = check_headers(s, m, detail);
    return r != NULL ? r : check_room(s, m);
}

enum { LOOKED_AT = 256 };

/* What the list has of messages that went another way; not all of a very long one. */
static void weed(struct mp_stream *s, struct mp_subject_item *i)
{
    uint32_t to = i->first, from = i->first;

    for (uint32_t k = 0; k < LOOKED_AT && from < i->count; k++, from++)
        if (is_there(s, i->seqs[from]))
            i->seqs[to++] = i->seqs[from];
    if (to == i->first && from == i->count) /* so that the item stays */
        i->seqs[to++] = i->last;
    memmove(i->seqs + to, i->seqs + from, (i->count - from) * sizeof(*i->seqs));
    i->count -= from - to;
}

/* All that the list has of it but the newest `keep`. */
static size_t take_oldest(struct mp_subjects *x, struct mp_subject_item *i,
                          uint64_t keep, uint64_t **out)
{
    size_t n = i->count - i->first;

    n = n > keep ? n - (size_t)keep : 0;
    n = n < MP_STREAM_REMOVALS_MAX ? n : MP_STREAM_REMOVALS_MAX;
    *out = mp_alloc((n + 1) * sizeof(**out));
    if (n > 0)
        memcpy(*out, i->seqs + i->first, n * sizeof(**out));
    for (size_t k = 0; k < n; k++)
        mp_subjects_remove(x, i, (*out)[k]);
    return n;
}

size_t mp_nats_driven_out(struct mp_stream *s, const struct mp_entry *e,
                          struct mp_entry *more, struct mp_buf *payload)
{
    struct mp_nats *n = s->nats;
    struct mp_subject_item *i;
    uint64_t keep = n->config->per_subject_max, *seqs;
    bool all, rollup;
    size_t count;

    rollup = e->headers.size > 0 && is_rollup(n, e->headers, &all);
    *more = (struct mp_entry){ .type = MP_ENTRY_DELETE,
                               .pid = s->pid,
                               .time_ns = e->time_ns };
    if (rollup && all && e->seq > 1) {
        more->type = MP_ENTRY_FLOOR;
        mp_stream_floor_encode(e->seq, payload);
        more->payload = mp_buf_slice(payload);
        return 1;
    }
    if (keep == 0 || n->config->discard_new_per_subject)
        return 0; /* a rollup without lists: mp_nats_committed */
    i = mp_subjects_find(&n->subjects, mp_stream_subject_of(s, e));
    if (i == NULL)
        return 0;
    weed(s, i);
    count = take_oldest(&n->subjects, i, rollup ? 0 : keep - 1, &seqs);
    if (count > 0) {
        more->seq = seqs[0];
        mp_stream_removal_encode(seqs, count, payload);
        more->payload = mp_buf_slice(payload);
    }
    mp_free(seqs);
    return count > 0;
}

void mp_nats_stored(struct mp_stream *s, const struct mp_entry *e)
{
    s->nats->waiting_bytes += mp_entry_size(e);
    index_put(s->nats, mp_stream_subject_of(s, e), e->seq);
}

/* A rollup of a subject that has no list: what is below is looked for. */
struct rollup {
    struct mp_scan scan; /* first */
    char *subject;
    uint64_t *seqs;
    size_t count, capacity;
};

static bool rollup_each(struct mp_scan *scan, const struct mp_stored *m)
{
    struct rollup *r = (struct rollup *)(void *)scan;

    if (r->count == r->capacity) {
        r->capacity = r->capacity > 0 ? r->capacity * 2 : 16;
        r->seqs = mp_realloc(r->seqs, r->capacity * sizeof(*r->seqs));
    }
    r->seqs[r->count++] = m->entry.seq;
    return true;
}

static void rollup_done(struct mp_scan *scan, memphis_status st)
{
    struct rollup *r = (struct rollup *)(void *)scan;

    if (st == MEMPHIS_OK)
        remove_all(scan->stream, r->seqs, r->count);
    mp_free(r->subject);
    mp_free(r->seqs);
    mp_free(r);
}

static void roll_up(struct mp_stream *s, const struct mp_entry *e)
{
    memphis_slice subject = mp_stream_subject_of(s, e);
    struct rollup *r = mp_alloc(sizeof(*r));

    r->subject = mp_strndup(subject.data, subject.size);
    r->scan = (struct mp_scan){ .stream = s,
                                .at = mp_log_first(s->log, s->pid),
                                .end = e->seq,
                                .each = rollup_each,
                                .done = rollup_done,
                                .filter = mp_slice(r->subject, subject.size) };
    mp_scan_start(&r->scan);
}

/* === Limits === */

void mp_nats_limits(struct mp_stream *s)
{
    const struct mp_nats_config *c = s->nats->config;

    if (s->age_max_ns != UINT64_MAX)
        mp_stream_limit_age(s);
    if (c->messages_max > 0 && !c->discard_new)
        mp_stream_limit_messages(s, c->messages_max);
    if (c->bytes_max > 0 && !c->discard_new)
        mp_stream_limit_bytes(s, c->bytes_max);
    if (s->groups.count == 0)
        mp_stream_limit_acked(s); /* interest: nobody has any */
}

void mp_nats_committed(struct mp_stream *s, const struct mp_entry *e)
{
    struct mp_nats *n = s->nats;
    const struct mp_nats_config *c = n->config;
    uint64_t size = mp_entry_size(e);
    bool all;

    n->waiting_bytes -= size < n->waiting_bytes ? size : n->waiting_bytes;
    if (e->headers.size > 0 && c->per_subject_max == 0 &&
        is_rollup(n, e->headers, &all) && !all)
        roll_up(s, e);
    if ((s->age_max_ns != UINT64_MAX && !mp_timer_is_set(&s->limit_timer)) ||
        c->messages_max > 0 || c->bytes_max > 0 || c->retention == MP_NATS_INTEREST)
        mp_nats_limits(s);
}

/* === Work queue === */

void mp_nats_settled(struct mp_stream *s, uint64_t seq)
{
    if (s->nats->config->retention == MP_NATS_WORKQUEUE)
        mp_ranges_add(&s->nats->done, seq, seq);
}

size_t mp_nats_done_entry(struct mp_stream *s, struct mp_entry *e,
                          struct mp_buf *payload)
{
    struct mp_ranges *r = &s->nats->done;
    uint64_t at;
    size_t n = r->count < MP_STREAM_REMOVALS_MAX ? r->count : MP_STREAM_REMOVALS_MAX;

    if (n == 0)
        return 0;
    at = r->items[0].first;
    *e = (struct mp_entry){ .type = MP_ENTRY_DELETE,
                            .pid = s->pid,
                            .seq = at,
                            .time_ns = *s->host->now_ns,
                            .flags = MP_ENTRY_CHAINED };
    mp_buf_put_varint(payload, n);
    for (size_t i = 0; i < n; i++) {
        mp_buf_put_varint(payload, r->items[i].first - at);
        mp_buf_put_varint(payload, r->items[i].last - r->items[i].first + 1);
        at = r->items[i].last + 1;
    }
    e->payload = mp_buf_slice(payload);
    mp_ranges_trim(r, at);
    return 1;
}

/* === Life === */

void mp_nats_new(struct mp_stream *s, mp_service_fn on_publish)
{
    struct mp_nats *n = mp_alloc(sizeof(*n));

    s->nats = n;
    n->stream = s;
    n->on_publish = on_publish;
    mp_assert(mp_nats_config_parse(mp_slice_text(s->settings.nats), &n->config, NULL) ==
              MEMPHIS_OK); /* decoding the settings has tried it */
    s->settings.nats = n->config->text;
    s->settings.window_ns = n->config->window_ns;
    s->age_max_ns = age_of(n->config);
    mp_subjects_init(&n->subjects, s->host->dedup_key, n->config->per_subject_max > 0);
    n->is_indexed = true; /* it is empty; a start says otherwise */
    serve_subjects(n);
}

void mp_nats_free(struct mp_stream *s)
{
    struct mp_nats *n = s->nats;

    if (n == NULL)
        return;
    unserve_subjects(n);
    empty_index(n);
    mp_subjects_fini(&n->subjects);
    mp_ranges_fini(&n->done);
    mp_nats_config_free(n->config);
    mp_free(n);
    s->nats = NULL;
}

void mp_nats_start(struct mp_stream *s)
{
    build_index(s->nats);
}

void mp_nats_failed(struct mp_stream *s)
{
    s->nats->waiting_bytes = 0;
    build_index(s->nats);
}

void mp_nats_configure(struct mp_stream *s, const char *text, bool live)
{
    struct mp_nats *n = s->nats;
    struct mp_nats_config *c, *old = n->config;

    if (mp_nats_config_parse(mp_slice_text(text), &c, NULL) != MEMPHIS_OK)
        return;
    unserve_subjects(n);
    n->config = c;
    s->settings.nats = c->text;
    s->settings.window_ns = s->dedup.window_ns = c->window_ns;
    s->age_max_ns = age_of(c);
    mp_timer_cancel(s->host->timers, &s->limit_timer);
    serve_subjects(n);
    if (!live)
        n->is_indexed = false;
    else if ((old->per_subject_max > 0) != (c->per_subject_max > 0) || n->has_given_up)
        build_index(n);
    else if (c->per_subject_max > 0 && n->is_indexed)
        enforce_per_subject(n);
    mp_nats_config_free(old);
    if (live)
        mp_nats_limits(s); /* and the timer of the age runs again */
}
