#include "store/scan.h"

#include "base/assert.h"
#include "base/enc.h"
#include "base/status.h"
#include "base/str.h"
#include "store/log.h"
#include "store/wal.h"

#include <stdlib.h>

enum { WINDOW_SIZE = 256 << 10, NAME_DIGITS = 20, SHARDS = MP_SHARD_DATA + 1 };

struct mp_scan_batch {
    uint64_t lsn, end;        /* [lsn, end), padding included */
    uint64_t durable_upto;
    uint64_t wall_ns, broker_ns;
    uint64_t last_index[SHARDS]; /* of what lies before it: the heads; UINT64_MAX */
    uint32_t file;
    uint32_t crc, chain;
};

static void *grow(void *items, size_t item_size, size_t count, size_t *capacity)
{
    if (count < *capacity)
        return items;
    *capacity = *capacity > 0 ? *capacity * 2 : 64;
    return mp_realloc(items, *capacity * item_size);
}

static void push_range(struct mp_lsn_range **ranges, uint32_t *count, uint64_t from,
                       uint64_t to)
{
    mp_assert(from <= to);
    *ranges = mp_realloc(*ranges, (*count + 1) * sizeof **ranges);
    (*ranges)[(*count)++] = (struct mp_lsn_range){ from, to };
}

/* -- reading ----------------------------------------------------------------------- */

static void note_unreadable(struct mp_scan *s, uint64_t lsn)
{
    uint32_t n = s->unreadable_count;
    struct mp_lsn_range *last = n > 0 ? &s->unreadable[n - 1] : NULL;

    if (last != NULL && lsn >= last->from && lsn < last->to)
        return; /* read again */
    if (last != NULL && lsn == last->to)
        last->to = lsn + MP_BLOCK_SIZE;
    else
        push_range(&s->unreadable, &s->unreadable_count, lsn, lsn + MP_BLOCK_SIZE);
}

/* Block by block: one that the disk does not give back is read as zeros, which no
 * checksum takes for something, and noted. */
static memphis_status read_around(struct mp_scan *s, const struct mp_scan_file *f,
                                  uint64_t at, size_t wanted, memphis_error *err)
{
    struct mp_buf *b = &s->window;
    uint64_t block = at / MP_BLOCK_SIZE * MP_BLOCK_SIZE;
    memphis_error why;
    size_t got;

    for (; b->size < wanted; block += MP_BLOCK_SIZE) {
        uint64_t end = block + MP_BLOCK_SIZE;
        size_t size = (size_t)(end - at) - b->size;
        size = size < wanted - b->size ? size : wanted - b->size;
        memphis_status st = s->env->file_read(s->env, f->file, at + b->size,
                                              b->data + b->size, size, &got, &why);
        if (st == MEMPHIS_IO) {
            if (end > f->header.size)
                break;
            s->unread = why;
            note_unreadable(s, f->header.base + block);
            memset(b->data + b->size, 0, size);
            got = size;
        } else if (st != MEMPHIS_OK) {
            return mp_fail(err, st, "%s", why.message);
        }
        b->size += got;
        if (got < size)
            break;
    }
    return MEMPHIS_OK;
}

static memphis_status fill_window(struct mp_scan *s, uint32_t file, uint64_t at,
                                  size_t size, memphis_error *err)
{
    const struct mp_scan_file *f = &s->files[file];
    size_t wanted = size > WINDOW_SIZE ? size : WINDOW_SIZE;
    struct mp_buf *b = &s->window;

    mp_buf_clear(b);
    mp_buf_reserve(b, wanted);
    s->window_file = file;
    s->window_at = at;
    memphis_status st =
        s->env->file_read(s->env, f->file, at, b->data, wanted, &b->size, err);
    if (st == MEMPHIS_IO) {
        b->size = 0;
        st = read_around(s, f, at, wanted, err);
    }
    return st;
}

/* `size` bytes at `lsn` of files[file], borrowed until the next call; short at the end
 * of the file. */
static memphis_status view(struct mp_scan *s, uint32_t file, uint64_t lsn, size_t size,
                           memphis_slice *out, memphis_error *err)
{
    const struct mp_scan_file *f = &s->files[file];
    uint64_t at = lsn - f->header.base;
    struct mp_buf *b = &s->window;

    mp_assert(lsn >= f->header.base);
    bool is_there = s->window_file == file && at >= s->window_at &&
                    at + size <= s->window_at + b->size;
    if (!is_there) {
        memphis_status st = fill_window(s, file, at, size, err);
        if (st != MEMPHIS_OK)
            return st;
    }
    size_t left = b->size - (size_t)(at - s->window_at);
    *out = mp_slice(b->data + (at - s->window_at), size < left ? size : left);
    return MEMPHIS_OK;
}

