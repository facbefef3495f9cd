/* The identity stage's work: it owns the host key and the list of known keys, answers handshake questions of
 * transport, and changes the list when the administrator asks. Must never send or log a secret key other than
 * the traffic keys of a finished handshake to transport. */
#include "services/identity/identity.h"

#include "lib/base/log.h"
#include "lib/base/util.h"
#include "proto/bus_identity.pb-c.h"
#include "services/identity/handshakes.h"
#include "services/identity/keyfile.h"
#include "services/identity/peers_file.h"

#include <errno.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>
#include <sys/inotify.h>

#define REASON_BYTES WV_IDENTITY_REASON_BYTES

struct wv_identity {
    char key_text[RIFT_PUBLIC_KEY_TEXT_BYTES];
    struct wv_handshakes *handshakes;
    struct wv_peers_file *peers;
    struct wv_metrics *metrics;
    struct wv_bus_link *transport;
    struct wv_loop_source *watch;
    int inotify_fd;
};

const struct wv_metric wv_identity_metrics[WV_IDENTITY_METRICS] = {
    [WV_IDENTITY_QUESTIONS] = {"questions_total", "messages", WV_METRIC_COUNTER,
                               "Handshake messages that transport asked about."},
    [WV_IDENTITY_DONE] = {"handshakes_done_total", "handshakes", WV_METRIC_COUNTER,
                          "Handshakes in which a client proved its key."},
    [WV_IDENTITY_UNKNOWN_KEY] = {"handshakes_unknown_key_total", "handshakes", WV_METRIC_COUNTER,
                                 "Finished handshakes of keys that are not in the list."},
    [WV_IDENTITY_REFUSED] = {"handshakes_refused_total", "handshakes", WV_METRIC_COUNTER,
                             "Handshakes refused: forged, malformed, forgotten, or too many at once."},
    [WV_IDENTITY_UNSENT] = {"answers_unsent_total", "messages", WV_METRIC_COUNTER,
                            "Messages that could not be handed to transport."},
    [WV_IDENTITY_PENDING] = {"handshakes_pending", "handshakes", WV_METRIC_GAUGE, "Handshakes half-way."},
    [WV_IDENTITY_PEERS] = {"known_keys", "keys", WV_METRIC_GAUGE, "Keys in the list of known keys."},
    [WV_IDENTITY_RELOADS] = {"peers_reloads_total", "reloads", WV_METRIC_COUNTER,
                             "Times that the list of known keys was looked at because its folder changed."},
    [WV_IDENTITY_NOISE_US] = {"noise_us", "us", WV_METRIC_HISTOGRAM, "Time to answer one handshake message."},
};

static void send_to_transport(struct wv_identity *id, const ProtobufCMessage *message)
{
    if (wv_bus_send(id->transport, message) == WV_BUS_UNSENT)
        wv_metric_add(id->metrics, WV_IDENTITY_UNSENT, 1);
}

static void key_gone(void *userdata, const uint8_t key[32])
{
    struct wv_identity *id = userdata;
    char text[RIFT_PUBLIC_KEY_TEXT_BYTES];
    uint8_t copy[32];
    memcpy(copy, key, sizeof copy);
    Wavry__Bus__KeyRevoked message = WAVRY__BUS__KEY_REVOKED__INIT;
    message.peer_key = (ProtobufCBinaryData){.len = sizeof copy, .data = copy};
    send_to_transport(id, &message.base);
    rift_public_key_format(key, text);
    wv_notice("a key may no longer connect", "key=%s", text);
}

static void refresh_peers(struct wv_identity *id)
{
    char reason[REASON_BYTES];
    int r = wv_peers_file_refresh(id->peers, key_gone, id, reason, sizeof reason);
    if (r < 0)
        wv_error("nobody can connect: the list of known keys is of no use", "why=\"%s\"", reason);
    wv_metric_set(id->metrics, WV_IDENTITY_PEERS, wv_peers_count(wv_peers_file_list(id->peers)));
}

