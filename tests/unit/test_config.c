#include "lib/stage/config.h"

#include "lib/base/util.h"
#include "tests/unit/suite.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

static const struct wv_config_entry table[] = {
    {"max_fps", WV_CONFIG_INT, "60", 1, 240, NULL, "Highest rate of pictures."},
    {"source", WV_CONFIG_CHOICE, "auto", 0, 0, "auto|x11|test", "Where pictures come from."},
    {"display", WV_CONFIG_STRING, "", 0, 0, NULL, "X display."},
    {"cursor", WV_CONFIG_BOOL, "true", 0, 0, NULL, "Send the cursor."},
};

static struct wv_config *config;
static char *message;

static void setup(void)
{
    ck_assert_int_eq(wv_config_new(&config, "capture", table, WV_ARRAY_SIZE(table)), 0);
    message = NULL;
}

static void teardown(void)
{
    config = wv_config_free(config);
    free(message);
}

static int load(const char *text)
{
    free(message);
    message = NULL;
    return wv_config_load_text(config, text, "host.conf", "capture|encoder|transport", &message);
}

static void assert_says(const char *part)
{
    ck_assert_ptr_nonnull(message);
    ck_assert_msg(strstr(message, part), "\"%s\" is not in \"%s\"", part, message);
}

START_TEST(defaults_hold)
{
    ck_assert_int_eq(wv_config_int(config, "max_fps"), 60);
    ck_assert_str_eq(wv_config_string(config, "source"), "auto");
    ck_assert_str_eq(wv_config_string(config, "display"), "");
    ck_assert(wv_config_bool(config, "cursor"));
    ck_assert(wv_config_has(config, "cursor"));
    ck_assert(!wv_config_has(config, "nothing"));
}
END_TEST

START_TEST(file_wins_over_defaults_and_set_over_file)
{
    ck_assert_int_eq(load("# a comment\n[encoder]\nthreads = 9\n\n[capture]\nmax_fps=30\nsource = test\n"
                          "cursor=off\ndisplay=:5\n"),
                     0);
    ck_assert_int_eq(wv_config_int(config, "max_fps"), 30);
    ck_assert_str_eq(wv_config_string(config, "source"), "test");
    ck_assert_str_eq(wv_config_string(config, "display"), ":5");
    ck_assert(!wv_config_bool(config, "cursor"));
    ck_assert_int_eq(wv_config_set(config, "max_fps=24", "--set", &message), 0);
    ck_assert_int_eq(wv_config_int(config, "max_fps"), 24);
    ck_assert_int_eq(wv_config_set(config, "display=a=b", "--set", &message), 0);
    ck_assert_str_eq(wv_config_string(config, "display"), "a=b");
}
END_TEST

START_TEST(unknown_key_names_file_line_and_nearest)
{
    ck_assert_int_eq(load("[encoder]\nmax_fsp=1\n[capture]\n\n# max_fsp=2\nmax_fsp = 30\n"), -EINVAL);
    assert_says("host.conf:6:");
    assert_says("\"max_fsp\"");
    assert_says("\"max_fps\"");
    free(message);
    ck_assert_int_eq(wv_config_set(config, "dispay=:1", "--set", &message), -EINVAL);
    assert_says("--set");
    assert_says("\"display\"");
}
END_TEST

START_TEST(unknown_group_names_nearest)
{
    ck_assert_int_eq(load("[capture]\nmax_fps=1\n[encodr]\nx=1\n"), -EINVAL);
    assert_says("host.conf:3:");
    assert_says("[encoder]");
}
END_TEST

START_TEST(bad_values_are_refused_and_change_nothing)
{
    static const char *const bad[] = {
        "max_fps=0",    "max_fps=241",    "max_fps=", "max_fps=60x",     "max_fps=1e3",
        "cursor=maybe", "source=wayland", "source=",  "source=auto|x11", "max_fps=99999999999999999999"};
    for (size_t i = 0; i < WV_ARRAY_SIZE(bad); i++) {
        char text[128];
        snprintf(text, sizeof text, "[capture]\n%s\n", bad[i]);
        ck_assert_msg(load(text) == -EINVAL, "%s was taken", bad[i]);
        assert_says("host.conf:2:");
        free(message);
        message = NULL;
        ck_assert_int_eq(wv_config_set(config, bad[i], "--set", &message), -EINVAL);
        assert_says("--set");
    }
    ck_assert_int_eq(wv_config_int(config, "max_fps"), 60);
    ck_assert_str_eq(wv_config_string(config, "source"), "auto");
}
END_TEST

