/* The vault of sessions: what a process may leave behind at any moment, and what becomes of it. */
#include "lib/base/util.h"
#include "lib/ipc/memfd.h"
#include "services/transport/session_keep.h"
#include "services/transport/session_vault.h"
#include "tests/unit/suite.h"

#include <errno.h>
#include <sodium.h>
#include <string.h>
#include <sys/mman.h>

#define PAGE WV_SESSION_VAULT_HEAD_BYTES
#define COPY WV_SESSION_VAULT_COPY_BYTES
#define SOME (WV_SESSION_VAULT_HEAD_BYTES + 2 * 2 * COPY) /* two slots */

static int fd;
static uint8_t *memory;
static uint64_t clock_ns;

static void setup(void)
{
    void *m;
    clock_ns = 1000 * WV_NS_PER_S;
    ck_assert_int_eq(wv_memfd_create("vault", SOME, &fd), 0);
    ck_assert_int_eq(wv_memfd_map(fd, SOME, true, &m), 0);
    memory = m;
}

static void teardown(void)
{
    munmap(memory, SOME);
    wv_close(fd);
}

static struct wv_session_vault *open_vault(bool *ret_wiped)
{
    struct wv_session_vault *v;
    bool wiped;
    ck_assert_int_eq(wv_session_vault_open(&v, fd, clock_ns, &wiped), 0);
    ck_assert_uint_eq(wv_session_vault_slots(v), 2);
    if (ret_wiped)
        *ret_wiped = wiped;
    else
        ck_assert(!wiped);
    return v;
}

static void put(struct wv_session_vault *v, unsigned slot, uint8_t byte, size_t len)
{
    size_t capacity;
    uint8_t *room = wv_session_vault_room(v, &capacity);
    ck_assert_uint_ge(capacity, len);
    memset(room, byte, len);
    wv_session_vault_write(v, slot, len);
}

/* The byte that SLOT was filled with, a negative result of reading it otherwise. */
static int peek(struct wv_session_vault *v, unsigned slot, size_t len)
{
    const uint8_t *data;
    size_t got;
    int r = wv_session_vault_read(v, slot, &data, &got);
    if (r != 0)
        return -r;
    ck_assert_uint_eq(got, len);
    for (size_t i = 0; i < got; i++)
        ck_assert_uint_eq(data[i], data[0]);
    return data[0];
}

START_TEST(a_state_is_there_for_the_next_process)
{
    struct wv_session_vault *v = open_vault(NULL);
    ck_assert_int_eq(peek(v, 0, 0), -WV_SESSION_VAULT_EMPTY);
    for (uint8_t i = 1; i < 6; i++) {
        put(v, 1, i, 300u + i);
        v = wv_session_vault_close(v);
        v = open_vault(NULL);
        ck_assert_int_eq(peek(v, 1, 300u + i), i);
        ck_assert_int_eq(peek(v, 0, 0), -WV_SESSION_VAULT_EMPTY);
        wv_session_vault_leave(v);
    }
    wv_session_vault_erase(v, 1);
    ck_assert_int_eq(peek(v, 1, 0), -WV_SESSION_VAULT_EMPTY);
    for (size_t i = PAGE; i < SOME; i++)
        ck_assert_uint_eq(memory[i], 0);
    wv_session_vault_close(v);
}
END_TEST

/* A process dies after having written any number of the bytes of the next state. */
START_TEST(a_torn_write_leaves_the_state_before)
{
    enum { LEN = 200, ALL = LEN + 32 };
    uint8_t before[COPY], after[ALL], head[PAGE];
    struct wv_session_vault *v = open_vault(NULL);
    put(v, 0, 1, LEN);
    put(v, 0, 2, LEN); /* in the second copy; the next goes over the first */
    memcpy(before, memory + PAGE, COPY);
    memcpy(head, memory, PAGE);
    put(v, 0, 3, LEN);
    wv_session_vault_leave(v);
    wv_session_vault_close(v);
    memcpy(after, memory + PAGE, ALL);
    for (size_t n = 0; n <= ALL; n++) {
        for (unsigned backwards = 0; backwards < 2; backwards++) {
            memcpy(memory, head, PAGE); /* not yet said to be done */
            memcpy(memory + PAGE, before, COPY);
            if (backwards)
                memcpy(memory + PAGE + ALL - n, after + ALL - n, n);
            else
                memcpy(memory + PAGE, after, n);
            v = open_vault(NULL);
            int got = peek(v, 0, LEN);
            /* A whole state that was not said to be done is as good: nothing was sent in between. */
            ck_assert(got == 2 || (got == 3 && memcmp(memory + PAGE, after, ALL) == 0));
            wv_session_vault_leave(v);
            wv_session_vault_close(v);
        }
    }
}
END_TEST

