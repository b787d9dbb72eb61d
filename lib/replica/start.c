/* The start and the stop of a broker's log: recovery, replay, the closing batch. */
#include "base/assert.h"
#include "base/enc.h"
#include "base/limits.h"
#include "base/status.h"
#include "base/str.h"
#include "replica/solo.h"
#include "store/load.h"

enum {
    SKIPPED_AFTER_LOSS = 65536, /* sequences, so that none is given twice */
    STOP_ROUNDS_MAX = 1000,
    FILES_MAX = 4, /* more WAL files at a start: a flush follows */
    AHEAD_MAX = 65536 /* entries by which files may be ahead of the log */
};

/* -- open -------------------------------------------------------------------------- */

static memphis_status open_wal(struct mp_replica *r, memphis_error *err)
{
    struct mp_wal_options o = { .env = r->o.env,
                                .logger = r->o.logger,
                                .sync = r->o.sync,
                                .sync_interval_ms = r->o.sync_interval_ms,
                                .spin_us = r->o.spin_us,
                                .file_min = r->o.wal_file_min,
                                .file_max = r->o.wal_file_max,
                                .disk_reserve = r->o.disk_reserve,
                                .done = mp_replica_done,
                                .ctx = r };

    return mp_wal_new(&o, &r->wal, err);
}

static void set_default(uint64_t *value, uint64_t otherwise)
{
    if (*value == 0)
        *value = otherwise;
}

static void set_defaults(struct mp_replica_options *o)
{
    set_default(&o->wal_file_min, MP_WAL_FILE_MIN);
    set_default(&o->wal_file_max, MP_WAL_FILE_MAX);
    set_default(&o->wal_total_max, MP_WAL_TOTAL_MAX);
    set_default(&o->segment_size, MP_SEGMENT_SIZE);
    set_default(&o->memory_max, MP_MEMORY_MAX_DEFAULT);
    if (o->segment_size > o->memory_max)
        o->segment_size = o->memory_max; /* their indexes are memory, too */
    if (o->chunk_size == 0)
        o->chunk_size = MP_CHUNK_SIZE;
}

static memphis_status check_shard(uint32_t shard, memphis_error *err)
{
    if (shard == MP_SHARD_META || shard == MP_SHARD_DATA)
        return MEMPHIS_OK;
    return mp_fail(err, MEMPHIS_VERSION,
                   "the log of shard %u needs a newer release; use that one", shard);
}

/* Of a shard that nobody replays the log would go with the WAL files. */
static memphis_status check_shards(const struct mp_recovery *rec, memphis_error *err)
{
    memphis_status s = MEMPHIS_OK;

    for (uint32_t i = 0; i < rec->node.items_count && s == MEMPHIS_OK; i++)
        s = check_shard(rec->node.items[i].shard, err);
    for (size_t i = 0; i < rec->scan.records_count && s == MEMPHIS_OK; i++)
        s = check_shard(rec->scan.records[i].shard, err);
    return s;
}

/* A start that fails says what to do, also where nobody below knows. */
static memphis_status advise(memphis_status s, memphis_error *err)
{
    const char *what = s == MEMPHIS_IO ? "check the disk, then start again"
                                       : "restore the directory from a backup";

    if ((s == MEMPHIS_IO || s == MEMPHIS_CORRUPT) && err != NULL &&
        strstr(err->message, "restore") == NULL)
        (void)mp_fail(err, s, "%s: %s", err->message, what);
    return s;
}

memphis_status mp_replica_open(const struct mp_replica_options *o,
                               struct mp_replica **out, memphis_error *err)
{
    struct mp_replica *r = mp_alloc(sizeof *r);
    memphis_status s = MEMPHIS_OK;

