#include "tunnel.h"

#include "server.h"
#include "tls.h"

#include <errno.h>
#include <event2/buffer.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum {
    HANDSHAKE_S = 5,      /* from its turn to the first words inside */
    HANDSHAKES_MAX = 128, /* so few that a slow processor does all in HANDSHAKE_S */
    LAST_WORDS_S = 2,     /* how long a client is waited for at the end */
    FAREWELL_MS = 100,
    STALL_S = 12,         /* a session closes a slow reader after 10 */
    STOP_S = 1,
    READ_CIPHER = 64 * 1024, /* at a time */
    READ_PLAIN = 16 * 1024,  /* a record */
    CIPHER_MAX = 256 * 1024, /* for a client that reads nothing: hostile above it */
    INFO_MAX = 4096,
    TLS_HANDSHAKE_BYTE = 0x16,
};

enum stage {
    GREETING,  /* INFO is to go out */
    QUIET,     /* the client's first byte is waited for */
    QUEUED,    /* ... and came: waits for its turn */
    HANDSHAKE, /* until the handshake is done */
    OPEN,      /* bytes go both ways */
    REFUSED,   /* it was told why, and may read it */
};

/* The end of TLS is told FAREWELL_MS behind the last bytes, unless the client ends it:
 * Go's TLS hands bytes and the end over together if both are there, and nats.go then
 * drops the bytes, an -ERR that says why. */
enum farewell { NOT_YET, HELD_BACK, DUE };

struct end { /* of a tunnel */
    int fd;
    struct event *readable, *writable;
    struct evbuffer *rest; /* for it, and not taken yet */
    bool has_ended;        /* it says no more */
    bool is_deaf;          /* it takes no more: what is for it is dropped */
    bool is_told;          /* ... that nothing follows */
};

struct tunnel {
    struct tunnels *all;
    enum stage stage;
    enum door door;
    struct end client, core;
    struct event *deadline;
    struct tls *tls;
    bool has_spoken; /* the client, inside of TLS */
    enum farewell farewell;
    struct tunnel *next, **link;
    struct tunnel *queue_next; /* QUEUED, or with a step to do */
    bool is_in_queue;
    char peer[INET6_ADDRSTRLEN];
};

struct queue {
    struct tunnel *first, **last;
};

struct command {
    struct tunnel *opened; /* NULL: read the certificates anew */
};

struct tunnels {
    struct tls_files files;
    struct tls_context *context; /* the newest */
    struct tunnel_counters counters;
    uint16_t ports[DOORS];
    int commands[2]; /* pipe: core to I/O thread; its end means: stop */
    pthread_t thread;
    struct event_base *base;
    struct event *command;
    struct event *step; /* timer: one step of one handshake */
    struct tunnel *first;
    struct queue waiting, steps;
    unsigned handshakes;
    bool stops;
    time_t told_at; /* of complaints: a flood of them is counted, not printed */
    unsigned untold;
    unsigned char cipher[READ_CIPHER], plain[READ_PLAIN];
};

static const struct timeval at_once = { 0, 0 };

/* === Complaints === */

static time_t now_s(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec;
}

/* One a second. */
static void complain(const struct tunnel *t, const char *what, const char *why)
{
    struct tunnels *all = t->all;
    char more[64] = "";

    if (all->told_at == now_s()) {
        all->untold++;
        return;
    }
    all->told_at = now_s();
    if (all->untold > 0)
        snprintf(more, sizeof(more), " (and %u more before)", all->untold);
    all->untold = 0;
    fprintf(stderr, "memphisd: %s (%s, port %u)%s%s%s.\n", what, t->peer,
            all->ports[t->door], why[0] != 0 ? ": " : "", why, more);
}

/* === Queues === */

static void push(struct queue *q, struct tunnel *t)
{
    t->queue_next = NULL;
    t->is_in_queue = true;
    if (q->first == NULL)
        q->last = &q->first;
    *q->last = t;
    q->last = &t->queue_next;
}

