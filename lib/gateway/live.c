/* The standing connection; see live.h. Must never keep anything of a gateway without a bound, or ask it more
 * often because it refuses. */
#include "lib/gateway/live.h"

#include "lib/base/util.h"
#include "lib/gateway/wire.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>

#define EVENTS_MAX     32
#define EVENTS_KEPT    4 /* of them for what is no message of the gateway's */
#define ORDERS_MAX     64
#define PATIENCE_MS    10000
#define PAUSE_FIRST_S  1
#define PAUSE_MAX_S    60
#define PAUSE_DENIED_S 300
#define LASTING_NS     (10 * WV_NS_PER_S) /* a connection that ends sooner counts as a failure */
#define SHORT_FAILURES 2                  /* but as no more of them */
#define REPLACED_AFTER 4                  /* failures that another process with our key is worth */
#define MOVED_FAILURES 3 /* in a row; after more a changed network is no reason to try sooner */
#define SESSIONS_MAX   64
#define BASE64         sodium_base64_VARIANT_URLSAFE_NO_PADDING

/* What the owner wants; JSON is made on the owner's thread and belongs to the order. */
struct order {
    json_t *frame; /* to go over the WebSocket; NULL: a lease */
    json_t *lease;
    char id[WV_LIVE_ID_BYTES];
};

enum phase { PHASE_IDLE, PHASE_HELLO, PHASE_WELCOME };

struct wv_gateway_live {
    struct wv_gateway *gateway;
    pthread_t thread;
    int event_fd;

    pthread_mutex_t mutex; /* for all until the gap */
    bool stop, aimed, changed, moved, is_signed, online;
    struct wv_gateway_url url;
    char key[WV_LIVE_KEY_TEXT];
    wv_gateway_sign_fn sign;
    void *sign_userdata;
    unsigned patience_ms;
    uint8_t challenge[32], signature[64]; /* the newest one; its signature, when the owner has said it */
    struct wv_gateway_event *events[EVENTS_MAX];
    size_t first_event, n_events;
    struct order orders[ORDERS_MAX];
    size_t first_order, n_orders;

    /* Of the thread alone. */
    struct wv_gateway_url own_url;
    char own_key[WV_LIVE_KEY_TEXT], token[512];
    enum phase phase;
    uint64_t try_at, hello_until, welcome_at;
    unsigned failures;
    bool replaced;
};

/* ---- between the threads ---- */

static struct wv_gateway_event *new_event(enum wv_gateway_event_kind kind)
{
    struct wv_gateway_event *e = calloc(1, sizeof *e);
    if (e)
        e->kind = kind;
    return e;
}

/* Whether it is what the gateway says, as often as it likes. */
static bool is_message(const struct wv_gateway_event *e)
{
    return e->kind == WV_GATEWAY_SIGNAL || e->kind == WV_GATEWAY_SENT || e->kind == WV_GATEWAY_ERROR;
}

/* Takes E. What does not fit is dropped: everything that matters is asked for again. A flood of messages does
 * not keep the owner from hearing how the connection is. */
static void emit(struct wv_gateway_live *l, struct wv_gateway_event *e)
{
    if (!e)
        return;
    pthread_mutex_lock(&l->mutex);
    if (l->n_events < (is_message(e) ? EVENTS_MAX - EVENTS_KEPT : EVENTS_MAX)) {
        l->events[(l->first_event + l->n_events++) % EVENTS_MAX] = e;
        e = NULL;
    }
    pthread_mutex_unlock(&l->mutex);
    free(e);
    (void)eventfd_write(l->event_fd, 1);
}

/* What a gateway says may be shown on a terminal, and stand in quotes in a log. */
static void copy_printable(char *to, size_t capacity, const char *from)
{
    snprintf(to, capacity, "%s", from);
    for (unsigned char *p = (unsigned char *)to; *p; p++)
        *p = *p < ' ' || *p >= 0x7f ? '?' : *p == '"' ? '\'' : *p;
}

