/* What runs and who is connected: status, stages, sessions; and the commands that restart and stop. */
#include "ctl/ctl.h"

#include "ctl/format.h"
#include "lib/base/util.h"

#include <string.h>
#include <sysexits.h>
#include <time.h>

#define STOP_WAIT_MS 10000

static bool is_ready(const Wavry__Bus__StageState *s)
{
    return strcmp(s->state, "ready") == 0;
}

static void print_state(struct wv_ctl *c, const Wavry__Bus__StageState *s, uint64_t now)
{
    char text[64];
    wv_format_duration(now > s->since_ns ? now - s->since_ns : 0, text, sizeof(text));
    fputs("  ", c->out);
    wv_format_column(c->out, s->name, 12);
    wv_format_column(c->out, s->state, 12);
    fprintf(c->out, " for %s", text);
    if (s->restarts > 0)
        fprintf(c->out, ", %u restart%s", s->restarts, s->restarts == 1 ? "" : "s");
    if (s->retry_at_ns > now) {
        wv_format_duration(s->retry_at_ns - now, text, sizeof(text));
        fprintf(c->out, ", next try in %s", text);
    }
    if (s->status[0]) {
        fputs(": ", c->out);
        wv_format_text(c->out, s->status, false);
    }
    fputc('\n', c->out);
    if (s->last_exit[0] && !is_ready(s)) {
        fputs("      ended last time: ", c->out);
        wv_format_text(c->out, s->last_exit, false);
        fputc('\n', c->out);
    }
    if (s->confinement[0]) {
        fputs("      confined by: ", c->out);
        wv_format_text(c->out, s->confinement, false);
        fputc('\n', c->out);
    }
}

static void json_state(FILE *out, const Wavry__Bus__StageState *s, uint64_t now)
{
    fputs("{\"name\": ", out);
    wv_format_json(out, s->name);
    fputs(", \"state\": ", out);
    wv_format_json(out, s->state);
    fprintf(out, ", \"pid\": %d, \"restarts\": %u, \"for_ms\": %llu, \"retry_in_ms\": %llu, \"last_exit\": ",
            s->pid, s->restarts,
            (unsigned long long)(now > s->since_ns ? (now - s->since_ns) / WV_NS_PER_MS : 0),
            (unsigned long long)(s->retry_at_ns > now ? (s->retry_at_ns - now) / WV_NS_PER_MS : 0));
    wv_format_json(out, s->last_exit);
    fputs(", \"status\": ", out);
    wv_format_json(out, s->status);
    fputs(", \"confinement\": ", out);
    wv_format_json(out, s->confinement);
    fputc('}', out);
}

static void json_states(FILE *out, const Wavry__Bus__ControlReply *reply, uint64_t now)
{
    fputs("\"stages\": [", out);
    for (size_t i = 0; i < reply->n_stages; i++) {
        fputs(i ? ",\n  " : "\n  ", out);
        json_state(out, reply->stages[i], now);
    }
    fputs("]", out);
}

static size_t count_ready(const Wavry__Bus__ControlReply *reply)
{
    size_t ready = 0;
    for (size_t i = 0; i < reply->n_stages; i++)
        ready += is_ready(reply->stages[i]);
    return ready;
}

static unsigned count_sessions(const struct wv_ctl_pages *p)
{
    unsigned n = 0;
    struct wv_session_record record;
    for (unsigned i = 0; p->session && i < WV_SESSIONS_MAX; i++)
        n += wv_session_page_get(p->session, i, &record) == 0;
    return n;
}

static void print_status(struct wv_ctl *c, const struct wv_ctl_pages *p, uint64_t now)
{
    const Wavry__Bus__ControlReply *r = p->reply;
    char up[64];
    wv_format_duration(now > r->started_ns ? now - r->started_ns : 0, up, sizeof(up));
    fputs("host      version ", c->out);
    wv_format_text(c->out, r->version, false);
    fprintf(c->out, ", up %s, at %s\naddress   ", up, wv_ctl_place(c));
    wv_format_text(c->out, r->address[0] ? r->address : "none", false);
    fputs(" (UDP)\nhost key  ", c->out);
    wv_format_text(c->out, r->host_key[0] ? r->host_key : "not known yet", false);
    fprintf(c->out, "\nsessions  %u\nstages    %zu of %zu ready\n", count_sessions(p), count_ready(r),
            r->n_stages);
    for (size_t i = 0; i < r->n_stages; i++)
        print_state(c, r->stages[i], now);
}

