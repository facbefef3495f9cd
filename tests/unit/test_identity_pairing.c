/* Pairing on the host's side, on virtual time: the state machine, its count over restarts, and what attackers
 * get who run it tens of thousands of times. */
#include "lib/base/util.h"
#include "services/identity/grants.h"
#include "services/identity/pairing.h"
#include "tests/unit/suite.h"

#include <sodium.h>
#include <stdio.h>
#include <string.h>

#define CHANNEL_BYTES (11 + 64)

static struct wv_pairing *pairing;
static uint64_t now, unix_s;
static char code[WV_PAIRING_CODE_DIGITS + 1];
static uint8_t token[WV_PAIRING_TOKEN_BYTES];
static const uint8_t client_key[32] = {1}, host_key[32] = {2}, hash[64] = {3};
static const struct wv_pairing_offer offer = {.grants = WV_GRANTS_USUAL, .expires = 77, .name = "laptop"};

static void setup(void)
{
    bool damaged;
    ck_assert_int_ge(sodium_init(), 0);
    now = 5 * WV_NS_PER_S;
    unix_s = 1800000000;
    ck_assert_int_eq(wv_pairing_new(&pairing, NULL, 0, &damaged), 0);
    ck_assert(!damaged);
}

static void teardown(void)
{
    pairing = wv_pairing_free(pairing);
}

/* The process ends and the next one reads what is on disk. */
static void restart(void)
{
    char state[WV_PAIRING_STATE_BYTES];
    bool damaged;
    size_t len = wv_pairing_format(pairing, state);
    wv_pairing_free(pairing);
    ck_assert_int_eq(wv_pairing_new(&pairing, state, len, &damaged), 0);
    ck_assert(!damaged);
}

static void show_code(void)
{
    ck_assert_int_eq(wv_pairing_open(pairing, &offer, WV_PAIRING_TTL_S, now, unix_s, code, token), 0);
    ck_assert_uint_eq(strlen(code), WV_PAIRING_CODE_DIGITS);
    ck_assert_uint_eq(strspn(code, "0123456789"), WV_PAIRING_CODE_DIGITS);
}

/* ---- a client ---- */

struct client {
    struct rift_cpace cpace;
    uint8_t host_share[32], tag[64], host_tag[64], key[64];
    const char *name;
};

static void begin_client(struct client *c, const uint8_t *secret, size_t len, const uint8_t *bound_hash,
                         const char *name)
{
    uint8_t channel[CHANNEL_BYTES];
    memcpy(channel, "RIFT 1 pair", 11);
    memcpy(channel + 11, client_key, 32);
    memcpy(channel + 43, host_key, 32);
    ck_assert_int_eq(rift_cpace_begin(&c->cpace, secret, len, channel, sizeof channel, bound_hash, 64, NULL),
                     0);
    c->name = name;
}

static int start_run(struct client *c, uint32_t session, bool by_token)
{
    const struct wv_pairing_start start = {.session = session,
                                           .client_key = client_key,
                                           .host_key = host_key,
                                           .hash = hash,
                                           .share = c->cpace.share,
                                           .name = c->name,
                                           .token = by_token};
    return wv_pairing_begin(pairing, &start, now, unix_s, c->host_share);
}

static void finish_client(struct client *c)
{
    ck_assert_int_eq(rift_cpace_finish(&c->cpace, true, (const uint8_t *)c->name, strlen(c->name),
                                       c->host_share, NULL, 0, c->key, c->tag, c->host_tag),
                     0);
}

static int confirm(struct client *c, uint32_t session, struct wv_pairing_done *ret)
{
    finish_client(c);
    return wv_pairing_confirm(pairing, session, c->tag, now, ret);
}

/* A whole run with a code. */
static int run_with(const char *guess, uint32_t session)
{
    struct client c;
    struct wv_pairing_done done;
    begin_client(&c, (const uint8_t *)guess, strlen(guess), hash, "dev");
    int r = start_run(&c, session, false);
    return r ? r : confirm(&c, session, &done);
}