    mp_assert(o->env != NULL);
    mp_assert(o->env->mailbox != NULL);
    r->o = *o;
    set_defaults(&r->o);
    r->opened_ns = o->env->boot_ns(o->env);
    if (!o->diskless) {
        s = mp_recover_look(o->env, err);
        if (s == MEMPHIS_OK)
            s = o->env->lock(o->env, err);
        if (s == MEMPHIS_OK)
            s = mp_recover(&r->recovery, o->env, o->accept_loss, err);
        if (s == MEMPHIS_OK)
            s = check_shards(&r->recovery, err);
        if (s == MEMPHIS_OK)
            s = open_wal(r, err);
    }
    if (s != MEMPHIS_OK) {
        mp_recover_fini(&r->recovery);
        mp_free(r);
        return advise(s, err);
    }
    mp_clock_init(&r->clock, o->env, r->recovery.scan.wall_ns,
                  r->recovery.scan.broker_ns);
    for (uint32_t i = 0; i < MP_SHARDS; i++)
        mp_shard_init(&r->shards[i], r, i + 1);
    if (!o->diskless)
        s = mp_space_open(r, err);
    if (s == MEMPHIS_OK)
        *out = r;
    else
        mp_replica_close(r);
    return advise(s, err);
}

bool mp_replica_has_loss(const struct mp_replica *r)
{
    return r->recovery.scan.lost_count > 0 || r->recovery.lost_log;
}

/* -- replay ------------------------------------------------------------------------ */

void mp_replica_add_lost(struct mp_replica *r, uint32_t pid, uint64_t first,
                         uint64_t last)
{
    r->lost = mp_realloc(r->lost, (r->lost_count + 1) * sizeof *r->lost);
    r->lost[r->lost_count++] = (struct mp_lost_range){ pid, first, last };
}

/* Behind a hole of the log: which messages of which partition are missing. */
static void note_gap(struct mp_shard *s, const struct mp_entry *e)
{
    struct mp_partition *p = mp_partitions_find(&s->partitions, e->pid);

    if (e->type != MP_ENTRY_MESSAGE || p == NULL)
        return;
    if (p->seen < p->last)
        p->seen = p->last;
    if (e->seq > p->seen + 1)
        mp_replica_add_lost(s->replica, e->pid, p->seen + 1, e->seq - 1);
    if (e->seq > p->seen)
        p->seen = e->seq; /* it is applied with the rest of its record */
}

uint64_t mp_replica_base(const struct mp_replica *r, uint32_t shard)
{
    const struct mp_node *n = &r->recovery.node;

    for (uint32_t i = 0; i < n->items_count; i++)
        if (n->items[i].shard == shard)
            return n->items[i].base_index;
    return 0;
}

/* -- records -- */

/* Copies the body into chunk memory, as an append that is applied whole. */
static memphis_status replay_body(struct mp_shard *s, const struct mp_group_header *h,
                                  memphis_slice body, memphis_error *err)
{
    struct mp_chunk *c = mp_chunks_room(&s->chunks, body.size);
    if (c == NULL)
        return mp_fail(err, MEMPHIS_NOMEM, "no memory for an entry of %zu bytes",
                       body.size);
    struct mp_append a = { 0, c, c->used, (uint32_t)body.size, h->entries };
    size_t count = 0;

    for (size_t at = 0; at < body.size; count++) {
        memphis_slice rest = { (const uint8_t *)body.data + at, body.size - at };
        struct mp_entry e;
        size_t size;
        memphis_status status = mp_entry_decode(rest, true, &e, &size, err);
        if (status != MEMPHIS_OK)
            return status;
        if (s->replica->has_gap)
            note_gap(s, &e);
        at += size;
    }
    if (count != h->entries)
        return mp_fail(err, MEMPHIS_CORRUPT, "a WAL record has %zu entries, not %u",
                       count, h->entries);
    memcpy(c->bytes + c->used, body.data, body.size);
    c->used += (uint32_t)body.size;
    c->live += h->entries;
    c->last_index = h->index;
    memphis_status status = mp_shard_apply(s, h->index, h->time_ns, &a, err);
    for (uint32_t i = 0; i < s->applied && status == MEMPHIS_OK; i++)
        if (s->scratch[i].type == MP_ENTRY_PARTITION)
            status = mp_files_attach(s, s->scratch[i].pid, err);
    return status;
}

