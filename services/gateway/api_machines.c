/* Hosts and devices of an account, and whom a host is shared with. */
#include "services/gateway/api.h"

#include "lib/base/util.h"
#include "rift/crypto/identity.h"
#include "rift/crypto/prove.h"
#include "rift/relay/lease.h"
#include "services/gateway/challenge.h"
#include "services/gateway/routes.h"

#include <errno.h>
#include <string.h>

#define LIST_MAX 1000 /* of one answer */

static json_t *machine_json(const struct wv_machine *m)
{
    char key[RIFT_PUBLIC_KEY_TEXT_BYTES];
    rift_public_key_format(m->key, key);
    json_t *o = json_pack("{s:s, s:s, s:I, s:I}", "key", key, "name", m->name, "created",
                          (json_int_t)m->created, "seen", (json_int_t)m->seen);
    if (m->is_host) {
        json_object_set_new(o, "shared", json_boolean(m->grants[0] != 0));
        if (m->grants[0])
            json_object_set_new(o, "grants", json_string(m->grants));
    }
    return o;
}

static bool is_hosts(const struct wv_request *q)
{
    return !strncmp(q->route->path, "/v1/hosts", 9);
}

/* ---- registering ---- */

/* Whoever knows a machine's key, and that is anybody who was told it, must not register it: he would keep its
 * owner from doing that, and pass for it in lists. False: refused, with a line in the log. */
static bool proves_key(struct wv_request *q, struct wv_store *store, const struct wv_machine *machine,
                       const uint8_t challenge[WV_CHALLENGE_BYTES])
{
    const struct wv_gateway *g = q->gateway;
    uint8_t proof[RIFT_PROVE_KEY_BYTES], secret[32], exchange[32];
    struct rift_prove_key what = {
        .challenge = challenge, .exchange = exchange, .key = machine->key, .sign_key = machine->sign_key};
    if (wv_json_bytes(q->body, "key_proof", proof, sizeof proof) < 0) {
        wv_request_refuse(q, WV_REFUSE_BAD_FIELD, "The proof of the key is unpadded URL-safe base64.");
        return false;
    }
    wv_challenge_exchange(g->secret, challenge, secret, exchange);
    bool right = false;
    for (size_t i = 0; !right && i < g->settings.n_names; i++) {
        what.name = g->settings.names[i];
        right = rift_prove_key_is_right(&what, secret, proof);
    }
    explicit_bzero(secret, sizeof secret);
    if (right)
        return true;
    wv_request_refuse(q, WV_REFUSE_PROOF,
                      "This key is not proven to be yours: who registers a machine must hold its secret.");
    int r = wv_request_audit(q, store, machine->is_host ? "host refused" : "device refused",
                             wv_json_text(q->body, "key", ""));
    if (r < 0)
        wv_request_store_failed(q, store, r);
    return false;
}

static void add_machine(struct wv_request *q, struct wv_store *store)
{
    struct wv_machine machine = {.created = q->now_s, .is_host = is_hosts(q)};
    uint8_t used[WV_CHALLENGE_BYTES];
    uint64_t count;
    const char *name = wv_json_text(q->body, "name", "");
    if (!wv_api_key(q, wv_json_text(q->body, "key", ""), machine.key))
        return;
    if (rift_sign_key_parse(wv_json_text(q->body, "sign_key", ""), machine.sign_key) < 0)
        return wv_request_refuse(q, WV_REFUSE_BAD_KEY, NULL);
    if (!wv_store_is_name(name))
        return wv_request_refuse(q, WV_REFUSE_BAD_NAME, NULL);
    if (!wv_api_proof(q, machine.key, machine.sign_key, used) || !proves_key(q, store, &machine, used))
        return;
    memcpy(machine.account, q->who.account, sizeof machine.account);
    strcpy(machine.name, name);
    int r = wv_store_machines_count(store, machine.account, &count);
    if (r == 0 && count >= (uint64_t)wv_config_int(q->gateway->settings.config, "machines_per_account"))
        return wv_request_refuse(q, WV_REFUSE_TOO_MANY, NULL);
    if (r == 0)
        r = wv_store_use_challenge(store, used, q->now_s + 2 * WV_CHALLENGE_LIFE_S);
    if (r == -EEXIST)
        return wv_request_refuse(q, WV_REFUSE_CHALLENGE_USED, NULL);
    if (r == 0)
        r = wv_store_add_machine(store, &machine);
    if (r == 0)
        r = wv_request_audit(q, store, machine.is_host ? "host registered" : "device registered", name);
    if (r < 0)
        return wv_request_store_failed(q, store, r);
    strcpy(q->changed, "*");
    wv_request_answer(q, 201, machine_json(&machine));
}

