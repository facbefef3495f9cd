/* The inner channel and sealed input events: what opens, and that nothing else does. */
#include "rift/crypto/identity.h"
#include "rift/crypto/inner.h"
#include "rift/crypto/noise.h"
#include "tests/unit/suite.h"

#include <errno.h>
#include <sodium.h>
#include <string.h>

static const uint8_t base[32] = {5, 6, 7};

struct ends {
    struct rift_inner host, client;
    uint8_t key_host[32], key_client[32];
};

static void ends_init(struct ends *e)
{
    rift_inner_derive(base, true, &e->host, e->key_host);
    rift_inner_derive(base, false, &e->client, e->key_client);
}

START_TEST(keys_are_of_the_labels)
{
    struct ends e;
    uint8_t key[32];
    ends_init(&e);
    crypto_generichash(key, 32, (const uint8_t *)"RIFT 1 to host", 14, base, 32);
    ck_assert_mem_eq(e.host.key_receive, key, 32);
    ck_assert_mem_eq(e.client.key_send, key, 32);
    crypto_generichash(key, 32, (const uint8_t *)"RIFT 1 to client", 16, base, 32);
    ck_assert_mem_eq(e.host.key_send, key, 32);
    ck_assert_mem_eq(e.client.key_receive, key, 32);
    crypto_generichash(key, 32, (const uint8_t *)"RIFT 1 input", 12, base, 32);
    ck_assert_mem_eq(e.key_host, key, 32);
    ck_assert_mem_eq(e.key_client, key, 32);
}
END_TEST

START_TEST(both_ways_and_empty)
{
    struct ends e;
    uint8_t sealed[64], plain[64];
    size_t len, plain_len;
    ends_init(&e);
    for (int i = 0; i < 3; i++) {
        ck_assert_int_eq(rift_inner_seal(&e.host, (const uint8_t *)"hello", 5, sealed, sizeof sealed, &len),
                         0);
        ck_assert_uint_eq(len, 5 + RIFT_INNER_OVERHEAD);
        ck_assert_uint_eq(sealed[0], i);
        ck_assert_int_eq(rift_inner_open(&e.client, sealed, len, plain, sizeof plain, &plain_len), 0);
        ck_assert_uint_eq(plain_len, 5);
        ck_assert_mem_eq(plain, "hello", 5);
        ck_assert_int_eq(rift_inner_seal(&e.client, NULL, 0, sealed, sizeof sealed, &len), 0);
        ck_assert_int_eq(rift_inner_open(&e.host, sealed, len, plain, 0, &plain_len), 0);
        ck_assert_uint_eq(plain_len, 0);
    }
}
END_TEST

START_TEST(every_flip_and_cut_is_refused)
{
    struct ends e;
    uint8_t sealed[64], bent[64], plain[64];
    size_t len, plain_len;
    ends_init(&e);
    ck_assert_int_eq(rift_inner_seal(&e.client, (const uint8_t *)"take", 4, sealed, sizeof sealed, &len), 0);
    const struct rift_inner before = e.host;
    for (size_t cut = 0; cut < len; cut++)
        ck_assert_int_eq(rift_inner_open(&e.host, sealed, cut, plain, sizeof plain, &plain_len), -EBADMSG);
    for (size_t bit = 0; bit < 8 * len; bit++) {
        memcpy(bent, sealed, len);
        bent[bit / 8] ^= (uint8_t)(1u << bit % 8);
        ck_assert_int_eq(rift_inner_open(&e.host, bent, len, plain, sizeof plain, &plain_len), -EBADMSG);
    }
    ck_assert_mem_eq(&e.host, &before, sizeof before);
    ck_assert_int_eq(rift_inner_open(&e.host, sealed, len, plain, sizeof plain, &plain_len), 0);
}
END_TEST

START_TEST(a_message_opens_once_and_gaps_are_allowed)
{
    struct ends e;
    uint8_t sealed[4][64], plain[64];
    size_t len, plain_len;
    ends_init(&e);
    for (int i = 0; i < 4; i++)
        ck_assert_int_eq(rift_inner_seal(&e.host, (const uint8_t *)"x", 1, sealed[i], 64, &len), 0);
    ck_assert_int_eq(rift_inner_open(&e.client, sealed[0], len, plain, 64, &plain_len), 0);
    ck_assert_int_eq(rift_inner_open(&e.client, sealed[0], len, plain, 64, &plain_len), -EBADMSG);
    ck_assert_int_eq(rift_inner_open(&e.client, sealed[2], len, plain, 64, &plain_len), 0);
    ck_assert_int_eq(rift_inner_open(&e.client, sealed[1], len, plain, 64, &plain_len), -EBADMSG);
    ck_assert_int_eq(rift_inner_open(&e.client, sealed[3], len, plain, 64, &plain_len), 0);
}
END_TEST

START_TEST(a_direction_does_not_open_its_own)
{
    struct ends e;
    uint8_t sealed[64], plain[64];
    size_t len, plain_len;
    ends_init(&e);
    ck_assert_int_eq(rift_inner_seal(&e.host, (const uint8_t *)"x", 1, sealed, 64, &len), 0);
    ck_assert_int_eq(rift_inner_open(&e.host, sealed, len, plain, 64, &plain_len), -EBADMSG);
}
END_TEST