/* An older state would use counters again: a newer one that was destroyed ends the session. */
START_TEST(an_older_state_never_stands_in)
{
    struct wv_session_vault *v = open_vault(NULL);
    put(v, 0, 1, 500);
    put(v, 0, 2, 500);
    put(v, 1, 7, 500);
    wv_session_vault_leave(v);
    wv_session_vault_close(v);
    for (size_t at = 0; at < 532; at++) {
        memory[PAGE + COPY + at] ^= 0x40;
        v = open_vault(NULL);
        ck_assert_int_eq(peek(v, 0, 500), -WV_SESSION_VAULT_BAD);
        ck_assert_int_eq(peek(v, 1, 500), 7);
        wv_session_vault_leave(v);
        wv_session_vault_close(v);
        memory[PAGE + COPY + at] ^= 0x40;
    }
    /* The older one is of no importance; what the head says of the newer one is. */
    memset(memory + PAGE, 0x55, 532);
    v = open_vault(NULL);
    ck_assert_int_eq(peek(v, 0, 500), 2);
    wv_session_vault_leave(v);
    wv_session_vault_close(v);
    for (size_t at = 64; at < 72; at++) {
        memory[at] ^= 1;
        v = open_vault(NULL);
        ck_assert_int_eq(peek(v, 0, 500), -WV_SESSION_VAULT_BAD);
        wv_session_vault_leave(v);
        wv_session_vault_close(v);
        memory[at] ^= 1;
    }
}
END_TEST

START_TEST(a_state_of_another_slot_is_none)
{
    struct wv_session_vault *v = open_vault(NULL);
    put(v, 0, 1, 100);
    put(v, 1, 2, 100);
    memcpy(memory + PAGE + 2 * COPY, memory + PAGE, COPY);
    ck_assert_int_eq(peek(v, 1, 100), -WV_SESSION_VAULT_BAD);
    ck_assert_int_eq(peek(v, 0, 100), 1);
    wv_session_vault_close(v);
}
END_TEST

START_TEST(another_version_is_wiped)
{
    static const size_t places[] = {0, 8}; /* magic, version */
    for (size_t i = 0; i < WV_ARRAY_SIZE(places); i++) {
        bool wiped;
        struct wv_session_vault *v = open_vault(NULL);
        put(v, 0, 1, 1000);
        wv_session_vault_leave(v);
        wv_session_vault_close(v);
        memory[places[i]]++;
        v = open_vault(&wiped);
        ck_assert(wiped);
        ck_assert_int_eq(peek(v, 0, 0), -WV_SESSION_VAULT_EMPTY);
        wv_session_vault_close(v);
        for (size_t at = PAGE; at < SOME; at++)
            ck_assert_uint_eq(memory[at], 0);
    }
}
END_TEST

START_TEST(random_bytes_are_no_state)
{
    uint64_t x = 88172645463325252u;
    for (unsigned round = 0; round < 50; round++) {
        bool wiped;
        struct wv_session_vault *v = open_vault(&wiped);
        put(v, 0, 1, 4000);
        put(v, 0, 2, 4000);
        wv_session_vault_leave(v);
        wv_session_vault_close(v);
        size_t n = 1 + round * 8;
        for (size_t i = 0; i < n; i++) {
            x ^= x << 13, x ^= x >> 7, x ^= x << 17;
            memory[(x >> 8) % (round % 2 ? SOME : PAGE + 2 * COPY / 28)] = (uint8_t)x;
        }
        v = open_vault(&wiped);
        int got = peek(v, 0, 4000);
        ck_assert_msg(got == 2 || got == -WV_SESSION_VAULT_BAD || got == -WV_SESSION_VAULT_EMPTY, "%d", got);
        (void)peek(v, 1, 4000);
        wv_session_vault_erase(v, 0);
        wv_session_vault_erase(v, 1);
        wv_session_vault_leave(v);
        wv_session_vault_close(v);
    }
}
END_TEST

