/* What is said on a connection, byte by byte: sdk-protocol section 1. */
#include "unit/proto/session_world.h"

/* -- exchanges -------------------------------------------------------------------- */

/* Plays `in` to a fresh session, cut into pieces of every size: the same answer each
 * time, and the same end. */
static void check_bytes(memphis_slice in, const char *expected, bool closes)
{
    size_t pieces[] = { in.size, 1, 2, 3, 7, 64 };

    for (size_t i = 0; i < sizeof pieces / sizeof pieces[0]; i++) {
        struct peer *p = join(0);

        settle();
        for (size_t at = 0, n; at < in.size; at += n) {
            n = in.size - at < pieces[i] ? in.size - at : pieces[i];
            memphis_status status =
                mp_session_feed(p->s, (const char *)in.data + at, n);
            assert_int_equal(status, p->closed ? MEMPHIS_CLOSED : MEMPHIS_OK);
            settle();
        }
        assert_string_equal(answer(p), expected);
        assert_int_equal(p->closed, closes);
        leave(p);
    }
}

static void stays(const char *in, const char *expected)
{
    check_bytes(mp_slice_text(in), expected, false);
}

static void closes(const char *in, const char *expected)
{
    check_bytes(mp_slice_text(in), expected, true);
}

/* -- CONNECT ---------------------------------------------------------------------- */

static void info_comes_at_the_first_flush(void **state)
{
    struct peer *p = join(0);

    (void)state;
    assert_int_equal(p->size, 0);
    mp_session_flush(p->s);
    assert_memory_equal(p->out, "INFO {\"server_id\":\"ID\",", 23);
    assert_non_null(strstr(p->out, "\"client_ip\":\"10.0.0.9\""));
    assert_string_equal(answer(p), "");
}

static void info_comes_before_everything_else(void **state)
{
    struct peer *p = join(0);

    (void)state;
    feed(p, GO);
    settle();
    assert_string_equal(answer(p), "PONG\r\n");
}

static void connect_of_every_sdk(void **state)
{
    (void)state;
    stays(GO, "PONG\r\n");
    stays("CONNECT {\"protocol\":1,\"version\":\"2.29.3\",\"lang\":\"nats.js\","
          "\"verbose\":false,\"pedantic\":false,\"name\":\"6a0c::root\"," ROOT
          ",\"headers\":true,\"no_responders\":true}\r\nPING\r\n",
          "PONG\r\n");
    stays("CONNECT {\"echo\": true, \"headers\": true, \"lang\": \"python3\", "
          "\"name\": \"6a0c::root\", \"no_responders\": true, \"pass\": \"memphis\", "
          "\"pedantic\": false, \"protocol\": 1, \"user\": \"root$1\", "
          "\"verbose\": false, \"version\": \"2.16.0\"}\r\nPING\r\n",
          "PONG\r\n");
    stays("CONNECT {\"verbose\":true,\"pedantic\":false," ROOT ","
          "\"tls_required\":false,"
          "\"name\":\"6a0c::root\",\"lang\":\".NET\",\"version\":\"1.1.0\","
          "\"protocol\":1,\"echo\":true,\"headers\":true,\"no_responders\":true}\r\n"
          "PING\r\n",
          "+OK\r\nPONG\r\n");
}

static void connect_defaults(void **state)
{
    (void)state;
    stays("CONNECT {" ROOT "}\r\nPING\r\n", "+OK\r\nPONG\r\n");
    stays("CONNECT {\"user\":\"root\",\"pass\":\"memphis\",\"name\":\"x::root\"}\r\n"
          "PING\r\n",
          "+OK\r\nPONG\r\n");
    stays("CONNECT {\"USER\":\"root$1\",\"Pass\":\"memphis\",\"Name\":\"x::root\","
          "\"verbose\":false}\r\nPING\r\n",
          "PONG\r\n");
    closes("CONNECT {" ROOT "}\r\nHPUB a 12 12\r\nNATS/1.0\r\n\r\n\r\n",
           "+OK\r\n" UNKNOWN);
}

