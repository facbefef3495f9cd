/* Access units from the ring to the sessions, keyframes on request, and what the media stages are told. Must
 * never drop a frame that a later one needs without asking for a keyframe, and never wait for a client. */
#include "lib/base/log.h"
#include "lib/base/util.h"
#include "proto/bus_media.pb-c.h"
#include "services/transport/internal.h"

#include <errno.h>

/* The stages are told their targets once a second, and more often while no picture comes: a stage that was
 * restarted and doesn't know that anybody watches begins again within one PROBE. */
#define TARGETS_NS       WV_NS_PER_S
#define PROBE_NS         (50 * WV_NS_PER_MS)
#define PROBING_NS       (2 * WV_NS_PER_S) /* after the last picture, or after the stage went away */
#define AWAY_NS          (20 * WV_NS_PER_MS)
#define STIR_NS          (100 * WV_NS_PER_MS)
#define FAREWELLS        3
#define KEYFRAME_AGAIN   (250 * WV_NS_PER_MS)
#define KEYFRAME_UNSENT  (4 * WV_NS_PER_MS)
#define KEYFRAME_SETTLES (50 * WV_NS_PER_MS)
#define NOTICE_NS        WV_NS_PER_S
#define AU_BATCH         32

/* ---- targets ---- */

/* Keeps since when nobody is at the other end of a link. */
static void note_link(uint64_t *away_ns, int sent, uint64_t now)
{
    if (sent != WV_BUS_UNSENT)
        *away_ns = 0;
    else if (!*away_ns)
        *away_ns = now;
}

static bool is_probing(const struct media *m, uint64_t since, uint64_t now)
{
    return since && now - since < PROBING_NS;
}

static uint32_t viewers_now(const struct wv_transport *t)
{
    return t->draining ? 0 : (uint32_t)t->n_live;
}

void media_tell_encoder(struct wv_transport *t, uint64_t now)
{
    struct media_rate *r = &t->media.rate;
    struct wv_ladder_choice choice = rate_choice(t);
    Wavry__Bus__EncoderTarget target = WAVRY__BUS__ENCODER_TARGET__INIT;
    target.bitrate_bps = (uint32_t)WV_MIN(r->target_bps, (uint64_t)UINT32_MAX);
    target.max_fps = choice.max_fps;
    target.viewers = viewers_now(t);
    target.hold = r->hold;
    target.scale = choice.scale;
    note_link(&t->media.encoder_away_ns, wv_bus_send(t->links.encoder, &target.base), now);
    r->told_bps = r->target_bps;
    r->told_hold = r->hold;
    r->told_ns = now;
    r->news = false;
}

static void send_targets(struct wv_transport *t, uint64_t now)
{
    struct media *m = &t->media;
    uint32_t viewers = viewers_now(t);
    media_tell_encoder(t, now);
    Wavry__Bus__CaptureTarget capture = WAVRY__BUS__CAPTURE_TARGET__INIT;
    capture.max_fps = rate_choice(t).max_fps;
    capture.viewers = viewers;
    note_link(&m->capture_away_ns, wv_bus_send(t->links.capture, &capture.base), now);
    m->targets_sent_ns = now;

    bool away = m->encoder_away_ns || m->capture_away_ns;
    if (viewers == 0 && !away && m->farewells == 0)
        m->targets_at = NEVER;
    else if (is_probing(m, m->encoder_away_ns, now) || is_probing(m, m->capture_away_ns, now))
        m->targets_at = now + AWAY_NS;
    else if (viewers && is_probing(m, m->last_au_ns, now))
        m->targets_at = now + PROBE_NS;
    else
        m->targets_at = now + TARGETS_NS;
    if (viewers == 0 && !away && m->farewells)
        m->farewells--;
}

void media_viewers_changed(struct wv_transport *t, uint64_t now)
{
    t->media.farewells = FAREWELLS;
    t->media.targets_at = now;
    if (t->n_live > 0)
        return;
    t->media.keyframe_wanted_ns = 0;
    rate_init(t); /* what was learned was of another client's path */
}

void media_stir(struct wv_transport *t, uint64_t now)
{
    uint64_t at = WV_MAX(t->media.targets_sent_ns + STIR_NS, now);
    t->media.targets_at = WV_MIN(t->media.targets_at, at);
}