static void send_answer(struct wv_identity *id, uint64_t token, struct wv_handshake_reply *reply)
{
    Wavry__Bus__HandshakeAnswer message = WAVRY__BUS__HANDSHAKE_ANSWER__INIT;
    message.token = token;
    message.message = (ProtobufCBinaryData){.len = reply->message_len, .data = reply->message};
    send_to_transport(id, &message.base);
}

static void send_done(struct wv_identity *id, uint64_t token, struct wv_handshake_reply *reply)
{
    refresh_peers(id);
    const char *name = wv_peers_find(wv_peers_file_list(id->peers), reply->peer_key);
    char text[RIFT_PUBLIC_KEY_TEXT_BYTES], unknown[] = "", copy[WV_PEER_NAME_BYTES];
    Wavry__Bus__HandshakeDone message = WAVRY__BUS__HANDSHAKE_DONE__INIT;
    message.token = token;
    message.key_send = (ProtobufCBinaryData){.len = 32, .data = reply->key_send};
    message.key_receive = (ProtobufCBinaryData){.len = 32, .data = reply->key_receive};
    message.peer_key = (ProtobufCBinaryData){.len = 32, .data = reply->peer_key};
    message.payload = (ProtobufCBinaryData){.len = reply->payload_len, .data = reply->payload};
    message.authorized = name != NULL;
    message.name = unknown;
    if (name) {
        snprintf(copy, sizeof copy, "%s", name);
        message.name = copy;
    }
    send_to_transport(id, &message.base);
    wv_metric_add(id->metrics, WV_IDENTITY_DONE, 1);
    rift_public_key_format(reply->peer_key, text);
    if (name) {
        wv_info("a client has proven its key", "key=%s name=\"%s\"", text, name);
    } else {
        wv_metric_add(id->metrics, WV_IDENTITY_UNKNOWN_KEY, 1);
        wv_notice("a key that is not known wants to connect; to let it in: wavryctl authorize KEY NAME",
                  "key=%s", text);
    }
}

static void send_refused(struct wv_identity *id, uint64_t token, const char *reason)
{
    char copy[96];
    snprintf(copy, sizeof copy, "%s", reason);
    Wavry__Bus__HandshakeRefused message = WAVRY__BUS__HANDSHAKE_REFUSED__INIT;
    message.token = token;
    message.reason = copy;
    send_to_transport(id, &message.base);
    wv_metric_add(id->metrics, WV_IDENTITY_REFUSED, 1);
}

static int on_question(void *userdata, const ProtobufCMessage *base, uint64_t now)
{
    struct wv_identity *id = userdata;
    const Wavry__Bus__HandshakeQuestion *message = (const Wavry__Bus__HandshakeQuestion *)base;
    const struct wv_handshake_question question = {.token = message->token,
                                                   .initiator_id = message->initiator_id,
                                                   .local_id = message->local_id,
                                                   .step = message->step,
                                                   .message = message->message.data,
                                                   .len = message->message.len};
    struct wv_handshake_reply reply;
    wv_metric_add(id->metrics, WV_IDENTITY_QUESTIONS, 1);
    int r = wv_handshakes_ask(id->handshakes, &question, now, &reply);
    if (r == WV_HANDSHAKE_ANSWER)
        send_answer(id, question.token, &reply);
    else if (r == WV_HANDSHAKE_DONE)
        send_done(id, question.token, &reply);
    else if (r == WV_HANDSHAKE_REFUSED)
        send_refused(id, question.token, reply.reason);
    sodium_memzero(&reply, sizeof reply);
    wv_metric_set(id->metrics, WV_IDENTITY_PENDING, wv_handshakes_pending(id->handshakes));
    wv_metric_record(id->metrics, WV_IDENTITY_NOISE_US, (wv_now_ns() - now) / WV_NS_PER_US);
    return r < 0 ? r : 0;
}

