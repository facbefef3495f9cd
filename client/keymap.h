/* Physical keys and mouse buttons: what SDL calls them and what travels on the wire. Knows no layouts: the
 * host turns a key into a letter. */
#pragma once

#include <stdint.h>

/* The evdev code (KEY_*) of an SDL_Scancode, 0 for one that has none. */
uint16_t wv_keymap_key(int scancode);

/* The evdev code (BTN_*) of an SDL mouse button, 0 for one that has none. */
uint16_t wv_keymap_button(int button);
