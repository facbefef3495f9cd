#include "tests/unit/transport_waits.h"

#include <stdio.h>
#include <string.h>

struct kit kit;

void setup(void)
{
    kit_init(&kit, 8, false);
}

void teardown(void)
{
    kit_fini(&kit);
}

bool client_is_closed(struct kit *k, void *argument)
{
    return ((struct kit_client *)argument)->closed;
}

static bool viewers_are(struct kit *k, void *argument)
{
    return k->encoder_viewers == *(uint32_t *)argument && k->capture_viewers == *(uint32_t *)argument;
}

bool has_frames(struct kit *k, void *argument)
{
    return ((struct kit_client *)argument)->n_frames > 0;
}

bool has_event(struct kit *k, void *argument)
{
    return k->n_events > 0;
}

bool has_release(struct kit *k, void *argument)
{
    return k->n_releases > 0;
}

bool controls(struct kit *k, void *argument)
{
    return ((struct kit_client *)argument)->controls;
}

/* The page is written some times a second. */
static bool page_shows(struct kit *k, void *argument)
{
    struct wv_session_record record;
    unsigned shown = 0;
    for (unsigned i = 0; i < WV_SESSIONS_MAX; i++)
        shown += wv_session_page_get(k->page, i, &record) == 0 && record.name[0];
    return shown == *(unsigned *)argument;
}

void wait_page(unsigned n)
{
    kit_until(&kit, page_shows, &n);
}

void wait_viewers(uint32_t n)
{
    kit_until(&kit, viewers_are, &n);
}

struct metric_wait {
    enum wv_transport_metric id;
    uint64_t least;
};

static bool metric_reached(struct kit *k, void *argument)
{
    const struct metric_wait *w = argument;
    return kit_metric(k, w->id) >= w->least;
}

void wait_metric(enum wv_transport_metric id, uint64_t least)
{
    struct metric_wait w = {id, least};
    kit_until(&kit, metric_reached, &w);
}

void connect_client(struct kit_client *c, uint8_t seed, bool view_only)
{
    kit_authorize(&kit, seed, "somebody");
    kit_client_init(&kit, c, seed, view_only);
    kit_client_connected(&kit, c);
}

void connect_controller(struct kit_client *c, uint8_t seed)
{
    connect_client(c, seed, false);
    kit_until(&kit, controls, c);
}

bool is_drained(struct kit *k, void *argument)
{
    return k->drained;
}
