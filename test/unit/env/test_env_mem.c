#include "support/test.h"

#include "base/str.h"
#include "env/env_mem.h"

enum { SECTOR = 512, BLOCK = 4096, SIZE = 4 * BLOCK, SEEDS = 200 };

static struct mp_file *open_file(struct mp_env *e, const char *name)
{
    struct mp_file *f = NULL;

    assert_int_equal(e->file_open(e, name, MP_FILE_WRITE | MP_FILE_CREATE, &f, NULL),
                     MEMPHIS_OK);
    return f;
}

/* Fills the file with `size` times `c`. */
static memphis_status put(struct mp_env *e, const char *name, char c, size_t size,
                          bool sync)
{
    static char bytes[SIZE];
    memphis_slice v[2] = { { bytes, size / 3 }, { bytes, size - size / 3 } };
    struct mp_file *f = open_file(e, name);

    memset(bytes, c, size);
    memphis_status s = e->file_write(e, f, 0, v, 2, NULL);
    if (s == MEMPHIS_OK && sync)
        s = e->file_sync(e, f, NULL);
    e->file_close(e, f);
    return s;
}

static size_t get(struct mp_env *e, const char *name, char out[SIZE])
{
    struct mp_file *f;
    size_t got = 0;

    if (e->file_open(e, name, MP_FILE_READ, &f, NULL) != MEMPHIS_OK)
        return 0;
    assert_int_equal(e->file_read(e, f, 0, out, SIZE, &got, NULL), MEMPHIS_OK);
    e->file_close(e, f);
    return got;
}

static bool exists(struct mp_env *e, const char *name)
{
    struct mp_file *f;

    if (e->file_open(e, name, MP_FILE_READ, &f, NULL) != MEMPHIS_OK)
        return false;
    e->file_close(e, f);
    return true;
}

static bool is_all(struct mp_env *e, const char *name, char c)
{
    char bytes[SIZE];
    size_t size = get(e, name, bytes);

    for (size_t i = 0; i < size; i++)
        if (bytes[i] != c)
            return false;
    return size > 0;
}

/* -- crashes ----------------------------------------------------------------------- */

/* "safe" is synced; "f" holds a, synced, and b over all of it, not synced; "new" is
 * synced but its name is not; "moved" was "old" and "gone" was there at the last sync
 * of the directory. */
static struct mp_disk *half_written(void)
{
    struct mp_disk *d = mp_disk_new(1);
    struct mp_env *e = mp_env_mem_open(d, NULL);

    put(e, "safe", 's', SIZE, true);
    put(e, "f", 'a', SIZE, true);
    put(e, "old", 'o', 10, true);
    put(e, "gone", 'g', 10, true);
    assert_int_equal(e->dir_sync(e, "", NULL), MEMPHIS_OK);
    put(e, "f", 'b', SIZE, false);
    put(e, "new", 'n', 10, true);
    assert_int_equal(e->rename(e, "old", "moved", NULL), MEMPHIS_OK);
    assert_int_equal(e->unlink(e, "gone", NULL), MEMPHIS_OK);
    e->close(e);
    return d;
}

/* The environment after that crash; what is promised in every case holds. */
static struct mp_env *crash(struct mp_disk *d, enum mp_disk_outcome outcome,
                            uint64_t seed)
{
    mp_disk_crash(d, outcome, seed);
    struct mp_env *e = mp_env_mem_open(d, NULL);
    assert_true(is_all(e, "safe", 's'));
    assert_true(exists(e, "old") != exists(e, "moved")); /* a rename is atomic */
    return e;
}

static void end(struct mp_disk *d, struct mp_env *e)
{
    e->close(e);
    mp_disk_free(d);
}

static void expect_names(struct mp_env *e, bool changed)
{
    assert_int_equal(exists(e, "new"), changed);
    assert_int_equal(exists(e, "moved"), changed);
    assert_int_equal(exists(e, "gone"), !changed);
}

