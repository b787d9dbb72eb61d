/* Damage of what is acknowledged, and starts that accept it. What a place of the disk
 * holds is looked up before it is damaged: the records of a WAL file, the messages of a
 * segment. Nothing else may be lost; a lost message below one that is left is told;
 * no message is invented, and no sequence is given twice. See test_crash.c. */
#ifndef TEST_SIM_DAMAGE_H
#define TEST_SIM_DAMAGE_H

#include "sim/world.h"

#include "store/layout.h"
#include "store/record.h"

enum { HITS_MAX = 4096 };

enum damage_kind { FLIPPED, OVERWRITTEN, MISSING, UNREADABLE, DAMAGE_KINDS };

struct damage {
    enum damage_kind kind;
    char name[64];
    uint64_t size, from, to;  /* of the file; the bytes that are damaged */
    struct {
        uint32_t shard;
        uint64_t index;
    } records[HITS_MAX];
    uint32_t records_count;
    struct {
        uint32_t pid;
        uint64_t seq;
    } messages[HITS_MAX];     /* in segments */
    uint32_t messages_count;
    uint64_t is_loose;        /* a bit per pid whose slot or state file is hit: what was
                                 deleted may be back, and progress of groups be old */
    bool was_crashed;         /* a start that accepted it */
    uint64_t lost;            /* messages, in the end */
};

/* -- what is hit ------------------------------------------------------------------- */

static void hit_records(struct damage *d, memphis_slice file)
{
    const uint8_t *p = file.data;
    struct mp_wal_header h = { .epoch = 0 };
    struct mp_group_header g;
    uint64_t step = 8;

    if (mp_wal_header_decode(mp_slice(p, MP_BLOCK_SIZE), &h, NULL) != MEMPHIS_OK)
        return;
    for (uint64_t at = MP_BLOCK_SIZE; at + MP_GROUP_HEADER_SIZE <= file.size;
         at += step) {
        step = 8;
        if (!mp_group_header_decode(mp_slice(p + at, file.size - at), h.epoch, &g) ||
            g.length > file.size - at)
            continue;
        step = g.length;
        if (g.kind != MP_RECORD_ENTRY || at >= d->to || at + step <= d->from)
            continue;
        assert_true(d->records_count < HITS_MAX);
        d->records[d->records_count].shard = g.shard;
        d->records[d->records_count++].index = g.index;
    }
}

static void hit_messages(struct damage *d, memphis_slice file)
{
    const uint8_t *p = file.data;
    struct mp_entry e;
    size_t size;

    for (uint64_t at = MP_BLOCK_SIZE; at < file.size; at += size) {
        if (mp_entry_decode(mp_slice(p + at, file.size - at), true, &e, &size, NULL) !=
            MEMPHIS_OK)
            return;
        if (at >= d->to || at + size <= d->from)
            continue;
        assert_true(d->messages_count < HITS_MAX);
        d->messages[d->messages_count].pid = e.pid;
        d->messages[d->messages_count++].seq = e.seq;
    }
}

static bool ends_with(const char *name, const char *end)
{
    size_t size = strlen(name), n = strlen(end);

    return size >= n && strcmp(name + size - n, end) == 0;
}

static void note_hits(struct world *w, struct damage *d)
{
    struct mp_env *e = mp_env_mem_open(w->disk, NULL);
    struct mp_buf bytes = { 0 };
    struct mp_file *f = NULL;
    unsigned pid = 0;

    assert_int_equal(e->file_open(e, d->name, MP_FILE_READ, &f, NULL), MEMPHIS_OK);
    mp_buf_reserve(&bytes, d->size);
    assert_int_equal(e->file_read(e, f, 0, bytes.data, d->size, &bytes.size, NULL),
                     MEMPHIS_OK);
    e->file_close(e, f);
    if (strncmp(d->name, "wal/", 4) == 0)
        hit_records(d, mp_buf_slice(&bytes));
    else if (ends_with(d->name, ".seg"))
        hit_messages(d, mp_buf_slice(&bytes));
    else if (!ends_with(d->name, ".idx") &&
             sscanf(d->name, "s/00000002/%8x/", &pid) == 1)
        d->is_loose |= 1ull << pid;
    mp_buf_fini(&bytes);
    e->close(e);
}

