/* How long dead letters are kept, and how many: rows are in order of their last change,
 * so both are a floor of partition 0. */
#include "base/limits.h"
#include "base/status.h"
#include "broker/dls_internal.h"

static const uint64_t MS = 1000000;
static const uint64_t RETRY_NS = 1000000000;

enum { STEP_MAX = 4096 }; /* letters that go in one turn */

/* The first letter that stays; *forced: those that would have been kept longer. */
static uint64_t first_kept(struct mp_dls *d, struct mp_letters *l, uint64_t *forced)
{
    uint64_t first = mp_log_last(l->log, 0) + 1, note = mp_resend_first_note(d, l->log);
    uint64_t aim = d->bytes_max - d->bytes_max / 16, left = l->bytes;
    bool is_over = left > d->bytes_max;
    uint32_t n = 0;

    *forced = 0;
    for (struct mp_list *r = l->rows.next; r != &l->rows; r = r->next) {
        struct mp_dead_row *row = mp_container_of(r, struct mp_dead_row, of_log);
        bool is_old = d->broker->now_ns - row->updated_ns >= d->keep_ns;

        if ((!is_old && !(is_over && left > aim)) || n++ == STEP_MAX) {
            first = row->at;
            break;
        }
        left -= row->size;
        *forced += !is_old;
    }
    return first < note ? first : note;
}

static void trim(struct mp_dls *d, struct mp_letters *l)
{
    struct mp_entry e = { .type = MP_ENTRY_FLOOR, .time_ns = d->broker->now_ns };
    struct mp_buf b = { 0 };
    uint64_t forced, first = first_kept(d, l, &forced);

    l->retry_ns = d->broker->now_ns + RETRY_NS;
    if (first <= mp_log_first(l->log, 0))
        return;
    mp_buf_put_u64(&b, first);
    mp_buf_put_u8(&b, 1);
    e.payload = mp_buf_slice(&b);
    if (mp_log_append(l->log, &e, 1, MP_STREAM_TAG) == MEMPHIS_OK) {
        l->is_trimming = true;
        d->forced += forced;
    }
    mp_buf_fini(&b);
}

void mp_dls_keep_trimmed(struct mp_letters *l, bool is_done)
{
    l->is_trimming = false;
    if (is_done)
        l->retry_ns = 0;
}

static uint64_t due_ns(const struct mp_dls *d, const struct mp_letters *l)
{
    uint64_t due = l->retry_ns, oldest;

    if (mp_list_is_empty(&l->rows) || l->is_trimming)
        return UINT64_MAX;
    if (l->bytes > d->bytes_max)
        return due;
    oldest = mp_container_of(l->rows.next, struct mp_dead_row, of_log)->updated_ns;
    return oldest + d->keep_ns > due ? oldest + d->keep_ns : due;
}

void mp_dls_keep_look(struct mp_dls *d)
{
    uint64_t data = due_ns(d, &d->data), memory = due_ns(d, &d->memory);
    uint64_t due = data < memory ? data : memory;

    if (due == UINT64_MAX)
        mp_timer_cancel(&d->broker->timers, &d->keeping);
    else
        mp_timer_set(&d->broker->timers, &d->keeping, due / MS + (due % MS != 0));
}

static void fire(struct mp_timer *t, uint64_t now_ms)
{
    struct mp_dls *d = mp_container_of(t, struct mp_dls, keeping);

    (void)now_ms;
    if (due_ns(d, &d->data) <= d->broker->now_ns)
        trim(d, &d->data);
    if (due_ns(d, &d->memory) <= d->broker->now_ns)
        trim(d, &d->memory);
    mp_dls_keep_look(d);
}

memphis_status mp_dls_keep(struct mp_broker *b, uint32_t hours, uint64_t bytes_max,
                           memphis_error *err)
{
    struct mp_dls *d = b->dls;

    hours = hours > 0 ? hours : MP_DLS_RETENTION_DEFAULT_H;
    if (hours > MP_DLS_RETENTION_MAX_H)
        return mp_fail(err, MEMPHIS_INVALID, "dead letters are kept for 1 to %d hours",
                       MP_DLS_RETENTION_MAX_H);
    d->keep_ns = hours * 3600 * 1000 * MS;
    d->bytes_max = bytes_max > 0 ? bytes_max : MP_DLS_BYTES_MAX_DEFAULT;
    if (!b->starting)
        mp_dls_keep_look(d);
    return MEMPHIS_OK;
}

void mp_dls_stats(const struct mp_broker *b, struct mp_dls_stats *out)
{
    const struct mp_dls *d = b->dls;

    out->letters = d->data.count + d->memory.count;
    out->bytes = d->data.bytes + d->memory.bytes;
    out->forced = d->forced;
}

void mp_dls_keep_init(struct mp_dls *d)
{
    d->keeping.fire = fire;
}
