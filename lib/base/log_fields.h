/* The key=value pairs of a log line as fields of the journal. Values may hold what a peer has said: a line
 * can be split wrongly by them, but not be filed under a stage or session that isn't its own. */
#pragma once

#include <stddef.h>

#define WV_LOG_FIELD_BYTES 320 /* longer values are cut */

struct wv_log_fields {
    const char *rest; /* of the pairs: set it to their begin */
    size_t n;         /* fields so far: set it to 0 */
};

/* Writes the next field as "NAME=value" to RET. A pair's key is put into capitals and gets the prefix WAVRY_,
 * except in the first place, where session= and stage= become SESSION= and STAGE=: what stands there can't
 * come out of somebody else's value. Words that are no pair are passed over. Returns the field's length, 0 at
 * the end. */
size_t wv_log_fields_next(struct wv_log_fields *f, char ret[WV_LOG_FIELD_BYTES]);
