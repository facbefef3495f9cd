/* What the two databases implement, and nobody else includes. */
#pragma once

#include "services/gateway/db.h"

struct wv_db_driver {
    const char *kind;
    int (*run)(struct wv_db *db, const char *sql, const struct wv_db_value *args, size_t n_args,
               wv_db_row_fn row, void *userdata, uint64_t *ret_changed);
    const char *begin, *begin_schema; /* statements that open a transaction; the second one to migrate in */
    const char *lock_schema; /* waits until nobody else migrates, held until the transaction's end; NULL:
                                begin does */
    int (*backup)(struct wv_db *db, const char *path);
    void (*close)(struct wv_db *db);
};

struct wv_db {
    const struct wv_db_driver *driver;
    char reason[WV_DB_REASON_BYTES];
    bool in_transaction;
    unsigned depth;       /* of transactions begun within each other */
    bool undone, changed; /* of the present one: a part was rolled back; something was written */
    uint64_t writes;
};

int wv_db_sqlite_open(struct wv_db **ret, const char *path, bool reader, char reason[WV_DB_REASON_BYTES]);
int wv_db_postgres_open(struct wv_db **ret, const char *url, bool reader, char reason[WV_DB_REASON_BYTES]);
