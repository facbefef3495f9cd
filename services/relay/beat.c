/* wavry-relay-beat: tells a gateway every few seconds that the relay beside it lives, and how busy it is, so
 * that clients get leases for it. A process of its own: the relay itself makes no connection and holds no
 * key. It reads the relay's metrics, and holds the relay's signing key, which proves nothing but these
 * heartbeats. Once the key is read it must never write a file, listen, or run anything. */
#include "lib/base/log.h"
#include "lib/base/util.h"
#include "lib/gateway/wire.h"
#include "lib/stage/program.h"
#include "lib/stage/sandbox.h"
#include "rift/crypto/identity.h"
#include "rift/relay/heartbeat.h"
#include "rift/relay/lease.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sysexits.h>
#include <systemd/sd-daemon.h>
#include <time.h>

#define GROUP        "relay-beat"
#define FILE_DEFAULT "/etc/wavry/relay.conf"
#define ANSWER_MS    4000
#define METRICS_MAX  (256u << 10)
#define METRICS_S    2

static const struct wv_config_entry table[] = {
    {"gateway", WV_CONFIG_STRING, "", 0, 0, NULL,
     "URL of the gateway: https://HOST or https://HOST:PORT. Needed."},
    {"name", WV_CONFIG_STRING, "", 0, 0, NULL,
     "The relay's name, as the gateway's administrator gave it. Needed."},
    {"key_file", WV_CONFIG_STRING, "/var/lib/wavry-relay-beat/key", 0, 0, NULL,
     "The relay's signing key; made on first use when missing."},
    {"ca_file", WV_CONFIG_STRING, "", 0, 0, NULL,
     "Certificates (PEM) that may vouch for the gateway; empty: the system's."},
    {"metrics_socket", WV_CONFIG_STRING, "/run/wavry-relay/metrics.sock", 0, 0, NULL,
     "Where the relay serves its metrics."},
    {"total_kbps", WV_CONFIG_INT, "1000000", 1, 100000000, NULL,
     "What the relay can carry in kbit/s: its load is said as a part of that."},
    {"interval_s", WV_CONFIG_INT, "5", 1, 10, NULL, "Seconds between heartbeats; gateways forget after 15."},
};

/* What its libraries need beside an event loop: names are looked up anew for each connection. */
static const char *const syscalls[] = {"bind", NULL};

static const struct wv_sandbox sandbox = {
    .syscalls = syscalls,
    .network = true,
    .watches_addresses = true, /* the C library's, to order addresses */
    .file_reads = true,
    .threads_later = true, /* the C library's, for some resolvers */
    .max_memory_bytes = 1u << 30,
    .max_files = 64,
};

static volatile sig_atomic_t stopping;

static void on_signal(int number)
{
    stopping = 1;
}

struct numbers {
    uint64_t leases, draining, bytes;
};

/* ---- the relay's metrics ---- */

static int ask_metrics(const char *path, char *ret, size_t capacity)
{
    struct sockaddr_un name = {.sun_family = AF_UNIX};
    const struct timeval wait = {.tv_sec = METRICS_S};
    static const char request[] = "GET /metrics HTTP/1.1\r\nHost: relay\r\nConnection: close\r\n\r\n";
    size_t used = 0;
    if ((size_t)snprintf(name.sun_path, sizeof name.sun_path, "%s", path) >= sizeof name.sun_path)
        return -ENAMETOOLONG;
    wv_cleanup(wv_close_p) int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof wait) < 0 ||
        connect(fd, (struct sockaddr *)&name, sizeof name) < 0 ||
        send(fd, request, sizeof request - 1, MSG_NOSIGNAL) != (ssize_t)sizeof request - 1)
        return -errno;
    for (ssize_t n; used < capacity - 1; used += (size_t)n) {
        n = recv(fd, ret + used, capacity - 1 - used, 0);
        if (n < 0)
            return -errno;
        if (n == 0)
            break;
    }
    ret[used] = '\0';
    return 0;
}

/* The value of the line that begins with NAME. Returns whether there is one. */
static bool value(const char *text, const char *name, uint64_t *ret)
{
    size_t len = strlen(name);
    for (const char *line = text; line; line = strchr(line, '\n'), line += line != NULL) {
        if (strncmp(line, name, len) != 0 || (line[len] != ' ' && line[len] != '{'))
            continue;
        const char *space = strchr(line, ' ');
        double number = space ? strtod(space, NULL) : -1;
        if (number < 0 || number > 1e18)
            return false;
        *ret = (uint64_t)number;
        return true;
    }
    return false;
}

