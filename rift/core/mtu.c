#include "rift/core/mtu.h"

#include "lib/base/util.h"

#include <string.h>

#define PROBES           3 /* lost in a row: not carried */
#define STEP_BYTES       16
#define SMALL_BYTES      (RIFT_SEAL_BYTES + RIFT_FRAME_HEADER_BYTES + RIFT_MTU_ID_BYTES)
#define WAIT_MIN_NS      (30 * WV_NS_PER_MS)
#define CONFIRM_PAUSE_NS (500 * WV_NS_PER_MS)
#define RAISE_NS         (600 * WV_NS_PER_S) /* RFC 8899's PMTU_RAISE_TIMER */
#define AFTER_HOLE_NS    (60 * WV_NS_PER_S)

void rift_mtu_init(struct rift_mtu *m, uint32_t max)
{
    *m = (struct rift_mtu){.max = max, .current = RIFT_MTU_BYTES, .send_at = RIFT_NEVER};
}

static uint32_t limit(const struct rift_mtu *m)
{
    return WV_MIN(m->max, m->capacity);
}

static void stop(struct rift_mtu *m)
{
    m->searching = m->confirming = m->write_small = false;
    m->probe = 0;
    m->send_at = RIFT_NEVER;
}

void rift_mtu_reset(struct rift_mtu *m, uint64_t now)
{
    stop(m);
    m->current = RIFT_MTU_BYTES;
    m->confirm_after = 0;
    m->search_again_at = now;
}

static void begin_size(struct rift_mtu *m, uint32_t size, uint64_t now)
{
    m->probe = size;
    m->first_id = m->next_id;
    m->tries = 0;
    m->small_came = true;
    m->send_at = now;
}

void rift_mtu_search(struct rift_mtu *m, uint64_t now)
{
    if (m->searching || m->confirming || now < m->search_again_at || limit(m) < m->current + STEP_BYTES)
        return;
    m->searching = true;
    m->low = m->current;
    m->high = limit(m) + 1;
    begin_size(m, limit(m), now);
}

void rift_mtu_suspect(struct rift_mtu *m, uint64_t now)
{
    if (m->current == RIFT_MTU_BYTES || m->probe != 0 || now < m->confirm_after)
        return;
    m->confirming = true;
    begin_size(m, m->current, now);
}

/* The search goes on below what was not carried, or above what was. */
static void narrow(struct rift_mtu *m, uint64_t now)
{
    if (m->high - m->low <= STEP_BYTES) {
        stop(m);
        m->search_again_at = now + RAISE_NS;
        return;
    }
    begin_size(m, (m->low + m->high) / 2, now);
}

int rift_mtu_on_ack(struct rift_mtu *m, uint32_t id, uint64_t now)
{
    if (m->probe == 0 || id - m->first_id >= m->next_id - m->first_id)
        return 0;
    if (id % 2) {
        m->small_came = true;
        return 0;
    }
    if (m->confirming) {
        stop(m);
        m->confirm_after = now + CONFIRM_PAUSE_NS;
        return 0;
    }
    m->low = m->current = m->probe;
    m->confirm_after = now + CONFIRM_PAUSE_NS;
    narrow(m, now);
    return RIFT_MTU_CHANGED;
}

int rift_mtu_tick(struct rift_mtu *m, uint64_t now)
{
    if (m->probe == 0 || m->tries == 0 || now < m->send_at)
        return 0;
    if (m->confirming && !m->small_came) {
        m->tries--; /* nothing arrives at all: that says nothing about size */
        m->small_came = true;
    }
    if (m->tries < PROBES)
        return 0;
    if (!m->confirming) {
        m->high = m->probe;
        narrow(m, now);
        return 0;
    }
    stop(m);
    m->current = RIFT_MTU_BYTES;
    m->search_again_at = now + AFTER_HOLE_NS;
    m->black_holes++;
    return RIFT_MTU_BLACK_HOLE;
}

void rift_mtu_on_probe(struct rift_mtu *m, uint32_t id)
{
    if (m->n_acks < WV_ARRAY_SIZE(m->acks))
        m->acks[m->n_acks++] = id;
}

void rift_mtu_write_acks(struct rift_mtu *m, struct wv_writer *w)
{
    while (m->n_acks && wv_writer_space(w) >= RIFT_FRAME_HEADER_BYTES + RIFT_MTU_ID_BYTES) {
        wv_write_u8(w, RIFT_WIRE_MTU_ACK);
        wv_write_u16(w, RIFT_MTU_ID_BYTES);
        wv_write_u32(w, m->acks[--m->n_acks]);
    }
}

uint32_t rift_mtu_due(const struct rift_mtu *m, uint64_t now)
{
    if (m->probe == 0)
        return 0;
    if (m->write_small)
        return SMALL_BYTES;
    return m->tries < PROBES && now >= m->send_at ? m->probe : 0;
}

static void write_probe(struct wv_writer *w, uint32_t id)
{
    wv_write_u8(w, RIFT_WIRE_MTU_PROBE);
    wv_write_u16(w, RIFT_MTU_ID_BYTES);
    wv_write_u32(w, id);
    size_t space = wv_writer_space(w);
    if (space < RIFT_FRAME_HEADER_BYTES)
        return;
    size_t padding = space - RIFT_FRAME_HEADER_BYTES;
    wv_write_u8(w, RIFT_WIRE_PADDING);
    wv_write_u16(w, (uint16_t)padding);
    uint8_t *zeros = wv_write_reserve(w, padding);
    if (zeros)
        memset(zeros, 0, padding);
}

void rift_mtu_write(struct rift_mtu *m, struct wv_writer *w, uint64_t rto_ns, uint64_t now)
{
    if (m->write_small) {
        m->write_small = false;
        write_probe(w, m->next_id - 1);
        return;
    }
    write_probe(w, m->next_id);
    m->next_id += 2;
    m->tries++;
    m->probes++;
    m->write_small = m->confirming;
    m->small_came = !m->confirming;
    m->send_at = now + WV_MAX(rto_ns, (uint64_t)WAIT_MIN_NS);
}

uint64_t rift_mtu_timeout(const struct rift_mtu *m)
{
    if (m->n_acks || m->write_small)
        return 0;
    return m->probe ? m->send_at : RIFT_NEVER;
}
