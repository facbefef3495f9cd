/* For the transport stage's tests: the kit that each test runs in, and what they wait for in it. Conditions
 * are for kit_wait(); ARGUMENT is what its body casts it to. */
#pragma once

#include "tests/unit/suite.h"
#include "tests/unit/transport_kit.h"

extern struct kit kit;

void setup(void);
void teardown(void);
bool client_is_closed(struct kit *k, void *argument);
bool has_frames(struct kit *k, void *argument);
bool has_event(struct kit *k, void *argument);
bool has_release(struct kit *k, void *argument);
bool controls(struct kit *k, void *argument);
void wait_page(unsigned n);
void wait_viewers(uint32_t n);
void wait_metric(enum wv_transport_metric id, uint64_t least);
void connect_client(struct kit_client *c, uint8_t seed, bool view_only);
/* The same, until it has been told that it controls: the first word to it may come before identity's. */
void connect_controller(struct kit_client *c, uint8_t seed);
bool is_drained(struct kit *k, void *argument);
