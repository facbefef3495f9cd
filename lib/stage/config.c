#include "lib/stage/config.h"

#include "lib/base/util.h"

#include <assert.h>
#include <errno.h>
#include <glib.h>
#include <string.h>

#define FILE_MAX_BYTES   (256u << 10)
#define STRING_MAX_BYTES 4096u

struct value {
    char *text;
    char *source;
    int64_t number; /* INT, BOOL */
};

struct wv_config {
    char *group;
    const struct wv_config_entry *table;
    size_t n;
    struct value *values;
};

/* Levenshtein distance of two short words; long ones count as far away. */
static size_t distance(const char *a, const char *b)
{
    enum { WORD_MAX = 64 };
    size_t n = strlen(a), m = strlen(b), row[WORD_MAX + 1];
    if (n > WORD_MAX || m > WORD_MAX)
        return SIZE_MAX;
    for (size_t j = 0; j <= m; j++)
        row[j] = j;
    for (size_t i = 1; i <= n; i++) {
        size_t diagonal = row[0];
        row[0] = i;
        for (size_t j = 1; j <= m; j++) {
            size_t change = diagonal + (a[i - 1] != b[j - 1]);
            diagonal = row[j];
            size_t shift = WV_MIN(row[j], row[j - 1]) + 1;
            row[j] = change;
            if (shift < change)
                row[j] = shift;
        }
    }
    return row[m];
}

static const char *nearest_key(const struct wv_config *c, const char *key)
{
    const char *best = NULL;
    size_t best_distance = SIZE_MAX;
    for (size_t i = 0; i < c->n; i++) {
        size_t d = distance(key, c->table[i].key);
        if (!best || d < best_distance) {
            best = c->table[i].key;
            best_distance = d;
        }
    }
    return best;
}

/* Calls for every word of "a|b|c" until FN says true. */
static bool any_word(const char *words, bool (*fn)(const char *word, size_t len, void *userdata),
                     void *userdata)
{
    for (const char *p = words; p && *p;) {
        size_t len = strcspn(p, "|");
        if (fn(p, len, userdata))
            return true;
        p += len + (p[len] == '|');
    }
    return false;
}

static bool word_equals(const char *word, size_t len, void *userdata)
{
    const char *text = userdata;
    return strlen(text) == len && !memcmp(word, text, len);
}

struct nearest {
    const char *text;
    char best[64];
    size_t distance;
};

static bool word_is_nearer(const char *word, size_t len, void *userdata)
{
    struct nearest *n = userdata;
    char copy[sizeof n->best];
    if (len >= sizeof copy)
        return false;
    memcpy(copy, word, len);
    copy[len] = 0;
    size_t d = distance(n->text, copy);
    if (d < n->distance) {
        n->distance = d;
        memcpy(n->best, copy, len + 1);
    }
    return false;
}

static int find_key(const struct wv_config *c, const char *key)
{
    for (size_t i = 0; i < c->n; i++)
        if (!strcmp(c->table[i].key, key))
            return (int)i;
    return -1;
}

static bool parse_int(const char *text, int64_t *ret)
{
    char *end = NULL;
    if (!*text || g_ascii_isspace(*text))
        return false;
    errno = 0;
    int64_t value = g_ascii_strtoll(text, &end, 10);
    if (errno || *end)
        return false;
    *ret = value;
    return true;
}

static bool parse_bool(const char *text, int64_t *ret)
{
    static const struct {
        const char *word;
        bool value;
    } words[] = {{"true", 1}, {"yes", 1}, {"on", 1}, {"1", 1}, {"false", 0}, {"no", 0}, {"off", 0}, {"0", 0}};
    for (size_t i = 0; i < WV_ARRAY_SIZE(words); i++)
        if (!g_ascii_strcasecmp(words[i].word, text)) {
            *ret = words[i].value;
            return true;
        }
    return false;
}

