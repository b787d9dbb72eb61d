/* Sessions: the protocol over a pipe of the embedder. */
#include "api/api.h"

#include "base/assert.h"
#include "base/guard.h"
#include "base/status.h"
#include "broker/auth.h"
#include "broker/connection.h"
#include "broker/permission.h"
#include "proto/sdk.h"
#include "proto/ws_pipe.h"

struct memphis_session {
    memphis_broker *b;
    struct mp_session *s; /* core; NULL when the broker closed first */
    struct mp_ws_pipe *ws; /* owns s; NULL: it speaks without frames */
    struct mp_source source;
    struct mp_list node; /* of the broker's sessions */
    memphis_pipe pipe;
    struct mp_auth_check *check; /* a verdict is out */
    char *connection_id;         /* counted as up; NULL: not */
    size_t held;                 /* came before that: in the broker's sessions_held */
};

static memphis_session *of_session(const struct mp_session *s)
{
    return mp_session_ctx(s);
}

static memphis_session *of_source(struct mp_source *s)
{
    return mp_container_of(s, memphis_session, source);
}

/* === The session's world === */

static const struct mp_user_row *user_row(memphis_broker *b, const char *user)
{
    return mp_meta_user(b->core->meta, mp_slice_text(user));
}

static void on_verdict(void *ctx, bool accepted, const char *user)
{
    memphis_session *h = ctx;

    h->check = NULL;
    mp_session_verdict(h->s, accepted, user);
}

static void authenticate(void *ctx, struct mp_session *s,
                         const struct mp_credentials *c)
{
    memphis_broker *b = ctx;
    memphis_session *h = of_session(s);

    mp_auth_cancel(h->check); /* a second CONNECT overtakes the first */
    h->check = NULL;
    h->check = mp_auth_check(b->core->auth, c, on_verdict, h);
}

static void held_no_more(memphis_session *h)
{
    h->b->sessions_held -= h->held;
    h->held = 0;
}

static void went_up(void *ctx, struct mp_session *s)
{
    memphis_broker *b = ctx;
    memphis_session *h = of_session(s);
    const char *id = mp_session_client(s)->connection_id;
    const struct mp_user_row *row = user_row(b, mp_session_client(s)->user);

    mp_session_permit(s, row != NULL ? mp_grants_new(row) : NULL);
    if (h->connection_id != NULL) /* CONNECT came again */
        mp_connection_down(b->core, h->connection_id);
    else
        b->sessions_up++;
    mp_free(h->connection_id);
    h->connection_id = mp_strdup(id != NULL ? id : "");
    held_no_more(h);
    mp_connection_up(b->core, h->connection_id);
    if (h->connection_id[0] != 0)
        mp_sdk_connection_up(b->core, h->connection_id);
}

void api_session_user_changed(void *ctx, const char *name,
                              const struct mp_user_row *row)
{
    memphis_broker *b = ctx;

    for (struct mp_list *l = b->sessions.next; l != &b->sessions; l = l->next) {
        struct mp_session *s = mp_container_of(l, memphis_session, node)->s;
        const char *user = mp_session_client(s)->user;

        if (user == NULL || strcmp(user, name) != 0)
            continue;
        if (row == NULL)
            mp_session_close(s, NULL);
        else
            mp_session_permit(s, mp_grants_new(row));
    }
}

static void went_down(void *ctx, struct mp_session *s)
{
    memphis_broker *b = ctx;
    memphis_session *h = of_session(s);

    mp_auth_cancel(h->check);
    h->check = NULL;
    held_no_more(h);
    mp_broker_forget_source(b->core, &h->source);
    if (h->connection_id == NULL)
        return;
    b->sessions_up--;
    mp_connection_down(b->core, h->connection_id);
    mp_free(h->connection_id);
    h->connection_id = NULL;
}

static void wants_turn(void *ctx, struct mp_session *s)
{
    memphis_broker *b = ctx;

    mp_broker_wants_turn(b->core, &of_session(s)->source);
}

static void wants_flush(void *ctx, struct mp_session *s)
{
    memphis_broker *b = ctx;

    mp_broker_wants_flush(b->core, &of_session(s)->source);
}

