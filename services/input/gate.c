#include "services/input/gate.h"

#include "lib/base/bytes.h"
#include "lib/base/util.h"

#include <linux/input-event-codes.h>
#include <string.h>

#define MAX_SCROLL 2400 /* 20 detents in one event: more is no wheel */

static bool is_button(uint32_t code)
{
    return code >= BTN_MOUSE && code <= BTN_TASK;
}

static bool is_key(uint32_t code)
{
    /* Between are buttons of mice, joysticks, pads and tablets. */
    return (code > KEY_RESERVED && code < BTN_MISC) || (code >= KEY_OK && code < BTN_DPAD_UP) ||
           (code > BTN_DPAD_RIGHT && code < BTN_TRIGGER_HAPPY);
}

static bool within(int32_t v, int32_t low, int32_t high)
{
    return v >= low && v <= high;
}

bool wv_gate_in_range(const struct rift_input_event *e)
{
    switch (e->kind) {
    case RIFT_INPUT_KEY:
        return e->down <= 1 && is_key(e->code);
    case RIFT_INPUT_BUTTON:
        return e->down <= 1 && is_button(e->code);
    case RIFT_INPUT_POINTER_ABS:
        return within(e->x, 0, 65535) && within(e->y, 0, 65535);
    case RIFT_INPUT_POINTER_REL:
        return within(e->x, INT16_MIN, INT16_MAX) && within(e->y, INT16_MIN, INT16_MAX);
    case RIFT_INPUT_SCROLL:
        return within(e->x, -MAX_SCROLL, MAX_SCROLL) && within(e->y, -MAX_SCROLL, MAX_SCROLL);
    case RIFT_INPUT_RELEASE_ALL:
        return true;
    default:
        return false;
    }
}

bool wv_gate_holds(const struct wv_gate *g, uint16_t code)
{
    return code < WV_INPUT_CODES && (g->held[code / 64] >> (code % 64) & 1);
}

static void set_held(struct wv_gate *g, uint16_t code, bool held)
{
    uint64_t bit = UINT64_C(1) << (code % 64);

    if (held)
        g->held[code / 64] |= bit;
    else
        g->held[code / 64] &= ~bit;
    wv_input_page_set_held(g->page, code, held);
}

void wv_gate_init(struct wv_gate *g, struct wv_input_page *page)
{
    uint16_t codes[WV_INPUT_CODES];
    size_t n = wv_input_page_held(page, codes, WV_ARRAY_SIZE(codes));

    *g = (struct wv_gate){.page = page, .tokens = WV_GATE_BURST};
    for (size_t i = 0; i < n; i++) {
        if (codes[i] < WV_INPUT_CODES && (is_key(codes[i]) || is_button(codes[i])))
            set_held(g, codes[i], true);
        else
            wv_input_page_set_held(page, codes[i], false); /* nothing that we ever pressed */
    }
}

/* Releases CODE. Returns 0 or WV_BACKEND_LOST. */
static int release(struct wv_gate *g, uint16_t code)
{
    struct rift_input_event up = {.kind = is_button(code) ? RIFT_INPUT_BUTTON : RIFT_INPUT_KEY, .code = code};
    int r = g->backend->ops->inject(g->backend, &up);

    if (r == WV_BACKEND_LOST)
        return r;
    g->released++;
    return 0;
}

int wv_gate_release_all(struct wv_gate *g)
{
    uint64_t before[WV_INPUT_CODES / 64];
    bool any = false;

    if (!g->backend)
        return 0;
    for (unsigned i = 0; i < WV_ARRAY_SIZE(before); i++)
        before[i] = g->held[i];
    for (uint16_t code = 0; code < WV_INPUT_CODES; code++) {
        if (!wv_gate_holds(g, code))
            continue;
        any = true;
        if (release(g, code))
            return WV_GATE_LOST;
    }
    if (any && g->backend->ops->flush(g->backend))
        return WV_GATE_LOST;
    /* Only now: who dies in between leaves them to its successor. */
    for (uint16_t code = 0; code < WV_INPUT_CODES; code++)
        if (before[code / 64] >> (code % 64) & 1)
            set_held(g, code, false);
    return 0;
}

