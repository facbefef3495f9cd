/* What went wrong with a connection, for a person; see trouble.h. */
#include "lib/gateway/trouble.h"

#include "lib/base/util.h"

#include <errno.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#define DATE_BYTES 24

static void write_date(int64_t unix_s, char ret[DATE_BYTES])
{
    time_t t = (time_t)unix_s;
    struct tm tm;
    if (!gmtime_r(&t, &tm) || !strftime(ret, DATE_BYTES, "%Y-%m-%d %H:%M UTC", &tm))
        snprintf(ret, DATE_BYTES, "?");
}

static void say_certificate(const struct wv_gateway_trouble *t, const struct wv_gateway_url *url, char *ret,
                            size_t capacity)
{
    char from[DATE_BYTES], until[DATE_BYTES], now[DATE_BYTES];
    write_date(t->from_s, from);
    write_date(t->until_s, until);
    write_date(time(NULL), now);
#define SAY(format, ...)                                                                                     \
    snprintf(ret, capacity, "The gateway %s can't be trusted: " format, url->name, __VA_ARGS__)
    switch (t->certificate) {
    case X509_V_ERR_CERT_HAS_EXPIRED:
        SAY("its certificate ended at %s, and this machine's clock says %s. If the clock is right, its "
            "operator must renew the certificate.",
            until, now);
        break;
    case X509_V_ERR_CERT_NOT_YET_VALID:
        SAY("its certificate begins at %s, and this machine's clock says %s. Set the clock (timedatectl); if "
            "it is right, tell the gateway's operator.",
            from, now);
        break;
    case X509_V_ERR_HOSTNAME_MISMATCH:
    case X509_V_ERR_IP_ADDRESS_MISMATCH:
        SAY("its certificate is for another name than %s. Use the name that it is for, or ask its operator "
            "for a certificate for this one.",
            url->host);
        break;
    case X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT:
        SAY("%s has signed its certificate itself. If that is meant, get the certificate from its operator "
            "and give it here: wavryctl login --ca-file FILE https://%s (on a host: ca_file in [reach]).",
            "it", url->name);
        break;
    case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT:
    case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY:
    case X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE:
    case X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN:
    case X509_V_ERR_CERT_SIGNATURE_FAILURE: /* of an authority that has the name of one that is trusted */
        SAY("nobody whom this machine trusts vouches for its certificate. If its operator has an authority "
            "of his own, give that one's certificate here: wavryctl login --ca-file FILE https://%s (on a "
            "host: ca_file in [reach]).",
            url->name);
        break;
    default:
        SAY("its certificate is not right (%s). Tell its operator.",
            X509_verify_cert_error_string(t->certificate));
        break;
    }
#undef SAY
}

/* What libwebsockets says, of connections without trouble in TLS. */
static const struct {
    const char *theirs, *ours;
    int error;
} words[] = {
    {"problems parsing header", "what it says is no HTTP", -EPROTO},
    {"HS: ", "it opens no WebSocket of Wavry's", -EPROTO},
    {"Timed out waiting SSL", "it does not go on with TLS", -ECONNREFUSED},
    {"read failed", "it ends the connection", -ECONNREFUSED},
    {"closed", "it ends the connection", -ECONNREFUSED},
};

int wv_gateway_trouble_say(const struct wv_gateway_trouble *t, const struct wv_gateway_url *url, char *ret,
                           size_t capacity)
{
    if (t->certificate) {
        say_certificate(t, url, ret, capacity);
        return -EKEYREJECTED;
    }
    if (t->alert) {
        snprintf(ret, capacity,
                 "The gateway %s and this machine find no encryption in common (TLS alert %d). Both need TLS "
                 "1.2 or newer; tell its operator.",
                 url->name, t->alert);
        return -EPROTO;
    }
    if (t->tls) {
        snprintf(ret, capacity,
                 "What answers at %s does not speak TLS, so it is no gateway. Is the port the right one? Of "
                 "a gateway behind a proxy it is the proxy's.",
                 url->name);
        return -EPROTO;
    }
    for (size_t i = 0; t->detail && i < WV_ARRAY_SIZE(words); i++)
        if (!strncmp(t->detail, words[i].theirs, strlen(words[i].theirs))) {
            snprintf(
                ret, capacity,
                words[i].error == -EPROTO
                    ? "What answers at %s is no gateway of Wavry: %s. Are address and port right?"
                    : "The gateway %s does not answer: %s. Try again; if it stays so, tell its operator.",
                url->name, words[i].ours);
            return words[i].error;
        }
    snprintf(ret, capacity,
             "The gateway %s does not answer: no connection comes about. Is the address right, is this "
             "machine online, and does the gateway run?",
             url->name);
    return -ECONNREFUSED;
}
