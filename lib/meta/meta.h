/* meta/meta.h -- metadata: commands in the log of shard 1, a catalogue in memory that
 * decides, SQLite as the read model.
 *
 *   propose(command, tag) -> shard 1 -> durable -> apply -> catalogue (decides:
 *        created, exists, not found) -> `applied` callback (answers the client)
 *                           -> rows queued to the SQLite worker, with the applied index
 *
 * Answers come from the catalogue, never from SQLite; SQLite is read for lists and
 * history, and at a start: rows into the catalogue, then the log from the applied index
 * upwards (storage-design 12). A constraint that SQLite refuses is a bug of ours.
 * Apply is deterministic: ids and times are inside the command.
 *
 * Not here: messages, group positions, what is connected now (broker/connection.h).
 *
 * Thread: core; db.c's statements run on the SQLite worker.
 */
#ifndef MP_META_META_H
#define MP_META_META_H

#include "base/list.h"
#include "base/logger.h"
#include "base/map.h"
#include "env/env.h"
#include "store/log.h"

enum { MP_RETAIN_AGE, MP_RETAIN_MESSAGES, MP_RETAIN_BYTES, MP_RETAIN_ACKED };
enum { MP_STORAGE_FILE, MP_STORAGE_MEMORY };

struct mp_station_settings {
    uint32_t retention;       /* MP_RETAIN_* */
    uint64_t retention_value; /* seconds, messages or bytes */
    uint32_t storage;         /* MP_STORAGE_* */
    uint32_t replicas;
    uint64_t idempotency_ms;
    uint32_t partitions;
    bool dls_poison, dls_schema, tiered;
    bool native;             /* made by a Memphis request or the C API */
    const char *schema;      /* "": none. In a row: owned by the row */
    const char *dls_station; /* "": none */
    const char *stream;      /* of a NATS client: its configuration (JSON); "": none */
};

/* Rows are owned by the catalogue and valid until the next apply. */
struct mp_station_row {
    uint32_t id;
    char *name; /* external form, lower case: "orders.eu" */
    struct mp_station_settings settings;
    uint32_t first_pid;  /* partitions have consecutive ids */
    uint64_t created_ns; /* wall time */
    char *created_by;
};

enum { MP_CLIENT_APPLICATION, MP_CLIENT_CONNECTOR };

struct mp_producer_row {
    uint64_t id; /* first */
    char *name;
    uint32_t station_id;
    char *connection_id, *app_id, *sdk, *user;
    uint32_t type, version;
    uint64_t created_ns;
    struct mp_list of_station, of_connection; /* catalogue internal */
};

struct mp_consumer_row {
    uint64_t id; /* first */
    char *name, *group; /* lower case, external form */
    uint32_t station_id;
    char *connection_id, *app_id, *sdk, *user;
    uint32_t type, version;
    uint64_t ack_wait_ms;
    uint32_t deliveries_max;
    uint64_t start_sequence;
    int64_t last_messages;
    uint64_t created_ns;
    struct mp_list of_station, of_connection; /* catalogue internal */
};

enum { MP_USER_ROOT, MP_USER_APPLICATION, MP_USER_MANAGEMENT };

/* Texts that are not set are "". The four lists of patterns: one per line; none of them
 * counts unless `is_restricted` (broker/permission.h). */
struct mp_user_row {
    char *name;
    uint32_t type;
    char *hash; /* bcrypt */
    uint64_t created_ns;
    const char *owner, *description, *full_name, *team, *position;
    uint32_t avatar;
    bool is_restricted;
    const char *allow_read, *allow_write, *deny_read, *deny_write;
};

enum mp_command_kind { /* numbers are on disk: never reused */
                       MP_COMMAND_STATION_CREATE = 1,
                       MP_COMMAND_STATION_DROP = 2,
                       MP_COMMAND_PRODUCER_ADD = 3,
                       MP_COMMAND_PRODUCER_DROP =
                           4, /* by name, station and connection id */
                       MP_COMMAND_CONSUMER_ADD = 5,
                       MP_COMMAND_CONSUMER_DROP =
                           6, /* one row by name, station and connection id */
                       MP_COMMAND_USER_PUT = 7, /* insert or replace by name */
                       MP_COMMAND_USER_DROP = 8,
                       MP_COMMAND_STATION_CHANGE = 9, /* all fields, by name and id */
                       MP_COMMANDS_END
};

/* One command, decoded. Texts are borrowed. */
struct mp_command {
    uint16_t kind;
    uint64_t time_ns; /* wall time; becomes created_ns of the row */
    union {
        struct mp_station_row station;   /* DROP: name only */
        struct mp_producer_row producer; /* DROP: name, station_id, connection_id */
        struct mp_consumer_row consumer;
        struct mp_user_row user;
    } u;
};

struct mp_meta;

