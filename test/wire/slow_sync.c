/* Preloaded into a daemon: see slow_sync.h. */
#include "wire/slow_sync.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#define SEEN __attribute__((visibility("default")))

SEEN int fsync(int fd);
SEEN int fdatasync(int fd);
SEEN int syncfs(int fd);
SEEN int sync_file_range(int fd, off64_t offset, off64_t size, unsigned flags);
SEEN ssize_t pwritev2(int fd, const struct iovec *v, int n, off_t offset, int flags);
SEEN ssize_t pwritev64v2(int fd, const struct iovec *v, int n, off64_t offset,
                         int flags);

static struct sync_control *control;
static pthread_once_t once = PTHREAD_ONCE_INIT;

static uint64_t now_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static uint64_t number_of(const char *name)
{
    const char *text = getenv(name);

    return text != NULL ? strtoull(text, NULL, 10) : 0;
}

static void start(void)
{
    const char *path = getenv("SYNC_CONTROL");
    int fd = path != NULL ? open(path, O_RDWR | O_CLOEXEC) : -1;
    int flags = fd >= 0 ? MAP_SHARED : MAP_PRIVATE | MAP_ANONYMOUS;
    void *p = mmap(NULL, sizeof(*control), PROT_READ | PROT_WRITE, flags, fd, 0);

    if (p == MAP_FAILED || (path != NULL && fd < 0)) {
        fprintf(stderr, "slow_sync: cannot map %s: %s\n", path ? path : "memory",
                strerror(errno));
        abort();
    }
    if (fd >= 0)
        close(fd);
    control = p;
    if (getenv("SYNC_DELAY_MS") != NULL)
        control->delay_ms = number_of("SYNC_DELAY_MS");
    if (getenv("SYNC_FAIL_AT") != NULL)
        control->fail_at = number_of("SYNC_FAIL_AT");
    if (getenv("SYNC_FAIL_ONCE") != NULL)
        control->fail_once = number_of("SYNC_FAIL_ONCE");
    if (getenv("SYNC_LIE") != NULL)
        control->lie = number_of("SYNC_LIE");
}

/* The path of what is open there; a directory ends in "/" too, so that "/wal/" names
 * the folder as well as its files. */
static void path_of(int fd, char path[512])
{
    char link[40];
    ssize_t n;

    snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
    n = readlink(link, path, 510);
    n = n < 0 ? 0 : n;
    path[n] = '/';
    path[n + 1] = 0;
}

/* Before the real call. NULL: not one of ours. *fails: do not do it, say EIO. */
static struct sync_event *begin(int fd, bool *fails, bool *lies)
{
    const char *only = getenv("SYNC_PATH");
    char path[512];
    uint64_t n, delay;

    pthread_once(&once, start);
    *fails = false;
    *lies = control->lie != 0;
    path_of(fd, path);
    if (*lies || (only != NULL && strstr(path, only) == NULL))
        return NULL;
    n = atomic_fetch_add(&control->count, 1) + 1;
    struct sync_event *e = &control->events[(n - 1) % SYNC_EVENTS];
    e->end_ns = 0;
    e->failed = 0;
    e->is_wal = strstr(path, "/wal/") != NULL;
    e->start_ns = now_ns();
    delay = control->delay_ms;
    if (delay > 0)
        nanosleep(&(struct timespec){ (time_t)(delay / 1000),
                                      (long)(delay % 1000) * 1000000 }, NULL);
    if (control->fail_at > 0)
        *fails = control->fail_once ? n == control->fail_at : n >= control->fail_at;
    return e;
}

static int end(struct sync_event *e, bool fails, int result)
{
    uint64_t never = 0;

    if (fails) {
        e->failed = 1;
        atomic_fetch_add(&control->failed, 1);
        atomic_compare_exchange_strong(&control->failed_ns, &never, now_ns());
        errno = EIO;
        result = -1;
    } else if (e != NULL && result < 0) {
        e->failed = 1;
    }
    if (e != NULL)
        e->end_ns = now_ns();
    return result;
}

#define REAL(type, name, ...) ((type (*)(__VA_ARGS__))(uintptr_t)dlsym(RTLD_NEXT, name))

int fsync(int fd)
{
    bool fails, lies;
    struct sync_event *e = begin(fd, &fails, &lies);

    return end(e, fails, fails || lies ? 0 : REAL(int, "fsync", int)(fd));
}

int fdatasync(int fd)
{
    bool fails, lies;
    struct sync_event *e = begin(fd, &fails, &lies);

    return end(e, fails, fails || lies ? 0 : REAL(int, "fdatasync", int)(fd));
}

int syncfs(int fd)
{
    bool fails, lies;
    struct sync_event *e = begin(fd, &fails, &lies);

    return end(e, fails, fails || lies ? 0 : REAL(int, "syncfs", int)(fd));
}

int sync_file_range(int fd, off64_t offset, off64_t size, unsigned flags)
{
    bool fails, lies;
    struct sync_event *e = begin(fd, &fails, &lies);

    if (fails || lies)
        return end(e, fails, 0);
    return end(e, fails, REAL(int, "sync_file_range", int, off64_t, off64_t, unsigned)(
                             fd, offset, size, flags));
}

ssize_t pwritev64v2(int fd, const struct iovec *v, int n, off64_t offset, int flags)
{
    bool is_sync = (flags & (RWF_DSYNC | RWF_SYNC)) != 0, fails = false, lies = false;
    struct sync_event *e = is_sync ? begin(fd, &fails, &lies) : NULL;
    ssize_t done = -1;

    if (!fails)
        done = REAL(ssize_t, "pwritev64v2", int, const struct iovec *, int, off64_t,
                    int)(fd, v, n, offset, lies ? 0 : flags);
    return end(e, fails, done < 0 ? -1 : 0) < 0 ? -1 : done;
}

ssize_t pwritev2(int fd, const struct iovec *v, int n, off_t offset, int flags)
{
    return pwritev64v2(fd, v, n, offset, flags);
}
