/* What the client makes of what a gateway brings, and of one that brings nothing: how much of it at once,
 * whose answers and leases count, and when the name is looked for elsewhere. The gateway is a stand-in, the
 * host is played here, the client library is this file's. */
#include "client/find_private.h"
#include "lib/base/util.h"
#include "lib/mdns/find.h"
#include "proto/signal.pb-c.h"
#include "tests/unit/gateway_stand_in.h"
#include "tests/unit/suite.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <poll.h>
#include <sodium.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sysexits.h>

#define BASE64      sodium_base64_VARIANT_URLSAFE_NO_PADDING
#define PATIENCE_NS (30 * WV_NS_PER_S)
#define CHALLENGE   "{\"challenge\":\"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\"}"
#define LINES_MAX   128

/* ---- the client library, the local network and the resolver ---- */

static struct {
    unsigned answers, leases, stuns;
    size_t n_candidates;
    uint32_t priority; /* of the newest answer's first candidate */
    int lease_result;
    uint8_t relay[RIFT_ADDRESS_BYTES];
} library;

int wv_client_answer(struct wv_client *c, const struct rift_candidate *candidates, size_t n)
{
    library.answers++;
    library.n_candidates = n;
    library.priority = n ? candidates[0].priority : 0;
    return 0;
}

int wv_client_lease(struct wv_client *c, const uint8_t *lease, const uint8_t relay[RIFT_ADDRESS_BYTES])
{
    memcpy(library.relay, relay, sizeof library.relay);
    library.leases += library.lease_result == 0;
    return library.lease_result;
}

int wv_client_set_stun(struct wv_client *c, const uint8_t (*addresses)[RIFT_ADDRESS_BYTES], size_t n)
{
    library.stuns++;
    return 0;
}

void wv_client_get_stats(struct wv_client *c, struct wv_client_stats *ret)
{
    *ret = (struct wv_client_stats){0};
}

int wv_find(const char *name, const char *key, unsigned wait_ms, struct wv_found ret[WV_FOUND_MAX],
            size_t *ret_n)
{
    return WV_FIND_NO_DAEMON;
}

static atomic_bool resolver_knows;

int __real_getaddrinfo(const char *name, const char *service, const struct addrinfo *hints,
                       struct addrinfo **ret);
int __wrap_getaddrinfo(const char *name, const char *service, const struct addrinfo *hints,
                       struct addrinfo **ret);

int __wrap_getaddrinfo(const char *name, const char *service, const struct addrinfo *hints,
                       struct addrinfo **ret)
{
    bool ours = !strcmp(name, "studio");
    if (ours && (hints->ai_flags & AI_NUMERICHOST || !atomic_load(&resolver_knows)))
        return EAI_NONAME;
    return __real_getaddrinfo(ours ? "127.0.0.1" : name, service, hints, ret);
}

/* ---- what is said ---- */

static struct {
    char lines[LINES_MAX][400];
    uint64_t at[LINES_MAX];
    size_t n;
} said;

void app_say(const char *text)
{
    ck_assert_uint_lt(said.n, LINES_MAX);
    said.at[said.n] = wv_now_ns();
    snprintf(said.lines[said.n++], sizeof said.lines[0], "%s", text);
}

static bool has_said(const char *words)
{
    for (size_t i = 0; i < said.n; i++)
        if (strstr(said.lines[i], words))
            return true;
    return false;
}

/* ---- the gateway, and the host behind it ---- */

enum sealing { SEALED_RIGHT, SEALED_TO_ANOTHER, SEALED_BY_ANOTHER };

static struct {
    void (*socket)(struct stand_in_peer *peer); /* after the welcome; NULL: the host answers as below */
    const char *refusal;                        /* to the challenge; NULL: none */
    unsigned status;                            /* that it has */
    struct rift_identity host, other;
    uint8_t client_key[32];
    enum sealing sealing;
    size_t n_candidates;
    bool replays;          /* the answer to the offer before comes first */
    char before[16384];    /* that answer, as it went */
    uint8_t relay_key[32]; /* the host's */
    bool other_lease;      /* leases name other keys */
    const char *relay_address;
    unsigned long long expires;
    atomic_uint offers, leases_asked;
    atomic_bool written; /* a flood is over, and was taken */
} gateway;

