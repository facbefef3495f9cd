/* What the gateway remembers: accounts, their devices and hosts, who shares what, relays, and who did what.
 * Typed calls on db.h; all are synchronous and belong on the store's own thread. Every change is durable when
 * its call returns 0. Must never hold a password, a token or a recovery code, only what proves one. */
#pragma once

#include "services/gateway/db.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define WV_STORE_ID_BYTES       33  /* 32 hex digits and a NUL */
#define WV_STORE_NAME_BYTES     65  /* 1 to 64 bytes of UTF-8 and a NUL */
#define WV_STORE_PASSWORD_BYTES 128 /* crypto_pwhash_STRBYTES */
#define WV_STORE_HASH_BYTES     32
#define WV_STORE_KEY_BYTES      32
#define WV_STORE_SECRET_BYTES   20 /* of TOTP */
#define WV_STORE_TEXT_BYTES     256
#define WV_STORE_RECOVERY_CODES 10

struct wv_store;

/* Opens and migrates. REASON says what is wrong. Errors of wv_db_open() and wv_db_migrate(). */
int wv_store_open(struct wv_store **ret, const char *url, char reason[WV_DB_REASON_BYTES]);
/* For what only reads, beside one that is open already and is closed after it. See wv_db_open_reader(). */
int wv_store_open_reader(struct wv_store **ret, const char *url, char reason[WV_DB_REASON_BYTES]);
struct wv_store *wv_store_close(struct wv_store *s);
struct wv_db *wv_store_db(struct wv_store *s);
const char *wv_store_reason(const struct wv_store *s);
/* Asks the database something small. Returns 0 or why it can't be used. */
int wv_store_ping(struct wv_store *s);
#define WV_STORE_TRIAL_SMALL 8192
#define WV_STORE_TRIAL_LARGE (256 << 10) /* needs new room in either database */
/* Writes LEN bytes that stand for nothing, over those of the last time. Returns 0 or why it can't be done. */
int wv_store_try_write(struct wv_store *s, size_t len);
/* How many changes were made durable: when it grows, the database takes writes. */
uint64_t wv_store_writes(const struct wv_store *s);
/* What an operator can do about R, an error of this file or of db.h: a sentence. */
const char *wv_store_advice(int r);

/* Several of the calls below as one: all of it or nothing. They are made only when begin returned 0, and
 * after one of them that failed (-ENOENT and -EALREADY of a call are no failures of the database) there is
 * nothing left but end, which commits when R is 0 and returns R or why it could not. Of
 * wv_store_use_challenge() -EEXIST is no such failure either. */
int wv_store_begin(struct wv_store *s);
int wv_store_end(struct wv_store *s, int r);

/* Besides what is said at a call, all of the following return the errors of wv_db_run(); -EINVAL for a name
 * that is none; -ENOENT when what they act on is not there. Times are Unix seconds. */

/* 1 to 64 bytes of printable UTF-8, no space at the ends. */
bool wv_store_is_name(const char *name);

struct wv_account {
    char id[WV_STORE_ID_BYTES], name[WV_STORE_NAME_BYTES];
    char password[WV_STORE_PASSWORD_BYTES]; /* Argon2id's own text; "": nobody can sign in by password */
    uint8_t totp_secret[WV_STORE_SECRET_BYTES];
    bool has_totp;      /* a secret was made */
    bool totp_required; /* and confirmed by a code */
    int64_t totp_step;  /* the last one that was used: none before it counts */
    bool admin, disabled;
    int64_t created;
};

/* NAME is compared without case (ASCII). -EEXIST: it is taken. Fills RET->id. */
int wv_store_add_account(struct wv_store *s, const char *name, const char *password, bool admin, int64_t now,
                         struct wv_account *ret);
