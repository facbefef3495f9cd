/* How many pictures a second, and of which size, a bitrate is enough for. First the frame rate falls, 60, 30,
 * 20; below that the picture gets smaller, to 3/4 and to 1/2 of its width and height; and all of it comes
 * back up. Pure: time is a parameter. Must never flap: a step up waits until the rate has been enough for it
 * for HOLD without a break, and no step follows a step in the other direction within HOLD. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#define WV_LADDER_HOLD_NS UINT64_C(10000000000)
#define WV_LADDER_SCALE   4u /* quarters: the whole picture */

struct wv_ladder {
    uint32_t max_fps;
    unsigned step; /* 0: everything */
    bool known;
    uint64_t since_ns; /* the last step */
    bool last_up;
    uint64_t low_ns,
        high_ns; /* since when the rate is too low for this step, enough for the next; 0: it isn't */
};

struct wv_ladder_choice {
    uint32_t max_fps;
    uint32_t scale; /* quarters of the captured width and height */
};

void wv_ladder_init(struct wv_ladder *l, uint32_t max_fps);

/* BITRATE_BPS can be had now for pictures of WIDTH times HEIGHT, as captured (0: not known, no change).
 * Returns whether the choice changed. */
bool wv_ladder_update(struct wv_ladder *l, uint64_t bitrate_bps, uint32_t width, uint32_t height,
                      uint64_t now);

struct wv_ladder_choice wv_ladder_get(const struct wv_ladder *l);
