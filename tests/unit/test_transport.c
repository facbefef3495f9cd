/* The parts of the transport that need no socket and no bus: the input relay on virtual time, clients'
 * messages, addresses. */
#include "lib/base/util.h"
#include "proto/rift.pb-c.h"
#include "services/transport/input_relay.h"
#include "services/transport/metrics.h"
#include "services/transport/peer_messages.h"
#include "services/transport/udp.h"

#include <check.h>
#include <errno.h>
#include <linux/input-event-codes.h>
#include <netinet/in.h>
#include <netinet/udp.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define MS WV_NS_PER_MS

static struct wv_relay *relay;
static uint64_t now;

static void setup(void)
{
    now = 1000 * MS;
    ck_assert_int_eq(wv_relay_new(&relay), 0);
    wv_relay_set_controller(relay, 7, now);
}

static void teardown(void)
{
    relay = wv_relay_free(relay);
}

/* What a client's event looks like to the relay: bytes. These say CODE and whether it goes down. */
static void push_key(uint32_t seq, uint16_t code, bool down)
{
    uint8_t sealed[RIFT_INPUT_SEALED_BYTES] = {(uint8_t)code, (uint8_t)(code >> 8), down};
    wv_relay_push(relay, seq, sealed, now);
}

/* Takes what is due and says that it was sent, or wasn't. Returns how many events; the last batch is in
 * BATCH. */
static struct wv_relay_batch batch;

static unsigned code_of(size_t i)
{
    const uint8_t *e = batch.events + i * RIFT_INPUT_SEALED_BYTES;
    return e[0] | (unsigned)e[1] << 8;
}

static bool down_of(size_t i)
{
    return batch.events[i * RIFT_INPUT_SEALED_BYTES + 2];
}

static size_t take(bool sent)
{
    size_t n, total = 0;
    while ((n = wv_relay_take(relay, now, &batch))) {
        total += n;
        wv_relay_sent(relay, n, sent, now);
        if (!sent)
            break;
    }
    return total;
}

static struct wv_relay_stats stats(void)
{
    struct wv_relay_stats s;
    wv_relay_get_stats(relay, &s);
    return s;
}

START_TEST(one_wake_up_is_one_batch)
{
    push_key(1, KEY_A, true);
    push_key(2, KEY_A, false);
    ck_assert_uint_le(wv_relay_timeout(relay), now);
    ck_assert_uint_eq(wv_relay_take(relay, now, &batch), 2);
    ck_assert_uint_eq(batch.first_seq, 1);
    ck_assert_uint_eq(code_of(1), KEY_A);
    ck_assert(!down_of(1));
    wv_relay_sent(relay, 2, true, now);
    ck_assert_uint_eq(take(true), 0);
    wv_relay_done(relay, 7, 2, now);
    ck_assert_uint_eq(wv_relay_timeout(relay), UINT64_MAX);
    now += WV_NS_PER_S;
    ck_assert_uint_eq(take(true), 0);
}
END_TEST

START_TEST(what_is_not_confirmed_is_sent_again)
{
    push_key(1, KEY_A, true);
    push_key(2, KEY_B, true);
    ck_assert_uint_eq(take(true), 2);
    wv_relay_done(relay, 7, 1, now);
    now += 49 * MS;
    ck_assert_uint_eq(take(true), 0);
    ck_assert_uint_eq(wv_relay_timeout(relay), now + MS);
    now += MS;
    ck_assert_uint_eq(take(true), 1);
    ck_assert_uint_eq(batch.first_seq, 2);
    ck_assert_uint_eq(stats().resent, 1);
    now += 50 * MS; /* the pause doubles */
    ck_assert_uint_eq(take(true), 0);
    now += 50 * MS;
    ck_assert_uint_eq(take(true), 1);
}
END_TEST

START_TEST(a_new_event_does_not_repeat_those_under_way)
{
    push_key(1, KEY_A, true);
    ck_assert_uint_eq(take(true), 1);
    now += 10 * MS;
    push_key(2, KEY_B, true);
    ck_assert_uint_eq(take(true), 1);
    ck_assert_uint_eq(batch.first_seq, 2);
    now += 40 * MS; /* the oldest has waited long enough: all again, in order */
    ck_assert_uint_eq(take(true), 2);
    ck_assert_uint_eq(batch.first_seq, 1);
}
END_TEST

