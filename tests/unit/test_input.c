/* What may be injected and what happens to what is held (events sealed as by a client, a backend that only
 * writes down what it is told), and the words that the kernel's virtual devices are told. */
#include "lib/base/bytes.h"
#include "lib/base/util.h"
#include "rift/crypto/identity.h"
#include "services/input/gate.h"
#include "services/input/uinput_translate.h"
#include "tests/unit/suite.h"

#include <linux/input-event-codes.h>
#include <stdlib.h>
#include <string.h>

#define NOW    (100 * WV_NS_PER_S)
#define SEALED RIFT_INPUT_SEALED_BYTES

/* ---- a backend that writes down ---- */

struct recorder {
    struct wv_backend base;
    struct rift_input_event events[4096];
    size_t n;
    unsigned flushes;
    bool page_says_held; /* at the time of each press */
    struct wv_input_page *page;
    size_t lost_after; /* 0: never */
};

static int record(struct wv_backend *b, const struct rift_input_event *event)
{
    struct recorder *r = (struct recorder *)b;
    uint16_t held[WV_INPUT_CODES];
    size_t n = wv_input_page_held(r->page, held, WV_INPUT_CODES);

    if (r->lost_after && r->n >= r->lost_after)
        return WV_BACKEND_LOST;
    if (event->kind == RIFT_INPUT_KEY && event->code == KEY_UNKNOWN)
        return WV_BACKEND_UNSUPPORTED;
    ck_assert_uint_lt(r->n, WV_ARRAY_SIZE(r->events));
    if (event->kind <= RIFT_INPUT_BUTTON) {
        /* Before it goes down, and until it has come up, it stands on the page. */
        bool found = false;

        for (size_t i = 0; i < n; i++)
            found |= held[i] == event->code;
        r->page_says_held &= found;
    }
    r->events[r->n++] = *event;
    return 0;
}

static int count_flush(struct wv_backend *b)
{
    ((struct recorder *)b)->flushes++;
    return 0;
}

static const struct wv_backend_ops recorder_ops = {
    .name = "recorder", .inject = record, .flush = count_flush};

struct fixture {
    int fd;
    struct wv_input_page *page;
    struct wv_gate gate;
    struct recorder recorder;
    bool urgent;
    uint32_t done;
};

static struct fixture f;
static uint8_t sealed[4096 * SEALED];

static void set_up(void)
{
    memset(&f, 0, sizeof(f));
    ck_assert_int_eq(rift_crypto_init(), 0);
    ck_assert_int_eq(wv_input_page_create(&f.fd), 0);
    ck_assert_int_eq(wv_input_page_map(&f.page, f.fd, true), 0);
    f.recorder.base = (struct wv_backend){.ops = &recorder_ops, .fd = -1};
    f.recorder.page = f.page;
    f.recorder.page_says_held = true;
    wv_gate_init(&f.gate, f.page);
    ck_assert_int_eq(wv_gate_set_backend(&f.gate, &f.recorder.base), 0);
}

static void tear_down(void)
{
    wv_input_page_unmap(f.page);
    close(f.fd);
}

static struct rift_input_event key(uint16_t code, bool down)
{
    return (struct rift_input_event){.kind = RIFT_INPUT_KEY, .down = down, .code = code};
}

static struct rift_input_event button(uint16_t code, bool down)
{
    return (struct rift_input_event){.kind = RIFT_INPUT_BUTTON, .down = down, .code = code};
}

static struct rift_input_event pointer(uint8_t kind, int32_t x, int32_t y)
{
    return (struct rift_input_event){.kind = kind, .x = x, .y = y};
}

static const uint8_t *key_of(uint32_t session)
{
    static uint8_t key[RIFT_INNER_KEY_BYTES];

    memset(key, (int)session, sizeof(key));
    return key;
}

/* As the client of SESSION does, from number FIRST_SEQ on; into `sealed`. */
static void seal(uint32_t session, uint32_t first_seq, const struct rift_input_event *events, size_t n)
{
    ck_assert_uint_le(n * SEALED, sizeof(sealed));
    for (size_t i = 0; i < n; i++) {
        uint8_t plain[RIFT_INPUT_PLAIN_BYTES];
        struct wv_writer w;

        wv_writer_init(&w, plain, sizeof(plain));
        wv_write_u8(&w, events[i].kind);
        wv_write_u8(&w, events[i].down);
        wv_write_u16(&w, events[i].code);
        wv_write_u32(&w, (uint32_t)events[i].x);
        wv_write_u32(&w, (uint32_t)events[i].y);
        wv_write_u64(&w, events[i].time_us);
        ck_assert_uint_eq(w.length, sizeof(plain));
        rift_input_seal(key_of(session), first_seq + (uint32_t)i, plain, sealed + i * SEALED);
    }
}

