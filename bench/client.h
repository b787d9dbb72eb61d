/* bench/client.h -- a client of the NATS protocol over one socket, as small and fast as
 * it can be: what is measured should be the server.
 *
 *   out:  put bytes with client_reserve and client_commit (or client_publish)
 *   in:   client_pump waits, writes what the socket takes, reads what it has, and calls
 *         on_message for each MSG and HMSG
 *
 * Errors end the program with a sentence: a load generator has nothing to recover. */
#ifndef BENCH_CLIENT_H
#define BENCH_CLIENT_H

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { IN_MAX = 4 << 20, OUT_MAX = 32 << 20, READ_MAX = 1 << 20 };

struct piece {
    const char *data;
    size_t size;
};

struct message {
    struct piece subject, reply; /* reply.size 0: none */
    unsigned sid;
    struct piece headers, body;
};

struct client {
    int fd;
    char *in, *out;
    size_t in_start, in_end, out_start, out_end;
    void (*on_message)(void *ctx, const struct message *m);
    void *ctx;
    unsigned id; /* in the names of its inboxes */
    unsigned pongs;
    unsigned requests;
    char answer[1 << 16]; /* of the last request */
    bool answered;
};

__attribute__((noreturn, format(printf, 1, 2))) static void die(const char *format, ...)
{
    va_list a;

    va_start(a, format);
    fprintf(stderr, "load: ");
    vfprintf(stderr, format, a);
    fprintf(stderr, "\n");
    va_end(a);
    exit(1);
}

static uint64_t now_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* === Output === */

static char *client_reserve(struct client *c, size_t size)
{
    if (c->out_start == c->out_end)
        c->out_start = c->out_end = 0;
    if (c->out_end + size > OUT_MAX) {
        memmove(c->out, c->out + c->out_start, c->out_end - c->out_start);
        c->out_end -= c->out_start;
        c->out_start = 0;
    }
    if (c->out_end + size > OUT_MAX)
        die("the server takes no more bytes");
    return c->out + c->out_end;
}

static void client_commit(struct client *c, size_t size)
{
    c->out_end += size;
}

static void client_flush(struct client *c)
{
    while (c->out_start < c->out_end) {
        ssize_t n = send(c->fd, c->out + c->out_start, c->out_end - c->out_start,
                         MSG_NOSIGNAL);

        if (n < 0 && (errno == EAGAIN || errno == EINTR))
            return;
        if (n < 0)
            die("send: %s", strerror(errno));
        c->out_start += (size_t)n;
    }
}

static void client_publish(struct client *c, const char *subject, const char *reply,
                           const void *body, size_t size)
{
    char *p = client_reserve(c, size + 1200);
    int n = snprintf(p, 1100, "PUB %s %s%s%zu\r\n", subject, reply ? reply : "",
                     reply ? " " : "", size);

    memcpy(p + n, body, size);
    memcpy(p + n + size, "\r\n", 2);
    client_commit(c, (size_t)n + size + 2);
}

/* === Input === */

static unsigned number_of(const char *p, const char *end)
{
    unsigned n = 0;

    while (p < end && *p >= '0' && *p <= '9')
        n = n * 10 + (unsigned)(*p++ - '0');
    return n;
}

/* The arguments of MSG (3 or 4) or HMSG (4 or 5). Returns the size of what follows. */
static size_t read_line(struct message *m, const char *p, const char *end, bool headers)
{
    struct piece args[6];
    unsigned n = 0;
    size_t total;

    while (p < end && n < 6) {
        const char *blank = memchr(p, ' ', (size_t)(end - p));
        const char *stop = blank != NULL ? blank : end;

        if (stop > p)
            args[n++] = (struct piece){ p, (size_t)(stop - p) };
        p = stop + 1;
    }
    if (n < 3u + headers)
        die("the server sent a message line with %u arguments", n);
    total = number_of(args[n - 1].data, args[n - 1].data + args[n - 1].size);
    m->subject = args[0];
    m->sid = number_of(args[1].data, args[1].data + args[1].size);
    m->reply = n == 4u + headers ? args[2] : (struct piece){ NULL, 0 };
    m->headers.size =
        headers ? number_of(args[n - 2].data, args[n - 2].data + args[n - 2].size) : 0;
    return total;
}

static void take(struct client *c, const struct message *m)
{
    if (m->sid != 2) {
        c->on_message(c->ctx, m);
        return;
    }
    if (m->body.size >= sizeof(c->answer))
        die("an answer of %zu bytes", m->body.size);
    memcpy(c->answer, m->body.data, m->body.size);
    c->answer[m->body.size] = 0;
    c->answered = true;
}

