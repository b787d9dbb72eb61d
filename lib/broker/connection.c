#include "broker/connection.h"

#include "base/assert.h"
#include "base/limits.h"
#include "base/status.h"
#include "base/str.h"

static const uint64_t MS = 1000000;
static const uint64_t HOUR_NS = 3600ull * 1000000000;
static const uint64_t SWEEP_NS = 900ull * 1000000000; /* between two sweeps */
static const uint64_t PAUSE_MS = 10;                  /* between two of its batches */

enum { BATCH_MAX = 256 }; /* rows, and ids without any */

/* It exists while it is up or gone. */
struct connection {
    struct mp_list node; /* in the list of gone ones */
    char *id;
    uint32_t count;
    uint64_t gone_ns;
};

static struct connection *find(const struct mp_broker *b, const char *id)
{
    return mp_map_find(&b->connections, mp_slice_text(id));
}

static struct connection *make(struct mp_broker *b, const char *id)
{
    struct connection *c = find(b, id);

    if (c != NULL)
        return c;
    c = mp_alloc(sizeof(*c));
    c->id = mp_strdup(id);
    mp_map_put(&b->connections, mp_slice_text(c->id), c);
    return c;
}

static void connection_free(struct connection *c)
{
    mp_list_remove(&c->node);
    mp_free(c->id);
    mp_free(c);
}

static void forget(struct mp_broker *b, struct connection *c)
{
    mp_map_remove(&b->connections, mp_slice_text(c->id));
    connection_free(c);
}

static bool has_rows(const struct mp_broker *b, const char *id)
{
    return mp_meta_producer_of(b->meta, id, NULL) != NULL ||
           mp_meta_consumer_of(b->meta, id, NULL) != NULL;
}

static struct connection *oldest(const struct mp_broker *b)
{
    const struct mp_idle *i = &b->idle;

    return mp_list_is_empty(&i->gone)
               ? NULL
               : mp_container_of(i->gone.next, struct connection, node);
}

static void arm(struct mp_broker *b)
{
    struct mp_idle *i = &b->idle;
    const struct connection *c = oldest(b);
    uint64_t due;

    if (i->batch != NULL)
        return; /* its end goes on from here */
    if (c == NULL) {
        mp_timer_cancel(&b->timers, &i->timer);
        return;
    }
    due = c->gone_ns + i->keep_ns;
    due = i->swept_ns > 0 && i->swept_ns + SWEEP_NS > due ? i->swept_ns + SWEEP_NS
                                                          : due;
    mp_timer_set(&b->timers, &i->timer, due / MS + (due % MS != 0));
}

static void note_gone(struct mp_broker *b, struct connection *c)
{
    mp_assert(c->count == 0);
    c->gone_ns = b->now_ns;
    mp_list_remove(&c->node);
    mp_list_push_back(&b->idle.gone, &c->node);
}

/* === Up and down === */

void mp_connection_up(struct mp_broker *b, const char *id)
{
    struct connection *c = make(b, id);

    b->counters.connections++;
    if (c->count++ > 0 || !mp_list_is_linked(&c->node))
        return;
    mp_list_remove(&c->node);
    arm(b);
}

void mp_connection_down(struct mp_broker *b, const char *id)
{
    struct connection *c = find(b, id);

    mp_assert(c != NULL && c->count > 0);
    b->counters.connections--;
    if (--c->count > 0)
        return;
    if (!has_rows(b, id)) { /* a row that is on its way says so when it is there */
        forget(b, c);
        return;
    }
    note_gone(b, c);
    arm(b);
}

bool mp_connection_is_up(const struct mp_broker *b, const char *id)
{
    const struct connection *c = find(b, id);

    return c != NULL && c->count > 0;
}

/* === The sweep === */

static bool is_due(const struct mp_broker *b, const struct connection *c)
{
    return c != NULL && b->now_ns - c->gone_ns >= b->idle.keep_ns;
}

static void drop(struct mp_broker *b, const struct mp_command *c)
{
    struct mp_operation *op = b->idle.batch;
    memphis_status st = mp_meta_propose(b->meta, c, mp_operation_tag(op));

    if (st == MEMPHIS_OK)
        return;
    mp_operation_fail(op, st, "the metadata could not be written");
    mp_operation_done(op);
}

/* Returns how many rows it dropped. A log in memory applies a command at once: so the
 * row behind is looked up before. */
static uint32_t drop_rows(struct mp_broker *b, const char *id, uint32_t most)
{
    struct mp_producer_row *p = mp_meta_producer_of(b->meta, id, NULL), *p_next;
    struct mp_consumer_row *c = mp_meta_consumer_of(b->meta, id, NULL), *c_next;
    struct mp_command command = { .time_ns = mp_broker_wall_ns(b) };
    uint32_t n = 0;

    for (; p != NULL && n < most; p = p_next, n++) {
        p_next = mp_meta_producer_of(b->meta, id, p);
        command.kind = MP_COMMAND_PRODUCER_DROP;
        command.u.producer = *p;
        drop(b, &command);
    }
    for (; c != NULL && n < most; c = c_next, n++) {
        c_next = mp_meta_consumer_of(b->meta, id, c);
        command.kind = MP_COMMAND_CONSUMER_DROP;
        command.u.consumer = *c;
        drop(b, &command);
    }
    return n;
}

static void end_sweep(struct mp_broker *b)
{
    struct mp_idle *i = &b->idle;

    if (i->producers + i->consumers > 0)
        mp_logf(b->logger, MEMPHIS_LOG_INFO, "broker",
                "removed what had no connection for %u hours: producers=%u "
                "consumers=%u",
                (unsigned)(i->keep_ns / HOUR_NS), i->producers, i->consumers);
    i->producers = i->consumers = 0;
    i->swept_ns = b->now_ns;
    arm(b);
}

