/* Payload of an entry of type 15 (storage-design 4.8):
 *
 *      command u16 | version u16 | { tag u16, length u32, value }*
 *
 * A field that is zero or empty is left out. Numbers have the width of their type, a
 * text has no final zero. Tags from OPTIONAL_TAG on may be skipped by a program that
 * does not know them; any other unknown tag would change what the command means. */
#include "meta/internal.h"

#include "base/assert.h"
#include "base/buf.h"
#include "base/limits.h"
#include "base/status.h"

#include <assert.h>
#include <string.h>

enum { VERSION = 1, OPTIONAL_TAG = 32768 };

#define AT(member) offsetof(struct mp_command, member)
#define TEXT(tag_, member, column_)                                                    \
    { .tag = (tag_), .type = MP_FIELD_TEXT, .offset = AT(member), .column = (column_) }
#define KEY_TEXT(tag_, member, column_)                                                \
    { .tag = (tag_), .type = MP_FIELD_TEXT, .key = true, .offset = AT(member),         \
      .column = (column_) }
#define NUMBER(tag_, type_, member, max_, column_)                                     \
    { .tag = (tag_), .type = (type_), .offset = AT(member), .max = (max_),             \
      .column = (column_) }
/* Of every row: the time of the command that made it. */
#define TIME                                                                           \
    { .tag = 1, .type = MP_FIELD_U64, .key = true, .offset = AT(time_ns),              \
      .column = "created_ns" }

static const struct mp_field station_fields[] = {
    TIME,
    NUMBER(2, MP_FIELD_U32, u.station.id, 0, "id"),
    KEY_TEXT(3, u.station.name, "name"),
    NUMBER(4, MP_FIELD_U32, u.station.settings.retention, MP_RETAIN_ACKED, "retention"),
    NUMBER(5, MP_FIELD_U64, u.station.settings.retention_value, 0, "retention_value"),
    NUMBER(6, MP_FIELD_U32, u.station.settings.storage, MP_STORAGE_MEMORY, "storage"),
    NUMBER(7, MP_FIELD_U32, u.station.settings.replicas, 0, "replicas"),
    NUMBER(8, MP_FIELD_U64, u.station.settings.idempotency_ms, 0, "idempotency_ms"),
    NUMBER(9, MP_FIELD_U32, u.station.settings.partitions, MP_PARTITIONS_MAX,
           "partitions"),
    NUMBER(10, MP_FIELD_BOOL, u.station.settings.dls_poison, 0, "dls_poison"),
    NUMBER(11, MP_FIELD_BOOL, u.station.settings.dls_schema, 0, "dls_schema"),
    NUMBER(12, MP_FIELD_BOOL, u.station.settings.tiered, 0, "tiered"),
    NUMBER(13, MP_FIELD_BOOL, u.station.settings.native, 0, "native"),
    TEXT(14, u.station.settings.schema, "schema"),
    TEXT(15, u.station.settings.dls_station, "dls_station"),
    NUMBER(16, MP_FIELD_U32, u.station.first_pid, 0, "first_pid"),
    TEXT(17, u.station.created_by, "created_by"),
    TEXT(18, u.station.settings.stream, "stream"),
};

static const struct mp_field producer_fields[] = {
    TIME,
    NUMBER(2, MP_FIELD_U64, u.producer.id, INT64_MAX, "id"),
    KEY_TEXT(3, u.producer.name, "name"),
    { .tag = 4, .type = MP_FIELD_U32, .key = true, .offset = AT(u.producer.station_id),
      .column = "station_id" },
    KEY_TEXT(5, u.producer.connection_id, "connection_id"),
    TEXT(6, u.producer.app_id, "app_id"),
    TEXT(7, u.producer.sdk, "sdk"),
    TEXT(8, u.producer.user, "user"),
    NUMBER(9, MP_FIELD_U32, u.producer.type, MP_CLIENT_CONNECTOR, "type"),
    NUMBER(10, MP_FIELD_U32, u.producer.version, 0, "version"),
};

