#include "base/logger.h"

#include "base/assert.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

enum { LINE_SIZE = 1001, LINES_PER_SECOND = 10 };

/* The clock only tells one second from another: a step of it costs one window. */
static uint64_t present_second(void)
{
    struct timespec t;

    return timespec_get(&t, TIME_UTC) == TIME_UTC ? (uint64_t)t.tv_sec : 0;
}

/* A line must stay one line, whatever name a client has chosen. */
static void blank_controls(char *line)
{
    for (; *line != 0; line++)
        if ((uint8_t)*line < 0x20 || *line == 0x7f)
            *line = ' ';
}

static void write_line(struct mp_logger *l, int32_t level, const char *module,
                       char *line)
{
    blank_controls(line);
    l->sink(l->ctx, level, module, line);
}

/* Says how many lines of a finished second were held back, and frees the entry. */
static void report(struct mp_logger *l, struct mp_logger_repeat *r)
{
    if (r->count > LINES_PER_SECOND) {
        char line[LINE_SIZE];
        (void)snprintf(line, sizeof line,
                       "Lines like \"%.200s\" were held back, count=%u", r->format,
                       r->count - LINES_PER_SECOND);
        write_line(l, r->level, r->module, line);
    }
    *r = (struct mp_logger_repeat){ 0 };
}

/* Reports seconds that are over. Returns the entry of `format`: its own, else a free
 * one, else that with the fewest lines. */
static struct mp_logger_repeat *entry_of(struct mp_logger *l, const char *format,
                                         uint64_t second)
{
    struct mp_logger_repeat *best = NULL;

    for (size_t i = 0; i < sizeof l->repeats / sizeof l->repeats[0]; i++) {
        struct mp_logger_repeat *r = &l->repeats[i];
        if (r->format != NULL && r->second != second)
            report(l, r);
        if (r->format == format)
            return r;
        if (best == NULL || r->count < best->count)
            best = r;
    }
    report(l, best);
    return best;
}

static bool is_held_back(struct mp_logger *l, int32_t level, const char *module,
                         const char *format)
{
    uint64_t second = present_second();
    struct mp_logger_repeat *r = entry_of(l, format, second);

    r->format = format;
    r->module = module;
    r->level = level;
    r->second = second;
    return ++r->count > LINES_PER_SECOND;
}

void mp_logger_init(struct mp_logger *l, int32_t level, memphis_log_fn sink, void *ctx)
{
    memset(l, 0, sizeof *l);
    l->level = level;
    l->sink = sink;
    l->ctx = ctx;
    mp_assert(pthread_mutex_init(&l->lock, NULL) == 0);
}

void mp_logger_fini(struct mp_logger *l)
{
    for (size_t i = 0; i < sizeof l->repeats / sizeof l->repeats[0]; i++)
        report(l, &l->repeats[i]);
    mp_assert(pthread_mutex_destroy(&l->lock) == 0);
}

void mp_logf(struct mp_logger *l, int32_t level, const char *module, const char *format,
             ...)
{
    va_list args;
    char line[LINE_SIZE];

    if (l == NULL || level > l->level || l->sink == NULL)
        return;
    va_start(args, format);
    pthread_mutex_lock(&l->lock);
    if (!is_held_back(l, level, module, format)) {
        if (vsnprintf(line, sizeof line, format, args) < 0)
            line[0] = 0;
        write_line(l, level, module, line);
    }
    pthread_mutex_unlock(&l->lock);
    va_end(args);
}
