#include "base/assert.h"
#include "base/list.h"
#include "base/status.h"
#include "env/env.h"
#include "env/worker.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

enum { IOV_COUNT = 256 };

struct mp_file {
    int fd;
    char name[];         /* for the sentences of errors */
};

struct posix_env {
    struct mp_env env;   /* first */
    int dir_fd, lock_fd; /* -1: none */
    bool threads;
    bool is_listed;      /* in the table below */
    dev_t dev;
    ino_t ino;
    struct posix_env *next;
    char path[];
};

/* The directories that are open in this process. An fcntl lock does not keep out a
 * second broker of the same process (design D18), so this table does. */
static pthread_mutex_t open_dirs_lock = PTHREAD_MUTEX_INITIALIZER;
static struct posix_env *open_dirs;

static struct posix_env *self(struct mp_env *e)
{
    return mp_container_of(e, struct posix_env, env);
}

static const char *errno_text(int number)
{
    const char *text = strerrordesc_np(number);

    return text != NULL ? text : "unknown error";
}

/* The status of a failed call on `name`, from errno. */
static memphis_status fail_errno(memphis_error *err, const char *what, const char *name)
{
    int number = errno;
    memphis_status status = MEMPHIS_IO;

    if (number == ENOENT)
        status = MEMPHIS_NOT_FOUND;
    else if (number == EEXIST)
        status = MEMPHIS_EXISTS;
    else if (number == ENOSPC || number == EDQUOT)
        status = MEMPHIS_NO_SPACE;
    else if (number == EMFILE || number == ENFILE || number == ENOMEM)
        status = MEMPHIS_NOMEM;
    return mp_fail(err, status, "cannot %s '%s': %s", what, name[0] ? name : ".",
                   errno_text(number));
}

/* Of the data directory, before anything is done in it: the choice is wrong, no disk is
 * broken. */
static memphis_status fail_choice(memphis_error *err, const char *what,
                                  const char *name)
{
    int number = errno;
    memphis_status status = fail_errno(err, what, name);

    if (number == EACCES || number == EPERM || number == EROFS)
        status = MEMPHIS_DENIED;
    else if (number == ENOTDIR || number == ELOOP || number == ENAMETOOLONG)
        status = MEMPHIS_INVALID;
    if (err != NULL)
        err->status = status;
    return status;
}

/* -- files ------------------------------------------------------------------------- */

static memphis_status file_open(struct mp_env *e, const char *name, uint32_t flags,
                                struct mp_file **out, memphis_error *err)
{
    int mode = flags & MP_FILE_WRITE ? O_RDWR : O_RDONLY;
    size_t size = strlen(name) + 1;

    mp_assert(!(flags & MP_FILE_NEW) || flags & MP_FILE_CREATE);
    if (flags & MP_FILE_CREATE)
        mode |= O_CREAT;
    if (flags & MP_FILE_NEW)
        mode |= O_EXCL;
    int fd = openat(self(e)->dir_fd, name, mode | O_CLOEXEC, 0640);
    if (fd < 0)
        return fail_errno(err, "open", name);
    struct mp_file *f = mp_alloc(sizeof *f + size);
    f->fd = fd;
    memcpy(f->name, name, size);
    *out = f;
    return MEMPHIS_OK;
}

static void file_close(struct mp_env *e, struct mp_file *f)
{
    (void)e;
    if (f == NULL)
        return;
    (void)close(f->fd); /* what must be on disk was synced before */
    mp_free(f);
}

static memphis_status file_read(struct mp_env *e, struct mp_file *f, uint64_t offset,
                                void *to, size_t size, size_t *got, memphis_error *err)
{
    uint8_t *at = to;

    (void)e;
    *got = 0;
    while (*got < size) {
        ssize_t n = pread(f->fd, at + *got, size - *got, (off_t)(offset + *got));
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return fail_errno(err, "read", f->name);
        if (n == 0)
            break;
        *got += (size_t)n;
    }
    return MEMPHIS_OK;
}

