/* The raw ring: newest wins, what is held stays, nothing torn is ever handed out, and neither side can hurt
 * the other. */
#include "lib/base/util.h"
#include "lib/ipc/ring.h"
#include "lib/ipc/ring_layout.h"
#include "tests/unit/suite.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>

#define WIDTH  64
#define HEIGHT 32

static int frames, frames_ro, reader, reader_ro;
static volatile uint8_t sink; /* reads that may not be left out */
static struct wv_ring_producer *producer;
static struct wv_ring_consumer *consumer;

static void set_up(void)
{
    ck_assert_int_eq(wv_ring_create(WIDTH, HEIGHT, &frames, &reader), 0);
    frames_ro = wv_memfd_reopen_read_only(frames);
    reader_ro = wv_memfd_reopen_read_only(reader);
    ck_assert_int_ge(frames_ro, 0);
    ck_assert_int_ge(reader_ro, 0);
    ck_assert_int_eq(wv_ring_producer_new(&producer, frames, reader_ro), 0);
    ck_assert_int_eq(wv_ring_consumer_new(&consumer, frames_ro, reader), 0);
}

static void tear_down(void)
{
    producer = wv_ring_producer_free(producer);
    consumer = wv_ring_consumer_free(consumer);
    close(frames);
    close(frames_ro);
    close(reader);
    close(reader_ro);
}

static struct wv_frame_header header(void)
{
    return (struct wv_frame_header){
        .format = WV_PIXEL_NV12, .width = WIDTH, .height = HEIGHT, .stride = WIDTH, .capture_ns = 5};
}

static size_t picture_bytes(void)
{
    return (size_t)WIDTH * HEIGHT / 2 * 3;
}

static uint64_t publish(struct wv_ring_producer *p, uint8_t value)
{
    uint8_t *pixels;
    struct wv_frame_header h = header();
    wv_ring_begin(p, &pixels);
    memset(pixels, value, picture_bytes());
    wv_ring_publish(p, &h, 1000);
    return h.sequence;
}

START_TEST(newest_wins)
{
    struct wv_frame_header h;
    const uint8_t *pixels;
    ck_assert_int_eq(wv_ring_acquire(consumer, &h, &pixels), WV_RING_EMPTY);
    for (uint8_t i = 1; i <= 9; i++)
        ck_assert_uint_eq(publish(producer, i), i);
    ck_assert_int_eq(wv_ring_acquire(consumer, &h, &pixels), 0);
    ck_assert_uint_eq(h.sequence, 9);
    ck_assert_uint_eq(h.publish_ns, 1000);
    ck_assert_uint_eq(h.capture_ns, 5);
    ck_assert_uint_eq(pixels[picture_bytes() - 1], 9);
    ck_assert_int_eq(wv_ring_acquire(consumer, &h, &pixels), WV_RING_EMPTY);
}
END_TEST

START_TEST(held_picture_is_left_alone)
{
    struct wv_frame_header h;
    const uint8_t *pixels;
    publish(producer, 1);
    ck_assert_int_eq(wv_ring_acquire(consumer, &h, &pixels), 0);
    for (uint8_t i = 2; i < 40; i++) {
        publish(producer, i);
        for (size_t at = 0; at < picture_bytes(); at++)
            ck_assert_uint_eq(pixels[at], 1);
    }
    ck_assert_int_eq(wv_ring_acquire(consumer, &h, &pixels), 0);
    ck_assert_uint_eq(pixels[0], 39);
}
END_TEST

START_TEST(slots_remember_their_picture)
{
    uint8_t *pixels;
    unsigned slot = wv_ring_begin(producer, &pixels);
    ck_assert_uint_eq(wv_ring_slot_sequence(producer, slot), 0);
    pixels[0] = 77;
    struct wv_frame_header h = header();
    wv_ring_publish(producer, &h, 0);
    unsigned other = wv_ring_begin(producer, &pixels);
    ck_assert_uint_ne(other, slot); /* never the newest */
    wv_ring_publish(producer, &h, 0);
    /* The slot with the most recent picture comes back, and with it what was in it. */
    ck_assert_uint_eq(wv_ring_begin(producer, &pixels), slot);
    ck_assert_uint_eq(wv_ring_slot_sequence(producer, slot), 1);
    ck_assert_uint_eq(pixels[0], 77);
    /* Begun twice without a publication: what it holds is unknown. */
    wv_ring_begin(producer, &pixels);
    ck_assert_uint_eq(wv_ring_slot_sequence(producer, slot), 0);
    ck_assert_uint_eq(wv_ring_slot_sequence(producer, WV_RING_SLOTS), 0);
}
END_TEST

