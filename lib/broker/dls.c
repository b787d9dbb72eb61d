#include "broker/dls.h"

#include "base/assert.h"
#include "base/limits.h"
#include "base/status.h"
#include "base/str.h"
#include "broker/client.h"
#include "broker/dls_head.h"
#include "broker/dls_internal.h"

#include <inttypes.h>

enum { ENTRY_SIZE = 40 }; /* of an entry in the log, before headers and payload */

/* Somebody who wants to read a letter. */
struct reading {
    struct mp_list node;
    uint32_t id;
    mp_dls_read_fn fn;
    void *ctx;
};

struct mp_letters *mp_letters_of(struct mp_dls *d, const struct mp_log *log)
{
    return log == d->broker->memory_log ? &d->memory : &d->data;
}

/* === Rows === */

struct place {
    uint64_t shard, at;
};

/* The key lies in the row: `at` behind the shard. */
static memphis_slice place_key(const struct place *p)
{
    return mp_slice(p, sizeof(*p));
}

struct row {
    struct mp_dead_row public; /* first */
    struct place place;
};

static struct mp_dead_row *row_at(const struct mp_dls *d, const struct mp_log *log,
                                  uint64_t at)
{
    struct place p = { log->shard, at };

    return mp_map_find(&d->by_place, place_key(&p));
}

static struct mp_dead_row *row_of_message(const struct mp_dls *d, uint32_t pid,
                                          uint64_t seq)
{
    uint64_t key[2] = { pid, seq };

    return pid > 0 ? mp_map_find(&d->by_message, mp_slice(key, sizeof(key))) : NULL;
}

static struct mp_dead_row *row_new(struct mp_dls *d, struct mp_log *log, uint32_t id,
                                   uint32_t pid, uint64_t seq)
{
    struct row *r = mp_alloc(sizeof(*r));
    struct mp_dead_row *row = &r->public;

    row->id = id;
    row->pid = pid;
    row->seq = seq;
    row->log = log;
    row->key.pid = pid;
    row->key.seq = seq;
    mp_map_put(&d->by_id, mp_slice(&row->id, sizeof(row->id)), row);
    if (pid > 0)
        mp_map_put(&d->by_message, mp_slice(&row->key, sizeof(row->key)), row);
    return row;
}

static void leave_place(struct mp_dls *d, struct mp_dead_row *row)
{
    struct row *r = (struct row *)(void *)row;

    if (row->at > 0)
        mp_map_remove(&d->by_place, place_key(&r->place));
    if (mp_list_is_linked(&row->of_log)) {
        mp_letters_of(d, row->log)->count--;
        mp_letters_of(d, row->log)->bytes -= row->size;
    }
    mp_list_remove(&row->of_log);
    if (row->station == NULL || !mp_list_is_linked(&row->of_station))
        return;
    mp_resend_row_leaves(row);
    mp_list_remove(&row->of_station);
    row->station->dead_count--;
}

static void row_free(struct mp_dls *d, struct mp_dead_row *row)
{
    d->changing -= row->is_changing;
    leave_place(d, row);
    mp_map_remove(&d->by_id, mp_slice(&row->id, sizeof(row->id)));
    if (row->pid > 0)
        mp_map_remove(&d->by_message, mp_slice(&row->key, sizeof(row->key)));
    mp_free(row->gids);
    mp_free(row->text);
    mp_free(row);
}

static void set_place(struct mp_dls *d, struct mp_dead_row *row, uint64_t at)
{
    struct row *r = (struct row *)(void *)row;
    struct mp_letters *l = mp_letters_of(d, row->log);

    leave_place(d, row);
    row->at = at;
    r->place = (struct place){ row->log->shard, at };
    mp_map_put(&d->by_place, place_key(&r->place), row);
    mp_list_push_back(&l->rows, &row->of_log);
    l->count++;
    l->bytes += row->size;
    if (row->station == NULL)
        return;
    mp_list_push_back(&row->station->dead, &row->of_station);
    row->station->dead_count++;
}

static bool has_gid(const struct mp_dead_row *row, uint32_t gid)
{
    for (uint32_t i = 0; i < row->gids_count; i++)
        if (row->gids[i] == gid)
            return true;
    return false;
}

