/* stream/wall.h -- what time it was: broker time as the wall clock showed it.
 *
 *   broker time   |-------------|--------|---------->   never jumps; stored
 *   offset              0         +56 y     +1 h         a step per line
 *
 * Wall time = broker time + the offset of that moment. A step of the wall clock becomes
 * an entry of the data shard and a row of this table, so a message keeps the time that
 * was shown when it came, over restarts, too. The table is the shard's own state. It is
 * bounded: the oldest rows become one.
 *
 * Thread: core.
 */
#ifndef MP_STREAM_WALL_H
#define MP_STREAM_WALL_H

#include "base/buf.h"

enum { MP_WALL_STEPS_MAX = 64 };

struct mp_wall {
    struct mp_wall_step {
        uint64_t since_ns; /* broker time */
        int64_t offset_ns;
    } steps[MP_WALL_STEPS_MAX];
    uint32_t count; /* 0: the clock never stepped */
};

uint64_t mp_wall_of(const struct mp_wall *w, uint64_t broker_ns);
/* Of now. */
int64_t mp_wall_offset(const struct mp_wall *w);

/* Pairs {since u64, offset i64}: the payload of a clock entry holds one of them. A rest
 * that is no pair is left out. */
void mp_wall_put_step(struct mp_buf *out, uint64_t since_ns, int64_t offset_ns);
void mp_wall_take(struct mp_wall *w, memphis_slice pairs);
/* The table as an item of the state file; nothing when there was no step. */
void mp_wall_state(const struct mp_wall *w, struct mp_buf *out);
void mp_wall_restore(struct mp_wall *w, memphis_slice items);

#endif
