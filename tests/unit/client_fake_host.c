#include "tests/unit/client_fake_host.h"

#include "lib/base/util.h"
#include "proto/rift.pb-c.h"
#include "rift/core/input.h"

#include <arpa/inet.h>
#include <errno.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#define FRAME_NS (16 * WV_NS_PER_MS)

#define require(condition)                                                                                   \
    do {                                                                                                     \
        if (!(condition)) {                                                                                  \
            fprintf(stderr, "%s:%d: not true: %s\n", __FILE__, __LINE__, #condition);                        \
            abort();                                                                                         \
        }                                                                                                    \
    } while (0)

static void pack_address(const struct sockaddr_in *a, uint8_t ret[RIFT_ADDRESS_BYTES])
{
    memset(ret, 0, RIFT_ADDRESS_BYTES);
    ret[10] = ret[11] = 0xff;
    memcpy(ret + 12, &a->sin_addr, 4);
    memcpy(ret + 16, &a->sin_port, 2);
}

static void send_to(struct fake_host *h, const uint8_t address[RIFT_ADDRESS_BYTES], const uint8_t *data,
                    size_t len)
{
    struct sockaddr_in a = {.sin_family = AF_INET};
    memcpy(&a.sin_addr, address + 12, 4);
    memcpy(&a.sin_port, address + 16, 2);
    if (!h->mute)
        (void)!sendto(h->fd, data, len, MSG_DONTWAIT, (struct sockaddr *)&a, sizeof a);
}

static void take_hello(struct fake_host *h)
{
    Wavry__Rift__ClientHello *m =
        wavry__rift__client_hello__unpack(NULL, h->handshake.payload_len, h->handshake.payload);
    require(m);
    snprintf(h->device, sizeof h->device, "%s", m->device);
    snprintf(h->software, sizeof h->software, "%s", m->software);
    h->view_only = m->view_only;
    wavry__rift__client_hello__free_unpacked(m, NULL);
}

static void pack_inner(struct fake_host *h, Wavry__Rift__InnerToClient *m)
{
    uint8_t buffer[1024];
    require(wavry__rift__inner_to_client__get_packed_size(m) <= sizeof buffer);
    fake_host_send_inner(h, buffer, wavry__rift__inner_to_client__pack(m, buffer));
}

void fake_host_send_inner(struct fake_host *h, const uint8_t *plain, size_t len)
{
    uint8_t sealed[4096], buffer[4200];
    size_t sealed_len;
    require(rift_inner_seal(&h->inner, plain, len, sealed, sizeof sealed, &sealed_len) == 0);
    Wavry__Rift__ControlMessage m = WAVRY__RIFT__CONTROL_MESSAGE__INIT;
    m.kind_case = WAVRY__RIFT__CONTROL_MESSAGE__KIND_INNER;
    m.inner = (ProtobufCBinaryData){.len = sealed_len, .data = sealed};
    fake_host_send_control(h, buffer, wavry__rift__control_message__pack(&m, buffer));
}

void fake_host_grant_key(struct fake_host *h, bool new_key)
{
    if (new_key) {
        randombytes_buf(h->media_key, sizeof h->media_key);
        rift_media_sealer_init(&h->sealer, ++h->kid, h->media_key);
    }
    Wavry__Rift__MediaKeyGrant grant = WAVRY__RIFT__MEDIA_KEY_GRANT__INIT;
    grant.kid = h->kid;
    grant.key = (ProtobufCBinaryData){.len = sizeof h->media_key, .data = h->media_key};
    Wavry__Rift__InnerToClient m = WAVRY__RIFT__INNER_TO_CLIENT__INIT;
    m.kind_case = WAVRY__RIFT__INNER_TO_CLIENT__KIND_MEDIA_KEY;
    m.media_key = &grant;
    pack_inner(h, &m);
}

void fake_host_send_standing(struct fake_host *h, const char *const *grants, size_t n_grants, bool controls,
                             const char *notice)
{
    Wavry__Rift__Standing standing = WAVRY__RIFT__STANDING__INIT;
    standing.grants = (char **)(uintptr_t)grants;
    standing.n_grants = n_grants;
    standing.controls = controls;
    standing.notice = (char *)(uintptr_t)notice;
    Wavry__Rift__InnerToClient m = WAVRY__RIFT__INNER_TO_CLIENT__INIT;
    m.kind_case = WAVRY__RIFT__INNER_TO_CLIENT__KIND_STANDING;
    m.standing = &standing;
    pack_inner(h, &m);
}

/* ---- pairing ---- */

static void on_pair_start(struct fake_host *h, const Wavry__Rift__PairStart *start)
{
    uint8_t channel[11 + 64], key[RIFT_CPACE_KEY_BYTES];
    h->pair_starts++;
    h->pair_token = start->token;
    snprintf(h->pair_name, sizeof h->pair_name, "%s", start->name);
    if (!h->code || h->stall == 1)
        return;
    memcpy(channel, "RIFT 1 pair", 11);
    memcpy(channel + 11, h->handshake.client_key, 32);
    memcpy(channel + 43, h->handshake.identity.public, 32);
    require(rift_cpace_begin(&h->cpace, (const uint8_t *)h->code, h->code_len, channel, sizeof channel,
                             h->handshake.hash, 64, NULL) == 0);
    Wavry__Rift__PairShare share = WAVRY__RIFT__PAIR_SHARE__INIT;
    uint8_t own[RIFT_CPACE_SHARE_BYTES];
    memcpy(own, h->cpace.share, sizeof own);
    share.share = (ProtobufCBinaryData){.len = sizeof own, .data = own};
    require(start->share.len == RIFT_CPACE_SHARE_BYTES);
    require(rift_cpace_finish(&h->cpace, false, NULL, 0, start->share.data, (const uint8_t *)start->name,
                              strlen(start->name), key, h->own_tag, h->peer_tag) == 0);
    Wavry__Rift__InnerToClient m = WAVRY__RIFT__INNER_TO_CLIENT__INIT;
    m.kind_case = WAVRY__RIFT__INNER_TO_CLIENT__KIND_PAIR_SHARE;
    m.pair_share = &share;
    pack_inner(h, &m);
}

static void on_pair_confirm(struct fake_host *h, const Wavry__Rift__PairConfirm *confirm)
{
    h->pair_confirms++;
    if (h->stall == 2)
        return;
    Wavry__Rift__PairResult result = WAVRY__RIFT__PAIR_RESULT__INIT;
    bool right = confirm->tag.len == sizeof h->peer_tag &&
                 sodium_memcmp(confirm->tag.data, h->peer_tag, sizeof h->peer_tag) == 0;
    h->paired += right;
    result.paired = right || h->lie;
    result.reason = (char *)(uintptr_t)(right ? ""
                                              : "wrong\x1b"
                                                "code");
    result.tries_left = right ? 0 : 2;
    if (result.paired)
        result.tag = (ProtobufCBinaryData){.len = sizeof h->own_tag, .data = h->own_tag};
    Wavry__Rift__InnerToClient m = WAVRY__RIFT__INNER_TO_CLIENT__INIT;
    m.kind_case = WAVRY__RIFT__INNER_TO_CLIENT__KIND_PAIR_RESULT;
    m.pair_result = &result;
    pack_inner(h, &m);
}

static void take_inner(struct fake_host *h, const ProtobufCBinaryData *sealed)
{
    uint8_t plain[1024];
    size_t len;
    if (rift_inner_open(&h->inner, sealed->data, sealed->len, plain, sizeof plain, &len) < 0) {
        h->bad_inner++;
        return;
    }
    Wavry__Rift__InnerToHost *m = wavry__rift__inner_to_host__unpack(NULL, len, plain);
    require(m);
    if (m->kind_case == WAVRY__RIFT__INNER_TO_HOST__KIND_PAIR_START)
        on_pair_start(h, m->pair_start);
    else if (m->kind_case == WAVRY__RIFT__INNER_TO_HOST__KIND_PAIR_CONFIRM)
        on_pair_confirm(h, m->pair_confirm);
    else if (m->kind_case == WAVRY__RIFT__INNER_TO_HOST__KIND_TAKE_CONTROL && m->take_control->release)
        h->releases++;
    else if (m->kind_case == WAVRY__RIFT__INNER_TO_HOST__KIND_TAKE_CONTROL)
        h->takes++;
    wavry__rift__inner_to_host__free_unpacked(m, NULL);
}

static void take_control(struct fake_host *h, const uint8_t *data, size_t len)
{
    Wavry__Rift__ControlMessage *m = wavry__rift__control_message__unpack(NULL, len, data);
    require(m);
    if (m->kind_case == WAVRY__RIFT__CONTROL_MESSAGE__KIND_INNER)
        take_inner(h, &m->inner);
    else
        h->n_reports++;
    wavry__rift__control_message__free_unpacked(m, NULL);
}

static void take_input(struct fake_host *h, const struct rift_event *e)
{
    uint8_t plain[RIFT_INPUT_PLAIN_BYTES];
    struct wv_reader reader;
    require(h->n_inputs < WV_ARRAY_SIZE(h->inputs));
    if (rift_input_open(h->input_key, e->input.seq, e->input.sealed, plain) < 0) {
        h->bad_inputs++;
        return;
    }
    wv_reader_init(&reader, plain, sizeof plain);
    h->inputs[h->n_inputs++] = rift_input_event_read(&reader);
    h->last_input_seq = e->input.seq;
}

static void open_session(struct fake_host *h, uint64_t now)
{
    static const char *const all[] = {"view", "input"};
    take_hello(h);
    if (h->session && h->replaces) {
        uint8_t buffer[RIFT_MTU_BYTES];
        size_t len;
        rift_session_close(h->session, RIFT_CLOSE_REPLACED, "", now);
        while (rift_session_send(h->session, buffer, sizeof buffer, now, &len) == 0)
            send_to(h, h->peer, buffer, len);
    }
    h->session_hangs = false;
    rift_inner_derive(h->handshake.inner_base, true, &h->inner, h->input_key);
    h->session = rift_session_free(h->session);
    h->handshake.config.pacing_bps = 100000000;
    h->handshake.config.pacing_burst_bytes = 200000;
    require(rift_session_new(&h->session, &h->handshake.config, now) == 0);
    memcpy(h->peer, h->handshake.address, sizeof h->peer);
    h->sessions++;
    if (h->refuse) {
        rift_session_close(h->session, h->refuse_reason, h->refuse_text, now);
        return;
    }
    if (h->code)
        return; /* a session that may only pair */
    fake_host_send_hello(h, "fake", "");
    if (!h->keep_key)
        fake_host_grant_key(h, true);
    if (!h->standing_follows)
        fake_host_send_standing(h, all, 2, true, "");
    if (h->frames)
        fake_host_send_picture(h, 60, 100, true);
}

static void take_events(struct fake_host *h)
{
    struct rift_event e;
    while (h->session && rift_session_next_event(h->session, &e) == 0) {
        switch (e.kind) {
        case RIFT_EVENT_INPUT:
            take_input(h, &e);
            break;
        case RIFT_EVENT_CONTROL:
            take_control(h, e.control.data, e.control.len);
            break;
        case RIFT_EVENT_KEYFRAME_REQUEST:
            h->keyframe_requests++;
            if (h->frames)
                fake_host_send_picture(h, 60, 100, true);
            break;
        case RIFT_EVENT_CLOSED:
            h->client_close = e.closed.reason;
            h->client_closed = true;
            h->client_must_have_left = false;
            h->session = rift_session_free(h->session);
            return;
        default:
            break;
        }
    }
    require(!h->client_must_have_left);
}

static void pump(struct fake_host *h, uint64_t now)
{
    uint8_t buffer[RIFT_MTU_BYTES], address[RIFT_ADDRESS_BYTES];
    size_t len;
    while (host_send(&h->handshake, buffer, now, address, &len) == 0)
        send_to(h, address, buffer, len);
    while (h->session && !h->session_hangs &&
           rift_session_send(h->session, buffer, sizeof buffer, now, &len) == 0)
        send_to(h, h->peer, buffer, len);
    take_events(h);
    uint64_t at = now + 20 * WV_NS_PER_MS;
    if (h->session)
        at = WV_MIN(at, rift_session_timeout(h->session));
    wv_loop_timer_at(h->timer, WV_MAX(at, now + 100000));
}

static int on_socket(void *userdata, uint32_t events, uint64_t now)
{
    struct fake_host *h = userdata;
    uint8_t data[2048], address[RIFT_ADDRESS_BYTES];
    struct sockaddr_in from;
    socklen_t from_len = sizeof from;
    ssize_t n;
    while ((n = recvfrom(h->fd, data, sizeof data, MSG_DONTWAIT, (struct sockaddr *)&from, &from_len)) > 0) {
        if (h->mute)
            continue;
        h->n_datagrams++;
        pack_address(&from, address);
        if (rift_datagram_kind(data, (size_t)n) == RIFT_DATAGRAM_DATA) {
            if (h->session && !h->session_hangs)
                rift_session_receive(h->session, data, (size_t)n, wv_now_ns());
            continue;
        }
        unsigned before = h->handshake.finished;
        host_receive(&h->handshake, address, data, (size_t)n, wv_now_ns());
        if (h->handshake.finished != before)
            open_session(h, wv_now_ns());
    }
    return 0;
}

static int on_timer(void *userdata, uint64_t now)
{
    return 0;
}

static bool on_prepare(void *userdata, uint64_t now)
{
    pump(userdata, wv_now_ns());
    return false;
}

/* PORT 0: one below those that the kernel gives to who asks for any, so that nobody gets it while a test has
 * the host away for a moment. */
static void bind_port(struct fake_host *h, uint16_t port)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int r = -1;
    for (int i = 0; r != 0 && i < (port ? 1 : 1000); i++) {
        h->port = port ? port : (uint16_t)(10000 + randombytes_uniform(20000));
        a.sin_port = htons(h->port);
        r = bind(h->fd, (struct sockaddr *)&a, sizeof a);
    }
    require(r == 0);
}