int wv_store_account_by_name(struct wv_store *s, const char *name, struct wv_account *ret);
int wv_store_account(struct wv_store *s, const char *id, struct wv_account *ret);
typedef int (*wv_store_account_fn)(void *userdata, const struct wv_account *account);
int wv_store_accounts(struct wv_store *s, wv_store_account_fn each, void *userdata);
/* Also ends all tokens of the account but KEEP (NULL: none). */
int wv_store_set_password(struct wv_store *s, const char *account, const char *password, const uint8_t *keep);
/* Disabling ends all tokens. */
int wv_store_set_account(struct wv_store *s, const char *account, bool admin, bool disabled);
int wv_store_accounts_count(struct wv_store *s, uint64_t *ret_count);

/* A new secret that does not count until it is confirmed; NULL takes TOTP and the recovery codes away. */
int wv_store_set_totp(struct wv_store *s, const char *account, const uint8_t *secret);
/* STEP was used: 0, or -EALREADY when this or a later one was used before. CONFIRM: the secret counts from
 * now on. */
int wv_store_use_totp(struct wv_store *s, const char *account, int64_t step, bool confirm);
/* Replaces all codes by HASHES. */
int wv_store_set_recovery(struct wv_store *s, const char *account,
                          uint8_t hashes[WV_STORE_RECOVERY_CODES][WV_STORE_HASH_BYTES]);
/* Uses one up. 0, or -ENOENT: no such code, or it was used. */
int wv_store_use_recovery(struct wv_store *s, const char *account, const uint8_t hash[WV_STORE_HASH_BYTES],
                          int64_t now, uint64_t *ret_left);

struct wv_token {
    uint8_t hash[WV_STORE_HASH_BYTES];
    char account[WV_STORE_ID_BYTES];
    uint8_t device[WV_STORE_KEY_BYTES]; /* all zero: from a password */
    int64_t created, expires;
    bool admin; /* of the account, filled in by wv_store_token() */
};
int wv_store_add_token(struct wv_store *s, const struct wv_token *token);
/* The same for a machine (TOKEN->device), against a CHALLENGE of 32 bytes that is good until EXPIRES: all of
 * it or nothing. -EEXIST: the challenge was used before, at whichever gateway. */
int wv_store_add_session(struct wv_store *s, const struct wv_token *token, const uint8_t challenge[32],
                         int64_t expires);
/* A challenge that gives no token. -EEXIST as above. */
int wv_store_use_challenge(struct wv_store *s, const uint8_t challenge[32], int64_t expires);
/* -ENOENT: unknown, expired, or its account is disabled. */
int wv_store_token(struct wv_store *s, const uint8_t hash[WV_STORE_HASH_BYTES], int64_t now,
                   struct wv_token *ret);
int wv_store_end_token(struct wv_store *s, const uint8_t hash[WV_STORE_HASH_BYTES]);
int wv_store_sweep(struct wv_store *s, int64_t now, int64_t audit_before); /* what is expired goes */

/* A device is a client's identity, a host is a host's. */
struct wv_machine {
    uint8_t key[WV_STORE_KEY_BYTES];      /* X25519: what people know */
    uint8_t sign_key[WV_STORE_KEY_BYTES]; /* Ed25519: what proves it to the gateway */
    char account[WV_STORE_ID_BYTES], name[WV_STORE_NAME_BYTES];
    bool is_host;
    char grants[WV_STORE_TEXT_BYTES]; /* of a host that was shared with the account that asks; "": its own */
    int64_t created, seen;
};
/* -EEXIST: the key is known, or the account has one of the same kind and name. */
int wv_store_add_machine(struct wv_store *s, const struct wv_machine *machine);
int wv_store_machine(struct wv_store *s, const uint8_t key[WV_STORE_KEY_BYTES], struct wv_machine *ret);
typedef int (*wv_store_machine_fn)(void *userdata, const struct wv_machine *machine);
/* The hosts (its own and shared ones) or devices of an account, by name. */
int wv_store_machines(struct wv_store *s, const char *account, bool hosts, wv_store_machine_fn each,
                      void *userdata);
