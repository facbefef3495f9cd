#include "lib/base/util.h"
#include "rift/core/session_internal.h"

#include <errno.h>
#include <string.h>

#define IDLE_TIMEOUT_NS (10 * WV_NS_PER_S)
#define KEEPALIVE_NS    WV_NS_PER_S
#define CLOSES          3

static int new_role_parts(struct rift_session *s, const uint8_t input_key[RIFT_KEY_BYTES])
{
    if (s->role == RIFT_ROLE_CLIENT) {
        s->input_tx = malloc(sizeof *s->input_tx);
        s->join = malloc(sizeof *s->join);
        if (!s->input_tx || !s->join)
            return -ENOMEM;
        rift_input_tx_init(s->input_tx, input_key);
        rift_join_init(s->join, &s->pool, &s->timing);
        return 0;
    }
    s->input_rx = malloc(sizeof *s->input_rx);
    s->split = malloc(sizeof *s->split);
    if (!s->input_rx || !s->split)
        return -ENOMEM;
    rift_input_rx_init(s->input_rx);
    rift_split_init(s->split, &s->pool);
    return 0;
}

int rift_session_new(struct rift_session **ret_session, const struct rift_session_config *config,
                     uint64_t now)
{
    if ((config->role != RIFT_ROLE_HOST && config->role != RIFT_ROLE_CLIENT) ||
        config->first_counter >= RIFT_COUNTER_LIMIT || (unsigned)config->ecn >= RIFT_ECN_CE ||
        (config->mtu_max_bytes &&
         (config->mtu_max_bytes < RIFT_MTU_BYTES || config->mtu_max_bytes > RIFT_MTU_MAX_BYTES)))
        return -EINVAL;
    struct rift_session *s = calloc(1, sizeof *s);
    if (!s)
        return -ENOMEM;
    s->role = config->role;
    s->idle_timeout_ns = config->idle_timeout_ns ? config->idle_timeout_ns : IDLE_TIMEOUT_NS;
    s->heard_ns = now;
    s->cursor_due = s->feedback_due = RIFT_NEVER;
    int result = new_role_parts(s, config->input_key);
    if (result == 0)
        result = rift_rate_init(&s->rate, config, now);
    if (result == 0)
        result = rift_repair_init(&s->repair, s->role == RIFT_ROLE_HOST && config->fec);
    if (result < 0) {
        rift_rate_fini(&s->rate);
        free(s->input_tx);
        free(s->input_rx);
        free(s->split);
        free(s->join);
        free(s);
        return result;
    }
    rift_packet_init(&s->packet, config, now);
    rift_path_init(&s->path, config->address, config->entropy, now);
    rift_mtu_init(&s->mtu, config->mtu_max_bytes ? config->mtu_max_bytes : RIFT_MTU_MAX_BYTES);
    rift_marks_init(&s->marks, config->ecn);
    rift_timing_init(&s->timing, config->keepalive_ns ? config->keepalive_ns : KEEPALIVE_NS, now);
    rift_pacer_set(&s->pacer, config->pacing_bps, config->pacing_burst_bytes);
    rift_control_tx_init(&s->control_tx);
    rift_control_rx_init(&s->control_rx);
    if (s->split)
        rift_split_resize(s->split, rift_session_fragment_bytes(s));
    *ret_session = s;
    return 0;
}

/* Frees what frames, control and input hold; the role's parts stay, empty, for the statistics. */
static void release(struct rift_session *s)
{
    if (s->released)
        return;
    s->released = true;
    rift_control_tx_fini(&s->control_tx);
    rift_control_rx_fini(&s->control_rx);
    if (s->split)
        rift_split_fini(s->split);
    if (s->join)
        rift_join_fini(s->join);
    rift_pool_fini(&s->pool);
}

struct rift_session *rift_session_free(struct rift_session *s)
{
    if (!s)
        return NULL;
    release(s);
    rift_rate_fini(&s->rate);
    rift_repair_fini(&s->repair);
    rift_packet_wipe(&s->packet);
    rift_path_wipe(&s->path);
    if (s->input_tx)
        explicit_bzero(s->input_tx, sizeof *s->input_tx); /* what a person typed */
    if (s->input_rx)
        explicit_bzero(s->input_rx, sizeof *s->input_rx);
    free(s->input_tx);
    free(s->input_rx);
    free(s->split);
    free(s->join);
    free(s);
    return NULL;
}

