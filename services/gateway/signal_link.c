/* WebSockets of machines, on libwebsockets: joins fragments, with a bound; sends one message at a time; asks
 * who was silent. See live.h. */
#include "services/gateway/live.h"

#include "lib/base/util.h"

#include <sodium.h>
#include <string.h>

#define SLOT_NS (100 * WV_NS_PER_MS)

/* Beside each WebSocket. */
struct wv_link {
    struct lws *wsi;
    struct wv_live *live;
    struct wv_signal_connection *connection;
    struct wv_link *next, **at;
    char *in;
    size_t in_len;
    bool in_bad, pinged, ping_due;
    bool writing; /* the library still holds a part of what was written */
    uint64_t heard, ping_ns;
};

_Static_assert(WV_SIGNAL_HEADROOM >= LWS_PRE, "room for the library's header");

size_t wv_link_session_bytes(void)
{
    return sizeof(struct wv_link);
}

void wv_link_writable(void *link)
{
    struct wv_link *l = link;
    lws_callback_on_writable(l->wsi);
}

void wv_link_cut(void *link)
{
    struct wv_link *l = link;
    lws_set_timeout(l->wsi, PENDING_TIMEOUT_CLOSE_SEND, LWS_TO_KILL_ASYNC);
}

/* ---- when to look at whom ----
 * A wheel of slots: of ten thousand links, those that are due are touched and no others; with a setting of
 * more than a round (51 s), each once a round besides, too early. */

static void enter(struct wv_link *l, uint64_t due)
{
    struct wv_link **slot = &l->live->links[(due / SLOT_NS + 1) % WV_LINK_SLOTS];
    l->next = *slot;
    l->at = slot;
    if (l->next)
        l->next->at = &l->next;
    *slot = l;
}

static void leave(struct wv_link *l)
{
    *l->at = l->next;
    if (l->next)
        l->next->at = l->at;
}

static void look_after(struct wv_link *l, uint64_t now)
{
    uint64_t silent_ns = l->live->silent_ns;
    leave(l);
    if (now - l->heard >= silent_ns) {
        wv_link_cut(l);
        return enter(l, now + silent_ns);
    }
    if (now - l->heard >= l->ping_ns && !l->pinged) {
        l->pinged = l->ping_due = true;
        lws_callback_on_writable(l->wsi);
    }
    enter(l, l->pinged ? WV_MIN(now + l->ping_ns, l->heard + silent_ns) : l->heard + l->ping_ns);
}

void wv_link_tick(struct wv_live *live, uint64_t now)
{
    uint64_t slot = now / SLOT_NS;
    if (slot - live->looked_slot > WV_LINK_SLOTS) /* it begins, or was stopped for long: one round is all */
        live->looked_slot = slot - WV_LINK_SLOTS;
    while (live->looked_slot < slot) {
        live->looked_slot++;
        for (struct wv_link *l = live->links[live->looked_slot % WV_LINK_SLOTS], *next; l; l = next) {
            next = l->next;
            look_after(l, now);
        }
    }
}

static int on_open(struct wv_gateway *g, struct lws *wsi, struct wv_link *l)
{
    uint64_t now = wv_now_ns();
    memset(l, 0, sizeof *l);
    l->wsi = wsi;
    l->live = g->alive;
    l->heard = now;
    uint64_t spread_ms =
        l->live->ping_ns / WV_NS_PER_MS * 2 / 5; /* each its own, so that many don't come at once */
    l->ping_ns = l->live->ping_ns - randombytes_uniform((uint32_t)spread_ms) * WV_NS_PER_MS;
    l->connection = wv_signal_open(g->alive->signal, l, now);
    if (!l->connection)
        return -1;
    enter(l, now + l->ping_ns);
    return 0;
}

static void on_closed(struct wv_link *l)
{
    if (!l->connection)
        return;
    wv_signal_closed(l->connection);
    l->connection = NULL;
    leave(l);
    free(l->in);
    l->in = NULL;
}

static void forget_in(struct wv_link *l)
{
    free(l->in);
    l->in = NULL;
    l->in_len = 0;
    l->in_bad = false;
}

