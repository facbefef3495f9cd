/* The host's side, in the process that faces the network: a fixed table of associations and cookies that need
 * no memory. Holds no key of the host and reads no Noise message; each goes to the key holder as a question,
 * once. Nothing is allocated after the start, and no datagram gets more than one answer, none larger than
 * itself. */
#include "rift/core/handshake_wire.h"

#include "lib/base/util.h"

#include <errno.h>
#include <sodium.h>
#include <string.h>

#define LIFETIME (10 * WV_NS_PER_S) /* half-open from its INIT on, finished from its end on */
/* A question whose answer was lost with a key holder that died is asked again when the client repeats. */
#define ASK_AGAIN (250 * WV_NS_PER_MS)
/* When the table is full, a client that was answered this long ago and didn't go on makes room. */
#define PATIENCE      (2 * WV_NS_PER_S)
#define COOKIE_SLOT   (60 * WV_NS_PER_S)
#define COOKIE_QUEUE  64
#define FINGERPRINT   16
#define HALF_OPEN_MAX 65535

enum association_state {
    FREE,
    ASKED_1,     /* message 1 is with the key holder */
    WAIT_FINISH, /* RESPONSE is there, to be sent whenever INIT comes again */
    ASKED_3,     /* message 3 is with the key holder */
    FINISHED,    /* remembered so that repetitions ask nothing */
};

struct association {
    enum association_state state;
    bool response_due;
    uint64_t token;
    uint32_t initiator_id, local_id;
    uint8_t fingerprint[FINGERPRINT]; /* of address, initiator's id and message 1: this very INIT */
    uint8_t init_address[RIFT_ADDRESS_BYTES];
    uint8_t finish_address[RIFT_ADDRESS_BYTES];
    bool has_finish_address;
    uint64_t changed, asked, deadline;
    uint8_t message[RIFT_HANDSHAKE_MESSAGE_MAX]; /* message 2 */
    size_t message_len;
};

struct pending_cookie {
    uint8_t address[RIFT_ADDRESS_BYTES];
    uint32_t initiator_id;
};

struct rift_responder {
    uint8_t secret[32];
    uint8_t first_keys[2][32]; /* of INITs' MACs: the host's, and pairing's constant */
    unsigned n_first_keys;
    uint64_t serial;
    uint64_t next_expiry; /* no association's deadline is earlier */
    struct rift_responder_stats stats;
    struct pending_cookie cookies[COOKIE_QUEUE];
    size_t cookies_head, cookies_count;
    size_t responses_due;
    size_t count;
    struct association associations[];
};

int rift_responder_new(struct rift_responder **ret, const uint8_t secret[32], size_t max_half_open,
                       uint64_t now)
{
    if (max_half_open < 1 || max_half_open > HALF_OPEN_MAX)
        return -EINVAL;
    struct rift_responder *r = calloc(1, sizeof *r + max_half_open * sizeof r->associations[0]);
    if (!r)
        return -ENOMEM;
    memcpy(r->secret, secret, sizeof r->secret);
    /* Random, so that the tokens of a restarted transport are not those the key holder still remembers. */
    randombytes_buf(&r->serial, sizeof r->serial);
    r->serial >>= 17;
    r->next_expiry = UINT64_MAX;
    r->count = max_half_open;
    *ret = r;
    return 0;
}

struct rift_responder *rift_responder_free(struct rift_responder *r)
{
    if (r) {
        sodium_memzero(r, sizeof *r + r->count * sizeof r->associations[0]);
        free(r);
    }
    return NULL;
}

void rift_responder_set_keys(struct rift_responder *r, const uint8_t host_key[32], bool pairing)
{
    rift_handshake_first_key(host_key, r->first_keys[0]);
    rift_handshake_first_key(NULL, r->first_keys[1]);
    r->n_first_keys = pairing ? 2 : 1;
}

