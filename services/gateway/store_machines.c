/* Hosts and devices, and who may reach which host. */
#include "services/gateway/store_internal.h"

#include <errno.h>
#include <stdio.h>

static bool is_grants(const char *text)
{
    size_t len = strnlen(text, WV_STORE_TEXT_BYTES);
    return len > 0 && len < WV_STORE_TEXT_BYTES && strspn(text, "abcdefghijklmnopqrstuvwxyz-,") == len;
}

int wv_store_add_machine(struct wv_store *s, const struct wv_machine *m)
{
    if (!wv_store_is_name(m->name))
        return -EINVAL;
    return wv_db_run(s->db,
                     "INSERT INTO machines (key, sign_key, account, name, is_host, created) "
                     "VALUES ($1, $2, $3, $4, $5, $6)",
                     WV_DB_ARGS(WV_DB_B(m->key, WV_STORE_KEY_BYTES), WV_DB_B(m->sign_key, WV_STORE_KEY_BYTES),
                                WV_DB_T(m->account), WV_DB_T(m->name), WV_DB_I(m->is_host),
                                WV_DB_I(m->created)),
                     6, NULL, NULL, NULL);
}

static int read_machine(const struct wv_db_value *row, size_t n, struct wv_machine *ret)
{
    memset(ret, 0, sizeof *ret);
    if (n != 8 || wv_store_bytes(&row[0], ret->key, sizeof ret->key) < 0 ||
        wv_store_bytes(&row[1], ret->sign_key, sizeof ret->sign_key) < 0 ||
        wv_store_text(&row[2], ret->account, sizeof ret->account) < 0 ||
        wv_store_text(&row[3], ret->name, sizeof ret->name) < 0 ||
        wv_store_flag(&row[4], &ret->is_host) < 0 || wv_store_number(&row[5], &ret->created) < 0 ||
        wv_store_number(&row[6], &ret->seen) < 0 ||
        wv_store_text(&row[7], ret->grants, sizeof ret->grants) < 0)
        return -EBADMSG;
    return 0;
}

static int take_machine(void *userdata, const struct wv_db_value *row, size_t n)
{
    return read_machine(row, n, userdata);
}

int wv_store_machine(struct wv_store *s, const uint8_t key[WV_STORE_KEY_BYTES], struct wv_machine *ret)
{
    return wv_store_find(
        s, "SELECT key, sign_key, account, name, is_host, created, seen, '' FROM machines WHERE key = $1",
        WV_DB_ARGS(WV_DB_B(key, WV_STORE_KEY_BYTES)), 1, take_machine, ret);
}

struct machines {
    wv_store_machine_fn each;
    void *userdata;
};

static int pass_machine(void *userdata, const struct wv_db_value *row, size_t n)
{
    struct machines *to = userdata;
    struct wv_machine machine;
    int r = read_machine(row, n, &machine);
    return r < 0 ? r : to->each(to->userdata, &machine);
}

int wv_store_machines(struct wv_store *s, const char *account, bool hosts, wv_store_machine_fn each,
                      void *userdata)
{
    struct machines to = {each, userdata};
    return wv_db_run(
        s->db,
        "SELECT key, sign_key, account, name, is_host, created, seen, '' FROM machines "
        "WHERE account = $1 AND is_host = $2 "
        "UNION ALL SELECT key, sign_key, machines.account, name, is_host, machines.created, seen, grants "
        "FROM machines JOIN shares ON shares.host = machines.key WHERE shares.account = $1 AND is_host = $2 "
        "ORDER BY 4",
        WV_DB_ARGS(WV_DB_T(account), WV_DB_I(hosts)), 2, pass_machine, &to, NULL);
}

int wv_store_remove_machine(struct wv_store *s, const char *account, const uint8_t key[WV_STORE_KEY_BYTES])
{
    return wv_store_change(s, "DELETE FROM machines WHERE key = $1 AND account = $2",
                           WV_DB_ARGS(WV_DB_B(key, WV_STORE_KEY_BYTES), WV_DB_T(account)), 2);
}

int wv_store_saw_machine(struct wv_store *s, const uint8_t key[WV_STORE_KEY_BYTES], int64_t now)
{
    return wv_store_change(s, "UPDATE machines SET seen = $1 WHERE key = $2",
                           WV_DB_ARGS(WV_DB_I(now), WV_DB_B(key, WV_STORE_KEY_BYTES)), 2);
}

