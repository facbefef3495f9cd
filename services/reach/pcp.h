/* The messages of PCP (RFC 6887) as far as a client needs them that wants one UDP port: MAP and ANNOUNCE,
 * version 2. Pure: no socket, no clock. A router is a stranger: nothing that it sends is taken further than
 * its own length goes, and nothing is believed that does not answer what was asked. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define WV_PCP_VERSION        2
#define WV_PCP_PORT           5351 /* of a router */
#define WV_PCP_CLIENT_PORT    5350 /* where routers announce themselves, by multicast */
#define WV_PCP_NONCE_BYTES    12
#define WV_PCP_ANNOUNCE_BYTES 24
#define WV_PCP_MAP_BYTES      60
#define WV_PCP_MAX_BYTES      1100
#define WV_PCP_UDP            17

enum wv_pcp_opcode { WV_PCP_ANNOUNCE = 0, WV_PCP_MAP = 1 };

/* RFC 6887, section 7.4. */
enum wv_pcp_result {
    WV_PCP_SUCCESS = 0,
    WV_PCP_UNSUPP_VERSION = 1,
    WV_PCP_NOT_AUTHORIZED = 2,
    WV_PCP_MALFORMED_REQUEST = 3,
    WV_PCP_UNSUPP_OPCODE = 4,
    WV_PCP_UNSUPP_OPTION = 5,
    WV_PCP_MALFORMED_OPTION = 6,
    WV_PCP_NETWORK_FAILURE = 7,
    WV_PCP_NO_RESOURCES = 8,
    WV_PCP_UNSUPP_PROTOCOL = 9,
    WV_PCP_USER_EX_QUOTA = 10,
    WV_PCP_CANNOT_PROVIDE_EXTERNAL = 11,
    WV_PCP_ADDRESS_MISMATCH = 12,
    WV_PCP_EXCESSIVE_REMOTE_PEERS = 13,
};

/* What a MAP message is about. Addresses are 16 bytes, IPv4 mapped into IPv6. */
struct wv_pcp_map {
    uint8_t nonce[WV_PCP_NONCE_BYTES];
    uint8_t protocol;
    uint16_t internal_port, external_port;
    uint8_t external[16];
};

struct wv_pcp_response {
    uint8_t version; /* 2; 0 is NAT-PMP's; another one only with UNSUPP_VERSION */
    uint8_t opcode;
    uint8_t result; /* enum wv_pcp_result, or a number that is none of them */
    uint32_t lifetime_s, epoch_s;
    bool has_map; /* MAP says what was asked in errors, too */
    struct wv_pcp_map map;
};

/* Write a request of OWN, the address that it is sent from. Return its length. */
size_t wv_pcp_write_announce(const uint8_t own[16], uint8_t ret[WV_PCP_ANNOUNCE_BYTES]);
size_t wv_pcp_write_map(const uint8_t own[16], uint32_t lifetime_s, const struct wv_pcp_map *map,
                        uint8_t ret[WV_PCP_MAP_BYTES]);

/* Reads a response, or that of a router which speaks NAT-PMP alone (RFC 6886, section 3.5). Returns 0 or
 * -EBADMSG: not a response, cut short, too long, or with options that do not fit. */
int wv_pcp_read(const void *data, size_t len, struct wv_pcp_response *ret);

/* The name that the RFC gives a result; "unknown result" for others. */
const char *wv_pcp_result_name(uint8_t result);
