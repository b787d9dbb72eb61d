#include "base/buf.h"

#include "base/assert.h"
#include "base/mem.h"

#include <stdio.h>

enum { FIRST_CAPACITY = 64, VARINT_SIZE_MAX = 10 };

/* -- buffer ------------------------------------------------------------------------ */

/* Doubling keeps a long series of puts linear. SIZE_MAX: no such buffer can be. */
static size_t capacity_for(const struct mp_buf *b, size_t more)
{
    size_t wanted = b->size + more;
    size_t doubled = b->capacity < SIZE_MAX / 2 ? b->capacity * 2 : SIZE_MAX;

    if (wanted < more)
        return SIZE_MAX;
    if (wanted < FIRST_CAPACITY)
        wanted = FIRST_CAPACITY;
    return wanted > doubled ? wanted : doubled;
}

static bool has_room(const struct mp_buf *b, size_t more)
{
    return b->capacity - b->size >= more;
}

void mp_buf_fini(struct mp_buf *b)
{
    mp_free(b->data);
    *b = (struct mp_buf){ 0 };
}

void mp_buf_clear(struct mp_buf *b)
{
    b->size = 0;
}

void mp_buf_reserve(struct mp_buf *b, size_t more)
{
    if (has_room(b, more))
        return;
    size_t capacity = capacity_for(b, more);
    b->data = mp_realloc(b->data, capacity);
    b->capacity = capacity;
}

bool mp_buf_reserve_try(struct mp_buf *b, size_t more)
{
    if (has_room(b, more))
        return true;
    size_t capacity = capacity_for(b, more);
    void *data = mp_realloc_try(b->data, capacity);
    if (data == NULL)
        return false;
    b->data = data;
    b->capacity = capacity;
    return true;
}

void mp_buf_consume(struct mp_buf *b, size_t n)
{
    mp_assert(n <= b->size);
    if (n == 0)
        return;
    b->size -= n;
    if (b->size > 0)
        memmove(b->data, b->data + n, b->size);
}

uint8_t *mp_buf_add(struct mp_buf *b, size_t n)
{
    if (n == 0 && b->data == NULL)
        return NULL; /* adding to a null pointer is undefined, even zero */
    mp_buf_reserve(b, n);
    uint8_t *p = b->data + b->size;
    b->size += n;
    return p;
}

void mp_buf_put(struct mp_buf *b, const void *data, size_t n)
{
    if (n > 0)
        memcpy(mp_buf_add(b, n), data, n);
}

void mp_buf_put_slice(struct mp_buf *b, memphis_slice s)
{
    mp_buf_put(b, s.data, s.size);
}

void mp_buf_put_text(struct mp_buf *b, const char *text)
{
    mp_buf_put(b, text, strlen(text));
}

void mp_buf_put_u8(struct mp_buf *b, uint8_t v)
{
    *mp_buf_add(b, 1) = v;
}

void mp_buf_put_u16(struct mp_buf *b, uint16_t v)
{
    mp_set_u16(mp_buf_add(b, 2), v);
}

void mp_buf_put_u32(struct mp_buf *b, uint32_t v)
{
    mp_set_u32(mp_buf_add(b, 4), v);
}

void mp_buf_put_u64(struct mp_buf *b, uint64_t v)
{
    mp_set_u64(mp_buf_add(b, 8), v);
}

void mp_buf_put_varint(struct mp_buf *b, uint64_t v)
{
    mp_buf_reserve(b, VARINT_SIZE_MAX);
    uint8_t *p = b->data + b->size;
    for (; v >= 0x80; v >>= 7)
        *p++ = (uint8_t)(v | 0x80);
    *p++ = (uint8_t)v;
    b->size = (size_t)(p - b->data);
}

void mp_buf_put_decimal(struct mp_buf *b, uint64_t v)
{
    static const char pairs[] = "00010203040506070809101112131415161718192021222324"
                                "25262728293031323334353637383940414243444546474849"
                                "50515253545556575859606162636465666768697071727374"
                                "75767778798081828384858687888990919293949596979899";
    char digits[20]; /* 2^64 - 1 */
    size_t at = sizeof digits;

    for (; v >= 100; v /= 100)
        memcpy(digits + (at -= 2), pairs + v % 100 * 2, 2);
    if (v >= 10)
        memcpy(digits + (at -= 2), pairs + v * 2, 2);
    else
        digits[--at] = (char)('0' + v);
    mp_buf_put(b, digits + at, sizeof digits - at);
}

void mp_buf_format(struct mp_buf *b, const char *format, ...)
{
    va_list args, again;

    va_start(args, format);
    va_copy(again, args);
    mp_buf_reserve(b, FIRST_CAPACITY);
    size_t room = b->capacity - b->size;
    int length = vsnprintf((char *)b->data + b->size, room, format, args);
    mp_assert(length >= 0);
    if ((size_t)length >= room) {
        mp_buf_reserve(b, (size_t)length + 1); /* the zero is written, then forgotten */
        (void)vsnprintf((char *)b->data + b->size, (size_t)length + 1, format, again);
    }
    b->size += (size_t)length;
    va_end(again);
    va_end(args);
}

memphis_slice mp_buf_slice(const struct mp_buf *b)
{
    return (memphis_slice){ b->data, b->size };
}

/* -- cursor ------------------------------------------------------------------------ */

/* NULL and bad when there are not n bytes left; nothing can be read after that. */
static const uint8_t *take(struct mp_cursor *c, size_t n)
{
    const uint8_t *p = c->at;

    if (c->bad || mp_cursor_left(c) < n) {
        c->bad = true;
        c->at = c->end;
        return NULL;
    }
    if (n > 0)
        c->at += n;
    return p;
}

struct mp_cursor mp_cursor_of(memphis_slice s)
{
    const uint8_t *p = s.data;

    return (struct mp_cursor){ .at = p, .end = s.size > 0 ? p + s.size : p };
}

size_t mp_cursor_left(const struct mp_cursor *c)
{
    return (size_t)(c->end - c->at);
}

uint8_t mp_cursor_u8(struct mp_cursor *c)
{
    const uint8_t *p = take(c, 1);
    return p != NULL ? *p : 0;
}

uint16_t mp_cursor_u16(struct mp_cursor *c)
{
    const uint8_t *p = take(c, 2);
    return p != NULL ? mp_get_u16(p) : 0;
}

uint32_t mp_cursor_u32(struct mp_cursor *c)
{
    const uint8_t *p = take(c, 4);
    return p != NULL ? mp_get_u32(p) : 0;
}

uint64_t mp_cursor_u64(struct mp_cursor *c)
{
    const uint8_t *p = take(c, 8);
    return p != NULL ? mp_get_u64(p) : 0;
}

uint64_t mp_cursor_varint(struct mp_cursor *c)
{
    uint64_t v = 0;

    for (uint32_t shift = 0; shift < 64; shift += 7) {
        uint8_t byte = mp_cursor_u8(c);
        if (shift == 63 && byte > 1)
            break; /* more than 64 bits */
        v |= (uint64_t)(byte & 0x7f) << shift;
        if (byte < 0x80)
            return c->bad ? 0 : v;
    }
    c->bad = true;
    c->at = c->end;
    return 0;
}

memphis_slice mp_cursor_take(struct mp_cursor *c, size_t n)
{
    const uint8_t *p = take(c, n);

    return (memphis_slice){ p, p != NULL ? n : 0 };
}