static bool is_keyed(const struct rift_responder *r, const uint8_t *datagram, size_t len)
{
    for (unsigned i = 0; i < r->n_first_keys; i++)
        if (rift_handshake_is_keyed(datagram, len, r->first_keys[i]))
            return true;
    return false;
}

/* ---- the table ---- */

static bool is_half_open(const struct association *a)
{
    return a->state != FREE && a->state != FINISHED;
}

static void set_state(struct rift_responder *r, struct association *a, enum association_state state)
{
    bool before = is_half_open(a);
    a->state = state;
    r->stats.half_open += (size_t)is_half_open(a) - (size_t)before;
}

static void set_response_due(struct rift_responder *r, struct association *a, bool due)
{
    r->responses_due += (size_t)due - (size_t)a->response_due;
    a->response_due = due;
}

static void set_deadline(struct rift_responder *r, struct association *a, uint64_t now)
{
    a->deadline = now > UINT64_MAX - LIFETIME ? UINT64_MAX : now + LIFETIME;
    r->next_expiry = WV_MIN(r->next_expiry, a->deadline);
}

static void forget(struct rift_responder *r, struct association *a)
{
    set_response_due(r, a, false);
    set_state(r, a, FREE);
    sodium_memzero(a, sizeof *a);
}

static void expire(struct rift_responder *r, uint64_t now)
{
    if (now < r->next_expiry)
        return;
    r->next_expiry = UINT64_MAX;
    for (size_t i = 0; i < r->count; i++) {
        struct association *a = &r->associations[i];
        if (a->state == FREE)
            continue;
        if (now < a->deadline) {
            r->next_expiry = WV_MIN(r->next_expiry, a->deadline);
            continue;
        }
        r->stats.expired += is_half_open(a);
        forget(r, a);
    }
}

/* The low 16 bits of a token are the place in the table, the rest is never used twice. */
static uint64_t new_token(struct rift_responder *r, const struct association *a)
{
    return ++r->serial << 16 | (uint64_t)(a - r->associations);
}

static struct association *find_token(struct rift_responder *r, uint64_t token, enum association_state state)
{
    size_t place = token & 0xffff;
    if (place >= r->count)
        return NULL;
    struct association *a = &r->associations[place];
    return a->state == state && a->token == token ? a : NULL;
}

static struct association *find_fingerprint(struct rift_responder *r, const uint8_t fingerprint[FINGERPRINT])
{
    for (size_t i = 0; i < r->count; i++)
        if (r->associations[i].state != FREE &&
            memcmp(r->associations[i].fingerprint, fingerprint, FINGERPRINT) == 0)
            return &r->associations[i];
    return NULL;
}

static struct association *find_id(struct rift_responder *r, uint32_t local_id)
{
    for (size_t i = 0; i < r->count; i++)
        if (r->associations[i].state != FREE && r->associations[i].local_id == local_id)
            return &r->associations[i];
    return NULL;
}

/* A free place; else that of the oldest finished association, which loses nothing but a little silence; else
 * that of the client that has left its RESPONSE unanswered for longest. NULL: the table is full. */
static struct association *take_place(struct rift_responder *r, uint64_t now)
{
    struct association *finished = NULL, *silent = NULL;
    for (size_t i = 0; i < r->count; i++) {
        struct association *a = &r->associations[i];
        if (a->state == FREE)
            return a;
        if (a->state == FINISHED && (!finished || a->changed < finished->changed))
            finished = a;
        if (a->state == WAIT_FINISH && now - a->changed >= PATIENCE &&
            (!silent || a->changed < silent->changed))
            silent = a;
    }
    struct association *place = finished ? finished : silent;
    if (place) {
        r->stats.expired += is_half_open(place);
        forget(r, place);
    }
    return place;
}

/* ---- cookies and fingerprints: one keyed hash, told apart by the first byte ---- */

