/* See session_vault.h. A copy is: u32 magic, u16 version, u16 slot, u64 generation, u32 length of all, u32 0,
 * the state, u64 checksum. The head says for each slot which generation was completed last. */
#include "services/transport/session_vault.h"

#include "lib/base/bytes.h"
#include "lib/base/util.h"
#include "lib/ipc/memfd.h"
#include "rift/crypto/derive.h"

#include <errno.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>

#define HEAD_MAGIC     UINT64_C(0x31544c5641535657) /* "WVSAVLT1" */
#define COPY_MAGIC     0x59504356u
#define COPY_HEAD      24u
#define COPY_TAIL      8u
#define WEIGHT_YOUNG   16u
#define WEIGHT_SHORT   1u
#define WEIGHT_LIMIT   32u
#define GENERATION_MAX UINT32_MAX

enum life { LIFE_YOUNG, LIFE_SETTLED, LIFE_GOOD };

/* The first page. */
struct head {
    _Atomic uint64_t magic;
    _Atomic uint32_t version;
    _Atomic uint32_t in_use; /* the process before, or this one, found or wrote a state */
    _Atomic uint32_t life;
    _Atomic uint32_t cut_short; /* weight of the lives in a row that ended early */
    /* Low half: the generation, 0: none. High half: the same, inverted. */
    _Alignas(64) _Atomic uint64_t done[WV_SESSION_VAULT_SLOTS];
};
_Static_assert(sizeof(struct head) <= WV_SESSION_VAULT_HEAD_BYTES, "the head is one page");
_Static_assert(sizeof(_Atomic uint64_t) == 8 && ATOMIC_LLONG_LOCK_FREE == 2, "shared between processes");

struct wv_session_vault {
    size_t bytes;
    unsigned slots;
    struct head *head;
    uint8_t *copies;
    uint8_t *scratch; /* one copy, private */
    uint64_t born_ns;
    uint32_t generation[WV_SESSION_VAULT_SLOTS]; /* of the newest copy */
    uint8_t newest[WV_SESSION_VAULT_SLOTS];      /* which of the two it is */
    size_t used[WV_SESSION_VAULT_SLOTS][2];      /* bytes to wipe */
};

static uint8_t *copy_of(const struct wv_session_vault *v, unsigned slot, unsigned copy)
{
    return v->copies + ((size_t)slot * 2 + copy) * WV_SESSION_VAULT_COPY_BYTES;
}

static uint64_t mark_of(uint32_t generation)
{
    return (uint64_t)~generation << 32 | generation;
}

/* ---- beginning and end of a life ---- */

static void wipe_slot(struct wv_session_vault *v, unsigned slot)
{
    atomic_store(&v->head->done[slot], 0);
    for (unsigned i = 0; i < 2; i++) {
        explicit_bzero(copy_of(v, slot, i), v->used[slot][i]);
        v->used[slot][i] = 0;
    }
    v->generation[slot] = 0;
}

/* The bytes of a copy that may hold something. A copy is written from its beginning; an untouched one costs a
 * look at its first page. */
static size_t used_bytes(const uint8_t *copy)
{
    static const uint8_t zero[COPY_HEAD];
    return memcmp(copy, zero, sizeof zero) == 0 ? 0 : WV_SESSION_VAULT_COPY_BYTES;
}

static void wipe_all(struct wv_session_vault *v)
{
    for (unsigned slot = 0; slot < v->slots; slot++)
        wipe_slot(v, slot);
    memset(v->head, 0, sizeof *v->head);
    atomic_store(&v->head->version, WV_SESSION_VAULT_VERSION);
    atomic_store(&v->head->magic, HEAD_MAGIC);
}

/* What the life before this one says about the vault. Returns whether it is suspect. */
static bool judge_last_life(struct head *h)
{
    uint32_t life = atomic_load(&h->life), weight = atomic_load(&h->cut_short);
    if (!atomic_load(&h->in_use) || life >= LIFE_GOOD)
        weight = 0;
    else
        weight += life == LIFE_YOUNG ? WEIGHT_YOUNG : WEIGHT_SHORT;
    atomic_store(&h->cut_short, weight);
    return weight >= WEIGHT_LIMIT;
}