struct mp_meta_hooks {
    /* A command took effect (live or at replay, then tag is 0). OK, EXISTS, NOT_FOUND.
     * `row`: the row concerned (made, existing, or the one just removed: still valid
     * during the call), of the kind's type; NULL for NOT_FOUND. */
    void (*applied)(void *ctx, const struct mp_command *c, memphis_status result,
                    void *row, uint64_t tag);
    void (*failed)(void *ctx, uint64_t tag, memphis_status status);
    /* Once: SQLite refused a row, an I/O error, a command nobody can read. */
    void (*broken)(void *ctx, const memphis_error *why);
    /* Everything up to `index` is safe in meta.db (completed checkpoint). */
    void (*safe)(void *ctx, uint64_t index);
    void *ctx;
};

/* Opens <data>/meta.db ("" path: ":memory:"), migrates, loads the catalogue, registers
 * the sink of `log`. The replay of shard 1 then goes through it; what SQLite has
 * (up to mp_meta_applied_index) is skipped without a callback. In memory that index is
 * 0: everything comes from the log. `base`: the log begins behind it, so SQLite must
 * have come that far. CORRUPT: it has not (then nothing was touched), or is damaged, or
 * no database of ours; VERSION: a newer broker wrote it; BUSY, NO_SPACE, IO. */
memphis_status mp_meta_open(struct mp_env *env, struct mp_log *log,
                            struct mp_logger *logger, const char *db_path,
                            uint64_t base, const struct mp_meta_hooks *hooks,
                            struct mp_meta **out, memphis_error *err);
/* At a start: what SQLite had when it was opened is on the disk for sure. BUSY:
 * somebody else reads it. */
memphis_status mp_meta_secure(struct mp_meta *m, memphis_error *err);
/* Waits for queued rows, checkpoints, closes; calls no hook. NULL is fine. To be called
 * before the log is freed, whose sink it takes away, and before the last drain of the
 * mailbox, where the mail of its last job may be. */
void mp_meta_close(struct mp_meta *m);

/* Encodes and appends; the result comes by `applied` or `failed` with the tag. INVALID:
 * a command without a name or id, or with a number beyond its range; BROKEN, or what
 * the log says. */
memphis_status mp_meta_propose(struct mp_meta *m, const struct mp_command *c,
                               uint64_t tag);

/* Hands queued rows to the worker: once a turn. On a full disk they stay queued, and so
 * does a checkpoint while somebody reads; a call a second later tries again. */
void mp_meta_submit(struct mp_meta *m);
/* Until a submit has something to do by itself; UINT64_MAX: nothing. */
uint64_t mp_meta_wait_ns(const struct mp_meta *m);
/* The WAL wants its space back: commit what is queued, checkpoint; `safe` follows,
 * also after the next submit only. `safe` may come unasked, too. A database in memory
 * is never safe: nothing follows, and the log must keep everything. */
void mp_meta_checkpoint(struct mp_meta *m);

/* Ids for commands: unique and growing over restarts. */
uint32_t mp_meta_next_station_id(struct mp_meta *m);
uint32_t mp_meta_take_pids(struct mp_meta *m, uint32_t count); /* the first of them */
uint64_t mp_meta_next_row_id(struct mp_meta *m); /* producers, consumers */

/* The catalogue. Names are external; `at` is that of mp_map_next. */
struct mp_station_row *mp_meta_station(struct mp_meta *m, memphis_slice name);
struct mp_station_row *mp_meta_station_by_id(struct mp_meta *m, uint32_t id);
struct mp_station_row *mp_meta_station_next(struct mp_meta *m, uint32_t *at);
struct mp_user_row *mp_meta_user(struct mp_meta *m, memphis_slice name);
struct mp_user_row *mp_meta_user_next(struct mp_meta *m, uint32_t *at);
/* As mp_map_behind. */
bool mp_meta_user_behind(struct mp_meta *m, memphis_slice name, uint32_t *at);
/* NULL `after`: the first row of the station; else the one behind it. */
struct mp_producer_row *mp_meta_producer_next(struct mp_meta *m, uint32_t station_id,
                                              struct mp_producer_row *after);
struct mp_consumer_row *mp_meta_consumer_next(struct mp_meta *m, uint32_t station_id,
                                              struct mp_consumer_row *after);
/* Likewise those of a connection id, and the ids that have any. */
struct mp_producer_row *mp_meta_producer_of(struct mp_meta *m, const char *connection,
                                            struct mp_producer_row *after);
struct mp_consumer_row *mp_meta_consumer_of(struct mp_meta *m, const char *connection,
                                            struct mp_consumer_row *after);
const char *mp_meta_connection_next(struct mp_meta *m, uint32_t *at);
uint64_t mp_meta_applied_index(const struct mp_meta *m);

/* Pure codec (command.c): the payload of an entry of type 15. */
void mp_command_encode(const struct mp_command *c, struct mp_buf *out);
memphis_status mp_command_decode(memphis_slice payload, struct mp_command *out,
                                 struct mp_arena *arena, memphis_error *err);

#endif
