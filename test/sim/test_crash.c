/* The crash simulation: a workload over mp_replica on a disk that forgets.
 *
 * A history of appends is written down beside the broker. The workload is crashed at
 * each operation of the disk in turn; for each way in which unsynced bytes and names
 * may have survived, the broker is started again (and that start crashed, too), and
 * what it holds is compared with the model: it must be the state after a prefix of the
 * history that contains everything acknowledged. So nothing acknowledged is lost,
 * nothing is invented, order is kept, and what was appended together stays together.
 *
 *   test_crash               all seeds
 *   test_crash SEED [N]      one seed; only the crash at operation N
 */
#include "support/test.h"

#include "base/enc.h"
#include "base/limits.h"
#include "base/status.h"
#include "base/str.h"
#include "env/env_mem.h"
#include "replica/solo.h"

#include <stdio.h>
#include <stdlib.h>

enum {
    STEPS = 90,               /* of the workload, per seed */
    PARTITIONS = 8,           /* pids 1..8 are opened and dropped, each once */
    MESSAGES_MAX = 400,
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
};

struct state {
    struct partition partitions[PARTITIONS + 1];
    uint64_t meta;            /* a running hash of the metadata entries */
    uint64_t meta_count;
};

enum kind { OPEN, DROP, MESSAGE, GROUP, PAIR, FLOOR, DELETE, META };

struct op {
    enum kind kind;
    uint32_t pid, size, length;
    uint64_t seq;
    bool is_applied;
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

static void model_message(struct partition *p, const struct op *op)
{
    assert_true(p->count < MESSAGES_MAX);
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

/* -- the world --------------------------------------------------------------------- */

struct sink {
    struct world *world;
    uint32_t shard;
};

struct world {
    uint64_t seed, random;
    struct mp_disk *disk;
    struct mp_mailbox box;
    struct mp_env *env;
    struct mp_replica *replica;
    struct sink sinks[4];
    bool is_broken;

    struct op ops[OPS_MAX];   /* the history; an op's tag is its number + 1 */
    uint32_t ops_count;
    struct state all;         /* after all of them: what the next append assumes */
    struct state base;        /* after ops[0..base_count) */
    uint32_t base_count;

    /* What the sinks know: their part of the state, by apply, state and restore. */
    uint64_t groups[PARTITIONS + 1];
    uint64_t is_open;         /* a bit per pid */
    uint64_t meta, meta_count, meta_index;
    uint64_t start_index;     /* of shard 1: replay up to it is known already */
    uint64_t safe_meta, safe_count, safe_index; /* "in SQLite" */
    char failure[512];
};

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
        if (e->type == MP_ENTRY_GROUP && e->pid <= PARTITIONS && (w->is_open >> e->pid &
        1)) w->groups[e->pid] = mix(w->groups[e->pid], e->seq);
        if (e->type == MP_ENTRY_PARTITION && e->pid <= PARTITIONS) {
            bool is_open = *(const uint8_t *)e->payload.data == 1;
            w->groups[e->pid] = 0;
            w->is_open &= ~(1ull << e->pid);
            w->is_open |= (uint64_t)is_open << e->pid;
        }
        if (e->type == MP_ENTRY_META && index > w->start_index) {
            w->meta = mix(w->meta, e->seq);
            w->meta_count++;
        }
    }
    if (s->shard == MP_SHARD_META && index > w->meta_index)
        w->meta_index = index;
    if (tag > 0)
        w->ops[tag - 1].is_applied = true;
}

