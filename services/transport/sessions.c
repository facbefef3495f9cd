/* The table of sessions: who is in, who says goodbye, and what the administrator sees of them. Must never
 * serve a session whose key isn't authorized: such a one exists only to be told so, or, while identity pairs,
 * to carry sealed messages to it. */
#include "lib/base/log.h"
#include "lib/base/util.h"
#include "services/transport/internal.h"

#include <stdio.h>
#include <string.h>
#include <sys/random.h>

#define GOODBYE_NS    (500 * WV_NS_PER_MS)
#define RESTRICTED_NS (60 * WV_NS_PER_S)

struct session *session_find(struct wv_transport *t, uint32_t id)
{
    for (size_t i = 0; i < t->top; i++)
        if (t->slots[i].rift && t->slots[i].id == id)
            return &t->slots[i];
    return NULL;
}

struct session *session_by_number(struct wv_transport *t, uint32_t number)
{
    for (size_t i = 0; number && i < t->top; i++)
        if (session_is_open(&t->slots[i]) && t->slots[i].number == number)
            return &t->slots[i];
    return NULL;
}

uint32_t session_new_id(struct wv_transport *t)
{
    uint32_t id = 0;
    /* Many at a time: a flood of first datagrams must not cost a system call each. The call never blocks so
     * long after boot; should it fail, 0 is refused by every table. A chance equal costs the client one
     * repetition. */
    if (t->ids_left == 0 && getrandom(t->ids, sizeof t->ids, GRND_NONBLOCK) == sizeof t->ids)
        t->ids_left = WV_ARRAY_SIZE(t->ids);
    if (t->ids_left > 0)
        id = t->ids[--t->ids_left];
    return id;
}

/* A free slot, else that of the one that has been saying goodbye for longest. With at most half of the slots
 * live there always is one. */
static struct session *take_slot(struct wv_transport *t, uint64_t now)
{
    struct session *oldest = NULL;
    for (size_t i = 0; i < SLOTS; i++) {
        struct session *s = &t->slots[i];
        if (!s->rift)
            return s;
        if (s->closing && (!oldest || s->goodbye_until < oldest->goodbye_until))
            oldest = s;
    }
    if (oldest)
        session_end(t, oldest, now);
    return oldest;
}

void session_configure(const struct wv_transport *t, struct rift_session_config *config)
{
    config->pacing_bps = t->setup.pacing_bps;
    config->pacing_burst_bytes = t->setup.burst_bytes;
    config->ecn = RIFT_ECN_ECT1;
    config->congestion = t->setup.congestion;
    config->mode = t->setup.mode;
    config->min_bps = t->setup.min_bps;
    config->max_bps = WV_MAX(t->setup.pacing_bps, (uint64_t)t->setup.bitrate_bps);
    config->start_bps = t->setup.start_bps;
    config->fps = t->setup.max_fps;
    config->fec = t->setup.fec && t->setup.congestion; /* reports tell of the losses */
}

void session_enter(struct wv_transport *t)
{
    t->n_live++;
}

static struct session *fill_slot(struct wv_transport *t, const struct session_start *start, uint64_t now)
{
    struct rift_session_config config = *start->config;
    session_configure(t, &config);
    memcpy(config.address, start->address->bytes, sizeof config.address);
    struct session *s = session_find(t, config.local_id) || !config.local_id ? NULL : take_slot(t, now);
    struct rift_session *rift = NULL;
    bool made = s && rift_session_new(&rift, &config, now) == 0;
    explicit_bzero(&config, sizeof config);
    if (!made)
        return NULL;
    *s = (struct session){.rift = rift,
                          .id = start->config->local_id,
                          .number = start->number,
                          .hello = *start->hello,
                          .address = *start->address,
                          .since_ns = now,
                          .needs_keyframe = true,
                          .hello_due = true};
    t->top = WV_MAX(t->top, (size_t)(s - t->slots) + 1);
    memcpy(s->peer_key, start->peer_key, sizeof s->peer_key);
    snprintf(s->name, sizeof s->name, "%s", start->name);
    return s;
}

static void say_goodbye(struct session *s, enum rift_close_reason reason, const char *text, uint64_t now)
{
    s->closing = true;
    s->goodbye_until = now + GOODBYE_NS;
    rift_session_close(s->rift, reason, text, now);
}

static void turn_away(struct wv_transport *t, struct session *s, const char *address, uint64_t now)
{
    wv_metric_add(t->metrics, WV_T_HANDSHAKES_UNKNOWN_KEY, 1);
    say_goodbye(s, RIFT_CLOSE_UNAUTHORIZED, "the host does not know this key; there, run: wavryctl pair",
                now);
    wv_notice("turned away a client with an unknown key", "address=%s device=\"%s\"", address,
              s->hello.device);
}

