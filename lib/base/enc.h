/* base/enc.h -- encodings and checksums. Thread: any (pure). */
#ifndef MP_BASE_ENC_H
#define MP_BASE_ENC_H

#include <memphis/base.h>

/* CRC32C (Castagnoli, as in iSCSI, RFC 3720 B.4). `crc` is that of the bytes before, 0
 * at the start. The hardware instruction where there is one, tables elsewhere. */
uint32_t mp_crc32c(uint32_t crc, const void *data, size_t size);
/* The same while copying: one pass over the bytes. */
uint32_t mp_crc32c_copy(uint32_t crc, void *to, const void *from, size_t size);
/* CRC of A followed by B from those of A and B and the length of B. */
uint32_t mp_crc32c_combine(uint32_t crc_a, uint32_t crc_b, uint64_t size_b);

/* Standard base64 with padding; `out` has room for mp_base64_size(size) and a zero. */
size_t mp_base64_size(size_t size);
size_t mp_base64_encode(const void *data, size_t size, char *out);
/* False: not base64. `out` has room for size / 4 * 3 bytes. */
bool mp_base64_decode(const char *text, size_t size, void *out, size_t *out_size);

void mp_hex_encode(const void *data, size_t size, char *out); /* lower case, no zero */
bool mp_hex_decode(const char *text, size_t size, void *out); /* false: odd or no hex */

/* 22 characters of base 62 from 16 random bytes, and a final zero: ids on the wire. */
enum { MP_NUID_SIZE = 22 };
void mp_nuid_text(const uint8_t random[16], char out[MP_NUID_SIZE + 1]);

/* RFC 3339 in UTC with nine digits of a second: "2026-01-01T10:00:00.000000001Z". */
enum { MP_TIME_TEXT_SIZE = 30 };
void mp_time_text(uint64_t wall_ns, char out[MP_TIME_TEXT_SIZE + 1]);

#endif
