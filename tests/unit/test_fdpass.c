/* Messages with descriptors over SOCK_SEQPACKET. */
#include "lib/base/util.h"
#include "lib/ipc/fdpass.h"
#include "tests/unit/suite.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>

static char dir[64], path[96];
static int ends[2];
static uint8_t buffer[WV_FDPASS_MAX_BYTES + 1];

static void set_up(void)
{
    strcpy(dir, "/tmp/wavry-test-fdpass-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(dir));
    snprintf(path, sizeof(path), "%s/socket", dir);
    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends), 0);
}

static void tear_down(void)
{
    wv_close(ends[0]);
    wv_close(ends[1]);
    unlink(path);
    rmdir(dir);
}

static unsigned open_descriptors(void)
{
    unsigned n = 0;
    DIR *d = opendir("/proc/self/fd");
    ck_assert_ptr_nonnull(d);
    while (readdir(d))
        n++;
    closedir(d);
    return n;
}

START_TEST(descriptors_arrive)
{
    int sent[2] = {ends[0], ends[1]};
    ck_assert_int_eq(wv_fdpass_send(ends[0], "hello", 5, sent, 2), 0);
    int fds[WV_FDPASS_MAX_FDS];
    size_t len, n;
    ck_assert_int_eq(wv_fdpass_receive(ends[1], buffer, sizeof(buffer), &len, fds, &n), 0);
    ck_assert_uint_eq(len, 5);
    ck_assert_uint_eq(n, 2);
    ck_assert_int_eq(memcmp(buffer, "hello", 5), 0);
    for (size_t i = 0; i < n; i++) {
        ck_assert(fcntl(fds[i], F_GETFD) & FD_CLOEXEC);
        struct stat a, b;
        ck_assert_int_eq(fstat(fds[i], &a), 0);
        ck_assert_int_eq(fstat(sent[i], &b), 0);
        ck_assert_uint_eq(a.st_ino, b.st_ino);
        close(fds[i]);
    }
    ck_assert_int_eq(wv_fdpass_receive(ends[1], buffer, sizeof(buffer), &len, fds, &n), -EAGAIN);
}
END_TEST

START_TEST(sizes_are_bounded)
{
    int many[WV_FDPASS_MAX_FDS + 1], fds[WV_FDPASS_MAX_FDS];
    for (size_t i = 0; i < WV_ARRAY_SIZE(many); i++)
        many[i] = ends[0];
    size_t len, n;
    ck_assert_int_eq(wv_fdpass_send(ends[0], buffer, WV_FDPASS_MAX_BYTES + 1, NULL, 0), -EMSGSIZE);
    ck_assert_int_eq(wv_fdpass_send(ends[0], "x", 1, many, WV_FDPASS_MAX_FDS + 1), -EMSGSIZE);
    ck_assert_int_eq(wv_fdpass_send(ends[0], "", 0, NULL, 0), -EMSGSIZE); /* would look like the end */
    ck_assert_int_eq(wv_fdpass_send(ends[0], buffer, WV_FDPASS_MAX_BYTES, many, WV_FDPASS_MAX_FDS), 0);
    ck_assert_int_eq(wv_fdpass_receive(ends[1], buffer, sizeof(buffer), &len, fds, &n), 0);
    ck_assert_uint_eq(len, WV_FDPASS_MAX_BYTES);
    ck_assert_uint_eq(n, WV_FDPASS_MAX_FDS);
    for (size_t i = 0; i < n; i++)
        close(fds[i]);
}
END_TEST

START_TEST(truncation_closes_what_came)
{
    int fds[WV_FDPASS_MAX_FDS];
    size_t len = 99, n = 99;
    ck_assert_int_eq(wv_fdpass_send(ends[0], "too long", 8, ends, 2), 0);
    unsigned before = open_descriptors();
    ck_assert_int_eq(wv_fdpass_receive(ends[1], buffer, 4, &len, fds, &n), -EMSGSIZE);
    ck_assert_uint_eq(open_descriptors(), before);
    ck_assert_uint_eq(len, 99);
    ck_assert_uint_eq(n, 99);
}
END_TEST