/* What is missing in the log though none of its bytes are. */
static memphis_status miss(struct mp_replica *r, const memphis_error *why,
                           memphis_error *err)
{
    if (!r->o.accept_loss)
        return mp_fail(err, why->status,
                       "%s: restore the directory from a backup, or start with "
                       "--accept-loss to keep the rest",
                       why->message);
    mp_logf(r->o.logger, MEMPHIS_LOG_WARN, "store", "accepted: %s", why->message);
    r->recovery.lost_log = true;
    return MEMPHIS_OK;
}

static memphis_status check_order(struct mp_shard *s, const struct mp_group_header *h,
                                  memphis_error *err)
{
    const struct mp_scan *scan = &s->replica->recovery.scan;
    memphis_error why;

    if (h->index == s->last_index + 1)
        return MEMPHIS_OK;
    s->replica->has_gap = true;
    if (scan->lost_count > 0 || scan->settled_count > 0)
        return MEMPHIS_OK; /* a loss that was accepted, now or by an earlier start */
    (void)mp_fail(&why, MEMPHIS_CORRUPT,
                  "the log of shard %u misses its entries %llu to %llu", s->log.shard,
                  (unsigned long long)(s->last_index + 1),
                  (unsigned long long)(h->index - 1));
    return miss(s->replica, &why, err);
}

/* The newest heads say how far each log reached: nothing may be missing at its end. */
static memphis_status check_end(const struct mp_shard *s, memphis_error *err)
{
    const struct mp_scan *scan = &s->replica->recovery.scan;
    memphis_error why;

    if (scan->heads_lsn >= scan->end || mp_replica_has_loss(s->replica))
        return MEMPHIS_OK;
    for (uint32_t i = 0; i < scan->heads_count; i++) {
        if (scan->heads[i].shard != s->log.shard ||
            scan->heads[i].last_index <= s->last_index)
            continue;
        (void)mp_fail(&why, MEMPHIS_CORRUPT,
                      "the log of shard %u ends at %llu, but it went on to %llu",
                      s->log.shard, (unsigned long long)s->last_index,
                      (unsigned long long)scan->heads[i].last_index);
        return miss(s->replica, &why, err);
    }
    return MEMPHIS_OK;
}

static memphis_status replay_record(struct mp_shard *s,
                                    const struct mp_scan_record *record,
                                    memphis_error *err)
{
    struct mp_replica *r = s->replica;
    struct mp_group_header h;
    memphis_slice body;

    memphis_status st = mp_scan_read(&r->recovery.scan, record, &h, &body, err);
    if (st == MEMPHIS_OK)
        st = check_order(s, &h, err);
    if (st == MEMPHIS_OK)
        st = replay_body(s, &h, body, err);
    if (st != MEMPHIS_OK)
        return st;
    s->last_index = s->commit = h.index;
    if (h.time_ns > s->last_time_ns)
        s->last_time_ns = h.time_ns;
    r->replayed += h.entries;
    /* What is durable for sure may leave memory already. */
    if (s->log.shard == MP_SHARD_DATA && !mp_replica_has_loss(r) &&
        record->lsn < mp_recover_settle_from(&r->recovery))
        st = mp_space_flush_now(r, err);
    return st;
}

/* Somebody holds what the log had up to `index`; when that much of it was lost it goes
 * on above: no index is given twice. */
static bool reached(struct mp_shard *s, uint64_t index)
{
    if (index <= s->last_index)
        return false;
    s->last_index = s->commit = index;
    return true;
}

/* A few crashed starts are that far ahead; an index that makes no sense would have all
 * before it written out as empty entries. */
