/* Addresses and ports in configuration. See address.h. */
#include "lib/base/address.h"

#include "lib/base/util.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>

size_t wv_next_word(const char **p, char *ret, size_t capacity)
{
    const char *at = *p + strspn(*p, " \t");
    size_t len = strcspn(at, " \t");
    *p = at + len;
    snprintf(ret, capacity, "%.*s", (int)WV_MIN(len, capacity - 1), at);
    return len;
}

bool wv_port_parse(const char *text, uint16_t *ret_port)
{
    if (strspn(text, "0123456789") != strlen(text) || !*text || strlen(text) > 5)
        return false;
    unsigned long port = strtoul(text, NULL, 10);
    if (port > UINT16_MAX)
        return false;
    *ret_port = (uint16_t)port;
    return true;
}

bool wv_ip_parse(const char *text, uint8_t ret_ip[16])
{
    uint8_t ip[16] = {[10] = 0xff, [11] = 0xff};
    if (inet_pton(AF_INET, text, ip + 12) != 1 && inet_pton(AF_INET6, text, ip) != 1)
        return false;
    memcpy(ret_ip, ip, 16);
    return true;
}

static bool parse_listen_word(const char *word, struct wv_listen_at *ret)
{
    struct wv_listen_at l = {0};
    char host[sizeof l.text];
    snprintf(l.text, sizeof l.text, "%s", word);
    const char *colon = strrchr(word, ':');
    if (!colon) {
        l.any = true;
        *ret = l;
        return wv_port_parse(word, &ret->port);
    }
    size_t len = (size_t)(colon - word);
    bool brackets = len >= 2 && word[0] == '[' && word[len - 1] == ']';
    if (len >= sizeof host || !wv_port_parse(colon + 1, &l.port))
        return false;
    snprintf(host, sizeof host, "%.*s", (int)(brackets ? len - 2 : len), word + brackets);
    if (brackets != (strchr(host, ':') != NULL) || !wv_ip_parse(host, l.ip))
        return false;
    *ret = l;
    return true;
}

int wv_listen_parse(const char *text, unsigned example, struct wv_listen_at *ret, size_t capacity,
                    size_t *ret_n, char **ret_message)
{
    char word[sizeof ret->text];
    size_t n = 0;
    for (size_t len; (len = wv_next_word(&text, word, sizeof word)) > 0; n++) {
        if (n == capacity)
            return wv_complain(ret_message, "listen: at most %zu addresses", capacity);
        if (len >= sizeof word || !parse_listen_word(word, &ret[n]))
            return wv_complain(ret_message,
                               "listen: \"%s\" is neither a port nor ADDRESS:PORT; write %u, 192.0.2.1:%u or "
                               "[2001:db8::1]:%u",
                               word, example, example, example);
    }
    if (n == 0)
        return wv_complain(ret_message, "listen: names no address");
    *ret_n = n;
    return 0;
}
