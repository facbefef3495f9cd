/* The handshake over datagrams, on virtual time: a real client, the transport's responder and a key holder.
 */
#include "rift/crypto/noise.h"
#include "tests/unit/handshake_fixture.h"
#include "tests/unit/suite.h"

#include <ctype.h>
#include <errno.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>

START_TEST(three_datagrams_make_a_session)
{
    struct datagram d[3];
    struct rift_session_config config;
    uint8_t key[32];
    struct rift_initiator *h = new_client(7, START);
    ck_assert_int_eq(rift_initiator_finish(h, &config, key), RIFT_HANDSHAKE_PENDING);
    rift_initiator_free(h);
    h = run_to_finish(7, START, d);
    ck_assert_uint_eq(d[0].len, RIFT_MTU_BYTES);
    ck_assert_int_eq(rift_datagram_kind(d[0].bytes, d[0].len), RIFT_DATAGRAM_INIT);
    ck_assert_int_eq(rift_datagram_kind(d[1].bytes, d[1].len), RIFT_DATAGRAM_RESPONSE);
    ck_assert_int_eq(rift_datagram_kind(d[2].bytes, d[2].len), RIFT_DATAGRAM_FINISH);
    ck_assert_uint_eq(host_stats(&host).half_open, 1);
    ck_assert_int_eq(give_host(home, &d[2], START), 0);
    expect_no_answer(START);
    expect_agreement(h, 7);
    ck_assert_mem_eq(host.address, home, sizeof home);
    struct rift_responder_stats stats = host_stats(&host);
    ck_assert_uint_eq(stats.started, 1);
    ck_assert_uint_eq(stats.finished, 1);
    ck_assert_uint_eq(stats.half_open, 0);
    ck_assert_uint_eq(stats.malformed + stats.refused + stats.expired + stats.dropped + stats.cookies_sent,
                      0);
    rift_initiator_free(h);
}
END_TEST

/* ---- retransmission ---- */

START_TEST(pauses_double_up_to_a_second)
{
    struct datagram d[3];
    const uint64_t at[] = {0, 100, 300, 700, 1500, 2500, 3500, 4500};
    struct rift_initiator *h = new_client(7, START);
    struct datagram first = client_send(h, START), next;
    for (size_t i = 1; i < WV_ARRAY_SIZE(at); i++) {
        ck_assert_uint_eq(rift_initiator_timeout(h), START + at[i] * MS);
        ck_assert_int_eq(
            rift_initiator_send(h, next.bytes, sizeof next.bytes, START + at[i] * MS - 1, &next.len),
            RIFT_HANDSHAKE_PENDING);
        next = client_send(h, START + at[i] * MS);
        ck_assert_mem_eq(next.bytes, first.bytes, sizeof first.bytes);
    }
    ck_assert_uint_eq(rift_initiator_timeout(h), START + TIME_LIMIT);
    ck_assert_int_eq(rift_initiator_send(h, next.bytes, sizeof next.bytes, START + TIME_LIMIT, &next.len),
                     RIFT_HANDSHAKE_TIMEOUT);
    /* A RESPONSE after the end is too late. */
    give_host(home, &first, START + 4500 * MS);
    next = host_answer_to(home, START + 4500 * MS);
    ck_assert_int_eq(give_client(h, &next, START + TIME_LIMIT), RIFT_HANDSHAKE_PENDING);
    ck_assert_int_eq(give_client(h, &next, START + TIME_LIMIT - 1), 0);
    rift_initiator_free(h);

    h = run_to_finish(8, START + 4500 * MS, d);
    ck_assert_uint_eq(rift_initiator_timeout(h), START + 4600 * MS);
    next = client_send(h, START + 4600 * MS);
    ck_assert_uint_eq(next.len, d[2].len);
    ck_assert_mem_eq(next.bytes, d[2].bytes, d[2].len);
    ck_assert_int_eq(
        rift_initiator_send(h, next.bytes, sizeof next.bytes, START + 4500 * MS + TIME_LIMIT, &next.len),
        RIFT_HANDSHAKE_TIMEOUT);
    rift_initiator_free(h);
}
END_TEST