void fake_host_init(struct fake_host *h, struct wv_loop *loop, uint16_t port, int width, int height)
{
    *h = (struct fake_host){.loop = loop, .width = width, .height = height, .refuse_text = "", .epoch = 1};
    host_init(&h->handshake, 64, wv_now_ns());
    h->fd = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    require(h->fd >= 0);
    bind_port(h, port);
    require(wv_loop_add_fd(loop, h->fd, EPOLLIN, on_socket, h, &h->source) == 0);
    require(wv_loop_add_timer(loop, on_timer, h, &h->timer) == 0);
    require(wv_loop_add_prepare(loop, on_prepare, h, &h->prepare) == 0);
    h->maker = h264_maker_new(width, height, NULL);
}

void fake_host_fini(struct fake_host *h)
{
    h->source = wv_loop_remove(h->source);
    h->timer = wv_loop_remove(h->timer);
    h->prepare = wv_loop_remove(h->prepare);
    h->frames = wv_loop_remove(h->frames);
    h->session = rift_session_free(h->session);
    host_fini(&h->handshake);
    h->maker = h264_maker_free(h->maker);
    h->fd = wv_close(h->fd);
}

static void send_frame(struct fake_host *h, const uint8_t *data, size_t len, bool keyframe)
{
    uint64_t now = wv_now_ns();
    struct rift_frame_meta meta = {
        .frame_id = ++h->frame_id,
        .epoch = h->epoch,
        .keyframe = keyframe,
        .width = (uint16_t)h->width,
        .height = (uint16_t)h->height,
        .capture_us = now / WV_NS_PER_US - 2000,
        .encoded_us = now / WV_NS_PER_US,
        .input_seq = h->last_input_seq,
    };
    if (!h->session || h->code)
        return;
    if (!h->kid) { /* as an encoder that has got its key, and a client that has not */
        randombytes_buf(h->media_key, sizeof h->media_key);
        rift_media_sealer_init(&h->sealer, ++h->kid, h->media_key);
    }
    const struct rift_media_about about = {meta.epoch, keyframe, meta.width, meta.height};
    size_t sealed_len;
    uint8_t *sealed = malloc(len + RIFT_MEDIA_OVERHEAD_MAX);
    require(sealed && rift_media_seal(&h->sealer, &about, data, len, sealed, len + RIFT_MEDIA_OVERHEAD_MAX,
                                      &sealed_len) == 0);
    unsigned *forge = keyframe && h->forge_keyframes ? &h->forge_keyframes : &h->forge_frames;
    if (*forge) {
        sealed[sealed_len - 1] ^= 1;
        --*forge;
    }
    rift_session_send_frame(h->session, &meta, sealed, sealed_len, now);
    free(sealed);
}

