/* What went wrong, as sentences for a person: what failed, on what, and what to do. */
#pragma once

#include "client/wavry_client.h"

/* Writes the sentence for REASON to RET (WV_CLIENT_TEXT_BYTES). WHERE is the host as the person named it, KEY
 * our public key, DETAIL the host's own words or the system's ("" for none). */
void wv_reason_text(enum wv_client_reason reason, const char *where, const char *key, const char *detail,
                    char *ret);

/* Which reason a close of the session is. */
enum wv_client_reason wv_reason_of_close(enum rift_close_reason close);

/* Whether trying again would change nothing. */
bool wv_reason_is_final(enum wv_client_reason reason);
