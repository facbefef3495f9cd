#include "rift/core/path.h"

#include "lib/base/util.h"
#include "rift/crypto/derive.h"

#include <sodium.h>
#include <string.h>

#define NEW_PAUSE_NS    (50 * WV_NS_PER_MS)
#define OLD_PAUSE_NS    (20 * WV_NS_PER_MS)
#define OLD_TRIES       4 /* at that pace; then slowly */
#define OLD_SLOW_NS     (100 * WV_NS_PER_MS)
#define TRY_NS          (3 * WV_NS_PER_S)
#define HOLD_NS         (2 * WV_NS_PER_S)
#define REFUSE_NS       (10 * WV_NS_PER_S)
#define SILENT_NS       WV_NS_PER_S
#define RTT_UNKNOWN_NS  (100 * WV_NS_PER_MS)
#define DECIDE_SLACK_NS (5 * WV_NS_PER_MS)
#define DECIDE_MAX_NS   (50 * WV_NS_PER_MS) /* after a round trip */
#define BYTES_PER_BYTE  3

static const uint8_t zero[RIFT_KEY_BYTES];

static bool same(const uint8_t *a, const uint8_t *b)
{
    return memcmp(a, b, RIFT_ADDRESS_BYTES) == 0;
}

static void copy(uint8_t *to, const uint8_t *from)
{
    memcpy(to, from, RIFT_ADDRESS_BYTES);
}

void rift_path_init(struct rift_path *p, const uint8_t address[RIFT_ADDRESS_BYTES],
                    const uint8_t secret[RIFT_KEY_BYTES], uint64_t now)
{
    *p = (struct rift_path){.known = !same(address, zero), .heard_ns = now};
    copy(p->current, address);
    if (sodium_is_zero(secret, RIFT_KEY_BYTES))
        rift_derive_secret(p->secret);
    else
        memcpy(p->secret, secret, RIFT_KEY_BYTES);
}

void rift_path_wipe(struct rift_path *p)
{
    explicit_bzero(p->secret, sizeof p->secret);
}

static void begin_challenge(struct rift_path *p, struct rift_path_challenge *c, uint64_t counter,
                            uint64_t now)
{
    rift_derive_token(p->secret, p->n_tokens++, counter, c->token);
    c->due = now;
    c->tries = 0;
}

void rift_path_restore(struct rift_path *p, const uint8_t *address, const uint8_t *old, uint64_t now)
{
    p->known = address != NULL;
    if (address)
        copy(p->current, address);
    if (!address || !old)
        return;
    copy(p->other, old);
    p->state = RIFT_PATH_MOVED;
    p->until = now + HOLD_NS;
    begin_challenge(p, &p->to_old, 0, now);
}

static void begin(struct rift_path *p, const struct rift_path_arrival *a, uint64_t now)
{
    p->state = RIFT_PATH_TRYING;
    copy(p->other, a->address);
    p->first_counter = a->counter;
    p->proven = p->old_answered = false;
    p->received_bytes = a->len;
    p->sent_bytes = 0;
    p->until = now + TRY_NS;
    uint64_t rtt = a->rtt_ns ? a->rtt_ns : RTT_UNKNOWN_NS;
    /* Twice the round trip: copies may have come by a shorter way, and were measured too. */
    uint64_t spare = WV_MAX(4 * a->rtt_var_ns, rtt) + DECIDE_SLACK_NS;
    p->decide_at = now + rtt + WV_MIN(spare, (uint64_t)DECIDE_MAX_NS);
    begin_challenge(p, &p->to_new, a->counter, now);
    begin_challenge(p, &p->to_old, a->counter, now);
    p->attempts++;
}

static void refuse(struct rift_path *p, const uint8_t *address, uint64_t now)
{
    p->refused_known = true;
    copy(p->refused, address);
    p->refused_until = now + REFUSE_NS;
}

/* The old address showed that the peer is still there. */
static int old_lives(struct rift_path *p, uint64_t now)
{
    p->heard_ns = now;
    if (p->state == RIFT_PATH_TRYING) {
        p->state = RIFT_PATH_STEADY;
        refuse(p, p->other, now);
        return 0;
    }
    p->state = RIFT_PATH_STEADY;
    refuse(p, p->current, now);
    copy(p->current, p->other);
    return RIFT_PATH_CHANGED;
}

static int move(struct rift_path *p, uint64_t now)
{
    uint8_t old[RIFT_ADDRESS_BYTES];
    copy(old, p->current);
    copy(p->current, p->other);
    copy(p->other, old);
    p->state = RIFT_PATH_MOVED;
    p->until = now + HOLD_NS;
    p->heard_ns = now;
    return RIFT_PATH_CHANGED;
}

int rift_path_move_to(struct rift_path *p, const uint8_t address[RIFT_ADDRESS_BYTES], uint64_t now)
{
    uint8_t old[RIFT_ADDRESS_BYTES];
    bool moves = !p->known || !same(p->current, address);
    p->state = RIFT_PATH_STEADY;
    p->heard_ns = now;
    p->refused_known = false;
    if (!moves)
        return 0;
    copy(old, p->current);
    copy(p->current, address);
    if (p->known)
        refuse(p, old, now);
    p->known = true;
    return RIFT_PATH_CHANGED;
}

static bool is_refused(const struct rift_path *p, const uint8_t *address, uint64_t now)
{
    return p->refused_known && now < p->refused_until && same(address, p->refused) &&
           now - p->heard_ns < SILENT_NS;
}

