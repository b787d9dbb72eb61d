#include "stream/consumer.h"

#include "base/assert.h"
#include "base/status.h"
#include "stream/internal.h"
#include "stream/nats.h"

#include <inttypes.h>

static const uint64_t MS = 1000000;

enum { WINDOW = 256 << 10, COUNTED_AT_ONCE = 4096 };

/* === What it wants === */

static uint64_t now_of(const struct mp_stream_group *g)
{
    return *g->stream->host->now_ns;
}

static bool takes(const struct mp_consumer *c, memphis_slice subject)
{
    if (c->takes_all)
        return true;
    for (uint32_t i = 0; i < c->config->filters_count; i++)
        if (mp_subject_matches(mp_slice_text(c->config->filters[i]), subject))
            return true;
    return false;
}

static bool is_last_of(struct mp_stream *s, memphis_slice subject, uint64_t seq)
{
    uint64_t last;

    return s->nats == NULL || !mp_nats_last_of(s, subject, &last) || last == seq;
}

bool mp_consumer_wants(const struct mp_stream_group *g, const struct mp_entry *e)
{
    memphis_slice subject = mp_stream_subject_of(g->stream, e);

    if (!takes(g->nats, subject))
        return false;
    return g->policy != MP_START_LAST_PER_SUBJECT || e->seq > g->asked_start ||
           is_last_of(g->stream, subject, e->seq);
}

/* === How much it has not seen === */

/* Of one subject, from `next` to `last`. */
static uint64_t count_item(const struct mp_stream_group *g,
                           const struct mp_subject_item *i, uint64_t next,
                           uint64_t last)
{
    uint64_t begin = g->asked_start, n = 0;

    if (g->policy == MP_START_LAST_PER_SUBJECT && next <= begin) {
        n = i->last >= next && i->last <= begin;
        next = begin + 1;
    }
    return n + mp_subject_count_from(i, next) - mp_subject_count_from(i, last + 1);
}

static uint64_t count_subjects(const struct mp_stream_group *g, uint64_t last)
{
    const struct mp_subjects *x = &g->stream->nats->subjects;
    const struct mp_subject_item *i;
    uint64_t n = 0;

    for (uint32_t at = 0; (i = mp_subjects_next(x, &at)) != NULL;)
        if (takes(g->nats, mp_slice(i->text, i->size)))
            n += x->has_lists ? count_item(g, i, g->group.next, last)
                              : i->last >= g->group.next && i->last <= last &&
                                    mp_log_has(g->stream->log, g->stream->pid, i->last);
    return n;
}

/* Exact while no message is missing, else at most too many. */
static uint64_t count_distance(const struct mp_stream_group *g)
{
    struct mp_log_stats st;
    uint64_t next = g->group.next, distance;

    mp_log_stats(g->stream->log, g->stream->pid, &st);
    if (st.messages == 0 || st.last_seq < next)
        return 0;
    distance = st.last_seq - next + 1;
    if (next <= st.first_seq)
        return st.messages;
    return distance < st.messages ? distance : st.messages;
}

static uint64_t count_messages(const struct mp_stream_group *g, uint64_t last)
{
    struct mp_stream *s = g->stream;
    uint64_t at = g->group.next, n = 0;

    for (int i = 0; i < COUNTED_AT_ONCE && at <= last; i++) {
        struct mp_stored m;
        memphis_status st = mp_log_read(s->log, s->pid, at, &m);

        if (st == MP_PENDING)
            break;
        if (st != MEMPHIS_OK && st != MEMPHIS_CORRUPT)
            return n;
        at = m.entry.seq + 1;
        if (st != MEMPHIS_OK)
            continue;
        n += mp_consumer_wants(g, &m.entry);
        mp_stored_release(&m);
    }
    return at <= last ? n + (last - at + 1) : n; /* the rest is not looked at */
}

uint64_t mp_consumer_unseen(struct mp_stream_group *g)
{
    struct mp_consumer *c = g->nats;
    struct mp_stream *s = g->stream;
    uint64_t last = mp_log_last(s->log, s->pid);
    bool has_index = s->nats != NULL && s->nats->is_indexed;
    bool is_narrow =
        g->policy == MP_START_LAST_PER_SUBJECT && g->group.next <= g->asked_start;

    if (c->is_counted)
        return c->unseen;
    if (has_index && (s->nats->subjects.has_lists || is_narrow)) {
        mp_nats_weed(s);
        c->unseen = count_subjects(g, last);
    } else if (c->takes_all) {
        c->unseen = count_distance(g);
    } else {
        c->unseen = count_messages(g, last);
    }
    c->is_counted = true;
    return c->unseen;
}

void mp_consumer_committed(struct mp_stream_group *g, const struct mp_entry *e)
{
    struct mp_consumer *c = g->nats;

    if (c->is_counted && takes(c, mp_stream_subject_of(g->stream, e)))
        c->unseen++;
}

