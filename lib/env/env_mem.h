/* env/env_mem.h -- a disk in memory that forgets, tears and fails on demand, and
 * virtual time: the world in which the crash simulation runs.
 *
 * A *disk* outlives the environments that are opened on it, as a real one outlives the
 * processes. It keeps for each file what is synced and the writes since then, and for
 * each directory the names that are synced and the changes since then. A crash makes
 * a new past out of both:
 *
 *   synced bytes and names     always survive
 *   the rest                   as the outcome says: nothing, everything, torn ...
 *
 * Everything is deterministic: one seed, one history. Thread: one.
 */
#ifndef MP_ENV_ENV_MEM_H
#define MP_ENV_ENV_MEM_H

#include "env/env.h"

struct mp_disk;

enum mp_disk_op {
    MP_DISK_OPEN,       /* opens that create */
    MP_DISK_REOPEN,     /* opens of what is there */
    MP_DISK_READ,
    MP_DISK_WRITE,
    MP_DISK_SYNC,
    MP_DISK_TRUNCATE,
    MP_DISK_RENAME,
    MP_DISK_UNLINK,
    MP_DISK_MKDIR,
    MP_DISK_DIR_SYNC,
    MP_DISK_OPS
};

/* What becomes of unsynced writes and names at a crash. */
enum mp_disk_outcome {
    MP_CRASH_NOTHING,      /* none survives */
    MP_CRASH_EVERYTHING,   /* all do */
    MP_CRASH_LOSE_BLOCK,   /* all but one block of 4 KiB; names at random */
    MP_CRASH_TORN,         /* up to a sector of 512 bytes; names up to a change */
    MP_CRASH_SECTORS,      /* each sector at random, as if reordered; names at random */
    MP_CRASH_FLIP,         /* all, with one bit of it flipped; names at random */
    MP_CRASH_NAMES_ONLY,   /* all changes of names, no bytes */
    MP_CRASH_BYTES_ONLY,   /* all bytes, no changes of names */
    MP_CRASH_PROCESS,      /* kill -9: the page cache lives on, still unsynced */
    MP_CRASH_OUTCOMES
};

struct mp_disk *mp_disk_new(uint64_t seed);
struct mp_disk *mp_disk_clone(const struct mp_disk *d); /* without open environments */
void mp_disk_free(struct mp_disk *d);

/* An environment without threads. One at a time may hold the lock of the directory. */
struct mp_env *mp_env_mem_open(struct mp_disk *d, struct mp_heap *heap);

/* Every call of a kind but READ and REOPEN is one operation. The n-th from now does not
 * return to a living process: it, and all after it, fail with IO. 0: never. */
void mp_disk_crash_at(struct mp_disk *d, uint64_t n);
bool mp_disk_has_crashed(const struct mp_disk *d);
uint64_t mp_disk_operations(const struct mp_disk *d);
/* The power is back. All environments must be closed. */
void mp_disk_crash(struct mp_disk *d, enum mp_disk_outcome outcome, uint64_t seed);

/* The n-th operation of that kind from now fails so; `forever`: all after it, too. */
void mp_disk_fail(struct mp_disk *d, enum mp_disk_op op, uint64_t n,
                  memphis_status status, bool forever);
void mp_disk_heal(struct mp_disk *d);             /* no more planned faults */
void mp_disk_limit(struct mp_disk *d, uint64_t bytes); /* room for files in all */
void mp_disk_advance(struct mp_disk *d, uint64_t ns);  /* both clocks */
void mp_disk_step_wall(struct mp_disk *d, int64_t ns); /* the wall clock alone */
uint64_t mp_disk_used(const struct mp_disk *d);

/* Bit-rot: flips a bit of what is synced. False: there is no such byte. */
bool mp_disk_flip(struct mp_disk *d, const char *name, uint64_t offset, uint8_t bits);
/* Bytes [from, to) of a file cannot be read until all of them are written again. One
 * range per file; from = to: none. False: there is no such file. */
bool mp_disk_spoil(struct mp_disk *d, const char *name, uint64_t from, uint64_t to);
/* Visits all names (directories end with '/'), with their current size. */
void mp_disk_each(const struct mp_disk *d,
                  void (*fn)(void *ctx, const char *name, uint64_t size), void *ctx);

#endif
