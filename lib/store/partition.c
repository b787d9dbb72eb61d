#include "store/partition.h"

#include "base/assert.h"
#include "base/status.h"

enum {
    SLOTS_FIRST = 16,
    OP_OPEN = 1,
    OP_CONFIGURE = 2,
    OP_DROP = 3,
    GAP_MAX = 1 << 26 /* sequences that may be missing in a row */
};

/* -- the table --------------------------------------------------------------------- */

static uint32_t home_of(const struct mp_partitions *t, uint32_t pid)
{
    return (uint32_t)(pid * 0x9e3779b1u) >> 7 & (t->slots_count - 1);
}

struct mp_partition *mp_partitions_find(const struct mp_partitions *t, uint32_t pid)
{
    if (t->newest != NULL && t->newest->pid == pid)
        return t->newest;
    if (t->slots_count == 0)
        return NULL;
    for (uint32_t i = home_of(t, pid);; i = (i + 1) & (t->slots_count - 1)) {
        struct mp_partition *p = t->slots[i];
        if (p == NULL || p->pid == pid)
            return p;
    }
}

static void insert(struct mp_partitions *t, struct mp_partition *p)
{
    uint32_t i = home_of(t, p->pid);

    while (t->slots[i] != NULL)
        i = (i + 1) & (t->slots_count - 1);
    t->slots[i] = p;
}

static void rehash(struct mp_partitions *t, uint32_t slots_count)
{
    struct mp_partition **before = t->slots;
    uint32_t count = t->slots_count;

    t->slots = mp_alloc(slots_count * sizeof *t->slots);
    t->slots_count = slots_count;
    for (uint32_t i = 0; i < count; i++)
        if (before[i] != NULL)
            insert(t, before[i]);
    mp_free(before);
}

struct mp_partition *mp_partitions_add(struct mp_partitions *t, uint32_t pid)
{
    mp_assert(mp_partitions_find(t, pid) == NULL);
    if (t->slots_count == 0)
        rehash(t, SLOTS_FIRST);
    else if ((t->count + 1) * 2 > t->slots_count)
        rehash(t, t->slots_count * 2);
    struct mp_partition *p = mp_alloc(sizeof *p);
    p->pid = pid;
    p->floor = 1;
    insert(t, p);
    t->count++;
    return p;
}

static void free_partition(struct mp_partition *p)
{
    mp_memtable_fini(&p->memtable);
    mp_buf_fini(&p->settings);
    mp_free(p->damage);
    mp_free(p);
}

static void remove_partition(struct mp_partitions *t, struct mp_partition *p)
{
    mp_assert(t->count > 0);
    t->newest = NULL;
    for (uint32_t i = 0; i < t->slots_count; i++)
        if (t->slots[i] == p)
            t->slots[i] = NULL;
    t->count--;
    free_partition(p);
    rehash(t, t->slots_count); /* no tombstones: a drop is rare */
}

struct mp_partition *mp_partitions_next(const struct mp_partitions *t, uint32_t *at)
{
    while (*at < t->slots_count) {
        struct mp_partition *p = t->slots[(*at)++];
        if (p != NULL)
            return p;
    }
    return NULL;
}

void mp_partitions_fini(struct mp_partitions *t)
{
    struct mp_partition *p;

    for (uint32_t i = 0; (p = mp_partitions_next(t, &i)) != NULL;)
        free_partition(p);
    mp_free(t->slots);
    *t = (struct mp_partitions){ 0 };
}

/* -- effects ----------------------------------------------------------------------- */

static memphis_status malformed(memphis_error *err, const struct mp_entry *e)
{
    return mp_fail(err, MEMPHIS_CORRUPT,
                   "an entry of type %u for partition %u makes no sense", e->type,
                   e->pid);
}

