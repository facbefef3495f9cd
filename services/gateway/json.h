/* JSON of strangers, strictly: one object of a bounded size and depth, no key twice, valid UTF-8, and of its
 * fields only those that a table declares, each with its type and bounds. Nothing else may read a stranger's
 * JSON. */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define WV_JSON_BYTES_MAX    (64u << 10)
#define WV_JSON_DEPTH_MAX    16
#define WV_JSON_REASON_BYTES 160

enum wv_json_type {
    WV_JSON_TEXT,  /* MIN to MAX bytes, no control characters */
    WV_JSON_INT,   /* MIN to MAX */
    WV_JSON_FLAG,  /* true or false */
    WV_JSON_REAL,  /* any number, MIN to MAX */
    WV_JSON_LIST,  /* MIN to MAX things, which the caller looks at himself */
    WV_JSON_OBJECT /* which the caller looks at himself */
};

struct wv_json_field {
    const char *name; /* a table ends with NULL here */
    enum wv_json_type type;
    bool required;
    int64_t min, max;
};

/* Before the first thread is made. */
void wv_json_init(void);

/* Returns 0 with an object (json_decref() it), or -EMSGSIZE, -E2BIG (too deep) or -EINVAL with a sentence. */
int wv_json_parse(json_t **ret, const void *data, size_t len, char reason[WV_JSON_REASON_BYTES]);
/* Whether OBJECT has what FIELDS want and nothing else. Returns 0, or -EINVAL with a sentence. */
int wv_json_check(const json_t *object, const struct wv_json_field *fields,
                  char reason[WV_JSON_REASON_BYTES]);

/* Of a checked object: FALLBACK where the field is absent. */
const char *wv_json_text(const json_t *object, const char *name, const char *fallback);
int64_t wv_json_int(const json_t *object, const char *name, int64_t fallback);
bool wv_json_flag(const json_t *object, const char *name, bool fallback);
double wv_json_real(const json_t *object, const char *name, double fallback);
/* Unpadded URL-safe base64 of exactly LEN bytes. Returns 0 or -EINVAL. */
int wv_json_bytes(const json_t *object, const char *name, uint8_t *ret, size_t len);
void wv_json_set_bytes(json_t *object, const char *name, const uint8_t *data, size_t len);