/* Writes iov[0..n) completely; changes the array. */
static memphis_status write_all(struct mp_file *f, uint64_t offset, struct iovec *iov,
                                size_t n, memphis_error *err)
{
    while (n > 0) {
        ssize_t done = pwritev(f->fd, iov, (int)n, (off_t)offset);
        if (done < 0 && errno == EINTR)
            continue;
        if (done < 0)
            return fail_errno(err, "write", f->name);
        offset += (uint64_t)done;
        while (n > 0 && (size_t)done >= iov->iov_len) {
            done -= (ssize_t)iov->iov_len;
            iov++;
            n--;
        }
        if (n > 0) {
            iov->iov_base = (char *)iov->iov_base + done;
            iov->iov_len -= (size_t)done;
        }
    }
    return MEMPHIS_OK;
}

static memphis_status file_write(struct mp_env *e, struct mp_file *f, uint64_t offset,
                                 const memphis_slice *v, size_t n, memphis_error *err)
{
    struct iovec iov[IOV_COUNT];

    (void)e;
    while (n > 0) {
        size_t count = n < IOV_COUNT ? n : IOV_COUNT;
        uint64_t bytes = 0;
        for (size_t i = 0; i < count; i++) {
            iov[i].iov_base = (void *)(uintptr_t)v[i].data; /* only read from */
            iov[i].iov_len = v[i].size;
            bytes += v[i].size;
        }
        memphis_status s = write_all(f, offset, iov, count, err);
        if (s != MEMPHIS_OK)
            return s;
        offset += bytes;
        v += count;
        n -= count;
    }
    return MEMPHIS_OK;
}

static memphis_status file_sync(struct mp_env *e, struct mp_file *f, memphis_error *err)
{
    (void)e;
    if (fdatasync(f->fd) != 0)
        return fail_errno(err, "sync", f->name);
    return MEMPHIS_OK;
}

static memphis_status file_size(struct mp_env *e, struct mp_file *f, uint64_t *out,
                                memphis_error *err)
{
    struct stat st;

    (void)e;
    if (fstat(f->fd, &st) != 0)
        return fail_errno(err, "look at", f->name);
    *out = (uint64_t)st.st_size;
    return MEMPHIS_OK;
}

static memphis_status file_truncate(struct mp_env *e, struct mp_file *f, uint64_t size,
                                    memphis_error *err)
{
    struct stat st;

    (void)e;
    /* To the size that it has: most calls, and dear for a file system all the same. */
    if (fstat(f->fd, &st) == 0 && st.st_size == (off_t)size)
        return MEMPHIS_OK;
    if (ftruncate(f->fd, (off_t)size) != 0)
        return fail_errno(err, "set the size of", f->name);
    return MEMPHIS_OK;
}

static void file_forget(struct mp_env *e, struct mp_file *f, uint64_t offset,
                        uint64_t size)
{
    (void)e;
    (void)posix_fadvise(f->fd, (off_t)offset, (off_t)size, POSIX_FADV_DONTNEED);
}

/* -- names ------------------------------------------------------------------------- */

static memphis_status posix_rename(struct mp_env *e, const char *from, const char *to,
                                   memphis_error *err)
{
    int dir = self(e)->dir_fd;

    if (renameat(dir, from, dir, to) != 0)
        return fail_errno(err, "rename", from);
    return MEMPHIS_OK;
}

static memphis_status posix_unlink(struct mp_env *e, const char *name,
                                   memphis_error *err)
{
    if (unlinkat(self(e)->dir_fd, name, 0) != 0)
        return fail_errno(err, "remove", name);
    return MEMPHIS_OK;
}

static memphis_status posix_mkdir(struct mp_env *e, const char *name,
                                  memphis_error *err)
{
    if (mkdirat(self(e)->dir_fd, name, 0750) != 0 && errno != EEXIST)
        return fail_errno(err, "make the directory", name);
    return MEMPHIS_OK;
}

static memphis_status posix_rmdir(struct mp_env *e, const char *name,
                                  memphis_error *err)
{
    if (unlinkat(self(e)->dir_fd, name, AT_REMOVEDIR) != 0)
        return fail_errno(err, "remove the directory", name);
    return MEMPHIS_OK;
}

