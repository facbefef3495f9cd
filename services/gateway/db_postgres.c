/* PostgreSQL through libpq: one connection, made anew when it is lost. Statements are prepared once for each
 * connection. A commit whose answer never came is reported as failed: whoever asked must not be told that it
 * was done. */
#include "services/gateway/db_internal.h"

#include "lib/base/util.h"

#include <errno.h>
#include <libpq-fe.h>
#include <stdio.h>
#include <string.h>

#define STATEMENTS    128
#define NUMBER_BYTES  24
#define OID_BYTEA     17
#define OID_INT8      20
#define OID_INT2      21
#define OID_INT4      23
#define OID_NUMERIC   1700 /* what sum() of integers gives */
#define CONNECT_LIMIT "5"
#define RENEW_NS      WV_NS_PER_S

struct postgres {
    struct wv_db base;
    char *url;
    PGconn *connection; /* NULL or bad: connected anew by the next statement outside of a transaction */
    bool reader;        /* what it asks may be asked twice */
    uint64_t connected_ns;
    bool read_only; /* so it said; connected anew now and then, for another server may be the one by now */
    const char *prepared[STATEMENTS];
    size_t n_prepared;
};

struct state {
    const char *sqlstate; /* a prefix */
    int error;
};

static int error_of(const char *sqlstate)
{
    static const struct state states[] = {
        {"23505", -EEXIST}, {"23503", -ENOENT}, {"23", -EINVAL},    {"25006", -EROFS},  {"53100", -ENOSPC},
        {"40", -EBUSY},     {"55P03", -EBUSY},  {"57014", -EBUSY},  {"42501", -EACCES}, {"42", -EINVAL},
        {"22", -EINVAL},    {"25P02", -EINVAL}, {"57P", -ENOTCONN}, {"08", -ENOTCONN},  {"53300", -EBUSY},
        {"28", -EACCES},    {"3D000", -ENOENT}, {"53200", -ENOMEM},
    };
    if (!sqlstate)
        return -ENOTCONN;
    for (size_t i = 0; i < WV_ARRAY_SIZE(states); i++)
        if (!strncmp(sqlstate, states[i].sqlstate, strlen(states[i].sqlstate)))
            return states[i].error;
    return -EIO;
}

/* libpq's messages have several lines. */
static void say(char reason[WV_DB_REASON_BYTES], const char *message)
{
    snprintf(reason, WV_DB_REASON_BYTES, "%.*s", (int)strcspn(message, "\n"), message);
}

static int failed(struct postgres *p, const PGresult *result)
{
    if (PQstatus(p->connection) != CONNECTION_OK) {
        say(p->base.reason, PQerrorMessage(p->connection));
        return -ENOTCONN;
    }
    say(p->base.reason, result ? PQresultErrorMessage(result) : PQerrorMessage(p->connection));
    int r = error_of(result ? PQresultErrorField(result, PG_DIAG_SQLSTATE) : NULL);
    p->read_only = p->read_only || r == -EROFS;
    return r;
}

static void drop_notice(void *unused, const char *message)
{
}

/* As the server tells without being asked (PostgreSQL 14 and later). */
static bool says_read_only(PGconn *connection)
{
    const char *by_default = PQparameterStatus(connection, "default_transaction_read_only");
    const char *standby = PQparameterStatus(connection, "in_hot_standby");
    return (by_default && !strcmp(by_default, "on")) || (standby && !strcmp(standby, "on"));
}

static int connect_error(const char *message)
{
    if (strstr(message, "does not exist"))
        return -ENOENT;
    if (strstr(message, "authentication failed") || strstr(message, "no pg_hba.conf entry"))
        return -EACCES;
    return -ECONNREFUSED;
}

/* A server that hangs must not hang us: statements and locks have their limits there, the connection its
 * keepalives. */
static int connect_now(struct postgres *p)
{
    static const char *const names[] = {"dbname",  "connect_timeout",  "client_encoding", "application_name",
                                        "options", "tcp_user_timeout", "keepalives_idle", NULL};
    const char *values[] = {p->url,
                            CONNECT_LIMIT,
                            "UTF8",
                            "wavry-gateway",
                            "-c statement_timeout=5000 -c lock_timeout=3000 -c synchronous_commit=on",
                            "5000",
                            "5",
                            NULL};
    PQfinish(p->connection);
    p->n_prepared = 0;
    p->connected_ns = wv_now_ns();
    p->connection = PQconnectdbParams(names, values, 1);
    if (!p->connection)
        return -ENOMEM;
    PQsetNoticeProcessor(p->connection, drop_notice, NULL);
    if (PQstatus(p->connection) == CONNECTION_OK) {
        p->read_only = says_read_only(p->connection);
        return 0;
    }
    say(p->base.reason, PQerrorMessage(p->connection));
    return connect_error(PQerrorMessage(p->connection));
}

