/* The dead-letter station's door. Letters are shown page by page: the core fills one,
 * the caller goes through it on its own thread, and the next one begins behind it. */
#include "api/api.h"

#include "api/handles.h"
#include "api/message.h"
#include "base/status.h"
#include "base/str.h"

#include <inttypes.h>

static const uint64_t MS = 1000000;

enum { PAGE_LETTERS = 64, PAGE_BYTES = 1 << 20, IDS_MAX = 100000 };

/* What all of them share. */
struct dls_call {
    struct api_call call;
    memphis_station *s; /* pinned */
};

static void dls_fini(struct api_call *call)
{
    memphis_station_close(((struct dls_call *)(void *)call)->s);
}

/* NULL: *st says why. */
static void *dls_call_new(memphis_station *s, size_t size, size_t more,
                          void (*run)(struct api_call *call), memphis_status *st,
                          memphis_error *err)
{
    struct dls_call *c = NULL;

    if (s == NULL)
        *st = mp_fail(err, MEMPHIS_INVALID, "dead letters belong to a station");
    else
        *st = api_may_wait(s->b, err);
    if (*st != MEMPHIS_OK)
        return NULL;
    c = api_call_new_with(s->b, size, more, run);
    if (c == NULL) {
        *st = mp_fail(err, MEMPHIS_NOMEM, "no memory");
        return NULL;
    }
    c->s = api_station_ref(s);
    c->call.fini = dls_fini;
    return c;
}

/* On the core; NULL: the call is finished. */
static struct mp_station *station_of(struct dls_call *c)
{
    struct mp_station *s = mp_station_find(c->call.b->core, mp_slice_text(c->s->name));

    if (s != NULL && mp_station_is_ready(s))
        return s;
    api_finish(&c->call, MEMPHIS_NOT_FOUND, "the station does not exist any more");
    return NULL;
}

static void on_done(void *ctx, memphis_status st, const char *text)
{
    api_finish(ctx, st, text);
}

/* === Showing them === */

/* One letter; its texts lie behind it. */
struct shown {
    memphis_dead dead;
    const char **groups;
};

struct page_call {
    struct dls_call c;
    uint32_t upto; /* newest id that is meant; set by the first page */
    bool is_first, is_last;
    size_t seen_count, count, bytes;
    struct mp_dead_place seen[PAGE_LETTERS];    /* the page before */
    struct mp_dead_place places[PAGE_LETTERS];  /* this one */
    struct shown *shown[PAGE_LETTERS];
};

static void page_fini(struct api_call *call)
{
    struct page_call *p = (struct page_call *)(void *)call;

    for (size_t i = 0; i < p->count; i++) {
        if (p->shown[i] != NULL)
            memphis_message_unref(p->shown[i]->dead.message);
        mp_free(p->shown[i]);
    }
    dls_fini(call);
}

/* What was said, or a sentence. */
static void put_detail(const struct mp_dead_row *row, struct mp_buf *out)
{
    if (row->text != NULL && row->text[0] != 0)
        mp_buf_put_text(out, row->text);
    else if (row->reason == MP_DEAD_UNACKED)
        mp_buf_format(out, "not acknowledged in %u deliver%s", row->deliveries,
                      row->deliveries == 1 ? "y" : "ies");
    else if (row->reason == MP_DEAD_NACKED)
        mp_buf_put_text(out, "given up by its consumer");
    else
        mp_buf_put_text(out, "does not match the schema");
    mp_buf_put_u8(out, 0);
}

/* Groups' names, in the form that users know, each with its zero. */
static uint32_t put_groups(const struct mp_dead_row *row, struct mp_buf *out)
{
    uint32_t count = 0;

    for (uint32_t i = 0; i < row->gids_count; i++) {
        const struct mp_stream_group *g = mp_dls_group(row, i);

        for (const char *c = g != NULL ? g->name : ""; *c != 0; c++)
            mp_buf_put_u8(out, *c == '#' ? '.' : (uint8_t)*c);
        if (g == NULL)
            continue;
        mp_buf_put_u8(out, 0);
        count++;
    }
    return count;
}

