/* The wavry: URL; see url.h. */
#include "client/url.h"

#include "client/trust.h"
#include "rift/crypto/identity.h"

#include <errno.h>
#include <sodium.h>
#include <string.h>

#define SCHEME "wavry:"

bool wv_url_is(const char *text)
{
    return strncmp(text, SCHEME, sizeof SCHEME - 1) == 0;
}

/* Names and addresses only: nothing that a shell, a terminal, a file or an option would take for more. */
static bool is_host(const char *host)
{
    static const char name[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_";
    static const char v6[] = "0123456789abcdefABCDEF:.";
    const char *allowed = strchr(host, ':') ? v6 : name;
    return host[0] && host[0] != '-' && host[0] != '.' && host[strspn(host, allowed)] == '\0';
}

/* PLACE: HOST:PORT or [V6]:PORT; the port must be there. */
static int parse_place(const char *place, struct wv_url *ret)
{
    const char *bracket = strrchr(place, ']');
    if (place[0] == '[' ? !bracket || bracket[1] != ':' : !strchr(place, ':') || bracket)
        return -EINVAL;
    ret->port = 0;
    if (wv_host_parse(place, ret->host, sizeof ret->host, &ret->port) < 0 || ret->port == 0)
        return -EINVAL;
    /* Without brackets more than one colon makes a bare IPv6 address, whose port nobody can tell. */
    if ((place[0] == '[') != (strchr(ret->host, ':') != NULL))
        return -EINVAL;
    return is_host(ret->host) ? 0 : -EINVAL;
}

static int parse_token(const char *text, uint8_t ret[WV_URL_TOKEN_BYTES])
{
    size_t len;
    const char *end;
    if (strlen(text) !=
        sodium_base64_ENCODED_LEN(WV_URL_TOKEN_BYTES, sodium_base64_VARIANT_URLSAFE_NO_PADDING) - 1)
        return -EINVAL;
    int r = sodium_base642bin(ret, WV_URL_TOKEN_BYTES, text, strlen(text), NULL, &len, &end,
                              sodium_base64_VARIANT_URLSAFE_NO_PADDING);
    return r == 0 && len == WV_URL_TOKEN_BYTES && *end == '\0' ? 0 : -EINVAL;
}

int wv_url_parse(const char *text, struct wv_url *ret)
{
    char copy[WV_URL_MAX_BYTES + 1];
    struct wv_url url = {0};
    bool have_key = false, have_token = false;
    if (!wv_url_is(text) || strlen(text) > WV_URL_MAX_BYTES)
        return -EINVAL;
    strcpy(copy, text + sizeof SCHEME - 1);
    char *query = strchr(copy, '?');
    if (!query)
        return -EINVAL;
    *query++ = '\0';
    int r = parse_place(copy, &url);
    for (char *next; query && r == 0; query = next) {
        next = strchr(query, '&');
        if (next)
            *next++ = '\0';
        if (strncmp(query, "key=", 4) == 0 && !have_key) {
            have_key = true;
            r = rift_public_key_parse(query + 4, url.key) < 0 ? -EINVAL : 0;
        } else if (strncmp(query, "token=", 6) == 0 && !have_token) {
            have_token = true;
            r = parse_token(query + 6, url.token);
        } else {
            r = -EINVAL;
        }
    }
    sodium_memzero(copy, sizeof copy);
    if (r == 0 && have_key && have_token)
        *ret = url;
    else
        r = -EINVAL;
    sodium_memzero(&url, sizeof url);
    return r;
}
