/* What happens to a connection in time and under load. */
#include "unit/proto/session_world.h"

/* -- keep-alive ------------------------------------------------------------------- */

static void silent_peer_is_pinged_and_closed(void **state)
{
    struct peer *p = join(0);

    (void)state;
    feed(p, GO);
    settle();
    pass(2399);
    assert_string_equal(answer(p), "PONG\r\n");
    pass(1);
    assert_string_equal(answer(p), "PONG\r\nPING\r\n");
    pass(120000);
    assert_string_equal(answer(p), "PONG\r\nPING\r\nPING\r\n");
    pass(119999);
    assert_false(p->closed);
    pass(1);
    assert_string_equal(answer(p),
                        "PONG\r\nPING\r\nPING\r\n-ERR 'Stale Connection'\r\n");
    assert_true(p->closed);
    assert_int_equal(w.counters.stale, 1);
}

static void peer_that_answers_stays(void **state)
{
    struct peer *p = join(0);

    (void)state;
    feed(p, GO);
    settle();
    for (int i = 0; i < 10; i++) {
        pass(121000);
        feed(p, "PONG\r\n");
        settle();
    }
    assert_false(p->closed);
}

static void data_postpones_the_ping(void **state)
{
    struct peer *p = join(0);

    (void)state;
    feed(p, GO);
    settle();
    pass(2400);
    feed(p, "PONG\r\n");
    for (int i = 0; i < 10; i++) {
        pass(60000);
        feed(p, "PUB a 0\r\n\r\n");
    }
    assert_string_equal(answer(p), "PONG\r\nPING\r\n");
    pass(119999);
    assert_string_equal(answer(p), "PONG\r\nPING\r\n");
    pass(1);
    assert_string_equal(answer(p), "PONG\r\nPING\r\nPING\r\n");
}

/* -- peers that read slowly ------------------------------------------------------- */

static void slow_reader_is_closed_without_a_word(void **state)
{
    static char message[100100];
    struct peer *from = join(0), *to = join(1);
    int n = snprintf(message, sizeof message, "PUB a 100000\r\n");

    (void)state;
    memset(message + n, 'x', 100000);
    memcpy(message + n + 100000, "\r\n", 3);
    feed(from, GO);
    feed(to, GO "SUB a q 1\r\n");
    settle();
    to->lazy = true;
    for (int i = 0; i < 10; i++) {
        assert_false(to->closed);
        feed(from, message);
        settle();
    }
    size_t read = to->size;
    feed(from, message);
    settle();
    assert_true(to->closed);
    assert_string_equal(to->why, "slow consumer");
    assert_int_equal(to->size, read);
    assert_int_equal(w.counters.slow_consumers, 1);
    assert_false(mp_bus_has_interest(w.bus, MP_STR("a")));
    assert_false(from->closed);
}

static void reader_that_drains_is_never_closed(void **state)
{
    struct peer *p = join(0);

    (void)state;
    feed(p, GO "SUB a 1\r\n");
    settle();
    p->lazy = true;
    for (int i = 0; i < 20; i++) {
        feed(p, "PUB a 1\r\nx\r\n");
        settle();
        pass(9000);
        mp_session_drained(p->s, 1);
        p->unread -= 1;
    }
    assert_false(p->closed);
    pass(10000);
    assert_true(p->closed);
    assert_string_equal(p->why, "slow consumer");
}

static void stalled_reader_is_closed_after_ten_seconds(void **state)
{
    struct peer *p = join(0);

    (void)state;
    feed(p, GO);
    settle();
    pass(30000);
    assert_false(p->closed);
    p->lazy = true;
    feed(p, "PING\r\n");
    settle();
    pass(MP_WRITE_STALL_MS - 1);
    assert_false(p->closed);
    pass(1);
    assert_true(p->closed);
    assert_int_equal(w.counters.slow_consumers, 1);
}

/* -- bounds and ends -------------------------------------------------------------- */

