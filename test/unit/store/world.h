/* test/unit/store/world.h -- the partitions of one shard on a disk in memory, and a
 * flusher without the replica: what is appended is applied at once. */
#ifndef TEST_UNIT_STORE_WORLD_H
#define TEST_UNIT_STORE_WORLD_H

#include "support/test.h"

#include "base/status.h"
#include "base/str.h"
#include "env/env_mem.h"
#include "store/flush.h"
#include "store/load.h"
#include "store/partition.h"
#include "store/wal.h"

#include <stdio.h>
#include <stdlib.h>

enum { SHARD = 2, HEAD_SIZE = 16, SEGMENT_SIZE = 32 << 10, GROUP_TAG = 1 };

struct world {
    struct mp_disk *disk;
    struct mp_mailbox box;
    struct mp_env *env;
    struct mp_cold *cold;
    struct mp_chunks chunks;
    struct mp_partitions t;
    uint64_t index;              /* of the newest entry */
    uint64_t random;
    int readies, damages;
    uint64_t damage_first, damage_last;
};

static inline uint64_t draw(struct world *w, uint64_t n)
{
    uint64_t z = w->random += 0x9e3779b97f4a7c15ull;

    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ z >> 27) * 0x94d049bb133111ebull;
    return (z ^ z >> 31) % n;
}

static inline void on_ready(void *ctx, uint32_t pid)
{
    (void)pid;
    ((struct world *)ctx)->readies++;
}

static inline void on_damaged(void *ctx, uint32_t pid, uint64_t first, uint64_t last,
                              const memphis_error *why)
{
    struct world *w = ctx;
    struct mp_partition *p = mp_partitions_find(&w->t, pid);

    assert_true(why->message[0] != 0);
    w->damages++;
    w->damage_first = first;
    w->damage_last = last;
    if (p != NULL)
        mp_partition_lose(p, first, last);
}

/* -- life -- */

static inline void open_env(struct world *w)
{
    mp_mailbox_init(&w->box, NULL, NULL);
    w->env = mp_env_mem_open(w->disk, NULL);
    w->env->mailbox = &w->box;
    struct mp_cold_options o = { .env = w->env, .shard = SHARD, .bytes_max = 1 << 20,
                                 .ready = on_ready, .damaged = on_damaged, .ctx = w };
    assert_int_equal(mp_cold_new(&o, &w->cold, NULL), MEMPHIS_OK);
    mp_chunks_init(&w->chunks, 4096);
    w->t.cold = w->cold;
}

static inline void close_env(struct world *w)
{
    mp_cold_stop(w->cold);
    mp_mailbox_drain(&w->box);
    mp_partitions_fini(&w->t);
    mp_chunks_fini(&w->chunks);
    mp_cold_free(w->cold);
    w->env->close(w->env);
    mp_mailbox_fini(&w->box);
}

static inline struct world *world_new(uint64_t seed)
{
    struct world *w = calloc(1, sizeof *w);

    w->random = seed;
    w->disk = mp_disk_new(seed);
    open_env(w);
    return w;
}

static inline void world_free(struct world *w)
{
    close_env(w);
    mp_disk_free(w->disk);
    free(w);
}

static inline memphis_status try_load(struct world *w, uint64_t ended_index,
                                      memphis_error *err)
{
    close_env(w);
    open_env(w);
    return mp_load_shard(w->env, SHARD, ended_index, &w->t, err);
}

/* The partition as its files say; it stays in t.loaded. */
static inline struct mp_partition *loaded(const struct world *w, uint32_t pid)
{
    for (uint32_t i = 0; i < w->t.loaded_count; i++)
        if (w->t.loaded[i]->pid == pid)
            return w->t.loaded[i];
    return NULL;
}

/* -- entries -- */

static inline memphis_status apply_try(struct world *w, const struct mp_entry *e,
                                       bool *kept, memphis_error *err)
{
    size_t size = mp_entry_size(e), decoded_size;
    struct mp_chunk *c = mp_chunks_room(&w->chunks, size);
    struct mp_place at = { c, c->used, (uint32_t)size };
    struct mp_entry decoded;

    (void)mp_entry_encode(e, c->bytes + c->used);
    assert_int_equal(mp_entry_decode(mp_slice(c->bytes + c->used, size), true, &decoded,
                                     &decoded_size, NULL),
                     MEMPHIS_OK);
    c->used += (uint32_t)size;
    c->live++;
    c->last_index = ++w->index;
    memphis_status s = mp_partitions_apply(&w->t, &decoded, &at, w->index, kept, err);
    if (!*kept)
        mp_chunk_drop(c);
    return s;
}

static inline bool apply(struct world *w, const struct mp_entry *e)
{
    bool kept = false;

    assert_int_equal(apply_try(w, e, &kept, NULL), MEMPHIS_OK);
    return kept;
}