static void nothing_everything_bytes_or_names_alone_survive(void **state)
{
    static const struct {
        enum mp_disk_outcome outcome;
        char bytes;
        bool names;
    } cases[] = { { MP_CRASH_NOTHING, 'a', false },
                  { MP_CRASH_EVERYTHING, 'b', true },
                  { MP_CRASH_NAMES_ONLY, 'a', true },
                  { MP_CRASH_BYTES_ONLY, 'b', false } };

    (void)state;
    for (size_t i = 0; i < 4; i++) {
        struct mp_disk *d = half_written();
        struct mp_env *e = crash(d, cases[i].outcome, i);
        assert_true(is_all(e, "f", cases[i].bytes));
        expect_names(e, cases[i].names);
        end(d, e);
    }
}

static void a_killed_process_leaves_the_page_cache_unsynced(void **state)
{
    struct mp_disk *d = half_written();

    (void)state;
    struct mp_env *e = crash(d, MP_CRASH_PROCESS, 1);
    assert_true(is_all(e, "f", 'b'));
    expect_names(e, true);
    e->close(e);
    e = crash(d, MP_CRASH_NOTHING, 1); /* and now the power */
    assert_true(is_all(e, "f", 'a'));
    expect_names(e, false);
    end(d, e);
}

/* A bit per unit of `f` that is new; each unit is whole. */
static uint64_t units_new(struct mp_env *e, size_t unit)
{
    char bytes[SIZE];
    uint64_t bits = 0;

    assert_int_equal(get(e, "f", bytes), SIZE);
    for (size_t i = 0; i < SIZE; i++) {
        assert_true(bytes[i] == 'a' || bytes[i] == 'b');
        assert_int_equal(bytes[i], bytes[i - i % unit]);
        bits |= (uint64_t)(bytes[i] == 'b') << i / unit;
    }
    return bits;
}

static void one_block_is_lost_and_each_may_be_it(void **state)
{
    uint64_t seen = 0;

    (void)state;
    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        struct mp_disk *d = half_written();
        struct mp_env *e = crash(d, MP_CRASH_LOSE_BLOCK, seed);
        uint64_t lost = ~units_new(e, BLOCK) & 15;
        assert_true((lost & (lost - 1)) == 0);
        seen |= lost;
        end(d, e);
    }
    assert_int_equal(seen, 15);
}

static void a_torn_write_ends_at_any_sector(void **state)
{
    uint64_t seen = 0;

    (void)state;
    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        struct mp_disk *d = half_written();
        struct mp_env *e = crash(d, MP_CRASH_TORN, seed);
        uint64_t bits = units_new(e, SECTOR);
        assert_true((bits & (bits + 1)) == 0); /* ones up to somewhere */
        seen |= bits + 1;
        end(d, e);
    }
    assert_true(__builtin_popcountll(seen) > 20);
}

static void sectors_survive_in_any_mixture(void **state)
{
    uint64_t ever = 0, always = UINT32_MAX;
    bool mixed = false;

    (void)state;
    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        struct mp_disk *d = half_written();
        struct mp_env *e = crash(d, MP_CRASH_SECTORS, seed);
        uint64_t bits = units_new(e, SECTOR);
        mixed = mixed || (bits & (bits + 1)) != 0;
        ever |= bits;
        always &= bits;
        end(d, e);
    }
    assert_true(mixed);
    assert_int_equal(ever, UINT32_MAX);
    assert_int_equal(always, 0);
}

static void at_most_one_bit_of_what_was_not_synced_is_wrong(void **state)
{
    uint32_t wrong = 0;

    (void)state;
    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        struct mp_disk *d = half_written();
        struct mp_env *e = crash(d, MP_CRASH_FLIP, seed);
        char bytes[SIZE];
        int bits = 0;
        assert_int_equal(get(e, "f", bytes), SIZE);
        for (size_t i = 0; i < SIZE; i++)
            bits += __builtin_popcount((unsigned char)bytes[i] ^ 'b');
        assert_true(bits <= 1);
        wrong += (uint32_t)bits;
        end(d, e);
    }
    assert_true(wrong > SEEDS / 2);
}

