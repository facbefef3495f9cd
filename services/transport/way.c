/* One way to an announced client as memory that survives: see paths.h. */
#include "services/transport/paths.h"

#include "lib/base/util.h"

#include <errno.h>
#include <string.h>

void way_free(struct way *w)
{
    rift_punch_free(w->punch);
    rift_relay_pair_fini(&w->relays);
    explicit_bzero(w, sizeof *w);
}

/* In the middle of a change of relay one is kept: the newest when it works, for then the client can use it.
 */
void way_write(const struct way *w, struct wv_writer *out)
{
    uint8_t header[RIFT_RELAY_HEADER_BYTES] = {0};
    const struct rift_relay_place *p = &w->relays.newest, *before = &w->relays.before;
    bool bound = p->client && rift_relay_client_header(p->client, header) == 0;
    if (!bound && before->client && rift_relay_client_header(before->client, header) == 0) {
        bound = true;
        p = before;
    }
    wv_write_span(out, w->id, sizeof w->id);
    wv_write_span(out, w->secret, sizeof w->secret);
    wv_write_u32(out, rift_punch_number(w->punch));
    wv_write_span(out, w->relay_public, sizeof w->relay_public);
    wv_write_span(out, w->relay_secret, sizeof w->relay_secret);
    wv_write_u8(out, p->client != NULL);
    if (!p->client)
        return;
    wv_write_span(out, p->lease, sizeof p->lease);
    wv_write_span(out, p->address, sizeof p->address);
    wv_write_u8(out, bound);
    wv_write_span(out, header, sizeof header);
}

static void take(struct wv_reader *in, void *to, size_t len)
{
    const uint8_t *from = wv_read_span(in, len);
    if (from)
        memcpy(to, from, len);
}

static int read_relay(struct way *w, struct wv_reader *in, uint64_t now)
{
    uint8_t header[RIFT_RELAY_HEADER_BYTES], lease[RIFT_LEASE_BYTES], address[RIFT_ADDRESS_BYTES];
    take(in, lease, sizeof lease);
    take(in, address, sizeof address);
    uint8_t bound = wv_read_u8(in);
    take(in, header, sizeof header);
    if (in->failed || bound > 1)
        return -EBADMSG;
    int r = rift_relay_pair_take(&w->relays, w->punch, lease, address, w->relay_secret, NULL, now);
    if (r < 0)
        return r == -ENOMEM ? r : -EBADMSG;
    if (bound)
        rift_relay_client_resume(w->relays.newest.client, header, now);
    return 0;
}

int way_read(struct way *w, struct wv_reader *in, uint64_t now)
{
    memset(w, 0, sizeof *w);
    take(in, w->id, sizeof w->id);
    take(in, w->secret, sizeof w->secret);
    uint32_t number = wv_read_u32(in);
    take(in, w->relay_public, sizeof w->relay_public);
    take(in, w->relay_secret, sizeof w->relay_secret);
    uint8_t relayed = wv_read_u8(in);
    if (in->failed || relayed > 1)
        return -EBADMSG;
    int r = rift_punch_new(&w->punch, RIFT_ROLE_HOST, w->secret, now);
    if (r < 0)
        return r;
    rift_punch_set_number(w->punch, number);
    if (relayed)
        r = read_relay(w, in, now);
    if (r < 0) {
        way_free(w);
        return r;
    }
    w->used = true;
    w->since_ns = w->heard_ns = now;
    return 0;
}
