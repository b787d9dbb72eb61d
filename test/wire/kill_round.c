/* The load of kill_load, and what its answers say. */
#include "wire/kill_load.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { PULL_BATCH = 64, SETTLE_WAIT_MS = 15000 };

bool kill_fail(struct kill_test *t, const char *format, ...)
{
    va_list args;

    if (t->failure[0] == 0) {
        va_start(args, format);
        vsnprintf(t->failure, sizeof(t->failure), format, args);
        va_end(args);
    }
    return false;
}

size_t kill_content(const struct kill_test *t, uint32_t number, char out[CONTENT_SIZE])
{
    size_t size = 32 + number * 37u % 500;
    int n = snprintf(out, CONTENT_SIZE, "%s message %u ", t->station, number);

    for (size_t i = (size_t)n; i < size; i++)
        out[i] = (char)('a' + (number + i) % 26);
    return size > (size_t)n ? size : (size_t)n;
}

/* === Producing === */

static void publish(struct kill_test *t, uint32_t number)
{
    const struct item *i = &t->items[number];
    char subject[64], reply[48], headers[48], body[CONTENT_SIZE];

    snprintf(subject, sizeof(subject), "%s$%u.final", t->station, i->partition);
    snprintf(reply, sizeof(reply), "_INBOX.p.%u", number);
    snprintf(headers, sizeof(headers), "msg-id: m%u\r\n", number);
    client_publish(t->clients[PRODUCER], subject, reply, i->has_id ? headers : NULL,
                   body, kill_content(t, number, body));
    t->outstanding++;
}

static void produce(struct kill_test *t)
{
    uint32_t burst = 1 + dice_roll(&t->dice, 64);

    for (; burst > 0 && t->outstanding < t->window && t->items_count < ITEMS_MAX;
         burst--) {
        uint32_t number = t->items_count++;

        t->items[number] =
            (struct item){ .partition = 1 + dice_roll(&t->dice, PARTITIONS),
                           .has_id = dice_roll(&t->dice, 2) == 0 };
        publish(t, number);
    }
    if (!t->side_asked && t->round_acked > ACKED_LEAST / 2) {
        char body[CLIENT_BODY_SIZE], name[32];

        t->side_asked = true;
        snprintf(name, sizeof(name), "side%u", t->round);
        client_station_body(body, name, 1);
        client_publish(t->clients[PRODUCER], "$memphis_station_creations", "_INBOX.s.0",
                       NULL, body, strlen(body));
    }
    client_flush(t->clients[PRODUCER]);
}

static bool place(struct kill_test *t, uint32_t number, uint32_t partition,
                  uint64_t seq)
{
    struct item *i = &t->items[number];

    if (number >= t->items_count || i->partition != partition)
        return kill_fail(t, "message %u was never sent to partition %u", number,
                         partition);
    if (i->seq != 0 && i->seq != seq)
        return kill_fail(
            t, "message %u of partition %u is at sequence %llu, was at %llu", number,
            partition, (unsigned long long)seq, (unsigned long long)i->seq);
    i->seq = seq;
    return true;
}

static bool on_producer(struct kill_test *t, const struct client_message *m)
{
    uint64_t number, seq;

    if (client_number_behind(m->subject, "_INBOX.s.", &number)) {
        if (m->payload.size > 0 || m->status != 0)
            return kill_fail(t, "a station was refused: %.*s", (int)m->payload.size,
                             (const char *)m->payload.data);
        snprintf(t->side, sizeof(t->side), "side%u", t->round);
        return true;
    }
    if (!client_number_behind(m->subject, "_INBOX.p.", &number) ||
        number >= t->items_count)
        return true;
    struct item *i = &t->items[number];
    seq = client_puback_seq(m->payload);
    if (seq == 0)
        return kill_fail(t, "message %u was refused: %.*s", (unsigned)number,
                         (int)m->payload.size, (const char *)m->payload.data);
    if (memmem(m->payload.data, m->payload.size, "duplicate", 9) != NULL) {
        t->duplicates++;
        if (!i->was_resent)
            return kill_fail(t, "message %u was sent once and is called a duplicate",
                             (unsigned)number);
    }
    if (i->was_published)
        return kill_fail(t, "message %u was acknowledged twice", (unsigned)number);
    i->was_published = true;
    t->outstanding--;
    t->round_acked++;
    t->acknowledged++;
    return place(t, (uint32_t)number, i->partition, seq);
}

