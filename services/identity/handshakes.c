/* Runs the responder's side of Noise XX for transport. Must never hand out keys before message 3 has proven
 * the client's key, or keep secrets of a handshake that is over. */
#include "services/identity/handshakes.h"

#include "lib/base/bytes.h"
#include "lib/base/util.h"
#include "proto/rift.pb-c.h"
#include "rift/core/handshake.h"
#include "rift/crypto/noise.h"
#include "services/identity/peers.h"

#include <errno.h>
#include <sodium.h>
#include <string.h>

#define TEXT_MAX_BYTES  63
#define SIZE_MAX_PIXELS 16384

struct pending {
    struct rift_noise *noise; /* NULL: free */
    uint64_t token, since;
};

struct wv_handshakes {
    uint8_t secret[32];
    struct pending pending[WV_HANDSHAKES_MAX];
};

int wv_handshakes_new(struct wv_handshakes **ret, const uint8_t secret[32])
{
    struct wv_handshakes *h = calloc(1, sizeof *h);
    if (!h)
        return -ENOMEM;
    memcpy(h->secret, secret, sizeof h->secret);
    *ret = h;
    return 0;
}

static void forget(struct pending *p)
{
    rift_noise_free(p->noise);
    sodium_memzero(p, sizeof *p);
}

struct wv_handshakes *wv_handshakes_free(struct wv_handshakes *h)
{
    if (!h)
        return NULL;
    for (size_t i = 0; i < WV_HANDSHAKES_MAX; i++)
        forget(&h->pending[i]);
    sodium_memzero(h, sizeof *h);
    free(h);
    return NULL;
}

size_t wv_handshakes_pending(const struct wv_handshakes *h)
{
    size_t n = 0;
    for (size_t i = 0; i < WV_HANDSHAKES_MAX; i++)
        n += h->pending[i].noise != NULL;
    return n;
}

static struct pending *find(struct wv_handshakes *h, uint64_t token)
{
    for (size_t i = 0; i < WV_HANDSHAKES_MAX; i++)
        if (h->pending[i].noise && h->pending[i].token == token)
            return &h->pending[i];
    return NULL;
}

static struct pending *find_free(struct wv_handshakes *h)
{
    for (size_t i = 0; i < WV_HANDSHAKES_MAX; i++)
        if (!h->pending[i].noise)
            return &h->pending[i];
    return NULL;
}

static void expire(struct wv_handshakes *h, uint64_t now)
{
    for (size_t i = 0; i < WV_HANDSHAKES_MAX; i++)
        if (h->pending[i].noise && now - h->pending[i].since > WV_HANDSHAKE_EXPIRES_NS)
            forget(&h->pending[i]);
}

static int refuse(struct wv_handshake_reply *reply, const char *reason)
{
    reply->reason = reason;
    return WV_HANDSHAKE_REFUSED;
}

/* Reads message 1 and writes message 2 in a new state. The payload of message 1 is anybody's and is ignored.
 */
static int begin(struct wv_handshakes *h, const struct wv_handshake_question *q, struct pending *p,
                 struct wv_handshake_reply *reply)
{
    uint8_t prologue[RIFT_PROLOGUE_BYTES], local_id[4], ignored[RIFT_HANDSHAKE_MESSAGE_MAX];
    struct wv_writer w;
    size_t len;
    wv_writer_init(&w, local_id, sizeof local_id);
    wv_write_u32(&w, q->local_id);
    rift_handshake_prologue(q->initiator_id, prologue);
    int r = rift_noise_new(&p->noise, false, h->secret, prologue, sizeof prologue, NULL);
    if (r < 0)
        return r;
    r = rift_noise_read(p->noise, q->message, q->len, ignored, sizeof ignored, &len);
    if (r == 0)
        r = rift_noise_write(p->noise, local_id, sizeof local_id, reply->message, sizeof reply->message,
                             &reply->message_len);
    if (r < 0)
        forget(p);
    return r;
}

