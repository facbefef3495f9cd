/* Which machine a person means by a bare name: pure, from what the local network and the gateway claim and
 * from the keys that are known here. Must never let a claim decide where a known key says otherwise. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define WV_NAME_CLAIMS 32

/* Whether TEXT, as a person wrote it, is a name to be looked for, in this order: on the local network, at the
 * gateway, by the resolver. No dot, no port, no brackets, no number that is an address, and not this machine
 * itself ("localhost"): all those are dialled. */
bool wv_name_is_bare(const char *text);

enum wv_name_place { WV_NAME_ON_LAN, WV_NAME_AT_GATEWAY };

/* Somebody says that the machine of that name, or with the known key, is there. */
struct wv_name_claim {
    enum wv_name_place place;
    uint8_t key[32];
    bool keyless;     /* what it says is no key: never found, but a claim to the name */
    bool known;       /* the key was paired with, under whatever name */
    char address[64]; /* on the local network */
    uint16_t port;
};

struct wv_name_case {
    const uint8_t *key; /* that is known for this very name, or was given; NULL: none */
    bool pairs;         /* a code will prove the machine: its key need not be known */
    struct wv_name_claim claims[WV_NAME_CLAIMS];
    size_t n_claims;
};

enum wv_name_verdict {
    WV_NAME_FOUND,   /* RET_CLAIM is it; the local network before the gateway */
    WV_NAME_NOBODY,  /* no claim */
    WV_NAME_STRANGE, /* RET_CLAIM has the name, but not the known key, or one that is not known */
    WV_NAME_SEVERAL, /* RET_CLAIM and RET_OTHER have different keys, and nothing says which is meant */
};

enum wv_name_verdict wv_name_judge(const struct wv_name_case *c, const struct wv_name_claim **ret_claim,
                                   const struct wv_name_claim **ret_other);
