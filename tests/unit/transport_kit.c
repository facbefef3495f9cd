#include "tests/unit/transport_kit.h"

#include "lib/base/bytes.h"
#include "lib/base/util.h"
#include "lib/ipc/memfd.h"
#include "proto/bus_identity.pb-c.h"
#include "proto/bus_keys.pb-c.h"
#include "proto/bus_media.pb-c.h"
#include "services/identity/live_page.h"

#include <check.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

#define STEP_NS    (2 * WV_NS_PER_MS)
#define PATIENCE   (20 * WV_NS_PER_S)
#define TIME_LIMIT (15 * WV_NS_PER_S)

/* ---- the stand-ins ---- */

static int on_encoder_target(void *userdata, const ProtobufCMessage *base, uint64_t now)
{
    struct kit *k = userdata;
    const Wavry__Bus__EncoderTarget *m = (const Wavry__Bus__EncoderTarget *)base;
    k->encoder_targets++;
    k->encoder_viewers = m->viewers;
    k->encoder_bitrate = m->bitrate_bps;
    return 0;
}

static int on_keyframe_request(void *userdata, const ProtobufCMessage *base, uint64_t now)
{
    struct kit *k = userdata;
    k->keyframe_requests++;
    return 0;
}

static int on_capture_target(void *userdata, const ProtobufCMessage *base, uint64_t now)
{
    struct kit *k = userdata;
    k->capture_targets++;
    k->capture_viewers = ((const Wavry__Bus__CaptureTarget *)base)->viewers;
    return 0;
}

static int on_shape_request(void *userdata, const ProtobufCMessage *base, uint64_t now)
{
    struct kit *k = userdata;
    k->shape_requests++;
    return 0;
}

/* As the input stage: opens it under the key that identity gave for the session. */
static bool open_event(struct kit *k, uint32_t session, uint32_t seq, const uint8_t *sealed,
                       uint8_t ret_plain[RIFT_INPUT_PLAIN_BYTES])
{
    for (unsigned i = k->n_controllers; i-- > 0;)
        if (k->controllers[i].session == session)
            return rift_input_open(k->controllers[i].key, seq, sealed, ret_plain) == 0;
    return false;
}

static void note_event(struct kit *k, uint32_t session, uint32_t seq, const uint8_t *sealed)
{
    uint8_t plain[RIFT_INPUT_PLAIN_BYTES];
    struct wv_reader r;
    if (!open_event(k, session, seq, sealed, plain)) {
        k->n_unopened++;
        return;
    }
    if (k->n_events == KIT_EVENTS)
        return;
    wv_reader_init(&r, plain, sizeof plain);
    k->events[k->n_events].session = session;
    k->events[k->n_events].seq = seq;
    k->events[k->n_events].kind = wv_read_u8(&r);
    k->events[k->n_events].down = wv_read_u8(&r) != 0;
    k->events[k->n_events].code = wv_read_u16(&r);
    k->events[k->n_events].x = (int32_t)wv_read_u32(&r);
    k->events[k->n_events].y = (int32_t)wv_read_u32(&r);
    k->n_events++;
}

static int on_input_batch(void *userdata, const ProtobufCMessage *base, uint64_t now)
{
    struct kit *k = userdata;
    const Wavry__Bus__InputBatch *m = (const Wavry__Bus__InputBatch *)base;
    size_t n = m->events.len / RIFT_INPUT_SEALED_BYTES;
    ck_assert_uint_eq(m->n_came_us, n);
    for (size_t i = 0; i < n; i++)
        note_event(k, m->session, m->first_seq + (uint32_t)i, m->events.data + i * RIFT_INPUT_SEALED_BYTES);
    Wavry__Bus__InputDone done = WAVRY__BUS__INPUT_DONE__INIT;
    done.session = m->session;
    done.seq = m->first_seq + (uint32_t)n - 1;
    if (k->acknowledges)
        wv_bus_send(k->input.link, &done.base);
    return 0;
}

static int on_input_release(void *userdata, const ProtobufCMessage *base, uint64_t now)
{
    struct kit *k = userdata;
    k->n_releases++;
    k->released = ((const Wavry__Bus__InputRelease *)base)->session;
    return 0;
}

