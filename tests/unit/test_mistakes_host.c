/* Named tests of mistakes that others made, in what the processes of a host share: memory that another
 * process may shrink or change while it is read, and secrets in core files. See docs/SECURITY.md. */
#include "lib/base/util.h"
#include "lib/ipc/au_ring_layout.h"
#include "lib/ipc/input_page.h"
#include "lib/ipc/memfd.h"
#include "lib/ipc/metrics.h"
#include "lib/ipc/ring.h"
#include "lib/ipc/session_page.h"
#include "lib/stage/sandbox.h"
#include "services/identity/live_page.h"
#include "services/transport/session_vault.h"
#include "tests/unit/suite.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#define HOSTILE_NS   (300 * WV_NS_PER_MS)
#define HOSTILE_POPS 2000
#define CORE_BYTES   (256u << 20)
/* More than the processor's registers hold: what was copied last is in them, and they are in a core. */
#define STATE_BYTES 2048

/* ---- truncation ---- */

static int make_memory(int which)
{
    int fd = -1, other = -1, r = -EINVAL;
    switch (which) {
    case 0:
    case 1:
        r = wv_ring_create(64, 64, which ? &other : &fd, which ? &fd : &other);
        break;
    case 2:
    case 3:
        r = wv_au_ring_create(which == 3 ? &other : &fd, which == 3 ? &fd : &other);
        break;
    case 4:
        r = wv_session_page_create(&fd);
        break;
    case 5:
        r = wv_input_page_create(&fd);
        break;
    case 6:
        r = wv_metrics_create_page(&fd);
        break;
    case 7:
        r = wv_memfd_create("session-vault", WV_SESSION_VAULT_BYTES, &fd);
        break;
    case 8:
        r = wv_memfd_create("identity-page", WV_LIVE_PAGE_BYTES, &fd);
        break;
    }
    ck_assert_int_eq(r, 0);
    wv_close(other);
    return fd;
}

/* A page that is cut short kills whoever reads it by SIGBUS. Not even who may write to it can do that. */
START_TEST(shared_memory_can_not_be_truncated)
{
    int fd = make_memory(_i);
    size_t bytes;
    ck_assert_int_eq(wv_memfd_size(fd, &bytes), 0);
    ck_assert_uint_gt(bytes, 0);
    ck_assert_int_eq(ftruncate(fd, 0), -1);
    ck_assert_int_eq(errno, EPERM);
    ck_assert_int_eq(ftruncate(fd, (off_t)bytes + 4096), -1);
    ck_assert_int_eq(errno, EPERM);
    wv_close(fd);
}
END_TEST

