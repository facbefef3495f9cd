/* The live table: every stage's state, the latency of the last second, rates and drops, and who is connected.
 * Reads the host's pages once a second and never more; puts the terminal back as it was. */
#include "ctl/ctl.h"

#include "ctl/format.h"
#include "lib/base/util.h"
#include "lib/ipc/loop.h"
#include "lib/ipc/text.h"

#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sysexits.h>
#include <termios.h>

#define PERIOD_NS   WV_NS_PER_S
#define COLUMNS_MAX 512

struct page {
    char stage[32];
    bool fresh; /* read this time */
    bool based; /* BEFORE is the same page, a period ago */
    struct wv_metrics_snapshot now, before;
};

struct traffic {
    uint32_t id;
    uint64_t bytes_sent, frames_sent;
};

struct top {
    struct wv_ctl *c;
    struct wv_loop *loop;
    bool live; /* a terminal, and no end given */
    struct page *pages;
    size_t n_pages;
    struct traffic traffic[WV_SESSIONS_MAX];
    uint64_t at_ns, before_ns, printed;
    int exit_code;
};

static struct page *page_of(struct top *t, const char *stage)
{
    for (size_t i = 0; i < t->n_pages; i++)
        if (strcmp(t->pages[i].stage, stage) == 0)
            return &t->pages[i];
    if (t->n_pages == WV_CTL_STAGES_MAX)
        return NULL;
    struct page *page = &t->pages[t->n_pages++];
    memset(page, 0, sizeof(*page));
    snprintf(page->stage, sizeof(page->stage), "%s", stage);
    return page;
}

static void read_pages(struct top *t, const struct wv_ctl_pages *lent)
{
    t->before_ns = t->at_ns;
    t->at_ns = wv_now_ns();
    for (size_t i = 0; i < t->n_pages; i++) {
        struct page *page = &t->pages[i];
        page->based = page->fresh;
        if (page->fresh)
            page->before = page->now;
        page->fresh = false;
    }
    for (size_t i = 0; i < lent->n; i++) {
        struct page *page = page_of(t, lent->names[i]);
        if (page)
            page->fresh = wv_metrics_read(lent->fds[i], &page->now) == 0;
    }
}

static const struct wv_metric_value *base_of(const struct page *page, const struct wv_metric_value *v)
{
    const struct wv_metric_value *base = page->based ? wv_metrics_find(&page->before, v->name) : NULL;
    return base && base->kind == v->kind ? base : NULL;
}

static uint64_t gained(const struct wv_metric_value *v, const struct wv_metric_value *base)
{
    return base && v->value > base->value ? v->value - base->value : 0;
}

static double period_s(const struct top *t)
{
    return t->before_ns && t->at_ns > t->before_ns ? (double)(t->at_ns - t->before_ns) / 1e9 : 1;
}

static bool is_drop(const char *name)
{
    static const char *const words[] = {"drop",    "lost", "bad",     "full",     "error",
                                        "refused", "fail", "skipped", "hangs",    "expired",
                                        "unasked", "late", "blocked", "timed_out"};
    for (size_t i = 0; i < WV_ARRAY_SIZE(words); i++)
        if (strstr(name, words[i]))
            return true;
    return false;
}

static void print_stages(FILE *out, const Wavry__Bus__ControlReply *r)
{
    fputs("STAGE       STATE             PID  RESTARTS  STATUS\n", out);
    for (size_t i = 0; i < r->n_stages; i++) {
        const Wavry__Bus__StageState *s = r->stages[i];
        wv_format_column(out, s->name, 12);
        wv_format_column(out, s->state, 12);
        fprintf(out, " %8d  %8u  ", s->pid, s->restarts);
        wv_format_text(out, s->status[0] || strcmp(s->state, "ready") == 0 ? s->status : s->last_exit, false);
        fputc('\n', out);
    }
}

static void format_value(const struct wv_metric_value *v, uint64_t value, char *ret, size_t capacity)
{
    if (strcmp(v->unit, "us") == 0)
        wv_format_us(value, ret, capacity);
    else
        wv_format_rate((double)value, strcmp(v->unit, "bytes") == 0 ? "B" : v->unit, ret, capacity);
}

static void print_latency(const struct top *t, FILE *out)
{
    fprintf(out, "\n%-12s%-28s %8s %10s %10s\n", "LATENCY",
            t->before_ns ? "of the last second" : "since the start", "N", "P50", "P99");
    for (size_t i = 0; i < t->n_pages; i++) {
        const struct page *page = &t->pages[i];
        for (size_t k = 0; page->fresh && k < page->now.n; k++) {
            const struct wv_metric_value *v = &page->now.values[k], *base = base_of(page, v);
            if (v->kind != WV_METRIC_HISTOGRAM)
                continue;
            if (t->live && v->value == 0) /* a screen is small */
                continue;
            uint64_t n = base ? gained(v, base) : v->value;
            fprintf(out, "%-12s%-28s %8llu", page->stage, v->name, (unsigned long long)n);
            char p50[32] = "-", p99[32] = "-";
            if (n > 0) {
                format_value(v, wv_histogram_quantile(v, base, 0.5), p50, sizeof(p50));
                format_value(v, wv_histogram_quantile(v, base, 0.99), p99, sizeof(p99));
            }
            fprintf(out, " %10s %10s\n", p50, p99);
        }
    }
}

