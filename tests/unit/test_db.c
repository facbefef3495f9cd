/* The database door: the same cases behind SQLite and, where WAVRY_TEST_POSTGRES names a server, behind
 * PostgreSQL. */
#include "lib/base/util.h"
#include "services/gateway/db.h"
#include "tests/unit/suite.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static char folder[] = "/tmp/wavry-db-XXXXXX", url[400], reason[WV_DB_REASON_BYTES];
static struct wv_db *db;

static const char *const migrations[] = {
    "CREATE TABLE owners (id BIGINT PRIMARY KEY, name TEXT NOT NULL UNIQUE);"
    "CREATE TABLE things (id BIGINT PRIMARY KEY, owner BIGINT NOT NULL REFERENCES owners (id),"
    " data BYTEA, size BIGINT CHECK (size >= 0))",
    "ALTER TABLE owners ADD COLUMN note TEXT",
};

static void drop_all(void)
{
    if (!strcmp(wv_db_kind(db), "postgresql"))
        ck_assert_int_eq(wv_db_run(db, "DROP TABLE IF EXISTS things, owners, schema_version, acks", NULL, 0,
                                   NULL, NULL, NULL),
                         0);
}

static void open_db(void)
{
    ck_assert_msg(wv_db_open(&db, url, reason) == 0, "%s: %s", url, reason);
}

/* Loops: 0 SQLite, 1 PostgreSQL. */
static void setup(int kind)
{
    snprintf(url, sizeof url, "sqlite:%s/%d.db", folder, getpid());
    if (kind == 1)
        snprintf(url, sizeof url, "%s", getenv("WAVRY_TEST_POSTGRES"));
    open_db();
    drop_all();
}

static void teardown(void)
{
    char command[300];
    db = wv_db_close(db);
    snprintf(command, sizeof command, "%s/%d.db", folder, getpid());
    unlink(command);
}

static int run(const char *sql)
{
    return wv_db_run(db, sql, NULL, 0, NULL, NULL, NULL);
}

static int number(void *userdata, const struct wv_db_value *row, size_t n)
{
    ck_assert_uint_eq(n, 1);
    ck_assert_int_eq(row->type, WV_DB_INT);
    *(int64_t *)userdata = row->integer;
    return 0;
}

static int64_t count(const char *sql)
{
    int64_t n = -1;
    ck_assert_msg(wv_db_run(db, sql, NULL, 0, number, &n, NULL) == 0, "%s", wv_db_reason(db));
    return n;
}

static void with_schema(int kind)
{
    setup(kind);
    ck_assert_msg(wv_db_migrate(db, migrations, 2) == 0, "%s", wv_db_reason(db));
}

static int add_owner(int64_t id, const char *name)
{
    return wv_db_run(db, "INSERT INTO owners (id, name) VALUES ($1, $2)",
                     WV_DB_ARGS(WV_DB_I(id), WV_DB_T(name)), 2, NULL, NULL, NULL);
}

START_TEST(a_schema_grows_step_by_step)
{
    uint64_t version;
    setup(_i);
    ck_assert_int_eq(wv_db_migrate(db, migrations, 1), 0);
    ck_assert_int_eq(add_owner(1, "first"), 0);
    ck_assert_int_eq(wv_db_migrate(db, migrations, 2), 0);
    ck_assert_int_eq(wv_db_migrate(db, migrations, 2), 0);
    ck_assert_int_eq(wv_db_version(db, &version), 0);
    ck_assert_uint_eq(version, 2);
    ck_assert_int_eq(count("SELECT count(*) FROM owners WHERE note IS NULL"), 1);
    ck_assert_int_eq(wv_db_migrate(db, migrations, 1), -ENOTSUP);
    ck_assert(strstr(wv_db_reason(db), "newer"));
    teardown();
}
END_TEST

START_TEST(a_broken_step_leaves_nothing)
{
    static const char *const broken[] = {
        "CREATE TABLE owners (id BIGINT PRIMARY KEY); CREATE TABLE owners (id BIGINT)"};
    uint64_t version = 9;
    setup(_i);
    ck_assert_int_lt(wv_db_migrate(db, broken, 1), 0);
    ck_assert_int_eq(wv_db_version(db, &version), 0);
    ck_assert_uint_eq(version, 0);
    ck_assert_int_lt(run("SELECT * FROM owners"), 0);
    teardown();
}
END_TEST

