#include "rift/core/timing.h"

#include "lib/base/util.h"

#define ACTIVE_NS        WV_NS_PER_S
#define PING_ACTIVE_NS   (200 * WV_NS_PER_MS)
#define PING_FIRST_NS    (50 * WV_NS_PER_MS) /* pace until the first answer */
#define PING_FIRST_TRIES 10
#define BUCKET_NS        (10 * WV_NS_PER_S)
#define RTO_UNKNOWN_NS   (100 * WV_NS_PER_MS)
#define RTO_SLACK_NS     (5 * WV_NS_PER_MS)
/* Two clocks part by up to this much; an old sample is worth less by it. */
#define DRIFT_PPM 50

void rift_timing_init(struct rift_timing *t, uint64_t keepalive_ns, uint64_t now)
{
    *t = (struct rift_timing){.keepalive_ns = keepalive_ns, .next_ping = now, .next_id = 1};
    for (unsigned i = 0; i < RIFT_TIMING_SENT; i++)
        t->sent[i].counter = UINT64_MAX;
}

void rift_timing_reset(struct rift_timing *t, uint64_t now)
{
    t->srtt_ns = t->rttvar_ns = 0;
    t->unanswered = 0;
    t->next_ping = now;
    t->path_since = now;
    /* Answers to what went over the old path would mix the two. */
    for (unsigned i = 0; i < RIFT_TIMING_PINGS; i++)
        t->pings[i].waiting = false;
    for (unsigned i = 0; i < RIFT_TIMING_SENT; i++)
        t->sent[i].counter = UINT64_MAX;
}

void rift_timing_active(struct rift_timing *t, uint64_t now)
{
    if (now >= t->active_until)
        t->next_ping = rift_earlier(t->next_ping, now);
    t->active_until = now + ACTIVE_NS;
}

static void sample(struct rift_timing *t, uint64_t rtt)
{
    if (rtt == 0)
        rtt = 1;
    if (t->srtt_ns == 0) {
        t->srtt_ns = rtt;
        t->rttvar_ns = rtt / 2;
        return;
    }
    uint64_t error = rtt > t->srtt_ns ? rtt - t->srtt_ns : t->srtt_ns - rtt;
    t->rttvar_ns = t->rttvar_ns - t->rttvar_ns / 4 + error / 4;
    t->srtt_ns = t->srtt_ns - t->srtt_ns / 8 + rtt / 8;
    if (t->srtt_ns == 0)
        t->srtt_ns = 1;
}

void rift_timing_sent(struct rift_timing *t, uint64_t counter, uint64_t now)
{
    t->sent[counter % RIFT_TIMING_SENT].counter = counter;
    t->sent[counter % RIFT_TIMING_SENT].at = now;
}

void rift_timing_echo(struct rift_timing *t, uint64_t counter, uint32_t delay_us, uint64_t now)
{
    unsigned i = counter % RIFT_TIMING_SENT;
    if (t->sent[i].counter != counter)
        return;
    uint64_t elapsed = now - t->sent[i].at, delay = delay_us * WV_NS_PER_US;
    t->sent[i].counter = UINT64_MAX; /* a second echo says nothing new */
    if (delay <= elapsed)
        sample(t, elapsed - delay);
}

void rift_timing_on_ping(struct rift_timing *t, uint32_t id, uint64_t now)
{
    if (t->n_pongs == RIFT_TIMING_PONGS) {
        for (unsigned i = 1; i < RIFT_TIMING_PONGS; i++)
            t->pongs[i - 1] = t->pongs[i];
        t->n_pongs--;
    }
    t->pongs[t->n_pongs].id = id;
    t->pongs[t->n_pongs].received = now;
    t->n_pongs++;
}

static void remember_offset(struct rift_timing *t, uint64_t rtt, int64_t offset, uint64_t now)
{
    unsigned i = now / BUCKET_NS % RIFT_TIMING_BUCKETS;
    uint64_t began = now / BUCKET_NS * BUCKET_NS;
    if (t->best[i].valid && t->best[i].began == began && t->best[i].at >= t->path_since &&
        t->best[i].rtt_ns <= rtt)
        return;
    t->best[i].began = began;
    t->best[i].at = now;
    t->best[i].rtt_ns = rtt;
    t->best[i].offset_ns = offset;
    t->best[i].valid = true;
    /* Buckets of more than a minute ago go, also those that no new sample overwrites. */
    for (unsigned k = 0; k < RIFT_TIMING_BUCKETS; k++)
        if (t->best[k].valid && now - t->best[k].began >= RIFT_TIMING_BUCKETS * BUCKET_NS)
            t->best[k].valid = false;
}

