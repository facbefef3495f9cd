/* CPace: the draft's own vectors, then what a run must refuse and must never give away. */
#include "lib/base/util.h"
#include "rift/crypto/cpace.h"
#include "rift/crypto/identity.h"
#include "tests/unit/suite.h"

#include <errno.h>
#include <json-glib/json-glib.h>
#include <sodium.h>
#include <string.h>

static JsonParser *parser;

static size_t value(const char *group, const char *name, uint8_t *ret, size_t capacity)
{
    JsonObject *object =
        json_object_get_object_member(json_node_get_object(json_parser_get_root(parser)), group);
    ck_assert(json_object_has_member(object, name));
    const char *text = json_object_get_string_member(object, name);
    size_t len = strlen(text) / 2;
    ck_assert_uint_le(len, capacity);
    ck_assert_int_eq(wv_hex_decode(text, ret, len), 0);
    return len;
}

struct run {
    struct rift_cpace a, b;
    uint8_t key_a[64], key_b[64];
    uint8_t tag_a[64], tag_b[64];                 /* each side's own */
    uint8_t expected_of_b[64], expected_of_a[64]; /* what a and b want to see */
};

static const uint8_t channel[] = "RIFT 1 pair of two keys";
static const uint8_t sid[64] = {1, 2, 3};

static void run_begin(struct run *r, const char *code_a, const char *code_b)
{
    ck_assert_int_eq(rift_cpace_begin(&r->a, (const uint8_t *)code_a, strlen(code_a), channel, sizeof channel,
                                      sid, sizeof sid, NULL),
                     0);
    ck_assert_int_eq(rift_cpace_begin(&r->b, (const uint8_t *)code_b, strlen(code_b), channel, sizeof channel,
                                      sid, sizeof sid, NULL),
                     0);
}

static void run_finish(struct run *r, const char *ad_a, const char *ad_b, const char *ad_a_seen)
{
    uint8_t share_a[32], share_b[32];
    memcpy(share_a, r->a.share, 32);
    memcpy(share_b, r->b.share, 32);
    ck_assert_int_eq(rift_cpace_finish(&r->a, true, (const uint8_t *)ad_a, strlen(ad_a), share_b,
                                       (const uint8_t *)ad_b, strlen(ad_b), r->key_a, r->tag_a,
                                       r->expected_of_b),
                     0);
    ck_assert_int_eq(rift_cpace_finish(&r->b, false, (const uint8_t *)ad_b, strlen(ad_b), share_a,
                                       (const uint8_t *)ad_a_seen, strlen(ad_a_seen), r->key_b, r->tag_b,
                                       r->expected_of_a),
                     0);
}

/* Draft, appendix B.3: the same shares and the same key from the same scalars. */
START_TEST(vectors_of_the_draft)
{
    uint8_t prs[64], ci[64], id[64], scalar[32], expected[64], ad_a[16], ad_b[16], own[64], peer[64], key[64];
    uint8_t share_a[32], share_b[32];
    struct rift_cpace a, b;
    const char *g = "G_Coffee25519";
    size_t prs_len = value(g, "PRS", prs, sizeof prs), ci_len = value(g, "CI", ci, sizeof ci);
    size_t id_len = value(g, "sid", id, sizeof id);
    size_t ad_a_len = value(g, "ADa", ad_a, sizeof ad_a), ad_b_len = value(g, "ADb", ad_b, sizeof ad_b);

    value(g, "ya", scalar, sizeof scalar);
    ck_assert_int_eq(rift_cpace_begin(&a, prs, prs_len, ci, ci_len, id, id_len, scalar), 0);
    value(g, "Ya", share_a, sizeof share_a);
    ck_assert_mem_eq(a.share, share_a, 32);
    value(g, "yb", scalar, sizeof scalar);
    ck_assert_int_eq(rift_cpace_begin(&b, prs, prs_len, ci, ci_len, id, id_len, scalar), 0);
    value(g, "Yb", share_b, sizeof share_b);
    ck_assert_mem_eq(b.share, share_b, 32);

    value(g, "ISK_IR", expected, sizeof expected);
    ck_assert_int_eq(rift_cpace_finish(&a, true, ad_a, ad_a_len, share_b, ad_b, ad_b_len, key, own, peer), 0);
    ck_assert_mem_eq(key, expected, 64);
    ck_assert_int_eq(rift_cpace_finish(&b, false, ad_b, ad_b_len, share_a, ad_a, ad_a_len, key, own, peer),
                     0);
    ck_assert_mem_eq(key, expected, 64);
}
END_TEST