memphis_status mp_scan_read(struct mp_scan *s, const struct mp_scan_record *r,
                            struct mp_group_header *header, memphis_slice *body,
                            memphis_error *err)
{
    memphis_slice v;

    s->unread = (memphis_error){ 0 };
    memphis_status st = view(s, r->file, r->lsn, r->size, &v, err);
    if (st != MEMPHIS_OK)
        return st;
    if (v.size < r->size ||
        !mp_group_header_decode(v, s->files[r->file].header.epoch, header) ||
        header->length != r->size) {
        if (s->unread.status != MEMPHIS_OK)
            return mp_fail(err, s->unread.status, "%s", s->unread.message);
        return mp_fail(err, MEMPHIS_CORRUPT,
                       "a WAL record changed while it was read: check disk and memory "
                       "of the machine before you restore anything");
    }
    *body = mp_slice((const uint8_t *)v.data + MP_GROUP_HEADER_SIZE,
                     r->size - MP_GROUP_HEADER_SIZE);
    return MEMPHIS_OK;
}

/* -- records of a batch ------------------------------------------------------------ */

/* The record at the start of `bytes`, when all its checksums are right. */
static bool is_good_record(memphis_slice bytes, uint64_t epoch,
                           struct mp_group_header *out)
{
    if (!mp_group_header_decode(bytes, epoch, out) || out->length > bytes.size)
        return false;
    const uint8_t *body = (const uint8_t *)bytes.data + MP_GROUP_HEADER_SIZE;
    return mp_crc32c(0, body, out->length - MP_GROUP_HEADER_SIZE) == out->body_crc;
}

static void note_settled(struct mp_scan *s, memphis_slice body)
{
    struct mp_cursor c = mp_cursor_of(body);

    while (mp_cursor_left(&c) >= 16) {
        uint64_t from = mp_cursor_u64(&c);
        uint64_t to = mp_cursor_u64(&c);
        if (from < to)
            push_range(&s->settled, &s->settled_count, from, to);
    }
}

static void note_heads(struct mp_scan *s, memphis_slice body, uint64_t lsn)
{
    const uint8_t *at = body.data;

    s->heads_count = 0;
    s->heads_lsn = lsn;
    for (size_t i = 0; i + MP_HEAD_SIZE <= body.size && s->heads_count < 32;
         i += MP_HEAD_SIZE)
        mp_head_decode(at + i, &s->heads[s->heads_count++]);
}

static memphis_status note_record(struct mp_scan *s, uint32_t file, uint64_t lsn,
                                  const struct mp_group_header *h, memphis_slice bytes,
                                  memphis_error *err)
{
    memphis_slice body = { (const uint8_t *)bytes.data + MP_GROUP_HEADER_SIZE,
                           h->length - MP_GROUP_HEADER_SIZE };

    if ((h->flags & ~MP_RECORD_COPY) != 0)
        return mp_fail(err, MEMPHIS_VERSION,
                       "the WAL holds records with flags %u, which need a newer "
                       "release", h->flags);
    switch (h->kind) {
    case MP_RECORD_HEADS:
        note_heads(s, body, lsn);
        return MEMPHIS_OK;
    case MP_RECORD_SETTLED:
        note_settled(s, body);
        return MEMPHIS_OK;
    case MP_RECORD_BASE:
        return MEMPHIS_OK; /* a second copy of what `node` says */
    case MP_RECORD_ENTRY:
        break;
    default:
        return mp_fail(err, MEMPHIS_VERSION,
                       "the WAL holds records of kind %u, which need a newer release",
                       h->kind);
    }
    if (h->raft_type != MP_RAFT_NORMAL)
        return mp_fail(err, MEMPHIS_VERSION,
                       "the WAL holds entries of type %u of RAFT, which need a newer "
                       "release", h->raft_type);
    s->records = grow(s->records, sizeof *s->records, s->records_count,
                      &s->records_capacity);
    s->records[s->records_count++] = (struct mp_scan_record){
        .lsn = lsn, .index = h->index, .shard = h->shard, .size = h->length,
        .file = file, .is_copy = (h->flags & MP_RECORD_COPY) != 0
    };
    return MEMPHIS_OK;
}