static void changes_of_names_survive_in_any_mixture(void **state)
{
    bool seen[2][2] = { { false } };

    (void)state;
    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        struct mp_disk *d = half_written();
        struct mp_env *e = crash(d, MP_CRASH_SECTORS, seed);
        seen[exists(e, "new")][exists(e, "gone")] = true;
        end(d, e);
        d = half_written();
        e = crash(d, MP_CRASH_TORN, seed); /* in order: "new" came before */
        assert_true(exists(e, "gone") || exists(e, "new"));
        end(d, e);
    }
    assert_true(seen[0][0] && seen[0][1] && seen[1][0] && seen[1][1]);
}

static void a_name_goes_with_its_directory(void **state)
{
    struct mp_disk *d = mp_disk_new(1);
    struct mp_env *e = mp_env_mem_open(d, NULL);

    (void)state;
    e->mkdir(e, "sub", NULL); /* never synced in "" */
    put(e, "sub/f", 'x', 10, true);
    assert_int_equal(e->dir_sync(e, "sub", NULL), MEMPHIS_OK);
    e->close(e);
    mp_disk_crash(d, MP_CRASH_NOTHING, 1);
    e = mp_env_mem_open(d, NULL);
    assert_false(exists(e, "sub/f"));
    end(d, e);
}

static void a_change_of_size_is_lost_like_any_other(void **state)
{
    (void)state;
    for (int synced = 0; synced < 2; synced++) {
        struct mp_disk *d = mp_disk_new(1);
        struct mp_env *e = mp_env_mem_open(d, NULL);
        put(e, "f", 'a', 100, true);
        e->dir_sync(e, "", NULL);
        struct mp_file *f = open_file(e, "f");
        uint64_t size;
        assert_int_equal(e->file_truncate(e, f, 40, NULL), MEMPHIS_OK);
        assert_int_equal(e->file_truncate(e, f, 60, NULL), MEMPHIS_OK); /* zeros */
        e->file_size(e, f, &size, NULL);
        assert_int_equal(size, 60);
        if (synced)
            e->file_sync(e, f, NULL);
        e->file_close(e, f);
        e->close(e);
        mp_disk_crash(d, MP_CRASH_NOTHING, 1);
        e = mp_env_mem_open(d, NULL);
        char bytes[SIZE];
        assert_int_equal(get(e, "f", bytes), synced ? 60 : 100);
        assert_int_equal(bytes[39], 'a');
        assert_int_equal(bytes[59], synced ? 0 : 'a');
        end(d, e);
    }
}

static void after_the_crash_point_nothing_works_until_the_power_is_back(void **state)
{
    struct mp_disk *d = half_written();
    struct mp_env *e = mp_env_mem_open(d, NULL);
    struct mp_file *f = open_file(e, "f");
    memphis_slice v = { "XYZ", 3 };
    char bytes[SIZE];
    size_t got;

    (void)state;
    mp_disk_crash_at(d, 2);
    assert_int_equal(e->file_sync(e, f, NULL), MEMPHIS_OK);
    assert_false(mp_disk_has_crashed(d));
    assert_int_equal(e->file_write(e, f, 0, &v, 1, NULL), MEMPHIS_IO); /* dies */
    assert_true(mp_disk_has_crashed(d));
    assert_int_equal(e->file_write(e, f, 0, &v, 1, NULL), MEMPHIS_IO);
    assert_int_equal(e->file_sync(e, f, NULL), MEMPHIS_IO);
    assert_int_equal(e->file_read(e, f, 0, bytes, 3, &got, NULL), MEMPHIS_IO);
    assert_int_equal(e->dir_sync(e, "", NULL), MEMPHIS_IO);
    e->file_close(e, f);
    e->close(e);
    e = crash(d, MP_CRASH_EVERYTHING, 1);
    assert_int_equal(get(e, "f", bytes), SIZE); /* the dying one may have arrived */
    assert_memory_equal(bytes, "XYZb", 4);
    end(d, e);
}

