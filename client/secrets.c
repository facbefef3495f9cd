/* The inner channel of a session: what is between us and the host's key holder alone. Must never act on a
 * word of it that did not authenticate, nor wait for a key or an answer without an end. */
#include "client/client_private.h"
#include "client/control.h"
#include "client/inner.h"

#include <errno.h>
#include <sodium.h>
#include <string.h>

#define PAIR_ANSWER_NS (10 * WV_NS_PER_S)

int client_derive_secrets(struct wv_client *c, struct rift_session_config *config)
{
    uint8_t base[32];
    int r = rift_initiator_inner(c->initiator, base, c->candidate_secrets.hash);
    if (r != 0)
        return -EPROTO;
    rift_inner_derive(base, false, &c->candidate_secrets.inner, config->input_key);
    sodium_memzero(base, sizeof base);
    return 0;
}

void client_wipe_secrets(struct wv_client *c)
{
    sodium_memzero(&c->secrets, sizeof c->secrets);
    sodium_memzero(&c->candidate_secrets, sizeof c->candidate_secrets);
    sodium_memzero(c->pair_secret, sizeof c->pair_secret);
    wv_pairing_wipe(&c->pairing);
}

/* Seals and queues an InnerToHost. Returns 0, RIFT_SESSION_FULL or a negative errno. */
static int send_inner(struct wv_client *c, const uint8_t *plain, int len, uint64_t now)
{
    uint8_t sealed[512 + RIFT_INNER_OVERHEAD], message[sizeof sealed + 16];
    size_t sealed_len;
    if (len < 0)
        return len;
    int r = rift_inner_seal(&c->secrets.inner, plain, (size_t)len, sealed, sizeof sealed, &sealed_len);
    if (r < 0)
        return r;
    len = wv_inner_pack_control(sealed, sealed_len, message, sizeof message);
    return len < 0 ? len : rift_session_send_control(c->session, message, (size_t)len, now);
}

/* ---- pairing ---- */

void client_end_pairing(struct wv_client *c, enum wv_client_pair_outcome outcome, uint32_t tries_left,
                        const char *reason)
{
    uint8_t key[32];
    memcpy(key, c->secrets.host_key, sizeof key);
    wv_pairing_wipe(&c->pairing);
    wv_client_close(c);
    if (c->call.paired)
        c->call.paired(c->userdata, outcome, key, tries_left, reason);
}

static void start_pairing(struct wv_client *c, uint64_t now)
{
    uint8_t plain[256];
    const struct wv_pairing_bond bond = {
        .handshake_hash = c->secrets.hash, .client_key = c->identity.public, .host_key = c->secrets.host_key};
    int len = wv_pairing_start(&c->pairing, c->pair_secret, c->pair_secret_len, c->pair_token, c->pair_name,
                               &bond, plain, sizeof plain);
    c->pair_until = now + PAIR_ANSWER_NS;
    if (send_inner(c, plain, len, now) != 0)
        client_end_pairing(c, WV_CLIENT_PAIR_LOST, 0, "");
}

static void take_share(struct wv_client *c, const struct wv_inner_message *m, uint64_t now)
{
    uint8_t plain[256];
    int len = wv_pairing_share(&c->pairing, m->share, plain, sizeof plain);
    if (len == -EPROTO)
        c->control_errors++;
    else if (len < 0)
        client_end_pairing(c, WV_CLIENT_PAIR_UNPROVEN, 0, "");
    else if (send_inner(c, plain, len, now) != 0)
        client_end_pairing(c, WV_CLIENT_PAIR_LOST, 0, "");
}

static void take_result(struct wv_client *c, const struct wv_inner_message *m)
{
    if (!m->result.paired) {
        client_end_pairing(c, WV_CLIENT_PAIR_WRONG, m->result.tries_left, m->result.reason);
        return;
    }
    int r = wv_pairing_result(&c->pairing, m->result.tag);
    if (r == -EPROTO)
        c->control_errors++;
    else
        client_end_pairing(c, r == 0 ? WV_CLIENT_PAIRED : WV_CLIENT_PAIR_UNPROVEN, 0, m->result.reason);
}

/* ---- the cursor's shape ---- */

/* Opens and hands out a shape. Returns 0, WV_FRAMES_NONE (its key may still come) or -EBADMSG. */
static int show_cursor(struct wv_client *c, uint32_t kid, const uint8_t *nonce, const uint8_t *sealed,
                       size_t len)
{
    struct wv_control m = {0};
    uint8_t *plain = malloc(len);
    if (!plain)
        return -ENOMEM;
    int r = wv_frames_open_cursor(c->frames, kid, nonce, sealed, len, plain);
    if (r == 0)
        r = wv_control_parse_cursor(plain, len - WV_CURSOR_TAG_BYTES, &m);
    if (r == 0)
        client_on_cursor_image(c, &m);
    wv_control_fini(&m);
    free(plain);
    return r;
}

