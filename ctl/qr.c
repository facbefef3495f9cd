/* A QR code for a terminal: two rows of modules in a line, with the light border that readers need. */
#include "ctl/ctl.h"

#include <errno.h>
#include <qrencode.h>

#define BORDER 2

static bool is_dark(const QRcode *code, int x, int y)
{
    if (x < 0 || y < 0 || x >= code->width || y >= code->width)
        return false;
    return code->data[y * code->width + x] & 1;
}

/* What is printed is light: on a dark terminal it is so without colours. */
static void print_line(FILE *out, const QRcode *code, int y)
{
    static const char *const blocks[2][2] = {{"\u2588", "\u2580"}, {"\u2584", " "}};
    for (int x = -BORDER; x < code->width + BORDER; x++)
        fputs(blocks[is_dark(code, x, y)][is_dark(code, x, y + 1)], out);
}

int wv_ctl_qr(FILE *out, const char *text, bool coloured)
{
    QRcode *code = QRcode_encodeString8bit(text, 0, QR_ECLEVEL_L);
    if (!code)
        return -errno;
    for (int y = -BORDER; y < code->width + BORDER; y += 2) {
        fputs(coloured ? "\033[40;97m" : "", out);
        print_line(out, code, y);
        fputs(coloured ? "\033[0m\n" : "\n", out);
    }
    QRcode_free(code);
    return 0;
}
