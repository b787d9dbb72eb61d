#include "replica/solo.h"

#include "base/assert.h"
#include "base/enc.h"
#include "base/limits.h"
#include "base/status.h"

#define COVER_DELAY_NS (MP_COVER_DELAY_MS * 1000000ull)

enum {
    APPEND_MAX = 48 << 20,    /* one append fits into the largest WAL file */
    SHARD_EPOCH = 1,
    TERM = 1
};

static struct mp_shard *shard_of_log(const struct mp_log *log)
{
    return mp_container_of((uintptr_t)log, struct mp_shard, log);
}

struct mp_shard *mp_shard_of(struct mp_replica *r, uint32_t shard)
{
    mp_assert(shard >= 1);
    mp_assert(shard <= MP_SHARDS);
    return &r->shards[shard - 1];
}

/* -- queues ------------------------------------------------------------------------ */

/* Room for one more item behind [first, count): the front is used again when that is
 * cheap, so a queue that is emptied now and then never grows. */
static void *make_room(void *items, size_t item_size, size_t *first, size_t *count,
                       size_t *capacity)
{
    size_t waiting = *count - *first;

    if (waiting == 0) {
        *first = *count = 0;
    } else if (*count == *capacity && *first >= waiting) {
        memcpy(items, (uint8_t *)items + *first * item_size, waiting * item_size);
        *first = 0;
        *count = waiting;
    }
    if (*count < *capacity)
        return items;
    *capacity = *capacity > 0 ? *capacity * 2 : 64;
    return mp_realloc(items, *capacity * item_size);
}

static void push_append(struct mp_append_queue *q, const struct mp_append *a)
{
    if (q->count == q->capacity || q->first == q->count)
        q->items = make_room(q->items, sizeof *a, &q->first, &q->count, &q->capacity);
    q->items[q->count++] = *a;
}

static void push_piece(struct mp_piece_queue *q, const struct mp_piece *p)
{
    if (q->count == q->capacity || q->first == q->count)
        q->items = make_room(q->items, sizeof *p, &q->first, &q->count, &q->capacity);
    q->items[q->count++] = *p;
}

static void push_record(struct mp_record_queue *q, const struct mp_record *r)
{
    if (q->count == q->capacity || q->first == q->count)
        q->items = make_room(q->items, sizeof *r, &q->first, &q->count, &q->capacity);
    q->items[q->count++] = *r;
}

/* -- append ------------------------------------------------------------------------ */

/* What this append may not do now; OK: it may. */
static memphis_status refuse(const struct mp_shard *s, const struct mp_entry *entries,
                             size_t n)
{
    const struct mp_replica *r = s->replica;

    if (r->broken || r->closing)
        return MEMPHIS_BROKEN;
    bool lacks_disk = !s->in_memory && mp_wal_is_out_of_space(r->wal);
    if (!lacks_disk && !mp_space_refuses(s))
        return MEMPHIS_OK;
    for (size_t i = 0; i < n; i++)
        if (entries[i].type == MP_ENTRY_MESSAGE)
            return MEMPHIS_NO_SPACE; /* what is left is for settlements */
    return MEMPHIS_OK;
}

/* The bytes are at the end of their chunk: the open entry grows by them. */
static void extend_open(struct mp_shard *s, const struct mp_append *a, uint32_t crc)
{
    struct mp_piece *last =
        s->open.pieces > 0 ? &s->pieces.items[s->pieces.count - 1] : NULL;

    if (last != NULL && last->chunk == a->chunk &&
        last->offset + last->size == a->offset) {
        last->size += a->size;
    } else {
        push_piece(&s->pieces, &(struct mp_piece){ a->chunk, a->offset, a->size });
        s->open.pieces++;
    }
    s->open.body_crc = crc;
    s->open.bytes += a->size;
    s->open.entries += a->entries;
    s->open.appends++;
    push_append(&s->appends, a);
}

