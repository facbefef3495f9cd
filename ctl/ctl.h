/* wavryctl: what its commands share. Everything that a host says is printed as text that a terminal can be
 * given. */
#pragma once

#include "lib/ipc/metrics.h"
#include "lib/ipc/session_page.h"

#include "proto/bus_control.pb-c.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#define WV_CTL_STAGES_MAX 16
#define WV_CTL_PORT       4820

struct wv_ctl {
    FILE *out, *err;
    const char *command;
    const char *argument; /* STAGE or KEY; NULL: none */
    const char *second;   /* LEVEL; NULL: none */
    const char *socket;   /* --socket; NULL: the default places */
    const char *name;     /* --name */
    const char *grant;    /* --grant LIST; NULL: the usual */
    const char *expires;  /* --expires WHEN; NULL: not said */
    const char *ttl;      /* --ttl; NULL: as usual */
    const char *host;     /* --host: how clients reach this one; NULL: an address of this machine */
    const char *ca_file;  /* --ca-file */
    const char *account;  /* --account */
    bool json, openmetrics;
    bool qr, wait, reopen, cancel; /* of pair */
    uint64_t count;                /* of top: tables to print; 0: for ever */
    uint16_t port;                 /* of doctor */
    unsigned answer_ms;            /* how long an answer may take; 0: 10 s */
    char place[256];               /* where the host was looked for, or answered, last */
};

/* The whole program but for the standard streams. Returns the exit code (sysexits). */
int wv_ctl_main(int argc, char **argv, FILE *out, FILE *err);

/* ---- client.c: the conversation with a host ---- */

/* Asks the host that C means. On success RET (free with wv_ctl_reply_free) holds its answer, whose error may
 * still be negative. Returns 0 or an exit code, after C->err was told why. FDS and RET_N_FDS
 * (WV_FDPASS_MAX_FDS places) may be NULL: descriptors that come are then closed. */
int wv_ctl_ask(struct wv_ctl *c, const char *verb, const char *argument, Wavry__Bus__ControlReply **ret,
               int *ret_fds, size_t *ret_n_fds);
Wavry__Bus__ControlReply *wv_ctl_reply_free(Wavry__Bus__ControlReply *reply);
/* As wv_ctl_ask(), and an answer with an error is told and becomes an exit code. */
int wv_ctl_ask_well(struct wv_ctl *c, const char *verb, const char *argument, Wavry__Bus__ControlReply **ret);
/* As that, and prints the answer's text. Returns an exit code. */
int wv_ctl_order(struct wv_ctl *c, const char *verb, const char *argument);
/* Whether a host answers, without a word on C->err. */
bool wv_ctl_reachable(struct wv_ctl *c);
/* Where the host is looked for: the likeliest place, or the one that answered last. */
const char *wv_ctl_place(struct wv_ctl *c);

/* ---- pages.c: the read-only pages of a host ---- */

struct wv_ctl_pages {
    Wavry__Bus__ControlReply *reply; /* also the stages' state */
    size_t n;
    char names[WV_CTL_STAGES_MAX][32];
    int fds[WV_CTL_STAGES_MAX];
    int session_fd;                  /* -1: none */
    struct wv_session_page *session; /* NULL: none */
};

/* Returns 0 or an exit code, told. */
int wv_ctl_pages_get(struct wv_ctl *c, struct wv_ctl_pages *ret);
void wv_ctl_pages_fini(struct wv_ctl_pages *p);

/* ---- the commands: each returns an exit code ---- */
int wv_ctl_status(struct wv_ctl *c);
int wv_ctl_stages(struct wv_ctl *c);
int wv_ctl_sessions(struct wv_ctl *c);
int wv_ctl_peers(struct wv_ctl *c);
int wv_ctl_authorize(struct wv_ctl *c);
int wv_ctl_grant(struct wv_ctl *c);
int wv_ctl_control(struct wv_ctl *c);
int wv_ctl_pair(struct wv_ctl *c);
int wv_ctl_revoke(struct wv_ctl *c);
int wv_ctl_restart(struct wv_ctl *c);
int wv_ctl_log_level(struct wv_ctl *c);
int wv_ctl_stop(struct wv_ctl *c);
int wv_ctl_metrics(struct wv_ctl *c);
int wv_ctl_top(struct wv_ctl *c);
int wv_ctl_doctor(struct wv_ctl *c);
int wv_ctl_hosts(struct wv_ctl *c);
int wv_ctl_host(struct wv_ctl *c);
int wv_ctl_login(struct wv_ctl *c);
int wv_ctl_logout(struct wv_ctl *c);

/* ---- access.c ---- */

/* "grants=LIST expires=TIME" of C's options, what was not said left out, ending in a space unless empty.
 * Returns 0 or an exit code, told. */
int wv_ctl_terms(struct wv_ctl *c, char *ret, size_t capacity);

/* ---- qr.c ---- */

/* TEXT as a QR code of block characters, COLOURED for any terminal (else dark on light is assumed). Returns 0
 * or a negative errno. */
int wv_ctl_qr(FILE *out, const char *text, bool coloured);
