/* What the person is told about keys: that a host must be paired with first, and the alarm when it shows
 * another key than the known one. */
#include "client/app.h"
#include "client/find.h"
#include "client/trust.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sysexits.h>

static int config_path(struct app *a, const char *key, const char *name, char *ret, size_t capacity)
{
    const char *set = wv_config_string(a->options.config, key);
    int r = 0;
    if (*set)
        r = (size_t)snprintf(ret, capacity, "%s", set) < capacity ? 0 : -ENAMETOOLONG;
    else
        r = wv_trust_path(name, ret, capacity);
    if (r == 0)
        return 0;
    fprintf(stderr,
            "wavry-client: no place for the file %s: neither XDG_CONFIG_HOME nor HOME is set. Set --set "
            "%s=FILE.\n",
            name, key);
    return EX_CONFIG;
}

static void shout(const struct app *a, const uint8_t *other)
{
    char was[RIFT_PUBLIC_KEY_TEXT_BYTES], is[RIFT_PUBLIC_KEY_TEXT_BYTES], address[320];
    rift_public_key_format(a->host_key, was);
    if (other)
        rift_public_key_format(other, is);
    wv_host_format(a->options.host, a->options.port, address, sizeof address);
    fprintf(stderr,
            "\n"
            "************************************************************************\n"
            "*  WARNING: THE KEY OF THIS HOST HAS CHANGED. NOT CONNECTING.          *\n"
            "************************************************************************\n"
            "  host   %s\n"
            "  known  %s%s%s\n"
            "  now    %s\n"
            "Either the host was set up anew, or somebody between you and it pretends to be it.\n"
            "Ask whoever runs the host (wavryctl status shows its key there). If it has a new key, pair\n"
            "with it again: wavry-client pair --new-key %s\n\n",
            address, was, a->known_line ? ", from " : "", a->known_line ? a->known_hosts : "",
            other ? is : "another one", address);
}

void app_shout_key(const struct app *a)
{
    shout(a, NULL);
}

/* The key that the host must prove: as given, or as known. Returns 0 or a sysexits code, said. */
static int find_host_key(struct app *a)
{
    char address[320], message[WV_TRUST_TEXT_BYTES] = "";
    const char *key = wv_config_string(a->options.config, "host_key");
    if (*key && rift_public_key_parse(key, a->host_key) < 0) {
        fprintf(stderr,
                "wavry-client: \"%s\" is not a host's key; it begins with wavry1 and has 49 characters. On "
                "the host, wavryctl status shows it.\n",
                key);
        return EX_USAGE;
    }
    a->have_host_key = *key != '\0';
    if (a->have_host_key || a->options.action == WV_OPTIONS_PRINT_KEY)
        return 0;
    wv_host_format(a->options.host, a->options.port, address, sizeof address);
    int r = wv_known_hosts_find(a->known_hosts, address, a->host_key, &a->known_line, message);
    a->have_host_key = r == 0;
    if (r < 0)
        app_say(message);
    return r < 0 ? EX_CONFIG : 0;
}

/* The key of a URL against what is known; pairing by code goes on with the known one. */
static int check_url_key(struct app *a)
{
    if (a->options.new_key && !*wv_config_string(a->options.config, "host_key"))
        a->have_host_key = false;
    if (!a->options.have_url)
        return 0;
    if (a->have_host_key && memcmp(a->host_key, a->options.url.key, sizeof a->host_key) != 0) {
        shout(a, a->options.url.key);
        return EX_NOPERM;
    }
    memcpy(a->host_key, a->options.url.key, sizeof a->host_key);
    a->have_host_key = true;
    return 0;
}

int app_load_trust(struct app *a)
{
    char path[4096], address[320], message[WV_TRUST_TEXT_BYTES] = "";
    int r = config_path(a, "identity", "identity", path, sizeof path);
    if (r == 0)
        r = config_path(a, "known_hosts", "known_hosts", a->known_hosts, sizeof a->known_hosts);
    if (r == 0)
        r = find_host_key(a);
    if (r == 0)
        r = check_url_key(a);
    if (r != 0)
        return r;
    r = wv_identity_load(path, &a->identity, message);
    if (r < 0) {
        fprintf(stderr, "wavry-client: %s\n", message[0] ? message : strerror(-r));
        return r == -EACCES ? EX_NOPERM : r == -EINVAL ? EX_CONFIG : EX_CANTCREAT;
    }
    r = app_find(a);
    if (r != 0)
        return r;
    if (a->options.action == WV_OPTIONS_RUN && !a->have_host_key) {
        wv_host_format(a->options.host, a->options.port, address, sizeof address);
        fprintf(stderr,
                "wavry-client: The key of %s is not known here: pair with it first. On the host run "
                "wavryctl pair, then here: wavry-client pair %s. Or give the key that wavryctl status shows "
                "there: --host-key KEY\n",
                address, address);
        return EX_NOPERM;
    }
    return 0;
}