void mp_consumer_removed(struct mp_stream_group *g, uint64_t last)
{
    if (last >= g->group.next)
        g->nats->is_counted = false;
}

/* === Delivery === */

void mp_consumer_dress(struct mp_stream_group *g, struct mp_message *m)
{
    struct mp_buf *b = &g->nats->scratch;
    memphis_slice h = m->headers;

    if (!g->nats->config->headers_only)
        return;
    mp_buf_clear(b);
    if (h.size > 2) /* without the empty line at its end */
        mp_buf_put(b, h.data, h.size - 2);
    else
        mp_buf_put_text(b, "NATS/1.0\r\n");
    mp_buf_put_text(b, "Nats-Msg-Size: ");
    mp_buf_put_decimal(b, m->payload.size);
    mp_buf_put_text(b, "\r\n\r\n");
    m->headers = mp_buf_slice(b);
    m->payload = MP_STR("");
    m->stored = NULL;
}

static void flow_subject(const struct mp_stream_group *g, struct mp_buf *out)
{
    mp_buf_format(out, "$JS.FC.%s.%s.%" PRIu64, g->stream->name, g->name,
                  g->nats->flow_number);
}

static void ask_for_flow(struct mp_stream_group *g, memphis_slice to)
{
    struct mp_buf reply = { 0 };
    struct mp_message m = { .subject = to,
                            .headers =
                                MP_STR("NATS/1.0 100 FlowControl Request\r\n\r\n") };

    g->nats->flow_number++;
    g->nats->flow_asked = true;
    g->nats->flow_bytes = 0;
    flow_subject(g, &reply);
    m.reply = mp_buf_slice(&reply);
    mp_bus_deliver(g->stream->host->bus, to, &m);
    mp_buf_fini(&reply);
}

/* Delivery number n waits as long as the n-th, or the last, of the list says. */
static void back_off(struct mp_stream_group *g, uint64_t seq, uint32_t deliveries)
{
    const struct mp_consumer_config *o = g->nats->config;
    uint32_t n = deliveries < o->backoff_count ? deliveries : o->backoff_count;

    mp_group_delay(&g->group, seq, now_of(g) + o->backoff_ns[n - 1]);
}

bool mp_consumer_extended(struct mp_stream_group *g, uint64_t seq)
{
    uint32_t deliveries = mp_group_deliveries(&g->group, seq);

    if (g->nats->config->backoff_count == 0)
        return mp_group_extend(&g->group, seq, now_of(g));
    if (deliveries > 0)
        back_off(g, seq, deliveries);
    return deliveries > 0;
}

void mp_consumer_delivered(struct mp_stream_group *g, uint64_t seq, uint32_t deliveries)
{
    struct mp_consumer *c = g->nats;
    const struct mp_consumer_config *o = c->config;

    if (deliveries == 1 && c->is_counted && c->unseen > 0)
        c->unseen--;
    if (o->ack == MP_ACK_NONE)
        (void)mp_group_ack(&g->group, seq);
    else if (o->backoff_count > 0)
        back_off(g, seq, deliveries);
}

void mp_consumer_flows(struct mp_stream_group *g, uint64_t size, memphis_slice to)
{
    struct mp_consumer *c = g->nats;

    if (!c->config->flow_control)
        return;
    c->flow_bytes += size;
    if (!c->flow_asked && c->flow_bytes >= WINDOW)
        ask_for_flow(g, to);
}

bool mp_consumer_acked(struct mp_stream_group *g, uint64_t seq, bool *done)
{
    if (g->nats->config->ack != MP_ACK_ALL)
        return false;
    *done = mp_pending_find(&g->group.pending, seq) != NULL;
    if (*done)
        mp_group_forget(&g->group, 0, seq);
    return true;
}

bool mp_consumer_is_stalled(const struct mp_stream_group *g)
{
    return g->nats->flow_asked && g->nats->flow_bytes >= WINDOW;
}

void mp_consumer_stalled_header(const struct mp_stream_group *g, struct mp_buf *out)
{
    if (!mp_consumer_is_stalled(g))
        return;
    mp_buf_put_text(out, "Nats-Consumer-Stalled: ");
    flow_subject(g, out);
    mp_buf_put_text(out, "\r\n");
}

void mp_consumer_flow(struct mp_stream_group *g)
{
    g->nats->flow_asked = false;
    mp_stream_group_wake(g);
}

/* === Push === */

