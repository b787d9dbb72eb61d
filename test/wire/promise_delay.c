/* Every sync takes 300 ms longer: whoever is answered earlier was lied to. */
#include "wire/promise.h"

#include "wire/client.h"
#include "wire/report.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { EACH = 56, STATION_PARTITIONS = 3, BURST_MAX = 8, PAUSE_MAX_MS = 70 };

/* How the answer says yes. */
enum yes { SEQUENCE, EMPTY, NO_ERROR_TEXT, NO_ERROR_OBJECT };

/* A kind of request. `twin`: each is sent twice, and the second, which finds the first
 * one's work done but not yet on disk, may not be answered before that is. `%u` in the
 * texts is its number. */
struct kind {
    const char *name, *subject, *body, *headers;
    enum yes yes;
    bool twin, settles;
};

#define CLIENT_TAIL "\"connection_id\":\"7e57\",\"username\":\"root\"}"
#define PRODUCER_TAIL \
    "\"producer_type\":\"application\",\"req_version\":4,\"app_id\":\"a\"," CLIENT_TAIL
#define CONSUMER_TAIL                                                       \
    "\"consumer_type\":\"application\",\"max_ack_time_ms\":30000,"          \
    "\"max_msg_deliveries\":10,\"start_consume_from_sequence\":1,"          \
    "\"last_messages\":-1,\"req_version\":4,\"app_id\":\"a\"," CLIENT_TAIL

static const struct kind kinds[] = {
    { "publish", "pp$2.final", "message %u", NULL, SEQUENCE, false, false },
    { "publish with an id", "pp$1.final", "message %u", "msg-id: m%u\r\n", SEQUENCE,
      true, false },
    { "ack with reply", NULL, "+ACK", NULL, EMPTY, true, true },
    { "term with reply", NULL, "+TERM", NULL, EMPTY, false, true },
    { "nak with reply", NULL, "-NAK {\"delay\":90000000000}", NULL, EMPTY, false,
      true },
    { "station creation", "$memphis_station_creations",
      "{\"name\":\"new%u\",\"partitions_number\":3,\"username\":\"root\"}", NULL, EMPTY,
      true, false },
    { "station removal", "$memphis_station_destructions",
      "{\"station_name\":\"old%u\",\"username\":\"root\"}", NULL, EMPTY, false, false },
    { "producer creation", "$memphis_producer_creations",
      "{\"name\":\"p%u\",\"station_name\":\"pp\"," PRODUCER_TAIL, NULL, NO_ERROR_TEXT,
      false, false },
    { "producer and station creation", "$memphis_producer_creations",
      "{\"name\":\"p%u\",\"station_name\":\"auto%u\"," PRODUCER_TAIL, NULL,
      NO_ERROR_TEXT, true, false },
    { "producer removal", "$memphis_producer_destructions",
      "{\"name\":\"oldp%u\",\"station_name\":\"pp\",\"req_version\":1," CLIENT_TAIL,
      NULL, EMPTY, false, false },
    { "consumer creation", "$memphis_consumer_creations",
      "{\"name\":\"c%u\",\"consumers_group\":\"g%u\",\"station_name\":"
      "\"pp\"," CONSUMER_TAIL,
      NULL, NO_ERROR_TEXT, true, false },
    { "consumer removal", "$memphis_consumer_destructions",
      "{\"name\":\"oldc%u\",\"station_name\":\"pp\",\"req_version\":1," CLIENT_TAIL,
      NULL, EMPTY, false, false },
    { "durable creation", "$JS.API.CONSUMER.DURABLE.CREATE.pp$1.d%u",
      "{\"stream_name\":\"pp$1\",\"config\":{\"durable_name\":\"d%u\","
      "\"ack_policy\":\"explicit\"}}",
      NULL, NO_ERROR_OBJECT, true, false },
    { "durable removal", "$JS.API.CONSUMER.DELETE.pp$3.oldc2%u", "", NULL,
      NO_ERROR_OBJECT, false, false },
};

enum { KINDS = sizeof(kinds) / sizeof(kinds[0]), TOTAL = KINDS * EACH };

struct request {
    uint8_t kind;
    uint32_t number;
    bool is_fine, is_covered;
    uint64_t sent_ns, got_ns; /* a twin's sent_ns is that of the first */
};