static void remove_gid(struct mp_dead_row *row, uint32_t gid)
{
    uint32_t kept = 0;

    for (uint32_t i = 0; i < row->gids_count; i++)
        if (row->gids[i] != gid)
            row->gids[kept++] = row->gids[i];
    row->gids_count = kept;
}

struct mp_stream_group *mp_dls_group(const struct mp_dead_row *row, uint32_t i)
{
    struct mp_stream *s =
        row->station != NULL
            ? mp_broker_stream_by_pid(row->station->broker, row->pid)
            : NULL;

    return s != NULL && i < row->gids_count
               ? mp_stream_group_by_gid(s, row->gids[i])
               : NULL;
}

struct mp_dead_row *mp_dls_find(struct mp_broker *b, uint32_t id)
{
    struct mp_dead_row *row = mp_map_find(&b->dls->by_id, mp_slice(&id, sizeof(id)));

    return row != NULL && row->at > 0 ? row : NULL;
}

struct mp_dead_row *mp_dls_next(struct mp_station *s, struct mp_dead_row *after)
{
    struct mp_list *l = after != NULL ? after->of_station.next : s->dead.next;

    return l == &s->dead ? NULL
                         : mp_container_of(l, struct mp_dead_row, of_station);
}

struct mp_dead_row *mp_dls_behind(struct mp_station *s,
                                  const struct mp_dead_place *seen, size_t n)
{
    struct mp_dead_row *row = NULL;
    uint64_t at = n > 0 ? seen[n - 1].at : 0;

    while (n > 0 && row == NULL) {
        n--;
        row = mp_dls_find(s->broker, seen[n].id);
        if (row != NULL && (row->station != s || row->at != seen[n].at))
            row = NULL;
    }
    do
        row = mp_dls_next(s, row);
    while (row != NULL && row->at <= at);
    return row;
}

bool mp_dls_is_closing(const struct mp_broker *b)
{
    return b->dls->is_closing;
}

/* === Making letters === */

static uint32_t new_id(const struct mp_letters *l)
{
    uint32_t memory = l->log->shard == MP_SHARD_MEMORY;

    return ((uint32_t)(l->proposed_last + 1) << 1 | memory) & INT32_MAX;
}

/* Ids grow, and begin anew after 2^30 letters. */
uint32_t mp_dls_upto(struct mp_station *s)
{
    const struct mp_letters *l = mp_letters_of(s->broker->dls, mp_station_log(s));

    return ((uint32_t)l->proposed_last << 1 | 1) & INT32_MAX;
}

bool mp_dls_is_older(uint32_t id, uint32_t upto)
{
    return ((upto - id) & INT32_MAX) <= INT32_MAX / 2;
}

static void set_changing(struct mp_dls *d, struct mp_dead_row *row, bool is_changing)
{
    d->changing += is_changing && !row->is_changing;
    d->changing -= !is_changing && row->is_changing;
    row->is_changing = is_changing;
}

void mp_dls_leaves(struct mp_dls *d, const struct mp_log *log, uint64_t at)
{
    struct mp_dead_row *row = row_at(d, log, at);

    if (row != NULL)
        set_changing(d, row, true);
}

/* From here on the row waits for that letter to be applied, or to fail. */
static void note_making(struct mp_dls *d, struct mp_dead_row *row)
{
    if (d->making_count == d->making_capacity) {
        d->making_capacity = d->making_capacity > 0 ? d->making_capacity * 2 : 16;
        d->making =
            mp_realloc(d->making, d->making_capacity * sizeof(struct mp_dead_row *));
    }
    d->making[d->making_count++] = row;
    set_changing(d, row, true);
}

/* The next letter of the row; what it replaces goes in the same append. `h`: all but
 * the id; its slices are copied. */
static void make_letter(struct mp_dls *d, struct mp_dead_row *row,
                        struct mp_dead_head *h, memphis_slice headers,
                        memphis_slice payload, struct mp_letter *l)
{
    struct mp_letters *to = mp_letters_of(d, row->log);

    h->id = row->id;
    mp_dead_head_put(h, &l->payload);
    mp_buf_put_slice(&l->payload, payload);
    l->entries[l->entries_count++] =
        (struct mp_entry){ .type = MP_ENTRY_MESSAGE,
                           .seq = ++to->proposed_last,
                           .time_ns = d->broker->now_ns,
                           .headers = headers,
                           .payload = mp_buf_slice(&l->payload) };
    if (row->at > 0)
        l->entries[l->entries_count++] =
            mp_dls_removal(row->at, d->broker->now_ns, l->removal);
    note_making(d, row);
}

