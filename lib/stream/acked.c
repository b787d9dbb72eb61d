/* Retention until acknowledged: a message goes when each group that there is has
 * settled it, or never wants it (broker-semantics 2). Without groups it goes at once.
 *
 *   floor of A  . . . . |  a  P  a  a |          what all have settled goes, by the
 *   floor of B  . . |  a  P  a  a     |          floor, and behind it one by one
 *                      ^        ^
 *                   removed: settled by both
 *
 * Whatever settles messages asks for a look; one look of a turn serves all who asked.
 * It walks over what is pending in any group, once, and takes so many steps at most: a
 * stream where much is pending is looked at in parts, and the less often the longer the
 * look was. */
#include "stream/internal.h"

#include "base/limits.h"
#include "base/mem.h"

enum {
    REASON_ACKED = 5,     /* of a floor entry (docs/disk-format.md) */
    STEPS_MAX = 16384,    /* of one look */
    STEPS_PER_MS = 256,   /* ... and how much later the next one is: about a percent */
    RETRY_MS = 1000,      /* the log was full */
    RANGES_MAX = 4096     /* of one entry; the rest follows */
};

struct mp_acked {
    struct mp_stream *stream;
    struct mp_list node;   /* of the host's looks */
    struct mp_timer timer; /* set: no look before then */
    struct mp_ranges gone; /* removed, or on their way */
    uint64_t at;           /* where a look goes on; 0: it begins anew */
    bool is_dirty;         /* something was settled since it began */
};

static void wake(struct mp_acked *a)
{
    if (!mp_list_is_linked(&a->node))
        mp_list_push_back(&a->stream->host->looks, &a->node);
}

static void fire(struct mp_timer *t, uint64_t now_ms)
{
    struct mp_acked *a = mp_container_of(t, struct mp_acked, timer);

    (void)now_ms;
    if (a->is_dirty || a->at > 0)
        wake(a);
}

static void look_later(struct mp_acked *a, uint64_t ms)
{
    if (ms > 0)
        mp_timer_set(a->stream->host->timers, &a->timer,
                     *a->stream->host->now_ns / 1000000 + ms);
}

void mp_stream_limit_acked(struct mp_stream *s)
{
    struct mp_acked *a = s->acked;

    if (s->settings.limit != MP_LIMIT_ACKED)
        return;
    if (a == NULL) {
        a = s->acked = mp_alloc(sizeof *a);
        a->stream = s;
        a->timer.fire = fire;
    }
    a->is_dirty = true;
    if (!mp_timer_is_set(&a->timer))
        wake(a);
}

void mp_stream_acked_failed(struct mp_stream *s)
{
    struct mp_acked *a = s->acked;

    if (a == NULL)
        return;
    mp_ranges_cut(&a->gone, 0); /* all of it is asked for again */
    a->at = 0;
    a->is_dirty = true;
    look_later(a, RETRY_MS);
}

void mp_stream_acked_free(struct mp_stream *s)
{
    struct mp_acked *a = s->acked;

    if (a == NULL)
        return;
    mp_list_remove(&a->node);
    mp_timer_cancel(s->host->timers, &a->timer);
    mp_ranges_fini(&a->gone);
    mp_free(a);
    s->acked = NULL;
}

/* === What is pending in any group, in order === */

struct place {
    uint64_t seq;
    const struct mp_stream_group *group;
};

struct walk {
    struct place *heap; /* the lowest sequence first; a place per group */
    size_t count;
    uint64_t steps;
};

static void sift_down(struct walk *w, size_t i)
{
    for (size_t child; (child = 2 * i + 1) < w->count; i = child) {
        struct place moved = w->heap[i];

        if (child + 1 < w->count && w->heap[child + 1].seq < w->heap[child].seq)
            child++;
        if (moved.seq <= w->heap[child].seq)
            return;
        w->heap[i] = w->heap[child];
        w->heap[child] = moved;
    }
}

static void walk_init(struct walk *w, const struct mp_stream *s, uint64_t at)
{
    struct mp_stream_group *g;

    *w = (struct walk){ .heap = mp_realloc(NULL, (s->groups.count + 1) *
                                                     sizeof *w->heap) };
    for (uint32_t i = 0; (g = mp_map_next(&s->groups, &i)) != NULL; w->steps++) {
        struct place *p = &w->heap[w->count];

        p->group = g;
        w->count += mp_pending_lowest(&g->group.pending, at, &p->seq);
    }
    for (size_t i = w->count / 2; i-- > 0;)
        sift_down(w, i);
}

