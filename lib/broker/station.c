#include "broker/station.h"

#include "base/assert.h"
#include "base/limits.h"
#include "base/status.h"
#include "base/str.h"
#include "broker/dls.h"
#include "stream/nats.h"

#include <inttypes.h>

static const uint64_t MS = 1000000;

/* Partition entries (storage-design 4.8, type 7). */
enum { PARTITION_OPEN = 1, PARTITION_CONFIGURE = 2, PARTITION_DROP = 3 };

/* Somebody who waits until the station is READY. */
struct station_waiter {
    struct mp_list node;
    struct mp_then then;
    memphis_status status; /* what to say when it is */
};

static void answer(struct mp_then then, memphis_status st, const char *text)
{
    if (then.fn != NULL)
        then.fn(then.ctx, st, text);
}

/* === Settings (sdk-protocol 2.1) === */

void mp_station_settings_default(struct mp_station_settings *s)
{
    *s = (struct mp_station_settings){
        .retention = MP_RETAIN_AGE,
        .retention_value = MP_RETENTION_AGE_DEFAULT_S,
        .storage = MP_STORAGE_FILE,
        .replicas = 1,
        .partitions = 1,
        .idempotency_ms = MP_IDEMPOTENCY_DEFAULT_MS,
        .dls_poison = true,
        .dls_schema = true,
        .native = true,
        .schema = "",
        .dls_station = "",
        .stream = "",
    };
}

memphis_status mp_station_settings_check(struct mp_station_settings *s,
                                         const char *name, memphis_error *err)
{
    if (s->partitions < 1 || s->partitions > MP_PARTITIONS_MAX)
        return mp_fail(err, MEMPHIS_INVALID,
                       "cannot create station with %d partitions (max:%d min:1): "
                       "Station -  %s, ",
                       (int)s->partitions, MP_PARTITIONS_MAX, name);
    if (s->retention != MP_RETAIN_ACKED && s->retention_value == 0) {
        s->retention = MP_RETAIN_AGE;
        s->retention_value = MP_RETENTION_AGE_DEFAULT_S;
    }
    if (s->retention == MP_RETAIN_AGE && s->retention_value > MP_RETENTION_AGE_MAX_S)
        s->retention_value = MP_RETENTION_AGE_MAX_S;
    if (s->replicas > 1)
        return mp_fail(err, MEMPHIS_UNSUPPORTED,
                       "station can not be created, probably since replicas count is "
                       "larger than the cluster size");
    s->replicas = 1;
    if (s->idempotency_ms == 0)
        s->idempotency_ms = MP_IDEMPOTENCY_DEFAULT_MS;
    else if (s->idempotency_ms < MP_IDEMPOTENCY_MIN_MS)
        s->idempotency_ms = MP_IDEMPOTENCY_MIN_MS;
    if (s->idempotency_ms > MP_IDEMPOTENCY_MAX_MS)
        return mp_fail(err, MEMPHIS_INVALID,
                       "idempotency window can not exceed 24 hours");
    if (s->retention == MP_RETAIN_AGE &&
        s->idempotency_ms > s->retention_value * 1000) {
        /* The default window gives way to a short retention, an explicit one does not
         * (broker-semantics 12, item 22). */
        if (s->idempotency_ms != MP_IDEMPOTENCY_DEFAULT_MS)
            return mp_fail(err, MEMPHIS_INVALID,
                           "idempotency window cannot be greater than the station "
                           "retention");
        s->idempotency_ms = s->retention_value * 1000;
    }
    return MEMPHIS_OK;
}

/* === Names === */

/* Folded internal form; false: longer than any name. */
static bool internal_of(memphis_slice name, char out[MP_NAME_MAX + 1])
{
    if (name.size == 0 || name.size > MP_NAME_MAX)
        return false;
    memcpy(out, name.data, name.size);
    out[name.size] = 0;
    mp_fold_lower(out, name.size);
    mp_name_internal(out, name.size);
    return true;
}

struct mp_station *mp_station_find(struct mp_broker *b, memphis_slice name)
{
    char internal[MP_NAME_MAX + 1];

    if (!internal_of(name, internal))
        return NULL;
    return mp_map_find(&b->stations, mp_slice_text(internal));
}

struct mp_station *mp_station_next(struct mp_broker *b, uint32_t *at)
{
    return mp_map_next(&b->stations, at);
}

