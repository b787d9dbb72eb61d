#include "base/enc.h"

#include "base/assert.h"
#include "base/buf.h"
#include "base/crc_table.h"
#include "base/str.h"

#include <string.h>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

/* -- CRC32C with tables, eight bytes a step (slicing by 8) ------------------------- */

#define BIT(n, bit, v) ((n) >> (bit)&1 ? (v) : 0u)
#define SUM(n, b0, b1, b2, b3, b4, b5, b6, b7)                                         \
    (BIT(n, 0, b0) ^ BIT(n, 1, b1) ^ BIT(n, 2, b2) ^ BIT(n, 3, b3) ^ BIT(n, 4, b4) ^   \
     BIT(n, 5, b5) ^ BIT(n, 6, b6) ^ BIT(n, 7, b7))
#define ENTRY(n, ...) SUM(n, __VA_ARGS__)
#define ENTRIES_4(n, ...)                                                              \
    ENTRY(n, __VA_ARGS__), ENTRY((n) + 1, __VA_ARGS__), ENTRY((n) + 2, __VA_ARGS__),   \
        ENTRY((n) + 3, __VA_ARGS__)
#define ENTRIES_16(n, ...)                                                             \
    ENTRIES_4(n, __VA_ARGS__), ENTRIES_4((n) + 4, __VA_ARGS__),                        \
        ENTRIES_4((n) + 8, __VA_ARGS__), ENTRIES_4((n) + 12, __VA_ARGS__)
#define ENTRIES_64(n, ...)                                                             \
    ENTRIES_16(n, __VA_ARGS__), ENTRIES_16((n) + 16, __VA_ARGS__),                     \
        ENTRIES_16((n) + 32, __VA_ARGS__), ENTRIES_16((n) + 48, __VA_ARGS__)
#define TABLE(...)                                                                     \
    { ENTRIES_64(0, __VA_ARGS__), ENTRIES_64(64, __VA_ARGS__),                         \
      ENTRIES_64(128, __VA_ARGS__), ENTRIES_64(192, __VA_ARGS__) },

/* [i][byte]: the register after this byte and i zero bytes. */
static const uint32_t tables[8][256] = { MP_CRC_BITS(TABLE) };

static uint32_t table_byte(uint32_t c, uint8_t byte)
{
    return c >> 8 ^ tables[0][(c ^ byte) & 0xff];
}

static uint32_t table_crc(uint32_t crc, const uint8_t *p, size_t size)
{
    uint32_t c = ~crc;

    for (; size >= 8; size -= 8, p += 8) {
        uint32_t low = c ^ mp_get_u32(p), high = mp_get_u32(p + 4);
        c = tables[7][low & 0xff] ^ tables[6][low >> 8 & 0xff] ^
            tables[5][low >> 16 & 0xff] ^ tables[4][low >> 24] ^
            tables[3][high & 0xff] ^ tables[2][high >> 8 & 0xff] ^
            tables[1][high >> 16 & 0xff] ^ tables[0][high >> 24];
    }
    for (; size > 0; size--)
        c = table_byte(c, *p++);
    return ~c;
}

static uint32_t table_crc_copy(uint32_t crc, uint8_t *to, const uint8_t *from,
                               size_t size)
{
    if (size > 0)
        memcpy(to, from, size);
    return table_crc(crc, from, size);
}

/* a * b * x^33: the operation of crc_table.h. */
static uint32_t table_multiply(uint32_t a, uint32_t b)
{
    static const uint32_t x[2] = { 0, UINT32_C(0x82f63b78) }; /* the polynomial */
    uint32_t product = 0;

    for (; b != 0; b <<= 1) {
        if (b >> 31)
            product ^= a;
        a = a >> 1 ^ x[a & 1];
    }
    product = product >> 1 ^ x[product & 1];
    for (uint32_t i = 0; i < 4; i++)
        product = table_byte(product, 0);
    return product;
}

/* -- CRC32C with the instructions of the processor ------------------------------------
 *
 * The crc32 instruction takes 3 cycles, and one can start in each cycle. So a block is
 * cut into three lanes that are computed side by side. Two carry-less multiplications
 * move the first two past the lanes behind them, and the last step of the third lane
 * reduces the sum of all three. */

#if defined(__x86_64__)
#define HARDWARE __attribute__((target("sse4.2,pclmul")))
#define HARDWARE_INLINE static inline HARDWARE __attribute__((always_inline))

enum { LANES_SIZE_MIN = 72 }; /* measured: below, one lane is faster */

static inline bool has_hardware(void)
{
    return __builtin_cpu_supports("sse4.2") && __builtin_cpu_supports("pclmul");
}

HARDWARE_INLINE uint64_t product(uint64_t a, uint32_t b)
{
    __m128i x = _mm_cvtsi64_si128((long long)a), y = _mm_cvtsi32_si128((int)b);

    return (uint64_t)_mm_cvtsi128_si64(_mm_clmulepi64_si128(x, y, 0));
}

