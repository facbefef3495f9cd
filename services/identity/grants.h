/* What a paired key may do, and until when: as bits and as a person writes it. Pure. */
#pragma once

#include <stddef.h>
#include <stdint.h>

enum wv_grant {
    WV_GRANT_VIEW = 1,
    WV_GRANT_INPUT = 2,
    WV_GRANT_CLIPBOARD_IN = 4,
    WV_GRANT_CLIPBOARD_OUT = 8,
    WV_GRANT_FILES_IN = 16,
    WV_GRANT_FILES_OUT = 32,
    WV_GRANT_AUDIO = 64,
};

#define WV_GRANTS            7
#define WV_GRANTS_ALL        127u
#define WV_GRANTS_USUAL      (WV_GRANT_VIEW | WV_GRANT_INPUT)
#define WV_GRANTS_TEXT_BYTES 96
#define WV_EXPIRY_TEXT_BYTES 24
#define WV_EXPIRY_MAX        UINT64_C(253402300799) /* the end of the year 9999 */
#define WV_GRANTS_KNOWN_TEXT "view, input, audio, clipboard[-in|-out], files[-in|-out]"

/* The word for the grant with number I (0..WV_GRANTS-1); its bit is 1 << I. */
const char *wv_grant_name(unsigned i);

/* "view,input,clipboard" ("clipboard" and "files" are both directions): at least one word, each known.
 * Returns 0 or -EINVAL. */
int wv_grants_parse(const char *text, size_t len, uint32_t *ret);
/* The same the other way round; "none" for 0, which wv_grants_parse() does not take. */
void wv_grants_format(uint32_t grants, char ret[WV_GRANTS_TEXT_BYTES]);

/* "2026-12-01T12:00:00Z" as Unix seconds, never 0. Returns 0 or -EINVAL. */
int wv_expiry_parse(const char *text, size_t len, uint64_t *ret);
void wv_expiry_format(uint64_t expires, char ret[WV_EXPIRY_TEXT_BYTES]);

/* "10m": a number and one of s, m, h, d. Returns 0 with seconds in 1..MAX, or -EINVAL. */
int wv_duration_parse(const char *text, size_t len, uint64_t max, uint64_t *ret);