static void refused_connects(void **state)
{
    (void)state;
    closes("CONNECT {bad\r\nPING\r\n", UNKNOWN);
    closes("CONNECT\r\nPING\r\n", UNKNOWN);
    closes("CONNECT []\r\nPING\r\n", UNKNOWN);
    closes("CONNECT {\"user\":1}\r\nPING\r\n", UNKNOWN);
    closes("CONNECT {\"verbose\":\"no\"}\r\nPING\r\n", UNKNOWN);
    closes("CONNECT {\"protocol\":\"1\"}\r\nPING\r\n", UNKNOWN);
    closes("CONNECT {\"version\":1}\r\nPING\r\n", UNKNOWN);
    closes("CONNECT {" ROOT ",\"protocol\":2}\r\nPING\r\n",
           "-ERR 'invalid client protocol'\r\n");
    closes("CONNECT {\"protocol\":-1}\r\nPING\r\n",
           "-ERR 'invalid client protocol'\r\n");
    closes("CONNECT {" ROOT ",\"no_responders\":true}\r\nPING\r\n",
           "-ERR 'no responders requires headers support'\r\n");
    closes("CONNECT {}\r\nPING\r\n", VIOLATION);
    closes("CONNECT {\"user\":\"root\"}\r\nPING\r\n", VIOLATION);
    closes("CONNECT {\"auth_token\":\"memphis\"}\r\nPING\r\n", VIOLATION);
    closes("CONNECT {\"user\":\"root$1\",\"pass\":\"nope\"}\r\nPING\r\n", VIOLATION);
    closes("CONNECT {\"user\":\"root$7\",\"pass\":\"memphis\"}\r\nPING\r\n", VIOLATION);
    closes("CONNECT {\"user\":\"ROOT\",\"pass\":\"memphis\"}\r\nPING\r\n", VIOLATION);
    assert_true(w.counters.auth_failures > 0);
    assert_true(w.counters.protocol_errors > 0);
}

static void check_name(const char *name, bool good)
{
    char in[256];

    snprintf(in, sizeof in,
             "CONNECT {" ROOT ",\"verbose\":false,\"name\":\"%s\"}\r\nPING\r\n", name);
    if (good)
        stays(in, "PONG\r\n");
    else
        closes(in, VIOLATION);
}

static void name_must_be_the_one_who_logged_in(void **state)
{
    (void)state;
    check_name("x::root", true);
    check_name("a::ROOT", true);
    check_name("::root", true);
    check_name("plain", true);
    check_name("", true);
    check_name("a:b", true);
    check_name("x::nobody", false);
    check_name("x::", false);
    check_name("a:::root", false);
    check_name("a::b::root", false);
    check_name("a::::root", false);
    check_name("x::root::", false);
    check_name("a::b::NATS CLI Version 0.1", true);
    check_name("a::NATS CLI", true);
}

static void identity_is_set_before_up(void **state)
{
    struct peer *p = join(0);

    (void)state;
    assert_null(mp_session_client(p->s)->user);
    assert_string_equal(mp_session_client(p->s)->connection_id, "");
    feed(p, GO);
    settle();
    assert_int_equal(p->ups, 1);
    assert_string_equal(p->user, "root");
    assert_string_equal(p->connection_id, "6a0c");
    assert_string_equal(p->lang, "go");
}

static void second_connect_replaces_the_options(void **state)
{
    struct peer *p = join(0);

    (void)state;
    feed(p, GO "SUB a 1\r\nPUB a 1\r\nx\r\n");
    settle();
    feed(p, "CONNECT {" ROOT ",\"name\":\"new::root\",\"echo\":false}\r\nPING\r\n"
            "PUB a 1\r\ny\r\n");
    settle();
    assert_string_equal(answer(p), "PONG\r\nMSG a 1 1\r\nx\r\n+OK\r\nPONG\r\n+OK\r\n");
    assert_int_equal(p->ups, 2);
    assert_string_equal(p->connection_id, "new");
    assert_string_equal(p->lang, "");
    feed(p, "CONNECT {\"user\":\"root\",\"pass\":\"bad\"}\r\nPING\r\n");
    settle();
    assert_non_null(strstr(p->out, "+OK\r\n" VIOLATION));
    assert_true(p->closed);
    assert_int_equal(p->ups, 2);
}

