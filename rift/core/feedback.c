/* Writer and reader of feedback reports; feedback.h says every byte. It must never trust a count or a time of
 * a report, and never allocate per packet. */
#include "rift/core/feedback.h"

#include "lib/base/bytes.h"
#include "lib/base/util.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Packets that the writer remembers: two report intervals at 80 Mbit/s and 60 frames a second are 280. */
#define RING RIFT_FEEDBACK_MAX_PACKETS
/* A report is due this long after the first arrival that no report has told: with the way of a timer it stays
 * under the 20 ms that the sender is promised. */
#define INTERVAL_NS (16 * WV_NS_PER_MS)
/* A frame's end is reported at once, but reports keep this distance: 60 frames a second give 60 reports. */
#define DISTANCE_NS (10 * WV_NS_PER_MS)
/* What reports may cost on the mean, headers included: 56 kbit/s keeps below the 60 that are allowed. The
 * burst lets a few long reports pass. */
#define BUDGET_BYTES_PER_S 7000.0
#define BUDGET_BURST_BYTES 600.0
#define BUDGET_LOW_BYTES   150.0 /* less than this left: no more reports than the interval asks for */
/* What counts as exact: deviations from the straight line that the clock's rounding makes. */
#define EXACT_US 2
/* Bent runs may deviate further, doubled until the report fits its budget, at last by more than any report is
 * long. */
#define TOLERANCE_LAST_US (1 << 17)
/* Longest report that the budget asks for; below this nothing is made coarser. */
#define COMFORT_BYTES 64
/* Longest varint. */
#define VARINT_BYTES 10

struct arrival {
    uint64_t seq, time_us;
    bool present, ce;
};

struct rift_feedback_writer {
    struct arrival ring[RING];
    uint64_t first, next;            /* remembered: [first, next) */
    uint64_t told, told_before;      /* where the last report ended, and the one before it */
    uint64_t pending_since, last_at; /* first untold arrival (NEVER: none); last report */
    uint64_t newest_us;              /* arrival of the newest packet */
    uint32_t number;
    double allowance; /* bytes that reports may take now */
    bool any, frame_end, ever;
};

int rift_feedback_writer_new(struct rift_feedback_writer **ret_writer, double fps)
{
    if (!(fps > 0))
        return -EINVAL;
    struct rift_feedback_writer *w = calloc(1, sizeof(*w));
    if (!w)
        return -ENOMEM;
    w->pending_since = RIFT_CC_NEVER;
    w->allowance = BUDGET_BURST_BYTES;
    *ret_writer = w;
    return 0;
}

struct rift_feedback_writer *rift_feedback_writer_free(struct rift_feedback_writer *w)
{
    free(w);
    return NULL;
}

static struct arrival *slot(struct rift_feedback_writer *w, uint64_t seq)
{
    return &w->ring[seq % RING];
}

static const struct arrival *slot_at(const struct rift_feedback_writer *w, uint64_t seq)
{
    return &w->ring[seq % RING];
}

/* Makes room so that SEQ is the newest remembered. */
static void extend(struct rift_feedback_writer *w, uint64_t seq)
{
    if (!w->any || seq - w->next >= RING) { /* the first, or a jump past everything remembered */
        w->first = w->next = w->told = w->told_before = seq;
        w->any = true;
    }
    for (; w->next <= seq && w->next != UINT64_MAX; w->next++)
        *slot(w, w->next) = (struct arrival){.seq = w->next};
    if (w->next - w->first > RING)
        w->first = w->next - RING;
    w->told = WV_MAX(w->told, w->first);
    w->told_before = WV_MAX(w->told_before, w->first);
}

/* A clock that was set back must not hold up reports until it has caught up. */
static void follow_clock(struct rift_feedback_writer *w, uint64_t now)
{
    if (w->ever && w->last_at > now)
        w->last_at = now;
    if (w->pending_since != RIFT_CC_NEVER && w->pending_since > now)
        w->pending_since = now;
}

