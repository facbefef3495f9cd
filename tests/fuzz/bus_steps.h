/* For the fuzz targets of stages: an input is a row of steps, each a byte that chooses, a byte of length, and
 * so many bytes. A step that chooses a message goes through the bus's own judgement under the stage's own
 * table, as it would from a taken-over neighbour. Must never know what a handler does. */
#pragma once

#include "lib/base/util.h"
#include "lib/ipc/bus_internal.h"

#include <stdlib.h>
#include <string.h>

struct bus_step {
    uint8_t op;
    const uint8_t *data;
    size_t len;
};

/* Takes the next step off the input; false: there is none. */
static inline bool bus_next_step(const uint8_t **data, size_t *len, struct bus_step *ret)
{
    if (*len < 2)
        return false;
    size_t n = WV_MIN((size_t)(*data)[1], *len - 2);
    *ret = (struct bus_step){.op = (*data)[0], .data = *data + 2, .len = n};
    *data += 2 + n;
    *len -= 2 + n;
    return true;
}

/* Delivers what the step holds as the message of rule OP. What the handler says is fatal is returned. */
static inline int bus_deliver_step(struct bus_dispatcher *d, const struct wv_bus_rule *rules, size_t n_rules,
                                   const struct bus_step *step, uint64_t now)
{
    const struct wv_bus_rule *rule = &rules[step->op % n_rules];
    const char *name = rule->type->name;
    return bus_dispatch(d, rule->sender, 2, name, strlen(name), step->data, step->len, now);
}
