/* Consumers. An in-process consumer is a client of the bus with an inbox:
 * its fetch is a pull request on each partition, what arrives in one turn is one
 * answer, and what arrives beyond it goes back unseen. */
#include "api/api.h"

#include "api/handles.h"
#include "api/message.h"
#include "base/assert.h"
#include "base/status.h"
#include "base/str.h"
#include "broker/client.h"
#include "broker/connection.h"

#include <inttypes.h>

static const uint64_t MS = 1000000;

/* === Dead letters that are sent once more === */

/* What they pin; their sender waits while there is no room. */
enum { LETTERS_MAX = 256, LETTERS_BYTES_MAX = 1 << 20 };

static bool letters_have_room(struct mp_client *client, size_t size)
{
    memphis_consumer *c = mp_container_of(client, memphis_consumer, letters_client);

    return c->letters_count == 0 || (c->letters_count < LETTERS_MAX &&
                                     c->letters_bytes + size <= LETTERS_BYTES_MAX);
}

static memphis_message *letters_pop(memphis_consumer *c)
{
    memphis_message *m = c->letters;

    c->letters = m->next;
    if (c->letters == NULL)
        c->letters_last = &c->letters;
    m->next = NULL;
    c->letters_count--;
    c->letters_bytes -= m->stored.entry.payload.size;
    return m;
}

static void letters_deliver(struct mp_client *client, struct mp_subscription *sub,
                            const struct mp_message *sent)
{
    memphis_consumer *c = mp_container_of(client, memphis_consumer, letters_client);
    memphis_slice number = mp_header_find(sent->headers, "$memphis_pm_id");
    uint64_t id = 0;

    (void)sub;
    if (!mp_parse_u64(number, &id) || sent->stored == NULL ||
        !letters_have_room(client, sent->payload.size))
        return; /* it stays a dead letter */
    memphis_message *m = api_message_of_letter(
        c->s->b, mp_dls_find(c->s->b->core, (uint32_t)id), sent->stored);
    m->c = c;
    m->dead_id = (uint32_t)id;
    atomic_fetch_add(&c->refs, 1);
    *c->letters_last = m;
    c->letters_last = &m->next;
    c->letters_count++;
    c->letters_bytes += m->stored.entry.payload.size;
    mp_broker_wants_flush(c->s->b->core, &c->source);
}

/* As SDKs do: one member of the group gets each. */
static void letters_join(memphis_consumer *c, const struct mp_station *s)
{
    struct mp_subscription *sub;
    char subject[2 * MP_NAME_MAX + 32];
    memphis_status st;

    mp_format(subject, sizeof(subject), "$memphis_dls_%s.%s", s->internal, c->durable);
    c->letters_last = &c->letters;
    c->letters_client.deliver = letters_deliver;
    c->letters_client.has_room = letters_have_room;
    c->letters_client.user = "";
    c->letters_client.connection_id = c->inbox;
    c->letters_client.lang = "c";
    mp_bus_join(s->broker->bus, &c->letters_client);
    st = mp_bus_subscribe(s->broker->bus, &c->letters_client, mp_slice_text(subject),
                          mp_slice_text(subject), &sub);
    mp_assert(st == MEMPHIS_OK);
}

static void letters_leave(memphis_consumer *c)
{
    mp_bus_leave(c->s->b->core->bus, &c->letters_client);
    while (c->letters_count > 0)
        memphis_message_unref(letters_pop(c));
}

/* === Fetching: the core's side === */

struct fetch_call {
    struct api_call call;
    memphis_consumer *c;
    uint32_t max, wait_ms, got;
    memphis_message **out; /* borrowed: the caller never leaves before done */
};

static memphis_message *queue_pop(memphis_consumer *c)
{
    memphis_message *m = c->queue;

    if (m == NULL)
        return NULL;
    c->queue = m->next;
    if (c->queue == NULL)
        c->queue_last = &c->queue;
    c->queued--;
    return m;
}

