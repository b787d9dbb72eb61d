/* Messages, and how they are settled. */
#include "api/api.h"

#include "api/handles.h"
#include "api/message.h"
#include "base/status.h"
#include "base/str.h"
#include "broker/client.h"

#include <inttypes.h>

static const uint64_t MS = 1000000;

/* === Messages === */

uint64_t api_clamp_ms(uint64_t ms)
{
    return ms < UINT64_MAX / MS ? ms : UINT64_MAX / MS - 1;
}

void api_consumer_unref(memphis_consumer *c)
{
    memphis_allocator hooks = c->s->b->heap.hooks; /* the station may take it along */

    if (atomic_fetch_sub(&c->refs, 1) != 1)
        return;
    memphis_station_close(c->s);
    hooks.free(hooks.ctx, c);
}

memphis_message *memphis_message_ref(memphis_message *m)
{
    atomic_fetch_add(&m->refs, 1);
    return m;
}

void memphis_message_unref(memphis_message *m)
{
    memphis_broker *b;

    if (m == NULL || api_is_forked(m->b) || atomic_fetch_sub(&m->refs, 1) != 1)
        return;
    b = api_ref(m->b); /* the last handle may be this one */
    mp_stored_release(&m->stored);
    if (m->c != NULL)
        api_consumer_unref(m->c);
    else
        api_unref(b); /* its own */
    mp_free(m);
    api_unref(b);
}

memphis_message *api_message_of_letter(memphis_broker *b, const struct mp_dead_row *row,
                                       const struct mp_stored *stored)
{
    memphis_message *m = mp_alloc(sizeof(*m));
    struct mp_stream *s =
        row != NULL ? mp_broker_stream_by_pid(b->core, row->pid) : NULL;

    m->b = b;
    m->refs = 1;
    m->stored = *stored;
    mp_chunk_ref(m->stored.chunk);
    m->time_ms = mp_wall_of(&b->core->streams.wall, stored->entry.time_ns) / MS;
    m->partition = s != NULL ? s->settings.number : 0;
    m->deliveries = row != NULL ? row->deliveries : 0;
    return m;
}

memphis_slice memphis_message_data(const memphis_message *m)
{
    return m->stored.entry.payload;
}

memphis_slice memphis_message_header(const memphis_message *m, const char *name)
{
    return mp_header_find(m->stored.entry.headers, name);
}

uint64_t memphis_message_sequence(const memphis_message *m)
{
    return m->stored.entry.seq;
}

uint32_t memphis_message_partition(const memphis_message *m)
{
    return m->partition;
}

uint64_t memphis_message_time_ms(const memphis_message *m)
{
    return m->time_ms;
}

uint32_t memphis_message_deliveries(const memphis_message *m)
{
    return m->deliveries;
}

uint64_t memphis_message_dead_id(const memphis_message *m)
{
    return m->dead_id;
}

/* === Settling === */

static void settle_fini(struct api_call *call)
{
    api_consumer_unref(((struct api_settle *)(void *)call)->c);
}

static void settle_one(struct mp_stream_group *g, const struct api_verdict *v,
                       memphis_slice reason)
{
    static const memphis_slice none = { NULL, 0 };
    struct mp_buf text = { 0 };

    if (v->kind == MEMPHIS_NACK && v->delay_ms > 0)
        mp_buf_format(&text, "-NAK {\"delay\":%" PRIu64 "}",
                      api_clamp_ms(v->delay_ms) * MS);
    else if (v->kind == MEMPHIS_NACK)
        mp_buf_put_text(&text, "-NAK");
    else if (v->kind == MEMPHIS_DEAD)
        mp_buf_put_text(&text, reason.size > 0 ? "+TERM " : "+TERM");
    else if (v->kind == API_VERDICT_EXTEND)
        mp_buf_put_text(&text, "+WPI");
    else
        mp_buf_put_text(&text, "+ACK");
    if (v->kind == MEMPHIS_DEAD)
        mp_buf_put_slice(&text, reason);
    mp_stream_settle(g, v->seq, mp_buf_slice(&text), none);
    mp_buf_fini(&text);
}

/* A dead letter that was sent once more has no ack wait: what is not an acknowledgement
 * leaves it as it is, but for a new reason. */
