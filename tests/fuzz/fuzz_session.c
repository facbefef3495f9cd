/* Datagrams before authentication: whatever comes, a session drops it and is none the worse. The keys are
 * those of WIRE.md section 8, so that its datagrams, in the corpus, get through and their mutations come
 * close. */
#include "lib/base/util.h"
#include "rift/core/session.h"
#include "tests/known.h"

#include <string.h>

#define START (1000 * WV_NS_PER_MS)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static struct rift_session *new_session(enum rift_role role)
{
    bool host = role == RIFT_ROLE_HOST;
    struct rift_session_config c = {.role = role};
    c.local_id = host ? 0x14131211 : 0x04030201;
    c.remote_id = host ? 0x04030201 : 0x14131211;
    for (int i = 0; i < RIFT_KEY_BYTES; i++) {
        c.key_send[i] = (uint8_t)(host ? i + 32 : i);
        c.key_receive[i] = (uint8_t)(host ? i : i + 32);
    }
    struct rift_session *s;
    if (rift_session_new(&s, &c, START) < 0)
        abort();
    return s;
}

static void try_session(enum rift_role role, const uint8_t *data, size_t len)
{
    struct rift_session *s = new_session(role);
    struct rift_session_stats before, after;
    struct rift_event e;
    uint8_t out[RIFT_MTU_BYTES];
    size_t out_len;
    while (rift_session_send(s, known_forget(out, sizeof out), sizeof out, START, &out_len) == 0)
        ;
    uint64_t timeout = rift_session_timeout(s);
    for (int i = 0; i < 2; i++) {
        rift_session_get_stats(s, &before);
        int r = rift_session_receive(s, data, len, START + WV_NS_PER_MS);
        rift_session_get_stats(s, &after);
        bool dropped = after.dropped_auth + after.dropped_malformed + after.dropped_replay ==
                       before.dropped_auth + before.dropped_malformed + before.dropped_replay + 1;
        if (r == RIFT_SESSION_DROPPED && (!dropped || after.packets_received != before.packets_received ||
                                          (i == 0 && (timeout != rift_session_timeout(s) ||
                                                      rift_session_next_event(s, &e) != RIFT_SESSION_NONE))))
            abort();
        if (i == 1 && r == 0)
            abort(); /* a replay */
    }
    rift_session_free(s);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    uint32_t id;
    rift_datagram_receiver(data, len, &id);
    try_session(RIFT_ROLE_HOST, data, len);
    try_session(RIFT_ROLE_CLIENT, data, len);
    return 0;
}
