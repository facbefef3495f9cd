/* See live.h. Must never give a number or a media key twice, keep a key of a session that is over, or let a
 * session do what its key has no grant for. */
#include "services/identity/live.h"

#include "lib/base/util.h"
#include "lib/ipc/session_page.h"
#include "services/identity/peers.h"

#include <sodium.h>
#include <stdio.h>
#include <string.h>

_Static_assert(WV_LIVE_MAX - WV_LIVE_PAIRING_MAX >= 2 * WV_SESSIONS_MAX, "strangers leave room");

/* Another version's table of another shape is none of ours. */
#define MAGIC (UINT64_C(0x31454c4241545657) ^ sizeof(struct wv_live))
/* An encoder that was sent a key by a process that died may not have got it: only within this time. */
#define UNSURE_NS (2 * WV_NS_PER_S)

/* The compiler must not move the number before what it stands for: a process may end between any two
 * writes. */
static void barrier(void)
{
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
}

void wv_live_init(struct wv_live *l)
{
    sodium_memzero(l, sizeof *l);
    l->last_number = 1 + randombytes_uniform(1u << 30);
    l->magic = MAGIC;
}

static bool is_text(const char *text, size_t capacity)
{
    size_t len = strnlen(text, capacity);
    return len < capacity && wv_text_is_printable(text, len);
}

static bool is_sound(const struct wv_live_session *s, const struct wv_live *l, uint64_t now)
{
    return s->number <= l->last_number && s->grants <= WV_GRANTS_ALL && s->view_only <= 1 &&
           s->pairing <= 1 && s->listed <= 1 && s->released <= 1 && !(s->pairing && s->grants) &&
           s->since_ns <= now && s->missing_ns <= now && s->expires <= WV_EXPIRY_MAX &&
           is_text(s->name, sizeof s->name) && is_text(s->device, sizeof s->device);
}

static bool is_twin(const struct wv_live *l, size_t i)
{
    for (size_t j = 0; j < i; j++)
        if (l->sessions[j].number == l->sessions[i].number)
            return true;
    return false;
}

bool wv_live_adopt(struct wv_live *l, uint64_t now)
{
    if (l->magic != MAGIC || l->last_number == 0 || l->keyed_ns > now || l->key_due > 1)
        return false;
    for (size_t i = 0; i < WV_LIVE_MAX; i++) {
        struct wv_live_session *s = &l->sessions[i];
        if (s->number && is_sound(s, l, now) && !is_twin(l, i))
            continue;
        sodium_memzero(s, sizeof *s);
    }
    if (l->kid && now - l->keyed_ns < UNSURE_NS)
        l->key_due = 1;
    wv_live_settle(l);
    return true;
}

uint32_t wv_live_number(struct wv_live *l)
{
    if (++l->last_number == 0)
        l->last_number = 1;
    return l->last_number;
}

struct wv_live_session *wv_live_find(struct wv_live *l, uint32_t number)
{
    for (size_t i = 0; number && i < WV_LIVE_MAX; i++)
        if (l->sessions[i].number == number)
            return &l->sessions[i];
    return NULL;
}

size_t wv_live_count(const struct wv_live *l)
{
    size_t n = 0;
    for (size_t i = 0; i < WV_LIVE_MAX; i++)
        n += l->sessions[i].number != 0;
    return n;
}

size_t wv_live_pairing(const struct wv_live *l)
{
    size_t n = 0;
    for (size_t i = 0; i < WV_LIVE_MAX; i++)
        n += l->sessions[i].number && l->sessions[i].pairing;
    return n;
}

static struct wv_live_session *find_key(struct wv_live *l, const uint8_t key[32])
{
    for (size_t i = 0; i < WV_LIVE_MAX; i++)
        if (l->sessions[i].number && memcmp(l->sessions[i].peer_key, key, 32) == 0)
            return &l->sessions[i];
    return NULL;
}

static struct wv_live_session *find_free(struct wv_live *l)
{
    for (size_t i = 0; i < WV_LIVE_MAX; i++)
        if (!l->sessions[i].number)
            return &l->sessions[i];
    return NULL;
}

static void fill(struct wv_live_session *s, const struct wv_live_new *n, uint64_t now)
{
    memcpy(s->peer_key, n->peer_key, sizeof s->peer_key);
    memcpy(s->hash, n->hash, sizeof s->hash);
    rift_inner_derive(n->inner_base, true, &s->inner, s->input_key);
    s->grants = n->pairing ? 0 : n->grants & WV_GRANTS_ALL;
    s->expires = WV_MIN(n->expires, WV_EXPIRY_MAX);
    s->view_only = n->view_only;
    s->pairing = n->pairing;
    s->since_ns = now;
    snprintf(s->name, sizeof s->name, "%s", n->name);
    snprintf(s->device, sizeof s->device, "%s", n->device);
}

