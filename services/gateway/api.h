/* What the handlers share. */
#pragma once

#include "services/gateway/request.h"

/* Attempts at ACCOUNT (a name or id) from the request's address. Take: refuses and says false when there were
 * too many. Forgive: it was right. */
bool wv_api_may_try(struct wv_request *q, const char *account);
void wv_api_forgive(struct wv_request *q, const char *account);

/* Wrong codes at the account with the id ACCOUNT, from whatever addresses: only who has its password or a
 * token of it comes here, so nobody else can use it up. Take: refuses and says false when there were too
 * many; a body without "totp" always may. Forgive: the code was right, or was not looked at. */
bool wv_api_may_code(struct wv_request *q, const char *account);
void wv_api_forgive_code(struct wv_request *q);

/* The key that stands in the path or body. False: refused. */
bool wv_api_key(struct wv_request *q, const char *text, uint8_t ret_key[WV_STORE_KEY_BYTES]);

/* "challenge" and "signature" of the body, by SIGN_KEY for KEY; on the store's thread. False: refused. The
 * challenge is not used up by this. */
bool wv_api_proof(struct wv_request *q, const uint8_t key[WV_STORE_KEY_BYTES],
                  const uint8_t sign_key[WV_STORE_KEY_BYTES], uint8_t ret_challenge[32]);

/* Checks TOTP code or recovery code (either may be NULL) for an account that needs one, and uses it up. On
 * the store's thread. False: refused. */
bool wv_api_second(struct wv_request *q, struct wv_store *store, const struct wv_account *account,
                   const char *totp, const char *recovery);

/* Makes ten recovery codes and answers 200 with them. On the store's thread. */
void wv_api_new_recovery(struct wv_request *q, struct wv_store *store, const char *account);
json_t *wv_api_account_json(const struct wv_account *account);
