/* The path agents of a client and a host on virtual time, behind NATs of every kind of RFC 4787 and RFC 5780:
 * who reaches whom, how fast, what is switched when, and what a stranger can do. */
#include "rift/punch/agent.h"

#include "lib/base/util.h"

#include <check.h>
#include <errno.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MS      WV_NS_PER_MS
#define ONE_WAY (20 * MS)

enum depends { ENDPOINT_INDEPENDENT, ADDRESS_DEPENDENT, PORT_DEPENDENT };

struct nat {
    bool used;
    enum depends mapping, filtering;
    uint8_t outside[4];
    unsigned next_port;
    struct mapping {
        uint8_t inside[RIFT_ADDRESS_BYTES], to[RIFT_ADDRESS_BYTES], outside[RIFT_ADDRESS_BYTES];
        uint8_t sent_to[32][RIFT_ADDRESS_BYTES];
        unsigned n_sent_to;
    } mappings[128];
    unsigned n;
};

struct packet {
    uint64_t at;
    unsigned to;
    uint8_t from[RIFT_ADDRESS_BYTES], bytes[RIFT_KNOCK_BYTES];
};

struct peer {
    uint8_t address[RIFT_ADDRESS_BYTES];
    struct nat nat;
    struct rift_punch *agent;
};

static char *wire_md;
static struct peer peers[2]; /* by enum rift_role: host, client */
static struct packet wire[4096];
static unsigned n_wire;
static uint64_t now;
static bool blocked, media; /* nothing direct passes; the host sends all the time */
static uint8_t relay_name[RIFT_ADDRESS_BYTES];
static const uint8_t *shut_relay; /* nothing passes through the relay of this name */
static uint64_t last_media, longest_gap, media_at, use_at;
static uint8_t host_sends_to[RIFT_ADDRESS_BYTES];
static uint64_t sent_to_nobody; /* datagrams to an address that is no peer's */

static void set_address(uint8_t *a, unsigned last, unsigned port)
{
    memset(a, 0, RIFT_ADDRESS_BYTES);
    a[10] = a[11] = 0xff;
    a[12] = 203;
    a[15] = (uint8_t)last;
    a[16] = (uint8_t)(port >> 8);
    a[17] = (uint8_t)port;
}

static bool same(const uint8_t *a, const uint8_t *b, enum depends how)
{
    return how == ENDPOINT_INDEPENDENT || !memcmp(a, b, how == ADDRESS_DEPENDENT ? 16 : 18);
}

/* Through the NAT towards TO: how the datagram looks outside. */
static void go_out(struct nat *n, const uint8_t *inside, const uint8_t *to, uint8_t *ret_from)
{
    struct mapping *m = NULL;
    memcpy(ret_from, inside, RIFT_ADDRESS_BYTES);
    if (!n->used)
        return;
    for (unsigned i = 0; i < n->n && !m; i++)
        if (!memcmp(n->mappings[i].inside, inside, RIFT_ADDRESS_BYTES) &&
            same(n->mappings[i].to, to, n->mapping))
            m = &n->mappings[i];
    if (!m) {
        ck_assert_uint_lt(n->n, WV_ARRAY_SIZE(n->mappings));
        m = &n->mappings[n->n++];
        memcpy(m->inside, inside, RIFT_ADDRESS_BYTES);
        memcpy(m->to, to, RIFT_ADDRESS_BYTES);
        set_address(m->outside, n->outside[3], n->next_port++);
    }
    memcpy(m->sent_to[m->n_sent_to++ % 32], to, RIFT_ADDRESS_BYTES);
    memcpy(ret_from, m->outside, RIFT_ADDRESS_BYTES);
}

static bool come_in(const struct nat *n, const uint8_t *inside, const uint8_t *from, const uint8_t *to)
{
    if (!n->used)
        return !memcmp(to, inside, RIFT_ADDRESS_BYTES);
    for (unsigned i = 0; i < n->n; i++) {
        const struct mapping *m = &n->mappings[i];
        if (memcmp(m->outside, to, RIFT_ADDRESS_BYTES) != 0)
            continue;
        for (unsigned j = 0; j < WV_MIN(m->n_sent_to, 32u); j++)
            if (same(m->sent_to[j], from, n->filtering))
                return true;
    }
    return false;
}

