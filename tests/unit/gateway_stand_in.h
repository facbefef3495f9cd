/* Something that a client takes for a gateway: a TCP listener on the loopback address, with TLS or without,
 * that says byte for byte what a test wants, also what no gateway says. Each connection has a thread. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct stand_in;
struct stand_in_peer; /* one connection */

/* What the stand-in does with a connection whose request was read: HEAD is its header, BODY what followed. */
typedef void (*stand_in_fn)(struct stand_in_peer *peer, void *userdata, const char *head, const char *body);

/* Listens at 127.0.0.1, or ::1. CERTIFICATE (PEM, its key in the same file) NULL: without TLS. Aborts on
 * errors of the test's own making. */
struct stand_in *stand_in_new(bool v6, const char *certificate, stand_in_fn talk, void *userdata);
/* From here on whoever connects is told DATA as soon as he has said anything, and no request is read. */
void stand_in_set_greeting(struct stand_in *s, const void *data, size_t len);
/* Ends all connections. Returns NULL. */
struct stand_in *stand_in_free(struct stand_in *s);
uint16_t stand_in_port(const struct stand_in *s);
unsigned stand_in_connections(const struct stand_in *s); /* so far, with those whose TLS came to nothing */

/* Returns false when the other side has gone, or stand_in_free() was called. */
bool stand_in_put(struct stand_in_peer *peer, const void *data, size_t len);
bool stand_in_wait(struct stand_in_peer *peer, unsigned ms);
/* A byte, a pause, the next byte. */
bool stand_in_drip(struct stand_in_peer *peer, const char *text, unsigned apart_ms);
/* A whole answer with BODY. */
void stand_in_answer(struct stand_in_peer *peer, unsigned status, const char *body);
/* Answers the upgrade to a WebSocket. */
void stand_in_upgrade(struct stand_in_peer *peer, const char *head);
/* One text frame to the client. */
bool stand_in_frame(struct stand_in_peer *peer, const char *text);
/* Any frame: FIRST is its first byte (RFC 6455), CLAIMED what it says its length is. */
bool stand_in_any_frame(struct stand_in_peer *peer, uint8_t first, uint64_t claimed, const void *data,
                        size_t len);
/* Waits until the client says something. Returns whether it did. */
bool stand_in_hear(struct stand_in_peer *peer);
/* The next text frame of the client. Returns its length, 0: there is none any more. */
size_t stand_in_read_frame(struct stand_in_peer *peer, char *ret, size_t capacity);

/* Writes a self-signed certificate with its key to PATH: by openssl(1), NAMES as of subjectAltName ("":
 * none). */
void stand_in_certificate(const char *path, const char *common_name, const char *names);