bool mp_station_behind(struct mp_broker *b, memphis_slice name, uint32_t *at)
{
    char internal[MP_NAME_MAX + 1];

    return internal_of(name, internal) &&
           mp_map_behind(&b->stations, mp_slice_text(internal), at);
}

bool mp_station_is_ready(const struct mp_station *s)
{
    return s->streams_open == s->settings.partitions;
}

struct mp_stream *mp_station_stream(struct mp_station *s, uint32_t number)
{
    if (number < 1 || number > s->settings.partitions)
        return NULL;
    return s->streams[number - 1];
}

struct mp_stream *mp_broker_stream(struct mp_broker *b, memphis_slice name)
{
    const char *p = name.data;
    size_t size = name.size;
    struct mp_station *s;
    uint64_t number;

    while (size > 0 && p[size - 1] != '$')
        size--;
    if (size == 0) { /* a NATS stream: the only one of its station */
        s = mp_station_find(b, name);
        return s != NULL && s->streams[0] != NULL &&
                       mp_slice_equal(name, mp_slice_text(s->streams[0]->name))
                   ? s->streams[0]
                   : NULL;
    }
    if (size < 2 || !mp_parse_u64(mp_slice(p + size, name.size - size), &number) ||
        number > MP_PARTITIONS_MAX)
        return NULL;
    /* Stream names are matched letter by letter: no folding here. */
    s = mp_map_find(&b->stations, mp_slice(p, size - 1));
    return s != NULL ? mp_station_stream(s, (uint32_t)number) : NULL;
}

/* === The object === */

static struct mp_station *station_new(struct mp_broker *b,
                                      const struct mp_station_row *row)
{
    struct mp_station *s = mp_alloc(sizeof(*s));
    char internal[MP_NAME_MAX + 1];

    mp_assert(internal_of(mp_slice_text(row->name), internal));
    s->broker = b;
    s->id = row->id;
    s->name = mp_strdup(row->name);
    s->internal = mp_strdup(internal);
    s->settings = row->settings;
    s->settings.schema = mp_strdup(row->settings.schema ? row->settings.schema : "");
    s->settings.dls_station =
        mp_strdup(row->settings.dls_station ? row->settings.dls_station : "");
    s->settings.stream = mp_strdup(row->settings.stream ? row->settings.stream : "");
    s->first_pid = row->first_pid;
    s->created_ns = row->created_ns;
    s->streams =
        mp_realloc(NULL, row->settings.partitions * sizeof(struct mp_stream *));
    memset(s->streams, 0, row->settings.partitions * sizeof(struct mp_stream *));
    mp_list_init(&s->waiting);
    mp_list_init(&s->dead);
    mp_map_put(&b->stations, mp_slice_text(s->internal), s);
    b->counters.stations++;
    return s;
}

static void tell_waiting(struct mp_station *s, memphis_status st, const char *text)
{
    struct mp_list *l;

    while ((l = mp_list_pop_front(&s->waiting)) != NULL) {
        struct station_waiter *w = mp_container_of(l, struct station_waiter, node);

        answer(w->then, st == MEMPHIS_OK ? w->status : st, text);
        mp_free(w);
    }
}

static void free_streams(struct mp_station *s, bool tell)
{
    for (uint32_t i = 0; i < s->settings.partitions; i++) {
        struct mp_stream *stream = s->streams[i];

        if (stream == NULL)
            continue;
        mp_map_remove(&s->broker->streams_by_pid,
                      mp_slice(&stream->pid, sizeof(stream->pid)));
        mp_stream_free(stream, tell);
        s->streams[i] = NULL;
        s->broker->counters.partitions--;
    }
    s->streams_open = 0;
}

static void station_free(struct mp_station *s, bool tell)
{
    tell_waiting(s, MEMPHIS_CLOSED, "the station was removed");
    if (s->broker->dls != NULL)
        mp_dls_station_gone(s);
    free_streams(s, tell);
    mp_map_remove(&s->broker->stations, mp_slice_text(s->internal));
    s->broker->counters.stations--;
    mp_free((void *)(uintptr_t)s->settings.schema);
    mp_free((void *)(uintptr_t)s->settings.dls_station);
    mp_free((void *)(uintptr_t)s->settings.stream);
    mp_free(s->streams);
    mp_free(s->name);
    mp_free(s->internal);
    mp_free(s);
}

