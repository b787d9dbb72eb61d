#include "support/broker.h"

#include "api/api.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/* The peer at the other end of the pipe; its functions run on the core. */
struct peer {
    memphis_session *s;
    pthread_mutex_t lock;
    char output[64 << 10];
    size_t size;
    int closed;
    char why[128];
};

static void on_write(void *ctx, const memphis_slice *v, size_t n)
{
    struct peer *p = ctx;

    pthread_mutex_lock(&p->lock);
    for (size_t i = 0; i < n && p->size + v[i].size < sizeof p->output; i++) {
        memcpy(p->output + p->size, v[i].data, v[i].size);
        p->size += v[i].size;
    }
    pthread_mutex_unlock(&p->lock);
}

static void on_close(void *ctx, const char *why)
{
    struct peer *p = ctx;

    pthread_mutex_lock(&p->lock);
    p->closed++;
    (void)snprintf(p->why, sizeof p->why, "%s", why);
    pthread_mutex_unlock(&p->lock);
}

static struct test_world w;

static void begin(int mode)
{
    test_world_init(&w, mode, false);
    assert_int_equal(test_world_open(&w), MEMPHIS_OK);
}

static memphis_status join_by(struct peer *p, const char *user, uint32_t websocket,
                              uint32_t tls)
{
    memphis_pipe pipe = { .write = on_write, .close = on_close, .ctx = p };
    memphis_session_options o = {
        .peer = "10.1.2.3", .user = user, .websocket = websocket, .tls = tls
    };

    memset(p, 0, sizeof *p);
    pthread_mutex_init(&p->lock, NULL);
    return memphis_session_new(w.b, &pipe, &o, &p->s, &w.err);
}

static memphis_status join(struct peer *p, const char *user)
{
    return join_by(p, user, 0, 0);
}

static bool has(struct peer *p, const char *text)
{
    pthread_mutex_lock(&p->lock);
    p->output[p->size] = 0;
    bool found = strstr(p->output, text) != NULL;
    pthread_mutex_unlock(&p->lock);
    return found;
}

static bool is_closed(struct peer *p)
{
    pthread_mutex_lock(&p->lock);
    bool closed = p->closed > 0;
    pthread_mutex_unlock(&p->lock);
    return closed;
}

static void turn_or_wait(void)
{
    if (w.options.mode == MEMPHIS_MANUAL)
        assert_int_equal(memphis_step(w.b, NULL), MEMPHIS_OK);
    else
        usleep(100);
}

/* Turns, or patience, until the peer has seen that text, or (NULL) was closed. */
static void until(struct peer *p, const char *text)
{
    uint64_t began = api_boot_ms();

    while (text != NULL ? !has(p, text) : !is_closed(p)) {
        if (api_boot_ms() - began > 20000)
            fail_msg("'%s' did not come, but '%s'", text ? text : "the close",
                     p->output);
        turn_or_wait();
    }
}

static memphis_status feed(struct peer *p, const char *text)
{
    return memphis_session_feed(p->s, text, strlen(text));
}

static void leave(struct peer *p)
{
    memphis_session_free(p->s);
    pthread_mutex_destroy(&p->lock);
}

#define CONNECT                                                                        \
    "CONNECT {\"verbose\":false,\"user\":\"%s\",\"pass\":\"%s\",\"headers\":true}\r\n"

static void say_hello(struct peer *p, const char *user, const char *password)
{
    char text[256];

    (void)snprintf(text, sizeof text, CONNECT "PING\r\n", user, password);
    assert_int_equal(feed(p, text), MEMPHIS_OK);
}

/* A peer that logged in. While the first hash of root's password is on its way into the
 * metadata it may be refused: then again. */
static void join_and_log_in(struct peer *p)
{
    for (;;) {
        assert_int_equal(join(p, NULL), MEMPHIS_OK);
        say_hello(p, "root", "memphis");
        while (!has(p, "PONG\r\n") && !is_closed(p))
            turn_or_wait();
        if (!is_closed(p))
            return;
        leave(p);
    }
}

/* -- life -------------------------------------------------------------------------- */