static memphis_status go_on_above(struct mp_shard *s, const struct mp_partition *p,
                                  memphis_error *err)
{
    uint64_t most = s->replayed_index + AHEAD_MAX;

    if (mp_replica_has_loss(s->replica))
        most = UINT64_MAX / 2;
    if (p->flushed_index > most)
        return mp_fail(err, MEMPHIS_CORRUPT,
                       "the files of partition %u know entry %llu, but the log ends at "
                       "%llu: restore both from a backup, or remove 'meta' from its "
                       "folder and start with --accept-loss to keep its segments",
                       p->pid, (unsigned long long)p->flushed_index,
                       (unsigned long long)s->replayed_index);
    (void)reached(s, p->flushed_index);
    return MEMPHIS_OK;
}

/* Files of the data shard may have seen more of a log than is left of it. */
static memphis_status go_on_above_files(struct mp_shard *s, memphis_error *err)
{
    const struct mp_partitions *t = &s->partitions;
    memphis_status st = MEMPHIS_OK;
    struct mp_partition *p;

    s->replayed_index = s->last_index;
    for (uint32_t i = 0;
         st == MEMPHIS_OK && (p = mp_partitions_next(t, &i)) != NULL;)
        st = go_on_above(s, p, err);
    for (uint32_t i = 0; i < t->loaded_count && st == MEMPHIS_OK; i++)
        st = go_on_above(s, t->loaded[i], err);
    return st;
}

memphis_status mp_replica_start(struct mp_replica *r, uint32_t shard,
                                memphis_error *err)
{
    struct mp_shard *s = mp_shard_of(r, shard);
    struct mp_scan *scan = &r->recovery.scan;
    memphis_status st = MEMPHIS_OK;

    mp_assert(!s->has_started);
    if (r->recovery.lost_log && !r->o.accept_loss)
        return mp_fail(err, MEMPHIS_CORRUPT,
                       "'node' has no valid slot and there is no log, but 'meta.db' "
                       "holds metadata: restore the directory from a backup, or start "
                       "with --accept-loss to keep them");
    s->has_started = s->is_replaying = true;
    s->last_index = s->commit = mp_replica_base(r, shard);
    if (shard == MP_SHARD_META)
        r->meta_safe = s->commit;
    if (shard == MP_SHARD_DATA && !s->in_memory)
        st = mp_files_load(s, err);
    for (size_t i = 0; i < scan->records_count && !s->in_memory && st == MEMPHIS_OK;
         i++) {
        const struct mp_scan_record *record = &scan->records[i];
        if (record->shard == shard && record->index > s->last_index)
            st = replay_record(s, record, err);
    }
    if (st == MEMPHIS_OK && !s->in_memory)
        st = check_end(s, err);
    if (st == MEMPHIS_OK)
        st = go_on_above_files(s, err);
    return advise(st, err);
}

/* The base of the shard says so, from the next `node` on. */
bool mp_replica_meta_ahead(struct mp_replica *r, uint64_t index)
{
    struct mp_shard *s = mp_shard_of(r, MP_SHARD_META);

    mp_assert(s->has_started && !r->is_ready);
    uint64_t last = s->last_index;
    if (!reached(s, index))
        return false;
    r->meta_safe = index;
    r->recovery.lost_log = r->recovery.fresh;
    mp_logf(r->o.logger, MEMPHIS_LOG_WARN, "store",
            "the log of the metadata has lost its entries %llu to %llu, which meta.db "
            "has; it goes on behind them",
            (unsigned long long)last + 1, (unsigned long long)index);
    return true;
}

/* The WAL files that are kept, and what each of them holds. */
static void note_files(struct mp_replica *r)
{
    const struct mp_scan *scan = &r->recovery.scan;

    for (uint32_t f = 0; f < scan->files_count; f++)
        mp_space_note_file(r, scan->files[f].header.base, 0, 0);
    for (size_t i = 0; i < scan->records_count; i++) {
        const struct mp_scan_record *record = &scan->records[i];
        struct mp_wal_span *span = &r->spans[record->file];
        if (record->shard >= 1 && record->shard <= MP_SHARDS &&
            record->index > span->last_index[record->shard - 1])
            span->last_index[record->shard - 1] = record->index;
    }
    /* What was accepted is told by the files from then on. */
    r->wants_flush = scan->files_count > FILES_MAX || r->accepted > 0 ||
                     mp_replica_has_loss(r);
}

