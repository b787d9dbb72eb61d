#include "store/wal.h"

#include "base/assert.h"
#include "base/enc.h"
#include "base/limits.h"
#include "base/status.h"
#include "base/str.h"

#define NEXT_NAME "wal/next"
#define SECOND_NS 1000000000ull

enum { FILL_SIZE = 256 << 10, GROW_BELOW_S = 10 };

static const uint8_t zeros[MP_BLOCK_SIZE];

struct wal_file {
    struct mp_file *file;     /* NULL: none */
    uint64_t base, size, epoch;
};

/* One batch on its way to the disk. The writer owns it until it is delivered back. */
struct write_job {
    struct mp_job job;        /* first */
    struct mp_wal *wal;
    struct mp_file *file;
    struct mp_file *before;   /* a roll: the file that is full; closed by the job */
    bool is_roll, sync_before, sync;
    char name[MP_WAL_NAME_SIZE];
    uint64_t offset, end;     /* position in the file; LSN behind it */
    struct mp_buf heads;      /* batch header, heads, record headers */
    memphis_slice *pieces;
    size_t pieces_count, pieces_capacity;
    memphis_status status;
    memphis_error why;
};

/* The next file on its way. */
struct prepare_job {
    struct mp_job job;        /* first */
    struct mp_wal *wal;
    struct mp_wal_header header;
    uint64_t reserve;         /* bytes that stay free on the file system */
    struct mp_file *file;     /* out */
    memphis_status status;
    memphis_error why;
};

enum next_state { NEXT_NONE, NEXT_PREPARING, NEXT_READY };

struct mp_wal {
    struct mp_wal_options o;
    struct mp_worker *writer, *preparer;
    struct wal_file current, next;
    enum next_state next_state;
    uint64_t next_wanted;     /* least size of the next file; 0: no demand */
    uint64_t retry_ns;        /* the next file could not be made: try again then */
    bool out_of_space;        /* or of something else that it takes to make one */
    bool busy, broken;
    uint64_t end;             /* LSN behind the newest batch */
    uint64_t synced_upto;     /* LSN behind the newest synced batch */
    uint64_t synced_ns;       /* sync: interval: when */
    uint64_t rolled_ns;       /* when the current file was begun; 0: not yet */
    bool is_fast;             /* the file before was full within seconds */
    uint32_t chain;
    struct write_job write;
    struct prepare_job prepare;
    uint64_t batch_size;      /* of the batch being built */
    uint32_t records_crc, records_left, records;
    uint64_t body_size;
    size_t header_at;         /* where the next record header goes in write.heads */
};

void mp_wal_name(uint64_t base, char out[MP_WAL_NAME_SIZE])
{
    mp_format(out, MP_WAL_NAME_SIZE, "wal/%020llu.wal", (unsigned long long)base);
}

/* -- the next file (preparer) ------------------------------------------------------ */

static memphis_status fill(struct mp_env *e, struct mp_file *f, uint64_t size,
                           memphis_error *err)
{
    memphis_slice v[FILL_SIZE / MP_BLOCK_SIZE];
    memphis_status s = MEMPHIS_OK;

    for (size_t i = 0; i < sizeof v / sizeof v[0]; i++)
        v[i] = mp_slice(zeros, sizeof zeros);
    for (uint64_t at = 0; at < size && s == MEMPHIS_OK; at += FILL_SIZE) {
        uint64_t left = size - at < FILL_SIZE ? size - at : FILL_SIZE;
        s = e->file_write(e, f, at, v, (size_t)(left / MP_BLOCK_SIZE), err);
    }
    return s;
}

/* Makes NEXT_NAME the preparer's own: the spare, when there is one, or what an
 * interrupted preparation has left. The flusher may put another spare down at any
 * time, so it is opened under the name that nobody else uses. */