/* Hands over N events of `sealed`, which came when COME_NS says. */
static int hand_over(struct wv_gate *g, uint32_t session, uint32_t first_seq, size_t n, uint64_t come_ns,
                     uint64_t now)
{
    static uint64_t came[4096];
    const struct wv_sealed_batch b = {
        .session = session, .first_seq = first_seq, .events = sealed, .n = n, .came_us = came, .n_came = n};

    for (size_t i = 0; i < n; i++)
        came[i] = come_ns / WV_NS_PER_US;
    f.urgent = false;
    return wv_gate_batch(g, &b, now, &f.urgent, &f.done);
}

/* SESSION controls, and its events come. */
static int batch_to(struct wv_gate *g, uint32_t session, uint32_t first_seq,
                    const struct rift_input_event *events, size_t n, uint64_t now)
{
    ck_assert_int_eq(wv_gate_set_controller(g, session, key_of(session)), 0);
    seal(session, first_seq, events, n);
    return hand_over(g, session, first_seq, n, now, now);
}

static int batch(uint32_t session, uint32_t first_seq, const struct rift_input_event *events, size_t n,
                 uint64_t now)
{
    return batch_to(&f.gate, session, first_seq, events, n, now);
}

static bool is_same(const struct rift_input_event *a, const struct rift_input_event *b)
{
    return a->kind == b->kind && a->down == b->down && a->code == b->code && a->x == b->x && a->y == b->y &&
           a->time_us == b->time_us;
}

static size_t held_on_page(void)
{
    uint16_t held[WV_INPUT_CODES];

    return wv_input_page_held(f.page, held, WV_INPUT_CODES);
}

/* ---- order ---- */

START_TEST(each_event_once_and_in_order)
{
    struct rift_input_event events[] = {key(KEY_A, true), pointer(RIFT_INPUT_POINTER_ABS, 1, 2),
                                        key(KEY_A, false), button(BTN_LEFT, true), button(BTN_LEFT, false)};

    ck_assert_int_eq(batch(7, 1, events, 3, NOW), 0);
    ck_assert(f.urgent);
    ck_assert_uint_eq(wv_input_page_injected(f.page), 3);
    ck_assert_int_eq(batch(7, 1, events, 5, NOW), 0); /* the first three again */
    ck_assert_uint_eq(f.recorder.n, 5);
    for (size_t i = 0; i < 5; i++)
        ck_assert(is_same(&f.recorder.events[i], &events[i]));
    ck_assert_uint_eq(wv_input_page_injected(f.page), 5);
    ck_assert_uint_eq(wv_input_page_session(f.page), 7);
    ck_assert_uint_eq(f.gate.repeated, 3);
    ck_assert_uint_eq(held_on_page(), 0);
    ck_assert(f.recorder.page_says_held);
    ck_assert_uint_eq(f.recorder.flushes, 2);
}
END_TEST

START_TEST(once_over_a_restart_too)
{
    struct rift_input_event events[] = {key(KEY_A, true), key(KEY_A, false), key(KEY_B, true)};
    struct wv_gate successor;

    ck_assert_int_eq(batch(7, 1, events, 2, NOW), 0);
    wv_gate_init(&successor, f.page);
    ck_assert_int_eq(wv_gate_set_backend(&successor, &f.recorder.base), 0);
    ck_assert_int_eq(batch_to(&successor, 7, 1, events, 3, NOW), 0);
    ck_assert_uint_eq(f.recorder.n, 3);
    ck_assert_uint_eq(f.recorder.events[2].code, KEY_B);
}
END_TEST

START_TEST(the_last_numbers_end)
{
    struct rift_input_event events[] = {key(KEY_A, true), key(KEY_A, false), key(KEY_B, true)};

    ck_assert_int_eq(batch(7, UINT32_MAX - 1, events, 3, NOW), 0);
    ck_assert_uint_eq(f.recorder.n, 2);
    ck_assert_uint_eq(wv_input_page_injected(f.page), UINT32_MAX);
}
END_TEST

