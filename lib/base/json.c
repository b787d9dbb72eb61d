/* A text goes through two readers. The scanner below checks grammar, depth, UTF-8 and
 * limits, all of it; only then cJSON builds the tree, which it would do for texts that
 * are no JSON as well. A walk over both then gives each number its exact value and each
 * array an index, in fields that cJSON fills for doubles only:
 *
 *                valueint              valuedouble
 *      number    enum number_kind      the int64_t itself
 *      array     how many elements     pointer to the first of their pointers
 */
#include "base/json.h"

#include "base/assert.h"
#include "base/limits.h"
#include "base/mem.h"
#include "base/status.h"
#include "base/str.h"

#include <assert.h>

#include <cjson/cJSON.h>

enum number_kind { NUMBER_FRACTION, NUMBER_WHOLE, NUMBER_TOO_LARGE };

enum { NUMBER_SIZE_MAX = 63 }; /* cJSON looks no further */

struct mp_json {
    cJSON *root;
    size_t elements_count;
    cJSON *elements[]; /* of all arrays, each array in one piece */
};

static_assert(sizeof(cJSON **) <= sizeof(double),
              "the index of an array is kept there");
static_assert(sizeof(int64_t) <= sizeof(double), "whole numbers are kept there");

/* -- scanner: RFC 8259 ------------------------------------------------------------- */

struct scanner {
    const uint8_t *at, *end;
    size_t values;
    const char *problem;
};

static bool scan_value(struct scanner *s, uint32_t depth);

static bool refuse(struct scanner *s, const char *problem)
{
    s->problem = problem;
    return false;
}

static bool is_at(const struct scanner *s, char c)
{
    return s->at < s->end && *s->at == (uint8_t)c;
}

static bool accept(struct scanner *s, char c)
{
    bool here = is_at(s, c);

    s->at += here;
    return here;
}

static bool is_digit(uint8_t c)
{
    return c >= '0' && c <= '9';
}

static size_t skip_digits(struct scanner *s)
{
    const uint8_t *start = s->at;

    while (s->at < s->end && is_digit(*s->at))
        s->at++;
    return (size_t)(s->at - start);
}

static void skip_blanks(struct scanner *s)
{
    while (is_at(s, ' ') || is_at(s, '\n') || is_at(s, '\t') || is_at(s, '\r'))
        s->at++;
}

/* The number after "\u"; UINT32_MAX: no four hexadecimal digits. */
static uint32_t scan_hex(struct scanner *s)
{
    uint32_t v = 0;

    if (s->end - s->at < 4)
        return UINT32_MAX;
    for (size_t i = 0; i < 4; i++) {
        uint32_t c = *s->at++;
        uint32_t lower = c | 0x20;
        if (is_digit((uint8_t)c))
            v = v << 4 | (c - '0');
        else if (lower >= 'a' && lower <= 'f')
            v = v << 4 | (lower - 'a' + 10);
        else
            return UINT32_MAX;
    }
    return v;
}

static bool scan_escape(struct scanner *s)
{
    if (s->at == s->end)
        return refuse(s, "a string without an end");
    uint8_t c = *s->at++;
    if (c != 'u')
        return c != 0 && strchr("\"\\/bfnrt", c) != NULL
                   ? true
                   : refuse(s, "an unknown escape in a string");
    uint32_t v = scan_hex(s);
    if (v == UINT32_MAX)
        return refuse(s, "\\u without four hexadecimal digits");
    if (v == 0) /* texts are handed out with a zero at their end */
        return refuse(s, "a zero character in a string");
    if (v < 0xd800 || v > 0xdfff)
        return true;
    if (v < 0xdc00 && accept(s, '\\') && accept(s, 'u')) {
        v = scan_hex(s);
        if (v >= 0xdc00 && v <= 0xdfff)
            return true;
    }
    return refuse(s, "half a surrogate pair in a string");
}

static bool scan_string(struct scanner *s)
{
    if (!accept(s, '"'))
        return refuse(s, "a string was expected");
    while (s->at < s->end) {
        uint8_t c = *s->at++;
        if (c == '"')
            return true;
        if (c < 0x20)
            return refuse(s, "a control character in a string");
        if (c == '\\' && !scan_escape(s))
            return false;
    }
    return refuse(s, "a string without an end");
}

