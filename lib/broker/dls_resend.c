/* Once more to the groups that failed (broker-semantics 5), as work beside the turns: a
 * station's list, oldest change first, a bounded step per turn. A row whose letter is
 * written anew meanwhile moves to the end of that list and is met there; the number in
 * it says whether it has had its turn. Who reads slowly is waited for. */
#include "base/status.h"
#include "base/str.h"
#include "broker/dls_head.h"
#include "broker/dls_internal.h"

#include <inttypes.h>

static const uint64_t MS = 1000000;

enum {
    STEP_LETTERS = 64, /* of one station in one turn ... */
    STEP_BYTES = 1 << 20,
    STEP_LOOKS = 1024, /* ... and rows that are passed by */
    IDS_MAX = 100000,  /* asked for by id, waiting */
    HELD_MS = 20,      /* then a slow reader is looked at again ... */
    STALLED_MS = 20 * 60 * 1000, /* ... until it is given up */
    SAVE_MS = 1000,
    RESUME_MS = 10000 /* after a start: clients come back first */
};

struct mp_resend {
    struct mp_list node;
    struct mp_dls *dls;
    struct mp_station *station; /* NULL: it is gone */
    struct mp_log *log;
    uint32_t *ids; /* asked for one by one */
    size_t ids_at, ids_count, ids_capacity;
    bool is_all;           /* the list is walked, too: */
    uint32_t number, upto; /* marks rows; the newest id that is meant */
    struct mp_list *after; /* the row that was taken last, or the head */
    uint64_t done, total;
    uint64_t from_ns;       /* not before then */
    uint64_t held_since_ns; /* 0: it is not */
    bool is_held, is_reading, is_in_step, reads_id;
    uint32_t step_letters;
    size_t step_bytes;
    uint64_t note_at; /* place of its note; 0: none */
    uint64_t behind;  /* a start: as it says */
    uint64_t saved_ns;
    bool is_noting;      /* one is on its way */
    struct mp_then then; /* to be told when the first one is committed */
};

/* === One letter === */

/* What is said anew. */
static bool is_ours(memphis_slice line)
{
    return mp_slice_starts(line, MP_STR("$memphis_producedBy:")) ||
           mp_slice_starts(line, MP_STR("$memphis_pm_id:")) ||
           mp_slice_starts(line, MP_STR("$memphis_pm_cg_name:"));
}

/* The other lines, without the empty one at the end. */
static void put_lines(struct mp_buf *out, memphis_slice headers)
{
    const char *p = headers.data, *end = p + headers.size, *eol;

    if (headers.size < 12) {
        mp_buf_put_text(out, "NATS/1.0\r\n");
        return;
    }
    for (end -= 2; p < end; p = eol) {
        eol = memchr(p, '\n', (size_t)(end - p));
        eol = eol != NULL ? eol + 1 : end;
        if (!is_ours(mp_slice(p, (size_t)(eol - p))))
            mp_buf_put(out, p, (size_t)(eol - p));
    }
}

/* "$memphis_dls_orders.billing", and with '_' for old SDKs. What that one means is not
 * to be seen in it, so it is heard as the first. */
struct subjects {
    struct mp_buf text[2];
};

static struct subjects subjects_of(const struct mp_station *s,
                                   const struct mp_stream_group *g)
{
    struct subjects out = { 0 };

    for (int i = 0; i < 2; i++)
        mp_buf_format(&out.text[i], "$memphis_dls_%s%c%s", s->internal, "._"[i],
                      g->name);
    return out;
}

static void subjects_free(struct subjects *s)
{
    for (int i = 0; i < 2; i++)
        mp_buf_fini(&s->text[i]);
}

