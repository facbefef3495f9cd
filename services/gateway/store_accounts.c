/* Accounts, and what proves that somebody may act for one: password, TOTP, recovery codes, tokens. */
#include "services/gateway/store_internal.h"

#include <errno.h>
#include <stdio.h>

#define COLUMNS                                                                                              \
    "accounts.id, accounts.name, accounts.password, accounts.totp_secret, accounts.totp_required, "          \
    "accounts.totp_step, "                                                                                   \
    "accounts.admin, accounts.disabled, accounts.created"
#define N_COLUMNS 9

static int read_account(const struct wv_db_value *row, size_t n, struct wv_account *ret)
{
    memset(ret, 0, sizeof *ret);
    if (n != N_COLUMNS || wv_store_text(&row[0], ret->id, sizeof ret->id) < 0 ||
        wv_store_text(&row[1], ret->name, sizeof ret->name) < 0 ||
        wv_store_text(&row[2], ret->password, sizeof ret->password) < 0 ||
        wv_store_bytes(&row[3], ret->totp_secret, sizeof ret->totp_secret) < 0 ||
        wv_store_flag(&row[4], &ret->totp_required) < 0 || wv_store_number(&row[5], &ret->totp_step) < 0 ||
        wv_store_flag(&row[6], &ret->admin) < 0 || wv_store_flag(&row[7], &ret->disabled) < 0 ||
        wv_store_number(&row[8], &ret->created) < 0)
        return -EBADMSG;
    ret->has_totp = row[3].type != WV_DB_NULL;
    return 0;
}

static int take_account(void *userdata, const struct wv_db_value *row, size_t n)
{
    return read_account(row, n, userdata);
}

int wv_store_add_account(struct wv_store *s, const char *name, const char *password, bool admin, int64_t now,
                         struct wv_account *ret)
{
    char folded[WV_STORE_NAME_BYTES];
    memset(ret, 0, sizeof *ret);
    if (!wv_store_is_name(name) || strlen(password) >= WV_STORE_PASSWORD_BYTES)
        return -EINVAL;
    wv_store_fold(name, folded);
    wv_store_new_id(ret->id);
    snprintf(ret->name, sizeof ret->name, "%s", name);
    snprintf(ret->password, sizeof ret->password, "%s", password);
    ret->admin = admin;
    ret->created = now;
    return wv_db_run(
        s->db,
        "INSERT INTO accounts (id, name, folded, password, admin, created) VALUES ($1, $2, $3, $4, $5, $6)",
        WV_DB_ARGS(WV_DB_T(ret->id), WV_DB_T(name), WV_DB_T(folded), WV_DB_T(password), WV_DB_I(admin),
                   WV_DB_I(now)),
        6, NULL, NULL, NULL);
}

int wv_store_account_by_name(struct wv_store *s, const char *name, struct wv_account *ret)
{
    char folded[WV_STORE_NAME_BYTES];
    if (!wv_store_is_name(name))
        return -ENOENT;
    wv_store_fold(name, folded);
    return wv_store_find(s, "SELECT " COLUMNS " FROM accounts WHERE folded = $1", WV_DB_ARGS(WV_DB_T(folded)),
                         1, take_account, ret);
}

int wv_store_account(struct wv_store *s, const char *id, struct wv_account *ret)
{
    return wv_store_find(s, "SELECT " COLUMNS " FROM accounts WHERE id = $1", WV_DB_ARGS(WV_DB_T(id)), 1,
                         take_account, ret);
}

struct accounts {
    wv_store_account_fn each;
    void *userdata;
};

static int pass_account(void *userdata, const struct wv_db_value *row, size_t n)
{
    struct accounts *to = userdata;
    struct wv_account account;
    int r = read_account(row, n, &account);
    return r < 0 ? r : to->each(to->userdata, &account);
}

int wv_store_accounts(struct wv_store *s, wv_store_account_fn each, void *userdata)
{
    struct accounts to = {each, userdata};
    return wv_db_run(s->db, "SELECT " COLUMNS " FROM accounts ORDER BY folded", NULL, 0, pass_account, &to,
                     NULL);
}

static int take_count(void *userdata, const struct wv_db_value *row, size_t n)
{
    int64_t value;
    int r = wv_store_number(&row[0], &value);
    *(uint64_t *)userdata = (uint64_t)value;
    return r;
}

int wv_store_accounts_count(struct wv_store *s, uint64_t *ret_count)
{
    return wv_store_find(s, "SELECT count(*) FROM accounts", NULL, 0, take_count, ret_count);
}

