/* Certificates through OpenSSL. See tls.h. */
#include "services/gateway/tls.h"

#include <errno.h>
#include <openssl/err.h>
#include <stdio.h>

static int failed(const char *what, const char *file, char reason[256])
{
    char text[96];
    ERR_error_string_n(ERR_peek_error(), text, sizeof text);
    ERR_clear_error();
    if (reason)
        snprintf(reason, 256, "%s %.96s: %s", what, file, text);
    return -EINVAL;
}

static int load(SSL_CTX *context, const char *certificate, const char *key, char reason[256])
{
    ERR_clear_error();
    if (SSL_CTX_use_certificate_chain_file(context, certificate) != 1)
        return failed("the certificate", certificate, reason);
    if (SSL_CTX_use_PrivateKey_file(context, key, SSL_FILETYPE_PEM) != 1)
        return failed("the key", key, reason);
    if (SSL_CTX_check_private_key(context) != 1)
        return failed("the key does not belong to the certificate", key, reason);
    return 0;
}

int wv_tls_check(const char *certificate, const char *key, char reason[256])
{
    SSL_CTX *context = SSL_CTX_new(TLS_server_method());
    if (!context)
        return -ENOMEM;
    int r = load(context, certificate, key, reason);
    SSL_CTX_free(context);
    return r;
}

int wv_tls_replace(SSL_CTX *context, const char *certificate, const char *key, char reason[256])
{
    int r = wv_tls_check(certificate, key, reason);
    return r < 0 ? r : load(context, certificate, key, reason);
}

void wv_tls_thrifty(SSL_CTX *context)
{
    SSL_CTX_set_mode(context, SSL_MODE_RELEASE_BUFFERS);
    SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
}