static void settle_letter(const memphis_consumer *c, const struct api_verdict *v,
                          memphis_slice reason)
{
    struct mp_broker *core = c->s->b->core;
    struct mp_station *s = mp_station_find(core, mp_slice_text(c->s->name));

    if (v->kind == MEMPHIS_ACK)
        mp_dls_settle(core, v->dead_id, mp_slice_text(c->group));
    else if (v->kind == MEMPHIS_DEAD && reason.size > 0 && s != NULL)
        mp_dls_nacked(s, v->partition, v->seq, mp_slice_text(c->group), reason);
}

struct mp_stream_group *api_group_of(const memphis_consumer *c, uint32_t partition)
{
    struct mp_station *s = mp_station_find(c->s->b->core, mp_slice_text(c->s->name));
    struct mp_stream *stream = s != NULL ? mp_station_stream(s, partition) : NULL;

    return stream != NULL ? mp_stream_group(stream, mp_slice_text(c->durable)) : NULL;
}

static void run_settle(struct api_call *call)
{
    struct api_settle *s = (struct api_settle *)(void *)call;

    for (size_t i = 0; i < s->count; i++) {
        struct api_verdict *v = &s->verdicts[i];
        struct mp_stream_group *g = api_group_of(s->c, v->partition);

        if (v->dead_id > 0)
            settle_letter(s->c, v, s->reason);
        else if (g != NULL) /* else removed meanwhile: nothing left to settle */
            settle_one(g, v, s->reason);
    }
    api_finish(call, MEMPHIS_OK, "");
}

static struct api_settle *settle_new(memphis_consumer *c, size_t count, size_t more)
{
    struct api_settle *s = api_call_new_with(
        c->s->b, sizeof(*s) + count * sizeof(struct api_verdict), more, run_settle);

    if (s == NULL)
        return NULL;
    atomic_fetch_add(&c->refs, 1);
    s->call.fini = settle_fini;
    s->c = c;
    s->count = count;
    return s;
}

struct api_settle *api_settle_new(memphis_consumer *c, size_t count)
{
    return settle_new(c, count, 0);
}

struct api_verdict api_verdict_of(const memphis_message *m, int32_t kind)
{
    return (struct api_verdict){ .partition = m->partition,
                                 .dead_id = m->dead_id,
                                 .seq = m->stored.entry.seq,
                                 .kind = kind };
}

memphis_status api_settle_post(struct api_settle *s)
{
    memphis_status st = api_post(&s->call, NULL);

    api_call_unref(&s->call);
    return st;
}

static memphis_status settle_message(memphis_message *m, int32_t kind,
                                     uint64_t delay_ms, memphis_slice reason)
{
    struct api_settle *s;
    memphis_status st;

    if (m == NULL)
        return MEMPHIS_INVALID;
    st = api_usable(m->b, NULL);
    if (st != MEMPHIS_OK)
        return st;
    if (m->c == NULL)
        return MEMPHIS_MISUSE; /* shown by memphis_dls_each: nobody's to settle */
    if (m->dead_id > 0 && delay_ms > 0)
        return MEMPHIS_UNSUPPORTED;
    s = settle_new(m->c, 1, reason.size);
    if (s == NULL)
        return MEMPHIS_NOMEM;
    s->verdicts[0] = api_verdict_of(m, kind);
    s->verdicts[0].delay_ms = delay_ms;
    if (reason.size > 0)
        memcpy(&s->verdicts[1], reason.data, reason.size);
    s->reason = mp_slice(&s->verdicts[1], reason.size);
    return api_settle_post(s);
}

memphis_status memphis_message_ack(memphis_message *m)
{
    return settle_message(m, MEMPHIS_ACK, 0, MP_STR(""));
}

memphis_status memphis_message_nack(memphis_message *m, uint64_t delay_ms)
{
    return settle_message(m, MEMPHIS_NACK, delay_ms, MP_STR(""));
}

memphis_status memphis_message_extend(memphis_message *m)
{
    return settle_message(m, API_VERDICT_EXTEND, 0, MP_STR(""));
}

memphis_status memphis_message_dead_letter(memphis_message *m, const char *reason)
{
    size_t size = reason != NULL ? strlen(reason) : 0;

    if (size > MP_DEAD_REASON_MAX) /* cut between two characters of UTF-8 */
        for (size = MP_DEAD_REASON_MAX; size > 0 && (reason[size] & 0xc0) == 0x80;)
            size--;
    return settle_message(m, MEMPHIS_DEAD, 0, mp_slice(reason, size));
}
