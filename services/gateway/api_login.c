/* Signing in: a person by password and code, a machine by its key; and signing out. An account that does not
 * exist costs the same and answers the same as a wrong password. */
#include "services/gateway/api.h"

#include "lib/base/util.h"
#include "rift/crypto/identity.h"
#include "services/gateway/challenge.h"
#include "services/gateway/http_head.h"
#include "services/gateway/password.h"
#include "services/gateway/routes.h"
#include "services/gateway/spare.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

/* ---- people ---- */

struct login {
    struct wv_account account;
    bool exists, checked, right, welcome, code_missing;
};

static void make_person_token(struct wv_request *q, struct wv_store *store, const struct login *l)
{
    char text[WV_TOKEN_TEXT_BYTES], csrf[WV_CSRF_BYTES];
    int64_t life_s = wv_config_int(q->gateway->settings.config, "token_hours") * 3600;
    struct wv_token token = {.created = q->now_s, .expires = q->now_s + life_s, .admin = l->account.admin};
    memcpy(token.account, l->account.id, sizeof token.account);
    wv_token_make(text, token.hash);
    int r = wv_store_add_token(store, &token);
    if (r < 0)
        return wv_request_store_failed(q, store, r);
    q->who = token;
    q->known = true;
    json_t *reply = json_pack("{s:I, s:o}", "expires", (json_int_t)token.expires, "account",
                              wv_api_account_json(&l->account));
    if (wv_json_flag(q->body, "cookie", false)) {
        snprintf(q->cookie, sizeof q->cookie,
                 WV_COOKIE_NAME "=%s; Path=/; Max-Age=%lld; Secure; HttpOnly; SameSite=Strict", text,
                 (long long)life_s);
        wv_http_csrf(q->gateway, token.hash, csrf);
        json_object_set_new(reply, "csrf", json_string(csrf));
    } else {
        json_object_set_new(reply, "token", json_string(text));
    }
    explicit_bzero(text, sizeof text);
    wv_request_answer(q, 200, reply);
}

/* In the log of the account that was tried, or of the gateway when there is none: a write either way. */
static void audit_login(struct wv_request *q, struct wv_store *store, const struct login *l,
                        const char *action)
{
    struct wv_audit line = {.at = q->now_s};
    const char *tried = wv_json_text(q->body, "account", "");
    if (l->exists) {
        memcpy(line.account, l->account.id, sizeof line.account);
        memcpy(line.actor, l->account.name, sizeof line.actor);
    }
    snprintf(line.action, sizeof line.action, "%s", action);
    snprintf(line.subject, sizeof line.subject, "%s", tried);
    snprintf(line.address, sizeof line.address, "%s", q->address_text);
    int r = wv_store_audit(store, &line);
    if (r < 0)
        wv_request_store_failed(q, store, r);
}

/* A code that was used up, the token and the line in the log are kept together or not at all. */
static void finish_login(struct wv_request *q, struct wv_store *store)
{
    struct login *l = q->state;
    const char *totp = wv_json_text(q->body, "totp", NULL);
    const char *recovery = wv_json_text(q->body, "recovery", NULL);
    if (!l->right || l->account.disabled) {
        wv_request_refuse(q, WV_REFUSE_CREDENTIALS, NULL);
        return audit_login(q, store, l, "login refused");
    }
    if (!wv_api_second(q, store, &l->account, totp, recovery)) {
        l->code_missing = q->why == WV_REFUSE_CODE_NEEDED;
        if (q->status < 500 && !l->code_missing)
            audit_login(q, store, l, "login refused");
        return;
    }
    make_person_token(q, store, l);
    l->welcome = q->status == 200;
    if (l->welcome)
        audit_login(q, store, l, l->account.totp_required && !totp ? "login by recovery code" : "login");
}

static void check_password(struct wv_request *q, struct wv_store *store)
{
    struct login *l = q->state;
    uint64_t begun = wv_now_ns();
    l->checked = true;
    l->right = wv_password_check(wv_json_text(q->body, "password", ""), l->exists ? l->account.password : "");
    wv_metric_record(q->gateway->metrics, WV_G_PASSWORD_US, (wv_now_ns() - begun) / WV_NS_PER_US);
}

