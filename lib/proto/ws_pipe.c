#include "proto/ws_pipe.h"

#include "base/limits.h"
#include "base/mem.h"
#include "base/str.h"

enum { ROOM_SIZE = 4096 }; /* of the stack, for payload without its mask */

struct mp_ws_pipe {
    const struct mp_session_host *host;
    struct mp_session *s;
    struct mp_session_pipe below;
    struct mp_ws ws;
    bool is_asked; /* the request is in order and not answered yet */
    bool is_open;  /* it is answered: frames */
    bool is_closed;
    struct mp_buf held; /* of the session, while it is not open: INFO, pings */
    uint64_t written, drained; /* bytes of the transport, since the start */
    uint64_t overhead;         /* of those not drained: not the session's */
    bool pong_waits;
    uint64_t pong_end; /* `written` behind the last one */
    uint8_t pong[MP_WS_CONTROL_MAX];
    uint32_t pong_size;
};

static const char broker_closes[] = "closed by the broker";

/* What the peer is told when the session ends, by the session's own words. */
static const struct {
    const char *why;
    uint32_t code;
    const char *reason; /* NULL: `why` */
} ends[] = {
    { "Authorization Violation", MP_WS_POLICY, "Authentication Failure" },
    { "Authentication Timeout", MP_WS_POLICY, NULL },
    { "maximum control line exceeded", MP_WS_POLICY, NULL },
    { "slow consumer", MP_WS_POLICY, NULL },
    { "Maximum Payload Violation", MP_WS_TOO_BIG, NULL },
    { "Unknown Protocol Operation", MP_WS_PROTOCOL_ERROR, NULL },
    { "Stale Connection", MP_WS_GOING_AWAY, NULL },
    { broker_closes, MP_WS_GOING_AWAY, "the server stops" },
    { "the client closed the connection", MP_WS_NORMAL, "" },
    { "the client reported an error", MP_WS_NORMAL, "" },
    { "out of memory", MP_WS_INTERNAL, NULL },
};

/* -- output ----------------------------------------------------------------------- */

/* `overhead` of `size` bytes are not the session's. Counted before they go: the pipe
 * may drain inside of its write. */
static void write_below(struct mp_ws_pipe *p, const memphis_slice *v, size_t n,
                        size_t overhead)
{
    for (size_t i = 0; i < n; i++)
        p->written += v[i].size;
    p->overhead += overhead;
    p->below.write(p->below.ctx, v, n);
}

/* A buffer in which nothing is the session's, and which ends here. */
static void write_own(struct mp_ws_pipe *p, struct mp_buf *own)
{
    memphis_slice bytes = mp_buf_slice(own);

    write_below(p, &bytes, 1, bytes.size);
    mp_buf_fini(own);
}

static void pipe_write(void *ctx, const memphis_slice *v, size_t n)
{
    struct mp_ws_pipe *p = ctx;
    uint8_t header[MP_WS_FRAME_HEADER_MAX];

    for (size_t i = 0; i < n; i++) /* the session writes one */
        if (p->is_open) {
            memphis_slice frame[] = { { header, 0 }, v[i] };

            frame[0].size = mp_ws_frame_header(header, MP_WS_BINARY, v[i].size);
            write_below(p, frame, 2, frame[0].size);
        } else {
            mp_buf_put_slice(&p->held, v[i]);
        }
}

/* 101, and what the session has said meanwhile. */
static void answer(struct mp_ws_pipe *p)
{
    struct mp_buf own = { 0 }, held = p->held;
    uint8_t header[MP_WS_FRAME_HEADER_MAX];

    p->is_asked = false;
    p->is_open = true;
    p->held = (struct mp_buf){ 0 };
    mp_ws_put_accept(&own, &p->ws);
    if (held.size > 0)
        mp_buf_put(&own, header, mp_ws_frame_header(header, MP_WS_BINARY, held.size));
    memphis_slice both[] = { mp_buf_slice(&own), mp_buf_slice(&held) };
    write_below(p, both, held.size > 0 ? 2 : 1, own.size);
    mp_buf_fini(&own);
    mp_buf_fini(&held);
}

static void put_close(struct mp_ws_pipe *p, struct mp_buf *out, const char *why)
{
    uint32_t code = MP_WS_INTERNAL;
    const char *reason = NULL;

    if (mp_ws_is_over(&p->ws)) { /* a code of the peer goes back as it came */
        mp_ws_put_close(out, p->ws.status, p->ws.is_closed_by_peer ? "" : p->ws.why);
        return;
    }
    for (size_t i = 0; i < sizeof ends / sizeof ends[0]; i++)
        if (strcmp(why, ends[i].why) == 0) {
            code = ends[i].code;
            reason = ends[i].reason;
        }
    mp_ws_put_close(out, code, reason != NULL ? reason : why);
}

