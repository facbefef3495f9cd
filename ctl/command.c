/* The command line: one table of commands, from which the help comes too. */
#include "ctl/ctl.h"

#include "lib/base/util.h"

#include <errno.h>
#include <getopt.h>
#include <string.h>
#include <sysexits.h>

enum {
    WITH_JSON = 1,
    WITH_OPENMETRICS = 2,
    WITH_NAME = 4,
    WITH_COUNT = 8,
    WITH_PORT = 16,
    WITH_TERMS = 32, /* what a key may do, and until when */
    WITH_PAIR = 64,
    WITH_LOGIN = 128,
    MAY_LACK_SECOND = 256,
};

static const struct command {
    const char *name;
    const char *argument; /* NULL: takes none */
    const char *second;   /* NULL: takes one at most */
    unsigned options;
    int (*run)(struct wv_ctl *c);
    const char *synopsis, *help;
} commands[] = {
    {"status", NULL, NULL, WITH_JSON, wv_ctl_status, "status [--json]",
     "What runs, since when, and what is wrong. Ends with 75 while a stage is not ready."},
    {"stages", NULL, NULL, WITH_JSON, wv_ctl_stages, "stages [--json]",
     "The state of every stage, one a line."},
    {"sessions", NULL, NULL, WITH_JSON, wv_ctl_sessions, "sessions [--json]",
     "Who is connected, and how well."},
    {"metrics", NULL, NULL, WITH_JSON | WITH_OPENMETRICS, wv_ctl_metrics, "metrics [--json|--openmetrics]",
     "All that the stages have counted and measured; times in microseconds, for scrapers in seconds."},
    {"top", NULL, NULL, WITH_COUNT, wv_ctl_top, "top [--once|--count N]",
     "A live table: latency p50/p99 of the last second, rates, drops, sessions. q ends it."},
    {"restart", "STAGE", NULL, 0, wv_ctl_restart, "restart STAGE",
     "Starts a stage again; sessions go on. \"supervisor\" too."},
    {"log-level", "STAGE", "LEVEL", 0, wv_ctl_log_level, "log-level STAGE LEVEL",
     "What a stage logs: error, warning, notice, info or debug; until it starts again. \"supervisor\" too."},
    {"pair", NULL, NULL, WITH_JSON | WITH_NAME | WITH_TERMS | WITH_PAIR, wv_ctl_pair,
     "pair [--grant LIST] [--expires WHEN] [--ttl 3m] [--name NAME]",
     "Shows a code with which one new client may connect, also as a URL and a QR code. --wait: until it "
     "did."},
    {"authorize", "KEY", NULL, WITH_NAME | WITH_TERMS, wv_ctl_authorize,
     "authorize KEY [--grant LIST] [--expires WHEN] [--name NAME]",
     "Lets the client with this public key connect, without a code."},
    {"peers", NULL, NULL, WITH_JSON, wv_ctl_peers, "peers [--json]",
     "The keys that may connect, with what they may do and their names."},
    {"grant", "KEY", "LIST", WITH_NAME | WITH_TERMS, wv_ctl_grant, "grant KEY LIST [--expires WHEN]",
     "Changes what a key that may connect may do, at once: view, input, audio, clipboard, files."},
    {"revoke", "KEY", NULL, 0, wv_ctl_revoke, "revoke KEY",
     "Takes the permission to connect back and ends the client's sessions."},
    {"control", "SESSION", NULL, 0, wv_ctl_control, "control SESSION|none",
     "Gives control to a session (the ID of wavryctl sessions) or takes it from everybody."},
    {"hosts", NULL, NULL, WITH_JSON, wv_ctl_hosts, "hosts [--json]",
     "The hosts that wavry-client finds by name: on the local network, and at the gateway."},
    {"login", "URL", NULL, WITH_LOGIN | WITH_NAME, wv_ctl_login,
     "login URL [--account NAME] [--ca-file FILE] [--name DEVICE]",
     "Signs in to a gateway: asks for account, password and, where there is one, a code."},
    {"logout", NULL, NULL, 0, wv_ctl_logout, "logout", "Forgets the gateway, and it this machine's client."},
    {"host", "ACTION", "NAME", WITH_TERMS | MAY_LACK_SECOND, wv_ctl_host,
     "host register [NAME] | host unregister | host share ACCOUNT [--grant LIST]",
     "This host at the gateway: clients then find it by NAME; also those of another account."},
    {"doctor", NULL, NULL, WITH_JSON | WITH_PORT, wv_ctl_doctor, "doctor [--json] [--port N]",
     "What this machine has and lacks for a host, and how to get it."},
    {"stop", NULL, NULL, 0, wv_ctl_stop, "stop", "Stops the host and waits until it is gone."},
};