/* The answer to offer ID, as a frame; PRIORITY marks it. */
static void write_answer(const ProtobufCBinaryData *id, uint32_t priority, char *ret, size_t capacity)
{
    static uint8_t address[RIFT_ADDRESS_BYTES] = {[10] = 0xff, 0xff, 192, 0, 2, 1, 18, 0xd5};
    static Wavry__Signal__Candidate room[300], *list[300];
    static uint8_t plain[RIFT_OFFER_MAX_BYTES], sealed[RIFT_OFFER_MAX_BYTES];
    char text[2 * RIFT_OFFER_MAX_BYTES], from[RIFT_PUBLIC_KEY_TEXT_BYTES], id_text[40];
    Wavry__Signal__Answer answer = WAVRY__SIGNAL__ANSWER__INIT;
    Wavry__Signal__Signal signal = WAVRY__SIGNAL__SIGNAL__INIT;
    const struct rift_identity *by = gateway.sealing == SEALED_BY_ANOTHER ? &gateway.other : &gateway.host;
    struct rift_offer_end end = {true, by->secret, by->public,
                                 gateway.sealing == SEALED_TO_ANOTHER ? gateway.other.public
                                                                      : gateway.client_key};
    size_t len;
    answer.id = *id;
    answer.candidates = list;
    answer.n_candidates = gateway.n_candidates;
    answer.relay_key = (ProtobufCBinaryData){.len = 32, .data = gateway.relay_key};
    for (size_t i = 0; i < gateway.n_candidates; i++) {
        wavry__signal__candidate__init(&room[i]);
        room[i].address = (ProtobufCBinaryData){.len = sizeof address, .data = address};
        room[i].kind = WAVRY__SIGNAL__CANDIDATE__KIND__LOCAL;
        room[i].priority = priority;
        list[i] = &room[i];
    }
    signal.kind_case = WAVRY__SIGNAL__SIGNAL__KIND_ANSWER;
    signal.answer = &answer;
    size_t plain_len = wavry__signal__signal__pack(&signal, plain);
    ck_assert_int_eq(rift_offer_seal(&end, NULL, plain, plain_len, sealed, sizeof sealed, &len), 0);
    sodium_bin2base64(text, sizeof text, sealed, len, BASE64);
    rift_public_key_format(gateway.host.public, from);
    wv_hex_encode(id->data, id->len, id_text);
    snprintf(ret, capacity, "{\"type\":\"signal\",\"from\":\"%s\",\"id\":\"%s\",\"sealed\":\"%s\"}", from,
             id_text, text);
}

static void take_signal(struct stand_in_peer *peer, const char *frame)
{
    uint8_t sealed[RIFT_OFFER_MAX_BYTES], plain[RIFT_OFFER_MAX_BYTES];
    struct rift_offer_end end = {true, gateway.host.secret, gateway.host.public, gateway.client_key};
    static char text[16384];
    size_t sealed_len, len;
    const char *at = strstr(frame, "\"sealed\":\"");
    ck_assert_ptr_nonnull(at);
    at += strlen("\"sealed\":\"");
    ck_assert_int_eq(
        sodium_base642bin(sealed, sizeof sealed, at, strcspn(at, "\""), NULL, &sealed_len, NULL, BASE64), 0);
    ck_assert_int_eq(rift_offer_open(&end, sealed, sealed_len, plain, sizeof plain, &len), 0);
    Wavry__Signal__Signal *signal = wavry__signal__signal__unpack(NULL, len, plain);
    ck_assert_ptr_nonnull(signal);
    if (signal->kind_case == WAVRY__SIGNAL__SIGNAL__KIND_OFFER) {
        unsigned n = atomic_fetch_add(&gateway.offers, 1) + 1;
        if (gateway.replays && gateway.before[0])
            (void)stand_in_frame(peer, gateway.before);
        write_answer(&signal->offer->id, n, text, sizeof text);
        snprintf(gateway.before, sizeof gateway.before, "%s", text);
        (void)stand_in_frame(peer, text);
        (void)stand_in_frame(peer,
                             "{\"type\":\"error\",\"error\":\"all_said\",\"message\":\"All is said.\"}");
    }
    wavry__signal__signal__free_unpacked(signal, NULL);
}

