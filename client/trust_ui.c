/* What the person is told about keys: the first meeting of a host, and the alarm when its key has changed. */
#include "client/app.h"
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

int app_load_trust(struct app *a)
{
    char path[4096], message[WV_TRUST_TEXT_BYTES] = "";
    int r = config_path(a, "identity", "identity", path, sizeof path);
    if (r == 0)
        r = config_path(a, "known_hosts", "known_hosts", a->known_hosts, sizeof a->known_hosts);
    if (r != 0)
        return r;
    const char *key = wv_config_string(a->options.config, "host_key");
    a->have_host_key = *key != '\0';
    if (*key && rift_public_key_parse(key, a->host_key) < 0) {
        fprintf(stderr,
                "wavry-client: \"%s\" is not a host's key; it begins with wavry1 and has 49 characters. On "
                "the host, wavryctl status shows it.\n",
                key);
        return EX_USAGE;
    }
    r = wv_identity_load(path, &a->identity, message);
    if (r == 0)
        return 0;
    fprintf(stderr, "wavry-client: %s\n", message[0] ? message : strerror(-r));
    return r == -EACCES ? EX_NOPERM : r == -EINVAL ? EX_CONFIG : EX_CANTCREAT;
}

static void shout(const struct app *a, const char *address, unsigned line, const uint8_t old[32],
                  const uint8_t new[32])
{
    char was[RIFT_PUBLIC_KEY_TEXT_BYTES], is[RIFT_PUBLIC_KEY_TEXT_BYTES];
    rift_public_key_format(old, was);
    rift_public_key_format(new, is);
    fprintf(stderr,
            "\n"
            "************************************************************************\n"
            "*  WARNING: THE KEY OF THIS HOST HAS CHANGED. NOT CONNECTING.          *\n"
            "************************************************************************\n"
            "  host  %s\n"
            "  was   %s\n"
            "  is    %s\n"
            "Either the host was set up anew, or somebody between you and it pretends to be it.\n"
            "Ask whoever runs the host for its key (wavryctl status shows it there). If the new key is\n"
            "right, remove line %u of %s and connect again.\n\n",
            address, was, is, line, a->known_hosts);
}

bool app_check_host_key(struct app *a, const uint8_t key[32])
{
    char address[320], text[RIFT_PUBLIC_KEY_TEXT_BYTES], message[WV_TRUST_TEXT_BYTES] = "";
    unsigned line = 0;
    uint8_t old[32];
    wv_host_format(a->options.host, a->options.port, address, sizeof address);
    int r = wv_known_hosts_check(a->known_hosts, address, key, &line, old, message);
    if (r == 0)
        return true;
    a->key_was_explained = true;
    if (r == WV_KNOWN_CHANGED) {
        shout(a, address, line, old, key);
        return false;
    }
    if (r < 0) {
        app_say(message);
        return false;
    }
    a->key_was_explained = false;
    rift_public_key_format(key, text);
    fprintf(stderr,
            "wavry-client: First connection to %s. Its key is %s; wavryctl status on the host must show the "
            "same.\n",
            address, text);
    if (wv_known_hosts_add(a->known_hosts, address, key, message) < 0)
        app_say(message); /* this session is as safe as any first one; the next one will ask again */
    return true;
}