/* What came and is handed to nobody was not delivered. */
static void give_back(memphis_consumer *c)
{
    memphis_message *m;

    while ((m = queue_pop(c)) != NULL) {
        struct mp_stream_group *g = api_group_of(c, m->partition);

        if (g != NULL)
            mp_stream_return(g, m->stored.entry.seq, m->deliveries);
        memphis_message_unref(m);
    }
}

/* Of all partitions but one (0: none). */
static void cancel_pulls(memphis_consumer *c, uint32_t but)
{
    uint32_t first = c->partition > 0 ? c->partition : 1;
    uint32_t last = c->partition > 0 ? c->partition : c->s->partitions;

    for (uint32_t p = first; p <= last; p++) {
        struct mp_stream_group *g = p != but ? api_group_of(c, p) : NULL;

        if (g != NULL)
            mp_stream_pull_cancel(g, mp_slice_text(c->inbox));
    }
}

static void fetch_end(memphis_consumer *c, memphis_status st, const char *text)
{
    struct fetch_call *f = c->fetch;

    c->fetch = NULL;
    if (c->pulls_open > 0)
        cancel_pulls(c, 0);
    c->pulls_open = 0;
    while (f->got < f->max && c->letters != NULL)
        f->out[f->got++] = letters_pop(c);
    while (f->got < f->max && c->queue != NULL)
        f->out[f->got++] = queue_pop(c);
    give_back(c);
    api_finish(&f->call, f->got > 0 ? MEMPHIS_OK : st, text);
}

/* The end of a turn in which something came. */
static void consumer_flush(struct mp_source *s)
{
    memphis_consumer *c = mp_container_of(s, memphis_consumer, source);

    if (c->fetch == NULL)
        give_back(c); /* somebody asked in its name */
    else if (c->queued > 0 || c->letters_count > 0 || c->pulls_open == 0)
        fetch_end(c, MEMPHIS_OK, ""); /* or every partition said: nothing in time */
}

static void take_message(memphis_consumer *c, const struct mp_stored *stored,
                         memphis_slice reply, uint32_t partition)
{
    struct mp_broker *core = c->s->b->core;
    memphis_message *m = mp_alloc(sizeof(*m));
    uint64_t deliveries = 1;

    /* $JS.ACK.<stream>.<durable>.<deliveries>. ... */
    (void)mp_parse_u64(mp_subject_token(reply, 4), &deliveries);
    m->b = c->s->b;
    m->refs = 1;
    m->stored = *stored;
    mp_chunk_ref(m->stored.chunk);
    m->time_ms = mp_wall_of(&core->streams.wall, stored->entry.time_ns) / MS;
    m->partition = partition;
    m->deliveries = (uint32_t)deliveries;
    m->c = c;
    atomic_fetch_add(&c->refs, 1);
    *c->queue_last = m;
    c->queue_last = &m->next;
    c->queued++;
}

static void consumer_deliver(struct mp_client *client, struct mp_subscription *sub,
                             const struct mp_message *m)
{
    memphis_consumer *c = mp_container_of(client, memphis_consumer, client);
    struct mp_stream *s;

    (void)sub;
    if (m->stored != NULL) {
        s = mp_broker_stream(c->s->b->core, mp_subject_token(m->reply, 2));
        take_message(c, m->stored, m->reply, s != NULL ? s->settings.number : 0);
        if (s != NULL && c->fetch != NULL && c->queued == c->fetch->max)
            cancel_pulls(c, s->settings.number); /* its own is being served */
    } else if (c->pulls_open > 0 &&
               !mp_slice_starts(m->headers, MP_STR("NATS/1.0 100"))) {
        c->pulls_open--; /* a status that ended a pull */
    }
    mp_broker_wants_flush(c->s->b->core, &c->source);
}