static bool begin_life(struct wv_session_vault *v)
{
    struct head *h = v->head;
    bool fresh = true, wiped = false;
    for (unsigned slot = 0; slot < v->slots; slot++)
        for (unsigned i = 0; i < 2; i++) {
            v->used[slot][i] = used_bytes(copy_of(v, slot, i));
            fresh = fresh && !v->used[slot][i];
        }
    if (atomic_load(&h->magic) != HEAD_MAGIC || atomic_load(&h->version) != WV_SESSION_VAULT_VERSION) {
        wiped = !fresh || atomic_load(&h->magic) != 0;
        wipe_all(v);
    } else if (judge_last_life(h)) {
        wiped = true;
        wipe_all(v);
    }
    atomic_store(&h->in_use, 0);
    atomic_store(&h->life, LIFE_YOUNG);
    return wiped;
}

int wv_session_vault_open(struct wv_session_vault **ret, int fd, uint64_t now, bool *ret_wiped)
{
    size_t bytes;
    void *memory;
    int r = wv_memfd_size(fd, &bytes);
    if (r < 0)
        return r;
    if (bytes < WV_SESSION_VAULT_HEAD_BYTES + 2 * WV_SESSION_VAULT_COPY_BYTES)
        return -EBADMSG;
    struct wv_session_vault *v = calloc(1, sizeof *v);
    if (!v)
        return -ENOMEM;
    r = wv_memfd_map(fd, bytes, true, &memory);
    if (r < 0) {
        free(v);
        return r;
    }
    v->scratch =
        mmap(NULL, WV_SESSION_VAULT_COPY_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (v->scratch == MAP_FAILED || madvise(memory, bytes, MADV_DONTDUMP) < 0 ||
        madvise(v->scratch, WV_SESSION_VAULT_COPY_BYTES, MADV_DONTDUMP) < 0) {
        r = -errno;
        if (v->scratch != MAP_FAILED)
            munmap(v->scratch, WV_SESSION_VAULT_COPY_BYTES);
        munmap(memory, bytes);
        free(v);
        return r;
    }
    v->bytes = bytes;
    v->head = memory;
    v->copies = (uint8_t *)memory + WV_SESSION_VAULT_HEAD_BYTES;
    v->slots = (unsigned)WV_MIN((bytes - WV_SESSION_VAULT_HEAD_BYTES) / (2 * WV_SESSION_VAULT_COPY_BYTES),
                                (size_t)WV_SESSION_VAULT_SLOTS);
    v->born_ns = now;
    *ret_wiped = begin_life(v);
    *ret = v;
    return 0;
}

struct wv_session_vault *wv_session_vault_close(struct wv_session_vault *v)
{
    if (!v)
        return NULL;
    explicit_bzero(v->scratch, WV_SESSION_VAULT_COPY_BYTES);
    munmap(v->scratch, WV_SESSION_VAULT_COPY_BYTES);
    munmap(v->head, v->bytes);
    free(v);
    return NULL;
}

unsigned wv_session_vault_slots(const struct wv_session_vault *v)
{
    return v->slots;
}

uint64_t wv_session_vault_live(struct wv_session_vault *v, uint64_t now)
{
    static const struct {
        uint64_t after_ns;
        uint32_t life;
    } stations[] = {{WV_SESSION_VAULT_SETTLED_NS, LIFE_SETTLED}, {WV_SESSION_VAULT_GOOD_NS, LIFE_GOOD}};
    for (size_t i = 0; i < WV_ARRAY_SIZE(stations); i++) {
        if (now - v->born_ns < stations[i].after_ns)
            return v->born_ns + stations[i].after_ns;
        if (atomic_load(&v->head->life) < stations[i].life)
            atomic_store(&v->head->life, stations[i].life);
    }
    return UINT64_MAX;
}

void wv_session_vault_leave(struct wv_session_vault *v)
{
    atomic_store(&v->head->life, LIFE_GOOD);
}

/* ---- reading ---- */

/* Copies one copy of SLOT into the scratch and checks it. Returns its generation, 0: it is none. */
static uint32_t load(struct wv_session_vault *v, unsigned slot, unsigned copy, size_t *ret_len)
{
    struct wv_reader r, sum;
    memcpy(v->scratch, copy_of(v, slot, copy), COPY_HEAD);
    wv_reader_init(&r, v->scratch, COPY_HEAD);
    uint32_t magic = wv_read_u32(&r);
    uint16_t version = wv_read_u16(&r), number = wv_read_u16(&r);
    uint64_t generation = wv_read_u64(&r);
    uint32_t length = wv_read_u32(&r), zero = wv_read_u32(&r);
    if (magic != COPY_MAGIC || version != WV_SESSION_VAULT_VERSION || number != slot || zero ||
        generation == 0 || generation >= GENERATION_MAX || length < COPY_HEAD + COPY_TAIL ||
        length > WV_SESSION_VAULT_COPY_BYTES)
        return 0;
    memcpy(v->scratch + COPY_HEAD, copy_of(v, slot, copy) + COPY_HEAD, length - COPY_HEAD);
    wv_reader_init(&sum, v->scratch + length - COPY_TAIL, COPY_TAIL);
    if (wv_read_u64(&sum) != rift_checksum(v->scratch, length - COPY_TAIL))
        return 0;
    v->used[slot][copy] = length; /* whoever wrote it wiped what lay behind */
    *ret_len = length;
    return (uint32_t)generation;
}

int wv_session_vault_read(struct wv_session_vault *v, unsigned slot, const uint8_t **ret_data,
                          size_t *ret_len)
{
    uint64_t mark = atomic_load(&v->head->done[slot]);
    uint32_t done = (uint32_t)mark;
    size_t len = 0;
    if (mark == 0 && !v->used[slot][0] && !v->used[slot][1])
        return WV_SESSION_VAULT_EMPTY;
    uint32_t first = load(v, slot, 0, &len), second = load(v, slot, 1, &len);
    uint32_t newest = WV_MAX(first, second);
    unsigned copy = second > first;
    if (mark == 0) /* the very first write was not finished, or the last session was being wiped */
        return WV_SESSION_VAULT_EMPTY;
    if (mark != mark_of(done) || newest == 0 || newest < done)
        return WV_SESSION_VAULT_BAD;
    if (load(v, slot, copy, &len) != newest)
        return WV_SESSION_VAULT_BAD;
    v->generation[slot] = newest;
    v->newest[slot] = (uint8_t)copy;
    atomic_store(&v->head->in_use, 1);
    *ret_data = v->scratch + COPY_HEAD;
    *ret_len = len - COPY_HEAD - COPY_TAIL;
    return 0;
}

/* ---- writing ---- */

uint8_t *wv_session_vault_room(struct wv_session_vault *v, size_t *ret_capacity)
{
    *ret_capacity = WV_SESSION_VAULT_COPY_BYTES - COPY_HEAD - COPY_TAIL;
    return v->scratch + COPY_HEAD;
}

void wv_session_vault_write(struct wv_session_vault *v, unsigned slot, size_t len)
{
    struct wv_writer w;
    if (v->generation[slot] >=
        GENERATION_MAX - 1) /* years of typing; once then, a death here ends a session */
        wipe_slot(v, slot);
    unsigned copy = v->generation[slot] ? !v->newest[slot] : 0;
    uint32_t generation = v->generation[slot] + 1;
    size_t body = COPY_HEAD + len, all = body + COPY_TAIL;
    uint8_t *to = copy_of(v, slot, copy);
    wv_writer_init(&w, v->scratch, COPY_HEAD);
    wv_write_u32(&w, COPY_MAGIC);
    wv_write_u16(&w, WV_SESSION_VAULT_VERSION);
    wv_write_u16(&w, (uint16_t)slot);
    wv_write_u64(&w, generation);
    wv_write_u32(&w, (uint32_t)all);
    wv_write_u32(&w, 0);
    wv_writer_init(&w, v->scratch + body, COPY_TAIL);
    wv_write_u64(&w, rift_checksum(v->scratch, body));
    memcpy(to, v->scratch, all);
    /* A longer state of before holds what was typed then. */
    if (v->used[slot][copy] > all)
        explicit_bzero(to + all, v->used[slot][copy] - all);
    v->used[slot][copy] = all;
    v->newest[slot] = (uint8_t)copy;
    v->generation[slot] = generation;
    atomic_store_explicit(&v->head->done[slot], mark_of(generation), memory_order_release);
    atomic_store_explicit(&v->head->in_use, 1, memory_order_relaxed);
}

void wv_session_vault_erase(struct wv_session_vault *v, unsigned slot)
{
    wipe_slot(v, slot);
}
