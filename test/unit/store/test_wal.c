#include "support/test.h"

#include "base/enc.h"
#include "base/str.h"
#include "env/env_mem.h"
#include "store/scan.h"
#include "store/wal.h"

enum { FILE_MIN = 8 * MP_BLOCK_SIZE, FILE_MAX = 32 * MP_BLOCK_SIZE };

#define SECOND 1000000000ull

/* A log of one shard on a disk in memory; the body of entry i is a pattern of i. */
struct world {
    struct mp_disk *disk;
    struct mp_env *env;
    struct mp_mailbox box;
    struct mp_wal *wal;
    uint64_t now_ns, index;
    uint8_t body[200 << 10];
    uint32_t done, failed;
    memphis_error why;
};

static void on_done(void *ctx, memphis_status status, const memphis_error *why)
{
    struct world *w = ctx;

    w->done += status == MEMPHIS_OK;
    w->failed += status != MEMPHIS_OK;
    if (status != MEMPHIS_OK)
        w->why = *why;
}

static memphis_status create(struct world *w, uint32_t sync)
{
    struct mp_wal_options o = { .env = w->env, .sync = sync, .sync_interval_ms = 100,
                                .file_min = FILE_MIN, .file_max = FILE_MAX,
                                .disk_reserve = 0, .done = on_done, .ctx = w };

    memphis_status s = mp_wal_new(&o, &w->wal, &w->why);
    if (s == MEMPHIS_OK)
        s = mp_wal_create(w->wal, 0, 0, 0, MP_BLOCK_SIZE, &w->why);
    return s;
}

static struct world *world_on(struct mp_disk *d)
{
    static struct world w;

    w = (struct world){ .disk = d, .now_ns = 100 * SECOND };
    w.env = mp_env_mem_open(w.disk, NULL);
    mp_mailbox_init(&w.box, NULL, NULL);
    w.env->mailbox = &w.box;
    w.env->mkdir(w.env, "wal", NULL);
    w.env->dir_sync(w.env, "", NULL);
    return &w;
}

static struct world *begin(uint32_t sync)
{
    struct world *w = world_on(mp_disk_new(3));

    assert_int_equal(create(w, sync), MEMPHIS_OK);
    return w;
}

static void leave(struct world *w)
{
    mp_wal_stop(w->wal);
    mp_mailbox_drain(&w->box);
    mp_wal_free(w->wal);
    w->env->close(w->env);
    mp_mailbox_fini(&w->box);
}

static void end(struct world *w)
{
    leave(w);
    mp_disk_free(w->disk);
}

static void fill_body(uint8_t *to, uint64_t index, size_t size)
{
    for (size_t i = 0; i < size; i++)
        to[i] = (uint8_t)(index * 13 + i * 7);
}

/* A batch of one entry; false: there is no room for it now. */
static bool build(struct world *w, uint32_t body_size)
{
    struct mp_head head = { .shard = 2, .last_index = w->index };
    uint64_t size = mp_wal_batch_size(1, 1, body_size);

    if (!mp_wal_has_room(w->wal, size, w->now_ns))
        return false;
    fill_body(w->body, ++w->index, body_size);
    struct mp_group_header h = { .length = MP_GROUP_HEADER_SIZE + body_size,
                                 .body_crc = mp_crc32c(0, w->body, body_size),
                                 .kind = MP_RECORD_ENTRY,
                                 .raft_type = MP_RAFT_NORMAL, .shard = 2,
                                 .entries = 1,
                                 .index = w->index };
    mp_wal_begin(w->wal, size, &head, 1, 1);
    mp_wal_add(w->wal, &h);
    mp_wal_add_piece(w->wal, mp_slice(w->body, body_size / 2)); /* two neighbours */
    mp_wal_add_piece(w->wal, mp_slice(w->body + body_size / 2, body_size / 2));
    return true;
}

static bool post(struct world *w, uint32_t body_size)
{
    if (!build(w, body_size))
        return false;
    mp_wal_post(w->wal, w->now_ns + 1, w->now_ns);
    return true;
}

/* As the core does: again when there was no room. False: it is broken or stuck. */
static bool commit(struct world *w, uint32_t body_size)
{
    uint32_t done = w->done;

    for (int i = 0; i < 4; i++) {
        bool posted = post(w, body_size);
        mp_mailbox_drain(&w->box);
        if (posted)
            return w->done == done + 1;
    }
    return false;
}

