/* SQLite: one file beside its write-ahead log. Statements are prepared once and kept. */
#include "services/gateway/db_internal.h"

#include "lib/base/util.h"

#include <errno.h>
#include <fcntl.h>
#include <sqlite3.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#define STATEMENTS 128
#define BUSY_MS    5000
#define READER_MS  10 /* what a reader of this process is waited for */

struct sqlite {
    struct wv_db base;
    sqlite3 *handle;
    char *path;
    struct {
        const char *sql; /* literals: the address is enough to know one again */
        sqlite3_stmt *statement;
    } cache[STATEMENTS];
    size_t n_cache;
    bool tight; /* there was no room for the last change */
};

/* What the kernel said when a file could not be written. EFBIG: a limit of the process. */
static int error_of_system(int number)
{
    switch (number) {
    case ENOSPC:
    case EDQUOT:
    case EFBIG:
        return -ENOSPC;
    case EROFS:
    case EPERM:
    case EACCES:
        return -EROFS;
    default:
        return -EIO;
    }
}

static int error_of(int extended, int system)
{
    switch (extended) {
    case SQLITE_IOERR_SHMSIZE:
        return -ENOSPC; /* the index of the log has no room to grow */
    case SQLITE_CONSTRAINT_UNIQUE:
    case SQLITE_CONSTRAINT_PRIMARYKEY:
        return -EEXIST;
    case SQLITE_CONSTRAINT_FOREIGNKEY:
        return -ENOENT;
    }
    switch (extended & 0xff) {
    case SQLITE_CONSTRAINT:
    case SQLITE_ERROR:
    case SQLITE_MISMATCH:
    case SQLITE_RANGE:
    case SQLITE_TOOBIG:
        return -EINVAL;
    case SQLITE_READONLY:
        return -EROFS;
    case SQLITE_FULL:
        return -ENOSPC;
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
        return -EBUSY;
    case SQLITE_CANTOPEN:
        return error_of_system(system) == -EIO ? -ENOENT : error_of_system(system);
    case SQLITE_PERM:
    case SQLITE_AUTH:
        return -EACCES;
    case SQLITE_NOTADB:
    case SQLITE_CORRUPT:
        return -EBADMSG;
    case SQLITE_NOMEM:
        return -ENOMEM;
    case SQLITE_IOERR:
        return error_of_system(system);
    default:
        return -EIO;
    }
}

/* What the library was told is mostly gone by now: its disk is looked at. */
static int diagnose(const struct sqlite *s, int extended)
{
    int primary = extended & 0xff, system = sqlite3_system_errno(s->handle);
    int r = error_of(extended, system);
    struct statvfs disk;
    if ((primary != SQLITE_IOERR && primary != SQLITE_CANTOPEN) || r == -ENOSPC || r == -EROFS ||
        statvfs(s->path, &disk) < 0)
        return r;
    return disk.f_flag & ST_RDONLY ? -EROFS : disk.f_bavail == 0 ? -ENOSPC : r;
}

static int failed(struct sqlite *s)
{
    int r = diagnose(s, sqlite3_extended_errcode(s->handle));
    s->tight = s->tight || r == -ENOSPC;
    snprintf(s->base.reason, sizeof s->base.reason, "%s: %s", s->path, sqlite3_errmsg(s->handle));
    return r;
}

/* On a full disk the log may hold what would fit into the database: it is emptied before more is asked for.
 */
static void make_room(struct sqlite *s)
{
    s->tight = false;
    sqlite3_busy_timeout(s->handle, READER_MS); /* who reads for longer is not waited for */
    (void)sqlite3_wal_checkpoint_v2(s->handle, "main", SQLITE_CHECKPOINT_TRUNCATE, NULL, NULL);
    sqlite3_busy_timeout(s->handle, BUSY_MS);
}

/* Whether the file is still where it was opened. What is written to one that was taken away is lost with this
 * process, however durable it is there. */
static int check_place(struct sqlite *s)
{
    int moved = 0;
    (void)sqlite3_file_control(s->handle, "main", SQLITE_FCNTL_HAS_MOVED, &moved);
    if (!moved)
        return 0;
    snprintf(s->base.reason, sizeof s->base.reason,
             "%s: the file was moved, removed or replaced while it was in use; start the gateway again",
             s->path);
    return -ESTALE;
}

/* A statement that is not a literal of this program must not come here twice with another text at its
 * address. The schema's are run once each and are not kept. */
