/* libwavry-client: pictures, input and numbers of one connection; see wavry_client.h. How the session comes
 * and goes is connection.c's. */
#include "client/client_private.h"
#include "client/control.h"

#include "lib/base/util.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

/* A press that shows no effect within this time had none: what changes later was not caused by it. */
#define INPUT_EFFECT_NS WV_NS_PER_S

static const char *const stage_names[WV_CLIENT_N_STAGES] = {
    [WV_CLIENT_STAGE_NETWORK] = "network", [WV_CLIENT_STAGE_REASSEMBLE] = "reassemble",
    [WV_CLIENT_STAGE_DECODE] = "decode",   [WV_CLIENT_STAGE_PRESENT] = "present",
    [WV_CLIENT_STAGE_GLASS] = "glass",     [WV_CLIENT_STAGE_INPUT] = "input",
};

const char *wv_client_stage_name(enum wv_client_stage stage)
{
    return stage_names[stage];
}

static int copy_options(struct wv_client *c, const struct wv_client_options *o)
{
    if (!o->host || !o->host[0] || !o->identity || (!o->host_key && !o->pair) ||
        (o->pair && o->pair->secret_len > sizeof c->pair_secret))
        return -EINVAL;
    c->identity = *o->identity;
    rift_public_key_format(c->identity.public, c->own_key);
    if (o->host_key) {
        memcpy(c->host_key, o->host_key, sizeof c->host_key);
        c->have_host_key = true;
    }
    if (o->pair) {
        c->pairs = true;
        c->pair_token = o->pair->token;
        c->pair_secret_len = o->pair->secret_len;
        memcpy(c->pair_secret, o->pair->secret, o->pair->secret_len);
        wv_text_clean(o->pair->name, c->pair_name, sizeof c->pair_name);
    }
    c->view_only = o->view_only || c->pairs;
    c->no_decode = o->no_decode || c->pairs;
    c->width = o->width;
    c->height = o->height;
    c->software = strdup(o->software ? o->software : "wavry-client " WAVRY_VERSION);
    uint16_t port = o->port ? o->port : WV_CLIENT_DEFAULT_PORT;
    snprintf(c->where, sizeof c->where, strchr(o->host, ':') ? "[%s]:%u" : "%s:%u", o->host, port);
    int r = c->software ? wv_link_new(&c->link, o->host, port) : -ENOMEM;
    if (r == 0 && o->ways)
        r = wv_ways_new(&c->ways, c, o->ways);
    return r;
}

int wv_client_new(struct wv_client **ret_client, struct wv_loop *loop,
                  const struct wv_client_options *options, const struct wv_client_callbacks *callbacks,
                  void *userdata)
{
    struct wv_client *c = calloc(1, sizeof *c);
    if (!c)
        return -ENOMEM;
    c->loop = loop;
    c->call = *callbacks;
    c->userdata = userdata;
    c->state = WV_CLIENT_CONNECTING;
    int r = copy_options(c, options);
    if (r == 0)
        r = wv_frames_new(&c->frames);
    if (r == 0 && !c->no_decode)
        r = wv_decoder_gst_new(&c->decoder, options->decode_threads ? options->decode_threads : 1);
    if (r == 0)
        r = client_connection_start(c);
    if (r < 0) {
        wv_client_free(c);
        return r;
    }
    *ret_client = c;
    return 0;
}

struct wv_client *wv_client_free(struct wv_client *c)
{
    if (!c)
        return NULL;
    if (c->state != WV_CLIENT_CLOSED && c->state != WV_CLIENT_REFUSED && c->link)
        client_say_goodbye(c, wv_now_ns());
    client_connection_stop(c);
    wv_ways_free(c->ways);
    wv_link_free(c->link);
    wv_decoder_free(c->decoder);
    wv_frames_free(c->frames);
    client_wipe_secrets(c);
    free(c->cursor);
    free(c->software);
    rift_identity_wipe(&c->identity);
    free(c);
    return NULL;
}

