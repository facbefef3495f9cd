/* Headers in and out. See http_head.h. */
#include "services/gateway/http_head.h"

#include "lib/base/util.h"
#include "services/gateway/listen.h"

#include <arpa/inet.h>
#include <errno.h>
#include <sodium.h>
#include <string.h>
#include <strings.h>

#define HEADER_BYTES 2048
#define HOPS_MAX     16

/* ---- addresses ---- */

static bool parse_hop(const char *text, size_t len, uint8_t ret[16])
{
    char host[64];
    uint8_t ip[16] = {[10] = 0xff, [11] = 0xff};
    while (len && (*text == ' ' || *text == '\t')) {
        text++;
        len--;
    }
    while (len && (text[len - 1] == ' ' || text[len - 1] == '\t'))
        len--;
    if (len && *text == '[') { /* [2001:db8::1]:443 */
        const char *end = memchr(text, ']', len);
        if (!end)
            return false;
        text++;
        len = (size_t)(end - text);
    } else {
        const char *colon = memchr(text, ':', len); /* 192.0.2.1:443, but not 2001:db8::1 */
        if (colon && !memchr(colon + 1, ':', len - (size_t)(colon + 1 - text)))
            len = (size_t)(colon - text);
    }
    if (!len || len >= sizeof host)
        return false;
    memcpy(host, text, len);
    host[len] = 0;
    if (inet_pton(AF_INET, host, ip + 12) != 1 && inet_pton(AF_INET6, host, ip) != 1)
        return false;
    memcpy(ret, ip, 16);
    return true;
}

void wv_http_forwarded(const char *forwarded, const struct wv_range *trusted, size_t n_trusted,
                       const uint8_t from[16], uint8_t ret_address[16])
{
    const char *end = forwarded + strlen(forwarded);
    memcpy(ret_address, from, 16);
    /* From the right: each word is the word of who stands before it, who must be trusted. */
    for (int i = 0; i < HOPS_MAX && end > forwarded && wv_range_has(trusted, n_trusted, ret_address); i++) {
        const char *begin = end;
        uint8_t ip[16];
        while (begin > forwarded && begin[-1] != ',')
            begin--;
        if (!parse_hop(begin, (size_t)(end - begin), ip))
            return;
        memcpy(ret_address, ip, 16);
        end = begin > forwarded ? begin - 1 : begin;
    }
}

void wv_http_address(struct wv_gateway *g, struct lws *wsi, uint8_t ret_address[16])
{
    char forwarded[HEADER_BYTES] = "";
    uint8_t from[16];
    wv_listeners_peer(wsi, from);
    if (lws_hdr_copy(wsi, forwarded, sizeof forwarded, WSI_TOKEN_X_FORWARDED_FOR) < 0)
        forwarded[0] = 0; /* absent, or longer than any honest chain */
    wv_http_forwarded(forwarded, g->settings.trusted, g->settings.n_trusted, from, ret_address);
}

void wv_address_text(const uint8_t address[16], char *ret, size_t capacity)
{
    static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};
    bool four = !memcmp(address, mapped, sizeof mapped);
    if (!inet_ntop(four ? AF_INET : AF_INET6, address + (four ? 12 : 0), ret, (socklen_t)capacity) &&
        capacity)
        ret[0] = 0;
}

/* ---- tokens ---- */

void wv_token_make(char ret_text[WV_TOKEN_TEXT_BYTES], uint8_t ret_hash[WV_STORE_HASH_BYTES])
{
    uint8_t token[32];
    randombytes_buf(token, sizeof token);
    sodium_bin2base64(ret_text, WV_TOKEN_TEXT_BYTES, token, sizeof token,
                      sodium_base64_VARIANT_URLSAFE_NO_PADDING);
    crypto_generichash(ret_hash, WV_STORE_HASH_BYTES, token, sizeof token, NULL, 0);
    explicit_bzero(token, sizeof token);
}