/* Whether the body holds exactly the records that the header promises. */
static bool are_good_records(const struct mp_batch_header *h, const uint8_t *body)
{
    uint32_t crc = 0, count = 0;
    struct mp_group_header g;

    for (size_t at = 0; at < h->body_size; at += g.length, count++) {
        memphis_slice left = { body + at, h->body_size - at };
        if (!is_good_record(left, h->epoch, &g))
            return false;
        if (count == 0 && g.kind != MP_RECORD_HEADS)
            return false;
        crc = mp_crc32c(crc, body + at, MP_GROUP_HEADER_SIZE);
    }
    return count == h->records && crc == h->records_crc;
}

static memphis_status note_batch(struct mp_scan *s, uint32_t file,
                                 const struct mp_batch_header *h, const uint8_t *body,
                                 memphis_error *err)
{
    memphis_status st = MEMPHIS_OK;
    struct mp_group_header g;

    for (size_t at = 0; at < h->body_size && st == MEMPHIS_OK; at += g.length) {
        memphis_slice left = { body + at, h->body_size - at };
        bool good = mp_group_header_decode(left, h->epoch, &g);
        mp_assert(good); /* are_good_records has looked */
        st = note_record(s, file, h->lsn + MP_BATCH_HEADER_SIZE + at, &g, left, err);
    }
    s->batches = grow(s->batches, sizeof *s->batches, s->batches_count,
                      &s->batches_capacity);
    struct mp_scan_batch *b = &s->batches[s->batches_count++];
    *b = (struct mp_scan_batch){
        .lsn = h->lsn,
        .end = h->lsn + mp_block_up(MP_BATCH_HEADER_SIZE + (uint64_t)h->body_size),
        .durable_upto = h->durable_upto, .wall_ns = h->wall_ns,
        .broker_ns = h->broker_ns, .file = file, .crc = h->crc, .chain = h->chain
    };
    for (uint32_t i = 0; i < SHARDS; i++)
        b->last_index[i] = UINT64_MAX;
    for (uint32_t i = 0; i < s->heads_count; i++) /* its own: they come first in it */
        if (s->heads[i].shard < SHARDS)
            b->last_index[s->heads[i].shard] = s->heads[i].last_index;
    if (h->durable_upto > s->durable_upto)
        s->durable_upto = h->durable_upto;
    return st;
}

/* -- one file ---------------------------------------------------------------------- */

/* Looks for a good batch at `lsn`; *size is its length, 0: there is none. */
static memphis_status try_batch(struct mp_scan *s, uint32_t file, uint64_t lsn,
                                uint64_t *size, memphis_error *err)
{
    const struct mp_wal_header *f = &s->files[file].header;
    struct mp_batch_header h;
    memphis_slice v;

    *size = 0;
    memphis_status st = view(s, file, lsn, MP_BATCH_HEADER_SIZE, &v, err);
    if (st != MEMPHIS_OK)
        return st;
    if (!mp_batch_header_decode(v, &h) || h.epoch != f->epoch || h.lsn != lsn)
        return MEMPHIS_OK;
    if (h.is_newer)
        return mp_fail(err, MEMPHIS_VERSION,
                       "the WAL holds batches that were written by a newer release");
    uint64_t total = mp_block_up(MP_BATCH_HEADER_SIZE + (uint64_t)h.body_size);
    if (total > f->base + f->size - lsn)
        return MEMPHIS_OK;
    st = view(s, file, lsn, (size_t)total, &v, err);
    if (st != MEMPHIS_OK)
        return st;
    const uint8_t *body = (const uint8_t *)v.data + MP_BATCH_HEADER_SIZE;
    if (v.size < total || !are_good_records(&h, body))
        return MEMPHIS_OK;
    *size = total;
    return note_batch(s, file, &h, body, err);
}

/* Where no good batch stands the length is not to be trusted: the search goes on at
 * each block. */
static memphis_status scan_file(struct mp_scan *s, uint32_t file, memphis_error *err)
{
    const struct mp_wal_header *f = &s->files[file].header;
    uint64_t end = s->files[file].bad < f->size ? f->base + f->size : 0;
    memphis_status st = MEMPHIS_OK;
    uint64_t size;

    for (uint64_t lsn = f->base + MP_BLOCK_SIZE; lsn < end && st == MEMPHIS_OK;) {
        st = try_batch(s, file, lsn, &size, err);
        lsn += size > 0 ? size : MP_BLOCK_SIZE;
    }
    return st;
}