/* Counters that moved (or, of DROPS, that ever did) and gauges. */
static void print_rates(const struct top *t, FILE *out, bool drops)
{
    fprintf(out, "\n%-12s%-28s %12s %14s\n", drops ? "DROPS" : "RATES", "", "PER SECOND",
            drops ? "EVER" : "NOW");
    bool any = false;
    for (size_t i = 0; i < t->n_pages; i++) {
        const struct page *page = &t->pages[i];
        for (size_t k = 0; page->fresh && k < page->now.n; k++) {
            const struct wv_metric_value *v = &page->now.values[k], *base = base_of(page, v);
            if (v->kind == WV_METRIC_HISTOGRAM || is_drop(v->name) != drops)
                continue;
            uint64_t n = gained(v, base);
            if (drops ? v->value == 0 : v->kind == WV_METRIC_COUNTER && n == 0)
                continue;
            any = true;
            fprintf(out, "%-12s%-28s ", page->stage, v->name);
            if (v->kind == WV_METRIC_COUNTER)
                fprintf(out, "%12.0f", (double)n / period_s(t));
            else
                fprintf(out, "%12s", "");
            if (drops || v->kind == WV_METRIC_GAUGE)
                fprintf(out, " %14llu", (unsigned long long)v->value);
            else
                fprintf(out, " %14s", "");
            fprintf(out, " %s\n", v->unit);
        }
    }
    if (!any)
        fputs("none\n", out);
}

static void print_session(const struct top *t, FILE *out, const struct wv_session_record *s,
                          const struct traffic *before)
{
    char rtt[32], p50[32], p99[32], rate[32];
    bool known =
        before->id == s->id && s->bytes_sent >= before->bytes_sent && s->frames_sent >= before->frames_sent;
    double bytes = known ? (double)(s->bytes_sent - before->bytes_sent) : 0;
    double frames = known ? (double)(s->frames_sent - before->frames_sent) : 0;
    wv_format_us(s->rtt_ns / WV_NS_PER_US, rtt, sizeof(rtt));
    wv_format_us(s->glass_p50_us, p50, sizeof(p50));
    wv_format_us(s->glass_p99_us, p99, sizeof(p99));
    wv_format_rate(bytes * 8 / period_s(t), "bit/s", rate, sizeof(rate));
    wv_format_column(out, s->name, 20);
    fputc(' ', out);
    wv_format_column(out, s->address, 24);
    fprintf(out, " %-8s %8s %12s %6.0f %7llu %9s %9s\n", s->controls ? "controls" : "views", rtt, rate,
            frames / period_s(t), (unsigned long long)s->frames_lost, p50, p99);
}

static void print_sessions(struct top *t, FILE *out, const struct wv_session_page *page)
{
    bool any = false;
    fprintf(out, "\n%-20s %-24s %-8s %8s %12s %6s %7s %9s %9s\n", "SESSIONS", "ADDRESS", "ROLE", "RTT",
            "SENT", "FPS", "LOST", "GLASS P50", "GLASS P99");
    for (unsigned i = 0; page && i < WV_SESSIONS_MAX; i++) {
        struct wv_session_record s;
        if (wv_session_page_get(page, i, &s) != 0) {
            t->traffic[i] = (struct traffic){0};
            continue;
        }
        print_session(t, out, &s, &t->traffic[i]);
        t->traffic[i] = (struct traffic){s.id, s.bytes_sent, s.frames_sent};
        any = true;
    }
    if (!any)
        fputs("none\n", out);
}

static void print_table(struct top *t, FILE *out, const struct wv_ctl_pages *lent)
{
    char up[64];
    const Wavry__Bus__ControlReply *r = lent->reply;
    wv_format_duration(t->at_ns > r->started_ns ? t->at_ns - r->started_ns : 0, up, sizeof(up));
    fputs("Wavry ", out);
    wv_format_text(out, r->version, false);
    fputs("  ", out);
    wv_format_text(out, r->address, false);
    fprintf(out, "  up %s%s\n\n", up, t->live ? "  (q ends)" : "");
    print_stages(out, r);
    print_sessions(t, out, lent->session);
    print_latency(t, out);
    print_rates(t, out, false);
    print_rates(t, out, true);
}