static void run_fetch(struct api_call *call)
{
    struct fetch_call *f = (struct fetch_call *)(void *)call;
    memphis_consumer *c = f->c;
    uint32_t first = c->partition > 0 ? c->partition : 1;
    uint32_t last = c->partition > 0 ? c->partition : c->s->partitions;
    uint32_t n = last - first + 1;
    struct mp_pull_request r = { .batch = (f->max + n - 1) / n,
                                 .has_expires = true,
                                 .expires_ns = f->wait_ms == UINT32_MAX
                                                   ? UINT64_MAX
                                                   : f->wait_ms * MS };

    if (c->fetch != NULL) {
        api_finish(call, MEMPHIS_BUSY, "another thread is fetching with this consumer");
        return;
    }
    c->fetch = f;
    if (c->letters_count > 0) {
        fetch_end(c, MEMPHIS_OK, "");
        return;
    }
    uint32_t turn = c->turn++;
    for (uint32_t i = 0; i < n; i++) {
        struct mp_stream_group *g = api_group_of(c, first + (turn + i) % n);

        if (g == NULL) {
            fetch_end(c, MEMPHIS_NOT_FOUND, "the station or the group was removed");
            return;
        }
        c->pulls_open++;
        mp_stream_pull(g, &r, mp_slice_text(c->inbox));
    }
}

/* A caller that was interrupted takes its request back. */
static void run_unfetch(struct api_call *call)
{
    struct fetch_call *u = (struct fetch_call *)(void *)call;

    if (u->c->fetch != NULL)
        fetch_end(u->c, MEMPHIS_CANCELED, "interrupted");
    api_finish(call, MEMPHIS_OK, "");
}

static void take_back(memphis_consumer *c)
{
    struct fetch_call *u = api_call_new(c->s->b, sizeof(*u), run_unfetch);

    if (u == NULL)
        return;
    u->c = c;
    (void)api_run(&u->call, UINT32_MAX,
                  NULL); /* broken: nothing writes to it any more */
    api_call_unref(&u->call);
}

memphis_status memphis_fetch(memphis_consumer *c, memphis_message **out, uint32_t max,
                             uint32_t wait_ms, uint32_t *fetched, memphis_error *err)
{
    struct fetch_call *f;
    memphis_status st;

    if (c == NULL || out == NULL || fetched == NULL || max == 0)
        return mp_fail(err, MEMPHIS_INVALID,
                       "a consumer, room for messages and a count");
    st = api_may_wait(c->s->b, err);
    if (st != MEMPHIS_OK)
        return st;
    f = api_call_new(c->s->b, sizeof(*f), run_fetch);
    if (f == NULL)
        return mp_fail(err, MEMPHIS_NOMEM, "no memory");
    f->c = c;
    f->max = max;
    f->wait_ms = wait_ms;
    f->out = out;
    st =
        api_run(&f->call, UINT32_MAX, err); /* it ends by itself when wait_ms is over */
    if (st == MEMPHIS_CANCELED) {
        take_back(c);
        if (f->got > 0)
            st = MEMPHIS_OK; /* they came in the same moment: yours to settle */
    }
    if (st == MEMPHIS_OK)
        *fetched = f->got;
    api_call_unref(&f->call);
    return st;
}

memphis_status memphis_consume(memphis_consumer *c, uint32_t max, uint32_t wait_ms,
                               memphis_message_fn fn, void *ctx, uint32_t *handled,
                               memphis_error *err)
{
    enum { PIECE = 256 };
    memphis_message *m[PIECE];
    uint32_t got = 0, total = 0;
    memphis_status st = MEMPHIS_OK;

    if (c == NULL || fn == NULL || max == 0)
        return mp_fail(err, MEMPHIS_INVALID, "a consumer, a handler and a maximum");
    while (total < max && st == MEMPHIS_OK) {
        uint32_t ask = max - total < PIECE ? max - total : PIECE;
        struct api_settle *s;

        st = memphis_fetch(c, m, ask, total > 0 ? 0 : wait_ms, &got, err);
        if (st != MEMPHIS_OK || got == 0)
            break;
        s = api_settle_new(c, got);
        for (uint32_t i = 0; i < got; i++) {
            int32_t kind = fn(ctx, m[i]);

            if (kind < MEMPHIS_ACK || kind > MEMPHIS_KEEP)
                kind = MEMPHIS_NACK;
            if (s != NULL && kind != MEMPHIS_KEEP)
                s->verdicts[i] = api_verdict_of(m[i], kind);
            memphis_message_unref(m[i]);
        }
        total += got;
        st = s != NULL ? api_settle_post(s) : mp_fail(err, MEMPHIS_NOMEM, "no memory");
    }
    if (st == MEMPHIS_OK && handled != NULL)
        *handled = total;
    return st;
}

