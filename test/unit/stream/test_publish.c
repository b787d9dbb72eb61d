#include "world.h"

#include "base/limits.h"

#define FINAL "orders$1.final"
#define ID(x) "NATS/1.0\r\nmsg-id: " x "\r\n\r\n"
#define NO_ROOM                                                                        \
    "{\"error\":{\"code\":500,\"err_code\":10047,\"description\":"                     \
    "\"insufficient storage resources available\"},\"stream\":\"orders$1\",\"seq\":0}"

/* The only answer since the last time; NULL: none. */
static const char *answer(struct world *w)
{
    assert_true(w->heard_count <= 1);
    if (w->heard_count == 0)
        return NULL;
    w->heard_count = 0;
    assert_string_equal(w->heard[0].headers, "");
    return w->heard[0].payload;
}

static const char *publish_id(struct world *w, const char *headers)
{
    forget(w);
    publish_with(w, FINAL, "_INBOX.p", headers, "x");
    settle_down(w);
    return answer(w);
}

static void expect_refusal(struct world *w, const char *headers, const char *what)
{
    uint64_t last = last_seq(w);
    const char *a = publish_id(w, headers);

    assert_non_null(a);
    assert_non_null(strstr(a, what));
    assert_int_equal(last_seq(w), last);
    assert_int_equal(w->stream->proposed_last, last);
}

static void PRO_02_a_publish_is_answered_when_it_is_committed_not_before(void **state)
{
    struct world *w = world_new(&ORDERS);

    (void)state;
    publish_with(w, FINAL, "_INBOX.p", "", "x");
    hand_over(w);
    assert_null(answer(w));

    mp_mailbox_drain(&w->box);

    assert_string_equal(answer(w), "{\"stream\":\"orders$1\", \"seq\":1}");
    assert_int_equal(w->host.counters.published, 1);
    world_free(w);
}

static void answers_come_in_the_order_of_the_publishes(void **state)
{
    struct world *w = world_new(&ORDERS);
    char want[64];

    (void)state;
    for (int i = 0; i < 300; i++)
        publish_with(w, FINAL, "_INBOX.p", "", "x");
    publish(w, "nobody waits for this one");
    settle_down(w);

    assert_int_equal(w->heard_count, 300);
    for (int i = 0; i < 300; i++) {
        snprintf(want, sizeof(want), "{\"stream\":\"orders$1\", \"seq\":%d}", i + 1);
        assert_string_equal(w->heard[i].payload, want);
    }
    assert_int_equal(w->stream->waiting.size, 0);
    world_free(w);
}

static void a_subject_of_its_own_is_kept_and_the_usual_one_costs_nothing(void **state)
{
    struct world *w = world_new(&ORDERS);
    struct mp_stored m;

    (void)state;
    publish_with(w, "orders$1.other", "", "", "x");
    publish(w, "y");
    settle_down(w);

    assert_int_equal(mp_log_read(w->log, PID, 1, &m), MEMPHIS_OK);
    assert_true(mp_slice_equal(m.entry.subject, MP_STR("orders$1.other")));
    mp_stored_release(&m);
    assert_int_equal(mp_log_read(w->log, PID, 2, &m), MEMPHIS_OK);
    assert_int_equal(m.entry.subject.size, 0);
    mp_stored_release(&m);
    world_free(w);
}

/* === Idempotency === */

#define DUPLICATE_OF_1 "{\"stream\":\"orders$1\", \"seq\":1,\"duplicate\": true}"

static void STA_21_a_message_id_is_stored_once_within_the_window(void **state)
{
    struct world *w = world_new(&ORDERS);

    (void)state;
    publish_id(w, ID("a"));
    pass(w, 100000);
    assert_string_equal(publish_id(w, ID("a")), DUPLICATE_OF_1);
    assert_string_equal(publish_id(w, ID("b")), "{\"stream\":\"orders$1\", \"seq\":2}");

    pass(w, 20001); /* the duplicate did not prolong the window */

    assert_string_equal(publish_id(w, ID("a")), "{\"stream\":\"orders$1\", \"seq\":3}");
    assert_int_equal(w->host.counters.duplicates, 1);
    world_free(w);
}

static void STA_21_a_duplicate_of_what_is_on_its_way_waits_for_it(void **state)
{
    struct world *w = world_new(&ORDERS);

    (void)state;
    publish_with(w, FINAL, "_INBOX.p", ID("a"), "x");
    publish_with(w, FINAL, "_INBOX.p", ID("a"), "x");
    hand_over(w);
    assert_int_equal(w->heard_count, 0);
    mp_mailbox_drain(&w->box);

    assert_int_equal(w->heard_count, 2);
    assert_string_equal(w->heard[1].payload, DUPLICATE_OF_1);
    assert_int_equal(last_seq(w), 1);
    world_free(w);
}

