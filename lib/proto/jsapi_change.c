/* Streams that NATS clients make, change and remove; messages that they remove. What
 * belongs to a Memphis station is changed by the Memphis requests, but its messages may
 * be removed here, too. */
#include "proto/jsapi_internal.h"

#include "base/assert.h"
#include "base/mem.h"
#include "base/status.h"
#include "broker/permission.h"
#include "stream/nats.h"

#include <inttypes.h>

static const struct mp_jsapi_error
    name_in_use = { 400, 10058,
                    "stream name already in use with a different configuration" },
    overlap = { 400, 10065, "subjects overlap with an existing stream" },
    wrong_name = { 400, 10056, "stream name in subject does not match request" },
    not_nats = { 500, 10052,
                 "a partition of a Memphis station is changed by the requests of a "
                 "Memphis SDK" },
    not_granted = { 500, 10052,
                    "the user is not allowed to read and write these subjects" },
    no_purge = { 500, 10110, "stream purge not permitted" },
    no_delete = { 500, 10057, "message delete not permitted" },
    beyond_end = { 500, 10057, "stream store EOF" };

static void fail_text(struct mp_jsapi_call *c, int code, int err_code, const char *text)
{
    struct mp_jsapi_error e = { code, err_code, text };

    mp_jsapi_fail(c, &e);
}

/* === Create and update === */

/* 3.8: upper case is allowed, as nats-server's own streams need it ("KV_..."). */
static const char *bad_name(memphis_slice name)
{
    const char *p = name.data;

    if (name.size == 0)
        return "stream name can not be empty";
    if (name.size >= MP_NAME_MAX)
        return "stream name should be under 128 characters";
    for (size_t i = 0; i < name.size; i++) {
        bool is_plain = (p[i] >= '0' && p[i] <= '9') || (p[i] >= 'a' && p[i] <= 'z') ||
                        (p[i] >= 'A' && p[i] <= 'Z');
        if (!is_plain && p[i] != '_' && p[i] != '-')
            return "only alphanumeric and the '_', '-' characters are allowed in "
                   "stream "
                   "name";
        if (!is_plain && (i == 0 || i + 1 == name.size))
            return "stream name can not start or end with non alphanumeric character";
    }
    return NULL;
}

static bool collides(const struct mp_jsapi_call *c, const struct mp_nats_config *config)
{
    struct mp_list *all = &c->broker->all_streams;

    for (struct mp_list *l = all->next; l != all; l = l->next) {
        const struct mp_stream *s = mp_container_of(l, struct mp_stream, node);
        char pattern[MP_NAME_MAX + 16];
        size_t size = mp_format(pattern, sizeof(pattern), "%s.>", s->name);

        if (s->nats == NULL) {
            if (mp_nats_config_overlaps(config, mp_slice(pattern, size)))
                return true;
            continue;
        }
        if (strcmp(s->name, config->name) == 0)
            continue;
        for (uint32_t i = 0; i < config->subjects_count; i++)
            if (mp_nats_config_overlaps(s->nats->config,
                                        mp_slice_text(config->subjects[i])))
                return true;
    }
    return false;
}

static bool is_granted(const struct mp_jsapi_call *c,
                       const struct mp_nats_config *config)
{
    for (uint32_t i = 0; i < config->subjects_count; i++) {
        memphis_slice subject = mp_slice_text(config->subjects[i]);

        if (!mp_grants_subject(c->grants, true, subject) ||
            !mp_grants_subject(c->grants, false, subject)) /* a stream can be read */
            return false;
    }
    return true;
}

static void changed(void *ctx, memphis_status st, const char *text)
{
    struct mp_jsapi_command *k = ctx;
    struct mp_jsapi_call c = mp_jsapi_command_call(k);
    struct mp_stream *s = mp_jsapi_stream(&c);

    (void)text;
    if (st == MEMPHIS_EXISTS) {
        mp_jsapi_fail(&c, &name_in_use);
    } else if (st != MEMPHIS_OK || s == NULL) {
        mp_jsapi_fail(&c, &mp_jsapi_unavailable);
    } else {
        mp_jsapi_begin(&c);
        mp_jsapi_put_stream(&c.w, c.broker, s, false);
        if (strcmp(c.row->prefix, "STREAM.CREATE") == 0)
            mp_json_put_bool(&c.w, "did_create", true);
        mp_jsapi_send(&c);
    }
    mp_free(k);
}

