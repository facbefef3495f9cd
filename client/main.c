/* wavry-client: shows a host's desktop in a window (or, headless, nowhere) and sends it the person's input.
 * This file joins the library, the window and the files that a session leaves; it knows nothing of packets.
 */
#include "client/app.h"
#include "client/find.h"
#include "client/numbers.h"
#include "client/reasons.h"
#include "client/snapshot.h"
#include "client/trust.h"
#include "lib/base/util.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sysexits.h>

#define TIMER_SLACK_NS 1000UL

void app_say(const char *text)
{
    fprintf(stderr, "wavry-client: %s\n", text);
}

static void quit(struct app *a)
{
    if (a->client)
        wv_client_close(a->client);
    wv_loop_quit(a->loop, 0);
}

/* ---- what the connection tells ---- */

static void on_state(void *userdata, enum wv_client_state state, enum wv_client_reason reason,
                     const char *text)
{
    struct app *a = userdata;
    if (state == WV_CLIENT_CLOSED)
        return;
    a->reason = reason;
    snprintf(a->reason_text, sizeof a->reason_text, "%s", reason == WV_CLIENT_REASON_NONE ? "" : text);
    char line[WV_CLIENT_TEXT_BYTES + 32];
    bool again = state == WV_CLIENT_LOST || state == WV_CLIENT_RECONNECTING || state == WV_CLIENT_CONNECTING;
    snprintf(line, sizeof line, "%s%s", text, again ? " Trying again." : "");
    app_say(line);
    if (reason == WV_CLIENT_REASON_HOST_KEY)
        app_shout_key(a);
    wv_timeline_note(a->timeline, state == WV_CLIENT_CONNECTED ? "connected" : "unconnected");
    if (state == WV_CLIENT_CONNECTED && !a->connected_once)
        app_find_remember(a);
    if (state == WV_CLIENT_CONNECTED)
        a->connected_once = true;
    if (a->window)
        wv_window_notice(a->window, state == WV_CLIENT_CONNECTED ? "" : line);
    if (state == WV_CLIENT_REFUSED)
        wv_loop_quit(a->loop, 0);
}

static void on_access_unit(void *userdata, const struct rift_frame_meta *meta, const uint8_t *data,
                           size_t len)
{
    struct app *a = userdata;
    if (a->recorder)
        wv_recorder_add(a->recorder, meta, data, len);
}

static void on_picture(void *userdata, const struct wv_client_picture *picture)
{
    struct app *a = userdata;
    if (!a->window || wv_window_show(a->window, picture))
        wv_client_presented(a->client, wv_now_ns());
    wv_timeline_note(a->timeline, "picture");
    a->picture_copy = *picture;
    a->picture = &a->picture_copy;
}

static void on_cursor(void *userdata, const struct rift_cursor *cursor)
{
    struct app *a = userdata;
    if (a->window)
        wv_window_cursor(a->window, cursor);
}

static void on_cursor_image(void *userdata, uint32_t shape_id, uint32_t width, uint32_t height,
                            uint32_t hot_x, uint32_t hot_y, const uint8_t *bgra)
{
    struct app *a = userdata;
    if (a->window)
        wv_window_cursor_image(a->window, shape_id, width, height, hot_x, hot_y, bgra);
}

static void show_title(struct app *a)
{
    char title[512];
    bool watching = !a->controls || wv_config_bool(a->options.config, "view_only");
    snprintf(title, sizeof title, "%s%s - Wavry (Ctrl+Alt+Shift+Q quits%s)",
             a->host_name[0] ? a->host_name : a->options.host, watching ? " [watching]" : "",
             !a->controls && a->may_control ? ", Ctrl+Alt+Shift+C takes control" : "");
    wv_window_title(a->window, title);
}

static void on_host_hello(void *userdata, const char *name, uint32_t width, uint32_t height, bool controls,
                          const char *notice)
{
    struct app *a = userdata;
    a->controls = controls;
    snprintf(a->host_name, sizeof a->host_name, "%s", name);
    if (*notice)
        app_say(notice);
    if (!a->window)
        return;
    show_title(a);
    wv_window_notice(a->window, notice);
}