void fake_host_send_cursor_image(struct fake_host *h, uint32_t shape_id, uint32_t size, bool damage)
{
    uint8_t pixels[32 * 32 * 4], plain[sizeof pixels + 64], sealed[sizeof plain + 16], key[32], nonce[24];
    uint8_t buffer[sizeof sealed + 64];
    unsigned long long sealed_len;
    memset(pixels, 0x7f, sizeof pixels);
    Wavry__Rift__CursorImage image = WAVRY__RIFT__CURSOR_IMAGE__INIT;
    image.shape_id = shape_id;
    image.width = image.height = size;
    image.argb = (ProtobufCBinaryData){.len = (size_t)size * size * 4, .data = pixels};
    size_t len = wavry__rift__cursor_image__pack(&image, plain);
    crypto_generichash(key, sizeof key, (const uint8_t *)"RIFT 1 cursor", 13, h->media_key,
                       sizeof h->media_key);
    randombytes_buf(nonce, sizeof nonce);
    crypto_aead_xchacha20poly1305_ietf_encrypt(sealed, &sealed_len, plain, len, NULL, 0, NULL, nonce, key);
    sealed[0] ^= damage;
    Wavry__Rift__SealedCursor cursor = WAVRY__RIFT__SEALED_CURSOR__INIT;
    cursor.kid = h->kid;
    cursor.nonce = (ProtobufCBinaryData){.len = sizeof nonce, .data = nonce};
    cursor.sealed = (ProtobufCBinaryData){.len = sealed_len, .data = sealed};
    Wavry__Rift__ControlMessage m = WAVRY__RIFT__CONTROL_MESSAGE__INIT;
    m.kind_case = WAVRY__RIFT__CONTROL_MESSAGE__KIND_SEALED_CURSOR;
    m.sealed_cursor = &cursor;
    fake_host_send_control(h, buffer, wavry__rift__control_message__pack(&m, buffer));
}