START_TEST(a_new_input_stage_gets_at_once_what_the_one_before_did_not_confirm)
{
    push_key(1, KEY_A, true);
    push_key(2, KEY_B, true);
    ck_assert_uint_eq(take(true), 2);
    wv_relay_again(relay, 8, now); /* another session's */
    ck_assert_uint_eq(take(true), 0);
    now += MS;
    push_key(3, KEY_C, true);
    wv_relay_done(relay, 7, 1, now);
    wv_relay_again(relay, 7, now);
    ck_assert_uint_le(wv_relay_timeout(relay), now);
    ck_assert_uint_eq(take(true), 2);
    ck_assert_uint_eq(batch.first_seq, 2);
    ck_assert_uint_eq(stats().resent, 1);
    ck_assert_uint_eq(wv_relay_timeout(relay), now + 50 * MS);
}
END_TEST

START_TEST(while_nobody_is_there_it_tries_again_soon)
{
    push_key(1, KEY_A, true);
    ck_assert_uint_eq(take(false), 1);
    ck_assert_uint_eq(wv_relay_timeout(relay), now + 10 * MS);
    now += 5 * MS;
    ck_assert_uint_eq(take(true), 0);
    now += 5 * MS;
    ck_assert_uint_eq(take(true), 1);
    ck_assert_uint_eq(batch.first_seq, 1);
}
END_TEST

START_TEST(old_events_wait_for_an_input_stage)
{
    push_key(1, KEY_A, true);
    push_key(2, KEY_A, false);
    ck_assert_uint_eq(take(false), 2);
    now += 201 * MS;
    ck_assert_uint_eq(take(false), 2);
    ck_assert_uint_eq(wv_relay_timeout(relay), now + WV_RELAY_SLOW_NS); /* nobody waits to see these */
    now += 10 * WV_NS_PER_S;
    push_key(3, KEY_C, true);
    ck_assert_uint_eq(take(true), 3); /* the input stage knows how old each is */
    ck_assert_uint_eq(batch.came_us[0], 1000 * 1000);
    ck_assert_uint_eq(batch.came_us[2], now / WV_NS_PER_US);
}
END_TEST

START_TEST(a_full_queue_drops_the_oldest)
{
    for (uint32_t i = 1; i <= WV_RELAY_EVENTS + 3; i++)
        push_key(i, KEY_B, true);
    ck_assert_uint_eq(stats().dropped_full, 3);
    ck_assert_uint_eq(wv_relay_take(relay, now, &batch), WV_RELAY_BATCH);
    ck_assert_uint_eq(batch.first_seq, 4); /* which says that three are missing */
}
END_TEST

START_TEST(a_full_queue_under_way_stays_in_order)
{
    for (uint32_t i = 1; i <= WV_RELAY_EVENTS; i++)
        push_key(i, (uint16_t)i, true);
    ck_assert_uint_eq(take(true), WV_RELAY_EVENTS);
    push_key(WV_RELAY_EVENTS + 1, 7, true);
    ck_assert_uint_eq(take(true), 1);
    ck_assert_uint_eq(batch.first_seq, WV_RELAY_EVENTS + 1);
    now += 50 * MS;
    ck_assert_uint_eq(wv_relay_take(relay, now, &batch), WV_RELAY_BATCH);
    ck_assert_uint_eq(batch.first_seq, 2);
    ck_assert_uint_eq(code_of(0), 2);
}
END_TEST

START_TEST(a_gap_in_the_numbers_ends_a_batch)
{
    push_key(1, KEY_A, true);
    push_key(3, KEY_B, true);
    ck_assert_uint_eq(wv_relay_take(relay, now, &batch), 1);
    wv_relay_sent(relay, 1, true, now);
    ck_assert_uint_eq(wv_relay_take(relay, now, &batch), 1);
    ck_assert_uint_eq(batch.first_seq, 3);
}
END_TEST

