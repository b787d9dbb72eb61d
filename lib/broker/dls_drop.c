/* Removal of dead letters. */
#include "broker/dls_internal.h"

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

static memphis_status append_removal(struct mp_dls *d, struct mp_dead_row *row,
                                     uint64_t tag)
{
    uint8_t space[MP_REMOVAL_MAX];
    struct mp_entry e = mp_dls_removal(row->at, d->broker->now_ns, space);

    return mp_log_append(row->log, &e, 1, tag);
}

void mp_dls_drop(struct mp_station *s, const uint32_t *ids, size_t n,
                 struct mp_then then)
{
    struct mp_dls *d = s->broker->dls;
    struct mp_operation *op = mp_operation_new(s->broker, then);

    for (size_t i = 0; i < n; i++) {
        struct mp_dead_row *row = mp_dls_find(s->broker, ids[i]);

        if (row == NULL || row->station != s)
            continue;
        memphis_status st = append_removal(d, row, mp_operation_tag(op));
        if (st == MEMPHIS_OK)
            continue;
        mp_operation_fail(op, st, "the dead letters could not be removed");
        mp_operation_done(op);
    }
    mp_operation_done(op);
}

void mp_dls_remove(struct mp_dls *d, struct mp_dead_row *row)
{
    if (row->at > 0 && !row->is_changing)
        (void)append_removal(d, row, MP_STREAM_TAG);
}
