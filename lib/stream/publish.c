/* Publishing: what is refused, what is a duplicate, who waits for which sequence. */
#include "stream/internal.h"

#include "base/assert.h"
#include "base/limits.h"
#include "base/status.h"
#include "stream/nats.h"

#include <inttypes.h>

/* A publish that waits stands in s->waiting as this header and `size` bytes: the reply
 * subject, or a struct callback. Oldest first; answered when its sequence is committed.
 * A duplicate waits for the sequence of the message that it repeats. */
struct waiter {
    uint64_t seq;
    uint32_t size;
    bool duplicate, is_callback;
};

struct callback {
    mp_published_fn fn;
    void *ctx;
};

/* Who is to be told; either may be absent. */
struct asker {
    memphis_slice reply;
    struct callback callback;
};

/* === Answers === */

static void answer_text(struct mp_stream *s, memphis_slice to, memphis_slice text)
{
    struct mp_message m = { .subject = to, .payload = text };

    mp_bus_deliver(s->host->bus, to, &m);
}

/* {"stream":"orders$1", "seq":5} with blanks exactly as the SDKs' captures show. */
static void answer_stored(struct mp_stream *s, memphis_slice to, uint64_t seq,
                          bool duplicate)
{
    uint8_t space[MP_NAME_MAX + 96];
    struct mp_buf b = { .data = space, .capacity = sizeof(space) };

    mp_buf_put_text(&b, "{\"stream\":\"");
    mp_buf_put(&b, s->name, s->name_size);
    mp_buf_put_text(&b, "\", \"seq\":");
    mp_buf_put_decimal(&b, seq);
    mp_buf_put_text(&b, duplicate ? ",\"duplicate\": true}" : "}");
    mp_assert(b.data == space);
    answer_text(s, to, mp_buf_slice(&b));
}

static void tell(struct mp_stream *s, const struct asker *a, uint64_t seq,
                 bool duplicate)
{
    struct mp_receipt r = { .status = MEMPHIS_OK, .seq = seq, .duplicate = duplicate };

    if (a->callback.fn != NULL)
        a->callback.fn(a->callback.ctx, &r);
    else if (a->reply.size > 0)
        answer_stored(s, a->reply, seq, duplicate);
}

static void refuse(struct mp_stream *s, const struct asker *a, struct mp_refusal r,
                   const char *detail)
{
    struct mp_receipt receipt = { .status = r.status };
    struct mp_buf b = { 0 };

    s->host->counters.refused++;
    if (a->callback.fn != NULL) {
        a->callback.fn(a->callback.ctx, &receipt);
    } else if (a->reply.size > 0) {
        mp_buf_format(
            &b,
            "{\"error\":{\"code\":%d,\"err_code\":%d,\"description\":\"%s%s\"},"
            "\"stream\":\"%s\",\"seq\":0}",
            r.code, r.err_code, r.text, detail, s->name);
        answer_text(s, a->reply, mp_buf_slice(&b));
        mp_buf_fini(&b);
    }
}

static const struct mp_refusal HEADERS_TOO_BIG = {
    MEMPHIS_TOO_BIG, 400, 10097, "header size exceeds maximum allowed of 64k"
};
static const struct mp_refusal ID_TOO_BIG = {
    MEMPHIS_TOO_BIG, 400, 10003, "bad request: a message id has at most 255 bytes"
};
static const struct mp_refusal WRONG_STREAM = { MEMPHIS_INVALID, 400, 10060,
                                                "expected stream does not match" };
static const struct mp_refusal WRONG_LAST_SEQ = { MEMPHIS_INVALID, 400, 10071,
                                                  "wrong last sequence: " };
static const struct mp_refusal NO_ROLLUP = { MEMPHIS_UNSUPPORTED, 500, 10111,
                                             "rollup not permitted" };
static const struct mp_refusal NO_SPACE = {
    MEMPHIS_NO_SPACE, 500, 10047, "insufficient storage resources available"
};
static const struct mp_refusal NO_SUBJECT = { MEMPHIS_UNSUPPORTED, 500, 10052,
                                              "a NATS stream takes its subjects only" };
static const struct mp_refusal TOO_BIG = { MEMPHIS_TOO_BIG, 400, 10054,
                                           "message size exceeds maximum allowed" };
static const struct mp_refusal NO_RESOURCES = { MEMPHIS_NOMEM, 503, 10023,
                                                "insufficient resources" };

static struct mp_refusal refusal_of(memphis_status status)
{
    if (status == MEMPHIS_NO_SPACE)
        return NO_SPACE;
    return status == MEMPHIS_TOO_BIG ? TOO_BIG : NO_RESOURCES;
}

/* === Who waits === */

