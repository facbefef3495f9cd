#include "rift/core/session_rate.h"

#include "lib/base/util.h"

#include <errno.h>
#include <stdlib.h>

/* Without a frame for this long the source counts as silent. */
#define SILENT_NS (250 * WV_NS_PER_MS)
/* Losses behind a queue of this much are its own. */
#define CONGESTED_NS (30 * WV_NS_PER_MS)
/* A report is not begun in less than this: most are far shorter, and one that must wait for the next datagram
 * loses nothing. */
#define REPORT_SPACE_BYTES 300
/* Frame ids as the controller sees them: it only compares them, and one value means none. */
#define FRAME_MASK 0x7fffffffu
/* A datagram with a fragment is this much longer than the fragment. */
#define AROUND_BYTES (RIFT_RATE_HEADER_BYTES + RIFT_SEAL_BYTES + RIFT_FRAGMENT_HEAD)

static struct rift_cc_config controller_config(const struct rift_session_config *c)
{
    return (struct rift_cc_config){
        .min_bps = c->min_bps,
        .max_bps = c->max_bps,
        .start_bps = c->start_bps,
        .fps = c->fps,
        .mtu_bytes = RIFT_MTU_BYTES + RIFT_RATE_HEADER_BYTES,
        .ecn = c->ecn == RIFT_ECN_ECT1,
        .mode = c->mode,
    };
}

int rift_rate_init(struct rift_rate *r, const struct rift_session_config *config, uint64_t now)
{
    *r = (struct rift_rate){.now = now, .frame_at = now};
    if (config->role == RIFT_ROLE_CLIENT)
        return config->fps > 0 ? rift_feedback_writer_new(&r->writer, config->fps) : 0;
    if (!config->congestion)
        return 0;
    r->config = controller_config(config);
    r->arrivals = malloc(RIFT_FEEDBACK_MAX_PACKETS * sizeof *r->arrivals);
    if (!r->arrivals)
        return -ENOMEM;
    int result = config->congestion->make(&r->cc, &r->config, now);
    if (result < 0) {
        free(r->arrivals);
        r->arrivals = NULL;
        return result;
    }
    r->ops = config->congestion;
    return 0;
}

void rift_rate_fini(struct rift_rate *r)
{
    if (r->ops)
        r->cc = r->ops->free(r->cc);
    r->ops = NULL;
    free(r->arrivals);
    r->arrivals = NULL;
    r->writer = rift_feedback_writer_free(r->writer);
}

void rift_rate_restart(struct rift_rate *r, uint64_t start_bps, uint64_t now)
{
    if (!r->ops)
        return;
    struct rift_cc_config config = r->config;
    config.start_bps = WV_MIN(start_bps, config.max_bps);
    config.start_bps = WV_MAX(config.start_bps, config.min_bps);
    config.start_bps = WV_MAX(config.start_bps, UINT64_C(1));
    struct rift_cc *cc;
    if (r->ops->make(&cc, &config, now) < 0)
        return; /* no memory: the old one will find its way too */
    r->ops->free(r->cc);
    r->cc = cc;
    if (r->paused)
        r->ops->pause(cc, true, now);
    r->restarts++;
}

uint64_t rift_rate_bps(const struct rift_rate *r)
{
    struct rift_cc_stats stats;
    if (!r->ops)
        return 0;
    r->ops->get_stats(r->cc, &stats);
    return stats.rate_bps;
}

void rift_rate_new_path(struct rift_rate *r, uint64_t now)
{
    rift_rate_restart(r, WV_MIN(rift_rate_bps(r), r->config.start_bps), now);
}

/* ---- sender ---- */

void rift_rate_frame(struct rift_rate *r, const struct rift_fragment *head, size_t len, uint64_t now)
{
    r->now = now;
    r->frame_at = now;
    if (!r->ops)
        return;
    if (r->paused) {
        r->paused = false;
        r->ops->pause(r->cc, false, now);
    }
    struct rift_cc_frame frame = {
        .id = head->frame_id & FRAME_MASK,
        .packets = head->count,
        .bytes = (uint32_t)(len + head->count * AROUND_BYTES),
        .keyframe = head->keyframe,
    };
    r->ops->on_frame_queued(r->cc, &frame, now);
}

