/* The identity stage's work: it owns the host key and the list of known keys, answers handshake questions of
 * transport and hands out sessions. Must never send transport a secret other than the outer keys of a
 * finished handshake, or log one. */
#include "services/identity/internal.h"

#include "lib/base/log.h"
#include "lib/base/util.h"
#include "services/identity/live_page.h"

#include <errno.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>
#include <sys/inotify.h>
#include <time.h>

#define REASON_BYTES WV_IDENTITY_REASON_BYTES

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
                            "Messages that could not be handed to another stage."},
    [WV_IDENTITY_PENDING] = {"handshakes_pending", "handshakes", WV_METRIC_GAUGE, "Handshakes half-way."},
    [WV_IDENTITY_PEERS] = {"known_keys", "keys", WV_METRIC_GAUGE, "Keys in the list of known keys."},
    [WV_IDENTITY_RELOADS] = {"peers_reloads_total", "reloads", WV_METRIC_COUNTER,
                             "Times that the list of known keys was looked at because its folder changed."},
    [WV_IDENTITY_SESSIONS] = {"sessions", "sessions", WV_METRIC_GAUGE,
                              "Sessions that identity knows, those that may only pair included."},
    [WV_IDENTITY_MEDIA_KEYS] = {"media_keys_total", "keys", WV_METRIC_COUNTER,
                                "Media keys made: one for each encoder process and each viewer that left."},
    [WV_IDENTITY_INNER] = {"inner_messages_total", "messages", WV_METRIC_COUNTER,
                           "Sealed messages of clients."},
    [WV_IDENTITY_INNER_BAD] =
        {"inner_messages_bad_total", "messages", WV_METRIC_COUNTER,
         "Sealed messages that did not open or make sense: forged, repeated, malformed."},
    [WV_IDENTITY_PAIRINGS] = {"pairings_total", "clients", WV_METRIC_COUNTER,
                              "Clients that proved a pairing code."},
    [WV_IDENTITY_PAIRING_RUNS] = {"pairing_runs_total", "runs", WV_METRIC_COUNTER,
                                  "Attempts to prove a pairing code."},
    [WV_IDENTITY_PAIRING_FAILURES] = {"pairing_failures", "runs", WV_METRIC_GAUGE,
                                      "Failed attempts of the last day; at 10 pairing is closed."},
    [WV_IDENTITY_SIGNALS] = {"signals_total", "messages", WV_METRIC_COUNTER,
                             "Sealed messages that came through a gateway."},
    [WV_IDENTITY_SIGNALS_BAD] =
        {"signals_bad_total", "messages", WV_METRIC_COUNTER,
         "Those that were of nobody known, did not open, were repeated or made no sense."},
    [WV_IDENTITY_OFFERS] = {"offers_total", "offers", WV_METRIC_COUNTER,
                            "Clients that asked for a way to this host through a gateway and got an answer."},
    [WV_IDENTITY_NOISE_US] = {"noise_us", "us", WV_METRIC_HISTOGRAM, "Time to answer one handshake message."},
};

bool wv_identity_send(struct wv_identity *id, enum wv_identity_to to, const ProtobufCMessage *message)
{
    if (!id->world.send || id->world.send(id->world.userdata, to, message) == WV_BUS_UNSENT) {
        wv_metric_add(id->metrics, WV_IDENTITY_UNSENT, 1);
        return false;
    }
    return true;
}

uint64_t wv_identity_unix(struct wv_identity *id)
{
    return id->world.unix_s ? id->world.unix_s(id->world.userdata) : (uint64_t)time(NULL);
}