static void find_account(struct wv_request *q, struct wv_store *store)
{
    struct login *l = q->state;
    int r = wv_store_account_by_name(store, wv_json_text(q->body, "account", ""), &l->account);
    l->exists = r == 0;
    if (r < 0 && r != -ENOENT)
        wv_request_store_failed(q, store, r);
}

/* Answered by the last step, so this is called only when a lane was full; what was right is forgiven by
 * settle(). */
static void after_password(struct wv_request *q)
{
    const struct login *l = q->state;
    if (l->right && l->account.totp_required && !wv_api_may_code(q, l->account.id))
        return;
    wv_request_change(q, finish_login, NULL);
}

static void after_find(struct wv_request *q)
{
    wv_request_run(q, WV_LANE_SLOW, check_password, after_password);
}

static void settle_login(struct wv_request *q)
{
    const struct login *l = q->state;
    bool recovered = l->account.totp_required && !wv_json_text(q->body, "totp", NULL);
    if (l->welcome && q->status == 200)
        wv_metric_add(q->gateway->metrics, recovered ? WV_G_RECOVERIES : WV_G_LOGINS, 1);
    /* Of what we could not do. A wrong password stays one when the log can't take it, or who waits until the
     * disk is full could try as many as he likes. */
    if (l->welcome || l->code_missing || (q->status >= 500 && (l->right || !l->checked)))
        wv_api_forgive(q, wv_json_text(q->body, "account", ""));
    if (l->welcome || q->status >= 500)
        wv_api_forgive_code(q);
}

static void login(struct wv_request *q)
{
    const char *account = wv_json_text(q->body, "account", "");
    q->state = calloc(1, sizeof(struct login));
    if (!q->state)
        return wv_request_refuse(q, WV_REFUSE_BUSY, NULL);
    if (!wv_api_may_try(q, account))
        return;
    q->settled = settle_login;
    wv_request_run(q, WV_LANE_STORE, find_account, after_find);
}

static void end_token(struct wv_request *q, struct wv_store *store)
{
    int r = wv_spare_end_token(q->gateway->spare, q->token) ? 0 : wv_store_end_token(store, q->token);
    if (r < 0 && r != -ENOENT)
        return wv_request_store_failed(q, store, r);
    snprintf(q->cookie, sizeof q->cookie,
             WV_COOKIE_NAME "=; Path=/; Max-Age=0; Secure; HttpOnly; SameSite=Strict");
    wv_request_answer(q, 204, NULL);
}

static void logout(struct wv_request *q)
{
    wv_request_run(q, WV_LANE_STORE, end_token, NULL);
}

/* ---- machines ---- */

/* This process, in a challenge that no other takes. */
static uint32_t process_of(const struct wv_gateway *g)
{
    char digits[9];
    snprintf(digits, sizeof digits, "%.8s", g->id);
    return (uint32_t)strtoul(digits, NULL, 16) | 1;
}

static void challenge(struct wv_request *q)
{
    uint8_t key[WV_STORE_KEY_BYTES], made[WV_CHALLENGE_BYTES], secret[32], exchange[32];
    if (!wv_api_key(q, wv_json_text(q->body, "key", ""), key))
        return;
    struct wv_gateway *g = q->gateway;
    wv_challenge_make(g->secret, key, wv_health_refuses_writes(&g->health) ? process_of(g) : WV_CHALLENGE_ANY,
                      q->now_s, made);
    json_t *reply = json_pack("{s:I}", "expires", (json_int_t)(q->now_s + WV_CHALLENGE_LIFE_S));
    wv_json_set_bytes(reply, "challenge", made, sizeof made);
    wv_challenge_exchange(g->secret, made, secret, exchange);
    explicit_bzero(secret, sizeof secret);
    wv_json_set_bytes(reply, "exchange", exchange, sizeof exchange);
    wv_request_answer(q, 200, reply);
}

/* A challenge that was made for this process alone is remembered here, whatever the database says, and the
 * token only when that does not take it. Returns 0, -EEXIST, or an error of the store. */