static void emit_text(struct wv_gateway_live *l, enum wv_gateway_event_kind kind, const char *id,
                      const char *error, const char *text)
{
    struct wv_gateway_event *e = new_event(kind);
    if (!e)
        return;
    snprintf(e->id, sizeof e->id, "%s", id);
    copy_printable(e->error, sizeof e->error, error);
    copy_printable(e->text, sizeof e->text, text);
    emit(l, e);
}

bool wv_gateway_live_next(struct wv_gateway_live *l, struct wv_gateway_event *ret)
{
    struct wv_gateway_event *e = NULL;
    pthread_mutex_lock(&l->mutex);
    if (l->n_events) {
        e = l->events[l->first_event];
        l->first_event = (l->first_event + 1) % EVENTS_MAX;
        l->n_events--;
    }
    pthread_mutex_unlock(&l->mutex);
    if (!e)
        return false;
    *ret = *e;
    free(e);
    return true;
}

static bool take_order(struct wv_gateway_live *l, struct order *ret)
{
    bool any = false;
    pthread_mutex_lock(&l->mutex);
    if (l->n_orders) {
        *ret = l->orders[l->first_order];
        l->first_order = (l->first_order + 1) % ORDERS_MAX;
        l->n_orders--;
        any = true;
    }
    pthread_mutex_unlock(&l->mutex);
    return any;
}

static void drop_order(struct order *o)
{
    json_decref(o->frame);
    json_decref(o->lease);
}

/* Takes FRAME or LEASE. */
static int give_order(struct wv_gateway_live *l, json_t *frame, json_t *lease, const char *id)
{
    struct order o = {.frame = frame, .lease = lease};
    int r = frame || lease ? 0 : -ENOMEM;
    snprintf(o.id, sizeof o.id, "%s", id);
    pthread_mutex_lock(&l->mutex);
    if (r == 0)
        r = !l->online ? -ENOTCONN : l->n_orders == ORDERS_MAX ? -EAGAIN : 0;
    if (r == 0)
        l->orders[(l->first_order + l->n_orders++) % ORDERS_MAX] = o;
    pthread_mutex_unlock(&l->mutex);
    if (r < 0)
        drop_order(&o);
    else
        wv_gateway_wake(l->gateway);
    return r;
}

static void set_online(struct wv_gateway_live *l, bool online)
{
    struct order o;
    pthread_mutex_lock(&l->mutex);
    l->online = online;
    pthread_mutex_unlock(&l->mutex);
    while (!online && take_order(l, &o))
        drop_order(&o);
}

/* ---- signing in ---- */

/* A gateway that welcomes and ends the connection, again and again, is one that fails. */
static void count_connection(struct wv_gateway_live *l)
{
    if (wv_now_ns() - l->welcome_at >= LASTING_NS)
        l->failures = 0;
    else
        l->failures = WV_MIN(l->failures, (unsigned)SHORT_FAILURES);
    if (l->replaced)
        l->failures = WV_MAX(l->failures, (unsigned)REPLACED_AFTER);
    l->replaced = false;
}

static void put_off(struct wv_gateway_live *l, bool denied)
{
    if (l->phase == PHASE_WELCOME)
        count_connection(l);
    unsigned pause = PAUSE_FIRST_S << (l->failures < 6 ? l->failures : 6);
    uint64_t ms = 1000 * (uint64_t)(denied ? PAUSE_DENIED_S : WV_MIN(pause, (unsigned)PAUSE_MAX_S));
    l->failures++;
    /* Half of it is chance, so that a gateway that comes back does not meet everybody at once. */
    ms = ms / 2 + randombytes_uniform((uint32_t)ms / 2 + 1);
    l->try_at = wv_now_ns() + ms * WV_NS_PER_MS;
    l->phase = PHASE_IDLE;
    wv_gateway_close_socket(l->gateway);
    set_online(l, false);
}

static bool interrupted(struct wv_gateway_live *l)
{
    pthread_mutex_lock(&l->mutex);
    bool is = l->stop || l->changed || l->moved;
    pthread_mutex_unlock(&l->mutex);
    return is;
}

