/* Offers of clients that came through a gateway, through the whole identity stage: who gets an answer, what
 * reaches transport, and what identity signs. */
#include "rift/crypto/prove.h"
#include "tests/unit/identity_kit.h"

#include "proto/bus_paths.pb-c.h"
#include "proto/signal.pb-c.h"
#include "rift/crypto/offer.h"
#include "rift/relay/lease.h"

static uint8_t host_key[32];

static void begin(struct client *c)
{
    client_new(c);
    ck_assert_int_eq(request("key", ""), 0);
    ck_assert_int_eq(rift_public_key_parse(answer, host_key), 0);
}

static struct rift_offer_end end_of(const struct client *c)
{
    return (struct rift_offer_end){false, c->identity.secret, c->identity.public, host_key};
}

/* What C seals comes as a signal of KEY. */
static void deliver_signal(const struct client *c, const uint8_t key[32], const Wavry__Signal__Signal *signal,
                           int flip)
{
    uint8_t plain[2048], sealed[4096], from[32];
    size_t len = wavry__signal__signal__pack(signal, plain), sealed_len;
    struct rift_offer_end end = end_of(c);
    ck_assert_int_eq(rift_offer_seal(&end, NULL, plain, len, sealed, sizeof sealed, &sealed_len), 0);
    if (flip >= 0)
        sealed[(size_t)flip % sealed_len] ^= 4;
    memcpy(from, key, 32);
    Wavry__Bus__SealedSignal m = WAVRY__BUS__SEALED_SIGNAL__INIT;
    m.peer_key = (ProtobufCBinaryData){.len = 32, .data = from};
    m.id = (char[]){"signal-1"};
    m.sealed = (ProtobufCBinaryData){.len = sealed_len, .data = sealed};
    deliver("reach", &m.base);
}

struct offer {
    uint8_t id[16], secret[32], address[18], relay_key[32];
    size_t n_candidates;
    uint64_t unix_s;
};

static void offer_init(struct offer *o, uint8_t number)
{
    memset(o, number, sizeof *o);
    o->n_candidates = 1;
    o->unix_s = unix_s;
}

static void deliver_offer(const struct client *c, const uint8_t key[32], struct offer *o, int flip)
{
    Wavry__Signal__Candidate candidate = WAVRY__SIGNAL__CANDIDATE__INIT, *list[20];
    Wavry__Signal__Offer offer = WAVRY__SIGNAL__OFFER__INIT;
    Wavry__Signal__Signal signal = WAVRY__SIGNAL__SIGNAL__INIT;
    candidate.address = (ProtobufCBinaryData){.len = sizeof o->address, .data = o->address};
    candidate.kind = WAVRY__SIGNAL__CANDIDATE__KIND__REFLEXIVE;
    candidate.priority = 77;
    for (size_t i = 0; i < o->n_candidates; i++)
        list[i] = &candidate;
    offer.id = (ProtobufCBinaryData){.len = 16, .data = o->id};
    offer.punch_secret = (ProtobufCBinaryData){.len = 32, .data = o->secret};
    offer.relay_key = (ProtobufCBinaryData){.len = 32, .data = o->relay_key};
    offer.candidates = list;
    offer.n_candidates = o->n_candidates;
    offer.unix_s = o->unix_s;
    signal.kind_case = WAVRY__SIGNAL__SIGNAL__KIND_OFFER;
    signal.offer = &offer;
    deliver_signal(c, key, &signal, flip);
}

static size_t offers_since(size_t from)
{
    size_t n = 0;
    for (size_t i = from; i < n_sent; i++)
        n += sent[i].to == WV_TO_TRANSPORT && sent[i].type == &wavry__bus__path_offer__descriptor;
    return n;
}

