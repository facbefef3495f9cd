/* Identity and known hosts; see trust.h. */
#include "client/trust.h"

#include "lib/base/util.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

#define KNOWN_HOSTS_MAX_BYTES (1u << 20)
#define PATH_BYTES            4096

static void say(char *message, const char *format, ...) __attribute__((format(printf, 2, 3)));

static void say(char *message, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(message, WV_TRUST_TEXT_BYTES, format, args);
    va_end(args);
}

int wv_trust_path(const char *name, char *ret, size_t capacity)
{
    const char *base = getenv("XDG_CONFIG_HOME"), *home = getenv("HOME");
    int n;
    /* The base directory specification: a relative path there is to be ignored. */
    if (base && base[0] == '/')
        n = snprintf(ret, capacity, "%s/wavry/%s", base, name);
    else if (home && home[0] == '/')
        n = snprintf(ret, capacity, "%s/.config/wavry/%s", home, name);
    else
        return -ENOENT;
    return n < 0 || (size_t)n >= capacity ? -ENAMETOOLONG : 0;
}

/* Makes the folders above PATH. */
static int make_parents(const char *path)
{
    char folder[PATH_BYTES];
    if ((size_t)snprintf(folder, sizeof folder, "%s", path) >= sizeof folder)
        return -ENAMETOOLONG;
    for (char *slash = strchr(folder + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        if (mkdir(folder, 0700) < 0 && errno != EEXIST)
            return -errno;
        *slash = '/';
    }
    return 0;
}

/* Makes a new identity beside PATH and links it there; a file that came into being meanwhile wins. */
static int create_identity(const char *path)
{
    char temporary[PATH_BYTES], text[RIFT_IDENTITY_TEXT_BYTES];
    if ((size_t)snprintf(temporary, sizeof temporary, "%s.XXXXXX", path) >= sizeof temporary)
        return -ENAMETOOLONG;
    int r = make_parents(path);
    if (r < 0)
        return r;
    int fd = mkostemp(temporary, O_CLOEXEC);
    if (fd < 0)
        return -errno;
    struct rift_identity identity;
    rift_identity_generate(&identity);
    rift_identity_format(&identity, text);
    size_t len = strlen(text);
    ssize_t n = write(fd, text, len);
    if (n != (ssize_t)len)
        r = n < 0 ? -errno : -ENOSPC;
    else if (fsync(fd) < 0 || (link(temporary, path) < 0 && errno != EEXIST))
        r = -errno;
    unlink(temporary);
    wv_close(fd);
    rift_identity_wipe(&identity);
    explicit_bzero(text, sizeof text);
    return r;
}

/* Whether the file behind FD is a secret of ours alone. */
static int check_private(const char *path, int fd, char *message)
{
    struct stat st;
    if (fstat(fd, &st) < 0)
        return -errno;
    if (!S_ISREG(st.st_mode)) {
        say(message, "%s is not a file. Move it away; a new identity is then made.", path);
        return -EINVAL;
    }
    if (st.st_uid != geteuid()) {
        say(message, "The identity file %s belongs to another user (uid %u). Give it back: chown %u '%s'",
            path, (unsigned)st.st_uid, (unsigned)geteuid(), path);
        return -EACCES;
    }
    if (st.st_mode & 077) {
        say(message,
            "The identity file %s can be read or changed by other users (mode %04o), so it may no longer be "
            "a secret. If nobody else could have seen it: chmod 600 '%s'. Otherwise delete it, and authorize "
            "the new key on your hosts.",
            path, (unsigned)(st.st_mode & 07777), path);
        return -EACCES;
    }
    return 0;
}

static int read_identity(const char *path, int fd, struct rift_identity *ret_identity, char *message)
{
    char text[RIFT_IDENTITY_TEXT_BYTES + 1];
    ssize_t n = read(fd, text, sizeof text);
    if (n < 0) {
        int r = -errno;
        say(message, "The identity file %s can't be read: %s", path, strerror(-r));
        return r;
    }
    int r = (size_t)n > sizeof text - 1 ? -EINVAL : rift_identity_parse(text, (size_t)n, ret_identity);
    explicit_bzero(text, sizeof text);
    if (r < 0)
        say(message,
            "%s does not hold a Wavry identity. Restore it from a backup, or move it away: a new identity is "
            "then made, whose key must be authorized on your hosts.",
            path);
    return r;
}

int wv_identity_load(const char *path, struct rift_identity *ret_identity, char *ret_message)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (fd < 0 && errno == ENOENT) {
        int r = create_identity(path);
        if (r < 0) {
            say(ret_message,
                "The identity file %s can't be made: %s. Name another place with --identity FILE.", path,
                strerror(-r));
            return r;
        }
        fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    }
    if (fd < 0) {
        int r = -errno;
        say(ret_message, "The identity file %s can't be opened: %s. Check its owner and permissions.", path,
            r == -ELOOP ? "it is a symbolic link" : strerror(-r));
        return r;
    }
    int r = check_private(path, fd, ret_message);
    if (r == 0)
        r = read_identity(path, fd, ret_identity, ret_message);
    wv_close(fd);
    return r;
}