static void keyed_hash(const struct rift_responder *r, char purpose,
                       const uint8_t address[RIFT_ADDRESS_BYTES], uint32_t initiator_id, const void *data,
                       size_t len, uint8_t ret[16])
{
    crypto_generichash_state state;
    uint8_t head[5] = {(uint8_t)purpose, (uint8_t)initiator_id, (uint8_t)(initiator_id >> 8),
                       (uint8_t)(initiator_id >> 16), (uint8_t)(initiator_id >> 24)};
    crypto_generichash_init(&state, r->secret, sizeof r->secret, 16);
    crypto_generichash_update(&state, head, sizeof head);
    crypto_generichash_update(&state, address, RIFT_ADDRESS_BYTES);
    crypto_generichash_update(&state, data, len);
    crypto_generichash_final(&state, ret, 16);
}

static void make_cookie(const struct rift_responder *r, const uint8_t address[RIFT_ADDRESS_BYTES],
                        uint32_t initiator_id, uint64_t slot, uint8_t ret[RIFT_COOKIE_BYTES])
{
    keyed_hash(r, 'c', address, initiator_id, &slot, sizeof slot, ret);
}

static bool is_cookie_valid(const struct rift_responder *r, const uint8_t address[RIFT_ADDRESS_BYTES],
                            const struct rift_handshake_datagram *d, uint64_t now)
{
    uint64_t slot = now / COOKIE_SLOT;
    uint8_t current[RIFT_COOKIE_BYTES], previous[RIFT_COOKIE_BYTES];
    make_cookie(r, address, d->initiator_id, slot, current);
    make_cookie(r, address, d->initiator_id, slot - 1, previous);
    return sodium_memcmp(current, d->cookie, sizeof current) == 0 ||
           sodium_memcmp(previous, d->cookie, sizeof previous) == 0;
}

static void queue_cookie(struct rift_responder *r, const uint8_t address[RIFT_ADDRESS_BYTES],
                         uint32_t initiator_id)
{
    if (r->cookies_count == COOKIE_QUEUE) {
        r->stats.dropped++;
        return;
    }
    struct pending_cookie *c = &r->cookies[(r->cookies_head + r->cookies_count++) % COOKIE_QUEUE];
    memcpy(c->address, address, RIFT_ADDRESS_BYTES);
    c->initiator_id = initiator_id;
}

/* ---- datagrams in ---- */

static int ask(struct association *a, uint8_t step, const struct rift_handshake_datagram *d, uint64_t now,
               struct rift_responder_question *ret_question)
{
    a->asked = now;
    *ret_question = (struct rift_responder_question){
        .token = a->token,
        .initiator_id = a->initiator_id,
        .local_id = a->local_id,
        .step = step,
        .len = d->message_len,
    };
    memcpy(ret_question->message, d->message, d->message_len);
    return 0;
}

static int repeat_init(struct rift_responder *r, struct association *a,
                       const struct rift_handshake_datagram *d, uint64_t now,
                       struct rift_responder_question *ret_question)
{
    if (a->state == WAIT_FINISH)
        set_response_due(r, a, true);
    if (a->state != ASKED_1 || now - a->asked < ASK_AGAIN)
        return RIFT_HANDSHAKE_PENDING;
    /* A new token: an answer to the first question must not mix with the second's. */
    a->token = new_token(r, a);
    return ask(a, 1, d, now, ret_question);
}

