/* The world of the crash simulation: a model, a broker's log on a disk that forgets,
 * the workload, and the comparison of the two. See test_crash.c. */
#ifndef TEST_SIM_WORLD_H
#define TEST_SIM_WORLD_H

#include "support/test.h"

#include "base/enc.h"
#include "base/limits.h"
#include "base/status.h"
#include "base/str.h"
#include "env/env_mem.h"
#include "replica/solo.h"
#include "store/wal.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum {
    STEPS = 90,               /* of the workload, per seed */
    PARTITIONS_USUAL = 8,     /* pids 1..8 are opened and dropped, each once */
    PARTITIONS = 40,          /* in a wide world: a pass syncs all of them at once */
    MESSAGES_MAX = 400,
    IDS_MAX = 512,            /* sequences of a partition */
    OPS_MAX = 2000
};

/* -- the model --------------------------------------------------------------------- */

struct stored {
    uint64_t seq;
    uint32_t crc, size;
};

struct partition {
    bool is_open;
    uint64_t last, floor;
    struct stored messages[MESSAGES_MAX]; /* live ones, ascending */
    uint32_t count;
    uint64_t groups;          /* a running hash of the group entries */
    uint64_t ids[IDS_MAX / 64]; /* a bit per sequence whose message had an id */
};

struct state {
    uint64_t meta;            /* a running hash of the metadata entries */
    uint64_t meta_count;
    struct partition partitions[PARTITIONS + 1]; /* last: most worlds have few */
};

enum kind { OPEN, DROP, MESSAGE, GROUP, PAIR, FLOOR, DELETE, META };

struct op {
    enum kind kind;
    uint32_t pid, size, length;
    uint64_t seq;
    uint64_t index;           /* of its record in the log, once applied */
    bool has_id;
    bool is_applied, is_refused;
};

static uint64_t mix(uint64_t h, uint64_t v)
{
    h = (h ^ v) * 0x9e3779b97f4a7c15ull;
    return h ^ h >> 29;
}

static const uint8_t *payload_of(const struct op *op)
{
    static uint8_t bytes[70000];

    for (uint32_t i = 0; i < op->size; i++)
        bytes[i] = (uint8_t)(op->seq * 31 + op->pid * 7 + i * (op->seq | 1));
    return bytes;
}

static void set_bit(uint64_t *bits, uint64_t n)
{
    assert_true(n < IDS_MAX);
    bits[n / 64] |= 1ull << n % 64;
}

static bool has_bit(const uint64_t *bits, uint64_t n)
{
    return (bits[n / 64] >> n % 64 & 1) != 0;
}

static void model_message(struct partition *p, const struct op *op)
{
    assert_true(p->count < MESSAGES_MAX);
    if (op->has_id)
        set_bit(p->ids, op->seq);
    p->messages[p->count++] = (struct stored){
        op->seq, mp_crc32c(0, payload_of(op), op->size), op->size
    };
    p->last = op->seq;
}

static void model_remove(struct partition *p, uint64_t from, uint64_t to)
{
    uint32_t kept = 0;

    for (uint32_t i = 0; i < p->count; i++)
        if (p->messages[i].seq < from || p->messages[i].seq >= to)
            p->messages[kept++] = p->messages[i];
    p->count = kept;
}

static void model_apply(struct state *s, const struct op *op)
{
    struct partition *p = &s->partitions[op->pid];

    if (op->kind == META) {
        s->meta = mix(s->meta, op->seq);
        s->meta_count++;
        return;
    }
    if (op->kind == OPEN)
        *p = (struct partition){ .is_open = true, .floor = 1 };
    if (!p->is_open)
        return;
    if (op->kind == DROP)
        *p = (struct partition){ .floor = 1 }; /* a pid is never used again */
    if (op->kind == MESSAGE || op->kind == PAIR)
        model_message(p, op);
    if (op->kind == GROUP || op->kind == PAIR)
        p->groups = mix(p->groups, op->seq);
    if (op->kind == FLOOR)
        model_remove(p, 0, op->seq);
    if (op->kind == DELETE)
        model_remove(p, op->seq, op->seq + op->length);
}

