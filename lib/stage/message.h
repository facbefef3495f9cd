/* One protobuf message per datagram on the supervisor's sockets (supervisor.sock, control.sock), with the
 * descriptors that ride along. Foreign bytes: sizes are bounded before anything is unpacked. */
#pragma once

#include "lib/ipc/fdpass.h"

#include <protobuf-c/protobuf-c.h>

enum { WV_MESSAGE_CLOSED = 1 };

/* Packs and sends without waiting; N_FDS descriptors stay the caller's. Returns 0, -EAGAIN (the peer doesn't
 * read), -EMSGSIZE, -EPIPE, -errno. */
int wv_message_send(int fd, const ProtobufCMessage *message, const int *fds, size_t n_fds);

/* Unpacks LEN bytes as a message of TYPE. Returns 0 with RET for protobuf_c_message_free_unpacked(),
 * -EMSGSIZE, -EBADMSG. */
int wv_message_unpack(const ProtobufCMessageDescriptor *type, const void *data, size_t len,
                      ProtobufCMessage **ret);

/* Receives one message of TYPE. Descriptors are the caller's. Returns 0, WV_MESSAGE_CLOSED (end of stream),
 * -EAGAIN, -EBADMSG, -EMSGSIZE, -errno; nothing is open or allocated unless 0. */
int wv_message_receive(int fd, const ProtobufCMessageDescriptor *type, ProtobufCMessage **ret,
                       int ret_fds[WV_FDPASS_MAX_FDS], size_t *ret_n_fds);
