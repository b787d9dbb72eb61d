/* Delivering: pull requests, statuses, settlements, progress. */
#include "stream/internal.h"

#include "base/assert.h"
#include "base/limits.h"
#include "base/status.h"
#include "stream/consumer.h"
#include "stream/nats.h"

#include <inttypes.h>

static const uint64_t MS = 1000000;
static const uint64_t RETRY_NS = 1000000000; /* of a progress that found no room */

/* === Small things === */

static uint64_t now_of(const struct mp_stream_group *g)
{
    return *g->stream->host->now_ns;
}

static uint64_t wall_of(const struct mp_stream_group *g, uint64_t broker_ns)
{
    return mp_wall_of(&g->stream->host->wall, broker_ns);
}

/* A group that is held back is linked, too: only room wakes it, or a new pull. */
void mp_stream_group_wake(struct mp_stream_group *g)
{
    if (g->pulls.count > 0 && !mp_list_is_linked(&g->serving))
        mp_list_push_back(&g->stream->host->serving, &g->serving);
}

void mp_stream_group_arm(struct mp_stream_group *g)
{
    uint64_t due = mp_group_due_ns(&g->group);
    uint64_t pull = g->pulls.count > 0 ? mp_pulls_due_ns(&g->pulls) : UINT64_MAX;

    due = pull < due ? pull : due;
    if (g->dying_count > 0 && g->letters_from_ns > now_of(g) &&
        g->letters_from_ns < due)
        due = g->letters_from_ns;
    if (due == UINT64_MAX)
        mp_timer_cancel(g->stream->host->timers, &g->timer);
    else /* never before its time: an early 408 breaks nats-py (sdk-protocol 3.5) */
        mp_timer_set(g->stream->host->timers, &g->timer, due / MS + (due % MS != 0));
}

void mp_stream_group_dirty(struct mp_stream_group *g)
{
    struct mp_stream_host *h = g->stream->host;

    if (mp_list_is_linked(&g->dirty))
        return;
    mp_list_push_back(&h->dirty, &g->dirty);
    if (h->dirty_since_ns == 0)
        h->dirty_since_ns = *h->now_ns;
}

/* === Dying === */

enum { LETTERS_MAX = 16, LETTERS_BYTES_MAX = 1 << 20 }; /* in one append */

/* It stays pending until its letter is durable, or goes at once. */
static void dies(struct mp_stream_group *g, uint64_t seq, uint32_t deliveries,
                 uint8_t reason, memphis_slice text)
{
    struct mp_dead_hooks *h = &g->stream->host->dead;

    if (h->wants == NULL || !h->wants(h->ctx, g)) {
        (void)mp_group_ack(&g->group, seq);
        return;
    }
    if (g->dying_count == g->dying_capacity) {
        g->dying_capacity = g->dying_capacity > 0 ? g->dying_capacity * 2 : 8;
        g->dying = mp_realloc(g->dying, g->dying_capacity * sizeof(*g->dying));
    }
    g->dying[g->dying_count++] = (struct mp_dying){
        .seq = seq,
        .deliveries = deliveries,
        .reason = reason,
        .text = text.size > 0 ? mp_strndup(text.data, text.size) : NULL,
    };
    mp_stream_group_dirty(g);
}

bool mp_stream_dying_text(struct mp_stream_group *g, uint64_t seq, memphis_slice text)
{
    for (size_t i = g->dying_first; i < g->dying_count; i++) {
        struct mp_dying *d = &g->dying[i];

        if (d->seq != seq || d->in_flight)
            continue;
        mp_free(d->text);
        d->text = mp_strndup(text.data, text.size);
        d->reason = MP_DEAD_NACKED;
        return true;
    }
    return false;
}

void mp_stream_bury_again(struct mp_stream *s)
{
    struct mp_stream_group *g;

    for (uint32_t i = 0; (g = mp_map_next(&s->groups, &i)) != NULL;)
        if (g->dying_count > 0)
            mp_stream_group_dirty(g);
}

static void forget_dying(struct mp_dying *d)
{
    mp_free(d->text);
    *d = (struct mp_dying){ .seq = 0 };
}

/* What is done at the front leaves the queue. */
static void trim_dying(struct mp_stream_group *g)
{
    while (g->dying_first < g->dying_count && g->dying[g->dying_first].seq == 0)
        g->dying_first++;
    if (g->dying_first <= g->dying_count / 2 && g->dying_first < g->dying_count)
        return;
    g->dying_count -= g->dying_first;
    if (g->dying_count > 0)
        memmove(g->dying, g->dying + g->dying_first,
                g->dying_count * sizeof(*g->dying));
    g->dying_first = 0;
}

