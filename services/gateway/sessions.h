/* The sessions that hosts speak of, for the operator's page: a table of what each host said last. Nothing is
 * decided by it. Pure: time comes in. Must never grow beyond its bounds, whatever hosts claim. */
#pragma once

#include "services/gateway/store.h"

#define WV_SESSIONS_PER_HOST  32
#define WV_SESSIONS_SILENCE_S 20 /* then a host's sessions are forgotten */

struct wv_sessions;

struct wv_session {
    uint8_t peer[WV_STORE_KEY_BYTES];
    bool relayed;
    double rtt_ms, loss; /* loss: 0 to 1 */
};

struct wv_session_report {
    uint8_t host[WV_STORE_KEY_BYTES];
    char account[WV_STORE_ID_BYTES], name[WV_STORE_NAME_BYTES]; /* whose host it is, and its name */
    size_t n;                                                   /* 0: none any more */
    struct wv_session sessions[WV_SESSIONS_PER_HOST];
};

int wv_sessions_new(struct wv_sessions **ret, size_t hosts_max);
struct wv_sessions *wv_sessions_free(struct wv_sessions *s);
/* Replaces what the host said before. Returns 0, -ENOBUFS (too many hosts), -ENOMEM. NOW: monotonic, ns. */
int wv_sessions_report(struct wv_sessions *s, const struct wv_session_report *report, uint64_t now);
void wv_sessions_forget(struct wv_sessions *s, const uint8_t host[WV_STORE_KEY_BYTES]);
void wv_sessions_tick(struct wv_sessions *s, uint64_t now);
typedef void (*wv_sessions_fn)(void *userdata, const struct wv_session_report *report);
/* Those of the hosts of ACCOUNT (NULL: all), by host's key. */
void wv_sessions_each(const struct wv_sessions *s, const char *account, wv_sessions_fn each, void *userdata);
size_t wv_sessions_count(const struct wv_sessions *s); /* sessions, not hosts */
