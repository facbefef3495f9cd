/* wavryctl host ... : this machine's host at the gateway; and wavryctl hosts: the hosts that a person can
 * reach by name. Names that others gave are printed as text that a terminal can be given. */
#include "ctl/gateway.h"

#include "lib/base/util.h"
#include "lib/gateway/sign_in.h"
#include "lib/mdns/find.h"
#include "rift/crypto/prove.h"

#include <ctype.h>
#include <errno.h>
#include <limits.h>
#include <sodium.h>
#include <string.h>
#include <sysexits.h>
#include <time.h>

#define FIND_MS 1500

/* The key of the host that runs here. Returns 0 or an exit code, told. */
static int own_key(struct wv_ctl *c, char ret[RIFT_PUBLIC_KEY_TEXT_BYTES])
{
    Wavry__Bus__ControlReply *reply;
    int r = wv_ctl_ask_well(c, "status", "", &reply);
    if (r != 0)
        return r;
    bool good = strlen(reply->host_key) == RIFT_PUBLIC_KEY_TEXT_BYTES - 1;
    if (good)
        snprintf(ret, RIFT_PUBLIC_KEY_TEXT_BYTES, "%s", reply->host_key);
    else
        fprintf(c->err,
                "wavryctl: the host has no key yet: is its identity stage running? (wavryctl status)\n");
    wv_ctl_reply_free(reply);
    return good ? 0 : EX_TEMPFAIL;
}

/* Has the host answer what the gateway asks. Returns 0 or an exit code, told. */
static int have_signed(struct wv_ctl *c, const char *name, struct wv_ctl_proof *p, char ret_sign_key[64])
{
    char argument[WV_GATEWAY_NAME_BYTES + 2 * 64 + 2], key[64];
    Wavry__Bus__ControlReply *reply;
    snprintf(argument, sizeof argument, "%s %s %s", name, p->challenge, p->exchange);
    int r = wv_ctl_ask_well(c, "gateway-sign", argument, &reply);
    if (r != 0)
        return r;
    bool good =
        sscanf(reply->text, "%63s %63s %99s %63s", key, ret_sign_key, p->signature, p->key_proof) == 4;
    wv_ctl_reply_free(reply);
    if (!good)
        fprintf(c->err, "wavryctl: the host did not sign\n");
    return good ? 0 : EX_PROTOCOL;
}

static int host_register(struct wv_ctl *c, struct wv_ctl_gateway *g)
{
    char key[RIFT_PUBLIC_KEY_TEXT_BYTES], sign_key[64];
    struct wv_ctl_proof proof;
    char name[HOST_NAME_MAX + 1] = "host", url[WV_GATEWAY_URL_BYTES];
    (void)gethostname(name, sizeof name - 1);
    int r = own_key(c, key);
    if (r == 0)
        r = wv_ctl_gateway_challenge(c, g, key, &proof);
    if (r == 0)
        r = have_signed(c, g->account.url.name, &proof, sign_key);
    if (r == 0)
        r = wv_ctl_gateway_register(c, g, "/v1/hosts", key, sign_key, c->second ? c->second : name, &proof);
    wv_gateway_url_format(&g->account.url, url);
    Wavry__Bus__ControlReply *reply;
    if (r == 0)
        r = wv_ctl_ask_well(c, "gateway-set", url, &reply);
    if (r != 0)
        return r;
    wv_ctl_reply_free(reply);
    fprintf(c->out, "this host is registered at %s as \"%s\": wavry-client \"%s\"\n", g->account.url.name,
            c->second ? c->second : name, c->second ? c->second : name);
    if (g->account.ca_file[0])
        fprintf(
            c->out,
            "The gateway's certificate is not of a public authority: set ca_file in [reach] of host.conf, as "
            "you gave --ca-file.\n");
    return 0;
}