START_TEST(motion_is_not_urgent)
{
    struct rift_input_event events[] = {pointer(RIFT_INPUT_POINTER_ABS, 5, 5),
                                        pointer(RIFT_INPUT_POINTER_REL, 5, 5)};
    struct rift_input_event wheel = pointer(RIFT_INPUT_SCROLL, 0, 120);

    ck_assert_int_eq(batch(1, 1, events, 2, NOW), 0);
    ck_assert(!f.urgent);
    ck_assert_int_eq(batch(1, 3, &wheel, 1, NOW), 0);
    ck_assert(f.urgent);
}
END_TEST

/* ---- what transport may do to it ---- */

START_TEST(forged_events_are_not_injected_and_take_nothing)
{
    struct rift_input_event events[] = {key(KEY_A, true), key(KEY_B, true), key(KEY_C, true)};

    ck_assert_int_eq(wv_gate_set_controller(&f.gate, 7, key_of(7)), 0);
    for (size_t bit = 0; bit < 8 * SEALED; bit++) {
        seal(7, 1, events, 1);
        sealed[bit / 8] ^= (uint8_t)(1 << bit % 8);
        ck_assert_int_eq(hand_over(&f.gate, 7, 1, 1, NOW, NOW), 0);
        ck_assert_uint_eq(f.done, 1); /* dealt with: transport need not keep it */
    }
    ck_assert_uint_eq(f.gate.refused_forged, 8 * SEALED);
    memset(sealed, 0, SEALED);
    ck_assert_int_eq(hand_over(&f.gate, 7, UINT32_MAX, 1, NOW, NOW), 0);
    ck_assert_uint_eq(f.recorder.n, 0);
    ck_assert_uint_eq(wv_input_page_injected(f.page), 0);
    /* The true ones are taken all the same; one of them damaged is a gap. */
    seal(7, 1, events, 3);
    sealed[SEALED + 3] ^= 1;
    ck_assert_int_eq(hand_over(&f.gate, 7, 1, 3, NOW, NOW), 0);
    ck_assert_uint_eq(f.recorder.n, 3);
    ck_assert_uint_eq(f.recorder.events[0].code, KEY_A);
    ck_assert_uint_eq(f.recorder.events[1].code, KEY_A); /* came up again */
    ck_assert_uint_eq(f.recorder.events[1].down, 0);
    ck_assert_uint_eq(f.recorder.events[2].code, KEY_C);
    ck_assert_uint_eq(f.gate.gaps, 1);
}
END_TEST

START_TEST(an_event_opens_under_its_own_number_only)
{
    struct rift_input_event events[] = {key(KEY_A, true), key(KEY_B, true)};

    ck_assert_int_eq(wv_gate_set_controller(&f.gate, 7, key_of(7)), 0);
    seal(7, 1, events, 2);
    ck_assert_int_eq(hand_over(&f.gate, 7, 2, 2, NOW, NOW), 0); /* 1 and 2 as 2 and 3 */
    ck_assert_int_eq(hand_over(&f.gate, 7, 0, 2, NOW, NOW), 0);
    ck_assert_uint_eq(f.recorder.n, 0);
    memcpy(sealed, sealed + SEALED, SEALED); /* changed places */
    ck_assert_int_eq(hand_over(&f.gate, 7, 1, 1, NOW, NOW), 0);
    ck_assert_uint_eq(f.recorder.n, 0);
}
END_TEST

START_TEST(another_sessions_events_do_not_open)
{
    struct rift_input_event a = key(KEY_A, true);

    ck_assert_int_eq(wv_gate_set_controller(&f.gate, 7, key_of(7)), 0);
    seal(8, 1, &a, 1);
    ck_assert_int_eq(hand_over(&f.gate, 8, 1, 1, NOW, NOW), WV_GATE_NOT_CONTROLLER);
    ck_assert_int_eq(hand_over(&f.gate, 7, 1, 1, NOW, NOW), 0); /* under a false name */
    ck_assert_uint_eq(f.gate.refused_forged, 1);
    ck_assert_int_eq(wv_gate_set_controller(&f.gate, 0, NULL), 0);
    seal(7, 1, &a, 1);
    ck_assert_int_eq(hand_over(&f.gate, 7, 1, 1, NOW, NOW), WV_GATE_NOT_CONTROLLER);
    ck_assert_int_eq(hand_over(&f.gate, 0, 1, 1, NOW, NOW), WV_GATE_NOT_CONTROLLER);
    ck_assert_uint_eq(f.recorder.n, 0);
}
END_TEST

