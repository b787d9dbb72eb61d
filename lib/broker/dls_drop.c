/* Removal of dead letters: by id, or all of a station in steps. A row whose letter is
 * being written anew waits for that one, else the new one would stay. */
#include "broker/dls_internal.h"

#include <stdlib.h>

enum { STEP_MAX = 4096 }; /* letters in one append */

struct mp_entry mp_dls_removal(uint64_t at, uint64_t now_ns,
                               uint8_t space[MP_REMOVAL_MAX])
{
    space[0] = 1; /* one range, right there, of one */
    space[1] = 0;
    space[2] = 1;
    return (struct mp_entry){ .type = MP_ENTRY_DELETE,
                              .seq = at,
                              .time_ns = now_ns,
                              .payload = mp_slice(space, 3) };
}

void mp_dls_remove(struct mp_dls *d, struct mp_dead_row *row)
{
    uint8_t space[MP_REMOVAL_MAX];
    struct mp_entry e;

    if (row->at == 0 || row->is_changing)
        return;
    e = mp_dls_removal(row->at, d->broker->now_ns, space);
    if (mp_log_append(row->log, &e, 1, MP_STREAM_TAG) == MEMPHIS_OK)
        mp_dls_leaves(d, row->log, row->at);
}

/* === Places, many in one append === */

static int by_place(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

    return (x > y) - (x < y);
}

/* Places in order, none twice: as runs of neighbours. */
static void put_ranges(const uint64_t *at, size_t n, struct mp_buf *out)
{
    struct mp_buf runs = { 0 };
    uint64_t count = 0, end = at[0];

    for (size_t i = 0, k; i < n; i = k) {
        for (k = i + 1; k < n && at[k] == at[k - 1] + 1; k++)
            ;
        mp_buf_put_varint(&runs, at[i] - end);
        mp_buf_put_varint(&runs, k - i);
        end = at[k - 1] + 1;
        count++;
    }
    mp_buf_put_varint(out, count);
    mp_buf_put_slice(out, mp_buf_slice(&runs));
    mp_buf_fini(&runs);
}

static void append(struct mp_dls *d, struct mp_log *log, const uint64_t *at, size_t n,
                   struct mp_operation *op)
{
    struct mp_buf b = { 0 };
    struct mp_entry e = { .type = MP_ENTRY_DELETE,
                          .seq = at[0],
                          .time_ns = d->broker->now_ns };
    memphis_status st;

    put_ranges(at, n, &b);
    e.payload = mp_buf_slice(&b);
    st = mp_log_append(log, &e, 1, mp_operation_tag(op));
    if (st != MEMPHIS_OK) {
        mp_operation_fail(op, st, "the dead letters could not be removed");
        mp_operation_done(op);
    }
    for (size_t i = 0; i < n && st == MEMPHIS_OK; i++)
        mp_dls_leaves(d, log, at[i]);
    mp_buf_fini(&b);
}

/* === By id === */

struct late {
    struct mp_dls *dls;
    struct mp_operation *op; /* counts it already */
};

static void drop_late(void *ctx, struct mp_dead_row *row,
                      const struct mp_dead_letter *letter)
{
    struct late *l = ctx;

    (void)letter;
    if (l->dls->is_closing)
        mp_operation_fail(l->op, MEMPHIS_CLOSED, "the broker is closing");
    else if (row != NULL)
        append(l->dls, row->log, &row->at, 1, l->op);
    mp_operation_done(l->op);
    mp_free(l);
}

static void drop_later(struct mp_dls *d, uint32_t id, struct mp_operation *op)
{
    struct late *l = mp_alloc(sizeof(*l));

    *l = (struct late){ d, op };
    op->outstanding++;
    mp_dls_read(d->broker, id, drop_late, l);
}

void mp_dls_drop(struct mp_station *s, const uint32_t *ids, size_t n,
                 struct mp_then then)
{
    struct mp_dls *d = s->broker->dls;
    struct mp_operation *op = mp_operation_new(s->broker, then);
    uint64_t *at = n > 0 ? mp_alloc(n * sizeof(*at)) : NULL;
    size_t count = 0, unique = 0;

    for (size_t i = 0; i < n; i++) {
        struct mp_dead_row *row = mp_dls_find(s->broker, ids[i]);

        if (row == NULL || row->station != s)
            continue;
        if (row->is_changing)
            drop_later(d, row->id, op);
        else
            at[count++] = row->at;
    }
    if (count > 0)
        qsort(at, count, sizeof(*at), by_place);
    for (size_t i = 0; i < count; i++)
        if (unique == 0 || at[i] != at[unique - 1])
            at[unique++] = at[i];
    for (size_t i = 0; i < unique; i += STEP_MAX)
        append(d, mp_station_log(s), at + i,
               unique - i < STEP_MAX ? unique - i : STEP_MAX, op);
    mp_operation_done(op);
    mp_free(at);
}

/* === All === */

struct purge {
    struct mp_dls *dls;
    uint32_t station_id, upto;
    struct mp_then then;
};

static void purge_step(struct purge *p);

static void purge_end(struct purge *p, memphis_status st, const char *text)
{
    struct mp_then then = p->then;

    mp_free(p);
    if (then.fn != NULL)
        then.fn(then.ctx, st, text);
}

static void on_step(void *ctx, memphis_status st, const char *text)
{
    struct purge *p = ctx;

    if (st != MEMPHIS_OK)
        purge_end(p, st, text);
    else
        purge_step(p);
}

static void on_changed(void *ctx, struct mp_dead_row *row,
                       const struct mp_dead_letter *letter)
{
    struct purge *p = ctx;

    (void)row, (void)letter;
    if (p->dls->is_closing)
        purge_end(p, MEMPHIS_CLOSED, "the broker is closing");
    else
        purge_step(p);
}

/* What came since is at the end of the list, with what is being written anew. */
static void purge_step(struct purge *p)
{
    struct mp_broker *b = p->dls->broker;
    struct mp_station *s = mp_dls_station(p->dls, p->station_id);
    struct mp_dead_row *row, *changing = NULL;
    uint64_t at[STEP_MAX];
    size_t n = 0;

    for (row = s != NULL ? mp_dls_next(s, NULL) : NULL; row != NULL && n < STEP_MAX;
         row = mp_dls_next(s, row)) {
        if (!mp_dls_is_older(row->id, p->upto))
            continue;
        if (row->is_changing)
            changing = row;
        else
            at[n++] = row->at;
    }
    if (n > 0) {
        struct mp_operation *op =
            mp_operation_new(b, (struct mp_then){ on_step, p });
        append(p->dls, mp_station_log(s), at, n, op);
        mp_operation_done(op);
    } else if (changing != NULL) {
        mp_dls_read(b, changing->id, on_changed, p);
    } else {
        purge_end(p, MEMPHIS_OK, "");
    }
}

void mp_dls_drop_all(struct mp_station *s, struct mp_then then)
{
    struct mp_dls *d = s->broker->dls;
    struct purge *p = mp_alloc(sizeof(*p));

    p->dls = d;
    p->station_id = s->id;
    p->upto = mp_dls_upto(s);
    p->then = then;
    purge_step(p);
}