/* The answer that C got since FROM, NULL: none. */
static Wavry__Signal__Signal *answer_since(const struct client *c, size_t from)
{
    uint8_t plain[4096];
    size_t len;
    struct rift_offer_end end = end_of(c);
    Wavry__Bus__SealedSignal *m = last_sent(WV_TO_REACH, &wavry__bus__sealed_signal__descriptor, from);
    if (!m)
        return NULL;
    ck_assert_str_eq(m->id, "signal-1");
    ck_assert_mem_eq(m->peer_key.data, c->identity.public, 32);
    ck_assert_int_eq(rift_offer_open(&end, m->sealed.data, m->sealed.len, plain, sizeof plain, &len), 0);
    protobuf_c_message_free_unpacked(&m->base, NULL);
    Wavry__Signal__Signal *signal = wavry__signal__signal__unpack(NULL, len, plain);
    ck_assert_ptr_nonnull(signal);
    ck_assert_int_eq(signal->kind_case, WAVRY__SIGNAL__SIGNAL__KIND_ANSWER);
    return signal;
}

static void assert_refused(const struct client *c, size_t from, const char *why)
{
    Wavry__Signal__Signal *signal = answer_since(c, from);
    ck_assert_ptr_nonnull(signal);
    ck_assert_str_eq(signal->answer->refused, why);
    ck_assert_uint_eq(signal->answer->unix_s, unix_s);
    wavry__signal__signal__free_unpacked(signal, NULL);
}

static void transport_answers(uint8_t number)
{
    uint8_t id_bytes[16], key[32], address[18];
    Wavry__Bus__PathCandidate reflexive = WAVRY__BUS__PATH_CANDIDATE__INIT, *list[] = {&reflexive};
    Wavry__Bus__PathAnswer m = WAVRY__BUS__PATH_ANSWER__INIT;
    memset(id_bytes, number, sizeof id_bytes);
    memset(key, 9, sizeof key);
    memset(address, 8, sizeof address);
    reflexive.address = (ProtobufCBinaryData){.len = 18, .data = address};
    reflexive.kind = 2;
    m.id = (ProtobufCBinaryData){.len = 16, .data = id_bytes};
    m.relay_key = (ProtobufCBinaryData){.len = 32, .data = key};
    m.candidates = list;
    m.n_candidates = 1;
    deliver("transport", &m.base);
}

static void reach_tells(void)
{
    uint8_t address[18];
    Wavry__Bus__PathCandidate local = WAVRY__BUS__PATH_CANDIDATE__INIT, *list[] = {&local};
    Wavry__Bus__LocalCandidates m = WAVRY__BUS__LOCAL_CANDIDATES__INIT;
    memset(address, 7, sizeof address);
    local.address = (ProtobufCBinaryData){.len = 18, .data = address};
    local.kind = 1;
    local.priority = 100;
    m.candidates = list;
    m.n_candidates = 1;
    deliver("reach", &m.base);
}

START_TEST(a_known_client_gets_an_answer)
{
    struct client c;
    struct offer o;
    begin(&c);
    authorize(&c, "");
    reach_tells();
    offer_init(&o, 1);
    size_t from = n_sent;
    deliver_offer(&c, c.identity.public, &o, -1);
    Wavry__Bus__PathOffer *to = last_sent(WV_TO_TRANSPORT, &wavry__bus__path_offer__descriptor, from);
    ck_assert_ptr_nonnull(to);
    ck_assert_mem_eq(to->client_key.data, c.identity.public, 32);
    ck_assert_mem_eq(to->punch_secret.data, o.secret, 32);
    ck_assert_uint_eq(to->n_candidates, 1);
    ck_assert_uint_eq(to->candidates[0]->kind, 2);
    ck_assert_uint_eq(to->candidates[0]->priority, 77);
    protobuf_c_message_free_unpacked(&to->base, NULL);
    ck_assert_ptr_null(answer_since(&c, from)); /* not before transport said where */

    transport_answers(1);
    Wavry__Signal__Signal *signal = answer_since(&c, from);
    ck_assert_ptr_nonnull(signal);
    ck_assert_str_eq(signal->answer->refused, "");
    ck_assert_mem_eq(signal->answer->id.data, o.id, 16);
    ck_assert_uint_eq(signal->answer->n_candidates, 2);
    ck_assert_uint_eq(signal->answer->candidates[0]->address.data[0], 7);
    ck_assert_uint_eq(signal->answer->candidates[1]->address.data[0], 8);
    ck_assert_uint_eq(signal->answer->relay_key.len, 32);
    wavry__signal__signal__free_unpacked(signal, NULL);
    from = n_sent;
    transport_answers(2); /* what was never offered */
    ck_assert_ptr_null(answer_since(&c, from));
}
END_TEST

