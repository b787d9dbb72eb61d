/* One connection: bytes between a socket, or a tunnel's end, and a memphis_session.
 *
 * Reading goes through one buffer of the server straight into the session; what the
 * session can not take (FULL) is held and fed again, and reading pauses meanwhile.
 * Writing goes straight to the socket, one write per turn; what it does not take waits
 * in `rest`. Bytes taken are credited to the session, so that a slow reader is noticed
 * (and closed) by the session.
 *
 * No bufferevent: it reads 4 KiB at a time, and each write would pass an event. */
#include "server.h"

#include <errno.h>
#include <event2/buffer.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>

enum { WRITE_MAX = 1024 * 1024, PIECES_MAX = 8 };

struct conn {
    struct server *server;
    int fd;
    memphis_session *session;
    struct event *readable, *writable;
    struct event *later;   /* FULL: feed again; is_over: free */
    struct evbuffer *rest; /* output that the socket has not taken */
    char *held;            /* input that the session has not taken; NULL: none */
    size_t held_size;
    enum door door;
    bool is_deaf; /* the peer takes no output; what it sent before is still read */
    bool closing; /* close when the output is flushed */
    bool lingers; /* it is flushed, and the peer may see so before the socket goes */
    bool is_over; /* nothing more is read or written */
    struct conn *next, **link;
};

static const struct timeval at_once = { 0, 0 };
static const struct timeval soon = { 0, 1000 };
static const struct timeval last_words = { 2, 0 };

static void release(struct conn *c)
{
    struct event *events[] = { c->readable, c->writable, c->later };

    for (size_t i = 0; i < sizeof(events) / sizeof(events[0]); i++)
        if (events[i] != NULL)
            event_free(events[i]);
    if (c->rest != NULL)
        evbuffer_free(c->rest);
    evutil_closesocket(c->fd);
    free(c->held);
    free(c);
}

static void conn_free(struct conn *c)
{
    *c->link = c->next;
    if (c->next != NULL)
        c->next->link = c->link;
    c->server->conns_count--;
    memphis_session_free(c->session);
    release(c);
}

/* For callbacks of the session, inside which it must not be freed. */
static void free_later(struct conn *c)
{
    c->closing = c->is_over = true;
    event_del(c->readable);
    event_del(c->writable);
    event_add(c->later, &at_once);
}

/* === Output === */

static void gone(struct conn *c)
{
    size_t rest = evbuffer_get_length(c->rest);

    c->is_deaf = true;
    evbuffer_drain(c->rest, rest);
    event_del(c->writable);
    memphis_session_drained(c->session, rest);
    if (c->closing)
        free_later(c);
}

/* What the socket takes at once of the pieces; less than 0: it is gone. */
static ssize_t send_now(struct conn *c, const memphis_slice *v, size_t n)
{
    struct iovec pieces[PIECES_MAX];
    struct msghdr m = { .msg_iov = pieces };
    ssize_t sent;

    if (c->is_deaf || evbuffer_get_length(c->rest) > 0)
        return 0;
    for (; m.msg_iovlen < n && m.msg_iovlen < PIECES_MAX; m.msg_iovlen++)
        pieces[m.msg_iovlen] = (struct iovec){
            .iov_base = (void *)(uintptr_t)v[m.msg_iovlen].data,
            .iov_len = v[m.msg_iovlen].size,
        };
    sent = sendmsg(c->fd, &m, MSG_NOSIGNAL | MSG_DONTWAIT);
    return sent < 0 && (errno == EAGAIN || errno == EINTR) ? 0 : sent;
}

static void pipe_write(void *ctx, const memphis_slice *v, size_t n)
{
    struct conn *c = ctx;
    ssize_t sent;
    size_t done;

    if (c->is_over)
        return;
    sent = send_now(c, v, n);
    if (sent < 0)
        gone(c);
    if (sent > 0)
        memphis_session_drained(c->session, (size_t)sent);
    done = sent > 0 ? (size_t)sent : 0;
    for (size_t i = 0; i < n && !c->is_over; i++) {
        size_t skip = done < v[i].size ? done : v[i].size, left = v[i].size - skip;

        done -= skip;
        if (left == 0)
            continue;
        if (c->is_deaf) {
            memphis_session_drained(c->session, left);
        } else {
            evbuffer_add(c->rest, (const char *)v[i].data + skip, left);
            event_add(c->writable, NULL);
        }
    }
}

/* All is written. A socket that is closed while input waits resets the connection, and
 * a browser then knows no close code: so its end is waited for, a moment. */
static bool lingers(struct conn *c)
{
    if (c->door != DOOR_WEBSOCKET || c->is_deaf || shutdown(c->fd, SHUT_WR) != 0)
        return false;
    c->lingers = true;
    event_add(c->readable, NULL);
    event_add(c->later, &last_words);
    return true;
}

