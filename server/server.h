/* server/server.h -- the daemon's parts: one libevent loop that is the broker's core.
 *
 *   listener --accept--> conn  (socket <-> memphis_session), one per door
 *             with TLS: listener --accept--> tunnel --socketpair--> conn
 *   loop: one event for the broker's wakeup fd and one timer; both call memphis_step
 *   monitor: HTTP on loopback for health checks
 *
 * The daemon is a customer of the library: it includes <memphis/...> and nothing else.
 */
#ifndef MEMPHISD_SERVER_H
#define MEMPHISD_SERVER_H

#include "conf.h"

#include <event2/event.h>
#include <memphis/memphis.h>

enum { READ_MAX = 128 * 1024, SIGNALS = 4 };

/* The doors for clients: the same protocol, bare or in WebSocket frames. */
enum door { DOOR_TCP, DOOR_WEBSOCKET, DOORS };

struct server {
    struct conf conf;
    struct event_base *base;
    memphis_broker *broker;
    struct event *wakeup, *timer, *step, *signals[SIGNALS];
    struct evconnlistener *listeners[DOORS];
    struct event *accept_again; /* after an error of accept */
    struct evhttp *http;
    struct tunnels *tunnels; /* NULL: no TLS */
    struct conn *conns; /* list of open connections */
    unsigned conns_count;
    int fd_max;   /* connections have descriptors below it */
    bool is_full; /* the last connection could not be taken */
    int exit_status;
    bool is_lame_duck;
    struct event *lame_duck;    /* its next move */
    uint64_t lame_duck_pace_ms; /* between two clients */
    char read_buffer[READ_MAX]; /* of whichever connection is read */
};

/* listener.c: 0, or 1 after a sentence on stderr. */
int listener_start(struct server *s);
void listener_stop(struct server *s);

/* conn.c */
void conn_accept(struct server *s, enum door door, int fd, const char *peer);
/* Tells them that the server goes, as far as that goes at once. */
void conn_close_all(struct server *s);
/* One of those that are not closing yet. */
void conn_close_one(struct server *s);

/* lame_duck.c */
void lame_duck_begin(struct server *s);
void lame_duck_stop(struct server *s);

/* loop.c: memphis_step is due; safe to call often. */
void loop_wants_step(struct server *s);
int loop_start(struct server *s);
void loop_stop(struct server *s);

/* monitor.c */
int monitor_start(struct server *s);
void monitor_stop(struct server *s);

#endif
