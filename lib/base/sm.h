/* base/sm.h -- state machines as tables: every move is checked.
 *
 * static const struct mp_sm_state states[] = {
 *     [NEW] = { "new", 1u << CONNECTING | 1u << CLOSING }, ... };
 * mp_sm_move(&s->state, CONNECTING, states) asserts that the edge exists.
 * Thread: any (pure). */
#ifndef MP_BASE_SM_H
#define MP_BASE_SM_H

#include "base/assert.h"

#include <stdint.h>

struct mp_sm_state {
    const char *name;
    uint32_t next;     /* bit set of allowed next states */
};

static inline void mp_sm_move(uint32_t *state, uint32_t to,
                              const struct mp_sm_state *table)
{
    mp_assert(table[*state].next & 1u << to);
    *state = to;
}

#endif