void rift_feedback_on_packet(struct rift_feedback_writer *w, uint64_t seq, bool last_in_frame, bool ce,
                             uint64_t now)
{
    follow_clock(w, now);
    if (seq == UINT64_MAX || (w->any && seq < w->first))
        return;
    if (!w->any || seq >= w->next) {
        extend(w, seq);
        w->newest_us = now / WV_NS_PER_US;
    }
    struct arrival *a = slot(w, seq);
    if (a->present)
        return;
    *a = (struct arrival){.seq = seq, .time_us = now / WV_NS_PER_US, .present = true, .ce = ce};
    if (w->pending_since == RIFT_CC_NEVER)
        w->pending_since = now;
    w->frame_end |= last_in_frame;
}

uint64_t rift_feedback_timeout(const struct rift_feedback_writer *w)
{
    if (w->pending_since == RIFT_CC_NEVER)
        return RIFT_CC_NEVER;
    uint64_t due = w->pending_since + INTERVAL_NS;
    if (w->frame_end) {
        uint64_t distance = w->allowance < BUDGET_LOW_BYTES ? INTERVAL_NS : DISTANCE_NS;
        due = w->ever ? WV_MIN(due, w->last_at + distance) : w->pending_since;
    }
    return due;
}

static void write_varint(struct wv_writer *w, uint64_t v)
{
    for (; v >= 0x80; v >>= 7)
        wv_write_u8(w, (uint8_t)(v | 0x80));
    wv_write_u8(w, (uint8_t)v);
}

static void write_signed(struct wv_writer *w, int64_t v)
{
    write_varint(w, ((uint64_t)v << 1) ^ (uint64_t)(v >> 63));
}

/* Whether every arrival between FIRST and LAST lies within TOLERANCE of the straight line. */
static bool straight(const struct rift_feedback_writer *w, uint64_t first, uint64_t last, int64_t tolerance)
{
    int64_t length = (int64_t)(slot_at(w, last)->time_us - slot_at(w, first)->time_us);
    double step = (double)length / (double)(last - first);
    for (uint64_t s = first + 1; s < last; s++) {
        int64_t at = (int64_t)(slot_at(w, s)->time_us - slot_at(w, first)->time_us);
        if (fabs((double)at - step * (double)(s - first)) > (double)tolerance)
            return false;
    }
    return true;
}

/* The last packet of a long straight line from FIRST: doubling, then halving, so that a report costs n log n
 * and not n^2. A curve that leaves the line and comes back may end it early, which is no harm. */
static uint64_t line_end(const struct rift_feedback_writer *w, uint64_t first, uint64_t limit,
                         int64_t tolerance)
{
    uint64_t good = first, step = 1;
    while (good < limit && step) {
        uint64_t trial = good + WV_MIN(step, limit - good);
        if (straight(w, first, trial, tolerance)) {
            good = trial;
            step *= 2;
        } else {
            step /= 2;
        }
    }
    return good;
}

struct run {
    uint64_t first, last;
    bool exact;
};

/* The run that starts at FIRST: exact as far as that goes, else bent after its first two packets. */
static struct run find_run(const struct rift_feedback_writer *w, uint64_t first, int64_t tolerance)
{
    uint64_t limit = first;
    while (limit + 1 < w->next && slot_at(w, limit + 1)->present)
        limit++;
    struct run run = {first, line_end(w, first, limit, EXACT_US), true};
    if (tolerance > EXACT_US && run.last < limit) {
        uint64_t bent = line_end(w, first + 1, limit, tolerance);
        if (bent > run.last + 1)
            run = (struct run){first, bent, false};
    }
    return run;
}

