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
    FILES_MAX = 4 /* more WAL files at a start: a flush follows */
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
        return s;
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
    return s;
}

static bool has_loss(const struct mp_replica *r)
{
    return r->recovery.scan.lost_count > 0;
}

/* -- replay ------------------------------------------------------------------------ */

static void add_lost(struct mp_replica *r, uint32_t pid, uint64_t first, uint64_t last)
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
        add_lost(s->replica, e->pid, p->seen + 1, e->seq - 1);
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

/* -- the partitions' files -- */

struct id_reader {
    struct mp_shard *shard;
    uint64_t since_ns;
};

/* Ids in segments: the sink learns of them as if their messages had died. */
static void take_id(void *ctx, const struct mp_entry *e, memphis_slice bytes)
{
    struct id_reader *r = ctx;
    struct mp_log_sink *sink = &r->shard->log.sink;
    struct mp_entry id = { .type = MP_ENTRY_ID,
                           .pid = e->pid,
                           .seq = e->seq,
                           .time_ns = e->time_ns,
                           .id = e->id };

    (void)bytes;
    if (e->id.size > 0 && e->time_ns >= r->since_ns)
        sink->apply(sink->ctx, r->shard->commit, e->time_ns, &id, 1, 0);
}

/* Whether each of these sequences is known to be dead or lost. */
static bool is_told(const struct mp_partition *p, uint64_t at, uint64_t last)
{
    while (at <= last) {
        uint64_t next = mp_ranges_skip(&p->damage, mp_ranges_skip(&p->dead, at));
        if (next == at)
            return false;
        at = next;
    }
    return true;
}

/* Sequences first..last are lost, unless that is known: they become a damage entry when
 * `accept`. */
static bool note_lost(struct mp_replica *r, const struct mp_partition *p,
                      uint64_t first, uint64_t last, bool accept)
{
    if (first > last || is_told(p, first, last))
        return false;
    if (accept)
        add_lost(r, p->pid, first, last);
    return true;
}

/* What should be in segments, and is in none or cannot be read there, and nobody knows
 * why, is lost. Returns whether there is any. */
static bool find_lost(struct mp_replica *r, const struct mp_partition *p, bool accept)
{
    uint64_t at = p->floor;
    bool any = false;

    for (uint32_t i = 0; i <= p->segments_count; i++) {
        bool is_end = i == p->segments_count;
        uint64_t end = is_end ? p->flushed_seq + 1 : p->segments[i].first;
        any |= note_lost(r, p, at, end - 1, accept);
        if (!is_end && p->segments[i].last >= at)
            at = p->segments[i].last + 1;
    }
    for (size_t i = 0; i < p->unreadable.count; i++)
        any |= note_lost(r, p, p->unreadable.items[i].first,
                         p->unreadable.items[i].last, accept);
    return any;
}

/* Nothing that is left has opened it: the files must tell from now on, or its messages
 * would be nobody's at the next start. */
static void accept_guess(struct mp_replica *r, struct mp_partition *p)
{
    mp_logf(
        r->o.logger, MEMPHIS_LOG_WARN, "store",
        "accepted: what opened a partition is lost, metadata and files speak for it "
        "partition=%u station=%u number=%u",
        p->pid, p->station, p->number);
    p->is_guessed = false;
    p->is_accepted = true;
    mp_partitions_find(&mp_shard_of(r, MP_SHARD_DATA)->partitions, 0)->is_accepted =
        true; /* the table, too */
    r->accepted++;
}

static void accept_damage(struct mp_replica *r, struct mp_partition *p)
{
    mp_logf(r->o.logger, MEMPHIS_LOG_WARN, "store", "accepted: %s partition=%u",
            p->damaged.message, p->pid);
    (void)find_lost(r, p, true);
    p->damaged = (memphis_error){ 0 };
    p->missing_last = 0;
    p->is_accepted = true;
    r->accepted++;
}

/* What verifies in damaged files counts, when the damage is accepted; so does what is
 * in a directory without a slot while nobody can tell that it is a left-over. */
