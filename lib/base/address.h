/* IP addresses and ports as people write them in configuration. All addresses are 16 bytes, IPv4 mapped. It
 * resolves no names. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* 0..65535 in digits and nothing else. */
bool wv_port_parse(const char *text, uint16_t *ret_port);
/* 192.0.2.1 or 2001:db8::1 */
bool wv_ip_parse(const char *text, uint8_t ret_ip[16]);

/* Where a server listens. */
struct wv_listen_at {
    bool any;       /* all addresses, IPv6 and IPv4 */
    uint8_t ip[16]; /* when not any */
    uint16_t port;
    char text[64]; /* as it was written */
};

/* Words with blanks between: PORT, 192.0.2.1:PORT or [2001:db8::1]:PORT, from one to CAPACITY of them.
 * Returns 0, or -EINVAL with a sentence in RET_MESSAGE (malloc'ed), in which EXAMPLE is a port that would do.
 */
int wv_listen_parse(const char *text, unsigned example, struct wv_listen_at *ret, size_t capacity,
                    size_t *ret_n, char **ret_message);

/* The next word of *P up to a blank, cut to CAPACITY. Returns its length before the cut; 0 at the end. */
size_t wv_next_word(const char **p, char *ret, size_t capacity);
