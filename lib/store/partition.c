#include "store/partition.h"

#include "base/assert.h"
#include "base/status.h"

enum {
    SLOTS_FIRST = 16,
    OP_OPEN = 1,
    OP_CONFIGURE = 2,
    OP_DROP = 3,
    GAP_MAX = 1 << 26, /* sequences that may be missing inside the memtable */
    TABLE_ROW_SIZE = 21,
    HAS_FILES = 128,   /* flag of a row's op: its meta slot was written before */

    /* Fields of an encoded entry (record.h). */
    AT_TYPE = 8,
    AT_FLAGS = 9,
    AT_PID = 12,
    AT_SEQ = 16,
    AT_TIME = 24
};

/* A sequence above it, an int64 to most clients, is a lie. */
#define SEQ_MAX ((uint64_t)INT64_MAX)

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

/* No tombstones: who would not be found across the hole moves into it. */
static void take_out(struct mp_partitions *t, const struct mp_partition *p)
{
    uint32_t mask = t->slots_count - 1, hole = home_of(t, p->pid);

    while (t->slots[hole] != p) {
        mp_assert(t->slots[hole] != NULL);
        hole = (hole + 1) & mask;
    }
    for (uint32_t i = (hole + 1) & mask; t->slots[i] != NULL; i = (i + 1) & mask) {
        uint32_t home = home_of(t, t->slots[i]->pid);
        if (((i - home) & mask) >= ((i - hole) & mask)) {
            t->slots[hole] = t->slots[i];
            hole = i;
        }
    }
    t->slots[hole] = NULL;
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

struct mp_partition *mp_partition_new(uint32_t pid)
{
    struct mp_partition *p = mp_alloc(sizeof *p);

    p->pid = pid;
    p->floor = 1;
    return p;
}

/* A partition that a start has found on disk goes on with its files. */
static struct mp_partition *take_loaded(struct mp_partitions *t, uint32_t pid)
{
    for (uint32_t i = 0; i < t->loaded_count; i++) {
        struct mp_partition *p = t->loaded[i];
        if (p->pid != pid)
            continue;
        t->loaded[i] = t->loaded[--t->loaded_count];
        return p;
    }
    return NULL;
}

void mp_partitions_keep_loaded(struct mp_partitions *t, struct mp_partition *p)
{
    t->loaded = mp_realloc(t->loaded, (t->loaded_count + 1) * sizeof *t->loaded);
    t->loaded[t->loaded_count++] = p;
}

struct mp_partition *mp_partitions_add(struct mp_partitions *t, uint32_t pid)
{
    mp_assert(mp_partitions_find(t, pid) == NULL);
    if (t->slots_count == 0)
        rehash(t, SLOTS_FIRST);
    else if ((t->count + 1) * 2 > t->slots_count)
        rehash(t, t->slots_count * 2);
    struct mp_partition *p = take_loaded(t, pid);
    if (p == NULL)
        p = mp_partition_new(pid);
    p->keeps_ids = t->cold != NULL;
    insert(t, p);
    t->count++;
    return p;
}

static void drop_dead_ids(struct mp_partition *p)
{
    for (size_t i = 0; i < p->dead_ids_count; i++)
        mp_chunk_drop(p->dead_ids[i].slot.chunk);
    p->dead_ids_count = 0;
}

void mp_partition_forget_ids(struct mp_partition *p)
{
    size_t kept = 0;

    for (size_t i = 0; i < p->dead_ids_count; i++) {
        if (p->dead_ids[i].seq > p->flushed_seq)
            p->dead_ids[kept++] = p->dead_ids[i];
        else
            mp_chunk_drop(p->dead_ids[i].slot.chunk);
    }
    p->dead_ids_count = kept;
}

void mp_partitions_check_dead(struct mp_partitions *t)
{
    struct mp_partition *p;

    t->has_dead_segments = false;
    for (uint32_t i = 0; (p = mp_partitions_next(t, &i)) != NULL;)
        if (p->segments_count > 0 && p->segments[0].last < p->floor)
            t->has_dead_segments = true;
}

void mp_partition_free(struct mp_partition *p, struct mp_cold *cold)
{
    mp_cold_forget(cold, &p->cold);
    drop_dead_ids(p);
    mp_memtable_fini(&p->memtable);
    mp_buf_fini(&p->settings);
    mp_buf_fini(&p->loaded_state);
    mp_ranges_fini(&p->dead);
    mp_ranges_fini(&p->damage);
    mp_ranges_fini(&p->unreadable);
    mp_free(p->dead_ids);
    mp_free(p->segments);
    mp_free(p);
}

void mp_partitions_note_dropped(struct mp_partitions *t, uint32_t pid)
{
    t->dropped = mp_realloc(t->dropped, (t->dropped_count + 1) * sizeof *t->dropped);
    t->dropped[t->dropped_count++] = pid;
}

static void remove_partition(struct mp_partitions *t, struct mp_partition *p)
{
    take_out(t, p);
    t->newest = NULL;
    t->count--;
    if (p->has_directory)
        mp_partitions_note_dropped(t, p->pid);
    mp_partition_free(p, t->cold);
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
        mp_partition_free(p, t->cold);
    for (uint32_t i = 0; i < t->loaded_count; i++)
        mp_partition_free(t->loaded[i], t->cold);
    mp_free(t->loaded);
    mp_free(t->dropped);
    mp_free(t->slots);
    *t = (struct mp_partitions){ 0 };
}

static uint64_t messages_of(const struct mp_partition *p)
{
    return p->floor > p->last ? 0 : p->last - p->floor + 1 - p->dead.total;
}

/* From there on all live messages are in the memtable. */
static uint64_t memory_first(const struct mp_partition *p)
{
    return p->memtable.live > 0 ? p->memtable.base : p->flushed_seq + 1;
}

/* Sequences without a message; what lies below the floor is nobody's business. */
static void add_dead(struct mp_partition *p, uint64_t first, uint64_t last)
{
    if (first < p->floor)
        first = p->floor;
    if (first <= last)
        mp_ranges_add(&p->dead, first, last);
}

/* -- effects ----------------------------------------------------------------------- */

static memphis_status malformed(memphis_error *err, const struct mp_entry *e)
{
    return mp_fail(err, MEMPHIS_CORRUPT,
                   "an entry of type %u for partition %u makes no sense: restore the "
                   "data directory from a backup",
                   e->type, e->pid);
}

/* Above all that a rebuilt partition has, and not above what it once had: its files
 * have lost it, and the log tells it again. (What is lost between two messages of the
 * files stays so: nothing can be put there.) */
static bool fills_up(const struct mp_partition *p, uint64_t seq)
{
    uint64_t held =
        p->segments_count > 0 ? p->segments[p->segments_count - 1].last : 0;

    return p->is_rebuilt && seq >= p->floor && seq <= p->last && seq > held &&
           seq >= p->memtable.end && mp_ranges_skip(&p->dead, seq) == seq;
}

/* Behind it nothing is known to be left, so far. */
static void fill_up(struct mp_partition *p, uint64_t seq)
{
    mp_ranges_cut(&p->unreadable, seq);
    mp_partition_lose(p, seq + 1, p->last);
    if (p->flushed_seq >= seq)
        p->flushed_seq = seq - 1;
}

/* Its message lies in a chunk already: the partition only notes where. */
static memphis_status add_message(struct mp_partition *p, const struct mp_entry *e,
                                  const struct mp_place *at, bool *kept,
                                  memphis_error *err)
{
    bool is_lost = fills_up(p, e->seq);

    if (e->seq <= p->last && !is_lost)
        return mp_fail(err, MEMPHIS_CORRUPT,
                       "the log goes back: message %llu of partition %u comes after "
                       "message %llu: restore the data directory from a backup",
                       (unsigned long long)e->seq, e->pid, (unsigned long long)p->last);
    /* Memory grows with a gap behind what is in it already, and with no other: what
     * came before may be lost, however much it was. */
    if (e->seq > SEQ_MAX ||
        (p->memtable.live > 0 && e->seq - p->memtable.end > GAP_MAX))
        return malformed(err, e);
    if (e->seq > p->last + 1)
        add_dead(p, p->last + 1, e->seq - 1);
    if (is_lost)
        fill_up(p, e->seq);
    else
        p->last = e->seq;
    if (e->seq < p->floor)
        return MEMPHIS_OK;
    mp_memtable_put(&p->memtable, e->seq, at->chunk, at->offset, at->size);
    p->bytes += at->size;
    *kept = true;
    return MEMPHIS_OK;
}

/* What was not flushed and has an id leaves that in a segment (an entry of type 5): the
 * idempotency window outlives the message. */
static void keep_id(struct mp_partition *p, uint64_t seq, const struct mp_memslot *slot)
{
    uint8_t flags = slot->chunk->bytes[slot->offset + AT_FLAGS];

    if (!p->keeps_ids || seq <= p->flushed_seq || (flags & MP_ENTRY_HAS_ID) == 0)
        return;
    if (p->dead_ids_count == p->dead_ids_capacity) {
        p->dead_ids_capacity = p->dead_ids_capacity > 0 ? p->dead_ids_capacity * 2 : 16;
        p->dead_ids =
            mp_realloc(p->dead_ids, p->dead_ids_capacity * sizeof *p->dead_ids);
    }
    size_t at = p->dead_ids_count++;
    for (; at > 0 && p->dead_ids[at - 1].seq > seq; at--)
        p->dead_ids[at] = p->dead_ids[at - 1];
    p->dead_ids[at] = (struct mp_dead_id){ seq, *slot };
    slot->chunk->live++;
}

/* The bytes of `count` messages of a segment, by its average. */
static uint64_t bytes_of(const struct mp_segment *g, uint64_t count)
{
    uint64_t bytes = g->length - MP_BLOCK_SIZE;
    uint64_t span = g->last - g->first + 1;

    return count >= span ? bytes : bytes / span * count;
}

/* How many sequences in [from, to) are dead already. */
static uint64_t dead_between(const struct mp_ranges *dead, uint64_t from, uint64_t to)
{
    size_t low = 0, high = dead->count;
    uint64_t count = 0;

    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (dead->items[middle].last < from)
            low = middle + 1;
        else
            high = middle;
    }
    for (; low < dead->count && dead->items[low].first < to; low++) {
        const struct mp_range *r = &dead->items[low];
        uint64_t first = r->first > from ? r->first : from;
        uint64_t end = r->last + 1 < to ? r->last + 1 : to;
        count += end - first;
    }
    return count;
}