static void answer_lease(struct stand_in_peer *peer, const char *body)
{
    struct rift_lease lease = {.rate_kbps = 1000, .not_before_s = 1, .expires_s = 4000000000u};
    uint8_t bytes[RIFT_LEASE_BYTES], public[32], secret[64];
    char text[RIFT_LEASE_TEXT_BYTES], answer[1024], key[RIFT_SIGN_KEY_TEXT_BYTES] = "";
    const char *at = strstr(body, "\"client_relay_key\":\"");
    ck_assert_ptr_nonnull(at);
    at += strlen("\"client_relay_key\":\"");
    snprintf(key, sizeof key, "%.*s", (int)strcspn(at, "\""), at);
    ck_assert_int_eq(rift_sign_key_parse(key, lease.peers[0]), 0);
    memcpy(lease.peers[1], gateway.relay_key, 32);
    if (gateway.other_lease)
        lease.peers[1][0] ^= 1;
    crypto_sign_keypair(public, secret);
    ck_assert_int_eq(rift_lease_sign(&lease, secret, bytes), 0);
    rift_lease_format(bytes, text);
    snprintf(answer, sizeof answer, "{\"lease\":\"%s\",\"expires\":%llu,\"relay\":{\"address\":\"%s\"}}",
             text, gateway.expires, gateway.relay_address);
    atomic_fetch_add(&gateway.leases_asked, 1);
    stand_in_answer(peer, 200, answer);
}

static void talk(struct stand_in_peer *peer, void *userdata, const char *head, const char *body)
{
    static char frame[16384];
    if (strstr(head, "/v1/challenge") && gateway.refusal) {
        stand_in_answer(peer, gateway.status, gateway.refusal);
    } else if (strstr(head, "/v1/challenge")) {
        stand_in_answer(peer, 200, CHALLENGE);
    } else if (strstr(head, "/v1/session")) {
        stand_in_answer(peer, 200, "{\"token\":\"t\"}");
    } else if (strstr(head, "/v1/hosts")) {
        stand_in_answer(peer, 200, "{\"hosts\":[]}");
    } else if (strstr(head, "/v1/leases")) {
        answer_lease(peer, body);
    } else if (strstr(head, "/v1/signal")) {
        stand_in_upgrade(peer, head);
        if (!stand_in_read_frame(peer, frame, sizeof frame)) /* hello */
            return;
        (void)stand_in_frame(peer, "{\"type\":\"welcome\",\"stun\":[]}");
        if (gateway.socket)
            gateway.socket(peer);
        while (stand_in_read_frame(peer, frame, sizeof frame))
            take_signal(peer, frame);
    }
}

/* ---- the program around ---- */

static char folder[64];
static struct stand_in *stand_in;
static struct app app;
static bool (*until)(void);
static uint64_t deadline;

static const char *path_of(const char *name)
{
    static char path[128];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return path;
}

static int on_check(void *userdata, uint64_t now)
{
    if (until() || now >= deadline)
        wv_loop_quit(app.loop, 0);
    return 0;
}

/* Turns the loop until CONDITION, which must come about. */
static void run_until(bool (*condition)(void))
{
    until = condition;
    deadline = wv_now_ns() + PATIENCE_NS;
    ck_assert_int_eq(wv_loop_run(app.loop), 0);
    ck_assert(condition());
}

