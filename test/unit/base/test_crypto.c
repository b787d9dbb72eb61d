#include "support/test.h"

#include "base/crypto.h"
#include "base/enc.h"
#include "base/limits.h"
#include "base/str.h"

static void assert_digest(const uint8_t digest[MP_SHA256_SIZE], const char *hex)
{
    char text[2 * MP_SHA256_SIZE + 1] = { 0 };

    mp_hex_encode(digest, MP_SHA256_SIZE, text);
    assert_string_equal(text, hex);
}

static void sha256_gives_the_vectors_of_fips_180(void **state)
{
    static const struct {
        const char *text, *hex;
    } vectors[] = {
        { "", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855" },
        { "abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad" },
        { "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
          "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1" },
    };
    uint8_t out[MP_SHA256_SIZE];

    (void)state;
    for (size_t i = 0; i < 3; i++) {
        mp_sha256(vectors[i].text, strlen(vectors[i].text), out);
        assert_digest(out, vectors[i].hex);
    }
    mp_sha256(NULL, 0, out);
    assert_digest(out, vectors[0].hex);
    char *million = mp_alloc(1000000);
    memset(million, 'a', 1000000);
    mp_sha256(million, 1000000, out);
    assert_digest(out,
                  "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
    mp_free(million);
}

static void sha1_gives_the_vectors_of_fips_180(void **state)
{
    uint8_t out[MP_SHA1_SIZE];
    char text[2 * MP_SHA1_SIZE + 1] = { 0 };

    (void)state;
    mp_sha1("abc", 3, out);
    mp_hex_encode(out, MP_SHA1_SIZE, text);
    assert_string_equal(text, "a9993e364706816aba3e25717850c26c9cd0d89d");
    mp_sha1("", 0, out);
    mp_hex_encode(out, MP_SHA1_SIZE, text);
    assert_string_equal(text, "da39a3ee5e6b4b0d3255bfef95601890afd80709");
}

static void hmac_gives_the_vectors_of_rfc_4231(void **state)
{
    uint8_t out[MP_SHA256_SIZE], key[131], data[50];

    (void)state;
    memset(key, 0x0b, 20);
    mp_hmac_sha256(key, 20, "Hi There", 8, out);
    assert_digest(out,
                  "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7");
    mp_hmac_sha256("Jefe", 4, "what do ya want for nothing?", 28, out);
    assert_digest(out,
                  "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
    memset(key, 0xaa, 20);
    memset(data, 0xdd, 50);
    mp_hmac_sha256(key, 20, data, 50, out);
    assert_digest(out,
                  "773ea91e36800e46854db8ebd09181a72959098b3ef8c122d9635514ced565fe");
    memset(key, 0xaa, sizeof key); /* longer than a block */
    mp_hmac_sha256(key, 131, "Test Using Larger Than Block-Size Key - Hash Key First",
                   54, out);
    assert_digest(out,
                  "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54");
    mp_hmac_sha256(NULL, 0, NULL, 0, out);
    assert_digest(out,
                  "b613679a0814d9ec772f95d778c35fc5ff1697c493715653c6c712144292c5ad");
}

static void a_key_of_one_block_is_not_hashed(void **state)
{
    uint8_t key[65], hashed[MP_SHA256_SIZE], a[MP_SHA256_SIZE], b[MP_SHA256_SIZE];

    (void)state;
    memset(key, 'k', sizeof key);
    mp_sha256(key, 64, hashed);
    mp_hmac_sha256(key, 64, "m", 1, a);
    mp_hmac_sha256(hashed, sizeof hashed, "m", 1, b);
    assert_memory_not_equal(a, b, sizeof a);
    mp_sha256(key, 65, hashed);
    mp_hmac_sha256(key, 65, "m", 1, a);
    mp_hmac_sha256(hashed, sizeof hashed, "m", 1, b);
    assert_memory_equal(a, b, sizeof a);
}

static const uint8_t salt[16] = {
    1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16
};

static void a_password_is_verified_against_its_own_hash_only(void **state)
{
    char hash[MP_BCRYPT_SIZE + 1], again[MP_BCRYPT_SIZE + 1], other[MP_BCRYPT_SIZE + 1];
    uint8_t other_salt[16] = { 0 };

    (void)state;
    assert_int_equal(mp_bcrypt_hash(MP_STR("memphis"), salt, hash), MEMPHIS_OK);
    assert_int_equal(strlen(hash), MP_BCRYPT_SIZE);
    assert_memory_equal(hash, "$2b$10$", 7);
    assert_int_equal(mp_bcrypt_hash(MP_STR("memphis"), salt, again), MEMPHIS_OK);
    assert_string_equal(hash, again);
    assert_int_equal(mp_bcrypt_hash(MP_STR("memphis"), other_salt, other), MEMPHIS_OK);
    assert_string_not_equal(hash, other);
    assert_true(mp_bcrypt_verify(MP_STR("memphis"), hash));
    assert_true(mp_bcrypt_verify(MP_STR("memphis"), other));
    assert_false(mp_bcrypt_verify(MP_STR("Memphis"), hash));
    assert_false(mp_bcrypt_verify(MP_STR("memphis "), hash));
    assert_false(mp_bcrypt_verify(MP_STR(""), hash));
    hash[MP_BCRYPT_SIZE - 1] ^= 1;
    assert_false(mp_bcrypt_verify(MP_STR("memphis"), hash));
}

static void hashes_of_other_programs_are_understood(void **state)
{
    (void)state;
    /* From the tests of OpenBSD and of golang.org/x/crypto/bcrypt. */
    assert_true(mp_bcrypt_verify(
        MP_STR("allmine"),
        "$2a$10$XajjQvNhvvRt5GSeFk1xFeyqRrsxkhBkUiQeg0dt.wU1qD4aFDcga"));
    assert_true(mp_bcrypt_verify(
        MP_STR("U*U"), "$2a$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW"));
    assert_false(mp_bcrypt_verify(
        MP_STR("U*V"), "$2a$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW"));
}

static void a_password_of_72_bytes_is_taken_and_one_more_is_not(void **state)
{
    char password[MP_PASSWORD_MAX + 1], hash[MP_BCRYPT_SIZE + 1];

    (void)state;
    memset(password, 'p', sizeof password);
    assert_int_equal(mp_bcrypt_hash(mp_slice(password, 72), salt, hash), MEMPHIS_OK);
    assert_true(mp_bcrypt_verify(mp_slice(password, 72), hash));
    password[71] = 'q'; /* the last byte counts */
    assert_false(mp_bcrypt_verify(mp_slice(password, 72), hash));
    password[71] = 'p';
    assert_false(mp_bcrypt_verify(mp_slice(password, 73), hash));
    assert_int_equal(mp_bcrypt_hash(mp_slice(password, 73), salt, hash),
                     MEMPHIS_INVALID);
}

static void a_password_may_be_empty_but_has_no_zero_byte(void **state)
{
    char hash[MP_BCRYPT_SIZE + 1];

    (void)state;
    assert_int_equal(mp_bcrypt_hash(mp_slice("a\0b", 3), salt, hash), MEMPHIS_INVALID);
    assert_int_equal(mp_bcrypt_hash(mp_slice(NULL, 0), salt, hash), MEMPHIS_OK);
    assert_true(mp_bcrypt_verify(MP_STR(""), hash));
    assert_false(mp_bcrypt_verify(mp_slice("\0", 1), hash));
    assert_false(mp_bcrypt_verify(MP_STR("a"), hash));
}

static void what_is_no_bcrypt_hash_never_matches(void **state)
{
    static const char *const wrong[] = {
        "",
        "*0",
        "a",
        "$1$abcdefgh$qdXlLhSzjgsZSuVIlMNkO0",
        "$2b$10$",
        "$2b$31$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW",
        "$2b$1x$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW",
        "$2b$03$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW",
        "$2z$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW",
        "$2b$05$CCCCCCCCCCCCCCCCCCC!C.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW",
        "$2b$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW1",
    };
    (void)state;
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++)
        assert_false(mp_bcrypt_verify(MP_STR("U*U"), wrong[i]));
}

static void equal_looks_at_every_byte(void **state)
{
    char a[40], b[40];

    (void)state;
    memset(a, 'x', sizeof a);
    memset(b, 'x', sizeof b);
    assert_true(mp_equal_constant_time(a, b, sizeof a));
    assert_true(mp_equal_constant_time(NULL, NULL, 0));
    for (size_t i = 0; i < sizeof a; i++) {
        b[i] ^= (char)0x80;
        assert_false(mp_equal_constant_time(a, b, sizeof a));
        assert_true(mp_equal_constant_time(a, b, i));
        b[i] ^= (char)0x80;
    }
}

static const struct CMUnitTest tests[] = {
    leak_checked(sha256_gives_the_vectors_of_fips_180),
    leak_checked(sha1_gives_the_vectors_of_fips_180),
    leak_checked(hmac_gives_the_vectors_of_rfc_4231),
    leak_checked(a_key_of_one_block_is_not_hashed),
    leak_checked(a_password_is_verified_against_its_own_hash_only),
    leak_checked(hashes_of_other_programs_are_understood),
    leak_checked(a_password_of_72_bytes_is_taken_and_one_more_is_not),
    leak_checked(a_password_may_be_empty_but_has_no_zero_byte),
    leak_checked(what_is_no_bcrypt_hash_never_matches),
    leak_checked(equal_looks_at_every_byte),
};

int main(void)
{
    return run_tests("base/crypto", tests);
}
