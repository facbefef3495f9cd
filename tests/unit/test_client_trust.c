/* Identity files, known hosts and host names: what is taken, what is refused, and that it says why. */
#include "client/trust.h"

#include "lib/base/util.h"
#include "tests/unit/suite.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

static char folder[64], path[128], message[WV_TRUST_TEXT_BYTES];

static void setup(void)
{
    ck_assert_int_eq(rift_crypto_init(), 0);
    snprintf(folder, sizeof folder, "/tmp/wavry-test-trust-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/file", folder);
    message[0] = '\0';
}

static void teardown(void)
{
    unlink(path);
    rmdir(folder);
}

static void put(const char *text, unsigned mode)
{
    ck_assert_int_eq(wv_write_file_atomic(path, text, strlen(text), mode), 0);
}

START_TEST(an_identity_is_made_once)
{
    char deep[160];
    snprintf(deep, sizeof deep, "%s/a/b/identity", folder);
    struct rift_identity one, two;
    ck_assert_int_eq(wv_identity_load(deep, &one, message), 0);
    ck_assert_int_eq(wv_identity_load(deep, &two, message), 0);
    ck_assert_int_eq(memcmp(one.public, two.public, 32), 0);
    struct stat st;
    ck_assert_int_eq(stat(deep, &st), 0);
    ck_assert_uint_eq(st.st_mode & 07777, 0600);
    unlink(deep);
    snprintf(deep, sizeof deep, "%s/a/b", folder);
    ck_assert_int_eq(stat(deep, &st), 0);
    ck_assert_uint_eq(st.st_mode & 0777, 0700);
    ck_assert_int_eq(rmdir(deep), 0); /* nothing temporary is left */
    snprintf(deep, sizeof deep, "%s/a", folder);
    rmdir(deep);
}
END_TEST

START_TEST(an_open_identity_is_refused)
{
    struct rift_identity identity;
    ck_assert_int_eq(wv_identity_load(path, &identity, message), 0);
    static const mode_t modes[] = {0640, 0604, 0620, 0777};
    for (size_t i = 0; i < WV_ARRAY_SIZE(modes); i++) {
        ck_assert_int_eq(chmod(path, modes[i]), 0);
        ck_assert_int_eq(wv_identity_load(path, &identity, message), -EACCES);
        ck_assert_ptr_nonnull(strstr(message, path));
        ck_assert_ptr_nonnull(strstr(message, "chmod 600"));
    }
    ck_assert_int_eq(chmod(path, 0400), 0);
    ck_assert_int_eq(wv_identity_load(path, &identity, message), 0);
}
END_TEST

START_TEST(a_file_that_is_no_identity_stays_as_it_is)
{
    static const char *const wrong[] = {"", "hello\n", "wavry-identity-1 00\n",
                                        "wavry-identity-2 "
                                        "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f\n"};
    for (size_t i = 0; i < WV_ARRAY_SIZE(wrong); i++) {
        struct rift_identity identity;
        put(wrong[i], 0600);
        ck_assert_int_eq(wv_identity_load(path, &identity, message), -EINVAL);
        ck_assert_ptr_nonnull(strstr(message, path));
        uint8_t *text = NULL;
        size_t len;
        ck_assert_int_eq(wv_read_file(path, 4096, &text, &len), 0);
        ck_assert_str_eq((char *)text, wrong[i]);
        free(text);
    }
    char big[4000];
    memset(big, 'a', sizeof big - 1);
    big[sizeof big - 1] = '\0';
    struct rift_identity identity;
    put(big, 0600);
    ck_assert_int_eq(wv_identity_load(path, &identity, message), -EINVAL);
}
END_TEST

START_TEST(links_and_folders_are_no_identities)
{
    struct rift_identity identity;
    ck_assert_int_eq(symlink("/dev/zero", path), 0);
    ck_assert_int_eq(wv_identity_load(path, &identity, message), -ELOOP);
    unlink(path);
    ck_assert_int_eq(mkdir(path, 0700), 0);
    ck_assert_int_eq(wv_identity_load(path, &identity, message), -EINVAL);
    rmdir(path);
    ck_assert_int_lt(wv_identity_load("/proc/wavry/identity", &identity, message), 0);
    ck_assert_ptr_nonnull(strstr(message, "--identity"));
}
END_TEST

