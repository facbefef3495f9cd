/* bench-ice: one end of ICE (RFC 8445), by libnice, for comparison. Says "ready" and begins at the line "go":
 * tells its credentials and candidates as they come (trickle), takes the other end's on its input, and says
 * when a pair works
 * ("connected MS") and when ICE has chosen one ("chosen MS LOCAL REMOTE", the kinds of its candidates). Must
 * never be part of the product. */
#include "lib/base/util.h"

#include <errno.h>
#include <glib-unix.h>
#include <nice/agent.h>
#include <stdio.h>
#include <string.h>
#include <sysexits.h>

#define PORT       3478
#define LINE_BYTES 1024

struct end {
    NiceAgent *agent;
    GMainLoop *loop;
    guint stream;
    uint64_t begin_ns;
    bool connected;
    char line[LINE_BYTES];
    size_t len;
};

static uint64_t ms_since(const struct end *e)
{
    return (wv_now_ns() - e->begin_ns) / WV_NS_PER_MS;
}

static const char *kind_of(const NiceCandidate *c)
{
    switch (c->type) {
    case NICE_CANDIDATE_TYPE_HOST:
        return "host";
    case NICE_CANDIDATE_TYPE_SERVER_REFLEXIVE:
        return "reflexive";
    case NICE_CANDIDATE_TYPE_PEER_REFLEXIVE:
        return "peer";
    case NICE_CANDIDATE_TYPE_RELAYED:
        break;
    }
    return "relayed";
}

/* ---- what ICE says ---- */

static void on_candidate(NiceAgent *agent, NiceCandidate *candidate, gpointer userdata)
{
    g_autofree char *text = nice_agent_generate_local_candidate_sdp(agent, candidate);
    printf("candidate %s\n", text);
}

static void on_gathered(NiceAgent *agent, guint stream, gpointer userdata)
{
    puts("done");
}

static void on_state(NiceAgent *agent, guint stream, guint component, guint state, gpointer userdata)
{
    struct end *e = userdata;
    NiceCandidate *local, *remote;
    if ((state == NICE_COMPONENT_STATE_CONNECTED || state == NICE_COMPONENT_STATE_READY) && !e->connected) {
        e->connected = true;
        printf("connected %llu\n", (unsigned long long)ms_since(e));
    }
    if (state == NICE_COMPONENT_STATE_READY &&
        nice_agent_get_selected_pair(agent, stream, component, &local, &remote))
        printf("chosen %llu %s %s\n", (unsigned long long)ms_since(e), kind_of(local), kind_of(remote));
    if (state == NICE_COMPONENT_STATE_FAILED)
        printf("failed %llu\n", (unsigned long long)ms_since(e));
}

static void on_data(NiceAgent *agent, guint stream, guint component, guint len, char *data, gpointer userdata)
{
}

/* ---- what the other end says ---- */

static void begin(struct end *e)
{
    g_autofree char *name = NULL, *password = NULL;
    e->begin_ns = wv_now_ns();
    nice_agent_get_local_credentials(e->agent, e->stream, &name, &password);
    printf("credentials %s %s\n", name, password);
    nice_agent_gather_candidates(e->agent, e->stream);
}

static void obey(struct end *e, const char *line)
{
    char name[257], password[257];
    if (!strcmp(line, "go")) {
        begin(e);
    } else if (sscanf(line, "credentials %256s %256s", name, password) == 2) {
        nice_agent_set_remote_credentials(e->agent, e->stream, name, password);
    } else if (!strncmp(line, "candidate ", 10)) {
        NiceCandidate *c = nice_agent_parse_remote_candidate_sdp(e->agent, e->stream, line + 10);
        GSList one = {.data = c};
        if (c)
            nice_agent_set_remote_candidates(e->agent, e->stream, 1, &one);
        nice_candidate_free(c);
    } else if (!strcmp(line, "done")) {
        nice_agent_peer_candidate_gathering_done(e->agent, e->stream);
    }
}

static gboolean on_input(gint fd, GIOCondition condition, gpointer userdata)
{
    struct end *e = userdata;
    char *newline;
    ssize_t n = read(fd, e->line + e->len, sizeof e->line - e->len - 1);
    if (n <= 0) {
        g_main_loop_quit(e->loop);
        return G_SOURCE_REMOVE;
    }
    e->len += (size_t)n;
    e->line[e->len] = '\0';
    while ((newline = strchr(e->line, '\n'))) {
        *newline = '\0';
        obey(e, e->line);
        e->len -= (size_t)(newline + 1 - e->line);
        memmove(e->line, newline + 1, e->len + 1);
    }
    return G_SOURCE_CONTINUE;
}

static void make_agent(struct end *e, bool controlling, const char *server)
{
    GMainContext *context = g_main_loop_get_context(e->loop);
    e->agent = nice_agent_new(context, NICE_COMPATIBILITY_RFC5245);
    g_object_set(e->agent, "controlling-mode", (gboolean)controlling, "upnp", FALSE, "ice-tcp", FALSE,
                 "ice-trickle", TRUE, "stun-server", server, "stun-server-port", (guint)PORT, NULL);
    g_signal_connect(e->agent, "new-candidate-full", G_CALLBACK(on_candidate), e);
    g_signal_connect(e->agent, "candidate-gathering-done", G_CALLBACK(on_gathered), e);
    g_signal_connect(e->agent, "component-state-changed", G_CALLBACK(on_state), e);
    e->stream = nice_agent_add_stream(e->agent, 1);
    nice_agent_set_relay_info(e->agent, e->stream, 1, server, PORT, "wavry", "wavry",
                              NICE_RELAY_TYPE_TURN_UDP);
    nice_agent_attach_recv(e->agent, e->stream, 1, context, on_data, e);
}

int main(int argc, char **argv)
{
    struct end e = {0};
    if (argc != 3 || (strcmp(argv[1], "controlling") != 0 && strcmp(argv[1], "controlled") != 0)) {
        fputs("usage: bench-ice controlling|controlled ADDRESS-OF-STUN-AND-TURN\n", stderr);
        return EX_USAGE;
    }
    setvbuf(stdout, NULL, _IOLBF, 0);
    e.loop = g_main_loop_new(NULL, FALSE);
    make_agent(&e, !strcmp(argv[1], "controlling"), argv[2]);
    g_unix_fd_add(STDIN_FILENO, G_IO_IN | G_IO_HUP, on_input, &e);
    puts("ready");
    g_main_loop_run(e.loop);
    g_object_unref(e.agent);
    g_main_loop_unref(e.loop);
    return EX_OK;
}
