#include "unit/proto/session_world.h"

#include "proto/ws_pipe.h"

#define OPEN                                                                           \
    "GET / HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"       \
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
#define CONNECT "CONNECT {\"verbose\":false,\"user\":\"root\",\"pass\":\"memphis\"}\r\n"
#define M "\0\0\0\0" /* a mask that changes nothing */

/* The transport behind the frames. */
static struct wire {
    struct mp_ws_pipe *p;
    char out[1 << 20];
    size_t size, writes;
    size_t unread; /* written and not drained */
    bool lazy, closed;
    char why[128];
} wire;

static void wire_write(void *ctx, const memphis_slice *v, size_t n)
{
    struct wire *x = ctx;

    assert_false(x->closed);
    x->writes++;
    for (size_t i = 0; i < n; i++) {
        assert_true(v[i].size < sizeof x->out - x->size);
        memcpy(x->out + x->size, v[i].data, v[i].size);
        x->size += v[i].size;
        x->unread += v[i].size;
    }
    if (!x->lazy) {
        mp_ws_pipe_drained(x->p, x->unread);
        x->unread = 0;
    }
}

static void wire_close(void *ctx, const char *why)
{
    struct wire *x = ctx;

    assert_false(x->closed);
    x->closed = true;
    snprintf(x->why, sizeof x->why, "%s", why);
}

static void begin_as(const char *user)
{
    struct mp_session_pipe below = { wire_write, wire_close, &wire };

    world_new(NULL);
    wire = (struct wire){ 0 };
    w.peers[0] = (struct peer){ .flush = true };
    wire.p = mp_ws_pipe_new(&w.host, &below, "10.0.0.9", user);
    w.peers[0].s = mp_ws_pipe_session(wire.p);
    mp_session_set_ctx(w.peers[0].s, &w.peers[0]);
}

static void end(void)
{
    mp_ws_pipe_free(wire.p);
    assert_int_equal(w.counters.output_bytes, 0);
    w.peers[0] = (struct peer){ 0 };
    world_free(NULL);
}

/* A turn: what was asked for is done. */
static void turn(void)
{
    uint32_t operations = 1000;

    if (w.peers[0].turn)
        mp_session_work(w.peers[0].s, 1 << 20, &operations);
    if (w.peers[0].flush) {
        w.peers[0].flush = false;
        mp_ws_pipe_flush(wire.p);
    }
    w.peers[0].turn = false;
}

static memphis_status hear(memphis_slice bytes)
{
    memphis_status st = mp_ws_pipe_feed(wire.p, bytes.data, bytes.size);

    turn();
    return st;
}

/* One frame with that payload, masked. */
static memphis_status hear_text(const char *text)
{
    struct mp_buf b = { 0 };
    uint8_t header[MP_WS_FRAME_HEADER_MAX];
    size_t n = mp_ws_frame_header(header, MP_WS_TEXT, strlen(text));

    header[1] |= 0x80;
    mp_buf_put(&b, header, n);
    mp_buf_put(&b, "mask", 4);
    for (size_t i = 0; text[i] != 0; i++)
        mp_buf_put_u8(&b, (uint8_t)text[i] ^ (uint8_t) "mask"[i % 4]);
    memphis_status st = hear(mp_buf_slice(&b));
    mp_buf_fini(&b);
    return st;
}

static void forget(void)
{
    wire.size = wire.writes = 0;
}

static void open_and_log_in(void)
{
    hear(MP_STR(OPEN));
    hear_text(CONNECT);
    assert_int_equal(w.peers[0].ups, 1);
    forget();
}

#define ASSERT_OUT(literal)                                                            \
    do {                                                                               \
        assert_int_equal(wire.size, sizeof(literal) - 1);                              \
        assert_memory_equal(wire.out, literal, sizeof(literal) - 1);                   \
    } while (0)

static void advance(uint64_t ms)
{
    w.now += ms;
    mp_timers_advance(&w.timers, w.now);
    turn();
}

static bool out_has(memphis_slice text)
{
    return mp_slice_contains(mp_slice(wire.out, wire.size), text);
}

/* -- the handshake ---------------------------------------------------------------- */

