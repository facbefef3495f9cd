/* Lines of "name = hex" for everything that a foreign implementation must agree on. */
#include "rift/tools/handshake_end.h"

#include "lib/base/util.h"
#include "rift/crypto/noise.h"

#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define HALF_OPEN 16

struct run {
    const struct handshake_end *end;
    int fd;
    uint64_t deadline;
    struct rift_session *session; /* once there are keys */
    /* initiate */
    struct rift_initiator *initiator;
    /* respond: one handshake at a time; the last question's */
    struct rift_responder *responder;
    struct rift_noise *noise;
    uint64_t token;
    uint8_t peer[RIFT_ADDRESS_BYTES];
    bool opened;
};

static void show(const char *name, const uint8_t *data, size_t len)
{
    char hex[2 * 2048 + 1];
    wv_hex_encode(data, WV_MIN(len, (size_t)2048), hex);
    printf("%s = %s\n", name, hex);
}

static void show_datagram(const char *verb, const uint8_t *datagram, size_t len)
{
    static const char *const names[] = {"", "INIT", "RESPONSE", "FINISH", "COOKIE"};
    enum rift_datagram_kind kind = rift_datagram_kind(datagram, len);
    char name[64];
    snprintf(name, sizeof name, "%s %s", verb,
             kind == RIFT_DATAGRAM_DATA                                     ? "DATA"
             : kind == RIFT_DATAGRAM_INVALID || kind > RIFT_DATAGRAM_COOKIE ? "what is no datagram of RIFT"
                                                                            : names[kind]);
    show(name, datagram, len);
}

/* ---- socket ---- */

/* As the protocol library wants it: 16 bytes of IPv6 or v4-mapped address, 2 of port. */
static void pack_address(const struct sockaddr_in6 *from, uint8_t ret[RIFT_ADDRESS_BYTES])
{
    memcpy(ret, &from->sin6_addr, 16);
    memcpy(ret + 16, &from->sin6_port, 2);
}

static int parse_address(const char *text, uint16_t port, struct sockaddr_in6 *ret)
{
    char mapped[64];
    *ret = (struct sockaddr_in6){.sin6_family = AF_INET6, .sin6_port = htons(port)};
    if (strchr(text, ':'))
        return inet_pton(AF_INET6, text, &ret->sin6_addr) == 1 ? 0 : -EINVAL;
    snprintf(mapped, sizeof mapped, "::ffff:%s", text);
    return inet_pton(AF_INET6, mapped, &ret->sin6_addr) == 1 ? 0 : -EINVAL;
}

