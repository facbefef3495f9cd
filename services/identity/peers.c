/* The list of keys that may connect, as the lines of a text file. A line that can't be read grants nothing,
 * but is kept: it may be somebody's typing error. Must never drop what a person wrote except by
 * wv_peers_remove(). */
#include "services/identity/peers.h"

#include "lib/base/util.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define LINES_MAX 8192

struct line {
    char *text; /* without newline, NUL-terminated past its length */
    size_t len;
    bool is_peer;
    struct wv_peer peer;
};

struct wv_peers {
    struct line *lines;
    size_t n_lines, capacity;
    size_t n_peers;
};

/* Returns the length of the UTF-8 sequence at P (1..4), 0 when it isn't one (RFC 3629). */
static size_t utf8_sequence(const uint8_t *p, size_t left)
{
    static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
    size_t n = p[0] < 0x80             ? 1
               : (p[0] & 0xe0) == 0xc0 ? 2
               : (p[0] & 0xf0) == 0xe0 ? 3
               : (p[0] & 0xf8) == 0xf0 ? 4
                                       : 0;
    if (n == 0 || n > left)
        return 0;
    uint32_t c = n == 1 ? p[0] : p[0] & (0x7fu >> n);
    for (size_t i = 1; i < n; i++) {
        if ((p[i] & 0xc0) != 0x80)
            return 0;
        c = c << 6 | (p[i] & 0x3f);
    }
    bool control = c < 0x20 || (c >= 0x7f && c < 0xa0) || c == 0x2028 || c == 0x2029;
    /* Directional overrides would let one name look like another. */
    bool override = (c >= 0x202a && c <= 0x202e) || (c >= 0x2066 && c <= 0x2069);
    if (c < least[n] || (c >= 0xd800 && c <= 0xdfff) || c > 0x10ffff || control || override)
        return 0;
    return n;
}

bool wv_text_is_printable(const char *text, size_t len)
{
    const uint8_t *p = (const uint8_t *)text;
    while (len) {
        size_t n = utf8_sequence(p, len);
        if (n == 0)
            return false;
        p += n;
        len -= n;
    }
    return true;
}

/* Trims TEXT into RET_NAME. Returns whether it can be a name. */
static bool take_name(const char *text, size_t len, char ret_name[WV_PEER_NAME_BYTES])
{
    while (len && (*text == ' ' || *text == '\t')) {
        text++;
        len--;
    }
    while (len && (text[len - 1] == ' ' || text[len - 1] == '\t' || text[len - 1] == '\r'))
        len--;
    if (len >= WV_PEER_NAME_BYTES || !wv_text_is_printable(text, len))
        return false;
    if (len == 0) {
        text = "unnamed";
        len = strlen(text);
    }
    memcpy(ret_name, text, len);
    ret_name[len] = 0;
    return true;
}

/* Takes "NAME=VALUE" off the front of TEXT. Returns whether it was there; else TEXT is unchanged. */
static bool take_field(const char **text, const char *name, const char **ret_value, size_t *ret_len)
{
    const char *at = *text + strspn(*text, " \t");
    size_t len = strlen(name);
    if (strncmp(at, name, len) != 0)
        return false;
    *ret_value = at + len;
    *ret_len = strcspn(at + len, " \t\r");
    *text = at + len + *ret_len;
    return true;
}

/* Returns NULL when LINE was understood, else what is wrong with it. */
static const char *parse_line(struct line *line)
{
    const char *text = line->text;
    size_t len = strlen(text), blank = strspn(text, " \t\r");
    if (blank == len || text[blank] == '#')
        return NULL;
    text += blank;
    size_t key_len = strcspn(text, " \t\r");
    char key[RIFT_PUBLIC_KEY_TEXT_BYTES];
    if (key_len != sizeof key - 1)
        return "does not begin with a key";
    memcpy(key, text, key_len);
    key[key_len] = 0;
    if (rift_public_key_parse(key, line->peer.key) < 0)
        return "has a key that can't be one";
    const char *value;
    size_t value_len;
    text += key_len;
    line->peer.grants = WV_GRANTS_USUAL;
    if (take_field(&text, "grants=", &value, &value_len) &&
        wv_grants_parse(value, value_len, &line->peer.grants) < 0)
        return "grants something that is not known (" WV_GRANTS_KNOWN_TEXT ")";
    if (take_field(&text, "expires=", &value, &value_len) &&
        wv_expiry_parse(value, value_len, &line->peer.expires) < 0)
        return "expires at a time that is none (2026-12-01T12:00:00Z)";
    if (!take_name(text, strlen(text), line->peer.name))
        return "has a name that is too long or not printable";
    line->is_peer = true;
    return NULL;
}

static int append_line(struct wv_peers *p, const char *text, size_t len, struct line **ret_line)
{
    if (p->n_lines == LINES_MAX)
        return -EFBIG;
    if (p->n_lines == p->capacity) {
        size_t capacity = p->capacity ? 2 * p->capacity : 16;
        struct line *lines = realloc(p->lines, capacity * sizeof *lines);
        if (!lines)
            return -ENOMEM;
        p->lines = lines;
        p->capacity = capacity;
    }
    struct line *line = &p->lines[p->n_lines];
    memset(line, 0, sizeof *line);
    line->text = malloc(len + 1);
    if (!line->text)
        return -ENOMEM;
    memcpy(line->text, text, len);
    line->text[len] = 0;
    line->len = len;
    p->n_lines++;
    *ret_line = line;
    return 0;
}

