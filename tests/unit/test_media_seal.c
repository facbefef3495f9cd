/* Sealed access units: header forms, keys that come and go, and that only what is newer and genuine opens. */
#include "rift/crypto/identity.h"
#include "rift/crypto/media_seal.h"
#include "tests/unit/suite.h"

#include <errno.h>
#include <string.h>

static const uint8_t base[2][32] = {{1, 2}, {3, 4}};
static const struct rift_media_about about = {.epoch = 258, .keyframe = 1, .width = 1920, .height = 1080};
static const uint8_t text[] = "an access unit";

struct sealed {
    uint8_t bytes[128];
    size_t len;
};

static struct sealed seal(struct rift_media_sealer *s)
{
    struct sealed out;
    ck_assert_int_eq(rift_media_seal(s, &about, text, sizeof text, out.bytes, sizeof out.bytes, &out.len), 0);
    return out;
}

static int open_sealed(struct rift_media_opener *o, const struct rift_media_about *a,
                       const struct sealed *from)
{
    struct sealed copy = *from;
    uint8_t *data;
    size_t len;
    int r = rift_media_open(o, a, copy.bytes, copy.len, &data, &len);
    if (r == 0) {
        ck_assert_uint_eq(len, sizeof text);
        ck_assert_mem_eq(data, text, sizeof text);
    }
    if (r == RIFT_MEDIA_UNKNOWN_KEY)
        ck_assert_mem_eq(copy.bytes, from->bytes, from->len);
    return r;
}

static void pair(struct rift_media_sealer *s, struct rift_media_opener *o, uint32_t kid)
{
    rift_media_sealer_init(s, kid, base[0]);
    rift_media_opener_init(o);
    rift_media_opener_add(o, kid, base[0]);
}

START_TEST(what_is_sealed_opens)
{
    static const uint32_t kids[] = {1, 7, 8, 255, 256, 65536, UINT32_MAX};
    static const uint64_t counters[] = {0, 7, 8, 255, 256, 1ull << 32, UINT64_MAX - 1};
    struct rift_media_sealer s;
    struct rift_media_opener o;
    for (size_t k = 0; k < sizeof kids / sizeof kids[0]; k++)
        for (size_t c = 0; c < sizeof counters / sizeof counters[0]; c++) {
            pair(&s, &o, kids[k]);
            s.next = counters[c];
            struct sealed one = seal(&s);
            ck_assert_uint_le(one.len, sizeof text + RIFT_MEDIA_OVERHEAD_MAX);
            ck_assert_int_eq(open_sealed(&o, &about, &one), 0);
        }
}
END_TEST

/* RFC 9605, section 4.3: X, K, Y, C; numbers below 8 lie in the first byte, others big-endian behind it. */
START_TEST(headers_are_those_of_the_rfc)
{
    struct rift_media_sealer s;
    static const struct {
        uint32_t kid;
        uint64_t ctr;
        uint8_t header[8];
        size_t len;
    } t[] = {
        {1, 0, {0x10}, 1},
        {7, 7, {0x77}, 1},
        {8, 0, {0x80, 8}, 2},
        {1, 8, {0x18, 8}, 2},
        {0x123, 0x4567, {0x99, 0x01, 0x23, 0x45, 0x67}, 5},
        {0xffff, 0x010000, {0x9a, 0xff, 0xff, 1, 0, 0}, 6},
    };
    for (size_t i = 0; i < sizeof t / sizeof t[0]; i++) {
        rift_media_sealer_init(&s, t[i].kid, base[0]);
        s.next = t[i].ctr;
        struct sealed one = seal(&s);
        ck_assert_uint_eq(one.len, t[i].len + sizeof text + RIFT_MEDIA_TAG_BYTES);
        ck_assert_mem_eq(one.bytes, t[i].header, t[i].len);
    }
}
END_TEST

