/* The handshake's datagrams from anybody. The input is a script: per step one byte of what to do, and for
 * some a length (u16) and bytes. A real client, a real host and the stranger share one virtual clock; the
 * random source is fixed, so that a corpus can hold datagrams that fit. The host itself aborts when it would
 * send more than it got. */
#include "lib/base/bytes.h"
#include "lib/base/util.h"
#include "tests/known.h"
#include "tests/unit/handshake_host.h"

#include <sodium.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static const uint8_t home[RIFT_ADDRESS_BYTES] = "home address 0001";
static const uint8_t away[RIFT_ADDRESS_BYTES] = "away address 0002";

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

struct world {
    struct host host;
    struct rift_initiator *client;
    uint64_t now;
    uint8_t to_host[RIFT_MTU_BYTES], to_client[RIFT_MTU_BYTES];
    size_t to_host_len, to_client_len;
};

static void drain_host(struct world *w)
{
    uint8_t buffer[RIFT_MTU_BYTES], address[RIFT_ADDRESS_BYTES];
    size_t len;
    while (host_send(&w->host, known_forget(buffer, sizeof buffer), w->now, address, &len) == 0) {
        known_check(buffer, len);
        memcpy(w->to_client, buffer, len);
        w->to_client_len = len;
    }
}

/* The network keeps the last one. */
static void client_sends(struct world *w)
{
    uint8_t buffer[sizeof w->to_host];
    size_t len;
    if (rift_initiator_send(w->client, known_forget(buffer, sizeof buffer), sizeof buffer, w->now, &len) != 0)
        return;
    known_check(buffer, len);
    memcpy(w->to_host, buffer, len);
    w->to_host_len = len;
}

static void step(struct world *w, struct wv_reader *r)
{
    uint8_t what = wv_read_u8(r);
    size_t len = what % 8 < 3 ? WV_MIN((size_t)wv_read_u16(r), r->left) : 0;
    const uint8_t *bytes = wv_read_span(r, len);
    if (r->failed)
        return;
    switch (what % 8) {
    case 0: /* a stranger's datagram to the host, from either address */
    case 1:
        host_receive(&w->host, what % 8 ? home : away, bytes, len, w->now);
        break;
    case 2: /* a stranger's datagram to the client */
        rift_initiator_receive(w->client, bytes, len, w->now);
        break;
    case 3: /* the client sends what is due */
        client_sends(w);
        break;
    case 4: /* the network delivers, as often as asked */
        host_receive(&w->host, home, w->to_host, w->to_host_len, w->now);
        break;
    case 5:
        rift_initiator_receive(w->client, w->to_client, w->to_client_len, w->now);
        break;
    case 6: /* time goes on, by up to 3 s */
        w->now += (uint64_t)(what >> 3) * 100 * WV_NS_PER_MS;
        break;
    case 7: /* one bit turns on the way */
        w->to_host[what >> 3] ^= 1;
        break;
    }
    drain_host(w);
}

/* Whoever spoke to whom: when both ends hold a session of each other, they hold the same keys. */
static void check(struct world *w)
{
    struct rift_session_config config;
    struct rift_responder_stats stats = host_stats(&w->host);
    uint8_t key[32];
    if (stats.half_open > 8 || stats.finished != w->host.finished)
        abort();
    if (rift_initiator_finish(w->client, &config, key) != 0)
        return;
    if (memcmp(key, w->host.identity.public, 32) != 0)
        abort();
    if (w->host.finished && w->host.config.remote_id == config.local_id &&
        w->host.config.local_id == config.remote_id &&
        (memcmp(config.key_send, w->host.config.key_receive, 32) != 0 ||
         memcmp(config.key_receive, w->host.config.key_send, 32) != 0))
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    static struct world w;
    uint8_t secret[32];
    struct wv_reader r;
    randombytes_set_implementation(&random_source);
    random_state = 1;
    if (rift_crypto_init() < 0)
        abort();
    memset(&w, 0, sizeof w);
    w.now = 1000 * WV_NS_PER_S;
    host_init(&w.host, 8, w.now);
    memset(secret, 0x11, sizeof secret);
    if (rift_initiator_new(&w.client, secret, w.host.identity.public, 0x04030201, (const uint8_t *)"hello", 5,
                           w.now, 10 * WV_NS_PER_S) < 0)
        abort();
    wv_reader_init(&r, data, len);
    for (unsigned steps = 0; r.left && !r.failed && steps < 256; steps++)
        step(&w, &r);
    check(&w);
    rift_initiator_free(w.client);
    host_fini(&w.host);
    return 0;
}
