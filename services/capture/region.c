#include "services/capture/region.h"

#include "lib/base/util.h"

/* Two rectangles become one when that covers at most this many pixels more: less than what a second request
 * and a second conversion cost. */
#define MERGE_SLACK 4096

void wv_region_clear(struct wv_region *r)
{
    r->n = 0;
}

bool wv_region_empty(const struct wv_region *r)
{
    return r->n == 0;
}

static int64_t area(struct wv_rect a)
{
    return (int64_t)a.width * a.height;
}

uint64_t wv_region_area(const struct wv_region *r)
{
    uint64_t sum = 0;

    for (uint32_t i = 0; i < r->n; i++)
        sum += (uint64_t)area(r->rects[i]);
    return sum;
}

static struct wv_rect hull(struct wv_rect a, struct wv_rect b)
{
    int32_t x0 = WV_MIN(a.x, b.x), y0 = WV_MIN(a.y, b.y);
    int32_t x1 = WV_MAX(a.x + a.width, b.x + b.width), y1 = WV_MAX(a.y + a.height, b.y + b.height);

    return (struct wv_rect){x0, y0, x1 - x0, y1 - y0};
}

/* Pixels that the hull covers and the two together don't (overlap counted twice, so it may be negative). */
static int64_t waste(struct wv_rect a, struct wv_rect b)
{
    return area(hull(a, b)) - area(a) - area(b);
}

static void remove_at(struct wv_region *r, uint32_t i)
{
    r->rects[i] = r->rects[--r->n];
}

/* Makes one place free by joining the two rectangles that go together best. */
static void join_best_pair(struct wv_region *r)
{
    uint32_t best_a = 0, best_b = 1;
    int64_t best = INT64_MAX;

    for (uint32_t a = 0; a < r->n; a++) {
        for (uint32_t b = a + 1; b < r->n; b++) {
            int64_t w = waste(r->rects[a], r->rects[b]);

            if (w < best) {
                best = w;
                best_a = a;
                best_b = b;
            }
        }
    }
    r->rects[best_a] = hull(r->rects[best_a], r->rects[best_b]);
    remove_at(r, best_b);
}

static void add_even(struct wv_region *r, struct wv_rect rect)
{
    /* A rectangle that grew may now go with one that was passed over: start again. */
    for (uint32_t i = 0; i < r->n;) {
        if (waste(r->rects[i], rect) > MERGE_SLACK) {
            i++;
            continue;
        }
        rect = hull(r->rects[i], rect);
        remove_at(r, i);
        i = 0;
    }
    if (r->n == WV_RING_DAMAGE_MAX)
        join_best_pair(r);
    r->rects[r->n++] = rect;
}

void wv_region_add(struct wv_region *r, struct wv_rect rect, int32_t width, int32_t height)
{
    int64_t x0 = WV_MAX(rect.x, 0), y0 = WV_MAX(rect.y, 0);
    int64_t x1 = WV_MIN((int64_t)rect.x + rect.width, (int64_t)width);
    int64_t y1 = WV_MIN((int64_t)rect.y + rect.height, (int64_t)height);

    if (x1 <= x0 || y1 <= y0)
        return;
    x0 &= ~INT64_C(1);
    y0 &= ~INT64_C(1);
    x1 = (x1 + 1) & ~INT64_C(1);
    y1 = (y1 + 1) & ~INT64_C(1);
    add_even(r, (struct wv_rect){(int32_t)x0, (int32_t)y0, (int32_t)(x1 - x0), (int32_t)(y1 - y0)});
}

void wv_region_merge(struct wv_region *r, const struct wv_region *from)
{
    for (uint32_t i = 0; i < from->n; i++)
        add_even(r, from->rects[i]);
}

void wv_region_set_all(struct wv_region *r, int32_t width, int32_t height)
{
    r->n = 1;
    r->rects[0] = (struct wv_rect){0, 0, width, height};
}
