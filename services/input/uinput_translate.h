/* From RIFT input events to what the kernel's three virtual devices are told. Pure. */
#pragma once

#include "services/input/backend.h"

#include <stddef.h>
#include <stdint.h>

#define WV_UINPUT_EVENTS_MAX 6
#define WV_UINPUT_ABS_MAX    65535

struct wv_uinput_event {
    uint16_t type, code; /* EV_*, then KEY_*, REL_*, ABS_* or SYN_* */
    int32_t value;
};

struct wv_uinput_state {
    int32_t scroll_x, scroll_y; /* parts of a detent not yet told as REL_WHEEL and REL_HWHEEL */
};

/* Fills RET_EVENTS (WV_UINPUT_EVENTS_MAX), with SYN_REPORT as the last, for the device RET_DEVICE. Returns
 * how many, 0 when there is nothing to tell. */
size_t wv_uinput_translate(struct wv_uinput_state *state, const struct rift_input_event *event,
                           enum wv_uinput_device *ret_device, struct wv_uinput_event *ret_events);