START_TEST(lines_that_are_none_are_named)
{
    ck_assert_int_eq(load("[capture]\nmax_fps=5\nnonsense\n"), -EINVAL);
    assert_says("host.conf:3:");
    ck_assert_int_eq(load("max_fps=5\n[capture]\n"), -EINVAL);
    assert_says("host.conf:1:");
    free(message);
    ck_assert_int_eq(wv_config_set(config, "max_fps", "--set", &message), -EINVAL);
    assert_says("KEY=VALUE");
    free(message);
    ck_assert_int_eq(wv_config_set(config, "=5", "--set", &message), -EINVAL);
}
END_TEST

START_TEST(strings_are_unescaped_or_refused)
{
    ck_assert_int_eq(load("[capture]\ndisplay = \\sa\\\\b\\t \n"), 0);
    ck_assert_str_eq(wv_config_string(config, "display"), " a\\b\t");
    ck_assert_int_eq(load("[capture]\ndisplay = a\\\n"), -EINVAL);
    ck_assert_int_eq(load("[capture]\ndisplay = a\\x\n"), -EINVAL);
    assert_says("host.conf:2:");
    ck_assert_int_eq(load("[capture]\ndisplay = \xff\n"), -EINVAL);
}
END_TEST

START_TEST(files_missing_empty_or_not_text)
{
    ck_assert_int_eq(load(""), 0);
    ck_assert_int_eq(wv_config_load(config, "/nonexistent/host.conf", true, "", &message), 0);
    ck_assert_ptr_null(message);
    ck_assert_int_eq(wv_config_load(config, "/nonexistent/host.conf", false, "", &message), -ENOENT);
    assert_says("/nonexistent/host.conf");
    free(message);
    char path[] = "/tmp/test_config.XXXXXX";
    int fd = mkstemp(path);
    ck_assert_int_eq(write(fd, "[capture]\n\0max", 14), 14);
    close(fd);
    ck_assert_int_eq(wv_config_load(config, path, true, "", &message), -EINVAL);
    assert_says("text");
    unlink(path);
}
END_TEST

START_TEST(print_shows_value_and_source)
{
    char *text = NULL;
    size_t len;
    ck_assert_int_eq(load("[capture]\n\nmax_fps=30\n"), 0);
    ck_assert_int_eq(wv_config_set(config, "source=x11", "--set", &message), 0);
    FILE *out = open_memstream(&text, &len);
    wv_config_print(config, out);
    fclose(out);
    ck_assert_ptr_nonnull(strstr(text, "max_fps = 30  # host.conf:3\n"));
    ck_assert_ptr_nonnull(strstr(text, "source = x11  # --set\n"));
    ck_assert_ptr_nonnull(strstr(text, "cursor = true  # default\n"));
    free(text);
    out = open_memstream(&text, &len);
    wv_config_print_help(config, out);
    fclose(out);
    for (size_t i = 0; i < WV_ARRAY_SIZE(table); i++) {
        ck_assert_ptr_nonnull(strstr(text, table[i].key));
        ck_assert_ptr_nonnull(strstr(text, table[i].help));
    }
    free(text);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("config");
    TCase *tc = tcase_create("config");
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_test(tc, defaults_hold);
    tcase_add_test(tc, file_wins_over_defaults_and_set_over_file);
    tcase_add_test(tc, unknown_key_names_file_line_and_nearest);
    tcase_add_test(tc, unknown_group_names_nearest);
    tcase_add_test(tc, bad_values_are_refused_and_change_nothing);
    tcase_add_test(tc, lines_that_are_none_are_named);
    tcase_add_test(tc, strings_are_unescaped_or_refused);
    tcase_add_test(tc, files_missing_empty_or_not_text);
    tcase_add_test(tc, print_shows_value_and_source);
    suite_add_tcase(suite, tc);
    return wv_run_suite(suite);
}