#define IN_FLIGHT 64

struct network {
    struct {
        uint64_t due; /* 0: free */
        bool to_host;
        struct datagram d;
    } flight[IN_FLIGHT];
    unsigned loss_percent;
};

static void network_put(struct network *n, bool to_host, const struct datagram *d, uint64_t now)
{
    unsigned copies = rand() % 100 < (int)n->loss_percent ? 0 : rand() % 10 == 0 ? 2 : 1;
    for (size_t i = 0; i < IN_FLIGHT && copies; i++) {
        if (n->flight[i].due)
            continue;
        n->flight[i].due = now + (uint64_t)(5 + rand() % 60) * MS;
        n->flight[i].to_host = to_host;
        n->flight[i].d = *d;
        copies--;
    }
}

/* One handshake over NETWORK; returns whether host and client agree within the time limit. */
static bool converge(struct network *n, uint32_t id)
{
    struct rift_initiator *h = new_client(id, START);
    struct rift_session_config config;
    struct datagram d;
    uint8_t to[RIFT_ADDRESS_BYTES], key[32];
    bool done = false;
    for (uint64_t now = START; now < START + TIME_LIMIT && !done; now += MS) {
        while (rift_initiator_send(h, d.bytes, sizeof d.bytes, now, &d.len) == 0)
            network_put(n, true, &d, now);
        for (size_t i = 0; i < IN_FLIGHT; i++) {
            if (!n->flight[i].due || n->flight[i].due > now)
                continue;
            n->flight[i].due = 0;
            if (n->flight[i].to_host)
                give_host(home, &n->flight[i].d, now);
            else
                give_client(h, &n->flight[i].d, now);
        }
        while (host_send(&host, d.bytes, now, to, &d.len) == 0)
            network_put(n, false, &d, now);
        done = host.finished > 0 && rift_initiator_finish(h, &config, key) == 0;
    }
    if (done)
        expect_agreement(h, id);
    rift_initiator_free(h);
    return done;
}

START_TEST(loss_delay_and_reordering_are_survived)
{
    unsigned seed = (unsigned)_i + 1, done = 0;
    srand(seed);
    for (unsigned run = 0; run < 20; run++) {
        static struct network n;
        memset(&n, 0, sizeof n);
        n.loss_percent = 30;
        host_fini(&host);
        host_init(&host, 8, START);
        done += converge(&n, seed * 100 + run);
        /* However often the datagrams came, each message was asked about once. */
        ck_assert_msg(host.asked[1] <= 1 && host.asked[3] <= 1, "seed %u run %u", seed, run);
        ck_assert_uint_le(host.finished, 1);
    }
    /* 30 % loss leaves 8 tries of INIT: next to none may fail. */
    ck_assert_msg(done >= 19, "seed %u: %u of 20", seed, done);
}
END_TEST

START_TEST(repetitions_ask_nothing)
{
    struct datagram d[3];
    struct rift_initiator *h = run_to_finish(7, START, d);
    for (unsigned i = 1; i <= 5; i++) {
        ck_assert_int_eq(give_host(home, &d[0], START + i * S), RIFT_HANDSHAKE_PENDING);
        struct datagram again = host_answer_to(home, START + i * S);
        ck_assert_uint_eq(again.len, d[1].len);
        ck_assert_mem_eq(again.bytes, d[1].bytes, d[1].len);
        expect_no_answer(START + i * S);
        ck_assert_int_eq(give_client(h, &again, START), RIFT_HANDSHAKE_PENDING);
    }
    ck_assert_int_eq(give_host(home, &d[2], START + 6 * S), 0);
    expect_agreement(h, 7);
    for (unsigned i = 6; i < 15; i++) {
        ck_assert_int_eq(give_host(home, &d[2], START + i * S), RIFT_HANDSHAKE_PENDING);
        ck_assert_int_eq(give_host(away, &d[2], START + i * S), RIFT_HANDSHAKE_PENDING);
        ck_assert_int_eq(give_host(home, &d[0], START + i * S), RIFT_HANDSHAKE_PENDING);
        expect_no_answer(START + i * S);
    }
    ck_assert_uint_eq(host.asked[1], 1);
    ck_assert_uint_eq(host.asked[3], 1);
    ck_assert_uint_eq(host.finished, 1);
    ck_assert_uint_eq(host_stats(&host).dropped, 0);
    rift_initiator_free(h);
}
END_TEST