/* Four programs that start together. */
START_TEST(many_migrate_at_once)
{
    pid_t pids[4];
    setup(_i);
    for (size_t i = 0; i < 4; i++) {
        pids[i] = fork();
        if (pids[i] == 0) {
            struct wv_db *mine;
            _exit(wv_db_open(&mine, url, NULL) == 0 && wv_db_migrate(mine, migrations, 2) == 0 ? 0 : 1);
        }
    }
    for (size_t i = 0; i < 4; i++) {
        int status;
        ck_assert_int_eq(waitpid(pids[i], &status, 0), pids[i]);
        ck_assert_int_eq(status, 0);
    }
    ck_assert_int_eq(count("SELECT count(*) FROM schema_version"), 2);
    teardown();
}
END_TEST

static int check_values(void *userdata, const struct wv_db_value *row, size_t n)
{
    int *seen = userdata;
    ck_assert_uint_eq(n, 4);
    ck_assert_int_eq(row[0].integer, INT64_MIN);
    ck_assert_int_eq(row[1].type, WV_DB_TEXT);
    ck_assert_str_eq(row[1].data, "Zoë '; DROP TABLE owners; --");
    ck_assert_int_eq(row[2].type, WV_DB_BYTES);
    ck_assert_uint_eq(row[2].len, 5);
    ck_assert_mem_eq(row[2].data, "\0\\x\xff'", 5);
    ck_assert_int_eq(row[3].type, WV_DB_NULL);
    (*seen)++;
    return 0;
}

START_TEST(values_come_back_as_they_went)
{
    int seen = 0;
    uint64_t changed;
    with_schema(_i);
    ck_assert_int_eq(add_owner(1, "Zoë '; DROP TABLE owners; --"), 0);
    ck_assert_int_eq(
        wv_db_run(db, "INSERT INTO things (id, owner, data, size) VALUES ($1, $2, $3, $4)",
                  WV_DB_ARGS(WV_DB_I(INT64_MIN), WV_DB_I(1), WV_DB_B("\0\\x\xff'", 5), WV_DB_NONE), 4, NULL,
                  NULL, &changed),
        0);
    ck_assert_uint_eq(changed, 1);
    ck_assert_int_eq(
        wv_db_run(db,
                  "SELECT things.id, name, data, size FROM things JOIN owners ON owner = owners.id "
                  "WHERE data = $1 AND name = $2",
                  WV_DB_ARGS(WV_DB_B("\0\\x\xff'", 5), WV_DB_T("Zoë '; DROP TABLE owners; --")), 2,
                  check_values, &seen, &changed),
        0);
    ck_assert_int_eq(seen, 1);
    ck_assert_uint_eq(changed, 0);
    ck_assert_int_eq(count("SELECT count(*) FROM owners"), 1);
    teardown();
}
END_TEST

static int stop_at_second(void *userdata, const struct wv_db_value *row, size_t n)
{
    return ++*(int *)userdata == 2 ? 7 : 0;
}

START_TEST(errors_say_which)
{
    int rows = 0;
    with_schema(_i);
    ck_assert_int_eq(add_owner(1, "a"), 0);
    ck_assert_int_eq(add_owner(2, "a"), -EEXIST);
    ck_assert_int_eq(add_owner(1, "b"), -EEXIST);
    ck_assert_int_eq(run("INSERT INTO things (id, owner) VALUES (1, 99)"), -ENOENT);
    ck_assert_int_eq(run("INSERT INTO things (id, owner, size) VALUES (1, 1, -1)"), -EINVAL);
    ck_assert_int_eq(run("INSERT INTO owners (id) VALUES (5)"), -EINVAL);
    ck_assert_int_eq(run("SELECT nothing FROM nowhere"), -EINVAL);
    ck_assert_uint_ne(strlen(wv_db_reason(db)), 0);
    ck_assert_int_eq(add_owner(3, "c"), 0);
    ck_assert_int_eq(add_owner(4, "d"), 0);
    ck_assert_int_eq(wv_db_run(db, "SELECT id FROM owners", NULL, 0, stop_at_second, &rows, NULL), 7);
    ck_assert_int_eq(rows, 2);
    ck_assert_int_eq(count("SELECT count(*) FROM owners"), 3);
    teardown();
}
END_TEST

START_TEST(transactions_are_whole_or_not)
{
    with_schema(_i);
    ck_assert_int_eq(wv_db_begin(db), 0);
    ck_assert_int_eq(add_owner(1, "a"), 0);
    wv_db_rollback(db);
    ck_assert_int_eq(count("SELECT count(*) FROM owners"), 0);

    ck_assert_int_eq(wv_db_begin(db), 0);
    ck_assert_int_eq(add_owner(1, "a"), 0);
    ck_assert_int_eq(add_owner(2, "a"), -EEXIST);
    wv_db_rollback(db);
    ck_assert_int_eq(count("SELECT count(*) FROM owners"), 0);

    ck_assert_int_eq(wv_db_begin(db), 0);
    ck_assert_int_eq(add_owner(1, "a"), 0);
    ck_assert_int_eq(wv_db_commit(db), 0);
    wv_db_rollback(db); /* without one: nothing */
    ck_assert_int_eq(count("SELECT count(*) FROM owners"), 1);
    teardown();
}
END_TEST

