/* wavryctl login and logout: this person's account at a gateway, and this machine's client among its devices.
 * A password is read from the terminal without echo, or from standard input, and kept nowhere. */
#include "ctl/gateway.h"

#include "client/trust.h"
#include "lib/base/util.h"
#include "rift/crypto/prove.h"

#include <errno.h>
#include <limits.h>
#include <sodium.h>
#include <string.h>
#include <sysexits.h>
#include <termios.h>

#define LINE_BYTES 1100

/* Reads a line of standard input; HIDDEN: not shown. Returns 0 or an exit code, told. */
static int ask_line(struct wv_ctl *c, const char *question, bool hidden, char ret[LINE_BYTES])
{
    struct termios before, quiet;
    bool tty = isatty(STDIN_FILENO) && tcgetattr(STDIN_FILENO, &before) == 0;
    if (tty) {
        fprintf(c->err, "%s: ", question);
        fflush(c->err);
        quiet = before;
        quiet.c_lflag &= ~(tcflag_t)ECHO;
        if (hidden)
            tcsetattr(STDIN_FILENO, TCSAFLUSH, &quiet);
    }
    char *line = fgets(ret, LINE_BYTES, stdin);
    if (tty && hidden) {
        tcsetattr(STDIN_FILENO, TCSAFLUSH, &before);
        fputc('\n', c->err);
    }
    if (!line || !ret[strcspn(ret, "\n")]) {
        fprintf(c->err, "wavryctl: no %s was given\n", question);
        return EX_NOINPUT;
    }
    ret[strcspn(ret, "\n")] = '\0';
    return 0;
}

/* Takes the token out of A. Returns 0 or an exit code, told. */
static int take_token(struct wv_ctl *c, struct wv_ctl_gateway *g, struct wv_gateway_answer *a)
{
    const char *token = wv_gateway_text(a->body, "token", sizeof g->account.token - 1);
    json_t *expires = json_object_get(a->body, "expires");
    bool good = token && json_is_integer(expires);
    if (good) {
        snprintf(g->account.token, sizeof g->account.token, "%s", token);
        g->account.expires = (uint64_t)json_integer_value(expires);
    } else {
        fprintf(c->err, "wavryctl: what the gateway answers is no sign-in\n");
    }
    wv_gateway_answer_fini(a);
    return good ? 0 : EX_PROTOCOL;
}

static int sign_in(struct wv_ctl *c, struct wv_ctl_gateway *g, const char *password)
{
    struct wv_gateway_answer a;
    char code[LINE_BYTES];
    json_t *body = json_pack("{s:s,s:s}", "account", g->account.account, "password", password);
    int r = wv_ctl_gateway_ask(c, g, "POST", "/v1/login", body, "code_needed", &a);
    if (r == WV_GATEWAY_REFUSED) {
        wv_gateway_answer_fini(&a);
        r = ask_line(c, "code of the authenticator, or a recovery code", false, code);
        if (r == 0) {
            json_object_set_new(body, strlen(code) == 6 ? "totp" : "recovery", json_string(code));
            r = wv_ctl_gateway_ask(c, g, "POST", "/v1/login", body, NULL, &a);
        }
        explicit_bzero(code, sizeof code);
    }
    json_decref(body);
    return r == 0 ? take_token(c, g, &a) : r;
}

/* This machine's client becomes a device of the account. */
static int add_device(struct wv_ctl *c, struct wv_ctl_gateway *g)
{
    struct rift_identity id;
    char key[RIFT_PUBLIC_KEY_TEXT_BYTES], sign_key[64], name[HOST_NAME_MAX + 1] = "client";
    struct wv_ctl_proof proof;
    int r = wv_ctl_gateway_identity(c, &id);
    if (r != 0)
        return r;
    rift_public_key_format(id.public, key);
    memcpy(sign_key, "ed25519.", 8);
    sodium_bin2base64(sign_key + 8, sizeof sign_key - 8, id.sign_public, 32,
                      sodium_base64_VARIANT_URLSAFE_NO_PADDING);
    (void)gethostname(name, sizeof name - 1);
    r = wv_ctl_gateway_challenge(c, g, key, &proof);
    if (r == 0 && wv_ctl_gateway_sign(g, &id, &proof) < 0)
        r = EX_PROTOCOL;
    rift_identity_wipe(&id);
    return r != 0 ? r
                  : wv_ctl_gateway_register(c, g, "/v1/devices", key, sign_key, c->name ? c->name : name,
                                            &proof);
}

