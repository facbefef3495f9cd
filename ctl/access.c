/* Who may connect and what they may do: peers, authorize, grant, revoke, control. */
#include "ctl/ctl.h"

#include "ctl/format.h"
#include "lib/base/util.h"
#include "rift/crypto/identity.h"

#include <string.h>
#include <sysexits.h>
#include <time.h>

/* ---- peers ---- */

/* Takes "NAME=VALUE " off the front of *LINE. Returns the value, NONE when it isn't there. */
static char *take_field(char **line, const char *name, char *none)
{
    size_t len = strlen(name);
    if (strncmp(*line, name, len) != 0)
        return none;
    char *value = *line + len, *end = strchr(value, ' ');
    *line = end ? end + 1 : value + strlen(value);
    if (end)
        *end = '\0';
    return value;
}

static void json_words(FILE *out, char *list)
{
    char *rest;
    bool any = false;
    fputc('[', out);
    for (char *word = strtok_r(list, ",", &rest); word; word = strtok_r(NULL, ",", &rest)) {
        fputs(any ? ", " : "", out);
        wv_format_json(out, word);
        any = true;
    }
    fputc(']', out);
}

static void json_peer(FILE *out, char *line)
{
    char *rest = strchr(line, ' '), none[] = "";
    if (rest)
        *rest++ = '\0';
    else
        rest = none;
    char *grants = take_field(&rest, "grants=", none), *expires = take_field(&rest, "expires=", none);
    fputs("{\"key\": ", out);
    wv_format_json(out, line);
    fputs(", \"name\": ", out);
    wv_format_json(out, rest);
    fputs(", \"expires\": ", out);
    wv_format_json(out, expires);
    fputs(", \"grants\": ", out);
    json_words(out, grants);
    fputc('}', out);
}

static void json_peers(FILE *out, char *text)
{
    fputs("{\"peers\": [", out);
    bool any = false;
    char *rest;
    for (char *line = strtok_r(text, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest)) {
        if (strncmp(line, "wavry1", 6) != 0)
            continue; /* "... and 3 more in the file" */
        fputs(any ? ",\n  " : "\n  ", out);
        json_peer(out, line);
        any = true;
    }
    fputs("]}\n", out);
}

int wv_ctl_peers(struct wv_ctl *c)
{
    Wavry__Bus__ControlReply *reply;
    int r = wv_ctl_ask_well(c, "peers", "", &reply);
    if (r != 0)
        return r;
    if (c->json)
        json_peers(c->out, reply->text);
    else if (reply->text[0])
        wv_format_text(c->out, reply->text, true);
    else
        fputs("no key may connect yet: wavryctl pair shows a code for a client, wavryctl authorize KEY lets "
              "one "
              "in without (a client prints its key with wavry-client --print-key)\n",
              c->out);
    wv_ctl_reply_free(reply);
    return EX_OK;
}

/* ---- changing what they may do ---- */

/* A typing error is refused here, before anything is asked. */
static int check_key(struct wv_ctl *c)
{
    uint8_t key[32];
    if (rift_crypto_init() < 0) {
        fputs("wavryctl: libsodium could not be started\n", c->err);
        return EX_SOFTWARE;
    }
    if (rift_public_key_parse(c->argument, key) == 0)
        return 0;
    fputs("wavryctl: \"", c->err);
    wv_format_text(c->err, c->argument, false);
    fprintf(
        c->err,
        "\" is not a public key: it begins with wavry1 and has %d characters; the client prints its own with "
        "'wavry-client --print-key'\n",
        RIFT_PUBLIC_KEY_TEXT_BYTES - 1);
    return EX_DATAERR;
}

/* "8h" from now on as the time that it is; anything else as it is: the host says what is wrong with it. */
static void resolve_expires(const char *text, char *ret, size_t capacity)
{
    static const struct {
        char unit;
        long seconds;
    } units[] = {{'s', 1}, {'m', 60}, {'h', 3600}, {'d', 86400}};
    size_t digits = strspn(text, "0123456789"), len = strlen(text);
    snprintf(ret, capacity, "%s", text);
    for (size_t i = 0; digits > 0 && digits < 7 && len == digits + 1 && i < WV_ARRAY_SIZE(units); i++) {
        if (text[digits] != units[i].unit)
            continue;
        time_t end = time(NULL) + strtol(text, NULL, 10) * units[i].seconds;
        struct tm t;
        if (gmtime_r(&end, &t))
            strftime(ret, capacity, "%Y-%m-%dT%H:%M:%SZ", &t);
    }
}

