/* What kind of address a peer has. A relay that forwarded into its operator's network, or to itself, would be
 * a door into it for everybody who holds a lease. */
#include "rift/relay/relay_internal.h"

#include <string.h>

static unsigned v4_ranges(const uint8_t a[4])
{
    if (a[0] == 127)
        return RIFT_RELAY_LOOPBACK;
    if (a[0] == 10 || (a[0] == 172 && (a[1] & 0xf0) == 16) || (a[0] == 192 && a[1] == 168) ||
        (a[0] == 100 && (a[1] & 0xc0) == 64)) /* RFC 1918; RFC 6598: behind a provider's NAT */
        return RIFT_RELAY_PRIVATE;
    if (a[0] == 169 && a[1] == 254)
        return RIFT_RELAY_LINK_LOCAL;
    if ((a[0] & 0xf0) == 224 || (a[0] & a[1] & a[2] & a[3]) == 255)
        return RIFT_RELAY_MULTICAST;
    return a[0] == 0 || a[0] >= 240 ? RIFT_RELAY_UNUSABLE : 0;
}

static unsigned v6_ranges(const uint8_t a[16])
{
    static const uint8_t loopback[16] = {[15] = 1}, zero[12];
    static const uint8_t nat64[12] = {0, 0x64, 0xff, 0x9b};
    if (memcmp(a, loopback, 16) == 0)
        return RIFT_RELAY_LOOPBACK;
    if ((a[0] & 0xfe) == 0xfc || (a[0] == 0xfe && (a[1] & 0xc0) == 0xc0))
        return RIFT_RELAY_PRIVATE;
    if (a[0] == 0xfe && (a[1] & 0xc0) == 0x80)
        return RIFT_RELAY_LINK_LOCAL;
    if (a[0] == 0xff)
        return RIFT_RELAY_MULTICAST;
    if (memcmp(a, zero, sizeof zero) == 0)
        return RIFT_RELAY_UNUSABLE;
    if (memcmp(a, nat64, sizeof nat64) == 0)
        return v4_ranges(a + 12);
    return a[0] == 0x20 && a[1] == 0x02 ? v4_ranges(a + 2) : 0;
}

unsigned rift_relay_address_ranges(const struct rift_relay_address *address)
{
    static const uint8_t mapped[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
    const uint8_t *a = address->bytes;
    if (a[16] == 0 && a[17] == 0)
        return RIFT_RELAY_UNUSABLE;
    return memcmp(a, mapped, sizeof mapped) == 0 ? v4_ranges(a + 12) : v6_ranges(a);
}

bool rift_relay_is_own(const struct rift_relay *r, const struct rift_relay_address *address)
{
    for (size_t i = 0; i < r->config.n_own; i++)
        if (memcmp(r->config.own[i].bytes, address->bytes, 18) == 0)
            return true;
    return false;
}
