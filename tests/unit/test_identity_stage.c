/* The identity stage without its bus: the key file, the list of known keys, handshakes against rift's own
 * initiator, and the administrator's requests. */
#include "lib/base/util.h"
#include "lib/ipc/metrics.h"
#include "proto/rift.pb-c.h"
#include "rift/core/handshake.h"
#include "services/identity/handshakes.h"
#include "services/identity/identity.h"
#include "services/identity/keyfile.h"
#include "services/identity/peers_file.h"
#include "tests/unit/suite.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

static char folder[64], state[96], identity_path[128], peers_path[128], reason[WV_IDENTITY_REASON_BYTES];

static void setup(void)
{
    ck_assert_int_eq(rift_crypto_init(), 0);
    strcpy(folder, "/tmp/wavry-test-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(folder));
    snprintf(state, sizeof state, "%s/state", folder);
    snprintf(identity_path, sizeof identity_path, "%s/identity", state);
    snprintf(peers_path, sizeof peers_path, "%s/peers", state);
    reason[0] = 0;
}

static void teardown(void)
{
    char command[128];
    snprintf(command, sizeof command, "rm -rf '%s'", folder);
    ck_assert_int_eq(system(command), 0);
}

static void make_state(void)
{
    ck_assert_int_eq(mkdir(state, 0700), 0);
}

static void put(const char *path, const char *text, unsigned mode)
{
    ck_assert_int_eq(wv_write_file_atomic(path, text, strlen(text), mode), 0);
}

static void key_of(uint8_t seed, uint8_t ret_key[32], char ret_text[RIFT_PUBLIC_KEY_TEXT_BYTES])
{
    uint8_t bytes[RIFT_IDENTITY_SEED_BYTES];
    struct rift_identity id;
    memset(bytes, seed, sizeof bytes);
    rift_identity_from_seed(&id, bytes);
    memcpy(ret_key, id.public, 32);
    rift_public_key_format(id.public, ret_text);
}

/* ---- the key file ---- */

START_TEST(a_key_is_made_once)
{
    struct rift_identity first, again;
    bool created = false;
    ck_assert_int_eq(wv_keyfile_open(state, &first, &created, reason), 0);
    ck_assert(created);
    struct stat st;
    ck_assert_int_eq(stat(identity_path, &st), 0);
    ck_assert_uint_eq(st.st_mode & 07777, 0600);
    ck_assert_uint_eq(st.st_nlink, 1);
    ck_assert_int_eq(stat(state, &st), 0);
    ck_assert_uint_eq(st.st_mode & 07777, 0700);
    ck_assert_int_eq(wv_keyfile_open(state, &again, &created, reason), 0);
    ck_assert(!created);
    ck_assert_mem_eq(first.secret, again.secret, 32);
}
END_TEST

static void assert_refused(int error, const char *path, const char *word)
{
    struct rift_identity id;
    bool created;
    ck_assert_int_eq(wv_keyfile_open(state, &id, &created, reason), error);
    ck_assert_msg(strstr(reason, path) && strstr(reason, word), "\"%s\" does not name %s and \"%s\"", reason,
                  path, word);
}

START_TEST(a_key_file_open_to_others_is_refused)
{
    struct rift_identity id;
    bool created;
    ck_assert_int_eq(wv_keyfile_open(state, &id, &created, reason), 0);
    ck_assert_int_eq(chmod(identity_path, 0640), 0);
    assert_refused(-EPERM, identity_path, "chmod 600");
    ck_assert_int_eq(chmod(identity_path, 0600), 0);
    ck_assert_int_eq(chmod(state, 0770), 0);
    assert_refused(-EPERM, state, "chmod 700");
}
END_TEST

START_TEST(a_damaged_key_file_is_refused_and_kept)
{
    make_state();
    put(identity_path, "wavry-identity-1 0123\n", 0600);
    assert_refused(-EBADMSG, identity_path, "backup");
    uint8_t *data;
    size_t len;
    ck_assert_int_eq(wv_read_file(identity_path, 100, &data, &len), 0);
    ck_assert_str_eq((char *)data, "wavry-identity-1 0123\n");
    free(data);
    put(identity_path, "", 0600);
    assert_refused(-EBADMSG, identity_path, "damaged");
}
END_TEST

START_TEST(links_and_other_things_are_no_key_file)
{
    char elsewhere[128];
    make_state();
    snprintf(elsewhere, sizeof elsewhere, "%s/elsewhere", folder);
    ck_assert_int_eq(symlink(elsewhere, identity_path), 0);
    assert_refused(-ELOOP, identity_path, "symbolic link");
    ck_assert_int_ne(access(elsewhere, F_OK), 0);
    ck_assert_int_eq(unlink(identity_path), 0);
    ck_assert_int_eq(mkfifo(identity_path, 0600), 0);
    assert_refused(-EINVAL, identity_path, "plain file");
    ck_assert_int_eq(unlink(identity_path), 0);
    put(elsewhere, "x", 0600);
    ck_assert_int_eq(link(elsewhere, identity_path), 0);
    assert_refused(-EINVAL, identity_path, "one name");
}
END_TEST

START_TEST(a_missing_parent_is_named)
{
    snprintf(state, sizeof state, "%s/no/state", folder);
    assert_refused(-ENOENT, state, "parent");
}
END_TEST

/* ---- the list of known keys ---- */

static unsigned bad_lines[8], n_bad;

static void note_bad(void *userdata, unsigned line, const char *why)
{
    ck_assert_uint_lt(n_bad, 8);
    bad_lines[n_bad++] = line;
}

START_TEST(bad_lines_grant_nothing_and_stay)
{
    uint8_t a[32], b[32];
    char a_text[RIFT_PUBLIC_KEY_TEXT_BYTES], b_text[RIFT_PUBLIC_KEY_TEXT_BYTES], text[1024];
    key_of(1, a, a_text);
    key_of(2, b, b_text);
    int len =
        snprintf(text, sizeof text, "# known\n\n%s the laptop\nwavry1nonsense x\n  %s\n%s \x1b[31m\n%sx y",
                 a_text, b_text, b_text, b_text);
    struct wv_peers *p;
    ck_assert_int_eq(wv_peers_parse(&p, text, (size_t)len, note_bad, NULL), 0);
    ck_assert_uint_eq(n_bad, 3);
    ck_assert_uint_eq(bad_lines[0], 4);
    ck_assert_uint_eq(bad_lines[1], 6);
    ck_assert_uint_eq(bad_lines[2], 7);
    ck_assert_uint_eq(wv_peers_count(p), 2);
    ck_assert_str_eq(wv_peers_find(p, a)->name, "the laptop");
    ck_assert_str_eq(wv_peers_find(p, b)->name, "unnamed");
    char *again;
    size_t again_len;
    ck_assert_int_eq(wv_peers_format(p, &again, &again_len), 0);
    ck_assert_uint_eq(again_len, (size_t)len + 1);
    ck_assert_mem_eq(again, text, (size_t)len);
    free(again);

    ck_assert_int_eq(wv_peers_add(p, b, " the\tphone ", WV_GRANTS_USUAL, 0), -EINVAL);
    ck_assert_int_eq(wv_peers_add(p, b, " the phone ", WV_GRANTS_USUAL, 0), 0);
    ck_assert_str_eq(wv_peers_find(p, b)->name, "the phone");
    ck_assert_int_eq(wv_peers_remove(p, a), 0);
    ck_assert_int_eq(wv_peers_remove(p, a), -ENOENT);
    ck_assert_int_eq(wv_peers_format(p, &again, &again_len), 0);
    ck_assert_ptr_nonnull(strstr(again, "# known\n"));
    ck_assert_ptr_nonnull(strstr(again, "wavry1nonsense x\n"));
    ck_assert_ptr_null(strstr(again, a_text));
    free(again);
    wv_peers_free(p);
}
END_TEST

START_TEST(a_key_named_twice_is_removed_twice)
{
    uint8_t a[32];
    char a_text[RIFT_PUBLIC_KEY_TEXT_BYTES], text[256];
    key_of(1, a, a_text);
    int len = snprintf(text, sizeof text, "%s one\n%s two\n", a_text, a_text);
    struct wv_peers *p;
    ck_assert_int_eq(wv_peers_parse(&p, text, (size_t)len, NULL, NULL), 0);
    ck_assert_str_eq(wv_peers_find(p, a)->name, "one");
    ck_assert_int_eq(wv_peers_remove(p, a), 0);
    ck_assert_ptr_null(wv_peers_find(p, a));
    ck_assert_uint_eq(wv_peers_count(p), 0);
    wv_peers_free(p);
}
END_TEST

START_TEST(names_are_printable_utf8)
{
    static const char *const good[] = {"Zo\xc3\xab", "\xe6\x9c\xba", "\xf0\x9f\x92\xbb", "a b"};
    static const char *const bad[] = {"\xc3", "\xc0\xaf",     "\xed\xa0\x80", "\xf4\x90\x80\x80",
                                      "\x7f", "\xe2\x80\xae", "\xc2\x85\x20", "a\nb",
                                      "\x80"};
    for (size_t i = 0; i < WV_ARRAY_SIZE(good); i++)
        ck_assert_msg(wv_text_is_printable(good[i], strlen(good[i])), "good %zu", i);
    for (size_t i = 0; i < WV_ARRAY_SIZE(bad); i++)
        ck_assert_msg(!wv_text_is_printable(bad[i], strlen(bad[i])), "bad %zu", i);
}
END_TEST

START_TEST(too_many_keys_are_refused)
{
    struct wv_peers *p;
    char *text = malloc(WV_PEERS_FILE_MAX_BYTES + 1);
    memset(text, '#', WV_PEERS_FILE_MAX_BYTES + 1);
    ck_assert_int_eq(wv_peers_parse(&p, text, WV_PEERS_FILE_MAX_BYTES + 1, NULL, NULL), -EFBIG);
    memset(text, '\n', 10000);
    ck_assert_int_eq(wv_peers_parse(&p, text, 10000, NULL, NULL), -EFBIG);
    free(text);
}
END_TEST

static unsigned n_gone;

static void note_gone(void *userdata, const uint8_t key[32])
{
    ck_assert_mem_eq(key, userdata, 32);
    n_gone++;
}

START_TEST(a_changed_file_is_read_again)
{
    uint8_t a[32], b[32];
    char a_text[RIFT_PUBLIC_KEY_TEXT_BYTES], b_text[RIFT_PUBLIC_KEY_TEXT_BYTES], text[256];
    struct wv_peers_file *f;
    key_of(1, a, a_text);
    key_of(2, b, b_text);
    make_state();
    ck_assert_int_eq(wv_peers_file_open(&f, state, reason, sizeof reason), 0);
    ck_assert_uint_eq(wv_peers_count(wv_peers_file_list(f)), 0);
    ck_assert_int_eq(wv_peers_file_add(f, a, "a", WV_GRANTS_USUAL, 0), 0);
    struct stat st;
    ck_assert_int_eq(stat(peers_path, &st), 0);
    ck_assert_uint_eq(st.st_mode & 07777, 0600);
    ck_assert_int_eq(wv_peers_file_refresh(f, note_gone, a, reason, sizeof reason), 0);
    ck_assert_uint_eq(n_gone, 0);

    snprintf(text, sizeof text, "%s b\n", b_text);
    put(peers_path, text, 0600);
    ck_assert_int_eq(wv_peers_file_refresh(f, note_gone, a, reason, sizeof reason), 0);
    ck_assert_uint_eq(n_gone, 1);
    ck_assert_str_eq(wv_peers_find(wv_peers_file_list(f), b)->name, "b");

    /* Gone altogether: nobody may connect. */
    ck_assert_int_eq(unlink(peers_path), 0);
    ck_assert_int_eq(wv_peers_file_refresh(f, note_gone, b, reason, sizeof reason), 0);
    ck_assert_uint_eq(n_gone, 2);
    ck_assert_uint_eq(wv_peers_count(wv_peers_file_list(f)), 0);
    wv_peers_file_close(f);
}
END_TEST

START_TEST(a_list_that_others_may_write_is_not_used)
{
    uint8_t a[32];
    char a_text[RIFT_PUBLIC_KEY_TEXT_BYTES], text[256];
    struct wv_peers_file *f;
    key_of(1, a, a_text);
    make_state();
    snprintf(text, sizeof text, "%s a\n", a_text);
    put(peers_path, text, 0622);
    ck_assert_int_eq(wv_peers_file_open(&f, state, reason, sizeof reason), -EPERM);
    ck_assert_ptr_nonnull(strstr(reason, peers_path));
    ck_assert_int_eq(chmod(peers_path, 0600), 0);
    ck_assert_int_eq(wv_peers_file_open(&f, state, reason, sizeof reason), 0);
    ck_assert_int_eq(chmod(peers_path, 0666), 0);
    ck_assert_int_eq(wv_peers_file_refresh(f, note_gone, a, reason, sizeof reason), -EPERM);
    ck_assert_uint_eq(n_gone, 1);
    /* And is not overwritten by somebody who could not read it. */
    ck_assert_int_eq(wv_peers_file_add(f, a, "again", WV_GRANTS_USUAL, 0), -EBADF);
    ck_assert_int_eq(chmod(peers_path, 0600), 0);
    ck_assert_int_eq(wv_peers_file_refresh(f, note_gone, a, reason, sizeof reason), 0);
    ck_assert_str_eq(wv_peers_find(wv_peers_file_list(f), a)->name, "a");
    wv_peers_file_close(f);
}
END_TEST

/* ---- handshakes ---- */

static struct wv_handshakes *handshakes;
static struct rift_identity host, client;
static struct wv_handshake_reply reply;

static void setup_handshakes(void)
{
    setup();
    rift_identity_generate(&host);
    rift_identity_generate(&client);
    ck_assert_int_eq(wv_handshakes_new(&handshakes, host.secret), 0);
}

static void teardown_handshakes(void)
{
    handshakes = wv_handshakes_free(handshakes);
    teardown();
}

static int ask(uint64_t token, uint32_t initiator_id, uint32_t step, const uint8_t *message, size_t len,
               uint64_t now)
{
    const struct wv_handshake_question q = {.token = token,
                                            .initiator_id = initiator_id,
                                            .local_id = 77,
                                            .step = step,
                                            .message = message,
                                            .len = len};
    return wv_handshakes_ask(handshakes, &q, now, &reply);
}

/* A client's whole exchange with a responder's table and the identity stage. */
struct exchange {
    struct rift_initiator *initiator;
    struct rift_responder *responder;
    struct rift_responder_question question;
    uint64_t now;
};

static void exchange_init(struct exchange *x, const uint8_t *payload, size_t payload_len)
{
    uint8_t secret[32] = {1};
    memset(x, 0, sizeof *x);
    x->now = WV_NS_PER_S;
    ck_assert_int_eq(rift_responder_new(&x->responder, secret, 8, x->now), 0);
    rift_responder_set_keys(x->responder, host.public, false);
    ck_assert_int_eq(rift_initiator_new(&x->initiator, client.secret, host.public, 4711, payload, payload_len,
                                        x->now, 10 * WV_NS_PER_S),
                     0);
}

static void exchange_fini(struct exchange *x)
{
    rift_initiator_free(x->initiator);
    rift_responder_free(x->responder);
}

/* The client's next datagram becomes a question. */
static void exchange_question(struct exchange *x)
{
    uint8_t datagram[RIFT_MTU_BYTES], address[RIFT_ADDRESS_BYTES] = {1};
    size_t len;
    ck_assert_int_eq(rift_initiator_send(x->initiator, datagram, sizeof datagram, x->now, &len), 0);
    ck_assert_int_eq(rift_responder_receive(x->responder, address, datagram, len, 77, x->now, &x->question),
                     0);
}

static int exchange_ask(struct exchange *x)
{
    return ask(x->question.token, x->question.initiator_id, x->question.step, x->question.message,
               x->question.len, x->now);
}

static void exchange_answer(struct exchange *x)
{
    uint8_t datagram[RIFT_MTU_BYTES], address[RIFT_ADDRESS_BYTES];
    size_t len;
    ck_assert_int_eq(
        rift_responder_answer(x->responder, x->question.token, reply.message, reply.message_len, x->now), 0);
    ck_assert_int_eq(rift_responder_send(x->responder, datagram, sizeof datagram, x->now, address, &len), 0);
    ck_assert_int_eq(rift_initiator_receive(x->initiator, datagram, len, x->now), 0);
}

static size_t pack_hello(uint8_t *payload, const char *device)
{
    char copy[128];
    snprintf(copy, sizeof copy, "%s", device);
    Wavry__Rift__ClientHello m = WAVRY__RIFT__CLIENT_HELLO__INIT;
    m.device = copy;
    return wavry__rift__client_hello__pack(&m, payload);
}

START_TEST(a_client_proves_its_key)
{
    uint8_t payload[256], host_key[32];
    struct exchange x;
    size_t len = pack_hello(payload, "laptop");
    exchange_init(&x, payload, len);
    exchange_question(&x);
    ck_assert_int_eq(exchange_ask(&x), WV_HANDSHAKE_ANSWER);
    ck_assert_uint_eq(wv_handshakes_pending(handshakes), 1);
    exchange_answer(&x);
    exchange_question(&x);
    ck_assert_uint_eq(x.question.step, 3);
    ck_assert_int_eq(exchange_ask(&x), WV_HANDSHAKE_DONE);
    ck_assert_mem_eq(reply.peer_key, client.public, 32);
    ck_assert_uint_eq(reply.payload_len, len);
    ck_assert_mem_eq(reply.payload, payload, len);
    struct rift_session_config config;
    ck_assert_int_eq(rift_initiator_finish(x.initiator, &config, host_key), 0);
    ck_assert_mem_eq(config.key_send, reply.key_receive, 32);
    ck_assert_mem_eq(config.key_receive, reply.key_send, 32);
    ck_assert_mem_eq(host_key, host.public, 32);
    uint8_t base[32], hash[64];
    ck_assert_int_eq(rift_initiator_inner(x.initiator, base, hash), 0);
    ck_assert_mem_eq(base, reply.inner_base, 32);
    ck_assert_mem_eq(hash, reply.hash, 64);
    ck_assert_str_eq(reply.device, "laptop");
    ck_assert(!reply.view_only && !reply.keep);
    ck_assert_uint_eq(wv_handshakes_pending(handshakes), 0);
    /* The same proof a second time is of a handshake that is over. */
    ck_assert_int_eq(exchange_ask(&x), WV_HANDSHAKE_REFUSED);
    exchange_fini(&x);
}
END_TEST

START_TEST(forged_and_untimely_messages_are_refused)
{
    uint8_t payload[256], junk[RIFT_HANDSHAKE_MESSAGE_MAX];
    struct exchange x;
    memset(junk, 0x5a, sizeof junk);
    exchange_init(&x, payload, pack_hello(payload, "laptop"));
    ck_assert_int_eq(ask(1, 1, 3, junk, 100, x.now), WV_HANDSHAKE_REFUSED); /* step 3 of nothing */
    ck_assert_int_eq(ask(1, 1, 2, junk, 100, x.now), WV_HANDSHAKE_REFUSED);
    ck_assert_int_eq(ask(1, 1, 1, junk, 31, x.now), WV_HANDSHAKE_REFUSED);
    uint8_t zero[32] = {0}; /* a low-order point */
    ck_assert_int_eq(ask(1, 1, 1, zero, sizeof zero, x.now), WV_HANDSHAKE_REFUSED);
    ck_assert_uint_eq(wv_handshakes_pending(handshakes), 0);

    exchange_question(&x);
    ck_assert_int_eq(exchange_ask(&x), WV_HANDSHAKE_ANSWER);
    exchange_answer(&x);
    exchange_question(&x);
    /* A forgery of message 3, every bit of it, gets nothing and ends nothing: the true one may follow. */
    for (size_t bit = 0; bit < 8 * x.question.len; bit++) {
        x.question.message[bit / 8] ^= (uint8_t)(1u << bit % 8);
        ck_assert_int_eq(exchange_ask(&x), WV_HANDSHAKE_REFUSED);
        ck_assert(reply.keep);
        static const uint8_t none[32];
        ck_assert_mem_eq(reply.key_send, none, 32);
        ck_assert_mem_eq(reply.inner_base, none, 32);
        ck_assert_uint_eq(reply.payload_len, 0);
        ck_assert_uint_eq(wv_handshakes_pending(handshakes), 1);
        x.question.message[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    ck_assert_int_eq(exchange_ask(&x), WV_HANDSHAKE_DONE);
    ck_assert_uint_eq(wv_handshakes_pending(handshakes), 0);
    exchange_fini(&x);
}
END_TEST

START_TEST(a_greeting_that_could_steer_a_terminal_is_refused)
{
    uint8_t payload[256];
    struct exchange x;
    exchange_init(&x, payload, pack_hello(payload, "\x1b[2J"));
    exchange_question(&x);
    ck_assert_int_eq(exchange_ask(&x), WV_HANDSHAKE_ANSWER);
    exchange_answer(&x);
    exchange_question(&x);
    ck_assert_int_eq(exchange_ask(&x), WV_HANDSHAKE_REFUSED);
    exchange_fini(&x);
    ck_assert_int_eq(wv_client_hello_check(payload, pack_hello(payload, "ok")), 0);
    char longer[100];
    memset(longer, 'x', 64);
    longer[64] = 0;
    ck_assert_int_eq(wv_client_hello_check(payload, pack_hello(payload, longer)), -EBADMSG);
    ck_assert_int_eq(wv_client_hello_check(payload, 0), 0);
    ck_assert_int_eq(wv_client_hello_check((const uint8_t *)"\xff\xff", 2), -EBADMSG);
}
END_TEST

START_TEST(the_table_is_bounded_and_expires)
{
    uint64_t now = WV_NS_PER_S;
    for (unsigned i = 0; i < WV_HANDSHAKES_MAX; i++)
        ck_assert_int_eq(ask(i, i, 1, client.public, 32, now), WV_HANDSHAKE_ANSWER);
    ck_assert_int_eq(ask(1000, 1, 1, client.public, 32, now), WV_HANDSHAKE_REFUSED);
    ck_assert_int_eq(ask(3, 3, 1, client.public, 32, now), WV_HANDSHAKE_REFUSED); /* its token is in use */
    now += WV_HANDSHAKE_EXPIRES_NS + 1;
    ck_assert_int_eq(ask(1000, 1, 1, client.public, 32, now), WV_HANDSHAKE_ANSWER);
    ck_assert_uint_eq(wv_handshakes_pending(handshakes), 1);
}
END_TEST

/* ---- requests ---- */

START_TEST(the_administrator_decides_who_may_connect)
{
    uint8_t key[32];
    char key_text[RIFT_PUBLIC_KEY_TEXT_BYTES], text[256], answer[512];
    struct wv_metrics *metrics;
    struct wv_identity *id;
    key_of(1, key, key_text);
    ck_assert_int_eq(wv_metrics_new(&metrics, -1, "identity", wv_identity_metrics, WV_IDENTITY_METRICS), 0);
    ck_assert_int_eq(wv_identity_new(&id, state, -1, metrics, WV_NS_PER_S, reason), 0);
    ck_assert_int_eq(wv_identity_request(id, "key", "", WV_NS_PER_S, answer, sizeof answer), 0);
    uint8_t host_key[32];
    ck_assert_int_eq(rift_public_key_parse(answer, host_key), 0);

    ck_assert_int_eq(wv_identity_request(id, "authorize", "nonsense", WV_NS_PER_S, answer, sizeof answer),
                     -EINVAL);
    ck_assert_ptr_nonnull(strstr(answer, "wavry1"));
    snprintf(text, sizeof text, "%s the laptop\n", key_text);
    ck_assert_int_eq(wv_identity_request(id, "authorize", text, WV_NS_PER_S, answer, sizeof answer),
                     -EINVAL); /* newline */
    snprintf(text, sizeof text, "  %s  the laptop", key_text);
    ck_assert_int_eq(wv_identity_request(id, "authorize", text, WV_NS_PER_S, answer, sizeof answer), 0);
    ck_assert_int_eq(wv_identity_request(id, "peers", "", WV_NS_PER_S, answer, sizeof answer), 0);
    snprintf(text, sizeof text, "%s grants=view,input the laptop\n", key_text);
    ck_assert_str_eq(answer, text);
    ck_assert_uint_eq(wv_metric_value(metrics, WV_IDENTITY_PEERS), 1);

    ck_assert_int_eq(wv_identity_request(id, "revoke", key_text, WV_NS_PER_S, answer, sizeof answer), 0);
    ck_assert_int_eq(wv_identity_request(id, "revoke", key_text, WV_NS_PER_S, answer, sizeof answer),
                     -ENOENT);
    ck_assert_ptr_nonnull(strstr(answer, peers_path));
    ck_assert_int_eq(wv_identity_request(id, "peers", "", WV_NS_PER_S, answer, sizeof answer), 0);
    ck_assert_str_eq(answer, "");
    ck_assert_int_eq(wv_identity_request(id, "dance", "", WV_NS_PER_S, answer, sizeof answer), -EOPNOTSUPP);
    ck_assert_ptr_nonnull(strstr(answer, "dance"));
    wv_identity_free(id);
    wv_metrics_free(metrics);
}
END_TEST

START_TEST(a_long_list_says_that_it_is_cut)
{
    uint8_t key[32];
    char key_text[RIFT_PUBLIC_KEY_TEXT_BYTES], text[256], answer[300];
    struct wv_metrics *metrics;
    struct wv_identity *id;
    ck_assert_int_eq(wv_metrics_new(&metrics, -1, "identity", wv_identity_metrics, WV_IDENTITY_METRICS), 0);
    ck_assert_int_eq(wv_identity_new(&id, state, -1, metrics, WV_NS_PER_S, reason), 0);
    for (uint8_t i = 1; i <= 10; i++) {
        key_of(i, key, key_text);
        snprintf(text, sizeof text, "%s number %u", key_text, i);
        ck_assert_int_eq(wv_identity_request(id, "authorize", text, WV_NS_PER_S, answer, sizeof answer), 0);
    }
    ck_assert_int_eq(wv_identity_request(id, "peers", "", WV_NS_PER_S, answer, sizeof answer), 0);
    ck_assert_ptr_nonnull(strstr(answer, "number 1\n"));
    ck_assert_ptr_nonnull(strstr(answer, "... and 7 more"));
    wv_identity_free(id);
    wv_metrics_free(metrics);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("identity stage");
    TCase *c = tcase_create("files");
    tcase_add_checked_fixture(c, setup, teardown);
    tcase_add_test(c, a_key_is_made_once);
    tcase_add_test(c, a_key_file_open_to_others_is_refused);
    tcase_add_test(c, a_damaged_key_file_is_refused_and_kept);
    tcase_add_test(c, links_and_other_things_are_no_key_file);
    tcase_add_test(c, a_missing_parent_is_named);
    tcase_add_test(c, bad_lines_grant_nothing_and_stay);
    tcase_add_test(c, a_key_named_twice_is_removed_twice);
    tcase_add_test(c, names_are_printable_utf8);
    tcase_add_test(c, too_many_keys_are_refused);
    tcase_add_test(c, a_changed_file_is_read_again);
    tcase_add_test(c, a_list_that_others_may_write_is_not_used);
    tcase_add_test(c, the_administrator_decides_who_may_connect);
    tcase_add_test(c, a_long_list_says_that_it_is_cut);
    suite_add_tcase(s, c);
    c = tcase_create("handshakes");
    tcase_add_checked_fixture(c, setup_handshakes, teardown_handshakes);
    tcase_add_test(c, a_client_proves_its_key);
    tcase_add_test(c, forged_and_untimely_messages_are_refused);
    tcase_add_test(c, a_greeting_that_could_steer_a_terminal_is_refused);
    tcase_add_test(c, the_table_is_bounded_and_expires);
    suite_add_tcase(s, c);
    return s;
}

int main(void)
{
    return wv_run_suite(suite());
}
