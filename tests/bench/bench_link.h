/* A machine's WebSocket at a gateway, as `./wavry bench gateway` opens thousands of: non-blocking, with TLS
 * or without, small enough that the load itself costs little. Whatever goes wrong ends the program. */
#pragma once

#include <netinet/in.h>
#include <openssl/ssl.h>
#include <stdbool.h>
#include <stddef.h>

#define BENCH_IN_BYTES 2048

enum bench_state { BENCH_OPENING, BENCH_SHAKING, BENCH_UPGRADING, BENCH_GREETING, BENCH_READY };

struct bench_link {
    int fd;
    SSL *ssl; /* NULL: without TLS */
    unsigned index;
    enum bench_state state;
    size_t len;
    char in[BENCH_IN_BYTES];
};

struct bench_net {
    struct sockaddr_in to;
    SSL_CTX *tls; /* NULL: without */
    int epoll_fd;
    /* What is said first: the machine's token. */
    void (*token)(unsigned index, char *ret_text, size_t capacity);
    /* A message came; the first is the welcome, after which LINK is ready. */
    void (*text)(void *userdata, struct bench_link *link, const char *text, size_t len);
    void *userdata;
};

_Noreturn void bench_die(const char *what);
void bench_net_init(struct bench_net *net, uint16_t port, bool tls);
void bench_link_open(struct bench_net *net, struct bench_link *link, unsigned index);
void bench_link_put(struct bench_link *link, const char *text, size_t len);
/* Waits for what comes, for at most TIMEOUT_MS, and handles it. */
void bench_net_turn(struct bench_net *net, int timeout_ms);
/* The value of NAME in a message that the gateway made: no escapes. */
bool bench_value(const char *text, size_t len, const char *name, char *ret, size_t capacity);
