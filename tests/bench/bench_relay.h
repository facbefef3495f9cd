/* What the files of bench-relay share: a way from one socket to another through something that forwards. */
#pragma once

#include <netinet/in.h>
#include <stddef.h>
#include <stdint.h>

#define PAYLOAD   1200 /* sealed datagrams of a full size */
#define HEAD_MAX  8
#define FLOWS_MAX 20000

/* Datagrams are sent from SEND to SERVER with the flow's head in front, and come out at RECEIVE. */
struct way {
    int send, receive;
    struct sockaddr_in server;
    size_t head; /* bytes in front of the payload */
    size_t n_flows;
    uint8_t heads[FLOWS_MAX][HEAD_MAX];
};

int udp_socket(struct sockaddr_in *ret_name); /* on --here; ends the program when that fails */
_Noreturn void die(const char *what);

/* A lease for each flow, signed with the key of SEED, both sides bound. */
void way_through_relay(struct way *w, const char *name, const uint8_t seed[32], size_t flows);
/* An allocation and a channel to the receiving socket (RFC 8656, no authentication). */
void way_through_turn(struct way *w);