/* The host has another address outside: its client hears of it under the same offer, if it may still come in.
 */
START_TEST(an_answer_is_given_again)
{
    struct client c;
    struct offer o;
    begin(&c);
    authorize(&c, "");
    offer_init(&o, 1);
    deliver_offer(&c, c.identity.public, &o, -1);
    transport_answers(1);
    for (int i = 0; i < 3; i++) {
        size_t from = n_sent;
        now += 3600 * WV_NS_PER_S;
        transport_answers(1);
        Wavry__Signal__Signal *signal = answer_since(&c, from);
        ck_assert_ptr_nonnull(signal);
        ck_assert_mem_eq(signal->answer->id.data, o.id, 16);
        ck_assert_uint_eq(signal->answer->n_candidates, 1);
        wavry__signal__signal__free_unpacked(signal, NULL);
    }
    ck_assert_int_eq(request("revoke", c.key_text), 0);
    size_t from = n_sent;
    transport_answers(1);
    ck_assert_ptr_null(answer_since(&c, from));
}
END_TEST

START_TEST(strangers_and_forgeries_get_nothing)
{
    struct client c, d;
    struct offer o;
    begin(&c);
    begin(&d);
    authorize(&c, "");
    size_t from = n_sent;
    offer_init(&o, 2);
    deliver_offer(&d, d.identity.public, &o, -1); /* not known */
    deliver_offer(&d, c.identity.public, &o, -1); /* under another's name */
    for (int i = 0; i < 40; i++)
        deliver_offer(&c, c.identity.public, &o, 7 * i);
    ck_assert_uint_eq(offers_since(from), 0);
    ck_assert_ptr_null(last_sent(WV_TO_REACH, &wavry__bus__sealed_signal__descriptor, from));
    o.n_candidates = 17;
    now += WV_NS_PER_S;
    deliver_offer(&c, c.identity.public, &o, -1);
    ck_assert_uint_eq(offers_since(from), 0);
    /* While a code is shown a stranger may come as far as pairing. */
    ck_assert_int_eq(request("pair", "ttl=60s "), 0);
    offer_init(&o, 3);
    deliver_offer(&d, d.identity.public, &o, -1);
    ck_assert_uint_eq(offers_since(from), 1);
}
END_TEST

START_TEST(repeated_old_and_too_many_offers)
{
    struct client c;
    struct offer o;
    begin(&c);
    authorize(&c, "");
    offer_init(&o, 1);
    size_t from = n_sent;
    deliver_offer(&c, c.identity.public, &o, -1);
    deliver_offer(&c, c.identity.public, &o, -1); /* repeated by the gateway */
    ck_assert_uint_eq(offers_since(from), 1);
    ck_assert_ptr_null(answer_since(&c, from));
    offer_init(&o, 2);
    o.unix_s -= 3600;
    deliver_offer(&c, c.identity.public, &o, -1);
    assert_refused(&c, from, "clock");
    deaf[WV_TO_TRANSPORT] = true;
    offer_init(&o, 3);
    from = n_sent;
    deliver_offer(&c, c.identity.public, &o, -1);
    assert_refused(&c, from, "busy");
    deaf[WV_TO_TRANSPORT] = false;
    for (uint8_t i = 10; i < 30; i++) { /* transport answers none of them */
        offer_init(&o, i);
        from = n_sent;
        deliver_offer(&c, c.identity.public, &o, -1);
    }
    assert_refused(&c, from, "busy");
    now += 11 * WV_NS_PER_S;
    offer_init(&o, 40);
    from = n_sent;
    deliver_offer(&c, c.identity.public, &o, -1);
    ck_assert_uint_eq(offers_since(from), 1);
}
END_TEST

