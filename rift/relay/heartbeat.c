/* The signed bytes of a relay's heartbeat. See heartbeat.h. */
#include "rift/relay/heartbeat.h"

#include "lib/base/bytes.h"

#include <errno.h>
#include <sodium.h>
#include <string.h>

#define PURPOSE "RIFT 1 relay heartbeat" /* its NUL is signed too, and ends it */

struct message {
    uint8_t bytes[sizeof PURPOSE + RIFT_HEARTBEAT_NAME_MAX + 1 + 8 + 4 + 4 + 1];
    size_t len;
};

static int write_message(const struct rift_heartbeat *beat, struct message *ret)
{
    struct wv_writer w;
    size_t name = strnlen(beat->relay, RIFT_HEARTBEAT_NAME_MAX + 1);
    if (name == 0 || name > RIFT_HEARTBEAT_NAME_MAX)
        return -EINVAL;
    wv_writer_init(&w, ret->bytes, sizeof ret->bytes);
    wv_write_span(&w, PURPOSE, sizeof PURPOSE);
    wv_write_span(&w, beat->relay, name + 1);
    wv_write_u64(&w, beat->unix_s);
    wv_write_u32(&w, beat->load);
    wv_write_u32(&w, beat->leases);
    wv_write_u8(&w, beat->draining);
    ret->len = w.length;
    return 0;
}

int rift_heartbeat_sign(const struct rift_heartbeat *beat, const uint8_t secret[64],
                        uint8_t ret_signature[RIFT_HEARTBEAT_SIGNATURE_BYTES])
{
    struct message m;
    int r = write_message(beat, &m);
    if (r == 0)
        crypto_sign_detached(ret_signature, NULL, m.bytes, m.len, secret);
    return r;
}

bool rift_heartbeat_is_signed(const struct rift_heartbeat *beat,
                              const uint8_t signature[RIFT_HEARTBEAT_SIGNATURE_BYTES], const uint8_t key[32])
{
    struct message m;
    return write_message(beat, &m) == 0 && crypto_sign_verify_detached(signature, m.bytes, m.len, key) == 0;
}
