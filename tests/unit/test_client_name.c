/* What a bare name means: what is looked for at all, and whose key decides when several claim the name. */
#include "client/name.h"
#include "lib/base/util.h"
#include "tests/unit/suite.h"

#include <stdio.h>
#include <string.h>

START_TEST(only_bare_names_are_looked_for)
{
    static const char *const bare[] = {"studio", "Studio", "my-studio_2", "a", "10a", "localhost2", "wavry"};
    static const char *const dialled[] = {"",
                                          "studio.local",
                                          "studio.example.org",
                                          "studio.",
                                          "studio:4500",
                                          "192.0.2.1",
                                          "192.0.2.1:4500",
                                          "[::1]",
                                          "[::1]:4500",
                                          "::1",
                                          "2001:db8::1",
                                          "localhost",
                                          "LocalHost",
                                          "localhost:4820",
                                          "3221225985" /* an address, too */};
    for (size_t i = 0; i < WV_ARRAY_SIZE(bare); i++)
        ck_assert_msg(wv_name_is_bare(bare[i]), "%s", bare[i]);
    for (size_t i = 0; i < WV_ARRAY_SIZE(dialled); i++)
        ck_assert_msg(!wv_name_is_bare(dialled[i]), "%s", dialled[i]);
}
END_TEST

/* Claims are written as words: a place (l, g), a key (a letter; of a capital one it is known here; ?: what it
 * says is no key). */
static struct wv_name_case make(const char *claims, char key, bool pairs)
{
    static uint8_t known[32];
    struct wv_name_case c = {.key = key ? known : NULL, .pairs = pairs};
    memset(known, key, sizeof known);
    for (const char *p = claims; *p; p += p[2] ? 3 : 2) {
        struct wv_name_claim *claim = &c.claims[c.n_claims++];
        claim->place = p[0] == 'l' ? WV_NAME_ON_LAN : WV_NAME_AT_GATEWAY;
        claim->known = p[1] != '?' && p[1] < 'a';
        claim->keyless = p[1] == '?';
        memset(claim->key, claim->keyless ? 0 : p[1] | 0x20, sizeof claim->key);
    }
    return c;
}

static const struct {
    const char *what, *claims;
    char key;
    bool pairs;
    enum wv_name_verdict verdict;
    const char *which;
} cases[] = {
    {"nobody", "", 0, false, WV_NAME_NOBODY, ""},
    {"nobody, with a key", "", 'a', false, WV_NAME_NOBODY, ""},
    {"the key of that name is here", "lA", 'a', false, WV_NAME_FOUND, "lA"},
    {"it is at the gateway", "gA", 'a', false, WV_NAME_FOUND, "gA"},
    {"it is in both places: here is nearer", "gA lA", 'a', false, WV_NAME_FOUND, "lA"},
    {"another one is here, it at the gateway", "lb gA", 'a', false, WV_NAME_FOUND, "gA"},
    {"another one that is known, too", "lB gA", 'a', false, WV_NAME_FOUND, "gA"},
    {"it is here, another one at the gateway", "lA gB", 'a', false, WV_NAME_FOUND, "lA"},
    {"only another one is here", "lb", 'a', false, WV_NAME_STRANGE, "lb"},
    {"only another known one is here", "lB", 'a', false, WV_NAME_STRANGE, "lB"},
    {"only another one at the gateway", "gB", 'a', false, WV_NAME_STRANGE, "gB"},
    {"pairing again goes by the key, too", "lb", 'a', true, WV_NAME_STRANGE, "lb"},
    {"no key for the name: a known one", "lA", 0, false, WV_NAME_FOUND, "lA"},
    {"a known one in both places", "gA lA", 0, false, WV_NAME_FOUND, "lA"},
    {"a known one, and a stranger", "lb gA", 0, false, WV_NAME_FOUND, "gA"},
    {"a known one here, a stranger at the gateway", "lA gb", 0, false, WV_NAME_FOUND, "lA"},
    {"two known ones", "lA gB", 0, false, WV_NAME_SEVERAL, "lA gB"},
    {"two known ones here", "lA lB", 0, false, WV_NAME_SEVERAL, "lA lB"},
    {"a stranger", "lb", 0, false, WV_NAME_STRANGE, "lb"},
    {"two strangers", "lb gc", 0, false, WV_NAME_STRANGE, "lb"},
    {"pairing with a stranger", "lb", 0, true, WV_NAME_FOUND, "lb"},
    {"pairing with a stranger at the gateway", "gb", 0, true, WV_NAME_FOUND, "gb"},
    {"pairing, one in both places", "gb lb", 0, true, WV_NAME_FOUND, "lb"},
    {"one without a key", "l?", 0, false, WV_NAME_STRANGE, ""},
    {"one without a key, with a key for the name", "l?", 'a', false, WV_NAME_STRANGE, ""},
    {"pairing with one without a key", "l?", 0, true, WV_NAME_STRANGE, ""},
    {"one without a key beside the right one", "l? gA", 'a', false, WV_NAME_FOUND, "gA"},
    {"pairing, one without a key beside another", "l? gb", 0, true, WV_NAME_FOUND, "gb"},
    {"pairing, two of that name", "lb gc", 0, true, WV_NAME_SEVERAL, "lb gc"},
    {"pairing, a known one and a stranger", "lA gc", 0, true, WV_NAME_SEVERAL, "lA gc"},
};

