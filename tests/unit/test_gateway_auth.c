/* What proves somebody to a gateway: passwords, codes (with the vectors of RFC 6238), recovery codes,
 * challenges; the lanes that check them; and the configuration. */
#include "lib/base/util.h"
#include "rift/crypto/prove.h"
#include "services/gateway/api.h"
#include "services/gateway/challenge.h"
#include "services/gateway/jobs.h"
#include "services/gateway/password.h"
#include "services/gateway/settings.h"

#include <check.h>
#include <errno.h>
#include <liboath/oath.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

START_TEST(passwords)
{
    char hash[WV_STORE_PASSWORD_BYTES], other[WV_STORE_PASSWORD_BYTES];
    ck_assert_int_eq(wv_password_hash("correct horse", hash), 0);
    ck_assert_int_eq(wv_password_hash("correct horse", other), 0);
    ck_assert_str_ne(hash, other);
    ck_assert_int_eq(strncmp(hash, "$argon2id$", 10), 0);
    ck_assert(wv_password_check("correct horse", hash));
    ck_assert(!wv_password_check("correct hors", hash));
    ck_assert(!wv_password_check("", hash));
    ck_assert(!wv_password_check("anything", "")); /* nobody's */
    ck_assert(!wv_password_check("anything", "no hash at all"));
}
END_TEST

/* Of the processor: what else the machine does does not count. */
static double seconds_of(const char *hash)
{
    clock_t begun = clock();
    for (int i = 0; i < 3; i++)
        (void)wv_password_check("wrong", hash);
    return (double)(clock() - begun) / CLOCKS_PER_SEC;
}

/* A hash that can't be parsed returns at once, some thousand times faster: that must not be told apart. */
START_TEST(nobody_costs_as_much)
{
    char hash[WV_STORE_PASSWORD_BYTES];
    ck_assert_int_eq(wv_password_hash("correct horse", hash), 0);
    double somebody = seconds_of(hash), nobody = seconds_of("");
    ck_assert_msg(nobody > somebody / 20, "%f and %f", nobody, somebody);
}
END_TEST

START_TEST(totp)
{
    static const struct {
        int64_t at;
        const char *code; /* the last six of the RFC's eight digits */
    } vectors[] = {{59, "287082"},         {1111111109, "081804"}, {1111111111, "050471"},
                   {1234567890, "005924"}, {2000000000, "279037"}, {20000000000, "353130"}};
    uint8_t secret[WV_STORE_SECRET_BYTES];
    int64_t step;
    memcpy(secret, "12345678901234567890", sizeof secret);
    for (size_t i = 0; i < WV_ARRAY_SIZE(vectors); i++) {
        int64_t at = vectors[i].at;
        ck_assert_int_eq(wv_totp_check(secret, vectors[i].code, at, &step), WV_TOTP_RIGHT);
        ck_assert_int_eq(step, at / 30);
        ck_assert_int_eq(wv_totp_check(secret, vectors[i].code, at + 30, &step), WV_TOTP_RIGHT);
        ck_assert_int_eq(step, at / 30);
        ck_assert_int_eq(wv_totp_check(secret, vectors[i].code, at + 3600, &step), WV_TOTP_OTHER_TIME);
        ck_assert_int_eq(step, -120);
        ck_assert_int_eq(wv_totp_check(secret, vectors[i].code, at + 86400, &step), WV_TOTP_WRONG);
    }
    static const char *const bad[] = {"", "28708", "2870822", "28708a", " 87082"};
    for (size_t i = 0; i < WV_ARRAY_SIZE(bad); i++)
        ck_assert_int_eq(wv_totp_check(secret, bad[i], 59, &step), WV_TOTP_WRONG);
    ck_assert_int_eq(wv_totp_check(secret, "287082", -9000, &step), WV_TOTP_WRONG);
}
END_TEST

