/* One's own account: who am I, password, authenticator, recovery codes, audit log. */
#include "services/gateway/api.h"

#include "lib/base/util.h"
#include "services/gateway/http_head.h"
#include "services/gateway/password.h"
#include "services/gateway/routes.h"

#include <errno.h>
#include <sodium.h>
#include <string.h>

#define AUDIT_LINES 200

/* The account of the token. False: refused. */
static bool own_account(struct wv_request *q, struct wv_store *store, struct wv_account *ret)
{
    int r = wv_store_account(store, q->who.account, ret);
    if (r < 0)
        wv_request_store_failed(q, store, r);
    return r == 0;
}

/* ---- GET /v1/account ---- */

static void read_account(struct wv_request *q, struct wv_store *store)
{
    struct wv_account account;
    char csrf[WV_CSRF_BYTES];
    if (!own_account(q, store, &account))
        return;
    json_t *reply = wv_api_account_json(&account);
    if (q->by_cookie) {
        wv_http_csrf(q->gateway, q->token, csrf);
        json_object_set_new(reply, "csrf", json_string(csrf));
    }
    wv_request_answer(q, 200, reply);
}

static void get_account(struct wv_request *q)
{
    wv_request_run(q, WV_LANE_STORE, read_account, NULL);
}

/* ---- POST /v1/account/password ---- */

struct change {
    struct wv_account account;
    char hash[WV_STORE_PASSWORD_BYTES];
    bool right;
};

static void store_password(struct wv_request *q, struct wv_store *store)
{
    struct change *c = q->state;
    if (!c->right)
        return wv_request_refuse(q, WV_REFUSE_CREDENTIALS, "The present password is wrong.");
    int r = wv_store_set_password(store, c->account.id, c->hash, q->token);
    if (r == 0)
        r = wv_request_audit(q, store, "password changed", c->account.name);
    if (r < 0)
        return wv_request_store_failed(q, store, r);
    memcpy(q->changed, c->account.id, sizeof q->changed);
    wv_request_answer(q, 204, NULL);
}

static void hash_password(struct wv_request *q, struct wv_store *store)
{
    struct change *c = q->state;
    c->right = wv_password_check(wv_json_text(q->body, "password", ""), c->account.password);
    if (c->right && wv_password_hash(wv_json_text(q->body, "new", ""), c->hash) < 0)
        wv_request_refuse(q, WV_REFUSE_BUSY, NULL);
}

static void after_hash(struct wv_request *q)
{
    wv_request_change(q, store_password, NULL);
}

static void load_account(struct wv_request *q, struct wv_store *store)
{
    struct change *c = q->state;
    own_account(q, store, &c->account);
}

static void after_load(struct wv_request *q)
{
    if (!wv_api_may_try(q, q->who.account))
        return;
    wv_request_run(q, WV_LANE_SLOW, hash_password, after_hash);
}

static void forgive(struct wv_request *q)
{
    if (!q->known || (q->status >= 400 && q->status < 500))
        return;
    wv_api_forgive(q, q->who.account);
    wv_api_forgive_code(q);
}

static void post_password(struct wv_request *q)
{
    q->state = calloc(1, sizeof(struct change));
    if (!q->state)
        return wv_request_refuse(q, WV_REFUSE_BUSY, NULL);
    q->settled = forgive;
    wv_request_run(q, WV_LANE_STORE, load_account, after_load);
}

/* ---- the authenticator ---- */

