#include "services/gateway/store_internal.h"

#include "lib/base/util.h"
#include "lib/ipc/text.h"
#include "services/gateway/store_schema.h"

#include <errno.h>
#include <sodium.h>
#include <stdatomic.h>
#include <stdio.h>
#include <time.h>

int wv_store_open(struct wv_store **ret, const char *url, char reason[WV_DB_REASON_BYTES])
{
    if (sodium_init() < 0)
        return -EIO;
    struct wv_store *s = calloc(1, sizeof *s);
    if (!s)
        return -ENOMEM;
    int r = wv_db_open(&s->db, url, reason);
    if (r == 0) {
        r = wv_db_migrate(s->db, wv_store_migrations, wv_store_n_migrations);
        if (r < 0 && reason)
            snprintf(reason, WV_DB_REASON_BYTES, "%s", wv_db_reason(s->db));
    }
    if (r < 0) {
        wv_store_close(s);
        return r;
    }
    *ret = s;
    return 0;
}

int wv_store_open_reader(struct wv_store **ret, const char *url, char reason[WV_DB_REASON_BYTES])
{
    struct wv_store *s = calloc(1, sizeof *s);
    if (!s)
        return -ENOMEM;
    int r = wv_db_open_reader(&s->db, url, reason);
    if (r < 0) {
        wv_store_close(s);
        return r;
    }
    *ret = s;
    return 0;
}

struct wv_store *wv_store_close(struct wv_store *s)
{
    if (s)
        wv_db_close(s->db);
    free(s);
    return NULL;
}

struct wv_db *wv_store_db(struct wv_store *s)
{
    return s->db;
}

const char *wv_store_reason(const struct wv_store *s)
{
    return wv_db_reason(s->db);
}

static int ignore_row(void *userdata, const struct wv_db_value *row, size_t n)
{
    return 0;
}

int wv_store_ping(struct wv_store *s)
{
    return wv_db_run(s->db, "SELECT max(version) FROM schema_version", NULL, 0, ignore_row, NULL, NULL);
}

int wv_store_try_write(struct wv_store *s, size_t len)
{
    wv_cleanup(wv_free_p) uint8_t *noise = malloc(len);
    if (!noise)
        return -ENOMEM;
    randombytes_buf(noise, len); /* PostgreSQL would make little of zeros */
    return wv_db_run(s->db,
                     "INSERT INTO settings (name, value) VALUES ('write-trial', $1) ON CONFLICT (name) DO "
                     "UPDATE SET value = excluded.value",
                     WV_DB_ARGS(WV_DB_B(noise, len)), 1, NULL, NULL, NULL);
}

uint64_t wv_store_writes(const struct wv_store *s)
{
    return wv_db_writes(s->db);
}

const char *wv_store_advice(int r)
{
    switch (r) {
    case -ENOSPC:
        return "free space on the database's disk; writes go on by themselves then";
    case -EROFS:
    case -EACCES:
        return "let the gateway's user write the database's file and folder (or its role write in "
               "PostgreSQL)";
    case -ENOENT:
        return "make the folder or the database, or correct the key \"database\"";
    case -EBUSY:
        return "find out what else holds the database";
    case -ENOTCONN:
    case -ECONNREFUSED:
        return "start the database's server, or correct the key \"database\"";
    case -EINVAL:
        return "correct the key \"database\"";
    case -ENOTSUP:
        return "install the newer version of this program again";
    case -EBADMSG:
        return "correct the key \"database\", or bring a backup back";
    case -ESTALE:
        return "put the file back and start the gateway again";
    default:
        return "look at the disk and the system's journal";
    }
}

/* ---- what the other files share ---- */

int wv_store_change(struct wv_store *s, const char *sql, const struct wv_db_value *args, size_t n)
{
    uint64_t changed;
    int r = wv_db_run(s->db, sql, args, n, NULL, NULL, &changed);
    return r == 0 && changed == 0 ? -ENOENT : r;
}

struct one {
    wv_db_row_fn row;
    void *userdata;
    bool found;
};

static int take_one(void *userdata, const struct wv_db_value *row, size_t n)
{
    struct one *one = userdata;
    one->found = true;
    return one->row(one->userdata, row, n);
}

int wv_store_find(struct wv_store *s, const char *sql, const struct wv_db_value *args, size_t n,
                  wv_db_row_fn row, void *userdata)
{
    struct one one = {.row = row, .userdata = userdata};
    int r = wv_db_run(s->db, sql, args, n, take_one, &one, NULL);
    return r == 0 && !one.found ? -ENOENT : r;
}

int wv_store_begin(struct wv_store *s)
{
    return wv_db_begin(s->db);
}

