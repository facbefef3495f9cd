/* See session_keep.h. */
#include "services/transport/session_keep.h"

#include "lib/base/util.h"

#include <errno.h>
#include <string.h>

/* Bits of the byte before what not every session has. */
#define CONTROLS 1
#define HAS_WAY  2

static void write_text(struct wv_writer *w, const char text[WV_PEER_TEXT_BYTES])
{
    uint8_t len = (uint8_t)strnlen(text, WV_PEER_TEXT_BYTES - 1);
    wv_write_u8(w, len);
    wv_write_span(w, text, len);
}

/* UTF-8 as it came, but nothing that could steer a terminal or end early. */
static bool read_text(struct wv_reader *r, char ret_text[WV_PEER_TEXT_BYTES])
{
    uint8_t len = wv_read_u8(r);
    const uint8_t *text = wv_read_span(r, len);
    if (!text || len >= WV_PEER_TEXT_BYTES)
        return false;
    for (size_t i = 0; i < len; i++)
        if (text[i] < 0x20 || text[i] == 0x7f)
            return false;
    memset(ret_text, 0, WV_PEER_TEXT_BYTES);
    memcpy(ret_text, text, len);
    return true;
}

void wv_session_keep_write(struct wv_writer *w, const struct wv_session_keep *keep,
                           const struct wv_relay *relay)
{
    wv_write_u32(w, keep->id);
    wv_write_u32(w, keep->number);
    wv_write_span(w, keep->peer_key, WV_KEEP_KEY_BYTES);
    write_text(w, keep->name);
    write_text(w, keep->hello.software);
    write_text(w, keep->hello.device);
    wv_write_u8(w, keep->hello.view_only);
    wv_write_u64(w, keep->since_ns);
    wv_write_u64(w, keep->input_events);
    wv_write_u64(w, keep->frames_lost);
    wv_write_u8(w, (uint8_t)((keep->controls ? CONTROLS : 0) | (keep->way ? HAS_WAY : 0)));
    if (keep->way)
        way_write(keep->way, w);
    if (keep->controls)
        wv_relay_write(relay, w);
}

/* What not every session has. */
static int read_rest(struct wv_reader *r, struct wv_session_keep *k, struct wv_relay *relay,
                     struct way *ret_way, uint64_t now)
{
    uint8_t flags = wv_read_u8(r);
    if (r->failed || flags & ~(CONTROLS | HAS_WAY) || (flags & HAS_WAY && way_read(ret_way, r, now) < 0))
        return -EBADMSG;
    k->controls = flags & CONTROLS;
    if (!k->controls || wv_relay_read(relay, r, now) == 0)
        return 0;
    way_free(ret_way);
    return -EBADMSG;
}

int wv_session_keep_read(struct wv_reader *r, struct wv_session_keep *ret_keep, struct wv_relay *relay,
                         struct way *ret_way, uint64_t now)
{
    memset(ret_way, 0, sizeof *ret_way);
    struct wv_session_keep k = {.id = wv_read_u32(r), .number = wv_read_u32(r)};
    const uint8_t *key = wv_read_span(r, WV_KEEP_KEY_BYTES);
    if (!key || k.id == 0 || k.number == 0 || !read_text(r, k.name) || !read_text(r, k.hello.software) ||
        !read_text(r, k.hello.device))
        return -EBADMSG;
    memcpy(k.peer_key, key, WV_KEEP_KEY_BYTES);
    uint8_t view_only = wv_read_u8(r);
    k.since_ns = wv_read_u64(r);
    k.input_events = wv_read_u64(r);
    k.frames_lost = wv_read_u64(r);
    if (r->failed || view_only > 1)
        return -EBADMSG;
    k.hello.view_only = view_only;
    k.since_ns = WV_MIN(k.since_ns, now);
    if (read_rest(r, &k, relay, ret_way, now) < 0)
        return -EBADMSG;
    *ret_keep = k;
    return 0;
}