static void has_room(void *ctx)
{
    memphis_broker *b = ctx;

    mp_streams_have_room(&b->core->streams);
}

static uint64_t now_ms(void *ctx)
{
    memphis_broker *b = ctx;

    return mp_broker_now_ms(b->core);
}

static size_t source_work(struct mp_source *s, size_t bytes_max, uint32_t *operations)
{
    return mp_session_work(of_source(s)->s, bytes_max, operations);
}

static bool source_has_input(struct mp_source *s)
{
    return mp_session_has_input(of_source(s)->s);
}

static void source_flush(struct mp_source *s)
{
    memphis_session *h = of_source(s);

    if (h->ws != NULL)
        mp_ws_pipe_flush(h->ws);
    else
        mp_session_flush(h->s);
}

static void end_session(memphis_session *h)
{
    if (h->ws != NULL)
        mp_ws_pipe_free(h->ws);
    else
        mp_session_free(h->s);
    h->s = NULL;
    h->ws = NULL;
}

void api_sessions_init(memphis_broker *b, const memphis_options *o)
{
    uint64_t share = (o->memory_max ? o->memory_max : MP_MEMORY_MAX_DEFAULT) / 4;

    mp_list_init(&b->sessions);
    b->session_host_name = mp_strdup(o->session_host ? o->session_host : "127.0.0.1");
    struct mp_server_info info = {
        .server_id = b->core->server_id,
        .server_name = b->core->name,
        .host = b->session_host_name,
        .port = o->session_port ? o->session_port : 6666,
        .payload_max = o->max_payload ? o->max_payload : MP_PAYLOAD_MAX_DEFAULT,
        .auth_required = true,
    };
    struct mp_session_host host = {
        .bus = b->core->bus,
        .timers = &b->core->timers,
        .logger = &b->logger,
        .counters = &b->counters,
        .output_max = share < MP_OUTPUT_BACKLOG_MAX ? share : MP_OUTPUT_BACKLOG_MAX,
        .authenticate = authenticate,
        .up = went_up,
        .down = went_down,
        .wants_turn = wants_turn,
        .wants_flush = wants_flush,
        .has_room = has_room,
        .now_ms = now_ms,
        .ctx = b,
    };
    for (int ws = 0; ws < 2; ws++)
        for (int tls = 0; tls < 2; tls++) {
            b->infos[ws][tls] = info;
            b->infos[ws][tls].tls_required = tls != 0;
            if (ws != 0)
                b->infos[ws][tls].port = o->websocket_port ? o->websocket_port : 7770;
            b->hosts[ws][tls] = host;
            b->hosts[ws][tls].info = &b->infos[ws][tls];
        }
}

void api_sessions_close(memphis_broker *b)
{
    struct mp_list *l;

    while ((l = mp_list_pop_front(&b->sessions)) != NULL) {
        end_session(mp_container_of(l, memphis_session, node));
    }
}

/* === Public === */

struct session_call {
    struct api_call call;
    memphis_session *h;
    const memphis_session_options *o;
};

static void run_new(struct api_call *c)
{
    struct session_call *n = (struct session_call *)(void *)c;
    memphis_session *h = n->h;
    memphis_broker *b = h->b;
    struct mp_session_pipe pipe = { h->pipe.write, h->pipe.close, h->pipe.ctx };
    const char *peer = n->o != NULL && n->o->peer != NULL ? n->o->peer : "local";
    const char *user = n->o != NULL ? n->o->user : NULL;
    bool is_ws = n->o != NULL && n->o->websocket != 0;
    bool is_tls = n->o != NULL && n->o->tls != 0;

    if (b->sessions_count >= MP_CONNECTIONS_MAX) {
        api_finish(c, MEMPHIS_FULL, "there are 65,536 sessions already");
        return;
    }
    b->sessions_count++;
    mp_auth_start(b->core->auth);
    h->source.work = source_work;
    h->source.has_input = source_has_input;
    h->source.flush = source_flush;
    if (is_ws) {
        h->ws = mp_ws_pipe_new(&b->hosts[1][is_tls], &pipe, peer, user);
        h->s = mp_ws_pipe_session(h->ws);
    } else {
        h->s = mp_session_new(&b->hosts[0][is_tls], &pipe, peer, user);
    }
    mp_session_set_ctx(h->s, h);
    mp_list_push_back(&b->sessions, &h->node);
    wants_flush(b, h->s); /* INFO */
    if (user != NULL)
        went_up(b, h->s);
    api_finish(c, MEMPHIS_OK, "");
}

