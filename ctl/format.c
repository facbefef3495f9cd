/* See format.h. Never prints a control character that came from somewhere else. */
#include "ctl/format.h"

#include "lib/base/util.h"
#include "lib/ipc/text.h"
#include "rift/crypto/identity.h"

#include <string.h>

#define LINE_BYTES 4096

void wv_format_json(FILE *out, const char *text)
{
    char clean[LINE_BYTES];
    wv_text_copy(clean, sizeof(clean), text, strlen(text));
    fputc('"', out);
    for (const char *c = clean; *c; c++) {
        if (*c == '"' || *c == '\\')
            fputc('\\', out);
        fputc(*c, out);
    }
    fputc('"', out);
}

void wv_format_text(FILE *out, const char *text, bool lines)
{
    while (*text) {
        char clean[LINE_BYTES];
        size_t len = lines ? strcspn(text, "\n") : strlen(text);
        size_t taken = WV_MIN(len, sizeof(clean) - 1);
        wv_text_copy(clean, sizeof(clean), text, taken);
        fputs(clean, out);
        text += taken;
        if (lines && *text == '\n') {
            fputc('\n', out);
            text++;
        }
    }
}

void wv_format_duration(uint64_t ns, char *ret, size_t capacity)
{
    unsigned long long s = ns / WV_NS_PER_S;
    if (s == 0)
        snprintf(ret, capacity, "%llu ms", (unsigned long long)(ns / WV_NS_PER_MS));
    else if (s < 10)
        snprintf(ret, capacity, "%.1f s", (double)(ns / (WV_NS_PER_S / 10)) / 10);
    else if (s < 120)
        snprintf(ret, capacity, "%llu s", s);
    else if (s < 2 * 3600)
        snprintf(ret, capacity, "%llu min", s / 60);
    else if (s < 2 * 86400)
        snprintf(ret, capacity, "%llu h %llu min", s / 3600, s / 60 % 60);
    else
        snprintf(ret, capacity, "%llu d %llu h", s / 86400, s / 3600 % 24);
}

void wv_format_us(uint64_t us, char *ret, size_t capacity)
{
    if (us < 1000)
        snprintf(ret, capacity, "%llu us", (unsigned long long)us);
    else if (us < 1000000)
        snprintf(ret, capacity, "%.1f ms", (double)us / 1e3);
    else
        snprintf(ret, capacity, "%.1f s", (double)us / 1e6);
}

void wv_format_rate(double per_second, const char *unit, char *ret, size_t capacity)
{
    static const char *const prefixes[] = {"", "k", "M", "G"};
    size_t i = 0;
    while (per_second >= 1000 && i + 1 < WV_ARRAY_SIZE(prefixes)) {
        per_second /= 1000;
        i++;
    }
    snprintf(ret, capacity, i == 0 ? "%.0f %s%s" : "%.1f %s%s", per_second, prefixes[i], unit);
}

size_t wv_format_width(const char *text)
{
    size_t n = 0;
    for (; *text; text++)
        n += ((unsigned char)*text & 0xc0) != 0x80;
    return n;
}

void wv_format_column(FILE *out, const char *text, size_t width)
{
    fputs(text, out);
    for (size_t n = wv_format_width(text); n < width; n++)
        fputc(' ', out);
}

void wv_format_key(const uint8_t key[32], char *ret, size_t capacity)
{
    char text[RIFT_PUBLIC_KEY_TEXT_BYTES];
    rift_public_key_format(key, text);
    snprintf(ret, capacity, "%s", text);
}