static int end_tokens(struct wv_store *s, const char *account, const uint8_t *keep)
{
    static const uint8_t none[WV_STORE_HASH_BYTES];
    return wv_db_run(s->db, "DELETE FROM tokens WHERE account = $1 AND hash <> $2",
                     WV_DB_ARGS(WV_DB_T(account), WV_DB_B(keep ? keep : none, WV_STORE_HASH_BYTES)), 2, NULL,
                     NULL, NULL);
}

int wv_store_set_password(struct wv_store *s, const char *account, const char *password, const uint8_t *keep)
{
    if (strlen(password) >= WV_STORE_PASSWORD_BYTES)
        return -EINVAL;
    int r = wv_db_begin(s->db);
    if (r < 0)
        return r;
    r = wv_store_change(s, "UPDATE accounts SET password = $1 WHERE id = $2",
                        WV_DB_ARGS(WV_DB_T(password), WV_DB_T(account)), 2);
    if (r == 0)
        r = end_tokens(s, account, keep);
    return wv_store_end(s, r);
}

int wv_store_set_account(struct wv_store *s, const char *account, bool admin, bool disabled)
{
    int r = wv_db_begin(s->db);
    if (r < 0)
        return r;
    r = wv_store_change(s, "UPDATE accounts SET admin = $1, disabled = $2 WHERE id = $3",
                        WV_DB_ARGS(WV_DB_I(admin), WV_DB_I(disabled), WV_DB_T(account)), 3);
    if (r == 0 && disabled)
        r = end_tokens(s, account, NULL);
    return wv_store_end(s, r);
}

int wv_store_set_totp(struct wv_store *s, const char *account, const uint8_t *secret)
{
    struct wv_db_value value = WV_DB_NONE;
    if (secret)
        value = WV_DB_B(secret, WV_STORE_SECRET_BYTES);
    int r = wv_db_begin(s->db);
    if (r < 0)
        return r;
    r = wv_store_change(
        s, "UPDATE accounts SET totp_secret = $1, totp_required = 0, totp_step = 0 WHERE id = $2",
        WV_DB_ARGS(value, WV_DB_T(account)), 2);
    if (r == 0 && !secret)
        r = wv_db_run(s->db, "DELETE FROM recovery WHERE account = $1", WV_DB_ARGS(WV_DB_T(account)), 1, NULL,
                      NULL, NULL);
    return wv_store_end(s, r);
}

int wv_store_use_totp(struct wv_store *s, const char *account, int64_t step, bool confirm)
{
    /* One statement: of two sign-ins with one code, on two gateways, one changes the row. */
    int r = confirm ? wv_store_change(s,
                                      "UPDATE accounts SET totp_step = $1, totp_required = 1 "
                                      "WHERE id = $2 AND totp_step < $1 AND totp_secret IS NOT NULL",
                                      WV_DB_ARGS(WV_DB_I(step), WV_DB_T(account)), 2)
                    : wv_store_change(s,
                                      "UPDATE accounts SET totp_step = $1 "
                                      "WHERE id = $2 AND totp_step < $1 AND totp_secret IS NOT NULL",
                                      WV_DB_ARGS(WV_DB_I(step), WV_DB_T(account)), 2);
    return r == -ENOENT ? -EALREADY : r;
}

int wv_store_set_recovery(struct wv_store *s, const char *account,
                          uint8_t hashes[WV_STORE_RECOVERY_CODES][WV_STORE_HASH_BYTES])
{
    int r = wv_db_begin(s->db);
    if (r < 0)
        return r;
    /* Holds the account: of two that make codes at once, the second one's are those that count. */
    r = wv_store_change(s, "UPDATE accounts SET created = created WHERE id = $1",
                        WV_DB_ARGS(WV_DB_T(account)), 1);
    if (r == 0)
        r = wv_db_run(s->db, "DELETE FROM recovery WHERE account = $1", WV_DB_ARGS(WV_DB_T(account)), 1, NULL,
                      NULL, NULL);
    for (size_t i = 0; r == 0 && i < WV_STORE_RECOVERY_CODES; i++)
        r = wv_db_run(s->db, "INSERT INTO recovery (account, hash) VALUES ($1, $2)",
                      WV_DB_ARGS(WV_DB_T(account), WV_DB_B(hashes[i], WV_STORE_HASH_BYTES)), 2, NULL, NULL,
                      NULL);
    return wv_store_end(s, r);
}

