/* wavry-notify: tells the person at this desktop, by desktop notifications, who is connected to the host here
 * and who controls it. It looks at the host's table of sessions and at nothing else, needs no privileges
 * beyond being allowed to ask the host, and must never keep quiet about a session that it has seen. */
#include "ctl/ctl.h"
#include "lib/base/util.h"

#include <errno.h>
#include <getopt.h>
#include <gio/gio.h>
#include <glib-unix.h>
#include <string.h>
#include <sysexits.h>

#define LOOK_MS      500u
#define TRY_AGAIN_MS 3000u
#define CALL_MS      2000
/* Who controls is decided just after a session began: one that is younger and does not may yet do so. */
#define SETTLE_NS WV_NS_PER_S

/* What was said about one session. */
struct shown {
    uint32_t id; /* 0: free */
    char name[64];
    bool controls, told, present;
    bool ever_told; /* something of it was shown */
    uint64_t since_ns;
    uint32_t bubble; /* the notification's, to be replaced by the next one */
};

struct notify {
    struct wv_ctl ctl;
    GDBusConnection *bus;
    GMainLoop *loop;
    struct shown shown[WV_SESSIONS_MAX];
    bool complained;
};

/* Returns 0, or a negative errno: nobody shows notifications now. */
static int show(struct notify *n, struct shown *s, const char *summary, bool urgent)
{
    GVariantBuilder actions, hints;
    GError *error = NULL;
    g_variant_builder_init(&actions, G_VARIANT_TYPE("as"));
    g_variant_builder_init(&hints, G_VARIANT_TYPE("a{sv}"));
    g_variant_builder_add(&hints, "{sv}", "urgency", g_variant_new_byte(urgent ? 2 : 1));
    g_variant_builder_add(&hints, "{sv}", "category", g_variant_new_string("presence"));
    GVariant *answer = g_dbus_connection_call_sync(
        n->bus, "org.freedesktop.Notifications", "/org/freedesktop/Notifications",
        "org.freedesktop.Notifications", "Notify",
        g_variant_new("(susssasa{sv}i)", "Wavry", s->bubble, "preferences-desktop-remote-desktop", summary,
                      "wavryctl sessions says more; wavryctl revoke KEY ends it.", &actions, &hints,
                      urgent ? 0 : -1),
        G_VARIANT_TYPE("(u)"), G_DBUS_CALL_FLAGS_NONE, CALL_MS, NULL, &error);
    if (answer) {
        printf("%s\n", summary);
        g_variant_get(answer, "(u)", &s->bubble);
        g_variant_unref(answer);
        n->complained = false;
        return 0;
    }
    if (!n->complained)
        fprintf(stderr, "wavry-notify: notifications can't be shown: %s\n", error->message);
    n->complained = true;
    g_error_free(error);
    return -EIO;
}

static void tell(struct notify *n, struct shown *s)
{
    char text[160];
    if (!s->ever_told && !s->controls && wv_now_ns() - s->since_ns < SETTLE_NS)
        return;
    snprintf(text, sizeof text, "%s %s", s->name[0] ? s->name : "Somebody",
             s->controls ? "is connected and controls this computer"
                         : "is connected and watches this computer");
    s->told = show(n, s, text, s->controls) == 0; /* else again at the next look */
    s->ever_told |= s->told;
}

static void tell_gone(struct notify *n, struct shown *s)
{
    char text[160];
    snprintf(text, sizeof text, "%s %s", s->name[0] ? s->name : "Somebody",
             s->ever_told ? "is no longer connected" : "was connected to this computer");
    show(n, s, text, false);
    *s = (struct shown){0};
}

static struct shown *find(struct notify *n, uint32_t id)
{
    for (size_t i = 0; i < WV_SESSIONS_MAX; i++)
        if (n->shown[i].id == id)
            return &n->shown[i];
    return NULL;
}

