/* What the gateway remembers: the same cases behind SQLite and, where WAVRY_TEST_POSTGRES names a server,
 * PostgreSQL. */
#include "services/gateway/store.h"
#include "tests/unit/suite.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define NOW 1000000

static char folder[] = "/tmp/wavry-store-XXXXXX", url[300], reason[WV_DB_REASON_BYTES];
static struct wv_store *s;
static struct wv_account ann, bob;
static uint8_t key_a[32] = {1}, key_b[32] = {2}, hash[32] = {3}, other_hash[32] = {4};

static int nothing(void *userdata, const struct wv_db_value *row, size_t n)
{
    return 0;
}

static void open_store(int kind)
{
    snprintf(url, sizeof url, "sqlite:%s/%d.db", folder, getpid());
    if (kind == 1)
        snprintf(url, sizeof url, "%s", getenv("WAVRY_TEST_POSTGRES"));
    ck_assert_msg(wv_store_open(&s, url, reason) == 0, "%s: %s", url, reason);
    if (kind == 1)
        ck_assert_int_eq(
            wv_db_run(
                wv_store_db(s),
                "TRUNCATE accounts, recovery, machines, tokens, shares, relays, audit, settings, challenges",
                NULL, 0, nothing, NULL, NULL),
            0);
    ck_assert_int_eq(wv_store_add_account(s, "Ann", "hash-a", true, NOW, &ann), 0);
    ck_assert_int_eq(wv_store_add_account(s, "Bob O'Neil", "hash-b", false, NOW, &bob), 0);
}

static void close_store(void)
{
    s = wv_store_close(s);
    unlink(url + strlen("sqlite:"));
}

static int count(void *userdata)
{
    (*(int *)userdata)++;
    return 0;
}

static int count_account(void *userdata, const struct wv_account *account)
{
    return count(userdata);
}

