/* Verbs about stations. */
#include "admin/admin_internal.h"
#include "base/enc.h"
#include "base/mem.h"
#include "base/status.h"
#include "base/str.h"
#include "broker/station.h"

#include <stdlib.h>

static const char *const retentions[] = { [MP_RETAIN_AGE] = "message_age_sec",
                                          [MP_RETAIN_MESSAGES] = "messages",
                                          [MP_RETAIN_BYTES] = "bytes",
                                          [MP_RETAIN_ACKED] = "ack_based" };
static const char *const storages[] = { [MP_STORAGE_FILE] = "file",
                                        [MP_STORAGE_MEMORY] = "memory" };

enum { LISTED_PARTITIONS_MAX = 10000 }; /* whose numbers are added up in one turn */

/* === The station that a verb is about === */

/* Its name. False: it was refused. */
static bool take_name(struct mp_admin_call *c, uint32_t needs, const char *verb)
{
    const char *name;
    memphis_error err;
    memphis_status st = mp_admin_text(c, "name", &name, &err);

    if (st == MEMPHIS_OK && strlen(name) > MP_NAME_MAX)
        st = mp_name_check(mp_slice_text(name), "Station", &err);
    if (st == MEMPHIS_OK) {
        memcpy(c->name, name, strlen(name) + 1);
        mp_fold_lower(c->name, strlen(name));
        st = mp_name_check(mp_slice_text(c->name), "Station", &err);
    }
    if (st == MEMPHIS_OK &&
        !mp_grants_station(c->grants, needs, mp_slice_text(c->name)))
        st = mp_fail(&err, MEMPHIS_DENIED, "user %s is not allowed to %s station %s",
                     c->actor, verb, c->name);
    if (st != MEMPHIS_OK)
        mp_admin_fail(c, st, err.message);
    return st == MEMPHIS_OK;
}

struct mp_station *mp_admin_station(struct mp_admin_call *c, uint32_t needs,
                                    const char *verb)
{
    struct mp_station *s;
    memphis_error err;

    if (!take_name(c, needs, verb))
        return NULL;
    s = mp_station_find(c->broker, mp_slice_text(c->name));
    if (s != NULL && mp_station_is_ready(s))
        return s;
    (void)mp_fail(&err, MEMPHIS_NOT_FOUND, "Station %s does not exist", c->name);
    mp_admin_fail(c, err.status, err.message);
    return NULL;
}

/* === Verbs === */

static memphis_status read_choice(const struct mp_admin_call *c, const char *key,
                                  const char *const *names, uint32_t count,
                                  uint32_t *out, memphis_error *err)
{
    const char *text = NULL;
    memphis_status st = mp_json_get_text(c->args, key, &text, err);

    for (uint32_t i = 0; i < count && st == MEMPHIS_OK && text != NULL; i++)
        if (strcmp(text, names[i]) == 0) {
            *out = i;
            return st;
        }
    if (st == MEMPHIS_OK && text != NULL)
        st = mp_fail(err, MEMPHIS_INVALID, "%s cannot be '%.40s'", key, text);
    return st;
}

static memphis_status read_number(const struct mp_admin_call *c, const char *key,
                                  uint64_t max, uint64_t *out, memphis_error *err)
{
    int64_t n = -1;
    memphis_status st = mp_json_get_int(c->args, key, &n, err);

    if (st != MEMPHIS_OK || mp_json_is_null(mp_json_get(c->args, key)))
        return st;
    if (n < 0 || (uint64_t)n > max)
        return mp_fail(err, MEMPHIS_INVALID, "%s is out of its range", key);
    *out = (uint64_t)n;
    return MEMPHIS_OK;
}

static memphis_status read_settings(const struct mp_admin_call *c,
                                    struct mp_station_settings *s, memphis_error *err)
{
    uint64_t partitions = 1;

    mp_station_settings_default(s);
    memphis_status st =
        read_choice(c, "retention_type", retentions, 4, &s->retention, err);
    if (st == MEMPHIS_OK)
        st = read_number(c, "retention_value", INT64_MAX, &s->retention_value, err);
    if (st == MEMPHIS_OK)
        st = read_choice(c, "storage_type", storages, 2, &s->storage, err);
    if (st == MEMPHIS_OK)
        st = read_number(c, "partitions_number", MP_PARTITIONS_MAX, &partitions, err);
    if (st == MEMPHIS_OK)
        st = read_number(c, "idempotency_window_in_ms", MP_IDEMPOTENCY_MAX_MS,
                         &s->idempotency_ms, err);
    if (st != MEMPHIS_OK)
        return st;
    s->partitions = (uint32_t)partitions;
    return mp_station_settings_check(s, c->name, err);
}

static void created(void *ctx, memphis_status status, const char *text)
{
    if (status == MEMPHIS_EXISTS)
        text = "there is a station of that name already";
    mp_admin_done(ctx, status, text);
}

