/* An attacker between a client that pairs and its host, for the tests: it has keys of its own, answers the
 * client as if it were the host, goes to the host as if it were the client, and passes the pairing on,
 * message by message, for it can open and seal both inner channels. It does everything that can be done
 * without the code; pairing must fail. wavry-middle LISTEN-PORT HOST-PORT HOST-KEY */
#include "client/control.h"
#include "lib/base/util.h"
#include "proto/rift.pb-c.h"
#include "rift/crypto/inner.h"
#include "tests/unit/handshake_host.h"

#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sysexits.h>

struct side {
    int fd;
    struct sockaddr_in peer;
    struct rift_session *session;
    struct rift_inner inner;
};

static struct middle {
    struct host host; /* what the client meets */
    struct side client, target;
    struct rift_identity identity;
    struct rift_initiator *initiator; /* what the host meets */
    uint8_t host_key[32];
    uint8_t waiting[2048]; /* the client's first message, while the host's side is not up yet */
    size_t waiting_len;
} m;

static int open_socket(uint16_t port)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(port)};
    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    return fd >= 0 && bind(fd, (struct sockaddr *)&a, sizeof a) == 0 ? fd : -1;
}

static void post(const struct side *s, const uint8_t *data, size_t len)
{
    (void)!sendto(s->fd, data, len, MSG_DONTWAIT, (const struct sockaddr *)&s->peer, sizeof s->peer);
}

static void pass_on(struct side *to, const uint8_t *plain, size_t len, uint64_t now)
{
    uint8_t sealed[4096], packed[4200];
    size_t sealed_len;
    Wavry__Rift__ControlMessage c = WAVRY__RIFT__CONTROL_MESSAGE__INIT;
    if (rift_inner_seal(&to->inner, plain, len, sealed, sizeof sealed, &sealed_len) < 0)
        return;
    c.kind_case = WAVRY__RIFT__CONTROL_MESSAGE__KIND_INNER;
    c.inner = (ProtobufCBinaryData){.len = sealed_len, .data = sealed};
    rift_session_send_control(to->session, packed, wavry__rift__control_message__pack(&c, packed), now);
    printf("passed on %zu bytes to the %s\n", len, to == &m.client ? "client" : "host");
}

static void take_control(struct side *from, struct side *to, const struct rift_event *e, uint64_t now)
{
    struct wv_control c;
    uint8_t plain[2048];
    size_t len;
    if (wv_control_parse(e->control.data, e->control.len, &c) < 0)
        return;
    if (c.kind == WV_CONTROL_INNER &&
        rift_inner_open(&from->inner, c.inner.data, c.inner.len, plain, sizeof plain, &len) == 0) {
        if (to->session) {
            pass_on(to, plain, len, now);
        } else {
            memcpy(m.waiting, plain, len);
            m.waiting_len = len;
        }
    }
    wv_control_fini(&c);
}

static void run_side(struct side *s, struct side *other, uint64_t now)
{
    struct rift_event e;
    uint8_t buffer[RIFT_MTU_BYTES];
    size_t len;
    while (s->session && rift_session_next_event(s->session, &e) == 0)
        if (e.kind == RIFT_EVENT_CONTROL)
            take_control(s, other, &e, now);
        else if (e.kind == RIFT_EVENT_CLOSED)
            printf("closed: %d %s\n", (int)e.closed.reason, e.closed.text);
    while (s->session && rift_session_send(s->session, buffer, sizeof buffer, now, &len) == 0)
        post(s, buffer, len);
}

/* The client has finished a handshake with us: it takes us for the host. Now we go to the host. */
static void client_came(uint64_t now)
{
    uint8_t unused[32];
    rift_inner_derive(m.host.inner_base, true, &m.client.inner, unused);
    m.client.session = rift_session_free(m.client.session);
    m.target.session = rift_session_free(m.target.session);
    m.initiator = rift_initiator_free(m.initiator);
    m.host.config.pacing_bps = 10000000;
    m.host.config.pacing_burst_bytes = 100000;
    if (rift_session_new(&m.client.session, &m.host.config, now) < 0 ||
        rift_initiator_new(&m.initiator, m.identity.secret, m.host_key, 4711, m.host.payload,
                           m.host.payload_len, now, 5 * WV_NS_PER_S) < 0)
        exit(EX_SOFTWARE);
    printf("a client came\n");
}