START_TEST(read_only_means_read_only)
{
    size_t bytes = RING_CONTROL_BYTES;
    ck_assert_ptr_eq(mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, frames_ro, 0), MAP_FAILED);
    ck_assert_int_eq(ftruncate(frames, 0), -1); /* sealed: nobody's mapping can be pulled away */
    ck_assert_int_eq(errno, EPERM);
    struct wv_ring_producer *p = NULL;
    ck_assert_int_lt(wv_ring_producer_new(&p, frames_ro, reader_ro), 0);
    ck_assert_ptr_null(p);
}
END_TEST

START_TEST(other_descriptors_are_refused)
{
    struct wv_ring_producer *p = NULL;
    struct wv_ring_consumer *c = NULL;
    ck_assert_int_eq(wv_ring_producer_new(&p, reader, frames_ro), -EBADMSG);
    ck_assert_int_eq(wv_ring_consumer_new(&c, reader_ro, frames), -EBADMSG);
    int fd = memfd_create("unsealed", MFD_CLOEXEC);
    ck_assert_int_eq(ftruncate(fd, 1 << 20), 0);
    ck_assert_int_eq(wv_ring_consumer_new(&c, fd, reader), -EBADMSG);
    close(fd);
    fd = open("/dev/null", O_RDWR | O_CLOEXEC);
    ck_assert_int_lt(wv_ring_consumer_new(&c, fd, reader), 0);
    close(fd);
    ck_assert_int_lt(wv_ring_consumer_new(&c, -1, reader), 0);
    int a, b;
    ck_assert_int_eq(wv_ring_create(0, 10, &a, &b), -EINVAL);
    ck_assert_int_eq(wv_ring_create(WV_RING_MAX_WIDTH + 1, 10, &a, &b), -EINVAL);
    ck_assert_int_eq(wv_ring_create(WV_RING_MAX_WIDTH, WV_RING_MAX_HEIGHT, &a, &b), 0); /* sparse */
    close(a);
    close(b);
}
END_TEST

START_TEST(successors_go_on)
{
    struct wv_frame_header h;
    const uint8_t *pixels;
    uint8_t *writable;
    publish(producer, 1);
    publish(producer, 2);
    wv_ring_begin(producer, &writable); /* killed while it writes */
    writable[0] = 99;
    wv_ring_producer_free(producer);
    ck_assert_int_eq(wv_ring_producer_new(&producer, frames, reader_ro), 0);
    ck_assert_int_eq(wv_ring_acquire(consumer, &h, &pixels), 0); /* the last whole one is still there */
    ck_assert_uint_eq(h.sequence, 2);
    ck_assert_uint_eq(pixels[0], 2);
    ck_assert_uint_eq(publish(producer, 3), 3);
    /* A consumer that died holding a slot frees it by its successor's start; the successor gets the newest.
     */
    ck_assert_int_eq(wv_ring_acquire(consumer, &h, &pixels), 0);
    struct wv_ring_consumer *dead = consumer;
    ck_assert_int_eq(wv_ring_consumer_new(&consumer, frames_ro, reader), 0);
    ck_assert_int_eq(wv_ring_acquire(consumer, &h, &pixels), 0);
    ck_assert_uint_eq(h.sequence, 3);
    wv_ring_consumer_free(dead);
}
END_TEST

/* What a producer may not say. Each case breaks one field of an honest header. */
START_TEST(impossible_headers_are_refused)
{
    struct wv_frame_header h = header(), got;
    const uint8_t *pixels;
    uint8_t *writable;
    switch (_i) {
    case 0:
        h.width = WIDTH + 1;
        break;
    case 1:
        h.height = HEIGHT - 1;
        break;
    case 2:
        h.width = 0;
        break;
    case 3:
        h.stride = WIDTH - 2;
        break;
    case 4:
        h.stride = UINT32_MAX;
        break;
    case 5:
        h.height = WV_RING_MAX_HEIGHT;
        break;
    case 6:
        h.width = h.stride = 1u << 31;
        h.height = 1u << 31;
        break;
    case 7:
        h.format = 9;
        break;
    case 8:
        h.n_damage = WV_RING_DAMAGE_MAX + 1;
        break;
    case 9:
        h.n_damage = 1;
        h.damage[0] = (struct wv_rect){1, 0, WIDTH, 1};
        break;
    case 10:
        h.n_damage = 1;
        h.damage[0] = (struct wv_rect){INT32_MAX, 0, INT32_MAX, 1};
        break;
    case 11:
        h.n_damage = 1;
        h.damage[0] = (struct wv_rect){-1, 0, 2, 2};
        break;
    case 12:
        h.n_damage = 1;
        h.damage[0] = (struct wv_rect){0, 0, 0, 2};
        break;
    }
    publish(producer, 1);
    ck_assert_int_eq(wv_ring_acquire(consumer, &got, &pixels), 0);
    wv_ring_begin(producer, &writable);
    wv_ring_publish(producer, &h, 0);
    ck_assert_int_eq(wv_ring_acquire(consumer, &got, &pixels), WV_RING_BAD);
    ck_assert_int_eq(wv_ring_acquire(consumer, &got, &pixels), WV_RING_EMPTY); /* said once */
    ck_assert_uint_eq(pixels[0], 1);                                           /* what is held stays held */
    for (uint8_t i = 3; i < 20; i++) {
        publish(producer, i);
        ck_assert_uint_eq(pixels[0], 1);
    }
    ck_assert_int_eq(wv_ring_acquire(consumer, &got, &pixels), 0);
    ck_assert_uint_eq(pixels[0], 19);
}
END_TEST

