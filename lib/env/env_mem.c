#include "env/env_mem.h"

#include "base/assert.h"
#include "base/buf.h"
#include "base/list.h"
#include "base/status.h"
#include "env/worker.h"

enum { NAME_SIZE = 96, SECTOR = 512, BLOCK = 4096 };

#define OPERATION_NS 1000
#define START_NS 1700000000000000000ull

/* A write or a change of size that is not synced. */
struct change {
    bool is_truncate;
    uint64_t offset;          /* truncate: the new size */
    uint8_t *bytes;
    size_t size;
};

/* A file: what the page cache shows, what is on the platter, and the difference. */
struct inode {
    bool is_dir;
    struct mp_buf now, synced;
    struct change *changes;
    size_t changes_count, changes_capacity;
    uint64_t bad_from, bad_to; /* bytes that cannot be read */
};

struct name {
    char text[NAME_SIZE];
    size_t inode;
};

struct names {
    struct name *items;
    size_t count, capacity;
};

enum rename_kind { NAME_ADD, NAME_REMOVE, NAME_MOVE };

/* A change of a directory that is not synced. */
struct name_change {
    enum rename_kind kind;
    char from[NAME_SIZE], to[NAME_SIZE]; /* ADD: to; REMOVE: from */
    size_t inode;
};

struct mp_disk {
    struct inode **inodes;
    size_t inodes_count, inodes_capacity;
    struct names now, synced;
    struct name_change *changes;
    size_t changes_count, changes_capacity;
    uint64_t random;          /* state of the generator */
    uint64_t operations, crash_at;
    bool crashed, is_locked;
    uint64_t fail_in[MP_DISK_OPS];
    memphis_status fail_status[MP_DISK_OPS];
    bool fail_forever[MP_DISK_OPS];
    uint64_t limit;
    uint64_t boot_ns;
    int64_t wall_offset_ns;
};

struct mp_file {
    size_t inode;
    char name[NAME_SIZE];
};

struct mem_env {
    struct mp_env env;        /* first */
    struct mp_disk *disk;
    bool has_lock;
};

static struct mp_disk *disk_of(struct mp_env *e)
{
    return mp_container_of(e, struct mem_env, env)->disk;
}

/* splitmix64: good enough to choose what survives, and the same everywhere. */
static uint64_t next_random(uint64_t *state)
{
    uint64_t z = *state += 0x9e3779b97f4a7c15ull;

    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ z >> 27) * 0x94d049bb133111ebull;
    return z ^ z >> 31;
}

static void *grow(void *items, size_t item_size, size_t count, size_t *capacity)
{
    if (count < *capacity)
        return items;
    *capacity = *capacity > 0 ? *capacity * 2 : 16;
    return mp_realloc(items, *capacity * item_size);
}

static void copy_name(char to[NAME_SIZE], const char *from)
{
    size_t size = strlen(from) + 1;

    mp_assert(size <= NAME_SIZE);
    memcpy(to, from, size);
}

/* -- contents ---------------------------------------------------------------------- */

static void extend(struct mp_buf *b, uint64_t size)
{
    size_t before = b->size;

    if (size <= before)
        return;
    (void)mp_buf_add(b, (size_t)size - before);
    memset(b->data + before, 0, (size_t)size - before);
}

static void truncate_to(struct mp_buf *b, uint64_t size)
{
    extend(b, size);
    b->size = (size_t)size;
}

static void put_bytes(struct mp_buf *b, uint64_t offset, const void *bytes, size_t size)
{
    extend(b, offset + size);
    memcpy(b->data + offset, bytes, size);
}

static void clear_changes(struct inode *n)
{
    for (size_t i = 0; i < n->changes_count; i++)
        mp_free(n->changes[i].bytes);
    n->changes_count = 0;
}

static void apply_change(struct mp_buf *b, const struct change *c)
{
    if (c->is_truncate)
        truncate_to(b, c->offset);
    else
        put_bytes(b, c->offset, c->bytes, c->size);
}

static void sync_inode(struct inode *n)
{
    for (size_t i = 0; i < n->changes_count; i++)
        apply_change(&n->synced, &n->changes[i]);
    clear_changes(n);
}

