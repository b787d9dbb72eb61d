/* A catalogue in arrays, searched from end to end: what the real one must equal. */
#ifndef TEST_UNIT_META_MODEL_H
#define TEST_UNIT_META_MODEL_H

#include "unit/meta/world.h"

enum { MODEL_ROWS = 2048, MODEL_NAMES = 6 };

static const char *const model_stations[MODEL_NAMES] = {
    "a", "b.c", "orders", "x-y", "d_e", "long.name.of.station"
};
static const char *const model_users[MODEL_NAMES] = { "root", "bob", "eve",
                                                      "u4",   "u5",  "u6" };

struct model {
    /* kind 0: free. Texts are literals. */
    struct mp_command stations[MODEL_NAMES], users[MODEL_NAMES];
    struct mp_command members[MODEL_ROWS];
    size_t members_count;
    uint32_t last_station_id, last_pid;
    uint64_t last_row_id;
    uint64_t random;
};

static inline uint32_t model_random(struct model *o, uint32_t below)
{
    o->random ^= o->random << 13;
    o->random ^= o->random >> 7;
    o->random ^= o->random << 17;
    return (uint32_t)((o->random >> 20) % below);
}

static inline size_t model_name_number(const char *const *names, const char *name)
{
    size_t i = 0;

    while (strcmp(names[i], name) != 0)
        i++;
    return i;
}

static inline struct mp_command *model_station(struct model *o, uint32_t id)
{
    for (size_t i = 0; i < MODEL_NAMES; i++)
        if (o->stations[i].kind != 0 && o->stations[i].u.station.id == id)
            return &o->stations[i];
    return NULL;
}

/* Producer and consumer rows differ, the fields that matter here have two places. */
static inline uint64_t model_id(const struct mp_command *c)
{
    return c->kind == MP_COMMAND_PRODUCER_ADD ? c->u.producer.id : c->u.consumer.id;
}

static inline uint32_t model_station_id(const struct mp_command *c)
{
    return c->kind <= MP_COMMAND_PRODUCER_DROP ? c->u.producer.station_id
                                               : c->u.consumer.station_id;
}

static inline bool model_is_named(const struct mp_command *c,
                                  const struct mp_command *as)
{
    bool is_producer = c->kind == MP_COMMAND_PRODUCER_ADD;

    if (is_producer != (as->kind == MP_COMMAND_PRODUCER_DROP) ||
        model_station_id(c) != model_station_id(as))
        return false;
    if (is_producer)
        return strcmp(c->u.producer.name, as->u.producer.name) == 0 &&
               strcmp(c->u.producer.connection_id, as->u.producer.connection_id) == 0;
    return strcmp(c->u.consumer.name, as->u.consumer.name) == 0 &&
           strcmp(c->u.consumer.connection_id, as->u.consumer.connection_id) == 0;
}

static inline memphis_status model_station_do(struct model *o,
                                           const struct mp_command *c)
{
    size_t n = model_name_number(model_stations, c->u.station.name);
    struct mp_command *s = &o->stations[n];

    if (c->kind == MP_COMMAND_STATION_CREATE) {
        const struct mp_station_row *row = &c->u.station;
        if (row->id > o->last_station_id)
            o->last_station_id = row->id;
        if (row->first_pid + row->settings.partitions - 1 > o->last_pid)
            o->last_pid = row->first_pid + row->settings.partitions - 1;
        if (s->kind != 0)
            return MEMPHIS_EXISTS;
        *s = *c;
        return MEMPHIS_OK;
    }
    if (s->kind == 0)
        return MEMPHIS_NOT_FOUND;
    for (size_t i = 0; i < o->members_count; i++)
        if (o->members[i].kind != 0 &&
            model_station_id(&o->members[i]) == s->u.station.id)
            o->members[i].kind = 0;
    s->kind = 0;
    return MEMPHIS_OK;
}

static inline memphis_status model_member_do(struct model *o,
                                           const struct mp_command *c)
{
    if (c->kind == MP_COMMAND_PRODUCER_ADD || c->kind == MP_COMMAND_CONSUMER_ADD) {
        if (model_id(c) > o->last_row_id)
            o->last_row_id = model_id(c);
        if (model_station(o, model_station_id(c)) == NULL)
            return MEMPHIS_NOT_FOUND;
        assert_true(o->members_count < MODEL_ROWS);
        o->members[o->members_count++] = *c;
        return MEMPHIS_OK;
    }
    struct mp_command *first = NULL;
    for (size_t i = 0; i < o->members_count; i++) {
        struct mp_command *r = &o->members[i];
        if (r->kind != 0 && model_is_named(r, c) &&
            (first == NULL || model_id(r) < model_id(first)))
            first = r;
    }
    if (first == NULL)
        return MEMPHIS_NOT_FOUND;
    first->kind = 0;
    return MEMPHIS_OK;
}

static inline memphis_status model_do(struct model *o, const struct mp_command *c)
{
    if (c->kind <= MP_COMMAND_STATION_DROP)
        return model_station_do(o, c);
    if (c->kind <= MP_COMMAND_CONSUMER_DROP)
        return model_member_do(o, c);
    struct mp_command *u = &o->users[model_name_number(model_users, c->u.user.name)];
    bool was = u->kind != 0;
    if (c->kind == MP_COMMAND_USER_PUT)
        *u = *c;
    else
        u->kind = 0;
    return was || c->kind == MP_COMMAND_USER_PUT ? MEMPHIS_OK : MEMPHIS_NOT_FOUND;
}

