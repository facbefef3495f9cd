#include "lib/stage/program.h"

#include "lib/base/util.h"
#include "tests/unit/suite.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sysexits.h>

static const struct wv_config_entry table[] = {
    {"port", WV_CONFIG_INT, "1", 1, 65535, NULL, "Where it listens."},
    {"name", WV_CONFIG_STRING, "", 0, 0, NULL, "What it is called."},
};

static char folder[64], file[96];
static struct wv_program program = {
    .name = "wavry-thing",
    .usage = "wavry-thing: does things.\n",
    .group = "thing",
    .groups = "thing|other",
    .config = table,
    .n_config = WV_ARRAY_SIZE(table),
};
static struct wv_program_line line;
static struct wv_config *config;
static char *message;

static void setup(void)
{
    snprintf(folder, sizeof folder, "/tmp/wavry-program-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(folder));
    snprintf(file, sizeof file, "%s/thing.conf", folder);
    program.file = file;
    program.flag = NULL;
    program.max_arguments = 0;
    config = NULL;
    message = NULL;
}

static void teardown(void)
{
    config = wv_config_free(config);
    free(message);
    unlink(file);
    rmdir(folder);
}

static void write_file(const char *path, const char *text)
{
    ck_assert_int_eq(wv_write_file_atomic(path, text, strlen(text), 0600), 0);
}

/* The words of a command line, NULL at the end. */
static int parse(char **words)
{
    int argc = 0;
    while (words[argc])
        argc++;
    return wv_program_parse(&program, &line, argc, words, &message);
}
#define PARSE(...) parse((char *[]){"wavry-thing", __VA_ARGS__, NULL})

static void assert_refused(int r, const char *part)
{
    ck_assert_int_eq(r, -EINVAL);
    ck_assert_ptr_nonnull(message);
    ck_assert_msg(strstr(message, part), "\"%s\" is not in \"%s\"", part, message);
}

START_TEST(later_files_win_and_the_command_line_over_all)
{
    char second[128];
    snprintf(second, sizeof second, "%s/second.conf", folder);
    write_file(file, "[thing]\nport=2\nname=first\n[other]\nx=1\n");
    write_file(second, "[thing]\nport=3\n");
    ck_assert_int_eq(PARSE("--set", "port=4", "--config", second), 0);
    ck_assert_int_eq(line.level, -1);
    ck_assert_int_eq(wv_program_load(&program, &line, &config, &message), 0);
    ck_assert_int_eq(wv_config_int(config, "port"), 4);
    ck_assert_str_eq(wv_config_string(config, "name"), "first");
    unlink(second);
}
END_TEST

START_TEST(the_file_may_be_missing_but_one_that_is_named_may_not)
{
    ck_assert_int_eq(PARSE("--log-level=debug"), 0);
    ck_assert_int_eq(line.level, WV_LOG_DEBUG);
    ck_assert_int_eq(wv_program_load(&program, &line, &config, &message), 0);
    ck_assert_int_eq(wv_config_int(config, "port"), 1);
    config = wv_config_free(config);
    ck_assert_int_eq(PARSE("--config", file), 0);
    ck_assert_int_eq(wv_program_load(&program, &line, &config, &message), -ENOENT);
    ck_assert_ptr_null(config);
    ck_assert_ptr_nonnull(strstr(message, file));
}
END_TEST

START_TEST(what_is_wrong_is_named)
{
    assert_refused(PARSE("--nonsense=7"), "no option --nonsense=7");
    assert_refused(PARSE("--set"), "--set needs a value");
    assert_refused(PARSE("--print-key"), "no option --print-key");
    assert_refused(PARSE("--log-level", "loud"), "not \"loud\"");
    assert_refused(PARSE("--check-config", "serve"), "unexpected argument \"serve\"");
    ck_assert_int_eq(PARSE("--set", "prot=4"), 0);
    free(message);
    assert_refused(wv_program_load(&program, &line, &config, &message), "port");
    ck_assert_ptr_null(config);
}
END_TEST

START_TEST(arguments_and_a_flag_of_its_own)
{
    program.flag = "print-key";
    program.max_arguments = 2;
    ck_assert_int_eq(PARSE("add", "--print-key", "anna"), 0);
    ck_assert(line.flag && !line.check);
    ck_assert_uint_eq(line.n_arguments, 2);
    ck_assert_str_eq(line.arguments[1], "anna");
    assert_refused(PARSE("add", "anna", "berta"), "\"berta\"");
}
END_TEST

START_TEST(too_many_options_are_refused)
{
    char *words[2 * WV_PROGRAM_OPTIONS_MAX + 4] = {"wavry-thing"};
    for (size_t i = 0; i <= WV_PROGRAM_OPTIONS_MAX; i++) {
        words[1 + 2 * i] = "--set";
        words[2 + 2 * i] = "port=7";
    }
    assert_refused(parse(words), "too many");
    words[1 + 2 * WV_PROGRAM_OPTIONS_MAX] = NULL;
    ck_assert_int_eq(parse(words), 0);
    ck_assert_uint_eq(line.n_sets, WV_PROGRAM_OPTIONS_MAX);
}
END_TEST

START_TEST(exit_codes)
{
    char *right[] = {"wavry-thing", NULL}, *wrong[] = {"wavry-thing", "--set", "port=0", NULL};
    char *no_option[] = {"wavry-thing", "-x", NULL}, *print[] = {"wavry-thing", "--print-config", NULL};
    ck_assert_int_eq(wv_program_begin(&program, &line, 1, right, &config), -1);
    config = wv_config_free(config);
    ck_assert_int_eq(wv_program_begin(&program, &line, 3, wrong, &config), EX_CONFIG);
    ck_assert_int_eq(wv_program_begin(&program, &line, 2, no_option, &config), EX_USAGE);
    ck_assert_int_eq(wv_program_begin(&program, &line, 2, print, &config), EX_OK);
    ck_assert_ptr_null(config);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("command line of programs");
    TCase *c = tcase_create("all");
    tcase_add_checked_fixture(c, setup, teardown);
    tcase_add_test(c, later_files_win_and_the_command_line_over_all);
    tcase_add_test(c, the_file_may_be_missing_but_one_that_is_named_may_not);
    tcase_add_test(c, what_is_wrong_is_named);
    tcase_add_test(c, arguments_and_a_flag_of_its_own);
    tcase_add_test(c, too_many_options_are_refused);
    tcase_add_test(c, exit_codes);
    suite_add_tcase(suite, c);
    return wv_run_suite(suite);
}