static void one_seed_is_one_history(void **state)
{
    char first[SIZE], second[SIZE];

    (void)state;
    for (int outcome = 0; outcome < MP_CRASH_OUTCOMES; outcome++) {
        struct mp_disk *d = half_written();
        struct mp_disk *copy = mp_disk_clone(d);
        struct mp_env *e = crash(d, outcome, 77);
        struct mp_env *same = crash(copy, outcome, 77);
        assert_int_equal(get(e, "f", first), get(same, "f", second));
        assert_memory_equal(first, second, SIZE);
        assert_int_equal(exists(e, "new"), exists(same, "new"));
        end(d, e);
        end(copy, same);
    }
}

/* -- faults ------------------------------------------------------------------------ */

static memphis_status act_on_file(struct mp_env *e, enum mp_disk_op op)
{
    struct mp_file *f = NULL;
    memphis_status s = e->file_open(e, "f", MP_FILE_WRITE, &f, NULL);
    memphis_slice v = { "zzzz", 4 };
    char bytes[4];
    size_t got;

    if (op == MP_DISK_READ)
        s = e->file_read(e, f, 0, bytes, 4, &got, NULL);
    else if (op == MP_DISK_WRITE)
        s = e->file_write(e, f, 0, &v, 1, NULL);
    else if (op == MP_DISK_SYNC)
        s = e->file_sync(e, f, NULL);
    else if (op == MP_DISK_TRUNCATE)
        s = e->file_truncate(e, f, 100, NULL);
    e->file_close(e, f);
    return s;
}

/* One operation of that kind, on a name of its own where it takes one. */
static memphis_status act(struct mp_env *e, enum mp_disk_op op)
{
    static uint32_t number;
    struct mp_file *f = NULL;
    memphis_status s;
    char name[32];

    (void)mp_format(name, sizeof name, "n%u", ++number);
    if (op == MP_DISK_DIR_SYNC)
        return e->dir_sync(e, "", NULL);
    if (op == MP_DISK_MKDIR)
        return e->mkdir(e, name, NULL);
    if (op != MP_DISK_OPEN && op != MP_DISK_RENAME && op != MP_DISK_UNLINK)
        return act_on_file(e, op);
    s = e->file_open(e, name, MP_FILE_WRITE | MP_FILE_CREATE, &f, NULL);
    e->file_close(e, f);
    if (op == MP_DISK_RENAME)
        s = e->rename(e, name, "renamed", NULL);
    if (op == MP_DISK_UNLINK)
        s = e->unlink(e, name, NULL);
    return s;
}

static void each_planned_fault_comes_when_it_was_planned(void **state)
{
    (void)state;
    for (int op = 0; op < MP_DISK_OPS; op++) {
        struct mp_disk *d = half_written();
        struct mp_env *e = mp_env_mem_open(d, NULL);
        mp_disk_fail(d, op, 2, MEMPHIS_BUSY, false);
        assert_int_equal(act(e, op), MEMPHIS_OK);
        assert_int_equal(act(e, op), MEMPHIS_BUSY);
        assert_int_equal(act(e, op), MEMPHIS_OK);

        mp_disk_fail(d, op, 1, MEMPHIS_IO, true);
        for (int i = 0; i < 5; i++)
            assert_int_equal(act(e, op), MEMPHIS_IO);
        mp_disk_heal(d);
        assert_int_equal(act(e, op), MEMPHIS_OK);
        end(d, e);
    }
}