/* The live messages in [from, to) that are in no memory leave the account. */
static void discount_cold(struct mp_partition *p, uint64_t from, uint64_t to)
{
    uint64_t bytes = 0;

    for (uint32_t i = 0; i < p->segments_count; i++) {
        const struct mp_segment *g = &p->segments[i];
        uint64_t first = g->first > from ? g->first : from;
        uint64_t end = g->last + 1 < to ? g->last + 1 : to;
        if (first < end)
            bytes += bytes_of(g, end - first - dead_between(&p->dead, first, end));
    }
    p->bytes -= bytes < p->bytes ? bytes : p->bytes;
}

/* A message of the memtable has died. */
static void forget(struct mp_partition *p, uint64_t seq)
{
    const struct mp_memslot *slot = mp_memtable_get(&p->memtable, seq);

    if (slot == NULL)
        return;
    keep_id(p, seq, slot);
    p->bytes -= slot->size < p->bytes ? slot->size : p->bytes;
    mp_memtable_drop(&p->memtable, seq);
}

static memphis_status apply_floor(struct mp_partitions *t, struct mp_partition *p,
                                  const struct mp_entry *e, memphis_error *err)
{
    struct mp_cursor c = mp_cursor_of(e->payload);
    uint64_t first = mp_cursor_u64(&c);

    (void)mp_cursor_u8(&c); /* the reason is for reports only */
    if (c.bad)
        return malformed(err, e);
    if (first <= p->floor)
        return MEMPHIS_OK;
    uint64_t cold_end = first < memory_first(p) ? first : memory_first(p);
    if (p->floor < cold_end)
        discount_cold(p, p->floor, cold_end);
    p->floor = first;
    if (p->segments_count > 0 && p->segments[0].last < first)
        t->has_dead_segments = true;
    while (p->memtable.live > 0 && p->memtable.base < first)
        forget(p, p->memtable.base);
    mp_ranges_trim(&p->dead, first);
    mp_ranges_trim(&p->damage, first);
    mp_ranges_trim(&p->unreadable, first);
    if (messages_of(p) == 0)
        p->bytes = 0;
    return MEMPHIS_OK;
}

