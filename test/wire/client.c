#include "wire/client.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { PONG = CLIENT_CLOSED + 1 };
enum { READ_SIZE = 256 * 1024, REQUEST_WAIT_MS = 20000, DRAIN_BATCH = 1000 };

struct bytes {
    char *data;
    size_t first, end, capacity; /* [first, end) waits */
};

struct client {
    int fd;
    struct bytes in, out;
    uint32_t sids, requests, request_sid;
    uint64_t read_ns;
    bool is_closed;
    char inbox[48];
};

uint64_t client_now_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* === Bytes === */

static char *room(struct bytes *b, size_t size)
{
    if (b->first == b->end)
        b->first = b->end = 0;
    if (b->capacity - b->end < size && b->first > 0) {
        memmove(b->data, b->data + b->first, b->end - b->first);
        b->end -= b->first;
        b->first = 0;
    }
    if (b->capacity - b->end < size) {
        b->capacity = (b->end + size) * 2;
        b->data = realloc(b->data, b->capacity);
        if (b->data == NULL)
            abort();
    }
    return b->data + b->end;
}

static void put(struct client *c, const void *data, size_t size)
{
    if (size == 0)
        return;
    memcpy(room(&c->out, size), data, size);
    c->out.end += size;
}

static void put_text(struct client *c, const char *text)
{
    put(c, text, strlen(text));
}

void client_flush(struct client *c)
{
    while (!c->is_closed && c->out.first < c->out.end) {
        ssize_t n = send(c->fd, c->out.data + c->out.first, c->out.end - c->out.first,
                         MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR)
            continue;
        /* A broken pipe is told by the reading side, behind its last bytes. */
        if (n < 0) {
            if (errno != EAGAIN)
                c->out.first = c->out.end;
            return;
        }
        c->out.first += (size_t)n;
    }
}

size_t client_unsent(const struct client *c)
{
    return c->out.end - c->out.first;
}

int client_fd(const struct client *c)
{
    return c->fd;
}

static void read_more(struct client *c)
{
    char *to = room(&c->in, READ_SIZE);
    ssize_t n = recv(c->fd, to, READ_SIZE, 0);

    if (n > 0) {
        c->in.end += (size_t)n;
        c->read_ns = client_now_ns();
    } else if (n == 0 || (errno != EAGAIN && errno != EINTR)) {
        c->is_closed = true;
    }
}

/* === Parser === */

/* Splits a control line at blanks; returns the number of tokens. */
static size_t split(char *line, char *tokens[], size_t max)
{
    size_t n = 0;

    for (char *p = line; *p != 0 && n < max; n++) {
        tokens[n] = p;
        p += strcspn(p, " ");
        if (*p == 0)
            return n + 1;
        *p++ = 0;
        p += strspn(p, " ");
    }
    return n;
}

/* MSG <subject> <sid> [reply] <size>, HMSG <subject> <sid> [reply] <headers> <size>.
 * False: not all of it is here. */
static bool take_message(struct client *c, char *line, size_t line_size,
                         struct client_message *m)
{
    char *t[6], copy[4200];
    bool has_headers = line[0] == 'H';
    size_t n, headers = 0, size, available = c->in.end - c->in.first - line_size;

    snprintf(copy, sizeof(copy), "%.*s", (int)line_size - 2, line);
    n = split(copy, t, 6);
    if (n < (has_headers ? 5u : 4u)) {
        c->is_closed = true; /* not this protocol */
        return false;
    }
    size = strtoul(t[n - 1], NULL, 10);
    if (has_headers)
        headers = strtoul(t[n - 2], NULL, 10);
    if (available < size + 2)
        return false;
    m->subject = (memphis_slice){ line + (t[1] - copy), strlen(t[1]) };
    m->sid = (uint32_t)strtoul(t[2], NULL, 10);
    if (n == (has_headers ? 6u : 5u))
        m->reply = (memphis_slice){ line + (t[3] - copy), strlen(t[3]) };
    m->headers = (memphis_slice){ line + line_size, headers };
    m->payload = (memphis_slice){ line + line_size + headers, size - headers };
    if (headers > 12 && memcmp(m->headers.data, "NATS/1.0 ", 9) == 0)
        m->status = (int)strtol((const char *)m->headers.data + 9, NULL, 10);
    m->at_ns = c->read_ns;
    c->in.first += line_size + size + 2;
    return true;
}