START_TEST(accounts_are_found_by_name_without_case)
{
    struct wv_account a;
    uint64_t n;
    int seen = 0;
    open_store(_i);
    ck_assert_int_eq(wv_store_account_by_name(s, "aNN", &a), 0);
    ck_assert_str_eq(a.id, ann.id);
    ck_assert_str_eq(a.name, "Ann");
    ck_assert(a.admin && !a.disabled && !a.has_totp && !a.totp_required);
    ck_assert_int_eq(wv_store_account(s, bob.id, &a), 0);
    ck_assert_str_eq(a.name, "Bob O'Neil");
    ck_assert_int_eq(wv_store_account_by_name(s, "ann ", &a), -ENOENT);
    ck_assert_int_eq(wv_store_account_by_name(s, "' OR 1=1 --", &a), -ENOENT);
    ck_assert_int_eq(wv_store_add_account(s, "ANN", "x", false, NOW, &a), -EEXIST);
    static const char *const bad[] = {
        "",
        " x",
        "x ",
        "a\nb",
        "a\x1b[31m",
        "\xff\xfe",
        "0123456789012345678901234567890123456789012345678901234567890123456789"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        ck_assert_msg(wv_store_add_account(s, bad[i], "x", false, NOW, &a) == -EINVAL, "name %zu", i);
    ck_assert_int_eq(wv_store_accounts_count(s, &n), 0);
    ck_assert_uint_eq(n, 2);
    ck_assert_int_eq(wv_store_accounts(s, count_account, &seen), 0);
    ck_assert_int_eq(seen, 2);
    close_store();
}
END_TEST

static void add_token(const struct wv_account *of, const uint8_t with[32], int64_t expires)
{
    struct wv_token t = {.created = NOW, .expires = expires};
    memcpy(t.hash, with, 32);
    snprintf(t.account, sizeof t.account, "%s", of->id);
    ck_assert_int_eq(wv_store_add_token(s, &t), 0);
}

START_TEST(tokens_end)
{
    struct wv_token t;
    open_store(_i);
    add_token(&ann, hash, NOW + 10);
    add_token(&ann, other_hash, NOW + 100);
    ck_assert_int_eq(wv_store_token(s, hash, NOW + 9, &t), 0);
    ck_assert_str_eq(t.account, ann.id);
    ck_assert(t.admin);
    ck_assert_int_eq(wv_store_token(s, hash, NOW + 10, &t), -ENOENT);
    /* A new password ends all but the one that it was changed with. */
    ck_assert_int_eq(wv_store_set_password(s, ann.id, "hash-2", other_hash), 0);
    ck_assert_int_eq(wv_store_token(s, hash, NOW, &t), -ENOENT);
    ck_assert_int_eq(wv_store_token(s, other_hash, NOW, &t), 0);
    ck_assert_int_eq(wv_store_end_token(s, other_hash), 0);
    ck_assert_int_eq(wv_store_end_token(s, other_hash), -ENOENT);
    /* A disabled account has none, also not one that comes later. */
    add_token(&ann, hash, NOW + 10);
    ck_assert_int_eq(wv_store_set_account(s, ann.id, false, true), 0);
    ck_assert_int_eq(wv_store_token(s, hash, NOW, &t), -ENOENT);
    add_token(&ann, hash, NOW + 10);
    ck_assert_int_eq(wv_store_token(s, hash, NOW, &t), -ENOENT);
    ck_assert_int_eq(wv_store_set_account(s, "no such", true, false), -ENOENT);
    ck_assert_int_eq(wv_store_sweep(s, NOW + 1000, 0), 0);
    ck_assert_int_eq(wv_store_end_token(s, hash), -ENOENT);
    close_store();
}
END_TEST

START_TEST(a_code_is_used_once)
{
    uint8_t secret[WV_STORE_SECRET_BYTES] = {9}, codes[WV_STORE_RECOVERY_CODES][WV_STORE_HASH_BYTES];
    struct wv_account a;
    uint64_t left;
    open_store(_i);
    ck_assert_int_eq(wv_store_use_totp(s, ann.id, 5, true), -EALREADY); /* there is no secret */
    ck_assert_int_eq(wv_store_set_totp(s, ann.id, secret), 0);
    ck_assert_int_eq(wv_store_account(s, ann.id, &a), 0);
    ck_assert(a.has_totp && !a.totp_required);
    ck_assert_mem_eq(a.totp_secret, secret, sizeof secret);
    ck_assert_int_eq(wv_store_use_totp(s, ann.id, 5, true), 0);
    ck_assert_int_eq(wv_store_use_totp(s, ann.id, 5, false), -EALREADY);
    ck_assert_int_eq(wv_store_use_totp(s, ann.id, 4, false), -EALREADY);
    ck_assert_int_eq(wv_store_use_totp(s, ann.id, 6, false), 0);
    ck_assert_int_eq(wv_store_account(s, ann.id, &a), 0);
    ck_assert(a.totp_required);
    ck_assert_int_eq(a.totp_step, 6);

    for (size_t i = 0; i < WV_STORE_RECOVERY_CODES; i++)
        memset(codes[i], (int)i, sizeof codes[i]);
    ck_assert_int_eq(wv_store_set_recovery(s, ann.id, codes), 0);
    ck_assert_int_eq(wv_store_use_recovery(s, ann.id, codes[3], NOW, &left), 0);
    ck_assert_uint_eq(left, WV_STORE_RECOVERY_CODES - 1);
    ck_assert_int_eq(wv_store_use_recovery(s, ann.id, codes[3], NOW, &left), -ENOENT);
    ck_assert_int_eq(wv_store_use_recovery(s, bob.id, codes[4], NOW, &left), -ENOENT);
    ck_assert_int_eq(wv_store_set_totp(s, ann.id, NULL), 0);
    ck_assert_int_eq(wv_store_use_recovery(s, ann.id, codes[4], NOW, &left), -ENOENT);
    close_store();
}
END_TEST

static int add_machine(const struct wv_account *of, const uint8_t key[32], const char *name, bool is_host)
{
    struct wv_machine m = {.is_host = is_host, .created = NOW};
    memcpy(m.key, key, 32);
    snprintf(m.account, sizeof m.account, "%s", of->id);
    snprintf(m.name, sizeof m.name, "%s", name);
    return wv_store_add_machine(s, &m);
}

static int take_last(void *userdata, const struct wv_machine *machine)
{
    *(struct wv_machine *)userdata = *machine;
    return 0;
}

START_TEST(hosts_are_shared_and_taken_back)
{
    struct wv_machine m = {0};
    char grants[WV_STORE_TEXT_BYTES];
    open_store(_i);
    ck_assert_int_eq(add_machine(&ann, key_a, "desk", true), 0);
    ck_assert_int_eq(add_machine(&bob, key_a, "thief", true), -EEXIST);
    ck_assert_int_eq(add_machine(&ann, key_b, "desk", true), -EEXIST);
    ck_assert_int_eq(add_machine(&ann, key_b, "desk", false), 0); /* a device may have a host's name */
    ck_assert_int_eq(wv_store_may_reach(s, ann.id, key_a, grants), 0);
    ck_assert_str_eq(grants, "");
    ck_assert_int_eq(wv_store_may_reach(s, bob.id, key_a, grants), -ENOENT);
    ck_assert_int_eq(wv_store_may_reach(s, ann.id, key_b, grants), -ENOENT); /* no host */

    ck_assert_int_eq(wv_store_share(s, bob.id, key_a, ann.id, "view", NOW), -ENOENT);
    ck_assert_int_eq(wv_store_share(s, ann.id, key_a, ann.id, "view", NOW), -EINVAL);
    ck_assert_int_eq(wv_store_share(s, ann.id, key_a, bob.id, "view; DROP", NOW), -EINVAL);
    ck_assert_int_eq(wv_store_share(s, ann.id, key_a, "nobody", "view", NOW), -ENOENT);
    ck_assert_int_eq(wv_store_share(s, ann.id, key_a, bob.id, "view", NOW), 0);
    ck_assert_int_eq(wv_store_share(s, ann.id, key_a, bob.id, "view,input", NOW), 0);
    ck_assert_int_eq(wv_store_may_reach(s, bob.id, key_a, grants), 0);
    ck_assert_str_eq(grants, "view,input");
    ck_assert_int_eq(wv_store_machines(s, bob.id, true, take_last, &m), 0);
    ck_assert_str_eq(m.name, "desk");
    ck_assert_str_eq(m.grants, "view,input");
    ck_assert_str_eq(m.account, ann.id);

    ck_assert_int_eq(wv_store_unshare(s, bob.id, key_a, bob.id), -ENOENT);
    ck_assert_int_eq(wv_store_unshare(s, ann.id, key_a, bob.id), 0);
    ck_assert_int_eq(wv_store_may_reach(s, bob.id, key_a, grants), -ENOENT);
    ck_assert_int_eq(wv_store_share(s, ann.id, key_a, bob.id, "view", NOW), 0);
    ck_assert_int_eq(wv_store_remove_machine(s, bob.id, key_a), -ENOENT);
    ck_assert_int_eq(wv_store_remove_machine(s, ann.id, key_a), 0);
    ck_assert_int_eq(wv_store_may_reach(s, bob.id, key_a, grants), -ENOENT);
    ck_assert_int_eq(wv_store_saw_machine(s, key_a, NOW), -ENOENT);
    ck_assert_int_eq(wv_store_saw_machine(s, key_b, NOW + 7), 0);
    ck_assert_int_eq(wv_store_machine(s, key_b, &m), 0);
    ck_assert_int_eq(m.seen, NOW + 7);
    close_store();
}
END_TEST

START_TEST(a_device_takes_its_tokens_along)
{
    struct wv_token t = {.created = NOW, .expires = NOW + 10};
    open_store(_i);
    ck_assert_int_eq(add_machine(&ann, key_b, "laptop", false), 0);
    memcpy(t.hash, hash, 32);
    memcpy(t.device, key_b, 32);
    snprintf(t.account, sizeof t.account, "%s", ann.id);
    ck_assert_int_eq(wv_store_add_token(s, &t), 0);
    ck_assert_int_eq(wv_store_token(s, hash, NOW, &t), 0);
    ck_assert_mem_eq(t.device, key_b, 32);
    ck_assert_int_eq(wv_store_remove_machine(s, ann.id, key_b), 0);
    ck_assert_int_eq(wv_store_token(s, hash, NOW, &t), -ENOENT);
    close_store();
}
END_TEST

/* ---- of each change: what it must leave alone ---- */

static const uint8_t key_c[32] = {5}, key_d[32] = {6};

static void set_up_totp(const struct wv_account *of, uint8_t first)
{
    uint8_t secret[WV_STORE_SECRET_BYTES] = {first}, codes[WV_STORE_RECOVERY_CODES][WV_STORE_HASH_BYTES];
    for (size_t i = 0; i < WV_STORE_RECOVERY_CODES; i++)
        memset(codes[i], (int)(first + i), sizeof codes[i]);
    ck_assert_int_eq(wv_store_set_totp(s, of->id, secret), 0);
    ck_assert_int_eq(wv_store_use_totp(s, of->id, 5, true), 0);
    ck_assert_int_eq(wv_store_set_recovery(s, of->id, codes), 0);
}

static int use_recovery(const struct wv_account *of, uint8_t code)
{
    uint8_t with[WV_STORE_HASH_BYTES];
    uint64_t left;
    memset(with, code, sizeof with);
    return wv_store_use_recovery(s, of->id, with, NOW, &left);
}

START_TEST(what_one_changes_of_himself_is_nobody_elses)
{
    uint8_t secret[WV_STORE_SECRET_BYTES] = {9}, codes[WV_STORE_RECOVERY_CODES][WV_STORE_HASH_BYTES];
    struct wv_account a;
    struct wv_token t;
    open_store(_i);
    ck_assert_int_eq(wv_store_use_totp(s, bob.id, 5, false), -EALREADY); /* there is no secret */
    set_up_totp(&bob, 100);
    set_up_totp(&ann, 50);
    ck_assert_int_eq(wv_store_use_totp(s, ann.id, 5, true), -EALREADY); /* used, also to confirm */
    ck_assert_int_eq(wv_store_use_totp(s, ann.id, 9, true), 0);
    ck_assert_int_eq(wv_store_use_totp(s, ann.id, 10, false), 0);
    ck_assert_int_eq(wv_store_use_totp(s, bob.id, 6, false), 0); /* his own step */
    for (size_t i = 0; i < WV_STORE_RECOVERY_CODES; i++)
        memset(codes[i], (int)(i + 1), sizeof codes[i]);
    ck_assert_int_eq(wv_store_set_recovery(s, ann.id, codes), 0);
    ck_assert_int_eq(use_recovery(&ann, 51), -ENOENT); /* of before */
    ck_assert_int_eq(use_recovery(&ann, 1), 0);
    ck_assert_int_eq(use_recovery(&bob, 101), 0);
    ck_assert_int_eq(wv_store_set_totp(s, ann.id, NULL), 0);
    ck_assert_int_eq(use_recovery(&bob, 102), 0);
    ck_assert_int_eq(wv_store_account(s, ann.id, &a), 0);
    ck_assert(!a.has_totp && !a.totp_required);
    ck_assert_int_eq(wv_store_account(s, bob.id, &a), 0);
    ck_assert(a.has_totp && a.totp_required);
    ck_assert_int_eq(a.totp_step, 6);
    ck_assert_int_eq(wv_store_set_totp(s, ann.id, secret), 0);
    ck_assert_int_eq(wv_store_use_totp(s, ann.id, 2, true), 0); /* another secret begins anew */

    add_token(&ann, hash, NOW + 10);
    add_token(&bob, other_hash, NOW + 10);
    ck_assert_int_eq(wv_store_set_password(s, ann.id, "hash-2", NULL), 0);
    ck_assert_int_eq(wv_store_token(s, hash, NOW, &t), -ENOENT);
    ck_assert_int_eq(wv_store_token(s, other_hash, NOW, &t), 0);
    add_token(&ann, hash, NOW + 10);
    ck_assert_int_eq(wv_store_end_token(s, hash), 0);
    ck_assert_int_eq(wv_store_token(s, other_hash, NOW, &t), 0);
    ck_assert_int_eq(wv_store_set_account(s, ann.id, true, true), 0);
    ck_assert_int_eq(wv_store_token(s, other_hash, NOW, &t), 0);
    ck_assert_str_eq(t.account, bob.id);
    ck_assert_int_eq(wv_store_account(s, bob.id, &a), 0);
    ck_assert_str_eq(a.password, "hash-b");
    ck_assert(!a.admin && !a.disabled);
    close_store();
}
END_TEST

static int take_share(void *userdata, const struct wv_share *share)
{
    ck_assert_str_eq(share->account, bob.id);
    return count(userdata);
}

static int count_machine(void *userdata, const struct wv_machine *machine)
{
    return count(userdata);
}

static int machines_of(const struct wv_account *of, bool hosts)
{
    int n = 0;
    ck_assert_int_eq(wv_store_machines(s, of->id, hosts, count_machine, &n), 0);
    return n;
}

START_TEST(a_share_is_of_one_host_with_one_account)
{
    char grants[WV_STORE_TEXT_BYTES];
    struct wv_account eve;
    uint64_t n;
    int seen = 0;
    open_store(_i);
    ck_assert_int_eq(wv_store_add_account(s, "Eve", "hash-e", false, NOW, &eve), 0);
    ck_assert_int_eq(add_machine(&ann, key_a, "desk", true), 0);
    ck_assert_int_eq(add_machine(&ann, key_b, "attic", true), 0);
    ck_assert_int_eq(add_machine(&ann, key_c, "laptop", false), 0);
    ck_assert_int_eq(add_machine(&bob, key_d, "bob's", true), 0);
    ck_assert_int_eq(wv_store_machines_count(s, ann.id, &n), 0);
    ck_assert_uint_eq(n, 3);
    ck_assert_int_eq(wv_store_share(s, ann.id, key_c, bob.id, "view", NOW), -ENOENT); /* no host */
    ck_assert_int_eq(wv_store_share(s, ann.id, key_a, bob.id, "view", NOW), 0);
    ck_assert_int_eq(wv_store_may_reach(s, bob.id, key_b, grants), -ENOENT);
    ck_assert_int_eq(wv_store_may_reach(s, eve.id, key_a, grants), -ENOENT);
    ck_assert_int_eq(wv_store_may_reach(s, ann.id, key_d, grants), -ENOENT);
    ck_assert_int_eq(machines_of(&bob, true), 2);
    ck_assert_int_eq(machines_of(&bob, false), 0);
    ck_assert_int_eq(machines_of(&eve, true), 0);
    ck_assert_int_eq(machines_of(&ann, true), 2);
    ck_assert_int_eq(machines_of(&ann, false), 1);

    ck_assert_int_eq(wv_store_share(s, ann.id, key_b, eve.id, "view", NOW), 0);
    ck_assert_int_eq(wv_store_shares(s, ann.id, key_a, take_share, &seen), 0);
    ck_assert_int_eq(seen, 1);
    ck_assert_int_eq(wv_store_shares(s, bob.id, key_a, take_share, &seen), 0);
    ck_assert_int_eq(seen, 1);
    ck_assert_int_eq(wv_store_unshare(s, bob.id, key_b, eve.id), -ENOENT); /* an owner, but of another one */
    ck_assert_int_eq(wv_store_share(s, ann.id, key_a, eve.id, "view", NOW), 0);
    ck_assert_int_eq(wv_store_unshare(s, ann.id, key_a, eve.id), 0);
    ck_assert_int_eq(wv_store_may_reach(s, eve.id, key_a, grants), -ENOENT);
    ck_assert_int_eq(wv_store_may_reach(s, eve.id, key_b, grants), 0);
    ck_assert_int_eq(wv_store_may_reach(s, bob.id, key_a, grants), 0);
    close_store();
}
END_TEST

START_TEST(what_is_swept_is_over)
{
    static const uint8_t soon[32] = {1, 2}, late[32] = {1, 3};
    struct wv_token t;
    open_store(_i);
    add_token(&ann, hash, NOW + 10);
    add_token(&ann, other_hash, NOW + 11);
    ck_assert_int_eq(wv_store_use_challenge(s, soon, NOW + 10), 0);
    ck_assert_int_eq(wv_store_use_challenge(s, late, NOW + 11), 0);
    ck_assert_int_eq(wv_store_sweep(s, NOW + 10, 0), 0);
    ck_assert_int_eq(wv_store_end_token(s, hash), -ENOENT);
    ck_assert_int_eq(wv_store_token(s, other_hash, NOW + 10, &t), 0);
    ck_assert_int_eq(wv_store_use_challenge(s, soon, NOW + 10), 0);
    ck_assert_int_eq(wv_store_use_challenge(s, late, NOW + 11),
                     -EEXIST); /* its time is not over: once only */
    close_store();
}
END_TEST

static int take_relay(void *userdata, const struct wv_relay_record *relay)
{
    *(struct wv_relay_record *)userdata = *relay;
    return 0;
}

START_TEST(relays_are_kept_by_id)
{
    struct wv_relay_record r = {.id = "fra1", .address = "192.0.2.1:4822", .region = "eu", .created = NOW},
                           seen;
    open_store(_i);
    ck_assert_int_eq(wv_store_put_relay(s, &r), 0);
    ck_assert_int_eq(wv_store_drain_relay(s, "fra1", true), 0);
    snprintf(r.address, sizeof r.address, "192.0.2.2:4822");
    ck_assert_int_eq(wv_store_put_relay(s, &r), 0);
    ck_assert_int_eq(wv_store_relays(s, take_relay, &seen), 0);
    ck_assert_str_eq(seen.address, "192.0.2.2:4822");
    ck_assert(seen.drain); /* who drains it decides when that ends */
    ck_assert_int_eq(wv_store_drain_relay(s, "none", true), -ENOENT);
    snprintf(r.id, sizeof r.id, "ams1");
    ck_assert_int_eq(wv_store_put_relay(s, &r), 0);
    ck_assert_int_eq(wv_store_remove_relay(s, "fra1"), 0);
    ck_assert_int_eq(wv_store_remove_relay(s, "fra1"), -ENOENT);
    ck_assert_int_eq(wv_store_relays(s, take_relay, &seen), 0);
    ck_assert_str_eq(seen.id, "ams1");
    ck_assert(!seen.drain);
    snprintf(r.id, sizeof r.id, "fra2");
    ck_assert_int_eq(wv_store_put_relay(s, &r), 0);
    ck_assert_int_eq(wv_store_drain_relay(s, "ams1", true), 0);
    ck_assert_int_eq(wv_store_relays(s, take_relay, &seen), 0);
    ck_assert_str_eq(seen.id, "fra2");
    ck_assert(!seen.drain);
    close_store();
}
END_TEST

struct lines {
    int n;
    int64_t first, last;
};

static int take_line(void *userdata, const struct wv_audit *line)
{
    struct lines *l = userdata;
    if (l->n++ == 0)
        l->first = line->at;
    l->last = line->at;
    ck_assert_str_eq(line->subject, "x'; DROP TABLE audit; --");
    return 0;
}

START_TEST(the_log_is_read_backwards)
{
    open_store(_i);
    for (int i = 0; i < 20; i++) {
        struct wv_audit line = {
            .at = NOW + i, .actor = "Ann", .action = "login", .subject = "x'; DROP TABLE audit; --"};
        snprintf(line.account, sizeof line.account, "%s", i % 2 ? ann.id : bob.id);
        ck_assert_int_eq(wv_store_audit(s, &line), 0);
    }
    struct lines l = {0};
    ck_assert_int_eq(wv_store_audit_lines(s, NULL, 0, NULL, 5, take_line, &l), 0);
    ck_assert_int_eq(l.n, 5);
    ck_assert_int_eq(l.first, NOW + 19);
    ck_assert_int_eq(l.last, NOW + 15);
    l = (struct lines){0};
    ck_assert_int_eq(wv_store_audit_lines(s, bob.id, NOW + 10, NULL, 100, take_line, &l), 0);
    ck_assert_int_eq(l.n, 5);
    ck_assert_int_eq(l.first, NOW + 8);
    ck_assert_int_eq(wv_store_sweep(s, 0, NOW + 18), 0);
    l = (struct lines){0};
    ck_assert_int_eq(wv_store_audit_lines(s, NULL, 0, NULL, 100, take_line, &l), 0);
    ck_assert_int_eq(l.n, 2);
    close_store();
}
END_TEST

struct page {
    int n, last; /* the number of the line that came last */
    int64_t at;
    char id[WV_STORE_ID_BYTES];
};

static int take_next(void *userdata, const struct wv_audit *line)
{
    struct page *p = userdata;
    ck_assert_int_eq(atoi(line->subject), p->last - 1); /* none twice, none left out, each in its place */
    p->last--;
    p->n++;
    p->at = line->at;
    memcpy(p->id, line->id, sizeof p->id);
    return 0;
}

/* Most lines of a busy gateway are of the same second as others. */
START_TEST(pages_of_the_log_go_on_within_a_second)
{
    struct page p = {.last = 100};
    open_store(_i);
    for (int i = 0; i < 100; i++) {
        struct wv_audit line = {.at = NOW + i / 40, .action = "test"};
        snprintf(line.account, sizeof line.account, "%s", ann.id);
        snprintf(line.subject, sizeof line.subject, "%d", i);
        ck_assert_int_eq(wv_store_audit(s, &line), 0);
    }
    for (int i = 0; p.last > 0; i++) {
        ck_assert_int_lt(i, 15);
        p.n = 0;
        ck_assert_int_eq(
            wv_store_audit_lines(s, i % 2 ? ann.id : NULL, p.at, p.at ? p.id : NULL, 7, take_next, &p), 0);
        ck_assert_int_ge(p.n, 1);
    }
    p.n = 0;
    ck_assert_int_eq(wv_store_audit_lines(s, NULL, p.at, p.id, 7, take_next, &p), 0);
    ck_assert_int_eq(p.n, 0);
    close_store();
}
END_TEST

START_TEST(the_first_value_of_a_setting_stays)
{
    uint8_t value[8];
    size_t len;
    open_store(_i);
    ck_assert_int_eq(wv_store_setting_make(s, "seed", (const uint8_t *)"first", 5, value, sizeof value, &len),
                     0);
    ck_assert_int_eq(wv_store_setting_make(s, "seed", (const uint8_t *)"later", 5, value, sizeof value, &len),
                     0);
    ck_assert_uint_eq(len, 5);
    ck_assert_mem_eq(value, "first", 5);
    ck_assert_int_eq(wv_store_setting_make(s, "seed", (const uint8_t *)"x", 1, value, 2, &len), -EMSGSIZE);
    ck_assert_int_eq(wv_store_ping(s), 0);
    close_store();
}
END_TEST

/* ---- a database that takes nothing for a while ---- */

static int say(const char *text, int i)
{
    struct wv_audit line = {.at = NOW + i, .actor = "Ann", .action = "test"};
    snprintf(line.subject, sizeof line.subject, "%s%d", text, i);
    return wv_store_audit(s, &line);
}

static int count_line(void *userdata, const struct wv_audit *line)
{
    return count(userdata);
}

static int lines_there(void)
{
    int n = 0;
    ck_assert_int_eq(wv_store_audit_lines(s, NULL, 0, NULL, 100000, count_line, &n), 0);
    return n;
}

static void sql(struct wv_db *db, const char *text)
{
    ck_assert_msg(wv_db_run(db, text, NULL, 0, nothing, NULL, NULL) == 0, "%s: %s", text, wv_db_reason(db));
}

START_TEST(what_fails_is_undone_as_a_whole)
{
    open_store(_i);
    ck_assert_int_eq(wv_store_begin(s), 0);
    ck_assert_int_eq(say("a part", 0), 0);
    ck_assert_int_eq(wv_store_end(s, -ECANCELED), -ECANCELED);
    ck_assert_int_eq(lines_there(), 0);
    ck_assert_int_eq(wv_store_begin(s), 0);
    ck_assert_int_eq(say("all", 1), 0);
    ck_assert_int_eq(wv_store_end(s, 0), 0);
    ck_assert_int_eq(lines_there(), 1);
    close_store();
}
END_TEST

/* Nothing is written, everything is read, and what was begun is undone as a whole. */
static void check_refused(int error, int lines)
{
    struct wv_account a;
    uint64_t writes = wv_store_writes(s);
    ck_assert_int_eq(wv_store_try_write(s, WV_STORE_TRIAL_LARGE), error);
    ck_assert_uint_ne(strlen(wv_store_reason(s)), 0);
    ck_assert_uint_ne(strlen(wv_store_advice(error)), 0);
    ck_assert_uint_eq(wv_store_writes(s), writes);
    ck_assert_int_eq(wv_store_account(s, ann.id, &a), 0);
    ck_assert_int_eq(wv_store_ping(s), 0);
    ck_assert_int_eq(lines_there(), lines);
}

static void wait_for_writes(void)
{
    int r = -1;
    for (int i = 0; r < 0 && i < 400; i++) {
        r = wv_store_try_write(s, WV_STORE_TRIAL_LARGE);
        if (r < 0)
            usleep(50000);
    }
    ck_assert_msg(r == 0, "%s", wv_store_reason(s));
    ck_assert_int_eq(say("again ", 0), 0);
}

/* What PostgreSQL says of a session is said when it is connected: the next one learns it. */
START_TEST(a_read_only_time)
{
    struct wv_db *other = NULL;
    open_store(_i);
    ck_assert_int_eq(say("before ", 0), 0);
    if (_i == 0) {
        sql(wv_store_db(s), "PRAGMA query_only = ON");
    } else {
        ck_assert_int_eq(wv_db_open(&other, url, reason), 0);
        sql(other, "ALTER DATABASE postgres SET default_transaction_read_only = on");
        (void)wv_db_run(wv_store_db(s), "SELECT pg_terminate_backend(pg_backend_pid())", NULL, 0, nothing,
                        NULL, NULL);
    }
    ck_assert_int_eq(say("refused ", 0), -EROFS);
    ck_assert_int_eq(wv_store_set_password(s, ann.id, "x", NULL), -EROFS);
    check_refused(-EROFS, 1);
    if (_i == 0)
        sql(wv_store_db(s), "PRAGMA query_only = OFF");
    else
        sql(other, "ALTER DATABASE postgres RESET default_transaction_read_only");
    wait_for_writes();
    ck_assert_int_eq(lines_there(), 2);
    wv_db_close(other);
    close_store();
}
END_TEST

static char ballast[300];

/* SQLite: as many pages as there are and no more (what a disk says is in tests/system). PostgreSQL: a small
 * disk, and all that is left of it in a file. */
static void fill_disk(int kind)
{
    if (kind == 0) {
        sql(wv_store_db(s), "PRAGMA max_page_count = 1");
        return;
    }
    sql(wv_store_db(s), "ALTER TABLE audit SET TABLESPACE small");
    sql(wv_store_db(s), "ALTER TABLE settings SET TABLESPACE small");
    static const char zeros[65536];
    snprintf(ballast, sizeof ballast, "%s/ballast", getenv("WAVRY_TEST_POSTGRES_SMALL"));
    FILE *f = fopen(ballast, "w");
    ck_assert_ptr_nonnull(f);
    while (fwrite(zeros, 1, sizeof zeros, f) == sizeof zeros)
        ;
    fclose(f);
}

static void free_disk(int kind)
{
    if (kind == 0)
        sql(wv_store_db(s), "PRAGMA max_page_count = 1000000");
    else
        ck_assert_int_eq(unlink(ballast), 0);
}

START_TEST(a_full_disk)
{
    char text[200];
    int done = 0, r = 0;
    if (_i == 1 && !getenv("WAVRY_TEST_POSTGRES_SMALL"))
        return; /* it takes root to make one */
    open_store(_i);
    memset(text, 'x', sizeof text - 1);
    text[sizeof text - 1] = 0;
    fill_disk(_i);
    for (; r == 0 && done < 5000; done += r == 0)
        r = say(text, done);
    ck_assert_msg(r == -ENOSPC, "%d after %d: %s", r, done, wv_store_reason(s));
    check_refused(-ENOSPC, done);
    /* A part of what belongs together is no part of the database. */
    ck_assert_int_eq(wv_store_begin(s), 0);
    r = 0;
    for (int i = 0; r == 0 && i < 2000; i++)
        r = say(text, i);
    ck_assert_int_eq(wv_store_end(s, r), -ENOSPC);
    ck_assert_int_eq(lines_there(), done);
    free_disk(_i);
    wait_for_writes();
    ck_assert_int_eq(lines_there(), done + 1);
    /* And once more with another process. */
    wv_store_close(s);
    ck_assert_int_eq(wv_store_open(&s, url, reason), 0);
    ck_assert_int_eq(lines_there(), done + 1);
    close_store();
}
END_TEST

int main(void)
{
    int kinds = getenv("WAVRY_TEST_POSTGRES") ? 2 : 1;
    if (!mkdtemp(folder))
        return EXIT_FAILURE;
    Suite *suite = suite_create("store");
    TCase *t = tcase_create("store");
    tcase_add_loop_test(t, accounts_are_found_by_name_without_case, 0, kinds);
    tcase_add_loop_test(t, tokens_end, 0, kinds);
    tcase_add_loop_test(t, a_code_is_used_once, 0, kinds);
    tcase_add_loop_test(t, hosts_are_shared_and_taken_back, 0, kinds);
    tcase_add_loop_test(t, a_device_takes_its_tokens_along, 0, kinds);
    tcase_add_loop_test(t, what_one_changes_of_himself_is_nobody_elses, 0, kinds);
    tcase_add_loop_test(t, a_share_is_of_one_host_with_one_account, 0, kinds);
    tcase_add_loop_test(t, what_is_swept_is_over, 0, kinds);
    tcase_add_loop_test(t, relays_are_kept_by_id, 0, kinds);
    tcase_add_loop_test(t, the_log_is_read_backwards, 0, kinds);
    tcase_add_loop_test(t, pages_of_the_log_go_on_within_a_second, 0, kinds);
    tcase_add_loop_test(t, the_first_value_of_a_setting_stays, 0, kinds);
    tcase_add_loop_test(t, what_fails_is_undone_as_a_whole, 0, kinds);
    tcase_add_loop_test(t, a_read_only_time, 0, kinds);
    tcase_add_loop_test(t, a_full_disk, 0, kinds);
    suite_add_tcase(suite, t);
    int code = wv_run_suite(suite);
    (void)rmdir(folder);
    return code;
}