static void pipe_close(void *ctx, const char *why)
{
    struct mp_ws_pipe *p = ctx;
    struct mp_buf own = { 0 };

    p->is_closed = true;
    if (p->is_open)
        put_close(p, &own, why);
    else if (mp_ws_is_over(&p->ws))
        mp_ws_put_refusal(&own, p->ws.status, p->ws.why);
    else if (strcmp(why, broker_closes) == 0)
        mp_ws_put_refusal(&own, 503, "the server stops");
    else
        mp_ws_put_refusal(&own, 408, "the request did not come in time");
    write_own(p, &own);
    p->below.close(p->below.ctx, mp_ws_is_over(&p->ws) ? p->ws.why : why);
}

static bool may_pong(const struct mp_ws_pipe *p)
{
    return p->pong_waits && p->is_open && !p->is_closed && p->drained >= p->pong_end;
}

static void put_pong(struct mp_ws_pipe *p)
{
    uint8_t header[MP_WS_FRAME_HEADER_MAX];
    struct mp_buf own = { 0 };

    p->pong_waits = false;
    mp_buf_put(&own, header,
               mp_ws_frame_header(header, MP_WS_PONG_FRAME, p->pong_size));
    mp_buf_put(&own, p->pong, p->pong_size);
    p->pong_end = p->written + own.size;
    write_own(p, &own);
}

void mp_ws_pipe_flush(struct mp_ws_pipe *p)
{
    if (p->is_asked)
        answer(p);
    if (may_pong(p))
        put_pong(p);
    mp_session_flush(p->s);
}

void mp_ws_pipe_drained(struct mp_ws_pipe *p, size_t bytes)
{
    uint64_t open = p->written - p->drained, mine;

    bytes = bytes < open ? bytes : (size_t)open; /* the embedder counts, not we */
    mine = bytes < p->overhead ? bytes : p->overhead;
    p->drained += bytes;
    p->overhead -= mine;
    mp_session_drained(p->s, bytes - (size_t)mine);
    if (may_pong(p))
        p->host->wants_flush(p->host->ctx, p->s);
}

/* -- input ------------------------------------------------------------------------ */

static void take_ping(struct mp_ws_pipe *p)
{
    memcpy(p->pong, p->ws.control, p->ws.control_size);
    p->pong_size = p->ws.control_size;
    p->pong_waits = true;
    if (may_pong(p))
        p->host->wants_flush(p->host->ctx, p->s);
}

memphis_status mp_ws_pipe_feed(struct mp_ws_pipe *p, const void *bytes, size_t size)
{
    memphis_slice in = mp_slice(bytes, size);
    memphis_status st = mp_session_accepts(p->s, size);
    uint8_t room[ROOM_SIZE];

    if (size == 0 && !mp_ws_is_over(&p->ws))
        return mp_session_feed(p->s, NULL, 0);
    while (st == MEMPHIS_OK) {
        size_t n;

        switch (mp_ws_read(&p->ws, &in, room, sizeof room, &n)) {
        case MP_WS_MORE:
            return MEMPHIS_OK;
        case MP_WS_OPEN:
            p->is_asked = true;
            p->host->wants_flush(p->host->ctx, p->s);
            break;
        case MP_WS_DATA:
            st = mp_session_feed(p->s, room, n);
            break;
        case MP_WS_PING:
            take_ping(p);
            break;
        case MP_WS_CLOSE: /* what was sent before is still heard */
            return mp_session_feed(p->s, NULL, 0);
        case MP_WS_FAILED:
            p->host->counters->protocol_errors++;
            mp_session_close(p->s, NULL);
            return MEMPHIS_CLOSED;
        }
    }
    return st;
}

/* -- life ------------------------------------------------------------------------- */

struct mp_ws_pipe *mp_ws_pipe_new(const struct mp_session_host *h,
                                  const struct mp_session_pipe *below,
                                  const char *peer, const char *user)
{
    struct mp_ws_pipe *p = mp_alloc(sizeof *p);
    struct mp_session_pipe pipe = { pipe_write, pipe_close, p };

    p->host = h;
    p->below = *below;
    p->s = mp_session_new(h, &pipe, peer, user);
    return p;
}

void mp_ws_pipe_free(struct mp_ws_pipe *p)
{
    if (p == NULL)
        return;
    mp_session_free(p->s);
    mp_ws_fini(&p->ws);
    mp_buf_fini(&p->held);
    mp_free(p);
}

struct mp_session *mp_ws_pipe_session(struct mp_ws_pipe *p)
{
    return p->s;
}
