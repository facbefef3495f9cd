#include "lib/stage/message.h"

#include "lib/base/util.h"

#include <errno.h>

int wv_message_send(int fd, const ProtobufCMessage *message, const int *fds, size_t n_fds)
{
    size_t len = protobuf_c_message_get_packed_size(message);
    if (len > WV_FDPASS_MAX_BYTES)
        return -EMSGSIZE;
    wv_cleanup(wv_free_p) uint8_t *data = malloc(len + 1);
    if (!data)
        return -ENOMEM;
    protobuf_c_message_pack(message, data);
    return wv_fdpass_send(fd, data, len, fds, n_fds);
}

int wv_message_unpack(const ProtobufCMessageDescriptor *type, const void *data, size_t len,
                      ProtobufCMessage **ret)
{
    if (len > WV_FDPASS_MAX_BYTES)
        return -EMSGSIZE;
    ProtobufCMessage *m = protobuf_c_message_unpack(type, NULL, len, data);
    if (!m)
        return -EBADMSG;
    *ret = m;
    return 0;
}

int wv_message_receive(int fd, const ProtobufCMessageDescriptor *type, ProtobufCMessage **ret,
                       int ret_fds[WV_FDPASS_MAX_FDS], size_t *ret_n_fds)
{
    wv_cleanup(wv_free_p) uint8_t *data = malloc(WV_FDPASS_MAX_BYTES);
    if (!data)
        return -ENOMEM;
    int fds[WV_FDPASS_MAX_FDS];
    size_t len = 0, n_fds = 0;
    int r = wv_fdpass_receive(fd, data, WV_FDPASS_MAX_BYTES, &len, fds, &n_fds);
    if (r == -ECONNRESET) /* closed before it had read everything */
        return WV_MESSAGE_CLOSED;
    if (r != 0)
        return r;
    r = len == 0 ? WV_MESSAGE_CLOSED : wv_message_unpack(type, data, len, ret);
    for (size_t i = 0; i < n_fds; i++) {
        if (r == 0)
            ret_fds[i] = fds[i];
        else
            wv_close(fds[i]);
    }
    if (r == 0)
        *ret_n_fds = n_fds;
    return r;
}
