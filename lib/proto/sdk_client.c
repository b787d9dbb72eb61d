/* Requests about producers and consumers (sdk-protocol 2.3 to 2.6). */
#include "base/json.h"
#include "base/status.h"
#include "broker/client.h"
#include "proto/sdk_internal.h"
#include "proto/sdk_text.h"

enum { VERSION_NEWEST = 4 };    /* of a request; later ones are read like it */

/* Longest ack wait that fits in signed 64-bit nanoseconds. */
static const int64_t MILLISECONDS_MAX = INT64_MAX / 1000000;

static const struct mp_sdk_choice client_types[] = {
    { "application", MP_CLIENT_APPLICATION },
    { "connector", MP_CLIENT_CONNECTOR },
    { NULL, 0 },
};

/* === Replies === */

/* Python and JS index into it: all keys are there, empty without a schema. */
static void put_schema_update(struct mp_json_writer *w)
{
    mp_json_object(w, "schema_update");
    mp_json_put_str(w, "schema_name", "");
    mp_json_object(w, "active_version");
    mp_json_put_int(w, "version_number", 0);
    mp_json_put_str(w, "descriptor", "");
    mp_json_put_str(w, "schema_content", "");
    mp_json_put_str(w, "message_struct_name", "");
    mp_json_object_end(w);
    mp_json_put_str(w, "type", "");
    mp_json_object_end(w);
}

static void put_partitions(struct mp_json_writer *w, uint32_t count)
{
    mp_json_object(w, "partitions_update");
    mp_json_array(w, "partitions_list");
    for (uint32_t i = 1; i <= count; i++)
        mp_json_put_uint(w, NULL, i);
    mp_json_array_end(w);
    mp_json_object_end(w);
}

/* `s` NULL: refused, everything else is empty. */
static void put_producer(struct mp_buf *out, const struct mp_station *s,
                         const char *error)
{
    struct mp_json_writer w = { .out = out };

    mp_json_object(&w, NULL);
    put_schema_update(&w);
    put_partitions(&w, s != NULL ? s->settings.partitions : 0);
    mp_json_put_bool(&w, "schemaverse_to_dls", s != NULL && s->settings.dls_schema);
    mp_json_put_bool(&w, "send_notification", false);
    mp_json_put_int(&w, "station_version", s != NULL ? 2 : 0);
    /* JS calls Object.keys on it, Python len(): an object, never null. */
    mp_json_object(&w, "station_partitions_first_functions");
    mp_json_object_end(&w);
    mp_json_put_str(&w, "error", error);
    mp_json_object_end(&w);
}

void mp_sdk_put_producer_error(struct mp_buf *out, const char *text)
{
    put_producer(out, NULL, text);
}

static void put_consumer(struct mp_buf *out, const struct mp_station *s, bool is_java)
{
    struct mp_json_writer w = { .out = out };

    mp_json_object(&w, NULL);
    put_schema_update(&w);
    put_partitions(&w, s->settings.partitions);
    if (!is_java) /* Java takes "" as a failure, Python and JS want it there */
        mp_json_put_str(&w, "error", "");
    mp_json_object_end(&w);
}

/* === Who asks === */

/* The body's connection id, else the connection's own. Java appends "::<user>". */
static memphis_status take_connection(const struct mp_sdk_call *c,
                                      struct mp_sdk_request *r, memphis_error *err)
{
    const char *id = c->body.connection_id;
    memphis_status st;
    char *end;

    if (id[0] == 0 && c->from != NULL && c->from->connection_id != NULL)
        id = c->from->connection_id;
    st = mp_sdk_take_text(id, "connection_id", r->connection_id, err);
    if (st == MEMPHIS_OK && (end = strstr(r->connection_id, "::")) != NULL)
        *end = 0;
    return st;
}

/* Requests below version 4 do not say which SDK: CONNECT does. */
static const char *sdk_of(const struct mp_sdk_call *c)
{
    const char *lang = c->from != NULL && c->from->lang != NULL ? c->from->lang : "";

    if (c->body.req_version >= VERSION_NEWEST && c->body.sdk_lang[0] != 0)
        return c->body.sdk_lang;
    if (strcmp(lang, MP_TEXT_LANG_JS) == 0)
        return "node.js";
    return strcmp(lang, "python3") == 0 ? "python" : lang;
}

static memphis_status take_identity(const struct mp_sdk_call *c,
                                    struct mp_sdk_request *r, memphis_error *err)
{
    memphis_status st = take_connection(c, r, err);

    r->version = (uint32_t)mp_sdk_clamp(c->body.req_version, 0, VERSION_NEWEST);
    if (st == MEMPHIS_OK)
        st = mp_sdk_take_text(r->version >= VERSION_NEWEST ? c->body.app_id
                                                           : r->connection_id,
                              "app_id", r->app_id, err);
    if (st == MEMPHIS_OK)
        st = mp_sdk_take_text(sdk_of(c), "sdk_lang", r->sdk, err);
    return st;
}

/* === Producers === */

