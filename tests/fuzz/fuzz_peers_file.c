/* The text of the list of known keys: what was read is written back whole and reads the same again. */
#include "services/identity/handshakes.h"
#include "services/identity/peers.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    (void)wv_client_hello_check(data, len);
    struct wv_peers *first, *second;
    if (wv_peers_parse(&first, (const char *)data, len, NULL, NULL) < 0)
        return 0;
    char *text;
    size_t text_len;
    if (wv_peers_format(first, &text, &text_len) < 0)
        abort();
    /* Only a missing newline at the end may be added. */
    if (text_len < len || text_len > len + 1 || memcmp(text, data, len) != 0)
        abort();
    if (text_len <= WV_PEERS_FILE_MAX_BYTES) {
        if (wv_peers_parse(&second, text, text_len, NULL, NULL) < 0 ||
            wv_peers_count(first) != wv_peers_count(second))
            abort();
        const char *name;
        while (wv_peers_count(second))
            if (wv_peers_remove(second, wv_peers_key(second, 0, &name)) < 0)
                abort();
        wv_peers_free(second);
    }
    free(text);
    wv_peers_free(first);
    return 0;
}
