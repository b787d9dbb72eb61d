/* test/unit/replica/world.h -- a broker's log on a disk in memory, small enough that a
 * few hundred messages fill its memory, its WAL files and its segments. */
#ifndef TEST_UNIT_REPLICA_WORLD_H
#define TEST_UNIT_REPLICA_WORLD_H

#include "support/test.h"

#include "base/limits.h"
#include "base/status.h"
#include "env/env_mem.h"
#include "replica/solo.h"

#include <stdio.h>
#include <stdlib.h>

enum { PIDS_MAX = 1100, SEEN_IDS_MAX = 4096, HEAD_SIZE = 16 };
#define SECOND_NS 1000000000ull

struct world_id {
    uint32_t pid;
    uint64_t seq, number;
};

struct world {
    struct mp_disk *disk;
    struct mp_mailbox box;
    struct mp_env *env;
    struct mp_replica *replica;
    struct mp_replica_options options;
    struct mp_recovery_report report;
    struct mp_log_sink sinks[4];
    struct world_sink {
        struct world *world;
        uint32_t shard;
    } contexts[4];
    bool diskless;

    int broken, checkpoints, failed, readies;
    memphis_status failed_status;
    char broken_why[256];
    uint64_t groups[PIDS_MAX];   /* a sum of the group entries, kept in the state */
    bool is_open[PIDS_MAX];
    bool is_known[PIDS_MAX];     /* by the metadata: asked for after a loss */
    uint64_t next[PIDS_MAX];     /* sequence of the next message */
    uint64_t ids_since;          /* what the sink says */
    struct world_id ids[SEEN_IDS_MAX];
    size_t ids_count;
    uint64_t log_bytes_most, wal_bytes_most, cold_bytes_most;
};

/* -- the sink -- */

static inline void world_apply(void *ctx, uint64_t index, uint64_t time_ns,
                               const struct mp_entry *entries, size_t n, uint64_t tag)
{
    struct world *w = ((struct world_sink *)ctx)->world;

    (void)index, (void)time_ns, (void)tag;
    for (size_t i = 0; i < n; i++) {
        const struct mp_entry *e = &entries[i];
        if (e->pid >= PIDS_MAX)
            continue;
        if (e->type == MP_ENTRY_GROUP && w->is_open[e->pid])
            w->groups[e->pid] += e->seq;
        if (e->type == MP_ENTRY_PARTITION) {
            w->is_open[e->pid] = *(const uint8_t *)e->payload.data != 3;
            w->groups[e->pid] = 0;
        }
        if ((e->type == MP_ENTRY_ID || e->type == MP_ENTRY_MESSAGE) && e->id.size == 8)
            w->ids[w->ids_count++ % SEEN_IDS_MAX] =
                (struct world_id){ e->pid, e->seq, mp_get_u64(e->id.data) };
    }
}

static inline void world_failed(void *ctx, uint64_t tag, memphis_status status)
{
    struct world *w = ((struct world_sink *)ctx)->world;

    (void)tag;
    w->failed++;
    w->failed_status = status;
}

static inline void world_ready(void *ctx, uint32_t pid)
{
    (void)pid;
    ((struct world_sink *)ctx)->world->readies++;
}

static inline void world_state(void *ctx, uint32_t pid, struct mp_buf *out)
{
    struct world *w = ((struct world_sink *)ctx)->world;

    if (pid > 0 && w->groups[pid] > 0) {
        mp_buf_put_u16(out, 1);
        mp_buf_put_u32(out, 8);
        mp_buf_put_u64(out, w->groups[pid]);
    }
}

static inline memphis_status world_restore(void *ctx, uint32_t pid, uint64_t index,
                                           memphis_slice state, memphis_error *err)
{
    struct world *w = ((struct world_sink *)ctx)->world;
    struct mp_cursor c = mp_cursor_of(state);

    (void)err;
    assert_true(index > 0);
    assert_true(pid == 0 || w->is_open[pid]);
    while (mp_cursor_left(&c) > 0) {
        uint16_t tag = mp_cursor_u16(&c);
        memphis_slice v = mp_cursor_take(&c, mp_cursor_u32(&c));
        if (tag == 1)
            w->groups[pid] = mp_get_u64(v.data);
    }
    return MEMPHIS_OK;
}

static inline uint64_t world_ids_since(void *ctx, uint32_t pid)
{
    (void)pid;
    return ((struct world_sink *)ctx)->world->ids_since;
}