/* The message of that sequence as it was appended; NULL: never. */
static const struct op *given(const struct world *w, uint32_t pid, uint64_t seq)
{
    for (uint32_t i = 0; i < w->ops_count; i++) {
        const struct op *op = &w->ops[i];
        if (op->pid == pid && op->seq == seq && !op->is_refused &&
            (op->kind == MESSAGE || op->kind == PAIR))
            return op;
    }
    return NULL;
}

static bool is_hit(const struct damage *d, uint32_t shard, uint64_t index)
{
    for (uint32_t i = 0; i < d->records_count; i++)
        if (d->records[i].shard == shard && d->records[i].index == index)
            return true;
    return false;
}

static bool may_be_lost(const struct world *w, const struct damage *d, uint32_t pid,
                        uint64_t seq)
{
    for (uint32_t i = 0; i < d->messages_count; i++)
        if (d->messages[i].pid == pid && d->messages[i].seq == seq)
            return true;
    const struct op *op = given(w, pid, seq);
    return op != NULL && is_hit(d, MP_SHARD_DATA, op->index);
}

/* Whether an entry that removed messages of it, or what files say of that, is hit. A
 * broker removes only what there is, and so does a history that is kept: an entry that
 * reached beyond it would be repeated on more messages when a slot is lost. */
static bool may_be_back(const struct world *w, const struct damage *d, uint32_t pid)
{
    for (uint32_t i = 0; i < w->ops_count; i++) {
        const struct op *op = &w->ops[i];
        if (op->pid == pid && (op->kind == FLOOR || op->kind == DELETE) &&
            is_hit(d, MP_SHARD_DATA, op->index))
            return true;
    }
    return (d->is_loose >> pid & 1) != 0;
}

/* -- inflicting it ----------------------------------------------------------------- */

struct choice {
    uint32_t class;           /* 0: WAL files; 1: segments; 2: the other ones */
    uint32_t skip, count;
    struct damage *out;       /* NULL: they are counted */
};

static void look_at_file(void *ctx, const char *name, uint64_t size)
{
    struct choice *c = ctx;
    bool is_wal = strncmp(name, "wal/0", 5) == 0;
    bool is_file = strncmp(name, "s/", 2) == 0 && !ends_with(name, "/");
    uint32_t class = is_wal ? 0 : ends_with(name, ".seg") ? 1 : 2;

    if ((!is_wal && !is_file) || size == 0 || class != c->class)
        return;
    if (c->out != NULL && c->count == c->skip) {
        snprintf(c->out->name, sizeof c->out->name, "%s", name);
        c->out->size = size;
    }
    c->count++;
}

/* False: there is no such file. */
static bool choose(struct world *w, struct damage *d, bool clean)
{
    struct choice c = { .class = (uint32_t)draw(w, 3) };

    mp_disk_each(w->disk, look_at_file, &c);
    if (c.count == 0)
        return false;
    c.skip = (uint32_t)draw(w, c.count);
    c.count = 0;
    c.out = d;
    mp_disk_each(w->disk, look_at_file, &c);
    d->kind = (enum damage_kind)draw(w, DAMAGE_KINDS);
    if (d->kind == MISSING && c.class == 0 && !clean)
        d->kind = OVERWRITTEN; /* of the newest one only the stop can tell */
    d->from = draw(w, d->size);
    if (d->from % 8 == 3)
        d->from %= 16;         /* what tells the kind of file and its version */
    d->to = d->from + 1;
    if (d->kind == OVERWRITTEN || d->kind == UNREADABLE) {
        d->from = d->from / MP_BLOCK_SIZE * MP_BLOCK_SIZE;
        d->to = d->from + MP_BLOCK_SIZE < d->size ? d->from + MP_BLOCK_SIZE : d->size;
        if (d->kind == UNREADABLE && d->to % MP_BLOCK_SIZE != 0 && c.class == 1)
            d->kind = OVERWRITTEN; /* an append to half a bad block fails */
    }
    if (d->kind == MISSING) {
        d->from = 0;
        d->to = d->size;
    }
    return true;
}

