/* base/json.h -- JSON reader with typed getters, JSON writer onto a buffer.
 *
 * The reader wraps cJSON (the only file that includes it): UTF-8, depth and size are
 * bounded, object keys match case-insensitively (sdk-protocol 2.0: Python sends
 * "Schemaverse", .NET "SchemaVerse"), 64-bit integers are exact: they are read again
 * from the text. A missing key and null give the zero value; a value of a wrong type
 * makes the getter fail. The writer needs no tree. Thread: any (pure).
 */
#ifndef MP_BASE_JSON_H
#define MP_BASE_JSON_H

#include "base/buf.h"

#include <memphis/status.h>

struct mp_json;       /* a document; owns everything read from it */
struct mp_json_value; /* borrowed from its document */

/* INVALID with a sentence when `text` is not one JSON value (RFC 8259), is beyond a
 * limit or has a zero character in a string; NOMEM. NULL-safe free. */
memphis_status mp_json_parse(memphis_slice text, struct mp_json **out,
                             memphis_error *err);
void mp_json_free(struct mp_json *doc);

const struct mp_json_value *mp_json_root(const struct mp_json *doc);
bool mp_json_is_object(const struct mp_json_value *v);
bool mp_json_is_array(const struct mp_json_value *v);
bool mp_json_is_null(const struct mp_json_value *v); /* or missing */
/* NULL: no such key, or null, or v is no object. A key that is written exactly so goes
 * before one that differs in case, the first before a second. */
const struct mp_json_value *mp_json_get(const struct mp_json_value *v, const char *key);
/* Each key is one of `known` (apart by blanks), and none comes twice; else INVALID with
 * a sentence. At most 32 are known. */
memphis_status mp_json_check_keys(const struct mp_json_value *object, const char *known,
                                  memphis_error *err);
/* Members of an object whose value is a text; nothing for anything else. */
void mp_json_each_text(const struct mp_json_value *v,
                       void (*fn)(void *ctx, const char *key, const char *text),
                       void *ctx);
size_t mp_json_count(const struct mp_json_value *array);
const struct mp_json_value *mp_json_at(const struct mp_json_value *array, size_t i);

/* Getters by key: INVALID ("<key> must be a string") on a wrong type; missing or null
 * leaves *out as it was and is OK, so set the default before. `key` NULL reads v
 * itself, an element of an array for example. 1.0 and 1e3 are whole numbers; one that
 * does not fit is INVALID. */
memphis_status mp_json_get_text(const struct mp_json_value *v, const char *key,
                                const char **out, memphis_error *err); /* borrowed */
memphis_status mp_json_get_int(const struct mp_json_value *v, const char *key,
                               int64_t *out, memphis_error *err); /* whole */
memphis_status mp_json_get_bool(const struct mp_json_value *v, const char *key,
                                bool *out, memphis_error *err);

/* Writer: commas are set by itself. Keys and texts are escaped; bytes that are no UTF-8
 * become U+FFFD. `key` NULL inside arrays and at the top. */
struct mp_json_writer {
    struct mp_buf *out;
    bool comma;
};
void mp_json_object(struct mp_json_writer *w, const char *key);
void mp_json_object_end(struct mp_json_writer *w);
void mp_json_array(struct mp_json_writer *w, const char *key);
void mp_json_array_end(struct mp_json_writer *w);
void mp_json_put_text(struct mp_json_writer *w, const char *key, memphis_slice text);
void mp_json_put_str(struct mp_json_writer *w, const char *key, const char *text);
void mp_json_put_int(struct mp_json_writer *w, const char *key, int64_t v);
void mp_json_put_uint(struct mp_json_writer *w, const char *key, uint64_t v);
void mp_json_put_bool(struct mp_json_writer *w, const char *key, bool v);
void mp_json_put_null(struct mp_json_writer *w, const char *key);

#endif
