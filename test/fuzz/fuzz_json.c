/* Fuzz target: base/json.c. The first byte chooses the key that is asked for.
 *
 * A text that is accepted can be walked and asked for every type; what the getters say
 * is written by the writer, read again and is the same. */
#include "fuzz/fuzz.h"

#include "base/json.h"
#include "base/mem.h"

enum { DEPTH_MAX = 40, ITEMS_MAX = 50 };

static const char *const keys[] = { "name", "partitions_number", "a", "", "Schema" };

/* Reads back what was written for one value. */
static void again(const char *text, const int64_t *number, const bool *flag)
{
    struct mp_buf b = { 0 };
    struct mp_json_writer w = { .out = &b };
    struct mp_json *doc;
    memphis_error err;
    const char *t = NULL;
    int64_t n = 0;
    bool f = false;

    mp_json_object(&w, NULL);
    if (text != NULL)
        mp_json_put_str(&w, "t", text);
    if (number != NULL)
        mp_json_put_int(&w, "n", *number);
    if (flag != NULL)
        mp_json_put_bool(&w, "f", *flag);
    mp_json_object_end(&w);
    check(mp_json_parse(mp_buf_slice(&b), &doc, &err) == MEMPHIS_OK,
          "what was written is no JSON");
    const struct mp_json_value *v = mp_json_root(doc);
    check(mp_json_get_text(v, "t", &t, &err) == MEMPHIS_OK &&
              mp_json_get_int(v, "n", &n, &err) == MEMPHIS_OK &&
              mp_json_get_bool(v, "f", &f, &err) == MEMPHIS_OK,
          "what was written has another type");
    check((text == NULL) == (t == NULL) && (text == NULL || strcmp(text, t) == 0),
          "a text changes on its way");
    check(number == NULL || n == *number, "a number changes on its way");
    check(flag == NULL || f == *flag, "a truth changes on its way");
    mp_json_free(doc);
    mp_buf_fini(&b);
}

static void ask(const struct mp_json_value *v, const char *key)
{
    memphis_error err;
    const char *text = NULL;
    int64_t number = 0;
    bool flag = false;

    if (mp_json_get_text(v, key, &text, &err) == MEMPHIS_OK && text != NULL)
        again(text, NULL, NULL);
    if (mp_json_get_int(v, key, &number, &err) == MEMPHIS_OK)
        again(NULL, &number, NULL);
    if (mp_json_get_bool(v, key, &flag, &err) == MEMPHIS_OK)
        again(NULL, NULL, &flag);
}

static void walk(const struct mp_json_value *v, const char *key, int depth)
{
    size_t n = mp_json_count(v);

    ask(v, NULL);
    if (mp_json_is_object(v)) {
        ask(v, key);
        const struct mp_json_value *inner = mp_json_get(v, key);
        if (inner != NULL && depth < DEPTH_MAX)
            walk(inner, key, depth + 1);
    }
    for (size_t i = 0; i < n && i < ITEMS_MAX && depth < DEPTH_MAX; i++)
        if (mp_json_at(v, i) != NULL)
            walk(mp_json_at(v, i), key, depth + 10);
    check(mp_json_at(v, n) == NULL, "an element behind the last");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *key = keys[(size > 0 ? data[0] : 0) % (sizeof keys / sizeof keys[0])];
    memphis_slice rest = mp_slice(data + (size > 0), size > 0 ? size - 1 : 0);
    uint8_t *copy = exact_copy(rest);
    struct mp_json *doc = NULL;
    memphis_error err;

    if (mp_json_parse(mp_slice(copy, rest.size), &doc, &err) == MEMPHIS_OK) {
        memset(copy, 'x', rest.size); /* the document owns what it says */
        walk(mp_json_root(doc), key, 0);
    }
    mp_json_free(doc);
    free(copy);
    check(mp_heap_current()->live_blocks == 0, "memory is left");
    return 0;
}

static const char *const seeds[] = {
    "0{\"name\":\"orders\",\"partitions_number\":3,\"flag\":true,\"Schema\":null}",
    "1{\"partitions_number\":9223372036854775807,\"PARTITIONS_NUMBER\":-1e3}",
    "2{\"a\":[1,2.0,\"\\u00e9\\ud83d\\ude00\\n\",{\"a\":[[]]},false]}",
    "3{\"\":\"empty\",\"x\":\"\xc3\xa9\"} ",
    "0[1.5e2,0.1,-0,12345678901234567890]",
};

size_t fuzz_seed(size_t i, uint8_t out[FUZZ_SEED_MAX])
{
    if (i >= sizeof seeds / sizeof seeds[0])
        return 0;
    memcpy(out, seeds[i], strlen(seeds[i]));
    return strlen(seeds[i]);
}
