#include "store/flush.h"

#include "base/assert.h"
#include "base/status.h"
#include "base/str.h"
#include "store/recover.h"
#include "store/slot.h"
#include "store/wal.h"

enum {
    SLICES_MAX = 256,
    SERIAL_SYNCS_MAX = 32, /* more files: one syncfs */

    /* Fields of an encoded entry (record.h). */
    AT_SEQ = 16,
    AT_TIME = 24
};

/* One segment file being appended to. */
struct writer {
    struct mp_flush *flush;
    struct mp_flush_part *part;
    struct mp_segment *segment;
    struct mp_file *file;         /* NULL: none is open */
    uint64_t at;                  /* where the gathered slices go */
    memphis_slice slices[SLICES_MAX];
    size_t slices_count;
    struct mp_buf ids;            /* encoded entries of type 5 among them */
};

/* === Segments === */

static memphis_status write_slices(struct writer *w)
{
    struct mp_env *e = w->flush->env;

    if (w->slices_count == 0)
        return MEMPHIS_OK;
    memphis_status s = e->file_write(e, w->file, w->at, w->slices, w->slices_count,
                                     &w->flush->why);
    w->at = w->segment->length;
    w->slices_count = 0;
    mp_buf_clear(&w->ids);
    return s;
}

static memphis_status add_segment(struct writer *w, uint64_t first)
{
    struct mp_flush_part *p = w->part;
    struct mp_flush *f = w->flush;
    uint8_t block[MP_BLOCK_SIZE];
    memphis_slice v = { block, sizeof block };
    struct mp_segment_header h = { .pid = p->pid,
                                   .shard = f->shard,
                                   .shard_epoch = 1,
                                   .first_seq = first,
                                   .created_ns = f->time_ns,
                                   .index = f->index,
                                   .term = 1 };

    if (p->segments_count > 0) {
        h.before_first = p->segments[p->segments_count - 1].first;
        h.before_last = p->segments[p->segments_count - 1].last;
    }
    p->segments = mp_realloc(p->segments,
                             (p->segments_count + 1) * sizeof *p->segments);
    w->segment = &p->segments[p->segments_count++];
    *w->segment = (struct mp_segment){ .first = first,
                                       .last = first,
                                       .length = MP_BLOCK_SIZE,
                                       .min_time_ns = UINT64_MAX };
    mp_segment_header_encode(&h, block);
    return f->env->file_write(f->env, w->file, 0, &v, 1, &f->why);
}

static memphis_status open_segment(struct writer *w, uint64_t first)
{
    struct mp_flush *f = w->flush;
    struct mp_flush_part *p = w->part;
    struct mp_env *e = f->env;
    char path[MP_PATH_SIZE];
    struct mp_segment *last =
        p->segments_count > 0 ? &p->segments[p->segments_count - 1] : NULL;
    bool is_new = last == NULL || last->is_sealed;

    w->segment = is_new ? NULL : last;
    mp_path_segment(f->shard, p->pid, is_new ? first : w->segment->first, path);
    memphis_status s = e->file_open(e, path, MP_FILE_WRITE | MP_FILE_CREATE, &w->file,
                                    &f->why);
    /* What an interrupted pass has left behind the end is cut off. */
    if (s == MEMPHIS_OK)
        s = e->file_truncate(e, w->file, is_new ? 0 : w->segment->length, &f->why);
    if (s == MEMPHIS_OK && is_new)
        s = add_segment(w, first);
    if (s == MEMPHIS_OK)
        w->at = w->segment->length;
    return s;
}

static memphis_status close_segment(struct writer *w, bool seal)
{
    struct mp_flush *f = w->flush;
    struct mp_env *e = f->env;
    memphis_status s = MEMPHIS_OK;

    if (w->file == NULL)
        return s;
    s = write_slices(w);
    if (s == MEMPHIS_OK && seal)
        s = mp_segment_seal(e, w->file, f->shard, w->part->pid, w->segment,
                            &w->part->damage, &f->why);
    if (s == MEMPHIS_OK && f->parts_count <= SERIAL_SYNCS_MAX) {
        s = e->file_sync(e, w->file, &f->why);
        if (seal) /* fresh pages are dear: the next segment takes over the ones of
        this */
            e->file_forget(e, w->file, 0, w->segment->length + 2 * MP_BLOCK_SIZE);
    }
    e->file_close(e, w->file);
    w->file = NULL;
    return s;
}