static const struct wv_bus_rule stand_in_rules[] = {
    {"transport", &wavry__bus__encoder_target__descriptor, WV_PHASE_ANY, 1000, 64, on_encoder_target},
    {"transport", &wavry__bus__keyframe_request__descriptor, WV_PHASE_ANY, 1000, 64, on_keyframe_request},
    {"transport", &wavry__bus__capture_target__descriptor, WV_PHASE_ANY, 1000, 64, on_capture_target},
    {"transport", &wavry__bus__cursor_shape_request__descriptor, WV_PHASE_ANY, 1000, 64, on_shape_request},
    {"transport", &wavry__bus__input_batch__descriptor, WV_PHASE_ANY, 4000, 8192, on_input_batch},
    {"transport", &wavry__bus__input_release__descriptor, WV_PHASE_ANY, 1000, 64, on_input_release},
};

static void link_path(const struct kit *k, const char *name, char *ret, size_t n)
{
    snprintf(ret, n, "%s/%s.sock", k->folder, name);
}

void kit_stage_connect(struct kit *k, struct kit_stage *stage, const char *name)
{
    char path[108];
    bool identity = stage == &k->identity_stage;
    link_path(k, name, path, sizeof path);
    const struct wv_bus_rule *rules = identity ? wv_identity_rules : stand_in_rules;
    size_t n = identity ? WV_IDENTITY_RULES : WV_ARRAY_SIZE(stand_in_rules);
    ck_assert_int_eq(wv_bus_new(&stage->bus, k->loop, rules, n, identity ? (void *)k->identity : (void *)k),
                     0);
    ck_assert_int_eq(wv_bus_add_link(stage->bus, "transport", path, false, &stage->link), 0);
    wv_bus_set_phase(stage->bus, WV_PHASE_RUN);
}

void kit_stage_disconnect(struct kit_stage *stage)
{
    stage->bus = wv_bus_free(stage->bus);
    stage->link = NULL;
}

/* ---- identity ---- */

static void note_controller(struct kit *k, const Wavry__Bus__Controller *m)
{
    ck_assert_uint_lt(k->n_controllers, KIT_KEYS);
    k->controllers[k->n_controllers].session = m->session;
    if (m->session) {
        ck_assert_uint_eq(m->key.len, 32);
        memcpy(k->controllers[k->n_controllers].key, m->key.data, 32);
    }
    k->n_controllers++;
}

static void note_media_key(struct kit *k, const Wavry__Bus__MediaKey *m)
{
    k->n_media_keys++;
    k->kid = m->kid;
    ck_assert_uint_eq(m->key.len, 32);
    memcpy(k->media_key, m->key.data, 32);
}

/* Its links to the other stages, of which only that to transport is one. */
static int identity_says(void *userdata, enum wv_identity_to to, const ProtobufCMessage *message)
{
    struct kit *k = userdata;
    if (to == WV_TO_TRANSPORT)
        return wv_bus_send(k->identity_stage.link, message);
    if (to == WV_TO_INPUT)
        note_controller(k, (const Wavry__Bus__Controller *)message);
    if (to == WV_TO_ENCODER)
        note_media_key(k, (const Wavry__Bus__MediaKey *)message);
    return 0;
}

void kit_request(struct kit *k, const char *verb, const char *text, char *reply, size_t capacity)
{
    char own[512];
    ck_assert_int_eq(wv_identity_request(k->identity, verb, text, wv_now_ns(), reply ? reply : own,
                                         reply ? capacity : sizeof own),
                     0);
}

void kit_identity_kill(struct kit *k)
{
    kit_stage_disconnect(&k->identity_stage);
    k->identity = wv_identity_free(k->identity);
}

void kit_identity_start(struct kit *k)
{
    const struct wv_identity_world world = {.send = identity_says, .userdata = k};
    char state[96], reason[WV_IDENTITY_REASON_BYTES], key[128];
    snprintf(state, sizeof state, "%s/identity", k->folder);
    ck_assert_int_eq(
        wv_identity_new(&k->identity, state, k->identity_page_fd, k->identity_metrics, wv_now_ns(), reason),
        0);
    kit_stage_connect(k, &k->identity_stage, "identity");
    ck_assert_int_eq(wv_identity_start(k->identity, k->loop, &world, wv_now_ns()), 0);
    kit_request(k, "key", "", key, sizeof key);
    ck_assert_int_eq(rift_public_key_parse(key, k->host_key), 0);
}

/* ---- clients ---- */