static struct tunnel *pop(struct queue *q)
{
    struct tunnel *t = q->first;

    if (t == NULL)
        return NULL;
    q->first = t->queue_next;
    t->is_in_queue = false;
    return t;
}

static void drop(struct queue *q, struct tunnel *t)
{
    struct tunnel **p = &q->first;

    while (*p != NULL && *p != t)
        p = &(*p)->queue_next;
    if (*p == NULL)
        return;
    *p = t->queue_next;
    if (*p == NULL)
        q->last = p;
}

static void work(struct tunnels *all, struct tunnel *t)
{
    if (!t->is_in_queue)
        push(&all->steps, t);
    event_add(all->step, &at_once); /* by the timer: behind the sockets */
}

/* Its turn, if there is one free. */
static void give_turns(struct tunnels *all)
{
    struct tunnel *t;

    while (all->handshakes < HANDSHAKES_MAX && (t = pop(&all->waiting)) != NULL) {
        const struct timeval limit = { HANDSHAKE_S, 0 };

        t->stage = HANDSHAKE;
        all->handshakes++;
        event_add(t->deadline, &limit);
        work(all, t);
    }
}

/* === Life === */

static void end_free(struct end *e)
{
    if (e->readable != NULL)
        event_free(e->readable);
    if (e->writable != NULL)
        event_free(e->writable);
    if (e->rest != NULL)
        evbuffer_free(e->rest);
    if (e->fd >= 0)
        close(e->fd);
}

static void tunnel_free(struct tunnel *t)
{
    struct tunnels *all = t->all;

    if (t->is_in_queue)
        drop(t->stage == QUEUED ? &all->waiting : &all->steps, t);
    if (t->stage == HANDSHAKE)
        all->handshakes--;
    *t->link = t->next;
    if (t->next != NULL)
        t->next->link = t->link;
    if (t->deadline != NULL)
        event_free(t->deadline);
    tls_free(t->tls);
    end_free(&t->client);
    end_free(&t->core);
    free(t);
    give_turns(all);
    if (all->stops && all->first == NULL)
        event_base_loopbreak(all->base);
}

/* === Output === */