START_TEST(a_change_of_control_releases_and_starts_empty)
{
    push_key(1, KEY_A, true);
    ck_assert_uint_eq(wv_relay_release(relay, now), 0);
    wv_relay_set_controller(relay, 8, now);
    ck_assert_uint_eq(wv_relay_release(relay, now), 7);
    wv_relay_release_sent(relay, false, now);
    ck_assert_uint_eq(wv_relay_release(relay, now), 0);
    ck_assert_uint_eq(wv_relay_timeout(relay), now + WV_RELAY_UNSENT_NS);
    now += WV_RELAY_UNSENT_NS;
    ck_assert_uint_eq(wv_relay_release(relay, now), 7);
    wv_relay_release_sent(relay, true, now);
    ck_assert_uint_eq(wv_relay_release(relay, now), 0);
    ck_assert_uint_eq(take(true), 0); /* the earlier controller's key press is not the new one's */
    wv_relay_set_controller(relay, 0, now);
    push_key(2, KEY_A, true);
    ck_assert_uint_eq(take(true), 0);
}
END_TEST

START_TEST(a_release_is_not_tried_for_ever)
{
    wv_relay_set_controller(relay, 0, now);
    now += WV_RELAY_RELEASE_NS;
    ck_assert_uint_eq(wv_relay_release(relay, now), 0);
    ck_assert_uint_eq(wv_relay_timeout(relay), UINT64_MAX);
}
END_TEST

START_TEST(confirmations_that_cannot_be_are_ignored)
{
    push_key(1, KEY_A, true);
    ck_assert_uint_eq(take(true), 1);
    wv_relay_done(relay, 7, 2, now);
    wv_relay_done(relay, 6, 1, now);
    wv_relay_done(relay, 0, 1, now);
    ck_assert_uint_eq(stats().bad_acks, 1);
    now += 50 * MS;
    ck_assert_uint_eq(take(true), 1);
}
END_TEST

START_TEST(pictures_show_only_what_was_sent_and_done)
{
    push_key(1, KEY_A, true);
    push_key(2, KEY_A, false);
    ck_assert_uint_eq(take(true), 2);
    ck_assert_uint_eq(wv_relay_shown(relay, 2), 0); /* may be an earlier session's number */
    wv_relay_done(relay, 7, 1, now);
    ck_assert_uint_eq(wv_relay_shown(relay, 1), 1);
    ck_assert_uint_eq(wv_relay_shown(relay, 2), 2);
    ck_assert_uint_eq(wv_relay_shown(relay, 3), 0);
}
END_TEST

/* Whatever comes, every event that was not dropped for room reaches the input stage, once, and the same. */
START_TEST(no_event_is_ever_lost)
{
    uint64_t state = 0x9e3779b97f4a7c15 + (uint64_t)_i;
    uint32_t seq = 0, done = 0;
    for (unsigned step = 0; step < 4000; step++) {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        uint32_t x = (uint32_t)(state >> 20);
        bool quiet = step > 3900;
        now += (x >> 8) % 30 * MS;
        if (!quiet && x % 3) {
            seq++;
            push_key(seq, (uint16_t)(seq * 31), x & 1);
        }
        bool present = quiet || (x >> 12) % 100 < 60;
        size_t n = wv_relay_take(relay, now, &batch);
        for (size_t i = 0; present && i < n; i++) {
            uint32_t number = batch.first_seq + (uint32_t)i;
            ck_assert_uint_eq(code_of(i), (uint16_t)(number * 31));
            if (number <= done)
                continue; /* the input stage drops what it has done */
            ck_assert_uint_eq(number, done + 1);
            done = number;
        }
        if (n)
            wv_relay_sent(relay, n, present, now);
        if (n && present && (x >> 16) % 4)
            wv_relay_done(relay, 7, done, now);
    }
    for (unsigned i = 0; i < 200 && done < seq; i++) {
        now += 600 * MS;
        size_t n;
        while ((n = wv_relay_take(relay, now, &batch))) {
            done = WV_MAX(done, batch.first_seq + (uint32_t)n - 1);
            wv_relay_sent(relay, n, true, now);
        }
        wv_relay_done(relay, 7, done, now);
    }
    ck_assert_uint_eq(done, seq);
    ck_assert_uint_eq(stats().dropped_full, 0);
    ck_assert_uint_eq(wv_relay_timeout(relay), UINT64_MAX);
}
END_TEST

/* ---- clients' messages ---- */