void rift_session_end(struct rift_session *s, enum rift_close_reason reason, const char *text, bool send,
                      bool drain, uint64_t now)
{
    if (s->closed)
        return;
    s->closed = true;
    s->close_reason = reason;
    size_t len = 0;
    for (; text && text[len] && len < RIFT_CLOSE_TEXT_BYTES; len++)
        s->close_text[len] = text[len] >= 0x20 && text[len] < 0x7f ? text[len] : '?';
    s->close_text[len] = 0;
    s->closes_left = send ? CLOSES : 0;
    s->close_due = now;
    if (!drain)
        release(s);
}

void rift_session_close(struct rift_session *s, enum rift_close_reason reason, const char *text, uint64_t now)
{
    rift_session_end(s, reason, text, true, false, now);
}

static int closed_event(struct rift_session *s, struct rift_event *ret_event)
{
    release(s);
    if (s->closed_told)
        return RIFT_SESSION_NONE;
    s->closed_told = true;
    *ret_event = (struct rift_event){.kind = RIFT_EVENT_CLOSED};
    ret_event->closed.reason = s->close_reason;
    memcpy(ret_event->closed.text, s->close_text, sizeof s->close_text);
    return 0;
}

/* The events of one role. Returns 0 or RIFT_SESSION_NONE. */
static int role_event(struct rift_session *s, struct rift_event *ret_event)
{
    if (s->role == RIFT_ROLE_HOST) {
        struct rift_event event = {.kind = RIFT_EVENT_INPUT};
        if (rift_input_rx_pop(s->input_rx, &event.input.seq, event.input.sealed)) {
            *ret_event = event;
            return 0;
        }
        if (!s->key_wanted)
            return RIFT_SESSION_NONE;
        s->key_wanted = false;
        *ret_event = (struct rift_event){.kind = RIFT_EVENT_KEYFRAME_REQUEST};
        return 0;
    }
    if (s->cursor_pending) {
        s->cursor_pending = false;
        *ret_event = (struct rift_event){.kind = RIFT_EVENT_CURSOR};
        ret_event->cursor = s->cursor;
        return 0;
    }
    return rift_join_pop(s->join, ret_event, s->heard_ns);
}

int rift_session_next_event(struct rift_session *s, struct rift_event *ret_event)
{
    if (s->released)
        return closed_event(s, ret_event);
    if (role_event(s, ret_event) == 0)
        return 0;
    const uint8_t *data;
    size_t len;
    int r = rift_control_rx_pop(&s->control_rx, &data, &len);
    if (r == 0) {
        *ret_event = (struct rift_event){.kind = RIFT_EVENT_CONTROL};
        ret_event->control.data = data;
        ret_event->control.len = len;
        ret_event->control.number = s->control_rx.number;
        return 0;
    }
    if (r == -EPROTO)
        rift_session_end(s, RIFT_CLOSE_PROTOCOL, "control message too long", true, false, s->heard_ns);
    return s->closed ? closed_event(s, ret_event) : RIFT_SESSION_NONE;
}

void rift_session_settle_rate(struct rift_session *s, uint64_t now)
{
    rift_rate_discarded(&s->rate, s->split->dropped_fragments, s->split->dropped_bytes, now);
    s->split->dropped_fragments = s->split->dropped_bytes = 0;
}

int rift_session_send_frame(struct rift_session *s, const struct rift_frame_meta *meta, const uint8_t *data,
                            size_t len, uint64_t now)
{
    if (s->role != RIFT_ROLE_HOST)
        return -EINVAL;
    if (s->closed)
        return RIFT_SESSION_FULL;
    rift_timing_active(&s->timing, now);
    if (s->timing.srtt_ns)
        rift_mtu_search(&s->mtu, now);
    int result = rift_split_push(s->split, meta, data, len);
    rift_session_settle_rate(s, now);
    if (result == 0)
        rift_rate_frame(&s->rate, rift_split_newest(s->split), len + RIFT_META_BYTES, now);
    return result;
}

uint64_t rift_session_target_bps(struct rift_session *s, uint64_t now)
{
    if (!s->rate.ops)
        return 0;
    /* The controller counts packets; what an encoder makes is what is in the fragments. */
    uint64_t datagram = s->mtu.current, headers = RIFT_SEAL_BYTES + RIFT_FRAGMENT_HEAD;
    return s->rate.ops->target_bps(s->rate.cc, now) * (datagram - headers) /
           (datagram + RIFT_RATE_HEADER_BYTES) * 1000 / (1000u + s->repair.plan.share_permille);
}

