#include "proto/session.h"

#include "base/assert.h"
#include "base/json.h"
#include "base/limits.h"
#include "base/map.h"
#include "base/mem.h"
#include "base/sm.h"
#include "base/str.h"
#include "broker/permission.h"
#include "proto/nats_connect.h"
#include "proto/nats_parse.h"
#include "proto/reserved.h"

enum {
    INPUT_MAX = 1 << 20,  /* queued beside one payload, once authenticated */
    FIRST_PING_MS = 2400, /* clients measure the round trip with it */
    SMALL_OUTPUT = 64,    /* +OK, PONG, PING */
    INFO_MAX = 1 << 10,   /* about */
    OUTPUT_HINT_MAX = 64 << 10,
    OUTPUT_PART_MIN = 1 << 20 /* of a session, however many there are */
};

static const char denied_text[] = "Permissions Violation - cant access the requested "
                                  "station, please contact your Memphis administrator";
static const char violation_text[] = "Authorization Violation";
static const char no_responders_headers[] = "NATS/1.0 503\r\n\r\n";

/* -- types ------------------------------------------------------------------------ */

enum { NEW, CONNECTING, READY, CLOSING };

static const struct mp_sm_state states[] = {
    [NEW] = { "new", 1u << CONNECTING | 1u << READY | 1u << CLOSING },
    [CONNECTING] = { "connecting", 1u << READY | 1u << CLOSING },
    [READY] = { "ready", 1u << CONNECTING | 1u << CLOSING },
    [CLOSING] = { "closing", 0 },
};

/* A subscription of the peer. Deliveries are counted here, not in the bus, because a
 * sid must leave the map in the same moment. */
struct session_sub {
    struct mp_subscription *of_bus;
    uint64_t delivered, max; /* max 0: no end */
    uint32_t sid_size;
    char sid[];
};

/* What the session still needs of its CONNECT. */
struct options {
    bool verbose, pedantic, headers, no_responders;
    bool takes_info; /* protocol 1: INFO may come at any time */
};

/* A CONNECT whose verdict is out. The texts are owned. */
struct asked {
    bool verbose, pedantic, echo, headers, no_responders, takes_info;
    char *connection_id, *lang;
    char *name_user; /* NULL: the name is not checked */
};

struct mp_session {
    struct mp_client client;
    const struct mp_session_host *host;
    struct mp_session_pipe pipe;
    void *ctx;
    char *peer;

    uint32_t state;
    bool is_trusted; /* the embedder vouched for the user */
    bool is_up;      /* a CONNECT was accepted, or trusted */
    bool is_working; /* operations point into the input */
    bool is_starved; /* what is queued is no whole operation */
    bool is_ended;   /* the peer sends no more */
    bool flush_asked;
    bool is_closed;  /* the pipe was told */
    const char *why; /* of CLOSING; static or owned by why_text */
    char *why_text;

    struct mp_nats_parser parser;
    struct mp_buf input;
    size_t input_at; /* bytes of it already consumed */
    struct mp_buf output;
    size_t output_hint;        /* about what the last flush needed */
    uint64_t written, drained; /* bytes, since the start */
    uint64_t accounted;        /* of its backlog, in the sum of all */
    bool held_back;            /* had no room for a delivery */

    struct options options;
    struct asked asked;
    char *user, *connection_id, *lang; /* what client points to */
    struct mp_grants *grants;
    struct mp_map subscriptions;       /* sid -> struct session_sub */

    struct mp_timer alive; /* NEW: the CONNECT deadline; later: the next PING */
    struct mp_timer stall;
    uint64_t last_input_ms, last_drained_ms;
    uint32_t pings_out;
    bool first_ping_sent;
};

/* -- output ----------------------------------------------------------------------- */

static uint64_t backlog(const struct mp_session *s)
{
    return s->written - s->drained + s->output.size;
}

/* After each change of the backlog. */
static void account(struct mp_session *s)
{
    uint64_t now = backlog(s);

    s->host->counters->output_bytes += now - s->accounted;
    s->accounted = now;
}