/* One letter. NOT_FOUND: the message is gone, or was settled after all. */
static memphis_status write_letter(struct mp_stream_group *g, const struct mp_dying *d,
                                   struct mp_letter *l)
{
    struct mp_stream *s = g->stream;
    struct mp_dead_hooks *h = &s->host->dead;
    memphis_status st = mp_log_read(s->log, s->pid, d->seq, &l->source);

    if (st == MEMPHIS_OK && l->source.entry.seq != d->seq) {
        mp_stored_release(&l->source);
        st = MEMPHIS_NOT_FOUND;
    }
    if (st != MEMPHIS_OK) /* a damaged one leaves without: the log has said so */
        return st == MP_PENDING ? MEMPHIS_BUSY : MEMPHIS_NOT_FOUND;
    st = h->make(h->ctx, g, d, l);
    if (st != MEMPHIS_OK)
        mp_stored_release(&l->source);
    return st;
}

/* Letters of what is dying, in order and as many as one append should have; the
 * progress that is encoded next settles their messages. */
static size_t bury(struct mp_stream_group *g, struct mp_letter *letters)
{
    size_t n = 0, bytes = 0;

    if (now_of(g) < g->letters_from_ns)
        return 0;
    for (size_t i = g->dying_first; i < g->dying_count && n < LETTERS_MAX &&
                                    bytes < LETTERS_BYTES_MAX;
         i++) {
        struct mp_dying *d = &g->dying[i];
        const struct mp_pending_item *item = mp_pending_find(&g->group.pending, d->seq);
        memphis_status st = MEMPHIS_NOT_FOUND;

        mp_assert(!d->in_flight);
        letters[n] = (struct mp_letter){ .entries_count = 0 };
        if (item != NULL && item->state == MP_PENDING_DYING)
            st = write_letter(g, d, &letters[n]);
        if (st == MEMPHIS_BUSY)
            break;
        if (st == MEMPHIS_OK) {
            (void)mp_group_bury(&g->group, d->seq);
            d->in_flight = true;
            bytes += letters[n++].payload.size;
        } else if (d->seq > 0) {
            (void)mp_group_ack(&g->group, d->seq);
            forget_dying(d);
        }
    }
    trim_dying(g);
    return n;
}

/* What was in flight, at the front, has come, or has not. */
static void end_burial(struct mp_stream_group *g, bool committed)
{
    for (size_t i = g->dying_first; i < g->dying_count; i++) {
        struct mp_dying *d = &g->dying[i];

        if (d->seq > 0 && !d->in_flight)
            break;
        if (d->seq > 0 && committed) {
            (void)mp_group_ack(&g->group, d->seq);
            forget_dying(d);
        } else if (d->seq > 0) {
            mp_group_exhume(&g->group, d->seq);
            d->in_flight = false;
        }
    }
    trim_dying(g);
}

static void dead_letter(void *ctx, uint64_t seq, uint32_t deliveries)
{
    struct mp_stream_group *g = ctx;

    g->stream->host->counters.dead++;
    mp_logf(g->stream->host->logger, MEMPHIS_LOG_WARN, "stream",
            "group gave up on a message after its last delivery group=%s stream=%s "
            "seq=%" PRIu64 " deliveries=%u",
            g->name, g->stream->name, seq, deliveries);
    dies(g, seq, deliveries, MP_DEAD_UNACKED, MP_STR(""));
}

/* === Status messages (sdk-protocol 3.5) === */

static void send_status(struct mp_stream_group *g, memphis_slice inbox,
                        memphis_slice headers)
{
    struct mp_message m = { .subject = inbox, .headers = headers };

    mp_bus_deliver(g->stream->host->bus, inbox, &m);
}

static memphis_slice inbox_of(const struct mp_pull *q)
{
    return mp_slice(q->inbox, q->inbox_size);
}

/* A status that ends the request: with what was not delivered, when `rest`. */
static void end_pull(struct mp_stream_group *g, struct mp_pull *q, const char *status,
                     bool rest)
{
    uint8_t space[256];
    struct mp_buf b = { .data = space, .capacity = sizeof(space) };

    mp_buf_put_text(&b, "NATS/1.0 ");
    mp_buf_put_text(&b, status);
    mp_buf_put_text(&b, "\r\n");
    if (rest) {
        mp_buf_put_text(&b, "Nats-Pending-Messages: ");
        mp_buf_put_decimal(&b, q->left);
        mp_buf_put_text(&b, "\r\nNats-Pending-Bytes: ");
        mp_buf_put_decimal(&b, q->bytes_left == UINT64_MAX ? 0 : q->bytes_left);
        mp_buf_put_text(&b, "\r\n");
    }
    mp_buf_put_text(&b, "\r\n");
    mp_assert(b.data == space);
    send_status(g, inbox_of(q), mp_buf_slice(&b));
    mp_pull_remove(&g->pulls, q);
}