/* One item of the input, PONG included. QUIET: more bytes are needed. */
static int take(struct client *c, struct client_message *m)
{
    for (;;) {
        char *line = c->in.data + c->in.first;
        char *end = c->in.end > c->in.first
                        ? memmem(line, c->in.end - c->in.first, "\r\n", 2)
                        : NULL;
        size_t size = end != NULL ? (size_t)(end - line) + 2 : 0;

        if (end == NULL)
            return CLIENT_QUIET;
        memset(m, 0, sizeof(*m));
        if (memcmp(line, "MSG ", 4) == 0 || memcmp(line, "HMSG", 4) == 0)
            return take_message(c, line, size, m) ? CLIENT_MESSAGE : CLIENT_QUIET;
        c->in.first += size;
        if (memcmp(line, "PING", 4) == 0) {
            put_text(c, "PONG\r\n");
        } else if (memcmp(line, "PONG", 4) == 0) {
            return PONG;
        } else if (memcmp(line, "-ERR", 4) == 0) {
            snprintf(m->error, sizeof(m->error), "%.*s", (int)size - 2, line);
            return CLIENT_ERROR;
        }
    }
}

void client_wait(struct client *const *all, size_t n, uint32_t wait_ms)
{
    struct pollfd fds[16];

    for (size_t i = 0; i < n; i++) {
        client_flush(all[i]);
        fds[i] = (struct pollfd){ .fd = all[i]->is_closed ? -1 : all[i]->fd,
                                  .events = POLLIN };
        if (client_unsent(all[i]) > 0)
            fds[i].events |= POLLOUT;
        if (all[i]->is_closed)
            wait_ms = 0;
    }
    poll(fds, n, (int)wait_ms);
}

static int next(struct client *c, uint64_t until_ns, struct client_message *m)
{
    for (;;) {
        int e = take(c, m);
        uint64_t now;

        if (e != CLIENT_QUIET)
            return e;
        if (c->is_closed)
            return CLIENT_CLOSED;
        client_flush(c);
        size_t had = c->in.end - c->in.first;
        read_more(c);
        if (c->is_closed || c->in.end - c->in.first > had)
            continue;
        now = client_now_ns();
        if (now >= until_ns)
            return CLIENT_QUIET;
        client_wait(&c, 1, (uint32_t)((until_ns - now) / 1000000 + 1));
    }
}

enum client_event client_next(struct client *c, uint32_t wait_ms,
                              struct client_message *m)
{
    uint64_t until = client_now_ns() + wait_ms * 1000000ull;
    int e;

    do
        e = next(c, until, m);
    while (e == PONG);
    return (enum client_event)e;
}

/* === Connection === */

static int open_socket(uint16_t port)
{
    struct sockaddr_in a = { .sin_family = AF_INET, .sin_port = htons(port) };
    int one = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (fd >= 0 && connect(fd, (struct sockaddr *)&a, sizeof(a)) != 0) {
        close(fd);
        return -1;
    }
    if (fd >= 0) {
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
        fcntl(fd, F_SETFL, O_NONBLOCK);
    }
    return fd;
}

/* CONNECT and PING; the PONG says that we are in. */
static bool log_in(struct client *c)
{
    struct client_message m = { .status = 0 };

    put_text(c, "CONNECT {\"verbose\":false,\"pedantic\":false,\"user\":\"root\","
                "\"pass\":\"memphis\",\"name\":\"7e57::root\",\"lang\":\"c\","
                "\"version\":\"1\",\"protocol\":1,\"echo\":true,\"headers\":true,"
                "\"no_responders\":true}\r\nPING\r\n");
    return next(c, client_now_ns() + 10000000000ull, &m) == PONG;
}

struct client *client_connect(uint16_t port, uint32_t wait_ms)
{
    static uint32_t number;
    uint64_t until = client_now_ns() + wait_ms * 1000000ull;
    int fd;

    while ((fd = open_socket(port)) < 0) {
        if (client_now_ns() >= until)
            return NULL;
        nanosleep(&(struct timespec){ .tv_nsec = 2000000 }, NULL);
    }
    struct client *c = calloc(1, sizeof(*c));
    if (c == NULL)
        abort();
    c->fd = fd;
    snprintf(c->inbox, sizeof(c->inbox), "_INBOX.c%x.%u", (unsigned)getpid(), ++number);
    if (!log_in(c)) {
        client_close(c);
        return NULL;
    }
    return c;
}

void client_close(struct client *c)
{
    if (c == NULL)
        return;
    close(c->fd);
    free(c->in.data);
    free(c->out.data);
    free(c);
}

/* === Commands === */

uint32_t client_subscribe(struct client *c, const char *subject)
{
    char line[512];

    snprintf(line, sizeof(line), "SUB %s %u\r\n", subject, ++c->sids);
    put_text(c, line);
    return c->sids;
}