static bool scan_number(struct scanner *s)
{
    const uint8_t *start = s->at;

    (void)accept(s, '-');
    bool is_zero_first = is_at(s, '0');
    size_t digits = skip_digits(s);
    if (digits == 0 || (is_zero_first && digits > 1))
        return refuse(s, "a value was expected");
    if (accept(s, '.') && skip_digits(s) == 0)
        return refuse(s, "digits were expected");
    if (accept(s, 'e') || accept(s, 'E')) {
        (void)(accept(s, '+') || accept(s, '-'));
        if (skip_digits(s) == 0)
            return refuse(s, "digits were expected");
    }
    if (s->at - start > NUMBER_SIZE_MAX)
        return refuse(s, "a number of more than 63 characters");
    return true;
}

static bool scan_word(struct scanner *s, memphis_slice word)
{
    if (!mp_slice_starts(mp_slice(s->at, (size_t)(s->end - s->at)), word))
        return refuse(s, "a value was expected");
    s->at += word.size;
    return true;
}

/* What stands between the brackets, and the closing one. */
static bool scan_members(struct scanner *s, uint32_t depth, bool is_object)
{
    char close = is_object ? '}' : ']';

    s->at++;
    skip_blanks(s);
    if (accept(s, close))
        return true;
    do {
        skip_blanks(s);
        if (is_object) {
            if (!scan_string(s))
                return false;
            skip_blanks(s);
            if (!accept(s, ':'))
                return refuse(s, "':' was expected");
        }
        if (!scan_value(s, depth + 1))
            return false;
        skip_blanks(s);
    } while (accept(s, ','));
    return accept(s, close) ? true : refuse(s, "',' or a closing bracket was expected");
}

/* Calls itself through scan_members, at most MP_JSON_DEPTH_MAX deep. */
static bool scan_value(struct scanner *s, uint32_t depth)
{
    skip_blanks(s);
    if (++s->values > MP_JSON_VALUES_MAX)
        return refuse(s, "too many values");
    if (is_at(s, '{') || is_at(s, '[')) {
        if (depth == MP_JSON_DEPTH_MAX)
            return refuse(s, "nested too deep");
        return scan_members(s, depth, is_at(s, '{'));
    }
    if (is_at(s, '"'))
        return scan_string(s);
    if (is_at(s, 't'))
        return scan_word(s, MP_STR("true"));
    if (is_at(s, 'f'))
        return scan_word(s, MP_STR("false"));
    if (is_at(s, 'n'))
        return scan_word(s, MP_STR("null"));
    return scan_number(s);
}

/* OK and the number of values, or INVALID. */
static memphis_status scan(memphis_slice text, size_t *values, memphis_error *err)
{
    struct scanner s = { .at = text.data };

    if (text.size == 0)
        return mp_fail(err, MEMPHIS_INVALID, "not valid JSON: the text is empty");
    if (text.size > MP_PAYLOAD_MAX_CEILING)
        return mp_fail(err, MEMPHIS_INVALID, "the JSON text is larger than %d bytes",
                       MP_PAYLOAD_MAX_CEILING);
    if (!mp_utf8_is_valid(text))
        return mp_fail(err, MEMPHIS_INVALID, "not valid JSON: the text is no UTF-8");
    s.end = s.at + text.size;
    if (scan_value(&s, 0)) {
        skip_blanks(&s);
        if (s.at < s.end)
            (void)refuse(&s, "something follows the value");
    }
    if (s.problem != NULL)
        return mp_fail(err, MEMPHIS_INVALID, "not valid JSON: %s, at byte %zu",
                       s.problem, (size_t)(s.at - (const uint8_t *)text.data));
    *values = s.values;
    return MEMPHIS_OK;
}

/* -- exact numbers and the index of arrays ----------------------------------------- */

/* The next number of a scanned text. Outside of strings nothing else begins like it. */
static memphis_slice next_number(struct scanner *s)
{
    while (s->at < s->end && !is_digit(*s->at) && *s->at != '-')
        if (*s->at == '"')
            (void)scan_string(s);
        else
            s->at++;
    const uint8_t *start = s->at;
    bool is_number = scan_number(s);
    mp_assert(is_number);
    return mp_slice(start, (size_t)(s->at - start));
}

