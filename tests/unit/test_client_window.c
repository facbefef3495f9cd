/* What needs no display: the key table, where the picture goes in a window, text, and painting into a surface
 * (SDL's dummy driver). */
#include "client/keymap.h"
#include "client/paint.h"
#include "client/text.h"
#include "lib/base/util.h"
#include "tests/unit/suite.h"

#include <linux/input-event-codes.h>
#include <string.h>

START_TEST(keys_have_their_evdev_codes)
{
    static const struct {
        SDL_Scancode scancode;
        uint16_t code;
    } keys[] = {
        {SDL_SCANCODE_A, KEY_A},
        {SDL_SCANCODE_Z, KEY_Z},
        {SDL_SCANCODE_0, KEY_0},
        {SDL_SCANCODE_1, KEY_1},
        {SDL_SCANCODE_RETURN, KEY_ENTER},
        {SDL_SCANCODE_SPACE, KEY_SPACE},
        {SDL_SCANCODE_F1, KEY_F1},
        {SDL_SCANCODE_F12, KEY_F12},
        {SDL_SCANCODE_F13, KEY_F13},
        {SDL_SCANCODE_F24, KEY_F24},
        {SDL_SCANCODE_KP_0, KEY_KP0},
        {SDL_SCANCODE_KP_9, KEY_KP9},
        {SDL_SCANCODE_KP_ENTER, KEY_KPENTER},
        {SDL_SCANCODE_NUMLOCKCLEAR, KEY_NUMLOCK},
        {SDL_SCANCODE_NONUSBACKSLASH, KEY_102ND},
        {SDL_SCANCODE_INTERNATIONAL1, KEY_RO},
        {SDL_SCANCODE_INTERNATIONAL3, KEY_YEN},
        {SDL_SCANCODE_INTERNATIONAL4, KEY_HENKAN},
        {SDL_SCANCODE_LANG1, KEY_HANGEUL},
        {SDL_SCANCODE_LANG5, KEY_ZENKAKUHANKAKU},
        {SDL_SCANCODE_LCTRL, KEY_LEFTCTRL},
        {SDL_SCANCODE_RGUI, KEY_RIGHTMETA},
        {SDL_SCANCODE_RALT, KEY_RIGHTALT},
        {SDL_SCANCODE_APPLICATION, KEY_COMPOSE},
        {SDL_SCANCODE_AUDIOPLAY, KEY_PLAYPAUSE},
        {SDL_SCANCODE_VOLUMEUP, KEY_VOLUMEUP},
        {SDL_SCANCODE_PRINTSCREEN, KEY_SYSRQ},
        {SDL_SCANCODE_PAUSE, KEY_PAUSE},
    };
    for (size_t i = 0; i < WV_ARRAY_SIZE(keys); i++)
        ck_assert_msg(wv_keymap_key(keys[i].scancode) == keys[i].code, "scancode %d is %d", keys[i].scancode,
                      wv_keymap_key(keys[i].scancode));
    ck_assert_uint_eq(wv_keymap_key(SDL_SCANCODE_UNKNOWN), 0);
    ck_assert_uint_eq(wv_keymap_key(-1), 0);
    ck_assert_uint_eq(wv_keymap_key(SDL_NUM_SCANCODES), 0);
}
END_TEST

/* Two keys of a keyboard must not become one, but for those that are the same key under two names. */
START_TEST(codes_are_valid_and_unique)
{
    uint16_t seen[KEY_CNT] = {0};
    unsigned n = 0;
    for (int s = 0; s < SDL_NUM_SCANCODES; s++) {
        uint16_t code = wv_keymap_key(s);
        ck_assert_uint_lt(code, KEY_CNT);
        ck_assert(code < BTN_MISC || code >= KEY_OK);
        if (code == 0)
            continue;
        n++;
        bool twin = code == KEY_BACKSLASH || code == KEY_MUTE || code == KEY_STOP || code == KEY_KPEQUAL;
        ck_assert_msg(seen[code] == 0 || twin, "code %d is both %d and %d", code, seen[code], s);
        seen[code] = (uint16_t)s;
    }
    ck_assert_uint_ge(n, 150);
    /* Every key of a 105-key keyboard, by evdev code. */
    for (unsigned code = KEY_ESC; code <= KEY_KPDOT; code++)
        ck_assert_msg(seen[code] != 0, "no key for code %u", code);
}
END_TEST