static void post_machine(struct wv_request *q)
{
    wv_request_change(q, add_machine, NULL);
}

/* ---- listing ---- */

static int add_to_list(void *userdata, const struct wv_machine *m)
{
    json_array_append_new(userdata, machine_json(m));
    return json_array_size(userdata) >= LIST_MAX;
}

static void list_machines(struct wv_request *q, struct wv_store *store)
{
    json_t *list = json_array();
    int r = wv_store_machines(store, q->who.account, is_hosts(q), add_to_list, list);
    if (r >= 0)
        return wv_request_answer(q, 200, json_pack("{s:o}", is_hosts(q) ? "hosts" : "devices", list));
    json_decref(list);
    wv_request_store_failed(q, store, r);
}

/* Who is connected is known to the loop's thread alone. */
static void add_online(struct wv_request *q)
{
    const struct wv_gateway *g = q->gateway;
    json_t *machine;
    size_t i;
    if (q->status != 200 || !g->live.is_online)
        return;
    json_array_foreach(json_object_get(q->reply, is_hosts(q) ? "hosts" : "devices"), i, machine)
    {
        uint8_t key[WV_STORE_KEY_BYTES];
        if (rift_public_key_parse(wv_json_text(machine, "key", ""), key) == 0)
            json_object_set_new(machine, "online", json_boolean(g->live.is_online(g, key)));
    }
}

static void get_machines(struct wv_request *q)
{
    q->settled = add_online;
    wv_request_run(q, WV_LANE_STORE, list_machines, NULL);
}

/* ---- removing ---- */

static void remove_machine(struct wv_request *q, struct wv_store *store)
{
    uint8_t key[WV_STORE_KEY_BYTES];
    struct wv_machine machine;
    if (!wv_api_key(q, q->args[0], key))
        return;
    int r = wv_store_machine(store, key, &machine);
    if (r == 0 && (machine.is_host != is_hosts(q) || strcmp(machine.account, q->who.account) != 0))
        r = -ENOENT; /* somebody else's is as unknown as none */
    if (r == 0)
        r = wv_store_remove_machine(store, q->who.account, key);
    if (r == 0)
        r = wv_request_audit(q, store, machine.is_host ? "host removed" : "device removed", machine.name);
    if (r < 0)
        return wv_request_store_failed(q, store, r);
    strcpy(q->changed, "*"); /* also those whom the host was shared with */
    wv_request_answer(q, 204, NULL);
}

static void delete_machine(struct wv_request *q)
{
    wv_request_change(q, remove_machine, NULL);
}

/* ---- sharing ---- */

static bool read_grants(struct wv_request *q, char ret[WV_STORE_TEXT_BYTES])
{
    static const char *const known[] = {"view", "input", "clipboard", "files", "audio"};
    const json_t *list = json_object_get(q->body, "grants"), *grant;
    size_t i, len = 0;
    unsigned seen = 0;
    ret[0] = 0;
    json_array_foreach(list, i, grant)
    {
        const char *word = json_string_value(grant);
        size_t k = 0;
        while (word && k < WV_ARRAY_SIZE(known) && strcmp(known[k], word) != 0)
            k++;
        if (!word || k == WV_ARRAY_SIZE(known) || seen & 1u << k) {
            wv_request_refuse(q, WV_REFUSE_BAD_FIELD,
                              "Grants are view, input, clipboard, files and audio, each once.");
            return false;
        }
        seen |= 1u << k;
        len += (size_t)snprintf(ret + len, WV_STORE_TEXT_BYTES - len, "%s%s", len ? "," : "", word);
    }
    return true;
}