memphis_status memphis_session_new(memphis_broker *b, const memphis_pipe *pipe,
                                   const memphis_session_options *o,
                                   memphis_session **out, memphis_error *err)
{
    struct session_call *c;
    memphis_session *h;
    memphis_status st;

    if (b == NULL || pipe == NULL || pipe->write == NULL || pipe->close == NULL ||
        out == NULL)
        return mp_fail(err, MEMPHIS_INVALID,
                       "a session needs a broker, a pipe and an output");
    if (!api_reserved_is_zero(pipe->reserved, 2) ||
        (o != NULL && !api_reserved_is_zero(o->reserved, 5)))
        return mp_fail(err, MEMPHIS_INVALID, "reserved words must be zero");
    st = api_may_wait(b, err);
    if (st != MEMPHIS_OK)
        return st;
    h = b->heap.hooks.alloc(b->heap.hooks.ctx, sizeof(*h));
    c = h != NULL ? api_call_new(b, sizeof(*c), run_new) : NULL;
    if (c == NULL) {
        b->heap.hooks.free(b->heap.hooks.ctx, h);
        return mp_fail(err, MEMPHIS_NOMEM, "no memory for a session");
    }
    memset(h, 0, sizeof(*h));
    h->b = api_ref(b);
    h->pipe = *pipe;
    c->h = h;
    c->o = o;
    st = api_run(&c->call, api_default_wait(b), err);
    api_call_unref(&c->call);
    if (st == MEMPHIS_OK) {
        *out = h;
    } else {
        b->heap.hooks.free(b->heap.hooks.ctx, h);
        api_unref(b);
    }
    return st;
}

struct feed_call {
    struct api_call call;
    memphis_session *h;
    const void *bytes;
    size_t size;
    memphis_status status;
};

/* What many strangers send ahead of their verdicts must not add up. */
static bool is_too_much(memphis_session *h, size_t size)
{
    memphis_broker *b = h->b;

    if (h->connection_id != NULL)
        return false;
    if (h->held + size > MP_AUTH_HELD_SMALL &&
        b->sessions_held + size > MP_AUTH_HELD_TOTAL_MAX)
        return true;
    h->held += size;
    b->sessions_held += size;
    return false;
}

static void feed_guarded(void *ctx)
{
    struct feed_call *f = ctx;

    mp_broker_enter(f->h->b->core);
    f->status = MEMPHIS_CLOSED;
    if (f->h->s == NULL)
        return;
    if (is_too_much(f->h, f->size)) {
        f->h->b->counters.auth_failures++;
        mp_session_close(f->h->s, "Authorization Violation");
        return;
    }
    if (f->h->ws != NULL)
        f->status = mp_ws_pipe_feed(f->h->ws, f->bytes, f->size);
    else
        f->status = mp_session_feed(f->h->s, f->bytes, f->size);
}

static void run_feed(struct api_call *c)
{
    struct feed_call *f = (struct feed_call *)(void *)c;

    feed_guarded(f);
    api_finish(c, f->status, "");
}

memphis_status memphis_session_feed(memphis_session *s, const void *bytes, size_t size)
{
    struct feed_call *c;
    struct feed_call direct = { .h = s, .bytes = bytes, .size = size };
    memphis_status st = api_usable(s->b, NULL);
    memphis_error why = { 0 };

    if (st != MEMPHIS_OK)
        return st;
    if (s->b->mode == MEMPHIS_MANUAL || api_is_inside(s->b)) {
        api_stir(s->b);
        if (mp_guard_run(&s->b->heap, feed_guarded, &direct, &why) == MEMPHIS_OK)
            return direct.status;
        mp_broker_break(s->b->core, &why);
        return MEMPHIS_BROKEN;
    }
    c = api_call_new(s->b, sizeof(*c), run_feed);
    if (c == NULL)
        return MEMPHIS_NOMEM;
    c->h = s;
    c->bytes = bytes;
    c->size = size;
    st = api_run(&c->call, UINT32_MAX, NULL);
    api_call_unref(&c->call);
    return st;
}