static void delete_range(struct mp_partition *p, uint64_t first, uint64_t end)
{
    uint64_t low = first > p->floor ? first : p->floor;
    uint64_t high = end <= p->last ? end : p->last + 1;

    if (low >= high)
        return;
    uint64_t cold_end = high < memory_first(p) ? high : memory_first(p);
    if (low < cold_end)
        discount_cold(p, low, cold_end);
    for (uint64_t seq = low > p->memtable.base ? low : p->memtable.base;
         seq < high && seq < p->memtable.end; seq++)
        forget(p, seq);
    add_dead(p, low, high - 1);
    if (messages_of(p) == 0)
        p->bytes = 0;
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
        if (!c.bad)
            delete_range(p, first, end);
        at = end;
    }
    return c.bad ? malformed(err, e) : MEMPHIS_OK;
}

void mp_partition_damage(struct mp_partition *p, uint64_t first, uint64_t last)
{
    if (first < p->floor)
        first = p->floor;
    if (first > last)
        return;
    mp_ranges_add(&p->damage, first, last);
    if (last > p->last)
        p->last = last;
}

void mp_partition_cut(struct mp_partition *p, uint64_t seq)
{
    if (p->last >= seq)
        p->last = seq - 1;
    if (p->floor > seq)
        p->floor = seq;
    mp_ranges_cut(&p->dead, seq);
    mp_ranges_cut(&p->damage, seq);
    mp_ranges_cut(&p->unreadable, seq);
}

