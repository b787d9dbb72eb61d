#include "unit/meta/model.h"

#include "support/sqlite.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

/* -- a disk that fails when told: SQLite's writes come through here ---------------- */

static struct {
    int write_error, sync_error; /* errno, 0: works */
    const char *read_only;       /* files with such an end; "": all; NULL: none */
    uint32_t syncs;
} disk;

__attribute__((visibility("default"))) ssize_t pwrite64(int fd, const void *data,
                                                        size_t size, off64_t offset);
__attribute__((visibility("default"))) int fdatasync(int fd);
__attribute__((visibility("default"))) int open64(const char *path, int flags, ...);

int open64(const char *path, int flags, ...)
{
    va_list args;

    va_start(args, flags);
    mode_t mode = (flags & O_CREAT) != 0 ? va_arg(args, mode_t) : 0;
    va_end(args);
    const char *end = disk.read_only;
    if (end != NULL && (flags & O_ACCMODE) != O_RDONLY &&
        strcmp(path + strlen(path) - strlen(end), end) == 0) {
        errno = EROFS;
        return -1;
    }
    return (int)syscall(SYS_openat, AT_FDCWD, path, flags, mode);
}

ssize_t pwrite64(int fd, const void *data, size_t size, off64_t offset)
{
    if (disk.write_error != 0) {
        errno = disk.write_error;
        return -1;
    }
    return syscall(SYS_pwrite64, fd, data, size, offset);
}

int fdatasync(int fd)
{
    disk.syncs++;
    if (disk.sync_error != 0) {
        errno = disk.sync_error;
        return -1;
    }
    return (int)syscall(SYS_fdatasync, fd);
}

/* -- files ------------------------------------------------------------------------- */

static char dir[] = "/tmp/test_meta_db_XXXXXX";
static char db_path[sizeof dir + 16], copy_path[sizeof dir + 16];
static const char *const suffixes[] = { "", "-wal", "-shm" };

static void path_of(char out[sizeof dir + 24], const char *path, const char *suffix)
{
    mp_format(out, sizeof dir + 24, "%s%s", path, suffix);
}

static int clean(void **state)
{
    char name[sizeof dir + 24];

    (void)state;
    memset(&disk, 0, sizeof disk);
    for (size_t i = 0; i < sizeof suffixes / sizeof suffixes[0]; i++) {
        path_of(name, db_path, suffixes[i]);
        (void)unlink(name); /* most are not there */
        path_of(name, copy_path, suffixes[i]);
        (void)unlink(name);
    }
    return 0;
}

static int make_dir(void **state)
{
    assert_non_null(mkdtemp(dir));
    mp_format(db_path, sizeof db_path, "%s/meta.db", dir);
    mp_format(copy_path, sizeof copy_path, "%s/copy.db", dir);
    return test_setup(state);
}

static int remove_dir(void **state)
{
    clean(state);
    return rmdir(dir);
}

static int no_leaks_no_files(void **state)
{
    clean(state);
    return test_no_leaks(state);
}

/* What a crash of the process at this moment leaves. */
static void copy_files(const char *from, const char *to)
{
    static char bytes[1 << 16];
    char name[sizeof dir + 24];

    for (size_t i = 0; i < 2; i++) {
        path_of(name, from, suffixes[i]);
        FILE *in = fopen(name, "rb");
        path_of(name, to, suffixes[i]);
        (void)unlink(name);
        if (in == NULL)
            continue;
        FILE *out = fopen(name, "wb");
        assert_non_null(out);
        for (size_t n; (n = fread(bytes, 1, sizeof bytes, in)) > 0;)
            assert_int_equal(fwrite(bytes, 1, n, out), n);
        fclose(in);
        assert_int_equal(fclose(out), 0);
    }
}

static void patch(const char *path, long offset, const void *data, size_t size)
{
    FILE *f = fopen(path, "r+b");

    assert_non_null(f);
    assert_int_equal(fseek(f, offset, SEEK_SET), 0);
    assert_int_equal(fwrite(data, 1, size, f), size);
    assert_int_equal(fclose(f), 0);
}