static void make_totp(struct wv_request *q, struct wv_store *store)
{
    struct wv_account account;
    uint8_t secret[WV_STORE_SECRET_BYTES];
    char uri[WV_TOTP_URI_BYTES], text[33];
    if (!own_account(q, store, &account))
        return;
    if (account.totp_required)
        return wv_request_refuse(q, WV_REFUSE_CONFLICT,
                                 "This account has an authenticator: remove it before you set up another.");
    randombytes_buf(secret, sizeof secret);
    int r = wv_store_set_totp(store, account.id, secret);
    if (r < 0)
        return wv_request_store_failed(q, store, r);
    wv_totp_uri(secret, q->gateway->settings.names[0], account.name, uri, text);
    wv_request_answer(q, 200, json_pack("{s:s, s:s}", "uri", uri, "secret", text));
    explicit_bzero(secret, sizeof secret);
    explicit_bzero(text, sizeof text);
    explicit_bzero(uri, sizeof uri);
}

static void post_totp(struct wv_request *q)
{
    wv_request_change(q, make_totp, NULL);
}

static void confirm_totp(struct wv_request *q, struct wv_store *store)
{
    struct wv_account account;
    int64_t step = 0;
    if (!own_account(q, store, &account))
        return;
    if (!account.has_totp || account.totp_required)
        return wv_request_refuse(q, WV_REFUSE_CONFLICT, "No authenticator waits to be confirmed.");
    enum wv_totp code =
        wv_totp_check(account.totp_secret, wv_json_text(q->body, "totp", ""), q->now_s, &step);
    if (code == WV_TOTP_OTHER_TIME)
        return wv_request_refuse(q, WV_REFUSE_CLOCK, NULL);
    if (code == WV_TOTP_WRONG)
        return wv_request_refuse(q, WV_REFUSE_CREDENTIALS, "The code is wrong.");
    int r = wv_store_use_totp(store, account.id, step, true);
    if (r == -EALREADY)
        return wv_request_refuse(q, WV_REFUSE_CODE_USED, NULL);
    if (r == 0)
        r = wv_request_audit(q, store, "authenticator set up", account.name);
    if (r < 0)
        return wv_request_store_failed(q, store, r);
    wv_api_new_recovery(q, store, account.id);
}

/* For what needs a code again although somebody is signed in. */
static bool second_again(struct wv_request *q, struct wv_store *store, struct wv_account *ret)
{
    if (!own_account(q, store, ret))
        return false;
    if (!ret->totp_required) {
        wv_request_refuse(q, WV_REFUSE_CONFLICT, "This account has no authenticator.");
        return false;
    }
    return wv_api_second(q, store, ret, wv_json_text(q->body, "totp", NULL),
                         wv_json_text(q->body, "recovery", NULL));
}

static void remove_totp(struct wv_request *q, struct wv_store *store)
{
    struct wv_account account;
    if (!second_again(q, store, &account))
        return;
    int r = wv_store_set_totp(store, account.id, NULL);
    if (r == 0)
        r = wv_request_audit(q, store, "authenticator removed", account.name);
    if (r < 0)
        return wv_request_store_failed(q, store, r);
    wv_request_answer(q, 204, NULL);
}

static void renew_recovery(struct wv_request *q, struct wv_store *store)
{
    struct wv_account account;
    if (!second_again(q, store, &account))
        return;
    int r = wv_request_audit(q, store, "recovery codes renewed", account.name);
    if (r < 0)
        return wv_request_store_failed(q, store, r);
    wv_api_new_recovery(q, store, account.id);
}

/* The token is looked at first: only then is it known whose attempts are counted. */
static void then_confirm(struct wv_request *q)
{
    if (wv_api_may_try(q, q->who.account))
        wv_request_change(q, confirm_totp, NULL);
}

static void then_remove(struct wv_request *q)
{
    if (wv_api_may_try(q, q->who.account) && wv_api_may_code(q, q->who.account))
        wv_request_change(q, remove_totp, NULL);
}

static void then_renew(struct wv_request *q)
{
    if (wv_api_may_try(q, q->who.account) && wv_api_may_code(q, q->who.account))
        wv_request_change(q, renew_recovery, NULL);
}

static void post_confirm(struct wv_request *q)
{
    q->settled = forgive;
    wv_request_run(q, WV_LANE_STORE, NULL, then_confirm);
}