static void push(struct mp_stream_group *g)
{
    const struct mp_consumer_config *o = g->nats->config;
    struct mp_pull_request r = { .batch = 1, .heartbeat_ns = o->heartbeat_ns };
    struct mp_pull *q;

    mp_list_remove(&g->nats->unheard);
    if (g->pulls.count > 0 ||
        mp_pull_add(&g->pulls, &r, mp_slice_text(o->deliver_subject), now_of(g), &q) !=
            MEMPHIS_OK)
        return;
    q->is_standing = true;
    g->nats->flow_asked = false;
    g->nats->flow_bytes = 0;
    mp_consumer_used(g);
    mp_stream_group_wake(g);
    mp_stream_group_arm(g);
}

/* Somebody has subscribed to something. */
static void on_subscribe(void *ctx, memphis_slice pattern)
{
    struct mp_stream_host *h = ctx;
    struct mp_list *l = h->unheard.next;

    while (l != &h->unheard) {
        struct mp_consumer *c = mp_container_of(l, struct mp_consumer, unheard);

        l = l->next;
        if (mp_subject_matches(pattern, mp_slice_text(c->config->deliver_subject)))
            push(c->group);
    }
}

void mp_consumer_unheard(struct mp_stream_group *g)
{
    struct mp_stream_host *h = g->stream->host;

    if (g->nats->config->deliver_subject == NULL ||
        mp_list_is_linked(&g->nats->unheard))
        return;
    mp_bus_watch(h->bus, on_subscribe, h);
    mp_list_push_back(&h->unheard, &g->nats->unheard);
    mp_consumer_used(g);
}

static void push_if_heard(struct mp_stream_group *g)
{
    const char *to = g->nats->config->deliver_subject;

    if (to == NULL)
        return;
    if (mp_bus_has_interest(g->stream->host->bus, mp_slice_text(to)))
        push(g);
    else
        mp_consumer_unheard(g);
}

/* === Inactivity === */

void mp_consumer_used(struct mp_stream_group *g)
{
    g->nats->used_ns = now_of(g);
}

static void arm_inactive(struct mp_consumer *c, uint64_t from_ns)
{
    if (c->config->inactive_ns > 0)
        mp_timer_set(c->group->stream->host->timers, &c->inactive,
                     (from_ns + c->config->inactive_ns) / MS + 1);
}

static bool is_in_use(struct mp_stream_group *g)
{
    struct mp_list *l;

    for (l = g->pulls.ring.next; l != &g->pulls.ring; l = l->next) {
        struct mp_pull *q = mp_container_of(l, struct mp_pull, ring);

        if (mp_bus_has_interest(g->stream->host->bus,
                                mp_slice(q->inbox, q->inbox_size)))
            return true;
    }
    return false;
}

static void fire_inactive(struct mp_timer *t, uint64_t now_ms)
{
    struct mp_consumer *c = mp_container_of(t, struct mp_consumer, inactive);
    struct mp_stream_group *g = c->group;
    struct mp_buf payload = { 0 };
    struct mp_entry e = { .type = MP_ENTRY_GROUP,
                          .pid = g->stream->pid,
                          .time_ns = now_of(g) };

    (void)now_ms;
    if (is_in_use(g))
        mp_consumer_used(g);
    if (g->leaving || now_of(g) < c->used_ns + c->config->inactive_ns) {
        arm_inactive(c, g->leaving ? now_of(g) : c->used_ns);
        return;
    }
    mp_logf(g->stream->host->logger, MEMPHIS_LOG_DEBUG, "stream",
            "a consumer that nobody uses goes consumer=%s stream=%s", g->name,
            g->stream->name);
    mp_stream_group_delete_encode(g, &payload);
    e.payload = mp_buf_slice(&payload);
    if (mp_log_append(g->stream->log, &e, 1, MP_STREAM_TAG) != MEMPHIS_OK)
        g->leaving = false;
    arm_inactive(c, now_of(g)); /* if that comes back */
    mp_buf_fini(&payload);
}

/* === Life === */

static void settle_config(struct mp_consumer *c)
{
    const struct mp_stream *s = c->group->stream;
    const struct mp_consumer_config *o = c->config;

    c->takes_all = o->filters_count == 0;
    if (o->filters_count == 1 && s->nats != NULL)
        c->takes_all =
            mp_nats_config_is_all(s->nats->config, mp_slice_text(o->filters[0]));
    c->is_counted = false;
}

void mp_consumer_new(struct mp_stream_group *g, memphis_slice text)
{
    struct mp_consumer *c = mp_alloc(sizeof(*c));

    mp_assert(mp_consumer_config_parse(text, &c->config, NULL) == MEMPHIS_OK);
    c->group = g;
    c->inactive.fire = fire_inactive;
    g->nats = c;
    g->stream->consumers_count++;
    settle_config(c);
}

void mp_consumer_free(struct mp_stream_group *g)
{
    struct mp_consumer *c = g->nats;

    if (c == NULL)
        return;
    mp_timer_cancel(g->stream->host->timers, &c->inactive);
    mp_list_remove(&c->unheard);
    mp_buf_fini(&c->scratch);
    mp_consumer_config_free(c->config);
    mp_free(c);
    g->stream->consumers_count--;
    g->nats = NULL;
}

