/* The cursor's shape leaves capture sealed: who has the key gets the image, who has not gets nothing that
 * tells one shape from another. */
#include "lib/base/util.h"
#include "proto/rift.pb-c.h"
#include "rift/crypto/identity.h"
#include "services/capture/cursor_seal.h"
#include "tests/unit/suite.h"

#include <errno.h>
#include <sodium.h>
#include <string.h>

static struct wv_cursor_sealer sealer;
static uint8_t pixels[WV_CURSOR_MAX_SIZE * WV_CURSOR_MAX_SIZE * 4];

static void set_up(void)
{
    ck_assert_int_eq(rift_crypto_init(), 0);
    wv_cursor_sealer_init(&sealer);
    sealer.kid = 7;
    memset(sealer.key, 0x21, sizeof sealer.key);
}

static struct wv_cursor_image image_of(uint32_t width, uint32_t height)
{
    for (size_t i = 0; i < sizeof pixels; i++)
        pixels[i] = (uint8_t)(i / 4 % width / 2 * 8);
    return (struct wv_cursor_image){
        .shape_id = 99, .width = width, .height = height, .hot_x = width - 1, .hot_y = 1, .argb = pixels};
}

static Wavry__Rift__CursorImage *open_it(const uint8_t key[WV_CURSOR_KEY_BYTES])
{
    static uint8_t plain[sizeof sealer.sealed];
    unsigned long long len;

    if (crypto_aead_xchacha20poly1305_ietf_decrypt(plain, &len, NULL, sealer.sealed, sealer.len, NULL, 0,
                                                   sealer.nonce, key) < 0)
        return NULL;
    return wavry__rift__cursor_image__unpack(NULL, (size_t)len, plain);
}

START_TEST(who_has_the_key_gets_the_image)
{
    struct wv_cursor_image image = image_of(24, 32);
    ck_assert_int_eq(wv_cursor_seal(&sealer, &image), 0);
    Wavry__Rift__CursorImage *m = open_it(sealer.key);
    ck_assert_ptr_nonnull(m);
    ck_assert_uint_eq(m->width, 24);
    ck_assert_uint_eq(m->height, 32);
    ck_assert_uint_eq(m->hot_x, 23);
    ck_assert_uint_eq(m->hot_y, 1);
    ck_assert_uint_eq(m->shape_id, wv_cursor_blind(&sealer, 99));
    ck_assert_mem_eq(m->argb.data, pixels, 24 * 32 * 4);
    wavry__rift__cursor_image__free_unpacked(m, NULL);
}
END_TEST

START_TEST(who_has_not_gets_nothing)
{
    struct wv_cursor_image image = image_of(24, 32);
    uint8_t key[WV_CURSOR_KEY_BYTES];
    memcpy(key, sealer.key, sizeof key);
    key[31] ^= 1;
    ck_assert_int_eq(wv_cursor_seal(&sealer, &image), 0);
    ck_assert_ptr_null(open_it(key));
    ck_assert_ptr_null(memmem(sealer.sealed, sealer.len, pixels, 64));
    sealer.sealed[sealer.len / 2] ^= 1;
    ck_assert_ptr_null(open_it(sealer.key));
}
END_TEST

START_TEST(the_same_shape_never_looks_the_same)
{
    static uint8_t first[sizeof sealer.sealed];
    uint8_t nonce[WV_CURSOR_NONCE_BYTES];
    struct wv_cursor_image image = image_of(24, 32);
    ck_assert_int_eq(wv_cursor_seal(&sealer, &image), 0);
    memcpy(first, sealer.sealed, sealer.len);
    memcpy(nonce, sealer.nonce, sizeof nonce);
    ck_assert_int_eq(wv_cursor_seal(&sealer, &image), 0);
    ck_assert_int_ne(memcmp(nonce, sealer.nonce, sizeof nonce), 0);
    ck_assert_int_ne(memcmp(first, sealer.sealed, sealer.len), 0);
    /* Nor does its id, in another process. */
    uint32_t id = wv_cursor_blind(&sealer, 99);
    ck_assert_uint_eq(id, wv_cursor_blind(&sealer, 99));
    ck_assert_uint_ne(id, wv_cursor_blind(&sealer, 98));
    wv_cursor_sealer_init(&sealer);
    ck_assert_uint_ne(id, wv_cursor_blind(&sealer, 99));
    ck_assert_uint_eq(wv_cursor_blind(&sealer, 0), 0);
}
END_TEST

START_TEST(nothing_leaves_without_a_key)
{
    struct wv_cursor_image image = image_of(24, 32);
    wv_cursor_sealer_init(&sealer);
    ck_assert_int_eq(wv_cursor_seal(&sealer, &image), -ENOKEY);
    ck_assert_uint_eq(sealer.len, 0);
}
END_TEST

START_TEST(a_large_shape_is_shown_smaller)
{
    struct wv_cursor_image image = image_of(WV_CURSOR_MAX_SIZE, WV_CURSOR_MAX_SIZE);
    ck_assert_int_eq(wv_cursor_seal(&sealer, &image), 0);
    ck_assert_uint_le(sealer.len, 65536 - 64);
    Wavry__Rift__CursorImage *m = open_it(sealer.key);
    ck_assert_ptr_nonnull(m);
    ck_assert_uint_eq(m->width, 64);
    ck_assert_uint_eq(m->height, 64);
    ck_assert_uint_eq(m->hot_x, 63);
    ck_assert_uint_eq(m->hot_y, 0);
    ck_assert_uint_eq(m->argb.len, 64 * 64 * 4);
    /* Halved twice: the mean of columns 4, 5, 6 and 7, which are of two values. */
    ck_assert_uint_eq(m->argb.data[4], (2 * 8 + 3 * 8) / 2);
    wavry__rift__cursor_image__free_unpacked(m, NULL);
}
END_TEST

START_TEST(an_image_that_cannot_be_is_refused)
{
    struct wv_cursor_image image = image_of(24, 32);
    image.hot_x = 24;
    ck_assert_int_eq(wv_cursor_seal(&sealer, &image), -EINVAL);
    image = image_of(WV_CURSOR_MAX_SIZE, 1);
    image.width++;
    image.hot_x = image.hot_y = 0;
    ck_assert_int_eq(wv_cursor_seal(&sealer, &image), -EINVAL);
    image.width = 0;
    ck_assert_int_eq(wv_cursor_seal(&sealer, &image), -EINVAL);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("cursor_seal");
    TCase *c = tcase_create("cursor_seal");
    tcase_add_checked_fixture(c, set_up, NULL);
    tcase_add_test(c, who_has_the_key_gets_the_image);
    tcase_add_test(c, who_has_not_gets_nothing);
    tcase_add_test(c, the_same_shape_never_looks_the_same);
    tcase_add_test(c, nothing_leaves_without_a_key);
    tcase_add_test(c, a_large_shape_is_shown_smaller);
    tcase_add_test(c, an_image_that_cannot_be_is_refused);
    suite_add_tcase(suite, c);
    return wv_run_suite(suite);
}
