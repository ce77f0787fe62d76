/* Schema: the tables and the steps between their versions. Owns no connection to a file: it is handed one.
 *
 * Numbers that are compared (times, epochs, offsets) are kept as what SQLite has, 63 bits; hashes (accounts,
 * seen keys) use all 64 and are only ever compared for equality. Names of connections stand once, in
 * `stream`, where rows are many. */
#include "store/schema.h"

#include <stdio.h>

#include "base/assert.h"
#include "store/core.h"

#define TEXT(x) #x
#define NUMBER(x) TEXT(x)

const char *const schema_steps[] = {
    /* 0 -> 1 */
    "CREATE TABLE meta (name TEXT PRIMARY KEY, value) WITHOUT ROWID;"
    "CREATE TABLE connection (name TEXT PRIMARY KEY, json BLOB) WITHOUT ROWID;"
    "CREATE TABLE wish (connection TEXT PRIMARY KEY, stopped INTEGER) WITHOUT ROWID;"
    "CREATE TABLE session (connection TEXT PRIMARY KEY, session_of INTEGER, wall_ms INTEGER, json BLOB)"
    "  WITHOUT ROWID;"
    "CREATE TABLE keep (connection TEXT PRIMARY KEY, json BLOB) WITHOUT ROWID;"
    /* boot: counts boots, so that a boot time is believed in its own boot alone. */
    "CREATE TABLE permit (account INTEGER, budget INTEGER, connection TEXT, wall_ms INTEGER,"
    "  boot_ms INTEGER, lane INTEGER, boot INTEGER,"
    "  PRIMARY KEY (account, budget, connection, wall_ms, boot_ms, lane)) WITHOUT ROWID;"
    "CREATE INDEX permit_age ON permit (wall_ms);"
    "CREATE TABLE told (account INTEGER, budget INTEGER, left INTEGER, lanes INTEGER, boot INTEGER,"
    "  until_wall_ms INTEGER, until_boot_ms INTEGER, wall_ms INTEGER, PRIMARY KEY (account, budget))"
    "  WITHOUT ROWID;"
    /* run: the last start in which anything named it. trim_*: events up to it are gone, though some may
     * still have a row. */
    "CREATE TABLE stream (id INTEGER PRIMARY KEY, name TEXT UNIQUE, run INTEGER, trim_epoch INTEGER,"
    "  trim_offset INTEGER, trim_kind INTEGER);"
    "CREATE INDEX stream_trim ON stream (id) WHERE trim_epoch IS NOT NULL;"
    "CREATE TABLE epoch (stream INTEGER, epoch INTEGER, after INTEGER, last INTEGER,"
    "  PRIMARY KEY (stream, epoch)) WITHOUT ROWID;"
    /* tie: 0 for a frame; a gap's hash, because several may follow one frame. */
    "CREATE TABLE event (id INTEGER PRIMARY KEY, stream INTEGER, epoch INTEGER, offset INTEGER,"
    "  kind INTEGER, tie INTEGER, wall_ms INTEGER, line BLOB);"
    "CREATE UNIQUE INDEX event_place ON event (stream, epoch, offset, kind, tie);"
    "CREATE TABLE consumer (name TEXT PRIMARY KEY, patterns BLOB, wall_ms INTEGER) WITHOUT ROWID;"
    "CREATE TABLE cursor (consumer TEXT, stream INTEGER, epoch INTEGER, offset INTEGER, wall_ms INTEGER,"
    "  PRIMARY KEY (consumer, stream)) WITHOUT ROWID;"
    "CREATE INDEX cursor_stream ON cursor (stream, epoch);"
    "CREATE TABLE seen (stream INTEGER, key_high INTEGER, key_low INTEGER, offset INTEGER,"
    "  wall_ms INTEGER, until_wall_ms INTEGER, PRIMARY KEY (stream, key_high, key_low)) WITHOUT ROWID;"
    "CREATE INDEX seen_until ON seen (until_wall_ms);"
    "CREATE TABLE journal (id INTEGER PRIMARY KEY, connection TEXT, wall_ms INTEGER, tie INTEGER,"
    "  json BLOB);"
    "CREATE UNIQUE INDEX journal_place ON journal (wall_ms, tie);",
};
_Static_assert(sizeof schema_steps / sizeof *schema_steps == STORE_SCHEMA_VERSION, "a step a version");

static int number(sqlite3 *db, const char *sql, int64_t *out);

enum schema_kind schema_look(sqlite3 *db, uint32_t *version, int *rc_out)
{
    int64_t application = 0, tables = 0, has_meta = 0, found = 0;
    *version = 0;
    *rc_out = number(db, "PRAGMA application_id", &application);
    if (*rc_out == SQLITE_OK) *rc_out = number(db, "SELECT count(*) FROM sqlite_schema", &tables);
    if (*rc_out != SQLITE_OK) return SCHEMA_UNREADABLE;
    if (application != SCHEMA_APPLICATION_ID)
        return application == 0 && tables == 0 ? SCHEMA_EMPTY : SCHEMA_FOREIGN;
    *rc_out = number(db, "SELECT count(*) FROM sqlite_schema WHERE type = 'table' AND name = 'meta'",
                     &has_meta);
    if (*rc_out == SQLITE_OK && has_meta)
        *rc_out = number(db, "SELECT value FROM meta WHERE name = 'schema_version'", &found);
    if (*rc_out != SQLITE_OK) return SCHEMA_UNREADABLE;
    *version = found < 0 || found > UINT32_MAX ? UINT32_MAX : (uint32_t)found;
    return SCHEMA_OURS;
}

int schema_migrate(sqlite3 *db, uint32_t version, const char *const *steps, uint32_t target)
{
    char note[160];
    ASSERT(version <= target);
    if (version == target) return SQLITE_OK;
    int rc = sqlite3_exec(db, "BEGIN IMMEDIATE", NULL, NULL, NULL);
    if (rc != SQLITE_OK) return rc;
    for (uint32_t v = version; v < target && rc == SQLITE_OK; v++)
        rc = sqlite3_exec(db, steps[v], NULL, NULL, NULL);
    snprintf(note, sizeof note,
             "INSERT OR REPLACE INTO meta VALUES ('schema_version', %u);"
             "PRAGMA application_id = " NUMBER(SCHEMA_APPLICATION_ID), target);
    if (rc == SQLITE_OK) rc = sqlite3_exec(db, note, NULL, NULL, NULL);
    if (rc == SQLITE_OK) rc = sqlite3_exec(db, "COMMIT", NULL, NULL, NULL);
    if (rc == SQLITE_OK) return rc;
    int why = sqlite3_extended_errcode(db);
    if (!sqlite3_get_autocommit(db)) sqlite3_exec(db, "ROLLBACK", NULL, NULL, NULL);
    return why == SQLITE_OK ? rc : why;
}

/* The first column of the first row; 0 when there is none. */
static int number(sqlite3 *db, const char *sql, int64_t *out)
{
    sqlite3_stmt *s = NULL;
    int rc = sqlite3_prepare_v2(db, sql, -1, &s, NULL);
    if (rc == SQLITE_OK) rc = sqlite3_step(s);
    *out = rc == SQLITE_ROW ? sqlite3_column_int64(s, 0) : 0;
    if (rc == SQLITE_ROW || rc == SQLITE_DONE) rc = SQLITE_OK;
    sqlite3_finalize(s);
    return rc;
}