void mp_consumer_start(struct mp_stream_group *g)
{
    mp_consumer_used(g);
    arm_inactive(g->nats, now_of(g));
    push_if_heard(g);
}

void mp_consumer_configure(struct mp_stream_group *g, memphis_slice text)
{
    struct mp_consumer *c = g->nats;
    struct mp_consumer_config *now;

    if (c == NULL || mp_consumer_config_parse(text, &now, NULL) != MEMPHIS_OK)
        return;
    if (now->deliver_subject != NULL)
        mp_stream_pull_cancel(g, mp_slice_text(c->config->deliver_subject));
    mp_list_remove(&c->unheard);
    mp_consumer_config_free(c->config);
    c->config = now;
    settle_config(c);
}

/* === Where it starts === */

/* The first message that was stored at or after that wall time. */
static memphis_status seq_at(struct mp_stream *s, uint64_t wall_ns, uint64_t *out)
{
    uint64_t low = mp_log_first(s->log, s->pid), high = mp_log_last(s->log, s->pid) + 1;

    while (low < high) {
        uint64_t middle = low + (high - low) / 2;
        struct mp_stored m;
        memphis_status st = mp_log_read(s->log, s->pid, middle, &m);

        if (st == MP_PENDING)
            return st;
        if (st != MEMPHIS_OK) { /* nothing from the middle on, or damage: before it */
            high = middle;
            continue;
        }
        if (mp_wall_of(&s->host->wall, m.entry.time_ns) >= wall_ns)
            high = middle;
        else
            low = m.entry.seq + 1;
        mp_stored_release(&m);
    }
    *out = low;
    return MEMPHIS_OK;
}

static bool is_wanted(const struct mp_consumer_config *c, memphis_slice subject)
{
    for (uint32_t i = 0; i < c->filters_count; i++)
        if (mp_subject_matches(mp_slice_text(c->filters[i]), subject))
            return true;
    return c->filters_count == 0;
}

/* The newest message that it wants; 0: none. */
static memphis_status last_wanted(struct mp_stream *s,
                                  const struct mp_consumer_config *c, uint64_t *out)
{
    uint64_t first = mp_log_first(s->log, s->pid), seq = mp_log_last(s->log, s->pid);

    *out = 0;
    for (int i = 0; i < COUNTED_AT_ONCE && seq >= first && seq > 0; i++, seq--) {
        struct mp_stored m;
        memphis_status st;

        if (!mp_log_has(s->log, s->pid, seq))
            continue;
        st = mp_log_read(s->log, s->pid, seq, &m);
        if (st == MP_PENDING)
            return st;
        if (st != MEMPHIS_OK)
            continue;
        if (m.entry.seq == seq && is_wanted(c, mp_stream_subject_of(s, &m.entry)))
            *out = seq;
        mp_stored_release(&m);
        if (*out > 0)
            return MEMPHIS_OK;
    }
    return MEMPHIS_OK;
}

static memphis_status first_of_lasts(struct mp_stream *s,
                                     const struct mp_consumer_config *c, uint64_t *out)
{
    uint64_t last = mp_log_last(s->log, s->pid), first = mp_log_first(s->log, s->pid);
    const struct mp_subject_item *i;

    *out = last + 1;
    if (s->nats == NULL || !s->nats->is_indexed)
        return MEMPHIS_BUSY;
    for (uint32_t at = 0; (i = mp_subjects_next(&s->nats->subjects, &at)) != NULL;)
        if (i->last >= first && i->last < *out &&
            is_wanted(c, mp_slice(i->text, i->size)))
            *out = i->last;
    return MEMPHIS_OK;
}

memphis_status mp_consumer_start_of(struct mp_stream *s,
                                    const struct mp_consumer_config *c, uint64_t *start,
                                    uint64_t *asked_start)
{
    memphis_status st = MEMPHIS_OK;
    uint64_t seq = 0;

    *asked_start = c->start_seq;
    switch (c->policy) {
    case MP_START_TIME:
        st = seq_at(s, c->start_time_ns, &seq);
        break;
    case MP_START_LAST:
        st = last_wanted(s, c, &seq);
        if (seq == 0)
            seq = s->proposed_last + 1;
        break;
    case MP_START_LAST_PER_SUBJECT:
        *asked_start = mp_log_last(s->log, s->pid);
        st = first_of_lasts(s, c, &seq);
        break;
    default:
        *start = mp_stream_start_of(s, c->policy, c->start_seq);
        return MEMPHIS_OK;
    }
    *start = mp_stream_start_of(s, MP_START_SEQUENCE, seq);
    return st;
}
