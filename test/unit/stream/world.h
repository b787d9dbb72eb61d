/* A world for tests of streams: a disk in memory, virtual time, a real log on it, one
 * stream with its host, and a client that remembers what it hears. What the log commits
 * is also kept in a journal, from which copies of the stream are replayed. Each test
 * program includes it once. */
#ifndef TEST_UNIT_STREAM_WORLD_H
#define TEST_UNIT_STREAM_WORLD_H

#include "support/test.h"

#include "base/mailbox.h"
#include "base/str.h"
#include "env/env_mem.h"
#include "replica/replica.h"
#include "stream/scan.h"
#include "stream/stream.h"

#include <stdio.h>
#include <stdlib.h>

enum { PID = 7, HEARD_MAX = 1024 };

#define MILLI 1000000ull

struct heard {
    char to[128], subject[128], reply[256], headers[256], payload[256];
};

struct world {
    struct mp_disk *disk; /* outlives a crash */
    struct mp_env *env;
    struct mp_mailbox box;
    struct mp_replica *replica;
    struct mp_log *log;
    bool in_memory;    /* the log is the memory shard's */
    uint64_t now_ns;   /* of this turn */
    struct mp_timers timers;
    struct mp_stream_host host;
    struct mp_stream *stream;
    struct mp_client client;
    struct heard heard[HEARD_MAX];
    int heard_count;
    struct mp_buf journal; /* per committed entry: its size u32, its bytes */
    int failures;          /* appends that the log gave back */
    bool is_broken;
    bool starting;
    uint64_t file_size; /* of the log's files; 0: the usual one */
};

/* === The client === */

static inline void put(char *out, size_t size, memphis_slice s)
{
    snprintf(out, size, "%.*s", (int)s.size, s.size > 0 ? (const char *)s.data : "");
}

static inline void hear(struct mp_client *c, struct mp_subscription *s,
                        const struct mp_message *m)
{
    struct world *w = mp_container_of(c, struct world, client);
    struct heard *h = &w->heard[w->heard_count];

    (void)s;
    assert_true(w->heard_count < HEARD_MAX);
    put(h->to, sizeof(h->to), mp_slice_text(s->subject));
    put(h->subject, sizeof(h->subject), m->subject);
    put(h->reply, sizeof(h->reply), m->reply);
    put(h->headers, sizeof(h->headers), m->headers);
    put(h->payload, sizeof(h->payload), m->payload);
    w->heard_count++;
}

static inline void forget(struct world *w)
{
    w->heard_count = 0;
}

/* === The log's sink === */

static inline void open_or_drop(struct world *w, const struct mp_entry *e)
{
    struct mp_cursor c = mp_cursor_of(e->payload);
    uint8_t op = mp_cursor_u8(&c);
    struct mp_stream_settings settings;
    struct mp_arena a = { 0 };

    mp_cursor_take(&c, 12);
    if (op == 1) {
        assert_int_equal(mp_stream_settings_decode(&c, &a, &settings), MEMPHIS_OK);
        assert_null(w->stream);
        w->stream = mp_stream_new(&w->host, w->log, e->pid, &settings);
    } else {
        mp_stream_free(w->stream, true);
        w->stream = NULL;
    }
    mp_arena_fini(&a);
}

static inline void on_apply(void *ctx, uint64_t index, uint64_t time_ns,
                            const struct mp_entry *entries, size_t n, uint64_t own_tag)
{
    struct world *w = ctx;

    (void)index, (void)time_ns;
    for (size_t i = 0; i < n; i++) {
        const struct mp_entry *e = &entries[i];

        if (own_tag != 0) {
            mp_buf_put_u32(&w->journal, (uint32_t)mp_entry_size(e));
            mp_entry_encode(e, mp_buf_add(&w->journal, mp_entry_size(e)));
        }
        if (e->type == MP_ENTRY_PARTITION)
            open_or_drop(w, e);
        else if (w->stream != NULL)
            mp_stream_apply(w->stream, e, own_tag);
    }
}

static inline void on_failed(void *ctx, uint64_t tag, memphis_status status)
{
    struct world *w = ctx;

    assert_true(tag > 0);
    w->failures++;
    mp_stream_failed(w->stream, status);
}

static inline void on_broken(void *ctx, const memphis_error *why)
{
    struct world *w = ctx;

    assert_true(why->message[0] != 0);
    w->is_broken = true;
}

/* === Turns === */

