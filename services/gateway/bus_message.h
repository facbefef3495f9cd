/* What gateways say to each other, as text and as values: one JSON object a message. A gateway trusts the
 * others, and still reads nothing without bounds: the bus may carry anything. */
#pragma once

#include "services/gateway/presence.h"
#include "services/gateway/signal_message.h"

#include "rift/relay/heartbeat.h"

enum wv_bus_message_kind {
    WV_BUS_PRESENCE,
    WV_BUS_SIGNAL,   /* to be passed on to a machine that is there */
    WV_BUS_ANSWER,   /* what became of it */
    WV_BUS_SESSIONS, /* what a host said */
    WV_BUS_RELAY,    /* what a relay said, with its signature */
    WV_BUS_CHANGED,  /* somebody's rights: ask the database anew */
};

struct wv_bus_message {
    enum wv_bus_message_kind kind;
    char from[WV_BUS_ID_BYTES];
    struct wv_presence_word word; /* PRESENCE */
    /* SIGNAL, ANSWER */
    uint64_t number;
    uint8_t sender[WV_STORE_KEY_BYTES], recipient[WV_STORE_KEY_BYTES];
    char id[WV_SIGNAL_ID_BYTES], sealed[WV_SIGNAL_SEALED_TEXT];
    enum wv_signal_result result;
    struct wv_session_report report; /* SESSIONS */
    /* RELAY: BEAT.relay points at RELAY */
    char relay[RIFT_HEARTBEAT_NAME_MAX + 1];
    struct rift_heartbeat beat;
    uint8_t signature[RIFT_HEARTBEAT_SIGNATURE_BYTES];
    char account[WV_STORE_ID_BYTES]; /* CHANGED: whose; "": anybody's */
};

/* Returns 0, or -EBADMSG. */
int wv_bus_message_parse(struct wv_bus_message *ret, const void *data, size_t len);
/* Returns what is malloc'ed, or NULL. */
char *wv_bus_message_write(const struct wv_bus_message *m, size_t *ret_len);
