#include "stream/group.h"

#include "base/assert.h"
#include "base/limits.h"
#include "base/mem.h"

#include <stdlib.h>

/* From this delivery on the count is committed before the message goes out. */
enum { COUNTED_FROM = 3 };

/* UINT64_MAX is never: what would lie beyond it does not come round again. */
static uint64_t later(uint64_t time_ns, uint64_t wait_ns)
{
    return wait_ns < UINT64_MAX - time_ns ? time_ns + wait_ns : UINT64_MAX;
}

/* === What the next progress will say === */

static void note_settled(struct mp_group *g, uint64_t first, uint64_t last)
{
    size_t n = g->settled_count;

    g->dirty = true;
    if (n > 0 && g->settled[n - 1].last + 1 == first) {
        g->settled[n - 1].last = last; /* acks mostly come in order */
        return;
    }
    if (n == g->settled_capacity) {
        g->settled_capacity = n ? n * 2 : 8;
        g->settled = mp_realloc(g->settled, g->settled_capacity * sizeof(*g->settled));
    }
    g->settled[g->settled_count++] = (struct mp_group_range){ first, last };
}

static void note_touched(struct mp_group *g, uint64_t seq, struct mp_pending_item *i)
{
    g->dirty = true;
    if (i->flags & MP_PENDING_TOUCHED)
        return;
    i->flags |= MP_PENDING_TOUCHED;
    if (g->touched_count == g->touched_capacity) {
        g->touched_capacity = g->touched_capacity ? g->touched_capacity * 2 : 8;
        g->touched = mp_realloc(g->touched, g->touched_capacity * sizeof(*g->touched));
    }
    g->touched[g->touched_count++] = seq;
}

static void raise_floor(struct mp_group *g)
{
    uint64_t lowest;

    if (!mp_pending_lowest(&g->pending, g->floor + 1, &lowest))
        lowest = g->next;
    mp_assert(lowest > g->floor);
    g->floor = lowest - 1;
}

static void settle(struct mp_group *g, uint64_t seq, const struct mp_pending_item *i)
{
    if (i->deliveries >= 2)
        g->redelivered--;
    mp_pending_remove(&g->pending, seq);
    note_settled(g, seq, seq);
    if (seq == g->floor + 1)
        raise_floor(g);
}

/* === Redelivery === */

static void become_due(struct mp_group *g, uint64_t seq, struct mp_pending_item *i,
                       mp_group_dead_fn dead, void *ctx)
{
    uint32_t deliveries = i->deliveries;

    if (g->config.deliveries_max > 0 && deliveries >= g->config.deliveries_max) {
        mp_pending_move(&g->pending, seq, i, MP_PENDING_DYING, 0);
        dead(ctx, seq, deliveries);
    } else if (deliveries + 1 >= COUNTED_FROM && deliveries < UINT16_MAX) {
        i->deliveries++;
        mp_pending_move(&g->pending, seq, i, MP_PENDING_COUNTING, 0);
        note_touched(g, seq, i);
    } else {
        /* Before its time what was logged of it does not hold any more. */
        if (i->state == MP_PENDING_DELAYED || (i->flags & MP_PENDING_RETURNED) != 0)
            note_touched(g, seq, i);
        mp_pending_move(&g->pending, seq, i, MP_PENDING_READY, 0);
    }
}

static int by_seq(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

    return x < y ? -1 : x > y;
}

