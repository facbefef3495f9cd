/* The path of cc_link.h. */
#include "tests/unit/cc_link.h"

#include "lib/base/util.h"
#include "rift/core/delta.h"
#include "rift/core/feedback.h"

#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define STEP_NS (50 * WV_NS_PER_US)
#define PACKETS 16384
#define FRAMES  8192
#define DELAYS  65536
#define REPORTS 256
#define MTU     1200u
#define HEADER  40u
#define LAG     2 /* frames until a target acts */

struct packet {
    uint64_t seq, queued_ns, arrival_ns;
    uint32_t bytes, frame;
    bool last;
};

struct flow_state {
    struct packet unsent[PACKETS];
    unsigned first_unsent, n_unsent;
    struct packet under_way[PACKETS]; /* behind the link, in order */
    unsigned first_way, n_way;
    struct {
        uint64_t at;
        size_t len;
        uint8_t data[RIFT_FEEDBACK_MAX_BYTES];
    } report[REPORTS];
    unsigned first_report, n_report;
    uint64_t made_ns[FRAMES];
    uint32_t left[FRAMES];
    double targets[LAG + 1];
    float delay[DELAYS];
    unsigned n_delay;
    uint64_t next_frame_ns, seq;
    uint32_t frame;
    struct rift_feedback_writer *writer;
};

struct cc_link_state {
    struct packet queue[PACKETS];
    uint8_t owner[PACKETS];
    unsigned first, n;
    uint64_t head_done; /* 0: not begun */
    uint64_t free_at;
    uint64_t random;
    struct flow_state flow[LINK_FLOWS];
};

static double uniform(struct cc_link_state *s)
{
    s->random ^= s->random << 13;
    s->random ^= s->random >> 7;
    s->random ^= s->random << 17;
    return (double)(s->random >> 11) / 9007199254740992.0;
}

static uint64_t receiver_clock(const struct cc_link_flow *f, uint64_t at)
{
    return at + f->clock_offset_ns + (uint64_t)(int64_t)((double)at * f->clock_ppm / 1e6);
}

void cc_link_start(struct cc_link *link)
{
    link->state = calloc(1, sizeof(*link->state));
    ck_assert_ptr_nonnull(link->state);
    link->state->random = link->seed * 2654435761u + 88172645463325252ull;
    for (unsigned i = 0; i < link->n_flows; i++) {
        struct cc_link_flow *f = &link->flow[i];
        struct flow_state *s = &link->state->flow[i];
        ck_assert_int_eq(rift_delta.make(&f->cc, f->config, link->now), 0);
        ck_assert_int_eq(rift_feedback_writer_new(&s->writer, f->config->fps), 0);
        s->next_frame_ns = f->start_ns;
        s->seq = f->first_seq;
        for (unsigned k = 0; k <= LAG; k++)
            s->targets[k] = (double)f->config->start_bps;
    }
}

void cc_link_stop(struct cc_link *link)
{
    for (unsigned i = 0; i < link->n_flows; i++) {
        link->flow[i].cc = rift_delta.free(link->flow[i].cc);
        rift_feedback_writer_free(link->state->flow[i].writer);
    }
    free(link->state);
    link->state = NULL;
}

void cc_link_clear(struct cc_link *link)
{
    link->longest_wait_ns = 0;
    for (unsigned i = 0; i < link->n_flows; i++) {
        link->flow[i].delivered_bytes = link->flow[i].frames = link->flow[i].lost_packets = 0;
        link->state->flow[i].n_delay = 0;
    }
}

double cc_link_used(const struct cc_link *link, unsigned flow, uint64_t duration_ns, double bps)
{
    return 100 * (double)link->flow[flow].delivered_bytes * 8 / ((double)duration_ns / 1e9 * bps);
}

/* One frame: near the target of LAG frames ago, sizes spread over +-26 % (a deviation of 15 %). */
static void encode(struct cc_link *link, struct cc_link_flow *f, struct flow_state *s)
{
    memmove(s->targets + 1, s->targets, LAG * sizeof(s->targets[0]));
    s->targets[0] = (double)rift_delta.target_bps(f->cc, link->now);
    s->next_frame_ns += (uint64_t)(1e9 / f->config->fps);
    if (f->paused)
        return;
    double bps = s->targets[LAG];
    if (f->activity > 0)
        bps = fmin(bps, f->activity * (double)f->config->max_bps);
    double size = fmax(bps, 50e3) / 8 / f->config->fps * (0.74 + 0.52 * uniform(link->state));
    uint32_t bytes = (uint32_t)fmax(100, size), n = (bytes + MTU - 1) / MTU;
    uint32_t k = s->frame++;
    s->made_ns[k % FRAMES] = link->now;
    s->left[k % FRAMES] = n;
    for (uint32_t i = 0; i < n && s->n_unsent < PACKETS; i++)
        s->unsent[(s->first_unsent + s->n_unsent++) % PACKETS] =
            (struct packet){.bytes = bytes / n, .frame = k, .last = i + 1 == n};
    struct rift_cc_frame frame = {.id = k, .packets = n, .bytes = bytes / n * n};
    rift_delta.on_frame_queued(f->cc, &frame, link->now);
}

static void enter(struct cc_link *link, unsigned flow, struct packet p)
{
    struct cc_link_state *s = link->state;
    double queued_bits = 0;
    for (unsigned i = 0; i < s->n; i++)
        queued_bits += s->queue[(s->first + i) % PACKETS].bytes * 8.0;
    link->wait_ns = (uint64_t)(queued_bits / link->bps * 1e9);
    link->longest_wait_ns = WV_MAX(link->longest_wait_ns, link->wait_ns);
    if (link->wait_ns > link->queue_ns || s->n == PACKETS) {
        link->flow[flow].lost_packets++;
        return;
    }
    p.queued_ns = link->now;
    unsigned k = (s->first + s->n++) % PACKETS;
    s->queue[k] = p;
    s->owner[k] = (uint8_t)flow;
}

