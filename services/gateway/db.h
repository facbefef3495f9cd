/* One door to a database, with two behind it: SQLite (a file, WAL) and PostgreSQL. The SQL is written once,
 * in the part that both understand, with $1, $2 ... for values: no text of anybody's ever becomes SQL.
 * Synchronous; used from one thread at a time. Must never report a write as done that a crash of this process
 * or of the server could undo. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define WV_DB_REASON_BYTES 256
#define WV_DB_ARGS_MAX     16
#define WV_DB_COLUMNS_MAX  16

struct wv_db;

enum wv_db_type { WV_DB_NULL, WV_DB_INT, WV_DB_TEXT, WV_DB_BYTES };

/* An argument of a statement, or a column of a row (then valid until the row callback returns). */
struct wv_db_value {
    enum wv_db_type type;
    int64_t integer;
    const void *data; /* TEXT: UTF-8, not NUL-terminated as an argument, NUL-terminated in a row; BYTES */
    size_t len;
};

#define WV_DB_I(v)      ((struct wv_db_value){.type = WV_DB_INT, .integer = (int64_t)(v)})
#define WV_DB_T(s)      ((struct wv_db_value){.type = WV_DB_TEXT, .data = (s), .len = strlen(s)})
#define WV_DB_B(p, n)   ((struct wv_db_value){.type = WV_DB_BYTES, .data = (p), .len = (n)})
#define WV_DB_NONE      ((struct wv_db_value){.type = WV_DB_NULL})
#define WV_DB_ARGS(...) ((const struct wv_db_value[]){__VA_ARGS__})

/* Row of N columns. Returning anything but 0 ends the statement with that value. */
typedef int (*wv_db_row_fn)(void *userdata, const struct wv_db_value *row, size_t n);

/* URL: "sqlite:PATH" (made when absent, 0600) or a libpq connection URI "postgresql://...". REASON (may be
 * NULL) says in a sentence what is wrong and what to do. Returns 0 or a negative errno: -EACCES, -ENOENT (no
 * such folder or database), -ECONNREFUSED (no server), -EINVAL (URL; also of a database that has no
 * write-ahead log, as one in memory), -EBADMSG (the file is no database). */
int wv_db_open(struct wv_db **ret, const char *url, char reason[WV_DB_REASON_BYTES]);
/* The same for one who only reads, beside another who has it open to write and outlives this one: a statement
 * sees all that was committed before it began, and waits for no writer. With SQLite every other statement is
 * refused (-EROFS); with PostgreSQL it is one more connection, and what it is lost over is asked again. */
int wv_db_open_reader(struct wv_db **ret, const char *url, char reason[WV_DB_REASON_BYTES]);
struct wv_db *wv_db_close(struct wv_db *db);
const char *wv_db_kind(const struct wv_db *db); /* "sqlite", "postgresql" */

/* Runs one statement, a string literal: it is known again by its address. ROW may be NULL. RET_CHANGED (may
 * be NULL): rows that were inserted, updated or deleted. Outside of wv_db_begin() it is a transaction of its
 * own and durable when this returns 0. Returns 0, what ROW returned, or -EEXIST  a UNIQUE or PRIMARY KEY rule
 * -ENOENT (a FOREIGN KEY rule), -EINVAL (the statement itself, or a CHECK), -EROFS (read-only), -ENOSPC (no
 * room), -EBUSY (held by another for too long, or a conflict with one: again), -ENOTCONN (the server is gone;
 * the next call connects anew), -ESTALE (SQLite's file was taken away or replaced), -EIO (all else). The
 * sentence is wv_db_reason(). */
int wv_db_run(struct wv_db *db, const char *sql, const struct wv_db_value *args, size_t n_args,
              wv_db_row_fn row, void *userdata, uint64_t *ret_changed);
const char *wv_db_reason(const struct wv_db *db);

/* A transaction that writes; SQLite takes the write lock at once, so that it can't fail half-way for that.
 * Every error of wv_db_run() inside leaves nothing but wv_db_rollback() to do. Same errors. It may be begun
 * again inside of itself: then the outermost commit counts, and one rollback anywhere undoes all of it. */
int wv_db_begin(struct wv_db *db);
int wv_db_commit(struct wv_db *db);
void wv_db_rollback(struct wv_db *db);
/* How many changes were made durable since it was opened: when it grows, the database takes writes. */
uint64_t wv_db_writes(const struct wv_db *db);

/* Brings the schema from where it is to the newest: MIGRATIONS[i] leads from version i to i + 1, each in a
 * transaction of its own with the new number; two programs that start together do it once. Returns 0,
 * -ENOTSUP (the database is of a newer program), or an error of wv_db_run(). */
int wv_db_migrate(struct wv_db *db, const char *const *migrations, size_t n);
int wv_db_version(struct wv_db *db, uint64_t *ret_version);

/* A copy of the whole database at PATH (which must not exist) while it is in use. SQLite only: -ENOTSUP for
 * PostgreSQL, whose own pg_dump does it. */
int wv_db_backup(struct wv_db *db, const char *path);
