/* Machines' connections. See signal.h. */
#include "services/gateway/signal_internal.h"

#include "lib/base/util.h"
#include "rift/crypto/identity.h"
#include "services/gateway/json.h"

#include <errno.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>

#define SCAN_NS WV_NS_PER_S
#define CHECK_NS                                                                                             \
    (600 * WV_NS_PER_S) /* is the machine still known? what was said about changes may be lost               \
                         */
#define SESSIONS_NS     (4 * WV_NS_PER_S)
#define REFUSALS_MAX    100 /* messages beyond the limit in a row */
#define RESULTS_MAX     512 /* answers to its own messages that wait for one that does not read */
#define SLOT_BITS       24
#define GATEWAYS_MAX    64
#define LEAVE_SPREAD_MS 3000
#define CHECKS_A_SCAN   200
#define CLOSE_NS        (5 * WV_NS_PER_S) /* for a farewell to be read */

#define CLOSE_LEAVING  1001
#define CLOSE_FLOOD    1008
#define CLOSE_AGAIN    1013
#define CLOSE_REPLACED 4000
#define CLOSE_REFUSED  4001
#define CLOSE_SLOW     4002

const struct wv_signal_limits wv_signal_usual = {
    .connections = 20000,
    .machines = 100000,
    .messages_per_s = 20,
    .messages_burst = 100,
    .bytes_per_s = 128 << 10,
    .bytes_burst = 1 << 20,
    .queue_messages = 256,
    .queue_bytes = 512 << 10,
    .hello_ns = 10 * WV_NS_PER_S,
    .stalled_ns = 15 * WV_NS_PER_S,
};

static void on_say(void *userdata, const char *to, const struct wv_presence_word *word)
{
    struct wv_signal *s = userdata;
    s->out.kind = WV_BUS_PRESENCE;
    s->out.word = *word;
    (void)s->calls.say(s->calls.userdata, to, &s->out);
}

static void on_displaced(void *userdata, const uint8_t key[WV_STORE_KEY_BYTES], uint64_t number)
{
    struct wv_signal *s = userdata;
    struct wv_signal_connection *c = wv_signal_connection_of(s, number);
    size_t len;
    if (!c)
        return;
    s->numbers.replaced++;
    char *text = wv_signal_write_json(WV_SIGNAL_HEADROOM, json_pack("{s:s}", "type", "replaced"), &len);
    (void)wv_signal_queue(c, text, len, NULL);
    wv_signal_close(c, CLOSE_REPLACED, "replaced");
}

int wv_signal_new(struct wv_signal **ret, const char *self, const struct wv_signal_limits *limits,
                  const struct wv_signal_calls *calls, const uint8_t secret[16])
{
    struct wv_presence_limits presence = {limits->machines, GATEWAYS_MAX};
    if (limits->connections == 0 || limits->connections >= (size_t)1 << SLOT_BITS)
        return -EINVAL;
    struct wv_signal *s = calloc(1, sizeof *s);
    if (!s)
        return -ENOMEM;
    struct wv_presence_calls presence_calls = {on_say, on_displaced, s};
    s->limits = *limits;
    s->calls = *calls;
    s->next_number = 1;
    s->next_forward = s->oldest_forward = 1;
    memcpy(s->secret, secret, sizeof s->secret);
    int r = wv_presence_new(&s->presence, self, &presence, &presence_calls, secret);
    if (r == 0)
        r = wv_sessions_new(&s->sessions, limits->machines);
    if (r < 0) {
        wv_signal_free(s);
        return r;
    }
    *ret = s;
    return 0;
}

struct wv_signal *wv_signal_free(struct wv_signal *s)
{
    if (!s)
        return NULL;
    wv_signal_route_fini(s);
    wv_presence_free(s->presence);
    wv_sessions_free(s->sessions);
    free(s->slots);
    free(s);
    return NULL;
}

/* ---- connections ---- */

