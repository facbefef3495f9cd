/* wavry-transport: the one process of the host that faces the network. It must never have the display,
 * devices, files, the host key, or a socket other than the one that it was given. */
#include "lib/base/log.h"
#include "lib/base/util.h"
#include "lib/stage/stage.h"
#include "rift/core/delta.h"
#include "services/transport/metrics.h"
#include "services/transport/transport.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

static const struct wv_config_entry config[] = {
    {"congestion", WV_CONFIG_CHOICE, "delta", 0, 0, "delta|fixed",
     "How the bitrate is chosen: delta follows what the path carries, fixed is always bitrate_kbps."},
    {"mode", WV_CONFIG_CHOICE, "latency", 0, 0, "latency|throughput",
     "What delta prefers: the shortest queues, or a few points more of the path."},
    {"fec", WV_CONFIG_CHOICE, "auto", 0, 0, "auto|off",
     "Repairs for lost datagrams, as many as a client's losses call for; with delta only."},
    {"bitrate_kbps", WV_CONFIG_INT, "20000", 100, 1000000, NULL, "Highest bitrate of the video in kbit/s."},
    {"min_bitrate_kbps", WV_CONFIG_INT, "500", 64, 1000000, NULL,
     "Bitrate in kbit/s that is sent even where the path seems to carry less."},
    {"start_bitrate_kbps", WV_CONFIG_INT, "8000", 100, 1000000, NULL,
     "Bitrate in kbit/s to begin with, before the path is known."},
    {"max_fps", WV_CONFIG_INT, "60", 1, 240, NULL, "Pictures a second at most."},
    {"max_sessions", WV_CONFIG_INT, "8", 1, WV_TRANSPORT_MAX_SESSIONS, NULL, "Clients at once at most."},
    {"pacing_kbps", WV_CONFIG_INT, "100000", 1000, 10000000, NULL,
     "Rate in kbit/s at which the datagrams of a frame leave, for each client; with delta: at most."},
    {"burst_bytes", WV_CONFIG_INT, "65536", 2400, 4194304, NULL,
     "Bytes that may leave at once after a pause, for each client."},
    {"host_name", WV_CONFIG_STRING, "", 0, 0, NULL, "Name that clients show for this host; empty: its own."},
};

static const struct wv_sandbox sandbox = {
    .max_memory_bytes = 2u << 30,
    .max_files = 128,
};

static void set_status(void *userdata, const char *text)
{
    wv_stage_status(userdata, "%s", text);
}

static void drained(void *userdata)
{
    wv_stage_drained(userdata);
}

static uint32_t at_most_bitrate(struct wv_config *c, const char *key)
{
    int64_t kbps = wv_config_int(c, key), most = wv_config_int(c, "bitrate_kbps");
    return (uint32_t)WV_MIN(kbps, most) * 1000u;
}

static int open_stage(struct wv_stage *stage, void **ret_context)
{
    struct wv_config *c = wv_stage_config(stage);
    char name[65] = "host";
    const char *why, *configured = wv_config_string(c, "host_name");
    (void)gethostname(name, sizeof name - 1);
    const struct wv_transport_setup setup = {
        .loop = wv_stage_loop(stage),
        .metrics = wv_stage_metrics(stage),
        .udp_fd = wv_stage_fd(stage, "udp"),
        .au_entries_fd = wv_stage_fd(stage, "au-entries"),
        .au_reader_fd = wv_stage_fd(stage, "au-reader"),
        .au_event_fd = wv_stage_fd(stage, "au-event"),
        .session_page_fd = wv_stage_fd(stage, "session-page"),
        .session_vault_fd = wv_stage_fd(stage, "session-vault"),
        .host_name = *configured ? configured : name,
        .bitrate_bps = (uint32_t)wv_config_int(c, "bitrate_kbps") * 1000u,
        .congestion = strcmp(wv_config_string(c, "congestion"), "delta") == 0 ? &rift_delta : NULL,
        .fec = strcmp(wv_config_string(c, "fec"), "auto") == 0,
        .mode = strcmp(wv_config_string(c, "mode"), "latency") == 0 ? RIFT_CC_LATENCY : RIFT_CC_THROUGHPUT,
        .min_bps = at_most_bitrate(c, "min_bitrate_kbps"),
        .start_bps = at_most_bitrate(c, "start_bitrate_kbps"),
        .max_fps = (uint32_t)wv_config_int(c, "max_fps"),
        .max_sessions = (uint32_t)wv_config_int(c, "max_sessions"),
        .pacing_bps = (uint64_t)wv_config_int(c, "pacing_kbps") * 1000,
        .burst_bytes = (uint32_t)wv_config_int(c, "burst_bytes"),
        .status = set_status,
        .drained = drained,
        .userdata = stage,
    };
    struct wv_transport *t;
    int r = wv_transport_new(&t, &setup, &why);
    if (r < 0) {
        wv_error("can't start: something that the supervisor grants is missing or wrong",
                 "what=\"%s\" error=\"%s\"", why, strerror(-r));
        return r;
    }
    *ret_context = t;
    return 0;
}

static int start(struct wv_stage *stage, void *context)
{
    const struct wv_transport_links links = {
        .encoder = wv_stage_link(stage, "encoder"),
        .capture = wv_stage_link(stage, "capture"),
        .input = wv_stage_link(stage, "input"),
        .identity = wv_stage_link(stage, "identity"),
        .reach = wv_stage_link(stage, "reach"),
    };
    return wv_transport_start(context, &links);
}

static void drain(struct wv_stage *stage, void *context)
{
    if (wv_stage_is_restarting(stage))
        wv_transport_hand_over(context);
    else
        wv_transport_drain(context);
}

static void close_stage(struct wv_stage *stage, void *context)
{
    wv_transport_free(context);
}

int main(int argc, char **argv)
{
    static const struct wv_stage_definition definition = {
        .name = "transport",
        .summary = "Carries pictures to clients and their input back, over one UDP socket.",
        .config = config,
        .n_config = WV_ARRAY_SIZE(config),
        .metrics = wv_transport_metrics,
        .n_metrics = WV_T_METRICS,
        .rules = wv_transport_rules,
        .n_rules = WV_TRANSPORT_RULES,
        .sandbox = &sandbox,
        .open = open_stage,
        .start = start,
        .drain = drain,
        .close = close_stage,
    };
    return wv_stage_main(&definition, argc, argv);
}
