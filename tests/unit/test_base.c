#include "lib/base/address.h"
#include "lib/base/bytes.h"
#include "lib/base/log.h"
#include "lib/base/log_fields.h"
#include "lib/base/util.h"
#include "tests/unit/suite.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

START_TEST(reader_is_bounded_and_sticky)
{
    const uint8_t bytes[] = {1, 2, 3, 4, 5};
    struct wv_reader r;
    wv_reader_init(&r, bytes, sizeof bytes);
    ck_assert_uint_eq(wv_read_u32(&r), 0x04030201);
    ck_assert_uint_eq(wv_read_u16(&r), 0);
    ck_assert(r.failed);
    ck_assert_uint_eq(wv_read_u8(&r), 0);
    ck_assert_ptr_null(wv_read_span(&r, 0));
}
END_TEST

START_TEST(reader_refuses_huge_lengths)
{
    const uint8_t bytes[4] = {0};
    struct wv_reader r;
    wv_reader_init(&r, bytes, sizeof bytes);
    ck_assert_ptr_null(wv_read_span(&r, SIZE_MAX));
    ck_assert(r.failed);
}
END_TEST

START_TEST(writer_round_trips_and_is_bounded)
{
    uint8_t buffer[15];
    struct wv_writer w;
    wv_writer_init(&w, buffer, sizeof buffer);
    wv_write_u8(&w, 0xaa);
    wv_write_u16(&w, 0xbbcc);
    wv_write_u32(&w, 0xddeeff00);
    wv_write_u64(&w, 0x1122334455667788);
    ck_assert(!w.failed);
    ck_assert_uint_eq(w.length, 15);
    wv_write_u8(&w, 1);
    ck_assert(w.failed);
    ck_assert_uint_eq(w.length, 15);

    struct wv_reader r;
    wv_reader_init(&r, buffer, w.length);
    ck_assert_uint_eq(wv_read_u8(&r), 0xaa);
    ck_assert_uint_eq(wv_read_u16(&r), 0xbbcc);
    ck_assert_uint_eq(wv_read_u32(&r), 0xddeeff00);
    ck_assert_uint_eq(wv_read_u64(&r), 0x1122334455667788);
    ck_assert(!r.failed);
}
END_TEST

START_TEST(hex_round_trips_and_refuses)
{
    uint8_t out[3];
    char text[7];
    ck_assert_int_eq(wv_hex_decode("00fFa1", out, 3), 0);
    wv_hex_encode(out, 3, text);
    ck_assert_str_eq(text, "00ffa1");
    ck_assert_int_eq(wv_hex_decode("00fFa", out, 3), -EINVAL);
    ck_assert_int_eq(wv_hex_decode("00fFax", out, 3), -EINVAL);
}
END_TEST

START_TEST(files_are_replaced_whole)
{
    char dir[] = "/tmp/wavry-test-base-XXXXXX", path[64];
    ck_assert_ptr_nonnull(mkdtemp(dir));
    snprintf(path, sizeof path, "%s/file", dir);
    ck_assert_int_eq(wv_write_file_atomic(path, "one", 3, 0600), 0);
    ck_assert_int_eq(wv_write_file_atomic(path, "three", 5, 0640), 0);
    uint8_t *data = NULL;
    size_t len;
    ck_assert_int_eq(wv_read_file(path, 5, &data, &len), 0);
    ck_assert_str_eq((char *)data, "three");
    free(data);
    ck_assert_int_eq(wv_read_file(path, 4, &data, &len), -EFBIG);
    struct stat st;
    ck_assert_int_eq(stat(path, &st), 0);
    ck_assert_uint_eq(st.st_mode & 0777, 0640);
    unlink(path);
    ck_assert_int_eq(wv_read_file(path, 5, &data, &len), -ENOENT);
    rmdir(dir);
}
END_TEST

START_TEST(levels_are_parsed)
{
    ck_assert_int_eq(wv_log_level_parse("debug"), WV_LOG_DEBUG);
    ck_assert_int_eq(wv_log_level_parse("loud"), -EINVAL);
}
END_TEST

static void expect_fields(const char *pairs, const char *const *expected)
{
    struct wv_log_fields f = {.rest = pairs};
    char field[WV_LOG_FIELD_BYTES];
    for (; *expected; expected++) {
        ck_assert_uint_eq(wv_log_fields_next(&f, field), strlen(*expected));
        ck_assert_str_eq(field, *expected);
    }
    ck_assert_uint_eq(wv_log_fields_next(&f, field), 0);
    ck_assert_uint_eq(wv_log_fields_next(&f, field), 0);
}