bool rift_session_frame_wanted(const struct rift_session *s, uint64_t now)
{
    return !s->rate.ops || s->rate.ops->frame_wanted(s->rate.cc, now);
}

void rift_session_get_rate_stats(const struct rift_session *s, struct rift_session_rate_stats *ret_stats)
{
    struct rift_session_rate_stats stats = {
        .reports_sent = s->rate.reports_sent,
        .reports_received = s->rate.reports_received,
        .padding_sent = s->rate.padding_sent,
        .restarts = s->rate.restarts,
    };
    if (s->rate.ops)
        s->rate.ops->get_stats(s->rate.cc, &stats.controller);
    *ret_stats = stats;
}

int rift_session_send_input(struct rift_session *s, const struct rift_input_event *event, uint64_t now,
                            uint32_t *ret_seq)
{
    if (s->role != RIFT_ROLE_CLIENT)
        return -EINVAL;
    if (s->closed)
        return RIFT_SESSION_FULL;
    rift_timing_active(&s->timing, now);
    int r = rift_input_tx_push(s->input_tx, event, now, ret_seq);
    if (rift_input_tx_used_up(s->input_tx))
        rift_session_end(s, RIFT_CLOSE_NORMAL, "input numbers used up", true, false, now);
    return r;
}

int rift_session_send_control(struct rift_session *s, const uint8_t *data, size_t len, uint64_t now)
{
    if (s->closed)
        return RIFT_SESSION_FULL;
    rift_timing_active(&s->timing, now);
    return rift_control_tx_push(&s->control_tx, data, len);
}

void rift_session_send_cursor(struct rift_session *s, const struct rift_cursor *cursor, uint64_t now)
{
    if (s->role != RIFT_ROLE_HOST || s->closed)
        return;
    s->cursor = *cursor;
    if (++s->cursor_seq == 0)
        s->cursor_seq = 1; /* 0 means none */
    s->cursor_due = now;
    s->cursor_repeats = 0;
}

void rift_session_request_keyframe(struct rift_session *s, uint64_t now)
{
    if (s->role == RIFT_ROLE_CLIENT && !s->closed)
        rift_join_want_keyframe(s->join, now);
}

void rift_session_set_pacing(struct rift_session *s, uint64_t pacing_bps, uint32_t burst_bytes)
{
    rift_pacer_set(&s->pacer, pacing_bps, burst_bytes);
}

void rift_session_get_stats(const struct rift_session *s, struct rift_session_stats *ret_stats)
{
    struct rift_session_stats stats = s->stats;
    if (s->split) {
        stats.frames_sent = s->split->frames_sent;
        stats.fragments_retransmitted = s->split->fragments_repeated;
    }
    if (s->join) {
        stats.frames_received = s->join->frames_received;
        stats.frames_lost = s->join->frames_lost;
        stats.frames_repaired = s->join->frames_repaired;
        stats.nacks_sent = s->join->nacks_sent;
        stats.keyframe_requests = s->join->key_requests;
    }
    if (s->input_tx) {
        stats.input_sent = s->input_tx->sent;
        stats.input_repeated = s->input_tx->repeated;
    }
    if (s->input_rx)
        stats.input_received = s->input_rx->received;
    stats.rtt_ns = s->timing.srtt_ns;
    stats.rtt_min_ns = rift_timing_rtt_min(&s->timing);
    stats.clock_offset_ns = rift_timing_offset(&s->timing);
    stats.packets_lost = rift_packet_lost(&s->packet);
    stats.path_attempts = s->path.attempts;
    stats.mtu_bytes = s->mtu.current;
    stats.mtu_probes = s->mtu.probes;
    stats.mtu_black_holes = s->mtu.black_holes;
    stats.key_generation = s->packet.generation_send;
    stats.ecn_capable = s->marks.state == RIFT_ECN_CAPABLE;
    stats.ecn_failures = s->marks.failures;
    stats.ecn_ce_sent = s->marks.ce_told;
    stats.ecn_ce = s->marks.seen.ce;
    stats.repairs_sent = s->repair.repairs_sent;
    stats.repairs_received = s->repair.repairs_received;
    stats.fragments_recovered = s->repair.recovered;
    stats.repair_permille = s->repair.plan.share_permille;
    stats.memory_bytes = s->pool.held_bytes + s->control_tx.memory_bytes + s->control_rx.memory_bytes;
    *ret_stats = stats;
}