static void add_share(struct wv_request *q, struct wv_store *store)
{
    uint8_t key[WV_STORE_KEY_BYTES];
    char grants[WV_STORE_TEXT_BYTES];
    struct wv_account with;
    if (!wv_api_key(q, q->args[0], key) || !read_grants(q, grants))
        return;
    int r = wv_store_account_by_name(store, wv_json_text(q->body, "account", ""), &with);
    if (r == 0 && !strcmp(with.id, q->who.account))
        return wv_request_refuse(q, WV_REFUSE_CONFLICT, "The host is yours already.");
    if (r == 0)
        r = wv_store_share(store, q->who.account, key, with.id, grants, q->now_s);
    if (r == 0)
        r = wv_request_audit(q, store, "host shared", with.name);
    if (r < 0)
        return wv_request_store_failed(q, store, r);
    strcpy(q->changed, with.id);
    wv_request_answer(q, 200,
                      json_pack("{s:s, s:s, s:s, s:I}", "account", with.id, "name", with.name, "grants",
                                grants, "created", (json_int_t)q->now_s));
}

static void post_share(struct wv_request *q)
{
    wv_request_change(q, add_share, NULL);
}

static int add_share_to_list(void *userdata, const struct wv_share *s)
{
    json_array_append_new(userdata, json_pack("{s:s, s:s, s:s, s:I}", "account", s->account, "name", s->name,
                                              "grants", s->grants, "created", (json_int_t)s->created));
    return json_array_size(userdata) >= LIST_MAX;
}

static void list_shares(struct wv_request *q, struct wv_store *store)
{
    uint8_t key[WV_STORE_KEY_BYTES];
    if (!wv_api_key(q, q->args[0], key))
        return;
    json_t *list = json_array();
    int r = wv_store_shares(store, q->who.account, key, add_share_to_list, list);
    if (r >= 0)
        return wv_request_answer(q, 200, json_pack("{s:o}", "shares", list));
    json_decref(list);
    wv_request_store_failed(q, store, r);
}

static void get_shares(struct wv_request *q)
{
    wv_request_run(q, WV_LANE_STORE, list_shares, NULL);
}

static void remove_share(struct wv_request *q, struct wv_store *store)
{
    uint8_t key[WV_STORE_KEY_BYTES];
    if (!wv_api_key(q, q->args[0], key))
        return;
    int r = wv_store_unshare(store, q->who.account, key, q->args[1]);
    if (r == 0)
        r = wv_request_audit(q, store, "host unshared", q->args[1]);
    if (r < 0)
        return wv_request_store_failed(q, store, r);
    strcpy(q->changed, "*"); /* also those whom the host was shared with */
    wv_request_answer(q, 204, NULL);
}

static void delete_share(struct wv_request *q)
{
    wv_request_change(q, remove_share, NULL);
}

static const struct wv_json_field machine_fields[] = {
    {"key", WV_JSON_TEXT, true, 1, 64},
    {"sign_key", WV_JSON_TEXT, true, 1, 64},
    {"name", WV_JSON_TEXT, true, 1, WV_STORE_NAME_BYTES - 1},
    {"challenge", WV_JSON_TEXT, true, 43, 43},
    {"signature", WV_JSON_TEXT, true, 86, 86},
    {"key_proof", WV_JSON_TEXT, true, 43, 43},
    {0},
};
static const struct wv_json_field share_fields[] = {
    {"account", WV_JSON_TEXT, true, 1, WV_STORE_NAME_BYTES - 1},
    {"grants", WV_JSON_LIST, true, 1, 5},
    {0},
};

const struct wv_route wv_machine_routes[] = {
    {"POST", "/v1/devices", WV_AUTH_PERSON, machine_fields, post_machine, false},
    {"GET", "/v1/devices", WV_AUTH_ANY, NULL, get_machines, false},
    {"DELETE", "/v1/devices/{key}", WV_AUTH_PERSON, NULL, delete_machine, false},
    {"POST", "/v1/hosts", WV_AUTH_PERSON, machine_fields, post_machine, false},
    {"GET", "/v1/hosts", WV_AUTH_ANY, NULL, get_machines, false},
    {"DELETE", "/v1/hosts/{key}", WV_AUTH_PERSON, NULL, delete_machine, false},
    {"POST", "/v1/hosts/{key}/shares", WV_AUTH_PERSON, share_fields, post_share, false},
    {"GET", "/v1/hosts/{key}/shares", WV_AUTH_PERSON, NULL, get_shares, false},
    {"DELETE", "/v1/hosts/{key}/shares/{account}", WV_AUTH_PERSON, NULL, delete_share, false},
    {0},
};