/* Those made since the last call were appended, or were not. */
static void end_making(struct mp_dls *d, bool appended)
{
    while (d->making_count > 0) {
        struct mp_dead_row *row = d->making[--d->making_count];

        if (appended)
            continue;
        mp_letters_of(d, row->log)->proposed_last--;
        set_changing(d, row, false);
        if (row->at == 0)
            row_free(d, row);
    }
}

static memphis_status append_letter(struct mp_dls *d, struct mp_log *log,
                                    struct mp_letter *l)
{
    if (l->entries_count > 1)
        l->entries[0].flags |= MP_ENTRY_CHAINED;
    memphis_status st = mp_log_append(log, l->entries, l->entries_count, MP_STREAM_TAG);

    end_making(d, st == MEMPHIS_OK);
    mp_buf_fini(&l->payload);
    return st;
}

/* === A group gives up === */

struct mp_station *mp_dls_station(const struct mp_dls *d, uint32_t id)
{
    const struct mp_station_row *row = mp_meta_station_by_id(d->broker->meta, id);

    return row != NULL ? mp_station_find(d->broker, mp_slice_text(row->name)) : NULL;
}

static bool wants(void *ctx, const struct mp_stream_group *g)
{
    struct mp_dls *d = ctx;
    const struct mp_station *s = mp_dls_station(d, g->stream->settings.station_id);

    return s != NULL && s->settings.dls_poison && !g->plain;
}

static memphis_status make(void *ctx, const struct mp_stream_group *g,
                           const struct mp_dying *dying, struct mp_letter *l)
{
    struct mp_dls *d = ctx;
    struct mp_stream *s = g->stream;
    struct mp_dead_row *row = row_of_message(d, s->pid, dying->seq);
    struct mp_buf gids = { 0 };
    struct mp_dead_head h = { .reason = dying->reason,
                      .deliveries = (uint16_t)dying->deliveries,
                      .station_id = s->settings.station_id,
                      .pid = s->pid,
                      .seq = dying->seq,
                      .time_ns = l->source.entry.time_ns };

    if (row != NULL && row->is_changing)
        return MEMPHIS_BUSY;
    if (row == NULL)
        row = row_new(d, s->log, new_id(mp_letters_of(d, s->log)), s->pid, dying->seq);
    for (uint32_t i = 0; i < row->gids_count; i++)
        if (row->gids[i] != g->gid)
            mp_buf_put_u32(&gids, row->gids[i]);
    mp_buf_put_u32(&gids, g->gid);
    h.gids = mp_buf_slice(&gids);
    if (dying->text != NULL)
        h.text = mp_slice_text(dying->text);
    else if (row->text != NULL)
        h.text = mp_slice_text(row->text);
    make_letter(d, row, &h, l->source.entry.headers, l->source.entry.payload, l);
    mp_buf_fini(&gids);
    return MEMPHIS_OK;
}

static void made(void *ctx, const struct mp_stream_group *g, bool appended)
{
    (void)g;
    end_making(ctx, appended);
}

/* === Removal === */

void mp_dls_station_gone(struct mp_station *s)
{
    struct mp_dls *d = s->broker->dls;
    struct mp_dead_row *row;

    mp_resend_station_gone(s);
    s->dead_count = 0;
    while ((row = mp_dls_next(s, NULL)) != NULL) {
        mp_list_remove(&row->of_station);
        row->station = NULL;
        if (!s->broker->starting)
            mp_dls_remove(d, row);
    }
}

static void group_gone(void *ctx, struct mp_stream *s, uint32_t gid)
{
    struct mp_dls *d = ctx;
    struct mp_station *station = mp_dls_station(d, s->settings.station_id);
    struct mp_dead_row *row, *next;

    for (row = station != NULL ? mp_dls_next(station, NULL) : NULL; row != NULL;
         row = next) {
        next = mp_dls_next(station, row);
        if (row->pid != s->pid || !has_gid(row, gid))
            continue;
        remove_gid(row, gid);
        if (row->gids_count == 0)
            mp_dls_remove(d, row);
    }
}