/* ---- the first datagram's key ---- */

/* A transport that was just started knows no key yet: it keeps what it has and takes nothing new. */
START_TEST(nobody_answers_before_a_key_is_set)
{
    struct rift_responder *r;
    struct rift_responder_question q;
    struct rift_responder_stats stats;
    uint8_t secret[32] = {1};
    struct rift_initiator *h = new_client(7, START);
    struct datagram init = client_send(h, START);
    ck_assert_int_eq(rift_responder_new(&r, secret, 8, START), 0);
    ck_assert_int_eq(rift_responder_receive(r, home, init.bytes, init.len, 5, START, &q),
                     RIFT_HANDSHAKE_PENDING);
    rift_responder_set_keys(r, client.public, true); /* another host's */
    ck_assert_int_eq(rift_responder_receive(r, home, init.bytes, init.len, 5, START, &q),
                     RIFT_HANDSHAKE_PENDING);
    rift_responder_get_stats(r, &stats);
    ck_assert_uint_eq(stats.unkeyed, 2);
    ck_assert_uint_eq(stats.half_open + stats.malformed + stats.dropped, 0);
    rift_responder_set_keys(r, host.identity.public, false);
    ck_assert_int_eq(rift_responder_receive(r, home, init.bytes, init.len, 5, START, &q), 0);
    rift_responder_free(r);
    rift_initiator_free(h);
}
END_TEST

/* ---- forgery ---- */

/* Nobody answers an INIT that was changed on its way, and nothing is kept of it. */
START_TEST(an_init_with_a_flipped_bit_is_dropped)
{
    struct rift_initiator *h = new_client(7, START);
    struct datagram init = client_send(h, START), d;
    for (size_t bit = 0; bit < 8 * init.len; bit++) {
        d = init;
        d.bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
        ck_assert_int_eq(give_host(home, &d, START), RIFT_HANDSHAKE_PENDING);
        expect_no_answer(START);
    }
    struct rift_responder_stats stats = host_stats(&host);
    ck_assert_uint_eq(stats.unkeyed + stats.malformed, 8 * init.len);
    ck_assert_uint_ge(stats.unkeyed, 8 * (42 + 32 - 1));
    ck_assert_uint_eq(stats.started + stats.half_open + stats.cookies_sent, 0);
    ck_assert_int_eq(give_host(home, &init, START), 0);
    rift_initiator_free(h);
}
END_TEST

/* The same by somebody who knows the host's public key and makes the MAC anew. */
START_TEST(an_init_with_a_flipped_bit_makes_no_session)
{
    struct rift_initiator *h = new_client(7, START);
    struct datagram init = client_send(h, START), d, answer;
    uint8_t to[RIFT_ADDRESS_BYTES];
    for (size_t bit = 0; bit < 8 * (42 + 32); bit++) {
        if (bit / 8 >= 26 && bit / 8 < 42)
            continue; /* the MAC itself, which is made anew: nothing would be changed */
        d = init;
        d.bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
        rekey_for_host(&d);
        give_host(home, &d, START);
        while (host_send(&host, answer.bytes, START, to, &answer.len) == 0) {
            int r = give_client(h, &answer, START);
            /* A wrong cookie is answered by a good one; any RESPONSE must be refused. */
            if (rift_datagram_kind(answer.bytes, answer.len) == RIFT_DATAGRAM_RESPONSE)
                ck_assert_msg(r == RIFT_HANDSHAKE_PENDING, "bit %zu", bit);
        }
        host_fini(&host);
        host_init(&host, 8, START);
    }
    /* After all these forgeries the genuine one still goes through. */
    init = client_send(h, rift_initiator_timeout(h));
    ck_assert_int_eq(give_host(home, &init, START), 0);
    answer = host_answer_to(home, START);
    ck_assert_int_eq(give_client(h, &answer, START), 0);
    rift_initiator_free(h);
}
END_TEST

