/* test/support/sqlite.h -- another program that looks into meta.db. Only lib/meta/db.c
 * includes SQLite's header, so what is called is declared here. */
#ifndef TEST_SUPPORT_SQLITE_H
#define TEST_SUPPORT_SQLITE_H

#include "support/test.h"

struct sqlite3;
int sqlite3_open(const char *path, struct sqlite3 **out);
int sqlite3_exec(struct sqlite3 *db, const char *sql,
                 int (*row)(void *, int, char **, char **), void *ctx, char **why);
int sqlite3_close(struct sqlite3 *db);

/* A read transaction, until sqlite3_close: no checkpoint goes past it. */
static inline struct sqlite3 *begin_to_read(const char *path)
{
    struct sqlite3 *reader = NULL;

    assert_int_equal(sqlite3_open(path, &reader), 0);
    assert_int_equal(
        sqlite3_exec(reader, "BEGIN; SELECT * FROM position", NULL, NULL, NULL), 0);
    return reader;
}

#endif
