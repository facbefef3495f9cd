/* Mistakes that other protocols of this kind have made, one test at least for each, under names by which they
 * can be found. docs/SECURITY.md has the table. What has a test of its own elsewhere is only there. */
#include "rift/core/handshake.h"
#include "rift/core/session_internal.h"
#include "rift/crypto/cpace.h"
#include "rift/crypto/identity.h"
#include "rift/crypto/media_seal.h"
#include "rift/crypto/noise.h"
#include "tests/unit/handshake_host.h"
#include "tests/unit/session_pair.h"
#include "tests/unit/suite.h"

#include <errno.h>
#include <malloc.h>
#include <sodium.h>

static const uint8_t home[RIFT_ADDRESS_BYTES] = "home address 0001";
static const struct rift_input_event key_down = {.kind = RIFT_INPUT_KEY, .code = 30, .down = 1};

/* ---- a whole session, recorded ---- */

#define RECORDED 512

struct recording {
    struct {
        uint8_t bytes[RIFT_MTU_MAX_BYTES];
        size_t len;
    } to_host[RECORDED], to_client[RECORDED];
    unsigned n_host, n_client;
};

static struct recording recorded, again;
static uint8_t fill = 0xcc; /* what lies in a buffer before a datagram is written to it */

static void pass_recorded(struct pair *p, struct recording *r)
{
    uint8_t out[RIFT_MTU_BYTES];
    size_t len;
    for (int side = 0; side < 2; side++) {
        struct rift_session *from = side ? p->host : p->client, *to = side ? p->client : p->host;
        memset(out, fill, sizeof out);
        while (rift_session_send(from, out, sizeof out, p->now, &len) == 0) {
            unsigned *n = side ? &r->n_client : &r->n_host;
            ck_assert_uint_lt(*n, RECORDED);
            memcpy(side ? r->to_client[*n].bytes : r->to_host[*n].bytes, out, len);
            *(side ? &r->to_client[*n].len : &r->to_host[*n].len) = len;
            (*n)++;
            rift_session_receive(to, out, len, p->now);
        }
    }
}

static void drain(struct rift_session *s)
{
    struct rift_event e;
    while (rift_session_next_event(s, &e) == 0)
        ;
}

/* One second with everything that a session can do. Deterministic. */
static struct pair run_recorded(struct recording *r)
{
    struct pair p = {.now = START};
    struct rift_session_config host = pair_config(RIFT_ROLE_HOST), client = pair_config(RIFT_ROLE_CLIENT);
    memset(host.entropy, 1, sizeof host.entropy);
    memset(client.entropy, 2, sizeof client.entropy);
    memset(r, 0, sizeof *r);
    ck_assert_int_eq(rift_session_new(&p.host, &host, p.now), 0);
    ck_assert_int_eq(rift_session_new(&p.client, &client, p.now), 0);
    for (uint32_t i = 0; i < 50; i++, p.now += 20 * MS) {
        uint32_t seq;
        rift_session_send_input(p.client, &key_down, p.now, &seq);
        if (i % 5 == 0)
            ck_assert_int_eq(pair_send_frame(&p, i + 1, 1, i == 0, 1500), 0);
        if (i % 10 == 0)
            rift_session_send_control(p.host, (const uint8_t *)"hello", 5, p.now);
        rift_session_send_cursor(p.host, &(struct rift_cursor){.x = (uint16_t)i, .visible = true}, p.now);
        pass_recorded(&p, r);
        pass_recorded(&p, r);
        drain(p.host);
        drain(p.client);
    }
    return p;
}

START_TEST(replay_of_a_whole_session_to_the_same_session)
{
    struct pair p = run_recorded(&recorded);
    struct rift_session_stats before = pair_stats(p.host), after;
    for (unsigned i = 0; i < recorded.n_host; i++)
        ck_assert_int_eq(
            rift_session_receive(p.host, recorded.to_host[i].bytes, recorded.to_host[i].len, p.now),
            RIFT_SESSION_DROPPED);
    for (unsigned i = 0; i < recorded.n_client; i++)
        ck_assert_int_eq(
            rift_session_receive(p.client, recorded.to_client[i].bytes, recorded.to_client[i].len, p.now),
            RIFT_SESSION_DROPPED);
    after = pair_stats(p.host);
    ck_assert_uint_ge(recorded.n_host, 50);
    ck_assert_uint_eq(after.dropped_replay, before.dropped_replay + recorded.n_host);
    ck_assert_uint_eq(after.packets_received, before.packets_received);
    pair_expect_no_event(p.host);
    pair_expect_no_event(p.client);
    /* Back to its sender, it is no datagram either. */
    for (unsigned i = 0; i < recorded.n_host; i++)
        ck_assert_int_eq(
            rift_session_receive(p.client, recorded.to_host[i].bytes, recorded.to_host[i].len, p.now),
            RIFT_SESSION_DROPPED);
    pair_expect_no_event(p.client);
    pair_free(&p);
}
END_TEST

