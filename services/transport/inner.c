/* Sealed messages between a client and the identity stage, carried unread: the media key, what the client may
 * do, pairing. Must never let one client's messages crowd out another's, nor change their order. */
#include "lib/base/log.h"
#include "lib/base/util.h"
#include "proto/bus_identity.pb-c.h"
#include "services/transport/internal.h"

#include <string.h>

/* A client's messages to identity: a few at once, then five a second. It has little to say. */
#define SPACING_NS     (200 * WV_NS_PER_MS)
#define BURST          12
#define WAITING_OF_ONE 4
#define RETRY_NS       (20 * WV_NS_PER_MS)

static bool is_within_rate(struct session *s, uint64_t now)
{
    uint64_t earliest = now - WV_MIN(now, BURST * SPACING_NS), from = WV_MAX(s->inner_ns, earliest);
    if (from + SPACING_NS > now)
        return false;
    s->inner_ns = from + SPACING_NS;
    return true;
}

static bool to_host(struct wv_transport *t, const struct inner_message *m, uint64_t now)
{
    Wavry__Bus__InnerMessage message = WAVRY__BUS__INNER_MESSAGE__INIT;
    message.session = m->session;
    message.sealed = (ProtobufCBinaryData){.len = m->len, .data = (uint8_t *)(uintptr_t)m->sealed};
    if (wv_bus_send(t->links.identity, &message.base) != WV_BUS_UNSENT)
        return true;
    identity_away(t, now);
    return false;
}

/* What can never be sent (too long, a session that is over) counts as sent. */
static bool to_client(struct wv_transport *t, const struct inner_message *m, uint64_t now)
{
    struct session *s = session_by_number(t, m->session);
    return !s || control_send_inner(t, s, m->sealed, m->len, now) != RIFT_SESSION_FULL;
}

/* So many wait of the same session in the same direction. */
static size_t count_waiting(const struct inner *in, uint32_t session, bool to_host_too, size_t n)
{
    size_t count = 0;
    for (size_t i = 0; i < n; i++)
        count += in->waiting[i].session == session && in->waiting[i].to_host == to_host_too;
    return count;
}

static void pass_on(struct wv_transport *t, struct inner_message *m, uint64_t now)
{
    struct inner *in = &t->inner;
    size_t before = count_waiting(in, m->session, m->to_host, in->count);
    if (before == 0 && (m->to_host ? to_host(t, m, now) : to_client(t, m, now)))
        return;
    if (in->count == INNER_WAITING || (m->to_host && before >= WAITING_OF_ONE)) {
        wv_metric_add(t->metrics, WV_T_INNER_DROPPED, 1);
        return;
    }
    in->waiting[in->count++] = *m;
    in->retry_at = now + RETRY_NS;
}

static void fill(struct inner_message *m, uint32_t session, bool to_host_too, const uint8_t *sealed,
                 size_t len)
{
    m->session = session;
    m->to_host = to_host_too;
    m->len = (uint16_t)len;
    memcpy(m->sealed, sealed, len);
}

void inner_take(struct wv_transport *t, struct session *s, const uint8_t *sealed, size_t len, uint64_t now)
{
    struct inner_message m;
    if (len > sizeof m.sealed || !is_within_rate(s, now)) {
        wv_metric_add(t->metrics, WV_T_INNER_DROPPED, 1);
        return;
    }
    fill(&m, s->number, true, sealed, len);
    pass_on(t, &m, now);
}

int on_inner_message(void *userdata, const ProtobufCMessage *base, uint64_t now)
{
    struct wv_transport *t = userdata;
    const Wavry__Bus__InnerMessage *b = (const Wavry__Bus__InnerMessage *)base;
    struct inner_message m;
    if (b->sealed.len == 0 || b->sealed.len > sizeof m.sealed) {
        wv_warning("identity sent a sealed message that can't be", "bytes=%zu", b->sealed.len);
        return 0;
    }
    fill(&m, b->session, false, b->sealed.data, b->sealed.len);
    pass_on(t, &m, now);
    transport_pump(t, now);
    return 0;
}

void inner_pump(struct wv_transport *t, uint64_t now)
{
    struct inner *in = &t->inner;
    size_t kept = 0;
    if (!in->count || now < in->retry_at)
        return;
    for (size_t i = 0; i < in->count; i++) {
        struct inner_message *m = &in->waiting[i];
        bool blocked = count_waiting(in, m->session, m->to_host, kept) > 0;
        if (!blocked && (m->to_host ? to_host(t, m, now) : to_client(t, m, now)))
            continue;
        if (kept != i)
            in->waiting[kept] = *m;
        kept++;
    }
    in->count = kept;
    in->retry_at = now + RETRY_NS;
}

void inner_forget(struct wv_transport *t, const struct session *s)
{
    struct inner *in = &t->inner;
    size_t kept = 0;
    for (size_t i = 0; i < in->count; i++)
        if (in->waiting[i].session != s->number) {
            if (kept != i)
                in->waiting[kept] = in->waiting[i];
            kept++;
        }
    in->count = kept;
}

uint64_t inner_timeout(const struct wv_transport *t)
{
    return t->inner.count ? t->inner.retry_at : NEVER;
}