static void take(struct notify *n, const struct wv_session_record *record)
{
    struct shown *s = find(n, record->id);
    if (!s && !(s = find(n, 0)))
        return; /* as many places as the host has: one that goes makes room in this very look */
    if (s->id != record->id || s->controls != record->controls)
        s->told = false;
    s->id = record->id;
    s->since_ns = record->since_ns;
    s->controls = record->controls;
    s->present = true;
    snprintf(s->name, sizeof s->name, "%s", record->name);
}

/* Returns whether the host answered. */
static bool look(struct notify *n)
{
    struct wv_ctl_pages pages;
    struct wv_session_record record;
    for (size_t i = 0; i < WV_SESSIONS_MAX; i++)
        n->shown[i].present = false;
    bool answered = wv_ctl_pages_get(&n->ctl, &pages) == 0;
    for (unsigned i = 0; answered && pages.session && i < WV_SESSIONS_MAX; i++)
        if (wv_session_page_get(pages.session, i, &record) == 0)
            take(n, &record);
    if (answered)
        wv_ctl_pages_fini(&pages);
    for (size_t i = 0; i < WV_SESSIONS_MAX; i++) {
        struct shown *s = &n->shown[i];
        if (s->id && !s->present)
            tell_gone(n, s);
        else if (s->id && !s->told)
            tell(n, s);
    }
    return answered;
}

static gboolean on_time(gpointer userdata)
{
    struct notify *n = userdata;
    g_timeout_add(look(n) ? LOOK_MS : TRY_AGAIN_MS, on_time, n);
    return G_SOURCE_REMOVE;
}

static gboolean on_signal(gpointer userdata)
{
    g_main_loop_quit(userdata);
    return G_SOURCE_CONTINUE;
}

static int run(struct notify *n)
{
    GError *error = NULL;
    n->ctl.out = stdout;
    n->ctl.err = fopen("/dev/null", "we"); /* a host that is not there is nothing to complain about */
    n->ctl.answer_ms = 1000;
    if (!n->ctl.err)
        return EX_OSERR;
    n->bus = g_bus_get_sync(G_BUS_TYPE_SESSION, NULL, &error);
    if (!n->bus) {
        fprintf(stderr, "wavry-notify: there is no session bus: %s\n", error->message);
        g_error_free(error);
        return EX_UNAVAILABLE;
    }
    n->loop = g_main_loop_new(NULL, FALSE);
    g_unix_signal_add(SIGTERM, on_signal, n->loop);
    g_unix_signal_add(SIGINT, on_signal, n->loop);
    on_time(n);
    g_main_loop_run(n->loop);
    g_main_loop_unref(n->loop);
    g_object_unref(n->bus);
    fclose(n->ctl.err);
    return EX_OK;
}

static void usage(FILE *out)
{
    fputs("Usage: wavry-notify [--socket PATH]\n\n"
          "Shows desktop notifications of who is connected to the Wavry host of this machine.\n\n"
          "Options:\n"
          "  --socket PATH      The host's control socket; found as by wavryctl if not given.\n"
          "  --version          Print the version.\n"
          "  --help             Print this.\n",
          out);
}

int main(int argc, char **argv)
{
    static const struct option options[] = {{"socket", required_argument, NULL, 's'},
                                            {"version", no_argument, NULL, 'v'},
                                            {"help", no_argument, NULL, 'h'},
                                            {0}};
    static struct notify n;
    int c;
    setvbuf(stdout, NULL, _IOLBF, 0);
    while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
        switch (c) {
        case 's':
            n.ctl.socket = optarg;
            break;
        case 'v':
            puts("wavry-notify " WAVRY_VERSION);
            return EX_OK;
        case 'h':
            usage(stdout);
            return EX_OK;
        default:
            usage(stderr);
            return EX_USAGE;
        }
    }
    if (optind != argc) {
        usage(stderr);
        return EX_USAGE;
    }
    return run(&n);
}