/* What one may have: all of it, as long as all together have less. */
static uint64_t backlog_max(const struct mp_session *s)
{
    const struct mp_session_host *h = s->host;
    uint64_t part;

    if (h->counters->output_bytes <= h->output_max)
        return h->output_max;
    part = h->output_max / (h->counters->sessions + 1);
    part = part > OUTPUT_PART_MIN ? part : OUTPUT_PART_MIN;
    return part < h->output_max ? part : h->output_max;
}

/* Messages of groups wait for a reader that is slower than they come; without this he
 * would be closed, and each of his deliveries counted. One alone is never too much. */
static bool has_room(struct mp_client *c, size_t size)
{
    struct mp_session *s = mp_container_of(c, struct mp_session, client);
    uint64_t after = backlog(s) + size + MP_CONTROL_LINE_MAX;

    if (backlog(s) == 0 || after <= backlog_max(s))
        return true;
    if (after <= s->host->output_max)
        s->host->counters->held_back = true;
    s->held_back = true;
    return false;
}

static bool may_hear(struct mp_client *c, memphis_slice subject)
{
    return mp_grants_subject(c->grants, false, subject);
}

static void tell_room(struct mp_session *s)
{
    struct mp_session_counters *all = s->host->counters;
    bool others = all->held_back && all->output_bytes <= s->host->output_max;

    if (!others && !(s->held_back && backlog(s) <= s->host->output_max / 2))
        return;
    s->held_back = false;
    if (others)
        all->held_back = false;
    s->host->has_room(s->host->ctx);
}

static uint64_t now_ms(const struct mp_session *s)
{
    return s->host->now_ms(s->host->ctx);
}

static void ask_flush(struct mp_session *s)
{
    if (s->flush_asked)
        return;
    s->flush_asked = true;
    s->host->wants_flush(s->host->ctx, s);
}

static void end_sub(struct mp_session *s, struct session_sub *sub)
{
    mp_map_remove(&s->subscriptions, mp_slice(sub->sid, sub->sid_size));
    mp_bus_unsubscribe(s->host->bus, sub->of_bus);
    mp_free(sub);
}

/* Nothing is taken from now on, and a queue group must not choose us any more. `why` is
 * for the owner of the pipe; what the peer reads is in the output already. */
static void begin_close(struct mp_session *s, const char *why)
{
    struct session_sub *sub;

    mp_sm_move(&s->state, CLOSING, states);
    s->why = why;
    mp_timer_cancel(s->host->timers, &s->alive);
    mp_timer_cancel(s->host->timers, &s->stall);
    for (uint32_t i = 0; (sub = mp_map_next(&s->subscriptions, &i)) != NULL;)
        end_sub(s, sub);
    if (!s->is_working)
        mp_buf_fini(&s->input);
    mp_logf(s->host->logger, MEMPHIS_LOG_DEBUG, "session",
            "The connection is closed. peer=%s why=%s", s->peer, why);
    ask_flush(s);
}

/* -ERR and the end. Without memory it is only the end. */
static void close_with(struct mp_session *s, const char *error)
{
    if (mp_buf_reserve_try(&s->output, strlen(error) + SMALL_OUTPUT))
        mp_nats_write_error(&s->output, error);
    begin_close(s, error);
}

static void fail(struct mp_session *s, const char *error, uint64_t *counter)
{
    (*counter)++;
    close_with(s, error);
}

/* A reader that is too slow, or no memory for what it must get: it is closed without
 * -ERR and without the bytes that wait, all of it whole operations. */
static void drop(struct mp_session *s, const char *why)
{
    s->host->counters->slow_consumers++;
    mp_buf_fini(&s->output);
    account(s);
    tell_room(s);
    begin_close(s, why);
}

/* Makes room for `more` bytes of output; false: the session was closed. */
static bool make_room(struct mp_session *s, size_t more)
{
    size_t wanted = more;

    if (s->output.data == NULL && s->output_hint > more)
        wanted = s->output_hint;
    if (mp_buf_reserve_try(&s->output, wanted))
        return true;
    drop(s, "out of memory");
    return false;
}

/* After every append; `before` is the backlog without it. One message alone is never
 * too much. */