static void note_change(struct inode *n, bool is_truncate, uint64_t offset,
                        const void *bytes, size_t size)
{
    struct change c = { is_truncate, offset, NULL, size };

    if (size > 0) {
        c.bytes = mp_realloc(NULL, size);
        memcpy(c.bytes, bytes, size);
    }
    n->changes =
        grow(n->changes, sizeof c, n->changes_count, &n->changes_capacity);
    n->changes[n->changes_count++] = c;
}

/* -- names ------------------------------------------------------------------------- */

static struct name *find_name(const struct names *l, const char *name)
{
    for (size_t i = 0; i < l->count; i++)
        if (strcmp(l->items[i].text, name) == 0)
            return &l->items[i];
    return NULL;
}

static void add_name(struct names *l, const char *name, size_t inode)
{
    struct name *n = find_name(l, name);

    if (n == NULL) {
        l->items = grow(l->items, sizeof *l->items, l->count, &l->capacity);
        n = &l->items[l->count++];
        copy_name(n->text, name);
    }
    n->inode = inode;
}

static void remove_name(struct names *l, const char *name)
{
    struct name *n = find_name(l, name);

    if (n != NULL)
        *n = l->items[--l->count];
}

static void apply_name_change(struct names *l, const struct name_change *c)
{
    if (c->kind != NAME_ADD) {
        struct name *n = find_name(l, c->from);
        if (n != NULL && n->inode == c->inode)
            remove_name(l, c->from);
    }
    if (c->kind != NAME_REMOVE)
        add_name(l, c->to, c->inode);
}

static void change_name(struct mp_disk *d, enum rename_kind kind, const char *from,
                        const char *to, size_t inode)
{
    struct name_change c = { .kind = kind, .inode = inode };

    copy_name(c.from, from);
    copy_name(c.to, to);
    apply_name_change(&d->now, &c);
    d->changes = grow(d->changes, sizeof c, d->changes_count, &d->changes_capacity);
    d->changes[d->changes_count++] = c;
}

/* Whether `name` is directly inside of `dir`; "" is the data directory. */
static bool is_in(const char *name, const char *dir)
{
    size_t size = strlen(dir);

    if (size > 0 && (strncmp(name, dir, size) != 0 || name[size] != '/'))
        return false;
    const char *rest = size > 0 ? name + size + 1 : name;
    return rest[0] != 0 && strchr(rest, '/') == NULL;
}

static const char *name_of(const struct name_change *c)
{
    return c->kind == NAME_REMOVE ? c->from : c->to;
}

static size_t new_inode(struct mp_disk *d, bool is_dir)
{
    struct inode *n = mp_alloc(sizeof *n);

    n->is_dir = is_dir;
    d->inodes =
        grow(d->inodes, sizeof *d->inodes, d->inodes_count, &d->inodes_capacity);
    d->inodes[d->inodes_count] = n;
    return d->inodes_count++;
}

static void free_inode(struct inode *n)
{
    if (n == NULL)
        return;
    clear_changes(n);
    mp_free(n->changes);
    mp_buf_fini(&n->now);
    mp_buf_fini(&n->synced);
    mp_free(n);
}

/* -- faults ------------------------------------------------------------------------ */

/* Counts an operation; not OK: it fails so. *dies: it was under way when the power
 * went, so that its effect may or may not survive. */
static memphis_status count_operation(struct mp_disk *d, enum mp_disk_op op,
                                      const char *name, bool *dies, memphis_error *err)
{
    *dies = false;
    d->boot_ns += OPERATION_NS;
    if (d->crashed)
        return mp_fail(err, MEMPHIS_IO, "'%s': the power is off", name);
    if (op != MP_DISK_READ && op != MP_DISK_REOPEN) {
        d->operations++;
        if (d->crash_at > 0 && --d->crash_at == 0) {
            d->crashed = *dies = true;
            return mp_fail(err, MEMPHIS_IO, "'%s': the power went off", name);
        }
    }
    if (d->fail_in[op] == 0 || --d->fail_in[op] > 0)
        return MEMPHIS_OK;
    if (d->fail_forever[op])
        d->fail_in[op] = 1;
    return mp_fail(err, d->fail_status[op], "'%s': a planned fault", name);
}

uint64_t mp_disk_used(const struct mp_disk *d)
{
    uint64_t used = 0;

    for (size_t i = 0; i < d->now.count; i++)
        used += d->inodes[d->now.items[i].inode]->now.size;
    return used;
}

/* -- calls ------------------------------------------------------------------------- */

