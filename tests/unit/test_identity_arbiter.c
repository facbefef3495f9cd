/* The identity stage between its neighbours: who is told what, in which order, when clients come, go, take
 * control, and lose what they were granted. */
#include "tests/unit/identity_kit.h"
#include "tests/unit/suite.h"

START_TEST(viewers_have_the_key_before_the_encoder)
{
    struct client a, b;
    uint8_t key[32], first[32];
    client_known(&a, "a");
    client_known(&b, "grants=input b"); /* may not see */
    client_connect(&a, false);
    client_connect(&b, true);
    ck_assert(a.authorized && b.authorized && !a.pairing);
    client_read(&a);
    uint32_t before = a.kid;
    size_t from = n_sent;
    encoder_asks();
    uint32_t kid = encoder_kid(key, from);
    ck_assert_uint_eq(kid, before + 1);
    ck_assert_uint_lt(place_of(WV_TO_TRANSPORT, &wavry__bus__inner_message__descriptor, from),
                      place_of(WV_TO_ENCODER, &wavry__bus__media_key__descriptor, from));
    ck_assert_uint_eq(client_read(&a), 1);
    ck_assert_uint_eq(a.kid, kid);
    ck_assert_mem_eq(a.media_key, key, 32);
    client_read(&b);
    ck_assert_uint_eq(b.kid, 0);
    ck_assert(b.standing);
    /* The cursor's key is derived one way. */
    Wavry__Bus__CursorKeyQuestion q = WAVRY__BUS__CURSOR_KEY_QUESTION__INIT;
    deliver("capture", &q.base);
    Wavry__Bus__CursorKey *cursor = last_sent(WV_TO_CAPTURE, &wavry__bus__cursor_key__descriptor, from);
    ck_assert_ptr_nonnull(cursor);
    ck_assert_uint_eq(cursor->kid, kid);
    crypto_generichash(first, 32, (const uint8_t *)"RIFT 1 cursor", 13, key, 32);
    ck_assert_mem_eq(cursor->key.data, first, 32);
    wavry__bus__cursor_key__free_unpacked(cursor, NULL);
    /* Another process of the encoder never gets the same key. */
    memcpy(first, key, 32);
    encoder_asks();
    ck_assert_uint_eq(encoder_kid(key, 0), kid + 1);
    ck_assert_mem_ne(first, key, 32);
    client_read(&a);
    ck_assert_mem_eq(a.media_key, key, 32);
}
END_TEST

static void assert_transport_never_had(const uint8_t *secret, size_t len)
{
    for (size_t i = 0; i < n_sent; i++)
        if (sent[i].to == WV_TO_TRANSPORT)
            ck_assert_msg(!memmem(sent[i].packed, sent[i].len, secret, len), "in %s", sent[i].type->name);
}

START_TEST(transport_has_the_outer_keys_and_no_other)
{
    struct client a, b;
    uint8_t key[32];
    client_known(&a, "a");
    client_known(&b, "b");
    encoder_asks();
    client_connect(&a, false);
    client_connect(&b, false);
    client_take_control(&b, false);
    encoder_kid(key, 0);
    client_read(&a);
    ck_assert_mem_eq(a.media_key, key, 32);
    assert_transport_never_had(key, 32);
    const struct client *const all[] = {&a, &b};
    for (size_t i = 0; i < 2; i++) {
        assert_transport_never_had(all[i]->base, 32);
        assert_transport_never_had(all[i]->input_key, 32);
        assert_transport_never_had(all[i]->inner.key_send, 32);
        assert_transport_never_had(all[i]->inner.key_receive, 32);
    }
    /* And the check would have found it: the outer keys it has. */
    bool found = false;
    for (size_t i = 0; i < n_sent; i++)
        found = found || memmem(sent[i].packed, sent[i].len, a.key_send, 32);
    ck_assert(found);
}
END_TEST

