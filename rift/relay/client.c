/* A peer's side of a relay. See client.h and WIRE.md section 10.3. */
#include "rift/relay/client.h"

#include "lib/base/bytes.h"
#include "lib/base/util.h"

#include <errno.h>
#include <sodium.h>
#include <string.h>

#define REPEAT_FIRST (100 * WV_NS_PER_MS)
#define REPEAT_MAX   (2 * WV_NS_PER_S)
#define BINDS_MAX    4                    /* without an answer: the challenge may be too old */
#define REQUESTS_MAX 6                    /* without an answer, while bound */
#define PING_NS      (5 * WV_NS_PER_S)    /* below any NAT's patience */
#define PING_AGAIN   (250 * WV_NS_PER_MS) /* when no PONG came */
#define PINGS_MAX    4                    /* without an answer: the relay knows us no more */
#define BUSY_NS      WV_NS_PER_S

enum step { STEP_REQUEST, STEP_BIND, STEP_PING, STEP_NONE };

struct rift_relay_client {
    uint8_t lease[RIFT_LEASE_BYTES], secret[64];
    struct rift_lease terms;
    uint8_t side;
    enum step step;
    bool bound;
    uint8_t transaction[RIFT_RELAY_TRANSACTION], challenge[RIFT_RELAY_CHALLENGE];
    uint8_t header[RIFT_RELAY_HEADER_BYTES];
    uint64_t due_ns, sent_ns, pause_ns;
    unsigned tries; /* datagrams of this step */
    uint32_t ping_id;
    struct rift_relay_client_status status;
};

static void go(struct rift_relay_client *c, enum step step, uint64_t due_ns)
{
    c->step = step;
    c->tries = 0;
    c->pause_ns = REPEAT_FIRST;
    c->due_ns = due_ns;
    if (step == STEP_REQUEST)
        randombytes_buf(c->transaction, sizeof c->transaction);
}

static int take_lease(struct rift_relay_client *c, const uint8_t lease[RIFT_LEASE_BYTES])
{
    struct rift_lease terms;
    if (rift_lease_parse(lease, RIFT_LEASE_BYTES, &terms) < 0)
        return -EINVAL;
    const uint8_t *ours = c->secret + 32; /* libsodium keeps the public key behind the seed */
    bool first = memcmp(terms.peers[0], ours, 32) == 0, second = memcmp(terms.peers[1], ours, 32) == 0;
    if (!first && !second)
        return -EINVAL;
    c->side = second;
    c->terms = terms;
    memcpy(c->lease, lease, sizeof c->lease);
    return 0;
}

int rift_relay_client_new(struct rift_relay_client **ret, const uint8_t lease[RIFT_LEASE_BYTES],
                          const uint8_t secret[64], uint64_t now)
{
    struct rift_relay_client *c = calloc(1, sizeof *c);
    if (!c)
        return -ENOMEM;
    memcpy(c->secret, secret, sizeof c->secret);
    int r = take_lease(c, lease);
    if (r < 0) {
        rift_relay_client_free(c);
        return r;
    }
    go(c, STEP_REQUEST, now);
    *ret = c;
    return 0;
}

struct rift_relay_client *rift_relay_client_free(struct rift_relay_client *c)
{
    if (c) {
        sodium_memzero(c, sizeof *c);
        free(c);
    }
    return NULL;
}

static size_t write_step(struct rift_relay_client *c, uint8_t *buffer)
{
    struct rift_relay_request request;
    struct rift_relay_bind bind = {.side = c->side};
    struct rift_relay_ping ping = {.kind = RIFT_RELAY_PING};
    switch (c->step) {
    case STEP_BIND:
        memcpy(bind.transaction, c->transaction, sizeof bind.transaction);
        memcpy(bind.challenge, c->challenge, sizeof bind.challenge);
        memcpy(bind.lease, c->lease, sizeof bind.lease);
        rift_relay_write_bind(&bind, c->secret, buffer);
        return RIFT_RELAY_BIND_BYTES;
    case STEP_PING:
        ping.id = c->ping_id;
        memcpy(ping.channel, c->header + 1, sizeof ping.channel);
        rift_relay_write_ping(&ping, buffer);
        return RIFT_RELAY_PING_BYTES;
    default:
        memcpy(request.transaction, c->transaction, sizeof request.transaction);
        memcpy(request.lease_id, c->terms.id, sizeof request.lease_id);
        rift_relay_write_request(&request, buffer);
        return RIFT_RELAY_REQUEST_BYTES;
    }
}

