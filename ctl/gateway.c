/* A person's account at a gateway; see gateway.h. Must never show a password or a token. */
#include "ctl/gateway.h"

#include "client/trust.h"
#include "lib/base/util.h"
#include "rift/crypto/prove.h"

#include <errno.h>
#include <sodium.h>
#include <string.h>
#include <sysexits.h>
#include <time.h>

#define BASE64 sodium_base64_VARIANT_URLSAFE_NO_PADDING

int wv_ctl_gateway_open(struct wv_ctl *c, struct wv_ctl_gateway *g, bool need_token)
{
    char message[WV_TRUST_TEXT_BYTES] = "no home folder is known (HOME)";
    *g = (struct wv_ctl_gateway){0};
    int r = wv_trust_path("gateway.conf", g->path, sizeof g->path);
    if (r == 0)
        r = wv_gateway_account_load(g->path, &g->account, message, sizeof message);
    if (r == WV_ACCOUNT_NONE || (r == 0 && need_token && !g->account.token[0])) {
        fprintf(c->err, "wavryctl: not signed in to a gateway: wavryctl login https://HOST\n");
        return EX_NOPERM;
    }
    if (r == 0 && need_token && g->account.expires <= (uint64_t)time(NULL)) {
        fprintf(c->err, "wavryctl: the sign-in at %s has ended: wavryctl login %s\n", g->account.url.name,
                g->account.url.name);
        return EX_NOPERM;
    }
    if (r < 0) {
        fprintf(c->err, "wavryctl: %s\n", message);
        return EX_CONFIG;
    }
    r = rift_crypto_init() < 0 ? -EIO : wv_gateway_new(&g->wire, g->account.ca_file);
    if (r < 0) {
        fprintf(c->err, "wavryctl: no connection to the gateway can be made: %s%s\n",
                r == -ENOENT ? g->account.ca_file : "", r == -ENOENT ? " can't be read" : strerror(-r));
        return EX_CONFIG;
    }
    wv_gateway_aim(g->wire, &g->account.url);
    return 0;
}

void wv_ctl_gateway_close(struct wv_ctl_gateway *g)
{
    g->wire = wv_gateway_free(g->wire);
    wv_gateway_account_wipe(&g->account);
}

int wv_ctl_gateway_ask(struct wv_ctl *c, struct wv_ctl_gateway *g, const char *method, const char *path,
                       json_t *body, const char *except, struct wv_gateway_answer *ret)
{
    const char *token = g->account.token[0] ? g->account.token : NULL;
    int r = wv_gateway_request(g->wire, method, path, token, body, WV_CTL_ANSWER_MS, ret);
    if (r == 0 || (r == WV_GATEWAY_REFUSED && except && !strcmp(ret->error, except)))
        return r;
    fprintf(c->err, "wavryctl: %s\n", ret->sentence[0] ? ret->sentence : "The gateway can't be asked.");
    wv_gateway_answer_fini(ret);
    if (r == WV_GATEWAY_REFUSED)
        return ret->status == 404                         ? EX_DATAERR
               : ret->status >= 500 || ret->status == 429 ? EX_TEMPFAIL
                                                          : EX_NOPERM;
    return r == -EPROTO || r == -EKEYREJECTED ? EX_PROTOCOL : EX_UNAVAILABLE;
}

int wv_ctl_gateway_identity(struct wv_ctl *c, struct rift_identity *ret)
{
    char path[4096], message[WV_TRUST_TEXT_BYTES] = "no home folder is known (HOME)";
    int r = wv_trust_path("identity", path, sizeof path);
    if (r == 0)
        r = wv_identity_load(path, ret, message);
    if (r < 0)
        fprintf(c->err, "wavryctl: %s\n", message);
    return r < 0 ? EX_CONFIG : 0;
}