void wv_client_close(struct wv_client *c)
{
    if (c->state == WV_CLIENT_CLOSED || c->state == WV_CLIENT_REFUSED)
        return;
    const struct rift_input_event release = {.kind = RIFT_INPUT_RELEASE_ALL};
    wv_client_send_input(c, &release, NULL);
    uint64_t now = wv_now_ns();
    client_pump(c, now);
    client_say_goodbye(c, now);
    if (c->connected_since)
        c->connected_ns += now - c->connected_since;
    c->connected_since = 0;
    /* The session stays in memory until wv_client_free(): we may be inside one of its events. */
    client_set_state(c, WV_CLIENT_CLOSED, WV_CLIENT_REASON_NONE, "");
}

/* ---- input ---- */

static void await_effect(struct wv_client *c, uint32_t seq, uint64_t now)
{
    if (c->n_pending == PENDING_INPUTS) {
        c->pending_first = (c->pending_first + 1) % PENDING_INPUTS;
        c->n_pending--;
    }
    c->pending[(c->pending_first + c->n_pending++) % PENDING_INPUTS] = (struct pending_input){seq, now};
}

int wv_client_send_input(struct wv_client *c, const struct rift_input_event *event, uint32_t *ret_seq)
{
    if (!c->session || c->view_only || c->state == WV_CLIENT_CLOSED || c->state == WV_CLIENT_REFUSED)
        return -ENOTCONN;
    uint64_t now = wv_now_ns();
    struct rift_input_event e = *event;
    if (e.time_us == 0)
        e.time_us = now / WV_NS_PER_US;
    uint32_t seq;
    int r = rift_session_send_input(c->session, &e, now, &seq);
    if (r != 0)
        return r < 0 ? r : 1;
    c->input_sent++;
    if ((e.kind == RIFT_INPUT_KEY || e.kind == RIFT_INPUT_BUTTON) && e.down)
        await_effect(c, seq, now);
    if (ret_seq)
        *ret_seq = seq;
    return 0;
}

void wv_client_flush(struct wv_client *c)
{
    client_pump(c, wv_now_ns());
}

/* ---- pictures ---- */

static void want_keyframe(struct wv_client *c, uint64_t now)
{
    if (c->keyframe_wanted)
        return; /* the session repeats the request by itself until a keyframe has come */
    c->keyframe_wanted = true;
    rift_session_request_keyframe(c->session, now);
}

/* Host time in microseconds, on our clock in nanoseconds. */
static uint64_t local_ns(const struct wv_client *c, uint64_t host_us, int64_t offset_ns)
{
    return (uint64_t)((int64_t)(host_us * WV_NS_PER_US) - offset_ns);
}

static void record_since(struct wv_client *c, enum wv_client_stage stage, uint64_t from_ns, uint64_t to_ns)
{
    /* The clock offset is an estimate: what seems to end before it began took about no time. */
    int64_t ns = (int64_t)(to_ns - from_ns);
    wv_timing_record(&c->timing[stage], ns > 0 ? (uint64_t)ns / WV_NS_PER_US : 0);
}

static void record_arrival(struct wv_client *c, const struct wv_frame *frame)
{
    struct rift_session_stats stats;
    rift_session_get_stats(c->session, &stats);
    record_since(c, WV_CLIENT_STAGE_REASSEMBLE, frame->first_packet_ns, frame->last_packet_ns);
    if (stats.rtt_ns)
        record_since(c, WV_CLIENT_STAGE_NETWORK, local_ns(c, frame->meta.encoded_us, stats.clock_offset_ns),
                     frame->last_packet_ns);
}

/* Returns whether the access unit could be decoded. */
static bool decode(struct wv_client *c, const struct wv_frame *frame)
{
    struct wv_decoded picture;
    uint64_t begin = wv_now_ns();
    int r = wv_decoder_decode(c->decoder, frame->data, frame->len, frame->meta.keyframe, &picture);
    uint64_t end = wv_now_ns();
    if (r != 0) {
        c->decode_errors++;
        return false;
    }
    record_since(c, WV_CLIENT_STAGE_DECODE, begin, end);
    c->frames_decoded++;
    if (c->picture_new)
        c->frames_skipped++;
    c->picture = (struct wv_client_picture){
        .plane = {picture.plane[0], picture.plane[1], picture.plane[2]},
        .stride = {picture.stride[0], picture.stride[1], picture.stride[2]},
        .width = picture.width,
        .height = picture.height,
        .full_range = picture.full_range,
        .bt709 = picture.bt709,
        .meta = frame->meta,
        .decoded_ns = end,
    };
    c->picture_new = true;
    return true;
}

