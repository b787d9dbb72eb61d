#include "store/load.h"

#include "base/assert.h"
#include "base/enc.h"
#include "base/status.h"
#include "base/str.h"
#include "store/slot.h"

#include <stdlib.h>

enum { NAME_DIGITS = 20 };

/* === Names === */

struct names {
    char (*items)[MP_PATH_SIZE];
    size_t count;
};

static bool take_name(void *ctx, const char *name)
{
    struct names *n = ctx;
    size_t size = strlen(name);

    if (size >= MP_PATH_SIZE)
        return true;
    n->items = mp_realloc(n->items, (n->count + 1) * sizeof *n->items);
    memcpy(n->items[n->count++], name, size + 1);
    return true;
}

static int compare_names(const void *a, const void *b)
{
    return strcmp(a, b);
}

/* Sorted; a directory that is not there is empty. */
static memphis_status list(struct mp_env *e, const char *dir, struct names *out,
                           memphis_error *err)
{
    memphis_status s = e->dir_list(e, dir, take_name, out, err);

    if (out->count > 0)
        qsort(out->items, out->count, sizeof *out->items, compare_names);
    return s == MEMPHIS_NOT_FOUND ? MEMPHIS_OK : s;
}

/* "<20 digits>.seg" and the like. */
static bool numbered(const char *name, const char *suffix, uint64_t *out)
{
    return strlen(name) == NAME_DIGITS + strlen(suffix) &&
           strcmp(name + NAME_DIGITS, suffix) == 0 &&
           mp_parse_u64(mp_slice(name, NAME_DIGITS), out);
}

static bool parse_pid(const char *name, uint32_t *out)
{
    char *end;

    if (strcmp(name, "dls") == 0) {
        *out = 0;
        return true;
    }
    if (strlen(name) != 8 || strspn(name, "0123456789abcdef") != 8)
        return false;
    *out = (uint32_t)strtoul(name, &end, 16);
    return *out > 0;
}

/* === One partition === */

struct loader {
    struct mp_env *e;
    uint32_t shard;
    uint64_t ended_index;
    struct mp_partition *p;
    struct mp_meta_slot slot;
    uint64_t expected, expected_last; /* the segment that comes next; 0: none */
    bool has_removed;
};

/* Where the first thing that is wrong is written down: it is told when the partition
 * turns out to exist. `is_range`: it is no more than sequences which no segment holds,
 * so when those are declared lost all is said. */
static memphis_error *complaint(struct loader *l, bool is_range)
{
    struct mp_partition *p = l->p;

    if (p->damaged.status != MEMPHIS_OK && (is_range || !p->damage_is_range))
        return NULL;
    p->damage_is_range = is_range;
    return &p->damaged;
}

static void push_segment(struct mp_partition *p, const struct mp_segment *g)
{
    if (p->segments_count == p->segments_capacity) {
        p->segments_capacity = p->segments_capacity > 0 ? p->segments_capacity * 2 : 4;
        p->segments =
            mp_realloc(p->segments, p->segments_capacity * sizeof *p->segments);
    }
    p->segments[p->segments_count++] = *g;
}

/* The segment that a flush was appending to: valid up to what the slot says. */
static memphis_status load_active(struct loader *l, struct mp_file *f, const char *path,
                                  memphis_error *err)
{
    struct mp_segment_scan scan = { 0 };
    struct mp_ranges damage = { 0 };
    struct mp_segment g = { .first = l->slot.active_first,
                            .last = l->slot.flushed_seq,
                            .length = l->slot.active_length };

    memphis_error why = { 0 };
    memphis_status s = mp_segment_scan(l->e, f, l->p->pid, &g, &damage, &scan, &why);
    if (s != MEMPHIS_OK)
        (void)mp_fail(err, s, "'%s': %s", path, why.message);
    if (damage.count > 0)
        (void)mp_fail(complaint(l, true), MEMPHIS_CORRUPT,
                      "'%s' is damaged from message %llu on", path,
                      (unsigned long long)damage.items[0].first);
    for (size_t i = 0; i < damage.count; i++)
        mp_partition_lose(l->p, damage.items[i].first, damage.items[i].last);
    g.min_time_ns = scan.footer.min_time_ns;
    g.max_time_ns = scan.footer.max_time_ns;
    if (scan.footer.count > 0)
        g.last = scan.footer.last_seq;
    if (scan.footer.count > 0 || damage.count > 0)
        push_segment(l->p, &g);
    mp_ranges_fini(&damage);
    mp_segment_scan_fini(&scan);
    return s;
}