static long size_of(const char *path)
{
    struct stat st;

    return stat(path, &st) == 0 ? (long)st.st_size : -1;
}

static struct world *world_with_station(const char *path, uint32_t *id)
{
    struct world *w = world_new(path);
    struct mp_command c = station_of(w->meta, "s");

    assert_int_equal(world_do(w, &c), MEMPHIS_OK);
    *id = c.u.station.id;
    return w;
}

/* -- reopening --------------------------------------------------------------------- */

static void rows_come_back_with_their_index(void **state)
{
    uint32_t id;
    struct world *w = world_with_station(db_path, &id);
    struct mp_command p = producer_of(w->meta, id, "p", "c1");
    struct mp_command c = consumer_of(w->meta, id, "c", "c1");
    struct mp_command u = user_of("bob", "hash");

    (void)state;
    c.u.consumer.ack_wait_ms = UINT64_MAX; /* SQLite knows signed numbers only */
    world_do(w, &p);
    world_do(w, &c);
    world_do(w, &u);
    world_stop(w);
    world_start(w);

    assert_int_equal(mp_meta_applied_index(w->meta), 4);
    struct mp_station_row *s = mp_meta_station(w->meta, MP_STR("s"));
    assert_int_equal(s->id, id);
    assert_string_equal(s->settings.schema, "s");
    assert_true(s->settings.dls_poison);
    assert_false(s->settings.dls_schema);
    assert_int_equal(s->created_ns, 1000);
    assert_string_equal(mp_meta_producer_next(w->meta, id, NULL)->sdk, "go");
    struct mp_consumer_row *row = mp_meta_consumer_next(w->meta, id, NULL);
    assert_string_equal(row->group, "g");
    assert_true(row->last_messages == -1);
    assert_true(row->ack_wait_ms == UINT64_MAX);
    assert_string_equal(mp_meta_user(w->meta, MP_STR("bob"))->hash, "hash");
    assert_true(mp_meta_user(w->meta, MP_STR("bob"))->is_restricted);
    assert_string_equal(mp_meta_user(w->meta, MP_STR("bob"))->allow_read,
                        "prod.*\norders");
    world_free(w);
}

/* As version 1 had it: users had a name, a type and a hash. */
static void a_database_of_version_1_is_brought_up(void **state)
{
    static const char *const later[] = { "owner",         "description", "full_name",
                                         "team",          "position",    "avatar",
                                         "is_restricted", "allow_read",  "allow_write",
                                         "deny_read",     "deny_write" };
    struct mp_command u = user_of("bob", "hash");
    uint32_t id;
    struct world *w = world_with_station(db_path, &id);
    struct sqlite3 *db = NULL;
    char sql[96];

    (void)state;
    world_do(w, &u);
    world_stop(w);
    assert_int_equal(sqlite3_open(db_path, &db), 0);
    for (size_t i = 0; i < sizeof later / sizeof later[0]; i++) {
        snprintf(sql, sizeof sql, "ALTER TABLE users DROP COLUMN %s", later[i]);
        assert_int_equal(sqlite3_exec(db, sql, NULL, NULL, NULL), 0);
    }
    assert_int_equal(
        sqlite3_exec(db, "ALTER TABLE stations DROP COLUMN stream", NULL, NULL, NULL),
        0);
    assert_int_equal(sqlite3_exec(db, "PRAGMA user_version = 1", NULL, NULL, NULL),
                     0);
    sqlite3_close(db);
    world_start(w);
    const struct mp_user_row *row = mp_meta_user(w->meta, MP_STR("bob"));
    assert_string_equal(row->hash, "hash");
    assert_string_equal(row->owner, "");
    assert_false(row->is_restricted);
    world_do(w, &u);
    world_stop(w);
    world_start(w);
    assert_true(mp_meta_user(w->meta, MP_STR("bob"))->is_restricted);
    world_free(w);
}