static void info_is_the_first_frame_behind_101(void **state)
{
    (void)state;
    begin_as(NULL);
    turn();
    assert_int_equal(wire.size, 0);
    for (size_t i = 0; i + 1 < sizeof OPEN; i++)
        hear(mp_slice(&OPEN[i], 1));
    assert_true(out_has(MP_STR("HTTP/1.1 101 ")));
    assert_true(out_has(MP_STR("s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n\x82\x7e")));
    assert_true(out_has(MP_STR("INFO {")));
    assert_int_equal(wire.writes, 1);
    end();
}

static void a_login_may_come_with_the_request(void **state)
{
    (void)state;
    begin_as(NULL);
    hear(MP_STR(OPEN "\x82\xba" M CONNECT "\x81\x86" M "PING\r\n"));
    assert_int_equal(w.peers[0].ups, 1);
    assert_true(out_has(MP_STR("INFO {")));
    assert_memory_equal(wire.out + wire.size - 6, "PONG\r\n", 6);
    assert_false(wire.closed);
    end();
}

static void a_bad_request_gets_an_http_answer_and_the_end(void **state)
{
    (void)state;
    begin_as(NULL);
    turn();
    assert_int_equal(hear(MP_STR("GET / HTTP/1.1\r\nHost: h\r\n\r\n")), MEMPHIS_CLOSED);
    assert_memory_equal(wire.out, "HTTP/1.1 426 Upgrade Required\r\n", 31);
    assert_false(out_has(MP_STR("INFO")));
    assert_true(wire.closed);
    assert_int_equal(w.counters.protocol_errors, 1);
    assert_int_equal(hear(MP_STR(OPEN)), MEMPHIS_CLOSED);
    end();
}

static void half_a_request_ends_with_the_time_for_connect(void **state)
{
    (void)state;
    begin_as(NULL);
    hear(MP_STR("GET / HTTP/1.1\r\nHost:"));
    advance(MP_AUTH_TIMEOUT_MS);
    assert_memory_equal(wire.out, "HTTP/1.1 408 Request Timeout\r\n", 30);
    assert_true(wire.closed);
    end();
}

static void half_a_request_of_a_trusted_peer_ends_too(void **state)
{
    (void)state;
    begin_as("root");
    turn();
    hear(MP_STR("GET"));
    for (int i = 0; i < 20 && !wire.closed; i++) {
        advance(1000);
    }
    assert_memory_equal(wire.out, "HTTP/1.1 408 Request Timeout\r\n", 30);
    assert_true(wire.closed);
    end();
}

/* -- frames ----------------------------------------------------------------------- */

static void one_frame_for_all_output_of_a_turn(void **state)
{
    (void)state;
    begin_as(NULL);
    open_and_log_in();
    hear_text("SUB a 1\r\nPUB a 1\r\nx\r\nPUB a 1\r\ny\r\nPING\r\n");
    ASSERT_OUT("\x82\x22MSG a 1 1\r\nx\r\nMSG a 1 1\r\ny\r\nPONG\r\n");
    assert_int_equal(wire.writes, 1);
    end();
}

static void an_operation_may_be_cut_anywhere(void **state)
{
    (void)state;
    begin_as(NULL);
    open_and_log_in();
    hear(MP_STR("\x01\x83" M "PIN\x89\x80" M));
    ASSERT_OUT("\x8a\x00");
    forget();
    hear(MP_STR("\x00\x80" M "\x80\x83" M "G\r\n\x82\x81" M "P"));
    ASSERT_OUT("\x82\x06PONG\r\n");
    end();
}

/* Who does not read gets no second pong; then it is that of the newest ping. */
static void pings_of_a_peer_that_does_not_read_cost_nothing(void **state)
{
    (void)state;
    begin_as(NULL);
    open_and_log_in();
    wire.lazy = true;
    for (int i = 0; i < 1000; i++)
        hear(MP_STR("\x89\x81" M "a"));
    hear(MP_STR("\x89\x81" M "z"));
    ASSERT_OUT("\x8a\x01" "a");
    mp_ws_pipe_drained(wire.p, 2);
    turn();
    assert_int_equal(wire.size, 3);
    mp_ws_pipe_drained(wire.p, 1);
    turn();
    ASSERT_OUT("\x8a\x01" "a\x8a\x01z");
    end();
}