static void STA_21_ids_are_known_after_a_start(void **state)
{
    struct world *w = world_new(&ORDERS);

    (void)state;
    publish_id(w, ID("a"));
    restart(w);

    assert_string_equal(publish_id(w, ID("a")), DUPLICATE_OF_1);
    assert_string_equal(publish_id(w, ID("b")), "{\"stream\":\"orders$1\", \"seq\":2}");
    world_free(w);
}

static void an_empty_or_oddly_written_id_is_no_id(void **state)
{
    struct world *w = world_new(&ORDERS);

    (void)state;
    publish_id(w, ID(""));
    publish_id(w, ID(""));
    publish_id(w, "NATS/1.0\r\nMSG-ID: a\r\n\r\n");
    publish_id(w, "NATS/1.0\r\nMSG-ID: a\r\n\r\n");
    assert_int_equal(last_seq(w), 4);
    publish_id(w, "NATS/1.0\r\nNats-Msg-Id: n\r\n\r\n"); /* of plain clients */
    publish_id(w, "NATS/1.0\r\nNats-Msg-Id: n\r\n\r\n");
    assert_int_equal(last_seq(w), 5);
    world_free(w);
}

static void an_id_of_255_bytes_is_the_longest(void **state)
{
    struct world *w = world_new(&ORDERS);
    char headers[320], id[260];

    (void)state;
    memset(id, 'i', sizeof(id));
    snprintf(headers, sizeof(headers), "NATS/1.0\r\nmsg-id: %.255s\r\n\r\n", id);
    publish_id(w, headers);
    assert_int_equal(last_seq(w), 1);
    snprintf(headers, sizeof(headers), "NATS/1.0\r\nmsg-id: %.256s\r\n\r\n", id);
    expect_refusal(w, headers, "a message id has at most 255 bytes");
    world_free(w);
}

/* === Refusals === */

static void headers_of_64k_are_refused(void **state)
{
    struct world *w = world_new(&ORDERS);
    char *big = malloc(MP_HEADERS_MAX + 2);

    (void)state;
    memset(big, 'h', MP_HEADERS_MAX + 1);
    big[MP_HEADERS_MAX + 1] = 0;
    expect_refusal(w, big, "\"code\":400,\"err_code\":10097,\"description\":"
                           "\"header size exceeds maximum allowed of 64k\"");
    big[MP_HEADERS_MAX] = 0;
    publish_id(w, big);
    assert_int_equal(last_seq(w), 1);
    free(big);
    world_free(w);
}

static void expectations_of_plain_clients_are_checked(void **state)
{
    struct world *w = world_new(&ORDERS);

    (void)state;
    store(w, 2);
    expect_refusal(w, "NATS/1.0\r\nNats-Expected-Stream: bills$1\r\n\r\n",
                   "\"err_code\":10060,\"description\":\"expected stream does not");
    expect_refusal(w, "NATS/1.0\r\nNats-Expected-Last-Sequence: 1\r\n\r\n",
                   "\"err_code\":10071,\"description\":\"wrong last sequence: 2\"");
    expect_refusal(w, "NATS/1.0\r\nNats-Rollup: all\r\n\r\n", "\"err_code\":10111");
    publish_id(w, "NATS/1.0\r\nNats-Expected-Stream: orders$1\r\n"
                  "Nats-Expected-Last-Sequence: 2\r\n\r\n");
    assert_int_equal(last_seq(w), 3);
    assert_int_equal(w->host.counters.refused, 3);
    world_free(w);
}

/* === In process === */

struct receipts {
    struct mp_receipt last;
    int count;
};

static void on_receipt(void *ctx, const struct mp_receipt *r)
{
    struct receipts *all = ctx;

    all->last = *r;
    all->count++;
}

static void produce(struct world *w, const char *id, struct receipts *r)
{
    mp_stream_produce(w->stream, MP_STR(""), MP_STR("x"), mp_slice_text(id),
                      r != NULL ? on_receipt : NULL, r);
}

static void no_memory_is_a_refusal_and_leaves_nothing_behind(void **state)
{
    struct world *w = world_new(&ORDERS);
    struct receipts r = { .count = 0 };
    char *payload = calloc(1, 1 << 20); /* needs a chunk of its own */

    (void)state;
    mp_heap_current()->fail_in = 1;
    mp_stream_produce(w->stream, MP_STR(""), mp_slice(payload, 1 << 20), MP_STR("a"),
                      on_receipt, &r);
    assert_true(mp_heap_current()->failed);
    mp_heap_current()->failed = false;

    assert_int_equal(r.count, 1);
    assert_int_equal(r.last.status, MEMPHIS_NOMEM);
    assert_int_equal(w->stream->proposed_last, 0);
    publish_id(w, ID("a"));
    assert_int_equal(last_seq(w), 1);
    free(payload);
    world_free(w);
}

