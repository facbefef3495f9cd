/* The client's side: INIT until a RESPONSE that is genuine, then FINISH until the caller has seen the host's
 * first packet. Anybody may send us datagrams: none but a genuine RESPONSE may change what we do, except that
 * a COOKIE is taken over into the next INIT. */
#include "rift/core/handshake_wire.h"

#include "lib/base/bytes.h"
#include "lib/base/util.h"
#include "rift/crypto/noise.h"

#include <errno.h>
#include <sodium.h>
#include <string.h>

#define FIRST_INTERVAL (100 * WV_NS_PER_MS)
#define LAST_INTERVAL  WV_NS_PER_S
/* A COOKIE is answered at once only so often: who forges them must not make us flood the host. */
#define PROMPT_REPEATS 3

enum initiator_state { SENDING_INIT, SENDING_FINISH, WRONG_KEY };

struct rift_initiator {
    enum initiator_state state;
    uint32_t local_id, remote_id;
    uint8_t expected_key[32];
    uint8_t first_key[32]; /* of INIT's MAC */
    bool has_expected_key;
    struct rift_noise *noise; /* after message 1; from SENDING_FINISH on: finished */
    struct rift_noise *trial; /* where a RESPONSE is tried, so that a forged one leaves NOISE as it is */
    uint8_t payload[RIFT_HANDSHAKE_PAYLOAD_MAX];
    size_t payload_len;
    uint8_t cookie[RIFT_COOKIE_BYTES];
    unsigned prompt_repeats;
    uint8_t message[RIFT_HANDSHAKE_MESSAGE_MAX]; /* message 1, then message 3 */
    size_t message_len;
    uint64_t next_send, interval, deadline;
};

static uint64_t add_time(uint64_t a, uint64_t b)
{
    return a > UINT64_MAX - b ? UINT64_MAX : a + b;
}

int rift_initiator_new(struct rift_initiator **ret, const uint8_t static_secret[32],
                       const uint8_t *expected_key, uint32_t local_id, const uint8_t *payload,
                       size_t payload_len, uint64_t now, uint64_t time_limit_ns)
{
    if (payload_len > RIFT_HANDSHAKE_PAYLOAD_MAX)
        return -EMSGSIZE;
    struct rift_initiator *h = calloc(1, sizeof *h);
    if (!h)
        return -ENOMEM;
    h->local_id = local_id;
    h->next_send = now;
    h->interval = FIRST_INTERVAL;
    h->deadline = add_time(now, time_limit_ns);
    h->payload_len = payload_len;
    if (payload_len)
        memcpy(h->payload, payload, payload_len);
    if (expected_key) {
        memcpy(h->expected_key, expected_key, 32);
        h->has_expected_key = true;
    }
    rift_handshake_first_key(expected_key, h->first_key);
    uint8_t prologue[RIFT_PROLOGUE_BYTES];
    rift_handshake_prologue(local_id, prologue);
    int r = rift_noise_new(&h->noise, true, static_secret, prologue, sizeof prologue, NULL);
    if (r == 0)
        r = rift_noise_new(&h->trial, true, static_secret, prologue, sizeof prologue, NULL);
    if (r == 0)
        r = rift_noise_write(h->noise, NULL, 0, h->message, sizeof h->message, &h->message_len);
    if (r < 0) {
        rift_initiator_free(h);
        return r;
    }
    *ret = h;
    return 0;
}

struct rift_initiator *rift_initiator_free(struct rift_initiator *h)
{
    if (h) {
        rift_noise_free(h->noise);
        rift_noise_free(h->trial);
        sodium_memzero(h, sizeof *h);
        free(h);
    }
    return NULL;
}

int rift_initiator_send(struct rift_initiator *h, uint8_t *buffer, size_t capacity, uint64_t now,
                        size_t *ret_len)
{
    if (h->state == WRONG_KEY)
        return RIFT_HANDSHAKE_WRONG_KEY;
    if (now >= h->deadline)
        return RIFT_HANDSHAKE_TIMEOUT;
    if (now < h->next_send)
        return RIFT_HANDSHAKE_PENDING;

    struct rift_handshake_datagram d = {
        .kind = h->state == SENDING_INIT ? RIFT_DATAGRAM_INIT : RIFT_DATAGRAM_FINISH,
        .initiator_id = h->local_id,
        .responder_id = h->remote_id,
        .message = h->message,
        .message_len = h->message_len,
    };
    memcpy(d.cookie, h->cookie, sizeof d.cookie);
    int r = rift_handshake_build(&d, h->first_key, buffer, capacity, ret_len);
    if (r < 0)
        return r;
    h->next_send = add_time(now, h->interval);
    h->interval = WV_MIN(2 * h->interval, LAST_INTERVAL);
    return 0;
}

