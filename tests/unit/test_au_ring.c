/* The access-unit ring: in order, none skipped, "full" said aloud, and each side proof against the other. */
#include "lib/base/util.h"
#include "lib/ipc/au_ring.h"
#include "lib/ipc/au_ring_layout.h"
#include "lib/ipc/ring.h"
#include "tests/unit/suite.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>

static int entries, entries_ro, reader, reader_ro;
static struct wv_au_producer *producer;
static struct wv_au_consumer *consumer;
static uint8_t *data;

static void set_up(void)
{
    ck_assert_int_eq(wv_au_ring_create(&entries, &reader), 0);
    entries_ro = wv_memfd_reopen_read_only(entries);
    reader_ro = wv_memfd_reopen_read_only(reader);
    ck_assert_int_eq(wv_au_producer_new(&producer, entries, reader_ro), 0);
    ck_assert_int_eq(wv_au_consumer_new(&consumer, entries_ro, reader), 0);
    data = malloc(WV_AU_MAX_BYTES + 1);
    ck_assert_ptr_nonnull(data);
}

static void tear_down(void)
{
    producer = wv_au_producer_free(producer);
    consumer = wv_au_consumer_free(consumer);
    close(entries);
    close(entries_ro);
    close(reader);
    close(reader_ro);
    free(data);
}

static int push(size_t len, uint8_t value, struct wv_au_header *ret)
{
    struct wv_au_header h = {.width = 640, .height = 360, .capture_ns = 11};
    memset(data, value, len);
    int r = wv_au_push(producer, &h, data, len, 42);
    if (ret)
        *ret = h;
    return r;
}

static void expect(size_t len, uint8_t value, uint32_t frame_id)
{
    struct wv_au_header h;
    const uint8_t *got;
    ck_assert_int_eq(wv_au_pop(consumer, &h, &got), 0);
    ck_assert_uint_eq(h.size, len);
    ck_assert_uint_eq(h.frame_id, frame_id);
    for (size_t i = 0; i<len; i += len> 4096 ? 997 : 1)
        ck_assert_uint_eq(got[i], value);
    wv_au_pop_done(consumer);
}

static void expect_empty(void)
{
    struct wv_au_header h;
    const uint8_t *got;
    ck_assert_int_eq(wv_au_pop(consumer, &h, &got), WV_AU_EMPTY);
}

START_TEST(entries_come_in_order)
{
    expect_empty();
    struct wv_au_header h;
    for (uint8_t i = 1; i <= 20; i++) {
        ck_assert_int_eq(push(i * 100, i, &h), 0);
        ck_assert_uint_eq(h.frame_id, i);
        ck_assert_uint_eq(h.publish_ns, 42);
        ck_assert_uint_eq(h.epoch, wv_au_producer_epoch(producer));
    }
    for (uint8_t i = 1; i <= 20; i++)
        expect(i * 100, i, i);
    expect_empty();
}
END_TEST

START_TEST(entry_stays_until_it_is_done)
{
    struct wv_au_header h;
    const uint8_t *first, *again;
    push(10, 1, NULL);
    push(10, 2, NULL);
    ck_assert_int_eq(wv_au_pop(consumer, &h, &first), 0);
    ck_assert_int_eq(wv_au_pop(consumer, &h, &again), 0);
    ck_assert_ptr_eq(first, again);
    while (push(1 << 20, 3, NULL) == 0)
        ;
    ck_assert_uint_eq(first[9], 1);
    wv_au_pop_done(consumer);
    wv_au_pop_done(consumer);
    expect(10, 2, 2);
    wv_au_skip_all(consumer);
    expect_empty();
    ck_assert_int_eq(push(0, 0, NULL), 0);
    struct wv_au_header empty;
    ck_assert_int_eq(wv_au_pop(consumer, &empty, &again), 0);
    ck_assert_uint_eq(empty.size, 0);
}
END_TEST

START_TEST(full_is_said_and_nothing_is_lost)
{
    struct wv_au_header h;
    uint32_t pushed = 0;
    while (push(300000, (uint8_t)(pushed + 1), &h) == 0)
        pushed++;
    ck_assert_uint_ge(pushed, 26);
    ck_assert_int_eq(push(300000, 9, NULL), WV_AU_FULL);
    for (uint32_t i = 1; i <= pushed; i++)
        expect(300000, (uint8_t)i, i);
    expect_empty();
    ck_assert_int_eq(push(300000, 5, &h), 0); /* no number was used up by what didn't fit */
    expect(300000, 5, pushed + 1);
}
END_TEST

/* Every size that ends near the end of the ring, including the largest at the worst place. */
START_TEST(wraps_at_any_place)
{
    uint32_t id = 1;
    for (size_t i = 0; i < 400; i++) {
        size_t len = (i * 77777) % 500000;
        ck_assert_int_eq(push(len, (uint8_t)i, NULL), 0);
        expect(len, (uint8_t)i, id++);
    }
    for (int i = 0; i < 5; i++) {
        ck_assert_int_eq(push(WV_AU_MAX_BYTES, 7, NULL), 0);
        expect(WV_AU_MAX_BYTES, 7, id++);
        ck_assert_int_eq(push(100, 8, NULL), 0);
        expect(100, 8, id++);
    }
    ck_assert_int_eq(push(WV_AU_MAX_BYTES + 1, 7, NULL), -EMSGSIZE);
}
END_TEST

