#include "lib/base/util.h"
#include "rift/crypto/identity.h"
#include "tests/unit/suite.h"

#include <errno.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>

START_TEST(a_seed_always_gives_the_same_keys)
{
    uint8_t seed[32];
    struct rift_identity a, b;
    char text[RIFT_PUBLIC_KEY_TEXT_BYTES];
    for (size_t i = 0; i < 32; i++)
        seed[i] = (uint8_t)i;
    rift_identity_from_seed(&a, seed);
    rift_identity_from_seed(&b, seed);
    ck_assert_mem_eq(&a, &b, sizeof a);
    ck_assert_mem_eq(a.seed, seed, 32);
    /* Fixed: an identity file of today must be the same person in every later version. */
    rift_public_key_format(a.public, text);
    ck_assert_str_eq(text, "wavry1Yon1RjeGu-8f-8m4qmSEpMPBHq8aY3QeyMspYWfnGAM");
    rift_public_key_format(a.sign_public, text);
    ck_assert_str_eq(text, "wavry1BhaUr7GDnAE4y-BFKBx3hMOHDOAm3Dsvx74_Nznz8HE");
}
END_TEST

START_TEST(the_key_pairs_belong_together_and_apart)
{
    struct rift_identity a, b;
    uint8_t public[32], signature[64];
    rift_identity_generate(&a);
    rift_identity_generate(&b);
    ck_assert_mem_ne(a.seed, b.seed, 32);
    ck_assert_mem_ne(a.secret, b.secret, 32);
    crypto_scalarmult_base(public, a.secret);
    ck_assert_mem_eq(public, a.public, 32);
    crypto_sign_detached(signature, NULL, a.seed, 32, a.sign_secret);
    ck_assert_int_eq(crypto_sign_verify_detached(signature, a.seed, 32, a.sign_public), 0);
    ck_assert_int_ne(crypto_sign_verify_detached(signature, a.seed, 32, b.sign_public), 0);
    /* The three secrets are three different things. */
    ck_assert_mem_ne(a.secret, a.seed, 32);
    ck_assert_mem_ne(a.secret, a.sign_secret, 32);
    ck_assert_mem_ne(a.seed, a.sign_secret, 32);
    rift_identity_wipe(&a);
    ck_assert(sodium_is_zero((uint8_t *)&a, sizeof a));
}
END_TEST

START_TEST(identity_text_round_trips)
{
    struct rift_identity a, b;
    char text[RIFT_IDENTITY_TEXT_BYTES];
    rift_identity_generate(&a);
    memset(text, 'x', sizeof text);
    rift_identity_format(&a, text);
    ck_assert_uint_eq(strlen(text), RIFT_IDENTITY_TEXT_BYTES - 1);
    ck_assert_int_eq(strncmp(text, "wavry-identity-1 ", 17), 0);
    ck_assert_int_eq(rift_identity_parse(text, strlen(text), &b), 0);
    ck_assert_mem_eq(&a, &b, sizeof a);
}
END_TEST

START_TEST(identity_text_is_strict)
{
    struct rift_identity a, b, before;
    char text[RIFT_IDENTITY_TEXT_BYTES + 1], broken[sizeof text];
    rift_identity_generate(&a);
    memset(&b, 0x5a, sizeof b);
    before = b;
    rift_identity_format(&a, text);
    size_t len = strlen(text);
    for (size_t cut = 0; cut < len; cut++)
        ck_assert_int_eq(rift_identity_parse(text, cut, &b), -EINVAL);
    for (size_t i = 0; i < len; i++) {
        memcpy(broken, text, sizeof broken);
        broken[i] = '~';
        ck_assert_int_eq(rift_identity_parse(broken, len, &b), -EINVAL);
        broken[i] = 0;
        ck_assert_int_eq(rift_identity_parse(broken, len, &b), -EINVAL);
    }
    text[len] = '\n';
    ck_assert_int_eq(rift_identity_parse(text, len + 1, &b), -EINVAL);
    ck_assert_mem_eq(&b, &before, sizeof b);
}
END_TEST

