/* The sink of shard 1: commands change the catalogue, and rows follow into SQLite.
 *
 *      on_apply --> handler: decides, changes maps and lists
 *               --> queue (db.c writes it)      --> one job at a time on the worker
 *               --> hooks.applied                        |
 *                                               deliver: safe, broken, or again later
 *
 * The queue holds only commands that changed something, as they were in the log, with
 * the id of the row concerned. A job takes all of it; a job that met a full disk gives
 * back what is left. A station owns the rows of its producers and consumers, sorted by
 * id, so that the same row is "the first" whether it came by the log or by SQLite. The
 * same rows stand under their connection ids: dropping one of 100,000 is no search. */
#include "meta/internal.h"

#include "base/assert.h"
#include "base/buf.h"
#include "base/status.h"
#include "base/str.h"

#include <assert.h>
#include <string.h>

static const char module[] = "meta";

#define RETRY_NS 1000000000ull /* after a full disk */

struct station {
    struct mp_station_row row;    /* first */
    struct mp_list producers, consumers;
};

/* The rows of a connection id; it exists while there are any. */
struct members {
    char *connection_id;
    struct mp_list producers, consumers;
};

/* Rows on their way to SQLite. The mail may be in the mailbox when the metadata is
 * closed: then `meta` is NULL and the mail frees the job. */
struct rows_job {
    struct mp_job job;            /* first */
    struct mp_meta *meta;
    struct mp_db *db;
    struct mp_buf rows;
    struct mp_db_position to;
    bool truncate;                /* a checkpoint was asked for */
    /* results */
    size_t done;
    uint64_t safe;                /* 0: no checkpoint was completed */
    memphis_status status;
    memphis_error err;
};

struct mp_meta {
    struct mp_env *env;
    struct mp_log *log;
    struct mp_logger *logger;
    struct mp_meta_hooks hooks;
    struct mp_db *db;
    struct mp_worker *worker;
    struct mp_map stations, stations_by_id, users;
    struct mp_map connections; /* their ids -> struct members */
    struct mp_db_position position;
    uint64_t loaded_index;        /* what SQLite had at the start */
    uint64_t handed_station_id, handed_pid, handed_row_id; /* the last ones */
    struct mp_buf payload;        /* of the command being proposed */
    struct mp_buf queue;          /* rows not yet in a job */
    struct rows_job *job;         /* in flight, or NULL */
    uint64_t retry_ns;            /* boot time before which no job starts; 0: none */
    bool is_in_memory;
    bool is_applying;
    bool is_broken;
    bool wants_checkpoint;
    bool is_stuck; /* the last job has to be repeated, which was told */
};

/* What a command did. */
struct effect {
    memphis_status result;
    void *row;
    uint64_t id;                  /* of the row, for SQLite */
    bool changed;
    bool removed;                 /* `row` is free after the callback */
};

static void break_down(struct mp_meta *m, const memphis_error *why)
{
    mp_assert(why->status != MEMPHIS_OK);
    if (m->is_broken)
        return;
    m->is_broken = true;
    mp_logf(m->logger, MEMPHIS_LOG_ERROR, module, "metadata stopped: %s", why->message);
    if (m->hooks.broken != NULL)
        m->hooks.broken(m->hooks.ctx, why);
}

/* -- rows: one block each, with its texts behind the struct ------------------------ */

static size_t texts_size(const struct mp_command *c)
{
    const struct mp_row_spec *row = mp_command_spec(c->kind)->row;
    size_t size = 0;

    for (size_t i = 0; i < row->count; i++)
        if (row->fields[i].type == MP_FIELD_TEXT)
            size += strlen(mp_field_text(&row->fields[i], c)) + 1;
    return size;
}

/* Copies the texts of `c` to `at` and makes `c` point there. */
static void move_texts(struct mp_command *c, char *at)
{
    const struct mp_row_spec *row = mp_command_spec(c->kind)->row;

    mp_assert(at != NULL);
    for (size_t i = 0; i < row->count; i++) {
        const struct mp_field *f = &row->fields[i];
        if (f->type != MP_FIELD_TEXT)
            continue;
        const char *text = mp_field_text(f, c);
        size_t size = strlen(text) + 1;
        memcpy(at, text, size);
        mp_field_set_text(f, c, at);
        at += size;
    }
}