static int open_dir(struct mp_env *e, const char *name)
{
    return openat(self(e)->dir_fd, name[0] ? name : ".",
                  O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

static memphis_status sync_all(struct mp_env *e, memphis_error *err)
{
    if (syncfs(self(e)->dir_fd) != 0)
        return fail_errno(err, "sync the file system of", self(e)->path);
    return MEMPHIS_OK;
}

static memphis_status dir_sync(struct mp_env *e, const char *name, memphis_error *err)
{
    memphis_status status = MEMPHIS_OK;

    int fd = open_dir(e, name);
    if (fd < 0 && (errno == EMFILE || errno == ENFILE || errno == EACCES))
        return sync_all(e, err); /* dear, but it takes no descriptor and no right */
    if (fd < 0)
        return fail_errno(err, "open the directory", name);
    if (fsync(fd) != 0)
        status = fail_errno(err, "sync the directory", name);
    (void)close(fd); /* nothing was written through it */
    return status;
}

static memphis_status dir_list(struct mp_env *e, const char *name,
                               bool (*fn)(void *ctx, const char *name), void *ctx,
                               memphis_error *err)
{
    memphis_status status = MEMPHIS_OK;
    struct dirent *item;

    int fd = open_dir(e, name);
    if (fd < 0)
        return fail_errno(err, "open the directory", name);
    DIR *dir = fdopendir(fd);
    if (dir == NULL) {
        status = fail_errno(err, "open the directory", name);
        (void)close(fd);
        return status;
    }
    errno = 0;
    while ((item = readdir(dir)) != NULL) {
        const char *n = item->d_name;
        bool is_dot = n[0] == '.' && (n[1] == 0 || (n[1] == '.' && n[2] == 0));
        if (!is_dot && !fn(ctx, n))
            break;
        errno = 0;
    }
    if (item == NULL && errno != 0)
        status = fail_errno(err, "read the directory", name);
    (void)closedir(dir);
    return status;
}

static uint64_t free_bytes(struct mp_env *e)
{
    struct statvfs v;

    /* A file system that cannot say is taken as having room: a write will tell. */
    if (fstatvfs(self(e)->dir_fd, &v) != 0)
        return UINT64_MAX;
    return (uint64_t)v.f_bavail * v.f_frsize;
}

static uint64_t disk_bytes(struct mp_env *e)
{
    struct statvfs v;

    if (fstatvfs(self(e)->dir_fd, &v) != 0)
        return UINT64_MAX;
    return (uint64_t)v.f_blocks * v.f_frsize;
}

/* -- lock -------------------------------------------------------------------------- */

/* False: another environment of this process has the same directory open. */
static bool list_dir(struct posix_env *p)
{
    bool free = true;

    pthread_mutex_lock(&open_dirs_lock);
    for (struct posix_env *o = open_dirs; o != NULL; o = o->next)
        if (o->dev == p->dev && o->ino == p->ino)
            free = false;
    if (free) {
        p->next = open_dirs;
        open_dirs = p;
        p->is_listed = true;
    }
    pthread_mutex_unlock(&open_dirs_lock);
    return free;
}

static void unlist_dir(struct posix_env *p)
{
    if (!p->is_listed)
        return;
    pthread_mutex_lock(&open_dirs_lock);
    for (struct posix_env **at = &open_dirs; *at != NULL; at = &(*at)->next) {
        if (*at == p) {
            *at = p->next;
            break;
        }
    }
    p->is_listed = false;
    pthread_mutex_unlock(&open_dirs_lock);
}

static memphis_status posix_lock(struct mp_env *e, memphis_error *err)
{
    struct posix_env *p = self(e);
    struct flock l = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
    struct stat st;

    mp_assert(p->lock_fd < 0);
    if (fstat(p->dir_fd, &st) != 0)
        return fail_errno(err, "look at", p->path);
    p->dev = st.st_dev;
    p->ino = st.st_ino;
    if (!list_dir(p))
        return mp_fail(err, MEMPHIS_BUSY,
                       "'%s' is open already in this process; use that broker",
                       p->path);
    p->lock_fd = openat(p->dir_fd, "LOCK", O_RDWR | O_CREAT | O_CLOEXEC, 0640);
    if (p->lock_fd < 0) {
        memphis_status s = fail_choice(err, "open", "LOCK");
        unlist_dir(p);
        return s;
    }
    if (fcntl(p->lock_fd, F_SETLK, &l) == 0)
        return MEMPHIS_OK;
    int number = errno;
    (void)fcntl(p->lock_fd, F_GETLK, &l); /* only for the text */
    (void)close(p->lock_fd);
    p->lock_fd = -1;
    unlist_dir(p);
    if (number != EACCES && number != EAGAIN)
        return mp_fail(err, MEMPHIS_IO, "cannot lock '%s': %s", p->path,
                       errno_text(number));
    return mp_fail(err, MEMPHIS_BUSY, "'%s' is in use by process %ld; stop it first",
                   p->path, (long)l.l_pid);
}

/* -- clocks, entropy, workers ------------------------------------------------------ */

static uint64_t read_clock(clockid_t id)
{
    struct timespec t;

    (void)clock_gettime(id, &t); /* cannot fail with these two clocks */
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static uint64_t wall_ns(struct mp_env *e)
{
    (void)e;
    return read_clock(CLOCK_REALTIME);
}

static uint64_t boot_ns(struct mp_env *e)
{
    (void)e;
    return read_clock(CLOCK_BOOTTIME);
}

static void posix_random(struct mp_env *e, void *to, size_t size)
{
    uint8_t *at = to;

    (void)e;
    while (size > 0) {
        ssize_t n = getrandom(at, size, 0);
        if (n < 0 && errno == EINTR)
            continue;
        mp_assert(n > 0);
        at += n;
        size -= (size_t)n;
    }
}

static memphis_status worker_new(struct mp_env *e, const char *name, uint32_t spin_us,
                                 struct mp_worker **out, memphis_error *err)
{
    return mp_worker_new(e, name, self(e)->threads, spin_us, out, err);
}

static void posix_close(struct mp_env *e)
{
    struct posix_env *p = self(e);

    mp_workers_free(e); /* what they still do needs the directory */
    if (p->lock_fd >= 0)
        (void)close(p->lock_fd); /* lets the fcntl lock go */
    unlist_dir(p);
    if (p->dir_fd >= 0)
        (void)close(p->dir_fd);
    mp_free(p);
}

/* -- diskless ---------------------------------------------------------------------- */

static memphis_status no_disk(memphis_error *err)
{
    return mp_fail(err, MEMPHIS_MISUSE, "this broker has no data directory");
}

static memphis_status no_open(struct mp_env *e, const char *name, uint32_t flags,
                              struct mp_file **out, memphis_error *err)
{
    (void)e, (void)name, (void)flags, (void)out;
    return no_disk(err);
}

static memphis_status no_read(struct mp_env *e, struct mp_file *f, uint64_t offset,
                              void *to, size_t size, size_t *got, memphis_error *err)
{
    (void)e, (void)f, (void)offset, (void)to, (void)size, (void)got;
    return no_disk(err);
}

static memphis_status no_write(struct mp_env *e, struct mp_file *f, uint64_t offset,
                               const memphis_slice *v, size_t n, memphis_error *err)
{
    (void)e, (void)f, (void)offset, (void)v, (void)n;
    return no_disk(err);
}

static memphis_status no_sync(struct mp_env *e, struct mp_file *f, memphis_error *err)
{
    (void)e, (void)f;
    return no_disk(err);
}

static memphis_status no_size(struct mp_env *e, struct mp_file *f, uint64_t *out,
                              memphis_error *err)
{
    (void)e, (void)f, (void)out;
    return no_disk(err);
}

static memphis_status no_truncate(struct mp_env *e, struct mp_file *f, uint64_t size,
                                  memphis_error *err)
{
    (void)e, (void)f, (void)size;
    return no_disk(err);
}

static void no_forget(struct mp_env *e, struct mp_file *f, uint64_t offset,
                      uint64_t size)
{
    (void)e, (void)f, (void)offset, (void)size;
}

static memphis_status no_rename(struct mp_env *e, const char *from, const char *to,
                                memphis_error *err)
{
    (void)e, (void)from, (void)to;
    return no_disk(err);
}

static memphis_status no_name(struct mp_env *e, const char *name, memphis_error *err)
{
    (void)e, (void)name;
    return no_disk(err);
}

static memphis_status no_list(struct mp_env *e, const char *name,
                              bool (*fn)(void *ctx, const char *name), void *ctx,
                              memphis_error *err)
{
    (void)e, (void)name, (void)fn, (void)ctx;
    return no_disk(err);
}

static memphis_status no_world(struct mp_env *e, memphis_error *err)
{
    (void)e;
    return no_disk(err);
}

static uint64_t no_bytes(struct mp_env *e)
{
    (void)e;
    return UINT64_MAX;
}

/* -- open -------------------------------------------------------------------------- */

static const struct mp_env posix_calls = {
    .file_open = file_open, .file_close = file_close, .file_read = file_read,
    .file_write = file_write, .file_sync = file_sync, .file_size = file_size,
    .file_truncate = file_truncate, .file_forget = file_forget,
    .rename = posix_rename,
    .unlink = posix_unlink, .mkdir = posix_mkdir, .rmdir = posix_rmdir, .dir_sync =
    dir_sync, .dir_list = dir_list, .sync_all = sync_all, .free_bytes = free_bytes,
    .disk_bytes = disk_bytes,
    .lock = posix_lock, .wall_ns = wall_ns, .boot_ns = boot_ns, .random = posix_random,
    .worker_new = worker_new, .worker_post = mp_worker_post,
    .worker_free = mp_worker_free, .close = posix_close
};

static const struct mp_env diskless_calls = {
    .file_open = no_open, .file_close = file_close, .file_read = no_read,
    .file_write = no_write, .file_sync = no_sync, .file_size = no_size,
    .file_truncate = no_truncate, .file_forget = no_forget,
    .rename = no_rename, .unlink
    = no_name, .mkdir = no_name, .rmdir = no_name, .dir_sync = no_name, .dir_list =
    no_list, .sync_all = no_world, .free_bytes = no_bytes, .disk_bytes = no_bytes,
    .lock = no_world, .wall_ns =
    wall_ns, .boot_ns = boot_ns, .random = posix_random, .worker_new = worker_new,
    .worker_post = mp_worker_post, .worker_free = mp_worker_free, .close = posix_close
};

static struct posix_env *new_env(const struct mp_env *calls, const char *path,
                                 bool threads, struct mp_heap *heap)
{
    size_t size = strlen(path) + 1;
    struct posix_env *p = mp_alloc(sizeof *p + size);

    p->env = *calls;
    p->env.heap = heap;
    p->dir_fd = -1;
    p->lock_fd = -1;
    p->threads = threads;
    memcpy(p->path, path, size);
    return p;
}

memphis_status mp_env_posix_open(const char *dir, bool threads, struct mp_heap *heap,
                                 struct mp_env **out, memphis_error *err)
{
    if (dir == NULL || dir[0] == 0)
        return mp_fail(err, MEMPHIS_INVALID, "the data directory has no name");
    if (mkdir(dir, 0750) != 0 && errno != EEXIST)
        return fail_choice(err, "make the data directory", dir);
    int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return fail_choice(err, "open the data directory", dir);
    struct posix_env *p = new_env(&posix_calls, dir, threads, heap);
    p->dir_fd = fd;
    /* Its own name; also when it was there: who made it may have been killed then. */
    memphis_status s = dir_sync(&p->env, "..", err);
    if (s == MEMPHIS_OK)
        *out = &p->env;
    else
        posix_close(&p->env);
    return s;
}

memphis_status mp_env_posix_diskless(bool threads, struct mp_heap *heap,
                                     struct mp_env **out, memphis_error *err)
{
    (void)err; /* cannot fail today; a caller checks all the same */
    struct posix_env *p = new_env(&diskless_calls, "", threads, heap);
    *out = &p->env;
    return MEMPHIS_OK;
}