static void appended(struct mp_session *s, uint64_t before)
{
    account(s);
    if (before > 0 && backlog(s) > backlog_max(s))
        drop(s, "slow consumer");
    else
        ask_flush(s);
}

static void put_line(struct mp_session *s, memphis_slice line)
{
    uint64_t before = backlog(s);

    if (!make_room(s, SMALL_OUTPUT))
        return;
    mp_buf_put_slice(&s->output, line);
    appended(s, before);
}

static void put_ok(struct mp_session *s)
{
    if (s->options.verbose)
        put_line(s, MP_STR("+OK\r\n"));
}

/* An -ERR after which the connection stays. */
static void put_error(struct mp_session *s, const char *text)
{
    uint64_t before = backlog(s);

    if (!make_room(s, strlen(text) + SMALL_OUTPUT))
        return;
    mp_nats_write_error(&s->output, text);
    appended(s, before);
}

static void refuse(struct mp_session *s)
{
    s->host->counters->denied++;
    put_error(s, denied_text);
}

/* A queue's refusal names it (sdk-protocol 1.4). */
static void refuse_sub(struct mp_session *s, memphis_slice subject, memphis_slice queue)
{
    struct mp_buf text = { 0 };

    if (queue.size == 0) {
        refuse(s);
        return;
    }
    s->host->counters->denied++;
    mp_buf_format(&text, "Permissions Violation for Subscription to \"%.*s\" using "
                         "queue \"%.*s\"",
                  (int)subject.size, (const char *)subject.data, (int)queue.size,
                  (const char *)queue.data);
    mp_buf_put_u8(&text, 0);
    put_error(s, (const char *)text.data);
    mp_buf_fini(&text);
}

static bool put_message(struct mp_session *s, const char *sid,
                        const struct mp_message *m)
{
    uint64_t before = backlog(s);
    size_t size = strlen(sid) + m->subject.size + m->reply.size + m->headers.size +
                  m->payload.size + SMALL_OUTPUT;

    if (!make_room(s, size))
        return false;
    mp_nats_write_message(&s->output, sid, m, s->options.headers);
    appended(s, before);
    return s->state != CLOSING;
}

static void deliver(struct mp_client *c, struct mp_subscription *of_bus,
                    const struct mp_message *m)
{
    struct mp_session *s = mp_container_of(c, struct mp_session, client);
    struct session_sub *sub = of_bus->ctx;

    if (s->state == CLOSING || !put_message(s, sub->sid, m))
        return;
    s->host->counters->messages_out++;
    s->host->counters->bytes_out += m->payload.size;
    if (s->options.headers)
        s->host->counters->bytes_out += m->headers.size;
    sub->delivered++;
    if (sub->max != 0 && sub->delivered >= sub->max)
        end_sub(s, sub);
}

/* -- keep-alive ------------------------------------------------------------------- */

static void ping_due(struct mp_session *s, uint64_t now)
{
    uint64_t postponed = s->last_input_ms + MP_PING_INTERVAL_MS;

    if (s->first_ping_sent && postponed > now) {
        mp_timer_set(s->host->timers, &s->alive, postponed);
        return;
    }
    if (s->pings_out >= MP_PINGS_OUT_MAX) {
        fail(s, "Stale Connection", &s->host->counters->stale);
        return;
    }
    s->pings_out++;
    s->first_ping_sent = true;
    mp_timer_set(s->host->timers, &s->alive, now + MP_PING_INTERVAL_MS);
    put_line(s, MP_STR("PING\r\n"));
}

static void alive_fired(struct mp_timer *t, uint64_t now)
{
    struct mp_session *s = mp_container_of(t, struct mp_session, alive);

    if (s->state == NEW)
        fail(s, "Authentication Timeout", &s->host->counters->auth_failures);
    else
        ping_due(s, now);
}

/* Armed while a backlog exists and looked at when it fires, so that a drain costs no
 * move of the timer. */
static void stall_fired(struct mp_timer *t, uint64_t now)
{
    struct mp_session *s = mp_container_of(t, struct mp_session, stall);
    uint64_t due = s->last_drained_ms + MP_WRITE_STALL_MS;

    if (s->written == s->drained)
        return;
    if (due > now)
        mp_timer_set(s->host->timers, &s->stall, due);
    else
        drop(s, "slow consumer");
}