static memphis_status mem_open(struct mp_env *e, const char *name, uint32_t flags,
                               struct mp_file **out, memphis_error *err)
{
    struct mp_disk *d = disk_of(e);
    struct name *n = find_name(&d->now, name);
    bool dies;

    if (n != NULL && flags & MP_FILE_NEW)
        return mp_fail(err, MEMPHIS_EXISTS, "'%s' is there already", name);
    if (n == NULL && !(flags & MP_FILE_CREATE))
        return mp_fail(err, d->crashed ? MEMPHIS_IO : MEMPHIS_NOT_FOUND,
                       "'%s' is not there", name);
    bool is_new = n == NULL;
    memphis_status s =
        count_operation(d, is_new ? MP_DISK_OPEN : MP_DISK_REOPEN, name, &dies, err);
    if (is_new && (s == MEMPHIS_OK || dies))
        change_name(d, NAME_ADD, "", name, new_inode(d, false));
    if (s != MEMPHIS_OK)
        return s;
    n = find_name(&d->now, name);
    struct mp_file *f = mp_alloc(sizeof *f);
    f->inode = n->inode;
    copy_name(f->name, name);
    *out = f;
    return MEMPHIS_OK;
}

static void mem_file_close(struct mp_env *e, struct mp_file *f)
{
    (void)e;
    mp_free(f);
}

static memphis_status mem_read(struct mp_env *e, struct mp_file *f, uint64_t offset,
                               void *to, size_t size, size_t *got, memphis_error *err)
{
    struct mp_disk *d = disk_of(e);
    const struct inode *n = d->inodes[f->inode];
    const struct mp_buf *b = &n->now;
    bool dies;

    *got = 0;
    memphis_status s = count_operation(d, MP_DISK_READ, f->name, &dies, err);
    if (s != MEMPHIS_OK || offset >= b->size)
        return s;
    size = b->size - offset < size ? b->size - (size_t)offset : size;
    if (offset < n->bad_to && offset + size > n->bad_from)
        return mp_fail(err, MEMPHIS_IO, "'%s' cannot be read: a bad block", f->name);
    *got = size;
    memcpy(to, b->data + offset, *got);
    return MEMPHIS_OK;
}

static void write_slices(struct inode *n, uint64_t offset, const memphis_slice *v,
                         size_t count)
{
    struct mp_buf all = { 0 };

    for (size_t i = 0; i < count; i++)
        mp_buf_put_slice(&all, v[i]);
    put_bytes(&n->now, offset, all.data, all.size);
    note_change(n, false, offset, all.data, all.size);
    if (offset <= n->bad_from && offset + all.size >= n->bad_to)
        n->bad_to = n->bad_from = 0; /* the drive takes another block for it */
    mp_buf_fini(&all);
}

static memphis_status mem_write(struct mp_env *e, struct mp_file *f, uint64_t offset,
                                const memphis_slice *v, size_t count,
                                memphis_error *err)
{
    struct mp_disk *d = disk_of(e);
    struct inode *n = d->inodes[f->inode];
    uint64_t end = offset;
    bool dies;

    for (size_t i = 0; i < count; i++)
        end += v[i].size;
    memphis_status s = count_operation(d, MP_DISK_WRITE, f->name, &dies, err);
    if (s == MEMPHIS_OK && end > n->now.size &&
        mp_disk_used(d) + (end - n->now.size) > d->limit)
        return mp_fail(err, MEMPHIS_NO_SPACE, "'%s': the disk is full", f->name);
    /* A failed write leaves its bytes in doubt, as a dying one does. */
    if ((s == MEMPHIS_OK || dies || s == MEMPHIS_IO) && end > offset &&
        (!d->crashed || dies))
        write_slices(n, offset, v, count);
    return s;
}

static memphis_status mem_sync(struct mp_env *e, struct mp_file *f, memphis_error *err)
{
    struct mp_disk *d = disk_of(e);
    bool dies;

    memphis_status s = count_operation(d, MP_DISK_SYNC, f->name, &dies, err);
    if (s == MEMPHIS_OK)
        sync_inode(d->inodes[f->inode]);
    else if (!d->crashed)
        clear_changes(d->inodes[f->inode]); /* marked clean, and never written */
    return s;
}

static memphis_status mem_size(struct mp_env *e, struct mp_file *f, uint64_t *out,
                               memphis_error *err)
{
    (void)err;
    *out = disk_of(e)->inodes[f->inode]->now.size;
    return MEMPHIS_OK;
}