static void a_failed_sync_leaves_bytes_that_no_later_one_saves(void **state)
{
    struct mp_disk *d = half_written();
    struct mp_env *e = mp_env_mem_open(d, NULL);
    struct mp_file *f = open_file(e, "f");

    (void)state;
    mp_disk_fail(d, MP_DISK_SYNC, 1, MEMPHIS_IO, false);
    assert_int_equal(e->file_sync(e, f, NULL), MEMPHIS_IO);
    assert_true(is_all(e, "f", 'b')); /* the page cache still shows them */
    assert_int_equal(e->file_sync(e, f, NULL), MEMPHIS_OK);
    e->file_close(e, f);
    e->close(e);
    e = crash(d, MP_CRASH_EVERYTHING, 1);
    assert_true(is_all(e, "f", 'a'));
    end(d, e);
}

static void a_failed_write_leaves_its_bytes_in_doubt(void **state)
{
    (void)state;
    for (int outcome = 0; outcome < 2; outcome++) {
        struct mp_disk *d = half_written();
        struct mp_env *e = mp_env_mem_open(d, NULL);
        mp_disk_fail(d, MP_DISK_WRITE, 1, MEMPHIS_IO, false);
        assert_int_equal(put(e, "f", 'c', SIZE, true), MEMPHIS_IO);
        e->close(e);
        e = crash(d, outcome == 0 ? MP_CRASH_NOTHING : MP_CRASH_EVERYTHING, 1);
        assert_true(is_all(e, "f", outcome == 0 ? 'a' : 'c'));
        end(d, e);
    }
}

static void a_full_disk_takes_no_more_than_it_has(void **state)
{
    struct mp_disk *d = half_written();
    struct mp_env *e = mp_env_mem_open(d, NULL);
    uint64_t used = mp_disk_used(d);

    (void)state;
    assert_int_equal(used, 2 * SIZE + 20);
    mp_disk_limit(d, used + 100);
    assert_int_equal(e->free_bytes(e), 100);
    assert_int_equal(put(e, "more", 'm', 101, false), MEMPHIS_NO_SPACE);
    assert_int_equal(put(e, "more", 'm', 100, false), MEMPHIS_OK);
    assert_int_equal(put(e, "f", 'x', SIZE, true), MEMPHIS_OK); /* has its blocks */
    assert_int_equal(e->free_bytes(e), 0);
    end(d, e);
}

static void rot_is_in_what_is_synced(void **state)
{
    struct mp_disk *d = half_written();
    char bytes[SIZE];

    (void)state;
    assert_false(mp_disk_flip(d, "safe", SIZE, 1));
    assert_false(mp_disk_flip(d, "none", 0, 1));
    assert_true(mp_disk_flip(d, "f", 3, 1));
    mp_disk_crash(d, MP_CRASH_NOTHING, 1);
    struct mp_env *e = mp_env_mem_open(d, NULL);
    assert_int_equal(get(e, "f", bytes), SIZE);
    assert_int_equal(bytes[3], 'b' ^ 1);
    end(d, e);
}

static void a_bad_block_is_read_again_when_it_was_written_again(void **state)
{
    struct mp_disk *d = half_written();
    struct mp_env *e = mp_env_mem_open(d, NULL);
    memphis_slice v = mp_slice("xx", 2);
    struct mp_file *f = NULL;
    char bytes[SIZE];
    size_t got;

    (void)state;
    assert_false(mp_disk_spoil(d, "none", 0, 1));
    assert_true(mp_disk_spoil(d, "safe", 2, 4));
    assert_int_equal(e->file_open(e, "safe", MP_FILE_WRITE, &f, NULL), MEMPHIS_OK);
    assert_int_equal(e->file_read(e, f, 0, bytes, 2, &got, NULL), MEMPHIS_OK);
    assert_int_equal(e->file_read(e, f, 0, bytes, 3, &got, NULL), MEMPHIS_IO);
    assert_int_equal(e->file_read(e, f, 3, bytes, 3, &got, NULL), MEMPHIS_IO);
    assert_int_equal(e->file_read(e, f, 4, bytes, 1, &got, NULL), MEMPHIS_OK);
    assert_int_equal(e->file_write(e, f, 3, &v, 1, NULL), MEMPHIS_OK);
    assert_int_equal(e->file_read(e, f, 3, bytes, 1, &got, NULL), MEMPHIS_IO);
    assert_int_equal(e->file_write(e, f, 2, &v, 1, NULL), MEMPHIS_OK);
    assert_int_equal(e->file_read(e, f, 0, bytes, 5, &got, NULL), MEMPHIS_OK);
    e->file_close(e, f);
    end(d, e);
}