int wv_ctl_gateway_challenge(struct wv_ctl *c, struct wv_ctl_gateway *g, const char *key,
                             struct wv_ctl_proof *ret)
{
    struct wv_gateway_answer a;
    json_t *body = json_pack("{s:s}", "key", key);
    int r = wv_ctl_gateway_ask(c, g, "POST", "/v1/challenge", body, NULL, &a);
    json_decref(body);
    if (r != 0)
        return r;
    const char *text = wv_gateway_text(a.body, "challenge", 43);
    const char *exchange = wv_gateway_text(a.body, "exchange", 43);
    bool good = text && exchange;
    if (good) {
        snprintf(ret->challenge, sizeof ret->challenge, "%s", text);
        snprintf(ret->exchange, sizeof ret->exchange, "%s", exchange);
    } else {
        fprintf(c->err, "wavryctl: The gateway's challenge is none, or of an older version of it.\n");
    }
    wv_gateway_answer_fini(&a);
    return good ? 0 : EX_PROTOCOL;
}

static bool read_32(const char *text, uint8_t ret[32])
{
    const char *end = "?";
    size_t n;
    return sodium_base642bin(ret, 32, text, strlen(text), NULL, &n, &end, BASE64) == 0 && n == 32 && !*end;
}

int wv_ctl_gateway_sign(const struct wv_ctl_gateway *g, const struct rift_identity *id,
                        struct wv_ctl_proof *p)
{
    uint8_t challenge[RIFT_PROVE_CHALLENGE_BYTES], exchange[32], signature[64], proof[RIFT_PROVE_KEY_BYTES];
    const struct rift_prove_key what = {g->account.url.name, challenge, exchange, id->public,
                                        id->sign_public};
    if (!read_32(p->challenge, challenge) || !read_32(p->exchange, exchange) ||
        rift_prove_gateway(id->sign_secret, g->account.url.name, challenge, signature) < 0 ||
        rift_prove_key(&what, id->secret, proof) < 0)
        return -EINVAL;
    sodium_bin2base64(p->signature, sizeof p->signature, signature, sizeof signature, BASE64);
    sodium_bin2base64(p->key_proof, sizeof p->key_proof, proof, sizeof proof, BASE64);
    return 0;
}

/* Whether machine KEY is in this account's list at ROUTE. */
static bool is_ours(struct wv_ctl *c, struct wv_ctl_gateway *g, const char *route, const char *key)
{
    struct wv_gateway_answer a;
    size_t i;
    json_t *one;
    bool found = false;
    if (wv_ctl_gateway_ask(c, g, "GET", route, NULL, NULL, &a) != 0)
        return false;
    json_t *list = json_object_get(a.body, strcmp(route, "/v1/hosts") ? "devices" : "hosts");
    json_array_foreach(list, i, one)
    {
        const char *text = wv_gateway_text(one, "key", 64);
        found = found || (text && !strcmp(text, key) && !json_is_true(json_object_get(one, "shared")));
    }
    wv_gateway_answer_fini(&a);
    return found;
}

int wv_ctl_gateway_register(struct wv_ctl *c, struct wv_ctl_gateway *g, const char *route, const char *key,
                            const char *sign_key, const char *name, const struct wv_ctl_proof *p)
{
    struct wv_gateway_answer a;
    json_t *body = json_pack("{s:s,s:s,s:s,s:s,s:s,s:s}", "key", key, "sign_key", sign_key, "name", name,
                             "challenge", p->challenge, "signature", p->signature, "key_proof", p->key_proof);
    int r = wv_ctl_gateway_ask(c, g, "POST", route, body, "exists", &a);
    json_decref(body);
    if (r != 0 && r != WV_GATEWAY_REFUSED)
        return r;
    wv_gateway_answer_fini(&a);
    if (r == 0 || is_ours(c, g, route, key))
        return 0;
    fprintf(
        c->err,
        "wavryctl: the gateway has another machine of the name \"%s\", or this one under another account; "
        "give another name\n",
        name);
    return EX_DATAERR;
}