static bool stops(struct wv_gateway_live *l)
{
    pthread_mutex_lock(&l->mutex);
    bool is = l->stop;
    pthread_mutex_unlock(&l->mutex);
    return is;
}

static bool take_signature(struct wv_gateway_live *l, uint8_t ret[64])
{
    pthread_mutex_lock(&l->mutex);
    bool is = l->is_signed;
    if (is)
        memcpy(ret, l->signature, 64);
    l->is_signed = false;
    pthread_mutex_unlock(&l->mutex);
    return is;
}

/* Waits for the owner's signature. */
static bool wait_signature(struct wv_gateway_live *l, uint8_t ret[64])
{
    uint64_t until = wv_now_ns() + l->patience_ms / 2 * WV_NS_PER_MS;
    while (!take_signature(l, ret)) {
        if (interrupted(l) || wv_now_ns() >= until)
            return false;
        wv_gateway_wake_in(l->gateway, l->patience_ms / 2);
        if (wv_gateway_service(l->gateway) < 0)
            return false;
    }
    return true;
}

static bool read_bytes(const json_t *object, const char *name, uint8_t *ret, size_t len)
{
    const char *text = wv_gateway_text(object, name, 4 * len), *end;
    size_t n;
    return text && sodium_base642bin(ret, len, text, strlen(text), NULL, &n, &end, BASE64) == 0 && n == len &&
           !*end;
}

static void say_refused(struct wv_gateway_live *l, int r, const struct wv_gateway_answer *a)
{
    bool denied = r == WV_GATEWAY_REFUSED && (a->status == 401 || a->status == 403 || a->status == 404);
    emit_text(l, denied ? WV_GATEWAY_DENIED : WV_GATEWAY_LOST, "", a->error, a->sentence);
    put_off(l, denied);
}

/* The owner signs here and now, or is asked to. Takes E. Returns whether a signature can be waited for. */
static bool have_signed(struct wv_gateway_live *l, struct wv_gateway_event *e)
{
    uint8_t signature[64];
    pthread_mutex_lock(&l->mutex);
    wv_gateway_sign_fn sign = l->sign;
    void *userdata = l->sign_userdata;
    l->is_signed = false;
    memcpy(l->challenge, e->challenge, sizeof l->challenge);
    pthread_mutex_unlock(&l->mutex);
    if (!sign) {
        emit(l, e);
        return true;
    }
    bool is = sign(userdata, l->own_url.name, e->challenge, signature) == 0;
    if (is)
        wv_gateway_live_sign(l, e->challenge, signature);
    free(e);
    return is;
}

static void say_unsigned(struct wv_gateway_live *l)
{
    char text[WV_LIVE_TEXT_BYTES];
    snprintf(text, sizeof text, "This machine's identity did not sign for the gateway %s.", l->own_url.name);
    if (!interrupted(l))
        emit_text(l, WV_GATEWAY_LOST, "", "", text);
    put_off(l, false);
}

/* Returns whether there is a challenge, which the owner is asked to sign. */
static bool ask_challenge(struct wv_gateway_live *l, char ret_text[64])
{
    struct wv_gateway_answer a;
    struct wv_gateway_event *e = new_event(WV_GATEWAY_CHALLENGE);
    json_t *body = json_pack("{s:s}", "key", l->own_key);
    int r = wv_gateway_request(l->gateway, "POST", "/v1/challenge", NULL, body, l->patience_ms, &a);
    json_decref(body);
    const char *text = wv_gateway_text(a.body, "challenge", 60);
    bool good = r == 0 && e && text && read_bytes(a.body, "challenge", e->challenge, sizeof e->challenge);
    if (good) {
        snprintf(ret_text, 64, "%s", text);
        snprintf(e->key, sizeof e->key, "%s", l->own_key);
        good = have_signed(l, e);
        if (!good)
            say_unsigned(l);
    } else {
        free(e);
        if (r == 0)
            snprintf(a.sentence, sizeof a.sentence, "The challenge of the gateway %s is none.",
                     l->own_url.name);
        say_refused(l, r, &a);
    }
    wv_gateway_answer_fini(&a);
    return good;
}