/* Line LEN bytes long of known_hosts: 0 with a key, WV_KNOWN_NOT for an empty line or a comment, -EINVAL. */
static int parse_known(const char *line, size_t len, char ret_address[PATH_BYTES], uint8_t ret_key[32])
{
    char copy[PATH_BYTES], *save = NULL;
    if (len >= sizeof copy || memchr(line, '\0', len))
        return -EINVAL;
    memcpy(copy, line, len);
    copy[len] = '\0';
    char *address = strtok_r(copy, " \t\r", &save);
    if (!address || address[0] == '#')
        return WV_KNOWN_NOT;
    char *key = strtok_r(NULL, " \t\r", &save);
    if (!key || strtok_r(NULL, " \t\r", &save) || rift_public_key_parse(key, ret_key) < 0)
        return -EINVAL;
    strcpy(ret_address, address);
    return 0;
}

/* The whole file; none is an empty one. */
static int read_known(const char *path, uint8_t **ret_text, size_t *ret_len, char *message)
{
    int r = wv_read_file(path, KNOWN_HOSTS_MAX_BYTES, ret_text, ret_len);
    if (r == -ENOENT) {
        *ret_len = 0;
        return 0;
    }
    if (r < 0)
        say(message, "The list of known hosts %s can't be read: %s", path, strerror(-r));
    return r;
}

/* The next line of TEXT from OFFSET on, without its end: 0 with its place, or WV_KNOWN_NOT. */
static int next_line(const uint8_t *text, size_t len, size_t *offset, const char **ret_line, size_t *ret_len)
{
    if (*offset >= len)
        return WV_KNOWN_NOT;
    const char *line = (const char *)text + *offset;
    const char *end = memchr(line, '\n', len - *offset);
    *ret_line = line;
    *ret_len = end ? (size_t)(end - line) : len - *offset;
    *offset += *ret_len + 1;
    return 0;
}

int wv_known_hosts_find(const char *path, const char *address, uint8_t ret_key[32], unsigned *ret_line,
                        char *ret_message)
{
    wv_cleanup(wv_free_p) uint8_t *text = NULL;
    const char *line;
    size_t len, line_len, offset = 0;
    int r = read_known(path, &text, &len, ret_message);
    for (unsigned number = 1; r >= 0 && next_line(text, len, &offset, &line, &line_len) == 0; number++) {
        char known[PATH_BYTES];
        uint8_t key[32];
        r = parse_known(line, line_len, known, key);
        if (r < 0) {
            /* Going on could mean to trust a stranger whose line was damaged. */
            say(ret_message, "%s:%u: not \"ADDRESS KEY\". Correct or remove the line.", path, number);
        } else if (r == 0 && strcasecmp(known, address) == 0) {
            memcpy(ret_key, key, sizeof key);
            *ret_line = number;
            return 0;
        }
    }
    return r < 0 ? r : WV_KNOWN_NOT;
}