void mp_stations_free(struct mp_broker *b)
{
    struct mp_station *s;

    for (uint32_t i = 0; (s = mp_map_next(&b->stations, &i)) != NULL;)
        station_free(s, false);
}

/* === Partitions in the data shard === */

struct mp_log *mp_station_log(const struct mp_station *s)
{
    return s->settings.storage == MP_STORAGE_MEMORY ? s->broker->memory_log
                                                    : s->broker->data_log;
}

/* The row's name is in lower case; the stream's is in its configuration. */
static void settings_of_nats(const struct mp_station *s, char *name, size_t name_size,
                             struct mp_stream_settings *out)
{
    struct mp_nats_config *c;

    out->nats = s->settings.stream;
    if (mp_nats_config_parse(mp_slice_text(s->settings.stream), &c, NULL) != MEMPHIS_OK)
        return; /* who decodes it will say so */
    mp_format(name, name_size, "%s", c->name);
    out->limit = c->retention == MP_NATS_INTEREST ? MP_LIMIT_ACKED : MP_LIMIT_NATS;
    out->limit_value = 0;
    out->window_ns = c->window_ns;
    mp_nats_config_free(c);
}

static void settings_of_stream(const struct mp_station *s, uint32_t number, char *name,
                               size_t name_size, struct mp_stream_settings *out)
{
    static const uint32_t limits[] = {
        [MP_RETAIN_AGE] = MP_LIMIT_AGE,
        [MP_RETAIN_MESSAGES] = MP_LIMIT_MESSAGES,
        [MP_RETAIN_BYTES] = MP_LIMIT_BYTES,
        [MP_RETAIN_ACKED] = MP_LIMIT_ACKED,
    };

    mp_format(name, name_size, "%s$%u", s->internal, number);
    *out = (struct mp_stream_settings){
        .name = name,
        .limit = limits[s->settings.retention],
        .limit_value = s->settings.retention == MP_RETAIN_AGE
                           ? s->settings.retention_value * 1000 * MS
                           : s->settings.retention_value,
        .window_ns = s->settings.idempotency_ms * MS,
        .station_id = s->id,
        .number = number,
    };
    if (s->settings.stream[0] != 0)
        settings_of_nats(s, name, name_size, out);
}

static void put_partition_head(struct mp_buf *out, uint8_t op,
                               const struct mp_station *s, uint32_t number)
{
    mp_buf_put_u8(out, op);
    mp_buf_put_u32(out, 1); /* configuration version */
    mp_buf_put_u32(out, number);
    mp_buf_put_u32(out, s->id);
}

static void put_open(struct mp_buf *out, uint8_t op, const struct mp_station *s,
                     uint32_t number)
{
    struct mp_stream_settings settings;
    char name[MP_NAME_MAX + 8];

    put_partition_head(out, op, s, number);
    settings_of_stream(s, number, name, sizeof(name), &settings);
    mp_stream_settings_encode(&settings, out);
}

/* One append holds the entries of all partitions: all open or none. */
static memphis_status append_partitions(struct mp_station *s, uint8_t op, uint64_t tag)
{
    uint32_t n = s->settings.partitions;
    struct mp_entry *entries = mp_realloc(NULL, n * sizeof(*entries));
    size_t *ends = mp_realloc(NULL, n * sizeof(*ends));
    struct mp_buf payload = { 0 };
    memphis_status st;

    for (uint32_t i = 0; i < n; i++) {
        if (op != PARTITION_DROP)
            put_open(&payload, op, s, i + 1);
        else
            put_partition_head(&payload, op, s, i + 1);
        ends[i] = payload.size;
    }
    for (uint32_t i = 0; i < n; i++) {
        size_t from = i > 0 ? ends[i - 1] : 0;

        entries[i] = (struct mp_entry){
            .type = MP_ENTRY_PARTITION,
            .pid = s->first_pid + i,
            .time_ns = s->broker->now_ns,
            .payload = mp_slice(payload.data + from, ends[i] - from),
        };
    }
    st = mp_log_append(mp_station_log(s), entries, n, tag);
    mp_buf_fini(&payload);
    mp_free(ends);
    mp_free(entries);
    return st;
}

static void cannot_open(struct mp_station *s, memphis_status st)
{
    s->opening = false; /* the next one who asks for the station tries again */
    tell_waiting(s, st, "the partitions of the station could not be opened");
}