static void a_changed_station_keeps_its_members(void **state)
{
    uint32_t id;
    struct world *w = world_with_station(db_path, &id);
    struct mp_command p = producer_of(w->meta, id, "p", "c1"), change;

    (void)state;
    assert_int_equal(world_do(w, &p), MEMPHIS_OK);
    change = (struct mp_command){ .kind = MP_COMMAND_STATION_CHANGE,
                                  .u.station = *mp_meta_station_by_id(w->meta, id) };
    change.time_ns = change.u.station.created_ns;
    change.u.station.settings.stream = "{}";
    assert_int_equal(world_do(w, &change), MEMPHIS_OK);
    for (int i = 0; i < 2; i++) {
        struct mp_station_row *row = mp_meta_station_by_id(w->meta, id);

        assert_string_equal(row->settings.stream, "{}");
        assert_ptr_equal(mp_meta_station(w->meta, mp_slice_text(row->name)), row);
        assert_non_null(mp_meta_producer_next(w->meta, id, NULL));
        world_stop(w);
        world_start(w);
    }
    struct mp_command drop = station_drop_of(mp_meta_station_by_id(w->meta, id)->name);
    assert_int_equal(world_do(w, &drop), MEMPHIS_OK);
    world_free(w);
}

static void entries_that_sqlite_has_are_skipped(void **state)
{
    uint32_t id;
    struct world *w = world_with_station(db_path, &id);

    (void)state;
    world_stop(w);
    world_start(w);
    w->applied_count = 0;
    world_replay(w, 0);
    assert_int_equal(w->applied_count, 0);
    assert_non_null(mp_meta_station(w->meta, MP_STR("s")));
    world_free(w);
}

static void ids_grow_over_restarts_also_when_the_rows_are_gone(void **state)
{
    uint32_t id;
    struct world *w = world_with_station(db_path, &id);
    struct mp_command p = producer_of(w->meta, id, "p", "c1");
    struct mp_command drop = station_drop_of("s");

    (void)state;
    world_do(w, &p);
    world_do(w, &drop);
    world_stop(w);
    world_start(w);
    assert_int_equal(mp_meta_next_station_id(w->meta), id + 1);
    assert_int_equal(mp_meta_take_pids(w->meta, 1), 4);
    assert_int_equal(mp_meta_next_row_id(w->meta), p.u.producer.id + 1);
    world_free(w);
}

/* A turn whenever the model feels like it; crash states on the way. */
static void random_commands_survive_stops_and_crashes(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 8; seed++) {
        struct world *w = world_new(db_path);
        struct model *o = mp_alloc(sizeof *o);

        o->random = seed * 0x9e3779b97f4a7c15;
        for (int i = 0; i < 400; i++) {
            model_step(o, w);
            if (model_random(o, 9) == 0)
                world_turn(w);
            if (model_random(o, 40) == 0) {
                mp_meta_checkpoint(w->meta);
                mp_mailbox_drain(&w->box);
                assert_int_equal(w->safe_index, w->index);
            }
            if (model_random(o, 40) == 0) {
                world_stop(w); /* and the whole log once more */
                world_start(w);
                world_replay(w, 0);
                model_assert_equal(o, w->meta);
            }
            if (model_random(o, 40) == 0) {
                copy_files(db_path, copy_path); /* queued rows are not in there */
                world_stop(w);
                copy_files(copy_path, db_path);
                world_start(w);
                assert_true(mp_meta_applied_index(w->meta) >= w->safe_index);
                world_replay(w, (size_t)mp_meta_applied_index(w->meta));
                model_assert_equal(o, w->meta);
            }
        }
        model_assert_equal(o, w->meta);
        assert_int_equal(w->broken_count, 0);
        mp_free(o);
        world_free(w);
        clean(state);
    }
}

static void ask_for_checkpoint(struct world *w, const struct mp_command *c)
{
    (void)c;
    mp_meta_checkpoint(w->meta);
    mp_meta_submit(w->meta);
}

