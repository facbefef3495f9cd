/* A stage that does nothing but what every stage does, for the tests of the skeleton and of the supervisor.
 * It plays whichever stage it is called as (wavry-NAME), says on its status which descriptors it was granted,
 * and misbehaves on demand. */
#include "lib/base/util.h"
#include "lib/stage/stage.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

struct fake {
    struct wv_stage *stage;
    struct wv_loop_source *timer;
    char descriptors[160];
};

static bool behaves(struct wv_stage *stage, const char *how)
{
    return !strcmp(wv_config_string(wv_stage_config(stage), "behaviour"), how);
}

/* Whether a descriptor that was granted for reading can be turned into one for writing. */
static bool reopens_for_writing(int fd)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    int again = open(path, O_RDWR | O_CLOEXEC);
    wv_close(again);
    return again >= 0;
}

/* "raw-frames=1234w": inode and whether it is writable; "r!" could be made writable. */
static void describe_descriptors(struct wv_stage *stage, char *text, size_t capacity)
{
    static const char *const names[] = {"raw-frames", "raw-reader",   "au-entries", "au-reader",
                                        "input-page", "session-page", "udp"};
    size_t used = (size_t)snprintf(text, capacity, "fds");
    for (size_t i = 0; i < WV_ARRAY_SIZE(names) && used < capacity; i++) {
        struct stat st;
        int fd = wv_stage_fd(stage, names[i]);
        if (fd < 0 || fstat(fd, &st) < 0)
            continue;
        bool writable = (fcntl(fd, F_GETFL) & O_ACCMODE) != O_RDONLY;
        used += (size_t)snprintf(text + used, capacity - used, " %s=%llu%s", names[i],
                                 (unsigned long long)st.st_ino,
                                 writable                  ? "w"
                                 : reopens_for_writing(fd) ? "r!"
                                                           : "r");
    }
}

static int fake_open(struct wv_stage *stage, void **ret_context)
{
    if (behaves(stage, "fail")) {
        wv_stage_status(stage, "no such display");
        return -ENODEV;
    }
    if (behaves(stage, "sleep"))
        sleep(60);
    struct fake *f = calloc(1, sizeof *f);
    if (!f)
        return -ENOMEM;
    f->stage = stage;
    describe_descriptors(stage, f->descriptors, sizeof f->descriptors); /* as its user, before lockdown */
    *ret_context = f;
    return 0;
}

static int on_timer(void *userdata, uint64_t now)
{
    struct fake *f = userdata;
    if (behaves(f->stage, "error"))
        return -EIO;
    for (volatile bool spin = true; spin;) /* alive, busy, and of no use */
        ;
    return 0;
}

static int fake_start(struct wv_stage *stage, void *context)
{
    struct fake *f = context;
    if (behaves(stage, "crash"))
        abort();
    wv_stage_status(stage, "%s", f->descriptors);
    if (behaves(stage, "spin") || behaves(stage, "error")) {
        int r = wv_loop_add_timer(wv_stage_loop(stage), on_timer, f, &f->timer);
        if (r < 0)
            return r;
        wv_loop_timer_every(f->timer, 300 * WV_NS_PER_MS);
    }
    wv_metric_add(wv_stage_metrics(stage), 0, 1);
    return 0;
}

static void fake_drain(struct wv_stage *stage, void *context)
{
    if (!behaves(stage, "slow")) /* "slow" leaves it to the skeleton's patience */
        wv_stage_drained(stage);
}

static void fake_close(struct wv_stage *stage, void *context)
{
    free(context);
}

static int fake_request(struct wv_stage *stage, void *context, const char *verb, const char *text,
                        char *ret_reply, size_t capacity)
{
    if (!strcmp(verb, "revoke"))
        return -ENOENT;
    if (!strcmp(verb, "peers"))
        for (volatile bool spin = true; spin;) /* never answers */
            ;
    snprintf(ret_reply, capacity, "%s:%s:%d", verb, text, socket(AF_INET, SOCK_DGRAM, 0) < 0 ? errno : 0);
    return 0;
}

static const struct wv_config_entry config[] = {
    {"display", WV_CONFIG_STRING, "", 0, 0, NULL, "Taken and not used."},
    {"state_dir", WV_CONFIG_STRING, "", 0, 0, NULL, "Taken and not used."},
    {"behaviour", WV_CONFIG_CHOICE, "good", 0, 0, "good|fail|sleep|crash|spin|error|slow",
     "How to misbehave."},
};
static const struct wv_metric metrics[] = {{"starts_total", "starts", WV_METRIC_COUNTER, "Starts."}};
static const struct wv_sandbox sandbox = {.max_files = 64};

int main(int argc, char **argv)
{
    const char *slash = strrchr(argv[0], '/'), *name = slash ? slash + 1 : argv[0];
    const struct wv_stage_definition definition = {
        .name = strncmp(name, "wavry-", 6) ? name : name + 6,
        .summary = "A stage for tests.",
        .config = config,
        .n_config = WV_ARRAY_SIZE(config),
        .metrics = metrics,
        .n_metrics = WV_ARRAY_SIZE(metrics),
        .sandbox = &sandbox,
        .open = fake_open,
        .start = fake_start,
        .drain = fake_drain,
        .close = fake_close,
        .request = fake_request,
    };
    alarm(120); /* one that spins must end even when its test was killed */
    return wv_stage_main(&definition, argc, argv);
}