/* -- the files --------------------------------------------------------------------- */

struct names {
    uint64_t from;            /* bases below it are left out */
    uint64_t *bases;
    size_t count, capacity;
};

static bool take_name(void *ctx, const char *name)
{
    struct names *n = ctx;
    uint64_t base;

    if (strlen(name) != NAME_DIGITS + 4 || strcmp(name + NAME_DIGITS, ".wal") != 0 ||
        !mp_parse_u64(mp_slice(name, NAME_DIGITS), &base) || base < n->from)
        return true;
    n->bases = grow(n->bases, sizeof *n->bases, n->count, &n->capacity);
    n->bases[n->count++] = base;
    return true;
}

static int compare_bases(const void *a, const void *b)
{
    const uint64_t *x = a, *y = b;

    return (*x > *y) - (*x < *y);
}

/* The header as it is written there, when it is good and of that file. */
static memphis_status read_header(struct mp_scan *s, struct mp_scan_file *f,
                                  uint64_t base, uint64_t size)
{
    uint8_t block[MP_BLOCK_SIZE];
    size_t got = 0;

    memphis_status st =
        s->env->file_read(s->env, f->file, 0, block, sizeof block, &got, &f->why);
    if (st == MEMPHIS_IO)
        s->unread = f->why;
    if (st == MEMPHIS_OK)
        st = mp_wal_header_decode(mp_slice(block, got), &f->header, &f->why);
    if (st == MEMPHIS_OK && f->header.base != base) {
        f->header.epoch = 0;
        st = mp_fail(&f->why, MEMPHIS_CORRUPT, "its header does not match its name");
    }
    if (st == MEMPHIS_OK && f->header.size != size)
        st = mp_fail(&f->why, MEMPHIS_CORRUPT, "its header does not match its size");
    return st;
}

/* What the first batch says that is in its place; 0: there is none. Of an earlier use
 * of the file it would name other LSNs. */
static uint64_t find_epoch(struct mp_scan *s, const struct mp_scan_file *f)
{
    uint8_t bytes[MP_BATCH_HEADER_SIZE];
    struct mp_batch_header h;
    size_t got;

    for (uint64_t at = MP_BLOCK_SIZE; at < f->header.size; at += MP_BLOCK_SIZE)
        if (s->env->file_read(s->env, f->file, at, bytes, sizeof bytes, &got, NULL) ==
                MEMPHIS_OK &&
            mp_batch_header_decode(mp_slice(bytes, got), &h) &&
            h.lsn == f->header.base + at)
            return h.epoch;
    return 0;
}

/* Without a good header: the name says the base, a batch the epoch. When there is no
 * batch nothing in the file can be told from what was there before. */
static void make_header(struct mp_scan *s, struct mp_scan_file *f, uint64_t base,
                        uint64_t size)
{
    if (f->header.base != base)
        f->header = (struct mp_wal_header){ .base = base };
    if (f->header.size == 0 || size < f->header.size)
        f->header.size = size > MP_BLOCK_SIZE ? mp_block_up(size) : MP_BLOCK_SIZE;
    f->bad = MP_BLOCK_SIZE;
    if (f->header.epoch == 0)
        f->header.epoch = find_epoch(s, f);
    if (f->header.epoch == 0)
        f->bad = f->header.size;
}

/* Opens a file and looks at its header and size. */
static memphis_status open_file(struct mp_scan *s, uint64_t base, memphis_error *err)
{
    struct mp_env *e = s->env;
    struct mp_scan_file f = { .file = NULL };
    char name[MP_WAL_NAME_SIZE];
    uint64_t size = 0;

    mp_wal_name(base, name);
    memphis_status st = e->file_open(e, name, MP_FILE_READ, &f.file, err);
    if (st == MEMPHIS_OK)
        st = e->file_size(e, f.file, &size, err);
    if (st == MEMPHIS_OK) {
        st = read_header(s, &f, base, size);
        if (st == MEMPHIS_CORRUPT || st == MEMPHIS_IO) {
            make_header(s, &f, base, size);
            st = MEMPHIS_OK;
        } else if (st != MEMPHIS_OK) {
            (void)mp_fail(err, st, "'%s' at offset 0: %s", name, f.why.message);
        }
    }
    if (st != MEMPHIS_OK) {
        e->file_close(e, f.file);
        return st;
    }
    s->files = mp_realloc(s->files, (s->files_count + 1) * sizeof *s->files);
    s->files[s->files_count++] = f;
    return MEMPHIS_OK;
}

