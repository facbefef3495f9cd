/* Sections 8, 6.8 and 2.1 of proto/WIRE.md, read out of the document itself: a session must write exactly
 * these datagrams and understand them. Another implementation made them, so a mistake that both directions
 * share shows too.
 */
#include "rift/core/fec.h"
#include "rift/crypto/derive.h"
#include "tests/unit/session_pair.h"
#include "tests/unit/suite.h"

#include <ctype.h>
#include <stdio.h>

static char *wire;

/* Reads the bytes of "NAME = hex", where the hex may go on in indented lines. */
static size_t example(const char *name, uint8_t *ret, size_t capacity)
{
    char line[64];
    snprintf(line, sizeof line, "\n%s =", name);
    const char *p = strstr(wire, line);
    ck_assert_msg(p, "WIRE.md has no example \"%s\"", name);
    p += strlen(line);
    char digits[2 * RIFT_MTU_BYTES + 1];
    size_t n = 0;
    for (; *p && !(*p == '\n' && p[1] != ' '); p++)
        if (!isspace((unsigned char)*p) && n < sizeof digits - 1)
            digits[n++] = *p;
    digits[n] = 0;
    ck_assert_uint_le(n / 2, capacity);
    ck_assert_int_eq(wv_hex_decode(digits, ret, n / 2), 0);
    return n / 2;
}

static size_t datagram(unsigned number, uint8_t ret[RIFT_MTU_BYTES])
{
    char name[32];
    snprintf(name, sizeof name, "datagram %u", number);
    return example(name, ret, RIFT_MTU_BYTES);
}

/* S sends exactly datagram NUMBER, AT_MS after time 0. */
static void expect_sent(struct rift_session *s, unsigned number, uint64_t at_ms)
{
    uint8_t expected[RIFT_MTU_BYTES], got[RIFT_MTU_BYTES];
    size_t expected_len = datagram(number, expected), len = 0;
    ck_assert_int_eq(rift_session_send(s, got, sizeof got, at_ms * MS, &len), 0);
    char text[2 * RIFT_MTU_BYTES + 1];
    wv_hex_encode(got, len, text);
    ck_assert_msg(len == expected_len && memcmp(got, expected, len) == 0, "datagram %u is %s", number, text);
}

static void expect_silent(struct rift_session *s, uint64_t at_ms)
{
    uint8_t got[RIFT_MTU_BYTES];
    size_t len;
    ck_assert_int_eq(rift_session_send(s, got, sizeof got, at_ms * MS, &len), RIFT_SESSION_IDLE);
}

static void give(struct rift_session *s, unsigned number, uint64_t at_ms)
{
    uint8_t bytes[RIFT_MTU_BYTES];
    size_t len = datagram(number, bytes);
    ck_assert_int_eq(rift_session_receive(s, bytes, len, at_ms * MS), 0);
}

static uint32_t example_id(const char *name)
{
    uint8_t b[4];
    ck_assert_uint_eq(example(name, b, 4), 4);
    return b[0] | (uint32_t)b[1] << 8 | (uint32_t)b[2] << 16 | (uint32_t)b[3] << 24;
}

static struct rift_session *new_session(enum rift_role role)
{
    bool host = role == RIFT_ROLE_HOST;
    struct rift_session_config c = {.role = role};
    c.local_id = example_id(host ? "data host id" : "data client id");
    c.remote_id = example_id(host ? "data client id" : "data host id");
    example("data key client to host", host ? c.key_receive : c.key_send, 32);
    example("data key host to client", host ? c.key_send : c.key_receive, 32);
    if (!host)
        example("data input key", c.input_key, 32);
    struct rift_session *s;
    ck_assert_int_eq(rift_session_new(&s, &c, 1000 * MS), 0);
    return s;
}

