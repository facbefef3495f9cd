#include "rift/punch/stun.h"

#include "lib/base/util.h"

#include <errno.h>
#include <string.h>

#define HEADER_BYTES      20
#define COOKIE            UINT32_C(0x2112a442)
#define FINGERPRINT_XOR   UINT32_C(0x5354554e)
#define METHOD_BINDING    1
#define FAMILY_V4         1
#define FAMILY_V6         2
#define FINGERPRINT_BYTES 8

enum attribute {
    MAPPED_ADDRESS = 0x0001,
    ERROR_CODE = 0x0009,
    XOR_MAPPED_ADDRESS = 0x0020,
    FINGERPRINT = 0x8028,
    OPTIONAL = 0x8000, /* from here on an attribute may be ignored */
};

static const uint8_t v4_mapped[12] = {[10] = 0xff, [11] = 0xff};

/* STUN is big-endian. */
static uint16_t get16(const uint8_t *p)
{
    return (uint16_t)(p[0] << 8 | p[1]);
}

static uint32_t get32(const uint8_t *p)
{
    return (uint32_t)get16(p) << 16 | get16(p + 2);
}

static void put16(uint8_t *p, uint16_t v)
{
    p[0] = (uint8_t)(v >> 8);
    p[1] = (uint8_t)v;
}

static void put32(uint8_t *p, uint32_t v)
{
    put16(p, (uint16_t)(v >> 16));
    put16(p + 2, (uint16_t)v);
}

/* CRC-32 of ITU V.42, bit by bit: it runs over some hundred bytes, now and then. */
static uint32_t crc32(const uint8_t *data, size_t len)
{
    uint32_t crc = UINT32_MAX;
    for (size_t i = 0; i < len; i++) {
        crc ^= data[i];
        for (int bit = 0; bit < 8; bit++)
            crc = crc >> 1 ^ (UINT32_C(0xedb88320) & -(crc & 1));
    }
    return ~crc;
}

bool rift_stun_is(const uint8_t *datagram, size_t len)
{
    return len >= HEADER_BYTES && len <= RIFT_STUN_MAX_BYTES && (datagram[0] & 0xc0) == 0 &&
           get32(datagram + 4) == COOKIE && get16(datagram + 2) == len - HEADER_BYTES && len % 4 == 0;
}

/* The two class bits lie at 4 and 8 of the type, between the bits of the method. */
static void split_type(uint16_t type, struct rift_stun_message *m)
{
    static const enum rift_stun_kind kinds[4] = {RIFT_STUN_REQUEST, RIFT_STUN_INDICATION, RIFT_STUN_SUCCESS,
                                                 RIFT_STUN_ERROR};
    m->kind = kinds[(type >> 4 & 1) | (type >> 7 & 2)];
    m->method = (uint16_t)((type & 0x000f) | (type >> 1 & 0x0070) | (type >> 2 & 0x0f80));
}

/* The mask of XOR-MAPPED-ADDRESS is the cookie and the id: header bytes 4 to 19; MASK is NULL for
 * MAPPED-ADDRESS. */
static int read_address(const uint8_t *value, size_t len, const uint8_t *mask,
                        uint8_t ret[RIFT_ADDRESS_BYTES])
{
    size_t bytes = len >= 4 && value[1] == FAMILY_V4 ? 4 : 16;
    if (len < 4 || (value[1] != FAMILY_V4 && value[1] != FAMILY_V6) || len != 4 + bytes)
        return -EBADMSG;
    memset(ret, 0, RIFT_ADDRESS_BYTES);
    if (bytes == 4)
        memcpy(ret, v4_mapped, sizeof v4_mapped);
    uint8_t *to = ret + 16 - bytes;
    for (size_t i = 0; i < bytes; i++)
        to[i] = (uint8_t)(value[4 + i] ^ (mask ? mask[i] : 0));
    for (size_t i = 0; i < 2; i++)
        ret[16 + i] = (uint8_t)(value[2 + i] ^ (mask ? mask[i] : 0));
    return 0;
}

struct attributes {
    const uint8_t *datagram;
    bool xor_seen, plain_seen, error_seen;
};