START_TEST(who_controls_again_is_not_replayed)
{
    struct rift_input_event events[] = {key(KEY_A, true), key(KEY_A, false), key(KEY_B, true)}, c;
    struct wv_gate successor;

    ck_assert_int_eq(batch(7, 1, events, 3, NOW), 0);
    c = key(KEY_C, true);
    ck_assert_int_eq(batch(8, 1, &c, 1, NOW), 0);
    ck_assert_uint_eq(f.recorder.n, 5); /* B came up in between */
    ck_assert_int_eq(batch(7, 1, events, 3, NOW), 0);
    ck_assert_uint_eq(f.recorder.n, 6); /* nothing but C coming up */
    ck_assert_uint_eq(wv_input_page_injected(f.page), 3);
    /* Nor by a successor. */
    ck_assert_int_eq(wv_gate_set_controller(&f.gate, 8, key_of(8)), 0);
    wv_gate_init(&successor, f.page);
    ck_assert_int_eq(wv_gate_set_backend(&successor, &f.recorder.base), 0);
    ck_assert_int_eq(batch_to(&successor, 7, 1, events, 3, NOW), 0);
    ck_assert_uint_eq(f.recorder.n, 6);
    ck_assert_int_eq(batch_to(&successor, 7, 4, &c, 1, NOW), 0);
    ck_assert_uint_eq(f.recorder.n, 7);
}
END_TEST

START_TEST(who_was_forgotten_gets_nothing_in)
{
    struct rift_input_event a = key(KEY_A, true);

    ck_assert_int_eq(batch(100, 1, &a, 1, NOW), 0);
    for (uint32_t session = 101; session < 700; session++)
        ck_assert_int_eq(batch(session, 1, &a, 1, NOW + session * WV_NS_PER_S), 0);
    size_t before = f.recorder.n;
    ck_assert_int_eq(wv_gate_set_controller(&f.gate, 100, key_of(100)), 0);
    ck_assert_uint_eq(f.recorder.n, before + 1); /* what the last one held */
    ck_assert(f.gate.forgotten);
    seal(100, 1, &a, 1);
    ck_assert_int_eq(hand_over(&f.gate, 100, 1, 1, NOW, NOW), 0);
    seal(100, 9, &a, 1);
    ck_assert_int_eq(hand_over(&f.gate, 100, 9, 1, NOW, NOW), 0);
    ck_assert_uint_eq(f.done, 9);
    ck_assert_uint_eq(f.recorder.n, before + 1);
    ck_assert_int_eq(batch(700, 1, &a, 1, NOW + 700 * WV_NS_PER_S), 0);
    ck_assert_uint_eq(f.recorder.n, before + 2);
}
END_TEST

START_TEST(missing_numbers_let_go_of_everything)
{
    struct rift_input_event events[] = {key(KEY_LEFTSHIFT, true), key(KEY_A, true)}, b = key(KEY_B, true);

    ck_assert_int_eq(batch(1, 1, events, 2, NOW), 0);
    ck_assert_int_eq(batch(1, 5, &b, 1, NOW), 0);
    ck_assert_uint_eq(f.recorder.n, 5);
    ck_assert_uint_eq(f.recorder.events[2].down + f.recorder.events[3].down, 0);
    ck_assert_uint_eq(f.recorder.events[4].code, KEY_B);
    ck_assert(wv_gate_holds(&f.gate, KEY_B) && !wv_gate_holds(&f.gate, KEY_A));
    ck_assert_uint_eq(f.gate.gaps, 1);
    /* Those that were missing come too late. */
    seal(1, 3, events, 2);
    ck_assert_int_eq(hand_over(&f.gate, 1, 3, 2, NOW, NOW), 0);
    ck_assert_uint_eq(f.recorder.n, 5);
}
END_TEST

START_TEST(what_waited_too_long_only_lets_go)
{
    struct rift_input_event press = key(KEY_A, true);
    struct rift_input_event events[] = {key(KEY_B, true),
                                        pointer(RIFT_INPUT_POINTER_ABS, 1, 1),
                                        key(KEY_A, false),
                                        {.kind = RIFT_INPUT_RELEASE_ALL}};

    ck_assert_int_eq(batch(1, 1, &press, 1, NOW), 0);
    seal(1, 2, events, 4);
    ck_assert_int_eq(hand_over(&f.gate, 1, 2, 4, NOW, NOW + 201 * WV_NS_PER_MS), 0);
    ck_assert_uint_eq(f.recorder.n, 2);
    ck_assert_uint_eq(f.recorder.events[1].code, KEY_A);
    ck_assert_uint_eq(f.recorder.events[1].down, 0);
    ck_assert_uint_eq(f.gate.refused_stale, 2);
    ck_assert_uint_eq(f.gate.gaps, 0);
    ck_assert_uint_eq(wv_input_page_injected(f.page), 5);
    /* 200 ms are not too long; a time to come is now. */
    seal(1, 6, events, 1);
    ck_assert_int_eq(hand_over(&f.gate, 1, 6, 1, NOW, NOW + 200 * WV_NS_PER_MS), 0);
    ck_assert_uint_eq(f.recorder.n, 3);
    seal(1, 7, &press, 1);
    ck_assert_int_eq(hand_over(&f.gate, 1, 7, 1, NOW + WV_NS_PER_S, NOW), 0);
    ck_assert_uint_eq(f.recorder.n, 4);
}
END_TEST