/* Another program may send more descriptors than we ever take. */
START_TEST(too_many_descriptors_are_closed)
{
    enum { MANY = WV_FDPASS_MAX_FDS + 8 };
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(sizeof(int) * MANY)];
    } control = {0};
    struct iovec iov = {.iov_base = (char[]){"x"}, .iov_len = 1};
    struct msghdr m = {.msg_iov = &iov,
                       .msg_iovlen = 1,
                       .msg_control = control.bytes,
                       .msg_controllen = sizeof(control.bytes)};
    struct cmsghdr *c = CMSG_FIRSTHDR(&m);
    c->cmsg_level = SOL_SOCKET;
    c->cmsg_type = SCM_RIGHTS;
    c->cmsg_len = CMSG_LEN(sizeof(int) * MANY);
    for (size_t i = 0; i < MANY; i++)
        memcpy(CMSG_DATA(c) + i * sizeof(int), &ends[0], sizeof(int));
    ck_assert_int_eq(sendmsg(ends[0], &m, 0), 1);
    unsigned before = open_descriptors();
    int fds[WV_FDPASS_MAX_FDS];
    size_t len, n;
    ck_assert_int_eq(wv_fdpass_receive(ends[1], buffer, sizeof(buffer), &len, fds, &n), -EMSGSIZE);
    ck_assert_uint_eq(open_descriptors(), before);
}
END_TEST

START_TEST(end_of_stream)
{
    int fds[WV_FDPASS_MAX_FDS];
    size_t len, n;
    ends[0] = wv_close(ends[0]);
    ck_assert_int_eq(wv_fdpass_receive(ends[1], buffer, sizeof(buffer), &len, fds, &n), 0);
    ck_assert_uint_eq(len, 0);
    ck_assert_uint_eq(n, 0);
    ck_assert_int_eq(wv_fdpass_send(ends[1], "x", 1, NULL, 0), -EPIPE); /* and no SIGPIPE */
}
END_TEST

START_TEST(full_socket_says_again)
{
    int r;
    do
        r = wv_fdpass_send(ends[0], buffer, 4096, NULL, 0);
    while (r == 0);
    ck_assert_int_eq(r, -EAGAIN);
}
END_TEST

START_TEST(listening_and_credentials)
{
    struct wv_peer peer;
    ck_assert_int_eq(wv_seqpacket_connect(path), -ENOENT);
    int listener = wv_seqpacket_listen(path, 0600);
    ck_assert_int_ge(listener, 0);
    struct stat st;
    ck_assert_int_eq(stat(path, &st), 0);
    ck_assert_uint_eq(st.st_mode & 0777, 0600);
    ck_assert_int_eq(wv_seqpacket_accept(listener, &peer), -EAGAIN);
    int client = wv_seqpacket_connect(path);
    ck_assert_int_ge(client, 0);
    int server = wv_seqpacket_accept(listener, &peer);
    ck_assert_int_ge(server, 0);
    ck_assert_int_eq(peer.pid, getpid());
    ck_assert_uint_eq(peer.uid, geteuid());
    ck_assert_uint_eq(peer.gid, getegid());
    ck_assert(fcntl(server, F_GETFL) & O_NONBLOCK);
    ck_assert(fcntl(server, F_GETFD) & FD_CLOEXEC);
    close(client);
    close(server);
    close(listener);
    /* What a killed predecessor left: nobody answers, a new listener takes its place. */
    ck_assert_int_eq(wv_seqpacket_connect(path), -ECONNREFUSED);
    listener = wv_seqpacket_listen(path, 0666);
    ck_assert_int_ge(listener, 0);
    ck_assert_int_eq(stat(path, &st), 0);
    ck_assert_uint_eq(st.st_mode & 0777, 0666);
    close(listener);
}
END_TEST

START_TEST(other_files_are_not_replaced)
{
    ck_assert_int_eq(wv_write_file_atomic(path, "precious", 8, 0600), 0);
    ck_assert_int_eq(wv_seqpacket_listen(path, 0600), -EEXIST);
    uint8_t *data = NULL;
    size_t len;
    ck_assert_int_eq(wv_read_file(path, 100, &data, &len), 0);
    ck_assert_uint_eq(len, 8);
    free(data);
    char lengthy[300];
    memset(lengthy, 'a', sizeof(lengthy) - 1);
    lengthy[sizeof(lengthy) - 1] = '\0';
    ck_assert_int_eq(wv_seqpacket_listen(lengthy, 0600), -ENAMETOOLONG);
    ck_assert_int_eq(wv_seqpacket_connect(lengthy), -ENAMETOOLONG);
    ck_assert_int_eq(wv_seqpacket_connect(""), -EINVAL);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("fdpass");
    TCase *t = tcase_create("fdpass");
    suite_add_tcase(s, t);
    tcase_add_checked_fixture(t, set_up, tear_down);
    tcase_add_test(t, descriptors_arrive);
    tcase_add_test(t, sizes_are_bounded);
    tcase_add_test(t, truncation_closes_what_came);
    tcase_add_test(t, too_many_descriptors_are_closed);
    tcase_add_test(t, end_of_stream);
    tcase_add_test(t, full_socket_says_again);
    tcase_add_test(t, listening_and_credentials);
    tcase_add_test(t, other_files_are_not_replaced);
    return wv_run_suite(s);
}