static void say_hello(struct wv_gateway_live *l)
{
    json_t *hello = json_pack("{s:s,s:s}", "type", "hello", "token", l->token);
    (void)wv_gateway_send(l->gateway, hello);
    json_decref(hello);
}

static void begin_hello(struct wv_gateway_live *l, const char *token)
{
    snprintf(l->token, sizeof l->token, "%s", token);
    l->phase = PHASE_HELLO;
    l->hello_until = wv_now_ns() + l->patience_ms * WV_NS_PER_MS;
    if (wv_gateway_socket(l->gateway) == WV_SOCKET_OPEN)
        say_hello(l);
    else if (wv_gateway_socket(l->gateway) == WV_SOCKET_NONE) /* it did not last */
        (void)wv_gateway_open_socket(l->gateway);
}

/* The WebSocket opens beside the two questions: each takes round trips, and together they take no longer. */
static void sign_in(struct wv_gateway_live *l)
{
    struct wv_gateway_answer a;
    uint8_t signature[64];
    char text[100], challenge[64];
    (void)wv_gateway_open_socket(l->gateway);
    if (!ask_challenge(l, challenge))
        return;
    if (!wait_signature(l, signature)) {
        say_unsigned(l);
        return;
    }
    sodium_bin2base64(text, sizeof text, signature, sizeof signature, BASE64);
    json_t *body = json_pack("{s:s,s:s,s:s}", "key", l->own_key, "challenge", challenge, "signature", text);
    int r = wv_gateway_request(l->gateway, "POST", "/v1/session", NULL, body, l->patience_ms, &a);
    json_decref(body);
    const char *token = wv_gateway_text(a.body, "token", sizeof l->token - 1);
    if (r == 0 && token) {
        begin_hello(l, token);
    } else {
        if (r == 0)
            snprintf(a.sentence, sizeof a.sentence, "The gateway %s gave no token.", l->own_url.name);
        say_refused(l, r, &a);
    }
    wv_gateway_answer_fini(&a);
}

/* ---- the WebSocket ---- */

static void on_opened(void *userdata)
{
    struct wv_gateway_live *l = userdata;
    if (l->phase == PHASE_HELLO)
        say_hello(l);
}

static void on_closed(void *userdata, const char *why)
{
    struct wv_gateway_live *l = userdata;
    if (l->phase == PHASE_IDLE)
        return;
    emit_text(l, WV_GATEWAY_LOST, "", "", why);
    put_off(l, false);
}

static void on_welcome(struct wv_gateway_live *l, const json_t *object)
{
    struct wv_gateway_event *e = new_event(WV_GATEWAY_WELCOME);
    json_t *stun = json_object_get(object, "stun"), *one;
    size_t i;
    if (!e)
        return;
    json_array_foreach(stun, i, one) if (i < WV_LIVE_STUN_MAX && e->n_stun < WV_LIVE_STUN_MAX &&
                                         json_is_string(one) && !stops(l)) e->n_stun +=
        wv_gateway_resolve(json_string_value(one), e->stun + e->n_stun, WV_LIVE_STUN_MAX - e->n_stun);
    l->phase = PHASE_WELCOME;
    l->welcome_at = wv_now_ns();
    set_online(l, true);
    emit(l, e);
}

static void on_signal(struct wv_gateway_live *l, const json_t *object)
{
    struct wv_gateway_event *e = new_event(WV_GATEWAY_SIGNAL);
    const char *from = wv_gateway_text(object, "from", WV_LIVE_KEY_TEXT - 1), *end;
    const char *id = wv_gateway_text(object, "id", WV_LIVE_ID_BYTES - 1);
    const char *sealed = wv_gateway_text(object, "sealed", 2 * WV_LIVE_SEALED_MAX);
    if (!e || !from || !id || !sealed ||
        sodium_base642bin(e->sealed, sizeof e->sealed, sealed, strlen(sealed), NULL, &e->sealed_len, &end,
                          BASE64) != 0 ||
        *end) {
        free(e);
        return;
    }
    strcpy(e->key, from);
    strcpy(e->id, id);
    emit(l, e);
}

