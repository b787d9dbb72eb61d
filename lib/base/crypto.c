#include "base/crypto.h"

#include "base/assert.h"
#include "base/limits.h"
#include "base/mem.h"

#include <string.h>

#include <crypt.h>
#include <mbedtls/platform_util.h>
#include <mbedtls/sha1.h>
#include <mbedtls/sha256.h>

enum {
    HMAC_BLOCK = 64,
    BCRYPT_COST = 10,     /* what the product has always used */
    BCRYPT_COST_MAX = 15, /* a damaged hash must not occupy a worker for days */
    SALT_SIZE = 16
};

/* The room crypt works in: 32 KiB, too much for the stack of a small thread. */
struct room {
    struct crypt_data data;
    char password[MP_PASSWORD_MAX + 1];
};

static bool is_password(memphis_slice password)
{
    return password.size <= MP_PASSWORD_MAX &&
           (password.size == 0 || memchr(password.data, 0, password.size) == NULL);
}

static struct room *room_new(memphis_slice password)
{
    struct room *r = mp_alloc(sizeof *r);

    if (password.size > 0)
        memcpy(r->password, password.data, password.size);
    return r;
}

static void room_free(struct room *r)
{
    mbedtls_platform_zeroize(r, sizeof *r);
    mp_free(r);
}

/* "$2b$10$" and 53 characters of salt and hash; also the older letters a and y. */
static bool is_bcrypt(const char *hash)
{
    if (strlen(hash) != MP_BCRYPT_SIZE || hash[0] != '$' || hash[1] != '2' ||
        strchr("aby", hash[2]) == NULL || hash[3] != '$' || hash[6] != '$')
        return false;
    if (hash[4] < '0' || hash[4] > '9' || hash[5] < '0' || hash[5] > '9')
        return false;
    return (hash[4] - '0') * 10 + hash[5] - '0' <= BCRYPT_COST_MAX;
}

void mp_sha1(const void *data, size_t size, uint8_t out[MP_SHA1_SIZE])
{
    mp_assert(mbedtls_sha1_ret(data, size, out) == 0);
}

/* -- SHA-256, HMAC (RFC 2104) ------------------------------------------------------ */

static void start(mbedtls_sha256_context *c)
{
    mbedtls_sha256_init(c);
    mp_assert(mbedtls_sha256_starts_ret(c, 0) == 0);
}

static void add(mbedtls_sha256_context *c, const void *data, size_t size)
{
    if (size > 0)
        mp_assert(mbedtls_sha256_update_ret(c, data, size) == 0);
}

static void finish(mbedtls_sha256_context *c, uint8_t out[MP_SHA256_SIZE])
{
    mp_assert(mbedtls_sha256_finish_ret(c, out) == 0);
    mbedtls_sha256_free(c);
}

void mp_sha256(const void *data, size_t size, uint8_t out[MP_SHA256_SIZE])
{
    mbedtls_sha256_context c;

    start(&c);
    add(&c, data, size);
    finish(&c, out);
}

void mp_hmac_sha256(const void *key, size_t key_size, const void *data, size_t size,
                    uint8_t out[MP_SHA256_SIZE])
{
    uint8_t pad[HMAC_BLOCK] = { 0 };
    mbedtls_sha256_context c;

    if (key_size > HMAC_BLOCK)
        mp_sha256(key, key_size, pad);
    else if (key_size > 0)
        memcpy(pad, key, key_size);
    for (size_t i = 0; i < HMAC_BLOCK; i++)
        pad[i] ^= 0x36;
    start(&c);
    add(&c, pad, HMAC_BLOCK);
    add(&c, data, size);
    finish(&c, out);
    for (size_t i = 0; i < HMAC_BLOCK; i++)
        pad[i] ^= 0x36 ^ 0x5c;
    start(&c);
    add(&c, pad, HMAC_BLOCK);
    add(&c, out, MP_SHA256_SIZE);
    finish(&c, out);
    mbedtls_platform_zeroize(pad, sizeof pad);
}

/* -- bcrypt ------------------------------------------------------------------------ */

memphis_status mp_bcrypt_hash(memphis_slice password, const uint8_t random[16],
                              char out[MP_BCRYPT_SIZE + 1])
{
    char setting[CRYPT_GENSALT_OUTPUT_SIZE];

    if (!is_password(password))
        return MEMPHIS_INVALID;
    const char *made = crypt_gensalt_rn("$2b$", BCRYPT_COST, (const char *)random,
                                        SALT_SIZE, setting, sizeof setting);
    mp_assert(made != NULL);
    struct room *r = room_new(password);
    const char *hash = crypt_rn(r->password, setting, &r->data, (int)sizeof r->data);
    mp_assert(hash != NULL);
    mp_assert(strlen(hash) == MP_BCRYPT_SIZE);
    memcpy(out, hash, MP_BCRYPT_SIZE + 1);
    room_free(r);
    return MEMPHIS_OK;
}

bool mp_bcrypt_verify(memphis_slice password, const char *hash)
{
    if (!is_password(password) || !is_bcrypt(hash))
        return false;
    struct room *r = room_new(password);
    const char *again = crypt_rn(r->password, hash, &r->data, (int)sizeof r->data);
    bool equal = again != NULL && strlen(again) == MP_BCRYPT_SIZE &&
                 mp_equal_constant_time(again, hash, MP_BCRYPT_SIZE);
    room_free(r);
    return equal;
}

bool mp_equal_constant_time(const void *a, const void *b, size_t size)
{
    const volatile uint8_t *x = a, *y = b; /* volatile: no early way out */
    uint8_t difference = 0;

    for (size_t i = 0; i < size; i++)
        difference |= (uint8_t)(x[i] ^ y[i]);
    return difference == 0;
}
