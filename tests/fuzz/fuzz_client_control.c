/* Control messages from a host: whatever the bytes, what is accepted is in range and readable to its end. */
#include "client/control.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static volatile uint32_t sum;

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

static void check_cursor(const uint8_t *data, size_t len)
{
    struct wv_control m;
    if (wv_control_parse_cursor(data, len, &m) != 0)
        return;
    require(m.kind == WV_CONTROL_CURSOR_IMAGE);
    require(m.cursor.width >= 1 && m.cursor.width <= WV_CURSOR_MAX_PIXELS);
    require(m.cursor.height >= 1 && m.cursor.height <= WV_CURSOR_MAX_PIXELS);
    require(m.cursor.hot_x < m.cursor.width && m.cursor.hot_y < m.cursor.height);
    for (size_t i = 0; i < (size_t)m.cursor.width * m.cursor.height * 4; i++)
        sum += m.cursor.bgra[i];
    wv_control_fini(&m);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    struct wv_control m;
    check_cursor(data, len); /* as if it had been sealed */
    if (wv_control_parse(data, len, &m) != 0)
        return 0;
    require(m.kind != WV_CONTROL_CURSOR_IMAGE);
    if (m.kind == WV_CONTROL_SEALED_CURSOR) {
        require(m.sealed.kid != 0 && m.sealed.len >= 16);
        for (size_t i = 0; i < 24; i++)
            sum += m.sealed.nonce[i];
        for (size_t i = 0; i < m.sealed.len; i++)
            sum += m.sealed.data[i];
    } else if (m.kind == WV_CONTROL_INNER) {
        for (size_t i = 0; i < m.inner.len; i++)
            sum += m.inner.data[i];
    } else if (m.kind == WV_CONTROL_HOST_HELLO) {
        check_text(m.hello.name, sizeof m.hello.name);
        check_text(m.hello.notice, sizeof m.hello.notice);
        require(m.hello.width <= 16384 && m.hello.height <= 16384);
    }
    wv_control_fini(&m);
    return 0;
}
