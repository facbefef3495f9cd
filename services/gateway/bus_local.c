/* The bus of gateways within one process and one thread: a single gateway, as a rule, that talks to nobody.
 * See bus.h. */
#include "services/gateway/bus_internal.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct local {
    struct wv_bus base;
    struct local *next, *before; /* a ring of all that reach each other */
    struct wv_bus_queue queue;
    bool told_up;
};

static struct local *local(struct wv_bus *b)
{
    return (struct local *)b;
}

static void hand(struct local *to, const void *data, size_t len)
{
    if (wv_bus_queue_put(&to->queue, NULL, data, len) < 0)
        to->base.dropped++;
    else
        to->base.calls.wake(to->base.calls.userdata);
}

static int local_publish(struct wv_bus *b, const char *to, const void *data, size_t len)
{
    for (struct local *other = local(b)->next; other != local(b); other = other->next)
        if (!to || !strcmp(to, other->base.self))
            hand(other, data, len);
    return 0;
}

static void local_dispatch(struct wv_bus *b)
{
    struct local *l = local(b);
    if (!l->told_up) {
        l->told_up = true;
        b->calls.state(b->calls.userdata, true);
    }
    for (int i = 0; i < WV_BUS_TURN_MESSAGES && l->queue.first; i++) {
        struct wv_bus_item *item = wv_bus_queue_take(&l->queue);
        b->received++;
        b->calls.message(b->calls.userdata, item->data, item->len);
        free(item);
    }
    if (l->queue.first)
        b->calls.wake(b->calls.userdata);
}

static bool local_is_up(const struct wv_bus *b)
{
    return true;
}

static void local_close(struct wv_bus *b)
{
    struct local *l = local(b);
    l->before->next = l->next;
    l->next->before = l->before;
    wv_bus_queue_clear(&l->queue);
    free(l);
}

static const struct wv_bus_ops local_ops = {
    .kind = "local",
    .publish = local_publish,
    .dispatch = local_dispatch,
    .is_up = local_is_up,
    .close = local_close,
};

int wv_bus_open_local(struct wv_bus **ret, struct wv_bus *beside, const char *self,
                      const struct wv_bus_calls *calls)
{
    if (!wv_bus_is_id(self) || (beside && beside->ops != &local_ops))
        return -EINVAL;
    struct local *l = calloc(1, sizeof *l);
    if (!l)
        return -ENOMEM;
    l->base.ops = &local_ops;
    l->base.calls = *calls;
    snprintf(l->base.self, sizeof l->base.self, "%s", self);
    wv_bus_queue_init(&l->queue);
    l->next = l->before = l;
    if (beside) {
        l->next = local(beside)->next;
        l->before = local(beside);
        l->next->before = l->before->next = l;
    }
    *ret = &l->base;
    calls->wake(calls->userdata);
    return 0;
}