struct delay_test {
    struct client *client;
    struct sync_control *control;
    struct request requests[TOTAL];
    char acks[KINDS * EACH][160]; /* ack subjects */
    size_t acks_count, acks_used, answered;
    struct dice dice;
};

/* === Given === */

static void keep_ack(void *ctx, uint32_t partition, uint64_t seq, uint32_t deliveries,
                     const struct client_message *m)
{
    struct delay_test *t = ctx;

    (void)partition, (void)seq, (void)deliveries;
    if (t->acks_count < TOTAL)
        snprintf(t->acks[t->acks_count++], sizeof(t->acks[0]), "%.*s",
                 (int)m->reply.size, (const char *)m->reply.data);
}

/* A station with messages that a group has not acknowledged, and things to remove. */
static bool prepare(struct delay_test *t)
{
    struct client *c = t->client;
    bool ok = client_create_station(c, "pp", STATION_PARTITIONS) &&
              client_create_consumer(c, "pp", "work", 120000);
    char name[32];

    for (int i = 0; i < 3 * EACH; i++)
        client_publish(c, "pp$3.final", NULL, NULL, "to settle", 9);
    for (int i = 0; ok && i < EACH; i++) {
        snprintf(name, sizeof(name), "old%d", i);
        ok = client_create_station(c, name, 1);
        snprintf(name, sizeof(name), "oldp%d", i);
        ok = ok && client_create_producer(c, "pp", name);
        snprintf(name, sizeof(name), "oldc%d", i);
        ok = ok && client_create_consumer(c, "pp", name, 30000);
        snprintf(name, sizeof(name), "oldc2%d", i);
        ok = ok && client_create_consumer(c, "pp", name, 30000);
    }
    ok = ok && client_drain(c, "pp", 3, "work", keep_ack, t);
    return ok && t->acks_count == 3 * EACH;
}

/* All requests, in an order by lot; twins stay together. */
static void shuffle(struct delay_test *t)
{
    uint8_t order[TOTAL];
    uint32_t counts[KINDS] = { 0 };
    size_t n = 0, at = 0;

    for (uint8_t k = 0; k < KINDS; k++)
        for (int i = 0; i < EACH; i += kinds[k].twin ? 2 : 1)
            order[n++] = k;
    for (size_t i = n - 1; i > 0; i--) {
        size_t j = dice_roll(&t->dice, (uint32_t)i + 1);
        uint8_t swap = order[i];

        order[i] = order[j];
        order[j] = swap;
    }
    for (size_t i = 0; i < n; i++) {
        uint8_t k = order[i];

        t->requests[at++] = (struct request){ .kind = k, .number = counts[k] };
        if (kinds[k].twin)
            t->requests[at++] = (struct request){ .kind = k, .number = counts[k] };
        counts[k]++;
    }
}

/* === When === */

static void send_request(struct delay_test *t, size_t i)
{
    struct request *r = &t->requests[i];
    const struct kind *k = &kinds[r->kind];
    bool is_second = k->twin && i > 0 && r[-1].kind == r->kind &&
                     r[-1].number == r->number;
    char subject[256], body[CLIENT_BODY_SIZE], headers[64], reply[64];

    /* As many numbers as a text has use for. */
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
    if (k->settles) {
        t->acks_used += !is_second;
        snprintf(subject, sizeof(subject), "%s", t->acks[t->acks_used - 1]);
    } else {
        snprintf(subject, sizeof(subject), k->subject, r->number);
    }
    snprintf(body, sizeof(body), k->body, r->number, r->number);
    if (k->headers != NULL)
        snprintf(headers, sizeof(headers), k->headers, r->number);
#pragma GCC diagnostic pop
    snprintf(reply, sizeof(reply), "_INBOX.t.%zu", i);
    r->sent_ns = is_second ? r[-1].sent_ns : client_now_ns();
    client_publish(t->client, subject, reply, k->headers != NULL ? headers : NULL, body,
                   strlen(body));
}

static bool has(memphis_slice s, const char *text)
{
    return memmem(s.data, s.size, text, strlen(text)) != NULL;
}

static bool says_yes(enum yes yes, const struct client_message *m)
{
    switch (yes) {
    case SEQUENCE:
        return client_puback_seq(m->payload) > 0;
    case EMPTY:
        return m->payload.size == 0 && m->status == 0;
    case NO_ERROR_TEXT:
        return has(m->payload, "\"error\":\"\"");
    case NO_ERROR_OBJECT:
        return m->payload.size > 0 && !has(m->payload, "\"error\"");
    }
    return false;
}