static void propose_open(struct mp_station *s)
{
    memphis_status st = append_partitions(s, PARTITION_OPEN, MP_STREAM_TAG);

    s->opening = true;
    if (st != MEMPHIS_OK)
        cannot_open(s, st);
}

void mp_stations_failed(struct mp_broker *b, const struct mp_log *log,
                        memphis_status status)
{
    struct mp_station *s;

    if (status != MEMPHIS_NO_SPACE)
        return; /* fate unknown: nobody is answered any more */
    for (uint32_t i = 0; (s = mp_map_next(&b->stations, &i)) != NULL;)
        if (s->opening && !mp_station_is_ready(s) && mp_station_log(s) == log)
            cannot_open(s, status);
}

static struct mp_station *station_by_id(struct mp_broker *b, uint32_t id)
{
    struct mp_station_row *row = mp_meta_station_by_id(b->meta, id);

    return row != NULL ? mp_station_find(b, mp_slice_text(row->name)) : NULL;
}

/* A partition of the log whose station the metadata does not know any more: the crash
 * came before its drop entry. */
struct orphan {
    uint32_t pid, station_id, number;
};

static void forget_orphan(struct mp_broker *b, uint32_t pid)
{
    struct orphan *o = (struct orphan *)(void *)b->orphans.data;
    size_t n = b->orphans.size / sizeof(*o);

    for (size_t i = 0; i < n; i++)
        if (o[i].pid == pid) {
            o[i] = o[n - 1];
            b->orphans.size -= sizeof(*o);
            return;
        }
}

static void drop_orphans(struct mp_broker *b)
{
    const struct orphan *o = (const struct orphan *)(const void *)b->orphans.data;

    for (size_t i = 0; i < b->orphans.size / sizeof(*o); i++) {
        struct mp_buf payload = { 0 };
        struct mp_entry e = { .type = MP_ENTRY_PARTITION,
                              .pid = o[i].pid,
                              .time_ns = b->now_ns };

        mp_buf_put_u8(&payload, PARTITION_DROP);
        mp_buf_put_u32(&payload, 1);
        mp_buf_put_u32(&payload, o[i].number);
        mp_buf_put_u32(&payload, o[i].station_id);
        e.payload = mp_buf_slice(&payload);
        if (mp_log_append(b->data_log, &e, 1, MP_STREAM_TAG) != MEMPHIS_OK)
            mp_logf(b->logger, MEMPHIS_LOG_WARN, "station",
                    "a partition without station stays until the next start pid=%u",
                    e.pid);
        mp_buf_fini(&payload);
    }
    mp_buf_fini(&b->orphans);
}

static void open_stream(struct mp_broker *b, struct mp_log *log, uint32_t pid,
                        const struct mp_stream_settings *settings)
{
    struct mp_station *s = station_by_id(b, settings->station_id);
    struct mp_stream *stream;

    if (s == NULL) { /* dropped later: mostly its drop entry follows */
        struct orphan o = { pid, settings->station_id, settings->number };

        mp_buf_put(&b->orphans, &o, sizeof(o));
        return;
    }
    if (settings->number < 1 || settings->number > s->settings.partitions ||
        s->first_pid + settings->number - 1 != pid || s->streams[settings->number - 1])
        return;
    stream = mp_stream_new(&b->streams, log, pid, settings);
    stream->created_ns = s->created_ns;
    mp_list_push_back(&b->all_streams, &stream->node);
    mp_map_put(&b->streams_by_pid, mp_slice(&stream->pid, sizeof(stream->pid)), stream);
    s->streams[settings->number - 1] = stream;
    s->streams_open++;
    b->counters.partitions++;
    if (mp_station_is_ready(s) && !b->starting)
        tell_waiting(s, MEMPHIS_OK, "");
}

static void drop_stream(struct mp_broker *b, uint32_t pid, uint32_t station_id,
                        uint32_t number)
{
    struct mp_stream *stream =
        mp_map_find(&b->streams_by_pid, mp_slice(&pid, sizeof(pid)));
    struct mp_station *s = station_by_id(b, station_id);

    forget_orphan(b, pid);
    if (stream == NULL)
        return;
    mp_map_remove(&b->streams_by_pid, mp_slice(&pid, sizeof(pid)));
    if (s != NULL && number >= 1 && number <= s->settings.partitions &&
        s->streams[number - 1] == stream) {
        s->streams[number - 1] = NULL;
        s->streams_open--;
    }
    mp_stream_free(stream, !b->starting);
    b->counters.partitions--;
}

