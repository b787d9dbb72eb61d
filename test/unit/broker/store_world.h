/* A broker on a disk in memory, its meta.db in a folder of its own. */
#ifndef TEST_UNIT_BROKER_STORE_WORLD_H
#define TEST_UNIT_BROKER_STORE_WORLD_H

#include "support/test.h"

#include "broker/station.h"
#include "env/env_mem.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

struct store {
    struct mp_disk *disk;
    struct mp_broker *broker;
    char dir[32];
};

static inline void store_open(struct store *s,
                              void (*broken)(void *ctx, const memphis_error *why),
                              void *ctx)
{
    struct mp_broker_options o = {
        .heap = mp_heap_current(), .data_dir = s->dir, .broken = broken, .ctx = ctx
    };

    snprintf(s->dir, sizeof(s->dir), "/tmp/test_broker.XXXXXX");
    assert_non_null(mkdtemp(s->dir));
    s->disk = mp_disk_new(1);
    o.env = mp_env_mem_open(s->disk, o.heap);
    assert_int_equal(mp_broker_open(&o, &s->broker, NULL), MEMPHIS_OK);
}

static inline void store_close(struct store *s)
{
    static const char *const files[] = { "", "-wal", "-shm" };
    char path[64];

    mp_broker_close(s->broker);
    mp_disk_free(s->disk);
    for (int i = 0; i < 3; i++) {
        snprintf(path, sizeof(path), "%s/meta.db%s", s->dir, files[i]);
        unlink(path);
    }
    assert_int_equal(rmdir(s->dir), 0);
}

/* A millisecond passes, then the broker turns. */
static inline void turn(struct store *s)
{
    uint64_t next;

    mp_disk_advance(s->disk, 1000000);
    mp_broker_turn(s->broker, &next);
}

#endif