static void send_beat(struct mp_stream_group *g, const struct mp_pull *q)
{
    uint8_t space[160 + 2 * MP_NAME_MAX + 64];
    struct mp_buf b = { .data = space, .capacity = sizeof(space) };

    mp_buf_put_text(&b, "NATS/1.0 100 Idle Heartbeat\r\nNats-Last-Consumer: ");
    mp_buf_put_decimal(&b, g->group.dseq);
    mp_buf_put_text(&b, "\r\nNats-Last-Stream: ");
    mp_buf_put_decimal(&b, g->group.next - 1);
    mp_buf_put_text(&b, "\r\n");
    if (g->nats != NULL)
        mp_consumer_stalled_header(g, &b);
    mp_buf_put_text(&b, "\r\n");
    mp_assert(b.data == space);
    send_status(g, inbox_of(q), mp_buf_slice(&b));
}

/* === Which message is for the group === */

static bool matches(const struct mp_stream_group *g, const struct mp_entry *e)
{
    const struct mp_stream *s = g->stream;
    memphis_slice subject =
        e->subject.size > 0 ? e->subject : mp_slice(s->final_subject, s->final_size);

    if (g->nats != NULL)
        return mp_consumer_wants(g, e);
    if (g->filter == NULL)
        return e->subject.size == 0;
    return g->filter[0] == 0 || mp_subject_matches(mp_slice_text(g->filter), subject);
}

/* Reads what is to be delivered next. OK: *out holds it. NOT_FOUND: nothing now.
 * MP_PENDING: it is being fetched. */
static memphis_status pick(struct mp_stream_group *g, struct mp_stored *out)
{
    struct mp_stream *s = g->stream;

    for (;;) {
        uint64_t seq, last = mp_log_last(s->log, s->pid);
        enum mp_group_pick p = mp_group_pick(&g->group, last, &seq);
        memphis_status st;

        if (p == MP_PICK_NONE)
            return MEMPHIS_NOT_FOUND;
        st = mp_log_read(s->log, s->pid, seq, out);
        if (st == MP_PENDING)
            return st;
        if (st == MEMPHIS_OK && (p == MP_PICK_NEW || out->entry.seq == seq) &&
            matches(g, &out->entry) && !mp_stream_is_expired(s, &out->entry)) {
            if (p == MP_PICK_NEW)
                mp_group_skip(&g->group, out->entry.seq);
            return MEMPHIS_OK;
        }
        /* Gone, damaged (the log has said so), or not for this group: go on behind it.
         */
        if (p == MP_PICK_AGAIN)
            mp_group_ack(&g->group, seq);
        else
            mp_group_skip(&g->group,
                          st == MEMPHIS_NOT_FOUND ? last + 1 : out->entry.seq + 1);
        mp_stream_group_dirty(g);
        if (st == MEMPHIS_OK)
            mp_stored_release(out);
    }
}

/* === Delivery === */

/* "$JS.ACK.<stream>.<durable>.<deliveries>.<seq>.<dseq>.<ts>.<pending>" */
static void ack_subject(const struct mp_stream_group *g, const struct mp_entry *e,
                        uint32_t deliveries, uint64_t dseq, struct mp_buf *out)
{
    uint64_t last = mp_log_last(g->stream->log, g->stream->pid);

    mp_buf_put(out, g->ack_prefix, g->ack_prefix_size);
    mp_buf_put_decimal(out, deliveries);
    mp_buf_put_u8(out, '.');
    mp_buf_put_decimal(out, e->seq);
    mp_buf_put_u8(out, '.');
    mp_buf_put_decimal(out, dseq);
    mp_buf_put_u8(out, '.');
    mp_buf_put_decimal(out, wall_of(g, e->time_ns));
    mp_buf_put_u8(out, '.');
    if (g->nats != NULL)
        mp_buf_put_decimal(out, g->nats->unseen);
    else
        mp_buf_put_decimal(out, last >= g->group.next ? last - g->group.next + 1 : 0);
}

