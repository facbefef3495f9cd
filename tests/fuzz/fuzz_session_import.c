/* The stored state of a session from memory that others could write. Input: a state; it is tried as it is,
 * and again with its length and checksum made right, so that what lies behind them is reached. A session that
 * comes of it must keep every rule of any other session, whatever its peer then says. */
#include "lib/base/util.h"
#include "rift/core/delta.h"
#include "rift/core/state.h"
#include "rift/crypto/derive.h"

#include <string.h>

#define START      (1000 * WV_NS_PER_MS)
#define MEMORY_MAX (14u << 20)
#define SENDS_MAX  10000

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static uint8_t stored[RIFT_STATE_MAX_BYTES];
static const struct rift_session_config host_config = {
    .role = RIFT_ROLE_HOST,
    .congestion = &rift_delta,
    .min_bps = 500000,
    .max_bps = 50000000,
    .start_bps = 8000000,
    .fps = 60,
};

static void store(struct rift_session *s, uint64_t now)
{
    size_t len;
    if (!rift_session_wants_export(s))
        return;
    struct rift_session_config config = host_config;
    struct rift_session *again;
    if (rift_session_export(s, stored, sizeof stored, now, &len) != 0 || rift_session_wants_export(s))
        abort();
    /* What is written can be read, but for counters at their very end. */
    if (s->reserved_until < RIFT_COUNTER_LIMIT) {
        if (rift_session_import(&again, &config, stored, len, now) != 0)
            abort();
        rift_session_free(again);
    }
}

static void live(struct rift_session *s, uint64_t now)
{
    struct rift_event e;
    struct rift_session_stats stats;
    uint8_t out[RIFT_MTU_MAX_BYTES];
    struct rift_outgoing o;
    uint32_t seq = 0;
    while (rift_session_next_event(s, &e) == 0)
        if (e.kind == RIFT_EVENT_INPUT) {
            if (seq && e.input.seq != seq + 1)
                abort();
            seq = e.input.seq;
        }
    store(s, now);
    for (unsigned n = 0; rift_session_send_to(s, out, sizeof out, now, &o) == 0; n++)
        if (n > SENDS_MAX || o.len > sizeof out)
            abort();
    store(s, now);
    if (rift_session_timeout(s) <= now)
        abort();
    rift_session_get_stats(s, &stats);
    if (stats.memory_bytes > MEMORY_MAX)
        abort();
}

static void try_state(const uint8_t *state, size_t len)
{
    static const uint8_t frame[3000];
    static const uint8_t from_peer[] = {RIFT_WIRE_CONTROL_ACK,
                                        12,
                                        0,
                                        1,
                                        0,
                                        0,
                                        0,
                                        1,
                                        0,
                                        0,
                                        0,
                                        0,
                                        0,
                                        0,
                                        0,
                                        RIFT_WIRE_CONTROL,
                                        6,
                                        0,
                                        1,
                                        0,
                                        0,
                                        0,
                                        1,
                                        'x',
                                        RIFT_WIRE_KEYFRAME_REQUEST,
                                        5,
                                        0,
                                        0,
                                        0,
                                        0,
                                        0,
                                        0};
    struct rift_session_config config = host_config;
    struct rift_session *s;
    if (rift_session_import(&s, &config, state, len, START) != 0)
        return;
    uint64_t counter = s->packet.next_counter, now = START;
    for (unsigned i = 0; i < 4; i++, now += 40 * WV_NS_PER_MS) {
        live(s, now);
        rift_session_frames(s, from_peer, sizeof from_peer, i, now);
        rift_session_send_control(s, frame, sizeof frame, now);
        struct rift_frame_meta meta = {.frame_id = s->split->newest_id + 1, .keyframe = true};
        rift_session_send_frame(s, &meta, frame, sizeof frame, now);
    }
    if (s->packet.next_counter < counter)
        abort();
    rift_session_free(s);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    static uint8_t copy[RIFT_STATE_MAX_BYTES];
    try_state(data, len);
    if (len < 12 + RIFT_STATE_CHECKSUM_BYTES || len > sizeof copy)
        return 0;
    memcpy(copy, data, len);
    struct wv_writer w;
    wv_writer_init(&w, copy, 12);
    wv_write_u32(&w, RIFT_STATE_MAGIC);
    wv_write_u16(&w, RIFT_STATE_VERSION);
    wv_write_u16(&w, RIFT_ROLE_HOST);
    wv_write_u32(&w, (uint32_t)len);
    wv_writer_init(&w, copy + len - 8, 8);
    wv_write_u64(&w, rift_checksum(copy, len - 8));
    try_state(copy, len);
    return 0;
}