void mp_partition_lose(struct mp_partition *p, uint64_t first, uint64_t last)
{
    if (first < p->floor)
        first = p->floor;
    if (last > p->last)
        last = p->last;
    if (first <= last)
        mp_ranges_add(&p->unreadable, first, last);
}

static memphis_status apply_hole(struct mp_partition *p, const struct mp_entry *e,
                                 memphis_error *err)
{
    struct mp_cursor c = mp_cursor_of(e->payload);
    bool is_skip = e->type == MP_ENTRY_SKIP;
    uint64_t first = is_skip ? e->seq : mp_cursor_u64(&c);
    uint64_t last = mp_cursor_u64(&c);

    if (c.bad || first == 0 || first > last || last > SEQ_MAX)
        return malformed(err, e);
    if (last > p->last)
        add_dead(p, p->last + 1, last);
    if (!is_skip)
        mp_partition_damage(p, first, last);
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
    p->is_guessed = false;
    p->config_version = version;
    p->number = number;
    p->station = station;
    mp_buf_clear(&p->settings);
    mp_buf_put_slice(&p->settings, mp_cursor_take(&c, mp_cursor_left(&c)));
    return MEMPHIS_OK;
}

static struct mp_partition *shard_itself(struct mp_partitions *t)
{
    struct mp_partition *p = mp_partitions_find(t, 0);

    return p != NULL ? p : mp_partitions_add(t, 0);
}

memphis_status mp_partitions_apply(struct mp_partitions *t, const struct mp_entry *e,
                                   const struct mp_place *at, uint64_t index,
                                   bool *kept, memphis_error *err)
{
    *kept = false;
    if (e->type == MP_ENTRY_PARTITION) {
        shard_itself(t)->touched_index = index; /* the table is in its state */
        return apply_partition(t, e, err);
    }
    struct mp_partition *p = e->pid == 0 ? shard_itself(t)
                                         : mp_partitions_find(t, e->pid);
    if (p == NULL)
        return MEMPHIS_OK;
    t->newest = p;
    p->touched_index = index;
    switch (e->type) {
    case MP_ENTRY_MESSAGE:
        return add_message(p, e, at, kept, err);
    case MP_ENTRY_FLOOR:
        return apply_floor(t, p, e, err);
    case MP_ENTRY_DELETE:
        return apply_delete(p, e, err);
    case MP_ENTRY_SKIP:
    case MP_ENTRY_DAMAGE:
        return apply_hole(p, e, err);
    default:
        return MEMPHIS_OK;
    }
}

