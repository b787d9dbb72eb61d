/* The only user of SQLite. Rows come and go through the field tables of command.c.
 *
 * A transaction holds the rows of whole indexes and the position in the log, so what is
 * in the file is always the state after some index. Commits are not synced
 * (synchronous=NORMAL): a lost tail is replayed from shard 1. What is on the disk for
 * sure is known after a checkpoint only; they are made here and not by SQLite itself,
 * which would swallow their errors. */
#include "meta/internal.h"

#include "base/assert.h"
#include "base/buf.h"
#include "base/status.h"
#include "base/str.h"

#include <errno.h>
#include <sqlite3.h>
#include <string.h>

enum {
    APPLICATION_ID = 0x4d505448,   /* "MPTH" in the header of the file */
    COMMANDS_MAX = 256,            /* in one transaction, about */
    WAL_PAGES_MAX = 256,           /* of 4 KiB; then a checkpoint in passing */
    BUSY_MS = 1000                 /* somebody looks into the file with a tool */
};

/* One entry per version of the tables, the first one makes version 1. Columns are named
 * as in the field tables. Never changed once released: add another one. */
static const char *const migrations[] = {
    "CREATE TABLE position ("
    " only INTEGER PRIMARY KEY CHECK (only = 1),"
    " applied_index INTEGER NOT NULL,"
    " last_station_id INTEGER NOT NULL,"
    " last_pid INTEGER NOT NULL,"
    " last_row_id INTEGER NOT NULL) STRICT;"
    "INSERT INTO position VALUES (1, 0, 0, 0, 0);"
    "CREATE TABLE stations ("
    " id INTEGER PRIMARY KEY,"
    " name TEXT NOT NULL UNIQUE,"
    " retention INTEGER NOT NULL,"
    " retention_value INTEGER NOT NULL,"
    " storage INTEGER NOT NULL,"
    " replicas INTEGER NOT NULL,"
    " idempotency_ms INTEGER NOT NULL,"
    " partitions INTEGER NOT NULL,"
    " dls_poison INTEGER NOT NULL,"
    " dls_schema INTEGER NOT NULL,"
    " tiered INTEGER NOT NULL,"
    " native INTEGER NOT NULL,"
    " schema TEXT NOT NULL,"
    " dls_station TEXT NOT NULL,"
    " first_pid INTEGER NOT NULL,"
    " created_by TEXT NOT NULL,"
    " created_ns INTEGER NOT NULL) STRICT;"
    "CREATE TABLE producers ("
    " id INTEGER PRIMARY KEY,"
    " name TEXT NOT NULL,"
    " station_id INTEGER NOT NULL REFERENCES stations (id) ON DELETE CASCADE,"
    " connection_id TEXT NOT NULL,"
    " app_id TEXT NOT NULL,"
    " sdk TEXT NOT NULL,"
    " user TEXT NOT NULL,"
    " type INTEGER NOT NULL,"
    " version INTEGER NOT NULL,"
    " created_ns INTEGER NOT NULL) STRICT;"
    "CREATE INDEX producers_of_station ON producers (station_id);"
    "CREATE TABLE consumers ("
    " id INTEGER PRIMARY KEY,"
    " name TEXT NOT NULL,"
    " consumer_group TEXT NOT NULL,"
    " station_id INTEGER NOT NULL REFERENCES stations (id) ON DELETE CASCADE,"
    " connection_id TEXT NOT NULL,"
    " app_id TEXT NOT NULL,"
    " sdk TEXT NOT NULL,"
    " user TEXT NOT NULL,"
    " type INTEGER NOT NULL,"
    " version INTEGER NOT NULL,"
    " ack_wait_ms INTEGER NOT NULL,"
    " deliveries_max INTEGER NOT NULL,"
    " start_sequence INTEGER NOT NULL,"
    " last_messages INTEGER NOT NULL,"
    " created_ns INTEGER NOT NULL) STRICT;"
    "CREATE INDEX consumers_of_station ON consumers (station_id);"
    "CREATE TABLE users ("
    " name TEXT PRIMARY KEY NOT NULL,"
    " type INTEGER NOT NULL,"
    " hash TEXT NOT NULL,"
    " created_ns INTEGER NOT NULL) STRICT;",
    "ALTER TABLE users ADD COLUMN owner TEXT NOT NULL DEFAULT '';"
    "ALTER TABLE users ADD COLUMN description TEXT NOT NULL DEFAULT '';"
    "ALTER TABLE users ADD COLUMN full_name TEXT NOT NULL DEFAULT '';"
    "ALTER TABLE users ADD COLUMN team TEXT NOT NULL DEFAULT '';"
    "ALTER TABLE users ADD COLUMN position TEXT NOT NULL DEFAULT '';"
    "ALTER TABLE users ADD COLUMN avatar INTEGER NOT NULL DEFAULT 0;"
    "ALTER TABLE users ADD COLUMN is_restricted INTEGER NOT NULL DEFAULT 0;"
    "ALTER TABLE users ADD COLUMN allow_read TEXT NOT NULL DEFAULT '';"
    "ALTER TABLE users ADD COLUMN allow_write TEXT NOT NULL DEFAULT '';"
    "ALTER TABLE users ADD COLUMN deny_read TEXT NOT NULL DEFAULT '';"
    "ALTER TABLE users ADD COLUMN deny_write TEXT NOT NULL DEFAULT '';",
    "ALTER TABLE stations ADD COLUMN stream TEXT NOT NULL DEFAULT '';",
};
enum { MIGRATIONS_COUNT = sizeof migrations / sizeof migrations[0] };

