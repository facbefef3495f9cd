/* What a router may send, whatever was asked before: the first byte says how the client stands, then come
 * datagrams, each behind a head of four bytes (length, where from, seconds since the last one). */
#include "services/reach/addresses.h"
#include "services/reach/pcp_client.h"

#include <stdlib.h>
#include <string.h>

#define SECOND UINT64_C(1000000000)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const uint8_t router[18] = {[10] = 0xff, 0xff, 10, 0, 0, 1, 0x14, 0xe7};
static const uint8_t stranger[18] = {[10] = 0xff, 0xff, 10, 0, 0, 9, 0x14, 0xe7};

static void require(bool truth)
{
    if (!truth)
        abort();
}

/* What holds whatever came. Returns when the client sent its last request. */
static uint64_t check(struct wv_pcp_client *c, uint64_t now, uint64_t sent)
{
    uint8_t request[WV_PCP_MAP_BYTES], address[18];
    size_t n;
    unsigned requests = 0;
    while ((n = wv_pcp_client_send(c, now, request)) > 0) {
        require(n == WV_PCP_MAP_BYTES || n == WV_PCP_ANNOUNCE_BYTES);
        require(request[0] == WV_PCP_VERSION && ++requests <= 2);
        if (n == WV_PCP_MAP_BYTES) {
            require(!sent || now - sent >= SECOND || wv_pcp_client_state(c) == WV_PCP_DELETING);
            sent = now;
        }
    }
    require(wv_pcp_client_timeout(c) > now);
    if (wv_pcp_client_mapped(c, address)) {
        require(wv_reach_scope(address) != WV_REACH_SCOPE_NONE && wv_reach_is_v4(address));
        require(address[16] || address[17]);
    }
    return sent;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct wv_pcp_setup setup = {.port = 4820, .nonce = "abcdefghijkl", .lifetime_s = 1200, .random = 1};
    struct wv_pcp_response m;
    struct wv_pcp_client *c;
    uint64_t now = 1000 * SECOND, sent = 0;
    if (size == 0)
        return 0;
    (void)wv_pcp_read(data + 1, size - 1, &m);
    memcpy(setup.router, router, 16);
    memcpy(setup.own, stranger, 16);
    if (wv_pcp_client_new(&c, &setup, now) < 0)
        return 0;
    sent = check(c, now, sent);
    if (data[0] & 1)
        wv_pcp_client_delete(c, now);
    for (size_t at = 1; at + 4 <= size;) {
        size_t n = data[at] < size - at - 4 ? data[at] : size - at - 4;
        now += data[at + 2] * SECOND + data[at + 3] * (SECOND / 256);
        wv_pcp_client_receive(c, data[at + 1] & 1 ? stranger : router, data + at + 4, n, data[at + 1] & 2,
                              now);
        sent = check(c, now, sent);
        at += 4 + n;
    }
    wv_pcp_client_free(c);
    return 0;
}