static void copy_state(struct state *to, const struct state *from, uint32_t pids)
{
    memcpy(to, from,
           offsetof(struct state, partitions) + (pids + 1) * sizeof *from->partitions);
}

/* -- the world --------------------------------------------------------------------- */

struct sink {
    struct world *world;
    uint32_t shard;
};

struct world {
    uint64_t seed, random;
    uint32_t pids;            /* partitions 1..pids */
    uint32_t steps;           /* of the workload */
    uint32_t drop_in;         /* one append in so many drops a partition; 0: none */
    uint32_t sync;            /* MP_SYNC_* */
    struct mp_disk *disk;
    struct mp_mailbox box;
    struct mp_env *env;
    struct mp_replica *replica;
    struct sink sinks[4];
    bool is_broken;
    bool is_full;             /* the disk has a limit */
    bool accepts;             /* starts accept a loss */
    bool is_lossy;            /* some messages are told to be lost */
    bool keeps;               /* the history is never cut */
    bool is_weak;             /* the power went: what was not synced may be gone */

    /* Without a sync of each batch: what is promised all the same. */
    uint32_t sure[2];         /* ops of data, of metadata */
    uint32_t marked[2];       /* those that are sure when the log is synced up to: */
    uint64_t mark;

    struct op ops[OPS_MAX];   /* the history; an op's tag is its number + 1 */
    uint32_t ops_count;
    uint64_t refused;         /* appends, at once */
    bool was_refused;         /* some of them: `all` is to be made again */
    uint32_t base_count;

    /* What the sinks know: their part of the state, by apply, state and restore. */
    uint64_t groups[PARTITIONS + 1];
    uint64_t is_open;         /* a bit per pid */
    uint64_t ids[PARTITIONS + 1][IDS_MAX / 64];
    uint64_t since[PARTITIONS + 1]; /* ids matter from that time on; never falls */
    uint64_t meta, meta_count, meta_index;
    uint64_t start_index;     /* of shard 1: replay up to it is known already */
    uint64_t safe_meta, safe_count, safe_index; /* "in SQLite" */
    char failure[512];

    /* Last, so that a copy takes no more of them than there is. */
    struct state all;         /* after all ops: what the next append assumes */
    struct state base;        /* after ops[0..base_count) */
};

static void copy_world(struct world *to, const struct world *from)
{
    memcpy(to, from, offsetof(struct world, all));
    copy_state(&to->all, &from->all, from->pids);
    copy_state(&to->base, &from->base, from->pids);
}

static uint64_t next_random(uint64_t *state)
{
    uint64_t z = *state += 0x9e3779b97f4a7c15ull;

    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ z >> 27) * 0x94d049bb133111ebull;
    return z ^ z >> 31;
}

static uint64_t draw(struct world *w, uint64_t n)
{
    return next_random(&w->random) % n;
}

#define fail_if(w, condition, ...)                                                     \
    do {                                                                               \
        if ((condition) && (w)->failure[0] == 0)                                       \
            snprintf((w)->failure, sizeof(w)->failure, __VA_ARGS__);                   \
    } while (0)

static void note_id(struct world *w, const struct mp_entry *e)
{
    fail_if(w, e->id.size != 8 || mp_get_u64(e->id.data) != e->seq,
            "pid %u: the id of message %d is wrong", e->pid, (int)e->seq);
    if (w->is_open >> e->pid & 1)
        set_bit(w->ids[e->pid], e->seq);
}