static void say_gone(void *userdata, const uint8_t key[32])
{
    struct wv_identity *id = userdata;
    char text[RIFT_PUBLIC_KEY_TEXT_BYTES];
    uint8_t copy[32];
    memcpy(copy, key, sizeof copy);
    Wavry__Bus__KeyRevoked message = WAVRY__BUS__KEY_REVOKED__INIT;
    message.peer_key = (ProtobufCBinaryData){.len = sizeof copy, .data = copy};
    (void)wv_identity_send(id, WV_TO_TRANSPORT, &message.base);
    rift_public_key_format(key, text);
    wv_notice("a key may no longer connect", "key=%s", text);
}

void wv_identity_key_gone(struct wv_identity *id, const uint8_t key[32])
{
    wv_arbiter_check(id);
    say_gone(id, key);
}

void wv_identity_refresh(struct wv_identity *id)
{
    char reason[REASON_BYTES];
    int r = wv_peers_file_refresh(id->peers, say_gone, id, reason, sizeof reason);
    if (r < 0)
        wv_error("nobody can connect: the list of known keys is of no use", "why=\"%s\"", reason);
    wv_metric_set(id->metrics, WV_IDENTITY_PEERS, wv_peers_count(wv_peers_file_list(id->peers)));
    wv_arbiter_check(id);
}

static void send_answer(struct wv_identity *id, uint64_t token, struct wv_handshake_reply *reply)
{
    Wavry__Bus__HandshakeAnswer message = WAVRY__BUS__HANDSHAKE_ANSWER__INIT;
    message.token = token;
    message.message = (ProtobufCBinaryData){.len = reply->message_len, .data = reply->message};
    (void)wv_identity_send(id, WV_TO_TRANSPORT, &message.base);
}

/* The client has proven its key: what may it do? Returns the number of its session. */
static uint32_t admit(struct wv_identity *id, const struct wv_handshake_reply *reply,
                      const struct wv_peer *peer, bool pairing, uint64_t now)
{
    struct wv_live_session *s;
    const struct wv_live_new new = {.peer_key = reply->peer_key,
                                    .inner_base = reply->inner_base,
                                    .hash = reply->hash,
                                    .name = peer ? peer->name : "",
                                    .device = reply->device,
                                    .grants = peer ? peer->grants : 0,
                                    .expires = peer ? peer->expires : 0,
                                    .view_only = reply->view_only,
                                    .pairing = pairing};
    if ((!peer && !pairing) || wv_live_add(id->live, &new, now, &s) != 0)
        return 0;
    return s->number;
}

static void note_admission(const struct wv_handshake_reply *reply, const struct wv_peer *peer,
                           uint32_t number, const char *address)
{
    char key[RIFT_PUBLIC_KEY_TEXT_BYTES], grants[WV_GRANTS_TEXT_BYTES];
    rift_public_key_format(reply->peer_key, key);
    wv_grants_format(peer ? peer->grants : 0, grants);
    if (number && peer)
        wv_notice("a client has connected", "session=%u key=%s name=\"%s\" grants=%s view_only=%d address=%s",
                  number, key, peer->name, grants, reply->view_only, address);
    else if (number)
        wv_notice("a client that is not known may try to pair", "session=%u key=%s device=\"%s\" address=%s",
                  number, key, reply->device, address);
    else
        wv_notice("a client was turned away: its key is not known, or its time is over (wavryctl pair)",
                  "key=%s device=\"%s\" address=%s", key, reply->device, address);
}