static void feeding_too_much_says_full(void **state)
{
    static char bytes[64 << 10];
    struct peer *p = join(0);
    size_t fed = 0;

    (void)state;
    feed(p, GO);
    settle();
    memset(bytes, 'x', sizeof bytes);
    feed(p, "PUB a 1048576\r\n");
    while (mp_session_feed(p->s, bytes, sizeof bytes) == MEMPHIS_OK)
        fed += sizeof bytes;
    assert_true(fed >= 1 << 20 && fed <= 2 << 20);
    assert_false(p->closed);
    settle(); /* the payload is not followed by CRLF */
    assert_string_equal(answer(p), "PONG\r\n" UNKNOWN);
}

static void work_is_bounded(void **state)
{
    struct peer *p = join(0);
    uint32_t operations = 3;

    (void)state;
    feed(p, GO);
    settle();
    feed(p, "PING\r\nPING\r\nPING\r\nPING\r\nPIN");
    assert_int_equal(mp_session_work(p->s, 1 << 20, &operations), 18);
    assert_int_equal(operations, 0);
    assert_true(mp_session_has_input(p->s));
    operations = 10;
    assert_int_equal(mp_session_work(p->s, 1 << 20, &operations), 6);
    assert_int_equal(operations, 9);
    assert_false(mp_session_has_input(p->s));
    feed(p, "G\r\nPING\r\n");
    assert_int_equal(mp_session_work(p->s, 1, &operations), 6);
    assert_true(mp_session_has_input(p->s));
}

static void idle_session_owns_no_buffers(void **state)
{
    struct peer *p = join(0);

    (void)state;
    feed(p, GO "PUB a 0\r\n\r\n"); /* the bus remembers the subject */
    settle();
    uint64_t before = mp_heap_current()->used_bytes;
    feed(p, "PUB a 100\r\n0123456789012345678901234567890123456789012345678901234567"
            "890123456789012345678901234567890123456789\r\nPING\r\n");
    assert_true(mp_heap_current()->used_bytes > before);
    settle();
    assert_int_equal(mp_heap_current()->used_bytes, before);
}

static enum mp_bus_reach reach(memphis_slice subject, size_t size)
{
    return mp_bus_reach(w.bus, subject, MP_STR(""), size);
}

static void a_reader_without_room_is_asked_and_says_when_he_has_it(void **state)
{
    static char bytes[700000];
    struct mp_message m = { .subject = MP_STR("a"),
                            .payload = mp_slice(bytes, sizeof bytes) };
    struct peer *p = join(0);

    (void)state;
    feed(p, GO "SUB a 1\r\n");
    settle();
    assert_int_equal(reach(MP_STR("b"), 1), MP_BUS_NOBODY);
    assert_int_equal(reach(MP_STR("a"), 100 << 20), MP_BUS_READY);
    p->lazy = true;
    mp_bus_deliver(w.bus, MP_STR("a"), &m);
    settle();
    assert_int_equal(reach(MP_STR("a"), 100), MP_BUS_READY);
    assert_int_equal(reach(MP_STR("a"), sizeof bytes), MP_BUS_BUSY);
    assert_true(w.counters.output_bytes >= sizeof bytes);
    mp_session_drained(p->s, 100000);
    assert_int_equal(w.rooms, 0); /* more than half of what he may have is open */
    mp_session_drained(p->s, 200000);
    assert_int_equal(w.rooms, 1);
    mp_session_drained(p->s, 1000);
    assert_int_equal(w.rooms, 1); /* nobody has asked since */
    assert_int_equal(reach(MP_STR("a"), 600000), MP_BUS_READY);
    leave(p);
    assert_int_equal(w.counters.output_bytes, 0);
}

