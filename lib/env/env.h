/* env/env.h -- the outside world behind one struct: files of one data directory,
 * clocks, entropy, workers.
 *
 * Everything above that touches the world does it through here, so the same store runs
 * on real disks (env_posix.c) and in a test with virtual time and disks that lose
 * unsynced writes, tear and corrupt on demand (env_mem.c).
 *
 * Names of files are relative to the data directory, with '/' between parts. Rules that
 * callers rely on, as POSIX gives them and env_mem enforces them:
 *   - bytes written survive a crash only after file_sync of that file returned OK;
 *   - a new, renamed or removed name survives only after dir_sync of its directory;
 *   - after a failed file_sync the bytes are in doubt for ever: never retried.
 *
 * Thread: file and clock calls from any thread, one file from one thread at a time;
 * worker_post from the core; a job runs on its worker.
 */
#ifndef MP_ENV_ENV_H
#define MP_ENV_ENV_H

#include "base/mailbox.h"
#include "base/mem.h"

#include <memphis/status.h>

struct mp_file; /* each environment has its own */
struct mp_worker;

enum {
    MP_FILE_READ = 0,
    MP_FILE_WRITE = 1,  /* read and write */
    MP_FILE_CREATE = 2, /* make it if it is not there */
    MP_FILE_NEW = 4     /* with CREATE: EXISTS if it is there */
};

/* Work for another thread. The job owns its input until it is delivered back: `run` on
 * the worker (under a guard: a failure there is delivered with `guard` set), then
 * mail.deliver on the core. Embedded in the owner's struct. */
struct mp_job {
    struct mp_mail mail; /* first; set mail.deliver before posting */
    void (*run)(struct mp_job *j);
    memphis_status guard; /* OK, or INTERNAL/NOMEM: run() did not return */
    memphis_error why;
    struct mp_job *next;
};

struct mp_env {
    struct mp_heap *heap;       /* workers run with it */
    struct mp_mailbox *mailbox; /* where finished jobs go; set by the broker */
    struct mp_worker *workers;  /* those that nobody freed yet: close ends them */

    /* -- files; all return OK, NOT_FOUND, EXISTS, NO_SPACE, BUSY, NOMEM (no descriptor
     *    or memory of the system is left) or IO, with a sentence that names the file in
     *    err. What is retryable of these says nothing about the file -- */
    memphis_status (*file_open)(struct mp_env *e, const char *name, uint32_t flags,
                                struct mp_file **out, memphis_error *err);
    void (*file_close)(struct mp_env *e, struct mp_file *f); /* NULL-safe */
    /* Reads until `size` bytes or the end of the file: *got says how many. */
    memphis_status (*file_read)(struct mp_env *e, struct mp_file *f, uint64_t offset,
                                void *to, size_t size, size_t *got, memphis_error *err);
    /* Writes everything or fails. */
    memphis_status (*file_write)(struct mp_env *e, struct mp_file *f, uint64_t offset,
                                 const memphis_slice *v, size_t n, memphis_error *err);
    memphis_status (*file_sync)(struct mp_env *e, struct mp_file *f,
                                memphis_error *err);
    memphis_status (*file_size)(struct mp_env *e, struct mp_file *f, uint64_t *out,
                                memphis_error *err);
    memphis_status (*file_truncate)(struct mp_env *e, struct mp_file *f, uint64_t size,
                                    memphis_error *err);
    /* Advice: these bytes are synced and will hardly be read soon; the memory that the
     * system keeps them in may go. */
    void (*file_forget)(struct mp_env *e, struct mp_file *f, uint64_t offset,
                        uint64_t size);
    memphis_status (*rename)(struct mp_env *e, const char *from, const char *to,
                             memphis_error *err);
    memphis_status (*unlink)(struct mp_env *e, const char *name, memphis_error *err);
    memphis_status (*mkdir)(struct mp_env *e, const char *name, memphis_error *err);
    /* EXISTS is OK; makes one level */
    memphis_status (*rmdir)(struct mp_env *e, const char *name, memphis_error *err);
    memphis_status (*dir_sync)(struct mp_env *e, const char *name, memphis_error *err);
    /* "" is the data directory itself; needs no descriptor */
    /* Calls fn for each name in the directory but "." and ".."; false stops. */
    memphis_status (*dir_list)(struct mp_env *e, const char *name,
                               bool (*fn)(void *ctx, const char *name), void *ctx,
                               memphis_error *err);
    memphis_status (*sync_all)(struct mp_env *e, memphis_error *err); /* syncfs */
    uint64_t (*free_bytes)(struct mp_env *e); /* of the file system */
    uint64_t (*disk_bytes)(struct mp_env *e); /* likewise, in all */
    /* BUSY, with who holds it, when another process, or another environment of this
     * one, has the directory open (design D18: fcntl lock and a table in the process).
     */
    memphis_status (*lock)(struct mp_env *e, memphis_error *err);

    /* -- clocks and entropy -- */
    uint64_t (*wall_ns)(struct mp_env *e); /* since 1970, may step */
    uint64_t (*boot_ns)(struct mp_env *e); /* never falls, counts suspended time */
    void (*random)(struct mp_env *e, void *to, size_t size);

    /* -- workers: a thread and a queue each, jobs in order; in an environment without
     *    threads worker_post runs the job at once, its mail comes later all the same.
     *    `spin_us`: how long the thread looks for work before it sleeps -- */
    memphis_status (*worker_new)(struct mp_env *e, const char *name, uint32_t spin_us,
                                 struct mp_worker **out, memphis_error *err);
    void (*worker_post)(struct mp_env *e, struct mp_worker *w, struct mp_job *j);
    void (*worker_free)(struct mp_env *e,
                        struct mp_worker *w); /* finishes queued jobs */

    /* Ends the workers that are left (a broken broker frees none), unlocks, frees. */
    void (*close)(struct mp_env *e);
};

/* Real files below `dir` (made if missing, one level). `threads` false: jobs run inline
 * (MANUAL with workers = 0). IO or INVALID with a sentence. */
memphis_status mp_env_posix_open(const char *dir, bool threads, struct mp_heap *heap,
                                 struct mp_env **out, memphis_error *err);

/* No files at all (every file call fails with MISUSE): clocks, entropy and workers for
 * a broker without a data directory. */
memphis_status mp_env_posix_diskless(bool threads, struct mp_heap *heap,
                                     struct mp_env **out, memphis_error *err);

/* Whether `bytes` more leave `reserve` of the bytes that are free. */
static inline bool mp_has_room(uint64_t free, uint64_t bytes, uint64_t reserve)
{
    return free >= bytes && free - bytes >= reserve;
}

/* -- broker time (design D14, storage-design 4.10) -------------------------------
 * B never falls and never jumps; W is what the wall says now. Both in ns. */
struct mp_clock {
    struct mp_env *env;
    uint64_t start_boot_ns, start_broker_ns;
    uint64_t broker_ns; /* B of this turn */
    uint64_t wall_ns;   /* W of this turn */
};

/* (w1, b1): clock pair of the newest WAL batch, or 0, 0 for a new store. */
void mp_clock_init(struct mp_clock *c, struct mp_env *env, uint64_t w1, uint64_t b1);
void mp_clock_tick(struct mp_clock *c); /* once a turn: reads both clocks */

#endif
