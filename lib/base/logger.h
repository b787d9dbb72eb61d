/* base/logger.h -- where log lines go. The library never prints.
 *
 * A pure module receives its logger at init. One sentence, then key=value pairs; no
 * payloads, no secrets (design D12). A line that repeats (same format) more than ten
 * times a second is held back and counted. Thread: any.
 */
#ifndef MP_BASE_LOGGER_H
#define MP_BASE_LOGGER_H

#include <memphis/base.h>
#include <pthread.h>

struct mp_logger {
    int32_t level;             /* lines above it are dropped; 0: all are */
    memphis_log_fn sink;       /* NULL: none */
    void *ctx;
    pthread_mutex_t lock;      /* one line at a time */
    struct mp_logger_repeat {
        const char *format;    /* known by its address; NULL: not in use */
        const char *module;
        int32_t level;
        uint32_t count;        /* lines in that second */
        uint64_t second;
    } repeats[16];
};

void mp_logger_init(struct mp_logger *l, int32_t level, memphis_log_fn sink, void *ctx);
void mp_logger_fini(struct mp_logger *l); /* reports what is still held back */

/* `l` may be NULL; `format` and `module` are literals. The level comes before the
 * formatting: a dropped line costs a compare. Control characters become blanks, a line
 * ends after 1,000 bytes. */
void mp_logf(struct mp_logger *l, int32_t level, const char *module, const char *format,
             ...) __attribute__((format(printf, 4, 5)));

#endif