/* As a consumer sees it that read `latest` and was then overtaken by the producer: the header is still the
 * old one, the pixels are not. */
START_TEST(a_slot_being_written_is_not_taken)
{
    static const uint64_t states[] = {0, 2, UINT64_MAX};
    struct wv_frame_header got;
    const uint8_t *pixels;
    struct ring_control *control = mmap(NULL, sizeof *control, PROT_READ | PROT_WRITE, MAP_SHARED, frames, 0);
    ck_assert_ptr_ne(control, MAP_FAILED);
    ck_assert_uint_eq(publish(producer, 1), 1);
    atomic_store(&control->slots[atomic_load(&control->latest) & 0xff].slot.state, states[_i]);
    ck_assert_int_eq(wv_ring_acquire(consumer, &got, &pixels), WV_RING_BAD);
    munmap(control, sizeof *control);
    publish(producer, 2);
    ck_assert_int_eq(wv_ring_acquire(consumer, &got, &pixels), 0);
    ck_assert_uint_eq(pixels[0], 2);
}
END_TEST

START_TEST(lying_reader_harms_nobody)
{
    struct ring_reader *page = mmap(NULL, RING_READER_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, reader, 0);
    ck_assert_ptr_ne(page, MAP_FAILED);
    uint64_t sequence = 0;
    for (uint32_t i = 0; i < 64; i++) {
        memset(page, (int)(i * 37), RING_READER_BYTES);
        atomic_store(&page->reading, i < 32 ? i : UINT32_MAX - i);
        uint64_t newest = sequence;
        uint8_t *pixels;
        unsigned slot = wv_ring_begin(producer, &pixels);
        ck_assert_uint_lt(slot, WV_RING_SLOTS);
        if (newest)
            ck_assert_uint_ne(wv_ring_slot_sequence(producer, slot), newest);
        struct wv_frame_header h = header();
        wv_ring_publish(producer, &h, 0);
        ck_assert_uint_eq(h.sequence, ++sequence);
    }
    munmap(page, RING_READER_BYTES);
}
END_TEST

static void stamp(uint8_t *pixels, uint64_t value)
{
    for (size_t i = 0; i < picture_bytes(); i += 8)
        memcpy(pixels + i, &value, 8);
}

static void produce_for_ever(unsigned seed)
{
    struct wv_ring_producer *p;
    if (wv_ring_producer_new(&p, frames, reader_ro) < 0)
        _exit(1);
    for (uint64_t i = 1;; i++) {
        uint8_t *pixels;
        wv_ring_begin(p, &pixels);
        struct wv_frame_header h = header();
        h.capture_ns = i ^ ((uint64_t)seed << 32);
        stamp(pixels, h.capture_ns);
        wv_ring_publish(p, &h, 0);
    }
}

static pid_t start(void (*child)(unsigned), unsigned seed)
{
    pid_t pid = fork();
    ck_assert_int_ge(pid, 0);
    if (pid == 0) {
        child(seed);
        _exit(0);
    }
    return pid;
}

static void stop(pid_t pid)
{
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
}

static void assert_whole(const uint8_t *pixels, uint64_t value)
{
    for (size_t i = 0; i < picture_bytes(); i += 8) {
        uint64_t word;
        memcpy(&word, pixels + i, 8);
        ck_assert_uint_eq(word, value);
    }
}

