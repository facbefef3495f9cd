/* Certificates of every kind, also those that must not pass; made by OpenSSL. */
#pragma once

#include <stdint.h>

struct certificate {
    const char *names;       /* as of subjectAltName: "DNS:localhost,IP:127.0.0.1" */
    int64_t from_s, until_s; /* from now */
    const char *issuer;      /* a file of certificate_write() with IS_ISSUER; NULL: signed by itself */
    int is_issuer;
};

/* Writes a certificate (PEM) with its key to PATH. Aborts on errors: they are of the test's own making. */
void certificate_write(const char *path, const struct certificate *what);
