#include "tests/unit/gateway_stand_in.h"

#include "lib/base/util.h"

#include <arpa/inet.h>
#include <errno.h>
#include <openssl/ssl.h>
#include <poll.h>
#include <pthread.h>
#include <sodium.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>

#define PEERS_MAX   256
#define REQUEST_MAX 16384
#define TURN_MS     10

#define require(condition)                                                                                   \
    do {                                                                                                     \
        if (!(condition)) {                                                                                  \
            fprintf(stderr, "%s:%d: not true: %s\n", __FILE__, __LINE__, #condition);                        \
            abort();                                                                                         \
        }                                                                                                    \
    } while (0)

struct stand_in_peer {
    struct stand_in *owner;
    int fd;
    SSL *ssl;
    pthread_t thread;
};

struct stand_in {
    int fd;
    uint16_t port;
    SSL_CTX *tls;
    stand_in_fn talk;
    void *userdata;
    atomic_bool stop;
    atomic_uint connections;
    _Atomic(const void *) greeting; /* its length was set before */
    size_t greeting_len;
    pthread_t thread;
    struct stand_in_peer peers[PEERS_MAX];
};

/* ---- bytes ---- */

static bool may_go_on(const struct stand_in_peer *p)
{
    return !atomic_load(&p->owner->stop);
}

static bool turn(struct stand_in_peer *p, short events)
{
    struct pollfd poll_fd = {.fd = p->fd, .events = events};
    return poll(&poll_fd, 1, TURN_MS) >= 0;
}

bool stand_in_put(struct stand_in_peer *p, const void *data, size_t len)
{
    const char *at = data;
    while (len && may_go_on(p)) {
        ssize_t n =
            p->ssl ? SSL_write(p->ssl, at, (int)len) : send(p->fd, at, len, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (n > 0) {
            at += n;
            len -= (size_t)n;
        } else if (p->ssl ? SSL_get_error(p->ssl, (int)n) != SSL_ERROR_WANT_WRITE : errno != EAGAIN) {
            return false;
        } else {
            turn(p, POLLOUT);
        }
    }
    return len == 0;
}

/* Returns the number of bytes, 0: it is over. */
static size_t get(struct stand_in_peer *p, void *to, size_t len)
{
    while (may_go_on(p)) {
        ssize_t n = p->ssl ? SSL_read(p->ssl, to, (int)len) : recv(p->fd, to, len, MSG_DONTWAIT);
        if (n > 0)
            return (size_t)n;
        if (p->ssl ? SSL_get_error(p->ssl, (int)n) != SSL_ERROR_WANT_READ : n == 0 || errno != EAGAIN)
            return 0;
        turn(p, POLLIN);
    }
    return 0;
}

static bool get_all(struct stand_in_peer *p, uint8_t *to, size_t len)
{
    for (size_t n; len; to += n, len -= n)
        if ((n = get(p, to, len)) == 0)
            return false;
    return true;
}

bool stand_in_wait(struct stand_in_peer *p, unsigned ms)
{
    uint64_t until = wv_now_ns() + ms * WV_NS_PER_MS;
    while (may_go_on(p) && wv_now_ns() < until) {
        char byte;
        if (!p->ssl && recv(p->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) == 0)
            return false;
        poll(NULL, 0, 1);
    }
    return may_go_on(p);
}

bool stand_in_hear(struct stand_in_peer *p)
{
    char byte;
    return get(p, &byte, 1) == 1;
}

/* ---- HTTP ---- */

void stand_in_answer(struct stand_in_peer *p, unsigned status, const char *body)
{
    char head[200];
    int n = snprintf(head, sizeof head,
                     "HTTP/1.1 %u Word\r\ncontent-type: application/json\r\ncontent-length: %zu\r\n"
                     "connection: close\r\n\r\n",
                     status, strlen(body));
    if (stand_in_put(p, head, (size_t)n))
        stand_in_put(p, body, strlen(body));
}

void stand_in_upgrade(struct stand_in_peer *p, const char *head)
{
    static const char magic[] = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
    char text[200], answer[300], accept[64];
    unsigned char digest[20];
    unsigned digest_len = sizeof digest;
    const char *key = strcasestr(head, "sec-websocket-key: ");
    require(key);
    key += strlen("sec-websocket-key: ");
    snprintf(text, sizeof text, "%.*s%s", (int)strcspn(key, "\r\n"), key, magic);
    require(EVP_Digest(text, strlen(text), digest, &digest_len, EVP_sha1(), NULL) == 1);
    sodium_bin2base64(accept, sizeof accept, digest, sizeof digest, sodium_base64_VARIANT_ORIGINAL);
    snprintf(answer, sizeof answer,
             "HTTP/1.1 101 Switching\r\nupgrade: websocket\r\nconnection: Upgrade\r\n"
             "sec-websocket-accept: %s\r\nsec-websocket-protocol: wavry-signal.1\r\n\r\n",
             accept);
    stand_in_put(p, answer, strlen(answer));
}

bool stand_in_drip(struct stand_in_peer *p, const char *text, unsigned apart_ms)
{
    for (; *text; text++)
        if (!stand_in_put(p, text, 1) || !stand_in_wait(p, apart_ms))
            return false;
    return true;
}

bool stand_in_any_frame(struct stand_in_peer *p, uint8_t first, uint64_t claimed, const void *data,
                        size_t len)
{
    uint8_t head[10] = {first, 127};
    for (int i = 0; i < 8; i++)
        head[2 + i] = (uint8_t)(claimed >> (56 - 8 * i));
    if (claimed > 65535)
        return stand_in_put(p, head, 10) && stand_in_put(p, data, len);
    head[1] = claimed > 125 ? 126 : (uint8_t)claimed;
    head[2] = (uint8_t)(claimed >> 8);
    head[3] = (uint8_t)claimed;
    return stand_in_put(p, head, claimed > 125 ? 4 : 2) && stand_in_put(p, data, len);
}

bool stand_in_frame(struct stand_in_peer *p, const char *text)
{
    return stand_in_any_frame(p, 0x81, strlen(text), text, strlen(text));
}

size_t stand_in_read_frame(struct stand_in_peer *p, char *ret, size_t capacity)
{
    for (;;) {
        uint8_t head[2], more[2], mask[4];
        if (!get_all(p, head, 2))
            return 0;
        size_t len = head[1] & 0x7f;
        require(len < 127);
        if (len == 126) {
            if (!get_all(p, more, 2))
                return 0;
            len = (size_t)more[0] << 8 | more[1];
        }
        require(len < capacity);
        if (!get_all(p, mask, 4) || !get_all(p, (uint8_t *)ret, len))
            return 0;
        for (size_t i = 0; i < len; i++)
            ret[i] = (char)(ret[i] ^ (char)mask[i % 4]);
        ret[len] = '\0';
        if ((head[0] & 0xf) == 8)
            return 0;
        if ((head[0] & 0xf) == 1)
            return len;
    }
}

/* ---- connections ---- */

static void take_request(struct stand_in_peer *p)
{
    char text[REQUEST_MAX] = "";
    size_t len = 0, n;
    char *end = NULL;
    while (!end && len < sizeof text - 1 && (n = get(p, text + len, sizeof text - 1 - len))) {
        len += n;
        text[len] = '\0';
        end = strstr(text, "\r\n\r\n");
    }
    if (!end)
        return;
    const char *length = strcasestr(text, "content-length: ");
    size_t body = length && length < end ? strtoul(length + 16, NULL, 10) : 0;
    end += 4;
    while (len - (size_t)(end - text) < body && len < sizeof text - 1 &&
           (n = get(p, text + len, sizeof text - 1 - len))) {
        len += n;
        text[len] = '\0';
    }
    char *copy = strdup(end);
    require(copy);
    *end = '\0';
    p->owner->talk(p, p->owner->userdata, text, copy);
    free(copy);
}

static void greet(struct stand_in_peer *p, const void *greeting)
{
    char said[512];
    if (get(p, said, sizeof said))
        stand_in_put(p, greeting, p->owner->greeting_len);
}

static void *serve(void *userdata)
{
    struct stand_in_peer *p = userdata;
    const void *greeting = atomic_load(&p->owner->greeting);
    bool good = !greeting;
    if (greeting)
        greet(p, greeting);
    if (good && p->owner->tls) {
        p->ssl = SSL_new(p->owner->tls);
        require(p->ssl && SSL_set_fd(p->ssl, p->fd) == 1);
        int r;
        while ((r = SSL_accept(p->ssl)) != 1 && may_go_on(p)) {
            int error = SSL_get_error(p->ssl, r);
            if (error != SSL_ERROR_WANT_READ && error != SSL_ERROR_WANT_WRITE)
                break;
            turn(p, POLLIN);
        }
        good = r == 1;
    }
    if (good)
        take_request(p);
    if (p->ssl && good)
        SSL_shutdown(p->ssl);
    SSL_free(p->ssl);
    shutdown(p->fd, SHUT_WR);
    for (char rest[512]; may_go_on(p) && recv(p->fd, rest, sizeof rest, MSG_DONTWAIT) > 0;)
        ; /* or what was sent is thrown away with it */
    p->fd = wv_close(p->fd);
    return NULL;
}

static void *accept_all(void *userdata)
{
    struct stand_in *s = userdata;
    while (!atomic_load(&s->stop)) {
        struct pollfd poll_fd = {.fd = s->fd, .events = POLLIN};
        if (poll(&poll_fd, 1, TURN_MS) <= 0)
            continue;
        int fd = accept4(s->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
        if (fd < 0)
            continue;
        unsigned i = atomic_load(&s->connections);
        require(i < PEERS_MAX);
        s->peers[i] = (struct stand_in_peer){.owner = s, .fd = fd};
        atomic_store(&s->connections, i + 1); /* before anybody can have an answer */
        require(pthread_create(&s->peers[i].thread, NULL, serve, &s->peers[i]) == 0);
    }
    return NULL;
}

struct stand_in *stand_in_new(bool v6, const char *certificate, stand_in_fn talk, void *userdata)
{
    struct sockaddr_in6 in6 = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT};
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct sockaddr *name = v6 ? (struct sockaddr *)&in6 : (struct sockaddr *)&in;
    socklen_t len = v6 ? sizeof in6 : sizeof in;
    struct stand_in *s = calloc(1, sizeof *s);
    require(s);
    s->talk = talk;
    s->userdata = userdata;
    s->fd = socket(v6 ? AF_INET6 : AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    require(s->fd >= 0 && bind(s->fd, name, len) == 0 && listen(s->fd, 64) == 0);
    require(getsockname(s->fd, name, &len) == 0);
    s->port = ntohs(v6 ? in6.sin6_port : in.sin_port);
    if (certificate) {
        s->tls = SSL_CTX_new(TLS_server_method());
        require(s->tls && SSL_CTX_use_certificate_chain_file(s->tls, certificate) == 1);
        require(SSL_CTX_use_PrivateKey_file(s->tls, certificate, SSL_FILETYPE_PEM) == 1);
    }
    require(pthread_create(&s->thread, NULL, accept_all, s) == 0);
    return s;
}

struct stand_in *stand_in_free(struct stand_in *s)
{
    if (!s)
        return NULL;
    atomic_store(&s->stop, true);
    pthread_join(s->thread, NULL);
    for (unsigned i = 0; i < atomic_load(&s->connections); i++)
        pthread_join(s->peers[i].thread, NULL);
    SSL_CTX_free(s->tls);
    wv_close(s->fd);
    free(s);
    return NULL;
}

void stand_in_set_greeting(struct stand_in *s, const void *data, size_t len)
{
    s->greeting_len = len;
    atomic_store(&s->greeting, data);
}

uint16_t stand_in_port(const struct stand_in *s)
{
    return s->port;
}

unsigned stand_in_connections(const struct stand_in *s)
{
    return atomic_load(&s->connections);
}

void stand_in_certificate(const char *path, const char *common_name, const char *names)
{
    char subject[100], extension[200];
    int status;
    snprintf(subject, sizeof subject, "/CN=%s", common_name);
    snprintf(extension, sizeof extension, *names ? "subjectAltName=%s" : "keyUsage=digitalSignature%s",
             names);
    pid_t child = fork();
    require(child >= 0);
    if (child == 0) {
        require(freopen("/dev/null", "w", stderr));
        execlp("openssl", "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt",
               "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2", "-subj", subject, "-addext", extension,
               "-keyout", path, "-out", path, (char *)NULL);
        _exit(127);
    }
    require(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0);
}