static int ask_first(struct wv_handshakes *h, const struct wv_handshake_question *q, uint64_t now,
                     struct wv_handshake_reply *reply)
{
    if (q->len > RIFT_HANDSHAKE_MESSAGE_MAX)
        return refuse(reply, "message 1 is too long");
    if (find(h, q->token))
        return refuse(reply, "the token is in use");
    struct pending *p = find_free(h);
    if (!p)
        return refuse(reply, "too many handshakes at once");
    int r = begin(h, q, p, reply);
    if (r == -ENOMEM)
        return r;
    if (r < 0)
        return refuse(reply, "message 1 is not a key that can be used");
    p->token = q->token;
    p->since = now;
    return WV_HANDSHAKE_ANSWER;
}

/* Message 3 is read by a copy of the state: anybody who saw message 2's datagram can send a forgery, and that
 * must not end the handshake of the one who can prove a key. */
static int prove(struct wv_handshakes *h, struct pending *p, const struct wv_handshake_question *q,
                 struct wv_handshake_reply *reply)
{
    struct rift_noise *copy;
    static const uint8_t none[1];
    int r = rift_noise_new(&copy, false, h->secret, none, 0, NULL);
    if (r < 0)
        return r;
    rift_noise_copy(copy, p->noise);
    r = rift_noise_read(copy, q->message, q->len, reply->payload, sizeof reply->payload, &reply->payload_len);
    if (r == 0)
        r = rift_noise_split(copy, reply->key_send, reply->key_receive);
    if (r == 0)
        r = rift_noise_split_inner(copy, reply->inner_base);
    if (r == 0) {
        memcpy(reply->peer_key, rift_noise_remote_static(copy), sizeof reply->peer_key);
        memcpy(reply->hash, rift_noise_handshake_hash(copy), sizeof reply->hash);
    }
    rift_noise_free(copy);
    return r;
}

static int read_hello(const uint8_t *payload, size_t len, bool *ret_view_only, char ret_device[64]);

static int ask_third(struct wv_handshakes *h, const struct wv_handshake_question *q,
                     struct wv_handshake_reply *reply)
{
    struct pending *p = find(h, q->token);
    if (!p)
        return refuse(reply, "the handshake is not known any more");
    int r = prove(h, p, q, reply);
    if (r == -ENOMEM)
        return r;
    if (r < 0) {
        sodium_memzero(reply, sizeof *reply);
        reply->keep = true;
        return refuse(reply, "message 3 does not prove a key");
    }
    forget(p);
    if (read_hello(reply->payload, reply->payload_len, &reply->view_only, reply->device) < 0) {
        sodium_memzero(reply, sizeof *reply);
        return refuse(reply, "the client's greeting is malformed");
    }
    return WV_HANDSHAKE_DONE;
}

int wv_handshakes_ask(struct wv_handshakes *h, const struct wv_handshake_question *question, uint64_t now,
                      struct wv_handshake_reply *ret_reply)
{
    memset(ret_reply, 0, sizeof *ret_reply);
    expire(h, now);
    if (question->step == 1)
        return ask_first(h, question, now, ret_reply);
    if (question->step == 3)
        return ask_third(h, question, ret_reply);
    return refuse(ret_reply, "there is no such step");
}

static bool is_short_text(const char *text)
{
    size_t len = strlen(text);
    return len <= TEXT_MAX_BYTES && wv_text_is_printable(text, len);
}

static int read_hello(const uint8_t *payload, size_t len, bool *ret_view_only, char ret_device[64])
{
    Wavry__Rift__ClientHello *hello = wavry__rift__client_hello__unpack(NULL, len, payload);
    if (!hello)
        return -EBADMSG;
    bool good = is_short_text(hello->software) && is_short_text(hello->device) &&
                hello->width <= SIZE_MAX_PIXELS && hello->height <= SIZE_MAX_PIXELS;
    if (good) {
        *ret_view_only = hello->view_only;
        memcpy(ret_device, hello->device, strlen(hello->device) + 1);
    }
    wavry__rift__client_hello__free_unpacked(hello, NULL);
    return good ? 0 : -EBADMSG;
}

int wv_client_hello_check(const uint8_t *payload, size_t len)
{
    bool view_only;
    char device[TEXT_MAX_BYTES + 1];
    return read_hello(payload, len, &view_only, device);
}

void wv_handshakes_public_key(const struct wv_handshakes *h, uint8_t ret_key[32])
{
    (void)crypto_scalarmult_base(ret_key, h->secret);
}