/* Up to the keyframe; both directions of datagrams 1 to 6. */
static void begin(struct rift_session *host, struct rift_session *client)
{
    struct rift_event e;
    uint32_t seq;
    struct rift_input_event key = {.kind = RIFT_INPUT_KEY, .down = 1, .code = 30, .time_us = 1000000};
    ck_assert_int_eq(rift_session_send_input(client, &key, 1000 * MS, &seq), 0);
    expect_sent(client, 1, 1000);
    give(host, 1, 1004);
    ck_assert_int_eq(rift_session_next_event(host, &e), 0);
    ck_assert_int_eq(e.kind, RIFT_EVENT_INPUT);
    uint8_t input_key[32];
    struct rift_input_event event;
    example("data input key", input_key, 32);
    ck_assert_int_eq(input_opened(input_key, &e, &event), 0);
    ck_assert_uint_eq(event.code, 30);
    ck_assert_uint_eq(event.time_us, 1000000);
    expect_sent(host, 2, 1005);
    give(client, 2, 1009);
    ck_assert_uint_eq(pair_stats(client).rtt_ns, 8 * MS);
    ck_assert_int_eq(pair_stats(client).clock_offset_ns, 0);
    expect_sent(client, 3, 1009);
    give(host, 3, 1013);
    ck_assert_uint_eq(pair_stats(host).rtt_ns, 8 * MS);

    static const uint8_t unit[] = {0, 0, 0, 1, 0x65, 0x88, 0x84, 0};
    struct rift_frame_meta meta = {.frame_id = 5,
                                   .epoch = 1,
                                   .keyframe = true,
                                   .width = 640,
                                   .height = 360,
                                   .capture_us = 1010000,
                                   .encoded_us = 1012000,
                                   .input_seq = 1};
    struct rift_cursor cursor = {.x = 320, .y = 180, .visible = true, .shape_id = 7};
    ck_assert_int_eq(rift_session_send_frame(host, &meta, unit, sizeof unit, 1013 * MS), 0);
    rift_session_send_control(host, (const uint8_t *)"hello", 5, 1013 * MS);
    rift_session_send_cursor(host, &cursor, 1013 * MS);
    expect_sent(host, 4, 1013);
    expect_sent(host, 5, 1013);
    expect_silent(host, 1013);
    give(client, 4, 1017);
    give(client, 5, 1017);
    ck_assert_int_eq(rift_session_next_event(client, &e), 0);
    ck_assert_int_eq(e.kind, RIFT_EVENT_CURSOR);
    ck_assert(e.cursor.x == 320 && e.cursor.y == 180 && e.cursor.visible && e.cursor.shape_id == 7);
    ck_assert_int_eq(rift_session_next_event(client, &e), 0);
    ck_assert_int_eq(e.kind, RIFT_EVENT_FRAME);
    ck_assert_mem_eq(e.frame.data, unit, sizeof unit);
    ck_assert_uint_eq(e.frame.meta.frame_id, 5);
    ck_assert_uint_eq(e.frame.meta.height, 360);
    ck_assert_uint_eq(e.frame.meta.capture_us, 1010000);
    ck_assert_int_eq(rift_session_next_event(client, &e), 0);
    ck_assert_mem_eq(e.control.data, "hello", 5);
    expect_sent(client, 6, 1017);
    give(host, 6, 1021);
}

START_TEST(the_examples_hold)
{
    struct rift_session *host = new_session(RIFT_ROLE_HOST), *client = new_session(RIFT_ROLE_CLIENT);
    struct rift_event e;
    begin(host, client);
    /* Frame 6 was lost on its way, and the host then forgets it: its datagrams come from the document only.
     */
    give(client, 7, 1030);
    expect_silent(client, 1030);
    expect_sent(client, 8, 1031);
    give(client, 9, 1032);
    expect_sent(client, 10, 1032);
    rift_session_close(client, RIFT_CLOSE_NORMAL, "bye", 1033 * MS);
    expect_sent(client, 11, 1033);
    give(host, 8, 1035);
    give(host, 10, 1036);
    give(host, 11, 1037);
    ck_assert_int_eq(rift_session_next_event(host, &e), 0);
    ck_assert_int_eq(e.kind, RIFT_EVENT_KEYFRAME_REQUEST);
    ck_assert_int_eq(rift_session_next_event(host, &e), 0);
    ck_assert_int_eq(e.kind, RIFT_EVENT_CLOSED);
    ck_assert_str_eq(e.closed.text, "bye");
    ck_assert_uint_eq(pair_stats(host).nacks_received, 1);
    ck_assert_uint_eq(pair_stats(host).dropped_malformed + pair_stats(client).dropped_malformed, 0);
    rift_session_free(host);
    rift_session_free(client);
}
END_TEST