static int prepare(struct sqlite *s, const char *sql, sqlite3_stmt **ret, bool *ret_kept)
{
    *ret_kept = true;
    for (size_t i = 0; i < s->n_cache; i++)
        if (s->cache[i].sql == sql) {
            *ret = s->cache[i].statement;
            return 0;
        }
    if (sqlite3_prepare_v3(s->handle, sql, -1, SQLITE_PREPARE_PERSISTENT, ret, NULL) != SQLITE_OK)
        return failed(s);
    *ret_kept = s->n_cache < STATEMENTS;
    if (*ret_kept) {
        s->cache[s->n_cache].sql = sql;
        s->cache[s->n_cache++].statement = *ret;
    }
    return 0;
}

static int bind(struct sqlite *s, sqlite3_stmt *statement, const struct wv_db_value *args, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        char name[24];
        snprintf(name, sizeof name, "$%zu", i + 1);
        int at = sqlite3_bind_parameter_index(statement, name), r = SQLITE_OK;
        if (!at) {
            snprintf(s->base.reason, sizeof s->base.reason, "the statement has no place for value %zu",
                     i + 1);
            return -EINVAL;
        }
        const void *data = args[i].data ? args[i].data : "";
        if (args[i].type == WV_DB_INT)
            r = sqlite3_bind_int64(statement, at, args[i].integer);
        else if (args[i].type == WV_DB_TEXT)
            r = sqlite3_bind_text64(statement, at, data, args[i].len, SQLITE_STATIC, SQLITE_UTF8);
        else if (args[i].type == WV_DB_BYTES)
            r = sqlite3_bind_blob64(statement, at, data, args[i].len, SQLITE_STATIC);
        if (r != SQLITE_OK)
            return failed(s);
    }
    return 0;
}

static size_t read_row(sqlite3_stmt *statement, struct wv_db_value row[WV_DB_COLUMNS_MAX])
{
    size_t n = WV_MIN((size_t)sqlite3_column_count(statement), (size_t)WV_DB_COLUMNS_MAX);
    for (size_t i = 0; i < n; i++) {
        int at = (int)i;
        row[i] = (struct wv_db_value){.type = WV_DB_NULL};
        switch (sqlite3_column_type(statement, at)) {
        case SQLITE_INTEGER:
            row[i] = WV_DB_I(sqlite3_column_int64(statement, at));
            break;
        case SQLITE_TEXT:
            row[i] = (struct wv_db_value){.type = WV_DB_TEXT, .data = sqlite3_column_text(statement, at)};
            row[i].len = (size_t)sqlite3_column_bytes(statement, at);
            break;
        case SQLITE_BLOB:
            row[i] = (struct wv_db_value){.type = WV_DB_BYTES, .data = sqlite3_column_blob(statement, at)};
            row[i].len = (size_t)sqlite3_column_bytes(statement, at);
            break;
        }
    }
    return n;
}

static int step_all(struct sqlite *s, sqlite3_stmt *statement, wv_db_row_fn row, void *userdata)
{
    struct wv_db_value columns[WV_DB_COLUMNS_MAX];
    for (;;) {
        int r = sqlite3_step(statement);
        if (r == SQLITE_DONE)
            return 0;
        if (r != SQLITE_ROW)
            return failed(s);
        if (!row)
            continue;
        size_t n = read_row(statement, columns);
        r = row(userdata, columns, n);
        if (r != 0)
            return r;
    }
}

/* Several statements, without values: a migration. */
static int run_script(struct sqlite *s, const char *sql)
{
    int r = check_place(s);
    return r < 0 ? r : sqlite3_exec(s->handle, sql, NULL, NULL, NULL) == SQLITE_OK ? 0 : failed(s);
}

static int run(struct wv_db *db, const char *sql, const struct wv_db_value *args, size_t n_args,
               wv_db_row_fn row, void *userdata, uint64_t *ret_changed)
{
    struct sqlite *s = (struct sqlite *)db;
    sqlite3_stmt *statement;
    bool kept;
    if (!row && n_args == 0 && strchr(sql, ';'))
        return run_script(s, sql);
    int r = prepare(s, sql, &statement, &kept);
    if (r < 0)
        return r;
    bool writes = !sqlite3_stmt_readonly(statement); /* or takes the lock for that */
    int64_t before = sqlite3_total_changes64(s->handle);
    r = writes ? check_place(s) : 0;
    if (writes && s->tight && !db->in_transaction)
        make_room(s);
    if (r == 0)
        r = bind(s, statement, args, n_args);
    if (r == 0)
        r = step_all(s, statement, row, userdata);
    if (r == 0 && sqlite3_total_changes64(s->handle) != before)
        *ret_changed = (uint64_t)sqlite3_changes64(s->handle);
    sqlite3_reset(statement);
    sqlite3_clear_bindings(statement);
    if (!kept)
        sqlite3_finalize(statement);
    return r;
}