static void send_to(struct mp_dead_row *row, const struct mp_stream_group *g,
                    const struct mp_dead_letter *letter)
{
    struct mp_bus *bus = row->station->broker->bus;
    struct mp_buf headers = { 0 };
    struct subjects subjects = subjects_of(row->station, g);
    struct mp_stored stored = { .entry = { .seq = row->seq,
                                           .time_ns = letter->time_ns,
                                           .headers = letter->headers,
                                           .payload = letter->payload },
                                .chunk = letter->chunk };

    put_lines(&headers, letter->headers);
    mp_buf_format(&headers,
                  "$memphis_pm_id: %u\r\n$memphis_pm_cg_name: %s\r\n"
                  "$memphis_producedBy: $memphis_dls\r\n\r\n",
                  row->id, g->name);
    for (int i = 0; i < 2; i++) {
        struct mp_message m = { .subject = mp_buf_slice(&subjects.text[i]),
                                .headers = mp_buf_slice(&headers),
                                .payload = letter->payload,
                                .stored = &stored,
                                .heard_as = mp_buf_slice(&subjects.text[0]) };
        mp_bus_publish(bus, NULL, &m);
    }
    subjects_free(&subjects);
    mp_buf_fini(&headers);
}

/* How those who would hear it stand: NOBODY, else the slowest. */
static enum mp_bus_reach reach(const struct mp_dead_row *row,
                               const struct mp_stream_group *g,
                               const struct mp_dead_letter *letter)
{
    size_t size = letter->headers.size + letter->payload.size;
    enum mp_bus_reach all = MP_BUS_NOBODY;
    struct subjects subjects = subjects_of(row->station, g);

    for (int i = 0; i < 2; i++) {
        enum mp_bus_reach one = mp_bus_reach(
            row->station->broker->bus, mp_buf_slice(&subjects.text[i]),
            mp_buf_slice(&subjects.text[0]), size);
        if (one == MP_BUS_BUSY || all == MP_BUS_NOBODY)
            all = one;
    }
    subjects_free(&subjects);
    return all;
}

/* False: a reader has no room, and nobody has got anything. */
static bool send(struct mp_dead_row *row, const struct mp_dead_letter *letter)
{
    for (uint32_t i = 0; i < row->gids_count; i++) {
        const struct mp_stream_group *g = mp_dls_group(row, i);

        if (g != NULL && reach(row, g, letter) == MP_BUS_BUSY)
            return false;
    }
    for (uint32_t i = 0; i < row->gids_count; i++) {
        const struct mp_stream_group *g = mp_dls_group(row, i);

        if (g != NULL && reach(row, g, letter) != MP_BUS_NOBODY)
            send_to(row, g, letter);
    }
    return true;
}

/* === The note: what a restart goes on with === */

static void answer(struct mp_resend *r, memphis_status st, const char *text)
{
    struct mp_then then = r->then;

    r->then = (struct mp_then){ .fn = NULL };
    if (then.fn != NULL)
        then.fn(then.ctx, st, text);
}

static memphis_status save(struct mp_resend *r)
{
    struct mp_letters *l = mp_letters_of(r->dls, r->log);
    struct mp_resend_note n = { .station_id = r->station->id,
                                .upto = r->upto,
                                .done = r->done,
                                .total = r->total };
    struct mp_buf b = { 0 };
    uint8_t removal[MP_REMOVAL_MAX];
    struct mp_entry e[2];
    size_t count = 0;

    if (r->after != &r->station->dead)
        n.behind = mp_container_of(r->after, struct mp_dead_row, of_station)->at;
    mp_resend_note_put(&n, &b);
    r->saved_ns = r->dls->broker->now_ns;
    e[count++] = (struct mp_entry){ .type = MP_ENTRY_MESSAGE,
                                    .seq = ++l->proposed_last,
                                    .time_ns = r->saved_ns,
                                    .payload = mp_buf_slice(&b) };
    if (r->note_at > 0) {
        e[0].flags |= MP_ENTRY_CHAINED;
        e[count++] = mp_dls_removal(r->note_at, r->saved_ns, removal);
    }
    memphis_status st = mp_log_append(r->log, e, count, MP_STREAM_TAG);
    r->is_noting = st == MEMPHIS_OK;
    l->proposed_last -= st != MEMPHIS_OK;
    mp_buf_fini(&b);
    return st;
}

static void remove_note(struct mp_resend *r)
{
    uint8_t space[MP_REMOVAL_MAX];
    struct mp_entry e = mp_dls_removal(r->note_at, r->dls->broker->now_ns, space);

    if (r->note_at > 0) /* not taken: a restart goes on where this one ended */
        (void)mp_log_append(r->log, &e, 1, MP_STREAM_TAG);
}

/* === The work === */

static bool has_ids(const struct mp_resend *r)
{
    return r->ids_at < r->ids_count;
}