/* Of that account only, with its shares and tokens. */
int wv_store_remove_machine(struct wv_store *s, const char *account, const uint8_t key[WV_STORE_KEY_BYTES]);
int wv_store_saw_machine(struct wv_store *s, const uint8_t key[WV_STORE_KEY_BYTES], int64_t now);

/* Lets ACCOUNT (not the owner: -EINVAL) reach OWNER's host; again: other grants. */
int wv_store_share(struct wv_store *s, const char *owner, const uint8_t host[WV_STORE_KEY_BYTES],
                   const char *account, const char *grants, int64_t now);
int wv_store_unshare(struct wv_store *s, const char *owner, const uint8_t host[WV_STORE_KEY_BYTES],
                     const char *account);
struct wv_share {
    char account[WV_STORE_ID_BYTES], name[WV_STORE_NAME_BYTES]; /* whom it is shared with */
    char grants[WV_STORE_TEXT_BYTES];
    int64_t created;
};
typedef int (*wv_store_share_fn)(void *userdata, const struct wv_share *share);
/* Of OWNER's host alone; none when it is not his. */
int wv_store_shares(struct wv_store *s, const char *owner, const uint8_t host[WV_STORE_KEY_BYTES],
                    wv_store_share_fn each, void *userdata);
/* Hosts and devices that ACCOUNT owns. */
int wv_store_machines_count(struct wv_store *s, const char *account, uint64_t *ret_count);
/* Whether ACCOUNT owns or shares HOST: 0 with RET_GRANTS ("" for the owner), or -ENOENT. */
int wv_store_may_reach(struct wv_store *s, const char *account, const uint8_t host[WV_STORE_KEY_BYTES],
                       char ret_grants[WV_STORE_TEXT_BYTES]);

struct wv_relay_record {
    char id[WV_STORE_NAME_BYTES];
    uint8_t key[WV_STORE_KEY_BYTES]; /* Ed25519: proves its heartbeats */
    char address[WV_STORE_TEXT_BYTES], region[WV_STORE_NAME_BYTES];
    bool drain;
    int64_t created;
};
int wv_store_put_relay(struct wv_store *s, const struct wv_relay_record *relay);
int wv_store_drain_relay(struct wv_store *s, const char *id, bool drain);
int wv_store_remove_relay(struct wv_store *s, const char *id);
typedef int (*wv_store_relay_fn)(void *userdata, const struct wv_relay_record *relay);
int wv_store_relays(struct wv_store *s, wv_store_relay_fn each, void *userdata);

struct wv_audit {
    char id[WV_STORE_ID_BYTES]; /* grows with time, also within a second; filled in by the store */
    int64_t at;
    char account[WV_STORE_ID_BYTES]; /* whose log it is in; "": of the whole gateway */
    char actor[WV_STORE_NAME_BYTES], action[WV_STORE_NAME_BYTES];
    char subject[WV_STORE_TEXT_BYTES], address[WV_STORE_NAME_BYTES];
};
int wv_store_audit(struct wv_store *s, const struct wv_audit *line);
typedef int (*wv_store_audit_fn)(void *userdata, const struct wv_audit *line);
/* The newest LIMIT lines before BEFORE (0: all), newest first; of ACCOUNT, NULL: all. BEFORE_ID (NULL: none)
 * is the line of that second after which it goes on, so that pages neither repeat nor leave out a line. */
int wv_store_audit_lines(struct wv_store *s, const char *account, int64_t before, const char *before_id,
                         uint32_t limit, wv_store_audit_fn each, void *userdata);

/* One value under a name. Get: -ENOENT; -EMSGSIZE. Make: keeps what is there, else stores VALUE; RET is what
 * counts, so that two gateways that start together agree. */
int wv_store_setting_make(struct wv_store *s, const char *name, const uint8_t *value, size_t len,
                          uint8_t *ret, size_t capacity, size_t *ret_len);