/* ---- keyframes ---- */

/* A client whose way is full could not take one yet. */
static bool anybody_needs_keyframe(const struct wv_transport *t, uint64_t now)
{
    for (size_t i = 0; i < t->top; i++)
        if (session_is_live(&t->slots[i]) && t->slots[i].needs_keyframe &&
            rate_wants_frame(&t->slots[i], now))
            return true;
    return false;
}

void media_keyframe(struct wv_transport *t, struct session *s, uint64_t now)
{
    /* One that is under way may simply not have arrived yet when its request left the client. */
    if (s->keyframe_sent_ns && now - s->keyframe_sent_ns < s->seen.rtt_ns + KEYFRAME_SETTLES)
        return;
    s->needs_keyframe = true;
}

static void ask_for_keyframe(struct wv_transport *t, uint64_t now)
{
    struct media *m = &t->media;
    if (!anybody_needs_keyframe(t, now)) {
        m->keyframe_wanted_ns = m->keyframe_asked_ns = 0;
        return;
    }
    if (!m->keyframe_wanted_ns)
        m->keyframe_wanted_ns = now;
    if (m->keyframe_asked_ns && now - m->keyframe_asked_ns < KEYFRAME_AGAIN)
        return;
    Wavry__Bus__KeyframeRequest request = WAVRY__BUS__KEYFRAME_REQUEST__INIT;
    m->keyframe_asked_ns = now;
    if (wv_bus_send(t->links.encoder, &request.base) != WV_BUS_UNSENT)
        wv_metric_add(t->metrics, WV_T_KEYFRAME_REQUESTS, 1);
    else if (is_probing(m, m->keyframe_wanted_ns, now)) /* the link comes up in a moment */
        m->keyframe_asked_ns = now - KEYFRAME_AGAIN + KEYFRAME_UNSENT;
}

void media_pump(struct wv_transport *t, uint64_t now)
{
    /* Targets first: an encoder that was restarted must know that somebody watches before it makes a
     * keyframe. */
    if (now >= t->media.targets_at)
        send_targets(t, now);
    ask_for_keyframe(t, now);
    rate_pump(t, now);
}

uint64_t media_timeout(const struct wv_transport *t)
{
    const struct media *m = &t->media;
    uint64_t keyframe = m->keyframe_asked_ns ? m->keyframe_asked_ns + KEYFRAME_AGAIN : NEVER;
    if (m->more)
        return 0;
    return WV_MIN(m->targets_at, keyframe);
}

/* ---- access units ---- */

static void send_to(struct wv_transport *t, struct session *s, const struct wv_au_header *h,
                    struct rift_frame_meta *meta, const uint8_t *data, uint64_t now)
{
    /* Its way is full and others take this one: it goes on with a keyframe later. When nobody takes it, it
     * was on its way before the encoder knew, and is kept. */
    if (!t->media.rate.hold && !h->keyframe && !rate_wants_frame(s, now))
        s->needs_keyframe = true;
    if (s->needs_keyframe && !h->keyframe) {
        wv_metric_add(t->metrics, WV_T_FRAMES_SKIPPED, 1);
        return;
    }
    /* The number counts the controller's events; to anybody else it would mean nothing or something wrong. */
    meta->input_seq = s == t->controller ? wv_relay_shown(t->relay, h->input_seq) : 0;
    int r = rift_session_send_frame(s->rift, meta, data, h->size, now);
    if (r != 0) {
        /* Too much unsent, no memory, or too large a frame: what follows would refer to what is missing. */
        wv_metric_add(t->metrics, WV_T_FRAMES_SKIPPED, 1);
        s->needs_keyframe = true;
        return;
    }
    wv_metric_add(t->metrics, WV_T_FRAMES_SENT, 1);
    if (h->keyframe) {
        s->needs_keyframe = false;
        s->keyframe_sent_ns = now;
    }
    s->frame_popped_ns = now;
    s->frame_first_ns = 0;
}

