#include "support/test.h"

#include "base/enc.h"
#include "base/map.h"
#include "base/str.h"

#include <stdio.h>

static const uint64_t reference_key[2] = { 0x0706050403020100, 0x0f0e0d0c0b0a0908 };

/* -- SipHash ----------------------------------------------------------------------- */

/* Key and message are the bytes 0, 1, 2 ...; from vectors.h of the reference
 * implementation of SipHash-2-4 with 128 bits. */
static void siphash128_gives_the_reference_vectors(void **state)
{
    static const struct {
        size_t size;
        const char *hex;
    } vectors[] = {
        { 0, "a3817f04ba25a8e66df67214c7550293" },
        { 1, "da87c1d86b99af44347659119b22fc45" },
        { 2, "8177228da4a45dc7fca38bdef60affe4" },
        { 3, "9c70b60c5267a94e5f33b6b02985ed51" },
        { 4, "f88164c12d9c8faf7d0f6e7c7bcd5579" },
        { 5, "1368875980776f8854527a07690e9627" },
        { 6, "14eeca338b208613485ea0308fd7a15e" },
        { 7, "a1f1ebbed8dbc153c0b84aa61ff08239" },
        { 8, "3b62a9ba6258f5610f83e264f31497b4" },
        { 9, "264499060ad9baabc47f8b02bb6d71ed" },
        { 15, "5493e99933b0a8117e08ec0f97cfc3d9" },
        { 16, "6ee2a4ca67b054bbfd3315bf85230577" },
        { 17, "473d06e8738db89854c066c47ae47740" },
        { 31, "2939b0183223fafc1723de4f52c43d35" },
        { 32, "7c3956ca5eeafc3e363e9d556546eb68" },
        { 33, "77c6077146f01c32b6b69d5f4ea9ffcf" },
        { 62, "5853542321f567a005d547a4f04759bd" },
        { 63, "5150d1772f50834a503e069a973fbd7c" },
    };
    uint8_t message[64];

    (void)state;
    for (size_t i = 0; i < sizeof message; i++)
        message[i] = (uint8_t)i;
    for (size_t i = 0; i < sizeof vectors / sizeof vectors[0]; i++) {
        uint64_t out[2];
        uint8_t bytes[16];
        char hex[33] = { 0 };
        mp_siphash128(reference_key, message, vectors[i].size, out);
        for (size_t k = 0; k < 16; k++)
            bytes[k] = (uint8_t)(out[k / 8] >> k % 8 * 8);
        mp_hex_encode(bytes, sizeof bytes, hex);
        assert_string_equal(hex, vectors[i].hex);
    }
}

/* With key 0 this is the hash of a bytes object in CPython 3.11 with PYTHONHASHSEED=0;
 * the first of the others is in the test of SipHash-1-3 of the Rust library. */
static void siphash_is_siphash_1_3(void **state)
{
    static const uint64_t zero[2];
    uint8_t message[64];

    (void)state;
    assert_int_equal(mp_siphash(zero, "a", 1), 0x407448d2b89b1813);
    assert_int_equal(mp_siphash(zero, "abcdefgh", 8), 0x3f7b849c0b8e35ea);
    assert_int_equal(mp_siphash(zero, "orders.eu", 9), 0xa241c74e75af17fb);
    memset(message, 'x', sizeof message);
    assert_int_equal(mp_siphash(zero, message, 63), 0x1c308a9f11b6a742);
    assert_int_equal(mp_siphash(reference_key, NULL, 0), 0xabac0158050fc4dc);
}

/* -- map --------------------------------------------------------------------------- */

static void an_empty_map_finds_nothing_and_owns_nothing(void **state)
{
    struct mp_map m = { 0 };
    uint32_t at = 0;

    (void)state;
    assert_null(mp_map_find(&m, MP_STR("a")));
    assert_null(mp_map_remove(&m, MP_STR("a")));
    assert_null(mp_map_next(&m, &at));
    assert_int_equal(mp_heap_current()->live_blocks, 0);
    mp_map_fini(&m);
}

static void it_goes_on_behind_a_key(void **state)
{
    static char keys[40][8];
    struct mp_map m = { 0 };
    uint32_t at = 7;

    (void)state;
    assert_false(mp_map_behind(&m, MP_STR("k0"), &at));
    for (int i = 0; i < 40; i++) {
        snprintf(keys[i], sizeof keys[i], "k%d", i);
        mp_map_put(&m, mp_slice_text(keys[i]), keys[i]);
    }
    for (int i = 0; i < 40; i += 2)
        mp_map_remove(&m, mp_slice_text(keys[i]));
    assert_false(mp_map_behind(&m, MP_STR("k4"), &at));
    assert_int_equal(at, 7);
    for (int i = 1; i < 40; i += 2) {
        assert_true(mp_map_behind(&m, mp_slice_text(keys[i]), &at));
        assert_ptr_equal(mp_map_next(&m, &at), i < 39 ? keys[i + 2] : NULL);
    }
    mp_map_fini(&m);
}

