/* Listening sockets and the count of connections by address. Ours rather than the library's, so that systemd
 * can hand them over and an address that opens too many is stopped before it costs anything. */
#pragma once

#include "services/gateway/gateway.h"

/* Opens what the settings name, or takes over the stream sockets of systemd. Returns 0 or a negative errno,
 * logged. */
int wv_listeners_new(struct wv_listeners **ret, struct wv_gateway *g);
/* Gives them to the loop. */
int wv_listeners_start(struct wv_listeners *l);
/* No new connections from now on. */
void wv_listeners_stop(struct wv_listeners *l);
struct wv_listeners *wv_listeners_free(struct wv_listeners *l);

/* Of a connection that was accepted here: its peer. */
void wv_listeners_peer(struct lws *wsi, uint8_t ret_address[16]);
/* protocols[0] passes LWS_CALLBACK_WSI_DESTROY here. */
void wv_listeners_closed(struct wv_gateway *g, struct lws *wsi);
/* The protocol of listening sockets. */
int wv_listeners_callback(struct lws *wsi, enum lws_callback_reasons reason, void *user, void *in,
                          size_t len);
#define WV_LISTENERS_PROTOCOL "wavry-listen"
/* Whether a request came on WSI before this one; for each request once. */
bool wv_listeners_again(struct lws *wsi);
