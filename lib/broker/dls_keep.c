/* How long dead letters are kept. */
#include "base/limits.h"
#include "broker/dls_internal.h"

static const uint64_t MS = 1000000;

static void expire(struct mp_dls *d, struct mp_letters *l)
{
    uint64_t keep_ns = MP_DLS_RETENTION_MS * MS, now = d->broker->now_ns;
    uint64_t first = mp_log_last(l->log, 0) + 1;
    struct mp_buf b = { 0 };
    struct mp_entry e = { .type = MP_ENTRY_FLOOR, .time_ns = now };

    for (struct mp_list *n = l->rows.next; n != &l->rows; n = n->next) {
        struct mp_dead_row *row = mp_container_of(n, struct mp_dead_row, of_log);

        if (now - row->updated_ns >= keep_ns)
            continue;
        first = row->at;
        break;
    }
    if (first > mp_resend_first_note(d, l->log))
        first = mp_resend_first_note(d, l->log);
    if (first <= mp_log_first(l->log, 0))
        return;
    mp_buf_put_u64(&b, first);
    mp_buf_put_u8(&b, 1);
    e.payload = mp_buf_slice(&b);
    (void)mp_log_append(l->log, &e, 1, MP_STREAM_TAG);
    mp_buf_fini(&b);
}

static uint64_t oldest_ns(const struct mp_letters *l)
{
    if (mp_list_is_empty(&l->rows))
        return UINT64_MAX;
    return mp_container_of(l->rows.next, struct mp_dead_row, of_log)->updated_ns;
}

void mp_dls_keep_look(struct mp_dls *d)
{
    uint64_t data = oldest_ns(&d->data), memory = oldest_ns(&d->memory);
    uint64_t oldest = data < memory ? data : memory;

    if (oldest == UINT64_MAX || mp_timer_is_set(&d->keeping))
        return;
    mp_timer_set(&d->broker->timers, &d->keeping,
                 oldest / MS + MP_DLS_RETENTION_MS + 1);
}

static void fire(struct mp_timer *t, uint64_t now_ms)
{
    struct mp_dls *d = mp_container_of(t, struct mp_dls, keeping);
    uint64_t keep_ns = MP_DLS_RETENTION_MS * MS;

    (void)now_ms;
    if (d->broker->now_ns - oldest_ns(&d->data) >= keep_ns)
        expire(d, &d->data);
    if (d->broker->now_ns - oldest_ns(&d->memory) >= keep_ns)
        expire(d, &d->memory);
    if (oldest_ns(&d->data) + keep_ns > d->broker->now_ns &&
        oldest_ns(&d->memory) + keep_ns > d->broker->now_ns)
        mp_dls_keep_look(d); /* else when the floor is applied */
}

void mp_dls_keep_init(struct mp_dls *d)
{
    d->keeping.fire = fire;
}