static memphis_status solo_append(struct mp_log *log, const struct mp_entry *entries,
                                  size_t n, uint64_t tag)
{
    struct mp_shard *s = shard_of_log(log);
    size_t size = 0;

    memphis_status status = refuse(s, entries, n);
    if (status != MEMPHIS_OK)
        return status;
    for (size_t i = 0; i < n; i++)
        size += mp_entry_size(&entries[i]);
    if (size > APPEND_MAX)
        return MEMPHIS_TOO_BIG;
    struct mp_chunk *c = mp_chunks_room(&s->chunks, size);
    if (c == NULL)
        return MEMPHIS_NOMEM;
    if (s->open.bytes > 0 && s->open.bytes + size > MP_ENTRY_BYTES_MAX)
        mp_shard_close(s);
    struct mp_append a = { tag, c, c->used, (uint32_t)size, (uint32_t)n };
    uint32_t crc = s->open.body_crc;
    for (size_t i = 0; i < n; i++) {
        size_t entry_size = mp_entry_size(&entries[i]);
        uint32_t entry_crc = mp_entry_encode(&entries[i], c->bytes + c->used);
        crc = mp_crc32c_combine(crc, entry_crc, entry_size);
        c->used += (uint32_t)entry_size;
    }
    mp_assert(c->used == a.offset + size);
    c->live += (uint32_t)n;
    c->last_index = s->last_index + 1; /* of the open entry, when it is closed */
    extend_open(s, &a, crc);
    return MEMPHIS_OK;
}

static bool solo_is_full(const struct mp_log *log)
{
    const struct mp_shard *s = shard_of_log(log);

    return s->open.bytes >= MP_ENTRY_BYTES_MAX ||
           s->open.appends >= MP_ENTRY_OPERATIONS_MAX ||
           s->records.count - s->records.first > s->in_flight || mp_space_is_short(s);
}

void mp_shard_close(struct mp_shard *s)
{
    const struct mp_clock *clock = &s->replica->clock;

    if (s->open.appends == 0)
        return;
    mp_assert(s->open.bytes > 0);
    s->open.index = ++s->last_index;
    if (clock->broker_ns > s->last_time_ns)
        s->last_time_ns = clock->broker_ns;
    s->open.time_ns = s->last_time_ns;
    push_record(&s->records, &s->open);
    s->open = (struct mp_record){ 0 };
}

/* While a batch is in flight the entry stays open and grows. */
static void solo_close_entry(struct mp_log *log)
{
    struct mp_shard *s = shard_of_log(log);

    if (s->in_memory || !mp_wal_is_busy(s->replica->wal))
        mp_shard_close(s);
}

static bool solo_has_open_entry(const struct mp_log *log)
{
    return shard_of_log(log)->open.appends > 0;
}

/* -- commit ------------------------------------------------------------------------ */

static void reserve_scratch(struct mp_shard *s, size_t n)
{
    if (n <= s->scratch_capacity)
        return;
    while (s->scratch_capacity < n)
        s->scratch_capacity = s->scratch_capacity > 0 ? s->scratch_capacity * 2 : 16;
    s->scratch = mp_realloc(s->scratch, s->scratch_capacity * sizeof *s->scratch);
}

memphis_status mp_shard_apply(struct mp_shard *s, uint64_t index, uint64_t time_ns,
                              const struct mp_append *a, memphis_error *err)
{
    struct mp_chunk *c = a->chunk;
    uint32_t offset = a->offset, dropped = 0;
    uint32_t count = 0;
    bool kept = false;

    reserve_scratch(s, a->entries);
    c->live++; /* the slices are valid until the sink has seen them */
    for (uint32_t i = 0; i < a->entries; i++) {
        struct mp_entry *e = &s->scratch[count];
        memphis_slice bytes = { c->bytes + offset, a->offset + a->size - offset };
        size_t size = 0;
        memphis_status status = mp_entry_decode(bytes, false, e, &size, err);
        bool is_known = status == MEMPHIS_OK && s->is_replaying &&
                        mp_partitions_has_flushed(&s->partitions, e, index);
        if (status == MEMPHIS_OK && !is_known) {
            struct mp_place at = { c, offset, (uint32_t)size };
            status = mp_partitions_apply(&s->partitions, e, &at, index, &kept, err);
            count++;
        }
        if (status != MEMPHIS_OK)
            return status;
        dropped += is_known || !kept;
        offset += (uint32_t)size;
    }
    s->commit = index;
    s->applied = count;
    if (s->log.sink.apply != NULL && count > 0)
        s->log.sink.apply(s->log.sink.ctx, index, time_ns, s->scratch, count, a->tag);
    for (; dropped > 0; dropped--)
        mp_chunk_drop(c);
    mp_chunk_drop(c);
    return MEMPHIS_OK;
}