static uint64_t size_for_pull(const struct mp_stream_group *g, const struct mp_entry *e)
{
    uint64_t subject = e->subject.size > 0 ? e->subject.size : g->stream->final_size;

    /* The ack subject's numbers are counted with their usual length. */
    return e->headers.size + e->payload.size + subject + g->ack_prefix_size + 30;
}

/* Whoever may read the stream may subscribe to this. */
static memphis_slice heard_as(const struct mp_stream *s)
{
    return mp_slice(s->final_subject, s->final_size);
}

/* The first pull in the ring whose client has room for `m`. NULL: none; those of
 * clients that are gone, or may not read the stream any more, are dropped. */
static struct mp_pull *pull_for(struct mp_stream_group *g, const struct mp_stored *m)
{
    const struct mp_stream *s = g->stream;
    size_t size = size_for_pull(g, &m->entry);

    for (uint32_t n = g->pulls.count; n > 0; n--) {
        struct mp_pull *q = mp_pull_head(&g->pulls);

        switch (mp_bus_reach(s->host->bus, inbox_of(q), heard_as(s), size)) {
        case MP_BUS_NOBODY:
            mp_pull_remove(&g->pulls, q); /* no delivery is counted */
            if (g->nats != NULL)
                mp_consumer_unheard(g);
            break;
        case MP_BUS_BUSY:
            mp_pull_rotate(&g->pulls, q);
            break;
        case MP_BUS_READY:
            return q;
        }
    }
    return NULL;
}

/* Hands one message to this pull. False: it is more than the pull may get, and the pull
 * is gone. */
static bool deliver(struct mp_stream_group *g, struct mp_pull *q, struct mp_stored *m,
                    uint64_t *bytes)
{
    struct mp_stream *s = g->stream;
    uint8_t space[2 * MP_NAME_MAX + 160];
    struct mp_buf reply = { .data = space, .capacity = sizeof(space) };
    struct mp_message out = { .headers = m->entry.headers,
                              .payload = m->entry.payload,
                              .stored = m,
                              .heard_as = heard_as(s) };
    uint64_t dseq;
    uint32_t deliveries;
    uint64_t size = size_for_pull(g, &m->entry);

    if (size > q->bytes_left) {
        end_pull(g, q, "409 Message Size Exceeds MaxBytes", true);
        return false;
    }
    if (g->nats != NULL)
        (void)mp_consumer_unseen(g); /* before it is one less */
    mp_group_deliver(&g->group, m->entry.seq, now_of(g), &deliveries, &dseq);
    mp_stream_group_dirty(g);
    if (g->nats != NULL) {
        mp_consumer_delivered(g, m->entry.seq, deliveries);
        mp_consumer_dress(g, &out);
    }
    out.subject = m->entry.subject.size > 0 ? m->entry.subject
                                            : mp_slice(s->final_subject, s->final_size);
    ack_subject(g, &m->entry, deliveries, dseq, &reply);
    mp_assert(reply.data == space);
    out.reply = mp_buf_slice(&reply);
    mp_bus_deliver(s->host->bus, inbox_of(q), &out);
    s->host->counters.delivered++;
    s->host->counters.redelivered += deliveries > 1;
    g->last_active_ns = wall_of(g, now_of(g));
    if (g->nats != NULL)
        mp_consumer_flows(g, size, inbox_of(q));
    mp_pull_served(&g->pulls, q, size, now_of(g));
    *bytes += size;
    return true;
}

/* no_wait requests end as soon as everything there was is sent (sdk-protocol 3.5): with
 * 408 when they got something, with 404 when they got nothing and have no expiry. */
static void end_no_wait(struct mp_stream_group *g)
{
    struct mp_list *l = g->pulls.ring.next;

    while (l != &g->pulls.ring) {
        struct mp_pull *q = mp_container_of(l, struct mp_pull, ring);

        l = l->next;
        if (!q->no_wait)
            continue;
        if (q->sent > 0)
            end_pull(g, q, "408 Request Timeout", true);
        else if (q->expires_at_ns == UINT64_MAX)
            end_pull(g, q, "404 No Messages", false);
    }
}

static void hold(struct mp_stream_group *g)
{
    g->is_held = true;
    mp_list_remove(&g->serving); /* a delivery may have woken it */
    mp_list_push_back(&g->stream->host->held, &g->serving);
}

static void let_go(struct mp_stream_group *g)
{
    if (!g->is_held)
        return;
    g->is_held = false;
    mp_list_remove(&g->serving);
    mp_stream_group_wake(g);
}

