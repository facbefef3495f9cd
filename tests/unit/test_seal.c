#include "lib/base/util.h"
#include "rift/crypto/identity.h"
#include "rift/crypto/seal.h"
#include "tests/unit/suite.h"

#include <errno.h>
#include <sodium.h>
#include <string.h>

/* RFC 8439, appendix A.5: its nonce begins with 32 zero bits, so that it is a counter here. */
START_TEST(rfc_8439_appendix_a5)
{
    static const char text[] =
        "Internet-Drafts are draft documents valid for a maximum of six months and may be "
        "updated, replaced, or obsoleted by other documents at any time. It is "
        "inappropriate to use Internet-Drafts as reference material or to cite them other "
        "than as /\xe2\x80\x9cwork in progress./\xe2\x80\x9d";
    uint8_t key[32], ad[12], tag[16], start[16], data[sizeof text - 1 + 16];
    size_t len = sizeof text - 1;
    wv_hex_decode("1c9240a5eb55d38af333888604f6b5f0473917c1402b80099dca5cbc207075c0", key, sizeof key);
    wv_hex_decode("f33388860000000000004e91", ad, sizeof ad);
    wv_hex_decode("eead9d67890cbb22392336fea1851f38", tag, sizeof tag);
    wv_hex_decode("64a0861575861af460f062c79be643bd", start, sizeof start);
    ck_assert_uint_eq(len, 265);
    memcpy(data, text, len);
    rift_seal(key, UINT64_C(0x0807060504030201), ad, sizeof ad, data, len);
    ck_assert_mem_eq(data, start, sizeof start);
    ck_assert_mem_eq(data + len, tag, sizeof tag);
    ck_assert_int_eq(rift_open(key, UINT64_C(0x0807060504030201), ad, sizeof ad, data, len + 16), 0);
    ck_assert_mem_eq(data, text, len);
}
END_TEST

static const uint8_t key[32] = {1, 2, 3}, ad[9] = {9, 8, 7};

START_TEST(every_flip_and_cut_is_refused)
{
    uint8_t sealed[40 + 16], copy[sizeof sealed], other_ad[sizeof ad];
    memset(sealed, 5, sizeof sealed);
    rift_seal(key, 77, ad, sizeof ad, sealed, 40);
    for (size_t bit = 0; bit < 8 * sizeof sealed; bit++) {
        memcpy(copy, sealed, sizeof copy);
        copy[bit / 8] ^= (uint8_t)(1 << bit % 8);
        ck_assert_int_eq(rift_open(key, 77, ad, sizeof ad, copy, sizeof copy), -EBADMSG);
    }
    for (size_t len = 0; len < sizeof sealed; len++) {
        memcpy(copy, sealed, sizeof copy);
        ck_assert_int_eq(rift_open(key, 77, ad, sizeof ad, copy, len), -EBADMSG);
    }
    for (size_t bit = 0; bit < 8 * sizeof ad; bit++) {
        memcpy(copy, sealed, sizeof copy);
        memcpy(other_ad, ad, sizeof ad);
        other_ad[bit / 8] ^= (uint8_t)(1 << bit % 8);
        ck_assert_int_eq(rift_open(key, 77, other_ad, sizeof ad, copy, sizeof copy), -EBADMSG);
    }
    for (unsigned bit = 0; bit < 64; bit++) {
        memcpy(copy, sealed, sizeof copy);
        ck_assert_int_eq(rift_open(key, 77 ^ UINT64_C(1) << bit, ad, sizeof ad, copy, sizeof copy), -EBADMSG);
    }
    ck_assert_int_eq(rift_open(key, 77, ad, sizeof ad, sealed, sizeof sealed), 0);
    for (size_t i = 0; i < 40; i++)
        ck_assert_uint_eq(sealed[i], 5);
}
END_TEST

START_TEST(empty_text_and_empty_ad)
{
    uint8_t tag[16];
    rift_seal(key, 0, NULL, 0, tag, 0);
    ck_assert_int_eq(rift_open(key, 0, ad, sizeof ad, tag, sizeof tag), -EBADMSG);
    ck_assert_int_eq(rift_open(key, 0, NULL, 0, tag, sizeof tag), 0);
}
END_TEST

START_TEST(the_nonce_is_four_zeros_and_the_counter)
{
    uint8_t nonce[RIFT_SEAL_NONCE_BYTES], expected[RIFT_SEAL_NONCE_BYTES];
    wv_hex_decode("00000000f0debc9a78563412", expected, sizeof expected);
    rift_seal_nonce(UINT64_C(0x123456789abcdef0), nonce);
    ck_assert_mem_eq(nonce, expected, sizeof nonce);
}
END_TEST

int main(void)
{
    if (rift_crypto_init() < 0)
        return 1;
    Suite *s = suite_create("seal");
    TCase *t = tcase_create("seal");
    suite_add_tcase(s, t);
    tcase_add_test(t, rfc_8439_appendix_a5);
    tcase_add_test(t, every_flip_and_cut_is_refused);
    tcase_add_test(t, empty_text_and_empty_ad);
    tcase_add_test(t, the_nonce_is_four_zeros_and_the_counter);
    return wv_run_suite(s);
}
