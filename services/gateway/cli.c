/* See cli.h. */
#include "services/gateway/cli.h"

#include "lib/base/util.h"
#include "services/gateway/gateway.h"
#include "services/gateway/password.h"
#include "services/gateway/routes.h"

#include <errno.h>
#include <grp.h>
#include <libgen.h>
#include <pwd.h>
#include <string.h>
#include <sys/stat.h>
#include <sysexits.h>
#include <termios.h>

#define LINE_BYTES (WV_PASSWORD_MAX + 2)

static int fail(int code, const char *what, const char *why)
{
    fprintf(stderr, "wavry-gateway: %s: %s\n", what, why);
    return code;
}

static int code_of(int r)
{
    switch (r) {
    case -EINVAL:
        return EX_CONFIG;
    case -EROFS:
    case -EACCES:
        return EX_NOPERM;
    case -ENOSPC:
    case -EIO:
    case -ESTALE:
        return EX_IOERR;
    default:
        return EX_UNAVAILABLE;
    }
}

/* The database itself: what is wrong, and what to do. */
static int broken(const char *what, int r, const char *reason)
{
    fprintf(stderr, "wavry-gateway: %s: %s: %s.\n", what, *reason ? reason : strerror(-r),
            wv_store_advice(r));
    return code_of(r);
}

static int store_failed(struct wv_store *store, const char *what, int r)
{
    if (r == -ENOENT)
        return fail(EX_DATAERR, what, "there is no such account; `wavry-gateway admin list` shows them");
    if (r == -EEXIST)
        return fail(EX_DATAERR, what, "the name is taken");
    if (r == -EINVAL)
        return fail(EX_DATAERR, what, "a name is 1 to 64 bytes of printable text without spaces at its ends");
    return broken(what, r, wv_store_reason(store));
}

/* root must not leave files behind that the gateway can't write: it becomes the owner of the folder. */
static int become_owner(const char *url)
{
    struct stat st;
    if (geteuid() != 0 || strncmp(url, "sqlite:", 7) != 0)
        return 0;
    wv_cleanup(wv_free_p) char *path = strdup(url + 7);
    if (!path || stat(dirname(path), &st) < 0 || st.st_uid == 0)
        return 0; /* opening it will say what is wrong */
    struct passwd *owner = getpwuid(st.st_uid);
    gid_t group = owner ? owner->pw_gid : st.st_gid;
    return setgroups(0, NULL) < 0 || setgid(group) < 0 || setuid(st.st_uid) < 0 ? -errno : 0;
}

/* From the terminal without an echo, else a line of the standard input. */
static int ask_password(const char *prompt, char ret[LINE_BYTES])
{
    struct termios before, silent;
    bool tty = tcgetattr(STDIN_FILENO, &before) == 0;
    if (tty) {
        fprintf(stderr, "%s", prompt);
        silent = before;
        silent.c_lflag &= ~(tcflag_t)ECHO;
        (void)tcsetattr(STDIN_FILENO, TCSAFLUSH, &silent);
    }
    bool got = fgets(ret, LINE_BYTES, stdin) != NULL;
    if (tty) {
        (void)tcsetattr(STDIN_FILENO, TCSAFLUSH, &before);
        fputc('\n', stderr);
    }
    if (!got)
        return fail(EX_NOINPUT, "password", "none was given");
    ret[strcspn(ret, "\n")] = 0;
    if (strlen(ret) < WV_PASSWORD_MIN || strlen(ret) > WV_PASSWORD_MAX)
        return fail(EX_DATAERR, "password", "it must have 10 to 1024 bytes");
    return EX_OK;
}

static int new_password(char ret_hash[WV_STORE_PASSWORD_BYTES])
{
    char once[LINE_BYTES], again[LINE_BYTES];
    int code = ask_password("Password: ", once);
    if (code == EX_OK && isatty(STDIN_FILENO)) {
        code = ask_password("Again: ", again);
        if (code == EX_OK && strcmp(once, again) != 0)
            code = fail(EX_DATAERR, "password", "the two are not the same");
    }
    if (code == EX_OK && wv_password_hash(once, ret_hash) < 0)
        code = fail(EX_OSERR, "password", "64 MiB of memory are needed to hash it");
    explicit_bzero(once, sizeof once);
    explicit_bzero(again, sizeof again);
    return code;
}

static int audit(struct wv_store *store, const struct wv_account *account, const char *action)
{
    struct wv_audit line = {.at = wv_gateway_unix_s(), .actor = "command line", .address = "local"};
    memcpy(line.account, account->id, sizeof line.account);
    snprintf(line.action, sizeof line.action, "%s", action);
    snprintf(line.subject, sizeof line.subject, "%s", account->name);
    return wv_store_audit(store, &line);
}