/* A block of `size` bytes for the row of `c`; *own is `c` with texts of its own. */
static void *new_row(const struct mp_command *c, size_t size, struct mp_command *own)
{
    char *block = mp_alloc(size + texts_size(c));

    mp_assert(!mp_command_spec(c->kind)->drops);
    *own = *c;
    mp_command_settle(own);
    move_texts(own, block + size);
    return block;
}

static struct station *new_station(const struct mp_command *c)
{
    struct mp_command own;
    struct station *s = new_row(c, sizeof *s, &own);

    mp_assert(c->kind == MP_COMMAND_STATION_CREATE ||
              c->kind == MP_COMMAND_STATION_CHANGE);
    s->row = own.u.station;
    mp_list_init(&s->producers);
    mp_list_init(&s->consumers);
    return s;
}

/* -- lists of rows: by station and by connection id, sorted by their own id -------- */

#define ROW_OF(n, kind, list) mp_container_of(n, struct mp_##kind##_row, list)

static_assert(offsetof(struct mp_producer_row, id) == 0 &&
                  offsetof(struct mp_consumer_row, id) == 0,
              "insert() finds it there");

/* `offset`: of the node in its row. */
static void insert(struct mp_list *all, struct mp_list *n, size_t offset)
{
    const uint64_t *id = (const void *)((const char *)n - offset);
    struct mp_list *at = all->prev;

    while (at != all && *(const uint64_t *)(const void *)((char *)at - offset) > *id)
        at = at->prev;
    mp_list_push_front(at, n);
}

static struct members *members_of(const struct mp_meta *m, const char *connection)
{
    return mp_map_find(&m->connections, mp_slice_text(connection));
}

static struct members *make_members(struct mp_meta *m, const char *connection)
{
    struct members *of = members_of(m, connection);

    if (of != NULL)
        return of;
    of = mp_alloc(sizeof *of);
    of->connection_id = mp_strdup(connection);
    mp_list_init(&of->producers);
    mp_list_init(&of->consumers);
    mp_map_put(&m->connections, mp_slice_text(of->connection_id), of);
    return of;
}

static void leave(struct mp_meta *m, const char *connection, struct mp_list *n)
{
    struct members *of = members_of(m, connection);

    mp_assert(of != NULL && mp_list_is_linked(n));
    mp_list_remove(n);
    if (!mp_list_is_empty(&of->producers) || !mp_list_is_empty(&of->consumers))
        return;
    mp_map_remove(&m->connections, mp_slice_text(of->connection_id));
    mp_free(of->connection_id);
    mp_free(of);
}

static void free_station(struct mp_meta *m, struct station *s)
{
    struct mp_list *n;

    mp_assert(s->row.id != 0);
    while ((n = mp_list_pop_front(&s->producers)) != NULL) {
        struct mp_producer_row *row = ROW_OF(n, producer, of_station);

        leave(m, row->connection_id, &row->of_connection);
        mp_free(row);
    }
    while ((n = mp_list_pop_front(&s->consumers)) != NULL) {
        struct mp_consumer_row *row = ROW_OF(n, consumer, of_station);

        leave(m, row->connection_id, &row->of_connection);
        mp_free(row);
    }
    mp_free(s);
}

static memphis_slice id_key(const uint32_t *id)
{
    return mp_slice(id, sizeof *id);
}

static struct station *find_station(struct mp_meta *m, uint32_t id)
{
    struct station *s = mp_map_find(&m->stations_by_id, id_key(&id));

    mp_assert(s == NULL || s->row.id == id);
    return s;
}

/* -- commands ---------------------------------------------------------------------- */

static void lift(uint64_t *last, uint64_t id)
{
    if (*last < id)
        *last = id;
}

static void station_create(struct mp_meta *m, const struct mp_command *c,
                           struct effect *e)
{
    const struct mp_station_row *wanted = &c->u.station;