/* === Reading === */

/* False: it has to wait. */
static bool try_reading(struct mp_dls *d, struct reading *r)
{
    struct mp_dead_row *row =
        mp_map_find(&d->by_id, mp_slice(&r->id, sizeof(r->id)));
    struct mp_dead_letter letter;
    struct mp_stored m;
    struct mp_dead_head h;
    memphis_status st;

    if (row == NULL) {
        r->fn(r->ctx, NULL, NULL);
        return true;
    }
    if (row->is_changing)
        return false;
    st = mp_log_read(row->log, 0, row->at, &m);
    if (st == MP_PENDING)
        return false;
    if (st != MEMPHIS_OK) {
        r->fn(r->ctx, NULL, NULL);
        return true;
    }
    if (m.entry.seq == row->at && mp_dead_head_take(m.entry.payload, &h)) {
        letter = (struct mp_dead_letter){ .headers = m.entry.headers,
                                          .payload = h.payload,
                                          .time_ns = h.time_ns,
                                          .chunk = m.chunk };
        r->fn(r->ctx, row, &letter);
    } else {
        r->fn(r->ctx, NULL, NULL);
    }
    mp_stored_release(&m);
    return true;
}

/* They may bring new ones, which come to the end of the list. */
static void read_again(struct mp_dls *d)
{
    struct mp_list now, *l;

    if (d->is_reading || mp_list_is_empty(&d->readings))
        return;
    d->is_reading = true;
    mp_list_init(&now);
    while ((l = mp_list_pop_front(&d->readings)) != NULL)
        mp_list_push_back(&now, l);
    while ((l = mp_list_pop_front(&now)) != NULL) {
        struct reading *r = mp_container_of(l, struct reading, node);

        if (try_reading(d, r))
            mp_free(r);
        else
            mp_list_push_back(&d->readings, &r->node);
    }
    d->is_reading = false;
}

void mp_dls_read(struct mp_broker *b, uint32_t id, mp_dls_read_fn fn, void *ctx)
{
    struct reading *r = mp_alloc(sizeof(*r));

    *r = (struct reading){ .id = id, .fn = fn, .ctx = ctx };
    if (try_reading(b->dls, r))
        mp_free(r);
    else
        mp_list_push_back(&b->dls->readings, &r->node);
}

void mp_dls_ready(struct mp_broker *b)
{
    read_again(b->dls);
}

/* === Changes of a row: a letter that replaces the old one === */

struct change {
    struct mp_dls *dls;
    uint32_t without; /* a gid; 0: none */
    uint32_t with;
    bool has_text;
    size_t text_size;
    char text[];
};

static struct change *change_new(struct mp_dls *d, memphis_slice text)
{
    struct change *c = mp_alloc(sizeof(*c) + text.size);

    c->dls = d;
    c->text_size = text.size;
    if (text.size > 0)
        memcpy(c->text, text.data, text.size);
    return c;
}

static void apply_change(void *ctx, struct mp_dead_row *row,
                         const struct mp_dead_letter *letter)
{
    struct change *c = ctx;
    struct mp_letter l = { .entries_count = 0 };
    struct mp_buf gids = { 0 };

    if (row != NULL && row->station != NULL) {
        struct mp_dead_head h = { .reason = c->has_text ? MP_DEAD_NACKED : row->reason,
                          .deliveries = row->deliveries,
                          .station_id = row->station->id,
                          .pid = row->pid,
                          .seq = row->seq,
                          .time_ns = letter->time_ns };
        for (uint32_t i = 0; i < row->gids_count; i++)
            if (row->gids[i] != c->without && row->gids[i] != c->with)
                mp_buf_put_u32(&gids, row->gids[i]);
        if (c->with != 0)
            mp_buf_put_u32(&gids, c->with);
        h.gids = mp_buf_slice(&gids);
        if (c->has_text)
            h.text = mp_slice(c->text, c->text_size);
        else if (row->text != NULL)
            h.text = mp_slice_text(row->text);
        if (h.gids.size > 0) {
            make_letter(c->dls, row, &h, letter->headers, letter->payload, &l);
            (void)append_letter(c->dls, row->log, &l);
        } else { /* the others have settled meanwhile */
            mp_dls_remove(c->dls, row);
        }
    }
    mp_buf_fini(&gids);
    mp_free(c);
}