static memphis_status mem_truncate(struct mp_env *e, struct mp_file *f, uint64_t size,
                                   memphis_error *err)
{
    struct mp_disk *d = disk_of(e);
    struct inode *n = d->inodes[f->inode];
    bool dies;

    memphis_status s = count_operation(d, MP_DISK_TRUNCATE, f->name, &dies, err);
    if (s == MEMPHIS_OK || dies) {
        truncate_to(&n->now, size);
        note_change(n, true, size, NULL, 0);
    }
    return s;
}

static void mem_forget(struct mp_env *e, struct mp_file *f, uint64_t offset,
                       uint64_t size)
{
    (void)e, (void)f, (void)offset, (void)size; /* all of it is memory */
}

static memphis_status mem_rename(struct mp_env *e, const char *from, const char *to,
                                 memphis_error *err)
{
    struct mp_disk *d = disk_of(e);
    struct name *n = find_name(&d->now, from);
    bool dies;

    if (n == NULL)
        return mp_fail(err, MEMPHIS_NOT_FOUND, "'%s' is not there", from);
    memphis_status s = count_operation(d, MP_DISK_RENAME, from, &dies, err);
    if (s == MEMPHIS_OK || dies)
        change_name(d, NAME_MOVE, from, to, n->inode);
    return s;
}

static memphis_status remove_entry(struct mp_env *e, const char *name,
                                   memphis_error *err)
{
    struct mp_disk *d = disk_of(e);
    struct name *n = find_name(&d->now, name);
    bool dies;

    if (n == NULL)
        return mp_fail(err, MEMPHIS_NOT_FOUND, "'%s' is not there", name);
    memphis_status s = count_operation(d, MP_DISK_UNLINK, name, &dies, err);
    if (s == MEMPHIS_OK || dies)
        change_name(d, NAME_REMOVE, name, "", n->inode);
    return s;
}

static memphis_status mem_mkdir(struct mp_env *e, const char *name, memphis_error *err)
{
    struct mp_disk *d = disk_of(e);
    bool dies;

    if (find_name(&d->now, name) != NULL)
        return MEMPHIS_OK;
    memphis_status s = count_operation(d, MP_DISK_MKDIR, name, &dies, err);
    if (s == MEMPHIS_OK || dies)
        change_name(d, NAME_ADD, "", name, new_inode(d, true));
    return s;
}

static memphis_status mem_rmdir(struct mp_env *e, const char *name, memphis_error *err)
{
    struct mp_disk *d = disk_of(e);

    for (size_t i = 0; i < d->now.count; i++)
        if (is_in(d->now.items[i].text, name))
            return mp_fail(err, MEMPHIS_IO, "'%s' is not empty", name);
    return remove_entry(e, name, err);
}

static void sync_names(struct mp_disk *d, const char *dir)
{
    size_t kept = 0;

    for (size_t i = 0; i < d->changes_count; i++) {
        if (dir == NULL || is_in(name_of(&d->changes[i]), dir))
            apply_name_change(&d->synced, &d->changes[i]);
        else
            d->changes[kept++] = d->changes[i];
    }
    d->changes_count = kept;
}

static memphis_status mem_dir_sync(struct mp_env *e, const char *name,
                                   memphis_error *err)
{
    struct mp_disk *d = disk_of(e);
    bool dies;

    if (name[0] != 0 && find_name(&d->now, name) == NULL)
        return mp_fail(err, MEMPHIS_NOT_FOUND, "'%s' is not there", name);
    memphis_status s = count_operation(d, MP_DISK_DIR_SYNC, name, &dies, err);
    if (s == MEMPHIS_OK)
        sync_names(d, name);
    return s;
}

static memphis_status mem_list(struct mp_env *e, const char *name,
                               bool (*fn)(void *ctx, const char *name), void *ctx,
                               memphis_error *err)
{
    struct mp_disk *d = disk_of(e);
    size_t skip = name[0] != 0 ? strlen(name) + 1 : 0;

    if (d->crashed)
        return mp_fail(err, MEMPHIS_IO, "'%s': the power is off", name);
    if (name[0] != 0 && find_name(&d->now, name) == NULL)
        return mp_fail(err, MEMPHIS_NOT_FOUND, "'%s' is not there", name);
    for (size_t i = 0; i < d->now.count; i++)
        if (is_in(d->now.items[i].text, name) && !fn(ctx, d->now.items[i].text + skip))
            break;
    return MEMPHIS_OK;
}

