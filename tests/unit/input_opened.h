/* What the host's input stage does with an input event of a session, for tests of sessions. */
#pragma once

#include "rift/core/input.h"

/* Opens E under KEY. Returns 0 or -EBADMSG; that an event is in range is asserted by who asks. */
static inline int input_opened(const uint8_t key[RIFT_INNER_KEY_BYTES], const struct rift_event *e,
                               struct rift_input_event *ret_event)
{
    uint8_t plain[RIFT_INPUT_PLAIN_BYTES];
    struct wv_reader r;
    int result = rift_input_open(key, e->input.seq, e->input.sealed, plain);
    if (result < 0)
        return result;
    wv_reader_init(&r, plain, sizeof plain);
    *ret_event = rift_input_event_read(&r);
    return 0;
}
