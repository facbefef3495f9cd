/* The schema of the gateway's database, in steps. A step that was released is never changed: the next one is
 * added. */
#pragma once

#include <stddef.h>

extern const char *const wv_store_migrations[];
extern const size_t wv_store_n_migrations;
