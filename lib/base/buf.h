/* base/buf.h -- growing byte buffer, and a cursor that reads with bounds checks.
 *
 * Integers are little-endian, varint is LEB128. A buffer grows through mp_realloc
 * (which jumps to the guard when there is no memory); where the size comes from a user,
 * call mp_buf_reserve_try first. A cursor remembers its first failure (`bad`), so a
 * decoder checks once at its end. Zero-initialise both. Thread: any (pure).
 */
#ifndef MP_BASE_BUF_H
#define MP_BASE_BUF_H

#include <memphis/base.h>
#include <stdarg.h>
#include <string.h>

struct mp_buf {
    uint8_t *data;
    size_t size;     /* bytes written */
    size_t capacity;
};

void mp_buf_fini(struct mp_buf *b);
void mp_buf_clear(struct mp_buf *b);                     /* size 0, keeps the memory */
void mp_buf_reserve(struct mp_buf *b, size_t more);      /* room for `more` bytes */
bool mp_buf_reserve_try(struct mp_buf *b, size_t more);  /* false: no memory */
void mp_buf_consume(struct mp_buf *b, size_t n);         /* drops the first n bytes */
uint8_t *mp_buf_add(struct mp_buf *b, size_t n);         /* n new bytes, not set */
void mp_buf_put(struct mp_buf *b, const void *data, size_t n);
void mp_buf_put_slice(struct mp_buf *b, memphis_slice s);
void mp_buf_put_text(struct mp_buf *b, const char *text);
void mp_buf_put_u8(struct mp_buf *b, uint8_t v);
void mp_buf_put_u16(struct mp_buf *b, uint16_t v);
void mp_buf_put_u32(struct mp_buf *b, uint32_t v);
void mp_buf_put_u64(struct mp_buf *b, uint64_t v);
void mp_buf_put_varint(struct mp_buf *b, uint64_t v);
void mp_buf_put_decimal(struct mp_buf *b, uint64_t v);   /* fast path for wire text */
void mp_buf_format(struct mp_buf *b, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
memphis_slice mp_buf_slice(const struct mp_buf *b);

struct mp_cursor {
    const uint8_t *at, *end;
    bool bad;        /* something was read beyond the end or was malformed */
};

struct mp_cursor mp_cursor_of(memphis_slice s);
size_t mp_cursor_left(const struct mp_cursor *c);
uint8_t mp_cursor_u8(struct mp_cursor *c);
uint16_t mp_cursor_u16(struct mp_cursor *c);
uint32_t mp_cursor_u32(struct mp_cursor *c);
uint64_t mp_cursor_u64(struct mp_cursor *c);
uint64_t mp_cursor_varint(struct mp_cursor *c);
memphis_slice mp_cursor_take(struct mp_cursor *c, size_t n); /* borrowed */

/* Little-endian at any address. */
static inline uint16_t mp_get_u16(const void *p)
{
    const uint8_t *b = p;
    return (uint16_t)(b[0] | b[1] << 8);
}
static inline uint32_t mp_get_u32(const void *p)
{
    const uint8_t *b = p;
    return (uint32_t)b[0] | (uint32_t)b[1] << 8 | (uint32_t)b[2] << 16 |
           (uint32_t)b[3] << 24;
}
static inline uint64_t mp_get_u64(const void *p)
{
    return (uint64_t)mp_get_u32(p) | (uint64_t)mp_get_u32((const uint8_t *)p + 4) << 32;
}
static inline void mp_set_u16(void *p, uint16_t v)
{
    uint8_t *b = p;
    b[0] = (uint8_t)v;
    b[1] = (uint8_t)(v >> 8);
}
static inline void mp_set_u32(void *p, uint32_t v)
{
    uint8_t *b = p;
    b[0] = (uint8_t)v;
    b[1] = (uint8_t)(v >> 8);
    b[2] = (uint8_t)(v >> 16);
    b[3] = (uint8_t)(v >> 24);
}
static inline void mp_set_u64(void *p, uint64_t v)
{
    mp_set_u32(p, (uint32_t)v);
    mp_set_u32((uint8_t *)p + 4, (uint32_t)(v >> 32));
}

#endif
