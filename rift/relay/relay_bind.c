/* How a peer's address is bound to its side of a lease: a challenge that needs no memory proves the address,
 * only then are signatures checked, and only so many a second. Must never answer an unproven address with
 * anything but the challenge. */
#include "rift/relay/relay_internal.h"

#include "lib/base/util.h"

#include <sodium.h>
#include <string.h>

#define CHALLENGE_MS 10000 /* how long one is valid */
#define STAMP_BYTES  8
#define BURST_S      2                    /* unused ones of so long may be used at once */
#define STUN_BINDING 1                    /* its method */
#define ALL_PROOF_NS (WV_NS_PER_S / 5000) /* of all addresses: half of a core, at most */
#define ALL_BURST_NS (250 * WV_NS_PER_MS)
#define END_FAR_S    (INT64_MAX / 1000000000) /* beyond what monotonic time counts */

static void make_challenge(const struct rift_relay *r, const struct rift_relay_address *from,
                           const uint8_t *lease_id, const uint8_t *transaction, uint64_t stamp_ms,
                           uint8_t ret[RIFT_RELAY_CHALLENGE])
{
    crypto_generichash_state state;
    uint8_t stamp[STAMP_BYTES];
    for (size_t i = 0; i < STAMP_BYTES; i++)
        stamp[i] = (uint8_t)(stamp_ms >> (8 * i));
    crypto_generichash_init(&state, r->config.secret, sizeof r->config.secret, 16);
    crypto_generichash_update(&state, stamp, sizeof stamp);
    crypto_generichash_update(&state, from->bytes, sizeof from->bytes);
    crypto_generichash_update(&state, lease_id, RIFT_LEASE_ID_BYTES);
    crypto_generichash_update(&state, transaction, RIFT_RELAY_TRANSACTION);
    crypto_generichash_update(&state, (const uint8_t *)"c", 1);
    crypto_generichash_final(&state, ret + STAMP_BYTES, 16);
    memcpy(ret, stamp, sizeof stamp);
}

/* Whether M answers a challenge that went to FROM not long ago; when that was. */
static bool is_challenge_valid(const struct rift_relay *r, const struct rift_relay_address *from,
                               const struct rift_relay_bind *m, const uint8_t *lease_id, uint64_t now,
                               uint64_t *ret_stamp_ms)
{
    uint64_t stamp = 0, now_ms = now / WV_NS_PER_MS;
    uint8_t expected[RIFT_RELAY_CHALLENGE];
    for (size_t i = 0; i < STAMP_BYTES; i++)
        stamp |= (uint64_t)m->challenge[i] << (8 * i);
    if (stamp > now_ms || now_ms - stamp > CHALLENGE_MS)
        return false;
    make_challenge(r, from, lease_id, m->transaction, stamp, expected);
    *ret_stamp_ms = stamp;
    return sodium_memcmp(expected, m->challenge, sizeof expected) == 0;
}

static void observe(const struct rift_relay_address *from, uint8_t ret[RIFT_RELAY_OBSERVED])
{
    memcpy(ret, from->bytes, 16);
    ret[16] = from->bytes[17]; /* on the wire all integers are little-endian */
    ret[17] = from->bytes[16];
}

/* Not to itself, not to many at once, whatever is allowed. */
static bool is_unanswerable(const struct rift_relay *r, const struct rift_relay_address *from)
{
    return rift_relay_is_own(r, from) ||
           (rift_relay_address_ranges(from) & (RIFT_RELAY_MULTICAST | RIFT_RELAY_UNUSABLE));
}