/* No LSN is in two files: a header that says so is wrong. */
static void cut_overlap(struct mp_scan_file *f, uint64_t end)
{
    if (f->header.base + f->header.size <= end)
        return;
    if (f->bad == 0)
        (void)mp_fail(&f->why, MEMPHIS_CORRUPT, "it goes on into the next file");
    f->header.size = end - f->header.base;
    if (f->bad == 0 || f->bad > f->header.size)
        f->bad = f->bad == 0 ? MP_BLOCK_SIZE : f->header.size;
}

static memphis_status open_files(struct mp_scan *s, uint64_t wal_first,
                                 memphis_error *err)
{
    struct names n = { .from = wal_first };

    memphis_status st = s->env->dir_list(s->env, "wal", take_name, &n, err);
    if (n.count > 0)
        qsort(n.bases, n.count, sizeof *n.bases, compare_bases);
    for (size_t i = 0; i < n.count && st == MEMPHIS_OK; i++)
        st = open_file(s, n.bases[i], err);
    mp_free(n.bases);
    for (uint32_t i = 0; i < s->files_count; i++) {
        const struct mp_wal_header *h = &s->files[i].header;
        if (i + 1 < s->files_count)
            cut_overlap(&s->files[i], s->files[i + 1].header.base);
        s->files_end = h->base + h->size;
        s->last_base = h->base;
    }
    /* Where no file is any more, one has been; and what is durable was in one. */
    uint64_t least = mp_block_up(s->durable_upto);
    if (s->files_count == 0 && least < wal_first + MP_BLOCK_SIZE)
        least = wal_first + MP_BLOCK_SIZE;
    if (s->files_end < least)
        s->files_end = least;
    return st;
}

/* -- the verdict ------------------------------------------------------------------- */

static const struct mp_lsn_range *range_at(const struct mp_lsn_range *ranges,
                                           uint32_t count, uint64_t lsn)
{
    for (uint32_t i = 0; i < count; i++)
        if (lsn >= ranges[i].from && lsn < ranges[i].to)
            return &ranges[i];
    return NULL;
}

static const struct mp_lsn_range *settled_at(const struct mp_scan *s, uint64_t lsn)
{
    return range_at(s->settled, s->settled_count, lsn);
}

/* Whether an earlier recovery has settled all of it. */
static bool is_settled(const struct mp_scan *s, uint64_t from, uint64_t to)
{
    const struct mp_lsn_range *r;

    while (from < to && (r = settled_at(s, from)) != NULL)
        from = r->to;
    return from >= to;
}

/* LSNs that cannot be read, for that reason. */
static memphis_status judge_range(struct mp_scan *s, uint64_t from, uint64_t to,
                                  const memphis_error *why, bool accept_loss,
                                  memphis_error *err)
{
    if (is_settled(s, from, to))
        return MEMPHIS_OK;
    if (accept_loss) {
        push_range(&s->lost, &s->lost_count, from, to);
        return MEMPHIS_OK;
    }
    return mp_fail(err, why->status,
                   "%s; restore it from a backup, or start with --accept-loss to keep "
                   "the rest",
                   why->message);
}

/* LSNs that no file covers. */
static memphis_status judge_hole(struct mp_scan *s, uint64_t from, uint64_t to,
                                 bool accept_loss, memphis_error *err)
{
    memphis_error why;

    (void)mp_fail(&why, MEMPHIS_CORRUPT, "%s: from LSN %llu to %llu",
                  s->files_count > 0 ? "a WAL file is missing"
                                     : "there is no WAL file in 'wal'",
                  (unsigned long long)from, (unsigned long long)to);
    return from < to ? judge_range(s, from, to, &why, accept_loss, err) : MEMPHIS_OK;
}

/* The start of a file that says nothing. */
static memphis_status judge_header(struct mp_scan *s, const struct mp_scan_file *f,
                                   bool accept_loss, memphis_error *err)
{
    char name[MP_WAL_NAME_SIZE];
    memphis_error why;

    mp_wal_name(f->header.base, name);
    (void)mp_fail(&why, f->why.status, "'%s' at offset 0, length %llu: %s", name,
                  (unsigned long long)f->bad, f->why.message);
    return judge_range(s, f->header.base, f->header.base + f->bad, &why, accept_loss,
                       err);
}