/* The key holder of the host writes its session id into message 2, where nobody can change it on the way. */
static bool confirms_id(const uint8_t *payload, size_t len, uint32_t responder_id)
{
    struct wv_reader r;
    wv_reader_init(&r, payload, len);
    return len == 0 || (wv_read_u32(&r) == responder_id && !r.failed && r.left == 0);
}

static int receive_response(struct rift_initiator *h, const struct rift_handshake_datagram *d, uint64_t now)
{
    uint8_t payload[RIFT_HANDSHAKE_MESSAGE_MAX];
    size_t payload_len;
    rift_noise_copy(h->trial, h->noise);
    if (rift_noise_read(h->trial, d->message, d->message_len, payload, sizeof payload, &payload_len) < 0 ||
        !confirms_id(payload, payload_len, d->responder_id))
        return RIFT_HANDSHAKE_PENDING;
    if (h->has_expected_key && sodium_memcmp(h->expected_key, rift_noise_remote_static(h->trial), 32) != 0) {
        /* Says nothing back: message 3 would tell a stranger who we are. */
        h->state = WRONG_KEY;
        return RIFT_HANDSHAKE_WRONG_KEY;
    }
    int r = rift_noise_write(h->trial, h->payload, h->payload_len, h->message, sizeof h->message,
                             &h->message_len);
    if (r < 0)
        return r;
    h->noise = rift_noise_free(h->noise);
    h->noise = h->trial;
    h->trial = NULL;
    h->state = SENDING_FINISH;
    h->remote_id = d->responder_id;
    h->next_send = now;
    h->interval = FIRST_INTERVAL;
    return 0;
}

static int receive_cookie(struct rift_initiator *h, const struct rift_handshake_datagram *d, uint64_t now)
{
    if (memcmp(h->cookie, d->cookie, sizeof h->cookie) == 0)
        return RIFT_HANDSHAKE_PENDING;
    memcpy(h->cookie, d->cookie, sizeof h->cookie);
    if (h->prompt_repeats < PROMPT_REPEATS) {
        h->prompt_repeats++;
        h->next_send = now;
    }
    return 0;
}

int rift_initiator_receive(struct rift_initiator *h, const uint8_t *datagram, size_t len, uint64_t now)
{
    struct rift_handshake_datagram d;
    if (h->state != SENDING_INIT || now >= h->deadline || rift_handshake_parse(datagram, len, &d) < 0 ||
        d.initiator_id != h->local_id)
        return RIFT_HANDSHAKE_PENDING;
    if (d.kind == RIFT_DATAGRAM_RESPONSE)
        return receive_response(h, &d, now);
    if (d.kind == RIFT_DATAGRAM_COOKIE)
        return receive_cookie(h, &d, now);
    return RIFT_HANDSHAKE_PENDING;
}

uint64_t rift_initiator_timeout(const struct rift_initiator *h)
{
    return h->state == WRONG_KEY ? 0 : WV_MIN(h->next_send, h->deadline);
}

int rift_initiator_finish(const struct rift_initiator *h, struct rift_session_config *ret_config,
                          uint8_t ret_host_key[32])
{
    if (h->state != SENDING_FINISH)
        return RIFT_HANDSHAKE_PENDING;
    int r = rift_noise_split(h->noise, ret_config->key_send, ret_config->key_receive);
    if (r < 0)
        return r;
    ret_config->role = RIFT_ROLE_CLIENT;
    ret_config->local_id = h->local_id;
    ret_config->remote_id = h->remote_id;
    memcpy(ret_host_key, rift_noise_remote_static(h->noise), 32);
    return 0;
}

int rift_initiator_inner(const struct rift_initiator *h, uint8_t ret_base[32], uint8_t ret_hash[64])
{
    if (h->state != SENDING_FINISH)
        return RIFT_HANDSHAKE_PENDING;
    int r = rift_noise_split_inner(h->noise, ret_base);
    if (r < 0)
        return r;
    memcpy(ret_hash, rift_noise_handshake_hash(h->noise), RIFT_NOISE_HASH_BYTES);
    return 0;
}