/* Everything that has expired by now, for one run of the timer. */
static size_t collect_due(struct mp_group *g, uint64_t now_ns, uint64_t **out)
{
    size_t count = 0, capacity = 0;
    uint64_t seq, due;
    bool more = mp_pending_first(&g->pending, MP_PENDING_WAITING, &seq);

    *out = NULL;
    while (more) {
        const struct mp_pending_item *i = mp_pending_find(&g->pending, seq);

        if (later(i->time_ns, g->config.ack_wait_ns) > now_ns)
            break;
        if (count == capacity) {
            capacity = capacity ? capacity * 2 : 32;
            *out = mp_realloc(*out, capacity * sizeof(**out));
        }
        (*out)[count++] = seq;
        more = mp_pending_after(&g->pending, i, &seq);
    }
    while (mp_pending_due(&g->pending, &seq, &due) && due <= now_ns) {
        struct mp_pending_item *i = mp_pending_find(&g->pending, seq);

        if (count == capacity) {
            capacity = capacity ? capacity * 2 : 32;
            *out = mp_realloc(*out, capacity * sizeof(**out));
        }
        (*out)[count++] = seq;
        /* Out of the heap, so that the loop goes on with the next. */
        mp_pending_move(&g->pending, seq, i, MP_PENDING_READY, 0);
    }
    return count;
}

/* === Public: life === */

void mp_group_init(struct mp_group *g, const struct mp_group_config *c, uint64_t start)
{
    mp_assert(start >= 1);
    memset(g, 0, sizeof(*g));
    g->config = *c;
    g->next = start;
    g->floor = start - 1;
    mp_pending_init(&g->pending);
}

void mp_group_fini(struct mp_group *g)
{
    mp_pending_fini(&g->pending);
    mp_free(g->settled);
    mp_free(g->touched);
    memset(g, 0, sizeof(*g));
}

void mp_group_configure(struct mp_group *g, const struct mp_group_config *c)
{
    g->config = *c;
}

/* === Public: delivery === */

enum mp_group_pick mp_group_pick(const struct mp_group *g, uint64_t last, uint64_t *seq)
{
    if (mp_pending_first(&g->pending, MP_PENDING_READY, seq))
        return MP_PICK_AGAIN;
    if (g->next > last || g->pending.count >= g->config.pending_max ||
        g->next - g->floor >= MP_PENDING_WINDOW_MAX / 2)
        return MP_PICK_NONE;
    *seq = g->next;
    return MP_PICK_NEW;
}

void mp_group_deliver(struct mp_group *g, uint64_t seq, uint64_t now_ns,
                      uint32_t *deliveries, uint64_t *dseq)
{
    struct mp_pending_item *i = mp_pending_find(&g->pending, seq);

    if (i == NULL) {
        mp_assert(seq >= g->next);
        mp_group_skip(g, seq);
        g->next = seq + 1;
        i = mp_pending_add(&g->pending, seq, MP_PENDING_WAITING, now_ns);
        i->deliveries = 1;
        g->dirty = true;
    } else {
        mp_assert(i->state == MP_PENDING_READY);
        if (i->deliveries + 1 < COUNTED_FROM) {
            i->deliveries++; /* later ones were counted when they became due */
            g->redelivered += i->deliveries == 2;
        }
        mp_pending_move(&g->pending, seq, i, MP_PENDING_WAITING, now_ns);
        note_touched(g, seq, i);
    }
    i->dseq = (uint32_t)++g->dseq;
    *deliveries = i->deliveries;
    *dseq = g->dseq;
}

void mp_group_skip(struct mp_group *g, uint64_t seq)
{
    if (seq <= g->next)
        return;
    if (g->floor == g->next - 1)
        g->floor = seq - 1;
    else
        note_settled(g, g->next, seq - 1);
    g->next = seq;
    g->dirty = true;
}

uint32_t mp_group_deliveries(const struct mp_group *g, uint64_t seq)
{
    const struct mp_pending_item *i = mp_pending_find(&g->pending, seq);

    if (i == NULL)
        return 0;
    bool is_ahead = i->state == MP_PENDING_COUNTING ||
                    (i->state == MP_PENDING_READY && i->deliveries >= COUNTED_FROM);
    return (uint32_t)i->deliveries - is_ahead;
}

/* === Public: settlement === */

bool mp_group_ack(struct mp_group *g, uint64_t seq)
{
    struct mp_pending_item *i = mp_pending_find(&g->pending, seq);

    if (i == NULL)
        return false;
    settle(g, seq, i);
    return true;
}