static void make_key(uint8_t seed, uint8_t ret[32])
{
    uint8_t bytes[32];
    struct rift_identity identity;
    memset(bytes, seed, sizeof bytes);
    rift_identity_from_seed(&identity, bytes);
    memcpy(ret, identity.public, 32);
}

static int find(const char *address, uint8_t ret_key[32], unsigned *ret_line)
{
    return wv_known_hosts_find(path, address, ret_key, ret_line, message);
}

START_TEST(known_hosts_remember)
{
    uint8_t a[32], b[32], key[32];
    unsigned line = 0;
    make_key(1, a);
    make_key(2, b);
    ck_assert_int_eq(find("host:4820", key, &line), WV_KNOWN_NOT);
    ck_assert_int_eq(wv_known_hosts_put(path, "host:4820", a, message), 0);
    ck_assert_int_eq(wv_known_hosts_put(path, "[::1]:4820", b, message), 0);
    ck_assert_int_eq(find("host:4820", key, &line), 0);
    ck_assert_int_eq(memcmp(key, a, 32), 0);
    ck_assert_uint_eq(line, 1);
    ck_assert_int_eq(find("HOST:4820", key, &line), 0);
    ck_assert_int_eq(find("[::1]:4820", key, &line), 0);
    ck_assert_int_eq(memcmp(key, b, 32), 0);
    ck_assert_uint_eq(line, 2);
    ck_assert_int_eq(find("host:4821", key, &line), WV_KNOWN_NOT);
    ck_assert_int_eq(find("hos", key, &line), WV_KNOWN_NOT);
    struct stat st;
    ck_assert_int_eq(stat(path, &st), 0);
    ck_assert_uint_eq(st.st_mode & 0777, 0600);
}
END_TEST

START_TEST(a_new_key_takes_the_place_of_the_old_one)
{
    uint8_t a[32], b[32], key[32];
    unsigned line = 0;
    make_key(1, a);
    make_key(2, b);
    ck_assert_int_eq(wv_known_hosts_put(path, "one:1", a, message), 0);
    ck_assert_int_eq(wv_known_hosts_put(path, "two:2", a, message), 0);
    ck_assert_int_eq(wv_known_hosts_put(path, "ONE:1", b, message), 0);
    ck_assert_int_eq(find("one:1", key, &line), 0);
    ck_assert_int_eq(memcmp(key, b, 32), 0);
    ck_assert_uint_eq(line, 2);
    ck_assert_int_eq(find("two:2", key, &line), 0);
    ck_assert_int_eq(memcmp(key, a, 32), 0);
}
END_TEST

START_TEST(comments_and_an_unfinished_last_line_are_fine)
{
    uint8_t a[32], key[32];
    unsigned line = 0;
    char text[RIFT_PUBLIC_KEY_TEXT_BYTES], file[512];
    make_key(1, a);
    rift_public_key_format(a, text);
    snprintf(file, sizeof file, "# my hosts\n\n  one:1   %s  \r\n\ttwo:2\t%s", text, text);
    put(file, 0600);
    ck_assert_int_eq(find("one:1", key, &line), 0);
    ck_assert_uint_eq(line, 3);
    ck_assert_int_eq(wv_known_hosts_put(path, "three:3", a, message), 0);
    ck_assert_int_eq(find("two:2", key, &line), 0);
    ck_assert_int_eq(find("three:3", key, &line), 0);
    ck_assert_uint_eq(line, 5); /* the comment and the empty line are still there */
}
END_TEST