static void on_apply(void *ctx, uint64_t index, uint64_t time_ns,
                     const struct mp_entry *entries, size_t n, uint64_t tag)
{
    struct sink *s = ctx;
    struct world *w = s->world;

    (void)time_ns;
    for (size_t i = 0; i < n; i++) {
        const struct mp_entry *e = &entries[i];
        /* Replay tells of a partition that is gone, too: its open entry may be
           below. */
        if (e->type == MP_ENTRY_GROUP && e->pid <= PARTITIONS &&
            (w->is_open >> e->pid & 1))
            w->groups[e->pid] = mix(w->groups[e->pid], e->seq);
        if ((e->type == MP_ENTRY_MESSAGE || e->type == MP_ENTRY_ID) && e->id.size > 0)
            note_id(w, e);
        if (e->type == MP_ENTRY_PARTITION && e->pid <= PARTITIONS) {
            if (*(const uint8_t *)e->payload.data == 1) {
                w->is_open |= 1ull << e->pid; /* a start may tell it twice */
                continue;
            }
            w->groups[e->pid] = 0;
            memset(w->ids[e->pid], 0, sizeof w->ids[e->pid]);
            w->is_open &= ~(1ull << e->pid);
        }
        if (e->type == MP_ENTRY_META && index > w->start_index) {
            w->meta = mix(w->meta, e->seq);
            w->meta_count++;
        }
    }
    if (s->shard == MP_SHARD_META && index > w->meta_index)
        w->meta_index = index;
    if (tag > 0) {
        w->ops[tag - 1].is_applied = true;
        w->ops[tag - 1].index = index;
    }
}

static void on_failed(void *ctx, uint64_t tag, memphis_status status)
{
    struct world *w = ((struct sink *)ctx)->world;

    if (status != MEMPHIS_NO_SPACE)
        return; /* its fate is unknown */
    w->ops[tag - 1].is_refused = true;
    w->was_refused = true;
}

static uint64_t on_ids_since(void *ctx, uint32_t pid)
{
    return ((struct sink *)ctx)->world->since[pid];
}

static void on_state(void *ctx, uint32_t pid, struct mp_buf *out)
{
    struct sink *s = ctx;
    uint64_t v = pid == 0 ? s->world->is_open : s->world->groups[pid];

    if (s->shard == MP_SHARD_DATA && v != 0) {
        mp_buf_put_u16(out, 1);
        mp_buf_put_u32(out, 8);
        mp_buf_put_u64(out, v);
    }
}

static memphis_status on_restore(void *ctx, uint32_t pid, uint64_t index,
                                 memphis_slice state, memphis_error *err)
{
    struct sink *s = ctx;
    struct mp_cursor c = mp_cursor_of(state);

    (void)index, (void)err;
    while (mp_cursor_left(&c) > 0) {
        uint16_t tag = mp_cursor_u16(&c);
        memphis_slice v = mp_cursor_take(&c, mp_cursor_u32(&c));
        if (tag == 1 && pid == 0 && v.size == 8)
            s->world->is_open = mp_get_u64(v.data);
        else if (tag == 1 && pid <= PARTITIONS && v.size == 8)
            s->world->groups[pid] = mp_get_u64(v.data);
    }
    return c.bad ? MEMPHIS_CORRUPT : MEMPHIS_OK;
}

static void on_broken(void *ctx, const memphis_error *why)
{
    struct world *w = ctx;

    (void)why;
    w->is_broken = true;
}

/* The catalogue, which has a copy of its own, knows which partitions there are. */
static void on_partitions(void *ctx, void (*fn)(void *to, const struct mp_entry *open),
                          void *to)
{
    const struct world *w = ctx;
    uint8_t row[13] = { 1 };

    for (uint32_t pid = 1; pid <= w->pids; pid++) {
        struct mp_entry e = { .type = MP_ENTRY_PARTITION,
                              .pid = pid,
                              .payload = mp_slice(row, sizeof row) };
        if (w->all.partitions[pid].is_open)
            fn(to, &e);
    }
}

/* -- start and stop ---------------------------------------------------------------- */