int rift_relay_client_send(struct rift_relay_client *c, uint8_t *buffer, size_t capacity, uint64_t now,
                           size_t *ret_len)
{
    if (capacity < RIFT_RELAY_BIND_BYTES)
        return -EMSGSIZE;
    if (c->step == STEP_NONE || now < c->due_ns)
        return RIFT_RELAY_CLIENT_IDLE;
    if (c->step == STEP_PING && c->tries == PINGS_MAX) {
        c->bound = false; /* it forgot us, or our address is another one now */
        go(c, STEP_REQUEST, now);
    } else if (c->step == STEP_BIND && c->tries == BINDS_MAX) {
        go(c, STEP_REQUEST, now);
    } else if (c->step == STEP_REQUEST && c->tries == REQUESTS_MAX) {
        c->bound = false; /* a renewal that nobody answers */
    }
    if (c->step == STEP_PING && c->tries == 0)
        c->ping_id = randombytes_random() | 1; /* 0 is that of PONGs nobody asked for */
    *ret_len = write_step(c, buffer);
    c->tries++;
    c->sent_ns = now;
    c->due_ns = now + (c->step == STEP_PING ? PING_AGAIN : c->pause_ns);
    c->pause_ns = WV_MIN(2 * c->pause_ns, REPEAT_MAX);
    return 0;
}

uint64_t rift_relay_client_timeout(const struct rift_relay_client *c)
{
    return c->step == STEP_NONE ? UINT64_MAX : c->due_ns;
}

/* ---- answers ---- */

static void note_answer(struct rift_relay_client *c, uint64_t now)
{
    c->status.answered = true;
    if (c->tries == 1) /* else nobody knows which of them was answered */
        c->status.rtt_ns = now - c->sent_ns;
}

static void take_clock(struct rift_relay_client *c, uint64_t relay_s, uint64_t unix_s)
{
    c->status.clock_ahead_s = (int64_t)(relay_s - unix_s);
}

static void take_challenged(struct rift_relay_client *c, const struct rift_relay_challenged *m, uint64_t now,
                            uint64_t unix_s)
{
    note_answer(c, now);
    take_clock(c, m->unix_s, unix_s);
    memcpy(c->status.observed, m->observed, sizeof c->status.observed);
    memcpy(c->challenge, m->challenge, sizeof c->challenge);
    go(c, STEP_BIND, now);
}

static void take_bound(struct rift_relay_client *c, const struct rift_relay_bound *m, uint64_t now,
                       uint64_t unix_s)
{
    note_answer(c, now);
    take_clock(c, m->unix_s, unix_s);
    memcpy(c->status.observed, m->observed, sizeof c->status.observed);
    memcpy(c->header, m->header, sizeof c->header);
    c->status.peer_present = m->flags & RIFT_RELAY_FLAG_PEER;
    c->status.draining = m->flags & RIFT_RELAY_FLAG_DRAINING;
    c->status.left_s = m->left_s;
    c->status.rate_kbps = m->rate_kbps;
    c->status.reason = RIFT_RELAY_NO_REASON;
    c->bound = true;
    go(c, STEP_PING, now + PING_NS);
}

static bool may_pass_by_itself(unsigned reason)
{
    return reason == RIFT_RELAY_FULL || reason == RIFT_RELAY_BUSY || reason == RIFT_RELAY_STALE ||
           reason == RIFT_RELAY_NOT_YET || reason == RIFT_RELAY_DRAINING;
}

static void take_refused(struct rift_relay_client *c, const struct rift_relay_refused *m, uint64_t now,
                         uint64_t unix_s)
{
    note_answer(c, now);
    take_clock(c, m->unix_s, unix_s);
    c->status.reason = m->reason;
    if (c->bound) { /* a renewal was refused: what there is goes on until it ends */
        go(c, STEP_PING, now + PING_NS);
    } else if (may_pass_by_itself(m->reason)) {
        go(c, STEP_REQUEST, now + BUSY_NS);
    } else {
        go(c, STEP_NONE, UINT64_MAX);
    }
}