static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

START_TEST(public_key_text_round_trips)
{
    for (int i = 0; i < 200; i++) {
        struct rift_identity a;
        uint8_t key[32];
        char text[RIFT_PUBLIC_KEY_TEXT_BYTES];
        rift_identity_generate(&a);
        rift_public_key_format(a.public, text);
        ck_assert_uint_eq(strlen(text), 49);
        ck_assert_uint_eq(strspn(text, alphabet), 49);
        ck_assert_int_eq(rift_public_key_parse(text, key), 0);
        ck_assert_mem_eq(key, a.public, 32);
    }
}
END_TEST

START_TEST(public_key_text_is_strict)
{
    struct rift_identity a;
    uint8_t key[32] = {7}, before[32] = {7};
    char text[RIFT_PUBLIC_KEY_TEXT_BYTES], broken[80];
    rift_identity_generate(&a);
    rift_public_key_format(a.public, text);
    for (size_t cut = 0; cut < 49; cut++) {
        memcpy(broken, text, cut);
        broken[cut] = 0;
        ck_assert_int_eq(rift_public_key_parse(broken, key), -EINVAL);
    }
    for (size_t i = 0; i < 49; i++)
        for (int c = 1; c < 256; c++) {
            strcpy(broken, text);
            if (strchr(alphabet, c))
                continue;
            broken[i] = (char)c;
            ck_assert_int_eq(rift_public_key_parse(broken, key), -EINVAL);
        }
    snprintf(broken, sizeof broken, "%s=", text);
    ck_assert_int_eq(rift_public_key_parse(broken, key), -EINVAL);
    snprintf(broken, sizeof broken, "%sA", text);
    ck_assert_int_eq(rift_public_key_parse(broken, key), -EINVAL);
    snprintf(broken, sizeof broken, " %s", text);
    ck_assert_int_eq(rift_public_key_parse(broken, key), -EINVAL);
    /* One key has one text: the last character carries two bits that must be zero. */
    strcpy(broken, text);
    broken[48]++;
    ck_assert_int_eq(rift_public_key_parse(broken, key), -EINVAL);
    ck_assert_mem_eq(key, before, 32);
}
END_TEST

static const char *const refused_keys[] = {
    /* low order */
    "0000000000000000000000000000000000000000000000000000000000000000",
    "0100000000000000000000000000000000000000000000000000000000000000",
    "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
    "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
    "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    /* a second text for another point: 2 + p, and 9 with the unused bit set */
    "efffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "0900000000000000000000000000000000000000000000000000000000000080",
};

START_TEST(bad_points_are_refused)
{
    uint8_t key[32], parsed[32];
    char text[RIFT_PUBLIC_KEY_TEXT_BYTES];
    ck_assert_int_eq(wv_hex_decode(refused_keys[_i], key, 32), 0);
    rift_public_key_format(key, text);
    ck_assert_int_eq(rift_public_key_parse(text, parsed), -EINVAL);
    /* Nine, the base point, is as good as any. */
    memset(key, 0, 32);
    key[0] = 9;
    rift_public_key_format(key, text);
    ck_assert_int_eq(rift_public_key_parse(text, parsed), 0);
}
END_TEST

int main(void)
{
    if (rift_crypto_init() < 0)
        return 1;
    Suite *s = suite_create("identity");
    TCase *t = tcase_create("identity");
    suite_add_tcase(s, t);
    tcase_add_test(t, a_seed_always_gives_the_same_keys);
    tcase_add_test(t, the_key_pairs_belong_together_and_apart);
    tcase_add_test(t, identity_text_round_trips);
    tcase_add_test(t, identity_text_is_strict);
    tcase_add_test(t, public_key_text_round_trips);
    tcase_add_test(t, public_key_text_is_strict);
    tcase_add_loop_test(t, bad_points_are_refused, 0, (int)WV_ARRAY_SIZE(refused_keys));
    return wv_run_suite(s);
}