/* ---- what is held ---- */

START_TEST(held_keys_come_up)
{
    struct rift_input_event events[] = {key(KEY_LEFTSHIFT, true), key(KEY_A, true), button(BTN_LEFT, true)};

    ck_assert_int_eq(batch(1, 1, events, 3, NOW), 0);
    ck_assert_uint_eq(held_on_page(), 3);
    ck_assert(wv_gate_holds(&f.gate, KEY_A));
    ck_assert_int_eq(wv_gate_release_all(&f.gate), 0);
    ck_assert_uint_eq(held_on_page(), 0);
    ck_assert_uint_eq(f.recorder.n, 6);
    for (size_t i = 3; i < 6; i++) {
        ck_assert_uint_eq(f.recorder.events[i].down, 0);
        ck_assert_uint_eq(f.recorder.events[i].kind,
                          f.recorder.events[i].code == BTN_LEFT ? RIFT_INPUT_BUTTON : RIFT_INPUT_KEY);
    }
    ck_assert(f.recorder.page_says_held);
    ck_assert_uint_eq(f.gate.released, 3);
    ck_assert_int_eq(wv_gate_release_all(&f.gate), 0);
    ck_assert_uint_eq(f.recorder.n, 6);
}
END_TEST

START_TEST(the_event_that_releases_all)
{
    struct rift_input_event events[] = {key(KEY_A, true), {.kind = RIFT_INPUT_RELEASE_ALL}, key(KEY_B, true)};

    ck_assert_int_eq(batch(1, 1, events, 3, NOW), 0);
    ck_assert_uint_eq(f.recorder.n, 3);
    ck_assert_uint_eq(f.recorder.events[1].code, KEY_A);
    ck_assert_uint_eq(f.recorder.events[1].down, 0);
    ck_assert(!wv_gate_holds(&f.gate, KEY_A) && wv_gate_holds(&f.gate, KEY_B));
}
END_TEST

START_TEST(another_session_releases_all)
{
    struct rift_input_event a = key(KEY_A, true), b = key(KEY_B, true);

    ck_assert_int_eq(batch(1, 1, &a, 1, NOW), 0);
    ck_assert_int_eq(batch(2, 1, &b, 1, NOW), 0);
    ck_assert_uint_eq(f.recorder.n, 3);
    ck_assert_uint_eq(f.recorder.events[1].code, KEY_A);
    ck_assert_uint_eq(f.recorder.events[1].down, 0);
    ck_assert_uint_eq(wv_input_page_session(f.page), 2);
    ck_assert_uint_eq(wv_input_page_injected(f.page), 1);
}
END_TEST

START_TEST(a_killed_predecessor_leaves_nothing_down)
{
    struct rift_input_event events[] = {key(KEY_LEFTCTRL, true), button(BTN_RIGHT, true)};
    struct wv_gate successor;

    ck_assert_int_eq(batch(1, 1, events, 2, NOW), 0);
    wv_gate_init(&successor, f.page); /* as after SIGKILL: nobody said goodbye */
    ck_assert_uint_eq(f.recorder.n, 2);
    ck_assert_uint_eq(held_on_page(), 2); /* until there is a backend to do it with */
    ck_assert_int_eq(wv_gate_set_backend(&successor, &f.recorder.base), 0);
    ck_assert_uint_eq(f.recorder.n, 4);
    ck_assert_uint_eq(f.recorder.events[2].down + f.recorder.events[3].down, 0);
    ck_assert_uint_eq(held_on_page(), 0);
}
END_TEST

