/* wavry: URLs: whatever the text, what is accepted names a plain host, a port and nothing else, and says the
 * same when it is put together again. */
#include "client/trust.h"
#include "client/url.h"
#include "rift/crypto/identity.h"

#include <ctype.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static void require(int condition)
{
    if (!condition)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    char text[1024], key[RIFT_PUBLIC_KEY_TEXT_BYTES], token[32], place[300], again[600];
    if (len >= sizeof text)
        return 0;
    memcpy(text, data, len);
    text[len] = 0;
    struct wv_url url, second;
    if (wv_url_parse(text, &url) != 0)
        return 0;
    require(wv_url_is(text) && url.port != 0 && url.host[0] && url.host[0] != '-' && url.host[0] != '.');
    for (const char *c = url.host; *c; c++)
        require(isalnum((unsigned char)*c) || strchr(".-_:", *c));
    require(wv_host_format(url.host, url.port, place, sizeof place) == 0);
    rift_public_key_format(url.key, key);
    sodium_bin2base64(token, sizeof token, url.token, sizeof url.token,
                      sodium_base64_VARIANT_URLSAFE_NO_PADDING);
    snprintf(again, sizeof again, "wavry:%s?key=%s&token=%s", place, key, token);
    require(wv_url_parse(again, &second) == 0);
    require(!strcmp(second.host, url.host) && second.port == url.port);
    require(!memcmp(second.key, url.key, 32) && !memcmp(second.token, url.token, sizeof url.token));
    return 0;
}