bool mp_group_die(struct mp_group *g, uint64_t seq)
{
    struct mp_pending_item *i = mp_pending_find(&g->pending, seq);

    if (i == NULL || i->state == MP_PENDING_DYING)
        return false;
    mp_pending_move(&g->pending, seq, i, MP_PENDING_DYING, 0);
    return true;
}

bool mp_group_bury(struct mp_group *g, uint64_t seq)
{
    struct mp_pending_item *i = mp_pending_find(&g->pending, seq);

    if (i == NULL || i->state != MP_PENDING_DYING)
        return false;
    mp_assert((i->flags & MP_PENDING_BURIED) == 0);
    i->flags |= MP_PENDING_BURIED;
    note_settled(g, seq, seq);
    return true;
}

void mp_group_exhume(struct mp_group *g, uint64_t seq)
{
    struct mp_pending_item *i = mp_pending_find(&g->pending, seq);

    if (i != NULL)
        i->flags &= (uint8_t)~MP_PENDING_BURIED;
}

bool mp_group_extend(struct mp_group *g, uint64_t seq, uint64_t now_ns)
{
    struct mp_pending_item *i = mp_pending_find(&g->pending, seq);

    if (i == NULL || i->state != MP_PENDING_WAITING)
        return false;
    mp_pending_move(&g->pending, seq, i, MP_PENDING_WAITING, now_ns);
    return true;
}

void mp_group_delay(struct mp_group *g, uint64_t seq, uint64_t due_ns)
{
    struct mp_pending_item *i = mp_pending_find(&g->pending, seq);

    if (i == NULL || (i->state != MP_PENDING_WAITING && i->state != MP_PENDING_DELAYED))
        return;
    mp_pending_move(&g->pending, seq, i, MP_PENDING_DELAYED, due_ns);
    note_touched(g, seq, i);
}

bool mp_group_nack(struct mp_group *g, uint64_t seq, uint64_t delay_ns, uint64_t now_ns,
                   mp_group_dead_fn dead, void *ctx)
{
    struct mp_pending_item *i = mp_pending_find(&g->pending, seq);

    if (i == NULL || (i->state != MP_PENDING_WAITING && i->state != MP_PENDING_DELAYED))
        return false;
    if (delay_ns == 0) {
        become_due(g, seq, i, dead, ctx);
        return true;
    }
    mp_pending_move(&g->pending, seq, i, MP_PENDING_DELAYED, later(now_ns, delay_ns));
    note_touched(g, seq, i);
    return true;
}

bool mp_group_return(struct mp_group *g, uint64_t seq, uint32_t deliveries)
{
    struct mp_pending_item *i = mp_pending_find(&g->pending, seq);

    if (i == NULL || i->state != MP_PENDING_WAITING || i->deliveries != deliveries)
        return false;
    if (deliveries < COUNTED_FROM) { /* else its durable count is the next one's */
        i->deliveries--;
        g->redelivered -= i->deliveries == 1;
    }
    mp_pending_move(&g->pending, seq, i, MP_PENDING_READY, 0);
    i->flags |= MP_PENDING_RETURNED;
    note_touched(g, seq, i);
    return true;
}

void mp_group_forget(struct mp_group *g, uint64_t first, uint64_t last)
{
    uint64_t seq, from = first;

    while (mp_pending_lowest(&g->pending, from, &seq) && seq <= last) {
        settle(g, seq, mp_pending_find(&g->pending, seq));
        from = seq + 1;
    }
}

void mp_group_trim(struct mp_group *g, uint64_t first)
{
    if (first == 0)
        return;
    mp_group_forget(g, 0, first - 1);
    if (g->next < first) {
        g->next = first;
        g->dirty = true;
    }
    if (g->floor < first - 1) {
        g->floor = first - 1;
        g->dirty = true;
    }
}

void mp_group_tick(struct mp_group *g, uint64_t now_ns, mp_group_dead_fn dead,
                   void *ctx)
{
    uint64_t *due;
    size_t count = collect_due(g, now_ns, &due);

    if (count > 1)
        qsort(due, count, sizeof(*due), by_seq);
    for (size_t n = 0; n < count; n++) {
        struct mp_pending_item *i = mp_pending_find(&g->pending, due[n]);

        if (i != NULL) /* a dead letter may have trimmed the group meanwhile */
            become_due(g, due[n], i, dead, ctx);
    }
    mp_free(due);
}

