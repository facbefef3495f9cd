/* What signaling asks of the database, as jobs. See live.h. */
#include "services/gateway/live.h"

#include "lib/base/util.h"
#include "services/gateway/jobs.h"
#include "services/gateway/spare.h"

#include <errno.h>
#include <string.h>

struct asked {
    struct wv_live *live;
    struct wv_signal_question question;
    struct wv_signal_reply reply;
    int64_t now_s;
};

static int of_token(struct wv_store *store, const struct asked *a, struct wv_machine *ret)
{
    static const uint8_t none[WV_STORE_KEY_BYTES];
    struct wv_token token;
    int r = wv_store_token(store, a->question.token, a->now_s, &token);
    if (r == -ENOENT)
        r = wv_spare_token(a->live->gateway->spare, store, a->question.token, a->now_s, &token);
    const uint8_t *device = token.device;
    if (r == 0 && !memcmp(device, none, sizeof none))
        r = -ENOENT; /* a person's */
    return r < 0 ? r : wv_store_machine(store, token.device, ret);
}

static int is_known(struct wv_store *store, const uint8_t key[WV_STORE_KEY_BYTES])
{
    struct wv_machine machine;
    struct wv_account account;
    int r = wv_store_machine(store, key, &machine);
    if (r == 0)
        r = wv_store_account(store, machine.account, &account);
    return r == 0 && account.disabled ? -ENOENT : r;
}

/* A device may speak to the hosts that its account may reach, and they to it. */
static int may_speak(struct wv_store *store, const uint8_t from[WV_STORE_KEY_BYTES],
                     const uint8_t to[WV_STORE_KEY_BYTES])
{
    struct wv_machine a, b;
    char grants[WV_STORE_TEXT_BYTES];
    int r = wv_store_machine(store, from, &a);
    if (r == 0)
        r = wv_store_machine(store, to, &b);
    if (r == 0 && a.is_host == b.is_host)
        r = -ENOENT;
    if (r < 0)
        return r;
    return wv_store_may_reach(store, a.is_host ? b.account : a.account, a.is_host ? a.key : b.key, grants);
}

static void work(void *userdata, struct wv_store *store)
{
    struct asked *a = userdata;
    switch (a->question.kind) {
    case WV_SIGNAL_ASK_TOKEN:
        a->reply.r = of_token(store, a, &a->reply.machine);
        return;
    case WV_SIGNAL_ASK_MACHINE:
        a->reply.r = is_known(store, a->question.from);
        return;
    case WV_SIGNAL_ASK_ACCESS:
        a->reply.r = may_speak(store, a->question.from, a->question.to);
        return;
    }
}

static void done(void *userdata)
{
    struct asked *a = userdata;
    wv_signal_told(a->live->signal, a->question.number, &a->reply, wv_now_ns());
    explicit_bzero(&a->question, sizeof a->question);
    free(a);
}

int wv_live_ask(void *userdata, const struct wv_signal_question *question)
{
    struct asked *a = calloc(1, sizeof *a);
    if (!a)
        return -ENOMEM;
    a->live = userdata;
    a->question = *question;
    a->now_s = wv_gateway_unix_s();
    int r = wv_jobs_run(a->live->gateway->jobs, WV_LANE_ASK, work, done, a);
    if (r < 0)
        free(a);
    return r;
}