START_TEST(a_lease_is_passed_on)
{
    struct client c, d;
    uint8_t id_bytes[16] = {1}, lease_bytes[RIFT_LEASE_BYTES] = {2}, address[18] = {3};
    Wavry__Signal__Lease lease = WAVRY__SIGNAL__LEASE__INIT;
    Wavry__Signal__Signal signal = WAVRY__SIGNAL__SIGNAL__INIT;
    begin(&c);
    begin(&d);
    authorize(&c, "");
    lease.id = (ProtobufCBinaryData){.len = 16, .data = id_bytes};
    lease.lease = (ProtobufCBinaryData){.len = sizeof lease_bytes, .data = lease_bytes};
    lease.relay_address = (ProtobufCBinaryData){.len = 18, .data = address};
    signal.kind_case = WAVRY__SIGNAL__SIGNAL__KIND_LEASE;
    signal.lease = &lease;
    size_t from = n_sent;
    deliver_signal(&d, d.identity.public, &signal, -1);
    ck_assert_ptr_null(last_sent(WV_TO_TRANSPORT, &wavry__bus__path_lease__descriptor, from));
    deliver_signal(&c, c.identity.public, &signal, -1);
    Wavry__Bus__PathLease *m = last_sent(WV_TO_TRANSPORT, &wavry__bus__path_lease__descriptor, from);
    ck_assert_ptr_nonnull(m);
    ck_assert_mem_eq(m->lease.data, lease_bytes, sizeof lease_bytes);
    protobuf_c_message_free_unpacked(&m->base, NULL);
    lease.lease.len--;
    from = n_sent;
    deliver_signal(&c, c.identity.public, &signal, -1);
    ck_assert_ptr_null(last_sent(WV_TO_TRANSPORT, &wavry__bus__path_lease__descriptor, from));
}
END_TEST

/* ---- the gateway ---- */

static void assert_gateway(size_t from, const char *url)
{
    Wavry__Bus__GatewayIs *m = last_sent(WV_TO_REACH, &wavry__bus__gateway_is__descriptor, from);
    ck_assert_ptr_nonnull(m);
    ck_assert_str_eq(m->url, url);
    ck_assert_mem_eq(m->key.data, host_key, 32);
    protobuf_c_message_free_unpacked(&m->base, NULL);
}

static void ask_gateway(const char *url)
{
    Wavry__Bus__GatewayQuestion question = WAVRY__BUS__GATEWAY_QUESTION__INIT;
    size_t from = n_sent;
    deliver("reach", &question.base);
    assert_gateway(from, url);
}

START_TEST(the_gateway_is_remembered)
{
    struct client c;
    begin(&c);
    ask_gateway("");
    ck_assert_int_eq(request("gateway", ""), 0);
    ck_assert_str_eq(answer, "none");
    static const char *const bad[] = {
        "gw.example:443",       "https://gw.example", "https://:443",     "https://gw.example:443/x",
        "https://gw example:1", "ftp://a:1",          "https://a:123456", "https://::1:443",
        "https://[::1]",        "https://[::1:443",   "https://::1]:443", "https://[::1/]:443"};
    for (size_t i = 0; i < WV_ARRAY_SIZE(bad); i++)
        ck_assert_int_eq(request("gateway-set", bad[i]), -EINVAL);
    size_t from = n_sent;
    ck_assert_int_eq(request("gateway-set", "https://gw.example:443"), 0);
    assert_gateway(from, "https://gw.example:443");
    restart_identity();
    ask_gateway("https://gw.example:443");
    ck_assert_int_eq(request("gateway-set", "https://[2001:db8::1]:443"), 0);
    restart_identity();
    ask_gateway("https://[2001:db8::1]:443");
    ck_assert_int_eq(request("gateway-set", ""), 0);
    ask_gateway("");
    restart_identity();
    ask_gateway("");
}
END_TEST