/* The header of a segment file. CORRUPT: it is none, or cannot be read; VERSION: of a
 * newer release. */
static memphis_status take_header(const struct loader *l, struct mp_file *f,
                                  const char *path, struct mp_segment_header *out,
                                  memphis_error *err)
{
    uint8_t block[MP_BLOCK_SIZE];
    size_t got = 0;

    if (l->e->file_read(l->e, f, 0, block, sizeof block, &got, NULL) != MEMPHIS_OK)
        got = 0;
    memphis_status s = mp_segment_header_decode(mp_slice(block, got), out);
    if (s == MEMPHIS_VERSION)
        return mp_fail(err, s, "'%s' was written by a newer release; use that one",
                       path);
    return s;
}

/* Reads the header: which segment came before. A damaged one ends the chain. */
static memphis_status read_header(struct loader *l, struct mp_file *f, uint64_t first,
                                  const char *path, memphis_error *err)
{
    struct mp_segment_header h;

    memphis_status s = take_header(l, f, path, &h, err);
    if (s != MEMPHIS_OK && s != MEMPHIS_CORRUPT)
        return s;
    if (s == MEMPHIS_OK && h.pid == l->p->pid && h.first_seq == first) {
        l->expected = h.before_first;
        l->expected_last = h.before_last;
        return s;
    }
    (void)mp_fail(complaint(l, false), MEMPHIS_CORRUPT, "'%s' is damaged at offset 0",
                  path);
    l->expected = first - 1; /* whatever is there */
    l->expected_last = 0;
    return MEMPHIS_OK;
}

static memphis_status load_sealed(struct loader *l, uint64_t first, const char *path,
                                  memphis_error *err)
{
    struct mp_segment g;

    memphis_status s =
        mp_segment_open_sealed(l->e, l->shard, l->p->pid, first, &g, err);
    if (s == MEMPHIS_OK)
        push_segment(l->p, &g);
    if (s != MEMPHIS_NOT_FOUND)
        return s;
    (void)mp_fail(complaint(l, true), MEMPHIS_CORRUPT, "'%s' has no valid footer",
                  path);
    return MEMPHIS_OK;
}

/* What an interrupted pass has left must be overtaken before a later one ends: else it
 * would look like a part of that. See must_flush. */
static void tell_old_slot(struct loader *l, const char *path)
{
    char meta[MP_PATH_SIZE];

    l->p->is_old = true;
    mp_path_meta(l->shard, l->p->pid, meta);
    (void)mp_fail(complaint(l, false), MEMPHIS_CORRUPT,
                  "'%s' is damaged: its newest slot does not know '%s'", meta, path);
}

/* A segment that the slot does not name, of a pass that did not end. */
static memphis_status remove_left_over(struct loader *l, uint64_t first,
                                       const char *path, memphis_error *err)
{
    struct mp_env *e = l->e;
    struct mp_file *f = NULL;
    struct mp_segment_header h;

    memphis_status s = e->file_open(e, path, MP_FILE_READ, &f, err);
    if (s == MEMPHIS_OK)
        s = take_header(l, f, path, &h, err);
    e->file_close(e, f);
    if (s != MEMPHIS_OK && s != MEMPHIS_CORRUPT)
        return s;
    if (l->p->is_old)
        return MEMPHIS_OK;
    if (first > l->slot.flushed_seq && s == MEMPHIS_OK &&
        h.index <= l->ended_index) {
        tell_old_slot(l, path);
        return MEMPHIS_OK;
    }
    l->has_removed = true;
    return e->unlink(e, path, err);
}

/* The newest segment comes first; each names the one before it. So it is known which
 * files are missing, and which are left-overs: of a pass that did not end, or below a
 * floor that has passed them all. */