struct wv_signal_connection *wv_signal_connection_of(struct wv_signal *s, uint64_t number)
{
    size_t slot = number & (((uint64_t)1 << SLOT_BITS) - 1);
    struct wv_signal_connection *c = slot < s->n_slots ? s->slots[slot] : NULL;
    return c && c->number == number ? c : NULL;
}

static int take_slot(struct wv_signal *s, size_t *ret_slot)
{
    if (s->n_connections >= s->limits.connections)
        return -ENOBUFS;
    if (s->n_connections == s->n_slots) {
        size_t n = WV_MAX((size_t)64, 2 * s->n_slots);
        struct wv_signal_connection **slots = realloc(s->slots, n * sizeof(struct wv_signal_connection *));
        if (!slots)
            return -ENOMEM;
        memset(slots + s->n_slots, 0, (n - s->n_slots) * sizeof(struct wv_signal_connection *));
        s->slots = slots;
        s->n_slots = n;
    }
    /* There is a free one; the serial number is a good place to begin to look. */
    size_t slot = s->serial % s->n_slots;
    while (s->slots[slot])
        slot = (slot + 1) % s->n_slots;
    *ret_slot = slot;
    return 0;
}

struct wv_signal_connection *wv_signal_open(struct wv_signal *s, void *link, uint64_t now)
{
    size_t slot;
    if (s->draining || take_slot(s, &slot) < 0)
        return NULL;
    struct wv_signal_connection *c = calloc(1, sizeof *c);
    if (!c)
        return NULL;
    c->signal = s;
    c->link = link;
    c->number = ++s->serial << SLOT_BITS | slot;
    c->last = &c->first;
    c->messages = s->limits.messages_burst;
    c->bytes = s->limits.bytes_burst;
    c->filled = c->opened = c->moved = now;
    s->slots[slot] = c;
    s->n_connections++;
    s->numbers.opened++;
    return c;
}

static void free_item(struct wv_signal_item *item)
{
    free(item->text);
    free(item);
}

static struct wv_signal_item *take_item(struct wv_signal_connection *c)
{
    struct wv_signal_item *item = c->first;
    c->first = item->next;
    if (!c->first)
        c->last = &c->first;
    c->queued--;
    c->queued_bytes -= item->len;
    return item;
}

void wv_signal_closed(struct wv_signal_connection *c)
{
    struct wv_signal *s = c->signal;
    s->slots[c->number & (((uint64_t)1 << SLOT_BITS) - 1)] = NULL;
    s->n_connections--;
    if (c->machine.account[0]) {
        s->numbers.welcomed--;
        wv_presence_leave(s->presence, c->machine.key, c->number);
    }
    while (c->first) {
        struct wv_signal_item *item = take_item(c);
        if (item->origin.wanted)
            wv_signal_settle(s, &item->origin, WV_SIGNAL_OFFLINE, 0);
        free_item(item);
    }
    free(c);
}

int wv_signal_queue(struct wv_signal_connection *c, char *take_text, size_t len,
                    const struct wv_signal_origin *origin)
{
    const struct wv_signal_limits *l = &c->signal->limits;
    size_t most = origin ? l->queue_messages : RESULTS_MAX;
    struct wv_signal_item *item = take_text ? calloc(1, sizeof *item) : NULL;
    int r = !item ? -ENOMEM : c->state == WV_SIGNAL_CLOSING ? -ENOTCONN : 0;
    if (r == 0 && (c->queued >= most || c->queued_bytes + len > l->queue_bytes))
        r = -ENOBUFS;
    if (r < 0) {
        free(item);
        free(take_text);
        return r;
    }
    item->text = take_text;
    item->len = len;
    if (origin)
        item->origin = *origin;
    *c->last = item;
    c->last = &item->next;
    c->queued++;
    c->queued_bytes += len;
    c->signal->calls.writable(c->signal->calls.userdata, c->link);
    return 0;
}

