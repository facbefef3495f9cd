/* Pairing, between the state machine (pairing.h), the disk and the clients. Must never answer a run that is
 * not counted on disk, or tell a client that it is paired before its key is stored. */
#include "services/identity/internal.h"

#include "lib/base/log.h"
#include "lib/base/util.h"

#include <errno.h>
#include <inttypes.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>

int wv_pairs_open(struct wv_identity *id, const char *state_dir, char reason[WV_IDENTITY_REASON_BYTES])
{
    wv_cleanup(wv_free_p) uint8_t *state = NULL;
    size_t len = 0;
    bool damaged = false;
    if (asprintf(&id->pairing_path, "%s/pairing", state_dir) < 0) {
        id->pairing_path = NULL;
        snprintf(reason, WV_IDENTITY_REASON_BYTES, "no memory");
        return -ENOMEM;
    }
    int r = wv_read_file(id->pairing_path, WV_PAIRING_STATE_BYTES, &state, &len);
    /* What can't be read is as good as damaged: the count is unknown. */
    const char *text = r == -ENOENT ? NULL : r < 0 ? "" : (const char *)state;
    r = wv_pairing_new(&id->pairing, text, r < 0 ? 0 : len, &damaged);
    if (r < 0)
        snprintf(reason, WV_IDENTITY_REASON_BYTES, "no memory");
    if (damaged)
        wv_warning("the count of failed pairings can't be read, so pairing is closed: wavryctl pair --reopen",
                   "file=%s", id->pairing_path);
    return r;
}

int wv_pairs_save(struct wv_identity *id)
{
    char state[WV_PAIRING_STATE_BYTES];
    size_t len = wv_pairing_format(id->pairing, state);
    int r = wv_write_file_atomic(id->pairing_path, state, len, 0600);
    wv_metric_set(id->metrics, WV_IDENTITY_PAIRING_FAILURES, wv_pairing_failures(id->pairing));
    if (r < 0)
        wv_error("the count of failed pairings can't be stored", "file=%s error=\"%s\"", id->pairing_path,
                 strerror(-r));
    return r;
}

/* ---- with the client ---- */

static void send_result(struct wv_identity *id, struct wv_live_session *s, const uint8_t *tag,
                        const char *reason)
{
    uint8_t copy[RIFT_CPACE_TAG_BYTES];
    Wavry__Rift__PairResult result = WAVRY__RIFT__PAIR_RESULT__INIT;
    Wavry__Rift__InnerToClient m = WAVRY__RIFT__INNER_TO_CLIENT__INIT;
    if (tag) {
        memcpy(copy, tag, sizeof copy);
        result.paired = true;
        result.tag = (ProtobufCBinaryData){.len = sizeof copy, .data = copy};
    }
    result.reason = (char *)(uintptr_t)reason;
    result.tries_left = wv_pairing_tries_left(id->pairing);
    m.kind_case = WAVRY__RIFT__INNER_TO_CLIENT__KIND_PAIR_RESULT;
    m.pair_result = &result;
    (void)wv_talk_send(id, s, &m);
}

static const char *explain(int result)
{
    switch (result) {
    case WV_PAIRING_CLOSED:
        return "too many pairings failed: on the host run wavryctl pair --reopen";
    case WV_PAIRING_NO_CODE:
        return "the host shows no code (any more): on the host run wavryctl pair";
    case WV_PAIRING_WRONG:
        return "the code is wrong";
    default:
        return "the host did not understand the pairing message";
    }
}

static void send_share(struct wv_identity *id, struct wv_live_session *s,
                       uint8_t share[RIFT_CPACE_SHARE_BYTES])
{
    Wavry__Rift__PairShare answer = WAVRY__RIFT__PAIR_SHARE__INIT;
    Wavry__Rift__InnerToClient m = WAVRY__RIFT__INNER_TO_CLIENT__INIT;
    answer.share = (ProtobufCBinaryData){.len = RIFT_CPACE_SHARE_BYTES, .data = share};
    m.kind_case = WAVRY__RIFT__INNER_TO_CLIENT__KIND_PAIR_SHARE;
    m.pair_share = &answer;
    (void)wv_talk_send(id, s, &m);
}