void fake_host_send_picture(struct fake_host *h, uint8_t left, uint8_t right, bool keyframe)
{
    const uint8_t *data;
    size_t len;
    bool key;
    h264_maker_encode(h->maker, left, right, 110, 150, keyframe, &data, &len, &key);
    send_frame(h, data, len, key);
}

void fake_host_send_garbage_frame(struct fake_host *h)
{
    uint8_t garbage[5000];
    memset(garbage, 0x5a, sizeof garbage);
    send_frame(h, garbage, sizeof garbage, false);
}

static int on_frame_time(void *userdata, uint64_t now)
{
    struct fake_host *h = userdata;
    uint16_t code = 0;
    for (unsigned i = 0; i < h->n_inputs; i++)
        if (h->inputs[i].kind == RIFT_INPUT_KEY && h->inputs[i].down)
            code = h->inputs[i].code;
    if (h->session && !h->refuse)
        fake_host_send_picture(h, (uint8_t)(40 + code * 4 % 160), (uint8_t)(100 + h->frame_id % 50), false);
    return 0;
}

void fake_host_stream(struct fake_host *h, bool on)
{
    if (on && !h->frames) {
        require(wv_loop_add_timer(h->loop, on_frame_time, h, &h->frames) == 0);
        wv_loop_timer_every(h->frames, FRAME_NS);
        if (h->session)
            fake_host_send_picture(h, 60, 100, true);
    } else if (!on) {
        h->frames = wv_loop_remove(h->frames);
    }
}

