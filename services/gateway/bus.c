/* What is the same for every kind of bus. See bus.h. */
#include "services/gateway/bus_internal.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void wv_bus_queue_init(struct wv_bus_queue *q)
{
    *q = (struct wv_bus_queue){.last = &q->first};
}

int wv_bus_queue_put(struct wv_bus_queue *q, const char *to, const void *data, size_t len)
{
    if (q->messages >= WV_BUS_QUEUE_MESSAGES || q->bytes + len > WV_BUS_QUEUE_BYTES)
        return -ENOBUFS;
    struct wv_bus_item *item = malloc(sizeof *item + len);
    if (!item)
        return -ENOMEM;
    item->next = NULL;
    snprintf(item->to, sizeof item->to, "%s", to ? to : "");
    item->len = len;
    memcpy(item->data, data, len);
    *q->last = item;
    q->last = &item->next;
    q->messages++;
    q->bytes += len;
    return 0;
}

struct wv_bus_item *wv_bus_queue_take(struct wv_bus_queue *q)
{
    struct wv_bus_item *item = q->first;
    if (!item)
        return NULL;
    q->first = item->next;
    if (!q->first)
        q->last = &q->first;
    q->messages--;
    q->bytes -= item->len;
    return item;
}

size_t wv_bus_queue_clear(struct wv_bus_queue *q)
{
    size_t n = 0;
    for (struct wv_bus_item *item; (item = wv_bus_queue_take(q)); n++)
        free(item);
    return n;
}

bool wv_bus_is_id(const char *id)
{
    size_t len = strnlen(id, WV_BUS_ID_BYTES);
    return len > 0 && len < WV_BUS_ID_BYTES &&
           strspn(id, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-") == len;
}

int wv_bus_open(struct wv_bus **ret, const char *url, const char *self, const struct wv_bus_calls *calls,
                char reason[WV_BUS_REASON_BYTES])
{
    char nowhere[WV_BUS_REASON_BYTES];
    if (!reason)
        reason = nowhere;
    if (!wv_bus_is_id(self)) {
        snprintf(reason, WV_BUS_REASON_BYTES, "a gateway's id is 1 to 32 letters and digits");
        return -EINVAL;
    }
    if (!strcmp(url, "local:"))
        return wv_bus_open_local(ret, NULL, self, calls);
    if (!strncmp(url, "nats://", 7) || !strncmp(url, "tls://", 6))
        return wv_bus_open_nats(ret, url, self, calls, reason);
    snprintf(reason, WV_BUS_REASON_BYTES, "a bus is \"local:\" or \"nats://HOST:PORT\", not \"%.100s\"", url);
    return -EINVAL;
}

struct wv_bus *wv_bus_close(struct wv_bus *b)
{
    if (b)
        b->ops->close(b);
    return NULL;
}

int wv_bus_publish(struct wv_bus *b, const char *to, const void *data, size_t len)
{
    if (to && (!wv_bus_is_id(to) || !strcmp(to, b->self)))
        return -EINVAL;
    if (len == 0 || len > WV_BUS_MESSAGE_BYTES)
        return -EMSGSIZE;
    int r = b->ops->publish(b, to, data, len);
    if (r < 0)
        b->refused++;
    else
        b->sent++;
    return r;
}

void wv_bus_dispatch(struct wv_bus *b)
{
    b->ops->dispatch(b);
}

bool wv_bus_is_up(const struct wv_bus *b)
{
    return b->ops->is_up(b);
}

const char *wv_bus_kind(const struct wv_bus *b)
{
    return b->ops->kind;
}

void wv_bus_numbers(const struct wv_bus *b, struct wv_bus_numbers *ret)
{
    *ret = (struct wv_bus_numbers){.sent = b->sent,
                                   .received = b->received,
                                   .refused = b->refused,
                                   .dropped = b->dropped,
                                   .reconnects = b->reconnects};
}