START_TEST(greetings_are_made_printable)
{
    uint8_t packed[256];
    char software[] = "x\x1b[31m\"", device[100];
    memset(device, 'd', sizeof device);
    device[sizeof device - 1] = 0;
    Wavry__Rift__ClientHello m = WAVRY__RIFT__CLIENT_HELLO__INIT;
    m.software = software;
    m.device = device;
    m.view_only = true;
    struct wv_client_hello hello;
    size_t len = wavry__rift__client_hello__pack(&m, packed);
    ck_assert_int_eq(wv_client_hello_parse(packed, len, &hello), 0);
    ck_assert_str_eq(hello.software, "x?[31m?");
    ck_assert_uint_eq(strlen(hello.device), WV_PEER_TEXT_BYTES - 1);
    ck_assert(hello.view_only);
    ck_assert_int_eq(wv_client_hello_parse(packed, len - 1, &hello), -EBADMSG);
    ck_assert_int_eq(wv_client_hello_parse(packed, 0, &hello), 0);
}
END_TEST

START_TEST(reports_are_bounded)
{
    uint8_t packed[8192] = {0};
    Wavry__Rift__ClientReport r = WAVRY__RIFT__CLIENT_REPORT__INIT;
    r.frames = 60;
    r.glass_p99_us = UINT32_MAX;
    r.decode_p50_us = 1500;
    Wavry__Rift__ControlMessage m = WAVRY__RIFT__CONTROL_MESSAGE__INIT;
    m.kind_case = WAVRY__RIFT__CONTROL_MESSAGE__KIND_CLIENT_REPORT;
    m.client_report = &r;
    struct wv_peer_control got;
    size_t len = wavry__rift__control_message__pack(&m, packed);
    ck_assert_int_eq(wv_peer_control_parse(packed, len, &got), 0);
    ck_assert_int_eq(got.kind, WV_PEER_REPORT);
    ck_assert_uint_eq(got.report.frames, 60);
    ck_assert_uint_eq(got.report.decode_p50_us, 1500);
    ck_assert_uint_eq(got.report.glass_p99_us, 60000000);
    ck_assert_int_eq(wv_peer_control_parse(packed, 0, &got), 0);
    ck_assert_int_eq(got.kind, WV_PEER_OTHER);
    ck_assert_int_eq(wv_peer_control_parse(packed, len - 1, &got), -EBADMSG);
    ck_assert_int_eq(wv_peer_control_parse(packed, sizeof packed, &got), -EBADMSG);
}
END_TEST

START_TEST(sealed_messages_are_bounded)
{
    static uint8_t packed[WV_PEER_CONTROL_MAX_BYTES], sealed[WV_PEER_INNER_MAX_BYTES + 1] = {1, 2, 3};
    static struct wv_peer_control got;
    Wavry__Rift__ControlMessage m = WAVRY__RIFT__CONTROL_MESSAGE__INIT;
    m.kind_case = WAVRY__RIFT__CONTROL_MESSAGE__KIND_INNER;
    m.inner = (ProtobufCBinaryData){.data = sealed, .len = WV_PEER_INNER_MAX_BYTES};
    size_t len = wavry__rift__control_message__pack(&m, packed);
    ck_assert_int_eq(wv_peer_control_parse(packed, len, &got), 0);
    ck_assert_int_eq(got.kind, WV_PEER_INNER);
    ck_assert_uint_eq(got.inner_len, WV_PEER_INNER_MAX_BYTES);
    ck_assert_mem_eq(got.inner, sealed, WV_PEER_INNER_MAX_BYTES);
    m.inner.len++;
    len = wavry__rift__control_message__pack(&m, packed);
    ck_assert_int_eq(wv_peer_control_parse(packed, len, &got), -EBADMSG);
    m.inner.len = 0;
    len = wavry__rift__control_message__pack(&m, packed);
    ck_assert_int_eq(wv_peer_control_parse(packed, len, &got), -EBADMSG);
}
END_TEST

START_TEST(addresses_read_like_addresses)
{
    char text[WV_ADDRESS_TEXT_BYTES];
    struct wv_address v4 = {
        {[10] = 0xff, [11] = 0xff, [12] = 192, [13] = 0, [14] = 2, [15] = 1, [16] = 0x12, [17] = 0xd4}};
    wv_address_format(&v4, text);
    ck_assert_str_eq(text, "192.0.2.1:4820");
    struct wv_address v6 = {
        {[0] = 0x20, [1] = 0x01, [2] = 0x0d, [3] = 0xb8, [15] = 1, [16] = 0x12, [17] = 0xd4}};
    wv_address_format(&v6, text);
    ck_assert_str_eq(text, "[2001:db8::1]:4820");
    struct wv_address local = {{[0] = 0xfe, [1] = 0x80, [4] = 3, [15] = 1, [17] = 1}};
    wv_address_format(&local, text);
    ck_assert_str_eq(text, "[fe80::1]:1");
}
END_TEST