/* -- the closing batch ------------------------------------------------------------- */

struct closing {
    struct mp_buf settled; /* body of the settled record; empty: none */
    struct mp_buf bodies;  /* of the copies and of the loss entry */
    struct mp_group_header *headers;
    size_t count;
};

static void closing_fini(struct closing *c)
{
    mp_buf_fini(&c->settled);
    mp_buf_fini(&c->bodies);
    mp_free(c->headers);
}

static void push_header(struct closing *c, const struct mp_group_header *h)
{
    c->headers = mp_realloc(c->headers, (c->count + 1) * sizeof *c->headers);
    c->headers[c->count++] = *h;
}

static bool is_settled_now(const struct mp_recovery *rec, uint64_t lsn)
{
    if (lsn >= mp_recover_settle_from(rec))
        return true;
    for (uint32_t i = 0; i < rec->scan.lost_count; i++)
        if (lsn >= rec->scan.lost[i].from && lsn < rec->scan.lost[i].to)
            return true;
    return false;
}

/* What lies in the settled ranges and is kept must be written again: it may be in the
 * page cache only. */
static memphis_status collect_copies(struct mp_replica *r, struct closing *c,
                                     memphis_error *err)
{
    struct mp_recovery *rec = &r->recovery;
    struct mp_group_header h;
    memphis_slice body;

    for (uint32_t i = 0; i < rec->scan.lost_count; i++) {
        mp_buf_put_u64(&c->settled, rec->scan.lost[i].from);
        mp_buf_put_u64(&c->settled, rec->scan.lost[i].to);
    }
    mp_buf_put_u64(&c->settled, mp_recover_settle_from(rec));
    mp_buf_put_u64(&c->settled, rec->scan.files_end);
    for (size_t i = 0; i < rec->scan.records_count; i++) {
        const struct mp_scan_record *record = &rec->scan.records[i];
        if (!is_settled_now(rec, record->lsn))
            continue;
        memphis_status s = mp_scan_read(&rec->scan, record, &h, &body, err);
        if (s != MEMPHIS_OK)
            return s;
        h.flags |= MP_RECORD_COPY;
        push_header(c, &h);
        mp_buf_put_slice(&c->bodies, body);
    }
    return MEMPHIS_OK;
}

/* Of an entry of the data shard that this start adds. */
static struct mp_group_header new_header(const struct mp_replica *r, uint64_t index)
{
    return (struct mp_group_header){ .length = MP_GROUP_HEADER_SIZE,
                                     .shard = MP_SHARD_DATA,
                                     .shard_epoch = 1,
                                     .replica = MP_SHARD_DATA,
                                     .kind = MP_RECORD_ENTRY,
                                     .raft_type = MP_RAFT_NORMAL,
                                     .index = index,
                                     .term = 1,
                                     .commit = index - 1,
                                     .term_before = index > 1,
                                     .time_ns = r->clock.broker_ns };
}

/* An accepting start that was crashed has left files that are ahead of the log: what it
 * wrote there had no entry yet. Empty ones keep the order, or the next start would miss
 * them. Behind a loss of the log itself nobody does. */
static void fill_up_to_files(struct mp_replica *r, struct closing *c)
{
    const struct mp_shard *s = mp_shard_of(r, MP_SHARD_DATA);

    if (mp_replica_has_loss(r))
        return;
    for (uint64_t index = s->replayed_index + 1; index <= s->last_index; index++) {
        struct mp_group_header h = new_header(r, index);
        push_header(c, &h);
    }
}