static void a_checkpoint_inside_a_callback_waits_for_the_whole_index(void **state)
{
    uint32_t id;
    struct world *w = world_with_station(db_path, &id);
    struct mp_command a = user_of("a", ""), b = user_of("b", "");

    (void)state;
    world_turn(w);
    w->also = ask_for_checkpoint;
    assert_int_equal(mp_meta_propose(w->meta, &a, 1), MEMPHIS_OK);
    assert_int_equal(mp_meta_propose(w->meta, &b, 2), MEMPHIS_OK);
    world_commit(w);
    assert_int_equal(w->applied_count, 3);
    assert_int_equal(w->safe_index, 0);
    world_turn(w);
    assert_int_equal(w->safe_index, 2);
    world_free(w);
}

static void many_rows_go_in_several_transactions(void **state)
{
    struct model *o = mp_alloc(sizeof *o);
    struct world *w = world_new(db_path);

    (void)state;
    o->random = 7;
    for (int i = 0; i < 3000; i++)
        model_step(o, w); /* no turn: all rows at once, as after a replay */
    world_turn(w);
    copy_files(db_path, copy_path);
    world_stop(w);
    copy_files(copy_path, db_path);
    world_start(w);
    model_assert_equal(o, w->meta);
    mp_free(o);
    world_free(w);
}

/* -- checkpoints ------------------------------------------------------------------- */

static void a_checkpoint_says_what_is_safe(void **state)
{
    uint32_t id;
    struct world *w = world_with_station(db_path, &id);
    struct mp_command again = station_of(w->meta, "s");
    char wal[sizeof dir + 24];

    (void)state;
    path_of(wal, db_path, "-wal");
    world_turn(w);
    assert_int_equal(w->safe_count, 0);
    assert_true(size_of(wal) > 0);
    mp_meta_checkpoint(w->meta);
    mp_mailbox_drain(&w->box);
    assert_int_equal(w->safe_index, 1);
    assert_int_equal(size_of(wal), 0);

    world_do(w, &again); /* changes no row, but moves the index */
    mp_meta_checkpoint(w->meta);
    mp_mailbox_drain(&w->box);
    assert_int_equal(w->safe_index, 2);
    world_free(w);
}

static void sqlite_keeps_its_own_log_short(void **state)
{
    struct world *w = world_new(db_path);
    char wal[sizeof dir + 24];

    (void)state;
    path_of(wal, db_path, "-wal");
    for (int i = 0; i < 1000; i++) {
        struct mp_command u = user_of("bob", i % 2 == 0 ? "even" : "odd");
        world_do(w, &u);
        world_turn(w);
    }
    assert_true(size_of(wal) < 2 << 20);
    assert_true(w->safe_count > 0);
    assert_true(w->safe_index <= w->index);
    world_free(w);
}

static void what_was_loaded_is_secured_unless_somebody_reads(void **state)
{
    uint32_t id;
    struct world *w = world_with_station(db_path, &id);
    char wal[sizeof dir + 24];
    memphis_error err = { 0 };

    (void)state;
    world_turn(w);
    copy_files(db_path, copy_path); /* as a kill leaves it: rows in SQLite's log */
    world_free(w);
    w = world_new(copy_path);
    path_of(wal, copy_path, "-wal");
    assert_true(size_of(wal) > 0);

    struct sqlite3 *reader = begin_to_read(copy_path);
    disk.syncs = 0;
    assert_int_equal(mp_meta_secure(w->meta, &err), MEMPHIS_BUSY);
    assert_non_null(strstr(err.message, "another program"));
    sqlite3_close(reader);
    assert_int_equal(mp_meta_secure(w->meta, &err), MEMPHIS_OK);
    assert_true(disk.syncs > 0);
    assert_int_equal(size_of(wal), 0);
    world_free(w);
}

static void nothing_is_ever_safe_in_memory(void **state)
{
    uint32_t id;
    struct world *w = world_with_station("", &id);

    (void)state;
    mp_meta_checkpoint(w->meta);
    world_turn(w);
    assert_int_equal(w->safe_count, 0);
    world_free(w);
}