static int owns(struct wv_store *s, const char *owner, const uint8_t host[WV_STORE_KEY_BYTES])
{
    struct wv_machine machine;
    int r = wv_store_machine(s, host, &machine);
    if (r == 0 && (!machine.is_host || strcmp(machine.account, owner) != 0))
        r = -ENOENT;
    return r;
}

int wv_store_share(struct wv_store *s, const char *owner, const uint8_t host[WV_STORE_KEY_BYTES],
                   const char *account, const char *grants, int64_t now)
{
    if (!is_grants(grants) || !strcmp(owner, account))
        return -EINVAL;
    int r = wv_db_begin(s->db);
    if (r < 0)
        return r;
    r = owns(s, owner, host);
    if (r == 0)
        r = wv_db_run(
            s->db,
            "INSERT INTO shares (host, account, grants, created) VALUES ($1, $2, $3, $4) "
            "ON CONFLICT (host, account) DO UPDATE SET grants = excluded.grants",
            WV_DB_ARGS(WV_DB_B(host, WV_STORE_KEY_BYTES), WV_DB_T(account), WV_DB_T(grants), WV_DB_I(now)), 4,
            NULL, NULL, NULL);
    return wv_store_end(s, r);
}

int wv_store_unshare(struct wv_store *s, const char *owner, const uint8_t host[WV_STORE_KEY_BYTES],
                     const char *account)
{
    return wv_store_change(
        s,
        "DELETE FROM shares WHERE host = $1 AND account = $2 AND EXISTS "
        "(SELECT 1 FROM machines WHERE machines.key = shares.host AND machines.account = $3)",
        WV_DB_ARGS(WV_DB_B(host, WV_STORE_KEY_BYTES), WV_DB_T(account), WV_DB_T(owner)), 3);
}

static int take_grants(void *userdata, const struct wv_db_value *row, size_t n)
{
    return wv_store_text(&row[0], userdata, WV_STORE_TEXT_BYTES);
}

int wv_store_may_reach(struct wv_store *s, const char *account, const uint8_t host[WV_STORE_KEY_BYTES],
                       char ret_grants[WV_STORE_TEXT_BYTES])
{
    return wv_store_find(s,
                         "SELECT '' FROM machines WHERE key = $1 AND is_host = 1 AND account = $2 "
                         "UNION ALL SELECT grants FROM shares WHERE host = $1 AND account = $2",
                         WV_DB_ARGS(WV_DB_B(host, WV_STORE_KEY_BYTES), WV_DB_T(account)), 2, take_grants,
                         ret_grants);
}

struct shares {
    wv_store_share_fn each;
    void *userdata;
};

static int take_share(void *userdata, const struct wv_db_value *row, size_t n)
{
    struct shares *to = userdata;
    struct wv_share share;
    memset(&share, 0, sizeof share);
    if (n != 4 || wv_store_text(&row[0], share.account, sizeof share.account) < 0 ||
        wv_store_text(&row[1], share.name, sizeof share.name) < 0 ||
        wv_store_text(&row[2], share.grants, sizeof share.grants) < 0 ||
        wv_store_number(&row[3], &share.created) < 0)
        return -EBADMSG;
    return to->each(to->userdata, &share);
}

int wv_store_shares(struct wv_store *s, const char *owner, const uint8_t host[WV_STORE_KEY_BYTES],
                    wv_store_share_fn each, void *userdata)
{
    struct shares to = {each, userdata};
    return wv_db_run(s->db,
                     "SELECT accounts.id, accounts.name, shares.grants, shares.created FROM shares "
                     "JOIN accounts ON accounts.id = shares.account "
                     "JOIN machines ON machines.key = shares.host "
                     "WHERE shares.host = $1 AND machines.account = $2 ORDER BY accounts.folded",
                     WV_DB_ARGS(WV_DB_B(host, WV_STORE_KEY_BYTES), WV_DB_T(owner)), 2, take_share, &to, NULL);
}

static int take_count(void *userdata, const struct wv_db_value *row, size_t n)
{
    int64_t value;
    int r = wv_store_number(&row[0], &value);
    if (r == 0)
        *(uint64_t *)userdata = (uint64_t)value;
    return r;
}

int wv_store_machines_count(struct wv_store *s, const char *account, uint64_t *ret_count)
{
    return wv_store_find(s, "SELECT count(*) FROM machines WHERE account = $1", WV_DB_ARGS(WV_DB_T(account)),
                         1, take_count, ret_count);
}
