/* Pairing with a host: asks for the code, says how it went, and notes the host's key. Must never note a key
 * that the host did not prove together with the secret. */
#include "client/app.h"
#include "client/find.h"
#include "client/reasons.h"
#include "client/trust.h"
#include "lib/base/util.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sysexits.h>

#define CODE_DIGITS 8

struct run {
    struct app *a;
    bool done; /* the host has answered, or never will */
    enum wv_client_pair_outcome outcome;
    uint32_t tries_left;
    char reason[128];
    uint8_t host_key[32];
};

/* Takes the digits of TEXT; blanks and dashes between them are for the eye. */
static bool read_digits(const char *text, char ret[CODE_DIGITS + 1])
{
    size_t n = 0;
    for (; *text && *text != '\n'; text++) {
        if (*text == ' ' || *text == '-')
            continue;
        if (*text < '0' || *text > '9' || n == CODE_DIGITS)
            return false;
        ret[n++] = *text;
    }
    ret[n] = '\0';
    return n == CODE_DIGITS;
}

static int ask_code(const struct app *a, char ret[CODE_DIGITS + 1])
{
    char line[64];
    if (a->options.code) {
        snprintf(line, sizeof line, "%s", a->options.code);
    } else {
        if (isatty(STDIN_FILENO))
            fprintf(stderr, "The code that the host shows (on the host: wavryctl pair): ");
        if (!fgets(line, sizeof line, stdin)) {
            app_say("No code was given. On the host run wavryctl pair, and here give its code with --code.");
            return EX_USAGE;
        }
    }
    bool good = read_digits(line, ret);
    explicit_bzero(line, sizeof line);
    if (good)
        return 0;
    app_say("A code has 8 digits. On the host, wavryctl pair shows one.");
    return EX_USAGE;
}

static void on_paired(void *userdata, enum wv_client_pair_outcome outcome, const uint8_t host_key[32],
                      uint32_t tries_left, const char *reason)
{
    struct run *r = userdata;
    r->done = true;
    r->outcome = outcome;
    r->tries_left = tries_left;
    snprintf(r->reason, sizeof r->reason, "%s", reason);
    memcpy(r->host_key, host_key, sizeof r->host_key);
    wv_loop_quit(r->a->loop, 0);
}

static void on_state(void *userdata, enum wv_client_state state, enum wv_client_reason reason,
                     const char *text)
{
    struct run *r = userdata;
    if (state == WV_CLIENT_CLOSED || state == WV_CLIENT_CONNECTED)
        return;
    r->a->reason = reason;
    app_say(text);
    if (state != WV_CLIENT_REFUSED)
        return;
    if (reason == WV_CLIENT_REASON_HOST_KEY)
        app_shout_key(r->a);
    wv_loop_quit(r->a->loop, 0);
}

static int on_give_up(void *userdata, uint64_t now)
{
    struct run *r = userdata;
    wv_loop_quit(r->a->loop, 0);
    return 0;
}

/* The whole run in the loop. Returns 0 when it took place, however it ended. */
static int run_once(struct run *run, const struct wv_client_pair *pair)
{
    struct app *a = run->a;
    const struct wv_client_options options = {
        .host = a->address[0] ? a->address : a->options.host,
        .port = a->address[0] ? a->address_port : a->options.port,
        .ways = app_ways(a),
        .identity = &a->identity,
        .host_key = a->have_host_key || a->finder ? a->host_key : NULL,
        .pair = pair,
    };
    const struct wv_client_callbacks callbacks = {.state = on_state, .paired = on_paired};
    struct wv_loop_source *timer = NULL;
    uint64_t seconds = (uint64_t)wv_config_int(a->options.config, "give_up");
    int r = wv_loop_add_timer(a->loop, on_give_up, run, &timer);
    if (r == 0)
        r = wv_client_new(&a->client, a->loop, &options, &callbacks, run);
    if (r == 0 && app_find_start(a, a->client) != 0)
        r = -ENOMEM;
    if (r == 0 && seconds)
        wv_loop_timer_at(timer, wv_now_ns() + seconds * WV_NS_PER_S);
    if (r == 0)
        r = wv_loop_run(a->loop);
    app_find_stop(a);
    a->client = wv_client_free(a->client);
    wv_loop_remove(timer);
    if (r < 0)
        fprintf(stderr, "wavry-client: Pairing can't be started: %s\n", strerror(-r));
    return r < 0 ? EX_OSERR : 0;
}

