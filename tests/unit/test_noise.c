/* The Noise state machine: published vectors of three sources, then what it must refuse. */
#include "lib/base/util.h"
#include "rift/crypto/identity.h"
#include "rift/crypto/noise.h"
#include "rift/tools/noise_vectors.h"
#include "tests/unit/suite.h"

#include <errno.h>
#include <sodium.h>
#include <string.h>

#define CAPACITY 2048

static const uint8_t prologue[] = "a prologue";

struct message {
    uint8_t bytes[CAPACITY];
    size_t len;
};

struct pair {
    struct rift_noise *initiator, *responder;
    struct rift_identity initiator_id, responder_id;
};

static void pair_init(struct pair *p)
{
    rift_identity_generate(&p->initiator_id);
    rift_identity_generate(&p->responder_id);
    ck_assert_int_eq(
        rift_noise_new(&p->initiator, true, p->initiator_id.secret, prologue, sizeof prologue, NULL), 0);
    ck_assert_int_eq(
        rift_noise_new(&p->responder, false, p->responder_id.secret, prologue, sizeof prologue, NULL), 0);
}

static void pair_fini(struct pair *p)
{
    p->initiator = rift_noise_free(p->initiator);
    p->responder = rift_noise_free(p->responder);
}

static struct message write_ok(struct rift_noise *n, const char *payload)
{
    struct message m;
    ck_assert_int_eq(
        rift_noise_write(n, (const uint8_t *)payload, strlen(payload), m.bytes, sizeof m.bytes, &m.len), 0);
    return m;
}

static int read_len(struct rift_noise *n, const struct message *m, size_t len)
{
    uint8_t plain[CAPACITY];
    size_t plain_len;
    return rift_noise_read(n, m->bytes, len, plain, sizeof plain, &plain_len);
}

/* Brings both sides to where message STEP (0..2) was written but not read, and returns it. */
static struct message advance(struct pair *p, unsigned step)
{
    struct rift_noise *side[2] = {p->initiator, p->responder};
    for (unsigned i = 0;; i++) {
        struct message m = write_ok(side[i % 2], "payload");
        if (i == step)
            return m;
        ck_assert_int_eq(read_len(side[1 - i % 2], &m, m.len), 0);
    }
}

static struct rift_noise *reader_of(struct pair *p, unsigned step)
{
    return step % 2 ? p->initiator : p->responder;
}

static void count_failure(void *context, size_t index, const char *name, const char *failure)
{
    unsigned *ran = context;
    (*ran)++;
    ck_assert_msg(!failure, "vector %zu (%s): %s", index, name, failure ? failure : "");
}

START_TEST(published_vectors_pass)
{
    uint8_t *json = NULL;
    size_t len, failed = 1;
    unsigned ran = 0;
    char error[256] = "";
    ck_assert_int_eq(
        wv_read_file(TEST_VECTORS "/Noise_XX_25519_ChaChaPoly_BLAKE2b.json", 1 << 20, &json, &len), 0);
    ck_assert_int_eq(rift_vectors_run((char *)json, len, count_failure, &ran, error, sizeof error, &failed),
                     0);
    ck_assert_uint_eq(failed, 0);
    ck_assert_uint_eq(ran, 4);
    for (const char *const *source = (const char *const[]){"cacophony", "snow", "noise-c", NULL}; *source;
         source++)
        ck_assert_ptr_nonnull(strstr((char *)json, *source));
    free(json);
}
END_TEST

START_TEST(both_sides_agree)
{
    struct pair p;
    uint8_t a[2][32], b[2][32];
    pair_init(&p);
    ck_assert_int_eq(rift_noise_split(p.initiator, a[0], a[1]), -EPROTO);
    ck_assert_ptr_null(rift_noise_handshake_hash(p.initiator));
    struct message m = advance(&p, 2);
    ck_assert(!rift_noise_finished(p.responder));
    ck_assert_ptr_null(rift_noise_remote_static(p.responder));
    ck_assert_int_eq(read_len(p.responder, &m, m.len), 0);
    ck_assert(rift_noise_finished(p.initiator) && rift_noise_finished(p.responder));
    ck_assert_mem_eq(rift_noise_remote_static(p.initiator), p.responder_id.public, 32);
    ck_assert_mem_eq(rift_noise_remote_static(p.responder), p.initiator_id.public, 32);
    ck_assert_mem_eq(rift_noise_handshake_hash(p.initiator), rift_noise_handshake_hash(p.responder), 64);
    ck_assert_int_eq(rift_noise_split(p.initiator, a[0], a[1]), 0);
    ck_assert_int_eq(rift_noise_split(p.responder, b[0], b[1]), 0);
    ck_assert_mem_eq(a[0], b[1], 32);
    ck_assert_mem_eq(a[1], b[0], 32);
    ck_assert_mem_ne(a[0], a[1], 32);
    ck_assert_mem_ne(a[0], rift_noise_handshake_hash(p.initiator), 32);
    pair_fini(&p);
}
END_TEST

