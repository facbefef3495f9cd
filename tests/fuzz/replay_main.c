/* Stands in for libFuzzer: runs every file below the named folders through the target, then a few thousand
 * bounded mutations of each with a fixed seed, so that a corpus is an ordinary test with any compiler. */
#include "lib/base/util.h"

#include <ftw.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#define MAX_INPUT      (1 << 20)
#define MUTATIONS_EACH 200

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static unsigned files;
static uint64_t seed = 0x9e3779b97f4a7c15;

static uint32_t next_random(void)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return (uint32_t)(seed >> 16);
}

/* Runs a copy in a buffer of its exact size, so that a sanitizer sees the first byte past the end. */
static void run_exact(const uint8_t *data, size_t len)
{
    uint8_t *copy = malloc(len ? len : 1);
    if (!copy)
        abort();
    memcpy(copy, data, len);
    LLVMFuzzerTestOneInput(copy, len);
    free(copy);
}

static int run_file(const char *path, const struct stat *st, int kind, struct FTW *ftw)
{
    if (kind != FTW_F)
        return 0;
    uint8_t *data = NULL;
    size_t len;
    if (wv_read_file(path, MAX_INPUT, &data, &len) < 0) {
        fprintf(stderr, "%s: can't be read\n", path);
        return 1;
    }
    files++;
    run_exact(data, len);
    for (unsigned i = 0; i < MUTATIONS_EACH && len; i++) {
        size_t cut = next_random() % 8 == 0 ? next_random() % (len + 1) : len;
        uint8_t at = data[next_random() % len];
        size_t where = next_random() % len;
        uint8_t old = data[where];
        data[where] = next_random() % 2 ? (uint8_t)next_random() : at;
        run_exact(data, cut);
        data[where] = old;
    }
    free(data);
    return 0;
}

int main(int argc, char **argv)
{
    for (int i = 1; i < argc; i++)
        if (nftw(argv[i], run_file, 16, FTW_PHYS) != 0) {
            fprintf(stderr, "%s: corpus can't be read\n", argv[i]);
            return 1;
        }
    if (files == 0) {
        fprintf(stderr, "no corpus files; give the corpus folder\n");
        return 1;
    }
    printf("%u corpus files replayed\n", files);
    return 0;
}
