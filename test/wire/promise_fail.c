/* The n-th sync of the write-ahead log fails: nothing that was sent behind it is
 * acknowledged, the daemon stops with status 74, and a start finds everything that was
 * acknowledged. */
#include "wire/promise.h"

#include "wire/client.h"
#include "wire/report.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    PARTITIONS = 3,
    OLD = 300,        /* messages before the trouble; the group settles them */
    MOST = 40000,     /* requests of one case */
    WINDOW = 96,
    STATUS_IO = 74,
    START_SYNCS_MOST = 60
};

enum what { MESSAGE, ACK, STATION };

static const char *const what_names[] = { "message", "ack", "station" };

struct request {
    uint8_t what;
    uint32_t number;  /* of the message, ack subject or station */
    uint32_t partition;
    uint64_t sent_ns, got_ns, seq;
    bool is_refused, was_read;
};

struct fail_test {
    struct client *client;
    struct sync_control *control;
    struct request *requests;
    uint32_t sent, answered, messages, acks_used, stations, size;
    char acks[OLD][128];
    uint64_t ack_seqs[OLD];
    uint32_t ack_partitions[OLD];
    uint32_t acks_count;
    char refusal[200]; /* the first one, to be shown */
    /* what the second life shows */
    uint32_t *by_seq[PARTITIONS + 1]; /* message requests + 1 by sequence */
    uint32_t wrong, came_back;
    uint64_t last_seq[PARTITIONS + 1];
    struct dice dice;
};

/* The content of message `number`; returns its size. */
static size_t content(uint32_t number, uint32_t size, char out[8192])
{
    int n = snprintf(out, 8192, "message %u ", number);

    for (size_t i = (size_t)n; i < size; i++)
        out[i] = (char)('a' + (number + i) % 26);
    return size > (size_t)n ? size : (size_t)n;
}

/* === Load === */

static void keep_ack(void *ctx, uint32_t partition, uint64_t seq, uint32_t deliveries,
                     const struct client_message *m)
{
    struct fail_test *t = ctx;

    (void)deliveries;
    if (t->acks_count == OLD)
        return;
    t->ack_seqs[t->acks_count] = seq;
    t->ack_partitions[t->acks_count] = partition;
    snprintf(t->acks[t->acks_count++], sizeof(t->acks[0]), "%.*s", (int)m->reply.size,
             (const char *)m->reply.data);
}

static void send_one(struct fail_test *t)
{
    uint32_t i = t->sent++, lot = dice_roll(&t->dice, 40);
    struct request *r = &t->requests[i];
    char reply[48], text[CLIENT_BODY_SIZE], body[8192];

    snprintf(reply, sizeof(reply), "_INBOX.f.%u", i);
    r->sent_ns = client_now_ns();
    if (lot == 0) {
        *r = (struct request){ .what = STATION, .number = t->stations++,
                               .sent_ns = r->sent_ns };
        snprintf(body, sizeof(body), "side%u", r->number);
        client_station_body(text, body, 1);
        client_publish(t->client, "$memphis_station_creations", reply, NULL, text,
                       strlen(text));
    } else if (lot < 6 && t->acks_used < t->acks_count) {
        *r = (struct request){ .what = ACK, .number = t->acks_used++,
                               .sent_ns = r->sent_ns };
        client_publish(t->client, t->acks[r->number], reply, NULL, "+ACK", 4);
    } else {
        *r = (struct request){ .what = MESSAGE, .number = t->messages++,
                               .sent_ns = r->sent_ns };
        r->partition = 1 + r->number % PARTITIONS;
        snprintf(text, sizeof(text), "ff$%u.final", r->partition);
        client_publish(t->client, text, reply, NULL, body,
                       content(r->number, t->size, body));
    }
}

/* False: the connection has ended. */
static bool read_answers(struct fail_test *t, uint32_t wait_ms)
{
    struct client_message m;
    enum client_event e;
    uint64_t i;

    while ((e = client_next(t->client, wait_ms, &m)) == CLIENT_MESSAGE) {
        wait_ms = 0;
        if (!client_number_behind(m.subject, "_INBOX.f.", &i) || i >= t->sent)
            continue;
        struct request *r = &t->requests[i];
        r->got_ns = m.at_ns;
        if (r->what == MESSAGE)
            r->seq = client_puback_seq(m.payload);
        r->is_refused = m.status != 0 || (r->what == MESSAGE ? r->seq == 0
                                                             : m.payload.size > 0);
        if (r->is_refused && t->refusal[0] == 0)
            snprintf(t->refusal, sizeof(t->refusal), ": a %s got status %d '%.*s'",
                     what_names[r->what], m.status, (int)m.payload.size,
                     (const char *)m.payload.data);
        t->answered++;
    }
    return e != CLIENT_CLOSED;
}

