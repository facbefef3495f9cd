/* Section 11.6 of proto/WIRE.md, read out of the document itself: the bytes that another implementation, in
 * another language and from the specifications alone, has made of the same keys. */
#include "lib/base/util.h"
#include "rift/crypto/cpace.h"
#include "rift/crypto/identity.h"
#include "rift/crypto/inner.h"
#include "rift/crypto/media_seal.h"
#include "tests/unit/suite.h"

#include <ctype.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>

#define CAPACITY 512

static char *wire;

/* Reads the bytes of "NAME = hex", where the hex may go on in indented lines. */
static size_t example(const char *name, uint8_t ret[CAPACITY])
{
    char line[64], digits[2 * CAPACITY + 1];
    snprintf(line, sizeof line, "\n%s =", name);
    const char *p = strstr(wire, line);
    ck_assert_msg(p, "WIRE.md has no example \"%s\"", name);
    size_t n = 0;
    for (p += strlen(line); *p && !(*p == '\n' && p[1] != ' '); p++)
        if (!isspace((unsigned char)*p) && n < sizeof digits - 1)
            digits[n++] = *p;
    digits[n] = 0;
    ck_assert_int_eq(wv_hex_decode(digits, ret, n / 2), 0);
    return n / 2;
}

static void expect(const char *name, const uint8_t *bytes, size_t len)
{
    uint8_t expected[CAPACITY];
    ck_assert_msg(example(name, expected) == len && memcmp(expected, bytes, len) == 0, "%s differs", name);
}

START_TEST(the_inner_channel)
{
    uint8_t base[CAPACITY], plain[CAPACITY], sealed[CAPACITY], opened[CAPACITY], input_key[32];
    struct rift_inner host, client;
    size_t len, sealed_len;
    example("base of the inner keys", base);
    rift_inner_derive(base, true, &host, input_key);
    rift_inner_derive(base, false, &client, input_key);
    expect("inner key to host", client.key_send, 32);
    expect("inner key to client", host.key_send, 32);
    expect("inner input key", input_key, 32);

    len = example("InnerToHost", plain);
    ck_assert_int_eq(rift_inner_seal(&client, plain, len, sealed, sizeof sealed, &sealed_len), 0);
    expect("its message, number 0", sealed, sealed_len);
    len = example("InnerToClient", plain);
    host.next_send = 5;
    ck_assert_int_eq(rift_inner_seal(&host, plain, len, sealed, sizeof sealed, &sealed_len), 0);
    expect("its message, number 5", sealed, sealed_len);
    ck_assert_int_eq(rift_inner_open(&client, sealed, sealed_len, opened, sizeof opened, &len), 0);
    expect("InnerToClient", opened, len);

    example("event", plain);
    rift_input_seal(input_key, 258, plain, sealed);
    expect("the event sealed, sequence 258", sealed, RIFT_INPUT_SEALED_BYTES);
}
END_TEST

START_TEST(media)
{
    uint8_t base[CAPACITY], unit[CAPACITY], sealed[CAPACITY], *data;
    struct rift_media_sealer s;
    struct rift_media_opener o;
    const struct rift_media_about about = {.epoch = 258, .keyframe = 1, .width = 640, .height = 360};
    size_t unit_len = example("access unit", unit), len;
    example("media base key", base);
    rift_media_sealer_init(&s, 9, base);
    expect("media key of KID 9", s.key, sizeof s.key);
    expect("media salt of KID 9", s.salt, sizeof s.salt);
    ck_assert_int_eq(rift_media_seal(&s, &about, unit, unit_len, sealed, sizeof sealed, &len), 0);
    expect("sealed, CTR 0", sealed, len);
    s.next = 1000;
    ck_assert_int_eq(rift_media_seal(&s, &about, unit, unit_len, sealed, sizeof sealed, &len), 0);
    expect("sealed, CTR 1000", sealed, len);
    rift_media_opener_init(&o);
    rift_media_opener_add(&o, 9, base);
    ck_assert_int_eq(rift_media_open(&o, &about, sealed, len, &data, &len), 0);
    expect("access unit", data, len);
}
END_TEST

START_TEST(the_cursor)
{
    uint8_t base[CAPACITY], key[32], nonce[CAPACITY], image[CAPACITY], sealed[CAPACITY];
    unsigned long long sealed_len;
    example("media base key", base);
    crypto_generichash(key, sizeof key, (const uint8_t *)"RIFT 1 cursor", 13, base, 32);
    expect("cursor key", key, sizeof key);
    ck_assert_uint_eq(example("cursor nonce", nonce), crypto_aead_xchacha20poly1305_ietf_NPUBBYTES);
    size_t len = example("CursorImage", image);
    crypto_aead_xchacha20poly1305_ietf_encrypt(sealed, &sealed_len, image, len, NULL, 0, NULL, nonce, key);
    expect("SealedCursor.sealed", sealed, sealed_len);
}
END_TEST

START_TEST(pairing)
{
    uint8_t code[CAPACITY], name[CAPACITY], channel[CAPACITY], sid[CAPACITY], scalar[CAPACITY];
    uint8_t share_a[32], share_b[32], key[64], own[64], peer[64];
    struct rift_cpace a, b;
    size_t code_len = example("code", code), name_len = example("name", name);
    size_t channel_len = example("channel", channel), sid_len = example("handshake hash", sid);
    ck_assert_uint_eq(channel_len, 11 + 32 + 32);
    example("client scalar", scalar);
    ck_assert_int_eq(rift_cpace_begin(&a, code, code_len, channel, channel_len, sid, sid_len, scalar), 0);
    example("host scalar", scalar);
    ck_assert_int_eq(rift_cpace_begin(&b, code, code_len, channel, channel_len, sid, sid_len, scalar), 0);
    memcpy(share_a, a.share, 32);
    memcpy(share_b, b.share, 32);
    expect("client share", share_a, 32);
    expect("host share", share_b, 32);
    ck_assert_int_eq(rift_cpace_finish(&a, true, name, name_len, share_b, NULL, 0, key, own, peer), 0);
    expect("pairing key", key, 64);
    expect("client tag", own, 64);
    expect("host tag", peer, 64);
    ck_assert_int_eq(rift_cpace_finish(&b, false, NULL, 0, share_a, name, name_len, key, own, peer), 0);
    expect("pairing key", key, 64);
    expect("host tag", own, 64);
    expect("client tag", peer, 64);
}
END_TEST

int main(void)
{
    size_t len;
    if (rift_crypto_init() < 0 || wv_read_file(TEST_WIRE_MD, 1 << 20, (uint8_t **)&wire, &len) < 0)
        return 1;
    Suite *suite = suite_create("inner examples");
    TCase *tests = tcase_create("all");
    tcase_add_test(tests, the_inner_channel);
    tcase_add_test(tests, media);
    tcase_add_test(tests, the_cursor);
    tcase_add_test(tests, pairing);
    suite_add_tcase(suite, tests);
    int code = wv_run_suite(suite);
    free(wire);
    return code;
}