bool mp_partitions_has_flushed(const struct mp_partitions *t, const struct mp_entry *e,
                               uint64_t index)
{
    uint32_t pid = e->type == MP_ENTRY_PARTITION ? 0 : e->pid;
    const struct mp_partition *p = mp_partitions_find(t, pid);

    if (p != NULL && p->is_rebuilt && e->type == MP_ENTRY_MESSAGE)
        return e->seq <= p->last && !fills_up(p, e->seq);
    if (p != NULL && p->is_rebuilt && e->type == MP_ENTRY_GROUP)
        return index <= p->state_index;
    return p != NULL && index <= p->flushed_index;
}

/* -- reads ------------------------------------------------------------------------- */

/* The message at that slot; *out holds a reference. */
static void read_slot(const struct mp_memslot *slot, struct mp_stored *out)
{
    memphis_slice bytes = { slot->chunk->bytes + slot->offset, slot->size };
    size_t size;

    memphis_status s = mp_entry_decode(bytes, false, &out->entry, &size, NULL);
    mp_assert(s == MEMPHIS_OK); /* we encoded or checked it ourselves */
    mp_chunk_ref(slot->chunk);
    out->chunk = slot->chunk;
}

static const struct mp_segment *segment_at(const struct mp_partition *p, uint64_t seq)
{
    uint32_t low = 0, high = p->segments_count;

    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (p->segments[middle].last < seq)
            low = middle + 1;
        else
            high = middle;
    }
    return low < p->segments_count ? &p->segments[low] : NULL;
}

/* In segments, at or above *seq and below `end`. NOT_FOUND: *seq is where to go on, and
 * what is passed is noted as dead: a reader that has to wait for the next block starts
 * again, and may not find this one any more. */
static memphis_status read_cold(struct mp_partition *p, struct mp_cold *cold,
                                uint64_t *seq, uint64_t end, struct mp_stored *out)
{
    const struct mp_segment *g = segment_at(p, *seq);
    uint64_t empty_to = 0;

    if (g == NULL || cold == NULL || g->first >= end) {
        *seq = end;
        return MEMPHIS_NOT_FOUND;
    }
    if (*seq < g->first) {
        *seq = g->first;
        return MEMPHIS_NOT_FOUND;
    }
    memphis_status s = mp_cold_find(cold, &p->cold, *seq, out, &empty_to);
    if (s == MP_PENDING) {
        mp_cold_want(cold, &p->cold, p->pid, g, *seq);
        return s;
    }
    if (s == MEMPHIS_OK && out->entry.seq == *seq)
        return s;
    uint64_t next = s == MEMPHIS_OK ? out->entry.seq : empty_to + 1;
    add_dead(p, *seq, next - 1);
    *seq = next;
    if (s == MEMPHIS_OK)
        mp_stored_release(out);
    return MEMPHIS_NOT_FOUND;
}

/* The damage that a reader meets on its way from `seq` to `to`; NULL: none. */
static const struct mp_range *range_between(const struct mp_ranges *l, uint64_t seq,
                                            uint64_t to)
{
    for (size_t i = 0; i < l->count; i++) {
        const struct mp_range *r = &l->items[i];
        if (r->last >= seq)
            return r->first <= to ? r : NULL;
    }
    return NULL;
}

static const struct mp_range *damage_between(const struct mp_partition *p, uint64_t seq,
                                             uint64_t to)
{
    const struct mp_range *r = range_between(&p->damage, seq, to);

    return r != NULL ? r : range_between(&p->unreadable, seq, to);
}

