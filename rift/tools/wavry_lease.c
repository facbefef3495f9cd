/* wavry-lease: makes issuers' keys, issues leases of a relay, shows and checks them. For operators without a
 * gateway, and for tests. Reads and writes the one file that it is given, and never prints a secret. */
#include "lib/base/util.h"
#include "rift/crypto/identity.h"
#include "rift/relay/lease.h"
#include "rift/relay/wire.h"

#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>
#include <sysexits.h>
#include <time.h>

#define KEY_PREFIX "wavry-sign-1 "

struct arguments {
    const char *command, *word;
    const char *key_file, *relay, *issuer, *id, *peers[2];
    size_t n_peers;
    uint64_t rate_kbps, seconds, begin;
    bool begin_given;
};

enum {
    OPT_KEY = 256,
    OPT_RELAY,
    OPT_ISSUER,
    OPT_PEER,
    OPT_RATE,
    OPT_SECONDS,
    OPT_BEGIN,
    OPT_ID,
    OPT_HELP,
    OPT_VERSION
};

static const struct option options[] = {
    {"key", required_argument, NULL, OPT_KEY},
    {"relay", required_argument, NULL, OPT_RELAY},
    {"issuer", required_argument, NULL, OPT_ISSUER},
    {"peer", required_argument, NULL, OPT_PEER},
    {"rate", required_argument, NULL, OPT_RATE},
    {"seconds", required_argument, NULL, OPT_SECONDS},
    {"begin", required_argument, NULL, OPT_BEGIN},
    {"id", required_argument, NULL, OPT_ID},
    {"help", no_argument, NULL, OPT_HELP},
    {"version", no_argument, NULL, OPT_VERSION},
    {NULL, 0, NULL, 0},
};

static void usage(FILE *out)
{
    fputs("wavry-lease: keys of issuers and peers, and leases of a relay.\n\n"
          "Commands:\n"
          "  new FILE               make a key in FILE, which must not exist; print its public half\n"
          "  key FILE               print the public half of the key in FILE\n"
          "  issue                  print a lease, signed with --key, for --relay and two --peer\n"
          "  show LEASE             print what LEASE says\n"
          "  verify LEASE           check that LEASE is for --relay, signed by --issuer, and valid now\n\n"
          "Options:\n"
          "  --key FILE             the issuer's key\n"
          "  --relay NAME           the relay's name, as its configuration has it\n"
          "  --issuer KEY           an issuer's public key\n"
          "  --peer KEY             a peer's public key; twice\n"
          "  --rate KBPS            rate of each direction in kbit/s; 20000 unless given\n"
          "  --seconds N            how long the lease is valid; 600 unless given\n"
          "  --begin UNIX           when it begins, in seconds since 1970; now unless given\n"
          "  --id HEX               the lease's id, 32 digits, to renew one; random unless given\n"
          "  --help, --version\n",
          out);
}

static int fail(int code, const char *what, const char *which)
{
    fprintf(stderr, "wavry-lease: %s%s%s; see wavry-lease --help\n", what, *which ? ": " : "", which);
    return code;
}

/* ---- keys ---- */

static void format_secret(const uint8_t seed[32], char ret[sizeof KEY_PREFIX + 66])
{
    memcpy(ret, KEY_PREFIX, sizeof KEY_PREFIX - 1);
    sodium_bin2hex(ret + sizeof KEY_PREFIX - 1, 65, seed, 32);
    strcat(ret, "\n");
}

static int read_key(const char *path, uint8_t ret_secret[64], uint8_t ret_public[32])
{
    wv_cleanup(wv_free_p) uint8_t *data = NULL;
    size_t len, head = sizeof KEY_PREFIX - 1, decoded = 0;
    uint8_t seed[32];
    int r = wv_read_file(path, 256, &data, &len);
    if (r < 0)
        return fail(EX_NOINPUT, strerror(-r), path);
    bool fits = len == head + 65 && memcmp(data, KEY_PREFIX, head) == 0 &&
                sodium_hex2bin(seed, sizeof seed, (const char *)data + head, 64, NULL, &decoded, NULL) == 0 &&
                decoded == sizeof seed;
    sodium_memzero(data, len);
    if (!fits)
        return fail(EX_DATAERR, "not a key of \"wavry-lease new\"", path);
    crypto_sign_seed_keypair(ret_public, ret_secret, seed);
    sodium_memzero(seed, sizeof seed);
    return EX_OK;
}

