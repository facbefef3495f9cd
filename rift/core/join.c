#include "rift/core/join.h"

#include "lib/base/util.h"

#include <errno.h>
#include <string.h>

void rift_join_init(struct rift_join *j, struct rift_pool *pool, const struct rift_timing *timing)
{
    memset(j, 0, sizeof *j);
    j->pool = pool;
    j->timing = timing;
}

struct rift_join_slot *rift_join_slot(struct rift_join *j, uint32_t id)
{
    return &j->slots[id % RIFT_VIDEO_FRAMES];
}

bool rift_join_complete(const struct rift_join_slot *s)
{
    return s->known && s->received == s->head.count;
}

static void return_lent(struct rift_join *j)
{
    rift_pool_give(j->pool, &j->lent);
}

void rift_join_let_go(struct rift_join *j)
{
    return_lent(j);
}

static void clear_buffer(struct rift_join *j, struct rift_join_slot *s)
{
    j->stored_bytes -= s->buffer.capacity;
    rift_pool_give(j->pool, &s->buffer);
}

static void open_slot(struct rift_join *j, uint32_t id)
{
    struct rift_join_slot *s = rift_join_slot(j, id);
    clear_buffer(j, s);
    s->used = true;
    s->known = s->gone = s->whole = s->mended = false;
    s->head = (struct rift_fragment){.frame_id = id};
    s->len = 0;
    s->received = s->high = s->asked = 0;
    s->ask_at = s->repeat_at = s->give_up_at = s->give_up_last = RIFT_NEVER;
}

/* Moves past the head. LOST: it was not handed out. */
static void pass_head(struct rift_join *j, bool lost)
{
    struct rift_join_slot *s = rift_join_slot(j, j->head);
    clear_buffer(j, s);
    s->used = false;
    if (j->key_complete && j->key_id == j->head)
        j->key_complete = false;
    j->head++;
    j->passed_any = true;
    if (lost) {
        j->frames_lost++;
        j->chain = false;
    }
}

static void need_key(struct rift_join *j, uint64_t now)
{
    if (j->wants_key)
        return;
    j->wants_key = true;
    j->key_ask_at = now;
}

static bool decodable(const struct rift_join *j, const struct rift_join_slot *s)
{
    return s->head.keyframe || (j->chain && s->head.epoch == j->epoch);
}

/* Moves the head over everything that can't be handed out any more. Afterwards the head is a whole, decodable
 * frame, or one worth waiting for, or the end. */
static void advance(struct rift_join *j, uint64_t now)
{
    while (j->head != j->end) {
        struct rift_join_slot *s = rift_join_slot(j, j->head);
        bool ready = rift_join_complete(s);
        if (ready && decodable(j, s))
            return;
        bool useless = s->known && !decodable(j, s);
        bool overtaken = j->key_complete && j->key_id != j->head;
        if (!useless && !overtaken && !s->gone && now < s->give_up_at)
            return;
        pass_head(j, true);
        if (!overtaken)
            need_key(j, now);
    }
}

/* Makes END include ID. Frames skipped over are missing as a whole. */
static void extend(struct rift_join *j, uint32_t id, uint64_t now)
{
    uint32_t ahead = id - j->head;
    if (ahead >= 2 * RIFT_VIDEO_FRAMES) {
        /* The stream went on without us: nothing of what is here connects to it. */
        while (j->head != j->end)
            pass_head(j, true);
        j->head = j->end = id;
        j->chain = false;
        j->passed_any = true;
        need_key(j, now);
    }
    while (id - j->head >= RIFT_VIDEO_FRAMES) {
        if (j->head == j->end)
            open_slot(j, j->end++);
        pass_head(j, true);
        need_key(j, now);
    }
    for (; rift_serial_after(id, j->end) || id == j->end; j->end++)
        open_slot(j, j->end);
    /* Everything before ID was sent before it. */
    for (uint32_t before = j->head; before != id; before++) {
        struct rift_join_slot *s = rift_join_slot(j, before);
        if (!s->whole) {
            s->whole = true;
            if (!rift_join_complete(s))
                rift_nack_hole(j, s, now);
        }
    }
}

/* Finds or opens the slot of ID; NULL when it is too old. */
static struct rift_join_slot *slot_for(struct rift_join *j, uint32_t id, uint64_t now)
{
    if (!j->started) {
        j->started = true;
        j->head = j->end = id;
    }
    if (rift_serial_after(j->head, id))
        return NULL;
    if (id - j->head >= j->end - j->head)
        extend(j, id, now);
    return rift_join_slot(j, id);
}