int wv_live_add(struct wv_live *l, const struct wv_live_new *n, uint64_t now,
                struct wv_live_session **ret_session)
{
    struct wv_live_session *before = find_key(l, n->peer_key), *s = find_free(l);
    if (n->pairing && wv_live_pairing(l) - (before && before->pairing) >= WV_LIVE_PAIRING_MAX)
        return WV_LIVE_FULL;
    if (!s && !before)
        return WV_LIVE_FULL;
    bool controlled = before && before->number == l->controller && !n->pairing;
    bool released = before && before->released;
    uint32_t due = l->key_due;
    if (before)
        wv_live_remove(l, before);
    l->key_due = due; /* the same person: no reason for another key */
    s = s ? s : before;
    fill(s, n, now);
    s->released = released;
    barrier();
    s->number = wv_live_number(l);
    if (controlled && wv_live_may_control(s))
        l->controller = s->number;
    *ret_session = s;
    return 0;
}

void wv_live_remove(struct wv_live *l, struct wv_live_session *s)
{
    if (wv_live_sees(s) && l->kid)
        l->key_due = 1;
    barrier();
    if (s->number == l->controller)
        l->controller = 0;
    s->number = 0;
    barrier();
    sodium_memzero(s, sizeof *s);
}

bool wv_live_sees(const struct wv_live_session *s)
{
    return s->number && !s->pairing && (s->grants & WV_GRANT_VIEW);
}

bool wv_live_may_control(const struct wv_live_session *s)
{
    return s->number && !s->pairing && (s->grants & WV_GRANT_INPUT) && !s->view_only;
}

int wv_live_seen(struct wv_live *l, uint32_t number, const uint8_t peer_key[32])
{
    struct wv_live_session *s = wv_live_find(l, number);
    if (!s || memcmp(s->peer_key, peer_key, sizeof s->peer_key) != 0)
        return WV_LIVE_NONE;
    s->listed = 1;
    s->missing_ns = 0;
    return 0;
}

bool wv_live_missing(struct wv_live_session *s, uint64_t now)
{
    if (!s->missing_ns)
        s->missing_ns = WV_MAX(now, UINT64_C(1));
    return now - s->missing_ns >= (s->listed ? WV_LIVE_MISSING_NS : WV_LIVE_ARRIVES_NS);
}

void wv_live_grant(struct wv_live *l, struct wv_live_session *s, uint32_t grants, uint64_t expires,
                   const char *name)
{
    bool saw = wv_live_sees(s);
    s->grants = s->pairing ? 0 : grants & WV_GRANTS_ALL;
    s->expires = WV_MIN(expires, WV_EXPIRY_MAX);
    if (strcmp(s->name, name))
        snprintf(s->name, sizeof s->name, "%s", name);
    if (saw && !wv_live_sees(s) && l->kid)
        l->key_due = 1;
}

bool wv_live_is_over(const struct wv_live_session *s, uint64_t now, uint64_t unix_s)
{
    if (s->pairing)
        return now - s->since_ns >= WV_LIVE_PAIRING_NS;
    return s->expires && unix_s >= s->expires;
}

int wv_live_take(struct wv_live *l, struct wv_live_session *s, bool release)
{
    if (release) {
        s->released = 1;
        if (l->controller == s->number)
            l->controller = 0;
        return 0;
    }
    if (!wv_live_may_control(s))
        return WV_LIVE_REFUSED;
    s->released = 0;
    l->controller = s->number;
    return 0;
}

int wv_live_control(struct wv_live *l, uint32_t number)
{
    if (number) {
        struct wv_live_session *s = wv_live_find(l, number);
        return s ? wv_live_take(l, s, false) : WV_LIVE_NONE;
    }
    for (size_t i = 0; i < WV_LIVE_MAX; i++)
        if (l->sessions[i].number)
            l->sessions[i].released = 1;
    l->controller = 0;
    return 0;
}

uint32_t wv_live_settle(struct wv_live *l)
{
    struct wv_live_session *s = wv_live_find(l, l->controller), *oldest = NULL;
    if (s && wv_live_may_control(s))
        return l->controller;
    for (size_t i = 0; i < WV_LIVE_MAX; i++) {
        s = &l->sessions[i];
        if (wv_live_may_control(s) && !s->released && (!oldest || s->number < oldest->number))
            oldest = s;
    }
    l->controller = oldest ? oldest->number : 0;
    return l->controller;
}

void wv_live_rekey(struct wv_live *l, uint64_t now)
{
    uint32_t kid = l->kid ? l->kid + 1 : 1 + randombytes_uniform(1u << 16);
    l->key_due = 1; /* a process that ends here leaves a key that nobody was given */
    barrier();
    l->kid = kid ? kid : 1;
    randombytes_buf(l->media_key, sizeof l->media_key);
    l->keyed_ns = now;
    barrier();
    l->key_due = 0;
}
