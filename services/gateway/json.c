/* Strict JSON. See json.h. */
#include "services/gateway/json.h"

#include "lib/base/util.h"

#include <errno.h>
#include <sodium.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define BYTES_MAX 512 /* of one base64 field */

void wv_json_init(void)
{
    json_object_seed(0);
}

static int say(char reason[WV_JSON_REASON_BYTES], int r, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
static int say(char reason[WV_JSON_REASON_BYTES], int r, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(reason, WV_JSON_REASON_BYTES, format, args);
    va_end(args);
    return r;
}

/* Before the parser sees it: the parser descends by recursion. */
static bool is_too_deep(const char *data, size_t len)
{
    bool in_text = false;
    unsigned depth = 0;
    for (size_t i = 0; i < len; i++) {
        char c = data[i];
        if (in_text) {
            i += c == '\\';
            in_text = c != '"';
        } else if (c == '"') {
            in_text = true;
        } else if (c == '{' || c == '[') {
            if (++depth > WV_JSON_DEPTH_MAX)
                return true;
        } else if ((c == '}' || c == ']') && depth) {
            depth--;
        }
    }
    return false;
}

int wv_json_parse(json_t **ret, const void *data, size_t len, char reason[WV_JSON_REASON_BYTES])
{
    json_error_t error;
    if (len > WV_JSON_BYTES_MAX)
        return say(reason, -EMSGSIZE, "The body is larger than %u bytes.", WV_JSON_BYTES_MAX);
    if (is_too_deep(data, len))
        return say(reason, -E2BIG, "The JSON is nested deeper than %d levels.", WV_JSON_DEPTH_MAX);
    json_t *value = json_loadb(data, len, JSON_REJECT_DUPLICATES, &error);
    if (!value)
        /* The parser's own words would repeat what it was given. */
        return say(reason, -EINVAL, "The body is not valid JSON, at line %d, column %d%s.", error.line,
                   error.column,
                   json_error_code(&error) == json_error_duplicate_key ? ": a key stands there twice" : "");
    if (!json_is_object(value)) {
        json_decref(value);
        return say(reason, -EINVAL, "The JSON is not an object.");
    }
    *ret = value;
    return 0;
}

static bool is_plain(const char *text, size_t len)
{
    for (size_t i = 0; i < len; i++)
        if ((unsigned char)text[i] < 0x20 || text[i] == 0x7f)
            return false;
    return true;
}

static int check_one(const json_t *v, const struct wv_json_field *f, char reason[WV_JSON_REASON_BYTES])
{
    long long lo = f->min, hi = f->max;
    switch (f->type) {
    case WV_JSON_TEXT:
        if (!json_is_string(v))
            return say(reason, -EINVAL, "\"%s\" must be a string.", f->name);
        if (json_string_length(v) < (size_t)f->min || json_string_length(v) > (size_t)f->max)
            return say(reason, -EINVAL, "\"%s\" must have %lld to %lld bytes.", f->name, lo, hi);
        if (!is_plain(json_string_value(v), json_string_length(v)))
            return say(reason, -EINVAL, "\"%s\" must not hold control characters.", f->name);
        return 0;
    case WV_JSON_INT:
        if (json_is_integer(v) && json_integer_value(v) >= f->min && json_integer_value(v) <= f->max)
            return 0;
        return say(reason, -EINVAL, "\"%s\" must be an integer from %lld to %lld.", f->name, lo, hi);
    case WV_JSON_FLAG:
        return json_is_boolean(v) ? 0 : say(reason, -EINVAL, "\"%s\" must be true or false.", f->name);
    case WV_JSON_REAL:
        if (json_is_number(v) && json_number_value(v) >= (double)lo && json_number_value(v) <= (double)hi)
            return 0;
        return say(reason, -EINVAL, "\"%s\" must be a number from %lld to %lld.", f->name, lo, hi);
    case WV_JSON_LIST:
        if (json_is_array(v) && json_array_size(v) >= (size_t)lo && json_array_size(v) <= (size_t)hi)
            return 0;
        return say(reason, -EINVAL, "\"%s\" must be a list of %lld to %lld.", f->name, lo, hi);
    default:
        return json_is_object(v) ? 0 : say(reason, -EINVAL, "\"%s\" must be an object.", f->name);
    }
}

int wv_json_check(const json_t *object, const struct wv_json_field *fields, char reason[WV_JSON_REASON_BYTES])
{
    size_t known = 0;
    for (const struct wv_json_field *f = fields; f->name; f++) {
        const json_t *v = json_object_get(object, f->name);
        if (!v && f->required)
            return say(reason, -EINVAL, "\"%s\" is missing.", f->name);
        if (!v)
            continue;
        int r = check_one(v, f, reason);
        if (r < 0)
            return r;
        known++;
    }
    if (json_object_size(object) != known)
        return say(reason, -EINVAL, "The object has a field that is not known here.");
    return 0;
}

const char *wv_json_text(const json_t *object, const char *name, const char *fallback)
{
    const char *text = json_string_value(json_object_get(object, name));
    return text ? text : fallback;
}

int64_t wv_json_int(const json_t *object, const char *name, int64_t fallback)
{
    const json_t *v = json_object_get(object, name);
    return json_is_integer(v) ? json_integer_value(v) : fallback;
}

bool wv_json_flag(const json_t *object, const char *name, bool fallback)
{
    const json_t *v = json_object_get(object, name);
    return json_is_boolean(v) ? json_is_true(v) : fallback;
}

double wv_json_real(const json_t *object, const char *name, double fallback)
{
    const json_t *v = json_object_get(object, name);
    return json_is_number(v) ? json_number_value(v) : fallback;
}

int wv_json_bytes(const json_t *object, const char *name, uint8_t *ret, size_t len)
{
    const json_t *v = json_object_get(object, name);
    uint8_t bytes[BYTES_MAX];
    const char *text = json_string_value(v), *end;
    size_t got;
    if (!text || len > sizeof bytes ||
        sodium_base642bin(bytes, sizeof bytes, text, json_string_length(v), NULL, &got, &end,
                          sodium_base64_VARIANT_URLSAFE_NO_PADDING) != 0 ||
        end != text + json_string_length(v) || got != len)
        return -EINVAL;
    memcpy(ret, bytes, len);
    return 0;
}

void wv_json_set_bytes(json_t *object, const char *name, const uint8_t *data, size_t len)
{
    char text[sodium_base64_ENCODED_LEN(BYTES_MAX, sodium_base64_VARIANT_URLSAFE_NO_PADDING)];
    if (len > BYTES_MAX)
        return;
    sodium_bin2base64(text, sizeof text, data, len, sodium_base64_VARIANT_URLSAFE_NO_PADDING);
    json_object_set_new(object, name, json_string(text));
}