START_TEST(only_what_we_hold_is_released)
{
    struct rift_input_event events[] = {key(KEY_A, false), key(KEY_A, true), key(KEY_A, true),
                                        key(KEY_A, false)};

    ck_assert_int_eq(batch(1, 1, events, 4, NOW), 0);
    ck_assert_uint_eq(f.recorder.n, 2); /* the host's own user may hold A: that is not ours to end */
    ck_assert_uint_eq(f.recorder.events[0].down, 1);
    ck_assert_uint_eq(f.recorder.events[1].down, 0);
}
END_TEST

START_TEST(a_key_that_does_not_exist_is_not_held)
{
    struct rift_input_event events[] = {key(KEY_UNKNOWN, true)};

    ck_assert_int_eq(batch(1, 1, events, 1, NOW), 0);
    ck_assert_uint_eq(held_on_page(), 0);
    ck_assert_uint_eq(f.gate.refused_range, 1);
}
END_TEST

/* ---- the backend is away ---- */

START_TEST(without_a_backend)
{
    struct rift_input_event events[] = {key(KEY_A, true), key(KEY_B, true), key(KEY_B, false)};

    ck_assert_int_eq(batch(1, 1, events, 1, NOW), 0);
    wv_gate_set_backend(&f.gate, NULL);
    ck_assert_int_eq(batch(1, 1, events, 3, NOW), 0);
    ck_assert_uint_eq(wv_input_page_injected(f.page), 3); /* dealt with: nobody waits for it for ever */
    ck_assert_uint_eq(f.gate.refused_no_backend, 1);
    ck_assert_int_eq(wv_gate_release_all(&f.gate), 0);
    ck_assert(wv_gate_holds(&f.gate, KEY_A));
    ck_assert_int_eq(wv_gate_set_backend(&f.gate, &f.recorder.base), 0);
    ck_assert_uint_eq(f.recorder.n, 2);
    ck_assert_uint_eq(f.recorder.events[1].code, KEY_A);
    ck_assert_uint_eq(f.recorder.events[1].down, 0);
}
END_TEST

START_TEST(lost_in_the_middle)
{
    struct rift_input_event events[] = {key(KEY_A, true), key(KEY_B, true), key(KEY_C, true),
                                        key(KEY_D, true)};

    f.recorder.lost_after = 2;
    ck_assert_int_eq(batch(1, 1, events, 4, NOW), WV_GATE_LOST);
    ck_assert_uint_eq(f.recorder.n, 2);
    ck_assert_uint_eq(wv_input_page_injected(f.page), 4);
    ck_assert(wv_gate_holds(&f.gate, KEY_A) && wv_gate_holds(&f.gate, KEY_B));
    f.recorder.lost_after = 0;
    ck_assert_int_eq(wv_gate_set_backend(&f.gate, &f.recorder.base), 0);
    ck_assert_uint_eq(held_on_page(), 0);
}
END_TEST

/* ---- range and rate ---- */

START_TEST(out_of_range_is_refused)
{
    const struct rift_input_event bad[] = {{.kind = 0},
                                           {.kind = 7},
                                           {.kind = 255, .down = 255},
                                           {.kind = RIFT_INPUT_KEY, .code = 0, .down = 1},
                                           {.kind = RIFT_INPUT_KEY, .code = KEY_A, .down = 2},
                                           {.kind = RIFT_INPUT_KEY, .code = BTN_LEFT, .down = 1},
                                           {.kind = RIFT_INPUT_KEY, .code = KEY_MAX + 1, .down = 1},
                                           {.kind = RIFT_INPUT_KEY, .code = 65535, .down = 1},
                                           {.kind = RIFT_INPUT_BUTTON, .code = KEY_A, .down = 1},
                                           {.kind = RIFT_INPUT_BUTTON, .code = BTN_TOUCH, .down = 1},
                                           {.kind = RIFT_INPUT_POINTER_ABS, .x = -1},
                                           {.kind = RIFT_INPUT_POINTER_ABS, .y = 65536},
                                           {.kind = RIFT_INPUT_POINTER_REL, .x = 32768},
                                           {.kind = RIFT_INPUT_POINTER_REL, .y = INT32_MIN},
                                           {.kind = RIFT_INPUT_SCROLL, .y = 32767}};

    ck_assert_int_eq(batch(1, 1, bad, WV_ARRAY_SIZE(bad), NOW), 0);
    ck_assert_uint_eq(f.recorder.n, 0);
    ck_assert_uint_eq(f.gate.refused_range, WV_ARRAY_SIZE(bad));
    ck_assert_uint_eq(wv_input_page_injected(f.page), WV_ARRAY_SIZE(bad));
    ck_assert(!f.urgent);
}
END_TEST

