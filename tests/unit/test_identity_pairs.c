/* Pairing through the whole identity stage: the door for strangers, the messages, the disk. */
#include "tests/unit/identity_kit.h"
#include "tests/unit/suite.h"

static void pair_start(struct client *c, struct rift_cpace *cpace, const char *code)
{
    uint8_t channel[75] = "RIFT 1 pair", share[32], host_key[32];
    ck_assert_int_eq(request("key", ""), 0);
    ck_assert_int_eq(rift_public_key_parse(answer, host_key), 0);
    memcpy(channel + 11, c->identity.public, 32);
    memcpy(channel + 43, host_key, 32);
    ck_assert_int_eq(rift_cpace_begin(cpace, (const uint8_t *)code, strlen(code), channel, sizeof channel,
                                      c->hash, 64, NULL),
                     0);
    memcpy(share, cpace->share, 32);
    Wavry__Rift__PairStart start = WAVRY__RIFT__PAIR_START__INIT;
    Wavry__Rift__InnerToHost m = WAVRY__RIFT__INNER_TO_HOST__INIT;
    start.share = (ProtobufCBinaryData){.len = 32, .data = share};
    start.name = (char[]){"its own name"};
    m.kind_case = WAVRY__RIFT__INNER_TO_HOST__KIND_PAIR_START;
    m.pair_start = &start;
    c->share_came = c->result_came = c->paired = false;
    client_say(c, &m);
    client_read(c);
}

static void pair_confirm(struct client *c, struct rift_cpace *cpace, uint8_t ret_host_tag[64])
{
    uint8_t key[64], tag[64];
    ck_assert_int_eq(rift_cpace_finish(cpace, true, (const uint8_t *)"its own name", 12, c->share, NULL, 0,
                                       key, tag, ret_host_tag),
                     0);
    Wavry__Rift__PairConfirm confirm = WAVRY__RIFT__PAIR_CONFIRM__INIT;
    Wavry__Rift__InnerToHost m = WAVRY__RIFT__INNER_TO_HOST__INIT;
    confirm.tag = (ProtobufCBinaryData){.len = 64, .data = tag};
    m.kind_case = WAVRY__RIFT__INNER_TO_HOST__KIND_PAIR_CONFIRM;
    m.pair_confirm = &confirm;
    client_say(c, &m);
    client_read(c);
}

static void show_code(const char *terms, char ret_code[9])
{
    ck_assert_msg(request("pair", terms) == 0, "%s", answer);
    ck_assert_int_eq(sscanf(answer, "code %8s\n", ret_code), 1);
}

START_TEST(a_stranger_pairs_with_the_code)
{
    struct client c, d, e;
    struct rift_cpace cpace;
    char code[9];
    uint8_t host_tag[64];
    client_new(&c);
    client_new(&d);
    client_new(&e);
    client_connect(&c, false);
    ck_assert(!c.authorized && !c.pairing); /* nobody waits for it */
    size_t from = n_sent;
    show_code("grants=view,clipboard expires=2030-01-01T00:00:00Z ttl=60s ", code);
    Wavry__Bus__FirstKey *first = last_sent(WV_TO_TRANSPORT, &wavry__bus__first_key__descriptor, from);
    ck_assert(first && first->pairing);
    wavry__bus__first_key__free_unpacked(first, NULL);
    client_connect(&c, false);
    client_connect(&d, false);
    ck_assert(c.pairing && d.pairing && !c.authorized);
    for (size_t i = 2; i <= WV_LIVE_PAIRING_MAX; i++) {
        client_new(&e);
        client_connect(&e, false);
        ck_assert(e.pairing == (i < WV_LIVE_PAIRING_MAX)); /* so many at once, and no more */
    }
    encoder_asks();
    client_take_control(&c, false);
    ck_assert_uint_eq(client_read(&c), 0); /* no key, no standing */
    assert_controller(NULL);
    pair_start(&d, &cpace, "00000000");
    ck_assert(d.share_came);
    pair_confirm(&d, &cpace, host_tag);
    ck_assert(d.result_came && !d.paired);
    ck_assert_uint_eq(d.tries_left, 2);
    pair_start(&c, &cpace, code);
    ck_assert(c.share_came && !c.result_came);
    pair_confirm(&c, &cpace, host_tag);
    ck_assert(c.paired);
    ck_assert_mem_eq(c.tag, host_tag, 64);
    first = last_sent(WV_TO_TRANSPORT, &wavry__bus__first_key__descriptor, from);
    ck_assert(first && !first->pairing); /* the code is used up */
    wavry__bus__first_key__free_unpacked(first, NULL);
    ck_assert_int_eq(request("peers", ""), 0);
    char line[200];
    snprintf(line, sizeof line,
             "%s grants=view,clipboard-in,clipboard-out expires=2030-01-01T00:00:00Z its own name\n",
             c.key_text);
    ck_assert_str_eq(answer, line);
    restart_identity();
    client_connect(&c, false);
    ck_assert(c.authorized);
    client_read(&c);
    ck_assert_uint_ne(c.kid, 0);
    ck_assert_int_eq(request("pair-status", ""), 0);
    ck_assert_ptr_nonnull(strstr(answer, "failed 1\n"));
}
END_TEST

