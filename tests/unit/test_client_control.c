/* Control messages: what is taken is in range, what is not is refused; text can't steer a terminal. */
#include "client/control.h"

#include "proto/rift.pb-c.h"
#include "tests/unit/suite.h"

#include <errno.h>
#include <string.h>

static uint8_t buffer[70000];
static uint8_t pixels[300 * 300 * 4];

static size_t pack_cursor(uint32_t width, uint32_t height, uint32_t hot_x, uint32_t hot_y, size_t bytes)
{
    Wavry__Rift__CursorImage image = WAVRY__RIFT__CURSOR_IMAGE__INIT;
    image.shape_id = 5;
    image.width = width;
    image.height = height;
    image.hot_x = hot_x;
    image.hot_y = hot_y;
    image.argb.data = pixels;
    image.argb.len = bytes;
    ck_assert(wavry__rift__cursor_image__get_packed_size(&image) <= sizeof buffer);
    return wavry__rift__cursor_image__pack(&image, buffer);
}

START_TEST(cursor_images_are_checked)
{
    static const struct {
        uint32_t width, height, hot_x, hot_y;
        size_t bytes;
        int result;
    } cases[] = {
        {16, 16, 3, 15, 1024, 0},
        {1, 1, 0, 0, 4, 0},
        {128, 128, 0, 0, 65536, 0},
        {16, 16, 3, 15, 1023, -EBADMSG},
        {16, 16, 3, 15, 1028, -EBADMSG},
        {0, 16, 0, 0, 0, -EBADMSG},
        {16, 0, 0, 0, 0, -EBADMSG},
        {257, 1, 0, 0, 1028, -EBADMSG},
        {16, 16, 16, 0, 1024, -EBADMSG},
        {16, 16, 0, 16, 1024, -EBADMSG},
        {0x40000001, 4, 0, 0, 16, -EBADMSG},
        {0x80000000, 0x80000000, 0, 0, 0, -EBADMSG},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct wv_control m;
        size_t len =
            pack_cursor(cases[i].width, cases[i].height, cases[i].hot_x, cases[i].hot_y, cases[i].bytes);
        int r = wv_control_parse_cursor(buffer, len, &m);
        ck_assert_msg(r == cases[i].result, "case %zu: %d", i, r);
        if (r == 0) {
            ck_assert_uint_eq(m.kind, WV_CONTROL_CURSOR_IMAGE);
            ck_assert_uint_eq(m.cursor.shape_id, 5);
            ck_assert_int_eq(memcmp(m.cursor.bgra, pixels, cases[i].bytes), 0);
            wv_control_fini(&m);
        }
    }
}
END_TEST

START_TEST(truncated_messages_are_refused)
{
    size_t len = pack_cursor(16, 16, 0, 0, 1024);
    struct wv_control m;
    for (size_t cut = 0; cut < len; cut++)
        ck_assert_int_eq(wv_control_parse_cursor(buffer, cut, &m), -EBADMSG);
    ck_assert_int_eq(wv_control_parse(buffer, 0, &m), 0);
    ck_assert_uint_eq(m.kind, WV_CONTROL_OTHER);
    wv_control_fini(&m);
}
END_TEST

START_TEST(a_newer_hosts_messages_are_passed_over)
{
    static const uint8_t unknown[] = {0x82, 0x7d, 0x03, 'n', 'e', 'w'};
    struct wv_control m;
    ck_assert_int_eq(wv_control_parse(unknown, sizeof unknown, &m), 0);
    ck_assert_uint_eq(m.kind, WV_CONTROL_OTHER);
    wv_control_fini(&m);
}
END_TEST

START_TEST(text_is_cleaned_and_cut)
{
    char out[16];
    wv_text_clean("h\xc3\xb6st \xe2\x82\xac", out, sizeof out);
    ck_assert_str_eq(out, "h\xc3\xb6st \xe2\x82\xac");
    wv_text_clean("\x1b[31m\r\n\x7f", out, sizeof out);
    ck_assert_str_eq(out, "?[31m???");
    wv_text_clean("\xc2\x9b", out, sizeof out); /* CSI as one character */
    ck_assert_str_eq(out, "?");
    wv_text_clean("\xff\xc0\x80\xe2\x82", out, sizeof out);
    ck_assert_str_eq(out, "?????");
    wv_text_clean("\xed\xa0\x80", out, sizeof out); /* a surrogate */
    ck_assert_str_eq(out, "???");
    wv_text_clean("0123456789abcdefgh", out, sizeof out);
    ck_assert_str_eq(out, "0123456789abcde");
    wv_text_clean("0123456789abcd\xe2\x82\xac", out, sizeof out); /* never half a character */
    ck_assert_str_eq(out, "0123456789abcd");
    wv_text_clean(NULL, out, sizeof out);
    ck_assert_str_eq(out, "");
}
END_TEST

START_TEST(reports_and_hellos_are_what_was_put_in)
{
    const struct wv_control_report report = {.frames = 60, .lost_frames = 2, .glass_p99_us = 9000};
    int len = wv_control_pack_report(&report, buffer, sizeof buffer);
    ck_assert_int_gt(len, 0);
    Wavry__Rift__ControlMessage *m = wavry__rift__control_message__unpack(NULL, (size_t)len, buffer);
    ck_assert_ptr_nonnull(m);
    ck_assert_uint_eq(m->kind_case, WAVRY__RIFT__CONTROL_MESSAGE__KIND_CLIENT_REPORT);
    ck_assert_uint_eq(m->client_report->frames, 60);
    ck_assert_uint_eq(m->client_report->lost_frames, 2);
    ck_assert_uint_eq(m->client_report->glass_p99_us, 9000);
    wavry__rift__control_message__free_unpacked(m, NULL);
    ck_assert_int_eq(wv_control_pack_report(&report, buffer, 3), -EMSGSIZE);

    char longname[600];
    memset(longname, 'n', sizeof longname - 1);
    longname[sizeof longname - 1] = '\0';
    len = wv_control_pack_hello("wavry", longname, true, 1280, 720, buffer, 512);
    ck_assert_int_gt(len, 0);
    Wavry__Rift__ClientHello *h = wavry__rift__client_hello__unpack(NULL, (size_t)len, buffer);
    ck_assert_ptr_nonnull(h);
    ck_assert(h->view_only);
    ck_assert_uint_eq(h->width, 1280);
    ck_assert_uint_eq(strlen(h->device), WV_CONTROL_NAME_BYTES - 1);
    wavry__rift__client_hello__free_unpacked(h, NULL);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("client control");
    TCase *t = tcase_create("control");
    suite_add_tcase(s, t);
    tcase_add_test(t, cursor_images_are_checked);
    tcase_add_test(t, truncated_messages_are_refused);
    tcase_add_test(t, a_newer_hosts_messages_are_passed_over);
    tcase_add_test(t, text_is_cleaned_and_cut);
    tcase_add_test(t, reports_and_hellos_are_what_was_put_in);
    return wv_run_suite(s);
}