static const char *wrong(void)
{
    static char text[WV_PAIRING_CODE_DIGITS + 1];
    snprintf(text, sizeof text, "%08u", ((unsigned)strtoul(code, NULL, 10) + 1) % 100000000);
    return text;
}

START_TEST(who_knows_the_code_is_paired_once)
{
    struct client c;
    struct wv_pairing_done done;
    ck_assert_int_eq(run_with("00000000", 1), WV_PAIRING_NO_CODE); /* none is shown */
    show_code();
    ck_assert(wv_pairing_is_open(pairing, now));
    begin_client(&c, (const uint8_t *)code, strlen(code), hash, "dev");
    ck_assert_int_eq(start_run(&c, 1, false), 0);
    ck_assert_uint_eq(wv_pairing_failures(pairing), 1); /* until it is proven */
    ck_assert_int_eq(confirm(&c, 1, &done), 0);
    ck_assert_mem_eq(done.tag, c.host_tag, 64);
    ck_assert_uint_eq(done.offer.grants, WV_GRANTS_USUAL);
    ck_assert_uint_eq(done.offer.expires, 77);
    ck_assert_str_eq(done.offer.name, "laptop");
    ck_assert_uint_eq(wv_pairing_failures(pairing), 0);
    ck_assert(!wv_pairing_is_open(pairing, now));
    ck_assert_int_eq(run_with(code, 2), WV_PAIRING_NO_CODE);
    ck_assert_int_eq(wv_pairing_confirm(pairing, 1, c.tag, now, &done), WV_PAIRING_BAD);
}
END_TEST

START_TEST(the_token_of_the_url_does_too)
{
    struct client c;
    struct wv_pairing_done done;
    show_code();
    begin_client(&c, token, sizeof token, hash, "");
    ck_assert_int_eq(start_run(&c, 1, false), 0); /* the token is not the code */
    ck_assert_int_eq(confirm(&c, 1, &done), WV_PAIRING_WRONG);
    begin_client(&c, (const uint8_t *)code, strlen(code), hash, "");
    ck_assert_int_eq(start_run(&c, 1, true), 0); /* nor the other way round */
    ck_assert_int_eq(confirm(&c, 1, &done), WV_PAIRING_WRONG);
    begin_client(&c, token, sizeof token, hash, "");
    ck_assert_int_eq(start_run(&c, 1, true), 0);
    ck_assert_int_eq(confirm(&c, 1, &done), 0);
    ck_assert_uint_eq(wv_pairing_failures(pairing), 2);
}
END_TEST

START_TEST(three_wrong_runs_burn_a_code)
{
    show_code();
    for (uint32_t i = 1; i <= 3; i++) {
        ck_assert_uint_eq(wv_pairing_tries_left(pairing), 4 - i);
        ck_assert_int_eq(run_with(wrong(), i), WV_PAIRING_WRONG);
    }
    ck_assert(!wv_pairing_is_open(pairing, now));
    ck_assert_int_eq(run_with(code, 9), WV_PAIRING_NO_CODE);
    show_code();
    ck_assert_int_eq(run_with(code, 9), 0);
}
END_TEST

START_TEST(a_run_counts_also_when_it_is_left_half_way)
{
    struct client c;
    struct wv_pairing_done done;
    show_code();
    for (uint32_t i = 0; i < 3; i++) {
        begin_client(&c, (const uint8_t *)code, strlen(code), hash, "dev");
        ck_assert_int_eq(start_run(&c, 1, false), 0); /* each anew in the same session */
    }
    begin_client(&c, (const uint8_t *)code, strlen(code), hash, "dev");
    ck_assert_int_eq(start_run(&c, 1, false), WV_PAIRING_NO_CODE);
    ck_assert_uint_eq(wv_pairing_failures(pairing), 3);
    /* A run whose session ended can't be confirmed. */
    show_code();
    begin_client(&c, (const uint8_t *)code, strlen(code), hash, "dev");
    ck_assert_int_eq(start_run(&c, 1, false), 0);
    wv_pairing_end(pairing, 1);
    ck_assert_int_eq(confirm(&c, 1, &done), WV_PAIRING_BAD);
    ck_assert_uint_eq(wv_pairing_failures(pairing), 4);
}
END_TEST