static void send_done(struct wv_identity *id, const Wavry__Bus__HandshakeQuestion *question,
                      struct wv_handshake_reply *reply, uint64_t now)
{
    wv_identity_refresh(id);
    const struct wv_peer *peer = wv_peers_find(wv_peers_file_list(id->peers), reply->peer_key);
    if (peer && peer->expires && wv_identity_unix(id) >= peer->expires)
        peer = NULL;
    bool pairing = !peer && wv_pairing_is_open(id->pairing, now);
    uint32_t number = admit(id, reply, peer, pairing, now);
    const char *address =
        wv_text_is_printable(question->address, strlen(question->address)) && strlen(question->address) < 64
            ? question->address
            : "?";
    char name[WV_PEER_NAME_BYTES] = "";
    Wavry__Bus__HandshakeDone message = WAVRY__BUS__HANDSHAKE_DONE__INIT;
    message.token = question->token;
    message.key_send = (ProtobufCBinaryData){.len = 32, .data = reply->key_send};
    message.key_receive = (ProtobufCBinaryData){.len = 32, .data = reply->key_receive};
    message.peer_key = (ProtobufCBinaryData){.len = 32, .data = reply->peer_key};
    message.payload = (ProtobufCBinaryData){.len = reply->payload_len, .data = reply->payload};
    message.authorized = number && peer;
    message.pairing = number && pairing;
    message.session = number ? number : wv_live_number(id->live);
    if (peer)
        snprintf(name, sizeof name, "%s", peer->name);
    message.name = name;
    (void)wv_identity_send(id, WV_TO_TRANSPORT, &message.base);
    wv_metric_add(id->metrics, WV_IDENTITY_DONE, 1);
    if (!peer)
        wv_metric_add(id->metrics, WV_IDENTITY_UNKNOWN_KEY, 1);
    note_admission(reply, peer, number, address);
    wv_arbiter_sync(id, now);
}

static void send_refused(struct wv_identity *id, uint64_t token, const char *reason, bool keep)
{
    char copy[96];
    snprintf(copy, sizeof copy, "%s", reason);
    Wavry__Bus__HandshakeRefused message = WAVRY__BUS__HANDSHAKE_REFUSED__INIT;
    message.token = token;
    message.reason = copy;
    message.keep = keep;
    (void)wv_identity_send(id, WV_TO_TRANSPORT, &message.base);
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
        send_done(id, message, &reply, now);
    else if (r == WV_HANDSHAKE_REFUSED)
        send_refused(id, question.token, reply.reason, reply.keep);
    sodium_memzero(&reply, sizeof reply);
    wv_metric_set(id->metrics, WV_IDENTITY_PENDING, wv_handshakes_pending(id->handshakes));
    wv_metric_record(id->metrics, WV_IDENTITY_NOISE_US, (wv_now_ns() - now) / WV_NS_PER_US);
    return r < 0 ? r : 0;
}

const struct wv_bus_rule wv_identity_rules[WV_IDENTITY_RULES] = {
    {"transport", &wavry__bus__handshake_question__descriptor, WV_PHASE_RUN, 500, 2048, on_question},
    {"transport", &wavry__bus__first_key_question__descriptor, WV_PHASE_RUN, 100, 16,
     wv_arbiter_on_first_key_question},
    {"transport", &wavry__bus__sessions_alive__descriptor, WV_PHASE_RUN, 200, 16384,
     wv_arbiter_on_sessions_alive},
    {"transport", &wavry__bus__inner_message__descriptor, WV_PHASE_RUN, 500, 4096, wv_talk_on_inner},
    {"encoder", &wavry__bus__media_key_question__descriptor, WV_PHASE_RUN, 100, 16,
     wv_arbiter_on_media_key_question},
    {"capture", &wavry__bus__cursor_key_question__descriptor, WV_PHASE_RUN, 100, 16,
     wv_arbiter_on_cursor_key_question},
    {"input", &wavry__bus__controller_question__descriptor, WV_PHASE_RUN, 100, 16,
     wv_arbiter_on_controller_question},
    {"reach", &wavry__bus__gateway_question__descriptor, WV_PHASE_RUN, 100, 16, wv_reach_on_question},
    {"reach", &wavry__bus__gateway_challenge__descriptor, WV_PHASE_RUN, 10, 512, wv_reach_on_challenge},
    {"reach", &wavry__bus__local_candidates__descriptor, WV_PHASE_RUN, 50, 1024, wv_reach_on_candidates},
    {"reach", &wavry__bus__sealed_signal__descriptor, WV_PHASE_RUN, 50, 8192, wv_reach_on_signal},
    {"transport", &wavry__bus__path_answer__descriptor, WV_PHASE_RUN, 100, 2048, wv_reach_on_path_answer},
};

