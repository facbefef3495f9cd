/* See pairing.h. Must never let a run begin that is not counted, count one back that did not prove the code,
 * or say more of a code than right or wrong. */
#include "services/identity/pairing.h"

#include "lib/base/util.h"

#include <errno.h>
#include <inttypes.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>

#define RUNS_MAX      2 /* at once: as many as there are sessions that may only pair */
#define HEAD          "wavry-pairing-1\n"
#define CHANNEL_LABEL "RIFT 1 pair"

struct run {
    uint32_t session; /* 0: free */
    uint64_t since_ns, failed_at;
    uint8_t own_tag[RIFT_CPACE_TAG_BYTES], client_tag[RIFT_CPACE_TAG_BYTES];
    char name[WV_PAIRING_NAME_BYTES];
};

struct wv_pairing {
    /* Kept on disk: when runs failed, and the latest time that was seen: a clock that goes back makes
     * nothing older or younger. */
    uint64_t failed[WV_PAIRING_FAILURES_MAX];
    unsigned n_failed;
    uint64_t seen;
    /* The code that is shown. */
    bool shown;
    char code[WV_PAIRING_CODE_DIGITS + 1];
    uint8_t token[WV_PAIRING_TOKEN_BYTES];
    uint64_t until_ns;
    unsigned tries;
    struct wv_pairing_offer offer;
    struct run runs[RUNS_MAX];
};

/* ---- the state on disk ---- */

static bool take_number(const char **at, const char *end, const char *word, uint64_t *ret)
{
    size_t len = strlen(word);
    uint64_t n = 0;
    if ((size_t)(end - *at) < len || memcmp(*at, word, len) != 0)
        return false;
    const char *p = *at + len, *first = p;
    for (; p < end && *p >= '0' && *p <= '9' && p - first < 12; p++)
        n = 10 * n + (uint64_t)(*p - '0');
    if (p == first || p == end || *p != '\n')
        return false;
    *at = p + 1;
    *ret = n;
    return true;
}

static bool parse(struct wv_pairing *p, const char *state, size_t len)
{
    const char *at = state, *end = state + len;
    if (len < strlen(HEAD) || memcmp(at, HEAD, strlen(HEAD)) != 0)
        return false;
    at += strlen(HEAD);
    if (!take_number(&at, end, "seen ", &p->seen))
        return false;
    while (p->n_failed < WV_PAIRING_FAILURES_MAX &&
           take_number(&at, end, "failed ", &p->failed[p->n_failed])) {
        if (p->failed[p->n_failed] > p->seen)
            return false;
        p->n_failed++;
    }
    return at + 4 == end && memcmp(at, "end\n", 4) == 0;
}

int wv_pairing_new(struct wv_pairing **ret, const char *state, size_t len, bool *ret_damaged)
{
    struct wv_pairing *p = calloc(1, sizeof *p);
    if (!p)
        return -ENOMEM;
    *ret_damaged = state && !parse(p, state, len);
    if (*ret_damaged) {
        memset(p, 0, sizeof *p);
        p->n_failed = WV_PAIRING_FAILURES_MAX; /* nobody knows how many: a person decides */
    }
    *ret = p;
    return 0;
}

struct wv_pairing *wv_pairing_free(struct wv_pairing *p)
{
    if (p)
        sodium_memzero(p, sizeof *p);
    free(p);
    return NULL;
}

size_t wv_pairing_format(const struct wv_pairing *p, char ret[WV_PAIRING_STATE_BYTES])
{
    size_t used = (size_t)snprintf(ret, WV_PAIRING_STATE_BYTES, HEAD "seen %" PRIu64 "\n", p->seen);
    for (unsigned i = 0; i < p->n_failed; i++)
        used +=
            (size_t)snprintf(ret + used, WV_PAIRING_STATE_BYTES - used, "failed %" PRIu64 "\n", p->failed[i]);
    used += (size_t)snprintf(ret + used, WV_PAIRING_STATE_BYTES - used, "end\n");
    return used;
}