/* What could still be cut is not mapped at all, whoever hands it over. */
START_TEST(what_can_be_truncated_is_not_mapped)
{
    int fd = memfd_create("hostile", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(ftruncate(fd, WV_SESSION_VAULT_BYTES), 0);
    void *memory;
    struct wv_live *live;
    struct wv_session_vault *vault;
    struct wv_session_page *page;
    struct wv_input_page *input;
    struct wv_au_consumer *consumer;
    struct wv_ring_consumer *ring;
    bool taken;
    ck_assert_int_eq(wv_memfd_map(fd, WV_SESSION_VAULT_BYTES, false, &memory), -EBADMSG);
    ck_assert_int_eq(wv_session_vault_open(&vault, fd, 1, &taken), -EBADMSG);
    ck_assert_int_eq(wv_live_page_map(&live, fd, 1, &taken), -EBADMSG);
    ck_assert_int_lt(wv_session_page_map(&page, fd, false), 0);
    ck_assert_int_lt(wv_input_page_map(&input, fd, false), 0);
    ck_assert_int_lt(wv_au_consumer_new(&consumer, fd, fd), 0);
    ck_assert_int_lt(wv_ring_consumer_new(&ring, fd, fd), 0);
    wv_close(fd);
}
END_TEST

/* ---- double fetch ---- */

struct hostile {
    uint8_t *memory;
    _Atomic bool stop;
};

static void pause_a_moment(void)
{
    for (volatile unsigned i = 0; i < 500; i++)
        ;
}

/* The producer's process is taken over: what the first entry says of itself changes all the time. */
static void *change(void *userdata)
{
    struct hostile *h = userdata;
    volatile struct au_entry *e = (volatile struct au_entry *)(h->memory + AU_CONTROL_BYTES);
    while (!h->stop) {
        e->header.size = UINT32_MAX;
        pause_a_moment();
        e->header.size = 100;
        e->total = UINT64_MAX - 127;
        pause_a_moment();
        e->total = 256;
        e->header.keyframe = 77;
        pause_a_moment();
        e->header.keyframe = 1; /* for a moment it is what it was */
        pause_a_moment();
    }
    return NULL;
}

/* What was checked is what is used: an entry that is taken has a size within its bounds, and the same one
 * however often it is asked for. */
START_TEST(fields_that_change_while_they_are_read)
{
    static const uint8_t data[100];
    struct wv_au_producer *producer;
    struct wv_au_consumer *consumer;
    struct hostile h = {0};
    pthread_t thread;
    int entries, reader;
    unsigned taken = 0, refused = 0;
    ck_assert_int_eq(wv_au_ring_create(&entries, &reader), 0);
    h.memory = mmap(NULL, AU_TOTAL_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, entries, 0);
    ck_assert_ptr_ne(h.memory, MAP_FAILED);
    ck_assert_int_eq(wv_au_producer_new(&producer, entries, reader), 0);
    struct wv_au_header header = {.keyframe = 1};
    ck_assert_int_eq(wv_au_push(producer, &header, data, sizeof data, 1), 0);
    ck_assert_int_eq(pthread_create(&thread, NULL, change, &h), 0);
    uint64_t end = wv_now_ns() + HOSTILE_NS;
    /* On one core each sees only what the other left when it was interrupted. */
    while (wv_now_ns() < end ||
           ((taken + refused < HOSTILE_POPS || !taken || !refused) && wv_now_ns() < end + 30 * WV_NS_PER_S)) {
        struct wv_au_header first, again;
        const uint8_t *payload;
        /* The position is the reader's own page: each consumer finds the entry anew. */
        ((struct au_control *)h.memory)->write = 256;
        ck_assert_int_eq(wv_au_consumer_new(&consumer, entries, reader), 0);
        int r = wv_au_pop(consumer, &first, &payload);
        ck_assert(r == 0 || r == WV_AU_BAD);
        if (r == 0) {
            taken++;
            ck_assert_uint_le(first.size, 256 - AU_ENTRY_BYTES);
            ck_assert_uint_le(first.keyframe, 1);
            ck_assert_int_eq(wv_au_pop(consumer, &again, &payload), 0);
            ck_assert_mem_eq(&first, &again, sizeof first);
        } else {
            refused++;
            void *page = mmap(NULL, AU_READER_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, reader, 0);
            ck_assert_ptr_ne(page, MAP_FAILED);
            ((struct au_reader *)page)->read = 0;
            munmap(page, AU_READER_BYTES);
        }
        wv_au_consumer_free(consumer);
    }
    h.stop = true;
    pthread_join(thread, NULL);
    ck_assert_uint_gt(taken, 0);
    ck_assert_uint_gt(refused, 0);
    wv_au_producer_free(producer);
    munmap(h.memory, AU_TOTAL_BYTES);
    wv_close(entries);
    wv_close(reader);
}
END_TEST

/* ---- core files ---- */

/* Bytes that stand nowhere in a program. */
static void make_secret(uint8_t *secret, size_t len, uint8_t seed)
{
    secret[0] = seed;
    for (size_t i = 1; i < len; i++)
        secret[i] = (uint8_t)(secret[i - 1] * 3 + 2 * seed + 1 + i / 16);
}

static bool core_holds(const uint8_t *core, size_t core_len, size_t len, uint8_t seed)
{
    uint8_t secret[STATE_BYTES];
    make_secret(secret, len, seed);
    return memmem(core, core_len, secret, len) != NULL;
}

enum { ORDINARY = 11, IN_TABLE = 22, IN_VAULT = 33, IN_SCRATCH = 44 };

/* Keys where the stages have them, one in ordinary memory to see that the search finds any; then it ends. */
static void hold_keys_and_abort(bool lock)
{
    const struct rlimit most = {CORE_BYTES, CORE_BYTES};
    struct wv_live *live;
    struct wv_live_session *s;
    struct wv_session_vault *vault;
    uint8_t key[32], hash[64] = {0};
    bool ignored;
    size_t n;
    int page = make_memory(8), memory = make_memory(7);
    (void)setrlimit(RLIMIT_CORE, &most);
    uint8_t *ordinary = malloc(STATE_BYTES);
    if (!ordinary || wv_live_page_map(&live, page, 1, &ignored) < 0 ||
        wv_session_vault_open(&vault, memory, 1, &ignored) < 0)
        _exit(1);
    make_secret(ordinary, STATE_BYTES, ORDINARY);
    const struct wv_live_new fresh = {
        .peer_key = key, .inner_base = key, .hash = hash, .name = "", .device = ""};
    make_secret(key, sizeof key, IN_TABLE);
    if (wv_live_add(live, &fresh, 1, &s) != 0)
        _exit(1);
    memcpy(s->input_key, key, sizeof s->input_key);
    make_secret(wv_session_vault_room(vault, &n), STATE_BYTES, IN_VAULT);
    wv_session_vault_write(vault, 0, STATE_BYTES);
    make_secret(wv_session_vault_room(vault, &n), STATE_BYTES, IN_SCRATCH);
    explicit_bzero(key, sizeof key);
    if (lock && wv_sandbox_prepare() < 0)
        _exit(1);
    abort();
}

/* Ends such a process in a folder of its own. Returns its core's bytes, 0: there is none. */
static size_t core_of(bool lock, uint8_t **ret_core)
{
    char folder[] = "/tmp/wavry-core-XXXXXX", command[128];
    size_t len = 0;
    int status;
    ck_assert_ptr_nonnull(mkdtemp(folder));
    fflush(NULL);
    pid_t pid = fork();
    if (pid == 0) {
        if (chdir(folder) < 0)
            _exit(1);
        hold_keys_and_abort(lock);
    }
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    ck_assert(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
    snprintf(command, sizeof command, "cat '%s'/core* 2>/dev/null", folder);
    FILE *f = popen(command, "r");
    ck_assert_ptr_nonnull(f);
    *ret_core = malloc(CORE_BYTES);
    ck_assert_ptr_nonnull(*ret_core);
    len = fread(*ret_core, 1, CORE_BYTES, f);
    pclose(f);
    snprintf(command, sizeof command, "rm -rf '%s'", folder);
    ck_assert_int_eq(system(command), 0);
    if (lock)
        ck_assert(!WCOREDUMP(status));
    return len;
}

START_TEST(a_core_holds_no_key_of_page_or_vault)
{
    uint8_t *core;
    size_t len = core_of(false, &core);
    if (len == 0) { /* by pipe to a program, or forbidden altogether */
        printf("SKIP: what a core file holds: this machine writes none to where a process ends\n");
    } else {
        ck_assert(core_holds(core, len, STATE_BYTES, ORDINARY));
        ck_assert(!core_holds(core, len, 32, IN_TABLE));
        ck_assert(!core_holds(core, len, STATE_BYTES, IN_VAULT));
        ck_assert(!core_holds(core, len, STATE_BYTES, IN_SCRATCH));
    }
    free(core);
}
END_TEST

/* Every other key (of the encoder, of input, of a client's session) lies in ordinary memory of a stage: a
 * stage that has locked itself down leaves no core at all. */
START_TEST(a_locked_down_process_leaves_no_core)
{
    uint8_t *core;
    ck_assert_uint_eq(core_of(true, &core), 0);
    free(core);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("mistakes_host");
    TCase *t = tcase_create("mistakes_host");
    tcase_add_loop_test(t, shared_memory_can_not_be_truncated, 0, 9);
    tcase_add_test(t, what_can_be_truncated_is_not_mapped);
    tcase_add_test(t, fields_that_change_while_they_are_read);
    tcase_add_test(t, a_core_holds_no_key_of_page_or_vault);
    tcase_add_test(t, a_locked_down_process_leaves_no_core);
    suite_add_tcase(s, t);
    return wv_run_suite(s);
}
