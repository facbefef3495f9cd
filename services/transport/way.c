/* One way to an announced client as memory that survives: see paths.h. */
#include "services/transport/paths.h"

#include "lib/base/util.h"

#include <errno.h>
#include <string.h>

void way_free(struct way *w)
{
    rift_punch_free(w->punch);
    rift_relay_client_free(w->relay);
    explicit_bzero(w, sizeof *w);
}

void way_write(const struct way *w, struct wv_writer *out)
{
    uint8_t header[RIFT_RELAY_HEADER_BYTES] = {0};
    bool bound = w->relay && rift_relay_client_header(w->relay, header) == 0;
    wv_write_span(out, w->id, sizeof w->id);
    wv_write_span(out, w->secret, sizeof w->secret);
    wv_write_u32(out, rift_punch_number(w->punch));
    wv_write_span(out, w->relay_public, sizeof w->relay_public);
    wv_write_span(out, w->relay_secret, sizeof w->relay_secret);
    wv_write_u8(out, w->relay != NULL);
    if (!w->relay)
        return;
    wv_write_span(out, w->lease, sizeof w->lease);
    wv_write_span(out, w->relay_address.bytes, sizeof w->relay_address.bytes);
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
    uint8_t header[RIFT_RELAY_HEADER_BYTES];
    struct rift_lease lease;
    take(in, w->lease, sizeof w->lease);
    take(in, w->relay_address.bytes, sizeof w->relay_address.bytes);
    uint8_t bound = wv_read_u8(in);
    take(in, header, sizeof header);
    if (in->failed || bound > 1 || rift_lease_parse(w->lease, sizeof w->lease, &lease) < 0)
        return -EBADMSG;
    int r = rift_relay_client_new(&w->relay, w->lease, w->relay_secret, now);
    if (r < 0)
        return r == -ENOMEM ? r : -EBADMSG;
    if (bound)
        rift_relay_client_resume(w->relay, header, now);
    rift_punch_relayed_address(lease.id, w->name);
    rift_punch_set_relayed(w->punch, w->name, now);
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
    w->since_ns = w->heard_ns = w->relay_since_ns = now;
    return 0;
}