/* ---- the socket ---- */

static int open_loopback(struct wv_address *ret)
{
    struct sockaddr_in6 a = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT};
    socklen_t len = sizeof a;
    int fd = socket(AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(bind(fd, (struct sockaddr *)&a, sizeof a), 0);
    ck_assert_int_eq(getsockname(fd, (struct sockaddr *)&a, &len), 0);
    memcpy(ret->bytes, &a.sin6_addr, 16);
    memcpy(ret->bytes + 16, &a.sin6_port, 2);
    return fd;
}

/* A datagram is under way even on loopback: behind the kernel's other work on a busy machine. */
static void wait_readable(int fd)
{
    struct pollfd p = {.fd = fd, .events = POLLIN};
    ck_assert_int_eq(poll(&p, 1, 20000), 1);
}

static ssize_t take_datagram(int fd, uint8_t *datagram, size_t capacity)
{
    wait_readable(fd);
    return recv(fd, datagram, capacity, MSG_DONTWAIT);
}

static void commit(struct wv_udp *u, const struct wv_address *to, uint8_t first, size_t len)
{
    uint8_t *slot = wv_udp_slot(u);
    ck_assert_ptr_nonnull(slot);
    memset(slot, first, len);
    wv_udp_commit(u, to, len, 0);
}

START_TEST(datagrams_keep_their_bounds_and_order)
{
    struct wv_address one, two, from;
    int a = open_loopback(&one), b = open_loopback(&two), fd = open_loopback(&from);
    struct wv_metrics *metrics;
    struct wv_udp *u;
    ck_assert_int_eq(wv_metrics_new(&metrics, -1, "transport", wv_transport_metrics, WV_T_METRICS), 0);
    ck_assert_int_eq(wv_udp_new(&u, fd, metrics), 0);
    /* Runs of one size, a shorter end, a longer one behind it, another address between, more than one batch.
     */
    static const size_t sizes[] = {1200, 1200, 1200, 700, 1200, 30, 31, 31, 1, 1200};
    size_t n = 0;
    for (unsigned round = 0; round < 7; round++) {
        for (size_t i = 0; i < WV_ARRAY_SIZE(sizes); i++)
            commit(u, &one, (uint8_t)n++, sizes[i]);
        commit(u, &two, 0xee, 50);
    }
    ck_assert_int_eq(wv_udp_flush(u), 0);
    uint8_t datagram[2048];
    for (size_t i = 0; i < n; i++) {
        ssize_t got = take_datagram(a, datagram, sizeof datagram);
        ck_assert_int_eq(got, (ssize_t)sizes[i % WV_ARRAY_SIZE(sizes)]);
        ck_assert_uint_eq(datagram[0], (uint8_t)i);
        ck_assert_uint_eq(datagram[got - 1], (uint8_t)i);
    }
    for (unsigned round = 0; round < 7; round++)
        ck_assert_int_eq(take_datagram(b, datagram, sizeof datagram), 50);
    ck_assert_int_eq(recv(a, datagram, sizeof datagram, MSG_DONTWAIT), -1);
    ck_assert_uint_eq(wv_metric_value(metrics, WV_T_PACKETS_SENT), n + 7);
    wv_udp_free(u);
    wv_metrics_free(metrics);
    close(a);
    close(b);
    close(fd);
}
END_TEST

/* The traffic class that the next datagram at FD came with; its length must be LEN. */
static int class_of_next(int fd, size_t len)
{
    uint8_t datagram[2048];
    union {
        char bytes[CMSG_SPACE(sizeof(int))];
        struct cmsghdr align;
    } control;
    struct iovec iov = {datagram, sizeof datagram};
    struct msghdr h = {.msg_iov = &iov,
                       .msg_iovlen = 1,
                       .msg_control = control.bytes,
                       .msg_controllen = sizeof control.bytes};
    int value;
    wait_readable(fd);
    ck_assert_int_eq(recvmsg(fd, &h, MSG_DONTWAIT), (ssize_t)len);
    struct cmsghdr *c = CMSG_FIRSTHDR(&h);
    ck_assert_ptr_nonnull(c);
    ck_assert_int_eq(c->cmsg_type, IPV6_TCLASS);
    memcpy(&value, CMSG_DATA(c), sizeof value);
    return value;
}