static void set_limit(struct world *w, uint64_t bytes)
{
    w->is_full = bytes != UINT64_MAX;
    mp_disk_limit(w->disk, bytes);
}

static memphis_status start(struct world *w, memphis_error *err)
{
    struct mp_recovery_report report;

    memset(w->groups, 0, sizeof w->groups);
    memset(w->ids, 0, sizeof w->ids);
    set_limit(w, UINT64_MAX);
    w->is_open = 0;
    w->meta = w->safe_meta;
    w->meta_count = w->safe_count;
    w->meta_index = w->start_index = w->safe_index;
    w->is_broken = false;
    mp_mailbox_init(&w->box, NULL, NULL);
    w->env = mp_env_mem_open(w->disk, NULL);
    w->env->mailbox = &w->box;
    w->mark = 0;
    struct mp_replica_options o = {
        .env = w->env, .broken = on_broken, .ctx = w,
        .accept_loss = w->accepts, .partitions = on_partitions,
        .sync = w->sync, .sync_interval_ms = 500,
        .wal_file_min = 32 << 10, .wal_file_max = 64 << 10, .wal_total_max = 192 << 10,
        .segment_size = 16 << 10, .chunk_size = 2 << 10, .memory_max = 64 << 10
    };
    memphis_status s = mp_replica_open(&o, &w->replica, err);
    for (uint32_t i = 1; i <= 3 && s == MEMPHIS_OK; i++) {
        w->sinks[i] = (struct sink){ w, i };
        mp_replica_log(w->replica, i)->sink = (struct mp_log_sink){
            .apply = on_apply, .failed = on_failed, .state = on_state,
            .restore = on_restore, .ids_since = on_ids_since, .ctx = &w->sinks[i]
        };
        s = mp_replica_start(w->replica, i, err);
        if (s == MEMPHIS_OK && i == MP_SHARD_META)
            (void)mp_replica_meta_ahead(w->replica, w->safe_index);
    }
    return s == MEMPHIS_OK ? mp_replica_ready(w->replica, &report, err) : s;
}

static void stop(struct world *w)
{
    mp_replica_close(w->replica);
    w->replica = NULL;
    w->env->close(w->env);
    mp_mailbox_fini(&w->box);
}

static uint32_t acknowledged(const struct world *w, bool meta);

/* What is synced is promised: it is asked for only while no sync can have failed. */
static void note_sure(struct world *w)
{
    const struct mp_wal *wal = w->replica->wal;

    if (w->sync == MP_SYNC_ALWAYS || w->is_broken || mp_disk_has_crashed(w->disk))
        return;
    if (w->mark > 0 && mp_wal_durable_upto(wal) < w->mark)
        return;
    if (w->mark > 0)
        memcpy(w->sure, w->marked, sizeof w->sure);
    w->mark = mp_wal_end(wal);
    w->marked[0] = acknowledged(w, false);
    w->marked[1] = acknowledged(w, true);
}

static void turn(struct world *w)
{
    struct mp_clock *clock = mp_replica_clock(w->replica);

    mp_mailbox_drain(&w->box);
    note_sure(w);
    mp_clock_tick(clock);
    for (uint32_t i = 1; i <= 3; i++)
        mp_log_close_entry(mp_replica_log(w->replica, i));
    mp_replica_submit(w->replica, clock->broker_ns);
}

/* Until everything that was appended is applied. */
static void settle(struct world *w)
{
    set_limit(w, UINT64_MAX);
    do {
        mp_disk_advance(w->disk, 100000000);
        turn(w);
        mp_mailbox_drain(&w->box);
    } while (!mp_replica_is_idle(w->replica) && !w->is_broken);
}

/* -- the workload ------------------------------------------------------------------ */