void wv_signal_close(struct wv_signal_connection *c, unsigned code, const char *why)
{
    if (c->state == WV_SIGNAL_CLOSING)
        return;
    c->state = WV_SIGNAL_CLOSING;
    c->close_code = code;
    c->close_why = why;
    c->signal->calls.writable(c->signal->calls.userdata, c->link);
}

void wv_signal_answer(struct wv_signal_connection *c, const char *id, enum wv_signal_result result,
                      const char *sentence)
{
    size_t len;
    char *text = wv_signal_write_result(WV_SIGNAL_HEADROOM, id, result, sentence, &len);
    if (wv_signal_queue(c, text, len, NULL) != -ENOBUFS)
        return;
    c->signal->numbers.slow++;
    wv_signal_close(c, CLOSE_SLOW, "too slow");
}

void wv_signal_settle(struct wv_signal *s, const struct wv_signal_origin *origin,
                      enum wv_signal_result result, uint64_t now)
{
    if (origin->gateway[0]) {
        s->out.kind = WV_BUS_ANSWER;
        s->out.number = origin->number;
        s->out.result = result;
        (void)s->calls.say(s->calls.userdata, origin->gateway, &s->out);
        return;
    }
    s->numbers.results[result]++;
    if (now && s->n_times < WV_SIGNAL_TIMES)
        s->times[s->n_times++] = (now - origin->received) / WV_NS_PER_US;
    struct wv_signal_connection *c = wv_signal_connection_of(s, origin->number);
    if (c)
        wv_signal_answer(c, origin->id, result, NULL);
}

bool wv_signal_next(struct wv_signal_connection *c, char **ret_text, size_t *ret_len, unsigned *ret_close,
                    const char **ret_why)
{
    /* Who is too slow does not get the rest first. */
    bool now = c->state == WV_SIGNAL_CLOSING && (c->close_code == CLOSE_SLOW || c->close_code == CLOSE_FLOOD);
    *ret_close = 0;
    if (c->first && !now) {
        *ret_text = c->first->text + WV_SIGNAL_HEADROOM;
        *ret_len = c->first->len;
        return true;
    }
    if (c->state == WV_SIGNAL_CLOSING) {
        *ret_close = c->close_code;
        *ret_why = c->close_why;
    }
    return false;
}

void wv_signal_written(struct wv_signal_connection *c, uint64_t now)
{
    struct wv_signal_item *item = take_item(c);
    c->moved = now;
    if (item->origin.wanted)
        wv_signal_settle(c->signal, &item->origin, WV_SIGNAL_SENT, now);
    free_item(item);
}

/* ---- hello ---- */

static void refuse_hello(struct wv_signal_connection *c, enum wv_signal_result result, unsigned code,
                         const char *sentence)
{
    c->signal->numbers.refused_hello++;
    wv_signal_answer(c, "", result, sentence);
    wv_signal_close(c, code, "refused");
}

static void hello(struct wv_signal_connection *c, const struct wv_signal_message *m)
{
    struct wv_signal_question q = {.kind = WV_SIGNAL_ASK_TOKEN, .number = c->number << 1};
    if (c->state != WV_SIGNAL_NEW)
        return wv_signal_answer(c, "", WV_SIGNAL_BAD_MESSAGE, "One hello is enough.");
    memcpy(q.token, m->token, sizeof q.token);
    c->state = WV_SIGNAL_ASKING;
    if (c->signal->calls.ask(c->signal->calls.userdata, &q) < 0)
        refuse_hello(c, WV_SIGNAL_UNAVAILABLE, CLOSE_AGAIN, "Too much is waiting here: try again.");
}