static int on_receive(struct wv_link *l, const void *data, size_t len)
{
    uint64_t now = wv_now_ns();
    bool first = lws_is_first_fragment(l->wsi);
    bool last = lws_is_final_fragment(l->wsi) && !lws_remaining_packet_payload(l->wsi);
    l->heard = now;
    l->pinged = false;
    if (first && last && !lws_frame_is_binary(l->wsi) && len <= WV_SIGNAL_TEXT_MAX) {
        wv_signal_receive(l->connection, data, len, now);
        return 0;
    }
    if (lws_frame_is_binary(l->wsi) || l->in_len + len > WV_SIGNAL_TEXT_MAX)
        l->in_bad = true;
    char *more = l->in_bad ? NULL : realloc(l->in, l->in_len + len + 1);
    if (more) {
        l->in = more;
        memcpy(l->in + l->in_len, data, len);
        l->in_len += len;
    } else {
        l->in_bad = true;
    }
    if (!last)
        return 0;
    if (l->in_bad)
        wv_signal_receive_bad(l->connection,
                              lws_frame_is_binary(l->wsi) ? WV_SIGNAL_BAD_MESSAGE : WV_SIGNAL_TOO_LARGE, now);
    else
        wv_signal_receive(l->connection, l->in, l->in_len, now);
    forget_in(l);
    return 0;
}

static int ping(struct wv_link *l)
{
    unsigned char word[LWS_PRE + 1] = {[LWS_PRE] = '?'}; /* an empty one's answer would go unnoticed */
    l->ping_due = false;
    return lws_write(l->wsi, word + LWS_PRE, 1, LWS_WRITE_PING) < 0 ? -1 : 0;
}

static int on_writable(struct wv_link *l)
{
    const char *why;
    char *text;
    size_t len;
    unsigned close;
    if (l->writing && lws_partial_buffered(l->wsi)) {
        lws_callback_on_writable(l->wsi);
        return 0;
    }
    if (l->writing)
        wv_signal_written(l->connection, wv_now_ns());
    l->writing = false;
    if (l->ping_due) {
        if (ping(l) < 0)
            return -1;
        lws_callback_on_writable(l->wsi);
        return 0;
    }
    if (wv_signal_next(l->connection, &text, &len, &close, &why)) {
        if (lws_write(l->wsi, (unsigned char *)text, len, LWS_WRITE_TEXT) < (int)len)
            return -1;
        l->writing = lws_partial_buffered(l->wsi);
        if (!l->writing)
            wv_signal_written(l->connection, wv_now_ns());
        lws_callback_on_writable(l->wsi);
        return 0;
    }
    if (!close)
        return 0;
    lws_close_reason(l->wsi, (enum lws_close_status)close, (unsigned char *)why, strlen(why));
    return -1;
}

/* 0: it may become a WebSocket. */
static int is_welcome(struct wv_gateway *g, struct lws *wsi)
{
    uint8_t address[16], key[WV_LIMIT_KEY_BYTES];
    char path[32];
    if (!g->alive || g->draining ||
        lws_hdr_copy(wsi, path, sizeof path, WSI_TOKEN_GET_URI) != (int)strlen("/v1/signal") ||
        strcmp(path, "/v1/signal") != 0)
        return 1;
    wv_http_address(g, wsi, address);
    wv_limit_key(address, NULL, key);
    return wv_limits_take(g->requests, key, 1, wv_now_ns()) != 0;
}

int wv_link_callback(struct lws *wsi, enum lws_callback_reasons reason, void *user, void *in, size_t len)
{
    struct wv_gateway *g = lws_context_user(lws_get_context(wsi));
    struct wv_link *l = user;
    switch (reason) {
    case LWS_CALLBACK_FILTER_PROTOCOL_CONNECTION:
        return is_welcome(g, wsi);
    case LWS_CALLBACK_ESTABLISHED:
        return on_open(g, wsi, l);
    case LWS_CALLBACK_CLOSED:
        on_closed(l);
        return 0;
    case LWS_CALLBACK_RECEIVE:
        return l->connection ? on_receive(l, in, len) : -1;
    case LWS_CALLBACK_RECEIVE_PONG:
        l->heard = wv_now_ns();
        l->pinged = false;
        return 0;
    case LWS_CALLBACK_SERVER_WRITEABLE:
        return l->connection ? on_writable(l) : -1;
    case LWS_CALLBACK_EVENT_WAIT_CANCELLED:
        if (g->alive && g->alive->bus)
            wv_bus_dispatch(g->alive->bus);
        return 0;
    default:
        return 0;
    }
}