/* A handshake with all that followed, given to the same host once more: it answers INIT, as it must, and the
 * recording ends there. */
START_TEST(replay_of_a_whole_session_to_a_new_one)
{
    static struct host host;
    struct rift_initiator *h;
    struct rift_identity client;
    uint8_t out[3][RIFT_MTU_BYTES], answer[RIFT_MTU_BYTES], to[RIFT_ADDRESS_BYTES];
    size_t len[3], answer_len;
    rift_identity_generate(&client);
    host_init(&host, 8, START);
    ck_assert_int_eq(
        rift_initiator_new(&h, client.secret, host.identity.public, 7, NULL, 0, START, 5000 * MS), 0);
    ck_assert_int_eq(rift_initiator_send(h, out[0], RIFT_MTU_BYTES, START, &len[0]), 0);
    host_receive(&host, home, out[0], len[0], START);
    ck_assert_int_eq(host_send(&host, answer, START, to, &answer_len), 0);
    ck_assert_int_eq(rift_initiator_receive(h, answer, answer_len, START), 0);
    ck_assert_int_eq(rift_initiator_send(h, out[1], RIFT_MTU_BYTES, START, &len[1]), 0);
    host_receive(&host, home, out[1], len[1], START);
    ck_assert_uint_eq(host.finished, 1);
    struct rift_session_config first = {0};
    uint8_t key[32];
    ck_assert_int_eq(rift_initiator_finish(h, &first, key), 0);
    struct rift_session *s;
    ck_assert_int_eq(rift_session_new(&s, &first, START), 0);
    ck_assert_int_eq(rift_session_send(s, out[2], RIFT_MTU_BYTES, START, &len[2]), 0);
    rift_session_free(s);

    for (unsigned i = 0; i < 3; i++)
        host_receive(&host, home, out[i], len[i], START + 60000 * MS);
    ck_assert_uint_eq(host.finished, 1);
    /* A session between the same two, begun anew, has other keys: the old DATA is nothing to it. */
    struct rift_session_config fresh = host.config;
    randombytes_buf(fresh.key_receive, 32);
    ck_assert_int_eq(rift_session_new(&s, &fresh, START), 0);
    ck_assert_int_eq(rift_session_receive(s, out[2], len[2], START), RIFT_SESSION_DROPPED);
    rift_session_free(s);
    rift_initiator_free(h);
    host_fini(&host);
}
END_TEST

/* ---- verification skipped ---- */

START_TEST(every_bit_of_a_data_datagram_is_verified)
{
    struct pair p = pair_new();
    uint8_t datagram[RIFT_MTU_BYTES], bent[RIFT_MTU_BYTES];
    size_t len;
    uint32_t seq;
    rift_session_send_input(p.client, &key_down, p.now, &seq);
    ck_assert_int_eq(rift_session_send(p.client, datagram, sizeof datagram, p.now, &len), 0);
    struct rift_session_stats before = pair_stats(p.host);
    for (size_t bit = 0; bit < 8 * len; bit++) {
        memcpy(bent, datagram, len);
        bent[bit / 8] ^= (uint8_t)(1u << bit % 8);
        ck_assert_msg(rift_session_receive(p.host, bent, len, p.now) == RIFT_SESSION_DROPPED, "bit %zu", bit);
    }
    for (size_t cut = 0; cut < len; cut++)
        ck_assert_int_eq(rift_session_receive(p.host, datagram, cut, p.now), RIFT_SESSION_DROPPED);
    ck_assert_uint_eq(pair_stats(p.host).packets_received, before.packets_received);
    pair_expect_no_event(p.host);
    ck_assert_int_eq(rift_session_receive(p.host, datagram, len, p.now), 0);
    pair_free(&p);
}
END_TEST

/* ---- lengths and integers ---- */