    lift(&m->position.last_station_id, wanted->id);
    if (wanted->settings.partitions > 0)
        lift(&m->position.last_pid,
              (uint64_t)wanted->first_pid + wanted->settings.partitions - 1);
    e->row = mp_map_find(&m->stations, mp_slice_text(wanted->name));
    if (e->row != NULL) {
        e->result = MEMPHIS_EXISTS;
        return;
    }
    if (find_station(m, wanted->id) != NULL) {
        e->result = MEMPHIS_INTERNAL;
        return;
    }
    struct station *s = new_station(c);
    void *by_name = mp_map_put(&m->stations, mp_slice_text(s->row.name), s);
    void *by_id = mp_map_put(&m->stations_by_id, id_key(&s->row.id), s);
    mp_assert(by_name == NULL);
    mp_assert(by_id == NULL);
    mp_assert(m->stations.count == m->stations_by_id.count);
    *e = (struct effect){ .row = s, .id = s->row.id, .changed = true };
}

static void station_drop(struct mp_meta *m, const struct mp_command *c,
                         struct effect *e)
{
    struct station *s = mp_map_remove(&m->stations, mp_slice_text(c->u.station.name));

    if (s == NULL)
        return;
    void *same = mp_map_remove(&m->stations_by_id, id_key(&s->row.id));
    mp_assert(same == s);
    mp_assert(m->stations.count == m->stations_by_id.count);
    *e = (struct effect){ .row = s, .id = s->row.id, .changed = true, .removed = true };
}

static void producer_add(struct mp_meta *m, const struct mp_command *c,
                         struct effect *e)
{
    struct station *s = find_station(m, c->u.producer.station_id);

    lift(&m->position.last_row_id, c->u.producer.id);
    if (s == NULL)
        return;
    struct mp_command own;
    struct mp_producer_row *row = new_row(c, sizeof *row, &own);
    *row = own.u.producer;
    mp_assert(row->station_id == s->row.id);
    insert(&s->producers, &row->of_station,
           offsetof(struct mp_producer_row, of_station));
    insert(&make_members(m, row->connection_id)->producers, &row->of_connection,
           offsetof(struct mp_producer_row, of_connection));
    *e = (struct effect){ .row = row, .id = row->id, .changed = true };
}

/* The whole row anew; its members, creator and times stay. */
static void station_change(struct mp_meta *m, const struct mp_command *c,
                           struct effect *e)
{
    const struct mp_station_row *wanted = &c->u.station;
    struct station *old = mp_map_find(&m->stations, mp_slice_text(wanted->name));
    struct mp_list *l;

    if (old == NULL || old->row.id != wanted->id)
        return;
    struct station *s = new_station(c);
    while ((l = mp_list_pop_front(&old->producers)) != NULL)
        mp_list_push_back(&s->producers, l);
    while ((l = mp_list_pop_front(&old->consumers)) != NULL)
        mp_list_push_back(&s->consumers, l);
    mp_map_remove(&m->stations, mp_slice_text(old->row.name));
    mp_map_remove(&m->stations_by_id, id_key(&old->row.id));
    mp_map_put(&m->stations, mp_slice_text(s->row.name), s);
    mp_map_put(&m->stations_by_id, id_key(&s->row.id), s);
    free_station(m, old);
    *e = (struct effect){ .row = s, .id = s->row.id, .changed = true };
}

static void producer_drop(struct mp_meta *m, const struct mp_command *c,
                          struct effect *e)
{
    const struct mp_producer_row *wanted = &c->u.producer;
    struct mp_producer_row *row = NULL;

    while ((row = mp_meta_producer_of(m, wanted->connection_id, row)) != NULL)
        if (row->station_id == wanted->station_id &&
            strcmp(row->name, wanted->name) == 0)
            break;
    if (row == NULL)
        return;
    mp_assert(mp_list_is_linked(&row->of_station));
    mp_list_remove(&row->of_station);
    leave(m, row->connection_id, &row->of_connection);
    *e = (struct effect){ .row = row, .id = row->id, .changed = true, .removed = true };
}

static void consumer_add(struct mp_meta *m, const struct mp_command *c,
                         struct effect *e)
{
    struct station *s = find_station(m, c->u.consumer.station_id);

