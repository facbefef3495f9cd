/* bench-junk: what a datagram of somebody who has proven nothing costs a host, without a network: a first
 * datagram without the right MAC, one with it cut short, data of a session that is there under a wrong key,
 * data of none. Prints nanoseconds and allocations for each; exit 1 when a figure is missed: 1 us for a first
 * datagram, 2 us for the rest, no allocation. */
#include "lib/base/util.h"
#include "rift/core/handshake_wire.h"
#include "rift/core/session.h"
#include "rift/crypto/identity.h"

#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#define ROUNDS   7
#define EACH     100000
#define VARIANTS 16

/* See tests/unit/count_allocations.c. */
extern _Atomic uint64_t *bed_allocations;
static _Atomic uint64_t allocated;
_Atomic uint64_t *bed_allocations = &allocated;

struct junk {
    const char *name;
    double limit_ns;
    uint8_t data[VARIANTS][RIFT_MTU_BYTES];
    size_t len;
};

static struct rift_responder *responder;
static struct rift_session *session;

static void fill(struct junk *j, uint8_t kind, uint64_t seed)
{
    for (size_t v = 0; v < VARIANTS; v++) {
        for (size_t i = 0; i < sizeof j->data[v]; i++) {
            seed ^= seed << 13, seed ^= seed >> 7, seed ^= seed << 17;
            j->data[v][i] = (uint8_t)(seed >> 24);
        }
        memset(j->data[v], 0, 4);
        j->data[v][0] = kind;
    }
}

/* As transport does: by kind, then by the session it names. */
static void receive(const uint8_t *datagram, size_t len, uint64_t now)
{
    static const uint8_t address[RIFT_ADDRESS_BYTES] = {[10] = 0xff, 0xff, 192, 0, 2, 1, 0x30, 0x39};
    struct rift_responder_question question;
    uint32_t id;
    if (rift_datagram_kind(datagram, len) != RIFT_DATAGRAM_DATA)
        (void)rift_responder_receive(responder, address, datagram, len, (uint32_t)now | 1, now, &question);
    else if (rift_datagram_receiver(datagram, len, &id) == 0 && id == 7)
        (void)rift_session_receive_from(session, address, RIFT_ECN_NONE, datagram, len, now);
}

static int measure(const struct junk *j)
{
    double best = 1e9;
    uint64_t now = wv_now_ns(), allocations = allocated;
    for (unsigned round = 0; round < ROUNDS; round++) {
        uint64_t began = wv_now_ns();
        for (unsigned i = 0; i < EACH; i++)
            receive(j->data[i % VARIANTS], j->len, now + i);
        double each = (double)(wv_now_ns() - began) / EACH;
        best = each < best ? each : best;
    }
    allocations = allocated - allocations;
    printf("%-44s %7.0f ns each (limit %.0f), %llu allocations\n", j->name, best, j->limit_ns,
           (unsigned long long)allocations);
    printf("{\"bench\":\"junk\",\"what\":\"%s\",\"ns\":%.0f,\"allocations\":%llu}\n", j->name, best,
           (unsigned long long)allocations);
    return best <= j->limit_ns && allocations == 0 ? 0 : 1;
}

int main(void)
{
    static struct junk first = {
        .name = "first datagram, no code shown", .limit_ns = 1000, .len = RIFT_MTU_BYTES};
    static struct junk longest = {
        .name = "the same, its message as long as can be", .limit_ns = 1000, .len = RIFT_MTU_BYTES};
    static struct junk shown = {
        .name = "first datagram while a code is shown", .limit_ns = 1000, .len = RIFT_MTU_BYTES};
    static struct junk cut = {.name = "first datagram, cut", .limit_ns = 1000, .len = 200};
    static struct junk data = {
        .name = "data, a session that is there", .limit_ns = 2000, .len = RIFT_MTU_BYTES};
    static struct junk unknown = {.name = "data, no such session", .limit_ns = 2000, .len = RIFT_MTU_BYTES};
    static const uint8_t secret[32] = {1}, host_key[32] = {2};
    const struct rift_session_config config = {
        .role = RIFT_ROLE_HOST, .local_id = 7, .remote_id = 8, .key_send = {3}, .key_receive = {4}};
    struct junk *inits[] = {&first, &longest, &shown, &cut};
    int missed = 0;
    if (rift_crypto_init() < 0 || rift_responder_new(&responder, secret, 64, wv_now_ns()) < 0 ||
        rift_session_new(&session, &config, wv_now_ns()) < 0)
        return 1;
    rift_responder_set_keys(responder, host_key, false);
    for (size_t i = 0; i < WV_ARRAY_SIZE(inits); i++) {
        fill(inits[i], RIFT_DATAGRAM_INIT, 88172645463325252u + i);
        /* A length that a MAC is made over. */
        for (size_t v = 0; v < VARIANTS; v++) {
            size_t n = inits[i] == &longest ? RIFT_MESSAGE_1_MAX : RIFT_MESSAGE_1_BYTES;
            inits[i]->data[v][24] = (uint8_t)n;
            inits[i]->data[v][25] = (uint8_t)(n >> 8);
        }
    }
    fill(&data, RIFT_DATAGRAM_DATA, 1234567);
    fill(&unknown, RIFT_DATAGRAM_DATA, 7654321);
    for (size_t v = 0; v < VARIANTS; v++)
        memcpy(data.data[v] + 4, (const uint8_t[4]){7}, 4);
    missed += measure(&first) + measure(&longest) + measure(&cut);
    rift_responder_set_keys(responder, host_key, true);
    missed += measure(&shown) + measure(&data) + measure(&unknown);
    rift_session_free(session);
    rift_responder_free(responder);
    return missed ? 1 : 0;
}
