/* broker/broker.h -- the root object: owns everything, turns the wheel.
 *
 * One core thread owns a broker; nothing here is locked. All work happens in turns:
 *
 *   1 mailbox: WAL completions, finished jobs, calls from other threads
 *   2 timers that are due
 *   3 input of sources (sessions) that were fed, round robin, bounded
 *   4 groups with waiting pulls
 *   5 progress of groups, close one entry per shard, hand one batch to the WAL
 *   6 one write per source with output
 *
 * The doors (proto/, api/) bring sources and call the commands of station.h, client.h
 * and auth.h. A command that changes durable state answers through a `struct mp_then`
 * when it is committed, never before.
 *
 * Thread: core.
 */
#ifndef MP_BROKER_BROKER_H
#define MP_BROKER_BROKER_H

#include "base/logger.h"
#include "base/mailbox.h"
#include "base/timer.h"
#include "bus/bus.h"
#include "env/env.h"
#include "meta/meta.h"
#include "replica/replica.h"
#include "stream/stream.h"

struct mp_broker;
struct mp_station;
struct mp_operation;

/* Input and output of one session, as the turn sees it. Embedded in the owner. */
struct mp_source {
    struct mp_list input_node, output_node; /* the broker's lists */
    /* Applies queued input, at most about bytes_max; *operations is reduced by what was
     * used. Returns bytes used; has_input: more could be applied now. */
    size_t (*work)(struct mp_source *s, size_t bytes_max, uint32_t *operations);
    bool (*has_input)(struct mp_source *s);
    void (*flush)(struct mp_source *s);
};

/* What to do when a command is committed. `text` is for a human or the SDK, valid
 * during the call, "" when OK. */
struct mp_then {
    void (*fn)(void *ctx, memphis_status status, const char *text);
    void *ctx;
};

struct mp_broker_options {
    struct mp_env *env; /* owned from now on, also when open fails */
    struct mp_heap *heap;
    struct mp_logger *logger; /* borrowed */
    const char *data_dir;     /* for meta.db; NULL: everything in memory */
    bool accept_loss;
    const char *root_password; /* NULL: MP_ROOT_PASSWORD_DEFAULT; copied */
    const char *connection_token; /* NULL: users have passwords (auth.h); copied */
    uint32_t dls_retention_hours;      /* 0: 3; at most 30 */
    uint64_t dls_max_bytes;            /* 0: 1 GiB */
    uint32_t idle_retention_hours;     /* 0: 3; at most 168 (connection.h) */
    uint64_t memory_max, disk_reserve; /* 0: the defaults of <memphis/broker.h> */
    uint32_t sync, sync_interval_ms, spin_us;
    void (*wake)(void *ctx); /* mail came: step soon; any thread */
    void (*broken)(void *ctx, const memphis_error *why);
    void (*user_changed)(void *ctx, const char *name, const struct mp_user_row *row);
    void *ctx;
};

struct mp_broker_counters {
    uint64_t stations, partitions, connections;
    uint64_t idle_removed; /* producers and consumers: connection.h */
    uint64_t turns;
};

/* Connection ids that have rows but no connection (connection.c). */
struct mp_idle {
    struct mp_list gone; /* the oldest first */
    struct mp_timer timer;
    uint64_t keep_ns, swept_ns;
    struct mp_operation *batch;    /* of the sweep, on its way; or NULL */
    uint32_t producers, consumers; /* that the sweep has removed */
};

