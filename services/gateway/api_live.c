/* Relays, leases and sessions over the HTTP API. */
#include "services/gateway/api.h"

#include "lib/base/util.h"
#include "rift/crypto/identity.h"
#include "services/gateway/live.h"
#include "services/gateway/routes.h"

#include <errno.h>
#include <sodium.h>
#include <string.h>

/* ---- relays ---- */

struct relay_list {
    json_t *relays;
    uint64_t now;
};

static void add_relay(void *userdata, const struct wv_relay *relay)
{
    struct relay_list *list = userdata;
    char key[RIFT_SIGN_KEY_TEXT_BYTES];
    rift_sign_key_format(relay->record.key, key);
    json_array_append_new(
        list->relays, json_pack("{s:s, s:s, s:s, s:s, s:b, s:b, s:b, s:i, s:I, s:I}", "id", relay->record.id,
                                "key", key, "address", relay->record.address, "region", relay->record.region,
                                "usable", wv_relay_is_usable(relay, list->now), "drain", relay->record.drain,
                                "draining", relay->draining, "load", (int)relay->load, "leases",
                                (json_int_t)relay->leases, "heard", (json_int_t)relay->at));
}

static void get_relays_then(struct wv_request *q)
{
    struct wv_live *l = q->gateway->alive;
    struct relay_list list = {json_array(), wv_now_ns()};
    char issuer[RIFT_SIGN_KEY_TEXT_BYTES];
    rift_sign_key_format(l->leases.key, issuer);
    wv_relays_each(l->relays, add_relay, &list);
    wv_request_answer(q, 200, json_pack("{s:s, s:o}", "issuer", issuer, "relays", list.relays));
}

static void get_relays(struct wv_request *q)
{
    wv_request_run(q, WV_LANE_STORE, NULL, get_relays_then);
}

static bool is_address(const char *text)
{
    const char *colon = strrchr(text, ':');
    size_t digits = colon ? strspn(colon + 1, "0123456789") : 0;
    long port = digits > 0 && digits <= 5 && !colon[1 + digits] ? strtol(colon + 1, NULL, 10) : 0;
    return port > 0 && port <= 65535 && colon > text && strcspn(text, " /\"\\") == strlen(text);
}

static void put_relay_work(struct wv_request *q, struct wv_store *store)
{
    struct wv_relay_record record = {.created = q->now_s};
    const char *address = wv_json_text(q->body, "address", "");
    if (strlen(q->args[0]) > RIFT_HEARTBEAT_NAME_MAX)
        return wv_request_refuse(q, WV_REFUSE_BAD_NAME, NULL);
    if (rift_sign_key_parse(wv_json_text(q->body, "key", ""), record.key) < 0)
        return wv_request_refuse(q, WV_REFUSE_BAD_KEY, NULL);
    if (!is_address(address))
        return wv_request_refuse(q, WV_REFUSE_BAD_FIELD, "\"address\" must be HOST:PORT.");
    snprintf(record.id, sizeof record.id, "%.64s", q->args[0]);
    snprintf(record.address, sizeof record.address, "%s", address);
    snprintf(record.region, sizeof record.region, "%s", wv_json_text(q->body, "region", ""));
    int r = wv_store_put_relay(store, &record);
    if (r == 0)
        r = wv_request_audit(q, store, "relay registered", record.id);
    if (r < 0)
        wv_request_store_failed(q, store, r);
}

static void changed_then(struct wv_request *q)
{
    wv_live_read_relays(q->gateway->alive);
    wv_request_answer(q, 204, NULL);
}

static void put_relay(struct wv_request *q)
{
    wv_request_change(q, put_relay_work, changed_then);
}

static void delete_relay_work(struct wv_request *q, struct wv_store *store)
{
    int r = wv_store_remove_relay(store, q->args[0]);
    if (r == 0)
        r = wv_request_audit(q, store, "relay removed", q->args[0]);
    if (r < 0)
        wv_request_store_failed(q, store, r);
}

static void delete_relay(struct wv_request *q)
{
    wv_request_change(q, delete_relay_work, changed_then);
}

static void drain_relay_work(struct wv_request *q, struct wv_store *store)
{
    bool drain = wv_json_flag(q->body, "drain", true);
    int r = wv_store_drain_relay(store, q->args[0], drain);
    if (r == 0)
        r = wv_request_audit(q, store, drain ? "relay drained" : "relay undrained", q->args[0]);
    if (r < 0)
        wv_request_store_failed(q, store, r);
}

static void drain_relay(struct wv_request *q)
{
    wv_request_change(q, drain_relay_work, changed_then);
}

static void count_beat(struct wv_request *q, bool taken)
{
    wv_metric_add(q->gateway->metrics, taken ? WV_G_RELAY_BEATS : WV_G_RELAY_BEATS_REFUSED, 1);
}

static void refuse_beat(struct wv_request *q, enum wv_refusal why, const char *sentence)
{
    count_beat(q, false);
    wv_request_refuse(q, why, sentence);
}