START_TEST(random_events_are_safe)
{
    srand((unsigned)_i);
    for (uint32_t seq = 1; seq < 3000; seq++) {
        struct rift_input_event e = {.kind = (uint8_t)(rand() % 8),
                                     .down = (uint8_t)(rand() % 3),
                                     .code = (uint16_t)(rand() % 1000),
                                     .x = rand() % 200000 - 100000,
                                     .y = rand() % 3000 - 1500};

        ck_assert_int_eq(batch(1 + seq / 1000, seq, &e, 1, NOW + seq * WV_NS_PER_MS), 0);
    }
    ck_assert_int_eq(wv_gate_release_all(&f.gate), 0);
    ck_assert_uint_eq(held_on_page(), 0);
}
END_TEST

START_TEST(a_flood_is_refused_and_releases_are_not)
{
    static struct rift_input_event flood[2000];
    struct rift_input_event a = key(KEY_A, true), up = key(KEY_A, false);

    for (size_t i = 0; i < WV_ARRAY_SIZE(flood); i++)
        flood[i] = pointer(RIFT_INPUT_POINTER_REL, 1, 1);
    ck_assert_int_eq(batch(1, 1, &a, 1, NOW), 0);
    ck_assert_int_eq(batch(1, 2, flood, WV_ARRAY_SIZE(flood), NOW), 0);
    ck_assert_uint_eq(f.recorder.n, WV_GATE_BURST);
    ck_assert_uint_eq(f.gate.refused_rate, 2001 - WV_GATE_BURST);
    ck_assert_int_eq(batch(1, 2002, &up, 1, NOW), 0);
    ck_assert_uint_eq(f.recorder.n, WV_GATE_BURST + 1);
    ck_assert(!wv_gate_holds(&f.gate, KEY_A));
    /* And it recovers. */
    ck_assert_int_eq(batch(1, 2003, flood, 100, NOW + 50 * WV_NS_PER_MS), 0);
    ck_assert_uint_eq(f.recorder.n, WV_GATE_BURST + 101);
}
END_TEST

START_TEST(a_press_over_the_rate_leaves_no_release_behind)
{
    static struct rift_input_event flood[WV_GATE_BURST];
    struct rift_input_event events[] = {key(KEY_A, true), key(KEY_A, false)};

    for (size_t i = 0; i < WV_ARRAY_SIZE(flood); i++)
        flood[i] = pointer(RIFT_INPUT_POINTER_REL, 1, 1);
    ck_assert_int_eq(batch(1, 1, flood, WV_GATE_BURST, NOW), 0);
    ck_assert_int_eq(batch(1, WV_GATE_BURST + 1, events, 2, NOW), 0);
    ck_assert_uint_eq(f.recorder.n, WV_GATE_BURST);
    ck_assert_uint_eq(held_on_page(), 0);
}
END_TEST

START_TEST(nonsense_on_the_page_is_cleared)
{
    struct wv_gate successor;

    wv_input_page_set_held(f.page, 0, true);
    wv_input_page_set_held(f.page, BTN_TOUCH, true);
    wv_input_page_set_held(f.page, KEY_A, true);
    wv_gate_init(&successor, f.page);
    ck_assert_uint_eq(held_on_page(), 1);
    ck_assert_int_eq(wv_gate_set_backend(&successor, &f.recorder.base), 0);
    ck_assert_uint_eq(f.recorder.n, 1);
}
END_TEST

/* ---- uinput ---- */

struct told {
    size_t n;
    enum wv_uinput_device device;
    struct wv_uinput_event events[WV_UINPUT_EVENTS_MAX];
};

static struct told translate(struct wv_uinput_state *state, struct rift_input_event event)
{
    struct told t = {0};

    t.n = wv_uinput_translate(state, &event, &t.device, t.events);
    if (t.n) {
        ck_assert_uint_eq(t.events[t.n - 1].type, EV_SYN);
        ck_assert_uint_eq(t.events[t.n - 1].code, SYN_REPORT);
    }
    return t;
}

static void told_is(const struct told *t, size_t i, uint16_t type, uint16_t code, int32_t value)
{
    ck_assert_uint_lt(i, t->n);
    ck_assert_uint_eq(t->events[i].type, type);
    ck_assert_uint_eq(t->events[i].code, code);
    ck_assert_int_eq(t->events[i].value, value);
}