static void a_peer_is_greeted_with_what_the_embedder_said_about_itself(void **state)
{
    (void)state;
    for (int mode = 0; mode < TEST_MODES; mode++) {
        static struct peer p;
        test_world_init(&w, mode, false);
        w.options.name = "node-9";
        w.options.session_port = 1234;
        w.options.session_host = "broker.example";
        w.options.max_payload = 4096;
        assert_int_equal(test_world_open(&w), MEMPHIS_OK);
        assert_int_equal(join(&p, NULL), MEMPHIS_OK);
        until(&p, "\r\n");
        assert_true(has(&p, "INFO {"));
        assert_true(has(&p, "\"server_name\":\"node-9\""));
        assert_true(has(&p, "\"port\":1234"));
        assert_true(has(&p, "broker.example"));
        assert_true(has(&p, "\"max_payload\":4096"));
        assert_true(has(&p, "10.1.2.3"));
        leave(&p);
        test_world_end(&w);
    }
}

/* The mask is zero, so that the text can be read here. */
#define UPGRADE                                                                        \
    "GET / HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\n"                              \
    "Connection: Upgrade\r\n"                                                          \
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"                                  \
    "Sec-WebSocket-Version: 13\r\n\r\n\x82\x86\0\0\0\0PING\r\n"

static void only_a_peer_behind_tls_is_told_so(void **state)
{
    (void)state;
    for (int kind = 0; kind < 4; kind++) {
        static const char hello[] = UPGRADE;
        bool is_ws = kind & 1, is_tls = kind & 2;
        static struct peer p;
        begin(0);
        assert_int_equal(join_by(&p, "root", is_ws, is_tls), MEMPHIS_OK);
        assert_int_equal(memphis_session_feed(p.s, is_ws ? hello : "PING\r\n",
                                              is_ws ? sizeof hello - 1 : 6),
                         MEMPHIS_OK);
        until(&p, "PONG\r\n");
        assert_int_equal(has(&p, "\"tls_required\":true"), is_tls);
        assert_int_equal(has(&p, "\"port\":7770"), is_ws);
        leave(&p);
        test_world_end(&w);
    }
}

static void a_peer_with_the_password_is_served_and_one_without_is_not(void **state)
{
    (void)state;
    for (int mode = 0; mode < TEST_MODES; mode++) {
        static struct peer good, bad;
        memphis_stats stats;
        begin(mode);
        join_and_log_in(&good);
        assert_int_equal(join(&bad, NULL), MEMPHIS_OK);
        say_hello(&bad, "root", "memphis?");
        until(&bad, NULL);
        assert_true(has(&bad, "-ERR"));
        assert_true(bad.why[0] != 0);
        assert_int_equal(bad.closed, 1);
        assert_int_equal(feed(&bad, "PING\r\n"), MEMPHIS_CLOSED);
        memphis_stats_read(w.b, &stats);
        assert_int_equal(stats.sessions, 1);
        assert_true(stats.auth_failures > 0);
        assert_int_equal(good.closed, 0);
        leave(&bad);
        leave(&good);
        assert_int_equal(good.closed, 0); /* no callback for one's own free */
        test_world_end(&w);
    }
}

/* sdk-protocol 2.2: on both paths. */
static void sdks_hear_of_a_station_that_the_host_removes(void **state)
{
    (void)state;
    for (int mode = 0; mode < TEST_MODES; mode++) {
        static struct peer p;
        memphis_station *s;
        begin(mode);
        assert_int_equal(memphis_station_create(w.b, "orders.eu", NULL, &s, NULL),
                         MEMPHIS_OK);
        assert_int_equal(join(&p, "root"), MEMPHIS_OK);
        assert_int_equal(feed(&p, "SUB $memphis_sdk_clients_updates 1\r\nPING\r\n"),
                         MEMPHIS_OK);
        until(&p, "PONG\r\n");
        assert_int_equal(memphis_station_drop(s, NULL), MEMPHIS_OK);
        until(&p, "\"station_name\":\"orders#eu\"");
        assert_true(has(&p, "remove_station"));
        memphis_station_close(s);
        leave(&p);
        test_world_end(&w);
    }
}

static void the_index_of_a_nats_stream_is_counted(void **state)
{
    static struct peer p;
    static const char config[] = "{\"name\":\"N\",\"subjects\":[\"n.>\"]}";
    memphis_stats st;
    char text[256];

    (void)state;
    begin(0);
    assert_int_equal(join(&p, "root"), MEMPHIS_OK);
    (void)snprintf(text, sizeof text,
                   "SUB in 1\r\nPUB $JS.API.STREAM.CREATE.N in %zu\r\n%s\r\n",
                   sizeof config - 1, config);
    assert_int_equal(feed(&p, text), MEMPHIS_OK);
    until(&p, "did_create");
    assert_int_equal(feed(&p, "PUB n.a in 1\r\nx\r\n"), MEMPHIS_OK);
    until(&p, "\"seq\":1");
    while (memphis_stats_read(w.b, &st), st.subject_index_bytes == 0)
        turn_or_wait(); /* they are told at the end of a turn */
    assert_int_equal(st.subject_indexes_dropped, 0);
    leave(&p);
    test_world_end(&w);
}