static const char position_sql[] =
    "UPDATE position SET applied_index = ?1, last_station_id = ?2, last_pid = ?3,"
    " last_row_id = ?4";

struct mp_db {
    sqlite3 *handle;
    sqlite3_stmt *store_position;
    sqlite3_stmt *change[MP_COMMANDS_END]; /* by command */
    uint64_t committed_index;
    int32_t wal_pages;             /* in SQLite's log after the last commit */
    bool in_memory;
    bool is_loaded;
};

/* A change in a queue. */
struct change {
    uint64_t index, id;
    memphis_slice payload;
};

/* -- errors ------------------------------------------------------------------------ */

static memphis_status status_of(struct mp_db *db, int rc)
{
    int os = sqlite3_system_errno(db->handle);

    switch (rc & 0xff) {
    case SQLITE_OK:
    case SQLITE_DONE:
    case SQLITE_ROW:
        return MEMPHIS_OK;
    case SQLITE_FULL:
        return MEMPHIS_NO_SPACE;
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
        return MEMPHIS_BUSY;
    case SQLITE_NOMEM:
        return MEMPHIS_NOMEM;
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
        return MEMPHIS_CORRUPT;
    case SQLITE_CONSTRAINT:
    case SQLITE_MISMATCH:
    case SQLITE_ERROR:
        /* The statements are always the same, so at a start the tables are not. */
        return db->is_loaded ? MEMPHIS_INTERNAL : MEMPHIS_CORRUPT;
    case SQLITE_MISUSE:
        return MEMPHIS_INTERNAL;
    default:
        /* Some calls of SQLite report a full disk as an I/O error. */
        return os == ENOSPC || os == EDQUOT ? MEMPHIS_NO_SPACE : MEMPHIS_IO;
    }
}

/* `rc` is what the last call on the connection returned. */
static memphis_status fail_sqlite(struct mp_db *db, int rc, const char *doing,
                                  memphis_error *err)
{
    memphis_status s = status_of(db, rc);

    mp_assert(s != MEMPHIS_OK);
    const char *why = s == MEMPHIS_NO_SPACE ? "no space on disk" /* not "I/O error" */
                                            : sqlite3_errmsg(db->handle);
    return mp_fail(err, s, "the metadata database cannot %s: %s (SQLite %d)", doing,
                   why, rc);
}

static memphis_status execute(struct mp_db *db, const char *sql, const char *doing,
                              memphis_error *err)
{
    mp_assert(sql != NULL && doing != NULL);
    int rc = sqlite3_exec(db->handle, sql, NULL, NULL, NULL);
    return rc == SQLITE_OK ? MEMPHIS_OK : fail_sqlite(db, rc, doing, err);
}

