/* Which machine a bare name means; see name.h. */
#include "client/name.h"

#include <netdb.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>

bool wv_name_is_bare(const char *text)
{
    struct addrinfo hints = {.ai_flags = AI_NUMERICHOST}, *list = NULL;
    if (!text[0] || strpbrk(text, ".:[]") || !strcasecmp(text, "localhost"))
        return false;
    if (getaddrinfo(text, NULL, &hints, &list) != 0)
        return true;
    freeaddrinfo(list);
    return false;
}

static bool may_be(const struct wv_name_case *c, const struct wv_name_claim *claim)
{
    if (claim->keyless)
        return false;
    if (c->key)
        return !memcmp(claim->key, c->key, sizeof claim->key);
    return claim->known || c->pairs;
}

enum wv_name_verdict wv_name_judge(const struct wv_name_case *c, const struct wv_name_claim **ret_claim,
                                   const struct wv_name_claim **ret_other)
{
    const struct wv_name_claim *best = NULL;
    for (size_t i = 0; i < c->n_claims; i++) {
        const struct wv_name_claim *claim = &c->claims[i];
        if (!may_be(c, claim))
            continue;
        if (best && memcmp(best->key, claim->key, sizeof best->key) != 0) {
            *ret_claim = best;
            *ret_other = claim;
            return WV_NAME_SEVERAL;
        }
        if (!best || (best->place == WV_NAME_AT_GATEWAY && claim->place == WV_NAME_ON_LAN))
            best = claim;
    }
    if (!best && !c->n_claims)
        return WV_NAME_NOBODY;
    *ret_claim = best ? best : &c->claims[0];
    return best ? WV_NAME_FOUND : WV_NAME_STRANGE;
}