bool mp_partition_has(const struct mp_partition *p, uint64_t seq)
{
    return seq >= p->floor && seq <= p->last && seq > 0 &&
           mp_ranges_skip(&p->dead, seq) == seq &&
           mp_ranges_skip(&p->damage, seq) == seq;
}

memphis_status mp_partition_read(struct mp_partition *p, struct mp_cold *cold,
                                 uint64_t seq, struct mp_stored *out)
{
    memphis_status s = MEMPHIS_NOT_FOUND;

    if (seq < p->floor)
        seq = p->floor;
    while (s == MEMPHIS_NOT_FOUND) {
        uint64_t alive = mp_ranges_skip(&p->dead, seq);
        const struct mp_range *lost = damage_between(p, seq, alive);
        if (lost != NULL) {
            out->entry.seq = lost->last;
            return MEMPHIS_CORRUPT;
        }
        if (alive > p->last)
            return s;
        seq = alive;
        const struct mp_memslot *slot = mp_memtable_get(&p->memtable, seq);
        if (slot != NULL) {
            read_slot(slot, out);
            return MEMPHIS_OK;
        }
        bool before_memory = p->memtable.live > 0 && seq < p->memtable.base;
        s = read_cold(p, cold, &seq, before_memory ? p->memtable.base : p->last + 1,
                      out);
    }
    return s;
}

uint64_t mp_partition_first(const struct mp_partition *p)
{
    uint64_t first = mp_ranges_skip(&p->dead, p->floor);

    return first > p->last ? p->last + 1 : first;
}

static uint64_t time_at(const struct mp_memslot *slot)
{
    return mp_get_u64(slot->chunk->bytes + slot->offset + AT_TIME);
}

static uint64_t first_time(const struct mp_partition *p, uint64_t first)
{
    const struct mp_memslot *slot = mp_memtable_get(&p->memtable, first);
    const struct mp_segment *g = segment_at(p, first);

    if (slot != NULL)
        return time_at(slot);
    return g != NULL ? g->min_time_ns : 0;
}

static uint64_t last_time(const struct mp_partition *p)
{
    const struct mp_memtable *m = &p->memtable;
    uint64_t newest = m->end;

    for (; newest > m->base; newest--) {
        const struct mp_memslot *slot = &m->slots[(newest - 1) & (m->capacity - 1)];
        if (slot->chunk != NULL)
            return time_at(slot);
    }
    return p->segments_count > 0 ? p->segments[p->segments_count - 1].max_time_ns : 0;
}

void mp_partition_stats(const struct mp_partition *p, struct mp_log_stats *out)
{
    *out = (struct mp_log_stats){ .messages = messages_of(p),
                                  .bytes = p->bytes,
                                  .first_seq = mp_partition_first(p),
                                  .last_seq = p->last };
    if (out->messages == 0)
        return;
    out->first_time_ns = first_time(p, out->first_seq);
    out->last_time_ns = last_time(p);
}

void mp_partitions_evict(struct mp_partitions *t, struct mp_chunk *c)
{
    uint32_t size;

    mp_assert(!c->is_open);
    c->live++; /* not freed under our feet */
    for (uint32_t at = 0; at < c->used; at += size) {
        const uint8_t *e = c->bytes + at;
        size = mp_get_u32(e);
        if (e[AT_TYPE] != MP_ENTRY_MESSAGE)
            continue;
        struct mp_partition *p = mp_partitions_find(t, mp_get_u32(e + AT_PID));
        if (p == NULL)
            continue;
        t->newest = p;
        mp_memtable_evict(&p->memtable, mp_get_u64(e + AT_SEQ), c);
    }
    mp_chunk_drop(c);
}

/* -- state ------------------------------------------------------------------------- */

static void put_ranges(const struct mp_ranges *r, uint16_t tag, struct mp_buf *out)
{
    if (r->count == 0)
        return;
    mp_buf_put_u16(out, tag);
    mp_buf_put_u32(out, (uint32_t)(r->count * 16));
    for (size_t i = 0; i < r->count; i++) {
        mp_buf_put_u64(out, r->items[i].first);
        mp_buf_put_u64(out, r->items[i].last);
    }
}