int wv_store_end(struct wv_store *s, int r)
{
    if (r == 0)
        return wv_db_commit(s->db);
    wv_db_rollback(s->db);
    return r;
}

int wv_store_text(const struct wv_db_value *v, char *ret, size_t capacity)
{
    if (v->type != WV_DB_TEXT || v->len >= capacity || memchr(v->data, 0, v->len))
        return -EBADMSG;
    memcpy(ret, v->data, v->len);
    ret[v->len] = 0;
    return 0;
}

int wv_store_bytes(const struct wv_db_value *v, uint8_t *ret, size_t len)
{
    memset(ret, 0, len);
    if (v->type == WV_DB_NULL)
        return 0;
    if (v->type != WV_DB_BYTES || v->len != len)
        return -EBADMSG;
    memcpy(ret, v->data, len);
    return 0;
}

int wv_store_number(const struct wv_db_value *v, int64_t *ret)
{
    if (v->type != WV_DB_INT)
        return -EBADMSG;
    *ret = v->integer;
    return 0;
}

int wv_store_flag(const struct wv_db_value *v, bool *ret)
{
    *ret = v->integer == 1;
    return v->type == WV_DB_INT && (v->integer == 0 || v->integer == 1) ? 0 : -EBADMSG;
}

void wv_store_new_id(char ret_id[WV_STORE_ID_BYTES])
{
    uint8_t random[(WV_STORE_ID_BYTES - 1) / 2];
    randombytes_buf(random, sizeof random);
    wv_hex_encode(random, sizeof random, ret_id);
}

void wv_store_fold(const char *name, char ret_folded[WV_STORE_NAME_BYTES])
{
    size_t i = 0;
    for (; name[i] && i < WV_STORE_NAME_BYTES - 1; i++)
        ret_folded[i] = name[i] >= 'A' && name[i] <= 'Z' ? (char)(name[i] - 'A' + 'a') : name[i];
    ret_folded[i] = 0;
}

bool wv_store_is_name(const char *name)
{
    char printable[WV_STORE_NAME_BYTES];
    size_t len = strnlen(name, WV_STORE_NAME_BYTES);
    if (len == 0 || len >= WV_STORE_NAME_BYTES || name[0] == ' ' || name[len - 1] == ' ')
        return false;
    wv_text_copy(printable, sizeof printable, name, len);
    return !strcmp(printable, name);
}

/* ---- settings, relays, audit ---- */

struct value {
    uint8_t *ret;
    size_t capacity, len;
};

static int take_value(void *userdata, const struct wv_db_value *row, size_t n)
{
    struct value *v = userdata;
    if (row[0].type != WV_DB_BYTES)
        return -EBADMSG;
    if (row[0].len > v->capacity)
        return -EMSGSIZE;
    memcpy(v->ret, row[0].data, row[0].len);
    v->len = row[0].len;
    return 0;
}

int wv_store_setting_make(struct wv_store *s, const char *name, const uint8_t *value, size_t len,
                          uint8_t *ret, size_t capacity, size_t *ret_len)
{
    struct value v = {.ret = ret, .capacity = capacity};
    int r =
        wv_db_run(s->db, "INSERT INTO settings (name, value) VALUES ($1, $2) ON CONFLICT (name) DO NOTHING",
                  WV_DB_ARGS(WV_DB_T(name), WV_DB_B(value, len)), 2, NULL, NULL, NULL);
    if (r == 0)
        r = wv_store_find(s, "SELECT value FROM settings WHERE name = $1", WV_DB_ARGS(WV_DB_T(name)), 1,
                          take_value, &v);
    *ret_len = v.len;
    return r;
}

int wv_store_put_relay(struct wv_store *s, const struct wv_relay_record *relay)
{
    if (!wv_store_is_name(relay->id) || !wv_store_is_name(relay->region))
        return -EINVAL;
    return wv_db_run(
        s->db,
        "INSERT INTO relays (id, key, address, region, created) VALUES ($1, $2, $3, $4, $5) ON CONFLICT (id) "
        "DO UPDATE SET key = excluded.key, address = excluded.address, region = excluded.region",
        WV_DB_ARGS(WV_DB_T(relay->id), WV_DB_B(relay->key, WV_STORE_KEY_BYTES), WV_DB_T(relay->address),
                   WV_DB_T(relay->region), WV_DB_I(relay->created)),
        5, NULL, NULL, NULL);
}

int wv_store_drain_relay(struct wv_store *s, const char *id, bool drain)
{
    return wv_store_change(s, "UPDATE relays SET drain = $1 WHERE id = $2",
                           WV_DB_ARGS(WV_DB_I(drain), WV_DB_T(id)), 2);
}

int wv_store_remove_relay(struct wv_store *s, const char *id)
{
    return wv_store_change(s, "DELETE FROM relays WHERE id = $1", WV_DB_ARGS(WV_DB_T(id)), 1);
}