static void note_inner(struct kit_client *c, const uint8_t *sealed, size_t len)
{
    uint8_t plain[4096];
    size_t n;
    if (rift_inner_open(&c->inner, sealed, len, plain, sizeof plain, &n) < 0) {
        c->n_inner_bad++;
        return;
    }
    c->n_inner++;
    Wavry__Rift__InnerToClient *m = wavry__rift__inner_to_client__unpack(NULL, n, plain);
    ck_assert_ptr_nonnull(m);
    if (m->kind_case == WAVRY__RIFT__INNER_TO_CLIENT__KIND_MEDIA_KEY) {
        ck_assert_uint_eq(m->media_key->key.len, 32);
        c->granted_kid = m->media_key->kid;
        memcpy(c->granted_key, m->media_key->key.data, 32);
    } else if (m->kind_case == WAVRY__RIFT__INNER_TO_CLIENT__KIND_STANDING) {
        c->standing_controls = m->standing->controls;
    } else if (m->kind_case == WAVRY__RIFT__INNER_TO_CLIENT__KIND_PAIR_RESULT) {
        c->paired = m->pair_result->paired;
    }
    wavry__rift__inner_to_client__free_unpacked(m, NULL);
}

static void note_shape(struct kit_client *c, const Wavry__Rift__SealedCursor *m)
{
    c->n_images++;
    c->image_kid = m->kid;
    c->image_len = m->sealed.len;
    ck_assert_uint_eq(m->nonce.len, sizeof c->image_nonce);
    memcpy(c->image_nonce, m->nonce.data, sizeof c->image_nonce);
    memcpy(c->image_sealed, m->sealed.data, WV_MIN(m->sealed.len, sizeof c->image_sealed));
}

static void client_note(struct kit_client *c, const struct rift_event *e)
{
    switch (e->kind) {
    case RIFT_EVENT_FRAME:
        c->n_frames++;
        c->frame = e->frame.meta;
        c->frame_first_byte = e->frame.data[0];
        c->frame_len = e->frame.len;
        break;
    case RIFT_EVENT_CURSOR:
        c->n_cursors++;
        c->cursor = e->cursor;
        break;
    case RIFT_EVENT_CLOSED:
        c->closed = true;
        c->reason = e->closed.reason;
        break;
    case RIFT_EVENT_CONTROL: {
        Wavry__Rift__ControlMessage *m =
            wavry__rift__control_message__unpack(NULL, e->control.len, e->control.data);
        ck_assert_ptr_nonnull(m);
        if (m->kind_case == WAVRY__RIFT__CONTROL_MESSAGE__KIND_HOST_HELLO) {
            c->n_hellos++;
            c->controls = m->host_hello->controls;
            c->width = m->host_hello->width;
            c->height = m->host_hello->height;
            snprintf(c->notice, sizeof c->notice, "%s", m->host_hello->notice);
        } else if (m->kind_case == WAVRY__RIFT__CONTROL_MESSAGE__KIND_SEALED_CURSOR) {
            note_shape(c, m->sealed_cursor);
        } else if (m->kind_case == WAVRY__RIFT__CONTROL_MESSAGE__KIND_INNER) {
            note_inner(c, m->inner.data, m->inner.len);
        }
        wavry__rift__control_message__free_unpacked(m, NULL);
        break;
    }
    default:
        break;
    }
}

static void client_send(struct kit_client *c, const uint8_t *datagram, size_t len)
{
    memcpy(c->last_sent, datagram, len);
    c->last_sent_len = len;
    if (!c->mute)
        (void)!send(c->fd, datagram, len, 0);
}

/* A counter that is used twice with one key gives away both datagrams. */
static void note_counter(struct kit_client *c, const uint8_t *datagram, size_t len)
{
    if (rift_datagram_kind(datagram, len) != RIFT_DATAGRAM_DATA || c->n_counters == KIT_COUNTERS)
        return;
    struct wv_reader r;
    wv_reader_init(&r, datagram, len);
    wv_read_span(&r, 8);
    uint64_t counter = wv_read_u64(&r);
    ck_assert(!r.failed);
    for (size_t i = 0; i < c->n_counters; i++)
        ck_assert_uint_ne(c->counters[i], counter);
    c->counters[c->n_counters++] = counter;
}

static void client_begin(struct kit_client *c, uint64_t now)
{
    struct rift_session_config config = {0};
    uint8_t base[32], hash[64];
    if (rift_initiator_finish(c->initiator, &config, c->host_key) != 0)
        return;
    ck_assert_int_eq(rift_initiator_inner(c->initiator, base, hash), 0);
    rift_inner_derive(base, false, &c->inner, config.input_key);
    ck_assert_int_eq(rift_session_new(&c->session, &config, now), 0);
}