static memphis_status load_segment(struct loader *l, uint64_t first, memphis_error *err)
{
    struct mp_env *e = l->e;
    struct mp_file *f = NULL;
    char path[MP_PATH_SIZE];

    mp_path_segment(l->shard, l->p->pid, first, path);
    if (first > l->expected)
        return remove_left_over(l, first, path, err);
    if (first < l->expected && l->expected_last > l->p->missing_last)
        l->p->missing_last = l->expected_last;
    memphis_status s = e->file_open(e, path, MP_FILE_READ, &f, err);
    if (s == MEMPHIS_OK)
        s = read_header(l, f, first, path, err);
    if (s == MEMPHIS_OK && first == l->slot.active_first)
        s = load_active(l, f, path, err);
    else if (s == MEMPHIS_OK)
        s = load_sealed(l, first, path, err);
    e->file_close(e, f);
    return s;
}

static void reverse_segments(struct mp_partition *p)
{
    for (uint32_t i = 0; i + i + 1 < p->segments_count; i++) {
        struct mp_segment *other = &p->segments[p->segments_count - 1 - i];
        struct mp_segment g = p->segments[i];
        p->segments[i] = *other;
        *other = g;
    }
}

static memphis_status load_segments(struct loader *l, const struct names *n,
                                    memphis_error *err)
{
    memphis_status s = MEMPHIS_OK;
    uint64_t first;

    l->expected = l->slot.active_first;
    l->expected_last = l->slot.flushed_seq;
    for (size_t i = n->count; i > 0 && s == MEMPHIS_OK; i--)
        if (numbered(n->items[i - 1], ".seg", &first))
            s = load_segment(l, first, err);
    if (l->expected > 0 && l->expected_last > l->p->missing_last)
        l->p->missing_last = l->expected_last;
    reverse_segments(l->p);
    return s;
}

/* CORRUPT, NOT_FOUND: *why says what is wrong with it. */
static memphis_status read_state(struct loader *l, uint64_t index, memphis_error *why)
{
    struct mp_env *e = l->e;
    struct mp_buf bytes = { 0 };
    struct mp_file *f = NULL;
    struct mp_state_header h;
    memphis_slice items;
    uint64_t size = 0;
    char path[MP_PATH_SIZE];

    mp_path_state(l->shard, l->p->pid, index, path);
    memphis_status s = e->file_open(e, path, MP_FILE_READ, &f, why);
    if (s == MEMPHIS_NOT_FOUND)
        return mp_fail(why, s, "'%s' is missing", path);
    if (s == MEMPHIS_OK)
        s = e->file_size(e, f, &size, why);
    if (s == MEMPHIS_OK && size <= UINT32_MAX) {
        mp_buf_reserve(&bytes, (size_t)size);
        s = e->file_read(e, f, 0, bytes.data, (size_t)size, &bytes.size, why);
        if (s == MEMPHIS_IO)
            s = MEMPHIS_CORRUPT; /* a sector that cannot be read: *why names it */
    }
    e->file_close(e, f);
    if (s == MEMPHIS_OK) {
        s = mp_state_decode(mp_buf_slice(&bytes), &h, &items, why);
        if (s == MEMPHIS_OK && (h.pid != l->p->pid || h.index != index))
            s = mp_fail(why, MEMPHIS_CORRUPT, "it is of another partition");
        if (s == MEMPHIS_OK)
            s = mp_partition_state_take(l->p, items, why);
        if (s == MEMPHIS_OK)
            mp_buf_put_slice(&l->p->loaded_state, items);
        else
            s = mp_fail(why, s, "'%s': %s", path, why->message);
    }
    mp_buf_fini(&bytes);
    return s;
}

static memphis_status load_state(struct loader *l, memphis_error *err)
{
    memphis_error why;

    if (l->slot.state_index == 0)
        return MEMPHIS_OK;
    memphis_status s = read_state(l, l->slot.state_index, &why);
    if (s == MEMPHIS_CORRUPT || s == MEMPHIS_NOT_FOUND) {
        (void)mp_fail(complaint(l, false), MEMPHIS_CORRUPT, "%s", why.message);
        /* It goes when a newer slot is there: that is what the other one was. */
        l->p->is_old |= s == MEMPHIS_NOT_FOUND;
        return MEMPHIS_OK;
    }
    return s == MEMPHIS_OK ? s : mp_fail(err, s, "%s", why.message);
}