START_TEST(totp_for_an_authenticator)
{
    uint8_t secret[WV_STORE_SECRET_BYTES], back[40];
    char uri[WV_TOTP_URI_BYTES], text[33], *decoded = NULL, name[WV_STORE_NAME_BYTES];
    size_t len;
    randombytes_buf(secret, sizeof secret);
    wv_totp_uri(secret, "gw.example.org:443", "a&b=c?d/e", uri, text);
    ck_assert_int_eq(strncmp(uri, "otpauth://totp/Wavry%20gw%2Eexample%2Eorg:a%26b%3Dc%3Fd%2Fe?secret=", 67),
                     0);
    ck_assert_int_eq(oath_base32_decode(text, strlen(text), &decoded, &len), OATH_OK);
    ck_assert_uint_eq(len, sizeof secret);
    memcpy(back, decoded, len);
    ck_assert_mem_eq(back, secret, sizeof secret);
    free(decoded);
    memset(name, 0xc3, sizeof name - 1); /* the longest that there can be */
    name[sizeof name - 1] = 0;
    wv_totp_uri(secret, "a-very-long-name-of-a-gateway.with-many-parts.and-more-of-them.example.org:443",
                name, uri, text);
    ck_assert_uint_lt(strlen(uri), sizeof uri);
    ck_assert_ptr_nonnull(strstr(uri, text));
}
END_TEST

START_TEST(recovery_codes)
{
    char text[WV_RECOVERY_TEXT_BYTES], typed[64];
    uint8_t made[32], got[32];
    wv_recovery_make("account", text, made);
    ck_assert_uint_eq(strlen(text), 19);
    ck_assert_int_eq(wv_recovery_hash("account", text, got), 0);
    ck_assert_mem_eq(made, got, 32);
    snprintf(typed, sizeof typed, " %.4s%.4s %s ", text, text + 5, text + 10);
    for (char *c = typed; *c; c++)
        *c = *c >= 'A' && *c <= 'Z' ? (char)(*c + 32) : *c;
    ck_assert_int_eq(wv_recovery_hash("account", typed, got), 0);
    ck_assert_mem_eq(made, got, 32);
    ck_assert_int_eq(wv_recovery_hash("another", text, got), 0);
    ck_assert_mem_ne(made, got, 32);
    static const char *const bad[] = {"", "AAAA", "AAAA-AAAA-AAAA-AAAA-A", "AAAA-AAAA-AAAA-AAA1",
                                      "AAAA_AAAA_AAAA_AAAA"};
    for (size_t i = 0; i < WV_ARRAY_SIZE(bad); i++)
        ck_assert_int_eq(wv_recovery_hash("account", bad[i], got), -EINVAL);
}
END_TEST

START_TEST(challenges)
{
    uint8_t secret[32] = {1}, other[32] = {2}, key[32] = {3}, challenge[WV_CHALLENGE_BYTES],
            again[WV_CHALLENGE_BYTES];
    const int64_t now = 1700000000;
    wv_challenge_make(secret, key, WV_CHALLENGE_ANY, now, challenge);
    wv_challenge_make(secret, key, WV_CHALLENGE_ANY, now, again);
    ck_assert_mem_ne(challenge, again, sizeof again);
    ck_assert_int_eq(wv_challenge_check(secret, key, challenge, now), WV_CHALLENGE_FRESH);
    ck_assert_int_eq(wv_challenge_check(secret, key, challenge, now + 60), WV_CHALLENGE_FRESH);
    ck_assert_int_eq(wv_challenge_check(secret, key, challenge, now + 61), WV_CHALLENGE_OLD);
    ck_assert_int_eq(wv_challenge_check(secret, key, challenge, now - 5), WV_CHALLENGE_FRESH);
    ck_assert_int_eq(wv_challenge_check(secret, key, challenge, now - 3600), WV_CHALLENGE_EARLY);
    ck_assert_int_eq(wv_challenge_check(other, key, challenge, now), WV_CHALLENGE_FORGED);
    ck_assert_int_eq(wv_challenge_check(secret, other, challenge, now), WV_CHALLENGE_FORGED);
    for (size_t i = 0; i < sizeof challenge; i++) {
        challenge[i] ^= 1;
        ck_assert_int_eq(wv_challenge_check(secret, key, challenge, now), WV_CHALLENGE_FORGED);
        challenge[i] ^= 1;
    }
}
END_TEST