static memphis_status mem_sync_all(struct mp_env *e, memphis_error *err)
{
    struct mp_disk *d = disk_of(e);
    bool dies;

    memphis_status s = count_operation(d, MP_DISK_SYNC, "everything", &dies, err);
    if (s != MEMPHIS_OK)
        return s;
    for (size_t i = 0; i < d->inodes_count; i++)
        sync_inode(d->inodes[i]);
    sync_names(d, NULL);
    return MEMPHIS_OK;
}

static uint64_t mem_free_bytes(struct mp_env *e)
{
    const struct mp_disk *d = disk_of(e);
    uint64_t used = d->limit == UINT64_MAX ? 0 : mp_disk_used(d);

    return used < d->limit ? d->limit - used : 0;
}

static uint64_t mem_disk_bytes(struct mp_env *e)
{
    return disk_of(e)->limit;
}

static memphis_status mem_lock(struct mp_env *e, memphis_error *err)
{
    struct mem_env *m = mp_container_of(e, struct mem_env, env);

    if (m->disk->is_locked)
        return mp_fail(err, MEMPHIS_BUSY, "the disk is open already");
    m->disk->is_locked = true;
    m->has_lock = true;
    return MEMPHIS_OK;
}

static uint64_t mem_boot_ns(struct mp_env *e)
{
    return disk_of(e)->boot_ns;
}

static uint64_t mem_wall_ns(struct mp_env *e)
{
    const struct mp_disk *d = disk_of(e);

    return START_NS + d->boot_ns + (uint64_t)d->wall_offset_ns;
}

static void mem_random(struct mp_env *e, void *to, size_t size)
{
    uint8_t *at = to;

    for (size_t i = 0; i < size; i++)
        at[i] = (uint8_t)next_random(&disk_of(e)->random);
}

static memphis_status mem_worker_new(struct mp_env *e, const char *name,
                                     uint32_t spin_us, struct mp_worker **out,
                                     memphis_error *err)
{
    return mp_worker_new(e, name, false, spin_us, out, err);
}

static void mem_close(struct mp_env *e)
{
    struct mem_env *m = mp_container_of(e, struct mem_env, env);

    mp_workers_free(e);
    if (m->has_lock)
        m->disk->is_locked = false;
    mp_free(m);
}

struct mp_env *mp_env_mem_open(struct mp_disk *d, struct mp_heap *heap)
{
    static const struct mp_env calls = {
        .file_open = mem_open, .file_close = mem_file_close, .file_read = mem_read,
        .file_write = mem_write, .file_sync = mem_sync, .file_size = mem_size,
        .file_truncate = mem_truncate, .file_forget = mem_forget,
        .rename = mem_rename,
        .unlink = remove_entry, .mkdir = mem_mkdir, .rmdir = mem_rmdir, .dir_sync =
        mem_dir_sync, .dir_list = mem_list, .sync_all = mem_sync_all, .free_bytes =
        mem_free_bytes, .disk_bytes = mem_disk_bytes,
        .lock = mem_lock, .wall_ns = mem_wall_ns, .boot_ns =
        mem_boot_ns, .random = mem_random, .worker_new = mem_worker_new,
        .worker_post = mp_worker_post, .worker_free = mp_worker_free,
        .close = mem_close
    };
    struct mem_env *m = mp_alloc(sizeof *m);

    m->env = calls;
    m->env.heap = heap;
    m->disk = d;
    return &m->env;
}

/* -- disk -------------------------------------------------------------------------- */

struct mp_disk *mp_disk_new(uint64_t seed)
{
    struct mp_disk *d = mp_alloc(sizeof *d);

    d->random = seed;
    d->limit = UINT64_MAX;
    d->boot_ns = OPERATION_NS;
    return d;
}

static void copy_names(struct names *to, const struct names *from)
{
    *to = *from;
    to->items = mp_realloc(NULL, (from->capacity + 1) * sizeof *to->items);
    if (from->count > 0)
        memcpy(to->items, from->items, from->count * sizeof *to->items);
}

struct mp_disk *mp_disk_clone(const struct mp_disk *d)
{
    struct mp_disk *c = mp_alloc(sizeof *c);

