/* What a process before may have left in the session vault: the head and a slot's copies, then the record in
 * them and the relay's part of it. The first byte chooses: whole vault, or a record by itself (which no
 * checksum guards here). */
#include "lib/ipc/memfd.h"
#include "services/transport/session_keep.h"
#include "services/transport/session_vault.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define SLOT_BYTES (WV_SESSION_VAULT_HEAD_BYTES + 2 * WV_SESSION_VAULT_COPY_BYTES)
#define NOW        UINT64_C(1000000000000)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static void read_record(const uint8_t *data, size_t len)
{
    struct wv_session_keep k;
    struct wv_relay *relay;
    struct way way;
    struct wv_reader r;
    uint8_t again[WV_RELAY_STATE_MAX_BYTES + WAY_KEEP_BYTES + 1024];
    struct wv_writer w;
    wv_reader_init(&r, data, len);
    if (wv_relay_new(&relay) < 0)
        abort();
    if (wv_session_keep_read(&r, &k, relay, &way, NOW) == 0) {
        if (strnlen(k.name, sizeof k.name) == sizeof k.name || k.since_ns > NOW ||
            k.controls != (wv_relay_controller(relay) != 0))
            abort();
        k.way = way.used ? &way : NULL;
        wv_writer_init(&w, again, sizeof again);
        wv_session_keep_write(&w, &k, relay);
        if (w.failed || w.length > len)
            abort();
        way_free(&way);
    } else if (wv_relay_controller(relay) || way.used) {
        abort();
    }
    wv_relay_free(relay);
}

static void open_vault(const uint8_t *data, size_t len)
{
    static int fd = -1;
    static uint8_t *memory;
    struct wv_session_vault *v;
    const uint8_t *state;
    size_t n;
    bool wiped;
    void *m;
    if (fd < 0) {
        if (wv_memfd_create("vault", SLOT_BYTES, &fd) < 0 || wv_memfd_map(fd, SLOT_BYTES, true, &m) < 0)
            abort();
        memory = m;
    }
    /* Half of the input lies at the head, half in the first copy. */
    size_t head = len / 2 < 128 ? len / 2 : 128, body = len - head;
    body = body < WV_SESSION_VAULT_COPY_BYTES ? body : WV_SESSION_VAULT_COPY_BYTES;
    memset(memory, 0, 128);
    memcpy(memory, data, head);
    memcpy(memory + WV_SESSION_VAULT_HEAD_BYTES, data + head, body);
    if (wv_session_vault_open(&v, fd, NOW, &wiped) < 0)
        abort();
    int r = wv_session_vault_read(v, 0, &state, &n);
    if (r == 0)
        read_record(state, n);
    wv_session_vault_room(v, &n)[0] = 1;
    wv_session_vault_write(v, 0, 1);
    if (wv_session_vault_read(v, 0, &state, &n) != 0 || n != 1)
        abort();
    wv_session_vault_erase(v, 0);
    wv_session_vault_close(v);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    if (len == 0)
        return 0;
    if (data[0] & 1)
        read_record(data + 1, len - 1);
    else
        open_vault(data + 1, len - 1);
    return 0;
}