START_TEST(every_flip_and_cut_is_refused)
{
    struct rift_media_sealer s;
    struct rift_media_opener o;
    pair(&s, &o, 300);
    s.next = 1000;
    struct sealed one = seal(&s), bent;
    for (size_t cut = 0; cut < one.len; cut++) {
        bent = one;
        bent.len = cut;
        ck_assert_int_ne(open_sealed(&o, &about, &bent), 0);
    }
    for (size_t bit = 0; bit < 8 * one.len; bit++) {
        bent = one;
        bent.bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
        ck_assert_int_ne(open_sealed(&o, &about, &bent), 0);
    }
    ck_assert_uint_eq(o.last_kid, 0);
    ck_assert_int_eq(open_sealed(&o, &about, &one), 0);
}
END_TEST

START_TEST(what_is_said_about_it_is_part_of_it)
{
    struct rift_media_sealer s;
    struct rift_media_opener o;
    pair(&s, &o, 1);
    struct sealed one = seal(&s);
    struct rift_media_about others[] = {about, about, about, about};
    others[0].epoch++;
    others[1].keyframe = 0;
    others[2].width = 1080;
    others[3].height = 1920;
    for (size_t i = 0; i < 4; i++)
        ck_assert_int_eq(open_sealed(&o, &others[i], &one), -EBADMSG);
    ck_assert_int_eq(open_sealed(&o, &about, &one), 0);
}
END_TEST

START_TEST(only_newer_ones_open)
{
    struct rift_media_sealer s, next;
    struct rift_media_opener o;
    pair(&s, &o, 1);
    struct sealed a = seal(&s), b = seal(&s), c = seal(&s);
    ck_assert_int_eq(open_sealed(&o, &about, &a), 0);
    ck_assert_int_eq(open_sealed(&o, &about, &a), -EBADMSG);
    ck_assert_int_eq(open_sealed(&o, &about, &c), 0);
    ck_assert_int_eq(open_sealed(&o, &about, &b), -EBADMSG);

    rift_media_sealer_init(&next, 2, base[1]);
    rift_media_opener_add(&o, 2, base[1]);
    struct sealed d = seal(&s), e = seal(&next);
    ck_assert_int_eq(open_sealed(&o, &about, &d), 0);
    ck_assert_int_eq(open_sealed(&o, &about, &e), 0); /* its counter begins anew */
    struct sealed f = seal(&s);
    ck_assert_int_eq(open_sealed(&o, &about, &f), -EBADMSG); /* the old key is over */
}
END_TEST

START_TEST(a_key_may_come_later)
{
    struct rift_media_sealer s;
    struct rift_media_opener o;
    pair(&s, &o, 3);
    rift_media_sealer_init(&s, 4, base[1]);
    struct sealed one = seal(&s);
    ck_assert_int_eq(open_sealed(&o, &about, &one), RIFT_MEDIA_UNKNOWN_KEY);
    rift_media_opener_add(&o, 4, base[1]);
    ck_assert_int_eq(open_sealed(&o, &about, &one), 0);
    /* Not one that is older than what is known: keys come in order. */
    rift_media_sealer_init(&s, 2, base[1]);
    one = seal(&s);
    ck_assert_int_eq(open_sealed(&o, &about, &one), -EBADMSG);
}
END_TEST

START_TEST(the_oldest_key_makes_room)
{
    struct rift_media_sealer s;
    struct rift_media_opener o;
    struct sealed one[6];
    rift_media_opener_init(&o);
    for (uint32_t kid = 1; kid <= 5; kid++) {
        rift_media_sealer_init(&s, kid, base[0]);
        one[kid] = seal(&s);
        rift_media_opener_add(&o, kid, base[0]);
    }
    rift_media_opener_add(&o, 1, base[0]); /* older than all: not taken back */
    ck_assert_int_eq(open_sealed(&o, &about, &one[1]), -EBADMSG);
    for (uint32_t kid = 2; kid <= 5; kid++)
        ck_assert_int_eq(open_sealed(&o, &about, &one[kid]), 0);
}
END_TEST

START_TEST(a_known_key_stays)
{
    struct rift_media_sealer s;
    struct rift_media_opener o;
    pair(&s, &o, 1);
    rift_media_opener_add(&o, 1, base[1]);
    rift_media_opener_add(&o, 0, base[1]);
    struct sealed one = seal(&s);
    ck_assert_int_eq(open_sealed(&o, &about, &one), 0);
}
END_TEST