static void json_status(struct wv_ctl *c, const struct wv_ctl_pages *p, uint64_t now)
{
    const Wavry__Bus__ControlReply *r = p->reply;
    fputs("{\"version\": ", c->out);
    wv_format_json(c->out, r->version);
    fputs(", \"socket\": ", c->out);
    wv_format_json(c->out, wv_ctl_place(c));
    fputs(", \"address\": ", c->out);
    wv_format_json(c->out, r->address);
    fputs(", \"host_key\": ", c->out);
    wv_format_json(c->out, r->host_key);
    fprintf(c->out, ", \"up_ms\": %llu, \"sessions\": %u, \"ready\": %s, ",
            (unsigned long long)(now > r->started_ns ? (now - r->started_ns) / WV_NS_PER_MS : 0),
            count_sessions(p), count_ready(r) == r->n_stages ? "true" : "false");
    json_states(c->out, r, now);
    fputs("}\n", c->out);
}

int wv_ctl_status(struct wv_ctl *c)
{
    struct wv_ctl_pages p;
    int r = wv_ctl_pages_get(c, &p);
    if (r != 0)
        return r;
    if (c->json)
        json_status(c, &p, wv_now_ns());
    else
        print_status(c, &p, wv_now_ns());
    r = count_ready(p.reply) == p.reply->n_stages ? EX_OK : EX_TEMPFAIL;
    wv_ctl_pages_fini(&p);
    return r;
}

int wv_ctl_stages(struct wv_ctl *c)
{
    Wavry__Bus__ControlReply *reply;
    int r = wv_ctl_ask_well(c, "status", "", &reply);
    if (r != 0)
        return r;
    uint64_t now = wv_now_ns();
    if (c->json) {
        fputc('{', c->out);
        json_states(c->out, reply, now);
        fputs("}\n", c->out);
    } else {
        fputs("STAGE       STATE            PID  RESTARTS  FOR            STATUS\n", c->out);
    }
    for (size_t i = 0; !c->json && i < reply->n_stages; i++) {
        const Wavry__Bus__StageState *s = reply->stages[i];
        char text[64];
        wv_format_column(c->out, s->name, 12);
        wv_format_column(c->out, s->state, 12);
        wv_format_duration(now > s->since_ns ? now - s->since_ns : 0, text, sizeof(text));
        fprintf(c->out, "%8d  %8u  ", s->pid, s->restarts);
        wv_format_column(c->out, text, 15);
        wv_format_text(c->out, s->status[0] || is_ready(s) ? s->status : s->last_exit, false);
        fputc('\n', c->out);
    }
    wv_ctl_reply_free(reply);
    return EX_OK;
}

static void json_session(FILE *out, const struct wv_session_record *s, uint64_t now)
{
    char key[80];
    wv_format_key(s->peer_key, key, sizeof(key));
    fprintf(out, "{\"id\": %u, \"name\": ", s->id);
    wv_format_json(out, s->name);
    fprintf(out, ", \"key\": \"%s\", \"address\": ", key);
    wv_format_json(out, s->address);
    fprintf(out,
            ", \"controls\": %s, \"for_ms\": %llu, \"rtt_us\": %llu, \"bytes_sent\": %llu, "
            "\"bytes_received\": %llu, "
            "\"frames_sent\": %llu, \"frames_lost\": %llu, \"packets_lost\": %llu, \"input_events\": %llu, "
            "\"glass_p50_us\": %llu, \"glass_p99_us\": %llu}",
            s->controls ? "true" : "false",
            (unsigned long long)(now > s->since_ns ? (now - s->since_ns) / WV_NS_PER_MS : 0),
            (unsigned long long)(s->rtt_ns / WV_NS_PER_US), (unsigned long long)s->bytes_sent,
            (unsigned long long)s->bytes_received, (unsigned long long)s->frames_sent,
            (unsigned long long)s->frames_lost, (unsigned long long)s->packets_lost,
            (unsigned long long)s->input_events, (unsigned long long)s->glass_p50_us,
            (unsigned long long)s->glass_p99_us);
}

