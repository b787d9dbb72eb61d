/* The partitions' files at a start: loaded before the replay, attached to a partition
 * when its open entry comes, and judged at the end of it. */
#include "base/assert.h"
#include "base/limits.h"
#include "base/status.h"
#include "base/str.h"
#include "replica/solo.h"
#include "store/load.h"

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

/* Letters of the dead-letter station, which are messages of partition 0, likewise. */
static void take_letter(void *ctx, const struct mp_entry *e, memphis_slice bytes)
{
    struct id_reader *r = ctx;
    struct mp_log_sink *sink = &r->shard->log.sink;
    const struct mp_partition *own = mp_partitions_find(&r->shard->partitions, 0);

    (void)bytes;
    if (e->type == MP_ENTRY_MESSAGE && e->seq >= own->floor &&
        mp_ranges_skip(&own->dead, e->seq) == e->seq)
        sink->apply(sink->ctx, r->shard->commit, e->time_ns, e, 1, 0);
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
        mp_replica_add_lost(r, p->pid, first, last);
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

bool mp_files_is_damaged(struct mp_replica *r, const struct mp_partition *p)
{
    bool is_whole = p->damaged.status == MEMPHIS_OK;

    if (is_whole && p->missing_last < p->floor)
        return false;
    if (!is_whole && !p->damage_is_range)
        return true;
    return find_lost(r, p, false); /* or an earlier start has accepted it */
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
    bool is_lost = p->generation == 0 && p->has_directory &&
                   (r->lost_table || mp_replica_has_loss(r));

    if (!r->o.accept_loss || (p->damaged.status == MEMPHIS_OK && !is_lost))
        return MEMPHIS_OK;
    mp_logf(r->o.logger, MEMPHIS_LOG_WARN, "store",
            "the files of a partition are repaired: %s partition=%u",
            p->damaged.message, p->pid);
    memphis_status st = mp_load_repair(r->o.env, s->log.shard,
                                       mp_replica_base(r, s->log.shard), p, err);
    if (st == MEMPHIS_OK && p->is_rebuilt && p->damaged.status == MEMPHIS_OK) {
        p->is_accepted = true; /* a slot must name what no log has any more */
        r->accepted++;
    }
    return st;
}

/* A partition whose open entry has been seen goes on with what its files hold. */
memphis_status mp_files_attach(struct mp_shard *s, uint32_t pid, memphis_error *err)
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
    if (st == MEMPHIS_OK && pid == 0 && sink->apply != NULL)
        return mp_load_since(s->replica->o.env, s->log.shard, p, 0, take_letter,
                             &reader, err);
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
            : mp_fail(err, MEMPHIS_CORRUPT,
                      "the table of partitions in 's/%08x/dls' makes no sense: restore "
                      "the data directory from a backup",
                      s->log.shard);
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
                      "not there, damaged or unreadable",
                      e.pid, s->log.shard, e.pid);
    return mp_files_attach(s, e.pid, err);
}

/* Without the table of partitions all others would be nobody's, and be removed. It has
 * been in files since the first pass that gave WAL files back. */
static memphis_status check_table(struct mp_replica *r, struct mp_partition *own,
                                  memphis_error *err)
{
    memphis_error why = { 0 };

    if (!own->damage_is_range) /* a letter is no table: see mp_files_check */
        why = own->damaged;
    if (own->generation == 0 && mp_replica_base(r, MP_SHARD_DATA) > 0)
        (void)mp_fail(&why, MEMPHIS_CORRUPT,
                      "the table of partitions is missing: 's/%08x/dls/meta' is not "
                      "there, damaged or unreadable",
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
    o->status = mp_files_attach(s, e->pid, o->err);
}

/* What told which partitions there are may be lost: files and metadata tell it, too. */
static memphis_status open_unknown(struct mp_shard *s, memphis_error *err)
{
    struct mp_replica *r = s->replica;
    struct opener o = { .shard = s, .err = err };
    bool any = mp_replica_has_loss(r) || r->lost_table;

    if (!r->o.accept_loss)
        return MEMPHIS_OK;
    o.status = open_loaded(s, &any, err);
    if (any && r->o.partitions != NULL)
        r->o.partitions(r->o.ctx, open_known, &o);
    return o.status;
}

/* Right after the load: they are in the order of their pids. */
static struct mp_partition *loaded_of(const struct mp_partitions *t, uint32_t pid)
{
    uint32_t low = 0, high = t->loaded_count;

    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (t->loaded[middle]->pid < pid)
            low = middle + 1;
        else
            high = middle;
    }
    return low < t->loaded_count && t->loaded[low]->pid == pid ? t->loaded[low] : NULL;
}

