/* Relay datagrams as bytes. See wire.h. */
#include "rift/relay/wire.h"

#include "lib/base/bytes.h"

#include <errno.h>
#include <sodium.h>
#include <string.h>

#define PURPOSE      "RIFT 1 relay bind"
#define SIGNED_BYTES (RIFT_RELAY_BIND_BYTES - crypto_sign_BYTES)

static const struct {
    const char *word, *text;
} reasons[RIFT_RELAY_REASONS] = {
    [RIFT_RELAY_NO_REASON] = {"none", "no reason was given"},
    [RIFT_RELAY_MALFORMED] = {"malformed", "what was shown is no lease"},
    [RIFT_RELAY_OTHER_RELAY] = {"other-relay", "the lease is for another relay"},
    [RIFT_RELAY_NOT_TRUSTED] = {"not-trusted", "the relay does not trust who issued the lease"},
    [RIFT_RELAY_FORGED] = {"forged", "the lease's signature is wrong"},
    [RIFT_RELAY_NOT_YET] = {"not-yet", "by the relay's clock the lease is not valid yet"},
    [RIFT_RELAY_EXPIRED] = {"expired", "by the relay's clock the lease is over"},
    [RIFT_RELAY_TOO_LONG] = {"too-long", "the lease lasts longer than the relay allows"},
    [RIFT_RELAY_UNPROVEN] = {"unproven", "the lease names another key than the one that signed"},
    [RIFT_RELAY_CONFLICT] = {"conflict", "another lease with the same id is in use"},
    [RIFT_RELAY_FULL] = {"full", "the relay has no place for another lease"},
    [RIFT_RELAY_DRAINING] = {"draining", "the relay takes no new leases"},
    [RIFT_RELAY_BAD_ADDRESS] = {"bad-address", "the relay does not forward to addresses of this range"},
    [RIFT_RELAY_BUSY] = {"busy", "the relay is asked too much at once"},
    [RIFT_RELAY_STALE] = {"stale", "a newer proof was accepted"},
};

const char *rift_relay_reason_word(unsigned reason)
{
    return reason < RIFT_RELAY_REASONS ? reasons[reason].word : "unknown";
}

const char *rift_relay_reason_text(unsigned reason)
{
    return reason < RIFT_RELAY_REASONS ? reasons[reason].text : "a reason that this version does not know";
}

static void put_head(struct wv_writer *w, uint8_t *d, size_t len, uint8_t kind, uint8_t a, uint8_t b)
{
    wv_writer_init(w, d, len);
    wv_write_u8(w, kind);
    wv_write_u8(w, RIFT_RELAY_VERSION);
    wv_write_u8(w, a);
    wv_write_u8(w, b);
}

/* Kind, version and exact length. RET_A and RET_B are the two bytes that kinds use as they like. */
static int take_head(struct wv_reader *r, const uint8_t *d, size_t len, size_t wanted, uint8_t kind,
                     uint8_t *ret_a, uint8_t *ret_b)
{
    if (len != wanted)
        return -EBADMSG;
    wv_reader_init(r, d, len);
    uint8_t k = wv_read_u8(r), version = wv_read_u8(r);
    *ret_a = wv_read_u8(r);
    *ret_b = wv_read_u8(r);
    return k == kind && version == RIFT_RELAY_VERSION ? 0 : -EBADMSG;
}

static void take(struct wv_reader *r, void *ret, size_t len)
{
    const uint8_t *p = wv_read_span(r, len);
    if (p)
        memcpy(ret, p, len);
}

int rift_relay_read_request(const uint8_t *d, size_t len, struct rift_relay_request *ret)
{
    struct wv_reader r;
    struct rift_relay_request m;
    uint8_t a, b;
    if (take_head(&r, d, len, RIFT_RELAY_REQUEST_BYTES, RIFT_RELAY_REQUEST, &a, &b) < 0 || a || b)
        return -EBADMSG;
    take(&r, m.transaction, sizeof m.transaction);
    take(&r, m.lease_id, sizeof m.lease_id);
    if (!sodium_is_zero(r.data, r.left))
        return -EBADMSG;
    *ret = m;
    return 0;
}