/* Until the daemon is gone. */
static void load(struct fail_test *t)
{
    uint64_t until = client_now_ns() + 20000000000u;

    while (client_now_ns() < until) {
        uint32_t burst = 1 + dice_roll(&t->dice, 32);

        for (; burst > 0 && t->sent < MOST && t->sent - t->answered < WINDOW; burst--)
            send_one(t);
        client_flush(t->client);
        if (!read_answers(t, 1 + dice_roll(&t->dice, 2)))
            return;
    }
}

/* === Second life === */

static void on_read(void *ctx, uint32_t partition, uint64_t seq, uint32_t deliveries,
                    const struct client_message *m)
{
    struct fail_test *t = ctx;
    char expected[8192];

    (void)deliveries;
    t->wrong += seq != ++t->last_seq[partition];
    if (seq > MOST || t->by_seq[partition][seq] == 0)
        return;
    struct request *r = &t->requests[t->by_seq[partition][seq] - 1];
    size_t size = content(r->number, t->size, expected);
    t->wrong += m->payload.size != size || memcmp(m->payload.data, expected, size) != 0;
    r->was_read = true;
}

static void on_group(void *ctx, uint32_t partition, uint64_t seq, uint32_t deliveries,
                     const struct client_message *m)
{
    struct fail_test *t = ctx;

    (void)deliveries, (void)m;
    for (uint32_t i = 0; i < t->sent; i++) {
        const struct request *r = &t->requests[i];

        t->came_back += r->what == ACK && r->got_ns != 0 && !r->is_refused &&
                        t->ack_seqs[r->number] == seq &&
                        t->ack_partitions[r->number] == partition;
    }
}

static bool read_back(struct fail_test *t, uint32_t *missing)
{
    struct client *c = t->client;
    char name[32];

    *missing = 0;
    if (!client_create_consumer(c, "ff", "again", 60000))
        return false;
    for (uint32_t i = 0; i < t->sent; i++)
        if (t->requests[i].seq > 0 && t->requests[i].seq <= MOST)
            t->by_seq[t->requests[i].partition][t->requests[i].seq] = i + 1;
    for (uint32_t p = 1; p <= PARTITIONS; p++)
        if (!client_drain(c, "ff", p, "again", on_read, t) ||
            !client_drain(c, "ff", p, "g", on_group, t))
            return false;
    for (uint32_t i = 0; i < t->sent; i++) {
        const struct request *r = &t->requests[i];

        if (r->got_ns == 0 || r->is_refused)
            continue;
        snprintf(name, sizeof(name), "side%u", r->number);
        *missing += r->what == MESSAGE && !r->was_read;
        *missing += r->what == STATION && !client_has_station(c, name);
    }
    return true;
}

/* === One case === */

static bool prepare(struct fail_test *t, struct daemon *d)
{
    const char *env[] = { "SYNC_PATH=/wal/", NULL };

    t->control = promise_start(d, env);
    t->client = client_connect(d->port, 20000);
    if (t->client == NULL || !client_create_station(t->client, "ff", PARTITIONS) ||
        !client_create_consumer(t->client, "ff", "g", 60000))
        return false;
    client_subscribe(t->client, "_INBOX.f.*");
    for (uint32_t i = 0; i < OLD; i++) {
        struct request *r = &t->requests[t->sent];
        char reply[48], subject[48], body[8192];

        *r = (struct request){ .number = t->messages++, .partition = 1 + i % PARTITIONS,
                               .sent_ns = client_now_ns() };
        snprintf(reply, sizeof(reply), "_INBOX.f.%u", t->sent++);
        snprintf(subject, sizeof(subject), "ff$%u.final", r->partition);
        client_publish(t->client, subject, reply, NULL, body,
                       content(r->number, t->size, body));
    }
    while (t->answered < OLD)
        if (!read_answers(t, 100))
            return false;
    for (uint32_t p = 1; p <= PARTITIONS; p++)
        if (!client_drain(t->client, "ff", p, "g", keep_ack, t))
            return false;
    return t->acks_count == OLD;
}