/* -- other people's files ---------------------------------------------------------- */

static void refused(const char *path, memphis_status expected, const char *text)
{
    struct world *w = world_new_in(path, false);

    assert_int_equal(world_try_start(w), expected);
    if (strstr(w->err.message, text) == NULL)
        fail_msg("'%s' is not in '%s'", text, w->err.message);
    assert_null(w->log.sink.apply);
    world_free(w);
}

static void a_newer_database_is_refused(void **state)
{
    uint32_t id;

    (void)state;
    world_free(world_with_station(db_path, &id));
    patch(db_path, 60, "\0\0\0\4", 4); /* user_version, big-endian */
    refused(db_path, MEMPHIS_VERSION, "has version 4");
    patch(db_path, 60, "\0\0\0\3", 4);
    world_free(world_new(db_path));
}

static void a_database_of_another_program_is_refused(void **state)
{
    uint32_t id;

    (void)state;
    world_free(world_with_station(db_path, &id));
    patch(db_path, 68, "\1\2\3\4", 4); /* application_id */
    refused(db_path, MEMPHIS_CORRUPT, "not the metadata");
}

static void a_file_that_is_no_database_is_refused(void **state)
{
    static const char text[] = "this is no database, but long enough to look at; "
                               "SQLite reads a header of one hundred bytes first.  .";
    FILE *f = fopen(db_path, "wb");

    (void)state;
    assert_int_equal(fwrite(text, 1, sizeof text, f), sizeof text);
    assert_int_equal(fclose(f), 0);
    refused(db_path, MEMPHIS_CORRUPT, "not a database");
}

static void a_missing_directory_is_an_io_error(void **state)
{
    (void)state;
    refused("/nonexistent/meta.db", MEMPHIS_IO, "cannot be opened");
}

static bool are_same(const char *a, const char *b)
{
    char command[2 * sizeof dir + 64];

    mp_format(command, sizeof command, "cmp -s '%s' '%s'", a, b);
    return system(command) == 0;
}

static void random_bytes_are_refused_and_left_as_they_are(void **state)
{
    uint64_t x = 88172645463325252;
    uint8_t bytes[3 * 4096];

    (void)state;
    for (size_t i = 0; i < sizeof bytes; i++) {
        x ^= x << 13, x ^= x >> 7, x ^= x << 17;
        bytes[i] = (uint8_t)x;
    }
    for (size_t size = 2; size <= sizeof bytes; size = size * 4 - 1) {
        FILE *f = fopen(db_path, "wb");
        assert_int_equal(fwrite(bytes, 1, size, f), size);
        assert_int_equal(fclose(f), 0);
        copy_files(db_path, copy_path);
        refused(db_path, MEMPHIS_CORRUPT, "database");
        assert_true(are_same(db_path, copy_path));
    }
}

/* A new one, one that was stopped, and one that was killed: the disk takes nothing. */
static void a_disk_that_takes_nothing_refuses_the_start(void **state)
{
    static const struct {
        int write_error;
        const char *read_only;
        memphis_status status;
        const char *text;
    } cases[] = { { ENOSPC, NULL, MEMPHIS_NO_SPACE, "no space on disk" },
                  { 0, "", MEMPHIS_IO, "database" },
                  { 0, ".db", MEMPHIS_IO, "database" },
                  { EROFS, NULL, MEMPHIS_IO, "database" } };
    char wal[sizeof dir + 24], old_wal[sizeof dir + 24];
    uint32_t id;

    path_of(wal, db_path, "-wal");
    path_of(old_wal, copy_path, "-wal");
    for (int kind = 0; kind < 3; kind++) {
        for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
            struct world *w = kind > 0 ? world_with_station(copy_path, &id) : NULL;
            if (w != NULL)
                world_turn(w);
            if (kind == 1)
                world_stop(w);
            copy_files(copy_path, db_path);
            if (w != NULL)
                world_free(w);
            copy_files(db_path, copy_path);

            disk.write_error = cases[i].write_error;
            disk.read_only = cases[i].read_only;
            refused(db_path, cases[i].status, cases[i].text);
            disk.write_error = 0;
            disk.read_only = NULL;
            if (kind > 0)
                assert_true(are_same(db_path, copy_path));
            if (kind > 1)
                assert_true(are_same(wal, old_wal));
            w = world_new(db_path); /* and when it is over nothing is lost */
            assert_int_equal(mp_meta_applied_index(w->meta), kind > 0);
            world_free(w);
            clean(state);
        }
    }
}