int wv_token_hash(const char *text, size_t len, uint8_t ret_hash[WV_STORE_HASH_BYTES])
{
    uint8_t token[32];
    size_t got;
    const char *end;
    if (sodium_base642bin(token, sizeof token, text, len, NULL, &got, &end,
                          sodium_base64_VARIANT_URLSAFE_NO_PADDING) != 0 ||
        got != sizeof token || end != text + len)
        return -ENOENT;
    crypto_generichash(ret_hash, WV_STORE_HASH_BYTES, token, sizeof token, NULL, 0);
    explicit_bzero(token, sizeof token);
    return 0;
}

int wv_http_bearer(const char *authorization, uint8_t ret_hash[WV_STORE_HASH_BYTES])
{
    if (strncasecmp(authorization, "Bearer ", 7) != 0)
        return -ENOENT;
    authorization += 7 + strspn(authorization + 7, " ");
    return wv_token_hash(authorization, strcspn(authorization, " "), ret_hash);
}

int wv_http_cookie(const char *cookies, uint8_t ret_hash[WV_STORE_HASH_BYTES])
{
    static const char name[] = WV_COOKIE_NAME "=";
    for (const char *p = cookies; *p;) {
        p += strspn(p, " ;");
        size_t len = strcspn(p, ";");
        if (len > sizeof name - 1 && !memcmp(p, name, sizeof name - 1))
            return wv_token_hash(p + sizeof name - 1, len - (sizeof name - 1), ret_hash);
        p += len;
    }
    return -ENOENT;
}

void wv_http_csrf(const struct wv_gateway *g, const uint8_t hash[WV_STORE_HASH_BYTES],
                  char ret[WV_CSRF_BYTES])
{
    static const char label[] = "wavry gateway page";
    uint8_t value[32];
    crypto_generichash_state state;
    crypto_generichash_init(&state, g->secret, sizeof g->secret, sizeof value);
    crypto_generichash_update(&state, (const uint8_t *)label, sizeof label);
    crypto_generichash_update(&state, hash, WV_STORE_HASH_BYTES);
    crypto_generichash_final(&state, value, sizeof value);
    sodium_bin2base64(ret, WV_CSRF_BYTES, value, sizeof value, sodium_base64_VARIANT_URLSAFE_NO_PADDING);
}

bool wv_http_has_csrf(struct wv_request *q)
{
    static const char name[] = "x-wavry-csrf:";
    char want[WV_CSRF_BYTES], got[WV_CSRF_BYTES + 1];
    int len = lws_hdr_custom_copy(q->wsi, got, sizeof got, name, sizeof name - 1);
    wv_http_csrf(q->gateway, q->token, want);
    return len == WV_CSRF_BYTES - 1 && sodium_memcmp(want, got, WV_CSRF_BYTES - 1) == 0;
}

void wv_http_read_head(struct wv_request *q)
{
    char text[HEADER_BYTES];
    size_t len = 0;
    for (int i = 0;
         lws_hdr_copy_fragment(q->wsi, text, sizeof q->query - 1, WSI_TOKEN_HTTP_URI_ARGS, i) > 0 &&
         len + 1 + strlen(text) < sizeof q->query;
         i++)
        len += (size_t)snprintf(q->query + len, sizeof q->query - len, "%s%s", i ? "&" : "", text);
    if (lws_hdr_copy(q->wsi, text, sizeof text, WSI_TOKEN_HTTP_AUTHORIZATION) > 0)
        q->has_token = wv_http_bearer(text, q->token) == 0;
    else if (lws_hdr_copy(q->wsi, text, sizeof text, WSI_TOKEN_HTTP_COOKIE) > 0)
        q->has_token = q->by_cookie = wv_http_cookie(text, q->token) == 0;
    explicit_bzero(text, sizeof text);
}

/* ---- bodies ---- */