static void CON_24_info_again_for_who_takes_it(void **state)
{
    struct peer *new = join(0), *old = join(1), *waits = join(2);

    (void)state;
    feed(new, GO);
    feed(old, "CONNECT {" ROOT ",\"verbose\":false}\r\nPING\r\n");
    settle();
    w.info.lame_duck = true;
    mp_session_send_info(new->s);
    mp_session_send_info(old->s);
    mp_session_send_info(waits->s);
    settle();
    assert_memory_equal(answer(new), "PONG\r\nINFO {", 12);
    assert_non_null(strstr(answer(new), "\"ldm\":true"));
    assert_string_equal(answer(old), "PONG\r\n");
    assert_string_equal(answer(waits), "");
    mp_session_close(new->s, NULL);
    mp_session_send_info(new->s); /* says nothing more */
    settle();
    assert_true(new->closed);
    leave(waits);
    waits = join(2); /* who comes now hears it at once */
    settle();
    assert_non_null(strstr(waits->out, "\"ldm\":true"));
}

static void commands_before_connect(void **state)
{
    (void)state;
    closes("PING\r\n", VIOLATION);
    closes("HELLO\r\n", VIOLATION);
    closes("SUB a 1\r\nCONNECT {}\r\n", VIOLATION);
    closes("\r\n", VIOLATION);
    closes("\x16\x03\x01", VIOLATION);
    closes("GET / HTTP/1.1\r\n", VIOLATION);
    closes("CONNEKT {}\r\n", UNKNOWN);
}

static void no_connect_in_time_behind_a_handshake(void **state)
{
    (void)state;
    w.info.tls_required = true;
    struct peer *p = join(0);
    settle();
    pass(MP_AUTH_TIMEOUT_TLS_MS - 1);
    assert_string_equal(answer(p), "");
    pass(1);
    assert_string_equal(answer(p), "-ERR 'Authentication Timeout'\r\n");
}

static void no_connect_in_time(void **state)
{
    struct peer *p = join(0);

    (void)state;
    settle();
    feed(p, "CONN");
    pass(MP_AUTH_TIMEOUT_MS - 1);
    assert_string_equal(answer(p), "");
    pass(1);
    assert_string_equal(answer(p), "-ERR 'Authentication Timeout'\r\n");
    assert_true(p->closed);
    assert_int_equal(feed(p, "PING\r\n"), MEMPHIS_CLOSED);
}

static void embedder_vouches_for_the_user(void **state)
{
    struct peer *p = join_as(0, "alice");

    (void)state;
    assert_string_equal(mp_session_client(p->s)->user, "alice");
    feed(p, "CONNECT {\"name\":\"c::root\",\"verbose\":false,\"lang\":\"js\"}\r\n"
            "PING\r\n");
    settle();
    assert_string_equal(answer(p), "PONG\r\n");
    assert_int_equal(p->asked, 0);
    assert_int_equal(p->ups, 1);
    assert_string_equal(p->user, "alice");
    assert_string_equal(p->connection_id, "c");
    assert_string_equal(p->lang, "js");
}

/* -- a verdict that comes later --------------------------------------------------- */

static void input_waits_for_the_verdict(void **state)
{
    struct peer *p = join(0);

    (void)state;
    w.verdict_later = true;
    feed(p, GO "SUB a 1\r\nPUB a 1\r\nx\r\n");
    settle();
    feed(p, "PING\r\n");
    settle();
    assert_int_equal(p->asked, 1);
    assert_string_equal(answer(p), "");
    assert_false(mp_session_has_input(p->s));
    assert_false(p->turn);
    mp_session_verdict(p->s, true, "root");
    assert_true(p->turn);
    settle();
    assert_string_equal(answer(p), "PONG\r\nMSG a 1 1\r\nx\r\nPONG\r\n");
}

static void late_refusal_comes_instead_of_pong(void **state)
{
    struct peer *p = join(0);

    (void)state;
    w.verdict_later = true;
    feed(p, GO);
    settle();
    pass(MP_AUTH_TIMEOUT_MS * 3); /* the host takes its time: that is no timeout */
    assert_string_equal(answer(p), "");
    mp_session_verdict(p->s, false, NULL);
    settle();
    assert_string_equal(answer(p), VIOLATION);
    assert_true(p->closed);
}