static enum rift_ecn came_with;
static unsigned came;

static void note_ecn(void *userdata, const struct wv_address *from, enum rift_ecn ecn,
                     const uint8_t *datagram, size_t len, uint64_t at)
{
    came_with = ecn;
    came++;
}

START_TEST(datagrams_carry_their_marks)
{
    struct wv_address to, from;
    int a = open_loopback(&to), fd = open_loopback(&from), on = 1, ce = 3;
    struct wv_metrics *metrics;
    struct wv_udp *u, *v;
    const uint8_t tos[] = {
        wv_udp_tos(RIFT_CLASS_INPUT, RIFT_ECN_NONE), wv_udp_tos(RIFT_CLASS_MEDIA, RIFT_ECN_ECT1),
        wv_udp_tos(RIFT_CLASS_MEDIA, RIFT_ECN_ECT0), wv_udp_tos(RIFT_CLASS_CONTROL, RIFT_ECN_NONE)};
    ck_assert_uint_eq(tos[0], 0xb8);
    ck_assert_uint_eq(tos[1], 0x89);
    ck_assert_int_eq(setsockopt(a, IPPROTO_IPV6, IPV6_RECVTCLASS, &on, sizeof on), 0);
    ck_assert_int_eq(wv_metrics_new(&metrics, -1, "transport", wv_transport_metrics, WV_T_METRICS), 0);
    ck_assert_int_eq(wv_udp_new(&u, fd, metrics), 0);
    /* Equal in size and address: only the marks keep them from being one message. */
    for (unsigned i = 0; i < 40; i++) {
        uint8_t *slot = wv_udp_slot(u);
        memset(slot, (int)i, 900);
        wv_udp_commit(u, &to, 900, tos[i / 3 % 4]);
    }
    ck_assert_int_eq(wv_udp_flush(u), 0);
    for (unsigned i = 0; i < 40; i++)
        ck_assert_int_eq(class_of_next(a, 900), tos[i / 3 % 4]);
    ck_assert_uint_eq(wv_metric_value(metrics, WV_T_SEND_UNMARKED), 0);
    /* And back: what a router marked. */
    ck_assert_int_eq(wv_udp_new(&v, a, metrics), 0);
    ck_assert_int_eq(setsockopt(fd, IPPROTO_IPV6, IPV6_TCLASS, &ce, sizeof ce), 0);
    wv_udp_slot(u);
    wv_udp_commit(u, &to, 10, 0);
    ck_assert_int_eq(wv_udp_flush(u), 0);
    wait_readable(a);
    ck_assert_int_eq(wv_udp_receive(v, note_ecn, NULL, 1), 0);
    ck_assert_uint_eq(came, 1);
    ck_assert_int_eq(came_with, RIFT_ECN_CE);
    ck_assert_uint_eq(wv_metric_value(metrics, WV_T_RECEIVED_CE), 1);
    wv_udp_free(u);
    wv_udp_free(v);
    wv_metrics_free(metrics);
    close(a);
    close(fd);
}
END_TEST

/* ---- trains ---- */

#define TRAIN_MOST 64

/* Sends N datagrams of SIZE as one message, the last of LAST bytes; each is filled with a number of its own
 * from FIRST on. ECN of all of them. */