/* Opened with other settings it would lose what these say. */
static void cannot_read(struct mp_broker *b, uint32_t pid, memphis_status st)
{
    memphis_error why;

    (void)mp_fail(&why, st, "the settings of partition %u %s", pid,
                  st == MEMPHIS_UNSUPPORTED ? "need a newer release" : "make no sense");
    mp_broker_break(b, &why);
}

void mp_station_partition_applied(struct mp_broker *b, struct mp_log *log,
                                  const struct mp_entry *e)
{
    struct mp_cursor c = mp_cursor_of(e->payload);
    uint8_t op = mp_cursor_u8(&c);
    uint32_t number, station_id;
    struct mp_arena arena = { 0 };
    struct mp_stream_settings settings;

    mp_cursor_u32(&c); /* configuration version */
    number = mp_cursor_u32(&c);
    station_id = mp_cursor_u32(&c);
    if (c.bad)
        return;
    if (op == PARTITION_OPEN || op == PARTITION_CONFIGURE) {
        memphis_status st = mp_stream_settings_decode(&c, &arena, &settings);
        struct mp_stream *old = mp_broker_stream_by_pid(b, e->pid);
        if (st == MEMPHIS_OK && op == PARTITION_CONFIGURE && old != NULL &&
            old->nats != NULL && settings.nats != NULL)
            mp_nats_configure(old, settings.nats, !b->starting);
        else if (st == MEMPHIS_OK && op == PARTITION_OPEN)
            open_stream(b, log, e->pid, &settings);
        else if (st != MEMPHIS_OK)
            cannot_read(b, e->pid, st);
    } else if (op == PARTITION_DROP) {
        drop_stream(b, e->pid, station_id, number);
    }
    mp_arena_fini(&arena);
}

/* === Metadata === */

static void wait_until_ready(struct mp_station *s, struct mp_then then,
                             memphis_status st)
{
    struct station_waiter *w;

    if (mp_station_is_ready(s)) {
        answer(then, st, "");
        return;
    }
    w = mp_alloc(sizeof(*w));
    w->then = then;
    w->status = st;
    mp_list_push_back(&s->waiting, &w->node);
    if (!s->opening && !s->broker->starting)
        propose_open(s);
}

static void take_settings(struct mp_broker *b, const struct mp_station_row *row)
{
    struct mp_station *s = mp_station_find(b, mp_slice_text(row->name));

    if (s == NULL)
        return;
    mp_free((void *)(uintptr_t)s->settings.stream);
    s->settings.stream = mp_strdup(row->settings.stream);
    mp_free((void *)(uintptr_t)s->settings.dls_station);
    s->settings.dls_station = mp_strdup(row->settings.dls_station);
    s->settings.dls_poison = row->settings.dls_poison;
    s->settings.dls_schema = row->settings.dls_schema;
    s->settings.retention = row->settings.retention;
    s->settings.retention_value = row->settings.retention_value;
    s->settings.idempotency_ms = row->settings.idempotency_ms;
    if (!b->starting && s->settings.native && b->station_changed != NULL)
        b->station_changed(b, s);
}

void mp_station_applied(struct mp_broker *b, const struct mp_command *c,
                        memphis_status result, void *row, uint64_t tag)
{
    struct mp_station *s;

    (void)tag;
    if (c->kind == MP_COMMAND_STATION_CREATE && result == MEMPHIS_OK) {
        s = station_new(b, row);
        if (!b->starting)
            propose_open(s);
    } else if (c->kind == MP_COMMAND_STATION_CHANGE && result == MEMPHIS_OK) {
        take_settings(b, row);
    } else if (c->kind == MP_COMMAND_STATION_DROP && result == MEMPHIS_OK) {
        struct mp_station_row *r = row;

        s = mp_station_find(b, mp_slice_text(r->name));
        if (s == NULL)
            return;
        if (!b->starting) /* before: the start proposes it when the log lacks it */
            append_partitions(s, PARTITION_DROP, MP_STREAM_TAG);
        if (!b->starting && b->station_removed != NULL)
            b->station_removed(b, r->name);
        station_free(s, !b->starting);
    }
}

