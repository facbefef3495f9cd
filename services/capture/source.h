/* Where pictures come from: an X display, or a test pattern. A source keeps one BGRX picture of the whole
 * screen up to date, and says what changed in it. Nothing here waits: request() asks for the pixels of what
 * changed, process() notices that they are there. A source never touches the frame ring. */
#pragma once

#include "services/capture/region.h"

#include <stdbool.h>
#include <stdint.h>

#define WV_SOURCE_NEVER UINT64_MAX

enum { WV_SOURCE_LOST = 1 }; /* the source is of no more use: free it, open another; `reason` says why */

struct wv_picture {
    const uint8_t *pixels;  /* B, G, R, unused in memory */
    uint32_t stride;        /* bytes */
    uint32_t width, height; /* pixels, even */
};

struct wv_source;

struct wv_source_ops {
    const char *name;
    /* Somebody watches (the whole picture becomes pending) or nobody does (no change is noticed, no CPU
     * used). */
    int (*watch)(struct wv_source *s, bool on, uint64_t now);
    /* Takes what the display said. Returns 0 or WV_SOURCE_LOST. */
    int (*process)(struct wv_source *s, uint64_t now);
    /* Asks for the pixels of everything pending; only while neither reading nor ready, and something pends.
     * The answer may be there at once (`ready`) or come with process(). Returns 0 or WV_SOURCE_LOST. */
    int (*request)(struct wv_source *s, uint64_t now);
    struct wv_source *(*free)(struct wv_source *s);
};

/* The head of every source; written by the source, read by the stage. */
struct wv_source {
    const struct wv_source_ops *ops;
    int fd;             /* readable: call process(); -1: none */
    uint64_t change_ns; /* call process() at this time too; WV_SOURCE_NEVER: no need */
    struct wv_picture picture;
    uint64_t changes;         /* change notices so far */
    struct wv_region pending; /* changed, not asked for yet */
    uint64_t pending_ns;      /* since when, 0 when nothing pends */
    bool reading;             /* asked for, not there yet; the picture must not be read now */
    uint64_t reading_ns;      /* since when */
    bool ready;               /* `fresh` is there; the stage clears this */
    struct wv_region fresh;   /* what changed in the picture with the last read */
    uint64_t fresh_ns;        /* when the first of these changes was noticed */
    char reason[160];         /* why it was lost or could not be opened; for a person */
};

/* A display by XCB with DAMAGE, and MIT-SHM if it is there. TRANSPORTS limits how pixels may come (tests; 0:
 * any). Returns 0, WV_SOURCE_LOST with the reason in RET_REASON, or a negative errno. */
enum wv_x11_transport { WV_X11_SHM_FD = 1, WV_X11_SHM_SYSV = 2, WV_X11_PLAIN = 4 };
struct wv_x11_options {
    const char *display, *xauthority; /* empty: from the environment */
    unsigned transports;
};
int wv_source_x11_open(struct wv_source **ret, const struct wv_x11_options *options, char *ret_reason,
                       size_t capacity);
enum wv_x11_transport wv_source_x11_transport(const struct wv_source *s);

/* A picture of WIDTH x HEIGHT (even) that moves FPS times a second and counts its frames. */
int wv_source_pattern_open(struct wv_source **ret, uint32_t width, uint32_t height, uint32_t fps);
void wv_source_pattern_set_rate(struct wv_source *s, uint32_t fps, uint64_t now);