START_TEST(a_response_with_a_flipped_bit_is_ignored)
{
    struct rift_initiator *h = new_client(7, START);
    struct datagram init = client_send(h, START), forged;
    give_host(home, &init, START);
    struct datagram response = host_answer_to(home, START);
    for (size_t bit = 0; bit < 8 * response.len; bit++) {
        forged = response;
        forged.bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
        ck_assert_msg(give_client(h, &forged, START) == RIFT_HANDSHAKE_PENDING, "bit %zu", bit);
    }
    for (size_t len = 0; len < response.len; len++)
        ck_assert_int_eq(rift_initiator_receive(h, response.bytes, len, START), RIFT_HANDSHAKE_PENDING);
    ck_assert_int_eq(give_client(h, &response, START), 0);
    rift_initiator_free(h);
}
END_TEST

START_TEST(a_finish_with_a_flipped_bit_makes_no_session)
{
    struct datagram d[3], forged;
    rift_initiator_free(run_to_finish(7, START, d));
    size_t bits = 8 * d[2].len;
    for (size_t bit = 0; bit < bits; bit++) {
        host_fini(&host);
        host_init(&host, 8, START);
        struct rift_initiator *h = run_to_finish(7, START, d);
        forged = d[2];
        forged.bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
        give_host(home, &forged, START);
        ck_assert_msg(host.finished == 0, "bit %zu", bit);
        expect_no_answer(START);
        /* A forgery ends nothing: the true one still does its work. */
        ck_assert_int_eq(give_host(home, &d[2], START), 0);
        expect_agreement(h, 7);
        rift_initiator_free(h);
    }
}
END_TEST

START_TEST(every_cut_is_refused)
{
    struct datagram d[3];
    struct rift_initiator *h = new_client(7, START);
    struct datagram init = client_send(h, START);
    for (size_t len = 0; len < init.len; len++)
        ck_assert_int_eq(host_receive(&host, home, init.bytes, len, START), RIFT_HANDSHAKE_PENDING);
    ck_assert_uint_eq(host_stats(&host).malformed, init.len);
    ck_assert_uint_eq(host_stats(&host).half_open, 0);
    expect_no_answer(START);
    rift_initiator_free(h);

    for (size_t len = 0; len < 12 + 64; len++) {
        h = run_to_finish(100 + (uint32_t)len, START, d);
        ck_assert_int_eq(host_receive(&host, home, d[2].bytes, len, START), RIFT_HANDSHAKE_PENDING);
        ck_assert_int_eq(give_host(home, &d[2], START), 0);
        rift_initiator_free(h);
    }
    for (size_t len = 12 + 64; len < d[2].len; len++) {
        unsigned finished = host.finished;
        uint64_t forged = host_stats(&host).forged;
        h = run_to_finish(300 + (uint32_t)len, START, d);
        host_receive(&host, home, d[2].bytes, len, START);
        ck_assert_uint_eq(host.finished, finished);
        ck_assert_uint_eq(host_stats(&host).forged, forged + 1);
        expect_no_answer(START);
        ck_assert_int_eq(give_host(home, &d[2], START), 0);
        ck_assert_uint_eq(host.finished, finished + 1);
        rift_initiator_free(h);
    }
}
END_TEST