static void create(struct mp_jsapi_call *c, const struct mp_nats_config *config)
{
    struct mp_jsapi_command *k = mp_jsapi_command_new(c, c->stream, MP_STR(""));
    struct mp_station_settings settings;
    char name[MP_NAME_MAX + 1];

    mp_station_settings_nats(config, &settings);
    mp_format(name, sizeof(name), "%s", config->name);
    mp_fold_lower(name, strlen(name));
    mp_station_create(c->broker, name, &settings, c->user != NULL ? c->user : "root",
                      (struct mp_then){ changed, k });
}

/* There is a station of that name. */
static void create_again(struct mp_jsapi_call *c, const struct mp_stream *s,
                         const struct mp_nats_config *config)
{
    if (s != NULL && s->nats != NULL && strcmp(s->settings.nats, config->text) == 0)
        changed(mp_jsapi_command_new(c, c->stream, MP_STR("")), MEMPHIS_OK, "");
    else
        mp_jsapi_fail(c, &name_in_use);
}

static void update(struct mp_jsapi_call *c, struct mp_stream *s,
                   const struct mp_nats_config *config)
{
    struct mp_station *station = mp_station_find(c->broker, c->stream);
    struct mp_station_settings settings;
    const char *fixed;

    mp_assert(station != NULL && mp_station_is_ready(station));
    fixed = mp_nats_config_fixed(s->nats->config, config);
    if (fixed != NULL) {
        fail_text(c, 500, 10052, fixed);
        return;
    }
    mp_station_settings_nats(config, &settings);
    mp_station_change(
        station, &settings,
        (struct mp_then){ changed, mp_jsapi_command_new(c, c->stream, MP_STR("")) });
}

static void refuse_config(struct mp_jsapi_call *c, const memphis_error *err)
{
    if (strstr(err->message, "replicas") != NULL)
        fail_text(c, 500, 10074, err->message);
    else
        fail_text(c, err->status == MEMPHIS_UNSUPPORTED ? 500 : 400, 10052,
                  err->message);
}

static void create_or_update(struct mp_jsapi_call *c,
                             const struct mp_nats_config *config)
{
    bool is_update = strcmp(c->row->prefix, "STREAM.UPDATE") == 0;
    struct mp_station *station = mp_station_find(c->broker, c->stream);
    struct mp_stream *s = mp_broker_stream(c->broker, c->stream);

    if (!mp_slice_equal(mp_slice_text(config->name), c->stream))
        mp_jsapi_fail(c, &wrong_name);
    else if (bad_name(c->stream) != NULL)
        fail_text(c, 500, 10049, bad_name(c->stream));
    else if (is_update && s == NULL)
        mp_jsapi_fail(c, &mp_jsapi_stream_not_found);
    else if (!is_granted(c, config))
        mp_jsapi_fail(c, &not_granted);
    else if (!is_update && station != NULL && !station->dropping)
        create_again(c, s, config);
    else if (collides(c, config))
        mp_jsapi_fail(c, &overlap);
    else if (is_update)
        update(c, s, config);
    else
        create(c, config);
}

bool mp_jsapi_stream_create(struct mp_jsapi_call *c)
{
    struct mp_stream *s = mp_jsapi_stream(c);
    struct mp_json *doc = NULL;
    struct mp_nats_config *config = NULL;
    memphis_error err;

    if (mp_json_parse(c->body, &doc, NULL) != MEMPHIS_OK ||
        !mp_json_is_object(mp_json_root(doc)))
        mp_jsapi_fail(c, &mp_jsapi_invalid_json);
    else if (s != NULL && s->nats == NULL)
        mp_jsapi_fail(c, &not_nats);
    else if (mp_nats_config_read(mp_json_root(doc), &config, &err) != MEMPHIS_OK)
        refuse_config(c, &err);
    else
        create_or_update(c, config);
    mp_nats_config_free(config);
    mp_json_free(doc);
    return true;
}

/* === Delete === */

static void succeeded(void *ctx, memphis_status st, const char *text)
{
    struct mp_jsapi_command *k = ctx;
    struct mp_jsapi_call c = mp_jsapi_command_call(k);

    (void)text;
    if (st == MEMPHIS_NOT_FOUND) {
        mp_jsapi_fail(&c, &mp_jsapi_stream_not_found);
    } else if (st != MEMPHIS_OK) {
        mp_jsapi_fail(&c, &mp_jsapi_unavailable);
    } else {
        mp_jsapi_begin(&c);
        mp_json_put_bool(&c.w, "success", true);
        mp_jsapi_send(&c);
    }
    mp_free(k);
}