static void verdict_after_the_end_is_ignored(void **state)
{
    struct peer *p = join(0);

    (void)state;
    w.verdict_later = true;
    feed(p, GO);
    settle();
    mp_session_close(p->s, NULL);
    mp_session_verdict(p->s, true, "root");
    settle();
    assert_string_equal(answer(p), "");
    assert_true(p->closed);
    assert_int_equal(p->ups, 0);
}

static void held_input_is_bounded(void **state)
{
    static char bytes[MP_AUTH_HELD_INPUT_MAX];
    struct peer *p = join(0);

    (void)state;
    w.verdict_later = true;
    feed(p, GO);
    settle();
    memset(bytes, 'x', sizeof bytes);
    assert_int_equal(mp_session_feed(p->s, bytes, sizeof bytes - 6), MEMPHIS_OK);
    assert_int_equal(mp_session_feed(p->s, bytes, 1), MEMPHIS_CLOSED);
    settle();
    assert_string_equal(answer(p), VIOLATION);
    assert_true(p->closed);
}

static void a_session_may_end_while_a_verdict_is_out(void **state)
{
    struct peer *p = join(0);

    (void)state;
    w.verdict_later = true;
    feed(p, GO "SUB a 1\r\n");
    settle();
    leave(p);
}

/* -- publish and subscribe -------------------------------------------------------- */

static void basic_exchanges(void **state)
{
    (void)state;
    stays("CONNECT {" ROOT ",\"name\":\"x::root\",\"verbose\":true}\r\nPING\r\n"
          "SUB a 1\r\nPUB a 1\r\nx\r\nUNSUB 1\r\nPONG\r\n",
          "+OK\r\nPONG\r\n+OK\r\n+OK\r\nMSG a 1 1\r\nx\r\n+OK\r\n");
    stays("connect {" ROOT ",\"verbose\":false}\r\nping\r\nsub a 1\r\npub a 1\r\nx\r\n",
          "PONG\r\nMSG a 1 1\r\nx\r\n");
    stays(GO "SUB a  1\nPUB a  1\nx\r\nUNSUB 1 \nPUB a 1\r\ny\r\n",
          "PONG\r\nMSG a 1 1\r\nx\r\n");
    stays(GO "SUB a 1\r\nPUB a r.x 1\r\nx\r\n", "PONG\r\nMSG a 1 r.x 1\r\nx\r\n");
    stays(GO "SUB a 1\r\nPUB a 0001\r\nx\r\n", "PONG\r\nMSG a 1 1\r\nx\r\n");
    stays(GO "+OK\r\nINFO {}\r\nPONG\r\nPING\r\n", "PONG\r\nPONG\r\n");
    closes(GO "SUB\ta\t\t1\r\nPUB  a \t 1 \r\nx\r\nUNSUB 1 \r\n PING\r\n",
           "PONG\r\nMSG a 1 1\r\nx\r\n" UNKNOWN);
}

static void malformed_lines_say_so_and_close(void **state)
{
    static const char *const bad[] = {
        " PING\r\n", "\r\nPING\r\n", "FOO\r\n", "PUB\r\n", "PUB a\r\n",
        "PUB a b c 1\r\nx\r\n", "PUB a x\r\n", "PUB a -1\r\n", "SUB a\r\n",
        "SUB a b c d\r\n", "UNSUB\r\n", "UNSUB 1 2 3\r\n", "HPUB a 12 10\r\n",
        "HPUB a 12\r\n", "HPUB a 3 x\r\nabcd\r\n", "MSG a 1 1\r\nx\r\n",
        "PUB a 1\r\nxyPING\r\n", "PUB a 1\r\nxyz\r\nPING\r\n", "PUB a 1\r\nx\nPING\r\n",
    };
    char in[512];

    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        snprintf(in, sizeof in, "%s%s", GO, bad[i]);
        closes(in, "PONG\r\n" UNKNOWN);
    }
    closes(GO "-ERR 'x'\r\n", "PONG\r\n");
    closes(GO "PUB a 1048577\r\n", "PONG\r\n-ERR 'Maximum Payload Violation'\r\n");
}