/* Lives that last LIFE_NS; returns how many of them found the state. */
static unsigned lives(uint64_t life_ns, unsigned n)
{
    unsigned found = 0;
    struct wv_session_vault *v;
    bool wiped;
    for (unsigned i = 0; i < n; i++) {
        v = open_vault(&wiped);
        if (wiped) {
            wv_session_vault_close(v);
            return found;
        }
        if (i)
            found += peek(v, 0, 100) == 1;
        put(v, 0, 1, 100);
        for (uint64_t at = clock_ns, end = clock_ns + life_ns; at <= end;) {
            uint64_t next = wv_session_vault_live(v, at);
            ck_assert_uint_gt(next, at);
            at = next;
        }
        clock_ns += life_ns;
        wv_session_vault_close(v);
    }
    return found;
}

START_TEST(a_vault_that_kills_its_readers_is_wiped)
{
    ck_assert_uint_eq(lives(WV_SESSION_VAULT_SETTLED_NS / 2, 10), 1);
}
END_TEST

START_TEST(readers_that_are_killed_later_keep_it)
{
    ck_assert_uint_eq(lives(WV_SESSION_VAULT_SETTLED_NS, 31), 30);
    ck_assert_uint_eq(lives(WV_SESSION_VAULT_GOOD_NS, 200), 199);
}
END_TEST

START_TEST(what_is_no_vault_is_refused)
{
    struct wv_session_vault *v;
    bool wiped;
    int small;
    ck_assert_int_eq(wv_memfd_create("small", PAGE + 2 * COPY - 1, &small), 0);
    ck_assert_int_eq(wv_session_vault_open(&v, small, 1, &wiped), -EBADMSG);
    wv_close(small);
    ck_assert_int_lt(wv_session_vault_open(&v, 0, 1, &wiped), 0);
}
END_TEST

/* ---- the record around the protocol's state ---- */

static void make_lease(struct way *way, uint8_t id)
{
    static const uint8_t relay[18] = {[10] = 0xff, [11] = 0xff, 192, 0, 2, 1, 0x12, 0xd6};
    struct rift_lease lease = {.rate_kbps = 1000, .not_before_s = 5, .expires_s = 50, .id = {id, 8, 7}};
    uint8_t issuer[32], issuer_secret[64], bytes[RIFT_LEASE_BYTES];
    crypto_sign_keypair(issuer, issuer_secret);
    memcpy(lease.peers[0], issuer, 32);
    memcpy(lease.peers[1], way->relay_public, 32);
    ck_assert_int_eq(rift_lease_sign(&lease, issuer_secret, bytes), 0);
    ck_assert_int_eq(rift_relay_pair_take(&way->relays, way->punch, bytes, relay, way->relay_secret, NULL, 1),
                     0);
}

/* A way with a lease, bound a moment ago. CHANGING: and a newer one, whose relay has not answered. */
static void make_way(struct way *ret, bool changing)
{
    static const uint8_t header[RIFT_RELAY_HEADER_BYTES] = {48, 1, 2, 3, 4, 5, 6, 7};
    *ret = (struct way){.used = true, .id = {1, 2}, .secret = {3, 4}};
    ck_assert_int_eq(rift_punch_new(&ret->punch, RIFT_ROLE_HOST, ret->secret, 1), 0);
    rift_punch_set_number(ret->punch, 77);
    crypto_sign_keypair(ret->relay_public, ret->relay_secret);
    make_lease(ret, 9);
    rift_relay_client_resume(ret->relays.newest.client, header, 1);
    if (changing)
        make_lease(ret, 10);
}

