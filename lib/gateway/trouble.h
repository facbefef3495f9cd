/* Why a gateway can't be talked to, in words for a person: what is wrong, where, and what to do. No word of a
 * library is shown. */
#pragma once

#include "lib/gateway/url.h"

/* What was seen of a connection that came to nothing; all zero: nothing. */
struct wv_gateway_trouble {
    int certificate;         /* X509_V_ERR_... of OpenSSL */
    int64_t from_s, until_s; /* since when and until when it is valid, of the UNIX clock; 0: not known */
    int tls;                 /* SSL_R_... */
    int alert;               /* of TLS, from the gateway */
    const char *detail;      /* what libwebsockets says; NULL */
};

/* Writes the sentence to RET. Returns what the trouble is: -EKEYREJECTED (the certificate), -EPROTO (no
 * gateway is there), -ECONNREFUSED (nobody answers). */
int wv_gateway_trouble_say(const struct wv_gateway_trouble *t, const struct wv_gateway_url *url, char *ret,
                           size_t capacity);
