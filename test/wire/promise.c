/* promise BUILD DIR [SEED]: acknowledged = on disk, proved on BUILD/memphisd, whose
 * syncs are watched, delayed and failed by BUILD/test/wire/slow_sync.so. DIR is
 * emptied. */
#include "wire/promise.h"

#include "wire/client.h"
#include "wire/report.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct daemon promise_daemon(const struct promise *p, const char *name)
{
    struct daemon d = { .binary = p->binary, .preload = p->preload };

    snprintf(d.dir, sizeof(d.dir), "%.200s/%.40s", p->dir, name);
    folder_remove(d.dir);
    mkdir(d.dir, 0755);
    d.port = daemon_free_port();
    return d;
}

struct sync_control *promise_start(struct daemon *d, const char *const env[])
{
    static char control[320]; /* putenv in the child keeps it */
    const char *all[16] = { control };
    struct sync_control *c;

    snprintf(control, sizeof(control), "SYNC_CONTROL=%s/syncs", d->dir);
    for (size_t i = 0; env != NULL && env[i] != NULL && i < 14; i++)
        all[i + 1] = env[i];
    c = sync_control_new(strchr(control, '=') + 1);
    if (c == NULL || !daemon_start(d, all)) {
        perror(control);
        exit(1);
    }
    return c;
}

int main(int argc, char **argv)
{
    struct promise p = { .seed = client_now_ns() % 1000000 };

    if (argc == 3 && strcmp(argv[1], "in-process") == 0)
        return promise_program_main(argv[2]);
    if (argc < 3) {
        fprintf(stderr, "usage: promise BUILD DIR [SEED]\n");
        return 2;
    }
    if (argc > 3)
        p.seed = strtoull(argv[3], NULL, 10);
    if (realpath(argv[0], p.self) == NULL)
        snprintf(p.self, sizeof(p.self), "%.299s", argv[0]);
    snprintf(p.binary, sizeof(p.binary), "%.250s/memphisd", argv[1]);
    snprintf(p.preload, sizeof(p.preload), "%.250s/test/wire/slow_sync.so", argv[1]);
    char *preload = realpath(p.preload, NULL);
    if (preload == NULL || access(p.binary, X_OK) != 0) {
        fprintf(stderr, "promise: %s and %s are needed\n", p.binary, p.preload);
        return 2;
    }
    snprintf(p.preload, sizeof(p.preload), "%.299s", preload);
    free(preload);
    snprintf(p.dir, sizeof(p.dir), "%.255s", argv[2]);
    mkdir(p.dir, 0755);
    printf("seed %llu\n", (unsigned long long)p.seed);
    promise_delay(&p, false);
    promise_program(&p);
    promise_fail(&p);
    report(promise_delay(&p, true), "a daemon that does not sync is noticed");
    return report_end();
}
