/* The descriptors that must outlive every process: made once, parked with the service manager (the keeper, or
 * systemd), taken back after the supervisor's own restart. */
#pragma once

#include "supervisor/wiring.h"

#include <stdint.h>
#include <sys/types.h>

#define WV_VAULT_MAX           64
#define WV_SESSION_VAULT_BYTES (4096u + 64u * (224u << 10)) /* services/transport/session_vault.h; sparse */
#define WV_IDENTITY_PAGE_BYTES 65536u                       /* services/identity/live_page.h */

struct wv_vault {
    int fds[WV_VAULT_MAX];        /* by index of wv_vault_items; -1 */
    int pidfds[WV_WIRING_STAGES]; /* of stages that ran when the supervisor went away; -1 */
    pid_t pids[WV_WIRING_STAGES];
    bool stale[WV_WIRING_STAGES]; /* something of this stage's had to be made anew: a process of it that runs
                                     holds the wrong descriptors */
    char address[64];             /* of the UDP socket, as a person writes it */
};

struct wv_vault_plan {
    const char *listen; /* "ADDR:PORT", or "" for all addresses */
    uint16_t port;
    const uid_t *uids; /* by stage; NULL: as we are */
    const gid_t *gids;
    bool socket_given; /* the service manager opens the UDP socket; it is never made here */
};

/* Takes what the service manager kept (each checked as foreign), makes what is missing and parks it. Returns
 * 0 or a negative errno, logged in a person's words. */
int wv_vault_open(struct wv_vault *v, const struct wv_vault_plan *plan);
void wv_vault_close(struct wv_vault *v);

int wv_vault_fd(const struct wv_vault *v, const char *item); /* -1: this machine doesn't have it */

/* Remembers which process a stage is, over our own death. */
void wv_vault_park_pid(const char *stage, int pidfd);
void wv_vault_forget_pid(const char *stage);
/* The process of a pidfd, -1 when it is gone. */
pid_t wv_pidfd_pid(int pidfd);

/* ADDR:PORT into a UDP socket (dual stack when LISTEN is ""). RET_ADDRESS is what it is bound to. Returns the
 * fd or a negative errno, logged. */
int wv_udp_bind(const char *listen, uint16_t port, char *ret_address, size_t capacity);
/* Checks that FD is a bound UDP socket and says where. Returns 0, -EBADMSG, negative errno. */
int wv_udp_describe(int fd, char *ret_address, size_t capacity);