    lift(&m->position.last_row_id, c->u.consumer.id);
    if (s == NULL)
        return;
    struct mp_command own;
    struct mp_consumer_row *row = new_row(c, sizeof *row, &own);
    *row = own.u.consumer;
    mp_assert(row->station_id == s->row.id);
    insert(&s->consumers, &row->of_station,
           offsetof(struct mp_consumer_row, of_station));
    insert(&make_members(m, row->connection_id)->consumers, &row->of_connection,
           offsetof(struct mp_consumer_row, of_connection));
    *e = (struct effect){ .row = row, .id = row->id, .changed = true };
}

static void consumer_drop(struct mp_meta *m, const struct mp_command *c,
                          struct effect *e)
{
    const struct mp_consumer_row *wanted = &c->u.consumer;
    struct mp_consumer_row *row = NULL;

    while ((row = mp_meta_consumer_of(m, wanted->connection_id, row)) != NULL)
        if (row->station_id == wanted->station_id &&
            strcmp(row->name, wanted->name) == 0)
            break;
    if (row == NULL)
        return;
    mp_assert(mp_list_is_linked(&row->of_station));
    mp_list_remove(&row->of_station);
    leave(m, row->connection_id, &row->of_connection);
    *e = (struct effect){ .row = row, .id = row->id, .changed = true, .removed = true };
}

static void user_put(struct mp_meta *m, const struct mp_command *c, struct effect *e)
{
    struct mp_command own;
    struct mp_user_row *row = new_row(c, sizeof *row, &own);

    *row = own.u.user;
    mp_assert(row->name[0] != 0);
    mp_free(mp_map_put(&m->users, mp_slice_text(row->name), row));
    *e = (struct effect){ .row = row, .changed = true };
}

static void user_drop(struct mp_meta *m, const struct mp_command *c, struct effect *e)
{
    struct mp_user_row *row = mp_map_remove(&m->users, mp_slice_text(c->u.user.name));

    if (row != NULL)
        *e = (struct effect){ .row = row, .changed = true, .removed = true };
}

static void (*const handlers[])(struct mp_meta *m, const struct mp_command *c,
                                struct effect *e) = {
    [MP_COMMAND_STATION_CREATE] = station_create,
    [MP_COMMAND_STATION_DROP] = station_drop,
    [MP_COMMAND_PRODUCER_ADD] = producer_add,
    [MP_COMMAND_PRODUCER_DROP] = producer_drop,
    [MP_COMMAND_CONSUMER_ADD] = consumer_add,
    [MP_COMMAND_CONSUMER_DROP] = consumer_drop,
    [MP_COMMAND_USER_PUT] = user_put,
    [MP_COMMAND_USER_DROP] = user_drop,
    [MP_COMMAND_STATION_CHANGE] = station_change,
};

/* Decides and changes the catalogue. */
static struct effect carry_out(struct mp_meta *m, const struct mp_command *c)
{
    struct effect e = { .result = MEMPHIS_NOT_FOUND };

    mp_assert(c->kind < sizeof handlers / sizeof handlers[0]);
    mp_assert(handlers[c->kind] != NULL);
    handlers[c->kind](m, c, &e);
    mp_assert(!e.changed || e.result == MEMPHIS_OK);
    mp_assert(!e.removed || e.changed);
    mp_assert(e.result != MEMPHIS_OK || e.row != NULL);
    mp_assert(e.result != MEMPHIS_NOT_FOUND || e.row == NULL);
    return e;
}

static void release(struct mp_meta *m, const struct mp_command *c,
                    const struct effect *e)
{
    if (!e->removed)
        return;
    mp_assert(e->row != NULL);
    mp_assert(mp_command_spec(c->kind)->drops);
    if (c->kind == MP_COMMAND_STATION_DROP)
        free_station(m, e->row);
    else
        mp_free(e->row);
}

/* -- sink of shard 1 --------------------------------------------------------------- */