static inline void model_put_members(struct model *o, uint32_t station_id,
                                     uint16_t kind, struct mp_buf *out)
{
    uint64_t after = 0;

    for (;;) {
        struct mp_command *next = NULL;
        for (size_t i = 0; i < o->members_count; i++) {
            struct mp_command *r = &o->members[i];
            if (r->kind == kind && model_station_id(r) == station_id &&
                model_id(r) > after && (next == NULL || model_id(r) < model_id(next)))
                next = r;
        }
        if (next == NULL)
            return;
        after = model_id(next);
        if (kind == MP_COMMAND_PRODUCER_ADD) {
            struct mp_producer_row row = next->u.producer;
            row.created_ns = next->time_ns;
            put_producer_line(out, &row);
        } else {
            struct mp_consumer_row row = next->u.consumer;
            row.created_ns = next->time_ns;
            put_consumer_line(out, &row);
        }
    }
}

/* The text that catalogue_text gives for the same rows. */
static inline void model_text(struct model *o, struct mp_buf *out)
{
    for (uint32_t id = 1; id <= o->last_station_id; id++) {
        struct mp_command *s = model_station(o, id);
        if (s == NULL)
            continue;
        struct mp_station_row row = s->u.station;
        row.created_ns = s->time_ns;
        put_station_line(out, &row);
        model_put_members(o, id, MP_COMMAND_PRODUCER_ADD, out);
        model_put_members(o, id, MP_COMMAND_CONSUMER_ADD, out);
    }
    for (size_t i = 0; i < MODEL_NAMES; i++)
        if (o->users[i].kind != 0) {
            struct mp_user_row row = o->users[i].u.user;
            row.created_ns = o->users[i].time_ns;
            put_user_line(out, &row);
        }
}

/* The lists by connection id hold the same rows as those by station, in order of id. */
static inline void assert_connections(struct mp_meta *m)
{
    struct mp_station_row *s;
    const char *id;
    int64_t rows = 0;

    for (uint32_t i = 0; (id = mp_meta_connection_next(m, &i)) != NULL;) {
        struct mp_producer_row *p = NULL;
        struct mp_consumer_row *c = NULL;
        int64_t before = rows;

        for (uint64_t last = 0; (p = mp_meta_producer_of(m, id, p)) != NULL; rows++) {
            assert_string_equal(p->connection_id, id);
            assert_true(p->id > last);
            last = p->id;
        }
        for (uint64_t last = 0; (c = mp_meta_consumer_of(m, id, c)) != NULL; rows++) {
            assert_string_equal(c->connection_id, id);
            assert_true(c->id > last);
            last = c->id;
        }
        assert_true(rows > before); /* an id without rows is forgotten */
    }
    for (uint32_t i = 0; (s = mp_meta_station_next(m, &i)) != NULL;) {
        struct mp_producer_row *p = NULL;
        struct mp_consumer_row *c = NULL;

        while ((p = mp_meta_producer_next(m, s->id, p)) != NULL)
            rows--;
        while ((c = mp_meta_consumer_next(m, s->id, c)) != NULL)
            rows--;
    }
    assert_int_equal(rows, 0);
}

static inline void model_assert_equal(struct model *o, struct mp_meta *m)
{
    struct mp_buf is = { 0 }, expected = { 0 };

    catalogue_text(m, o->last_station_id + 8, model_users, MODEL_NAMES, &is);
    model_text(o, &expected);
    assert_connections(m);
    mp_buf_put_u8(&is, 0);
    mp_buf_put_u8(&expected, 0);
    assert_string_equal((char *)is.data, (char *)expected.data);
    mp_buf_fini(&is);
    mp_buf_fini(&expected);
}

static inline const char *pick(struct model *o, const char *const *names)
{
    return names[model_random(o, MODEL_NAMES)];
}

static inline struct mp_command model_random_command(struct model *o, struct mp_meta *m)
{
    static const char *const connections[] = { "", "c1", "c2" };
    static const char *const members[] = { "m1", "m2", "m3", "m4" };
    static const char *const hashes[] = { "$2b$1", "$2b$2", "" };
    struct mp_command *s = &o->stations[model_random(o, MODEL_NAMES)];
    uint32_t station_id = s->kind != 0 ? s->u.station.id : model_random(o, 9) * 1000;
    const char *connection = connections[model_random(o, 3)];
    const char *member = members[model_random(o, 4)];
    struct mp_command c;

    switch (model_random(o, 12)) {
    case 0:
    case 1:
        c = station_of(m, pick(o, model_stations));
        break;
    case 2:
        c = station_drop_of(pick(o, model_stations));
        break;
    case 3:
    case 4:
    case 5:
        c = producer_of(m, station_id, member, connection);
        break;
    case 6:
        c = member_drop_of(MP_COMMAND_PRODUCER_DROP, station_id, member, connection);
        break;
    case 7:
    case 8:
        c = consumer_of(m, station_id, member, connection);
        break;
    case 9:
        c = member_drop_of(MP_COMMAND_CONSUMER_DROP, station_id, member, connection);
        break;
    case 10:
        c = user_of(pick(o, model_users), hashes[model_random(o, 3)]);
        break;
    default:
        c = user_drop_of(pick(o, model_users));
    }
    c.time_ns = model_random(o, 1000000);
    return c;
}

/* Fills missing texts as the catalogue does. */
static inline void model_normalise(struct mp_command *c)
{
    if (c->kind == MP_COMMAND_PRODUCER_ADD)
        c->u.producer.app_id = "";
    if (c->kind == MP_COMMAND_CONSUMER_ADD)
        c->u.consumer.app_id = c->u.consumer.sdk = c->u.consumer.user = "";
}

/* One random command in both; the results must agree. */
static inline void model_step(struct model *o, struct world *w)
{
    struct mp_command c = model_random_command(o, w->meta);

    memphis_status is = world_do(w, &c);
    model_normalise(&c);
    memphis_status expected = model_do(o, &c);
    assert_int_equal(is, expected);
}

#endif