/* Of digits d with the point before digit `n + scale`, "d * 10^scale". */
static enum number_kind whole_number(const uint8_t *digits, size_t n, int64_t scale,
                                     bool is_negative, int64_t *out)
{
    uint64_t v = 0;

    for (; n > 0 && digits[n - 1] == 0; n--)
        scale++;
    for (; n > 0 && digits[0] == 0; n--)
        digits++;
    if (n == 0) {
        *out = 0;
        return NUMBER_WHOLE;
    }
    if (scale < 0)
        return NUMBER_FRACTION;
    if ((int64_t)n + scale > 19)
        return NUMBER_TOO_LARGE; /* 10^19 is beyond; 19 digits always fit in v */
    for (size_t i = 0; i < n + (size_t)scale; i++)
        v = v * 10 + (i < n ? digits[i] : 0);
    if (v > (uint64_t)INT64_MAX + is_negative)
        return NUMBER_TOO_LARGE;
    *out = is_negative ? (int64_t)(0 - v) : (int64_t)v;
    return NUMBER_WHOLE;
}

/* Exact, where a double would round above 2^53. `text` is a scanned number. */
static enum number_kind number_of(memphis_slice text, int64_t *out)
{
    const uint8_t *p = text.data, *end = p + text.size;
    uint8_t digits[NUMBER_SIZE_MAX];
    bool is_negative = *p == '-';
    int64_t exponent = 0, fraction = 0;
    size_t n = 0;

    p += is_negative;
    for (; p < end && is_digit(*p); p++)
        digits[n++] = (uint8_t)(*p - '0');
    if (p < end && *p == '.')
        for (p++; p < end && is_digit(*p); p++, fraction++)
            digits[n++] = (uint8_t)(*p - '0');
    if (p < end) {
        bool is_small = *++p == '-';
        p += *p == '-' || *p == '+';
        for (; p < end; p++)
            if (exponent < 1000000) /* no text has as many digits */
                exponent = exponent * 10 + (*p - '0');
        exponent = is_small ? -exponent : exponent;
    }
    return whole_number(digits, n, exponent - fraction, is_negative, out);
}

static void index_array(struct mp_json *doc, cJSON *array)
{
    cJSON **first = doc->elements + doc->elements_count;
    int count = 0;

    for (cJSON *child = array->child; child != NULL; child = child->next)
        first[count++] = child;
    doc->elements_count += (size_t)count;
    array->valueint = count;
    memcpy(&array->valuedouble, &first, sizeof first);
}

/* Visits the tree in the order of the text; `s` finds the numbers there. Calls itself
 * at most MP_JSON_DEPTH_MAX deep. */
static void annotate(struct mp_json *doc, cJSON *v, struct scanner *s)
{
    if (cJSON_IsNumber(v)) {
        int64_t whole = 0;
        v->valueint = (int)number_of(next_number(s), &whole);
        memcpy(&v->valuedouble, &whole, sizeof whole);
    }
    if (cJSON_IsArray(v))
        index_array(doc, v);
    for (cJSON *child = v->child; child != NULL; child = child->next)
        annotate(doc, child, s);
}

/* -- reader ------------------------------------------------------------------------ */

static const cJSON *node_of(const struct mp_json_value *v)
{
    return (const cJSON *)(const void *)v;
}

static const struct mp_json_value *value_of(const cJSON *node)
{
    return (const struct mp_json_value *)(const void *)node;
}

/* The value a getter reads: NULL when it is missing or null. */
static const cJSON *wanted(const struct mp_json_value *v, const char *key)
{
    if (key != NULL)
        return node_of(mp_json_get(v, key));
    return mp_json_is_null(v) ? NULL : node_of(v);
}

static memphis_status wrong_type(const char *key, const char *type, memphis_error *err)
{
    return mp_fail(err, MEMPHIS_INVALID, "%s must be %s", key != NULL ? key : "value",
                   type);
}

memphis_status mp_json_parse(memphis_slice text, struct mp_json **out,
                             memphis_error *err)
{
    size_t values = 0;
    memphis_status status = scan(text, &values, err);

    *out = NULL;
    if (status != MEMPHIS_OK)
        return status;
    struct mp_json *doc = mp_alloc_try(sizeof *doc + values * sizeof doc->elements[0]);
    if (doc == NULL)
        return mp_fail(err, MEMPHIS_NOMEM, "out of memory for a JSON text");
    doc->elements_count = 0;
    doc->root = cJSON_ParseWithLength(text.data, text.size);
    if (doc->root == NULL) { /* the scanner has found nothing wrong with the text */
        mp_free(doc);
        return mp_fail(err, MEMPHIS_NOMEM, "out of memory for a JSON text");
    }
    struct scanner s = { .at = text.data,
                         .end = (const uint8_t *)text.data + text.size };
    annotate(doc, doc->root, &s);
    *out = doc;
    return MEMPHIS_OK;
}

