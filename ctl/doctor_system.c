/* Codecs, the port, the users, and what the kernel gives to lock processes down with. */
#include "ctl/doctor.h"

#include "lib/base/util.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/landlock.h>
#include <netinet/in.h>
#include <pwd.h>
#include <sched.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#define UDP_BUFFER_BYTES (1u << 20)

static void check_plugin(struct wv_doctor *d, const char *file, const char *what, const char *remedy,
                         enum wv_doctor_level without)
{
    char path[512];
    snprintf(path, sizeof(path), "%s/%s", WAVRY_GST_PLUGIN_DIR, file);
    if (access(path, R_OK) == 0)
        wv_doctor_say(d, WV_DOCTOR_OK, what, NULL, "%s", path);
    else
        wv_doctor_say(d, without, what, remedy, "%s: %s", path, strerror(errno));
}

/* Returns 0 or an errno. */
static int try_port(uint16_t port)
{
    int fd = socket(AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    int off = 0, error = 0;
    if (fd >= 0) {
        struct sockaddr_in6 a = {.sin6_family = AF_INET6, .sin6_port = htons(port)};
        setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof(off));
        if (bind(fd, (struct sockaddr *)&a, sizeof(a)) < 0)
            error = errno;
    } else {
        struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(port)};
        fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
        if (fd < 0 || bind(fd, (struct sockaddr *)&a, sizeof(a)) < 0)
            error = errno;
    }
    wv_close(fd);
    return error;
}

static void check_port(struct wv_doctor *d)
{
    char what[32], remedy[160];
    unsigned port = d->c->port;
    int error = try_port(d->c->port);
    snprintf(what, sizeof(what), "UDP port %u", port);
    if (error == 0) {
        wv_doctor_say(d, WV_DOCTOR_OK, what, NULL, "free");
    } else if (error == EADDRINUSE && wv_ctl_reachable(d->c)) {
        wv_doctor_say(d, WV_DOCTOR_OK, what, NULL, "in use, and a host of yours is running");
    } else {
        snprintf(remedy, sizeof(remedy),
                 "'ss -ulpn sport = :%u' says who has it; or give the host another: "
                 "wavry-supervisor --port N",
                 port);
        wv_doctor_say(d, WV_DOCTOR_MISSING, what, error == EADDRINUSE ? remedy : NULL, "%s", strerror(error));
    }
}

static void check_users(struct wv_doctor *d)
{
    static const char *const users[] = {"wavry-transport", "wavry-identity", "wavry-capture",
                                        "wavry-encoder",   "wavry-input",    "wavry-reach"};
    char lacking[200] = "";
    for (size_t i = 0; i < WV_ARRAY_SIZE(users); i++) {
        size_t len = strlen(lacking);
        if (!getpwnam(users[i]))
            snprintf(lacking + len, sizeof(lacking) - len, "%s%s", len ? ", " : "", users[i]);
    }
    if (!lacking[0])
        wv_doctor_say(d, WV_DOCTOR_OK, "users", NULL, "every stage has its own");
    else if (getuid() == 0)
        wv_doctor_say(
            d, WV_DOCTOR_NOTE, "users",
            "not needed: a host started as root then takes numbers that nobody has; to give them names: "
            "adduser --system NAME",
            "there is no %s", lacking);
    else
        wv_doctor_say(d, WV_DOCTOR_NOTE, "users",
                      "a host that root starts runs each stage under a user of its own",
                      "started by you, all stages run as you");
}

static void check_seccomp(struct wv_doctor *d)
{
    if (prctl(PR_GET_SECCOMP, 0, 0, 0, 0) >= 0 || errno != EINVAL)
        wv_doctor_say(d, WV_DOCTOR_OK, "seccomp", NULL, "the kernel has it");
    else
        wv_doctor_say(d, WV_DOCTOR_MISSING, "seccomp", "use a kernel with CONFIG_SECCOMP_FILTER, as Debian's",
                      "the kernel lacks it: no stage would start");
}

/* Whether a child gets a network namespace of its own, as the host's stages do. Returns 0 or an errno. */
static int try_namespace(void)
{
    pid_t pid = fork();
    if (pid < 0)
        return errno;
    if (pid == 0) {
        int flags = getuid() == 0 ? CLONE_NEWNET : CLONE_NEWUSER | CLONE_NEWNET;
        _exit(unshare(flags) < 0 ? errno & 0xff : 0);
    }
    int status;
    while (waitpid(pid, &status, 0) < 0)
        if (errno != EINTR)
            return errno;
    return WIFEXITED(status) ? WEXITSTATUS(status) : EIO;
}

static void check_namespaces(struct wv_doctor *d)
{
    int error = try_namespace();
    if (error == 0)
        wv_doctor_say(d, WV_DOCTOR_OK, "namespaces", NULL, "stages without a network get none");
    else
        wv_doctor_say(
            d, WV_DOCTOR_NOTE, "namespaces",
            "sysctl kernel.unprivileged_userns_clone=1 user.max_user_namespaces=10000; in a container, "
            "allow CLONE_NEWUSER and CLONE_NEWNET",
            "not to be had (%s): stages are kept from the network by seccomp alone", strerror(error));
}

static void check_landlock(struct wv_doctor *d)
{
    long version = syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION);
    if (version >= 1)
        wv_doctor_say(d, WV_DOCTOR_OK, "landlock", NULL, "version %ld", version);
    else
        wv_doctor_say(d, WV_DOCTOR_NOTE, "landlock", "boot with lsm=landlock,... (a kernel from 5.13 on)",
                      "not to be had (%s): stages are kept from files by their users and seccomp alone",
                      strerror(errno));
}

static void check_limit(struct wv_doctor *d, const char *key)
{
    char path[128], remedy[128];
    wv_cleanup(wv_free_p) uint8_t *text = NULL;
    size_t len;
    snprintf(path, sizeof(path), "/proc/sys/net/core/%s", key);
    if (wv_read_file(path, 64, &text, &len) < 0)
        return; /* not ours to see, as in some containers */
    unsigned long long bytes = strtoull((const char *)text, NULL, 10);
    snprintf(remedy, sizeof(remedy), "sysctl net.core.%s=%u", key, UDP_BUFFER_BYTES);
    if (bytes >= UDP_BUFFER_BYTES)
        wv_doctor_say(d, WV_DOCTOR_OK, key, NULL, "%llu bytes for a UDP socket", bytes);
    else if (getuid() == 0)
        wv_doctor_say(d, WV_DOCTOR_OK, key, NULL, "%llu bytes, which a host started as root may exceed",
                      bytes);
    else
        wv_doctor_say(d, WV_DOCTOR_NOTE, key, remedy, "%llu bytes for a UDP socket: a burst may be cut",
                      bytes);
}

void wv_doctor_system(struct wv_doctor *d)
{
    check_plugin(d, "libgstx264.so", "H.264 encoder", "apt-get install gstreamer1.0-plugins-ugly",
                 WV_DOCTOR_MISSING);
    check_plugin(d, "libgstlibav.so", "H.264 decoder",
                 "needed only to watch from here: apt-get install gstreamer1.0-libav", WV_DOCTOR_NOTE);
    check_port(d);
    check_users(d);
    check_seccomp(d);
    check_namespaces(d);
    check_landlock(d);
    check_limit(d, "rmem_max");
    check_limit(d, "wmem_max");
}