/* Silence is consent: transport asks about sessions that it took over from its predecessor. */
static int on_key_question(void *userdata, const ProtobufCMessage *base, uint64_t now)
{
    struct wv_identity *id = userdata;
    const Wavry__Bus__KeyQuestion *message = (const Wavry__Bus__KeyQuestion *)base;
    if (message->peer_key.len != 32)
        return 0;
    refresh_peers(id);
    if (!wv_peers_find(wv_peers_file_list(id->peers), message->peer_key.data))
        key_gone(id, message->peer_key.data);
    return 0;
}

const struct wv_bus_rule wv_identity_rules[WV_IDENTITY_RULES] = {
    {"transport", &wavry__bus__handshake_question__descriptor, WV_PHASE_RUN, 500, 2048, on_question},
    {"transport", &wavry__bus__key_question__descriptor, WV_PHASE_RUN, 500, 64, on_key_question},
};

static int on_folder_changed(void *userdata, uint32_t events, uint64_t now)
{
    struct wv_identity *id = userdata;
    char buffer[4096] __attribute__((aligned(__alignof__(struct inotify_event))));
    while (read(id->inotify_fd, buffer, sizeof buffer) > 0)
        ;
    wv_metric_add(id->metrics, WV_IDENTITY_RELOADS, 1);
    refresh_peers(id);
    return 0;
}

static int open_files(struct wv_identity *id, const char *state_dir, char reason[REASON_BYTES])
{
    struct rift_identity identity;
    bool created;
    int r = wv_keyfile_open(state_dir, &identity, &created, reason);
    if (r == 0) {
        rift_public_key_format(identity.public, id->key_text);
        if (created)
            wv_notice("made a new identity for this host", "directory=%s key=%s", state_dir, id->key_text);
        r = wv_handshakes_new(&id->handshakes, identity.secret);
        rift_identity_wipe(&identity);
        snprintf(reason, REASON_BYTES, "no memory");
    }
    if (r == 0)
        r = wv_peers_file_open(&id->peers, state_dir, reason, REASON_BYTES);
    if (r < 0)
        wv_error("can't start", "why=\"%s\"", reason);
    return r;
}

/* A watch on the folder tells of every way to change the file: rename over it, write, removal. */
static int watch_folder(struct wv_identity *id, const char *state_dir)
{
    id->inotify_fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
    if (id->inotify_fd < 0)
        return -errno;
    uint32_t mask = IN_MOVED_TO | IN_MOVED_FROM | IN_CLOSE_WRITE | IN_DELETE | IN_ATTRIB;
    return inotify_add_watch(id->inotify_fd, state_dir, mask | IN_ONLYDIR) < 0 ? -errno : 0;
}

int wv_identity_new(struct wv_identity **ret, const char *state_dir, struct wv_metrics *metrics,
                    char ret_reason[REASON_BYTES])
{
    snprintf(ret_reason, REASON_BYTES, "the identity can't be opened");
    struct wv_identity *id = calloc(1, sizeof *id);
    if (!id)
        return -ENOMEM;
    id->metrics = metrics;
    id->inotify_fd = -1;
    int r = rift_crypto_init();
    if (r == 0)
        r = open_files(id, state_dir, ret_reason);
    /* Without a watch (the limit of the user is used up) the list is still looked at in every handshake. */
    if (r == 0 && watch_folder(id, state_dir) < 0)
        wv_warning("changes of the list of known keys are noticed only when a client connects",
                   "directory=%s why=\"no inotify watch\"", state_dir);
    if (r < 0) {
        wv_identity_free(id);
        return r;
    }
    wv_metric_set(metrics, WV_IDENTITY_PEERS, wv_peers_count(wv_peers_file_list(id->peers)));
    *ret = id;
    return 0;
}

struct wv_identity *wv_identity_free(struct wv_identity *id)
{
    if (!id)
        return NULL;
    if (id->watch)
        wv_loop_remove(id->watch);
    wv_close(id->inotify_fd);
    wv_handshakes_free(id->handshakes);
    wv_peers_file_close(id->peers);
    free(id);
    return NULL;
}