    *c = *d;
    c->is_locked = false;
    copy_names(&c->now, &d->now);
    copy_names(&c->synced, &d->synced);
    c->changes = mp_realloc(NULL, (d->changes_capacity + 1) * sizeof *c->changes);
    if (d->changes_count > 0)
        memcpy(c->changes, d->changes, d->changes_count * sizeof *c->changes);
    c->inodes = mp_realloc(NULL, (d->inodes_capacity + 1) * sizeof(struct inode *));
    for (size_t i = 0; i < d->inodes_count; i++) {
        const struct inode *from = d->inodes[i];
        struct inode *to = c->inodes[i] = mp_alloc(sizeof *to);
        to->is_dir = from->is_dir;
        to->bad_from = from->bad_from;
        to->bad_to = from->bad_to;
        mp_buf_put(&to->now, from->now.data, from->now.size);
        mp_buf_put(&to->synced, from->synced.data, from->synced.size);
        for (size_t k = 0; k < from->changes_count; k++) {
            const struct change *x = &from->changes[k];
            note_change(to, x->is_truncate, x->offset, x->bytes, x->size);
        }
    }
    return c;
}

void mp_disk_free(struct mp_disk *d)
{
    if (d == NULL)
        return;
    for (size_t i = 0; i < d->inodes_count; i++)
        free_inode(d->inodes[i]);
    mp_free(d->inodes);
    mp_free(d->now.items);
    mp_free(d->synced.items);
    mp_free(d->changes);
    mp_free(d);
}

void mp_disk_crash_at(struct mp_disk *d, uint64_t n)
{
    d->crash_at = n;
}

bool mp_disk_has_crashed(const struct mp_disk *d)
{
    return d->crashed;
}

uint64_t mp_disk_operations(const struct mp_disk *d)
{
    return d->operations;
}

void mp_disk_fail(struct mp_disk *d, enum mp_disk_op op, uint64_t n,
                  memphis_status status, bool forever)
{
    d->fail_in[op] = n;
    d->fail_status[op] = status;
    d->fail_forever[op] = forever;
}

void mp_disk_heal(struct mp_disk *d)
{
    memset(d->fail_in, 0, sizeof d->fail_in);
}

void mp_disk_limit(struct mp_disk *d, uint64_t bytes)
{
    d->limit = bytes;
}

void mp_disk_advance(struct mp_disk *d, uint64_t ns)
{
    d->boot_ns += ns;
}

void mp_disk_step_wall(struct mp_disk *d, int64_t ns)
{
    d->wall_offset_ns += ns;
}

bool mp_disk_flip(struct mp_disk *d, const char *name, uint64_t offset, uint8_t bits)
{
    struct name *n = find_name(&d->now, name);

    if (n == NULL || d->inodes[n->inode]->now.size <= offset)
        return false;
    struct inode *i = d->inodes[n->inode];
    sync_inode(i);
    i->synced.data[offset] ^= bits;
    i->now.data[offset] ^= bits;
    return true;
}

bool mp_disk_spoil(struct mp_disk *d, const char *name, uint64_t from, uint64_t to)
{
    struct name *n = find_name(&d->now, name);

    if (n == NULL)
        return false;
    d->inodes[n->inode]->bad_from = from;
    d->inodes[n->inode]->bad_to = to;
    return true;
}

void mp_disk_each(const struct mp_disk *d,
                  void (*fn)(void *ctx, const char *name, uint64_t size), void *ctx)
{
    for (size_t i = 0; i < d->now.count; i++)
        fn(ctx, d->now.items[i].text, d->inodes[d->now.items[i].inode]->now.size);
}

/* -- crash ------------------------------------------------------------------------- */

struct fate {
    enum mp_disk_outcome outcome;
    uint64_t random;
    uint64_t units_left;   /* TORN: sectors that still survive; LOSE, FLIP: until it */
};

static uint64_t sectors_of(const struct change *c, uint64_t unit)
{
    return c->is_truncate ? 1 : (c->size + unit - 1) / unit;
}

/* Whether the next unit of unsynced bytes survives. */
static bool survives(struct fate *f)
{
    switch (f->outcome) {
    case MP_CRASH_EVERYTHING:
    case MP_CRASH_FLIP:
    case MP_CRASH_BYTES_ONLY:
        return true;
    case MP_CRASH_LOSE_BLOCK:
        return f->units_left-- != 0;
    case MP_CRASH_TORN:
        if (f->units_left == 0)
            return false;
        f->units_left--;
        return true;
    case MP_CRASH_SECTORS:
        return next_random(&f->random) & 1;
    default:
        return false;
    }
}