/* The files must cover everything from `wal_first` on, and be readable. */
static memphis_status judge_files(struct mp_scan *s, uint64_t wal_first,
                                  bool accept_loss, memphis_error *err)
{
    memphis_status st = MEMPHIS_OK;
    uint64_t end = wal_first;

    for (uint32_t i = 0; i < s->files_count && st == MEMPHIS_OK; i++) {
        const struct mp_scan_file *f = &s->files[i];
        st = judge_hole(s, end, f->header.base, accept_loss, err);
        if (st == MEMPHIS_OK && f->bad > 0)
            st = judge_header(s, f, accept_loss, err);
        end = f->header.base + f->header.size;
    }
    if (st == MEMPHIS_OK)
        st = judge_hole(s, end, s->files_end, accept_loss, err);
    for (uint32_t i = 0; i < s->unreadable_count && st == MEMPHIS_OK; i++)
        st = judge_range(s, s->unreadable[i].from, s->unreadable[i].to, &s->unread,
                         accept_loss, err);
    return st;
}

/* Whether batch b follows on `lsn`, where the good ones before it end. */
static bool follows(const struct mp_scan *s, const struct mp_scan_batch *b,
                    uint64_t lsn, const struct mp_scan_batch *before)
{
    const struct mp_wal_header *f = &s->files[b->file].header;

    if (b->lsn == f->base + MP_BLOCK_SIZE)
        return b->chain == 0 && (b->lsn == lsn || b->durable_upto == lsn ||
                                 (before == NULL && b->file == 0));
    if (b->lsn != lsn)
        return false;
    return before == NULL || before->end != b->lsn || b->chain == before->crc;
}

/* LSN `lsn` moved behind what is settled there, and to the first batch of the file when
 * it stands at the start of one. */
static uint64_t skip_settled(const struct mp_scan *s, uint64_t lsn)
{
    const struct mp_lsn_range *r;
    uint64_t before;

    do { /* what is settled may begin with that batch */
        before = lsn;
        while ((r = settled_at(s, lsn)) != NULL)
            lsn = r->to;
        for (uint32_t i = 0; i < s->files_count; i++)
            if (lsn == s->files[i].header.base)
                lsn += MP_BLOCK_SIZE;
    } while (lsn != before);
    return lsn;
}

/* Notes what is not readable; where nothing was settled that is loss. */
static memphis_status judge_gap(struct mp_scan *s, uint64_t from, uint64_t to,
                                bool accept_loss, memphis_error *err)
{
    const struct mp_scan_file *f = NULL;
    char name[MP_WAL_NAME_SIZE];

    if (to < from)
        to = from; /* files that overlap: there is no such gap, but no order either */
    for (uint32_t i = 0; i < s->files_count; i++)
        if (from >= s->files[i].header.base)
            f = &s->files[i];
    if (accept_loss) {
        push_range(&s->lost, &s->lost_count, from, to);
        return MEMPHIS_OK;
    }
    mp_wal_name(f != NULL ? f->header.base : 0, name);
    return mp_fail(err, MEMPHIS_CORRUPT,
                   "'%s' is damaged at offset %llu, length %llu; restore it from a "
                   "backup, or start with --accept-loss to keep the rest",
                   name, (unsigned long long)(from - (f ? f->header.base : 0)),
                   (unsigned long long)(to - from));
}

/* Walks the good batches from the first file on. Stops at the first place where none
 * follows; if that is below D, or another good one is known to have been built on top
 * of it, it is damage. */
static memphis_status judge(struct mp_scan *s, bool accept_loss, memphis_error *err)
{
    uint64_t at = s->files_end;
    const struct mp_scan_batch *before = NULL;
    memphis_status st = MEMPHIS_OK;

    if (s->files_count > 0)
        at = s->files[0].header.base + MP_BLOCK_SIZE;
    for (size_t i = 0; i < s->batches_count && st == MEMPHIS_OK; i++) {
        const struct mp_scan_batch *b = &s->batches[i];
        if (settled_at(s, b->lsn) != NULL)
            continue;
        at = follows(s, b, at, before) ? b->lsn : skip_settled(s, at);
        if (!follows(s, b, at, before)) {
            if (at >= s->durable_upto)
                break; /* nobody was told about it, nor about what follows */
            st = judge_gap(s, at, b->lsn, accept_loss, err);
        }
        at = b->end;
        before = b;
    }
    uint64_t tail = skip_settled(s, at);
    if (st == MEMPHIS_OK && tail < s->durable_upto && s->files_count > 0)
        st = judge_gap(s, tail, s->files_end, accept_loss, err);
    s->end = at;
    return st;
}

