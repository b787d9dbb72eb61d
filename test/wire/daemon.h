/* wire/daemon.h -- a memphisd of a test's own: start it, kill it, ask how it ended.
 *
 * Its output goes to <dir>/log, its store is <dir>/store. A daemon that is still
 * running when the test's process ends is killed with it.
 */
#ifndef WIRE_DAEMON_H
#define WIRE_DAEMON_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct daemon {
    const char *binary;
    const char *preload;     /* slow_sync.so; NULL: none */
    char dir[256];
    uint16_t port;
    pid_t pid;               /* 0: not running */
};

/* A port of 127.0.0.1 that nobody uses now, from 30000 up. */
uint16_t daemon_free_port(void);

/* `env`: NAME=VALUE pairs, NULL at the end; NULL: none. It may still be starting when
 * this returns: client_connect waits. False: it could not be started. */
bool daemon_start(struct daemon *d, const char *const env[]);

/* SIGKILL; gone when it returns. */
void daemon_kill(struct daemon *d);

/* Waits for its end at most wait_ms: its exit status, 256 + signal, or -1: it runs. */
int daemon_wait(struct daemon *d, uint32_t wait_ms);

/* SIGTERM, then as daemon_wait. */
int daemon_stop(struct daemon *d, uint32_t wait_ms);

/* Copies or removes a folder with all that is in it. */
bool folder_copy(const char *from, const char *to);
bool folder_remove(const char *path);
uint64_t folder_bytes(const char *path);

#endif