static int read_attribute(struct attributes *a, uint16_t type, const uint8_t *value, size_t len,
                          struct rift_stun_message *m)
{
    uint8_t address[RIFT_ADDRESS_BYTES];
    switch (type) {
    case XOR_MAPPED_ADDRESS:
    case MAPPED_ADDRESS: {
        bool masked = type == XOR_MAPPED_ADDRESS, *seen = masked ? &a->xor_seen : &a->plain_seen;
        if (*seen)
            return 0;
        *seen = true;
        if (read_address(value, len, masked ? a->datagram + 4 : NULL, address) < 0)
            return -EBADMSG;
        if (masked || !a->xor_seen)
            memcpy(m->address, address, sizeof address);
        m->has_address = true;
        return 0;
    }
    case ERROR_CODE:
        if (len < 4 || (value[2] & 7) < 3 || (value[2] & 7) > 6 || value[3] > 99)
            return -EBADMSG;
        if (!a->error_seen)
            m->error = (value[2] & 7) * 100u + value[3];
        a->error_seen = true;
        return 0;
    default:
        m->unknown += type < OPTIONAL;
        return 0;
    }
}

int rift_stun_read(const uint8_t *datagram, size_t len, struct rift_stun_message *ret_message)
{
    struct attributes a = {.datagram = datagram};
    memset(ret_message, 0, sizeof *ret_message);
    if (!rift_stun_is(datagram, len))
        return -EBADMSG;
    split_type(get16(datagram), ret_message);
    memcpy(ret_message->id, datagram + 8, RIFT_STUN_ID_BYTES);
    for (size_t at = HEADER_BYTES; at < len;) {
        /* The whole message is a multiple of 4, and so is every step: a header always fits. */
        uint16_t type = get16(datagram + at);
        size_t size = get16(datagram + at + 2), padded = (size + 3) & ~(size_t)3;
        if (padded > len - at - 4)
            return -EBADMSG;
        if (type == FINGERPRINT) {
            if (size != 4 || at + FINGERPRINT_BYTES != len ||
                get32(datagram + at + 4) != (crc32(datagram, at) ^ FINGERPRINT_XOR))
                return -EBADMSG;
            ret_message->has_fingerprint = true;
        } else if (read_attribute(&a, type, datagram + at + 4, size, ret_message) < 0) {
            return -EBADMSG;
        }
        at += 4 + padded;
    }
    return 0;
}

static void write_header(uint16_t type, size_t attributes, const uint8_t id[RIFT_STUN_ID_BYTES], uint8_t *ret)
{
    put16(ret, type);
    put16(ret + 2, (uint16_t)attributes);
    put32(ret + 4, COOKIE);
    memcpy(ret + 8, id, RIFT_STUN_ID_BYTES);
}

static void write_fingerprint(uint8_t *message, size_t at)
{
    put16(message + at, FINGERPRINT);
    put16(message + at + 2, 4);
    put32(message + at + 4, crc32(message, at) ^ FINGERPRINT_XOR);
}

void rift_stun_request(const uint8_t id[RIFT_STUN_ID_BYTES], uint8_t ret_request[RIFT_STUN_REQUEST_BYTES])
{
    write_header(METHOD_BINDING, FINGERPRINT_BYTES, id, ret_request);
    write_fingerprint(ret_request, HEADER_BYTES);
}

size_t rift_stun_respond(const uint8_t id[RIFT_STUN_ID_BYTES], const uint8_t address[RIFT_ADDRESS_BYTES],
                         uint8_t ret_response[RIFT_STUN_RESPONSE_BYTES])
{
    bool v4 = !memcmp(address, v4_mapped, sizeof v4_mapped);
    size_t bytes = v4 ? 4 : 16, end = HEADER_BYTES + 8 + bytes;
    uint8_t *value = ret_response + HEADER_BYTES + 4;
    write_header(0x0100 | METHOD_BINDING, 8 + bytes + FINGERPRINT_BYTES, id, ret_response);
    put16(ret_response + HEADER_BYTES, XOR_MAPPED_ADDRESS);
    put16(ret_response + HEADER_BYTES + 2, (uint16_t)(4 + bytes));
    value[0] = 0;
    value[1] = v4 ? FAMILY_V4 : FAMILY_V6;
    for (size_t i = 0; i < 2; i++)
        value[2 + i] = address[16 + i] ^ ret_response[4 + i];
    for (size_t i = 0; i < bytes; i++)
        value[4 + i] = address[16 - bytes + i] ^ ret_response[4 + i];
    write_fingerprint(ret_response, end);
    return end + FINGERPRINT_BYTES;
}