static int receive_init(struct rift_responder *r, const uint8_t address[RIFT_ADDRESS_BYTES],
                        const struct rift_handshake_datagram *d, uint32_t local_id, uint64_t now,
                        struct rift_responder_question *ret_question)
{
    /* A cookie is looked at even without load: a wrong one is old, and its client is told the new one. */
    bool has_cookie = !sodium_is_zero(d->cookie, sizeof d->cookie);
    if (has_cookie && !is_cookie_valid(r, address, d, now)) {
        queue_cookie(r, address, d->initiator_id);
        return RIFT_HANDSHAKE_PENDING;
    }
    uint8_t fingerprint[FINGERPRINT];
    keyed_hash(r, 'f', address, d->initiator_id, d->message, d->message_len, fingerprint);
    struct association *a = find_fingerprint(r, fingerprint);
    if (a)
        return repeat_init(r, a, d, now, ret_question);
    if (!has_cookie && 2 * r->stats.half_open >= r->count) {
        queue_cookie(r, address, d->initiator_id);
        return RIFT_HANDSHAKE_PENDING;
    }
    a = find_id(r, local_id) ? NULL : take_place(r, now);
    if (!a) {
        r->stats.dropped++;
        return RIFT_HANDSHAKE_PENDING;
    }
    a->token = new_token(r, a);
    a->initiator_id = d->initiator_id;
    a->local_id = local_id;
    a->changed = now;
    memcpy(a->fingerprint, fingerprint, sizeof fingerprint);
    memcpy(a->init_address, address, RIFT_ADDRESS_BYTES);
    set_state(r, a, ASKED_1);
    set_deadline(r, a, now);
    r->stats.started++;
    return ask(a, 1, d, now, ret_question);
}

static int receive_finish(struct rift_responder *r, const uint8_t address[RIFT_ADDRESS_BYTES],
                          const struct rift_handshake_datagram *d, uint64_t now,
                          struct rift_responder_question *ret_question)
{
    struct association *a = find_id(r, d->responder_id);
    if (!a || a->initiator_id != d->initiator_id || a->state == ASKED_1) {
        r->stats.dropped++;
        return RIFT_HANDSHAKE_PENDING;
    }
    if (a->state == FINISHED)
        return RIFT_HANDSHAKE_PENDING;
    /* While a question is out, another address can't slip into its answer. */
    if (a->state == ASKED_3 &&
        (now - a->asked < ASK_AGAIN || memcmp(a->finish_address, address, RIFT_ADDRESS_BYTES) != 0))
        return RIFT_HANDSHAKE_PENDING;
    set_response_due(r, a, false);
    set_state(r, a, ASKED_3);
    memcpy(a->finish_address, address, RIFT_ADDRESS_BYTES);
    a->has_finish_address = true;
    return ask(a, 3, d, now, ret_question);
}

int rift_responder_receive(struct rift_responder *r, const uint8_t address[RIFT_ADDRESS_BYTES],
                           const uint8_t *datagram, size_t len, uint32_t local_id, uint64_t now,
                           struct rift_responder_question *ret_question)
{
    struct rift_handshake_datagram d;
    /* Who does not know the key costs one hash, and learns not even that there is a host. */
    if (rift_datagram_kind(datagram, len) == RIFT_DATAGRAM_INIT && !is_keyed(r, datagram, len)) {
        r->stats.unkeyed++;
        return RIFT_HANDSHAKE_PENDING;
    }
    expire(r, now);
    if (rift_handshake_parse(datagram, len, &d) == 0) {
        if (d.kind == RIFT_DATAGRAM_INIT)
            return receive_init(r, address, &d, local_id, now, ret_question);
        if (d.kind == RIFT_DATAGRAM_FINISH)
            return receive_finish(r, address, &d, now, ret_question);
    }
    r->stats.malformed++;
    return RIFT_HANDSHAKE_PENDING;
}

/* ---- answers of the key holder ---- */

int rift_responder_answer(struct rift_responder *r, uint64_t token, const uint8_t *message, size_t len,
                          uint64_t now)
{
    if (len < RIFT_MESSAGE_2_BYTES || len > RIFT_HANDSHAKE_MESSAGE_MAX)
        return -EMSGSIZE;
    expire(r, now);
    struct association *a = find_token(r, token, ASKED_1);
    if (!a)
        return -ENOENT;
    memcpy(a->message, message, len);
    a->message_len = len;
    a->changed = now;
    set_state(r, a, WAIT_FINISH);
    set_response_due(r, a, true);
    return 0;
}