int wv_gate_set_backend(struct wv_gate *g, struct wv_backend *backend)
{
    g->backend = backend;
    return wv_gate_release_all(g);
}

static bool take_token(struct wv_gate *g, uint64_t now)
{
    uint64_t gained = (now - g->refill_ns) / (WV_NS_PER_S / WV_GATE_EVENTS_PER_SECOND);

    if (gained) {
        g->tokens = (uint32_t)WV_MIN(g->tokens + gained, (uint64_t)WV_GATE_BURST);
        g->refill_ns = now;
    }
    if (!g->tokens)
        return false;
    g->tokens--;
    return true;
}

/* Hands EVENT to the backend. */
static int inject(struct wv_gate *g, const struct rift_input_event *event, bool *ret_urgent)
{
    int r;

    if (!g->backend) {
        g->refused_no_backend++;
        return 0;
    }
    r = g->backend->ops->inject(g->backend, event);
    if (r == WV_BACKEND_UNSUPPORTED)
        g->refused_range++;
    if (r)
        return r;
    g->injected++;
    *ret_urgent |= event->kind != RIFT_INPUT_POINTER_ABS && event->kind != RIFT_INPUT_POINTER_REL;
    return 0;
}

/* A key or button. Only what we hold is released: what the host's own user holds is not ours. Releases are
 * free of the rate. */
static int press_or_release(struct wv_gate *g, const struct rift_input_event *event, uint64_t now,
                            bool *ret_urgent)
{
    int r;

    if (wv_gate_holds(g, event->code) == (event->down != 0))
        return 0; /* no change */
    if (!event->down) {
        if (!g->backend)
            return 0; /* stays noted, and comes up with the next backend */
        r = inject(g, event, ret_urgent);
        if (r != WV_BACKEND_LOST)
            set_held(g, event->code, false);
        return r;
    }
    if (!take_token(g, now)) {
        g->refused_rate++;
        return 0;
    }
    if (!g->backend)
        return inject(g, event, ret_urgent);
    set_held(g, event->code, true);
    r = inject(g, event, ret_urgent);
    if (r == WV_BACKEND_UNSUPPORTED)
        set_held(g, event->code, false);
    return r;
}

/* Returns 0 or WV_GATE_LOST. */
static int deal_with(struct wv_gate *g, const struct rift_input_event *event, uint64_t now, bool *ret_urgent)
{
    int r;

    if (!wv_gate_in_range(event)) {
        g->refused_range++;
        return 0;
    }
    if (event->kind == RIFT_INPUT_RELEASE_ALL)
        return wv_gate_release_all(g);
    if (event->kind == RIFT_INPUT_KEY || event->kind == RIFT_INPUT_BUTTON) {
        r = press_or_release(g, event, now, ret_urgent);
    } else if (take_token(g, now)) {
        r = inject(g, event, ret_urgent);
    } else {
        g->refused_rate++;
        r = 0;
    }
    return r == WV_BACKEND_LOST ? WV_GATE_LOST : 0;
}

int wv_gate_set_controller(struct wv_gate *g, uint32_t session, const uint8_t key[RIFT_INNER_KEY_BYTES])
{
    uint32_t seq;
    int r = 0;

    if (session != g->session)
        r = wv_gate_release_all(g);
    if (session != g->session && session)
        g->forgotten = wv_input_page_begin(g->page, session, &seq) == WV_INPUT_PAGE_FORGOTTEN;
    g->session = session;
    if (session)
        memcpy(g->key, key, sizeof(g->key));
    else
        explicit_bzero(g->key, sizeof(g->key));
    return r;
}

/* ---- batches ---- */

/* The 20 bytes of an event, WIRE.md section 4. */
static struct rift_input_event read_event(const uint8_t plain[RIFT_INPUT_PLAIN_BYTES])
{
    struct wv_reader r;
    struct rift_input_event e;