static memphis_status prepare(struct mp_db *db, const char *sql, uint32_t flags,
                              sqlite3_stmt **out, memphis_error *err)
{
    mp_assert(*out == NULL);
    int rc = sqlite3_prepare_v3(db->handle, sql, -1, flags, out, NULL);

    return rc == SQLITE_OK ? MEMPHIS_OK : fail_sqlite(db, rc, "prepare", err);
}

/* First column of the first row. */
static memphis_status read_number(struct mp_db *db, const char *sql, int64_t *out,
                                  memphis_error *err)
{
    sqlite3_stmt *q = NULL;
    memphis_status s = prepare(db, sql, 0, &q, err);

    if (s != MEMPHIS_OK)
        return s;
    int rc = sqlite3_step(q);
    if (rc == SQLITE_ROW)
        *out = sqlite3_column_int64(q, 0);
    else
        s = rc == SQLITE_DONE ? mp_fail(err, MEMPHIS_CORRUPT, "'%s' has no answer", sql)
                              : fail_sqlite(db, rc, "be read", err);
    (void)sqlite3_finalize(q); /* the error is known already */
    return s;
}

/* -- open -------------------------------------------------------------------------- */

/* What SQLite is not told here it does in a way of its own: the page cache is 2 MiB and
 * foreign keys are off. */
static const char pragmas_sql[] =
    "PRAGMA foreign_keys = ON;"
    "PRAGMA synchronous = NORMAL;"
    "PRAGMA cache_size = -256;"
    "PRAGMA mmap_size = 0;"
    "PRAGMA temp_store = MEMORY;"
    "PRAGMA trusted_schema = OFF;"
    "PRAGMA cell_size_check = ON;";

static int note_wal_pages(void *ctx, sqlite3 *handle, const char *name, int pages)
{
    struct mp_db *db = ctx;

    /* No assertion here: its jump would leave through the frames of SQLite. */
    (void)handle, (void)name;
    db->wal_pages = pages;
    return SQLITE_OK;
}

/* Before anything is written: whose file it is, and of which version. */
static memphis_status read_version(struct mp_db *db, int64_t *version,
                                   memphis_error *err)
{
    int64_t application = 0, tables = 0;
    memphis_status s = read_number(db, "PRAGMA user_version", version, err);

    if (s == MEMPHIS_OK)
        s = read_number(db, "PRAGMA application_id", &application, err);
    if (s == MEMPHIS_OK)
        s = read_number(db, "SELECT count(*) FROM sqlite_schema", &tables, err);
    if (s != MEMPHIS_OK)
        return s;
    bool is_new = *version == 0 && application == 0 && tables == 0;
    if (!is_new && application != APPLICATION_ID)
        return mp_fail(err, MEMPHIS_CORRUPT,
                       "the file is a database, but not the metadata of a broker");
    if (*version > MIGRATIONS_COUNT)
        return mp_fail(err, MEMPHIS_VERSION,
                       "the metadata database has version %lld, this broker knows "
                       "versions up to %d; start the newer version that wrote it",
                       (long long)*version, MIGRATIONS_COUNT);
    if (*version < 0 || (!is_new && *version == 0))
        return mp_fail(err, MEMPHIS_CORRUPT, "the metadata database has version %lld",
                       (long long)*version);
    return MEMPHIS_OK;
}

static memphis_status check_index(uint64_t index, uint64_t base, memphis_error *err)
{
    if (index >= base)
        return MEMPHIS_OK;
    return mp_fail(err, MEMPHIS_CORRUPT,
                   "the metadata database is missing or too old: it ends at entry "
                   "%llu, and up to %llu it is the only copy; restore 'meta.db' and "
                   "'meta.db-wal' as they were, or the whole directory from a backup",
                   (unsigned long long)index, (unsigned long long)base);
}

/* Before anything is written, too. */
static memphis_status check_reach(struct mp_db *db, int64_t version, uint64_t base,
                                  memphis_error *err)
{
    int64_t index = 0;
    memphis_status s = MEMPHIS_OK;

    if (version > 0)
        s = read_number(db, "SELECT applied_index FROM position", &index, err);
    return s == MEMPHIS_OK ? check_index((uint64_t)index, base, err) : s;
}