void mp_stations_load(struct mp_broker *b)
{
    struct mp_station_row *row;

    for (uint32_t i = 0; (row = mp_meta_station_next(b->meta, &i)) != NULL;)
        if (mp_station_find(b, mp_slice_text(row->name)) == NULL)
            station_new(b, row);
}

void mp_stations_each_open(struct mp_broker *b,
                           void (*fn)(void *to, const struct mp_entry *open), void *to)
{
    struct mp_buf payload = { 0 };
    struct mp_station *s;

    for (uint32_t i = 0; (s = mp_map_next(&b->stations, &i)) != NULL;)
        for (uint32_t n = 1;
             mp_station_log(s) == b->data_log && n <= s->settings.partitions; n++) {
            struct mp_entry e = { .type = MP_ENTRY_PARTITION,
                                  .pid = s->first_pid + n - 1,
                                  .time_ns = b->now_ns };
            mp_buf_clear(&payload);
            put_open(&payload, PARTITION_OPEN, s, n);
            e.payload = mp_buf_slice(&payload);
            fn(to, &e);
        }
    mp_buf_fini(&payload);
}

void mp_stations_finish_start(struct mp_broker *b)
{
    struct mp_station *s;

    for (uint32_t i = 0; (s = mp_map_next(&b->stations, &i)) != NULL;)
        if (!mp_station_is_ready(s))
            propose_open(s); /* a crash came between the two steps; or memory storage */
        else if (s->streams[0]->nats != NULL &&
                 strcmp(s->streams[0]->settings.nats, s->settings.stream) != 0)
            (void)append_partitions(s, PARTITION_CONFIGURE, MP_STREAM_TAG);
    drop_orphans(b);
}

/* === Commands === */

/* The answer to a creation that waits for its own metadata command. */
struct creation {
    struct mp_broker *broker;
    struct mp_then then;
    memphis_status if_exists; /* what who was second hears */
    char name[MP_NAME_MAX + 1];
};

static void created(void *ctx, memphis_status status, const char *text)
{
    struct creation *c = ctx;
    struct mp_station *s = mp_station_find(c->broker, mp_slice_text(c->name));

    if (status != MEMPHIS_OK && status != MEMPHIS_EXISTS)
        answer(c->then, status, text);
    else if (s == NULL) /* removed in the same breath */
        answer(c->then, MEMPHIS_NOT_FOUND, "the station was removed meanwhile");
    else
        wait_until_ready(s, c->then,
                         status == MEMPHIS_EXISTS ? c->if_exists : MEMPHIS_OK);
    mp_free(c);
}

static void create(struct mp_broker *b, const char *name,
                   const struct mp_station_settings *settings, const char *user,
                   memphis_status if_exists, struct mp_then then)
{
    struct mp_station *s = mp_station_find(b, mp_slice_text(name));
    struct mp_command c = { .kind = MP_COMMAND_STATION_CREATE,
                            .time_ns = mp_broker_wall_ns(b) };
    struct creation *creation;
    struct mp_operation *op;
    memphis_status st;

    mp_assert(mp_name_check(mp_slice_text(name), "Station", NULL) == MEMPHIS_OK);
    if (s != NULL && !s->dropping) {
        wait_until_ready(s, then, if_exists);
        return;
    }
    creation = mp_alloc(sizeof(*creation));
    creation->broker = b;
    creation->then = then;
    creation->if_exists = if_exists;
    mp_format(creation->name, sizeof(creation->name), "%s", name);
    c.u.station = (struct mp_station_row){
        .id = mp_meta_next_station_id(b->meta),
        .name = creation->name,
        .settings = *settings,
        .created_ns = c.time_ns,
        .created_by = (char *)(uintptr_t)user,
        .first_pid = mp_meta_take_pids(b->meta, settings->partitions),
    };
    op = mp_operation_new(b, (struct mp_then){ created, creation });
    st = mp_meta_propose(b->meta, &c, mp_operation_tag(op));
    if (st != MEMPHIS_OK) {
        mp_operation_fail(op, st, "the station could not be created");
        mp_operation_done(op);
    }
    mp_operation_done(op);
}

void mp_station_create(struct mp_broker *b, const char *name,
                       const struct mp_station_settings *settings, const char *user,
                       struct mp_then then)
{
    create(b, name, settings, user, MEMPHIS_EXISTS, then);
}