static bool signs_for(const char *name, const uint8_t challenge[32])
{
    uint8_t text[128] = "RIFT 1 gateway", copy[32];
    size_t len = 15;
    Wavry__Bus__GatewayChallenge m = WAVRY__BUS__GATEWAY_CHALLENGE__INIT;
    memcpy(copy, challenge, 32);
    m.token = 5;
    m.name = (char *)name;
    m.challenge = (ProtobufCBinaryData){.len = 32, .data = copy};
    size_t from = n_sent;
    deliver("reach", &m.base);
    Wavry__Bus__GatewaySignature *s =
        last_sent(WV_TO_REACH, &wavry__bus__gateway_signature__descriptor, from);
    ck_assert_ptr_nonnull(s);
    ck_assert_uint_eq(s->token, 5);
    bool is_signed = s->signature.len == 64;
    ck_assert_int_eq(is_signed, !s->refused[0]);
    memcpy(text + len, name, strlen(name) + 1);
    len += strlen(name) + 1;
    memcpy(text + len, challenge, 32);
    if (is_signed)
        ck_assert_int_eq(crypto_sign_verify_detached(s->signature.data, text, len + 32, s->sign_key.data), 0);
    protobuf_c_message_free_unpacked(&s->base, NULL);
    return is_signed;
}

START_TEST(signs_for_its_gateway_only)
{
    static const uint8_t challenge[32] = {1, 2, 3};
    struct client c;
    char words[4][128], ask[260], text[64], exchange_text[64];
    uint8_t secret[32] = {7}, exchange[32], proof[32], key[32], sign_key[32];
    begin(&c);
    ck_assert(!signs_for("gw.example:443", challenge));
    ck_assert_int_eq(request("gateway-set", "https://gw.example:443"), 0);
    ck_assert(signs_for("gw.example:443", challenge));
    ck_assert(!signs_for("gw.example:444", challenge));
    ck_assert(!signs_for("", challenge));
    /* The administrator may have it sign for one that it is to be registered with. */
    sodium_bin2base64(text, sizeof text, challenge, 32, sodium_base64_VARIANT_URLSAFE_NO_PADDING);
    (void)crypto_scalarmult_base(exchange, secret);
    sodium_bin2base64(exchange_text, sizeof exchange_text, exchange, 32,
                      sodium_base64_VARIANT_URLSAFE_NO_PADDING);
    snprintf(ask, sizeof ask, "other.example:8443 %s %s", text, exchange_text);
    ck_assert_msg(request("gateway-sign", ask) == 0, "%s", answer);
    ck_assert_int_eq(sscanf(answer, "%127s %127s %127s %127s", words[0], words[1], words[2], words[3]), 4);
    ck_assert_uint_eq(strlen(words[2]), 86);
    ck_assert_int_eq(rift_public_key_parse(words[0], key), 0);
    ck_assert_int_eq(rift_sign_key_parse(words[1], sign_key), 0);
    ck_assert_int_eq(sodium_base642bin(proof, sizeof proof, words[3], strlen(words[3]), NULL, NULL, NULL,
                                       sodium_base64_VARIANT_URLSAFE_NO_PADDING),
                     0);
    /* What holds the exchange's secret sees that the host has that of its key, and has it for this gateway.
     */
    struct rift_prove_key what = {"other.example:8443", challenge, exchange, key, sign_key};
    ck_assert(rift_prove_key_is_right(&what, secret, proof));
    what.name = "another.example:8443";
    ck_assert(!rift_prove_key_is_right(&what, secret, proof));
    /* A key of small order would give what anybody can compute. */
    memset(exchange_text, 'A', 43);
    snprintf(ask, sizeof ask, "other.example:8443 %s %s", text, exchange_text);
    ck_assert_int_eq(request("gateway-sign", ask), -EINVAL);
    snprintf(ask, sizeof ask, "other.example:8443 %s", text);
    ck_assert_int_eq(request("gateway-sign", ask), -EINVAL);
    ck_assert_int_eq(request("gateway-sign", "other.example:8443 abc"), -EINVAL);
    ck_assert_int_eq(request("gateway-sign", text), -EINVAL);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("identity reach");
    TCase *tcase = tcase_create("reach");
    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_test(tcase, a_known_client_gets_an_answer);
    tcase_add_test(tcase, an_answer_is_given_again);
    tcase_add_test(tcase, strangers_and_forgeries_get_nothing);
    tcase_add_test(tcase, repeated_old_and_too_many_offers);
    tcase_add_test(tcase, a_lease_is_passed_on);
    tcase_add_test(tcase, the_gateway_is_remembered);
    tcase_add_test(tcase, signs_for_its_gateway_only);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
