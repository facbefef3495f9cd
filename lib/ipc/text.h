/* Text out of foreign memory or from another process, made fit for a terminal, JSON or a log. */
#pragma once

#include <stddef.h>

/* Copies the text at FROM (at most FROM_BYTES, NUL-terminated or not) to TO (CAPACITY > 0, always
 * NUL-terminated): control characters and what is no UTF-8 become '?'; a character is never cut in half. */
void wv_text_copy(char *to, size_t capacity, const char *from, size_t from_bytes);