static memphis_status repair(struct mp_shard *s, struct mp_partition *p,
                             memphis_error *err)
{
    struct mp_replica *r = s->replica;
    bool is_lost =
        p->generation == 0 && p->has_directory && (r->lost_table || has_loss(r));

    if (!r->o.accept_loss || (p->damaged.status == MEMPHIS_OK && !is_lost))
        return MEMPHIS_OK;
    mp_logf(r->o.logger, MEMPHIS_LOG_WARN, "store",
            "the files of a partition are repaired: %s partition=%u",
            p->damaged.message, p->pid);
    return mp_load_repair(r->o.env, s->log.shard,
                          mp_replica_base(r, s->log.shard), p, err);
}

/* A partition whose open entry has been seen goes on with what its files hold. */
static memphis_status attach(struct mp_shard *s, uint32_t pid, memphis_error *err)
{
    struct mp_partition *p = mp_partitions_find(&s->partitions, pid);
    struct mp_log_sink *sink = &s->log.sink;
    struct id_reader reader = { .shard = s, .since_ns = UINT64_MAX };
    memphis_status st = MEMPHIS_OK;

    if (p == NULL || p->is_attached)
        return MEMPHIS_OK;
    p->is_attached = true;
    if (pid > 0)
        st = repair(s, p, err);
    if (st == MEMPHIS_OK && p->loaded_state.size > 0 && sink->restore != NULL)
        st = sink->restore(sink->ctx, pid, p->state_index,
                           mp_buf_slice(&p->loaded_state), err);
    mp_buf_fini(&p->loaded_state);
    if (sink->ids_since != NULL)
        reader.since_ns = sink->ids_since(sink->ctx, pid);
    if (st == MEMPHIS_OK && reader.since_ns != UINT64_MAX)
        st = mp_load_since(s->replica->o.env, s->log.shard, p, reader.since_ns, take_id,
                           &reader, err);
    return st;
}

/* A row of the table of partitions: as if its open entry came again. */
static memphis_status open_row(struct mp_shard *s, memphis_slice row,
                               memphis_error *err)
{
    const struct mp_partition *own = mp_partitions_find(&s->partitions, 0);
    struct mp_buf payload = { 0 };
    struct mp_entry e;
    bool has_files, kept;

    memphis_status st =
        mp_partitions_table_row(row, &e, &has_files, &payload)
            ? MEMPHIS_OK
            : mp_fail(err, MEMPHIS_CORRUPT, "the table of partitions makes no sense");
    if (st == MEMPHIS_OK)
        st = mp_partitions_apply(&s->partitions, &e, NULL, own->flushed_index, &kept,
                                 err);
    if (st == MEMPHIS_OK && s->log.sink.apply != NULL)
        s->log.sink.apply(s->log.sink.ctx, own->flushed_index,
                          s->replica->clock.broker_ns, &e, 1, 0);
    mp_buf_fini(&payload);
    if (st != MEMPHIS_OK)
        return st;
    struct mp_partition *p = mp_partitions_find(&s->partitions, e.pid);
    if (has_files && p->generation == 0)
        (void)mp_fail(&p->damaged, MEMPHIS_CORRUPT,
                      "the files of partition %u are missing: 's/%08x/%08x/meta' is "
                      "not there or damaged",
                      e.pid, s->log.shard, e.pid);
    return attach(s, e.pid, err);
}

/* Without the table of partitions all others would be nobody's, and be removed. It has
 * been in files since the first pass that gave WAL files back. */
static memphis_status check_table(struct mp_replica *r, struct mp_partition *own,
                                  memphis_error *err)
{
    memphis_error why = own->damaged;

    if (own->generation == 0 && mp_replica_base(r, MP_SHARD_DATA) > 0)
        (void)mp_fail(&why, MEMPHIS_CORRUPT,
                      "the table of partitions is missing: 's/%08x/dls/meta' is not "
                      "there or damaged",
                      MP_SHARD_DATA);
    if (why.status == MEMPHIS_OK)
        return MEMPHIS_OK;
    r->lost_table = true;
    own->damaged = why;
    if (r->o.accept_loss)
        return MEMPHIS_OK;
    return mp_fail(err, MEMPHIS_CORRUPT,
                   "%s: restore it from a backup, or start with --accept-loss to keep "
                   "the rest",
                   why.message);
}

