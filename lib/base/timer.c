#include "base/timer.h"

#include "base/assert.h"

#include <string.h>

/* The slots array: level 0, levels 1 to 3, then three lists. Levels 1 and 2 hold what
 * shares all higher bytes of its due tick with the horizon; level 3 is a ring of the
 * next 255 values of byte 3. A timer goes down only in whole slots, and before anything
 * can be set there directly: that keeps timers of one tick in the order of setting. */
enum {
    BLOCK = 256,
    LEVEL_1 = MP_TIMER_NEAR,
    LEVEL_2 = LEVEL_1 + 256,
    LEVEL_3 = LEVEL_2 + 256,
    BEYOND = LEVEL_3 + 256, /* further away than level 3 reaches */
    FIRING,                 /* the tick that is being fired */
    LATE,                   /* set by a callback for a tick already fired */
    NOWHERE                 /* what searches return; equals MP_TIMER_SLOTS */
};

/* The start of the block after the present one. Level 0 ends a block further on. */
static uint64_t horizon(const struct mp_timers *w)
{
    return (w->now_ms / BLOCK + 1) * BLOCK;
}

static bool is_occupied(const struct mp_timers *w, uint32_t slot)
{
    return w->occupied[slot / 64] >> slot % 64 & 1;
}

static void mark_empty(struct mp_timers *w, size_t slot)
{
    w->occupied[slot / 64] &= ~(UINT64_C(1) << slot % 64);
}

static void push(struct mp_timers *w, uint32_t slot, struct mp_list *node)
{
    mp_list_push_back(&w->slots[slot], node);
    w->occupied[slot / 64] |= UINT64_C(1) << slot % 64;
}

/* Takes a node out of whatever slot it is in. The last node of a slot has the head on
 * both sides, which tells the slot. */
static void unlink_node(struct mp_timers *w, struct mp_list *node)
{
    struct mp_list *head = node->next == node->prev ? node->next : NULL;

    mp_list_remove(node);
    if (head != NULL) {
        size_t slot = (size_t)(head - w->slots);
        mp_assert(slot < MP_TIMER_SLOTS);
        mark_empty(w, slot);
    }
}

/* First occupied slot in [from, to), or NOWHERE. */
static uint32_t first_occupied(const struct mp_timers *w, uint32_t from, uint32_t to)
{
    while (from < to) {
        uint64_t word = w->occupied[from / 64] >> from % 64;
        if (word != 0) {
            from += (uint32_t)__builtin_ctzll(word);
            return from < to ? from : NOWHERE;
        }
        from = (from / 64 + 1) * 64;
    }
    return NOWHERE;
}

/* The same in a ring of `size` slots, which starts at `base`. */
static uint32_t first_in_ring(const struct mp_timers *w, uint32_t base, uint32_t size,
                              uint32_t start)
{
    uint32_t slot = first_occupied(w, base + start, base + size);

    return slot != NOWHERE ? slot : first_occupied(w, base, base + start);
}

static uint32_t slot_for(const struct mp_timers *w, uint64_t due_ms)
{
    uint64_t h = horizon(w);

    if (due_ms <= w->now_ms)
        return w->is_advancing ? LATE : (uint32_t)(w->now_ms % MP_TIMER_NEAR);
    if (due_ms < h + BLOCK)
        return (uint32_t)(due_ms % MP_TIMER_NEAR);
    if (due_ms >> 16 == h >> 16)
        return LEVEL_1 + (uint32_t)(due_ms >> 8 & 0xff);
    if (due_ms >> 24 == h >> 24)
        return LEVEL_2 + (uint32_t)(due_ms >> 16 & 0xff);
    if ((due_ms >> 24) - (h >> 24) <= 0xff)
        return LEVEL_3 + (uint32_t)(due_ms >> 24 & 0xff);
    return BEYOND;
}

/* Puts the timers of a slot where they belong now, in their order. */
static void spread(struct mp_timers *w, uint32_t slot)
{
    struct mp_list all;

    if (!is_occupied(w, slot))
        return;
    mp_list_init(&all);
    for (struct mp_list *n; (n = mp_list_pop_front(&w->slots[slot])) != NULL;)
        mp_list_push_back(&all, n);
    mark_empty(w, slot);
    for (struct mp_list *n; (n = mp_list_pop_front(&all)) != NULL;) {
        const struct mp_timer *t = mp_container_of(n, struct mp_timer, node);
        push(w, slot_for(w, t->due_ms), n);
    }
}

