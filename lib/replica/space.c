/* Memory and WAL files are given back: when to flush, what a pass takes along, what
 * follows from it.
 *
 *   chunks:   [ flushed, kept for readers | not flushed          | open ]
 *              evicted above 1/2 of the     a pass starts at 1/4,
 *              share, oldest first          input waits at 3/4
 *
 * A pass covers everything that is applied when it starts, of all partitions that were
 * touched since their last one. Afterwards the WAL files that hold nothing newer go. */
#include "base/assert.h"
#include "base/limits.h"
#include "base/status.h"
#include "replica/solo.h"

#define SECOND_NS 1000000000ull

enum {
    TRIM_AFTER_S = 1,         /* whole segments below a floor go after so long ... */
    TRIM_AGAIN_S = 10,        /* ... and those kept for their ids are looked at again */
    EVICTIONS_A_TURN = 64
};

/* === How much there is === */

static uint64_t memory_bytes(const struct mp_replica *r)
{
    uint64_t bytes = 0;

    for (uint32_t i = 0; i < MP_SHARDS; i++)
        if (r->shards[i].in_memory)
            bytes += r->shards[i].chunks.bytes;
    return bytes;
}

static uint64_t share_of(const struct mp_replica *r)
{
    return r->o.memory_max / 2;
}

/* What memory stations may have: half of the share, all of it without a disk. */
static uint64_t memory_limit(const struct mp_replica *r)
{
    return r->wal == NULL ? share_of(r) : share_of(r) / 2;
}

static uint64_t disk_share(const struct mp_replica *r)
{
    uint64_t share = share_of(r), memory = memory_bytes(r);

    return memory < share / 2 ? share - memory : share / 2;
}

static struct mp_shard *data_of(const struct mp_replica *r)
{
    return mp_shard_of((struct mp_replica *)(uintptr_t)r, MP_SHARD_DATA);
}

static uint64_t wal_bytes(const struct mp_replica *r)
{
    return r->spans_count > 0 ? mp_wal_file_end(r->wal) - r->spans[0].base : 0;
}

static bool lacks_room(const struct mp_replica *r)
{
    return data_of(r)->chunks.unflushed >= disk_share(r) / 4 * 3 ||
           (r->spans_count > 1 && wal_bytes(r) >= r->o.wal_total_max);
}

bool mp_space_is_short(const struct mp_shard *s)
{
    const struct mp_replica *r = s->replica;

    return !s->in_memory && !r->flush_lacks_space && lacks_room(r);
}

bool mp_space_refuses(const struct mp_shard *s)
{
    const struct mp_replica *r = s->replica;

    if (s->in_memory)
        return memory_bytes(r) >= memory_limit(r);
    return r->flush_lacks_space && lacks_room(r);
}

/* === WAL files === */

static struct mp_wal_span *span_at(struct mp_replica *r, uint64_t base)
{
    if (r->spans_count > 0 && r->spans[r->spans_count - 1].base == base)
        return &r->spans[r->spans_count - 1];
    mp_assert(r->spans_count == 0 || r->spans[r->spans_count - 1].base < base);
    if (r->spans_count == r->spans_capacity) {
        r->spans_capacity = r->spans_capacity > 0 ? r->spans_capacity * 2 : 16;
        r->spans = mp_realloc(r->spans, r->spans_capacity * sizeof *r->spans);
    }
    r->spans[r->spans_count] = (struct mp_wal_span){ .base = base };
    return &r->spans[r->spans_count++];
}

void mp_space_note_file(struct mp_replica *r, uint64_t base, uint32_t shard,
                        uint64_t index)
{
    struct mp_wal_span *span = span_at(r, base);

    if (shard > 0 && shard <= MP_SHARDS && index > span->last_index[shard - 1])
        span->last_index[shard - 1] = index;
}

void mp_space_note_batch(struct mp_replica *r, uint32_t shard, uint64_t index)
{
    mp_space_note_file(r, mp_wal_file_base(r->wal), shard, index);
}