/* Below output_max for all together each may have that; above it, a part. */
static void many_slow_readers_share_what_one_may_have(void **state)
{
    static char bytes[1000000];
    struct mp_message m = { .payload = mp_slice(bytes, sizeof bytes) };
    struct peer *p[3];

    (void)state;
    w.host.output_max = 4 << 20;
    for (int i = 0; i < 3; i++) {
        char sub[512];
        mp_format(sub, sizeof sub, GO "SUB p%d 1\r\n", i);
        p[i] = join(i);
        feed(p[i], sub);
        settle();
        p[i]->lazy = true;
    }
    for (int i = 0; i < 3; i++)
        mp_bus_deliver(w.bus, MP_STR("p0"), &m);
    mp_bus_deliver(w.bus, MP_STR("p1"), &m);
    settle();
    assert_false(p[0]->closed); /* alone he would have had one more */
    assert_int_equal(reach(MP_STR("p2"), sizeof bytes), MP_BUS_READY);
    mp_bus_deliver(w.bus, MP_STR("p2"), &m);
    settle();
    assert_int_equal(reach(MP_STR("p2"), 100000), MP_BUS_BUSY);
    mp_bus_deliver(w.bus, MP_STR("p0"), &m);
    settle();
    assert_true(p[0]->closed); /* he has most, and gets more that cannot wait */
    assert_false(p[1]->closed);
    w.rooms = 0;
    leave(p[0]);
    assert_int_equal(w.rooms, 1); /* p2 can be asked again */
    assert_int_equal(reach(MP_STR("p2"), 100000), MP_BUS_READY);
}

static void the_rest_of_what_came_is_heard_before_the_end(void **state)
{
    struct peer *p = join(0), *q = join(1);

    (void)state;
    feed(q, GO "SUB a 1\r\n");
    settle();
    feed(p, GO "PUB a 1\r\nx\r\nPUB a 1\r\ny\r\nPUB a 5\r\nha");
    assert_int_equal(mp_session_feed(p->s, "", 0), MEMPHIS_OK);
    assert_int_equal(mp_session_feed(p->s, "z", 1), MEMPHIS_CLOSED);
    assert_false(p->closed);
    settle();
    assert_true(p->closed);
    assert_string_equal(p->why, "the client closed the connection");
    assert_string_equal(answer(q), "PONG\r\nMSG a 1 1\r\nx\r\nMSG a 1 1\r\ny\r\n");
    assert_int_equal(mp_session_feed(q->s, "", 0), MEMPHIS_OK); /* nothing to hear */
    settle();
    assert_true(q->closed);
}

static void the_rest_waits_for_a_verdict_too(void **state)
{
    struct peer *p, *q = join(1);

    (void)state;
    feed(q, GO "SUB a 1\r\n");
    settle();
    w.verdict_later = true;
    p = join(0);
    feed(p, GO "PUB a 1\r\nx\r\n");
    settle();
    assert_int_equal(mp_session_feed(p->s, "", 0), MEMPHIS_OK);
    settle();
    assert_false(p->closed);
    mp_session_verdict(p->s, true, "root");
    settle();
    assert_true(p->closed);
    assert_string_equal(answer(q), "PONG\r\nMSG a 1 1\r\nx\r\n");
}

static void a_large_payload_in_pieces(void **state)
{
    static char bytes[1 << 20];
    struct peer *p = join(0);

    (void)state;
    w.host.output_max = 4 << 20;
    feed(p, GO "SUB a 1\r\n");
    settle();
    memset(bytes, 'z', sizeof bytes);
    feed(p, "PUB a 1048576\r\n");
    for (size_t at = 0; at < sizeof bytes; at += 1024) {
        assert_int_equal(mp_session_feed(p->s, bytes + at, 1024), MEMPHIS_OK);
        settle();
    }
    feed(p, "\r\nPING\r\n");
    settle();
    const char *out = answer(p);
    assert_memory_equal(out, "PONG\r\nMSG a 1 1048576\r\nzzz", 26);
    assert_string_equal(p->out + p->size - 9, "z\r\nPONG\r\n");
}

static void too_many_subscriptions(void **state)
{
    struct peer *p = join(0);
    char line[64];

    (void)state;
    feed(p, GO);
    for (int i = 0; i <= MP_SUBSCRIPTIONS_MAX; i++) {
        snprintf(line, sizeof line, "SUB a.%d %d\r\n", i, i);
        feed(p, line);
        settle();
    }
    assert_string_equal(answer(p), "PONG\r\n-ERR 'maximum subscriptions exceeded'\r\n");
    assert_false(p->closed);
}

