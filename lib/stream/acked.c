/* Retention until acknowledged: a message goes when each group that there is has
 * settled it, or never wants it (broker-semantics 2). Without groups it goes at once.
 *
 *   floor of A  . . . . |  a  P  a  a |          what all have settled goes, by the
 *   floor of B  . . |  a  P  a  a     |          floor, and behind it one by one
 *                      ^        ^
 *                   removed: settled by both
 */
#include "stream/internal.h"

#include "base/limits.h"

enum {
    REASON_ACKED = 5,     /* of a floor entry (docs/disk-format.md) */
    LOOK_AT_ONCE = 4096,  /* pending messages; with more it is looked at times */
    LOOK_AGAIN_MS = 200,
    RANGES_MAX = 4096     /* of one entry; the rest follows */
};

/* All groups have settled what is below *floor, and seen what is below *end. */
static void measure(const struct mp_stream *s, uint64_t *floor, uint64_t *end,
                    uint64_t *pending)
{
    struct mp_stream_group *g;

    *floor = *end = mp_log_last(s->log, s->pid) + 1;
    *pending = 0;
    for (uint32_t i = 0; (g = mp_map_next(&s->groups, &i)) != NULL;) {
        if (g->group.floor + 1 < *floor)
            *floor = g->group.floor + 1;
        if (g->group.next < *end)
            *end = g->group.next;
        *pending += g->group.pending.count;
    }
}

/* The lowest sequence at or above `at` that a group still has to settle. */
static uint64_t next_pending(const struct mp_stream *s, uint64_t at, uint64_t end)
{
    struct mp_stream_group *g;
    uint64_t seq;

    for (uint32_t i = 0; (g = mp_map_next(&s->groups, &i)) != NULL;)
        if (mp_pending_lowest(&g->group.pending, at, &seq) && seq < end)
            end = seq;
    return end;
}

/* Those of [first, last] that were not removed before, behind the range that ended at
 * `before`; returns where the last one ends. */
static uint64_t put_ranges(struct mp_stream *s, uint64_t first, uint64_t last,
                           uint64_t before, uint64_t *count, struct mp_buf *out)
{
    while ((first = mp_ranges_skip(&s->gone, first)) <= last) {
        uint64_t end = first + 1;
        while (end <= last && mp_ranges_skip(&s->gone, end) == end)
            end++;
        mp_buf_put_varint(out, first - before);
        mp_buf_put_varint(out, end - first);
        mp_ranges_add(&s->gone, first, end - 1);
        before = end;
        first = end;
        ++*count;
    }
    return before;
}

static void remove_ranges(struct mp_stream *s, uint64_t floor, uint64_t end)
{
    struct mp_buf ranges = { 0 }, payload = { 0 };
    uint64_t count = 0, before = floor;
    struct mp_entry e = { .type = MP_ENTRY_DELETE,
                          .pid = s->pid,
                          .seq = floor,
                          .time_ns = *s->host->now_ns };

    for (uint64_t at = floor; at < end && count < RANGES_MAX;) {
        uint64_t pending = next_pending(s, at, end);
        if (pending > at)
            before = put_ranges(s, at, pending - 1, before, &count, &ranges);
        at = pending + 1;
    }
    if (count > 0) {
        mp_buf_put_varint(&payload, count);
        mp_buf_put_slice(&payload, mp_buf_slice(&ranges));
        e.payload = mp_buf_slice(&payload);
        if (mp_log_append(s->log, &e, 1, MP_STREAM_TAG) != MEMPHIS_OK)
            mp_ranges_cut(&s->gone, 0); /* all of it is asked for again */
    }
    mp_buf_fini(&ranges);
    mp_buf_fini(&payload);
}

void mp_stream_limit_acked(struct mp_stream *s, bool now)
{
    uint64_t floor, end, pending;

    if (s->settings.limit != MP_LIMIT_ACKED)
        return;
    measure(s, &floor, &end, &pending);
    mp_stream_propose_floor(s, floor, REASON_ACKED);
    mp_ranges_trim(&s->gone, floor);
    if (end <= floor)
        return;
    if (now || pending <= LOOK_AT_ONCE)
        remove_ranges(s, floor, end);
    else if (!mp_timer_is_set(&s->limit_timer))
        mp_timer_set(s->host->timers, &s->limit_timer,
                     *s->host->now_ns / 1000000 + LOOK_AGAIN_MS);
}
