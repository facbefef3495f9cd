#include "services/gateway/db_internal.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static int open_one(struct wv_db **ret, const char *url, bool reader, char reason[WV_DB_REASON_BYTES])
{
    static const char sqlite[] = "sqlite:";
    char unused[WV_DB_REASON_BYTES];
    char *why = reason ? reason : unused;
    why[0] = 0;
    if (!strncmp(url, sqlite, sizeof sqlite - 1))
        return wv_db_sqlite_open(ret, url + sizeof sqlite - 1, reader, why);
    if (!strncmp(url, "postgresql://", 13) || !strncmp(url, "postgres://", 11))
        return wv_db_postgres_open(ret, url, reader, why);
    snprintf(why, WV_DB_REASON_BYTES,
             "the database must be sqlite:PATH or postgresql://..., and this begins with neither");
    return -EINVAL;
}

int wv_db_open(struct wv_db **ret, const char *url, char reason[WV_DB_REASON_BYTES])
{
    return open_one(ret, url, false, reason);
}

int wv_db_open_reader(struct wv_db **ret, const char *url, char reason[WV_DB_REASON_BYTES])
{
    return open_one(ret, url, true, reason);
}

struct wv_db *wv_db_close(struct wv_db *db)
{
    if (db)
        db->driver->close(db);
    return NULL;
}

const char *wv_db_kind(const struct wv_db *db)
{
    return db->driver->kind;
}

const char *wv_db_reason(const struct wv_db *db)
{
    return db->reason;
}

int wv_db_run(struct wv_db *db, const char *sql, const struct wv_db_value *args, size_t n_args,
              wv_db_row_fn row, void *userdata, uint64_t *ret_changed)
{
    uint64_t changed = 0;
    if (n_args > WV_DB_ARGS_MAX)
        return -EINVAL;
    if (db->depth && db->undone)
        return -ECANCELED; /* it would be done on its own, outside of the transaction that is over */
    int r = db->driver->run(db, sql, args, n_args, row, userdata, &changed);
    if (db->depth)
        db->undone = r < 0;
    if (r >= 0 && changed && db->depth)
        db->changed = true;
    else if (r >= 0 && changed)
        db->writes++;
    if (ret_changed)
        *ret_changed = r < 0 ? 0 : changed;
    return r;
}

static int simply(struct wv_db *db, const char *sql)
{
    return wv_db_run(db, sql, NULL, 0, NULL, NULL, NULL);
}

static int begin(struct wv_db *db, const char *statement)
{
    int r = simply(db, statement);
    db->in_transaction = r == 0;
    db->depth = r == 0;
    db->undone = db->changed = false;
    return r;
}

int wv_db_begin(struct wv_db *db)
{
    if (!db->depth)
        return begin(db, db->driver->begin);
    db->depth++;
    return 0;
}

int wv_db_commit(struct wv_db *db)
{
    if (db->depth > 1 && !db->undone) {
        db->depth--;
        return 0;
    }
    int r = simply(db, "COMMIT");
    if (r < 0) {
        wv_db_rollback(db);
        return r;
    }
    db->writes += db->changed;
    db->in_transaction = false;
    db->depth = 0;
    return 0;
}

uint64_t wv_db_writes(const struct wv_db *db)
{
    return db->writes;
}

/* The reason of what went wrong is worth more than one of the rollback. */
void wv_db_rollback(struct wv_db *db)
{
    char reason[WV_DB_REASON_BYTES];
    if (!db->depth)
        return;
    db->undone = true;
    db->depth--;
    if (!db->in_transaction)
        return;
    memcpy(reason, db->reason, sizeof reason);
    (void)db->driver->run(db, "ROLLBACK", NULL, 0, NULL, NULL, &(uint64_t){0});
    db->in_transaction = false;
    memcpy(db->reason, reason, sizeof reason);
}

static int take_number(void *userdata, const struct wv_db_value *row, size_t n)
{
    if (n != 1 || row->type != WV_DB_INT || row->integer < 0)
        return -EBADMSG;
    *(uint64_t *)userdata = (uint64_t)row->integer;
    return 0;
}

int wv_db_version(struct wv_db *db, uint64_t *ret_version)
{
    *ret_version = 0;
    int r = simply(db, "CREATE TABLE IF NOT EXISTS schema_version (version BIGINT NOT NULL)");
    if (r < 0)
        return r;
    return wv_db_run(db, "SELECT max(version) FROM schema_version HAVING count(*) > 0", NULL, 0, take_number,
                     ret_version, NULL);
}

static int migrate_once(struct wv_db *db, const char *const *migrations, size_t n, bool *ret_done)
{
    uint64_t version;
    if (db->driver->lock_schema) {
        int r = simply(db, db->driver->lock_schema);
        if (r < 0)
            return r;
    }
    int r = wv_db_version(db, &version);
    if (r < 0)
        return r;
    if (version > n) {
        snprintf(db->reason, sizeof db->reason,
                 "the database has schema %llu and this program knows %zu: it was used by a newer version",
                 (unsigned long long)version, n);
        return -ENOTSUP;
    }
    *ret_done = version == n;
    if (*ret_done)
        return 0;
    r = simply(db, migrations[version]);
    if (r == 0)
        r = wv_db_run(db, "INSERT INTO schema_version (version) VALUES ($1)",
                      WV_DB_ARGS(WV_DB_I(version + 1)), 1, NULL, NULL, NULL);
    return r;
}

int wv_db_migrate(struct wv_db *db, const char *const *migrations, size_t n)
{
    bool done = false;
    while (!done) {
        int r = begin(db, db->driver->begin_schema);
        if (r < 0)
            return r;
        r = migrate_once(db, migrations, n, &done);
        if (r < 0) {
            wv_db_rollback(db);
            return r;
        }
        r = wv_db_commit(db);
        if (r < 0)
            return r;
    }
    return 0;
}

int wv_db_backup(struct wv_db *db, const char *path)
{
    if (db->driver->backup)
        return db->driver->backup(db, path);
    snprintf(db->reason, sizeof db->reason, "a %s database is backed up by its own tool: pg_dump",
             db->driver->kind);
    return -ENOTSUP;
}