static void turn_away_busy(struct session *s, const char *text, const char *address, uint64_t now)
{
    say_goodbye(s, RIFT_CLOSE_BUSY, text, now);
    wv_notice("turned away a client", "why=\"%s\" session=%u address=%s name=\"%s\"", text, s->number,
              address, s->name);
}

static size_t count_restricted(const struct wv_transport *t)
{
    size_t n = 0;
    for (size_t i = 0; i < t->top; i++)
        n += session_is_open(&t->slots[i]) && t->slots[i].restricted;
    return n;
}

/* A client that the host doesn't know, while a pairing code is shown. */
static void begin_pairing(struct wv_transport *t, struct session *s, const char *address, uint64_t now)
{
    if (count_restricted(t) >= RESTRICTED_MAX) {
        turn_away_busy(s, "others are pairing", address, now);
        return;
    }
    s->restricted = true;
    s->restricted_until = now + RESTRICTED_NS;
    identity_sessions_changed(t);
    wv_notice("a client begins to pair", "session=%u address=%s device=\"%s\"", s->number, address,
              s->hello.device);
}

static void serve(struct wv_transport *t, struct session *s, const char *address, uint64_t now)
{
    session_enter(t);
    keep_begin(t, s);
    identity_sessions_changed(t);
    wv_metric_add(t->metrics, WV_T_SESSIONS_STARTED, 1);
    wv_notice("session started",
              "session=%u name=\"%s\" address=%s device=\"%s\" software=\"%s\" view_only=%s", s->number,
              s->name, address, s->hello.device, s->hello.software, s->hello.view_only ? "yes" : "no");
    input_find_controller(t, now);
    media_viewers_changed(t, now);
    control_want_shape(t, now);
    t->next_tick = now;
}

void session_begin(struct wv_transport *t, const struct session_start *start, uint64_t now)
{
    char address[WV_ADDRESS_TEXT_BYTES];
    wv_address_format(start->address, address);
    if (start->authorized) /* one client, one session: the new one is what it wants */
        session_close_key(t, start->peer_key, RIFT_CLOSE_REPLACED, "connected anew", now);
    struct session *s = fill_slot(t, start, now);
    if (!s)
        wv_warning("a session could not be made", "address=%s", address);
    else if (start->pairing)
        begin_pairing(t, s, address, now);
    else if (!start->authorized)
        turn_away(t, s, address, now);
    else if (t->n_live >= t->setup.max_sessions)
        turn_away_busy(s, "all places are taken", address, now);
    else
        serve(t, s, address, now);
}

/* S no longer counts as one that is open. */
static void leave(struct wv_transport *t, struct session *s, uint64_t now)
{
    s->closing = true;
    identity_sessions_changed(t);
    inner_forget(t, s);
    if (s->restricted)
        return;
    t->n_live--;
    keep_end(t, s);
    if (t->controller == s)
        input_find_controller(t, now);
    media_viewers_changed(t, now);
    t->next_tick = now;
}

void session_close(struct wv_transport *t, struct session *s, enum rift_close_reason reason, const char *text,
                   uint64_t now)
{
    if (!session_is_open(s))
        return;
    wv_notice("session closed", "session=%u name=\"%s\" why=\"%s\"", s->number, s->name, text);
    say_goodbye(s, reason, text, now);
    leave(t, s, now);
}

void session_close_key(struct wv_transport *t, const uint8_t key[KEY_BYTES], enum rift_close_reason reason,
                       const char *text, uint64_t now)
{
    for (size_t i = 0; i < t->top; i++)
        if (session_is_open(&t->slots[i]) && memcmp(t->slots[i].peer_key, key, KEY_BYTES) == 0)
            session_close(t, &t->slots[i], reason, text, now);
}

void session_end(struct wv_transport *t, struct session *s, uint64_t now)
{
    session_count(t, s);
    if (!s->closing)
        leave(t, s, now);
    rift_session_free(s->rift);
    memset(s, 0, sizeof *s);
    while (t->top && !t->slots[t->top - 1].rift)
        t->top--;
}

void sessions_reap(struct wv_transport *t, uint64_t now)
{
    for (size_t i = 0; i < t->top; i++) {
        struct session *s = &t->slots[i];
        if (session_is_open(s) && s->restricted && now >= s->restricted_until)
            session_close(t, s, RIFT_CLOSE_UNAUTHORIZED, "pairing took too long", now);
        if (s->rift && s->closing && (now >= s->goodbye_until || rift_session_timeout(s->rift) == NEVER))
            session_end(t, s, now);
    }
}

