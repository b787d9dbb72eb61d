#include "store/recover.h"

#include "base/assert.h"
#include "base/status.h"
#include "base/str.h"
#include "store/slot.h"
#include "store/wal.h"

#define NODE_NAME "node"

enum {
    WAL_NAME_SIZE = 24, /* "<20 digits>.wal" */
    STRAY_BYTES = 16    /* fewer than in the header of any batch */
};

/* -- names ------------------------------------------------------------------------- */

static bool is_ours(const char *name)
{
    static const char *const names[] = { "LOCK", "node", "meta.db", "meta.db-wal",
                                         "meta.db-shm", "meta.db-journal", "wal", "s",
                                         "lost+found" };

    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        if (strcmp(name, names[i]) == 0)
            return true;
    return false;
}

struct listing {
    char foreign[64];         /* a name that is not ours; "": none */
    bool has_node, has_wal, has_segments;
};

static bool look_at_name(void *ctx, const char *name)
{
    struct listing *l = ctx;

    if (strcmp(name, NODE_NAME) == 0)
        l->has_node = true;
    if (strcmp(name, "wal") == 0)
        l->has_wal = true;
    if (strcmp(name, "s") == 0)
        l->has_segments = true;
    if (!is_ours(name) && l->foreign[0] == 0) {
        size_t size = strlen(name);
        size = size < sizeof l->foreign ? size : sizeof l->foreign - 1;
        memcpy(l->foreign, name, size);
    }
    return true;
}

struct first_name {
    char name[MP_WAL_NAME_SIZE];
    bool found;
};

static bool take_first(void *ctx, const char *name)
{
    struct first_name *n = ctx;

    if (strlen(name) + 5 > sizeof n->name)
        return true;
    (void)mp_format(n->name, sizeof n->name, "wal/%s", name);
    n->found = true;
    return false;
}

struct search {
    struct mp_env *env;
    bool found;
    memphis_status status;
    memphis_error *err;
};

static size_t count_bytes(const uint8_t *bytes, size_t size)
{
    size_t count = 0;

    for (size_t i = 0; i < size; i++)
        count += bytes[i] != 0;
    return count;
}

/* Whether somebody has written a batch there, be it readable or not: behind its header
 * a prepared file is zeros. A power cut may leave some other bytes in it. */
static bool look_for_batch(void *ctx, const char *name)
{
    struct search *x = ctx;
    uint8_t block[MP_BLOCK_SIZE];
    char path[MP_WAL_NAME_SIZE];
    struct mp_file *f = NULL;
    size_t got = MP_BLOCK_SIZE, count = 0;

    if (strlen(name) + 5 > sizeof path)
        return true;
    (void)mp_format(path, sizeof path, "wal/%s", name);
    x->status = x->env->file_open(x->env, path, MP_FILE_READ, &f, x->err);
    for (uint64_t at = MP_BLOCK_SIZE; x->status == MEMPHIS_OK && got > 0; at += got) {
        x->status =
            x->env->file_read(x->env, f, at, block, sizeof block, &got, x->err);
        if (x->status == MEMPHIS_OK)
            count += count_bytes(block, got);
    }
    x->env->file_close(x->env, f);
    x->found = count > STRAY_BYTES;
    return x->status == MEMPHIS_OK && !x->found;
}

static memphis_status make_wal(struct mp_env *e, memphis_error *err)
{
    memphis_status s = e->mkdir(e, "wal", err);

    return s == MEMPHIS_OK ? e->dir_sync(e, "", err) : s;
}

/* An interrupted creation is begun anew. */
static memphis_status clear_wal(struct mp_env *e, memphis_error *err)
{
    memphis_status s;

    for (;;) {
        struct first_name n = { .found = false };
        s = e->dir_list(e, "wal", take_first, &n, err);
        if (s != MEMPHIS_OK || !n.found)
            return s;
        s = e->unlink(e, n.name, err);
        if (s != MEMPHIS_OK)
            return s;
    }
}

/* -- without a node slot ----------------------------------------------------------- */

static memphis_status refuse_foreign(const struct listing *l, memphis_error *err)
{
    if (l->foreign[0] == 0)
        return MEMPHIS_OK;
    return mp_fail(err, MEMPHIS_INVALID,
                   "the directory holds '%s', which is not a broker's: choose an empty "
                   "directory",
                   l->foreign);
}

memphis_status mp_recover_look(struct mp_env *e, memphis_error *err)
{
    struct listing l = { .has_wal = false };
    memphis_status s = e->dir_list(e, "", look_at_name, &l, err);

    return s == MEMPHIS_OK && !l.has_node ? refuse_foreign(&l, err) : s;
}