START_TEST(other_versions_lengths_and_kinds_are_malformed)
{
    struct rift_initiator *h = new_client(7, START);
    struct datagram init = client_send(h, START), d = init;
    uint8_t longer[RIFT_MTU_BYTES + 1] = {0};
    for (unsigned version = 0; version < 256; version++) {
        d.bytes[1] = (uint8_t)version;
        rekey_for_host(&d);
        if (version != 1)
            ck_assert_int_eq(give_host(home, &d, START), RIFT_HANDSHAKE_PENDING);
    }
    ck_assert_uint_eq(host_stats(&host).malformed, 255);
    ck_assert_uint_eq(host_stats(&host).unkeyed, 0);
    memcpy(longer, init.bytes, init.len);
    ck_assert_int_eq(host_receive(&host, home, longer, sizeof longer, START), RIFT_HANDSHAKE_PENDING);
    const uint8_t kinds[] = {RIFT_DATAGRAM_RESPONSE, RIFT_DATAGRAM_COOKIE, RIFT_DATAGRAM_DATA, 0, 5, 255};
    for (size_t i = 0; i < sizeof kinds; i++) {
        d = init;
        d.bytes[0] = kinds[i];
        ck_assert_int_eq(give_host(home, &d, START), RIFT_HANDSHAKE_PENDING);
        ck_assert_int_eq(give_client(h, &d, START), RIFT_HANDSHAKE_PENDING);
    }
    ck_assert_uint_eq(host_stats(&host).malformed, 255 + 1 + sizeof kinds);
    expect_no_answer(START);
    ck_assert_int_eq(rift_datagram_kind(NULL, 0), RIFT_DATAGRAM_INVALID);
    ck_assert_int_eq(rift_datagram_kind((const uint8_t[]){RIFT_DATAGRAM_DATA}, 1), RIFT_DATAGRAM_INVALID);
    rift_initiator_free(h);
}
END_TEST

START_TEST(another_host_key_ends_it_without_a_word)
{
    struct rift_initiator *h = NULL;
    ck_assert_int_eq(rift_initiator_new(&h, client.secret, client.public, 7, NULL, 0, START, TIME_LIMIT), 0);
    struct datagram d = client_send(h, START);
    ck_assert_int_eq(give_host(home, &d, START), RIFT_HANDSHAKE_PENDING);
    expect_no_answer(START);
    ck_assert_uint_eq(host_stats(&host).unkeyed, 1);
    /* A false host that knows the true one's public key can read the MAC, and answers all the same. */
    rekey_for_host(&d);
    give_host(home, &d, START);
    d = host_answer_to(home, START);
    ck_assert_int_eq(give_client(h, &d, START), RIFT_HANDSHAKE_WRONG_KEY);
    ck_assert_uint_le(rift_initiator_timeout(h), START);
    ck_assert_int_eq(rift_initiator_send(h, d.bytes, sizeof d.bytes, START, &d.len),
                     RIFT_HANDSHAKE_WRONG_KEY);
    struct rift_session_config config;
    uint8_t key[32];
    ck_assert_int_eq(rift_initiator_finish(h, &config, key), RIFT_HANDSHAKE_PENDING);
    rift_initiator_free(h);

    /* Who takes any key learns which one it was; a host hears it only while it pairs. */
    ck_assert_int_eq(rift_initiator_new(&h, client.secret, NULL, 8, hello, sizeof hello, START, TIME_LIMIT),
                     0);
    d = client_send(h, START);
    ck_assert_int_eq(give_host(home, &d, START), RIFT_HANDSHAKE_PENDING);
    expect_no_answer(START);
    rift_responder_set_keys(host.responder, host.identity.public, true);
    give_host(home, &d, START);
    d = host_answer_to(home, START);
    ck_assert_int_eq(give_client(h, &d, START), 0);
    d = client_send(h, START);
    give_host(home, &d, START);
    expect_agreement(h, 8);
    rift_initiator_free(h);
}
END_TEST