/* A slot without any trace may be one that a crash has torn: the one before it counts,
 * unless newer files are there. */
static bool may_go_unseen(const struct damage *d)
{
    return d->kind == OVERWRITTEN && ends_with(d->name, "/meta");
}

static void inflict(struct world *w, const struct damage *d)
{
    struct mp_env *e = mp_env_mem_open(w->disk, NULL);
    struct mp_file *f = NULL;
    uint8_t bytes[MP_BLOCK_SIZE];
    char dir[64];

    if (d->kind == FLIPPED) {
        assert_true(mp_disk_flip(w->disk, d->name, d->from,
                                 (uint8_t)(1u << draw(w, 8))));
    } else if (d->kind == OVERWRITTEN) {
        memset(bytes, draw(w, 2) ? 0 : 0xa5, sizeof bytes);
        memphis_slice v = mp_slice(bytes, d->to - d->from);
        assert_int_equal(e->file_open(e, d->name, MP_FILE_WRITE, &f, NULL), 0);
        assert_int_equal(e->file_write(e, f, d->from, &v, 1, NULL), 0);
        assert_int_equal(e->file_sync(e, f, NULL), 0);
        e->file_close(e, f);
    } else if (d->kind == MISSING) {
        snprintf(dir, sizeof dir, "%s", d->name);
        *strrchr(dir, '/') = 0;
        assert_int_equal(e->unlink(e, d->name, NULL), 0);
        assert_int_equal(e->dir_sync(e, dir, NULL), 0);
    } else {
        assert_true(mp_disk_spoil(w->disk, d->name, d->from, d->to));
    }
    e->close(e);
}

/* -- the comparison ---------------------------------------------------------------- */

/* Progress of the groups, or of the metadata (pid 0), without the records that are hit
 * and are above `index`: files, or SQLite, have what is below. */
static uint64_t hash_without(const struct world *w, const struct damage *d,
                             uint32_t pid, uint64_t index)
{
    uint32_t shard = pid == 0 ? MP_SHARD_META : MP_SHARD_DATA;
    uint64_t hash = 0;

    for (uint32_t i = 0; i < w->ops_count; i++) {
        const struct op *op = &w->ops[i];
        bool counts = pid == 0 ? op->kind == META
                               : op->kind == GROUP || op->kind == PAIR;
        if (op->pid != pid || !counts || op->is_refused)
            continue;
        if (op->index <= index || !is_hit(d, shard, op->index))
            hash = mix(hash, op->seq);
    }
    return hash;
}

static bool is_progress(const struct world *w, const struct damage *d, uint32_t pid,
                        uint64_t hash)
{
    uint32_t shard = pid == 0 ? MP_SHARD_META : MP_SHARD_DATA;

    if (hash == hash_without(w, d, pid, 0) ||
        hash == hash_without(w, d, pid, UINT64_MAX))
        return true;
    for (uint32_t i = 0; i < d->records_count; i++)
        if (d->records[i].shard == shard &&
            hash == hash_without(w, d, pid, d->records[i].index))
            return true;
    return false;
}

