/* wavry-relay: passes sealed datagrams between two peers that hold a lease, where they can't reach each other
 * directly. It holds no key of anybody, reads no datagram beyond its first 8 bytes, and after its start opens
 * no file, makes no connection and runs nothing. */
#include "lib/base/util.h"
#include "lib/stage/sandbox.h"
#include "rift/crypto/identity.h"
#include "services/relay/service.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sysexits.h>
#include <systemd/sd-daemon.h>

/* A changed configuration is read by the process that comes after this one: leases and sockets stay. */
static int on_stop(void *userdata, int signal, uint64_t now)
{
    wv_notice("stopping", "signal=%d", signal);
    sd_notify(0, "STOPPING=1");
    wv_loop_quit(userdata, signal == SIGHUP ? EX_TEMPFAIL : EX_OK);
    return 0;
}

static int make_loop(struct wv_loop **ret)
{
    static const int signals[] = {SIGTERM, SIGINT, SIGHUP};
    int r = wv_loop_new(ret);
    for (size_t i = 0; r == 0 && i < WV_ARRAY_SIZE(signals); i++)
        r = wv_loop_add_signal(*ret, signals[i], on_stop, *ret);
    return r;
}

static int lock_down(void)
{
    static const struct wv_sandbox sandbox = {.max_files = 256};
    int r = wv_sandbox_enter(&sandbox);
    if (r < 0)
        wv_error("the process can't be locked down", "error=\"%s\"", strerror(-r));
    return r;
}

static int serve(struct wv_loop *loop, const struct wv_relay_settings *settings)
{
    struct wv_relay_service *service = NULL;
    int r = wv_relay_service_new(&service, loop, settings);
    if (r == 0)
        r = lock_down();
    if (r == 0)
        r = wv_relay_service_start(service);
    if (r == 0) {
        sd_notify(0, "READY=1");
        wv_notice("relaying", "name=\"%s\" issuers=%zu", wv_config_string(settings->config, "name"),
                  settings->n_issuers);
        r = wv_loop_run(loop);
    }
    wv_relay_service_free(service);
    if (r >= 0)
        return r;
    wv_error("the relay failed", "error=\"%s\"", strerror(-r));
    return r == -EINVAL ? EX_CONFIG : r == -EADDRINUSE || r == -EADDRNOTAVAIL ? EX_UNAVAILABLE : EX_OSERR;
}

static int run(const struct wv_relay_settings *settings)
{
    struct wv_loop *loop = NULL;
    wv_log_init("relay", settings->level);
    signal(SIGPIPE, SIG_IGN);
    (void)prctl(PR_SET_TIMERSLACK, 1UL, 0, 0, 0); /* held datagrams leave when they are due */
    int r = wv_sandbox_prepare();
    if (r == 0)
        r = rift_crypto_init();
    if (r == 0)
        r = make_loop(&loop);
    int code = EX_OSERR;
    if (r == 0)
        code = serve(loop, settings);
    else
        wv_error("setting up the process", "error=\"%s\"", strerror(-r));
    wv_loop_free(loop);
    return code;
}

int main(int argc, char **argv)
{
    struct wv_relay_settings settings;
    int code = wv_relay_settings_read(&settings, argc, argv);
    if (code < 0)
        code = run(&settings);
    wv_relay_settings_fini(&settings);
    return code;
}