void mp_admin_station_create(struct mp_admin_call *c)
{
    struct mp_station_settings settings;
    memphis_error err;

    if (!take_name(c, MP_MAY_WRITE, "create"))
        return;
    memphis_status st = read_settings(c, &settings, &err);
    if (st != MEMPHIS_OK)
        mp_admin_fail(c, st, err.message);
    else
        mp_station_create(c->broker, c->name, &settings, c->actor,
                          (struct mp_then){ created, c });
}

static void put_station(struct mp_json_writer *w, struct mp_station *s)
{
    const struct mp_station_settings *o = &s->settings;
    uint64_t messages = 0, bytes = 0;
    struct mp_log_stats st;

    for (uint32_t i = 0; i < o->partitions; i++) {
        mp_log_stats(mp_station_log(s), s->first_pid + i, &st);
        messages += st.messages;
        bytes += st.bytes;
    }
    char time[MP_TIME_TEXT_SIZE + 1];
    mp_time_text(s->created_ns, time);
    mp_json_object(w, NULL);
    mp_json_put_str(w, "name", s->name);
    mp_json_put_text(w, "created_at", mp_slice(time, MP_TIME_TEXT_SIZE));
    mp_json_put_uint(w, "partitions_number", o->partitions);
    mp_json_put_str(w, "retention_type", retentions[o->retention]);
    mp_json_put_uint(w, "retention_value", o->retention_value);
    mp_json_put_str(w, "storage_type", storages[o->storage]);
    mp_json_put_uint(w, "idempotency_window_in_ms", o->idempotency_ms);
    mp_json_put_str(w, "dls_station", o->dls_station);
    mp_json_put_uint(w, "total_messages", messages);
    mp_json_put_uint(w, "total_bytes", bytes);
    mp_json_object_end(w);
}

static bool is_shown(const struct mp_admin_call *c, const struct mp_station *s)
{
    return mp_station_is_ready(s) &&
           mp_grants_station(c->grants, MP_MAY_READ | MP_MAY_WRITE,
                             mp_slice_text(s->name));
}

/* Where the list goes on. False: it was refused; a station that the actor does not see
 * is as good as gone. */
static bool take_after(struct mp_admin_call *c, uint32_t *limit, uint32_t *at)
{
    const char *after = NULL;
    memphis_error err;
    memphis_status st = mp_admin_limit(c, limit, &err);

    if (st == MEMPHIS_OK)
        st = mp_json_get_text(c->args, "after", &after, &err);
    if (st != MEMPHIS_OK) {
        mp_admin_fail(c, st, err.message);
        return false;
    }
    if (after == NULL)
        return true;
    struct mp_station *s = mp_station_find(c->broker, mp_slice_text(after));
    if (s != NULL && is_shown(c, s) &&
        mp_station_behind(c->broker, mp_slice_text(after), at))
        return true;
    mp_admin_no_after(c);
    return false;
}

/* Those that the actor may read or write, in the order in which they were made. */
void mp_admin_station_list(struct mp_admin_call *c)
{
    struct mp_buf out = { 0 };
    struct mp_json_writer w = { .out = &out };
    struct mp_station *s;
    const char *last = NULL;
    uint32_t at = 0, limit, partitions = 0;

    if (!take_after(c, &limit, &at))
        return;
    mp_json_object(&w, NULL);
    mp_json_array(&w, "stations");
    while ((s = mp_station_next(c->broker, &at)) != NULL) {
        if (!is_shown(c, s))
            continue;
        if (limit-- == 0 || partitions >= LISTED_PARTITIONS_MAX)
            break;
        put_station(&w, s);
        partitions += s->settings.partitions;
        last = s->name;
    }
    mp_json_array_end(&w);
    mp_admin_put_next(&w, s != NULL ? last : NULL);
    mp_json_object_end(&w);
    mp_admin_finish(c, mp_buf_slice(&out));
    mp_buf_fini(&out);
}

void mp_admin_station_purge(struct mp_admin_call *c)
{
    struct mp_station *s = mp_admin_station(c, MP_MAY_WRITE, "purge");
    uint64_t partition = 0;
    memphis_error err;

    if (s == NULL)
        return;
    memphis_status st =
        read_number(c, "partition_number", MP_PARTITIONS_MAX, &partition, &err);
    if (st != MEMPHIS_OK)
        mp_admin_fail(c, st, err.message);
    else
        mp_station_purge(s, (uint32_t)partition, mp_admin_then_done(c));
}

static int by_number(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

    return x < y ? -1 : x > y;
}

/* Ascending, each once. */
static memphis_status read_sequences(const struct mp_admin_call *c, uint64_t *seqs,
                                     size_t *count, memphis_error *err)
{
    const struct mp_json_value *list = mp_json_get(c->args, "sequences");
    size_t n = mp_json_count(list), kept = 0;

    if (n == 0 || n > MP_STREAM_REMOVALS_MAX)
        return mp_fail(err, MEMPHIS_INVALID, "sequences must be a list of 1 to %d",
                       MP_STREAM_REMOVALS_MAX);
    for (size_t i = 0; i < n; i++) {
        int64_t seq = 0;

        if (mp_json_get_int(mp_json_at(list, i), NULL, &seq, NULL) != MEMPHIS_OK ||
            seq <= 0)
            return mp_fail(err, MEMPHIS_INVALID, "sequences must be whole numbers");
        seqs[i] = (uint64_t)seq;
    }
    qsort(seqs, n, sizeof(*seqs), by_number);
    for (size_t i = 0; i < n; i++)
        if (kept == 0 || seqs[kept - 1] != seqs[i])
            seqs[kept++] = seqs[i];
    *count = kept;
    return MEMPHIS_OK;
}