/* Both sides come to the same proof, and every part of what it says counts. */
START_TEST(keys_are_proven)
{
    uint8_t gateway[32] = {1}, other[32] = {2}, challenge[32] = {3}, exchange_secret[32], exchange[32];
    uint8_t secret[32], key[32], sign_key[32] = {5}, proof[32], changed[32];
    randombytes_buf(secret, sizeof secret);
    ck_assert_int_eq(crypto_scalarmult_base(key, secret), 0);
    wv_challenge_exchange(gateway, challenge, exchange_secret, exchange);
    const struct rift_prove_key what = {"gw:443", challenge, exchange, key, sign_key};
    ck_assert_int_eq(rift_prove_key(&what, secret, proof), 0);
    ck_assert(rift_prove_key_is_right(&what, exchange_secret, proof));
    struct rift_prove_key bad = what;
    bad.name = "gw:444";
    ck_assert(!rift_prove_key_is_right(&bad, exchange_secret, proof));
    const uint8_t **parts[] = {&bad.challenge, &bad.exchange, &bad.sign_key, &bad.key};
    for (size_t i = 0; i < WV_ARRAY_SIZE(parts); i++) {
        bad = what;
        memcpy(changed, *parts[i], sizeof changed);
        changed[4] ^= 1;
        *parts[i] = changed;
        ck_assert_msg(!rift_prove_key_is_right(&bad, exchange_secret, proof), "part %zu", i);
    }
    /* Who has only the public key, and the gateway's challenge. */
    ck_assert_int_eq(rift_prove_key(&what, other, changed), 0);
    ck_assert(!rift_prove_key_is_right(&what, exchange_secret, changed));
    /* Another challenge, another key; the same on every gateway of the database. */
    wv_challenge_exchange(other, challenge, changed, proof);
    ck_assert_mem_ne(proof, exchange, sizeof exchange);
    wv_challenge_exchange(gateway, challenge, changed, proof);
    ck_assert_mem_eq(proof, exchange, sizeof exchange);
    /* Keys of small order, and names that are none. */
    static const uint8_t zero[32];
    bad = what;
    bad.exchange = zero;
    ck_assert_int_eq(rift_prove_key(&bad, secret, proof), -EINVAL);
    bad = what;
    bad.key = zero;
    ck_assert(!rift_prove_key_is_right(&bad, exchange_secret, proof));
    bad = what;
    bad.name = "";
    ck_assert_int_eq(rift_prove_key(&bad, secret, proof), -EINVAL);
}
END_TEST

START_TEST(signed_challenges)
{
    static const char message[] = "RIFT 1 gateway\0gw:443"; /* and its NUL */
    uint8_t public[32], secret[64], challenge[32], text[sizeof message + 32], signature[64];
    crypto_sign_keypair(public, secret);
    randombytes_buf(challenge, sizeof challenge);
    memcpy(text, message, sizeof message);
    memcpy(text + sizeof message, challenge, 32);
    crypto_sign_detached(signature, NULL, text, sizeof text, secret);
    ck_assert(wv_challenge_signed(public, "gw:443", challenge, signature));
    ck_assert(!wv_challenge_signed(public, "gw:444", challenge, signature));
    challenge[0] ^= 1;
    ck_assert(!wv_challenge_signed(public, "gw:443", challenge, signature));
}
END_TEST

/* What a request shows of a machine: the challenge is this gateway's, of now and for this key, and signed for
 * one of its names. */
static int show(struct wv_request *q, const uint8_t *challenge, const uint8_t *signature, const uint8_t *key,
                const uint8_t *sign_key, enum wv_refusal *ret_why)
{
    uint8_t taken[32];
    q->status = 0;
    q->reply = NULL;
    q->body = json_object();
    wv_json_set_bytes(q->body, "challenge", challenge, 32);
    wv_json_set_bytes(q->body, "signature", signature, 64);
    bool right = wv_api_proof(q, key, sign_key, taken);
    ck_assert(right == (q->status == 0));
    if (right)
        ck_assert_mem_eq(taken, challenge, sizeof taken);
    *ret_why = q->why;
    json_decref(q->body);
    json_decref(q->reply);
    return q->status;
}