static void a_trusted_peer_needs_no_password(void **state)
{
    (void)state;
    for (int mode = 0; mode < TEST_MODES; mode++) {
        static struct peer p;
        memphis_stats stats;
        begin(mode);
        assert_int_equal(join(&p, "root"), MEMPHIS_OK);
        assert_int_equal(feed(&p, "SUB a.* 7\r\nPUB a.b 2\r\nhi\r\nPING\r\n"),
                         MEMPHIS_OK);
        until(&p, "PONG\r\n");
        assert_true(has(&p, "MSG a.b 7 2\r\nhi\r\n"));
        memphis_session_drained(p.s, p.size);
        memphis_session_drained(p.s, 1 << 20); /* more than there was: forgiven */
        assert_int_equal(feed(&p, "CONNECT {}\r\nPING\r\n"), MEMPHIS_OK);
        until(&p, "+OK\r\nPONG\r\n"); /* verbose, as no option says otherwise */
        if (w.options.mode == MEMPHIS_MANUAL)
            memphis_step(w.b, NULL);
        memphis_stats_read(w.b, &stats);
        assert_int_equal(stats.sessions, 1);
        assert_int_equal(stats.messages_in, 1);
        assert_int_equal(stats.bytes_in, 2);
        assert_int_equal(feed(&p, "PING\r\n"), MEMPHIS_OK);
        assert_int_equal(memphis_session_feed(p.s, NULL, 0), MEMPHIS_OK); /* its end */
        until(&p, NULL);
        assert_string_equal(p.why, "the client closed the connection");
        leave(&p);
        test_world_end(&w);
    }
}

static void a_peer_may_come_by_websocket_and_be_told_to_go(void **state)
{
    static const char hello[] = UPGRADE;

    (void)state;
    for (int mode = 0; mode < TEST_MODES; mode++) {
        static struct peer p, q;
        test_world_init(&w, mode, false);
        w.options.websocket_port = 1235;
        assert_int_equal(test_world_open(&w), MEMPHIS_OK);
        assert_int_equal(join_by(&p, "root", 1, 0), MEMPHIS_OK);
        assert_int_equal(memphis_session_feed(p.s, hello, sizeof hello - 1),
                         MEMPHIS_OK);
        until(&p, "PONG\r\n");
        assert_true(has(&p, "HTTP/1.1 101 "));
        assert_true(has(&p, "\"port\":1235"));
        memphis_session_drained(p.s, p.size);
        memphis_session_close(p.s);
        memphis_session_close(NULL);
        until(&p, "the server stops");
        until(&p, NULL);
        assert_int_equal(feed(&p, "x"), MEMPHIS_CLOSED);
        memphis_session_close(p.s); /* again */
        leave(&p);
        assert_int_equal(join_by(&q, NULL, 1, 0), MEMPHIS_OK); /* is there at the end */
        assert_int_equal(join(&p, NULL), MEMPHIS_OK);
        memphis_session_close(p.s);
        until(&p, NULL);
        leave(&p);
        memphis_close(w.b);
        w.b = NULL;
        assert_int_equal(feed(&q, "x"), MEMPHIS_CLOSED);
        memphis_session_drained(q.s, 1);
        leave(&q);
        test_world_end(&w);
    }
}

static void CON_24_a_broker_that_goes_says_so(void **state)
{
    (void)state;
    assert_int_equal(memphis_lame_duck(NULL, NULL), MEMPHIS_INVALID);
    for (int mode = 0; mode < TEST_MODES; mode++) {
        static struct peer p, q;
        test_world_init(&w, mode, false);
        assert_int_equal(test_world_open(&w), MEMPHIS_OK);
        assert_int_equal(join(&p, "root"), MEMPHIS_OK);
        assert_int_equal(feed(&p, "CONNECT {\"protocol\":1}\r\nPING\r\n"), MEMPHIS_OK);
        until(&p, "PONG\r\n");
        assert_false(has(&p, "\"ldm\""));
        assert_int_equal(memphis_lame_duck(w.b, &w.err), MEMPHIS_OK);
        until(&p, "\"ldm\":true");
        assert_int_equal(feed(&p, "PING\r\n"), MEMPHIS_OK); /* served as before */
        until(&p, "}\r\nPONG\r\n");
        assert_int_equal(join(&q, "root"), MEMPHIS_OK);
        until(&q, "\"ldm\":true");
        leave(&p);
        leave(&q);
        test_world_end(&w);
    }
}