/* The entries that a start would find in the files from LSN `from` on, in order from
 * entry `first` on; each is what was written. */
static uint64_t readable(struct mp_env *e, uint64_t from, uint64_t first)
{
    struct mp_scan s;
    memphis_error err = { 0 };
    static uint8_t expected[200 << 10];

    if (mp_scan_run(&s, e, 0, from, false, &err) != MEMPHIS_OK)
        fail_msg("%s", err.message);
    uint64_t n = s.records_count;
    for (uint64_t i = 0; i < n; i++) {
        struct mp_group_header h;
        memphis_slice body;
        assert_int_equal(mp_scan_read(&s, &s.records[i], &h, &body, NULL), MEMPHIS_OK);
        assert_int_equal(h.index, first + i);
        fill_body(expected, h.index, body.size);
        assert_memory_equal(body.data, expected, body.size);
    }
    mp_scan_fini(&s);
    return n;
}

static bool exists(struct world *w, const char *name)
{
    struct mp_file *f;

    if (w->env->file_open(w->env, name, MP_FILE_READ, &f, NULL) != MEMPHIS_OK)
        return false;
    w->env->file_close(w->env, f);
    return true;
}

/* -- batches ----------------------------------------------------------------------- */

static void a_batch_is_one_write_and_one_sync_and_reads_back(void **state)
{
    struct world *w = begin(MP_SYNC_ALWAYS);

    (void)state;
    uint64_t before = mp_disk_operations(w->disk);
    assert_true(post(w, 1000));
    assert_int_equal(mp_disk_operations(w->disk), before + 2);
    assert_true(mp_wal_is_busy(w->wal)); /* until its mail is there */
    assert_false(mp_wal_has_room(w->wal, MP_BLOCK_SIZE, w->now_ns));
    assert_int_equal(mp_wal_durable_upto(w->wal), 0);
    mp_mailbox_drain(&w->box);
    assert_int_equal(w->done, 1);
    assert_false(mp_wal_is_busy(w->wal));
    assert_int_equal(mp_wal_durable_upto(w->wal), mp_wal_end(w->wal));
    assert_true(commit(w, 5000));
    assert_int_equal(mp_wal_end(w->wal), (1 + 1 + 2) * MP_BLOCK_SIZE);
    assert_int_equal(readable(w->env, 0, 1), 2);
    end(w);
}

static void names_sort_as_their_numbers_do(void **state)
{
    char name[MP_WAL_NAME_SIZE];

    (void)state;
    mp_wal_name(4096, name);
    assert_string_equal(name, "wal/00000000000000004096.wal");
    mp_wal_name(UINT64_MAX, name);
    assert_string_equal(name, "wal/18446744073709551615.wal");
}

static void a_full_file_is_followed_by_the_one_prepared(void **state)
{
    struct world *w = begin(MP_SYNC_ALWAYS);

    (void)state;
    for (int i = 0; i < 7; i++) /* a header and 7 batches: full */
        assert_true(commit(w, 1000));
    assert_int_equal(mp_wal_end(w->wal), FILE_MIN);
    assert_false(post(w, 1000)); /* asks for the next file */
    assert_true(exists(w, "wal/next"));
    mp_mailbox_drain(&w->box);
    assert_true(commit(w, 1000));
    assert_false(exists(w, "wal/next"));
    assert_true(exists(w, "wal/00000000000000032768.wal"));
    assert_int_equal(mp_wal_end(w->wal), FILE_MIN + 2 * MP_BLOCK_SIZE);
    assert_int_equal(readable(w->env, 0, 1), 8);
    end(w);
}

static void a_batch_larger_than_a_file_gets_one_of_its_own(void **state)
{
    struct world *w = begin(MP_SYNC_ALWAYS);

    (void)state;
    mp_wal_prepare(w->wal, w->now_ns); /* the usual next one is too small */
    mp_mailbox_drain(&w->box);
    assert_true(commit(w, 150 << 10));
    assert_true(commit(w, 1000));
    assert_int_equal(readable(w->env, 0, 1), 2);
    end(w);
}