static memphis_status open_next(struct mp_env *e, struct prepare_job *j, bool *is_spare,
                                uint64_t *size)
{
    memphis_status s = e->rename(e, MP_WAL_SPARE_NAME, NEXT_NAME, &j->why);

    *is_spare = s == MEMPHIS_OK;
    if (s == MEMPHIS_OK || s == MEMPHIS_NOT_FOUND)
        s = e->file_open(e, NEXT_NAME, MP_FILE_WRITE | MP_FILE_CREATE, &j->file,
                         &j->why);
    if (s == MEMPHIS_OK)
        s = e->file_size(e, j->file, size, &j->why);
    if (s == MEMPHIS_OK && *size > 0) /* before it is changed: it has no other name */
        s = e->dir_sync(e, "wal", &j->why);
    return s;
}

/* All blocks are written again: what is there may have holes. */
static memphis_status fill_next(struct mp_env *e, struct prepare_job *j, uint64_t size)
{
    uint64_t wanted = j->header.size, free = e->free_bytes(e);
    memphis_status s = MEMPHIS_OK;

    if (size > wanted)
        s = e->file_truncate(e, j->file, wanted, &j->why);
    else if (size < wanted && !mp_has_room(free, wanted - size, j->reserve))
        s = mp_fail(&j->why, MEMPHIS_NO_SPACE,
                    "there is no room for another WAL file of %llu bytes: %llu are "
                    "free, %llu are kept in reserve",
                    (unsigned long long)wanted, (unsigned long long)free,
                    (unsigned long long)j->reserve);
    if (s == MEMPHIS_OK)
        s = fill(e, j->file, wanted, &j->why);
    return s;
}

/* Its size and all blocks are on disk before its first batch (P2 of the proof). A spare
 * has its blocks already, and they are in the page cache: it is taken as it is, when it
 * is large enough. What stands in it carries another epoch. */
static memphis_status make_next(struct mp_env *e, struct prepare_job *j,
                                uint64_t size_max)
{
    uint8_t block[MP_BLOCK_SIZE];
    memphis_slice v = { block, sizeof block };
    bool is_spare = false;
    uint64_t size = 0;

    memphis_status s = open_next(e, j, &is_spare, &size);
    if (is_spare && size >= j->header.size && size <= size_max)
        j->header.size = size;
    else if (s == MEMPHIS_OK)
        s = fill_next(e, j, size);
    mp_wal_header_encode(&j->header, block);
    if (s == MEMPHIS_OK)
        s = e->file_write(e, j->file, 0, &v, 1, &j->why);
    if (s == MEMPHIS_OK)
        s = e->file_sync(e, j->file, &j->why);
    return s;
}

static void run_prepare(struct mp_job *job)
{
    struct prepare_job *j = (struct prepare_job *)(void *)job;
    struct mp_env *e = j->wal->o.env;

    j->file = NULL;
    j->status = make_next(e, j, j->wal->o.file_max);
    if (j->status == MEMPHIS_OK)
        return;
    e->file_close(e, j->file);
    j->file = NULL;
    if (j->status == MEMPHIS_NO_SPACE)
        (void)e->unlink(e, NEXT_NAME, NULL); /* what was written of it is no use */
}

static void give_up(struct mp_wal *w, memphis_status status, const memphis_error *why)
{
    if (w->broken)
        return;
    w->broken = true;
    w->o.done(w->o.ctx, status, why);
}

static void take_next(struct mp_wal *w)
{
    struct prepare_job *j = &w->prepare;

    mp_assert(w->next_state == NEXT_PREPARING);
    w->next_state = NEXT_NONE;
    if (j->status != MEMPHIS_OK)
        return;
    mp_assert(j->file != NULL);
    w->next = (struct wal_file){ j->file, j->header.base, j->header.size,
                                 j->header.epoch };
    w->next_state = NEXT_READY;
    w->out_of_space = false;
    w->retry_ns = UINT64_MAX;
}

/* The next file, or why there is none, is back on the core. */
static void finish_prepare(struct mp_wal *w)
{
    struct prepare_job *j = &w->prepare;

    if (j->job.guard != MEMPHIS_OK) {
        w->next_state = NEXT_NONE;
        give_up(w, j->job.guard, &j->job.why);
        return;
    }
    take_next(w);
    if (j->status == MEMPHIS_OK)
        return;
    if (!memphis_status_is_retryable(j->status)) {
        give_up(w, j->status, &j->why);
        return;
    }
    if (!w->out_of_space)
        mp_logf(w->o.logger, MEMPHIS_LOG_ERROR, "wal",
                "%s; messages are refused until that is over", j->why.message);
    w->out_of_space = true;
    w->retry_ns = 0; /* set to a second from then by the next call with a time */
}