static int connected(struct postgres *p)
{
    bool stale = p->read_only && !p->base.in_transaction && wv_now_ns() - p->connected_ns >= RENEW_NS;
    if (p->connection && PQstatus(p->connection) == CONNECTION_OK && !stale)
        return 0;
    if (p->base.in_transaction) {
        snprintf(p->base.reason, sizeof p->base.reason, "the server was lost within a transaction");
        return -ENOTCONN;
    }
    return connect_now(p) < 0 ? -ENOTCONN : 0;
}

static int prepare(struct postgres *p, const char *sql, char name[NUMBER_BYTES])
{
    size_t i = 0;
    while (i < p->n_prepared && p->prepared[i] != sql)
        i++;
    snprintf(name, NUMBER_BYTES, "s%zu", i);
    if (i < p->n_prepared)
        return 0;
    if (i == STATEMENTS)
        return -EINVAL;
    PGresult *result = PQprepare(p->connection, name, sql, 0, NULL);
    int r = PQresultStatus(result) == PGRES_COMMAND_OK ? 0 : failed(p, result);
    PQclear(result);
    if (r == 0)
        p->prepared[p->n_prepared++] = sql;
    return r;
}

/* Text goes to libpq NUL-terminated; bytes go as they are. */
struct parameters {
    const char *values[WV_DB_ARGS_MAX];
    int lengths[WV_DB_ARGS_MAX], formats[WV_DB_ARGS_MAX];
    char numbers[WV_DB_ARGS_MAX][NUMBER_BYTES];
    char *texts[WV_DB_ARGS_MAX];
};

static void parameters_free(struct parameters *q)
{
    for (size_t i = 0; i < WV_DB_ARGS_MAX; i++)
        free(q->texts[i]);
}

static int parameters_set(struct parameters *q, const struct wv_db_value *args, size_t n)
{
    memset(q, 0, sizeof *q);
    for (size_t i = 0; i < n; i++) {
        q->lengths[i] = (int)args[i].len;
        q->formats[i] = args[i].type == WV_DB_BYTES;
        if (args[i].type == WV_DB_INT) {
            snprintf(q->numbers[i], NUMBER_BYTES, "%lld", (long long)args[i].integer);
            q->values[i] = q->numbers[i];
        } else if (args[i].type == WV_DB_BYTES) {
            q->values[i] = args[i].data ? args[i].data : "";
        } else if (args[i].type == WV_DB_TEXT) {
            /* A NUL can't be in PostgreSQL's text, and cut text would be another one. */
            if (args[i].len && memchr(args[i].data, 0, args[i].len))
                return -EINVAL;
            q->texts[i] = strndup(args[i].data ? args[i].data : "", args[i].len);
            if (!q->texts[i])
                return -ENOMEM;
            q->values[i] = q->texts[i];
        }
    }
    return 0;
}

/* Columns of one row; BYTES are unescaped into memory that row_free() returns. */
static void read_row(const PGresult *result, int at, struct wv_db_value row[WV_DB_COLUMNS_MAX], size_t n)
{
    for (size_t i = 0; i < n; i++) {
        int column = (int)i;
        row[i] = (struct wv_db_value){.type = WV_DB_NULL};
        if (PQgetisnull(result, at, column))
            continue;
        const char *text = PQgetvalue(result, at, column);
        switch (PQftype(result, column)) {
        case OID_INT2:
        case OID_INT4:
        case OID_INT8:
        case OID_NUMERIC:
            row[i] = WV_DB_I(strtoll(text, NULL, 10));
            break;
        case OID_BYTEA:
            row[i].type = WV_DB_BYTES;
            row[i].data = PQunescapeBytea((const unsigned char *)text, &row[i].len);
            break;
        default:
            row[i] = WV_DB_T(text);
        }
    }
}

