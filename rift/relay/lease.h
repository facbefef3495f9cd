/* Leases of a relay: who may use which relay, how fast and how long, signed by somebody whom the relay
 * trusts. A lease names the public keys of both peers, so that an overheard one is worth nothing. Bytes and
 * text only, WIRE.md section 10.1; must never read a clock or a file. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define RIFT_LEASE_BYTES        192
#define RIFT_LEASE_SIGNED_BYTES 128 /* what the signature covers; it follows */
#define RIFT_LEASE_ID_BYTES     16
#define RIFT_LEASE_ISSUER_BYTES 8
#define RIFT_RELAY_ID_BYTES     16
/* "wavry-lease1." and 256 characters of URL-safe base64, then a NUL. */
#define RIFT_LEASE_TEXT_BYTES (13 + 256 + 1)
/* "ed25519." and 43 characters of unpadded URL-safe base64, then a NUL: an issuer's or a peer's public key.
 */
#define RIFT_SIGN_KEY_TEXT_BYTES (8 + 43 + 1)

struct rift_lease {
    uint8_t issuer[RIFT_LEASE_ISSUER_BYTES]; /* rift_lease_issuer_id() of the key that signs */
    uint8_t id[RIFT_LEASE_ID_BYTES];         /* random, never used twice; a renewal keeps it */
    uint8_t relay[RIFT_RELAY_ID_BYTES];
    uint8_t peers[2][32]; /* Ed25519, best made for this lease alone: a relay then learns nobody's identity */
    uint32_t rate_kbps;   /* of each direction */
    uint64_t not_before_s; /* seconds since 1970 */
    uint64_t expires_s;
};

enum rift_lease_fault {
    RIFT_LEASE_VALID,
    RIFT_LEASE_OTHER_RELAY,
    RIFT_LEASE_NOT_YET,
    RIFT_LEASE_EXPIRED,
    RIFT_LEASE_TOO_LONG,
};

/* What a lease calls the relay of NAME (a host name, as a rule): BLAKE2b-128 over "RIFT 1 relay" and NAME. */
void rift_relay_id(const char *name, uint8_t ret_id[RIFT_RELAY_ID_BYTES]);
/* What a lease calls its issuer: BLAKE2b over "RIFT 1 issuer" and the Ed25519 public key, 8 bytes. */
void rift_lease_issuer_id(const uint8_t key[32], uint8_t ret_id[RIFT_LEASE_ISSUER_BYTES]);

/* Writes LEASE, its issuer filled in, and signs it with SECRET (Ed25519, libsodium's 64 bytes). Returns 0, or
 * -EINVAL for what rift_lease_parse() would refuse. */
int rift_lease_sign(const struct rift_lease *lease, const uint8_t secret[64],
                    uint8_t ret_bytes[RIFT_LEASE_BYTES]);
/* Reads the form only: who signed it and whether it is valid now is another question. Returns 0 or -EBADMSG.
 */
int rift_lease_parse(const uint8_t *bytes, size_t len, struct rift_lease *ret_lease);
/* Whether the holder of KEY (Ed25519, public) signed it. */
bool rift_lease_is_signed(const uint8_t bytes[RIFT_LEASE_BYTES], const uint8_t key[32]);
/* Whether the relay RELAY may serve it at UNIX_S, clocks differing by up to LEEWAY_S; no lease may last
 * longer than MAX_S. */
enum rift_lease_fault rift_lease_check(const struct rift_lease *lease,
                                       const uint8_t relay[RIFT_RELAY_ID_BYTES], uint64_t unix_s,
                                       uint32_t leeway_s, uint32_t max_s);

void rift_lease_format(const uint8_t bytes[RIFT_LEASE_BYTES], char ret_text[RIFT_LEASE_TEXT_BYTES]);
/* Returns 0 or -EINVAL: not of that form. The lease itself is not looked at. */
int rift_lease_parse_text(const char *text, uint8_t ret_bytes[RIFT_LEASE_BYTES]);
void rift_sign_key_format(const uint8_t key[32], char ret_text[RIFT_SIGN_KEY_TEXT_BYTES]);
int rift_sign_key_parse(const char *text, uint8_t ret_key[32]);
