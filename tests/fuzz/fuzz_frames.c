/* Authentic payloads of a hostile peer. Input: a byte whose lowest bit picks the role, then steps of
 * (milliseconds to pass, length as u16, payload). After each step the session must be idle until a moment in
 * the future, hold bounded memory, and hand out only well-formed events. */
#include "lib/base/bytes.h"
#include "lib/base/util.h"
#include "rift/core/delta.h"
#include "rift/core/session_internal.h"

#include <string.h>

#define START      (1000 * WV_NS_PER_MS)
#define MEMORY_MAX (14u << 20)
#define STEPS_MAX  64

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static void send_all(struct rift_session *s, uint64_t now)
{
    uint8_t out[RIFT_MTU_BYTES];
    size_t len;
    for (unsigned n = 0; rift_session_send(s, out, sizeof out, now, &len) == 0; n++)
        if (n > 100000 || len > RIFT_MTU_BYTES)
            abort();
    if (rift_session_timeout(s) <= now)
        abort();
    struct rift_session_stats stats;
    rift_session_get_stats(s, &stats);
    if (stats.memory_bytes > MEMORY_MAX)
        abort();
}

static void take_all(struct rift_session *s)
{
    struct rift_event e;
    uint8_t sum = 0;
    while (rift_session_next_event(s, &e) == 0) {
        if (e.kind == RIFT_EVENT_INPUT)
            for (size_t i = 0; i < sizeof e.input.sealed; i++)
                sum ^= e.input.sealed[i];
        if (e.kind == RIFT_EVENT_CONTROL) {
            if (e.control.len > RIFT_CONTROL_MAX_BYTES)
                abort();
            for (size_t i = 0; i < e.control.len; i++)
                sum ^= e.control.data[i];
        }
        if (e.kind == RIFT_EVENT_FRAME) {
            if (e.frame.len == 0 || e.frame.len > RIFT_FRAME_MAX_BYTES)
                abort();
            for (size_t i = 0; i < e.frame.len; i++)
                sum ^= e.frame.data[i];
        }
    }
    __asm__ volatile("" ::"r"(sum)); /* the reads above are the point */
}

/* A session in the middle of its work: with frames, messages and events under way. */
static struct rift_session *busy_session(enum rift_role role)
{
    struct rift_session_config c = {.role = role,
                                    .local_id = 1,
                                    .remote_id = 2,
                                    .congestion = &rift_delta,
                                    .min_bps = 500000,
                                    .max_bps = 50000000,
                                    .start_bps = 20000000,
                                    .fps = 60};
    struct rift_session *s;
    if (rift_session_new(&s, &c, START) < 0)
        abort();
    static const uint8_t bytes[5000];
    for (uint32_t i = 0; i < 3; i++) {
        struct rift_frame_meta meta = {.frame_id = i, .keyframe = i == 0};
        struct rift_input_event event = {.kind = RIFT_INPUT_KEY, .code = 30, .down = 1};
        uint32_t seq;
        rift_session_send_frame(s, &meta, bytes, sizeof bytes, START);
        rift_session_send_input(s, &event, START, &seq);
        rift_session_send_control(s, bytes, sizeof bytes, START);
    }
    rift_session_send_cursor(s, &(struct rift_cursor){.x = 1}, START);
    send_all(s, START);
    return s;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    struct wv_reader r;
    wv_reader_init(&r, data, len);
    struct rift_session *s = busy_session(wv_read_u8(&r) & 1 ? RIFT_ROLE_CLIENT : RIFT_ROLE_HOST);
    uint64_t now = START;
    for (uint64_t counter = 0; r.left && counter < STEPS_MAX; counter++) {
        now += wv_read_u8(&r) * WV_NS_PER_MS;
        size_t n = wv_read_u16(&r);
        n = WV_MIN(n, r.left);
        n = WV_MIN(n, (size_t)RIFT_PAYLOAD_BYTES);
        const uint8_t *payload = wv_read_span(&r, n);
        if (!payload)
            break;
        rift_session_frames(s, payload, n, counter, now);
        if (counter % 4 != 3)
            take_all(s);
        send_all(s, now);
    }
    take_all(s);
    rift_session_free(s);
    return 0;
}