START_TEST(a_code_has_its_time)
{
    struct client c;
    struct wv_pairing_done done;
    show_code();
    uint64_t until = wv_pairing_until(pairing, now);
    ck_assert_uint_eq(until, now + WV_PAIRING_TTL_S * WV_NS_PER_S);
    now = until - WV_PAIRING_RUN_NS;
    begin_client(&c, (const uint8_t *)code, strlen(code), hash, "dev");
    ck_assert_int_eq(start_run(&c, 1, false), 0);
    now = until; /* the run that began in time may end */
    ck_assert_int_eq(run_with(code, 2), WV_PAIRING_NO_CODE);
    ck_assert_int_eq(confirm(&c, 1, &done), 0);
    show_code();
    begin_client(&c, (const uint8_t *)code, strlen(code), hash, "dev");
    ck_assert_int_eq(start_run(&c, 1, false), 0);
    now += WV_PAIRING_RUN_NS + 1; /* but not at leisure */
    ck_assert_int_eq(confirm(&c, 1, &done), WV_PAIRING_NO_CODE);
    /* No code lives for longer than ten minutes, whatever is asked. */
    ck_assert_int_eq(wv_pairing_open(pairing, &offer, 1u << 30, now, unix_s, code, token), 0);
    ck_assert(!wv_pairing_is_open(pairing, now + WV_PAIRING_TTL_MAX_S * WV_NS_PER_S));
    wv_pairing_cancel(pairing);
    ck_assert(!wv_pairing_is_open(pairing, now));
}
END_TEST

/* Ten failed runs, three to a code. */
static void fail_ten(void)
{
    for (uint32_t i = 0; i < WV_PAIRING_FAILURES_MAX; i++) {
        if (!wv_pairing_is_open(pairing, now))
            show_code();
        ck_assert_int_eq(run_with(wrong(), i + 1), WV_PAIRING_WRONG);
        unix_s += 60;
    }
}

START_TEST(ten_failed_runs_close_pairing_until_a_person_opens_it)
{
    fail_ten();
    ck_assert_int_eq(wv_pairing_open(pairing, &offer, 60, now, unix_s, code, token), WV_PAIRING_CLOSED);
    ck_assert_int_eq(run_with("12345678", 1), WV_PAIRING_CLOSED);
    restart();
    ck_assert_int_eq(wv_pairing_open(pairing, &offer, 60, now, unix_s, code, token), WV_PAIRING_CLOSED);
    unix_s += 10ull * WV_PAIRING_WINDOW_S; /* not by waiting */
    ck_assert_int_eq(wv_pairing_open(pairing, &offer, 60, now, unix_s, code, token), WV_PAIRING_CLOSED);
    restart();
    wv_pairing_reopen(pairing);
    restart();
    show_code();
    ck_assert_int_eq(run_with(code, 1), 0);
}
END_TEST

START_TEST(failed_runs_are_forgotten_after_a_day)
{
    show_code();
    for (uint32_t i = 1; i <= 3; i++)
        ck_assert_int_eq(run_with(wrong(), i), WV_PAIRING_WRONG);
    unix_s += WV_PAIRING_WINDOW_S - 1;
    show_code();
    ck_assert_uint_eq(wv_pairing_failures(pairing), 3);
    unix_s += 1;
    show_code();
    ck_assert_uint_eq(wv_pairing_failures(pairing), 0);
}
END_TEST

START_TEST(a_clock_that_goes_back_makes_nothing_younger)
{
    show_code();
    for (uint32_t i = 1; i <= 3; i++)
        ck_assert_int_eq(run_with(wrong(), i), WV_PAIRING_WRONG);
    uint64_t true_time = unix_s;
    unix_s = 1000; /* the battery of the clock is empty */
    show_code();
    ck_assert_uint_eq(wv_pairing_failures(pairing), 3);
    ck_assert_int_eq(run_with(wrong(), 4), WV_PAIRING_WRONG);
    restart();
    unix_s = true_time + WV_PAIRING_WINDOW_S - 1;
    show_code();
    ck_assert_uint_eq(wv_pairing_failures(pairing), 4);
    unix_s++;
    show_code();
    ck_assert_uint_eq(wv_pairing_failures(pairing), 0);
}
END_TEST