static void print_session(FILE *out, const struct wv_session_record *s, uint64_t now)
{
    char text[64], rtt[32], p50[32], p99[32];
    wv_format_duration(now > s->since_ns ? now - s->since_ns : 0, text, sizeof(text));
    wv_format_us(s->rtt_ns / WV_NS_PER_US, rtt, sizeof(rtt));
    wv_format_us(s->glass_p50_us, p50, sizeof(p50));
    wv_format_us(s->glass_p99_us, p99, sizeof(p99));
    fprintf(out, "%10u  ", s->id);
    wv_format_column(out, s->name, 20);
    fputc(' ', out);
    wv_format_column(out, s->address, 28);
    fprintf(out, " %-9s %-12s %8s  %8s %8s  %9llu  %6llu\n", s->controls ? "controls" : "views", text, rtt,
            p50, p99, (unsigned long long)s->frames_sent, (unsigned long long)s->frames_lost);
}

int wv_ctl_sessions(struct wv_ctl *c)
{
    struct wv_ctl_pages p;
    int r = wv_ctl_pages_get(c, &p);
    if (r != 0)
        return r;
    if (!p.session) {
        fputs("wavryctl: the host gave no table of sessions\n", c->err);
        wv_ctl_pages_fini(&p);
        return EX_UNAVAILABLE;
    }
    uint64_t now = wv_now_ns();
    unsigned n = 0;
    if (c->json)
        fputs("{\"sessions\": [", c->out);
    for (unsigned i = 0; i < WV_SESSIONS_MAX; i++) {
        struct wv_session_record record;
        if (wv_session_page_get(p.session, i, &record) != 0)
            continue;
        if (c->json)
            fputs(n ? ",\n  " : "\n  ", c->out);
        else if (n == 0)
            fputs("        ID  NAME                 ADDRESS                      ROLE      FOR               "
                  "RTT  "
                  "GLASS 50 GLASS 99     FRAMES    LOST\n",
                  c->out);
        if (c->json)
            json_session(c->out, &record, now);
        else
            print_session(c->out, &record, now);
        n++;
    }
    if (c->json)
        fputs("]}\n", c->out);
    else if (n == 0)
        fputs("nobody is connected\n", c->out);
    wv_ctl_pages_fini(&p);
    return EX_OK;
}

int wv_ctl_restart(struct wv_ctl *c)
{
    return wv_ctl_order(c, "restart", c->argument);
}

int wv_ctl_log_level(struct wv_ctl *c)
{
    char argument[128];
    int n = snprintf(argument, sizeof(argument), "%s %s", c->argument, c->second);
    if (n < 0 || (size_t)n >= sizeof(argument)) {
        fputs("wavryctl: no stage or level has so long a name\n", c->err);
        return EX_DATAERR;
    }
    return wv_ctl_order(c, "log-level", argument);
}

/* Comes back when the host is gone, so that a script may start the next one. */
int wv_ctl_stop(struct wv_ctl *c)
{
    int r = wv_ctl_order(c, "stop", "");
    if (r != 0)
        return r;
    for (int waited = 0; waited < STOP_WAIT_MS; waited += 20) {
        if (!wv_ctl_reachable(c))
            return EX_OK;
        nanosleep(&(struct timespec){.tv_nsec = 20000000}, NULL);
    }
    fprintf(c->err, "wavryctl: the host at %s was asked to stop and is still there after %d s\n",
            wv_ctl_place(c), STOP_WAIT_MS / 1000);
    return EX_TEMPFAIL;
}
