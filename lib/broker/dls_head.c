#include "broker/dls_head.h"

enum { LETTER = 1, RESEND_NOTE = 2 };

void mp_dead_head_put(const struct mp_dead_head *h, struct mp_buf *out)
{
    mp_buf_put_u8(out, LETTER);
    mp_buf_put_u8(out, h->reason);
    mp_buf_put_u16(out, h->deliveries);
    mp_buf_put_u32(out, h->id);
    mp_buf_put_u32(out, h->station_id);
    mp_buf_put_u32(out, h->pid);
    mp_buf_put_u64(out, h->seq);
    mp_buf_put_u64(out, h->time_ns);
    mp_buf_put_varint(out, h->gids.size / 4);
    mp_buf_put_slice(out, h->gids);
    mp_buf_put_varint(out, h->text.size);
    mp_buf_put_slice(out, h->text);
}

bool mp_dead_head_take(memphis_slice letter, struct mp_dead_head *h)
{
    struct mp_cursor c = mp_cursor_of(letter);
    uint8_t kind = mp_cursor_u8(&c);
    uint64_t size;

    h->reason = mp_cursor_u8(&c);
    h->deliveries = mp_cursor_u16(&c);
    h->id = mp_cursor_u32(&c);
    h->station_id = mp_cursor_u32(&c);
    h->pid = mp_cursor_u32(&c);
    h->seq = mp_cursor_u64(&c);
    h->time_ns = mp_cursor_u64(&c);
    size = mp_cursor_varint(&c);
    if (c.bad || kind != LETTER || size > mp_cursor_left(&c) / 4)
        return false;
    h->gids = mp_cursor_take(&c, (size_t)size * 4);
    size = mp_cursor_varint(&c);
    if (c.bad || size > mp_cursor_left(&c))
        return false;
    h->text = mp_cursor_take(&c, (size_t)size);
    h->payload = mp_cursor_take(&c, mp_cursor_left(&c));
    return !c.bad;
}

void mp_resend_note_put(const struct mp_resend_note *n, struct mp_buf *out)
{
    mp_buf_put_u8(out, RESEND_NOTE);
    mp_buf_put_u32(out, n->station_id);
    mp_buf_put_u32(out, n->upto);
    mp_buf_put_u64(out, n->behind);
    mp_buf_put_u64(out, n->done);
    mp_buf_put_u64(out, n->total);
}

bool mp_resend_note_take(memphis_slice payload, struct mp_resend_note *n)
{
    struct mp_cursor c = mp_cursor_of(payload);
    uint8_t kind = mp_cursor_u8(&c);

    n->station_id = mp_cursor_u32(&c);
    n->upto = mp_cursor_u32(&c);
    n->behind = mp_cursor_u64(&c);
    n->done = mp_cursor_u64(&c);
    n->total = mp_cursor_u64(&c);
    return !c.bad && kind == RESEND_NOTE;
}
