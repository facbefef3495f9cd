/* What an administrator asks of the identity stage, and the answers. Must never answer with a secret other
 * than a pairing code that it was asked to show. */
#include "services/identity/internal.h"

#include "lib/base/log.h"
#include "lib/base/util.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static int take_key(const char *text, uint8_t ret_key[32], const char **ret_rest, char *reply,
                    size_t capacity)
{
    char word[RIFT_PUBLIC_KEY_TEXT_BYTES];
    text += strspn(text, " \t");
    size_t len = strcspn(text, " \t\n");
    bool fits = len == sizeof word - 1;
    if (fits) {
        memcpy(word, text, len);
        word[len] = 0;
    }
    if (!fits || rift_public_key_parse(word, ret_key) < 0) {
        snprintf(reply, capacity,
                 "that is not a public key: it begins with wavry1 and has %d characters (wavry-client "
                 "--print-key)",
                 RIFT_PUBLIC_KEY_TEXT_BYTES - 1);
        return -EINVAL;
    }
    *ret_rest = text + len;
    return 0;
}

static int explain(int error, const struct wv_peers_file *f, char *reply, size_t capacity)
{
    const char *path = wv_peers_file_path(f);
    if (error == -EINVAL)
        snprintf(reply, capacity, "a name is at most %d bytes of printable text", WV_PEER_NAME_BYTES - 1);
    else if (error == -EBADF)
        snprintf(reply, capacity,
                 "%s could not be read, so it is not changed; the log of wavry-identity says why", path);
    else if (error == -ENOSPC)
        snprintf(reply, capacity, "%s can't be written: %s, or it holds %d keys already", path,
                 strerror(ENOSPC), WV_PEERS_MAX);
    else
        snprintf(reply, capacity, "%s can't be written: %s", path, strerror(-error));
    return error;
}

/* Takes "NAME=VALUE" off TEXT. */
static bool take_field(const char **text, const char *name, const char **ret_value, size_t *ret_len)
{
    const char *at = *text + strspn(*text, " \t");
    size_t len = strlen(name);
    if (strncmp(at, name, len) != 0)
        return false;
    *ret_value = at + len;
    *ret_len = strcspn(*ret_value, " \t\n");
    *text = *ret_value + *ret_len;
    return true;
}

/* "[grants=LIST] [expires=TIME|expires=never]" changes what PEER has. */
static int take_grants(const char **text, struct wv_peer *peer, char *reply, size_t capacity)
{
    const char *value;
    size_t len;
    if (take_field(text, "grants=", &value, &len) && wv_grants_parse(value, len, &peer->grants) < 0) {
        snprintf(reply, capacity, "the grants are some of: " WV_GRANTS_KNOWN_TEXT);
        return -EINVAL;
    }
    if (!take_field(text, "expires=", &value, &len))
        return 0;
    if (len == 5 && !memcmp(value, "never", 5)) {
        peer->expires = 0;
    } else if (wv_expiry_parse(value, len, &peer->expires) < 0) {
        snprintf(reply, capacity, "a time is written like this: 2026-12-01T12:00:00Z, or never");
        return -EINVAL;
    }
    return 0;
}

/* "KEY [grants=LIST] [expires=TIME] [NAME]". A key that is known keeps what is not said. */
static int grant(struct wv_identity *id, const char *text, bool must_be_known, char *reply, size_t capacity)
{
    struct wv_peer peer = {.grants = WV_GRANTS_USUAL};
    char key_text[RIFT_PUBLIC_KEY_TEXT_BYTES], grants[WV_GRANTS_TEXT_BYTES], until[WV_EXPIRY_TEXT_BYTES] = "";
    uint8_t key[32];
    const char *name;
    int r = take_key(text, key, &name, reply, capacity);
    if (r < 0)
        return r;
    const struct wv_peer *known = wv_peers_find(wv_peers_file_list(id->peers), key);
    if (known)
        peer = *known;
    if (must_be_known && !known) {
        snprintf(reply, capacity, "that key is not in %s", wv_peers_file_path(id->peers));
        return -ENOENT;
    }
    r = take_grants(&name, &peer, reply, capacity);
    if (r < 0)
        return r;
    if (must_be_known && !name[strspn(name, " \t")])
        name = peer.name;
    r = wv_peers_file_add(id->peers, key, name, peer.grants, peer.expires);
    if (r < 0)
        return explain(r, id->peers, reply, capacity);
    const struct wv_peer *stored = wv_peers_find(wv_peers_file_list(id->peers), key);
    rift_public_key_format(key, key_text);
    wv_grants_format(peer.grants, grants);
    if (peer.expires)
        wv_expiry_format(peer.expires, until);
    snprintf(reply, capacity, "%s may connect, as \"%s\": %s%s%s", key_text,
             stored ? stored->name : "unnamed", grants, until[0] ? " until " : "", until);
    wv_notice("a key may connect from now on", "key=%s name=\"%s\" grants=%s expires=\"%s\"", key_text,
              stored ? stored->name : "", grants, until);
    wv_arbiter_check(id);
    return 0;
}