/* -- CONNECT ---------------------------------------------------------------------- */

static void free_asked(struct asked *o)
{
    mp_free(o->connection_id);
    mp_free(o->name_user);
    mp_free(o->lang);
    *o = (struct asked){ 0 };
}

static void authenticate(struct mp_session *s, const struct mp_nats_connect *c)
{
    struct mp_credentials credentials = {
        .user = mp_slice_text(c->user),
        .password = mp_slice_text(c->pass),
        .token = mp_slice_text(c->token),
        .named = mp_slice_text(s->asked.name_user),
        .peer = s->peer,
    };

    mp_sm_move(&s->state, CONNECTING, states);
    if (!s->first_ping_sent)
        mp_timer_cancel(s->host->timers, &s->alive);
    if (s->is_trusted)
        mp_session_verdict(s, true, s->user);
    else
        s->host->authenticate(s->host->ctx, s, &credentials);
}

/* The checks in the order of sdk-protocol 1.4. */
static void check_connect(struct mp_session *s, const struct mp_nats_connect *c)
{
    struct mp_session_counters *counters = s->host->counters;
    memphis_slice id, user;
    bool is_name = mp_nats_connect_name(mp_slice_text(c->name), &id, &user);

    free_asked(&s->asked);
    s->asked = (struct asked){
        .verbose = c->verbose,
        .pedantic = c->pedantic,
        .echo = c->echo,
        .headers = c->headers,
        .no_responders = c->no_responders,
        .takes_info = c->protocol == 1,
        .connection_id = mp_strndup(id.data, id.size),
        .name_user = user.data != NULL ? mp_strndup(user.data, user.size) : NULL,
    };
    if (c->protocol != 0 && c->protocol != 1)
        fail(s, "invalid client protocol", &counters->protocol_errors);
    else if (c->no_responders && !c->headers)
        fail(s, "no responders requires headers support", &counters->protocol_errors);
    else if (!is_name && !s->is_trusted)
        fail(s, violation_text, &counters->auth_failures);
    else {
        s->asked.lang = mp_strdup(c->lang != NULL ? c->lang : "");
        authenticate(s, c);
    }
}

static void on_connect(struct mp_session *s, const struct mp_nats_op *op)
{
    struct mp_json *doc = NULL;
    struct mp_nats_connect c;

    if (mp_json_parse(op->json, &doc, NULL) == MEMPHIS_OK &&
        mp_nats_connect_read(doc, &c))
        check_connect(s, &c);
    else
        fail(s, "Unknown Protocol Operation", &s->host->counters->protocol_errors);
    mp_json_free(doc);
}

static const char *replace_text(char **place, char *text)
{
    mp_free(*place);
    *place = text;
    return text;
}

/* The identity and options of CONNECT become those of the session. */
static void accept_options(struct mp_session *s, const char *user)
{
    s->client.user = replace_text(&s->user, mp_strdup(user));
    s->client.connection_id = replace_text(&s->connection_id, s->asked.connection_id);
    s->client.lang = replace_text(&s->lang, s->asked.lang);
    s->asked.connection_id = s->asked.lang = NULL;
    s->client.no_echo = !s->asked.echo;
    s->parser.allow_headers = s->asked.headers;
    s->options = (struct options){
        .verbose = s->asked.verbose,
        .pedantic = s->asked.pedantic,
        .headers = s->asked.headers,
        .no_responders = s->asked.no_responders,
        .takes_info = s->asked.takes_info,
    };
    free_asked(&s->asked);
}

/* -- operations ------------------------------------------------------------------- */

static void on_ping(struct mp_session *s, const struct mp_nats_op *op)
{
    (void)op;
    put_line(s, MP_STR("PONG\r\n"));
}

static void on_pong(struct mp_session *s, const struct mp_nats_op *op)
{
    (void)op;
    s->pings_out = 0;
}

static void on_ignored(struct mp_session *s, const struct mp_nats_op *op)
{
    (void)s;
    (void)op;
}