/* NOT_FOUND: a client was quicker with one of them. */
static void batch_done(void *ctx, memphis_status st, const char *text)
{
    struct mp_broker *b = ctx;

    (void)text;
    b->idle.batch = NULL;
    if (st == MEMPHIS_CLOSED)
        return;
    if ((st == MEMPHIS_OK || st == MEMPHIS_NOT_FOUND) && is_due(b, oldest(b)))
        mp_timer_set(&b->timers, &b->idle.timer, b->now_ns / MS + PAUSE_MS);
    else
        end_sweep(b); /* or a full disk: again with the next one */
}

/* Ids whose rows went in the batch before have none now and are forgotten. */
static void fire(struct mp_timer *t, uint64_t now_ms)
{
    struct mp_broker *b = mp_container_of(t, struct mp_broker, idle.timer);
    struct mp_list *l = b->idle.gone.next, *next;
    uint32_t left = BATCH_MAX, rows;

    (void)now_ms;
    mp_assert(b->idle.batch == NULL);
    if (!is_due(b, oldest(b))) {
        arm(b);
        return;
    }
    b->idle.batch = mp_operation_new(b, (struct mp_then){ batch_done, b });
    for (; left > 0 && l != &b->idle.gone; l = next) {
        struct connection *c = mp_container_of(l, struct connection, node);

        next = l->next;
        if (!is_due(b, c))
            break;
        rows = drop_rows(b, c->id, left);
        if (rows == 0)
            forget(b, c);
        left -= rows > 0 ? rows : 1;
    }
    mp_operation_done(b->idle.batch);
}

/* === Rows that come and go === */

static void row_added(struct mp_broker *b, const char *id)
{
    struct connection *c = make(b, id);

    if (c->count > 0)
        return;
    note_gone(b, c);
    arm(b);
}

static void row_dropped(struct mp_broker *b, const char *id)
{
    struct connection *c = find(b, id);

    if (c == NULL || c->count > 0 || has_rows(b, id))
        return;
    forget(b, c);
    arm(b);
}

/* Its connection came back while the command was on its way: the row comes again. */
static void restore(struct mp_broker *b, uint16_t kind, const void *row)
{
    struct mp_command c = { 0 };

    if (kind == MP_COMMAND_PRODUCER_DROP) {
        c.kind = MP_COMMAND_PRODUCER_ADD;
        c.u.producer = *(const struct mp_producer_row *)row;
        c.u.producer.id = mp_meta_next_row_id(b->meta);
        c.time_ns = c.u.producer.created_ns;
    } else {
        c.kind = MP_COMMAND_CONSUMER_ADD;
        c.u.consumer = *(const struct mp_consumer_row *)row;
        c.u.consumer.id = mp_meta_next_row_id(b->meta);
        c.time_ns = c.u.consumer.created_ns;
    }
    (void)mp_meta_propose(b->meta, &c, MP_STREAM_TAG);
}

static void row_swept(struct mp_broker *b, uint16_t kind, const char *id,
                      const void *row)
{
    if (mp_connection_is_up(b, id)) {
        restore(b, kind, row);
        return;
    }
    b->idle.producers += kind == MP_COMMAND_PRODUCER_DROP;
    b->idle.consumers += kind == MP_COMMAND_CONSUMER_DROP;
    b->counters.idle_removed++;
}

void mp_connections_applied(struct mp_broker *b, const struct mp_command *c,
                            memphis_status result, const void *row, uint64_t tag)
{
    const char *id;
    bool is_own = b->idle.batch != NULL && mp_operation_of(tag) == b->idle.batch;

    if (b->starting || result != MEMPHIS_OK)
        return;
    switch (c->kind) {
    case MP_COMMAND_PRODUCER_ADD:
    case MP_COMMAND_PRODUCER_DROP:
        id = c->u.producer.connection_id;
        break;
    case MP_COMMAND_CONSUMER_ADD:
    case MP_COMMAND_CONSUMER_DROP:
        id = c->u.consumer.connection_id;
        break;
    default:
        return;
    }
    if (c->kind == MP_COMMAND_PRODUCER_ADD || c->kind == MP_COMMAND_CONSUMER_ADD)
        row_added(b, id);
    else if (is_own)
        row_swept(b, c->kind, id, row);
    else
        row_dropped(b, id);
}

/* === Start and end === */

void mp_connections_init(struct mp_broker *b)
{
    uint64_t seed[2];

    b->env->random(b->env, seed, sizeof(seed));
    mp_map_seed(&b->connections, seed[0], seed[1]);
    mp_list_init(&b->idle.gone);
    b->idle.timer.fire = fire;
}

memphis_status mp_connections_keep(struct mp_broker *b, uint32_t hours,
                                   memphis_error *err)
{
    hours = hours > 0 ? hours : MP_IDLE_RETENTION_DEFAULT_H;
    if (hours > MP_IDLE_RETENTION_MAX_H)
        return mp_fail(err, MEMPHIS_INVALID,
                       "producers and consumers without a connection are kept for 1 to "
                       "%d hours",
                       MP_IDLE_RETENTION_MAX_H);
    b->idle.keep_ns = hours * HOUR_NS;
    arm(b);
    return MEMPHIS_OK;
}

void mp_connections_started(struct mp_broker *b)
{
    const char *id;

    for (uint32_t at = 0; (id = mp_meta_connection_next(b->meta, &at)) != NULL;)
        note_gone(b, make(b, id));
    arm(b);
}

void mp_connections_free(struct mp_broker *b)
{
    struct connection *c;

    for (uint32_t i = 0; (c = mp_map_next(&b->connections, &i)) != NULL;)
        connection_free(c);
    mp_map_fini(&b->connections);
}
