/* Signaling: machines' connections, who may say something to whom, and passing it on, here or by way of
 * another gateway. What is "sent" was written to the peer's connection; what can't be is answered as such.
 * Knows no socket, no clock, no database and no bus: those are calls, so that tests and the fuzzer play them.
 * Must never look into what is sealed, nor keep it longer than it takes to pass it on. */
#pragma once

#include "services/gateway/bus_message.h"

struct wv_signal;
struct wv_signal_connection;

/* One question to the database; the answer comes to wv_signal_told() with the same NUMBER, once. */
struct wv_signal_question {
    enum { WV_SIGNAL_ASK_TOKEN, WV_SIGNAL_ASK_MACHINE, WV_SIGNAL_ASK_ACCESS } kind;
    uint64_t number;
    uint8_t token[WV_STORE_HASH_BYTES]; /* TOKEN: whose is it */
    uint8_t from[WV_STORE_KEY_BYTES];   /* MACHINE: is it still known, its account not disabled; ACCESS */
    uint8_t to[WV_STORE_KEY_BYTES];     /* ACCESS: may FROM say something to this machine */
};

struct wv_signal_reply {
    int r;                     /* 0: yes; -ENOENT: no; else the database failed */
    struct wv_machine machine; /* TOKEN */
};

struct wv_signal_calls {
    /* LINK is what wv_signal_open() was given. There is something to send, or the connection is to be closed:
     * ask wv_signal_next(). */
    void (*writable)(void *userdata, void *link);
    int (*ask)(void *userdata,
               const struct wv_signal_question *question); /* 0, or negative: can't be asked now */
    /* TO: a gateway, NULL: all others. Returns 0 or a negative errno. M->from is filled in by who sends it.
     */
    int (*say)(void *userdata, const char *to, struct wv_bus_message *m);
    /* A json_t for a welcome, which is taken over: {"stun": [...], "relays": [...]}. */
    void *(*offer)(void *userdata);
    uint64_t (*unix_ms)(void *userdata);
    /* Close LINK at once: it does not read. wv_signal_closed() follows later. */
    void (*cut)(void *userdata, void *link);
    void (*heard_relay)(void *userdata, const struct wv_bus_message *m);
    void *userdata;
};

struct wv_signal_limits {
    size_t connections, machines;                                    /* here; of all gateways together */
    double messages_per_s, messages_burst, bytes_per_s, bytes_burst; /* of one connection */
    size_t queue_messages, queue_bytes;                              /* that wait for one that reads slowly */
    uint64_t hello_ns, stalled_ns; /* for the first message; while something waits and nothing moves */
};
extern const struct wv_signal_limits wv_signal_usual;

#define WV_SIGNAL_HEADROOM 32 /* bytes in front of what is sent, for who sends it */

/* SELF: this gateway's id. SECRET: 16 random bytes. Returns 0, -EINVAL, -ENOMEM. */
int wv_signal_new(struct wv_signal **ret, const char *self, const struct wv_signal_limits *limits,
                  const struct wv_signal_calls *calls, const uint8_t secret[16]);
/* All connections must be closed. */
struct wv_signal *wv_signal_free(struct wv_signal *s);

/* NULL: too many. */
struct wv_signal_connection *wv_signal_open(struct wv_signal *s, void *link, uint64_t now);
/* A whole text message. */
void wv_signal_receive(struct wv_signal_connection *c, const void *data, size_t len, uint64_t now);
/* A message that is larger than WV_SIGNAL_TEXT_MAX, or not text. */
void wv_signal_receive_bad(struct wv_signal_connection *c, enum wv_signal_result why, uint64_t now);
/* What is to be written next: text with WV_SIGNAL_HEADROOM writable bytes in front, then wv_signal_written();
 * false: nothing. RET_CLOSE: not 0 when nothing more will come and the connection is to be closed with that
 * code. */
bool wv_signal_next(struct wv_signal_connection *c, char **ret_text, size_t *ret_len, unsigned *ret_close,
                    const char **ret_why);
void wv_signal_written(struct wv_signal_connection *c, uint64_t now);
/* The connection is gone; C is freed. */
void wv_signal_closed(struct wv_signal_connection *c);

void wv_signal_told(struct wv_signal *s, uint64_t number, const struct wv_signal_reply *reply, uint64_t now);
void wv_signal_heard(struct wv_signal *s, const void *data, size_t len, uint64_t now);
void wv_signal_bus(struct wv_signal *s, bool up, uint64_t now);
/* Every 100 to 250 ms. */
void wv_signal_tick(struct wv_signal *s, uint64_t now);
/* Rights of ACCOUNT ("": anybody's) changed: here and at the other gateways they are asked for anew. */
void wv_signal_changed(struct wv_signal *s, const char *account, uint64_t now);
/* Everybody is told to go elsewhere; connections close when they were told. */
void wv_signal_drain(struct wv_signal *s, uint64_t now);

bool wv_signal_is_online(const struct wv_signal *s, const uint8_t key[WV_STORE_KEY_BYTES]);
const struct wv_sessions *wv_signal_sessions(const struct wv_signal *s);

struct wv_signal_numbers {
    size_t connections, welcomed; /* now */
    uint64_t opened, refused_hello, replaced, slow, flooded, revoked, late_hello;
    uint64_t signals, results[WV_SIGNAL_RESULTS];
    uint64_t bad_bus; /* messages of the bus that can't be understood */
    struct wv_presence_numbers presence;
};
void wv_signal_numbers(const struct wv_signal *s, struct wv_signal_numbers *ret);
/* Microseconds from a signal's arrival to its answer, each once; returns false when there is none more. */
bool wv_signal_take_time(struct wv_signal *s, uint64_t *ret_us);