static int read_numbers(const char *path, struct numbers *ret)
{
    static char text[METRICS_MAX];
    int r = ask_metrics(path, text, sizeof text);
    if (r < 0)
        return r;
    return value(text, "wavry_relay_leases", &ret->leases) &&
                   value(text, "wavry_relay_draining", &ret->draining) &&
                   value(text, "wavry_relay_forwarded_bytes_total", &ret->bytes)
               ? 0
               : -EBADMSG;
}

/* ---- the key ---- */

/* Reads the key at PATH, or makes it. Returns 0 or a negative errno. */
static int open_key(const char *path, struct rift_identity *ret)
{
    char text[RIFT_IDENTITY_TEXT_BYTES + 1];
    struct stat st;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0 && errno == ENOENT) {
        rift_identity_generate(ret);
        rift_identity_format(ret, text);
        fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
        int r = fd < 0 ? -errno : write(fd, text, strlen(text)) == (ssize_t)strlen(text) ? 0 : -EIO;
        if (r == 0 && fsync(fd) < 0)
            r = -errno;
        wv_close(fd);
        explicit_bzero(text, sizeof text);
        return r;
    }
    ssize_t n = fd < 0 || fstat(fd, &st) < 0 ? -1 : read(fd, text, sizeof text);
    int r = n < 0 ? -errno : st.st_mode & 077 ? -EACCES : rift_identity_parse(text, (size_t)n, ret);
    explicit_bzero(text, sizeof text);
    wv_close(fd);
    return r;
}

/* ---- beats ---- */

static uint32_t load_of(const struct numbers *before, const struct numbers *now, uint64_t ns,
                        int64_t total_kbps)
{
    if (now->bytes < before->bytes || ns == 0)
        return 0; /* the relay was started again */
    double kbps = (double)(now->bytes - before->bytes) * 8 * 1e6 / (double)ns;
    return (uint32_t)WV_MIN(kbps * 1000 / (double)total_kbps, 1000.0);
}

static int send_beat(struct wv_gateway *g, const struct rift_heartbeat *beat, const struct rift_identity *id,
                     struct wv_gateway_answer *a)
{
    uint8_t signature[RIFT_HEARTBEAT_SIGNATURE_BYTES];
    char text[100], path[RIFT_HEARTBEAT_NAME_MAX + 40];
    snprintf(path, sizeof path, "/v1/relays/%s/heartbeat", beat->relay);
    if (rift_heartbeat_sign(beat, id->sign_secret, signature) < 0)
        return -EINVAL;
    sodium_bin2base64(text, sizeof text, signature, sizeof signature,
                      sodium_base64_VARIANT_URLSAFE_NO_PADDING);
    json_t *body =
        json_pack("{s:I,s:I,s:I,s:b,s:s}", "at", (json_int_t)beat->unix_s, "load", (json_int_t)beat->load,
                  "leases", (json_int_t)beat->leases, "draining", (int)beat->draining, "signature", text);
    int r = wv_gateway_request(g, "POST", path, NULL, body, ANSWER_MS, a);
    json_decref(body);
    wv_gateway_answer_fini(a);
    return r;
}

/* Says a change once, not every beat. */
static void note(int *was, int r, const char *why)
{
    if (*was == r)
        return;
    *was = r;
    if (r == 0)
        wv_notice("the gateway hears this relay", "error=0");
    else
        wv_warning("the gateway does not hear this relay; trying again", "why=\"%s\"", why);
    sd_notifyf(0, "STATUS=%s", r == 0 ? "heard by the gateway" : why);
}