static void assert_claim(const struct wv_name_claim *claim, const char *word)
{
    if (!word[0])
        return;
    ck_assert_ptr_nonnull(claim);
    ck_assert_int_eq(claim->place, word[0] == 'l' ? WV_NAME_ON_LAN : WV_NAME_AT_GATEWAY);
    ck_assert_uint_eq(claim->key[31], (uint8_t)(word[1] | 0x20));
}

START_TEST(the_known_key_decides)
{
    const struct wv_name_claim *claim = NULL, *other = NULL;
    struct wv_name_case c = make(cases[_i].claims, cases[_i].key, cases[_i].pairs);
    enum wv_name_verdict verdict = wv_name_judge(&c, &claim, &other);
    ck_assert_msg(verdict == cases[_i].verdict, "%s: %d", cases[_i].what, verdict);
    assert_claim(claim, cases[_i].which);
    if (verdict == WV_NAME_SEVERAL)
        assert_claim(other, cases[_i].which + 3);
}
END_TEST

/* Whatever is claimed in whatever order: with a key, nothing else is ever found. */
START_TEST(no_claim_changes_the_key)
{
    for (unsigned n = 0; n < 4096; n++) {
        const struct wv_name_claim *claim = NULL, *other = NULL;
        struct wv_name_case c = make("", 'a', n & 1);
        for (unsigned bits = n; bits; bits >>= 3) {
            struct wv_name_claim *one = &c.claims[c.n_claims++];
            one->place = bits & 1 ? WV_NAME_ON_LAN : WV_NAME_AT_GATEWAY;
            one->known = bits & 2;
            memset(one->key, bits & 4 ? 'a' : 'b', sizeof one->key);
        }
        enum wv_name_verdict verdict = wv_name_judge(&c, &claim, &other);
        ck_assert_int_ne(verdict, WV_NAME_SEVERAL);
        if (verdict == WV_NAME_FOUND)
            ck_assert_mem_eq(claim->key, c.key, 32);
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("client name");
    TCase *tcase = tcase_create("name");
    tcase_add_test(tcase, only_bare_names_are_looked_for);
    tcase_add_loop_test(tcase, the_known_key_decides, 0, (int)WV_ARRAY_SIZE(cases));
    tcase_add_test(tcase, no_claim_changes_the_key);
    suite_add_tcase(suite, tcase);
    return wv_run_suite(suite);
}