static const struct mp_field consumer_fields[] = {
    TIME,
    NUMBER(2, MP_FIELD_U64, u.consumer.id, INT64_MAX, "id"),
    KEY_TEXT(3, u.consumer.name, "name"),
    { .tag = 4, .type = MP_FIELD_U32, .key = true, .offset = AT(u.consumer.station_id),
      .column = "station_id" },
    KEY_TEXT(5, u.consumer.connection_id, "connection_id"),
    TEXT(6, u.consumer.app_id, "app_id"),
    TEXT(7, u.consumer.sdk, "sdk"),
    TEXT(8, u.consumer.user, "user"),
    NUMBER(9, MP_FIELD_U32, u.consumer.type, MP_CLIENT_CONNECTOR, "type"),
    NUMBER(10, MP_FIELD_U32, u.consumer.version, 0, "version"),
    TEXT(11, u.consumer.group, "consumer_group"),
    NUMBER(12, MP_FIELD_U64, u.consumer.ack_wait_ms, 0, "ack_wait_ms"),
    NUMBER(13, MP_FIELD_U32, u.consumer.deliveries_max, 0, "deliveries_max"),
    NUMBER(14, MP_FIELD_U64, u.consumer.start_sequence, 0, "start_sequence"),
    NUMBER(15, MP_FIELD_I64, u.consumer.last_messages, 0, "last_messages"),
};

static const struct mp_field user_fields[] = {
    TIME,
    KEY_TEXT(2, u.user.name, "name"),
    NUMBER(3, MP_FIELD_U32, u.user.type, MP_USER_MANAGEMENT, "type"),
    TEXT(4, u.user.hash, "hash"),
    TEXT(5, u.user.owner, "owner"),
    TEXT(6, u.user.description, "description"),
    TEXT(7, u.user.full_name, "full_name"),
    TEXT(8, u.user.team, "team"),
    TEXT(9, u.user.position, "position"),
    NUMBER(10, MP_FIELD_U32, u.user.avatar, 0, "avatar"),
    NUMBER(11, MP_FIELD_BOOL, u.user.is_restricted, 0, "is_restricted"),
    TEXT(12, u.user.allow_read, "allow_read"),
    TEXT(13, u.user.allow_write, "allow_write"),
    TEXT(14, u.user.deny_read, "deny_read"),
    TEXT(15, u.user.deny_write, "deny_write"),
};

#define FIELDS(array) .fields = (array), .count = sizeof(array) / sizeof(array)[0]
static const struct mp_row_spec station_row = {
    "stations", "id", FIELDS(station_fields)
};
static const struct mp_row_spec producer_row = {
    "producers", "id", FIELDS(producer_fields)
};
static const struct mp_row_spec consumer_row = {
    "consumers", "id", FIELDS(consumer_fields)
};
static const struct mp_row_spec user_row = { "users", "name", FIELDS(user_fields) };

static const struct mp_command_spec specs[] = {
    [MP_COMMAND_STATION_CREATE] = { "station_create", &station_row, false },
    [MP_COMMAND_STATION_DROP] = { "station_drop", &station_row, true },
    [MP_COMMAND_PRODUCER_ADD] = { "producer_add", &producer_row, false },
    [MP_COMMAND_PRODUCER_DROP] = { "producer_drop", &producer_row, true },
    [MP_COMMAND_CONSUMER_ADD] = { "consumer_add", &consumer_row, false },
    [MP_COMMAND_CONSUMER_DROP] = { "consumer_drop", &consumer_row, true },
    [MP_COMMAND_USER_PUT] = { "user_put", &user_row, false },
    [MP_COMMAND_USER_DROP] = { "user_drop", &user_row, true },
    [MP_COMMAND_STATION_CHANGE] = { "station_change", &station_row, false },
};
enum { SPECS_COUNT = sizeof specs / sizeof specs[0] };