static void deliver_prepare(struct mp_mail *m)
{
    finish_prepare(((struct prepare_job *)(void *)m)->wal);
}

static void plan_next(struct mp_wal *w)
{
    uint64_t size = w->current.size * (w->is_fast ? 2 : 1);

    if (size > w->o.file_max)
        size = w->o.file_max;
    if (size < w->next_wanted)
        size = w->next_wanted;
    w->prepare.header = (struct mp_wal_header){
        .base = w->current.base + w->current.size,
        .size = mp_block_up(size),
        .base_before = w->current.base,
    };
    w->prepare.reserve = w->o.disk_reserve;
    w->o.env->random(w->o.env, &w->prepare.header.epoch, sizeof(uint64_t));
}

void mp_wal_prepare(struct mp_wal *w, uint64_t now_ns)
{
    struct mp_env *e = w->o.env;

    if (w->broken || w->next_state == NEXT_PREPARING)
        return;
    if (w->next_state == NEXT_READY && w->next.size >= w->next_wanted)
        return;
    if (w->out_of_space) {
        if (w->retry_ns == 0)
            w->retry_ns = now_ns + SECOND_NS;
        if (now_ns < w->retry_ns)
            return;
        w->retry_ns = 0;
    }
    if (w->next_state == NEXT_READY)
        e->file_close(e, w->next.file); /* too small for a large message */
    w->next = (struct wal_file){ 0 };
    w->next_state = NEXT_PREPARING;
    plan_next(w);
    if (w->preparer != NULL) {
        e->worker_post(e, w->preparer, &w->prepare.job);
        return;
    }
    w->prepare.job.guard = MEMPHIS_OK; /* the stop: on this thread */
    run_prepare(&w->prepare.job);
    finish_prepare(w);
}

/* -- a batch (writer) -------------------------------------------------------------- */

static memphis_status roll(struct mp_env *e, struct write_job *j)
{
    memphis_status s = MEMPHIS_OK;

    if (j->before != NULL && j->sync_before)
        s = e->file_sync(e, j->before, &j->why);
    e->file_close(e, j->before);
    j->before = NULL;
    if (s == MEMPHIS_OK)
        s = e->rename(e, NEXT_NAME, j->name, &j->why);
    if (s == MEMPHIS_OK)
        s = e->dir_sync(e, "wal", &j->why);
    return s;
}

static void run_write(struct mp_job *job)
{
    struct write_job *j = (struct write_job *)(void *)job;
    struct mp_env *e = j->wal->o.env;

    j->status = j->is_roll ? roll(e, j) : MEMPHIS_OK;
    if (j->status == MEMPHIS_OK)
        j->status = e->file_write(e, j->file, j->offset, j->pieces, j->pieces_count,
                                  &j->why);
    if (j->status == MEMPHIS_OK && j->sync)
        j->status = e->file_sync(e, j->file, &j->why);
}

/* The batch is back on the core. */
static memphis_status finish_write(struct mp_wal *w, uint64_t *synced)
{
    struct write_job *j = &w->write;
    memphis_status s = j->job.guard != MEMPHIS_OK ? j->job.guard : j->status;

    mp_assert(w->busy);
    w->busy = false;
    if (s == MEMPHIS_OK && j->sync)
        *synced = j->end;
    return s;
}

static void deliver_write(struct mp_mail *m)
{
    struct mp_wal *w = ((struct write_job *)(void *)m)->wal;
    struct write_job *j = &w->write;

    memphis_status s = finish_write(w, &w->synced_upto);
    if (s != MEMPHIS_OK)
        give_up(w, s, j->job.guard != MEMPHIS_OK ? &j->job.why : &j->why);
    else if (!w->broken)
        w->o.done(w->o.ctx, MEMPHIS_OK, NULL);
}