static void from_client(uint8_t *data, size_t len, uint64_t now)
{
    uint8_t address[RIFT_ADDRESS_BYTES] = {1};
    unsigned before = m.host.finished;
    if (rift_datagram_kind(data, len) == RIFT_DATAGRAM_DATA) {
        if (m.client.session)
            rift_session_receive(m.client.session, data, len, now);
        return;
    }
    host_receive(&m.host, address, data, len, now);
    if (m.host.finished != before)
        client_came(now);
}

static void host_answered(uint64_t now)
{
    struct rift_session_config config = {0};
    uint8_t key[32], base[32], hash[64];
    if (rift_initiator_finish(m.initiator, &config, key) != 0 ||
        rift_initiator_inner(m.initiator, base, hash) != 0)
        return;
    rift_inner_derive(base, false, &m.target.inner, config.input_key);
    config.pacing_bps = 10000000;
    config.pacing_burst_bytes = 100000;
    if (rift_session_new(&m.target.session, &config, now) < 0)
        exit(EX_SOFTWARE);
    printf("at the host\n");
    if (m.waiting_len)
        pass_on(&m.target, m.waiting, m.waiting_len, now);
    m.waiting_len = 0;
}

static void from_host(uint8_t *data, size_t len, uint64_t now)
{
    if (rift_datagram_kind(data, len) == RIFT_DATAGRAM_DATA && m.target.session)
        rift_session_receive(m.target.session, data, len, now);
    else if (m.initiator && !m.target.session && rift_initiator_receive(m.initiator, data, len, now) == 0)
        host_answered(now);
}

static void read_all(struct side *s, void (*take)(uint8_t *, size_t, uint64_t))
{
    uint8_t data[2048];
    struct sockaddr_in from;
    socklen_t from_len = sizeof from;
    ssize_t n;
    while ((n = recvfrom(s->fd, data, sizeof data, MSG_DONTWAIT, (struct sockaddr *)&from, &from_len)) > 0) {
        if (s == &m.client)
            s->peer = from;
        take(data, (size_t)n, wv_now_ns());
    }
}

static void run(void)
{
    uint8_t buffer[RIFT_MTU_BYTES], address[RIFT_ADDRESS_BYTES];
    size_t len;
    for (;;) {
        struct pollfd fds[] = {{.fd = m.client.fd, .events = POLLIN}, {.fd = m.target.fd, .events = POLLIN}};
        poll(fds, 2, 5);
        read_all(&m.client, from_client);
        read_all(&m.target, from_host);
        uint64_t now = wv_now_ns();
        while (host_send(&m.host, buffer, now, address, &len) == 0)
            post(&m.client, buffer, len);
        while (m.initiator && rift_initiator_send(m.initiator, buffer, sizeof buffer, now, &len) == 0)
            post(&m.target, buffer, len);
        run_side(&m.client, &m.target, now);
        run_side(&m.target, &m.client, now);
    }
}

int main(int argc, char **argv)
{
    if (argc != 4 || rift_crypto_init() < 0 || rift_public_key_parse(argv[3], m.host_key) < 0) {
        fprintf(stderr, "usage: wavry-middle LISTEN-PORT HOST-PORT HOST-KEY\n");
        return EX_USAGE;
    }
    setvbuf(stdout, NULL, _IOLBF, 0);
    m.client.fd = open_socket((uint16_t)atoi(argv[1]));
    m.target.fd = open_socket(0);
    m.target.peer = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(argv[2]))};
    m.target.peer.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (m.client.fd < 0 || m.target.fd < 0)
        return EX_OSERR;
    rift_identity_generate(&m.identity);
    host_init(&m.host, 16, wv_now_ns());
    rift_responder_set_keys(m.host.responder, m.host.identity.public, true);
    printf("ready\n");
    run();
    return 0;
}
