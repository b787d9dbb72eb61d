/* A world for session tests: virtual time, one bus, a host that knows "root", and peers
 * that read at once or lazily. Each test program includes it once. */
#ifndef TEST_UNIT_PROTO_SESSION_WORLD_H
#define TEST_UNIT_PROTO_SESSION_WORLD_H

#include "support/test.h"

#include "base/limits.h"
#include "base/str.h"
#include "broker/permission.h"
#include "proto/session.h"

#include <stdio.h>

/* -- a world with virtual time: one bus, a host, and peers that read or do not ---- */

enum { PEERS = 3, OUTPUT_MAX = 4 << 20 };

struct peer {
    struct mp_session *s;
    char *out;                  /* what the peer has read */
    size_t size, capacity;
    size_t unread;              /* written and not drained */
    bool lazy;                  /* drains nothing by itself */
    bool turn, flush, closed, was_down;
    uint32_t ups, asked;
    char why[128], user[64], connection_id[64], lang[64];
};

static struct world {
    struct mp_timers timers;
    struct mp_bus *bus;
    struct mp_session_counters counters;
    struct mp_session_host host;
    struct mp_server_info info;
    uint64_t now;
    bool verdict_later;
    struct peer peers[PEERS];
    const struct mp_user_row *row; /* whose permissions hold; NULL: all */
    uint32_t published;         /* to the service */
    uint32_t rooms;             /* how often a client said that it has room again */
} w;

static struct peer *peer_of(const struct mp_session *s)
{
    return mp_session_ctx(s);
}

static bool credentials_are_good(const struct mp_credentials *c)
{
    return (mp_slice_equal(c->user, MP_STR("root$1")) ||
            mp_slice_equal(c->user, MP_STR("root"))) &&
           mp_slice_equal(c->password, MP_STR("memphis"));
}

static void authenticate(void *ctx, struct mp_session *s,
                         const struct mp_credentials *c)
{
    (void)ctx;
    peer_of(s)->asked++;
    if (!w.verdict_later)
        mp_session_verdict(s, credentials_are_good(c), "root");
}

static void copy(char *out, size_t size, const char *text)
{
    snprintf(out, size, "%s", text);
}

static void went_up(void *ctx, struct mp_session *s)
{
    struct peer *p = peer_of(s);
    const struct mp_client *c = mp_session_client(s);

    (void)ctx;
    if (w.row != NULL)
        mp_session_permit(s, mp_grants_new(w.row));
    p->ups++;
    copy(p->user, sizeof p->user, c->user);
    copy(p->connection_id, sizeof p->connection_id, c->connection_id);
    copy(p->lang, sizeof p->lang, c->lang);
}

static void went_down(void *ctx, struct mp_session *s)
{
    (void)ctx;
    peer_of(s)->was_down = true;
}

static void wants_turn(void *ctx, struct mp_session *s)
{
    (void)ctx;
    peer_of(s)->turn = true;
}

static void wants_flush(void *ctx, struct mp_session *s)
{
    (void)ctx;
    peer_of(s)->flush = true;
}

static void has_room(void *ctx)
{
    (void)ctx;
    w.rooms++;
}

static uint64_t now_ms(void *ctx)
{
    (void)ctx;
    return w.now;
}

static void pipe_write(void *ctx, const memphis_slice *v, size_t n)
{
    struct peer *p = ctx;

    assert_false(p->closed);
    for (size_t i = 0; i < n; i++) {
        assert_true(p->size + v[i].size < p->capacity);
        memcpy(p->out + p->size, v[i].data, v[i].size);
        p->size += v[i].size;
        p->out[p->size] = 0;
        p->unread += v[i].size;
    }
    if (!p->lazy) {
        mp_session_drained(p->s, p->unread);
        p->unread = 0;
    }
}

static void pipe_close(void *ctx, const char *why)
{
    struct peer *p = ctx;

    assert_false(p->closed);
    p->closed = true;
    copy(p->why, sizeof p->why, why);
}

