/* How wavryctl prints: columns, durations, sizes, JSON strings. */
#pragma once

#include "lib/ipc/session_page.h"

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

/* TEXT as a JSON string with its quotes. TEXT is foreign: what is no text becomes '?'. */
void wv_format_json(FILE *out, const char *text);
/* TEXT fit for a terminal; newlines stay when LINES, else they become '?'. */
void wv_format_text(FILE *out, const char *text, bool lines);

/* "412 ms", "3.2 s", "5 min", "2 h 10 min", "3 d 4 h". */
void wv_format_duration(uint64_t ns, char *ret, size_t capacity);
/* Microseconds: "850 us", "16.7 ms", "2.1 s". */
void wv_format_us(uint64_t us, char *ret, size_t capacity);
/* With a decimal prefix: "950 bit/s", "8.1 Mbit/s". */
void wv_format_rate(double per_second, const char *unit, char *ret, size_t capacity);

/* Characters (not bytes) of UTF-8 TEXT: columns, where every character has one. */
size_t wv_format_width(const char *text);
/* TEXT in WIDTH columns, filled with spaces; longer text is not cut. */
void wv_format_column(FILE *out, const char *text, size_t width);

/* Public key in its text form, or its hex digits when it is none. */
void wv_format_key(const uint8_t key[32], char *ret, size_t capacity);
