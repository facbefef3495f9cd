/* What a machine may say on its WebSocket, and what the bus may carry: read by the gateway's own code, with a
 * hub of signaling behind it. The first byte says whose the rest is: 0 to 3, a message of one of two machines
 * or of the bus to such a hub; else the parsers alone. Whatever is understood must be written so that it is
 * understood again. */
#include "services/gateway/json.h"
#include "services/gateway/signal.h"

#include "lib/base/util.h"

#include <jansson.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static uint64_t asked[8];
static size_t n_asked;

static void nothing(void *userdata, void *link)
{
}

static int ask(void *userdata, const struct wv_signal_question *q)
{
    if (n_asked == WV_ARRAY_SIZE(asked))
        return -1;
    asked[n_asked++] = q->number;
    return 0;
}

static int say(void *userdata, const char *to, struct wv_bus_message *m)
{
    size_t size;
    struct wv_bus_message *again = malloc(sizeof *again);
    strcpy(m->from, "self");
    char *text = wv_bus_message_write(m, &size);
    if (!text || !again || wv_bus_message_parse(again, text, size) < 0 || again->kind != m->kind)
        abort();
    free(text);
    free(again);
    return 0;
}

static void *offer(void *userdata)
{
    return json_pack("{s:[], s:[]}", "stun", "relays");
}

static uint64_t unix_ms(void *userdata)
{
    return 1800000000000;
}

static void heard_relay(void *userdata, const struct wv_bus_message *m)
{
}

static void flush(struct wv_signal_connection *c)
{
    char *text;
    const char *why;
    unsigned close;
    size_t size;
    while (wv_signal_next(c, &text, &size, &close, &why)) {
        json_t *o = json_loadb(text, size, 0, NULL);
        if (!o)
            abort(); /* whatever a machine is told is JSON */
        json_decref(o);
        wv_signal_written(c, 3);
    }
}

static void tell(struct wv_signal *s)
{
    struct wv_signal_reply reply = {.r = 0};
    memset(reply.machine.key, 9, sizeof reply.machine.key);
    reply.machine.is_host = true;
    strcpy(reply.machine.account, "a");
    strcpy(reply.machine.name, "n");
    for (size_t i = 0; i < n_asked; i++) {
        reply.machine.key[0] = (uint8_t)i;
        wv_signal_told(s, asked[i], &reply, 2);
    }
    n_asked = 0;
}

static void with_hub(uint8_t kind, const uint8_t *data, size_t len)
{
    static const uint8_t secret[16];
    static const char hello[] =
        "{\"type\":\"hello\",\"token\":\"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\"}";
    struct wv_signal_calls calls = {nothing, ask, say, offer, unix_ms, nothing, heard_relay, NULL};
    struct wv_signal *s;
    if (wv_signal_new(&s, "self", &wv_signal_usual, &calls, secret) < 0)
        abort();
    struct wv_signal_connection *a = wv_signal_open(s, NULL, 1), *b = wv_signal_open(s, NULL, 1);
    if (!a || !b)
        abort();
    wv_signal_bus(s, true, 1);
    n_asked = 0;
    if (kind != 2) {
        wv_signal_receive(a, hello, sizeof hello - 1, 1);
        wv_signal_receive(b, hello, sizeof hello - 1, 1);
        tell(s);
    }
    if (kind == 3)
        wv_signal_heard(s, data, len, 2);
    else
        wv_signal_receive(kind ? b : a, data, len, 2);
    tell(s);
    flush(a);
    flush(b);
    wv_signal_tick(s, 60 * WV_NS_PER_S);
    wv_signal_closed(a);
    flush(b);
    wv_signal_closed(b);
    wv_signal_free(s);
}

static void parse(const uint8_t *data, size_t len)
{
    struct wv_signal_message *m = malloc(sizeof *m);
    struct wv_bus_message *bus = malloc(sizeof *bus), *again = malloc(sizeof *again);
    char reason[160];
    size_t size;
    if (!m || !bus || !again)
        abort();
    (void)wv_signal_parse(m, data, len, reason);
    if (wv_bus_message_parse(bus, data, len) == 0) {
        char *text = wv_bus_message_write(bus, &size);
        if (!text || wv_bus_message_parse(again, text, size) < 0 || again->kind != bus->kind)
            abort();
        free(text);
    }
    free(m);
    free(bus);
    free(again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    static bool begun;
    if (!begun && sodium_init() < 0)
        abort();
    if (!begun)
        wv_json_init();
    begun = true;
    if (len == 0)
        return 0;
    if (data[0] < '4')
        with_hub((uint8_t)(data[0] & 3), data + 1, len - 1);
    else
        parse(data + 1, len - 1);
    return 0;
}