/* The size of the newest file after `n` batches, one in each `seconds`. */
static uint64_t size_after(uint32_t n, uint64_t seconds)
{
    struct world *w = begin(MP_SYNC_ALWAYS);
    uint64_t used = mp_disk_used(w->disk), size = used;

    for (uint32_t i = 0; i < n; i++, w->now_ns += seconds * SECOND) {
        assert_true(commit(w, 1000));
        if (mp_disk_used(w->disk) > used)
            size = mp_disk_used(w->disk) - used;
        used = mp_disk_used(w->disk);
    }
    end(w);
    return size;
}

static void files_grow_only_while_they_fill_within_seconds(void **state)
{
    (void)state;
    assert_int_equal(size_after(40, 2), FILE_MIN); /* 14 seconds each */
    assert_int_equal(size_after(22, 1), 2 * FILE_MIN);
    assert_int_equal(size_after(200, 0), FILE_MAX);
}

static void what_a_stop_writes_is_durable_at_once(void **state)
{
    struct world *w = begin(MP_SYNC_NONE);

    (void)state;
    mp_wal_stop(w->wal);
    for (int i = 0; i < 20; i++) { /* over a roll, without the threads */
        while (!build(w, 1000))
            assert_int_equal(w->failed, 0);
        assert_int_equal(mp_wal_write(w->wal, 1, 2, &w->why), MEMPHIS_OK);
        assert_int_equal(mp_wal_durable_upto(w->wal), mp_wal_end(w->wal));
    }
    assert_int_equal(w->done, 0);
    leave(w);
    mp_disk_crash(w->disk, MP_CRASH_NOTHING, 1);
    struct mp_env *e = mp_env_mem_open(w->disk, NULL);
    assert_int_equal(readable(e, 0, 1), 20);
    e->close(e);
    mp_disk_free(w->disk);
}

/* -- files that are used again ----------------------------------------------------- */

static struct mp_env calls; /* as they are */
static int calls_left;      /* until a flush lets the second file go */

static memphis_status count_call(struct mp_env *e, memphis_status s)
{
    char name[MP_WAL_NAME_SIZE];

    mp_wal_name(FILE_MIN, name);
    if (--calls_left == 0)
        assert_int_equal(calls.rename(e, name, MP_WAL_SPARE_NAME, NULL), MEMPHIS_OK);
    return s;
}

static memphis_status counted_open(struct mp_env *e, const char *name, uint32_t flags,
                                   struct mp_file **out, memphis_error *err)
{
    return count_call(e, calls.file_open(e, name, flags, out, err));
}

static memphis_status counted_rename(struct mp_env *e, const char *from, const char *to,
                                     memphis_error *err)
{
    return count_call(e, calls.rename(e, from, to, err));
}

/* The flusher has a thread of its own: its rename may come at any time. */
static void a_file_that_becomes_the_spare_meanwhile_is_not_taken_for_it(void **state)
{
    (void)state;
    for (int n = 1; n <= 4; n++) {
        struct world *w = begin(MP_SYNC_ALWAYS);
        for (int i = 0; i < 15; i++, w->now_ns += 2 * SECOND) /* two files and one */
            assert_true(commit(w, 1000));
        calls = *w->env;
        assert_int_equal(calls.rename(w->env, "wal/00000000000000000000.wal",
                                      MP_WAL_SPARE_NAME, NULL),
                         MEMPHIS_OK);
        w->env->file_open = counted_open;
        w->env->rename = counted_rename;
        calls_left = n;
        mp_wal_prepare(w->wal, w->now_ns);
        w->env->file_open = calls.file_open;
        w->env->rename = calls.rename;
        mp_mailbox_drain(&w->box);
        for (int i = 0; i < 12; i++, w->now_ns += 2 * SECOND)
            assert_true(commit(w, 1000));
        leave(w);
        mp_disk_crash(w->disk, MP_CRASH_NOTHING, 1);
        struct mp_env *e = mp_env_mem_open(w->disk, NULL);
        assert_int_equal(readable(e, 2 * FILE_MIN, 15), 13);
        e->close(e);
        mp_disk_free(w->disk);
    }
}

