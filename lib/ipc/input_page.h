/* What the input stage leaves on a shared page: which keys it holds down (so that its successor can let them
 * go) and how far it has injected (so that capture can say which input a picture already shows). One writer;
 * readers and the successor take it as foreign bytes. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define WV_INPUT_CODES 768 /* evdev codes 0..KEY_MAX */

struct wv_input_page;

int wv_input_page_create(int *ret_fd); /* sealed memfd */
/* WRITABLE: the input stage. Returns 0, -EBADMSG, negative errno. A page that doesn't check out is laid out
 * anew by the writer. */
int wv_input_page_map(struct wv_input_page **ret, int fd, bool writable);
struct wv_input_page *wv_input_page_unmap(struct wv_input_page *p);
void wv_input_page_set_held(struct wv_input_page *p, uint16_t code, bool held);
/* Fills RET_CODES with what is held, at most CAPACITY. Returns how many. */
size_t wv_input_page_held(const struct wv_input_page *p, uint16_t *ret_codes, size_t capacity);
/* SESSION controls from now on; RET_SEQ: how far it was injected when it last did, 0: it never did. It is
 * remembered for the last some hundred sessions, so that nothing is ever injected twice. Returns 0, or
 * WV_INPUT_PAGE_FORGOTTEN: this one may have controlled so long ago that it is not known any more, and
 * nothing of it may be injected. */
enum { WV_INPUT_PAGE_FORGOTTEN = 1 };
int wv_input_page_begin(struct wv_input_page *p, uint32_t session, uint32_t *ret_seq);
void wv_input_page_set_injected(struct wv_input_page *p, uint32_t session, uint32_t seq);
uint32_t wv_input_page_injected(const struct wv_input_page *p);
uint32_t wv_input_page_session(const struct wv_input_page *p);
