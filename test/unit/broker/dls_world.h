/* A broker with dead letters, for the tests of broker/dls*.c. */
#ifndef TEST_UNIT_BROKER_DLS_WORLD_H
#define TEST_UNIT_BROKER_DLS_WORLD_H

#include "unit/broker/world.h"

#include "broker/dls.h"
#include "replica/solo.h"

/* One station with one partition, and groups "billing" and "shipping" on it. */
static inline struct mp_stream *stream_of(struct world *w)
{
    return mp_station_stream(station(w, "orders"), 1);
}

static inline struct mp_stream_group *group(struct world *w, const char *name)
{
    return mp_stream_group(stream_of(w), mp_slice_text(name));
}

static inline void add_group(struct world *w, const char *name, uint32_t deliveries_max)
{
    struct mp_consumer_request r = { .name = name, .group = name, .connection_id = "c1",
                                     .app_id = "app", .sdk = "go", .user = "root",
                                     .version = 4, .ack_wait_ms = 100,
                                     .deliveries_max = deliveries_max,
                                     .start_sequence = 1, .last_messages = -1 };
    struct said said;

    mp_consumer_add(station(w, "orders"), &r, then_say(&said));
    settle_down(w);
    assert_int_equal(said.status, MEMPHIS_OK);
}

static inline struct world *world_with(const char *dls_station, bool poison)
{
    struct world *w = world_new();
    struct mp_station_settings s = settings(1);
    struct said said;

    s.dls_station = dls_station;
    s.dls_poison = poison;
    mp_station_create(w->broker, "orders", &s, "root", then_say(&said));
    settle_down(w);
    assert_int_equal(said.status, MEMPHIS_OK);
    add_group(w, "billing", 1);
    add_group(w, "shipping", 1);
    return w;
}

static inline void produce(struct world *w, const char *payload)
{
    mp_stream_produce(stream_of(w), MP_STR("NATS/1.0\r\ncolor: red\r\n\r\n"),
                      mp_slice_text(payload), MP_STR(""), NULL, NULL);
    settle_down(w);
}

static inline int pull(struct world *w, const char *name)
{
    struct mp_pull_request r = { .batch = 10, .no_wait = true };

    w->heard_count = 0;
    mp_stream_pull(group(w, name), &r, MP_STR("_INBOX.pull"));
    settle_down(w);
    pass(w, 5); /* what is on disk is fetched first */
    int messages = 0;
    for (int i = 0; i < w->heard_count; i++)
        messages += strncmp(w->heard[i], "NATS/1.0", 8) != 0;
    w->heard_count = 0;
    return messages;
}

/* Delivered once, and its ack wait passes. */
static inline void give_up(struct world *w, const char *name)
{
    assert_int_equal(pull(w, name), 1);
    pass(w, 150);
    settle_down(w);
}

/* "seven", "eight", "eight" ... become dead letters of "billing". */
static inline void lose(struct world *w, int n)
{
    for (int i = 0; i < n; i++)
        produce(w, i == 0 ? "seven" : "eight");
    for (int left = n; left > 0; left -= 10)
        assert_int_equal(pull(w, "billing"), left < 10 ? left : 10);
    pass(w, 150);
    settle_down(w);
}

static inline struct mp_dead_row *only_row(struct world *w)
{
    struct mp_dead_row *row = mp_dls_next(station(w, "orders"), NULL);

    assert_non_null(row);
    assert_null(mp_dls_next(station(w, "orders"), row));
    return row;
}

static inline bool has_rows(struct world *w)
{
    return mp_dls_next(station(w, "orders"), NULL) != NULL;
}

struct seen {
    int count;
    bool gone;
    char payload[64], headers[64];
};

static inline void see(void *ctx, struct mp_dead_row *row,
                       const struct mp_dead_letter *l)
{
    struct seen *s = ctx;

    s->count++;
    s->gone = row == NULL;
    if (row == NULL)
        return;
    snprintf(s->payload, sizeof(s->payload), "%.*s", (int)l->payload.size,
             (const char *)l->payload.data);
    snprintf(s->headers, sizeof(s->headers), "%.*s", (int)l->headers.size,
             (const char *)l->headers.data);
}

static inline struct seen read_letter(struct world *w, uint32_t id)
{
    struct seen s = { .count = 0 };

    mp_dls_read(w->broker, id, see, &s);
    settle_down(w);
    assert_int_equal(s.count, 1);
    return s;
}

static inline void check_row(struct world *w, uint32_t groups)
{
    struct mp_dead_row *row = only_row(w);
    struct seen s = read_letter(w, row->id);

    struct mp_log_stats st;

    mp_log_stats(w->broker->data_log, 0, &st);
    assert_int_equal(st.messages, 1); /* what it has replaced is gone */
    assert_int_equal(row->seq, 1);
    assert_int_equal(row->gids_count, groups);
    assert_non_null(mp_dls_group(row, groups - 1));
    assert_false(s.gone);
    assert_string_equal(s.payload, "seven");
    assert_string_equal(s.headers, "NATS/1.0\r\ncolor: red\r\n\r\n");
}

static inline void flush(struct world *w)
{
    struct mp_replica_stats before, now;

    mp_replica_stats(w->broker->replica, &before);
    w->broker->replica->wants_flush = true;
    settle_down(w);
    pass(w, 2000);
    mp_replica_stats(w->broker->replica, &now);
    assert_true(now.flushes > before.flushes);
}

static inline int count_rows(struct world *w)
{
    int n = 0;

    for (struct mp_dead_row *row = NULL;
         (row = mp_dls_next(station(w, "orders"), row)) != NULL;)
        n++;
    return n;
}

#endif