static void welcome(struct wv_signal_connection *c, const struct wv_machine *machine, uint64_t now)
{
    struct wv_signal *s = c->signal;
    char key[RIFT_PUBLIC_KEY_TEXT_BYTES];
    size_t len;
    int r = wv_presence_join(s->presence, machine->key, c->number, s->calls.unix_ms(s->calls.userdata));
    if (r < 0)
        return refuse_hello(c, WV_SIGNAL_TOO_MANY, CLOSE_AGAIN, "Too many machines are connected.");
    c->machine = *machine;
    c->state = WV_SIGNAL_WELCOMED;
    c->checked = now;
    s->numbers.welcomed++;
    rift_public_key_format(machine->key, key);
    json_t *o = s->calls.offer(s->calls.userdata);
    json_object_set_new(o, "type", json_string("welcome"));
    json_object_set_new(o, "key", json_string(key));
    char *text = wv_signal_write_json(WV_SIGNAL_HEADROOM, o, &len);
    (void)wv_signal_queue(c, text, len, NULL);
}

static void token_told(struct wv_signal_connection *c, const struct wv_signal_reply *reply, uint64_t now)
{
    if (reply->r == 0)
        welcome(c, &reply->machine, now);
    else if (reply->r == -ENOENT)
        refuse_hello(c, WV_SIGNAL_NOT_ALLOWED, CLOSE_REFUSED,
                     "The token is unknown, has ended, or is not of a machine: sign in again.");
    else
        refuse_hello(c, WV_SIGNAL_UNAVAILABLE, CLOSE_AGAIN, NULL);
}

static void check_again(struct wv_signal_connection *c, uint64_t now)
{
    struct wv_signal_question q = {.kind = WV_SIGNAL_ASK_MACHINE, .number = c->number << 1};
    memcpy(q.from, c->machine.key, sizeof q.from);
    c->must_check = c->signal->calls.ask(c->signal->calls.userdata, &q) < 0;
    c->checked = now;
}

void wv_signal_told(struct wv_signal *s, uint64_t number, const struct wv_signal_reply *reply, uint64_t now)
{
    if (number & WV_SIGNAL_QUESTION_ACCESS)
        return wv_signal_route_told(s, number, reply, now);
    struct wv_signal_connection *c = wv_signal_connection_of(s, number >> 1);
    if (c && c->state == WV_SIGNAL_ASKING) {
        token_told(c, reply, now);
    } else if (c && c->state == WV_SIGNAL_WELCOMED && reply->r == -ENOENT) {
        s->numbers.revoked++;
        wv_signal_answer(c, "", WV_SIGNAL_NOT_ALLOWED, "This machine is no longer registered.");
        wv_signal_close(c, CLOSE_REFUSED, "revoked");
    }
}

/* ---- messages ---- */

static void sessions(struct wv_signal_connection *c, const struct wv_signal_message *m, uint64_t now)
{
    struct wv_signal *s = c->signal;
    struct wv_session_report *report = &s->out.report;
    if (!c->machine.is_host)
        return wv_signal_answer(c, "", WV_SIGNAL_NOT_ALLOWED, "Only hosts tell of sessions.");
    if (now < c->next_sessions)
        return wv_signal_answer(c, "", WV_SIGNAL_TOO_MANY, NULL);
    c->next_sessions = now + SESSIONS_NS;
    memset(report, 0, sizeof *report);
    memcpy(report->host, c->machine.key, sizeof report->host);
    memcpy(report->account, c->machine.account, sizeof report->account);
    memcpy(report->name, c->machine.name, sizeof report->name);
    report->n = m->n_sessions;
    memcpy(report->sessions, m->sessions, m->n_sessions * sizeof m->sessions[0]);
    (void)wv_sessions_report(s->sessions, report, now);
    s->out.kind = WV_BUS_SESSIONS;
    (void)s->calls.say(s->calls.userdata, NULL, &s->out);
}

/* Whether a message of LEN bytes is within the limits. */
static bool take(struct wv_signal_connection *c, size_t len, uint64_t now)
{
    const struct wv_signal_limits *l = &c->signal->limits;
    double s = (double)(now - c->filled) / (double)WV_NS_PER_S;
    c->filled = now;
    c->messages = WV_MIN(c->messages + s * l->messages_per_s, l->messages_burst);
    c->bytes = WV_MIN(c->bytes + s * l->bytes_per_s, l->bytes_burst);
    if (c->messages < 1 || c->bytes < (double)len) {
        if (++c->refusals >= REFUSALS_MAX) {
            c->signal->numbers.flooded++;
            wv_signal_close(c, CLOSE_FLOOD, "too many messages");
        }
        return false;
    }
    c->refusals = 0;
    c->messages -= 1;
    c->bytes -= (double)len;
    return true;
}