static inline void world_broken(void *ctx, const memphis_error *why)
{
    struct world *w = ctx;

    w->broken++;
    snprintf(w->broken_why, sizeof w->broken_why, "%s", why->message);
}

static inline void
world_partitions(void *ctx, void (*fn)(void *to, const struct mp_entry *open), void *to)
{
    struct world *w = ctx;
    uint8_t payload[13] = { 1 };

    for (uint32_t pid = 0; pid < PIDS_MAX; pid++) {
        struct mp_entry e = { .type = MP_ENTRY_PARTITION,
                              .pid = pid,
                              .payload = { payload, sizeof payload } };
        if (w->is_known[pid])
            fn(to, &e);
    }
}

static inline void world_checkpoint(void *ctx)
{
    ((struct world *)ctx)->checkpoints++;
}

/* -- life -- */

static inline struct world *world_new(uint64_t seed)
{
    struct world *w = calloc(1, sizeof *w);

    w->disk = mp_disk_new(seed);
    w->ids_since = UINT64_MAX;
    w->options = (struct mp_replica_options){ .broken = world_broken,
                                              .checkpoint = world_checkpoint,
                                              .partitions = world_partitions,
                                              .ctx = w,
                                              .wal_file_min = 32 << 10,
                                              .wal_file_max = 64 << 10,
                                              .wal_total_max = 256 << 10,
                                              .segment_size = 32 << 10,
                                              .chunk_size = 4 << 10,
                                              .memory_max = 256 << 10 };
    for (uint32_t i = 0; i < PIDS_MAX; i++)
        w->next[i] = 1;
    return w;
}

static inline memphis_status start(struct world *w, memphis_error *err)
{
    memset(w->groups, 0, sizeof w->groups);
    memset(w->is_open, 0, sizeof w->is_open);
    w->ids_count = 0;
    w->broken = 0;
    mp_mailbox_init(&w->box, NULL, NULL);
    w->env = mp_env_mem_open(w->disk, NULL);
    w->env->mailbox = &w->box;
    w->options.env = w->env;
    w->options.diskless = w->diskless;
    memphis_status s = mp_replica_open(&w->options, &w->replica, err);
    for (uint32_t i = 1; i <= 3 && s == MEMPHIS_OK; i++) {
        w->contexts[i] = (struct world_sink){ w, i };
        mp_replica_log(w->replica, i)->sink = (struct mp_log_sink){
            .apply = world_apply, .failed = world_failed, .ready = world_ready,
            .state = i == MP_SHARD_DATA ? world_state : NULL,
            .restore = i == MP_SHARD_DATA ? world_restore : NULL,
            .ids_since = world_ids_since, .ctx = &w->contexts[i]
        };
        s = mp_replica_start(w->replica, i, err);
    }
    return s == MEMPHIS_OK ? mp_replica_ready(w->replica, &w->report, err) : s;
}

static inline void must_start(struct world *w)
{
    memphis_error err = { 0 };

    if (start(w, &err) != MEMPHIS_OK)
        fail_msg("the start says: %s", err.message);
}

static inline void stop(struct world *w)
{
    mp_replica_close(w->replica);
    w->replica = NULL;
    w->env->close(w->env);
    w->env = NULL;
    mp_mailbox_fini(&w->box);
}

/* The power goes: nothing more reaches the disk. */
static inline void crash(struct world *w, enum mp_disk_outcome outcome)
{
    mp_disk_crash_at(w->disk, 1);
    w->env->dir_sync(w->env, "", NULL); /* the operation that the crash hits */
    stop(w);
    mp_disk_crash(w->disk, outcome, 1);
}

static inline void world_free(struct world *w)
{
    if (w->env != NULL)
        stop(w);
    mp_disk_free(w->disk);
    free(w);
}

static inline void refuses_to_start(struct world *w, memphis_status expected,
                                    const char *name)
{
    memphis_error err = { 0 };

    assert_int_equal(start(w, &err), expected);
    if (strstr(err.message, name) == NULL)
        fail_msg("'%s' does not name %s", err.message, name);
    stop(w);
}

/* -- turns -- */

static inline uint64_t now_ns(const struct world *w)
{
    return w->replica->clock.broker_ns;
}

