/* Messages of the inner channel from a host: whatever the bytes, what is accepted is whole and printable. */
#include "client/inner.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static void require(int condition)
{
    if (!condition)
        abort();
}

static void check_text(const char *text, size_t capacity)
{
    size_t len = strnlen(text, capacity);
    require(len < capacity);
    for (size_t i = 0; i < len; i++)
        require((unsigned char)text[i] >= 0x20 && text[i] != 0x7f);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    static const uint8_t zero[RIFT_CPACE_TAG_BYTES];
    struct wv_inner_message m;
    memset(&m, 0xee, sizeof m); /* what is not written would be seen */
    if (wv_inner_parse(data, len, &m) != 0)
        return 0;
    require(len <= WV_INNER_MAX_BYTES);
    switch (m.kind) {
    case WV_INNER_MEDIA_KEY:
        require(m.media_key.kid != 0);
        break;
    case WV_INNER_STANDING:
        require(m.standing.grants <= 127);
        check_text(m.standing.notice, sizeof m.standing.notice);
        break;
    case WV_INNER_PAIR_RESULT:
        require(m.result.paired || memcmp(m.result.tag, zero, sizeof zero) == 0);
        check_text(m.result.reason, sizeof m.result.reason);
        break;
    case WV_INNER_PAIR_SHARE:
    case WV_INNER_OTHER:
        break;
    default:
        abort();
    }
    return 0;
}
