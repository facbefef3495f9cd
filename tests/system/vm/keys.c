/* wavry-keys HOST KEY IDENTITY: a client that sends what it is told to and shows nothing. A line is a
 * command: down CODE, up CODE, button CODE 0|1, move X Y, rel X Y, scroll X Y, quit; codes are those of
 * linux/input-event-codes.h. It says "connected" once it may, and "refused: ..." when not. Numbers are
 * checked by the host: that is what it is for. */
#include "client/wavry_client.h"
#include "lib/base/util.h"
#include "rift/crypto/identity.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sysexits.h>

struct keys {
    struct wv_loop *loop;
    struct wv_client *client;
    char line[256];
    size_t len;
};

static void on_state(void *userdata, enum wv_client_state state, enum wv_client_reason reason,
                     const char *text)
{
    struct keys *k = userdata;
    if (state == WV_CLIENT_CONNECTED)
        puts("connected");
    else
        printf("%s: %s\n", state == WV_CLIENT_REFUSED ? "refused" : "waiting", text);
    if (state == WV_CLIENT_REFUSED)
        wv_loop_quit(k->loop, EX_NOPERM);
}

static void obey(struct keys *k, const char *line)
{
    struct rift_input_event e = {0};
    int a = 0, b = 0;
    char verb[16] = "";
    int n = sscanf(line, "%15s %d %d", verb, &a, &b);
    if (!strcmp(verb, "quit")) {
        wv_loop_quit(k->loop, EX_OK);
        return;
    }
    if (!strcmp(verb, "down") || !strcmp(verb, "up"))
        e = (struct rift_input_event){.kind = RIFT_INPUT_KEY, .code = (uint16_t)a, .down = verb[0] == 'd'};
    else if (!strcmp(verb, "button"))
        e = (struct rift_input_event){.kind = RIFT_INPUT_BUTTON, .code = (uint16_t)a, .down = b != 0};
    else if (!strcmp(verb, "move"))
        e = (struct rift_input_event){.kind = RIFT_INPUT_POINTER_ABS, .x = a, .y = b};
    else if (!strcmp(verb, "rel"))
        e = (struct rift_input_event){.kind = RIFT_INPUT_POINTER_REL, .x = a, .y = b};
    else if (!strcmp(verb, "scroll"))
        e = (struct rift_input_event){.kind = RIFT_INPUT_SCROLL, .x = a, .y = b};
    int r = e.kind && n >= 2 ? wv_client_send_input(k->client, &e, NULL) : -EINVAL;
    if (r == 0)
        wv_client_flush(k->client);
    else
        printf("not sent: %s\n", line);
}

static int on_input(void *userdata, uint32_t events, uint64_t now)
{
    struct keys *k = userdata;
    ssize_t n = read(STDIN_FILENO, k->line + k->len, sizeof k->line - 1 - k->len);
    if (n <= 0) {
        wv_loop_quit(k->loop, EX_OK);
        return 0;
    }
    k->len += (size_t)n;
    k->line[k->len] = 0;
    for (char *end; (end = strchr(k->line, '\n'));) {
        *end = 0;
        obey(k, k->line);
        k->len -= (size_t)(end + 1 - k->line);
        memmove(k->line, end + 1, k->len + 1);
    }
    return k->len == sizeof k->line - 1 ? -EMSGSIZE : 0;
}

static int read_identity(const char *path, struct rift_identity *ret)
{
    wv_cleanup(wv_free_p) uint8_t *text = NULL;
    size_t len;
    int r = wv_read_file(path, 4096, &text, &len);
    return r < 0 ? r : rift_identity_parse((const char *)text, len, ret);
}

int main(int argc, char **argv)
{
    const struct wv_client_callbacks callbacks = {.state = on_state};
    struct wv_client_options options = {.host = argc > 1 ? argv[1] : NULL, .no_decode = true};
    struct rift_identity identity;
    struct keys k = {0};
    uint8_t host_key[32];
    if (argc != 4 || rift_crypto_init() < 0 || rift_public_key_parse(argv[2], host_key) < 0) {
        fprintf(stderr, "usage: wavry-keys HOST KEY IDENTITY\n");
        return EX_USAGE;
    }
    setvbuf(stdout, NULL, _IOLBF, 0);
    options.identity = &identity;
    options.host_key = host_key;
    int r = read_identity(argv[3], &identity);
    if (r == 0)
        r = wv_loop_new(&k.loop);
    if (r == 0)
        r = wv_client_new(&k.client, k.loop, &options, &callbacks, &k);
    if (r == 0)
        r = wv_loop_add_fd(k.loop, STDIN_FILENO, EPOLLIN, on_input, &k, NULL);
    if (r == 0)
        r = wv_loop_run(k.loop);
    else
        fprintf(stderr, "wavry-keys: %s\n", strerror(-r));
    wv_client_free(k.client);
    wv_loop_free(k.loop);
    rift_identity_wipe(&identity);
    return r < 0 ? EX_OSERR : r;
}