static void put_entry(struct closing *c, struct mp_group_header *h, struct mp_entry *e)
{
    size_t size = mp_entry_size(e);
    uint32_t crc = mp_entry_encode(e, mp_buf_add(&c->bodies, size));

    h->body_crc = mp_crc32c_combine(h->body_crc, crc, size);
    h->length += (uint32_t)size;
    h->entries++;
}

/* Accepted loss becomes part of the log: a damage entry for each hole, and each
 * partition leaves a wide berth to sequences that were acknowledged and are gone. */
static void collect_loss(struct mp_replica *r, struct closing *c)
{
    struct mp_shard *s = mp_shard_of(r, MP_SHARD_DATA);
    struct mp_group_header h = new_header(r, s->last_index + 1);
    struct mp_partition *p;
    uint8_t range[16];

    for (size_t i = 0; i < r->lost_count; i++) {
        const struct mp_lost_range *l = &r->lost[i];
        mp_damage_payload(l->first, l->last, range);
        struct mp_entry e = { .type = MP_ENTRY_DAMAGE,
                              .pid = l->pid,
                              .payload = { range, sizeof range } };
        put_entry(c, &h, &e);
    }
    for (uint32_t i = 0; (p = mp_partitions_next(&s->partitions, &i)) != NULL;) {
        if (!mp_replica_has_loss(r) && !p->is_accepted)
            continue;
        mp_set_u64(range, p->last + SKIPPED_AFTER_LOSS);
        struct mp_entry e = { .type = MP_ENTRY_SKIP,
                              .pid = p->pid,
                              .seq = p->last + 1,
                              .payload = { range, 8 } };
        put_entry(c, &h, &e);
    }
    if (h.entries > 0)
        push_header(c, &h);
}

static memphis_status write_closing(struct mp_replica *r, const struct closing *c,
                                    uint64_t size, memphis_error *err)
{
    struct mp_head heads[MP_SHARDS];
    uint32_t count = mp_replica_heads(r, heads);
    const uint8_t *body = c->bodies.data;

    mp_wal_begin(r->wal, size, heads, count, (uint32_t)c->count + 1);
    if (c->settled.size > 0) {
        struct mp_group_header h = {
            .length = (uint32_t)(MP_GROUP_HEADER_SIZE + c->settled.size),
            .body_crc = mp_crc32c(0, c->settled.data, c->settled.size),
            .kind = MP_RECORD_SETTLED
        };
        mp_wal_add(r->wal, &h);
        mp_wal_add_piece(r->wal, mp_buf_slice(&c->settled));
    }
    for (size_t i = 0; i < c->count; i++) {
        size_t body_size = c->headers[i].length - MP_GROUP_HEADER_SIZE;
        mp_wal_add(r->wal, &c->headers[i]);
        mp_wal_add_piece(r->wal, mp_slice(body, body_size));
        body += body_size;
    }
    mp_space_note_batch(r, 0, 0);
    for (size_t i = 0; i < c->count; i++)
        mp_space_note_batch(r, c->headers[i].shard, c->headers[i].index);
    r->batch_ns = r->clock.broker_ns;
    r->uncovered = c->count > 0;
    return mp_wal_write(r->wal, r->clock.wall_ns, r->clock.broker_ns, err);
}

static void fill_node(struct mp_replica *r)
{
    struct mp_node *n = &r->node;

    *n = r->recovery.node;
    n->boots++;
    n->flags &= ~(uint32_t)MP_NODE_CLEAN;
    n->durable_upto = mp_wal_durable_upto(r->wal);
    /* A damaged end is no torn one: a crash before it is settled must not forget it. */
    if (r->recovery.scan.durable_upto > n->durable_upto)
        n->durable_upto = r->recovery.scan.durable_upto;
    if (r->recovery.fresh) {
        r->o.env->random(r->o.env, n->uuid, sizeof n->uuid);
        n->items_count = 0;
        for (uint32_t i = 0; i < MP_SHARDS; i++)
            if (!r->shards[i].in_memory)
                n->items[n->items_count++] = (struct mp_node_item){ .shard = i + 1,
                                                                    .shard_epoch = 1,
                                                                    .replica = i + 1,
                                                                    .vote = i + 1,
                                                                    .term = 1 };
    }
    for (uint32_t i = 0; i < n->items_count; i++)
        if (n->items[i].shard == MP_SHARD_META) {
            n->items[i].base_index = r->meta_safe;
            n->items[i].base_term = r->meta_safe > 0;
        }
}