uint64_t mp_group_due_ns(struct mp_group *g)
{
    uint64_t seq, at, due = UINT64_MAX;

    if (mp_pending_first(&g->pending, MP_PENDING_WAITING, &seq))
        due = later(mp_pending_find(&g->pending, seq)->time_ns, g->config.ack_wait_ns);
    if (mp_pending_due(&g->pending, &seq, &at) && at < due)
        due = at;
    return due;
}

/* === Public: progress === */

bool mp_group_has_progress(const struct mp_group *g)
{
    return g->dirty && !g->in_flight;
}

static int by_first(const void *a, const void *b)
{
    const struct mp_group_range *x = a, *y = b;

    return x->first < y->first ? -1 : x->first > y->first;
}

static void encode_ranges(const struct mp_group *g, struct mp_group_range *r, size_t n,
                          struct mp_buf *out)
{
    size_t live = 0;
    uint64_t end = g->floor;

    if (n > 1)
        qsort(r, n, sizeof(*r), by_first);
    for (size_t i = 0; i < n; i++) {
        if (r[i].last <= g->floor)
            continue; /* the floor says it */
        if (r[i].first <= g->floor)
            r[i].first = g->floor + 1;
        if (live > 0 && r[live - 1].last + 1 >= r[i].first) {
            if (r[i].last > r[live - 1].last)
                r[live - 1].last = r[i].last;
        } else {
            r[live++] = r[i];
        }
    }
    mp_buf_put_varint(out, live);
    for (size_t i = 0; i < live; i++) {
        mp_buf_put_varint(out, r[i].first - end);
        mp_buf_put_varint(out, r[i].last - r[i].first + 1);
        end = r[i].last;
    }
}

/* 0: due now (it was on its way out). A dying one was due, whenever that was: it has
 * not become ready, and does not after a start. */
static uint64_t named_due(const struct mp_group *g, const struct mp_pending_item *i)
{
    if (i->state == MP_PENDING_DYING)
        return 1;
    if (i->state == MP_PENDING_WAITING)
        return later(i->time_ns, g->config.ack_wait_ns);
    return i->state == MP_PENDING_DELAYED ? i->time_ns : 0;
}

static bool is_named(const struct mp_pending_item *i, bool buried)
{
    return i != NULL && !(buried && (i->flags & MP_PENDING_BURIED)) &&
           (i->deliveries >= 2 || i->state == MP_PENDING_DELAYED ||
            i->state == MP_PENDING_READY || i->state == MP_PENDING_DYING ||
            (i->flags & MP_PENDING_RETURNED) != 0);
}

/* `buried`: those are settled by what is being encoded, and not named. */
static void encode_named(const struct mp_group *g, const uint64_t *seqs, size_t n,
                         bool buried, struct mp_buf *out)
{
    uint64_t before = g->floor;
    uint64_t named = 0;

    for (size_t k = 0; k < n; k++)
        named += is_named(mp_pending_find(&g->pending, seqs[k]), buried);
    mp_buf_put_varint(out, named);
    for (size_t k = 0; k < n; k++) {
        const struct mp_pending_item *i = mp_pending_find(&g->pending, seqs[k]);

        if (!is_named(i, buried))
            continue;
        mp_buf_put_varint(out, seqs[k] - before);
        mp_buf_put_u16(out, i->deliveries);
        mp_buf_put_u64(out, named_due(g, i));
        before = seqs[k];
    }
}