static void on_message(void *userdata, json_t *object)
{
    struct wv_gateway_live *l = userdata;
    const char *type = wv_gateway_text(object, "type", 32);
    const char *id = wv_gateway_text(object, "id", WV_LIVE_ID_BYTES - 1);
    const char *error = wv_gateway_text(object, "error", 40);
    const char *text = wv_gateway_text(object, "message", WV_LIVE_TEXT_BYTES - 1);
    if (!type || l->phase == PHASE_IDLE) /* we have not said who we are */
        return;
    if (!strcmp(type, "welcome")) {
        if (l->phase == PHASE_HELLO) /* once: it costs questions to the resolver */
            on_welcome(l, object);
    } else if (!strcmp(type, "signal"))
        on_signal(l, object);
    else if (!strcmp(type, "sent") && id)
        emit_text(l, WV_GATEWAY_SENT, id, "", "");
    else if (!strcmp(type, "error") && error)
        emit_text(l, WV_GATEWAY_ERROR, id ? id : "", error, text ? text : error);
    /* "replaced": another process has this machine's key; the gateway closes, and the pause grows. */
    else if (!strcmp(type, "replaced"))
        l->replaced = true;
}

/* ---- leases ---- */

static void ask_lease(struct wv_gateway_live *l, const struct order *o)
{
    struct wv_gateway_answer a;
    int r = wv_gateway_request(l->gateway, "POST", "/v1/leases", l->token, o->lease, l->patience_ms, &a);
    const char *lease = wv_gateway_text(a.body, "lease", WV_LIVE_LEASE_MAX - 1);
    const json_t *relay = json_object_get(a.body, "relay");
    const char *address = wv_gateway_text(relay, "address", WV_GATEWAY_NAME_BYTES - 1);
    struct wv_gateway_event *e = r == 0 && lease && address ? new_event(WV_GATEWAY_LEASE) : NULL;
    bool found = e && wv_gateway_resolve(address, &e->relay, 1) == 1;
    if (found) {
        strcpy(e->id, o->id);
        strcpy(e->lease, lease);
        e->expires = (uint64_t)json_integer_value(json_object_get(a.body, "expires"));
        emit(l, e);
    } else {
        free(e);
        emit_text(l, WV_GATEWAY_ERROR, o->id, r == WV_GATEWAY_REFUSED ? a.error : "lease",
                  r == 0 ? "The gateway's lease is none." : a.sentence);
    }
    wv_gateway_answer_fini(&a);
}

static void do_orders(struct wv_gateway_live *l)
{
    struct order o;
    while (l->phase == PHASE_WELCOME && take_order(l, &o)) {
        int r = 0;
        if (o.lease)
            ask_lease(l, &o);
        else
            r = wv_gateway_send(l->gateway, o.frame);
        if (r < 0)
            emit_text(l, WV_GATEWAY_ERROR, o.id, "too_many",
                      "The gateway does not take messages fast enough.");
        drop_order(&o);
    }
}

/* ---- the thread ---- */

/* The machine is in another network, perhaps. A wave of such news costs a wave of looks, and one connection:
 * the new one leaves by the address that counts now. */
static void move(struct wv_gateway_live *l)
{
    bool open = wv_gateway_socket(l->gateway) != WV_SOCKET_NONE;
    if (open && !wv_gateway_has_moved(l->gateway))
        return;
    if (open) {
        if (l->phase == PHASE_WELCOME)
            count_connection(l);
        l->phase = PHASE_IDLE;
        wv_gateway_close_socket(l->gateway);
        set_online(l, false);
    } else if (l->failures > MOVED_FAILURES) {
        return; /* a gateway that refuses is not asked more often for that */
    }
    l->try_at = 0;
}