/* Files at the front that hold nothing above these indexes; never the newest one. */
static size_t spent_files(const struct mp_replica *r, uint64_t meta, uint64_t data)
{
    size_t n = 0;

    while (n + 1 < r->spans_count &&
           r->spans[n].last_index[MP_SHARD_META - 1] <= meta &&
           r->spans[n].last_index[MP_SHARD_DATA - 1] <= data)
        n++;
    return n;
}

/* === The plan === */

static void put_slots(struct mp_flush *f, struct mp_flush_part *part,
                      const struct mp_partition *p)
{
    const struct mp_memtable *m = &p->memtable;
    uint64_t seq = p->flushed_seq + 1 > m->base ? p->flushed_seq + 1 : m->base;
    size_t ids = 0, most = p->dead_ids_count;

    most += m->end > seq ? (size_t)(m->end - seq) : 0;
    if (most == 0)
        return;
    part->slots = mp_realloc(NULL, most * sizeof *part->slots);
    for (; seq < m->end || ids < p->dead_ids_count; seq++) {
        for (; ids < p->dead_ids_count &&
               (seq >= m->end || p->dead_ids[ids].seq < seq); ids++) {
            struct mp_memslot slot = p->dead_ids[ids].slot;
            slot.size |= MP_FLUSH_ID_ONLY;
            mp_flush_hold(f, slot.chunk);
            part->slots[part->slots_count++] = slot;
        }
        if (seq >= m->end)
            break;
        const struct mp_memslot *slot = &m->slots[seq & (m->capacity - 1)];
        if (slot->chunk == NULL)
            continue;
        mp_flush_hold(f, slot->chunk);
        part->slots[part->slots_count++] = *slot;
    }
}

static uint32_t count_items(memphis_slice items)
{
    struct mp_cursor c = mp_cursor_of(items);
    uint32_t count = 0;
    memphis_slice v;
    uint16_t tag;

    while (mp_state_next(&c, &tag, &v))
        count++;
    return count;
}

/* Else a pass is for dead segments only, and says of the rest what was said before: it
 * may be at the index of one that has ended. */
static bool has_changed(const struct mp_partition *p)
{
    return p->touched_index > p->flushed_index;
}

/* What a start has found, and nobody has asked for, stays as it is. */
static void put_loaded(const struct mp_partition *p, struct mp_buf *out)
{
    struct mp_cursor c = mp_cursor_of(mp_buf_slice(&p->loaded_state));
    memphis_slice v;
    uint16_t tag;

    while (mp_state_next(&c, &tag, &v)) {
        if (tag == MP_STATE_DEAD || tag == MP_STATE_DAMAGE)
            continue; /* the store's own */
        mp_state_put(out, tag, v.data, v.size);
    }
}

static void put_state(struct mp_shard *s, const struct mp_flush *f,
                      struct mp_flush_part *part, const struct mp_partition *p)
{
    struct mp_buf *b = &part->state;

    part->old_state = part->slot.state_index = p->state_index;
    if (!has_changed(p))
        return; /* its file is the one that must not tear */
    part->slot.state_index = 0;
    memset(mp_buf_add(b, MP_STATE_HEADER_SIZE), 0, MP_STATE_HEADER_SIZE);
    mp_partition_state_put(p, b);
    if (p->pid == 0)
        mp_partitions_table_put(&s->partitions, b);
    if (s->log.sink.state != NULL)
        s->log.sink.state(s->log.sink.ctx, p->pid, b);
    put_loaded(p, b);
    if (b->size == MP_STATE_HEADER_SIZE) {
        mp_buf_clear(b); /* nothing to tell: no file */
        return;
    }
    memphis_slice items = { b->data + MP_STATE_HEADER_SIZE,
                            b->size - MP_STATE_HEADER_SIZE };
    struct mp_state_header h = { .pid = p->pid,
                                 .items = count_items(items),
                                 .index = f->index,
                                 .time_ns = f->time_ns };
    mp_state_seal(b, &h);
    part->slot.state_index = f->index;
}