static void transmit(unsigned sender, const uint8_t *to, const uint8_t *bytes)
{
    struct peer *a = &peers[sender], *b = &peers[1 - sender];
    struct packet p = {.at = now + ONE_WAY, .to = 1 - sender};
    memcpy(p.bytes, bytes, sizeof p.bytes);
    if (rift_punch_is_relayed(to)) {
        if (shut_relay && !memcmp(shut_relay, to, RIFT_ADDRESS_BYTES))
            return;
        p.at += 5 * MS;
        memcpy(p.from, to, sizeof p.from);
    } else {
        go_out(&a->nat, a->address, to, p.from);
        if (blocked || !come_in(&b->nat, b->address, p.from, to)) {
            sent_to_nobody++;
            return;
        }
    }
    ck_assert_uint_lt(n_wire, WV_ARRAY_SIZE(wire));
    wire[n_wire++] = p;
}

static void deliver(void)
{
    for (unsigned i = 0; i < n_wire;) {
        if (wire[i].at > now) {
            i++;
            continue;
        }
        struct packet p = wire[i];
        wire[i] = wire[--n_wire];
        int r = rift_punch_receive(peers[p.to].agent, p.from, p.bytes, sizeof p.bytes, now);
        if (r == RIFT_PUNCH_USE) {
            ck_assert_uint_eq(p.to, RIFT_ROLE_HOST);
            memcpy(host_sends_to, p.from, sizeof host_sends_to);
            use_at = now;
        }
    }
}

/* The host's media, every 5 ms, to where the client said: it comes when the way works. */
static void send_media(void)
{
    static struct {
        uint64_t at;
        uint8_t from[RIFT_ADDRESS_BYTES];
    } line[64];
    static unsigned n;
    if (!use_at)
        n = 0;
    if (!media || !use_at)
        return;
    for (unsigned i = 0; i < n;) {
        if (line[i].at > now) {
            i++;
            continue;
        }
        if (last_media)
            longest_gap = WV_MAX(longest_gap, now - last_media);
        last_media = now;
        rift_punch_heard(peers[RIFT_ROLE_CLIENT].agent, line[i].from, now);
        line[i] = line[--n];
    }
    if (now < media_at)
        return;
    media_at = now + 5 * MS;
    bool relayed = rift_punch_is_relayed(host_sends_to);
    if (blocked && !relayed)
        return;
    struct peer *h = &peers[RIFT_ROLE_HOST];
    line[n].at = now + ONE_WAY + (relayed ? 5 * MS : 0);
    if (relayed)
        memcpy(line[n].from, host_sends_to, RIFT_ADDRESS_BYTES);
    else
        go_out(&h->nat, h->address, host_sends_to, line[n].from);
    n++;
}

static void run(uint64_t ns)
{
    uint8_t bytes[RIFT_KNOCK_BYTES], to[RIFT_ADDRESS_BYTES];
    for (uint64_t end = now + ns; now < end; now += MS) {
        deliver();
        send_media();
        rift_punch_tick(peers[RIFT_ROLE_CLIENT].agent, now);
        for (unsigned i = 0; i < 2; i++)
            if (rift_punch_timeout(peers[i].agent) <= now)
                for (unsigned n = 0; rift_punch_send(peers[i].agent, bytes, now, to) == 0; n++) {
                    ck_assert_uint_lt(n, 64);
                    transmit(i, to, bytes);
                }
    }
}

static void add(unsigned to, const uint8_t *address, unsigned kind)
{
    struct rift_candidate c = {.kind = (uint8_t)kind, .priority = kind};
    memcpy(c.address, address, sizeof c.address);
    ck_assert_int_eq(rift_punch_add(peers[to].agent, &c, now), 0);
}

struct kind {
    const char *name;
    bool nat;
    enum depends mapping, filtering;
};
static const struct kind kinds[] = {
    {"none", false, 0, 0},
    {"full cone", true, ENDPOINT_INDEPENDENT, ENDPOINT_INDEPENDENT},
    {"address-restricted", true, ENDPOINT_INDEPENDENT, ADDRESS_DEPENDENT},
    {"port-restricted", true, ENDPOINT_INDEPENDENT, PORT_DEPENDENT},
    {"symmetric", true, PORT_DEPENDENT, PORT_DEPENDENT},
};