/* A state file that the slot does not name; an index whose segment is gone. */
static bool is_left_over(const struct loader *l, const struct names *n,
                         const char *name)
{
    char segment[MP_PATH_SIZE];
    uint64_t number;

    if (strncmp(name, "state.", 6) == 0)
        return !mp_parse_u64(mp_slice(name + 6, strlen(name + 6)), &number) ||
               number != l->slot.state_index;
    if (!numbered(name, ".idx", &number))
        return false;
    mp_format(segment, sizeof segment, "%.20s.seg", name);
    return number > l->slot.active_first ||
           bsearch(segment, n->items, n->count, sizeof *n->items, compare_names) ==
               NULL;
}

static bool is_of_newer_pass(const struct loader *l, const char *name)
{
    uint64_t index;

    return strncmp(name, "state.", 6) == 0 &&
           mp_parse_u64(mp_slice(name + 6, strlen(name + 6)), &index) &&
           index > l->slot.flushed_index && index <= l->ended_index;
}

static memphis_status load_files(struct loader *l, const char *dir, memphis_error *err)
{
    struct names n = { 0 };
    char path[2 * MP_PATH_SIZE];

    memphis_status s = list(l->e, dir, &n, err);
    if (s == MEMPHIS_OK)
        s = load_state(l, err);
    if (s == MEMPHIS_OK)
        s = load_segments(l, &n, err);
    for (size_t i = 0; i < n.count && s == MEMPHIS_OK && !l->p->is_old; i++) {
        if (!is_left_over(l, &n, n.items[i]))
            continue;
        mp_format(path, sizeof path, "%s/%s", dir, n.items[i]);
        if (is_of_newer_pass(l, n.items[i]))
            tell_old_slot(l, path);
        else
            s = l->e->unlink(l->e, path, err);
        l->has_removed = true;
    }
    /* They must not come back when later passes have ended. */
    if (s == MEMPHIS_OK && l->has_removed)
        s = l->e->dir_sync(l->e, dir, err);
    l->p->must_flush |= l->has_removed;
    mp_free(n.items);
    return s;
}

static void take_slot(struct mp_partition *p, const struct mp_meta_slot *slot)
{
    p->floor = slot->first_seq > 0 ? slot->first_seq : 1;
    p->last = p->flushed_seq = slot->flushed_seq;
    p->flushed_index = p->touched_index = slot->flushed_index;
    p->state_index = slot->state_index;
    p->generation = slot->generation;
    p->bytes = slot->live_bytes;
    p->config_version = slot->config_version;
    p->station = slot->station;
    p->number = slot->number;
    p->has_directory = true;
}

/* A slot that was torn by a crash belongs to a pass that did not end. One that is not
 * valid, or was not read, although its pass has ended: the slot at hand is too old. */
static memphis_status check_other_slot(struct loader *l, const char *path,
                                       memphis_error *err)
{
    uint64_t other = (l->slot.generation + 1) % 2 * MP_BLOCK_SIZE;
    uint8_t block[MP_BLOCK_SIZE] = { 0 };
    struct mp_meta_slot slot;
    struct mp_file *f = NULL;
    size_t got = 0;

    memphis_status s = l->e->file_open(l->e, path, MP_FILE_READ, &f, err);
    if (s != MEMPHIS_OK)
        return s;
    s = l->e->file_read(l->e, f, other, block, sizeof block, &got, NULL);
    l->e->file_close(l->e, f);
    if (s == MEMPHIS_OK && mp_meta_slot_decode(mp_slice(block, got), &slot) &&
        slot.generation < l->slot.generation)
        return MEMPHIS_OK;
    l->p->must_flush = true; /* or there was no other one: then it costs a slot */
    /* Its fields as they stand there: */
    mp_set_u32(block + 4, mp_block_crc(block, sizeof block));
    if (s != MEMPHIS_OK || /* who knows; or it can be read again: */
        (mp_meta_slot_decode(mp_slice(block, sizeof block), &slot) &&
         slot.flushed_index > l->slot.flushed_index &&
         slot.flushed_index <= l->ended_index)) {
        l->p->is_old = true;
        (void)mp_fail(complaint(l, false), MEMPHIS_CORRUPT,
                      "the newest slot of '%s' is damaged", path);
    }
    return MEMPHIS_OK;
}