/* ---- the count ---- */

/* Failed runs of more than a day ago no longer count; but once pairing is closed, it stays so. */
static void age(struct wv_pairing *p, uint64_t unix_s)
{
    unsigned kept = 0;
    uint64_t bounded = WV_MIN(unix_s, UINT64_C(99999999999)); /* what the state's text holds */
    p->seen = WV_MAX(p->seen, bounded);
    if (p->n_failed >= WV_PAIRING_FAILURES_MAX)
        return;
    for (unsigned i = 0; i < p->n_failed; i++)
        if (p->seen - p->failed[i] < WV_PAIRING_WINDOW_S)
            p->failed[kept++] = p->failed[i];
    p->n_failed = kept;
}

/* Takes back one run that was counted at AT. */
static void count_back(struct wv_pairing *p, uint64_t at)
{
    for (unsigned i = p->n_failed; i-- > 0;)
        if (p->failed[i] == at) {
            memmove(&p->failed[i], &p->failed[i + 1], (p->n_failed - i - 1) * sizeof p->failed[0]);
            p->n_failed--;
            return;
        }
}

unsigned wv_pairing_failures(const struct wv_pairing *p)
{
    return p->n_failed;
}

/* ---- the code ---- */

static void wipe_code(struct wv_pairing *p)
{
    p->shown = false;
    sodium_memzero(p->code, sizeof p->code);
    sodium_memzero(p->token, sizeof p->token);
    sodium_memzero(p->runs, sizeof p->runs);
}

void wv_pairing_cancel(struct wv_pairing *p)
{
    wipe_code(p);
}

void wv_pairing_reopen(struct wv_pairing *p)
{
    wipe_code(p);
    p->n_failed = 0;
    p->seen = 0;
}

int wv_pairing_open(struct wv_pairing *p, const struct wv_pairing_offer *offer, uint64_t ttl_s, uint64_t now,
                    uint64_t unix_s, char ret_code[WV_PAIRING_CODE_DIGITS + 1],
                    uint8_t ret_token[WV_PAIRING_TOKEN_BYTES])
{
    age(p, unix_s);
    wipe_code(p);
    if (p->n_failed >= WV_PAIRING_FAILURES_MAX)
        return WV_PAIRING_CLOSED;
    snprintf(p->code, sizeof p->code, "%08" PRIu32, randombytes_uniform(100000000));
    randombytes_buf(p->token, sizeof p->token);
    p->until_ns = now + WV_MIN(ttl_s, (uint64_t)WV_PAIRING_TTL_MAX_S) * WV_NS_PER_S;
    p->tries = 0;
    p->offer = *offer;
    p->shown = true;
    memcpy(ret_code, p->code, sizeof p->code);
    memcpy(ret_token, p->token, sizeof p->token);
    return 0;
}

bool wv_pairing_is_open(const struct wv_pairing *p, uint64_t now)
{
    return p->shown && now < p->until_ns && p->tries < WV_PAIRING_TRIES &&
           p->n_failed < WV_PAIRING_FAILURES_MAX;
}

uint64_t wv_pairing_until(const struct wv_pairing *p, uint64_t now)
{
    return wv_pairing_is_open(p, now) ? p->until_ns : 0;
}

unsigned wv_pairing_tries_left(const struct wv_pairing *p)
{
    return p->shown && p->n_failed < WV_PAIRING_FAILURES_MAX ? WV_PAIRING_TRIES - p->tries : 0;
}

/* ---- a run ---- */

static struct run *find_run(struct wv_pairing *p, uint32_t session)
{
    for (size_t i = 0; session && i < RUNS_MAX; i++)
        if (p->runs[i].session == session)
            return &p->runs[i];
    return NULL;
}

/* A free place, else the oldest run's: it had its time. */
static struct run *place_run(struct wv_pairing *p)
{
    struct run *oldest = &p->runs[0];
    for (size_t i = 0; i < RUNS_MAX; i++) {
        if (!p->runs[i].session)
            return &p->runs[i];
        if (p->runs[i].since_ns < oldest->since_ns)
            oldest = &p->runs[i];
    }
    return oldest;
}

