/* What the host and the client do in a simulated session, and the check of every single event. */
#include "lib/base/util.h"
#include "tests/sim/world.h"
#include "tests/unit/input_opened.h"

#include <stdlib.h>
#include <string.h>

/* Eight bytes of the object NUMBER from I on: any mixed-up, missing or repeated part shows. */
static uint64_t pattern(uint64_t number, size_t i)
{
    uint64_t x = (number + 1) * 0x9e3779b97f4a7c15 + i * 0xc2b2ae3d27d4eb4f;
    return x ^ x >> 29;
}

static void fill(uint8_t *data, size_t len, uint64_t number)
{
    for (size_t i = 0; i < len; i += 8) {
        uint64_t x = pattern(number, i);
        memcpy(data + i, &x, WV_MIN(len - i, sizeof x));
    }
}

static bool is_filled(const uint8_t *data, size_t len, uint64_t number)
{
    for (size_t i = 0; i < len; i += 8) {
        uint64_t x = pattern(number, i);
        if (memcmp(data + i, &x, WV_MIN(len - i, sizeof x)) != 0)
            return false;
    }
    return true;
}

static uint64_t host_now(const struct sim_world *w)
{
    return w->now + w->host_clock;
}

static uint64_t client_now(const struct sim_world *w)
{
    return w->now + w->client_clock;
}

static void send_frame(struct sim_world *w)
{
    if (w->n_frames == SIM_FRAMES)
        return;
    uint64_t target_bps = rift_session_target_bps(w->host, host_now(w));
    if (target_bps && !rift_session_frame_wanted(w->host, host_now(w)))
        return;
    struct sim_frame *f = &w->frames[w->n_frames];
    bool new_epoch = w->n_frames == 0 || (!w->quiet && sim_random_hit(&w->random, 8000));
    bool key = new_epoch || w->force_key;
    w->epoch += new_epoch;
    *f = (struct sim_frame){.len =
                                1 + sim_random_below(&w->random, key ? 8 * w->frame_bytes : w->frame_bytes)};
    /* An encoder that obeys, if not to the letter. */
    uint64_t most = target_bps / 8 * w->frame_pause / WV_NS_PER_S * (key ? 8 : 2) + 100;
    if (target_bps)
        f->len = WV_MIN(f->len, (size_t)most);
    f->meta = (struct rift_frame_meta){
        .frame_id = w->n_frames + (uint32_t)w->seed * 0x10000000u - 40, /* some seeds wrap */
        .epoch = w->epoch,
        .keyframe = key,
        .width = 1280,
        .height = (uint16_t)(1 + sim_random_below(&w->random, 65535)),
        .capture_us = host_now(w) / 1000,
        .encoded_us = host_now(w) / 1000 + 7,
        .input_seq = (uint32_t)sim_random_next(&w->random),
    };
    uint8_t *data = malloc(f->len);
    if (!data)
        abort();
    fill(data, f->len, f->meta.frame_id);
    int r = rift_session_send_frame(w->host, &f->meta, data, f->len, host_now(w));
    free(data);
    if (r < 0)
        sim_fail(w, "send_frame: %d", r);
    if (r == 0)
        w->last_accepted = f->meta.frame_id;
    w->force_key = r == RIFT_SESSION_FULL; /* the decoder will miss that one */
    w->n_frames++;
}

static void send_message(struct sim_world *w, struct sim_messages *m, bool from_host)
{
    if (m->sent == SIM_MESSAGES)
        return;
    uint32_t len = (uint32_t)sim_random_below(&w->random, 200);
    if (sim_random_hit(&w->random, 30000))
        len = (uint32_t)sim_random_below(&w->random, RIFT_CONTROL_MAX_BYTES + 1);
    uint8_t *data = malloc(len + 1);
    if (!data)
        abort();
    fill(data, len, m->salt + m->sent);
    int r = from_host ? rift_session_send_control(w->host, data, len, host_now(w))
                      : rift_session_send_control(w->client, data, len, client_now(w));
    free(data);
    if (r < 0)
        sim_fail(w, "send_control: %d", r);
    if (r == 0)
        m->lengths[m->sent++] = len;
}

void sim_skip_gone(struct sim_messages *m)
{
    while (m->received < m->sent && m->gone[m->received])
        m->received++;
}

static bool is_message(const struct sim_messages *m, unsigned i, const struct rift_event *e)
{
    return i < m->sent && !m->gone[i] && e->control.len == m->lengths[i] &&
           is_filled(e->control.data, e->control.len, m->salt + i);
}

static void got_message(struct sim_world *w, struct sim_messages *m, const struct rift_event *e, bool by_host)
{
    sim_skip_gone(m);
    /* A host that came back hands out again what its stored state did not know to be taken. */
    if (by_host && w->restarts && e->control.number <= m->received) {
        if (!is_message(m, e->control.number - 1, e))
            sim_fail(w, "control message %u differs the second time", e->control.number);
        return;
    }
    if (by_host && e->control.number != m->received + 1)
        sim_fail(w, "control message %u after %u", e->control.number, m->received);
    if (!is_message(m, m->received, e))
        sim_fail(w, "control message %u differs, or was never sent", m->received);
    m->received++;
}

