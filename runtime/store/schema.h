/* Schema: the tables of a store, as steps from one version to the next, and what runs them. Each version is
 * reached from the one before by SQL alone; all steps that a file needs are one transaction.
 *
 * To change a table: one more entry in schema_steps (schema.c), STORE_SCHEMA_VERSION in core.h, and a test
 * that migrates a file of the version before. A step that was released is never edited. */
#ifndef HOLDFAST_STORE_SCHEMA_H
#define HOLDFAST_STORE_SCHEMA_H

#include <sqlite3.h>
#include <stdbool.h>
#include <stdint.h>

#define SCHEMA_APPLICATION_ID 0x48664b31 /* PRAGMA application_id: a store of holdfast */

/* steps[n] leads from version n to n + 1. */
extern const char *const schema_steps[];

enum schema_kind {
    SCHEMA_EMPTY,   /* a file without tables, of nobody */
    SCHEMA_OURS,    /* `version` is set; 0 for a file from before versions */
    SCHEMA_FOREIGN, /* somebody else's database */
    SCHEMA_UNREADABLE, /* *rc_out tells */
};
enum schema_kind schema_look(sqlite3 *db, uint32_t *version, int *rc_out);

/* From `version` to `target` in one transaction, the version's number included. An SQLite result code; after
 * a failure the file is as it was. */
int schema_migrate(sqlite3 *db, uint32_t version, const char *const *steps, uint32_t target);

#endif
