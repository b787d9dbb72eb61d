#include "store/log.h"

#include "base/assert.h"

memphis_status mp_log_append(struct mp_log *log, const struct mp_entry *entries,
                             size_t n, uint64_t tag)
{
    mp_assert(n > 0);
    return log->ops->append(log, entries, n, tag);
}

bool mp_log_is_full(const struct mp_log *log)
{
    return log->ops->is_full(log);
}

void mp_log_close_entry(struct mp_log *log)
{
    log->ops->close_entry(log);
}

bool mp_log_has_open_entry(const struct mp_log *log)
{
    return log->ops->has_open_entry(log);
}

memphis_status mp_log_read(struct mp_log *log, uint32_t pid, uint64_t seq,
                           struct mp_stored *out)
{
    out->chunk = NULL;
    return log->ops->read(log, pid, seq, out);
}

void mp_stored_release(struct mp_stored *s)
{
    mp_chunk_unref(s->chunk);
    s->chunk = NULL;
}

bool mp_log_has(const struct mp_log *log, uint32_t pid, uint64_t seq)
{
    return log->ops->has(log, pid, seq);
}

uint64_t mp_log_first(const struct mp_log *log, uint32_t pid)
{
    return log->ops->first(log, pid);
}

uint64_t mp_log_last(const struct mp_log *log, uint32_t pid)
{
    return log->ops->last(log, pid);
}

void mp_log_stats(const struct mp_log *log, uint32_t pid, struct mp_log_stats *out)
{
    log->ops->stats(log, pid, out);
}
