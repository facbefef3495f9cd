/* Signing in by key; see sign_in.h. */
#include "lib/gateway/sign_in.h"

#include "lib/base/util.h"

#include <errno.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>

#define BASE64 sodium_base64_VARIANT_URLSAFE_NO_PADDING

static int no_sense(struct wv_gateway_answer *a)
{
    wv_gateway_answer_fini(a);
    snprintf(a->sentence, sizeof a->sentence,
             "What answers there is no gateway of Wavry: it makes no sense.");
    return -EPROTO;
}

/* Returns 0 with both texts, or as wv_gateway_request(). */
static int be_challenged(struct wv_gateway *g, const struct wv_gateway_url *url, const char *key,
                         wv_gateway_sign_fn sign, void *userdata, unsigned timeout_ms, char ret_challenge[64],
                         char ret_signature[100], struct wv_gateway_answer *a)
{
    uint8_t challenge[32], signature[64];
    size_t n = 0;
    const char *end = "?";
    json_t *body = json_pack("{s:s}", "key", key);
    int r = wv_gateway_request(g, "POST", "/v1/challenge", NULL, body, timeout_ms, a);
    json_decref(body);
    if (r != 0) {
        wv_gateway_answer_fini(a);
        return r;
    }
    const char *text = wv_gateway_text(a->body, "challenge", 63);
    if (!text ||
        sodium_base642bin(challenge, sizeof challenge, text, strlen(text), NULL, &n, &end, BASE64) != 0 ||
        n != sizeof challenge || *end || sign(userdata, url->name, challenge, signature) < 0)
        return no_sense(a);
    snprintf(ret_challenge, 64, "%s", text);
    sodium_bin2base64(ret_signature, 100, signature, sizeof signature, BASE64);
    wv_gateway_answer_fini(a);
    return 0;
}

int wv_gateway_sign_in(struct wv_gateway *g, const struct wv_gateway_url *url, const char *key,
                       wv_gateway_sign_fn sign, void *userdata, unsigned timeout_ms, char *ret_token,
                       size_t capacity, struct wv_gateway_answer *ret_why)
{
    char challenge[64], signature[100];
    uint64_t until = wv_now_ns() + timeout_ms * WV_NS_PER_MS;
    int r = be_challenged(g, url, key, sign, userdata, timeout_ms, challenge, signature, ret_why);
    if (r != 0)
        return r;
    json_t *body = json_pack("{s:s,s:s,s:s}", "key", key, "challenge", challenge, "signature", signature);
    uint64_t now = WV_MIN(wv_now_ns(), until);
    r = wv_gateway_request(g, "POST", "/v1/session", NULL, body, (unsigned)((until - now) / WV_NS_PER_MS),
                           ret_why);
    json_decref(body);
    const char *token = r == 0 ? wv_gateway_text(ret_why->body, "token", capacity - 1) : NULL;
    if (r == 0 && !token)
        return no_sense(ret_why);
    if (token)
        snprintf(ret_token, capacity, "%s", token);
    wv_gateway_answer_fini(ret_why);
    return r;
}