void mp_partition_state_put(const struct mp_partition *p, struct mp_buf *out)
{
    put_ranges(&p->dead, MP_STATE_DEAD, out);
    put_ranges(&p->damage, MP_STATE_DAMAGE, out);
}

void mp_partitions_table_put(const struct mp_partitions *t, struct mp_buf *out)
{
    struct mp_partition *p;

    for (uint32_t i = 0; (p = mp_partitions_next(t, &i)) != NULL;) {
        if (p->pid == 0)
            continue;
        mp_buf_put_u16(out, MP_STATE_PARTITION);
        mp_buf_put_u32(out, (uint32_t)(TABLE_ROW_SIZE + p->settings.size));
        mp_buf_put_u32(out, p->pid);
        bool has_files = p->generation > 0 || p->touched_index > p->flushed_index;
        mp_buf_put_u8(out, (uint8_t)(OP_OPEN | (has_files ? HAS_FILES : 0)));
        mp_buf_put_u32(out, p->config_version);
        mp_buf_put_u32(out, p->number);
        mp_buf_put_u32(out, p->station);
        mp_buf_put_u32(out, (uint32_t)p->settings.size);
        mp_buf_put_slice(out, mp_buf_slice(&p->settings));
    }
}

bool mp_partitions_table_row(memphis_slice row, struct mp_entry *out, bool *has_files,
                             struct mp_buf *payload)
{
    struct mp_cursor c = mp_cursor_of(row);
    uint32_t pid = mp_cursor_u32(&c);
    uint8_t op = mp_cursor_u8(&c);

    *has_files = (op & HAS_FILES) != 0;
    mp_buf_clear(payload);
    mp_buf_put_u8(payload, op & (uint8_t)~HAS_FILES);
    for (int i = 0; i < 3; i++)
        mp_buf_put_u32(payload, mp_cursor_u32(&c));
    mp_buf_put_slice(payload, mp_cursor_take(&c, mp_cursor_u32(&c)));
    *out = (struct mp_entry){ .type = MP_ENTRY_PARTITION,
                              .pid = pid,
                              .payload = mp_buf_slice(payload) };
    return !c.bad && pid > 0 && payload->data[0] == OP_OPEN;
}

static bool take_ranges(struct mp_ranges *r, memphis_slice v, uint64_t last)
{
    struct mp_cursor c = mp_cursor_of(v);

    while (mp_cursor_left(&c) > 0) {
        uint64_t from = mp_cursor_u64(&c);
        uint64_t to = mp_cursor_u64(&c);
        if (c.bad || from > to || to > last)
            return false;
        mp_ranges_add(r, from, to);
    }
    return true;
}

memphis_status mp_partition_state_take(struct mp_partition *p, memphis_slice items,
                                       memphis_error *err)
{
    struct mp_cursor c = mp_cursor_of(items);
    memphis_slice v;
    uint16_t tag;
    bool good = true;

    while (good && mp_state_next(&c, &tag, &v)) {
        if (tag == MP_STATE_DEAD)
            good = take_ranges(&p->dead, v, p->last);
        else if (tag == MP_STATE_DAMAGE)
            good = take_ranges(&p->damage, v, p->last);
        else if (tag != MP_STATE_GROUP && tag != MP_STATE_PARTITION &&
                 tag != MP_STATE_CLOCK && tag < MP_STATE_OPTIONAL)
            return mp_fail(err, MEMPHIS_UNSUPPORTED,
                           "items of type %u need a newer release", tag);
    }
    if (!good || c.bad)
        return mp_fail(err, MEMPHIS_CORRUPT,
                       "the state file of partition %u makes no sense", p->pid);
    mp_ranges_trim(&p->dead, p->floor);
    mp_ranges_trim(&p->damage, p->floor);
    return MEMPHIS_OK;
}

void mp_damage_payload(uint64_t first, uint64_t last, uint8_t out[16])
{
    mp_assert(first <= last);
    mp_set_u64(out, first);
    mp_set_u64(out + 8, last);
}