static void make_peer(unsigned i, const struct kind *k)
{
    static const uint8_t secret[RIFT_KNOCK_SECRET_BYTES] = {7};
    struct peer *p = &peers[i];
    rift_punch_free(p->agent);
    *p = (struct peer){
        .nat = {.used = k->nat, .mapping = k->mapping, .filtering = k->filtering, .next_port = 1024}};
    p->nat.outside[3] = (uint8_t)(10 + i);
    set_address(p->address, 100 + i, 4820);
    ck_assert_int_eq(rift_punch_new(&p->agent, (enum rift_role)i, secret, now), 0);
}

/* Each tells the other its own address and the one that a STUN server saw. */
static void make(const struct kind *host, const struct kind *client)
{
    uint8_t stun[RIFT_ADDRESS_BYTES], reflexive[RIFT_ADDRESS_BYTES], lease[16] = {9};
    now = 1000 * WV_NS_PER_S;
    n_wire = 0;
    blocked = media = false;
    shut_relay = NULL;
    last_media = longest_gap = media_at = use_at = sent_to_nobody = 0;
    rift_punch_relayed_address(lease, relay_name);
    set_address(stun, 1, 3478);
    make_peer(RIFT_ROLE_HOST, host);
    make_peer(RIFT_ROLE_CLIENT, client);
    for (unsigned i = 0; i < 2; i++) {
        go_out(&peers[i].nat, peers[i].address, stun, reflexive);
        add(1 - i, peers[i].address, RIFT_CANDIDATE_LOCAL);
        add(1 - i, reflexive, RIFT_CANDIDATE_REFLEXIVE);
        rift_punch_set_own(peers[i].agent, reflexive);
    }
}

static void relay_up(void)
{
    for (unsigned i = 0; i < 2; i++)
        rift_punch_set_relayed(peers[i].agent, relay_name, now);
}

static struct rift_punch_status client_status(void)
{
    struct rift_punch_status s;
    rift_punch_get_status(peers[RIFT_ROLE_CLIENT].agent, &s);
    return s;
}

static void fini(void)
{
    for (unsigned i = 0; i < 2; i++)
        peers[i].agent = rift_punch_free(peers[i].agent);
}

/* RFC 5780: a symmetric NAT and one that filters by port never meet; all others do. */
static bool can_meet(size_t a, size_t b)
{
    return !((a == 4 && b >= 3) || (b == 4 && a >= 3));
}

START_TEST(who_reaches_whom)
{
    for (size_t h = 0; h < WV_ARRAY_SIZE(kinds); h++)
        for (size_t c = 0; c < WV_ARRAY_SIZE(kinds); c++) {
            make(&kinds[h], &kinds[c]);
            run(400 * MS);
            struct rift_punch_status s = client_status();
            ck_assert_msg(s.has_path == can_meet(h, c), "host %s, client %s: %d", kinds[h].name,
                          kinds[c].name, s.has_path);
            if (!s.has_path)
                continue;
            ck_assert_int_eq(s.why, RIFT_PUNCH_DIRECT);
            ck_assert(s.rtt_ns >= 2 * ONE_WAY && s.rtt_ns <= 2 * ONE_WAY + 3 * MS);
        }
}
END_TEST

/* With the relay there is always a way, and it is taken only where there is no other. */
START_TEST(relay_only_when_it_must_be)
{
    for (size_t h = 0; h < WV_ARRAY_SIZE(kinds); h++)
        for (size_t c = 0; c < WV_ARRAY_SIZE(kinds); c++) {
            make(&kinds[h], &kinds[c]);
            relay_up();
            run(800 * MS);
            struct rift_punch_status s = client_status();
            ck_assert(s.has_path);
            ck_assert_int_eq(s.relayed, !can_meet(h, c));
            ck_assert_int_eq(s.why, s.relayed ? RIFT_PUNCH_NO_ANSWER : RIFT_PUNCH_DIRECT);
            ck_assert(memcmp(host_sends_to, s.observed, sizeof s.observed) == 0);
        }
}
END_TEST