START_TEST(one_controls_and_all_are_told)
{
    struct client a, b, watcher;
    client_known(&a, "Ada");
    client_known(&b, "Bob");
    client_known(&watcher, "grants=view W");
    assert_controller(NULL);
    client_connect(&watcher, false);
    assert_controller(NULL);
    client_connect(&a, false);
    assert_controller(&a);
    client_connect(&b, false);
    assert_controller(&a);
    client_read(&b);
    ck_assert(!b.controls);
    ck_assert_str_eq(b.notice, "Ada controls");
    client_take_control(&watcher, false);
    assert_controller(&a);
    client_take_control(&b, false);
    assert_controller(&b);
    client_read(&a);
    client_read(&b);
    ck_assert(b.controls && !a.controls);
    ck_assert_str_eq(a.notice, "Bob controls");
    client_take_control(&b, true);
    assert_controller(&a);
    ck_assert_int_eq(request("control", "none"), 0);
    assert_controller(NULL);
    client_read(&a);
    ck_assert_str_eq(a.notice, "nobody controls");
    ck_assert_int_eq(request("control", watcher.key_text), -EPERM);
    ck_assert_int_eq(request("control", b.key_text), 0);
    assert_controller(&b);
    ck_assert_int_eq(request("control", "nonsense"), -EINVAL);
}
END_TEST

START_TEST(a_revoked_client_loses_everything_at_once)
{
    struct client a, b;
    uint8_t key[32], fresh[32];
    client_known(&a, "a");
    client_known(&b, "b");
    encoder_asks();
    client_connect(&a, false);
    client_connect(&b, false);
    client_read(&a);
    uint32_t kid = encoder_kid(key, 0);
    size_t from = n_sent;
    ck_assert_int_eq(request("revoke", a.key_text), 0);
    assert_controller(&b);
    ck_assert(session_ended(a.session, from));
    ck_assert_uint_ne(place_of(WV_TO_TRANSPORT, &wavry__bus__key_revoked__descriptor, from), SIZE_MAX);
    ck_assert_uint_eq(encoder_kid(fresh, from), kid + 1);
    ck_assert_mem_ne(key, fresh, 32);
    ck_assert_uint_eq(client_read(&a), 0);
    client_read(&b);
    ck_assert_mem_eq(b.media_key, fresh, 32);
    /* What it still says is not heard, and it does not come back, also not to another process. */
    uint64_t bad = wv_metric_value(metrics, WV_IDENTITY_INNER_BAD);
    client_take_control(&a, false);
    ck_assert_uint_eq(wv_metric_value(metrics, WV_IDENTITY_INNER_BAD), bad + 1);
    assert_controller(&b);
    client_connect(&a, false);
    ck_assert(!a.authorized && !a.pairing);
    restart_identity();
    client_connect(&a, false);
    ck_assert(!a.authorized && !a.pairing);
}
END_TEST

START_TEST(grants_change_and_end)
{
    struct client a, b;
    char text[256];
    uint8_t key[32], fresh[32];
    client_known(&a, "grants=view,input,audio a");
    client_known(&b, "expires=2027-01-15T08:00:10Z b"); /* ten seconds from now */
    encoder_asks();
    client_connect(&a, false);
    client_connect(&b, false);
    client_read(&a);
    client_read(&b);
    ck_assert_uint_eq(a.n_grants, 3);
    ck_assert_uint_eq(b.n_grants, 2);
    ck_assert_uint_eq(b.expires, unix_s + 10);
    uint32_t kid = encoder_kid(key, 0);
    snprintf(text, sizeof text, "%s grants=view", a.key_text);
    ck_assert_int_eq(request("grant", text), 0);
    assert_controller(&b);
    client_read(&a);
    ck_assert_uint_eq(a.n_grants, 1);
    ck_assert_uint_eq(encoder_kid(fresh, 0), kid); /* it still sees */
    size_t from = n_sent;
    unix_s += 9;
    now += 9 * WV_NS_PER_S;
    uint64_t next = wv_identity_tick(id, now);
    ck_assert_uint_gt(next, now);
    ck_assert_uint_le(next, now + WV_NS_PER_S);
    ck_assert(!session_ended(b.session, from));
    unix_s += 1;
    now += WV_NS_PER_S;
    wv_identity_tick(id, now);
    ck_assert(session_ended(b.session, from));
    assert_controller(NULL);
    ck_assert_uint_eq(encoder_kid(fresh, from), kid + 1);
    client_connect(&b, false);
    ck_assert(!b.authorized);
    ck_assert_int_eq(request("grant", "nonsense"), -EINVAL);
    snprintf(text, sizeof text, "%s grants=everything", a.key_text);
    ck_assert_int_eq(request("grant", text), -EINVAL);
    client_new(&b);
    snprintf(text, sizeof text, "%s grants=view", b.key_text);
    ck_assert_int_eq(request("grant", text), -ENOENT);
}
END_TEST