static void pipe_close(void *ctx, const char *why)
{
    struct conn *c = ctx;

    (void)why; /* the session has logged it */
    if (c->closing)
        return;
    c->closing = true;
    event_del(c->readable);
    if (evbuffer_get_length(c->rest) == 0) {
        if (!lingers(c))
            free_later(c);
    } else /* a peer that does not read its last words is not waited for */
        event_add(c->writable, &last_words);
}

static void on_writable(evutil_socket_t fd, short what, void *ctx)
{
    struct conn *c = ctx;
    int n = what & EV_TIMEOUT ? -1 : evbuffer_write_atmost(c->rest, fd, WRITE_MAX);

    if (n <= 0 && (what & EV_TIMEOUT)) {
        conn_free(c);
        return;
    }
    if (n <= 0 && errno != EAGAIN && errno != EINTR) {
        gone(c);
        return;
    }
    if (n > 0)
        memphis_session_drained(c->session, (size_t)n);
    loop_wants_step(c->server); /* groups may have waited for that */
    if (evbuffer_get_length(c->rest) > 0)
        event_add(c->writable, c->closing ? &last_words : NULL);
    else if (c->closing && !lingers(c))
        conn_free(c);
}

/* === Input === */

/* `bytes` may be c->held itself. */
static void feed(struct conn *c, const char *bytes, size_t size)
{
    memphis_status st = memphis_session_feed(c->session, bytes, size);

    loop_wants_step(c->server);
    if (st == MEMPHIS_FULL && c->held == NULL) {
        c->held = malloc(size);
        if (c->held == NULL) {
            free_later(c);
            return;
        }
        memcpy(c->held, bytes, size);
        c->held_size = size;
        event_del(c->readable);
    }
    if (st == MEMPHIS_FULL) {
        event_add(c->later, &soon);
    } else if (c->held != NULL) {
        free(c->held);
        c->held = NULL;
        if (!c->closing)
            event_add(c->readable, NULL);
    }
}

static void on_later(evutil_socket_t fd, short what, void *ctx)
{
    struct conn *c = ctx;

    (void)fd, (void)what;
    if (c->is_over || c->lingers)
        conn_free(c);
    else if (!c->closing && c->held != NULL)
        feed(c, c->held, c->held_size);
}

/* The session hears the rest of what came before it closes. */
static void no_more_input(struct conn *c)
{
    memphis_status st = memphis_session_feed(c->session, NULL, 0);

    event_del(c->readable);
    loop_wants_step(c->server);
    if (st != MEMPHIS_OK && st != MEMPHIS_CLOSED)
        conn_free(c);
}

static void on_readable(evutil_socket_t fd, short what, void *ctx)
{
    struct conn *c = ctx;
    ssize_t n = recv(fd, c->server->read_buffer, sizeof(c->server->read_buffer), 0);

    (void)what;
    if (c->lingers) {
        if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR))
            conn_free(c);
    } else if (n > 0)
        feed(c, c->server->read_buffer, (size_t)n);
    else if (n == 0 || (errno != EAGAIN && errno != EINTR))
        no_more_input(c); /* end of file, or an error */
}

/* === Life === */

void conn_accept(struct server *s, enum door door, int fd, const char *peer)
{
    struct conn *c = calloc(1, sizeof(*c));
    memphis_pipe pipe = { .write = pipe_write, .close = pipe_close, .ctx = c };
    memphis_session_options o = { .peer = peer,
                                  .websocket = door == DOOR_WEBSOCKET,
                                  .tls = s->tunnels != NULL };

    if (c == NULL) {
        evutil_closesocket(fd);
        return;
    }
    c->server = s;
    c->fd = fd;
    c->door = door;
    c->readable = event_new(s->base, fd, EV_READ | EV_PERSIST, on_readable, c);
    c->writable = event_new(s->base, fd, EV_WRITE, on_writable, c);
    c->later = evtimer_new(s->base, on_later, c);
    c->rest = evbuffer_new();
    if (c->readable == NULL || c->writable == NULL || c->later == NULL ||
        c->rest == NULL || event_add(c->readable, NULL) != 0 ||
        memphis_session_new(s->broker, &pipe, &o, &c->session, NULL) != MEMPHIS_OK) {
        release(c);
        return;
    }
    c->next = s->conns;
    c->link = &s->conns;
    if (c->next != NULL)
        c->next->link = &c->next;
    s->conns = c;
    s->conns_count++;
    loop_wants_step(s); /* INFO */
}

void conn_close_one(struct server *s)
{
    struct conn *c = s->conns;

    while (c != NULL && c->closing)
        c = c->next;
    if (c == NULL)
        return;
    memphis_session_close(c->session);
    loop_wants_step(s);
}

void conn_close_all(struct server *s)
{
    for (struct conn *c = s->conns; c != NULL; c = c->next)
        memphis_session_close(c->session);
    if (s->conns != NULL)
        (void)memphis_step(s->broker, NULL); /* it may be broken: then without a word */
    while (s->conns != NULL)
        conn_free(s->conns);
}