START_TEST(proofs_of_requests)
{
    static struct wv_gateway g = {.secret = {1}};
    struct wv_request q = {.gateway = &g, .now_s = 1700000000};
    uint8_t key[32] = {3}, other[32] = {4}, sign_key[32], secret[64], challenge[32], signature[64], text[256];
    enum wv_refusal why;
    char *message = NULL;
    ck_assert_int_eq(wv_gateway_parse_names("gw.test:1 gw.test:2", &g.settings, &message), 0);
    crypto_sign_keypair(sign_key, secret);
    wv_challenge_make(g.secret, key, WV_CHALLENGE_ANY, q.now_s, challenge);
    for (int name = 1; name <= 3; name++) {
        size_t n = (size_t)snprintf((char *)text, sizeof text, "RIFT 1 gateway%cgw.test:%d", 0, name) + 1;
        memcpy(text + n, challenge, sizeof challenge);
        crypto_sign_detached(signature, NULL, text, n + sizeof challenge, secret);
        if (name == 3) {
            ck_assert_int_eq(show(&q, challenge, signature, key, sign_key, &why), 401);
            ck_assert_int_eq(why, WV_REFUSE_PROOF);
            continue;
        }
        ck_assert_int_eq(show(&q, challenge, signature, key, sign_key, &why), 0);
        ck_assert_int_ne(show(&q, challenge, signature, other, sign_key, &why), 0);
        ck_assert_int_eq(why, WV_REFUSE_PROOF);
        ck_assert_int_ne(show(&q, challenge, signature, key, other, &why), 0);
        ck_assert_int_eq(why, WV_REFUSE_PROOF);
        q.now_s += WV_CHALLENGE_LIFE_S;
        ck_assert_int_eq(show(&q, challenge, signature, key, sign_key, &why), 0);
        q.now_s++;
        ck_assert_int_ne(show(&q, challenge, signature, key, sign_key, &why), 0);
        ck_assert_int_eq(why, WV_REFUSE_CHALLENGE_OLD);
        q.now_s -= WV_CHALLENGE_LIFE_S + 1 + 5;
        ck_assert_int_eq(show(&q, challenge, signature, key, sign_key, &why), 0);
        q.now_s--; /* of a gateway whose clock is ahead */
        ck_assert_int_ne(show(&q, challenge, signature, key, sign_key, &why), 0);
        ck_assert_int_eq(why, WV_REFUSE_CLOCK);
        q.now_s += 6;
    }
}
END_TEST

/* ---- lanes ---- */

struct hold {
    pthread_mutex_t lock;
    size_t worked, done;
};

static void work(void *userdata, struct wv_store *store)
{
    struct hold *h = userdata;
    pthread_mutex_lock(&h->lock);
    h->worked++;
    pthread_mutex_unlock(&h->lock);
}

static void done(void *userdata)
{
    ((struct hold *)userdata)->done++;
}

static void wake(void *userdata)
{
}

START_TEST(a_full_lane_says_so_and_no_job_is_lost)
{
    struct hold h = {.lock = PTHREAD_MUTEX_INITIALIZER};
    struct wv_jobs *jobs;
    size_t taken = 0;
    ck_assert_int_eq(wv_jobs_new(&jobs, wake, NULL), 0);
    ck_assert_int_eq(wv_jobs_serve(jobs, WV_LANE_STORE, NULL), 0);
    ck_assert_int_eq(wv_jobs_serve(jobs, WV_LANE_SLOW, NULL), 0);
    pthread_mutex_lock(&h.lock);
    ck_assert_int_eq(wv_jobs_run(jobs, WV_LANE_SLOW, work, done, &h), 0);
    while (wv_jobs_waiting(jobs, WV_LANE_SLOW) > 0)
        sched_yield(); /* until the lane's thread stands at its first job */
    while (wv_jobs_run(jobs, WV_LANE_SLOW, work, done, &h) == 0)
        taken++;
    ck_assert_uint_eq(taken, WV_JOBS_SLOW_MAX);
    ck_assert_uint_eq(wv_jobs_waiting(jobs, WV_LANE_SLOW), WV_JOBS_SLOW_MAX);
    ck_assert_int_eq(wv_jobs_run(jobs, WV_LANE_STORE, work, done, &h), 0); /* another lane has room */
    pthread_mutex_unlock(&h.lock);
    jobs = wv_jobs_free(jobs);
    ck_assert_uint_eq(h.worked, taken + 2);
    ck_assert_uint_eq(h.done, h.worked);
}
END_TEST

static void signal_turn(void *userdata, struct wv_store *store)
{
    ck_assert_int_eq(sem_post(userdata), 0);
}

static void turn_done(void *userdata)
{
}

