#include "rift/core/pacer.h"

#include "rift/core/session.h"

#define LATE_NS UINT64_C(100000)

static uint64_t duration_ns(uint64_t bytes, uint64_t bps)
{
    /* 128 bits: bytes * 8e9 passes 64 bits from 2 GiB on. */
    unsigned __int128 ns = ((unsigned __int128)bytes * 8000000000u + bps - 1) / bps;
    return ns > UINT64_MAX / 4 ? UINT64_MAX / 4 : (uint64_t)ns;
}

/* How far ahead of the rate a datagram may begin, so that with itself it makes BURST_BYTES. */
static uint64_t allowance_ns(uint32_t burst_bytes, uint64_t bps)
{
    return burst_bytes > RIFT_MTU_BYTES ? duration_ns(burst_bytes - RIFT_MTU_BYTES, bps) : 0;
}

void rift_pacer_set(struct rift_pacer *p, uint64_t bps, uint32_t burst_bytes)
{
    if (p->bps && bps && p->busy_until) {
        /* A debt of the old rate is repaid at the new one from its own start; a change of rate must not turn
         * a short debt into a long stall. */
        uint64_t release = rift_pacer_release(p);
        p->bps = bps;
        p->burst_ns = allowance_ns(burst_bytes, bps);
        p->busy_until = release + p->burst_ns;
        return;
    }
    p->bps = bps;
    p->burst_ns = bps ? allowance_ns(burst_bytes, bps) : 0;
    p->busy_until = 0;
}

void rift_pacer_charge(struct rift_pacer *p, size_t len, uint64_t now)
{
    if (p->bps == 0)
        return;
    uint64_t release = rift_pacer_release(p);
    bool late = release && release < now && now - release <= LATE_NS; /* a timer's lateness costs nothing */
    if (p->busy_until < now && !late)
        p->busy_until = now;
    p->busy_until += duration_ns(len, p->bps);
}

uint64_t rift_pacer_release(const struct rift_pacer *p)
{
    return p->bps && p->busy_until > p->burst_ns ? p->busy_until - p->burst_ns : 0;
}
