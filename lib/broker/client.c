#include "broker/client.h"

#include "base/assert.h"
#include "base/limits.h"
#include "base/status.h"
#include "base/str.h"
#include "broker/connection.h"

static const uint64_t MS = 1000000;

static char *borrow(const char *s)
{
    return (char *)(uintptr_t)(s != NULL ? s : "");
}

static bool same(const char *a, const char *b)
{
    return strcmp(a, b != NULL ? b : "") == 0;
}

/* === Producers === */

static void propose(struct mp_broker *b, const struct mp_command *c,
                    struct mp_operation *op)
{
    memphis_status st = mp_meta_propose(b->meta, c, mp_operation_tag(op));

    if (st == MEMPHIS_OK)
        return;
    mp_operation_fail(op, st, "the metadata could not be written");
    mp_operation_done(op);
}

/* Its subjects are its own, and an SDK knows none of them. */
static bool is_refused(const struct mp_station *s, struct mp_then then)
{
    if (s->settings.native || s->settings.stream[0] == 0)
        return false;
    then.fn(then.ctx, MEMPHIS_UNSUPPORTED,
            "the station is a stream of a NATS client; it is used with NATS clients");
    return true;
}

void mp_producer_add(struct mp_station *s, const struct mp_producer_request *r,
                     struct mp_then then)
{
    struct mp_broker *b = s->broker;
    if (is_refused(s, then))
        return;
    struct mp_operation *op = mp_operation_new(b, then);
    struct mp_command c = { .kind = MP_COMMAND_PRODUCER_ADD,
                            .time_ns = mp_broker_wall_ns(b) };

    c.u.producer = (struct mp_producer_row){
        .id = mp_meta_next_row_id(b->meta),
        .name = borrow(r->name),
        .station_id = s->id,
        .connection_id = borrow(r->connection_id),
        .app_id = borrow(r->app_id),
        .sdk = borrow(r->sdk),
        .user = borrow(r->user),
        .type = r->type,
        .version = r->version,
        .created_ns = c.time_ns,
    };
    propose(b, &c, op);
    mp_operation_done(op);
}

void mp_producer_drop(struct mp_station *s, const char *name, const char *connection_id,
                      struct mp_then then)
{
    struct mp_broker *b = s->broker;
    struct mp_operation *op = mp_operation_new(b, then);
    struct mp_command c = { .kind = MP_COMMAND_PRODUCER_DROP,
                            .time_ns = mp_broker_wall_ns(b) };

    c.u.producer.name = borrow(name);
    c.u.producer.station_id = s->id;
    c.u.producer.connection_id = borrow(connection_id);
    propose(b, &c, op);
    mp_operation_done(op);
}

/* === Consumer groups === */

void mp_durable_name(const char *group, char *out)
{
    size_t size = mp_format(out, MP_NAME_MAX + 1, "%s", group);

    mp_fold_lower(out, size);
    mp_name_internal(out, size);
}

/* Entries for all partitions of a station, to be appended together. */
struct group_batch {
    struct mp_buf payload;
    struct {
        uint32_t pid;
        size_t end;
    } * items;
    size_t count;
};

static void batch_add(struct group_batch *g, const struct mp_stream *s)
{
    g->items[g->count].pid = s->pid;
    g->items[g->count].end = g->payload.size;
    g->count++;
}

static void batch_append(struct mp_broker *b, struct mp_log *log, struct group_batch *g,
                         struct mp_operation *op)
{
    struct mp_entry *entries = NULL;
    size_t from = 0;
    memphis_status st = MEMPHIS_OK;

    if (g->count > 0) {
        entries = mp_realloc(NULL, g->count * sizeof(*entries));
        for (size_t i = 0; i < g->count; from = g->items[i++].end)
            entries[i] = (struct mp_entry){
                .type = MP_ENTRY_GROUP,
                .pid = g->items[i].pid,
                .time_ns = b->now_ns,
                .payload = mp_slice(g->payload.data + from, g->items[i].end - from),
            };
        st = mp_log_append(log, entries, g->count, mp_operation_tag(op));
    }
    if (st != MEMPHIS_OK) {
        mp_operation_fail(op, st, "the consumer group could not be written");
        mp_operation_done(op);
    }
    mp_free(entries);
    mp_free(g->items);
    mp_buf_fini(&g->payload);
}

static void start_policy(const struct mp_consumer_request *r, uint32_t *policy,
                         uint64_t *n)
{
    *n = r->start_sequence;
    if (r->last_messages == 0 && r->start_sequence <= 1) {
        *policy = MP_START_NEW;
    } else if (r->last_messages > 0) {
        *policy = MP_START_LAST;
        *n = (uint64_t)r->last_messages;
    } else {
        *policy = r->start_sequence > 1 ? MP_START_SEQUENCE : MP_START_ALL;
    }
}

static void make_or_update(struct mp_stream *s, const struct mp_consumer_request *r,
                           const char *durable, struct group_batch *batch)
{
    struct mp_stream_group *g = mp_stream_group(s, mp_slice_text(durable));
    struct mp_group_config config = { .ack_wait_ns = r->ack_wait_ms * MS,
                                      .deliveries_max = r->deliveries_max,
                                      .pending_max = MP_PENDING_MAX };
    struct mp_stream_group_config c = { .name = durable, .group = config };
    uint64_t n;

    if (g == NULL || g->leaving) {
        start_policy(r, &c.policy, &n);
        c.start = mp_stream_start_of(s, c.policy, n);
        c.asked_start = c.policy == MP_START_LAST ? c.start : n;
        mp_stream_group_create_encode(s, &c, &batch->payload);
        batch_add(batch, s);
    } else if (g->group.config.ack_wait_ns != config.ack_wait_ns ||
               g->group.config.deliveries_max != config.deliveries_max) {
        /* The start position stays: an SDK cannot know the group's history. */
        mp_stream_group_update_encode(g, &config, NULL, &batch->payload);
        batch_add(batch, s);
    }
}