int rift_responder_complete(struct rift_responder *r, uint64_t token, const uint8_t key_send[32],
                            const uint8_t key_receive[32], uint64_t now,
                            struct rift_session_config *ret_config, uint8_t ret_address[RIFT_ADDRESS_BYTES])
{
    expire(r, now);
    struct association *a = find_token(r, token, ASKED_3);
    /* A question that was asked twice: the first time about a forgery, which was answered by "keep"
     * meanwhile. */
    if (!a)
        a = find_token(r, token, WAIT_FINISH);
    if (!a || !a->has_finish_address)
        return -ENOENT;
    ret_config->role = RIFT_ROLE_HOST;
    ret_config->local_id = a->local_id;
    ret_config->remote_id = a->initiator_id;
    memcpy(ret_config->key_send, key_send, RIFT_KEY_BYTES);
    memcpy(ret_config->key_receive, key_receive, RIFT_KEY_BYTES);
    memcpy(ret_address, a->finish_address, RIFT_ADDRESS_BYTES);
    a->changed = now;
    set_state(r, a, FINISHED);
    set_deadline(r, a, now);
    r->stats.finished++;
    return 0;
}

void rift_responder_keep(struct rift_responder *r, uint64_t token)
{
    struct association *a = find_token(r, token, ASKED_3);
    if (!a)
        return;
    r->stats.forged++;
    set_state(r, a, WAIT_FINISH);
}

void rift_responder_refuse(struct rift_responder *r, uint64_t token)
{
    /* A question that was asked twice may be refused the second time, after it was answered. */
    struct association *a = find_token(r, token, ASKED_1);
    if (!a)
        a = find_token(r, token, ASKED_3);
    if (!a)
        return;
    r->stats.refused++;
    forget(r, a);
}

/* ---- datagrams out ---- */

static int send_response(struct rift_responder *r, uint8_t *buffer, size_t capacity,
                         uint8_t ret_address[RIFT_ADDRESS_BYTES], size_t *ret_len)
{
    struct association *a = r->associations;
    while (!a->response_due)
        a++;
    struct rift_handshake_datagram d = {
        .kind = RIFT_DATAGRAM_RESPONSE,
        .initiator_id = a->initiator_id,
        .responder_id = a->local_id,
        .message = a->message,
        .message_len = a->message_len,
    };
    int error = rift_handshake_build(&d, NULL, buffer, capacity, ret_len);
    if (error < 0)
        return error;
    set_response_due(r, a, false);
    memcpy(ret_address, a->init_address, RIFT_ADDRESS_BYTES);
    return 0;
}

static int send_cookie(struct rift_responder *r, uint8_t *buffer, size_t capacity, uint64_t now,
                       uint8_t ret_address[RIFT_ADDRESS_BYTES], size_t *ret_len)
{
    const struct pending_cookie *c = &r->cookies[r->cookies_head];
    struct rift_handshake_datagram d = {.kind = RIFT_DATAGRAM_COOKIE, .initiator_id = c->initiator_id};
    make_cookie(r, c->address, c->initiator_id, now / COOKIE_SLOT, d.cookie);
    int error = rift_handshake_build(&d, NULL, buffer, capacity, ret_len);
    if (error < 0)
        return error;
    memcpy(ret_address, c->address, RIFT_ADDRESS_BYTES);
    r->cookies_head = (r->cookies_head + 1) % COOKIE_QUEUE;
    r->cookies_count--;
    r->stats.cookies_sent++;
    return 0;
}

int rift_responder_send(struct rift_responder *r, uint8_t *buffer, size_t capacity, uint64_t now,
                        uint8_t ret_address[RIFT_ADDRESS_BYTES], size_t *ret_len)
{
    expire(r, now);
    if (r->responses_due)
        return send_response(r, buffer, capacity, ret_address, ret_len);
    if (r->cookies_count)
        return send_cookie(r, buffer, capacity, now, ret_address, ret_len);
    return RIFT_HANDSHAKE_PENDING;
}

void rift_responder_get_stats(const struct rift_responder *r, struct rift_responder_stats *ret_stats)
{
    *ret_stats = r->stats;
}