void mp_streams_have_room(struct mp_stream_host *h)
{
    while (!mp_list_is_empty(&h->held))
        let_go(mp_container_of(h->held.next, struct mp_stream_group, serving));
}

/* True: budget used up, more may be there. */
static bool serve(struct mp_stream_group *g, uint32_t *messages, uint64_t *bytes,
                  uint64_t bytes_max)
{
    struct mp_stored m;
    struct mp_pull *q;
    memphis_status st = MEMPHIS_NOT_FOUND;

    while (g->pulls.count > 0 && !g->is_held &&
           !(g->nats != NULL && mp_consumer_is_stalled(g))) {
        if (*messages == 0 || *bytes >= bytes_max)
            return true;
        st = pick(g, &m);
        if (st != MEMPHIS_OK)
            break;
        (*messages)--;
        while ((q = pull_for(g, &m)) != NULL && !deliver(g, q, &m, bytes))
            ;
        if (q == NULL && g->pulls.count > 0) /* a reader that is slower than we are */
            hold(g);
        mp_stored_release(&m);
    }
    if (st != MP_PENDING && !g->is_held)
        end_no_wait(g);
    mp_stream_group_arm(g);
    return false;
}

void mp_streams_serve(struct mp_stream_host *h, uint32_t messages_max,
                      uint64_t bytes_max)
{
    uint64_t bytes = 0;
    struct mp_list *l;
    struct mp_list again;

    mp_list_init(&again);
    while ((l = mp_list_pop_front(&h->serving)) != NULL) {
        struct mp_stream_group *g = mp_container_of(l, struct mp_stream_group, serving);

        if (serve(g, &messages_max, &bytes, bytes_max)) {
            mp_list_push_back(&again, &g->serving);
            break;
        }
    }
    while ((l = mp_list_pop_front(&again)) != NULL)
        mp_list_push_back(&h->serving, l); /* others first, next turn */
}

/* Pulls without an expiry stay behind when their client goes without a word. */
static void drop_unheard(struct mp_stream_group *g)
{
    struct mp_list *l = g->pulls.ring.next;

    while (l != &g->pulls.ring) {
        struct mp_pull *q = mp_container_of(l, struct mp_pull, ring);

        l = l->next;
        if (!q->is_standing && !mp_bus_has_interest(g->stream->host->bus, inbox_of(q)))
            mp_pull_remove(&g->pulls, q);
    }
}

static uint32_t waiting_max(const struct mp_stream_group *g)
{
    return g->nats != NULL ? g->nats->config->waiting_max : MP_PULLS_WAITING_MAX;
}

void mp_stream_pull(struct mp_stream_group *g, const struct mp_pull_request *r,
                    memphis_slice inbox)
{
    struct mp_pull *q;

    if (!mp_bus_has_interest(g->stream->host->bus, inbox))
        return; /* nobody would hear even the refusal */
    if (g->nats != NULL)
        mp_consumer_used(g);
    if (g->pulls.count >= waiting_max(g))
        drop_unheard(g);
    if (g->pulls.count >= waiting_max(g) ||
        mp_pull_add(&g->pulls, r, inbox, now_of(g), &q) != MEMPHIS_OK) {
        send_status(g, inbox, MP_STR("NATS/1.0 409 Exceeded MaxWaiting\r\n\r\n"));
        return;
    }
    let_go(g);
    mp_stream_group_wake(g);
}

void mp_stream_pull_cancel(struct mp_stream_group *g, memphis_slice inbox)
{
    struct mp_list *l = g->pulls.ring.next;

    while (l != &g->pulls.ring) {
        struct mp_pull *q = mp_container_of(l, struct mp_pull, ring);

        l = l->next;
        if (mp_slice_equal(inbox_of(q), inbox))
            mp_pull_remove(&g->pulls, q);
    }
}

/* === The group's timer === */

static void tick_pulls(struct mp_stream_group *g)
{
    struct mp_list *l = g->pulls.ring.next;

    while (l != &g->pulls.ring) {
        struct mp_pull *q = mp_container_of(l, struct mp_pull, ring);

        l = l->next;
        switch (mp_pull_tick(q, now_of(g))) {
        case MP_PULL_EXPIRED:
            end_pull(g, q, "408 Request Timeout", true);
            break;
        case MP_PULL_BEAT:
            send_beat(g, q);
            break;
        case MP_PULL_GOES_ON:
            break;
        }
    }
}