static void what_breaks_the_protocol_ends_the_session(void **state)
{
    (void)state;
    for (int mode = 0; mode < TEST_MODES; mode++) {
        static struct peer p;
        begin(mode);
        assert_int_equal(join(&p, "root"), MEMPHIS_OK);
        assert_int_equal(feed(&p, "HELO mail.example\r\n"), MEMPHIS_OK);
        until(&p, NULL);
        assert_true(has(&p, "-ERR"));
        assert_int_equal(feed(&p, "PING\r\n"), MEMPHIS_CLOSED);
        memphis_session_drained(p.s, 1);
        leave(&p);
        memphis_session_free(NULL);
        test_world_end(&w);
    }
}

static void too_much_input_is_fed_again_after_a_step(void **state)
{
    static struct peer p;
    static char bytes[256 << 10];
    memphis_status st = MEMPHIS_OK;

    (void)state;
    begin(1);
    assert_int_equal(join(&p, "root"), MEMPHIS_OK);
    for (size_t i = 0; i + 6 <= sizeof bytes; i += 6)
        memcpy(bytes + i, "PING\r\n", 6);
    size_t size = sizeof bytes - sizeof bytes % 6;
    for (int i = 0; i < 1000 && st == MEMPHIS_OK; i++)
        st = memphis_session_feed(p.s, bytes, size);
    assert_int_equal(st, MEMPHIS_FULL);
    for (int i = 0; i < 1000 && st == MEMPHIS_FULL; i++) {
        assert_int_equal(memphis_step(w.b, NULL), MEMPHIS_OK);
        memphis_session_drained(p.s, 1 << 30);
        st = memphis_session_feed(p.s, "PING\r\n", 6);
    }
    assert_int_equal(st, MEMPHIS_OK);
    leave(&p);
    test_world_end(&w);
}

static void a_broker_that_closes_ends_its_sessions(void **state)
{
    (void)state;
    for (int mode = 0; mode < TEST_MODES; mode++) {
        static struct peer peers[3];
        begin(mode);
        for (int i = 0; i < 3; i++)
            assert_int_equal(join(&peers[i], i == 1 ? "root" : NULL), MEMPHIS_OK);
        say_hello(&peers[0], "root", "memphis"); /* a verdict may be out */
        memphis_close(w.b);
        w.b = NULL;
        for (int i = 0; i < 3; i++) {
            assert_int_equal(feed(&peers[i], "PING\r\n"), MEMPHIS_CLOSED);
            memphis_session_drained(peers[i].s, 1);
            leave(&peers[i]);
        }
        test_world_end(&w);
    }
}

static void a_session_may_go_while_its_verdict_is_out(void **state)
{
    (void)state;
    for (int mode = 0; mode < TEST_MODES; mode++) {
        static struct peer p, other;
        begin(mode);
        assert_int_equal(join(&p, NULL), MEMPHIS_OK);
        say_hello(&p, "root", "not this one"); /* takes a while to find out */
        if (w.options.mode == MEMPHIS_MANUAL)
            assert_int_equal(memphis_step(w.b, NULL), MEMPHIS_OK);
        leave(&p);
        join_and_log_in(&other);
        leave(&other);
        test_world_end(&w);
    }
}

/* -- inside the pipe --------------------------------------------------------------- */

static struct {
    struct peer *p;
    int writes;
    memphis_status feed, station, session, step;
} inside;