static void wait_for(struct mp_stream *s, const struct asker *a, uint64_t seq,
                     bool duplicate)
{
    struct waiter w = { .seq = seq, .duplicate = duplicate };

    if (a->callback.fn == NULL && a->reply.size == 0)
        return;
    w.is_callback = a->callback.fn != NULL;
    w.size = w.is_callback ? sizeof(a->callback) : (uint32_t)a->reply.size;
    mp_buf_put(&s->waiting, &w, sizeof(w));
    if (w.is_callback)
        mp_buf_put(&s->waiting, &a->callback, sizeof(a->callback));
    else
        mp_buf_put_slice(&s->waiting, a->reply);
}

/* Takes the oldest one; its bytes stay where they are until the next publish. */
static struct asker take_waiter(struct mp_stream *s, const struct waiter *w)
{
    struct asker a = { 0 };
    const uint8_t *body = s->waiting.data + s->waiting_at + sizeof(*w);

    if (w->is_callback)
        memcpy(&a.callback, body, sizeof(a.callback));
    else
        a.reply = mp_slice(body, w->size);
    s->waiting_at += sizeof(*w) + w->size;
    return a;
}

void mp_stream_answer_waiting(struct mp_stream *s)
{
    uint64_t last = mp_log_last(s->log, s->pid);

    while (s->waiting_at < s->waiting.size) {
        struct waiter w;
        struct asker a;
        uint8_t reply[MP_CONTROL_LINE_MAX];

        memcpy(&w, s->waiting.data + s->waiting_at, sizeof(w));
        if (w.seq > last)
            break;
        a = take_waiter(s, &w);
        if (!w.is_callback) { /* whoever hears it may publish: the buffer may move */
            mp_assert(a.reply.size <= sizeof(reply));
            memcpy(reply, a.reply.data, a.reply.size);
            a.reply.data = reply;
        }
        tell(s, &a, w.seq, w.duplicate);
    }
    if (s->waiting_at == s->waiting.size) {
        mp_buf_clear(&s->waiting);
        s->waiting_at = 0;
    } else if (s->waiting_at > s->waiting.size / 2) {
        mp_buf_consume(&s->waiting, s->waiting_at);
        s->waiting_at = 0;
    }
}

void mp_stream_refuse_waiting(struct mp_stream *s, memphis_status status)
{
    struct mp_buf all = s->waiting;
    size_t at = s->waiting_at;

    /* Whoever hears it may publish: into a buffer of his own. */
    memset(&s->waiting, 0, sizeof(s->waiting));
    s->waiting_at = 0;
    while (at < all.size) {
        struct waiter w;
        struct asker a = { 0 };

        memcpy(&w, all.data + at, sizeof(w));
        at += sizeof(w);
        if (w.is_callback)
            memcpy(&a.callback, all.data + at, sizeof(a.callback));
        else
            a.reply = mp_slice(all.data + at, w.size);
        at += w.size;
        refuse(s, &a, refusal_of(status), "");
    }
    mp_buf_fini(&all);
}

void mp_stream_publish_fini(struct mp_stream *s, memphis_status why)
{
    struct mp_receipt r = { .status = why };

    while (s->waiting_at < s->waiting.size) {
        struct waiter w;
        struct asker a;

        memcpy(&w, s->waiting.data + s->waiting_at, sizeof(w));
        a = take_waiter(s, &w);
        if (a.callback.fn != NULL) /* a client on the wire is not answered */
            a.callback.fn(a.callback.ctx, &r);
    }
    mp_buf_fini(&s->waiting);
}

/* === Checks === */

/* Headers with which plain NATS clients guard a publish (sdk-protocol 3.6). False: it
 * was refused. */
static bool expectations_hold(struct mp_stream *s, const struct mp_message *m,
                              const struct asker *a)
{
    memphis_slice v;
    uint64_t expected;
    char last[24];

    if (m->headers.size == 0 ||
        memmem(m->headers.data, m->headers.size, "Nats-", 5) == NULL)
        return true;
    v = mp_header_find(m->headers, "Nats-Expected-Stream");
    if (v.size > 0 && !mp_slice_equal(v, mp_slice(s->name, s->name_size))) {
        refuse(s, a, WRONG_STREAM, "");
        return false;
    }
    v = mp_header_find(m->headers, "Nats-Expected-Last-Sequence");
    if (v.size > 0 && (!mp_parse_u64(v, &expected) || expected != s->proposed_last)) {
        mp_format(last, sizeof(last), "%" PRIu64, s->proposed_last);
        refuse(s, a, WRONG_LAST_SEQ, last);
        return false;
    }
    if (s->nats == NULL && mp_header_find(m->headers, "Nats-Rollup").data != NULL) {
        refuse(s, a, NO_ROLLUP, "");
        return false;
    }
    return true;
}