/* Segments at the front that hold nothing but what is below the floor, nor an id that
 * still matters. */
static uint32_t dead_segments(const struct mp_shard *s, const struct mp_partition *p)
{
    const struct mp_log_sink *sink = &s->log.sink;
    uint64_t since = UINT64_MAX;
    uint32_t n = 0;

    if (p->segments_count == 0 || p->segments[0].last >= p->floor)
        return 0;
    if (sink->ids_since != NULL)
        since = sink->ids_since(sink->ctx, p->pid);
    while (n < p->segments_count && p->segments[n].last < p->floor &&
           p->segments[n].max_time_ns < since)
        n++;
    return n;
}

static void plan_partition(struct mp_replica *r, struct mp_shard *s,
                           struct mp_partition *p, uint32_t dead)
{
    struct mp_flush *f = &r->flush;
    struct mp_flush_part *part = mp_flush_add(f);
    struct mp_log_stats st;

    mp_partition_stats(p, &st);
    part->pid = p->pid;
    part->is_new = p->generation == 0 && !p->is_rebuilt;
    part->dead_count = dead;
    part->slot = (struct mp_meta_slot){ .generation = p->generation + 1,
                                        .first_seq = p->floor,
                                        .flushed_seq = p->last,
                                        .flushed_index = has_changed(p)
                                                             ? f->index
                                                             : p->flushed_index,
                                        .durable_upto = mp_wal_durable_upto(r->wal),
                                        .live_messages = st.messages,
                                        .live_bytes = st.bytes,
                                        .config_version = p->config_version,
                                        .station = p->station,
                                        .number = p->number };
    p->has_directory = true; /* so that a drop meanwhile removes it */
    if (dead > 0) {
        part->dead = mp_realloc(NULL, dead * sizeof *part->dead);
        for (uint32_t i = 0; i < dead; i++)
            part->dead[i] = p->segments[i].first;
    }
    if (dead < p->segments_count) {
        part->segments = mp_realloc(NULL, sizeof *part->segments);
        part->segments[part->segments_count++] = p->segments[p->segments_count - 1];
    }
    put_slots(f, part, p);
    put_state(s, f, part, p);
}

static bool is_touched(const struct mp_partition *p)
{
    return has_changed(p) || p->must_flush;
}

/* A start whose replay has not come to where the files are: a slot of now would say
 * less than they hold. */
static bool is_ahead(const struct mp_replica *r, const struct mp_partition *p)
{
    return p->flushed_index > r->flush.index;
}

/* Partition 0 comes last: its table tells which ones have files. */
static void plan_partitions(struct mp_replica *r, struct mp_shard *s)
{
    struct mp_partition *p, *own = mp_partitions_find(&s->partitions, 0);
    bool any_new = false;

    if (own == NULL && s->commit > 0) { /* its files say that there is no other */
        own = mp_partitions_add(&s->partitions, 0);
        own->touched_index = s->commit;
    }

    for (uint32_t i = 0; (p = mp_partitions_next(&s->partitions, &i)) != NULL;) {
        uint32_t dead = dead_segments(s, p);
        if (p == own || is_ahead(r, p) || (!is_touched(p) && dead == 0))
            continue;
        any_new |= p->generation == 0;
        plan_partition(r, s, p, dead);
    }
    if (own != NULL && any_new && own->touched_index < r->flush.index)
        own->touched_index = r->flush.index; /* its table will say so */
    if (own != NULL && is_touched(own) && !is_ahead(r, own))
        plan_partition(r, s, own, dead_segments(s, own));
}