START_TEST(a_successor_goes_on_with_all_sessions)
{
    struct client a, b;
    uint8_t key[32], fresh[32], peers[256];
    client_known(&a, "a");
    client_known(&b, "b");
    encoder_asks();
    client_connect(&a, false);
    client_connect(&b, false);
    client_take_control(&b, false);
    client_read(&a);
    client_read(&b);
    encoder_kid(key, 0);
    now += 10 * WV_NS_PER_S;
    size_t from = n_sent;
    restart_identity();
    ck_assert_uint_eq(encoder_kid(fresh, from), 0); /* it has its key */
    assert_controller(&b);
    ck_assert_uint_ge(client_read(&a), 1);
    ck_assert_mem_eq(a.media_key, key, 32);
    client_take_control(&a, false); /* the inner channel goes on where it was */
    assert_controller(&a);
    ck_assert(!session_ended(a.session, from) && !session_ended(b.session, from));
    client_connect(&b, false);
    ck_assert_uint_gt(b.session, a.session + 1);
    /* Who was taken off the list while nobody was here. */
    wv_identity_free(id);
    char path[128];
    snprintf(path, sizeof path, "%s/peers", state);
    int len = snprintf((char *)peers, sizeof peers, "%s b\n", b.key_text);
    ck_assert_int_eq(wv_write_file_atomic(path, peers, (size_t)len, 0600), 0);
    from = n_sent;
    start_identity();
    ck_assert(session_ended(a.session, from));
    assert_controller(&b);
    ck_assert_uint_ne(encoder_kid(fresh, from), 0);
    ck_assert_mem_ne(fresh, key, 32);
}
END_TEST

START_TEST(a_new_transport_is_told_everything_again)
{
    struct client a;
    client_known(&a, "a");
    client_connect(&a, false);
    client_read(&a);
    a.kid = 0;
    a.standing = false;
    size_t from = n_sent;
    Wavry__Bus__FirstKeyQuestion q = WAVRY__BUS__FIRST_KEY_QUESTION__INIT;
    deliver("transport", &q.base);
    Wavry__Bus__FirstKey *first = last_sent(WV_TO_TRANSPORT, &wavry__bus__first_key__descriptor, from);
    ck_assert_ptr_nonnull(first);
    ck_assert(!first->pairing);
    char text[RIFT_PUBLIC_KEY_TEXT_BYTES];
    rift_public_key_format(first->host_key.data, text);
    ck_assert_int_eq(request("key", ""), 0);
    ck_assert_str_eq(answer, text);
    wavry__bus__first_key__free_unpacked(first, NULL);
    ck_assert_uint_ne(place_of(WV_TO_TRANSPORT, &wavry__bus__controller_is__descriptor, from), SIZE_MAX);
    ck_assert_uint_eq(client_read(&a), 2);
    ck_assert(a.kid && a.standing);
}
END_TEST

START_TEST(what_could_not_be_sent_is_sent_later)
{
    struct client a;
    client_known(&a, "a");
    encoder_asks();
    deaf[WV_TO_INPUT] = deaf[WV_TO_TRANSPORT] = deaf[WV_TO_ENCODER] = true;
    size_t from = n_sent;
    ck_assert_int_eq(request("revoke", a.key_text), 0);
    ck_assert_int_eq(request("pair", ""), 0);
    encoder_asks();
    ck_assert_uint_eq(place_of(WV_TO_TRANSPORT, &wavry__bus__first_key__descriptor, from), SIZE_MAX);
    memset(deaf, 0, sizeof deaf);
    uint64_t next = wv_identity_tick(id, now);
    (void)next;
    ck_assert_uint_ne(place_of(WV_TO_TRANSPORT, &wavry__bus__first_key__descriptor, from), SIZE_MAX);
    uint8_t key[32];
    ck_assert_uint_ne(encoder_kid(key, from), 0);
    /* While somebody is deaf it tries again, with growing pauses. */
    deaf[WV_TO_ENCODER] = true;
    encoder_asks();
    uint64_t last = now;
    for (unsigned i = 0; i < 8; i++) {
        next = wv_identity_tick(id, last);
        ck_assert_uint_gt(next, last);
        ck_assert_uint_le(next - last, 2 * WV_NS_PER_S);
        last = next;
    }
    ck_assert_uint_gt(last - now, WV_NS_PER_S);
}
END_TEST