/* The station, when a request may go on with it; else the request is refused. */
static struct mp_station *station_of(struct mp_sdk_request *r, memphis_status st,
                                     const char *text)
{
    struct mp_station *s = mp_station_find(r->broker, mp_slice_text(r->station));

    if (st != MEMPHIS_OK && st != MEMPHIS_EXISTS) {
        mp_sdk_refuse_status(r, st, text);
        return NULL;
    }
    if (s == NULL || !mp_station_is_ready(s)) { /* removed in the same breath */
        mp_sdk_refuse_gone(r);
        return NULL;
    }
    return s;
}

static void producer_added(void *ctx, memphis_status st, const char *text)
{
    struct mp_sdk_request *r = ctx;
    struct mp_station *s = station_of(r, st, text);
    struct mp_buf b = { 0 };

    if (s == NULL)
        return;
    put_producer(&b, s, "");
    mp_sdk_finish(r, mp_buf_slice(&b));
    mp_buf_fini(&b);
}

static void producer_station_ready(void *ctx, memphis_status st, const char *text)
{
    struct mp_sdk_request *r = ctx;
    struct mp_station *s = station_of(r, st, text);
    struct mp_then then = { producer_added, r };
    struct mp_producer_request p = {
        .name = r->name, .connection_id = r->connection_id, .app_id = r->app_id,
        .sdk = r->sdk, .user = r->user, .type = r->type, .version = r->version,
    };

    if (s != NULL)
        mp_producer_add(s, &p, then);
}

/* Stations have partitions: what came before request version 2 cannot use them. */
static memphis_status check_version(const struct mp_sdk_request *r,
                                    const char *no_station, const char *upgrade,
                                    memphis_error *err)
{
    if (r->version >= 2)
        return MEMPHIS_OK;
    if (mp_station_find(r->broker, mp_slice_text(r->station)) == NULL)
        return mp_fail(err, MEMPHIS_NOT_FOUND, "%s", no_station);
    return mp_fail(err, MEMPHIS_UNSUPPORTED, "%s", upgrade);
}

static memphis_status read_producer(const struct mp_sdk_call *c,
                                    struct mp_sdk_request *r, memphis_error *err)
{
    /* .NET sends the internal form here, and only here. */
    memphis_status st =
        mp_sdk_take_name(c->body.station_name, "Station", true, r->station, err);

    if (st == MEMPHIS_OK)
        st = mp_sdk_take_name(c->body.name, "Producer", false, r->name, err);
    if (st == MEMPHIS_OK && !mp_sdk_choose(client_types, c->body.type, &r->type))
        st = mp_fail(err, MEMPHIS_INVALID, MP_TEXT_PRODUCER_TYPE);
    if (st == MEMPHIS_OK)
        st = take_identity(c, r, err);
    if (st == MEMPHIS_OK)
        st = mp_sdk_may(c, MP_MAY_WRITE, "access", r->station, err);
    if (st == MEMPHIS_OK)
        st = check_version(r, MP_TEXT_PRODUCER_NO_STATION, MP_TEXT_PRODUCER_UPGRADE,
                           err);
    if (r->user[0] == '$' && strcmp(r->name, "gui") != 0)
        r->type = MP_CLIENT_CONNECTOR; /* connectors log in with such names */
    return st;
}

void mp_sdk_create_producer(const struct mp_sdk_call *c, struct mp_sdk_request *r)
{
    struct mp_then then = { producer_station_ready, r };
    memphis_error err;

    if (read_producer(c, r, &err) != MEMPHIS_OK)
        mp_sdk_refuse(r, err.message);
    else
        mp_station_ensure(c->broker, r->station, true, r->user, then);
}

/* A retried destruction finds nothing: it is done all the same. */
static void member_gone(void *ctx, memphis_status st, const char *text)
{
    struct mp_sdk_request *r = ctx;

    if (st == MEMPHIS_OK || st == MEMPHIS_NOT_FOUND)
        mp_sdk_finish_empty(r);
    else
        mp_sdk_refuse_status(r, st, text);
}

typedef void (*drop_fn)(struct mp_station *s, const char *name,
                        const char *connection_id, struct mp_then then);

static void destroy_member(const struct mp_sdk_call *c, struct mp_sdk_request *r,
                           const char *object, uint32_t needs, drop_fn drop)
{
    struct mp_then then = { member_gone, r };
    struct mp_station *s;
    memphis_error err;
    memphis_status st =
        mp_sdk_take_name(c->body.station_name, "Station", true, r->station, &err);

    if (st == MEMPHIS_OK)
        st = mp_sdk_take_name(c->body.name, object, false, r->name, &err);
    if (st == MEMPHIS_OK)
        st = take_connection(c, r, &err);
    if (st == MEMPHIS_OK)
        st = mp_sdk_may(c, needs, "access", r->station, &err);
    if (st != MEMPHIS_OK)
        mp_sdk_refuse(r, err.message);
    else if ((s = mp_station_find(c->broker, mp_slice_text(r->station))) == NULL)
        mp_sdk_finish_empty(r);
    else
        drop(s, r->name, r->connection_id, then);
}

