/* The test's side of slow_sync.h. */
#include "wire/slow_sync.h"

#include <fcntl.h>
#include <stddef.h>
#include <sys/mman.h>
#include <unistd.h>

static struct sync_control *map(const char *path, int flags)
{
    int fd = open(path, O_RDWR | O_CLOEXEC | flags, 0644);
    void *p = MAP_FAILED;

    if (fd >= 0 && ftruncate(fd, sizeof(struct sync_control)) == 0)
        p = mmap(NULL, sizeof(struct sync_control), PROT_READ | PROT_WRITE, MAP_SHARED,
                 fd, 0);
    if (fd >= 0)
        close(fd);
    return p == MAP_FAILED ? NULL : p;
}

struct sync_control *sync_control_new(const char *path)
{
    return map(path, O_CREAT | O_TRUNC);
}

struct sync_control *sync_control_open(const char *path)
{
    return map(path, 0);
}

void sync_control_free(struct sync_control *c)
{
    if (c != NULL)
        munmap(c, sizeof(*c));
}

unsigned sync_between(const struct sync_control *c, uint64_t from, uint64_t to)
{
    uint64_t count = c->count;
    uint64_t oldest = count > SYNC_EVENTS ? count - SYNC_EVENTS : 0;
    unsigned found = 0;

    for (uint64_t i = count; i > oldest; i--) {
        const struct sync_event *e = &c->events[(i - 1) % SYNC_EVENTS];
        uint64_t end = e->end_ns;

        /* Two threads sync: their order here and their order in time differ by
           little. */
        if (e->start_ns != 0 && e->start_ns + 5000000000u < from)
            break;
        found +=
            e->is_wal && !e->failed && e->start_ns >= from && end != 0 && end <= to;
    }
    return found;
}

bool sync_covers(const struct sync_control *c, uint64_t from, uint64_t to)
{
    return sync_between(c, from, to) > 0;
}