/* The points of the draft: a valid one passes, one off the group and the neutral one don't. */
START_TEST(points_of_the_draft)
{
    static const struct {
        const char *name;
        int result;
    } points[] = {{"Invalid Y1", -EBADMSG}, {"Invalid Y2", -EBADMSG}};
    uint8_t point[32], scalar[32], key[64], own[64], peer[64];
    struct rift_cpace c;
    for (size_t i = 0; i < sizeof points / sizeof points[0]; i++) {
        value("G_Coffee25519_points", points[i].name, point, sizeof point);
        ck_assert_int_eq(rift_cpace_begin(&c, sid, 8, channel, 8, sid, 64, NULL), 0);
        ck_assert_int_eq(rift_cpace_finish(&c, true, NULL, 0, point, NULL, 0, key, own, peer),
                         points[i].result);
        ck_assert(sodium_is_zero((const uint8_t *)&c, sizeof c));
    }
    JsonObject *all = json_node_get_object(json_parser_get_root(parser));
    JsonObject *valid =
        json_object_get_object_member(json_object_get_object_member(all, "G_Coffee25519_points"), "Valid");
    ck_assert_int_eq(wv_hex_decode(json_object_get_string_member(valid, "X"), point, 32), 0);
    ck_assert_int_eq(wv_hex_decode(json_object_get_string_member(valid, "s"), scalar, 32), 0);
    ck_assert_int_eq(rift_cpace_begin(&c, sid, 8, channel, 8, sid, 64, scalar), 0);
    ck_assert_int_eq(rift_cpace_finish(&c, true, NULL, 0, point, NULL, 0, key, own, peer), 0);
}
END_TEST

START_TEST(same_code_agrees)
{
    struct run r;
    run_begin(&r, "12345678", "12345678");
    run_finish(&r, "client", "host", "client");
    ck_assert_mem_eq(r.key_a, r.key_b, 64);
    ck_assert_mem_eq(r.tag_a, r.expected_of_a, 64);
    ck_assert_mem_eq(r.tag_b, r.expected_of_b, 64);
    ck_assert_mem_ne(r.tag_a, r.tag_b, 64);
}
END_TEST

START_TEST(another_code_or_ad_does_not)
{
    struct run r;
    run_begin(&r, "12345678", "12345679");
    run_finish(&r, "client", "host", "client");
    ck_assert_mem_ne(r.key_a, r.key_b, 64);
    ck_assert_mem_ne(r.tag_a, r.expected_of_a, 64);
    ck_assert_mem_ne(r.tag_b, r.expected_of_b, 64);

    run_begin(&r, "12345678", "12345678");
    run_finish(&r, "client", "host", "clienT");
    ck_assert_mem_ne(r.tag_a, r.expected_of_a, 64);
}
END_TEST

/* The session and the two keys are in what is proven: one run can't be used for another. */
START_TEST(another_session_or_channel_does_not)
{
    for (int what = 0; what < 2; what++) {
        uint8_t other_sid[64], other_channel[sizeof channel], share_a[32], share_b[32];
        uint8_t key_a[64], key_b[64], own[64], peer[64];
        struct rift_cpace a, b;
        memcpy(other_sid, sid, 64);
        memcpy(other_channel, channel, sizeof channel);
        other_sid[63] ^= what == 0;
        other_channel[3] ^= what == 1;
        ck_assert_int_eq(rift_cpace_begin(&a, sid, 8, channel, sizeof channel, sid, 64, NULL), 0);
        ck_assert_int_eq(rift_cpace_begin(&b, sid, 8, other_channel, sizeof channel, other_sid, 64, NULL), 0);
        memcpy(share_a, a.share, 32);
        memcpy(share_b, b.share, 32);
        ck_assert_int_eq(rift_cpace_finish(&a, true, NULL, 0, share_b, NULL, 0, key_a, own, peer), 0);
        ck_assert_int_eq(rift_cpace_finish(&b, false, NULL, 0, share_a, NULL, 0, key_b, own, peer), 0);
        ck_assert_mem_ne(key_a, key_b, 64);
    }
}
END_TEST