static void post_remove(struct wv_request *q)
{
    q->settled = forgive;
    wv_request_run(q, WV_LANE_STORE, NULL, then_remove);
}

static void post_recovery(struct wv_request *q)
{
    q->settled = forgive;
    wv_request_run(q, WV_LANE_STORE, NULL, then_renew);
}

/* ---- GET /v1/audit ---- */

static int add_line(void *userdata, const struct wv_audit *line)
{
    json_array_append_new(userdata, json_pack("{s:s, s:I, s:s, s:s, s:s, s:s, s:s}", "id", line->id, "at",
                                              (json_int_t)line->at, "account", line->account, "actor",
                                              line->actor, "action", line->action, "subject", line->subject,
                                              "address", line->address));
    return 0;
}

static void read_audit(struct wv_request *q, struct wv_store *store)
{
    char text[24], line[WV_STORE_ID_BYTES];
    int64_t before = 0, limit = 50;
    bool all = wv_request_query(q, "all", text, sizeof text) && !strcmp(text, "1");
    if ((wv_request_query(q, "before", text, sizeof text) &&
         wv_http_length(text, INT64_MAX / 16, &before) < 0) ||
        (wv_request_query(q, "limit", text, sizeof text) && wv_http_length(text, AUDIT_LINES, &limit) < 0))
        return wv_request_refuse(q, WV_REFUSE_BAD_FIELD, "before is a Unix time, limit is 1 to 200.");
    bool within = wv_request_query(q, "before_id", line, sizeof line);
    if (within && (!before || strspn(line, "0123456789abcdef") != sizeof line - 1))
        return wv_request_refuse(q, WV_REFUSE_BAD_FIELD,
                                 "before_id is the id of a line, and before the time of the same line.");
    if (all && !q->who.admin)
        return wv_request_refuse(q, WV_REFUSE_NOT_ADMIN, NULL);
    json_t *lines = json_array();
    int r = wv_store_audit_lines(store, all ? NULL : q->who.account, before, within ? line : NULL,
                                 (uint32_t)WV_MAX(limit, 1), add_line, lines);
    if (r == 0)
        return wv_request_answer(q, 200, json_pack("{s:o}", "audit", lines));
    json_decref(lines);
    wv_request_store_failed(q, store, r);
}

static void get_audit(struct wv_request *q)
{
    wv_request_run(q, WV_LANE_STORE, read_audit, NULL);
}

static const struct wv_json_field password_fields[] = {
    {"password", WV_JSON_TEXT, true, 1, WV_PASSWORD_MAX},
    {"new", WV_JSON_TEXT, true, WV_PASSWORD_MIN, WV_PASSWORD_MAX},
    {0},
};
static const struct wv_json_field confirm_fields[] = {
    {"totp", WV_JSON_TEXT, true, WV_TOTP_DIGITS, WV_TOTP_DIGITS},
    {0},
};
static const struct wv_json_field second_fields[] = {
    {"totp", WV_JSON_TEXT, false, WV_TOTP_DIGITS, WV_TOTP_DIGITS},
    {"recovery", WV_JSON_TEXT, false, 16, 32},
    {0},
};

const struct wv_route wv_account_routes[] = {
    {"GET", "/v1/account", WV_AUTH_ANY, NULL, get_account, false},
    {"POST", "/v1/account/password", WV_AUTH_PERSON, password_fields, post_password, false},
    {"POST", "/v1/account/totp", WV_AUTH_PERSON, NULL, post_totp, false},
    {"POST", "/v1/account/totp/confirm", WV_AUTH_PERSON, confirm_fields, post_confirm, false},
    {"POST", "/v1/account/totp/remove", WV_AUTH_PERSON, second_fields, post_remove, false},
    {"POST", "/v1/account/recovery", WV_AUTH_PERSON, second_fields, post_recovery, false},
    {"GET", "/v1/audit", WV_AUTH_PERSON, NULL, get_audit, false},
    {0},
};
