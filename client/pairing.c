/* The client's side of a pairing run; see pairing.h. */
#include "client/pairing.h"

#include "client/inner.h"

#include <errno.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>

#define PURPOSE       "RIFT 1 pair"
#define PURPOSE_BYTES (sizeof PURPOSE - 1)

int wv_pairing_start(struct wv_pairing *p, const uint8_t *secret, size_t secret_len, bool token,
                     const char *name, const struct wv_pairing_bond *bond, uint8_t *buffer, size_t capacity)
{
    uint8_t channel[PURPOSE_BYTES + 64];
    memcpy(channel, PURPOSE, PURPOSE_BYTES);
    memcpy(channel + PURPOSE_BYTES, bond->client_key, 32);
    memcpy(channel + PURPOSE_BYTES + 32, bond->host_key, 32);
    snprintf(p->name, sizeof p->name, "%s", name);
    int r = rift_cpace_begin(&p->cpace, secret, secret_len, channel, sizeof channel, bond->handshake_hash, 64,
                             NULL);
    if (r == 0)
        r = wv_inner_pack_pair_start(p->cpace.share, p->name, token, buffer, capacity);
    if (r > 0)
        p->step = WV_PAIRING_STARTED;
    return r;
}

int wv_pairing_share(struct wv_pairing *p, const uint8_t share[RIFT_CPACE_SHARE_BYTES], uint8_t *buffer,
                     size_t capacity)
{
    uint8_t key[RIFT_CPACE_KEY_BYTES], tag[RIFT_CPACE_TAG_BYTES];
    if (p->step != WV_PAIRING_STARTED)
        return -EPROTO;
    int r = rift_cpace_finish(&p->cpace, true, (const uint8_t *)p->name, strlen(p->name), share, NULL, 0, key,
                              tag, p->expected);
    sodium_memzero(key, sizeof key); /* the proof is all that pairing is for */
    if (r == 0)
        r = wv_inner_pack_pair_confirm(tag, buffer, capacity);
    if (r > 0)
        p->step = WV_PAIRING_CONFIRMED;
    return r;
}

int wv_pairing_result(struct wv_pairing *p, const uint8_t tag[RIFT_CPACE_TAG_BYTES])
{
    if (p->step != WV_PAIRING_CONFIRMED)
        return -EPROTO;
    return sodium_memcmp(tag, p->expected, sizeof p->expected) == 0 ? 0 : -EBADMSG;
}

void wv_pairing_wipe(struct wv_pairing *p)
{
    sodium_memzero(p, sizeof *p);
}