void mp_sdk_destroy_producer(const struct mp_sdk_call *c, struct mp_sdk_request *r)
{
    destroy_member(c, r, "Producer", MP_MAY_WRITE, mp_producer_drop);
}

/* === Consumers === */

static memphis_status read_start(const struct mp_sdk_body *b, struct mp_sdk_request *r,
                                 memphis_error *err)
{
    if (b->start_sequence <= 0)
        return mp_fail(err, MEMPHIS_INVALID, MP_TEXT_START_SEQUENCE);
    if (b->last_messages < -1)
        return mp_fail(err, MEMPHIS_INVALID, MP_TEXT_LAST_MESSAGES);
    if (b->start_sequence > 1 && b->last_messages > -1)
        return mp_fail(err, MEMPHIS_INVALID, MP_TEXT_START_AND_LAST);
    r->start_sequence = (uint64_t)b->start_sequence;
    r->last_messages = b->last_messages;
    return MEMPHIS_OK;
}

static memphis_status refuse_type(const char *type, memphis_error *err)
{
    char folded[MP_SDK_TEXT_MAX + 1];
    size_t size = strlen(type) < MP_SDK_TEXT_MAX ? strlen(type) : MP_SDK_TEXT_MAX;

    memcpy(folded, type, size);
    folded[size] = 0;
    mp_fold_lower(folded, size);
    return mp_fail(err, MEMPHIS_INVALID, MP_TEXT_CONSUMER_TYPE, folded);
}

static memphis_status read_consumer(const struct mp_sdk_call *c,
                                    struct mp_sdk_request *r, memphis_error *err)
{
    const struct mp_sdk_body *b = &c->body;
    memphis_status st = read_start(b, r, err);

    if (st == MEMPHIS_OK)
        st = mp_sdk_take_name(b->station_name, "Station", false, r->station, err);
    if (st == MEMPHIS_OK)
        st = mp_sdk_take_name(b->name, "Consumer", false, r->name, err);
    if (st == MEMPHIS_OK) /* Python sends no group when the user gave none */
        st = mp_sdk_take_name(b->group[0] != 0 ? b->group : b->name, "Consumer", false,
                              r->group, err);
    if (st == MEMPHIS_OK && !mp_sdk_choose(client_types, b->type, &r->type))
        st = refuse_type(b->type, err);
    if (st == MEMPHIS_OK)
        st = take_identity(c, r, err);
    if (st == MEMPHIS_OK)
        st = mp_sdk_may(c, MP_MAY_READ, "access", r->station, err);
    const struct mp_station *s = mp_station_find(c->broker, mp_slice_text(r->station));
    if (st == MEMPHIS_OK && (s == NULL || s->dropping))
        st = mp_sdk_may(c, MP_MAY_WRITE, "create", r->station, err);
    if (st == MEMPHIS_OK)
        st = check_version(r, MP_TEXT_CONSUMER_NO_STATION, MP_TEXT_CONSUMER_UPGRADE,
                           err);
    r->ack_wait_ms = MP_ACK_WAIT_DEFAULT_MS;
    if (b->ack_wait_ms > 0)
        r->ack_wait_ms = (uint64_t)mp_sdk_clamp(b->ack_wait_ms, 1, MILLISECONDS_MAX);
    r->deliveries_max = b->deliveries_max > 0 && b->deliveries_max <= MP_DELIVERIES_MAX
                            ? (uint32_t)b->deliveries_max
                            : MP_DELIVERIES_MAX;
    return st;
}

static void consumer_added(void *ctx, memphis_status st, const char *text)
{
    struct mp_sdk_request *r = ctx;
    struct mp_station *s = station_of(r, st, text);
    struct mp_buf b = { 0 };

    if (s == NULL)
        return;
    put_consumer(&b, s, r->is_java);
    mp_sdk_finish(r, mp_buf_slice(&b));
    mp_buf_fini(&b);
}

static void consumer_station_ready(void *ctx, memphis_status st, const char *text)
{
    struct mp_sdk_request *r = ctx;
    struct mp_station *s = station_of(r, st, text);
    struct mp_then then = { consumer_added, r };
    struct mp_consumer_request q = {
        .name = r->name, .group = r->group, .connection_id = r->connection_id,
        .app_id = r->app_id, .sdk = r->sdk, .user = r->user, .type = r->type,
        .version = r->version, .ack_wait_ms = r->ack_wait_ms,
        .deliveries_max = r->deliveries_max, .start_sequence = r->start_sequence,
        .last_messages = r->last_messages,
    };

    if (s != NULL)
        mp_consumer_add(s, &q, then);
}

void mp_sdk_create_consumer(const struct mp_sdk_call *c, struct mp_sdk_request *r)
{
    struct mp_then then = { consumer_station_ready, r };
    memphis_error err;

    if (read_consumer(c, r, &err) != MEMPHIS_OK)
        mp_sdk_refuse(r, err.message);
    else
        mp_station_ensure(c->broker, r->station, true, r->user, then);
}

void mp_sdk_destroy_consumer(const struct mp_sdk_call *c, struct mp_sdk_request *r)
{
    destroy_member(c, r, "Consumer", MP_MAY_READ, mp_consumer_drop);
}