/* A frame is missing: those that build on it would show rubbish. */
static void lose_frame(struct wv_client *c, uint64_t now)
{
    c->broken = true;
    want_keyframe(c, now);
}

static void on_opened(struct wv_client *c, const struct wv_frame *frame)
{
    if (c->broken && !frame->meta.keyframe)
        return;
    c->broken = false;
    c->media_bytes += frame->len;
    record_arrival(c, frame);
    bool decoded = !c->decoder || decode(c, frame);
    if (decoded)
        c->keyframe_wanted = false;
    if (c->call.access_unit)
        c->call.access_unit(c->userdata, &frame->meta, frame->data, frame->len);
    if (!decoded && c->state != WV_CLIENT_CLOSED)
        want_keyframe(c, wv_now_ns());
}

void client_take_frames(struct wv_client *c, uint64_t now)
{
    struct wv_frame frame;
    int r;
    while (!client_is_final(c) && (r = wv_frames_take(c->frames, now, &frame)) != WV_FRAMES_NONE) {
        if (r == 0) {
            on_opened(c, &frame);
            continue;
        }
        if (r == WV_FRAMES_LOST)
            c->frames_unkeyed++;
        else
            c->frames_forged++;
        lose_frame(c, now);
    }
}

void client_on_frame(struct wv_client *c, const struct rift_event *event)
{
    uint64_t now = wv_now_ns();
    const struct wv_frame frame = {.meta = event->frame.meta,
                                   .data = (uint8_t *)(uintptr_t)event->frame.data,
                                   .len = event->frame.len,
                                   .first_packet_ns = event->frame.first_packet_ns,
                                   .last_packet_ns = event->frame.last_packet_ns};
    c->frames_received++;
    /* The session asks no more. Should this one not open or not decode, it must be asked again. */
    if (frame.meta.keyframe)
        c->keyframe_wanted = false;
    if (wv_frames_put(c->frames, &frame, now) != 0) {
        c->frames_unkeyed++;
        lose_frame(c, now);
    }
    client_take_frames(c, now);
}

void client_show_newest(struct wv_client *c)
{
    if (!c->picture_new)
        return;
    c->picture_new = false;
    c->picture_unshown = true;
    if (c->call.picture)
        c->call.picture(c->userdata, &c->picture);
    wv_decoder_keep(c->decoder);
}

static void record_effects(struct wv_client *c, uint64_t now)
{
    while (c->n_pending) {
        const struct pending_input *p = &c->pending[c->pending_first];
        if ((int32_t)(p->seq - c->picture.meta.input_seq) > 0)
            return;
        if (now - p->sent_ns < INPUT_EFFECT_NS)
            record_since(c, WV_CLIENT_STAGE_INPUT, p->sent_ns, now);
        c->pending_first = (c->pending_first + 1) % PENDING_INPUTS;
        c->n_pending--;
    }
}

void wv_client_presented(struct wv_client *c, uint64_t now)
{
    if (!c->picture_unshown)
        return;
    c->picture_unshown = false;
    c->frames_shown++;
    record_since(c, WV_CLIENT_STAGE_PRESENT, c->picture.decoded_ns, now);
    struct rift_session_stats stats = {0};
    if (c->session)
        rift_session_get_stats(c->session, &stats);
    if (stats.rtt_ns)
        record_since(c, WV_CLIENT_STAGE_GLASS, local_ns(c, c->picture.meta.capture_us, stats.clock_offset_ns),
                     now);
    record_effects(c, now);
}

void wv_client_request_keyframe(struct wv_client *c)
{
    if (c->session)
        rift_session_request_keyframe(c->session, wv_now_ns());
}

/* ---- control ---- */

void client_tell_hello(struct wv_client *c)
{
    if (!c->has_hello || !c->call.host_hello)
        return;
    const struct wv_control *m = &c->hello;
    bool controls = c->has_standing ? c->standing.controls : m->hello.controls;
    const char *standing = c->has_standing ? c->standing.notice : "";
    char notice[sizeof m->hello.notice + sizeof c->standing.notice + 1];
    snprintf(notice, sizeof notice, "%s%s%s", m->hello.notice, m->hello.notice[0] && standing[0] ? " " : "",
             standing);
    c->call.host_hello(c->userdata, m->hello.name, m->hello.width, m->hello.height, controls,
                       m->hello.codec_known ? notice
                                            : "The host sends a video format that this client can't decode.");
}