void mp_shard_commit(struct mp_shard *s)
{
    memphis_error why;

    for (; s->in_flight > 0; s->in_flight--) {
        struct mp_record r = s->records.items[s->records.first++];
        mp_assert(r.index == s->commit + 1);
        s->pieces.first += r.pieces;
        s->commit = r.index;
        for (; r.appends > 0; r.appends--) {
            struct mp_append a = s->appends.items[s->appends.first++];
            memphis_status status = mp_shard_apply(s, r.index, r.time_ns, &a, &why);
            mp_assert(status ==
                      MEMPHIS_OK); /* what we append ourselves is well formed */
        }
    }
}

void mp_shard_fail(struct mp_shard *s, memphis_status status)
{
    uint64_t closed = s->records.count - s->records.first;

    s->last_index -= closed;
    mp_chunks_fail(&s->chunks, s->last_index);
    s->in_flight = 0;
    s->records.first = s->records.count;
    s->pieces.first = s->pieces.count;
    s->open = (struct mp_record){ 0 };
    size_t left = s->appends.count - s->appends.first;
    if (left > 0 && s->log.sink.lost != NULL)
        s->log.sink.lost(s->log.sink.ctx, status);
    for (; left > 0; left--) {
        struct mp_append a = s->appends.items[s->appends.first++];
        /* The worker of a broken WAL may still read from them: they stay to the end. */
        for (uint32_t i = 0; i < a.entries && !s->replica->broken; i++)
            mp_chunk_drop(a.chunk);
        if (a.tag != 0 && s->log.sink.failed != NULL)
            s->log.sink.failed(s->log.sink.ctx, a.tag, status);
    }
}

/* -- reads ------------------------------------------------------------------------- */

static memphis_status solo_read(struct mp_log *log, uint32_t pid, uint64_t seq,
                                struct mp_stored *out)
{
    struct mp_shard *s = shard_of_log(log);
    struct mp_partition *p = mp_partitions_find(&s->partitions, pid);

    if (p == NULL)
        return MEMPHIS_NOT_FOUND;
    return mp_partition_read(p, s->replica->cold, seq, out);
}

static uint64_t solo_first(const struct mp_log *log, uint32_t pid)
{
    const struct mp_partition *p =
        mp_partitions_find(&shard_of_log(log)->partitions, pid);

    return p != NULL ? mp_partition_first(p) : 1;
}

static uint64_t solo_last(const struct mp_log *log, uint32_t pid)
{
    const struct mp_partition *p =
        mp_partitions_find(&shard_of_log(log)->partitions, pid);

    return p != NULL ? p->last : 0;
}

static bool solo_has(const struct mp_log *log, uint32_t pid, uint64_t seq)
{
    const struct mp_partition *p =
        mp_partitions_find(&shard_of_log(log)->partitions, pid);

    return p != NULL && mp_partition_has(p, seq);
}

static void solo_stats(const struct mp_log *log, uint32_t pid, struct mp_log_stats *out)
{
    const struct mp_partition *p =
        mp_partitions_find(&shard_of_log(log)->partitions, pid);

    *out = (struct mp_log_stats){ .first_seq = 1 };
    if (p != NULL)
        mp_partition_stats(p, out);
}

static const struct mp_log_ops solo_ops = { .append = solo_append,
                                            .is_full = solo_is_full,
                                            .close_entry = solo_close_entry,
                                            .has_open_entry = solo_has_open_entry,
                                            .read = solo_read,
                                            .first = solo_first,
                                            .last = solo_last,
                                            .has = solo_has,
                                            .stats = solo_stats };

void mp_shard_init(struct mp_shard *s, struct mp_replica *r, uint32_t id)
{
    s->log.ops = &solo_ops;
    s->log.shard = id;
    s->replica = r;
    s->in_memory = r->wal == NULL || id == MP_SHARD_MEMORY;
    mp_chunks_init(&s->chunks, r->o.chunk_size);
}