static void close_by_the_broker(void **state)
{
    struct peer *p = join(0), *q = join(1);

    (void)state;
    feed(p, GO);
    feed(q, GO);
    settle();
    mp_session_close(p->s, "Authorization Violation");
    mp_session_close(p->s, "again");
    mp_session_close(q->s, NULL);
    assert_false(p->closed); /* never inside the call: the flush does it */
    settle();
    assert_string_equal(answer(p), "PONG\r\n" VIOLATION);
    assert_string_equal(p->why, "Authorization Violation");
    assert_string_equal(answer(q), "PONG\r\n");
    assert_true(p->closed && q->closed);
    mp_session_flush(p->s); /* says nothing twice */
}

static bool end_it(void *ctx, struct mp_client *from, const struct mp_message *m)
{
    struct peer *p = ctx;

    (void)from;
    (void)m;
    mp_session_close(p->s, NULL);
    return true;
}

static void a_service_may_end_the_session_it_serves(void **state)
{
    struct peer *p = join(0);
    struct mp_service *v = mp_bus_serve(w.bus, MP_STR("$memphis_x"), 0, end_it, p);

    (void)state;
    feed(p, GO "SUB $memphis_y 1\r\nPUB $memphis_x in.1 1\r\nx\r\nPING\r\n");
    settle();
    assert_string_equal(answer(p), "PONG\r\n");
    assert_true(p->closed);
    mp_bus_unserve(w.bus, v);
}

static void without_memory_only_that_session_ends(void **state)
{
    struct peer *from = join(0), *to = join(1);
    struct mp_message m = { .subject = MP_STR("a"), .payload = MP_STR("x") };

    (void)state;
    feed(from, GO "PUB a 0\r\n\r\n");
    feed(to, GO "SUB a 1\r\n");
    settle();
    mp_bus_deliver(w.bus, m.subject, &m);
    settle();
    mp_heap_current()->fail_in = 1;
    mp_bus_deliver(w.bus, m.subject, &m);
    assert_true(mp_heap_current()->failed);
    mp_heap_current()->fail_in = 1;
    assert_int_equal(feed(from, "PING\r\n"), MEMPHIS_CLOSED);
    mp_heap_current()->fail_in = 0;
    settle();
    assert_string_equal(answer(to), "PONG\r\nMSG a 1 1\r\nx\r\n");
    assert_true(to->closed && from->closed);
    assert_string_equal(to->why, "out of memory");
}

static void everything_is_given_back(void **state)
{
    struct peer *p = join(0);

    (void)state;
    p->lazy = true;
    feed(p, GO "SUB a 1\r\nSUB b q 2\r\nSUB c.> 3\r\nPUB a 1\r\nx\r\n"
               "PUB a 100\r\nhalf");
    settle();
    mp_session_free(NULL);
    leave(p); /* timers, subscriptions, half an operation and a backlog are there */
    assert_false(mp_bus_has_interest(w.bus, MP_STR("a")));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(silent_peer_is_pinged_and_closed),
        TEST(peer_that_answers_stays),
        TEST(data_postpones_the_ping),
        TEST(slow_reader_is_closed_without_a_word),
        TEST(reader_that_drains_is_never_closed),
        TEST(a_reader_without_room_is_asked_and_says_when_he_has_it),
        TEST(many_slow_readers_share_what_one_may_have),
        TEST(the_rest_of_what_came_is_heard_before_the_end),
        TEST(the_rest_waits_for_a_verdict_too),
        TEST(stalled_reader_is_closed_after_ten_seconds),
        TEST(feeding_too_much_says_full),
        TEST(work_is_bounded),
        TEST(idle_session_owns_no_buffers),
        TEST(a_large_payload_in_pieces),
        TEST(too_many_subscriptions),
        TEST(close_by_the_broker),
        TEST(a_service_may_end_the_session_it_serves),
        TEST(without_memory_only_that_session_ends),
        TEST(everything_is_given_back),
    };

    return run_tests("proto/session limits", tests);
}