int wv_http_length(const char *text, int64_t max, int64_t *ret)
{
    int64_t value = 0;
    if (!*text || strspn(text, "0123456789") != strlen(text))
        return -EINVAL;
    for (; *text; text++) {
        value = value * 10 + (*text - '0');
        if (value > max)
            return -EMSGSIZE;
    }
    *ret = value;
    return 0;
}

static bool may_have_body(const struct wv_request *q)
{
    return !q->route || q->route->fields;
}

int64_t wv_http_content_length(struct wv_request *q)
{
    char text[HEADER_BYTES];
    int64_t length = 0;
    bool declared = lws_hdr_total_length(q->wsi, WSI_TOKEN_HTTP_CONTENT_LENGTH) > 0;
    if (lws_hdr_total_length(q->wsi, WSI_TOKEN_HTTP_TRANSFER_ENCODING) > 0 ||
        (!declared && q->route && may_have_body(q))) {
        wv_request_refuse(q, WV_REFUSE_LENGTH_REQUIRED, NULL);
        return -1;
    }
    if (!declared)
        return q->route ? 0 : -1;
    int r = lws_hdr_copy(q->wsi, text, sizeof text, WSI_TOKEN_HTTP_CONTENT_LENGTH) > 0
                ? wv_http_length(text, WV_JSON_BYTES_MAX, &length)
                : -EINVAL;
    if (r < 0) {
        wv_request_refuse(q, r == -EMSGSIZE ? WV_REFUSE_TOO_LARGE : WV_REFUSE_BAD_REQUEST, NULL);
        return -1;
    }
    if (length && q->status == 0 &&
        (lws_hdr_copy(q->wsi, text, sizeof text, WSI_TOKEN_HTTP_CONTENT_TYPE) <= 0 ||
         strncasecmp(text, "application/json", 16) != 0 || (text[16] && !strchr("; ", text[16]))))
        wv_request_refuse(q, WV_REFUSE_BAD_TYPE, NULL);
    return length;
}

/* ---- answers ---- */

static int add(struct wv_request *q, const char *name, const char *value, unsigned char **p,
               unsigned char *end)
{
    return lws_add_http_header_by_name(q->wsi, (const unsigned char *)name, (const unsigned char *)value,
                                       (int)strlen(value), p, end)
               ? -1
               : 0;
}

int wv_http_write_head(struct wv_request *q, unsigned char **p, unsigned char *end)
{
    const char *type = q->file ? q->file_type : "application/json";
    size_t len = q->status == 304 ? q->file_len : q->out_len; /* RFC 9110, 8.6: as if it were sent */
    char text[32];
    if (lws_add_http_common_headers(q->wsi, (unsigned)q->status, q->out_len ? type : NULL, len, p, end))
        return -1;
    int r = add(q, "cache-control:", q->file ? "no-cache" : "no-store", p, end);
    if (r == 0)
        r = add(q, "x-content-type-options:", "nosniff", p, end);
    if (r == 0 && lws_is_ssl(q->wsi))
        r = add(q, "strict-transport-security:", "max-age=31536000", p, end);
    if (r == 0 && q->file)
        r = add(
            q, "content-security-policy:",
            "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
            "base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
            p, end);
    if (r == 0 && q->file)
        r = add(q, "referrer-policy:", "no-referrer", p, end);
    if (r == 0 && q->file)
        r = add(q, "vary:", "accept-encoding", p, end);
    if (r == 0 && q->file_coding)
        r = add(q, "content-encoding:", q->file_coding, p, end);
    if (r == 0 && q->file_tag)
        r = add(q, "etag:", q->file_tag, p, end);
    if (r == 0 && q->status == 401)
        r = add(q, "www-authenticate:", "Bearer", p, end);
    if (r == 0 && q->retry_after_s) {
        snprintf(text, sizeof text, "%u", q->retry_after_s);
        r = add(q, "retry-after:", text, p, end);
    }
    if (r == 0 && q->close)
        r = add(q, "connection:", "close", p, end);
    if (r == 0 && q->cookie[0])
        r = add(q, "set-cookie:", q->cookie, p, end);
    return r;
}