int wv_known_hosts_has(const char *path, const uint8_t key[32], char *ret_message)
{
    wv_cleanup(wv_free_p) uint8_t *text = NULL;
    const char *line;
    size_t len, line_len, offset = 0;
    int r = read_known(path, &text, &len, ret_message);
    while (r >= 0 && next_line(text, len, &offset, &line, &line_len) == 0) {
        char known[PATH_BYTES];
        uint8_t other[32];
        if (parse_known(line, line_len, known, other) == 0 && !memcmp(other, key, sizeof other))
            return 0;
    }
    return r < 0 ? r : WV_KNOWN_NOT;
}

/* Copies all lines but those of ADDRESS to TO; returns the length. */
static size_t copy_others(const uint8_t *text, size_t len, const char *address, char *to)
{
    const char *line;
    size_t line_len, offset = 0, out = 0;
    while (next_line(text, len, &offset, &line, &line_len) == 0) {
        char known[PATH_BYTES];
        uint8_t key[32];
        if (parse_known(line, line_len, known, key) == 0 && strcasecmp(known, address) == 0)
            continue;
        memcpy(to + out, line, line_len);
        out += line_len;
        to[out++] = '\n';
    }
    return out;
}

int wv_known_hosts_put(const char *path, const char *address, const uint8_t key[32], char *ret_message)
{
    wv_cleanup(wv_free_p) uint8_t *text = NULL;
    wv_cleanup(wv_free_p) char *out = NULL;
    char key_text[RIFT_PUBLIC_KEY_TEXT_BYTES];
    size_t len, room = strlen(address) + sizeof key_text + 4;
    int r = read_known(path, &text, &len, ret_message);
    if (r < 0)
        return r;
    if (!(out = malloc(len + room)))
        return -ENOMEM;
    rift_public_key_format(key, key_text);
    size_t used = copy_others(text, len, address, out);
    used += (size_t)snprintf(out + used, room, "%s %s\n", address, key_text);
    r = make_parents(path);
    if (r == 0)
        r = wv_write_file_atomic(path, out, used, 0600);
    if (r < 0)
        say(ret_message, "The host's key can't be noted in %s: %s", path, strerror(-r));
    return r;
}

int wv_host_format(const char *host, uint16_t port, char *ret, size_t capacity)
{
    int n = snprintf(ret, capacity, strchr(host, ':') ? "[%s]:%u" : "%s:%u", host, port);
    return n < 0 || (size_t)n >= capacity ? -ENAMETOOLONG : 0;
}

static int parse_port(const char *text, uint16_t *ret_port)
{
    unsigned long v = 0;
    if (!*text || strlen(text) > 5)
        return -EINVAL;
    for (; *text; text++) {
        if (*text < '0' || *text > '9')
            return -EINVAL;
        v = v * 10 + (unsigned long)(*text - '0');
    }
    if (v == 0 || v > 65535)
        return -EINVAL;
    *ret_port = (uint16_t)v;
    return 0;
}

int wv_host_parse(const char *text, char *ret_host, size_t capacity, uint16_t *ret_port)
{
    const char *begin = text, *end, *colon = strchr(text, ':');
    const char *port = NULL;
    if (text[0] == '[') {
        begin = text + 1;
        end = strchr(begin, ']');
        if (!end || (end[1] != '\0' && end[1] != ':'))
            return -EINVAL;
        if (end[1] == ':')
            port = end + 2;
    } else if (colon && !strchr(colon + 1, ':')) {
        end = colon;
        port = colon + 1;
    } else {
        end = text + strlen(text);
    }
    size_t len = (size_t)(end - begin);
    if (len == 0 || len >= capacity || begin[0] == '#') /* that one is a comment in known_hosts */
        return -EINVAL;
    for (size_t i = 0; i < len; i++)
        if ((unsigned char)begin[i] <= ' ' || begin[i] == 0x7f)
            return -EINVAL;
    uint16_t value = 0;
    if (port && parse_port(port, &value) < 0)
        return -EINVAL;
    memcpy(ret_host, begin, len);
    ret_host[len] = '\0';
    if (port)
        *ret_port = value;
    return 0;
}