static inline void note_sizes(struct world *w)
{
    struct mp_replica_stats st;

    mp_replica_stats(w->replica, &st);
    if (st.log_bytes > w->log_bytes_most)
        w->log_bytes_most = st.log_bytes;
    if (st.wal_bytes > w->wal_bytes_most)
        w->wal_bytes_most = st.wal_bytes;
    if (st.cold_bytes > w->cold_bytes_most)
        w->cold_bytes_most = st.cold_bytes;
}

/* One turn of the core; returns how much mail there was. */
static inline size_t turn(struct world *w)
{
    size_t mail = mp_mailbox_drain(&w->box);

    mp_clock_tick(mp_replica_clock(w->replica));
    for (uint32_t i = 1; i <= 3; i++)
        mp_log_close_entry(mp_replica_log(w->replica, i));
    mp_replica_submit(w->replica, now_ns(w));
    note_sizes(w);
    return mail;
}

/* Until all is applied and no pass is under way. */
static inline void settle(struct world *w)
{
    for (int i = 0; i < 1000; i++) {
        turn(w);
        mp_mailbox_drain(&w->box);
        if (w->broken || (mp_replica_is_idle(w->replica) && !w->replica->is_flushing))
            return;
    }
    fail_msg("it does not come to rest");
}

/* A core that does only what it is asked for: it wakes up for mail, and at the times
 * that mp_replica_next_ns names. It must not spin. */
static inline void idle(struct world *w, uint64_t seconds)
{
    uint64_t end = now_ns(w) + seconds * SECOND_NS;
    int at_once = 0;

    while (!w->broken && now_ns(w) < end) {
        bool had_mail = turn(w) > 0;
        uint64_t next = mp_replica_next_ns(w->replica);
        at_once = had_mail || next > now_ns(w) ? 0 : at_once + 1;
        if (at_once > 50)
            fail_msg("the core spins");
        if (had_mail || next <= now_ns(w))
            continue;
        mp_mailbox_drain(&w->box);
        next = mp_replica_next_ns(w->replica);
        if (next > end)
            next = end;
        if (next > now_ns(w))
            mp_disk_advance(w->disk, next - now_ns(w));
        mp_clock_tick(mp_replica_clock(w->replica));
    }
}

/* -- appends -- */

static inline struct mp_log *data_log(const struct world *w)
{
    return mp_replica_log(w->replica, MP_SHARD_DATA);
}

static inline memphis_status append(struct world *w, uint32_t shard,
                                    const struct mp_entry *e)
{
    return mp_log_append(mp_replica_log(w->replica, shard), e, 1, 1);
}

static inline memphis_status change(struct world *w, uint32_t shard, uint32_t pid,
                                    uint8_t op)
{
    uint8_t payload[13] = { op };
    struct mp_entry e = { .type = MP_ENTRY_PARTITION, .pid = pid,
                          .payload = { payload, sizeof payload } };

    return append(w, shard, &e);
}

static inline void open_partition(struct world *w, uint32_t pid)
{
    assert_int_equal(change(w, MP_SHARD_DATA, pid, 1), MEMPHIS_OK);
}

static inline void drop_partition(struct world *w, uint32_t pid)
{
    assert_int_equal(change(w, MP_SHARD_DATA, pid, 3), MEMPHIS_OK);
}

/* Payload that says what it is: pid, size, seq, and a pattern. */
static inline void fill_payload(uint8_t *b, uint32_t pid, uint64_t seq, uint32_t size)
{
    mp_set_u32(b, pid);
    mp_set_u32(b + 4, size);
    mp_set_u64(b + 8, seq);
    for (uint32_t i = HEAD_SIZE; i < size; i++)
        b[i] = (uint8_t)(seq * 7 + i * (pid | 1));
}

/* `number` > 0: its message id. */
static inline memphis_status try_produce(struct world *w, uint32_t shard, uint32_t pid,
                                         uint32_t size, uint64_t number)
{
    uint8_t *b = malloc(size), id[8];
    uint64_t seq = w->next[pid];

    assert_true(size >= HEAD_SIZE);
    fill_payload(b, pid, seq, size);
    mp_set_u64(id, number);
    struct mp_entry e = { .type = MP_ENTRY_MESSAGE, .pid = pid, .seq = seq,
                          .time_ns = now_ns(w) + 1, .payload = { b, size },
                          .id = { id, number > 0 ? 8 : 0 } };
    memphis_status s = append(w, shard, &e);
    if (s == MEMPHIS_OK)
        w->next[pid]++;
    free(b);
    return s;
}

