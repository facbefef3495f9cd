/* wavryctl pair: shows the code, the URL and the QR code with which one new client may connect. The code
 * must never reach anything but the output that was asked for. */
#include "ctl/ctl.h"

#include "ctl/format.h"
#include "lib/base/util.h"
#include "rift/crypto/identity.h"

#include <arpa/inet.h>
#include <ifaddrs.h>
#include <inttypes.h>
#include <net/if.h>
#include <sodium.h>
#include <string.h>
#include <sysexits.h>
#include <time.h>

#define POLL_MS 500

struct shown {
    char code[16], token[32], seconds[16], key[80], grants[128];
    char url[512];
};

/* The host's answer is lines of "WORD VALUE". Returns whether WORD was there and fits. */
static bool take(const char *text, const char *word, char *ret, size_t capacity)
{
    size_t len = strlen(word);
    for (const char *line = text; line; line = strchr(line, '\n'), line += line != NULL) {
        if (strncmp(line, word, len) != 0 || line[len] != ' ')
            continue;
        const char *value = line + len + 1;
        size_t n = strcspn(value, "\n");
        if (n >= capacity)
            return false;
        memcpy(ret, value, n);
        ret[n] = '\0';
        return true;
    }
    return false;
}

/* ---- where clients reach this host ---- */

static int rank(const struct ifaddrs *a)
{
    if (!a->ifa_addr || !(a->ifa_flags & IFF_UP) || (a->ifa_flags & IFF_LOOPBACK))
        return 0;
    if (a->ifa_addr->sa_family == AF_INET)
        return 2;
    if (a->ifa_addr->sa_family != AF_INET6)
        return 0;
    const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)(const void *)a->ifa_addr;
    return IN6_IS_ADDR_LINKLOCAL(&in6->sin6_addr) ? 0 : 1;
}

static void format_address(const struct sockaddr *address, char *ret, size_t capacity)
{
    char text[INET6_ADDRSTRLEN] = "";
    if (address->sa_family == AF_INET) {
        inet_ntop(AF_INET, &((const struct sockaddr_in *)(const void *)address)->sin_addr, text,
                  sizeof(text));
        snprintf(ret, capacity, "%s", text);
    } else {
        inet_ntop(AF_INET6, &((const struct sockaddr_in6 *)(const void *)address)->sin6_addr, text,
                  sizeof(text));
        snprintf(ret, capacity, "[%s]", text);
    }
}

/* An address of this machine that others may reach it at. */
static void own_address(char *ret, size_t capacity)
{
    struct ifaddrs *all = NULL, *best = NULL;
    snprintf(ret, capacity, "127.0.0.1");
    if (getifaddrs(&all) < 0)
        return;
    for (struct ifaddrs *a = all; a; a = a->ifa_next)
        if (rank(a) > (best ? rank(best) : 0))
            best = a;
    if (best)
        format_address(best->ifa_addr, ret, capacity);
    freeifaddrs(all);
}

/* --host is a name or an address: nothing in it may change what the URL says. */
static bool is_host(const char *text)
{
    size_t len = strlen(text), plain = strspn(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
                                                    "0123456789.-_");
    if (len > 0 && len < 256 && plain == len)
        return true;
    return len > 2 && len < 64 && text[0] == '[' && strspn(text + 1, "0123456789abcdefABCDEF:.") == len - 2 &&
           text[len - 1] == ']';
}

/* BOUND is what the host's socket is bound to: "*:4820", "192.0.2.1:4820". */
static bool make_url(struct wv_ctl *c, const char *bound, struct shown *s)
{
    char host[256];
    const char *colon = strrchr(bound, ':');
    if (!colon)
        return false;
    snprintf(host, sizeof(host), "%.*s", (int)(colon - bound), bound);
    if (c->host)
        snprintf(host, sizeof(host), "%s", c->host);
    else if (!strcmp(host, "*") || !strcmp(host, "[::]") || !strcmp(host, "0.0.0.0"))
        own_address(host, sizeof(host));
    int n = snprintf(s->url, sizeof(s->url), "wavry:%s%s?key=%s&token=%s", host, colon, s->key, s->token);
    return n > 0 && (size_t)n < sizeof(s->url) && is_host(host) && strspn(colon + 1, "0123456789") > 0;
}

/* ---- the code ---- */