/* Its message lies in a chunk already: the partition only notes where. */
static memphis_status add_message(struct mp_partition *p, const struct mp_entry *e,
                                  const struct mp_place *at, bool *kept,
                                  memphis_error *err)
{
    if (e->seq <= p->last)
        return mp_fail(err, MEMPHIS_CORRUPT,
                       "message %llu of partition %u comes after message %llu",
                       (unsigned long long)e->seq, e->pid, (unsigned long long)p->last);
    if (e->seq - p->last > GAP_MAX)
        return malformed(err, e);
    p->last = e->seq;
    if (e->seq < p->floor)
        return MEMPHIS_OK;
    mp_memtable_put(&p->memtable, e->seq, at->chunk, at->offset, at->size);
    *kept = true;
    return MEMPHIS_OK;
}

static memphis_status apply_floor(struct mp_partition *p, const struct mp_entry *e,
                                  memphis_error *err)
{
    struct mp_cursor c = mp_cursor_of(e->payload);
    uint64_t first = mp_cursor_u64(&c);

    (void)mp_cursor_u8(&c); /* the reason is for reports only */
    if (c.bad)
        return malformed(err, e);
    if (first > p->floor)
        p->floor = first;
    mp_memtable_trim(&p->memtable, first);
    return MEMPHIS_OK;
}

static memphis_status apply_delete(struct mp_partition *p, const struct mp_entry *e,
                                   memphis_error *err)
{
    struct mp_cursor c = mp_cursor_of(e->payload);
    uint64_t count = mp_cursor_varint(&c);
    uint64_t at = e->seq;

    for (; count > 0 && !c.bad; count--) {
        uint64_t first = at + mp_cursor_varint(&c);
        uint64_t end = first + mp_cursor_varint(&c);
        if (first < at || end < first)
            c.bad = true;
        uint64_t low = first > p->memtable.base ? first : p->memtable.base;
        for (uint64_t seq = low; !c.bad && seq < end && seq < p->memtable.end; seq++)
            mp_memtable_drop(&p->memtable, seq);
        at = end;
    }
    return c.bad ? malformed(err, e) : MEMPHIS_OK;
}

static void add_damage(struct mp_partition *p, uint64_t first, uint64_t last)
{
    size_t size = (p->damage_count + 1u) * sizeof *p->damage;

    p->damage = mp_realloc(p->damage, size);
    p->damage[p->damage_count++] = (struct mp_range){ first, last };
    if (last > p->last)
        p->last = last;
}

static memphis_status apply_hole(struct mp_partition *p, const struct mp_entry *e,
                                 memphis_error *err)
{
    struct mp_cursor c = mp_cursor_of(e->payload);
    bool is_skip = e->type == MP_ENTRY_SKIP;
    uint64_t first = is_skip ? e->seq : mp_cursor_u64(&c);
    uint64_t last = mp_cursor_u64(&c);

    if (c.bad || first > last || (last > p->last && last - p->last > GAP_MAX))
        return malformed(err, e);
    if (!is_skip)
        add_damage(p, first, last);
    else if (last > p->last)
        p->last = last;
    return MEMPHIS_OK;
}

static memphis_status apply_partition(struct mp_partitions *t, const struct mp_entry *e,
                                      memphis_error *err)
{
    struct mp_cursor c = mp_cursor_of(e->payload);
    uint8_t op = mp_cursor_u8(&c);
    uint32_t version = mp_cursor_u32(&c);
    uint32_t number = mp_cursor_u32(&c);
    uint32_t station = mp_cursor_u32(&c);
    struct mp_partition *p = mp_partitions_find(t, e->pid);

    if (c.bad || op < OP_OPEN || op > OP_DROP)
        return malformed(err, e);
    if (op == OP_DROP) {
        if (p != NULL)
            remove_partition(t, p);
        return MEMPHIS_OK;
    }
    if (p == NULL && op == OP_CONFIGURE)
        return MEMPHIS_OK; /* dropped by an entry before */
    if (p == NULL)
        p = mp_partitions_add(t, e->pid);
    p->config_version = version;
    p->number = number;
    p->station = station;
    mp_buf_clear(&p->settings);
    mp_buf_put_slice(&p->settings, mp_cursor_take(&c, mp_cursor_left(&c)));
    return MEMPHIS_OK;
}