START_TEST(sessions_that_transport_does_not_name_end)
{
    struct client a, b, ghost;
    uint8_t key[32];
    client_new(&ghost);
    client_known(&a, "a");
    client_known(&b, "b");
    encoder_asks();
    client_connect(&a, false);
    client_connect(&b, false);
    uint32_t kid = encoder_kid(key, 0);
    transport_lists((struct client *[]){&a, &b}, 2);
    transport_lists((struct client *[]){&b}, 1);
    assert_controller(&a);
    now += WV_NS_PER_S;
    transport_lists((struct client *[]){&b}, 1);
    assert_controller(&b);
    ck_assert_uint_eq(encoder_kid(key, 0), kid + 1);
    client_read(&b);
    ck_assert_mem_eq(b.media_key, key, 32);
    /* One that identity knows nothing of is none. */
    size_t from = n_sent;
    ghost.session = 12345;
    transport_lists((struct client *[]){&b, &ghost}, 2);
    ck_assert(session_ended(12345, from));
    ghost.session = b.session; /* somebody else's number */
    transport_lists((struct client *[]){&b, &ghost}, 2);
    ck_assert(session_ended(b.session, from));
}
END_TEST

START_TEST(sealed_messages_are_taken_once_and_only_whole)
{
    struct client a, b;
    uint8_t sealed[1024];
    client_known(&a, "a");
    client_known(&b, "b");
    client_connect(&a, false);
    client_connect(&b, false);
    Wavry__Rift__TakeControl take_control = WAVRY__RIFT__TAKE_CONTROL__INIT;
    Wavry__Rift__InnerToHost m = WAVRY__RIFT__INNER_TO_HOST__INIT;
    m.kind_case = WAVRY__RIFT__INNER_TO_HOST__KIND_TAKE_CONTROL;
    m.take_control = &take_control;
    size_t len = client_seal(&b, &m, sealed);
    for (size_t bit = 0; bit < 8 * len; bit++) {
        sealed[bit / 8] ^= (uint8_t)(1u << bit % 8);
        deliver_sealed(b.session, sealed, len);
        sealed[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    for (size_t cut = 0; cut < len; cut++)
        deliver_sealed(b.session, sealed, cut);
    deliver_sealed(a.session, sealed, len);
    deliver_sealed(0, sealed, len);
    ck_assert_uint_eq(wv_metric_value(metrics, WV_IDENTITY_INNER_BAD), 8 * len + len + 2);
    assert_controller(&a);
    deliver_sealed(b.session, sealed, len);
    assert_controller(&b);
    client_take_control(&a, false);
    deliver_sealed(b.session, sealed, len); /* played back by transport */
    assert_controller(&a);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("identity: arbiter");
    TCase *c = tcase_create("sessions");
    tcase_add_checked_fixture(c, setup, teardown);
    tcase_add_test(c, viewers_have_the_key_before_the_encoder);
    tcase_add_test(c, transport_has_the_outer_keys_and_no_other);
    tcase_add_test(c, one_controls_and_all_are_told);
    tcase_add_test(c, a_revoked_client_loses_everything_at_once);
    tcase_add_test(c, grants_change_and_end);
    tcase_add_test(c, a_successor_goes_on_with_all_sessions);
    tcase_add_test(c, a_new_transport_is_told_everything_again);
    tcase_add_test(c, what_could_not_be_sent_is_sent_later);
    tcase_add_test(c, sessions_that_transport_does_not_name_end);
    tcase_add_test(c, sealed_messages_are_taken_once_and_only_whole);
    suite_add_tcase(s, c);
    return s;
}

int main(void)
{
    return wv_run_suite(suite());
}