/* Tells at once what the peer took, answers for it, and tries what cannot be. */
static void on_write_call(void *ctx, const memphis_slice *v, size_t n)
{
    struct peer *p = ctx;
    memphis_pipe pipe = { .write = on_write, .close = on_close, .ctx = p };
    memphis_session *other = NULL;
    memphis_station *s = NULL;

    on_write(ctx, v, n);
    if (!has(p, "PONG\r\n") || inside.writes++ > 0)
        return;
    for (size_t i = 0; i < n; i++)
        memphis_session_drained(p->s, v[i].size);
    inside.feed = feed(p, "PUB from.inside 2\r\nhi\r\n");
    inside.station = memphis_station_create(w.b, "s", NULL, &s, &w.err);
    inside.session = memphis_session_new(w.b, &pipe, NULL, &other, NULL);
    inside.step = memphis_step(w.b, NULL);
    memphis_session_free(p->s); /* nor freed inside of it */
}

static void a_pipe_may_feed_and_drain_and_must_not_wait(void **state)
{
    (void)state;
    for (int mode = 0; mode < TEST_MODES; mode++) {
        static struct peer p;
        memphis_pipe pipe = { .write = on_write_call, .close = on_close, .ctx = &p };
        memphis_session_options o = { .user = "root" };
        begin(mode);
        memset(&p, 0, sizeof p);
        memset(&inside, 0, sizeof inside);
        pthread_mutex_init(&p.lock, NULL);
        alarm(60); /* a core that waits for itself waits for ever */
        assert_int_equal(memphis_session_new(w.b, &pipe, &o, &p.s, NULL), MEMPHIS_OK);
        assert_int_equal(feed(&p, "SUB from.* 7\r\nPING\r\n"), MEMPHIS_OK);
        for (uint64_t next = 0; mode > 0 && !has(&p, "PONG\r\n");) {
            assert_int_equal(memphis_step(w.b, &next), MEMPHIS_OK);
            assert_int_equal(next, 0); /* before it, and with what was fed in it */
        }
        until(&p, "MSG from.inside 7 2\r\nhi\r\n");
        alarm(0);
        assert_int_equal(inside.feed, MEMPHIS_OK);
        assert_int_equal(inside.station, MEMPHIS_MISUSE);
        assert_non_null(strstr(w.err.message, "callback"));
        assert_int_equal(inside.session, MEMPHIS_MISUSE);
        assert_int_equal(inside.step, MEMPHIS_MISUSE);
        leave(&p);
        test_world_end(&w);
    }
}

/* -- refused ----------------------------------------------------------------------- */

static void arguments_are_checked(void **state)
{
    memphis_pipe pipe = { .write = on_write, .close = on_close };
    memphis_session *s = NULL;

    (void)state;
    begin(1);
    for (int i = 0; i < 12; i++) {
        memphis_pipe k = pipe;
        memphis_session_options o = { .peer = "x" };
        if (i < 5)
            o.reserved[i] = 1;
        else if (i == 5 || i == 6)
            k.reserved[i - 5] = 1;
        k.write = i == 7 ? NULL : k.write;
        k.close = i == 8 ? NULL : k.close;
        memphis_status st = memphis_session_new(i == 9 ? NULL : w.b,
                                                i == 10 ? NULL : &k, &o,
                                                i == 11 ? NULL : &s, &w.err);
        assert_int_equal(st, MEMPHIS_INVALID);
        assert_true(w.err.message[0] != 0);
        assert_null(s);
    }
    test_world_end(&w);
}

static void one_session_too_many_is_refused_until_another_goes(void **state)
{
    static struct peer first, second;

    (void)state;
    begin(0);
    assert_int_equal(join(&first, NULL), MEMPHIS_OK);
    assert_int_equal(w.b->sessions_count, 1);
    w.b->sessions_count = 65536; /* as if the others were there */
    assert_int_equal(join(&second, NULL), MEMPHIS_FULL);
    assert_int_equal(w.err.status, MEMPHIS_FULL);
    assert_null(second.s);
    leave(&first);
    assert_int_equal(join(&second, NULL), MEMPHIS_OK);
    leave(&second);
    assert_int_equal(w.b->sessions_count, 65535);
    test_world_end(&w);
}

static void without_memory_there_is_no_session(void **state)
{
    static struct peer p;

    (void)state;
    begin(1);
    for (uint64_t n = 1; n <= 2; n++) { /* the handle, the call */
        test_fail_allocation(n);
        assert_int_equal(join(&p, NULL), MEMPHIS_NOMEM);
        assert_true(test_allocation_failed());
    }
    assert_int_equal(join(&p, "root"), MEMPHIS_OK);
    leave(&p);
    test_world_end(&w);
}