/* The id of a message that has died, as an entry of its own. */
static memphis_slice id_entry(struct writer *w, const uint8_t *entry, uint32_t size)
{
    struct mp_entry e;
    size_t length;

    memphis_status s = mp_entry_decode(mp_slice(entry, size), false, &e, &length, NULL);
    mp_assert(s == MEMPHIS_OK);
    struct mp_entry id = { .type = MP_ENTRY_ID, .pid = e.pid, .seq = e.seq,
                           .time_ns = e.time_ns, .id = e.id };
    size_t at = w->ids.size;
    (void)mp_entry_encode(&id, mp_buf_add(&w->ids, mp_entry_size(&id)));
    return mp_slice(w->ids.data + at, w->ids.size - at);
}

static void push_slice(struct writer *w, memphis_slice v)
{
    memphis_slice *last = &w->slices[w->slices_count - (w->slices_count > 0)];

    if (w->slices_count > 0 && (const uint8_t *)last->data + last->size == v.data)
        last->size += v.size; /* neighbours in one chunk */
    else
        w->slices[w->slices_count++] = v;
}

/* An entry that is larger than a segment has one of its own. */
static bool is_full(const struct writer *w, uint64_t seq, uint32_t size)
{
    const struct mp_segment *g = w->segment;

    if (g->length == MP_BLOCK_SIZE)
        return false;
    return g->length + size + 2 * MP_BLOCK_SIZE > w->flush->segment_size ||
           seq - g->first > UINT32_MAX; /* an item of the index has 32 bits */
}

static memphis_status write_slot(struct writer *w, const struct mp_memslot *slot)
{
    uint32_t size = slot->size & ~(uint32_t)MP_FLUSH_ID_ONLY;
    const uint8_t *entry = slot->chunk->bytes + slot->offset;
    uint64_t seq = mp_get_u64(entry + AT_SEQ), time = mp_get_u64(entry + AT_TIME);
    memphis_status s = MEMPHIS_OK;
    bool id_only = (slot->size & MP_FLUSH_ID_ONLY) != 0;

    if (w->file == NULL)
        s = open_segment(w, seq);
    if (s == MEMPHIS_OK && is_full(w, seq, size)) {
        s = close_segment(w, true);
        if (s == MEMPHIS_OK)
            s = open_segment(w, seq);
    }
    /* The buffer of ids must not move while slices point into it. */
    if (s == MEMPHIS_OK &&
        (w->slices_count == SLICES_MAX ||
         (id_only && w->ids.capacity - w->ids.size < MP_BLOCK_SIZE)))
        s = write_slices(w);
    if (s != MEMPHIS_OK)
        return s;
    memphis_slice v = id_only ? id_entry(w, entry, size) : mp_slice(entry, size);
    push_slice(w, v);
    w->segment->length += v.size;
    w->segment->last = seq;
    if (time < w->segment->min_time_ns)
        w->segment->min_time_ns = time;
    if (time > w->segment->max_time_ns)
        w->segment->max_time_ns = time;
    w->flush->bytes += v.size;
    return MEMPHIS_OK;
}

static memphis_status write_segments(struct mp_flush *f, struct mp_flush_part *p)
{
    struct writer w = { .flush = f, .part = p };
    memphis_status s = MEMPHIS_OK;

    mp_buf_reserve(&w.ids, 4 * MP_BLOCK_SIZE);
    for (size_t i = 0; i < p->slots_count && s == MEMPHIS_OK; i++)
        s = write_slot(&w, &p->slots[i]);
    if (s == MEMPHIS_OK)
        s = close_segment(&w, false);
    f->env->file_close(f->env, w.file);
    mp_buf_fini(&w.ids);
    if (p->segments_count > 0) {
        const struct mp_segment *active = &p->segments[p->segments_count - 1];
        p->slot.active_first = active->first;
        p->slot.active_length = active->length;
    }
    return s;
}

/* === State files, slots === */

