/* The handshake as a state machine: every datagram in every order, cut at every byte, with bytes turned, from
 * either address, to either end, repeated; a key holder that is slow, asked twice, or gone; keys that change,
 * and a client that is replaced by another one. The input is a script over all datagrams that were ever sent.
 * What must hold: whoever ends up with a session shares it with the true other end, and the host's bounds. */
#include "lib/base/bytes.h"
#include "lib/base/util.h"
#include "tests/unit/handshake_host.h"

#include <sodium.h>
#include <stdlib.h>
#include <string.h>

#define KEPT      32
#define SESSIONS  512 /* more than there can be in one script */
#define HALF_OPEN 4
#define QUESTIONS 4

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static const uint8_t addresses[2][RIFT_ADDRESS_BYTES] = {"home address 0001", "away address 0002"};

struct world {
    struct host host;
    struct rift_initiator *client;
    uint32_t client_id;
    uint64_t now;
    struct {
        uint8_t bytes[RIFT_MTU_BYTES];
        size_t len;
    } kept[KEPT];
    unsigned n;
    struct rift_responder_question questions[QUESTIONS]; /* of a slow key holder */
    unsigned asked;
    struct rift_session_config sessions[SESSIONS]; /* of clients that had one */
    unsigned n_sessions;
};

static void require(bool holds)
{
    if (!holds)
        abort();
}

static uint64_t random_state;

static const char *random_name(void)
{
    return "counter";
}

static uint32_t random_word(void)
{
    random_state = random_state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(random_state >> 32);
}

static void random_bytes(void *buffer, size_t len)
{
    for (size_t i = 0; i < len; i++)
        ((uint8_t *)buffer)[i] = (uint8_t)random_word();
}

static struct randombytes_implementation random_source = {
    .implementation_name = random_name, .random = random_word, .buf = random_bytes};

static void keep(struct world *w, const uint8_t *bytes, size_t len)
{
    memcpy(w->kept[w->n % KEPT].bytes, bytes, len);
    w->kept[w->n++ % KEPT].len = len;
}

/* The session that the host made must be one that a client has, with the same keys. */
static void check_session(struct world *w)
{
    struct rift_session_config c = {0};
    uint8_t key[32];
    if (rift_initiator_finish(w->client, &c, key) == 0) {
        require(memcmp(key, w->host.identity.public, 32) == 0);
        w->sessions[w->n_sessions++ % SESSIONS] = c;
    }
    for (unsigned i = 0; i < SESSIONS; i++)
        if (w->sessions[i].local_id == w->host.config.remote_id &&
            w->sessions[i].remote_id == w->host.config.local_id &&
            memcmp(w->sessions[i].key_send, w->host.config.key_receive, 32) == 0 &&
            memcmp(w->sessions[i].key_receive, w->host.config.key_send, 32) == 0)
            return;
    abort();
}

static void to_host(struct world *w, const uint8_t *address, const uint8_t *bytes, size_t len)
{
    unsigned finished = w->host.finished;
    if (host_receive(&w->host, address, bytes, len, w->now) == 0 && w->host.silent)
        w->questions[w->asked++ % QUESTIONS] = w->host.last_question;
    if (w->host.finished != finished)
        check_session(w);
}

static void new_client(struct world *w)
{
    uint8_t secret[32];
    struct rift_session_config c = {0};
    uint8_t key[32];
    if (w->client && rift_initiator_finish(w->client, &c, key) == 0)
        w->sessions[w->n_sessions++ % SESSIONS] = c;
    rift_initiator_free(w->client);
    memset(secret, 0x11, sizeof secret);
    require(rift_initiator_new(&w->client, secret, w->host.identity.public, ++w->client_id,
                               (const uint8_t *)"hello", 5, w->now, 10 * WV_NS_PER_S) == 0);
}

static void key_holder(struct world *w, uint8_t what)
{
    struct rift_responder_question *q = &w->questions[what >> 2 & (QUESTIONS - 1)];
    unsigned finished = w->host.finished;
    switch (what & 3) {
    case 0:
        w->host.silent = !w->host.silent;
        break;
    case 1: /* a late answer, perhaps the second to one question */
        if (q->step)
            host_answer(&w->host, q, w->now);
        break;
    case 2:
        rift_responder_keep(w->host.responder, q->token);
        break;
    case 3:
        if (what & 16)
            rift_responder_refuse(w->host.responder, q->token);
        else
            rift_responder_set_keys(w->host.responder, w->host.identity.public, what & 32);
        break;
    }
    if (w->host.finished != finished)
        check_session(w);
}

static void step(struct world *w, struct wv_reader *r)
{
    uint8_t what = wv_read_u8(r), bytes[RIFT_MTU_BYTES], address[RIFT_ADDRESS_BYTES];
    size_t len = w->kept[what >> 3].len;
    memcpy(bytes, w->kept[what >> 3].bytes, len);
    switch (what % 8) {
    case 0:
        if (rift_initiator_send(w->client, bytes, sizeof bytes, w->now, &len) == 0)
            keep(w, bytes, len);
        break;
    case 1:
        to_host(w, addresses[0], bytes, len);
        break;
    case 2:
        rift_initiator_receive(w->client, bytes, len, w->now);
        break;
    case 3: /* changed or cut, to either end, from either address */
        len = WV_MIN(len, (size_t)wv_read_u16(r));
        if (len)
            bytes[wv_read_u16(r) % len] ^= wv_read_u8(r);
        to_host(w, addresses[1], bytes, len);
        rift_initiator_receive(w->client, bytes, len, w->now);
        break;
    case 4:
        key_holder(w, what >> 3 | (uint8_t)(wv_read_u8(r) << 5));
        break;
    case 5:
        w->now += (uint64_t)(what >> 3) * 100 * WV_NS_PER_MS;
        break;
    case 6:
        to_host(w, addresses[1], bytes, len);
        break;
    case 7:
        new_client(w);
        break;
    }
    while (host_send(&w->host, bytes, w->now, address, &len) == 0)
        keep(w, bytes, len);
    require(host_stats(&w->host).half_open <= HALF_OPEN);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    static struct world w;
    struct wv_reader r;
    randombytes_set_implementation(&random_source);
    random_state = 1;
    require(rift_crypto_init() == 0);
    memset(&w, 0, sizeof w);
    w.now = 1000 * WV_NS_PER_S;
    host_init(&w.host, HALF_OPEN, w.now);
    new_client(&w);
    wv_reader_init(&r, data, len);
    for (unsigned steps = 0; r.left && !r.failed && steps < 256; steps++)
        step(&w, &r);
    struct rift_responder_stats stats = host_stats(&w.host);
    require(stats.finished == w.host.finished);
    rift_initiator_free(w.client);
    host_fini(&w.host);
    return 0;
}
