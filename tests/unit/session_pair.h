/* A host and a client session, joined by hand: tests decide which datagram arrives, and when. */
#pragma once

#include "lib/base/util.h"
#include "rift/core/session.h"
#include "tests/unit/input_opened.h"

#include <check.h>
#include <string.h>

#define START (1000 * WV_NS_PER_S)
#define MS    WV_NS_PER_MS

struct pair {
    struct rift_session *host, *client;
    uint64_t now;
};

static inline struct rift_session_config pair_config(enum rift_role role)
{
    struct rift_session_config c = {.role = role, .local_id = 7, .remote_id = 9};
    memset(c.key_send, 1, sizeof c.key_send);
    memset(c.key_receive, 2, sizeof c.key_receive);
    if (role == RIFT_ROLE_CLIENT) {
        c.local_id = 9;
        c.remote_id = 7;
        memset(c.key_send, 2, sizeof c.key_send);
        memset(c.key_receive, 1, sizeof c.key_receive);
        memset(c.input_key, 3, sizeof c.input_key);
    }
    return c;
}

/* Passes on what FROM has to say at the moment; datagram number DROP (from 0) is lost. Returns how many. */
static inline unsigned pair_pass(struct pair *p, struct rift_session *from, unsigned drop)
{
    uint8_t datagram[RIFT_MTU_BYTES];
    size_t len;
    unsigned n = 0;
    for (; rift_session_send(from, datagram, sizeof datagram, p->now, &len) == 0; n++)
        if (n != drop)
            rift_session_receive(from == p->host ? p->client : p->host, datagram, len, p->now);
    ck_assert_uint_gt(rift_session_timeout(from), p->now);
    return n;
}

#define DROP_NONE UINT32_MAX

/* Lets both talk without loss until LATER ns have passed. */
static inline void pair_run(struct pair *p, uint64_t later)
{
    uint64_t end = p->now + later;
    for (;;) {
        while (pair_pass(p, p->host, DROP_NONE) + pair_pass(p, p->client, DROP_NONE))
            ;
        uint64_t next = WV_MIN(rift_session_timeout(p->host), rift_session_timeout(p->client));
        if (next > end)
            break;
        p->now = next;
    }
    p->now = end;
}

/* Two sessions that have measured their round trip and were busy a moment ago: no ping is due. */
static inline struct pair pair_new_with(uint64_t pacing_bps, uint32_t burst)
{
    struct pair p = {.now = START};
    struct rift_session_stats stats;
    struct rift_session_config host = pair_config(RIFT_ROLE_HOST), client = pair_config(RIFT_ROLE_CLIENT);
    host.pacing_bps = pacing_bps;
    host.pacing_burst_bytes = burst;
    ck_assert_int_eq(rift_session_new(&p.host, &host, p.now), 0);
    ck_assert_int_eq(rift_session_new(&p.client, &client, p.now), 0);
    pair_run(&p, 300 * MS);
    struct rift_event e;
    rift_session_send_control(p.host, NULL, 0, p.now);
    pair_run(&p, 10 * MS);
    ck_assert_int_eq(rift_session_next_event(p.client, &e), 0);
    rift_session_get_stats(p.client, &stats);
    ck_assert_uint_eq(stats.dropped_replay + stats.dropped_auth + stats.dropped_malformed, 0);
    return p;
}

static inline struct pair pair_new(void)
{
    return pair_new_with(0, 0);
}

static inline void pair_free(struct pair *p)
{
    p->host = rift_session_free(p->host);
    p->client = rift_session_free(p->client);
}

static inline struct rift_session_stats pair_stats(const struct rift_session *s)
{
    struct rift_session_stats stats;
    rift_session_get_stats(s, &stats);
    return stats;
}

static inline int pair_send_frame(struct pair *p, uint32_t id, uint16_t epoch, bool keyframe, size_t len)
{
    uint8_t *data = malloc(len ? len : 1);
    ck_assert_ptr_nonnull(data);
    memset(data, (int)(id & 0xff), len);
    struct rift_frame_meta meta = {.frame_id = id,
                                   .epoch = epoch,
                                   .keyframe = keyframe,
                                   .width = 1280,
                                   .height = 720,
                                   .capture_us = 111,
                                   .encoded_us = 222,
                                   .input_seq = 33};
    int r = rift_session_send_frame(p->host, &meta, data, len, p->now);
    free(data);
    return r;
}

/* Expects the client's next event to be frame ID, whole. */
static inline void pair_expect_frame(struct pair *p, uint32_t id, size_t len)
{
    struct rift_event e;
    ck_assert_int_eq(rift_session_next_event(p->client, &e), 0);
    ck_assert_int_eq(e.kind, RIFT_EVENT_FRAME);
    ck_assert_uint_eq(e.frame.meta.frame_id, id);
    ck_assert_uint_eq(e.frame.len, len);
    size_t same = 0;
    while (same < len && e.frame.data[same] == (id & 0xff))
        same++;
    ck_assert_uint_eq(same, len);
}

/* The input event that E carries; it must open. */
static inline struct rift_input_event pair_input(const struct rift_event *e)
{
    struct rift_session_config client = pair_config(RIFT_ROLE_CLIENT);
    struct rift_input_event event;
    ck_assert_int_eq(e->kind, RIFT_EVENT_INPUT);
    ck_assert_int_eq(input_opened(client.input_key, e, &event), 0);
    return event;
}

static inline void pair_expect_no_event(struct rift_session *s)
{
    struct rift_event e;
    ck_assert_int_eq(rift_session_next_event(s, &e), RIFT_SESSION_NONE);
}