/* What an interrupted preparation has left has blocks: they need no room again. */
static void a_left_over_is_used_again_on_a_full_disk(void **state)
{
    struct mp_disk *d = mp_disk_new(3);
    struct world *w = world_on(d);

    (void)state;
    for (int round = 0; round < 3; round++) {
        uint64_t base = (uint64_t)round * FILE_MIN;
        struct mp_wal_options o = { .env = w->env,
                                    .file_min = FILE_MIN,
                                    .file_max = FILE_MAX,
                                    .done = on_done,
                                    .ctx = w };
        assert_int_equal(mp_wal_new(&o, &w->wal, &w->why), MEMPHIS_OK);
        assert_int_equal(mp_wal_create(w->wal, base, base, 0, MP_BLOCK_SIZE, &w->why),
                         MEMPHIS_OK);
        if (round == 0) /* larger than what a start asks for */
            assert_false(post(w, 150 << 10));
        mp_wal_prepare(w->wal, w->now_ns);
        mp_mailbox_drain(&w->box);
        assert_true(commit(w, 104));
        assert_true(exists(w, "wal/next") == (round < 2));
        leave(w);
        mp_disk_limit(d, mp_disk_used(d) + (round == 0 ? 0 : MP_BLOCK_SIZE));
        w = world_on(d);
    }
    w->env->close(w->env);
    mp_mailbox_fini(&w->box);
    mp_disk_free(d);
}

/* -- when it is synced ------------------------------------------------------------- */

static void sync_interval_syncs_when_it_is_time(void **state)
{
    struct world *w = begin(MP_SYNC_INTERVAL);

    (void)state;
    assert_true(commit(w, 104));
    uint64_t durable = mp_wal_durable_upto(w->wal);
    assert_int_equal(durable, mp_wal_end(w->wal)); /* the first one: long ago */
    assert_int_equal(mp_wal_sync_ns(w->wal), UINT64_MAX);
    w->now_ns += SECOND / 100;
    assert_true(commit(w, 104));
    assert_int_equal(mp_wal_durable_upto(w->wal), durable);
    assert_int_equal(mp_wal_sync_ns(w->wal), 100 * SECOND + SECOND / 10);
    w->now_ns = mp_wal_sync_ns(w->wal);
    assert_true(commit(w, 104));
    assert_int_equal(mp_wal_durable_upto(w->wal), mp_wal_end(w->wal));
    end(w);
}

static void sync_none_syncs_only_a_file_that_it_leaves(void **state)
{
    struct world *w = begin(MP_SYNC_NONE);

    (void)state;
    for (int i = 0; i < 7; i++)
        assert_true(commit(w, 1000));
    assert_int_equal(mp_wal_durable_upto(w->wal), 0);
    assert_int_equal(mp_wal_sync_ns(w->wal), UINT64_MAX);
    assert_true(commit(w, 1000));
    assert_int_equal(mp_wal_durable_upto(w->wal), FILE_MIN);
    leave(w);
    mp_disk_crash(w->disk, MP_CRASH_NOTHING, 1);
    struct mp_env *e = mp_env_mem_open(w->disk, NULL);
    assert_int_equal(readable(e, 0, 1), 7);
    e->close(e);
    mp_disk_free(w->disk);
}

/* -- faults ------------------------------------------------------------------------ */

static void a_failed_write_or_sync_ends_it_for_good(void **state)
{
    static const enum mp_disk_op ops[] = { MP_DISK_WRITE, MP_DISK_SYNC };

    (void)state;
    for (size_t i = 0; i < 2; i++) {
        struct world *w = begin(MP_SYNC_ALWAYS);
        assert_true(commit(w, 104));
        mp_disk_fail(w->disk, ops[i], 1, MEMPHIS_IO, false);
        assert_false(commit(w, 104));
        assert_int_equal(w->failed, 1);
        assert_true(w->why.message[0] != 0);
        /* The next one would succeed: it is never asked. */
        uint64_t before = mp_disk_operations(w->disk);
        assert_false(commit(w, 104));
        mp_wal_prepare(w->wal, w->now_ns);
        assert_int_equal(mp_disk_operations(w->disk), before);
        assert_int_equal(w->failed, 1);
        assert_int_equal(mp_wal_durable_upto(w->wal), 2 * MP_BLOCK_SIZE);
        end(w);
    }
}

