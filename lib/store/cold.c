#include "store/cold.h"

#include "base/assert.h"
#include "base/status.h"

#define SECOND_NS 1000000000ull

struct block {
    struct mp_cold *cold;
    struct mp_list used;          /* all blocks, the least recently used one first */
    struct mp_list of_set;
    struct mp_chunk *chunk;       /* NULL: there is no message from..to */
    uint64_t from, to;            /* sequences that it answers for */
    uint64_t hint_seq;            /* the entry at hint_offset is the first one ... */
    uint32_t hint_offset;         /* ... at or above hint_seq */
};

struct wish {
    struct mp_list waiting;       /* for the worker */
    struct mp_list of_set;
    struct mp_cold_set *set;      /* NULL: forgotten while it was read */
    uint32_t pid;
    uint64_t seq;
    struct mp_segment segment;
};

struct read_job {
    struct mp_job job;            /* first */
    struct mp_cold *cold;
    struct wish *wish;            /* being read; NULL: idle */
    struct mp_chunk *chunk;
    uint64_t damage_last;
    memphis_status status;
    memphis_error why;
};

struct mp_cold {
    struct mp_cold_options o;
    struct mp_worker *worker;
    struct mp_index_cache indexes; /* the worker's */
    struct mp_list used;
    struct mp_list waiting;       /* wishes */
    struct read_job read;
    bool is_lacking;              /* the last read could not be made ... */
    uint64_t retry_ns;            /* ... and waits until then; UINT64_MAX: none waits */
    uint64_t bytes;               /* of all blocks */
};

/* === Blocks === */

static void drop_block(struct block *b)
{
    mp_list_remove(&b->used);
    mp_list_remove(&b->of_set);
    if (b->chunk != NULL)
        b->cold->bytes -= b->chunk->size;
    mp_chunk_unref(b->chunk); /* a reader's message may outlive us */
    mp_free(b);
}

/* The newest one stays in any case: who asked for it is about to read it. */
static void make_room(struct mp_cold *c)
{
    while (c->bytes > c->o.bytes_max && c->used.next != c->used.prev)
        drop_block(mp_container_of(c->used.next, struct block, used));
}

static struct block *block_of(const struct mp_cold_set *set, uint64_t seq)
{
    if (set->blocks.next == NULL)
        return NULL;
    for (struct mp_list *l = set->blocks.next; l != &set->blocks; l = l->next) {
        struct block *b = mp_container_of(l, struct block, of_set);
        if (seq >= b->from && seq <= b->to)
            return b;
    }
    return NULL;
}

memphis_status mp_cold_find(struct mp_cold *c, struct mp_cold_set *set, uint64_t seq,
                            struct mp_stored *out, uint64_t *empty_to)
{
    struct block *b = block_of(set, seq);
    uint32_t at = 0;
    size_t size;

    if (b == NULL)
        return MP_PENDING;
    mp_list_remove(&b->used);
    mp_list_push_back(&c->used, &b->used);
    mp_list_remove(&b->of_set);
    mp_list_push_front(&set->blocks, &b->of_set);
    if (b->chunk != NULL && seq >= b->hint_seq)
        at = b->hint_offset; /* readers go on where they were */
    for (; b->chunk != NULL && at < b->chunk->used; at += (uint32_t)size) {
        memphis_slice bytes = { b->chunk->bytes + at, b->chunk->used - at };
        memphis_status s = mp_entry_decode(bytes, false, &out->entry, &size, NULL);
        mp_assert(s == MEMPHIS_OK); /* the worker has checked it */
        if (out->entry.seq < seq || out->entry.type != MP_ENTRY_MESSAGE)
            continue;
        b->hint_seq = seq;
        b->hint_offset = at;
        mp_chunk_ref(b->chunk);
        out->chunk = b->chunk;
        return MEMPHIS_OK;
    }
    *empty_to = b->to;
    return MEMPHIS_NOT_FOUND;
}

/* Of the last entry in it, which is at or above `seq`. */
static uint64_t last_seq(const struct mp_chunk *chunk)
{
    struct mp_entry e = { .seq = 0 };
    size_t size;

    for (uint32_t at = 0; at < chunk->used; at += (uint32_t)size) {
        memphis_slice bytes = { chunk->bytes + at, chunk->used - at };
        memphis_status s = mp_entry_decode(bytes, false, &e, &size, NULL);
        mp_assert(s == MEMPHIS_OK);
    }
    return e.seq;
}

static void keep_block(struct mp_cold *c, struct mp_cold_set *set, uint64_t from,
                       uint64_t to, struct mp_chunk *chunk)
{
    struct block *b = mp_alloc(sizeof *b);

    b->cold = c;
    b->chunk = chunk;
    c->bytes += chunk != NULL ? chunk->size : 0;
    b->from = from;
    b->to = to;
    if (set->blocks.next == NULL)
        mp_list_init(&set->blocks);
    mp_list_push_front(&set->blocks, &b->of_set);
    mp_list_push_back(&c->used, &b->used);
    make_room(c);
}

/* === Reading === */

static void run_read(struct mp_job *job)
{
    struct read_job *j = (struct read_job *)(void *)job;
    struct mp_cold *c = j->cold;
    const struct wish *w = j->wish;

    j->chunk = NULL;
    j->status = mp_segment_read(c->o.env, c->o.shard, w->pid, &w->segment, w->seq,
                                &c->indexes, &j->chunk, &j->damage_last, &j->why);
}