void rift_timing_restore(struct rift_timing *t, uint64_t rtt_ns, uint64_t var_ns, uint64_t rtt_min_ns,
                         int64_t offset_ns, uint64_t now)
{
    t->srtt_ns = rtt_ns;
    t->rttvar_ns = var_ns;
    if (rtt_min_ns) /* else the clock was never compared */
        remember_offset(t, rtt_min_ns, offset_ns, now);
}

void rift_timing_on_pong(struct rift_timing *t, uint32_t id, uint64_t peer_received, uint64_t delay_ns,
                         uint64_t now)
{
    unsigned i = id % RIFT_TIMING_PINGS;
    if (!t->pings[i].waiting || t->pings[i].id != id)
        return;
    t->pings[i].waiting = false;
    uint64_t elapsed = now - t->pings[i].sent;
    if (delay_ns > elapsed)
        return;
    uint64_t rtt = elapsed - delay_ns;
    t->unanswered = 0;
    sample(t, rtt);
    remember_offset(t, rtt, (int64_t)(peer_received - (t->pings[i].sent + rtt / 2)), now);
}

void rift_timing_write_pongs(struct rift_timing *t, struct wv_writer *w, uint64_t now)
{
    while (t->n_pongs && wv_writer_space(w) >= RIFT_FRAME_HEADER_BYTES + RIFT_PONG_BYTES) {
        t->n_pongs--;
        wv_write_u8(w, RIFT_WIRE_PONG);
        wv_write_u16(w, RIFT_PONG_BYTES);
        wv_write_u32(w, t->pongs[t->n_pongs].id);
        wv_write_u64(w, t->pongs[t->n_pongs].received);
        wv_write_u64(w, now - t->pongs[t->n_pongs].received);
    }
}

bool rift_timing_write_ping(struct rift_timing *t, struct wv_writer *w, uint64_t now)
{
    if (now < t->next_ping || wv_writer_space(w) < RIFT_FRAME_HEADER_BYTES + RIFT_PING_BYTES)
        return false;
    uint32_t id = t->next_id++;
    unsigned i = id % RIFT_TIMING_PINGS;
    t->pings[i].id = id;
    t->pings[i].sent = now;
    t->pings[i].waiting = true;
    wv_write_u8(w, RIFT_WIRE_PING);
    wv_write_u16(w, RIFT_PING_BYTES);
    wv_write_u32(w, id);
    uint64_t pause = t->keepalive_ns;
    if (now < t->active_until)
        pause = rift_earlier(pause, PING_ACTIVE_NS);
    if (t->srtt_ns == 0 && t->unanswered < PING_FIRST_TRIES)
        pause = rift_earlier(pause, PING_FIRST_NS);
    t->unanswered++;
    t->next_ping = rift_add_ns(now, pause);
    return true;
}

uint64_t rift_timing_timeout(const struct rift_timing *t)
{
    return t->n_pongs ? 0 : t->next_ping;
}

uint64_t rift_timing_rto(const struct rift_timing *t)
{
    if (t->srtt_ns == 0)
        return RTO_UNKNOWN_NS;
    return t->srtt_ns + WV_MAX(4 * t->rttvar_ns, RTO_SLACK_NS);
}

uint64_t rift_timing_rtt_min(const struct rift_timing *t)
{
    uint64_t best = 0;
    for (unsigned i = 0; i < RIFT_TIMING_BUCKETS; i++)
        if (t->best[i].valid && t->best[i].at >= t->path_since && (best == 0 || t->best[i].rtt_ns < best))
            best = t->best[i].rtt_ns;
    return best;
}

int64_t rift_timing_offset(const struct rift_timing *t)
{
    uint64_t newest = 0, lowest = UINT64_MAX;
    int64_t offset = 0;
    for (unsigned i = 0; i < RIFT_TIMING_BUCKETS; i++)
        if (t->best[i].valid)
            newest = WV_MAX(newest, t->best[i].at);
    for (unsigned i = 0; i < RIFT_TIMING_BUCKETS; i++) {
        if (!t->best[i].valid)
            continue;
        uint64_t score = t->best[i].rtt_ns / 2 + (newest - t->best[i].at) / 1000000 * DRIFT_PPM;
        if (score < lowest) {
            lowest = score;
            offset = t->best[i].offset_ns;
        }
    }
    return offset;
}
