/* Writes the access units of a session to a Matroska file as they came, without encoding anew. Works beside
 * the session: a full or slow disk ends or thins the recording, never the session. */
#pragma once

#include "rift/core/session.h"

struct wv_recorder;

/* SAY gets a sentence when the recording stops or loses pictures. */
typedef void (*wv_recorder_say_fn)(void *userdata, const char *text);

/* Creates (truncates) the file at PATH. Returns 0, -ENOSYS (a GStreamer plug-in is missing), or the negative
 * errno of the file. */
int wv_recorder_new(struct wv_recorder **ret, const char *path, wv_recorder_say_fn say, void *userdata);

/* Takes one access unit (copied). The recording begins with the first keyframe; a change of size begins a
 * further file ("name-2.mkv"). */
void wv_recorder_add(struct wv_recorder *r, const struct rift_frame_meta *meta, const uint8_t *data,
                     size_t len);

/* Looks for trouble; call about once a second. */
void wv_recorder_poll(struct wv_recorder *r);

/* Finishes the file (waits for the disk a few seconds at most). Returns NULL. */
struct wv_recorder *wv_recorder_free(struct wv_recorder *r);
