/* The text of the list of known keys: what was read is written back whole and reads the same again. */
#include "services/identity/handshakes.h"
#include "services/identity/peers.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

/* What a line grants survives being written anew, and nothing is granted that has no name. */
static void check_peer(const struct wv_peer *peer)
{
    struct wv_peers *list;
    if (peer->grants == 0 || peer->grants > WV_GRANTS_ALL || peer->expires > WV_EXPIRY_MAX || !peer->name[0])
        abort();
    if (wv_peers_parse(&list, "", 0, NULL, NULL) < 0)
        abort();
    if (wv_peers_add(list, peer->key, peer->name, peer->grants, peer->expires) == 0) {
        char *text;
        size_t len;
        struct wv_peers *again;
        if (wv_peers_format(list, &text, &len) < 0 || wv_peers_parse(&again, text, len, NULL, NULL) < 0)
            abort();
        const struct wv_peer *same = wv_peers_find(again, peer->key);
        if (!same || same->grants != peer->grants || same->expires != peer->expires ||
            strcmp(same->name, peer->name))
            abort();
        wv_peers_free(again);
        free(text);
    }
    wv_peers_free(list);
}

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
        while (wv_peers_count(second)) {
            check_peer(wv_peers_at(second, 0));
            if (wv_peers_remove(second, wv_peers_at(second, 0)->key) < 0)
                abort();
        }
        wv_peers_free(second);
    }
    free(text);
    wv_peers_free(first);
    return 0;
}