/* === Consuming === */

static int connection_of(uint32_t partition)
{
    return CONSUMERS + (int)(partition % 2);
}

static void pull(struct kill_test *t, uint32_t partition)
{
    char stream[64], inbox[32];

    snprintf(stream, sizeof(stream), "%s$%u", t->station, partition);
    snprintf(inbox, sizeof(inbox), "_INBOX.w.%u", partition);
    client_pull(t->clients[connection_of(partition)], stream, GROUP, inbox, PULL_BATCH,
                t->is_draining ? 100 : 5000);
    t->pulls[partition] = PULL_BATCH;
}

/* An ack that was sent and not answered has come back: was it young enough? */
static bool came_back(struct kill_test *t, uint32_t number)
{
    static const uint32_t limits_ms[AGES - 1] = { 1, 5, 20, 50, NOISE_MS };
    const struct item *i = &t->items[number];
    int age = 0;

    if (i->settled_round == t->round) { /* no kill between: both were on their way */
        if (client_now_ns() - i->settled_ns > ACK_WAIT_MS * 1000000ull)
            return kill_fail(
                t, "message %u came back %.0f ms behind its ack, without a kill",
                number, (double)(client_now_ns() - i->settled_ns) / 1e6);
        return true;
    }
    /* It may have waited for its ack wait through later lives. */
    const struct life *life = &t->lives[i->settled_round % LIVES];
    uint64_t age_ns = life->kill_ns - i->settled_ns;
    while (age < AGES - 1 && age_ns >= limits_ms[age] * 1000000ull)
        age++;
    t->ages[age]++;
    t->strict +=
        age_ns >= 5000000 &&
        sync_between(life->control, i->settled_ns + 5000000, life->kill_ns) >= 2;
    if (age == AGES - 1)
        return kill_fail(t,
                         "message %u came back: its ack was sent %.0f ms before a kill",
                         number, (double)age_ns / 1e6);
    return true;
}

static void settle(struct kill_test *t, struct client *c, uint32_t number,
                   uint32_t deliveries, const struct client_message *m)
{
    struct item *i = &t->items[number];
    uint32_t lot = t->is_draining || deliveries > 3 ? 0 : dice_roll(&t->dice, 100);
    char subject[200], reply[48];

    if (lot >= 95)
        return; /* left to its ack wait */
    snprintf(subject, sizeof(subject), "%.*s", (int)m->reply.size,
             (const char *)m->reply.data);
    snprintf(reply, sizeof(reply), "_INBOX.a%d.%u", client_fd(c), number);
    if (lot >= 90) {
        client_publish(c, subject, NULL, NULL, "-NAK", 4);
        return;
    }
    client_publish(c, subject, lot < 45 ? reply : NULL, NULL,
                   lot % 10 == 9 ? "+TERM" : "+ACK", lot % 10 == 9 ? 5 : 4);
    i->settled_ns = client_now_ns();
    i->settled_round = t->round;
    t->settled++;
    t->unanswered += lot < 45;
}