static void check_way(const struct way *way, const struct way *back)
{
    const struct rift_relay_place *bound =
                                      way->relays.before.client ? &way->relays.before : &way->relays.newest,
                                  *got = &back->relays.newest;
    uint8_t header[2][RIFT_RELAY_HEADER_BYTES];
    ck_assert_mem_eq(back->id, way->id, sizeof way->id);
    ck_assert_mem_eq(back->secret, way->secret, sizeof way->secret);
    ck_assert_mem_eq(back->relay_secret, way->relay_secret, sizeof way->relay_secret);
    ck_assert_mem_eq(got->address, bound->address, sizeof got->address);
    ck_assert_mem_eq(got->name, bound->name, sizeof got->name);
    ck_assert_ptr_null(back->relays.before.client);
    ck_assert_uint_eq(rift_punch_number(back->punch), 77);
    ck_assert_int_eq(rift_relay_client_header(bound->client, header[0]), 0);
    ck_assert_int_eq(rift_relay_client_header(got->client, header[1]), 0); /* datagrams pass at once */
    ck_assert_mem_eq(header[0], header[1], sizeof header[0]);
}

START_TEST(a_record_comes_back_and_every_cut_is_refused)
{
    static const uint8_t sealed[RIFT_INPUT_SEALED_BYTES] = {30, [RIFT_INPUT_SEALED_BYTES - 1] = 31};
    struct way way, way_back;
    struct wv_session_keep k = {.id = 5,
                                .number = 6,
                                .since_ns = 7,
                                .input_events = 8,
                                .controls = true,
                                .way = &way},
                           back;
    struct wv_relay *relay, *other;
    uint8_t bytes[2048];
    struct wv_writer w;
    struct wv_reader r;
    static struct wv_relay_batch batch;
    make_way(&way, _i);
    memset(k.peer_key, 3, sizeof k.peer_key);
    strcpy(k.name, "somebody");
    strcpy(k.hello.device, "a device");
    ck_assert_int_eq(wv_relay_new(&relay), 0);
    wv_relay_set_controller(relay, 77, 1);
    wv_relay_push(relay, 4, sealed, 2000);
    wv_relay_push(relay, 5, sealed, 90000);
    wv_writer_init(&w, bytes, sizeof bytes);
    wv_session_keep_write(&w, &k, relay);
    ck_assert(!w.failed);
    for (size_t n = 0; n <= w.length; n++) {
        ck_assert_int_eq(wv_relay_new(&other), 0);
        wv_reader_init(&r, bytes, n);
        int result = wv_session_keep_read(&r, &back, other, &way_back, 80000);
        ck_assert_int_eq(way_back.used, n == w.length);
        ck_assert_int_eq(result, n == w.length ? 0 : -EBADMSG);
        ck_assert_uint_eq(wv_relay_controller(other), result == 0 ? 77 : 0);
        if (result == 0) {
            check_way(&way, &way_back);
            way_free(&way_back);
            ck_assert_str_eq(back.name, "somebody");
            ck_assert_str_eq(back.hello.device, "a device");
            ck_assert_uint_eq(back.number, 6);
            ck_assert_uint_eq(wv_relay_take(other, 80000, &batch), 2);
            ck_assert_uint_eq(batch.first_seq, 4);
            ck_assert_mem_eq(batch.events + sizeof sealed, sealed, sizeof sealed);
            ck_assert_uint_eq(batch.came_us[0], 2);
            ck_assert_uint_eq(batch.came_us[1], 80); /* not in the future */
        }
        wv_relay_free(other);
    }
    way_free(&way);
    wv_relay_free(relay);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("session vault");
    TCase *c = tcase_create("all");
    tcase_set_timeout(c, 120);
    tcase_add_checked_fixture(c, setup, teardown);
    tcase_add_test(c, a_state_is_there_for_the_next_process);
    tcase_add_test(c, a_torn_write_leaves_the_state_before);
    tcase_add_test(c, an_older_state_never_stands_in);
    tcase_add_test(c, a_state_of_another_slot_is_none);
    tcase_add_test(c, another_version_is_wiped);
    tcase_add_test(c, random_bytes_are_no_state);
    tcase_add_test(c, a_vault_that_kills_its_readers_is_wiped);
    tcase_add_test(c, readers_that_are_killed_later_keep_it);
    tcase_add_test(c, what_is_no_vault_is_refused);
    tcase_add_loop_test(c, a_record_comes_back_and_every_cut_is_refused, 0, 2);
    suite_add_tcase(s, c);
    return wv_run_suite(s);
}
