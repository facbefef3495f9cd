/* PCP's messages; see pcp.h. Must never read past what came, or take a request for a response. */
#include "services/reach/pcp.h"

#include "lib/base/bytes.h"
#include "lib/base/util.h"

#include <errno.h>
#include <string.h>

#define RESPONSE     0x80 /* in the byte of the opcode */
#define NATPMP_BYTES 8    /* the shortest response of NAT-PMP */

/* Network byte order, which the project's own formats do not use. */
static void write_be16(struct wv_writer *w, uint16_t v)
{
    wv_write_u8(w, (uint8_t)(v >> 8));
    wv_write_u8(w, (uint8_t)v);
}

static void write_be32(struct wv_writer *w, uint32_t v)
{
    write_be16(w, (uint16_t)(v >> 16));
    write_be16(w, (uint16_t)v);
}

static uint16_t read_be16(struct wv_reader *r)
{
    uint8_t high = wv_read_u8(r);
    return (uint16_t)(high << 8 | wv_read_u8(r));
}

static uint32_t read_be32(struct wv_reader *r)
{
    uint32_t high = read_be16(r);
    return high << 16 | read_be16(r);
}

static void write_head(struct wv_writer *w, enum wv_pcp_opcode opcode, uint32_t lifetime_s,
                       const uint8_t own[16])
{
    wv_write_u8(w, WV_PCP_VERSION);
    wv_write_u8(w, (uint8_t)opcode);
    write_be16(w, 0);
    write_be32(w, lifetime_s);
    wv_write_span(w, own, 16);
}

size_t wv_pcp_write_announce(const uint8_t own[16], uint8_t ret[WV_PCP_ANNOUNCE_BYTES])
{
    struct wv_writer w;
    wv_writer_init(&w, ret, WV_PCP_ANNOUNCE_BYTES);
    write_head(&w, WV_PCP_ANNOUNCE, 0, own);
    return w.length;
}

size_t wv_pcp_write_map(const uint8_t own[16], uint32_t lifetime_s, const struct wv_pcp_map *map,
                        uint8_t ret[WV_PCP_MAP_BYTES])
{
    struct wv_writer w;
    wv_writer_init(&w, ret, WV_PCP_MAP_BYTES);
    write_head(&w, WV_PCP_MAP, lifetime_s, own);
    wv_write_span(&w, map->nonce, sizeof map->nonce);
    write_be32(&w, (uint32_t)map->protocol << 24);
    write_be16(&w, map->internal_port);
    write_be16(&w, map->external_port);
    wv_write_span(&w, map->external, sizeof map->external);
    return w.length;
}

static int read_natpmp(struct wv_reader *r, size_t len, struct wv_pcp_response *ret)
{
    uint16_t result = read_be16(r);
    ret->epoch_s = read_be32(r);
    ret->result = (uint8_t)WV_MIN(result, UINT8_MAX);
    return r->failed || len < NATPMP_BYTES ? -EBADMSG : 0;
}

static void read_map(struct wv_reader *r, struct wv_pcp_map *ret)
{
    const uint8_t *nonce = wv_read_span(r, sizeof ret->nonce);
    ret->protocol = wv_read_u8(r);
    (void)wv_read_span(r, 3);
    ret->internal_port = read_be16(r);
    ret->external_port = read_be16(r);
    const uint8_t *external = wv_read_span(r, sizeof ret->external);
    if (r->failed)
        return;
    memcpy(ret->nonce, nonce, sizeof ret->nonce);
    memcpy(ret->external, external, sizeof ret->external);
}

/* None was asked for, so none has to be understood; but their lengths have to be true. */
static bool are_options(struct wv_reader *r)
{
    while (r->left > 0) {
        (void)wv_read_span(r, 2);
        size_t length = read_be16(r);
        (void)wv_read_span(r, (length + 3) / 4 * 4);
        if (r->failed)
            return false;
    }
    return true;
}

int wv_pcp_read(const void *data, size_t len, struct wv_pcp_response *ret)
{
    struct wv_pcp_response m = {0};
    struct wv_reader r;
    if (len > WV_PCP_MAX_BYTES || len % 4)
        return -EBADMSG;
    wv_reader_init(&r, data, len);
    m.version = wv_read_u8(&r);
    uint8_t opcode = wv_read_u8(&r);
    if (r.failed || !(opcode & RESPONSE))
        return -EBADMSG;
    m.opcode = opcode & (RESPONSE - 1);
    if (m.version == 0) {
        if (read_natpmp(&r, len, &m) < 0)
            return -EBADMSG;
        *ret = m;
        return 0;
    }
    (void)wv_read_u8(&r);
    m.result = wv_read_u8(&r);
    m.lifetime_s = read_be32(&r);
    m.epoch_s = read_be32(&r);
    (void)wv_read_span(&r, 12);
    if (r.failed || (m.version != WV_PCP_VERSION && m.result != WV_PCP_UNSUPP_VERSION))
        return -EBADMSG;
    if (m.result != WV_PCP_UNSUPP_VERSION && m.opcode == WV_PCP_MAP) {
        read_map(&r, &m.map);
        m.has_map = !r.failed;
        if (!m.has_map && m.result == WV_PCP_SUCCESS)
            return -EBADMSG;
    }
    if (m.result == WV_PCP_SUCCESS && !are_options(&r))
        return -EBADMSG;
    *ret = m;
    return 0;
}

const char *wv_pcp_result_name(uint8_t result)
{
    static const char *const names[] = {
        [WV_PCP_SUCCESS] = "SUCCESS",
        [WV_PCP_UNSUPP_VERSION] = "UNSUPP_VERSION",
        [WV_PCP_NOT_AUTHORIZED] = "NOT_AUTHORIZED",
        [WV_PCP_MALFORMED_REQUEST] = "MALFORMED_REQUEST",
        [WV_PCP_UNSUPP_OPCODE] = "UNSUPP_OPCODE",
        [WV_PCP_UNSUPP_OPTION] = "UNSUPP_OPTION",
        [WV_PCP_MALFORMED_OPTION] = "MALFORMED_OPTION",
        [WV_PCP_NETWORK_FAILURE] = "NETWORK_FAILURE",
        [WV_PCP_NO_RESOURCES] = "NO_RESOURCES",
        [WV_PCP_UNSUPP_PROTOCOL] = "UNSUPP_PROTOCOL",
        [WV_PCP_USER_EX_QUOTA] = "USER_EX_QUOTA",
        [WV_PCP_CANNOT_PROVIDE_EXTERNAL] = "CANNOT_PROVIDE_EXTERNAL",
        [WV_PCP_ADDRESS_MISMATCH] = "ADDRESS_MISMATCH",
        [WV_PCP_EXCESSIVE_REMOTE_PEERS] = "EXCESSIVE_REMOTE_PEERS",
    };
    return result < WV_ARRAY_SIZE(names) ? names[result] : "unknown result";
}
