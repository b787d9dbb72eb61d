/* meta/internal.h -- what the files of lib/meta share: the fields of a row, and SQLite.
 *
 * A row exists in three forms: TLV items of a command, a struct in memory, columns of a
 * table. One table of fields per row (command.c) drives all three, so a field that is
 * added there, in the struct and in a migration (db.c) is complete.
 *
 *      payload  --mp_command_decode-->  struct mp_command  --bind-->  columns
 *               <--mp_command_encode--                     <--load--
 *
 * Thread: fields: any (pure); mp_db: one thread at a time.
 */
#ifndef MP_META_INTERNAL_H
#define MP_META_INTERNAL_H

#include "meta/meta.h"

/* -- fields ------------------------------------------------------------------------ */

enum mp_field_type {
    MP_FIELD_TEXT,
    MP_FIELD_BOOL,
    MP_FIELD_U32,
    MP_FIELD_U64,
    MP_FIELD_I64
};

struct mp_field {
    uint16_t tag;         /* on disk: never reused within a row */
    uint8_t type;
    bool key;             /* also in the command that drops the row */
    uint32_t offset;      /* in struct mp_command */
    uint64_t max;         /* 0: whatever the type holds */
    const char *column;
};

struct mp_row_spec {
    const char *table;
    const char *order;    /* column by which rows are loaded */
    const struct mp_field *fields;
    size_t count;
};

struct mp_command_spec {
    const char *name;     /* for texts: "station_create" */
    const struct mp_row_spec *row;
    bool drops;           /* carries the key fields only */
};

/* NULL: no such command. */
const struct mp_command_spec *mp_command_spec(uint32_t kind);
/* NULL: the command can be encoded and applied; else a sentence that says why not. */
const char *mp_command_fault(const struct mp_command *c);
/* What the fields of `c` imply: created_ns of the row. After all fields are set. */
void mp_command_settle(struct mp_command *c);
const char *mp_command_row_name(const struct mp_command *c);

const char *mp_field_text(const struct mp_field *f, const struct mp_command *c);
uint64_t mp_field_number(const struct mp_field *f, const struct mp_command *c);
void mp_field_set_text(const struct mp_field *f, struct mp_command *c,
                       const char *text);
/* False: larger than the field allows. */
bool mp_field_set_number(const struct mp_field *f, struct mp_command *c, uint64_t v);

/* -- SQLite (db.c) ----------------------------------------------------------------- */

/* Where the rows stand in the log, stored with them. The largest ids outlive the rows
 * that had them. */
struct mp_db_position {
    uint64_t applied_index;
    uint64_t last_station_id;
    uint64_t last_pid;
    uint64_t last_row_id;
};

struct mp_db;

/* "" is a database in memory. Creates and migrates. `base`: what it must have applied;
 * above 0 it must be there. VERSION: a newer program wrote it; CORRUPT; BUSY, NO_SPACE,
 * NOMEM or IO. */
memphis_status mp_db_open(const char *path, uint64_t base, struct mp_db **out,
                          memphis_error *err);
void mp_db_close(struct mp_db *db);

/* All rows as the commands that would make them, stations before what belongs to them;
 * texts are valid during the call. When `fn` does not return OK it ends as CORRUPT. */
memphis_status mp_db_load(struct mp_db *db,
                          memphis_status (*fn)(void *ctx, const struct mp_command *c),
                          void *ctx, struct mp_db_position *out, memphis_error *err);

/* Adds a row change to a queue: the command, and the id of the row it concerns. */
void mp_db_queue(struct mp_buf *rows, uint64_t index, uint64_t id,
                 memphis_slice payload);

/* Carries out a queue, in transactions that end between two indexes; the last one
 * stores `to`. *done bytes of the queue are in the database, also when it failed.
 * NO_SPACE, BUSY, NOMEM: try the rest again; INTERNAL: a constraint was violated, the
 * text names the command; IO, CORRUPT. */
memphis_status mp_db_write(struct mp_db *db, memphis_slice rows,
                           const struct mp_db_position *to, size_t *done,
                           memphis_error *err);

/* Moves SQLite's own log into the database file and syncs it. `*safe` becomes the
 * applied index that now is on the disk. BUSY: readers were in the way. `truncate`
 * false: only when that log has grown large, and readers are no failure. */
memphis_status mp_db_checkpoint(struct mp_db *db, bool truncate, uint64_t *safe,
                                memphis_error *err);

#endif