static void apply_command(struct mp_meta *m, memphis_slice payload, uint64_t tag)
{
    struct mp_arena arena = { 0 };
    struct mp_command c;
    memphis_error err;

    if (mp_command_decode(payload, &c, &arena, &err) != MEMPHIS_OK) {
        break_down(m, &err);
    } else {
        struct effect e = carry_out(m, &c);
        if (e.result == MEMPHIS_INTERNAL) {
            mp_fail(&err, MEMPHIS_INTERNAL, "'%s' has the id of another station",
                    mp_command_row_name(&c));
            break_down(m, &err);
        } else {
            if (e.changed)
                mp_db_queue(&m->queue, m->position.applied_index, e.id, payload);
            if (m->hooks.applied != NULL)
                m->hooks.applied(m->hooks.ctx, &c, e.result, e.row, tag);
            release(m, &c, &e);
        }
    }
    mp_arena_fini(&arena);
}

static void on_apply(void *ctx, uint64_t index, uint64_t time_ns,
                     const struct mp_entry *entries, size_t n, uint64_t own_tag)
{
    struct mp_meta *m = ctx;

    (void)time_ns; /* commands carry the wall time of their maker */
    if (index <= m->loaded_index || m->is_broken)
        return;
    mp_assert(index >= m->position.applied_index);
    mp_assert(entries != NULL || n == 0);
    bool outer = m->is_applying; /* callbacks may append, and a log commit at once */
    m->is_applying = true;
    m->position.applied_index = index;
    for (size_t i = 0; i < n && !m->is_broken; i++)
        if (entries[i].type == MP_ENTRY_META)
            apply_command(m, entries[i].payload, own_tag);
    m->is_applying = outer;
}

static void on_failed(void *ctx, uint64_t tag, memphis_status status)
{
    struct mp_meta *m = ctx;

    mp_assert(status != MEMPHIS_OK);
    if (m->hooks.failed != NULL)
        m->hooks.failed(m->hooks.ctx, tag, status);
}

/* Metadata has no messages, and its state is in SQLite. */
static void on_ready(void *ctx, uint32_t pid)
{
    (void)ctx, (void)pid;
}

static void on_state(void *ctx, uint32_t pid, struct mp_buf *out)
{
    (void)ctx, (void)pid, (void)out;
}

static memphis_status on_restore(void *ctx, uint32_t pid, uint64_t index,
                                 memphis_slice state, memphis_error *err)
{
    (void)ctx, (void)pid, (void)index, (void)state, (void)err;
    return MEMPHIS_OK;
}

/* -- rows to SQLite ---------------------------------------------------------------- */

static bool is_passing(memphis_status s)
{
    return s == MEMPHIS_NO_SPACE || s == MEMPHIS_BUSY || s == MEMPHIS_NOMEM;
}

/* On the worker, or on the core after the worker has ended. */
static void write_rows(struct rows_job *j)
{
    mp_assert(j->done == 0);
    j->safe = 0;
    j->status = mp_db_write(j->db, mp_buf_slice(&j->rows), &j->to, &j->done, &j->err);
    if (j->status != MEMPHIS_OK && !is_passing(j->status))
        return;
    /* Also on a full disk: a checkpoint gives back the space of SQLite's log. */
    memphis_error err;
    memphis_status s = mp_db_checkpoint(j->db, j->truncate, &j->safe, &err);
    mp_assert(j->safe <= j->to.applied_index);
    if (s != MEMPHIS_OK && (j->status == MEMPHIS_OK || !is_passing(s))) {
        j->status = s;
        j->err = err;
    }
}

static void run_job(struct mp_job *job)
{
    write_rows((struct rows_job *)job);
}

static void free_job(struct rows_job *j)
{
    if (j == NULL)
        return;
    mp_buf_fini(&j->rows);
    mp_free(j);
}

/* Rows that are not in SQLite yet go back to the front of the queue. */
static void keep_rest(struct mp_meta *m, struct rows_job *j)
{
    mp_assert(j->done <= j->rows.size);
    mp_buf_consume(&j->rows, j->done);
    j->done = 0;
    if (j->rows.size == 0)
        return;
    mp_buf_put_slice(&j->rows, mp_buf_slice(&m->queue));
    struct mp_buf front = j->rows;
    j->rows = m->queue;
    m->queue = front;
}