/* What the owner aims at has changed, or is to end. Returns false at the end. */
static bool follow(struct wv_gateway_live *l, bool *ret_aimed)
{
    pthread_mutex_lock(&l->mutex);
    bool stop = l->stop, changed = l->changed;
    *ret_aimed = l->aimed;
    bool moved = l->moved;
    l->changed = l->moved = false;
    if (changed) {
        l->own_url = l->url;
        strcpy(l->own_key, l->key);
    }
    pthread_mutex_unlock(&l->mutex);
    if (changed || stop) {
        l->phase = PHASE_IDLE;
        wv_gateway_close_socket(l->gateway);
        set_online(l, false);
        l->failures = 0;
        l->try_at = 0;
    }
    if (changed)
        wv_gateway_aim(l->gateway, &l->own_url);
    else if (moved && !stop)
        move(l);
    return !stop;
}

static void say_unwelcome(struct wv_gateway_live *l)
{
    char text[WV_LIVE_TEXT_BYTES];
    snprintf(text, sizeof text,
             "The gateway %s did not say welcome in time. If it stays so, tell its operator.",
             l->own_url.name);
    emit_text(l, WV_GATEWAY_LOST, "", "", text);
}

static void wait(struct wv_gateway_live *l, bool aimed)
{
    uint64_t now = wv_now_ns(), until = now + 60 * WV_NS_PER_S;
    if (l->phase == PHASE_IDLE && aimed)
        until = l->try_at;
    else if (l->phase == PHASE_HELLO)
        until = l->hello_until;
    wv_gateway_wake_in(l->gateway, until > now ? (unsigned)((until - now) / WV_NS_PER_MS) + 1 : 1);
    (void)wv_gateway_service(l->gateway);
}

static void *run(void *userdata)
{
    struct wv_gateway_live *l = userdata;
    bool aimed;
    while (follow(l, &aimed)) {
        uint64_t now = wv_now_ns();
        if (aimed && l->phase == PHASE_IDLE && now >= l->try_at &&
            wv_gateway_socket(l->gateway) == WV_SOCKET_NONE)
            sign_in(l);
        else if (l->phase == PHASE_HELLO && now >= l->hello_until) {
            wv_gateway_close_socket(l->gateway);
            say_unwelcome(l);
            put_off(l, false);
        }
        do_orders(l);
        if (!interrupted(l))
            wait(l, aimed);
    }
    return NULL;
}

int wv_gateway_live_new(struct wv_gateway_live **ret, const char *ca_file)
{
    struct wv_gateway_live *l = calloc(1, sizeof *l);
    if (!l)
        return -ENOMEM;
    const struct wv_gateway_calls calls = {.opened = on_opened, .message = on_message, .closed = on_closed};
    sigset_t all, before;
    l->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    int r = l->event_fd < 0 ? -errno : wv_gateway_new(&l->gateway, ca_file);
    pthread_mutex_init(&l->mutex, NULL);
    l->patience_ms = PATIENCE_MS;
    if (r == 0) {
        wv_gateway_set_calls(l->gateway, &calls, l);
        sigfillset(&all); /* signals are the owner's */
        pthread_sigmask(SIG_SETMASK, &all, &before);
        r = -pthread_create(&l->thread, NULL, run, l);
        pthread_sigmask(SIG_SETMASK, &before, NULL);
    }
    if (r < 0) {
        wv_gateway_free(l->gateway);
        wv_close(l->event_fd);
        free(l);
        return r;
    }
    *ret = l;
    return 0;
}

struct wv_gateway_live *wv_gateway_live_free(struct wv_gateway_live *l)
{
    struct wv_gateway_event e;
    if (!l)
        return NULL;
    pthread_mutex_lock(&l->mutex);
    l->stop = true;
    pthread_mutex_unlock(&l->mutex);
    wv_gateway_stop(l->gateway);
    pthread_join(l->thread, NULL);
    set_online(l, false);
    while (wv_gateway_live_next(l, &e))
        ;
    wv_gateway_free(l->gateway);
    wv_close(l->event_fd);
    pthread_mutex_destroy(&l->mutex);
    explicit_bzero(l->token, sizeof l->token);
    free(l);
    return NULL;
}

