/* See quiet.h. */
#include "rift/punch/quiet.h"

#include "lib/base/util.h"

#include <stdbool.h>

#define KEEPALIVE_NS   (400 * WV_NS_PER_MS) /* a client says something every 250 ms */
#define PATIENCE_NS    WV_NS_PER_S          /* the longest of the two */
#define REPORT_NS      (20 * WV_NS_PER_MS)  /* it reports on video so soon */
#define SLACK_MIN_NS   (60 * WV_NS_PER_MS)
#define SLACK_MAX_NS   (200 * WV_NS_PER_MS)
#define RTT_UNKNOWN_NS (100 * WV_NS_PER_MS)
#define AGAIN_NS       (400 * WV_NS_PER_MS) /* to the second alarm of a silence, then doubling */
#define AGAIN_MAX_NS   (8 * WV_NS_PER_S)
#define DOUBTS_MOST    4
#define DOUBT_NS       (30 * WV_NS_PER_S) /* after which one is forgotten */
#define ALARMS_MOST    8u                 /* at once, */
#define FORGIVE_NS     (5 * WV_NS_PER_S)  /* and one more for each of these */

void rift_quiet_heard(struct rift_quiet *q, uint64_t now)
{
    if (q->alarms) {
        q->doubts = WV_MIN(q->doubts + 1, (unsigned)DOUBTS_MOST);
        q->doubted_ns = now;
    } else if (q->doubts && now - q->doubted_ns >= DOUBT_NS) {
        q->doubts--;
        q->doubted_ns = now;
    }
    q->heard_ns = now;
    q->asked_ns = 0;
    q->alarms = 0;
}

void rift_quiet_sent(struct rift_quiet *q, uint64_t now)
{
    if (q->heard_ns && !q->asked_ns)
        q->asked_ns = now;
}

/* When this silence becomes odd. */
static uint64_t first_alarm(const struct rift_quiet *q, uint64_t rtt_ns, uint64_t var_ns)
{
    uint64_t keepalive = KEEPALIVE_NS << q->doubts, slack = 4 * var_ns;
    uint64_t at = q->heard_ns + WV_MIN(keepalive, PATIENCE_NS);
    if (!q->asked_ns)
        return at;
    slack = WV_MAX(slack, SLACK_MIN_NS);
    slack = WV_MIN(slack, SLACK_MAX_NS) << q->doubts;
    uint64_t answer = (rtt_ns ? rtt_ns : RTT_UNKNOWN_NS) + REPORT_NS + slack;
    return WV_MIN(at, q->asked_ns + answer);
}

static uint64_t due(const struct rift_quiet *q, uint64_t rtt_ns, uint64_t var_ns)
{
    uint64_t at = q->alarms ? q->next_ns : first_alarm(q, rtt_ns, var_ns);
    return q->spent >= ALARMS_MOST ? WV_MAX(at, q->forgiven_ns + FORGIVE_NS) : at;
}

int rift_quiet_tick(struct rift_quiet *q, uint64_t rtt_ns, uint64_t var_ns, uint64_t now)
{
    if (!q->heard_ns)
        return 0;
    bool is_due = now >= due(q, rtt_ns, var_ns);
    if (!q->spent)
        q->forgiven_ns = now;
    while (q->spent && now - q->forgiven_ns >= FORGIVE_NS) {
        q->spent--;
        q->forgiven_ns += FORGIVE_NS;
    }
    if (!is_due)
        return 0;
    uint64_t pause = AGAIN_NS << WV_MIN(q->alarms, 8u);
    q->next_ns = now + WV_MIN(pause, AGAIN_MAX_NS);
    q->alarms++;
    q->spent++;
    return RIFT_QUIET_ALARM;
}

uint64_t rift_quiet_timeout(const struct rift_quiet *q, uint64_t rtt_ns, uint64_t var_ns)
{
    return q->heard_ns ? due(q, rtt_ns, var_ns) : UINT64_MAX;
}