/* All of it. `buried`: those are settled. */
static void encode_state(const struct mp_group *g, bool buried, struct mp_buf *out)
{
    struct mp_group_range *holes = NULL;
    uint64_t *seqs = NULL;
    size_t holes_count = 0, seqs_count = 0;
    uint64_t seq, from = g->floor + 1;

    if (g->pending.count > 0) {
        holes = mp_alloc((g->pending.count + 1) * sizeof(*holes));
        seqs = mp_alloc(g->pending.count * sizeof(*seqs));
    }
    for (uint64_t at = from; mp_pending_lowest(&g->pending, at, &seq); at = seq + 1) {
        if (buried && (mp_pending_find(&g->pending, seq)->flags & MP_PENDING_BURIED))
            continue;
        if (seq > from)
            holes[holes_count++] = (struct mp_group_range){ from, seq - 1 };
        seqs[seqs_count++] = seq;
        from = seq + 1;
    }
    if (from < g->next) /* some are pending, or the floor would be there */
        holes[holes_count++] = (struct mp_group_range){ from, g->next - 1 };
    mp_buf_put_u64(out, g->next);
    mp_buf_put_u64(out, g->floor);
    encode_ranges(g, holes, holes_count, out);
    encode_named(g, seqs, seqs_count, buried, out);
    mp_free(holes);
    mp_free(seqs);
}

void mp_group_progress_encode(struct mp_group *g, struct mp_buf *out)
{
    mp_assert(mp_group_has_progress(g));
    if (g->touched_count > 1)
        qsort(g->touched, g->touched_count, sizeof(*g->touched), by_seq);
    if (g->whole) {
        encode_state(g, true, out);
    } else {
        mp_buf_put_u64(out, g->next);
        mp_buf_put_u64(out, g->floor);
        encode_ranges(g, g->settled, g->settled_count, out);
        encode_named(g, g->touched, g->touched_count, true, out);
    }
    for (size_t k = 0; k < g->touched_count; k++) {
        struct mp_pending_item *i = mp_pending_find(&g->pending, g->touched[k]);

        if (i != NULL)
            i->flags &= (uint8_t)~MP_PENDING_TOUCHED;
    }
    g->settled_count = g->touched_count = 0;
    g->dirty = g->whole = false;
    g->in_flight = true;
}

void mp_group_progress_committed(struct mp_group *g)
{
    uint64_t seq;

    mp_assert(g->in_flight);
    g->in_flight = false;
    /* What was counted in this progress may go out; what came later is still touched.
     */
    while (mp_pending_first(&g->pending, MP_PENDING_COUNTING, &seq)) {
        struct mp_pending_item *i = mp_pending_find(&g->pending, seq);

        if (i->flags & MP_PENDING_TOUCHED)
            break;
        mp_pending_move(&g->pending, seq, i, MP_PENDING_READY, 0);
    }
}

void mp_group_progress_failed(struct mp_group *g)
{
    mp_assert(g->in_flight);
    g->in_flight = false;
    g->dirty = g->whole = true;
}

void mp_group_state_encode(const struct mp_group *g, struct mp_buf *out)
{
    encode_state(g, false, out);
}

/* === Public: replay === */

/* [from, to) went out and was not settled by then. False: no group has so many open. */
static bool replay_out(struct mp_group *g, uint64_t from, uint64_t to)
{
    from = from > g->next ? from : g->next;
    if (from < to && g->pending.count + (to - from) > 2 * MP_PENDING_MAX)
        return false;
    for (uint64_t s = from; s < to; s++)
        if (mp_pending_find(&g->pending, s) == NULL)
            mp_pending_add(&g->pending, s, MP_PENDING_READY, 0)->deliveries = 1;
    if (to > g->next)
        g->next = to;
    return true;
}

static void replay_named(struct mp_group *g, uint64_t seq, uint16_t deliveries,
                         uint64_t due_ns)
{
    struct mp_pending_item *i = mp_pending_find(&g->pending, seq);

    if (i != NULL && i->deliveries >= 2)
        g->redelivered--;
    if (i == NULL)
        i = mp_pending_add(&g->pending, seq, MP_PENDING_READY, 0);
    i->deliveries = deliveries;
    if (due_ns > 0)
        mp_pending_move(&g->pending, seq, i, MP_PENDING_DELAYED, due_ns);
    else
        mp_pending_move(&g->pending, seq, i, MP_PENDING_READY, 0);
    if (deliveries >= 2)
        g->redelivered++;
    if (deliveries == 0)
        i->flags |= MP_PENDING_RETURNED;
}

