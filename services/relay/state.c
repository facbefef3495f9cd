/* The kept state as a page: a head, then a record for each place of the table. See state.h. */
#include "services/relay/state.h"

#include "lib/base/bytes.h"
#include "lib/base/util.h"
#include "lib/ipc/memfd.h"

#include <errno.h>
#include <fcntl.h>
#include <sodium.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#define MAGIC      UINT64_C(0x314c525652565747) /* "GWVRVRL1" */
#define HEAD_BYTES 128
#define BOOT_BYTES 36
#define BYTES_MAX  (HEAD_BYTES + (size_t)RIFT_RELAY_RECORD_BYTES * 1000000)

struct head {
    uint32_t places;
    uint8_t boot[BOOT_BYTES], secret[32], draining;
};

struct wv_relay_state {
    struct head head;
    bool was_draining, is_new;
    int fd;
    uint8_t *page;
    size_t bytes;
    uint8_t *old; /* records of the process before */
    size_t old_places;
};

static size_t bytes_for(size_t places)
{
    return HEAD_BYTES + places * RIFT_RELAY_RECORD_BYTES;
}

static void write_head(const struct head *head, uint8_t *page)
{
    uint8_t bytes[HEAD_BYTES] = {0};
    struct wv_writer w;
    wv_writer_init(&w, bytes, sizeof bytes);
    wv_write_u64(&w, MAGIC);
    wv_write_u32(&w, head->places);
    wv_write_u32(&w, RIFT_RELAY_RECORD_BYTES);
    wv_write_span(&w, head->boot, sizeof head->boot);
    wv_write_span(&w, head->secret, sizeof head->secret);
    wv_write_u8(&w, head->draining);
    memcpy(page, bytes, sizeof bytes);
}

static bool read_head(const uint8_t *page, size_t len, const uint8_t boot[BOOT_BYTES], struct head *ret)
{
    struct wv_reader r;
    struct head head;
    if (len < HEAD_BYTES)
        return false;
    wv_reader_init(&r, page, HEAD_BYTES);
    uint64_t magic = wv_read_u64(&r);
    head.places = wv_read_u32(&r);
    uint32_t record = wv_read_u32(&r);
    memcpy(head.boot, wv_read_span(&r, sizeof head.boot), sizeof head.boot);
    memcpy(head.secret, wv_read_span(&r, sizeof head.secret), sizeof head.secret);
    head.draining = wv_read_u8(&r);
    /* Monotonic times of another boot mean nothing. */
    if (magic != MAGIC || record != RIFT_RELAY_RECORD_BYTES || len != bytes_for(head.places) ||
        memcmp(head.boot, boot, BOOT_BYTES) != 0)
        return false;
    *ret = head;
    return true;
}

static int read_all(int fd, uint8_t **ret, size_t *ret_len)
{
    struct stat st;
    if (fstat(fd, &st) < 0)
        return -errno;
    if (!S_ISREG(st.st_mode) || st.st_size < 0 || (uint64_t)st.st_size > BYTES_MAX)
        return -EBADMSG;
    size_t len = (size_t)st.st_size, at = 0;
    uint8_t *data = malloc(len + 1);
    if (!data)
        return -ENOMEM;
    while (at < len) {
        ssize_t n = pread(fd, data + at, len - at, (off_t)at);
        if (n <= 0)
            break;
        at += (size_t)n;
    }
    *ret = data;
    *ret_len = at;
    return 0;
}

static int read_boot(uint8_t ret[BOOT_BYTES])
{
    wv_cleanup(wv_close_p) int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    return read(fd, ret, BOOT_BYTES) == BOOT_BYTES ? 0 : -EIO;
}

/* What S->fd holds, as a copy of our own. */
static int take_old(struct wv_relay_state *s)
{
    wv_cleanup(wv_free_p) uint8_t *data = NULL;
    struct head old;
    size_t len = 0;
    int r = s->fd < 0 ? 0 : read_all(s->fd, &data, &len);
    if (r < 0 && r != -EBADMSG)
        return r;
    if (!data || !read_head(data, len, s->head.boot, &old))
        return 0;
    memcpy(s->head.secret, old.secret, sizeof old.secret);
    s->head.draining = old.draining;
    s->was_draining = old.draining;
    s->old_places = old.places;
    s->old = data;
    data = NULL;
    return 0;
}