static void send_au(struct wv_transport *t, const struct wv_au_header *h, const uint8_t *data, uint64_t now)
{
    struct media *m = &t->media;
    struct rift_frame_meta meta = {.frame_id = h->frame_id,
                                   .epoch = h->epoch,
                                   .keyframe = h->keyframe,
                                   .width = h->width,
                                   .height = h->height,
                                   .capture_us = h->capture_ns / WV_NS_PER_US,
                                   .encoded_us = h->encode_end_ns / WV_NS_PER_US};
    m->last_au_ns = now;
    /* Pictures come: no need to look for stages that don't know that anybody watches. */
    uint64_t regular = WV_MAX(m->targets_sent_ns + TARGETS_NS, now);
    if (t->n_live && !m->encoder_away_ns && !m->capture_away_ns)
        m->targets_at = WV_MIN(now + PROBE_NS, regular);
    uint16_t source_width = h->source_width ? h->source_width : h->width;
    uint16_t source_height = h->source_height ? h->source_height : h->height;
    if (h->width != m->width || h->height != m->height || source_width != m->source_width ||
        source_height != m->source_height) {
        m->width = h->width;
        m->height = h->height;
        m->source_width = source_width;
        m->source_height = source_height;
        control_tell_all(t);
        control_cursor_all(t, now);
    }
    if (now > h->publish_ns)
        wv_metric_record(t->metrics, WV_T_AU_WAIT_US, (now - h->publish_ns) / WV_NS_PER_US);
    rate_before_frame(t, now);
    for (size_t i = 0; i < t->top; i++)
        if (session_is_live(&t->slots[i]))
            send_to(t, &t->slots[i], h, &meta, data, now);
    rate_after_frame(t, now);
}

static void ring_went_bad(struct wv_transport *t)
{
    wv_metric_add(t->metrics, WV_T_AU_BAD, 1);
    wv_warning("the access-unit ring does not check out", "then=\"went on at its end with a new keyframe\"");
    for (size_t i = 0; i < t->top; i++)
        if (session_is_live(&t->slots[i]))
            t->slots[i].needs_keyframe = true;
}

/* Returns whether there may be more. */
static bool pop_one(struct wv_transport *t, uint64_t now)
{
    struct wv_au_header header;
    const uint8_t *data;
    int r = wv_au_pop(t->media.ring, &header, &data);
    if (r == WV_AU_EMPTY)
        return false;
    if (r == WV_AU_BAD) {
        ring_went_bad(t);
        return true;
    }
    send_au(t, &header, data, now);
    wv_au_pop_done(t->media.ring);
    return true;
}

int media_on_au(void *userdata, uint64_t now)
{
    struct wv_transport *t = userdata;
    /* Bounded: an encoder gone wild must not keep the loop from everything else. The timer comes for the
     * rest. */
    int n = 0;
    while (n < AU_BATCH && pop_one(t, now))
        n++;
    t->media.more = n == AU_BATCH;
    transport_pump(t, now);
    return 0;
}

/* BEFORE and AFTER a flush of the socket. */
void media_time_frames(struct wv_transport *t, uint64_t before, uint64_t after)
{
    for (size_t i = 0; i < t->top; i++) {
        struct session *s = &t->slots[i];
        if (!s->rift || !s->frame_popped_ns)
            continue;
        struct rift_session_stats stats;
        rift_session_get_stats(s->rift, &stats);
        if (!s->frame_first_ns) {
            s->frame_first_ns = before;
            wv_metric_record(t->metrics, WV_T_PACKETISE_US, (before - s->frame_popped_ns) / WV_NS_PER_US);
        }
        if (stats.frames_sent == s->frames_done)
            continue;
        s->frames_done = stats.frames_sent;
        wv_metric_record(t->metrics, WV_T_PACE_US, (after - s->frame_first_ns) / WV_NS_PER_US);
        s->frame_popped_ns = 0;
    }
}

/* ---- notices ---- */

static bool is_past(uint64_t since, uint64_t now)
{
    return since && now - since > NOTICE_NS;
}

void media_judge(struct wv_transport *t, uint64_t now)
{
    const struct media *m = &t->media;
    const char *notice = "";
    if (is_past(m->encoder_away_ns, now))
        notice = "The host's encoder is being restarted.";
    else if (is_past(m->capture_away_ns, now))
        notice = "The host's screen capture is being restarted.";
    else if (is_past(m->keyframe_wanted_ns, now))
        notice = "The host has no picture of its screen.";
    if (notice == m->notice)
        return;
    t->media.notice = notice;
    if (*notice && t->n_live)
        wv_warning("clients get no picture", "told=\"%s\"", notice);
    control_tell_all(t);
}