/* Reads the word at `from`, and writes it to `to` unless that is NULL. */
HARDWARE_INLINE uint64_t pass_word(uint8_t *to, const uint8_t *from)
{
    uint64_t word;

    memcpy(&word, from, sizeof word);
    if (to != NULL)
        memcpy(to, &word, sizeof word);
    return word;
}

HARDWARE_INLINE uint64_t lanes(uint64_t c, uint8_t *to, const uint8_t *from,
                               size_t words)
{
    const size_t lane = words * 8, last = lane - 8;
    uint64_t a = c, b = 0, d = 0;

    for (size_t i = 0; i < last; i += 8) {
        a = _mm_crc32_u64(a, pass_word(to ? to + i : NULL, from + i));
        b = _mm_crc32_u64(b, pass_word(to ? to + lane + i : NULL, from + lane + i));
        d = _mm_crc32_u64(
            d, pass_word(to ? to + 2 * lane + i : NULL, from + 2 * lane + i));
    }
    a = _mm_crc32_u64(a, pass_word(to ? to + last : NULL, from + last));
    b = _mm_crc32_u64(b, pass_word(to ? to + lane + last : NULL, from + lane + last));
    uint64_t word = pass_word(to ? to + 2 * lane + last : NULL, from + 2 * lane + last);
    return _mm_crc32_u64(d, word ^ product(a, mp_crc_past_words[2 * words]) ^
                                product(b, mp_crc_past_words[words]));
}

HARDWARE_INLINE uint32_t hardware_crc(uint32_t crc, uint8_t *to, const uint8_t *from,
                                      size_t size)
{
    uint64_t c = (uint32_t)~crc;

    while (size >= LANES_SIZE_MIN) {
        size_t words = size < 24 * MP_CRC_LANE_WORDS ? size / 24 : MP_CRC_LANE_WORDS;
        c = lanes(c, to, from, words);
        from += 24 * words;
        to = to ? to + 24 * words : NULL;
        size -= 24 * words;
    }
    for (; size >= 8; size -= 8, from += 8, to = to ? to + 8 : NULL)
        c = _mm_crc32_u64(c, pass_word(to, from));
    if (to != NULL && size > 0)
        memcpy(to, from, size);
    if (size & 4) {
        c = _mm_crc32_u32((uint32_t)c, mp_get_u32(from));
        from += 4;
    }
    if (size & 2) {
        c = _mm_crc32_u16((uint32_t)c, mp_get_u16(from));
        from += 2;
    }
    if (size & 1)
        c = _mm_crc32_u8((uint32_t)c, *from);
    return ~(uint32_t)c;
}

HARDWARE static uint32_t hardware_crc_only(uint32_t crc, const uint8_t *p, size_t size)
{
    return hardware_crc(crc, NULL, p, size);
}

HARDWARE static uint32_t hardware_crc_copy(uint32_t crc, uint8_t *to,
                                           const uint8_t *from, size_t size)
{
    return hardware_crc(crc, to, from, size);
}

HARDWARE static uint32_t hardware_multiply(uint32_t a, uint32_t b)
{
    return (uint32_t)_mm_crc32_u64(0, product(a, b));
}
#else
static inline bool has_hardware(void)
{
    return false;
}
#define hardware_crc_only table_crc
#define hardware_crc_copy table_crc_copy
#define hardware_multiply table_multiply
#endif

uint32_t mp_crc32c(uint32_t crc, const void *data, size_t size)
{
    if (has_hardware())
        return hardware_crc_only(crc, data, size);
    return table_crc(crc, data, size);
}

uint32_t mp_crc32c_copy(uint32_t crc, void *to, const void *from, size_t size)
{
    if (has_hardware())
        return hardware_crc_copy(crc, to, from, size);
    return table_crc_copy(crc, to, from, size);
}

uint32_t mp_crc32c_combine(uint32_t crc_a, uint32_t crc_b, uint64_t size_b)
{
    bool hardware = has_hardware();

    for (size_t digit = 0; size_b > 0; digit++, size_b >>= 4) {
        uint32_t power = mp_crc_past_bytes[digit][size_b & 15];
        if ((size_b & 15) == 0)
            continue;
        crc_a =
            hardware ? hardware_multiply(crc_a, power) : table_multiply(crc_a, power);
    }
    return crc_a ^ crc_b;
}

/* -- base64 (RFC 4648 section 4) --------------------------------------------------- */

static const char base64_digits[] =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/* 0 to 63, or -1. */
static int32_t base64_value(char c)
{
    if (c >= 'A' && c <= 'Z')
        return c - 'A';
    if (c >= 'a' && c <= 'z')
        return c - 'a' + 26;
    if (c >= '0' && c <= '9')
        return c - '0' + 52;
    return c == '+' ? 62 : c == '/' ? 63 : -1;
}

size_t mp_base64_size(size_t size)
{
    mp_assert(size <= SIZE_MAX / 4 * 3 - 3);
    return (size + 2) / 3 * 4;
}

