/* See identity_kit.h. */
#include "tests/unit/identity_kit.h"

struct sent sent[SENT_MAX];
size_t n_sent;
bool deaf[WV_IDENTITY_LINKS];
char state[96], answer[4096];
struct wv_metrics *metrics;
struct wv_identity *id;
uint64_t now, unix_s;
static char folder[64], reason[WV_IDENTITY_REASON_BYTES];
static int page;

static int take(void *userdata, enum wv_identity_to to, const ProtobufCMessage *m)
{
    if (deaf[to])
        return WV_BUS_UNSENT;
    ck_assert_uint_lt(n_sent, SENT_MAX);
    sent[n_sent].to = to;
    sent[n_sent].type = m->descriptor;
    sent[n_sent].len = protobuf_c_message_get_packed_size(m);
    ck_assert_uint_le(sent[n_sent].len, sizeof sent[0].packed);
    protobuf_c_message_pack(m, sent[n_sent++].packed);
    return 0;
}

static uint64_t wall(void *userdata)
{
    return unix_s;
}

void start_identity(void)
{
    const struct wv_identity_world world = {.send = take, .unix_s = wall};
    ck_assert_int_eq(wv_identity_new(&id, state, page, metrics, now, reason), 0);
    ck_assert_int_eq(wv_identity_start(id, NULL, &world, now), 0);
}