static void send_train(int fd, const struct sockaddr_in6 *to, uint8_t first, size_t n, size_t size,
                       size_t last, int ecn)
{
    static uint8_t data[TRAIN_MOST * 1536];
    size_t len = 0;
    for (size_t i = 0; i < n; i++) {
        size_t part = i + 1 == n ? last : size;
        memset(data + len, (uint8_t)(first + i), part);
        len += part;
    }
    union {
        char bytes[CMSG_SPACE(sizeof(int)) + CMSG_SPACE(sizeof(uint16_t))];
        struct cmsghdr align;
    } control = {0};
    struct iovec iov = {data, len};
    struct msghdr h = {.msg_name = (void *)to,
                       .msg_namelen = sizeof *to,
                       .msg_iov = &iov,
                       .msg_iovlen = 1,
                       .msg_control = control.bytes,
                       .msg_controllen = sizeof control.bytes};
    struct cmsghdr *c = CMSG_FIRSTHDR(&h);
    *c = (struct cmsghdr){
        .cmsg_level = IPPROTO_IPV6, .cmsg_type = IPV6_TCLASS, .cmsg_len = CMSG_LEN(sizeof ecn)};
    memcpy(CMSG_DATA(c), &ecn, sizeof ecn);
    c = CMSG_NXTHDR(&h, c);
    uint16_t segment = (uint16_t)size;
    *c = (struct cmsghdr){
        .cmsg_level = SOL_UDP, .cmsg_type = UDP_SEGMENT, .cmsg_len = CMSG_LEN(sizeof segment)};
    memcpy(CMSG_DATA(c), &segment, sizeof segment);
    ck_assert_int_eq(sendmsg(fd, &h, 0), (ssize_t)len);
}

static struct {
    uint8_t number;
    size_t len;
    enum rift_ecn ecn;
} took[512];
static size_t n_took;

static void note_datagram(void *userdata, const struct wv_address *from, enum rift_ecn ecn,
                          const uint8_t *datagram, size_t len, uint64_t at)
{
    ck_assert_uint_lt(n_took, WV_ARRAY_SIZE(took));
    ck_assert_mem_eq(from->bytes, userdata, sizeof from->bytes);
    for (size_t i = 1; i < len; i++)
        ck_assert_uint_eq(datagram[i], datagram[0]);
    took[n_took].number = len ? datagram[0] : 0;
    took[n_took].len = len;
    took[n_took++].ecn = ecn;
}

/* GRO: the kernel joins them again on the way in; or it does not, when the option was refused. */
START_TEST(trains_are_taken_apart)
{
    static const struct {
        size_t n, size, last;
        int ecn;
    } trains[] = {{5, 1200, 700, 1}, {1, 40, 40, 0},  {2, 1452, 1452, 1},  {44, 1200, 1200, 1},
                  {3, 33, 1, 3},     {2, 1200, 1, 0}, {43, 1452, 1451, 1}, {7, 64, 64, 0},
                  {1, 0, 0, 0},      {2, 600, 600, 1}};
    struct wv_address to, from;
    struct sockaddr_in6 name = {.sin6_family = AF_INET6};
    int fd = open_loopback(&to), out = open_loopback(&from), on = 1;
    struct wv_metrics *metrics;
    struct wv_udp *u;
    memcpy(&name.sin6_addr, to.bytes, 16);
    memcpy(&name.sin6_port, to.bytes + 16, 2);
    ck_assert_int_eq(wv_metrics_new(&metrics, -1, "transport", wv_transport_metrics, WV_T_METRICS), 0);
    if (_i) /* as a process of before left it */
        ck_assert_int_eq(setsockopt(fd, SOL_UDP, UDP_GRO, &on, sizeof on), 0);
    ck_assert_int_eq(wv_udp_new(&u, fd, metrics), 0);
    n_took = 0;
    size_t n = 0;
    for (size_t i = 0; i < WV_ARRAY_SIZE(trains); i++) {
        if (trains[i].size)
            send_train(out, &name, (uint8_t)n, trains[i].n, trains[i].size, trains[i].last, trains[i].ecn);
        else
            ck_assert_int_eq(sendto(out, "", 0, 0, (struct sockaddr *)&name, sizeof name), 0);
        n += trains[i].n;
    }
    static uint8_t huge[3000];
    ck_assert_int_eq(sendto(out, huge, sizeof huge, 0, (struct sockaddr *)&name, sizeof name), sizeof huge);
    int r;
    do { /* apart, they are more than one turn takes */
        wait_readable(fd);
        r = wv_udp_receive(u, note_datagram, from.bytes, 1);
        ck_assert(r == 0 || r == WV_UDP_MORE);
    } while (r == WV_UDP_MORE || wv_metric_value(metrics, WV_T_DROPPED_MALFORMED) == 0); /* the last one */
    ck_assert_uint_eq(n_took, n);
    for (size_t i = 0, k = 0; i < WV_ARRAY_SIZE(trains); i++)
        for (size_t j = 0; j < trains[i].n; j++, k++) {
            ck_assert_uint_eq(took[k].len, j + 1 == trains[i].n ? trains[i].last : trains[i].size);
            ck_assert_uint_eq(took[k].number, trains[i].size ? (uint8_t)k : 0);
            ck_assert_int_eq((int)took[k].ecn, trains[i].ecn);
        }
    ck_assert_uint_eq(wv_metric_value(metrics, WV_T_PACKETS_RECEIVED), n + 1);
    ck_assert_uint_eq(wv_metric_value(metrics, WV_T_DROPPED_MALFORMED), 1);
    ck_assert_uint_eq(wv_metric_value(metrics, WV_T_RECEIVED_CE), 3);
    wv_udp_free(u);
    wv_metrics_free(metrics);
    close(fd);
    close(out);
}
END_TEST

