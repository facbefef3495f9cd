/* One simulated session: a host and a client with made-up applications over two links, and everything that
 * must hold of what they see. */
#pragma once

#include "rift/core/handshake.h"
#include "rift/core/session.h"
#include "tests/sim/link.h"

#define SIM_FRAMES   2048
#define SIM_EVENTS   16384
#define SIM_MESSAGES 512

struct sim_frame {
    struct rift_frame_meta meta;
    size_t len;
};

/* One direction of control messages: message I has a length and content that follow from I and the salt. */
struct sim_messages {
    uint64_t salt;
    uint32_t lengths[SIM_MESSAGES];
    bool gone[SIM_MESSAGES]; /* queued at a host that died before a stored state covered them */
    unsigned sent, received;
    unsigned covered; /* by the stored state */
};

struct sim_world {
    uint64_t seed;
    bool verbose;
    struct sim_random random;
    uint64_t now;
    uint64_t host_clock, client_clock; /* what their clocks show at virtual time 0 */
    struct sim_link to_client, to_host;
    struct rift_session *host, *client;

    /* Where the client is, and how that goes wrong. */
    uint8_t client_address[SIM_ADDRESS], old_address[SIM_ADDRESS];
    bool old_alive; /* what is sent to the old address still arrives */
    uint64_t next_rebind, rebind_pause;
    unsigned rebinds;
    bool attacked; /* somebody forwards copies of what both send */
    uint64_t attacker_delay;
    unsigned media_to_attacker, media;

    /* The host's process dies and comes back from what it stored. */
    struct rift_session_config host_config;
    bool held;
    uint32_t restart_ppm;
    uint8_t state[RIFT_STATE_MAX_BYTES];
    size_t state_len;
    unsigned restarts;
    uint64_t next_counter[2]; /* of either side, host first: lower ones were used */
    uint64_t
        restored; /* the host's first counter, when it isn't 0: losses before the first arrival don't show */
    bool clean;   /* a path that loses and reorders nothing */
    uint64_t host_lazy, client_lazy; /* the application takes events this rarely; 0: at once */
    uint64_t host_drain, client_drain;

    /* Host application. */
    struct sim_frame frames[SIM_FRAMES];
    unsigned n_frames;
    uint64_t next_frame, frame_pause;
    size_t frame_bytes;
    uint16_t epoch;
    bool force_key, quiet, ended;
    uint32_t last_accepted; /* id of the last frame that the session took */
    struct rift_cursor cursor;
    bool cursor_sent;
    uint64_t next_cursor;
    unsigned key_events;

    /* Client application. */
    struct rift_input_event events[SIM_EVENTS]; /* by sequence */
    struct rift_input_event seen[SIM_EVENTS];
    uint8_t input_key[RIFT_KEY_BYTES];
    uint32_t n_events, n_seen;
    uint64_t next_input;
    uint64_t input_pause;
    struct rift_cursor cursor_seen;
    bool any_frame;
    uint32_t last_frame;
    unsigned frames_seen, app_key_requests;

    struct sim_messages down, up; /* host to client, client to host */
    uint64_t next_message;

    /* Datagrams kept to be replayed. */
    struct sim_packet *kept[16];
    bool kept_to_host[16];
    uint64_t replays;

    enum rift_close_reason host_closed, client_closed;
    bool closing, host_ended, client_ended;
    char failure[256];
};

/* Runs one session. Returns 0, or -1 with w->failure set. */
int sim_world_run(struct sim_world *w, uint64_t seed, bool verbose);
void sim_world_fini(struct sim_world *w);

/* ---- between world.c, greet.c, road.c and apps.c ---- */

/* The handshake over both links. Fills ids and keys of both. Returns 0 or -1. */
int sim_greet(struct sim_world *w, struct rift_session_config *ret_host,
              struct rift_session_config *ret_client);

/* What lies between the sessions: sockets, a NAT, a stranger, the end of a process. */
void sim_road_prepare(struct sim_world *w);
void sim_road_step(struct sim_world *w);
void sim_pump_send(struct sim_world *w, bool from_host);
void sim_pump_receive(struct sim_world *w, bool to_host);
void sim_drain(struct sim_world *w);
bool sim_flow_is_at_client(const struct sim_world *w);

#define SIM_HOST 99 /* first byte of the host's address */

/* Passes over messages that died with a host. */
void sim_skip_gone(struct sim_messages *m);

void sim_fail(struct sim_world *w, const char *format, ...) __attribute__((format(printf, 2, 3)));
void sim_host_step(struct sim_world *w);
void sim_client_step(struct sim_world *w);
/* Takes every event that is there; returns how many. */
unsigned sim_host_events(struct sim_world *w);
unsigned sim_client_events(struct sim_world *w);
uint64_t sim_next_step(const struct sim_world *w);
