/* Why the gateway says no: one table for status, code and sentence, so that an answer, a metric and
 * docs/openapi.yaml name the same thing. */
#pragma once

/* X(NAME, status, code, metric, sentence). A sentence says what to do. */
#define WV_REFUSALS(X)                                                                                       \
    X(BAD_REQUEST, 400, "bad_request", BAD_REQUEST, "The request can't be understood.")                      \
    X(BAD_JSON, 400, "bad_json", BAD_REQUEST, "The body is not valid JSON.")                                 \
    X(BAD_FIELD, 400, "bad_field", BAD_REQUEST, "A field of the body is wrong.")                             \
    X(BAD_KEY, 400, "bad_key", BAD_REQUEST, "A key is not of the form wavry1... or ed25519....")             \
    X(BAD_NAME, 400, "bad_name", BAD_REQUEST,                                                                \
      "A name is 1 to 64 bytes of printable text without spaces at its ends.")                               \
    X(NOT_FOUND, 404, "not_found", NOT_FOUND, "There is nothing of that name.")                              \
    X(BAD_METHOD, 405, "bad_method", NOT_FOUND, "This address does not know that method.")                   \
    X(LENGTH_REQUIRED, 411, "length_required", BAD_REQUEST, "A body needs a Content-Length.")                \
    X(TOO_LARGE, 413, "too_large", TOO_LARGE, "The body is larger than 65536 bytes.")                        \
    X(BAD_TYPE, 415, "bad_type", BAD_REQUEST, "A body must be application/json.")                            \
    X(NO_TOKEN, 401, "no_token", UNAUTHORIZED, "Sign in first: this needs a token.")                         \
    X(BAD_TOKEN, 401, "bad_token", UNAUTHORIZED, "The token is unknown or has ended: sign in again.")        \
    X(CREDENTIALS, 401, "credentials", CREDENTIALS, "The account, password or code is wrong.")               \
    X(CODE_NEEDED, 401, "code_needed", CREDENTIALS, "This account needs a code of its authenticator, too.")  \
    X(CODE_USED, 401, "code_used", CODE_USED, "This code was used before: wait for the next one.")           \
    X(CLOCK, 401, "clock", CLOCK, "A clock is wrong: set the clock of this machine, or the gateway's.")      \
    X(PROOF, 401, "proof", PROOF,                                                                            \
      "The signature is not by that key over the gateway's name and a fresh challenge.")                     \
    X(CHALLENGE_USED, 401, "challenge_used", PROOF, "The challenge was used before: ask for a new one.")     \
    X(CHALLENGE_OLD, 401, "challenge_old", PROOF, "The challenge is too old: ask for a new one.")            \
    X(UNKNOWN_MACHINE, 401, "unknown_machine", PROOF,                                                        \
      "This gateway does not know that machine: register it.")                                               \
    X(CSRF, 403, "csrf", FORBIDDEN, "The page must send its X-Wavry-CSRF header.")                           \
    X(NOT_ADMIN, 403, "not_admin", FORBIDDEN, "Only an administrator may do this.")                          \
    X(NOT_ALLOWED, 403, "not_allowed", FORBIDDEN, "This token may not do that.")                             \
    X(PERSON_ONLY, 403, "person_only", FORBIDDEN,                                                            \
      "This needs a sign-in by password, not by a machine's key.")                                           \
    X(EXISTS, 409, "exists", CONFLICT, "That name or key is taken.")                                         \
    X(CONFLICT, 409, "conflict", CONFLICT, "That does not fit to what is there.")                            \
    X(TOO_MANY, 409, "too_many", CONFLICT, "There are as many as this gateway allows: remove one.")          \
    X(UPGRADE, 426, "upgrade", BAD_REQUEST, "This address is a WebSocket of protocol wavry-signal.1.")       \
    X(LIMITED, 429, "limited", LIMITED, "Too many requests from this address: wait.")                        \
    X(LOGIN_LIMITED, 429, "login_limited", LOGIN_LIMITED,                                                    \
      "Too many attempts to sign in from this address: wait.")                                               \
    X(BUSY, 503, "busy", BUSY, "Too much is waiting here: try again in a moment.")                           \
    X(DRAINING, 503, "draining", BUSY, "The gateway is stopping: try again in a moment.")                    \
    X(NO_RELAY, 503, "no_relay", NO_RELAY, "No relay can be used now: try again in a moment.")               \
    X(STORE_READ_ONLY, 503, "store_read_only", STORE_READ_ONLY,                                              \
      "The gateway's database is read-only: nothing can be changed until its operator makes it writable.")   \
    X(STORE_FULL, 503, "store_full", STORE_FULL,                                                             \
      "The gateway's database has no room left: nothing can be changed until its operator frees space.")     \
    X(STORE_AWAY, 503, "store_away", STORE_AWAY,                                                             \
      "The gateway's database can't be reached now: try again in a moment.")                                 \
    X(BUS_AWAY, 503, "bus_away", BUS_AWAY, "The other gateways can't be reached now.")                       \
    X(STORE_FAILED, 500, "store_failed", STORE_FAILED,                                                       \
      "The gateway's database failed: its operator finds the reason in the gateway's log.")                  \
    X(INTERNAL, 500, "internal", STORE_FAILED, "The gateway failed at this.")

enum wv_refusal {
#define X(name, status, code, metric, sentence) WV_REFUSE_##name,
    WV_REFUSALS(X)
#undef X
        WV_N_REFUSALS
};

struct wv_refusal_entry {
    int status;
    const char *code, *sentence;
    unsigned metric;
};

extern const struct wv_refusal_entry wv_refusals[WV_N_REFUSALS];