void wv_gateway_live_aim(struct wv_gateway_live *l, const struct wv_gateway_url *url, const char *key)
{
    pthread_mutex_lock(&l->mutex);
    bool same =
        url ? l->aimed && !strcmp(l->url.name, url->name) && l->url.tls == url->tls && !strcmp(l->key, key)
            : !l->aimed;
    l->aimed = url != NULL;
    if (url) {
        l->url = *url;
        snprintf(l->key, sizeof l->key, "%s", key);
    }
    l->changed = l->changed || !same;
    pthread_mutex_unlock(&l->mutex);
    wv_gateway_wake(l->gateway);
}

void wv_gateway_live_moved(struct wv_gateway_live *l)
{
    pthread_mutex_lock(&l->mutex);
    l->moved = true;
    pthread_mutex_unlock(&l->mutex);
    wv_gateway_wake(l->gateway);
}

int wv_gateway_live_fd(const struct wv_gateway_live *l)
{
    return l->event_fd;
}

void wv_gateway_live_set_sign(struct wv_gateway_live *l, wv_gateway_sign_fn sign, void *userdata)
{
    pthread_mutex_lock(&l->mutex);
    l->sign = sign;
    l->sign_userdata = userdata;
    pthread_mutex_unlock(&l->mutex);
}

void wv_gateway_live_set_patience(struct wv_gateway_live *l, unsigned ms)
{
    pthread_mutex_lock(&l->mutex);
    l->patience_ms = ms;
    pthread_mutex_unlock(&l->mutex);
}

void wv_gateway_live_sign(struct wv_gateway_live *l, const uint8_t challenge[32], const uint8_t signature[64])
{
    pthread_mutex_lock(&l->mutex);
    if (sodium_memcmp(l->challenge, challenge, sizeof l->challenge) == 0) {
        memcpy(l->signature, signature, 64);
        l->is_signed = true;
    }
    pthread_mutex_unlock(&l->mutex);
    wv_gateway_wake(l->gateway);
}

int wv_gateway_live_signal(struct wv_gateway_live *l, const char *key, const char *id, const uint8_t *sealed,
                           size_t len)
{
    char text[sodium_base64_ENCODED_LEN(WV_LIVE_SEALED_MAX, BASE64)];
    if (len > WV_LIVE_SEALED_MAX || strlen(id) >= WV_LIVE_ID_BYTES)
        return -EMSGSIZE;
    sodium_bin2base64(text, sizeof text, sealed, len, BASE64);
    return give_order(
        l, json_pack("{s:s,s:s,s:s,s:s}", "type", "signal", "to", key, "id", id, "sealed", text), NULL, id);
}

int wv_gateway_live_lease(struct wv_gateway_live *l, const char *id, const char *host_key,
                          const char *host_relay_key, const char *client_relay_key, const char *renew)
{
    json_t *body = json_pack("{s:s,s:s,s:s}", "host", host_key, "host_relay_key", host_relay_key,
                             "client_relay_key", client_relay_key);
    if (body && renew)
        json_object_set_new(body, "lease", json_string(renew));
    return give_order(l, NULL, body, id);
}

int wv_gateway_live_sessions(struct wv_gateway_live *l, const struct wv_gateway_session *sessions, size_t n)
{
    json_t *list = json_array();
    for (size_t i = 0; i < n && i < SESSIONS_MAX; i++)
        json_array_append_new(list, json_pack("{s:s,s:s,s:f,s:f}", "peer", sessions[i].peer, "path",
                                              sessions[i].relayed ? "relayed" : "direct", "rtt_ms",
                                              sessions[i].rtt_us / 1000.0, "loss",
                                              sessions[i].loss_permille / 1000.0));
    return give_order(l, json_pack("{s:s,s:o}", "type", "sessions", "sessions", list), NULL, "");
}