static void a_next_file_that_cannot_be_made_ends_it_too(void **state)
{
    struct world *w = begin(MP_SYNC_ALWAYS);

    (void)state;
    mp_disk_fail(w->disk, MP_DISK_SYNC, 1, MEMPHIS_IO, false);
    mp_wal_prepare(w->wal, w->now_ns);
    assert_int_equal(w->failed, 0); /* its mail comes first */
    mp_mailbox_drain(&w->box);
    assert_int_equal(w->failed, 1);
    assert_false(commit(w, 104));
    end(w);
}

static void a_failed_roll_ends_it(void **state)
{
    static const enum mp_disk_op ops[] = { MP_DISK_RENAME, MP_DISK_DIR_SYNC };

    (void)state;
    for (size_t i = 0; i < 2; i++) {
        struct world *w = begin(MP_SYNC_ALWAYS);
        for (int k = 0; k < 7; k++)
            assert_true(commit(w, 1000));
        mp_disk_fail(w->disk, ops[i], 1, MEMPHIS_IO, false);
        assert_false(commit(w, 1000));
        assert_int_equal(w->failed, 1);
        assert_int_equal(mp_wal_durable_upto(w->wal), FILE_MIN);
        end(w);
    }
}

static void a_full_disk_is_waited_for(void **state)
{
    struct world *w = begin(MP_SYNC_ALWAYS);

    (void)state;
    mp_disk_limit(w->disk, mp_disk_used(w->disk) + MP_BLOCK_SIZE);
    for (int i = 0; i < 7; i++) /* the file that is there has its blocks */
        assert_true(commit(w, 1000));
    assert_false(mp_wal_is_out_of_space(w->wal));
    assert_false(commit(w, 1000));
    assert_true(mp_wal_is_out_of_space(w->wal));
    assert_true(mp_wal_is_stuck(w->wal, MP_BLOCK_SIZE));
    assert_int_equal(w->failed, 0);
    assert_int_equal(mp_wal_retry_ns(w->wal), w->now_ns + SECOND);
    assert_false(exists(w, "wal/next"));

    mp_disk_limit(w->disk, UINT64_MAX);
    assert_false(commit(w, 1000)); /* not before its time */
    w->now_ns += SECOND;
    assert_true(commit(w, 1000));
    assert_false(mp_wal_is_out_of_space(w->wal));
    assert_int_equal(mp_wal_retry_ns(w->wal), UINT64_MAX);
    assert_int_equal(readable(w->env, 0, 1), 8);
    end(w);
}

static void a_disk_that_fills_while_a_file_is_made_is_waited_for(void **state)
{
    struct world *w = begin(MP_SYNC_ALWAYS);

    (void)state;
    mp_disk_fail(w->disk, MP_DISK_WRITE, 1, MEMPHIS_NO_SPACE, false);
    mp_wal_prepare(w->wal, w->now_ns);
    mp_mailbox_drain(&w->box);
    assert_true(mp_wal_is_out_of_space(w->wal));
    assert_false(mp_wal_is_stuck(w->wal, MP_BLOCK_SIZE)); /* this file has room */
    assert_false(exists(w, "wal/next")); /* what was written of it is given back */
    assert_true(commit(w, 104));
    assert_int_equal(w->failed, 0);
    end(w);
}

static void a_lack_of_descriptors_is_waited_for_likewise(void **state)
{
    static const enum mp_disk_op ops[] = { MP_DISK_OPEN, MP_DISK_SYNC };

    (void)state;
    for (size_t i = 0; i < 2; i++) {
        struct world *w = begin(MP_SYNC_ALWAYS);
        mp_disk_fail(w->disk, ops[i], 1, MEMPHIS_NOMEM, false);
        mp_wal_prepare(w->wal, w->now_ns);
        mp_mailbox_drain(&w->box);
        assert_true(mp_wal_is_out_of_space(w->wal));
        assert_int_equal(w->failed, 0);
        mp_wal_prepare(w->wal, w->now_ns); /* from then on a second */
        w->now_ns += SECOND;
        for (int k = 0; k < 8; k++)
            assert_true(commit(w, 1000));
        assert_false(mp_wal_is_out_of_space(w->wal));
        leave(w);
        mp_disk_crash(w->disk, MP_CRASH_NOTHING, 1);
        struct mp_env *e = mp_env_mem_open(w->disk, NULL);
        assert_int_equal(readable(e, 0, 1), 8);
        e->close(e);
        mp_disk_free(w->disk);
    }
}