static void plan_wal(struct mp_replica *r, size_t spent)
{
    struct mp_flush *f = &r->flush;

    if (spent == 0)
        return;
    f->wal_files = mp_realloc(NULL, spent * sizeof *f->wal_files);
    for (size_t i = 0; i < spent; i++)
        f->wal_files[f->wal_files_count++] = r->spans[i].base;
    f->write_node = true;
    f->node = r->node;
    f->node.durable_upto = mp_wal_durable_upto(r->wal);
    f->node.wal_first = r->spans[spent].base;
    for (uint32_t i = 0; i < f->node.items_count; i++) {
        struct mp_node_item *item = &f->node.items[i];
        item->base_index = item->shard == MP_SHARD_META ? r->meta_safe : f->index;
        item->base_term = item->base_index > 0;
    }
}

/* False: there is nothing to do. */
static bool plan(struct mp_replica *r, bool free_wal)
{
    struct mp_shard *s = data_of(r);
    struct mp_flush *f = &r->flush;

    mp_assert(!r->is_flushing);
    f->env = r->o.env;
    f->shard = MP_SHARD_DATA;
    f->segment_size = r->o.segment_size;
    f->disk_reserve = r->is_ready ? r->o.disk_reserve : 0;
    f->index = s->commit;
    f->time_ns = r->clock.broker_ns;
    f->write_node = false;
    f->sync_wal = r->o.sync != MP_SYNC_ALWAYS;
    f->bytes = 0;
    mp_chunks_seal_full(&s->chunks);
    plan_partitions(r, s);
    if (free_wal)
        plan_wal(r, spent_files(r, r->meta_safe, f->index));
    if (f->parts_count > 0 || f->wal_files_count > 0)
        return true;
    mp_chunks_flushed(&s->chunks, f->index); /* by earlier passes, all of it */
    return false;
}

/* === The result === */

/* The segments of before, less the dead ones, less the one that was appended to; then
 * those of the pass. */
static void take_segments(struct mp_partition *p, const struct mp_flush_part *part)
{
    uint32_t kept = p->segments_count - part->dead_count;

    if (kept > 0)
        kept--;
    uint32_t count = kept + part->segments_count;
    struct mp_segment *all = mp_realloc(NULL, (count + 1) * sizeof *all);
    if (kept > 0)
        memcpy(all, p->segments + part->dead_count, kept * sizeof *all);
    if (part->segments_count > 0)
        memcpy(all + kept, part->segments, part->segments_count * sizeof *all);
    mp_free(p->segments);
    p->segments = all;
    p->segments_count = count;
    p->segments_capacity = count + 1;
}

static void cold_damaged(void *ctx, uint32_t pid, uint64_t first, uint64_t last,
                         const memphis_error *why)
{
    struct mp_shard *s = ctx;
    struct mp_partition *p = mp_partitions_find(&s->partitions, pid);

    if (p == NULL || last < p->floor)
        return; /* its messages are gone, and so may be the file */
    if (mp_ranges_skip(&p->damage, first) > last)
        return; /* it was accepted */
    mp_logf(s->replica->o.logger, MEMPHIS_LOG_ERROR, "store",
            "%s; these messages cannot be read: restore the file from a backup, or "
            "purge the station partition=%u first=%llu last=%llu",
            why->message, pid, (unsigned long long)first, (unsigned long long)last);
    s->replica->damaged_ranges++;
    mp_partition_lose(p, first, last);
}

/* Sealing reads a segment again: so old rot comes to light. */
static void tell_damage(struct mp_shard *s, const struct mp_flush_part *part)
{
    char path[MP_PATH_SIZE];
    memphis_error why;

    mp_path_partition(s->log.shard, part->pid, path);
    (void)mp_fail(&why, MEMPHIS_CORRUPT, "a segment in '%s' is damaged", path);
    for (size_t i = 0; i < part->damage.count; i++)
        cold_damaged(s, part->pid, part->damage.items[i].first,
                     part->damage.items[i].last, &why);
}