    wv_reader_init(&r, plain, RIFT_INPUT_PLAIN_BYTES);
    e.kind = wv_read_u8(&r);
    e.down = wv_read_u8(&r);
    e.code = wv_read_u16(&r);
    e.x = (int32_t)wv_read_u32(&r);
    e.y = (int32_t)wv_read_u32(&r);
    e.time_us = wv_read_u64(&r);
    return e;
}

static bool lets_go(const struct rift_input_event *e)
{
    return e->kind == RIFT_INPUT_RELEASE_ALL ||
           ((e->kind == RIFT_INPUT_KEY || e->kind == RIFT_INPUT_BUTTON) && !e->down);
}

/* When event I of B came; what can't be is taken as now. */
static uint64_t came(const struct wv_sealed_batch *b, size_t i, uint64_t now_us)
{
    return i < b->n_came ? WV_MIN(b->came_us[i], now_us) : now_us;
}

/* The event is authentic, and number SEQ is its turn. Returns 0 or WV_GATE_LOST. */
static int take(struct wv_gate *g, const struct rift_input_event *event, bool gap, uint64_t came_us,
                uint64_t now, bool *ret_urgent)
{
    uint64_t now_us = now / WV_NS_PER_US;

    if (g->seen)
        g->seen(g->userdata, event->time_us, came_us);
    if (gap) {
        g->gaps++;
        if (wv_gate_release_all(g) == WV_GATE_LOST)
            return WV_GATE_LOST;
    }
    if (now_us - came_us > WV_GATE_STALE_US && !lets_go(event)) {
        g->refused_stale++;
        return 0;
    }
    return deal_with(g, event, now, ret_urgent);
}

/* One event of the batch. RET_DONE: number of the last one taken. Returns 0 or WV_GATE_LOST. */
static int open_one(struct wv_gate *g, const struct wv_sealed_batch *b, size_t i, uint64_t now,
                    bool *ret_urgent, uint32_t *ret_done)
{
    uint32_t seq = b->first_seq + (uint32_t)i;
    uint8_t plain[RIFT_INPUT_PLAIN_BYTES];
    struct rift_input_event event;
    bool gap;

    if (seq <= *ret_done) {
        g->repeated++;
        return 0;
    }
    if (rift_input_open(g->key, seq, b->events + i * RIFT_INPUT_SEALED_BYTES, plain) < 0) {
        g->refused_forged++; /* its number stays free: a forgery takes nothing from the true one */
        return 0;
    }
    event = read_event(plain);
    explicit_bzero(plain, sizeof(plain));
    gap = seq != *ret_done + 1;
    *ret_done = seq;
    return take(g, &event, gap, came(b, i, now / WV_NS_PER_US), now, ret_urgent);
}

int wv_gate_batch(struct wv_gate *g, const struct wv_sealed_batch *b, uint64_t now, bool *ret_urgent,
                  uint32_t *ret_done)
{
    uint32_t done, last = b->first_seq;
    bool lost = false;

    *ret_urgent = false;
    if (!g->session || b->session != g->session)
        return WV_GATE_NOT_CONTROLLER;
    if (g->forgotten) {
        g->refused_forged += b->n;
        *ret_done = b->n ? (uint32_t)WV_MIN(b->first_seq + (uint64_t)b->n - 1, (uint64_t)UINT32_MAX) : 0;
        return 0;
    }
    done = wv_input_page_injected(g->page);
    for (size_t i = 0; i < b->n && (uint64_t)b->first_seq + i <= UINT32_MAX; i++) {
        last = b->first_seq + (uint32_t)i;
        lost |= open_one(g, b, i, now, ret_urgent, &done) == WV_GATE_LOST;
        if (lost)
            g->backend = NULL; /* the rest finds no backend; the owner closes it */
    }
    if (g->backend)
        lost |= g->backend->ops->flush(g->backend) == WV_BACKEND_LOST;
    wv_input_page_set_injected(g->page, g->session, done);
    *ret_done = b->n ? WV_MAX(done, last) : done;
    return lost ? WV_GATE_LOST : 0;
}