START_TEST(buttons_have_their_codes)
{
    ck_assert_uint_eq(wv_keymap_button(SDL_BUTTON_LEFT), BTN_LEFT);
    ck_assert_uint_eq(wv_keymap_button(SDL_BUTTON_MIDDLE), BTN_MIDDLE);
    ck_assert_uint_eq(wv_keymap_button(SDL_BUTTON_RIGHT), BTN_RIGHT);
    ck_assert_uint_eq(wv_keymap_button(SDL_BUTTON_X2), BTN_EXTRA);
    ck_assert_uint_eq(wv_keymap_button(0), 0);
    ck_assert_uint_eq(wv_keymap_button(200), 0);
}
END_TEST

START_TEST(the_picture_keeps_its_shape)
{
    SDL_Rect r = wv_paint_area(1280, 720, 1280, 720);
    ck_assert(r.x == 0 && r.y == 0 && r.w == 1280 && r.h == 720);
    r = wv_paint_area(1000, 1000, 1280, 720);
    ck_assert(r.x == 0 && r.w == 1000 && r.h == 562 && r.y == 219);
    r = wv_paint_area(3840, 1000, 1280, 720);
    ck_assert(r.y == 0 && r.h == 1000 && r.w == 1777 && r.x == 1031);
    r = wv_paint_area(1, 1, 16384, 1);
    ck_assert(r.w == 1 && r.h == 1);
    r = wv_paint_area(640, 480, 0, 0);
    ck_assert(r.w == 640 && r.h == 480);
}
END_TEST

START_TEST(text_is_drawn_and_bounded)
{
    struct wv_sprite s = {0};
    ck_assert_int_eq(wv_text_render("Hi\nthere \xc3\xa4", 2, &s), 0);
    ck_assert_int_eq(s.width, (7 * 6 + 12) * 2);
    ck_assert_int_eq(s.height, (2 * 13 + 12) * 2);
    int lit = 0;
    for (int i = 0; i < s.width * s.height; i++) {
        ck_assert_uint_eq(s.pixels[i] >> 24, 0xff);
        lit += s.pixels[i] == 0xffe8edf5;
    }
    ck_assert_int_gt(lit, 100);
    char wide[2000];
    memset(wide, 'x', sizeof wide - 1);
    wide[sizeof wide - 1] = '\0';
    ck_assert_int_lt(wv_text_render(wide, 1, &s), 0);
    free(s.pixels);
    char out[32];
    wv_text_wrap("one two three", 8, out, sizeof out);
    ck_assert_str_eq(out, "one two\nthree");
    wv_text_wrap("unbreakable-long", 4, out, sizeof out);
    ck_assert_str_eq(out, "unbreakable-long");
    wv_text_wrap("cut off here", 40, out, 5);
    ck_assert_str_eq(out, "cut ");
}
END_TEST

#define W 320
#define H 176

static uint8_t planes[2][W * H * 3 / 2];

static struct wv_client_picture picture(int which, uint8_t luma)
{
    memset(planes[which], luma, W * H);
    memset(planes[which] + W * H, 128, W * H / 2);
    return (struct wv_client_picture){
        .plane = {planes[which], planes[which] + W * H, planes[which] + W * H * 5 / 4},
        .stride = {W, W / 2, W / 2},
        .width = W,
        .height = H,
    };
}

static uint32_t pixel_at(SDL_Window *window, int x, int y)
{
    const SDL_Surface *s = SDL_GetWindowSurface(window);
    return ((const uint32_t *)s->pixels)[y * s->pitch / 4 + x] & 0xffffff;
}

