/* The keeper: the tiny process above the supervisor in standalone mode. It plays the service manager's part,
 * so that the supervisor itself can be killed: it holds the parked descriptors (sd_notify's FDSTORE), starts
 * the supervisor again, and takes in the stages that a dead supervisor leaves. It parses nothing but those
 * messages, and has no other door. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#define WV_KEEPER_NAME_MAX 64

enum wv_notify_kind {
    WV_NOTIFY_OTHER = 0, /* nothing for us in it */
    WV_NOTIFY_STORE = 1,
    WV_NOTIFY_REMOVE = 2,
    WV_NOTIFY_READY = 4,
    WV_NOTIFY_STOPPING = 8,
};

/* What a notification asks for, as or-ed enum wv_notify_kind, and the descriptor name ("stored" when there is
 * none) in RET_NAME. Foreign bytes; a name that no service manager would take makes it WV_NOTIFY_OTHER. */
unsigned wv_notify_parse(const char *data, size_t len, char ret_name[WV_KEEPER_NAME_MAX]);

/* Runs ARGV (this program again, with "--kept") until it ends for good. Returns its exit code. */
int wv_keeper_run(const char *runtime, const char *state, char **argv);