/* Checks TEXT against ENTRY. Returns NULL and the number, or what would have been right (malloc'ed). */
static char *check_value(const struct wv_config_entry *entry, const char *text, int64_t *ret_number)
{
    char *wanted = NULL;
    switch (entry->type) {
    case WV_CONFIG_INT:
        if (!parse_int(text, ret_number) || *ret_number < entry->min || *ret_number > entry->max)
            wv_complain(&wanted, "a whole number from %lld to %lld", (long long)entry->min,
                        (long long)entry->max);
        break;
    case WV_CONFIG_BOOL:
        if (!parse_bool(text, ret_number))
            wv_complain(&wanted, "true or false");
        break;
    case WV_CONFIG_CHOICE:
        if (!any_word(entry->choices, word_equals, (void *)text))
            wv_complain(&wanted, "one of %s", entry->choices);
        break;
    case WV_CONFIG_STRING:
        if (strlen(text) > STRING_MAX_BYTES)
            wv_complain(&wanted, "at most %u bytes", STRING_MAX_BYTES);
        break;
    }
    return wanted;
}

/* WHERE opens the message ("/etc/wavry/host.conf:12", "--set"); SOURCE is what --print-config will show. */
static int set_value(struct wv_config *c, const char *key, const char *text, const char *where,
                     const char *source, char **ret_message)
{
    int i = find_key(c, key);
    if (i < 0) {
        const char *near = nearest_key(c, key);
        if (near)
            wv_complain(ret_message,
                        "%s: unknown key \"%.64s\" in [%s]; did you mean \"%s\"? (--help lists all keys)",
                        where, key, c->group, near);
        else
            wv_complain(ret_message, "%s: unknown key \"%.64s\"; [%s] has no keys", where, key, c->group);
        return -EINVAL;
    }
    int64_t number = 0;
    wv_cleanup(wv_free_p) char *wanted = check_value(&c->table[i], text, &number);
    if (wanted) {
        wv_complain(ret_message, "%s: %s = \"%.64s\" is not valid; write %s", where, key, text, wanted);
        return -EINVAL;
    }
    char *text_copy = strdup(text), *source_copy = strdup(source);
    if (!text_copy || !source_copy) {
        free(text_copy);
        free(source_copy);
        *ret_message = NULL;
        return -ENOMEM;
    }
    free(c->values[i].text);
    free(c->values[i].source);
    c->values[i] = (struct value){text_copy, source_copy, number};
    return 0;
}

int wv_config_new(struct wv_config **ret, const char *group, const struct wv_config_entry *table, size_t n)
{
    struct wv_config *c = calloc(1, sizeof *c);
    if (!c)
        return -ENOMEM;
    c->table = table;
    c->group = strdup(group);
    c->values = calloc(n ? n : 1, sizeof *c->values);
    if (!c->group || !c->values) {
        wv_config_free(c);
        return -ENOMEM;
    }
    c->n = n;
    for (size_t i = 0; i < n; i++) {
        char *message = NULL;
        int r = set_value(c, table[i].key, table[i].fallback, "default", "default", &message);
        assert(r != -EINVAL); /* a default of our own table must be valid */
        free(message);
        if (r < 0) {
            wv_config_free(c);
            return r;
        }
    }
    *ret = c;
    return 0;
}

struct wv_config *wv_config_free(struct wv_config *c)
{
    if (!c)
        return NULL;
    for (size_t i = 0; i < c->n; i++) {
        free(c->values[i].text);
        free(c->values[i].source);
    }
    free(c->values);
    free(c->group);
    free(c);
    return NULL;
}

/* GKeyFile keeps no line numbers, so the text is walked a second time, by the same rules, to name the line.
 */
struct place {
    const char *group; /* NULL: any */
    const char *key;   /* NULL: the header of GROUP; with both NULL the first line that is no line at all */
};