/* What a finished job leaves behind. */
static void settle_job(struct mp_meta *m, struct rows_job *j)
{
    mp_assert(!m->is_broken);
    if (j->job.guard != MEMPHIS_OK) {
        break_down(m, &j->job.why);
        return;
    }
    keep_rest(m, j);
    bool was_stuck = m->is_stuck;
    m->is_stuck = j->status != MEMPHIS_OK;
    if (!m->is_stuck)
        return;
    if (!is_passing(j->status)) {
        break_down(m, &j->err);
        return;
    }
    if (!was_stuck)
        mp_logf(m->logger, MEMPHIS_LOG_WARN, module,
                "the metadata is not safe in its database yet: %s bytes=%zu",
                j->err.message, m->queue.size);
    m->retry_ns = m->env->boot_ns(m->env) + RETRY_NS;
    m->wants_checkpoint |= j->truncate && j->safe == 0;
}

static void submit(struct mp_meta *m);

static void deliver(struct mp_mail *mail)
{
    struct rows_job *j = mp_container_of(mail, struct rows_job, job.mail);
    struct mp_meta *m = j->meta;

    if (m != NULL) {
        mp_assert(m->job == j);
        m->job = NULL;
        if (!m->is_broken)
            settle_job(m, j);
        if (!m->is_broken && j->safe != 0 && m->hooks.safe != NULL)
            m->hooks.safe(m->hooks.ctx, j->safe);
        submit(m);
    }
    free_job(j);
}

static struct rows_job *new_job(struct mp_meta *m)
{
    struct rows_job *j = mp_alloc(sizeof *j);

    mp_assert(m->job == NULL);
    mp_assert(!m->is_applying);
    *j = (struct rows_job){ .job = { .mail = { .deliver = deliver }, .run = run_job },
                            .meta = m,
                            .db = m->db,
                            .rows = m->queue,
                            .to = m->position,
                            .truncate = m->wants_checkpoint };
    m->queue = (struct mp_buf){ 0 };
    m->wants_checkpoint = false;
    return j;
}

/* Starts a job if there is work and none is in flight. Not in the middle of an apply:
 * more rows of the same index may follow, and a transaction holds whole indexes. */
static void submit(struct mp_meta *m)
{
    if (m->job != NULL || m->is_broken || m->is_applying)
        return;
    if (m->queue.size == 0 && !m->wants_checkpoint)
        return;
    if (m->retry_ns != 0 && m->env->boot_ns(m->env) < m->retry_ns)
        return;
    m->retry_ns = 0;
    m->job = new_job(m);
    m->env->worker_post(m->env, m->worker, &m->job->job);
}

void mp_meta_submit(struct mp_meta *m)
{
    submit(m);
}

uint64_t mp_meta_wait_ns(const struct mp_meta *m)
{
    uint64_t now;

    if (m->is_broken || m->job != NULL || (m->queue.size == 0 && !m->wants_checkpoint))
        return UINT64_MAX;
    now = m->env->boot_ns(m->env);
    return m->retry_ns > now ? m->retry_ns - now : 0;
}

void mp_meta_checkpoint(struct mp_meta *m)
{
    if (m->is_in_memory)
        return;
    m->wants_checkpoint = true;
    submit(m);
}

/* -- open and close ---------------------------------------------------------------- */

static memphis_status load_row(void *ctx, const struct mp_command *c)
{
    return carry_out(ctx, c).result;
}

/* The stored maxima are not below the ids of the rows, which loading has gone through;
 * were they, no id would be given twice all the same. */
static memphis_status load(struct mp_meta *m, memphis_error *err)
{
    struct mp_db_position stored = { 0 };

    mp_assert(m->stations.count == 0 && m->users.count == 0);
    memphis_status s = mp_db_load(m->db, load_row, m, &stored, err);

    if (s != MEMPHIS_OK)
        return s;
    lift(&m->position.last_station_id, stored.last_station_id);
    lift(&m->position.last_pid, stored.last_pid);
    lift(&m->position.last_row_id, stored.last_row_id);
    m->position.applied_index = m->loaded_index = stored.applied_index;
    return MEMPHIS_OK;
}

static void seed(struct mp_env *env, struct mp_map *map)
{
    uint64_t key[2];

    env->random(env, key, sizeof key);
    mp_map_seed(map, key[0], key[1]);
}