void wv_pairing_end(struct wv_pairing *p, uint32_t session)
{
    struct run *run = find_run(p, session);
    if (run)
        sodium_memzero(run, sizeof *run);
}

/* CPace with what the client says it knows, bound to this handshake and to both sides' keys. */
static int run_cpace(const struct wv_pairing *p, const struct wv_pairing_start *start, struct run *run,
                     uint8_t ret_share[RIFT_CPACE_SHARE_BYTES])
{
    uint8_t channel[sizeof CHANNEL_LABEL - 1 + 64], key[RIFT_CPACE_KEY_BYTES], *at = channel;
    uint8_t share[RIFT_CPACE_SHARE_BYTES];
    struct rift_cpace cpace;
    at = mempcpy(at, CHANNEL_LABEL, sizeof CHANNEL_LABEL - 1);
    at = mempcpy(at, start->client_key, 32);
    memcpy(at, start->host_key, 32);
    const uint8_t *secret = start->token ? p->token : (const uint8_t *)p->code;
    size_t secret_len = start->token ? (size_t)WV_PAIRING_TOKEN_BYTES : WV_PAIRING_CODE_DIGITS;
    int r = rift_cpace_begin(&cpace, secret, secret_len, channel, sizeof channel, start->hash, 64, NULL);
    if (r < 0)
        return r;
    memcpy(share, cpace.share, sizeof share);
    r = rift_cpace_finish(&cpace, false, NULL, 0, start->share, (const uint8_t *)start->name,
                          strlen(start->name), key, run->own_tag, run->client_tag);
    sodium_memzero(&cpace, sizeof cpace);
    sodium_memzero(key, sizeof key);
    if (r == 0)
        memcpy(ret_share, share, sizeof share);
    return r;
}

int wv_pairing_begin(struct wv_pairing *p, const struct wv_pairing_start *start, uint64_t now,
                     uint64_t unix_s, uint8_t ret_share[RIFT_CPACE_SHARE_BYTES])
{
    struct run run = {.session = start->session, .since_ns = now};
    age(p, unix_s);
    wv_pairing_end(p, start->session);
    if (p->n_failed >= WV_PAIRING_FAILURES_MAX)
        return WV_PAIRING_CLOSED;
    if (!wv_pairing_is_open(p, now))
        return WV_PAIRING_NO_CODE;
    if (strlen(start->name) >= sizeof run.name || run_cpace(p, start, &run, ret_share) < 0)
        return WV_PAIRING_BAD; /* says nothing of the code: not a guess */
    memcpy(run.name, start->name, strlen(start->name) + 1);
    p->tries++;
    run.failed_at = p->failed[p->n_failed++] = p->seen;
    *place_run(p) = run;
    sodium_memzero(&run, sizeof run);
    return 0;
}

int wv_pairing_confirm(struct wv_pairing *p, uint32_t session, const uint8_t tag[RIFT_CPACE_TAG_BYTES],
                       uint64_t now, struct wv_pairing_done *ret)
{
    struct run *run = find_run(p, session);
    if (!run)
        return WV_PAIRING_BAD;
    bool right = sodium_memcmp(tag, run->client_tag, sizeof run->client_tag) == 0;
    bool late = !p->shown || now - run->since_ns > WV_PAIRING_RUN_NS;
    if (!right || late) {
        sodium_memzero(run, sizeof *run);
        return right ? WV_PAIRING_NO_CODE : WV_PAIRING_WRONG;
    }
    *ret = (struct wv_pairing_done){.offer = p->offer};
    memcpy(ret->tag, run->own_tag, sizeof ret->tag);
    if (!ret->offer.name[0])
        memcpy(ret->offer.name, run->name, sizeof ret->offer.name);
    count_back(p, run->failed_at);
    wipe_code(p); /* used up, for other runs too */
    return 0;
}