static bool line_matches(const struct place *want, const char *line, char *current, size_t capacity)
{
    while (g_ascii_isspace(*line))
        line++;
    if (*line == '#' || !*line)
        return false;
    size_t close = strcspn(line, "]");
    if (*line == '[' && line[close] == ']') {
        snprintf(current, capacity, "%.*s", (int)close - 1, line + 1);
        return want->group && !want->key && !strcmp(current, want->group);
    }
    const char *equals = strchr(line, '=');
    if (!want->group)
        return !equals || equals == line || !*current;
    size_t len = equals ? (size_t)(equals - line) : 0;
    while (len && g_ascii_isspace(line[len - 1]))
        len--;
    return want->key && !strcmp(current, want->group) && strlen(want->key) == len &&
           !memcmp(line, want->key, len);
}

/* The last line that matches (the one that counts in a GKeyFile), 1 when none does; the first for bad lines.
 */
static unsigned line_of(const char *text, const struct place *want)
{
    char current[256] = "";
    unsigned found = 0, number = 0;
    for (const char *p = text; *p;) {
        size_t len = strcspn(p, "\n");
        wv_cleanup(wv_free_p) char *line = strndup(p, len);
        number++;
        if (line && line_matches(want, line, current, sizeof current)) {
            found = number;
            if (!want->group)
                break;
        }
        p += len + (p[len] == '\n');
    }
    return found ? found : 1;
}

static int check_groups(const struct wv_config *c, GKeyFile *file, const char *text, const char *name,
                        const char *known_groups, char **ret_message)
{
    g_auto(GStrv) groups = g_key_file_get_groups(file, NULL);
    for (char **g = groups; *g; g++) {
        if (!strcmp(*g, c->group) || any_word(known_groups, word_equals, *g))
            continue;
        struct nearest near = {.text = *g, .distance = SIZE_MAX};
        word_is_nearer(c->group, strlen(c->group), &near);
        any_word(known_groups, word_is_nearer, &near);
        wv_complain(ret_message, "%s:%u: unknown group [%.64s]; did you mean [%s]?", name,
                    line_of(text, &(struct place){.group = *g}), *g, near.best[0] ? near.best : c->group);
        return -EINVAL;
    }
    return 0;
}

/* The escapes of key files, in place. (GKeyFile's own reader reports one error over another.) */
static bool unescape(char *text)
{
    static const char letters[] = "sntr\\", meanings[] = " \n\t\r\\";
    char *to = text;
    for (const char *from = text; *from; from++) {
        const char *letter;
        if (*from == '\\') {
            from++;
            letter = *from ? strchr(letters, *from) : NULL;
            if (!letter)
                return false;
            *to++ = meanings[letter - letters];
        } else {
            *to++ = *from;
        }
    }
    *to = 0;
    return true;
}

/* A failed load ends the program, so it may stop half-way. */
static int take_keys(struct wv_config *c, GKeyFile *file, const char *text, const char *name,
                     char **ret_message)
{
    g_auto(GStrv) keys = g_key_file_get_keys(file, c->group, NULL, NULL);
    for (char **key = keys; key && *key; key++) {
        char where[512];
        snprintf(where, sizeof where, "%s:%u", name, line_of(text, &(struct place){c->group, *key}));
        g_autofree char *value = g_key_file_get_value(file, c->group, *key, NULL);
        if (!value || !g_utf8_validate(value, -1, NULL) || !unescape(g_strchomp(value))) {
            wv_complain(ret_message,
                        "%s: the value of %.64s is not text; the escapes are \\s \\n \\t \\r \\\\", where,
                        *key);
            return -EINVAL;
        }
        int r = set_value(c, *key, value, where, where, ret_message);
        if (r < 0)
            return r;
    }
    return 0;
}

