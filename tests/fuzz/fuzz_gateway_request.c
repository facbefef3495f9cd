/* What a stranger sends to a gateway before anything of it counts: a line "METHOD PATH", headers' values, a
 * body. Each input is those, with newlines between; the body is the rest. */
#include "services/gateway/http_head.h"
#include "services/gateway/routes.h"

#include <sodium.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

/* The next line, NUL-terminated: the caller frees it. */
static char *next_line(const uint8_t **data, size_t *len)
{
    const uint8_t *end = *len ? memchr(*data, '\n', *len) : NULL;
    size_t n = end ? (size_t)(end - *data) : *len;
    char *line = malloc(n + 1);
    if (!line)
        abort();
    if (n)
        memcpy(line, *data, n);
    line[n] = 0;
    *data += n + (end ? 1 : 0);
    *len -= n + (end ? 1 : 0);
    return line;
}

static void check_addresses(const char *forwarded)
{
    static const struct wv_range trusted[] = {{{[10] = 0xff, [11] = 0xff, [12] = 127}, 104},
                                              {{0x20, 0x01}, 16}};
    static const uint8_t from[16] = {[10] = 0xff, [11] = 0xff, [12] = 127, [15] = 1}, stranger[16] = {9};
    uint8_t got[16];
    char text[64];
    wv_http_forwarded(forwarded, trusted, 2, stranger, got);
    if (memcmp(got, stranger, 16) != 0)
        abort(); /* nobody but a proxy is believed */
    wv_http_forwarded(forwarded, trusted, 2, from, got);
    wv_address_text(got, text, sizeof text);
}

static void check_body(const struct wv_route *route, const uint8_t *data, size_t len)
{
    char reason[WV_JSON_REASON_BYTES];
    json_t *body = NULL;
    if (wv_json_parse(&body, data, len, reason) < 0)
        return;
    if (route && route->fields && wv_json_check(body, route->fields, reason) == 0)
        for (const struct wv_json_field *f = route->fields; f->name; f++)
            if (f->type == WV_JSON_TEXT && wv_json_text(body, f->name, NULL)) {
                uint8_t bytes[64];
                if (strlen(wv_json_text(body, f->name, "")) > (size_t)f->max)
                    abort();
                (void)wv_json_bytes(body, f->name, bytes, 32);
                (void)wv_json_bytes(body, f->name, bytes, 64);
            }
    json_decref(body);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    char args[WV_ROUTE_ARGS][WV_ROUTE_ARG_BYTES], value[32];
    uint8_t hash[WV_STORE_HASH_BYTES];
    struct wv_request q = {0};
    int64_t length = 0;
    bool known;
    if (sodium_init() < 0)
        abort();
    wv_json_init();
    char *line = next_line(&data, &len), *query = next_line(&data, &len), *token = next_line(&data, &len);
    char *forwarded = next_line(&data, &len), *declared = next_line(&data, &len);
    char *path = strchr(line, ' ');
    if (path)
        *path++ = 0;
    const struct wv_route *route = wv_route_find(line, path ? path : "", args, &known);
    if (route && !known)
        abort();
    snprintf(q.query, sizeof q.query, "%s", query);
    (void)wv_request_query(&q, "before", value, sizeof value);
    (void)wv_request_query(&q, "limit", value, sizeof value);
    (void)wv_http_bearer(token, hash);
    (void)wv_http_cookie(token, hash);
    check_addresses(forwarded);
    if (wv_http_length(declared, WV_JSON_BYTES_MAX, &length) == 0 &&
        (length < 0 || length > WV_JSON_BYTES_MAX))
        abort();
    check_body(route, data, len);
    free(line);
    free(query);
    free(token);
    free(forwarded);
    free(declared);
    return 0;
}
