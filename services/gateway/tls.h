/* The gateway's certificate: looked at before it counts, and changed without closing a connection. */
#pragma once

#include <openssl/ssl.h>

/* Whether the two files belong together and can be used. REASON (may be NULL) says what is wrong, of 256
 * bytes. Returns 0, -EINVAL. */
int wv_tls_check(const char *certificate, const char *key, char reason[256]);
/* Makes CONTEXT use them for connections that come from now on; on failure it stays as it is. */
int wv_tls_replace(SSL_CTX *context, const char *certificate, const char *key, char reason[256]);
/* For thousands of connections that are idle: none keeps buffers of 34 KiB, nor the gateway its sessions (a
 * client that comes back brings its ticket). */
void wv_tls_thrifty(SSL_CTX *context);
