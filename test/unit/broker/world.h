/* A whole broker for tests of broker/: its log on a disk in memory, virtual time, no
 * threads, and its database in a folder of its own, so that it can start again. Each
 * test program includes it once. */
#ifndef TEST_UNIT_BROKER_WORLD_H
#define TEST_UNIT_BROKER_WORLD_H

#include "support/test.h"

#include "base/limits.h"
#include "base/str.h"
#include "broker/auth.h"
#include "broker/client.h"
#include "broker/connection.h"
#include "env/env_mem.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

struct world {
    struct mp_disk *disk;
    char dir[32];
    const char *root_password, *token;
    uint32_t sync;
    bool accept_loss;
    struct mp_broker *broker;
    struct mp_client client;
    char heard[16][256]; /* payloads, or headers where there is none */
    int heard_count;
    int broken;
};

/* What a `then` said. */
struct said {
    int count;
    memphis_status status;
    char text[256];
};

static inline void hear_then(void *ctx, memphis_status status, const char *text)
{
    struct said *s = ctx;

    s->count++;
    s->status = status;
    snprintf(s->text, sizeof(s->text), "%s", text);
}

static inline struct mp_then then_say(struct said *s)
{
    *s = (struct said){ .status = -1 };
    return (struct mp_then){ hear_then, s };
}

static inline void hear(struct mp_client *c, struct mp_subscription *s,
                        const struct mp_message *m)
{
    struct world *w = mp_container_of(c, struct world, client);
    memphis_slice what = m->payload.size > 0 ? m->payload : m->headers;

    (void)s;
    assert_true(w->heard_count < 16);
    snprintf(w->heard[w->heard_count++], sizeof(w->heard[0]), "%.*s", (int)what.size,
             what.size > 0 ? (const char *)what.data : "");
}

static inline void on_broken(void *ctx, const memphis_error *why)
{
    struct world *w = ctx;

    assert_true(why->message[0] != 0);
    w->broken++;
}

static inline memphis_status try_start(struct world *w, memphis_error *err)
{
    struct mp_broker_options o = { .heap = mp_heap_current(), .data_dir = w->dir,
                                   .root_password = w->root_password,
                                   .connection_token = w->token,
                                   .sync = w->sync, .accept_loss = w->accept_loss,
                                   .broken = on_broken, .ctx = w };
    struct mp_subscription *s;
    memphis_status st;

    o.env = mp_env_mem_open(w->disk, o.heap);
    st = mp_broker_open(&o, &w->broker, err);
    if (st != MEMPHIS_OK)
        return st;
    w->client = (struct mp_client){ .deliver = hear, .connection_id = "c1" };
    mp_bus_join(w->broker->bus, &w->client);
    assert_int_equal(mp_bus_subscribe(w->broker->bus, &w->client, MP_STR("_INBOX.>"),
                                      MP_STR(""), &s),
                     MEMPHIS_OK);
    return st;
}

static inline void start(struct world *w)
{
    memphis_error err;
    memphis_status st = try_start(w, &err);

    if (st != MEMPHIS_OK)
        print_error("the broker does not start: %s\n", err.message);
    assert_int_equal(st, MEMPHIS_OK);
}

static inline void stop(struct world *w)
{
    mp_bus_leave(w->broker->bus, &w->client);
    mp_broker_close(w->broker);
    w->broker = NULL;
}

static inline void restart(struct world *w)
{
    stop(w);
    w->heard_count = 0;
    start(w);
}

static inline struct world *world_new(void)
{
    struct world *w = calloc(1, sizeof(*w));

    snprintf(w->dir, sizeof(w->dir), "/tmp/mp-broker-XXXXXX");
    assert_non_null(mkdtemp(w->dir));
    w->disk = mp_disk_new(1);
    start(w);
    return w;
}

static inline void world_free(struct world *w)
{
    static const char *const files[] = { "meta.db", "meta.db-wal", "meta.db-shm" };
    char path[64];

    if (w->broker != NULL)
        stop(w);
    for (size_t i = 0; i < 3; i++) {
        snprintf(path, sizeof(path), "%s/%s", w->dir, files[i]);
        unlink(path);
    }
    assert_int_equal(rmdir(w->dir), 0);
    mp_disk_free(w->disk);
    free(w);
}

static inline uint64_t turn(struct world *w)
{
    uint64_t next;

    mp_broker_turn(w->broker, &next);
    return next;
}

static inline void pass(struct world *w, uint64_t ms)
{
    for (; ms > 0; ms--) {
        mp_disk_advance(w->disk, 1000000);
        turn(w);
    }
}

static inline void settle_down(struct world *w)
{
    turn(w);
    for (int i = 0; i < 1000 && !mp_broker_is_idle(w->broker); i++)
        pass(w, 1);
    assert_true(mp_broker_is_idle(w->broker));
}

static inline struct mp_station *station(struct world *w, const char *name)
{
    return mp_station_find(w->broker, mp_slice_text(name));
}

static inline struct mp_station_settings settings(uint32_t partitions)
{
    struct mp_station_settings s;

    mp_station_settings_default(&s);
    s.partitions = partitions;
    return s;
}

static inline struct mp_station *make_station(struct world *w, const char *name,
                                              uint32_t partitions)
{
    struct mp_station_settings s = settings(partitions);
    struct said said;

    mp_station_create(w->broker, name, &s, "root", then_say(&said));
    settle_down(w);
    assert_int_equal(said.count, 1);
    assert_int_equal(said.status, MEMPHIS_OK);
    return station(w, name);
}

static inline void publish(struct world *w, const char *subject, const char *payload)
{
    struct mp_message m = { .subject = mp_slice_text(subject),
                            .reply = MP_STR("_INBOX.p"),
                            .payload = mp_slice_text(payload) };

    mp_bus_publish(w->broker->bus, &w->client, &m);
}

static inline const char *heard(struct world *w)
{
    assert_int_equal(w->heard_count, 1);
    w->heard_count = 0;
    return w->heard[0];
}

static inline uint64_t last_of(struct world *w, const char *name, uint32_t partition)
{
    struct mp_stream *s = mp_station_stream(station(w, name), partition);

    return mp_log_last(s->log, s->pid);
}

#endif