START_TEST(a_restart_takes_the_code_with_it_and_keeps_the_count)
{
    struct client c;
    struct wv_pairing_done done;
    show_code();
    ck_assert_int_eq(run_with(wrong(), 1), WV_PAIRING_WRONG);
    begin_client(&c, (const uint8_t *)code, strlen(code), hash, "dev");
    ck_assert_int_eq(start_run(&c, 2, false), 0);
    restart();
    ck_assert(!wv_pairing_is_open(pairing, now));
    ck_assert_int_eq(run_with(code, 3), WV_PAIRING_NO_CODE);
    ck_assert_int_eq(confirm(&c, 2, &done), WV_PAIRING_BAD);
    ck_assert_uint_eq(wv_pairing_failures(pairing), 2);
}
END_TEST

START_TEST(a_damaged_count_closes_pairing)
{
    char state[WV_PAIRING_STATE_BYTES];
    bool damaged;
    show_code();
    ck_assert_int_eq(run_with(wrong(), 1), WV_PAIRING_WRONG);
    size_t len = wv_pairing_format(pairing, state);
    for (size_t cut = 0; cut < len; cut++) { /* at every byte */
        struct wv_pairing *p;
        ck_assert_int_eq(wv_pairing_new(&p, state, cut, &damaged), 0);
        ck_assert_msg(damaged, "cut at %zu", cut);
        ck_assert_int_eq(wv_pairing_open(p, &offer, 60, now, unix_s, code, token), WV_PAIRING_CLOSED);
        wv_pairing_free(p);
    }
    for (size_t i = 0; i < len; i++) { /* a bit that flips never opens more than a digit can say */
        struct wv_pairing *p;
        state[i] ^= 0x40;
        ck_assert_int_eq(wv_pairing_new(&p, state, len, &damaged), 0);
        ck_assert_msg(damaged, "byte %zu", i);
        wv_pairing_free(p);
        state[i] ^= 0x40;
    }
}
END_TEST

START_TEST(messages_out_of_turn_get_nothing)
{
    struct client c;
    struct wv_pairing_done done;
    uint8_t zero[64] = {0};
    show_code();
    ck_assert_int_eq(wv_pairing_confirm(pairing, 1, zero, now, &done), WV_PAIRING_BAD);
    ck_assert_int_eq(wv_pairing_confirm(pairing, 0, zero, now, &done), WV_PAIRING_BAD);
    begin_client(&c, (const uint8_t *)code, strlen(code), hash, "dev");
    memset(c.cpace.share, 0, 32); /* the neutral point */
    ck_assert_int_eq(start_run(&c, 1, false), WV_PAIRING_BAD);
    memset(c.cpace.share, 0xff, 32); /* no point at all */
    ck_assert_int_eq(start_run(&c, 1, false), WV_PAIRING_BAD);
    ck_assert_uint_eq(wv_pairing_failures(pairing), 0); /* no guess was made */
    char lengthy[WV_PAIRING_NAME_BYTES + 1];
    memset(lengthy, 'x', sizeof lengthy - 1);
    lengthy[sizeof lengthy - 1] = 0;
    begin_client(&c, (const uint8_t *)code, strlen(code), hash, lengthy);
    ck_assert_int_eq(start_run(&c, 1, false), WV_PAIRING_BAD);
    /* Another's run is not confirmed. */
    begin_client(&c, (const uint8_t *)code, strlen(code), hash, "dev");
    ck_assert_int_eq(start_run(&c, 1, false), 0);
    finish_client(&c);
    ck_assert_int_eq(wv_pairing_confirm(pairing, 2, c.tag, now, &done), WV_PAIRING_BAD);
    ck_assert_int_eq(wv_pairing_confirm(pairing, 1, c.tag, now, &done), 0);
}
END_TEST