void mp_json_free(struct mp_json *doc)
{
    if (doc == NULL)
        return;
    cJSON_Delete(doc->root);
    mp_free(doc);
}

const struct mp_json_value *mp_json_root(const struct mp_json *doc)
{
    return value_of(doc->root);
}

bool mp_json_is_object(const struct mp_json_value *v)
{
    return cJSON_IsObject(node_of(v));
}

bool mp_json_is_null(const struct mp_json_value *v)
{
    return v == NULL || cJSON_IsNull(node_of(v));
}

const struct mp_json_value *mp_json_get(const struct mp_json_value *v, const char *key)
{
    const cJSON *found = NULL;

    if (!mp_json_is_object(v))
        return NULL;
    for (const cJSON *c = node_of(v)->child; c != NULL; c = c->next) {
        if (strcmp(c->string, key) == 0) {
            found = c;
            break;
        }
        if (found == NULL &&
            mp_slice_equal_fold(mp_slice_text(c->string), mp_slice_text(key)))
            found = c;
    }
    return found == NULL || cJSON_IsNull(found) ? NULL : value_of(found);
}

/* Which of `known` it is, as a bit; 0: none. */
static uint32_t known_key(const char *key, const char *known)
{
    memphis_slice rest = mp_slice_text(known);

    for (uint32_t bit = 1; rest.size > 0; bit <<= 1) {
        mp_assert(bit != 0);
        if (mp_slice_equal_fold(mp_slice_split(&rest, ' '), mp_slice_text(key)))
            return bit;
    }
    return 0;
}

memphis_status mp_json_check_keys(const struct mp_json_value *object, const char *known,
                                  memphis_error *err)
{
    uint32_t seen = 0;

    for (const cJSON *c = node_of(object)->child; c != NULL; c = c->next) {
        uint32_t bit = known_key(c->string, known);
        if (bit == 0)
            return mp_fail(err, MEMPHIS_INVALID, "there is no key '%.40s', but: %s",
                           c->string, known[0] != 0 ? known : "none");
        if ((seen & bit) != 0)
            return mp_fail(err, MEMPHIS_INVALID, "the key '%.40s' is there twice",
                           c->string);
        seen |= bit;
    }
    return MEMPHIS_OK;
}

void mp_json_each_text(const struct mp_json_value *v,
                       void (*fn)(void *ctx, const char *key, const char *text),
                       void *ctx)
{
    if (!mp_json_is_object(v))
        return;
    for (const cJSON *c = node_of(v)->child; c != NULL; c = c->next)
        if (cJSON_IsString(c))
            fn(ctx, c->string, c->valuestring);
}

bool mp_json_is_array(const struct mp_json_value *v)
{
    return cJSON_IsArray(node_of(v));
}

size_t mp_json_count(const struct mp_json_value *array)
{
    return cJSON_IsArray(node_of(array)) ? (size_t)node_of(array)->valueint : 0;
}

const struct mp_json_value *mp_json_at(const struct mp_json_value *array, size_t i)
{
    cJSON *const *elements;

    if (i >= mp_json_count(array))
        return NULL;
    memcpy(&elements, &node_of(array)->valuedouble, sizeof elements);
    return value_of(elements[i]);
}

memphis_status mp_json_get_text(const struct mp_json_value *v, const char *key,
                                const char **out, memphis_error *err)
{
    const cJSON *node = wanted(v, key);

    if (node == NULL)
        return MEMPHIS_OK;
    if (!cJSON_IsString(node))
        return wrong_type(key, "a string", err);
    *out = node->valuestring;
    return MEMPHIS_OK;
}

memphis_status mp_json_get_int(const struct mp_json_value *v, const char *key,
                               int64_t *out, memphis_error *err)
{
    const cJSON *node = wanted(v, key);

    if (node == NULL)
        return MEMPHIS_OK;
    if (!cJSON_IsNumber(node) || node->valueint == NUMBER_FRACTION)
        return wrong_type(key, "a whole number", err);
    if (node->valueint == NUMBER_TOO_LARGE)
        return wrong_type(key, "a whole number of at most 64 bits", err);
    memcpy(out, &node->valuedouble, sizeof *out);
    return MEMPHIS_OK;
}