static void write_run(const struct rift_feedback_writer *w, struct wv_writer *out, const struct run *run,
                      uint64_t lost, const struct arrival *before)
{
    const struct arrival *first = slot_at(w, run->first), *last = slot_at(w, run->last);
    uint64_t ce = 0;
    for (uint64_t s = run->first; s <= run->last; s++)
        ce += slot_at(w, s)->ce;
    write_varint(out, (run->last - run->first) * 8 + (run->exact ? 0 : 4) + (lost ? 2 : 0) + (ce ? 1 : 0));
    if (lost)
        write_varint(out, lost);
    if (before)
        write_signed(out, (int64_t)(first->time_us - before->time_us));
    if (!run->exact) {
        const struct arrival *second = slot_at(w, run->first + 1);
        write_signed(out, (int64_t)(second->time_us - first->time_us));
        first = second;
    }
    if (run->last > run->first)
        write_signed(out, (int64_t)(last->time_us - first->time_us));
    if (ce)
        write_varint(out, ce);
}

/* One report over [from, next) with the given tolerance. Returns its length, 0 when it does not fit. */
static size_t compose(const struct rift_feedback_writer *w, uint8_t *buffer, size_t capacity, uint64_t from,
                      int64_t tolerance, uint64_t now)
{
    while (from < w->next && !slot_at(w, from)->present)
        from++;
    if (from >= w->next)
        return 0;
    struct wv_writer out;
    wv_writer_init(&out, buffer, capacity);
    wv_write_u8(&out, RIFT_FEEDBACK_VERSION);
    write_varint(&out, w->number);
    wv_write_u64(&out, from);
    wv_write_u64(&out, slot_at(w, from)->time_us);
    uint64_t now_us = now / WV_NS_PER_US;
    write_varint(&out, now_us > w->newest_us ? now_us - w->newest_us : 0);
    const struct arrival *before = NULL;
    uint64_t lost = 0;
    for (uint64_t s = from; s < w->next; s++) {
        if (!slot_at(w, s)->present) {
            lost++;
            continue;
        }
        struct run run = find_run(w, s, tolerance);
        write_run(w, &out, &run, lost, before);
        before = slot_at(w, run.last);
        lost = 0;
        s = run.last;
    }
    return out.failed ? 0 : out.length;
}

size_t rift_feedback_write(struct rift_feedback_writer *w, uint8_t *buffer, size_t capacity, uint64_t now)
{
    follow_clock(w, now);
    if (rift_feedback_timeout(w) > now)
        return 0;
    capacity = WV_MIN(capacity, (size_t)RIFT_FEEDBACK_MAX_BYTES);
    if (w->ever)
        w->allowance += (double)(now - w->last_at) / 1e9 * BUDGET_BYTES_PER_S;
    w->allowance = fmin(w->allowance, BUDGET_BURST_BYTES);
    double room = fmax(COMFORT_BYTES, w->allowance / 2 - RIFT_FEEDBACK_HEADER_BYTES);

    size_t len = 0;
    int64_t tolerance = EXACT_US;
    for (uint64_t from = w->told_before;; tolerance *= 2) {
        len = compose(w, buffer, capacity, from, tolerance, now);
        if (len && (double)len <= room)
            break;
        if (tolerance < TOLERANCE_LAST_US)
            continue;
        if (len || from == w->told) /* lossy beyond the budget: say it all the same, for once */
            break;
        from = w->told; /* does not even fit a datagram: without the repetition */
        tolerance = EXACT_US;
    }
    w->pending_since = RIFT_CC_NEVER;
    w->frame_end = false;
    if (!len)
        return 0;
    w->allowance -= (double)len + RIFT_FEEDBACK_HEADER_BYTES;
    w->last_at = now;
    w->ever = true;
    w->number++;
    w->told_before = w->told;
    w->told = w->next;
    return len;
}

static uint64_t read_varint(struct wv_reader *r)
{
    uint64_t v = 0;
    for (unsigned i = 0; i < VARINT_BYTES; i++) {
        uint8_t b = wv_read_u8(r);
        if (i == VARINT_BYTES - 1 && b > 1)
            break;
        v |= (uint64_t)(b & 0x7f) << (7 * i);
        if (!(b & 0x80))
            return v;
    }
    r->failed = true;
    return 0;
}