static void on_failed(void *ctx, uint64_t tag, memphis_status status)
{
    (void)ctx, (void)tag, (void)status;
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

/* -- start and stop ---------------------------------------------------------------- */

static memphis_status start(struct world *w, memphis_error *err)
{
    struct mp_recovery_report report;

    memset(w->groups, 0, sizeof w->groups);
    w->is_open = 0;
    w->meta = w->safe_meta;
    w->meta_count = w->safe_count;
    w->meta_index = w->start_index = w->safe_index;
    w->is_broken = false;
    mp_mailbox_init(&w->box, NULL, NULL);
    w->env = mp_env_mem_open(w->disk, NULL);
    w->env->mailbox = &w->box;
    struct mp_replica_options o = {
        .env = w->env, .broken = on_broken, .ctx = w,
        .wal_file_min = 32 << 10, .wal_file_max = 64 << 10, .wal_total_max = 192 << 10,
        .segment_size = 32 << 10, .chunk_size = 4 << 10, .memory_max = 128 << 10
    };
    memphis_status s = mp_replica_open(&o, &w->replica, err);
    for (uint32_t i = 1; i <= 3 && s == MEMPHIS_OK; i++) {
        w->sinks[i] = (struct sink){ w, i };
        mp_replica_log(w->replica, i)->sink = (struct mp_log_sink){
            .apply = on_apply, .failed = on_failed, .state = on_state,
            .restore = on_restore, .ctx = &w->sinks[i]
        };
        s = mp_replica_start(w->replica, i, err);
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

static void turn(struct world *w)
{
    struct mp_clock *clock = mp_replica_clock(w->replica);

    mp_mailbox_drain(&w->box);
    mp_clock_tick(clock);
    for (uint32_t i = 1; i <= 3; i++)
        mp_log_close_entry(mp_replica_log(w->replica, i));
    mp_replica_submit(w->replica, clock->broker_ns);
}

/* Until everything that was appended is applied. */
static void settle(struct world *w)
{
    do {
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
        return op->kind == PAIR ? 2 : 1;
    }
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
    if (s != MEMPHIS_OK)
        return; /* refused: it never happened */
    w->ops_count++;
    model_apply(&w->all, &op);
}

static void random_append(struct world *w)
{
    static const enum kind kinds[] = { MESSAGE, MESSAGE, MESSAGE, MESSAGE, MESSAGE,
                                       MESSAGE, PAIR, GROUP, FLOOR, DELETE, META };
    uint32_t pid = 1 + (uint32_t)draw(w, PARTITIONS);
    struct partition *p = &w->all.partitions[pid];
    struct op op = { .kind = kinds[draw(w, sizeof kinds / sizeof kinds[0])],
                     .pid = pid };

    if (op.kind != META && !p->is_open) {
        if (p->floor != 0)
            return;
        op.kind = OPEN;
    } else if (draw(w, 150) == 0) {
        op.kind = DROP;
    }
    op.seq = p->last + 1;
    op.size = (uint32_t)draw(w, 300);
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
    }
    append(w, op);
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

    if (what < 70) {
        uint64_t n = 1 + draw(w, 4);
        for (uint64_t i = 0; i < n; i++)
            random_append(w);
    } else if (what < 74) {
        mp_disk_advance(w->disk, 600000000ull * draw(w, 4));
    } else if (what < 78) {
        checkpoint_meta(w);
    } else if (what < 79) {
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

static void run_steps(struct world *w, uint32_t steps, memphis_error *err)
{
    for (uint32_t i = 0; i < steps && !w->is_broken && w->replica != NULL; i++)
        step(w, err);
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
        memphis_status s = read_at(w, pid, seq, &m);
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
    if (read_at(w, pid, seq, &m) != MEMPHIS_NOT_FOUND) {
        snprintf(why, why_size, "pid %u: there is one more message at %d", pid,
                 (int)seq);
        return false;
    }
    struct mp_log_stats st;
    mp_log_stats(log, pid, &st);
    if (st.messages != p->count) {
        snprintf(why, why_size, "pid %u: %d messages are counted, not %d", pid,
                 (int)st.messages, (int)p->count);
        return false;
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
    for (uint32_t pid = 1; pid <= PARTITIONS; pid++) {
        if (w->groups[pid] != s->partitions[pid].groups) {
            snprintf(why, size, "pid %u: the groups differ", pid);
            return false;
        }
        if ((w->is_open >> pid & 1) != s->partitions[pid].is_open) {
            snprintf(why, size, "pid %u: open is %d", pid,
                     (int)(w->is_open >> pid & 1));
            return false;
        }
        if (!same_messages(w, pid, &s->partitions[pid], why, size))
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

/* The state after the ops below `data` and the metadata ops below `meta`. */
static void state_after(const struct world *w, uint32_t data, uint32_t meta,
                        struct state *s)
{
    *s = w->base;
    for (uint32_t i = w->base_count; i < w->ops_count; i++)
        if (i < (is_meta(&w->ops[i]) ? meta : data))
            model_apply(s, &w->ops[i]);
}

/* Finds the prefix that the broker holds, and makes it the history. */
static void compare(struct world *w, const char *when)
{
    static struct state s;
    uint32_t meta = acknowledged(w, true), data = acknowledged(w, false);
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
    w->base = w->all = s;
    w->base_count = w->ops_count = 0;
}

/* -- crashes ----------------------------------------------------------------------- */

static uint64_t crash_points, outcomes_run, restarts_crashed;

/* The power is back: starts until one goes through; some are crashed, too. */
static void recover(struct world *w, enum mp_disk_outcome outcome)
{
    memphis_error err = { 0 };
    char when[64];

    mp_disk_crash(w->disk, outcome, next_random(&w->random));
    for (int tries = 0;; tries++) {
        if (tries < 3 && draw(w, 2) == 0)
            mp_disk_crash_at(w->disk, 1 + draw(w, 30));
        memphis_status s = start(w, &err);
        if (!mp_disk_has_crashed(w->disk)) {
            mp_disk_crash_at(w->disk, 0);
            fail_if(w, s != MEMPHIS_OK, "the start says %s", err.message);
            break;
        }
        stop(w);
        restarts_crashed++;
        outcome = (enum mp_disk_outcome)draw(w, MP_CRASH_OUTCOMES);
        mp_disk_crash(w->disk, outcome, next_random(&w->random));
    }
    snprintf(when, sizeof when, "after outcome %d", (int)outcome);
    if (w->failure[0] == 0)
        compare(w, when);
}

/* From a crashed world: each outcome, and life after it. */
static void try_outcomes(const struct world *crashed, uint64_t n, char *failure)
{
    struct world *w = malloc(sizeof *w);
    memphis_error err = { 0 };

    for (int o = 0; o < MP_CRASH_OUTCOMES && failure[0] == 0; o++) {
        memcpy(w, crashed, sizeof *w);
        w->disk = mp_disk_clone(crashed->disk);
        w->random = mix(crashed->seed, n * 100 + (uint64_t)o);
        outcomes_run++;
        recover(w, (enum mp_disk_outcome)o);
        if (w->failure[0] == 0) {
            run_steps(w, 12, &err);
            for (int i = 0; i < 3 && !w->is_broken; i++)
                turn(w);
            fail_if(w, w->is_broken, "it broke without a fault: %s", err.message);
        }
        if (w->failure[0] == 0) {
            stop(w);
            mp_disk_crash(w->disk, (enum mp_disk_outcome)draw(w, MP_CRASH_OUTCOMES),
                          next_random(&w->random));
            memphis_status s = start(w, &err);
            fail_if(w, s != MEMPHIS_OK, "the second start says %s", err.message);
            if (w->failure[0] == 0)
                compare(w, "after the second start");
        }
        if (w->failure[0] != 0)
            snprintf(failure, 600, "seed %llu, operation %llu, outcome %d: %s",
                     (unsigned long long)crashed->seed, (unsigned long long)n, o,
                     w->failure);
        stop(w);
        mp_disk_free(w->disk);
    }
    free(w);
}

static void init_world(struct world *w, uint64_t seed)
{
    memset(w, 0, sizeof *w);
    w->seed = seed;
    w->random = mix(seed, 1);
    w->disk = mp_disk_new(seed);
}

/* Runs the workload of the seed up to operation n (0: to its end); the number of
 * operations it took. */
static uint64_t run_to(struct world *w, uint64_t seed, uint64_t n)
{
    memphis_error err = { 0 };

    init_world(w, seed);
    mp_disk_crash_at(w->disk, n);
    if (start(w, &err) == MEMPHIS_OK) {
        run_steps(w, STEPS, &err);
        if (!w->is_broken)
            turn(w);
    }
    fail_if(w, !mp_disk_has_crashed(w->disk) && w->is_broken, "it broke: %s",
            err.message);
    if (n == 0 && w->failure[0] == 0) {
        settle(w);
        compare(w, "without a crash");
    }
    stop(w);
    return mp_disk_operations(w->disk);
}

static void run_seed(uint64_t seed, uint64_t only, char *failure)
{
    struct world *w = malloc(sizeof *w);
    uint64_t operations = run_to(w, seed, 0);

    if (w->failure[0] != 0)
        snprintf(failure, 600, "seed %llu: %s", (unsigned long long)seed, w->failure);
    mp_disk_free(w->disk);
    for (uint64_t n = 1; n <= operations && failure[0] == 0; n++) {
        if (only != 0 && n != only)
            continue;
        (void)run_to(w, seed, n);
        crash_points++;
        try_outcomes(w, n, failure);
        mp_disk_free(w->disk);
    }
    free(w);
}

/* -- rot and failed syncs ---------------------------------------------------------- */

struct pick {
    uint64_t left;            /* bytes of WAL files until the one that is chosen */
    char name[64];
    uint64_t offset;
};

static void pick_byte(void *ctx, const char *name, uint64_t size)
{
    struct pick *p = ctx;

    if (strncmp(name, "wal/0", 5) != 0 || p->name[0] != 0)
        return;
    if (p->left < size) {
        snprintf(p->name, sizeof p->name, "%s", name);
        p->offset = p->left;
    }
    p->left -= size;
}

/* Starts the stopped world with one bit of its WAL flipped. */
static void try_flip(const struct world *stopped, uint64_t n, char *failure)
{
    struct world *w = malloc(sizeof *w);
    struct pick p = { 0 };
    memphis_error err = { 0 };

    memcpy(w, stopped, sizeof *w);
    w->disk = mp_disk_clone(stopped->disk);
    w->random = mix(stopped->seed, n);
    p.left = draw(w, 96 << 10); /* two or three files */
    mp_disk_each(w->disk, pick_byte, &p);
    if (p.name[0] != 0)
        mp_disk_flip(w->disk, p.name, p.offset, (uint8_t)(1u << draw(w, 8)));
    memphis_status s = start(w, &err);
    fail_if(w, s != MEMPHIS_OK && s != MEMPHIS_CORRUPT && s != MEMPHIS_VERSION,
            "status %d: %s", (int)s, err.message);
    if (s == MEMPHIS_OK)
        compare(w, "not refused");
    stop(w);
    if (w->failure[0] != 0)
        snprintf(failure, 600, "seed %llu, flip at %llu of '%.40s': %.400s",
                 (unsigned long long)w->seed, (unsigned long long)p.offset, p.name,
                 w->failure);
    mp_disk_free(w->disk);
    free(w);
}

/* Bit-rot of what is acknowledged is refused: `durable_upto` of `node` after a clean
 * stop, of a cover batch otherwise, tells it from a torn tail. */
static void rot_seed(uint64_t seed, bool clean, char *failure)
{
    struct world *w = malloc(sizeof *w);
    memphis_error err = { 0 };

    init_world(w, seed);
    assert_int_equal(start(w, &err), MEMPHIS_OK);
    run_steps(w, 10 + (uint32_t)draw(w, STEPS), &err);
    settle(w);
    if (!clean) {
        mp_disk_advance(w->disk, 1000000000);
        settle(w); /* the cover batch */
        mp_disk_crash_at(w->disk, 1);
    }
    stop(w);
    if (!clean)
        mp_disk_crash(w->disk, MP_CRASH_NOTHING, 0);
    for (uint64_t n = 0; n < 100 && failure[0] == 0; n++)
        try_flip(w, n, failure);
    mp_disk_free(w->disk);
    free(w);
}

/* The n-th sync fails: its bytes are in the page cache, marked clean, and never reach
 * the disk. A start that finds them there may not build on them. */
static bool fail_sync(uint64_t seed, uint64_t n, char *failure)
{
    struct world *w = malloc(sizeof *w);
    memphis_error err = { 0 };

    init_world(w, seed);
    mp_disk_fail(w->disk, MP_DISK_SYNC, n, MEMPHIS_IO, false);
    bool failed = start(w, &err) != MEMPHIS_OK;
    if (!failed)
        run_steps(w, STEPS, &err);
    failed = failed || w->is_broken;
    stop(w);
    mp_disk_crash(w->disk, MP_CRASH_PROCESS, 0);
    for (int i = 0; i < 2 && w->failure[0] == 0; i++) {
        memphis_status s = start(w, &err);
        fail_if(w, s != MEMPHIS_OK, "start %d says %s", i + 1, err.message);
        if (w->failure[0] == 0)
            compare(w, i == 0 ? "after it" : "after the loss of power");
        if (w->failure[0] == 0 && i == 0)
            run_steps(w, 12, &err);
        mp_disk_crash_at(w->disk, 1);
        stop(w);
        mp_disk_crash(w->disk, MP_CRASH_NOTHING, 0);
    }
    if (w->failure[0] != 0)
        snprintf(failure, 600, "seed %llu, failed sync %llu: %s",
                 (unsigned long long)seed, (unsigned long long)n, w->failure);
    mp_disk_free(w->disk);
    free(w);
    return failed; /* else the workload has no such sync */
}

/* -- a message that looks like a batch --------------------------------------------- */

/* Fills a payload that will stand at `lsn`: from each block boundary on there is a good
 * batch, but for its epoch or its LSN. Were it taken for one, all would be damage. */
static void look_alike(uint8_t *payload, size_t size, uint64_t lsn, uint64_t epoch,
                       bool wrong_lsn)
{
    struct mp_group_header g = { .length = MP_GROUP_HEADER_SIZE,
                                 .kind = MP_RECORD_HEADS };
    struct mp_batch_header h = { .epoch = wrong_lsn ? epoch : epoch + 1,
                                 .durable_upto = UINT64_MAX / 2,
                                 .body_size = MP_GROUP_HEADER_SIZE, .records = 1 };

    for (size_t at = (size_t)(mp_block_up(lsn) - lsn); at + MP_BLOCK_SIZE <= size;
         at += MP_BLOCK_SIZE) {
        uint8_t *record = payload + at + MP_BATCH_HEADER_SIZE;
        h.lsn = lsn + at - (wrong_lsn ? MP_BLOCK_SIZE : 0);
        mp_group_header_encode(&g, h.epoch, record);
        h.records_crc = mp_crc32c(0, record, MP_GROUP_HEADER_SIZE);
        mp_batch_header_encode(&h, payload + at);
    }
}

/* The power goes while it is written; the start says what it takes it for. */
static void write_look_alike(uint64_t seed, bool wrong_lsn, char *failure)
{
    struct world *w = malloc(sizeof *w);
    static uint8_t payload[10000], block[MP_BLOCK_SIZE];
    struct mp_entry e = { .type = MP_ENTRY_MESSAGE, .pid = 1, .seq = 1, .time_ns = 1,
                          .payload = { payload, sizeof payload } };
    struct mp_wal_header header;
    struct mp_file *f = NULL;
    memphis_error err = { 0 };
    char name[MP_WAL_NAME_SIZE];
    size_t got;

    init_world(w, seed);
    assert_int_equal(start(w, &err), MEMPHIS_OK);
    append(w, (struct op){ .kind = OPEN, .pid = 1 });
    settle(w);
    mp_wal_name(mp_wal_file_base(w->replica->wal), name);
    assert_int_equal(w->env->file_open(w->env, name, MP_FILE_READ, &f, &err), 0);
    assert_int_equal(
        w->env->file_read(w->env, f, 0, block, sizeof block, &got, &err), 0);
    w->env->file_close(w->env, f);
    assert_int_equal(mp_wal_header_decode(mp_slice(block, got), &header, &err), 0);
    look_alike(payload, sizeof payload,
               mp_wal_end(w->replica->wal) + MP_BATCH_HEADER_SIZE +
                   2 * MP_GROUP_HEADER_SIZE + 2 * MP_HEAD_SIZE + MP_ENTRY_HEADER_SIZE,
               header.epoch, wrong_lsn);
    struct mp_log *log = mp_replica_log(w->replica, MP_SHARD_DATA);
    assert_int_equal(mp_log_append(log, &e, 1, 0), MEMPHIS_OK);
    mp_disk_crash_at(w->disk, 1);
    turn(w);
    stop(w);
    mp_disk_crash(w->disk, MP_CRASH_LOSE_BLOCK, seed);
    memphis_status s = start(w, &err);
    if (s != MEMPHIS_OK)
        snprintf(failure, 600, "look-alike %d, seed %llu: %s", (int)wrong_lsn,
                 (unsigned long long)seed, err.message);
    stop(w);
    mp_disk_free(w->disk);
    free(w);
}

static uint64_t first_seed = 1, last_seed = 60, only_operation;

static void no_crash_loses_or_invents_an_acknowledged_message(void **state)
{
    static char failure[600];
    (void)state;

    for (uint64_t seed = first_seed; seed <= last_seed && failure[0] == 0; seed++)
        run_seed(seed, only_operation, failure);
    print_message("%llu crash points, %llu outcomes, %llu starts crashed again\n",
                  (unsigned long long)crash_points, (unsigned long long)outcomes_run,
                  (unsigned long long)restarts_crashed);
    if (failure[0] != 0)
        fail_msg("%s", failure);
}

static void rot_of_what_is_acknowledged_is_refused(void **state)
{
    static char failure[600];
    (void)state;

    for (uint64_t seed = first_seed; seed <= last_seed && failure[0] == 0; seed++) {
        rot_seed(seed, false, failure);
        if (failure[0] == 0)
            rot_seed(seed, true, failure);
    }
    if (failure[0] != 0)
        fail_msg("%s", failure);
}

static void what_a_failed_sync_left_in_the_cache_is_not_built_upon(void **state)
{
    static char failure[600];
    (void)state;

    for (uint64_t seed = first_seed; seed <= last_seed && failure[0] == 0; seed++)
        for (uint64_t n = 1; fail_sync(seed, n, failure) && failure[0] == 0; n++)
            ;
    if (failure[0] != 0)
        fail_msg("%s", failure);
}

static void a_message_that_looks_like_a_batch_is_none(void **state)
{
    static char failure[600];
    (void)state;

    for (uint64_t seed = 1; seed <= 32 && failure[0] == 0; seed++)
        write_look_alike(seed, seed % 2 == 0, failure);
    if (failure[0] != 0)
        fail_msg("%s", failure);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        leak_checked(rot_of_what_is_acknowledged_is_refused),
        leak_checked(a_message_that_looks_like_a_batch_is_none),
        leak_checked(what_a_failed_sync_left_in_the_cache_is_not_built_upon),
        leak_checked(no_crash_loses_or_invents_an_acknowledged_message),
    };

    if (argc > 1)
        first_seed = last_seed = strtoull(argv[1], NULL, 10);
    if (argc > 2)
        only_operation = strtoull(argv[2], NULL, 10);
    return run_tests("sim/crash", tests);
}