static int parse_text(struct wv_peers *p, const char *text, size_t len, wv_peers_bad_line_fn bad_line,
                      void *userdata)
{
    for (unsigned number = 1; len; number++) {
        const char *end = memchr(text, '\n', len);
        size_t n = end ? (size_t)(end - text) : len;
        struct line *line;
        int r = append_line(p, text, n, &line);
        if (r < 0)
            return r;
        const char *why = memchr(text, 0, n) ? "contains a NUL byte" : parse_line(line);
        if (why && bad_line)
            bad_line(userdata, number, why);
        if (line->is_peer && p->n_peers++ == WV_PEERS_MAX)
            return -EFBIG;
        text += n + (end != NULL);
        len -= n + (end != NULL);
    }
    return 0;
}

int wv_peers_parse(struct wv_peers **ret, const char *text, size_t len, wv_peers_bad_line_fn bad_line,
                   void *userdata)
{
    if (len > WV_PEERS_FILE_MAX_BYTES)
        return -EFBIG;
    struct wv_peers *p = calloc(1, sizeof *p);
    if (!p)
        return -ENOMEM;
    int r = parse_text(p, text, len, bad_line, userdata);
    if (r < 0) {
        wv_peers_free(p);
        return r;
    }
    *ret = p;
    return 0;
}

struct wv_peers *wv_peers_free(struct wv_peers *p)
{
    if (!p)
        return NULL;
    for (size_t i = 0; i < p->n_lines; i++)
        free(p->lines[i].text);
    free(p->lines);
    free(p);
    return NULL;
}

size_t wv_peers_count(const struct wv_peers *p)
{
    return p->n_peers;
}

const struct wv_peer *wv_peers_at(const struct wv_peers *p, size_t i)
{
    for (size_t j = 0; j < p->n_lines; j++)
        if (p->lines[j].is_peer && i-- == 0)
            return &p->lines[j].peer;
    return NULL;
}

static struct line *find(const struct wv_peers *p, const uint8_t key[32])
{
    for (size_t i = 0; i < p->n_lines; i++)
        if (p->lines[i].is_peer && memcmp(p->lines[i].peer.key, key, 32) == 0)
            return &p->lines[i];
    return NULL;
}

const struct wv_peer *wv_peers_find(const struct wv_peers *p, const uint8_t key[32])
{
    const struct line *line = find(p, key);
    return line ? &line->peer : NULL;
}

/* A new line for PEER; NULL without memory. */
static char *format_line(const struct wv_peer *peer)
{
    char key[RIFT_PUBLIC_KEY_TEXT_BYTES], grants[WV_GRANTS_TEXT_BYTES], expires[WV_EXPIRY_TEXT_BYTES] = "";
    char *text;
    rift_public_key_format(peer->key, key);
    wv_grants_format(peer->grants, grants);
    if (peer->expires)
        wv_expiry_format(peer->expires, expires);
    return asprintf(&text, "%s grants=%s %s%s%s%s", key, grants, peer->expires ? "expires=" : "", expires,
                    peer->expires ? " " : "", peer->name) < 0
               ? NULL
               : text;
}

/* A client may choose its name: none that would be read as its grants. */
static bool is_field(const char *name)
{
    return !strncmp(name, "grants=", 7) || !strncmp(name, "expires=", 8);
}

int wv_peers_add(struct wv_peers *p, const uint8_t key[32], const char *name, uint32_t grants,
                 uint64_t expires)
{
    struct wv_peer peer = {.grants = grants, .expires = expires};
    if (!take_name(name, strlen(name), peer.name) || is_field(peer.name) || grants == 0 ||
        grants > WV_GRANTS_ALL || expires > WV_EXPIRY_MAX)
        return -EINVAL;
    memcpy(peer.key, key, sizeof peer.key);
    wv_cleanup(wv_free_p) char *text = format_line(&peer);
    if (!text)
        return -ENOMEM;
    struct line *line = find(p, key);
    if (!line) {
        if (p->n_peers == WV_PEERS_MAX)
            return -ENOSPC;
        int r = append_line(p, text, strlen(text), &line);
        if (r < 0)
            return r == -EFBIG ? -ENOSPC : r;
        p->n_peers++;
    } else {
        free(line->text);
        line->text = text;
        line->len = strlen(text);
        text = NULL;
    }
    line->is_peer = true;
    line->peer = peer;
    return 0;
}

int wv_peers_remove(struct wv_peers *p, const uint8_t given[32])
{
    uint8_t key[32]; /* GIVEN may lie in a line that moves */
    size_t kept = 0, before = p->n_lines;
    memcpy(key, given, sizeof key);
    for (size_t i = 0; i < before; i++) {
        struct line *line = &p->lines[i];
        if (line->is_peer && memcmp(line->peer.key, key, 32) == 0) {
            free(line->text);
            p->n_peers--;
        } else {
            p->lines[kept++] = *line;
        }
    }
    p->n_lines = kept;
    return kept < before ? 0 : -ENOENT;
}

int wv_peers_format(const struct wv_peers *p, char **ret_text, size_t *ret_len)
{
    size_t len = 0;
    for (size_t i = 0; i < p->n_lines; i++)
        len += p->lines[i].len + 1;
    char *text = malloc(len + 1), *at = text;
    if (!text)
        return -ENOMEM;
    for (size_t i = 0; i < p->n_lines; i++) {
        at = mempcpy(at, p->lines[i].text, p->lines[i].len);
        *at++ = '\n';
    }
    *at = 0;
    *ret_text = text;
    *ret_len = len;
    return 0;
}