/* Bytes of an unfinished batch behind the end: what a report shows. */
static void measure_tail(struct mp_scan *s)
{
    struct mp_batch_header h;
    memphis_slice v;

    for (uint32_t i = 0; i < s->files_count; i++) {
        const struct mp_wal_header *f = &s->files[i].header;
        uint64_t lsn = s->end > f->base ? s->end : f->base + MP_BLOCK_SIZE;
        if (lsn >= f->base + f->size)
            continue;
        if (view(s, i, lsn, MP_BATCH_HEADER_SIZE, &v, NULL) == MEMPHIS_OK &&
            mp_batch_header_decode(v, &h) && h.epoch == f->epoch && h.lsn == lsn &&
            settled_at(s, lsn) == NULL)
            s->torn_bytes += mp_block_up(MP_BATCH_HEADER_SIZE + (uint64_t)h.body_size);
    }
}

/* -- accepted loss ----------------------------------------------------------------- */

/* What a damaged batch says of itself and of ranges does not count. */
static memphis_status salvage_record(struct mp_scan *s, uint32_t file, uint64_t lsn,
                                     const struct mp_group_header *h,
                                     memphis_slice bytes, memphis_error *err)
{
    if (h->kind == MP_RECORD_HEADS || h->kind == MP_RECORD_SETTLED)
        return MEMPHIS_OK;
    return note_record(s, file, lsn, h, bytes, err);
}

/* Records inside a lost range that are whole: searched at each multiple of 8. */
static memphis_status salvage(struct mp_scan *s, const struct mp_lsn_range *r,
                              memphis_error *err)
{
    memphis_status st = MEMPHIS_OK;
    struct mp_group_header g;
    memphis_slice v;

    for (uint32_t i = 0; i < s->files_count; i++) {
        const struct mp_wal_header *f = &s->files[i].header;
        if (s->files[i].bad >= f->size)
            continue;
        uint64_t at = r->from > f->base ? r->from : f->base + MP_BLOCK_SIZE;
        uint64_t end = r->to < f->base + f->size ? r->to : f->base + f->size;
        while (st == MEMPHIS_OK && at >= f->base && at <= end &&
               end - at >= MP_GROUP_HEADER_SIZE) {
            st = view(s, i, at, MP_GROUP_HEADER_SIZE, &v, err);
            if (st != MEMPHIS_OK)
                return st;
            uint64_t step = 8;
            if (mp_group_header_decode(v, f->epoch, &g) && g.length <= end - at) {
                st = view(s, i, at, g.length, &v, err);
                if (st != MEMPHIS_OK)
                    return st;
                if (is_good_record(v, f->epoch, &g)) {
                    st = salvage_record(s, i, at, &g, v, err);
                    step = g.length;
                }
            }
            at += step;
        }
    }
    return st;
}

static int compare(uint64_t x, uint64_t y)
{
    return (x > y) - (x < y);
}

static int compare_lsns(const void *a, const void *b)
{
    const struct mp_scan_record *x = a, *y = b;

    return compare(x->lsn, y->lsn);
}

static int compare_records(const void *a, const void *b)
{
    const struct mp_scan_record *x = a, *y = b;

    if (x->shard != y->shard)
        return compare(x->shard, y->shard);
    return x->index != y->index ? compare(x->index, y->index) : compare_lsns(a, b);
}

/* In the log of a shard indexes ascend with the LSN. So what is at or above the index
 * of a later record, or above where the log ended by the heads of a later batch, was
 * given up by a start in between: a torn tail, whose settlement is damaged, comes to
 * light again. Only copies stand behind higher indexes, and mean none of them. */
static void drop_given_up(struct mp_scan *s)
{
    uint64_t limits[SHARDS];  /* indexes from there on were given up */
    size_t batch = s->batches_count, to = s->records_count;

    memset(limits, 0xff, sizeof limits);
    for (size_t i = s->records_count; i > 0; i--) {
        struct mp_scan_record r = s->records[i - 1];
        for (; batch > 0 && s->batches[batch - 1].lsn > r.lsn; batch--)
            for (uint32_t shard = 0; shard < SHARDS; shard++)
                if (s->batches[batch - 1].last_index[shard] < limits[shard])
                    limits[shard] = s->batches[batch - 1].last_index[shard] + 1;
        if (r.shard < SHARDS && r.index >= limits[r.shard])
            continue;
        if (r.shard < SHARDS && !r.is_copy)
            limits[r.shard] = r.index;
        s->records[--to] = r;
    }
    s->records_count -= to;
    if (to > 0 && s->records_count > 0)
        memmove(s->records, s->records + to, s->records_count * sizeof *s->records);
}