START_TEST(sizes_are_bounded)
{
    static uint8_t payload[RIFT_HANDSHAKE_PAYLOAD_MAX + 1];
    struct rift_initiator *h = NULL;
    struct datagram d;
    const uint8_t *key = host.identity.public;
    ck_assert_int_eq(rift_initiator_new(&h, client.secret, key, 7, payload, sizeof payload, START, S),
                     -EMSGSIZE);
    ck_assert_int_eq(rift_initiator_new(&h, client.secret, key, 7, payload, sizeof payload - 1, START, S), 0);
    ck_assert_int_eq(rift_initiator_send(h, d.bytes, RIFT_MTU_BYTES - 1, START, &d.len), -EMSGSIZE);
    host.without_id = true; /* message 2 may come without the host's id */
    d = client_send(h, START);
    give_host(home, &d, START);
    d = host_answer_to(home, START);
    ck_assert_int_eq(give_client(h, &d, START), 0);
    d = client_send(h, START);
    give_host(home, &d, START);
    ck_assert_uint_eq(host.payload_len, RIFT_HANDSHAKE_PAYLOAD_MAX);
    rift_initiator_free(h);

    uint8_t message[RIFT_HANDSHAKE_MESSAGE_MAX + 1] = {0};
    ck_assert_int_eq(rift_responder_answer(host.responder, 1, message, sizeof message, START), -EMSGSIZE);
    ck_assert_int_eq(rift_responder_answer(host.responder, 1, message, 95, START), -EMSGSIZE);
    ck_assert_int_eq(rift_responder_answer(host.responder, 0xffff, message, 100, START), -ENOENT);
    struct rift_responder *r = NULL;
    ck_assert_int_eq(rift_responder_new(&r, message, 0, START), -EINVAL);
    ck_assert_int_eq(rift_responder_new(&r, message, 65536, START), -EINVAL);
}
END_TEST

/* ---- the example in WIRE.md, which an implementation in another language wrote ---- */

static char *wire;

/* Reads the bytes of "NAME = hex", where the hex may go on in indented lines. */
static size_t example(const char *name, uint8_t *ret, size_t capacity)
{
    char line[64];
    snprintf(line, sizeof line, "\n%s =", name);
    const char *p = strstr(wire, line);
    ck_assert_msg(p, "WIRE.md has no example \"%s\"", name);
    p += strlen(line);
    char digits[2 * RIFT_MTU_BYTES + 1];
    size_t n = 0;
    for (; *p && !(*p == '\n' && p[1] != ' '); p++)
        if (!isspace((unsigned char)*p) && n < sizeof digits - 1)
            digits[n++] = *p;
    digits[n] = 0;
    ck_assert_uint_le(n / 2, capacity);
    ck_assert_int_eq(wv_hex_decode(digits, ret, n / 2), 0);
    return n / 2;
}

static uint32_t example_u32(const char *name)
{
    uint8_t b[4];
    ck_assert_uint_eq(example(name, b, sizeof b), 4);
    return b[0] | (uint32_t)b[1] << 8 | (uint32_t)b[2] << 16 | (uint32_t)b[3] << 24;
}

static void expect_example(const char *name, const uint8_t *bytes, size_t len)
{
    uint8_t expected[RIFT_MTU_BYTES] = {0};
    size_t n = example(name, expected, sizeof expected);
    ck_assert_msg(n <= len && memcmp(bytes, expected, len) == 0, "WIRE.md: %s differs", name);
}

static uint8_t fixed_random[32];

static const char *fixed_name(void)
{
    return "fixed";
}

static uint32_t fixed_word(void)
{
    return fixed_random[0];
}

static void fixed_bytes(void *buffer, size_t len)
{
    for (size_t i = 0; i < len; i++)
        ((uint8_t *)buffer)[i] = fixed_random[i % 32];
}

static struct randombytes_implementation fixed_source = {
    .implementation_name = fixed_name, .random = fixed_word, .buf = fixed_bytes};

