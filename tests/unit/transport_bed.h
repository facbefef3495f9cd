/* A host's transport in a process of its own, as it runs in life, and a client in another; this process
 * stands in for encoder, capture, input and identity. For what can only be told of whole processes: what they
 * cost, what they allocate, how punctual they are. Whatever goes wrong ends the program with a message. */
#pragma once

#include "lib/ipc/au_ring.h"
#include "lib/ipc/bus.h"
#include "lib/ipc/metrics.h"
#include "proto/bus_paths.pb-c.h"
#include "rift/crypto/media_seal.h"
#include "services/identity/identity.h"
#include "services/transport/metrics.h"

#include <stdatomic.h>
#include <sys/types.h>

#define BED_EVENTS 65536

/* What the processes tell each other beside what is tested. */
struct bed_shared {
    _Atomic uint64_t allocations; /* of the transport's process */
    _Atomic uint64_t frames, frame_bytes, frames_lost, packets_lost;
    _Atomic uint64_t sent_ns[BED_EVENTS];  /* input events at the client, by their sequence */
    _Atomic uint32_t frame_us[BED_EVENTS]; /* pushed by the encoder until whole at the client, by its turn */
};

struct bed_options {
    const char *address; /* of the host, IPv4; NULL: all, of both families */
    uint16_t port;       /* 0: any */
    const char
        *client_namespace; /* NULL: this one; else a path to enter before the client's socket is made */
    uint32_t bitrate_bps, start_bps;
    unsigned fps;
    bool fec;
    uint64_t input_every_ns; /* between the client's key events, on the mean; 0: none */
};

struct bed_stage {
    struct wv_bus *bus;
    struct wv_bus_link *link;
};

struct bed {
    struct bed_options options;
    char folder[64];
    struct bed_shared *shared;
    pid_t transport, client;
    int udp, au_entries, au_reader, au_event, page, metrics_fd, vault;
    uint16_t port;
    struct wv_loop *loop;
    struct wv_loop_source *frame_timer, *end_timer;
    struct wv_identity *identity;
    struct wv_metrics *identity_metrics;
    uint8_t host_key[32];
    struct wv_au_producer *encoder_ring;
    struct rift_media_sealer sealer; /* by identity's word, as the encoder's */
    struct bed_stage stages[5];      /* encoder, capture, input, identity, reach */

    uint32_t target_bps, viewers;
    bool hold, keyframe_wanted;
    uint64_t frames_pushed, frames_held;
    uint32_t input_seen;
    /* Called for every event that reaches the input stage for the first time. */
    void (*on_input)(void *userdata, uint32_t seq, uint64_t took_ns, uint64_t now);
    /* Transport's answer to a PathOffer (bed_say_as_identity()). */
    void (*on_path_answer)(void *userdata, const Wavry__Bus__PathAnswer *answer);
    /* What transport learnt from STUN servers. */
    void (*on_addresses)(void *userdata, const Wavry__Bus__TransportAddresses *addresses);
    void *userdata;
};

/* Where a program that has count_allocations.c counts; NULL: nowhere yet. */
extern _Atomic uint64_t *bed_allocations;

/* Forks the transport. */
void bed_init(struct bed *b, const struct bed_options *options);
/* Forks a client, which connects and stays until bed_fini(). */
void bed_client(struct bed *b);
/* Everything runs for NS. */
void bed_run(struct bed *b, uint64_t ns);
/* Runs until a client watches, at most 10 s. */
void bed_wait_viewer(struct bed *b);
void bed_fini(struct bed *b);
/* To transport, as the stage "identity" or "reach" would. */
void bed_say_as_identity(struct bed *b, const ProtobufCMessage *message);
void bed_say_as_reach(struct bed *b, const ProtobufCMessage *message);
/* The transport is killed, and another one goes on with what it was granted. */
void bed_restart_transport(struct bed *b);

/* CPU time of a process so far. */
uint64_t bed_cpu_ns(pid_t pid);
/* The transport's metrics; valid until the next call. */
const struct wv_metrics_snapshot *bed_metrics(struct bed *b);
