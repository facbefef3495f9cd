/* What this machine has and lacks for a host, and how to get it. Looks only: changes nothing, installs
 * nothing. */
#include "ctl/doctor.h"

#include "ctl/format.h"
#include "lib/base/util.h"

#include <stdarg.h>
#include <string.h>
#include <sysexits.h>
#include <unistd.h>

void wv_doctor_say(struct wv_doctor *d, enum wv_doctor_level level, const char *what, const char *remedy,
                   const char *format, ...)
{
    static const char *const marks[] = {"ok", "weak", "MISSING"};
    static const char *const names[] = {"ok", "note", "missing"};
    char text[512];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    FILE *out = d->c->out;
    if (d->c->json) {
        bool first = d->found[0] + d->found[1] + d->found[2] == 0;
        fprintf(out, "%s{\"what\": ", first ? "\n  " : ",\n  ");
        wv_format_json(out, what);
        fprintf(out, ", \"level\": \"%s\", \"finding\": ", names[level]);
        wv_format_json(out, text);
        fputs(", \"remedy\": ", out);
        wv_format_json(out, remedy ? remedy : "");
        fputc('}', out);
    } else {
        wv_format_column(out, marks[level], 9);
        wv_format_column(out, what, 20);
        wv_format_text(out, text, false);
        fputc('\n', out);
        if (remedy)
            fprintf(out, "%29s-> %s\n", "", remedy);
    }
    d->found[level]++;
}

/* How a host is started here: by systemd where its units are and it runs, else by hand. */
static const char *how_to_start(void)
{
    static const char *const units[] = {"/lib/systemd/system/wavry-host.target",
                                        "/usr/local/lib/systemd/system/wavry-host.target"};
    bool booted = access("/run/systemd/system", F_OK) == 0, there = false;
    for (size_t i = 0; i < WV_ARRAY_SIZE(units); i++)
        there = there || access(units[i], F_OK) == 0;
    if (!booted || !there)
        return "start one: wavry-supervisor --standalone";
    return geteuid() == 0
               ? "start it: systemctl start wavry-host.target; if that was done: systemctl status 'wavry-*'"
               : "start one: systemctl --user start wavry-host.target (yours), or as root without --user";
}

static void check_host(struct wv_doctor *d)
{
    Wavry__Bus__ControlReply *reply;
    struct wv_ctl *c = d->c;
    if (!wv_ctl_reachable(c)) {
        wv_doctor_say(d, WV_DOCTOR_NOTE, "running host", how_to_start(), "none answers on %s",
                      wv_ctl_place(c));
        return;
    }
    char *said = NULL;
    size_t len;
    FILE *err = c->err;
    c->err = open_memstream(&said, &len);
    int r = c->err ? wv_ctl_ask(c, "status", "", &reply, NULL, NULL) : EX_OSERR;
    if (c->err)
        fclose(c->err);
    c->err = err;
    if (r != 0) {
        if (said)
            said[strcspn(said, "\n")] = '\0';
        wv_doctor_say(d, WV_DOCTOR_NOTE, "running host", NULL, "%s", said ? said : "does not answer");
    } else {
        size_t ready = 0;
        for (size_t i = 0; i < reply->n_stages; i++)
            ready += strcmp(reply->stages[i]->state, "ready") == 0;
        bool all = ready == reply->n_stages;
        wv_doctor_say(d, all ? WV_DOCTOR_OK : WV_DOCTOR_NOTE, "running host",
                      all ? NULL : "wavryctl status says what is wrong",
                      "version %s, %zu of %zu stages ready", reply->version, ready, reply->n_stages);
        wv_ctl_reply_free(reply);
    }
    free(said);
}

int wv_ctl_doctor(struct wv_ctl *c)
{
    struct wv_doctor d = {.c = c};
    if (c->json)
        fputs("{\"findings\": [", c->out);
    wv_doctor_display(&d);
    wv_doctor_system(&d);
    check_host(&d);
    unsigned missing = d.found[WV_DOCTOR_MISSING];
    if (c->json)
        fprintf(c->out, "],\n \"missing\": %u, \"ok\": %s}\n", missing, missing ? "false" : "true");
    else if (missing)
        fprintf(c->out, "\n%u thing%s that a host needs %s missing.\n", missing, missing == 1 ? "" : "s",
                missing == 1 ? "is" : "are");
    else
        fputs("\nNothing that a host needs is missing.\n", c->out);
    return missing ? EX_UNAVAILABLE : EX_OK;
}