static struct mp_stream_group *group_of(struct mp_stream *s, memphis_slice name)
{
    char group[MP_NAME_MAX + 1], durable[MP_NAME_MAX + 1];

    if (s == NULL || name.size == 0 || name.size > MP_NAME_MAX)
        return NULL;
    memcpy(group, name.data, name.size);
    group[name.size] = 0;
    mp_fold_lower(group, name.size);
    mp_durable_name(group, durable);
    return mp_stream_group(s, mp_slice_text(durable));
}

void mp_dls_settle(struct mp_broker *b, uint32_t id, memphis_slice name)
{
    struct mp_dead_row *row = mp_dls_find(b, id);
    struct mp_stream_group *g;
    struct change *c;

    if (row == NULL || row->station == NULL)
        return;
    g = group_of(mp_broker_stream_by_pid(b, row->pid), name);
    if (g == NULL || !has_gid(row, g->gid))
        return;
    if (row->gids_count == 1 && !row->is_changing) {
        mp_dls_remove(b->dls, row);
        return;
    }
    c = change_new(b->dls, MP_STR(""));
    c->without = g->gid;
    mp_dls_read(b, id, apply_change, c);
}

void mp_dls_nacked(struct mp_station *s, uint32_t number, uint64_t seq,
                   memphis_slice name, memphis_slice text)
{
    struct mp_broker *b = s->broker;
    struct mp_stream *stream = mp_station_stream(s, number);
    struct mp_stream_group *g = group_of(stream, name);
    struct mp_dying dying = { .seq = seq, .deliveries = 1, .reason = MP_DEAD_NACKED };
    struct mp_letter l = { .entries_count = 0 };
    struct mp_dead_row *row;
    struct change *c;

    if (g == NULL || g->plain || !s->settings.dls_poison ||
        mp_stream_dying_text(g, seq, text))
        return;
    row = row_of_message(b->dls, stream->pid, seq);
    if (row != NULL) {
        c = change_new(b->dls, text);
        c->has_text = true;
        c->with = g->gid;
        mp_dls_read(b, row->id, apply_change, c);
        return;
    }
    if (mp_log_read(stream->log, stream->pid, seq, &l.source) != MEMPHIS_OK)
        return; /* gone, or nobody has just read it */
    if (l.source.entry.seq == seq) {
        dying.text = mp_strndup(text.data, text.size);
        if (make(b->dls, g, &dying, &l) == MEMPHIS_OK)
            (void)append_letter(b->dls, stream->log, &l);
        mp_free(dying.text);
    }
    mp_stored_release(&l.source);
}

void mp_dls_refused(struct mp_station *s, memphis_slice headers,
                    memphis_slice payload, memphis_slice text)
{
    struct mp_dls *d = s->broker->dls;
    struct mp_letter l = { .entries_count = 0 };
    struct mp_dead_head h = { .reason = MP_DEAD_SCHEMA,
                      .station_id = s->id,
                      .time_ns = s->broker->now_ns,
                      .text = text };
    struct mp_log *log = mp_station_log(s);
    struct mp_dead_row *row = row_new(d, log, new_id(mp_letters_of(d, log)), 0, 0);

    make_letter(d, row, &h, headers, payload, &l);
    (void)append_letter(d, log, &l);
}

/* === What is committed === */

/* A header block without its last, empty line: more lines follow. */
void mp_dls_put_lines(struct mp_buf *out, memphis_slice headers)
{
    if (headers.size >= 12)
        mp_buf_put(out, headers.data, headers.size - 2);
    else
        mp_buf_put_text(out, "NATS/1.0\r\n");
}

/* Each new letter also goes to the station that asked for copies. */
static void copy_letter(struct mp_dead_row *row, const struct mp_entry *e,
                        const struct mp_dead_head *h)
{
    const char *name = row->station->settings.dls_station;
    struct mp_station *to;
    struct mp_buf headers = { 0 };

    if (name == NULL || name[0] == 0)
        return;
    to = mp_station_find(row->station->broker, mp_slice_text(name));
    if (to == NULL || to == row->station || !mp_station_is_ready(to))
        return;
    mp_dls_put_lines(&headers, e->headers);
    mp_buf_format(&headers, "station: %s\r\ntype: %s\r\n\r\n", row->station->name,
                  h->reason == MP_DEAD_SCHEMA ? "failed_schema" : "unacked");
    to->next_partition = to->next_partition % to->settings.partitions + 1;
    mp_stream_produce(mp_station_stream(to, to->next_partition), mp_buf_slice(&headers),
                      h->payload, MP_STR(""), NULL, NULL);
    mp_buf_fini(&headers);
}