/* Files that neither the table nor the log may know: their slots say whose they are. */
static memphis_status open_loaded(struct mp_shard *s, bool *any, memphis_error *err)
{
    struct mp_partitions *t = &s->partitions;
    uint64_t table_index = mp_partitions_find(t, 0)->flushed_index;
    memphis_status st = MEMPHIS_OK;

    for (uint32_t i = t->loaded_count; i > 0 && st == MEMPHIS_OK; i--) {
        struct mp_partition *p = t->loaded[i - 1];
        if (p->generation == 0 ||
            (!s->replica->lost_table && p->flushed_index <= table_index))
            continue;
        uint8_t payload[13] = { 1 };
        mp_set_u32(payload + 1, p->config_version);
        mp_set_u32(payload + 5, p->number);
        mp_set_u32(payload + 9, p->station);
        struct mp_entry e = { .type = MP_ENTRY_PARTITION,
                              .pid = p->pid,
                              .payload = { payload, sizeof payload } };
        bool kept;
        st = mp_partitions_apply(t, &e, NULL, table_index, &kept, err);
        p->is_guessed = *any = true;
    }
    return st;
}

struct opener {
    struct mp_shard *shard;
    memphis_status status;
    memphis_error *err;
};

/* The metadata knows of a partition: as if its open entry came. */
static void open_known(void *to, const struct mp_entry *e)
{
    struct opener *o = to;
    struct mp_shard *s = o->shard;
    struct mp_partition *p = mp_partitions_find(&s->partitions, e->pid);
    uint64_t index = mp_partitions_find(&s->partitions, 0)->flushed_index;
    bool kept;

    if (o->status != MEMPHIS_OK || (p != NULL && p->is_attached))
        return;
    o->status = mp_partitions_apply(&s->partitions, e, NULL, index, &kept, o->err);
    if (o->status != MEMPHIS_OK)
        return;
    mp_partitions_find(&s->partitions, e->pid)->is_guessed = true;
    if (s->log.sink.apply != NULL)
        s->log.sink.apply(s->log.sink.ctx, index, s->replica->clock.broker_ns, e, 1, 0);
    o->status = attach(s, e->pid, o->err);
}

/* What told which partitions there are may be lost: files and metadata tell it, too. */
static memphis_status open_unknown(struct mp_shard *s, memphis_error *err)
{
    struct mp_replica *r = s->replica;
    struct opener o = { .shard = s, .err = err };
    bool any = has_loss(r) || r->lost_table;

    if (!r->o.accept_loss)
        return MEMPHIS_OK;
    o.status = open_loaded(s, &any, err);
    if (any && r->o.partitions != NULL)
        r->o.partitions(r->o.ctx, open_known, &o);
    return o.status;
}

/* The files of the data shard: which partitions there are, and what they hold. */
static memphis_status load(struct mp_shard *s, memphis_error *err)
{
    struct mp_partitions *t = &s->partitions;
    struct mp_buf items = { 0 };
    memphis_slice v;
    uint16_t tag;

    struct mp_replica *r = s->replica;
    memphis_status st = MEMPHIS_OK;

    /* After a mere kill what is found there may be in the page cache only. */
    if (!r->recovery.clean && !r->recovery.fresh)
        st = r->o.env->sync_all(r->o.env, err);
    if (st == MEMPHIS_OK)
        st = mp_load_shard(r->o.env, s->log.shard, s->commit, t, err);
    if (st != MEMPHIS_OK)
        return st;
    struct mp_partition *own = mp_partitions_add(t, 0);
    st = check_table(r, own, err);
    if (st != MEMPHIS_OK)
        return st;
    st = repair(s, own, err);
    mp_buf_put_slice(&items, mp_buf_slice(&own->loaded_state));
    if (st == MEMPHIS_OK)
        st = attach(s, 0, err);
    struct mp_cursor c = mp_cursor_of(mp_buf_slice(&items));
    while (st == MEMPHIS_OK && mp_state_next(&c, &tag, &v))
        if (tag == MP_STATE_PARTITION)
            st = open_row(s, v, err);
    mp_buf_fini(&items);
    return st == MEMPHIS_OK ? open_unknown(s, err) : st;
}