START_TEST(an_address_that_cannot_be_reached_hurts_nobody_else)
{
    /* Port 0 of a documentation address: no route, or no such port; refused in any case. */
    struct wv_address nowhere = {{[0] = 0x20, [1] = 0x01, [2] = 0x0d, [3] = 0xb8, [15] = 1}}, one, from;
    int a = open_loopback(&one), fd = open_loopback(&from);
    struct wv_metrics *metrics;
    struct wv_udp *u;
    ck_assert_int_eq(wv_metrics_new(&metrics, -1, "transport", wv_transport_metrics, WV_T_METRICS), 0);
    ck_assert_int_eq(wv_udp_new(&u, fd, metrics), 0);
    commit(u, &nowhere, 1, 100);
    commit(u, &nowhere, 1, 100);
    commit(u, &one, 2, 100);
    commit(u, &nowhere, 1, 100);
    commit(u, &one, 3, 100);
    ck_assert_int_eq(wv_udp_flush(u), 0);
    uint8_t datagram[2048];
    ck_assert_int_eq(take_datagram(a, datagram, sizeof datagram), 100);
    ck_assert_uint_eq(datagram[0], 2);
    ck_assert_int_eq(take_datagram(a, datagram, sizeof datagram), 100);
    ck_assert_uint_eq(datagram[0], 3);
    ck_assert_uint_eq(wv_metric_value(metrics, WV_T_SEND_ERRORS), 3);
    ck_assert_uint_eq(wv_metric_value(metrics, WV_T_PACKETS_SENT), 2);
    wv_udp_free(u);
    wv_metrics_free(metrics);
    close(a);
    close(fd);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("transport");
    TCase *c = tcase_create("relay");
    tcase_add_checked_fixture(c, setup, teardown);
    tcase_add_test(c, one_wake_up_is_one_batch);
    tcase_add_test(c, what_is_not_confirmed_is_sent_again);
    tcase_add_test(c, a_new_event_does_not_repeat_those_under_way);
    tcase_add_test(c, a_new_input_stage_gets_at_once_what_the_one_before_did_not_confirm);
    tcase_add_test(c, while_nobody_is_there_it_tries_again_soon);
    tcase_add_test(c, old_events_wait_for_an_input_stage);
    tcase_add_test(c, a_gap_in_the_numbers_ends_a_batch);
    tcase_add_test(c, a_full_queue_drops_the_oldest);
    tcase_add_test(c, a_full_queue_under_way_stays_in_order);
    tcase_add_test(c, a_change_of_control_releases_and_starts_empty);
    tcase_add_test(c, a_release_is_not_tried_for_ever);
    tcase_add_test(c, confirmations_that_cannot_be_are_ignored);
    tcase_add_test(c, pictures_show_only_what_was_sent_and_done);
    tcase_add_loop_test(c, no_event_is_ever_lost, 1, 20);
    suite_add_tcase(s, c);
    c = tcase_create("messages");
    tcase_add_test(c, greetings_are_made_printable);
    tcase_add_test(c, reports_are_bounded);
    tcase_add_test(c, sealed_messages_are_bounded);
    tcase_add_test(c, addresses_read_like_addresses);
    tcase_add_test(c, datagrams_keep_their_bounds_and_order);
    tcase_add_test(c, datagrams_carry_their_marks);
    tcase_add_loop_test(c, trains_are_taken_apart, 0, 2);
    tcase_add_test(c, an_address_that_cannot_be_reached_hurts_nobody_else);
    suite_add_tcase(s, c);
    return s;
}

int main(void)
{
    SRunner *r = srunner_create(suite());
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
