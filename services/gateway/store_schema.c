#include "services/gateway/store_schema.h"

#include "lib/base/util.h"

/* Types are those that SQLite and PostgreSQL both know by these names. Flags are 0 or 1. */
const char *const wv_store_migrations[] = {
    "CREATE TABLE accounts ("
    " id TEXT PRIMARY KEY, name TEXT NOT NULL, folded TEXT NOT NULL UNIQUE, password TEXT NOT NULL,"
    " totp_secret BYTEA, totp_required BIGINT NOT NULL DEFAULT 0, totp_step BIGINT NOT NULL DEFAULT 0,"
    " admin BIGINT NOT NULL, disabled BIGINT NOT NULL DEFAULT 0, created BIGINT NOT NULL);"
    "CREATE TABLE recovery ("
    " account TEXT NOT NULL REFERENCES accounts (id) ON DELETE CASCADE, hash BYTEA NOT NULL, used BIGINT,"
    " PRIMARY KEY (account, hash));"
    "CREATE TABLE machines ("
    " key BYTEA PRIMARY KEY, sign_key BYTEA NOT NULL, account TEXT NOT NULL REFERENCES accounts (id) ON "
    "DELETE CASCADE,"
    " name TEXT NOT NULL, is_host BIGINT NOT NULL, created BIGINT NOT NULL, seen BIGINT NOT NULL DEFAULT 0,"
    " UNIQUE (account, is_host, name));"
    "CREATE TABLE tokens ("
    " hash BYTEA PRIMARY KEY, account TEXT NOT NULL REFERENCES accounts (id) ON DELETE CASCADE,"
    " device BYTEA REFERENCES machines (key) ON DELETE CASCADE, created BIGINT NOT NULL, expires BIGINT NOT "
    "NULL);"
    "CREATE INDEX tokens_expire ON tokens (expires);"
    "CREATE INDEX tokens_account ON tokens (account);"
    "CREATE TABLE shares ("
    " host BYTEA NOT NULL REFERENCES machines (key) ON DELETE CASCADE,"
    " account TEXT NOT NULL REFERENCES accounts (id) ON DELETE CASCADE, grants TEXT NOT NULL, created BIGINT "
    "NOT NULL,"
    " PRIMARY KEY (host, account));"
    "CREATE INDEX shares_account ON shares (account);"
    "CREATE TABLE relays ("
    " id TEXT PRIMARY KEY, key BYTEA NOT NULL, address TEXT NOT NULL, region TEXT NOT NULL,"
    " drain BIGINT NOT NULL DEFAULT 0, created BIGINT NOT NULL);"
    "CREATE TABLE audit ("
    " id TEXT PRIMARY KEY, at BIGINT NOT NULL, account TEXT NOT NULL, actor TEXT NOT NULL, action TEXT NOT "
    "NULL,"
    " subject TEXT NOT NULL, address TEXT NOT NULL);"
    "CREATE INDEX audit_at ON audit (at);"
    "CREATE INDEX audit_account ON audit (account, at);"
    "CREATE TABLE settings (name TEXT PRIMARY KEY, value BYTEA NOT NULL);",
    "CREATE TABLE challenges (challenge BYTEA PRIMARY KEY, expires BIGINT NOT NULL);"
    "CREATE INDEX challenges_expire ON challenges (expires);",
};
const size_t wv_store_n_migrations = WV_ARRAY_SIZE(wv_store_migrations);
