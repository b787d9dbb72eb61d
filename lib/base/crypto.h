/* base/crypto.h -- the few primitives of authentication. The only file that includes
 * mbedtls and crypt.h inside the library. Thread: any (pure); bcrypt takes 50 ms and
 * runs on a worker. */
#ifndef MP_BASE_CRYPTO_H
#define MP_BASE_CRYPTO_H

#include <memphis/status.h>

enum { MP_SHA1_SIZE = 20, MP_SHA256_SIZE = 32, MP_BCRYPT_SIZE = 60 };

/* Protects nothing any more: for the WebSocket handshake, which asks for it. */
void mp_sha1(const void *data, size_t size, uint8_t out[MP_SHA1_SIZE]);

void mp_sha256(const void *data, size_t size, uint8_t out[MP_SHA256_SIZE]);
void mp_hmac_sha256(const void *key, size_t key_size, const void *data, size_t size,
                    uint8_t out[MP_SHA256_SIZE]);

/* "$2b$10$..." of at most MP_PASSWORD_MAX bytes without a zero byte; `random` is the
 * salt. INVALID otherwise. */
memphis_status mp_bcrypt_hash(memphis_slice password, const uint8_t random[16],
                              char out[MP_BCRYPT_SIZE + 1]);
bool mp_bcrypt_verify(memphis_slice password, const char *hash);

bool mp_equal_constant_time(const void *a, const void *b, size_t size);

#endif