static void long_control_lines(void **state)
{
    static char in[6000], out[256];
    size_t n = sizeof GO - 1;

    (void)state;
    memcpy(in, GO "PUB ", n + 4);
    memset(in + n + 4, 'a', 5000);
    copy(out, sizeof out, "PONG\r\n-ERR 'maximum control line exceeded'\r\n");
    check_bytes(mp_slice(in, n + 5004), out, true);
    memcpy(in + n + 4 + 4088, " 1\r\nx\r\n", 8); /* fits, but no subject is that long */
    check_bytes(mp_slice(in, n + 4 + 4088 + 7),
                "PONG\r\n-ERR 'Invalid Publish Subject'\r\n", false);
}

static void subjects(void **state)
{
    (void)state;
    stays(GO "SUB a..b 1\r\nSUB a.> 2\r\nSUB a.>.b 3\r\nSUB .a 4\r\nSUB a. 5\r\n",
          "PONG\r\n-ERR 'Invalid Subject'\r\n-ERR 'Invalid Subject'\r\n"
          "-ERR 'Invalid Subject'\r\n-ERR 'Invalid Subject'\r\n");
    stays(GO "SUB a>b 1\r\nSUB a*b 2\r\nPUB a>b 1\r\nx\r\nPUB a*b 1\r\ny\r\n"
             "PUB aXb 1\r\nz\r\n",
          "PONG\r\nMSG a>b 1 1\r\nx\r\nMSG a*b 2 1\r\ny\r\n");
    stays(GO "SUB a.b 1\r\nSUB a.> 2\r\nPUB a.* 1\r\nx\r\nPUB a..b 1\r\nx\r\n",
          "PONG\r\nMSG a.* 2 1\r\nx\r\n");
}

static void pedantic_publish_is_told_and_still_routed(void **state)
{
    (void)state;
    stays("CONNECT {" ROOT ",\"verbose\":false}\r\nPING\r\nSUB a.> 1\r\n"
          "PUB a.* 1\r\nx\r\nPUB a..b 1\r\nx\r\nPUB a.b 1\r\ny\r\n",
          "PONG\r\n-ERR 'Invalid Publish Subject'\r\nMSG a.* 1 1\r\nx\r\n"
          "-ERR 'Invalid Publish Subject'\r\nMSG a.b 1 1\r\ny\r\n");
    stays("CONNECT {" ROOT "}\r\nPUB a.* 1\r\nx\r\n",
          "+OK\r\n-ERR 'Invalid Publish Subject'\r\n+OK\r\n");
}

static void unsub_with_a_maximum(void **state)
{
    (void)state;
    stays(GO "SUB a 1\r\nUNSUB 1 x\r\nPUB a 1\r\nx\r\n", "PONG\r\n");
    stays(GO "UNSUB 99\r\nUNSUB 99 5\r\n", "PONG\r\n");
    stays(GO "SUB a 1\r\nUNSUB 1 1\r\nPUB a 1\r\nx\r\nPUB a 1\r\ny\r\n",
          "PONG\r\nMSG a 1 1\r\nx\r\n");
    stays(GO "SUB a 1\r\nPUB a 1\r\nx\r\nPUB a 1\r\ny\r\nUNSUB 1 2\r\nPUB a 1\r\nz\r\n",
          "PONG\r\nMSG a 1 1\r\nx\r\nMSG a 1 1\r\ny\r\n");
    stays(GO "SUB a 1\r\nPUB a 1\r\nx\r\nUNSUB 1 2\r\nPUB a 1\r\ny\r\nPUB a 1\r\nz\r\n"
             "SUB a 1\r\nPUB a 1\r\nw\r\n",
          "PONG\r\nMSG a 1 1\r\nx\r\nMSG a 1 1\r\ny\r\nMSG a 1 1\r\nw\r\n");
}

static void same_sid_twice_keeps_the_first(void **state)
{
    (void)state;
    stays(GO "SUB a 1\r\nSUB b 1\r\nPUB a 1\r\nx\r\nPUB b 1\r\ny\r\n",
          "PONG\r\nMSG a 1 1\r\nx\r\n");
}

