/* wire/promise.h -- the parts of the program `promise`: acknowledged = on disk. */
#ifndef WIRE_PROMISE_H
#define WIRE_PROMISE_H

#include "wire/daemon.h"
#include "wire/slow_sync.h"

enum { PROMISE_DELAY_MS = 300 };

struct promise {
    char self[300];        /* this program */
    char binary[300], preload[300], dir[256];
    uint64_t seed;
};

/* A daemon in its own empty folder <dir>/<name>, and the shared file of its syncs.
 * `env` as in daemon_start, without SYNC_CONTROL. */
struct daemon promise_daemon(const struct promise *p, const char *name);
struct sync_control *promise_start(struct daemon *d, const char *const env[]);

/* No acknowledgement of any kind comes before a sync of the write-ahead log that began
 * after its request. With is_liar the daemon's syncs do nothing: returns whether that
 * was noticed, and reports nothing. */
bool promise_delay(const struct promise *p, bool is_liar);

/* A failed sync is the end: nothing more is acknowledged, status 74, nothing lost. */
void promise_fail(const struct promise *p);

/* The same as promise_delay for a program with the broker inside. */
void promise_program(const struct promise *p);
int promise_program_main(const char *dir); /* in the child, with the preload */

#endif