static void a_backlog_is_that_of_the_session(void **state)
{
    (void)state;
    begin_as(NULL);
    open_and_log_in();
    assert_int_equal(w.counters.output_bytes, 0);
    wire.lazy = true;
    hear_text("PING\r\n");
    hear(MP_STR("\x89\x81" M "a"));
    assert_int_equal(wire.size, 8 + 3);
    assert_int_equal(w.counters.output_bytes, 6);
    mp_ws_pipe_drained(wire.p, 5); /* the two headers and the pong count first */
    assert_int_equal(w.counters.output_bytes, 6);
    mp_ws_pipe_drained(wire.p, 6);
    assert_int_equal(w.counters.output_bytes, 0);
    mp_ws_pipe_drained(wire.p, 1000); /* more than there was: forgiven */
    hear_text("PING\r\n");
    assert_int_equal(w.counters.output_bytes, 6);
    end();
}

static void a_peer_that_never_reads_is_closed(void **state)
{
    (void)state;
    begin_as(NULL);
    open_and_log_in();
    wire.lazy = true;
    hear_text("PING\r\n");
    for (int i = 0; i < 12 && !wire.closed; i++) {
        advance(1000);
    }
    assert_true(wire.closed);
    assert_string_equal(wire.why, "slow consumer");
    assert_int_equal(w.counters.slow_consumers, 1);
    end();
}

static void input_that_does_not_fit_is_not_taken(void **state)
{
    struct mp_buf b = { 0 };
    uint64_t fed = 0;

    (void)state;
    begin_as(NULL);
    open_and_log_in();
    hear(MP_STR("\x82\xff\0\0\0\0\x03\0\0\0" M));
    mp_buf_put_text(&b, "PUB a 1048576\r\n"); /* and its end does not come */
    memset(mp_buf_add(&b, 1 << 16), 'x', 1 << 16);
    while (fed < 64 &&
           mp_ws_pipe_feed(wire.p, b.data, b.size) == MEMPHIS_OK)
        fed++;
    assert_int_equal(mp_ws_pipe_feed(wire.p, b.data, b.size), MEMPHIS_FULL);
    assert_int_equal(mp_ws_pipe_feed(wire.p, "PUB", 3), MEMPHIS_OK);
    assert_in_range(fed, 16, 33);
    mp_buf_fini(&b);
    end();
}

/* -- the end ---------------------------------------------------------------------- */

static void a_close_is_echoed_when_the_rest_was_heard(void **state)
{
    (void)state;
    begin_as(NULL);
    open_and_log_in();
    hear(MP_STR("\x82\x86" M "PING\r\n\x88\x85" M "\x03\xe9" "bye"
                "\x82\x86" M "PING\r\n"));
    ASSERT_OUT("\x82\x06PONG\r\n\x88\x02\x03\xe9");
    assert_true(wire.closed);
    assert_string_equal(wire.why, "the client closed the connection");
    end();
    begin_as(NULL);
    open_and_log_in();
    hear(MP_STR("\x88\x80" M));
    ASSERT_OUT("\x88\x00");
    end();
}

static void a_wrong_frame_gets_its_code(void **state)
{
    static const struct {
        const char *bytes;
        size_t size;
        const char *code;
    } frames[] = {
        { "\x82\x01x", 3, "\x03\xea" },
        { "\x82\xff\x7f\xff\xff\xff\xff\xff\xff\xff", 10, "\x03\xf1" },
        { "\x88\x83" M "\x03\xe8\xff", 9, "\x03\xef" },
    };

    (void)state;
    for (size_t i = 0; i < sizeof frames / sizeof frames[0]; i++) {
        begin_as(NULL);
        open_and_log_in();
        assert_int_equal(hear(mp_slice(frames[i].bytes, frames[i].size)),
                         MEMPHIS_CLOSED);
        assert_int_equal((uint8_t)wire.out[0], 0x88);
        assert_memory_equal(wire.out + 2, frames[i].code, 2);
        assert_true(wire.closed);
        assert_int_equal(w.counters.protocol_errors, 1);
        end();
    }
}