static int begin(struct wv_ctl *c, struct wv_ctl_gateway *g)
{
    char full[PATH_MAX];
    *g = (struct wv_ctl_gateway){0};
    int r = wv_gateway_url_parse(c->argument, &g->account.url);
    if (r < 0) {
        fprintf(
            c->err,
            r == -EPERM
                ? "wavryctl: \"%s\": a password goes only over https\n"
                : "wavryctl: \"%s\" is not https://HOST or https://HOST:PORT; an IPv6 address stands in []\n",
            c->argument);
        return EX_USAGE;
    }
    if (c->ca_file) {
        if (!realpath(c->ca_file, full) || strlen(full) >= sizeof g->account.ca_file) {
            fprintf(c->err, "wavryctl: %s can't be read: %s\n", c->ca_file, strerror(errno));
            return EX_NOINPUT;
        }
        memcpy(g->account.ca_file, full, strlen(full) + 1);
    }
    if (wv_trust_path("gateway.conf", g->path, sizeof g->path) < 0 || rift_crypto_init() < 0 ||
        wv_gateway_new(&g->wire, g->account.ca_file) < 0) {
        fprintf(c->err, "wavryctl: no connection to the gateway can be made (HOME, --ca-file)\n");
        return EX_CONFIG;
    }
    wv_gateway_aim(g->wire, &g->account.url);
    return 0;
}

int wv_ctl_login(struct wv_ctl *c)
{
    struct wv_ctl_gateway g;
    char account[LINE_BYTES], password[LINE_BYTES], message[512] = "";
    int r = begin(c, &g);
    if (r == 0 && c->account)
        snprintf(account, sizeof account, "%s", c->account);
    else if (r == 0)
        r = ask_line(c, "account", false, account);
    if (r == 0)
        r = ask_line(c, "password", true, password);
    if (r == 0) {
        snprintf(g.account.account, sizeof g.account.account, "%.64s", account);
        r = sign_in(c, &g, password);
    }
    explicit_bzero(password, sizeof password);
    if (r == 0)
        r = add_device(c, &g);
    if (r == 0 && wv_gateway_account_save(g.path, &g.account, message, sizeof message) < 0) {
        fprintf(c->err, "wavryctl: %s\n", message);
        r = EX_CANTCREAT;
    }
    if (r == 0)
        fprintf(c->out, "signed in to %s as %s; wavry-client and wavryctl use it from now on\n",
                g.account.url.name, g.account.account);
    wv_ctl_gateway_close(&g);
    return r;
}

int wv_ctl_logout(struct wv_ctl *c)
{
    struct wv_ctl_gateway g;
    struct wv_gateway_answer a;
    struct rift_identity id;
    char key[RIFT_PUBLIC_KEY_TEXT_BYTES], path[96];
    int r = wv_ctl_gateway_open(c, &g, false);
    if (r != 0)
        return r;
    /* What the gateway does not take back ends by itself, or from the operator's page. */
    if (g.account.token[0] && wv_ctl_gateway_identity(c, &id) == 0) {
        rift_public_key_format(id.public, key);
        rift_identity_wipe(&id);
        snprintf(path, sizeof path, "/v1/devices/%s", key);
        if (wv_ctl_gateway_ask(c, &g, "DELETE", path, NULL, "not_found", &a) <= WV_GATEWAY_REFUSED)
            wv_gateway_answer_fini(&a);
        if (wv_ctl_gateway_ask(c, &g, "POST", "/v1/logout", NULL, "bad_token", &a) <= WV_GATEWAY_REFUSED)
            wv_gateway_answer_fini(&a);
    }
    if (unlink(g.path) < 0) {
        fprintf(c->err, "wavryctl: %s can't be removed: %s\n", g.path, strerror(errno));
        r = EX_CANTCREAT;
    } else {
        fprintf(c->out, "signed out of %s\n", g.account.url.name);
    }
    wv_ctl_gateway_close(&g);
    return r;
}