/* Message 1 isn't authenticated when it is read: a flip there must be found by message 2 at the latest. */
static bool survives_flip(unsigned step, size_t bit)
{
    struct pair p;
    pair_init(&p);
    struct message m = advance(&p, step);
    ck_assert_uint_lt(bit / 8, m.len);
    m.bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
    bool survived = read_len(reader_of(&p, step), &m, m.len) == 0;
    if (survived && step == 0) {
        struct message second = write_ok(p.responder, "");
        survived = read_len(p.initiator, &second, second.len) == 0;
    } else if (!survived) {
        /* Dead: even the right message comes too late. */
        m.bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
        ck_assert_int_eq(read_len(reader_of(&p, step), &m, m.len), -EPROTO);
        ck_assert_ptr_null(rift_noise_remote_static(reader_of(&p, step)));
    }
    pair_fini(&p);
    return survived;
}

START_TEST(every_flipped_bit_ends_it)
{
    const size_t len[3] = {RIFT_NOISE_OVERHEAD_1 + 7, RIFT_NOISE_OVERHEAD_2 + 7, RIFT_NOISE_OVERHEAD_3 + 7};
    for (size_t bit = 0; bit < 8 * len[_i]; bit++)
        ck_assert_msg(!survives_flip((unsigned)_i, bit), "message %d, bit %zu", _i + 1, bit);
}
END_TEST

START_TEST(every_cut_is_refused)
{
    const size_t overhead[3] = {RIFT_NOISE_OVERHEAD_1, RIFT_NOISE_OVERHEAD_2, RIFT_NOISE_OVERHEAD_3};
    struct pair p;
    pair_init(&p);
    struct message m = advance(&p, (unsigned)_i);
    struct rift_noise *reader = reader_of(&p, (unsigned)_i), *trial = NULL;
    ck_assert_int_eq(rift_noise_new(&trial, true, p.initiator_id.secret, NULL, 0, NULL), 0);
    /* The payload of message 1 is in clear: only the key itself can't be cut. */
    size_t end = _i == 0 ? overhead[0] : m.len;
    for (size_t len = 0; len < end; len++) {
        rift_noise_copy(trial, reader);
        ck_assert_int_eq(read_len(trial, &m, len), -EBADMSG);
        ck_assert_int_eq(read_len(trial, &m, m.len), -EPROTO);
    }
    /* The trials on copies have not touched the original. */
    ck_assert_int_eq(read_len(reader, &m, m.len), 0);
    rift_noise_free(trial);
    pair_fini(&p);
}
END_TEST

START_TEST(another_prologue_is_refused)
{
    struct pair p;
    pair_init(&p);
    rift_noise_free(p.responder);
    ck_assert_int_eq(
        rift_noise_new(&p.responder, false, p.responder_id.secret, prologue, sizeof prologue - 1, NULL), 0);
    struct message m = advance(&p, 1);
    ck_assert_int_eq(read_len(p.initiator, &m, m.len), -EBADMSG);
    pair_fini(&p);
}
END_TEST

/* The canonical encodings of all points of small order, and two that are not canonical. */
static const char *const low_order[] = {
    "0000000000000000000000000000000000000000000000000000000000000000",
    "0100000000000000000000000000000000000000000000000000000000000000",
    "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
    "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
    "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
};

START_TEST(low_order_ephemerals_are_refused)
{
    struct pair p;
    pair_init(&p);
    struct message m = advance(&p, (unsigned)_i % 2);
    ck_assert_int_eq(wv_hex_decode(low_order[_i / 2], m.bytes, 32), 0);
    ck_assert_int_eq(read_len(reader_of(&p, (unsigned)_i % 2), &m, m.len), -EBADMSG);
    pair_fini(&p);
}
END_TEST