bool mp_jsapi_stream_delete(struct mp_jsapi_call *c)
{
    struct mp_stream *s = mp_jsapi_stream(c);
    struct mp_station *station =
        s != NULL && s->nats != NULL ? mp_station_find(c->broker, c->stream) : NULL;

    if (s == NULL)
        mp_jsapi_fail(c, &mp_jsapi_stream_not_found);
    else if (station == NULL)
        mp_jsapi_fail(c, &not_nats);
    else
        mp_station_drop(c->broker, station, c->user,
                        (struct mp_then){ succeeded, mp_jsapi_command_new(
                                                         c, c->stream, MP_STR("")) });
    return true;
}

/* The station that a stream belongs to, and which partition it is. */
static struct mp_station *station_of(const struct mp_jsapi_call *c,
                                     const struct mp_stream *s)
{
    struct mp_station_row *row =
        mp_meta_station_by_id(c->broker->meta, s->settings.station_id);

    return row != NULL ? mp_station_find(c->broker, mp_slice_text(row->name)) : NULL;
}

/* === MSG.DELETE === */

bool mp_jsapi_message_delete(struct mp_jsapi_call *c)
{
    struct mp_stream *s = mp_jsapi_stream(c);
    struct mp_json *doc = NULL;
    int64_t seq = 0;
    uint64_t last = s != NULL ? mp_log_last(s->log, s->pid) : 0;
    char text[48];

    if (s == NULL) {
        mp_jsapi_fail(c, &mp_jsapi_stream_not_found);
    } else if (mp_json_parse(c->body, &doc, NULL) != MEMPHIS_OK ||
               mp_json_get_int(mp_json_root(doc), "seq", &seq, NULL) != MEMPHIS_OK) {
        mp_jsapi_fail(c, &mp_jsapi_invalid_json);
    } else if (s->nats != NULL && s->nats->config->deny_delete) {
        mp_jsapi_fail(c, &no_delete);
    } else if (seq > 0 && (uint64_t)seq > last) {
        mp_jsapi_fail(c, &beyond_end);
    } else if (seq <= 0 || !mp_log_has(s->log, s->pid, (uint64_t)seq)) {
        mp_format(text, sizeof(text), "sequence %" PRId64 " not found", seq);
        fail_text(c, 400, 10043, text);
    } else {
        uint64_t one = (uint64_t)seq;

        mp_station_remove_messages(
            station_of(c, s), s->settings.number, &one, 1,
            (struct mp_then){ succeeded,
                              mp_jsapi_command_new(c, c->stream, MP_STR("")) });
    }
    mp_json_free(doc);
    return true;
}

/* === PURGE === */

struct purge {
    struct mp_scan scan; /* first; forwards for a filter, backwards to count `keep` */
    struct mp_jsapi_command *command;
    uint64_t keep;
    char *filter;   /* NULL: all subjects */
    uint64_t *seqs; /* with a filter: what matches */
    size_t count, capacity;
    uint64_t floor; /* without: the first one that stays */
    uint32_t station_id, number;
};

static void purged(void *ctx, memphis_status st, const char *text)
{
    struct mp_jsapi_command *k = ctx;
    struct mp_jsapi_call c = mp_jsapi_command_call(k);
    struct mp_stream *s = mp_jsapi_stream(&c);
    struct mp_log_stats now;

    (void)text;
    if (st != MEMPHIS_OK || s == NULL) {
        mp_jsapi_fail(&c,
                      s == NULL ? &mp_jsapi_stream_not_found : &mp_jsapi_unavailable);
    } else {
        mp_log_stats(s->log, s->pid, &now);
        mp_jsapi_begin(&c);
        mp_json_put_bool(&c.w, "success", true);
        mp_json_put_uint(&c.w, "purged",
                         k->before.messages + (now.last_seq - k->before.last_seq) -
                             now.messages);
        mp_jsapi_send(&c);
    }
    mp_free(k);
}

static bool collect(struct mp_scan *scan, const struct mp_stored *m)
{
    struct purge *p = (struct purge *)(void *)scan;

    if (p->count == p->capacity) {
        p->capacity = p->capacity > 0 ? p->capacity * 2 : 64;
        p->seqs = mp_realloc(p->seqs, p->capacity * sizeof(*p->seqs));
    }
    p->seqs[p->count++] = m->entry.seq;
    return true;
}

static bool count_back(struct mp_scan *scan, const struct mp_stored *m)
{
    struct purge *p = (struct purge *)(void *)scan;

    p->floor = m->entry.seq;
    return --p->keep > 0;
}

/* One operation for all entries: the answer comes with the last. */
static void append_entry(struct mp_operation *op, struct mp_stream *s, uint8_t type,
                         uint64_t seq, const struct mp_buf *payload)
{
    struct mp_entry e = { .type = type,
                          .pid = s->pid,
                          .seq = seq,
                          .time_ns = *s->host->now_ns,
                          .payload = mp_buf_slice(payload) };
    memphis_status st = mp_log_append(s->log, &e, 1, mp_operation_tag(op));

    if (st != MEMPHIS_OK) {
        mp_operation_fail(op, st, "the messages could not be removed");
        mp_operation_done(op);
    }
}