static void a_produce_from_inside_is_called_back(void **state)
{
    struct world *w = world_new(&ORDERS);
    struct receipts r = { .count = 0 };

    (void)state;
    produce(w, "a", &r);
    produce(w, "", NULL);
    assert_int_equal(r.count, 0);
    settle_down(w);
    assert_int_equal(r.count, 1);
    assert_int_equal(r.last.seq, 1);
    assert_false(r.last.duplicate);

    produce(w, "a", &r); /* at once: the first one is committed */

    assert_int_equal(r.count, 2);
    assert_int_equal(r.last.seq, 1);
    assert_true(r.last.duplicate);
    assert_int_equal(last_seq(w), 2);
    world_free(w);
}

static void who_waits_inside_hears_that_the_stream_is_gone(void **state)
{
    (void)state;
    for (int dropped = 0; dropped < 2; dropped++) {
        struct world *w = world_new(&ORDERS);
        struct receipts r = { .count = 0 };

        produce(w, "", &r);
        publish_with(w, FINAL, "_INBOX.p", "", "x");
        mp_stream_free(w->stream, dropped);
        w->stream = NULL;

        assert_int_equal(r.count, 1);
        assert_int_equal(r.last.status, dropped ? MEMPHIS_NOT_FOUND : MEMPHIS_CLOSED);
        assert_int_equal(w->heard_count, 0); /* a client on the wire hears nothing */
        settle_down(w);
        world_free(w);
    }
}

/* === The log fails === */

/* A full disk: the log's file is its last one. */
static struct world *full_world(void)
{
    struct world *w = calloc(1, sizeof(*w));

    w->disk = mp_disk_new(1);
    w->file_size = 256 << 10;
    start(w);
    open_stream(w, &ORDERS);
    mp_disk_limit(w->disk, mp_disk_used(w->disk));
    return w;
}

/* One batch, larger than what is left of the file, handed over before the log knows
 * that there is no further file. */
static void publish_too_much(struct world *w)
{
    static char payload[64 << 10];

    memset(payload, 'x', sizeof(payload) - 1);
    publish_with(w, FINAL, "_INBOX.first", ID("a"), "x");
    publish_with(w, FINAL, "_INBOX.again", ID("a"), "x");
    for (int i = 0; i < 8; i++)
        publish_with(w, FINAL, "_INBOX.more", "", payload);
}

static void when_the_disk_is_full_who_waits_is_refused_and_forgotten(void **state)
{
    struct world *w = full_world();
    struct receipts r = { .count = 0 };

    (void)state;
    publish_too_much(w);
    produce(w, "", &r);
    settle_down(w);

    assert_true(w->failures > 0);
    assert_false(w->is_broken);
    assert_int_equal(w->heard_count, 10);
    for (int i = 0; i < 10; i++)
        assert_string_equal(w->heard[i].payload, NO_ROOM);
    assert_int_equal(r.count, 1);
    assert_int_equal(r.last.status, MEMPHIS_NO_SPACE);
    assert_int_equal(w->stream->proposed_last, 0);
    assert_int_equal(w->host.counters.published, 0);
    expect_refusal(w, "", "insufficient storage");

    mp_disk_limit(w->disk, UINT64_MAX); /* somebody has tidied up */
    pass(w, 3000);

    assert_string_equal(publish_id(w, ID("a")), "{\"stream\":\"orders$1\", \"seq\":1}");
    restart(w);
    assert_int_equal(last_seq(w), 1);
    world_free(w);
}

static void after_an_io_error_nobody_is_answered(void **state)
{
    struct world *w = world_new(&ORDERS);

    (void)state;
    mp_disk_fail(w->disk, MP_DISK_WRITE, 1, MEMPHIS_IO, true);
    publish_with(w, FINAL, "_INBOX.p", ID("a"), "x");
    settle_down(w);
    assert_true(w->is_broken);
    assert_true(w->failures > 0);

    publish_with(w, FINAL, "_INBOX.p", "", "x");
    turn(w);

    assert_int_equal(w->heard_count, 0);
    mp_disk_heal(w->disk);
    world_free(w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        leak_checked(PRO_02_a_publish_is_answered_when_it_is_committed_not_before),
        leak_checked(answers_come_in_the_order_of_the_publishes),
        leak_checked(a_subject_of_its_own_is_kept_and_the_usual_one_costs_nothing),
        leak_checked(STA_21_a_message_id_is_stored_once_within_the_window),
        leak_checked(STA_21_a_duplicate_of_what_is_on_its_way_waits_for_it),
        leak_checked(STA_21_ids_are_known_after_a_start),
        leak_checked(an_empty_or_oddly_written_id_is_no_id),
        leak_checked(an_id_of_255_bytes_is_the_longest),
        leak_checked(headers_of_64k_are_refused),
        leak_checked(expectations_of_plain_clients_are_checked),
        leak_checked(no_memory_is_a_refusal_and_leaves_nothing_behind),
        leak_checked(a_produce_from_inside_is_called_back),
        leak_checked(who_waits_inside_hears_that_the_stream_is_gone),
        leak_checked(when_the_disk_is_full_who_waits_is_refused_and_forgotten),
        leak_checked(after_an_io_error_nobody_is_answered),
    };

    return run_tests("stream/publish", tests);
}