static bool on_delivery(struct kill_test *t, struct client *c, uint32_t partition,
                        const struct client_message *m)
{
    char expected[CONTENT_SIZE], copy[CONTENT_SIZE];
    uint32_t deliveries, number;
    uint64_t seq;

    snprintf(copy, sizeof(copy), "%.*s", (int)m->payload.size,
             (const char *)m->payload.data);
    const char *at = strstr(copy, " message ");
    if (at == NULL || sscanf(at, " message %u", &number) != 1 ||
        number >= t->items_count ||
        m->payload.size != kill_content(t, number, expected) ||
        memcmp(m->payload.data, expected, m->payload.size) != 0)
        return kill_fail(t, "partition %u delivers what nobody sent: %.40s", partition,
                         copy);
    if (!client_ack_subject(m->reply, &seq, &deliveries) ||
        !place(t, number, partition, seq))
        return kill_fail(t, "a delivery without a proper ack subject");
    struct item *i = &t->items[number];
    t->delivered++;
    t->redelivered += i->was_delivered;
    i->was_delivered = true;
    if (i->is_confirmed)
        return kill_fail(t,
                         "message %u (partition %u, sequence %llu) came back although "
                         "its ack was confirmed (round %u, %.1f ms before its kill)",
                         number, partition, (unsigned long long)seq, i->settled_round,
                         ((double)t->lives[i->settled_round % LIVES].kill_ns -
                          (double)i->confirmed_ns) /
                             1e6);
    if (i->settled_ns != 0 && !came_back(t, number))
        return false;
    i->settled_ns = 0;
    if (!t->is_dead)
        settle(t, c, number, deliveries, m);
    return true;
}

static bool on_consumer(struct kill_test *t, struct client *c,
                        const struct client_message *m)
{
    uint64_t number;
    uint32_t partition = 0;
    char inbox[32];

    snprintf(inbox, sizeof(inbox), "_INBOX.a%d.", client_fd(c));
    for (uint32_t p = 1; p <= PARTITIONS; p++)
        if (c == t->clients[connection_of(p)] && m->sid == t->sids[p])
            partition = p;
    if (partition != 0 && m->status == 408) {
        t->pulls[partition] = 0;
    } else if (partition != 0 && m->status == 0) {
        t->pulls[partition] -= t->pulls[partition] > 0;
        return on_delivery(t, c, partition, m);
    } else if (partition != 0) {
        return kill_fail(t, "a pull of partition %u ended with status %d", partition,
                         m->status);
    } else if (client_number_behind(m->subject, inbox, &number) &&
               number < t->items_count) {
        if (m->status != 0)
            return kill_fail(t, "an ack found nobody: status %d", m->status);
        t->confirmed++;
        t->unanswered--;
        t->items[number].is_confirmed = true;
        t->items[number].confirmed_ns = m->at_ns;
    }
    return true;
}

/* === The load === */

void kill_subscribe(struct kill_test *t)
{
    char inbox[32];

    client_subscribe(t->clients[PRODUCER], "_INBOX.p.*");
    client_subscribe(t->clients[PRODUCER], "_INBOX.s.*");
    for (int i = CONSUMERS; i < CONNECTIONS;
         i++) { /* each hears its own answers only */
        snprintf(inbox, sizeof(inbox), "_INBOX.a%d.*", client_fd(t->clients[i]));
        client_subscribe(t->clients[i], inbox);
    }
    for (uint32_t p = 1; p <= PARTITIONS; p++) {
        snprintf(inbox, sizeof(inbox), "_INBOX.w.%u", p);
        t->sids[p] = client_subscribe(t->clients[connection_of(p)], inbox);
        t->pulls[p] = 0;
    }
    t->unanswered = 0;
    t->is_dead = false;
}

/* Everything that has come. False: a failure. *closed: the daemon is gone. */
static bool read_all(struct kill_test *t, bool *closed)
{
    struct client_message m;
    enum client_event e;

    for (int i = 0; i < CONNECTIONS; i++) {
        struct client *c = t->clients[i];

        while ((e = client_next(c, 0, &m)) == CLIENT_MESSAGE)
            if (!(i == PRODUCER ? on_producer(t, &m) : on_consumer(t, c, &m)))
                return false;
        *closed |= e == CLIENT_CLOSED;
        if (e == CLIENT_ERROR)
            return kill_fail(t, "the daemon says %s", m.error);
    }
    return true;
}