void fake_host_send_control(struct fake_host *h, const uint8_t *data, size_t len)
{
    int r = rift_session_send_control(h->session, data, len, wv_now_ns());
    /* A closed session takes nothing more: we refused it, or the client has just left, and then the session's
     * next events say so. */
    if (r == RIFT_SESSION_FULL && !h->refuse)
        h->client_must_have_left = true;
    else
        require(r == 0 || h->refuse);
}

void fake_host_send_hello(struct fake_host *h, const char *name, const char *notice)
{
    Wavry__Rift__HostHello hello = WAVRY__RIFT__HOST_HELLO__INIT;
    hello.software = "fake host";
    hello.name = (char *)(uintptr_t)name;
    hello.notice = (char *)(uintptr_t)notice;
    hello.codec = "h264";
    hello.width = (uint32_t)h->width;
    hello.height = (uint32_t)h->height;
    hello.controls = true;
    Wavry__Rift__ControlMessage m = WAVRY__RIFT__CONTROL_MESSAGE__INIT;
    m.kind_case = WAVRY__RIFT__CONTROL_MESSAGE__KIND_HOST_HELLO;
    m.host_hello = &hello;
    uint8_t buffer[1024];
    require(wavry__rift__control_message__get_packed_size(&m) <= sizeof buffer);
    fake_host_send_control(h, buffer, wavry__rift__control_message__pack(&m, buffer));
}

void fake_host_resize(struct fake_host *h, int width, int height)
{
    h->maker = h264_maker_free(h->maker);
    h->maker = h264_maker_new(width, height, NULL);
    h->width = width;
    h->height = height;
    h->epoch++;
    if (h->session)
        fake_host_send_picture(h, 60, 100, true);
}