static memphis_status load_partition(struct mp_env *e, uint32_t shard, uint32_t pid,
                                     uint64_t ended_index, struct mp_partitions *t,
                                     memphis_error *err)
{
    struct loader l = { .e = e, .shard = shard, .ended_index = ended_index };
    uint8_t block[MP_BLOCK_SIZE];
    char path[MP_PATH_SIZE];
    bool exists;

    mp_path_meta(shard, pid, path);
    memphis_status s = mp_slot_read(e, path, "MPM1", block, &exists, err);
    if (s == MEMPHIS_NOT_FOUND) {
        l.p = mp_partition_new(pid);
        l.p->has_directory = true;
        mp_partitions_keep_loaded(t, l.p);
        return MEMPHIS_OK;
    }
    if (s == MEMPHIS_OK && !mp_meta_slot_decode(mp_slice(block, sizeof block), &l.slot))
        s = mp_fail(err, MEMPHIS_CORRUPT, "'%s' is damaged", path);
    if (s != MEMPHIS_OK)
        return s;
    l.p = mp_partition_new(pid);
    take_slot(l.p, &l.slot);
    mp_partitions_keep_loaded(t, l.p);
    s = check_other_slot(&l, path, err);
    if (s != MEMPHIS_OK)
        return s;
    mp_path_partition(shard, pid, path);
    return load_files(&l, path, err);
}

static int compare_pids(const void *a, const void *b)
{
    const struct mp_partition *const *x = a, *const *y = b;

    return ((*x)->pid > (*y)->pid) - ((*x)->pid < (*y)->pid);
}

memphis_status mp_load_shard(struct mp_env *e, uint32_t shard, uint64_t ended_index,
                             struct mp_partitions *t, memphis_error *err)
{
    struct names n = { 0 };
    char dir[MP_PATH_SIZE];
    uint32_t pid;

    mp_path_shard(shard, dir);
    memphis_status s = list(e, dir, &n, err);
    for (size_t i = 0; i < n.count && s == MEMPHIS_OK; i++)
        if (parse_pid(n.items[i], &pid))
            s = load_partition(e, shard, pid, ended_index, t, err);
    mp_free(n.items);
    if (t->loaded_count > 0) /* names have "dls" among them */
        qsort(t->loaded, t->loaded_count, sizeof(struct mp_partition *), compare_pids);
    return s;
}

/* === Repair === */

/* All good entries of a file, up to sequence `last`; how many. */
static memphis_status find_entries(struct loader *l, struct mp_file *f, uint64_t last,
                                   struct mp_segment *g, uint32_t *count,
                                   struct mp_ranges *holes, memphis_error *err)
{
    struct mp_segment_scan scan = { 0 };

    g->last = last;
    memphis_status s = l->e->file_size(l->e, f, &g->length, err);
    if (s == MEMPHIS_OK)
        s = mp_segment_scan(l->e, f, l->p->pid, g, holes, &scan, err);
    if (s == MEMPHIS_OK) {
        *g = (struct mp_segment){ .first = g->first,
                                  .last = scan.footer.last_seq,
                                  .length = scan.end,
                                  .min_time_ns = scan.footer.min_time_ns,
                                  .max_time_ns = scan.footer.max_time_ns };
        *count = scan.footer.count;
    }
    mp_segment_scan_fini(&scan);
    return s;
}

