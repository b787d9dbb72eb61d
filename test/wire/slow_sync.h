/* wire/slow_sync.h -- what a test and the preloaded slow_sync.so of a daemon share.
 *
 * slow_sync.so stands before fsync, fdatasync, sync_file_range, syncfs and pwritev2
 * with RWF_DSYNC of the process that it is preloaded into, and writes down each of them
 * in a file that the test maps too. So a test can tell for every acknowledgement
 * whether there was a sync behind it, and it outlives a kill -9:
 *
 *      test:    sent_ns ........................ got_ns
 *      daemon:          start_ns --sync-- end_ns            covered
 *
 * Environment of the daemon, all optional:
 *   SYNC_CONTROL   path of the shared file (sync_control_new makes it)
 *   SYNC_PATH      only files whose path contains it are counted, delayed and failed
 *   SYNC_DELAY_MS  a sync takes this much longer
 *   SYNC_FAIL_AT   the n-th sync and all later ones fail with EIO
 *   SYNC_FAIL_ONCE 1: only the n-th
 *   SYNC_LIE       1: nothing is synced, delayed or written down: success at once
 *
 * The numbers can be changed in the shared file while the daemon runs.
 */
#ifndef WIRE_SLOW_SYNC_H
#define WIRE_SLOW_SYNC_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

enum { SYNC_EVENTS = 1 << 17 };

struct sync_event {
    _Atomic uint64_t start_ns, end_ns; /* end 0: not back yet; CLOCK_MONOTONIC */
    _Atomic uint32_t is_wal;           /* a file of the write-ahead log */
    _Atomic uint32_t failed;
};

struct sync_control {
    _Atomic uint64_t delay_ms, fail_at, fail_once, lie;
    _Atomic uint64_t count;     /* syncs so far, those under way included */
    _Atomic uint64_t failed;    /* of them failed by us */
    _Atomic uint64_t failed_ns; /* when the first of these came back */
    struct sync_event
        events[SYNC_EVENTS]; /* event i of `count` is at i % SYNC_EVENTS */
};

/* Makes the file, or takes the one that is there, and maps it; NULL with errno. */
struct sync_control *sync_control_new(const char *path);
struct sync_control *sync_control_open(const char *path);
void sync_control_free(struct sync_control *c); /* NULL-safe; the file stays */

/* Whether a sync of the write-ahead log began at `from` or later and was back, with
 * success, before `to`. */
bool sync_covers(const struct sync_control *c, uint64_t from, uint64_t to);

/* How many such syncs there were. */
unsigned sync_between(const struct sync_control *c, uint64_t from, uint64_t to);

#endif