/* The lowest one at or above `at`; `end` when there is none below it. */
static uint64_t walk_next(struct walk *w, uint64_t at, uint64_t end)
{
    for (; w->count > 0 && w->heap[0].seq < at; w->steps++) {
        if (!mp_pending_lowest(&w->heap[0].group->group.pending, at, &w->heap[0].seq))
            w->heap[0] = w->heap[--w->count];
        sift_down(w, 0);
    }
    return w->count > 0 && w->heap[0].seq < end ? w->heap[0].seq : end;
}

/* === A look === */

/* All groups have settled what is below *floor, and seen what is below *end. */
static void measure(const struct mp_stream *s, uint64_t *floor, uint64_t *end)
{
    struct mp_stream_group *g;

    *floor = *end = mp_log_last(s->log, s->pid) + 1;
    for (uint32_t i = 0; (g = mp_map_next(&s->groups, &i)) != NULL;) {
        if (g->group.floor + 1 < *floor)
            *floor = g->group.floor + 1;
        if (g->group.next < *end)
            *end = g->group.next;
    }
}

/* Those of [first, last] that were not removed before, behind the range that ended at
 * `before`; returns where the last one ends. */
static uint64_t put_ranges(struct mp_acked *a, uint64_t first, uint64_t last,
                           uint64_t before, uint64_t *count, struct mp_buf *out)
{
    while ((first = mp_ranges_skip(&a->gone, first)) <= last) {
        uint64_t end = first + 1;
        while (end <= last && mp_ranges_skip(&a->gone, end) == end)
            end++;
        mp_buf_put_varint(out, first - before);
        mp_buf_put_varint(out, end - first);
        mp_ranges_add(&a->gone, first, end - 1);
        before = end;
        first = end;
        ++*count;
    }
    return before;
}

static memphis_status append_removal(struct mp_stream *s, uint64_t from, uint64_t count,
                                     const struct mp_buf *ranges)
{
    struct mp_buf payload = { 0 };
    memphis_status st;
    struct mp_entry e = { .type = MP_ENTRY_DELETE,
                          .pid = s->pid,
                          .seq = from,
                          .time_ns = *s->host->now_ns };

    mp_buf_put_varint(&payload, count);
    mp_buf_put_slice(&payload, mp_buf_slice(ranges));
    e.payload = mp_buf_slice(&payload);
    st = mp_log_append(s->log, &e, 1, MP_STREAM_TAG);
    mp_buf_fini(&payload);
    return st;
}

/* Removes from a->at on what nobody waits for. *steps: what it cost. */
static memphis_status remove_settled(struct mp_acked *a, uint64_t end, uint64_t *steps)
{
    struct mp_buf ranges = { 0 };
    uint64_t from = a->at, before = from, count = 0;
    memphis_status st = MEMPHIS_OK;
    struct walk w;

    walk_init(&w, a->stream, from);
    while (a->at < end && w.steps < STEPS_MAX && count < RANGES_MAX) {
        uint64_t pending = walk_next(&w, a->at, end);
        if (pending > a->at)
            before = put_ranges(a, a->at, pending - 1, before, &count, &ranges);
        a->at = pending + 1;
    }
    if (count > 0)
        st = append_removal(a->stream, from, count, &ranges);
    *steps = w.steps;
    mp_free(w.heap);
    mp_buf_fini(&ranges);
    return st;
}

static void look(struct mp_acked *a)
{
    struct mp_stream *s = a->stream;
    uint64_t floor, end, steps = s->groups.count;
    memphis_status st = MEMPHIS_OK;

    measure(s, &floor, &end);
    mp_ranges_trim(&a->gone, floor);
    if (a->at <= floor) {
        a->at = floor;
        a->is_dirty = false;
    }
    if (!mp_stream_propose_floor(s, floor, REASON_ACKED))
        st = MEMPHIS_NO_SPACE;
    else if (a->at < end)
        st = remove_settled(a, end, &steps);
    if (st != MEMPHIS_OK) {
        mp_stream_acked_failed(s);
        return;
    }
    if (a->at >= end)
        a->at = 0;
    look_later(a, steps / STEPS_PER_MS);
    if ((a->is_dirty || a->at > 0) && !mp_timer_is_set(&a->timer))
        wake(a);
}

void mp_streams_look(struct mp_stream_host *h)
{
    struct mp_list now, *l;

    mp_list_init(&now);
    while ((l = mp_list_pop_front(&h->looks)) != NULL)
        mp_list_push_back(&now, l);
    while ((l = mp_list_pop_front(&now)) != NULL)
        look(mp_container_of(l, struct mp_acked, node));
}