/* What the daemon said while it failed. */
static void judge_first_life(struct fail_test *t, const char *name, int status)
{
    uint32_t late = 0, bare = 0, refused = 0, acked = 0;
    uint64_t failed_ns = t->control->failed_ns;

    for (uint32_t i = 0; i < t->sent; i++) {
        const struct request *r = &t->requests[i];

        if (r->got_ns == 0)
            continue;
        refused += r->is_refused;
        acked += !r->is_refused;
        late += failed_ns != 0 && r->sent_ns >= failed_ns;
        bare += !r->is_refused && !sync_covers(t->control, r->sent_ns, r->got_ns);
    }
    report(failed_ns != 0 && late == 0 && bare == 0 && refused == 0,
           "%s: %u sent, %u acknowledged, %u sent behind the failure and answered, %u "
           "acknowledged without a sync behind, %u refused%s",
           name, t->sent, acked, late, bare, refused, t->refusal);
    report(status == STATUS_IO, "%s: the daemon stops by itself, status %d", name,
           status);
}

static void judge_second_life(struct fail_test *t, struct daemon *d, const char *name)
{
    uint32_t missing = 0;

    d->preload = NULL;
    daemon_start(d, NULL);
    t->client = client_connect(d->port, 20000);
    bool was_read = t->client != NULL && read_back(t, &missing);
    report(was_read && missing == 0 && t->wrong == 0 && t->came_back == 0,
           "%s: a start finds everything (%s%u missing, %u wrong, %u settled ones came "
           "back)",
           name, was_read ? "" : "not read to its end, ", missing, t->wrong,
           t->came_back);
    client_close(t->client);
    report(daemon_stop(d, 10000) == 0, "%s: and stops with status 0", name);
    daemon_kill(d);
}

static struct fail_test *new_test(uint32_t size, uint64_t seed)
{
    struct fail_test *t = calloc(1, sizeof(*t));

    t->requests = calloc(MOST + OLD, sizeof(t->requests[0]));
    for (uint32_t p = 1; p <= PARTITIONS; p++)
        t->by_seq[p] = calloc(MOST + 1, sizeof(uint32_t));
    t->dice = dice_of(seed);
    t->size = size;
    return t;
}

static void free_test(struct fail_test *t)
{
    for (uint32_t p = 1; p <= PARTITIONS; p++)
        free(t->by_seq[p]);
    sync_control_free(t->control);
    free(t->requests);
    free(t);
}

static void fail_case(const struct promise *p, uint32_t n, bool once, uint32_t size)
{
    struct daemon d = promise_daemon(p, "fail");
    struct fail_test *t = new_test(size, p->seed + n);
    char name[80];

    snprintf(name, sizeof(name), "sync %u %s, messages of %u bytes", n,
             once ? "fails" : "and all later ones fail", size);
    if (!prepare(t, &d)) {
        report(false, "%s: the daemon takes %d messages", name, OLD);
        daemon_kill(&d);
        free_test(t);
        return;
    }
    t->control->fail_once = once;
    t->control->fail_at = t->control->count + n;
    load(t);
    client_close(t->client);
    judge_first_life(t, name, daemon_wait(&d, 5000));
    daemon_kill(&d);
    judge_second_life(t, &d, name);
    free_test(t);
}

/* === The start itself === */

/* Each sync of a start fails in turn: it refuses with status 74, and the next start
 * finds what was there. */
static void fail_starts(const struct promise *p)
{
    struct daemon d = promise_daemon(p, "start");
    struct fail_test *t = new_test(100, p->seed);
    bool ready = prepare(t, &d);
    uint32_t n = 1, refused = 0, wrong = 0;
    bool went_on = false;

    client_close(t->client);
    daemon_kill(&d);
    for (; ready && n < START_SYNCS_MOST && !went_on; n++) {
        char fail_at[40];
        const char *env[] = { fail_at, NULL };

        snprintf(fail_at, sizeof(fail_at), "SYNC_FAIL_AT=%u", n);
        sync_control_free(t->control);
        t->control = promise_start(&d, env);
        int status = daemon_wait(&d, 700);
        went_on = status == -1 && t->control->failed == 0;
        refused += status == STATUS_IO;
        if (!went_on && status != STATUS_IO) {
            wrong++;
            fprintf(stderr, "start: sync %u failed, status %d\n", n, status);
        }
        daemon_kill(&d);
    }
    report(ready && wrong == 0 && went_on && refused > 0,
           "each of the %u syncs of a start fails: %u times status 74, %u times not",
           n - 2, refused, wrong);
    judge_second_life(t, &d, "after those");
    free_test(t);
}

void promise_fail(const struct promise *p)
{
    static const uint32_t at[] = { 1, 2, 3, 7, 20, 60 };

    for (size_t i = 0; i < sizeof(at) / sizeof(at[0]); i++) {
        fail_case(p, at[i], false, 100);
        fail_case(p, at[i], true, 4000); /* many files: the preparer's syncs too */
    }
    fail_starts(p);
}
