/* What a session does about the way its datagrams go: addresses, and what was measured of a path. */
#include "rift/core/session_internal.h"

#include <string.h>

uint16_t rift_session_fragment_bytes(const struct rift_session *s)
{
    size_t head = RIFT_FRAGMENT_HEAD;
    if (s->repair.encoder)
        head = RIFT_FRAME_HEADER_BYTES + RIFT_FEC_HEAD_BYTES(RIFT_FEC_WINDOW);
    return (uint16_t)(s->mtu.current - RIFT_SEAL_BYTES - head);
}

void rift_session_new_path(struct rift_session *s, uint64_t now)
{
    rift_timing_reset(&s->timing, now);
    rift_mtu_reset(&s->mtu, now);
    rift_marks_reset(&s->marks, s->packet.next_counter);
    rift_rate_new_path(&s->rate, now);
    if (s->split)
        rift_split_resize(s->split, rift_session_fragment_bytes(s));
}

void rift_session_path_result(struct rift_session *s, int result, uint64_t now)
{
    if (result != RIFT_PATH_CHANGED)
        return;
    s->stats.path_changes++;
    s->path_unstored = true;
    rift_session_new_path(s, now);
}

void rift_session_mtu_result(struct rift_session *s, int result, uint64_t now)
{
    if (result == 0 || !s->split)
        return;
    if (result == RIFT_MTU_CHANGED) {
        rift_split_resize(s->split, rift_session_fragment_bytes(s));
    } else if (rift_split_shrink(s->split, rift_session_fragment_bytes(s))) {
        s->key_wanted = true; /* sooner than the client can know that it needs one */
        s->key_told = true;
        s->key_told_ns = now;
    }
}

void rift_session_path_copy(struct rift_session *s, const uint8_t *address, const uint8_t *datagram,
                            size_t len, uint64_t now)
{
    uint64_t counter;
    if (address && !s->closed && rift_path_wants_copy(&s->path, address) &&
        rift_packet_is_copy(&s->packet, datagram, len, now, &counter))
        rift_session_path_result(s, rift_path_on_copy(&s->path, counter, now), now);
}

void rift_session_path_datagram(struct rift_session *s, const uint8_t *address, uint64_t counter, size_t len,
                                uint64_t now)
{
    if (!address)
        return;
    struct rift_path_arrival a = {
        .address = address,
        .counter = counter,
        .newest = counter == s->packet.highest,
        .len = len,
        .rtt_ns = s->timing.srtt_ns,
        .rtt_var_ns = s->timing.rttvar_ns,
    };
    rift_session_path_result(s, rift_path_on_datagram(&s->path, &a, now), now);
}

void rift_session_get_address(const struct rift_session *s, uint8_t ret_address[RIFT_ADDRESS_BYTES])
{
    memcpy(ret_address, s->path.current, RIFT_ADDRESS_BYTES);
}

void rift_session_move_to(struct rift_session *s, const uint8_t address[RIFT_ADDRESS_BYTES], uint64_t now)
{
    if (!s->closed)
        rift_session_path_result(s, rift_path_move_to(&s->path, address, now), now);
}

void rift_session_path_changed(struct rift_session *s, uint64_t now)
{
    if (!s->closed)
        rift_session_new_path(s, now);
}