static void set_up(void)
{
    static char *arguments[] = {"wavry-client", "--headless", "studio", NULL};
    struct wv_gateway_account account = {.account = "alice", .token = "t", .expires = 4000000000u};
    char url[64], message[512] = "";
    strcpy(folder, "/tmp/test_find.XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(folder));
    ck_assert_int_eq(setenv("XDG_CONFIG_HOME", folder, 1), 0);
    memset(&gateway, 0, sizeof gateway);
    memset(&library, 0, sizeof library);
    memset(&said, 0, sizeof said);
    memset(&app, 0, sizeof app);
    gateway.n_candidates = 1;
    gateway.status = 404;
    gateway.relay_address = "192.0.2.7:4821";
    gateway.expires = 4000000000u;
    rift_identity_generate(&gateway.host);
    rift_identity_generate(&gateway.other);
    rift_identity_generate(&app.identity);
    memcpy(gateway.client_key, app.identity.public, 32);
    memset(gateway.relay_key, 7, 32);
    atomic_store(&resolver_knows, false);
    stand_in = stand_in_new(false, NULL, talk, NULL);
    snprintf(url, sizeof url, "http://127.0.0.1:%u", stand_in_port(stand_in));
    ck_assert_int_eq(wv_gateway_url_parse(url, &account.url), 0);
    ck_assert_int_eq(
        wv_gateway_account_save(path_of("wavry/gateway.conf"), &account, message, sizeof message), 0);
    ck_assert_int_eq(wv_options_read(&app.options, 3, arguments), 0);
    memcpy(app.host_key, gateway.host.public, 32);
    app.have_host_key = true;
    ck_assert_int_eq(wv_loop_new(&app.loop), 0);
    ck_assert_int_eq(wv_loop_add_timer(app.loop, on_check, NULL, &app.second), 0);
    wv_loop_timer_every(app.second, 2 * WV_NS_PER_MS);
}

static void tear_down(void)
{
    app_find_stop(&app);
    app.finder = app_finder_free(app.finder);
    wv_loop_free(app.loop);
    wv_options_fini(&app.options);
    stand_in = stand_in_free(stand_in);
    (void)unlink(path_of("wavry/gateway.conf"));
    (void)rmdir(path_of("wavry"));
    ck_assert_int_eq(rmdir(folder), 0);
}

/* A client library stands behind the pointer nowhere here. */
static struct wv_client *no_client(void)
{
    static char nothing;
    return (struct wv_client *)(void *)&nothing;
}

static void find(void)
{
    ck_assert_int_eq(app_find(&app), 0);
    ck_assert_ptr_nonnull(app.finder);
}

/* ---- elsewhere ---- */

static bool goes_elsewhere(void)
{
    static bool does;
    does = does || app_find_elsewhere(&app);
    return does;
}

static bool was_refused(void)
{
    return has_said("does not know this machine");
}

#define REFUSAL "{\"error\":\"unknown\",\"message\":\"It does not know this machine.\"}"

START_TEST(a_gateway_that_can_t_help_and_a_resolver_that_can)
{
    gateway.refusal = REFUSAL;
    atomic_store(&resolver_knows, true);
    find();
    ck_assert_int_eq(app_find_start(&app, no_client()), 0);
    run_until(goes_elsewhere);
    ck_assert_uint_eq(said.n, 2);
    ck_assert_str_eq(said.lines[0], "It does not know this machine.");
    ck_assert_str_eq(said.lines[1], "Trying the address that the resolver has for studio.");
    ck_assert(app_find_has_said(&app));
    ck_assert_str_eq(app.reason_text, "It does not know this machine.");
}
END_TEST

START_TEST(nobody_knows_the_name)
{
    gateway.refusal = REFUSAL;
    find();
    ck_assert_int_eq(app_find_start(&app, no_client()), 0);
    run_until(was_refused);
    for (int i = 0; i < 100; i++, poll(NULL, 0, 1))
        ck_assert(!app_find_elsewhere(&app));
}
END_TEST

/* One that was connected goes on by the way it came. */
START_TEST(a_session_is_not_given_up_for_another_address)
{
    gateway.refusal = REFUSAL;
    atomic_store(&resolver_knows, true);
    find();
    ck_assert_int_eq(app_find_start(&app, no_client()), 0);
    run_until(goes_elsewhere);
    app.connected_once = true;
    ck_assert(!app_find_elsewhere(&app));
}
END_TEST

static bool is_welcome(void)
{
    return library.stuns > 0;
}

static bool resolver_is_done(void)
{
    return resolver_state(app.finder->resolver) == RESOLVER_KNOWS;
}

START_TEST(a_gateway_that_helps_comes_first)
{
    atomic_store(&resolver_knows, true);
    find();
    ck_assert_int_eq(app_find_start(&app, no_client()), 0);
    run_until(is_welcome);
    run_until(resolver_is_done);
    ck_assert(!app_find_elsewhere(&app));
    ck_assert_uint_eq(said.n, 0);
}
END_TEST

/* ---- statuses ---- */

static const struct {
    const char *what, *challenge; /* what is said to the challenge */
    bool resolves, is_there;
    int status;
    const char *words; /* NULL: nothing */
} ends[] = {
    {"nobody knows the name", NULL, false, true, EX_NOHOST, NULL},
    {"the gateway refuses", REFUSAL, false, true, EX_NOPERM, "It does not know this machine."},
    {"what is there is none", "<html>", false, true, EX_PROTOCOL, "is no gateway of Wavry"},
    {"it makes no sense", "{\"challenge\":1}", false, true, EX_PROTOCOL, "is no gateway of Wavry"},
    {"no gateway is there", NULL, false, false, EX_UNAVAILABLE, "does not answer"},
    {"the resolver has the name", "<html>", true, true, 0, NULL},
};

/* A host whose key is not known yet: everybody is asked, and the program ends with what came of it. */
START_TEST(what_the_program_ends_with)
{
    gateway.refusal = ends[_i].challenge;
    gateway.status = ends[_i].status == EX_NOPERM ? 404 : 200;
    atomic_store(&resolver_knows, ends[_i].resolves);
    app.have_host_key = false;
    if (!ends[_i].is_there)
        stand_in = stand_in_free(stand_in);
    int r = app_find(&app);
    ck_assert_msg(r == ends[_i].status, "%s: %d", ends[_i].what, r);
    if (ends[_i].words)
        ck_assert_msg(has_said(ends[_i].words), "%s: %s", ends[_i].what, said.lines[0]);
}
END_TEST

/* ---- a flood ---- */

#define FLOOD 200

static void say_much(struct stand_in_peer *peer)
{
    char text[100];
    for (int i = 0; i < FLOOD; i++) {
        snprintf(text, sizeof text, "{\"type\":\"error\",\"error\":\"e%d\",\"message\":\"Noise %d.\"}", i, i);
        (void)stand_in_frame(peer, text);
    }
    (void)stand_in_any_frame(peer, 0x89, 4, "done", 4);
    atomic_store(&gateway.written, stand_in_hear(peer)); /* the answer to that comes after all was taken */
    stand_in_wait(peer, 3600000);
}

static bool all_noise(void)
{
    return said.n >= 24;
}

/* Eight at once, 20 ms apart, however much there is: the picture has its turns. */
START_TEST(a_flood_has_its_turns_only)
{
    gateway.socket = say_much;
    find();
    for (uint64_t end = wv_now_ns() + PATIENCE_NS; !atomic_load(&gateway.written) && wv_now_ns() < end;)
        poll(NULL, 0, 1);
    ck_assert(atomic_load(&gateway.written));
    uint64_t before = wv_now_ns();
    ck_assert_int_eq(app_find_start(&app, no_client()), 0);
    ck_assert_uint_eq(library.stuns, 1);
    ck_assert_uint_eq(said.n, 7); /* and the welcome */
    run_until(all_noise);
    for (size_t i = 0; i < said.n; i++)
        ck_assert_uint_ge(said.at[i] - before, (i + 1) / 8 * 20 * WV_NS_PER_MS);
}
END_TEST

/* ---- answers and leases ---- */

static void make_offer(void)
{
    struct wv_client_offer offer = {.n_candidates = 0};
    memset(offer.secret, 3, sizeof offer.secret);
    randombytes_buf(offer.relay_key, sizeof offer.relay_key);
    ck_assert_int_eq(app_ways(&app)->offer(app_ways(&app)->userdata, &offer), 0);
}

static void begin(void)
{
    find();
    ck_assert_int_eq(app_find_start(&app, no_client()), 0);
    run_until(is_welcome);
}

static bool all_is_said(void)
{
    return has_said("All is said.");
}

static bool has_lease(void)
{
    return library.leases > 0;
}

static bool has_two_answers(void)
{
    return library.answers >= 2;
}

START_TEST(an_answer_and_a_lease)
{
    begin();
    make_offer();
    run_until(has_lease);
    ck_assert_uint_eq(library.answers, 1);
    ck_assert_uint_eq(library.n_candidates, 1);
    ck_assert_uint_eq(library.relay[15], 7);
    ck_assert(!has_said("relay"));
}
END_TEST

START_TEST(an_answer_that_is_not_ours)
{
    gateway.sealing = _i ? SEALED_TO_ANOTHER : SEALED_BY_ANOTHER;
    begin();
    make_offer();
    run_until(all_is_said);
    ck_assert_uint_eq(library.answers, 0);
    ck_assert_uint_eq(atomic_load(&gateway.leases_asked), 0);
}
END_TEST

/* The answer to the offer before, said again after a new one, changes nothing. */
START_TEST(an_answer_that_was_given_before)
{
    gateway.replays = true;
    begin();
    make_offer();
    run_until(has_lease);
    ck_assert_uint_eq(library.priority, 1);
    make_offer();
    run_until(has_two_answers);
    ck_assert_uint_eq(library.answers, 2);
    ck_assert_uint_eq(library.priority, 2);
}
END_TEST

START_TEST(hundreds_of_candidates)
{
    gateway.n_candidates = 200;
    begin();
    make_offer();
    run_until(all_is_said);
    ck_assert_uint_eq(library.answers, 1);
    ck_assert_uint_eq(library.n_candidates, RIFT_PUNCH_CANDIDATES);
}
END_TEST

static bool relay_is_refused(void)
{
    return has_said("named a relay that can't be used; only a direct way is left. Tell its operator.");
}

/* For other keys than ours and the host's; for a relay where none can be (the library says so). */
START_TEST(a_lease_that_is_of_no_use)
{
    gateway.other_lease = _i == 0;
    library.lease_result = _i ? -EINVAL : 0;
    begin();
    make_offer();
    run_until(relay_is_refused);
    ck_assert_uint_eq(library.leases, 0);
    ck_assert_str_eq(app.finder->lease, ""); /* nothing to renew */
}
END_TEST

static uint64_t end_of_waiting;

static bool time_is_over(void)
{
    return wv_now_ns() >= end_of_waiting;
}

/* An end that is no time, or was long ago: the gateway is not asked again at once, and again. */
START_TEST(a_lease_with_an_end_that_is_none)
{
    static const unsigned long long times[] = {9223372036854775807ull, 0, 1, 36893488147ull};
    gateway.expires = times[_i];
    begin();
    make_offer();
    run_until(has_lease);
    end_of_waiting = wv_now_ns() + 200 * WV_NS_PER_MS;
    run_until(time_is_over);
    ck_assert_uint_eq(atomic_load(&gateway.leases_asked), 1);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("client find");
    TCase *tcase = tcase_create("find");
    if (rift_crypto_init() < 0)
        return EXIT_FAILURE;
    tcase_set_timeout(tcase, 120);
    tcase_add_checked_fixture(tcase, set_up, tear_down);
    tcase_add_test(tcase, a_gateway_that_can_t_help_and_a_resolver_that_can);
    tcase_add_test(tcase, nobody_knows_the_name);
    tcase_add_test(tcase, a_session_is_not_given_up_for_another_address);
    tcase_add_test(tcase, a_gateway_that_helps_comes_first);
    tcase_add_loop_test(tcase, what_the_program_ends_with, 0, (int)WV_ARRAY_SIZE(ends));
    tcase_add_test(tcase, a_flood_has_its_turns_only);
    tcase_add_test(tcase, an_answer_and_a_lease);
    tcase_add_loop_test(tcase, an_answer_that_is_not_ours, 0, 2);
    tcase_add_test(tcase, an_answer_that_was_given_before);
    tcase_add_test(tcase, hundreds_of_candidates);
    tcase_add_loop_test(tcase, a_lease_that_is_of_no_use, 0, 2);
    tcase_add_loop_test(tcase, a_lease_with_an_end_that_is_none, 0, 4);
    suite_add_tcase(suite, tcase);
    return wv_run_suite(suite);
}