static void expect_end(const char *text, const char *error, uint32_t code)
{
    uint8_t bytes[2] = { (uint8_t)(code >> 8), (uint8_t)code };
    memphis_slice found;

    begin_as(NULL);
    hear(MP_STR(OPEN));
    forget();
    hear_text(text);
    assert_true(wire.closed);
    assert_true(out_has(mp_slice_text(error)));
    found = mp_slice(wire.out + (uint8_t)wire.out[1] + 2, 4); /* behind one frame */
    assert_int_equal(*(const uint8_t *)found.data, 0x88);
    assert_memory_equal((const char *)found.data + 2, bytes, 2);
    end();
}

static void the_errors_of_the_protocol_have_their_codes(void **state)
{
    (void)state;
    expect_end("CONNECT {\"user\":\"root\",\"pass\":\"no\"}\r\n",
               "-ERR 'Authorization Violation'\r\n", MP_WS_POLICY);
    expect_end(CONNECT "PUB a 99999999\r\n", "-ERR 'Maximum Payload Violation'\r\n",
               MP_WS_TOO_BIG);
    expect_end(CONNECT "WHAT\r\n", "-ERR 'Unknown Protocol Operation'\r\n",
               MP_WS_PROTOCOL_ERROR);
}

static void no_connect_in_time_is_1008(void **state)
{
    (void)state;
    begin_as(NULL);
    hear(MP_STR(OPEN));
    forget();
    advance(MP_AUTH_TIMEOUT_MS);
    assert_true(out_has(MP_STR("-ERR 'Authentication Timeout'\r\n\x88\x18\x03\xf0")));
    assert_true(wire.closed);
    end();
}

static void a_server_that_goes_says_1001(void **state)
{
    (void)state;
    begin_as(NULL);
    open_and_log_in();
    mp_session_close(w.peers[0].s, NULL);
    turn();
    ASSERT_OUT("\x88\x12\x03\xe9the server stops");
    assert_true(wire.closed);
    end();
    begin_as(NULL);
    mp_session_close(w.peers[0].s, NULL);
    turn();
    assert_memory_equal(wire.out, "HTTP/1.1 503 ", 13);
    end();
}

static void a_peer_that_has_gone_ends_its_session(void **state)
{
    (void)state;
    begin_as(NULL);
    open_and_log_in();
    assert_int_equal(hear(MP_STR("")), MEMPHIS_OK);
    assert_true(wire.closed);
    assert_int_equal(hear(MP_STR("")), MEMPHIS_CLOSED);
    end();
    begin_as(NULL);
    hear(MP_STR("GE"));
    assert_int_equal(hear(MP_STR("")), MEMPHIS_OK);
    assert_true(wire.closed);
    end();
    mp_ws_pipe_free(NULL);
}

static const struct CMUnitTest tests[] = {
    leak_checked(info_is_the_first_frame_behind_101),
    leak_checked(a_login_may_come_with_the_request),
    leak_checked(a_bad_request_gets_an_http_answer_and_the_end),
    leak_checked(half_a_request_ends_with_the_time_for_connect),
    leak_checked(half_a_request_of_a_trusted_peer_ends_too),
    leak_checked(one_frame_for_all_output_of_a_turn),
    leak_checked(an_operation_may_be_cut_anywhere),
    leak_checked(pings_of_a_peer_that_does_not_read_cost_nothing),
    leak_checked(a_backlog_is_that_of_the_session),
    leak_checked(a_peer_that_never_reads_is_closed),
    leak_checked(input_that_does_not_fit_is_not_taken),
    leak_checked(a_close_is_echoed_when_the_rest_was_heard),
    leak_checked(a_wrong_frame_gets_its_code),
    leak_checked(the_errors_of_the_protocol_have_their_codes),
    leak_checked(no_connect_in_time_is_1008),
    leak_checked(a_server_that_goes_says_1001),
    leak_checked(a_peer_that_has_gone_ends_its_session),
};

int main(void)
{
    return run_tests("proto/ws_pipe", tests);
}