static bool is_running(const struct mp_resend *r)
{
    return r->station != NULL && (r->is_all || has_ids(r));
}

static void end_all(struct mp_resend *r)
{
    r->is_all = false;
    remove_note(r);
}

static void give_up(struct mp_resend *r)
{
    mp_logf(r->dls->broker->logger, MEMPHIS_LOG_WARN, "dls",
            "resending ends: a consumer has had no room for 20 minutes station=%s "
            "done=%" PRIu64 " of=%" PRIu64,
            r->station->name, r->done, r->total);
    r->ids_at = r->ids_count = 0;
    if (r->is_all)
        end_all(r);
}

static bool is_meant(const struct mp_resend *r, const struct mp_dead_row *row)
{
    return row->resent_by != r->number && mp_dls_is_older(row->id, r->upto);
}

/* What is to be read next; NULL: nothing, or nothing more in this step. */
static struct mp_dead_row *take(struct mp_resend *r, uint32_t *looks)
{
    struct mp_dead_row *row;

    for (; has_ids(r) && *looks > 0; (*looks)--) {
        row = mp_dls_find(r->dls->broker, r->ids[r->ids_at]);
        if (row != NULL && row->station == r->station)
            return row;
        r->ids_at++;
        r->done++;
    }
    for (; !has_ids(r) && r->is_all && *looks > 0; (*looks)--) {
        if (r->after->next == &r->station->dead) {
            end_all(r);
            break;
        }
        r->after = r->after->next;
        row = mp_container_of(r->after, struct mp_dead_row, of_station);
        if (!is_meant(r, row))
            continue;
        row->resent_by = r->number;
        return row;
    }
    return NULL;
}

static void hold(struct mp_resend *r, struct mp_dead_row *row)
{
    r->is_held = true;
    if (r->held_since_ns == 0)
        r->held_since_ns = r->dls->broker->now_ns;
    if (r->reads_id)
        return;
    row->resent_by = 0;
    if (r->after == &row->of_station) /* else it has moved on, and is met again */
        r->after = row->of_station.prev;
}

static void arm(struct mp_dls *d)
{
    uint64_t now = d->broker->now_ns, due = UINT64_MAX;

    for (struct mp_list *l = d->resends.next; l != &d->resends; l = l->next) {
        struct mp_resend *r = mp_container_of(l, struct mp_resend, node);
        uint64_t at = r->is_held ? now + HELD_MS * MS : now;

        if (!is_running(r) || r->is_reading)
            continue;
        at = at < r->from_ns ? r->from_ns : at;
        due = at < due ? at : due;
    }
    if (due == UINT64_MAX)
        mp_timer_cancel(&d->broker->timers, &d->resending);
    else
        mp_timer_set(&d->broker->timers, &d->resending, due / MS);
}

static void on_letter(void *ctx, struct mp_dead_row *row,
                      const struct mp_dead_letter *letter)
{
    struct mp_resend *r = ctx;

    r->is_reading = false;
    if (r->station == NULL) {
        mp_free(r->ids);
        mp_free(r);
        return;
    }
    if (row != NULL && row->station == r->station && !send(row, letter)) {
        hold(r, row);
    } else {
        r->ids_at += r->reads_id;
        r->done++;
        r->held_since_ns = 0;
        r->step_letters++;
        r->step_bytes += row != NULL ? letter->payload.size : 0;
    }
    if (!r->is_in_step)
        arm(r->dls);
}

static void step(struct mp_resend *r)
{
    uint64_t now = r->dls->broker->now_ns;
    uint32_t looks = STEP_LOOKS;
    struct mp_dead_row *row;

    r->is_in_step = true;
    r->is_held = false;
    r->step_letters = 0;
    r->step_bytes = 0;
    while (!r->is_reading && !r->is_held && r->step_letters < STEP_LETTERS &&
           r->step_bytes < STEP_BYTES && (row = take(r, &looks)) != NULL) {
        r->is_reading = true;
        r->reads_id = has_ids(r);
        mp_dls_read(r->dls->broker, row->id, on_letter, r);
    }
    r->is_in_step = false;
    if (!has_ids(r))
        r->ids_at = r->ids_count = 0;
    if (r->held_since_ns > 0 && now - r->held_since_ns >= STALLED_MS * MS)
        give_up(r);
    if (r->is_all && !r->is_noting && !r->is_reading &&
        now - r->saved_ns >= SAVE_MS * MS)
        (void)save(r);
}