/* What is begun within a transaction is part of it, and nothing comes after what went wrong. */
START_TEST(transactions_within_transactions)
{
    with_schema(_i);
    uint64_t writes = wv_db_writes(db);
    ck_assert_int_eq(wv_db_begin(db), 0);
    ck_assert_int_eq(wv_db_begin(db), 0);
    ck_assert_int_eq(add_owner(1, "a"), 0);
    ck_assert_int_eq(wv_db_commit(db), 0);
    ck_assert_uint_eq(wv_db_writes(db), writes); /* not yet */
    ck_assert_int_eq(add_owner(2, "b"), 0);
    ck_assert_int_eq(wv_db_commit(db), 0);
    ck_assert_uint_eq(wv_db_writes(db), writes + 1);
    ck_assert_int_eq(count("SELECT count(*) FROM owners"), 2);

    ck_assert_int_eq(wv_db_begin(db), 0);
    ck_assert_int_eq(add_owner(3, "c"), 0);
    ck_assert_int_eq(wv_db_begin(db), 0);
    ck_assert_int_eq(add_owner(4, "d"), 0);
    wv_db_rollback(db);
    ck_assert_int_eq(add_owner(5, "e"), -ECANCELED);
    ck_assert_int_eq(wv_db_commit(db), -ECANCELED);
    ck_assert_int_eq(count("SELECT count(*) FROM owners"), 2);

    ck_assert_int_eq(wv_db_begin(db), 0);
    ck_assert_int_eq(add_owner(3, "c"), 0);
    ck_assert_int_eq(add_owner(1, "again"), -EEXIST);
    ck_assert_int_eq(add_owner(4, "d"), -ECANCELED);
    ck_assert_int_eq(wv_db_commit(db), -ECANCELED);
    ck_assert_int_eq(add_owner(3, "c"), 0); /* on its own again */
    ck_assert_uint_eq(wv_db_writes(db), writes + 2);
    ck_assert_int_eq(count("SELECT count(*) FROM owners"), 3);
    teardown();
}
END_TEST

static int64_t count_by(struct wv_db *by, const char *sql)
{
    int64_t n = -1;
    ck_assert_msg(wv_db_run(by, sql, NULL, 0, number, &n, NULL) == 0, "%s", wv_db_reason(by));
    return n;
}

/* Were it to wait, it would wait for this very thread. */
START_TEST(a_reader_waits_for_no_writer_and_sees_what_was_committed)
{
    static const char owners[] = "SELECT count(*) FROM owners";
    struct wv_db *reader;
    char path[420];
    with_schema(_i);
    ck_assert_msg(wv_db_open_reader(&reader, url, reason) == 0, "%s", reason);
    for (int64_t i = 0; i < 50; i++) {
        ck_assert_int_eq(wv_db_begin(db), 0);
        ck_assert_int_eq(add_owner(2 * i, i % 2 ? "odd" : "even"), 0);
        ck_assert_int_eq(count_by(reader, owners), 0);
        ck_assert_int_eq(wv_db_commit(db), 0);
        ck_assert_int_eq(count_by(reader, owners), 1);
        ck_assert_int_eq(run("DELETE FROM owners"), 0);
        ck_assert_int_eq(count_by(reader, owners), 0);
    }
    if (_i == 0)
        ck_assert_int_eq(wv_db_run(reader, "DELETE FROM owners", NULL, 0, NULL, NULL, NULL), -EROFS);
    ck_assert_ptr_null(wv_db_close(reader));
    snprintf(path, sizeof path, "%s-wal", url + strlen("sqlite:"));
    db = wv_db_close(db);
    ck_assert_int_lt(access(path, F_OK), 0); /* the log is folded into the file at the end */
    open_db();
    drop_all();
    teardown();
}
END_TEST