/* A damaged page is found now, and not by the first command that needs it. */
static memphis_status check_pages(struct mp_db *db, memphis_error *err)
{
    sqlite3_stmt *q = NULL;
    memphis_status s = prepare(db, "PRAGMA quick_check(1)", 0, &q, err);

    if (s != MEMPHIS_OK)
        return s;
    int rc = sqlite3_step(q);
    const char *verdict = NULL;
    if (rc == SQLITE_ROW)
        verdict = (const char *)sqlite3_column_text(q, 0);
    if (rc != SQLITE_ROW)
        s = fail_sqlite(db, rc, "be checked", err);
    else if (verdict == NULL || strcmp(verdict, "ok") != 0)
        s = mp_fail(err, MEMPHIS_CORRUPT, "the metadata database is damaged: %s",
                    verdict != NULL ? verdict : "no verdict");
    (void)sqlite3_finalize(q); /* the error is known already */
    return s;
}

static memphis_status set_wal_mode(struct mp_db *db, memphis_error *err)
{
    sqlite3_stmt *q = NULL;
    memphis_status s = prepare(db, "PRAGMA journal_mode = WAL", 0, &q, err);

    if (s != MEMPHIS_OK)
        return s;
    int rc = sqlite3_step(q);
    const char *wanted = db->in_memory ? "memory" : "wal";
    const char *mode = NULL;
    if (rc == SQLITE_ROW)
        mode = (const char *)sqlite3_column_text(q, 0);
    if (rc != SQLITE_ROW)
        s = fail_sqlite(db, rc, "write ahead", err);
    else if (mode == NULL || strcmp(mode, wanted) != 0)
        s = mp_fail(err, MEMPHIS_IO,
                    "the file system cannot hold the metadata database: its journal "
                    "mode is %s instead of %s",
                    mode != NULL ? mode : "unknown", wanted);
    (void)sqlite3_finalize(q); /* the error is known already */
    return s;
}

static void roll_back(struct mp_db *db)
{
    if (!sqlite3_get_autocommit(db->handle))
        (void)sqlite3_exec(db->handle, "ROLLBACK", NULL, NULL, NULL);
    /* An error that ends the transaction by itself is no news: the caller has it. */
}

static memphis_status migrate(struct mp_db *db, int64_t version, memphis_error *err)
{
    mp_assert(version >= 0 && version <= MIGRATIONS_COUNT);
    for (int64_t v = version; v < MIGRATIONS_COUNT; v++) {
        char mark[96];
        mp_format(mark, sizeof mark,
                  "PRAGMA application_id = %d; PRAGMA user_version = %lld; COMMIT;",
                  APPLICATION_ID, (long long)v + 1);
        memphis_status s = execute(db, "BEGIN IMMEDIATE", "be written", err);
        if (s == MEMPHIS_OK)
            s = execute(db, migrations[v], "be migrated", err);
        if (s == MEMPHIS_OK)
            s = execute(db, mark, "be migrated", err);
        if (s != MEMPHIS_OK) {
            roll_back(db);
            return s;
        }
    }
    return MEMPHIS_OK;
}

/* "column, column, ..." or "?1, ?2, ...". */
static void put_columns(struct mp_buf *sql, const struct mp_row_spec *row, bool marks)
{
    mp_assert(row->count > 0);
    for (size_t i = 0; i < row->count; i++) {
        mp_buf_put_text(sql, i > 0 ? ", " : "");
        if (marks)
            mp_buf_format(sql, "?%zu", i + 1);
        else
            mp_buf_put_text(sql, row->fields[i].column);
    }
}

static void put_update(struct mp_buf *sql, const struct mp_row_spec *row)
{
    mp_buf_format(sql, " ON CONFLICT (%s) DO UPDATE SET ", row->order);
    for (size_t i = 0; i < row->count; i++)
        mp_buf_format(sql, "%s%s = excluded.%s", i > 0 ? ", " : "",
                      row->fields[i].column, row->fields[i].column);
}

/* The statement of a command. A user is replaced, and dropped by name; what has an id
 * must be new, and is dropped by id. */
