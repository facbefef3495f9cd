/* Runs published Noise test vectors (JSON in the format that cacophony, snow and noise-c share) through
 * rift/crypto/noise.h. For rift-vectors and the tests only; never part of a peer. */
#pragma once

#include <stddef.h>

/* Told once for each vector, in order. NAME says which (its source or number), FAILURE is NULL when it
 * passed. Both are valid during the call only. */
typedef void rift_vectors_report(void *context, size_t index, const char *name, const char *failure);

/* Runs every vector of the LEN bytes of JSON. A vector of an unknown protocol, or with a field missing or
 * malformed, is reported as failed. Returns 0 when all vectors were run (RET_FAILED: how many of them
 * failed), -EINVAL when the text isn't a vector file or holds no vector; RET_ERROR (capacity ERROR_SIZE) then
 * says why. */
int rift_vectors_run(const char *json, size_t len, rift_vectors_report *report, void *context,
                     char *ret_error, size_t error_size, size_t *ret_failed);
