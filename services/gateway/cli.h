/* The commands that work on the database without a gateway: the first administrator, migration, backup. All
 * are safe beside a running gateway. */
#pragma once

#include "services/gateway/settings.h"

/* Runs SETTINGS->command. Returns an exit code, having said what was done or what is wrong. */
int wv_gateway_cli(const struct wv_gateway_settings *settings);