static memphis_status prepare_change(struct mp_db *db, uint32_t kind,
                                     memphis_error *err)
{
    const struct mp_command_spec *spec = mp_command_spec(kind);
    struct mp_buf sql = { 0 };

    mp_assert(spec != NULL);
    if (spec->drops) {
        mp_buf_format(&sql, "DELETE FROM %s WHERE %s = ?1", spec->row->table,
                      spec->row->order);
    } else {
        mp_buf_format(&sql, "INSERT%s INTO %s (",
                      kind == MP_COMMAND_USER_PUT ? " OR REPLACE" : "",
                      spec->row->table);
        put_columns(&sql, spec->row, false);
        mp_buf_put_text(&sql, ") VALUES (");
        put_columns(&sql, spec->row, true);
        mp_buf_put_text(&sql, ")");
        if (kind == MP_COMMAND_STATION_CHANGE) /* its members stay: no REPLACE */
            put_update(&sql, spec->row);
    }
    mp_buf_put_u8(&sql, 0);
    memphis_status s = prepare(db, (const char *)sql.data, SQLITE_PREPARE_PERSISTENT,
                               &db->change[kind], err);
    mp_buf_fini(&sql);
    return s;
}

static memphis_status prepare_all(struct mp_db *db, memphis_error *err)
{
    memphis_status s = prepare(db, position_sql, SQLITE_PREPARE_PERSISTENT,
                               &db->store_position, err);

    for (uint32_t kind = 1; s == MEMPHIS_OK && kind < MP_COMMANDS_END; kind++)
        s = prepare_change(db, kind, err);
    return s;
}

static memphis_status set_up(struct mp_db *db, uint64_t base, memphis_error *err)
{
    int64_t version = 0;

    mp_assert(!db->is_loaded);
    sqlite3_busy_timeout(db->handle, BUSY_MS);
    sqlite3_db_config(db->handle, SQLITE_DBCONFIG_DEFENSIVE, 1, NULL);
    if (sqlite3_db_readonly(db->handle, "main") == 1)
        return mp_fail(err, MEMPHIS_IO,
                       "the metadata database is read-only: make 'meta.db' writable");
    memphis_status s = read_version(db, &version, err);
    if (s == MEMPHIS_OK)
        s = check_reach(db, version, base, err);
    if (s == MEMPHIS_OK)
        s = execute(db, pragmas_sql, "be set up", err);
    if (s == MEMPHIS_OK)
        s = check_pages(db, err);
    if (s == MEMPHIS_OK)
        s = set_wal_mode(db, err);
    if (s == MEMPHIS_OK)
        s = migrate(db, version, err);
    if (s == MEMPHIS_OK)
        s = prepare_all(db, err);
    /* Replaces the checkpoints that SQLite makes by itself. */
    (void)sqlite3_wal_hook(db->handle, note_wal_pages, db);
    return s;
}

memphis_status mp_db_open(const char *path, uint64_t base, struct mp_db **out,
                          memphis_error *err)
{
    struct mp_db *db = mp_alloc(sizeof *db);
    int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_EXRESCODE |
                (base == 0 ? SQLITE_OPEN_CREATE : 0);

    mp_assert(path != NULL);
    db->in_memory = path[0] == 0;
    const char *name = db->in_memory ? ":memory:" : path;
    int rc = sqlite3_open_v2(name, &db->handle, flags, NULL);
    memphis_status s;
    if (db->handle == NULL)
        s = mp_fail(err, MEMPHIS_NOMEM, "no memory for the metadata database");
    else if (base > 0 && rc != SQLITE_OK && sqlite3_system_errno(db->handle) == ENOENT)
        s = check_index(0, base, err);
    else if (rc != SQLITE_OK)
        s = fail_sqlite(db, rc, "be opened", err);
    else
        s = set_up(db, base, err);
    if (s != MEMPHIS_OK) {
        mp_db_close(db);
        return s;
    }
    *out = db;
    return MEMPHIS_OK;
}

void mp_db_close(struct mp_db *db)
{
    if (db == NULL)
        return;
    (void)sqlite3_finalize(db->store_position); /* they repeat errors of the past */
    for (uint32_t kind = 0; kind < MP_COMMANDS_END; kind++)
        (void)sqlite3_finalize(db->change[kind]);
    int rc = sqlite3_close(db->handle);
    mp_assert(rc == SQLITE_OK); /* else a statement was left open */
    mp_free(db);
}

/* -- load -------------------------------------------------------------------------- */