START_TEST(every_bit_of_the_confirmation_counts)
{
    struct client c;
    struct wv_pairing_done done;
    for (unsigned bit = 0; bit < 512; bit++) {
        wv_pairing_reopen(pairing);
        show_code();
        begin_client(&c, (const uint8_t *)code, strlen(code), hash, "dev");
        ck_assert_int_eq(start_run(&c, 1, false), 0);
        finish_client(&c);
        c.tag[bit / 8] ^= (uint8_t)(1u << bit % 8);
        ck_assert_int_eq(wv_pairing_confirm(pairing, 1, c.tag, now, &done), WV_PAIRING_WRONG);
        c.tag[bit / 8] ^= (uint8_t)(1u << bit % 8);
        ck_assert_int_eq(wv_pairing_confirm(pairing, 1, c.tag, now, &done), WV_PAIRING_BAD); /* one chance */
    }
}
END_TEST

START_TEST(the_code_is_bound_to_the_handshake_the_keys_and_the_name)
{
    struct client c;
    struct wv_pairing_done done;
    uint8_t other_hash[64] = {4};
    show_code();
    begin_client(&c, (const uint8_t *)code, strlen(code), other_hash, "dev"); /* a man in the middle's */
    ck_assert_int_eq(start_run(&c, 1, false), 0);
    ck_assert_int_eq(confirm(&c, 1, &done), WV_PAIRING_WRONG);
    begin_client(&c, (const uint8_t *)code, strlen(code), hash, "dev");
    ck_assert_int_eq(start_run(&c, 1, false), 0);
    c.name = "dex"; /* on its way the name was changed */
    ck_assert_int_eq(confirm(&c, 1, &done), WV_PAIRING_WRONG);
}
END_TEST

/* ---- attackers ---- */

/* Tries all it can for as long as a person keeps showing codes: guesses, half runs, several sessions, other
 * people's tags. Nothing gives it more than three guesses a code and ten a day. */
START_TEST(tens_of_thousands_of_runs_get_three_guesses_a_code)
{
    unsigned codes = 0, guesses = 0, paired = 0, in_code = 0;
    for (unsigned i = 0; i < 30000; i++) {
        struct client c;
        struct wv_pairing_done done;
        if (!wv_pairing_is_open(pairing, now) && i % 20 == 0) {
            if (wv_pairing_failures(pairing) >= WV_PAIRING_FAILURES_MAX)
                wv_pairing_reopen(pairing); /* an incorrigible person */
            show_code();
            codes++;
            in_code = 0;
        }
        char guess[16];
        snprintf(guess, sizeof guess, "%08u", randombytes_uniform(100000000));
        begin_client(&c, (const uint8_t *)guess, 8, hash, "dev");
        uint32_t session = 1 + randombytes_uniform(3);
        int r = start_run(&c, session, i % 7 == 3);
        if (r == 0) {
            guesses++;
            ck_assert_uint_le(++in_code, WV_PAIRING_TRIES);
            if (i % 3)
                paired += confirm(&c, i % 5 ? session : 1 + randombytes_uniform(3), &done) == 0;
        } else {
            ck_assert(r == WV_PAIRING_NO_CODE || r == WV_PAIRING_CLOSED);
        }
        if (i % 11 == 0)
            restart();
        now += WV_NS_PER_MS;
        unix_s += i % 13 == 0;
    }
    ck_assert_uint_gt(codes, 500);
    ck_assert_uint_le(guesses, codes * WV_PAIRING_TRIES);
    ck_assert_uint_eq(paired, 0); /* 4,500 guesses in 10^8: one in 20,000 test runs would fail here */
}
END_TEST

START_TEST(nobody_gets_more_than_ten_guesses_a_day_from_a_person_who_never_looks)
{
    unsigned guesses = 0;
    for (unsigned i = 0; i < 20000; i++) {
        if (!wv_pairing_is_open(pairing, now))
            (void)wv_pairing_open(pairing, &offer, 60, now, unix_s, code, token);
        if (run_with("00000000", 1 + i % 2) == WV_PAIRING_WRONG)
            guesses++;
        if (i % 17 == 0)
            restart();
        unix_s += 4; /* 22 hours in all */
    }
    ck_assert_uint_eq(guesses, WV_PAIRING_FAILURES_MAX);
}
END_TEST