static size_t build_entries(const struct op *op, struct mp_entry e[2], uint8_t *small)
{
    e[0] = (struct mp_entry){ .pid = op->pid, .seq = op->seq, .time_ns = 1 + op->seq };
    switch (op->kind) {
    case OPEN:
    case DROP:
        memset(small, 0, 13);
        small[0] = op->kind == OPEN ? 1 : 3;
        e[0].type = MP_ENTRY_PARTITION;
        e[0].payload = (memphis_slice){ small, 13 };
        return 1;
    case GROUP:
        e[0].type = MP_ENTRY_GROUP;
        return 1;
    case FLOOR:
        mp_set_u64(small, op->seq);
        small[8] = 4;
        e[0].type = MP_ENTRY_FLOOR;
        e[0].payload = (memphis_slice){ small, 9 };
        return 1;
    case DELETE:
        small[0] = 1;
        small[1] = 0;
        small[2] = (uint8_t)op->length;
        e[0].type = MP_ENTRY_DELETE;
        e[0].payload = (memphis_slice){ small, 3 };
        return 1;
    case META:
        e[0].type = MP_ENTRY_META;
        return 1;
    default:
        e[0].type = MP_ENTRY_MESSAGE;
        e[0].payload = (memphis_slice){ payload_of(op), op->size };
        e[1] = (struct mp_entry){ .type = MP_ENTRY_GROUP, .pid = op->pid,
                                  .seq = op->seq };
        if (op->kind == PAIR)
            e[0].flags = MP_ENTRY_CHAINED;
        if (op->has_id) {
            mp_set_u64(small, op->seq);
            e[0].id = mp_slice(small, 8);
        }
        return op->kind == PAIR ? 2 : 1;
    }
}

/* What was given back for lack of room never happened. */
static void forget_refused(struct world *w)
{
    if (!w->was_refused)
        return;
    w->was_refused = false;
    copy_state(&w->all, &w->base, w->pids);
    for (uint32_t i = w->base_count; i < w->ops_count; i++)
        if (!w->ops[i].is_refused)
            model_apply(&w->all, &w->ops[i]);
}

static void append(struct world *w, struct op op)
{
    struct mp_entry e[2];
    uint8_t small[16];
    size_t n = build_entries(&op, e, small);
    uint32_t shard = op.kind == META ? MP_SHARD_META : MP_SHARD_DATA;

    assert_true(w->ops_count < OPS_MAX);
    w->ops[w->ops_count] = op;
    memphis_status s = mp_log_append(mp_replica_log(w->replica, shard), e, n,
                                     w->ops_count + 1);
    if (s != MEMPHIS_OK) {
        w->refused++;
        return; /* it never happened */
    }
    w->ops_count++;
    model_apply(&w->all, &op);
}

static void random_append(struct world *w)
{
    static const enum kind kinds[] = { MESSAGE, MESSAGE, MESSAGE, MESSAGE, MESSAGE,
                                       MESSAGE, PAIR, GROUP, FLOOR, DELETE, META };
    uint32_t pid = 1 + (uint32_t)draw(w, draw(w, 2) ? w->pids : 2);
    forget_refused(w);
    struct partition *p = &w->all.partitions[pid];
    struct op op = { .kind = kinds[draw(w, sizeof kinds / sizeof kinds[0])],
                     .pid = pid };

    if (op.kind != META && !p->is_open) {
        if (p->floor != 0)
            return;
        op.kind = OPEN;
    } else if (w->drop_in > 0 && draw(w, w->drop_in) == 0) {
        op.kind = DROP;
    }
    op.seq = p->last + 1;
    op.size = (uint32_t)draw(w, 500);
    op.has_id = draw(w, 3) == 0 && (op.kind == MESSAGE || op.kind == PAIR) &&
                op.seq < IDS_MAX;
    if (draw(w, 12) == 0)
        op.size = (uint32_t)draw(w, 9000);
    if (op.kind == META) {
        op.pid = 0;
        op.seq = w->all.meta_count + 1;
    }
    if (op.kind == FLOOR)
        op.seq = p->last > 0 ? 1 + draw(w, p->last + 1) : 1;
    if (op.kind == DELETE) {
        op.seq = 1 + draw(w, p->last + 1);
        op.length = 1 + (uint32_t)draw(w, 5);
        uint64_t left = p->last + 1 - op.seq;
        if (w->keeps && left == 0)
            return;
        if (w->keeps && op.length > left)
            op.length = (uint32_t)left; /* see may_be_back */
    }
    append(w, op);
}

