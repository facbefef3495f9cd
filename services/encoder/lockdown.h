/* What the encoder may still do once it is locked down. */
#pragma once

#include "lib/stage/sandbox.h"

extern const struct wv_sandbox wv_encoder_sandbox;