/* Two processes at full speed; the producer is killed again and again in the midst of it. */
START_TEST(nothing_torn_under_stress)
{
    wv_ring_producer_free(producer);
    producer = NULL;
    uint64_t end = wv_now_ns() + WV_NS_PER_S, last = 0, taken = 0;
    for (unsigned seed = 1; wv_now_ns() < end || taken < 10; seed++) {
        pid_t pid = start(produce_for_ever, seed);
        uint64_t next_kill = wv_now_ns() + 50 * WV_NS_PER_MS;
        while (wv_now_ns() < next_kill) {
            struct wv_frame_header h;
            const uint8_t *pixels;
            int r = wv_ring_acquire(consumer, &h, &pixels);
            ck_assert_int_ne(r, WV_RING_BAD);
            if (r != 0)
                continue;
            ck_assert_uint_gt(h.sequence, last); /* over restarts, too */
            last = h.sequence;
            taken++;
            assert_whole(pixels, h.capture_ns);
            assert_whole(pixels, h.capture_ns);
            if (taken % 16 == 0)
                wv_ring_release(consumer);
        }
        stop(pid);
    }
}
END_TEST

static _Atomic uint32_t watched, unprotected;

/* Sees what a producer on another core would see. */
static void *watch_reading(void *page)
{
    const struct ring_reader *r = page;
    uint32_t held;
    while ((held = atomic_load(&watched)) != UINT32_MAX)
        if (held && (atomic_load(&r->reading) & held) == 0 && atomic_load(&watched) == held)
            atomic_fetch_add(&unprotected, 1);
    return NULL;
}

/* While a bad picture is looked at, the good one that is held stays announced. */
START_TEST(held_stays_announced_beside_bad_ones)
{
    struct ring_reader *page = mmap(NULL, RING_READER_BYTES, PROT_READ, MAP_SHARED, reader_ro, 0);
    pthread_t thread;
    ck_assert_ptr_ne(page, MAP_FAILED);
    struct wv_frame_header h, bad = header();
    const uint8_t *pixels;
    uint8_t *writable;
    publish(producer, 1);
    ck_assert_int_eq(wv_ring_acquire(consumer, &h, &pixels), 0);
    atomic_store(&watched, atomic_load(&page->reading));
    ck_assert_int_eq(pthread_create(&thread, NULL, watch_reading, page), 0);
    bad.width = 1;
    for (uint64_t end = wv_now_ns() + 300 * WV_NS_PER_MS; wv_now_ns() < end;) {
        wv_ring_begin(producer, &writable);
        wv_ring_publish(producer, &bad, 0);
        ck_assert_int_eq(wv_ring_acquire(consumer, &h, &pixels), WV_RING_BAD);
    }
    atomic_store(&watched, UINT32_MAX);
    pthread_join(thread, NULL);
    ck_assert_uint_eq(atomic_load(&unprotected), 0);
    munmap(page, RING_READER_BYTES);
}
END_TEST

static void scribble_for_ever(unsigned seed)
{
    uint8_t *memory = mmap(NULL, RING_CONTROL_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, frames, 0);
    if (memory == MAP_FAILED)
        _exit(1);
    for (uint64_t x = seed;;) {
        x = x * UINT64_C(6364136223846793005) + 1442695040888963407;
        size_t at = (x >> 33) % RING_CONTROL_BYTES;
        memory[at] = (uint8_t)(x >> 55);
        if (x >> 62 == 0) /* often enough somewhere that matters */
            ((struct ring_control *)memory)->latest = (x >> 40 & 3) | ((x >> 20 & 0xf) + 1) << 8;
    }
}

/* A broken page from which a successor that believed `latest` would go on with just the number and the slot
 * that the consumer looked into last. Its first picture is taken all the same, whichever part is broken. */