START_TEST(the_relay_waits_for_a_direct_way)
{
    make(&kinds[4], &kinds[4]);
    relay_up();
    run(250 * MS);
    ck_assert(!client_status().has_path);
    run(100 * MS);
    ck_assert(client_status().relayed);
}
END_TEST

START_TEST(a_direct_way_that_opens_is_taken)
{
    make(&kinds[3], &kinds[3]);
    relay_up();
    blocked = true;
    media = true;
    run(20 * WV_NS_PER_S);
    ck_assert(client_status().relayed);
    longest_gap = 0;
    blocked = false;
    run(32 * WV_NS_PER_S);
    struct rift_punch_status s = client_status();
    ck_assert(s.has_path && !s.relayed);
    ck_assert_int_eq(s.why, RIFT_PUNCH_DIRECT);
    ck_assert_uint_eq(s.switches, 1);
    ck_assert_msg(longest_gap <= 60 * MS, "gap of %u ms", (unsigned)(longest_gap / MS));
}
END_TEST

START_TEST(a_way_that_dies_is_left_at_once)
{
    make(&kinds[3], &kinds[3]);
    relay_up();
    media = true;
    run(3 * WV_NS_PER_S);
    ck_assert(!client_status().relayed);
    longest_gap = 0;
    blocked = true;
    run(2 * WV_NS_PER_S);
    struct rift_punch_status s = client_status();
    ck_assert(s.relayed);
    ck_assert_int_eq(s.why, RIFT_PUNCH_FELL_SILENT);
    ck_assert_msg(longest_gap <= 200 * MS, "gap of %u ms", (unsigned)(longest_gap / MS));
    blocked = false;
    run(40 * WV_NS_PER_S);
    s = client_status();
    ck_assert(!s.relayed);
    ck_assert_uint_eq(s.switches, 2);
}
END_TEST

/* A relay is to be left: its successor answers before anything goes there, and no pause is longer than its
 * way. */
START_TEST(a_newer_relay_takes_over)
{
    uint8_t lease[16] = {10}, newer[RIFT_ADDRESS_BYTES], third[RIFT_ADDRESS_BYTES] = {1, [17] = 1},
            old[RIFT_ADDRESS_BYTES];
    make(&kinds[4], &kinds[4]);
    relay_up();
    media = true;
    run(2 * WV_NS_PER_S);
    ck_assert(client_status().relayed);
    memcpy(old, relay_name, sizeof old);
    rift_punch_relayed_address(lease, newer);
    longest_gap = 0;
    for (unsigned i = 0; i < 2; i++)
        ck_assert_int_eq(rift_punch_add_relayed(peers[i].agent, newer, now), 0);
    ck_assert_int_eq(rift_punch_add_relayed(peers[0].agent, newer, now), 0);
    ck_assert_int_eq(rift_punch_add_relayed(peers[0].agent, third, now), RIFT_PUNCH_FULL);
    shut_relay = newer; /* while it does not work, nothing changes */
    run(2 * WV_NS_PER_S);
    ck_assert_mem_eq(client_status().address, old, sizeof old);
    shut_relay = NULL;
    run(6 * WV_NS_PER_S);
    ck_assert_mem_eq(client_status().address, newer, sizeof newer);
    ck_assert_mem_eq(host_sends_to, newer, sizeof newer);
    ck_assert_msg(longest_gap <= 60 * MS, "gap of %u ms", (unsigned)(longest_gap / MS));
    uint64_t switches = client_status().switches;
    for (unsigned i = 0; i < 2; i++)
        rift_punch_drop_relayed(peers[i].agent, old);
    run(2 * WV_NS_PER_S);
    ck_assert_mem_eq(client_status().address, newer, sizeof newer);
    ck_assert_uint_eq(client_status().switches, switches);
    ck_assert_msg(longest_gap <= 60 * MS, "gap of %u ms", (unsigned)(longest_gap / MS));
}
END_TEST

START_TEST(a_silence_of_everything_changes_nothing)
{
    make(&kinds[3], &kinds[3]);
    media = true;
    run(3 * WV_NS_PER_S);
    blocked = true;
    run(WV_NS_PER_S);
    blocked = false;
    run(3 * WV_NS_PER_S);
    struct rift_punch_status s = client_status();
    ck_assert(s.has_path && !s.relayed);
    ck_assert_uint_eq(s.switches, 0);
}
END_TEST