static void send_no_responders(struct mp_session *s, memphis_slice reply)
{
    struct mp_subscription *own = mp_bus_own_interest(s->host->bus, &s->client, reply);
    struct mp_message m = {
        .subject = reply,
        .headers = mp_slice(no_responders_headers, sizeof no_responders_headers - 1),
    };

    if (own == NULL)
        return;
    const struct session_sub *sub = own->ctx;
    put_message(s, sub->sid, &m);
}

/* "a..b", ".a", "a.": it reaches nobody, not even "a.>" (sdk-protocol 1.1). */
static bool has_empty_token(memphis_slice subject)
{
    const char *at = subject.data;
    const char *end = at + subject.size;

    for (;;) {
        const char *dot = memchr(at, '.', (size_t)(end - at));
        if ((dot != NULL ? dot : end) == at)
            return true;
        if (dot == NULL)
            return false;
        at = dot + 1;
    }
}

/* An answer goes only where the client might hear or say something itself. */
static bool may_publish(const struct mp_session *s, const struct mp_nats_op *op)
{
    const struct mp_grants *g = s->client.grants;

    return g == NULL ||
           (mp_grants_subject(g, true, op->subject) &&
            (op->reply.size == 0 || mp_grants_subject(g, false, op->reply) ||
             mp_grants_subject(g, true, op->reply)));
}

static void on_publish(struct mp_session *s, const struct mp_nats_op *op)
{
    uint32_t takers = 0;
    struct mp_message m = {
        .subject = op->subject,
        .reply = op->reply,
        .headers = op->headers,
        .payload = op->payload,
    };

    s->host->counters->messages_in++;
    s->host->counters->bytes_in += op->headers.size + op->payload.size;
    /* The answers of the broker go to the reply, so it could forge a push as well. */
    if (mp_subject_is_reserved(op->subject, MP_RESERVED_PUBLISH) ||
        mp_subject_is_reserved(op->reply, MP_RESERVED_PUBLISH) || !may_publish(s, op)) {
        refuse(s);
        return;
    }
    bool is_too_long =
        op->subject.size > MP_SUBJECT_MAX || op->reply.size > MP_SUBJECT_MAX;
    if (is_too_long || (s->options.pedantic && !mp_subject_is_literal(op->subject)))
        put_error(s, "Invalid Publish Subject");
    if (s->state == CLOSING)
        return;
    put_ok(s);
    if (is_too_long || s->state == CLOSING)
        return;
    if (!has_empty_token(op->subject))
        takers = mp_bus_publish(s->host->bus, &s->client, &m);
    if (takers == 0 && op->reply.size > 0 && s->options.no_responders &&
        s->state != CLOSING)
        send_no_responders(s, op->reply);
}

/* NULL: no memory. */
static struct session_sub *new_sub(memphis_slice sid)
{
    struct session_sub *sub = mp_alloc_try(sizeof *sub + sid.size + 1);

    if (sub == NULL)
        return NULL;
    *sub = (struct session_sub){ .sid_size = (uint32_t)sid.size };
    memcpy(sub->sid, sid.data, sid.size);
    sub->sid[sid.size] = 0;
    return sub;
}

/* False: refused with a text, the connection stays. */
static bool subscribe(struct mp_session *s, const struct mp_nats_op *op)
{
    struct session_sub *sub = new_sub(op->sid);
    memphis_status status = MEMPHIS_NOMEM;

    if (sub != NULL && op->subject.size > MP_SUBJECT_MAX)
        status = MEMPHIS_INVALID;
    else if (sub != NULL)
        status = mp_bus_subscribe(s->host->bus, &s->client, op->subject, op->queue,
                                  &sub->of_bus);
    if (status == MEMPHIS_OK) {
        sub->of_bus->ctx = sub;
        mp_map_put(&s->subscriptions, mp_slice(sub->sid, sub->sid_size), sub);
        return true;
    }
    mp_free(sub);
    put_error(s, status == MEMPHIS_INVALID ? "Invalid Subject"
                                           : "maximum subscriptions exceeded");
    return false;
}