START_TEST(the_example_in_wire_md_holds)
{
    uint8_t *text = NULL, host_ephemeral[32], payload[64];
    size_t len;
    struct rift_initiator *h = NULL;
    struct rift_session_config config;
    ck_assert_int_eq(wv_read_file(TEST_WIRE_MD, 1 << 20, &text, &len), 0);
    wire = (char *)text;
    example("client static secret", client.secret, 32);
    crypto_scalarmult_base(client.public, client.secret);
    example("host static secret", host.identity.secret, 32);
    crypto_scalarmult_base(host.identity.public, host.identity.secret);
    example("host ephemeral secret", host_ephemeral, 32);
    host.ephemeral = host_ephemeral;
    rift_responder_set_keys(host.responder, host.identity.public, false);
    host.next_id = example_u32("host id");
    size_t payload_len = example("payload of message 3", payload, sizeof payload);

    example("client ephemeral secret", fixed_random, 32);
    randombytes_set_implementation(&fixed_source);
    ck_assert_int_eq(rift_initiator_new(&h, client.secret, host.identity.public, example_u32("client id"),
                                        payload, payload_len, START, TIME_LIMIT),
                     0);
    struct datagram d = client_send(h, START);
    ck_assert_uint_eq(d.len, RIFT_MTU_BYTES);
    expect_example("INIT without its padding", d.bytes, d.len);
    give_host(home, &d, START);
    d = host_answer_to(home, START);
    expect_example("RESPONSE", d.bytes, d.len);
    ck_assert_int_eq(give_client(h, &d, START), 0);
    d = client_send(h, START);
    expect_example("FINISH", d.bytes, d.len);
    give_host(home, &d, START);
    ck_assert_uint_eq(host.finished, 1);
    ck_assert_mem_eq(host.payload, payload, payload_len);
    ck_assert_int_eq(rift_initiator_finish(h, &config, payload), 0);
    expect_example("key client to host", config.key_send, 32);
    expect_example("key host to client", config.key_receive, 32);
    expect_example("key client to host", host.config.key_receive, 32);
    expect_example("key host to client", host.config.key_send, 32);
    uint8_t base[32], hash[64];
    ck_assert_int_eq(rift_initiator_inner(h, base, hash), 0);
    expect_example("base of the inner keys", base, 32);
    expect_example("base of the inner keys", host.inner_base, 32);
    expect_example("handshake hash", hash, 64);
    rift_initiator_free(h);
    free(text);
}
END_TEST

int main(void)
{
    if (rift_crypto_init() < 0)
        return 1;
    Suite *s = suite_create("handshake");
    TCase *t = tcase_create("handshake");
    tcase_set_timeout(t, 120);
    tcase_add_checked_fixture(t, setup, teardown);
    suite_add_tcase(s, t);
    tcase_add_test(t, three_datagrams_make_a_session);
    tcase_add_test(t, pauses_double_up_to_a_second);
    tcase_add_loop_test(t, loss_delay_and_reordering_are_survived, 0, 5);
    tcase_add_test(t, repetitions_ask_nothing);
    tcase_add_test(t, nobody_answers_before_a_key_is_set);
    tcase_add_test(t, an_init_with_a_flipped_bit_is_dropped);
    tcase_add_test(t, an_init_with_a_flipped_bit_makes_no_session);
    tcase_add_test(t, a_response_with_a_flipped_bit_is_ignored);
    tcase_add_test(t, a_finish_with_a_flipped_bit_makes_no_session);
    tcase_add_test(t, every_cut_is_refused);
    tcase_add_test(t, other_versions_lengths_and_kinds_are_malformed);
    tcase_add_test(t, another_host_key_ends_it_without_a_word);
    tcase_add_test(t, sizes_are_bounded);
    tcase_add_test(t, the_example_in_wire_md_holds);
    return wv_run_suite(s);
}
