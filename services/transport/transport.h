/* The transport stage's work: the UDP socket, the sessions, and their links to the other stages. Independent
 * of the stage skeleton, so that tests run it on a loop and a bus of their own. */
#pragma once

#include "lib/ipc/bus.h"
#include "lib/ipc/loop.h"
#include "lib/ipc/metrics.h"
#include "rift/core/cc.h"

#define WV_TRANSPORT_RULES        14
#define WV_TRANSPORT_MAX_SESSIONS 32

extern const struct wv_bus_rule wv_transport_rules[WV_TRANSPORT_RULES]; /* userdata: struct wv_transport */

struct wv_transport_setup {
    struct wv_loop *loop;
    struct wv_metrics *metrics; /* laid out by wv_transport_metrics */
    int udp_fd, au_entries_fd, au_reader_fd, au_event_fd,
        session_page_fd,   /* stay the caller's; the page may be -1 */
        session_vault_fd;  /* -1: sessions end with this process */
    const char *host_name; /* for a person; copied */
    uint32_t bitrate_bps;  /* of the video at most; without congestion control: always */
    uint32_t max_fps, max_sessions;
    uint64_t pacing_bps; /* datagrams of a frame leave no faster; without congestion control: so fast */
    uint32_t burst_bytes;
    const struct rift_cc_ops *congestion; /* NULL: none */
    enum rift_cc_mode mode;
    uint32_t min_bps, start_bps;
    bool fec;                                         /* repairs where a path loses datagrams */
    void (*status)(void *userdata, const char *text); /* a sentence for the administrator, when it changed */
    void (*drained)(void *userdata);
    void *userdata;
};

struct wv_transport_links {
    struct wv_bus_link *encoder, *capture, *input, *identity, *reach; /* reach: NULL when there is none */
};

struct wv_transport;

/* Maps and allocates everything. Returns 0 or a negative errno; RET_WHY (never NULL then) says what failed.
 */
int wv_transport_new(struct wv_transport **ret, const struct wv_transport_setup *setup, const char **ret_why);
struct wv_transport *wv_transport_free(struct wv_transport *t);
/* Adds the loop sources and tells the media stages that nobody watches yet. */
int wv_transport_start(struct wv_transport *t, const struct wv_transport_links *links);
/* Says goodbye to every client; drained() is called when that is done. */
void wv_transport_drain(struct wv_transport *t);
/* Leaves the sessions to the next process, and says goodbye only to clients whose session can't be kept;
 * drained() is called when that is done. */
void wv_transport_hand_over(struct wv_transport *t);