static void on_sub(struct mp_session *s, const struct mp_nats_op *op)
{
    if (mp_subject_is_reserved(op->subject, MP_RESERVED_SUBSCRIBE) ||
        !mp_grants_subject(s->client.grants, false, op->subject)) {
        refuse_sub(s, op->subject, op->queue);
        return;
    }
    /* A sid that is in use keeps its subscription (sdk-protocol 1.6 item 7). */
    if (mp_map_find(&s->subscriptions, op->sid) != NULL || subscribe(s, op))
        put_ok(s);
}

static void on_unsub(struct mp_session *s, const struct mp_nats_op *op)
{
    struct session_sub *sub = mp_map_find(&s->subscriptions, op->sid);

    if (sub != NULL) {
        if (op->max == 0 || sub->delivered >= op->max)
            end_sub(s, sub);
        else
            sub->max = op->max;
    }
    put_ok(s);
}

static void (*const handlers[])(struct mp_session *s, const struct mp_nats_op *op) = {
    [MP_NATS_CONNECT] = on_connect, [MP_NATS_PING] = on_ping,
    [MP_NATS_PONG] = on_pong,       [MP_NATS_PUB] = on_publish,
    [MP_NATS_HPUB] = on_publish,    [MP_NATS_SUB] = on_sub,
    [MP_NATS_UNSUB] = on_unsub,     [MP_NATS_IGNORED] = on_ignored,
};

/* -- input ------------------------------------------------------------------------ */

static size_t queued(const struct mp_session *s)
{
    return s->input.size - s->input_at;
}

static memphis_slice pending_input(const struct mp_session *s)
{
    return mp_slice(s->input.data + s->input_at, queued(s));
}

/* Every verb but CONNECT is refused by its first byte: a peer that speaks something
 * else, TLS or HTTP, is answered at once. */
static bool may_be_connect(const struct mp_session *s)
{
    return (s->input.data[s->input_at] | 0x20) == 'c';
}

/* Parses and applies one operation. */
static void work_one(struct mp_session *s)
{
    struct mp_session_counters *counters = s->host->counters;
    struct mp_nats_op op;
    size_t consumed = 0;

    if (s->state == NEW && !may_be_connect(s)) {
        fail(s, violation_text, &counters->auth_failures);
        return;
    }
    enum mp_nats_result result =
        mp_nats_parse(&s->parser, pending_input(s), &op, &consumed);
    if (result == MP_NATS_OP) {
        s->input_at += consumed;
        handlers[op.verb](s, &op);
    } else if (result == MP_NATS_MORE) {
        s->is_starved = true;
    } else if (result == MP_NATS_ERROR) {
        fail(s, s->parser.error, &counters->protocol_errors);
    } else {
        begin_close(s, "the client reported an error");
    }
}

/* An idle session owns no buffer. */
static void release_input(struct mp_session *s)
{
    if (s->state == CLOSING || queued(s) == 0) {
        mp_buf_fini(&s->input);
        s->input_at = 0;
    }
}

/* A peer that has left is not forgotten before its last words are heard. */
static void close_when_heard(struct mp_session *s)
{
    if (s->is_ended && s->state != CLOSING && (queued(s) == 0 || s->is_starved))
        begin_close(s, "the client closed the connection");
}

size_t mp_session_work(struct mp_session *s, size_t bytes_max, uint32_t *operations)
{
    size_t used = 0;

    mp_assert(!s->is_working);
    s->is_working = true;
    while (used<bytes_max && * operations> 0 && mp_session_has_input(s)) {
        size_t before = s->input_at;
        work_one(s);
        used += s->input_at - before;
        if (!s->is_starved)
            --*operations;
    }
    s->is_working = false;
    close_when_heard(s);
    release_input(s);
    return used;
}

bool mp_session_has_input(const struct mp_session *s)
{
    return (s->state == NEW || s->state == READY) && !s->is_starved && queued(s) > 0;
}

/* Drops what was consumed when that is cheaper than what it gives: the tail that moves
 * is never longer than the bytes that were consumed before it. */
static void compact(struct mp_session *s)
{
    if (s->input_at < queued(s))
        return;
    mp_buf_consume(&s->input, s->input_at);
    s->input_at = 0;
}

