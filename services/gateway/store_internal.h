/* The inside of struct wv_store and the short words that its files share. */
#pragma once

#include "services/gateway/store.h"

#include <string.h>

struct wv_store {
    struct wv_db *db;
};

/* Like wv_db_run(), but a statement that changes no row is -ENOENT. */
int wv_store_change(struct wv_store *s, const char *sql, const struct wv_db_value *args, size_t n);
/* Runs a query that gives at most one row; none is -ENOENT. */
int wv_store_find(struct wv_store *s, const char *sql, const struct wv_db_value *args, size_t n,
                  wv_db_row_fn row, void *userdata);

/* Columns, from foreign bytes: whatever does not fit is -EBADMSG. */
int wv_store_text(const struct wv_db_value *v, char *ret, size_t capacity);
int wv_store_bytes(const struct wv_db_value *v, uint8_t *ret, size_t len); /* NULL in the database: zeros */
int wv_store_number(const struct wv_db_value *v, int64_t *ret);
int wv_store_flag(const struct wv_db_value *v, bool *ret);

void wv_store_new_id(char ret_id[WV_STORE_ID_BYTES]);
/* A name as it is compared: ASCII capitals are small. */
void wv_store_fold(const char *name, char ret_folded[WV_STORE_NAME_BYTES]);
