/* A machine's connections to one gateway: JSON requests over HTTPS, and one WebSocket, by libwebsockets. One
 * thread works on it at a time; only wv_gateway_wake() may come from another. It holds no key and decides
 * nothing. What a gateway says is foreign: bounded, and strict JSON. */
#pragma once

#include "lib/gateway/url.h"

#include <jansson.h>

#define WV_GATEWAY_SENTENCE_BYTES 512
#define WV_GATEWAY_FRAME_BYTES    16384 /* of one message of the WebSocket */

struct wv_gateway;

/* CA_FILE holds the certificates that may vouch for the gateway; NULL or empty: the system's. Makes the
 * context and reads the file: call it before a sandbox closes. Returns 0, -ENOENT (CA_FILE), -EIO. */
int wv_gateway_new(struct wv_gateway **ret, const char *ca_file);
struct wv_gateway *wv_gateway_free(struct wv_gateway *g);
/* Which gateway is meant from here on. */
void wv_gateway_aim(struct wv_gateway *g, const struct wv_gateway_url *url);

struct wv_gateway_answer {
    unsigned status;                          /* of HTTP */
    json_t *body;                             /* an object or NULL; wv_gateway_answer_fini() */
    char error[48];                           /* the gateway's error code, empty: none */
    char sentence[WV_GATEWAY_SENTENCE_BYTES]; /* for a person, printable, when it is no success */
};

enum { WV_GATEWAY_REFUSED = 1 };

/* Asks and waits, at most TIMEOUT_MS; the WebSocket goes on meanwhile. TOKEN and BODY may be NULL; BODY stays
 * the caller's. Returns 0 (status 2xx), WV_GATEWAY_REFUSED (another status), or a negative errno with a
 * sentence in RET: -EPROTO (what is there is no gateway), -EKEYREJECTED (its certificate does not pass), else
 * nobody answered, or not in time, or half. */
int wv_gateway_request(struct wv_gateway *g, const char *method, const char *path, const char *token,
                       json_t *body, unsigned timeout_ms, struct wv_gateway_answer *ret);
void wv_gateway_answer_fini(struct wv_gateway_answer *a);
/* A text of the answer's body, NULL when there is none of at most MAX bytes. */
const char *wv_gateway_text(const json_t *object, const char *name, size_t max);

/* ---- the WebSocket ---- */

enum wv_gateway_socket { WV_SOCKET_NONE, WV_SOCKET_OPENING, WV_SOCKET_OPEN };

struct wv_gateway_calls {
    void (*opened)(void *userdata);
    void (*message)(void *userdata, json_t *object); /* an object; borrowed */
    void (*closed)(void *userdata, const char *why);
};
void wv_gateway_set_calls(struct wv_gateway *g, const struct wv_gateway_calls *calls, void *userdata);

/* Opens /v1/signal. Returns 0 or a negative errno; closed() says so later. */
int wv_gateway_open_socket(struct wv_gateway *g);
void wv_gateway_close_socket(struct wv_gateway *g);
enum wv_gateway_socket wv_gateway_socket(const struct wv_gateway *g);
/* Whether this machine would now send to the WebSocket's other end from another address than it does. */
bool wv_gateway_has_moved(const struct wv_gateway *g);
/* Queues a message; OBJECT stays the caller's. Returns 0, -EAGAIN (the queue is full), -ENOTCONN, -EMSGSIZE.
 */
int wv_gateway_send(struct wv_gateway *g, json_t *object);

/* Waits for something to happen and deals with it. Returns 0 or a negative errno. */
int wv_gateway_service(struct wv_gateway *g);
/* From any thread: ends the waiting. */
void wv_gateway_wake(struct wv_gateway *g);
/* From any thread, once: a question that is under way, and every later one, ends at once. */
void wv_gateway_stop(struct wv_gateway *g);
/* Ends the waiting after MS. */
void wv_gateway_wake_in(struct wv_gateway *g, unsigned ms);
