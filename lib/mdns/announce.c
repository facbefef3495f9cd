/* The announcement; see announce.h. */
#include "lib/mdns/announce.h"

#include <avahi-client/publish.h>
#include <avahi-common/alternative.h>
#include <avahi-common/error.h>
#include <avahi-common/malloc.h>
#include <avahi-common/thread-watch.h>
#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>

#define SERVICE  "_wavry._udp"
#define AGAIN_MS 5000

struct wv_announce {
    AvahiThreadedPoll *poll;
    AvahiClient *client;
    AvahiEntryGroup *group;
    AvahiTimeout *again;
    char name[64], key[64];
    uint16_t port;
    enum wv_announce_state state;
};

static void publish(struct wv_announce *a);
static void connect_daemon(struct wv_announce *a);

static void on_group(AvahiEntryGroup *group, AvahiEntryGroupState state, void *userdata)
{
    struct wv_announce *a = userdata;
    if (state == AVAHI_ENTRY_GROUP_ESTABLISHED) {
        a->state = WV_ANNOUNCE_OK;
    } else if (state == AVAHI_ENTRY_GROUP_COLLISION) {
        char *other = avahi_alternative_service_name(a->name);
        snprintf(a->name, sizeof a->name, "%s", other);
        avahi_free(other);
        a->group = group;
        publish(a);
    } else if (state == AVAHI_ENTRY_GROUP_FAILURE) {
        a->state = WV_ANNOUNCE_FAILED;
    }
}

/* On Avahi's thread, or with its lock. */
static void publish(struct wv_announce *a)
{
    char key[80];
    if (!a->client || avahi_client_get_state(a->client) != AVAHI_CLIENT_S_RUNNING)
        return;
    if (a->group)
        avahi_entry_group_reset(a->group);
    a->state = WV_ANNOUNCE_WAITING;
    if (!a->port)
        return;
    if (!a->group)
        a->group = avahi_entry_group_new(a->client, on_group, a);
    snprintf(key, sizeof key, "key=%s", a->key);
    for (int tries = 0; a->group && tries < 16; tries++) {
        int r = avahi_entry_group_add_service(a->group, AVAHI_IF_UNSPEC, AVAHI_PROTO_UNSPEC, 0, a->name,
                                              SERVICE, NULL, NULL, a->port, key, NULL);
        if (r == 0)
            r = avahi_entry_group_commit(a->group);
        if (r == 0)
            return;
        if (r != AVAHI_ERR_COLLISION)
            break;
        char *other = avahi_alternative_service_name(a->name);
        snprintf(a->name, sizeof a->name, "%s", other);
        avahi_free(other);
    }
    a->state = WV_ANNOUNCE_FAILED;
}

static void on_again(AvahiTimeout *t, void *userdata)
{
    connect_daemon(userdata);
}

static void try_again(struct wv_announce *a)
{
    struct timeval at;
    const AvahiPoll *poll = avahi_threaded_poll_get(a->poll);
    gettimeofday(&at, NULL);
    at.tv_sec += AGAIN_MS / 1000;
    if (a->again)
        poll->timeout_update(a->again, &at);
    else
        a->again = poll->timeout_new(poll, &at, on_again, a);
}

static void on_client(AvahiClient *client, AvahiClientState state, void *userdata)
{
    struct wv_announce *a = userdata;
    a->client = client;
    if (state == AVAHI_CLIENT_S_RUNNING) {
        publish(a);
    } else if (state == AVAHI_CLIENT_CONNECTING) {
        a->state = WV_ANNOUNCE_NO_DAEMON;
    } else if (state == AVAHI_CLIENT_S_COLLISION || state == AVAHI_CLIENT_S_REGISTERING) {
        if (a->group)
            avahi_entry_group_reset(a->group);
        a->state = WV_ANNOUNCE_WAITING;
    } else if (state == AVAHI_CLIENT_FAILURE) { /* the daemon or its bus has gone */
        a->state = WV_ANNOUNCE_NO_DAEMON;
        try_again(a);
    }
}

static void connect_daemon(struct wv_announce *a)
{
    if (a->client)
        avahi_client_free(a->client); /* its group goes with it */
    a->client = NULL;
    a->group = NULL;
    a->state = WV_ANNOUNCE_NO_DAEMON;
    AvahiClient *client =
        avahi_client_new(avahi_threaded_poll_get(a->poll), AVAHI_CLIENT_NO_FAIL, on_client, a, NULL);
    a->client = client;
    if (!client)
        try_again(a); /* no message bus */
}

int wv_announce_new(struct wv_announce **ret)
{
    struct wv_announce *a = calloc(1, sizeof *a);
    sigset_t all, before;
    if (!a)
        return -ENOMEM;
    a->poll = avahi_threaded_poll_new();
    if (!a->poll) {
        free(a);
        return -ENOMEM;
    }
    connect_daemon(a);
    sigfillset(&all); /* signals are the owner's */
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int r = avahi_threaded_poll_start(a->poll);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (r < 0) {
        wv_announce_free(a);
        return -EIO;
    }
    *ret = a;
    return 0;
}

struct wv_announce *wv_announce_free(struct wv_announce *a)
{
    if (!a)
        return NULL;
    avahi_threaded_poll_stop(a->poll);
    if (a->client)
        avahi_client_free(a->client);
    avahi_threaded_poll_free(a->poll);
    free(a);
    return NULL;
}

void wv_announce_set(struct wv_announce *a, const char *name, const char *key, uint16_t port)
{
    avahi_threaded_poll_lock(a->poll);
    snprintf(a->name, sizeof a->name, "%s", name);
    snprintf(a->key, sizeof a->key, "%s", key);
    a->port = port;
    publish(a);
    avahi_threaded_poll_unlock(a->poll);
}

enum wv_announce_state wv_announce_state(struct wv_announce *a)
{
    avahi_threaded_poll_lock(a->poll);
    enum wv_announce_state state = a->state;
    avahi_threaded_poll_unlock(a->poll);
    return state;
}
