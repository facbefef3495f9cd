/* Pings, round-trip time and the peer's clock. WIRE.md section 7. Every sample comes from an authenticated
 * peer, who can only spoil its own measurements. */
#pragma once

#include "lib/base/bytes.h"
#include "rift/core/wire.h"

#define RIFT_TIMING_PINGS   8
#define RIFT_TIMING_PONGS   4
#define RIFT_TIMING_BUCKETS 6
#define RIFT_TIMING_SENT    1024

struct rift_timing {
    uint64_t keepalive_ns;
    uint64_t srtt_ns, rttvar_ns; /* RFC 6298; srtt 0: none yet */
    struct {
        uint64_t began, at, rtt_ns;
        int64_t offset_ns;
        bool valid;
    } best[RIFT_TIMING_BUCKETS]; /* lowest round trip of each 10 s */
    struct {
        uint32_t id;
        uint64_t sent;
        bool waiting;
    } pings[RIFT_TIMING_PINGS];
    struct {
        uint32_t id;
        uint64_t received;
    } pongs[RIFT_TIMING_PONGS];
    unsigned n_pongs;
    uint32_t next_id;
    unsigned unanswered;
    uint64_t next_ping;
    uint64_t active_until; /* pings come faster until then */
    uint64_t path_since;   /* round trips before that were another path's */
    struct {
        uint64_t counter, at;
    } sent[RIFT_TIMING_SENT];
};

void rift_timing_init(struct rift_timing *t, uint64_t keepalive_ns, uint64_t now);

/* A new path: measures the round trip anew, beginning with a ping at NOW. The peer's clock stays known. */
void rift_timing_reset(struct rift_timing *t, uint64_t now);

/* What a process before had measured; 0: nothing. */
void rift_timing_restore(struct rift_timing *t, uint64_t rtt_ns, uint64_t var_ns, uint64_t rtt_min_ns,
                         int64_t offset_ns, uint64_t now);

/* Input, control or video came or went. */
void rift_timing_active(struct rift_timing *t, uint64_t now);

void rift_timing_sent(struct rift_timing *t, uint64_t counter, uint64_t now);

/* The peer saw our datagram COUNTER and answered DELAY_US later. */
void rift_timing_echo(struct rift_timing *t, uint64_t counter, uint32_t delay_us, uint64_t now);

void rift_timing_on_ping(struct rift_timing *t, uint32_t id, uint64_t now);
void rift_timing_on_pong(struct rift_timing *t, uint32_t id, uint64_t peer_received, uint64_t delay_ns,
                         uint64_t now);

/* Write what is due and fits. write_ping returns whether it wrote one. */
void rift_timing_write_pongs(struct rift_timing *t, struct wv_writer *w, uint64_t now);
bool rift_timing_write_ping(struct rift_timing *t, struct wv_writer *w, uint64_t now);
uint64_t rift_timing_timeout(const struct rift_timing *t);

/* How long to wait for an answer before it counts as lost. */
uint64_t rift_timing_rto(const struct rift_timing *t);
uint64_t rift_timing_rtt_min(const struct rift_timing *t);
int64_t rift_timing_offset(const struct rift_timing *t);
