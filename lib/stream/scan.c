#include "stream/scan.h"

#include "base/status.h"

enum { SLICE = 2048 }; /* messages of one scan in one turn */

memphis_slice mp_stream_subject_of(const struct mp_stream *s, const struct mp_entry *e)
{
    return e->subject.size > 0 ? e->subject : mp_slice(s->final_subject, s->final_size);
}

/* The stream can be read again. That it goes is told by mp_scans_end, before this. */
static void again(struct mp_stream_waiter *w, struct mp_stream *s)
{
    struct mp_scan *scan = mp_container_of(w, struct mp_scan, waiter);

    if (s != NULL)
        mp_list_push_back(&s->host->scans, &scan->node);
}

/* False: it is to go on with nothing from here. */
static bool show(struct mp_scan *s, const struct mp_stored *m)
{
    if (s->filter.size > 0 &&
        !mp_subject_matches(s->filter, mp_stream_subject_of(s->stream, &m->entry)))
        return true;
    return s->each(s, m);
}

static bool is_over(const struct mp_scan *s)
{
    return s->backwards ? s->at < s->end || s->at == 0 : s->at >= s->end;
}

/* One step. OK: go on; NOT_FOUND: over; MP_PENDING. */
static memphis_status step(struct mp_scan *s)
{
    struct mp_stored m;
    memphis_status st;
    uint64_t seq = s->at;
    bool more = true;

    if (is_over(s))
        return MEMPHIS_NOT_FOUND;
    st = mp_log_read(s->stream->log, s->stream->pid, seq, &m);
    if (st == MP_PENDING)
        return st;
    if (st != MEMPHIS_OK && st != MEMPHIS_CORRUPT && !s->backwards)
        return MEMPHIS_NOT_FOUND;
    if (s->backwards) {
        s->at--;
        if (st == MEMPHIS_OK && m.entry.seq == seq) /* else a hole */
            more = show(s, &m);
    } else {
        s->at = m.entry.seq + 1; /* damage was reported by the log */
        if (st == MEMPHIS_OK && m.entry.seq < s->end)
            more = show(s, &m);
    }
    if (st == MEMPHIS_OK)
        mp_stored_release(&m);
    return more ? MEMPHIS_OK : MEMPHIS_NOT_FOUND;
}

static void run(struct mp_scan *s)
{
    memphis_status st = MEMPHIS_OK;

    for (int i = 0; i < SLICE && st == MEMPHIS_OK; i++)
        st = step(s);
    if (st == MP_PENDING)
        mp_stream_wait(s->stream, &s->waiter);
    else if (st == MEMPHIS_OK)
        mp_list_push_back(&s->stream->host->scans, &s->node);
    else
        s->done(s, MEMPHIS_OK);
}

void mp_scan_start(struct mp_scan *s)
{
    s->waiter.again = again;
    s->waiter.node = (struct mp_list){ 0 };
    s->node = (struct mp_list){ 0 };
    run(s);
}

void mp_scan_cancel(struct mp_scan *s)
{
    mp_list_remove(&s->node);
    mp_list_remove(&s->waiter.node);
}

void mp_scans_run(struct mp_stream_host *h)
{
    struct mp_list *l;
    size_t n = 0;

    for (l = h->scans.next; l != &h->scans; l = l->next)
        n++;
    while (n-- > 0 && (l = mp_list_pop_front(&h->scans)) != NULL)
        run(mp_container_of(l, struct mp_scan, node));
}

/* The first scan of this stream; NULL: none. */
static struct mp_scan *scan_of(struct mp_stream *s)
{
    for (struct mp_list *l = s->host->scans.next; l != &s->host->scans; l = l->next) {
        struct mp_scan *scan = mp_container_of(l, struct mp_scan, node);

        if (scan->stream == s)
            return scan;
    }
    for (struct mp_list *l = s->waiters.next; l != &s->waiters; l = l->next) {
        struct mp_stream_waiter *w = mp_container_of(l, struct mp_stream_waiter, node);

        if (w->again == again)
            return mp_container_of(w, struct mp_scan, waiter);
    }
    return NULL;
}

void mp_scans_end(struct mp_stream *s, memphis_status why)
{
    struct mp_scan *scan;

    while ((scan = scan_of(s)) != NULL) {
        mp_scan_cancel(scan);
        scan->done(scan, why);
    }
}