/* A text of the row at hand, valid until the next step. */
static const char *column_text(sqlite3_stmt *q, int column)
{
    mp_assert(column < sqlite3_column_count(q));
    const char *text = (const char *)sqlite3_column_text(q, column);

    if (text == NULL || strlen(text) != (size_t)sqlite3_column_bytes(q, column))
        return NULL;
    return text;
}

static memphis_status read_row(sqlite3_stmt *q, const struct mp_row_spec *row,
                               struct mp_command *out, memphis_error *err)
{
    mp_assert((size_t)sqlite3_column_count(q) == row->count);
    for (size_t i = 0; i < row->count; i++) {
        const struct mp_field *f = &row->fields[i];
        bool good;
        if (f->type == MP_FIELD_TEXT) {
            const char *text = column_text(q, (int)i);
            mp_field_set_text(f, out, text);
            good = text != NULL;
        } else {
            int64_t v = sqlite3_column_int64(q, (int)i);
            good = mp_field_set_number(f, out, (uint64_t)v);
        }
        if (!good)
            return mp_fail(err, MEMPHIS_CORRUPT,
                           "the metadata database is damaged: %s.%s has a value "
                           "out of its range",
                           row->table, f->column);
    }
    mp_command_settle(out);
    const char *fault = mp_command_fault(out);
    if (fault != NULL)
        return mp_fail(err, MEMPHIS_CORRUPT, "the metadata database is damaged: %s: %s",
                       row->table, fault);
    return MEMPHIS_OK;
}

static memphis_status load_table(struct mp_db *db, uint16_t kind,
                                 memphis_status (*fn)(void *ctx,
                                                      const struct mp_command *c),
                                 void *ctx, memphis_error *err)
{
    mp_assert(!mp_command_spec(kind)->drops);
    const struct mp_row_spec *row = mp_command_spec(kind)->row;
    struct mp_buf sql = { 0 };
    sqlite3_stmt *q = NULL;
    int rc = SQLITE_DONE;

    mp_buf_put_text(&sql, "SELECT ");
    put_columns(&sql, row, false);
    mp_buf_format(&sql, " FROM %s ORDER BY %s", row->table, row->order);
    mp_buf_put_u8(&sql, 0);
    memphis_status s = prepare(db, (const char *)sql.data, 0, &q, err);
    mp_buf_fini(&sql);
    while (s == MEMPHIS_OK && (rc = sqlite3_step(q)) == SQLITE_ROW) {
        struct mp_command c = { .kind = kind };
        s = read_row(q, row, &c, err);
        if (s == MEMPHIS_OK && fn(ctx, &c) != MEMPHIS_OK)
            s = mp_fail(err, MEMPHIS_CORRUPT,
                        "the metadata database is damaged: '%s' in the table %s does "
                        "not fit the other rows",
                        mp_command_row_name(&c), row->table);
    }
    if (s == MEMPHIS_OK && rc != SQLITE_DONE)
        s = fail_sqlite(db, rc, "be read", err);
    (void)sqlite3_finalize(q); /* the error is known already */
    return s;
}

static memphis_status load_position(struct mp_db *db, struct mp_db_position *out,
                                    memphis_error *err)
{
    static const struct {
        const char *sql;
        size_t offset;
    } parts[] = {
        { "SELECT applied_index FROM position",
          offsetof(struct mp_db_position, applied_index) },
        { "SELECT last_station_id FROM position",
          offsetof(struct mp_db_position, last_station_id) },
        { "SELECT last_pid FROM position", offsetof(struct mp_db_position, last_pid) },
        { "SELECT last_row_id FROM position",
          offsetof(struct mp_db_position, last_row_id) },
    };

    mp_assert(out != NULL);
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) {
        int64_t v = 0;
        memphis_status s = read_number(db, parts[i].sql, &v, err);
        if (s != MEMPHIS_OK)
            return s;
        if (v < 0)
            return mp_fail(err, MEMPHIS_CORRUPT,
                           "the metadata database is damaged: negative position");
        memcpy((char *)out + parts[i].offset, &v, sizeof v);
    }
    return MEMPHIS_OK;
}