static void give(struct end *e, const void *bytes, size_t size)
{
    ssize_t n = 0;

    if (e->is_deaf)
        return;
    if (evbuffer_get_length(e->rest) == 0)
        n = send(e->fd, bytes, size, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (n < 0 && errno != EAGAIN && errno != EINTR)
        e->is_deaf = true;
    n = n < 0 ? 0 : n;
    if (!e->is_deaf && (size_t)n < size &&
        evbuffer_add(e->rest, (const char *)bytes + n, size - (size_t)n) != 0)
        e->is_deaf = true;
}

static void on_cipher(void *ctx, const void *bytes, size_t size)
{
    struct tunnel *t = ctx;

    give(&t->client, bytes, size);
}

static void on_plain(void *ctx, const void *bytes, size_t size)
{
    struct tunnel *t = ctx;

    if (!t->has_spoken && !t->core.has_ended)
        event_del(t->deadline);
    t->has_spoken = true;
    give(&t->core, bytes, size);
}

/* === What to wait for === */

static void last_words(struct tunnel *t)
{
    const struct timeval limit = { LAST_WORDS_S, 0 };

    event_add(t->deadline, &limit);
}

/* Passes the ends on: what follows nothing is told so. */
static void pass_ends(struct tunnel *t)
{
    static const struct timeval pause = { 0, FAREWELL_MS * 1000 };
    struct end *client = &t->client, *core = &t->core;

    if (client->has_ended && !core->is_told && evbuffer_get_length(core->rest) == 0) {
        core->is_told = true;
        shutdown(core->fd, SHUT_WR);
    }
    if (!core->has_ended || client->is_told || evbuffer_get_length(client->rest) > 0)
        return;
    if (t->farewell == NOT_YET && t->stage == OPEN) {
        t->farewell = HELD_BACK;
        event_add(t->deadline, &pause);
    }
    if (t->farewell == HELD_BACK && !client->has_ended && !t->all->stops)
        return;
    client->is_told = true;
    if (t->tls != NULL && tls_is_open(t->tls))
        tls_close(t->tls); /* small: it fits, or nobody reads */
    if (!client->is_deaf)
        shutdown(client->fd, SHUT_WR);
    last_words(t); /* a close while input waits would take them back */
}

static void listen_to(struct end *e, bool wanted)
{
    if (wanted)
        event_add(e->readable, NULL);
    else
        event_del(e->readable);
}

/* Whoever takes nothing for `limit_s` is gone; 0: the core, which may be FULL. */
static void wait_for_room(struct end *e, int limit_s)
{
    const struct timeval limit = { limit_s, 0 };

    if (e->is_deaf)
        evbuffer_drain(e->rest, evbuffer_get_length(e->rest));
    if (evbuffer_get_length(e->rest) > 0 && !event_pending(e->writable, EV_WRITE, NULL))
        event_add(e->writable, limit_s > 0 ? &limit : NULL);
}

/* After each event: what is to be told, what to be waited for, or the end of it. A
 * source is not read before its bytes from last time are gone. */
static void settle(struct tunnel *t)
{
    struct end *client = &t->client, *core = &t->core;
    bool is_pumping = t->stage == OPEN || t->stage == REFUSED;

    wait_for_room(client, core->has_ended ? LAST_WORDS_S : STALL_S);
    wait_for_room(core, 0);
    if (is_pumping)
        pass_ends(t);
    if ((client->has_ended && core->has_ended && client->is_told) ||
        (t->all->stops && client->is_told) ||
        evbuffer_get_length(client->rest) > CIPHER_MAX) {
        tunnel_free(t);
        return;
    }
    listen_to(core, !core->has_ended && (t->stage == GREETING || t->stage == OPEN) &&
                        evbuffer_get_length(client->rest) == 0);
    listen_to(client, !client->has_ended && t->stage != GREETING &&
                          t->stage != QUEUED && !t->is_in_queue &&
                          evbuffer_get_length(core->rest) == 0);
}

static void on_deadline(evutil_socket_t fd, short what, void *ctx)
{
    struct tunnel *t = ctx;

    (void)fd, (void)what;
    if (t->farewell == HELD_BACK && !t->client.is_told) {
        t->farewell = DUE;
        settle(t);
        return;
    }
    if (!t->client.is_told) { /* else: it was waited for long enough */
        t->all->counters.late++;
        complain(t, "no TLS handshake in time", "");
    }
    tunnel_free(t);
}

static void on_writable(struct tunnel *t, struct end *e, short what)
{
    int n;

    if (what & EV_TIMEOUT) {
        tunnel_free(t);
        return;
    }
    n = evbuffer_write(e->rest, e->fd);
    if (n <= 0 && errno != EAGAIN && errno != EINTR)
        e->is_deaf = true;
    settle(t);
}

static void on_client_writable(evutil_socket_t fd, short what, void *ctx)
{
    struct tunnel *t = ctx;

    (void)fd;
    on_writable(t, &t->client, what);
}

static void on_core_writable(evutil_socket_t fd, short what, void *ctx)
{
    struct tunnel *t = ctx;

    (void)fd;
    on_writable(t, &t->core, what);
}

/* === From the core === */

/* INFO, in clear, is its first line; what may follow is not. */
static void greet(struct tunnel *t)
{
    const struct timeval limit = { HANDSHAKE_S, 0 };
    char info[INFO_MAX];
    ssize_t n = recv(t->core.fd, info, sizeof(info), MSG_PEEK | MSG_DONTWAIT);
    const char *end = n > 0 ? memchr(info, '\n', (size_t)n) : NULL;

    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (end == NULL) { /* the session was refused */
        tunnel_free(t);
        return;
    }
    n = recv(t->core.fd, info, (size_t)(end - info + 1), 0);
    give(&t->client, info, (size_t)n);
    t->stage = QUIET;
    event_add(t->deadline, &limit);
    settle(t);
}

static void on_core_readable(evutil_socket_t fd, short what, void *ctx)
{
    struct tunnel *t = ctx;
    struct tunnels *all = t->all;

    (void)what;
    if (t->stage == GREETING) {
        greet(t);
        return;
    }
    for (int i = 0; i < 4 && evbuffer_get_length(t->client.rest) == 0; i++) {
        ssize_t n = recv(fd, all->plain, sizeof(all->plain), MSG_DONTWAIT);

        if (n < 0 && (errno == EAGAIN || errno == EINTR))
            break;
        if (n <= 0) {
            t->core.has_ended = true;
            break;
        }
        t->client.is_deaf |= !tls_write(t->tls, all->plain, (size_t)n);
    }
    settle(t);
}

/* === From the client === */

/* What it was told is on its way; the core hears of its end. */
static void refuse(struct tunnel *t)
{
    struct tunnels *all = t->all;
    struct end *core = &t->core;

    if (t->stage == HANDSHAKE)
        all->handshakes--;
    t->stage = REFUSED;
    event_del(core->readable);
    event_del(core->writable);
    close(core->fd);
    core->fd = -1;
    core->has_ended = core->is_told = core->is_deaf = true;
    settle(t);
    give_turns(all);
}

static void refuse_plain(struct tunnel *t)
{
    static const char *const texts[] = {
        [DOOR_TCP] = "-ERR 'Secure Connection - TLS Required'\r\n",
        [DOOR_WEBSOCKET] = "HTTP/1.1 400 Bad Request\r\nConnection: close\r\n"
                           "Content-Type: text/plain\r\n\r\nThis port speaks TLS: "
                           "wss:// instead of ws://.\n",
    };

    t->all->counters.plain++;
    complain(t, "a client without TLS is refused", "");
    give(&t->client, texts[t->door], strlen(texts[t->door]));
    refuse(t);
}

/* The first byte says what it is; it stays where it is. */
static void look(struct tunnel *t)
{
    unsigned char first;
    ssize_t n = recv(t->client.fd, &first, 1, MSG_PEEK | MSG_DONTWAIT);

    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n <= 0) {
        tunnel_free(t);
    } else if (first != TLS_HANDSHAKE_BYTE) {
        refuse_plain(t);
    } else {
        t->stage = QUEUED;
        event_del(t->deadline); /* its time begins with its turn */
        event_del(t->client.readable);
        push(&t->all->waiting, t);
        give_turns(t->all);
    }
}