/* The client's network changes: its new address is told through the relay, and both punch anew. */
START_TEST(another_network)
{
    uint8_t stun[RIFT_ADDRESS_BYTES], reflexive[RIFT_ADDRESS_BYTES];
    make(&kinds[3], &kinds[3]);
    relay_up();
    media = true;
    run(3 * WV_NS_PER_S);
    struct peer *c = &peers[RIFT_ROLE_CLIENT];
    memset(&c->nat.mappings, 0, sizeof c->nat.mappings);
    c->nat.n = 0;
    c->nat.outside[3] = 77;
    set_address(c->address, 120, 4820);
    set_address(stun, 1, 3478);
    go_out(&c->nat, c->address, stun, reflexive);
    longest_gap = 0;
    rift_punch_network_changed(c->agent, now);
    rift_punch_set_own(c->agent, reflexive);
    run(20 * WV_NS_PER_S);
    struct rift_punch_status s = client_status();
    ck_assert(s.has_path && !s.relayed);
    ck_assert_msg(longest_gap <= 200 * MS, "gap of %u ms", (unsigned)(longest_gap / MS));
    ck_assert_uint_eq(s.observed[15], 77);
}
END_TEST

/* ---- bytes ---- */

/* The bytes of "NAME = hex" in section 12.5 of WIRE.md, where the hex may go on in indented lines. */
static size_t example(const char *name, uint8_t *ret, size_t capacity)
{
    char line[64], digits[256];
    snprintf(line, sizeof line, "\n%s =", name);
    const char *p = strstr(wire_md, "### 12.5 Example");
    p = p ? strstr(p, line) : NULL;
    ck_assert_msg(p, "WIRE.md has no example \"%s\"", name);
    size_t n = 0;
    for (p += strlen(line); *p && !(*p == '\n' && p[1] != ' '); p++)
        if (*p != ' ' && *p != '\n' && n < sizeof digits - 1)
            digits[n++] = *p;
    ck_assert_uint_le(n / 2, capacity);
    digits[n] = '\0';
    ck_assert_int_eq(wv_hex_decode(digits, ret, n / 2), 0);
    return n / 2;
}

START_TEST(the_examples_of_the_specification)
{
    static const struct {
        const char *name;
        struct rift_knock knock;
        bool address;
    } all[] = {
        {"KNOCK", {.kind = RIFT_KNOCK, .role = RIFT_ROLE_CLIENT, .number = 7}, false},
        {"ANSWER", {.kind = RIFT_KNOCK_ANSWER, .role = RIFT_ROLE_HOST, .number = 7}, true},
        {"KNOCK with USE",
         {.kind = RIFT_KNOCK, .role = RIFT_ROLE_CLIENT, .flags = RIFT_KNOCK_USE, .number = 8},
         true},
    };
    static const uint8_t nonce[] = {0xc0, 0xc1, 0xc2, 0xc3, 0xc4, 0xc5, 0xc6, 0xc7};
    uint8_t secret[32], want[RIFT_KNOCK_BYTES], got[RIFT_KNOCK_BYTES];
    struct rift_knock_keys keys;
    ck_assert_uint_eq(example("punch secret", secret, sizeof secret), sizeof secret);
    rift_knock_derive(secret, &keys);
    for (size_t i = 0; i < WV_ARRAY_SIZE(all); i++) {
        struct rift_knock k = all[i].knock, back;
        memcpy(k.nonce, nonce, sizeof nonce);
        if (all[i].address)
            ck_assert_uint_eq(example("client at", k.address, sizeof k.address), sizeof k.address);
        ck_assert_uint_eq(example(all[i].name, want, sizeof want), sizeof want);
        rift_knock_write(&keys, &k, got);
        ck_assert_mem_eq(got, want, sizeof want);
        ck_assert_int_eq(rift_knock_read(&keys, want, sizeof want, &back), 0);
        ck_assert_mem_eq(back.address, k.address, sizeof k.address);
        ck_assert_uint_eq(back.number, k.number);
    }
}
END_TEST