static void crash_change(struct inode *n, const struct change *c, struct fate *f)
{
    uint64_t unit = f->outcome == MP_CRASH_LOSE_BLOCK ? BLOCK : SECTOR;

    if (c->is_truncate) {
        if (survives(f))
            truncate_to(&n->synced, c->offset);
        return;
    }
    for (size_t at = 0; at < c->size;) {
        size_t size = unit - (c->offset + at) % unit;
        size = size < c->size - at ? size : c->size - at;
        if (survives(f))
            put_bytes(&n->synced, c->offset + at, c->bytes + at, size);
        at += size;
    }
}

/* One bit of what was not synced is wrong. */
static void flip_unsynced(struct mp_disk *d, struct fate *f)
{
    uint64_t left = f->units_left;

    for (size_t i = 0; i < d->inodes_count; i++) {
        struct inode *n = d->inodes[i];
        for (size_t k = 0; k < n->changes_count; k++) {
            struct change *c = &n->changes[k];
            uint64_t units = sectors_of(c, SECTOR);
            if (left < units && !c->is_truncate) {
                size_t at = (size_t)(left * SECTOR + next_random(&f->random) % SECTOR);
                at = at < c->size ? at : c->size - 1;
                c->bytes[at] ^= (uint8_t)(1u << (next_random(&f->random) & 7));
                return;
            }
            left -= units < left ? units : left;
        }
    }
}

static void crash_names(struct mp_disk *d, struct fate *f)
{
    uint64_t cut = d->changes_count > 0
                       ? next_random(&f->random) % (d->changes_count + 1)
                       : 0;

    for (size_t i = 0; i < d->changes_count; i++) {
        bool lives = next_random(&f->random) & 1;
        if (f->outcome == MP_CRASH_EVERYTHING || f->outcome == MP_CRASH_NAMES_ONLY)
            lives = true;
        else if (f->outcome == MP_CRASH_NOTHING || f->outcome == MP_CRASH_BYTES_ONLY)
            lives = false;
        else if (f->outcome == MP_CRASH_TORN)
            lives = i < cut;
        if (lives)
            apply_name_change(&d->synced, &d->changes[i]);
    }
    d->changes_count = 0;
}

/* A name whose directory did not survive is gone with it. */
static void drop_orphans(struct mp_disk *d)
{
    for (size_t i = 0; i < d->synced.count;) {
        char dir[NAME_SIZE];
        copy_name(dir, d->synced.items[i].text);
        char *slash = strrchr(dir, '/');
        if (slash != NULL)
            *slash = 0;
        if (slash != NULL && find_name(&d->synced, dir) == NULL) {
            remove_name(&d->synced, d->synced.items[i].text);
            i = 0;
        } else {
            i++;
        }
    }
}

void mp_disk_crash(struct mp_disk *d, enum mp_disk_outcome outcome, uint64_t seed)
{
    struct fate f = { .outcome = outcome, .random = seed };
    uint64_t unit = outcome == MP_CRASH_LOSE_BLOCK ? BLOCK : SECTOR, units = 0;

    mp_assert(!d->is_locked);
    d->crashed = false;
    d->crash_at = 0;
    mp_disk_heal(d);
    if (outcome == MP_CRASH_PROCESS)
        return;
    for (size_t i = 0; i < d->inodes_count; i++)
        for (size_t k = 0; k < d->inodes[i]->changes_count; k++)
            units += sectors_of(&d->inodes[i]->changes[k], unit);
    f.units_left = next_random(&f.random) % (units + 1);
    if (outcome == MP_CRASH_FLIP)
        flip_unsynced(d, &f);
    for (size_t i = 0; i < d->inodes_count; i++) {
        struct inode *n = d->inodes[i];
        for (size_t k = 0; k < n->changes_count; k++)
            crash_change(n, &n->changes[k], &f);
        clear_changes(n);
        mp_buf_clear(&n->now);
        mp_buf_put(&n->now, n->synced.data, n->synced.size);
    }
    crash_names(d, &f);
    drop_orphans(d);
    mp_free(d->now.items);
    copy_names(&d->now, &d->synced);
}
