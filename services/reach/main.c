/* wavry-reach: talks to the gateway, the router and the local network so that clients find this host. The
 * only stage that makes connections of its own; it must never have a key, media, input, or a port that others
 * connect to (to the router's announcements, which are multicast, it listens). */
#include "lib/base/log.h"
#include "lib/base/util.h"
#include "lib/stage/stage.h"
#include "services/reach/addresses.h"
#include "services/reach/reach.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static const struct wv_config_entry config[] = {
    {"mdns", WV_CONFIG_BOOL, "false", 0, 0, NULL,
     "Announce this host and its key on the local network; needs avahi-daemon."},
    {"mdns_name", WV_CONFIG_STRING, "", 0, 0, NULL, "Name that is announced; empty: the machine's."},
    {"port_mapping", WV_CONFIG_BOOL, "true", 0, 0, NULL,
     "Ask the router for a port (PCP, NAT-PMP, UPnP) while this host is registered with a gateway."},
    {"ca_file", WV_CONFIG_STRING, "", 0, 0, NULL,
     "Certificates (PEM) that may vouch for the gateway; empty: the system's."},
};

/* What its libraries need beside an event loop: names are read from files, and Avahi's from the message bus.
 */
static const char *const syscalls[] = {"bind",    "socketpair", "newfstatat", "fstatfs",
                                       "getegid", "readlink",   NULL};

static const struct wv_sandbox sandbox = {
    .syscalls = syscalls,
    .network = true,
    .watches_addresses = true,
    .file_reads = true,
    .threads_later = true, /* the C library's, for some resolvers */
    .max_memory_bytes = 1u << 30,
    .max_files = 128,
};

/* One stage is one process. */
static struct {
    struct wv_gateway_live *gateway;
    struct wv_announce *announce;
    struct wv_mapping *mapping;
    struct wv_reach *reach;
    int watch_fd;
    char name[65];
} parts = {.watch_fd = -1};

static int send_message(void *userdata, enum wv_reach_to to, const ProtobufCMessage *message)
{
    return wv_bus_send(wv_stage_link(userdata, to == WV_REACH_TO_IDENTITY ? "identity" : "transport"),
                       message);
}

static void set_status(void *userdata, const char *text)
{
    wv_stage_status(userdata, "%s", text);
}

static void close_parts(void)
{
    wv_reach_free(parts.reach);
    wv_gateway_live_free(parts.gateway);
    wv_announce_free(parts.announce);
    wv_mapping_free(parts.mapping);
    wv_close(parts.watch_fd);
}

/* All threads are made here, before lockdown. */
static int open_parts(struct wv_stage *stage)
{
    struct wv_config *c = wv_stage_config(stage);
    const char *ca_file = wv_config_string(c, "ca_file"), *name = wv_config_string(c, "mdns_name");
    (void)gethostname(parts.name, sizeof parts.name - 1);
    if (*name)
        snprintf(parts.name, sizeof parts.name, "%s", name);
    int r = wv_gateway_live_new(&parts.gateway, ca_file);
    if (r == -ENOENT)
        wv_stage_status(stage, "the file of ca_file can't be read: %s", ca_file);
    if (r == 0 && wv_config_bool(c, "mdns"))
        r = wv_announce_new(&parts.announce);
    if (r == 0 && wv_config_bool(c, "port_mapping"))
        r = wv_mapping_new(&parts.mapping);
    parts.watch_fd = wv_reach_watch(); /* without it addresses are looked at now and then */
    return r;
}

static int open_stage(struct wv_stage *stage, void **ret_context)
{
    int r = open_parts(stage);
    const struct wv_reach_setup setup = {.loop = wv_stage_loop(stage),
                                         .metrics = wv_stage_metrics(stage),
                                         .gateway = parts.gateway,
                                         .announce = parts.announce,
                                         .mapping = parts.mapping,
                                         .name = parts.name,
                                         .watch_fd = parts.watch_fd,
                                         .send = send_message,
                                         .status = set_status,
                                         .userdata = stage};
    if (r == 0)
        r = wv_reach_new(&parts.reach, &setup);
    if (r < 0) {
        wv_error("can't start", "error=\"%s\"", strerror(-r));
        close_parts();
        return r;
    }
    *ret_context = parts.reach;
    return 0;
}

static int start(struct wv_stage *stage, void *context)
{
    return wv_reach_start(context, wv_now_ns());
}

static void drain(struct wv_stage *stage, void *context)
{
    wv_stage_drained(stage);
}

static void close_stage(struct wv_stage *stage, void *context)
{
    close_parts();
}

int main(int argc, char **argv)
{
    static const struct wv_stage_definition definition = {
        .name = "reach",
        .summary = "Finds ways to this host: through a gateway, the router and the local network.",
        .config = config,
        .n_config = WV_ARRAY_SIZE(config),
        .metrics = wv_reach_metrics,
        .n_metrics = WV_REACH_METRICS,
        .rules = wv_reach_rules,
        .n_rules = WV_REACH_RULES,
        .sandbox = &sandbox,
        .open = open_stage,
        .start = start,
        .drain = drain,
        .close = close_stage,
    };
    return wv_stage_main(&definition, argc, argv);
}