static inline struct mp_partition *open_partition(struct world *w, uint32_t pid)
{
    uint8_t payload[13] = { 1 };

    apply(w, &(struct mp_entry){ .type = MP_ENTRY_PARTITION, .pid = pid,
                                 .payload = { payload, sizeof payload } });
    return mp_partitions_find(&w->t, pid);
}

static inline void fill_payload(uint8_t *b, uint32_t pid, uint64_t seq, uint32_t size)
{
    mp_set_u32(b, pid);
    mp_set_u32(b + 4, size);
    mp_set_u64(b + 8, seq);
    for (uint32_t i = HEAD_SIZE; i < size; i++)
        b[i] = (uint8_t)(seq * 7 + i * (pid | 1));
}

/* Its time is 1000 times its sequence; `number` > 0: its id. */
static inline void message(struct world *w, uint32_t pid, uint64_t seq, uint32_t size,
                           uint64_t number)
{
    uint8_t *b = malloc(size), id[8];

    fill_payload(b, pid, seq, size);
    mp_set_u64(id, number);
    apply(w, &(struct mp_entry){ .type = MP_ENTRY_MESSAGE, .pid = pid, .seq = seq,
                                 .time_ns = 1000 * seq, .payload = { b, size },
                                 .id = { id, number > 0 ? 8 : 0 } });
    free(b);
}

static inline void messages(struct world *w, uint32_t pid, uint64_t first,
                            uint64_t last, uint32_t size)
{
    for (uint64_t seq = first; seq <= last; seq++)
        message(w, pid, seq, size, 0);
}

static inline void set_floor(struct world *w, uint32_t pid, uint64_t first)
{
    uint8_t payload[9] = { 0 };

    mp_set_u64(payload, first);
    apply(w, &(struct mp_entry){ .type = MP_ENTRY_FLOOR, .pid = pid,
                                 .payload = { payload, sizeof payload } });
}

static inline void delete_some(struct world *w, uint32_t pid, uint64_t first,
                               uint8_t count)
{
    uint8_t payload[3] = { 1, 0, count };

    apply(w, &(struct mp_entry){ .type = MP_ENTRY_DELETE, .pid = pid, .seq = first,
                                 .payload = { payload, sizeof payload } });
}

static inline void check_entry(const struct mp_entry *e, uint32_t pid, uint64_t seq)
{
    size_t size = e->payload.size;
    uint8_t *expected = malloc(size + 1);

    assert_int_equal(e->type, MP_ENTRY_MESSAGE);
    assert_int_equal(e->pid, pid);
    assert_int_equal(e->seq, seq);
    assert_int_equal(e->time_ns, 1000 * seq);
    assert_true(size >= HEAD_SIZE);
    fill_payload(expected, pid, seq, (uint32_t)size);
    assert_memory_equal(e->payload.data, expected, size);
    free(expected);
}

/* -- a pass -- */

static inline void begin_pass(struct world *w, struct mp_flush *f)
{
    *f = (struct mp_flush){ .env = w->env, .shard = SHARD, .index = w->index,
                            .segment_size = SEGMENT_SIZE, .time_ns = 77 };
    mp_chunks_seal(&w->chunks);
}

static inline void add_slots(struct mp_flush *f, struct mp_flush_part *part,
                             const struct mp_partition *p)
{
    uint64_t seq = p->flushed_seq + 1;
    size_t ids = 0, most = p->dead_ids_count + p->memtable.live;
    const struct mp_memslot *slot;

    part->slots = mp_realloc(NULL, (most + 1) * sizeof *part->slots);
    while ((slot = mp_memtable_next(&p->memtable, &seq)) != NULL ||
           ids < p->dead_ids_count) {
        bool is_id = ids < p->dead_ids_count &&
                     (slot == NULL || p->dead_ids[ids].seq < seq);
        struct mp_memslot s = is_id ? p->dead_ids[ids++].slot : *slot;
        s.size |= is_id ? MP_FLUSH_ID_ONLY : 0;
        seq += !is_id;
        mp_flush_hold(f, s.chunk);
        part->slots[part->slots_count++] = s;
    }
}

/* `group` > 0: an item of the state file. */
static inline struct mp_flush_part *add_part(struct world *w, struct mp_flush *f,
                                             struct mp_partition *p, uint64_t group)
{
    struct mp_flush_part *part = mp_flush_add(f);
    struct mp_state_header h = { .pid = p->pid, .index = f->index, .items = 1 };

    part->pid = p->pid;
    part->is_new = p->generation == 0;
    part->slot = (struct mp_meta_slot){ .generation = p->generation + 1,
                                        .first_seq = p->floor, .flushed_seq = p->last,
                                        .flushed_index = f->index,
                                        .live_bytes = p->bytes,
                                        .config_version = p->config_version };
    if (p->segments_count > 0) {
        part->segments = mp_realloc(NULL, sizeof *part->segments);
        part->segments[part->segments_count++] = p->segments[p->segments_count - 1];
    }
    add_slots(f, part, p);
    part->old_state = p->state_index;
    memset(mp_buf_add(&part->state, MP_STATE_HEADER_SIZE), 0, MP_STATE_HEADER_SIZE);
    mp_partition_state_put(p, &part->state);
    if (p->pid == 0)
        mp_partitions_table_put(&w->t, &part->state);
    if (group > 0)
        mp_state_put(&part->state, GROUP_TAG, &group, sizeof group);
    if (part->state.size == MP_STATE_HEADER_SIZE) {
        mp_buf_clear(&part->state);
        return part;
    }
    mp_state_seal(&part->state, &h);
    part->slot.state_index = f->index;
    return part;
}

