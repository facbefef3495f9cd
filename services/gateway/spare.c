/* See spare.h. */
#include "services/gateway/spare.h"

#include <errno.h>
#include <glib.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

/* The first member is what a table knows it by: a MAC or a hash, so any bytes of it spread well. */
struct used {
    uint8_t challenge[32];
    int64_t expires;
};

struct wv_spare {
    pthread_mutex_t lock;
    GHashTable *used, *tokens;
};

static guint hash_of(gconstpointer key)
{
    guint hash;
    memcpy(&hash, (const uint8_t *)key + 16, sizeof hash); /* a challenge begins with its time */
    return hash;
}

static gboolean equal(gconstpointer a, gconstpointer b)
{
    return memcmp(a, b, 32) == 0;
}

int wv_spare_new(struct wv_spare **ret)
{
    struct wv_spare *s = calloc(1, sizeof *s);
    if (!s)
        return -ENOMEM;
    pthread_mutex_init(&s->lock, NULL);
    s->used = g_hash_table_new_full(hash_of, equal, NULL, free);
    s->tokens = g_hash_table_new_full(hash_of, equal, NULL, free);
    *ret = s;
    return 0;
}

struct wv_spare *wv_spare_free(struct wv_spare *s)
{
    if (!s)
        return NULL;
    g_hash_table_destroy(s->used);
    g_hash_table_destroy(s->tokens);
    pthread_mutex_destroy(&s->lock);
    free(s);
    return NULL;
}

static gboolean used_is_over(gpointer key, gpointer value, gpointer now)
{
    return ((struct used *)value)->expires <= *(int64_t *)now;
}

static gboolean token_is_over(gpointer key, gpointer value, gpointer now)
{
    return ((struct wv_token *)value)->expires <= *(int64_t *)now;
}

/* Takes VALUE over, which begins with its key. */
static int put(GHashTable *table, void *take_value, GHRFunc is_over, int64_t now)
{
    if (g_hash_table_size(table) >= WV_SPARE_MAX)
        (void)g_hash_table_foreach_remove(table, is_over, &now);
    if (g_hash_table_size(table) >= WV_SPARE_MAX) {
        free(take_value);
        return -ENOBUFS;
    }
    (void)g_hash_table_replace(table, take_value, take_value);
    return 0;
}

int wv_spare_use_challenge(struct wv_spare *s, const uint8_t challenge[32], int64_t expires, int64_t now)
{
    struct used *used = malloc(sizeof *used);
    if (!used)
        return -ENOBUFS;
    memcpy(used->challenge, challenge, sizeof used->challenge);
    used->expires = expires;
    pthread_mutex_lock(&s->lock);
    int r = -EEXIST;
    if (g_hash_table_contains(s->used, challenge))
        free(used);
    else
        r = put(s->used, used, used_is_over, now);
    pthread_mutex_unlock(&s->lock);
    return r;
}

_Static_assert(offsetof(struct wv_token, hash) == 0, "a token begins with what it is known by");

int wv_spare_add_token(struct wv_spare *s, const struct wv_token *token, int64_t now)
{
    struct wv_token *copy = malloc(sizeof *copy);
    if (!copy)
        return -ENOBUFS;
    *copy = *token;
    pthread_mutex_lock(&s->lock);
    int r = put(s->tokens, copy, token_is_over, now);
    pthread_mutex_unlock(&s->lock);
    return r;
}

int wv_spare_token(struct wv_spare *s, struct wv_store *store, const uint8_t hash[WV_STORE_HASH_BYTES],
                   int64_t now, struct wv_token *ret)
{
    struct wv_token kept;
    struct wv_machine machine;
    struct wv_account account;
    pthread_mutex_lock(&s->lock);
    const struct wv_token *found = g_hash_table_lookup(s->tokens, hash);
    if (found)
        kept = *found;
    pthread_mutex_unlock(&s->lock);
    if (!found || kept.expires <= now)
        return -ENOENT;
    int r = wv_store_machine(store, kept.device, &machine);
    if (r == 0)
        r = wv_store_account(store, machine.account, &account);
    if (r == 0 && (account.disabled || strcmp(machine.account, kept.account) != 0))
        r = -ENOENT;
    if (r == 0)
        *ret = kept;
    return r;
}

bool wv_spare_end_token(struct wv_spare *s, const uint8_t hash[WV_STORE_HASH_BYTES])
{
    pthread_mutex_lock(&s->lock);
    bool was = g_hash_table_remove(s->tokens, hash);
    pthread_mutex_unlock(&s->lock);
    return was;
}