static void on_standing(void *userdata, const struct wv_client_standing *standing)
{
    struct app *a = userdata;
    bool view_only = wv_config_bool(a->options.config, "view_only");
    bool lost = a->controls && !standing->controls;
    a->may_control = standing->grants & WV_CLIENT_GRANT_INPUT && !view_only;
    a->controls = standing->controls;
    if (a->may_control && !a->controls && !a->control_taken &&
        wv_config_bool(a->options.config, "take_control"))
        wv_client_take_control(a->client, false);
    else if (a->may_control && !a->controls && a->window)
        app_say(lost ? "Another client controls now. Ctrl+Alt+Shift+C in the window takes control back."
                     : "Watching only, for another client controls. Ctrl+Alt+Shift+C in the window takes "
                       "control.");
    a->control_taken = true; /* once: two clients that both insist would take it from each other for ever */
}

/* ---- what the person does ---- */

static void on_input(void *userdata, const struct rift_input_event *event)
{
    struct app *a = userdata;
    if (a->client)
        wv_client_send_input(a->client, event, NULL);
}

static void on_flush(void *userdata)
{
    struct app *a = userdata;
    if (a->client)
        wv_client_flush(a->client);
}

static void on_quit(void *userdata)
{
    struct app *a = userdata;
    if (a->client)
        quit(a);
}

static void on_control_key(void *userdata)
{
    struct app *a = userdata;
    if (!a->client)
        return;
    if (wv_config_bool(a->options.config, "view_only"))
        app_say("This client was started to watch only (--view-only).");
    else if (wv_client_take_control(a->client, a->controls) == -EPERM)
        app_say("The host has not granted input to this client.");
}

static int on_signal(void *userdata, int signal, uint64_t now)
{
    struct app *a = userdata;
    a->interrupted = true;
    quit(a);
    return 0;
}

static void on_record_trouble(void *userdata, const char *text)
{
    app_say(text);
}

/* ---- time ---- */

/* The time that a person gave may end before the first try does: then nothing was said yet. */
static void say_unanswered(struct app *a)
{
    if (a->connected_once || a->reason != WV_CLIENT_REASON_NONE || app_find_has_said(a))
        return;
    char where[sizeof a->options.host + 16];
    wv_host_format(a->options.host, a->options.port, where, sizeof where);
    a->reason = WV_CLIENT_REASON_ABSENT;
    wv_reason_text(a->reason, where, "", "", a->reason_text);
    app_say(a->reason_text);
}

static int on_second(void *userdata, uint64_t now)
{
    struct app *a = userdata;
    app_say_path(a);
    if (app_find_elsewhere(a)) {
        a->dial_next = true;
        wv_loop_quit(a->loop, 0);
        return 0;
    }
    if (a->recorder)
        wv_recorder_poll(a->recorder);
    if (a->window && wv_window_wants_stats(a->window)) {
        struct wv_client_stats stats;
        char text[1024];
        wv_client_get_stats(a->client, &stats);
        wv_numbers_overlay(&stats, wv_window_renderer_name(a->window), text, sizeof text);
        wv_window_stats(a->window, text);
    }
    uint64_t give_up = (uint64_t)wv_config_int(a->options.config, "give_up") * WV_NS_PER_S;
    bool hopeless = !a->connected_once && give_up && now - a->started >= give_up;
    if (hopeless || (a->deadline && now >= a->deadline)) {
        say_unanswered(a);
        quit(a);
    }
    return 0;
}

static int watch_time(struct app *a)
{
    a->started = wv_now_ns();
    int64_t seconds = wv_config_int(a->options.config, "seconds");
    if (seconds)
        a->deadline = a->started + (uint64_t)seconds * WV_NS_PER_S;
    int r = wv_loop_add_timer(a->loop, on_second, a, &a->second);
    if (r == 0)
        wv_loop_timer_every(a->second, WV_NS_PER_S / 4);
    return r;
}

/* ---- beginning and end ---- */

