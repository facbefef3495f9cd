/* The input page and the session page: what a successor and what an onlooker finds there. */
#include "lib/base/util.h"
#include "lib/ipc/input_page.h"
#include "lib/ipc/ring.h"
#include "lib/ipc/session_page.h"
#include "tests/unit/suite.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>

static int fd, ro;

static void make(int (*create)(int *))
{
    ck_assert_int_eq(create(&fd), 0);
    ro = wv_memfd_reopen_read_only(fd);
    ck_assert_int_ge(ro, 0);
}

static void tear_down(void)
{
    wv_close(fd);
    wv_close(ro);
}

static void scribble(unsigned char value)
{
    struct stat st;
    ck_assert_int_eq(fstat(fd, &st), 0);
    void *memory = mmap(NULL, (size_t)st.st_size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    ck_assert_ptr_ne(memory, MAP_FAILED);
    memset(memory, value, (size_t)st.st_size);
    munmap(memory, (size_t)st.st_size);
}

START_TEST(held_keys_are_inherited)
{
    make(wv_input_page_create);
    struct wv_input_page *p, *reader;
    ck_assert_int_eq(wv_input_page_map(&reader, ro, false), 0); /* before the first writer: nothing is held */
    uint16_t codes[WV_INPUT_CODES];
    ck_assert_uint_eq(wv_input_page_held(reader, codes, WV_INPUT_CODES), 0);
    ck_assert_int_eq(wv_input_page_map(&p, fd, true), 0);
    wv_input_page_set_held(p, 0, true);
    wv_input_page_set_held(p, 30, true);
    wv_input_page_set_held(p, 63, true);
    wv_input_page_set_held(p, 64, true);
    wv_input_page_set_held(p, WV_INPUT_CODES - 1, true);
    wv_input_page_set_held(p, WV_INPUT_CODES, true); /* no such code */
    wv_input_page_set_held(p, UINT16_MAX, true);
    wv_input_page_set_held(p, 63, false);
    ck_assert_ptr_null(wv_input_page_unmap(p)); /* killed */
    ck_assert_int_eq(wv_input_page_map(&p, fd, true), 0);
    ck_assert_uint_eq(wv_input_page_held(p, codes, WV_INPUT_CODES), 4);
    static const uint16_t expected[] = {0, 30, 64, WV_INPUT_CODES - 1};
    ck_assert_int_eq(memcmp(codes, expected, sizeof(expected)), 0);
    ck_assert_uint_eq(wv_input_page_held(reader, codes, 2), 2);
    wv_input_page_unmap(p);
    wv_input_page_unmap(reader);
}
END_TEST

START_TEST(injected_is_seen_by_the_reader)
{
    make(wv_input_page_create);
    struct wv_input_page *p, *reader;
    ck_assert_int_eq(wv_input_page_map(&p, fd, true), 0);
    ck_assert_int_eq(wv_input_page_map(&reader, ro, false), 0);
    wv_input_page_set_injected(p, 0xfffffff1, 0xfffffff2);
    ck_assert_uint_eq(wv_input_page_session(reader), 0xfffffff1);
    ck_assert_uint_eq(wv_input_page_injected(reader), 0xfffffff2);
    wv_input_page_unmap(p);
    wv_input_page_unmap(reader);
    ck_assert_int_lt(wv_input_page_map(&p, ro, true), 0);
}
END_TEST

START_TEST(input_rubbish_is_laid_out_anew)
{
    make(wv_input_page_create);
    scribble(0xff);
    struct wv_input_page *p;
    uint16_t codes[8];
    ck_assert_int_eq(wv_input_page_map(&p, ro, false), -EBADMSG);
    ck_assert_int_eq(wv_input_page_map(&p, fd, true), 0);
    ck_assert_uint_eq(wv_input_page_held(p, codes, 8), 0);
    wv_input_page_unmap(p);
    int other;
    ck_assert_int_eq(wv_session_page_create(&other), 0);
    ck_assert_int_eq(wv_input_page_map(&p, other, true), -EBADMSG);
    close(other);
}
END_TEST

static struct wv_session_record record(uint32_t id)
{
    struct wv_session_record r = {
        .id = id, .controls = true, .since_ns = id, .rtt_ns = id, .glass_p99_us = id};
    memset(r.peer_key, (int)(id & 0xff), sizeof(r.peer_key));
    strcpy(r.name, "laptop of Ada");
    strcpy(r.address, "[2001:db8::1]:4820");
    return r;
}

START_TEST(sessions_are_read_back)
{
    make(wv_session_page_create);
    struct wv_session_page *p, *reader;
    struct wv_session_record got, r = record(7);
    ck_assert_int_eq(wv_session_page_map(&reader, ro, false), 0);
    ck_assert_int_eq(wv_session_page_get(reader, 0, &got), 1);
    ck_assert_int_eq(wv_session_page_map(&p, fd, true), 0);
    wv_session_page_set(p, 3, &r);
    wv_session_page_set(p, WV_SESSIONS_MAX, &r); /* no such place */
    ck_assert_int_eq(wv_session_page_get(reader, 3, &got), 0);
    ck_assert_uint_eq(got.id, 7);
    ck_assert(got.controls);
    ck_assert_str_eq(got.name, "laptop of Ada");
    ck_assert_str_eq(got.address, "[2001:db8::1]:4820");
    ck_assert_uint_eq(got.glass_p99_us, 7);
    ck_assert_int_eq(memcmp(got.peer_key, r.peer_key, 32), 0);
    ck_assert_int_eq(wv_session_page_get(reader, WV_SESSIONS_MAX, &got), 1);
    wv_session_page_set(p, 3, NULL);
    ck_assert_int_eq(wv_session_page_get(reader, 3, &got), 1);
    wv_session_page_unmap(p);
    wv_session_page_unmap(reader);
}
END_TEST

START_TEST(session_text_is_made_harmless)
{
    make(wv_session_page_create);
    struct wv_session_page *p;
    struct wv_session_record got, r = record(1);
    memset(r.name, 'x', sizeof(r.name)); /* no end */
    strcpy(r.address, "a\033[2Jb\xc3\xa9\xff");
    ck_assert_int_eq(wv_session_page_map(&p, fd, true), 0);
    wv_session_page_set(p, 0, &r);
    ck_assert_int_eq(wv_session_page_get(p, 0, &got), 0);
    ck_assert_uint_eq(strlen(got.name), sizeof(got.name) - 1);
    ck_assert_str_eq(got.address, "a?[2Jb\xc3\xa9?");
    wv_session_page_unmap(p);
}
END_TEST

START_TEST(session_rubbish)
{
    make(wv_session_page_create);
    struct wv_session_page *p;
    struct wv_session_record got;
    ck_assert_int_eq(wv_session_page_map(&p, fd, true), 0);
    scribble(0xff); /* under a mapped reader: odd sequence numbers everywhere */
    for (unsigned i = 0; i < WV_SESSIONS_MAX; i++)
        ck_assert_int_eq(wv_session_page_get(p, i, &got), 1);
    scribble(0xfe); /* even ones: a record, all bytes of which are foreign */
    ck_assert_int_eq(wv_session_page_get(p, 0, &got), 0);
    ck_assert_uint_eq(got.name[0], '?');
    wv_session_page_unmap(p);
    ck_assert_int_eq(wv_session_page_map(&p, ro, false), -EBADMSG);
    ck_assert_int_eq(wv_session_page_map(&p, fd, true), 0);
    ck_assert_int_eq(wv_session_page_get(p, 0, &got), 1);
    wv_session_page_unmap(p);
}
END_TEST

START_TEST(sessions_are_never_torn)
{
    make(wv_session_page_create);
    struct wv_session_page *p;
    ck_assert_int_eq(wv_session_page_map(&p, fd, true), 0);
    pid_t pid = fork();
    ck_assert_int_ge(pid, 0);
    if (pid == 0) {
        for (uint32_t i = 1;; i = i % 1000000 + 1) {
            struct wv_session_record r = record(i);
            wv_session_page_set(p, 5, &r);
        }
    }
    unsigned seen = 0;
    for (uint64_t end = wv_now_ns() + 200 * WV_NS_PER_MS; wv_now_ns() < end || seen < 10;) {
        struct wv_session_record got;
        if (wv_session_page_get(p, 5, &got) != 0)
            continue;
        seen++;
        ck_assert_uint_eq(got.since_ns, got.id);
        ck_assert_uint_eq(got.glass_p99_us, got.id);
        ck_assert_uint_eq(got.peer_key[31], got.id & 0xff);
    }
    kill(pid, SIGKILL); /* perhaps in the middle of a record: the successor puts that right */
    waitpid(pid, NULL, 0);
    wv_session_page_unmap(p);
    ck_assert_int_eq(wv_session_page_map(&p, fd, true), 0);
    struct wv_session_record got, r = record(3);
    wv_session_page_set(p, 5, &r);
    ck_assert_int_eq(wv_session_page_get(p, 5, &got), 0);
    ck_assert_uint_eq(got.id, 3);
    wv_session_page_unmap(p);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("pages");
    TCase *t = tcase_create("pages");
    suite_add_tcase(s, t);
    tcase_add_checked_fixture(t, NULL, tear_down);
    tcase_set_timeout(t, 120);
    tcase_add_test(t, held_keys_are_inherited);
    tcase_add_test(t, injected_is_seen_by_the_reader);
    tcase_add_test(t, input_rubbish_is_laid_out_anew);
    tcase_add_test(t, sessions_are_read_back);
    tcase_add_test(t, session_text_is_made_harmless);
    tcase_add_test(t, session_rubbish);
    tcase_add_test(t, sessions_are_never_torn);
    return wv_run_suite(s);
}