/* BT.601: luma 16 is black, 235 white. */
START_TEST(painting_follows_every_change)
{
    SDL_SetHint(SDL_HINT_VIDEODRIVER, "dummy");
    SDL_SetHint(SDL_HINT_FRAMEBUFFER_ACCELERATION, "0");
    ck_assert_int_eq(SDL_Init(SDL_INIT_VIDEO), 0);
    SDL_Window *window = SDL_CreateWindow("test", 0, 0, W, H, 0);
    ck_assert_ptr_nonnull(window);
    struct wv_painter *p = NULL;
    ck_assert_int_eq(wv_painter_surface_new(&p, window), 0);
    struct wv_client_picture black = picture(0, 16), other = picture(1, 16);
    struct wv_scene scene = {.picture = &black,
                             .picture_changed = true,
                             .area = {0, 0, W, H},
                             .window_width = W,
                             .window_height = H,
                             .everything = true};
    ck_assert_int_eq(p->ops->paint(p, &scene), 0);
    ck_assert_uint_eq(pixel_at(window, 5, 5), 0);
    scene.everything = false;

    /* One changed byte anywhere is seen, also in the last row and in chroma. */
    other.plane[0] = planes[1];
    planes[1][(H - 1) * W + W - 1] = 235;
    planes[1][40 * W + 7] = 235;
    scene.picture = &other;
    ck_assert_int_eq(p->ops->paint(p, &scene), 0);
    ck_assert_uint_eq(pixel_at(window, W - 1, H - 1), 0xffffff);
    ck_assert_uint_eq(pixel_at(window, 7, 40), 0xffffff);
    ck_assert_uint_eq(pixel_at(window, 8, 40), 0);
    planes[0][W * H + 3] = 255; /* U: blue */
    planes[0][0 * W + 6] = 100;
    scene.picture = &black;
    ck_assert_int_eq(p->ops->paint(p, &scene), 0);
    ck_assert_uint_eq(pixel_at(window, W - 1, H - 1), 0);
    ck_assert_uint_eq(pixel_at(window, 7, 40), 0);
    ck_assert_uint_gt(pixel_at(window, 6, 0) & 0xff, 200);

    /* A sprite comes, and what was under it comes back although the picture did not change. */
    uint32_t pixels[20 * 20];
    for (size_t i = 0; i < WV_ARRAY_SIZE(pixels); i++)
        pixels[i] = 0xff00ff00;
    struct wv_sprite sprite = {.pixels = pixels, .x = W - 10, .y = 100, .width = 20, .height = 20};
    scene.picture_changed = false;
    scene.sprites[scene.n_sprites++] = &sprite;
    ck_assert_int_eq(p->ops->paint(p, &scene), 0);
    ck_assert_uint_eq(pixel_at(window, W - 1, 119), 0x00ff00);
    ck_assert_uint_eq(pixel_at(window, W - 11, 110), 0);
    scene.n_sprites = 0;
    ck_assert_int_eq(p->ops->paint(p, &scene), 0);
    ck_assert_uint_eq(pixel_at(window, W - 1, 119), 0);

    /* Scaled, with bars. */
    scene.area = (SDL_Rect){40, 20, 160, 88};
    scene.everything = true;
    memset(planes[0], 235, W * H);
    memset(planes[0] + W * H, 128, W * H / 2);
    scene.picture_changed = true;
    ck_assert_int_eq(p->ops->paint(p, &scene), 0);
    ck_assert_uint_eq(pixel_at(window, 39, 60), 0);
    ck_assert_uint_eq(pixel_at(window, 40, 60), 0xffffff);
    ck_assert_uint_eq(pixel_at(window, 199, 107), 0xffffff);
    ck_assert_uint_eq(pixel_at(window, 200, 60), 0);

    /* An area that the window no longer has is not painted. */
    scene.area = (SDL_Rect){0, 0, W + 2, H};
    ck_assert_int_lt(p->ops->paint(p, &scene), 0);
    scene.picture = NULL;
    scene.everything = true;
    ck_assert_int_eq(p->ops->paint(p, &scene), 0);
    ck_assert_uint_eq(pixel_at(window, 60, 60), 0);
    p->ops->free(p);
    SDL_DestroyWindow(window);
    SDL_Quit();
}
END_TEST

int main(void)
{
    Suite *s = suite_create("client window");
    TCase *t = tcase_create("window");
    suite_add_tcase(s, t);
    tcase_add_test(t, keys_have_their_evdev_codes);
    tcase_add_test(t, codes_are_valid_and_unique);
    tcase_add_test(t, buttons_have_their_codes);
    tcase_add_test(t, the_picture_keeps_its_shape);
    tcase_add_test(t, text_is_drawn_and_bounded);
    tcase_add_test(t, painting_follows_every_change);
    return wv_run_suite(s);
}