/* -- as POSIX gives it ------------------------------------------------------------- */

static bool count_name(void *ctx, const char *name)
{
    int *n = ctx;

    *n += strcmp(name, "f") == 0 ? 100 : 1;
    return *n < 200;
}

static void names_are_made_moved_listed_and_removed(void **state)
{
    struct mp_disk *d = mp_disk_new(1);
    struct mp_env *e = mp_env_mem_open(d, NULL);
    struct mp_file *f = NULL;
    int names = 0;

    (void)state;
    assert_int_equal(e->file_open(e, "f", MP_FILE_WRITE, &f, NULL), MEMPHIS_NOT_FOUND);
    put(e, "f", 'x', 10, false);
    assert_int_equal(
        e->file_open(e, "f", MP_FILE_WRITE | MP_FILE_CREATE | MP_FILE_NEW, &f, NULL),
        MEMPHIS_EXISTS);
    assert_int_equal(e->mkdir(e, "sub", NULL), MEMPHIS_OK);
    assert_int_equal(e->mkdir(e, "sub", NULL), MEMPHIS_OK);
    put(e, "sub/f", 'y', 10, false);
    assert_int_equal(e->dir_list(e, "", count_name, &names, NULL), MEMPHIS_OK);
    assert_int_equal(names, 101);
    names = 0;
    assert_int_equal(e->dir_list(e, "sub", count_name, &names, NULL), MEMPHIS_OK);
    assert_int_equal(names, 100);
    assert_int_equal(e->rmdir(e, "sub", NULL), MEMPHIS_IO); /* not empty */
    assert_int_equal(e->rename(e, "sub/f", "f", NULL), MEMPHIS_OK); /* over the other */
    assert_true(is_all(e, "f", 'y'));
    assert_int_equal(e->rename(e, "sub/f", "f", NULL), MEMPHIS_NOT_FOUND);
    assert_int_equal(e->rmdir(e, "sub", NULL), MEMPHIS_OK);
    assert_int_equal(e->dir_sync(e, "sub", NULL), MEMPHIS_NOT_FOUND);
    assert_int_equal(e->unlink(e, "f", NULL), MEMPHIS_OK);
    assert_int_equal(e->unlink(e, "f", NULL), MEMPHIS_NOT_FOUND);
    end(d, e);
}

static void an_open_file_outlives_its_name(void **state)
{
    struct mp_disk *d = half_written();
    struct mp_env *e = mp_env_mem_open(d, NULL);
    struct mp_file *f = open_file(e, "f");
    char c;
    size_t got;

    (void)state;
    assert_int_equal(e->unlink(e, "f", NULL), MEMPHIS_OK);
    assert_int_equal(e->file_read(e, f, SIZE - 1, &c, 5, &got, NULL), MEMPHIS_OK);
    assert_int_equal(got, 1);
    assert_int_equal(c, 'b');
    e->file_close(e, f);
    e->file_close(e, NULL);
    end(d, e);
}

static void the_lock_is_held_by_one_and_let_go_at_close(void **state)
{
    struct mp_disk *d = mp_disk_new(1);
    struct mp_env *first = mp_env_mem_open(d, NULL);
    struct mp_env *second = mp_env_mem_open(d, NULL);

    (void)state;
    assert_int_equal(first->lock(first, NULL), MEMPHIS_OK);
    assert_int_equal(second->lock(second, NULL), MEMPHIS_BUSY);
    expect_assert_failure(mp_disk_crash(d, MP_CRASH_NOTHING, 1));
    first->close(first);
    assert_int_equal(second->lock(second, NULL), MEMPHIS_OK);
    end(d, second);
}