uint64_t mp_wal_batch_size(uint32_t heads, uint32_t records, uint64_t body_bytes)
{
    uint64_t size = MP_BATCH_HEADER_SIZE + MP_GROUP_HEADER_SIZE;

    size += (uint64_t)heads * MP_HEAD_SIZE;
    size += (uint64_t)records * MP_GROUP_HEADER_SIZE;
    return mp_block_up(size + body_bytes);
}

static bool fits(const struct wal_file *f, uint64_t at, uint64_t size)
{
    return f->file != NULL && f->size - at >= size;
}

bool mp_wal_can_take(const struct mp_wal *w, uint64_t size)
{
    mp_assert(size % MP_BLOCK_SIZE == 0);
    if (w->broken || w->busy)
        return false;
    return fits(&w->current, w->end - w->current.base, size) ||
           (w->next_state == NEXT_READY && fits(&w->next, MP_BLOCK_SIZE, size));
}

bool mp_wal_has_room(struct mp_wal *w, uint64_t size, uint64_t now_ns)
{
    if (mp_wal_can_take(w, size))
        return true;
    if (w->broken || w->busy)
        return false;
    w->next_wanted = size + MP_BLOCK_SIZE;
    mp_wal_prepare(w, now_ns);
    return false;
}

bool mp_wal_is_busy(const struct mp_wal *w)
{
    return w->busy;
}

bool mp_wal_is_out_of_space(const struct mp_wal *w)
{
    return w->out_of_space;
}

bool mp_wal_is_stuck(const struct mp_wal *w, uint64_t size)
{
    return w->out_of_space && !fits(&w->current, w->end - w->current.base, size) &&
           w->next_state == NEXT_NONE;
}

uint64_t mp_wal_sync_ns(const struct mp_wal *w)
{
    if (w->o.sync != MP_SYNC_INTERVAL || w->busy || w->synced_upto == w->end)
        return UINT64_MAX;
    return w->synced_ns + (uint64_t)w->o.sync_interval_ms * 1000000;
}

uint64_t mp_wal_retry_ns(const struct mp_wal *w)
{
    bool waits = w->out_of_space && w->next_state == NEXT_NONE && !w->busy;

    return waits ? w->retry_ns : UINT64_MAX;
}

static void push_piece(struct write_job *j, memphis_slice piece)
{
    if (piece.size == 0)
        return;
    if (j->pieces_count > 0) {
        memphis_slice *last = &j->pieces[j->pieces_count - 1];
        if ((const uint8_t *)last->data + last->size == piece.data) {
            last->size += piece.size; /* neighbours in one chunk: one write */
            return;
        }
    }
    if (j->pieces_count == j->pieces_capacity) {
        j->pieces_capacity = j->pieces_capacity > 0 ? j->pieces_capacity * 2 : 64;
        j->pieces = mp_realloc(j->pieces, j->pieces_capacity * sizeof *j->pieces);
    }
    j->pieces[j->pieces_count++] = piece;
}

/* The batch will begin the next file: from now on that is the current one. */
static void begin_roll(struct mp_wal *w)
{
    struct write_job *j = &w->write;

    mp_assert(w->next_state == NEXT_READY);
    j->is_roll = true;
    j->before = w->current.file;
    j->sync_before = w->synced_upto < w->end;
    mp_wal_name(w->next.base, j->name);
    if (j->sync_before)
        w->synced_upto = w->end; /* true before a byte of this batch is written */
    w->current = w->next;
    w->next = (struct wal_file){ 0 };
    w->next_state = NEXT_NONE;
    w->next_wanted = 0;
    w->end = w->current.base + MP_BLOCK_SIZE;
    w->chain = 0;
}

/* A header behind the ones before; the buffer has room for all and does not move. */
static uint8_t *add_header(struct mp_wal *w, const struct mp_group_header *header)
{
    struct mp_buf *b = &w->write.heads;

    mp_assert(b->capacity - b->size >= MP_GROUP_HEADER_SIZE);
    uint8_t *at = mp_buf_add(b, MP_GROUP_HEADER_SIZE);
    mp_group_header_encode(header, w->current.epoch, at);
    w->records_crc = mp_crc32c(w->records_crc, at, MP_GROUP_HEADER_SIZE);
    w->body_size += header->length;
    w->records++;
    push_piece(&w->write, mp_slice(at, MP_GROUP_HEADER_SIZE));
    return at;
}

