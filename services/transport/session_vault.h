/* The memory in which sessions outlive the transport's process: fixed slots, two copies each, written in
 * turns, so that a process killed in the middle of a write leaves the state before whole. Everything read
 * from it is foreign. It holds traffic keys and input: it must never reach a file or a core dump, and an
 * ended session's slot is wiped. It never holds the host's identity. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define WV_SESSION_VAULT_SLOTS      32
#define WV_SESSION_VAULT_COPY_BYTES (224u << 10)
#define WV_SESSION_VAULT_HEAD_BYTES 4096u
/* What to create; only pages that were written take memory. Smaller ones have fewer slots. */
#define WV_SESSION_VAULT_BYTES                                                                               \
    (WV_SESSION_VAULT_HEAD_BYTES + 2u * WV_SESSION_VAULT_SLOTS * WV_SESSION_VAULT_COPY_BYTES)
#define WV_SESSION_VAULT_VERSION 2

/* A process that lived less than SETTLED is taken as killed by what the vault holds; two of them in a row, or
 * thirty-two that lived less than GOOD, and the vault is wiped. GOOD is what the supervisor takes as having
 * been of use: who is killed by somebody else, and started again without a pause, must not look as if the
 * vault did it. */
#define WV_SESSION_VAULT_SETTLED_NS UINT64_C(100000000)
#define WV_SESSION_VAULT_GOOD_NS    UINT64_C(1000000000)

struct wv_session_vault;

enum { WV_SESSION_VAULT_EMPTY = 1, WV_SESSION_VAULT_BAD = 2 };

/* Maps the sealed memfd FD, which stays the caller's, and begins a life at NOW. Memory that does not check
 * out is wiped. RET_WIPED: it was, or it is suspected of killing its readers. Returns 0, -EBADMSG (no sealed
 * memfd, or too small for a slot), -ENOMEM, -errno. */
int wv_session_vault_open(struct wv_session_vault **ret, int fd, uint64_t now, bool *ret_wiped);
/* Unmaps; the contents stay. Returns NULL. */
struct wv_session_vault *wv_session_vault_close(struct wv_session_vault *v);

unsigned wv_session_vault_slots(const struct wv_session_vault *v);

/* The newest state of SLOT, copied; valid until the next call. Returns 0, WV_SESSION_VAULT_EMPTY, or
 * WV_SESSION_VAULT_BAD: what was promised to be there is not, and an older state must not stand in for it,
 * for counters after it were used. */
int wv_session_vault_read(struct wv_session_vault *v, unsigned slot, const uint8_t **ret_data,
                          size_t *ret_len);

/* Room for the next state, and its end: LEN bytes of it become the state of SLOT. */
uint8_t *wv_session_vault_room(struct wv_session_vault *v, size_t *ret_capacity);
void wv_session_vault_write(struct wv_session_vault *v, unsigned slot, size_t len);
/* Wipes what the slot holds. */
void wv_session_vault_erase(struct wv_session_vault *v, unsigned slot);

/* Notes how long this life has been. Returns when to be called again, UINT64_MAX: never. */
uint64_t wv_session_vault_live(struct wv_session_vault *v, uint64_t now);
/* An orderly end: this life does not count as one that was cut short. */
void wv_session_vault_leave(struct wv_session_vault *v);