START_TEST(a_healed_ring_begins_with_a_new_number)
{
    struct ring_control *control = mmap(NULL, sizeof *control, PROT_READ | PROT_WRITE, MAP_SHARED, frames, 0);
    ck_assert_ptr_ne(control, MAP_FAILED);
    struct wv_frame_header h;
    const uint8_t *pixels;
    for (uint64_t slot = 0; slot < WV_RING_SLOTS; slot++) {
        uint64_t believed = 5 << 8 | (slot + 1) % WV_RING_SLOTS;
        wv_ring_release(consumer);
        atomic_store(&control->latest, 6 << 8 | slot);
        ck_assert_int_eq(wv_ring_acquire(consumer, &h, &pixels), WV_RING_BAD);
        for (unsigned i = 0; i < WV_RING_SLOTS; i++)
            atomic_store(&control->slots[i].slot.state, 0);
        switch (_i) {
        case 0: /* the slot of the newest says another number */
            break;
        case 1: /* it says that one, but another slot is two ahead */
            atomic_store(&control->slots[believed & 0xff].slot.state, 5);
            atomic_store(&control->slots[slot].slot.state, 7);
            break;
        case 2: /* one ahead: as after a death just before `latest` was written, or not */
            atomic_store(&control->slots[believed & 0xff].slot.state, 5);
            atomic_store(&control->slots[slot].slot.state, 6);
            break;
        case 3: /* nothing published, says the page, but there are pictures */
            believed = 0;
            atomic_store(&control->slots[slot].slot.state, 3);
            break;
        case 4:
            believed = 5 << 8 | WV_RING_SLOTS;
            break;
        case 5:
            believed = RING_MAX_SEQUENCE << 8 | slot;
            atomic_store(&control->slots[slot].slot.state, RING_MAX_SEQUENCE);
            break;
        }
        atomic_store(&control->latest, believed);
        wv_ring_producer_free(producer);
        ck_assert_int_eq(wv_ring_producer_new(&producer, frames, reader_ro), 0);
        uint64_t first = publish(producer, 1);
        ck_assert_int_eq(wv_ring_acquire(consumer, &h, &pixels), 0);
        ck_assert_uint_eq(h.sequence, first);
        wv_ring_producer_free(producer); /* and it is in order again */
        ck_assert_int_eq(wv_ring_producer_new(&producer, frames, reader_ro), 0);
        ck_assert_uint_eq(publish(producer, 2), first + 1);
        ck_assert_int_eq(wv_ring_acquire(consumer, &h, &pixels), 0);
    }
    munmap(control, sizeof *control);
}
END_TEST

START_TEST(random_headers_do_not_crash)
{
    for (uint8_t i = 1; i < 9; i++)
        publish(producer, i);
    const char *given = getenv("WV_SEED");
    unsigned seed = given ? (unsigned)strtoul(given, NULL, 10) : (unsigned)wv_now_ns();
    printf("random_headers_do_not_crash: WV_SEED=%u\n", seed);
    pid_t pid = start(scribble_for_ever, seed);
    uint64_t end = wv_now_ns() + 300 * WV_NS_PER_MS, bad = 0;
    while (wv_now_ns() < end || bad == 0) {
        struct wv_frame_header h;
        const uint8_t *pixels;
        int r = wv_ring_acquire(consumer, &h, &pixels);
        bad += r == WV_RING_BAD;
        if (r == 0)
            sink ^= pixels[(uint64_t)h.stride * h.height / 2 * 3 - 1]; /* every byte promised is there */
    }
    stop(pid);
    /* A new producer brings the ring back to order, whatever is in it now. */
    wv_ring_producer_free(producer);
    ck_assert_int_eq(wv_ring_producer_new(&producer, frames, reader_ro), 0);
    struct wv_frame_header h;
    const uint8_t *pixels;
    for (uint8_t i = 1; i < 9; i++) {
        publish(producer, i);
        ck_assert_int_eq(wv_ring_acquire(consumer, &h, &pixels), 0);
        ck_assert_uint_eq(pixels[0], i);
    }
    wv_ring_consumer_free(consumer);
    ck_assert_int_eq(wv_ring_consumer_new(&consumer, frames_ro, reader), 0);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("ring");
    TCase *t = tcase_create("ring");
    suite_add_tcase(s, t);
    tcase_add_checked_fixture(t, set_up, tear_down);
    tcase_set_timeout(t, 120);
    tcase_add_test(t, newest_wins);
    tcase_add_test(t, held_picture_is_left_alone);
    tcase_add_test(t, slots_remember_their_picture);
    tcase_add_test(t, read_only_means_read_only);
    tcase_add_test(t, other_descriptors_are_refused);
    tcase_add_test(t, successors_go_on);
    tcase_add_loop_test(t, impossible_headers_are_refused, 0, 13);
    tcase_add_loop_test(t, a_slot_being_written_is_not_taken, 0, 3);
    tcase_add_test(t, lying_reader_harms_nobody);
    tcase_add_test(t, nothing_torn_under_stress);
    tcase_add_test(t, held_stays_announced_beside_bad_ones);
    t = tcase_create("healing");
    suite_add_tcase(s, t);
    tcase_add_checked_fixture(t, set_up, tear_down);
    tcase_set_timeout(t, 120);
    tcase_add_loop_test(t, a_healed_ring_begins_with_a_new_number, 0, 6);
    tcase_add_test(t, random_headers_do_not_crash);
    return wv_run_suite(s);
}
