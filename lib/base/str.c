#include "base/str.h"

#include "base/assert.h"
#include "base/limits.h"
#include "base/status.h"

#include <stdarg.h>
#include <stdio.h>

static uint8_t fold(uint8_t c)
{
    return c >= 'A' && c <= 'Z' ? (uint8_t)(c + ('a' - 'A')) : c;
}

static void replace(char *s, size_t size, char from, char to)
{
    for (size_t i = 0; i < size; i++)
        if (s[i] == from)
            s[i] = to;
}

static memphis_slice skip(memphis_slice s, size_t n)
{
    return n > 0 ? mp_slice((const uint8_t *)s.data + n, s.size - n) : s;
}

/* -- compare and split ------------------------------------------------------------- */

bool mp_slice_equal_fold(memphis_slice a, memphis_slice b)
{
    const uint8_t *x = a.data, *y = b.data;

    if (a.size != b.size)
        return false;
    for (size_t i = 0; i < a.size; i++)
        if (fold(x[i]) != fold(y[i]))
            return false;
    return true;
}

bool mp_slice_starts(memphis_slice s, memphis_slice prefix)
{
    return s.size >= prefix.size &&
           mp_slice_equal(mp_slice(s.data, prefix.size), prefix);
}

bool mp_slice_contains(memphis_slice s, memphis_slice part)
{
    if (part.size == 0)
        return true;
    return s.size >= part.size && memmem(s.data, s.size, part.data, part.size) != NULL;
}

int mp_slice_compare(memphis_slice a, memphis_slice b)
{
    size_t common = a.size < b.size ? a.size : b.size;
    int order = common > 0 ? memcmp(a.data, b.data, common) : 0;

    if (order != 0)
        return order;
    return (a.size > b.size) - (a.size < b.size);
}

memphis_slice mp_slice_split(memphis_slice *rest, char sep)
{
    memphis_slice s = *rest;
    const char *found = s.size > 0 ? memchr(s.data, sep, s.size) : NULL;

    if (found == NULL) {
        *rest = skip(s, s.size);
        return s;
    }
    size_t size = (size_t)(found - (const char *)s.data);
    *rest = skip(s, size + 1);
    return mp_slice(s.data, size);
}

bool mp_parse_u64(memphis_slice s, uint64_t *out)
{
    const uint8_t *p = s.data;
    uint64_t v = 0;

    if (s.size == 0)
        return false;
    for (size_t i = 0; i < s.size; i++) {
        uint64_t digit = (uint64_t)p[i] - '0'; /* wraps below '0' */
        if (digit > 9 || v > (UINT64_MAX - digit) / 10)
            return false;
        v = v * 10 + digit;
    }
    *out = v;
    return true;
}

/* -- UTF-8 (Unicode 15, table 3-7: no surrogates, nothing overlong) ---------------- */

size_t mp_utf8_first(memphis_slice s)
{
    const uint8_t *p = s.data;
    uint8_t low = 0x80, high = 0xbf; /* bounds of the second byte */
    size_t size;

    if (s.size == 0)
        return 0;
    if (p[0] < 0x80)
        return 1;
    if (p[0] < 0xc2 || p[0] > 0xf4)
        return 0;
    size = p[0] < 0xe0 ? 2 : p[0] < 0xf0 ? 3 : 4;
    if (s.size < size)
        return 0;
    if (p[0] == 0xe0)
        low = 0xa0;
    else if (p[0] == 0xed)
        high = 0x9f;
    else if (p[0] == 0xf0)
        low = 0x90;
    else if (p[0] == 0xf4)
        high = 0x8f;
    if (p[1] < low || p[1] > high)
        return 0;
    for (size_t i = 2; i < size; i++)
        if ((p[i] & 0xc0) != 0x80)
            return 0;
    return size;
}

bool mp_utf8_is_valid(memphis_slice s)
{
    while (s.size > 0) {
        uint64_t word = 0;
        if (s.size >= sizeof word) {
            memcpy(&word, s.data, sizeof word);
            if ((word & 0x8080808080808080) == 0) {
                s = skip(s, sizeof word); /* eight ASCII characters at once */
                continue;
            }
        }
        size_t size = mp_utf8_first(s);
        if (size == 0)
            return false;
        s = skip(s, size);
    }
    return true;
}

/* -- names ------------------------------------------------------------------------- */

static bool is_letter_or_digit(uint8_t c)
{
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
}

static bool is_name_character(uint8_t c)
{
    return is_letter_or_digit(c) || c == '_' || c == '-' || c == '.';
}

void mp_fold_lower(char *s, size_t size)
{
    for (size_t i = 0; i < size; i++)
        s[i] = (char)fold((uint8_t)s[i]);
}

memphis_status mp_name_check(memphis_slice name, const char *object, memphis_error *err)
{
    const uint8_t *p = name.data;

    if (name.size == 0)
        return mp_fail(err, MEMPHIS_INVALID, "%s name can not be empty", object);
    if (name.size > MP_NAME_MAX)
        return mp_fail(err, MEMPHIS_INVALID, "%s should be under %d characters", object,
                       MP_NAME_MAX);
    for (size_t i = 0; i < name.size; i++)
        if (!is_name_character(p[i]))
            return mp_fail(err, MEMPHIS_INVALID,
                           "Only alphanumeric and the '_', '-', '.' characters are "
                           "allowed in %s",
                           object);
    if (!is_letter_or_digit(p[0]) || !is_letter_or_digit(p[name.size - 1]))
        return mp_fail(err, MEMPHIS_INVALID,
                       "%s name can not start or end with non alphanumeric character",
                       object);
    return MEMPHIS_OK;
}

void mp_name_internal(char *s, size_t size)
{
    replace(s, size, '.', '#');
}

void mp_name_external(char *s, size_t size)
{
    replace(s, size, '#', '.');
}

size_t mp_format(char *out, size_t size, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    int length = vsnprintf(out, size, format, args);
    va_end(args);
    mp_assert(length >= 0);
    mp_assert((size_t)length < size);
    return (size_t)length;
}