static_assert(sizeof station_fields / sizeof station_fields[0] <= 64, "bits of `seen`");

static size_t width_of(const struct mp_field *f)
{
    static const uint8_t widths[] = {
        [MP_FIELD_BOOL] = 1, [MP_FIELD_U32] = 4, [MP_FIELD_U64] = 8, [MP_FIELD_I64] = 8
    };

    mp_assert(f->type != MP_FIELD_TEXT);
    return widths[f->type];
}

static uint64_t max_of(const struct mp_field *f)
{
    static const uint64_t natural[] = { [MP_FIELD_BOOL] = 1,
                                        [MP_FIELD_U32] = UINT32_MAX,
                                        [MP_FIELD_U64] = UINT64_MAX,
                                        [MP_FIELD_I64] = UINT64_MAX };

    mp_assert(f->type != MP_FIELD_TEXT);
    return f->max != 0 ? f->max : natural[f->type];
}

static bool is_carried(const struct mp_field *f, const struct mp_command_spec *spec)
{
    return f->key || !spec->drops;
}

/* -- fields: memcpy, because the types behind the offsets differ ------------------- */

const char *mp_field_text(const struct mp_field *f, const struct mp_command *c)
{
    const char *text;

    mp_assert(f->type == MP_FIELD_TEXT);
    memcpy(&text, (const char *)c + f->offset, sizeof text);
    return text != NULL ? text : "";
}

void mp_field_set_text(const struct mp_field *f, struct mp_command *c, const char *text)
{
    mp_assert(f->type == MP_FIELD_TEXT);
    memcpy((char *)c + f->offset, &text, sizeof text);
}

uint64_t mp_field_number(const struct mp_field *f, const struct mp_command *c)
{
    const char *at = (const char *)c + f->offset;
    uint64_t v;

    if (width_of(f) == 8) {
        memcpy(&v, at, sizeof v);
        return v;
    }
    if (f->type == MP_FIELD_BOOL) {
        bool b;
        memcpy(&b, at, sizeof b);
        return b;
    }
    uint32_t n;
    memcpy(&n, at, sizeof n);
    return n;
}

bool mp_field_set_number(const struct mp_field *f, struct mp_command *c, uint64_t v)
{
    char *at = (char *)c + f->offset;

    if (v > max_of(f))
        return false;
    if (width_of(f) == 8) {
        memcpy(at, &v, sizeof v);
    } else if (f->type == MP_FIELD_BOOL) {
        bool b = v != 0;
        memcpy(at, &b, sizeof b);
    } else {
        uint32_t n = (uint32_t)v;
        memcpy(at, &n, sizeof n);
    }
    return true;
}

const struct mp_command_spec *mp_command_spec(uint32_t kind)
{
    return kind < SPECS_COUNT && specs[kind].name != NULL ? &specs[kind] : NULL;
}

const char *mp_command_row_name(const struct mp_command *c)
{
    const struct mp_command_spec *spec = mp_command_spec(c->kind);

    mp_assert(spec != NULL);
    size_t i = 0;
    while (strcmp(spec->row->fields[i].column, "name") != 0) {
        i++;
        mp_assert(i < spec->row->count); /* each row has a name */
    }
    return mp_field_text(&spec->row->fields[i], c);
}

void mp_command_settle(struct mp_command *c)
{
    const struct mp_command_spec *spec = mp_command_spec(c->kind);

    mp_assert(spec != NULL);
    if (spec->row == &station_row)
        c->u.station.created_ns = c->time_ns;
    else if (spec->row == &producer_row)
        c->u.producer.created_ns = c->time_ns;
    else if (spec->row == &consumer_row)
        c->u.consumer.created_ns = c->time_ns;
    else
        c->u.user.created_ns = c->time_ns;
}