static struct shown *shown_new(memphis_broker *b, const struct mp_dead_row *row,
                               memphis_message *m)
{
    struct mp_buf texts = { 0 };
    uint32_t groups;
    struct shown *s;
    char *text;

    put_detail(row, &texts);
    groups = put_groups(row, &texts);
    s = mp_alloc(sizeof(*s) + (groups + 1) * sizeof(char *) + texts.size);
    s->groups = (const char **)(void *)(s + 1);
    text = (char *)(s->groups + groups + 1);
    memcpy(text, texts.data, texts.size);
    mp_buf_fini(&texts);
    s->dead = (memphis_dead){
        .id = row->id,
        .reason = row->reason,
        .deliveries = row->deliveries,
        .group = "",
        .groups = s->groups,
        .groups_count = groups,
        .detail = text,
        .time_ms = mp_wall_of(&b->core->streams.wall, row->updated_ns) / MS,
        .message = m,
    };
    for (uint32_t i = 0; i < groups; i++) {
        text += strlen(text) + 1;
        s->groups[i] = text;
    }
    if (groups > 0)
        s->dead.group = s->groups[0];
    return s;
}

static void fill(struct page_call *p);

/* `p` is filled one by one, when each is read; NULL: gone, or damaged. */
static void on_letter(void *ctx, struct mp_dead_row *row,
                      const struct mp_dead_letter *letter)
{
    struct page_call *p = ctx;
    memphis_broker *b = p->c.call.b;

    if (row != NULL) {
        struct mp_stored stored = { .entry = { .seq = row->seq,
                                               .time_ns = letter->time_ns,
                                               .headers = letter->headers,
                                               .payload = letter->payload },
                                    .chunk = letter->chunk };
        memphis_message *m = api_message_of_letter(b, row, &stored);

        api_ref(b);
        p->places[p->count - 1].at = row->at; /* it may have waited for a change */
        p->shown[p->count - 1] = shown_new(b, row, m);
        p->bytes += letter->payload.size;
    }
    if (mp_dls_is_closing(b->core))
        api_finish(&p->c.call, MEMPHIS_CLOSED, "the broker is closing");
    else
        fill(p);
}

static void fill(struct page_call *p)
{
    struct mp_station *s = station_of(&p->c);
    struct mp_dead_row *row;

    if (s == NULL)
        return;
    row = p->count > 0 ? mp_dls_behind(s, p->places, p->count)
                       : mp_dls_behind(s, p->seen, p->seen_count);
    while (row != NULL && !mp_dls_is_older(row->id, p->upto))
        row = mp_dls_next(s, row);
    if (row == NULL || p->count == PAGE_LETTERS || p->bytes >= PAGE_BYTES) {
        p->is_last = row == NULL;
        api_finish(&p->c.call, MEMPHIS_OK, "");
        return;
    }
    p->places[p->count++] = (struct mp_dead_place){ row->id, row->at };
    mp_dls_read(s->broker, row->id, on_letter, p);
}

static void run_page(struct api_call *call)
{
    struct page_call *p = (struct page_call *)(void *)call;
    struct mp_station *s;

    if (p->is_first) {
        s = station_of(&p->c);
        if (s == NULL)
            return;
        p->upto = mp_dls_upto(s);
    }
    fill(p);
}

static memphis_status page_next(memphis_station *s, struct page_call **page,
                                memphis_error *err)
{
    struct page_call *before = *page, *p;
    memphis_status st;

    p = dls_call_new(s, sizeof(*p), 0, run_page, &st, err);
    *page = NULL;
    if (p != NULL) {
        p->c.call.fini = page_fini;
        p->is_first = before == NULL;
        if (before != NULL) {
            p->upto = before->upto;
            p->seen_count = before->count;
            memcpy(p->seen, before->places, sizeof(p->seen));
        }
        st = api_run(&p->c.call, api_default_wait(s->b), err);
        if (st == MEMPHIS_OK)
            *page = p;
        else
            api_call_unref(&p->c.call);
    }
    if (before != NULL)
        api_call_unref(&before->c.call);
    return st;
}