static void take_groups(struct mp_dead_row *row, memphis_slice gids)
{
    struct mp_cursor c = mp_cursor_of(gids);

    mp_free(row->gids);
    row->gids_count = (uint32_t)(gids.size / 4);
    row->gids = row->gids_count > 0 ? mp_alloc(gids.size) : NULL;
    for (uint32_t i = 0; i < row->gids_count; i++)
        row->gids[i] = mp_cursor_u32(&c);
}

/* Another group may wait for the row. */
static void bury_again(struct mp_dls *d, uint32_t pid)
{
    struct mp_stream *s = mp_broker_stream_by_pid(d->broker, pid);

    if (s != NULL)
        mp_stream_bury_again(s);
}

static void row_is_gone(struct mp_dls *d, struct mp_dead_row *row)
{
    uint32_t pid = row->pid;

    row_free(d, row);
    bury_again(d, pid);
}

/* Groups that were removed meanwhile leave it. False: nobody needs it any more. */
static bool is_needed(struct mp_dead_row *row)
{
    for (uint32_t k = row->gids_count; k > 0; k--)
        if (mp_dls_group(row, k - 1) == NULL)
            remove_gid(row, row->gids[k - 1]);
    return row->station != NULL &&
           (row->gids_count > 0 || row->reason == MP_DEAD_SCHEMA);
}

static void apply_letter(struct mp_dls *d, struct mp_log *log, const struct mp_entry *e,
                         bool is_own)
{
    struct mp_letters *l = mp_letters_of(d, log);
    struct mp_dead_row *row;
    struct mp_dead_head h;
    struct mp_resend_note note;

    if (e->seq > l->proposed_last)
        l->proposed_last = e->seq;
    if (mp_resend_note_take(e->payload, &note)) {
        mp_resend_noted(d, log, e, &note, is_own);
        return;
    }
    if (!mp_dead_head_take(e->payload, &h)) {
        mp_logf(d->broker->logger, MEMPHIS_LOG_ERROR, "dls",
                "a dead letter cannot be read and is left out seq=%" PRIu64, e->seq);
        return;
    }
    row = mp_map_find(&d->by_id, mp_slice(&h.id, sizeof(h.id)));
    if (row == NULL)
        row = row_new(d, log, h.id, h.pid, h.seq);
    bool is_new = row->at == 0;
    row->reason = h.reason;
    row->deliveries = h.deliveries;
    leave_place(d, row);
    row->at = 0;
    row->station = mp_dls_station(d, h.station_id);
    row->updated_ns = e->time_ns;
    row->size = (uint32_t)(ENTRY_SIZE + e->headers.size + e->payload.size);
    set_changing(d, row, false);
    take_groups(row, h.gids);
    mp_free(row->text);
    row->text = h.text.size > 0 ? mp_strndup(h.text.data, h.text.size) : NULL;
    set_place(d, row, e->seq);
    if (!is_own)
        return;
    if (!is_needed(row))
        mp_dls_remove(d, row);
    else if (is_new)
        copy_letter(row, e, &h);
    bury_again(d, h.pid);
}

static void apply_removal(struct mp_dls *d, struct mp_log *log,
                          const struct mp_entry *e)
{
    struct mp_cursor c = mp_cursor_of(e->payload);
    uint64_t count = mp_cursor_varint(&c), at = e->seq;

    for (; count > 0 && !c.bad; count--) {
        at += mp_cursor_varint(&c);
        for (uint64_t n = mp_cursor_varint(&c); n > 0 && !c.bad; n--, at++) {
            struct mp_dead_row *row = row_at(d, log, at);
            if (row != NULL)
                row_is_gone(d, row);
            else
                mp_resend_note_gone(d, log, at);
        }
    }
}

