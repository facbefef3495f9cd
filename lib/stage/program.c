/* Command line and configuration of an operator's programs. See program.h. */
#include "lib/stage/program.h"

#include "lib/base/util.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sysexits.h>

enum { OPT_CONFIG = 256, OPT_SET, OPT_PRINT, OPT_CHECK, OPT_LEVEL, OPT_HELP, OPT_VERSION, OPT_FLAG };

static int add(const char **list, size_t *n, size_t max, const char *value, char **ret_message)
{
    if (*n >= max)
        return wv_complain(ret_message,
                           max ? "too many options or arguments, at \"%s\"" : "unexpected argument \"%s\"",
                           value);
    list[(*n)++] = value;
    return 0;
}

static int take_option(struct wv_program_line *l, int option, const char *word, char **ret_message)
{
    switch (option) {
    case OPT_CONFIG:
        return add(l->files, &l->n_files, WV_PROGRAM_OPTIONS_MAX, optarg, ret_message);
    case OPT_SET:
        return add(l->sets, &l->n_sets, WV_PROGRAM_OPTIONS_MAX, optarg, ret_message);
    case OPT_LEVEL:
        l->level = wv_log_level_parse(optarg);
        return l->level >= 0
                   ? 0
                   : wv_complain(ret_message,
                                 "--log-level takes error, warning, notice, info or debug, not \"%s\"",
                                 optarg);
    case OPT_PRINT:
        l->print = true;
        return 0;
    case OPT_CHECK:
        l->check = true;
        return 0;
    case OPT_HELP:
        l->help = true;
        return 0;
    case OPT_VERSION:
        l->version = true;
        return 0;
    case OPT_FLAG:
        l->flag = true;
        return 0;
    case ':':
        return wv_complain(ret_message, "%s needs a value", word);
    default:
        return wv_complain(ret_message, "there is no option %s", word);
    }
}

int wv_program_parse(const struct wv_program *p, struct wv_program_line *l, int argc, char **argv,
                     char **ret_message)
{
    const struct option options[] = {
        {"config", required_argument, NULL, OPT_CONFIG},
        {"set", required_argument, NULL, OPT_SET},
        {"print-config", no_argument, NULL, OPT_PRINT},
        {"check-config", no_argument, NULL, OPT_CHECK},
        {"log-level", required_argument, NULL, OPT_LEVEL},
        {"help", no_argument, NULL, OPT_HELP},
        {"version", no_argument, NULL, OPT_VERSION},
        {p->flag, no_argument, NULL, OPT_FLAG}, /* without a name it ends the table */
        {NULL, 0, NULL, 0},
    };
    int r = 0;
    *l = (struct wv_program_line){.level = -1};
    optind = 0;
    for (int o; r == 0 && (o = getopt_long(argc, argv, ":", options, NULL)) != -1;)
        r = take_option(l, o, argv[optind - 1], ret_message);
    for (; r == 0 && optind < argc; optind++)
        r = add(l->arguments, &l->n_arguments, WV_MIN(p->max_arguments, (size_t)WV_PROGRAM_OPTIONS_MAX),
                argv[optind], ret_message);
    return r;
}

int wv_program_load(const struct wv_program *p, const struct wv_program_line *l,
                    struct wv_config **ret_config, char **ret_message)
{
    struct wv_config *c;
    *ret_config = NULL;
    int r = wv_config_new(&c, p->group, p->config, p->n_config);
    if (r < 0)
        return r;
    r = wv_config_load(c, p->file, true, p->groups, ret_message);
    for (size_t i = 0; r == 0 && i < l->n_files; i++)
        r = wv_config_load(c, l->files[i], false, p->groups, ret_message);
    for (size_t i = 0; r == 0 && i < l->n_sets; i++)
        r = wv_config_set(c, l->sets[i], "--set", ret_message);
    *ret_config = r < 0 ? wv_config_free(c) : c;
    return r;
}

static int print_help(const struct wv_program *p)
{
    struct wv_config *c;
    if (wv_config_new(&c, p->group, p->config, p->n_config) < 0)
        return EX_OSERR;
    printf("%s\n"
           "  --config FILE        read FILE after %s; may be repeated\n"
           "  --set KEY=VALUE      set one key of the group [%s]; wins over files\n"
           "  --print-config       show the effective values and where each comes from\n"
           "  --check-config       exit 0 when the configuration is right, else say what is wrong\n"
           "  --log-level LEVEL    error, warning, notice, info or debug\n",
           p->usage, p->file, p->group);
    if (p->flag)
        printf("  --%-18s %s\n", p->flag, p->flag_help);
    printf("  --help, --version\n\n");
    wv_config_print_help(c, stdout);
    wv_metrics_print_help(p->metrics, p->n_metrics, stdout);
    wv_config_free(c);
    return EX_OK;
}

int wv_program_fail(const struct wv_program *p, int code, char *message)
{
    fprintf(stderr, "%s: %s%s%s%s\n", p->name, message ? message : "out of memory",
            code == EX_USAGE ? "; see " : "", code == EX_USAGE ? p->name : "",
            code == EX_USAGE ? " --help" : "");
    free(message);
    return code;
}

int wv_program_begin(const struct wv_program *p, struct wv_program_line *l, int argc, char **argv,
                     struct wv_config **ret_config)
{
    char *message = NULL;
    if (wv_program_parse(p, l, argc, argv, &message) < 0)
        return wv_program_fail(p, EX_USAGE, message);
    if (l->help)
        return print_help(p);
    if (l->version) {
        printf("%s " WAVRY_VERSION "\n", p->name);
        return EX_OK;
    }
    int r = wv_program_load(p, l, ret_config, &message);
    if (r < 0)
        return wv_program_fail(p, EX_CONFIG, message);
    if (!l->print)
        return -1;
    wv_config_print(*ret_config, stdout);
    *ret_config = wv_config_free(*ret_config);
    return EX_OK;
}