static memphis_status write_state(struct mp_flush *f, const struct mp_flush_part *p)
{
    struct mp_env *e = f->env;
    memphis_slice v = mp_buf_slice(&p->state);
    struct mp_file *file = NULL;
    char path[MP_PATH_SIZE];

    if (p->state.size == 0)
        return MEMPHIS_OK;
    mp_path_state(f->shard, p->pid, p->slot.state_index, path);
    memphis_status s =
        e->file_open(e, path, MP_FILE_WRITE | MP_FILE_CREATE, &file, &f->why);
    if (s == MEMPHIS_OK)
        s = e->file_truncate(e, file, 0, &f->why);
    if (s == MEMPHIS_OK)
        s = e->file_write(e, file, 0, &v, 1, &f->why);
    if (s == MEMPHIS_OK && f->parts_count <= SERIAL_SYNCS_MAX)
        s = e->file_sync(e, file, &f->why);
    e->file_close(e, file);
    return s;
}

/* Both slots get their blocks now, so that writing one never lacks room. */
static memphis_status prepare_slot(struct mp_flush *f, const struct mp_flush_part *p)
{
    static const uint8_t zeros[2 * MP_BLOCK_SIZE];
    memphis_slice v = mp_slice(zeros, sizeof zeros);
    struct mp_env *e = f->env;
    struct mp_file *file = NULL;
    char path[MP_PATH_SIZE];

    if (p->slot.generation > 1)
        return MEMPHIS_OK;
    mp_path_meta(f->shard, p->pid, path);
    memphis_status s =
        e->file_open(e, path, MP_FILE_WRITE | MP_FILE_CREATE, &file, &f->why);
    if (s == MEMPHIS_OK)
        s = e->file_write(e, file, 0, &v, 1, &f->why);
    if (s == MEMPHIS_OK && f->parts_count <= SERIAL_SYNCS_MAX)
        s = e->file_sync(e, file, &f->why);
    e->file_close(e, file);
    return s;
}

static memphis_status sync_directory(struct mp_flush *f, uint32_t pid)
{
    char path[MP_PATH_SIZE];

    mp_path_partition(f->shard, pid, path);
    return f->env->dir_sync(f->env, path, &f->why);
}

/* Everything that is written until now survives a crash. */
static memphis_status sync_all_parts(struct mp_flush *f)
{
    memphis_status s = MEMPHIS_OK;

    if (f->parts_count > SERIAL_SYNCS_MAX || f->sync_wal)
        return f->env->sync_all(f->env, &f->why);
    for (size_t i = 0; i < f->parts_count && s == MEMPHIS_OK; i++)
        s = sync_directory(f, f->parts[i].pid);
    return s;
}

struct first_name {
    char name[MP_PATH_SIZE];
    bool found;
};

static bool take_first(void *ctx, const char *name)
{
    struct first_name *n = ctx;

    n->found = strlen(name) < sizeof n->name;
    if (n->found)
        memcpy(n->name, name, strlen(name) + 1);
    return false;
}

static memphis_status clear_directory(struct mp_env *e, const char *dir,
                                      memphis_error *err)
{
    char path[2 * MP_PATH_SIZE];

    for (;;) {
        struct first_name n = { .found = false };
        memphis_status s = e->dir_list(e, dir, take_first, &n, err);
        if (s != MEMPHIS_OK || !n.found)
            return s;
        mp_format(path, sizeof path, "%s/%s", dir, n.name);
        s = e->unlink(e, path, err);
        if (s != MEMPHIS_OK)
            return s;
    }
}

/* What a pass that did not end has left in a new one would look like a part of this. */
static memphis_status make_directories(struct mp_flush *f)
{
    struct mp_env *e = f->env;
    char shard[MP_PATH_SIZE], path[MP_PATH_SIZE];
    memphis_status s = MEMPHIS_OK;
    bool any = false;

    mp_path_shard(f->shard, shard);
    for (size_t i = 0; i < f->parts_count && s == MEMPHIS_OK; i++) {
        if (!f->parts[i].is_new)
            continue;
        if (!any) {
            s = e->mkdir(e, "s", &f->why);
            if (s == MEMPHIS_OK)
                s = e->mkdir(e, shard, &f->why);
        }
        any = true;
        mp_path_partition(f->shard, f->parts[i].pid, path);
        if (s == MEMPHIS_OK)
            s = e->mkdir(e, path, &f->why);
        if (s == MEMPHIS_OK)
            s = clear_directory(e, path, &f->why);
    }
    if (s == MEMPHIS_OK && any)
        s = e->dir_sync(e, shard, &f->why);
    if (s == MEMPHIS_OK && any)
        s = e->dir_sync(e, "s", &f->why);
    if (s == MEMPHIS_OK && any)
        s = e->dir_sync(e, "", &f->why);
    return s;
}

