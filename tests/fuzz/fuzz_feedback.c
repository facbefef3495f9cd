/* Any bytes as feedback: the reader stays in its bounds, and DELTA, told by them about packets that it did
 * send, keeps giving rates and times that make sense. */
#include "lib/base/util.h"
#include "rift/core/delta.h"
#include "rift/core/feedback.h"

#include <stdlib.h>

#define PACKETS 600
#define CHUNK   64 /* bytes of input per report */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool truth)
{
    if (!truth)
        abort();
}

static void tell(struct rift_cc *cc, const uint8_t *data, size_t size, uint64_t now)
{
    static struct rift_cc_arrival arrivals[RIFT_FEEDBACK_MAX_PACKETS];
    struct rift_cc_report report;
    if (rift_feedback_read(data, size, arrivals, &report) < 0)
        return;
    require(report.n >= 1 && report.n <= RIFT_FEEDBACK_MAX_PACKETS && report.arrivals == arrivals);
    for (size_t i = 1; i < report.n; i++)
        require(arrivals[i].seq > arrivals[i - 1].seq);
    rift_delta.on_report(cc, &report, now);
}

static void check(struct rift_cc *cc, uint64_t now)
{
    struct rift_cc_stats stats;
    rift_delta.get_stats(cc, &stats);
    require(stats.loss >= 0 && stats.loss <= 1 && stats.ce >= 0 && stats.ce <= 1);
    uint64_t bps = rift_delta.target_bps(cc, now);
    require(bps >= 50000 && bps <= 50000000);
    uint64_t at = rift_delta.next_send(cc, 1200, now);
    require(at == RIFT_CC_NEVER || at < now + 3600 * WV_NS_PER_S);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct rift_cc_config config = {.min_bps = 500000,
                                    .max_bps = 50000000,
                                    .start_bps = 2000000,
                                    .fps = 60,
                                    .mtu_bytes = 1200,
                                    .ecn = true};
    struct rift_cc *cc;
    if (rift_delta.make(&cc, &config, WV_NS_PER_S) < 0)
        return 0;
    uint64_t now = WV_NS_PER_S;
    for (uint32_t i = 0; i < PACKETS; i++) {
        if (i % 6 == 0) {
            struct rift_cc_frame frame = {.id = i / 6, .packets = 6, .bytes = 7200};
            now += 16 * WV_NS_PER_MS;
            rift_delta.on_frame_queued(cc, &frame, now);
        }
        struct rift_cc_packet packet = {
            .seq = 1000 + i, .bytes = 1200, .frame = i / 6, .last_in_frame = i % 6 == 5};
        rift_delta.on_sent(cc, &packet, now + i % 6 / 2 * WV_NS_PER_MS);
    }
    /* The input whole, then in pieces, each of them behind a proper header. */
    tell(cc, data, size, now);
    check(cc, now);
    for (size_t at = 0; at < size; at += CHUNK) {
        uint8_t report[20 + CHUNK] = {RIFT_FEEDBACK_VERSION, 1, 0xe8, 3};
        report[2] = (uint8_t)(0xe8 + at / 2); /* walks through the packets */
        size_t n = WV_MIN(size - at, (size_t)CHUNK);
        for (size_t i = 0; i < n; i++)
            report[19 + i] = data[at + i];
        now += 16 * WV_NS_PER_MS;
        tell(cc, report, 19 + n, now);
        check(cc, now);
    }
    rift_delta.free(cc);
    return 0;
}
