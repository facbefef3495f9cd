/* Who is who on a host: the stages, the descriptors that each is granted, and which two talk over which link.
 * Everything is a const table; nothing here is decided at run time. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#define WV_WIRING_STAGES 6

enum wv_vault_kind {
    WV_VAULT_RAW_RING, /* this item and the next: frames, reader */
    WV_VAULT_RAW_READER,
    WV_VAULT_AU_RING, /* this item and the next: entries, reader */
    WV_VAULT_AU_READER,
    WV_VAULT_EVENT,
    WV_VAULT_INPUT_PAGE,
    WV_VAULT_SESSION_PAGE,
    WV_VAULT_SESSION_VAULT, /* what transport must remember to go on with its sessions */
    WV_VAULT_IDENTITY_PAGE, /* what identity must remember of the live sessions: their inner keys and grants
                             */
    WV_VAULT_METRICS,
    WV_VAULT_UDP,
    WV_VAULT_UINPUT, /* only where the machine has it */
};

/* A descriptor that outlives every process; the name is also its name in the fd store. */
struct wv_vault_item {
    const char *name;
    enum wv_vault_kind kind;
    const char *writer; /* the stage whose user owns a memory object; NULL: the supervisor */
};

extern const struct wv_vault_item wv_vault_items[];
extern const size_t wv_vault_n_items;

struct wv_wiring_fd {
    const char *name; /* as the stage knows it; NULL ends the list */
    const char *item;
    bool read_only;
};

struct wv_wiring_stage {
    const char *name, *program, *user;
    bool display; /* is told where the display is */
    bool spare;   /* systemd may start a second process that waits for the first to end */
    bool state;   /* has a folder of its own for what must survive */
    bool network; /* keeps the machine's network: it makes connections of its own */
    struct wv_wiring_fd fds[9];
};

extern const struct wv_wiring_stage wv_wiring_stages[WV_WIRING_STAGES];

struct wv_wiring_link {
    const char *binder, *connector;
};

extern const struct wv_wiring_link wv_wiring_links[];
extern const size_t wv_wiring_n_links;

int wv_wiring_find(const char *stage); /* index or -1 */
/* Whether every name in the tables is known to the table that it points to; a test asks. */
bool wv_wiring_agrees(void);
