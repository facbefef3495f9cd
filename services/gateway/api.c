/* See api.h. */
#include "services/gateway/api.h"

#include "lib/base/bytes.h"
#include "lib/base/util.h"
#include "rift/crypto/identity.h"
#include "services/gateway/challenge.h"
#include "services/gateway/password.h"

#include <errno.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

static void try_key(const struct wv_request *q, const char *account, uint8_t ret_key[WV_LIMIT_KEY_BYTES])
{
    char folded[WV_STORE_NAME_BYTES];
    size_t i = 0;
    for (; account[i] && i < sizeof folded - 1; i++)
        folded[i] = account[i] >= 'A' && account[i] <= 'Z' ? (char)(account[i] - 'A' + 'a') : account[i];
    folded[i] = 0;
    wv_limit_key(q->address, folded, ret_key);
}

bool wv_api_may_try(struct wv_request *q, const char *account)
{
    uint8_t by_address[WV_LIMIT_KEY_BYTES], by_both[WV_LIMIT_KEY_BYTES];
    uint64_t now = wv_now_ns();
    wv_limit_key(q->address, NULL, by_address);
    try_key(q, account, by_both);
    uint64_t wait_ms = wv_limits_take(q->gateway->logins, by_address, 1, now);
    if (!wait_ms)
        wait_ms = wv_limits_take(q->gateway->wrong, by_both, 1, now);
    if (!wait_ms)
        return true;
    q->retry_after_s = (unsigned)WV_MIN(wait_ms / 1000 + 1, (uint64_t)3600);
    wv_request_refuse(q, WV_REFUSE_LOGIN_LIMITED, NULL);
    return false;
}

void wv_api_forgive(struct wv_request *q, const char *account)
{
    uint8_t key[WV_LIMIT_KEY_BYTES];
    uint64_t now = wv_now_ns();
    wv_limit_key(q->address, NULL, key);
    wv_limits_give(q->gateway->logins, key, 1, now);
    try_key(q, account, key);
    wv_limits_give(q->gateway->wrong, key, 1, now);
}

bool wv_api_key(struct wv_request *q, const char *text, uint8_t ret_key[WV_STORE_KEY_BYTES])
{
    if (rift_public_key_parse(text, ret_key) == 0)
        return true;
    wv_request_refuse(q, WV_REFUSE_BAD_KEY, NULL);
    return false;
}

bool wv_api_proof(struct wv_request *q, const uint8_t key[WV_STORE_KEY_BYTES],
                  const uint8_t sign_key[WV_STORE_KEY_BYTES], uint8_t ret_challenge[32])
{
    const struct wv_gateway *g = q->gateway;
    uint8_t signature[WV_SIGNATURE_BYTES];
    if (wv_json_bytes(q->body, "challenge", ret_challenge, WV_CHALLENGE_BYTES) < 0 ||
        wv_json_bytes(q->body, "signature", signature, sizeof signature) < 0) {
        wv_request_refuse(q, WV_REFUSE_BAD_FIELD, "Challenge and signature are unpadded URL-safe base64.");
        return false;
    }
    switch (wv_challenge_check(g->secret, key, ret_challenge, q->now_s)) {
    case WV_CHALLENGE_FORGED:
        wv_request_refuse(q, WV_REFUSE_PROOF, "The challenge is not of this gateway, or for another key.");
        return false;
    case WV_CHALLENGE_OLD:
        wv_request_refuse(q, WV_REFUSE_CHALLENGE_OLD, NULL);
        return false;
    case WV_CHALLENGE_EARLY:
        wv_request_refuse(q, WV_REFUSE_CLOCK, "The clocks of two gateways differ: set them.");
        return false;
    case WV_CHALLENGE_FRESH:
        break;
    }
    for (size_t i = 0; i < g->settings.n_names; i++)
        if (wv_challenge_signed(sign_key, g->settings.names[i], ret_challenge, signature))
            return true;
    wv_request_refuse(q, WV_REFUSE_PROOF, NULL);
    return false;
}

bool wv_api_may_code(struct wv_request *q, const char *account)
{
    static const uint8_t nowhere[16];
    uint8_t key[WV_LIMIT_KEY_BYTES];
    if (!wv_json_text(q->body, "totp", NULL))
        return true;
    wv_limit_key(nowhere, account, key);
    uint64_t wait_ms = wv_limits_take(q->gateway->codes, key, 1, wv_now_ns());
    if (!wait_ms) {
        snprintf(q->code_of, sizeof q->code_of, "%s", account);
        return true;
    }
    q->retry_after_s = (unsigned)WV_MIN(wait_ms / 1000 + 1, (uint64_t)3600);
    wv_request_refuse(q, WV_REFUSE_LOGIN_LIMITED,
                      "Too many wrong codes at this account: wait, or use a recovery code. If they were not "
                      "yours, somebody knows the password: change it.");
    return false;
}