int wv_config_load_text(struct wv_config *c, const char *text, const char *name, const char *known_groups,
                        char **ret_message)
{
    *ret_message = NULL;
    g_autoptr(GKeyFile) file = g_key_file_new();
    g_autoptr(GError) error = NULL;
    if (!g_key_file_load_from_data(file, text, strlen(text), G_KEY_FILE_NONE, &error)) {
        if (error->domain == G_KEY_FILE_ERROR && error->code == G_KEY_FILE_ERROR_NOT_FOUND)
            return 0; /* an empty file */
        wv_complain(ret_message, "%s:%u: %s; write [group] and key = value lines", name,
                    line_of(text, &(struct place){0}), error->message);
        return -EINVAL;
    }
    int r = check_groups(c, file, text, name, known_groups, ret_message);
    return r < 0 ? r : take_keys(c, file, text, name, ret_message);
}

int wv_config_load(struct wv_config *c, const char *path, bool optional, const char *known_groups,
                   char **ret_message)
{
    *ret_message = NULL;
    wv_cleanup(wv_free_p) uint8_t *data = NULL;
    size_t len;
    int r = wv_read_file(path, FILE_MAX_BYTES, &data, &len);
    if (optional && (r == -ENOENT || r == -ENOTDIR))
        return 0;
    if (r < 0) {
        wv_complain(ret_message, "%s: can't be read: %s; check the name and its permissions", path,
                    strerror(-r));
        return r;
    }
    if (memchr(data, 0, len)) {
        wv_complain(ret_message, "%s: is not a text file (it contains a zero byte)", path);
        return -EINVAL;
    }
    return wv_config_load_text(c, (const char *)data, path, known_groups, ret_message);
}

int wv_config_set(struct wv_config *c, const char *assignment, const char *source, char **ret_message)
{
    *ret_message = NULL;
    const char *equals = strchr(assignment, '=');
    if (!equals || equals == assignment) {
        wv_complain(ret_message, "%s: \"%.64s\" is not an assignment; write KEY=VALUE", source, assignment);
        return -EINVAL;
    }
    wv_cleanup(wv_free_p) char *key = strndup(assignment, (size_t)(equals - assignment));
    if (!key)
        return -ENOMEM;
    return set_value(c, key, equals + 1, source, source, ret_message);
}

static const struct value *value_of(const struct wv_config *c, const char *key, unsigned types)
{
    int i = find_key(c, key);
    assert(i >= 0 && (types & 1u << c->table[i].type)); /* the program asks for keys of its own table */
    return &c->values[i];
}

int64_t wv_config_int(const struct wv_config *c, const char *key)
{
    return value_of(c, key, 1u << WV_CONFIG_INT)->number;
}

bool wv_config_bool(const struct wv_config *c, const char *key)
{
    return value_of(c, key, 1u << WV_CONFIG_BOOL)->number;
}

const char *wv_config_string(const struct wv_config *c, const char *key)
{
    return value_of(c, key, ~0u)->text;
}

bool wv_config_has(const struct wv_config *c, const char *key)
{
    return find_key(c, key) >= 0;
}

void wv_config_print(const struct wv_config *c, FILE *out)
{
    fprintf(out, "[%s]\n", c->group);
    for (size_t i = 0; i < c->n; i++) {
        g_autofree char *escaped = g_strescape(c->values[i].text, NULL);
        bool plain = c->table[i].type != WV_CONFIG_STRING;
        fprintf(out, "%s = %s  # %s\n", c->table[i].key, plain ? c->values[i].text : escaped,
                c->values[i].source);
    }
}

void wv_config_print_help(const struct wv_config *c, FILE *out)
{
    if (c->n)
        fprintf(out, "Keys of the group [%s]:\n", c->group);
    for (size_t i = 0; i < c->n; i++) {
        const struct wv_config_entry *e = &c->table[i];
        fprintf(out, "  %-20s %s", e->key, e->help);
        if (e->type == WV_CONFIG_INT)
            fprintf(out, " (%lld to %lld; default %s)\n", (long long)e->min, (long long)e->max, e->fallback);
        else if (e->type == WV_CONFIG_CHOICE)
            fprintf(out, " (%s; default %s)\n", e->choices, e->fallback);
        else
            fprintf(out, " (default %s)\n", e->fallback[0] ? e->fallback : "empty");
    }
}
