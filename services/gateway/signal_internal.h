/* What the files of signaling share. See signal.h. */
#pragma once

#include "services/gateway/signal.h"

#define WV_SIGNAL_TIMES 1024 /* kept until somebody takes them */

enum wv_signal_state { WV_SIGNAL_NEW, WV_SIGNAL_ASKING, WV_SIGNAL_WELCOMED, WV_SIGNAL_CLOSING };

/* Who is told what became of a signal: a connection here, or a gateway. */
struct wv_signal_origin {
    bool wanted;
    char gateway[WV_BUS_ID_BYTES]; /* "": here */
    uint64_t number;               /* of the connection; of the other gateway's forward */
    char id[WV_SIGNAL_ID_BYTES];
    uint64_t received; /* when; here only */
};

struct wv_signal_item {
    struct wv_signal_item *next;
    struct wv_signal_origin origin;
    char *text; /* headroom in front */
    size_t len;
};

struct wv_signal_connection {
    struct wv_signal *signal;
    void *link;
    uint64_t number; /* slot and serial number: never used twice */
    enum wv_signal_state state;
    struct wv_machine machine; /* once welcomed */
    struct wv_signal_item *first, **last;
    size_t queued, queued_bytes, waiting; /* waiting: signals whose right is being asked for */
    double messages, bytes;               /* left in the buckets */
    uint64_t filled, opened, moved, next_sessions, checked, cut_at;
    bool must_check;
    unsigned refusals, close_code;
    const char *close_why;
};

/* A signal whose sender's right is not known yet. */
struct wv_signal_waiting {
    struct wv_signal_waiting *next;
    struct wv_signal_origin origin;
    char sealed[];
};

struct wv_signal_access {
    struct wv_signal_access *next; /* in its bucket */
    uint8_t from[WV_STORE_KEY_BYTES], to[WV_STORE_KEY_BYTES];
    enum { WV_ACCESS_ASKED, WV_ACCESS_YES, WV_ACCESS_NO } state;
    uint64_t until, number; /* of the question */
    struct wv_signal_waiting *first, **last;
    bool stale; /* rights changed after the question was asked: the answer is not kept */
};

#define WV_SIGNAL_FORWARDS       8192
#define WV_SIGNAL_ACCESS_BUCKETS 16384 /* 2^14: a part of the numbers of questions */
#define WV_SIGNAL_ACCESS_MAX     65536

/* A signal that another gateway was asked to pass on. */
struct wv_signal_forward {
    uint64_t number; /* 0: free */
    uint64_t until;
    struct wv_signal_origin origin;
};

struct wv_signal {
    struct wv_signal_limits limits;
    struct wv_signal_calls calls;
    uint8_t secret[16];
    struct wv_presence *presence;
    struct wv_sessions *sessions;
    struct wv_signal_connection **slots;
    size_t n_slots, n_connections, n_waiting;
    uint64_t serial, next_number, oldest_forward, next_forward, next_scan;
    bool bus_up, draining;
    struct wv_signal_access *access[WV_SIGNAL_ACCESS_BUCKETS];
    size_t n_access;
    struct wv_signal_forward forwards[WV_SIGNAL_FORWARDS];
    uint64_t times[WV_SIGNAL_TIMES];
    size_t n_times;
    struct wv_signal_numbers numbers;
    struct wv_signal_message message; /* being read: large */
    struct wv_bus_message in, out;    /* being read, being written */
};

/* signal.c */
struct wv_signal_connection *wv_signal_connection_of(struct wv_signal *s, uint64_t number);
/* Takes over TEXT (NULL: out of memory). ORIGIN may be NULL. Returns 0, -ENOBUFS (too much is waiting),
 * -ENOMEM, -ENOTCONN (it is being closed). Results to a connection itself always fit. */
int wv_signal_queue(struct wv_signal_connection *c, char *take_text, size_t len,
                    const struct wv_signal_origin *origin);
void wv_signal_close(struct wv_signal_connection *c, unsigned code, const char *why);
void wv_signal_answer(struct wv_signal_connection *c, const char *id, enum wv_signal_result result,
                      const char *sentence);
/* What became of a signal: tells whoever is to be told. */
void wv_signal_settle(struct wv_signal *s, const struct wv_signal_origin *origin,
                      enum wv_signal_result result, uint64_t now);

/* signal_route.c */
/* A signal of C's to M->to. */
void wv_signal_route(struct wv_signal_connection *c, const struct wv_signal_message *m, uint64_t now);
void wv_signal_route_told(struct wv_signal *s, uint64_t number, const struct wv_signal_reply *reply,
                          uint64_t now);
/* From another gateway: to be passed on to a machine here. */
void wv_signal_route_here(struct wv_signal *s, const struct wv_bus_message *m, uint64_t now);
void wv_signal_route_answered(struct wv_signal *s, const struct wv_bus_message *m, uint64_t now);
void wv_signal_route_tick(struct wv_signal *s, uint64_t now, bool sweep);
void wv_signal_route_changed(struct wv_signal *s);
void wv_signal_route_fini(struct wv_signal *s);

#define WV_SIGNAL_QUESTION_ACCESS 1 /* the lowest bit of a question's number: which table it belongs to */
