/* Writes the filter (classic BPF) from RIFT's own table of datagrams. Must never hold back anything that
 * WIRE.md or STUN (RFC 8489) knows. */
#include "services/transport/udp_filter.h"

#include "rift/core/handshake.h"

#include <errno.h>
#include <linux/filter.h>
#include <stdbool.h>
#include <sys/socket.h>

#define UDP_HEAD      8 /* the filter sees the UDP header, too, and counts it */
#define STUN_LEAST    20
#define STUN_COOKIE   0x2112a442u /* at byte 4 */
#define STUN_TYPES    0x3f        /* of the first byte at most: the two bits above are 0 */
#define PROGRAM_MOST  128
#define FOR_STUN      9
#define FOR_ONE_SHAPE 6

struct program {
    struct sock_filter code[PROGRAM_MOST];
    unsigned short n;
};

static void add(struct program *p, unsigned code, uint32_t k, unsigned if_true, unsigned if_false)
{
    p->code[p->n++] =
        (struct sock_filter){.code = (uint16_t)code, .jt = (uint8_t)if_true, .jf = (uint8_t)if_false, .k = k};
}

static void end(struct program *p, bool pass)
{
    add(p, BPF_RET | BPF_K, pass ? UINT32_MAX : 0, 0, 0);
}

/* Begins with the whole length in X; passes a STUN message. A load behind the end would drop the datagram. */
static void add_stun(struct program *p)
{
    add(p, BPF_LDX | BPF_W | BPF_LEN, 0, 0, 0);
    add(p, BPF_MISC | BPF_TXA, 0, 0, 0);
    add(p, BPF_JMP | BPF_JGE | BPF_K, UDP_HEAD + STUN_LEAST, 0, FOR_STUN - 4);
    add(p, BPF_LD | BPF_W | BPF_ABS, UDP_HEAD + 4, 0, 0);
    add(p, BPF_JMP | BPF_JEQ | BPF_K, STUN_COOKIE, 0, FOR_STUN - 6);
    add(p, BPF_LD | BPF_B | BPF_ABS, UDP_HEAD, 0, 0);
    add(p, BPF_JMP | BPF_JGT | BPF_K, STUN_TYPES, 1, 0);
    end(p, true);
    add(p, BPF_LD | BPF_B | BPF_ABS, UDP_HEAD, 0, 0);
}

/* With the first byte in A: decides when it is one of SHAPE's. */
static void add_shape(struct program *p, const struct rift_datagram_shape *shape)
{
    add(p, BPF_JMP | BPF_JGE | BPF_K, shape->first, 0, FOR_ONE_SHAPE);
    add(p, BPF_JMP | BPF_JGT | BPF_K, shape->last, FOR_ONE_SHAPE - 1, 0);
    add(p, BPF_MISC | BPF_TXA, 0, 0, 0);
    add(p, BPF_JMP | BPF_JGE | BPF_K, UDP_HEAD + (uint32_t)shape->least, 0, 2);
    add(p, BPF_JMP | BPF_JGT | BPF_K, UDP_HEAD + (uint32_t)shape->most, 1, 0);
    end(p, true);
    end(p, false);
}

int wv_udp_filter_attach(int fd)
{
    struct program p = {.n = 0};
    size_t n;
    const struct rift_datagram_shape *shapes = rift_datagram_shapes(&n);
    if (FOR_STUN + n * (FOR_ONE_SHAPE + 1) + 1 > PROGRAM_MOST)
        return -E2BIG;
    add_stun(&p);
    for (size_t i = 0; i < n; i++)
        add_shape(&p, &shapes[i]);
    end(&p, false);
    const struct sock_fprog program = {.len = p.n, .filter = p.code};
    return setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof program) < 0 ? -errno : 0;
}