/* A plain NATS client can have made groups on some of the partitions only. */
static bool has_place(struct mp_station *s, const char *durable)
{
    for (uint32_t i = 1; i <= s->settings.partitions; i++) {
        struct mp_stream *stream = mp_station_stream(s, i);

        if (stream->groups.count >= MP_GROUPS_MAX &&
            mp_stream_group(stream, mp_slice_text(durable)) == NULL)
            return false;
    }
    return true;
}

static void append_groups(struct mp_station *s, const struct mp_consumer_request *r,
                          struct mp_operation *op)
{
    char durable[MP_NAME_MAX + 1];
    struct group_batch batch = { 0 };

    mp_durable_name(r->group, durable);
    if (!has_place(s, durable)) {
        mp_operation_fail(op, MEMPHIS_FULL,
                          "the station has as many consumer groups as it can have");
        return;
    }
    batch.items = mp_realloc(NULL, s->settings.partitions * sizeof(*batch.items));
    for (uint32_t i = 1; i <= s->settings.partitions; i++)
        make_or_update(mp_station_stream(s, i), r, durable, &batch);
    batch_append(s->broker, mp_station_stream(s, 1)->log, &batch, op);
}

void mp_consumer_add(struct mp_station *s, const struct mp_consumer_request *r,
                     struct mp_then then)
{
    struct mp_broker *b = s->broker;
    if (is_refused(s, then))
        return;
    struct mp_operation *op = mp_operation_new(b, then);
    struct mp_command c = { .kind = MP_COMMAND_CONSUMER_ADD,
                            .time_ns = mp_broker_wall_ns(b) };

    mp_assert(mp_station_is_ready(s));
    c.u.consumer = (struct mp_consumer_row){
        .id = mp_meta_next_row_id(b->meta),
        .name = borrow(r->name),
        .group = borrow(r->group),
        .station_id = s->id,
        .connection_id = borrow(r->connection_id),
        .app_id = borrow(r->app_id),
        .sdk = borrow(r->sdk),
        .user = borrow(r->user),
        .type = r->type,
        .version = r->version,
        .ack_wait_ms = r->ack_wait_ms,
        .deliveries_max = r->deliveries_max,
        .start_sequence = r->start_sequence,
        .last_messages = r->last_messages,
        .created_ns = c.time_ns,
    };
    append_groups(s, r, op);
    propose(b, &c, op);
    mp_operation_done(op);
}

static struct mp_consumer_row *consumer_find(struct mp_station *s, const char *name,
                                             const char *connection_id)
{
    struct mp_consumer_row *row = NULL;

    connection_id = borrow(connection_id);
    while ((row = mp_meta_consumer_of(s->broker->meta, connection_id, row)) != NULL)
        if (row->station_id == s->id && same(row->name, name))
            return row;
    return NULL;
}

/* Whether the group has a member, other than `but`, whose connection lives. */
static bool has_active_member(struct mp_station *s, const struct mp_consumer_row *but)
{
    struct mp_consumer_row *row = NULL;

    while ((row = mp_meta_consumer_next(s->broker->meta, s->id, row)) != NULL)
        if (row != but && same(row->group, but->group) &&
            mp_connection_is_up(s->broker, row->connection_id))
            return true;
    return false;
}

static void remove_group(struct mp_station *s, const char *group,
                         struct mp_operation *op)
{
    char durable[MP_NAME_MAX + 1];
    struct group_batch batch = { 0 };

    mp_durable_name(group, durable);
    batch.items = mp_realloc(NULL, s->settings.partitions * sizeof(*batch.items));
    for (uint32_t i = 1; i <= s->settings.partitions; i++) {
        struct mp_stream *stream = mp_station_stream(s, i);
        struct mp_stream_group *g = mp_stream_group(stream, mp_slice_text(durable));

        if (g == NULL)
            continue;
        mp_stream_group_delete_encode(g, &batch.payload);
        batch_add(&batch, stream);
    }
    batch_append(s->broker, mp_station_stream(s, 1)->log, &batch, op);
}

static void propose_drop(struct mp_station *s, const char *name,
                         const char *connection_id, struct mp_operation *op)
{
    struct mp_command c = { .kind = MP_COMMAND_CONSUMER_DROP,
                            .time_ns = mp_broker_wall_ns(s->broker) };

    c.u.consumer.name = borrow(name);
    c.u.consumer.group = borrow("");
    c.u.consumer.station_id = s->id;
    c.u.consumer.connection_id = borrow(connection_id);
    propose(s->broker, &c, op);
    mp_operation_done(op);
}

void mp_consumer_drop(struct mp_station *s, const char *name, const char *connection_id,
                      struct mp_then then)
{
    struct mp_operation *op = mp_operation_new(s->broker, then);
    struct mp_consumer_row *row = consumer_find(s, name, connection_id);

    if (row != NULL && mp_station_is_ready(s) && !has_active_member(s, row))
        remove_group(s, row->group, op);
    propose_drop(s, name, connection_id, op);
}

void mp_consumer_forget(struct mp_station *s, const char *name,
                        const char *connection_id, struct mp_then then)
{
    propose_drop(s, name, connection_id, mp_operation_new(s->broker, then));
}