/* Its server was restarted, say: nobody who asks is told so. */
START_TEST(a_reader_that_lost_its_connection_asks_again)
{
    struct wv_db *reader;
    with_schema(1);
    ck_assert_int_eq(add_owner(1, "a"), 0);
    ck_assert_msg(wv_db_open_reader(&reader, url, reason) == 0, "%s", reason);
    int64_t pid = count_by(reader, "SELECT pg_backend_pid()");
    ck_assert_int_eq(wv_db_run(db, "SELECT pg_terminate_backend(CAST($1 AS int), 20000)",
                               WV_DB_ARGS(WV_DB_I(pid)), 1, NULL, NULL, NULL),
                     0);
    ck_assert_int_eq(count_by(reader, "SELECT count(*) FROM owners"), 1);
    ck_assert_int_ne(count_by(reader, "SELECT pg_backend_pid()"), pid);
    wv_db_close(reader);
    teardown();
}
END_TEST

/* A reader has the same file as its writer: whatever lies at the path. */
START_TEST(a_reader_stays_with_the_file_of_its_writer)
{
    struct wv_db *reader;
    char path[400], away[420];
    with_schema(0);
    snprintf(path, sizeof path, "%s", url + strlen("sqlite:"));
    snprintf(away, sizeof away, "%s.away", path);
    ck_assert_int_eq(add_owner(1, "a"), 0);
    ck_assert_msg(wv_db_open_reader(&reader, url, reason) == 0, "%s", reason);
    ck_assert_int_eq(count_by(reader, "SELECT count(*) FROM owners"), 1);
    ck_assert_int_eq(rename(path, away), 0);
    FILE *other = fopen(path, "w");
    ck_assert_ptr_nonnull(other);
    fclose(other);
    ck_assert_int_eq(add_owner(2, "b"), -ESTALE);
    ck_assert_int_eq(count_by(reader, "SELECT count(*) FROM owners"), 1);
    ck_assert_int_eq(rename(away, path), 0);
    ck_assert_int_eq(add_owner(2, "b"), 0);
    ck_assert_int_eq(count_by(reader, "SELECT count(*) FROM owners"), 2);
    wv_db_close(reader);
    teardown();
}
END_TEST

/* What is written into a file that was taken away is lost with the process that holds it. */
START_TEST(a_file_that_was_taken_away_takes_nothing)
{
    char path[400], away[420];
    with_schema(0);
    snprintf(path, sizeof path, "%s", url + strlen("sqlite:"));
    snprintf(away, sizeof away, "%s.away", path);
    ck_assert_int_eq(add_owner(1, "a"), 0);
    ck_assert_int_eq(rename(path, away), 0);
    ck_assert_int_eq(add_owner(2, "b"), -ESTALE);
    ck_assert(strstr(wv_db_reason(db), "moved"));
    ck_assert_int_eq(wv_db_begin(db), -ESTALE);
    ck_assert_int_eq(count("SELECT count(*) FROM owners"), 1);
    ck_assert_int_eq(rename(away, path), 0);
    ck_assert_int_eq(add_owner(2, "b"), 0);
    teardown();
}
END_TEST

/* A process that says each number only once it is written, and is killed: all it said is there. */
START_TEST(what_was_acknowledged_survives_a_kill)
{
    int ends[2];
    int64_t said = 0, value;
    setup(_i);
    ck_assert_int_eq(run("CREATE TABLE acks (id BIGINT PRIMARY KEY)"), 0);
    ck_assert_int_eq(pipe(ends), 0);
    pid_t pid = fork();
    if (pid == 0) {
        struct wv_db *mine;
        if (wv_db_open(&mine, url, NULL) < 0)
            _exit(1);
        for (int64_t i = 1;; i++) {
            if (wv_db_run(mine, "INSERT INTO acks (id) VALUES ($1)", WV_DB_ARGS(WV_DB_I(i)), 1, NULL, NULL,
                          NULL) != 0 ||
                write(ends[1], &i, sizeof i) != sizeof i)
                _exit(1);
        }
    }
    close(ends[1]);
    while (said < 50 && read(ends[0], &value, sizeof value) == sizeof value)
        said = value;
    kill(pid, SIGKILL);
    while (read(ends[0], &value, sizeof value) == sizeof value)
        said = value;
    waitpid(pid, NULL, 0);
    close(ends[0]);
    ck_assert_int_ge(said, 50);
    ck_assert_int_ge(count("SELECT count(*) FROM acks"), said);
    ck_assert_int_ge(count("SELECT max(id) FROM acks"), said);
    teardown();
}
END_TEST