static void put_find_and_remove(void **state)
{
    struct mp_map m = { 0 };
    int one, two, three;

    (void)state;
    mp_map_seed(&m, 1, 2);
    assert_null(mp_map_put(&m, MP_STR("one"), &one));
    assert_null(mp_map_put(&m, MP_STR("two"), &two));
    assert_ptr_equal(mp_map_find(&m, MP_STR("one")), &one);
    assert_ptr_equal(mp_map_find(&m, MP_STR("two")), &two);
    assert_null(mp_map_find(&m, MP_STR("tw")));
    assert_null(mp_map_find(&m, MP_STR("")));
    assert_ptr_equal(mp_map_put(&m, MP_STR("two"), &three), &two);
    assert_ptr_equal(mp_map_find(&m, MP_STR("two")), &three);
    assert_int_equal(m.count, 2);
    assert_ptr_equal(mp_map_remove(&m, MP_STR("one")), &one);
    assert_null(mp_map_remove(&m, MP_STR("one")));
    assert_null(mp_map_find(&m, MP_STR("one")));
    assert_ptr_equal(mp_map_find(&m, MP_STR("two")), &three);
    mp_map_fini(&m);
    assert_int_equal(m.count, 0);
}

static void the_empty_key_is_a_key_and_bytes_may_be_zero(void **state)
{
    struct mp_map m = { 0 };
    int a, b, c;

    (void)state;
    mp_map_put(&m, mp_slice(NULL, 0), &a);
    assert_ptr_equal(mp_map_find(&m, MP_STR("")), &a);
    mp_map_put(&m, mp_slice("\0", 1), &b);
    mp_map_put(&m, mp_slice("\0\0", 2), &c);
    assert_ptr_equal(mp_map_find(&m, mp_slice(NULL, 0)), &a);
    assert_ptr_equal(mp_map_find(&m, mp_slice("\0", 1)), &b);
    assert_ptr_equal(mp_map_find(&m, mp_slice("\0\0", 2)), &c);
    assert_ptr_equal(mp_map_remove(&m, MP_STR("")), &a);
    mp_map_fini(&m);
}

static void a_replaced_value_takes_its_key_along(void **state)
{
    struct mp_map m = { 0 };
    char old_key[] = "orders", new_key[] = "orders";

    (void)state;
    mp_map_put(&m, mp_slice_text(old_key), old_key);
    assert_ptr_equal(mp_map_put(&m, mp_slice_text(new_key), new_key), old_key);
    memset(old_key, 'x', sizeof old_key); /* as if it had been freed */
    assert_ptr_equal(mp_map_find(&m, MP_STR("orders")), new_key);
    mp_map_fini(&m);
}

static void the_last_remove_gives_the_memory_back_and_keeps_the_seed(void **state)
{
    struct mp_map m = { 0 };
    int one;

    (void)state;
    mp_map_seed(&m, 5, 6);
    for (int round = 0; round < 3; round++) {
        mp_map_put(&m, MP_STR("a"), &one);
        assert_true(mp_heap_current()->live_blocks > 0);
        assert_ptr_equal(mp_map_remove(&m, MP_STR("a")), &one);
        assert_int_equal(mp_heap_current()->live_blocks, 0);
        assert_int_equal(m.key[0], 5);
        assert_int_equal(m.key[1], 6);
    }
}

static void misuse_is_an_assertion(void **state)
{
    struct mp_map m = { 0 };
    int one;

    (void)state;
    expect_assert_failure(mp_map_put(&m, MP_STR("a"), NULL));
    mp_map_put(&m, MP_STR("a"), &one);
    expect_assert_failure(mp_map_seed(&m, 1, 2));
    mp_map_fini(&m);
}

enum { KEYS = 400 };

struct entry {
    char name[24];
    uint32_t version;
};

static struct entry entries[KEYS][2];

static memphis_slice key_of(const struct entry *e)
{
    return mp_slice_text(e->name);
}

/* The model: the live entries in order of insertion. */
struct model {
    struct entry *live[KEYS];
    size_t count;
};

static size_t place_of(const struct model *model, const struct entry *pair)
{
    size_t i = 0;

    while (i < model->count && model->live[i] != &pair[0] && model->live[i] != &pair[1])
        i++;
    return i;
}

static void drop(struct model *model, size_t at)
{
    model->count--;
    memmove(&model->live[at], &model->live[at + 1],
            (model->count - at) * sizeof model->live[0]);
}

static void assert_same(const struct mp_map *m, const struct model *model)
{
    uint32_t at = 0;

    assert_int_equal(m->count, model->count);
    for (size_t i = 0; i < model->count; i++)
        assert_ptr_equal(mp_map_next(m, &at), model->live[i]);
    assert_null(mp_map_next(m, &at));
}

