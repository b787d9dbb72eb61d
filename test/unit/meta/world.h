/* What the tests of lib/meta stand on: a log in memory that commits when it is told, a
 * broker's mailbox, and a model of the catalogue that is too simple to be wrong. */
#ifndef TEST_UNIT_META_WORLD_H
#define TEST_UNIT_META_WORLD_H

#include "support/test.h"

#include "base/buf.h"
#include "base/str.h"
#include "meta/meta.h"

enum { WORLD_COMMANDS_MAX = 4096 };

struct world {
    struct mp_log log;            /* first */
    struct mp_env *env;
    struct mp_mailbox box;
    struct mp_meta *meta;
    struct mp_logger logger;
    const char *path;
    uint64_t base; /* the log begins behind it */

    /* the log */
    char *payloads[WORLD_COMMANDS_MAX];
    size_t sizes[WORLD_COMMANDS_MAX];
    uint64_t tags[WORLD_COMMANDS_MAX];
    uint64_t indexes[WORLD_COMMANDS_MAX];
    size_t count, committed;
    uint64_t index;
    bool commits_at_once;
    memphis_status append_status;

    /* what the hooks said last, and how often */
    memphis_status result;
    void *row;
    uint64_t tag, failed_tag, safe_index;
    uint32_t applied_count, broken_count, safe_count;
    memphis_error broken;
    memphis_error err;            /* of an open that failed */
    void (*also)(struct world *w, const struct mp_command *c); /* inside applied */
};

/* -- the log ----------------------------------------------------------------------- */

static void world_apply(struct world *w, size_t i, bool live)
{
    struct mp_entry e = { .type = MP_ENTRY_META,
                          .payload = mp_slice(w->payloads[i], w->sizes[i]) };

    if (w->log.sink.apply != NULL)
        w->log.sink.apply(w->log.sink.ctx, w->indexes[i], 0, &e, 1,
                          live ? w->tags[i] : 0);
}

static void world_add(struct world *w, memphis_slice payload, uint64_t tag)
{
    assert_true(w->count < WORLD_COMMANDS_MAX);
    w->payloads[w->count] = mp_strndup(payload.data, payload.size);
    w->sizes[w->count] = payload.size;
    w->tags[w->count] = tag;
    w->count++;
}

static inline void world_commit(struct world *w)
{
    w->index++;
    while (w->committed < w->count) {
        size_t i = w->committed++;
        w->indexes[i] = w->index;
        world_apply(w, i, true);
    }
}

static memphis_status world_append(struct mp_log *log, const struct mp_entry *entries,
                                   size_t n, uint64_t tag)
{
    struct world *w = (struct world *)log;

    if (w->append_status != MEMPHIS_OK)
        return w->append_status;
    for (size_t i = 0; i < n; i++) {
        assert_int_equal(entries[i].type, MP_ENTRY_META);
        assert_int_equal(entries[i].pid, 0);
        world_add(w, entries[i].payload, tag);
    }
    if (w->commits_at_once)
        world_commit(w);
    return MEMPHIS_OK;
}

/* As a start does: everything from `from` on, applied or not. */
static inline void world_replay(struct world *w, size_t from)
{
    for (size_t i = from; i < w->committed; i++)
        world_apply(w, i, false);
}

/* -- hooks ------------------------------------------------------------------------- */

static void world_on_applied(void *ctx, const struct mp_command *c,
                             memphis_status result, void *row, uint64_t tag)
{
    struct world *w = ctx;

    w->applied_count++;
    w->result = result;
    w->row = row;
    w->tag = tag;
    assert_true((row == NULL) == (result == MEMPHIS_NOT_FOUND));
    if (w->also != NULL)
        w->also(w, c);
}

static void world_on_failed(void *ctx, uint64_t tag, memphis_status status)
{
    struct world *w = ctx;

    w->failed_tag = tag;
    w->result = status;
}

static void world_on_broken(void *ctx, const memphis_error *why)
{
    struct world *w = ctx;

    w->broken_count++;
    w->broken = *why;
}

static void world_on_safe(void *ctx, uint64_t index)
{
    struct world *w = ctx;

    assert_true(index >= w->safe_index);
    w->safe_count++;
    w->safe_index = index;
}

/* -- life -------------------------------------------------------------------------- */

