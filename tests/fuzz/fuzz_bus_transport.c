/* Every message that identity, input and capture can send to transport, and every control message that a
 * client can, in any order and between connections that begin and end: on a whole transport, through its own
 * table and handlers. Its lists agree with one another after every step. */
#include "lib/base/log.h"
#include "lib/ipc/memfd.h"
#include "rift/crypto/identity.h"
#include "services/transport/internal.h"
#include "tests/fuzz/bus_steps.h"

#include <netinet/in.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

#define NUMBERS 8

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static struct wv_transport *transport;
static struct bus_dispatcher *dispatcher;
static struct wv_au_producer *encoder;
static uint64_t now;
static uint32_t next_id = 1;

static void require(bool truth)
{
    if (!truth)
        abort();
}

static void status(void *userdata, const char *text)
{
    require(strlen(text) < 256);
}

static void drained(void *userdata)
{
}

static void begin(void)
{
    static struct wv_metrics *metrics;
    static struct wv_loop *loop;
    struct sockaddr_in6 in6 = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT};
    int entries, reader, page = -1, vault = -1, udp = socket(AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    const char *why;
    wv_log_set_level(WV_LOG_ERROR);
    require(rift_crypto_init() == 0 && wv_loop_new(&loop) == 0);
    require(udp >= 0 && bind(udp, (struct sockaddr *)&in6, sizeof in6) == 0);
    require(wv_metrics_new(&metrics, -1, "transport", wv_transport_metrics, WV_T_METRICS) == 0);
    require(wv_au_ring_create(&entries, &reader) == 0 && wv_session_page_create(&page) == 0);
    require(wv_memfd_create("vault", WV_SESSION_VAULT_BYTES, &vault) == 0);
    const struct wv_transport_setup setup = {.loop = loop,
                                             .metrics = metrics,
                                             .udp_fd = udp,
                                             .au_entries_fd = entries,
                                             .au_reader_fd = reader,
                                             .au_event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK),
                                             .session_page_fd = page,
                                             .session_vault_fd = vault,
                                             .host_name = "fuzz",
                                             .bitrate_bps = 8000000,
                                             .max_fps = 60,
                                             .max_sessions = 4,
                                             .pacing_bps = 100000000,
                                             .burst_bytes = 65536,
                                             .status = status,
                                             .drained = drained};
    require(wv_transport_new(&transport, &setup, &why) == 0);
    require(wv_transport_start(transport, &(struct wv_transport_links){0}) == 0);
    require(wv_au_producer_new(&encoder, entries, reader) == 0);
    require(bus_dispatcher_new(&dispatcher, wv_transport_rules, WV_TRANSPORT_RULES, transport) == 0);
    bus_dispatcher_set_phase(dispatcher, WV_PHASE_RUN);
    now = wv_now_ns();
}

/* A client comes, as one that identity let in (1), that may pair (2) or that is not known (0). */
static void come(uint8_t kind)
{
    struct rift_session_config config = {.role = RIFT_ROLE_HOST, .local_id = next_id, .remote_id = next_id};
    const struct wv_client_hello hello = {.software = "fuzz", .device = "fuzz", .view_only = kind & 64};
    struct wv_address address = {.bytes = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 127, 0, 0, 1, 0, 9}};
    uint8_t key[KEY_BYTES];
    memset(key, kind % 8, sizeof key);
    memset(config.key_send, 1, sizeof config.key_send);
    memset(config.key_receive, 2, sizeof config.key_receive);
    const struct session_start start = {.config = &config,
                                        .address = &address,
                                        .peer_key = key,
                                        .name = "fuzz",
                                        .hello = &hello,
                                        .number = 1 + next_id % NUMBERS,
                                        .authorized = kind % 3 == 1,
                                        .pairing = kind % 3 == 2};
    next_id++;
    session_begin(transport, &start, now);
    transport_pump(transport, now);
}

static void say(uint8_t place, const uint8_t *data, size_t len)
{
    struct session *s = &transport->slots[place % NUMBERS];
    if (session_is_open(s))
        control_take(transport, s, data, len, now);
}

static void type(uint8_t place, const uint8_t *data, size_t len)
{
    struct session *s = &transport->slots[place % NUMBERS];
    struct rift_event e = {.kind = RIFT_EVENT_INPUT};
    if (!session_is_open(s) || !len)
        return;
    e.input.seq = data[0];
    memcpy(e.input.sealed, data, WV_MIN(len, sizeof e.input.sealed));
    input_take(transport, s, &e, now);
}

static void push(const uint8_t *data, size_t len)
{
    struct wv_au_header h = {.keyframe = len % 2 == 0, .width = 64, .height = 32};
    if (len && wv_au_push(encoder, &h, data, len, now) == 0)
        require(media_on_au(transport, now) >= 0);
}

static void check(void)
{
    size_t live = 0, restricted = 0;
    for (size_t i = 0; i < SLOTS; i++) {
        const struct session *s = &transport->slots[i];
        require(i < transport->top || !s->rift);
        live += session_is_live(s);
        restricted += session_is_open(s) && s->restricted;
        for (size_t k = 0; k < i; k++)
            require(!s->rift || !transport->slots[k].rift || s->id != transport->slots[k].id);
    }
    require(live == transport->n_live && live <= transport->setup.max_sessions);
    require(restricted <= RESTRICTED_MAX && transport->inner.count <= INNER_WAITING);
    require(!transport->controller || session_is_live(transport->controller));
    require(transport->cursor.len <= SHAPE_BYTES_LIMIT);
}

static void run(const struct bus_step *step)
{
    if (step->op >= 224)
        now += (uint64_t)(step->op - 223) * WV_NS_PER_S;
    else if (step->op >= 192)
        push(step->data, step->len);
    else if (step->op >= 160)
        type(step->op, step->data, step->len);
    else if (step->op >= 128)
        say(step->op, step->data, step->len);
    else if (step->op >= 96)
        come(step->len ? step->data[0] : 1);
    else
        require(bus_deliver_step(dispatcher, wv_transport_rules, WV_TRANSPORT_RULES, step, now) == 0);
    transport_pump(transport, now);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    struct bus_step step;
    if (!transport)
        begin();
    come(1);
    while (bus_next_step(&data, &len, &step)) {
        now += 7 * WV_NS_PER_MS;
        run(&step);
        check();
    }
    for (size_t i = 0; i < SLOTS; i++)
        if (transport->slots[i].rift)
            session_end(transport, &transport->slots[i], now);
    check();
    require(transport->n_live == 0);
    return 0;
}
