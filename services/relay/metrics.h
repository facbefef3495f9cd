/* The relay's metrics, declared once. */
#pragma once

#include "lib/ipc/metrics.h"
#include "rift/relay/relay.h"

enum wv_relay_metric {
    WV_R_LEASES,
    WV_R_LEASES_MAX,
    WV_R_BOUND,
    WV_R_DRAINING,
    WV_R_FORWARDED,
    WV_R_FORWARDED_BYTES,
    WV_R_MESSAGES_IN,
    WV_R_MESSAGES_OUT,
    WV_R_QUEUED,
    WV_R_SHAPED,
    WV_R_MARKED,
    WV_R_DROPPED_QUEUE,
    WV_R_DROPPED_UNKNOWN,
    WV_R_DROPPED_MALFORMED,
    WV_R_DROPPED_ABSENT,
    WV_R_DROPPED_REPLIES,
    WV_R_RECEIVE_ERRORS,
    WV_R_SEND_ERRORS,
    WV_R_SEND_BLOCKED,
    WV_R_CHALLENGES,
    WV_R_UNPROVEN,
    WV_R_BINDS,
    WV_R_MOVES,
    WV_R_RENEWALS,
    WV_R_STUN_ANSWERS,
    WV_R_STUN_DROPPED,
    WV_R_EXPIRED,
    WV_R_WITHDRAWN,
    WV_R_RESTORED,
    WV_R_REFUSED_FIRST, /* one for each reason but the first, in order */
    WV_R_BUSY_US = WV_R_REFUSED_FIRST + RIFT_RELAY_REASONS - 1,
    WV_R_LOOP_LATE,
    WV_R_METRICS,
};

extern const struct wv_metric wv_relay_metrics[WV_R_METRICS];
