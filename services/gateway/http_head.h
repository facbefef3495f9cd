/* The heads of requests and answers: what a request's headers say, and which headers an answer has. */
#pragma once

#include "services/gateway/request.h"

/* Fills in query and token. */
void wv_http_read_head(struct wv_request *q);
/* The declared length of the body; refuses what is no length, too large or chunked, and then says -1
 * (unknown: the connection can't go on). */
int64_t wv_http_content_length(struct wv_request *q);
bool wv_http_has_csrf(struct wv_request *q);
/* What a page sends as X-Wavry-CSRF beside the cookie whose token has this HASH. */
#define WV_CSRF_BYTES 44
void wv_http_csrf(const struct wv_gateway *g, const uint8_t hash[WV_STORE_HASH_BYTES],
                  char ret[WV_CSRF_BYTES]);
int wv_http_write_head(struct wv_request *q, unsigned char **p, unsigned char *end);

/* The parts, for tests and the fuzzer. The client's address: of FROM, or, as long as that is of TRUSTED, what
 * the proxy says in FORWARDED ("a, b, c", the last one is the proxy's own word). */
void wv_http_forwarded(const char *forwarded, const struct wv_range *trusted, size_t n_trusted,
                       const uint8_t from[16], uint8_t ret_address[16]);
/* "Bearer TOKEN" or, of a Cookie header, the gateway's. Returns 0 with the token's hash, or -ENOENT. */
int wv_http_bearer(const char *authorization, uint8_t ret_hash[WV_STORE_HASH_BYTES]);
int wv_http_cookie(const char *cookies, uint8_t ret_hash[WV_STORE_HASH_BYTES]);
/* Digits alone, up to MAX: else -EINVAL, -EMSGSIZE. */
int wv_http_length(const char *text, int64_t max, int64_t *ret);
#define WV_COOKIE_NAME "__Host-wavry"

/* 32 random bytes as text, and the hash by which the store knows them. */
#define WV_TOKEN_TEXT_BYTES 44
void wv_token_make(char ret_text[WV_TOKEN_TEXT_BYTES], uint8_t ret_hash[WV_STORE_HASH_BYTES]);
int wv_token_hash(const char *text, size_t len, uint8_t ret_hash[WV_STORE_HASH_BYTES]);
