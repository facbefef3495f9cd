/* See text.h. FROM must be a private copy already: it is read more than once. */
#include "lib/ipc/text.h"

#include <stdint.h>
#include <string.h>

/* Bytes of the well-formed UTF-8 character at S (Unicode 15, table 3-7), 0: none. C1 controls count as
 * ill-formed. */
static size_t character(const uint8_t *s, size_t left)
{
    if (s[0] >= 0x20 && s[0] < 0x7f)
        return 1;
    size_t n = s[0] >= 0xc2 && s[0] <= 0xdf   ? 2
               : (s[0] & 0xf0) == 0xe0        ? 3
               : s[0] >= 0xf0 && s[0] <= 0xf4 ? 4
                                              : 0;
    if (n == 0 || n > left)
        return 0;
    for (size_t i = 1; i < n; i++)
        if ((s[i] & 0xc0) != 0x80)
            return 0;
    if ((s[0] == 0xc2 && s[1] < 0xa0) || (s[0] == 0xe0 && s[1] < 0xa0) || (s[0] == 0xed && s[1] > 0x9f) ||
        (s[0] == 0xf0 && s[1] < 0x90) || (s[0] == 0xf4 && s[1] > 0x8f))
        return 0;
    return n;
}

void wv_text_copy(char *to, size_t capacity, const char *from, size_t from_bytes)
{
    size_t length = strnlen(from, from_bytes);
    size_t out = 0;
    for (size_t in = 0; in < length;) {
        size_t n = character((const uint8_t *)from + in, length - in);
        if (out + (n ? n : 1) >= capacity)
            break;
        if (n == 0) {
            to[out++] = '?';
            in++;
            continue;
        }
        memcpy(to + out, from + in, n);
        out += n;
        in += n;
    }
    to[out] = '\0';
}