/* Whatever byte is damaged: an open refuses, or what is read are rows that can be. */
static void damaged_bytes_never_crash(void **state)
{
    uint32_t id, refusals = 0;
    struct world *w = world_with_station(db_path, &id);

    (void)state;
    for (int i = 0; i < 40; i++) {
        struct mp_command p = producer_of(w->meta, id, "producer", "connection");
        world_do(w, &p);
    }
    world_free(w);
    copy_files(db_path, copy_path);
    long size = size_of(db_path);
    assert_true(size > 16384);
    uint64_t x = 1;
    for (int i = 0; i < 300; i++) {
        uint8_t garbage[4];
        x ^= x << 13, x ^= x >> 7, x ^= x << 17;
        mp_set_u32(garbage, (uint32_t)(x >> 32));
        copy_files(copy_path, db_path);
        patch(db_path, (long)(x % (uint64_t)(size - 4)), garbage, 1 + x % 4);
        w = world_new_in(db_path, false);
        memphis_status s = world_try_start(w);
        if (s != MEMPHIS_OK) {
            refusals++;
            if (s != MEMPHIS_CORRUPT && s != MEMPHIS_VERSION)
                fail_msg("%d: %s", s, w->err.message);
        }
        world_free(w);
    }
    assert_true(refusals > 20);
}

static void two_databases_live_side_by_side(void **state)
{
    uint32_t id;
    struct world *a = world_with_station(db_path, &id);
    struct world *b = world_new(copy_path);

    (void)state;
    assert_null(mp_meta_station(b->meta, MP_STR("s")));
    world_turn(a);
    /* The same file twice is what the lock of the directory prevents; SQLite itself
     * does not mind. */
    struct world *c = world_new(db_path);
    assert_non_null(mp_meta_station(c->meta, MP_STR("s")));
    world_free(c);
    struct mp_command u = user_of("bob", "");
    world_do(a, &u);
    world_turn(a);
    assert_int_equal(a->broken_count, 0);
    world_free(b);
    world_free(a);
}

/* -- a disk that fails ------------------------------------------------------------- */

static uint64_t test_now_ns;

static uint64_t test_boot_ns(struct mp_env *e)
{
    (void)e;
    return test_now_ns;
}

static void count_line(void *ctx, int32_t level, const char *module, const char *line)
{
    (void)level, (void)module;
    if (strstr(line, "another program") != NULL)
        ++*(int *)ctx;
}

static void a_checkpoint_that_somebody_is_in_the_way_of_is_made_later(void **state)
{
    uint32_t id;
    struct world *w = world_with_station(db_path, &id);
    struct mp_command a = user_of("a", ""), b = user_of("b", "");
    int lines = 0;

    (void)state;
    mp_logger_init(&w->logger, MEMPHIS_LOG_WARN, count_line, &lines);
    test_now_ns = 5000000000;
    w->env->boot_ns = test_boot_ns;
    world_turn(w);
    assert_true(mp_meta_wait_ns(w->meta) == UINT64_MAX);

    struct sqlite3 *reader = begin_to_read(db_path);
    world_do(w, &a);
    mp_meta_checkpoint(w->meta);
    world_turn(w);
    assert_int_equal(w->safe_count, 0);
    assert_int_equal(mp_meta_wait_ns(w->meta), 1000000000);
    test_now_ns += 1000000000;
    assert_int_equal(mp_meta_wait_ns(w->meta), 0);
    world_turn(w);
    assert_int_equal(w->safe_count, 0);
    assert_int_equal(lines, 1);

    sqlite3_close(reader);
    world_turn(w); /* too early */
    assert_int_equal(w->safe_count, 0);
    test_now_ns += 1000000000;
    world_turn(w);
    assert_int_equal(w->safe_index, 2);
    assert_true(mp_meta_wait_ns(w->meta) == UINT64_MAX);
    assert_int_equal(w->broken_count, 0);

    reader = begin_to_read(db_path); /* the next time is told again */
    world_do(w, &b);
    mp_meta_checkpoint(w->meta);
    world_turn(w);
    assert_int_equal(lines, 2);
    sqlite3_close(reader);
    world_stop(w);
    mp_logger_fini(&w->logger);
    world_free(w);
}