/* A copy comes to its place; of equal ones the last counts. */
static void place_copies(struct mp_scan *s)
{
    size_t kept = 0;

    qsort(s->records, s->records_count, sizeof *s->records, compare_records);
    for (size_t i = 0; i < s->records_count; i++) {
        const struct mp_scan_record *r = &s->records[i];
        if (i + 1 == s->records_count || r->shard != r[1].shard ||
            r->index != r[1].index)
            s->records[kept++] = *r;
    }
    s->records_count = kept;
}

/* Keeps the records that count, and puts each shard's in order of index. */
static void filter_records(struct mp_scan *s)
{
    bool has_loss = s->lost_count > 0;
    bool has_copies = false;
    size_t kept = 0;

    for (size_t i = 0; i < s->records_count; i++) {
        const struct mp_scan_record *r = &s->records[i];
        if (settled_at(s, r->lsn) != NULL || (r->lsn >= s->end && !has_loss))
            continue;
        has_copies = has_copies || r->is_copy;
        s->records[kept++] = *r;
    }
    s->records_count = kept;
    if (has_loss && kept > 0) /* what was salvaged stands at the end */
        qsort(s->records, kept, sizeof *s->records, compare_lsns);
    drop_given_up(s);
    if (has_copies && s->records_count > 0)
        place_copies(s);
}

static void note_newest(struct mp_scan *s)
{
    for (size_t i = 0; i < s->batches_count; i++) {
        const struct mp_scan_batch *b = &s->batches[i];
        if (b->lsn >= s->end && s->lost_count == 0)
            break;
        if (b->broker_ns >= s->broker_ns) {
            s->wall_ns = b->wall_ns;
            s->broker_ns = b->broker_ns;
        }
    }
}

memphis_status mp_scan_run(struct mp_scan *s, struct mp_env *e, uint64_t durable_upto,
                           uint64_t wal_first, bool accept_loss, memphis_error *err)
{
    *s = (struct mp_scan){ .env = e, .durable_upto = durable_upto };
    s->window_file = UINT32_MAX;
    memphis_status st = open_files(s, wal_first, err);
    for (uint32_t i = 0; i < s->files_count && st == MEMPHIS_OK; i++)
        st = scan_file(s, i, err);
    if (st == MEMPHIS_OK)
        st = judge_files(s, wal_first, accept_loss, err);
    if (st == MEMPHIS_OK)
        st = judge(s, accept_loss, err);
    for (uint32_t i = 0; i < s->lost_count && st == MEMPHIS_OK; i++)
        st = salvage(s, &s->lost[i], err);
    if (st != MEMPHIS_OK)
        return st;
    measure_tail(s);
    filter_records(s);
    note_newest(s);
    return MEMPHIS_OK;
}

size_t mp_scan_whole_from(const struct mp_scan *s, uint32_t shard)
{
    size_t from = s->records_count;
    uint64_t lsn = 0, index = 0;

    for (size_t i = 0; i < s->records_count; i++) {
        const struct mp_scan_record *r = &s->records[i];
        if (r->shard != shard)
            continue;
        if (r->lsn > lsn && !r->is_copy) /* a copy was there before that LSN */
            lsn = r->lsn;
        if (from == s->records_count || r->index > index + 1)
            from = i;
        index = r->index;
    }
    for (uint32_t i = 0; i < s->lost_count; i++)
        if (s->lost[i].to > lsn)
            return s->records_count; /* its end is lost */
    return from;
}

void mp_scan_fini(struct mp_scan *s)
{
    for (uint32_t i = 0; i < s->files_count; i++)
        s->env->file_close(s->env, s->files[i].file);
    mp_free(s->files);
    mp_free(s->records);
    mp_free(s->settled);
    mp_free(s->lost);
    mp_free(s->unreadable);
    mp_free(s->batches);
    mp_buf_fini(&s->window);
    *s = (struct mp_scan){ 0 };
}