void wv_pairs_start(struct wv_identity *id, struct wv_live_session *s, const Wavry__Rift__PairStart *message,
                    uint64_t now)
{
    uint8_t share[RIFT_CPACE_SHARE_BYTES];
    char key[RIFT_PUBLIC_KEY_TEXT_BYTES];
    size_t name_len = strlen(message->name);
    const struct wv_pairing_start start = {.session = s->number,
                                           .client_key = s->peer_key,
                                           .host_key = id->key,
                                           .hash = s->hash,
                                           .share = message->share.data,
                                           .name = message->name,
                                           .token = message->token};
    wv_arbiter_key_text(s, key);
    bool shaped = message->share.len == RIFT_CPACE_SHARE_BYTES && name_len < WV_PAIRING_NAME_BYTES &&
                  wv_text_is_printable(message->name, name_len);
    int r = shaped ? wv_pairing_begin(id->pairing, &start, now, wv_identity_unix(id), share) : WV_PAIRING_BAD;
    if (r == 0 && wv_pairs_save(id) < 0) {
        wv_pairing_end(id->pairing, s->number);
        send_result(id, s, NULL, "the host can't write to its disk, so it pairs with nobody");
        return;
    }
    if (r != 0) {
        wv_notice("a pairing was refused", "session=%u key=%s why=\"%s\"", s->number, key, explain(r));
        send_result(id, s, NULL, explain(r));
        return;
    }
    wv_metric_add(id->metrics, WV_IDENTITY_PAIRING_RUNS, 1);
    wv_notice("a pairing begins", "session=%u key=%s name=\"%s\" tries_left=%u", s->number, key,
              message->name, wv_pairing_tries_left(id->pairing));
    send_share(id, s, share);
}

/* The code is proven: the key gets what was offered. */
static void store(struct wv_identity *id, struct wv_live_session *s, struct wv_pairing_done *done)
{
    char key[RIFT_PUBLIC_KEY_TEXT_BYTES], grants[WV_GRANTS_TEXT_BYTES];
    const struct wv_pairing_offer *o = &done->offer;
    const char *name = o->name[0] ? o->name : s->device;
    wv_arbiter_key_text(s, key);
    wv_grants_format(o->grants, grants);
    int r = wv_peers_file_add(id->peers, s->peer_key, name, o->grants, o->expires);
    if (r == -EINVAL) /* a name that a line can't have */
        r = wv_peers_file_add(id->peers, s->peer_key, "", o->grants, o->expires);
    (void)wv_pairs_save(id); /* when it fails, a run too many counts */
    if (r < 0) {
        wv_error("a client proved the code, but its key can't be stored", "session=%u key=%s error=\"%s\"",
                 s->number, key, strerror(-r));
        send_result(id, s, NULL, "the host can't store this client's key; its log says why");
        return;
    }
    wv_metric_add(id->metrics, WV_IDENTITY_PAIRINGS, 1);
    wv_metric_set(id->metrics, WV_IDENTITY_PEERS, wv_peers_count(wv_peers_file_list(id->peers)));
    wv_notice("a client was paired", "session=%u key=%s name=\"%s\" grants=%s", s->number, key, name, grants);
    send_result(id, s, done->tag, "");
    wv_arbiter_check(id);
}

void wv_pairs_confirm(struct wv_identity *id, struct wv_live_session *s,
                      const Wavry__Rift__PairConfirm *message, uint64_t now)
{
    struct wv_pairing_done done;
    char key[RIFT_PUBLIC_KEY_TEXT_BYTES];
    int r = message->tag.len == RIFT_CPACE_TAG_BYTES
                ? wv_pairing_confirm(id->pairing, s->number, message->tag.data, now, &done)
                : WV_PAIRING_BAD;
    if (r == 0) {
        store(id, s, &done);
        sodium_memzero(&done, sizeof done);
        return;
    }
    wv_arbiter_key_text(s, key);
    wv_pairing_end(id->pairing, s->number);
    wv_warning("a pairing failed", "session=%u key=%s why=\"%s\" tries_left=%u failed_today=%u", s->number,
               key, explain(r), wv_pairing_tries_left(id->pairing), wv_pairing_failures(id->pairing));
    send_result(id, s, NULL, explain(r));
}

/* ---- with the administrator ---- */

static int say(char *reply, size_t capacity, int error, const char *text)
{
    snprintf(reply, capacity, "%s", text);
    return error;
}

/* Takes "WORD=VALUE" off TEXT. */
static bool take_word(const char **text, const char *word, const char **ret_value, size_t *ret_len)
{
    const char *at = *text + strspn(*text, " ");
    size_t len = strlen(word);
    if (strncmp(at, word, len) != 0 || at[len] != '=')
        return false;
    *ret_value = at + len + 1;
    *ret_len = strcspn(*ret_value, " ");
    *text = *ret_value + *ret_len;
    return true;
}