static inline void begin_turn(struct world *w)
{
    struct mp_clock *c = mp_replica_clock(w->replica);

    mp_clock_tick(c);
    w->now_ns = c->broker_ns;
    mp_mailbox_drain(&w->box);
    mp_timers_advance(&w->timers, w->now_ns / MILLI);
}

static inline void hand_over(struct world *w)
{
    mp_log_close_entry(w->log);
    mp_replica_submit(w->replica, w->now_ns);
}

static inline void turn(struct world *w)
{
    begin_turn(w);
    mp_scans_run(&w->host);
    mp_streams_look(&w->host);
    mp_streams_serve(&w->host, 4096, 4 << 20);
    mp_streams_log_progress(&w->host);
    if (!w->is_broken)
        hand_over(w);
}

static inline bool is_idle(const struct world *w)
{
    return mp_replica_is_idle(w->replica) && mp_list_is_empty(&w->host.dirty);
}

static inline void pass(struct world *w, uint64_t ms)
{
    for (; ms > 0; ms--) {
        mp_disk_advance(w->disk, MILLI);
        turn(w);
    }
}

/* Turns, a millisecond each, until nothing is open or on its way. */
static inline void settle_down(struct world *w)
{
    turn(w);
    for (int i = 0; i < 1000 && !w->is_broken && !is_idle(w); i++)
        pass(w, 1);
    mp_mailbox_drain(&w->box);
    assert_true(w->is_broken || is_idle(w));
}

/* === Life === */

static inline void init_host(struct world *w)
{
    mp_stream_host_init(&w->host);
    mp_timers_init(&w->timers, w->now_ns / MILLI);
    w->host.bus = mp_bus_new(3);
    w->host.timers = &w->timers;
    w->host.now_ns = &w->now_ns;
}

static inline void listen_to(struct world *w, const char *subject)
{
    struct mp_subscription *s;

    assert_int_equal(mp_bus_subscribe(w->host.bus, &w->client, mp_slice_text(subject),
                                      MP_STR(""), &s),
                     MEMPHIS_OK);
}

/* Opens the log, replays what it holds. */
static inline void start(struct world *w)
{
    struct mp_replica_options o = { .broken = on_broken, .ctx = w };
    struct mp_recovery_report report;
    memphis_error err;

    mp_mailbox_init(&w->box, NULL, NULL);
    w->env = mp_env_mem_open(w->disk, mp_heap_current());
    w->env->mailbox = &w->box;
    w->is_broken = false;
    o.env = w->env;
    o.wal_file_min = o.wal_file_max = w->file_size;
    assert_int_equal(mp_replica_open(&o, &w->replica, &err), MEMPHIS_OK);
    mp_clock_tick(mp_replica_clock(w->replica));
    w->now_ns = mp_replica_clock(w->replica)->broker_ns;
    init_host(w);
    w->client = (struct mp_client){ .deliver = hear, .connection_id = "" };
    mp_bus_join(w->host.bus, &w->client);
    listen_to(w, "_INBOX.>");
    w->log = mp_replica_log(w->replica, w->in_memory ? MP_SHARD_MEMORY : MP_SHARD_DATA);
    w->log->sink = (struct mp_log_sink){ .apply = on_apply, .failed = on_failed,
                                         .ctx = w };
    for (uint32_t shard = MP_SHARD_META; shard <= MP_SHARD_MEMORY; shard++)
        assert_int_equal(mp_replica_start(w->replica, shard, &err), MEMPHIS_OK);
    assert_int_equal(mp_replica_ready(w->replica, &report, &err), MEMPHIS_OK);
    begin_turn(w);
    if (w->stream != NULL)
        mp_stream_replay_done(w->stream);
}

/* As a broker stops: the log first, then what stands on it. */
static inline void stop(struct world *w)
{
    mp_replica_close(w->replica);
    mp_mailbox_drain(&w->box);
    mp_stream_free(w->stream, false);
    w->stream = NULL;
    mp_bus_leave(w->host.bus, &w->client);
    mp_bus_free(w->host.bus);
    w->env->close(w->env);
    mp_mailbox_fini(&w->box);
}

static inline void restart(struct world *w)
{
    stop(w);
    forget(w);
    start(w);
}

static inline void append(struct world *w, const struct mp_entry *e)
{
    assert_int_equal(mp_log_append(w->log, e, 1, MP_STREAM_TAG), MEMPHIS_OK);
}