void wv_signal_receive_bad(struct wv_signal_connection *c, enum wv_signal_result why, uint64_t now)
{
    if (c->state == WV_SIGNAL_CLOSING)
        return;
    c->signal->numbers.results[why]++;
    if (c->state == WV_SIGNAL_NEW)
        refuse_hello(c, why, CLOSE_REFUSED, NULL);
    else
        wv_signal_answer(c, "", take(c, WV_SIGNAL_TEXT_MAX, now) ? why : WV_SIGNAL_TOO_MANY, NULL);
}

void wv_signal_receive(struct wv_signal_connection *c, const void *data, size_t len, uint64_t now)
{
    struct wv_signal *s = c->signal;
    char reason[160];
    if (c->state == WV_SIGNAL_CLOSING)
        return;
    /* Read also when it is too many, for its id; a flood ends soon. */
    int r = wv_signal_parse(&s->message, data, len, reason);
    if (!take(c, len, now)) {
        s->numbers.results[WV_SIGNAL_TOO_MANY]++;
        return wv_signal_answer(c, s->message.id, WV_SIGNAL_TOO_MANY, NULL);
    }
    if (r == 0 && c->state != WV_SIGNAL_WELCOMED && s->message.kind != WV_SIGNAL_HELLO) {
        snprintf(reason, sizeof reason, "Say hello first, and wait for the welcome.");
        r = -EBADMSG;
    }
    if (r < 0) {
        enum wv_signal_result why = r == -EMSGSIZE ? WV_SIGNAL_TOO_LARGE : WV_SIGNAL_BAD_MESSAGE;
        s->numbers.results[why]++;
        if (c->state == WV_SIGNAL_NEW)
            return refuse_hello(c, why, CLOSE_REFUSED, reason);
        return wv_signal_answer(c, s->message.id, why, reason);
    }
    if (s->message.kind == WV_SIGNAL_HELLO)
        hello(c, &s->message);
    else if (s->message.kind == WV_SIGNAL_SEALED)
        wv_signal_route(c, &s->message, now);
    else
        sessions(c, &s->message, now);
}

/* ---- the bus, time, the end ---- */

/* Those of one account at once; all of them one after the other, so that signals find the database free. */
static void recheck(struct wv_signal *s, const char *account, uint64_t now)
{
    wv_signal_route_changed(s);
    for (size_t i = 0; i < s->n_slots; i++) {
        struct wv_signal_connection *c = s->slots[i];
        if (!c || (c->state != WV_SIGNAL_WELCOMED && c->state != WV_SIGNAL_ASKING))
            continue;
        if (!account[0] || c->state == WV_SIGNAL_ASKING) /* whose answer may be older than the change */
            c->must_check = true;
        else if (!strcmp(account, c->machine.account))
            check_again(c, now);
    }
}

void wv_signal_changed(struct wv_signal *s, const char *account, uint64_t now)
{
    recheck(s, account, now);
    s->out.kind = WV_BUS_CHANGED;
    snprintf(s->out.account, sizeof s->out.account, "%s", account);
    (void)s->calls.say(s->calls.userdata, NULL, &s->out);
}

void wv_signal_heard(struct wv_signal *s, const void *data, size_t len, uint64_t now)
{
    struct wv_bus_message *m = &s->in;
    if (wv_bus_message_parse(m, data, len) < 0) {
        s->numbers.bad_bus++;
        return;
    }
    switch (m->kind) {
    case WV_BUS_PRESENCE:
        return wv_presence_hear(s->presence, m->from, &m->word, now);
    case WV_BUS_SIGNAL:
        return wv_signal_route_here(s, m, now);
    case WV_BUS_ANSWER:
        return wv_signal_route_answered(s, m, now);
    case WV_BUS_SESSIONS:
        (void)wv_sessions_report(s->sessions, &m->report, now);
        return;
    case WV_BUS_RELAY:
        return s->calls.heard_relay(s->calls.userdata, m);
    case WV_BUS_CHANGED:
        return recheck(s, m->account, now);
    }
}