/* A write that hangs holds up the writes behind it, and no question. */
START_TEST(what_a_connection_asks_waits_for_no_write)
{
    struct hold h = {.lock = PTHREAD_MUTEX_INITIALIZER};
    struct wv_jobs *jobs;
    sem_t answered;
    ck_assert_int_eq(sem_init(&answered, 0, 0), 0);
    ck_assert_int_eq(wv_jobs_new(&jobs, wake, NULL), 0);
    ck_assert_int_eq(wv_jobs_serve(jobs, WV_LANE_STORE, NULL), 0);
    ck_assert_int_eq(wv_jobs_serve(jobs, WV_LANE_ASK, NULL), 0);
    pthread_mutex_lock(&h.lock);
    for (int i = 0; i < 3; i++)
        ck_assert_int_eq(wv_jobs_run(jobs, WV_LANE_STORE, work, done, &h), 0);
    for (int i = 0; i < 100; i++) {
        ck_assert_int_eq(wv_jobs_run(jobs, WV_LANE_ASK, signal_turn, turn_done, &answered), 0);
        while (sem_wait(&answered) < 0) /* or for ever: then the test's time is over */
            ck_assert_int_eq(errno, EINTR);
    }
    ck_assert_uint_eq(h.worked, 0);
    pthread_mutex_unlock(&h.lock);
    jobs = wv_jobs_free(jobs);
    ck_assert_uint_eq(h.worked, 3);
    ck_assert_uint_eq(h.done, 3);
    sem_destroy(&answered);
}
END_TEST

/* ---- configuration ---- */

static bool names(const char *text, struct wv_gateway_settings *s)
{
    char *message = NULL;
    bool right = wv_gateway_parse_names(text, s, &message) == 0;
    ck_assert(right == !message);
    free(message);
    return right;
}

static bool trusted(const char *text, struct wv_gateway_settings *s)
{
    char *message = NULL;
    bool right = wv_gateway_parse_trusted(text, s, &message) == 0;
    free(message);
    return right;
}

START_TEST(configuration)
{
    static struct wv_gateway_settings s;
    ck_assert(names("Gateway.Example.org [2001:db8::1]:8443 192.0.2.1:1", &s));
    ck_assert_uint_eq(s.n_names, 3);
    ck_assert_str_eq(s.names[0], "gateway.example.org:443");
    ck_assert_str_eq(s.names[1], "[2001:db8::1]:8443");
    static const char *const bad_names[] = {"",     " ",   "a:0",   "a:65536",  "a:b",
                                            ":443", "a/b", "a b@c", "https://a"};
    for (size_t i = 0; i < WV_ARRAY_SIZE(bad_names); i++)
        ck_assert_msg(!names(bad_names[i], &s), "%s", bad_names[i]);

    uint8_t ip[16] = {[10] = 0xff, [11] = 0xff, [12] = 10, [13] = 7};
    ck_assert(trusted("10.0.0.0/13", &s));
    ck_assert(wv_range_has(s.trusted, s.n_trusted, ip));
    ip[13] = 8;
    ck_assert(!wv_range_has(s.trusted, s.n_trusted, ip));
    ck_assert(trusted("::/0", &s));
    ck_assert(wv_range_has(s.trusted, s.n_trusted, ip));
    ck_assert(trusted("", &s));
    ck_assert(!wv_range_has(s.trusted, s.n_trusted, ip));
    static const char *const bad[] = {"10.0.0.0/33", "::/129", "10.0.0.0/", "10.0.0.0/-1",
                                      "10.0.0",      "proxy",  "1.2.3.4/8x"};
    for (size_t i = 0; i < WV_ARRAY_SIZE(bad); i++)
        ck_assert_msg(!trusted(bad[i], &s), "%s", bad[i]);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("gateway: who somebody is");
    TCase *c = tcase_create("all");
    if (sodium_init() < 0 || oath_init() != OATH_OK)
        return 1;
    tcase_add_test(c, passwords);
    tcase_add_test(c, nobody_costs_as_much);
    tcase_add_test(c, totp);
    tcase_add_test(c, totp_for_an_authenticator);
    tcase_add_test(c, recovery_codes);
    tcase_add_test(c, challenges);
    tcase_add_test(c, keys_are_proven);
    tcase_add_test(c, signed_challenges);
    tcase_add_test(c, proofs_of_requests);
    tcase_add_test(c, a_full_lane_says_so_and_no_job_is_lost);
    tcase_add_test(c, what_a_connection_asks_waits_for_no_write);
    tcase_add_test(c, configuration);
    suite_add_tcase(suite, c);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? 1 : 0;
}