void mp_shard_fini(struct mp_shard *s)
{
    mp_partitions_fini(&s->partitions);
    mp_chunks_fini(&s->chunks);
    mp_free(s->appends.items);
    mp_free(s->pieces.items);
    mp_free(s->records.items);
    mp_free(s->scratch);
}

/* -- batches ----------------------------------------------------------------------- */

uint32_t mp_replica_heads(const struct mp_replica *r, struct mp_head heads[MP_SHARDS])
{
    uint32_t count = 0;

    for (uint32_t i = 0; i < MP_SHARDS; i++) {
        const struct mp_shard *s = &r->shards[i];
        if (s->in_memory)
            continue;
        heads[count++] = (struct mp_head){ .shard = s->log.shard,
                                           .shard_epoch = SHARD_EPOCH,
                                           .replica = s->log.shard,
                                           .vote = s->log.shard,
                                           .term = TERM,
                                           .commit = s->commit,
                                           .last_index = s->commit,
                                           .last_term = s->commit > 0 ? TERM : 0 };
    }
    return count;
}

/* Marks the closed records that go into the next batch; returns its size. */
uint64_t mp_replica_batch_size(struct mp_replica *r, uint32_t *records)
{
    uint64_t bytes = 0;
    uint32_t heads = 0;

    *records = 0;
    for (uint32_t i = 0; i < MP_SHARDS; i++) {
        struct mp_shard *s = &r->shards[i];
        if (s->in_memory)
            continue;
        heads++;
        s->in_flight = 0;
        for (size_t at = s->records.first; at < s->records.count; at++) {
            uint64_t more = s->records.items[at].bytes;
            if (*records > 0 && bytes + more > MP_ENTRY_BYTES_MAX)
                break;
            bytes += more;
            s->in_flight++;
            ++*records;
        }
    }
    return mp_wal_batch_size(heads, *records, bytes);
}

static void add_record(struct mp_replica *r, const struct mp_shard *s,
                       const struct mp_record *record)
{
    struct mp_group_header h = { .length =
                                     (uint32_t)(MP_GROUP_HEADER_SIZE + record->bytes),
                                 .body_crc = record->body_crc,
                                 .shard = s->log.shard,
                                 .shard_epoch = SHARD_EPOCH,
                                 .replica = s->log.shard,
                                 .kind = MP_RECORD_ENTRY,
                                 .raft_type = MP_RAFT_NORMAL,
                                 .entries = record->entries,
                                 .index = record->index,
                                 .term = TERM,
                                 .commit = s->commit,
                                 .term_before = record->index > 1 ? TERM : 0,
                                 .time_ns = record->time_ns };
    mp_wal_add(r->wal, &h);
}

void mp_replica_build(struct mp_replica *r, uint64_t size, uint32_t records)
{
    struct mp_head heads[MP_SHARDS];
    uint32_t count = mp_replica_heads(r, heads);

    mp_wal_begin(r->wal, size, heads, count, records);
    for (uint32_t i = 0; i < MP_SHARDS; i++) {
        const struct mp_shard *s = &r->shards[i];
        size_t piece = s->pieces.first;
        for (uint32_t n = 0; n < s->in_flight && !s->in_memory; n++) {
            const struct mp_record *record = &s->records.items[s->records.first + n];
            add_record(r, s, record);
            for (uint32_t p = 0; p < record->pieces; p++, piece++) {
                const struct mp_piece *at = &s->pieces.items[piece];
                mp_wal_add_piece(
                    r->wal, (memphis_slice){ at->chunk->bytes + at->offset, at->size });
            }
        }
    }
    for (uint32_t i = 0; i < MP_SHARDS; i++) {
        const struct mp_shard *s = &r->shards[i];
        if (s->in_flight > 0 && !s->in_memory)
            mp_space_note_batch(
                r, s->log.shard,
                s->records.items[s->records.first + s->in_flight - 1].index);
    }
    mp_space_note_batch(r, 0, 0);
    r->uncovered = records > 0;
    r->batch_ns = r->clock.broker_ns;
}