struct drained_call {
    struct api_call call;
    memphis_session *h;
    size_t bytes;
};

static void drained(memphis_session *h, size_t bytes)
{
    if (h->ws != NULL)
        mp_ws_pipe_drained(h->ws, bytes);
    else if (h->s != NULL)
        mp_session_drained(h->s, bytes);
}

static void run_drained(struct api_call *c)
{
    struct drained_call *d = (struct drained_call *)(void *)c;

    drained(d->h, d->bytes);
    api_finish(c, MEMPHIS_OK, "");
}

void memphis_session_drained(memphis_session *s, size_t bytes)
{
    struct drained_call *c;

    if (api_usable(s->b, NULL) != MEMPHIS_OK)
        return;
    if (s->b->mode == MEMPHIS_MANUAL || api_is_inside(s->b)) {
        drained(s, bytes);
        return;
    }
    c = api_call_new(s->b, sizeof(*c), run_drained);
    if (c == NULL)
        return;
    c->h = s;
    c->bytes = bytes;
    (void)api_run(&c->call, UINT32_MAX, NULL); /* broken: nothing to credit any more */
    api_call_unref(&c->call);
}

static void run_lame_duck(struct api_call *c)
{
    memphis_broker *b = c->b;

    for (int i = 0; i < 4; i++)
        b->infos[i / 2][i % 2].lame_duck = true;
    for (struct mp_list *l = b->sessions.next; l != &b->sessions; l = l->next)
        mp_session_send_info(mp_container_of(l, memphis_session, node)->s);
    api_finish(c, MEMPHIS_OK, "");
}

memphis_status memphis_lame_duck(memphis_broker *b, memphis_error *err)
{
    struct api_call *c;
    memphis_status st;

    if (b == NULL)
        return mp_fail(err, MEMPHIS_INVALID, "there is no broker");
    st = api_may_wait(b, err);
    if (st != MEMPHIS_OK)
        return st;
    c = api_call_new(b, sizeof(*c), run_lame_duck);
    if (c == NULL)
        return mp_fail(err, MEMPHIS_NOMEM, "no memory for a call");
    st = api_run(c, api_default_wait(b), err);
    api_call_unref(c);
    return st;
}

static void run_close(struct api_call *c)
{
    struct session_call *n = (struct session_call *)(void *)c;

    if (n->h->s != NULL)
        mp_session_close(n->h->s, NULL);
    api_finish(c, MEMPHIS_OK, "");
}

void memphis_session_close(memphis_session *s)
{
    struct session_call *c;

    if (s == NULL || api_may_wait(s->b, NULL) != MEMPHIS_OK)
        return;
    c = api_call_new(s->b, sizeof(*c), run_close);
    if (c == NULL)
        return;
    c->h = s;
    (void)api_run(&c->call, UINT32_MAX, NULL); /* broken: it is at its end, too */
    api_call_unref(&c->call);
}

static void run_free(struct api_call *c)
{
    struct session_call *n = (struct session_call *)(void *)c;

    if (n->h->s != NULL) {
        mp_list_remove(&n->h->node);
        n->h->b->sessions_count--;
        end_session(n->h);
    }
    api_finish(c, MEMPHIS_OK, "");
}

void memphis_session_free(memphis_session *s)
{
    struct session_call *c;
    memphis_broker *b;
    memphis_status st;

    if (s == NULL)
        return;
    b = s->b;
    st = api_may_wait(b, NULL);
    if (st == MEMPHIS_MISUSE)
        return; /* the core goes on using it */
    if (st == MEMPHIS_OK) {
        c = api_call_new(b, sizeof(*c), run_free);
        if (c == NULL)
            return; /* without memory it is better to leak than to leave it half freed
                     */
        c->h = s;
        (void)api_run(&c->call, UINT32_MAX, NULL);
        api_call_unref(&c->call);
    }
    b->heap.hooks.free(b->heap.hooks.ctx, s);
    api_unref(b);
}
