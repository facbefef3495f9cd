/* Steps, tokens and answers of a request. See request.h. */
#include "services/gateway/request.h"

#include "lib/base/log.h"
#include "lib/base/util.h"
#include "services/gateway/http.h"
#include "services/gateway/spare.h"

#include <errno.h>
#include <string.h>

void wv_request_answer(struct wv_request *q, int status, json_t *take_reply)
{
    json_decref(q->reply);
    q->status = status;
    q->reply = take_reply;
}

void wv_request_refuse(struct wv_request *q, enum wv_refusal why, const char *sentence)
{
    const struct wv_refusal_entry *e = &wv_refusals[why];
    q->why = why;
    wv_request_answer(
        q, e->status,
        json_pack("{s:s, s:s}", "error", e->code, "message", sentence ? sentence : e->sentence));
}

void wv_request_store_failed(struct wv_request *q, struct wv_store *store, int r)
{
    static const struct {
        int error;
        enum wv_refusal why;
    } answers[] = {
        {-ENOENT, WV_REFUSE_NOT_FOUND},
        {-EEXIST, WV_REFUSE_EXISTS},
        {-EINVAL, WV_REFUSE_BAD_NAME},
    };
    for (size_t i = 0; i < WV_ARRAY_SIZE(answers); i++)
        if (answers[i].error == r)
            return wv_request_refuse(q, answers[i].why, NULL);
    wv_health_failed(&q->gateway->health, q->gateway->metrics, r, wv_store_reason(store), wv_now_ns());
    wv_debug("the database refused a request", "route=%s error=\"%s\"", q->route->path, strerror(-r));
    q->retry_after_s = 5;
    wv_request_refuse(q, wv_health_refusal(r), NULL);
}

int wv_request_audit(struct wv_request *q, struct wv_store *store, const char *action, const char *subject)
{
    struct wv_account account;
    struct wv_audit line = {.at = q->now_s};
    int r = q->known ? wv_store_account(store, q->who.account, &account) : -ENOENT;
    if (r == 0) {
        memcpy(line.account, account.id, sizeof line.account);
        memcpy(line.actor, account.name, sizeof line.actor);
    } else if (r != -ENOENT) {
        return r;
    }
    snprintf(line.action, sizeof line.action, "%s", action);
    snprintf(line.subject, sizeof line.subject, "%s", subject);
    snprintf(line.address, sizeof line.address, "%s", q->address_text);
    return wv_store_audit(store, &line);
}

bool wv_request_query(const struct wv_request *q, const char *name, char *ret, size_t capacity)
{
    size_t len = strlen(name);
    for (const char *p = q->query; *p; p += *p == '&') {
        size_t n = strcspn(p, "&");
        if (n > len && !memcmp(p, name, len) && p[len] == '=') {
            if (n - len - 1 >= capacity)
                return false;
            memcpy(ret, p + len + 1, n - len - 1);
            ret[n - len - 1] = 0;
            return true;
        }
        p += n;
    }
    return false;
}

/* ---- steps ---- */

static bool is_machine(const struct wv_token *t)
{
    static const uint8_t none[WV_STORE_KEY_BYTES];
    return memcmp(t->device, none, sizeof none) != 0;
}

static void authorize(struct wv_request *q, struct wv_store *store)
{
    int r = wv_store_token(store, q->token, q->now_s, &q->who);
    if (r == -ENOENT)
        r = wv_spare_token(q->gateway->spare, store, q->token, q->now_s, &q->who);
    if (r == -ENOENT)
        return wv_request_refuse(q, WV_REFUSE_BAD_TOKEN, NULL);
    if (r < 0)
        return wv_request_store_failed(q, store, r);
    bool machine = is_machine(&q->who);
    if (machine && (q->route->auth == WV_AUTH_PERSON || q->route->auth == WV_AUTH_ADMIN))
        return wv_request_refuse(q, WV_REFUSE_PERSON_ONLY, NULL);
    if (!machine && q->route->auth == WV_AUTH_MACHINE)
        return wv_request_refuse(q, WV_REFUSE_NOT_ALLOWED, "This needs a token of a machine's key.");
    if (!q->who.admin && q->route->auth == WV_AUTH_ADMIN)
        return wv_request_refuse(q, WV_REFUSE_NOT_ADMIN, NULL);
    q->known = true;
}

static void work_whole(struct wv_request *q, struct wv_store *store)
{
    int r = wv_store_begin(store);
    if (r < 0)
        return wv_request_store_failed(q, store, r);
    q->work(q, store);
    r = wv_store_end(store, q->status < 500 ? 0 : -ECANCELED);
    /* -ECANCELED: a call failed. A refusal has said why; nothing else may be answered then. */
    if (r < 0 && (r != -ECANCELED || q->status < 400))
        wv_request_store_failed(q, store, r);
}

static void work(void *userdata, struct wv_store *store)
{
    struct wv_request *q = userdata;
    uint64_t begun = wv_now_ns(), writes = store ? wv_store_writes(store) : 0;
    if (store && q->route->auth != WV_AUTH_NONE && !q->known)
        authorize(q, store);
    if (q->status == 0 && q->work && q->whole)
        work_whole(q, store);
    else if (q->status == 0 && q->work)
        q->work(q, store);
    if (!store)
        return;
    uint64_t now = wv_now_ns();
    wv_metric_record(q->gateway->metrics, WV_G_STORE_US, (now - begun) / WV_NS_PER_US);
    if (q->status < 500)
        wv_health_worked(&q->gateway->health, q->gateway->metrics, wv_store_writes(store) != writes, now);
}

static void done(void *userdata)
{
    struct wv_request *q = userdata;
    q->running = false;
    if (q->status == 0 && q->then)
        q->then(q);
    wv_http_settle(q);
}

static void run(struct wv_request *q, enum wv_lane lane, wv_request_work_fn fn, wv_request_then_fn then,
                bool whole)
{
    q->work = fn;
    q->then = then;
    q->whole = whole;
    q->running = true;
    int r = wv_jobs_run(q->gateway->jobs, lane, work, done, q);
    if (r == 0)
        return;
    q->running = false;
    q->retry_after_s = 2;
    wv_request_refuse(q, WV_REFUSE_BUSY, NULL);
}

void wv_request_run(struct wv_request *q, enum wv_lane lane, wv_request_work_fn fn, wv_request_then_fn then)
{
    run(q, lane, fn, then, false);
}

void wv_request_change(struct wv_request *q, wv_request_work_fn fn, wv_request_then_fn then)
{
    run(q, WV_LANE_STORE, fn, then, true);
}