static memphis_status write_one_slot(struct mp_flush *f, struct mp_flush_part *p,
                                     bool sync)
{
    uint8_t block[MP_BLOCK_SIZE];
    char path[MP_PATH_SIZE];

    mp_path_meta(f->shard, p->pid, path);
    mp_meta_slot_encode(&p->slot, block);
    return mp_slot_write(f->env, path, block, sync, &f->why);
}

static void forget_slots(struct mp_flush *f)
{
    char path[MP_PATH_SIZE];

    for (size_t i = 0; i < f->parts_count; i++) {
        mp_path_meta(f->shard, f->parts[i].pid, path);
        if (f->parts[i].pid != 0)
            mp_slot_forget(f->env, path, f->parts[i].slot.generation);
    }
}

/* The shard's own comes last: its table says which partitions have files. */
static memphis_status write_slots(struct mp_flush *f)
{
    bool serial = f->parts_count <= SERIAL_SYNCS_MAX;
    memphis_status s = MEMPHIS_OK;

    for (size_t i = 0; i < f->parts_count && s == MEMPHIS_OK; i++)
        if (f->parts[i].pid != 0)
            s = write_one_slot(f, &f->parts[i], serial);
    if (s == MEMPHIS_OK && !serial) {
        s = f->env->sync_all(f->env, &f->why);
        if (s != MEMPHIS_OK)
            forget_slots(f);
    }
    for (size_t i = 0; i < f->parts_count && s == MEMPHIS_OK; i++)
        if (f->parts[i].pid == 0)
            s = write_one_slot(f, &f->parts[i], true);
    return s;
}

/* === What is not needed any more === */

/* A file that is gone already is fine. */
static memphis_status remove_file(struct mp_env *e, const char *path,
                                  memphis_error *err)
{
    memphis_status s = e->unlink(e, path, err);

    return s == MEMPHIS_NOT_FOUND ? MEMPHIS_OK : s;
}

static memphis_status remove_of_part(struct mp_flush *f, const struct mp_flush_part *p)
{
    memphis_status s = MEMPHIS_OK;
    char path[MP_PATH_SIZE];

    if (p->old_state != 0 && p->old_state != p->slot.state_index) {
        mp_path_state(f->shard, p->pid, p->old_state, path);
        s = remove_file(f->env, path, &f->why);
    }
    for (uint32_t i = 0; i < p->dead_count && s == MEMPHIS_OK; i++) {
        mp_path_index(f->shard, p->pid, p->dead[i], path);
        s = remove_file(f->env, path, &f->why);
        mp_path_segment(f->shard, p->pid, p->dead[i], path);
        if (s == MEMPHIS_OK)
            s = remove_file(f->env, path, &f->why);
    }
    return s;
}

static memphis_status remove_old(struct mp_flush *f)
{
    memphis_status s = MEMPHIS_OK;
    char path[MP_PATH_SIZE];

    for (size_t i = 0; i < f->parts_count && s == MEMPHIS_OK; i++)
        s = remove_of_part(f, &f->parts[i]);
    if (s == MEMPHIS_OK && f->write_node)
        s = mp_node_write(f->env, &f->node, &f->why);
    for (size_t i = 0; i < f->wal_files_count && s == MEMPHIS_OK; i++) {
        mp_wal_name(f->wal_files[i], path);
        if (i + 1 == f->wal_files_count) /* the largest: it is used again */
            s = f->env->rename(f->env, path, MP_WAL_SPARE_NAME, &f->why);
        else
            s = f->env->unlink(f->env, path, &f->why);
        if (s == MEMPHIS_NOT_FOUND)
            s = MEMPHIS_OK;
    }
    return s;
}

