/* Requests about stations (sdk-protocol 2.1, 2.2). */
#include "base/json.h"
#include "base/status.h"
#include "proto/sdk.h"
#include "proto/sdk_internal.h"
#include "proto/sdk_text.h"

/* Longest retention that fits in signed 64-bit nanoseconds. */
static const int64_t SECONDS_MAX = INT64_MAX / 1000000000;

static const struct mp_sdk_choice retention_types[] = {
    { "message_age_sec", MP_RETAIN_AGE },
    { "messages", MP_RETAIN_MESSAGES },
    { "bytes", MP_RETAIN_BYTES },
    { "ack_based", MP_RETAIN_ACKED },
    { NULL, 0 },
};

static const struct mp_sdk_choice storage_types[] = {
    { "file", MP_STORAGE_FILE },
    { "memory", MP_STORAGE_MEMORY },
    { NULL, 0 },
};

/* === Settings === */

static memphis_status take_retention(const struct mp_sdk_body *b,
                                     struct mp_station_settings *s, memphis_error *err)
{
    int64_t max = INT64_MAX;

    if (b->retention_type[0] == 0)
        return MEMPHIS_OK; /* the default with its own value, whatever was sent */
    if (!mp_sdk_choose(retention_types, b->retention_type, &s->retention))
        return mp_fail(err, MEMPHIS_INVALID, MP_TEXT_RETENTION_TYPE);
    if (s->retention == MP_RETAIN_AGE)
        max = SECONDS_MAX;
    s->retention_value = (uint64_t)mp_sdk_clamp(b->retention_value, 0, max);
    return MEMPHIS_OK;
}

/* Clusters have 1, 3 or 5 replicas of a station. */
static uint32_t replicas_of(int64_t asked)
{
    if (asked <= 1)
        return 1;
    return asked <= 3 ? 3 : asked == 4 ? 3 : 5;
}

static memphis_status no_schema(const char *name, memphis_error *err)
{
    char folded[MP_NAME_MAX + 1];
    size_t size = strlen(name) < MP_NAME_MAX ? strlen(name) : MP_NAME_MAX;

    memcpy(folded, name, size);
    folded[size] = 0;
    mp_fold_lower(folded, size);
    return mp_fail(err, MEMPHIS_NOT_FOUND, MP_TEXT_SCHEMA_GONE, folded);
}

/* In the order in which a wrong request hears of its faults. */
static memphis_status take_settings(const struct mp_sdk_body *b,
                                    struct mp_sdk_request *r, memphis_error *err)
{
    struct mp_station_settings *s = &r->settings;
    memphis_status st;

    mp_station_settings_default(s);
    if (b->partitions == 0)
        return mp_fail(err, MEMPHIS_INVALID, MP_TEXT_OLD_SDK);
    s->partitions = (uint32_t)mp_sdk_clamp(b->partitions, INT32_MIN, INT32_MAX);
    if (s->partitions > MP_PARTITIONS_MAX)
        return mp_station_settings_check(s, r->name, err); /* says it */
    if (b->schema_name[0] != 0)
        return no_schema(b->schema_name, err);
    st = take_retention(b, s, err);
    if (st != MEMPHIS_OK)
        return st;
    if (b->storage_type[0] != 0 &&
        !mp_sdk_choose(storage_types, b->storage_type, &s->storage))
        return mp_fail(err, MEMPHIS_INVALID, MP_TEXT_STORAGE_TYPE);
    s->replicas = replicas_of(b->replicas);
    s->idempotency_ms = b->window_ms > 0 ? (uint64_t)b->window_ms : 0;
    s->dls_poison = b->dls_poison;
    s->dls_schema = b->dls_schema;
    s->tiered = b->tiered;
    st = mp_station_settings_check(s, r->name, err);
    if (st != MEMPHIS_OK || b->dls_station[0] == 0)
        return st;
    s->dls_station = r->dls_station;
    return mp_sdk_take_name(b->dls_station, "Station", false, r->dls_station, err);
}

/* === Creation === */

static void station_made(void *ctx, memphis_status st, const char *text)
{
    struct mp_sdk_request *r = ctx;

    /* Two clients create one station all the time: no error for anybody. */
    if (st == MEMPHIS_OK || st == MEMPHIS_EXISTS)
        mp_sdk_finish_empty(r);
    else
        mp_sdk_refuse_status(r, st, text);
}

static void dls_station_ready(void *ctx, memphis_status st, const char *text)
{
    struct mp_sdk_request *r = ctx;
    struct mp_then then = { station_made, r };

    if (st != MEMPHIS_OK && st != MEMPHIS_EXISTS)
        mp_sdk_refuse_status(r, st, text);
    else
        mp_station_create(r->broker, r->name, &r->settings, r->user, then);
}

