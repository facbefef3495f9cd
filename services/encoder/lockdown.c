/* See lockdown.h. */
#include "services/encoder/lockdown.h"

const struct wv_sandbox wv_encoder_sandbox = {
    .threads_later = true, /* x264 makes its threads anew when the picture's size changes */
    .max_memory_bytes = UINT64_C(4) << 30,
    .max_files = 64,
};