void rift_relay_take_request(struct rift_relay *r, const struct rift_relay_address *from,
                             const struct rift_relay_request *m, const struct rift_relay_clock *clock)
{
    /* Of other ranges it is told after the proof. */
    if (is_unanswerable(r, from)) {
        r->stats.refused[RIFT_RELAY_BAD_ADDRESS]++;
        return;
    }
    uint8_t *d = rift_relay_reply(r, from, RIFT_RELAY_CHALLENGE_BYTES);
    if (!d)
        return;
    struct rift_relay_challenged c = {.unix_s = clock->unix_s};
    memcpy(c.transaction, m->transaction, sizeof c.transaction);
    make_challenge(r, from, m->lease_id, m->transaction, clock->now / WV_NS_PER_MS, c.challenge);
    observe(from, c.observed);
    rift_relay_write_challenged(&c, d);
    r->stats.challenges++;
}

static void refuse(struct rift_relay *r, const struct rift_relay_address *from,
                   const struct rift_relay_bind *m, enum rift_relay_reason reason, uint64_t unix_s)
{
    r->stats.refused[reason]++;
    uint8_t *d = rift_relay_reply(r, from, RIFT_RELAY_REFUSED_BYTES);
    if (!d)
        return;
    struct rift_relay_refused refused = {.reason = (uint8_t)reason, .unix_s = unix_s};
    memcpy(refused.transaction, m->transaction, sizeof refused.transaction);
    rift_relay_write_refused(&refused, d);
}