static void beat_once(struct wv_gateway *g, const struct wv_config *c, const struct rift_identity *id,
                      struct numbers *before, uint64_t *at, int *was)
{
    struct numbers now = {0};
    struct wv_gateway_answer a = {0};
    uint64_t now_ns = wv_now_ns();
    int r = read_numbers(wv_config_string(c, "metrics_socket"), &now);
    if (r < 0) { /* a relay that does not answer is not to be chosen: no beat */
        note(was, r, "the relay's metrics can't be read: is it running, and this user in its group?");
        return;
    }
    const struct rift_heartbeat beat = {
        .relay = wv_config_string(c, "name"),
        .unix_s = (uint64_t)time(NULL),
        .load = load_of(before, &now, *at ? now_ns - *at : 0, wv_config_int(c, "total_kbps")),
        .leases = (uint32_t)WV_MIN(now.leases, (uint64_t)UINT32_MAX),
        .draining = now.draining != 0};
    *before = now;
    *at = now_ns;
    r = send_beat(g, &beat, id, &a);
    note(was, r, a.sentence);
}

static int run(const struct wv_config *c, const struct wv_gateway_url *url, const struct rift_identity *id)
{
    struct wv_gateway *g;
    struct numbers before = {0};
    uint64_t at = 0;
    int was = 1 << 20;
    const struct sigaction action = {.sa_handler = on_signal};
    if (wv_gateway_new(&g, wv_config_string(c, "ca_file")) < 0) {
        wv_error("can't start: the file of ca_file can't be read", "path=\"%s\"",
                 wv_config_string(c, "ca_file"));
        return EX_CONFIG;
    }
    wv_gateway_aim(g, url);
    int r = wv_sandbox_enter(&sandbox);
    if (r < 0) {
        wv_error("the process can't be locked down", "error=\"%s\"", strerror(-r));
        wv_gateway_free(g);
        return EX_OSERR;
    }
    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGINT, &action, NULL);
    sd_notify(0, "READY=1");
    while (!stopping) {
        beat_once(g, c, id, &before, &at, &was);
        struct timespec pause = {.tv_sec = wv_config_int(c, "interval_s")};
        if (!stopping)
            (void)nanosleep(&pause, NULL);
    }
    wv_gateway_free(g);
    return EX_OK;
}

/* ---- the command line ---- */

static const struct wv_program program = {
    .name = "wavry-relay-beat",
    .usage = "wavry-relay-beat: tells a gateway that the relay on this machine lives, and how busy it is.\n",
    .file = FILE_DEFAULT,
    .group = GROUP,
    .groups = "relay|" GROUP,
    .config = table,
    .n_config = WV_ARRAY_SIZE(table),
    .flag = "print-key",
    .flag_help = "print the relay's public key, for the gateway's administrator",
};

/* Returns 0, or a negative errno with a sentence. */
static int interpret(const struct wv_config *c, struct wv_gateway_url *ret_url, char **ret_message)
{
    const char *name = wv_config_string(c, "name");
    if (!*name || strlen(name) > RIFT_HEARTBEAT_NAME_MAX || strpbrk(name, "/?# %") ||
        wv_gateway_url_parse(wv_config_string(c, "gateway"), ret_url) < 0)
        return wv_complain(ret_message,
                           "gateway (https://HOST) and name are needed, in [" GROUP "] of " FILE_DEFAULT);
    return 0;
}

static int work(const struct wv_program_line *l, const struct wv_config *c)
{
    struct rift_identity id;
    struct wv_gateway_url url;
    char key[RIFT_SIGN_KEY_TEXT_BYTES], *message = NULL;
    const char *path = wv_config_string(c, "key_file");
    if (!l->flag && interpret(c, &url, &message) < 0)
        return wv_program_fail(&program, EX_CONFIG, message);
    if (l->check)
        return EX_OK;
    int r = open_key(path, &id);
    if (r < 0) {
        wv_complain(&message, "the key %s can't be used: %s", path, strerror(-r));
        return wv_program_fail(&program, EX_NOINPUT, message);
    }
    if (l->flag) {
        rift_sign_key_format(id.sign_public, key);
        puts(key);
        r = EX_OK;
    } else {
        r = wv_sandbox_prepare() < 0 ? EX_OSERR : run(c, &url, &id);
    }
    rift_identity_wipe(&id);
    return r;
}

int main(int argc, char **argv)
{
    struct wv_config *c;
    struct wv_program_line l;
    wv_log_init("relay-beat", WV_LOG_INFO);
    if (rift_crypto_init() < 0)
        return EX_OSERR;
    int code = wv_program_begin(&program, &l, argc, argv, &c);
    if (code >= 0)
        return code;
    if (l.level >= 0)
        wv_log_set_level((enum wv_log_level)l.level);
    code = work(&l, c);
    wv_config_free(c);
    return code;
}
