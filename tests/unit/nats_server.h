/* A real nats-server for a test: on a port of its own, ended by its pid. */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct nats_server {
    pid_t pid; /* 0: not running */
    uint16_t port;
    char url[64];
};

/* Whether there is a nats-server to start. */
bool nats_server_exists(void);
/* Port 0: the server takes a free one. Fails the test when it does not answer within 20 s. */
void nats_server_start(struct nats_server *s, uint16_t port);
void nats_server_signal(struct nats_server *s, int signal); /* SIGKILL and SIGTERM: waits until it is gone */