START_TEST(keyframe_refers_to_itself)
{
    struct wv_au_header h = {.keyframe = 1, .refers_to = 99};
    ck_assert_int_eq(wv_au_push(producer, &h, data, 0, 0), 0);
    ck_assert_uint_eq(h.refers_to, h.frame_id);
}
END_TEST

START_TEST(successors_go_on)
{
    push(10, 1, NULL);
    push(10, 2, NULL);
    uint16_t epoch = wv_au_producer_epoch(producer);
    /* Killed before the entry counts: everything is written, the position isn't. */
    struct au_control *control = mmap(NULL, AU_TOTAL_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, entries, 0);
    uint64_t write = control->write;
    uint32_t next = control->next_frame;
    push(10, 3, NULL);
    control->write = write;
    control->next_frame = next;
    munmap(control, AU_TOTAL_BYTES);
    wv_au_producer_free(producer);
    ck_assert_int_eq(wv_au_producer_new(&producer, entries, reader_ro), 0);
    ck_assert_uint_eq(wv_au_producer_epoch(producer), (uint16_t)(epoch + 1));
    push(10, 4, NULL);
    expect(10, 1, 1);
    wv_au_consumer_free(consumer);
    ck_assert_int_eq(wv_au_consumer_new(&consumer, entries_ro, reader),
                     0); /* starts where the other stopped */
    expect(10, 2, 2);
    expect(10, 4, 3);
    expect_empty();
}
END_TEST

/* Breaks one thing of the ring at a time; the consumer says so once and then goes on. */
START_TEST(rubbish_from_the_producer)
{
    uint8_t *memory = mmap(NULL, AU_TOTAL_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, entries, 0);
    struct au_control *control = (struct au_control *)memory;
    push(10, 1, NULL);
    push(10, 2, NULL);
    struct au_entry e;
    uint8_t *at = memory + AU_CONTROL_BYTES;
    memcpy(&e, at, sizeof(e));
    switch (_i) {
    case 0:
        e.kind = 0;
        break;
    case 1:
        e.position = 128;
        break;
    case 2:
        e.total = 0;
        break;
    case 3:
        e.total = UINT64_MAX - 127;
        break;
    case 4:
        e.total = 1 << 20;
        break;
    case 5:
        e.total = 100;
        break;
    case 6:
        e.header.size = 1000;
        break;
    case 7:
        e.header.size = UINT32_MAX;
        break;
    case 8:
        e.header.keyframe = 2;
        break;
    case 9:
        e.kind = AU_FILLER;
        break;
    case 10:
        control->write = 13;
        break;
    case 11:
        control->write = UINT64_MAX - 127;
        break;
    case 12:
        control->write = AU_DATA_BYTES + 128;
        break;
    }
    memcpy(at, &e, sizeof(e));
    struct wv_au_header h;
    const uint8_t *got;
    ck_assert_int_eq(wv_au_pop(consumer, &h, &got), WV_AU_BAD);
    int r = push(10, 3, NULL);
    ck_assert_int_eq(r, 0);
    r = wv_au_pop(consumer, &h, &got);
    if (r == WV_AU_BAD) { /* its own position was rubbish, too: now it isn't */
        expect_empty();
        ck_assert_int_eq(push(10, 4, NULL), 0);
        r = wv_au_pop(consumer, &h, &got);
    }
    ck_assert_int_eq(r, 0);
    ck_assert_uint_ge(got[0], 3);
    munmap(memory, AU_TOTAL_BYTES);
}
END_TEST

/* A ring that a producer left broken, also so that its successor's first entry would end just where the
 * consumer stands: what is whole stays, and the successor's first entry is neither lost nor refused. */
START_TEST(a_healed_ring_loses_no_new_entry)
{
    uint8_t *memory = mmap(NULL, AU_TOTAL_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, entries, 0);
    struct au_control *control = (struct au_control *)memory;
    uint32_t whole = 0;
    for (uint8_t i = 1; i <= 4; i++) {
        push(10, i, NULL);
        expect(10, i, i);
    }
    uint64_t stands = control->write; /* the consumer, too */
    switch (_i) {
    case 0:
        control->write = stands - 256; /* what an entry of 10 bytes takes */
        break;
    case 1:
        control->write = stands + 256;
        break;
    case 2:
        control->write = stands + AU_DATA_BYTES + 256;
        break;
    case 3:
        control->write = 13;
        break;
    case 4:
        control->write = UINT64_MAX - 127;
        break;
    case 5:
        control->write = 0;
        break;
    case 6: /* the second of two entries is broken */
        push(10, 5, NULL);
        push(10, 6, NULL);
        memset(memory + AU_CONTROL_BYTES + stands + 256, 0xee, AU_ENTRY_BYTES);
        whole = 1;
        break;
    }
    wv_au_producer_free(producer);
    ck_assert_int_eq(wv_au_producer_new(&producer, entries, reader_ro), 0);
    for (uint8_t i = 0; i < 3; i++) {
        struct wv_au_header pushed;
        ck_assert_int_eq(push(10, (uint8_t)(10 + i), &pushed), 0);
        if (i == 0 && whole)
            expect(10, 5, 5);
        expect(10, (uint8_t)(10 + i), pushed.frame_id);
    }
    expect_empty();
    munmap(memory, AU_TOTAL_BYTES);
}
END_TEST