/* ---- bounds and strangers ---- */

START_TEST(knocks_are_bounded)
{
    make(&kinds[0], &kinds[0]);
    blocked = true;
    for (unsigned i = 0; i < 40; i++) {
        struct rift_candidate c = {.kind = RIFT_CANDIDATE_LOCAL};
        set_address(c.address, 200, 1 + i);
        int r = rift_punch_add(peers[0].agent, &c, now);
        ck_assert_int_eq(r, i < RIFT_PUNCH_CANDIDATES - 1 ? 0 : RIFT_PUNCH_FULL);
    }
    run(6 * WV_NS_PER_S);
    struct rift_punch_status s;
    rift_punch_get_status(peers[0].agent, &s);
    ck_assert_uint_le(s.knocks_sent, 100);
    ck_assert_uint_ge(s.knocks_sent, 90);
    run(3600 * WV_NS_PER_S); /* the peer was never heard: it ends */
    rift_punch_get_status(peers[0].agent, &s);
    ck_assert_uint_le(s.knocks_sent, 100 + 16 * 4);
    ck_assert_uint_eq(rift_punch_timeout(peers[0].agent), UINT64_MAX);
}
END_TEST

START_TEST(where_nobody_is_sent_anything)
{
    static const char *const bad[] = {
        "00000000000000000000ffff7f00000112d4", /* 127.0.0.1 */
        "00000000000000000000ffffe00000fb12d4", /* multicast */
        "00000000000000000000ffffffffffff12d4", /* broadcast */
        "00000000000000000000ffff0000000012d4", /* 0.0.0.0 */
        "00000000000000000000ffffcb0071010000", /* port 0 */
        "0000000000000000000000000000000112d4", /* ::1 */
        "fe80000000000000000000000000000112d4", /* link-local */
        "ff02000000000000000000000000000112d4", /* multicast */
        "010000000000000001020304050607080001", /* the name of a relayed way */
    };
    make(&kinds[0], &kinds[0]);
    for (size_t i = 0; i < WV_ARRAY_SIZE(bad); i++) {
        struct rift_candidate c = {.kind = RIFT_CANDIDATE_LOCAL};
        ck_assert_int_eq(wv_hex_decode(bad[i], c.address, sizeof c.address), 0);
        ck_assert_int_eq(rift_punch_add(peers[0].agent, &c, now), -EINVAL);
    }
    struct rift_candidate c = {.kind = RIFT_CANDIDATE_RELAYED};
    set_address(c.address, 5, 5);
    ck_assert_int_eq(rift_punch_add(peers[0].agent, &c, now), -EINVAL);
}
END_TEST

static unsigned answers_to(const uint8_t *from, const uint8_t *bytes, size_t len)
{
    uint8_t out[RIFT_KNOCK_BYTES], to[RIFT_ADDRESS_BYTES];
    unsigned n = 0;
    rift_punch_receive(peers[0].agent, from, bytes, len, now);
    while (rift_punch_send(peers[0].agent, out, now, to) == 0)
        n += !memcmp(to, from, sizeof to);
    return n;
}

START_TEST(strangers)
{
    uint8_t stranger[RIFT_ADDRESS_BYTES], bytes[RIFT_KNOCK_BYTES], bad[RIFT_KNOCK_BYTES];
    static const uint8_t secret[RIFT_KNOCK_SECRET_BYTES] = {7};
    struct rift_knock_keys keys;
    make(&kinds[0], &kinds[0]);
    run(300 * MS);
    set_address(stranger, 66, 666);
    rift_knock_derive(secret, &keys);
    struct rift_knock k = {.kind = RIFT_KNOCK, .role = RIFT_ROLE_CLIENT, .number = 1000};
    rift_knock_write(&keys, &k, bytes);
    for (size_t bit = 0; bit < 8 * sizeof bytes; bit++) { /* any change */
        memcpy(bad, bytes, sizeof bad);
        bad[bit / 8] ^= (uint8_t)(1 << bit % 8);
        ck_assert_uint_eq(answers_to(stranger, bad, sizeof bad), 0);
    }
    for (size_t len = 0; len < sizeof bytes; len++) /* any cut */
        ck_assert_uint_eq(answers_to(stranger, bytes, len), 0);
    k.role = RIFT_ROLE_HOST; /* our own, thrown back */
    rift_knock_write(&keys, &k, bad);
    ck_assert_uint_eq(answers_to(stranger, bad, sizeof bad), 0);
    /* A genuine one is answered once, and its copies never again. */
    ck_assert_uint_ge(answers_to(stranger, bytes, sizeof bytes), 1);
    struct rift_punch_status before, after;
    rift_punch_get_status(peers[0].agent, &before);
    for (int i = 0; i < 100; i++)
        ck_assert_uint_eq(answers_to(stranger, bytes, sizeof bytes), 0);
    rift_punch_get_status(peers[0].agent, &after);
    ck_assert_uint_eq(after.dropped - before.dropped, 100);
}
END_TEST