static int add(struct wv_store *store, const char *name)
{
    char hash[WV_STORE_PASSWORD_BYTES] = "";
    struct wv_account account;
    if (!wv_store_is_name(name))
        return store_failed(store, name, -EINVAL);
    if (wv_store_account_by_name(store, name, &account) == 0)
        return store_failed(store, name, -EEXIST);
    int code = new_password(hash);
    if (code != EX_OK)
        return code;
    int r = wv_store_add_account(store, name, hash, true, wv_gateway_unix_s(), &account);
    if (r == 0)
        r = audit(store, &account, "administrator added");
    if (r < 0)
        return store_failed(store, name, r);
    printf("%s administers this gateway now. Sign in and set up an authenticator.\n", account.name);
    return EX_OK;
}

static int show(void *userdata, const struct wv_account *a)
{
    printf("%s%s%s%s\n", a->name, a->admin ? " (administrator)" : "",
           a->totp_required ? " (authenticator)" : "", a->disabled ? " (disabled)" : "");
    return 0;
}

static int change(struct wv_store *store, const char *verb, const char *name)
{
    char hash[WV_STORE_PASSWORD_BYTES] = "";
    struct wv_account a;
    int r = wv_store_account_by_name(store, name, &a);
    if (r < 0)
        return store_failed(store, name, r);
    if (!strcmp(verb, "password")) {
        int code = new_password(hash);
        if (code != EX_OK)
            return code;
        r = wv_store_set_password(store, a.id, hash, NULL);
    } else if (!strcmp(verb, "no-totp")) {
        r = wv_store_set_totp(store, a.id, NULL);
    } else {
        r = wv_store_set_account(store, a.id, a.admin, !strcmp(verb, "disable"));
    }
    if (r == 0)
        r = audit(store, &a,
                  !strcmp(verb, "password")  ? "password changed"
                  : !strcmp(verb, "no-totp") ? "authenticator removed"
                  : !strcmp(verb, "disable") ? "account disabled"
                                             : "account enabled");
    return r < 0 ? store_failed(store, name, r) : EX_OK;
}

static int usage(void)
{
    return fail(EX_USAGE, "wrong usage", "see wavry-gateway --help");
}

static int administer(struct wv_store *store, const struct wv_gateway_settings *s)
{
    static const char *const verbs[] = {"password", "enable", "disable", "no-totp"};
    const char *verb = s->command[1], *name = s->command[2];
    if (s->n_command == 2 && !strcmp(verb, "list")) {
        int r = wv_store_accounts(store, show, NULL);
        return r < 0 ? store_failed(store, "accounts", r) : EX_OK;
    }
    if (s->n_command != 3)
        return usage();
    if (!strcmp(verb, "add"))
        return add(store, name);
    for (size_t i = 0; i < WV_ARRAY_SIZE(verbs); i++)
        if (!strcmp(verb, verbs[i]))
            return change(store, verb, name);
    return usage();
}

static int backup(struct wv_store *store, const char *path)
{
    int r = wv_db_backup(wv_store_db(store), path);
    if (r == -ENOTSUP)
        return fail(EX_UNAVAILABLE, "backup", wv_store_reason(store));
    if (r < 0)
        return fail(EX_CANTCREAT, "backup", wv_store_reason(store));
    printf("The database is copied to %s.\n", path);
    return EX_OK;
}

static int with_store(const struct wv_gateway_settings *s)
{
    const char *url = wv_config_string(s->config, "database");
    char reason[WV_DB_REASON_BYTES] = "";
    struct wv_store *store = NULL;
    uint64_t version = 0;
    int code, r = become_owner(url);
    if (r == 0)
        r = wv_store_open(&store, url, reason);
    if (r < 0)
        return broken("database", r, reason);
    if (!strcmp(s->command[0], "admin")) {
        code = administer(store, s);
    } else if (!strcmp(s->command[0], "backup")) {
        code = backup(store, s->command[1]);
    } else {
        r = wv_db_version(wv_store_db(store), &version);
        if (r == 0)
            printf("The database has schema %llu, this program's.\n", (unsigned long long)version);
        code = r < 0 ? store_failed(store, "migrate", r) : EX_OK;
    }
    wv_store_close(store);
    return code;
}

int wv_gateway_cli(const struct wv_gateway_settings *s)
{
    const char *command = s->command[0];
    if (!strcmp(command, "routes") && s->n_command == 1) {
        wv_route_list(stdout);
        return EX_OK;
    }
    if ((!strcmp(command, "admin") && s->n_command >= 2) ||
        (!strcmp(command, "backup") && s->n_command == 2) ||
        (!strcmp(command, "migrate") && s->n_command == 1))
        return with_store(s);
    return usage();
}
