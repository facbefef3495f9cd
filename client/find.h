/* Hosts by name: where the host is that a person calls NAME. On the local network, else by a gateway, else
 * where the resolver says; in any case it must be one whose key is known here, and the handshake proves it.
 */
#pragma once

#include "client/app.h"

struct finder;

/* Fills in what A has to be told to reach the host that its options name: an address and a key, or a finder
 * of its own (A->finder), which carries offers through the gateway. What is no bare name (client/name.h)
 * stays as it is. Returns 0 or a sysexits code, said. */
int app_find(struct app *a);
/* The gateway brought no way and said why, and the resolver knows the name: whether to free the client and
 * the finder, and to dial. Said. */
bool app_find_elsewhere(struct app *a);
/* The ways of A's finder for wv_client_options, NULL: none. */
const struct wv_client_ways *app_ways(struct app *a);
/* The client was made: what the gateway says goes to it from here on. Returns 0 or a sysexits code, said. */
int app_find_start(struct app *a, struct wv_client *client);
/* The client is about to be freed. */
void app_find_stop(struct app *a);
struct finder *app_finder_free(struct finder *f);
/* The host has proven its key: from now on the name means that key. */
void app_find_remember(struct app *a);
/* Whether the gateway gave a reason why the host can't be reached, which was said. */
bool app_find_has_said(const struct app *a);
/* And the reason is that this client, or its account, may not. */
bool app_find_is_denied(const struct app *a);
/* Says, when it has changed, by which way the session goes and why. */
void app_say_path(struct app *a);