memphis_status mp_db_load(struct mp_db *db,
                          memphis_status (*fn)(void *ctx, const struct mp_command *c),
                          void *ctx, struct mp_db_position *out, memphis_error *err)
{
    static const uint16_t kinds[] = { MP_COMMAND_STATION_CREATE,
                                      MP_COMMAND_PRODUCER_ADD, MP_COMMAND_CONSUMER_ADD,
                                      MP_COMMAND_USER_PUT };

    /* One transaction: the rows and the position of one moment. */
    memphis_status s = execute(db, "BEGIN", "be read", err);
    if (s == MEMPHIS_OK)
        s = load_position(db, out, err);
    for (size_t i = 0; s == MEMPHIS_OK && i < sizeof kinds / sizeof kinds[0]; i++)
        s = load_table(db, kinds[i], fn, ctx, err);
    roll_back(db);
    mp_assert(s != MEMPHIS_OK || sqlite3_get_autocommit(db->handle));
    db->committed_index = out->applied_index;
    db->is_loaded = s == MEMPHIS_OK;
    return s;
}

/* -- write ------------------------------------------------------------------------- */

void mp_db_queue(struct mp_buf *rows, uint64_t index, uint64_t id,
                 memphis_slice payload)
{
    mp_assert(payload.size > 0 && payload.size <= UINT32_MAX);
    mp_buf_put_u64(rows, index);
    mp_buf_put_u64(rows, id);
    mp_buf_put_u32(rows, (uint32_t)payload.size);
    mp_buf_put_slice(rows, payload);
}

static struct change take_change(struct mp_cursor *in)
{
    struct change c = { .index = mp_cursor_u64(in), .id = mp_cursor_u64(in) };

    c.payload = mp_cursor_take(in, mp_cursor_u32(in));
    mp_assert(!in->bad); /* mp_db_queue wrote it */
    return c;
}

static int bind_text(sqlite3_stmt *q, int at, const char *text)
{
    return sqlite3_bind_text(q, at, text, -1, SQLITE_STATIC);
}

static int bind_change(sqlite3_stmt *q, const struct mp_command_spec *spec,
                       const struct mp_command *c, uint64_t id)
{
    int rc = SQLITE_OK;

    mp_assert(q != NULL);
    if (c->kind == MP_COMMAND_USER_DROP)
        return bind_text(q, 1, c->u.user.name);
    if (spec->drops)
        return sqlite3_bind_int64(q, 1, (int64_t)id);
    for (size_t i = 0; rc == SQLITE_OK && i < spec->row->count; i++) {
        const struct mp_field *f = &spec->row->fields[i];
        if (f->type == MP_FIELD_TEXT)
            rc = bind_text(q, (int)i + 1, mp_field_text(f, c));
        else
            rc = sqlite3_bind_int64(q, (int)i + 1, (int64_t)mp_field_number(f, c));
    }
    return rc;
}

static memphis_status step(struct mp_db *db, sqlite3_stmt *q, const char *doing,
                           memphis_error *err)
{
    int rc = sqlite3_step(q);
    memphis_status s = MEMPHIS_OK;

    if (rc != SQLITE_DONE)
        s = fail_sqlite(db, rc, doing, err);
    (void)sqlite3_reset(q); /* repeats the error of the step */
    (void)sqlite3_clear_bindings(q);
    return s;
}

static memphis_status write_change(struct mp_db *db, const struct change *change,
                                   memphis_error *err)
{
    struct mp_arena arena = { 0 };
    struct mp_command c;
    memphis_status s = mp_command_decode(change->payload, &c, &arena, err);

    mp_assert(s == MEMPHIS_OK); /* the catalogue has applied it */
    const struct mp_command_spec *spec = mp_command_spec(c.kind);
    char doing[96 + sizeof "station_create"];
    mp_format(doing, sizeof doing, "do the command %s at index %llu (id %llu)",
              spec->name, (unsigned long long)change->index,
              (unsigned long long)change->id);
    int rc = bind_change(db->change[c.kind], spec, &c, change->id);
    if (rc != SQLITE_OK)
        s = fail_sqlite(db, rc, doing, err);
    else
        s = step(db, db->change[c.kind], doing, err);
    if (s == MEMPHIS_OK && sqlite3_changes(db->handle) != 1)
        s = mp_fail(err, MEMPHIS_INTERNAL,
                    "the metadata database cannot %s: no such row", doing);
    mp_arena_fini(&arena);
    return s;
}