/* For a person: the client's address, or the relay that it comes through. */
static void session_address(const struct wv_transport *t, const struct session *s,
                            char ret[WV_ADDRESS_TEXT_BYTES])
{
    struct way *w = NULL;
    struct wv_address address = s->address;
    if (rift_punch_is_relayed(s->address.bytes))
        w = paths_of((struct wv_transport *)(uintptr_t)t, s);
    const struct rift_relay_place *p = w ? rift_relay_pair_find(&w->relays, s->address.bytes) : NULL;
    char text[WV_ADDRESS_TEXT_BYTES];
    if (p)
        memcpy(address.bytes, p->address, sizeof address.bytes);
    wv_address_format(&address, text);
    if (!p || (size_t)snprintf(ret, WV_ADDRESS_TEXT_BYTES, "relay %s", text) >= WV_ADDRESS_TEXT_BYTES)
        memcpy(ret, text, WV_ADDRESS_TEXT_BYTES);
}

/* The session follows its client by itself: it challenges an address before it trusts it. */
static void note_move(struct wv_transport *t, struct session *s)
{
    char text[WV_ADDRESS_TEXT_BYTES];
    rift_session_get_address(s->rift, s->address.bytes);
    session_address(t, s, text);
    paths_session_moved(t, s);
    wv_metric_add(t->metrics, WV_T_SESSIONS_MOVED, 1);
    wv_notice("a session moved", "session=%u name=\"%s\" address=%s", s->number, s->name, text);
}

void session_count(struct wv_transport *t, struct session *s)
{
    struct rift_session_stats stats;
    rift_session_get_stats(s->rift, &stats);
    wv_metric_add(t->metrics, WV_T_DROPPED_REPLAY, stats.dropped_replay - s->seen.dropped_replay);
    wv_metric_add(t->metrics, WV_T_DROPPED_AUTH, stats.dropped_auth - s->seen.dropped_auth);
    wv_metric_add(t->metrics, WV_T_DROPPED_MALFORMED, stats.dropped_malformed - s->seen.dropped_malformed);
    wv_metric_add(t->metrics, WV_T_RETRANSMITTED,
                  stats.fragments_retransmitted - s->seen.fragments_retransmitted);
    wv_metric_add(t->metrics, WV_T_REPAIRS, stats.repairs_sent - s->seen.repairs_sent);
    wv_metric_add(t->metrics, WV_T_PATH_ATTEMPTS, stats.path_attempts - s->seen.path_attempts);
    if (stats.path_changes != s->seen.path_changes)
        note_move(t, s);
    s->seen = stats;
}

static void fill_record(const struct wv_transport *t, const struct session *s, struct wv_session_record *ret)
{
    *ret = (struct wv_session_record){
        .id = s->number,
        .controls = t->controller == s,
        .since_ns = s->since_ns,
        .rtt_ns = s->seen.rtt_ns,
        .bytes_sent = s->seen.bytes_sent,
        .bytes_received = s->seen.bytes_received,
        .frames_sent = s->seen.frames_sent,
        .frames_lost = s->frames_lost,
        .packets_lost = s->seen.packets_lost,
        .input_events = s->input_events,
        .glass_p50_us = s->report.glass_p50_us,
        .glass_p99_us = s->report.glass_p99_us,
    };
    memcpy(ret->peer_key, s->peer_key, sizeof ret->peer_key);
    snprintf(ret->name, sizeof ret->name, "%s", s->name);
    session_address(t, s, ret->address);
}

static void set_status(struct wv_transport *t)
{
    char text[sizeof t->status];
    if (t->draining)
        return; /* the skeleton says so already */
    if (t->n_live == 0)
        snprintf(text, sizeof text, "waiting for clients");
    else
        snprintf(text, sizeof text, "%zu %s, %ux%u, controlled by %s", t->n_live,
                 t->n_live == 1 ? "client" : "clients", t->media.width, t->media.height,
                 t->controller ? t->controller->name : "nobody");
    if (!strcmp(text, t->status))
        return;
    memcpy(t->status, text, sizeof text);
    if (t->setup.status)
        t->setup.status(t->setup.userdata, text);
}

void sessions_publish(struct wv_transport *t)
{
    static const struct wv_session_record none;
    size_t used = 0, relayed = 0;
    uint64_t rtt_ns = 0;
    for (size_t i = 0; i < t->top; i++) {
        struct session *s = &t->slots[i];
        if (!session_is_live(s) || used == WV_SESSIONS_MAX)
            continue;
        relayed += rift_punch_is_relayed(s->address.bytes);
        rtt_ns = WV_MAX(rtt_ns, s->seen.rtt_ns);
        struct wv_session_record record;
        fill_record(t, s, &record);
        if (t->page)
            wv_session_page_set(t->page, (unsigned)used, &record);
        used++;
    }
    for (size_t i = used; t->page && i < t->page_used; i++)
        wv_session_page_set(t->page, (unsigned)i, &none);
    t->page_used = used;
    wv_metric_set(t->metrics, WV_T_SESSIONS, t->n_live);
    wv_metric_set(t->metrics, WV_T_SESSIONS_RELAYED, relayed);
    wv_metric_set(t->metrics, WV_T_PATH_RTT, rtt_ns / WV_NS_PER_US);
    set_status(t);
}