/* An attacker plays host to a client that knows the code, with a guess of its own. What it sees is the
 * client's share and tag. With those it can check the one guess that its own share was made with, and no
 * other: for any other code the tag depends on a secret that it does not have. */
START_TEST(who_plays_host_can_check_the_one_guess_it_made)
{
    const char *const right = "24680135";
    uint8_t channel[CHANNEL_BYTES], key[64], own_tag[64], client_tag[64];
    memcpy(channel, "RIFT 1 pair", 11);
    memcpy(channel + 11, client_key, 32);
    memcpy(channel + 43, host_key, 32);
    unsigned confirmed = 0, checked = 0;
    for (unsigned guess = 24680135 - 50; guess < 24680135 + 50; guess++) {
        struct rift_cpace attacker, offline;
        struct client victim;
        char text[16];
        snprintf(text, sizeof text, "%08u", guess);
        begin_client(&victim, (const uint8_t *)right, 8, hash, "dev");
        ck_assert_int_eq(
            rift_cpace_begin(&attacker, (const uint8_t *)text, 8, channel, sizeof channel, hash, 64, NULL),
            0);
        uint8_t scalar[32];
        memcpy(scalar, attacker.scalar, sizeof scalar);
        memcpy(victim.host_share, attacker.share, 32);
        uint8_t victim_share[32];
        memcpy(victim_share, victim.cpace.share, 32);
        finish_client(&victim); /* the client confirms first: this is all that the attacker ever gets */
        ck_assert_int_eq(rift_cpace_finish(&attacker, false, NULL, 0, victim_share, (const uint8_t *)"dev", 3,
                                           key, own_tag, client_tag),
                         0);
        confirmed += memcmp(client_tag, victim.tag, 64) == 0;
        /* Offline it tries every code with all that it kept, its scalar too: a new share of the same scalar
         * is another one than it had sent, so what comes out matches no tag. */
        for (unsigned other = 24680135 - 20; other < 24680135 + 20; other++) {
            snprintf(text, sizeof text, "%08u", other);
            ck_assert_int_eq(rift_cpace_begin(&offline, (const uint8_t *)text, 8, channel, sizeof channel,
                                              hash, 64, scalar),
                             0);
            if (other != guess)
                ck_assert_mem_ne(offline.share, victim.host_share, 32);
            ck_assert_int_eq(rift_cpace_finish(&offline, false, NULL, 0, victim_share, (const uint8_t *)"dev",
                                               3, key, own_tag, client_tag),
                             0);
            bool matches = memcmp(client_tag, victim.tag, 64) == 0;
            ck_assert_msg(!matches || (other == guess && guess == 24680135), "guess %u code %u", guess,
                          other);
            checked += matches;
        }
    }
    ck_assert_uint_eq(confirmed, 1); /* of a hundred guesses the one that was right */
    ck_assert_uint_eq(checked, 1);
}
END_TEST

/* A listener who has whole runs on tape, and is later told the code, still can't say which run used it: every
 * code explains what it recorded equally well, and a recorded share or tag is of no use in another run. */
