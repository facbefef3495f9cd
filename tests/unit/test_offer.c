/* Sealed signals: what opens, and that nothing else does; and that no offer is taken twice. Section 13 of
 * proto/WIRE.md is read out of the document itself. */
#include "lib/base/util.h"
#include "rift/crypto/identity.h"
#include "rift/crypto/offer.h"

#include <check.h>
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

static struct rift_identity client, host, other;
static struct rift_offer_end at_client, at_host;

static void setup(void)
{
    uint8_t seed[32];
    ck_assert_int_eq(rift_crypto_init(), 0);
    memset(seed, 1, sizeof seed);
    rift_identity_from_seed(&client, seed);
    memset(seed, 2, sizeof seed);
    rift_identity_from_seed(&host, seed);
    memset(seed, 3, sizeof seed);
    rift_identity_from_seed(&other, seed);
    at_client = (struct rift_offer_end){false, client.secret, client.public, host.public};
    at_host = (struct rift_offer_end){true, host.secret, host.public, client.public};
}

static size_t seal(const struct rift_offer_end *end, const char *text, uint8_t ret[RIFT_OFFER_MAX_BYTES])
{
    size_t len;
    ck_assert_int_eq(
        rift_offer_seal(end, NULL, (const uint8_t *)text, strlen(text), ret, RIFT_OFFER_MAX_BYTES, &len), 0);
    ck_assert_uint_eq(len, strlen(text) + RIFT_OFFER_OVERHEAD);
    return len;
}

static int opens(const struct rift_offer_end *end, const uint8_t *sealed, size_t len)
{
    uint8_t plain[RIFT_OFFER_MAX_BYTES];
    size_t n;
    return rift_offer_open(end, sealed, len, plain, sizeof plain, &n);
}

START_TEST(both_ways_and_empty)
{
    uint8_t sealed[RIFT_OFFER_MAX_BYTES], again[RIFT_OFFER_MAX_BYTES], plain[64];
    size_t n, len = seal(&at_client, "offer", sealed);
    ck_assert_int_eq(rift_offer_open(&at_host, sealed, len, plain, sizeof plain, &n), 0);
    ck_assert_uint_eq(n, 5);
    ck_assert_mem_eq(plain, "offer", 5);
    seal(&at_client, "offer", again);
    ck_assert_mem_ne(sealed, again, len);
    len = seal(&at_host, "answer", sealed);
    ck_assert_int_eq(rift_offer_open(&at_client, sealed, len, plain, sizeof plain, &n), 0);
    ck_assert_mem_eq(plain, "answer", 6);
    len = seal(&at_host, "", sealed);
    ck_assert_int_eq(rift_offer_open(&at_client, sealed, len, plain, 0, &n), 0);
    ck_assert_uint_eq(n, 0);
}
END_TEST