struct relays {
    wv_store_relay_fn each;
    void *userdata;
};

static int take_relay(void *userdata, const struct wv_db_value *row, size_t n)
{
    struct relays *to = userdata;
    struct wv_relay_record relay;
    memset(&relay, 0, sizeof relay);
    if (n != 6 || wv_store_text(&row[0], relay.id, sizeof relay.id) < 0 ||
        wv_store_bytes(&row[1], relay.key, sizeof relay.key) < 0 ||
        wv_store_text(&row[2], relay.address, sizeof relay.address) < 0 ||
        wv_store_text(&row[3], relay.region, sizeof relay.region) < 0 ||
        wv_store_flag(&row[4], &relay.drain) < 0 || wv_store_number(&row[5], &relay.created) < 0)
        return -EBADMSG;
    return to->each(to->userdata, &relay);
}

int wv_store_relays(struct wv_store *s, wv_store_relay_fn each, void *userdata)
{
    struct relays to = {each, userdata};
    return wv_db_run(s->db, "SELECT id, key, address, region, drain, created FROM relays ORDER BY id", NULL,
                     0, take_relay, &to, NULL);
}

/* 16 digits of the time, which never stands still within this process, then random ones. Of several gateways
 * the order within a second is that of their clocks. */
static void new_line_id(char ret_id[WV_STORE_ID_BYTES])
{
    static _Atomic uint64_t last;
    struct timespec t;
    char random[WV_STORE_ID_BYTES];
    clock_gettime(CLOCK_REALTIME, &t);
    uint64_t now = (uint64_t)t.tv_sec * WV_NS_PER_S + (uint64_t)t.tv_nsec, before = atomic_load(&last), next;
    do
        next = WV_MAX(now, before + 1);
    while (!atomic_compare_exchange_weak(&last, &before, next));
    wv_store_new_id(random);
    snprintf(ret_id, WV_STORE_ID_BYTES, "%016llx%.16s", (unsigned long long)next, random);
}

int wv_store_audit(struct wv_store *s, const struct wv_audit *line)
{
    char id[WV_STORE_ID_BYTES];
    new_line_id(id);
    return wv_db_run(s->db,
                     "INSERT INTO audit (id, at, account, actor, action, subject, address) "
                     "VALUES ($1, $2, $3, $4, $5, $6, $7)",
                     WV_DB_ARGS(WV_DB_T(id), WV_DB_I(line->at), WV_DB_T(line->account), WV_DB_T(line->actor),
                                WV_DB_T(line->action), WV_DB_T(line->subject), WV_DB_T(line->address)),
                     7, NULL, NULL, NULL);
}

struct audits {
    wv_store_audit_fn each;
    void *userdata;
};

static int take_audit(void *userdata, const struct wv_db_value *row, size_t n)
{
    struct audits *to = userdata;
    struct wv_audit line;
    memset(&line, 0, sizeof line);
    if (n != 7 || wv_store_number(&row[0], &line.at) < 0 ||
        wv_store_text(&row[1], line.account, sizeof line.account) < 0 ||
        wv_store_text(&row[2], line.actor, sizeof line.actor) < 0 ||
        wv_store_text(&row[3], line.action, sizeof line.action) < 0 ||
        wv_store_text(&row[4], line.subject, sizeof line.subject) < 0 ||
        wv_store_text(&row[5], line.address, sizeof line.address) < 0 ||
        wv_store_text(&row[6], line.id, sizeof line.id) < 0)
        return -EBADMSG;
    return to->each(to->userdata, &line);
}

int wv_store_audit_lines(struct wv_store *s, const char *account, int64_t before, const char *before_id,
                         uint32_t limit, wv_store_audit_fn each, void *userdata)
{
    struct audits to = {each, userdata};
    struct wv_db_value until = WV_DB_I(before ? before : INT64_MAX), most = WV_DB_I(limit);
    struct wv_db_value line = WV_DB_T(before_id ? before_id : "");
    if (!account)
        return wv_db_run(s->db,
                         "SELECT at, account, actor, action, subject, address, id FROM audit "
                         "WHERE at <= $1 AND (at < $1 OR id < $3) ORDER BY at DESC, id DESC LIMIT $2",
                         WV_DB_ARGS(until, most, line), 3, take_audit, &to, NULL);
    return wv_db_run(
        s->db,
        "SELECT at, account, actor, action, subject, address, id FROM audit "
        "WHERE at <= $1 AND (at < $1 OR id < $3) AND account = $4 ORDER BY at DESC, id DESC LIMIT $2",
        WV_DB_ARGS(until, most, line, WV_DB_T(account)), 4, take_audit, &to, NULL);
}