/* What streams of NATS clients know besides. */
static bool nats_admits(struct mp_stream *s, const struct mp_message *m,
                        const struct asker *a)
{
    char detail[24];
    const struct mp_refusal *r = mp_nats_refusal(s, m, detail);

    if (r != NULL)
        refuse(s, a, *r, detail);
    return r == NULL;
}

static memphis_slice id_of(memphis_slice headers)
{
    memphis_slice id = { 0 };

    if (headers.size == 0)
        return id;
    id = mp_header_find(headers, "msg-id");
    if (id.size == 0)
        id = mp_header_find(headers, "Nats-Msg-Id");
    return id;
}

/* Early is early for the whole broker, so it is told once a minute at most. */
static void tell_forgotten(struct mp_stream_host *h, uint64_t now)
{
    if (h->ids_told_ns > 0 && now - h->ids_told_ns < 60 * 1000000000ull)
        return;
    mp_logf(h->logger, MEMPHIS_LOG_WARN, "stream",
            "%llu message ids were forgotten before their window was over, as a 16th "
            "of memory_max is full of them: raise it, or use shorter windows.",
            (unsigned long long)(h->ids.dropped - h->ids_told));
    h->ids_told = h->ids.dropped;
    h->ids_told_ns = now;
}

static void note_id(struct mp_stream *s, memphis_slice id, uint64_t seq, uint64_t now)
{
    struct mp_stream_host *h = s->host;
    uint64_t before = h->ids.dropped;

    mp_dedup_put(&s->dedup, id, seq, now);
    if (h->ids.dropped != before)
        tell_forgotten(h, now);
}

static memphis_status append(struct mp_stream *s, const struct mp_entry *e)
{
    struct mp_entry both[2] = { *e };
    struct mp_buf payload = { 0 };
    memphis_status st;

    if (s->nats == NULL)
        return mp_log_append(s->log, e, 1, MP_STREAM_TAG);
    if (mp_nats_driven_out(s, e, &both[1], &payload) == 0) {
        st = mp_log_append(s->log, e, 1, MP_STREAM_TAG);
    } else {
        both[0].flags |= MP_ENTRY_CHAINED;
        st = mp_log_append(s->log, both, 2, MP_STREAM_TAG);
    }
    mp_buf_fini(&payload);
    if (st == MEMPHIS_OK)
        mp_nats_stored(s, e);
    else if (st != MEMPHIS_BROKEN)
        mp_nats_failed(s); /* what it would have driven out is there still */
    return st;
}

static void propose(struct mp_stream *s, const struct mp_message *m, memphis_slice id,
                    const struct asker *a)
{
    uint64_t now = *s->host->now_ns;
    uint64_t seq;
    struct mp_entry e = { .type = MP_ENTRY_MESSAGE, .pid = s->pid, .time_ns = now };
    memphis_status st;

    if (m->headers.size > MP_HEADERS_MAX) {
        refuse(s, a, HEADERS_TOO_BIG, "");
        return;
    }
    if (id.size > MP_MESSAGE_ID_MAX) {
        refuse(s, a, ID_TOO_BIG, "");
        return;
    }
    if (id.size > 0 && mp_dedup_find(&s->dedup, id, now, &seq)) {
        s->host->counters.duplicates++;
        wait_for(s, a, seq, true);
        mp_stream_answer_waiting(s); /* at once, if the first one is committed */
        return;
    }
    e.seq = s->proposed_last + 1;
    e.headers = m->headers;
    e.payload = m->payload;
    e.id = id;
    if (m->subject.size != s->final_size ||
        memcmp(m->subject.data, s->final_subject, s->final_size) != 0)
        e.subject = m->subject;
    st = append(s, &e);
    if (st != MEMPHIS_OK) {
        if (st != MEMPHIS_BROKEN) /* then nobody is answered any more */
            refuse(s, a, refusal_of(st), "");
        return;
    }
    s->proposed_last++;
    s->host->counters.published++;
    if (id.size > 0)
        note_id(s, id, e.seq, now);
    wait_for(s, a, e.seq, false);
}

/* === Public === */

void mp_stream_publish(struct mp_stream *s, const struct mp_message *m)
{
    struct asker a = { .reply = m->reply };

    if (expectations_hold(s, m, &a) && (s->nats == NULL || nats_admits(s, m, &a)))
        propose(s, m, id_of(m->headers), &a);
}

void mp_stream_produce(struct mp_stream *s, memphis_slice headers,
                       memphis_slice payload, memphis_slice id, mp_published_fn fn,
                       void *ctx)
{
    struct asker a = { .callback = { fn, ctx } };
    struct mp_message m = { .headers = headers,
                            .payload = payload,
                            .subject = mp_slice(s->final_subject, s->final_size) };

    if (s->nats != NULL) /* who produces to a station has no subject for it */
        refuse(s, &a, NO_SUBJECT, "");
    else
        propose(s, &m, id.size > 0 ? id : id_of(headers), &a);
}