static void on_a_full_disk_rows_wait(void **state)
{
    uint32_t id;
    struct world *w = world_with_station(db_path, &id);
    struct mp_command a = user_of("a", ""), b = user_of("b", ""), d = user_of("d", "");

    (void)state;
    test_now_ns = 5000000000;
    w->env->boot_ns = test_boot_ns;
    world_turn(w);

    disk.write_error = ENOSPC;
    world_do(w, &a);
    world_turn(w);
    assert_int_equal(w->broken_count, 0);
    mp_meta_checkpoint(w->meta);
    world_turn(w);
    assert_int_equal(w->safe_count, 0);
    world_do(w, &b);

    disk.write_error = 0;
    world_turn(w); /* too early for another try */
    assert_int_equal(w->safe_count, 0);
    test_now_ns += 1000000000;
    world_turn(w);
    assert_int_equal(w->safe_index, 3);
    assert_int_equal(w->broken_count, 0);

    world_do(w, &d);
    world_stop(w);
    world_start(w);
    assert_int_equal(mp_meta_applied_index(w->meta), 4);
    assert_non_null(mp_meta_user(w->meta, MP_STR("a")));
    assert_non_null(mp_meta_user(w->meta, MP_STR("b")));
    assert_non_null(mp_meta_user(w->meta, MP_STR("d")));
    world_free(w);
}

static void a_full_disk_at_the_end_costs_nothing(void **state)
{
    uint32_t id;
    struct world *w = world_with_station(db_path, &id);
    struct mp_command a = user_of("a", "");

    (void)state;
    world_turn(w);
    world_do(w, &a);
    disk.write_error = ENOSPC;
    world_stop(w);
    disk.write_error = 0;
    world_start(w);
    assert_int_equal(mp_meta_applied_index(w->meta), 1);
    world_replay(w, 0);
    assert_non_null(mp_meta_user(w->meta, MP_STR("a")));
    world_free(w);
}

static void an_io_error_stops_the_broker_once(void **state)
{
    uint32_t id;
    struct world *w = world_with_station(db_path, &id);
    struct mp_command a = user_of("a", "");

    (void)state;
    disk.write_error = EIO;
    world_turn(w);
    assert_int_equal(w->broken_count, 1);
    assert_int_equal(w->broken.status, MEMPHIS_IO);
    disk.write_error = 0;
    assert_int_equal(mp_meta_propose(w->meta, &a, 1), MEMPHIS_BROKEN);
    mp_meta_checkpoint(w->meta);
    world_turn(w);
    assert_int_equal(w->broken_count, 1);
    assert_int_equal(w->safe_count, 0);
    world_free(w);
}

static void a_failed_sync_is_never_called_safe(void **state)
{
    uint32_t id;
    struct world *w = world_with_station(db_path, &id);

    (void)state;
    disk.sync_error = EIO;
    mp_meta_checkpoint(w->meta);
    mp_mailbox_drain(&w->box);
    assert_true(disk.syncs > 0);
    assert_int_equal(w->safe_count, 0);
    assert_int_equal(w->broken_count, 1);
    world_free(w);
}