/* What the log tells of messages need not be looked for in files without a slot. */
static memphis_status note_logged(struct mp_shard *s, memphis_error *err)
{
    struct mp_scan *scan = &s->replica->recovery.scan;
    struct mp_group_header h;
    struct mp_entry e;
    memphis_slice body;
    size_t size;

    for (size_t i = mp_scan_whole_from(scan, s->log.shard); i < scan->records_count;
         i++) {
        const struct mp_scan_record *record = &scan->records[i];
        if (record->shard != s->log.shard || record->index <= s->commit)
            continue;
        memphis_status st = mp_scan_read(scan, record, &h, &body, err);
        for (size_t at = 0; at < body.size && st == MEMPHIS_OK; at += size) {
            memphis_slice rest = mp_slice((const uint8_t *)body.data + at,
                                          body.size - at);
            st = mp_entry_decode(rest, false, &e, &size, err);
            struct mp_partition *p =
                st == MEMPHIS_OK ? loaded_of(&s->partitions, e.pid) : NULL;
            if (p != NULL && e.type == MP_ENTRY_MESSAGE && p->logged_seq == 0)
                p->logged_seq = e.seq;
        }
        if (st != MEMPHIS_OK)
            return st;
    }
    return MEMPHIS_OK;
}

/* The files of the data shard: which partitions there are, and what they hold. */
memphis_status mp_files_load(struct mp_shard *s, memphis_error *err)
{
    struct mp_partitions *t = &s->partitions;
    struct mp_buf items = { 0 };
    memphis_slice v;
    uint16_t tag;

    struct mp_replica *r = s->replica;
    memphis_status st = MEMPHIS_OK;

    /* After a mere kill what is found there may be in the page cache only; so may be
     * what a pass has left that found no room, of which a repair makes use. */
    if ((!r->recovery.clean || r->o.accept_loss) && !r->recovery.fresh)
        st = r->o.env->sync_all(r->o.env, err);
    if (st == MEMPHIS_OK)
        st = mp_load_shard(r->o.env, s->log.shard, s->commit, t, err);
    if (st == MEMPHIS_OK && r->o.accept_loss)
        st = note_logged(s, err);
    if (st != MEMPHIS_OK)
        return st;
    struct mp_partition *own = mp_partitions_add(t, 0);
    st = check_table(r, own, err);
    if (st != MEMPHIS_OK)
        return st;
    st = repair(s, own, err);
    mp_buf_put_slice(&items, mp_buf_slice(&own->loaded_state));
    if (st == MEMPHIS_OK)
        st = mp_files_attach(s, 0, err);
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
        if (is_lost && !mp_replica_has_loss(r) && !r->o.accept_loss)
            return mp_fail(err, MEMPHIS_CORRUPT,
                           "the table of partitions in 's/%08x/dls' does not know "
                           "partition %u, which is newer: restore it from a backup, or "
                           "start with --accept-loss to keep the rest",
                           MP_SHARD_DATA, p->pid);
        t->loaded_count--;
        if (!is_lost && !mp_replica_has_loss(r) && !r->lost_table)
            mp_partitions_note_dropped(t, p->pid);
        mp_partition_free(p, t->cold);
    }
    return MEMPHIS_OK;
}

/* Replay is over: now it is known which files should be there, and which are nobody's.
 * A partition that replay has dropped may have lost some of them. */
memphis_status mp_files_check(struct mp_replica *r, memphis_error *err)
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
        if (!mp_files_is_damaged(r, p))
            continue;
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