/* Reserves memory for a frame of NEED bytes; old frames give way, S doesn't. */
static int reserve(struct rift_join *j, struct rift_join_slot *s, size_t need, uint64_t now)
{
    uint32_t id = s->head.frame_id;
    while (j->stored_bytes + need > RIFT_VIDEO_BYTES && j->head != id) {
        pass_head(j, true);
        need_key(j, now);
    }
    if (j->stored_bytes + need > RIFT_VIDEO_BYTES)
        return -ENOMEM; /* newer frames hold it all: S, the oldest, will be given up */
    int r = rift_pool_take(j->pool, need, &s->buffer);
    if (r == 0)
        j->stored_bytes += s->buffer.capacity;
    return r;
}

/* Learns the shape of a frame from one of its parts. Returns 0, -EBADMSG when it contradicts an earlier part,
 * -ENOMEM. */
static int learn(struct rift_join *j, struct rift_join_slot *s, const struct rift_fragment *head,
                 uint64_t now)
{
    if (s->known) {
        bool same = s->head.epoch == head->epoch && s->head.keyframe == head->keyframe &&
                    s->head.count == head->count && s->head.size == head->size;
        return same ? 0 : -EBADMSG;
    }
    int r = reserve(j, s, (size_t)head->count * head->size, now);
    if (r < 0)
        return r;
    s->known = true;
    s->head = *head;
    memset(s->have, 0, sizeof s->have[0] * ((head->count + 63u) / 64u));
    s->first_ns = s->last_ns = now;
    /* All of an unknown frame was asked for, if anything was. */
    if (s->repeat_at != RIFT_NEVER)
        s->asked = head->count;
    return 0;
}

static int read_head(struct wv_reader *body, struct rift_fragment *ret_head)
{
    struct rift_fragment h = {0};
    h.frame_id = wv_read_u32(body);
    h.epoch = wv_read_u16(body);
    uint8_t flags = wv_read_u8(body);
    h.count = wv_read_u16(body);
    h.size = wv_read_u16(body);
    if (body->failed || flags > RIFT_VIDEO_KEY || h.count == 0 || h.size < RIFT_FRAGMENT_MIN_BYTES ||
        h.size > RIFT_FRAGMENT_MAX_BYTES)
        return -EBADMSG;
    /* The last fragment holds at least one byte. */
    if ((size_t)(h.count - 1) * h.size >= RIFT_FRAME_MAX_BYTES + RIFT_META_BYTES)
        return -EBADMSG;
    h.keyframe = flags & RIFT_VIDEO_KEY;
    *ret_head = h;
    return 0;
}

static void store(struct rift_join *j, struct rift_join_slot *s, unsigned index, const uint8_t *data,
                  size_t len, uint64_t now)
{
    uint64_t bit = UINT64_C(1) << index % 64;
    if (s->have[index / 64] & bit)
        return;
    s->have[index / 64] |= bit;
    memcpy(s->buffer.data + (size_t)index * s->head.size, data, len);
    if (index + 1u == s->head.count)
        s->len = (size_t)index * s->head.size + len;
    if (s->received++ == 0)
        s->first_ns = now;
    s->last_ns = now;
    if (index < s->high) {
        rift_nack_progress(j, s, now);
    } else {
        if (index > s->high && !s->whole)
            rift_nack_hole(j, s, now);
        s->high = (uint16_t)(index + 1);
    }
    if (!rift_join_complete(s)) {
        /* Nothing overdue is missing: the frame is only still on its way. */
        if (!s->whole && s->received == s->high)
            s->ask_at = s->repeat_at = s->give_up_at = RIFT_NEVER;
        return;
    }
    uint32_t id = s->head.frame_id;
    if (s->head.keyframe && (!j->key_complete || rift_serial_after(id, j->key_id))) {
        j->key_complete = true;
        j->key_id = id;
    }
}

int rift_join_fragment(struct rift_join *j, struct wv_reader *body, uint64_t now)
{
    return_lent(j);
    struct rift_fragment head;
    if (read_head(body, &head) < 0)
        return -EBADMSG;
    head.index = wv_read_u16(body);
    size_t len = body->left;
    bool last = head.index + 1 == head.count;
    if (body->failed || head.index >= head.count || len == 0 || (last ? len > head.size : len != head.size))
        return -EBADMSG;
    size_t total = (size_t)head.index * head.size + len;
    if (total > RIFT_FRAME_MAX_BYTES + RIFT_META_BYTES || (last && total <= RIFT_META_BYTES))
        return -EBADMSG;
    struct rift_join_slot *s = slot_for(j, head.frame_id, now);
    if (!s || s->gone || rift_join_complete(s))
        return 0;
    int r = learn(j, s, &head, now);
    if (r < 0)
        return r == -EBADMSG ? r : 0;
    store(j, s, head.index, wv_read_span(body, len), len, now);
    advance(j, now);
    return 0;
}