START_TEST(words_for_the_kernel)
{
    struct wv_uinput_state state = {0};
    struct told t = translate(&state, key(KEY_Q, true));

    ck_assert_uint_eq(t.n, 2);
    ck_assert_int_eq(t.device, WV_UINPUT_KEYBOARD);
    told_is(&t, 0, EV_KEY, KEY_Q, 1);
    t = translate(&state, button(BTN_SIDE, false));
    ck_assert_int_eq(t.device, WV_UINPUT_MOUSE);
    told_is(&t, 0, EV_KEY, BTN_SIDE, 0);
    t = translate(&state, pointer(RIFT_INPUT_POINTER_ABS, 65535, 17));
    ck_assert_int_eq(t.device, WV_UINPUT_TABLET);
    told_is(&t, 0, EV_ABS, ABS_X, 65535);
    told_is(&t, 1, EV_ABS, ABS_Y, 17);
    t = translate(&state, pointer(RIFT_INPUT_POINTER_REL, -3, 0));
    ck_assert_uint_eq(t.n, 2);
    told_is(&t, 0, EV_REL, REL_X, -3);
    ck_assert_uint_eq(translate(&state, pointer(RIFT_INPUT_POINTER_REL, 0, 0)).n, 0);
    ck_assert_uint_eq(translate(&state, (struct rift_input_event){.kind = RIFT_INPUT_RELEASE_ALL}).n, 0);
}
END_TEST

START_TEST(wheel_in_high_resolution)
{
    struct wv_uinput_state state = {0};
    struct told t = translate(&state, pointer(RIFT_INPUT_SCROLL, 0, 120));

    ck_assert_uint_eq(t.n, 3);
    told_is(&t, 0, EV_REL, REL_WHEEL_HI_RES, 120);
    told_is(&t, 1, EV_REL, REL_WHEEL, 1);
    t = translate(&state, pointer(RIFT_INPUT_SCROLL, 0, 80));
    ck_assert_uint_eq(t.n, 2);
    t = translate(&state, pointer(RIFT_INPUT_SCROLL, -250, 80));
    ck_assert_uint_eq(t.n, 5);
    told_is(&t, 0, EV_REL, REL_WHEEL_HI_RES, 80);
    told_is(&t, 1, EV_REL, REL_WHEEL, 1);
    told_is(&t, 2, EV_REL, REL_HWHEEL_HI_RES, -250);
    told_is(&t, 3, EV_REL, REL_HWHEEL, -2);
    t = translate(&state, pointer(RIFT_INPUT_SCROLL, 0, -120)); /* 40 were left the other way: forgotten */
    told_is(&t, 1, EV_REL, REL_WHEEL, -1);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("input");
    TCase *gate = tcase_create("gate"), *uinput = tcase_create("uinput");

    tcase_add_checked_fixture(gate, set_up, tear_down);
    tcase_add_test(gate, each_event_once_and_in_order);
    tcase_add_test(gate, once_over_a_restart_too);
    tcase_add_test(gate, the_last_numbers_end);
    tcase_add_test(gate, motion_is_not_urgent);
    tcase_add_test(gate, forged_events_are_not_injected_and_take_nothing);
    tcase_add_test(gate, an_event_opens_under_its_own_number_only);
    tcase_add_test(gate, another_sessions_events_do_not_open);
    tcase_add_test(gate, who_controls_again_is_not_replayed);
    tcase_add_test(gate, who_was_forgotten_gets_nothing_in);
    tcase_add_test(gate, missing_numbers_let_go_of_everything);
    tcase_add_test(gate, what_waited_too_long_only_lets_go);
    tcase_add_test(gate, held_keys_come_up);
    tcase_add_test(gate, the_event_that_releases_all);
    tcase_add_test(gate, another_session_releases_all);
    tcase_add_test(gate, a_killed_predecessor_leaves_nothing_down);
    tcase_add_test(gate, only_what_we_hold_is_released);
    tcase_add_test(gate, a_key_that_does_not_exist_is_not_held);
    tcase_add_test(gate, without_a_backend);
    tcase_add_test(gate, lost_in_the_middle);
    tcase_add_test(gate, out_of_range_is_refused);
    tcase_add_loop_test(gate, random_events_are_safe, 0, 4);
    tcase_add_test(gate, a_flood_is_refused_and_releases_are_not);
    tcase_add_test(gate, a_press_over_the_rate_leaves_no_release_behind);
    tcase_add_test(gate, nonsense_on_the_page_is_cleared);
    tcase_add_test(uinput, words_for_the_kernel);
    tcase_add_test(uinput, wheel_in_high_resolution);
    suite_add_tcase(suite, gate);
    suite_add_tcase(suite, uinput);
    return wv_run_suite(suite);
}
