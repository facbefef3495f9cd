/* What a restart keeps of a lease, as bytes. A record is read as foreign bytes: a damaged one is a lease that
 * its peers bind anew. */
#include "rift/relay/relay_internal.h"

#include "lib/base/bytes.h"
#include "rift/crypto/derive.h"

#include <errno.h>
#include <sodium.h>
#include <string.h>

#define RECORD_USED 1

static uint64_t checksum(const uint8_t record[RIFT_RELAY_RECORD_BYTES])
{
    return rift_checksum(record + sizeof(uint64_t), RIFT_RELAY_RECORD_BYTES - sizeof(uint64_t));
}

void rift_relay_export(const struct rift_relay *r, size_t place, uint8_t ret_record[RIFT_RELAY_RECORD_BYTES])
{
    const struct lease *l = &r->leases[place];
    uint8_t record[RIFT_RELAY_RECORD_BYTES] = {0};
    struct wv_writer w;
    wv_writer_init(&w, record, sizeof record);
    wv_write_u64(&w, 0);
    if (l->used) {
        wv_write_u8(&w, RECORD_USED);
        wv_write_u64(&w, r->ends[place]);
        wv_write_span(&w, l->bytes, sizeof l->bytes);
        for (size_t side = 0; side < 2; side++) {
            const struct channel *c = &r->channels[2 * place + side];
            wv_write_u8(&w, c->heard_ns != 0);
            wv_write_span(&w, c->address.bytes, sizeof c->address.bytes);
            wv_write_u32(&w, c->token);
            wv_write_u64(&w, l->stamps[side]);
        }
    }
    wv_writer_init(&w, record, sizeof(uint64_t));
    wv_write_u64(&w, checksum(record));
    memcpy(ret_record, record, sizeof record);
}

struct side_record {
    bool bound;
    struct rift_relay_address address;
    uint32_t token;
    uint64_t stamp;
};

static void read_side(struct wv_reader *in, struct side_record *ret)
{
    ret->bound = wv_read_u8(in) != 0;
    const uint8_t *address = wv_read_span(in, sizeof ret->address.bytes);
    if (address)
        memcpy(ret->address.bytes, address, sizeof ret->address.bytes);
    ret->token = wv_read_u32(in);
    ret->stamp = wv_read_u64(in);
}

static bool is_acceptable(const struct rift_relay *r, const struct rift_lease *terms, uint64_t end,
                          const struct side_record sides[2], uint64_t now)
{
    if (end <= now || memcmp(terms->relay, r->config.id, sizeof terms->relay) != 0 ||
        rift_relay_find(r, terms->id) != NONE)
        return false;
    for (size_t i = 0; i < 2; i++) {
        const struct rift_relay_address *a = &sides[i].address;
        if (sides[i].bound && (rift_relay_is_own(r, a) || (rift_relay_address_ranges(a) & ~r->config.allow)))
            return false;
    }
    return true;
}

int rift_relay_import(struct rift_relay *r, size_t place, const uint8_t record[RIFT_RELAY_RECORD_BYTES],
                      const struct rift_relay_clock *clock)
{
    struct wv_reader in;
    struct side_record sides[2] = {0};
    struct rift_lease terms;
    wv_reader_init(&in, record, RIFT_RELAY_RECORD_BYTES);
    uint64_t sum = wv_read_u64(&in);
    if (sodium_is_zero(record, RIFT_RELAY_RECORD_BYTES))
        return RIFT_RELAY_EMPTY;
    if (place >= r->config.max_leases || r->leases[place].used || sum != checksum(record))
        return -EBADMSG;
    if (wv_read_u8(&in) != RECORD_USED)
        return RIFT_RELAY_EMPTY;
    uint64_t end = wv_read_u64(&in);
    const uint8_t *bytes = wv_read_span(&in, RIFT_LEASE_BYTES);
    for (size_t i = 0; i < 2; i++)
        read_side(&in, &sides[i]);
    if (in.failed || rift_lease_parse(bytes, RIFT_LEASE_BYTES, &terms) < 0 ||
        !is_acceptable(r, &terms, end, sides, clock->now))
        return -EBADMSG;
    if (!rift_relay_issuer(r, terms.issuer)) {
        r->stats.withdrawn++;
        return -EBADMSG;
    }
    rift_relay_place(r, (uint32_t)place, &terms, bytes);
    r->ends[place] = end;
    for (uint32_t i = 0; i < 2; i++) {
        r->leases[place].stamps[i] = sides[i].stamp;
        if (sides[i].bound) /* silent until now, as far as we know: it is given the benefit of a minute */
            rift_relay_set_channel(r, 2 * (uint32_t)place + i, &sides[i].address, sides[i].token,
                                   clock->now ? clock->now : 1);
    }
    return 0;
}