static void start_next(struct mp_cold *c)
{
    struct mp_list *l;

    if (c->worker == NULL || c->read.wish != NULL || c->retry_ns != UINT64_MAX ||
        (l = mp_list_pop_front(&c->waiting)) == NULL)
        return;
    c->read.wish = mp_container_of(l, struct wish, waiting);
    c->o.env->worker_post(c->o.env, c->worker, &c->read.job);
}

static void free_wish(struct wish *w)
{
    mp_list_remove(&w->waiting);
    mp_list_remove(&w->of_set);
    mp_free(w);
}

/* It says nothing about the file: the wish is the first to be tried again. */
static void put_off(struct mp_cold *c)
{
    struct read_job *j = &c->read;

    if (!c->is_lacking)
        mp_logf(c->o.logger, MEMPHIS_LOG_ERROR, "store",
                "%s; readers wait until that is over", j->why.message);
    c->is_lacking = true;
    c->retry_ns = 0; /* set to a second from then by the next tick */
    mp_list_push_front(&c->waiting, &j->wish->waiting);
    j->wish = NULL;
}

/* The indexes may be half changed: no other read may use them. */
static void fail(struct mp_cold *c)
{
    free_wish(c->read.wish);
    c->read.wish = NULL;
    mp_cold_stop(c);
    c->o.failed(c->o.ctx, &c->read.job.why);
}

static void deliver_read(struct mp_mail *m)
{
    struct read_job *j = (struct read_job *)(void *)m;
    struct mp_cold *c = j->cold;
    memphis_status s = j->status;
    if (j->job.guard != MEMPHIS_OK) {
        fail(c);
        return;
    }
    if (memphis_status_is_retryable(s) && j->wish->set != NULL) {
        put_off(c);
        return;
    }
    struct wish w = *j->wish;
    struct mp_chunk *chunk = j->chunk;
    memphis_error why = j->why;
    uint64_t damage_last = j->damage_last;

    free_wish(j->wish);
    j->wish = NULL;
    j->chunk = NULL;
    c->is_lacking = false;
    start_next(c); /* from here on the job may belong to the next one */
    if (w.set == NULL) {
        mp_chunk_unref(chunk);
        return;
    }
    if (s == MEMPHIS_OK)
        keep_block(c, w.set, w.seq, last_seq(chunk), chunk);
    else if (s == MEMPHIS_NOT_FOUND)
        keep_block(c, w.set, w.seq, w.segment.last, NULL);
    else if (s == MEMPHIS_CORRUPT || s == MEMPHIS_IO)
        c->o.damaged(c->o.ctx, w.pid, w.seq, damage_last, &why);
    c->o.ready(c->o.ctx, w.pid);
}

void mp_cold_tick(struct mp_cold *c, uint64_t now_ns)
{
    if (c->retry_ns == 0)
        c->retry_ns = now_ns + SECOND_NS;
    if (now_ns < c->retry_ns)
        return;
    c->retry_ns = UINT64_MAX;
    start_next(c);
}

uint64_t mp_cold_next_ns(const struct mp_cold *c)
{
    return c->retry_ns;
}

void mp_cold_want(struct mp_cold *c, struct mp_cold_set *set, uint32_t pid,
                  const struct mp_segment *segment, uint64_t seq)
{
    mp_assert(seq <= segment->last);
    if (set->wishes.next == NULL)
        mp_list_init(&set->wishes);
    for (struct mp_list *l = set->wishes.next; l != &set->wishes; l = l->next)
        if (mp_container_of(l, struct wish, of_set)->seq == seq)
            return;
    struct wish *w = mp_alloc(sizeof *w);
    w->set = set;
    w->pid = pid;
    w->seq = seq;
    w->segment = *segment;
    mp_list_push_back(&set->wishes, &w->of_set);
    mp_list_push_back(&c->waiting, &w->waiting);
    start_next(c);
}

void mp_cold_forget(struct mp_cold *c, struct mp_cold_set *set)
{
    while (!mp_list_is_empty(&set->blocks))
        drop_block(mp_container_of(set->blocks.next, struct block, of_set));
    while (!mp_list_is_empty(&set->wishes)) {
        struct wish *w = mp_container_of(set->wishes.next, struct wish, of_set);
        if (c->read.wish != w) {
            free_wish(w);
            continue;
        }
        mp_list_remove(&w->of_set);
        w->set = NULL;
    }
}

/* === Life === */

memphis_status mp_cold_new(const struct mp_cold_options *o, struct mp_cold **out,
                           memphis_error *err)
{
    struct mp_cold *c = mp_alloc(sizeof *c);

    c->o = *o;
    c->retry_ns = UINT64_MAX;
    mp_list_init(&c->used);
    mp_list_init(&c->waiting);
    c->read.cold = c;
    c->read.job.run = run_read;
    c->read.job.mail.deliver = deliver_read;
    memphis_status s = o->env->worker_new(o->env, "mp-read", 0, &c->worker, err);
    if (s != MEMPHIS_OK) {
        mp_free(c);
        return s;
    }
    *out = c;
    return MEMPHIS_OK;
}

void mp_cold_stop(struct mp_cold *c)
{
    if (c == NULL)
        return;
    c->o.env->worker_free(c->o.env, c->worker);
    c->worker = NULL;
}

void mp_cold_free(struct mp_cold *c)
{
    if (c == NULL)
        return;
    mp_assert(mp_list_is_empty(&c->used));
    mp_assert(c->worker == NULL);
    mp_assert(c->read.wish == NULL); /* its mail was delivered */
    mp_index_cache_fini(&c->indexes);
    mp_free(c);
}

uint64_t mp_cold_bytes(const struct mp_cold *c)
{
    return c->bytes;
}