static int host_unregister(struct wv_ctl *c, struct wv_ctl_gateway *g)
{
    char key[RIFT_PUBLIC_KEY_TEXT_BYTES], path[96];
    struct wv_gateway_answer a;
    Wavry__Bus__ControlReply *reply;
    int r = own_key(c, key);
    if (r != 0)
        return r;
    snprintf(path, sizeof path, "/v1/hosts/%s", key);
    r = wv_ctl_gateway_ask(c, g, "DELETE", path, NULL, "not_found", &a);
    if (r != 0 && r != WV_GATEWAY_REFUSED)
        return r;
    wv_gateway_answer_fini(&a);
    r = wv_ctl_ask_well(c, "gateway-set", "", &reply);
    if (r != 0)
        return r;
    wv_ctl_reply_free(reply);
    fprintf(c->out, "this host is no longer registered at %s\n", g->account.url.name);
    return 0;
}

/* "view,input" as a list. */
static json_t *grant_list(const char *text)
{
    json_t *list = json_array();
    for (const char *p = text; *p; p += strspn(p, ", ")) {
        size_t len = strcspn(p, ", ");
        json_array_append_new(list, json_stringn(p, len));
        p += len;
    }
    return list;
}

static int host_share(struct wv_ctl *c, struct wv_ctl_gateway *g)
{
    char key[RIFT_PUBLIC_KEY_TEXT_BYTES], path[96];
    struct wv_gateway_answer a;
    if (!c->second) {
        fprintf(c->err, "wavryctl: with whom? wavryctl host share ACCOUNT [--grant LIST]\n");
        return EX_USAGE;
    }
    int r = own_key(c, key);
    if (r != 0)
        return r;
    snprintf(path, sizeof path, "/v1/hosts/%s/shares", key);
    json_t *body = json_pack("{s:s,s:o}", "account", c->second, "grants",
                             grant_list(c->grant ? c->grant : "view,input"));
    r = wv_ctl_gateway_ask(c, g, "POST", path, body, NULL, &a);
    json_decref(body);
    if (r != 0)
        return r;
    wv_gateway_answer_fini(&a);
    fprintf(c->out,
            "%s finds this host at %s from now on; what it may do there, pairing decides (wavryctl pair)\n",
            c->second, g->account.url.name);
    return 0;
}

int wv_ctl_host(struct wv_ctl *c)
{
    static const struct {
        const char *name;
        int (*run)(struct wv_ctl *c, struct wv_ctl_gateway *g);
    } actions[] = {{"register", host_register}, {"unregister", host_unregister}, {"share", host_share}};
    struct wv_ctl_gateway g;
    for (size_t i = 0; i < WV_ARRAY_SIZE(actions); i++) {
        if (strcmp(actions[i].name, c->argument) != 0)
            continue;
        int r = wv_ctl_gateway_open(c, &g, true);
        if (r == 0)
            r = actions[i].run(c, &g);
        wv_ctl_gateway_close(&g);
        return r;
    }
    fprintf(c->err,
            "wavryctl: a host can be registered, unregistered and shared: wavryctl host register [NAME]\n");
    return EX_USAGE;
}

/* ---- hosts ---- */

static int prove(void *userdata, const char *name, const uint8_t challenge[32], uint8_t ret_signature[64])
{
    const struct rift_identity *id = userdata;
    return rift_prove_gateway(id->sign_secret, name, challenge, ret_signature);
}

/* By this machine's key, for which no password is needed. Returns 0 or an exit code, told. */
static int sign_in_by_key(struct wv_ctl *c, struct wv_ctl_gateway *g)
{
    struct rift_identity id;
    struct wv_gateway_answer why;
    char key[RIFT_PUBLIC_KEY_TEXT_BYTES];
    int r = wv_ctl_gateway_identity(c, &id);
    if (r != 0)
        return r;
    rift_public_key_format(id.public, key);
    r = wv_gateway_sign_in(g->wire, &g->account.url, key, prove, &id, WV_CTL_ANSWER_MS, g->account.token,
                           sizeof g->account.token, &why);
    rift_identity_wipe(&id);
    if (r != 0)
        fprintf(c->err, "wavryctl: %s\n", why.sentence);
    return r == 0                               ? 0
           : r == WV_GATEWAY_REFUSED            ? EX_NOPERM
           : r == -EPROTO || r == -EKEYREJECTED ? EX_PROTOCOL
                                                : EX_UNAVAILABLE;
}