static int print_key(const uint8_t key[32])
{
    char text[RIFT_SIGN_KEY_TEXT_BYTES];
    rift_sign_key_format(key, text);
    puts(text);
    return EX_OK;
}

static int cmd_new(const struct arguments *a)
{
    uint8_t seed[32], secret[64], public[32];
    char text[sizeof KEY_PREFIX + 66];
    if (access(a->word, F_OK) == 0)
        return fail(EX_CANTCREAT, "is there already", a->word);
    randombytes_buf(seed, sizeof seed);
    crypto_sign_seed_keypair(public, secret, seed);
    format_secret(seed, text);
    int r = wv_write_file_atomic(a->word, text, strlen(text), 0600);
    sodium_memzero(seed, sizeof seed);
    sodium_memzero(secret, sizeof secret);
    sodium_memzero(text, sizeof text);
    return r < 0 ? fail(EX_CANTCREAT, strerror(-r), a->word) : print_key(public);
}

static int cmd_key(const struct arguments *a)
{
    uint8_t secret[64], public[32];
    int code = read_key(a->word, secret, public);
    sodium_memzero(secret, sizeof secret);
    return code == EX_OK ? print_key(public) : code;
}

/* ---- leases ---- */

static int cmd_issue(const struct arguments *a)
{
    struct rift_lease lease = {0};
    uint8_t secret[64], public[32], bytes[RIFT_LEASE_BYTES];
    char text[RIFT_LEASE_TEXT_BYTES];
    if (!a->key_file || !a->relay || a->n_peers != 2)
        return fail(EX_USAGE, "issue needs --key, --relay and two --peer", "");
    for (size_t i = 0; i < 2; i++)
        if (rift_sign_key_parse(a->peers[i], lease.peers[i]) < 0)
            return fail(EX_DATAERR, "no public key", a->peers[i]);
    randombytes_buf(lease.id, sizeof lease.id);
    if (a->id && wv_hex_decode(a->id, lease.id, sizeof lease.id) < 0)
        return fail(EX_DATAERR, "no id of 32 hex digits", a->id);
    rift_relay_id(a->relay, lease.relay);
    lease.rate_kbps = (uint32_t)a->rate_kbps;
    lease.not_before_s = a->begin_given ? a->begin : (uint64_t)time(NULL);
    lease.expires_s = lease.not_before_s + a->seconds;
    int code = read_key(a->key_file, secret, public);
    if (code != EX_OK)
        return code;
    int r = rift_lease_sign(&lease, secret, bytes);
    sodium_memzero(secret, sizeof secret);
    if (r < 0)
        return fail(EX_DATAERR, "no such lease: two different peers, a rate and a time are needed", "");
    rift_lease_format(bytes, text);
    puts(text);
    return EX_OK;
}

static int read_lease(const char *text, uint8_t ret_bytes[RIFT_LEASE_BYTES], struct rift_lease *ret)
{
    if (rift_lease_parse_text(text, ret_bytes) < 0 || rift_lease_parse(ret_bytes, RIFT_LEASE_BYTES, ret) < 0)
        return fail(EX_DATAERR, "no lease", "");
    return EX_OK;
}

static void print_hex(const char *name, const uint8_t *data, size_t len)
{
    char text[65];
    wv_hex_encode(data, len, text);
    printf("%s %s\n", name, text);
}

static int cmd_show(const struct arguments *a)
{
    struct rift_lease lease;
    uint8_t bytes[RIFT_LEASE_BYTES];
    int code = read_lease(a->word, bytes, &lease);
    if (code != EX_OK)
        return code;
    print_hex("id", lease.id, sizeof lease.id);
    print_hex("relay", lease.relay, sizeof lease.relay);
    print_hex("issuer", lease.issuer, sizeof lease.issuer);
    for (size_t i = 0; i < 2; i++) {
        char text[RIFT_SIGN_KEY_TEXT_BYTES];
        rift_sign_key_format(lease.peers[i], text);
        printf("peer %s\n", text);
    }
    printf("rate %" PRIu32 " kbit/s\nbegins %" PRIu64 "\nends %" PRIu64 "\n", lease.rate_kbps,
           lease.not_before_s, lease.expires_s);
    return EX_OK;
}