int wv_identity_start(struct wv_identity *id, struct wv_loop *loop, struct wv_bus_link *link)
{
    id->transport = link;
    if (id->inotify_fd < 0)
        return 0;
    return wv_loop_add_fd(loop, id->inotify_fd, EPOLLIN, on_folder_changed, id, &id->watch);
}

/* ---- requests of the administrator ---- */

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
    if (error == -EBADF)
        snprintf(reply, capacity,
                 "%s could not be read, so it is not changed; the log of wavry-identity says why", path);
    else if (error == -ENOSPC)
        snprintf(reply, capacity, "%s can't be written: %s, or it holds %d keys already", path,
                 strerror(ENOSPC), WV_PEERS_MAX);
    else
        snprintf(reply, capacity, "%s can't be written: %s", path, strerror(-error));
    return error;
}

static int authorize(struct wv_identity *id, const char *text, char *reply, size_t capacity)
{
    uint8_t key[32];
    const char *name;
    int r = take_key(text, key, &name, reply, capacity);
    if (r < 0)
        return r;
    r = wv_peers_file_add(id->peers, key, name);
    if (r == -EINVAL) {
        snprintf(reply, capacity, "a name is at most %d bytes of printable text", WV_PEER_NAME_BYTES - 1);
        return r;
    }
    if (r < 0)
        return explain(r, id->peers, reply, capacity);
    char key_text[RIFT_PUBLIC_KEY_TEXT_BYTES];
    const char *stored = wv_peers_find(wv_peers_file_list(id->peers), key);
    rift_public_key_format(key, key_text);
    snprintf(reply, capacity, "%s may connect, as \"%s\"", key_text, stored ? stored : "unnamed");
    wv_notice("a key may connect from now on", "key=%s name=\"%s\"", key_text, stored ? stored : "");
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
    key_gone(id, key);
    snprintf(reply, capacity, "the key may no longer connect; its sessions were closed");
    return 0;
}

static int list(struct wv_identity *id, char *reply, size_t capacity)
{
    const struct wv_peers *peers = wv_peers_file_list(id->peers);
    size_t n = wv_peers_count(peers), used = 0;
    reply[0] = 0;
    for (size_t i = 0; i < n; i++) {
        const char *name;
        char key_text[RIFT_PUBLIC_KEY_TEXT_BYTES];
        rift_public_key_format(wv_peers_key(peers, i, &name), key_text);
        size_t need = strlen(key_text) + 1 + strlen(name) + 1;
        /* Room for the last line is kept back, so that a cut list says that it is one. */
        if (used + need + 48 > capacity) {
            snprintf(reply + used, capacity - used, "... and %zu more in the file\n", n - i);
            return 0;
        }
        used += (size_t)snprintf(reply + used, capacity - used, "%s %s\n", key_text, name);
    }
    return 0;
}

int wv_identity_request(struct wv_identity *id, const char *verb, const char *text, char *ret_reply,
                        size_t capacity)
{
    refresh_peers(id);
    int r = -EOPNOTSUPP;
    if (!strcmp(verb, "authorize"))
        r = authorize(id, text, ret_reply, capacity);
    else if (!strcmp(verb, "revoke"))
        r = revoke_key(id, text, ret_reply, capacity);
    else if (!strcmp(verb, "peers"))
        r = list(id, ret_reply, capacity);
    else if (!strcmp(verb, "key"))
        r = snprintf(ret_reply, capacity, "%s", id->key_text) < 0 ? -EINVAL : 0;
    else
        snprintf(ret_reply, capacity, "identity knows authorize, revoke, peers and key, not \"%s\"", verb);
    wv_metric_set(id->metrics, WV_IDENTITY_PEERS, wv_peers_count(wv_peers_file_list(id->peers)));
    return r;
}