memphis_status mp_partitions_apply(struct mp_partitions *t, const struct mp_entry *e,
                                   const struct mp_place *at, bool *kept,
                                   memphis_error *err)
{
    *kept = false;
    if (e->type == MP_ENTRY_PARTITION)
        return apply_partition(t, e, err);
    struct mp_partition *p = mp_partitions_find(t, e->pid);
    if (p == NULL && e->pid == 0)
        p = mp_partitions_add(t, 0);
    if (p == NULL)
        return MEMPHIS_OK;
    t->newest = p;
    switch (e->type) {
    case MP_ENTRY_MESSAGE:
        return add_message(p, e, at, kept, err);
    case MP_ENTRY_FLOOR:
        return apply_floor(p, e, err);
    case MP_ENTRY_DELETE:
        return apply_delete(p, e, err);
    case MP_ENTRY_SKIP:
    case MP_ENTRY_DAMAGE:
        return apply_hole(p, e, err);
    default:
        return MEMPHIS_OK;
    }
}

/* -- reads ------------------------------------------------------------------------- */

static bool is_damaged(const struct mp_partition *p, uint64_t seq)
{
    for (uint32_t i = 0; i < p->damage_count; i++)
        if (seq >= p->damage[i].first && seq <= p->damage[i].last && seq >= p->floor)
            return true;
    return false;
}

memphis_status mp_partition_read(const struct mp_partition *p, uint64_t seq,
                                 struct mp_stored *out)
{
    size_t size;

    if (is_damaged(p, seq))
        return MEMPHIS_CORRUPT;
    const struct mp_memslot *slot = mp_memtable_next(&p->memtable, &seq);
    if (slot == NULL)
        return MEMPHIS_NOT_FOUND;
    memphis_slice bytes = { slot->chunk->bytes + slot->offset, slot->size };
    memphis_status s = mp_entry_decode(bytes, false, &out->entry, &size, NULL);
    mp_assert(s == MEMPHIS_OK); /* we encoded or checked it ourselves */
    mp_chunk_ref(slot->chunk);
    out->chunk = slot->chunk;
    return MEMPHIS_OK;
}

uint64_t mp_partition_first(const struct mp_partition *p)
{
    return p->memtable.live > 0 ? p->memtable.base : p->last + 1;
}

static uint64_t time_of(const struct mp_memtable *m, uint64_t seq)
{
    struct mp_entry e;
    size_t size;

    const struct mp_memslot *slot = mp_memtable_next(m, &seq);
    if (slot == NULL)
        return 0;
    memphis_slice bytes = { slot->chunk->bytes + slot->offset, slot->size };
    memphis_status s = mp_entry_decode(bytes, false, &e, &size, NULL);
    mp_assert(s == MEMPHIS_OK);
    return e.time_ns;
}

void mp_partition_stats(const struct mp_partition *p, struct mp_log_stats *out)
{
    uint64_t newest = p->memtable.end;

    while (newest > p->memtable.base &&
           p->memtable.slots[(newest - 1) & (p->memtable.capacity - 1)].chunk == NULL)
        newest--;
    *out = (struct mp_log_stats){ .messages = p->memtable.live,
                                  .bytes = p->memtable.bytes,
                                  .first_seq = mp_partition_first(p),
                                  .last_seq = p->last };
    out->first_time_ns = time_of(&p->memtable, p->memtable.base);
    if (newest > p->memtable.base)
        out->last_time_ns = time_of(&p->memtable, newest - 1);
}

void mp_damage_payload(uint64_t first, uint64_t last, uint8_t out[16])
{
    mp_assert(first <= last);
    mp_set_u64(out, first);
    mp_set_u64(out + 8, last);
}