static void a_failure_inside_of_feed_breaks_the_broker_and_not_the_host(void **state)
{
    (void)state;
    for (uint64_t n = 1; n < 30; n++) {
        static struct peer p;
        memphis_status st = MEMPHIS_OK;
        begin(1);
        assert_int_equal(join(&p, "root"), MEMPHIS_OK);
        test_fail_allocation(n);
        st = feed(&p, "SUB a.* 7\r\nPUB a.b 2\r\nhi\r\nPING\r\n");
        if (st == MEMPHIS_OK)
            st = memphis_step(w.b, NULL);
        assert_true(st == MEMPHIS_OK || st == MEMPHIS_BROKEN || st == MEMPHIS_CLOSED);
        assert_int_equal(w.fatal, st == MEMPHIS_BROKEN);
        test_fail_allocation(0);
        if (st == MEMPHIS_BROKEN)
            assert_int_equal(feed(&p, "PING\r\n"), MEMPHIS_BROKEN);
        leave(&p);
        test_world_end_broken(&w);
    }
}

static memphis_status admin(const char *verb, const char *json)
{
    return memphis_admin(w.b, NULL, verb,
                         (memphis_slice){ json, strlen(json) }, NULL, NULL, &w.err);
}

static void make_ann(void)
{
    static const char ann[] =
        "{\"username\":\"ann\",\"password\":\"Secret1!\",\"user_type\":\"application\","
        "\"allow_read_permissions\":[\"orders\"]}";

    assert_int_equal(admin("user_add", ann), MEMPHIS_OK);
}

static void log_in(struct peer *p, const char *user, const char *password)
{
    assert_int_equal(join(p, NULL), MEMPHIS_OK);
    say_hello(p, user, password);
    until(p, "PONG");
    p->size = 0;
}

/* USR-10: a pull that waits gets nothing of what its user may not read any more. */
static void a_pull_ends_with_the_permission(void **state)
{
    static struct peer ann, root;
    memphis_station *s;

    (void)state;
    begin(1);
    make_ann();
    assert_int_equal(memphis_station_create(w.b, "orders", NULL, &s, NULL), MEMPHIS_OK);
    log_in(&ann, "ann", "Secret1!");
    log_in(&root, "root", "memphis");
    feed(&root, "SUB r 1\r\n"
                "PUB $JS.API.CONSUMER.DURABLE.CREATE.orders$1.g r 84\r\n"
                "{\"stream_name\":\"orders$1\",\"config\":{\"durable_name\":\"g\","
                "\"ack_policy\":\"explicit\"}}    \r\n");
    until(&root, "consumer_create_response");
    feed(&ann, "SUB _INBOX.p 1\r\n"
               "PUB $JS.API.CONSUMER.MSG.NEXT.orders$1.g _INBOX.p 11\r\n"
               "{\"batch\":5}\r\n");
    feed(&root, "PUB orders$1.final 5\r\nfirst\r\n");
    until(&ann, "\r\nfirst\r\n");
    assert_int_equal(admin("user_set_permissions",
                           "{\"username\":\"ann\",\"allow_read_permissions\":[\"x\"]}"),
                     MEMPHIS_OK);
    feed(&root, "PUB orders$1.final r 6\r\nsecond\r\nSUB _INBOX.q 2\r\n"
                "PUB $JS.API.CONSUMER.MSG.NEXT.orders$1.g _INBOX.q 11\r\n"
                "{\"batch\":1}\r\n");
    until(&root, "\r\nsecond\r\n");
    assert_false(has(&ann, "second"));
    leave(&ann);
    leave(&root);
    memphis_station_close(s);
    test_world_end(&w);
}