static void headers(void **state)
{
    (void)state;
    stays(GO "SUB a 1\r\nHPUB a 12 13\r\nXXXX/1.0\r\n\r\ny\r\n",
          "PONG\r\nHMSG a 1 12 13\r\nXXXX/1.0\r\n\r\ny\r\n");
    stays(GO "SUB a 1\r\nHPUB a 16 17\r\nNATS/1.0\r\nk: v\r\ny\r\n",
          "PONG\r\nHMSG a 1 16 17\r\nNATS/1.0\r\nk: v\r\ny\r\n");
    stays(GO "SUB a 1\r\nHPUB a 0 1\r\ny\r\n", "PONG\r\nMSG a 1 1\r\ny\r\n");
    stays(GO "SUB a 1\r\nHPUB a 3 4\r\nabcd\r\n", "PONG\r\nHMSG a 1 3 4\r\nabcd\r\n");
}

static void headers_are_stripped_for_who_does_not_know_them(void **state)
{
    struct peer *from = join(0), *to = join(1);

    (void)state;
    feed(from, GO);
    feed(to, GO_WITH("") "SUB a 1\r\n");
    settle();
    feed(from, "HPUB a 12 13\r\nNATS/1.0\r\n\r\ny\r\n");
    settle();
    assert_string_equal(answer(to), "PONG\r\nMSG a 1 1\r\ny\r\n");
    assert_int_equal(w.counters.messages_in, 1);
    assert_int_equal(w.counters.bytes_in, 13);
    assert_int_equal(w.counters.messages_out, 1);
    assert_int_equal(w.counters.bytes_out, 1);
}

static void echo(void **state)
{
    (void)state;
    stays(GO_WITH(",\"echo\":false") "SUB a 1\r\nPUB a 1\r\nx\r\n", "PONG\r\n");
}

static void no_responders(void **state)
{
    (void)state;
    stays(GO "SUB in.* 1\r\nPUB nobody in.1 1\r\nx\r\n",
          "PONG\r\nHMSG in.1 1 16 16\r\nNATS/1.0 503\r\n\r\n\r\n");
    stays(GO "SUB in.* 1\r\nHPUB nobody in.1 12 13\r\nNATS/1.0\r\n\r\nx\r\n",
          "PONG\r\nHMSG in.1 1 16 16\r\nNATS/1.0 503\r\n\r\n\r\n");
    stays(GO "PUB nobody in.1 1\r\nx\r\n", "PONG\r\n");
    stays(GO "SUB in.* 1\r\nSUB a.> 2\r\nPUB a. in.1 1\r\nx\r\n",
          "PONG\r\nHMSG in.1 1 16 16\r\nNATS/1.0 503\r\n\r\n\r\n");
    stays(GO "SUB in.* 1\r\nPUB nobody 1\r\nx\r\n", "PONG\r\n");
    stays(GO_WITH(",\"headers\":true") "SUB in.* 1\r\nPUB nobody in.1 1\r\nx\r\n",
          "PONG\r\n");
    stays(GO "SUB in.* 1\r\nSUB a 2\r\nPUB a in.1 1\r\nx\r\n",
          "PONG\r\nMSG a 2 in.1 1\r\nx\r\n");
}

static bool take(void *ctx, struct mp_client *from, const struct mp_message *m)
{
    struct mp_message reply = { .subject = m->reply, .payload = MP_STR("done") };

    (void)ctx;
    (void)from;
    w.published++;
    mp_bus_deliver(w.bus, m->reply, &reply);
    return true;
}

static void a_service_answers_in_the_same_turn(void **state)
{
    struct mp_service *v = mp_bus_serve(w.bus, MP_STR("$memphis_x"), 0, take, NULL);

    (void)state;
    stays(GO "SUB in.* 1\r\nPUB $memphis_x in.1 1\r\nx\r\nPING\r\n",
          "PONG\r\nMSG in.1 1 4\r\ndone\r\nPONG\r\n");
    assert_int_equal(w.published, 6);
    mp_bus_unserve(w.bus, v);
}