void rift_relay_write_request(const struct rift_relay_request *m, uint8_t *d)
{
    struct wv_writer w;
    memset(d, 0, RIFT_RELAY_REQUEST_BYTES);
    put_head(&w, d, RIFT_RELAY_REQUEST_BYTES, RIFT_RELAY_REQUEST, 0, 0);
    wv_write_span(&w, m->transaction, sizeof m->transaction);
    wv_write_span(&w, m->lease_id, sizeof m->lease_id);
}

int rift_relay_read_challenged(const uint8_t *d, size_t len, struct rift_relay_challenged *ret)
{
    struct wv_reader r;
    struct rift_relay_challenged m;
    uint8_t a, b;
    if (take_head(&r, d, len, RIFT_RELAY_CHALLENGE_BYTES, RIFT_RELAY_CHALLENGED, &a, &b) < 0 || a || b)
        return -EBADMSG;
    take(&r, m.transaction, sizeof m.transaction);
    take(&r, m.challenge, sizeof m.challenge);
    take(&r, m.observed, sizeof m.observed);
    m.unix_s = wv_read_u64(&r);
    *ret = m;
    return 0;
}

void rift_relay_write_challenged(const struct rift_relay_challenged *m, uint8_t *d)
{
    struct wv_writer w;
    put_head(&w, d, RIFT_RELAY_CHALLENGE_BYTES, RIFT_RELAY_CHALLENGED, 0, 0);
    wv_write_span(&w, m->transaction, sizeof m->transaction);
    wv_write_span(&w, m->challenge, sizeof m->challenge);
    wv_write_span(&w, m->observed, sizeof m->observed);
    wv_write_u64(&w, m->unix_s);
}

int rift_relay_read_bind(const uint8_t *d, size_t len, struct rift_relay_bind *ret)
{
    struct wv_reader r;
    struct rift_relay_bind m;
    uint8_t zero;
    if (take_head(&r, d, len, RIFT_RELAY_BIND_BYTES, RIFT_RELAY_BIND, &m.side, &zero) < 0 || m.side > 1 ||
        zero)
        return -EBADMSG;
    take(&r, m.transaction, sizeof m.transaction);
    take(&r, m.challenge, sizeof m.challenge);
    take(&r, m.lease, sizeof m.lease);
    take(&r, m.signature, sizeof m.signature);
    *ret = m;
    return 0;
}

static void signed_message(const uint8_t *d, uint8_t ret[sizeof PURPOSE - 1 + SIGNED_BYTES])
{
    memcpy(ret, PURPOSE, sizeof PURPOSE - 1);
    memcpy(ret + sizeof PURPOSE - 1, d, SIGNED_BYTES);
}

void rift_relay_write_bind(const struct rift_relay_bind *m, const uint8_t secret[64], uint8_t *d)
{
    uint8_t message[sizeof PURPOSE - 1 + SIGNED_BYTES];
    struct wv_writer w;
    put_head(&w, d, RIFT_RELAY_BIND_BYTES, RIFT_RELAY_BIND, m->side, 0);
    wv_write_span(&w, m->transaction, sizeof m->transaction);
    wv_write_span(&w, m->challenge, sizeof m->challenge);
    wv_write_span(&w, m->lease, sizeof m->lease);
    signed_message(d, message);
    crypto_sign_detached(d + SIGNED_BYTES, NULL, message, sizeof message, secret);
}

bool rift_relay_bind_is_signed(const uint8_t *d, const uint8_t key[32])
{
    uint8_t message[sizeof PURPOSE - 1 + SIGNED_BYTES];
    signed_message(d, message);
    return crypto_sign_verify_detached(d + SIGNED_BYTES, message, sizeof message, key) == 0;
}