/* A header that says nothing is made anew: without it the chain ends here. */
static memphis_status make_header(struct loader *l, struct mp_file *f, uint64_t first,
                                  memphis_error *err)
{
    const struct mp_partition *p = l->p;
    uint8_t block[MP_BLOCK_SIZE];
    memphis_slice v = { block, sizeof block };
    struct mp_segment_header h = { .pid = p->pid,
                                   .shard = l->shard,
                                   .shard_epoch = 1,
                                   .first_seq = first,
                                   .index = l->ended_index,
                                   .term = 1 };

    if (p->segments_count > 0) {
        h.before_first = p->segments[p->segments_count - 1].first;
        h.before_last = p->segments[p->segments_count - 1].last;
    }
    mp_segment_header_encode(&h, block);
    return l->e->file_write(l->e, f, 0, &v, 1, err);
}

/* The one behind names[i]. */
static bool next_segment(const struct names *n, size_t i, uint64_t *first)
{
    for (i++; i < n->count; i++)
        if (numbered(n->items[i], ".seg", first))
            return true;
    return false;
}

/* `active`: what the slot says of its own; first 0: there is no slot, or no such one.
 * `last`: messages above do not count, or are in the next file. */
static memphis_status repair_segment(struct loader *l, uint64_t first, uint64_t last,
                                     const struct mp_segment *active,
                                     struct mp_ranges *holes, memphis_error *err)
{
    struct mp_env *e = l->e;
    struct mp_partition *p = l->p;
    struct mp_file *f = NULL;
    struct mp_segment g = *active;
    uint32_t count = 1;
    bool has_header = false;
    struct mp_segment_header h;
    char path[MP_PATH_SIZE];

    mp_path_segment(l->shard, p->pid, first, path);
    memphis_status s = e->file_open(e, path, MP_FILE_WRITE, &f, err);
    if (s == MEMPHIS_OK) {
        memphis_status verdict = take_header(l, f, path, &h, err);
        has_header = verdict == MEMPHIS_OK && h.pid == p->pid && h.first_seq == first;
        if (verdict == MEMPHIS_VERSION)
            s = verdict;
    }
    if (s == MEMPHIS_OK && first > last) {
        e->file_close(e, f);
        l->has_removed = true;
        return e->unlink(e, path, err);
    }
    if (s == MEMPHIS_OK && active->first != first &&
        (mp_segment_open_sealed(e, l->shard, p->pid, first, &g, err) != MEMPHIS_OK ||
         g.last > last)) {
        g = (struct mp_segment){ .first = first };
        s = find_entries(l, f, last, &g, &count, holes, err);
        if (s == MEMPHIS_OK && count > 0)
            s = mp_segment_seal(e, f, l->shard, p->pid, &g, holes, err);
    }
    if (s == MEMPHIS_OK && !has_header)
        s = make_header(l, f, first, err);
    if (s == MEMPHIS_OK)
        s = e->file_sync(e, f, err);
    if (s == MEMPHIS_OK && count > 0)
        push_segment(p, &g);
    e->file_close(e, f);
    return s;
}

/* The newest state file that is good. Whether its ranges are of sequences that there
 * are is known only when the segments have been looked at. */
static void rebuild_state(struct loader *l, const struct names *n)
{
    struct mp_partition *p = l->p;
    uint64_t index, last = p->last;
    bool found = false;
    memphis_error why;

    p->last = UINT64_MAX - 1;
    mp_buf_clear(&p->loaded_state); /* of an old slot */
    for (size_t i = n->count; i > 0 && !found; i--) {
        mp_ranges_cut(&p->dead, 0);
        mp_ranges_cut(&p->damage, 0);
        found = strncmp(n->items[i - 1], "state.", 6) == 0 &&
                mp_parse_u64(mp_slice(n->items[i - 1] + 6, NAME_DIGITS), &index) &&
                read_state(l, index, &why) == MEMPHIS_OK;
        if (found)
            p->state_index = index;
    }
    p->last = last;
}

static void reach(struct mp_partition *p, uint64_t seq)
{
    if (p->last < seq)
        p->last = seq;
}

/* What the slot would say. Where it began is not known any more: at the first message
 * that is left. */