/* As the broker does: no input while the log is full. */
static inline void produce(struct world *w, uint32_t pid, uint32_t count, uint32_t size)
{
    for (uint32_t i = 0; i < count; i++) {
        for (int waits = 0; mp_log_is_full(data_log(w)); waits++) {
            turn(w);
            if (waits > 1000)
                fail_msg("input waits for ever");
        }
        assert_int_equal(try_produce(w, MP_SHARD_DATA, pid, size, 0), MEMPHIS_OK);
        if (i % 8 == 7)
            turn(w);
    }
    settle(w);
}

static inline memphis_status set_floor(struct world *w, uint32_t shard, uint32_t pid,
                                       uint64_t first)
{
    uint8_t payload[9] = { 0 };
    struct mp_entry e = { .type = MP_ENTRY_FLOOR, .pid = pid,
                          .payload = { payload, sizeof payload } };

    mp_set_u64(payload, first);
    return append(w, shard, &e);
}

static inline void delete_some(struct world *w, uint32_t pid, uint64_t first,
                               uint8_t count)
{
    uint8_t payload[3] = { 1, 0, count };
    struct mp_entry e = { .type = MP_ENTRY_DELETE, .pid = pid, .seq = first,
                          .payload = { payload, sizeof payload } };

    assert_int_equal(append(w, MP_SHARD_DATA, &e), MEMPHIS_OK);
}

static inline memphis_status progress(struct world *w, uint32_t pid, uint64_t value)
{
    struct mp_entry e = { .type = MP_ENTRY_GROUP, .pid = pid, .seq = value };

    return append(w, MP_SHARD_DATA, &e);
}

/* What is in memory goes to segments now. */
static inline void flush(struct world *w)
{
    struct mp_partitions *t = &mp_shard_of(w->replica, MP_SHARD_DATA)->partitions;
    struct mp_partition *p;

    settle(w);
    w->replica->wants_flush = true;
    settle(w);
    for (uint32_t i = 0; (p = mp_partitions_next(t, &i)) != NULL;)
        assert_true(p->touched_index <= p->flushed_index);
}

/* -- reads -- */

static inline memphis_status read_at(struct world *w, uint32_t shard, uint32_t pid,
                                     uint64_t seq, struct mp_stored *m)
{
    struct mp_log *log = mp_replica_log(w->replica, shard);
    memphis_status s = mp_log_read(log, pid, seq, m);

    for (int i = 0; i < 1000 && s == MP_PENDING; i++) {
        mp_mailbox_drain(&w->box);
        s = mp_log_read(log, pid, seq, m);
    }
    return s;
}

static inline void check_message(const struct mp_stored *m, uint32_t pid, uint64_t seq)
{
    const uint8_t *b = m->entry.payload.data;
    size_t size = m->entry.payload.size;
    uint8_t *expected = malloc(size);

    assert_int_equal(m->entry.seq, seq);
    assert_true(size >= HEAD_SIZE);
    fill_payload(expected, pid, seq, (uint32_t)size);
    assert_memory_equal(b, expected, size);
    free(expected);
}

/* Exactly the messages first..last are there, and nothing behind them. */
static inline void expect_range(struct world *w, uint32_t pid, uint64_t first,
                                uint64_t last)
{
    struct mp_stored m;

    for (uint64_t seq = first; seq <= last; seq++) {
        memphis_status s = read_at(w, MP_SHARD_DATA, pid, seq, &m);
        if (s != MEMPHIS_OK)
            fail_msg("message %d of %u: status %d", (int)seq, pid, (int)s);
        check_message(&m, pid, seq);
        mp_stored_release(&m);
        note_sizes(w);
    }
    assert_int_equal(read_at(w, MP_SHARD_DATA, pid, last + 1, &m), MEMPHIS_NOT_FOUND);
}

/* -- files -- */

struct name_count {
    const char *part, *suffix;
    int count;
};

static inline void count_name(void *ctx, const char *name, uint64_t size)
{
    struct name_count *c = ctx;
    size_t length = strlen(name), suffix = strlen(c->suffix);

    (void)size;
    c->count += strstr(name, c->part) != NULL && length >= suffix &&
                strcmp(name + length - suffix, c->suffix) == 0;
}

static inline int count_files(const struct world *w, const char *part,
                              const char *suffix)
{
    struct name_count c = { part, suffix, 0 };

    mp_disk_each(w->disk, count_name, &c);
    return c.count;
}

#endif