static void free_all(struct mp_meta *m)
{
    struct station *s;
    struct mp_user_row *user;

    mp_assert(m->job == NULL);
    for (uint32_t i = 0; (s = mp_map_next(&m->stations, &i)) != NULL;)
        free_station(m, s);
    for (uint32_t i = 0; (user = mp_map_next(&m->users, &i)) != NULL;)
        mp_free(user);
    mp_map_fini(&m->stations);
    mp_map_fini(&m->stations_by_id);
    mp_map_fini(&m->users);
    mp_assert(m->connections.count == 0);
    mp_map_fini(&m->connections);
    mp_buf_fini(&m->queue);
    mp_buf_fini(&m->payload);
    mp_db_close(m->db);
    mp_free(m);
}

memphis_status mp_meta_open(struct mp_env *env, struct mp_log *log,
                            struct mp_logger *logger, const char *db_path,
                            uint64_t base, const struct mp_meta_hooks *hooks,
                            struct mp_meta **out, memphis_error *err)
{
    struct mp_meta *m = mp_alloc(sizeof *m);

    mp_assert(db_path != NULL && hooks != NULL);
    mp_assert(env->mailbox != NULL);
    *m = (struct mp_meta){ .env = env, .log = log, .logger = logger, .hooks = *hooks,
                           .is_in_memory = db_path[0] == 0 };
    seed(env, &m->stations);
    seed(env, &m->stations_by_id);
    seed(env, &m->users);
    seed(env, &m->connections);
    memphis_status s = mp_db_open(db_path, base, &m->db, err);
    if (s == MEMPHIS_OK)
        s = load(m, err);
    if (s == MEMPHIS_OK)
        s = env->worker_new(env, "sqlite", 0, &m->worker, err);
    if (s != MEMPHIS_OK) {
        free_all(m);
        return s;
    }
    log->sink = (struct mp_log_sink){ .apply = on_apply,
                                      .failed = on_failed,
                                      .ready = on_ready,
                                      .state = on_state,
                                      .restore = on_restore,
                                      .ctx = m };
    *out = m;
    return MEMPHIS_OK;
}

memphis_status mp_meta_secure(struct mp_meta *m, memphis_error *err)
{
    uint64_t safe = 0;

    mp_assert(m->job == NULL);
    return mp_db_checkpoint(m->db, true, &safe, err);
}

/* The last rows, by the core itself. What does not get in comes again by replay. */
static void write_last_rows(struct mp_meta *m)
{
    m->wants_checkpoint = true;
    struct rows_job *j = new_job(m);

    write_rows(j);
    if (j->status != MEMPHIS_OK)
        mp_logf(m->logger, MEMPHIS_LOG_WARN, module,
                "the last of the metadata is left to the next start: %s",
                j->err.message);
    free_job(j);
}

void mp_meta_close(struct mp_meta *m)
{
    if (m == NULL)
        return;
    mp_assert(!m->is_applying);
    m->log->sink = (struct mp_log_sink){ 0 };
    m->hooks = (struct mp_meta_hooks){ 0 };
    m->env->worker_free(m->env, m->worker);
    struct rows_job *j = m->job;
    if (j != NULL) {
        j->meta = NULL;
        m->job = NULL;
        if (!m->is_broken)
            settle_job(m, j);
    }
    if (!m->is_broken)
        write_last_rows(m);
    free_all(m);
}

/* -- commands and ids -------------------------------------------------------------- */

memphis_status mp_meta_propose(struct mp_meta *m, const struct mp_command *c,
                               uint64_t tag)
{
    if (m->is_broken)
        return MEMPHIS_BROKEN;
    if (mp_command_fault(c) != NULL)
        return MEMPHIS_INVALID;
    mp_buf_clear(&m->payload);
    mp_command_encode(c, &m->payload);
    mp_assert(m->payload.size > 0);
    struct mp_entry e = { .type = MP_ENTRY_META, .payload = mp_buf_slice(&m->payload) };
    return mp_log_append(m->log, &e, 1, tag);
}

/* The id behind everything applied and everything handed out in this run. */
static uint64_t hand_out(uint64_t *handed, uint64_t last, uint64_t count)
{
    lift(handed, last);
    uint64_t first = *handed + 1;
    mp_assert(first > last);
    *handed += count;
    return first;
}