memphis_status mp_session_accepts(const struct mp_session *s, size_t size)
{
    if (s->state == CLOSING || s->is_ended)
        return MEMPHIS_CLOSED;
    return s->is_up && queued(s) + size > INPUT_MAX + s->parser.payload_max
               ? MEMPHIS_FULL
               : MEMPHIS_OK;
}

memphis_status mp_session_feed(struct mp_session *s, const void *bytes, size_t size)
{
    memphis_status st = mp_session_accepts(s, size);

    mp_assert(!s->is_working);
    if (st == MEMPHIS_CLOSED)
        return st;
    if (size == 0) {
        s->is_ended = true;
        close_when_heard(s);
        return MEMPHIS_OK;
    }
    if (!s->is_up && queued(s) + size > MP_AUTH_HELD_INPUT_MAX) {
        fail(s, violation_text, &s->host->counters->protocol_errors);
        return MEMPHIS_CLOSED;
    }
    if (st != MEMPHIS_OK)
        return st;
    compact(s);
    if (!mp_buf_reserve_try(&s->input, size)) {
        drop(s, "out of memory");
        return MEMPHIS_CLOSED;
    }
    mp_buf_put(&s->input, bytes, size);
    s->is_starved = false;
    s->last_input_ms = now_ms(s);
    if (mp_session_has_input(s))
        s->host->wants_turn(s->host->ctx, s);
    return MEMPHIS_OK;
}

/* -- life ------------------------------------------------------------------------- */

struct mp_session *mp_session_new(const struct mp_session_host *h,
                                  const struct mp_session_pipe *p, const char *peer,
                                  const char *user)
{
    struct mp_session *s = mp_alloc(sizeof *s);

    s->host = h;
    s->pipe = *p;
    s->peer = mp_strdup(peer);
    s->client.deliver = deliver;
    s->client.has_room = has_room;
    s->client.may_hear = may_hear;
    h->counters->sessions++;
    s->client.connection_id = s->client.lang = "";
    s->alive.fire = alive_fired;
    s->stall.fire = stall_fired;
    /* No bytes of the peer choose this key, and it needs no randomness of the host: a
     * sid can only collide with others of its own connection. */
    mp_map_seed(&s->subscriptions, (uintptr_t)s, (uintptr_t)s->peer);
    mp_nats_parser_init(&s->parser, h->info->payload_max);
    mp_bus_join(h->bus, &s->client);
    s->last_input_ms = now_ms(s);
    if (user != NULL) {
        s->is_trusted = s->is_up = true;
        s->user = mp_strdup(user);
        s->client.user = s->user;
        mp_sm_move(&s->state, READY, states);
    }
    mp_timer_set(h->timers, &s->alive,
                 s->last_input_ms + (s->is_up                ? FIRST_PING_MS
                                     : h->info->tls_required ? MP_AUTH_TIMEOUT_TLS_MS
                                                             : MP_AUTH_TIMEOUT_MS));
    mp_nats_write_info(&s->output, h->info, s->client.id, peer);
    account(s);
    return s;
}

void mp_session_free(struct mp_session *s)
{
    struct session_sub *sub;

    if (s == NULL)
        return;
    s->host->down(s->host->ctx, s);
    mp_timer_cancel(s->host->timers, &s->alive);
    mp_timer_cancel(s->host->timers, &s->stall);
    mp_bus_leave(s->host->bus, &s->client);
    s->written = s->drained;
    mp_buf_fini(&s->output);
    account(s);
    tell_room(s);
    s->host->counters->sessions--;
    for (uint32_t i = 0; (sub = mp_map_next(&s->subscriptions, &i)) != NULL;)
        mp_free(sub);
    mp_map_fini(&s->subscriptions);
    mp_buf_fini(&s->input);
    free_asked(&s->asked);
    mp_free(s->user);
    mp_free(s->connection_id);
    mp_free(s->lang);
    mp_free(s->why_text);
    mp_free(s->peer);
    mp_grants_free(s->grants);
    mp_free(s);
}

/* Whether the user that the SDK put into its name is the one who logged in: the
 * reference believes the name (sdk-protocol 9 item 1). */
