/* GStreamer as a library of single elements: started without scanning for plug-ins and without touching the
 * person's plug-in registry; plug-ins are loaded by name when they are needed. */
#pragma once

/* Starts GStreamer once per process; one that the embedding program started already is used as it is. Returns
 * 0 or -EIO. */
int wv_gst_init(void);

/* Loads plug-in NAME ("libav") from GStreamer's folder, once. Returns 0 or -ENOSYS. */
int wv_gst_load(const char *name);