START_TEST(a_damaged_list_trusts_nobody)
{
    uint8_t a[32], key[32];
    unsigned line = 0;
    char text[RIFT_PUBLIC_KEY_TEXT_BYTES], file[512];
    make_key(1, a);
    rift_public_key_format(a, text);
    const char *const endings[] = {"host:1", "host:1 wavry1short", "host:1 nokey", "host:1 %s extra"};
    for (size_t i = 0; i < WV_ARRAY_SIZE(endings); i++) {
        snprintf(file, sizeof file, "one:1 %s\n%s\n", text, endings[i]);
        put(file, 0600);
        ck_assert_int_eq(find("host:1", key, &line), -EINVAL);
        ck_assert_ptr_nonnull(strstr(message, ":2:"));
        /* What is put there leaves the damage for a person to see. */
        ck_assert_int_eq(wv_known_hosts_put(path, "new:1", a, message), 0);
        ck_assert_int_eq(find("host:1", key, &line), -EINVAL);
    }
}
END_TEST

START_TEST(hosts_are_read)
{
    static const struct {
        const char *text, *host;
        int port; /* -1: refused, 0: none given */
    } cases[] = {
        {"host", "host", 0},
        {"host:1", "host", 1},
        {"192.0.2.7:65535", "192.0.2.7", 65535},
        {"[2001:db8::1]", "2001:db8::1", 0},
        {"[2001:db8::1]:4821", "2001:db8::1", 4821},
        {"2001:db8::1", "2001:db8::1", 0},
        {"::1", "::1", 0},
        {"", "", -1},
        {":1", "", -1},
        {"host:", "", -1},
        {"host:0", "", -1},
        {"host:65536", "", -1},
        {"host:99999999999", "", -1},
        {"host:4a", "", -1},
        {"host:-1", "", -1},
        {"[::1", "", -1},
        {"[::1]x", "", -1},
        {"[]:1", "", -1},
        {"#host", "", -1},
        {"ho st", "", -1},
        {"host\n", "", -1},
    };
    for (size_t i = 0; i < WV_ARRAY_SIZE(cases); i++) {
        char host[64] = "";
        uint16_t port = 0;
        int r = wv_host_parse(cases[i].text, host, sizeof host, &port);
        ck_assert_msg(r == (cases[i].port < 0 ? -EINVAL : 0), "\"%s\": %d", cases[i].text, r);
        if (r == 0) {
            ck_assert_str_eq(host, cases[i].host);
            ck_assert_int_eq(port, cases[i].port);
        }
    }
    char tiny[4], text[64];
    uint16_t port = 7;
    ck_assert_int_eq(wv_host_parse("long", tiny, sizeof tiny, &port), -EINVAL);
    ck_assert_int_eq(wv_host_format("::1", 4820, text, sizeof text), 0);
    ck_assert_str_eq(text, "[::1]:4820");
    ck_assert_int_eq(wv_host_format("host", 4820, text, 6), -ENAMETOOLONG);
}
END_TEST

START_TEST(paths_follow_the_environment)
{
    char p[64];
    setenv("HOME", "/home/u", 1);
    setenv("XDG_CONFIG_HOME", "/x", 1);
    ck_assert_int_eq(wv_trust_path("identity", p, sizeof p), 0);
    ck_assert_str_eq(p, "/x/wavry/identity");
    setenv("XDG_CONFIG_HOME", "relative", 1);
    ck_assert_int_eq(wv_trust_path("identity", p, sizeof p), 0);
    ck_assert_str_eq(p, "/home/u/.config/wavry/identity");
    ck_assert_int_eq(wv_trust_path("identity", p, 10), -ENAMETOOLONG);
    unsetenv("HOME");
    ck_assert_int_eq(wv_trust_path("identity", p, sizeof p), -ENOENT);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("client trust");
    TCase *t = tcase_create("trust");
    suite_add_tcase(s, t);
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, an_identity_is_made_once);
    tcase_add_test(t, an_open_identity_is_refused);
    tcase_add_test(t, a_file_that_is_no_identity_stays_as_it_is);
    tcase_add_test(t, links_and_folders_are_no_identities);
    tcase_add_test(t, known_hosts_remember);
    tcase_add_test(t, a_new_key_takes_the_place_of_the_old_one);
    tcase_add_test(t, comments_and_an_unfinished_last_line_are_fine);
    tcase_add_test(t, a_damaged_list_trusts_nobody);
    tcase_add_test(t, hosts_are_read);
    tcase_add_test(t, paths_follow_the_environment);
    return wv_run_suite(s);
}