/* All partitions get a message before the turn ends: the pass that follows has them
 * all. */
static void append_to_all(struct world *w)
{
    forget_refused(w);
    for (uint32_t pid = 1; pid <= w->pids; pid++) {
        const struct partition *p = &w->all.partitions[pid];
        if (!p->is_open && p->floor == 0)
            append(w, (struct op){ .kind = OPEN, .pid = pid });
        if (p->is_open)
            append(w, (struct op){ .kind = MESSAGE,
                                   .pid = pid,
                                   .seq = p->last + 1,
                                   .size = 150 + (uint32_t)draw(w, 150) });
    }
}

static void compare(struct world *w, const char *when);

/* The metadata worker completes a checkpoint of what it has applied. */
static void checkpoint_meta(struct world *w)
{
    w->safe_meta = w->meta;
    w->safe_count = w->meta_count;
    w->safe_index = w->meta_index;
    mp_replica_meta_safe(w->replica, w->safe_index);
}

static void step(struct world *w, memphis_error *err)
{
    uint64_t what = draw(w, 100);

    if (w->pids == PARTITIONS && draw(w, 5) == 0) {
        append_to_all(w);
    } else if (what < 70) {
        uint64_t n = 1 + draw(w, 4);
        for (uint64_t i = 0; i < n; i++)
            random_append(w);
    } else if (what < 74) {
        mp_disk_advance(w->disk, 600000000ull * draw(w, 4));
    } else if (what < 78) {
        checkpoint_meta(w);
    } else if (what < 82) {
        uint64_t pid = 1 + draw(w, w->pids), back = draw(w, 40);
        uint64_t time = w->all.partitions[pid].last + 2;
        if (time > back && time - back > w->since[pid])
            w->since[pid] = time - back;
    } else if (what < 85) {
        set_limit(w, mp_disk_used(w->disk) + draw(w, 60000));
    } else if (what < 92) {
        set_limit(w, UINT64_MAX);
        mp_disk_advance(w->disk, 1100000000);
    } else if (what < 93) {
        if (w->is_full || w->keeps)
            settle(w); /* else the stop may have to give appends up */
        stop(w);
        memphis_status s = start(w, err);
        if (s == MEMPHIS_OK && !mp_disk_has_crashed(w->disk))
            compare(w, "after a restart"); /* the stop may have failed */
        else
            w->is_broken = true;
        return;
    }
    if (draw(w, 3) > 0)
        turn(w);
}

/* What the histories without a crash have reached: it is printed, and none is 0. */
static struct {
    uint64_t sealed, removed, most_in_one; /* segments */
    uint64_t refused;                      /* appends, the disk being full */
} reached;

struct segments {
    uint64_t sealed, all, of_pid[PARTITIONS + 1];
};

static void count_segment(void *ctx, const char *name, uint64_t size)
{
    struct segments *s = ctx;
    const char *end = name + strlen(name) - 4;
    unsigned pid = 0;

    (void)size;
    s->sealed += strlen(name) > 4 && strcmp(end, ".idx") == 0;
    if (strlen(name) <= 4 || strcmp(end, ".seg") != 0 ||
        sscanf(name, "s/00000002/%x/", &pid) != 1 || pid > PARTITIONS)
        return;
    s->all++;
    s->of_pid[pid]++;
}