static void client_step(struct kit_client *c, uint64_t now)
{
    uint8_t datagram[2048];
    struct rift_event e;
    size_t len;
    ssize_t n;
    while ((n = recv(c->fd, datagram, sizeof datagram, MSG_DONTWAIT)) > 0) {
        note_counter(c, datagram, (size_t)n);
        if (c->session && rift_session_receive(c->session, datagram, (size_t)n, now) == 0)
            c->initiator = rift_initiator_free(c->initiator);
        else if (c->initiator)
            rift_initiator_receive(c->initiator, datagram, (size_t)n, now);
    }
    if (c->initiator && !c->session)
        client_begin(c, now);
    while (c->initiator && rift_initiator_send(c->initiator, datagram, sizeof datagram, now, &len) == 0)
        client_send(c, datagram, len);
    while (c->session && rift_session_send(c->session, datagram, sizeof datagram, now, &len) == 0)
        client_send(c, datagram, len);
    while (c->session && rift_session_next_event(c->session, &e) == 0)
        client_note(c, &e);
}

static int on_client_readable(void *userdata, uint32_t events, uint64_t now)
{
    client_step(userdata, now);
    return 0;
}

static void client_open(struct kit_client *c)
{
    bool v4 = c->kit->address.sin6_family == AF_INET;
    c->fd = socket(v4 ? AF_INET : AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    ck_assert_int_ge(c->fd, 0);
    socklen_t len = v4 ? sizeof(struct sockaddr_in) : sizeof(struct sockaddr_in6);
    ck_assert_int_eq(connect(c->fd, (struct sockaddr *)&c->kit->address, len), 0);
    ck_assert_int_eq(wv_loop_add_fd(c->kit->loop, c->fd, EPOLLIN, on_client_readable, c, &c->source), 0);
}

static void client_init(struct kit *k, struct kit_client *c, uint8_t seed, bool view_only,
                        const uint8_t *host_key)
{
    uint8_t bytes[RIFT_IDENTITY_SEED_BYTES], payload[128];
    char software[] = "kit 1", device[] = "a test";
    memset(c, 0, sizeof *c);
    memset(bytes, seed, sizeof bytes);
    rift_identity_from_seed(&c->identity, bytes);
    c->kit = k;
    client_open(c);
    Wavry__Rift__ClientHello hello = WAVRY__RIFT__CLIENT_HELLO__INIT;
    hello.software = software;
    hello.device = device;
    hello.view_only = view_only;
    size_t len = wavry__rift__client_hello__pack(&hello, payload);
    static uint32_t ids = 1000;
    ck_assert_int_eq(rift_initiator_new(&c->initiator, c->identity.secret, host_key, ++ids, payload, len,
                                        wv_now_ns(), TIME_LIMIT),
                     0);
    c->next = k->clients;
    k->clients = c;
}

void kit_client_init(struct kit *k, struct kit_client *c, uint8_t seed, bool view_only)
{
    client_init(k, c, seed, view_only, k->host_key);
}

void kit_stranger_init(struct kit *k, struct kit_client *c, uint8_t seed)
{
    client_init(k, c, seed, false, NULL);
}

void kit_client_fini(struct kit_client *c)
{
    struct kit_client **at = &c->kit->clients;
    while (*at && *at != c)
        at = &(*at)->next;
    if (*at)
        *at = c->next;
    wv_loop_remove(c->source);
    wv_close(c->fd);
    rift_initiator_free(c->initiator);
    if (c->session)
        rift_session_free(c->session);
    memset(c, 0, sizeof *c);
}

void kit_client_move(struct kit_client *c)
{
    /* The new one first, so that the port can't be the old one's. */
    int old = c->fd;
    wv_loop_remove(c->source);
    client_open(c);
    wv_close(old);
}

static bool has_hello(struct kit *k, void *argument)
{
    return ((struct kit_client *)argument)->n_hellos > 0;
}

void kit_client_connected(struct kit *k, struct kit_client *c)
{
    kit_until(k, has_hello, c);
}

void kit_client_key(struct kit_client *c, uint16_t code, bool down)
{
    uint64_t now = wv_now_ns();
    uint32_t seq;
    const struct rift_input_event e = {
        .kind = RIFT_INPUT_KEY, .code = code, .down = down, .time_us = now / WV_NS_PER_US};
    ck_assert_int_eq(rift_session_send_input(c->session, &e, now, &seq), 0);
    client_step(c, now);
}

void kit_client_inner(struct kit_client *c, const Wavry__Rift__InnerToHost *message)
{
    uint8_t plain[1024], sealed[1024 + RIFT_INNER_OVERHEAD], packed[sizeof sealed + 64];
    uint64_t now = wv_now_ns();
    size_t len = wavry__rift__inner_to_host__pack(message, plain), n;
    ck_assert_int_eq(rift_inner_seal(&c->inner, plain, len, sealed, sizeof sealed, &n), 0);
    Wavry__Rift__ControlMessage m = WAVRY__RIFT__CONTROL_MESSAGE__INIT;
    m.kind_case = WAVRY__RIFT__CONTROL_MESSAGE__KIND_INNER;
    m.inner = (ProtobufCBinaryData){.data = sealed, .len = n};
    len = wavry__rift__control_message__pack(&m, packed);
    ck_assert_int_eq(rift_session_send_control(c->session, packed, len, now), 0);
    client_step(c, now);
}

/* ---- the world ---- */

static int on_step(void *userdata, uint64_t now)
{
    struct kit *k = userdata;
    for (struct kit_client *c = k->clients; c; c = c->next)
        client_step(c, now);
    if (k->condition && k->condition(k, k->argument))
        wv_loop_quit(k->loop, 1);
    else if (now >= k->deadline)
        wv_loop_quit(k->loop, 2);
    return 0;
}

void kit_until(struct kit *k, bool (*condition)(struct kit *k, void *argument), void *argument)
{
    k->condition = condition;
    k->argument = argument;
    k->deadline = wv_now_ns() + PATIENCE;
    ck_assert_msg(wv_loop_run(k->loop) == 1, "what was waited for did not happen in time");
}

void kit_run(struct kit *k, unsigned ms)
{
    k->condition = NULL;
    k->deadline = wv_now_ns() + ms * WV_NS_PER_MS;
    ck_assert_int_eq(wv_loop_run(k->loop), 2);
}

uint64_t kit_metric(const struct kit *k, enum wv_transport_metric id)
{
    return wv_metric_value(k->metrics, id);
}

void kit_authorize(struct kit *k, uint8_t seed, const char *name)
{
    uint8_t bytes[RIFT_IDENTITY_SEED_BYTES];
    struct rift_identity id;
    char key[RIFT_PUBLIC_KEY_TEXT_BYTES], text[160];
    memset(bytes, seed, sizeof bytes);
    rift_identity_from_seed(&id, bytes);
    rift_public_key_format(id.public, key);
    snprintf(text, sizeof text, "%s %s", key, name);
    kit_request(k, "authorize", text, NULL, 0);
}

void kit_push(struct kit *k, bool keyframe, uint8_t first, size_t len, uint32_t input_seq)
{
    uint64_t now = wv_now_ns(), one = 1;
    uint8_t *data = malloc(len);
    ck_assert_ptr_nonnull(data);
    memset(data, 0x5a, len);
    data[0] = first;
    struct wv_au_header h = {.keyframe = keyframe,
                             .width = 1280,
                             .height = 720,
                             .input_seq = input_seq,
                             .capture_ns = now,
                             .damage_ns = now,
                             .raw_publish_ns = now,
                             .encode_start_ns = now,
                             .encode_end_ns = now};
    ck_assert_int_eq(wv_au_push(k->encoder_ring, &h, data, len, now), 0);
    free(data);
    ck_assert_int_eq(write(k->au_event, &one, sizeof one), sizeof one);
}

static void open_socket(struct kit *k, bool v4)
{
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct sockaddr_in6 in6 = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT};
    socklen_t len = sizeof k->address;
    k->udp = socket(v4 ? AF_INET : AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    ck_assert_int_ge(k->udp, 0);
    ck_assert_int_eq(
        bind(k->udp, v4 ? (struct sockaddr *)&in : (struct sockaddr *)&in6, v4 ? sizeof in : sizeof in6), 0);
    ck_assert_int_eq(getsockname(k->udp, (struct sockaddr *)&k->address, &len), 0);
}

static void on_drained(void *userdata)
{
    ((struct kit *)userdata)->drained = true;
}

void kit_transport_kill(struct kit *k)
{
    k->transport = wv_transport_free(k->transport);
    k->bus = wv_bus_free(k->bus);
}

void kit_transport_start(struct kit *k)
{
    const struct wv_transport_setup setup = {.loop = k->loop,
                                             .metrics = k->metrics,
                                             .udp_fd = k->udp,
                                             .au_entries_fd = k->au_entries,
                                             .au_reader_fd = k->au_reader,
                                             .au_event_fd = k->au_event,
                                             .session_page_fd = k->page_fd,
                                             .session_vault_fd = k->vault_fd,
                                             .host_name = "kit",
                                             .bitrate_bps = 8000000,
                                             .max_fps = 60,
                                             .max_sessions = k->max_sessions,
                                             .pacing_bps = 100000000,
                                             .burst_bytes = 65536,
                                             .drained = on_drained,
                                             .userdata = k};
    static const char *const names[] = {"encoder", "capture", "input", "identity"};
    struct wv_bus_link *links[4];
    const char *why;
    ck_assert_msg(wv_transport_new(&k->transport, &setup, &why) == 0, "%s", why);
    ck_assert_int_eq(wv_bus_new(&k->bus, k->loop, wv_transport_rules, WV_TRANSPORT_RULES, k->transport), 0);
    for (size_t i = 0; i < 4; i++) {
        char path[108];
        link_path(k, names[i], path, sizeof path);
        ck_assert_int_eq(wv_bus_add_link(k->bus, names[i], path, true, &links[i]), 0);
    }
    wv_bus_set_phase(k->bus, WV_PHASE_RUN);
    const struct wv_transport_links all = {
        .encoder = links[0], .capture = links[1], .input = links[2], .identity = links[3]};
    ck_assert_int_eq(wv_transport_start(k->transport, &all), 0);
}

static bool all_told(struct kit *k, void *argument)
{
    return k->encoder_targets && k->capture_targets;
}

void kit_init(struct kit *k, uint32_t max_sessions, bool v4)
{
    memset(k, 0, sizeof *k);
    k->acknowledges = true;
    strcpy(k->folder, "/tmp/wavry-test-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(k->folder));
    ck_assert_int_eq(wv_loop_new(&k->loop), 0);
    ck_assert_int_eq(wv_metrics_new(&k->metrics, -1, "transport", wv_transport_metrics, WV_T_METRICS), 0);
    ck_assert_int_eq(
        wv_metrics_new(&k->identity_metrics, -1, "identity", wv_identity_metrics, WV_IDENTITY_METRICS), 0);
    ck_assert_int_eq(wv_au_ring_create(&k->au_entries, &k->au_reader), 0);
    k->au_event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    ck_assert_int_eq(wv_session_page_create(&k->page_fd), 0);
    ck_assert_int_eq(wv_session_page_map(&k->page, k->page_fd, false), 0);
    ck_assert_int_eq(wv_memfd_create("vault", WV_SESSION_VAULT_BYTES, &k->vault_fd), 0);
    ck_assert_int_eq(wv_memfd_create("identity-page", WV_LIVE_PAGE_BYTES, &k->identity_page_fd), 0);
    open_socket(k, v4);
    k->max_sessions = max_sessions;
    kit_transport_start(k);
    ck_assert_int_eq(wv_au_producer_new(&k->encoder_ring, k->au_entries, k->au_reader), 0);
    kit_identity_start(k);
    kit_stage_connect(k, &k->encoder, "encoder");
    kit_stage_connect(k, &k->capture, "capture");
    kit_stage_connect(k, &k->input, "input");
    ck_assert_int_eq(wv_loop_add_timer(k->loop, on_step, k, &k->step), 0);
    wv_loop_timer_every(k->step, STEP_NS);
    kit_until(k, all_told, NULL); /* the links stand */
    ck_assert_uint_eq(k->encoder_viewers, 0);
}

void kit_fini(struct kit *k)
{
    while (k->clients)
        kit_client_fini(k->clients);
    wv_transport_free(k->transport);
    kit_stage_disconnect(&k->encoder);
    kit_stage_disconnect(&k->capture);
    kit_stage_disconnect(&k->input);
    kit_identity_kill(k);
    wv_bus_free(k->bus);
    wv_au_producer_free(k->encoder_ring);
    wv_session_page_unmap(k->page);
    wv_loop_free(k->loop);
    wv_metrics_free(k->metrics);
    wv_metrics_free(k->identity_metrics);
    int fds[] = {k->udp,     k->au_entries, k->au_reader,       k->au_event,
                 k->page_fd, k->vault_fd,   k->identity_page_fd};
    for (size_t i = 0; i < WV_ARRAY_SIZE(fds); i++)
        wv_close(fds[i]);
    char command[128];
    snprintf(command, sizeof command, "rm -rf '%s'", k->folder);
    ck_assert_int_eq(system(command), 0);
}