static int open_window(struct app *a)
{
    struct wv_config *config = a->options.config;
    if (wv_config_bool(config, "headless"))
        return 0;
    const char *renderer = wv_config_string(config, "renderer");
    char title[300];
    snprintf(title, sizeof title, "%s - Wavry", a->options.host);
    const struct wv_window_options options = {
        .title = title,
        .width = a->options.width,
        .height = a->options.height,
        .fullscreen = wv_config_bool(config, "fullscreen"),
        .grab = wv_config_bool(config, "grab"),
        .view_only = wv_config_bool(config, "view_only"),
        .overlay = wv_config_bool(config, "stats"),
        .renderer = strcmp(renderer, "gpu") == 0       ? WV_RENDERER_GPU
                    : strcmp(renderer, "surface") == 0 ? WV_RENDERER_SURFACE
                                                       : WV_RENDERER_AUTO,
    };
    const struct wv_window_callbacks callbacks = {
        .input = on_input, .flush = on_flush, .quit = on_quit, .control = on_control_key};
    int r = wv_window_new(&a->window, a->loop, &options, &callbacks, a);
    if (r == 0)
        return 0;
    const char *detail = SDL_GetError();
    fprintf(stderr,
            "wavry-client: No window can be opened: %s. Start it inside a desktop session (is DISPLAY or "
            "WAYLAND_DISPLAY set?), or use --headless.\n",
            *detail ? detail : strerror(-r));
    return EX_UNAVAILABLE;
}

static int open_recorder(struct app *a)
{
    const char *path = wv_config_string(a->options.config, "record");
    if (!*path)
        return 0;
    int r = wv_recorder_new(&a->recorder, path, on_record_trouble, a);
    if (r == 0)
        return 0;
    if (r == -ENOSYS)
        app_say("Recording needs GStreamer's plug-ins: apt-get install gstreamer1.0-plugins-good "
                "gstreamer1.0-plugins-bad");
    else
        fprintf(stderr, "wavry-client: The recording %s can't be written: %s\n", path, strerror(-r));
    return r == -ENOSYS ? EX_UNAVAILABLE : EX_CANTCREAT;
}

static int open_timeline(struct app *a)
{
    const char *path = wv_config_string(a->options.config, "timeline");
    int r = *path ? wv_timeline_new(&a->timeline, path) : 0;
    if (r < 0) {
        fprintf(stderr, "wavry-client: The timeline %s can't be written: %s\n", path, strerror(-r));
        return EX_CANTCREAT;
    }
    wv_timeline_note(a->timeline, "started");
    return 0;
}

static int open_client(struct app *a)
{
    struct wv_client_options options = {
        .host = a->address[0] ? a->address : a->options.host,
        .port = a->address[0] ? a->address_port : a->options.port,
        .ways = app_ways(a),
        .identity = &a->identity,
        .host_key = a->host_key,
        .view_only = wv_config_bool(a->options.config, "view_only"),
        .decode_threads = (unsigned)wv_config_int(a->options.config, "decode_threads"),
    };
    if (a->window) {
        int width, height;
        wv_window_size(a->window, &width, &height);
        options.width = (uint32_t)width;
        options.height = (uint32_t)height;
    }
    const struct wv_client_callbacks callbacks = {
        .state = on_state,
        .access_unit = on_access_unit,
        .picture = on_picture,
        .cursor = on_cursor,
        .cursor_image = on_cursor_image,
        .host_hello = on_host_hello,
        .standing = on_standing,
    };
    int r = wv_client_new(&a->client, a->loop, &options, &callbacks, a);
    if (r == 0)
        return app_find_start(a, a->client);
    if (r == -ENOSYS)
        app_say("H.264 can't be decoded: GStreamer's libav plug-in is missing. apt-get install "
                "gstreamer1.0-libav");
    else
        fprintf(stderr, "wavry-client: The client can't be started: %s\n", strerror(-r));
    return r == -ENOSYS ? EX_UNAVAILABLE : EX_OSERR;
}

static int exit_code(const struct app *a, const struct wv_client_stats *stats)
{
    if (stats->state == WV_CLIENT_REFUSED)
        return a->reason == WV_CLIENT_REASON_PROTOCOL ? EX_PROTOCOL : EX_NOPERM;
    if (stats->frames_shown > 0)
        return 0;
    if (!a->connected_once && a->reason == WV_CLIENT_REASON_NAME)
        return EX_NOHOST;
    if (!a->connected_once && a->reason == WV_CLIENT_REASON_BUSY)
        return EX_TEMPFAIL;
    if (!a->connected_once && app_find_is_denied(a))
        return EX_NOPERM;
    /* A person who closes the window at once has seen what they wanted. */
    return a->connected_once && !a->deadline ? 0 : EX_UNAVAILABLE;
}