START_TEST(the_number_is_in_the_key)
{
    struct rift_media_sealer s;
    struct rift_media_opener o;
    pair(&s, &o, 1);
    rift_media_opener_add(&o, 2, base[0]); /* the same base */
    struct sealed one = seal(&s);
    one.bytes[0] = 0x20;
    ck_assert_int_eq(open_sealed(&o, &about, &one), -EBADMSG);
}
END_TEST

/* One header has one form: a number that is longer than it must be is refused before any key is used. */
START_TEST(long_forms_are_refused)
{
    static const uint8_t heads[][9] = {
        {0x80, 1}, {0x90, 0, 9}, {0x18, 1}, {0x19, 0, 9}, {0xf0, 1, 0, 0, 0, 0, 0, 0, 0},
    };
    struct rift_media_opener o;
    rift_media_opener_init(&o);
    for (size_t i = 0; i < sizeof heads / sizeof heads[0]; i++) {
        struct sealed one = {.len = 60};
        memcpy(one.bytes, heads[i], sizeof heads[i]);
        ck_assert_int_eq(open_sealed(&o, &about, &one), -EBADMSG);
    }
    struct sealed none = {.len = 60}; /* KID 0 */
    ck_assert_int_eq(open_sealed(&o, &about, &none), -EBADMSG);
}
END_TEST

START_TEST(a_sealer_is_bounded)
{
    struct rift_media_sealer s = {0};
    uint8_t out[64];
    size_t len = 99;
    ck_assert_int_eq(rift_media_seal(&s, &about, text, sizeof text, out, sizeof out, &len), -ENOKEY);
    rift_media_sealer_init(&s, 1, base[0]);
    ck_assert_int_eq(rift_media_seal(&s, &about, text, 48, out, sizeof out, &len), -EMSGSIZE);
    ck_assert_int_eq(rift_media_seal(&s, &about, text, SIZE_MAX, out, sizeof out, &len), -EMSGSIZE);
    ck_assert_int_eq(rift_media_seal(&s, &about, text, 0, out, 0, &len), -EMSGSIZE);
    ck_assert_uint_eq(s.next, 0);
    ck_assert_uint_eq(len, 99);
    s.next = UINT64_MAX;
    ck_assert_int_eq(rift_media_seal(&s, &about, text, sizeof text, out, sizeof out, &len), -EOVERFLOW);
}
END_TEST

START_TEST(nothing_is_a_message_too)
{
    struct rift_media_sealer s;
    struct rift_media_opener o;
    uint8_t out[64], *data;
    size_t len;
    pair(&s, &o, 1);
    ck_assert_int_eq(rift_media_seal(&s, &about, NULL, 0, out, sizeof out, &len), 0);
    ck_assert_int_eq(rift_media_open(&o, &about, out, len, &data, &len), 0);
    ck_assert_uint_eq(len, 0);
}
END_TEST

int main(void)
{
    if (rift_crypto_init() < 0)
        return 1;
    Suite *suite = suite_create("media_seal");
    TCase *tests = tcase_create("all");
    tcase_add_test(tests, what_is_sealed_opens);
    tcase_add_test(tests, headers_are_those_of_the_rfc);
    tcase_add_test(tests, every_flip_and_cut_is_refused);
    tcase_add_test(tests, what_is_said_about_it_is_part_of_it);
    tcase_add_test(tests, only_newer_ones_open);
    tcase_add_test(tests, a_key_may_come_later);
    tcase_add_test(tests, the_oldest_key_makes_room);
    tcase_add_test(tests, a_known_key_stays);
    tcase_add_test(tests, the_number_is_in_the_key);
    tcase_add_test(tests, long_forms_are_refused);
    tcase_add_test(tests, a_sealer_is_bounded);
    tcase_add_test(tests, nothing_is_a_message_too);
    suite_add_tcase(suite, tests);
    return wv_run_suite(suite);
}
