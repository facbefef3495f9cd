/* What administrators do with accounts. Nobody can take his own administration away: one is always left. */
#include "services/gateway/api.h"

#include "services/gateway/password.h"
#include "services/gateway/routes.h"

#include <errno.h>
#include <string.h>

#define LIST_MAX 10000

struct work {
    char hash[WV_STORE_PASSWORD_BYTES];
};

static int add_to_list(void *userdata, const struct wv_account *account)
{
    json_array_append_new(userdata, wv_api_account_json(account));
    return json_array_size(userdata) >= LIST_MAX;
}

static void list_accounts(struct wv_request *q, struct wv_store *store)
{
    json_t *list = json_array();
    int r = wv_store_accounts(store, add_to_list, list);
    if (r >= 0)
        return wv_request_answer(q, 200, json_pack("{s:o}", "accounts", list));
    json_decref(list);
    wv_request_store_failed(q, store, r);
}

static void get_accounts(struct wv_request *q)
{
    wv_request_run(q, WV_LANE_STORE, list_accounts, NULL);
}

static void hash_password(struct wv_request *q, struct wv_store *store)
{
    struct work *w = q->state;
    if (wv_password_hash(wv_json_text(q->body, "password", ""), w->hash) < 0)
        wv_request_refuse(q, WV_REFUSE_BUSY, NULL);
}

static void add_account(struct wv_request *q, struct wv_store *store)
{
    const struct work *w = q->state;
    struct wv_account account;
    int r = wv_store_add_account(store, wv_json_text(q->body, "name", ""), w->hash,
                                 wv_json_flag(q->body, "admin", false), q->now_s, &account);
    if (r == 0)
        r = wv_request_audit(q, store, "account added", account.name);
    if (r < 0)
        return wv_request_store_failed(q, store, r);
    wv_request_answer(q, 201, wv_api_account_json(&account));
}

static void after_hash_add(struct wv_request *q)
{
    wv_request_change(q, add_account, NULL);
}

/* The token is looked at before anything slow is done for it. */
static void then_hash_add(struct wv_request *q)
{
    if (!wv_store_is_name(wv_json_text(q->body, "name", "")))
        return wv_request_refuse(q, WV_REFUSE_BAD_NAME, NULL);
    wv_request_run(q, WV_LANE_SLOW, hash_password, after_hash_add);
}

static bool make_state(struct wv_request *q)
{
    q->state = calloc(1, sizeof(struct work));
    if (!q->state)
        wv_request_refuse(q, WV_REFUSE_BUSY, NULL);
    return q->state;
}

static void post_account(struct wv_request *q)
{
    if (make_state(q))
        wv_request_run(q, WV_LANE_STORE, NULL, then_hash_add);
}

static void change_account(struct wv_request *q, struct wv_store *store)
{
    const struct work *w = q->state;
    struct wv_account account;
    int r = wv_store_account(store, q->args[0], &account);
    if (r < 0)
        return wv_request_store_failed(q, store, r);
    bool admin = wv_json_flag(q->body, "admin", account.admin);
    bool disabled = wv_json_flag(q->body, "disabled", account.disabled);
    bool totp_goes = !wv_json_flag(q->body, "totp", true);
    /* A token may be stolen: one's own password and authenticator need what /v1/account asks for. */
    if (!strcmp(account.id, q->who.account) && (!admin || disabled || w->hash[0] || totp_goes))
        return wv_request_refuse(q, WV_REFUSE_CONFLICT,
                                 "Another administrator must do this to you; your own password and "
                                 "authenticator are changed with the present ones.");
    if (admin != account.admin || disabled != account.disabled)
        r = wv_store_set_account(store, account.id, admin, disabled);
    if (r == 0 && w->hash[0])
        r = wv_store_set_password(store, account.id, w->hash, NULL);
    if (r == 0 && totp_goes)
        r = wv_store_set_totp(store, account.id, NULL);
    if (r == 0)
        r = wv_request_audit(q, store, "account changed", account.name);
    if (r == 0)
        r = wv_store_account(store, account.id, &account);
    if (r < 0)
        return wv_request_store_failed(q, store, r);
    memcpy(q->changed, account.id, sizeof q->changed);
    wv_request_answer(q, 200, wv_api_account_json(&account));
}

static void after_hash_change(struct wv_request *q)
{
    wv_request_change(q, change_account, NULL);
}

static void then_hash_change(struct wv_request *q)
{
    wv_request_run(q, WV_LANE_SLOW, hash_password, after_hash_change);
}

static void patch_account(struct wv_request *q)
{
    if (!make_state(q))
        return;
    if (wv_json_text(q->body, "password", NULL))
        wv_request_run(q, WV_LANE_STORE, NULL, then_hash_change);
    else
        wv_request_change(q, change_account, NULL);
}

static const struct wv_json_field account_fields[] = {
    {"name", WV_JSON_TEXT, true, 1, WV_STORE_NAME_BYTES - 1},
    {"password", WV_JSON_TEXT, true, WV_PASSWORD_MIN, WV_PASSWORD_MAX},
    {"admin", WV_JSON_FLAG, false, 0, 0},
    {0},
};
static const struct wv_json_field change_fields[] = {
    {"admin", WV_JSON_FLAG, false, 0, 0},
    {"disabled", WV_JSON_FLAG, false, 0, 0},
    {"totp", WV_JSON_FLAG, false, 0, 0},
    {"password", WV_JSON_TEXT, false, WV_PASSWORD_MIN, WV_PASSWORD_MAX},
    {0},
};

const struct wv_route wv_admin_routes[] = {
    {"GET", "/v1/accounts", WV_AUTH_ADMIN, NULL, get_accounts, false},
    {"POST", "/v1/accounts", WV_AUTH_ADMIN, account_fields, post_account, false},
    {"PATCH", "/v1/accounts/{id}", WV_AUTH_ADMIN, change_fields, patch_account, false},
    {0},
};
