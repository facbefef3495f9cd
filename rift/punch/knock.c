/* Knocks as bytes. See knock.h. */
#include "rift/punch/knock.h"

#include "lib/base/bytes.h"

#include <errno.h>
#include <sodium.h>
#include <string.h>

#define VERSION    1
#define ID_AT      4
#define MAC_BYTES  16
#define MAC_AT     (RIFT_KNOCK_BYTES - MAC_BYTES)
#define ZERO_BYTES 6

static void derive(uint8_t *out, size_t len, const char *label, const uint8_t *secret)
{
    crypto_generichash(out, len, (const uint8_t *)label, strlen(label), secret, RIFT_KNOCK_SECRET_BYTES);
}

void rift_knock_derive(const uint8_t secret[RIFT_KNOCK_SECRET_BYTES], struct rift_knock_keys *ret_keys)
{
    uint8_t id[crypto_generichash_BYTES_MIN];
    derive(ret_keys->mac, sizeof ret_keys->mac, "RIFT 1 knock", secret);
    derive(id, sizeof id, "RIFT 1 knock id", secret);
    memcpy(ret_keys->id, id, sizeof ret_keys->id);
}

bool rift_knock_is(const uint8_t *datagram, size_t len, const uint8_t **ret_id)
{
    if (len != RIFT_KNOCK_BYTES || (datagram[0] != RIFT_KNOCK && datagram[0] != RIFT_KNOCK_ANSWER) ||
        datagram[1] != VERSION)
        return false;
    if (ret_id)
        *ret_id = datagram + ID_AT;
    return true;
}

static void make_mac(const struct rift_knock_keys *keys, const uint8_t *datagram, uint8_t ret_mac[MAC_BYTES])
{
    crypto_generichash(ret_mac, MAC_BYTES, datagram, MAC_AT, keys->mac, sizeof keys->mac);
}

void rift_knock_write(const struct rift_knock_keys *keys, const struct rift_knock *knock,
                      uint8_t ret_datagram[RIFT_KNOCK_BYTES])
{
    static const uint8_t zero[ZERO_BYTES];
    struct wv_writer w;
    wv_writer_init(&w, ret_datagram, RIFT_KNOCK_BYTES);
    wv_write_u8(&w, (uint8_t)knock->kind);
    wv_write_u8(&w, VERSION);
    wv_write_u8(&w, (uint8_t)knock->role);
    wv_write_u8(&w, knock->flags);
    wv_write_span(&w, keys->id, sizeof keys->id);
    wv_write_u32(&w, knock->number);
    wv_write_span(&w, knock->nonce, sizeof knock->nonce);
    wv_write_span(&w, knock->address, sizeof knock->address);
    wv_write_span(&w, zero, sizeof zero);
    make_mac(keys, ret_datagram, ret_datagram + MAC_AT);
}

int rift_knock_read(const struct rift_knock_keys *keys, const uint8_t *datagram, size_t len,
                    struct rift_knock *ret_knock)
{
    struct wv_reader r;
    const uint8_t *id;
    uint8_t mac[MAC_BYTES];
    if (!rift_knock_is(datagram, len, &id) || memcmp(id, keys->id, sizeof keys->id) != 0)
        return -EBADMSG;
    make_mac(keys, datagram, mac);
    if (sodium_memcmp(mac, datagram + MAC_AT, sizeof mac) != 0)
        return -EBADMSG;
    struct rift_knock k = {.kind = (enum rift_knock_kind)datagram[0]};
    wv_reader_init(&r, datagram + 2, MAC_AT - 2);
    uint8_t role = wv_read_u8(&r);
    k.flags = wv_read_u8(&r);
    (void)wv_read_span(&r, RIFT_KNOCK_ID_BYTES);
    k.number = wv_read_u32(&r);
    memcpy(k.nonce, wv_read_span(&r, sizeof k.nonce), sizeof k.nonce);
    memcpy(k.address, wv_read_span(&r, sizeof k.address), sizeof k.address);
    const uint8_t *zero = wv_read_span(&r, ZERO_BYTES);
    if (role > RIFT_ROLE_CLIENT || k.flags > RIFT_KNOCK_USE || k.number == 0 ||
        !sodium_is_zero(zero, ZERO_BYTES))
        return -EBADMSG;
    k.role = (enum rift_role)role;
    *ret_knock = k;
    return 0;
}