/* Partitions whose open entry was seen nowhere: they were dropped, and their removal
 * did not end. One that was flushed after the table was not dropped before it: then the
 * table is an old one. */
static memphis_status drop_unopened(struct mp_replica *r, memphis_error *err)
{
    struct mp_partitions *t = &mp_shard_of(r, MP_SHARD_DATA)->partitions;
    uint64_t table_index = mp_partitions_find(t, 0)->flushed_index;

    while (t->loaded_count > 0) {
        struct mp_partition *p = t->loaded[t->loaded_count - 1];
        bool is_lost = p->flushed_index > table_index;
        if (is_lost && !has_loss(r) && !r->o.accept_loss)
            return mp_fail(err, MEMPHIS_CORRUPT,
                           "the table of partitions in 's/%08x/dls' does not know "
                           "partition %u, which is newer: restore it from a backup, or "
                           "start with --accept-loss to keep the rest",
                           MP_SHARD_DATA, p->pid);
        t->loaded_count--;
        if (!is_lost && !has_loss(r) && !r->lost_table)
            mp_partitions_note_dropped(t, p->pid);
        mp_partition_free(p, t->cold);
    }
    return MEMPHIS_OK;
}

/* Replay is over: now it is known which files should be there, and which are nobody's.
 * A partition that replay has dropped may have lost some of them. */
static memphis_status check_files(struct mp_replica *r, memphis_error *err)
{
    struct mp_shard *s = mp_shard_of(r, MP_SHARD_DATA);
    struct mp_partitions *t = &s->partitions;
    struct mp_partition *p;

    for (uint32_t i = 0; (p = mp_partitions_next(t, &i)) != NULL;) {
        if (p->missing_last >= p->floor && p->damaged.status == MEMPHIS_OK) {
            p->damage_is_range = true;
            (void)mp_fail(&p->damaged, MEMPHIS_CORRUPT,
                          "a segment of partition %u with messages up to %llu is "
                          "missing in 's/%08x/%08x'",
                          p->pid, (unsigned long long)p->missing_last, s->log.shard,
                          p->pid);
        }
        if (p->is_guessed)
            accept_guess(r, p);
        if (p->damaged.status == MEMPHIS_OK ||
            (p->damage_is_range && !find_lost(r, p, false)))
            continue; /* or it was accepted by an earlier start */
        if (!r->o.accept_loss)
            return mp_fail(err, MEMPHIS_CORRUPT,
                           "%s: restore it from a backup, or start with --accept-loss "
                           "to keep the rest",
                           p->damaged.message);
        accept_damage(r, p);
    }
    mp_partitions_check_dead(t);
    return drop_unopened(r, err);
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
            status = attach(s, s->scratch[i].pid, err);
    return status;
}

static memphis_status check_order(struct mp_shard *s, const struct mp_group_header *h,
                                  memphis_error *err)
{
    const struct mp_scan *scan = &s->replica->recovery.scan;

    if (h->index == s->last_index + 1)
        return MEMPHIS_OK;
    s->replica->has_gap = true;
    if (scan->lost_count > 0 || scan->settled_count > 0)
        return MEMPHIS_OK; /* a loss that was accepted, now or by an earlier start */
    return mp_fail(err, MEMPHIS_CORRUPT,
                   "the log of shard %u misses its entries %llu to %llu", s->log.shard,
                   (unsigned long long)(s->last_index + 1),
                   (unsigned long long)(h->index - 1));
}