int rift_path_on_datagram(struct rift_path *p, const struct rift_path_arrival *a, uint64_t now)
{
    if (!p->known) {
        p->known = true;
        copy(p->current, a->address);
    }
    if (same(a->address, p->current)) {
        p->heard_ns = now;
        /* Sent from there after what came from the new address. */
        return p->state == RIFT_PATH_TRYING && a->counter > p->first_counter ? old_lives(p, now) : 0;
    }
    bool is_other = p->state != RIFT_PATH_STEADY && same(a->address, p->other);
    if (is_other && p->state == RIFT_PATH_TRYING) {
        p->received_bytes += a->len;
        return 0;
    }
    if (is_other)
        return a->newest ? old_lives(p, now) : 0;
    if (a->newest && !is_refused(p, a->address, now) && !(p->state == RIFT_PATH_TRYING && p->proven))
        begin(p, a, now);
    return 0;
}

int rift_path_on_response(struct rift_path *p, const uint8_t token[RIFT_PATH_TOKEN_BYTES],
                          const uint8_t address[RIFT_ADDRESS_BYTES], uint64_t counter, uint64_t now)
{
    if (p->state == RIFT_PATH_STEADY)
        return 0;
    if (sodium_memcmp(token, p->to_old.token, RIFT_PATH_TOKEN_BYTES) == 0) {
        p->old_answered = true;
        p->old_counter = counter;
        return same(address, p->state == RIFT_PATH_TRYING ? p->current : p->other) ? old_lives(p, now) : 0;
    }
    if (p->state == RIFT_PATH_TRYING && same(address, p->other) &&
        sodium_memcmp(token, p->to_new.token, RIFT_PATH_TOKEN_BYTES) == 0) {
        p->proven = true;
        return rift_path_tick(p, now);
    }
    return 0;
}

int rift_path_tick(struct rift_path *p, uint64_t now)
{
    if (p->state == RIFT_PATH_TRYING && p->proven && now >= p->decide_at)
        return move(p, now);
    if (p->state != RIFT_PATH_STEADY && now >= p->until)
        p->state = RIFT_PATH_STEADY;
    return 0;
}

bool rift_path_wants_copy(const struct rift_path *p, const uint8_t address[RIFT_ADDRESS_BYTES])
{
    return p->state != RIFT_PATH_STEADY && p->old_answered &&
           same(address, p->state == RIFT_PATH_TRYING ? p->current : p->other);
}

int rift_path_on_copy(struct rift_path *p, uint64_t counter, uint64_t now)
{
    return counter == p->old_counter ? old_lives(p, now) : 0;
}

void rift_path_on_challenge(struct rift_path *p, const uint8_t token[RIFT_PATH_TOKEN_BYTES],
                            const uint8_t *address)
{
    if (p->n_responses == RIFT_PATH_RESPONSES)
        return; /* it comes again */
    unsigned i = p->n_responses++;
    copy(p->responses[i].address, address ? address : p->current);
    memcpy(p->responses[i].token, token, RIFT_PATH_TOKEN_BYTES);
}

static bool write_token(struct wv_writer *w, enum rift_wire_type type, const uint8_t *token)
{
    wv_write_u8(w, (uint8_t)type);
    wv_write_u16(w, RIFT_PATH_TOKEN_BYTES);
    wv_write_span(w, token, RIFT_PATH_TOKEN_BYTES);
    return true;
}

static bool has_budget(const struct rift_path *p)
{
    return p->sent_bytes + RIFT_PATH_DATAGRAM_BYTES <= BYTES_PER_BYTE * p->received_bytes;
}

/* When the new address is challenged next. */
static uint64_t new_due(const struct rift_path *p)
{
    return p->state == RIFT_PATH_TRYING && !p->proven && has_budget(p) ? p->to_new.due : RIFT_NEVER;
}

static uint64_t old_due(const struct rift_path *p)
{
    return p->state != RIFT_PATH_STEADY ? p->to_old.due : RIFT_NEVER;
}

bool rift_path_write(struct rift_path *p, struct wv_writer *w, uint64_t now,
                     uint8_t ret_address[RIFT_ADDRESS_BYTES])
{
    if (p->n_responses) {
        unsigned i = --p->n_responses;
        copy(ret_address, p->responses[i].address);
        return write_token(w, RIFT_WIRE_PATH_RESPONSE, p->responses[i].token);
    }
    if (now >= new_due(p)) {
        p->to_new.due = now + NEW_PAUSE_NS;
        p->to_new.tries++;
        p->sent_bytes += RIFT_PATH_DATAGRAM_BYTES;
        copy(ret_address, p->other);
        return write_token(w, RIFT_WIRE_PATH_CHALLENGE, p->to_new.token);
    }
    if (now >= old_due(p)) {
        p->to_old.due = now + (++p->to_old.tries < OLD_TRIES ? OLD_PAUSE_NS : OLD_SLOW_NS);
        copy(ret_address, p->state == RIFT_PATH_TRYING ? p->current : p->other);
        return write_token(w, RIFT_WIRE_PATH_CHALLENGE, p->to_old.token);
    }
    return false;
}

uint64_t rift_path_timeout(const struct rift_path *p)
{
    if (p->n_responses)
        return 0;
    if (p->state == RIFT_PATH_STEADY)
        return RIFT_NEVER;
    uint64_t at = rift_earlier(p->until, rift_earlier(new_due(p), old_due(p)));
    return p->state == RIFT_PATH_TRYING && p->proven ? rift_earlier(at, p->decide_at) : at;
}
