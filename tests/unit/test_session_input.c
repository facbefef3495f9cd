/* What a lost datagram costs input, on virtual time: both directions take 20 ms, video runs, and every
 * datagram that the client sends is lost once, each in a run of its own. */
#include "tests/unit/session_pair.h"
#include "tests/unit/suite.h"

#define ONE_WAY  (20 * MS)
#define INTERVAL (10 * MS) /* of WIRE.md section 4: from one pass to the next */
#define TICK     (MS / 4)
#define TICKS    1600u
#define EVENTS   128u
#define QUEUE    64u

struct flight {
    uint8_t data[RIFT_MTU_BYTES];
    size_t len;
    uint64_t due;
};

struct way {
    struct flight queue[QUEUE];
    unsigned in, out;
};

struct run {
    struct pair p;
    struct way up, down;
    unsigned sent;         /* datagrams of the client */
    uint64_t took[EVENTS]; /* of each event, until the host had it; 0: it has not come */
    uint64_t queued[EVENTS];
    unsigned n_queued, n_came;
};

static void fly(struct way *w, struct rift_session *to, uint64_t now)
{
    for (; w->out != w->in && w->queue[w->out % QUEUE].due <= now; w->out++)
        rift_session_receive(to, w->queue[w->out % QUEUE].data, w->queue[w->out % QUEUE].len, now);
}

/* Lets S send; datagram number LOST (from 0) of it does not arrive. */
static unsigned launch(struct way *w, struct rift_session *s, uint64_t now, unsigned lost)
{
    unsigned n = 0;
    for (;; n++) {
        struct flight *f = &w->queue[w->in % QUEUE];
        if (rift_session_send(s, f->data, sizeof f->data, now, &f->len) != 0)
            return n;
        f->due = now + ONE_WAY;
        if (n != lost)
            w->in++;
        ck_assert_uint_lt(w->in - w->out, QUEUE);
    }
}

static void queue_event(struct run *r)
{
    struct rift_input_event key = {.kind = RIFT_INPUT_KEY, .code = 30, .down = r->n_queued % 2 == 0};
    uint32_t seq;
    ck_assert_int_eq(rift_session_send_input(r->p.client, &key, r->p.now, &seq), 0);
    ck_assert_uint_eq(seq, r->n_queued + 1);
    r->queued[r->n_queued++] = r->p.now;
}

static void take_events(struct run *r)
{
    struct rift_event e;
    while (rift_session_next_event(r->p.host, &e) == 0) {
        if (e.kind != RIFT_EVENT_INPUT)
            continue;
        ck_assert_uint_eq(e.input.seq, r->n_came + 1); /* in order, once */
        r->took[r->n_came] = r->p.now - r->queued[r->n_came];
        r->n_came++;
    }
    while (rift_session_next_event(r->p.client, &e) == 0)
        ;
}

/* An event every EVERY ticks in the first half; datagram LOST of the client is lost. */
static struct run *play(unsigned every, unsigned lost)
{
    struct run *r = calloc(1, sizeof *r);
    ck_assert_ptr_nonnull(r);
    r->p = pair_new();
    for (unsigned tick = 0; tick < TICKS; tick++, r->p.now += TICK) {
        if (tick % every == 0 && tick < TICKS / 2)
            queue_event(r);
        if (tick % 66 == 0)
            ck_assert_int_eq(pair_send_frame(&r->p, tick / 66, 0, tick == 0, 20000), 0);
        fly(&r->up, r->p.host, r->p.now);
        fly(&r->down, r->p.client, r->p.now);
        take_events(r);
        r->sent += launch(&r->up, r->p.client, r->p.now, lost - r->sent);
        launch(&r->down, r->p.host, r->p.now, UINT32_MAX);
    }
    ck_assert_uint_eq(r->n_came, r->n_queued);
    pair_free(&r->p);
    return r;
}

/* From one event a tenth of a second to one every millisecond and a quarter. */
START_TEST(a_lost_datagram_costs_one_send_interval)
{
    static const unsigned every[] = {400, 120, 37, 13, 7};
    struct run *whole = play(every[_i], UINT32_MAX);
    uint64_t worst = 0;
    for (unsigned i = 0; i < whole->n_came; i++)
        ck_assert_uint_le(whole->took[i], ONE_WAY + 2 * MS);
    for (unsigned lost = 0; lost < whole->sent; lost++) {
        struct run *r = play(every[_i], lost);
        for (unsigned i = 0; i < r->n_came; i++)
            if (r->took[i] > whole->took[i])
                worst = WV_MAX(worst, r->took[i] - whole->took[i]);
        free(r);
    }
    ck_assert_uint_gt(whole->sent, 10);
    ck_assert_uint_gt(worst, 0); /* some lost datagram did carry an event */
    ck_assert_msg(worst <= INTERVAL, "%lu us", (unsigned long)(worst / WV_NS_PER_US));
    free(whole);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("session input");
    TCase *t = tcase_create("loss");
    suite_add_tcase(s, t);
    tcase_add_loop_test(t, a_lost_datagram_costs_one_send_interval, 0, 5);
    return wv_run_suite(s);
}