static void remove_them(struct mp_operation *op, struct mp_stream *s, struct purge *p)
{
    struct mp_buf payload = { 0 };

    if (p->filter == NULL && p->floor > 0) {
        mp_stream_floor_encode(p->floor, &payload);
        append_entry(op, s, MP_ENTRY_FLOOR, 0, &payload);
    }
    p->count -= p->keep < p->count ? (size_t)p->keep : p->count;
    for (size_t i = 0; i < p->count; i += MP_STREAM_REMOVALS_MAX) {
        size_t n = p->count - i;

        n = n < MP_STREAM_REMOVALS_MAX ? n : MP_STREAM_REMOVALS_MAX;
        mp_buf_clear(&payload);
        mp_stream_removal_encode(p->seqs + i, n, &payload);
        append_entry(op, s, MP_ENTRY_DELETE, p->seqs[i], &payload);
    }
    mp_buf_fini(&payload);
}

static void found(struct mp_scan *scan, memphis_status st)
{
    struct purge *p = (struct purge *)(void *)scan;
    struct mp_operation *op;

    if (p->filter == NULL && p->keep > 0)
        p->floor = 0; /* fewer than are to be kept */
    if (st == MEMPHIS_OK) {
        op = mp_operation_new(p->command->broker,
                              (struct mp_then){ purged, p->command });
        remove_them(op, scan->stream, p);
        mp_operation_done(op);
    } else if (st == MEMPHIS_NOT_FOUND) {
        purged(p->command, st, "");
    } else {
        mp_free(p->command);
    }
    mp_free(p->filter);
    mp_free(p->seqs);
    mp_free(p);
}

static void purge(struct mp_jsapi_call *c, struct mp_stream *s, const char *filter,
                  uint64_t keep, uint64_t seq)
{
    struct purge *p = mp_alloc(sizeof(*p));
    uint64_t last = mp_log_last(s->log, s->pid), end = last + 1;

    if (seq > 0 && seq < end)
        end = seq;
    p->command = mp_jsapi_command_new(c, mp_slice(s->name, s->name_size), MP_STR(""));
    mp_log_stats(s->log, s->pid, &p->command->before);
    p->keep = keep;
    p->floor = end;
    p->scan = (struct mp_scan){
        .stream = s, .at = 1, .end = 1, .each = collect, .done = found
    };
    if (filter != NULL && filter[0] != 0) {
        p->filter = mp_strdup(filter);
        p->scan.filter = mp_slice_text(p->filter);
        p->scan.at = mp_log_first(s->log, s->pid);
        p->scan.end = end;
    } else if (keep > 0) {
        p->scan.backwards = true;
        p->scan.at = last;
        p->scan.end = 1;
        p->scan.each = count_back;
    }
    mp_scan_start(&p->scan);
}

bool mp_jsapi_stream_purge(struct mp_jsapi_call *c)
{
    struct mp_stream *s = mp_jsapi_stream(c);
    struct mp_json *doc = NULL;
    const struct mp_json_value *v = NULL;
    const char *filter = NULL;
    int64_t keep = 0, seq = 0;
    bool bad = false;

    if (c->body.size > 0) {
        bad = mp_json_parse(c->body, &doc, NULL) != MEMPHIS_OK;
        v = bad ? NULL : mp_json_root(doc);
        bad = bad || mp_json_get_text(v, "filter", &filter, NULL) != MEMPHIS_OK ||
              mp_json_get_int(v, "keep", &keep, NULL) != MEMPHIS_OK ||
              mp_json_get_int(v, "seq", &seq, NULL) != MEMPHIS_OK;
    }
    if (s == NULL)
        mp_jsapi_fail(c, &mp_jsapi_stream_not_found);
    else if (bad)
        mp_jsapi_fail(c, &mp_jsapi_invalid_json);
    else if ((keep > 0 && seq > 0) || keep < 0 || seq < 0 ||
             (filter != NULL && filter[0] != 0 &&
              !mp_subject_is_valid(mp_slice_text(filter))))
        mp_jsapi_fail(c, &mp_jsapi_bad_request);
    else if (s->nats != NULL && s->nats->config->deny_purge)
        mp_jsapi_fail(c, &no_purge);
    else
        purge(c, s, filter, (uint64_t)keep, (uint64_t)seq);
    mp_json_free(doc);
    return true;
}