void mp_stream_group_fire(struct mp_timer *t, uint64_t now_ms)
{
    struct mp_stream_group *g = mp_container_of(t, struct mp_stream_group, timer);

    (void)now_ms;
    mp_group_tick(&g->group, now_of(g), dead_letter, g);
    if (g->group.dirty || g->dying_count > 0)
        mp_stream_group_dirty(g);
    mp_stream_group_wake(g);
    tick_pulls(g);
    mp_stream_group_arm(g);
}

/* === Settlements === */

/* "1s", "1.5s", "250ms", "1m30s" or plain digits of ns; false: unreadable. */
static bool parse_duration(memphis_slice s, uint64_t *ns)
{
    static const struct {
        const char *unit;
        uint64_t ns;
    } units[] = { { "ns", 1 },         { "us", 1000 },       { "ms", 1000000 },
                  { "s", 1000000000 }, { "m", 60000000000 }, { "h", 3600000000000 } };
    const char *p = s.data, *end = p + s.size;

    *ns = 0;
    if (mp_parse_u64(s, ns))
        return true;
    while (p < end) {
        double v = 0, scale = 1;
        const char *unit, *digits = p;
        size_t k = 0;

        for (; p < end && ((*p >= '0' && *p <= '9') || *p == '.'); p++) {
            if (*p == '.')
                scale = scale == 1 ? 0.1 : 0;
            else if (scale == 1)
                v = v * 10 + (*p - '0');
            else
                v += (*p - '0') * scale, scale /= 10;
        }
        for (unit = p; p < end && *p >= 'a' && *p <= 'z'; p++)
            ;
        while (k < 6 && !mp_slice_equal(mp_slice_text(units[k].unit),
                                        mp_slice(unit, (size_t)(p - unit))))
            k++;
        if (digits == unit || k == 6 || v * (double)units[k].ns > 1e18)
            return false;
        *ns += (uint64_t)(v * (double)units[k].ns);
    }
    return s.size > 0;
}

/* -NAK, -NAK {"delay":<ns>}, -NAK 1s; anything unreadable is a NAK at once. */
static uint64_t delay_of(memphis_slice args)
{
    static const char key[] = "\"delay\"";
    const char *p = args.data, *end = p + args.size, *v;
    uint64_t ns = 0;

    while (p < end && *p == ' ')
        p++;
    if (p < end && *p == '{') {
        p = memmem(p, (size_t)(end - p), key, sizeof(key) - 1);
        if (p == NULL)
            return 0;
        for (p += sizeof(key) - 1; p < end && (*p == ' ' || *p == ':'); p++)
            ;
        for (v = p; p < end && *p >= '0' && *p <= '9'; p++)
            ;
        return mp_parse_u64(mp_slice(v, (size_t)(p - v)), &ns) ? ns : 0;
    }
    return parse_duration(mp_slice(p, (size_t)(end - p)), &ns) ? ns : 0;
}

static bool begins(memphis_slice s, const char *verb)
{
    return mp_slice_starts(s, mp_slice_text(verb));
}

static memphis_slice after(memphis_slice v, size_t n)
{
    return v.size > n ? mp_slice((const char *)v.data + n, v.size - n) : MP_STR("");
}

/* Plain NATS consumers only get rid of it so (design D9). */
static void terminated(struct mp_stream_group *g, uint64_t seq, uint32_t deliveries,
                       memphis_slice text)
{
    mp_logf(g->stream->host->logger, MEMPHIS_LOG_INFO, "stream",
            "message terminated by its consumer group=%s stream=%s seq=%" PRIu64,
            g->name, g->stream->name, seq);
    if (g->plain)
        (void)mp_group_ack(&g->group, seq);
    else
        dies(g, seq, deliveries, MP_DEAD_NACKED, text);
}

static bool apply_verdict(struct mp_stream_group *g, uint64_t seq, memphis_slice v)
{
    struct mp_stream_counters *c = &g->stream->host->counters;
    uint32_t deliveries;
    bool done;

    if (v.size == 0 || mp_slice_equal(v, MP_STR("+ACK")) ||
        mp_slice_equal(v, MP_STR("+OK")) || begins(v, "+NXT")) {
        if (g->nats == NULL || !mp_consumer_acked(g, seq, &done))
            done = mp_group_ack(&g->group, seq);
        if (done && g->stream->nats != NULL)
            mp_nats_settled(g->stream, seq);
        c->acked += done;
        return done;
    }
    if (begins(v, "-NAK"))
        return mp_group_nack(&g->group, seq,
                             delay_of(mp_slice((const char *)v.data + 4, v.size - 4)),
                             now_of(g), dead_letter, g);
    if (mp_slice_equal(v, MP_STR("+WPI")) && g->nats != NULL)
        return mp_consumer_extended(g, seq);
    if (mp_slice_equal(v, MP_STR("+WPI")))
        return mp_group_extend(&g->group, seq, now_of(g));
    if (mp_slice_equal(v, MP_STR("+TERM")) || begins(v, "+TERM ")) {
        deliveries = mp_group_deliveries(&g->group, seq);
        done = mp_group_die(&g->group, seq);
        c->terminated += done;
        if (done && g->stream->nats != NULL)
            mp_nats_settled(g->stream, seq);
        if (done)
            terminated(g, seq, deliveries, after(v, 6));
        return done;
    }
    return false;
}

