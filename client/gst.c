/* GStreamer without its registry; see gst.h. */
#include "client/gst.h"

#include <errno.h>
#include <gst/gst.h>
#include <stdio.h>
#include <stdlib.h>

#ifndef WAVRY_GST_PLUGINS
#error "WAVRY_GST_PLUGINS names GStreamer's plug-in folder"
#endif

int wv_gst_init(void)
{
    if (gst_is_initialized())
        return 0;
    /* The registry costs a scan of every plug-in (a second and a child process) when it is cold, and an empty
     * plug-in path would overwrite the person's cache: neither is wanted. */
    setenv("GST_REGISTRY_DISABLE", "yes", 1);
    setenv("GST_PLUGIN_PATH_1_0", "", 1);
    setenv("GST_PLUGIN_SYSTEM_PATH_1_0", "", 1);
    gst_registry_fork_set_enabled(FALSE);
    GError *error = NULL;
    if (gst_init_check(NULL, NULL, &error))
        return 0;
    g_clear_error(&error);
    return -EIO;
}

int wv_gst_load(const char *name)
{
    GstPlugin *known = gst_registry_find_plugin(gst_registry_get(), name);
    if (known) {
        gst_object_unref(known);
        return 0;
    }
    const char *folder = getenv("WAVRY_GST_PLUGINS");
    char path[1024];
    if ((size_t)snprintf(path, sizeof path, "%s/libgst%s.so", folder && *folder ? folder : WAVRY_GST_PLUGINS,
                         name) >= sizeof path)
        return -ENOSYS;
    GError *error = NULL;
    GstPlugin *plugin = gst_plugin_load_file(path, &error);
    g_clear_error(&error);
    if (!plugin)
        return -ENOSYS;
    gst_object_unref(plugin);
    return 0;
}