/* Every status that this program ends with: --help and the manual say what stands here. */
static const struct {
    int status;
    const char *when;
} statuses[] = {
    {EX_OK, "Done."},
    {EX_USAGE, "The command line is wrong."},
    {EX_DATAERR, "There is no such stage, key, level, machine or name, or the name is taken."},
    {EX_NOINPUT, "A file that was named can't be read, or no account or password was given."},
    {EX_UNAVAILABLE,
     "No host is running, no gateway answers, or something that matters is missing (doctor)."},
    {EX_SOFTWARE, "A fault of the program."},
    {EX_OSERR, "The system gave no memory, socket or terminal."},
    {EX_CANTCREAT, "A file can't be written."},
    {EX_IOERR, "The answer can't be read or written."},
    {EX_TEMPFAIL, "Not ready, or too busy: try again."},
    {EX_PROTOCOL,
     "What answers is no gateway of Wavry, or can't prove that it is the one that was meant (its "
     "certificate does not pass), or host and wavryctl are not of one version."},
    {EX_NOPERM, "Not allowed: by the host, or by the gateway, or not signed in there."},
    {EX_CONFIG, "This person's files of keys or of the gateway's account are wrong."},
};

static void print_usage(FILE *out)
{
    fputs("Usage: wavryctl [--socket PATH] COMMAND\n\nLooks into a running Wavry host and directs "
          "it.\n\nCommands:\n",
          out);
    for (size_t i = 0; i < WV_ARRAY_SIZE(commands); i++)
        fprintf(out,
                strlen(commands[i].synopsis) < 31 ? "  %-32s%s\n"
                                                  : "  %s\n                                  %s\n",
                commands[i].synopsis, commands[i].help);
    fputs("\nOptions:\n"
          "  --socket PATH                   The host's control socket. Default: "
          "$WAVRY_RUNTIME_DIR/control.sock,\n"
          "                                  /run/wavry/control.sock for root, "
          "$XDG_RUNTIME_DIR/wavry/control.sock and\n"
          "                                  /tmp/wavry-UID/control.sock for a person, then the system's.\n"
          "  --grant LIST                    Of view, input, audio, clipboard[-in|-out], files[-in|-out]. "
          "Default: "
          "view,input.\n"
          "  --expires WHEN                  2026-12-01T12:00:00Z, or from now on 8h, 30d; never.\n"
          "  --ttl TIME                      How long the code is valid, at most 10m. Default: 3m.\n"
          "  --host HOST                     How clients reach this host, for the URL. Default: an address "
          "of it.\n"
          "  --wait                          Come back when a client was paired (0), or the code is over "
          "(75).\n"
          "  --qr                            The QR code also where the output is no terminal.\n"
          "  --account NAME, --ca-file FILE  At the gateway; certificates that may vouch for it, where no "
          "public "
          "authority does.\n"
          "  --reopen, --cancel              Pairing goes on after too many wrong codes; the code is void.\n"
          "  --help, --version\n"
          "\nExit status:\n",
          out);
    for (size_t i = 0; i < WV_ARRAY_SIZE(statuses); i++)
        fprintf(out, "  %-5d %s\n", statuses[i].status, statuses[i].when);
}

static int usage_error(FILE *err, const char *format, const char *what)
{
    fputs("wavryctl: ", err);
    fprintf(err, format, what);
    fputs(" (wavryctl --help)\n", err);
    return EX_USAGE;
}

static bool parse_number(const char *text, uint64_t max, uint64_t *ret)
{
    char *end;
    errno = 0;
    unsigned long long n = strtoull(text, &end, 10);
    if (errno || *end || end == text || text[0] < '0' || text[0] > '9' || n == 0 || n > max)
        return false;
    *ret = n;
    return true;
}

static const struct option options[] = {
    {"socket", required_argument, NULL, 's'},
    {"json", no_argument, NULL, 'j'},
    {"openmetrics", no_argument, NULL, 'o'},
    {"name", required_argument, NULL, 'n'},
    {"once", no_argument, NULL, '1'},
    {"count", required_argument, NULL, 'c'},
    {"port", required_argument, NULL, 'p'},
    {"help", no_argument, NULL, 'h'},
    {"version", no_argument, NULL, 'v'},
    {"grant", required_argument, NULL, 'g'},
    {"expires", required_argument, NULL, 'e'},
    {"ttl", required_argument, NULL, 't'},
    {"host", required_argument, NULL, 'H'},
    {"wait", no_argument, NULL, 'w'},
    {"qr", no_argument, NULL, 'q'},
    {"reopen", no_argument, NULL, 'r'},
    {"cancel", no_argument, NULL, 'x'},
    {"ca-file", required_argument, NULL, 'C'},
    {"account", required_argument, NULL, 'A'},
    {0},
};

