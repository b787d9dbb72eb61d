/* Lame duck (SIGUSR2): the server goes without hurting anybody. It takes no new
 * connections, tells its clients (INFO with "ldm":true), serves all of them for a
 * grace, closes them one by one over the rest of the time, and stops when the last one
 * has left. Data is served until then. */
#include "server.h"

#include <signal.h>
#include <stdio.h>

enum { PACE_MIN_MS = 1, PACE_MAX_MS = 1000 };

static struct timeval milliseconds(uint64_t ms)
{
    return (struct timeval){ .tv_sec = (long)(ms / 1000),
                             .tv_usec = (long)(ms % 1000) * 1000 };
}

/* The next client goes; after the last one the server. */
static void on_pace(evutil_socket_t fd, short what, void *ctx)
{
    struct server *s = ctx;
    struct timeval pace = milliseconds(s->lame_duck_pace_ms);

    (void)fd, (void)what;
    if (s->conns_count == 0)
        event_base_loopexit(s->base, NULL);
    else
        conn_close_one(s);
    event_add(s->lame_duck, &pace);
}

static void on_grace_end(evutil_socket_t fd, short what, void *ctx)
{
    struct server *s = ctx;
    uint64_t all_ms = s->conf.lame_duck_ms, grace_ms = s->conf.grace_ms;
    uint64_t left_ms = all_ms > grace_ms ? all_ms - grace_ms : 0;
    uint64_t pace_ms = left_ms / (s->conns_count + 1);

    pace_ms = pace_ms > PACE_MIN_MS ? pace_ms : PACE_MIN_MS;
    s->lame_duck_pace_ms = pace_ms < PACE_MAX_MS ? pace_ms : PACE_MAX_MS;
    event_assign(s->lame_duck, s->base, -1, 0, on_pace, s);
    on_pace(fd, what, ctx);
}

void lame_duck_begin(struct server *s)
{
    struct timeval grace = milliseconds(s->conf.grace_ms);

    if (s->is_lame_duck)
        return;
    s->is_lame_duck = true;
    listener_stop(s);
    fprintf(stderr,
            "memphisd: lame duck: no new connections; %u clients were told and are "
            "closed within %llu s.\n",
            s->conns_count, (unsigned long long)(s->conf.lame_duck_ms / 1000));
    (void)memphis_lame_duck(s->broker, NULL); /* broken: the loop has its end */
    loop_wants_step(s);
    s->lame_duck = evtimer_new(s->base, on_grace_end, s);
    if (s->lame_duck == NULL || s->conns_count == 0)
        event_base_loopexit(s->base, NULL);
    else
        event_add(s->lame_duck, &grace);
}

void lame_duck_stop(struct server *s)
{
    if (s->lame_duck != NULL)
        event_free(s->lame_duck);
    s->lame_duck = NULL;
}
