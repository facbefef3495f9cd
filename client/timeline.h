/* When each step towards a session, and each picture, came: a file with a line each, written at once, so that
 * who measures needs no word from the client. */
#pragma once

struct wv_timeline;

/* Creates (truncates) the file at PATH. Returns 0 or a negative errno. */
int wv_timeline_new(struct wv_timeline **ret, const char *path);
/* Adds "MICROSECONDS EVENT", of CLOCK_MONOTONIC; T may be NULL. What can't be written is left out. */
void wv_timeline_note(struct wv_timeline *t, const char *event);
/* Returns NULL. */
struct wv_timeline *wv_timeline_free(struct wv_timeline *t);