static void take_part(struct mp_shard *s, const struct mp_flush_part *part)
{
    struct mp_partition *p = mp_partitions_find(&s->partitions, part->pid);

    if (p == NULL)
        return; /* dropped meanwhile: its files go next */
    take_segments(p, part);
    p->flushed_seq = part->slot.flushed_seq;
    p->flushed_index = part->slot.flushed_index;
    p->state_index = part->slot.state_index;
    p->generation = part->slot.generation;
    p->must_flush = false;
    mp_partition_forget_ids(p);
    tell_damage(s, part);
}

static void finish(struct mp_replica *r)
{
    struct mp_flush *f = &r->flush;
    struct mp_shard *s = data_of(r);

    for (size_t i = 0; i < f->parts_count; i++)
        take_part(s, &f->parts[i]);
    mp_chunks_flushed(&s->chunks, f->index);
    if (f->write_node)
        r->node = f->node;
    r->spans_count -= f->wal_files_count;
    if (f->wal_files_count > 0)
        memmove(r->spans, r->spans + f->wal_files_count,
                r->spans_count * sizeof *r->spans);
    mp_partitions_check_dead(&s->partitions);
    if (!s->partitions.has_dead_segments)
        r->trim_ns = 0;
    r->flush_lacks_space = false;
    r->flushes++;
    r->flushed_bytes += f->bytes;
}

static void deliver(struct mp_mail *m)
{
    struct mp_replica *r = mp_container_of(m, struct mp_replica, flush.job.mail);
    struct mp_flush *f = &r->flush;

    r->is_flushing = false;
    if (f->job.guard != MEMPHIS_OK) {
        mp_replica_break(r, &f->job.why);
    } else if (f->status == MEMPHIS_OK) {
        finish(r);
    } else if (memphis_status_is_retryable(f->status)) {
        if (!r->flush_lacks_space)
            mp_logf(r->o.logger, MEMPHIS_LOG_ERROR, "store",
                    "%s; segments cannot be written until that is over",
                    f->why.message);
        r->flush_lacks_space = true;
        r->wants_flush |= f->wal_files_count > 0;
        r->flush_retry_ns = r->clock.broker_ns + SECOND_NS;
    } else {
        mp_replica_break(r, &f->why);
    }
    mp_flush_fini(f);
}

/* A pass writes slots and removes what they do not name: it would cover the damage that
 * the end of the start is about to tell. */
static bool has_damaged_files(struct mp_replica *r)
{
    struct mp_partition *p;

    for (uint32_t i = 0; (p = mp_partitions_next(&data_of(r)->partitions, &i)) != NULL;)
        if (p->is_rebuilt || mp_files_is_damaged(r, p))
            return true;
    return r->lost_table;
}

/* From the first write on the stop before was not the last word: what a crash of this
 * start leaves may be in the page cache only, and the next one must sync it. */
static memphis_status clear_clean(struct mp_replica *r, memphis_error *err)
{
    struct mp_node *n = &r->recovery.node;

    if ((n->flags & MP_NODE_CLEAN) == 0)
        return MEMPHIS_OK;
    n->flags &= ~(uint32_t)MP_NODE_CLEAN;
    return mp_node_write(r->o.env, n, err);
}

memphis_status mp_space_flush_now(struct mp_replica *r, memphis_error *err)
{
    if (data_of(r)->chunks.unflushed < disk_share(r) / 2 || has_damaged_files(r))
        return MEMPHIS_OK;
    return mp_space_flush_all(r, err);
}

memphis_status mp_space_flush_all(struct mp_replica *r, memphis_error *err)
{
    struct mp_flush *f = &r->flush;

    memphis_status s = clear_clean(r, err);
    if (s == MEMPHIS_OK && plan(r, false)) {
        mp_flush_run(&f->job);
        s = f->status;
        if (s == MEMPHIS_OK)
            finish(r);
        else
            (void)mp_fail(err, s, "%s", f->why.message);
    }
    mp_flush_fini(f);
    struct mp_chunk *c;
    while (s == MEMPHIS_OK && (c = mp_chunks_evictable(&data_of(r)->chunks)) != NULL)
        mp_partitions_evict(&data_of(r)->partitions, c);
    return s;
}