/* A pass without messages removes more than it writes: the reserve is for such. */
static memphis_status check_room(struct mp_flush *f)
{
    uint64_t bytes = 0, free = f->env->free_bytes(f->env);

    for (size_t i = 0; i < f->parts_count; i++)
        for (size_t k = 0; k < f->parts[i].slots_count; k++)
            bytes += f->parts[i].slots[k].size & ~(uint32_t)MP_FLUSH_ID_ONLY;
    if (bytes == 0 || mp_has_room(free, bytes, f->disk_reserve))
        return MEMPHIS_OK;
    return mp_fail(&f->why, MEMPHIS_NO_SPACE,
                   "there is no room for %llu bytes of messages: %llu are free, %llu "
                   "are kept in reserve",
                   (unsigned long long)bytes, (unsigned long long)free,
                   (unsigned long long)f->disk_reserve);
}

void mp_flush_run(struct mp_job *job)
{
    struct mp_flush *f = (struct mp_flush *)(void *)job;

    f->status = check_room(f);
    if (f->status == MEMPHIS_OK)
        f->status = make_directories(f);
    for (size_t i = 0; i < f->parts_count && f->status == MEMPHIS_OK; i++) {
        f->status = write_segments(f, &f->parts[i]);
        if (f->status == MEMPHIS_OK)
            f->status = write_state(f, &f->parts[i]);
        if (f->status == MEMPHIS_OK)
            f->status = prepare_slot(f, &f->parts[i]);
    }
    if (f->status == MEMPHIS_OK)
        f->status = sync_all_parts(f);
    if (f->status != MEMPHIS_OK)
        return; /* nothing names what was written: another pass may do it again */
    f->status = write_slots(f);
    if (f->status == MEMPHIS_OK)
        f->status = remove_old(f);
    if (f->status != MEMPHIS_OK)
        f->status = MEMPHIS_IO; /* some slots may say more than the core knows */
}

/* === The plan === */

struct mp_flush_part *mp_flush_add(struct mp_flush *f)
{
    if (f->parts_count == f->parts_capacity) {
        f->parts_capacity = f->parts_capacity > 0 ? f->parts_capacity * 2 : 16;
        f->parts = mp_realloc(f->parts, f->parts_capacity * sizeof *f->parts);
    }
    f->parts[f->parts_count] = (struct mp_flush_part){ 0 };
    return &f->parts[f->parts_count++];
}

void mp_flush_hold(struct mp_flush *f, struct mp_chunk *c)
{
    if (f->chunks_count > 0 && f->chunks[f->chunks_count - 1] == c)
        return;
    if (f->chunks_count == f->chunks_capacity) {
        f->chunks_capacity = f->chunks_capacity > 0 ? f->chunks_capacity * 2 : 64;
        f->chunks = mp_realloc(f->chunks, f->chunks_capacity * sizeof *f->chunks);
    }
    mp_chunk_ref(c);
    f->chunks[f->chunks_count++] = c;
}

void mp_flush_fini(struct mp_flush *f)
{
    for (size_t i = 0; i < f->parts_count; i++) {
        mp_free(f->parts[i].slots);
        mp_free(f->parts[i].segments);
        mp_free(f->parts[i].dead);
        mp_ranges_fini(&f->parts[i].damage);
        mp_buf_fini(&f->parts[i].state);
    }
    for (size_t i = 0; i < f->chunks_count; i++)
        mp_chunk_unref(f->chunks[i]);
    mp_free(f->parts);
    mp_free(f->chunks);
    mp_free(f->wal_files);
    f->parts = NULL;
    f->chunks = NULL;
    f->wal_files = NULL;
    f->parts_count = f->parts_capacity = 0;
    f->chunks_count = f->chunks_capacity = 0;
    f->wal_files_count = 0;
}

/* === Removal of a partition === */

memphis_status mp_flush_remove(struct mp_env *e, uint32_t shard, uint32_t pid,
                               memphis_error *err)
{
    char dir[MP_PATH_SIZE];

    mp_path_partition(shard, pid, dir);
    memphis_status s = clear_directory(e, dir, err);
    if (s == MEMPHIS_OK)
        s = e->rmdir(e, dir, err);
    return s == MEMPHIS_NOT_FOUND ? MEMPHIS_OK : s;
}