static inline memphis_status world_try_start(struct world *w)
{
    struct mp_meta_hooks hooks = { .applied = world_on_applied,
                                   .failed = world_on_failed,
                                   .broken = world_on_broken,
                                   .safe = world_on_safe,
                                   .ctx = w };

    memset(&w->err, 0, sizeof w->err);
    return mp_meta_open(w->env, &w->log, &w->logger, w->path, w->base, &hooks, &w->meta,
                        &w->err);
}

static inline void world_start(struct world *w)
{
    memphis_status s = world_try_start(w);

    if (s != MEMPHIS_OK)
        fail_msg("open: %s", w->err.message);
}

static inline void world_stop(struct world *w)
{
    mp_meta_close(w->meta);
    w->meta = NULL;
    mp_mailbox_drain(&w->box);
}

static inline struct world *world_new_in(const char *path, bool threads)
{
    static const struct mp_log_ops ops = { .append = world_append };
    struct world *w = mp_alloc(sizeof *w);
    memphis_error err;

    w->log.ops = &ops;
    w->log.shard = MP_SHARD_META;
    w->path = path;
    mp_mailbox_init(&w->box, NULL, NULL);
    assert_int_equal(mp_env_posix_diskless(threads, mp_heap_current(), &w->env, &err),
                     MEMPHIS_OK);
    w->env->mailbox = &w->box;
    return w;
}

static inline struct world *world_new(const char *path)
{
    struct world *w = world_new_in(path, false);

    world_start(w);
    return w;
}

static inline void world_free(struct world *w)
{
    if (w->meta != NULL)
        world_stop(w);
    for (size_t i = 0; i < w->count; i++)
        mp_free(w->payloads[i]);
    w->env->close(w->env);
    mp_mailbox_fini(&w->box);
    mp_free(w);
}

/* Rows into SQLite, results back. */
static inline void world_turn(struct world *w)
{
    mp_meta_submit(w->meta);
    mp_mailbox_drain(&w->box);
}

/* Proposes and commits: an entry of the log for itself. */
static inline memphis_status world_do(struct world *w, const struct mp_command *c)
{
    uint64_t tag = w->count + 1;

    assert_int_equal(mp_meta_propose(w->meta, c, tag), MEMPHIS_OK);
    world_commit(w);
    assert_int_equal(w->tag, tag);
    return w->result;
}

/* -- commands ---------------------------------------------------------------------- */

static inline struct mp_command station_of(struct mp_meta *m, const char *name)
{
    struct mp_command c = { .kind = MP_COMMAND_STATION_CREATE, .time_ns = 1000 };

    c.u.station = (struct mp_station_row){
        .id = mp_meta_next_station_id(m),
        .name = (char *)name,
        .settings = { .retention = MP_RETAIN_BYTES, .retention_value = 1u << 20,
                      .storage = MP_STORAGE_FILE, .replicas = 1, .partitions = 3,
                      .idempotency_ms = 120000, .dls_poison = true, .schema = "s",
                      .dls_station = "" },
        .first_pid = mp_meta_take_pids(m, 3),
        .created_by = "root",
    };
    return c;
}

static inline struct mp_command station_drop_of(const char *name)
{
    return (struct mp_command){ .kind = MP_COMMAND_STATION_DROP,
                                .u.station.name = (char *)name };
}

static inline struct mp_command producer_of(struct mp_meta *m, uint32_t station_id,
                                            const char *name, const char *connection)
{
    struct mp_command c = { .kind = MP_COMMAND_PRODUCER_ADD, .time_ns = 2000 };

    c.u.producer = (struct mp_producer_row){ .id = mp_meta_next_row_id(m),
                                             .name = (char *)name,
                                             .station_id = station_id,
                                             .connection_id = (char *)connection,
                                             .sdk = "go", .user = "root",
                                             .version = 3 };
    return c;
}

static inline struct mp_command consumer_of(struct mp_meta *m, uint32_t station_id,
                                            const char *name, const char *connection)
{
    struct mp_command c = { .kind = MP_COMMAND_CONSUMER_ADD, .time_ns = 3000 };

    c.u.consumer = (struct mp_consumer_row){ .id = mp_meta_next_row_id(m),
                                             .name = (char *)name, .group = "g",
                                             .station_id = station_id,
                                             .connection_id = (char *)connection,
                                             .last_messages = -1, .ack_wait_ms = 30000,
                                             .deliveries_max = 10 };
    return c;
}