START_TEST(a_copy_is_made_while_it_is_used)
{
    char path[300];
    with_schema(_i);
    snprintf(path, sizeof path, "%s/copy-%d.db", folder, getpid());
    ck_assert_int_eq(add_owner(1, "a"), 0);
    int r = wv_db_backup(db, path);
    if (_i == 1) {
        ck_assert_int_eq(r, -ENOTSUP);
        ck_assert(strstr(wv_db_reason(db), "pg_dump"));
        teardown();
        return;
    }
    ck_assert_msg(r == 0, "%s", wv_db_reason(db));
    ck_assert_int_eq(wv_db_backup(db, path), -EEXIST);
    ck_assert_int_eq(add_owner(2, "b"), 0);
    wv_db_close(db);
    snprintf(url, sizeof url, "sqlite:%s", path);
    open_db();
    ck_assert_int_eq(count("SELECT count(*) FROM owners"), 1);
    unlink(path);
    teardown();
}
END_TEST

START_TEST(what_can_not_be_opened)
{
    static const struct {
        const char *url;
        int error;
    } bad[] = {
        {"mysql://x", -EINVAL},
        {"sqlite:", -EINVAL},
        {"sqlite::memory:", -EINVAL}, /* what is acknowledged must survive */
        {"sqlite:/nonexistent/folder/x.db", -ENOENT},
        {"sqlite:/dev/null/x.db", -ENOENT},
        {"postgresql:///?host=/nonexistent", -ECONNREFUSED},
    };
    for (size_t i = 0; i < WV_ARRAY_SIZE(bad); i++) {
        reason[0] = 0;
        ck_assert_msg(wv_db_open(&db, bad[i].url, reason) == bad[i].error, "%s: %s", bad[i].url, reason);
        ck_assert_uint_ne(strlen(reason), 0);
    }
    char path[300];
    snprintf(path, sizeof path, "%s/garbage", folder);
    FILE *f = fopen(path, "w");
    for (int i = 0; i < 5000; i++)
        fputs("not a database ", f);
    fclose(f);
    snprintf(url, sizeof url, "sqlite:%s", path);
    ck_assert_int_eq(wv_db_open(&db, url, reason), -EBADMSG);
    unlink(path);
}
END_TEST

/* Nobody else can read the file, and one that can't be written says so. */
START_TEST(a_file_of_our_own)
{
    struct stat st;
    with_schema(0);
    ck_assert_int_eq(stat(url + strlen("sqlite:"), &st), 0);
    ck_assert_uint_eq(st.st_mode & 0777, 0600);
    ck_assert_int_eq(run("PRAGMA query_only = ON"), 0);
    ck_assert_int_eq(add_owner(1, "a"), -EROFS);
    ck_assert_int_eq(run("PRAGMA query_only = OFF"), 0);
    ck_assert_int_eq(run("PRAGMA max_page_count = 1"), 0);
    int r = 0;
    for (int64_t i = 0; r == 0 && i < 1000; i++)
        r = wv_db_run(db, "INSERT INTO owners (id, name) VALUES ($1, hex(randomblob(500)))",
                      WV_DB_ARGS(WV_DB_I(i)), 1, NULL, NULL, NULL);
    ck_assert_int_eq(r, -ENOSPC);
    teardown();
}
END_TEST

int main(void)
{
    int kinds = getenv("WAVRY_TEST_POSTGRES") ? 2 : 1;
    if (!mkdtemp(folder))
        return EXIT_FAILURE;
    Suite *s = suite_create("db");
    TCase *t = tcase_create("db");
    tcase_add_loop_test(t, a_schema_grows_step_by_step, 0, kinds);
    tcase_add_loop_test(t, a_broken_step_leaves_nothing, 0, kinds);
    tcase_add_loop_test(t, many_migrate_at_once, 0, kinds);
    tcase_add_loop_test(t, values_come_back_as_they_went, 0, kinds);
    tcase_add_loop_test(t, errors_say_which, 0, kinds);
    tcase_add_loop_test(t, transactions_are_whole_or_not, 0, kinds);
    tcase_add_loop_test(t, what_was_acknowledged_survives_a_kill, 0, kinds);
    tcase_add_loop_test(t, a_copy_is_made_while_it_is_used, 0, kinds);
    tcase_add_loop_test(t, transactions_within_transactions, 0, kinds);
    tcase_add_loop_test(t, a_reader_waits_for_no_writer_and_sees_what_was_committed, 0, kinds);
    tcase_add_test(t, a_reader_stays_with_the_file_of_its_writer);
    if (kinds == 2)
        tcase_add_test(t, a_reader_that_lost_its_connection_asks_again);
    tcase_add_test(t, a_file_that_was_taken_away_takes_nothing);
    tcase_add_test(t, what_can_not_be_opened);
    tcase_add_test(t, a_file_of_our_own);
    suite_add_tcase(s, t);
    int code = wv_run_suite(s);
    (void)rmdir(folder);
    return code;
}
