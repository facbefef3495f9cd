/* rift-vectors FILE.json: runs Noise test vectors against this build, a line per vector. Ends 0 only when
 * every vector of the file was run and passed. */
#include "lib/base/util.h"
#include "rift/crypto/identity.h"
#include "rift/tools/noise_vectors.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sysexits.h>

#define FILE_MAX (64u << 20)

static void print_result(void *context, size_t index, const char *name, const char *failure)
{
    size_t *passed = context;
    if (!failure)
        (*passed)++;
    printf("%-4s %zu %s%s%s\n", failure ? "FAIL" : "ok", index, name, failure ? ": " : "",
           failure ? failure : "");
}

int main(int argc, char **argv)
{
    if (argc == 2 && (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0)) {
        printf("usage: rift-vectors FILE.json\n"
               "Runs the Noise_XX_25519_ChaChaPoly_BLAKE2b vectors of FILE.json, a line for each.\n"
               "Ends 0 when all pass, 1 when one fails or can't be run here, 65 when FILE isn't a vector\n"
               "file, 66 when it can't be read.\n");
        return 0;
    }
    if (argc != 2 || argv[1][0] == '-') {
        fprintf(stderr, "usage: rift-vectors FILE.json\n");
        return EX_USAGE;
    }
    if (rift_crypto_init() < 0) {
        fprintf(stderr, "rift-vectors: libsodium can't be started\n");
        return EX_SOFTWARE;
    }
    wv_cleanup(wv_free_p) uint8_t *data = NULL;
    size_t len = 0, passed = 0, failed = 0;
    int r = wv_read_file(argv[1], FILE_MAX, &data, &len);
    if (r < 0) {
        fprintf(stderr, "rift-vectors: %s: can't be read: %s\n", argv[1], strerror(-r));
        return EX_NOINPUT;
    }
    char error[256];
    if (rift_vectors_run((const char *)data, len, print_result, &passed, error, sizeof error, &failed) < 0) {
        fprintf(stderr, "rift-vectors: %s: %s\n", argv[1], error);
        return EX_DATAERR;
    }
    printf("%zu passed, %zu failed\n", passed, failed);
    return failed ? 1 : 0;
}
