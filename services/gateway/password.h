/* Passwords, TOTP codes and recovery codes: making and checking. What is stored proves them and does not tell
 * them. Hashing a password takes a tenth of a second and 64 MiB on purpose: on the slow lane only. */
#pragma once

#include "services/gateway/store.h"

#define WV_PASSWORD_MIN 10
#define WV_PASSWORD_MAX 1024

/* Returns 0, -ENOMEM. */
int wv_password_hash(const char *password, char ret_hash[WV_STORE_PASSWORD_BYTES]);
/* HASH "" is nobody's: it takes as long and is false. */
bool wv_password_check(const char *password, const char *hash);

#define WV_TOTP_STEP_S 30
#define WV_TOTP_DIGITS 6

enum wv_totp {
    WV_TOTP_RIGHT = 0,
    WV_TOTP_WRONG = 1,
    WV_TOTP_OTHER_TIME = 2, /* right, but of another time within two hours */
};
/* Codes of the step before and after count, too. RET_STEP: whose it is; with OTHER_TIME, how far away. */
enum wv_totp wv_totp_check(const uint8_t secret[WV_STORE_SECRET_BYTES], const char *code, int64_t now_s,
                           int64_t *ret_step);
#define WV_TOTP_URI_BYTES 512
/* What an authenticator reads: otpauth://totp/..., and the secret alone in base32. */
void wv_totp_uri(const uint8_t secret[WV_STORE_SECRET_BYTES], const char *gateway, const char *account,
                 char ret_uri[WV_TOTP_URI_BYTES], char ret_secret[33]);

#define WV_RECOVERY_TEXT_BYTES 20 /* xxxx-xxxx-xxxx-xxxx */
void wv_recovery_make(const char *account, char ret_text[WV_RECOVERY_TEXT_BYTES],
                      uint8_t ret_hash[WV_STORE_HASH_BYTES]);
/* Of a code as somebody typed it. Returns 0 or -EINVAL. */
int wv_recovery_hash(const char *account, const char *text, uint8_t ret_hash[WV_STORE_HASH_BYTES]);