static int take_pong(struct rift_relay_client *c, const struct rift_relay_ping *m, uint64_t now)
{
    if (!c->bound || m->kind != RIFT_RELAY_PONG || memcmp(m->channel, c->header + 1, sizeof m->channel) != 0)
        return RIFT_RELAY_CLIENT_IDLE;
    bool ours = c->step == STEP_PING && c->tries && m->id == c->ping_id;
    if (!ours && m->id != 0)
        return RIFT_RELAY_CLIENT_IDLE;
    c->status.peer_present = m->flags & RIFT_RELAY_FLAG_PEER;
    c->status.draining = m->flags & RIFT_RELAY_FLAG_DRAINING;
    c->status.left_s = m->left_s;
    if (ours) {
        note_answer(c, now);
        go(c, STEP_PING, now + PING_NS);
    }
    return 0;
}

static int take_data(const struct rift_relay_client *c, const uint8_t *datagram, size_t len,
                     const uint8_t **ret_payload, size_t *ret_len)
{
    if (!c->bound || len <= RIFT_RELAY_HEADER_BYTES ||
        memcmp(datagram, c->header, RIFT_RELAY_HEADER_BYTES) != 0)
        return RIFT_RELAY_CLIENT_IDLE;
    *ret_payload = datagram + RIFT_RELAY_HEADER_BYTES;
    *ret_len = len - RIFT_RELAY_HEADER_BYTES;
    return RIFT_RELAY_CLIENT_PAYLOAD;
}

static bool is_ours(const struct rift_relay_client *c, const uint8_t transaction[RIFT_RELAY_TRANSACTION])
{
    return sodium_memcmp(c->transaction, transaction, RIFT_RELAY_TRANSACTION) == 0;
}

int rift_relay_client_receive(struct rift_relay_client *c, const uint8_t *datagram, size_t len, uint64_t now,
                              uint64_t unix_s, const uint8_t **ret_payload, size_t *ret_len)
{
    struct rift_relay_challenged challenged;
    struct rift_relay_bound bound;
    struct rift_relay_refused refused;
    struct rift_relay_ping ping;
    if (len && datagram[0] == RIFT_RELAY_DATA)
        return take_data(c, datagram, len, ret_payload, ret_len);
    if (rift_relay_read_ping(datagram, len, &ping) == 0)
        return take_pong(c, &ping, now);
    if (c->step == STEP_REQUEST && rift_relay_read_challenged(datagram, len, &challenged) == 0 &&
        is_ours(c, challenged.transaction))
        take_challenged(c, &challenged, now, unix_s);
    else if (c->step == STEP_BIND && rift_relay_read_bound(datagram, len, &bound) == 0 &&
             is_ours(c, bound.transaction) && bound.side == c->side)
        take_bound(c, &bound, now, unix_s);
    else if (c->step == STEP_BIND && rift_relay_read_refused(datagram, len, &refused) == 0 &&
             is_ours(c, refused.transaction))
        take_refused(c, &refused, now, unix_s);
    else
        return RIFT_RELAY_CLIENT_IDLE;
    return 0;
}

int rift_relay_client_header(const struct rift_relay_client *c, uint8_t ret_header[RIFT_RELAY_HEADER_BYTES])
{
    if (!c->bound)
        return RIFT_RELAY_CLIENT_UNBOUND;
    memcpy(ret_header, c->header, RIFT_RELAY_HEADER_BYTES);
    return 0;
}

int rift_relay_client_renew(struct rift_relay_client *c, const uint8_t lease[RIFT_LEASE_BYTES], uint64_t now)
{
    struct rift_lease terms;
    if (rift_lease_parse(lease, RIFT_LEASE_BYTES, &terms) < 0 ||
        memcmp(terms.id, c->terms.id, sizeof terms.id) != 0 || terms.expires_s <= c->terms.expires_s)
        return -EINVAL;
    int r = take_lease(c, lease);
    if (r == 0)
        go(c, STEP_REQUEST, now);
    return r;
}

void rift_relay_client_resume(struct rift_relay_client *c, const uint8_t header[RIFT_RELAY_HEADER_BYTES],
                              uint64_t now)
{
    memcpy(c->header, header, sizeof c->header);
    c->bound = true;
    go(c, STEP_PING, now);
}

void rift_relay_client_moved(struct rift_relay_client *c, uint64_t now)
{
    if (c->step != STEP_NONE)
        go(c, STEP_REQUEST, now);
}

void rift_relay_client_get_status(const struct rift_relay_client *c, struct rift_relay_client_status *ret)
{
    *ret = c->status;
    ret->state = c->bound               ? RIFT_RELAY_CLIENT_BOUND
                 : c->step == STEP_NONE ? RIFT_RELAY_CLIENT_REFUSED
                                        : RIFT_RELAY_CLIENT_ASKING;
}