static void row_free(struct wv_db_value row[WV_DB_COLUMNS_MAX], size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (row[i].type == WV_DB_BYTES)
            PQfreemem((void *)row[i].data);
}

static int take_rows(const PGresult *result, wv_db_row_fn row, void *userdata)
{
    struct wv_db_value columns[WV_DB_COLUMNS_MAX];
    size_t n = WV_MIN((size_t)PQnfields(result), (size_t)WV_DB_COLUMNS_MAX);
    int r = 0;
    for (int i = 0; row && r == 0 && i < PQntuples(result); i++) {
        read_row(result, i, columns, n);
        r = row(userdata, columns, n);
        row_free(columns, n);
    }
    return r;
}

static PGresult *execute(struct postgres *p, const char *sql, const struct wv_db_value *args, size_t n_args,
                         int *ret)
{
    struct parameters q;
    char name[NUMBER_BYTES];
    PGresult *result = NULL;
    *ret = parameters_set(&q, args, n_args);
    if (*ret == 0 && n_args == 0)
        result = PQexec(p->connection, sql); /* also several statements: a migration */
    else if (*ret == 0 && (*ret = prepare(p, sql, name)) == 0)
        result = PQexecPrepared(p->connection, name, (int)n_args, q.values, q.lengths, q.formats, 0);
    else if (*ret == -EINVAL && !p->base.reason[0])
        snprintf(p->base.reason, sizeof p->base.reason, "a text holds a NUL");
    parameters_free(&q);
    return result;
}

static int run_once(struct postgres *p, const char *sql, const struct wv_db_value *args, size_t n_args,
                    wv_db_row_fn row, void *userdata, uint64_t *ret_changed)
{
    int r = connected(p);
    if (r < 0)
        return r;
    PGresult *result = execute(p, sql, args, n_args, &r);
    if (r < 0)
        return r;
    ExecStatusType status = PQresultStatus(result);
    if (status != PGRES_COMMAND_OK && status != PGRES_TUPLES_OK) {
        r = failed(p, result);
        PQclear(result);
        return r;
    }
    *ret_changed = strtoull(PQcmdTuples(result), NULL, 10);
    if (status == PGRES_TUPLES_OK && !strncmp(PQcmdStatus(result), "SELECT", 6))
        *ret_changed = 0;
    /* A COMMIT of a transaction that an error had ended says so, and is a rollback. */
    bool undone = !strcmp(sql, "COMMIT") && !strcmp(PQcmdStatus(result), "ROLLBACK");
    r = undone ? -EBUSY : take_rows(result, row, userdata);
    PQclear(result);
    return r;
}

/* That a server was restarted is found out by the next statement: a question need not fail for it. */
static int run(struct wv_db *db, const char *sql, const struct wv_db_value *args, size_t n_args,
               wv_db_row_fn row, void *userdata, uint64_t *ret_changed)
{
    struct postgres *p = (struct postgres *)db;
    int r = run_once(p, sql, args, n_args, row, userdata, ret_changed);
    if (r == -ENOTCONN && p->reader && !db->in_transaction && PQstatus(p->connection) != CONNECTION_OK)
        r = run_once(p, sql, args, n_args, row, userdata, ret_changed);
    return r;
}

static void close_postgres(struct wv_db *db)
{
    struct postgres *p = (struct postgres *)db;
    PQfinish(p->connection);
    free(p->url);
    free(p);
}

static const struct wv_db_driver driver = {
    .kind = "postgresql",
    .run = run,
    .begin = "BEGIN ISOLATION LEVEL READ COMMITTED", /* a standby, which can read, has no SERIALIZABLE */
    .begin_schema = "BEGIN ISOLATION LEVEL READ COMMITTED",
    .lock_schema = "SELECT pg_advisory_xact_lock(7733192640)",
    .close = close_postgres,
};

int wv_db_postgres_open(struct wv_db **ret, const char *url, bool reader, char reason[WV_DB_REASON_BYTES])
{
    struct postgres *p = calloc(1, sizeof *p);
    if (p)
        p->url = strdup(url);
    if (!p || !p->url) {
        free(p);
        return -ENOMEM;
    }
    p->base.driver = &driver;
    p->reader = reader;
    int r = connect_now(p);
    if (r < 0) {
        snprintf(reason, WV_DB_REASON_BYTES, "%s", p->base.reason);
        close_postgres(&p->base);
        return r;
    }
    *ret = &p->base;
    return 0;
}