static void changed(struct mp_stream_group *g)
{
    mp_stream_group_dirty(g);
    mp_stream_group_wake(g); /* a nack, or room below pending_max */
    mp_stream_group_arm(g);
}

void mp_stream_return(struct mp_stream_group *g, uint64_t seq, uint32_t deliveries)
{
    if (!mp_group_return(&g->group, seq, deliveries))
        return;
    g->stream->host->counters.delivered--;
    g->stream->host->counters.redelivered -= deliveries > 1;
    changed(g);
}

static void answer_ack(struct mp_stream_host *h, memphis_slice reply)
{
    struct mp_message m = { .subject = reply };

    mp_bus_deliver(h->bus, reply, &m);
}

void mp_stream_settle(struct mp_stream_group *g, uint64_t seq, memphis_slice verdict,
                      memphis_slice reply)
{
    bool is_new = apply_verdict(g, seq, verdict);

    if (g->nats != NULL)
        mp_consumer_used(g);
    if (is_new) {
        g->last_active_ns = wall_of(g, now_of(g));
        changed(g);
    }
    if (reply.size == 0)
        return;
    /* An ack of something settled earlier is confirmed with whatever is still on its
     * way: the settlement may not be durable yet. */
    if (!is_new && !g->group.in_flight && !g->group.dirty) {
        answer_ack(g->stream->host, reply);
        return;
    }
    mp_buf_put_u32(&g->ack_replies, (uint32_t)reply.size);
    mp_buf_put_slice(&g->ack_replies, reply);
    g->group.dirty = true; /* its own progress, even when it says nothing new */
    mp_stream_group_dirty(g);
    g->stream->host->urgent = true;
}

/* === Progress === */

/* Dead letters and the settlement of their messages: all of it, or nothing. */
static memphis_status append_progress(struct mp_stream_group *g,
                                      const struct mp_letter *letters, size_t n)
{
    struct mp_entry entries[2 * LETTERS_MAX + 2];
    struct mp_buf b = { 0 }, done = { 0 };
    size_t count = 0;

    for (size_t i = 0; i < n; i++)
        for (size_t k = 0; k < letters[i].entries_count; k++) {
            entries[count] = letters[i].entries[k];
            entries[count++].flags |= MP_ENTRY_CHAINED;
        }
    if (g->stream->nats != NULL) /* a work queue lets go of what is settled */
        count += mp_nats_done_entry(g->stream, &entries[count], &done);
    mp_buf_put_u8(&b, 4);
    mp_buf_put_u32(&b, g->gid);
    mp_group_progress_encode(&g->group, &b);
    entries[count++] = (struct mp_entry){ .type = MP_ENTRY_GROUP,
                                          .pid = g->stream->pid,
                                          .time_ns = now_of(g),
                                          .payload = mp_buf_slice(&b) };
    memphis_status st = mp_log_append(g->stream->log, entries, count, MP_STREAM_TAG);
    mp_buf_fini(&b);
    mp_buf_fini(&done);
    return st;
}

static void log_progress(struct mp_stream_group *g)
{
    struct mp_letter letters[LETTERS_MAX];
    struct mp_dead_hooks *h = &g->stream->host->dead;
    size_t n = bury(g, letters);

    if (!mp_group_has_progress(&g->group))
        return; /* only waits for a dead message to be read */
    mp_assert(g->ack_replies_in_flight.size == 0);
    memphis_status st = append_progress(g, letters, n);
    if (n > 0)
        h->made(h->ctx, g, st == MEMPHIS_OK);
    if (n > 0 && st != MEMPHIS_OK && st != MEMPHIS_BROKEN) {
        g->letters_from_ns = now_of(g) + RETRY_NS; /* a full disk takes the rest */
        mp_group_progress_failed(&g->group);
        end_burial(g, false);
        st = append_progress(g, NULL, 0);
        mp_stream_group_arm(g);
    }
    for (size_t i = 0; i < n; i++) {
        mp_buf_fini(&letters[i].payload);
        mp_stored_release(&letters[i].source);
    }
    if (st == MEMPHIS_OK) {
        struct mp_buf swap = g->ack_replies_in_flight;

        g->ack_replies_in_flight = g->ack_replies;
        g->ack_replies = swap;
    } else if (st != MEMPHIS_BROKEN) { /* no memory: again later */
        mp_stream_group_failed(g);
    }
}