static int open_socket(struct run *r)
{
    struct sockaddr_in6 a;
    socklen_t len = sizeof a;
    int off = 0, result = parse_address(r->end->address, r->end->port, &a);
    if (result < 0)
        return result;
    r->fd = socket(AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (r->fd < 0 || setsockopt(r->fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof off) < 0)
        return -errno;
    if (r->end->initiator) {
        pack_address(&a, r->peer);
        return 0;
    }
    if (bind(r->fd, (struct sockaddr *)&a, sizeof a) < 0 ||
        getsockname(r->fd, (struct sockaddr *)&a, &len) < 0)
        return -errno;
    printf("listening = %u\n", ntohs(a.sin6_port));
    return 0;
}

static void send_datagram(struct run *r, const uint8_t address[RIFT_ADDRESS_BYTES], const uint8_t *datagram,
                          size_t len)
{
    struct sockaddr_in6 to = {.sin6_family = AF_INET6};
    memcpy(&to.sin6_addr, address, 16);
    memcpy(&to.sin6_port, address + 16, 2);
    show_datagram("send", datagram, len);
    /* A full queue or an unreachable port is a lost datagram: the handshake repeats it. */
    if (sendto(r->fd, datagram, len, 0, (struct sockaddr *)&to, sizeof to) < 0)
        printf("lost: %s\n", strerror(errno));
}

/* ---- after the handshake ---- */

static int begin_session(struct run *r, struct rift_session_config *config, const uint8_t base[32])
{
    bool host = config->role == RIFT_ROLE_HOST;
    struct rift_inner inner;
    show("key client to host", host ? config->key_receive : config->key_send, 32);
    show("key host to client", host ? config->key_send : config->key_receive, 32);
    show("base of the inner keys", base, 32);
    rift_inner_derive(base, host, &inner, config->input_key);
    show("inner key to host", host ? inner.key_receive : inner.key_send, 32);
    show("inner key to client", host ? inner.key_send : inner.key_receive, 32);
    show("inner input key", config->input_key, 32);
    return rift_session_new(&r->session, config, wv_now_ns());
}

static void session_send(struct run *r, uint64_t now)
{
    uint8_t datagram[RIFT_MTU_BYTES];
    size_t len;
    while (r->session && rift_session_send(r->session, datagram, sizeof datagram, now, &len) == 0)
        send_datagram(r, r->peer, datagram, len);
}

/* ---- initiate ---- */

static int initiator_step(struct run *r, uint64_t now)
{
    uint8_t datagram[RIFT_MTU_BYTES], host_key[32], base[32], hash[64];
    struct rift_session_config config = {0};
    size_t len;
    int result;
    if (!r->session && rift_initiator_finish(r->initiator, &config, host_key) == 0) {
        show("peer key", host_key, 32);
        if (rift_initiator_inner(r->initiator, base, hash) == 0)
            show("handshake hash", hash, sizeof hash);
        result = begin_session(r, &config, base);
        if (result < 0)
            return result;
    }
    while ((result = rift_initiator_send(r->initiator, datagram, sizeof datagram, now, &len)) == 0)
        send_datagram(r, r->peer, datagram, len);
    return result == RIFT_HANDSHAKE_WRONG_KEY ? HANDSHAKE_END_WRONG_KEY : result < 0 ? result : 0;
}

static int start_initiator(struct run *r, uint64_t now)
{
    const struct handshake_end *e = r->end;
    uint8_t prologue[RIFT_PROLOGUE_BYTES], key[32];
    uint32_t id;
    randombytes_buf(&id, sizeof id);
    rift_handshake_prologue(id, prologue);
    show("prologue", prologue, sizeof prologue);
    rift_handshake_first_key(e->has_host_key ? e->host_key : NULL, key);
    show("key of the MAC", key, sizeof key);
    show("payload of message 3", (const uint8_t *)e->payload, strlen(e->payload));
    return rift_initiator_new(&r->initiator, e->secret, e->has_host_key ? e->host_key : NULL, id,
                              (const uint8_t *)e->payload, strlen(e->payload), now, e->seconds * WV_NS_PER_S);
}

/* ---- respond ---- */

static int answer_1(struct run *r, const struct rift_responder_question *q, uint64_t now)
{
    uint8_t prologue[RIFT_PROLOGUE_BYTES], payload[RIFT_HANDSHAKE_MESSAGE_MAX], id[4];
    uint8_t message[RIFT_HANDSHAKE_MESSAGE_MAX];
    size_t len;
    rift_handshake_prologue(q->initiator_id, prologue);
    show("prologue", prologue, sizeof prologue);
    r->noise = rift_noise_free(r->noise);
    r->token = q->token;
    int result = rift_noise_new(&r->noise, false, r->end->secret, prologue, sizeof prologue, NULL);
    if (result < 0)
        return result;
    if (rift_noise_read(r->noise, q->message, q->len, payload, sizeof payload, &len) < 0) {
        printf("message 1 can't be read\n");
        rift_responder_refuse(r->responder, q->token);
        return 0;
    }
    show("payload of message 1", payload, len);
    for (unsigned i = 0; i < sizeof id; i++)
        id[i] = (uint8_t)(q->local_id >> 8 * i);
    show("payload of message 2", id, sizeof id);
    result = rift_noise_write(r->noise, id, sizeof id, message, sizeof message, &len);
    if (result == 0)
        rift_responder_answer(r->responder, q->token, message, len, now);
    return result;
}

static int answer_3(struct run *r, const struct rift_responder_question *q, uint64_t now)
{
    uint8_t payload[RIFT_HANDSHAKE_MESSAGE_MAX], keys[2][32], base[32];
    struct rift_session_config config = {0};
    struct rift_noise *trial = NULL;
    size_t len;
    if (!r->noise || q->token != r->token) {
        rift_responder_refuse(r->responder, q->token);
        return 0;
    }
    int result = rift_noise_new(&trial, false, r->end->secret, NULL, 0, NULL);
    if (result < 0)
        return result;
    rift_noise_copy(trial, r->noise);
    if (rift_noise_read(trial, q->message, q->len, payload, sizeof payload, &len) < 0) {
        printf("message 3 can't be read\n");
        rift_responder_keep(r->responder, q->token);
    } else if (rift_noise_split(trial, keys[0], keys[1]) == 0 && rift_noise_split_inner(trial, base) == 0 &&
               rift_responder_complete(r->responder, q->token, keys[0], keys[1], now, &config, r->peer) ==
                   0) {
        show("payload of message 3", payload, len);
        show("peer key", rift_noise_remote_static(trial), 32);
        show("handshake hash", rift_noise_handshake_hash(trial), RIFT_NOISE_HASH_BYTES);
        r->session = rift_session_free(r->session);
        result = begin_session(r, &config, base);
    }
    rift_noise_free(trial);
    return result;
}

static int responder_step(struct run *r, uint64_t now)
{
    uint8_t datagram[RIFT_MTU_BYTES], address[RIFT_ADDRESS_BYTES];
    size_t len;
    while (rift_responder_send(r->responder, datagram, sizeof datagram, now, address, &len) == 0)
        send_datagram(r, address, datagram, len);
    return 0;
}

static int respond(struct run *r, const uint8_t address[RIFT_ADDRESS_BYTES], const uint8_t *datagram,
                   size_t len, uint64_t now)
{
    struct rift_responder_question q;
    struct rift_responder_stats before, after;
    uint32_t id;
    randombytes_buf(&id, sizeof id);
    rift_responder_get_stats(r->responder, &before);
    int result = rift_responder_receive(r->responder, address, datagram, len, id, now, &q);
    rift_responder_get_stats(r->responder, &after);
    if (after.unkeyed != before.unkeyed)
        printf("dropped: the MAC is not that of this host's key\n");
    if (after.malformed != before.malformed)
        printf("dropped: malformed\n");
    if (result != 0)
        return 0;
    return q.step == 1 ? answer_1(r, &q, now) : answer_3(r, &q, now);
}

static int start_responder(struct run *r, uint64_t now)
{
    uint8_t public[32], secret[32], key[32];
    char text[RIFT_PUBLIC_KEY_TEXT_BYTES];
    crypto_scalarmult_base(public, r->end->secret);
    rift_public_key_format(public, text);
    printf("key = %s\n", text);
    rift_handshake_first_key(public, key);
    show("key of the MAC", key, sizeof key);
    randombytes_buf(secret, sizeof secret);
    int result = rift_responder_new(&r->responder, secret, HALF_OPEN, now);
    if (result == 0)
        rift_responder_set_keys(r->responder, public, r->end->pairing);
    return result;
}

/* ---- both ---- */

static int take(struct run *r, uint64_t now)
{
    uint8_t datagram[2048], address[RIFT_ADDRESS_BYTES];
    struct sockaddr_in6 from;
    socklen_t from_len = sizeof from;
    ssize_t n = recvfrom(r->fd, datagram, sizeof datagram, 0, (struct sockaddr *)&from, &from_len);
    if (n < 0)
        return errno == EAGAIN || errno == EINTR || errno == ECONNREFUSED ? 0 : -errno;
    pack_address(&from, address);
    show_datagram("receive", datagram, (size_t)n);
    if (rift_datagram_kind(datagram, (size_t)n) == RIFT_DATAGRAM_DATA) {
        if (r->session && rift_session_receive(r->session, datagram, (size_t)n, now) == 0) {
            printf("data = opened\n");
            r->opened = true;
        }
        return 0;
    }
    if (r->initiator)
        return rift_initiator_receive(r->initiator, datagram, (size_t)n, now) < 0 ? -EPROTO : 0;
    return respond(r, address, datagram, (size_t)n, now);
}

static int wait_and_take(struct run *r)
{
    struct pollfd p = {.fd = r->fd, .events = POLLIN};
    if (poll(&p, 1, 10) < 0 && errno != EINTR)
        return -errno;
    return p.revents ? take(r, wv_now_ns()) : 0;
}

static int play(struct run *r)
{
    uint64_t now = wv_now_ns();
    r->deadline = now + r->end->seconds * WV_NS_PER_S;
    int result = r->end->initiator ? start_initiator(r, now) : start_responder(r, now);
    while (result == 0 && !r->opened && now < r->deadline) {
        now = wv_now_ns();
        result = r->initiator ? initiator_step(r, now) : responder_step(r, now);
        if (result == 0) {
            session_send(r, now);
            result = wait_and_take(r);
        }
    }
    session_send(r, wv_now_ns()); /* what answers the other end's first datagram */
    return result ? result : r->opened ? 0 : HANDSHAKE_END_NOTHING;
}

int handshake_end_run(const struct handshake_end *end)
{
    struct run r = {.end = end, .fd = -1};
    uint8_t public[32];
    crypto_scalarmult_base(public, end->secret);
    show("static public", public, sizeof public);
    int result = open_socket(&r);
    if (result == 0)
        result = play(&r);
    rift_session_free(r.session);
    rift_initiator_free(r.initiator);
    rift_responder_free(r.responder);
    rift_noise_free(r.noise);
    wv_close(r.fd);
    return result;
}