/* Memory for the new page: that of before where it fits, so that systemd need not be told. */
static int make_memory(struct wv_relay_state *s)
{
    void *memory = NULL;
    size_t have;
    if (s->old && wv_memfd_size(s->fd, &have) == 0 && have == s->bytes &&
        wv_memfd_map(s->fd, s->bytes, true, &memory) == 0) {
        s->page = memory;
        return 0;
    }
    s->fd = wv_close(s->fd);
    int r = wv_memfd_create("wavry-relay-state", s->bytes, &s->fd);
    if (r == 0)
        r = wv_memfd_map(s->fd, s->bytes, true, &memory);
    if (r == 0)
        s->page = memory;
    s->is_new = r == 0;
    return r;
}

static int make_file(struct wv_relay_state *s)
{
    if ((!s->old && ftruncate(s->fd, 0) < 0) || ftruncate(s->fd, (off_t)s->bytes) < 0)
        return -errno;
    void *memory = mmap(NULL, s->bytes, PROT_READ | PROT_WRITE, MAP_SHARED, s->fd, 0);
    if (memory == MAP_FAILED)
        return -errno;
    s->page = memory;
    return 0;
}

static int open_file(struct wv_relay_state *s, const char *path)
{
    struct stat st;
    s->fd = wv_close(s->fd);
    s->fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0600);
    if (s->fd < 0 || fstat(s->fd, &st) < 0)
        return -errno;
    return S_ISREG(st.st_mode) && st.st_uid == geteuid() && !(st.st_mode & 077) ? 0 : -EPERM;
}

int wv_relay_state_open(struct wv_relay_state **ret, int take_stored_fd, const char *path, size_t max_leases)
{
    struct wv_relay_state *s = calloc(1, sizeof *s);
    if (!s) {
        wv_close(take_stored_fd);
        return -ENOMEM;
    }
    s->fd = take_stored_fd;
    s->bytes = bytes_for(max_leases);
    randombytes_buf(s->head.secret, sizeof s->head.secret);
    int r = *path ? read_boot(s->head.boot) : 0; /* memory ends with the boot by itself */
    if (r == 0 && *path)
        r = open_file(s, path);
    if (r == 0)
        r = take_old(s);
    if (r == 0)
        r = *path ? make_file(s) : make_memory(s);
    if (r < 0) {
        wv_relay_state_free(s);
        return r;
    }
    s->head.places = (uint32_t)max_leases;
    write_head(&s->head, s->page);
    *ret = s;
    return 0;
}

struct wv_relay_state *wv_relay_state_free(struct wv_relay_state *s)
{
    if (!s)
        return NULL;
    if (s->page)
        munmap(s->page, s->bytes);
    wv_close(s->fd);
    free(s->old);
    sodium_memzero(s, sizeof *s);
    free(s);
    return NULL;
}

int wv_relay_state_new_fd(const struct wv_relay_state *s)
{
    return s->is_new ? s->fd : -1;
}

const uint8_t *wv_relay_state_secret(const struct wv_relay_state *s)
{
    return s->head.secret;
}

bool wv_relay_state_was_draining(const struct wv_relay_state *s)
{
    return s->was_draining;
}

static uint8_t *record_at(const struct wv_relay_state *s, size_t place)
{
    return s->page + bytes_for(place);
}

size_t wv_relay_state_restore(struct wv_relay_state *s, struct rift_relay *relay,
                              const struct rift_relay_clock *clock, size_t *ret_lost)
{
    uint8_t record[RIFT_RELAY_RECORD_BYTES];
    size_t taken = 0, lost = 0;
    for (size_t i = 0; i < s->old_places; i++) {
        const uint8_t *old = s->old + i * RIFT_RELAY_RECORD_BYTES + HEAD_BYTES;
        int r = rift_relay_import(relay, i, old, clock);
        taken += r == 0;
        lost += r < 0;
        if (i >= s->head.places || r == RIFT_RELAY_EMPTY)
            continue;
        rift_relay_export(relay, i, record); /* of a lost one: that there is none */
        memcpy(record_at(s, i), record, sizeof record);
    }
    free(s->old);
    s->old = NULL;
    s->old_places = 0;
    *ret_lost = lost;
    return taken;
}

void wv_relay_state_keep(struct wv_relay_state *s, struct rift_relay *relay)
{
    uint8_t record[RIFT_RELAY_RECORD_BYTES];
    size_t place;
    while (rift_relay_next_changed(relay, &place)) {
        rift_relay_export(relay, place, record);
        memcpy(record_at(s, place), record, sizeof record);
    }
    if (s->head.draining != rift_relay_is_draining(relay)) {
        s->head.draining = rift_relay_is_draining(relay);
        write_head(&s->head, s->page);
    }
}
