/* The main loop is the broker's core: one event per wake-up calls memphis_step. */
#include "server.h"

#include <stdio.h>

static const struct timeval at_once = { 0, 0 };

static void turn(struct server *s)
{
    uint64_t next_ms;

    if (memphis_step(s->broker, &next_ms) != MEMPHIS_OK)
        return; /* BROKEN: on_fatal has ended the loop */
    if (next_ms == 0) {
        /* By the timer: an event made active here would run before the sockets. */
        event_add(s->timer, &at_once);
    } else if (next_ms != UINT64_MAX) {
        struct timeval t = { .tv_sec = (long)(next_ms / 1000),
                             .tv_usec = (long)(next_ms % 1000) * 1000 };

        event_add(s->timer, &t);
    } else {
        event_del(s->timer);
    }
}

static void on_event(evutil_socket_t fd, short what, void *ctx)
{
    (void)fd, (void)what;
    turn(ctx);
}

void loop_wants_step(struct server *s)
{
    /* One activation serves all sockets that this round of the loop found readable. */
    event_active(s->step, 0, 0);
}

int loop_start(struct server *s)
{
    int fd = memphis_wakeup_fd(s->broker);

    s->wakeup = event_new(s->base, fd, EV_READ | EV_PERSIST, on_event, s);
    s->timer = evtimer_new(s->base, on_event, s);
    s->step = event_new(s->base, -1, 0, on_event, s);
    if (s->wakeup == NULL || s->timer == NULL || s->step == NULL ||
        event_priority_set(s->step, 1) != 0 || event_add(s->wakeup, NULL) != 0) {
        fprintf(stderr, "memphisd: the event loop could not be set up.\n");
        return 1;
    }
    loop_wants_step(s);
    return 0;
}

void loop_stop(struct server *s)
{
    struct event **all[] = { &s->wakeup, &s->timer, &s->step };

    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
        if (*all[i] != NULL)
            event_free(*all[i]);
        *all[i] = NULL;
    }
}