/* No token: the relay's own key signs. */
static void heartbeat(struct wv_request *q)
{
    struct wv_live *l = q->gateway->alive;
    const struct wv_relay *relay = wv_relays_find(l->relays, q->args[0]);
    struct rift_heartbeat beat = {.relay = q->args[0],
                                  .unix_s = (uint64_t)wv_json_int(q->body, "at", 0),
                                  .load = (uint32_t)wv_json_int(q->body, "load", 0),
                                  .leases = (uint32_t)wv_json_int(q->body, "leases", 0),
                                  .draining = wv_json_flag(q->body, "draining", false)};
    uint8_t signature[RIFT_HEARTBEAT_SIGNATURE_BYTES];
    if (!relay)
        return refuse_beat(q, WV_REFUSE_NOT_FOUND, "This gateway knows no relay of that name.");
    if (wv_json_bytes(q->body, "signature", signature, sizeof signature) < 0 ||
        !rift_heartbeat_is_signed(&beat, signature, relay->record.key))
        return refuse_beat(q, WV_REFUSE_PROOF,
                           "The signature is not by that relay's key over this heartbeat.");
    switch (wv_relays_beat(l->relays, &beat, (uint64_t)q->now_s, wv_now_ns())) {
    case 0:
        break;
    case -ETIME:
        return refuse_beat(q, WV_REFUSE_CLOCK, NULL);
    default:
        return refuse_beat(q, WV_REFUSE_CONFLICT, "This heartbeat, or a later one, was heard before.");
    }
    wv_live_tell_beat(l, &beat, signature);
    count_beat(q, true);
    wv_request_answer(q, 204, NULL);
}

/* ---- leases ---- */

struct lease_wish {
    struct wv_lease_order order;
    uint8_t host[WV_STORE_KEY_BYTES];
};

/* The relay that LEASE names, when it can still be used. */
struct named {
    uint8_t relay[RIFT_RELAY_ID_BYTES];
    const struct wv_relay *found;
    uint64_t now;
};

static void look_for(void *userdata, const struct wv_relay *relay)
{
    struct named *n = userdata;
    uint8_t id[RIFT_RELAY_ID_BYTES];
    rift_relay_id(relay->record.id, id);
    if (!memcmp(id, n->relay, sizeof id) && wv_relay_is_usable(relay, n->now))
        n->found = relay;
}

static const struct wv_relay *relay_of_lease(struct wv_live *l, const char *text, uint64_t now)
{
    uint8_t bytes[RIFT_LEASE_BYTES];
    struct rift_lease lease;
    struct named n = {.now = now};
    if (rift_lease_parse_text(text, bytes) < 0 || rift_lease_parse(bytes, sizeof bytes, &lease) < 0)
        return NULL;
    memcpy(n.relay, lease.relay, sizeof n.relay);
    wv_relays_each(l->relays, look_for, &n);
    return n.found;
}

static void answer_lease(struct wv_request *q, const struct wv_relay *relay, const char *text,
                         uint64_t expires)
{
    char key[RIFT_SIGN_KEY_TEXT_BYTES];
    rift_sign_key_format(relay->record.key, key);
    wv_metric_add(q->gateway->metrics, WV_G_LEASES, 1);
    wv_request_answer(q, 200,
                      json_pack("{s:s, s:{s:s, s:s, s:s, s:s}, s:I}", "lease", text, "relay", "id",
                                relay->record.id, "address", relay->record.address, "region",
                                relay->record.region, "key", key, "expires", (json_int_t)expires));
}

/* On the loop's thread, the right to reach the host proven. What can't be renewed (its relay leaves, it is
 * over) becomes a new lease, so that a client has one way only. */
static void sign_lease(struct wv_request *q)
{
    struct wv_live *l = q->gateway->alive;
    struct lease_wish *wish = q->state;
    const char *old = wv_json_text(q->body, "lease", NULL);
    char text[RIFT_LEASE_TEXT_BYTES];
    uint64_t now = wv_now_ns(), expires;
    const struct wv_relay *relay = old ? relay_of_lease(l, old, now) : NULL;
    if (relay) {
        wish->order.relay = relay->record.id;
        int r = wv_leases_renew(&l->leases, old, &wish->order, (uint64_t)q->now_s, text, &expires);
        if (r == 0)
            return answer_lease(q, relay, text, expires);
        if (r == -EPERM)
            return wv_request_refuse(q, WV_REFUSE_NOT_ALLOWED,
                                     "That lease is not of this gateway, or not for these keys.");
    }
    relay = wv_relays_choose(l->relays, wv_json_text(q->body, "region", NULL), randombytes_random(), now);
    if (!relay) {
        q->retry_after_s = 5;
        return wv_request_refuse(q, WV_REFUSE_NO_RELAY, NULL);
    }
    wish->order.relay = relay->record.id;
    if (wv_leases_issue(&l->leases, &wish->order, (uint64_t)q->now_s, text, &expires) < 0)
        return wv_request_refuse(q, WV_REFUSE_BAD_KEY, "The two keys of a lease must differ.");
    answer_lease(q, relay, text, expires);
}