/* The newest heads say how far each log reached: nothing may be missing at its end. */
static memphis_status check_end(const struct mp_shard *s, memphis_error *err)
{
    const struct mp_scan *scan = &s->replica->recovery.scan;

    if (scan->heads_lsn >= scan->end || scan->lost_count > 0)
        return MEMPHIS_OK;
    for (uint32_t i = 0; i < scan->heads_count; i++)
        if (scan->heads[i].shard == s->log.shard &&
            scan->heads[i].last_index > s->last_index)
            return mp_fail(err, MEMPHIS_CORRUPT,
                           "the log of shard %u ends at %llu, but it went on to %llu",
                           s->log.shard, (unsigned long long)s->last_index,
                           (unsigned long long)scan->heads[i].last_index);
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
    if (s->log.shard == MP_SHARD_DATA && !has_loss(r) &&
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

/* Files of the data shard may have seen more of a log than is left of it. */
static void go_on_above_files(struct mp_shard *s)
{
    const struct mp_partitions *t = &s->partitions;
    struct mp_partition *p;

    for (uint32_t i = 0; (p = mp_partitions_next(t, &i)) != NULL;)
        (void)reached(s, p->flushed_index);
    for (uint32_t i = 0; i < t->loaded_count; i++)
        (void)reached(s, t->loaded[i]->flushed_index);
}

memphis_status mp_replica_start(struct mp_replica *r, uint32_t shard,
                                memphis_error *err)
{
    struct mp_shard *s = mp_shard_of(r, shard);
    struct mp_scan *scan = &r->recovery.scan;
    memphis_status st = MEMPHIS_OK;

    mp_assert(!s->has_started);
    s->has_started = s->is_replaying = true;
    s->last_index = s->commit = mp_replica_base(r, shard);
    if (shard == MP_SHARD_META)
        r->meta_safe = s->commit;
    if (shard == MP_SHARD_DATA && !s->in_memory)
        st = load(s, err);
    for (size_t i = 0; i < scan->records_count && !s->in_memory && st == MEMPHIS_OK;
         i++) {
        const struct mp_scan_record *record = &scan->records[i];
        if (record->shard == shard && record->index > s->last_index)
            st = replay_record(s, record, err);
    }
    if (st == MEMPHIS_OK && !s->in_memory)
        st = check_end(s, err);
    go_on_above_files(s);
    return st;
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
    r->wants_flush = scan->files_count > FILES_MAX || r->accepted > 0 || has_loss(r);
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
    struct mp_group_header h = { .length = MP_GROUP_HEADER_SIZE,
                                 .shard = MP_SHARD_DATA,
                                 .shard_epoch = 1,
                                 .replica = MP_SHARD_DATA,
                                 .kind = MP_RECORD_ENTRY,
                                 .raft_type = MP_RAFT_NORMAL,
                                 .index = s->last_index + 1,
                                 .term = 1,
                                 .commit = s->commit,
                                 .term_before = s->last_index > 0,
                                 .time_ns = r->clock.broker_ns };
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
        if (!has_loss(r) && !p->is_accepted)
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
 * recovery, and so is what files say of it: see mp_replica_reached. */
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
                                           .lost_ranges = scan->lost_count };
    if (r->wal != NULL) {
        s = check_files(r, err);
        if (s == MEMPHIS_OK)
            s = mp_recover_drop_left_overs(r->o.env, r->recovery.node.wal_first, err);
        note_files(r);
        bool settle = !r->recovery.fresh &&
                      (!r->recovery.clean || has_loss(r) || scan->torn_bytes > 0);
        if (settle && s == MEMPHIS_OK)
            s = collect_copies(r, &c, err);
        size_t copies = c.count;
        if (s == MEMPHIS_OK && (has_loss(r) || r->accepted > 0))
            collect_loss(r, &c);
        if (s == MEMPHIS_OK && c.count > copies)
            s = apply_loss(r, &c, err);
        if (s == MEMPHIS_OK && r->accepted > 0) /* the files tell it from now on */
            s = mp_space_flush_all(r, err);
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
    return s;
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