void wv_signal_bus(struct wv_signal *s, bool up, uint64_t now)
{
    s->bus_up = up;
    if (!up)
        return;
    wv_presence_bus_is_up(s->presence, now);
    recheck(s, "", now); /* whatever was said meanwhile was not heard */
}

static void look_after(struct wv_signal_connection *c, unsigned *checks, uint64_t now)
{
    struct wv_signal *s = c->signal;
    if (c->state == WV_SIGNAL_CLOSING) {
        if (!c->cut_at)
            c->cut_at = now + (c->close_code == CLOSE_SLOW ? 0 : CLOSE_NS);
        if (now >= c->cut_at)
            s->calls.cut(s->calls.userdata, c->link);
    } else if (c->state != WV_SIGNAL_WELCOMED && now - c->opened >= s->limits.hello_ns) {
        s->numbers.late_hello++;
        wv_signal_close(c, CLOSE_FLOOD, "no hello");
    } else if (c->first && now - c->moved >= s->limits.stalled_ns) {
        s->numbers.slow++;
        wv_signal_close(c, CLOSE_SLOW, "too slow");
    } else if (c->state == WV_SIGNAL_WELCOMED && *checks && (c->must_check || now - c->checked >= CHECK_NS)) {
        (*checks)--;
        check_again(c, now);
    }
    if (!c->first)
        c->moved = now;
}

void wv_signal_tick(struct wv_signal *s, uint64_t now)
{
    bool scan = now >= s->next_scan;
    unsigned checks = CHECKS_A_SCAN;
    wv_presence_tick(s->presence, now);
    wv_signal_route_tick(s, now, scan);
    if (!scan)
        return;
    s->next_scan = now + SCAN_NS;
    wv_sessions_tick(s->sessions, now);
    for (size_t i = 0; i < s->n_slots; i++)
        if (s->slots[i])
            look_after(s->slots[i], &checks, now);
}

void wv_signal_drain(struct wv_signal *s, uint64_t now)
{
    s->draining = true;
    for (size_t i = 0; i < s->n_slots; i++) {
        struct wv_signal_connection *c = s->slots[i];
        size_t len;
        if (!c || c->state == WV_SIGNAL_CLOSING)
            continue;
        /* Not all at the same moment at the next gateway. */
        json_t *o =
            json_pack("{s:s, s:i}", "type", "leaving", "retry_ms", (int)randombytes_uniform(LEAVE_SPREAD_MS));
        char *text = wv_signal_write_json(WV_SIGNAL_HEADROOM, o, &len);
        (void)wv_signal_queue(c, text, len, NULL);
        wv_signal_close(c, CLOSE_LEAVING, "leaving");
    }
    wv_presence_bye(s->presence);
}

bool wv_signal_is_online(const struct wv_signal *s, const uint8_t key[WV_STORE_KEY_BYTES])
{
    return wv_presence_find(s->presence, key, NULL, NULL) != WV_PRESENCE_NOWHERE;
}

const struct wv_sessions *wv_signal_sessions(const struct wv_signal *s)
{
    return s->sessions;
}

void wv_signal_numbers(const struct wv_signal *s, struct wv_signal_numbers *ret)
{
    *ret = s->numbers;
    ret->connections = s->n_connections;
    wv_presence_numbers(s->presence, &ret->presence);
}

bool wv_signal_take_time(struct wv_signal *s, uint64_t *ret_us)
{
    if (!s->n_times)
        return false;
    *ret_us = s->times[--s->n_times];
    return true;
}