void mp_replica_break(struct mp_replica *r, const memphis_error *why)
{
    if (r->broken)
        return;
    r->broken = true;
    mp_logf(r->o.logger, MEMPHIS_LOG_ERROR, "store",
            "%s; nothing is acknowledged any more", why->message);
    if (r->o.broken != NULL)
        r->o.broken(r->o.ctx, why);
    for (uint32_t i = 0; i < MP_SHARDS; i++)
        mp_shard_fail(&r->shards[i], MEMPHIS_IO);
}

void mp_replica_done(void *ctx, memphis_status status, const memphis_error *why)
{
    struct mp_replica *r = ctx;

    if (status != MEMPHIS_OK) {
        mp_replica_break(r, why);
        return;
    }
    for (uint32_t i = 0; i < MP_SHARDS; i++)
        if (!r->shards[i].in_memory)
            mp_shard_commit(&r->shards[i]);
}

static void commit_memory(struct mp_replica *r)
{
    for (uint32_t i = 0; i < MP_SHARDS; i++) {
        struct mp_shard *s = &r->shards[i];
        if (!s->in_memory)
            continue;
        s->in_flight = (uint32_t)(s->records.count - s->records.first);
        mp_shard_commit(s);
    }
}

/* When an empty batch is to be written: to cover the newest one, or to sync it. Without
 * room for one the next file comes first. */
static uint64_t empty_batch_ns(const struct mp_replica *r)
{
    uint64_t at = mp_wal_sync_ns(r->wal);

    if (!mp_wal_can_take(r->wal, mp_wal_batch_size(MP_SHARDS, 0, 0)))
        return UINT64_MAX;
    if (r->uncovered && r->batch_ns + COVER_DELAY_NS < at)
        at = r->batch_ns + COVER_DELAY_NS;
    return at;
}

void mp_replica_submit(struct mp_replica *r, uint64_t now_ns)
{
    uint32_t records;

    if (r->broken)
        return;
    commit_memory(r);
    if (r->wal == NULL)
        return;
    mp_space_tick(r, now_ns);
    if (mp_wal_is_busy(r->wal))
        return;
    mp_wal_prepare(r->wal, now_ns);
    uint64_t size = mp_replica_batch_size(r, &records);
    if (records == 0 && now_ns < empty_batch_ns(r))
        return;
    if (mp_wal_has_room(r->wal, size, now_ns)) {
        mp_replica_build(r, size, records);
        mp_wal_post(r->wal, r->clock.wall_ns, r->clock.broker_ns);
        return;
    }
    for (uint32_t i = 0; i < MP_SHARDS; i++) {
        struct mp_shard *s = &r->shards[i];
        if (s->in_memory)
            continue;
        s->in_flight = 0;
        if (records > 0 && mp_wal_is_stuck(r->wal, size))
            mp_shard_fail(s, MEMPHIS_NO_SPACE);
    }
}

bool mp_replica_is_idle(const struct mp_replica *r)
{
    if (r->wal != NULL && mp_wal_is_busy(r->wal))
        return false;
    for (uint32_t i = 0; i < MP_SHARDS; i++) {
        const struct mp_shard *s = &r->shards[i];
        if (s->open.appends > 0 || s->records.first < s->records.count)
            return false;
    }
    return true;
}

/* What an apply of this very turn has appended: it waits for no batch, only for the
 * next turn to close its entry. */
static bool has_left_over(const struct mp_replica *r)
{
    for (uint32_t i = 0; i < MP_SHARDS; i++) {
        const struct mp_shard *s = &r->shards[i];
        if (s->open.appends > 0 && (s->in_memory || !mp_wal_is_busy(r->wal)))
            return true;
    }
    return false;
}

uint64_t mp_replica_next_ns(const struct mp_replica *r)
{
    if (r->broken)
        return UINT64_MAX;
    if (has_left_over(r))
        return 0;
    if (r->wal == NULL)
        return UINT64_MAX;
    uint64_t at = mp_wal_retry_ns(r->wal), other = empty_batch_ns(r);
    at = other < at ? other : at;
    other = mp_space_next_ns(r);
    return other < at ? other : at;
}

struct mp_log *mp_replica_log(struct mp_replica *r, uint32_t shard)
{
    return &mp_shard_of(r, shard)->log;
}

struct mp_clock *mp_replica_clock(struct mp_replica *r)
{
    return &r->clock;
}