/* What a station needs beyond the limits of its fields. */
static const char *station_fault(const struct mp_station_row *s)
{
    if (s->id == 0)
        return "the station has no id";
    if (s->first_pid > UINT32_MAX - s->settings.partitions)
        return "the partitions of the station have no ids";
    return NULL;
}

const char *mp_command_fault(const struct mp_command *c)
{
    const struct mp_command_spec *spec = mp_command_spec(c->kind);

    if (spec == NULL)
        return "the command is unknown";
    for (size_t i = 0; i < spec->row->count; i++) {
        const struct mp_field *f = &spec->row->fields[i];
        if (!is_carried(f, spec))
            continue;
        if (f->type == MP_FIELD_TEXT &&
            strlen(mp_field_text(f, c)) > MP_ENTRY_BYTES_MAX)
            return "a text is too long";
        if (f->type != MP_FIELD_TEXT && mp_field_number(f, c) > max_of(f))
            return "a number is out of its range";
    }
    if (mp_command_row_name(c)[0] == 0)
        return "the name is empty";
    if (c->kind == MP_COMMAND_STATION_CREATE || c->kind == MP_COMMAND_STATION_CHANGE)
        return station_fault(&c->u.station);
    if (c->kind == MP_COMMAND_PRODUCER_ADD && c->u.producer.id == 0)
        return "the producer has no id";
    if (c->kind == MP_COMMAND_CONSUMER_ADD && c->u.consumer.id == 0)
        return "the consumer has no id";
    return NULL;
}

/* -- encode ------------------------------------------------------------------------ */

static void put_item(struct mp_buf *out, uint16_t tag, size_t size)
{
    mp_assert(tag < OPTIONAL_TAG);
    mp_assert(size <= MP_ENTRY_BYTES_MAX);
    mp_buf_put_u16(out, tag);
    mp_buf_put_u32(out, (uint32_t)size);
}

static void put_number(struct mp_buf *out, const struct mp_field *f, uint64_t v)
{
    uint8_t bytes[8];

    mp_assert(v <= max_of(f));
    mp_set_u64(bytes, v);
    put_item(out, f->tag, width_of(f));
    mp_buf_put(out, bytes, width_of(f)); /* little-endian: the low bytes come first */
}

void mp_command_encode(const struct mp_command *c, struct mp_buf *out)
{
    const struct mp_command_spec *spec = mp_command_spec(c->kind);

    mp_assert(spec != NULL);
    mp_assert(mp_command_fault(c) == NULL);
    mp_buf_put_u16(out, c->kind);
    mp_buf_put_u16(out, VERSION);
    for (size_t i = 0; i < spec->row->count; i++) {
        const struct mp_field *f = &spec->row->fields[i];
        if (!is_carried(f, spec))
            continue;
        if (f->type == MP_FIELD_TEXT) {
            const char *text = mp_field_text(f, c);
            if (text[0] != 0) {
                put_item(out, f->tag, strlen(text));
                mp_buf_put_text(out, text);
            }
        } else if (mp_field_number(f, c) != 0) {
            put_number(out, f, mp_field_number(f, c));
        }
    }
}

/* -- decode ------------------------------------------------------------------------ */

static memphis_status decode_number(const struct mp_field *f, memphis_slice value,
                                    struct mp_command *out, const char *name,
                                    memphis_error *err)
{
    uint8_t bytes[8] = { 0 };

    mp_assert(width_of(f) <= sizeof bytes);
    if (value.size != width_of(f))
        return mp_fail(err, MEMPHIS_CORRUPT,
                       "%s of the metadata command %s has %zu bytes instead of %zu",
                       f->column, name, value.size, width_of(f));
    memcpy(bytes, value.data, value.size);
    if (!mp_field_set_number(f, out, mp_get_u64(bytes)))
        return mp_fail(err, MEMPHIS_UNSUPPORTED,
                       "%s of the metadata command %s has the unknown value %llu",
                       f->column, name, (unsigned long long)mp_get_u64(bytes));
    return MEMPHIS_OK;
}

