/* broker/dls_head.h -- how messages of partition 0 begin (docs/disk-format.md): the
 * head of a dead letter, or the note of a station's letters that are being resent.
 * Thread: any (pure).
 */
#ifndef MP_BROKER_DLS_HEAD_H
#define MP_BROKER_DLS_HEAD_H

#include "base/buf.h"

/* A letter's head, decoded; slices are borrowed. */
struct mp_dead_head {
    uint8_t reason; /* MP_DEAD_* */
    uint16_t deliveries;
    uint32_t id, station_id, pid;
    uint64_t seq, time_ns;
    memphis_slice gids, text; /* gids: 4 bytes each */
    memphis_slice payload;    /* of the message: what lies behind the head */
};

/* All but the payload, which follows. */
void mp_dead_head_put(const struct mp_dead_head *h, struct mp_buf *out);
/* False: this is none, or a newer release wrote it. */
bool mp_dead_head_take(memphis_slice letter, struct mp_dead_head *h);

/* A resend of all letters of a station that is under way. */
struct mp_resend_note {
    uint32_t station_id;
    uint32_t upto;   /* id of the newest letter that is meant */
    uint64_t behind; /* places up to this one are done */
    uint64_t done, total;
};

void mp_resend_note_put(const struct mp_resend_note *n, struct mp_buf *out);
bool mp_resend_note_take(memphis_slice payload, struct mp_resend_note *n);

#endif
