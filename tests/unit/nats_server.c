#include "tests/unit/nats_server.h"

#include "lib/base/util.h"

#include <arpa/inet.h>
#include <check.h>
#include <errno.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>

static const char *const places[] = {"/usr/sbin/nats-server", "/usr/bin/nats-server"};

static const char *program(void)
{
    for (size_t i = 0; i < WV_ARRAY_SIZE(places); i++)
        if (access(places[i], X_OK) == 0)
            return places[i];
    return NULL;
}

bool nats_server_exists(void)
{
    return program();
}

/* None that the kernel gives to who asks for any: it stays free while the server is away. */
static uint16_t free_port(void)
{
    for (;;) {
        uint16_t port = (uint16_t)(10000 + wv_now_ns() / WV_NS_PER_US % 20000);
        struct sockaddr_in a = {
            .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
        wv_cleanup(wv_close_p) int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (bind(fd, (struct sockaddr *)&a, sizeof a) == 0)
            return port;
    }
}

static bool answers(uint16_t port)
{
    struct sockaddr_in a = {
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    wv_cleanup(wv_close_p) int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    char info[5] = "";
    return connect(fd, (struct sockaddr *)&a, sizeof a) == 0 && recv(fd, info, 4, MSG_WAITALL) == 4 &&
           !strcmp(info, "INFO");
}

static void start_on(struct nats_server *s, uint16_t port)
{
    char text[8];
    s->port = port;
    snprintf(text, sizeof text, "%u", port);
    snprintf(s->url, sizeof s->url, "nats://127.0.0.1:%u", port);
    s->pid = fork();
    ck_assert_int_ge(s->pid, 0);
    if (s->pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (freopen("/dev/null", "w", stderr))
            execl(program(), "nats-server", "-a", "127.0.0.1", "-p", text, (char *)NULL);
        _exit(127);
    }
}

void nats_server_start(struct nats_server *s, uint16_t port)
{
    uint64_t end = wv_now_ns() + 20 * WV_NS_PER_S;
    bool any = port == 0;
    for (bool started = false; wv_now_ns() < end; nanosleep(&(struct timespec){.tv_nsec = 10000000}, NULL)) {
        if (started && waitpid(s->pid, NULL, WNOHANG) == s->pid)
            started = false; /* somebody took the port: another one, or the same one again */
        if (!started) {
            if (any)
                port = free_port();
            start_on(s, port);
            started = true;
        }
        if (answers(port))
            return;
    }
    ck_abort_msg("nats-server did not answer");
}

void nats_server_signal(struct nats_server *s, int signal)
{
    ck_assert_int_eq(kill(s->pid, signal), 0);
    if (signal != SIGKILL && signal != SIGTERM)
        return;
    ck_assert_int_eq(waitpid(s->pid, NULL, 0), s->pid);
    s->pid = 0;
}
