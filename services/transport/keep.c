/* Sessions that outlive this process: their states into the vault, and those of the process before out of it.
 * Must never use what does not check out, nor an older state for a newer one: that would use counters twice.
 */
#include "services/transport/session_keep.h"

#include "lib/base/log.h"
#include "lib/base/util.h"
#include "services/transport/internal.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define COUNTER_BLOCK 65536u

_Static_assert(RIFT_STATE_MAX_BYTES + WV_RELAY_STATE_MAX_BYTES + sizeof(struct wv_session_keep) +
                       WAY_KEEP_BYTES + 64 <=
                   WV_SESSION_VAULT_COPY_BYTES,
               "the longest state fits a copy");

int keep_open(struct wv_transport *t, uint64_t now)
{
    bool wiped = false;
    if (t->setup.session_vault_fd < 0)
        return 0;
    int r = wv_session_vault_open(&t->vault, t->setup.session_vault_fd, now, &wiped);
    if (r < 0)
        return r;
    t->keep_at = now;
    if (wiped) {
        wv_metric_add(t->metrics, WV_T_VAULT_BAD, 1);
        wv_warning("the vault of sessions was wiped; clients must connect anew",
                   "why=\"another version, damaged, or the processes that used it did not live\"");
        t->keep_unsure = true;
    }
    return 0;
}

/* ---- writing ---- */

void keep_begin(struct wv_transport *t, struct session *s)
{
    unsigned slot = 0, n = t->vault ? wv_session_vault_slots(t->vault) : 0;
    while (slot < n && t->kept[slot])
        slot++;
    if (slot == n || rift_session_reserve(s->rift, COUNTER_BLOCK) < 0)
        return;
    t->kept[slot] = true;
    s->keep = slot + 1;
    s->keep_dirty = true;
}

void keep_end(struct wv_transport *t, struct session *s)
{
    if (!s->keep)
        return;
    wv_session_vault_erase(t->vault, s->keep - 1);
    t->kept[s->keep - 1] = false;
    s->keep = 0;
}

static void write_now(struct wv_transport *t, struct session *s, uint64_t now)
{
    struct wv_session_keep k = {.id = s->id,
                                .number = s->number,
                                .hello = s->hello,
                                .since_ns = s->since_ns,
                                .input_events = s->input_events,
                                .frames_lost = s->frames_lost,
                                .way = paths_of(t, s),
                                .controls = t->controller == s};
    struct wv_writer w;
    size_t capacity, len;
    uint8_t *room = wv_session_vault_room(t->vault, &capacity);
    memcpy(k.peer_key, s->peer_key, sizeof k.peer_key);
    memcpy(k.name, s->name, sizeof k.name);
    wv_writer_init(&w, room, capacity);
    wv_session_keep_write(&w, &k, t->relay);
    if (rift_session_export(s->rift, room + w.length, capacity - w.length, now, &len) != 0)
        return; /* closed a moment ago: its end comes with its last event */
    wv_session_vault_write(t->vault, s->keep - 1, w.length + len);
    s->keep_dirty = false;
    wv_metric_add(t->metrics, WV_T_VAULT_WRITES, 1);
}

bool keep_write(struct wv_transport *t, struct session *s, uint64_t now)
{
    if (!s->keep || s->closing || !(s->keep_dirty || rift_session_wants_export(s->rift)))
        return false;
    write_now(t, s, now);
    return true;
}

void keep_write_all(struct wv_transport *t, uint64_t now)
{
    for (size_t i = 0; i < t->top; i++)
        if (t->slots[i].keep && session_is_live(&t->slots[i]))
            write_now(t, &t->slots[i], now);
}

/* ---- the sessions of the process before ---- */

