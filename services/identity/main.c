/* wavry-identity: holds the host's key and the list of known keys, and runs the cryptography of every
 * handshake. It must never have a network socket, see media or input, or touch a file outside its state
 * directory. */
#include "lib/base/log.h"
#include "lib/base/util.h"
#include "lib/stage/stage.h"
#include "services/identity/identity.h"

#include <errno.h>

static const struct wv_config_entry config[] = {
    {"state_dir", WV_CONFIG_STRING, "/var/lib/wavry/identity", 0, 0, NULL,
     "Directory of this user alone that holds the host's key (identity), the known keys and their grants "
     "(peers) "
     "the count of failed pairings (pairing), and the gateway that this host is registered with (gateway)."},
};

static const struct wv_sandbox sandbox = {
    .file_reads = true,
    .file_writes = true,
    .max_memory_bytes = 512u << 20,
    .max_files = 64,
};

static int send_message(void *userdata, enum wv_identity_to to, const ProtobufCMessage *message)
{
    static const char *const names[WV_IDENTITY_LINKS] = {[WV_TO_TRANSPORT] = "transport",
                                                         [WV_TO_ENCODER] = "encoder",
                                                         [WV_TO_CAPTURE] = "capture",
                                                         [WV_TO_INPUT] = "input",
                                                         [WV_TO_REACH] = "reach"};
    return wv_bus_send(wv_stage_link(userdata, names[to]), message);
}

static int open_stage(struct wv_stage *stage, void **ret_context)
{
    struct wv_identity *id;
    char reason[WV_IDENTITY_REASON_BYTES];
    const char *state_dir = wv_config_string(wv_stage_config(stage), "state_dir");
    int r = wv_identity_new(&id, state_dir, wv_stage_fd(stage, "identity-page"), wv_stage_metrics(stage),
                            wv_now_ns(), reason);
    if (r == 0)
        *ret_context = id;
    else
        wv_stage_status(stage, "%s", reason);
    return r;
}

static int start(struct wv_stage *stage, void *context)
{
    const struct wv_identity_world world = {.send = send_message, .userdata = stage};
    int r = wv_identity_start(context, wv_stage_loop(stage), &world, wv_now_ns());
    if (r == 0)
        wv_stage_status(stage, "answering handshakes");
    return r;
}

static void drain(struct wv_stage *stage, void *context)
{
    wv_stage_drained(stage);
}

static void close_stage(struct wv_stage *stage, void *context)
{
    wv_identity_free(context);
}

static int request(struct wv_stage *stage, void *context, const char *verb, const char *text, char *ret_reply,
                   size_t capacity)
{
    return wv_identity_request(context, verb, text, wv_now_ns(), ret_reply, capacity);
}

int main(int argc, char **argv)
{
    static const struct wv_stage_definition definition = {
        .name = "identity",
        .summary =
            "Holds the host's key and who may do what, answers handshakes, and hands out the inner keys.",
        .config = config,
        .n_config = WV_ARRAY_SIZE(config),
        .metrics = wv_identity_metrics,
        .n_metrics = WV_IDENTITY_METRICS,
        .rules = wv_identity_rules,
        .n_rules = WV_IDENTITY_RULES,
        .sandbox = &sandbox,
        .open = open_stage,
        .start = start,
        .drain = drain,
        .close = close_stage,
        .request = request,
    };
    return wv_stage_main(&definition, argc, argv);
}