void rift_rate_discarded(struct rift_rate *r, size_t fragments, size_t bytes, uint64_t now)
{
    if (r->ops && fragments)
        r->ops->on_discarded(r->cc, bytes + fragments * AROUND_BYTES, now);
}

void rift_rate_sent(struct rift_rate *r, const struct rift_rate_sent *sent, uint64_t now)
{
    r->now = now;
    if (!r->ops)
        return;
    struct rift_cc_packet packet = {
        .seq = sent->counter,
        .bytes = (uint32_t)(sent->len + RIFT_RATE_HEADER_BYTES),
        .frame = sent->fresh ? sent->frame_id & FRAME_MASK : RIFT_CC_NO_FRAME,
        .last_in_frame = sent->fresh && sent->last,
    };
    r->ops->on_sent(r->cc, &packet, now);
}

bool rift_rate_congested(const struct rift_rate *r)
{
    struct rift_cc_stats stats;
    if (!r->ops)
        return false;
    r->ops->get_stats(r->cc, &stats);
    return stats.queue_ns > CONGESTED_NS;
}

int rift_rate_report(struct rift_rate *r, struct wv_reader *body, uint64_t now,
                     struct rift_cc_report *ret_report)
{
    r->now = now;
    *ret_report = (struct rift_cc_report){0};
    if (!r->ops)
        return 0;
    struct rift_cc_report report;
    size_t len = body->left;
    int result = rift_feedback_read(wv_read_span(body, len), len, r->arrivals, &report);
    if (result < 0)
        return result;
    r->reports_received++;
    r->ops->on_report(r->cc, &report, now);
    *ret_report = report;
    return 0;
}

void rift_rate_tick(struct rift_rate *r, uint64_t now)
{
    r->now = now;
    if (!r->ops)
        return;
    if (now >= r->ops->timeout(r->cc, now))
        r->ops->tick(r->cc, now);
    if (!r->paused && now >= rift_add_ns(r->frame_at, SILENT_NS)) {
        r->paused = true;
        r->ops->pause(r->cc, true, now);
    }
}

uint64_t rift_rate_next(const struct rift_rate *r, size_t len, uint64_t now)
{
    return r->ops ? r->ops->next_send(r->cc, (uint32_t)(len + RIFT_RATE_HEADER_BYTES), now) : 0;
}

size_t rift_rate_padding(const struct rift_rate *r, size_t most, uint64_t now)
{
    uint32_t bytes = r->ops ? r->ops->padding(r->cc, now) : 0;
    if (bytes == 0 || r->ops->next_send(r->cc, bytes, now) > now)
        return 0;
    size_t least = RIFT_SEAL_BYTES + RIFT_FRAME_HEADER_BYTES;
    size_t len = bytes > RIFT_RATE_HEADER_BYTES ? bytes - RIFT_RATE_HEADER_BYTES : 0;
    len = WV_MAX(len, least);
    return WV_MIN(len, most);
}

/* ---- receiver ---- */

void rift_rate_arrived(struct rift_rate *r, uint64_t counter, bool last_in_frame, bool ce, uint64_t now)
{
    if (r->writer)
        rift_feedback_on_packet(r->writer, counter, last_in_frame, ce, now);
}

void rift_rate_write_report(struct rift_rate *r, struct wv_writer *w, uint64_t now)
{
    if (!r->writer || now < rift_feedback_timeout(r->writer) || wv_writer_space(w) < REPORT_SPACE_BYTES)
        return;
    uint8_t report[RIFT_FEEDBACK_MAX_BYTES];
    size_t len = rift_feedback_write(r->writer, report, wv_writer_space(w) - RIFT_FRAME_HEADER_BYTES, now);
    if (len == 0)
        return;
    wv_write_u8(w, RIFT_WIRE_REPORT);
    wv_write_u16(w, (uint16_t)len);
    wv_write_span(w, report, len);
    r->reports_sent++;
}

uint64_t rift_rate_timeout(const struct rift_rate *r)
{
    if (r->writer)
        return rift_feedback_timeout(r->writer);
    if (!r->ops)
        return RIFT_NEVER;
    uint64_t at = r->ops->timeout(r->cc, r->now);
    return r->paused ? at : rift_earlier(at, rift_add_ns(r->frame_at, SILENT_NS));
}