memphis_status mp_json_get_bool(const struct mp_json_value *v, const char *key,
                                bool *out, memphis_error *err)
{
    const cJSON *node = wanted(v, key);

    if (node == NULL)
        return MEMPHIS_OK;
    if (!cJSON_IsBool(node))
        return wrong_type(key, "true or false", err);
    *out = cJSON_IsTrue(node);
    return MEMPHIS_OK;
}

/* -- writer ------------------------------------------------------------------------ */

static bool is_plain(uint8_t c)
{
    return c >= 0x20 && c < 0x80 && c != '"' && c != '\\';
}

static void put_escaped(struct mp_buf *b, uint8_t c)
{
    static const char short_forms[] = "\"\"\\\\\bb\ff\nn\rr\tt"; /* character, letter */

    for (const char *p = short_forms; *p != 0; p += 2) {
        if ((uint8_t)*p == c) {
            mp_buf_put_u8(b, '\\');
            mp_buf_put_u8(b, (uint8_t)p[1]);
            return;
        }
    }
    mp_buf_format(b, "\\u%04x", c);
}

static void put_string(struct mp_buf *b, memphis_slice text)
{
    const uint8_t *p = text.data, *end = text.size > 0 ? p + text.size : p;

    mp_buf_put_u8(b, '"');
    while (p < end) {
        const uint8_t *start = p;
        size_t size = 1;
        while (p < end && is_plain(*p))
            p++;
        mp_buf_put(b, start, (size_t)(p - start));
        if (p == end)
            break;
        if (*p < 0x80) {
            put_escaped(b, *p);
        } else {
            size = mp_utf8_first(mp_slice(p, (size_t)(end - p)));
            if (size > 0)
                mp_buf_put(b, p, size);
            else
                mp_buf_put_text(b, "\xef\xbf\xbd"); /* U+FFFD */
        }
        p += size > 0 ? size : 1;
    }
    mp_buf_put_u8(b, '"');
}

/* The comma and the key that come before a value. */
static void begin(struct mp_json_writer *w, const char *key)
{
    if (w->comma)
        mp_buf_put_u8(w->out, ',');
    w->comma = true;
    if (key != NULL) {
        put_string(w->out, mp_slice_text(key));
        mp_buf_put_u8(w->out, ':');
    }
}

static void open_bracket(struct mp_json_writer *w, const char *key, uint8_t bracket)
{
    begin(w, key);
    mp_buf_put_u8(w->out, bracket);
    w->comma = false;
}

static void close_bracket(struct mp_json_writer *w, uint8_t bracket)
{
    mp_buf_put_u8(w->out, bracket);
    w->comma = true;
}

void mp_json_object(struct mp_json_writer *w, const char *key)
{
    open_bracket(w, key, '{');
}

void mp_json_object_end(struct mp_json_writer *w)
{
    close_bracket(w, '}');
}

void mp_json_array(struct mp_json_writer *w, const char *key)
{
    open_bracket(w, key, '[');
}

void mp_json_array_end(struct mp_json_writer *w)
{
    close_bracket(w, ']');
}

void mp_json_put_text(struct mp_json_writer *w, const char *key, memphis_slice text)
{
    begin(w, key);
    put_string(w->out, text);
}

void mp_json_put_str(struct mp_json_writer *w, const char *key, const char *text)
{
    mp_json_put_text(w, key, mp_slice_text(text));
}

void mp_json_put_int(struct mp_json_writer *w, const char *key, int64_t v)
{
    begin(w, key);
    if (v < 0)
        mp_buf_put_u8(w->out, '-');
    mp_buf_put_decimal(w->out, v < 0 ? 0 - (uint64_t)v : (uint64_t)v);
}

void mp_json_put_uint(struct mp_json_writer *w, const char *key, uint64_t v)
{
    begin(w, key);
    mp_buf_put_decimal(w->out, v);
}

void mp_json_put_bool(struct mp_json_writer *w, const char *key, bool v)
{
    begin(w, key);
    mp_buf_put_text(w->out, v ? "true" : "false");
}

void mp_json_put_null(struct mp_json_writer *w, const char *key)
{
    begin(w, key);
    mp_buf_put_text(w->out, "null");
}