/* Transport may let in as many as it likes, for as long as it likes: the code is worth three guesses. */
START_TEST(as_many_strangers_as_there_are_share_three_guesses)
{
    struct client strangers[WV_LIVE_PAIRING_MAX], known;
    struct rift_cpace cpace;
    char code[9];
    uint8_t host_tag[64];
    client_new(&known);
    authorize(&known, "");
    show_code("ttl=60s ", code);
    for (size_t i = 0; i < WV_LIVE_PAIRING_MAX; i++) {
        client_new(&strangers[i]);
        client_connect(&strangers[i], false);
        ck_assert(strangers[i].pairing);
    }
    client_connect(&known, false);
    ck_assert(known.authorized);
    char wrong[9];
    memcpy(wrong, code, sizeof wrong);
    wrong[0] = wrong[0] == '0' ? '1' : '0';
    for (unsigned i = 0; i < 3; i++) {
        pair_start(&strangers[i], &cpace, wrong);
        ck_assert(strangers[i].share_came);
        pair_confirm(&strangers[i], &cpace, host_tag);
        ck_assert(strangers[i].result_came && !strangers[i].paired);
        ck_assert_uint_eq(strangers[i].tries_left, 2 - i);
    }
    for (size_t i = 3; i < WV_LIVE_PAIRING_MAX; i++) {
        pair_start(&strangers[i], &cpace, code);
        ck_assert(!strangers[i].share_came);
    }
    ck_assert_int_eq(request("pair-status", ""), 0);
    ck_assert_ptr_nonnull(strstr(answer, "failed 3\n"));
}
END_TEST

START_TEST(the_time_for_pairing_is_a_minute)
{
    struct client c;
    char code[9];
    client_new(&c);
    show_code("ttl=10m", code);
    client_connect(&c, false);
    ck_assert(c.pairing);
    size_t from = n_sent;
    now += WV_LIVE_PAIRING_NS - 1;
    ck_assert_uint_eq(wv_identity_tick(id, now), now + 1);
    ck_assert(!session_ended(c.session, from));
    now++;
    wv_identity_tick(id, now);
    ck_assert(session_ended(c.session, from));
    /* The code's end closes the door too, without anybody asking. */
    now += 600 * WV_NS_PER_S;
    wv_identity_tick(id, now);
    Wavry__Bus__FirstKey *first = last_sent(WV_TO_TRANSPORT, &wavry__bus__first_key__descriptor, from);
    ck_assert(first && !first->pairing);
    wavry__bus__first_key__free_unpacked(first, NULL);
}
END_TEST

START_TEST(without_a_disk_nobody_is_paired)
{
    struct client c;
    struct rift_cpace cpace;
    char code[9], path[128], command[320];
    client_new(&c);
    show_code("", code);
    client_connect(&c, false);
    /* The file can't be replaced by one: as good as a full disk. */
    snprintf(path, sizeof path, "%s/pairing", state);
    snprintf(command, sizeof command, "rm -f '%s' && mkdir -p '%s/x'", path, path);
    ck_assert_int_eq(system(command), 0);
    pair_start(&c, &cpace, code);
    ck_assert(!c.share_came && c.result_came && !c.paired);
    snprintf(command, sizeof command, "rm -rf '%s'", path);
    ck_assert_int_eq(system(command), 0);
    pair_start(&c, &cpace, code);
    ck_assert(c.share_came);
    /* And a directory in its place after a restart is no empty count. */
    snprintf(command, sizeof command, "rm -rf '%s' && mkdir -p '%s/x'", path, path);
    ck_assert_int_eq(system(command), 0);
    restart_identity();
    ck_assert_int_eq(request("pair", ""), -EACCES);
    ck_assert_ptr_nonnull(strstr(answer, "--reopen"));
    ck_assert_int_eq(request("pair-reopen", ""), -EIO);
}
END_TEST

START_TEST(a_name_can_not_grant)
{
    struct client c;
    struct rift_cpace cpace;
    char code[9];
    uint8_t tag[64];
    client_new(&c);
    ck_assert_int_eq(request("pair", "grants=view expires=2030-01-01T00:00:00Z grants=input"), 0);
    ck_assert_int_eq(request("pair", "grants=view "), 0);
    ck_assert_int_eq(sscanf(answer, "code %8s\n", code), 1);
    client_connect(&c, false);
    pair_start(&c, &cpace, code);
    pair_confirm(&c, &cpace, tag);
    ck_assert(c.paired);
    char text[256];
    snprintf(text, sizeof text, "%s expires=2030-01-01T00:00:00Z", c.key_text);
    ck_assert_int_eq(request("authorize", text), 0);
    snprintf(text, sizeof text, "%s x expires=2030-01-01T00:00:00Z", c.key_text);
    ck_assert_int_eq(request("authorize", text), 0);
    snprintf(text, sizeof text, "%s grants=view grants=input", c.key_text);
    ck_assert_int_eq(request("authorize", text), -EINVAL);
    ck_assert_int_eq(request("pair", "ttl=11m"), -EINVAL);
    ck_assert_int_eq(request("pair", "ttl=1x"), -EINVAL);
    ck_assert_int_eq(request("pair", "grants=view,inptu"), -EINVAL);
    ck_assert_int_eq(request("pair", "two\nlines"), -EINVAL);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("identity: pairing of clients");
    TCase *c = tcase_create("pairing");
    tcase_add_checked_fixture(c, setup, teardown);
    tcase_add_test(c, a_stranger_pairs_with_the_code);
    tcase_add_test(c, as_many_strangers_as_there_are_share_three_guesses);
    tcase_add_test(c, the_time_for_pairing_is_a_minute);
    tcase_add_test(c, without_a_disk_nobody_is_paired);
    tcase_add_test(c, a_name_can_not_grant);
    suite_add_tcase(s, c);
    return s;
}

int main(void)
{
    return wv_run_suite(suite());
}