void mp_station_ensure(struct mp_broker *b, const char *name, bool make,
                       const char *user, struct mp_then then)
{
    struct mp_station *s = mp_station_find(b, mp_slice_text(name));
    struct mp_station_settings settings;
    char external[MP_NAME_MAX + 1];

    if (s != NULL && !s->dropping) {
        wait_until_ready(s, then, MEMPHIS_OK);
        return;
    }
    if (!make) {
        answer(then, MEMPHIS_NOT_FOUND, "the station does not exist");
        return;
    }
    mp_format(external, sizeof(external), "%s", name);
    mp_name_external(external, strlen(external));
    mp_station_settings_default(&settings);
    create(b, external, &settings, user, MEMPHIS_OK, then);
}

/* A removal under way: a creation that comes meanwhile is meant for after it. */
struct removal {
    struct mp_broker *broker;
    struct mp_then then;
    uint32_t station_id;
};

static void removed(void *ctx, memphis_status status, const char *text)
{
    struct removal *r = ctx;
    struct mp_station *s = NULL;

    if (status != MEMPHIS_OK && status != MEMPHIS_CLOSED)
        s = station_by_id(r->broker, r->station_id);
    if (s != NULL) /* the log did not take it */
        s->dropping = false;
    answer(r->then, status, text);
    mp_free(r);
}

void mp_station_drop(struct mp_broker *b, struct mp_station *s, const char *user,
                     struct mp_then then)
{
    struct mp_command c = { .kind = MP_COMMAND_STATION_DROP,
                            .time_ns = mp_broker_wall_ns(b) };
    struct removal *r = mp_alloc(sizeof(*r));
    struct mp_operation *op = mp_operation_new(b, (struct mp_then){ removed, r });
    memphis_status st;

    *r = (struct removal){ b, then, s->id };
    s->dropping = true;

    mp_logf(b->logger, MEMPHIS_LOG_INFO, "station",
            "removal asked for station=%s user=%s", s->name, user ? user : "-");
    c.u.station.name = s->name;
    st = mp_meta_propose(b->meta, &c, mp_operation_tag(op));
    if (st != MEMPHIS_OK) {
        mp_operation_fail(op, st, "the station could not be removed");
        mp_operation_done(op);
    }
    mp_operation_done(op);
}

static memphis_status append_floors(struct mp_station *s, uint32_t from, uint32_t to,
                                    uint64_t tag)
{
    size_t n = to - from + 1;
    struct mp_entry *entries = mp_realloc(NULL, n * sizeof(*entries));
    struct mp_buf floors = { 0 };
    memphis_status st;

    for (uint32_t i = from; i <= to; i++)
        mp_stream_purge_encode(s->streams[i - 1], &floors);
    for (size_t i = 0; i < n; i++) {
        size_t size = floors.size / n;

        entries[i] = (struct mp_entry){
            .type = MP_ENTRY_FLOOR,
            .pid = s->first_pid + from - 1 + (uint32_t)i,
            .time_ns = s->broker->now_ns,
            .payload = mp_slice(floors.data + i * size, size),
        };
    }
    st = mp_log_append(mp_station_log(s), entries, n, tag);
    mp_buf_fini(&floors);
    mp_free(entries);
    return st;
}

void mp_station_purge(struct mp_station *s, uint32_t number, struct mp_then then)
{
    uint32_t from = number > 0 ? number : 1;
    uint32_t to = number > 0 ? number : s->settings.partitions;
    struct mp_operation *op;
    memphis_status st;

    if (to > s->settings.partitions || !mp_station_is_ready(s)) {
        answer(then, MEMPHIS_NOT_FOUND, "the partition does not exist");
        return;
    }
    op = mp_operation_new(s->broker, then);
    st = append_floors(s, from, to, mp_operation_tag(op));
    if (st != MEMPHIS_OK) {
        mp_operation_fail(op, st, "the station could not be purged");
        mp_operation_done(op);
    }
    mp_operation_done(op);
}

/* One append that an operation waits for. */
static void append_one(struct mp_station *s, const struct mp_entry *e,
                       struct mp_then then, const char *text)
{
    struct mp_operation *op = mp_operation_new(s->broker, then);
    memphis_status st = mp_log_append(mp_station_log(s), e, 1, mp_operation_tag(op));

    if (st != MEMPHIS_OK) {
        mp_operation_fail(op, st, text);
        mp_operation_done(op);
    }
    mp_operation_done(op);
}