static int on_folder_changed(void *userdata, uint32_t events, uint64_t now)
{
    struct wv_identity *id = userdata;
    char buffer[4096] __attribute__((aligned(__alignof__(struct inotify_event))));
    while (read(id->inotify_fd, buffer, sizeof buffer) > 0)
        ;
    wv_metric_add(id->metrics, WV_IDENTITY_RELOADS, 1);
    wv_identity_refresh(id);
    wv_arbiter_sync(id, now);
    return 0;
}

static int open_files(struct wv_identity *id, const char *state_dir, char reason[REASON_BYTES])
{
    struct rift_identity identity;
    bool created;
    int r = wv_keyfile_open(state_dir, &identity, &created, reason);
    if (r == 0) {
        rift_public_key_format(identity.public, id->key_text);
        memcpy(id->key, identity.public, sizeof id->key);
        if (created)
            wv_notice("made a new identity for this host", "directory=%s key=%s", state_dir, id->key_text);
        r = wv_handshakes_new(&id->handshakes, identity.secret);
        snprintf(reason, REASON_BYTES, "no memory");
        if (r == 0)
            r = wv_reach_open(id, &identity, state_dir, reason);
        rift_identity_wipe(&identity);
    }
    if (r == 0)
        r = wv_peers_file_open(&id->peers, state_dir, reason, REASON_BYTES);
    if (r == 0)
        r = wv_pairs_open(id, state_dir, reason);
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

/* What a predecessor left is gone on with; without it every session that transport has is unknown. */
static int open_page(struct wv_identity *id, int page_fd, uint64_t now, char reason[REASON_BYTES])
{
    bool taken = false;
    int r = wv_live_page_map(&id->live, page_fd, now, &taken);
    if (r < 0) {
        snprintf(reason, REASON_BYTES, "the page of sessions can't be used: %s", strerror(-r));
        wv_error("can't start", "why=\"%s\"", reason);
        return r;
    }
    if (taken)
        wv_notice("sessions were taken over", "sessions=%zu", wv_live_count(id->live));
    else
        wv_live_rekey(id->live, now);
    id->encoder_kid = taken ? id->live->kid : 0; /* sent by the predecessor, or else a new one is due */
    id->transport_has = id->live->controller;
    return 0;
}

int wv_identity_new(struct wv_identity **ret, const char *state_dir, int page_fd, struct wv_metrics *metrics,
                    uint64_t now, char ret_reason[REASON_BYTES])
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
    if (r == 0)
        r = open_page(id, page_fd, now, ret_reason);
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
    if (id->timer)
        wv_loop_remove(id->timer);
    wv_close(id->inotify_fd);
    wv_handshakes_free(id->handshakes);
    wv_reach_close(id);
    wv_peers_file_close(id->peers);
    wv_pairing_free(id->pairing);
    wv_live_page_unmap(id->live);
    free(id->pairing_path);
    free(id);
    return NULL;
}

static int on_timer(void *userdata, uint64_t now)
{
    (void)wv_identity_tick(userdata, now);
    return 0;
}

int wv_identity_start(struct wv_identity *id, struct wv_loop *loop, const struct wv_identity_world *world,
                      uint64_t now)
{
    int r = 0;
    id->world = *world;
    if (loop && id->inotify_fd >= 0)
        r = wv_loop_add_fd(loop, id->inotify_fd, EPOLLIN, on_folder_changed, id, &id->watch);
    if (loop && r == 0)
        r = wv_loop_add_timer(loop, on_timer, id, &id->timer);
    if (r < 0)
        return r;
    wv_arbiter_check(id); /* who was revoked while nobody was here */
    (void)wv_identity_tick(id, now);
    return 0;
}