static void forget_cursor(struct wv_client *c)
{
    free(c->cursor);
    c->cursor = NULL;
}

void client_on_sealed_cursor(struct wv_client *c, const struct wv_control *m)
{
    forget_cursor(c); /* a newer one is all that counts */
    int r = show_cursor(c, m->sealed.kid, m->sealed.nonce, m->sealed.data, m->sealed.len);
    if (r < 0)
        c->control_errors++;
    if (r != WV_FRAMES_NONE || !(c->cursor = malloc(m->sealed.len)))
        return;
    memcpy(c->cursor, m->sealed.data, m->sealed.len);
    memcpy(c->cursor_nonce, m->sealed.nonce, sizeof c->cursor_nonce);
    c->cursor_len = m->sealed.len;
    c->cursor_kid = m->sealed.kid;
}

/* ---- what identity says ---- */

static void take_media_key(struct wv_client *c, const struct wv_inner_message *m, uint64_t now)
{
    wv_frames_add_key(c->frames, m->media_key.kid, m->media_key.key);
    if (c->cursor) {
        int r = show_cursor(c, c->cursor_kid, c->cursor_nonce, c->cursor, c->cursor_len);
        if (r != WV_FRAMES_NONE)
            forget_cursor(c);
        if (r < 0)
            c->control_errors++;
    }
    client_take_frames(c, now);
}

static void take_standing(struct wv_client *c, const struct wv_inner_message *m)
{
    c->standing = m->standing;
    c->has_standing = true;
    if (c->call.standing)
        c->call.standing(c->userdata, &c->standing);
    if (!client_is_final(c))
        client_tell_hello(c);
}

void client_on_inner(struct wv_client *c, const uint8_t *sealed, size_t len, uint64_t now)
{
    uint8_t plain[WV_INNER_MAX_BYTES];
    size_t plain_len;
    struct wv_inner_message m = {0};
    if (rift_inner_open(&c->secrets.inner, sealed, len, plain, sizeof plain, &plain_len) < 0 ||
        wv_inner_parse(plain, plain_len, &m) < 0) {
        c->control_errors++;
    } else if (c->pairs) {
        if (m.kind == WV_INNER_PAIR_SHARE)
            take_share(c, &m, now);
        else if (m.kind == WV_INNER_PAIR_RESULT)
            take_result(c, &m);
    } else if (m.kind == WV_INNER_MEDIA_KEY) {
        take_media_key(c, &m, now);
    } else if (m.kind == WV_INNER_STANDING) {
        take_standing(c, &m);
    }
    sodium_memzero(plain, sizeof plain);
    sodium_memzero(&m, sizeof m);
}

void client_begin_secrets(struct wv_client *c)
{
    c->secrets = c->candidate_secrets;
    sodium_memzero(&c->candidate_secrets, sizeof c->candidate_secrets);
    wv_frames_reset(c->frames);
    forget_cursor(c);
    c->has_standing = c->has_hello = false;
    c->standing = (struct wv_client_standing){0};
    if (c->pairing.step != WV_PAIRING_NONE) /* every run costs a try: none is begun again by itself */
        client_end_pairing(c, WV_CLIENT_PAIR_LOST, 0, "");
}

uint64_t client_secrets_timeout(const struct wv_client *c)
{
    uint64_t at = wv_frames_timeout(c->frames);
    return c->pairing.step != WV_PAIRING_NONE ? WV_MIN(at, c->pair_until) : at;
}

void client_check_secrets(struct wv_client *c, uint64_t now)
{
    if (c->pairs && c->session && c->pairing.step == WV_PAIRING_NONE)
        start_pairing(c, now);
    else if (c->pairing.step != WV_PAIRING_NONE && now >= c->pair_until)
        client_end_pairing(c, WV_CLIENT_PAIR_LOST, 0, "");
    else if (c->session && now >= wv_frames_timeout(c->frames))
        client_take_frames(c, now);
}

int wv_client_take_control(struct wv_client *c, bool release)
{
    uint8_t plain[64];
    if (!c->session || c->view_only || c->pairs || client_is_final(c))
        return -ENOTCONN;
    if (!(c->standing.grants & WV_CLIENT_GRANT_INPUT))
        return -EPERM;
    int r = send_inner(c, plain, wv_inner_pack_take_control(release, plain, sizeof plain), wv_now_ns());
    return r > 0 ? 1 : r;
}