static void a_start_that_cannot_make_its_file_says_so(void **state)
{
    static const enum mp_disk_op ops[] = { MP_DISK_OPEN, MP_DISK_WRITE, MP_DISK_SYNC,
                                           MP_DISK_RENAME, MP_DISK_DIR_SYNC };

    (void)state;
    for (size_t i = 0; i < sizeof ops / sizeof ops[0]; i++) {
        struct world *w = world_on(mp_disk_new(3));
        mp_disk_fail(w->disk, ops[i], 1, MEMPHIS_IO, false);
        assert_int_equal(create(w, MP_SYNC_ALWAYS), MEMPHIS_IO);
        assert_true(w->why.message[0] != 0);
        end(w);
    }
}

/* Each operation of the disk in turn is the last one; with each outcome a start finds
 * everything that was said to be durable, and no more than was begun. */
static bool note_file(void *ctx, const char *name)
{
    *(bool *)ctx |= strstr(name, ".wal") != NULL;
    return true;
}

static bool has_file(struct mp_env *e)
{
    bool any = false;

    assert_int_equal(e->dir_list(e, "wal", note_file, &any, NULL), MEMPHIS_OK);
    return any;
}

static void a_crash_anywhere_loses_nothing_that_was_durable(void **state)
{
    struct mp_disk *d = mp_disk_new(3);
    bool crashed = true;

    (void)state;
    for (uint64_t n = 1; crashed; n++) {
        struct mp_disk *disk = mp_disk_clone(d);
        mp_disk_crash_at(disk, n + 2); /* not in mkdir and its sync */
        struct world *w = world_on(disk);
        bool ok = create(w, MP_SYNC_ALWAYS) == MEMPHIS_OK;
        for (uint32_t i = 0; i < 20 && ok; i++)
            ok = commit(w, 104 + 904 * (i % 8));
        crashed = mp_disk_has_crashed(disk);
        assert_true(crashed || w->done == 20);
        leave(w);
        for (int outcome = 0; crashed && outcome < MP_CRASH_OUTCOMES; outcome++) {
            struct mp_disk *after = mp_disk_clone(disk);
            mp_disk_crash(after, outcome, n);
            struct mp_env *e = mp_env_mem_open(after, NULL);
            /* The first file may not be there yet: `node` comes after it. */
            uint64_t found = has_file(e) ? readable(e, 0, 1) : 0;
            assert_true(found >= w->done && found <= w->index);
            e->close(e);
            mp_disk_free(after);
        }
        mp_disk_free(disk);
    }
    mp_disk_free(d);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        leak_checked(a_batch_is_one_write_and_one_sync_and_reads_back),
        leak_checked(names_sort_as_their_numbers_do),
        leak_checked(a_full_file_is_followed_by_the_one_prepared),
        leak_checked(a_batch_larger_than_a_file_gets_one_of_its_own),
        leak_checked(files_grow_only_while_they_fill_within_seconds),
        leak_checked(what_a_stop_writes_is_durable_at_once),
        leak_checked(a_file_that_becomes_the_spare_meanwhile_is_not_taken_for_it),
        leak_checked(a_left_over_is_used_again_on_a_full_disk),
        leak_checked(sync_interval_syncs_when_it_is_time),
        leak_checked(sync_none_syncs_only_a_file_that_it_leaves),
        leak_checked(a_failed_write_or_sync_ends_it_for_good),
        leak_checked(a_next_file_that_cannot_be_made_ends_it_too),
        leak_checked(a_failed_roll_ends_it),
        leak_checked(a_full_disk_is_waited_for),
        leak_checked(a_disk_that_fills_while_a_file_is_made_is_waited_for),
        leak_checked(a_lack_of_descriptors_is_waited_for_likewise),
        leak_checked(a_start_that_cannot_make_its_file_says_so),
        leak_checked(a_crash_anywhere_loses_nothing_that_was_durable),
    };

    return run_tests("store/wal", tests);
}
