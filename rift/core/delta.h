/* DELTA, the congestion controller of RIFT: a const table behind rift/core/cc.h. */
#pragma once

#include "rift/core/cc.h"

extern const struct rift_cc_ops rift_delta;