memphis_status mp_group_progress_replay(struct mp_group *g, struct mp_cursor *in)
{
    uint64_t next = mp_cursor_u64(in);
    uint64_t floor = mp_cursor_u64(in);
    uint64_t count, at = floor;

    if (in->bad || floor >= next || next - floor > MP_PENDING_WINDOW_MAX)
        return MEMPHIS_CORRUPT;
    if (floor > g->floor)
        mp_group_trim(g, floor + 1);
    for (count = mp_cursor_varint(in); count > 0 && !in->bad; count--) {
        uint64_t first = at + mp_cursor_varint(in);
        uint64_t length = mp_cursor_varint(in);

        if (in->bad || first <= at || first >= next || length > next - first ||
            length == 0 || !replay_out(g, at + 1, first))
            return MEMPHIS_CORRUPT;
        at = first + length - 1;
        mp_group_forget(g, first, at);
    }
    if (!replay_out(g, at + 1, next))
        return MEMPHIS_CORRUPT;
    /* What was buried went behind this floor; it may have come and gone in here. */
    if (g->floor + 1 < g->next && mp_pending_find(&g->pending, g->floor + 1) == NULL)
        raise_floor(g);
    at = floor;
    for (count = mp_cursor_varint(in); count > 0 && !in->bad; count--) {
        uint64_t seq = at + mp_cursor_varint(in);
        uint16_t deliveries = mp_cursor_u16(in);
        uint64_t due_ns = mp_cursor_u64(in);

        if (in->bad || seq <= at || seq >= next)
            return MEMPHIS_CORRUPT;
        at = seq;
        if (seq > g->floor)
            replay_named(g, seq, deliveries, due_ns);
    }
    return in->bad ? MEMPHIS_CORRUPT : MEMPHIS_OK;
}

/* With one delivery at most, what was delivered before the start is not again: it is
 * given up by the next tick. */
static void give_up_delivered(struct mp_group *g, uint64_t now_ns)
{
    uint64_t seq, from = 0;

    for (; mp_pending_lowest(&g->pending, from, &seq); from = seq + 1) {
        struct mp_pending_item *i = mp_pending_find(&g->pending, seq);

        if (i->state == MP_PENDING_READY && i->deliveries == 1)
            mp_pending_move(&g->pending, seq, i, MP_PENDING_DELAYED, now_ns);
    }
}

void mp_group_replay_done(struct mp_group *g, uint64_t last, uint64_t now_ns)
{
    if (g->next > last + 1) { /* never ahead of the log (storage-design 8) */
        mp_group_forget(g, last + 1, UINT64_MAX);
        g->next = last + 1;
        if (g->floor > last)
            g->floor = last;
    }
    if (g->config.deliveries_max == 1)
        give_up_delivered(g, now_ns);
    g->dseq = g->next - 1; /* deliveries of earlier runs are not counted apart */
    g->settled_count = 0;
    g->dirty = false;
}

/* === Public: queries === */

uint64_t mp_group_ack_floor_dseq(const struct mp_group *g)
{
    uint32_t back = 0; /* how far the oldest open delivery lies behind the newest */

    for (int s = MP_PENDING_WAITING; s < MP_PENDING_STATES; s++) {
        uint64_t seq;

        if (mp_pending_first(&g->pending, (enum mp_pending_state)s, &seq)) {
            uint32_t b =
                (uint32_t)g->dseq - mp_pending_find(&g->pending, seq)->dseq + 1;

            back = b > back ? b : back;
        }
    }
    return back > g->dseq ? 0 : g->dseq - back;
}

void mp_group_check(const struct mp_group *g)
{
    uint64_t seq;

    mp_pending_check(&g->pending);
    mp_assert(g->floor < g->next);
    if (mp_pending_lowest(&g->pending, 0, &seq))
        mp_assert(seq > g->floor);
    mp_assert(!mp_pending_lowest(&g->pending, g->next, &seq));
}
