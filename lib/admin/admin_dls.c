/* Verbs about dead letters (broker-semantics 5). */
#include "admin/admin_internal.h"
#include "base/enc.h"
#include "base/status.h"
#include "base/str.h"
#include "broker/dls.h"

enum { IDS_MAX = 100000 };

static const char *const reasons[] = { "", "unacked", "nacked", "schema" };

/* === The letters that a verb is about === */

/* `ids`, or `all` true. */
struct ids {
    uint32_t *items;
    size_t count;
    bool is_all;
};

static memphis_status read_ids(const struct mp_admin_call *c, struct ids *out,
                               memphis_error *err)
{
    const struct mp_json_value *list = mp_json_get(c->args, "ids");
    bool has_ids = !mp_json_is_null(list);

    *out = (struct ids){ 0 };
    memphis_status st = mp_json_get_bool(c->args, "all", &out->is_all, err);
    if (st == MEMPHIS_OK && out->is_all == has_ids)
        st = mp_fail(err, MEMPHIS_INVALID, "say ids: [..], or all: true");
    if (st != MEMPHIS_OK || out->is_all)
        return st;
    size_t count = mp_json_count(list);
    if (!mp_json_is_array(list) || count > IDS_MAX)
        return mp_fail(err, MEMPHIS_INVALID, "ids must be a list of at most %d numbers",
                       IDS_MAX);
    out->items = mp_realloc(NULL, (count + 1) * sizeof *out->items);
    for (size_t i = 0; i < count && st == MEMPHIS_OK; i++) {
        int64_t id = 0;
        st = mp_json_get_int(mp_json_at(list, i), NULL, &id, err);
        if (st == MEMPHIS_OK && (id < 1 || id > INT32_MAX))
            st = mp_fail(err, MEMPHIS_INVALID, "an id is a number from 1 to %d",
                         INT32_MAX);
        out->items[out->count++] = (uint32_t)id;
    }
    return st;
}

static void ids_fini(struct ids *ids)
{
    mp_free(ids->items);
}

/* The station and the ids; NULL: it was refused. */
static struct mp_station *take(struct mp_admin_call *c, uint32_t needs,
                               const char *verb, struct ids *ids)
{
    struct mp_station *s = mp_admin_station(c, needs, verb);
    memphis_error err;

    *ids = (struct ids){ 0 };
    if (s != NULL && read_ids(c, ids, &err) != MEMPHIS_OK) {
        mp_admin_fail(c, MEMPHIS_INVALID, err.message);
        ids_fini(ids);
        return NULL;
    }
    return s;
}

/* === Verbs === */

static void put_row(struct mp_json_writer *w, const struct mp_dead_row *row)
{
    const struct mp_broker *b = row->station->broker;
    char time[MP_TIME_TEXT_SIZE + 1];

    mp_time_text(mp_wall_of(&b->streams.wall, row->updated_ns), time);
    mp_json_object(w, NULL);
    mp_json_put_uint(w, "id", row->id);
    mp_json_put_str(w, "reason", reasons[row->reason <= 3 ? row->reason : 0]);
    mp_json_put_uint(w, "partition",
                     row->pid > 0 ? row->pid - row->station->first_pid + 1 : 0);
    mp_json_put_uint(w, "message_seq", row->seq);
    mp_json_put_uint(w, "deliveries", row->deliveries);
    mp_json_put_text(w, "updated_at", mp_slice(time, MP_TIME_TEXT_SIZE));
    mp_json_put_str(w, "error", row->text != NULL ? row->text : "");
    mp_json_array(w, "poisoned_cgs");
    for (uint32_t i = 0; i < row->gids_count; i++) {
        const struct mp_stream_group *g = mp_dls_group(row, i);
        char name[MP_NAME_MAX + 1];
        if (g == NULL)
            continue;
        mp_format(name, sizeof name, "%s", g->name);
        mp_name_external(name, strlen(name));
        mp_json_put_str(w, NULL, name);
    }
    mp_json_array_end(w);
    mp_json_object_end(w);
}

/* The letter behind which the list goes on; NULL: from the start. False: it was
 * refused. */
static bool take_after(struct mp_admin_call *c, struct mp_station *s, uint32_t *limit,
                       struct mp_dead_row **row)
{
    int64_t after = 0;
    memphis_error err;
    memphis_status st = mp_admin_limit(c, limit, &err);

    *row = NULL;
    if (st == MEMPHIS_OK)
        st = mp_json_get_int(c->args, "after", &after, &err);
    if (st != MEMPHIS_OK) {
        mp_admin_fail(c, st, err.message);
        return false;
    }
    if (mp_json_is_null(mp_json_get(c->args, "after")))
        return true;
    if (after >= 1 && after <= INT32_MAX)
        *row = mp_dls_find(c->broker, (uint32_t)after);
    if (*row != NULL && (*row)->station == s)
        return true;
    mp_admin_no_after(c);
    return false;
}

/* Oldest change first; `total` says how many there are. */
void mp_admin_dls_list(struct mp_admin_call *c)
{
    struct mp_station *s = mp_admin_station(c, MP_MAY_READ, "access");
    struct mp_buf out = { 0 };
    struct mp_json_writer w = { .out = &out };
    struct mp_dead_row *row, *next;
    uint32_t limit;

    if (s == NULL || !take_after(c, s, &limit, &row))
        return;
    struct mp_resend_progress resend;
    mp_dls_resend_progress(s, &resend);
    mp_json_object(&w, NULL);
    mp_json_array(&w, "letters");
    while ((next = mp_dls_next(s, row)) != NULL && limit-- > 0)
        put_row(&w, row = next);
    mp_json_array_end(&w);
    if (next != NULL)
        mp_json_put_uint(&w, "next", row->id);
    else
        mp_json_put_null(&w, "next");
    mp_json_put_uint(&w, "total", s->dead_count);
    mp_json_object(&w, "resend");
    mp_json_put_bool(&w, "is_running", resend.is_running);
    mp_json_put_uint(&w, "done", resend.done);
    mp_json_put_uint(&w, "total", resend.total);
    mp_json_object_end(&w);
    mp_json_object_end(&w);
    mp_admin_finish(c, mp_buf_slice(&out));
    mp_buf_fini(&out);
}

void mp_admin_dls_resend(struct mp_admin_call *c)
{
    struct ids ids;
    struct mp_station *s = take(c, MP_MAY_READ, "access", &ids);

    if (s == NULL)
        return;
    if (ids.is_all)
        mp_dls_resend_all(s, mp_admin_then_done(c));
    else
        mp_admin_done(c, mp_dls_resend(s, ids.items, ids.count),
                      "too many letters wait to be resent: try again");
    ids_fini(&ids);
}

void mp_admin_dls_drop(struct mp_admin_call *c)
{
    struct ids ids;
    struct mp_station *s = take(c, MP_MAY_WRITE, "access", &ids);

    if (s == NULL)
        return;
    if (ids.is_all)
        mp_dls_drop_all(s, mp_admin_then_done(c));
    else
        mp_dls_drop(s, ids.items, ids.count, mp_admin_then_done(c));
    ids_fini(&ids);
}