/* The files tell it from now on; without a `node` they would be nobody's. */
static memphis_status flush_accepted(struct mp_replica *r, memphis_error *err)
{
    memphis_status s = MEMPHIS_OK;

    if (r->recovery.fresh) {
        fill_node(r);
        s = mp_node_write(r->o.env, &r->node, err);
        r->recovery.node = r->node;
    }
    return s == MEMPHIS_OK ? mp_space_flush_all(r, err) : s;
}

/* A new file, `node` with the clean flag cleared, and the closing batch, in this order:
 * a crash between two of them repeats the same recovery. */
static memphis_status close_recovery(struct mp_replica *r, struct closing *c,
                                     memphis_error *err)
{
    struct mp_recovery *rec = &r->recovery;
    uint32_t records = (uint32_t)c->count + (c->settled.size > 0);
    uint64_t size = mp_wal_batch_size(2, records, c->settled.size + c->bodies.size);
    uint64_t from = rec->fresh ? MP_BLOCK_SIZE : mp_recover_settle_from(rec);

    /* What was found there may be known to the page cache only: a new name must not
     * survive a crash that an older one does not. */
    memphis_status s = r->o.env->dir_sync(r->o.env, "wal", err);
    if (s == MEMPHIS_OK)
        s = mp_wal_create(r->wal, rec->scan.files_end, rec->scan.last_base, from, size,
                          err);
    if (s != MEMPHIS_OK)
        return s;
    fill_node(r);
    s = mp_node_write(r->o.env, &r->node, err);
    if (s != MEMPHIS_OK)
        return s;
    s = write_closing(r, c, size, err);
    if (s != MEMPHIS_OK)
        return s;
    mp_wal_prepare(r->wal, r->clock.broker_ns);
    return MEMPHIS_OK;
}

/* The loss entry takes effect here and in the sink. It is durable with the end of the
 * recovery, and so is what files say of it: see go_on_above_files. */
static memphis_status apply_loss(struct mp_replica *r, const struct closing *c,
                                 memphis_error *err)
{
    struct mp_shard *s = mp_shard_of(r, MP_SHARD_DATA);
    const struct mp_group_header *h = &c->headers[c->count - 1];
    size_t size = h->length - MP_GROUP_HEADER_SIZE;
    memphis_slice body = { c->bodies.data + c->bodies.size - size, size };

    r->has_gap = false;
    s->last_index = h->index;
    return replay_body(s, h, body, err);
}