static int revoke_key(struct wv_identity *id, const char *text, char *reply, size_t capacity)
{
    uint8_t key[32];
    const char *rest;
    int r = take_key(text, key, &rest, reply, capacity);
    if (r < 0)
        return r;
    r = wv_peers_file_remove(id->peers, key);
    if (r == -ENOENT) {
        snprintf(reply, capacity, "that key is not in %s", wv_peers_file_path(id->peers));
        return r;
    }
    if (r < 0)
        return explain(r, id->peers, reply, capacity);
    wv_identity_key_gone(id, key);
    snprintf(reply, capacity, "the key may no longer connect; its sessions were closed");
    return 0;
}

static int list(struct wv_identity *id, char *reply, size_t capacity)
{
    const struct wv_peers *peers = wv_peers_file_list(id->peers);
    size_t n = wv_peers_count(peers), used = 0;
    reply[0] = 0;
    for (size_t i = 0; i < n; i++) {
        const struct wv_peer *peer = wv_peers_at(peers, i);
        char key[RIFT_PUBLIC_KEY_TEXT_BYTES], grants[WV_GRANTS_TEXT_BYTES], until[WV_EXPIRY_TEXT_BYTES] = "";
        char line[320];
        rift_public_key_format(peer->key, key);
        wv_grants_format(peer->grants, grants);
        if (peer->expires)
            wv_expiry_format(peer->expires, until);
        int need = snprintf(line, sizeof line, "%s grants=%s %s%s%s%s\n", key, grants,
                            until[0] ? "expires=" : "", until, until[0] ? " " : "", peer->name);
        /* Room for the last line is kept back, so that a cut list says that it is one. */
        if (used + (size_t)need + 48 > capacity) {
            snprintf(reply + used, capacity - used, "... and %zu more in the file\n", n - i);
            return 0;
        }
        memcpy(reply + used, line, (size_t)need + 1);
        used += (size_t)need;
    }
    return 0;
}

static struct wv_live_session *find_session(struct wv_identity *id, const uint8_t key[32])
{
    for (size_t i = 0; i < WV_LIVE_MAX; i++) {
        struct wv_live_session *s = &id->live->sessions[i];
        if (s->number && !s->pairing && !memcmp(s->peer_key, key, 32))
            return s;
    }
    return NULL;
}

/* "none" or the KEY of a client that is connected. */
static int control(struct wv_identity *id, const char *text, char *reply, size_t capacity)
{
    uint8_t key[32];
    const char *rest;
    if (!strcmp(text, "none")) {
        (void)wv_live_control(id->live, 0);
        wv_notice("the administrator took control from everybody", "session=0");
        snprintf(reply, capacity, "nobody controls, until a client asks for it or a new one comes");
        return 0;
    }
    int r = take_key(text, key, &rest, reply, capacity);
    if (r < 0)
        return r;
    struct wv_live_session *s = find_session(id, key);
    if (!s) {
        snprintf(reply, capacity, "no client with that key is connected");
        return -ENOENT;
    }
    if (wv_live_control(id->live, s->number) != 0) {
        snprintf(reply, capacity, "%s may not control: it %s", s->name,
                 s->view_only ? "connected to watch only" : "has no grant for input");
        return -EPERM;
    }
    wv_notice("the administrator gave control to a session", "session=%u name=\"%s\"", s->number, s->name);
    snprintf(reply, capacity, "%s controls", s->name);
    return 0;
}

static int answer(struct wv_identity *id, const char *verb, const char *text, uint64_t now, char *reply,
                  size_t capacity)
{
    if (!strcmp(verb, "authorize"))
        return grant(id, text, false, reply, capacity);
    if (!strcmp(verb, "grant"))
        return grant(id, text, true, reply, capacity);
    if (!strcmp(verb, "revoke"))
        return revoke_key(id, text, reply, capacity);
    if (!strcmp(verb, "peers"))
        return list(id, reply, capacity);
    if (!strcmp(verb, "control"))
        return control(id, text, reply, capacity);
    if (!strcmp(verb, "pair") || !strcmp(verb, "pair-status") || !strcmp(verb, "pair-cancel") ||
        !strcmp(verb, "pair-reopen"))
        return wv_pairs_request(id, verb, text, now, reply, capacity);
    if (!strncmp(verb, "gateway", 7))
        return wv_reach_request(id, verb, text, reply, capacity);
    if (!strcmp(verb, "key")) {
        snprintf(reply, capacity, "%s", id->key_text);
        return 0;
    }
    snprintf(reply, capacity,
             "identity knows authorize, grant, revoke, peers, control, pair, gateway and key, not \"%s\"",
             verb);
    return -EOPNOTSUPP;
}

int wv_identity_request(struct wv_identity *id, const char *verb, const char *text, uint64_t now,
                        char *ret_reply, size_t capacity)
{
    wv_identity_refresh(id);
    int r = answer(id, verb, text, now, ret_reply, capacity);
    wv_metric_set(id->metrics, WV_IDENTITY_PEERS, wv_peers_count(wv_peers_file_list(id->peers)));
    wv_arbiter_sync(id, now);
    return r;
}