void sim_host_step(struct sim_world *w)
{
    if (w->now >= w->next_frame) {
        send_frame(w);
        w->next_frame = w->ended ? UINT64_MAX : w->now + w->frame_pause;
        if (!w->quiet && sim_random_hit(&w->random, 10000))
            w->next_frame += sim_random_below(&w->random, 400 * WV_NS_PER_MS); /* a still screen */
    }
    if (w->now >= w->next_cursor) {
        w->cursor = (struct rift_cursor){
            .x = (uint16_t)sim_random_next(&w->random),
            .y = (uint16_t)sim_random_next(&w->random),
            .visible = sim_random_hit(&w->random, 500000),
            .shape_id = w->cursor.shape_id + 1,
        };
        rift_session_send_cursor(w->host, &w->cursor, host_now(w));
        w->cursor_sent = true;
        w->next_cursor = w->quiet ? UINT64_MAX : w->now + sim_random_below(&w->random, 100 * WV_NS_PER_MS);
    }
    if (w->now >= w->next_message) {
        send_message(w, &w->down, true);
        send_message(w, &w->up, false);
        w->next_message = w->quiet ? UINT64_MAX : w->now + sim_random_below(&w->random, 100 * WV_NS_PER_MS);
    }
}

static struct rift_input_event random_event(struct sim_world *w)
{
    struct rift_input_event e = {.time_us = client_now(w) / 1000};
    uint64_t pick = sim_random_below(&w->random, 20);
    if (pick < 4) {
        e.kind = pick < 2 ? RIFT_INPUT_KEY : RIFT_INPUT_BUTTON;
        e.code = (uint16_t)(1 + sim_random_below(&w->random, 700));
        e.down = (uint8_t)sim_random_below(&w->random, 2);
    } else if (pick < 10) {
        e.kind = RIFT_INPUT_POINTER_ABS;
        e.x = (int32_t)sim_random_below(&w->random, 65536);
        e.y = (int32_t)sim_random_below(&w->random, 65536);
    } else if (pick < 19) {
        e.kind = pick < 17 ? RIFT_INPUT_POINTER_REL : RIFT_INPUT_SCROLL;
        e.x = (int32_t)sim_random_below(&w->random, 65536) - 32768;
        e.y = (int32_t)sim_random_below(&w->random, 65536) - 32768;
    } else {
        e.kind = RIFT_INPUT_RELEASE_ALL;
    }
    return e;
}

/* Books EVENT as sent under SEQ; the session may have joined it to the one before. */
static void book_input(struct sim_world *w, const struct rift_input_event *event, uint32_t seq)
{
    if (seq == w->n_events + 1) {
        w->events[++w->n_events] = *event;
        return;
    }
    struct rift_input_event *last = &w->events[w->n_events];
    if (seq != w->n_events || last->kind != event->kind)
        sim_fail(w, "input sequence %u after %u", seq, w->n_events);
    else if (event->kind == RIFT_INPUT_POINTER_REL) {
        last->x += event->x;
        last->y += event->y;
        last->time_us = event->time_us;
    } else if (event->kind == RIFT_INPUT_POINTER_ABS) {
        *last = *event;
    } else if (event->kind != RIFT_INPUT_RELEASE_ALL) {
        sim_fail(w, "event of kind %u was joined to another", event->kind);
    }
}

void sim_client_step(struct sim_world *w)
{
    if (w->now < w->next_input)
        return;
    w->next_input = w->quiet ? UINT64_MAX : w->now + sim_random_below(&w->random, w->input_pause);
    uint64_t burst = sim_random_hit(&w->random, 5000) ? 300 : 1;
    while (burst-- && w->n_events + 1 < SIM_EVENTS) {
        struct rift_input_event e = random_event(w);
        uint32_t seq;
        int r = rift_session_send_input(w->client, &e, client_now(w), &seq);
        if (r < 0 || (r == RIFT_SESSION_FULL && e.kind == RIFT_INPUT_RELEASE_ALL))
            sim_fail(w, "send_input: %d", r);
        if (r == 0)
            book_input(w, &e, seq);
    }
    if (!w->quiet && sim_random_hit(&w->random, 500)) {
        rift_session_request_keyframe(w->client, client_now(w));
        w->app_key_requests++;
        w->any_frame = false; /* from now on only a keyframe will do */
    }
}

static bool same_event(const struct rift_input_event *a, const struct rift_input_event *b)
{
    /* The time of a joined RELEASE_ALL may be either's. */
    return a->kind == b->kind && a->down == b->down && a->code == b->code && a->x == b->x && a->y == b->y &&
           (a->time_us == b->time_us || a->kind == RIFT_INPUT_RELEASE_ALL);
}

