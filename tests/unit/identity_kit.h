/* The identity stage between neighbours that note what it sends, and clients that run their side of the
 * handshake and of the inner channel. */
#pragma once

#include "lib/base/util.h"
#include "lib/ipc/memfd.h"
#include "proto/bus_identity.pb-c.h"
#include "proto/bus_keys.pb-c.h"
#include "proto/rift.pb-c.h"
#include "rift/core/handshake.h"
#include "rift/core/session.h"
#include "rift/crypto/cpace.h"
#include "rift/crypto/noise.h"
#include "services/identity/identity.h"
#include "services/identity/live_page.h"
#include "services/identity/pairing.h"

#include <check.h>
#include <errno.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#define SENT_MAX 256

struct sent {
    enum wv_identity_to to;
    const ProtobufCMessageDescriptor *type;
    uint8_t packed[1024];
    size_t len;
};
extern struct sent sent[SENT_MAX];
extern size_t n_sent;
extern bool deaf[WV_IDENTITY_LINKS];
extern char state[96], answer[4096];
extern struct wv_metrics *metrics;
extern struct wv_identity *id;
extern uint64_t now, unix_s;

struct client {
    struct rift_identity identity;
    char key_text[RIFT_PUBLIC_KEY_TEXT_BYTES];
    uint32_t session;
    bool authorized, pairing;
    struct rift_inner inner;
    uint8_t base[32], input_key[32], hash[64], key_send[32];
    size_t read; /* of SENT: messages up to here were looked at */
    /* what it was told last */
    uint32_t kid;
    uint8_t media_key[32];
    bool standing, controls;
    size_t n_grants;
    uint64_t expires;
    char notice[128];
    bool share_came, result_came, paired;
    uint8_t share[32], tag[64];
    unsigned tries_left;
};

void setup(void);
void teardown(void);
void restart_identity(void);
void deliver(const char *sender, const ProtobufCMessage *m);
int request(const char *verb, const char *text);
void *last_sent(enum wv_identity_to to, const ProtobufCMessageDescriptor *type, size_t from);
size_t place_of(enum wv_identity_to to, const ProtobufCMessageDescriptor *type, size_t from);
void client_new(struct client *c);
void authorize(const struct client *c, const char *terms);
void client_known(struct client *c, const char *terms); /* a new one that is authorized */
void client_connect(struct client *c, bool view_only);
unsigned client_read(struct client *c);
void deliver_sealed(uint32_t session, uint8_t *sealed, size_t len);
size_t client_seal(struct client *c, const Wavry__Rift__InnerToHost *m, uint8_t sealed[1024]);
void client_say(struct client *c, const Wavry__Rift__InnerToHost *m);
void client_take_control(struct client *c, bool release);
uint32_t encoder_kid(uint8_t ret_key[32], size_t from);
void assert_controller(const struct client *c);
bool session_ended(uint32_t session, size_t from);
void encoder_asks(void);
void transport_lists(struct client *const *clients, size_t n);
void start_identity(void);