void wv_api_forgive_code(struct wv_request *q)
{
    static const uint8_t nowhere[16];
    uint8_t key[WV_LIMIT_KEY_BYTES];
    if (!q->code_of[0])
        return;
    wv_limit_key(nowhere, q->code_of, key);
    wv_limits_give(q->gateway->codes, key, 1, wv_now_ns());
}

/* ---- the second factor ---- */

/* Uses up ACCOUNT's code of STEP, whatever the clock says: what was told to be right at another time must not
 * be worth anything when that time comes. -EEXIST: it was used up before. */
static int use_code(struct wv_store *store, const struct wv_account *account, int64_t step)
{
    static const char label[] = "wavry gateway code";
    uint8_t used[32], number[8];
    crypto_generichash_state state;
    struct wv_writer w;
    wv_writer_init(&w, number, sizeof number);
    wv_write_u64(&w, (uint64_t)step);
    crypto_generichash_init(&state, account->totp_secret, sizeof account->totp_secret, sizeof used);
    crypto_generichash_update(&state, (const uint8_t *)label, sizeof label);
    crypto_generichash_update(&state, (const uint8_t *)account->id, sizeof account->id);
    crypto_generichash_update(&state, number, sizeof number);
    crypto_generichash_final(&state, used, sizeof used);
    return wv_store_use_challenge(store, used, (step + 3) * WV_TOTP_STEP_S);
}

static void refuse_other_time(struct wv_request *q, struct wv_store *store, const struct wv_account *account,
                              int64_t away)
{
    char sentence[160];
    int r = away > 0 ? use_code(store, account, q->now_s / WV_TOTP_STEP_S + away) : 0;
    if (r < 0 && r != -EEXIST)
        return wv_request_store_failed(q, store, r);
    snprintf(sentence, sizeof sentence,
             "This code is of %lld minutes %s: the clock of your authenticator or of the gateway is wrong.",
             (long long)(away < 0 ? -away : away) * WV_TOTP_STEP_S / 60, away < 0 ? "ago" : "from now");
    wv_request_refuse(q, WV_REFUSE_CLOCK, sentence);
}

static bool check_code(struct wv_request *q, struct wv_store *store, const struct wv_account *account,
                       const char *totp)
{
    int64_t step = 0;
    switch (wv_totp_check(account->totp_secret, totp, q->now_s, &step)) {
    case WV_TOTP_WRONG:
        wv_request_refuse(q, WV_REFUSE_CREDENTIALS, NULL);
        return false;
    case WV_TOTP_OTHER_TIME:
        refuse_other_time(q, store, account, step);
        return false;
    case WV_TOTP_RIGHT:
        break;
    }
    int r = use_code(store, account, step);
    if (r == 0)
        r = wv_store_use_totp(store, account->id, step, false);
    if (r == 0)
        return true;
    if (r == -EALREADY || r == -EEXIST)
        wv_request_refuse(q, WV_REFUSE_CODE_USED, NULL);
    else
        wv_request_store_failed(q, store, r);
    return false;
}

static bool check_recovery(struct wv_request *q, struct wv_store *store, const struct wv_account *account,
                           const char *recovery)
{
    uint8_t hash[WV_STORE_HASH_BYTES];
    uint64_t left;
    int r = wv_recovery_hash(account->id, recovery, hash);
    if (r == 0)
        r = wv_store_use_recovery(store, account->id, hash, q->now_s, &left);
    if (r == 0)
        return true;
    if (r == -EINVAL || r == -ENOENT)
        wv_request_refuse(q, WV_REFUSE_CREDENTIALS, NULL);
    else
        wv_request_store_failed(q, store, r);
    return false;
}

bool wv_api_second(struct wv_request *q, struct wv_store *store, const struct wv_account *account,
                   const char *totp, const char *recovery)
{
    if (!account->totp_required)
        return true;
    if (totp)
        return check_code(q, store, account, totp);
    if (recovery)
        return check_recovery(q, store, account, recovery);
    wv_request_refuse(q, WV_REFUSE_CODE_NEEDED, NULL);
    return false;
}

void wv_api_new_recovery(struct wv_request *q, struct wv_store *store, const char *account)
{
    uint8_t hashes[WV_STORE_RECOVERY_CODES][WV_STORE_HASH_BYTES];
    json_t *codes = json_array();
    for (size_t i = 0; i < WV_STORE_RECOVERY_CODES; i++) {
        char text[WV_RECOVERY_TEXT_BYTES];
        wv_recovery_make(account, text, hashes[i]);
        json_array_append_new(codes, json_string(text));
        explicit_bzero(text, sizeof text);
    }
    int r = wv_store_set_recovery(store, account, hashes);
    if (r == 0)
        return wv_request_answer(q, 200, json_pack("{s:o}", "recovery", codes));
    json_decref(codes);
    wv_request_store_failed(q, store, r);
}

json_t *wv_api_account_json(const struct wv_account *a)
{
    return json_pack("{s:s, s:s, s:b, s:b, s:b, s:I}", "id", a->id, "name", a->name, "admin", a->admin,
                     "disabled", a->disabled, "totp", a->totp_required, "created", (json_int_t)a->created);
}