void client_on_cursor_image(struct wv_client *c, const struct wv_control *m)
{
    if (c->call.cursor_image)
        c->call.cursor_image(c->userdata, m->cursor.shape_id, m->cursor.width, m->cursor.height,
                             m->cursor.hot_x, m->cursor.hot_y, m->cursor.bgra);
}

void client_on_control(struct wv_client *c, const uint8_t *data, size_t len)
{
    struct wv_control m;
    if (wv_control_parse(data, len, &m) < 0) {
        c->control_errors++;
        return;
    }
    if (m.kind == WV_CONTROL_HOST_HELLO) {
        c->hello = m;
        c->has_hello = true;
        client_tell_hello(c);
    } else if (m.kind == WV_CONTROL_SEALED_CURSOR) {
        client_on_sealed_cursor(c, &m);
    } else if (m.kind == WV_CONTROL_INNER) {
        client_on_inner(c, m.inner.data, m.inner.len, wv_now_ns());
    }
    wv_control_fini(&m);
}

static uint32_t clamp32(uint64_t v)
{
    return v > UINT32_MAX ? UINT32_MAX : (uint32_t)v;
}

static void send_report(struct wv_client *c, uint64_t frames_lost, uint64_t now)
{
    const struct wv_timing *t = c->timing;
#define HALF(stage) clamp32(wv_timing_since_roll(&t[stage], 0.5))
#define TAIL(stage) clamp32(wv_timing_since_roll(&t[stage], 0.99))
    struct wv_control_report report = {
        .frames = clamp32(c->frames_received - c->second_received),
        .lost_frames = clamp32(frames_lost - c->second_lost),
        .decode_p50_us = HALF(WV_CLIENT_STAGE_DECODE),
        .decode_p99_us = TAIL(WV_CLIENT_STAGE_DECODE),
        .reassemble_p50_us = HALF(WV_CLIENT_STAGE_REASSEMBLE),
        .reassemble_p99_us = TAIL(WV_CLIENT_STAGE_REASSEMBLE),
        .present_p50_us = HALF(WV_CLIENT_STAGE_PRESENT),
        .present_p99_us = TAIL(WV_CLIENT_STAGE_PRESENT),
        .glass_p50_us = HALF(WV_CLIENT_STAGE_GLASS),
        .glass_p99_us = TAIL(WV_CLIENT_STAGE_GLASS),
        .network_p50_us = HALF(WV_CLIENT_STAGE_NETWORK),
        .network_p99_us = TAIL(WV_CLIENT_STAGE_NETWORK),
    };
#undef HALF
#undef TAIL
    uint8_t buffer[256];
    int len = wv_control_pack_report(&report, buffer, sizeof buffer);
    if (len > 0)
        rift_session_send_control(c->session, buffer, (size_t)len, now); /* full: the next one says it */
}

/* What repairs brought in all sessions so far. Looked at once a second at least: what a session got after the
 * last look before its end is not in it. */
static struct client_repairs sum_repairs(struct wv_client *c)
{
    struct rift_session_stats v = {0};
    if (c->session)
        rift_session_get_stats(c->session, &v);
    if (!c->session || c->session_id != c->repairs_session) {
        c->repairs.received += c->repairs_seen.received;
        c->repairs.fragments += c->repairs_seen.fragments;
        c->repairs.frames += c->repairs_seen.frames;
        c->repairs_session = c->session ? c->session_id : 0;
    }
    c->repairs_seen = (struct client_repairs){v.repairs_received, v.fragments_recovered, v.frames_repaired};
    return (struct client_repairs){c->repairs.received + c->repairs_seen.received,
                                   c->repairs.fragments + c->repairs_seen.fragments,
                                   c->repairs.frames + c->repairs_seen.frames};
}