static void fire(struct mp_timer *t, uint64_t now_ms)
{
    struct mp_dls *d = mp_container_of(t, struct mp_dls, resending);

    (void)now_ms;
    for (struct mp_list *l = d->resends.next; l != &d->resends; l = l->next) {
        struct mp_resend *r = mp_container_of(l, struct mp_resend, node);

        if (is_running(r) && !r->is_reading && d->broker->now_ns >= r->from_ns)
            step(r);
    }
    arm(d);
}

/* === Commands === */

static struct mp_resend *resend_new(struct mp_dls *d, struct mp_station *s,
                                    struct mp_log *log)
{
    struct mp_resend *r = mp_alloc(sizeof(*r));

    r->dls = d;
    r->station = s;
    r->log = log;
    if (s != NULL)
        s->resend = r;
    mp_list_push_back(&d->resends, &r->node);
    return r;
}

static struct mp_resend *resend_of(struct mp_station *s)
{
    struct mp_resend *r = s->resend;

    if (r == NULL)
        r = resend_new(s->broker->dls, s, mp_station_log(s));
    if (!is_running(r))
        r->done = r->total = 0;
    return r;
}

static void begin(struct mp_resend *r)
{
    if (!r->is_reading && !r->is_in_step && r->dls->broker->now_ns >= r->from_ns)
        step(r);
    arm(r->dls);
}

memphis_status mp_dls_resend(struct mp_station *s, const uint32_t *ids, size_t n)
{
    struct mp_resend *r = resend_of(s);

    if (n > IDS_MAX - (r->ids_count - r->ids_at))
        return MEMPHIS_FULL;
    if (n == 0)
        return MEMPHIS_OK;
    r->ids_count -= r->ids_at;
    if (r->ids_count > 0)
        memmove(r->ids, r->ids + r->ids_at, r->ids_count * sizeof(*ids));
    r->ids_at = 0;
    if (r->ids_count + n > r->ids_capacity) {
        r->ids_capacity = r->ids_count + n;
        r->ids = mp_realloc(r->ids, r->ids_capacity * sizeof(*ids));
    }
    memcpy(r->ids + r->ids_count, ids, n * sizeof(*ids));
    r->ids_count += n;
    r->total += n;
    begin(r);
    return MEMPHIS_OK;
}

static void begin_all(struct mp_resend *r, uint32_t upto, struct mp_list *after)
{
    r->is_all = true;
    r->number = ++r->dls->resends_count;
    r->upto = upto;
    r->after = after;
}

void mp_dls_resend_all(struct mp_station *s, struct mp_then then)
{
    struct mp_resend *r = resend_of(s);
    memphis_status st;

    if (r->is_all || r->is_noting) {
        then.fn(then.ctx, MEMPHIS_BUSY,
                "the dead letters of this station are being resent already");
        return;
    }
    if (s->dead_count == 0) {
        then.fn(then.ctx, MEMPHIS_OK, "");
        return;
    }
    begin_all(r, mp_dls_upto(s), &s->dead);
    r->total += s->dead_count;
    st = save(r);
    if (st != MEMPHIS_OK) {
        r->is_all = false;
        then.fn(then.ctx, st, "the store did not take it");
        return;
    }
    r->then = then;
    begin(r);
}

void mp_dls_resend_progress(const struct mp_station *s, struct mp_resend_progress *out)
{
    const struct mp_resend *r = s->resend;

    *out = (struct mp_resend_progress){ .done = 0 };
    if (r == NULL)
        return;
    out->done = r->done;
    out->total = r->total;
    out->is_running = is_running(r);
}

/* === What dls.c tells === */

void mp_resend_row_leaves(struct mp_dead_row *row)
{
    struct mp_resend *r = row->station != NULL ? row->station->resend : NULL;

    if (r != NULL && r->is_all && r->after == &row->of_station)
        r->after = row->of_station.prev;
}

static struct mp_resend *noted_at(struct mp_dls *d, const struct mp_log *log,
                                  uint64_t at)
{
    for (struct mp_list *l = d->resends.next; l != &d->resends; l = l->next) {
        struct mp_resend *r = mp_container_of(l, struct mp_resend, node);

        if (r->log == log && r->note_at == at)
            return r;
    }
    return NULL;
}