memphis_status mp_replica_ready(struct mp_replica *r, struct mp_recovery_report *report,
                                memphis_error *err)
{
    struct closing c = { .count = 0 };
    const struct mp_scan *scan = &r->recovery.scan;
    memphis_status s = MEMPHIS_OK;

    mp_assert(!r->is_ready);
    mp_clock_tick(&r->clock);
    *report = (struct mp_recovery_report){ .fresh = r->wal == NULL || r->recovery.fresh,
                                           .clean = r->recovery.clean,
                                           .entries_replayed = r->replayed,
                                           .torn_bytes = scan->torn_bytes,
                                           .lost_ranges = scan->lost_count +
                                                          r->recovery.lost_log };
    if (r->wal != NULL) {
        s = mp_files_check(r, err);
        if (s == MEMPHIS_OK)
            s = mp_recover_drop_left_overs(r->o.env, r->recovery.node.wal_first, err);
        note_files(r);
        bool settle = !r->recovery.fresh &&
                      (!r->recovery.clean || mp_replica_has_loss(r) ||
                       scan->torn_bytes > 0);
        if (settle && s == MEMPHIS_OK)
            s = collect_copies(r, &c, err);
        fill_up_to_files(r, &c);
        size_t copies = c.count;
        if (s == MEMPHIS_OK && (mp_replica_has_loss(r) || r->accepted > 0))
            collect_loss(r, &c);
        if (s == MEMPHIS_OK && c.count > copies)
            s = apply_loss(r, &c, err);
        if (s == MEMPHIS_OK && r->accepted > 0)
            s = flush_accepted(r, err);
        if (s == MEMPHIS_OK)
            s = close_recovery(r, &c, err);
        closing_fini(&c);
        report->lost_ranges += r->accepted;
    }
    for (uint32_t i = 0; i < MP_SHARDS; i++) {
        struct mp_partition *p;
        struct mp_log_stats st;
        for (uint32_t at = 0;
             (p = mp_partitions_next(&r->shards[i].partitions, &at)) != NULL;) {
            mp_partition_stats(p, &st);
            report->messages += st.messages;
        }
    }
    for (uint32_t i = 0; i < MP_SHARDS; i++)
        r->shards[i].is_replaying = false;
    report->milliseconds = (r->o.env->boot_ns(r->o.env) - r->opened_ns) / 1000000;
    mp_recover_fini(&r->recovery);
    r->is_ready = s == MEMPHIS_OK;
    return advise(s, err);
}

/* -- stop -------------------------------------------------------------------------- */

/* Writes what is still open, on this thread. Applying may append again, so a few
 * rounds. */
static memphis_status write_rest(struct mp_replica *r)
{
    memphis_status s = MEMPHIS_OK;
    memphis_error why;
    uint32_t records;

    for (int round = 0; round < STOP_ROUNDS_MAX && s == MEMPHIS_OK; round++) {
        for (uint32_t i = 0; i < MP_SHARDS; i++)
            mp_shard_close(&r->shards[i]);
        uint64_t size = mp_replica_batch_size(r, &records);
        if (records == 0 && mp_wal_durable_upto(r->wal) == mp_wal_end(r->wal))
            return MEMPHIS_OK;
        if (!mp_wal_has_room(r->wal, size, UINT64_MAX / 2) &&
            !mp_wal_has_room(r->wal, size,
                             UINT64_MAX / 2)) /* a file was made meanwhile */
            return MEMPHIS_NO_SPACE;
        mp_replica_build(r, size, records);
        s = mp_wal_write(r->wal, r->clock.wall_ns, r->clock.broker_ns, &why);
        mp_replica_done(r, s, &why);
    }
    return s;
}

static void stop_clean(struct mp_replica *r)
{
    if (!r->is_ready || r->broken)
        return;
    mp_clock_tick(&r->clock);
    if (write_rest(r) != MEMPHIS_OK || r->broken)
        return; /* the next start recovers as after a crash */
    r->node.flags |= MP_NODE_CLEAN;
    r->node.durable_upto = mp_wal_durable_upto(r->wal);
    (void)mp_node_write(r->o.env, &r->node, NULL); /* without it: as after a crash */
}

void mp_replica_close(struct mp_replica *r)
{
    if (r == NULL)
        return;
    if (r->wal != NULL) {
        mp_space_stop(r);
        mp_wal_stop(r->wal); /* ends the threads, so that all mail is there */
        (void)mp_mailbox_drain(r->o.env->mailbox);
        stop_clean(r);
    }
    r->closing = true;
    for (uint32_t i = 0; i < MP_SHARDS; i++)
        mp_shard_fini(&r->shards[i]);
    mp_space_close(r);
    mp_wal_free(r->wal);
    mp_recover_fini(&r->recovery);
    mp_free(r->lost);
    mp_free(r);
}