static memphis_status begin(struct mp_recovery *r, struct mp_env *e,
                            const struct listing *l, memphis_error *err)
{
    memphis_status refusal = refuse_foreign(l, err);
    if (refusal != MEMPHIS_OK)
        return refusal;
    struct search wal = { .env = e, .err = err };
    memphis_status s = MEMPHIS_OK;
    if (l->has_wal)
        s = e->dir_list(e, "wal", look_for_batch, &wal, err);
    if (s == MEMPHIS_OK)
        s = wal.status;
    if (s != MEMPHIS_OK)
        return s;
    if (wal.found || l->has_segments)
        return mp_fail(err, MEMPHIS_CORRUPT,
                       "'node' has no valid slot, but there %s: restore 'node' from a "
                       "backup",
                       wal.found ? "is a log in 'wal'" : "are segments in 's'");
    r->fresh = true;
    s = make_wal(e, err);
    if (s == MEMPHIS_OK)
        s = clear_wal(e, err);
    if (s == MEMPHIS_OK)
        s = e->dir_sync(e, "wal", err);
    return s;
}

memphis_status mp_recover(struct mp_recovery *r, struct mp_env *e, bool accept_loss,
                          memphis_error *err)
{
    struct listing l = { .has_wal = false };
    uint8_t block[MP_BLOCK_SIZE];
    bool exists;

    *r = (struct mp_recovery){ .fresh = false };
    memphis_status s = e->dir_list(e, "", look_at_name, &l, err);
    if (s != MEMPHIS_OK)
        return s;
    s = mp_slot_read(e, NODE_NAME, "MPN1", block, &exists, err);
    if (s == MEMPHIS_NOT_FOUND)
        return begin(r, e, &l, err);
    if (s == MEMPHIS_OK)
        s = mp_node_decode(mp_slice(block, sizeof block), &r->node, err);
    if (s != MEMPHIS_OK)
        return s;
    r->clean = (r->node.flags & MP_NODE_CLEAN) != 0;
    if (!l.has_wal && !accept_loss)
        return mp_fail(err, MEMPHIS_CORRUPT,
                       "the directory 'wal' is missing: restore it from a backup, or "
                       "start with --accept-loss to keep the rest");
    if (!l.has_wal)
        s = make_wal(e, err);
    if (s != MEMPHIS_OK)
        return s;
    return mp_scan_run(&r->scan, e, r->node.durable_upto, r->node.wal_first,
                       accept_loss, err);
}

void mp_recover_fini(struct mp_recovery *r)
{
    r->lost_log = false;
    mp_scan_fini(&r->scan);
}

memphis_status mp_node_write(struct mp_env *e, struct mp_node *node, memphis_error *err)
{
    uint8_t block[MP_BLOCK_SIZE];

    node->generation++;
    mp_node_encode(node, block);
    memphis_status s = mp_slot_write(e, NODE_NAME, block, true, err);
    if (s == MEMPHIS_OK && node->generation <= 2)
        s = e->dir_sync(e, "", err); /* the file may be new */
    return s;
}

uint64_t mp_recover_settle_from(const struct mp_recovery *r)
{
    const struct mp_scan *s = &r->scan;

    return s->durable_upto < s->end ? s->durable_upto : s->end;
}

/* -- left-overs ------------------------------------------------------------------- */

struct left_overs {
    struct mp_env *env;
    uint64_t wal_first;
    uint64_t base;
    bool found;
};

static bool find_left_over(void *ctx, const char *name)
{
    struct left_overs *l = ctx;

    l->found = strlen(name) == WAL_NAME_SIZE &&
               mp_parse_u64(mp_slice(name, WAL_NAME_SIZE - 4), &l->base) &&
               l->base < l->wal_first;
    return !l->found;
}

memphis_status mp_recover_drop_left_overs(struct mp_env *e, uint64_t wal_first,
                                          memphis_error *err)
{
    struct left_overs l = { .env = e, .wal_first = wal_first };
    char name[MP_WAL_NAME_SIZE];
    memphis_status s;

    for (;;) {
        s = e->dir_list(e, "wal", find_left_over, &l, err);
        if (s != MEMPHIS_OK || !l.found)
            return s;
        mp_wal_name(l.base, name);
        s = e->unlink(e, name, err);
        if (s != MEMPHIS_OK)
            return s;
        l.found = false;
    }
}