static void a_queue_group_chooses_one(void **state)
{
    struct peer *a = join(0), *b = join(1);

    (void)state;
    feed(a, GO "SUB a q 1\r\n");
    feed(b, GO "SUB a q 2\r\n");
    settle();
    for (int i = 0; i < 10; i++)
        feed(a, "PUB a 1\r\nx\r\n");
    settle();
    assert_int_equal(w.counters.messages_out, 10);
    assert_int_equal(a->size + b->size, strlen(a->out) + strlen(b->out));
}

/* -- subjects of the broker ------------------------------------------------------- */

static void check_denied(const char *format, const char *subject, bool denied)
{
    char in[512];
    int n = snprintf(in, sizeof in, "%s", GO);

    snprintf(in + n, sizeof in - (size_t)n, format, subject);
    stays(in, denied ? "PONG\r\n" DENIED : "PONG\r\n");
}

/* A queue's refusal names it. */
static void check_queue_denied(const char *subject)
{
    char in[512], out[512];

    snprintf(in, sizeof in, "%sSUB %s q 1\r\n", GO, subject);
    snprintf(out, sizeof out,
             "PONG\r\n-ERR 'Permissions Violation for Subscription to \"%s\" using "
             "queue \"q\"'\r\n",
             subject);
    stays(in, out);
}

static void requests_cannot_be_listened_to(void **state)
{
    static const char *const subjects_denied[] = {
        "$memphis_station_creations", "$memphis_producer_destructions",
        "$memphis_schema_attachments", "$memphis_schema_detachments",
        "$memphis_pm_acks", "$memphis_nacked_dls", "$memphis_schemaverse_dls",
        "$memphis_notifications", "$JS.API.>", "$JS.API.INFO", "$JS.ACK.x.>",
    };
    static const char *const subjects_free[] = {
        "$memphis_schema_updates_s", "$memphis_sdk_clients_updates",
        "$memphis_dls_s.g", "$memphis_ws_pubs.x", "$memphis_pm_acks_mine",
        "$memphis_functions_updates_s", "memphis_station_creations",
        "$JS.EVENT.>", "$x",
    };

    (void)state;
    for (size_t i = 0; i < sizeof subjects_denied / sizeof subjects_denied[0]; i++) {
        check_denied("SUB %s 1\r\n", subjects_denied[i], true);
        check_queue_denied(subjects_denied[i]);
        check_denied("PUB %s 1\r\nx\r\n", subjects_denied[i], false);
    }
    for (size_t i = 0; i < sizeof subjects_free / sizeof subjects_free[0]; i++)
        check_denied("SUB %s 1\r\n", subjects_free[i], false);
    assert_true(w.counters.denied > 0);
}

static void pushes_cannot_be_forged(void **state)
{
    static const char *const subjects_denied[] = {
        "$memphis_schema_updates_s", "$memphis_functions_updates_s",
        "$memphis_sdk_clients_updates", "$memphis_configurations_updates.init.s",
        "$memphis_dls_s.g", "$memphis_ws_pubs.x.memphis-0",
        "$memphis_connection_status",
        "$memphis_integration_updates", "$memphis_config_reload_signal",
        "$memphis_cache_updates", "$JS.EVENT.ADVISORY.x",
    };

    (void)state;
    for (size_t i = 0; i < sizeof subjects_denied / sizeof subjects_denied[0]; i++) {
        check_denied("PUB %s 1\r\nx\r\n", subjects_denied[i], true);
        check_denied("PUB a %s 1\r\nx\r\n", subjects_denied[i], true);
        check_denied("HPUB %s 12 12\r\nNATS/1.0\r\n\r\n\r\n", subjects_denied[i], true);
    }
    check_denied("PUB %s 1\r\nx\r\n", "$memphis_ws_subs.x", false);
}