/* The bucket of an address and its neighbourhood. */
static uint32_t source_of(const struct rift_relay *r, const struct rift_relay_address *from)
{
    static const uint8_t mapped[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
    bool v4 = memcmp(from->bytes, mapped, sizeof mapped) == 0;
    uint8_t hash[crypto_shorthash_BYTES];
    uint32_t h;
    crypto_shorthash(hash, from->bytes, v4 ? 16 : 7, r->config.secret);
    memcpy(&h, hash, sizeof h);
    return h % SOURCES;
}

/* One more signature for an address: a bucket for its neighbourhood, and one for all. */
static bool may_prove(struct rift_relay *r, const struct rift_relay_address *from, uint64_t now)
{
    uint64_t *paid = &r->sources[source_of(r, from)], cost = WV_NS_PER_S / r->config.proofs_per_s;
    uint64_t begin = WV_MAX(*paid, now), all = WV_MAX(r->all_proofs, now);
    if (begin - now > BURST_S * WV_NS_PER_S || all - now > ALL_BURST_NS)
        return false;
    *paid = begin + cost;
    r->all_proofs = all + ALL_PROOF_NS;
    return true;
}

/* Whether a STUN request from FROM is answered. The sender may be anybody's invention: so few answers go to
 * one address that they harm nobody, and none into the operator's networks. */
static bool may_answer_stun(struct rift_relay *r, const struct rift_relay_address *from,
                            const struct rift_stun_message *m, uint64_t now)
{
    unsigned shut = ~r->config.allow | RIFT_RELAY_LINK_LOCAL;
    uint64_t *paid = &r->stun_sources[source_of(r, from)], begin = WV_MAX(*paid, now);
    if (m->kind != RIFT_STUN_REQUEST || m->method != STUN_BINDING || m->unknown)
        return false;
    if (is_unanswerable(r, from) || (rift_relay_address_ranges(from) & shut) ||
        begin - now > BURST_S * WV_NS_PER_S)
        return false;
    *paid = begin + WV_NS_PER_S / r->config.stun_per_s;
    return true;
}

void rift_relay_take_stun(struct rift_relay *r, const struct rift_relay_address *from,
                          const struct rift_stun_message *m, uint64_t now)
{
    uint8_t answer[RIFT_STUN_RESPONSE_BYTES], address[RIFT_ADDRESS_BYTES];
    if (!may_answer_stun(r, from, m, now)) {
        r->stats.stun_dropped++;
        return;
    }
    memcpy(address, from->bytes, sizeof address);
    size_t len = rift_stun_respond(m->id, address, answer);
    uint8_t *d = rift_relay_reply(r, from, len);
    if (!d)
        return;
    memcpy(d, answer, len);
    r->stats.stun_answers++;
}

static enum rift_relay_reason check_terms(const struct rift_relay *r, const struct rift_relay_address *from,
                                          const struct rift_lease *terms, uint64_t unix_s)
{
    static const enum rift_relay_reason faults[] = {
        [RIFT_LEASE_VALID] = RIFT_RELAY_NO_REASON,   [RIFT_LEASE_OTHER_RELAY] = RIFT_RELAY_OTHER_RELAY,
        [RIFT_LEASE_NOT_YET] = RIFT_RELAY_NOT_YET,   [RIFT_LEASE_EXPIRED] = RIFT_RELAY_EXPIRED,
        [RIFT_LEASE_TOO_LONG] = RIFT_RELAY_TOO_LONG,
    };
    enum rift_relay_reason fault =
        faults[rift_lease_check(terms, r->config.id, unix_s, r->config.leeway_s, r->config.max_lease_s)];
    if (fault)
        return fault;
    return rift_relay_address_ranges(from) & ~r->config.allow ? RIFT_RELAY_BAD_ADDRESS : RIFT_RELAY_NO_REASON;
}

/* Whether the lease that is known as PLACE can be this one too. Only a later end makes it another one. */
static enum rift_relay_reason check_known(const struct rift_relay *r, uint32_t place,
                                          const struct rift_lease *terms)
{
    const struct rift_lease *known = &r->leases[place].terms;
    if (memcmp(known->peers, terms->peers, sizeof terms->peers) != 0 ||
        memcmp(known->issuer, terms->issuer, sizeof terms->issuer) != 0)
        return RIFT_RELAY_CONFLICT;
    return RIFT_RELAY_NO_REASON;
}

/* Both signatures. That of a lease which is known byte for byte was checked when it came first. */
static enum rift_relay_reason check_proof(const struct rift_relay *r, uint32_t place, const uint8_t *datagram,
                                          const struct rift_relay_bind *m, const struct rift_lease *terms)
{
    const uint8_t *issuer = rift_relay_issuer(r, terms->issuer);
    if (!issuer)
        return RIFT_RELAY_NOT_TRUSTED;
    bool same = place != NONE && memcmp(r->leases[place].bytes, m->lease, sizeof m->lease) == 0;
    if (!same && !rift_lease_is_signed(m->lease, issuer))
        return RIFT_RELAY_FORGED;
    return rift_relay_bind_is_signed(datagram, terms->peers[m->side]) ? RIFT_RELAY_NO_REASON
                                                                      : RIFT_RELAY_UNPROVEN;
}

static void set_end(struct rift_relay *r, uint32_t place, const struct rift_relay_clock *clock)
{
    /* From here on monotonic: a clock that is set later neither ends a lease nor makes it longer. */
    uint64_t end_s = r->leases[place].terms.expires_s + r->config.leeway_s;
    uint64_t left = end_s > clock->unix_s ? WV_MIN(end_s - clock->unix_s, (uint64_t)END_FAR_S) : 0;
    r->ends[place] = clock->now + left * WV_NS_PER_S;
}

/* Binds FROM to the channel; the same address keeps its token, so that a repeated BIND changes nothing. */
static void bind_channel(struct rift_relay *r, uint32_t number, const struct rift_relay_address *from,
                         uint64_t now)
{
    struct channel *c = &r->channels[number];
    bool was = c->heard_ns != 0, same = memcmp(c->address.bytes, from->bytes, sizeof from->bytes) == 0;
    uint32_t token = was && same ? c->token : randombytes_random();
    r->stats.binds++;
    r->stats.moves += was && !same;
    rift_relay_set_channel(r, number, from, token, now ? now : 1);
}

static void say_bound(struct rift_relay *r, uint32_t number, const struct rift_relay_bind *m,
                      const struct rift_relay_clock *clock)
{
    const struct channel *c = &r->channels[number];
    uint8_t *d = rift_relay_reply(r, &c->address, RIFT_RELAY_BOUND_BYTES);
    if (!d)
        return;
    uint32_t rate = r->leases[number / 2].terms.rate_kbps;
    bool peer = rift_relay_is_present(&r->channels[number ^ 1], clock->now);
    struct rift_relay_bound bound = {
        .flags = (peer ? RIFT_RELAY_FLAG_PEER : 0) | (r->draining ? RIFT_RELAY_FLAG_DRAINING : 0),
        .side = m->side,
        .left_s = rift_relay_left_s(r, number / 2, clock->now),
        .rate_kbps = r->config.max_rate_kbps ? WV_MIN(rate, r->config.max_rate_kbps) : rate,
        .unix_s = clock->unix_s,
    };
    memcpy(bound.transaction, m->transaction, sizeof bound.transaction);
    memcpy(bound.header, c->header, sizeof bound.header);
    observe(&c->address, bound.observed);
    rift_relay_write_bound(&bound, d);
}

/* Everything is proven. Returns the place, or NONE with the reason. */
static uint32_t admit(struct rift_relay *r, uint32_t place, const struct rift_relay_bind *m,
                      const struct rift_lease *terms, const struct rift_relay_clock *clock,
                      enum rift_relay_reason *ret_reason)
{
    bool later = place != NONE && terms->expires_s > r->leases[place].terms.expires_s;
    if (r->draining && (place == NONE || later)) {
        *ret_reason = RIFT_RELAY_DRAINING;
        return NONE;
    }
    if (place == NONE) {
        place = rift_relay_place(r, NONE, terms, m->lease);
        if (place != NONE)
            set_end(r, place, clock);
        else
            *ret_reason = RIFT_RELAY_FULL;
    } else if (later) {
        r->leases[place].terms = *terms;
        memcpy(r->leases[place].bytes, m->lease, sizeof m->lease);
        rift_relay_set_rates(r, place);
        set_end(r, place, clock);
        r->stats.renewals++;
    }
    return place;
}

void rift_relay_take_bind(struct rift_relay *r, const struct rift_relay_address *from,
                          const uint8_t *datagram, const struct rift_relay_bind *m,
                          const struct rift_relay_clock *clock)
{
    /* The id lies at a fixed place, so that the challenge can be checked before anything else is. */
    const uint8_t *lease_id = m->lease + 4 + RIFT_LEASE_ISSUER_BYTES;
    struct rift_lease terms;
    uint64_t stamp;
    if (!is_challenge_valid(r, from, m, lease_id, clock->now, &stamp)) {
        r->stats.unproven++;
        return;
    }
    uint32_t place = rift_relay_find(r, lease_id);
    enum rift_relay_reason reason = RIFT_RELAY_MALFORMED;
    if (rift_lease_parse(m->lease, sizeof m->lease, &terms) == 0)
        reason = check_terms(r, from, &terms, clock->unix_s);
    if (!reason && place != NONE)
        reason = check_known(r, place, &terms);
    if (!reason && !may_prove(r, from, clock->now))
        reason = RIFT_RELAY_BUSY;
    if (!reason)
        reason = check_proof(r, place, datagram, m, &terms);
    if (!reason && place != NONE && stamp < r->leases[place].stamps[m->side])
        reason = RIFT_RELAY_STALE; /* an old answer, kept by somebody to move the side back */
    if (!reason)
        place = admit(r, place, m, &terms, clock, &reason);
    if (reason || place == NONE) {
        refuse(r, from, m, reason, clock->unix_s);
        return;
    }
    uint32_t number = 2 * place + m->side;
    const struct channel *other = &r->channels[number ^ 1];
    r->leases[place].stamps[m->side] = stamp;
    bind_channel(r, number, from, clock->now);
    rift_relay_note_changed(r, place);
    say_bound(r, number, m, clock);
    if (rift_relay_is_present(other, clock->now))
        rift_relay_pong(r, number ^ 1, 0, clock->now);
}