memphis_status memphis_dls_each(memphis_station *s, memphis_dead_fn fn, void *ctx,
                                memphis_error *err)
{
    struct page_call *p = NULL;
    bool goes_on = true;
    memphis_status st;

    if (s == NULL || fn == NULL)
        return mp_fail(err, MEMPHIS_INVALID, "a station and a function");
    do {
        st = page_next(s, &p, err);
        for (size_t i = 0; p != NULL && goes_on && i < p->count; i++)
            if (p->shown[i] != NULL)
                goes_on = fn(ctx, &p->shown[i]->dead);
    } while (p != NULL && goes_on && !p->is_last);
    if (p != NULL)
        api_call_unref(&p->c.call);
    return st;
}

/* === Resending and dropping === */

struct ids_call {
    struct dls_call c;
    bool is_all;
    size_t count;
    uint32_t ids[];
};

static void run_resend(struct api_call *call)
{
    struct ids_call *i = (struct ids_call *)(void *)call;
    struct mp_station *s = station_of(&i->c);

    if (s != NULL && i->is_all) {
        mp_dls_resend_all(s, (struct mp_then){ on_done, call });
    } else if (s != NULL) {
        memphis_status st = mp_dls_resend(s, i->ids, i->count);
        api_finish(call, st, st == MEMPHIS_OK ? "" : "too many letters wait already");
    }
}

static void run_drop(struct api_call *call)
{
    struct ids_call *i = (struct ids_call *)(void *)call;
    struct mp_station *s = station_of(&i->c);

    if (s != NULL && i->is_all)
        mp_dls_drop_all(s, (struct mp_then){ on_done, call });
    else if (s != NULL)
        mp_dls_drop(s, i->ids, i->count, (struct mp_then){ on_done, call });
}

static memphis_status of_ids(memphis_station *s, const uint64_t *ids, size_t n,
                             void (*run)(struct api_call *call), memphis_error *err)
{
    struct ids_call *c;
    memphis_status st;

    if (ids == NULL && n > 0)
        return mp_fail(err, MEMPHIS_INVALID, "a number of ids without ids");
    if (n > IDS_MAX)
        return mp_fail(err, MEMPHIS_FULL, "at most %d ids in one call", IDS_MAX);
    c = dls_call_new(s, sizeof(*c), n * sizeof(uint32_t), run, &st, err);
    if (c == NULL)
        return st;
    c->is_all = ids == NULL;
    for (size_t i = 0; i < n; i++)
        if (ids[i] > 0 && ids[i] <= INT32_MAX) /* else no letter has it */
            c->ids[c->count++] = (uint32_t)ids[i];
    st = api_run(&c->c.call, api_default_wait(s->b), err);
    api_call_unref(&c->c.call);
    return st;
}

memphis_status memphis_dls_resend(memphis_station *s, const uint64_t *ids, size_t n,
                                  memphis_error *err)
{
    return of_ids(s, ids, n, run_resend, err);
}

memphis_status memphis_dls_drop(memphis_station *s, const uint64_t *ids, size_t n,
                                memphis_error *err)
{
    return of_ids(s, ids, n, run_drop, err);
}

/* === How it stands === */

struct info_call {
    struct dls_call c;
    memphis_dls_info info;
};

static void run_info(struct api_call *call)
{
    struct info_call *i = (struct info_call *)(void *)call;
    struct mp_station *s = station_of(&i->c);
    struct mp_resend_progress p;

    if (s == NULL)
        return;
    mp_dls_resend_progress(s, &p);
    i->info.letters = s->dead_count;
    i->info.resent = p.done;
    i->info.resend = p.total;
    i->info.resending = p.is_running;
    api_finish(call, MEMPHIS_OK, "");
}

memphis_status memphis_dls_read_info(memphis_station *s, memphis_dls_info *out,
                                     memphis_error *err)
{
    struct info_call *c;
    memphis_status st;

    if (out == NULL)
        return mp_fail(err, MEMPHIS_INVALID, "an output");
    c = dls_call_new(s, sizeof(*c), 0, run_info, &st, err);
    if (c == NULL)
        return st;
    st = api_run(&c->c.call, api_default_wait(s->b), err);
    if (st == MEMPHIS_OK)
        *out = c->info;
    api_call_unref(&c->c.call);
    return st;
}