void mp_admin_message_remove(struct mp_admin_call *c)
{
    struct mp_station *s = mp_admin_station(c, MP_MAY_WRITE, "remove messages of");
    uint64_t partition = 1, *seqs;
    size_t n = 0;
    memphis_error err;

    if (s == NULL)
        return;
    seqs = mp_alloc(MP_STREAM_REMOVALS_MAX * sizeof(*seqs));
    memphis_status st =
        read_number(c, "partition_number", MP_PARTITIONS_MAX, &partition, &err);
    if (st == MEMPHIS_OK)
        st = read_sequences(c, seqs, &n, &err);
    if (st != MEMPHIS_OK)
        mp_admin_fail(c, st, err.message);
    else
        mp_station_remove_messages(s, (uint32_t)partition, seqs, n,
                                   mp_admin_then_done(c));
    mp_free(seqs);
}

void mp_admin_station_remove(struct mp_admin_call *c)
{
    struct mp_station *s = mp_admin_station(c, MP_MAY_WRITE, "remove");

    if (s != NULL)
        mp_station_drop(c->broker, s, c->actor, mp_admin_then_done(c));
}

/* === What dead letters do === */

struct dls_call {
    struct mp_admin_call *call;
    char dls_station[MP_NAME_MAX + 1];
};

/* The station for the copies is there, if one is wanted. */
static void set_dls(void *ctx, memphis_status status, const char *text)
{
    struct dls_call *d = ctx;
    struct mp_admin_call *c = d->call;
    struct mp_station *s = mp_station_find(c->broker, mp_slice_text(c->name));
    memphis_error err;

    if (status == MEMPHIS_OK && (s == NULL || !mp_station_is_ready(s)))
        status = mp_fail(&err, MEMPHIS_NOT_FOUND, "Station %s does not exist", c->name);
    if (status != MEMPHIS_OK) {
        mp_admin_fail(c, status, text[0] != 0 ? text : err.message);
    } else {
        struct mp_station_settings settings = s->settings;
        (void)mp_json_get_bool(c->args, "poison", &settings.dls_poison, NULL);
        (void)mp_json_get_bool(c->args, "schemaverse", &settings.dls_schema, NULL);
        if (mp_json_get(c->args, "dls_station") != NULL)
            settings.dls_station = d->dls_station;
        mp_station_change(s, &settings, mp_admin_then_done(c));
    }
    mp_free(d);
}

static memphis_status read_dls(struct mp_admin_call *c, struct dls_call *d,
                               memphis_error *err)
{
    bool flag;
    const char *name = NULL;
    memphis_status st = mp_json_get_bool(c->args, "poison", &flag, err);

    if (st == MEMPHIS_OK)
        st = mp_json_get_bool(c->args, "schemaverse", &flag, err);
    if (st == MEMPHIS_OK)
        st = mp_json_get_text(c->args, "dls_station", &name, err);
    if (st != MEMPHIS_OK || name == NULL || name[0] == 0)
        return st;
    if (strlen(name) > MP_NAME_MAX)
        return mp_name_check(mp_slice_text(name), "Station", err);
    memcpy(d->dls_station, name, strlen(name) + 1);
    mp_fold_lower(d->dls_station, strlen(name));
    st = mp_name_check(mp_slice_text(d->dls_station), "Station", err);
    if (st == MEMPHIS_OK && strcmp(d->dls_station, c->name) == 0)
        st = mp_fail(err, MEMPHIS_INVALID, "a station keeps no copies for itself");
    if (st == MEMPHIS_OK && !mp_grants_station(c->grants, MP_MAY_WRITE,
                                               mp_slice_text(d->dls_station)))
        st = mp_fail(err, MEMPHIS_DENIED, "user %s is not allowed to access station %s",
                     c->actor, d->dls_station);
    return st;
}

void mp_admin_station_set_dls(struct mp_admin_call *c)
{
    struct mp_station *s = mp_admin_station(c, MP_MAY_WRITE, "change");
    struct dls_call *d;
    memphis_error err;

    if (s == NULL)
        return;
    d = mp_alloc(sizeof(*d));
    d->call = c;
    memphis_status st = read_dls(c, d, &err);
    if (st != MEMPHIS_OK) {
        mp_free(d);
        mp_admin_fail(c, st, err.message);
    } else if (d->dls_station[0] != 0) {
        mp_station_ensure(c->broker, d->dls_station, true, c->actor,
                          (struct mp_then){ set_dls, d });
    } else {
        set_dls(d, MEMPHIS_OK, "");
    }
}