static int cmd_verify(const struct arguments *a)
{
    static const enum rift_relay_reason faults[] = {
        [RIFT_LEASE_OTHER_RELAY] = RIFT_RELAY_OTHER_RELAY,
        [RIFT_LEASE_NOT_YET] = RIFT_RELAY_NOT_YET,
        [RIFT_LEASE_EXPIRED] = RIFT_RELAY_EXPIRED,
        [RIFT_LEASE_TOO_LONG] = RIFT_RELAY_TOO_LONG,
    };
    struct rift_lease lease;
    uint8_t bytes[RIFT_LEASE_BYTES], key[32], issuer[RIFT_LEASE_ISSUER_BYTES], relay[RIFT_RELAY_ID_BYTES];
    if (!a->relay || !a->issuer)
        return fail(EX_USAGE, "verify needs --relay and --issuer", "");
    if (rift_sign_key_parse(a->issuer, key) < 0)
        return fail(EX_DATAERR, "no public key", a->issuer);
    int code = read_lease(a->word, bytes, &lease);
    if (code != EX_OK)
        return code;
    rift_relay_id(a->relay, relay);
    rift_lease_issuer_id(key, issuer);
    unsigned reason = RIFT_RELAY_NO_REASON;
    enum rift_lease_fault fault = rift_lease_check(&lease, relay, (uint64_t)time(NULL), 0, UINT32_MAX);
    if (fault)
        reason = faults[fault];
    else if (memcmp(issuer, lease.issuer, sizeof issuer) != 0)
        reason = RIFT_RELAY_NOT_TRUSTED;
    else if (!rift_lease_is_signed(bytes, key))
        reason = RIFT_RELAY_FORGED;
    printf("%s\n", reason ? rift_relay_reason_word(reason) : "valid");
    return reason ? 1 : EX_OK;
}

/* ---- command line ---- */

static bool take_number(const char *text, uint64_t max, uint64_t *ret)
{
    char *end = NULL;
    if (!*text || strspn(text, "0123456789") != strlen(text))
        return false;
    errno = 0;
    uint64_t value = strtoull(text, &end, 10);
    if (errno || value > max)
        return false;
    *ret = value;
    return true;
}

static bool take_option(struct arguments *a, int option)
{
    switch (option) {
    case OPT_KEY:
        a->key_file = optarg;
        return true;
    case OPT_RELAY:
        a->relay = optarg;
        return true;
    case OPT_ISSUER:
        a->issuer = optarg;
        return true;
    case OPT_PEER:
        if (a->n_peers == 2)
            return false;
        a->peers[a->n_peers++] = optarg;
        return true;
    case OPT_RATE:
        return take_number(optarg, UINT32_MAX, &a->rate_kbps);
    case OPT_SECONDS:
        return take_number(optarg, INT32_MAX, &a->seconds);
    case OPT_BEGIN:
        a->begin_given = true;
        return take_number(optarg, INT64_MAX / 2, &a->begin);
    case OPT_ID:
        a->id = optarg;
        return true;
    default:
        return false;
    }
}

static int run(const struct arguments *a)
{
    static const struct {
        const char *name;
        bool word;
        int (*run)(const struct arguments *a);
    } commands[] = {{"new", true, cmd_new},
                    {"key", true, cmd_key},
                    {"issue", false, cmd_issue},
                    {"show", true, cmd_show},
                    {"verify", true, cmd_verify}};
    for (size_t i = 0; i < WV_ARRAY_SIZE(commands); i++)
        if (!strcmp(commands[i].name, a->command)) {
            if (commands[i].word != (a->word != NULL))
                return fail(EX_USAGE, commands[i].word ? "one argument is needed" : "too many arguments", "");
            return commands[i].run(a);
        }
    return fail(EX_USAGE, "there is no such command", a->command);
}

int main(int argc, char **argv)
{
    struct arguments a = {.rate_kbps = 20000, .seconds = 600};
    for (int o; (o = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        if (o == OPT_HELP || o == OPT_VERSION) {
            if (o == OPT_HELP)
                usage(stdout);
            else
                puts("wavry-lease " WAVRY_VERSION);
            return EX_OK;
        }
        if (!take_option(&a, o))
            return fail(EX_USAGE, "wrong option or value", optarg ? optarg : "");
    }
    if (optind == argc || argc - optind > 2)
        return fail(EX_USAGE, "a command, and at most one argument", "");
    a.command = argv[optind];
    a.word = argv[optind + 1];
    if (rift_crypto_init() < 0)
        return fail(EX_SOFTWARE, "no cryptography", "");
    return run(&a);
}