static memphis_status decode_value(const struct mp_field *f, memphis_slice value,
                                   struct mp_command *out, struct mp_arena *arena,
                                   const char *name, memphis_error *err)
{
    mp_assert(arena != NULL);
    if (f->type != MP_FIELD_TEXT)
        return decode_number(f, value, out, name, err);
    if (value.size > 0 && memchr(value.data, 0, value.size) != NULL)
        return mp_fail(err, MEMPHIS_CORRUPT,
                       "%s of the metadata command %s holds a zero byte", f->column,
                       name);
    mp_field_set_text(f, out, mp_arena_strndup(arena, value.data, value.size));
    return MEMPHIS_OK;
}

/* The number of the field, or `count`. */
static size_t find_field(const struct mp_command_spec *spec, uint16_t tag)
{
    size_t i = 0;

    mp_assert(spec->row->count <= 64);
    while (i < spec->row->count && (spec->row->fields[i].tag != tag ||
                                    !is_carried(&spec->row->fields[i], spec)))
        i++;
    return i;
}

static memphis_status decode_items(struct mp_cursor *in,
                                   const struct mp_command_spec *spec,
                                   struct mp_command *out, struct mp_arena *arena,
                                   memphis_error *err)
{
    uint64_t seen = 0;

    while (mp_cursor_left(in) > 0) {
        uint16_t tag = mp_cursor_u16(in);
        memphis_slice value = mp_cursor_take(in, mp_cursor_u32(in));
        if (in->bad)
            return mp_fail(err, MEMPHIS_CORRUPT, "the metadata command %s is cut off",
                           spec->name);
        size_t i = find_field(spec, tag);
        if (i == spec->row->count) {
            if (tag >= OPTIONAL_TAG)
                continue;
            return mp_fail(err, MEMPHIS_UNSUPPORTED,
                           "the metadata command %s has the unknown field %u; a newer "
                           "version of the broker has written it",
                           spec->name, tag);
        }
        if (seen & UINT64_C(1) << i)
            return mp_fail(err, MEMPHIS_CORRUPT,
                           "the metadata command %s has the field %u twice", spec->name,
                           tag);
        seen |= UINT64_C(1) << i;
        memphis_status s = decode_value(&spec->row->fields[i], value, out, arena,
                                        spec->name, err);
        if (s != MEMPHIS_OK)
            return s;
    }
    return MEMPHIS_OK;
}

memphis_status mp_command_decode(memphis_slice payload, struct mp_command *out,
                                 struct mp_arena *arena, memphis_error *err)
{
    struct mp_cursor in = mp_cursor_of(payload);
    uint16_t kind = mp_cursor_u16(&in);
    uint16_t version = mp_cursor_u16(&in);
    const struct mp_command_spec *spec = mp_command_spec(kind);

    if (in.bad)
        return mp_fail(err, MEMPHIS_CORRUPT, "a metadata command has only %zu bytes",
                       payload.size);
    if (spec == NULL || version != VERSION)
        return mp_fail(err, MEMPHIS_UNSUPPORTED,
                       "the metadata command %u version %u is unknown; a newer version "
                       "of the broker has written it",
                       kind, version);
    *out = (struct mp_command){ .kind = kind };
    for (size_t i = 0; i < spec->row->count; i++)
        if (spec->row->fields[i].type == MP_FIELD_TEXT)
            mp_field_set_text(&spec->row->fields[i], out, "");
    memphis_status s = decode_items(&in, spec, out, arena, err);
    if (s != MEMPHIS_OK)
        return s;
    const char *fault = mp_command_fault(out);
    if (fault != NULL)
        return mp_fail(err, MEMPHIS_CORRUPT, "the metadata command %s is damaged: %s",
                       spec->name, fault);
    if (!spec->drops)
        mp_command_settle(out);
    return MEMPHIS_OK;
}