static bool is_named(const struct mp_session *s, const char *user)
{
    return s->is_trusted || s->asked.name_user == NULL ||
           mp_slice_equal_fold(mp_slice_text(s->asked.name_user), mp_slice_text(user));
}

void mp_session_verdict(struct mp_session *s, bool accepted, const char *user)
{
    if (s->state == CLOSING)
        return;
    mp_assert(s->state == CONNECTING);
    if (!accepted || !is_named(s, user)) {
        fail(s, violation_text, &s->host->counters->auth_failures);
        return;
    }
    mp_sm_move(&s->state, READY, states);
    accept_options(s, user);
    s->is_up = true;
    if (!mp_timer_is_set(&s->alive))
        mp_timer_set(s->host->timers, &s->alive, now_ms(s) + FIRST_PING_MS);
    s->host->up(s->host->ctx, s);
    if (s->state == CLOSING)
        return;
    put_ok(s);
    if (!s->is_working && mp_session_has_input(s))
        s->host->wants_turn(s->host->ctx, s);
    if (!s->is_working)
        close_when_heard(s);
}

void mp_session_permit(struct mp_session *s, struct mp_grants *grants)
{
    struct session_sub *sub;

    mp_grants_free(s->grants);
    s->client.grants = s->grants = grants;
    for (uint32_t i = 0;
         s->state != CLOSING && (sub = mp_map_next(&s->subscriptions, &i)) != NULL;) {
        memphis_slice subject = { sub->of_bus->subject, sub->of_bus->subject_size };
        memphis_slice queue = { sub->of_bus->queue, sub->of_bus->queue_size };

        if (mp_grants_subject(grants, false, subject))
            continue;
        refuse_sub(s, subject, queue);
        if (s->state != CLOSING)
            end_sub(s, sub);
    }
}

/* The pipe may drain or feed inside its write, so everything is settled before. */
static void write_output(struct mp_session *s)
{
    struct mp_buf out = s->output;
    memphis_slice bytes = mp_buf_slice(&out);

    if (out.size == 0)
        return;
    s->output = (struct mp_buf){ 0 };
    s->output_hint = out.size < OUTPUT_HINT_MAX ? out.size : OUTPUT_HINT_MAX;
    if (s->written == s->drained)
        s->last_drained_ms = now_ms(s);
    s->written += out.size;
    if (s->state != CLOSING && !mp_timer_is_set(&s->stall))
        mp_timer_set(s->host->timers, &s->stall,
                     s->last_drained_ms + MP_WRITE_STALL_MS);
    s->pipe.write(s->pipe.ctx, &bytes, 1);
    mp_buf_fini(&out);
}

void mp_session_flush(struct mp_session *s)
{
    mp_assert(!s->is_working);
    s->flush_asked = false;
    write_output(s);
    if (s->state == CLOSING && !s->is_closed) {
        s->is_closed = true;
        s->pipe.close(s->pipe.ctx, s->why);
    }
}

void mp_session_drained(struct mp_session *s, size_t bytes)
{
    uint64_t open = s->written - s->drained;

    if (bytes == 0)
        return;
    s->drained += bytes < open ? bytes : open; /* the embedder counts, not we */
    s->last_drained_ms = now_ms(s);
    account(s);
    tell_room(s);
}

struct mp_client *mp_session_client(struct mp_session *s)
{
    return &s->client;
}

void mp_session_set_ctx(struct mp_session *s, void *ctx)
{
    s->ctx = ctx;
}

void *mp_session_ctx(const struct mp_session *s)
{
    return s->ctx;
}

void mp_session_send_info(struct mp_session *s)
{
    uint64_t before = backlog(s);

    if (s->state == CLOSING || !s->options.takes_info || !make_room(s, INFO_MAX))
        return;
    mp_nats_write_info(&s->output, s->host->info, s->client.id, s->peer);
    appended(s, before);
}

void mp_session_close(struct mp_session *s, const char *error)
{
    if (s->state == CLOSING)
        return;
    if (error == NULL) {
        begin_close(s, "closed by the broker");
        return;
    }
    s->why_text = mp_strdup(error);
    close_with(s, s->why_text);
}
