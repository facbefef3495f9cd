#include "services/capture/convert.h"

#include <assert.h>
#include <libyuv.h>

void wv_convert_rect(const uint8_t *source, uint32_t source_stride, uint8_t *target, uint32_t target_stride,
                     uint32_t height, struct wv_rect rect)
{
    size_t x = (size_t)rect.x, y = (size_t)rect.y;
    const uint8_t *from = source + y * source_stride + x * 4;
    uint8_t *luma = target + y * target_stride + x;
    uint8_t *chroma = target + ((size_t)height + y / 2) * target_stride + x;

    assert(((rect.x | rect.y | rect.width | rect.height) & 1) == 0);
    ARGBToNV12(from, (int)source_stride, luma, (int)target_stride, chroma, (int)target_stride, rect.width,
               rect.height);
}