void client_second(struct wv_client *c, uint64_t now)
{
    struct rift_session_stats sum;
    client_sum_session(c, &sum);
    (void)sum_repairs(c);
    if (c->session && c->announced)
        send_report(c, sum.frames_lost, now);
    double seconds = (double)(now - c->second_started) / (double)WV_NS_PER_S;
    c->fps = (double)(c->frames_shown - c->second_shown) / seconds;
    c->bitrate_bps = (uint64_t)((double)(c->media_bytes - c->second_bytes) * 8 / seconds);
    c->second_bytes = c->media_bytes;
    c->second_shown = c->frames_shown;
    c->second_received = c->frames_received;
    c->second_lost = sum.frames_lost;
    c->second_started = now;
    c->second_at = now + WV_NS_PER_S;
    for (int i = 0; i < WV_CLIENT_N_STAGES; i++)
        wv_timing_roll(&c->timing[i]);
}

enum wv_client_state wv_client_get_state(const struct wv_client *c)
{
    return c->state;
}

const char *wv_client_address(const struct wv_client *c)
{
    return wv_link_text(c->link);
}

int wv_client_set_stun(struct wv_client *c, const uint8_t (*addresses)[RIFT_ADDRESS_BYTES], size_t n)
{
    return c->ways ? wv_ways_set_stun(c->ways, addresses, n, wv_now_ns()) : -EINVAL;
}

int wv_client_answer(struct wv_client *c, const struct rift_candidate *candidates, size_t n)
{
    return c->ways ? wv_ways_answer(c->ways, candidates, n, wv_now_ns()) : -EINVAL;
}

int wv_client_lease(struct wv_client *c, const uint8_t *lease, const uint8_t relay[RIFT_ADDRESS_BYTES])
{
    return c->ways ? wv_ways_lease(c->ways, lease, relay, wv_now_ns()) : -EINVAL;
}

static void tell_path(const struct wv_client *c, struct wv_client_stats *ret_stats)
{
    ret_stats->path = c->session ? "direct" : "";
    ret_stats->path_why = "";
    if (c->ways)
        wv_ways_tell(c->ways, ret_stats);
    else
        snprintf(ret_stats->path_address, sizeof ret_stats->path_address, "%.63s",
                 c->session ? wv_link_text(c->link) : "");
}

void wv_client_get_stats(struct wv_client *c, struct wv_client_stats *ret_stats)
{
    struct rift_session_stats sum;
    struct client_repairs repairs = sum_repairs(c);
    client_sum_session(c, &sum);
    *ret_stats = (struct wv_client_stats){
        .state = c->state,
        .connects = c->connects,
        .frames_received = c->frames_received,
        .frames_decoded = c->frames_decoded,
        .frames_shown = c->frames_shown,
        .frames_skipped = c->frames_skipped,
        .decode_errors = c->decode_errors,
        .control_errors = c->control_errors,
        .frames_forged = c->frames_forged,
        .frames_unkeyed = c->frames_unkeyed,
        .frames_lost = sum.frames_lost,
        .repairs_received = repairs.received,
        .fragments_repaired = repairs.fragments,
        .frames_repaired = repairs.frames,
        .connected_ns = c->connected_ns + (c->connected_since ? wv_now_ns() - c->connected_since : 0),
        .bytes_received = sum.bytes_received,
        .media_bytes = c->media_bytes,
        .bitrate_bps = c->bitrate_bps,
        .fps = c->fps,
        .packets_received = sum.packets_received,
        .packets_lost = sum.packets_lost,
        .packets_dropped = sum.dropped_auth + sum.dropped_malformed + sum.dropped_replay,
        .packets_sent = sum.packets_sent,
        .input_sent = c->input_sent,
        .rtt_us = sum.rtt_ns / WV_NS_PER_US,
        .clock_offset_us = sum.clock_offset_ns / (int64_t)WV_NS_PER_US,
        .keyframe_requests = sum.keyframe_requests,
        .width = (uint32_t)c->picture.width,
        .height = (uint32_t)c->picture.height,
    };
    tell_path(c, ret_stats);
    for (int i = 0; i < WV_CLIENT_N_STAGES; i++) {
        const struct wv_timing *t = &c->timing[i];
        ret_stats->stage[i].count = t->all.value;
        ret_stats->stage[i].p50_us = wv_timing_quantile(t, 0.5);
        ret_stats->stage[i].p99_us = wv_timing_quantile(t, 0.99);
        ret_stats->recent[i].count = wv_timing_recent_count(t);
        ret_stats->recent[i].p50_us = wv_timing_recent(t, 0.5);
        ret_stats->recent[i].p99_us = wv_timing_recent(t, 0.99);
    }
}