static void add_host(json_t *all, const char *name, const char *key, const char *where, const char *state)
{
    char text[65];
    snprintf(text, sizeof text, "%s", name);
    for (unsigned char *p = (unsigned char *)text; *p; p++)
        if (!isprint(*p))
            *p = '?';
    json_array_append_new(
        all, json_pack("{s:s,s:s,s:s,s:s}", "name", text, "key", key, "where", where, "state", state));
}

static int add_gateway(struct wv_ctl *c, json_t *all)
{
    struct wv_ctl_gateway g;
    struct wv_gateway_answer a;
    size_t i;
    json_t *one;
    int r = wv_ctl_gateway_open(c, &g, false);
    if (r == 0 && (!g.account.token[0] || g.account.expires <= (uint64_t)time(NULL)))
        r = sign_in_by_key(c, &g);
    if (r == 0)
        r = wv_ctl_gateway_ask(c, &g, "GET", "/v1/hosts", NULL, NULL, &a);
    if (r == 0) {
        json_array_foreach(json_object_get(a.body, "hosts"), i, one)
        {
            const char *name = wv_gateway_text(one, "name", 64), *key = wv_gateway_text(one, "key", 63);
            json_t *online = json_object_get(one, "online");
            if (name && key)
                add_host(all, name, key, g.account.url.name,
                         !online                ? ""
                         : json_is_true(online) ? "online"
                                                : "offline");
        }
        wv_gateway_answer_fini(&a);
    }
    wv_ctl_gateway_close(&g);
    return r;
}

static void add_found(struct wv_ctl *c, json_t *all)
{
    static struct wv_found found[WV_FOUND_MAX];
    size_t n = 0;
    int r = wv_find(NULL, NULL, FIND_MS, found, &n);
    if (r == WV_FIND_NO_DAEMON)
        fprintf(c->err, "wavryctl: the local network can't be asked: no avahi-daemon answers\n");
    for (size_t i = 0; i < n; i++) {
        char where[96];
        snprintf(where, sizeof where, strchr(found[i].address, ':') ? "[%s]:%u" : "%s:%u", found[i].address,
                 found[i].port);
        add_host(all, found[i].name, found[i].key, where, "here");
    }
}

int wv_ctl_hosts(struct wv_ctl *c)
{
    struct wv_ctl_gateway g;
    json_t *all = json_array(), *one;
    size_t i;
    FILE *err = c->err;
    c->err = fopen("/dev/null", "w"); /* whether there is an account at all */
    bool account = c->err && wv_ctl_gateway_open(c, &g, false) == 0;
    if (c->err)
        fclose(c->err);
    c->err = err;
    if (account)
        wv_ctl_gateway_close(&g);
    add_found(c, all);
    int r = account ? add_gateway(c, all) : 0;
    if (c->json) {
        json_t *whole = json_pack("{s:O}", "hosts", all);
        json_dumpf(whole, c->out, JSON_INDENT(2));
        fputc('\n', c->out);
        json_decref(whole);
    } else {
        json_array_foreach(all, i, one) fprintf(
            c->out, "%-24s %-8s %-28s %s\n", json_string_value(json_object_get(one, "name")),
            json_string_value(json_object_get(one, "state")),
            json_string_value(json_object_get(one, "where")), json_string_value(json_object_get(one, "key")));
        if (json_array_size(all) == 0)
            fprintf(c->out, "no host is announced here%s\n",
                    account ? " or at the gateway" : "; for hosts elsewhere: wavryctl login https://GATEWAY");
    }
    json_decref(all);
    return r;
}