void mp_station_remove_messages(struct mp_station *s, uint32_t number,
                                const uint64_t *seqs, size_t n, struct mp_then then)
{
    struct mp_buf payload = { 0 };
    struct mp_entry e = { .type = MP_ENTRY_DELETE, .time_ns = s->broker->now_ns };

    if (mp_station_stream(s, number) == NULL) {
        answer(then, MEMPHIS_NOT_FOUND, "the partition does not exist");
        return;
    }
    if (n == 0) {
        answer(then, MEMPHIS_OK, "");
        return;
    }
    mp_stream_removal_encode(seqs, n, &payload);
    e.pid = s->first_pid + number - 1;
    e.seq = seqs[0];
    e.payload = mp_buf_slice(&payload);
    append_one(s, &e, then, "the messages could not be removed");
    mp_buf_fini(&payload);
}

/* === Streams of NATS clients === */

void mp_station_settings_nats(const struct mp_nats_config *c,
                              struct mp_station_settings *out)
{
    mp_station_settings_default(out);
    out->native = false;
    out->stream = c->text;
    out->storage = c->memory ? MP_STORAGE_MEMORY : MP_STORAGE_FILE;
    out->idempotency_ms = c->window_ns / MS;
    out->dls_poison = out->dls_schema = false;
    /* A station shows one kind: the first of them that is bounded. */
    out->retention_value = 0;
    if (c->retention != MP_NATS_LIMITS) {
        out->retention = MP_RETAIN_ACKED;
    } else if (c->age_max_ns > 0) {
        out->retention_value = c->age_max_ns / (1000 * MS);
    } else if (c->messages_max > 0) {
        out->retention = MP_RETAIN_MESSAGES;
        out->retention_value = c->messages_max;
    } else if (c->bytes_max > 0) {
        out->retention = MP_RETAIN_BYTES;
        out->retention_value = c->bytes_max;
    }
}

/* A change: the metadata first, then the partitions, if it is theirs, too. */
struct change {
    struct mp_broker *broker;
    struct mp_then then;
    uint32_t station_id;
    bool is_theirs;
};

static void changed(void *ctx, memphis_status status, const char *text)
{
    struct change *c = ctx;
    struct mp_station *s = station_by_id(c->broker, c->station_id);
    struct mp_then then = c->then;
    struct mp_operation *op;
    bool is_theirs = c->is_theirs;

    mp_free(c);
    if (status != MEMPHIS_OK || s == NULL || !is_theirs) {
        answer(then, s == NULL ? MEMPHIS_NOT_FOUND : status, text);
        return;
    }
    op = mp_operation_new(s->broker, then);
    status = append_partitions(s, PARTITION_CONFIGURE, mp_operation_tag(op));
    if (status != MEMPHIS_OK) { /* the next start does it */
        mp_operation_fail(op, status, "the station could not be changed");
        mp_operation_done(op);
    }
    mp_operation_done(op);
}

static bool is_same_text(const char *a, const char *b)
{
    return strcmp(a != NULL ? a : "", b != NULL ? b : "") == 0;
}

void mp_station_change(struct mp_station *s, const struct mp_station_settings *settings,
                       struct mp_then then)
{
    struct mp_broker *b = s->broker;
    struct change *change = mp_alloc(sizeof(*change));
    struct mp_command c = { .kind = MP_COMMAND_STATION_CHANGE,
                            .time_ns = s->created_ns };
    struct mp_operation *op;
    memphis_status st;

    mp_assert(mp_station_is_ready(s));
    *change = (struct change){ b, then, s->id,
                               settings->retention != s->settings.retention ||
                                   settings->retention_value !=
                                       s->settings.retention_value ||
                                   settings->idempotency_ms !=
                                       s->settings.idempotency_ms ||
                                   !is_same_text(settings->stream,
                                                 s->settings.stream) };
    c.u.station = *mp_meta_station_by_id(b->meta, s->id);
    c.u.station.settings = *settings;
    op = mp_operation_new(b, (struct mp_then){ changed, change });
    st = mp_meta_propose(b->meta, &c, mp_operation_tag(op));
    if (st != MEMPHIS_OK) {
        mp_operation_fail(op, st, "the station could not be changed");
        mp_operation_done(op);
    }
    mp_operation_done(op);
}