START_TEST(keys_paths_and_sizes_are_as_the_examples_say)
{
    struct rift_session_config c = {.role = RIFT_ROLE_HOST, .address = {1}};
    static const uint8_t here[RIFT_ADDRESS_BYTES] = {1}, there[RIFT_ADDRESS_BYTES] = {2};
    uint8_t in[RIFT_MTU_BYTES], expected[RIFT_MTU_BYTES], got[RIFT_MTU_MAX_BYTES], next[32];
    c.local_id = example_id("data host id");
    c.remote_id = example_id("data client id");
    example("data key client to host", c.key_receive, 32);
    example("data key host to client", c.key_send, 32);
    rift_derive_next_key(c.key_receive, next);
    ck_assert_uint_eq(example("data key client to host, generation 1", expected, 32), 32);
    ck_assert_mem_eq(next, expected, 32);
    rift_derive_next_key(c.key_send, next);
    example("data key host to client, generation 1", expected, 32);
    ck_assert_mem_eq(next, expected, 32);

    struct rift_session *host;
    struct rift_outgoing out;
    ck_assert_int_eq(rift_session_new(&host, &c, 1000 * MS), 0);
    size_t len = datagram(12, in);
    ck_assert_int_eq(rift_session_receive_from(host, there, RIFT_ECN_NONE, in, len, 1004 * MS), 0);
    ck_assert_int_eq(rift_session_send_to(host, got, sizeof got, 1004 * MS, &out), 0);
    ck_assert_uint_eq(out.len, datagram(13, expected));
    ck_assert_mem_eq(got, expected, out.len);
    ck_assert_mem_eq(out.address, there, sizeof there);
    rift_session_free(host);

    c.first_counter = 1;
    ck_assert_int_eq(rift_session_new(&host, &c, 1000 * MS), 0);
    len = datagram(14, in);
    ck_assert_int_eq(rift_session_receive_from(host, here, RIFT_ECN_NONE, in, len, 1004 * MS), 0);
    ck_assert_int_eq(rift_session_send_to(host, got, sizeof got, 1004 * MS, &out), 0);
    ck_assert_uint_eq(out.len, datagram(15, expected));
    ck_assert_mem_eq(got, expected, out.len);
    rift_session_free(host);
}
END_TEST

static void give_at_us(struct rift_session *s, unsigned number, uint64_t at_us)
{
    uint8_t bytes[RIFT_MTU_BYTES];
    size_t len = datagram(number, bytes);
    ck_assert_int_eq(rift_session_receive(s, bytes, len, at_us * WV_NS_PER_US), 0);
}

START_TEST(a_report_is_as_the_example_says)
{
    struct rift_session_config c = {.role = RIFT_ROLE_CLIENT, .fps = 60};
    c.local_id = example_id("data client id");
    c.remote_id = example_id("data host id");
    example("data key client to host", c.key_send, 32);
    example("data key host to client", c.key_receive, 32);
    example("data input key", c.input_key, 32);
    struct rift_session *client;
    struct rift_event e;
    ck_assert_int_eq(rift_session_new(&client, &c, 1000 * MS), 0);
    uint32_t seq;
    struct rift_input_event key = {.kind = RIFT_INPUT_KEY, .down = 1, .code = 30, .time_us = 1000000};
    ck_assert_int_eq(rift_session_send_input(client, &key, 1000 * MS, &seq), 0);
    expect_sent(client, 1, 1000);
    give(client, 2, 1009);
    expect_sent(client, 3, 1009);
    give_at_us(client, 4, 1017000);
    give_at_us(client, 5, 1017500);
    while (rift_session_next_event(client, &e) == 0)
        ;
    give_at_us(client, 9, 1018000);

    uint8_t expected[RIFT_MTU_BYTES], got[RIFT_MTU_BYTES];
    size_t expected_len = datagram(16, expected), len;
    ck_assert_int_eq(rift_session_send(client, got, sizeof got, 1018250 * WV_NS_PER_US, &len), 0);
    ck_assert_uint_eq(len, expected_len);
    ck_assert_mem_eq(got, expected, len);
    rift_session_free(client);
}
END_TEST

/* ---- 6.8 ---- */

#define REPAIR_SIZE 8

static struct rift_fec_frame repair_frame(uint32_t id, const uint8_t *data, size_t len)
{
    return (struct rift_fec_frame){
        .frame_id = id, .epoch = 1, .keyframe = id == 5, .size = REPAIR_SIZE, .len = len, .data = data};
}

