/* The little of TURN (RFC 8656) that it takes to have coturn forward ChannelData: Allocate and ChannelBind,
 * for a server that asks for no authentication. */
#include "lib/base/bytes.h"
#include "tests/bench/bench_relay.h"

#include <arpa/inet.h>
#include <poll.h>
#include <sodium.h>
#include <string.h>
#include <sys/socket.h>

#define ALLOCATE     0x0003
#define CHANNEL_BIND 0x0009
#define SUCCESS      0x0100
#define COOKIE       0x2112a442u
#define CHANNEL      0x4001

static void put16(uint8_t **p, uint16_t v)
{
    *(*p)++ = (uint8_t)(v >> 8);
    *(*p)++ = (uint8_t)v;
}

static void put32(uint8_t **p, uint32_t v)
{
    put16(p, (uint16_t)(v >> 16));
    put16(p, (uint16_t)v);
}

/* Sends a request with ATTRIBUTES and waits for its success. */
static void ask(struct way *w, uint16_t type, const uint8_t *attributes, size_t len)
{
    uint8_t request[128], answer[1500], *p = request;
    put16(&p, type);
    put16(&p, (uint16_t)len);
    put32(&p, COOKIE);
    randombytes_buf(p, 12);
    p += 12;
    memcpy(p, attributes, len);
    for (int i = 0; i < 20; i++) {
        struct pollfd ready = {.fd = w->send, .events = POLLIN};
        (void)!sendto(w->send, request, 20 + len, 0, (const struct sockaddr *)&w->server, sizeof w->server);
        if (poll(&ready, 1, 250) != 1)
            continue;
        ssize_t n = recv(w->send, answer, sizeof answer, 0);
        if (n < 20 || memcmp(answer + 8, request + 8, 12) != 0)
            continue;
        if ((answer[0] << 8 | answer[1]) != (type | SUCCESS))
            die("the TURN server refused");
        return;
    }
    die("the TURN server does not answer");
}

void way_through_turn(struct way *w)
{
    struct sockaddr_in sink;
    uint8_t attributes[32], *p = attributes;
    w->send = udp_socket(NULL);
    w->receive = udp_socket(&sink);
    put16(&p, 0x0019); /* REQUESTED-TRANSPORT: UDP */
    put16(&p, 4);
    put32(&p, 17u << 24);
    ask(w, ALLOCATE, attributes, (size_t)(p - attributes));
    p = attributes;
    put16(&p, 0x000c); /* CHANNEL-NUMBER */
    put16(&p, 4);
    put32(&p, (uint32_t)CHANNEL << 16);
    put16(&p, 0x0012); /* XOR-PEER-ADDRESS */
    put16(&p, 8);
    put16(&p, 1);
    put16(&p, ntohs(sink.sin_port) ^ (COOKIE >> 16));
    put32(&p, ntohl(sink.sin_addr.s_addr) ^ COOKIE);
    ask(w, CHANNEL_BIND, attributes, (size_t)(p - attributes));
    w->head = 4;
    w->n_flows = 1;
    p = w->heads[0];
    put16(&p, CHANNEL);
    put16(&p, PAYLOAD);
}