static int keep_session(struct wv_request *q, struct wv_store *store, struct wv_token *token,
                        const uint8_t challenge[WV_CHALLENGE_BYTES])
{
    struct wv_gateway *g = q->gateway;
    uint32_t process = wv_challenge_process(challenge);
    int64_t over = q->now_s + 2 * WV_CHALLENGE_LIFE_S;
    if (process == WV_CHALLENGE_ANY)
        return wv_store_add_session(store, token, challenge, over);
    if (wv_spare_use_challenge(g->spare, challenge, over, q->now_s) < 0)
        return -EEXIST;
    int r = wv_store_add_session(store, token, challenge, over);
    if (r == 0 || !wv_health_is_about_writes(r))
        return r;
    wv_health_failed(&g->health, g->metrics, r, wv_store_reason(store), wv_now_ns());
    token->expires = WV_MIN(token->expires, q->now_s + WV_SPARE_TOKEN_S);
    int kept = wv_spare_add_token(g->spare, token, q->now_s);
    if (kept == 0)
        wv_metric_add(g->metrics, WV_G_SPARE_LOGINS, 1);
    return kept == 0 ? 0 : r;
}

static void make_session(struct wv_request *q, struct wv_store *store)
{
    uint8_t key[WV_STORE_KEY_BYTES], used[WV_CHALLENGE_BYTES];
    char text[WV_TOKEN_TEXT_BYTES];
    struct wv_machine machine;
    struct wv_token token = {.created = q->now_s};
    if (!wv_api_key(q, wv_json_text(q->body, "key", ""), key))
        return;
    int r = wv_store_machine(store, key, &machine);
    if (r == -ENOENT)
        return wv_request_refuse(q, WV_REFUSE_UNKNOWN_MACHINE, NULL);
    if (r < 0)
        return wv_request_store_failed(q, store, r);
    if (!wv_api_proof(q, key, machine.sign_key, used))
        return;
    token.expires = q->now_s + wv_config_int(q->gateway->settings.config, "machine_token_hours") * 3600;
    memcpy(token.account, machine.account, sizeof token.account);
    memcpy(token.device, key, sizeof token.device);
    wv_token_make(text, token.hash);
    r = keep_session(q, store, &token, used);
    if (r == -EEXIST)
        return wv_request_refuse(q, WV_REFUSE_CHALLENGE_USED, NULL);
    if (r < 0)
        return wv_request_store_failed(q, store, r);
    wv_metric_add(q->gateway->metrics, WV_G_MACHINE_LOGINS, 1);
    wv_request_answer(q, 200, json_pack("{s:s, s:I}", "token", text, "expires", (json_int_t)token.expires));
    explicit_bzero(text, sizeof text);
}

static void session(struct wv_request *q)
{
    wv_request_run(q, WV_LANE_STORE, make_session, NULL);
}

static const struct wv_json_field login_fields[] = {
    {"account", WV_JSON_TEXT, true, 1, WV_STORE_NAME_BYTES - 1},
    {"password", WV_JSON_TEXT, true, 1, WV_PASSWORD_MAX},
    {"totp", WV_JSON_TEXT, false, WV_TOTP_DIGITS, WV_TOTP_DIGITS},
    {"recovery", WV_JSON_TEXT, false, 16, 32},
    {"cookie", WV_JSON_FLAG, false, 0, 0},
    {0},
};
static const struct wv_json_field challenge_fields[] = {{"key", WV_JSON_TEXT, true, 1, 64}, {0}};
static const struct wv_json_field session_fields[] = {
    {"key", WV_JSON_TEXT, true, 1, 64},
    {"challenge", WV_JSON_TEXT, true, 43, 43},
    {"signature", WV_JSON_TEXT, true, 86, 86},
    {0},
};

const struct wv_route wv_login_routes[] = {
    {"POST", "/v1/login", WV_AUTH_NONE, login_fields, login, false},
    {"POST", "/v1/logout", WV_AUTH_ANY, NULL, logout, false},
    {"POST", "/v1/challenge", WV_AUTH_NONE, challenge_fields, challenge, false},
    {"POST", "/v1/session", WV_AUTH_NONE, session_fields, session, false},
    {0},
};