static void a_random_history_agrees_with_a_plain_array(void **state)
{
    struct mp_map m = { 0 };
    static struct model model;
    uint64_t random = 42;

    (void)state;
    mp_map_seed(&m, 3, 4);
    for (size_t i = 0; i < KEYS; i++)
        for (size_t k = 0; k < 2; k++)
            snprintf(entries[i][k].name, sizeof entries[i][k].name, "key-%zu", i * 7);
    for (int step = 0; step < 60000; step++) {
        random = random * UINT64_C(6364136223846793005) + 1442695040888963407;
        /* Phases that grow and phases that shrink. */
        bool grows = step / 5000 % 2 == 0;
        bool put = (random >> 33) % 10 < (grows ? 7u : 3u);
        struct entry *pair = entries[(random >> 40) % KEYS];
        size_t at = place_of(&model, pair);
        struct entry *old = at < model.count ? model.live[at] : NULL;
        assert_ptr_equal(mp_map_find(&m, key_of(pair)), old);
        if (put) {
            struct entry *e = &pair[old == &pair[0]];
            assert_ptr_equal(mp_map_put(&m, key_of(e), e), old);
            if (old == NULL)
                model.count++;
            model.live[at] = e; /* a replaced value keeps its place */
        } else {
            assert_ptr_equal(mp_map_remove(&m, key_of(pair)), old);
            if (old != NULL)
                drop(&model, at);
        }
        if (step % 97 == 0)
            assert_same(&m, &model);
    }
    assert_same(&m, &model);
    mp_map_fini(&m);
}

static void the_current_item_may_be_removed_in_the_loop(void **state)
{
    struct mp_map m = { 0 };
    struct entry *e;
    size_t seen = 0;

    (void)state;
    for (size_t i = 0; i < 100; i++) {
        snprintf(entries[i][0].name, sizeof entries[i][0].name, "n%zu", i);
        entries[i][0].version = (uint32_t)i;
        mp_map_put(&m, key_of(&entries[i][0]), &entries[i][0]);
    }
    for (uint32_t i = 0; (e = mp_map_next(&m, &i)) != NULL; seen++) {
        assert_int_equal(e->version, seen);
        if (e->version % 3 != 0)
            mp_map_remove(&m, key_of(e));
    }
    assert_int_equal(seen, 100);
    assert_int_equal(m.count, 34);
    for (uint32_t i = 0; (e = mp_map_next(&m, &i)) != NULL;) {
        assert_int_equal(e->version % 3, 0);
        mp_map_remove(&m, key_of(e));
    }
    assert_int_equal(m.count, 0);
}

static void a_map_that_changes_all_the_time_stays_small(void **state)
{
    struct mp_map m = { 0 };

    (void)state;
    for (size_t i = 0; i < 100000; i++) {
        struct entry *e = &entries[i % KEYS][0];
        if (i >= 20)
            assert_non_null(mp_map_remove(&m, key_of(&entries[(i - 20) % KEYS][0])));
        snprintf(e->name, sizeof e->name, "%zu", i);
        mp_map_put(&m, key_of(e), e);
    }
    assert_int_equal(m.count, 20);
    assert_true(m.slots_count <= 64);
    mp_map_fini(&m);
}

static void put_one_more(void *ctx)
{
    mp_map_put(ctx, MP_STR("one more"), ctx);
}

static void a_put_without_memory_leaves_the_map_as_it_was(void **state)
{
    struct mp_map m = { 0 };

    (void)state;
    for (size_t i = 0; i == 0 || m.items_count < m.items_capacity; i++) {
        snprintf(entries[i][0].name, sizeof entries[i][0].name, "n%zu", i);
        mp_map_put(&m, key_of(&entries[i][0]), &entries[i][0]);
    }
    uint32_t count = m.count;
    mp_heap_current()->fail_in = 1;
    assert_int_equal(mp_guard_run(NULL, put_one_more, &m, NULL), MEMPHIS_NOMEM);
    assert_int_equal(m.count, count);
    for (uint32_t i = 0; i < count; i++)
        assert_ptr_equal(mp_map_find(&m, key_of(&entries[i][0])), &entries[i][0]);
    mp_map_fini(&m);
}

static const struct CMUnitTest tests[] = {
    leak_checked(siphash128_gives_the_reference_vectors),
    leak_checked(siphash_is_siphash_1_3),
    leak_checked(an_empty_map_finds_nothing_and_owns_nothing),
    leak_checked(it_goes_on_behind_a_key),
    leak_checked(put_find_and_remove),
    leak_checked(the_empty_key_is_a_key_and_bytes_may_be_zero),
    leak_checked(a_replaced_value_takes_its_key_along),
    leak_checked(the_last_remove_gives_the_memory_back_and_keeps_the_seed),
    leak_checked(misuse_is_an_assertion),
    leak_checked(a_random_history_agrees_with_a_plain_array),
    leak_checked(the_current_item_may_be_removed_in_the_loop),
    leak_checked(a_map_that_changes_all_the_time_stays_small),
    leak_checked(a_put_without_memory_leaves_the_map_as_it_was),
};

int main(void)
{
    return run_tests("base/map", tests);
}