static int ask_code(struct wv_ctl *c, struct shown *ret)
{
    char terms[256], argument[512];
    Wavry__Bus__ControlReply *reply, *status;
    int r = wv_ctl_terms(c, terms, sizeof(terms));
    if (r != 0)
        return r;
    r = wv_ctl_ask_well(c, "status", "", &status);
    if (r != 0)
        return r;
    snprintf(argument, sizeof(argument), "%s%s%s%s%.200s", terms, c->ttl ? "ttl=" : "", c->ttl ? c->ttl : "",
             c->ttl ? " " : "", c->name ? c->name : "");
    r = wv_ctl_ask_well(c, "pair", argument, &reply);
    if (r == 0) {
        bool good = take(reply->text, "code", ret->code, sizeof(ret->code)) &&
                    take(reply->text, "token", ret->token, sizeof(ret->token)) &&
                    take(reply->text, "seconds", ret->seconds, sizeof(ret->seconds)) &&
                    take(reply->text, "key", ret->key, sizeof(ret->key)) &&
                    take(reply->text, "grants", ret->grants, sizeof(ret->grants)) &&
                    make_url(c, status->address, ret);
        if (!good) {
            fputs("wavryctl: the host's answer makes no sense: are wavryctl and the host of one version?\n",
                  c->err);
            r = EX_PROTOCOL;
        }
        sodium_memzero(reply->text, strlen(reply->text));
        wv_ctl_reply_free(reply);
    }
    wv_ctl_reply_free(status);
    return r;
}

static void print_json(FILE *out, const struct shown *s)
{
    const struct {
        const char *name, *value;
    } fields[] = {{"code", s->code}, {"url", s->url}, {"host_key", s->key}, {"grants", s->grants}};
    for (size_t i = 0; i < WV_ARRAY_SIZE(fields); i++) {
        fprintf(out, "%s\"%s\": ", i ? ", " : "{", fields[i].name);
        wv_format_json(out, fields[i].value);
    }
    fprintf(out, ", \"seconds\": %ld}\n", strtol(s->seconds, NULL, 10));
}

static void print_shown(struct wv_ctl *c, const struct shown *s)
{
    bool terminal = isatty(fileno(c->out)) == 1;
    if (c->json) {
        print_json(c->out, s);
        return;
    }
    fprintf(c->out, "code      %.4s %s\n", s->code, s->code + WV_MIN(strlen(s->code), (size_t)4));
    fputs("url       ", c->out);
    wv_format_text(c->out, s->url, false);
    fputs("\nhost key  ", c->out);
    wv_format_text(c->out, s->key, false);
    fputs("\ngrants    ", c->out);
    wv_format_text(c->out, s->grants, false);
    fprintf(c->out,
            "\n\nOne client may use it, within %ld s: wavry-client pair HOST, or wavry-client 'URL'.\n",
            strtol(s->seconds, NULL, 10));
    if ((terminal || c->qr) && wv_ctl_qr(c->out, s->url, terminal) < 0)
        fputs("wavryctl: the URL does not fit into a QR code\n", c->err);
}

/* Returns the value of WORD in the pairing's state, -1 without an answer. */
static long ask_status(struct wv_ctl *c, const char *word, int *ret_error)
{
    char value[32];
    Wavry__Bus__ControlReply *reply;
    *ret_error = wv_ctl_ask_well(c, "pair-status", "", &reply);
    if (*ret_error != 0)
        return -1;
    long n = take(reply->text, word, value, sizeof(value)) ? strtol(value, NULL, 10) : -1;
    wv_ctl_reply_free(reply);
    return n;
}

static int wait_for_pairing(struct wv_ctl *c, long paired_before)
{
    int r;
    fflush(c->out);
    for (;;) {
        long open = ask_status(c, "open", &r);
        if (r != 0)
            return r;
        long paired = ask_status(c, "paired", &r);
        if (r != 0)
            return r;
        if (paired != paired_before) {
            fputs(c->json ? "" : "a client was paired\n", c->out);
            return EX_OK;
        }
        if (open != 1) {
            fputs("wavryctl: nobody was paired: the code is over\n", c->err);
            return EX_TEMPFAIL;
        }
        nanosleep(&(struct timespec){.tv_nsec = POLL_MS * 1000000L}, NULL);
    }
}

int wv_ctl_pair(struct wv_ctl *c)
{
    struct shown s = {0};
    int r = 0;
    if (c->cancel)
        return wv_ctl_order(c, "pair-cancel", "");
    if (c->reopen)
        return wv_ctl_order(c, "pair-reopen", "");
    if ((c->host && !is_host(c->host)) || (c->ttl && strspn(c->ttl, "0123456789smhd") != strlen(c->ttl))) {
        fputs("wavryctl: --host takes a name or an address ([...] for IPv6), --ttl a time such as 10m\n",
              c->err);
        return EX_USAGE;
    }
    long paired = c->wait ? ask_status(c, "paired", &r) : 0;
    if (r == 0)
        r = ask_code(c, &s);
    if (r == 0) {
        print_shown(c, &s);
        r = c->wait ? wait_for_pairing(c, paired) : EX_OK;
    }
    sodium_memzero(&s, sizeof(s));
    return r;
}