static void add_heads(struct mp_wal *w, const struct mp_head *heads, uint32_t count)
{
    uint8_t items[MP_HEAD_SIZE * 32];
    uint32_t size = count * MP_HEAD_SIZE;

    mp_assert(count <= 32);
    for (uint32_t i = 0; i < count; i++)
        mp_head_encode(&heads[i], items + i * MP_HEAD_SIZE);
    struct mp_group_header h = { .length = MP_GROUP_HEADER_SIZE + size,
                                 .body_crc = mp_crc32c(0, items, size),
                                 .kind = MP_RECORD_HEADS };
    (void)add_header(w, &h);
    uint8_t *at = mp_buf_add(&w->write.heads, size);
    memcpy(at, items, size);
    push_piece(&w->write, mp_slice(at, size));
}

void mp_wal_begin(struct mp_wal *w, uint64_t size, const struct mp_head *heads,
                  uint32_t heads_count, uint32_t records)
{
    struct write_job *j = &w->write;

    mp_assert(!w->busy);
    mp_assert(!w->broken);
    j->is_roll = false;
    j->pieces_count = 0;
    if (!fits(&w->current, w->end - w->current.base, size))
        begin_roll(w);
    mp_assert(fits(&w->current, w->end - w->current.base, size));
    w->batch_size = size;
    w->records_crc = 0;
    w->records = 0;
    w->body_size = 0;
    mp_buf_clear(&j->heads);
    mp_buf_reserve(&j->heads, (size_t)mp_wal_batch_size(heads_count, records, 0));
    uint8_t *header = mp_buf_add(&j->heads, MP_BATCH_HEADER_SIZE);
    push_piece(j, mp_slice(header, MP_BATCH_HEADER_SIZE));
    add_heads(w, heads, heads_count);
}

void mp_wal_add(struct mp_wal *w, const struct mp_group_header *header)
{
    mp_assert(header->kind != MP_RECORD_HEADS);
    (void)add_header(w, header);
}

void mp_wal_add_piece(struct mp_wal *w, memphis_slice piece)
{
    mp_assert(w->records > 1);
    push_piece(&w->write, piece);
}

static bool wants_sync(struct mp_wal *w, uint64_t now_ns)
{
    if (w->o.sync == MP_SYNC_ALWAYS)
        return true;
    if (w->o.sync == MP_SYNC_NONE ||
        now_ns - w->synced_ns < (uint64_t)w->o.sync_interval_ms * 1000000)
        return false;
    w->synced_ns = now_ns;
    return true;
}

/* Header and padding: the batch is complete. */
static void seal(struct mp_wal *w, uint64_t wall_ns, uint64_t broker_ns)
{
    struct write_job *j = &w->write;
    uint64_t size = MP_BATCH_HEADER_SIZE + w->body_size;

    mp_assert(mp_block_up(size) == w->batch_size);
    struct mp_batch_header h = { .epoch = w->current.epoch,
                                 .lsn = w->end,
                                 .durable_upto = w->synced_upto,
                                 .body_size = (uint32_t)w->body_size,
                                 .records = w->records,
                                 .records_crc = w->records_crc,
                                 .chain = w->chain,
                                 .wall_ns = wall_ns,
                                 .broker_ns = broker_ns };
    mp_batch_header_encode(&h, j->heads.data);
    push_piece(j, mp_slice(zeros, (size_t)(w->batch_size - size)));
    w->chain = h.crc;
    if (j->is_roll || w->rolled_ns == 0) {
        w->is_fast = w->rolled_ns != 0 &&
                     broker_ns - w->rolled_ns < GROW_BELOW_S * SECOND_NS;
        w->rolled_ns = broker_ns;
    }
    j->file = w->current.file;
    j->offset = w->end - w->current.base;
    w->end += w->batch_size;
    j->end = w->end;
    j->status = MEMPHIS_OK;
    w->busy = true;
}

void mp_wal_post(struct mp_wal *w, uint64_t wall_ns, uint64_t broker_ns)
{
    seal(w, wall_ns, broker_ns);
    w->write.sync = wants_sync(w, broker_ns);
    w->o.env->worker_post(w->o.env, w->writer, &w->write.job);
}

