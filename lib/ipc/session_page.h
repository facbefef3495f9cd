/* The table of running sessions, written by transport, read by anybody who was given the page. A record is
 * used only when it was the same before and after copying (sequence lock), and is then checked like foreign
 * bytes. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define WV_SESSIONS_MAX 32

struct wv_session_record {
    uint32_t id;          /* 0: free */
    uint8_t peer_key[32]; /* X25519 */
    char name[64];        /* that the administrator gave the key; NUL-terminated UTF-8 */
    char address[56];     /* "192.0.2.1:4820", "[2001:db8::1]:4820" */
    bool controls;
    uint64_t since_ns;
    uint64_t rtt_ns, bytes_sent, bytes_received, frames_sent, frames_lost, packets_lost, input_events;
    uint64_t glass_p50_us, glass_p99_us; /* from the client's report: captured to shown */
};

struct wv_session_page;

int wv_session_page_create(int *ret_fd);
int wv_session_page_map(struct wv_session_page **ret, int fd, bool writable);
struct wv_session_page *wv_session_page_unmap(struct wv_session_page *p);
void wv_session_page_set(struct wv_session_page *p, unsigned index, const struct wv_session_record *record);
/* Returns 0, or 1 when the place is free or was being written all the time. */
int wv_session_page_get(const struct wv_session_page *p, unsigned index, struct wv_session_record *ret);
