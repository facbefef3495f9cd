/* Any text as a configuration file: refused with a message or taken, and what was taken is in its range. */
#include "lib/stage/config.h"

#include "lib/base/util.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static const struct wv_config_entry table[] = {
    {"max_fps", WV_CONFIG_INT, "60", 1, 240, NULL, "Rate."},
    {"source", WV_CONFIG_CHOICE, "auto", 0, 0, "auto|x11|test", "Source."},
    {"display", WV_CONFIG_STRING, "", 0, 0, NULL, "Display."},
    {"cursor", WV_CONFIG_BOOL, "true", 0, 0, NULL, "Cursor."},
};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    struct wv_config *c = NULL;
    char *message = NULL;
    wv_cleanup(wv_free_p) char *text = strndup((const char *)data, len);
    if (!text || wv_config_new(&c, "capture", table, WV_ARRAY_SIZE(table)) < 0)
        abort();
    int r = wv_config_load_text(c, text, "fuzz", "encoder|transport", &message);
    if (r < 0 && !message)
        abort();
    free(message);
    message = NULL;
    (void)wv_config_set(c, text, "fuzz", &message);
    free(message);
    int64_t fps = wv_config_int(c, "max_fps");
    if (fps < 1 || fps > 240)
        abort();
    wv_config_free(c);
    return 0;
}