uint32_t mp_meta_next_station_id(struct mp_meta *m)
{
    uint64_t id = hand_out(&m->handed_station_id, m->position.last_station_id, 1);

    mp_assert(id <= UINT32_MAX);
    return (uint32_t)id;
}

uint32_t mp_meta_take_pids(struct mp_meta *m, uint32_t count)
{
    uint64_t first = hand_out(&m->handed_pid, m->position.last_pid, count);

    mp_assert(first <= UINT32_MAX - count);
    return (uint32_t)first;
}

uint64_t mp_meta_next_row_id(struct mp_meta *m)
{
    uint64_t id = hand_out(&m->handed_row_id, m->position.last_row_id, 1);

    mp_assert(id <= INT64_MAX);
    return id;
}

/* -- the catalogue ----------------------------------------------------------------- */

struct mp_station_row *mp_meta_station(struct mp_meta *m, memphis_slice name)
{
    struct station *s = mp_map_find(&m->stations, name);

    mp_debug(s == NULL || find_station(m, s->row.id) == s);
    return s != NULL ? &s->row : NULL;
}

struct mp_station_row *mp_meta_station_by_id(struct mp_meta *m, uint32_t id)
{
    struct station *s = find_station(m, id);

    return s != NULL ? &s->row : NULL;
}

struct mp_station_row *mp_meta_station_next(struct mp_meta *m, uint32_t *at)
{
    return mp_map_next(&m->stations, at);
}

struct mp_user_row *mp_meta_user(struct mp_meta *m, memphis_slice name)
{
    return mp_map_find(&m->users, name);
}

struct mp_user_row *mp_meta_user_next(struct mp_meta *m, uint32_t *at)
{
    return mp_map_next(&m->users, at);
}

bool mp_meta_user_behind(struct mp_meta *m, memphis_slice name, uint32_t *at)
{
    return mp_map_behind(&m->users, name, at);
}

struct mp_producer_row *mp_meta_producer_next(struct mp_meta *m, uint32_t station_id,
                                              struct mp_producer_row *after)
{
    struct station *s = find_station(m, station_id);

    if (s == NULL)
        return NULL;
    mp_assert(after == NULL || after->station_id == station_id);
    struct mp_list *n = after != NULL ? after->of_station.next : s->producers.next;
    return n == &s->producers ? NULL : ROW_OF(n, producer, of_station);
}

struct mp_consumer_row *mp_meta_consumer_next(struct mp_meta *m, uint32_t station_id,
                                              struct mp_consumer_row *after)
{
    struct station *s = find_station(m, station_id);

    if (s == NULL)
        return NULL;
    mp_assert(after == NULL || after->station_id == station_id);
    struct mp_list *n = after != NULL ? after->of_station.next : s->consumers.next;
    return n == &s->consumers ? NULL : ROW_OF(n, consumer, of_station);
}

struct mp_producer_row *mp_meta_producer_of(struct mp_meta *m, const char *connection,
                                            struct mp_producer_row *after)
{
    struct members *of = members_of(m, connection);

    if (of == NULL)
        return NULL;
    mp_assert(after == NULL || strcmp(after->connection_id, connection) == 0);
    struct mp_list *n = after != NULL ? after->of_connection.next : of->producers.next;
    return n == &of->producers ? NULL : ROW_OF(n, producer, of_connection);
}

struct mp_consumer_row *mp_meta_consumer_of(struct mp_meta *m, const char *connection,
                                            struct mp_consumer_row *after)
{
    struct members *of = members_of(m, connection);

    if (of == NULL)
        return NULL;
    mp_assert(after == NULL || strcmp(after->connection_id, connection) == 0);
    struct mp_list *n = after != NULL ? after->of_connection.next : of->consumers.next;
    return n == &of->consumers ? NULL : ROW_OF(n, consumer, of_connection);
}

const char *mp_meta_connection_next(struct mp_meta *m, uint32_t *at)
{
    struct members *of = mp_map_next(&m->connections, at);

    return of != NULL ? of->connection_id : NULL;
}

uint64_t mp_meta_applied_index(const struct mp_meta *m)
{
    mp_assert(m->position.applied_index >= m->loaded_index);
    return m->position.applied_index;
}