static void pull_again(struct kill_test *t)
{
    for (uint32_t p = 1; p <= PARTITIONS; p++)
        if (t->pulls[p] == 0)
            pull(t, p);
}

/* What the daemon had sent when it was killed was promised too. */
static bool read_last_words(struct kill_test *t)
{
    bool closed = false;

    for (int i = 0; i < CONNECTIONS; i++) {
        struct client *c = t->clients[i];
        struct client_message m;
        enum client_event e;

        while ((e = client_next(c, 2000, &m)) == CLIENT_MESSAGE) {
            if (i == PRODUCER && !on_producer(t, &m))
                return false;
            if (i != PRODUCER && m.status == 0 && !on_consumer(t, c, &m))
                return false;
        }
        closed |= e == CLIENT_CLOSED;
    }
    return closed || kill_fail(t, "a killed daemon still holds its connections");
}

bool kill_load(struct kill_test *t)
{
    uint32_t goal = ACKED_LEAST + dice_roll(&t->dice, 2000);
    uint64_t last_ns = 0, extra_ns = 1 + dice_roll(&t->dice, 4000) * 1000ull;
    bool closed = false;

    t->window = 256 + dice_roll(&t->dice, 768);
    t->outstanding = t->round_acked = 0;
    t->is_draining = t->side_asked = false;
    uint64_t began = client_now_ns();
    while (last_ns == 0 || client_now_ns() < last_ns + extra_ns) {
        produce(t);
        pull_again(t);
        client_wait(t->clients, CONNECTIONS, 1);
        if (!read_all(t, &closed))
            return false;
        if (closed)
            return kill_fail(t, "the daemon closed a connection by itself");
        if (last_ns == 0 && t->round_acked >= goal)
            last_ns = client_now_ns();
        if (client_now_ns() - began > 60000000000u)
            return kill_fail(t, "%u of %u messages acknowledged within a minute",
                             t->round_acked, goal);
    }
    t->lives[t->round % LIVES].kill_ns = client_now_ns();
    daemon_kill(&t->daemon);
    t->is_dead = true;
    return read_last_words(t);
}

/* === After the start === */

bool kill_resend(struct kill_test *t)
{
    uint64_t until = client_now_ns() + 20000000000u;
    bool closed = false;

    t->outstanding = 0;
    for (uint32_t n = 0; n < t->items_count; n++) {
        struct item *i = &t->items[n];

        if (i->was_published || !i->has_id)
            continue;
        i->was_resent = true;
        t->resent++;
        publish(t, n);
    }
    while (t->outstanding > 0) {
        client_wait(t->clients, 1, 10);
        if (!read_all(t, &closed))
            return false;
        if (closed || client_now_ns() > until)
            return kill_fail(t, "%u messages sent again are not acknowledged",
                             t->outstanding);
    }
    return true;
}

static bool pulls_wait(const struct kill_test *t)
{
    uint32_t left = 0;

    for (uint32_t p = 1; p <= PARTITIONS; p++)
        left += t->pulls[p];
    return left > 0;
}

bool kill_settle(struct kill_test *t)
{
    uint64_t until = client_now_ns() + SETTLE_WAIT_MS * 1000000ull, asked_ns = 0;
    bool closed = false, is_done = false;

    t->is_draining = true;
    while (!is_done || t->unanswered > 0 || pulls_wait(t)) {
        if (!is_done)
            pull_again(t);
        client_wait(t->clients, CONNECTIONS, 5);
        if (!read_all(t, &closed))
            return false;
        if (closed || client_now_ns() > until)
            return kill_fail(t, "the group does not get to its end");
        if (is_done || client_now_ns() < asked_ns + 50000000)
            continue;
        asked_ns = client_now_ns();
        is_done = kill_group_is_done(t);
    }
    for (uint32_t n = 0; n < t->items_count; n++)
        if (t->items[n].seq > 0 && !t->items[n].was_delivered)
            return kill_fail(t, "message %u was never delivered to the group", n);
    return true;
}
