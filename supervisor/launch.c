/* A stage's command line, environment and confinement. */
#include "supervisor/supervisor.h"

#include "lib/base/log.h"
#include "lib/base/util.h"
#include "supervisor/spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define WORDS_MAX   (32 + 2 * WV_SUPERVISOR_SETS)
#define COOKIES_MAX (64u << 10)

/* A bounded list of malloc'ed words, ended by NULL. */
struct words {
    char *list[WORDS_MAX + 1];
    size_t n;
    bool failed;
};

static void add_word(struct words *w, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void add_word(struct words *w, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    if (w->n == WORDS_MAX || vasprintf(&w->list[w->n], format, args) < 0) {
        w->failed = true;
        w->list[w->n] = NULL;
    } else {
        w->n++;
    }
    va_end(args);
}

static void free_words(struct words *w)
{
    for (size_t i = 0; i < w->n; i++)
        free(w->list[i]);
}

static const char *display_of(const struct wv_supervisor *s)
{
    const char *given = s->options->display, *configured = wv_config_string(s->config, "display");
    const char *environment = getenv("DISPLAY");
    return given ? given : *configured ? configured : environment ? environment : "";
}

static void pass_environment(struct words *w, const char *name)
{
    const char *value = getenv(name);
    if (value && *value)
        add_word(w, "%s=%s", name, value);
}

static const char *authority_file(char *path, size_t capacity)
{
    const char *given = getenv("XAUTHORITY"), *home = getenv("HOME");
    if (given && *given)
        return given;
    if (!home)
        return NULL;
    int n = snprintf(path, capacity, "%s/.Xauthority", home);
    return n > 0 && (size_t)n < capacity ? path : NULL;
}

/* The stage's user can't read the person's cookie file, so it gets a copy that only it can read. */
static void copy_authority(struct wv_child *c, struct words *environment)
{
    char path[512], home[160], copy[192];
    wv_cleanup(wv_free_p) uint8_t *data = NULL;
    size_t len;
    const struct wv_places *p = &c->supervisor->places;
    const char *file = authority_file(path, sizeof path);
    if (!file || wv_read_file(file, COOKIES_MAX, &data, &len) < 0)
        return; /* a display without access control has none */
    if (!p->separate) {
        add_word(environment, "XAUTHORITY=%s", file);
        return;
    }
    /* The folder is the stage's own: whatever lies there under this name is replaced, never followed. */
    wv_places_home(p, c->index, home, sizeof home);
    snprintf(copy, sizeof copy, "%s/Xauthority", home);
    (void)unlink(copy);
    wv_cleanup(wv_close_p) int fd = open(copy, O_CREAT | O_EXCL | O_WRONLY | O_NOFOLLOW | O_CLOEXEC, 0400);
    if (fd < 0 || write(fd, data, len) != (ssize_t)len ||
        fchown(fd, p->uids[c->index], p->gids[c->index]) < 0) {
        wv_warning("the display's cookie can't be handed to a stage", "stage=%s error=\"%s\"",
                   c->wiring->name, strerror(errno));
        return;
    }
    add_word(environment, "XAUTHORITY=%s", copy);
}

static void fill_environment(struct wv_child *c, struct words *w)
{
    static const char *const passed[] = {"WAVRY_SECCOMP", "ASAN_OPTIONS", "UBSAN_OPTIONS", "LSAN_OPTIONS",
                                         "JOURNAL_STREAM"};
    char home[160];
    wv_places_home(&c->supervisor->places, c->index, home, sizeof home);
    add_word(w, "PATH=/usr/local/bin:/usr/bin:/bin");
    add_word(w, "LANG=C.UTF-8");
    add_word(w, "HOME=%s", home);
    for (size_t i = 0; i < WV_ARRAY_SIZE(passed); i++)
        pass_environment(w, passed[i]);
    if (!c->wiring->display)
        return;
    if (*display_of(c->supervisor))
        add_word(w, "DISPLAY=%s", display_of(c->supervisor));
    pass_environment(w, "WAYLAND_DISPLAY");
    copy_authority(c, w);
}

static void fill_arguments(struct wv_child *c, struct words *w, const int *config_fds, size_t n_fds)
{
    const struct wv_supervisor *s = c->supervisor;
    char path[640];
    add_word(w, "%s", c->wiring->program);
    wv_places_path(&s->places, "supervisor.sock", path, sizeof path);
    add_word(w, "--supervisor");
    add_word(w, "%s", path);
    if (s->options->log_level) {
        add_word(w, "--log-level");
        add_word(w, "%s", s->options->log_level);
    }
    for (size_t i = 0; i < n_fds; i++) {
        add_word(w, "--config-fd");
        add_word(w, "%d", config_fds[i]);
    }
    if (c->wiring->state) {
        wv_places_state(&s->places, c->index, path, sizeof path);
        add_word(w, "--set");
        add_word(w, "state_dir=%s", path);
    }
    if (c->wiring->display && s->options->display) {
        add_word(w, "--set");
        add_word(w, "display=%s", s->options->display);
    }
    size_t len = strlen(c->wiring->name);
    for (size_t i = 0; i < s->options->n_sets; i++)
        if (!strncmp(s->options->sets[i], c->wiring->name, len) && s->options->sets[i][len] == '.') {
            add_word(w, "--set");
            add_word(w, "%s", s->options->sets[i] + len + 1);
        }
}

/* The files are opened by us, so that a stage can read what its user could not, under the name that we know.
 */
static size_t open_configs(const struct wv_supervisor *s, int ret[WV_SPAWN_CONFIGS])
{
    size_t n = 0;
    for (size_t i = 0; i < s->options->n_configs && n < WV_SPAWN_CONFIGS; i++) {
        ret[n] = open(s->options->configs[i], O_RDONLY | O_CLOEXEC);
        if (ret[n] >= 0)
            n++;
        else
            wv_error("a configuration file can't be read any more", "path=%s error=\"%s\"",
                     s->options->configs[i], strerror(errno));
    }
    return n;
}

/* A display on another machine is reached over the network. */
static bool needs_network(const struct wv_child *c)
{
    const char *display = display_of(c->supervisor);
    return c->wiring->display && *display && *display != ':' && *display != '/' &&
           strncmp(display, "unix:", 5);
}

static void describe(struct wv_child *c, const struct wv_spawn *s, const struct wv_spawned *spawned)
{
    char user[64], network[96];
    const struct wv_places *p = &c->supervisor->places;
    if (p->separate && p->named[c->index])
        snprintf(user, sizeof user, "user %s", c->wiring->user);
    else if (p->separate)
        snprintf(user, sizeof user, "uid %u of its own", (unsigned)p->uids[c->index]);
    else
        snprintf(user, sizeof user, "weaker: same user as the supervisor");
    if (spawned->network_closed)
        snprintf(network, sizeof network, "no network");
    else if (c->wiring->network)
        snprintf(network, sizeof network, "the network, but no port and no key");
    else if (!s->no_network)
        snprintf(network, sizeof network, "weaker: has the network, for the display");
    else
        snprintf(network, sizeof network, "weaker: has the network (%s)", strerror(-spawned->network_error));
    snprintf(c->confinement, sizeof c->confinement, "%s, %s, no capabilities, seccomp", user, network);
    if (!spawned->network_closed && !c->wiring->network)
        wv_warning("a stage keeps the network namespace", "stage=%s confinement=\"%s\"", c->wiring->name,
                   c->confinement);
}

static void park(void *userdata, int pidfd)
{
    struct wv_child *c = userdata;
    wv_vault_park_pid(c->wiring->name, pidfd);
}

int wv_launch(struct wv_child *c, pid_t *ret_pid, int *ret_pidfd)
{
    const struct wv_supervisor *s = c->supervisor;
    struct words arguments = {.n = 0}, environment = {.n = 0};
    struct wv_spawn spawn = {.change_user = s->places.separate,
                             .uid = s->places.uids[c->index],
                             .gid = s->places.gids[c->index],
                             .no_network = !needs_network(c) && !c->wiring->network};
    struct wv_spawned spawned;
    char program[640];
    snprintf(program, sizeof program, "%s/%s", s->libexec, c->wiring->program);
    spawn.n_keep = open_configs(s, spawn.keep);
    fill_arguments(c, &arguments, spawn.keep, spawn.n_keep);
    fill_environment(c, &environment);
    spawn.program = program;
    spawn.argv = arguments.list;
    spawn.envp = environment.list;
    int r = arguments.failed || environment.failed ? -E2BIG : wv_spawn(&spawn, park, c, &spawned);
    for (size_t i = 0; i < spawn.n_keep; i++)
        wv_close(spawn.keep[i]);
    free_words(&arguments);
    free_words(&environment);
    if (r < 0)
        return r;
    describe(c, &spawn, &spawned);
    *ret_pid = spawned.pid;
    *ret_pidfd = spawned.pidfd;
    return 0;
}