static void apply_floor(struct mp_dls *d, struct mp_log *log)
{
    struct mp_letters *l = mp_letters_of(d, log);
    uint64_t first = mp_log_first(log, 0);

    mp_dls_keep_trimmed(l, true);
    while (!mp_list_is_empty(&l->rows)) {
        struct mp_dead_row *row =
            mp_container_of(l->rows.next, struct mp_dead_row, of_log);
        if (row->at >= first)
            break;
        row_is_gone(d, row);
    }
}

void mp_dls_applied(struct mp_broker *b, struct mp_log *log, const struct mp_entry *e,
                    bool is_own)
{
    struct mp_dls *d = b->dls;

    if (e->type == MP_ENTRY_MESSAGE)
        apply_letter(d, log, e, is_own);
    else if (e->type == MP_ENTRY_DELETE)
        apply_removal(d, log, e);
    else if (e->type == MP_ENTRY_FLOOR)
        apply_floor(d, log);
    else
        return;
    if (!is_own)
        return;
    mp_dls_keep_look(d);
    read_again(d);
}

void mp_dls_failed(struct mp_broker *b, const struct mp_log *log)
{
    struct mp_dls *d = b->dls;
    struct mp_dead_row *row;

    mp_letters_of(d, log)->proposed_last = mp_log_last(log, 0);
    for (uint32_t i = 0;
         d->changing > 0 && (row = mp_map_next(&d->by_id, &i)) != NULL;) {
        if (row->log != log || !row->is_changing)
            continue;
        set_changing(d, row, false);
        if (row->at == 0)
            row_is_gone(d, row);
        else
            bury_again(d, row->pid);
    }
    mp_resend_failed(d, log);
    mp_dls_keep_trimmed(mp_letters_of(d, log), false);
    mp_dls_keep_look(d);
    read_again(d);
}

/* === Life === */

/* Groups and stations may be gone, and their rows with them, when a crash came in
 * between. */
void mp_dls_started(struct mp_broker *b)
{
    struct mp_dls *d = b->dls;
    struct mp_dead_row *row;

    d->data.proposed_last = mp_log_last(b->data_log, 0);
    for (uint32_t i = 0; (row = mp_map_next(&d->by_id, &i)) != NULL;) {
        if (!is_needed(row))
            mp_dls_remove(d, row);
    }
    mp_dls_keep_look(d);
    mp_resend_started(d);
}

void mp_dls_new(struct mp_broker *b)
{
    struct mp_dls *d = mp_alloc(sizeof(*d));
    uint64_t seed[2];

    d->broker = b;
    d->data.log = b->data_log;
    d->memory.log = b->memory_log;
    mp_list_init(&d->data.rows);
    mp_list_init(&d->memory.rows);
    mp_list_init(&d->readings);
    b->env->random(b->env, seed, sizeof(seed));
    mp_map_seed(&d->by_id, seed[0], seed[1]);
    mp_map_seed(&d->by_message, seed[0], seed[1]);
    mp_map_seed(&d->by_place, seed[0], seed[1]);
    mp_dls_keep_init(d);
    mp_resend_init(d);
    b->dls = d;
    b->streams.dead = (struct mp_dead_hooks){ .wants = wants,
                                              .make = make,
                                              .made = made,
                                              .group_gone = group_gone,
                                              .ctx = d };
}

void mp_dls_free(struct mp_broker *b)
{
    struct mp_dls *d = b->dls;
    struct mp_dead_row *row;
    struct mp_list *l;

    if (d == NULL)
        return;
    d->is_closing = true;
    while ((l = mp_list_pop_front(&d->readings)) != NULL) {
        struct reading *r = mp_container_of(l, struct reading, node);

        r->fn(r->ctx, NULL, NULL);
        mp_free(r);
    }
    for (uint32_t i = 0; (row = mp_map_next(&d->by_id, &i)) != NULL;)
        row_free(d, row);
    mp_map_fini(&d->by_id);
    mp_map_fini(&d->by_message);
    mp_map_fini(&d->by_place);
    mp_timer_cancel(&b->timers, &d->keeping);
    mp_resend_free(d);
    mp_free(d->making);
    b->streams.dead = (struct mp_dead_hooks){ .ctx = NULL };
    b->dls = NULL;
    mp_free(d);
}