/* The time ended before anything was said. */
static int say_nobody(const struct app *a)
{
    char where[320], text[WV_CLIENT_TEXT_BYTES];
    if (a->interrupted)
        return 128 + SIGINT;
    if (a->reason == WV_CLIENT_REASON_NONE && !app_find_has_said(a)) {
        wv_host_format(a->options.host, a->options.port, where, sizeof where);
        wv_reason_text(a->have_host_key ? WV_CLIENT_REASON_ABSENT : WV_CLIENT_REASON_NO_CODE, where, "", "",
                       text);
        app_say(text);
    }
    if (app_find_is_denied(a))
        return EX_NOPERM;
    switch (a->reason) {
    case WV_CLIENT_REASON_NAME:
        return EX_NOHOST;
    case WV_CLIENT_REASON_HOST_KEY:
    case WV_CLIENT_REASON_UNPAIRED:
        return EX_NOPERM;
    default:
        return EX_UNAVAILABLE;
    }
}

static int keep(struct app *a, const struct run *run)
{
    char address[320], key[RIFT_PUBLIC_KEY_TEXT_BYTES], message[WV_TRUST_TEXT_BYTES] = "";
    wv_host_format(a->options.host, a->options.port, address, sizeof address);
    memcpy(a->host_key, run->host_key, sizeof a->host_key);
    a->have_host_key = true;
    rift_public_key_format(run->host_key, key);
    if (wv_known_hosts_put(a->known_hosts, address, run->host_key, message) < 0) {
        app_say(message);
        return EX_CANTCREAT;
    }
    fprintf(stderr, "wavry-client: Paired with %s; its key is %s.\n", address, key);
    if (a->options.action == WV_OPTIONS_PAIR)
        fprintf(stderr, "wavry-client: To connect: wavry-client %s\n", address);
    return 0;
}

/* What came of a run that took place. */
static int say_outcome(struct app *a, const struct run *run)
{
    const char *reason = run->reason[0] ? run->reason : "the code is wrong, or not valid any more";
    switch (run->outcome) {
    case WV_CLIENT_PAIRED:
        return keep(a, run);
    case WV_CLIENT_PAIR_WRONG:
        fprintf(stderr, "wavry-client: Not paired. The host says: %s", reason);
        if (run->tries_left)
            fprintf(stderr, " (%u more %s)\n", run->tries_left, run->tries_left == 1 ? "try" : "tries");
        else
            fprintf(stderr, ". For a new code, on the host run: wavryctl pair\n");
        return EX_NOPERM;
    case WV_CLIENT_PAIR_UNPROVEN:
        app_say(
            "Not paired. What answered could not prove that it knows the code: it is perhaps not the host, "
            "but somebody on the way. Nothing was noted.");
        return EX_PROTOCOL;
    case WV_CLIENT_PAIR_LOST:
        break;
    }
    fprintf(stderr, "wavry-client: Not paired: the connection ended in the middle%s%s%s. Try again%s\n",
            run->reason[0] ? " (" : "", run->reason, run->reason[0] ? ")" : "",
            a->options.have_url ? "." : ", with a new code if this one does not work any more.");
    return EX_TEMPFAIL;
}

int app_pair(struct app *a)
{
    char name[64] = "", code[CODE_DIGITS + 1];
    if (gethostname(name, sizeof name - 1) < 0)
        name[0] = '\0';
    for (;;) {
        struct run run = {.a = a};
        struct wv_client_pair pair = {.secret = (const uint8_t *)code,
                                      .secret_len = CODE_DIGITS,
                                      .name = a->options.name ? a->options.name : name};
        if (a->options.have_url) {
            pair.secret = a->options.url.token;
            pair.secret_len = sizeof a->options.url.token;
            pair.token = true;
        }
        int r = a->options.have_url ? 0 : ask_code(a, code);
        if (r == 0)
            r = run_once(&run, &pair);
        explicit_bzero(code, sizeof code);
        if (r == 0)
            r = run.done ? say_outcome(a, &run) : say_nobody(a);
        bool again = run.done && run.outcome == WV_CLIENT_PAIR_WRONG && run.tries_left && !a->options.code &&
                     !a->options.have_url && isatty(STDIN_FILENO);
        if (!again)
            return r;
    }
}