/* The encoder makes exactly repair NUMBER of NEWEST, and of BEFORE when that is not NULL. */
static void expect_repair(unsigned number, const struct rift_fec_frame *newest,
                          const struct rift_fec_frame *before, unsigned group, unsigned index)
{
    const struct rift_fec_frame *window[RIFT_FEC_WINDOW] = {newest, before};
    uint8_t cover = before ? 3 : 1, expected[128], got[128];
    char name[32], text[257];
    struct rift_fec_encoder *e;
    struct wv_writer w;
    snprintf(name, sizeof name, "repair %u", number);
    size_t len = example(name, expected, sizeof expected);
    wv_writer_init(&w, got, sizeof got);
    ck_assert_int_eq(rift_fec_encoder_new(&e, 64), 0);
    ck_assert_int_eq(rift_fec_encode(e, window, group, index, 1, &cover), 0);
    ck_assert_int_eq(rift_fec_encoder_write(e, &w), 0);
    wv_hex_encode(got, w.length, text);
    ck_assert_msg(w.length == len && memcmp(got, expected, len) == 0, "repair %u is %s", number, text);
    rift_fec_encoder_free(e);
}

/* Gives all fragments of F but one. */
static void give_but(struct rift_fec_decoder *d, const struct rift_fec_frame *f, unsigned missing)
{
    struct rift_fec_fragment part = {.frame_id = f->frame_id, .epoch = 1, .keyframe = f->keyframe};
    part.size = REPAIR_SIZE;
    part.count = (uint16_t)((f->len + REPAIR_SIZE - 1) / REPAIR_SIZE);
    for (part.index = 0; part.index < part.count; part.index++) {
        part.data = f->data + part.index * REPAIR_SIZE;
        part.len = WV_MIN((size_t)REPAIR_SIZE, f->len - part.index * REPAIR_SIZE);
        if (part.index != missing)
            ck_assert_int_ge(rift_fec_decoder_source(d, &part), 0);
    }
}

/* With repair NUMBER fragment INDEX of F comes back. */
static void expect_mended(struct rift_fec_decoder *d, unsigned number, const struct rift_fec_frame *f,
                          unsigned index)
{
    uint8_t body[128];
    char name[32];
    struct wv_reader r;
    struct rift_fec_fragment got;
    snprintf(name, sizeof name, "repair %u", number);
    wv_reader_init(&r, body, example(name, body, sizeof body));
    ck_assert_int_eq(rift_fec_decoder_repair(d, &r), 0);
    ck_assert_int_eq(rift_fec_decoder_next(d, &got), 0);
    ck_assert_uint_eq(got.frame_id, f->frame_id);
    ck_assert_uint_eq(got.index, index);
    ck_assert_mem_eq(got.data, f->data + index * REPAIR_SIZE, got.len);
    ck_assert_int_eq(rift_fec_decoder_next(d, &got), RIFT_FEC_NONE);
}

START_TEST(repairs_are_as_the_examples_say)
{
    uint8_t a[64], b[64], c[1041];
    for (size_t i = 0; i < sizeof c; i++)
        c[i] = (uint8_t)(7 * i);
    struct rift_fec_frame five = repair_frame(5, a, example("repair frame 5", a, sizeof a));
    struct rift_fec_frame six = repair_frame(6, b, example("repair frame 6", b, sizeof b));
    struct rift_fec_frame seven = repair_frame(7, c, sizeof c);
    expect_repair(1, &six, NULL, 0, 0);
    expect_repair(2, &six, &five, 0, 1);
    expect_repair(3, &seven, NULL, 1, 2);
    struct rift_fec_decoder *d;
    ck_assert_int_eq(rift_fec_decoder_new(&d, 64), 0);
    give_but(d, &five, 2);
    give_but(d, &six, 0);
    expect_mended(d, 1, &six, 0);
    expect_mended(d, 2, &five, 2);
    give_but(d, &seven, 77);
    expect_mended(d, 3, &seven, 77);
    rift_fec_decoder_free(d);
}
END_TEST

int main(void)
{
    size_t len;
    if (wv_read_file(TEST_WIRE_MD, 1 << 20, (uint8_t **)&wire, &len) < 0) {
        fprintf(stderr, "%s can't be read\n", TEST_WIRE_MD);
        return 1;
    }
    Suite *s = suite_create("wire");
    TCase *t = tcase_create("wire");
    suite_add_tcase(s, t);
    tcase_add_test(t, the_examples_hold);
    tcase_add_test(t, keys_paths_and_sizes_are_as_the_examples_say);
    tcase_add_test(t, a_report_is_as_the_example_says);
    tcase_add_test(t, repairs_are_as_the_examples_say);
    int code = wv_run_suite(s);
    free(wire);
    return code;
}