static void note_reached(const struct world *w, struct segments *before)
{
    struct segments now = { .all = 0 };

    mp_disk_each(w->disk, count_segment, &now);
    reached.sealed += now.sealed > before->sealed ? now.sealed - before->sealed : 0;
    reached.removed += now.all < before->all ? before->all - now.all : 0;
    for (uint32_t pid = 1; pid <= PARTITIONS; pid++)
        if (now.of_pid[pid] > reached.most_in_one)
            reached.most_in_one = now.of_pid[pid];
    *before = now;
}

static void run_steps(struct world *w, uint32_t steps, bool note, memphis_error *err)
{
    struct segments before = { .all = 0 };

    for (uint32_t i = 0; i < steps && !w->is_broken && w->replica != NULL; i++) {
        step(w, err);
        if (note)
            note_reached(w, &before);
    }
    for (uint32_t i = 0; i < w->ops_count && note; i++)
        reached.refused += w->ops[i].is_refused;
    reached.refused += note ? w->refused : 0;
}

/* -- the comparison ---------------------------------------------------------------- */

static memphis_status read_at(struct world *w, uint32_t pid, uint64_t seq,
                              struct mp_stored *m)
{
    struct mp_log *log = mp_replica_log(w->replica, MP_SHARD_DATA);
    memphis_status s = mp_log_read(log, pid, seq, m);

    for (int i = 0; i < 1000 && s == MP_PENDING; i++) {
        mp_mailbox_drain(&w->box);
        s = mp_log_read(log, pid, seq, m);
    }
    return s;
}

/* Behind what is known to be lost; none of that is the message at `next`. */
static memphis_status read_on(struct world *w, uint32_t pid, uint64_t seq,
                              uint64_t next, struct mp_stored *m)
{
    memphis_status s = read_at(w, pid, seq, m);

    while (w->is_lossy && s == MEMPHIS_CORRUPT && m->entry.seq < next)
        s = read_at(w, pid, m->entry.seq + 1, m);
    return s;
}

/* Whether the broker holds exactly these messages. */
static bool same_messages(struct world *w, uint32_t pid, const struct partition *p,
                          char *why, size_t why_size)
{
    struct mp_log *log = mp_replica_log(w->replica, MP_SHARD_DATA);
    uint64_t seq = 1;
    struct mp_stored m;

    if (p->is_open && mp_log_last(log, pid) != p->last) {
        snprintf(why, why_size, "pid %u: last %d, not %d", pid,
                 (int)mp_log_last(log, pid), (int)p->last);
        return false;
    }
    for (uint32_t i = 0; i < p->count; i++, seq = m.entry.seq + 1) {
        memphis_status s = read_on(w, pid, seq, p->messages[i].seq, &m);
        if (s != MEMPHIS_OK) {
            snprintf(why, why_size, "pid %u: message %d: status %d", pid,
                     (int)p->messages[i].seq, (int)s);
            return false;
        }
        bool same = m.entry.seq == p->messages[i].seq &&
                    m.entry.payload.size == p->messages[i].size &&
                    mp_crc32c(0, m.entry.payload.data, m.entry.payload.size) ==
                        p->messages[i].crc;
        mp_stored_release(&m);
        if (!same) {
            snprintf(why, why_size, "pid %u: message %d came as %d", pid,
                     (int)p->messages[i].seq, (int)m.entry.seq);
            return false;
        }
    }
    if (read_on(w, pid, seq, UINT64_MAX, &m) != MEMPHIS_NOT_FOUND) {
        snprintf(why, why_size, "pid %u: there is one more message at %d", pid,
                 (int)seq);
        return false;
    }
    struct mp_log_stats st;
    mp_log_stats(log, pid, &st);
    if (w->is_lossy ? st.messages < p->count : st.messages != p->count) {
        snprintf(why, why_size, "pid %u: %d messages are counted, not %d", pid,
                 (int)st.messages, (int)p->count);
        return false;
    }
    return true;
}

static bool holds(const struct partition *p, uint64_t seq)
{
    for (uint32_t i = 0; i < p->count; i++)
        if (p->messages[i].seq == seq)
            return true;
    return false;
}