START_TEST(turns_are_kept)
{
    struct pair p;
    struct message m = {.len = 200};
    pair_init(&p);
    ck_assert_int_eq(read_len(p.initiator, &m, m.len), -EPROTO);
    ck_assert_int_eq(rift_noise_write(p.responder, NULL, 0, m.bytes, sizeof m.bytes, &m.len), -EPROTO);
    pair_fini(&p);

    pair_init(&p);
    write_ok(p.initiator, "");
    ck_assert_int_eq(rift_noise_write(p.initiator, NULL, 0, m.bytes, sizeof m.bytes, &m.len), -EPROTO);
    pair_fini(&p);

    /* After the end there is no turn, and a finished handshake stays usable. */
    uint8_t keys[2][32];
    pair_init(&p);
    m = advance(&p, 2);
    ck_assert_int_eq(read_len(p.responder, &m, m.len), 0);
    ck_assert_int_eq(read_len(p.responder, &m, m.len), -EPROTO);
    ck_assert_int_eq(rift_noise_write(p.initiator, NULL, 0, m.bytes, sizeof m.bytes, &m.len), -EPROTO);
    ck_assert_int_eq(rift_noise_split(p.responder, keys[0], keys[1]), 0);
    ck_assert_int_eq(rift_noise_split(p.initiator, keys[0], keys[1]), 0);
    pair_fini(&p);
}
END_TEST

START_TEST(capacities_are_kept)
{
    static uint8_t big[RIFT_NOISE_MESSAGE_BYTES + 1], out[RIFT_NOISE_MESSAGE_BYTES + 64];
    struct pair p;
    size_t len = 77;
    pair_init(&p);
    ck_assert_int_eq(rift_noise_write(p.initiator, big, 1, out, RIFT_NOISE_OVERHEAD_1, &len), -EMSGSIZE);
    pair_fini(&p);
    pair_init(&p);
    ck_assert_int_eq(rift_noise_write(p.initiator, big, 0, out, RIFT_NOISE_OVERHEAD_1 - 1, &len), -EMSGSIZE);
    pair_fini(&p);
    pair_init(&p);
    ck_assert_int_eq(rift_noise_write(p.initiator, big, RIFT_NOISE_MESSAGE_BYTES - 31, out, sizeof out, &len),
                     -EMSGSIZE);
    ck_assert_uint_eq(len, 77);
    pair_fini(&p);

    pair_init(&p);
    ck_assert_int_eq(rift_noise_write(p.initiator, big, RIFT_NOISE_MESSAGE_BYTES - 32, out, sizeof out, &len),
                     0);
    ck_assert_uint_eq(len, RIFT_NOISE_MESSAGE_BYTES);
    ck_assert_int_eq(rift_noise_read(p.responder, out, len, big, len - 33, &len), -EMSGSIZE);
    pair_fini(&p);

    pair_init(&p);
    ck_assert_int_eq(rift_noise_read(p.responder, out, RIFT_NOISE_MESSAGE_BYTES + 1, big, sizeof big, &len),
                     -EBADMSG);
    ck_assert_int_eq(rift_noise_new(&p.initiator, true, NULL, NULL, 0, NULL), -EINVAL);
    ck_assert_int_eq(rift_noise_new(&p.initiator, true, big, NULL, 1, NULL), -EINVAL);
    pair_fini(&p);
}
END_TEST

START_TEST(ephemerals_are_fresh)
{
    struct pair p, q;
    pair_init(&p);
    pair_init(&q);
    struct message a = write_ok(p.initiator, ""), b = write_ok(q.initiator, "");
    ck_assert_uint_eq(a.len, RIFT_NOISE_OVERHEAD_1);
    ck_assert_mem_ne(a.bytes, b.bytes, 32);
    pair_fini(&p);
    pair_fini(&q);
}
END_TEST

int main(void)
{
    if (rift_crypto_init() < 0)
        return 1;
    Suite *s = suite_create("noise");
    TCase *t = tcase_create("noise");
    tcase_set_timeout(t, 120);
    suite_add_tcase(s, t);
    tcase_add_test(t, published_vectors_pass);
    tcase_add_test(t, both_sides_agree);
    tcase_add_loop_test(t, every_flipped_bit_ends_it, 0, 3);
    tcase_add_loop_test(t, every_cut_is_refused, 0, 3);
    tcase_add_test(t, another_prologue_is_refused);
    tcase_add_loop_test(t, low_order_ephemerals_are_refused, 0, 2 * (int)WV_ARRAY_SIZE(low_order));
    tcase_add_test(t, turns_are_kept);
    tcase_add_test(t, capacities_are_kept);
    tcase_add_test(t, ephemerals_are_fresh);
    return wv_run_suite(s);
}
