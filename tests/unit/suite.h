/* For the unit tests: what every main() of a suite ends with. */
#pragma once

#include <check.h>
#include <stdlib.h>

/* Runs and frees S. Returns the exit code: EXIT_SUCCESS when every test passed. */
static inline int wv_run_suite(Suite *s)
{
    SRunner *runner = srunner_create(s);
    srunner_run_all(runner, CK_ENV); /* CK_VERBOSITY says more or less */
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