/* Writes TEXT over the screen, cut to its size, so that nothing scrolls and nothing flickers. */
static void show_on_terminal(FILE *out, const char *text)
{
    struct winsize size = {0};
    if (ioctl(fileno(out), TIOCGWINSZ, &size) < 0 || size.ws_row == 0 || size.ws_col == 0)
        size = (struct winsize){.ws_row = 24, .ws_col = 80};
    fputs("\033[H", out);
    for (unsigned row = 0; row < size.ws_row && *text; row++) {
        unsigned column = 0;
        for (; *text && *text != '\n'; text++) {
            bool first = ((unsigned char)*text & 0xc0) != 0x80;
            column += first;
            if (column <= size.ws_col)
                fputc(*text, out);
        }
        fputs("\033[K", out);
        text += *text == '\n';
        if (row + 1u < size.ws_row)
            fputs("\r\n", out);
    }
    fputs("\033[J", out);
}

/* One look at the host. What there is to say, also a complaint, goes to TEXT. Returns 0 or an exit code. */
static int look(struct top *t, FILE *text, bool print)
{
    struct wv_ctl_pages lent;
    FILE *err = t->c->err;
    if (t->live)
        t->c->err = text; /* on the screen it would be lost */
    int r = wv_ctl_pages_get(t->c, &lent);
    t->c->err = err;
    if (r != 0)
        return r;
    read_pages(t, &lent);
    if (print)
        print_table(t, text, &lent);
    else
        print_sessions(t, text, lent.session); /* notes where the traffic stands */
    wv_ctl_pages_fini(&lent);
    return 0;
}

static int refresh(struct top *t, bool print)
{
    char *text = NULL;
    size_t len = 0;
    FILE *stream = open_memstream(&text, &len);
    if (!stream)
        return EX_OSERR;
    int r = look(t, stream, print);
    fclose(stream);
    if (t->live)
        show_on_terminal(t->c->out, text);
    else if (r == 0 && print)
        fprintf(t->c->out, "%s%s", t->printed ? "\n" : "", text);
    fflush(t->c->out);
    free(text);
    t->printed += print;
    return t->live ? 0 : r; /* a live table waits for the host to come back */
}

static int on_period(void *userdata, uint64_t now)
{
    struct top *t = userdata;
    t->exit_code = refresh(t, true);
    if (t->exit_code != 0 || ferror(t->c->out) || (t->c->count && t->printed >= t->c->count))
        wv_loop_quit(t->loop, 0);
    return 0;
}

static int on_signal(void *userdata, int number, uint64_t now)
{
    struct top *t = userdata;
    wv_loop_quit(t->loop, 0);
    return 0;
}

static int on_key(void *userdata, uint32_t events, uint64_t now)
{
    struct top *t = userdata;
    char key;
    if (read(STDIN_FILENO, &key, 1) != 1 || key == 'q' || key == 'Q' || key == 3)
        wv_loop_quit(t->loop, 0);
    return 0;
}

static int run_loop(struct top *t)
{
    struct wv_loop_source *timer;
    int r = wv_loop_new(&t->loop);
    if (r >= 0)
        r = wv_loop_add_timer(t->loop, on_period, t, &timer);
    if (r >= 0)
        r = wv_loop_add_signal(t->loop, SIGINT, on_signal, t);
    if (r >= 0)
        r = wv_loop_add_signal(t->loop, SIGTERM, on_signal, t);
    if (r >= 0 && t->live)
        r = wv_loop_add_fd(t->loop, STDIN_FILENO, EPOLLIN, on_key, t, NULL);
    if (r >= 0) {
        wv_loop_timer_every(timer, PERIOD_NS);
        r = wv_loop_run(t->loop);
    }
    wv_loop_free(t->loop);
    if (r < 0)
        fprintf(t->c->err, "wavryctl: the table can't be shown: %s\n", strerror(-r));
    return r < 0 ? EX_OSERR : t->exit_code;
}

static int run_live(struct top *t)
{
    struct termios before, raw;
    if (tcgetattr(STDIN_FILENO, &before) < 0)
        return EX_OSERR;
    raw = before;
    raw.c_lflag &= ~(tcflag_t)(ICANON | ECHO);
    fputs("\033[?1049h\033[?25l", t->c->out);
    tcsetattr(STDIN_FILENO, TCSANOW, &raw);
    refresh(t, true);
    int r = run_loop(t);
    tcsetattr(STDIN_FILENO, TCSANOW, &before);
    fputs("\033[?25h\033[?1049l", t->c->out);
    fflush(t->c->out);
    return r;
}

int wv_ctl_top(struct wv_ctl *c)
{
    struct top t = {.c = c};
    t.pages = calloc(WV_CTL_STAGES_MAX, sizeof(t.pages[0]));
    if (!t.pages) {
        fputs("wavryctl: no memory\n", c->err);
        return EX_OSERR;
    }
    int fd = fileno(c->out);
    t.live = c->count == 0 && fd >= 0 && isatty(fd) && isatty(STDIN_FILENO);
    int r;
    if (t.live) {
        r = run_live(&t);
    } else {
        r = refresh(&t, false); /* the first table, too, is about a second and not about all time */
        if (r == 0)
            r = run_loop(&t);
    }
    free(t.pages);
    return r;
}