void mp_resend_noted(struct mp_dls *d, struct mp_log *log, const struct mp_entry *e,
                     const struct mp_resend_note *n, bool is_own)
{
    struct mp_station *s = mp_dls_station(d, n->station_id);
    struct mp_resend *r = s != NULL && s->resend != NULL ? s->resend
                                                         : resend_new(d, s, log);

    r->note_at = e->seq;
    r->is_noting = false;
    if (!is_own) { /* replay: `after` is found when all rows are there */
        r->is_all = s != NULL;
        r->upto = n->upto;
        r->behind = n->behind;
        r->done = n->done;
        r->total = n->total;
        return;
    }
    if (!r->is_all) /* done before, or its station is gone */
        remove_note(r);
    answer(r, MEMPHIS_OK, "");
}

void mp_resend_note_gone(struct mp_dls *d, const struct mp_log *log, uint64_t at)
{
    struct mp_resend *r = noted_at(d, log, at);

    if (r == NULL)
        return;
    r->note_at = 0;
    if (d->broker->starting) { /* it was over */
        r->is_all = false;
        r->done = r->total = 0;
    }
    if (r->station != NULL)
        return;
    mp_list_remove(&r->node);
    mp_free(r);
}

uint64_t mp_resend_first_note(const struct mp_dls *d, const struct mp_log *log)
{
    uint64_t first = UINT64_MAX;

    for (struct mp_list *l = d->resends.next; l != &d->resends; l = l->next) {
        const struct mp_resend *r = mp_container_of(l, struct mp_resend, node);

        if (r->log == log && r->note_at > 0 && r->note_at < first)
            first = r->note_at;
    }
    return first;
}

void mp_resend_failed(struct mp_dls *d, const struct mp_log *log)
{
    for (struct mp_list *l = d->resends.next; l != &d->resends; l = l->next) {
        struct mp_resend *r = mp_container_of(l, struct mp_resend, node);

        if (r->log != log || !r->is_noting)
            continue;
        r->is_noting = false;
        if (r->then.fn == NULL)
            continue; /* the note before it stands */
        r->is_all = false;
        answer(r, MEMPHIS_NO_SPACE, "the store did not take it");
    }
}

void mp_resend_station_gone(struct mp_station *s)
{
    struct mp_resend *r = s->resend;

    if (r == NULL)
        return;
    s->resend = NULL;
    if (!s->broker->starting)
        remove_note(r);
    r->station = NULL;
    r->is_all = false;
    mp_list_remove(&r->node);
    answer(r, MEMPHIS_NOT_FOUND, "the station was removed meanwhile");
    if (r->is_reading)
        return; /* freed by its reading */
    mp_free(r->ids);
    mp_free(r);
}

void mp_resend_started(struct mp_dls *d)
{
    struct mp_list *l, *next;

    for (l = d->resends.next; l != &d->resends; l = next) {
        struct mp_resend *r = mp_container_of(l, struct mp_resend, node);

        next = l->next;
        if (r->station == NULL)
            remove_note(r); /* freed when that is applied */
        if (!r->is_all)
            continue;
        begin_all(r, r->upto, &r->station->dead);
        while (r->after->next != &r->station->dead &&
               mp_container_of(r->after->next, struct mp_dead_row, of_station)->at <=
                   r->behind)
            r->after = r->after->next;
        r->from_ns = d->broker->now_ns + RESUME_MS * MS;
        r->saved_ns = d->broker->now_ns;
    }
    arm(d);
}

void mp_resend_init(struct mp_dls *d)
{
    mp_list_init(&d->resends);
    d->resending.fire = fire;
}

void mp_resend_free(struct mp_dls *d)
{
    struct mp_list *l;

    mp_timer_cancel(&d->broker->timers, &d->resending);
    while ((l = mp_list_pop_front(&d->resends)) != NULL) {
        struct mp_resend *r = mp_container_of(l, struct mp_resend, node);

        answer(r, MEMPHIS_CLOSED, "the broker is closing");
        if (r->station != NULL)
            r->station->resend = NULL;
        mp_free(r->ids);
        mp_free(r);
    }
}
