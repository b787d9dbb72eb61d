#include "stream/wall.h"

enum { ITEM_CLOCK = 18, PAIR_SIZE = 16 };

uint64_t mp_wall_of(const struct mp_wall *w, uint64_t broker_ns)
{
    uint32_t i = w->count;

    while (i > 0 && w->steps[i - 1].since_ns > broker_ns)
        i--;
    return i > 0 ? broker_ns + (uint64_t)w->steps[i - 1].offset_ns : broker_ns;
}

int64_t mp_wall_offset(const struct mp_wall *w)
{
    return w->count > 0 ? w->steps[w->count - 1].offset_ns : 0;
}

void mp_wall_put_step(struct mp_buf *out, uint64_t since_ns, int64_t offset_ns)
{
    mp_buf_put_u64(out, since_ns);
    mp_buf_put_u64(out, (uint64_t)offset_ns);
}

static void note(struct mp_wall *w, uint64_t since_ns, int64_t offset_ns)
{
    if (w->count > 0 && since_ns <= w->steps[w->count - 1].since_ns)
        since_ns = w->steps[--w->count].since_ns; /* broker time does not go back */
    if (w->count == MP_WALL_STEPS_MAX) {
        w->count--;
        memmove(w->steps, w->steps + 1, w->count * sizeof w->steps[0]);
        w->steps[0].since_ns = 0;
    }
    w->steps[w->count++] = (struct mp_wall_step){ since_ns, offset_ns };
}

void mp_wall_take(struct mp_wall *w, memphis_slice pairs)
{
    struct mp_cursor c = mp_cursor_of(pairs);

    while (mp_cursor_left(&c) >= PAIR_SIZE) {
        uint64_t since_ns = mp_cursor_u64(&c);
        note(w, since_ns, (int64_t)mp_cursor_u64(&c));
    }
}

void mp_wall_state(const struct mp_wall *w, struct mp_buf *out)
{
    if (w->count == 0)
        return;
    mp_buf_put_u16(out, ITEM_CLOCK);
    mp_buf_put_u32(out, w->count * PAIR_SIZE);
    for (uint32_t i = 0; i < w->count; i++)
        mp_wall_put_step(out, w->steps[i].since_ns, w->steps[i].offset_ns);
}

void mp_wall_restore(struct mp_wall *w, memphis_slice items)
{
    struct mp_cursor c = mp_cursor_of(items);

    while (mp_cursor_left(&c) > 0) {
        uint16_t tag = mp_cursor_u16(&c);
        memphis_slice v = mp_cursor_take(&c, mp_cursor_u32(&c));
        if (tag == ITEM_CLOCK)
            mp_wall_take(w, v);
    }
}
