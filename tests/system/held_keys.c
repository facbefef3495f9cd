/* wavry-held-keys: prints the key codes that the X server of DISPLAY holds to be down, one a line. */
#include <stdio.h>
#include <stdlib.h>
#include <xcb/xcb.h>

int main(void)
{
    xcb_connection_t *x = xcb_connect(NULL, NULL);
    xcb_query_keymap_reply_t *map = xcb_query_keymap_reply(x, xcb_query_keymap(x), NULL);
    if (!map)
        return 1;
    for (unsigned code = 0; code < 256; code++)
        if (map->keys[code / 8] & 1u << code % 8)
            printf("%u\n", code);
    free(map);
    xcb_disconnect(x);
    return 0;
}
