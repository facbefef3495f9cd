/* Replay window, RFC 6479: a ring of words where moving forward clears whole words and never shifts bits.
 * The ring is one word larger than the window, so that the oldest word is whole until the window left it.
 * Every index is taken modulo the ring: a state restored from damaged memory can't reach outside. */
#include "rift/crypto/replay.h"

#include <string.h>

void rift_replay_init(struct rift_replay *r)
{
    memset(r, 0, sizeof *r);
}

static uint64_t *word_of(struct rift_replay *r, uint64_t counter)
{
    return &r->words[counter / 64 % RIFT_REPLAY_WORDS];
}

bool rift_replay_check(const struct rift_replay *r, uint64_t counter)
{
    if (counter == UINT64_MAX)
        return false;
    if (counter >= r->next)
        return true;
    if (r->next - counter > RIFT_REPLAY_BITS)
        return false;
    return !(r->words[counter / 64 % RIFT_REPLAY_WORDS] >> (counter % 64) & 1);
}

bool rift_replay_accept(struct rift_replay *r, uint64_t counter)
{
    if (!rift_replay_check(r, counter))
        return false;
    if (counter >= r->next) {
        uint64_t top = r->next ? (r->next - 1) / 64 : 0, fresh = counter / 64 - top;
        for (uint64_t i = 1; i <= fresh && i <= RIFT_REPLAY_WORDS; i++)
            r->words[(top + i) % RIFT_REPLAY_WORDS] = 0;
        r->next = counter + 1;
    }
    *word_of(r, counter) |= UINT64_C(1) << (counter % 64);
    return true;
}
