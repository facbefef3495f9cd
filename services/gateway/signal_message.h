/* What machines say on /v1/signal, as text and as values: design and schemas are in docs/openapi.yaml. Text
 * of strangers is read here and nowhere else. Must never look into what is sealed. */
#pragma once

#include "services/gateway/sessions.h"

#define WV_SIGNAL_TEXT_MAX     (16u << 10) /* of one message */
#define WV_SIGNAL_ID_BYTES     33          /* 1 to 32 of printable ASCII without quotes, and a NUL */
#define WV_SIGNAL_SEALED_BYTES 8192        /* decoded */
#define WV_SIGNAL_SEALED_TEXT  (WV_SIGNAL_SEALED_BYTES / 3 * 4 + 4)

enum wv_signal_kind { WV_SIGNAL_HELLO, WV_SIGNAL_SEALED, WV_SIGNAL_SESSIONS };

/* What can be wrong with a message; also what becomes of one that was passed on. */
enum wv_signal_result {
    WV_SIGNAL_SENT,
    WV_SIGNAL_OFFLINE,
    WV_SIGNAL_NOT_ALLOWED,
    WV_SIGNAL_TOO_MANY,
    WV_SIGNAL_TOO_LARGE,
    WV_SIGNAL_BAD_MESSAGE,
    WV_SIGNAL_UNAVAILABLE,
    WV_SIGNAL_RESULTS
};

struct wv_signal_message {
    enum wv_signal_kind kind;
    uint8_t token[WV_STORE_HASH_BYTES]; /* HELLO: hashed */
    /* SEALED */
    uint8_t to[WV_STORE_KEY_BYTES];
    char id[WV_SIGNAL_ID_BYTES];        /* "" where the message has none that can be repeated */
    char sealed[WV_SIGNAL_SEALED_TEXT]; /* base64url, its form was checked */
    /* SESSIONS */
    size_t n_sessions;
    struct wv_session sessions[WV_SESSIONS_PER_HOST];
};

/* Returns 0, -EMSGSIZE (the message, or what is sealed), or -EBADMSG, with a sentence. After an error RET->id
 * is the message's where it has one, else "". */
int wv_signal_parse(struct wv_signal_message *ret, const void *data, size_t len, char reason[160]);

bool wv_signal_is_id(const char *id);
bool wv_signal_is_sealed(const char *text, size_t len);
const char *wv_signal_result_name(enum wv_signal_result result);
const char *wv_signal_result_sentence(enum wv_signal_result result);
/* Returns WV_SIGNAL_RESULTS for a name that is none. */
enum wv_signal_result wv_signal_result_of(const char *name);

/* Texts to machines; each returns what is malloc'ed, or NULL, with HEADROOM bytes in front. RET_LEN is
 * without them. SENTENCE: NULL for the usual one. */
char *wv_signal_write_sealed(size_t headroom, const uint8_t from[WV_STORE_KEY_BYTES], const char *id,
                             const char *sealed, size_t *ret_len);
char *wv_signal_write_result(size_t headroom, const char *id, enum wv_signal_result result,
                             const char *sentence, size_t *ret_len);
char *wv_signal_write_json(size_t headroom, void *take_json, size_t *ret_len); /* a json_t */