/* `index`, with the largest ids of `to`: they may run ahead of the index, since ids are
 * only ever skipped then. */
static memphis_status write_position(struct mp_db *db, uint64_t index,
                                     const struct mp_db_position *to,
                                     memphis_error *err)
{
    sqlite3_stmt *q = db->store_position;
    const uint64_t values[] = { index, to->last_station_id, to->last_pid,
                                to->last_row_id };

    mp_assert(index <= to->applied_index);
    mp_assert(index >= db->committed_index);
    for (int i = 0; i < 4; i++) {
        int rc = sqlite3_bind_int64(q, i + 1, (int64_t)values[i]);
        if (rc != SQLITE_OK)
            return fail_sqlite(db, rc, "store its position", err);
    }
    return step(db, q, "store its position", err);
}

/* Changes of whole indexes, at least one if there is any; *index is the last one that
 * is complete. */
static memphis_status write_changes(struct mp_db *db, struct mp_cursor *in,
                                    uint64_t *index, memphis_error *err)
{
    uint32_t count = 0;

    while (mp_cursor_left(in) > 0) {
        struct mp_cursor ahead = *in;
        struct change c = take_change(&ahead);
        if (count >= COMMANDS_MAX && c.index != *index)
            return MEMPHIS_OK;
        mp_assert(count == 0 || c.index >= *index);
        memphis_status s = write_change(db, &c, err);
        if (s != MEMPHIS_OK)
            return s;
        *in = ahead;
        *index = c.index;
        count++;
    }
    return MEMPHIS_OK;
}

static memphis_status write_transaction(struct mp_db *db, struct mp_cursor *in,
                                        const struct mp_db_position *to,
                                        memphis_error *err)
{
    uint64_t index = 0;
    memphis_status s = execute(db, "BEGIN IMMEDIATE", "begin", err);

    if (s == MEMPHIS_OK)
        s = write_changes(db, in, &index, err);
    if (mp_cursor_left(in) == 0)
        index = to->applied_index;
    if (s == MEMPHIS_OK)
        s = write_position(db, index, to, err);
    if (s == MEMPHIS_OK)
        s = execute(db, "COMMIT", "commit", err);
    if (s == MEMPHIS_OK)
        db->committed_index = index;
    else
        roll_back(db);
    mp_assert(db->committed_index <= to->applied_index);
    return s;
}

memphis_status mp_db_write(struct mp_db *db, memphis_slice rows,
                           const struct mp_db_position *to, size_t *done,
                           memphis_error *err)
{
    struct mp_cursor in = mp_cursor_of(rows);

    mp_assert(db->is_loaded);
    mp_assert(db->committed_index <= to->applied_index);
    *done = 0;
    while (mp_cursor_left(&in) > 0 || db->committed_index < to->applied_index) {
        memphis_status s = write_transaction(db, &in, to, err);
        if (s != MEMPHIS_OK)
            return s;
        *done = rows.size - mp_cursor_left(&in);
    }
    mp_assert(*done == rows.size);
    return MEMPHIS_OK;
}

memphis_status mp_db_checkpoint(struct mp_db *db, bool truncate, uint64_t *safe,
                                memphis_error *err)
{
    int frames = -1, moved = -1;
    int mode = truncate ? SQLITE_CHECKPOINT_TRUNCATE : SQLITE_CHECKPOINT_PASSIVE;

    mp_assert(sqlite3_get_autocommit(db->handle));
    if (db->in_memory || (!truncate && db->wal_pages < WAL_PAGES_MAX))
        return MEMPHIS_OK;
    int rc = sqlite3_wal_checkpoint_v2(db->handle, "main", mode, &frames, &moved);
    if (rc != SQLITE_OK && (rc & 0xff) != SQLITE_BUSY)
        return fail_sqlite(db, rc, "make a checkpoint", err);
    mp_assert(moved <= frames);
    if (rc == SQLITE_OK && frames >= 0 && frames == moved) {
        *safe = db->committed_index;
        db->wal_pages = 0;
    } else if (truncate) {
        return mp_fail(err, MEMPHIS_BUSY,
                       "another program reads the metadata database and must end that");
    }
    return MEMPHIS_OK;
}
