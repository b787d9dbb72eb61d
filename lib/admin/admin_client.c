/* Verbs about the producers and consumers of a station: rows that SDKs made, and
 * whether their connection is there now. */
#include "admin/admin_internal.h"
#include "base/enc.h"
#include "base/status.h"
#include "broker/connection.h"
#include "broker/station.h"

static const char *const types[] = { [MP_CLIENT_APPLICATION] = "application",
                                     [MP_CLIENT_CONNECTOR] = "connector" };

/* What the rows of both kinds have. */
struct client {
    uint64_t id, created_ns;
    const char *name, *connection_id, *app_id, *sdk, *user;
    uint32_t type;
};

static void put_client(struct mp_json_writer *w, const struct mp_broker *b,
                       const struct client *c)
{
    char time[MP_TIME_TEXT_SIZE + 1];

    mp_time_text(c->created_ns, time);
    mp_json_put_uint(w, "id", c->id);
    mp_json_put_str(w, "name", c->name);
    mp_json_put_str(w, "type", types[c->type]);
    mp_json_put_str(w, "connection_id", c->connection_id);
    mp_json_put_str(w, "app_id", c->app_id);
    mp_json_put_str(w, "sdk", c->sdk);
    mp_json_put_str(w, "username", c->user);
    mp_json_put_bool(w, "is_active", mp_connection_is_up(b, c->connection_id));
    mp_json_put_text(w, "created_at", mp_slice(time, MP_TIME_TEXT_SIZE));
}

/* The station, the first id of the page and how many; NULL: it was refused. Ids grow,
 * so that a row which has gone meanwhile hurts no page. */
static struct mp_station *take(struct mp_admin_call *c, uint64_t *after,
                               uint32_t *limit)
{
    struct mp_station *s = mp_admin_station(c, MP_MAY_READ | MP_MAY_WRITE, "access");
    int64_t id = 0;
    memphis_error err;

    if (s == NULL)
        return NULL;
    memphis_status st = mp_admin_limit(c, limit, &err);
    if (st == MEMPHIS_OK)
        st = mp_json_get_int(c->args, "after", &id, &err);
    if (st == MEMPHIS_OK && id < 0)
        st = mp_fail(&err, MEMPHIS_INVALID, "after is the id of a row");
    *after = (uint64_t)id;
    if (st == MEMPHIS_OK)
        return s;
    mp_admin_fail(c, st, err.message);
    return NULL;
}

static void finish(struct mp_admin_call *c, struct mp_json_writer *w, bool has_more,
                   uint64_t last)
{
    mp_json_array_end(w);
    if (has_more)
        mp_json_put_uint(w, "next", last);
    else
        mp_json_put_null(w, "next");
    mp_json_object_end(w);
    mp_admin_finish(c, mp_buf_slice(w->out));
    mp_buf_fini(w->out);
}

void mp_admin_producer_list(struct mp_admin_call *c)
{
    struct mp_meta *m = c->broker->meta;
    struct mp_buf out = { 0 };
    struct mp_json_writer w = { .out = &out };
    struct mp_producer_row *p = NULL;
    uint64_t after, last = 0;
    uint32_t limit;
    struct mp_station *s = take(c, &after, &limit);

    if (s == NULL)
        return;
    mp_json_object(&w, NULL);
    mp_json_array(&w, "producers");
    while ((p = mp_meta_producer_next(m, s->id, p)) != NULL) {
        if (p->id <= after)
            continue;
        if (limit-- == 0)
            break;
        mp_json_object(&w, NULL);
        put_client(&w, c->broker,
                   &(struct client){ p->id, p->created_ns, p->name, p->connection_id,
                                     p->app_id, p->sdk, p->user, p->type });
        mp_json_object_end(&w);
        last = p->id;
    }
    finish(c, &w, p != NULL, last);
}

void mp_admin_consumer_list(struct mp_admin_call *c)
{
    struct mp_meta *m = c->broker->meta;
    struct mp_buf out = { 0 };
    struct mp_json_writer w = { .out = &out };
    struct mp_consumer_row *r = NULL;
    uint64_t after, last = 0;
    uint32_t limit;
    struct mp_station *s = take(c, &after, &limit);

    if (s == NULL)
        return;
    mp_json_object(&w, NULL);
    mp_json_array(&w, "consumers");
    while ((r = mp_meta_consumer_next(m, s->id, r)) != NULL) {
        if (r->id <= after)
            continue;
        if (limit-- == 0)
            break;
        mp_json_object(&w, NULL);
        put_client(&w, c->broker,
                   &(struct client){ r->id, r->created_ns, r->name, r->connection_id,
                                     r->app_id, r->sdk, r->user, r->type });
        mp_json_put_str(&w, "consumers_group", r->group);
        mp_json_put_uint(&w, "max_ack_time_ms", r->ack_wait_ms);
        mp_json_put_uint(&w, "max_msg_deliveries", r->deliveries_max);
        mp_json_put_uint(&w, "start_consume_from_sequence", r->start_sequence);
        mp_json_put_int(&w, "last_messages", r->last_messages);
        mp_json_object_end(&w);
        last = r->id;
    }
    finish(c, &w, r != NULL, last);
}