/* Who does not know the code sends back all that comes: it must not pass for the other side. */
START_TEST(own_share_is_refused)
{
    struct run r;
    uint8_t share[32];
    run_begin(&r, "12345678", "12345678");
    memcpy(share, r.a.share, 32);
    memset(r.key_a, 7, 64);
    ck_assert_int_eq(
        rift_cpace_finish(&r.a, true, NULL, 0, share, NULL, 0, r.key_a, r.tag_a, r.expected_of_b), -EBADMSG);
    ck_assert_uint_eq(r.key_a[0], 7);
    ck_assert(sodium_is_zero((const uint8_t *)&r.a, sizeof r.a));
}
END_TEST

START_TEST(nothing_is_left_after_the_end)
{
    struct run r;
    run_begin(&r, "12345678", "12345678");
    run_finish(&r, "", "", "");
    ck_assert(sodium_is_zero((const uint8_t *)&r.a, sizeof r.a));
    ck_assert(sodium_is_zero((const uint8_t *)&r.b, sizeof r.b));
}
END_TEST

/* A share says nothing about the code: two runs with the same code show different ones. */
START_TEST(shares_are_fresh)
{
    struct run r, again;
    run_begin(&r, "12345678", "12345678");
    run_begin(&again, "12345678", "12345678");
    ck_assert_mem_ne(r.a.share, r.b.share, 32);
    ck_assert_mem_ne(r.a.share, again.a.share, 32);
    ck_assert_mem_ne(r.a.scalar, again.a.scalar, 32);
}
END_TEST

START_TEST(odd_arguments_are_refused)
{
    static const uint8_t zero[32], long_sid[65];
    struct rift_cpace c;
    ck_assert_int_eq(rift_cpace_begin(&c, sid, 0, channel, 8, sid, 64, NULL), -EINVAL);
    ck_assert_int_eq(rift_cpace_begin(&c, sid, 8, channel, 8, long_sid, 65, NULL), -EINVAL);
    ck_assert_int_eq(rift_cpace_begin(&c, sid, 8, channel, 8, sid, 64, zero), -EINVAL);
    ck_assert_int_eq(rift_cpace_begin(&c, sid, 8, NULL, 0, NULL, 0, NULL), 0);
}
END_TEST

/* Lengths above 127 take two bytes: a long code and one of the same bytes cut otherwise are not the same. */
START_TEST(long_fields_do_not_run_into_each_other)
{
    uint8_t bytes[400], scalar[32] = {9};
    struct rift_cpace a, b;
    memset(bytes, 'x', sizeof bytes);
    ck_assert_int_eq(rift_cpace_begin(&a, bytes, 200, bytes, 200, NULL, 0, scalar), 0);
    ck_assert_int_eq(rift_cpace_begin(&b, bytes, 199, bytes, 201, NULL, 0, scalar), 0);
    ck_assert_mem_ne(a.share, b.share, 32);
    ck_assert_int_eq(rift_cpace_begin(&b, bytes, 200, bytes, 136, bytes, 64, scalar), 0);
    ck_assert_mem_ne(a.share, b.share, 32);
}
END_TEST

int main(void)
{
    if (rift_crypto_init() < 0)
        return 1;
    parser = json_parser_new();
    if (!json_parser_load_from_file(parser, TEST_VECTORS "/ristretto255.json", NULL))
        return 1;
    Suite *suite = suite_create("cpace");
    TCase *tests = tcase_create("all");
    tcase_add_test(tests, vectors_of_the_draft);
    tcase_add_test(tests, points_of_the_draft);
    tcase_add_test(tests, same_code_agrees);
    tcase_add_test(tests, another_code_or_ad_does_not);
    tcase_add_test(tests, another_session_or_channel_does_not);
    tcase_add_test(tests, own_share_is_refused);
    tcase_add_test(tests, nothing_is_left_after_the_end);
    tcase_add_test(tests, shares_are_fresh);
    tcase_add_test(tests, odd_arguments_are_refused);
    tcase_add_test(tests, long_fields_do_not_run_into_each_other);
    suite_add_tcase(suite, tests);
    int code = wv_run_suite(suite);
    g_object_unref(parser);
    return code;
}