static void got_input(struct sim_world *w, const struct rift_event *e)
{
    uint32_t seq = e->input.seq;
    struct rift_input_event event;
    if (input_opened(w->input_key, e, &event) < 0)
        sim_fail(w, "input event %u does not open", seq);
    else if (w->restarts && seq <= w->n_seen) { /* again, from the stored state */
        if (!same_event(&w->seen[seq], &event))
            sim_fail(w, "input event %u differs the second time", seq);
    } else if (seq != w->n_seen + 1)
        sim_fail(w, "input event %u after %u", seq, w->n_seen);
    else if (seq > w->n_events || !same_event(&w->events[seq], &event))
        sim_fail(w, "input event %u differs", seq);
    else
        w->seen[++w->n_seen] = event;
}

unsigned sim_host_events(struct sim_world *w)
{
    struct rift_event e;
    unsigned n = 0;
    for (; rift_session_next_event(w->host, &e) == 0; n++) {
        if (w->host_ended)
            sim_fail(w, "host: an event after CLOSED");
        if (e.kind == RIFT_EVENT_INPUT) {
            got_input(w, &e);
        } else if (e.kind == RIFT_EVENT_CONTROL) {
            got_message(w, &w->up, &e, true);
        } else if (e.kind == RIFT_EVENT_KEYFRAME_REQUEST) {
            w->force_key = true;
            w->key_events++;
            if (w->ended)
                w->next_frame = w->now; /* a still screen: the encoder is asked all the same */
        } else if (e.kind == RIFT_EVENT_CLOSED) {
            w->host_ended = true;
            if (!w->closing)
                sim_fail(w, "host: closed with reason %d: %s", (int)e.closed.reason, e.closed.text);
            w->host_closed = e.closed.reason;
        } else {
            sim_fail(w, "host: event of kind %d", (int)e.kind);
        }
    }
    return n;
}

static void got_frame(struct sim_world *w, const struct rift_event *e)
{
    const struct rift_frame_meta *m = &e->frame.meta;
    uint32_t index = m->frame_id - w->frames[0].meta.frame_id;
    if (index >= w->n_frames) {
        sim_fail(w, "frame %u was never sent", m->frame_id);
        return;
    }
    const struct sim_frame *f = &w->frames[index];
    if (w->frames_seen && (int32_t)(m->frame_id - w->last_frame) <= 0)
        sim_fail(w, "frame %u after %u", m->frame_id, w->last_frame);
    if (m->epoch != f->meta.epoch || m->keyframe != f->meta.keyframe || m->width != f->meta.width ||
        m->height != f->meta.height || m->capture_us != f->meta.capture_us ||
        m->encoded_us != f->meta.encoded_us || m->input_seq != f->meta.input_seq)
        sim_fail(w, "frame %u: meta data differ", m->frame_id);
    if (e->frame.len != f->len || !is_filled(e->frame.data, f->len, m->frame_id))
        sim_fail(w, "frame %u is torn", m->frame_id);
    if (!m->keyframe &&
        (!w->any_frame || m->frame_id != w->last_frame + 1 || m->epoch != w->frames[index - 1].meta.epoch))
        sim_fail(w, "frame %u can't be decoded after %u", m->frame_id, w->last_frame);
    w->any_frame = true;
    w->last_frame = m->frame_id;
    w->frames_seen++;
}

unsigned sim_client_events(struct sim_world *w)
{
    struct rift_event e;
    unsigned n = 0;
    for (; rift_session_next_event(w->client, &e) == 0; n++) {
        if (w->client_ended)
            sim_fail(w, "client: an event after CLOSED");
        if (e.kind == RIFT_EVENT_FRAME) {
            got_frame(w, &e);
        } else if (e.kind == RIFT_EVENT_CONTROL) {
            got_message(w, &w->down, &e, false);
        } else if (e.kind == RIFT_EVENT_CURSOR) {
            if (e.cursor.shape_id <= w->cursor_seen.shape_id)
                sim_fail(w, "cursor %u after %u", e.cursor.shape_id, w->cursor_seen.shape_id);
            w->cursor_seen = e.cursor;
        } else if (e.kind == RIFT_EVENT_CLOSED) {
            w->client_ended = true;
            if (!w->closing)
                sim_fail(w, "client: closed with reason %d: %s", (int)e.closed.reason, e.closed.text);
            w->client_closed = e.closed.reason;
        } else {
            sim_fail(w, "client: event of kind %d", (int)e.kind);
        }
    }
    return n;
}

uint64_t sim_next_step(const struct sim_world *w)
{
    uint64_t at = w->next_frame;
    at = WV_MIN(at, w->next_cursor);
    at = WV_MIN(at, w->next_message);
    return WV_MIN(at, w->next_input);
}