/* A length that promises more than there is, or wraps when something is added to it. */
START_TEST(lengths_that_lie_are_refused)
{
    static const uint8_t payloads[][24] = {
        {RIFT_WIRE_PING, 0xff, 0xff, 1, 2, 3, 4},
        {RIFT_WIRE_INPUT, 20, 0, 1, 0, 0, 0, 255},
        {RIFT_WIRE_INPUT, 5, 0, 0xff, 0xff, 0xff, 0xff, 0},
        {RIFT_WIRE_CONTROL, 4, 0, 0, 0, 0, 0},
        {RIFT_WIRE_VIDEO_NACK, 7, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff},
        {RIFT_WIRE_FEEDBACK, 1, 0, 0xff},
        {RIFT_WIRE_REPORT, 20, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff},
    };
    struct pair p = pair_new();
    for (size_t i = 0; i < WV_ARRAY_SIZE(payloads); i++) {
        uint64_t malformed = pair_stats(p.host).dropped_malformed;
        rift_session_frames(p.host, payloads[i], sizeof payloads[i], 1000 + i, p.now);
        ck_assert_msg(pair_stats(p.host).dropped_malformed == malformed + 1, "payload %zu", i);
    }
    pair_expect_no_event(p.host);
    pair_free(&p);

    uint8_t sealed[40] = {0xf0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, *data;
    struct rift_media_about about = {0};
    struct rift_media_opener o;
    struct rift_inner inner = {0};
    size_t len;
    rift_media_opener_init(&o);
    for (size_t n = 0; n <= sizeof sealed; n++)
        ck_assert_int_eq(rift_media_open(&o, &about, sealed, n, &data, &len), -EBADMSG);
    ck_assert_int_eq(rift_media_open(&o, &about, sealed, SIZE_MAX, &data, &len), -EBADMSG);
    ck_assert_int_eq(rift_inner_seal(&inner, sealed, SIZE_MAX - 8, sealed, 40, &len), -EMSGSIZE);
}
END_TEST

/* Frame after frame of the largest size is announced by one fragment each: what is kept for such promises is
 * bounded, however many there are. */
START_TEST(promises_of_size_are_bounded)
{
    struct pair p = pair_new();
    static uint8_t frame[3 + 13 + 512] = {RIFT_WIRE_VIDEO, 13, 2, 0, 0, 0, 0, 1, 0, 1, 0, 32, 0, 2};
    size_t most = 0;
    for (uint32_t id = 1; id < 200; id++) {
        frame[3] = (uint8_t)id; /* 8192 fragments of 512 bytes */
        rift_session_frames(p.client, frame, sizeof frame, 1000 + id, p.now);
        most = WV_MAX(most, pair_stats(p.client).memory_bytes);
    }
    ck_assert_uint_eq(pair_stats(p.client).dropped_malformed, 0);
    ck_assert_uint_gt(most, 0);
    ck_assert_uint_le(most, RIFT_VIDEO_BYTES + RIFT_FRAME_MAX_BYTES);
    pair_free(&p);
}
END_TEST

/* ---- unbounded queue, endless loop ---- */

START_TEST(queues_are_bounded)
{
    struct pair p = pair_new();
    uint8_t chunk[3 + 5 + 1100] = {RIFT_WIRE_CONTROL, 0x51, 4}, input[3 + 5 + 36] = {RIFT_WIRE_INPUT, 41, 0};
    for (uint32_t i = 0; i < 5000; i++) {
        uint32_t number = i + 1; /* 0 never comes: nothing can be handed out */
        for (unsigned b = 0; b < 4; b++) {
            chunk[3 + b] = (uint8_t)(number >> 8 * b);
            input[3 + b] = (uint8_t)(number >> 8 * b);
        }
        input[7] = 1;
        rift_session_frames(p.host, chunk, sizeof chunk, 1000 + 2 * i, p.now);
        rift_session_frames(p.host, input, sizeof input, 1001 + 2 * i, p.now);
    }
    ck_assert_uint_le(pair_stats(p.host).memory_bytes, 512 * 1024);
    ck_assert_uint_eq(pair_stats(p.host).input_received, RIFT_INPUT_QUEUE);
    pair_free(&p);
}
END_TEST

/* Frames without a body, datagrams of nothing, answers to answers: each costs one step and no answer begets
 * another without end. */
START_TEST(nothing_goes_on_for_ever)
{
    struct pair p = pair_new();
    uint8_t payload[RIFT_PAYLOAD_BYTES] = {0}, out[RIFT_MTU_BYTES];
    size_t len;
    for (size_t i = 0; i + 3 <= sizeof payload; i += 3)
        payload[i] = RIFT_WIRE_PADDING; /* with length 0 */
    rift_session_frames(p.host, payload, sizeof payload / 3 * 3, 1000, p.now);
    rift_session_frames(p.host, payload, 0, 1001, p.now);
    for (size_t i = 0; i + 7 <= sizeof payload; i += 7)
        memcpy(payload + i, "\1\4\0\1\2\3\4", 7); /* 166 PINGs */
    rift_session_frames(p.host, payload, sizeof payload / 7 * 7, 1002, p.now);
    unsigned n = 0;
    while (rift_session_send(p.host, out, sizeof out, p.now, &len) == 0)
        ck_assert_uint_lt(++n, 10);
    ck_assert_uint_gt(rift_session_timeout(p.host), p.now);
    /* Two ends that only answer each other fall silent at once. */
    for (n = 0; pair_pass(&p, p.host, DROP_NONE) + pair_pass(&p, p.client, DROP_NONE) > 0; n++)
        ck_assert_uint_lt(n, 10);
    pair_free(&p);
}
END_TEST

/* ---- weak random numbers ---- */

START_TEST(an_ephemeral_key_of_zero_is_refused)
{
    struct rift_identity id;
    struct rift_noise *n;
    uint8_t message[32] = {0}, payload[32];
    size_t len;
    rift_identity_generate(&id);
    /* 0 and 1 are the low-order points that a broken generator gives first. */
    for (uint8_t low = 0; low < 2; low++) {
        message[0] = low;
        ck_assert_int_eq(rift_noise_new(&n, false, id.secret, NULL, 0, NULL), 0);
        ck_assert_int_eq(rift_noise_read(n, message, sizeof message, payload, sizeof payload, &len),
                         -EBADMSG);
        rift_noise_free(n);
    }
}
END_TEST

START_TEST(two_handshakes_share_no_random_byte)
{
    struct rift_identity id;
    uint8_t message[4][32];
    size_t len;
    rift_identity_generate(&id);
    for (unsigned i = 0; i < 4; i++) {
        struct rift_noise *n;
        ck_assert_int_eq(rift_noise_new(&n, true, id.secret, NULL, 0, NULL), 0);
        ck_assert_int_eq(rift_noise_write(n, NULL, 0, message[i], 32, &len), 0);
        ck_assert(!sodium_is_zero(message[i], 32));
        for (unsigned j = 0; j < i; j++)
            ck_assert_mem_ne(message[i], message[j], 32);
        rift_noise_free(n);
    }
    struct rift_cpace a, b;
    for (unsigned i = 0; i < 4; i++) {
        ck_assert_int_eq(rift_cpace_begin(&a, home, 8, home, 8, home, 8, NULL), 0);
        ck_assert_int_eq(rift_cpace_begin(&b, home, 8, home, 8, home, 8, NULL), 0);
        ck_assert_mem_ne(a.scalar, b.scalar, 32);
        ck_assert_mem_ne(a.share, b.share, 32);
    }
}
END_TEST

/* ---- uninitialised bytes ---- */

/* Two sessions on memory that was filled with other bytes before: what they send is the same, byte for byte,
 * so none of it is what happened to lie there. */
START_TEST(no_uninitialised_byte_is_sent)
{
    mallopt(M_PERTURB, 0x55);
    struct pair p = run_recorded(&recorded);
    pair_free(&p);
    mallopt(M_PERTURB, 0xaa);
    fill = 0x33;
    p = run_recorded(&again);
    pair_free(&p);
    mallopt(M_PERTURB, 0);
    ck_assert_uint_eq(recorded.n_host, again.n_host);
    ck_assert_uint_eq(recorded.n_client, again.n_client);
    ck_assert_mem_eq(&recorded, &again, sizeof recorded);
}
END_TEST

/* ---- use after free on disconnect ---- */

/* A session ends at each step of its life, by either end, with everything under way, and is asked on. Under
 * the address sanitizer this is the test. */
START_TEST(a_session_may_end_at_any_step)
{
    for (unsigned steps = 0; steps < 24; steps++) {
        struct pair p = pair_new();
        uint32_t seq;
        uint8_t out[RIFT_MTU_BYTES] = {0};
        size_t len;
        for (unsigned i = 0; i < steps; i++) {
            rift_session_send_input(p.client, &key_down, p.now, &seq);
            pair_send_frame(&p, i + 1, 1, i == 0, 5000);
            rift_session_send_control(p.client, out, 100, p.now);
            if (rift_session_send(i % 2 ? p.host : p.client, out, sizeof out, p.now, &len) == 0)
                rift_session_receive(i % 2 ? p.client : p.host, out, len, p.now);
            p.now += MS;
        }
        struct rift_session *ends = steps % 2 ? p.host : p.client;
        rift_session_close(ends, RIFT_CLOSE_NORMAL, "end", p.now);
        rift_session_send_input(p.client, &key_down, p.now, &seq);
        pair_send_frame(&p, steps + 1, 1, true, 5000);
        pair_run(&p, 200 * MS);
        drain(p.host);
        drain(p.client);
        ck_assert_uint_eq(pair_stats(ends).memory_bytes, 0);
        pair_free(&p);
    }
}
END_TEST

/* ---- message order ---- */

/* Handshake datagrams that come to the wrong end or before their time, and data before there is a session. */
START_TEST(messages_out_of_order_change_nothing)
{
    static struct host host;
    struct rift_initiator *h;
    struct rift_identity client;
    uint8_t init[RIFT_MTU_BYTES], finish[RIFT_MTU_BYTES], answer[RIFT_MTU_BYTES], to[RIFT_ADDRESS_BYTES];
    uint8_t key[32], base[32], hash[64], data[40] = {16};
    size_t init_len, finish_len, answer_len;
    struct rift_session_config config;
    rift_identity_generate(&client);
    host_init(&host, 8, START);
    ck_assert_int_eq(
        rift_initiator_new(&h, client.secret, host.identity.public, 7, NULL, 0, START, 5000 * MS), 0);
    ck_assert_int_eq(rift_initiator_inner(h, base, hash), RIFT_HANDSHAKE_PENDING);
    ck_assert_int_eq(rift_initiator_send(h, init, sizeof init, START, &init_len), 0);
    memset(finish, 0, sizeof finish);
    memcpy(finish, "\3\1\0\0\350\3\0\0\7\0\0\0", 12);
    host_receive(&host, home, finish, 12 + 64, START); /* before INIT */
    host_receive(&host, home, data, sizeof data, START);
    ck_assert_int_eq(rift_initiator_receive(h, init, init_len, START), RIFT_HANDSHAKE_PENDING);
    ck_assert_int_eq(rift_initiator_receive(h, data, sizeof data, START), RIFT_HANDSHAKE_PENDING);
    host_receive(&host, home, init, init_len, START);
    ck_assert_int_eq(host_send(&host, answer, START, to, &answer_len), 0);
    host_receive(&host, home, answer, answer_len, START); /* RESPONSE to the host */
    ck_assert_int_eq(rift_initiator_receive(h, answer, answer_len, START), 0);
    ck_assert_int_eq(rift_initiator_receive(h, answer, answer_len, START), RIFT_HANDSHAKE_PENDING);
    ck_assert_int_eq(rift_initiator_send(h, finish, sizeof finish, START, &finish_len), 0);
    ck_assert_int_eq(rift_initiator_receive(h, finish, finish_len, START), RIFT_HANDSHAKE_PENDING);
    ck_assert_uint_eq(host.finished, 0);
    host_receive(&host, home, finish, finish_len, START);
    host_receive(&host, home, finish, finish_len, START);
    host_receive(&host, home, init, init_len, START);
    ck_assert_uint_eq(host.finished, 1);
    ck_assert_int_eq(rift_initiator_finish(h, &config, key), 0);
    ck_assert_mem_eq(config.key_send, host.config.key_receive, 32);
    rift_initiator_free(h);
    host_fini(&host);
}
END_TEST

int main(void)
{
    if (rift_crypto_init() < 0)
        return 1;
    Suite *suite = suite_create("mistakes of others: protocol");
    TCase *t = tcase_create("all");
    tcase_add_test(t, replay_of_a_whole_session_to_the_same_session);
    tcase_add_test(t, replay_of_a_whole_session_to_a_new_one);
    tcase_add_test(t, every_bit_of_a_data_datagram_is_verified);
    tcase_add_test(t, lengths_that_lie_are_refused);
    tcase_add_test(t, promises_of_size_are_bounded);
    tcase_add_test(t, queues_are_bounded);
    tcase_add_test(t, nothing_goes_on_for_ever);
    tcase_add_test(t, an_ephemeral_key_of_zero_is_refused);
    tcase_add_test(t, two_handshakes_share_no_random_byte);
    tcase_add_test(t, no_uninitialised_byte_is_sent);
    tcase_add_test(t, a_session_may_end_at_any_step);
    tcase_add_test(t, messages_out_of_order_change_nothing);
    suite_add_tcase(suite, t);
    return wv_run_suite(suite);
}