/* One word: what the host reads up to the next space must not become two things. */
static bool is_word(const char *text)
{
    return text[0] && strlen(text) < 128 && !text[strcspn(text, " \t\r\n")];
}

int wv_ctl_terms(struct wv_ctl *c, char *ret, size_t capacity)
{
    char expires[64] = "";
    if ((c->grant && !is_word(c->grant)) ||
        (c->expires && (!is_word(c->expires) || strlen(c->expires) > 32))) {
        fputs("wavryctl: --grant takes a list with commas and no spaces, --expires a time such as "
              "2026-12-01T12:00:00Z or 30d\n",
              c->err);
        return EX_USAGE;
    }
    if (c->expires)
        resolve_expires(c->expires, expires, sizeof(expires));
    snprintf(ret, capacity, "%s%s%s%s%s%s", c->grant ? "grants=" : "", c->grant ? c->grant : "",
             c->grant ? " " : "", c->expires ? "expires=" : "", expires, c->expires ? " " : "");
    return 0;
}

/* KEY, terms and name, as the host reads them. */
static int order_terms(struct wv_ctl *c, const char *verb)
{
    char argument[512], terms[256];
    int r = check_key(c);
    if (r == 0)
        r = wv_ctl_terms(c, terms, sizeof(terms));
    if (r != 0)
        return r;
    int n = snprintf(argument, sizeof(argument), "%s %s%s", c->argument, terms, c->name ? c->name : "");
    if (n < 0 || (size_t)n >= sizeof(argument)) {
        fputs("wavryctl: the name is too long\n", c->err);
        return EX_DATAERR;
    }
    while (n > 0 && argument[n - 1] == ' ')
        argument[--n] = '\0';
    return wv_ctl_order(c, verb, argument);
}

int wv_ctl_authorize(struct wv_ctl *c)
{
    return order_terms(c, "authorize");
}

int wv_ctl_grant(struct wv_ctl *c)
{
    if (c->grant) {
        fputs("wavryctl: grant KEY LIST takes the list without --grant\n", c->err);
        return EX_USAGE;
    }
    c->grant = c->second;
    return order_terms(c, "grant");
}

int wv_ctl_revoke(struct wv_ctl *c)
{
    int r = check_key(c);
    return r != 0 ? r : wv_ctl_order(c, "revoke", c->argument);
}

/* ---- control ---- */

static bool find_session(const struct wv_ctl_pages *p, const char *id, struct wv_session_record *ret)
{
    for (unsigned i = 0; p->session && i < WV_SESSIONS_MAX; i++) {
        char text[16];
        if (wv_session_page_get(p->session, i, ret) != 0)
            continue;
        snprintf(text, sizeof(text), "%u", ret->id);
        if (strcmp(text, id) == 0)
            return true;
    }
    return false;
}

/* Sessions are named by their client's key, of which each has one session. */
int wv_ctl_control(struct wv_ctl *c)
{
    struct wv_ctl_pages p;
    struct wv_session_record record;
    char key[80];
    if (strcmp(c->argument, "none") == 0)
        return wv_ctl_order(c, "control", "none");
    int r = wv_ctl_pages_get(c, &p);
    if (r != 0)
        return r;
    bool found = find_session(&p, c->argument, &record);
    wv_ctl_pages_fini(&p);
    if (!found) {
        fputs("wavryctl: there is no session \"", c->err);
        wv_format_text(c->err, c->argument, false);
        fputs("\": wavryctl sessions shows their IDs\n", c->err);
        return EX_DATAERR;
    }
    wv_format_key(record.peer_key, key, sizeof(key));
    return wv_ctl_order(c, "control", key);
}