static void read_client(struct tunnel *t)
{
    unsigned char *bytes = t->all->cipher;
    ssize_t n = recv(t->client.fd, bytes, READ_CIPHER, MSG_DONTWAIT);
    enum tls_status st;

    if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
        settle(t);
        return;
    }
    if (n <= 0 && t->stage == HANDSHAKE) {
        t->all->counters.failed++;
        tunnel_free(t);
        return;
    }
    if (t->stage == REFUSED || n <= 0) { /* listened to, for its end only */
        t->client.has_ended |= n <= 0;
        settle(t);
        return;
    }
    st = tls_feed(t->tls, bytes, (size_t)n);
    if (st == TLS_FAILED) {
        t->all->counters.failed++;
        complain(t, "TLS with a client failed", tls_why(t->tls));
        refuse(t);
        return;
    }
    t->client.has_ended |= st == TLS_ENDED;
    if (t->stage == HANDSHAKE && tls_is_open(t->tls)) {
        t->stage = OPEN;
        t->all->handshakes--;
        t->all->counters.opened++;
        give_turns(t->all);
    }
    settle(t);
}

static void on_client_readable(evutil_socket_t fd, short what, void *ctx)
{
    struct tunnel *t = ctx;

    (void)fd, (void)what;
    if (t->stage == QUIET) {
        look(t);
    } else if (t->stage == HANDSHAKE) {
        event_del(t->client.readable);
        work(t->all, t);
    } else {
        read_client(t);
    }
}