static inline struct mp_command member_drop_of(uint16_t kind, uint32_t station_id,
                                               const char *name, const char *connection)
{
    struct mp_command c = { .kind = kind };

    if (kind == MP_COMMAND_PRODUCER_DROP)
        c.u.producer = (struct mp_producer_row){ .name = (char *)name,
                                                 .station_id = station_id,
                                                 .connection_id = (char *)connection };
    else
        c.u.consumer = (struct mp_consumer_row){ .name = (char *)name,
                                                 .station_id = station_id,
                                                 .connection_id = (char *)connection };
    return c;
}

static inline struct mp_command user_of(const char *name, const char *hash)
{
    struct mp_command c = { .kind = MP_COMMAND_USER_PUT, .time_ns = 4000 };

    c.u.user = (struct mp_user_row){ .name = (char *)name, .hash = (char *)hash,
                                     .type = MP_USER_APPLICATION,
                                     .owner = "root", .avatar = 3,
                                     .is_restricted = true,
                                     .allow_read = "prod.*\norders" };
    return c;
}

static inline struct mp_command user_drop_of(const char *name)
{
    return (struct mp_command){ .kind = MP_COMMAND_USER_DROP,
                                .u.user.name = (char *)name };
}

/* -- catalogue as text ------------------------------------------------------------- */

static void put_station_line(struct mp_buf *out, const struct mp_station_row *s)
{
    const struct mp_station_settings *t = &s->settings;

    mp_buf_format(out,
                  "station %u %s %u %llu %u %u %llu %u %d%d%d%d '%s' '%s' %u %llu "
                  "'%s'\n",
                  s->id, s->name, t->retention, (unsigned long long)t->retention_value,
                  t->storage, t->replicas, (unsigned long long)t->idempotency_ms,
                  t->partitions, t->dls_poison, t->dls_schema, t->tiered, t->native,
                  t->schema, t->dls_station, s->first_pid,
                  (unsigned long long)s->created_ns, s->created_by);
}

static void put_producer_line(struct mp_buf *out, const struct mp_producer_row *p)
{
    mp_buf_format(out, " producer %llu %u %s '%s' '%s' '%s' '%s' %u %u %llu\n",
                  (unsigned long long)p->id, p->station_id, p->name, p->connection_id,
                  p->app_id, p->sdk, p->user, p->type, p->version,
                  (unsigned long long)p->created_ns);
}

static void put_consumer_line(struct mp_buf *out, const struct mp_consumer_row *p)
{
    mp_buf_format(out,
                  " consumer %llu %u %s %s '%s' '%s' '%s' '%s' %u %u %llu %u %llu "
                  "%lld %llu\n",
                  (unsigned long long)p->id, p->station_id, p->name, p->group,
                  p->connection_id, p->app_id, p->sdk, p->user, p->type, p->version,
                  (unsigned long long)p->ack_wait_ms, p->deliveries_max,
                  (unsigned long long)p->start_sequence, (long long)p->last_messages,
                  (unsigned long long)p->created_ns);
}

static void put_user_line(struct mp_buf *out, const struct mp_user_row *u)
{
    mp_buf_format(out, "user %s %u '%s' %llu %s %u %d '%s' '%s'\n", u->name, u->type,
                  u->hash, (unsigned long long)u->created_ns, u->owner, u->avatar,
                  u->is_restricted, u->allow_read,
                  u->deny_write != NULL ? u->deny_write : "");
}

/* Stations in order of their ids, which end at `last_id`; users of the given names. */
static inline void catalogue_text(struct mp_meta *m, uint32_t last_id,
                                  const char *const *users, size_t users_count,
                                  struct mp_buf *out)
{
    uint32_t found = 0, listed = 0;

    for (uint32_t id = 1; id <= last_id; id++) {
        struct mp_station_row *s = mp_meta_station_by_id(m, id);
        struct mp_producer_row *p = NULL;
        struct mp_consumer_row *c = NULL;
        if (s == NULL)
            continue;
        found++;
        assert_ptr_equal(mp_meta_station(m, mp_slice_text(s->name)), s);
        put_station_line(out, s);
        while ((p = mp_meta_producer_next(m, id, p)) != NULL)
            put_producer_line(out, p);
        while ((c = mp_meta_consumer_next(m, id, c)) != NULL)
            put_consumer_line(out, c);
    }
    for (uint32_t at = 0; mp_meta_station_next(m, &at) != NULL;)
        listed++;
    assert_int_equal(found, listed);
    for (size_t i = 0; i < users_count; i++) {
        struct mp_user_row *u = mp_meta_user(m, mp_slice_text(users[i]));
        if (u != NULL)
            put_user_line(out, u);
    }
}

#endif
