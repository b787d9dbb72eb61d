#include "broker/broker.h"

#include "base/assert.h"
#include "base/limits.h"
#include "base/map.h"
#include "base/status.h"
#include "base/str.h"
#include "broker/auth.h"
#include "broker/connection.h"
#include "broker/dls.h"
#include "broker/user.h"
#include "stream/scan.h"

#include <inttypes.h>

static const uint64_t MS = 1000000;
static const int64_t STEP_NS = 1000000000; /* less is no step: clocks drift */

enum { SERVE_MESSAGES_MAX = 4096, SERVE_BYTES_MAX = 4 << 20 };

/* === The logs' sinks === */

struct mp_stream *mp_broker_stream_by_pid(struct mp_broker *b, uint32_t pid)
{
    return mp_map_find(&b->streams_by_pid, mp_slice(&pid, sizeof(pid)));
}

static void cannot_apply(struct mp_broker *b, const struct mp_stream *s)
{
    memphis_error why;

    (void)mp_fail(&why, MEMPHIS_UNSUPPORTED,
                  "what the log says of a consumer group of '%s' needs a newer release",
                  s->name);
    mp_broker_break(b, &why);
}

static void apply_entries(struct mp_broker *b, struct mp_log *log,
                          const struct mp_entry *entries, size_t n, uint64_t own_tag)
{
    for (size_t i = 0; i < n; i++) {
        const struct mp_entry *e = &entries[i];
        struct mp_stream *s;

        if (e->type == MP_ENTRY_CLOCK) {
            mp_wall_take(&b->streams.wall, e->payload);
        } else if (e->type == MP_ENTRY_PARTITION) {
            mp_station_partition_applied(b, log, e);
        } else if (e->pid == 0) {
            mp_dls_applied(b, log, e, own_tag != 0);
        } else if ((s = mp_broker_stream_by_pid(b, e->pid)) != NULL) {
            if (mp_stream_apply(s, e, own_tag) == MEMPHIS_UNSUPPORTED)
                cannot_apply(b, s);
        }
    }
    if (mp_operation_of(own_tag) != NULL)
        mp_operation_done(mp_operation_of(own_tag));
}

static void data_apply(void *ctx, uint64_t index, uint64_t time_ns,
                       const struct mp_entry *entries, size_t n, uint64_t own_tag)
{
    struct mp_broker *b = ctx;

    (void)index, (void)time_ns;
    apply_entries(b, b->data_log, entries, n, own_tag);
}

static void memory_apply(void *ctx, uint64_t index, uint64_t time_ns,
                         const struct mp_entry *entries, size_t n, uint64_t own_tag)
{
    struct mp_broker *b = ctx;

    (void)index, (void)time_ns;
    apply_entries(b, b->memory_log, entries, n, own_tag);
}

/* Answered is only what a full disk refuses; when the store has broken, the fate of
 * everything that waits is unknown (and a publish is not answered in either case). */
static void meta_failed(void *ctx, uint64_t tag, memphis_status status)
{
    struct mp_operation *op = mp_operation_of(tag);

    (void)ctx;
    if (op == NULL)
        return;
    mp_operation_fail(op, status, "the store did not take it");
    mp_operation_done(op);
}

/* Everything of that log that is not applied. */
static void entries_lost(struct mp_broker *b, const struct mp_log *log,
                         memphis_status status)
{
    struct mp_list *l, *next;

    for (l = b->all_streams.next; l != &b->all_streams; l = next) {
        struct mp_stream *s = mp_container_of(l, struct mp_stream, node);

        next = l->next;
        if (s->log == log)
            mp_stream_failed(s, status);
    }
    if (status == MEMPHIS_NO_SPACE)
        mp_dls_failed(b, log); /* may append, so when all streams know */
    b->wall_told_ns = mp_wall_offset(&b->streams.wall);
    mp_stations_failed(b, log, status);
}