START_TEST(a_recording_gives_nothing)
{
    struct client taped, again;
    struct wv_pairing_done done;
    show_code();
    begin_client(&taped, (const uint8_t *)code, 8, hash, "dev");
    uint8_t share[32];
    memcpy(share, taped.cpace.share, 32);
    ck_assert_int_eq(start_run(&taped, 1, false), 0);
    ck_assert_int_eq(confirm(&taped, 1, &done), 0);
    /* The same code again, even: the client's share and tag are played back. */
    for (unsigned i = 0; i < 3; i++) {
        wv_pairing_reopen(pairing);
        show_code();
        memset(&again, 0, sizeof again);
        memcpy(again.cpace.share, share, 32);
        again.name = "dev";
        ck_assert_int_eq(start_run(&again, 1, false), 0);
        ck_assert_mem_ne(again.host_share, taped.host_share, 32); /* fresh in each run */
        ck_assert_int_eq(wv_pairing_confirm(pairing, 1, taped.tag, now, &done), WV_PAIRING_WRONG);
    }
    /* Offline: with any code whatever and any scalar of its own, the listener gets other tags. */
    uint8_t channel[CHANNEL_BYTES] = "RIFT 1 pair", key[64], own_tag[64], client_tag[64];
    memcpy(channel + 11, client_key, 32);
    memcpy(channel + 43, host_key, 32);
    for (unsigned i = 0; i < 2000; i++) {
        struct rift_cpace guess;
        char text[16];
        snprintf(text, sizeof text, "%08u", i ? randombytes_uniform(100000000) : 0);
        if (i == 0)
            memcpy(text, code, 8);
        ck_assert_int_eq(
            rift_cpace_begin(&guess, (const uint8_t *)text, 8, channel, sizeof channel, hash, 64, NULL), 0);
        ck_assert_int_eq(rift_cpace_finish(&guess, false, NULL, 0, share, (const uint8_t *)"dev", 3, key,
                                           own_tag, client_tag),
                         0);
        ck_assert_mem_ne(client_tag, taped.tag, 64);
        ck_assert_mem_ne(key, taped.key, 64);
    }
}
END_TEST

START_TEST(codes_are_not_predictable)
{
    unsigned digits[10] = {0};
    char before[WV_PAIRING_CODE_DIGITS + 1] = "";
    for (unsigned i = 0; i < 2000; i++) {
        show_code();
        ck_assert_str_ne(code, before); /* one in 50,000 */
        memcpy(before, code, sizeof before);
        for (unsigned d = 0; d < WV_PAIRING_CODE_DIGITS; d++)
            digits[code[d] - '0']++;
    }
    for (unsigned d = 0; d < 10; d++) /* 1600 each, standard deviation 38 */
        ck_assert_msg(digits[d] > 1600 - 300 && digits[d] < 1600 + 300, "digit %u: %u times", d, digits[d]);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("identity: pairing");
    TCase *c = tcase_create("states");
    tcase_add_checked_fixture(c, setup, teardown);
    tcase_add_test(c, who_knows_the_code_is_paired_once);
    tcase_add_test(c, the_token_of_the_url_does_too);
    tcase_add_test(c, three_wrong_runs_burn_a_code);
    tcase_add_test(c, a_run_counts_also_when_it_is_left_half_way);
    tcase_add_test(c, a_code_has_its_time);
    tcase_add_test(c, ten_failed_runs_close_pairing_until_a_person_opens_it);
    tcase_add_test(c, failed_runs_are_forgotten_after_a_day);
    tcase_add_test(c, a_clock_that_goes_back_makes_nothing_younger);
    tcase_add_test(c, a_restart_takes_the_code_with_it_and_keeps_the_count);
    tcase_add_test(c, a_damaged_count_closes_pairing);
    tcase_add_test(c, messages_out_of_turn_get_nothing);
    tcase_add_test(c, every_bit_of_the_confirmation_counts);
    tcase_add_test(c, the_code_is_bound_to_the_handshake_the_keys_and_the_name);
    suite_add_tcase(s, c);
    c = tcase_create("attackers");
    tcase_add_checked_fixture(c, setup, teardown);
    tcase_set_timeout(c, 120);
    tcase_add_test(c, tens_of_thousands_of_runs_get_three_guesses_a_code);
    tcase_add_test(c, nobody_gets_more_than_ten_guesses_a_day_from_a_person_who_never_looks);
    tcase_add_test(c, who_plays_host_can_check_the_one_guess_it_made);
    tcase_add_test(c, a_recording_gives_nothing);
    tcase_add_test(c, codes_are_not_predictable);
    suite_add_tcase(s, c);
    return s;
}

int main(void)
{
    return wv_run_suite(suite());
}