/* "[grants=LIST] [expires=TIME] [ttl=SECONDSs] [NAME]" */
static int parse_offer(const char *text, struct wv_pairing_offer *ret, uint64_t *ret_ttl, char *reply,
                       size_t capacity)
{
    struct wv_pairing_offer offer = {.grants = WV_GRANTS_USUAL};
    const char *value;
    size_t len;
    *ret_ttl = WV_PAIRING_TTL_S;
    if (take_word(&text, "grants", &value, &len) && wv_grants_parse(value, len, &offer.grants) < 0)
        return say(reply, capacity, -EINVAL, "the grants are some of: " WV_GRANTS_KNOWN_TEXT);
    if (take_word(&text, "expires", &value, &len) && wv_expiry_parse(value, len, &offer.expires) < 0)
        return say(reply, capacity, -EINVAL, "a time is written like this: 2026-12-01T12:00:00Z");
    if (take_word(&text, "ttl", &value, &len) &&
        wv_duration_parse(value, len, WV_PAIRING_TTL_MAX_S, ret_ttl) < 0)
        return say(reply, capacity, -EINVAL, "a code is valid for at most 10m: a number and s or m");
    text += strspn(text, " ");
    len = strlen(text);
    if (len >= sizeof offer.name || !wv_text_is_printable(text, len))
        return say(reply, capacity, -EINVAL, "a name is at most 63 bytes of printable text");
    memcpy(offer.name, text, len + 1);
    *ret = offer;
    return 0;
}

static int open_code(struct wv_identity *id, const char *text, uint64_t now, char *reply, size_t capacity)
{
    struct wv_pairing_offer offer;
    uint64_t ttl;
    uint8_t token[WV_PAIRING_TOKEN_BYTES];
    char code[WV_PAIRING_CODE_DIGITS + 1], grants[WV_GRANTS_TEXT_BYTES], token_text[32];
    int r = parse_offer(text, &offer, &ttl, reply, capacity);
    if (r < 0)
        return r;
    r = wv_pairing_open(id->pairing, &offer, ttl, now, wv_identity_unix(id), code, token);
    if (r != 0)
        return say(reply, capacity, -EACCES,
                   "pairing is closed: too many runs with a wrong code. If you know why: wavryctl pair "
                   "--reopen");
    sodium_bin2base64(token_text, sizeof token_text, token, sizeof token,
                      sodium_base64_VARIANT_URLSAFE_NO_PADDING);
    wv_grants_format(offer.grants, grants);
    snprintf(reply, capacity, "code %s\ntoken %s\nseconds %" PRIu64 "\nkey %s\ngrants %s\n", code, token_text,
             ttl, id->key_text, grants);
    sodium_memzero(code, sizeof code);
    sodium_memzero(token, sizeof token);
    sodium_memzero(token_text, sizeof token_text);
    wv_notice("a pairing code is shown", "seconds=%" PRIu64 " grants=%s", ttl, grants);
    return 0;
}

int wv_pairs_request(struct wv_identity *id, const char *verb, const char *text, uint64_t now, char *reply,
                     size_t capacity)
{
    if (!strcmp(verb, "pair"))
        return open_code(id, text, now, reply, capacity);
    if (!strcmp(verb, "pair-status")) {
        snprintf(reply, capacity, "open %d\ntries_left %u\nfailed %u\npaired %" PRIu64 "\n",
                 wv_pairing_is_open(id->pairing, now), wv_pairing_tries_left(id->pairing),
                 wv_pairing_failures(id->pairing), wv_metric_value(id->metrics, WV_IDENTITY_PAIRINGS));
        return 0;
    }
    if (!strcmp(verb, "pair-cancel")) {
        wv_pairing_cancel(id->pairing);
        wv_notice("the pairing code was taken back", "failed_today=%u", wv_pairing_failures(id->pairing));
        return say(reply, capacity, 0, "no code is valid now");
    }
    wv_pairing_reopen(id->pairing);
    if (wv_pairs_save(id) < 0)
        return say(reply, capacity, -EIO, "that can't be stored; the log of wavry-identity says why");
    wv_notice("pairing was opened again by the administrator", "failed_today=%u",
              wv_pairing_failures(id->pairing));
    return say(reply, capacity, 0, "pairing is open again: wavryctl pair shows a code");
}
