/* test/unit/replica/history.h -- a log with a history, and what may happen to its disk
 * between two starts. */
#ifndef TEST_UNIT_REPLICA_HISTORY_H
#define TEST_UNIT_REPLICA_HISTORY_H

#include "unit/replica/world.h"

#include "base/enc.h"
#include "base/str.h"
#include "store/slot.h"

#define DIR7 "s/00000002/00000007"
#define TABLE "s/00000002/dls"

/* -- the disk between two starts --------------------------------------------------- */

static inline void remove_name(struct world *w, const char *dir, const char *name)
{
    struct mp_env *e = mp_env_mem_open(w->disk, NULL);
    char path[160];

    snprintf(path, sizeof path, "%s/%s", dir, name);
    assert_int_equal(e->unlink(e, path, NULL), MEMPHIS_OK);
    assert_int_equal(e->dir_sync(e, dir, NULL), MEMPHIS_OK);
    e->close(e);
}

struct nth_name {
    const char *part, *suffix;
    int n;
    char name[96];
};

static inline void take_nth(void *ctx, const char *name, uint64_t size)
{
    struct nth_name *x = ctx;
    size_t length = strlen(name), suffix = strlen(x->suffix);

    (void)size;
    if (strstr(name, x->part) != NULL && length >= suffix &&
        strcmp(name + length - suffix, x->suffix) == 0 && x->n-- == 0)
        snprintf(x->name, sizeof x->name, "%s", name);
}

/* Of the slot with the highest generation. */
static inline uint64_t newest_slot(struct world *w, const char *name)
{
    struct mp_env *e = mp_env_mem_open(w->disk, NULL);
    struct mp_file *f = NULL;
    uint8_t slots[2][MP_BLOCK_SIZE];
    size_t got;

    assert_int_equal(e->file_open(e, name, MP_FILE_READ, &f, NULL), MEMPHIS_OK);
    assert_int_equal(e->file_read(e, f, 0, slots, sizeof slots, &got, NULL), 0);
    e->file_close(e, f);
    e->close(e);
    return mp_get_u64(slots[1] + 8) > mp_get_u64(slots[0] + 8) ? MP_BLOCK_SIZE : 0;
}

static inline void rot_newest_slot(struct world *w, const char *name)
{
    assert_true(mp_disk_flip(w->disk, name, newest_slot(w, name) + 70, 1));
}

static inline void wipe_newest_slot(struct world *w, const char *name)
{
    static const uint8_t zeros[MP_BLOCK_SIZE];
    uint64_t at = newest_slot(w, name);
    struct mp_env *e = mp_env_mem_open(w->disk, NULL);
    memphis_slice v = mp_slice(zeros, sizeof zeros);
    struct mp_file *f = NULL;

    assert_int_equal(e->file_open(e, name, MP_FILE_WRITE, &f, NULL), MEMPHIS_OK);
    assert_int_equal(e->file_write(e, f, at, &v, 1, NULL), MEMPHIS_OK);
    assert_int_equal(e->file_sync(e, f, NULL), MEMPHIS_OK);
    e->file_close(e, f);
    e->close(e);
}

/* A byte becomes another one, in a block or an entry that is sealed at its start. */
static inline void set_byte(struct world *w, const char *name, uint64_t block,
                            uint64_t at, uint8_t value, size_t sealed)
{
    struct mp_env *e = mp_env_mem_open(w->disk, NULL);
    uint8_t bytes[MP_BLOCK_SIZE];
    struct mp_file *f = NULL;
    size_t got;

    assert_int_equal(e->file_open(e, name, MP_FILE_WRITE, &f, NULL), MEMPHIS_OK);
    assert_int_equal(e->file_read(e, f, block, bytes, sizeof bytes, &got, NULL), 0);
    bytes[at] = value;
    sealed = sealed > 0 ? sealed : got;
    bool is_block = bytes[0] == 'M'; /* no length of an entry, a multiple of 8, is */
    mp_set_u32(bytes + 4, is_block ? mp_block_crc(bytes, sealed)
                                   : mp_crc32c(0, bytes + 8, sealed - 8));
    memphis_slice v = mp_slice(bytes, got);
    assert_int_equal(e->file_write(e, f, block, &v, 1, NULL), MEMPHIS_OK);
    assert_int_equal(e->file_sync(e, f, NULL), MEMPHIS_OK);
    e->file_close(e, f);
    e->close(e);
}

static inline struct mp_partition *partition_of(const struct world *w, uint32_t pid)
{
    return mp_partitions_find(&mp_shard_of(w->replica, MP_SHARD_DATA)->partitions, pid);
}

/* Pids 7 and 8 with a history: messages in many segments, a group, a floor, deletes. */
static inline struct world *with_history(uint64_t seed)
{
    struct world *w = world_new(seed);

    must_start(w);
    open_partition(w, 7);
    open_partition(w, 8);
    produce(w, 7, 200, 1000);
    produce(w, 8, 30, 100);
    assert_int_equal(progress(w, 7, 40), MEMPHIS_OK);
    assert_int_equal(progress(w, 8, 2), MEMPHIS_OK);
    assert_int_equal(set_floor(w, MP_SHARD_DATA, 7, 11), MEMPHIS_OK);
    delete_some(w, 7, 20, 5);
    delete_some(w, 7, 195, 2);
    flush(w);
    return w;
}

static inline void expect_7(struct world *w, uint64_t seq, memphis_status status,
                            uint64_t found)
{
    struct mp_stored m;

    assert_int_equal(read_at(w, MP_SHARD_DATA, 7, seq, &m), status);
    assert_int_equal(m.entry.seq, found);
    if (status == MEMPHIS_OK) {
        check_message(&m, 7, found);
        mp_stored_release(&m);
    }
}

static inline void expect_history(struct world *w)
{
    struct mp_log_stats st;

    for (uint64_t seq = 1; seq <= 200; seq++) {
        uint64_t found = seq < 11 ? 11 : seq;
        found = found >= 20 && found < 25 ? 25 : found;
        found = found == 195 || found == 196 ? 197 : found;
        expect_7(w, seq, MEMPHIS_OK, found);
    }
    mp_log_stats(data_log(w), 7, &st);
    assert_int_equal(st.messages, 200 - 10 - 5 - 2);
    assert_int_equal(st.first_seq, 11);
    assert_int_equal(st.last_seq, 200);
    assert_true(st.bytes > 0);
    expect_range(w, 8, 1, 30);
    assert_int_equal(w->groups[7], 40);
    assert_int_equal(w->groups[8], 2);
}

static inline void expect_messages(struct world *w, uint32_t pid, uint64_t count)
{
    struct mp_stored m;

    for (uint64_t seq = 1; seq <= count; seq++) {
        assert_int_equal(read_at(w, MP_SHARD_DATA, pid, seq, &m), MEMPHIS_OK);
        check_message(&m, pid, seq);
        mp_stored_release(&m);
    }
}

static inline int count_states(const struct world *w)
{
    return count_files(w, "s/00000002/0000000", "") -
           count_files(w, "s/00000002/0000000", ".seg") -
           count_files(w, "s/00000002/0000000", ".idx") -
           count_files(w, "s/00000002/0000000", "meta");
}

#endif