/* Who copies the client's word that it is elsewhere now moves nothing: it names the address, and that must be
 * proven. */
START_TEST(use_names_its_address)
{
    uint8_t stranger[RIFT_ADDRESS_BYTES], bytes[RIFT_KNOCK_BYTES];
    static const uint8_t secret[RIFT_KNOCK_SECRET_BYTES] = {7};
    struct rift_knock_keys keys;
    make(&kinds[0], &kinds[0]);
    run(300 * MS);
    struct rift_punch *host = peers[0].agent;
    uint8_t *client = peers[1].address;
    set_address(stranger, 66, 666);
    rift_knock_derive(secret, &keys);
    struct rift_knock k = {
        .kind = RIFT_KNOCK, .role = RIFT_ROLE_CLIENT, .flags = RIFT_KNOCK_USE, .number = 1000};
    memcpy(k.address, client, sizeof k.address);
    rift_knock_write(&keys, &k, bytes);
    ck_assert_int_eq(rift_punch_receive(host, stranger, bytes, sizeof bytes, now),
                     0); /* comes from elsewhere */
    k.number++;
    memcpy(k.address, stranger, sizeof k.address);
    rift_knock_write(&keys, &k, bytes);
    ck_assert_int_eq(rift_punch_receive(host, stranger, bytes, sizeof bytes, now), 0); /* not proven */
    k.number++;
    memcpy(k.address, client, sizeof k.address);
    rift_knock_write(&keys, &k, bytes);
    ck_assert_int_eq(rift_punch_receive(host, client, bytes, sizeof bytes, now), RIFT_PUNCH_USE);
    ck_assert_int_eq(rift_punch_receive(host, client, bytes, sizeof bytes, now), RIFT_PUNCH_DROPPED);
    /* Neither do those of before count after a restart. */
    uint32_t number = rift_punch_number(host);
    make_peer(0, &kinds[0]);
    rift_punch_set_number(peers[0].agent, number);
    ck_assert_int_eq(rift_punch_receive(peers[0].agent, client, bytes, sizeof bytes, now),
                     RIFT_PUNCH_DROPPED);
}
END_TEST

int main(void)
{
    uint8_t *text;
    size_t len;
    if (wv_read_file(TEST_WIRE_MD, 1 << 20, &text, &len) < 0)
        return 1;
    wire_md = (char *)text;
    Suite *suite = suite_create("punch");
    TCase *tc = tcase_create("punch");
    tcase_add_checked_fixture(tc, NULL, fini);
    tcase_add_test(tc, who_reaches_whom);
    tcase_add_test(tc, relay_only_when_it_must_be);
    tcase_add_test(tc, the_relay_waits_for_a_direct_way);
    tcase_add_test(tc, a_direct_way_that_opens_is_taken);
    tcase_add_test(tc, a_way_that_dies_is_left_at_once);
    tcase_add_test(tc, a_newer_relay_takes_over);
    tcase_add_test(tc, a_silence_of_everything_changes_nothing);
    tcase_add_test(tc, another_network);
    tcase_add_test(tc, the_examples_of_the_specification);
    tcase_add_test(tc, knocks_are_bounded);
    tcase_add_test(tc, where_nobody_is_sent_anything);
    tcase_add_test(tc, strangers);
    tcase_add_test(tc, use_names_its_address);
    suite_add_tcase(suite, tc);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    free(text);
    return failed != 0;
}