static void send_what_may(struct cc_link *link, unsigned i)
{
    struct cc_link_flow *f = &link->flow[i];
    struct flow_state *s = &link->state->flow[i];
    for (;;) {
        struct packet p = {.frame = RIFT_CC_NO_FRAME};
        p.bytes = s->n_unsent ? s->unsent[s->first_unsent].bytes : rift_delta.padding(f->cc, link->now);
        if (p.bytes == 0 || rift_delta.next_send(f->cc, p.bytes, link->now) > link->now)
            return;
        if (s->n_unsent) {
            p = s->unsent[s->first_unsent];
            s->first_unsent = (s->first_unsent + 1) % PACKETS;
            s->n_unsent--;
        }
        p.seq = s->seq++;
        struct rift_cc_packet sent = {
            .seq = p.seq, .bytes = p.bytes, .frame = p.frame, .last_in_frame = p.last};
        rift_delta.on_sent(f->cc, &sent, link->now);
        enter(link, i, p);
    }
}

static void leave(struct cc_link *link, struct packet p, unsigned i, uint64_t at)
{
    struct flow_state *s = &link->state->flow[i];
    if (link->loss > 0 && uniform(link->state) < link->loss) {
        link->flow[i].lost_packets++;
        return;
    }
    p.arrival_ns = at + link->forward_ns;
    ck_assert_uint_lt(s->n_way, PACKETS);
    s->under_way[(s->first_way + s->n_way++) % PACKETS] = p;
}

static void serve(struct cc_link *link)
{
    struct cc_link_state *s = link->state;
    while (s->n && !link->blocked) {
        struct packet *p = &s->queue[s->first];
        uint64_t from = WV_MAX(s->free_at, p->queued_ns);
        if (s->head_done == 0)
            s->head_done = from + (uint64_t)(p->bytes * 8e9 / link->bps);
        if (s->head_done > link->now)
            return;
        s->free_at = s->head_done;
        leave(link, *p, s->owner[s->first], s->head_done);
        s->first = (s->first + 1) % PACKETS;
        s->n--;
        s->head_done = 0;
    }
    if (link->blocked) {
        s->free_at = link->now;
        s->head_done = 0;
    }
}

static void arrive(struct cc_link *link, struct cc_link_flow *f, struct flow_state *s)
{
    for (; s->n_way && s->under_way[s->first_way].arrival_ns <= link->now; s->n_way--) {
        const struct packet *p = &s->under_way[s->first_way];
        s->first_way = (s->first_way + 1) % PACKETS;
        rift_feedback_on_packet(s->writer, p->seq, p->last, false, receiver_clock(f, p->arrival_ns));
        if (p->frame == RIFT_CC_NO_FRAME)
            continue;
        f->delivered_bytes += p->bytes;
        if (--s->left[p->frame % FRAMES] == 0) {
            f->frames++;
            double ms = (double)(p->arrival_ns - s->made_ns[p->frame % FRAMES] - link->forward_ns) / 1e6;
            if (s->n_delay < DELAYS)
                s->delay[s->n_delay++] = (float)ms;
        }
    }
}

static void feed_back(struct cc_link *link, struct cc_link_flow *f, struct flow_state *s)
{
    unsigned k = (s->first_report + s->n_report) % REPORTS;
    size_t len = s->n_report < REPORTS
                     ? rift_feedback_write(s->writer, s->report[k].data, sizeof(s->report[k].data),
                                           receiver_clock(f, link->now))
                     : 0;
    if (len && uniform(link->state) >= f->feedback_loss) {
        s->report[k].len = len;
        s->report[k].at = link->now + link->back_ns;
        s->n_report++;
    }
    for (; s->n_report && s->report[s->first_report].at <= link->now; s->n_report--) {
        static struct rift_cc_arrival arrivals[RIFT_FEEDBACK_MAX_PACKETS];
        struct rift_cc_report report;
        unsigned i = s->first_report;
        ck_assert_int_eq(rift_feedback_read(s->report[i].data, s->report[i].len, arrivals, &report), 0);
        rift_delta.on_report(f->cc, &report, link->now);
        s->first_report = (s->first_report + 1) % REPORTS;
    }
}

static int compare(const void *a, const void *b)
{
    float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

void cc_link_run(struct cc_link *link, uint64_t duration_ns)
{
    for (uint64_t end = link->now + duration_ns; link->now < end; link->now += STEP_NS) {
        serve(link);
        for (unsigned i = 0; i < link->n_flows; i++) {
            struct cc_link_flow *f = &link->flow[i];
            struct flow_state *s = &link->state->flow[i];
            if (link->now < f->start_ns)
                continue;
            arrive(link, f, s);
            feed_back(link, f, s);
            if (link->now >= s->next_frame_ns)
                encode(link, f, s);
            if (rift_delta.timeout(f->cc, link->now) <= link->now)
                rift_delta.tick(f->cc, link->now);
            send_what_may(link, i);
        }
    }
    for (unsigned i = 0; i < link->n_flows; i++) {
        struct flow_state *s = &link->state->flow[i];
        qsort(s->delay, s->n_delay, sizeof(s->delay[0]), compare);
        link->flow[i].delay_p95_ms = s->n_delay ? (double)s->delay[s->n_delay * 95 / 100] : 0;
    }
}
