/* rift-handshake: either end of RIFT's handshake over UDP, with every byte on the table, so that an
 * implementation in another language can be put against this one. For tests only: it prints secrets. It must
 * run the same code as host and client, never a copy of it. */
#include "lib/base/util.h"
#include "rift/tools/handshake_end.h"

#include <errno.h>
#include <getopt.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>
#include <sysexits.h>

static const char help[] =
    "usage: rift-handshake initiate ADDRESS PORT [options]\n"
    "       rift-handshake respond  ADDRESS PORT [options]   (port 0: any)\n"
    "Plays one end of a RIFT handshake over UDP and prints every datagram, payload and key in hex.\n"
    "It shows secrets: never use it with keys that matter.\n\n"
    "  --secret HEX     X25519 secret of this end; else a random one\n"
    "  --ephemeral HEX  ephemeral secret of this end, which makes all it sends the same each time\n"
    "  --host-key KEY   initiate: the host's public key, wavry1... or hex; without it, as who wants to pair\n"
    "  --pairing        respond: also to those who do not know the key\n"
    "  --payload TEXT   initiate: the payload of message 3\n"
    "  --seconds N      how long to wait, 1 to 3600; 10\n"
    "  --help           this text\n\n"
    "Ends 0 when a data datagram of the other end was opened, 1 when none came, 2 when the host has another\n"
    "key, 64 wrong usage, 71 the network can't be used.\n";

/* ---- a random source that is not one ---- */

static uint8_t fixed_bytes[32];

static const char *fixed_name(void)
{
    return "fixed";
}

static void fixed_fill(void *buffer, size_t len)
{
    for (size_t i = 0; i < len; i++)
        ((uint8_t *)buffer)[i] = fixed_bytes[i % sizeof fixed_bytes];
}

static uint32_t fixed_word(void)
{
    uint32_t word;
    memcpy(&word, fixed_bytes, sizeof word);
    return word;
}

static struct randombytes_implementation fixed_source = {
    .implementation_name = fixed_name, .random = fixed_word, .buf = fixed_fill};

/* ---- the command line ---- */

static int parse_secret(const char *text, uint8_t ret[32])
{
    return strlen(text) == 64 ? wv_hex_decode(text, ret, 32) : -EINVAL;
}

static int parse_key(const char *text, uint8_t ret[32])
{
    return strlen(text) == 64 ? wv_hex_decode(text, ret, 32) : rift_public_key_parse(text, ret);
}

static int parse_number(const char *text, unsigned long least, unsigned long most, unsigned long *ret)
{
    char *end;
    errno = 0;
    unsigned long v = strtoul(text, &end, 10);
    if (text[0] < '0' || text[0] > '9' || *end || errno || v < least || v > most)
        return -EINVAL;
    *ret = v;
    return 0;
}

static int wrong(const char *what, const char *value)
{
    fprintf(stderr, "rift-handshake: %s: %s (--help says more)\n", value, what);
    return -EINVAL;
}

static int take_option(struct handshake_end *e, int option)
{
    unsigned long number;
    switch (option) {
    case 's':
        return parse_secret(optarg, e->secret) < 0 ? wrong("--secret takes 64 hex digits", optarg) : 0;
    case 'e':
        if (parse_secret(optarg, fixed_bytes) < 0)
            return wrong("--ephemeral takes 64 hex digits", optarg);
        return randombytes_set_implementation(&fixed_source);
    case 'k':
        e->has_host_key = true;
        return parse_key(optarg, e->host_key) < 0 ? wrong("no public key", optarg) : 0;
    case 'p':
        e->payload = optarg;
        return strlen(optarg) > RIFT_HANDSHAKE_PAYLOAD_MAX ? wrong("at most 512 bytes", "--payload") : 0;
    case 'n':
        if (parse_number(optarg, 1, 3600, &number) < 0)
            return wrong("--seconds takes 1 to 3600", optarg);
        e->seconds = (unsigned)number;
        return 0;
    case 'a':
        e->pairing = true;
        return 0;
    default:
        return -EINVAL;
    }
}

static int parse(struct handshake_end *e, int argc, char **argv)
{
    static const struct option options[] = {
        {"secret", required_argument, NULL, 's'},   {"ephemeral", required_argument, NULL, 'e'},
        {"host-key", required_argument, NULL, 'k'}, {"pairing", no_argument, NULL, 'a'},
        {"payload", required_argument, NULL, 'p'},  {"seconds", required_argument, NULL, 'n'},
        {"help", no_argument, NULL, 'h'},           {0},
    };
    int option;
    unsigned long port;
    while ((option = getopt_long(argc, argv, "h", options, NULL)) != -1) {
        if (option == 'h') {
            fputs(help, stdout);
            exit(0);
        }
        if (take_option(e, option) < 0)
            return -EINVAL;
    }
    if (argc - optind != 3)
        return wrong("needs: initiate or respond, an address and a port", "rift-handshake");
    e->initiator = strcmp(argv[optind], "initiate") == 0;
    if (!e->initiator && strcmp(argv[optind], "respond") != 0)
        return wrong("neither initiate nor respond", argv[optind]);
    e->address = argv[optind + 1];
    if (parse_number(argv[optind + 2], e->initiator, 65535, &port) < 0)
        return wrong("no port", argv[optind + 2]);
    e->port = (uint16_t)port;
    return 0;
}

int main(int argc, char **argv)
{
    struct handshake_end end = {.seconds = 10, .payload = ""};
    if (rift_crypto_init() < 0)
        return EX_SOFTWARE;
    randombytes_buf(end.secret, sizeof end.secret);
    if (parse(&end, argc, argv) < 0)
        return EX_USAGE;
    setvbuf(stdout, NULL, _IOLBF, 0);
    int r = handshake_end_run(&end);
    if (r < 0) {
        fprintf(stderr, "rift-handshake: %s: %s\n", end.address, strerror(-r));
        return EX_OSERR;
    }
    if (r == HANDSHAKE_END_NOTHING)
        fprintf(stderr, "rift-handshake: no session within %u s\n", end.seconds);
    if (r == HANDSHAKE_END_WRONG_KEY)
        fprintf(stderr, "rift-handshake: the host has another key\n");
    return r;
}