struct mp_broker {
    struct mp_heap *heap;
    struct mp_env *env;
    struct mp_logger *logger;
    struct mp_mailbox mailbox;
    struct mp_replica *replica;
    struct mp_log *meta_log, *data_log, *memory_log;
    struct mp_clock *clock;
    uint64_t now_ns; /* broker time of this turn */
    int64_t wall_offset_ns; /* of now; what was before is in streams.wall */
    int64_t wall_told_ns;   /* the one that the data log was told last */
    struct mp_timers timers; /* ms of broker time */
    struct mp_bus *bus;
    struct mp_meta *meta;
    struct mp_stream_host streams;
    struct mp_list all_streams;
    struct mp_map streams_by_pid; /* key: 4 bytes of the pid inside the stream */
    struct mp_map stations;       /* internal name -> struct mp_station */
    struct mp_map connections;    /* their ids -> how many live (connection.c) */
    struct mp_idle idle;
    struct mp_buf orphans; /* start: partitions whose station is gone (station.c) */
    struct mp_list sources, outputs;
    struct mp_list operations; /* commands on their way: struct mp_operation */
    struct mp_list user_changes; /* of them: user.c */
    struct mp_auth *auth;
    struct mp_dls *dls;
    struct mp_service *admin; /* admin/admin.h */
    struct mp_recovery_report recovery;
    struct mp_broker_counters counters;
    char server_id[57], name[64];
    bool starting; /* replay: nothing is proposed yet */
    bool is_broken;
    memphis_error why;
    void (*on_broken)(void *ctx, const memphis_error *why);
    /* A user is not what he was; NULL: he is gone. */
    void (*user_changed)(void *ctx, const char *name, const struct mp_user_row *row);
    void *ctx;
    /* The SDKs' door: a station is gone; who asked for that hears it later. */
    void (*station_removed)(struct mp_broker *b, const char *name);
    /* Likewise: what dead letters do may be otherwise now. */
    void (*station_changed)(struct mp_broker *b, const struct mp_station *s);
};

/* Opens, recovers (blocks), is ready for turns when it returns OK. */
memphis_status mp_broker_open(const struct mp_broker_options *o, struct mp_broker **out,
                              memphis_error *err);
/* Stops and frees; sessions must be gone. Blocks: last batch, sync, clean mark. */
void mp_broker_close(struct mp_broker *b);

/* A broken broker: its state is never touched again, but its threads end and the
 * directory is unlocked. The memory is leaked. */
void mp_broker_abandon(struct mp_broker *b);

/* One turn. *next_ns: broker-clock nanoseconds until something is due by itself; 0:
 * more work is waiting now; UINT64_MAX: nothing is due. */
void mp_broker_turn(struct mp_broker *b, uint64_t *next_ns);

/* A call enters the core outside a turn, perhaps after a long sleep: it finds the time
 * of now, not that of the last turn. */
void mp_broker_enter(struct mp_broker *b);

void mp_broker_wants_turn(struct mp_broker *b, struct mp_source *s);  /* has input */
void mp_broker_wants_flush(struct mp_broker *b, struct mp_source *s); /* has output */
void mp_broker_forget_source(struct mp_broker *b, struct mp_source *s);
bool mp_broker_is_full(const struct mp_broker *b); /* no input until the log has room */

uint64_t mp_broker_now_ms(const struct mp_broker *b);
uint64_t mp_broker_wall_ns(const struct mp_broker *b);
void mp_broker_break(struct mp_broker *b, const memphis_error *why);
bool mp_broker_is_idle(const struct mp_broker *b); /* nothing open, nothing in flight */

/* NULL: no such partition is open. */
struct mp_stream *mp_broker_stream_by_pid(struct mp_broker *b, uint32_t pid);

/* -- commands on their way (operation.c) -----------------------------------------
 * An operation waits for one or several appends; its address is their tag. */
struct mp_operation {
    struct mp_list node;
    struct mp_broker *broker;
    uint32_t outstanding;  /* appends not answered yet, + 1 while being built */
    memphis_status status; /* first failure */
    memphis_error error;
    struct mp_then then;
};
struct mp_operation *mp_operation_new(struct mp_broker *b, struct mp_then then);
uint64_t mp_operation_tag(struct mp_operation *op); /* one more append is awaited */
void mp_operation_fail(struct mp_operation *op, memphis_status st, const char *text);
/* One append is answered, or building is over: runs `then` and frees at the last. A
 * broken broker runs nothing: an error would say that it did not happen, and it may
 * have. */
void mp_operation_done(struct mp_operation *op);
struct mp_operation *mp_operation_of(uint64_t tag); /* NULL: not an operation's */

#endif
