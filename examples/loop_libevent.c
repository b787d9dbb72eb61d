/* Your loop is the core: a MANUAL broker inside libevent. One descriptor and one timer
 * are all it needs; here another timer produces a message every 20 ms. Ends after ten.
 */
#include <memphis/memphis.h>

#include <event2/event.h>
#include <stdio.h>

enum { MESSAGES = 10 };

static struct {
    struct event_base *base;
    struct event *timer;
    memphis_broker *broker;
    memphis_producer *producer;
    unsigned sent, stored;
} app;

static void on_broker(evutil_socket_t fd, short what, void *ctx)
{
    uint64_t next_ms = 0;

    (void)fd, (void)what, (void)ctx;
    while (next_ms == 0 && memphis_step(app.broker, &next_ms) == MEMPHIS_OK)
        ;
    if (next_ms != UINT64_MAX)
        event_add(app.timer, &(struct timeval){ (long)(next_ms / 1000),
                                                (long)(next_ms % 1000) * 1000 });
}

static void on_stored(void *ctx, const memphis_receipt *r, const memphis_error *e)
{
    (void)ctx;
    if (e != NULL)
        printf("not stored: %s\n", e->message);
    else
        printf("stored as %llu\n", (unsigned long long)r->sequence);
    if (++app.stored == MESSAGES)
        event_base_loopbreak(app.base);
}

static void on_tick(evutil_socket_t fd, short what, void *ctx)
{
    (void)fd, (void)what, (void)ctx;
    if (app.sent < MESSAGES &&
        memphis_produce_async(app.producer, "tick", 4, NULL, on_stored, NULL, NULL) ==
            MEMPHIS_OK)
        app.sent++;
    memphis_producer_flush(app.producer, 0); /* calls back what is there */
}

int main(void)
{
    memphis_error err = { 0 };
    memphis_station *station = NULL;
    struct event *wakeup = NULL, *tick = NULL;
    memphis_options o = { .mode = MEMPHIS_MANUAL, .workers = 1 };

    app.base = event_base_new();
    if (memphis_open(&o, &app.broker, &err) ||
        memphis_station_create(app.broker, "ticks", NULL, &station, &err) ||
        memphis_producer_open(station, "clock", &app.producer, &err))
        goto out;
    wakeup = event_new(app.base, memphis_wakeup_fd(app.broker), EV_READ | EV_PERSIST,
                       on_broker, NULL);
    app.timer = evtimer_new(app.base, on_broker, NULL);
    tick = event_new(app.base, -1, EV_PERSIST, on_tick, NULL);
    event_add(wakeup, NULL);
    event_add(app.timer, &(struct timeval){ 0, 0 });
    event_add(tick, &(struct timeval){ 0, 20000 });
    event_base_dispatch(app.base);
    event_free(wakeup);
    event_free(app.timer);
    event_free(tick);
out:
    if (err.status)
        fprintf(stderr, "%s: %s\n", memphis_status_name(err.status), err.message);
    memphis_producer_close(app.producer);
    memphis_station_close(station);
    memphis_close(app.broker);
    event_base_free(app.base);
    return err.status != MEMPHIS_OK || app.stored != MESSAGES;
}
