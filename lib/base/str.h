/* base/str.h -- slices of text: compare, parse numbers, name rules.
 *
 * Independent of the locale: ASCII only, never tolower() or strtod(). Thread: any
 * (pure).
 */
#ifndef MP_BASE_STR_H
#define MP_BASE_STR_H

#include <memphis/status.h>
#include <string.h>

#define MP_STR(literal) ((memphis_slice){ (literal), sizeof(literal) - 1 })

static inline memphis_slice mp_slice(const void *data, size_t size)
{
    return (memphis_slice){ data, size };
}
static inline memphis_slice mp_slice_text(const char *s)
{
    return (memphis_slice){ s, s ? strlen(s) : 0 };
}
static inline bool mp_slice_equal(memphis_slice a, memphis_slice b)
{
    return a.size == b.size && (a.size == 0 || memcmp(a.data, b.data, a.size) == 0);
}

bool mp_slice_equal_fold(memphis_slice a, memphis_slice b); /* ASCII case ignored */
bool mp_slice_starts(memphis_slice s, memphis_slice prefix);
bool mp_slice_contains(memphis_slice s, memphis_slice part);
int mp_slice_compare(memphis_slice a, memphis_slice b);     /* bytes, then length */

/* Decimal digits only, whole slice; false: empty, other bytes or overflow. */
bool mp_parse_u64(memphis_slice s, uint64_t *out);

/* Splits at the first `sep`: returns the part before, `rest` becomes what follows. */
memphis_slice mp_slice_split(memphis_slice *rest, char sep);

bool mp_utf8_is_valid(memphis_slice s);
/* Bytes of the first character; 0: no whole character starts there. */
size_t mp_utf8_first(memphis_slice s);

void mp_fold_lower(char *s, size_t size);  /* ASCII, in place */

/* Names of the product (sdk-protocol 0.1). `object` is "Station", "Producer" ...
 * INVALID with exactly the text that SDKs and users know. `name` is checked as given:
 * fold it to lower case before. */
memphis_status mp_name_check(memphis_slice name, const char *object,
                             memphis_error *err);

/* "orders.eu" -> "orders#eu" in place, and back. */
void mp_name_internal(char *s, size_t size);
void mp_name_external(char *s, size_t size);

/* snprintf that asserts that the text fits; returns its length. */
size_t mp_format(char *out, size_t size, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

#endif