void client_publish(struct client *c, const char *subject, const char *reply,
                    const char *headers, const void *data, size_t size)
{
    char line[1024];
    size_t extra = headers != NULL ? strlen("NATS/1.0\r\n\r\n") + strlen(headers) : 0;

    reply = reply != NULL ? reply : "";
    if (headers != NULL)
        snprintf(line, sizeof(line), "HPUB %s %s %zu %zu\r\n", subject, reply, extra,
                 extra + size);
    else
        snprintf(line, sizeof(line), "PUB %s %s %zu\r\n", subject, reply, size);
    put_text(c, line);
    if (headers != NULL) {
        put_text(c, "NATS/1.0\r\n");
        put_text(c, headers);
        put_text(c, "\r\n");
    }
    put(c, data, size);
    put(c, "\r\n", 2);
}

void client_pull(struct client *c, const char *stream, const char *group,
                 const char *inbox, uint32_t batch, uint32_t expires_ms)
{
    char subject[400], body[128];
    int n =
        expires_ms > 0
            ? snprintf(body, sizeof(body), "{\"batch\":%u,\"expires\":%u000000}", batch,
                       expires_ms)
            : snprintf(body, sizeof(body), "{\"batch\":%u,\"no_wait\":true}", batch);

    snprintf(subject, sizeof(subject), "$JS.API.CONSUMER.MSG.NEXT.%s.%s", stream,
             group);
    client_publish(c, subject, inbox, NULL, body, (size_t)n);
}

bool client_request(struct client *c, const char *subject, const char *body,
                    uint32_t wait_ms, char *answer, size_t answer_size)
{
    uint64_t until = client_now_ns() + wait_ms * 1000000ull, now;
    struct client_message m = { .status = 0 };
    char inbox[96];

    if (c->request_sid == 0) {
        snprintf(inbox, sizeof(inbox), "%s.*", c->inbox);
        c->request_sid = client_subscribe(c, inbox);
    }
    snprintf(inbox, sizeof(inbox), "%s.%u", c->inbox, ++c->requests);
    client_publish(c, subject, inbox, NULL, body, strlen(body));
    while ((now = client_now_ns()) < until) {
        enum client_event e =
            client_next(c, (uint32_t)((until - now) / 1000000 + 1), &m);

        if (e == CLIENT_CLOSED)
            return false;
        if (e == CLIENT_MESSAGE && m.sid == c->request_sid &&
            m.subject.size == strlen(inbox) &&
            memcmp(m.subject.data, inbox, m.subject.size) == 0) {
            snprintf(answer, answer_size, "%.*s", (int)m.payload.size,
                     (const char *)m.payload.data);
            return m.status != 503;
        }
    }
    return false;
}

/* === Requests of the SDKs === */

void client_station_body(char body[CLIENT_BODY_SIZE], const char *name,
                         uint32_t partitions)
{
    snprintf(body, CLIENT_BODY_SIZE,
             "{\"name\":\"%s\",\"retention_type\":\"message_age_sec\","
             "\"retention_value\":36000,\"storage_type\":\"file\",\"replicas\":1,"
             "\"idempotency_window_in_ms\":600000,\"partitions_number\":%u,"
             "\"username\":\"root\"}",
             name, partitions);
}

void client_producer_body(char body[CLIENT_BODY_SIZE], const char *station,
                          const char *name)
{
    snprintf(
        body, CLIENT_BODY_SIZE,
        "{\"name\":\"%s\",\"station_name\":\"%s\",\"connection_id\":\"7e57\","
        "\"producer_type\":\"application\",\"req_version\":4,\"username\":\"root\","
        "\"app_id\":\"7e57\",\"sdk_lang\":\"c\"}",
        name, station);
}

void client_consumer_body(char body[CLIENT_BODY_SIZE], const char *station,
                          const char *group, uint32_t ack_wait_ms)
{
    snprintf(body, CLIENT_BODY_SIZE,
             "{\"name\":\"%s\",\"station_name\":\"%s\",\"connection_id\":\"7e57\","
             "\"consumer_type\":\"application\",\"consumers_group\":\"%s\","
             "\"max_ack_time_ms\":%u,\"max_msg_deliveries\":10,\"username\":\"root\","
             "\"start_consume_from_sequence\":1,\"last_messages\":-1,\"req_version\":4,"
             "\"app_id\":\"7e57\",\"sdk_lang\":\"c\"}",
             group, station, group, ack_wait_ms);
}

/* TEXT answers are empty on success, JSON ones hold "error":"". */
static bool ask(struct client *c, const char *subject, const char *body)
{
    char answer[1024];

    if (!client_request(c, subject, body, REQUEST_WAIT_MS, answer, sizeof(answer))) {
        fprintf(stderr, "%s was not answered\n", subject);
        return false;
    }
    if (answer[0] == 0 || strstr(answer, "\"error\":\"\"") != NULL)
        return true;
    fprintf(stderr, "%s: %s\n", subject, answer);
    return false;
}