/* Returns 0 or -EBADMSG, -EBUSY, -ENOMEM. */
static int read_session(struct wv_transport *t, const uint8_t *data, size_t len, uint64_t now,
                        struct wv_session_keep *ret_keep, struct way *ret_way, struct rift_session **ret_rift)
{
    struct rift_session_config config = {.role = RIFT_ROLE_HOST};
    struct wv_reader r;
    bool had_controller = wv_relay_controller(t->relay) != 0;
    session_configure(t, &config);
    wv_reader_init(&r, data, len);
    int result = wv_session_keep_read(&r, ret_keep, t->relay, ret_way, now);
    if (result == 0 && (session_find(t, ret_keep->id) || session_by_number(t, ret_keep->number) ||
                        (ret_keep->controls && wv_relay_controller(t->relay) != ret_keep->number)))
        result = -EBADMSG;
    if (result == 0 && t->n_live >= t->setup.max_sessions)
        result = -EBUSY; /* fewer places than before */
    if (result == 0)
        result = rift_session_import(ret_rift, &config, r.data, r.left, now);
    if (result < 0 && !had_controller)
        wv_relay_forget(t->relay);
    if (result < 0)
        way_free(ret_way);
    return result;
}

static void resume(struct wv_transport *t, unsigned slot, const struct wv_session_keep *k,
                   struct rift_session *rift)
{
    struct session *s = &t->slots[t->top++]; /* in order, and the table is empty but for these */
    *s = (struct session){.rift = rift,
                          .id = k->id,
                          .number = k->number,
                          .hello = k->hello,
                          .since_ns = k->since_ns,
                          .input_events = k->input_events,
                          .frames_lost = k->frames_lost,
                          .keep = slot + 1,
                          .keep_dirty = true,
                          .needs_keyframe = true,
                          .hello_due = true};
    memcpy(s->peer_key, k->peer_key, sizeof s->peer_key);
    memcpy(s->name, k->name, sizeof s->name);
    rift_session_get_address(rift, s->address.bytes);
    t->kept[slot] = true;
    if (k->controls) { /* until identity says otherwise */
        t->controller = s;
        t->controller_number = k->number;
    }
    session_enter(t);
    identity_sessions_changed(t);
    wv_metric_add(t->metrics, WV_T_SESSIONS_RESTORED, 1);
    char address[WV_ADDRESS_TEXT_BYTES];
    wv_address_format(&s->address, address);
    wv_notice("session goes on after a restart", "session=%u name=\"%s\" address=%s controls=%s", s->number,
              s->name, address, k->controls ? "yes" : "no");
}

static void restore_slot(struct wv_transport *t, unsigned slot, uint64_t now)
{
    struct wv_session_keep k;
    struct way way = {0};
    struct rift_session *rift = NULL;
    const uint8_t *data;
    size_t len;
    int r = wv_session_vault_read(t->vault, slot, &data, &len);
    if (r == 0)
        r = read_session(t, data, len, now, &k, &way, &rift);
    if (r == 0) {
        if (way.used && !paths_adopt(t, &way, k.peer_key))
            way_free(&way);
        explicit_bzero(&way, sizeof way);
        resume(t, slot, &k, rift);
        return;
    }
    wv_session_vault_erase(t->vault, slot);
    if (r == WV_SESSION_VAULT_EMPTY)
        return;
    t->keep_unsure = true;
    wv_metric_add(t->metrics, WV_T_VAULT_BAD, 1);
    wv_warning("a kept session can't go on; its client must connect anew", "slot=%u why=\"%s\"", slot,
               r == -EBUSY    ? "no place"
               : r == -ENOMEM ? "no memory"
                              : "does not check out");
}

void keep_restore(struct wv_transport *t, uint64_t now)
{
    for (unsigned slot = 0; t->vault && slot < wv_session_vault_slots(t->vault); slot++)
        restore_slot(t, slot, now);
    /* Whoever controlled may hold keys down that nobody would let go. */
    if (!t->controller && (t->keep_unsure || t->n_live))
        wv_relay_release_unknown(t->relay, now);
}