/* What the broker holds; `told` gets a bit for each sequence that it calls lost. */
static void read_partition(struct world *w, uint32_t pid, struct partition *out,
                           uint64_t told[IDS_MAX / 64])
{
    struct mp_stored m;
    memphis_status s;

    for (uint64_t seq = 1; (s = read_at(w, pid, seq, &m)) != MEMPHIS_NOT_FOUND;
         seq = m.entry.seq + 1) {
        if (s == MEMPHIS_CORRUPT) {
            for (; seq <= m.entry.seq && seq < IDS_MAX; seq++)
                set_bit(told, seq);
            continue;
        }
        fail_if(w, s != MEMPHIS_OK, "pid %u: message %d: status %d", pid, (int)seq, s);
        if (s != MEMPHIS_OK)
            return;
        const struct op *op = given(w, pid, m.entry.seq);
        fail_if(w, op == NULL || op->size != m.entry.payload.size ||
                       memcmp(payload_of(op), m.entry.payload.data, op->size) != 0,
                "pid %u: message %d is invented", pid, (int)m.entry.seq);
        if (op != NULL)
            model_message(out, op);
        mp_stored_release(&m);
    }
}

static void judge_messages(struct world *w, struct damage *d, uint32_t pid,
                           const struct partition *was, const struct partition *is,
                           const uint64_t told[IDS_MAX / 64])
{
    uint32_t at = 0;

    for (uint32_t i = 0; i < was->count; i++) {
        uint64_t seq = was->messages[i].seq;
        for (; at < is->count && is->messages[at].seq < seq; at++)
            fail_if(w, !may_be_back(w, d, pid), "pid %u: message %d is back", pid,
                    (int)is->messages[at].seq);
        if (at < is->count && is->messages[at].seq == seq) {
            at++;
            continue;
        }
        d->lost++;
        fail_if(w, !may_be_lost(w, d, pid, seq),
                "pid %u: message %d is lost, and was not hit", pid, (int)seq);
        if (at == 0 && (d->was_crashed || (d->is_loose >> pid & 1) != 0))
            continue; /* files without a slot begin with what is left */
        fail_if(w, at < is->count && !has_bit(told, seq),
                "pid %u: nobody tells that message %d is lost", pid, (int)seq);
    }
    fail_if(w, at < is->count && !may_be_back(w, d, pid),
            "pid %u: message %d is back behind the end", pid,
            (int)is->messages[at].seq);
}

/* What the broker holds, if that may be so: from here on it is what was. */
static void take_over(struct world *w, struct damage *d)
{
    struct mp_log *log = mp_replica_log(w->replica, MP_SHARD_DATA);
    static struct state is;

    is = (struct state){ .meta = w->meta, .meta_count = w->meta_count };
    fail_if(w, !is_progress(w, d, 0, w->meta), "the metadata differ");
    for (uint32_t pid = 1; pid <= w->pids && w->failure[0] == 0; pid++) {
        const struct partition *was = &w->all.partitions[pid];
        struct partition *p = &is.partitions[pid];
        uint64_t told[IDS_MAX / 64] = { 0 };
        p->is_open = w->is_open >> pid & 1;
        p->floor = was->floor;
        fail_if(w, p->is_open != was->is_open, "pid %u: open is %d", pid, p->is_open);
        if (!p->is_open)
            continue;
        read_partition(w, pid, p, told);
        judge_messages(w, d, pid, was, p, told);
        p->last = mp_log_last(log, pid);
        fail_if(w, p->last < was->last, "pid %u: sequences above %d are given again",
                pid, (int)p->last);
        p->groups = w->groups[pid];
        fail_if(w, (d->is_loose >> pid & 1) == 0 && !is_progress(w, d, pid, p->groups),
                "pid %u: the groups differ", pid);
        for (uint64_t seq = 1; seq < IDS_MAX; seq++)
            fail_if(w, has_bit(w->ids[pid], seq) && !has_bit(was->ids, seq),
                    "pid %u: the id of message %d is invented", pid, (int)seq);
        memcpy(p->ids, w->ids[pid], sizeof p->ids);
    }
    copy_state(&w->base, &is, w->pids);
    copy_state(&w->all, &is, w->pids);
    w->base_count = w->ops_count = 0;
    w->keeps = false;
    w->is_lossy = true;
}

#endif