void mp_streams_log_progress(struct mp_stream_host *h)
{
    uint64_t since = h->dirty_since_ns, from = since + MP_PROGRESS_DELAY_MS * MS;
    bool due = h->urgent || (since > 0 && *h->now_ns >= from);
    struct mp_list now;
    struct mp_list *l;

    mp_list_init(&now);
    while ((l = mp_list_pop_front(&h->dirty)) != NULL)
        mp_list_push_back(&now, l);
    h->urgent = false;
    h->dirty_since_ns = 0;
    while ((l = mp_list_pop_front(&now)) != NULL) {
        struct mp_stream_group *g = mp_container_of(l, struct mp_stream_group, dirty);

        if (!due && !mp_log_has_open_entry(g->stream->log)) {
            mp_list_push_back(&h->dirty, l);
            h->dirty_since_ns = since;
            continue;
        }
        if (mp_group_has_progress(&g->group) ||
            (g->dying_count > 0 && !g->group.in_flight))
            log_progress(g);
        /* else one is in flight: when it is committed the group comes back */
    }
}

void mp_stream_group_committed(struct mp_stream_group *g)
{
    struct mp_buf replies = g->ack_replies_in_flight;
    struct mp_cursor c = mp_cursor_of(mp_buf_slice(&replies));

    mp_group_progress_committed(&g->group);
    end_burial(g, true);
    memset(&g->ack_replies_in_flight, 0, sizeof(g->ack_replies_in_flight));
    while (mp_cursor_left(&c) > 0) {
        uint32_t size = mp_cursor_u32(&c);

        answer_ack(g->stream->host, mp_cursor_take(&c, size));
    }
    mp_buf_clear(&replies);
    if (g->ack_replies_in_flight.data == NULL)
        g->ack_replies_in_flight = replies;
    else
        mp_buf_fini(&replies);
    if (g->group.dirty || g->dying_count > 0) {
        mp_stream_group_dirty(g);
        g->stream->host->urgent |= g->ack_replies.size > 0;
    }
    mp_stream_group_wake(g); /* counted redeliveries may go out */
}

/* Its acks stand, but nothing of them is logged; who asked to hear that waits on. */
void mp_stream_group_failed(struct mp_stream_group *g)
{
    struct mp_stream_host *h = g->stream->host;
    struct mp_buf later = g->ack_replies;

    mp_group_progress_failed(&g->group);
    end_burial(g, false);
    g->ack_replies = g->ack_replies_in_flight;
    mp_buf_put_slice(&g->ack_replies, mp_buf_slice(&later));
    mp_buf_clear(&later);
    g->ack_replies_in_flight = later;
    mp_stream_group_dirty(g);
    h->dirty_since_ns = *h->now_ns + RETRY_NS; /* the disk is full: no hurry */
}

/* === Life === */

void mp_stream_group_free(struct mp_stream_group *g, bool tell)
{
    struct mp_pull *q;

    while (tell && (q = mp_pull_head(&g->pulls)) != NULL && !q->is_standing)
        end_pull(g, q, "409 Consumer Deleted", false);
    mp_consumer_free(g);
    mp_pulls_fini(&g->pulls);
    mp_list_remove(&g->serving);
    mp_list_remove(&g->dirty);
    mp_timer_cancel(g->stream->host->timers, &g->timer);
    mp_group_fini(&g->group);
    for (size_t i = g->dying_first; i < g->dying_count; i++)
        forget_dying(&g->dying[i]);
    mp_free(g->dying);
    mp_buf_fini(&g->ack_replies);
    mp_buf_fini(&g->ack_replies_in_flight);
    mp_free(g->name);
    mp_free(g->filter);
    mp_free(g->ack_prefix);
    mp_free(g);
}

uint64_t mp_stream_group_unseen(const struct mp_stream_group *g)
{
    uint64_t last = mp_log_last(g->stream->log, g->stream->pid);

    if (g->nats != NULL)
        return mp_consumer_unseen((struct mp_stream_group *)(uintptr_t)g);
    return last >= g->group.next ? last - g->group.next + 1 : 0;
}