/* Moves the clock; whole slots that are passed must be empty. */
static void move_to(struct mp_timers *w, uint64_t now_ms)
{
    uint64_t before = horizon(w);

    w->now_ms = now_ms;
    uint64_t h = horizon(w);
    if (h == before)
        return;
    if (h >> 24 != before >> 24) {
        spread(w, BEYOND);
        spread(w, LEVEL_3 + (uint32_t)(h >> 24 & 0xff));
    }
    if (h >> 16 != before >> 16)
        spread(w, LEVEL_2 + (uint32_t)(h >> 16 & 0xff));
    spread(w, LEVEL_1 + (uint32_t)(h >> 8 & 0xff));
}

/* The tick of the earliest timer in level 0, or UINT64_MAX. */
static uint64_t next_near(const struct mp_timers *w)
{
    uint32_t start = (uint32_t)(w->now_ms % MP_TIMER_NEAR);
    uint32_t slot = first_in_ring(w, 0, MP_TIMER_NEAR, start);

    if (slot == NOWHERE)
        return UINT64_MAX;
    return w->now_ms + (slot - start) % MP_TIMER_NEAR;
}

/* The first tick of the earliest occupied slot above level 0, or UINT64_MAX. */
static uint64_t next_far(const struct mp_timers *w)
{
    uint64_t h = horizon(w);
    uint32_t slot = first_occupied(w, LEVEL_1, LEVEL_2);

    if (slot != NOWHERE)
        return (h >> 16 << 16) + (uint64_t)(slot - LEVEL_1) * BLOCK;
    slot = first_occupied(w, LEVEL_2, LEVEL_3);
    if (slot != NOWHERE)
        return (h >> 24 << 24) + ((uint64_t)(slot - LEVEL_2) << 16);
    uint32_t start = (uint32_t)(h >> 24 & 0xff);
    slot = first_in_ring(w, LEVEL_3, 256, start);
    if (slot != NOWHERE)
        return ((h >> 24) + ((slot - LEVEL_3 - start) & 0xff)) << 24;
    return is_occupied(w, BEYOND) ? ((h >> 24) + 256) << 24 : UINT64_MAX;
}

/* Fires the timers of the present tick. A callback may cancel or move any of them. */
static uint32_t fire_slot(struct mp_timers *w, uint64_t now_ms)
{
    uint32_t slot = (uint32_t)(w->now_ms % MP_TIMER_NEAR);
    uint32_t fired = 0;

    for (struct mp_list *n; (n = mp_list_pop_front(&w->slots[slot])) != NULL;)
        push(w, FIRING, n);
    mark_empty(w, slot);
    while (is_occupied(w, FIRING)) {
        struct mp_list *n = w->slots[FIRING].next;
        struct mp_timer *t = mp_container_of(n, struct mp_timer, node);
        unlink_node(w, n);
        w->count--;
        fired++;
        t->fire(t, now_ms); /* may free t */
    }
    return fired;
}

void mp_timers_init(struct mp_timers *w, uint64_t now_ms)
{
    memset(w, 0, sizeof *w);
    w->now_ms = now_ms;
    for (uint32_t i = 0; i < MP_TIMER_SLOTS; i++)
        mp_list_init(&w->slots[i]);
}

void mp_timer_set(struct mp_timers *w, struct mp_timer *t, uint64_t due_ms)
{
    mp_assert(t->fire != NULL);
    mp_timer_cancel(w, t);
    t->due_ms = due_ms;
    push(w, slot_for(w, due_ms), &t->node);
    w->count++;
}

void mp_timer_cancel(struct mp_timers *w, struct mp_timer *t)
{
    if (!mp_timer_is_set(t))
        return;
    unlink_node(w, &t->node);
    w->count--;
}

bool mp_timer_is_set(const struct mp_timer *t)
{
    return mp_list_is_linked(&t->node);
}

uint32_t mp_timers_advance(struct mp_timers *w, uint64_t now_ms)
{
    uint32_t fired = 0;

    mp_assert(!w->is_advancing);
    mp_assert(now_ms >= w->now_ms);
    w->is_advancing = true;
    for (;;) {
        uint64_t near = next_near(w);
        if (near <= now_ms) {
            move_to(w, near);
            fired += fire_slot(w, now_ms);
            continue;
        }
        if (near != UINT64_MAX)
            break;
        /* Level 0 is empty: jump to the block before the earliest timer. */
        uint64_t far = next_far(w);
        if (far == UINT64_MAX || far - BLOCK > now_ms)
            break;
        move_to(w, far - BLOCK);
    }
    move_to(w, now_ms);
    w->is_advancing = false;
    for (struct mp_list *n; (n = mp_list_pop_front(&w->slots[LATE])) != NULL;)
        push(w, (uint32_t)(now_ms % MP_TIMER_NEAR), n);
    mark_empty(w, LATE);
    return fired;
}

uint64_t mp_timers_next(const struct mp_timers *w)
{
    if (is_occupied(w, LATE))
        return w->now_ms;
    uint64_t near = next_near(w);
    return near != UINT64_MAX ? near : next_far(w);
}
