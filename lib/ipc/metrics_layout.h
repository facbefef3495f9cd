/* A metrics page, as the writer, the readers and their tests see it. Internal to lib/ipc. Every place is
 * fixed: a reader follows no offset that the writer chose. */
#pragma once

#include "lib/ipc/metrics.h"

#include <stdatomic.h>

#define METRICS_MAGIC UINT64_C(0x33545254454d5657) /* "WVMETRT3" */

struct metrics_descriptor {
    char name[64], unit[16], help[160];
    uint32_t kind;
    uint32_t reserved;
};

struct metrics_values {
    _Atomic uint64_t value; /* of a histogram: count */
    _Atomic uint64_t sum;
    _Atomic uint64_t buckets[WV_METRIC_BUCKETS];
};

struct metrics_page {
    _Atomic uint64_t magic;
    _Atomic uint32_t layout;     /* odd while the descriptors are being written */
    _Atomic uint32_t status_seq; /* odd while the status is being written */
    _Atomic uint32_t n;
    _Atomic int32_t pid;
    _Atomic uint32_t restarts;
    _Atomic uint64_t started_ns;
    _Alignas(64) _Atomic uint64_t heartbeat_ns;
    char stage[32];
    char status[160];
    struct metrics_descriptor descriptors[WV_METRICS_MAX];
    _Alignas(64) struct metrics_values values[WV_METRICS_MAX];
};

_Static_assert(sizeof(struct metrics_page) <= WV_METRICS_PAGE_BYTES, "the page holds the largest table");