/* It stays as it is; that somebody wanted it otherwise is worth a line. */
static void keep_station(const struct mp_sdk_call *c, struct mp_sdk_request *r,
                         struct mp_station *s)
{
    const struct mp_station_settings *now = &s->settings, *asked = &r->settings;
    struct mp_then then = { station_made, r };

    if (take_settings(&c->body, r, NULL) == MEMPHIS_OK &&
        (now->partitions != asked->partitions || now->retention != asked->retention ||
         now->retention_value != asked->retention_value ||
         now->storage != asked->storage))
        mp_logf(r->broker->logger, MEMPHIS_LOG_INFO, "sdk",
                "a station was asked for with other settings than it has and stays as "
                "it is station=%s user=%s",
                s->name, r->user);
    mp_station_ensure(r->broker, r->name, false, r->user, then);
}

void mp_sdk_create_station(const struct mp_sdk_call *c, struct mp_sdk_request *r)
{
    memphis_error err;
    memphis_status st = mp_sdk_take_name(c->body.name, "Station", false, r->name, &err);
    struct mp_then ready = { dls_station_ready, r };
    struct mp_station *s;

    s = st == MEMPHIS_OK ? mp_station_find(c->broker, mp_slice_text(r->name)) : NULL;
    if (s != NULL && !s->dropping) {
        keep_station(c, r, s);
        return;
    }
    if (st == MEMPHIS_OK)
        st = mp_sdk_may(c, MP_MAY_WRITE, "create", r->name, &err);
    if (st == MEMPHIS_OK)
        st = take_settings(&c->body, r, &err);
    if (st == MEMPHIS_OK && r->dls_station[0] != 0)
        st = mp_sdk_may(c, MP_MAY_WRITE, "access", r->dls_station, &err);
    if (st != MEMPHIS_OK)
        mp_sdk_refuse(r, err.message);
    else if (r->dls_station[0] != 0 && strcmp(r->dls_station, r->name) != 0)
        mp_station_ensure(c->broker, r->dls_station, true, r->user, ready);
    else
        dls_station_ready(r, MEMPHIS_OK, "");
}

/* === Destruction === */

/* To all SDKs (sdk-protocol 2.10). `update` NULL: null. */
static void tell_clients(struct mp_broker *b, const char *station, const char *type,
                         const bool *update)
{
    char internal[MP_NAME_MAX + 1];
    struct mp_buf out = { 0 };
    struct mp_json_writer w = { .out = &out };
    struct mp_message m = { .subject = MP_STR(MP_TEXT_CLIENTS_UPDATES) };

    mp_format(internal, sizeof(internal), "%s", station);
    mp_name_internal(internal, strlen(internal));
    mp_json_object(&w, NULL);
    mp_json_put_str(&w, "station_name", internal);
    mp_json_put_str(&w, "type", type);
    if (update != NULL)
        mp_json_put_bool(&w, "update", *update);
    else
        mp_json_put_null(&w, "update");
    mp_json_object_end(&w);
    m.payload = mp_buf_slice(&out);
    mp_bus_deliver(b->bus, m.subject, &m);
    mp_buf_fini(&out);
}

void mp_sdk_station_removed(struct mp_broker *b, const char *station)
{
    tell_clients(b, station, MP_TEXT_REMOVE_STATION, NULL);
}

/* After each change of the flags, with the new value (9.25). */
void mp_sdk_station_changed(struct mp_broker *b, const struct mp_station *s)
{
    tell_clients(b, s->name, MP_TEXT_SCHEMA_TO_DLS, &s->settings.dls_schema);
}

static void station_dropped(void *ctx, memphis_status st, const char *text)
{
    struct mp_sdk_request *r = ctx;

    if (st == MEMPHIS_NOT_FOUND) {
        mp_sdk_refuse_gone(r);
    } else if (st != MEMPHIS_OK) {
        mp_sdk_refuse_status(r, st, text);
    } else {
        mp_sdk_finish_empty(r);
    }
}

void mp_sdk_destroy_station(const struct mp_sdk_call *c, struct mp_sdk_request *r)
{
    memphis_error err;
    memphis_status st =
        mp_sdk_take_name(c->body.station_name, "Station", false, r->station, &err);
    struct mp_then then = { station_dropped, r };
    struct mp_station *s = NULL;

    if (st == MEMPHIS_OK)
        st = mp_sdk_may(c, MP_MAY_WRITE, "access", r->station, &err);
    if (st == MEMPHIS_OK)
        s = mp_station_find(c->broker, mp_slice_text(r->station));
    if (st != MEMPHIS_OK)
        mp_sdk_refuse(r, err.message);
    else if (s == NULL)
        mp_sdk_refuse_gone(r);
    else
        mp_station_drop(c->broker, s, r->user, then);
}