int rift_relay_read_bound(const uint8_t *d, size_t len, struct rift_relay_bound *ret)
{
    struct wv_reader r;
    struct rift_relay_bound m;
    if (take_head(&r, d, len, RIFT_RELAY_BOUND_BYTES, RIFT_RELAY_BOUND, &m.flags, &m.side) < 0 || m.side > 1)
        return -EBADMSG;
    take(&r, m.transaction, sizeof m.transaction);
    take(&r, m.header, sizeof m.header);
    m.left_s = wv_read_u32(&r);
    m.rate_kbps = wv_read_u32(&r);
    take(&r, m.observed, sizeof m.observed);
    m.unix_s = wv_read_u64(&r);
    if (m.header[0] != RIFT_RELAY_DATA)
        return -EBADMSG;
    *ret = m;
    return 0;
}

void rift_relay_write_bound(const struct rift_relay_bound *m, uint8_t *d)
{
    struct wv_writer w;
    put_head(&w, d, RIFT_RELAY_BOUND_BYTES, RIFT_RELAY_BOUND, m->flags, m->side);
    wv_write_span(&w, m->transaction, sizeof m->transaction);
    wv_write_span(&w, m->header, sizeof m->header);
    wv_write_u32(&w, m->left_s);
    wv_write_u32(&w, m->rate_kbps);
    wv_write_span(&w, m->observed, sizeof m->observed);
    wv_write_u64(&w, m->unix_s);
}

int rift_relay_read_refused(const uint8_t *d, size_t len, struct rift_relay_refused *ret)
{
    struct wv_reader r;
    struct rift_relay_refused m;
    uint8_t zero;
    if (take_head(&r, d, len, RIFT_RELAY_REFUSED_BYTES, RIFT_RELAY_REFUSED, &m.reason, &zero) < 0 || zero)
        return -EBADMSG;
    take(&r, m.transaction, sizeof m.transaction);
    m.unix_s = wv_read_u64(&r);
    *ret = m;
    return 0;
}

void rift_relay_write_refused(const struct rift_relay_refused *m, uint8_t *d)
{
    struct wv_writer w;
    put_head(&w, d, RIFT_RELAY_REFUSED_BYTES, RIFT_RELAY_REFUSED, m->reason, 0);
    wv_write_span(&w, m->transaction, sizeof m->transaction);
    wv_write_u64(&w, m->unix_s);
}

int rift_relay_read_ping(const uint8_t *d, size_t len, struct rift_relay_ping *ret)
{
    struct wv_reader r;
    struct rift_relay_ping m;
    if (len != RIFT_RELAY_PING_BYTES)
        return -EBADMSG;
    wv_reader_init(&r, d, len);
    m.kind = wv_read_u8(&r);
    take(&r, m.channel, sizeof m.channel);
    m.id = wv_read_u32(&r);
    m.flags = wv_read_u8(&r);
    uint8_t zero = wv_read_u8(&r);
    m.left_s = wv_read_u16(&r);
    bool ping = m.kind == RIFT_RELAY_PING;
    if ((!ping && m.kind != RIFT_RELAY_PONG) || zero || (ping && (m.flags || m.left_s)))
        return -EBADMSG;
    *ret = m;
    return 0;
}

void rift_relay_write_ping(const struct rift_relay_ping *m, uint8_t *d)
{
    struct wv_writer w;
    wv_writer_init(&w, d, RIFT_RELAY_PING_BYTES);
    wv_write_u8(&w, m->kind);
    wv_write_span(&w, m->channel, sizeof m->channel);
    wv_write_u32(&w, m->id);
    wv_write_u8(&w, m->flags);
    wv_write_u8(&w, 0);
    wv_write_u16(&w, m->left_s);
}

void rift_relay_write_header(uint32_t channel, uint32_t token, uint8_t ret[RIFT_RELAY_HEADER_BYTES])
{
    struct wv_writer w;
    wv_writer_init(&w, ret, RIFT_RELAY_HEADER_BYTES);
    wv_write_u32(&w, RIFT_RELAY_DATA | channel << 8);
    wv_write_u32(&w, token);
}