START_TEST(pairs_become_fields)
{
    expect_fields("session=77 name=\"Ada's laptop\" address=[::1]:5 empty= left_out=2",
                  (const char *[]){"SESSION=77", "WAVRY_NAME=Ada's laptop", "WAVRY_ADDRESS=[::1]:5",
                                   "WAVRY_EMPTY=", "WAVRY_LEFT_OUT=2", NULL});
    expect_fields("stage=capture pid=5", (const char *[]){"STAGE=capture", "WAVRY_PID=5", NULL});
    expect_fields("", (const char *[]){NULL});
    expect_fields(" words Upper=1 _x=2 =3 1a=4 open=\"never closed",
                  (const char *[]){"WAVRY_OPEN=never closed", NULL});
}
END_TEST

START_TEST(a_value_files_no_line_under_another_session)
{
    expect_fields("name=\"x\" session=1 stage=identity message=forged\"",
                  (const char *[]){"WAVRY_NAME=x", "WAVRY_SESSION=1", "WAVRY_STAGE=identity",
                                   "WAVRY_MESSAGE=forged\"", NULL});
    expect_fields("loose session=1", (const char *[]){"WAVRY_SESSION=1", NULL});
}
END_TEST

START_TEST(long_values_are_cut)
{
    char pairs[1000] = "key=", field[WV_LOG_FIELD_BYTES];
    memset(pairs + 4, 'x', 900);
    struct wv_log_fields f = {.rest = pairs};
    ck_assert_uint_eq(wv_log_fields_next(&f, field), WV_LOG_FIELD_BYTES - 1);
    ck_assert_uint_eq(wv_log_fields_next(&f, field), 0);
}
END_TEST

START_TEST(the_level_changes_while_running)
{
    wv_log_init("test", WV_LOG_INFO);
    wv_log_set_level(WV_LOG_DEBUG);
    ck_assert_int_eq(wv_log_get_level(), WV_LOG_DEBUG);
    ck_assert_str_eq(wv_log_level_name(wv_log_get_level()), "debug");
}
END_TEST

START_TEST(where_to_listen)
{
    static const uint8_t v4[16] = {[10] = 0xff, [11] = 0xff, [12] = 192, [14] = 2, [15] = 1},
                         v6[16] = {[15] = 1};
    static const char *const bad[] = {"",      " ",        "x",     "1:2:3",  "[1.2.3.4]:5", "::1:5",
                                      "65536", "1.2.3.4:", "[::1]", "[::1:5", "-1",          "host:5"};
    struct wv_listen_at at[3];
    size_t n = 0;
    char *message = NULL;
    ck_assert_int_eq(wv_listen_parse(" 443\t192.0.2.1:1  [::1]:2 ", 443, at, 3, &n, &message), 0);
    ck_assert_uint_eq(n, 3);
    ck_assert(at[0].any && at[0].port == 443);
    ck_assert(!at[1].any && at[1].port == 1 && !memcmp(at[1].ip, v4, 16));
    ck_assert(!at[2].any && at[2].port == 2 && !memcmp(at[2].ip, v6, 16));
    ck_assert_str_eq(at[2].text, "[::1]:2");
    for (size_t i = 0; i < WV_ARRAY_SIZE(bad); i++) {
        ck_assert_msg(wv_listen_parse(bad[i], 443, at, 3, &n, &message) == -EINVAL, "%s", bad[i]);
        ck_assert_ptr_nonnull(message);
    }
    ck_assert_uint_eq(n, 3);
    ck_assert_int_eq(wv_listen_parse("1 2 3 4", 443, at, 3, &n, &message), -EINVAL);
    ck_assert_ptr_nonnull(strstr(message, "at most 3"));
    ck_assert_int_eq(wv_listen_parse("1 no", 4821, at, 3, &n, &message), -EINVAL);
    ck_assert_ptr_nonnull(strstr(message, "\"no\" is neither a port nor ADDRESS:PORT; write 4821"));
    free(message);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("base");
    TCase *t = tcase_create("base");
    suite_add_tcase(s, t);
    tcase_add_test(t, reader_is_bounded_and_sticky);
    tcase_add_test(t, reader_refuses_huge_lengths);
    tcase_add_test(t, writer_round_trips_and_is_bounded);
    tcase_add_test(t, where_to_listen);
    tcase_add_test(t, hex_round_trips_and_refuses);
    tcase_add_test(t, files_are_replaced_whole);
    tcase_add_test(t, levels_are_parsed);
    tcase_add_test(t, pairs_become_fields);
    tcase_add_test(t, a_value_files_no_line_under_another_session);
    tcase_add_test(t, long_values_are_cut);
    tcase_add_test(t, the_level_changes_while_running);
    return wv_run_suite(s);
}