static void a_copy_of_a_disk_goes_its_own_way(void **state)
{
    struct mp_disk *d = half_written();
    struct mp_disk *copy = mp_disk_clone(d);

    (void)state;
    struct mp_env *e = crash(d, MP_CRASH_NOTHING, 1);
    struct mp_env *other = crash(copy, MP_CRASH_EVERYTHING, 1);
    assert_true(is_all(e, "f", 'a'));
    assert_true(is_all(other, "f", 'b'));
    put(e, "f", 'q', SIZE, true);
    assert_true(is_all(other, "f", 'b'));
    end(d, e);
    end(copy, other);
}

static void time_passes_only_when_it_is_told_to(void **state)
{
    struct mp_disk *d = mp_disk_new(1);
    struct mp_env *e = mp_env_mem_open(d, NULL);

    (void)state;
    uint64_t boot = e->boot_ns(e), wall = e->wall_ns(e);
    assert_int_equal(e->boot_ns(e), boot);
    mp_disk_advance(d, 500);
    assert_int_equal(e->boot_ns(e), boot + 500);
    assert_int_equal(e->wall_ns(e), wall + 500);
    mp_disk_step_wall(d, -2000);
    assert_int_equal(e->boot_ns(e), boot + 500);
    assert_int_equal(e->wall_ns(e), wall - 1500);
    put(e, "f", 'x', 10, true); /* but for a little, per operation */
    assert_true(e->boot_ns(e) > boot + 500);
    end(d, e);
}

static void entropy_is_the_same_for_the_same_seed(void **state)
{
    struct mp_disk *disks[3] = { mp_disk_new(5), mp_disk_new(5), mp_disk_new(6) };
    uint64_t got[3][4];

    (void)state;
    for (int i = 0; i < 3; i++) {
        struct mp_env *e = mp_env_mem_open(disks[i], NULL);
        e->random(e, got[i], sizeof got[i]);
        end(disks[i], e);
    }
    assert_memory_equal(got[0], got[1], sizeof got[0]);
    assert_memory_not_equal(got[0], got[2], sizeof got[0]);
    assert_true(got[0][0] != got[0][1]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        leak_checked(nothing_everything_bytes_or_names_alone_survive),
        leak_checked(a_killed_process_leaves_the_page_cache_unsynced),
        leak_checked(one_block_is_lost_and_each_may_be_it),
        leak_checked(a_torn_write_ends_at_any_sector),
        leak_checked(sectors_survive_in_any_mixture),
        leak_checked(at_most_one_bit_of_what_was_not_synced_is_wrong),
        leak_checked(changes_of_names_survive_in_any_mixture),
        leak_checked(a_name_goes_with_its_directory),
        leak_checked(a_change_of_size_is_lost_like_any_other),
        leak_checked(after_the_crash_point_nothing_works_until_the_power_is_back),
        leak_checked(one_seed_is_one_history),
        leak_checked(each_planned_fault_comes_when_it_was_planned),
        leak_checked(a_failed_sync_leaves_bytes_that_no_later_one_saves),
        leak_checked(a_failed_write_leaves_its_bytes_in_doubt),
        leak_checked(a_full_disk_takes_no_more_than_it_has),
        leak_checked(rot_is_in_what_is_synced),
        leak_checked(a_bad_block_is_read_again_when_it_was_written_again),
        leak_checked(names_are_made_moved_listed_and_removed),
        leak_checked(an_open_file_outlives_its_name),
        leak_checked(the_lock_is_held_by_one_and_let_go_at_close),
        leak_checked(a_copy_of_a_disk_goes_its_own_way),
        leak_checked(time_passes_only_when_it_is_told_to),
        leak_checked(entropy_is_the_same_for_the_same_seed),
    };

    return run_tests("env/env_mem", tests);
}