/* One frame. Returns its size, 0: not complete yet. */
static size_t take_frame(struct client *c, const char *p, size_t size)
{
    const char *eol = memchr(p, '\n', size);
    struct message m;
    size_t line, total;
    bool headers;

    if (eol == NULL)
        return 0;
    line = (size_t)(eol - p) + 1;
    headers = p[0] == 'H';
    if (p[0] == 'M' || headers) {
        total = read_line(&m, p + 4 + headers, eol - 1, headers);
        if (size < line + total + 2)
            return 0;
        m.headers.data = p + line;
        m.body = (struct piece){ p + line + m.headers.size, total - m.headers.size };
        take(c, &m);
        return line + total + 2;
    }
    if (p[0] == '-')
        die("the server says: %.*s", (int)line - 2, p);
    if (line >= 6 && memcmp(p, "PING\r\n", 6) == 0)
        memcpy(client_reserve(c, 6), "PONG\r\n", 6), client_commit(c, 6);
    c->pongs += line >= 6 && memcmp(p, "PONG\r\n", 6) == 0;
    return line;
}

static void client_read(struct client *c)
{
    ssize_t n;
    size_t used;

    if (c->in_end + READ_MAX > IN_MAX) {
        memmove(c->in, c->in + c->in_start, c->in_end - c->in_start);
        c->in_end -= c->in_start;
        c->in_start = 0;
    }
    n = recv(c->fd, c->in + c->in_end, READ_MAX, 0);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n <= 0)
        die("the server has closed the connection");
    c->in_end += (size_t)n;
    while (c->in_start < c->in_end &&
           (used = take_frame(c, c->in + c->in_start, c->in_end - c->in_start)) > 0)
        c->in_start += used;
    if (c->in_start == c->in_end)
        c->in_start = c->in_end = 0;
}

/* Waits at most wait_ms for something to read. */
static void client_pump(struct client *c, int wait_ms)
{
    struct pollfd p = { .fd = c->fd, .events = POLLIN };

    client_flush(c);
    if (c->out_start < c->out_end)
        p.events |= POLLOUT;
    if (poll(&p, 1, wait_ms) < 0 && errno != EINTR)
        die("poll: %s", strerror(errno));
    if (p.revents & (POLLIN | POLLHUP | POLLERR))
        client_read(c);
}

/* Sends a request and waits for its answer, which lies in c->answer. */
static const char *client_request(struct client *c, const char *subject,
                                  const char *body)
{
    uint64_t end = now_ns() + 60000000000u;
    char reply[64];

    snprintf(reply, sizeof(reply), "_INBOX.benchr%u.%u", c->id, c->requests++);
    c->answered = false;
    client_publish(c, subject, reply, body, strlen(body));
    while (!c->answered) {
        if (now_ns() > end)
            die("no answer to %s", subject);
        client_pump(c, 1000);
    }
    return c->answer;
}

/* === Life === */

static void nobody(void *ctx, const struct message *m)
{
    (void)ctx, (void)m;
}

/* -1: nobody listens there (yet). */
static int socket_to(unsigned port)
{
    struct sockaddr_in a = { .sin_family = AF_INET,
                             .sin_port = htons((uint16_t)port),
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), one = 1;

    if (fd < 0)
        die("socket: %s", strerror(errno));
    if (connect(fd, (struct sockaddr *)&a, sizeof(a)) != 0) {
        close(fd);
        return -1;
    }
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
    return fd;
}

static struct client *client_new(int fd)
{
    static unsigned clients;
    struct client *c = calloc(1, sizeof(*c));

    if (c == NULL || (c->in = malloc(IN_MAX)) == NULL ||
        (c->out = malloc(OUT_MAX)) == NULL)
        die("no memory");
    c->fd = fd;
    c->id = clients++;
    c->on_message = nobody;
    return c;
}

static void client_free(struct client *c)
{
    close(c->fd);
    free(c->in);
    free(c->out);
    free(c);
}

/* Says hello as an SDK does; returns after the first PONG. Subscriptions: 1: answers to
 * publishes, 2: answers to requests, 3: pulled messages. */
static void client_hello(struct client *c)
{
    static const char hello[] =
        "CONNECT {\"verbose\":false,\"pedantic\":false,\"user\":\"root$1\","
        "\"pass\":\"memphis\",\"tls_required\":false,\"name\":\"6a0c6f9e::root\","
        "\"lang\":\"go\",\"version\":\"1.31.0\",\"protocol\":1,\"echo\":true,"
        "\"headers\":true,\"no_responders\":true}\r\nPING\r\n";
    int n = snprintf(client_reserve(c, 1024), 1024,
                     "%sSUB _INBOX.bencha%u.* 1\r\nSUB _INBOX.benchr%u.* 2\r\n"
                     "SUB _INBOX.benchp%u.* 3\r\n",
                     hello, c->id, c->id, c->id);

    client_commit(c, (size_t)n);
    while (c->pongs == 0)
        client_pump(c, 1000);
}

static struct client *client_open(unsigned port)
{
    int fd = socket_to(port);
    struct client *c;

    if (fd < 0)
        die("nobody listens on port %u", port);
    c = client_new(fd);
    client_hello(c);
    return c;
}

#endif