void setup(void)
{
    ck_assert_int_eq(rift_crypto_init(), 0);
    strcpy(folder, "/tmp/wavry-test-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(folder));
    snprintf(state, sizeof state, "%s/state", folder);
    now = 100 * WV_NS_PER_S;
    unix_s = 1800000000;
    n_sent = 0;
    memset(deaf, 0, sizeof deaf);
    ck_assert_int_eq(wv_memfd_create("test", WV_LIVE_PAGE_BYTES, &page), 0);
    ck_assert_int_eq(wv_metrics_new(&metrics, -1, "identity", wv_identity_metrics, WV_IDENTITY_METRICS), 0);
    start_identity();
}

void teardown(void)
{
    char command[128];
    wv_identity_free(id);
    wv_metrics_free(metrics);
    close(page);
    snprintf(command, sizeof command, "rm -rf '%s'", folder);
    ck_assert_int_eq(system(command), 0);
}

/* The process is killed and comes back. */
void restart_identity(void)
{
    wv_identity_free(id);
    start_identity();
}

/* Hands over a message as the bus would, by the rule for it. */
void deliver(const char *sender, const ProtobufCMessage *m)
{
    for (size_t i = 0; i < WV_IDENTITY_RULES; i++) {
        const struct wv_bus_rule *rule = &wv_identity_rules[i];
        if (rule->type != m->descriptor || strcmp(rule->sender, sender))
            continue;
        ck_assert_uint_le(protobuf_c_message_get_packed_size(m), rule->max_bytes);
        ck_assert_int_eq(rule->handle(id, m, now), 0);
        return;
    }
    ck_abort_msg("%s may not send %s", sender, m->descriptor->name);
}

int request(const char *verb, const char *text)
{
    return wv_identity_request(id, verb, text, now, answer, sizeof answer);
}

/* The newest message of TYPE to TO from place FROM on, unpacked (free it); NULL: none. */
void *last_sent(enum wv_identity_to to, const ProtobufCMessageDescriptor *type, size_t from)
{
    for (size_t i = n_sent; i-- > from;)
        if (sent[i].to == to && sent[i].type == type)
            return protobuf_c_message_unpack(type, NULL, sent[i].len, sent[i].packed);
    return NULL;
}

size_t place_of(enum wv_identity_to to, const ProtobufCMessageDescriptor *type, size_t from)
{
    for (size_t i = from; i < n_sent; i++)
        if (sent[i].to == to && sent[i].type == type)
            return i;
    return SIZE_MAX;
}

/* ---- a client ---- */

void client_new(struct client *c)
{
    memset(c, 0, sizeof *c);
    rift_identity_generate(&c->identity);
    rift_public_key_format(c->identity.public, c->key_text);
}

void authorize(const struct client *c, const char *terms)
{
    char text[256];
    snprintf(text, sizeof text, "%s %s", c->key_text, terms);
    ck_assert_msg(request("authorize", text) == 0, "%s", answer);
}

void client_known(struct client *c, const char *terms)
{
    client_new(c);
    authorize(c, terms);
}

/* The client's side of Noise XX against the stage. */
void client_connect(struct client *c, bool view_only)
{
    static uint64_t token;
    struct rift_noise *noise;
    uint8_t prologue[RIFT_PROLOGUE_BYTES], message[1024], payload[64], hello[64], key_receive[32];
    size_t len, payload_len;
    rift_handshake_prologue(4711, prologue);
    ck_assert_int_eq(rift_noise_new(&noise, true, c->identity.secret, prologue, sizeof prologue, NULL), 0);
    ck_assert_int_eq(rift_noise_write(noise, NULL, 0, message, sizeof message, &len), 0);
    Wavry__Bus__HandshakeQuestion q = WAVRY__BUS__HANDSHAKE_QUESTION__INIT;
    q.token = ++token;
    q.initiator_id = 4711;
    q.local_id = 1;
    q.step = 1;
    q.address = (char[]){"192.0.2.1:5"};
    q.message = (ProtobufCBinaryData){.len = len, .data = message};
    size_t from = n_sent;
    deliver("transport", &q.base);
    Wavry__Bus__HandshakeAnswer *a =
        last_sent(WV_TO_TRANSPORT, &wavry__bus__handshake_answer__descriptor, from);
    ck_assert_ptr_nonnull(a);
    ck_assert_int_eq(
        rift_noise_read(noise, a->message.data, a->message.len, payload, sizeof payload, &payload_len), 0);
    wavry__bus__handshake_answer__free_unpacked(a, NULL);
    Wavry__Rift__ClientHello h = WAVRY__RIFT__CLIENT_HELLO__INIT;
    h.view_only = view_only;
    h.device = (char[]){"device"};
    size_t hello_len = wavry__rift__client_hello__pack(&h, hello);
    ck_assert_int_eq(rift_noise_write(noise, hello, hello_len, message, sizeof message, &len), 0);
    q.step = 3;
    q.message = (ProtobufCBinaryData){.len = len, .data = message};
    c->read = from = n_sent;
    deliver("transport", &q.base);
    Wavry__Bus__HandshakeDone *d = last_sent(WV_TO_TRANSPORT, &wavry__bus__handshake_done__descriptor, from);
    ck_assert_ptr_nonnull(d);
    ck_assert_uint_ne(d->session, 0);
    c->session = d->session;
    c->authorized = d->authorized;
    c->pairing = d->pairing;
    wavry__bus__handshake_done__free_unpacked(d, NULL);
    ck_assert_int_eq(rift_noise_split(noise, c->key_send, key_receive), 0);
    ck_assert_int_eq(rift_noise_split_inner(noise, c->base), 0);
    memcpy(c->hash, rift_noise_handshake_hash(noise), 64);
    rift_inner_derive(c->base, false, &c->inner, c->input_key);
    rift_noise_free(noise);
}

static void client_told(struct client *c, const Wavry__Rift__InnerToClient *m)
{
    if (m->kind_case == WAVRY__RIFT__INNER_TO_CLIENT__KIND_MEDIA_KEY) {
        c->kid = m->media_key->kid;
        memcpy(c->media_key, m->media_key->key.data, 32);
    } else if (m->kind_case == WAVRY__RIFT__INNER_TO_CLIENT__KIND_STANDING) {
        c->standing = true;
        c->controls = m->standing->controls;
        c->n_grants = m->standing->n_grants;
        c->expires = m->standing->expires;
        snprintf(c->notice, sizeof c->notice, "%s", m->standing->notice);
    } else if (m->kind_case == WAVRY__RIFT__INNER_TO_CLIENT__KIND_PAIR_SHARE) {
        c->share_came = true;
        memcpy(c->share, m->pair_share->share.data, 32);
    } else if (m->kind_case == WAVRY__RIFT__INNER_TO_CLIENT__KIND_PAIR_RESULT) {
        c->result_came = true;
        c->paired = m->pair_result->paired;
        c->tries_left = m->pair_result->tries_left;
        ck_assert_uint_eq(m->pair_result->tag.len, c->paired ? 64 : 0);
        if (c->paired)
            memcpy(c->tag, m->pair_result->tag.data, 64);
    }
}

/* Reads what came for the client since it last looked. Returns how many messages. */
unsigned client_read(struct client *c)
{
    unsigned n = 0;
    for (; c->read < n_sent; c->read++) {
        if (sent[c->read].type != &wavry__bus__inner_message__descriptor)
            continue;
        Wavry__Bus__InnerMessage *m =
            wavry__bus__inner_message__unpack(NULL, sent[c->read].len, sent[c->read].packed);
        uint8_t plain[1024];
        size_t len;
        if (m->session == c->session) {
            ck_assert_int_eq(
                rift_inner_open(&c->inner, m->sealed.data, m->sealed.len, plain, sizeof plain, &len), 0);
            Wavry__Rift__InnerToClient *told = wavry__rift__inner_to_client__unpack(NULL, len, plain);
            ck_assert_ptr_nonnull(told);
            client_told(c, told);
            wavry__rift__inner_to_client__free_unpacked(told, NULL);
            n++;
        }
        wavry__bus__inner_message__free_unpacked(m, NULL);
    }
    return n;
}

void deliver_sealed(uint32_t session, uint8_t *sealed, size_t len)
{
    Wavry__Bus__InnerMessage m = WAVRY__BUS__INNER_MESSAGE__INIT;
    m.session = session;
    m.sealed = (ProtobufCBinaryData){.len = len, .data = sealed};
    deliver("transport", &m.base);
}

size_t client_seal(struct client *c, const Wavry__Rift__InnerToHost *m, uint8_t sealed[1024])
{
    uint8_t plain[512];
    size_t len;
    ck_assert_int_eq(
        rift_inner_seal(&c->inner, plain, wavry__rift__inner_to_host__pack(m, plain), sealed, 1024, &len), 0);
    return len;
}

void client_say(struct client *c, const Wavry__Rift__InnerToHost *m)
{
    uint8_t sealed[1024];
    size_t len = client_seal(c, m, sealed);
    deliver_sealed(c->session, sealed, len);
}

void client_take_control(struct client *c, bool release)
{
    Wavry__Rift__TakeControl take_control = WAVRY__RIFT__TAKE_CONTROL__INIT;
    Wavry__Rift__InnerToHost m = WAVRY__RIFT__INNER_TO_HOST__INIT;
    take_control.release = release;
    m.kind_case = WAVRY__RIFT__INNER_TO_HOST__KIND_TAKE_CONTROL;
    m.take_control = &take_control;
    client_say(c, &m);
}

/* ---- what the stages were told ---- */

uint32_t encoder_kid(uint8_t ret_key[32], size_t from)
{
    Wavry__Bus__MediaKey *m = last_sent(WV_TO_ENCODER, &wavry__bus__media_key__descriptor, from);
    if (!m)
        return 0;
    uint32_t kid = m->kid;
    ck_assert_uint_eq(m->key.len, 32);
    memcpy(ret_key, m->key.data, 32);
    wavry__bus__media_key__free_unpacked(m, NULL);
    return kid;
}

/* Input and transport were told the same, and the key is the controller's. */
void assert_controller(const struct client *c)
{
    Wavry__Bus__Controller *m = last_sent(WV_TO_INPUT, &wavry__bus__controller__descriptor, 0);
    Wavry__Bus__ControllerIs *t = last_sent(WV_TO_TRANSPORT, &wavry__bus__controller_is__descriptor, 0);
    ck_assert(m && t);
    ck_assert_uint_eq(m->session, c ? c->session : 0);
    ck_assert_uint_eq(t->session, c ? c->session : 0);
    ck_assert_uint_eq(m->key.len, c ? 32 : 0);
    if (c)
        ck_assert_mem_eq(m->key.data, c->input_key, 32);
    wavry__bus__controller__free_unpacked(m, NULL);
    wavry__bus__controller_is__free_unpacked(t, NULL);
}

bool session_ended(uint32_t session, size_t from)
{
    for (size_t i = from; i < n_sent; i++) {
        if (sent[i].type != &wavry__bus__session_end__descriptor)
            continue;
        Wavry__Bus__SessionEnd *m = wavry__bus__session_end__unpack(NULL, sent[i].len, sent[i].packed);
        bool it = m->session == session;
        wavry__bus__session_end__free_unpacked(m, NULL);
        if (it)
            return true;
    }
    return false;
}

void encoder_asks(void)
{
    Wavry__Bus__MediaKeyQuestion q = WAVRY__BUS__MEDIA_KEY_QUESTION__INIT;
    deliver("encoder", &q.base);
}

void transport_lists(struct client *const *clients, size_t n)
{
    uint32_t numbers[8];
    ProtobufCBinaryData keys[8];
    Wavry__Bus__SessionsAlive m = WAVRY__BUS__SESSIONS_ALIVE__INIT;
    for (size_t i = 0; i < n; i++) {
        numbers[i] = clients[i]->session;
        keys[i] = (ProtobufCBinaryData){.len = 32, .data = clients[i]->identity.public};
    }
    m.session = numbers;
    m.peer_key = keys;
    m.n_session = m.n_peer_key = n;
    deliver("transport", &m.base);
}