/* === Dropped partitions === */

struct removal {
    struct mp_job job;        /* first */
    struct mp_replica *replica;
    uint32_t pid;
    memphis_status status;
    memphis_error why;
};

static void run_removal(struct mp_job *job)
{
    struct removal *x = (struct removal *)(void *)job;

    struct mp_env *e = x->replica->o.env;

    x->status = MEMPHIS_OK;
    if (x->replica->o.sync != MP_SYNC_ALWAYS)
        x->status = e->sync_all(e, &x->why); /* no crash may forget the drop alone */
    if (x->status == MEMPHIS_OK)
        x->status = mp_flush_remove(e, MP_SHARD_DATA, x->pid, &x->why);
}

/* What could not be removed is found again by the next start. */
static void deliver_removal(struct mp_mail *m)
{
    struct removal *x = (struct removal *)(void *)m;

    if (x->job.guard != MEMPHIS_OK)
        mp_replica_break(x->replica, &x->job.why);
    else if (x->status != MEMPHIS_OK)
        mp_logf(x->replica->o.logger, MEMPHIS_LOG_WARN, "store",
                "files of a station that was removed are still there: %s",
                x->why.message);
    mp_free(x);
}

static void remove_dropped(struct mp_replica *r)
{
    struct mp_partitions *t = &data_of(r)->partitions;

    for (uint32_t i = 0; i < t->dropped_count; i++) {
        struct removal *x = mp_alloc(sizeof *x);
        x->replica = r;
        x->pid = t->dropped[i];
        x->job.run = run_removal;
        x->job.mail.deliver = deliver_removal;
        r->o.env->worker_post(r->o.env, r->flusher, &x->job);
    }
    t->dropped_count = 0;
}

/* === When === */

static void ask_checkpoint(struct mp_replica *r)
{
    if (r->asked_checkpoint || r->o.checkpoint == NULL)
        return;
    r->asked_checkpoint = true;
    r->o.checkpoint(r->o.ctx);
}

/* Whether a pass would give WAL files back; asks shard 1 when that is what holds
 * them. */
static bool wants_wal(struct mp_replica *r)
{
    uint64_t data = data_of(r)->commit;
    size_t spent = spent_files(r, r->meta_safe, data);

    if (!r->wants_flush && wal_bytes(r) < r->o.wal_total_max / 2)
        return false;
    if (spent_files(r, UINT64_MAX, data) > spent)
        ask_checkpoint(r);
    return r->wants_flush || spent > 0;
}

void mp_replica_meta_safe(struct mp_replica *r, uint64_t index)
{
    mp_assert(index <= mp_shard_of(r, MP_SHARD_META)->commit);
    if (index > r->meta_safe)
        r->meta_safe = index;
    if (r->asked_checkpoint)
        r->wants_flush = spent_files(r, r->meta_safe, data_of(r)->commit) > 0;
    r->asked_checkpoint = false;
}

static bool wants_trim(const struct mp_replica *r, uint64_t now_ns)
{
    return data_of(r)->partitions.has_dead_segments && now_ns >= r->trim_ns;
}

static void evict(struct mp_replica *r)
{
    struct mp_shard *s = data_of(r);
    struct mp_chunk *c;

    for (int i = 0; i < EVICTIONS_A_TURN && s->chunks.bytes > disk_share(r) / 2; i++) {
        if ((c = mp_chunks_evictable(&s->chunks)) == NULL)
            return;
        mp_partitions_evict(&s->partitions, c);
    }
}