/* === Opening and closing === */

struct consumer_call {
    struct api_call call;
    memphis_consumer *c; /* opening: pinned, its caller may have left */
    struct mp_consumer_request r;
};

static void join(memphis_consumer *c, const struct mp_station *s)
{
    struct mp_broker *core = c->s->b->core;
    struct mp_subscription *sub;
    memphis_status st;

    c->client.deliver = consumer_deliver;
    c->client.user = "";
    c->client.connection_id = c->inbox;
    c->client.lang = "c";
    c->source.flush = consumer_flush;
    mp_bus_join(core->bus, &c->client);
    st = mp_bus_subscribe(core->bus, &c->client, mp_slice_text(c->inbox),
                          mp_slice(NULL, 0), &sub);
    mp_assert(st == MEMPHIS_OK);
    letters_join(c, s);
    mp_connection_up(core, c->inbox);
    mp_list_push_back(&c->s->b->consumers, &c->node);
    c->joined = true;
}

static void leave(memphis_consumer *c)
{
    struct mp_broker *core = c->s->b->core;

    if (!c->joined)
        return;
    c->joined = false;
    mp_list_remove(&c->node);
    if (c->fetch != NULL)
        fetch_end(c, MEMPHIS_CLOSED, "the consumer was closed");
    give_back(c);
    letters_leave(c);
    mp_broker_forget_source(core, &c->source);
    mp_bus_leave(core->bus, &c->client);
    mp_connection_down(core, c->inbox);
}

void api_consumers_close(memphis_broker *b)
{
    while (!mp_list_is_empty(&b->consumers))
        leave(mp_container_of(b->consumers.next, memphis_consumer, node));
}

static void on_group(void *ctx, memphis_status st, const char *text)
{
    struct consumer_call *c = ctx;

    if (st != MEMPHIS_OK)
        leave(c->c);
    api_finish(&c->call, st, text);
}

static void consumer_call_fini(struct api_call *call)
{
    api_consumer_unref(((struct consumer_call *)(void *)call)->c);
}

static void run_consumer(struct api_call *call)
{
    struct consumer_call *c = (struct consumer_call *)(void *)call;
    struct mp_station *s = mp_station_find(call->b->core, mp_slice_text(c->c->s->name));

    if (s == NULL || !mp_station_is_ready(s)) {
        api_finish(call, MEMPHIS_NOT_FOUND, "the station does not exist any more");
        return;
    }
    join(c->c, s);
    mp_consumer_add(s, &c->r, (struct mp_then){ on_group, c });
}

static memphis_status request_of(const memphis_consumer_options *o,
                                 struct mp_consumer_request *r, memphis_error *err)
{
    static const memphis_consumer_options none;

    o = o != NULL ? o : &none;
    if (!api_reserved_is_zero(o->reserved, 8) || o->reserved0 != 0)
        return mp_fail(err, MEMPHIS_INVALID,
                       "the reserved words of memphis_consumer_options must be zero");
    if ((o->start_sequence > 1) + (o->last_messages > 0) + (o->only_new > 0) > 1)
        return mp_fail(err, MEMPHIS_INVALID,
                       "start_sequence, last_messages and only_new exclude each other");
    r->ack_wait_ms =
        o->ack_wait_ms ? api_clamp_ms(o->ack_wait_ms) : MP_ACK_WAIT_DEFAULT_MS;
    r->deliveries_max = o->deliveries_max == 0 || o->deliveries_max > MP_DELIVERIES_MAX
                            ? MP_DELIVERIES_MAX
                            : o->deliveries_max;
    r->start_sequence = o->start_sequence ? o->start_sequence : 1;
    r->last_messages = o->only_new            ? 0
                       : o->last_messages > 0 ? (int64_t)o->last_messages
                                              : -1;
    r->type = MP_CLIENT_APPLICATION;
    r->version = 4;
    return MEMPHIS_OK;
}