static int64_t read_signed(struct wv_reader *r)
{
    uint64_t v = read_varint(r);
    return (int64_t)(v >> 1) ^ -(int64_t)(v & 1);
}

struct run_fields {
    uint64_t count, lost, ce;
    int64_t gap, head, length;
    bool exact;
};

static int read_fields(struct wv_reader *r, bool first, struct run_fields *ret)
{
    uint64_t kind = read_varint(r);
    struct run_fields f = {.count = kind / 8 + 1, .exact = !(kind & 4)};
    f.lost = kind & 2 ? read_varint(r) : 0;
    f.gap = first ? 0 : read_signed(r);
    f.head = f.exact ? 0 : read_signed(r);
    f.length = f.count > 1 ? read_signed(r) : 0;
    f.ce = kind & 1 ? read_varint(r) : 0;
    if (r->failed || f.ce > f.count || (!f.exact && f.count < 3))
        return -EBADMSG;
    if ((kind & 2 && (f.lost == 0 || first)) || (kind & 1 && f.ce == 0))
        return -EBADMSG;
    *ret = f;
    return 0;
}

/* Nanoseconds from the start of a line of LENGTH_US to packet I of N + 1, bounded. */
static uint64_t along(int64_t length_us, uint64_t i, uint64_t n)
{
    double ns = n ? (double)length_us * 1000.0 * (double)i / (double)n : 0;
    return (uint64_t)(int64_t)fmin(fmax(ns, -9e18), 9e18);
}

/* Reads one run that follows SEQ (its first candidate) and TIME_US, both moved past the run. Times wrap as
 * unsigned numbers do. */
static int read_run(struct wv_reader *r, struct rift_cc_report *report, struct rift_cc_arrival *arrivals,
                    bool first, uint64_t *seq, uint64_t *time_us)
{
    struct run_fields f;
    int err = read_fields(r, first, &f);
    if (err < 0)
        return err;
    if (f.count > RIFT_FEEDBACK_MAX_PACKETS - report->n || f.lost > UINT64_MAX - f.count ||
        *seq > UINT64_MAX - f.count - f.lost)
        return -EBADMSG;
    uint64_t start_us = *time_us + (uint64_t)f.gap, line_us = start_us + (uint64_t)f.head;
    uint64_t bend = f.exact ? 0 : 1; /* where the line starts */
    for (uint64_t i = 0; i < f.count; i++) {
        uint64_t ns = i < bend ? start_us * WV_NS_PER_US
                               : line_us * WV_NS_PER_US + along(f.length, i - bend, f.count - 1 - bend);
        arrivals[report->n++] = (struct rift_cc_arrival){
            .seq = *seq + f.lost + i,
            .arrival_ns = ns,
            .ce = i < f.ce,
            .exact = f.exact || i < 2,
        };
    }
    *seq += f.lost + f.count;
    *time_us = line_us + (uint64_t)f.length;
    return 0;
}

int rift_feedback_read(const uint8_t *data, size_t len, struct rift_cc_arrival *arrivals,
                       struct rift_cc_report *ret_report)
{
    if (len > RIFT_FEEDBACK_MAX_BYTES)
        return -EBADMSG;
    struct wv_reader r;
    wv_reader_init(&r, data, len);
    if (wv_read_u8(&r) != RIFT_FEEDBACK_VERSION)
        return -EBADMSG;
    if (read_varint(&r) > UINT32_MAX)
        return -EBADMSG;
    uint64_t seq = wv_read_u64(&r), time_us = wv_read_u64(&r), held_us = read_varint(&r);
    if (r.failed)
        return -EBADMSG;
    struct rift_cc_report report = {
        .arrivals = arrivals,
        .held_ns = WV_MIN(held_us, WV_NS_PER_S) * WV_NS_PER_US,
    };
    do {
        int err = read_run(&r, &report, arrivals, report.n == 0, &seq, &time_us);
        if (err < 0)
            return err;
    } while (r.left > 0);
    *ret_report = report;
    return 0;
}