bool rift_join_recovered(struct rift_join *j, const struct rift_fragment *head, const uint8_t *data,
                         size_t len, uint64_t now)
{
    /* The rules of VIDEO hold for what it would have been. */
    size_t total = (size_t)head->index * head->size + len;
    if (head->size < RIFT_FRAGMENT_MIN_BYTES || head->size > RIFT_FRAGMENT_MAX_BYTES ||
        head->index >= head->count || head->count > RIFT_FRAGMENTS_MAX || len == 0 || len > head->size ||
        (head->index + 1 < head->count && len != head->size) ||
        total > RIFT_FRAME_MAX_BYTES + RIFT_META_BYTES ||
        (head->index + 1 == head->count && total <= RIFT_META_BYTES))
        return false;
    struct rift_join_slot *s = slot_for(j, head->frame_id, now);
    if (!s || s->gone || rift_join_complete(s) || learn(j, s, head, now) < 0 ||
        (s->have[head->index / 64] >> head->index % 64 & 1))
        return false;
    if (!s->mended)
        j->frames_repaired++;
    s->mended = true;
    store(j, s, head->index, data, len, now);
    advance(j, now);
    return true;
}

int rift_join_end(struct rift_join *j, struct wv_reader *body, uint64_t now)
{
    return_lent(j);
    struct rift_fragment head;
    if (read_head(body, &head) < 0 || body->left != 0)
        return -EBADMSG;
    struct rift_join_slot *s = slot_for(j, head.frame_id, now);
    if (!s || s->gone || rift_join_complete(s))
        return 0;
    int r = learn(j, s, &head, now);
    if (r < 0)
        return r == -EBADMSG ? r : 0;
    if (!s->whole) {
        s->whole = true;
        rift_nack_hole(j, s, now);
    }
    advance(j, now);
    return 0;
}

void rift_join_gone(struct rift_join *j, uint32_t id, uint64_t now)
{
    return_lent(j);
    if (!j->started || id - j->head >= j->end - j->head)
        return;
    struct rift_join_slot *s = rift_join_slot(j, id);
    if (!rift_join_complete(s))
        s->gone = true;
    advance(j, now);
}

void rift_join_tick(struct rift_join *j, uint64_t now)
{
    if (j->head != j->end)
        advance(j, now);
}

static void fill_event(const struct rift_join_slot *s, struct rift_event *ret_event)
{
    struct wv_reader r;
    wv_reader_init(&r, s->buffer.data, s->len);
    *ret_event = (struct rift_event){.kind = RIFT_EVENT_FRAME};
    struct rift_frame_meta *m = &ret_event->frame.meta;
    m->frame_id = s->head.frame_id;
    m->epoch = s->head.epoch;
    m->keyframe = s->head.keyframe;
    m->width = wv_read_u16(&r);
    m->height = wv_read_u16(&r);
    m->capture_us = wv_read_u64(&r);
    m->encoded_us = wv_read_u64(&r);
    m->input_seq = wv_read_u32(&r);
    ret_event->frame.len = r.left;
    ret_event->frame.data = wv_read_span(&r, r.left);
    ret_event->frame.first_packet_ns = s->first_ns;
    ret_event->frame.last_packet_ns = s->last_ns;
}

int rift_join_pop(struct rift_join *j, struct rift_event *ret_event, uint64_t now)
{
    return_lent(j);
    if (j->head == j->end)
        return RIFT_SESSION_NONE;
    advance(j, now);
    struct rift_join_slot *s = rift_join_slot(j, j->head);
    if (j->head == j->end || !rift_join_complete(s))
        return RIFT_SESSION_NONE;
    fill_event(s, ret_event);
    j->chain = true;
    j->epoch = s->head.epoch;
    if (s->head.keyframe)
        j->wants_key = false;
    j->lent = s->buffer;
    j->stored_bytes -= s->buffer.capacity;
    s->buffer = (struct rift_buffer){0};
    pass_head(j, false);
    j->frames_received++;
    /* The next one may have waited for this one to be judged. */
    advance(j, now);
    return 0;
}

void rift_join_want_keyframe(struct rift_join *j, uint64_t now)
{
    j->chain = false;
    need_key(j, now);
    rift_join_tick(j, now);
}

bool rift_join_done(const struct rift_join *j, uint32_t *ret_id)
{
    if (!j->passed_any)
        return false;
    *ret_id = j->head - 1;
    return true;
}

void rift_join_fini(struct rift_join *j)
{
    return_lent(j);
    for (unsigned i = 0; i < RIFT_VIDEO_FRAMES; i++)
        clear_buffer(j, &j->slots[i]);
    j->head = j->end;
    j->wants_key = false;
    j->key_complete = false;
}