void mp_space_tick(struct mp_replica *r, uint64_t now_ns)
{
    struct mp_partitions *t = &data_of(r)->partitions;

    if (!r->is_ready || r->broken)
        return;
    mp_cold_tick(r->cold, now_ns);
    remove_dropped(r);
    evict(r);
    if (t->has_dead_segments && r->trim_ns == 0)
        r->trim_ns = now_ns + TRIM_AFTER_S * SECOND_NS;
    if (r->is_flushing || (r->flush_lacks_space && now_ns < r->flush_retry_ns))
        return;
    bool trim = wants_trim(r, now_ns), wal = wants_wal(r);
    if (!r->flush_lacks_space && !trim && !wal &&
        data_of(r)->chunks.unflushed < disk_share(r) / 4)
        return;
    if (trim)
        r->trim_ns = now_ns + TRIM_AGAIN_S * SECOND_NS;
    r->wants_flush = false;
    if (!plan(r, true)) {
        r->flush_lacks_space = false; /* what lacked room is not there any more */
        return;
    }
    r->is_flushing = true;
    r->o.env->worker_post(r->o.env, r->flusher, &r->flush.job);
}

uint64_t mp_space_next_ns(const struct mp_replica *r)
{
    if (!r->is_ready || r->wal == NULL)
        return UINT64_MAX;
    uint64_t at = mp_cold_next_ns(r->cold), other = UINT64_MAX;
    if (r->is_flushing)
        return at;
    if (r->flush_lacks_space)
        other = r->flush_retry_ns;
    else if (r->wants_flush)
        other = 0;
    else if (data_of(r)->partitions.has_dead_segments)
        other = r->trim_ns;
    return other < at ? other : at;
}

/* === Life === */

static void cold_ready(void *ctx, uint32_t pid)
{
    struct mp_shard *s = ctx;

    if (s->log.sink.ready != NULL && !s->replica->broken)
        s->log.sink.ready(s->log.sink.ctx, pid);
}

static void cold_failed(void *ctx, const memphis_error *why)
{
    mp_replica_break(((struct mp_shard *)ctx)->replica, why);
}

memphis_status mp_space_open(struct mp_replica *r, memphis_error *err)
{
    struct mp_shard *s = data_of(r);
    struct mp_cold_options o = { .env = r->o.env,
                                 .logger = r->o.logger,
                                 .shard = MP_SHARD_DATA,
                                 .bytes_max = r->o.memory_max / 8,
                                 .ready = cold_ready,
                                 .damaged = cold_damaged,
                                 .failed = cold_failed,
                                 .ctx = s };

    r->flush.job.run = mp_flush_run;
    r->flush.job.mail.deliver = deliver;
    memphis_status st =
        r->o.env->worker_new(r->o.env, "mp-flush", 0, &r->flusher, err);
    if (st == MEMPHIS_OK)
        st = mp_cold_new(&o, &r->cold, err);
    s->partitions.cold = r->cold;
    return st;
}

void mp_space_stop(struct mp_replica *r)
{
    if (r->flusher != NULL)
        r->o.env->worker_free(r->o.env, r->flusher);
    r->flusher = NULL;
    mp_cold_stop(r->cold);
}

void mp_space_close(struct mp_replica *r)
{
    mp_flush_fini(&r->flush);
    mp_cold_free(r->cold);
    r->cold = NULL;
    mp_free(r->spans);
}

void mp_replica_stats(const struct mp_replica *r, struct mp_replica_stats *out)
{
    *out = (struct mp_replica_stats){ .memory_bytes = memory_bytes(r),
                                      .flushes = r->flushes,
                                      .flushed_bytes = r->flushed_bytes,
                                      .damaged_ranges = r->damaged_ranges };
    if (r->wal == NULL)
        return;
    out->log_bytes = data_of(r)->chunks.bytes;
    out->unflushed_bytes = data_of(r)->chunks.unflushed;
    out->cold_bytes = mp_cold_bytes(r->cold);
    out->wal_bytes = wal_bytes(r);
    out->wal_files = r->spans_count;
}
