/* Argon2id and random bytes by libsodium, TOTP by liboath. See password.h. */
#include "services/gateway/password.h"

#include <errno.h>
#include <liboath/oath.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>

#define OTHER_STEPS  240 /* two hours */
#define RECOVERY_LEN 16

static const char base32[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";

int wv_password_hash(const char *password, char ret_hash[WV_STORE_PASSWORD_BYTES])
{
    _Static_assert(crypto_pwhash_STRBYTES <= WV_STORE_PASSWORD_BYTES, "the store has room for it");
    return crypto_pwhash_str_alg(ret_hash, password, strlen(password), crypto_pwhash_OPSLIMIT_INTERACTIVE,
                                 crypto_pwhash_MEMLIMIT_INTERACTIVE, crypto_pwhash_ALG_ARGON2ID13) == 0
               ? 0
               : -ENOMEM;
}

bool wv_password_check(const char *password, const char *hash)
{
    /* Of a random password that nobody kept: the same work for who does not exist. */
    static const char nobody[] = "$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHRzb21lc2FsdA$"
                                 "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
    char padded[crypto_pwhash_STRBYTES] = {0};
    snprintf(padded, sizeof padded, "%s", *hash ? hash : nobody);
    bool right = crypto_pwhash_str_verify(padded, password, strlen(password)) == 0;
    return right && *hash;
}

/* ---- TOTP ---- */

static bool is_code(const uint8_t *secret, int64_t step, const char *code)
{
    char want[WV_TOTP_DIGITS + 1];
    char copy[WV_STORE_SECRET_BYTES];
    memcpy(copy, secret, sizeof copy);
    int r = step < 0 ? OATH_INVALID_COUNTER
                     : oath_hotp_generate(copy, sizeof copy, (uint64_t)step, WV_TOTP_DIGITS, false,
                                          OATH_HOTP_DYNAMIC_TRUNCATION, want);
    explicit_bzero(copy, sizeof copy);
    return r == OATH_OK && sodium_memcmp(want, code, WV_TOTP_DIGITS) == 0;
}

enum wv_totp wv_totp_check(const uint8_t secret[WV_STORE_SECRET_BYTES], const char *code, int64_t now_s,
                           int64_t *ret_step)
{
    int64_t now = now_s / WV_TOTP_STEP_S;
    if (strlen(code) != WV_TOTP_DIGITS || strspn(code, "0123456789") != WV_TOTP_DIGITS)
        return WV_TOTP_WRONG;
    for (int64_t away = 0; away <= OTHER_STEPS; away++)
        for (int sign = -1; sign <= (away ? 1 : -1); sign += 2) {
            if (!is_code(secret, now + sign * away, code))
                continue;
            *ret_step = away <= 1 ? now + sign * away : sign * away;
            return away <= 1 ? WV_TOTP_RIGHT : WV_TOTP_OTHER_TIME;
        }
    return WV_TOTP_WRONG;
}

/* Names are anybody's text: everything but letters and digits is escaped. */
static void append(char *uri, size_t capacity, const char *text)
{
    size_t len = strlen(uri);
    for (; *text && len + 4 < capacity; text++) {
        unsigned char c = (unsigned char)*text;
        if ((c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z'))
            uri[len++] = (char)c;
        else
            len += (size_t)snprintf(uri + len, 4, "%%%02X", c);
    }
    uri[len] = 0;
}

void wv_totp_uri(const uint8_t secret[WV_STORE_SECRET_BYTES], const char *gateway, const char *account,
                 char ret_uri[WV_TOTP_URI_BYTES], char ret_secret[33])
{
    _Static_assert(WV_STORE_SECRET_BYTES * 8 == 32 * 5, "32 letters, no padding");
    char host[128];
    for (size_t i = 0; i < 32; i++) {
        size_t bit = i * 5, byte = bit / 8, shift = bit % 8;
        unsigned two =
            (unsigned)secret[byte] << 8 | (byte + 1 < WV_STORE_SECRET_BYTES ? secret[byte + 1] : 0);
        ret_secret[i] = base32[two >> (11 - shift) & 31];
    }
    ret_secret[32] = 0;
    snprintf(host, sizeof host, "Wavry %.*s", (int)strcspn(gateway, ":"), gateway);
    strcpy(ret_uri, "otpauth://totp/");
    append(ret_uri, 300, host);
    strcat(ret_uri, ":");
    append(ret_uri, 400, account);
    strcat(ret_uri, "?secret=");
    strcat(ret_uri, ret_secret);
    strcat(ret_uri, "&issuer=");
    append(ret_uri, WV_TOTP_URI_BYTES, host);
}

/* ---- recovery codes ---- */

static void hash_code(const char *account, const char code[RECOVERY_LEN], uint8_t ret[WV_STORE_HASH_BYTES])
{
    crypto_generichash_state state;
    crypto_generichash_init(&state, NULL, 0, WV_STORE_HASH_BYTES);
    crypto_generichash_update(&state, (const uint8_t *)account, strlen(account) + 1);
    crypto_generichash_update(&state, (const uint8_t *)code, RECOVERY_LEN);
    crypto_generichash_final(&state, ret, WV_STORE_HASH_BYTES);
}

void wv_recovery_make(const char *account, char ret_text[WV_RECOVERY_TEXT_BYTES],
                      uint8_t ret_hash[WV_STORE_HASH_BYTES])
{
    char code[RECOVERY_LEN];
    size_t n = 0;
    for (size_t i = 0; i < RECOVERY_LEN; i++) {
        code[i] = base32[randombytes_uniform(32)];
        if (i && i % 4 == 0)
            ret_text[n++] = '-';
        ret_text[n++] = code[i];
    }
    ret_text[n] = 0;
    hash_code(account, code, ret_hash);
    explicit_bzero(code, sizeof code);
}

int wv_recovery_hash(const char *account, const char *text, uint8_t ret_hash[WV_STORE_HASH_BYTES])
{
    char code[RECOVERY_LEN];
    size_t n = 0;
    for (; *text; text++) {
        char c = *text >= 'a' && *text <= 'z' ? (char)(*text - 'a' + 'A') : *text;
        if (c == '-' || c == ' ')
            continue;
        if (n == RECOVERY_LEN || !strchr(base32, c))
            return -EINVAL;
        code[n++] = c;
    }
    if (n != RECOVERY_LEN)
        return -EINVAL;
    hash_code(account, code, ret_hash);
    explicit_bzero(code, sizeof code);
    return 0;
}