static void rebuild(struct loader *l, uint64_t cut, const struct names *n)
{
    struct mp_partition *p = l->p;

    rebuild_state(l, n);
    mp_partition_cut(p, cut);
    p->bytes = 0;
    for (uint32_t i = 0; i < p->segments_count; i++)
        p->bytes += p->segments[i].length - MP_BLOCK_SIZE;
    if (p->segments_count > 0 && p->segments[0].first > p->floor && p->floor == 1)
        p->floor = p->segments[0].first;
    /* No sequence is given twice: what is dead or lost had one, too. */
    if (p->segments_count > 0)
        reach(p, p->segments[p->segments_count - 1].last);
    if (p->dead.count > 0)
        reach(p, p->dead.items[p->dead.count - 1].last);
    if (p->damage.count > 0)
        reach(p, p->damage.items[p->damage.count - 1].last);
    p->flushed_seq = p->last;
    if (p->flushed_index < l->ended_index)
        p->flushed_index = p->touched_index = l->ended_index;
    p->must_flush = true;
}

memphis_status mp_load_repair(struct mp_env *e, uint32_t shard, uint64_t ended_index,
                              struct mp_partition *p, memphis_error *err)
{
    struct loader l = { .e = e, .shard = shard, .ended_index = ended_index, .p = p };
    struct mp_segment active = { .first = 0 };
    struct mp_ranges holes = { 0 };
    struct names n = { 0 };
    char dir[MP_PATH_SIZE];
    uint64_t first, next, cut = UINT64_MAX;

    p->is_rebuilt = p->generation == 0 || p->is_old;
    if (p->is_rebuilt && p->logged_seq > 0)
        cut = p->logged_seq;
    if (cut <= p->flushed_seq)
        cut = p->flushed_seq + 1; /* an old slot is still right as far as it goes */
    if (!p->is_rebuilt && p->segments_count > 0 &&
        !p->segments[p->segments_count - 1].is_sealed)
        active = p->segments[p->segments_count - 1];
    p->segments_count = 0;
    mp_path_partition(shard, p->pid, dir);
    memphis_status s = list(e, dir, &n, err);
    for (size_t i = 0; i < n.count && s == MEMPHIS_OK; i++) {
        if (!numbered(n.items[i], ".seg", &first))
            continue;
        uint64_t end = next_segment(&n, i, &next) && next < cut ? next : cut;
        s = repair_segment(&l, first, end - 1, &active, &holes, err);
    }
    if (s == MEMPHIS_OK && l.has_removed)
        s = e->dir_sync(e, dir, err);
    if (s == MEMPHIS_OK && p->is_rebuilt)
        rebuild(&l, cut, &n);
    if (p->generation == 0 && p->segments_count == 0 && p->loaded_state.size == 0)
        p->is_rebuilt = false; /* nothing is left: it begins as a new one */
    for (size_t i = 0; i < holes.count; i++)
        mp_partition_lose(p, holes.items[i].first, holes.items[i].last);
    mp_ranges_fini(&holes);
    mp_free(n.items);
    return s;
}

/* === Ids === */

memphis_status mp_load_since(struct mp_env *e, uint32_t shard,
                             const struct mp_partition *p, uint64_t since_ns,
                             mp_segment_fn fn, void *ctx, memphis_error *err)
{
    for (uint32_t i = 0; i < p->segments_count; i++) {
        const struct mp_segment *g = &p->segments[i];
        struct mp_segment_walk w = { .env = e,
                                     .pid = p->pid,
                                     .at = MP_BLOCK_SIZE,
                                     .length = g->length,
                                     .after = g->first - 1,
                                     .last = g->last };
        char path[MP_PATH_SIZE];

        if (g->max_time_ns < since_ns)
            continue;
        mp_path_segment(shard, p->pid, g->first, path);
        memphis_status s = e->file_open(e, path, MP_FILE_READ, &w.file, err);
        while (s == MEMPHIS_OK && w.at < w.length) {
            s = mp_segment_each(&w, fn, ctx, err);
            if (s != MEMPHIS_CORRUPT && s != MEMPHIS_IO)
                break;
            (void)mp_segment_skip(&w);
            s = MEMPHIS_OK;
        }
        e->file_close(e, w.file);
        if (s != MEMPHIS_OK)
            return s;
    }
    return MEMPHIS_OK;
}