/* Whoever gave up while it waited for its turn costs no handshake. */
static bool has_gone(const struct tunnel *t)
{
    struct pollfd p = { .fd = t->client.fd, .events = POLLRDHUP };

    return poll(&p, 1, 0) > 0;
}

static void on_step(evutil_socket_t fd, short what, void *ctx)
{
    struct tunnels *all = ctx;
    struct tunnel *t = pop(&all->steps);
    struct tls_pipe pipe = { on_plain, on_cipher, t };

    (void)fd, (void)what;
    if (all->steps.first != NULL)
        event_add(all->step, &at_once);
    if (t == NULL)
        return;
    if (t->tls == NULL && !has_gone(t))
        t->tls = tls_new(all->context, &pipe);
    if (t->tls == NULL) {
        all->counters.failed++;
        tunnel_free(t);
    } else {
        read_client(t);
    }
}

/* === Commands === */

static bool end_init(struct end *e, struct tunnel *t, event_callback_fn readable,
                     event_callback_fn writable)
{
    struct event_base *base = t->all->base;

    e->readable = event_new(base, e->fd, EV_READ | EV_PERSIST, readable, t);
    e->writable = event_new(base, e->fd, EV_WRITE, writable, t);
    e->rest = evbuffer_new();
    return e->readable != NULL && e->writable != NULL && e->rest != NULL;
}

static void begin(struct tunnels *all, struct tunnel *t)
{
    const struct timeval limit = { HANDSHAKE_S, 0 };

    t->next = all->first;
    t->link = &all->first;
    if (t->next != NULL)
        t->next->link = &t->next;
    all->first = t;
    t->deadline = evtimer_new(all->base, on_deadline, t);
    t->stage = t->door == DOOR_TCP ? GREETING : QUIET;
    if (t->deadline == NULL ||
        !end_init(&t->client, t, on_client_readable, on_client_writable) ||
        !end_init(&t->core, t, on_core_readable, on_core_writable)) {
        tunnel_free(t);
        return;
    }
    if (t->stage == QUIET)
        event_add(t->deadline, &limit);
    settle(t);
}

static void reload(struct tunnels *all)
{
    char text[TLS_TEXT_MAX];
    struct tls_context *x = tls_context_new(&all->files, text);

    if (x == NULL) {
        fprintf(stderr, "memphisd: the old certificates stay in use: %s.\n", text);
        return;
    }
    tls_context_free(all->context);
    all->context = x;
    fprintf(stderr, "memphisd: certificates are read anew, for new connections.%s%s\n",
            text[0] != 0 ? " Warning: " : "", text);
}

/* The core has closed its ends. Who has said all is gone at once. */
static void stop(struct tunnels *all)
{
    const struct timeval limit = { STOP_S, 0 };
    struct tunnel *next;

    all->stops = true;
    event_base_loopexit(all->base, &limit);
    for (struct tunnel *t = all->first; t != NULL; t = next) {
        next = t->next;
        if (t->stage != OPEN)
            tunnel_free(t);
        else
            settle(t);
    }
    if (all->first == NULL)
        event_base_loopbreak(all->base);
}

static void on_command(evutil_socket_t fd, short what, void *ctx)
{
    struct tunnels *all = ctx;
    struct command c;
    ssize_t n;

    (void)what;
    n = read(fd, &c, sizeof(c));
    if (n == 0) {
        event_del(all->command);
        stop(all);
    } else if (n == sizeof(c) && c.opened != NULL) { /* written whole, so read whole */
        begin(all, c.opened);
    } else if (n == sizeof(c)) {
        reload(all);
    }
}

