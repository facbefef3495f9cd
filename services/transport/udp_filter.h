/* A filter in the kernel for the host's UDP socket: what by its first byte and length is nothing that a host
 * takes never wakes transport up. */
#pragma once

/* Attaches it to FD, in place of the one that is there. Replacing it is no privilege, so it guards nothing:
 * whoever receives still looks at everything. FD must not have UDP_GRO: the filter would see a train that the
 * kernel joined as one datagram, and junk in front of a peer's datagrams would take them along. Returns 0 or
 * a negative errno. */
int wv_udp_filter_attach(int fd);