memphis_status mp_wal_write(struct mp_wal *w, uint64_t wall_ns, uint64_t broker_ns,
                            memphis_error *err)
{
    seal(w, wall_ns, broker_ns);
    w->write.sync = true;
    w->write.job.guard = MEMPHIS_OK;
    run_write(&w->write.job);
    memphis_status s = finish_write(w, &w->synced_upto);
    if (s == MEMPHIS_OK)
        return s;
    w->broken = true;
    return mp_fail(err, s, "%s", w->write.why.message);
}

/* -- life -------------------------------------------------------------------------- */

memphis_status mp_wal_new(const struct mp_wal_options *o, struct mp_wal **out,
                          memphis_error *err)
{
    struct mp_wal *w = mp_alloc(sizeof *w);
    struct mp_env *e = o->env;

    mp_assert(o->file_min >= 4 * MP_BLOCK_SIZE);
    mp_assert(o->file_min <= o->file_max);
    w->o = *o;
    w->retry_ns = UINT64_MAX;
    w->write.wal = w;
    w->write.job.run = run_write;
    w->write.job.mail.deliver = deliver_write;
    w->prepare.wal = w;
    w->prepare.job.run = run_prepare;
    w->prepare.job.mail.deliver = deliver_prepare;
    memphis_status s = e->worker_new(e, "mp-wal", o->spin_us, &w->writer, err);
    if (s == MEMPHIS_OK)
        s = e->worker_new(e, "mp-wal-next", 0, &w->preparer, err);
    if (s != MEMPHIS_OK) {
        mp_wal_free(w);
        return s;
    }
    *out = w;
    return MEMPHIS_OK;
}

void mp_wal_stop(struct mp_wal *w)
{
    struct mp_env *e = w->o.env;

    e->worker_free(e, w->writer);
    e->worker_free(e, w->preparer);
    w->writer = w->preparer = NULL;
}

void mp_wal_free(struct mp_wal *w)
{
    if (w == NULL)
        return;
    struct mp_env *e = w->o.env;
    mp_wal_stop(w);
    if (w->next_state == NEXT_PREPARING)
        e->file_close(e, w->prepare.file);
    e->file_close(e, w->next.file);
    e->file_close(e, w->current.file);
    e->file_close(e, w->write.before);
    mp_buf_fini(&w->write.heads);
    mp_free(w->write.pieces);
    mp_free(w);
}

memphis_status mp_wal_create(struct mp_wal *w, uint64_t base, uint64_t base_before,
                             uint64_t durable_upto, uint64_t batch_size,
                             memphis_error *err)
{
    struct prepare_job *j = &w->prepare;
    struct mp_env *e = w->o.env;
    uint64_t size = batch_size + MP_BLOCK_SIZE;
    char name[MP_WAL_NAME_SIZE];

    mp_assert(w->current.file == NULL);
    j->header = (struct mp_wal_header){ .base = base, .base_before = base_before };
    j->header.size = mp_block_up(size > w->o.file_min ? size : w->o.file_min);
    j->reserve = 0; /* readers and groups are served on a full disk, too */
    e->random(e, &j->header.epoch, sizeof j->header.epoch);
    run_prepare(&j->job);
    if (j->status != MEMPHIS_OK)
        return mp_fail(err, j->status, "%s", j->why.message);
    w->current = (struct wal_file){ j->file, base, j->header.size, j->header.epoch };
    mp_wal_name(base, name);
    memphis_status s = e->rename(e, NEXT_NAME, name, err);
    if (s == MEMPHIS_OK)
        s = e->dir_sync(e, "wal", err);
    w->end = base + MP_BLOCK_SIZE;
    w->synced_upto = durable_upto;
    return s;
}

uint64_t mp_wal_file_base(const struct mp_wal *w)
{
    return w->current.base;
}

uint64_t mp_wal_file_end(const struct mp_wal *w)
{
    return w->current.base + w->current.size;
}

uint64_t mp_wal_end(const struct mp_wal *w)
{
    return w->end;
}

uint64_t mp_wal_durable_upto(const struct mp_wal *w)
{
    return w->synced_upto;
}