/* A message that is lost takes its id along, sooner or later. */
static bool same_ids(const struct world *w, uint32_t pid, const struct partition *p,
                     char *why, size_t size)
{
    for (uint64_t seq = 1; seq < IDS_MAX && p->is_open; seq++) {
        bool has = has_bit(w->ids[pid], seq), had = has_bit(p->ids, seq);
        bool is_needed = 1 + seq >= w->since[pid] && (!w->is_lossy || holds(p, seq));
        if ((has && !had) || (had && !has && is_needed)) {
            snprintf(why, size, "pid %u: the id of message %d is %s", pid, (int)seq,
                     has ? "invented" : "forgotten");
            return false;
        }
    }
    return true;
}

static bool same_state(struct world *w, const struct state *s, char *why, size_t size)
{
    if (w->meta != s->meta || w->meta_count != s->meta_count) {
        snprintf(why, size, "metadata: %d commands, not %d", (int)w->meta_count,
                 (int)s->meta_count);
        return false;
    }
    for (uint32_t pid = 1; pid <= w->pids; pid++) {
        if (w->groups[pid] != s->partitions[pid].groups) {
            snprintf(why, size, "pid %u: the groups differ", pid);
            return false;
        }
        if ((w->is_open >> pid & 1) != s->partitions[pid].is_open) {
            snprintf(why, size, "pid %u: open is %d", pid,
                     (int)(w->is_open >> pid & 1));
            return false;
        }
        if (!same_messages(w, pid, &s->partitions[pid], why, size) ||
            !same_ids(w, pid, &s->partitions[pid], why, size))
            return false;
    }
    return true;
}

/* Shard 1 and shard 2 have logs of their own: a prefix of each. */
static bool is_meta(const struct op *op)
{
    return op->kind == META;
}

static uint32_t acknowledged(const struct world *w, bool meta)
{
    uint32_t count = 0;

    for (uint32_t i = 0; i < w->ops_count; i++)
        if (is_meta(&w->ops[i]) == meta && (i < w->base_count || w->ops[i].is_applied))
            count = i + 1;
    return count;
}

static uint32_t promised(const struct world *w, bool meta)
{
    return w->is_weak ? w->sure[meta] : acknowledged(w, meta);
}

/* The state after the ops below `data` and the metadata ops below `meta`. */
static void state_after(const struct world *w, uint32_t data, uint32_t meta,
                        struct state *s)
{
    copy_state(s, &w->base, w->pids);
    for (uint32_t i = w->base_count; i < w->ops_count; i++)
        if (i < (is_meta(&w->ops[i]) ? meta : data) && !w->ops[i].is_refused)
            model_apply(s, &w->ops[i]);
}

/* Finds the prefix that the broker holds, and makes it the history. */
static void compare(struct world *w, const char *when)
{
    static struct state s;
    uint32_t meta = promised(w, true), data = promised(w, false);
    char why[200] = "", first[200] = "";

    for (; meta < w->ops_count; meta++) {
        state_after(w, data, meta, &s);
        if (w->meta_count == s.meta_count)
            break;
    }
    for (; data <= w->ops_count; data++) {
        state_after(w, data, meta, &s);
        if (same_state(w, &s, why, sizeof why))
            break;
        if (first[0] == 0)
            memcpy(first, why, sizeof first);
    }
    fail_if(w, data > w->ops_count,
            "%s: no prefix of the history matches; with all that "
            "was acknowledged: %s; with everything: %s",
            when, first, why);
    w->is_weak = false;
    copy_state(&w->all, &s, w->pids);
    w->was_refused = false;
    if (w->keeps)
        return; /* everything was settled before */
    copy_state(&w->base, &s, w->pids);
    w->base_count = w->ops_count = 0;
    w->sure[0] = w->sure[1] = 0;
    w->mark = 0;
}

#endif