static void USR_10_a_restricted_user_uses_his_stations_only(void **state)
{
    static const struct mp_user_row row = { .is_restricted = true,
                                            .allow_read = "in",
                                            .allow_write = "out" };
    (void)state;

    w.row = &row;
    stays(GO "SUB in$1.> 1\r\nSUB _INBOX.a 2\r\n"
             "PUB _INBOX.a 1\r\nx\r\n",
          "PONG\r\nMSG _INBOX.a 2 1\r\nx\r\n");
    check_denied("SUB %s 1\r\n", "other$1.>", true);
    check_denied("SUB %s 1\r\n", ">", true);
    check_denied("SUB %s 1\r\n", "out$1.>", true);
    check_queue_denied("other$1.>");
    check_denied("SUB %s 1\r\n", "_INBOX.>", true);
    check_denied("SUB %s 1\r\n", "_INBOX.*.x", true);
    check_denied("SUB %s 1\r\n", "_INBOX.own.*", false);
    check_denied("PUB %s 1\r\nx\r\n", "out$1.final", false);
    check_denied("PUB %s 1\r\nx\r\n", "in$1.final", true);
    check_denied("PUB %s 1\r\nx\r\n", "$JS.API.STREAM.DELETE.in$1", true);
    /* The answer would go to somebody else. */
    check_denied("PUB %s other.inbox 1\r\nx\r\n", "out$1.final", true);
    check_denied("PUB %s _INBOX.a 1\r\nx\r\n", "out$1.final", false);
    w.row = NULL;
    stays(GO "SUB > 1\r\n", "PONG\r\n");
}

static void USR_10_what_is_taken_away_ends_at_once(void **state)
{
    static const struct mp_user_row less = { .is_restricted = true,
                                             .allow_read = "in" };
    struct peer *p = join(0), *other = join(1);
    (void)state;

    feed(p, GO "SUB in$1.x 1\r\nSUB out$1.x 2\r\nSUB out$1.x q 3\r\n");
    feed(other, GO);
    settle();
    mp_session_permit(p->s, mp_grants_new(&less));
    settle();
    assert_string_equal(answer(p),
                        "PONG\r\n" DENIED
                        "-ERR 'Permissions Violation for Subscription to \"out$1.x\" "
                        "using queue \"q\"'\r\n");
    feed(other, "PUB out$1.x 1\r\na\r\nPUB in$1.x 1\r\nb\r\n");
    settle();
    assert_non_null(strstr(answer(p), "MSG in$1.x 1 1\r\nb\r\n"));
    assert_null(strstr(answer(p), "\r\na\r\n"));
    feed(p, "SUB out$1.x 4\r\n");
    settle();
    mp_session_permit(p->s, NULL);
    feed(p, "SUB out$1.x 5\r\n");
    settle();
    feed(other, "PUB out$1.x 1\r\nc\r\n");
    settle();
    assert_non_null(strstr(answer(p), "MSG out$1.x 5 1\r\nc\r\n"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(info_comes_at_the_first_flush),
        TEST(info_comes_before_everything_else),
        TEST(connect_of_every_sdk),
        TEST(connect_defaults),
        TEST(refused_connects),
        TEST(name_must_be_the_one_who_logged_in),
        TEST(identity_is_set_before_up),
        TEST(second_connect_replaces_the_options),
        TEST(commands_before_connect),
        TEST(no_connect_in_time),
        TEST(no_connect_in_time_behind_a_handshake),
        TEST(embedder_vouches_for_the_user),
        TEST(input_waits_for_the_verdict),
        TEST(late_refusal_comes_instead_of_pong),
        TEST(verdict_after_the_end_is_ignored),
        TEST(held_input_is_bounded),
        TEST(a_session_may_end_while_a_verdict_is_out),
        TEST(basic_exchanges),
        TEST(malformed_lines_say_so_and_close),
        TEST(long_control_lines),
        TEST(subjects),
        TEST(pedantic_publish_is_told_and_still_routed),
        TEST(unsub_with_a_maximum),
        TEST(same_sid_twice_keeps_the_first),
        TEST(headers),
        TEST(headers_are_stripped_for_who_does_not_know_them),
        TEST(echo),
        TEST(no_responders),
        TEST(a_service_answers_in_the_same_turn),
        TEST(a_queue_group_chooses_one),
        TEST(requests_cannot_be_listened_to),
        TEST(pushes_cannot_be_forged),
        TEST(CON_24_info_again_for_who_takes_it),
        TEST(USR_10_a_restricted_user_uses_his_stations_only),
        TEST(USR_10_what_is_taken_away_ends_at_once),
    };

    return run_tests("proto/session", tests);
}
