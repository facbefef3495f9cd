#include "tests/unit/certificates.h"

#include <openssl/ec.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <stdlib.h>

#define require(condition)                                                                                   \
    do {                                                                                                     \
        if (!(condition)) {                                                                                  \
            fprintf(stderr, "%s:%d: not true: %s\n", __FILE__, __LINE__, #condition);                        \
            abort();                                                                                         \
        }                                                                                                    \
    } while (0)

static void add_extension(X509 *x, int nid, const char *value)
{
    X509V3_CTX context;
    X509V3_set_ctx(&context, x, x, NULL, NULL, 0);
    X509_EXTENSION *e = X509V3_EXT_conf_nid(NULL, &context, nid, value);
    require(e && X509_add_ext(x, e, -1) == 1);
    X509_EXTENSION_free(e);
}

static void read_issuer(const char *path, X509 **ret, EVP_PKEY **ret_key)
{
    FILE *file = fopen(path, "r");
    require(file);
    *ret_key = PEM_read_PrivateKey(file, NULL, NULL, NULL);
    rewind(file);
    *ret = PEM_read_X509(file, NULL, NULL, NULL);
    require(*ret && *ret_key);
    fclose(file);
}

static void sign(X509 *x, EVP_PKEY *key, const char *issuer)
{
    X509 *by = NULL;
    EVP_PKEY *by_key = NULL;
    if (issuer)
        read_issuer(issuer, &by, &by_key);
    require(X509_set_issuer_name(x, X509_get_subject_name(by ? by : x)) == 1);
    require(X509_sign(x, by_key ? by_key : key, EVP_sha256()) > 0);
    X509_free(by);
    EVP_PKEY_free(by_key);
}

void certificate_write(const char *path, const struct certificate *what)
{
    static long serial = 1;
    X509 *x = X509_new();
    EVP_PKEY *key = EVP_EC_gen("P-256");
    require(x && key && X509_set_version(x, 2) == 1);
    require(ASN1_INTEGER_set(X509_get_serialNumber(x), serial++) == 1);
    require(X509_gmtime_adj(X509_getm_notBefore(x), what->from_s));
    require(X509_gmtime_adj(X509_getm_notAfter(x), what->until_s));
    require(X509_set_pubkey(x, key) == 1);
    const char *name = what->is_issuer ? "an authority" : "a gateway";
    require(X509_NAME_add_entry_by_txt(X509_get_subject_name(x), "CN", MBSTRING_ASC,
                                       (const unsigned char *)name, -1, -1, 0) == 1);
    add_extension(x, NID_basic_constraints, what->is_issuer ? "critical,CA:TRUE" : "CA:FALSE");
    if (what->names)
        add_extension(x, NID_subject_alt_name, what->names);
    sign(x, key, what->issuer);
    FILE *file = fopen(path, "w");
    require(file && PEM_write_X509(file, x) == 1);
    require(PEM_write_PrivateKey(file, key, NULL, NULL, 0, NULL, NULL) == 1 && fclose(file) == 0);
    X509_free(x);
    EVP_PKEY_free(key);
}