static void USR_07_the_sessions_of_a_removed_user_end(int mode)
{
    struct peer ann, root;
    char connect[160];

    begin(mode);
    make_ann();
    assert_int_equal(join(&ann, NULL), MEMPHIS_OK);
    assert_int_equal(join(&root, NULL), MEMPHIS_OK);
    snprintf(connect, sizeof connect, CONNECT "PING\r\n", "ann", "Secret1!");
    feed(&ann, connect);
    snprintf(connect, sizeof connect, CONNECT "PING\r\n", "root", "memphis");
    feed(&root, connect);
    until(&ann, "PONG");
    until(&root, "PONG");
    feed(&ann, "SUB orders$1.x 1\r\nSUB other$1.x 2\r\nPING\r\n");
    until(&ann, "Permissions Violation");
    assert_int_equal(admin("user_set_permissions", "{\"username\":\"ann\"}"),
                     MEMPHIS_OK);
    feed(&ann, "SUB other$1.x 3\r\n");
    feed(&root, "PUB other$1.x 5\r\nhello\r\n");
    until(&ann, "MSG other$1.x 3 5\r\nhello");
    assert_int_equal(admin("user_remove", "{\"username\":\"ann\"}"), MEMPHIS_OK);
    until(&ann, NULL);
    assert_false(is_closed(&root));
    leave(&ann);
    assert_int_equal(join(&ann, NULL), MEMPHIS_OK);
    snprintf(connect, sizeof connect, CONNECT "PING\r\n", "ann", "Secret1!");
    feed(&ann, connect);
    until(&ann, "Authorization Violation");
    leave(&ann);
    leave(&root);
    test_world_end(&w);
}

static void USR_07_sessions_of_a_removed_user_end_threaded(void **state)
{
    (void)state;
    USR_07_the_sessions_of_a_removed_user_end(MEMPHIS_THREADED);
}

static void USR_07_sessions_of_a_removed_user_end_manual(void **state)
{
    (void)state;
    USR_07_the_sessions_of_a_removed_user_end(MEMPHIS_MANUAL);
}

/* Each may send 64 KiB ahead of its verdict, but not all of them together; who brings
 * little more than a CONNECT gets in all the same. */
static void strangers_together_hold_16_mib(void **state)
{
    enum { MANY = 300, SIZE = 60 << 10 };
    static char bytes[SIZE];
    struct peer *p = calloc(MANY + 1, sizeof *p);
    int taken = 0;
    (void)state;

    begin(MEMPHIS_MANUAL);
    memset(bytes, 'x', sizeof bytes);
    memcpy(bytes, "PUB a 61000\r\n", 13);
    for (int round = 0; round < 2; round++) { /* what they held comes back */
        taken = 0;
        for (int i = 0; i < MANY; i++) {
            assert_int_equal(join(&p[i], NULL), MEMPHIS_OK);
            memphis_status st = memphis_session_feed(p[i].s, bytes, SIZE);
            assert_true(st == MEMPHIS_OK || st == MEMPHIS_CLOSED);
            taken += st == MEMPHIS_OK;
        }
        assert_int_equal(taken, (16 << 20) / SIZE);
        assert_int_equal(join(&p[MANY], NULL), MEMPHIS_OK);
        say_hello(&p[MANY], "root", "memphis");
        until(&p[MANY], "PONG\r\n");
        assert_true(has(&p[MANY - 1], "-ERR 'Authorization Violation'"));
        assert_int_equal(memphis_session_feed(p[MANY].s, bytes, SIZE), MEMPHIS_OK);
        for (int i = 0; i <= MANY; i++)
            leave(&p[i]);
    }
    free(p);
    test_world_end(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        leak_checked(a_peer_is_greeted_with_what_the_embedder_said_about_itself),
        leak_checked(a_peer_with_the_password_is_served_and_one_without_is_not),
        leak_checked(sdks_hear_of_a_station_that_the_host_removes),
        leak_checked(the_index_of_a_nats_stream_is_counted),
        leak_checked(a_trusted_peer_needs_no_password),
        leak_checked(only_a_peer_behind_tls_is_told_so),
        leak_checked(a_peer_may_come_by_websocket_and_be_told_to_go),
        leak_checked(CON_24_a_broker_that_goes_says_so),
        leak_checked(what_breaks_the_protocol_ends_the_session),
        leak_checked(too_much_input_is_fed_again_after_a_step),
        leak_checked(a_broker_that_closes_ends_its_sessions),
        leak_checked(a_session_may_go_while_its_verdict_is_out),
        leak_checked(a_pipe_may_feed_and_drain_and_must_not_wait),
        leak_checked(arguments_are_checked),
        leak_checked(one_session_too_many_is_refused_until_another_goes),
        leak_checked(without_memory_there_is_no_session),
        leak_checked(a_failure_inside_of_feed_breaks_the_broker_and_not_the_host),
        leak_checked(a_pull_ends_with_the_permission),
        leak_checked(USR_07_sessions_of_a_removed_user_end_threaded),
        leak_checked(USR_07_sessions_of_a_removed_user_end_manual),
        leak_checked(strangers_together_hold_16_mib),
    };

    return run_tests("api/api_session", tests);
}