static void data_lost(void *ctx, memphis_status status)
{
    struct mp_broker *b = ctx;

    entries_lost(b, b->data_log, status);
}

static void memory_lost(void *ctx, memphis_status status)
{
    struct mp_broker *b = ctx;

    entries_lost(b, b->memory_log, status);
}

static void log_ready(void *ctx, uint32_t pid)
{
    struct mp_stream *s = mp_broker_stream_by_pid(ctx, pid);

    if (s != NULL)
        mp_stream_ready(s);
    else if (pid == 0)
        mp_dls_ready(ctx);
}

static void log_state(void *ctx, uint32_t pid, struct mp_buf *out)
{
    struct mp_broker *b = ctx;
    struct mp_stream *s = mp_broker_stream_by_pid(b, pid);

    if (s != NULL)
        mp_stream_state(s, out);
    else if (pid == 0)
        mp_wall_state(&b->streams.wall, out);
}

static memphis_status log_restore(void *ctx, uint32_t pid, uint64_t index,
                                  memphis_slice state, memphis_error *err)
{
    struct mp_broker *b = ctx;
    struct mp_stream *s = mp_broker_stream_by_pid(b, pid);

    (void)index;
    if (pid == 0)
        mp_wall_restore(&b->streams.wall, state);
    return s != NULL ? mp_stream_restore(s, state, err) : MEMPHIS_OK;
}

/* Ids are known for the stream's window. */
static uint64_t log_ids_since(void *ctx, uint32_t pid)
{
    struct mp_broker *b = ctx;
    const struct mp_stream *s = mp_broker_stream_by_pid(b, pid);

    if (s == NULL || s->settings.window_ns == 0)
        return UINT64_MAX;
    return b->now_ns > s->settings.window_ns ? b->now_ns - s->settings.window_ns : 0;
}

static void set_sinks(struct mp_broker *b)
{
    struct mp_log_sink sink = {
        .apply = data_apply,
        .lost = data_lost,
        .failed = meta_failed,
        .ready = log_ready,
        .state = log_state,
        .restore = log_restore,
        .ids_since = log_ids_since,
        .ctx = b,
    };

    b->data_log->sink = sink;
    sink.apply = memory_apply;
    sink.lost = memory_lost;
    b->memory_log->sink = sink;
}

/* === Metadata hooks === */

static void meta_applied(void *ctx, const struct mp_command *c, memphis_status result,
                         void *row, uint64_t tag)
{
    struct mp_broker *b = ctx;
    struct mp_operation *op = mp_operation_of(tag);

    if (op != NULL && result == MEMPHIS_NOT_FOUND)
        mp_operation_fail(op, result, "it does not exist");
    if (op != NULL && result == MEMPHIS_EXISTS) /* somebody else was quicker */
        mp_operation_fail(op, result, "it exists already");
    mp_station_applied(b, c, result, row, tag);
    mp_user_applied(b, c, result);
    mp_connections_applied(b, c, result, row, tag);
    if (op != NULL)
        mp_operation_done(op);
}

static void meta_broken(void *ctx, const memphis_error *why)
{
    mp_broker_break(ctx, why);
}

static void meta_safe(void *ctx, uint64_t index)
{
    struct mp_broker *b = ctx;

    mp_replica_meta_safe(b->replica, index);
}

/* === Open === */

static void set_time(struct mp_broker *b)
{
    mp_clock_tick(b->clock);
    b->now_ns = b->clock->broker_ns;
    b->wall_offset_ns = (int64_t)(b->clock->wall_ns - b->clock->broker_ns);
}