static void *run(void *ctx)
{
    struct tunnels *all = ctx;

    event_base_dispatch(all->base);
    while (all->first != NULL)
        tunnel_free(all->first);
    return NULL;
}

/* === The core's side === */

static bool order(struct tunnels *all, struct command c)
{
    return write(all->commands[1], &c, sizeof(c)) == sizeof(c);
}

int tunnel_open(struct server *s, int door, int fd, const char *peer)
{
    struct tunnels *all = s->tunnels;
    struct tunnel *t = calloc(1, sizeof(*t));
    int pair[2];

    if (t == NULL || socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0,
                                pair) != 0) {
        free(t);
        return -1;
    }
    t->all = all;
    t->door = (enum door)door;
    t->client.fd = fd;
    t->core.fd = pair[1];
    snprintf(t->peer, sizeof(t->peer), "%s", peer);
    if (pair[1] < s->fd_max && order(all, (struct command){ t }))
        return pair[0];
    close(pair[0]);
    close(pair[1]);
    free(t);
    return -1;
}

void tunnels_reload(struct server *s)
{
    (void)order(s->tunnels, (struct command){ NULL });
}

const struct tunnel_counters *tunnels_counters(const struct server *s)
{
    return &s->tunnels->counters;
}

static bool start_thread(struct tunnels *all)
{
    sigset_t every, before;
    bool is_running;

    if (pipe2(all->commands, O_CLOEXEC | O_NONBLOCK) != 0)
        return false;
    all->base = event_base_new();
    if (all->base == NULL)
        return false;
    all->command = event_new(all->base, all->commands[0], EV_READ | EV_PERSIST,
                             on_command, all);
    all->step = evtimer_new(all->base, on_step, all);
    if (all->command == NULL || all->step == NULL ||
        event_add(all->command, NULL) != 0)
        return false;
    sigfillset(&every); /* signals are the core's */
    pthread_sigmask(SIG_SETMASK, &every, &before);
    is_running = pthread_create(&all->thread, NULL, run, all) == 0;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return is_running;
}

static void release(struct tunnels *all)
{
    if (all->command != NULL)
        event_free(all->command);
    if (all->step != NULL)
        event_free(all->step);
    if (all->base != NULL)
        event_base_free(all->base);
    for (int i = 0; i < 2; i++)
        if (all->commands[i] >= 0)
            close(all->commands[i]);
    tls_context_free(all->context);
    free(all);
}

int tunnels_start(struct server *s)
{
    const struct conf *c = &s->conf;
    struct tunnels *all;
    char text[TLS_TEXT_MAX] = "no memory";

    if (!c->tls)
        return 0;
    all = calloc(1, sizeof(*all));
    if (all != NULL) {
        all->commands[0] = all->commands[1] = -1;
        all->ports[DOOR_TCP] = c->port;
        all->ports[DOOR_WEBSOCKET] = c->ws_port;
        all->files =
            (struct tls_files){ c->tls_cert, c->tls_key, c->tls_ca, c->tls_verify };
        all->context = tls_context_new(&all->files, text);
    }
    if (all == NULL || all->context == NULL) {
        fprintf(stderr, "memphisd: no TLS: %s.\n", text);
        free(all);
        return 1;
    }
    if (text[0] != 0)
        fprintf(stderr, "memphisd: warning: %s.\n", text);
    if (!start_thread(all)) {
        fprintf(stderr, "memphisd: the thread for TLS could not be started: %s.\n",
                strerror(errno));
        release(all);
        return 1;
    }
    s->tunnels = all;
    return 0;
}

void tunnels_stop(struct server *s)
{
    struct tunnels *all = s->tunnels;

    if (all == NULL)
        return;
    close(all->commands[1]);
    all->commands[1] = -1;
    pthread_join(all->thread, NULL);
    release(all);
    s->tunnels = NULL;
}
