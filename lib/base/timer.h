/* base/timer.h -- hierarchical timer wheel: 4 levels, 1 ms a tick.
 *
 *      now          horizon (start of the block of 256 ticks after the next)
 *       |              |
 *   ----[ level 0: 512 slots of 1 ms ]--[ level 1: slots of 256 ms ]--[ 2: 65 s ]--[ 3:
 *
 * Level 0 covers the block of 256 ticks with the present and the whole next one, so
 * the next 256 ms are always known to the tick. Entering a block brings the slot of the
 * block after it down from level 1, and so on upwards.
 *
 * Time is an argument and never falls. A timer is a node in its owner's struct;
 * setting, moving and cancelling cost O(1). Firing order: by tick, then in the order of
 * setting; a tick that has passed counts as the present one. A timer that is due longer
 * than the wheel covers (49 days) waits in a list of its own. Thread: core of its owner
 * (pure).
 */
#ifndef MP_BASE_TIMER_H
#define MP_BASE_TIMER_H

#include "base/list.h"

#include <stdint.h>

struct mp_timer {
    struct mp_list node;
    uint64_t due_ms;
    /* May set, move and cancel any timer, itself too; may free its own. */
    void (*fire)(struct mp_timer *t, uint64_t now_ms);
};

enum {
    MP_TIMER_NEAR = 512,                          /* slots of level 0 */
    MP_TIMER_SLOTS = MP_TIMER_NEAR + 3 * 256 + 3, /* levels 1 to 3; three lists */
    MP_TIMER_WORDS = (MP_TIMER_SLOTS + 63) / 64
};

struct mp_timers {
    struct mp_list slots[MP_TIMER_SLOTS];
    uint64_t occupied[MP_TIMER_WORDS]; /* a bit per slot */
    uint64_t now_ms;
    uint64_t count;
    bool is_advancing;
};

void mp_timers_init(struct mp_timers *w, uint64_t now_ms);
/* Moves it when it is set already. */
void mp_timer_set(struct mp_timers *w, struct mp_timer *t, uint64_t due_ms);
void mp_timer_cancel(struct mp_timers *w, struct mp_timer *t);
bool mp_timer_is_set(const struct mp_timer *t);

/* Fires what is due at or before now_ms; returns how many. `fire` gets now_ms. A timer
 * that is set meanwhile for a tick already fired waits for the next call, so that this
 * one ends. Not to be called by `fire`. */
uint32_t mp_timers_advance(struct mp_timers *w, uint64_t now_ms);

/* When advance must be called next: exact for timers within 256 ms, never later than
 * the earliest timer; UINT64_MAX: nothing is set. */
uint64_t mp_timers_next(const struct mp_timers *w);

#endif
