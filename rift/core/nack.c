/* What the joiner asks for again, and until when. A hole is asked for after a short wait (datagrams overtake
 * each other), again after each round trip, and given up when the answer would come too late to be shown. */
#include "lib/base/util.h"
#include "rift/core/join.h"

#define REORDER_MIN_NS  (1 * WV_NS_PER_MS)
#define REORDER_MAX_NS  (5 * WV_NS_PER_MS)
#define GIVE_UP_MIN_NS  (60 * WV_NS_PER_MS)
#define GIVE_UP_MAX_NS  (500 * WV_NS_PER_MS)
#define GIVE_UP_LAST_NS (1000 * WV_NS_PER_MS)
#define KEY_REPEAT_MIN  (50 * WV_NS_PER_MS)
#define KEY_REPEAT_MAX  (500 * WV_NS_PER_MS)
#define CHUNK_FRAGMENTS (RIFT_NACK_BITMAP_BYTES * 8)

static uint64_t clamp(uint64_t v, uint64_t low, uint64_t high)
{
    return v < low ? low : v > high ? high : v;
}

static uint64_t patience(const struct rift_join *j)
{
    return clamp(3 * rift_timing_rto(j->timing), GIVE_UP_MIN_NS, GIVE_UP_MAX_NS);
}

bool rift_nack_missing(const struct rift_join_slot *s, unsigned from, unsigned to)
{
    for (unsigned i = from; i < to;) {
        if (i % 64 == 0 && to - i >= 64 && s->have[i / 64] == UINT64_MAX) {
            i += 64;
            continue;
        }
        if (!(s->have[i / 64] >> i % 64 & 1))
            return true;
        i++;
    }
    return false;
}

/* One past the last fragment that should have come. */
static unsigned expected(const struct rift_join_slot *s)
{
    return s->whole ? s->head.count : s->high;
}

void rift_nack_hole(struct rift_join *j, struct rift_join_slot *s, uint64_t now)
{
    if (s->give_up_at == RIFT_NEVER) {
        s->give_up_at = now + patience(j);
        s->give_up_last = now + GIVE_UP_LAST_NS;
    }
    if (s->ask_at == RIFT_NEVER)
        s->ask_at = now + clamp(j->timing->srtt_ns / 8, REORDER_MIN_NS, REORDER_MAX_NS) + j->repair_wait_ns;
}

void rift_nack_progress(struct rift_join *j, struct rift_join_slot *s, uint64_t now)
{
    if (s->give_up_at == RIFT_NEVER)
        return;
    uint64_t later = now + rift_timing_rto(j->timing);
    if (later > s->give_up_at)
        s->give_up_at = WV_MIN(later, s->give_up_last);
}

static bool write_one(struct wv_writer *w, uint32_t id, unsigned first, const uint8_t *bitmap, size_t n_bytes)
{
    if (wv_writer_space(w) < RIFT_FRAME_HEADER_BYTES + RIFT_NACK_HEAD_BYTES + n_bytes)
        return false;
    wv_write_u8(w, RIFT_WIRE_VIDEO_NACK);
    wv_write_u16(w, (uint16_t)(RIFT_NACK_HEAD_BYTES + n_bytes));
    wv_write_u32(w, id);
    wv_write_u16(w, (uint16_t)first);
    wv_write_u8(w, (uint8_t)n_bytes);
    wv_write_span(w, bitmap, n_bytes);
    return true;
}

/* Asks for what is missing from FROM to TO. Returns false when it did not fit. */
static bool write_range(struct rift_join *j, const struct rift_join_slot *s, struct wv_writer *w,
                        unsigned from, unsigned to)
{
    while (from < to) {
        uint8_t bitmap[RIFT_NACK_BITMAP_BYTES] = {0};
        while (from < to && (s->have[from / 64] >> from % 64 & 1))
            from++;
        unsigned stop = WV_MIN(to, from + CHUNK_FRAGMENTS), last = from;
        for (unsigned i = from; i < stop; i++)
            if (!(s->have[i / 64] >> i % 64 & 1)) {
                bitmap[(i - from) / 8] |= (uint8_t)(1u << (i - from) % 8);
                last = i;
            }
        if (from == to)
            return true;
        if (!write_one(w, s->head.frame_id, from, bitmap, (last - from) / 8 + 1))
            return false;
        j->nacks_sent++;
        from = stop;
    }
    return true;
}

static bool write_slot(struct rift_join *j, struct rift_join_slot *s, struct wv_writer *w, uint64_t now)
{
    if (now < s->ask_at && now < s->repeat_at)
        return true;
    uint64_t again = now + rift_timing_rto(j->timing);
    if (!s->known) {
        if (!write_one(w, s->head.frame_id, 0, NULL, 0))
            return false;
        j->nacks_sent++;
        s->ask_at = RIFT_NEVER;
        s->repeat_at = again;
        return true;
    }
    bool repeat = now >= s->repeat_at, fresh = now >= s->ask_at;
    unsigned from = repeat ? 0 : s->asked, to = fresh ? expected(s) : s->asked;
    size_t before = w->length;
    if (!write_range(j, s, w, from, to) && before != 0)
        return false; /* whole in the next datagram; what does not even fit there waits for the repeat */
    if (fresh) {
        s->asked = (uint16_t)expected(s);
        s->ask_at = RIFT_NEVER;
    }
    if (repeat || s->repeat_at == RIFT_NEVER)
        s->repeat_at = rift_nack_missing(s, 0, s->asked) ? again : RIFT_NEVER;
    return true;
}

void rift_join_write_nacks(struct rift_join *j, struct wv_writer *w, uint64_t now)
{
    for (uint32_t id = j->head; id != j->end; id++) {
        struct rift_join_slot *s = rift_join_slot(j, id);
        if (!s->gone && !rift_join_complete(s) && !write_slot(j, s, w, now))
            return;
    }
}

void rift_join_write_key_request(struct rift_join *j, struct wv_writer *w, uint64_t now)
{
    if (!j->wants_key || now < j->key_ask_at ||
        wv_writer_space(w) < RIFT_FRAME_HEADER_BYTES + RIFT_KEYFRAME_REQUEST_BYTES)
        return;
    uint32_t done = 0;
    bool any = rift_join_done(j, &done);
    wv_write_u8(w, RIFT_WIRE_KEYFRAME_REQUEST);
    wv_write_u16(w, RIFT_KEYFRAME_REQUEST_BYTES);
    wv_write_u8(w, any);
    wv_write_u32(w, done);
    j->key_requests++;
    j->key_ask_at = now + clamp(2 * rift_timing_rto(j->timing), KEY_REPEAT_MIN, KEY_REPEAT_MAX);
}

uint64_t rift_join_timeout(const struct rift_join *j)
{
    uint64_t at = j->wants_key ? j->key_ask_at : RIFT_NEVER;
    for (uint32_t id = j->head; id != j->end; id++) {
        const struct rift_join_slot *s = &j->slots[id % RIFT_VIDEO_FRAMES];
        if (s->gone || rift_join_complete(s))
            continue;
        at = rift_earlier(at, rift_earlier(s->ask_at, s->repeat_at));
        if (id == j->head)
            at = rift_earlier(at, s->give_up_at);
    }
    return at;
}