static void may_lease(struct wv_request *q, struct wv_store *store)
{
    struct lease_wish *wish = q->state;
    char grants[WV_STORE_TEXT_BYTES];
    int r = wv_store_may_reach(store, q->who.account, wish->host, grants);
    if (r == -ENOENT)
        return wv_request_refuse(q, WV_REFUSE_NOT_ALLOWED, "This machine may not reach that one.");
    if (r < 0)
        wv_request_store_failed(q, store, r);
}

static void post_lease(struct wv_request *q)
{
    struct lease_wish *wish = q->state = calloc(1, sizeof *wish);
    if (!wish)
        return wv_request_refuse(q, WV_REFUSE_BUSY, NULL);
    if (!wv_api_key(q, wv_json_text(q->body, "host", ""), wish->host))
        return;
    if (rift_sign_key_parse(wv_json_text(q->body, "host_relay_key", ""), wish->order.host_key) < 0 ||
        rift_sign_key_parse(wv_json_text(q->body, "client_relay_key", ""), wish->order.client_key) < 0)
        return wv_request_refuse(q, WV_REFUSE_BAD_KEY, NULL);
    wv_request_run(q, WV_LANE_STORE, may_lease, sign_lease);
}

/* ---- sessions ---- */

static void add_sessions(void *userdata, const struct wv_session_report *report)
{
    char host[RIFT_PUBLIC_KEY_TEXT_BYTES], peer[RIFT_PUBLIC_KEY_TEXT_BYTES];
    rift_public_key_format(report->host, host);
    for (size_t i = 0; i < report->n; i++) {
        const struct wv_session *s = &report->sessions[i];
        rift_public_key_format(s->peer, peer);
        json_array_append_new(userdata,
                              json_pack("{s:s, s:s, s:s, s:s, s:f, s:f}", "host", host, "name", report->name,
                                        "peer", peer, "path", s->relayed ? "relayed" : "direct", "rtt_ms",
                                        s->rtt_ms, "loss", s->loss));
    }
}

static void get_sessions_then(struct wv_request *q)
{
    json_t *list = json_array();
    wv_sessions_each(wv_signal_sessions(q->gateway->alive->signal), q->who.admin ? NULL : q->who.account,
                     add_sessions, list);
    wv_request_answer(q, 200, json_pack("{s:o}", "sessions", list));
}

static void get_sessions(struct wv_request *q)
{
    wv_request_run(q, WV_LANE_STORE, NULL, get_sessions_then);
}

/* ---- the table ---- */

static const struct wv_json_field
    relay_fields[] = {{"key", WV_JSON_TEXT, true, 51, 51},
                      {"address", WV_JSON_TEXT, true, 3, WV_STORE_TEXT_BYTES - 1},
                      {"region", WV_JSON_TEXT, true, 1, WV_STORE_NAME_BYTES - 1},
                      {0}},
    drain_fields[] = {{"drain", WV_JSON_FLAG, true, 0, 0}, {0}},
    beat_fields[] = {{"at", WV_JSON_INT, true, 0, INT64_MAX},      {"load", WV_JSON_INT, true, 0, 1000},
                     {"leases", WV_JSON_INT, true, 0, UINT32_MAX}, {"draining", WV_JSON_FLAG, true, 0, 0},
                     {"signature", WV_JSON_TEXT, true, 86, 86},    {0}},
    lease_fields[] = {{"host", WV_JSON_TEXT, true, 49, 49},
                      {"host_relay_key", WV_JSON_TEXT, true, 51, 51},
                      {"client_relay_key", WV_JSON_TEXT, true, 51, 51},
                      {"region", WV_JSON_TEXT, false, 1, WV_STORE_NAME_BYTES - 1},
                      {"lease", WV_JSON_TEXT, false, 1, RIFT_LEASE_TEXT_BYTES - 1},
                      {0}};

const struct wv_route wv_live_routes[] = {
    {.method = "GET", .path = "/v1/relays", .auth = WV_AUTH_ADMIN, .begin = get_relays},
    {.method = "PUT",
     .path = "/v1/relays/{id}",
     .auth = WV_AUTH_ADMIN,
     .fields = relay_fields,
     .begin = put_relay},
    {.method = "DELETE", .path = "/v1/relays/{id}", .auth = WV_AUTH_ADMIN, .begin = delete_relay},
    {.method = "POST",
     .path = "/v1/relays/{id}/drain",
     .auth = WV_AUTH_ADMIN,
     .fields = drain_fields,
     .begin = drain_relay},
    {.method = "POST",
     .path = "/v1/relays/{id}/heartbeat",
     .auth = WV_AUTH_NONE,
     .fields = beat_fields,
     .begin = heartbeat},
    {.method = "POST",
     .path = "/v1/leases",
     .auth = WV_AUTH_MACHINE,
     .fields = lease_fields,
     .begin = post_lease},
    {.method = "GET", .path = "/v1/sessions", .auth = WV_AUTH_ANY, .begin = get_sessions},
    {0},
};