int wv_store_use_recovery(struct wv_store *s, const char *account, const uint8_t hash[WV_STORE_HASH_BYTES],
                          int64_t now, uint64_t *ret_left)
{
    int r =
        wv_store_change(s, "UPDATE recovery SET used = $1 WHERE account = $2 AND hash = $3 AND used IS NULL",
                        WV_DB_ARGS(WV_DB_I(now), WV_DB_T(account), WV_DB_B(hash, WV_STORE_HASH_BYTES)), 3);
    if (r < 0)
        return r;
    return wv_store_find(s, "SELECT count(*) FROM recovery WHERE account = $1 AND used IS NULL",
                         WV_DB_ARGS(WV_DB_T(account)), 1, take_count, ret_left);
}

/* ---- tokens ---- */

static bool is_zero(const uint8_t *bytes, size_t len)
{
    uint8_t any = 0;
    for (size_t i = 0; i < len; i++)
        any |= bytes[i];
    return any == 0;
}

int wv_store_add_token(struct wv_store *s, const struct wv_token *token)
{
    struct wv_db_value device = WV_DB_NONE;
    if (!is_zero(token->device, sizeof token->device))
        device = WV_DB_B(token->device, WV_STORE_KEY_BYTES);
    return wv_db_run(
        s->db, "INSERT INTO tokens (hash, account, device, created, expires) VALUES ($1, $2, $3, $4, $5)",
        WV_DB_ARGS(WV_DB_B(token->hash, WV_STORE_HASH_BYTES), WV_DB_T(token->account), device,
                   WV_DB_I(token->created), WV_DB_I(token->expires)),
        5, NULL, NULL, NULL);
}

int wv_store_use_challenge(struct wv_store *s, const uint8_t challenge[32], int64_t expires)
{
    /* No error of the database, so that a transaction goes on: a refusal has its line in the log. */
    int r = wv_store_change(
        s, "INSERT INTO challenges (challenge, expires) VALUES ($1, $2) ON CONFLICT (challenge) DO NOTHING",
        WV_DB_ARGS(WV_DB_B(challenge, 32), WV_DB_I(expires)), 2);
    return r == -ENOENT ? -EEXIST : r;
}

int wv_store_add_session(struct wv_store *s, const struct wv_token *token, const uint8_t challenge[32],
                         int64_t expires)
{
    int r = wv_db_begin(s->db);
    if (r < 0)
        return r;
    r = wv_store_use_challenge(s, challenge, expires);
    if (r == 0)
        r = wv_store_add_token(s, token);
    if (r == 0)
        r = wv_store_saw_machine(s, token->device, token->created);
    return wv_store_end(s, r);
}

static int take_token(void *userdata, const struct wv_db_value *row, size_t n)
{
    struct wv_token *t = userdata;
    if (n != 5 || wv_store_text(&row[0], t->account, sizeof t->account) < 0 ||
        wv_store_bytes(&row[1], t->device, sizeof t->device) < 0 ||
        wv_store_number(&row[2], &t->created) < 0 || wv_store_number(&row[3], &t->expires) < 0 ||
        wv_store_flag(&row[4], &t->admin) < 0)
        return -EBADMSG;
    return 0;
}

int wv_store_token(struct wv_store *s, const uint8_t hash[WV_STORE_HASH_BYTES], int64_t now,
                   struct wv_token *ret)
{
    memset(ret, 0, sizeof *ret);
    memcpy(ret->hash, hash, WV_STORE_HASH_BYTES);
    return wv_store_find(
        s,
        "SELECT tokens.account, tokens.device, tokens.created, tokens.expires, accounts.admin FROM tokens "
        "JOIN accounts ON accounts.id = tokens.account "
        "WHERE tokens.hash = $1 AND tokens.expires > $2 AND accounts.disabled = 0",
        WV_DB_ARGS(WV_DB_B(hash, WV_STORE_HASH_BYTES), WV_DB_I(now)), 2, take_token, ret);
}

int wv_store_end_token(struct wv_store *s, const uint8_t hash[WV_STORE_HASH_BYTES])
{
    return wv_store_change(s, "DELETE FROM tokens WHERE hash = $1",
                           WV_DB_ARGS(WV_DB_B(hash, WV_STORE_HASH_BYTES)), 1);
}

int wv_store_sweep(struct wv_store *s, int64_t now, int64_t audit_before)
{
    int r = wv_db_run(s->db, "DELETE FROM tokens WHERE expires <= $1", WV_DB_ARGS(WV_DB_I(now)), 1, NULL,
                      NULL, NULL);
    if (r == 0)
        r = wv_db_run(s->db, "DELETE FROM challenges WHERE expires <= $1", WV_DB_ARGS(WV_DB_I(now)), 1, NULL,
                      NULL, NULL);
    if (r == 0)
        r = wv_db_run(s->db, "DELETE FROM audit WHERE at < $1", WV_DB_ARGS(WV_DB_I(audit_before)), 1, NULL,
                      NULL, NULL);
    return r;
}
