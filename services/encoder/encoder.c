/* The door to the backends: checks what goes in, so that no backend sees a picture that isn't one. Must never
 * know a backend by name. */
#include "services/encoder/encoder.h"

#include "lib/base/util.h"
#include "lib/ipc/ring.h"
#include "services/encoder/backend.h"

#include <errno.h>

int wv_encoder_set_rate(struct wv_encoder *e, uint32_t bitrate_bps, uint32_t fps)
{
    bitrate_bps = WV_MAX(bitrate_bps, WV_ENCODER_MIN_BITRATE_BPS);
    bitrate_bps = WV_MIN(bitrate_bps, WV_ENCODER_MAX_BITRATE_BPS);
    fps = WV_MAX(fps, 1u);
    fps = WV_MIN(fps, WV_ENCODER_MAX_FPS);
    return e->ops->set_rate(e, bitrate_bps, fps);
}

int wv_encoder_encode(struct wv_encoder *e, const struct wv_picture *picture, bool keyframe,
                      struct wv_access_unit *ret)
{
    if (!picture->pixels || picture->width < 16 || picture->height < 16 ||
        picture->width > WV_RING_MAX_WIDTH || picture->height > WV_RING_MAX_HEIGHT || picture->width % 2 ||
        picture->height % 2 || picture->stride < picture->width || picture->stride > 2 * WV_RING_MAX_WIDTH)
        return -EINVAL;
    return e->ops->encode(e, picture, keyframe, ret);
}

const char *wv_encoder_name(const struct wv_encoder *e)
{
    return e->ops->name;
}

struct wv_encoder *wv_encoder_free(struct wv_encoder *e)
{
    if (e)
        e->ops->free(e);
    return NULL;
}