static inline struct peer *join_as(int i, const char *user)
{
    struct peer *p = &w.peers[i];
    struct mp_session_pipe pipe = { pipe_write, pipe_close, p };

    *p = (struct peer){ .capacity = OUTPUT_MAX };
    p->out = mp_alloc_try(p->capacity);
    p->out[0] = 0;
    p->s = mp_session_new(&w.host, &pipe, "10.0.0.9", user);
    mp_session_set_ctx(p->s, p);
    p->flush = true;
    return p;
}

static inline struct peer *join(int i)
{
    return join_as(i, NULL);
}

static void leave(struct peer *p)
{
    if (p->s == NULL)
        return;
    p->was_down = false;
    mp_session_free(p->s);
    assert_true(p->was_down);
    mp_free(p->out);
    *p = (struct peer){ 0 };
}

/* Turns until nothing is left to do. */
static void settle(void)
{
    for (bool busy = true; busy;) {
        busy = false;
        for (int i = 0; i < PEERS; i++) {
            struct peer *p = &w.peers[i];
            uint32_t operations = 1000;

            if (p->s != NULL && p->turn) {
                p->turn = false;
                mp_session_work(p->s, 64 << 10, &operations);
                p->turn = mp_session_has_input(p->s);
                busy = true;
            }
        }
        for (int i = 0; i < PEERS; i++) {
            struct peer *p = &w.peers[i];

            if (p->s != NULL && p->flush) {
                p->flush = false;
                mp_session_flush(p->s);
                busy = true;
            }
        }
    }
}

static inline void pass(uint64_t ms)
{
    for (uint64_t end = w.now + ms; w.now < end;) {
        uint64_t next = mp_timers_next(&w.timers);

        w.now = next > w.now && next < end ? next : w.now + 1;
        mp_timers_advance(&w.timers, w.now);
        settle();
    }
}

static inline memphis_status feed(struct peer *p, const char *text)
{
    return mp_session_feed(p->s, text, strlen(text));
}

static int world_new(void **state)
{
    (void)state;
    memset(&w, 0, sizeof w);
    w.now = 1000;
    mp_timers_init(&w.timers, w.now);
    w.bus = mp_bus_new(7);
    w.info = (struct mp_server_info){
        .server_id = "ID", .server_name = "memphis-0", .host = "0.0.0.0", .port = 6666,
        .payload_max = MP_PAYLOAD_MAX_DEFAULT, .auth_required = true,
    };
    w.host = (struct mp_session_host){
        .bus = w.bus, .timers = &w.timers, .info = &w.info, .counters = &w.counters,
        .output_max = 1 << 20, .authenticate = authenticate, .up = went_up,
        .down = went_down, .wants_turn = wants_turn, .wants_flush = wants_flush,
        .has_room = has_room,
        .now_ms = now_ms,
    };
    return 0;
}

static int world_free(void **state)
{
    for (int i = 0; i < PEERS; i++)
        leave(&w.peers[i]);
    assert_int_equal(w.timers.count, 0);
    mp_bus_free(w.bus);
    return test_no_leaks(state);
}

/* -- exchanges -------------------------------------------------------------------- */

#define GO_WITH(more)                                                                  \
    "CONNECT {\"verbose\":false,\"pedantic\":false,\"user\":\"root$1\","               \
    "\"tls_required\":false,\"name\":\"6a0c::root\",\"lang\":\"go\","                  \
    "\"version\":\"1.31.0\",\"protocol\":1,\"pass\":\"memphis\"" more "}\r\nPING\r\n"
#define GO GO_WITH(",\"echo\":true,\"headers\":true,\"no_responders\":true")
#define ROOT "\"user\":\"root$1\",\"pass\":\"memphis\""

#define VIOLATION "-ERR 'Authorization Violation'\r\n"
#define UNKNOWN "-ERR 'Unknown Protocol Operation'\r\n"
#define DENIED                                                                         \
    "-ERR 'Permissions Violation - cant access the requested station, "                \
    "please contact your Memphis administrator'\r\n"

/* What the peer read behind the INFO line. */
static inline const char *answer(const struct peer *p)
{
    const char *end = strstr(p->out, "\r\n");

    assert_non_null(end);
    assert_memory_equal(p->out, "INFO {", 6);
    return end + 2;
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, world_new, world_free)

#endif