static void a_row_that_sqlite_refuses_is_named(void **state)
{
    uint32_t id;
    struct world *w = world_with_station(db_path, &id);
    struct mp_command a = producer_of(w->meta, id, "p", "c");

    (void)state;
    world_do(w, &a);
    world_do(w, &a); /* the same id: a bug of whoever proposed it */
    world_turn(w);
    assert_int_equal(w->broken_count, 1);
    assert_int_equal(w->broken.status, MEMPHIS_INTERNAL);
    assert_non_null(strstr(w->broken.message, "producer_add at index 3"));
    assert_non_null(strstr(w->broken.message, "UNIQUE"));
    world_free(w);
}

static void a_job_without_memory_stops_the_broker(void **state)
{
    uint32_t id;
    struct world *w = world_with_station(db_path, &id);

    (void)state;
    mp_heap_current()->fail_in = 2; /* the first one is the job, the second is in it */
    world_turn(w);
    assert_int_equal(w->broken_count, 1);
    assert_int_equal(w->broken.status, MEMPHIS_NOMEM);
    world_stop(w);
    world_start(w);
    assert_int_equal(mp_meta_applied_index(w->meta), 0);
    world_replay(w, 0);
    assert_non_null(mp_meta_station(w->meta, MP_STR("s")));
    world_free(w);
}

/* -- a worker that is a thread ----------------------------------------------------- */

static void rows_are_written_by_a_thread(void **state)
{
    struct world *w = world_new_in(db_path, true);
    struct model *o = mp_alloc(sizeof *o);

    (void)state;
    world_start(w);
    o->random = 99;
    for (int i = 0; i < 2000; i++) {
        model_step(o, w);
        if (i % 5 == 0)
            world_turn(w);
        if (i % 100 == 0)
            mp_meta_checkpoint(w->meta);
    }
    world_stop(w); /* with a job in flight, more often than not */
    world_start(w);
    assert_int_equal(mp_meta_applied_index(w->meta), 2000);
    model_assert_equal(o, w->meta);
    assert_int_equal(w->broken_count, 0);
    mp_free(o);
    world_free(w);
}

int main(void)
{
#define on_disk(f) cmocka_unit_test_setup_teardown(f, NULL, no_leaks_no_files)
    const struct CMUnitTest tests[] = {
        on_disk(rows_come_back_with_their_index),
        on_disk(a_database_of_version_1_is_brought_up),
        on_disk(a_changed_station_keeps_its_members),
        on_disk(entries_that_sqlite_has_are_skipped),
        on_disk(ids_grow_over_restarts_also_when_the_rows_are_gone),
        on_disk(random_commands_survive_stops_and_crashes),
        on_disk(a_checkpoint_inside_a_callback_waits_for_the_whole_index),
        on_disk(many_rows_go_in_several_transactions),
        on_disk(a_checkpoint_says_what_is_safe),
        on_disk(sqlite_keeps_its_own_log_short),
        on_disk(what_was_loaded_is_secured_unless_somebody_reads),
        on_disk(nothing_is_ever_safe_in_memory),
        on_disk(a_newer_database_is_refused),
        on_disk(a_database_of_another_program_is_refused),
        on_disk(a_file_that_is_no_database_is_refused),
        on_disk(a_missing_directory_is_an_io_error),
        on_disk(random_bytes_are_refused_and_left_as_they_are),
        on_disk(a_disk_that_takes_nothing_refuses_the_start),
        on_disk(damaged_bytes_never_crash),
        on_disk(two_databases_live_side_by_side),
        on_disk(a_checkpoint_that_somebody_is_in_the_way_of_is_made_later),
        on_disk(on_a_full_disk_rows_wait),
        on_disk(a_full_disk_at_the_end_costs_nothing),
        on_disk(an_io_error_stops_the_broker_once),
        on_disk(a_failed_sync_is_never_called_safe),
        on_disk(a_row_that_sqlite_refuses_is_named),
        on_disk(a_job_without_memory_stops_the_broker),
        on_disk(rows_are_written_by_a_thread),
    };

    return cmocka_run_group_tests_name("meta/db", tests, make_dir, remove_dir);
}