static memphis_status consumer_init(memphis_consumer *c, memphis_station *s,
                                    const char *name, const memphis_consumer_options *o,
                                    memphis_error *err)
{
    const char *group = o != NULL && o->group != NULL ? o->group : name;
    memphis_status st = api_fold_name(name, "Consumer", c->name, err);

    if (st == MEMPHIS_OK)
        st = api_fold_name(group, "Consumer", c->group, err);
    if (st != MEMPHIS_OK)
        return st;
    mp_durable_name(c->group, c->durable);
    c->partition = o != NULL ? o->partition : 0;
    if (c->partition > s->partitions)
        return mp_fail(err, MEMPHIS_INVALID, "station '%s' has %u partitions", s->name,
                       s->partitions);
    mp_format(c->inbox, sizeof(c->inbox), "_INBOX.inproc-%u.%" PRIu64,
              (unsigned)s->b->pid, atomic_fetch_add(&s->b->inbox_number, 1) + 1);
    c->queue_last = &c->queue;
    return MEMPHIS_OK;
}

memphis_status memphis_consumer_open(memphis_station *s, const char *name,
                                     const memphis_consumer_options *o,
                                     memphis_consumer **out, memphis_error *err)
{
    struct consumer_call *call;
    memphis_consumer *c;
    memphis_allocator *hooks;
    memphis_status st;

    if (s == NULL || out == NULL)
        return mp_fail(err, MEMPHIS_INVALID,
                       "a consumer needs a station and an output");
    st = api_may_wait(s->b, err);
    if (st != MEMPHIS_OK)
        return st;
    hooks = &s->b->heap.hooks;
    c = hooks->alloc(hooks->ctx, sizeof(*c));
    call = c != NULL ? api_call_new(s->b, sizeof(*call), run_consumer) : NULL;
    if (call == NULL) {
        hooks->free(hooks->ctx, c);
        return mp_fail(err, MEMPHIS_NOMEM, "no memory");
    }
    memset(c, 0, sizeof(*c));
    call->c = c;
    st = request_of(o, &call->r, err);
    if (st == MEMPHIS_OK)
        st = consumer_init(c, s, name, o, err);
    if (st == MEMPHIS_OK) {
        c->s = api_station_ref(s);
        c->refs = 2;
        call->call.fini = consumer_call_fini;
        call->r.name = c->name;
        call->r.group = c->group;
        call->r.connection_id = c->inbox;
        call->r.app_id = call->r.user = "";
        call->r.sdk = "c";
        st = api_run(&call->call, api_default_wait(s->b), err);
    } else {
        api_call_unref(&call->call);
    }
    api_call_unref(&call->call);
    if (st == MEMPHIS_OK)
        *out = c;
    else if (c->s == NULL)
        hooks->free(hooks->ctx, c);
    else if (st == MEMPHIS_CANCELED || st == MEMPHIS_TIMEOUT)
        memphis_consumer_close(c); /* the core has joined it */
    else
        api_consumer_unref(c);
    return st;
}

static void run_close(struct api_call *call)
{
    struct consumer_call *c = (struct consumer_call *)(void *)call;
    struct mp_station *s = mp_station_find(call->b->core, mp_slice_text(c->c->s->name));

    leave(c->c);
    if (s != NULL) /* the group keeps its place */
        mp_consumer_forget(s, c->c->name, c->c->inbox, (struct mp_then){ 0 });
    api_finish(call, MEMPHIS_OK, "");
}

void memphis_consumer_close(memphis_consumer *c)
{
    struct consumer_call *call;
    memphis_status st;

    if (c == NULL)
        return;
    st = api_may_wait(c->s->b, NULL);
    if (st == MEMPHIS_MISUSE)
        return; /* the core goes on using it */
    if (st == MEMPHIS_OK) {
        call = api_call_new(c->s->b, sizeof(*call), run_close);
        if (call == NULL)
            return; /* without memory it is better to leak than to leave it half closed
                     */
        call->c = c;
        (void)api_run(&call->call, UINT32_MAX, NULL);
        api_call_unref(&call->call);
    }
    api_consumer_unref(c);
}