/* The wall clock has stepped: what came before keeps the time it had. */
static void note_step(struct mp_broker *b)
{
    int64_t moved = b->wall_offset_ns - b->wall_told_ns;
    struct mp_entry e = { .type = MP_ENTRY_CLOCK, .time_ns = b->now_ns };
    struct mp_buf step = { 0 };

    if (moved >= -STEP_NS && moved <= STEP_NS)
        return;
    mp_wall_put_step(&step, b->now_ns, b->wall_offset_ns);
    e.payload = mp_buf_slice(&step);
    if (mp_log_append(b->data_log, &e, 1, MP_STREAM_TAG) == MEMPHIS_OK)
        b->wall_told_ns = b->wall_offset_ns;
    mp_buf_fini(&step);
}

static void make_names(struct mp_broker *b)
{
    static const char base32[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
    uint8_t random[55];

    b->env->random(b->env, random, sizeof(random));
    b->server_id[0] = 'N'; /* as NATS servers' ids look */
    for (size_t i = 0; i < sizeof(random); i++)
        b->server_id[i + 1] = base32[random[i] & 31];
    mp_format(b->name, sizeof(b->name), "memphis-0");
}

static void init_parts(struct mp_broker *b)
{
    uint64_t seed[3];

    b->env->random(b->env, seed, sizeof(seed));
    mp_list_init(&b->sources);
    mp_list_init(&b->outputs);
    mp_list_init(&b->operations);
    mp_list_init(&b->user_changes);
    mp_list_init(&b->all_streams);
    mp_map_seed(&b->stations, seed[0], seed[1]);
    mp_map_seed(&b->streams_by_pid, seed[1], seed[0]);
    mp_connections_init(b);
    mp_stream_host_init(&b->streams);
    b->bus = mp_bus_new(seed[2]);
    b->streams.bus = b->bus;
    b->streams.timers = &b->timers;
    b->streams.logger = b->logger;
    b->streams.now_ns = &b->now_ns;
    b->env->random(b->env, b->streams.dedup_key, sizeof(b->streams.dedup_key));
    make_names(b);
}

static void replica_broken(void *ctx, const memphis_error *why)
{
    mp_broker_break(ctx, why);
}

static void replica_checkpoint(void *ctx)
{
    struct mp_broker *b = ctx;

    mp_meta_checkpoint(b->meta);
}

static void replica_partitions(void *ctx,
                               void (*fn)(void *to, const struct mp_entry *open),
                               void *to)
{
    mp_stations_each_open(ctx, fn, to);
}

static uint64_t default_reserve(struct mp_env *e)
{
    uint64_t share = e->disk_bytes(e) / 20;

    return share < MP_DISK_RESERVE_MAX ? share : MP_DISK_RESERVE_MAX;
}

static memphis_status
open_replica(struct mp_broker *b, const struct mp_broker_options *o, memphis_error *err)
{
    struct mp_replica_options r = {
        .env = o->env,
        .logger = o->logger,
        .diskless = o->data_dir == NULL,
        .accept_loss = o->accept_loss,
        .memory_max = o->memory_max ? o->memory_max : MP_MEMORY_MAX_DEFAULT,
        .disk_reserve = o->disk_reserve ? o->disk_reserve : default_reserve(o->env),
        .sync = o->sync,
        .sync_interval_ms = o->sync_interval_ms,
        .spin_us = o->spin_us,
        .broken = replica_broken,
        .checkpoint = replica_checkpoint,
        .partitions = replica_partitions,
        .ctx = b,
    };
    memphis_status st = mp_replica_open(&r, &b->replica, err);
    uint64_t disk = o->env->disk_bytes(o->env);

    b->streams.subjects_bytes_max = r.memory_max / 16;
    if (st != MEMPHIS_OK)
        return st;
    if (disk > 0 && o->disk_reserve >= disk)
        mp_logf(b->logger, MEMPHIS_LOG_WARN, "broker",
                "Of a disk of %llu bytes %llu are to stay free: messages are read and "
                "acknowledged, none is stored (disk_reserve).",
                (unsigned long long)disk, (unsigned long long)o->disk_reserve);
    b->meta_log = mp_replica_log(b->replica, MP_SHARD_META);
    b->data_log = mp_replica_log(b->replica, MP_SHARD_DATA);
    b->memory_log = mp_replica_log(b->replica, MP_SHARD_MEMORY);
    b->clock = mp_replica_clock(b->replica);
    set_time(b);
    mp_timers_init(&b->timers, b->now_ns / MS);
    set_sinks(b);
    return MEMPHIS_OK;
}

static memphis_status replay(struct mp_broker *b, uint32_t shard, memphis_error *err)
{
    memphis_status st = mp_replica_start(b->replica, shard, err);

    if (st == MEMPHIS_OK && b->is_broken) /* an entry that cannot be applied */
        st = mp_fail(err, b->why.status, "%s", b->why.message);
    return st;
}

/* What SQLite lacks comes from the log. It may also be ahead: of a log whose end was
 * not synced when the power went, or was damaged and given up. */
static memphis_status replay_meta(struct mp_broker *b, memphis_error *err)
{
    memphis_status st = replay(b, MP_SHARD_META, err);

    if (st == MEMPHIS_OK &&
        mp_replica_meta_ahead(b->replica, mp_meta_applied_index(b->meta)))
        st = mp_meta_secure(b->meta, err);
    return st;
}

/* Metadata first, then the data, then what a crash left undone between the two. */
static memphis_status recover(struct mp_broker *b, const struct mp_broker_options *o,
                              memphis_error *err)
{
    struct mp_meta_hooks hooks = { .applied = meta_applied,
                                   .failed = meta_failed,
                                   .broken = meta_broken,
                                   .safe = meta_safe,
                                   .ctx = b };
    memphis_status st;
    uint64_t began = b->env->boot_ns(b->env);
    struct mp_buf path = { 0 };
    struct mp_list *l;

    b->starting = true;
    if (o->data_dir != NULL)
        mp_buf_format(&path, "%s/meta.db", o->data_dir);
    mp_buf_put_u8(&path, 0);
    st = mp_meta_open(b->env, b->meta_log, b->logger, (char *)path.data,
                      mp_replica_base(b->replica, MP_SHARD_META), &hooks, &b->meta,
                      err);
    mp_buf_fini(&path);
    if (st == MEMPHIS_OK)
        st = replay_meta(b, err);
    if (st == MEMPHIS_OK)
        mp_stations_load(b);
    if (st == MEMPHIS_OK)
        st = replay(b, MP_SHARD_DATA, err);
    if (st == MEMPHIS_OK)
        st = replay(b, MP_SHARD_MEMORY, err);
    if (st == MEMPHIS_OK)
        st = mp_replica_ready(b->replica, &b->recovery, err);
    b->starting = false;
    if (st != MEMPHIS_OK)
        return st;
    set_time(b);
    b->wall_told_ns = mp_wall_offset(&b->streams.wall);
    for (l = b->all_streams.next; l != &b->all_streams; l = l->next)
        mp_stream_replay_done(mp_container_of(l, struct mp_stream, node));
    mp_stations_finish_start(b);
    mp_dls_started(b);
    mp_connections_started(b);
    b->recovery.milliseconds = (b->env->boot_ns(b->env) - began) / MS;
    return MEMPHIS_OK;
}

memphis_status mp_broker_open(const struct mp_broker_options *o, struct mp_broker **out,
                              memphis_error *err)
{
    struct mp_broker *b = mp_alloc(sizeof(*b));
    memphis_status st;

    b->heap = o->heap;
    b->env = o->env;
    b->logger = o->logger;
    b->ctx = o->ctx;
    b->user_changed = o->user_changed;
    mp_mailbox_init(&b->mailbox, o->wake, o->ctx);
    b->env->mailbox = &b->mailbox;
    init_parts(b);
    b->streams.ids.bytes_max =
        (o->memory_max ? o->memory_max : MP_MEMORY_MAX_DEFAULT) / MP_DEDUPE_SHARE;
    st = open_replica(b, o, err);
    if (st == MEMPHIS_OK) {
        mp_dls_new(b);
        st = mp_dls_keep(b, o->dls_retention_hours, o->dls_max_bytes, err);
    }
    if (st == MEMPHIS_OK)
        st = mp_connections_keep(b, o->idle_retention_hours, err);
    if (st == MEMPHIS_OK)
        st = recover(b, o, err);
    if (st == MEMPHIS_OK) {
        b->on_broken = o->broken; /* before, whoever opens it is told */
        b->auth = mp_auth_new(b, o->root_password, o->connection_token);
        *out = b;
    } else {
        mp_broker_close(b);
    }
    return st;
}

/* Operations that never came to an end: those who wait are told. */
static void cancel_operations(struct mp_broker *b)
{
    struct mp_list *l;

    while ((l = mp_list_pop_front(&b->operations)) != NULL) {
        struct mp_operation *op = mp_container_of(l, struct mp_operation, node);

        if (op->then.fn != NULL)
            op->then.fn(op->then.ctx, MEMPHIS_CLOSED, "the broker is closing");
        mp_free(op);
    }
}

void mp_broker_close(struct mp_broker *b)
{
    uint64_t next;

    if (b == NULL)
        return;
    /* What was accepted is brought to an end: acks, rows, replies. */
    for (int i = 0;
         i < 10000 && b->auth != NULL && !b->is_broken && !mp_broker_is_idle(b); i++)
        mp_broker_turn(b, &next);
    mp_auth_free(b->auth);
    b->auth = NULL;
    mp_meta_close(b->meta);
    mp_replica_close(b->replica);
    mp_mailbox_drain(&b->mailbox);
    mp_dls_free(b); /* whose commands may be operations */
    cancel_operations(b);
    mp_stations_free(b);
    mp_connections_free(b);
    mp_buf_fini(&b->orphans);
    mp_bus_free(b->bus);
    mp_map_fini(&b->streams_by_pid);
    mp_map_fini(&b->stations);
    b->env->close(b->env);
    mp_mailbox_fini(&b->mailbox);
    mp_free(b);
}

void mp_broker_abandon(struct mp_broker *b)
{
    b->env->close(b->env);
}

/* === The turn === */

bool mp_broker_is_full(const struct mp_broker *b)
{
    return mp_log_is_full(b->data_log) || mp_log_is_full(b->memory_log);
}

static void take_input(struct mp_broker *b)
{
    uint32_t operations = MP_TURN_OPERATIONS_MAX;
    size_t bytes = 0;
    struct mp_list again;
    struct mp_list *l;

    mp_list_init(&again);
    while (bytes < MP_TURN_BYTES_MAX && operations > 0 && !mp_broker_is_full(b) &&
           (l = mp_list_pop_front(&b->sources)) != NULL) {
        struct mp_source *s = mp_container_of(l, struct mp_source, input_node);

        /* Linked while it works, so that a source that goes away can leave the list. */
        mp_list_push_back(&again, &s->input_node);
        bytes += s->work(s, MP_TURN_SESSION_BYTES_MAX, &operations);
        if (mp_list_is_linked(l) && !s->has_input(s))
            mp_list_remove(l);
    }
    while ((l = mp_list_pop_front(&again)) != NULL)
        mp_list_push_back(&b->sources, l);
}

static void hand_over(struct mp_broker *b)
{
    mp_log_close_entry(b->meta_log);
    mp_log_close_entry(b->data_log);
    mp_log_close_entry(b->memory_log);
    mp_meta_submit(b->meta);
    mp_replica_submit(b->replica, b->now_ns);
}

static void flush_outputs(struct mp_broker *b)
{
    struct mp_list *l;

    while ((l = mp_list_pop_front(&b->outputs)) != NULL) {
        struct mp_source *s = mp_container_of(l, struct mp_source, output_node);

        s->flush(s);
    }
}

static uint64_t next_due(const struct mp_broker *b)
{
    uint64_t timer = mp_timers_next(&b->timers);
    uint64_t due = timer == UINT64_MAX ? UINT64_MAX : timer * MS;
    uint64_t other = mp_replica_next_ns(b->replica);

    due = other < due ? other : due;
    if (b->streams.dirty_since_ns > 0) {
        other = b->streams.dirty_since_ns + MP_PROGRESS_DELAY_MS * MS;
        due = other < due ? other : due;
    }
    if (due != UINT64_MAX)
        due = due > b->now_ns ? due - b->now_ns : 0;
    other = mp_meta_wait_ns(b->meta);
    return other < due ? other : due;
}

/* Something that the next turn could do at once. What memory stations have committed in
 * this very turn counts: it has woken groups, and made room for input. */
static bool has_more(struct mp_broker *b)
{
    return !mp_list_is_empty(&b->streams.serving) ||
           !mp_list_is_empty(&b->streams.scans) ||
           !mp_list_is_empty(&b->streams.looks) || mp_mailbox_has_mail(&b->mailbox) ||
           (!mp_list_is_empty(&b->sources) && !mp_broker_is_full(b));
}

void mp_broker_turn(struct mp_broker *b, uint64_t *next_ns)
{
    *next_ns = UINT64_MAX;
    if (b->is_broken)
        return;
    b->counters.turns++;
    set_time(b);
    mp_mailbox_drain(&b->mailbox);
    if (b->is_broken)
        return;
    note_step(b);
    mp_timers_advance(&b->timers, b->now_ns / MS);
    take_input(b);
    mp_scans_run(&b->streams);
    mp_streams_look(&b->streams);
    mp_streams_serve(&b->streams, SERVE_MESSAGES_MAX, SERVE_BYTES_MAX);
    mp_streams_log_progress(&b->streams);
    if (!b->is_broken)
        hand_over(b);
    if (b->is_broken) /* no word leaves that was formed behind the failure */
        return;
    flush_outputs(b);
    *next_ns = has_more(b) ? 0 : next_due(b);
}

void mp_broker_enter(struct mp_broker *b)
{
    set_time(b);
    note_step(b);
}

void mp_broker_wants_turn(struct mp_broker *b, struct mp_source *s)
{
    if (!mp_list_is_linked(&s->input_node))
        mp_list_push_back(&b->sources, &s->input_node);
}

void mp_broker_wants_flush(struct mp_broker *b, struct mp_source *s)
{
    if (!mp_list_is_linked(&s->output_node))
        mp_list_push_back(&b->outputs, &s->output_node);
}

void mp_broker_forget_source(struct mp_broker *b, struct mp_source *s)
{
    (void)b;
    mp_list_remove(&s->input_node);
    mp_list_remove(&s->output_node);
}

/* === Queries === */

uint64_t mp_broker_now_ms(const struct mp_broker *b)
{
    return b->now_ns / MS;
}

uint64_t mp_broker_wall_ns(const struct mp_broker *b)
{
    return b->now_ns + (uint64_t)b->wall_offset_ns;
}

bool mp_broker_is_idle(const struct mp_broker *b)
{
    return mp_replica_is_idle(b->replica) && mp_list_is_empty(&b->streams.dirty) &&
           mp_list_is_empty(&b->streams.scans) && mp_list_is_empty(&b->operations) &&
           mp_list_is_empty(&b->sources);
}

void mp_broker_break(struct mp_broker *b, const memphis_error *why)
{
    if (b->is_broken)
        return;
    b->is_broken = true;
    b->why = *why;
    mp_logf(b->logger, MEMPHIS_LOG_ERROR, "broker",
            "the broker stops: %s Nothing is acknowledged any more.", why->message);
    if (b->on_broken != NULL)
        b->on_broken(b->ctx, why);
}
