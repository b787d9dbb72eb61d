#include "server.h"

#include "tunnel.h"

#include <arpa/inet.h>
#include <errno.h>
#include <event2/listener.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>

static void peer_text(const struct sockaddr *a, char *out, size_t size)
{
    const void *ip =
        a->sa_family == AF_INET6
            ? (const void *)&((const struct sockaddr_in6 *)(const void *)a)->sin6_addr
            : (const void *)&((const struct sockaddr_in *)(const void *)a)->sin_addr;

    if (inet_ntop(a->sa_family, ip, out, (socklen_t)size) == NULL)
        snprintf(out, size, "unknown");
}

static void refuse(struct server *s, int fd)
{
    if (!s->is_full)
        fprintf(stderr,
                "memphisd: connections are refused: %u are open and the limit of "
                "descriptors is near; raise it with ulimit -n.\n",
                s->conns_count);
    evutil_closesocket(fd);
}

static void on_accept(struct evconnlistener *l, evutil_socket_t fd,
                      struct sockaddr *addr, int size, void *ctx)
{
    struct server *s = ctx;
    enum door door = l == s->listeners[DOOR_TCP] ? DOOR_TCP : DOOR_WEBSOCKET;
    int one = 1, inside = -1;
    char peer[INET6_ADDRSTRLEN];

    (void)size;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one,
               sizeof(one)); /* turns gather writes */
    peer_text(addr, peer, sizeof(peer));
    if (fd < s->fd_max) /* the store needs descriptors, too */
        inside = s->tunnels != NULL ? tunnel_open(s, (int)door, fd, peer) : fd;
    if (inside >= 0)
        conn_accept(s, door, inside, peer);
    else
        refuse(s, fd);
    s->is_full = inside < 0;
}

static void on_pause_end(evutil_socket_t fd, short what, void *ctx)
{
    struct server *s = ctx;

    (void)fd, (void)what;
    for (int i = 0; i < DOORS; i++)
        if (s->listeners[i] != NULL)
            evconnlistener_enable(s->listeners[i]);
}

/* The connection stays in the queue of the system, and would be tried again at once. */
static void on_error(struct evconnlistener *l, void *ctx)
{
    struct server *s = ctx;
    static const struct timeval pause = { 0, 100000 };

    if (!s->is_full)
        fprintf(
            stderr,
            "memphisd: a connection could not be accepted: %s; it is tried again.\n",
            strerror(errno));
    s->is_full = true;
    if (event_add(s->accept_again, &pause) == 0)
        evconnlistener_disable(l);
}

static int listen_on(struct server *s, enum door door, unsigned port)
{
    static const char *const others[] = {
        [DOOR_TCP] = "choose another port with -p",
        [DOOR_WEBSOCKET] = "choose another port with -w, or switch it off with -w 0",
    };
    struct sockaddr_storage storage;
    int size = sizeof(storage);
    char where[300];
    unsigned flags = LEV_OPT_CLOSE_ON_FREE | LEV_OPT_REUSEABLE | LEV_OPT_CLOSE_ON_EXEC;

    snprintf(where, sizeof(where), strchr(s->conf.addr, ':') ? "[%s]:%u" : "%s:%u",
             s->conf.addr, port);
    memset(&storage, 0, sizeof(storage));
    if (evutil_parse_sockaddr_port(where, (struct sockaddr *)&storage, &size) != 0) {
        fprintf(stderr, "memphisd: '%s' is not an IP address to listen on.\n",
                s->conf.addr);
        return 1;
    }
    s->listeners[door] = evconnlistener_new_bind(s->base, on_accept, s, flags, 1024,
                                                 (struct sockaddr *)&storage, size);
    if (s->listeners[door] == NULL) {
        fprintf(stderr,
                "memphisd: cannot listen on %s: %s. Stop what uses it, or %s.\n", where,
                strerror(errno), others[door]);
        return 1;
    }
    evconnlistener_set_error_cb(s->listeners[door], on_error);
    return 0;
}

int listener_start(struct server *s)
{
    int rc;

    s->accept_again = evtimer_new(s->base, on_pause_end, s);
    if (s->accept_again == NULL) {
        fprintf(stderr, "memphisd: no memory for a timer.\n");
        return 1;
    }
    rc = listen_on(s, DOOR_TCP, s->conf.port);
    if (rc == 0 && s->conf.ws_port != 0)
        rc = listen_on(s, DOOR_WEBSOCKET, s->conf.ws_port);
    return rc;
}

void listener_stop(struct server *s)
{
    for (int i = 0; i < DOORS; i++) {
        if (s->listeners[i] != NULL)
            evconnlistener_free(s->listeners[i]);
        s->listeners[i] = NULL;
    }
    if (s->accept_again != NULL)
        event_free(s->accept_again);
    s->accept_again = NULL;
}