START_TEST(every_flip_and_cut_is_refused)
{
    uint8_t sealed[RIFT_OFFER_MAX_BYTES];
    size_t len = seal(&at_client, "take me", sealed);
    for (size_t cut = 0; cut < len; cut++)
        ck_assert_int_eq(opens(&at_host, sealed, cut), -EBADMSG);
    for (size_t bit = 0; bit < 8 * len; bit++) {
        sealed[bit / 8] ^= (uint8_t)(1u << bit % 8);
        ck_assert_int_eq(opens(&at_host, sealed, len), -EBADMSG);
        sealed[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    ck_assert_int_eq(opens(&at_host, sealed, len), 0);
}
END_TEST

START_TEST(others_open_nothing_and_nothing_comes_back)
{
    uint8_t sealed[RIFT_OFFER_MAX_BYTES];
    size_t len = seal(&at_client, "for the host", sealed);
    const struct rift_offer_end stranger = {true, other.secret, other.public, client.public};
    const struct rift_offer_end other_client = {false, other.secret, other.public, host.public};
    const struct rift_offer_end host_for_other = {true, host.secret, host.public, other.public};
    ck_assert_int_eq(opens(&stranger, sealed, len), -EBADMSG);
    ck_assert_int_eq(opens(&host_for_other, sealed, len),
                     -EBADMSG);                                 /* a gateway that lies about the sender */
    ck_assert_int_eq(opens(&at_client, sealed, len), -EBADMSG); /* sent back to who sealed it */
    len = seal(&other_client, "me too", sealed);
    ck_assert_int_eq(opens(&at_host, sealed, len), -EBADMSG);
    ck_assert_int_eq(opens(&host_for_other, sealed, len), 0);
}
END_TEST

START_TEST(sizes_and_weak_keys)
{
    static uint8_t plain[RIFT_OFFER_MAX_BYTES], sealed[RIFT_OFFER_MAX_BYTES + 1],
        opened[RIFT_OFFER_MAX_BYTES];
    static const uint8_t zero[32];
    size_t len, n, most = RIFT_OFFER_MAX_BYTES - RIFT_OFFER_OVERHEAD;
    const struct rift_offer_end weak = {false, client.secret, client.public, zero};
    ck_assert_int_eq(rift_offer_seal(&at_client, NULL, plain, most + 1, sealed, sizeof sealed, &len),
                     -EMSGSIZE);
    ck_assert_int_eq(rift_offer_seal(&at_client, NULL, plain, 1, sealed, RIFT_OFFER_OVERHEAD, &len),
                     -EMSGSIZE);
    ck_assert_int_eq(rift_offer_seal(&at_client, NULL, plain, 0, sealed, 8, &len), -EMSGSIZE);
    ck_assert_int_eq(rift_offer_seal(&at_client, NULL, plain, most, sealed, sizeof sealed, &len), 0);
    ck_assert_int_eq(rift_offer_open(&at_host, sealed, len, opened, most - 1, &n), -EMSGSIZE);
    ck_assert_int_eq(rift_offer_open(&at_host, sealed, len, opened, most, &n), 0);
    ck_assert_int_eq(opens(&at_host, sealed, len + 1), -EBADMSG);
    ck_assert_int_eq(rift_offer_seal(&weak, NULL, plain, 4, sealed, sizeof sealed, &len), -EINVAL);
}
END_TEST

/* ---- taken once ---- */

static int take(struct rift_offer_memory *m, uint32_t number, uint8_t peer, uint64_t unix_s, uint64_t now)
{
    uint8_t id[RIFT_OFFER_ID_BYTES] = {0}, key[32];
    memset(key, peer, sizeof key);
    memcpy(id, &number, sizeof number);
    return rift_offer_take(m, id, key, unix_s, now);
}

START_TEST(an_offer_is_taken_once)
{
    static struct rift_offer_memory m;
    const uint64_t now = 1800000000;
    memset(&m, 0, sizeof m);
    ck_assert_int_eq(take(&m, 1, 1, now, now), RIFT_OFFER_FRESH);
    ck_assert_int_eq(take(&m, 1, 1, now, now), RIFT_OFFER_REPLAYED);
    ck_assert_int_eq(take(&m, 1, 2, now, now), RIFT_OFFER_FRESH); /* somebody else's of the same number */
    /* For as long as its time would be taken it is remembered; afterwards its time is refused. */
    for (uint64_t s = 0; s <= RIFT_OFFER_LEEWAY_S; s++)
        ck_assert_int_eq(take(&m, 1, 1, now, now + s), RIFT_OFFER_REPLAYED);
    ck_assert_int_eq(take(&m, 1, 1, now, now + RIFT_OFFER_LEEWAY_S + 1), RIFT_OFFER_CLOCK);
}
END_TEST

START_TEST(a_clock_may_be_wrong_by_ten_minutes)
{
    static struct rift_offer_memory m;
    const uint64_t now = 1800000000, away = RIFT_OFFER_LEEWAY_S;
    memset(&m, 0, sizeof m);
    ck_assert_int_eq(take(&m, 1, 1, now - away, now), RIFT_OFFER_FRESH);
    ck_assert_int_eq(take(&m, 2, 1, now + away, now), RIFT_OFFER_FRESH);
    ck_assert_int_eq(take(&m, 3, 1, now - away - 1, now), RIFT_OFFER_CLOCK);
    ck_assert_int_eq(take(&m, 3, 1, now + away + 1, now), RIFT_OFFER_CLOCK);
    ck_assert_int_eq(take(&m, 3, 1, 0, now), RIFT_OFFER_CLOCK);
    ck_assert_int_eq(take(&m, 3, 1, UINT64_MAX, now), RIFT_OFFER_CLOCK);
    /* One of the future is remembered until that future is over. */
    ck_assert_int_eq(take(&m, 2, 1, now + away, now + 2 * away), RIFT_OFFER_REPLAYED);
}
END_TEST

START_TEST(nobody_fills_the_memory_for_others)
{
    static struct rift_offer_memory m;
    const uint64_t now = 1800000000;
    uint32_t n = 0;
    memset(&m, 0, sizeof m);
    while (take(&m, n, 1, now, now) == RIFT_OFFER_FRESH)
        n++;
    ck_assert_uint_eq(n, RIFT_OFFER_PER_PEER);
    ck_assert_int_eq(take(&m, n, 1, now, now), RIFT_OFFER_BUSY);
    ck_assert_int_eq(take(&m, n, 2, now, now), RIFT_OFFER_FRESH);
    for (uint8_t peer = 2; peer < 100; peer++)
        for (uint32_t i = 0; i < RIFT_OFFER_PER_PEER; i++)
            (void)take(&m, 1000 + i, peer, now, now);
    ck_assert_int_eq(take(&m, 1, 200, now, now), RIFT_OFFER_BUSY);
    ck_assert_int_eq(take(&m, 1, 1, now, now), RIFT_OFFER_REPLAYED); /* nothing was forgotten for it */
    ck_assert_int_eq(take(&m, 5, 1, now + 601, now + 601), RIFT_OFFER_FRESH);
}
END_TEST

/* ---- the document ---- */

static size_t example(const char *wire, const char *name, uint8_t *ret, size_t capacity)
{
    char line[64], digits[2048];
    snprintf(line, sizeof line, "\n%s =", name);
    const char *p = strstr(wire, line);
    ck_assert_msg(p != NULL, "WIRE.md has no example \"%s\"", name);
    size_t n = 0;
    for (p += strlen(line); *p && !(*p == '\n' && p[1] != ' '); p++)
        if (!isspace((unsigned char)*p) && n < sizeof digits - 1)
            digits[n++] = *p;
    digits[n] = '\0';
    ck_assert_uint_le(n / 2, capacity);
    ck_assert_int_eq(wv_hex_decode(digits, ret, n / 2), 0);
    return n / 2;
}

START_TEST(the_example_of_the_document)
{
    wv_cleanup(wv_free_p) uint8_t *wire = NULL;
    uint8_t a[32], b[32], nonce[24], plain[512], sealed[512], expected[512];
    size_t wire_len, len, n;
    ck_assert_int_eq(wv_read_file(TEST_WIRE_MD, 1 << 20, &wire, &wire_len), 0);
    const char *text = (const char *)wire;
    ck_assert_uint_eq(example(text, "signal client seed", a, sizeof a), 32);
    ck_assert_uint_eq(example(text, "signal host seed", b, sizeof b), 32);
    ck_assert_uint_eq(example(text, "signal nonce", nonce, sizeof nonce), 24);
    rift_identity_from_seed(&client, a);
    rift_identity_from_seed(&host, b);
    n = example(text, "Signal", plain, sizeof plain);
    ck_assert_int_eq(rift_offer_seal(&at_client, nonce, plain, n, sealed, sizeof sealed, &len), 0);
    ck_assert_uint_eq(example(text, "signal sealed", expected, sizeof expected), len);
    ck_assert_mem_eq(sealed, expected, len);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("offer");
    TCase *tcase = tcase_create("offer");
    tcase_add_checked_fixture(tcase, setup, NULL);
    tcase_add_test(tcase, both_ways_and_empty);
    tcase_add_test(tcase, every_flip_and_cut_is_refused);
    tcase_add_test(tcase, others_open_nothing_and_nothing_comes_back);
    tcase_add_test(tcase, sizes_and_weak_keys);
    tcase_add_test(tcase, an_offer_is_taken_once);
    tcase_add_test(tcase, a_clock_may_be_wrong_by_ten_minutes);
    tcase_add_test(tcase, nobody_fills_the_memory_for_others);
    tcase_add_test(tcase, the_example_of_the_document);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