static int backup(struct wv_db *db, const char *path)
{
    struct sqlite *s = (struct sqlite *)db;
    sqlite3 *copy = NULL;
    int fd = open(path, O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0600);
    if (fd < 0) {
        snprintf(db->reason, sizeof db->reason, "%s: %s", path, strerror(errno));
        return -errno;
    }
    close(fd);
    int r = sqlite3_open_v2(path, &copy, SQLITE_OPEN_READWRITE, NULL);
    sqlite3_backup *job = r == SQLITE_OK ? sqlite3_backup_init(copy, "main", s->handle, "main") : NULL;
    /* All pages in one step: readers go on, and no writer can make it begin anew. */
    if (job)
        sqlite3_backup_step(job, -1);
    if (job)
        r = sqlite3_backup_finish(job);
    if (r == SQLITE_OK && job) {
        sqlite3_close(copy);
        return 0;
    }
    snprintf(db->reason, sizeof db->reason, "%s: %s", path, copy ? sqlite3_errmsg(copy) : "no memory");
    r = error_of(copy ? sqlite3_extended_errcode(copy) : SQLITE_NOMEM, copy ? sqlite3_system_errno(copy) : 0);
    sqlite3_close(copy);
    unlink(path);
    return r;
}

static void close_sqlite(struct wv_db *db)
{
    struct sqlite *s = (struct sqlite *)db;
    for (size_t i = 0; i < s->n_cache; i++)
        sqlite3_finalize(s->cache[i].statement);
    sqlite3_close(s->handle);
    free(s->path);
    free(s);
}

static const struct wv_db_driver driver = {
    .kind = "sqlite",
    .run = run,
    .begin = "BEGIN IMMEDIATE",
    .begin_schema = "BEGIN IMMEDIATE",
    .backup = backup,
    .close = close_sqlite,
};

/* FULL: what was committed survives the power, too. */
static const char settings[] = "PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON; "
                               "PRAGMA trusted_schema = OFF; PRAGMA cell_size_check = ON;";

static int read_mode(void *userdata, int n, char **values, char **names)
{
    *(bool *)userdata = n == 1 && values[0] && !strcmp(values[0], "wal");
    return 0;
}

/* A reader finds the file as its writer has left it: in this mode, which the file itself remembers. */
static int set_up(struct sqlite *s, bool reader, bool *ret_wal)
{
    sqlite3_extended_result_codes(s->handle, 1);
    sqlite3_busy_timeout(s->handle, BUSY_MS);
    /* It opens one for reading without a word when it can't for writing. */
    if (!reader && sqlite3_db_readonly(s->handle, "main") != 0)
        return SQLITE_READONLY;
    int r = sqlite3_exec(s->handle, reader ? "PRAGMA journal_mode" : "PRAGMA journal_mode = WAL", read_mode,
                         ret_wal, NULL);
    return r == SQLITE_OK ? sqlite3_exec(s->handle, settings, NULL, NULL, NULL) : r;
}

static int open_file(struct sqlite *s, bool reader)
{
    int how = reader ? SQLITE_OPEN_READONLY : SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE;
    bool wal = false;
    mode_t old = umask(077);
    int r = sqlite3_open_v2(s->path, &s->handle, how | SQLITE_OPEN_NOMUTEX, NULL);
    if (r == SQLITE_OK)
        r = set_up(s, reader, &wal);
    umask(old);
    if (r == SQLITE_OK && wal)
        return 0;
    if (r == SQLITE_OK) {
        snprintf(s->base.reason, sizeof s->base.reason,
                 "%s: the database needs a file on a file system that can hold its write-ahead log", s->path);
        return -EINVAL;
    }
    if (r == SQLITE_READONLY) {
        snprintf(s->base.reason, sizeof s->base.reason, "%s: the file can't be written", s->path);
        return -EROFS;
    }
    if (!s->handle)
        return -ENOMEM;
    return failed(s);
}

int wv_db_sqlite_open(struct wv_db **ret, const char *path, bool reader, char reason[WV_DB_REASON_BYTES])
{
    if (!*path) {
        snprintf(reason, WV_DB_REASON_BYTES, "sqlite: needs the path of a file behind it");
        return -EINVAL;
    }
    struct sqlite *s = calloc(1, sizeof *s);
    if (s)
        s->path = strdup(path);
    if (!s || !s->path) {
        free(s);
        return -ENOMEM;
    }
    s->base.driver = &driver;
    int r = open_file(s, reader);
    if (r < 0) {
        snprintf(reason, WV_DB_REASON_BYTES, "%s", s->base.reason);
        close_sqlite(&s->base);
        return r;
    }
    *ret = &s->base;
    return 0;
}
