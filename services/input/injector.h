/* The input engine: opens a backend (and opens it again when it is lost), passes everything through the gate,
 * tells capture when something was injected. It lives in an event loop. */
#pragma once

#include "lib/ipc/loop.h"
#include "lib/ipc/metrics.h"
#include "services/input/gate.h"

enum wv_injector_metric {
    WV_INJECTOR_ONE_WAY_US,
    WV_INJECTOR_EVENT_US,
    WV_INJECTOR_BATCH_US,
    WV_INJECTOR_INJECTED,
    WV_INJECTOR_REFUSED,
    WV_INJECTOR_REFUSED_RATE,
    WV_INJECTOR_REFUSED_FORGED,
    WV_INJECTOR_REFUSED_STALE,
    WV_INJECTOR_GAPS,
    WV_INJECTOR_REPEATED,
    WV_INJECTOR_RELEASED,
    WV_INJECTOR_HELD,
    WV_INJECTOR_RECONNECTS,
    WV_INJECTOR_N_METRICS
};
extern const struct wv_metric wv_injector_metrics[WV_INJECTOR_N_METRICS];

enum wv_injector_backend { WV_INJECTOR_AUTO, WV_INJECTOR_XTEST, WV_INJECTOR_UINPUT, WV_INJECTOR_NONE };

struct wv_injector_options {
    struct wv_loop *loop;
    struct wv_metrics *metrics; /* laid out with wv_injector_metrics */
    struct wv_input_page *page;
    int boost_event; /* eventfd, -1: none */
    enum wv_injector_backend backend;
    const char *display, *xauthority;
    int uinput[WV_UINPUT_DEVICES]; /* descriptors of /dev/uinput, not owned; all -1: there is none */
    bool keep_devices;             /* somebody else holds them too: they outlive us */
    void (*status)(void *userdata, const char *text);
    void *userdata;
};

struct wv_injector;

/* OPTIONS is copied; what it points to must outlive the injector. A backend that can't be reached is no
 * error: the status says so and it is tried again. What a predecessor held comes up. Returns 0 or a negative
 * errno. */
int wv_injector_new(struct wv_injector **ret, const struct wv_injector_options *options);
/* Everything held comes up. Returns NULL. */
struct wv_injector *wv_injector_free(struct wv_injector *i);
/* See wv_gate_set_controller(). Returns 0 or a negative errno. */
int wv_injector_set_controller(struct wv_injector *i, uint32_t session,
                               const uint8_t key[RIFT_INNER_KEY_BYTES], uint64_t now);

/* How the client's clock stands to ours, as transport estimates it: for figures only. */
struct wv_injector_clock {
    bool known;
    int64_t offset_us; /* client's minus ours */
};
/* See wv_gate_batch(). Returns 0 with RET_DONE, to acknowledge; WV_INJECTOR_NOT_CONTROLLER; or a negative
 * errno. */
enum { WV_INJECTOR_NOT_CONTROLLER = 1 };
int wv_injector_batch(struct wv_injector *i, const struct wv_sealed_batch *batch,
                      const struct wv_injector_clock *clock, uint64_t now, uint32_t *ret_done);
int wv_injector_release(struct wv_injector *i, uint64_t now);
