/* What the commands about a gateway share: who this person is there, and a connection to it. */
#pragma once

#include "ctl/ctl.h"
#include "lib/gateway/account.h"
#include "lib/gateway/wire.h"
#include "rift/crypto/identity.h"

#define WV_CTL_ANSWER_MS 15000

struct wv_ctl_gateway {
    struct wv_gateway *wire;
    struct wv_gateway_account account;
    char path[4096]; /* of gateway.conf */
};

/* Reads gateway.conf and makes a connection to what it names. Returns 0 or an exit code, told. NEED_TOKEN:
 * also when the sign-in is over. */
int wv_ctl_gateway_open(struct wv_ctl *c, struct wv_ctl_gateway *g, bool need_token);
void wv_ctl_gateway_close(struct wv_ctl_gateway *g);
/* Asks with the account's token, and tells what goes wrong, but for refusals with the code EXCEPT (NULL:
 * none), which come back as WV_GATEWAY_REFUSED. Else 0 or an exit code; WV_GATEWAY_REFUSED is no exit code.
 */
int wv_ctl_gateway_ask(struct wv_ctl *c, struct wv_ctl_gateway *g, const char *method, const char *path,
                       json_t *body, const char *except, struct wv_gateway_answer *ret);
/* This person's identity, the client's. Returns 0 or an exit code, told. */
int wv_ctl_gateway_identity(struct wv_ctl *c, struct rift_identity *ret);
/* How a machine is registered, all of it text: what the gateway asks, and the answer. */
struct wv_ctl_proof {
    char challenge[64], exchange[64];
    char signature[100], key_proof[64];
};
/* What the gateway asks of machine KEY (text). Returns 0 or an exit code, told. */
int wv_ctl_gateway_challenge(struct wv_ctl *c, struct wv_ctl_gateway *g, const char *key,
                             struct wv_ctl_proof *ret);
/* Answers it. Returns 0 or -EINVAL. */
int wv_ctl_gateway_sign(const struct wv_ctl_gateway *g, const struct rift_identity *id,
                        struct wv_ctl_proof *p);
/* Registers a machine at ROUTE ("/v1/devices", "/v1/hosts"); one that is this account's already is fine.
 * Returns 0 or an exit code, told. */
int wv_ctl_gateway_register(struct wv_ctl *c, struct wv_ctl_gateway *g, const char *route, const char *key,
                            const char *sign_key, const char *name, const struct wv_ctl_proof *p);