/* Whether OPTION is one of those of the commands about access. */
static bool take_access_option(struct wv_ctl *c, int option, unsigned *used)
{
    static const char terms[] = "ge", pair[] = "tHwqrx", login[] = "CA";
    if (option == 'g')
        c->grant = optarg;
    else if (option == 'e')
        c->expires = optarg;
    else if (option == 't')
        c->ttl = optarg;
    else if (option == 'H')
        c->host = optarg;
    else if (option == 'C')
        c->ca_file = optarg;
    else if (option == 'A')
        c->account = optarg;
    c->wait = c->wait || option == 'w';
    c->qr = c->qr || option == 'q';
    c->reopen = c->reopen || option == 'r';
    c->cancel = c->cancel || option == 'x';
    *used |= strchr(terms, option)   ? (unsigned)WITH_TERMS
             : strchr(pair, option)  ? (unsigned)WITH_PAIR
             : strchr(login, option) ? (unsigned)WITH_LOGIN
                                     : 0;
    return strchr(terms, option) || strchr(pair, option) || strchr(login, option);
}

/* Returns -1 to go on, or an exit code. USED gathers what the command must know about. */
static int take_option(struct wv_ctl *c, int option, unsigned *used)
{
    uint64_t number;
    if (take_access_option(c, option, used))
        return -1;
    switch (option) {
    case 's':
        c->socket = optarg;
        return -1;
    case 'j':
        c->json = true;
        *used |= WITH_JSON;
        return -1;
    case 'o':
        c->openmetrics = true;
        *used |= WITH_OPENMETRICS;
        return -1;
    case 'n':
        c->name = optarg;
        *used |= WITH_NAME;
        return -1;
    case '1':
        c->count = 1;
        *used |= WITH_COUNT;
        return -1;
    case 'c':
        *used |= WITH_COUNT;
        if (parse_number(optarg, UINT32_MAX, &c->count))
            return -1;
        return usage_error(c->err, "--count takes a number from 1, not \"%s\"", optarg);
    case 'p':
        *used |= WITH_PORT;
        if (!parse_number(optarg, UINT16_MAX, &number))
            return usage_error(c->err, "--port takes a number from 1 to 65535, not \"%s\"", optarg);
        c->port = (uint16_t)number;
        return -1;
    case 'h':
        print_usage(c->out);
        return EX_OK;
    case 'v':
        fputs("wavryctl " WAVRY_VERSION "\n", c->out);
        return EX_OK;
    case ':':
        return EX_USAGE;
    default:
        return EX_USAGE;
    }
}

static int run_command(struct wv_ctl *c, const struct command *command, int argc, char **argv, unsigned used)
{
    if (used & ~command->options)
        return usage_error(c->err, "%s doesn't take one of these options", command->name);
    if (c->json && c->openmetrics)
        return usage_error(c->err, "%s", "--json and --openmetrics exclude each other");
    const char *const wanted[] = {command->argument, command->second};
    int n_wanted = 0;
    for (; n_wanted < 2 && wanted[n_wanted]; n_wanted++)
        if (n_wanted == 1 && argc == 1 && command->options & MAY_LACK_SECOND)
            break;
        else if (argc <= n_wanted || !argv[n_wanted][0]) {
            fprintf(c->err, "wavryctl: %s needs a %s: wavryctl %s\n", command->name, wanted[n_wanted],
                    command->synopsis);
            return EX_USAGE;
        }
    if (argc > n_wanted)
        return usage_error(c->err, "too many words: \"%s\"", argv[argc - 1]);
    c->command = command->name;
    c->argument = command->argument ? argv[0] : NULL;
    c->second = n_wanted == 2 ? argv[1] : NULL;
    int r = command->run(c);
    if (fflush(c->out) != 0 && r == EX_OK) {
        fprintf(c->err, "wavryctl: the answer can't be written: %s\n", strerror(errno));
        return EX_IOERR;
    }
    return r;
}

int wv_ctl_main(int argc, char **argv, FILE *out, FILE *err)
{
    struct wv_ctl c = {.out = out, .err = err, .port = WV_CTL_PORT};
    unsigned used = 0;
    int option;
    optind = 0;
    opterr = 0;
    while ((option = getopt_long(argc, argv, ":", options, NULL)) != -1) {
        if (option == '?' || option == ':')
            return usage_error(err, option == ':' ? "%s needs a value" : "there is no option %s",
                               argv[optind - 1]);
        int r = take_option(&c, option, &used);
        if (r >= 0)
            return r;
    }
    if (optind >= argc) {
        print_usage(err);
        return EX_USAGE;
    }
    for (size_t i = 0; i < WV_ARRAY_SIZE(commands); i++)
        if (strcmp(commands[i].name, argv[optind]) == 0)
            return run_command(&c, &commands[i], argc - optind - 1, argv + optind + 1, used);
    return usage_error(err, "there is no command \"%s\"", argv[optind]);
}