START_TEST(rubbish_from_the_reader)
{
    static const uint64_t positions[] = {1, 64, 128, AU_DATA_BYTES, UINT64_MAX, UINT64_MAX - 127};
    struct au_reader *page = mmap(NULL, AU_READER_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, reader, 0);
    for (unsigned i = 0; i < 200; i++) {
        page->read = positions[i % WV_ARRAY_SIZE(positions)];
        int r = push((i * 7919) % 900000, 1, NULL);
        ck_assert(r == 0 || r == WV_AU_FULL);
    }
    munmap(page, AU_READER_BYTES);
    /* An honest reader is back in step after at most one complaint. */
    wv_au_consumer_free(consumer);
    ck_assert_int_eq(wv_au_consumer_new(&consumer, entries_ro, reader), 0);
    struct wv_au_header h;
    const uint8_t *got;
    while (wv_au_pop(consumer, &h, &got) == 0)
        wv_au_pop_done(consumer);
    struct wv_au_header pushed;
    ck_assert_int_eq(push(10, 9, &pushed), 0);
    expect(10, 9, pushed.frame_id);
}
END_TEST

static void produce_for_ever(void)
{
    struct wv_au_producer *p;
    if (wv_au_producer_new(&p, entries, reader_ro) < 0)
        _exit(1);
    for (uint64_t i = 1;; i++) {
        size_t len = 8 + (i * 7919) % 60000;
        struct wv_au_header h = {.capture_ns = i};
        memset(data, (int)(i & 0xff), len);
        wv_au_push(p, &h, data, len, 0);
    }
}

START_TEST(killed_producers_leave_whole_entries)
{
    producer = wv_au_producer_free(producer);
    uint64_t popped = 0;
    uint32_t last = 0;
    uint16_t epoch = 0;
    for (int round = 0; round < 20 || popped < 10; round++) {
        pid_t pid = fork();
        ck_assert_int_ge(pid, 0);
        if (pid == 0)
            produce_for_ever();
        uint64_t end = wv_now_ns() + 20 * WV_NS_PER_MS;
        while (wv_now_ns() < end) {
            struct wv_au_header h;
            const uint8_t *got;
            int r = wv_au_pop(consumer, &h, &got);
            ck_assert_int_ne(r, WV_AU_BAD);
            if (r != 0)
                continue;
            if (h.epoch == epoch)
                ck_assert_uint_eq(h.frame_id, last + 1);
            else
                ck_assert_uint_gt(h.frame_id, last);
            last = h.frame_id;
            epoch = h.epoch;
            popped++;
            ck_assert_uint_eq(h.size, 8 + (h.capture_ns * 7919) % 60000);
            for (size_t i = 0; i < h.size; i++)
                ck_assert_uint_eq(got[i], h.capture_ns & 0xff);
            wv_au_pop_done(consumer);
        }
        kill(pid, SIGKILL);
        waitpid(pid, NULL, 0);
    }
}
END_TEST

START_TEST(other_descriptors_are_refused)
{
    struct wv_au_producer *p = NULL;
    struct wv_au_consumer *c = NULL;
    ck_assert_int_eq(wv_au_producer_new(&p, reader, entries_ro), -EBADMSG);
    ck_assert_int_eq(wv_au_consumer_new(&c, reader_ro, entries), -EBADMSG);
    ck_assert_int_lt(wv_au_producer_new(&p, entries_ro, reader_ro), 0);
    ck_assert_int_lt(wv_au_consumer_new(&c, entries_ro, reader_ro), 0);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("au_ring");
    TCase *t = tcase_create("au_ring");
    suite_add_tcase(s, t);
    tcase_add_checked_fixture(t, set_up, tear_down);
    tcase_set_timeout(t, 120);
    tcase_add_test(t, entries_come_in_order);
    tcase_add_test(t, entry_stays_until_it_is_done);
    tcase_add_test(t, full_is_said_and_nothing_is_lost);
    tcase_add_test(t, wraps_at_any_place);
    tcase_add_test(t, keyframe_refers_to_itself);
    tcase_add_test(t, successors_go_on);
    tcase_add_loop_test(t, rubbish_from_the_producer, 0, 13);
    tcase_add_loop_test(t, a_healed_ring_loses_no_new_entry, 0, 7);
    tcase_add_test(t, rubbish_from_the_reader);
    tcase_add_test(t, killed_producers_leave_whole_entries);
    tcase_add_test(t, other_descriptors_are_refused);
    return wv_run_suite(s);
}
