/* The pages that a host lends us, read only. Never disturbs their writers; a page that doesn't check out is
 * left out. */
#include "ctl/ctl.h"

#include "lib/base/util.h"
#include "lib/ipc/fdpass.h"
#include "lib/ipc/text.h"

#include <string.h>

int wv_ctl_pages_get(struct wv_ctl *c, struct wv_ctl_pages *ret)
{
    int fds[WV_FDPASS_MAX_FDS];
    size_t n_fds = 0;
    struct wv_ctl_pages p = {.session_fd = -1};
    int r = wv_ctl_ask(c, "pages", "", &p.reply, fds, &n_fds);
    if (r != 0)
        return r;
    for (size_t i = 0; i < n_fds; i++) {
        const char *name = i < p.reply->n_fd_names ? p.reply->fd_names[i] : "";
        if (strncmp(name, "metrics:", 8) == 0)
            name += 8;
        if (strcmp(name, "session-page") == 0 && p.session_fd < 0) {
            p.session_fd = fds[i];
        } else if (name[0] && p.n < WV_CTL_STAGES_MAX) {
            wv_text_copy(p.names[p.n], sizeof(p.names[0]), name, strlen(name));
            p.fds[p.n++] = fds[i];
        } else {
            wv_close(fds[i]);
        }
    }
    if (p.session_fd >= 0)
        wv_session_page_map(&p.session, p.session_fd, false);
    *ret = p;
    return 0;
}

void wv_ctl_pages_fini(struct wv_ctl_pages *p)
{
    p->session = wv_session_page_unmap(p->session);
    p->session_fd = wv_close(p->session_fd);
    for (size_t i = 0; i < p->n; i++)
        wv_close(p->fds[i]);
    p->n = 0;
    p->reply = wv_ctl_reply_free(p->reply);
}