START_TEST(room_and_numbers_are_bounded)
{
    struct ends e;
    uint8_t sealed[64], plain[64];
    size_t len = 99, plain_len = 99;
    ends_init(&e);
    ck_assert_int_eq(rift_inner_seal(&e.host, plain, 1, sealed, RIFT_INNER_OVERHEAD, &len), -EMSGSIZE);
    ck_assert_int_eq(rift_inner_seal(&e.host, plain, SIZE_MAX, sealed, 64, &len), -EMSGSIZE);
    ck_assert_int_eq(rift_inner_seal(&e.host, plain, 0, sealed, 0, &len), -EMSGSIZE);
    ck_assert_uint_eq(e.host.next_send, 0);
    ck_assert_uint_eq(len, 99);

    ck_assert_int_eq(rift_inner_seal(&e.host, (const uint8_t *)"xy", 2, sealed, 64, &len), 0);
    ck_assert_int_eq(rift_inner_open(&e.client, sealed, len, plain, 1, &plain_len), -EMSGSIZE);
    ck_assert_int_eq(rift_inner_open(&e.client, sealed, len, plain, 2, &plain_len), 0);

    e.host.next_send = UINT64_MAX - 1;
    ck_assert_int_eq(rift_inner_seal(&e.host, plain, 1, sealed, 64, &len), 0);
    ck_assert_int_eq(rift_inner_open(&e.client, sealed, len, plain, 64, &plain_len), 0);
    ck_assert_int_eq(rift_inner_seal(&e.host, plain, 1, sealed, 64, &len), -EOVERFLOW);
    ck_assert_int_eq(rift_inner_open(&e.client, sealed, len, plain, 64, &plain_len), -EBADMSG);
}
END_TEST

START_TEST(input_opens_under_its_number_only)
{
    struct ends e;
    uint8_t plain[RIFT_INPUT_PLAIN_BYTES] = {1, 1, 30}, sealed[RIFT_INPUT_SEALED_BYTES], again[sizeof sealed];
    uint8_t out[RIFT_INPUT_PLAIN_BYTES];
    ends_init(&e);
    rift_input_seal(e.key_client, 7, plain, sealed);
    rift_input_seal(e.key_client, 7, plain, again);
    ck_assert_mem_eq(sealed, again, sizeof sealed);
    ck_assert_int_eq(rift_input_open(e.key_host, 7, sealed, out), 0);
    ck_assert_mem_eq(out, plain, sizeof plain);

    memset(out, 0xaa, sizeof out);
    ck_assert_int_eq(rift_input_open(e.key_host, 8, sealed, out), -EBADMSG);
    ck_assert_int_eq(rift_input_open(e.host.key_send, 7, sealed, out), -EBADMSG);
    for (size_t bit = 0; bit < 8 * sizeof sealed; bit++) {
        memcpy(again, sealed, sizeof sealed);
        again[bit / 8] ^= (uint8_t)(1u << bit % 8);
        ck_assert_int_eq(rift_input_open(e.key_host, 7, again, out), -EBADMSG);
    }
    ck_assert_uint_eq(out[0], 0xaa);
}
END_TEST

static void handshake(struct rift_noise **ret_initiator, struct rift_noise **ret_responder)
{
    uint8_t message[256], payload[64];
    size_t len, payload_len;
    struct rift_identity a, b;
    struct rift_noise *side[2];
    rift_identity_generate(&a);
    rift_identity_generate(&b);
    ck_assert_int_eq(rift_noise_new(&side[0], true, a.secret, NULL, 0, NULL), 0);
    ck_assert_int_eq(rift_noise_new(&side[1], false, b.secret, NULL, 0, NULL), 0);
    for (int i = 0; i < 3; i++) {
        uint8_t ignored[32];
        ck_assert_int_eq(rift_noise_split_inner(side[i % 2], ignored), -EPROTO);
        ck_assert_int_eq(rift_noise_write(side[i % 2], NULL, 0, message, sizeof message, &len), 0);
        ck_assert_int_eq(
            rift_noise_read(side[1 - i % 2], message, len, payload, sizeof payload, &payload_len), 0);
    }
    *ret_initiator = side[0];
    *ret_responder = side[1];
}

START_TEST(both_sides_have_the_same_base)
{
    struct rift_noise *i, *r;
    uint8_t base_i[32], base_r[32], send[32], receive[32];
    handshake(&i, &r);
    ck_assert_int_eq(rift_noise_split_inner(i, base_i), 0);
    ck_assert_int_eq(rift_noise_split_inner(r, base_r), 0);
    ck_assert_mem_eq(base_i, base_r, 32);
    ck_assert_int_eq(rift_noise_split(i, send, receive), 0);
    ck_assert_mem_ne(base_i, send, 32);
    ck_assert_mem_ne(base_i, receive, 32);
    rift_noise_free(i);
    rift_noise_free(r);
}
END_TEST

int main(void)
{
    if (rift_crypto_init() < 0)
        return 1;
    Suite *suite = suite_create("inner");
    TCase *tests = tcase_create("all");
    tcase_add_test(tests, keys_are_of_the_labels);
    tcase_add_test(tests, both_ways_and_empty);
    tcase_add_test(tests, every_flip_and_cut_is_refused);
    tcase_add_test(tests, a_message_opens_once_and_gaps_are_allowed);
    tcase_add_test(tests, a_direction_does_not_open_its_own);
    tcase_add_test(tests, room_and_numbers_are_bounded);
    tcase_add_test(tests, input_opens_under_its_number_only);
    tcase_add_test(tests, both_sides_have_the_same_base);
    suite_add_tcase(suite, tests);
    return wv_run_suite(suite);
}