size_t mp_base64_encode(const void *data, size_t size, char *out)
{
    const uint8_t *p = data;
    char *start = out;

    for (; size > 0; out += 4) {
        size_t n = size < 3 ? size : 3;
        uint32_t bits = (uint32_t)p[0] << 16 | (n > 1 ? (uint32_t)p[1] << 8 : 0) |
                        (n > 2 ? p[2] : 0u);
        out[0] = base64_digits[bits >> 18];
        out[1] = base64_digits[bits >> 12 & 63];
        out[2] = n > 1 ? base64_digits[bits >> 6 & 63] : '=';
        out[3] = n > 2 ? base64_digits[bits & 63] : '=';
        p += n;
        size -= n;
    }
    *out = 0;
    return (size_t)(out - start);
}

bool mp_base64_decode(const char *text, size_t size, void *out, size_t *out_size)
{
    uint8_t *to = out;

    if (size % 4 != 0)
        return false;
    for (; size > 0; size -= 4, text += 4) {
        size_t padding = 0;
        if (size == 4 && text[3] == '=')
            padding = text[2] == '=' ? 2 : 1;
        uint32_t bits = 0;
        for (size_t i = 0; i < 4; i++) {
            int32_t v = i < 4 - padding ? base64_value(text[i]) : 0;
            if (v < 0)
                return false;
            bits = bits << 6 | (uint32_t)v;
        }
        if (bits & ((UINT32_C(1) << 8 * padding) - 1))
            return false; /* the unused bits are zero in what an encoder writes */
        *to++ = (uint8_t)(bits >> 16);
        if (padding < 2)
            *to++ = (uint8_t)(bits >> 8);
        if (padding < 1)
            *to++ = (uint8_t)bits;
    }
    *out_size = (size_t)(to - (uint8_t *)out);
    return true;
}

/* -- hexadecimal ------------------------------------------------------------------- */

static int32_t hex_value(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

void mp_hex_encode(const void *data, size_t size, char *out)
{
    static const char digits[] = "0123456789abcdef";
    const uint8_t *p = data;

    for (size_t i = 0; i < size; i++) {
        out[2 * i] = digits[p[i] >> 4];
        out[2 * i + 1] = digits[p[i] & 15];
    }
}

bool mp_hex_decode(const char *text, size_t size, void *out)
{
    uint8_t *to = out;

    if (size % 2 != 0)
        return false;
    for (size_t i = 0; i < size; i += 2) {
        int32_t high = hex_value(text[i]), low = hex_value(text[i + 1]);
        if (high < 0 || low < 0)
            return false;
        *to++ = (uint8_t)(high << 4 | low);
    }
    return true;
}

/* -- ids and times ----------------------------------------------------------------- */

void mp_nuid_text(const uint8_t random[16], char out[MP_NUID_SIZE + 1])
{
    static const char digits[] =
        "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

    /* 62^11 > 2^64: each half takes eleven digits. */
    for (size_t half = 0; half < 2; half++) {
        uint64_t v = mp_get_u64(random + 8 * half);
        for (size_t i = 0; i < MP_NUID_SIZE / 2; i++, v /= 62)
            out[half * (MP_NUID_SIZE / 2) + i] = digits[v % 62];
    }
    out[MP_NUID_SIZE] = 0;
}

/* Days since 1970 to a date of the Gregorian calendar, by eras of 400 years that begin
 * on the first of March (Hinnant, "chrono-compatible low-level date algorithms"). */
static void date_of_days(uint64_t days, uint32_t *year, uint32_t *month, uint32_t *day)
{
    uint64_t shifted = days + 719468;
    uint32_t era = (uint32_t)(shifted / 146097);
    uint32_t of_era = (uint32_t)(shifted % 146097);
    uint32_t year_of_era =
        (of_era - of_era / 1460 + of_era / 36524 - of_era / 146096) / 365;
    uint32_t of_year =
        of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    uint32_t from_march = (5 * of_year + 2) / 153;

    *day = of_year - (153 * from_march + 2) / 5 + 1;
    *month = from_march < 10 ? from_march + 3 : from_march - 9;
    *year = era * 400 + year_of_era + (*month <= 2);
}

static char *put_digits(char *out, uint64_t v, size_t digits, char after)
{
    for (size_t i = digits; i > 0; i--, v /= 10)
        out[i - 1] = (char)('0' + v % 10);
    out[digits] = after;
    return out + digits + 1;
}

void mp_time_text(uint64_t wall_ns, char out[MP_TIME_TEXT_SIZE + 1])
{
    uint64_t seconds = wall_ns / 1000000000;
    uint32_t year, month, day;

    date_of_days(seconds / 86400, &year, &month, &day);
    out = put_digits(out, year, 4, '-');
    out = put_digits(out, month, 2, '-');
    out = put_digits(out, day, 2, 'T');
    out = put_digits(out, seconds / 3600 % 24, 2, ':');
    out = put_digits(out, seconds / 60 % 60, 2, ':');
    out = put_digits(out, seconds % 60, 2, '.');
    out = put_digits(out, wall_ns % 1000000000, 9, 'Z');
    *out = 0;
}