/* Writes what the session leaves behind. Returns the program's exit code. */
static int leave(struct app *a)
{
    struct wv_client_stats stats;
    wv_client_get_stats(a->client, &stats);
    int code = exit_code(a, &stats);
    const char *snapshot = wv_config_string(a->options.config, "snapshot");
    const char *json = wv_config_string(a->options.config, "stats_json");
    a->recorder = wv_recorder_free(a->recorder);
    if (*snapshot && !a->picture) {
        fprintf(stderr, "wavry-client: No picture came, so %s was not written.\n", snapshot);
        snapshot = "";
    } else if (*snapshot) {
        int r = wv_snapshot_write(snapshot, a->picture);
        if (r < 0) {
            fprintf(stderr, "wavry-client: The picture %s can't be written: %s\n", snapshot, strerror(-r));
            code = code ? code : EX_CANTCREAT;
            snapshot = "";
        }
    }
    int r = *json
                ? wv_numbers_write_json(json, &stats, wv_client_address(a->client), a->reason_text, snapshot)
                : 0;
    if (r < 0) {
        fprintf(stderr, "wavry-client: The numbers %s can't be written: %s\n", json, strerror(-r));
        code = code ? code : EX_CANTCREAT;
    }
    return code;
}

static int start_loop(struct app *a)
{
    if (wv_loop_new(&a->loop) < 0 || wv_loop_add_signal(a->loop, SIGINT, on_signal, a) < 0 ||
        wv_loop_add_signal(a->loop, SIGTERM, on_signal, a) < 0 ||
        wv_loop_add_signal(a->loop, SIGHUP, on_signal, a) < 0)
        return EX_OSERR;
    signal(SIGPIPE, SIG_IGN);
    prctl(PR_SET_TIMERSLACK, TIMER_SLACK_NS);
    return 0;
}

static int run(struct app *a)
{
    int r = open_recorder(a);
    if (r == 0)
        r = open_window(a);
    if (r == 0)
        r = open_client(a);
    if (r != 0)
        return r;
    if (watch_time(a) < 0)
        return EX_OSERR;
    if (a->window) {
        char text[320];
        snprintf(text, sizeof text, "Connecting to %s", a->options.host);
        wv_window_notice(a->window, text);
    }
    r = wv_loop_run(a->loop);
    if (a->dial_next) {
        app_find_stop(a);
        a->client = wv_client_free(a->client);
        a->finder = app_finder_free(a->finder);
        a->dial_next = false;
        int code = open_client(a);
        if (code != 0)
            return code;
        r = wv_loop_run(a->loop);
    }
    return r < 0 ? EX_SOFTWARE : leave(a);
}

/* What the command line asks for. */
static int act(struct app *a)
{
    if (a->options.action == WV_OPTIONS_PRINT_KEY) {
        char key[RIFT_PUBLIC_KEY_TEXT_BYTES];
        rift_public_key_format(a->identity.public, key);
        puts(key);
        return 0;
    }
    int r = start_loop(a);
    if (r == 0 && (a->options.action == WV_OPTIONS_PAIR || a->options.have_url))
        r = app_pair(a);
    return r == 0 && a->options.action == WV_OPTIONS_RUN ? run(a) : r;
}

int main(int argc, char **argv)
{
    static struct app app;
    int r = wv_options_read(&app.options, argc, argv);
    if (r != 0 || app.options.action == WV_OPTIONS_DONE) {
        wv_options_fini(&app.options);
        return r;
    }
    if (rift_crypto_init() < 0) {
        app_say("The cryptography library does not start.");
        return EX_OSERR;
    }
    r = open_timeline(&app);
    if (r == 0)
        r = app_load_trust(&app);
    if (r == 0)
        r = act(&app);
    wv_recorder_free(app.recorder);
    wv_timeline_free(app.timeline);
    app_find_stop(&app);
    app.client = wv_client_free(app.client);
    app.finder = app_finder_free(app.finder);
    wv_window_free(app.window);
    wv_loop_free(app.loop);
    rift_identity_wipe(&app.identity);
    explicit_bzero(&app.options.url, sizeof app.options.url);
    wv_options_fini(&app.options);
    return r;
}
