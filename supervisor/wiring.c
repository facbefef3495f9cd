#include "supervisor/wiring.h"

#include "lib/base/util.h"

#include <string.h>

const struct wv_vault_item wv_vault_items[] = {
    {"raw-frames", WV_VAULT_RAW_RING, "capture"},
    {"raw-reader", WV_VAULT_RAW_READER, "encoder"},
    {"au-entries", WV_VAULT_AU_RING, "encoder"},
    {"au-reader", WV_VAULT_AU_READER, "transport"},
    {"raw-event", WV_VAULT_EVENT, NULL},
    {"boost-event", WV_VAULT_EVENT, NULL},
    {"au-event", WV_VAULT_EVENT, NULL},
    {"input-page", WV_VAULT_INPUT_PAGE, "input"},
    {"session-page", WV_VAULT_SESSION_PAGE, "transport"},
    {"session-vault", WV_VAULT_SESSION_VAULT, "transport"},
    {"identity-page", WV_VAULT_IDENTITY_PAGE, "identity"},
    {"udp", WV_VAULT_UDP, NULL},
    {"uinput", WV_VAULT_UINPUT, NULL}, /* one a device: keyboard, tablet, mouse */
    {"uinput-tablet", WV_VAULT_UINPUT, NULL},
    {"uinput-mouse", WV_VAULT_UINPUT, NULL},
    {"metrics-capture", WV_VAULT_METRICS, "capture"},
    {"metrics-encoder", WV_VAULT_METRICS, "encoder"},
    {"metrics-transport", WV_VAULT_METRICS, "transport"},
    {"metrics-input", WV_VAULT_METRICS, "input"},
    {"metrics-identity", WV_VAULT_METRICS, "identity"},
    {"metrics-reach", WV_VAULT_METRICS, "reach"},
    {"metrics-supervisor", WV_VAULT_METRICS, NULL},
};
const size_t wv_vault_n_items = WV_ARRAY_SIZE(wv_vault_items);

/* Transport and identity bind the links, so they stand first: a link whose binder is up needs no second try.
 */
const struct wv_wiring_stage wv_wiring_stages[WV_WIRING_STAGES] = {
    {.name = "transport",
     .program = "wavry-transport",
     .user = "wavry-transport",
     .spare = true,
     .fds = {{"metrics", "metrics-transport", false},
             {"udp", "udp", false},
             {"au-entries", "au-entries", true},
             {"au-reader", "au-reader", false},
             {"au-event", "au-event", false},
             {"session-page", "session-page", false},
             {"session-vault", "session-vault", false}}},
    {.name = "identity",
     .program = "wavry-identity",
     .user = "wavry-identity",
     .state = true,
     .fds = {{"metrics", "metrics-identity", false}, {"identity-page", "identity-page", false}}},
    {.name = "capture",
     .program = "wavry-capture",
     .user = "wavry-capture",
     .display = true,
     .fds = {{"metrics", "metrics-capture", false},
             {"raw-frames", "raw-frames", false},
             {"raw-reader", "raw-reader", true},
             {"raw-event", "raw-event", false},
             {"boost-event", "boost-event", false},
             {"input-page", "input-page", true}}},
    {.name = "encoder",
     .program = "wavry-encoder",
     .user = "wavry-encoder",
     .fds = {{"metrics", "metrics-encoder", false},
             {"raw-frames", "raw-frames", true},
             {"raw-reader", "raw-reader", false},
             {"raw-event", "raw-event", false},
             {"au-entries", "au-entries", false},
             {"au-reader", "au-reader", true},
             {"au-event", "au-event", false}}},
    {.name = "input",
     .program = "wavry-input",
     .user = "wavry-input",
     .display = true,
     .fds = {{"metrics", "metrics-input", false},
             {"input-page", "input-page", false},
             {"boost-event", "boost-event", false},
             {"uinput", "uinput", false},
             {"uinput-tablet", "uinput-tablet", false},
             {"uinput-mouse", "uinput-mouse", false}}},
    {.name = "reach",
     .program = "wavry-reach",
     .user = "wavry-reach",
     .network = true,
     .fds = {{"metrics", "metrics-reach", false}}},
};

const struct wv_wiring_link wv_wiring_links[] = {
    {"transport", "encoder"},
    {"transport", "capture"},
    {"transport", "input"},
    {"transport", "identity"},
    /* Keys of the inner compartments: past transport, which must not have them. */
    {"identity", "encoder"},
    {"identity", "capture"},
    {"identity", "input"},
    /* Signals of clients that a gateway carries, sealed for identity; where this machine may be reached. */
    {"identity", "reach"},
    {"transport", "reach"},
};
const size_t wv_wiring_n_links = WV_ARRAY_SIZE(wv_wiring_links);

int wv_wiring_find(const char *stage)
{
    for (int i = 0; i < WV_WIRING_STAGES; i++)
        if (!strcmp(wv_wiring_stages[i].name, stage))
            return i;
    return -1;
}

static bool item_exists(const char *name)
{
    for (size_t i = 0; i < wv_vault_n_items; i++)
        if (!strcmp(wv_vault_items[i].name, name))
            return true;
    return false;
}

bool wv_wiring_agrees(void)
{
    for (size_t i = 0; i < WV_WIRING_STAGES; i++)
        for (const struct wv_wiring_fd *f = wv_wiring_stages[i].fds; f->name; f++)
            if (!item_exists(f->item))
                return false;
    for (size_t i = 0; i < wv_vault_n_items; i++)
        if (wv_vault_items[i].writer && wv_wiring_find(wv_vault_items[i].writer) < 0)
            return false;
    for (size_t i = 0; i < wv_wiring_n_links; i++)
        if (wv_wiring_find(wv_wiring_links[i].binder) < 0 || wv_wiring_find(wv_wiring_links[i].connector) < 0)
            return false;
    return true;
}
