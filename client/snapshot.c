/* One picture as a PNG file, by libyuv and libpng. */
#include "client/snapshot.h"

#include "lib/base/util.h"

#include <errno.h>
#include <libyuv.h>
#include <png.h>

int wv_snapshot_write(const char *path, const struct wv_client_picture *p)
{
    int width = p->width, height = p->height;
    wv_cleanup(wv_free_p) uint8_t *argb = malloc((size_t)width * (size_t)height * 4);
    wv_cleanup(wv_free_p) uint8_t *bgr = malloc((size_t)width * (size_t)height * 3);
    if (!argb || !bgr)
        return -ENOMEM;
    const struct YuvConstants *constants = p->bt709
                                               ? (p->full_range ? &kYuvF709Constants : &kYuvH709Constants)
                                               : (p->full_range ? &kYuvJPEGConstants : &kYuvI601Constants);
    I420ToARGBMatrix(p->plane[0], p->stride[0], p->plane[1], p->stride[1], p->plane[2], p->stride[2], argb,
                     width * 4, constants, width, height);
    ARGBToRGB24(argb, width * 4, bgr, width * 3, width, height);
    png_image image = {.version = PNG_IMAGE_VERSION,
                       .width = (png_uint_32)width,
                       .height = (png_uint_32)height,
                       .format = PNG_FORMAT_BGR,
                       .flags = PNG_IMAGE_FLAG_FAST};
    png_alloc_size_t bytes = 0;
    if (!png_image_write_to_memory(&image, NULL, &bytes, 0, bgr, 0, NULL))
        return -EIO;
    wv_cleanup(wv_free_p) uint8_t *png = malloc(bytes);
    if (!png)
        return -ENOMEM;
    if (!png_image_write_to_memory(&image, png, &bytes, 0, bgr, 0, NULL))
        return -EIO;
    return wv_write_file_atomic(path, png, bytes, 0644);
}