static inline void open_stream(struct world *w, const struct mp_stream_settings *s)
{
    static const uint8_t head[13] = { 1, 1, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0 };
    struct mp_buf b = { 0 };
    struct mp_entry e = { .type = MP_ENTRY_PARTITION, .pid = PID,
                          .time_ns = w->now_ns };

    mp_buf_put(&b, head, sizeof(head));
    mp_stream_settings_encode(s, &b);
    e.payload = mp_buf_slice(&b);
    append(w, &e);
    mp_buf_fini(&b);
    settle_down(w);
    assert_non_null(w->stream);
}

static const struct mp_stream_settings ORDERS = {
    .name = "orders$1", .limit = MP_LIMIT_AGE, .limit_value = 3600 * 1000 * MILLI,
    .window_ns = 120000 * MILLI, .station_id = 1, .number = 1,
};

static inline struct world *world_new(const struct mp_stream_settings *s)
{
    struct world *w = calloc(1, sizeof(*w));

    w->disk = mp_disk_new(1);
    start(w);
    open_stream(w, s);
    return w;
}

/* A stream of a NATS client with this name, subject and settings (' for "). */
static inline struct world *world_with_nats(const char *name, const char *subject,
                                            const char *settings)
{
    struct mp_stream_settings s = {
        .name = name, .limit = MP_LIMIT_NATS, .station_id = 1, .number = 1
    };
    char text[512];

    if (strstr(settings, "interest") != NULL)
        s.limit = MP_LIMIT_ACKED;
    snprintf(text, sizeof(text), "{'name':'%s','subjects':['%s']%s}", name, subject,
             settings);
    for (char *p = text; *p != 0; p++)
        *p = *p == '\'' ? '"' : *p;
    s.nats = text;
    return world_new(&s);
}

static inline void world_free(struct world *w)
{
    stop(w);
    mp_buf_fini(&w->journal);
    mp_disk_free(w->disk);
    free(w);
}

/* === What a client does === */

static inline void publish_with(struct world *w, const char *subject, const char *reply,
                                const char *headers, const char *payload)
{
    struct mp_message m = { .subject = mp_slice_text(subject),
                            .reply = mp_slice_text(reply),
                            .headers = mp_slice_text(headers),
                            .payload = mp_slice_text(payload) };

    mp_bus_publish(w->host.bus, &w->client, &m);
}

static inline void publish(struct world *w, const char *payload)
{
    publish_with(w, "orders$1.final", "", "", payload);
}

/* n messages, stored. */
static inline void store(struct world *w, int n)
{
    for (; n > 0; n--)
        publish(w, "hello");
    settle_down(w);
}

static inline struct mp_stream_group *group(struct world *w, const char *name)
{
    return mp_stream_group(w->stream, mp_slice_text(name));
}

static inline void append_group(struct world *w, struct mp_buf *b)
{
    struct mp_entry e = { .type = MP_ENTRY_GROUP, .pid = PID, .time_ns = w->now_ns,
                          .payload = mp_buf_slice(b) };

    append(w, &e);
    mp_buf_fini(b);
}

static inline void create_group(struct world *w, const struct mp_stream_group_config *c)
{
    struct mp_buf b = { 0 };

    mp_stream_group_create_encode(w->stream, c, &b);
    append_group(w, &b);
}

/* With an ack wait of 1 s, from the first message on. */
static inline struct mp_stream_group *make_group(struct world *w, const char *name,
                                                 uint32_t deliveries_max)
{
    struct mp_stream_group_config c = {
        .name = name,
        .start = 1,
        .group = { .ack_wait_ns = 1000 * MILLI, .deliveries_max = deliveries_max,
                   .pending_max = 1000 },
    };

    create_group(w, &c);
    settle_down(w);
    assert_non_null(group(w, name));
    return group(w, name);
}

static inline void pull(struct mp_stream_group *g, uint32_t batch, const char *inbox)
{
    struct mp_pull_request r = { .batch = batch, .expires_ns = 60000 * MILLI,
                                 .has_expires = true };

    mp_stream_pull(g, &r, mp_slice_text(inbox));
}

static inline void settle(struct mp_stream_group *g, uint64_t seq, const char *verdict)
{
    mp_stream_settle(g, seq, mp_slice_text(verdict), MP_STR(""));
}

static inline uint64_t last_seq(const struct world *w)
{
    return mp_log_last(w->log, PID);
}

#endif