static void read_answers(struct delay_test *t, uint32_t wait_ms)
{
    uint64_t until = client_now_ns() + wait_ms * 1000000ull, now, i;
    struct client_message m;

    while (t->answered < TOTAL && (now = client_now_ns()) < until) {
        enum client_event e =
            client_next(t->client, (uint32_t)((until - now) / 1000000 + 1), &m);

        if (e == CLIENT_CLOSED)
            return;
        if (e != CLIENT_MESSAGE || !client_number_behind(m.subject, "_INBOX.t.", &i) ||
            i >= TOTAL || t->requests[i].got_ns != 0)
            continue;
        struct request *r = &t->requests[i];
        r->got_ns = m.at_ns;
        r->is_fine = says_yes(kinds[r->kind].yes, &m);
        r->is_covered = sync_covers(t->control, r->sent_ns, r->got_ns);
        if (!r->is_fine)
            fprintf(stderr, "%s %u: %.*s%.*s\n", kinds[r->kind].name, r->number,
                    (int)m.headers.size, (const char *)m.headers.data,
                    (int)m.payload.size, (const char *)m.payload.data);
        t->answered++;
    }
}

static void send_all(struct delay_test *t)
{
    for (size_t i = 0; i < TOTAL;) {
        uint32_t burst = 1 + dice_roll(&t->dice, BURST_MAX);

        for (; i < TOTAL && burst > 0; burst--)
            send_request(t, i++);
        client_flush(t->client);
        read_answers(t, dice_roll(&t->dice, PAUSE_MAX_MS));
    }
    read_answers(t, 20000);
}

/* === Then === */

static int by_number(const void *a, const void *b)
{
    const uint64_t *x = a, *y = b;

    return *x < *y ? -1 : *x > *y;
}

/* Returns how many were answered too early. */
static unsigned judge(const struct delay_test *t, uint8_t kind, bool is_silent)
{
    uint64_t took[EACH + 1];
    unsigned n = 0, fine = 0, early = 0, bare = 0;

    for (size_t i = 0; i < TOTAL; i++) {
        const struct request *r = &t->requests[i];

        if (r->kind != kind || r->got_ns == 0)
            continue;
        took[n++] = r->got_ns - r->sent_ns;
        fine += r->is_fine;
        early += r->got_ns - r->sent_ns < PROMISE_DELAY_MS * 1000000ull;
        bare += !r->is_covered;
    }
    if (is_silent)
        return early + bare;
    qsort(took, n, sizeof(took[0]), by_number);
    report(
        n == EACH && fine == n && early + bare == 0,
        "%-29s %u answered of %d, %u yes, after %.0f / %.0f / %.0f ms (least, median, "
        "most), %u too early, %u without a sync behind",
        kinds[kind].name, n, EACH, fine, n ? (double)took[0] / 1e6 : 0.0,
        n ? (double)took[n / 2] / 1e6 : 0.0, n ? (double)took[n - 1] / 1e6 : 0.0, early,
        bare);
    return early + bare;
}

bool promise_delay(const struct promise *p, bool is_liar)
{
    struct daemon d = promise_daemon(p, is_liar ? "liar" : "delay");
    struct delay_test *t = calloc(1, sizeof(*t));
    const char *liar[] = { "SYNC_LIE=1", NULL };
    unsigned early = 0;

    t->dice = dice_of(p->seed);
    t->control = promise_start(&d, is_liar ? liar : NULL);
    t->client = client_connect(d.port, 20000);
    bool ready = t->client != NULL && prepare(t);
    if (!is_liar)
        report(ready, "a daemon with %d ms per sync is there", PROMISE_DELAY_MS);
    if (ready) {
        client_subscribe(t->client, "_INBOX.t.*");
        t->control->delay_ms = PROMISE_DELAY_MS;
        shuffle(t);
        send_all(t);
        for (uint8_t k = 0; k < KINDS; k++)
            early += judge(t, k, is_liar);
        t->control->delay_ms = 0;
    }
    client_close(t->client);
    int status = daemon_stop(&d, 10000);
    if (!is_liar)
        report(status == 0, "it stops with status 0 (%d)", status);
    daemon_kill(&d);
    sync_control_free(t->control);
    free(t);
    return early > TOTAL / 2;
}
