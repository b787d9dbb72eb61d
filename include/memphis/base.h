/* memphis/base.h -- version, byte slices, allocator and log hooks.
 *
 * Everything here may be used from any thread and without a broker.
 */
#ifndef MEMPHIS_BASE_H
#define MEMPHIS_BASE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define MEMPHIS_API __attribute__((visibility("default")))
#else
#define MEMPHIS_API
#endif

/* Version of these headers: major * 1,000,000 + minor * 1,000 + patch. */
#define MEMPHIS_VERSION_NUMBER 1000

/* Version of the library that runs; compare with MEMPHIS_VERSION_NUMBER. */
MEMPHIS_API uint32_t memphis_version_number(void);

/* "0.1.0 (gcc 12.2.0)". Static storage. */
MEMPHIS_API const char *memphis_version_text(void);

/* Whether this build holds an optional part, for example "cluster" or "zstd".
 * Unknown names are false. */
MEMPHIS_API bool memphis_has(const char *feature);

/* Bytes that belong to somebody else; valid as long as the text beside the
 * parameter or the function says. `data` may be NULL when `size` is 0. */
typedef struct memphis_slice {
    const void *data;
    size_t size;
} memphis_slice;

/* Memory hooks of an embedder. They are called from every thread of the broker and
 * must return blocks aligned to 16 bytes. */
typedef struct memphis_allocator {
    void *(*alloc)(void *ctx, size_t size);
    void *(*realloc)(void *ctx, void *p, size_t size);
    void (*free)(void *ctx, void *p);
    void *ctx;
    uint64_t reserved[2]; /* zero */
} memphis_allocator;

enum {
    MEMPHIS_LOG_ERROR = 1, /* the operator must act */
    MEMPHIS_LOG_WARN = 2,  /* the operator should know */
    MEMPHIS_LOG_INFO = 3,  /* life cycle */
    MEMPHIS_LOG_DEBUG = 4,
    MEMPHIS_LOG_TRACE = 5
};

/* Receives one log line without a newline. Called from any thread of the broker, one
 * call at a time; must not call into the library. */
typedef void (*memphis_log_fn)(void *ctx, int32_t level, const char *module,
                               const char *line);

#ifdef __cplusplus
}
#endif
#endif