static inline void take_part(struct world *w, const struct mp_flush_part *part)
{
    struct mp_partition *p = mp_partitions_find(&w->t, part->pid);
    uint32_t kept = p->segments_count > 0 ? p->segments_count - 1 : 0;
    uint32_t count = kept + part->segments_count;

    p->segments = mp_realloc(p->segments, (count + 1) * sizeof *p->segments);
    if (part->segments_count > 0)
        memcpy(p->segments + kept, part->segments,
               part->segments_count * sizeof *p->segments);
    p->segments_count = count;
    p->segments_capacity = count + 1;
    p->flushed_seq = part->slot.flushed_seq;
    p->flushed_index = part->slot.flushed_index;
    p->state_index = part->slot.state_index;
    p->generation = part->slot.generation;
    p->has_directory = true;
    mp_partition_forget_ids(p);
}

/* Runs the pass; when it went well the partitions know of it. */
static inline memphis_status run_pass(struct world *w, struct mp_flush *f)
{
    mp_flush_run(&f->job);
    memphis_status s = f->status;
    for (size_t i = 0; i < f->parts_count && s == MEMPHIS_OK; i++)
        take_part(w, &f->parts[i]);
    if (s == MEMPHIS_OK)
        mp_chunks_flushed(&w->chunks, f->index);
    else
        assert_true(f->why.message[0] != 0);
    mp_flush_fini(f);
    return s;
}

static inline void flush(struct world *w, uint32_t pid, uint64_t group)
{
    struct mp_flush f;

    begin_pass(w, &f);
    add_part(w, &f, mp_partitions_find(&w->t, pid), group);
    assert_int_equal(run_pass(w, &f), MEMPHIS_OK);
}

/* All that is flushed leaves memory. */
static inline void evict(struct world *w)
{
    struct mp_chunk *c;

    while ((c = mp_chunks_evictable(&w->chunks)) != NULL)
        mp_partitions_evict(&w->t, c);
}

static inline memphis_status read_at(struct world *w, struct mp_partition *p,
                                     uint64_t seq, struct mp_stored *out)
{
    memphis_status s = mp_partition_read(p, w->cold, seq, out);

    for (int i = 0; i < 1000 && s == MP_PENDING; i++) {
        mp_mailbox_drain(&w->box);
        s = mp_partition_read(p, w->cold, seq, out);
    }
    return s;
}

/* -- files -- */

struct name_search {
    const char *part, *suffix;
    int nth, count;
    char name[96];
    uint64_t size;
};

static inline void look_at_name(void *ctx, const char *name, uint64_t size)
{
    struct name_search *x = ctx;
    size_t length = strlen(name), suffix = strlen(x->suffix);

    if (strstr(name, x->part) == NULL || length < suffix ||
        strcmp(name + length - suffix, x->suffix) != 0)
        return;
    if (x->count++ == x->nth) {
        snprintf(x->name, sizeof x->name, "%s", name);
        x->size = size;
    }
}

static inline int count_files(const struct world *w, const char *part,
                              const char *suffix)
{
    struct name_search x = { .part = part, .suffix = suffix };

    mp_disk_each(w->disk, look_at_name, &x);
    return x.count;
}

static inline void put_file(struct world *w, const char *name, uint64_t offset,
                            const void *bytes, size_t size)
{
    struct mp_file *f = NULL;
    memphis_slice v = mp_slice(bytes, size);

    assert_int_equal(w->env->file_open(w->env, name, MP_FILE_WRITE | MP_FILE_CREATE, &f,
                                       NULL), MEMPHIS_OK);
    assert_int_equal(w->env->file_write(w->env, f, offset, &v, 1, NULL), MEMPHIS_OK);
    assert_int_equal(w->env->file_sync(w->env, f, NULL), MEMPHIS_OK);
    w->env->file_close(w->env, f);
}

static inline size_t get_file(struct world *w, const char *name, uint64_t offset,
                              void *bytes, size_t size)
{
    struct mp_file *f = NULL;
    size_t got = 0;

    assert_int_equal(w->env->file_open(w->env, name, MP_FILE_READ, &f, NULL),
                     MEMPHIS_OK);
    assert_int_equal(w->env->file_read(w->env, f, offset, bytes, size, &got, NULL),
                     MEMPHIS_OK);
    w->env->file_close(w->env, f);
    return got;
}

#endif