bool client_create_station(struct client *c, const char *name, uint32_t partitions)
{
    char body[CLIENT_BODY_SIZE];

    client_station_body(body, name, partitions);
    return ask(c, "$memphis_station_creations", body);
}

bool client_drop_station(struct client *c, const char *name)
{
    char body[CLIENT_BODY_SIZE];

    snprintf(body, sizeof(body), "{\"station_name\":\"%s\",\"username\":\"root\"}",
             name);
    return ask(c, "$memphis_station_destructions", body);
}

bool client_create_producer(struct client *c, const char *station, const char *name)
{
    char body[CLIENT_BODY_SIZE];

    client_producer_body(body, station, name);
    return ask(c, "$memphis_producer_creations", body);
}

bool client_create_consumer(struct client *c, const char *station, const char *group,
                            uint32_t ack_wait_ms)
{
    char body[CLIENT_BODY_SIZE];

    client_consumer_body(body, station, group, ack_wait_ms);
    return ask(c, "$memphis_consumer_creations", body);
}

bool client_drop_consumer(struct client *c, const char *station, const char *group)
{
    char body[CLIENT_BODY_SIZE];

    snprintf(body, sizeof(body),
             "{\"name\":\"%s\",\"station_name\":\"%s\",\"username\":\"root\","
             "\"connection_id\":\"7e57\",\"req_version\":1}",
             group, station);
    return ask(c, "$memphis_consumer_destructions", body);
}

bool client_has_station(struct client *c, const char *name)
{
    char subject[400], answer[4096];

    snprintf(subject, sizeof(subject), "$JS.API.STREAM.INFO.%s$1", name);
    return client_request(c, subject, "", REQUEST_WAIT_MS, answer, sizeof(answer)) &&
           strstr(answer, "\"config\"") != NULL;
}

/* === Reading back === */

bool client_number_behind(memphis_slice text, const char *prefix, uint64_t *number)
{
    size_t n = strlen(prefix);
    const char *p = text.data;

    if (text.size <= n || memcmp(p, prefix, n) != 0)
        return false;
    *number = 0;
    for (size_t i = n; i < text.size; i++) {
        if (p[i] < '0' || p[i] > '9')
            return false;
        *number = *number * 10 + (uint64_t)(p[i] - '0');
    }
    return true;
}

bool client_ack_subject(memphis_slice subject, uint64_t *seq, uint32_t *deliveries)
{
    char copy[400], *token[6], *at = copy;
    size_t n = 0;

    if (subject.size >= sizeof(copy))
        return false;
    memcpy(copy, subject.data, subject.size);
    copy[subject.size] = 0;
    for (; n < 6 && at != NULL; n++) {
        token[n] = at;
        at = strchr(at, '.');
        if (at != NULL)
            *at++ = 0;
    }
    if (n < 6 || strcmp(token[0], "$JS") != 0 || strcmp(token[1], "ACK") != 0)
        return false;
    *deliveries = (uint32_t)strtoul(token[4], NULL, 10);
    *seq = strtoull(token[5], NULL, 10);
    return true;
}

uint64_t client_puback_seq(memphis_slice payload)
{
    char copy[400];
    const char *at;

    if (payload.size >= sizeof(copy))
        return 0;
    memcpy(copy, payload.data, payload.size);
    copy[payload.size] = 0;
    at = strstr(copy, "\"seq\":");
    if (at == NULL || strstr(copy, "\"error\"") != NULL)
        return 0;
    return strtoull(at + 6, NULL, 10);
}

bool client_drain(struct client *c, const char *station, uint32_t partition,
                  const char *group, client_message_fn fn, void *ctx)
{
    struct client_message m = { .status = 0 };
    char stream[200], inbox[96];
    uint32_t deliveries, got = DRAIN_BATCH;
    uint64_t seq;

    snprintf(stream, sizeof(stream), "%s$%u", station, partition);
    snprintf(inbox, sizeof(inbox), "%s.drain.%u", c->inbox, ++c->requests);
    uint32_t sid = client_subscribe(c, inbox);
    for (;;) {
        if (got == DRAIN_BATCH) {
            client_pull(c, stream, group, inbox, DRAIN_BATCH, 0);
            got = 0;
        }
        enum client_event e = client_next(c, REQUEST_WAIT_MS, &m);
        if (e == CLIENT_QUIET || e == CLIENT_CLOSED)
            return false;
        if (e != CLIENT_MESSAGE || m.sid != sid)
            continue;
        if (m.status != 0)
            return m.status == 404 || m.status == 408;
        if (!client_ack_subject(m.reply, &seq, &deliveries))
            return false;
        got++;
        fn(ctx, partition, seq, deliveries, &m);
    }
}
