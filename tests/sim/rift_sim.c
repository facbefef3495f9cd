/* rift-sim: whole RIFT sessions on virtual time over bad paths, one random schedule for each seed.
 *     rift-sim --seeds 1-300      checks every promise on each; prints the first failing seed and why
 *     rift-sim --seeds 17-17 -v   shows what happened */
#include "lib/base/util.h"
#include "rift/crypto/identity.h"
#include "tests/sim/world.h"

#include <stdio.h>
#include <string.h>
#include <sysexits.h>

static int usage(FILE *out, int code)
{
    fprintf(out,
            "usage: rift-sim --seeds FIRST-LAST [-v]\n"
            "Plays whole sessions of the protocol on virtual time over bad paths, one random schedule for\n"
            "each seed. Ends 0 when every promise of the protocol held on all of them.\n\n"
            "  --seeds FIRST-LAST  the schedules to play; one that failed plays the same again\n"
            "  -v                  say what happens\n"
            "  --help              this text\n");
    return code;
}

int main(int argc, char **argv)
{
    unsigned long long first = 0, last = 0;
    bool verbose = false, have_seeds = false;
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "-v") == 0)
            verbose = true;
        else if (strcmp(argv[i], "--seeds") == 0 && i + 1 < argc)
            have_seeds = sscanf(argv[++i], "%llu-%llu", &first, &last) == 2 && first <= last;
        else
            return strcmp(argv[i], "--help") ? usage(stderr, EX_USAGE) : usage(stdout, EX_OK);
    }
    if (!have_seeds)
        return usage(stderr, EX_USAGE);
    if (rift_crypto_init() < 0)
        return 71;
    struct sim_world *w = malloc(sizeof *w);
    if (!w)
        return 71;
    unsigned long long failed = 0;
    for (unsigned long long seed = first; seed <= last; seed++) {
        if (verbose)
            printf("seed %llu: ", seed);
        if (sim_world_run(w, seed, verbose) < 0) {
            printf("seed %llu failed %s\n", seed, w->failure);
            failed++;
        }
        sim_world_fini(w);
    }
    free(w);
    printf("%llu of %llu seeds failed\n", failed, last - first + 1);
    return failed ? 1 : 0;
}
