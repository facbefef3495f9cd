/* The vector runner: every message is written by one side and compared, then read by the other side. */
#include "rift/tools/noise_vectors.h"

#include "lib/base/util.h"
#include "rift/crypto/noise.h"
#include "rift/crypto/seal.h"

#include <errno.h>
#include <json-glib/json-glib.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#define PROTOCOL     "Noise_XX_25519_ChaChaPoly_BLAKE2b"
#define MESSAGES_MAX 4096

struct bytes {
    uint8_t *data; /* NULL: the field is not there */
    size_t len;
};

static void bytes_fini(struct bytes *b)
{
    free(b->data);
    b->data = NULL;
}

/* One side of the conversation: the handshake, then keys and counters. */
struct side {
    struct rift_noise *noise;
    uint8_t key_send[32], key_receive[32];
    uint64_t sent, received;
};

struct run {
    struct side side[2]; /* initiator, responder */
    uint8_t *buffer, *plain;
    char *failure; /* capacity FAILURE_SIZE */
};

#define FAILURE_SIZE 256

#define fail(run, ...) (snprintf((run)->failure, FAILURE_SIZE, __VA_ARGS__), -EINVAL)

static JsonNode *member(JsonObject *object, const char *name)
{
    return json_object_has_member(object, name) ? json_object_get_member(object, name) : NULL;
}

static const char *text_of(JsonObject *object, const char *name)
{
    JsonNode *node = member(object, name);
    return node && JSON_NODE_HOLDS_VALUE(node) && json_node_get_value_type(node) == G_TYPE_STRING
               ? json_node_get_string(node)
               : NULL;
}

/* Reads a field of hex digits; one that is absent leaves data NULL unless it is NEEDED. */
static int hex_field(struct run *run, JsonObject *object, const char *name, bool needed, size_t exact,
                     struct bytes *ret)
{
    JsonNode *node = member(object, name);
    if (!node)
        return needed ? fail(run, "malformed: no field \"%s\"", name) : 0;
    const char *text = text_of(object, name);
    size_t digits = text ? strlen(text) : 0;
    if (!text || digits % 2 || digits / 2 > RIFT_NOISE_MESSAGE_BYTES)
        return fail(run, "malformed: \"%s\" is not a string of hex digits in pairs", name);
    if (exact && digits / 2 != exact)
        return fail(run, "malformed: \"%s\" has %zu bytes, not %zu", name, digits / 2, exact);
    ret->len = digits / 2;
    ret->data = malloc(ret->len + 1);
    if (!ret->data)
        return fail(run, "out of memory");
    if (wv_hex_decode(text, ret->data, ret->len) < 0)
        return fail(run, "malformed: \"%s\" is not a string of hex digits in pairs", name);
    return 0;
}

static int start_side(struct run *run, JsonObject *vector, bool initiator)
{
    const char *fields[2][3] = {{"resp_static", "resp_ephemeral", "resp_prologue"},
                                {"init_static", "init_ephemeral", "init_prologue"}};
    const char **name = fields[initiator];
    wv_cleanup(bytes_fini) struct bytes secret = {0}, ephemeral = {0}, prologue = {0};
    if (hex_field(run, vector, name[0], true, 32, &secret) < 0 ||
        hex_field(run, vector, name[1], true, 32, &ephemeral) < 0 ||
        hex_field(run, vector, name[2], false, 0, &prologue) < 0)
        return -EINVAL;
    if (rift_noise_new(&run->side[initiator ? 0 : 1].noise, initiator, secret.data, prologue.data,
                       prologue.len, ephemeral.data) < 0)
        return fail(run, "the handshake could not be started");
    return 0;
}

static int write_message(struct side *from, const struct bytes *payload, uint8_t *buffer, size_t *ret_len)
{
    if (!rift_noise_finished(from->noise))
        return rift_noise_write(from->noise, payload->data, payload->len, buffer, RIFT_NOISE_MESSAGE_BYTES,
                                ret_len);
    memcpy(buffer, payload->data, payload->len);
    rift_seal(from->key_send, from->sent++, NULL, 0, buffer, payload->len);
    *ret_len = payload->len + RIFT_SEAL_TAG_BYTES;
    return 0;
}

static int read_message(struct side *to, const struct bytes *message, uint8_t *plain, size_t *ret_len)
{
    if (!rift_noise_finished(to->noise))
        return rift_noise_read(to->noise, message->data, message->len, plain, RIFT_NOISE_MESSAGE_BYTES,
                               ret_len);
    memcpy(plain, message->data, message->len);
    int r = rift_open(to->key_receive, to->received++, NULL, 0, plain, message->len);
    if (r == 0)
        *ret_len = message->len - RIFT_SEAL_TAG_BYTES;
    return r;
}

static int run_message(struct run *run, size_t k, JsonNode *node)
{
    wv_cleanup(bytes_fini) struct bytes payload = {0}, expected = {0};
    if (!JSON_NODE_HOLDS_OBJECT(node))
        return fail(run, "malformed: message %zu is not an object", k);
    JsonObject *message = json_node_get_object(node);
    if (hex_field(run, message, "payload", true, 0, &payload) < 0 ||
        hex_field(run, message, "ciphertext", true, 0, &expected) < 0)
        return -EINVAL;

    struct side *from = &run->side[k % 2], *to = &run->side[1 - k % 2];
    bool handshake = !rift_noise_finished(from->noise);
    size_t len = 0, plain_len = 0;
    if (write_message(from, &payload, run->buffer, &len) < 0)
        return fail(run, "message %zu can't be written", k);
    if (len != expected.len || memcmp(run->buffer, expected.data, len) != 0)
        return fail(run, "message %zu differs from the expected ciphertext", k);
    if (read_message(to, &expected, run->plain, &plain_len) < 0)
        return fail(run, "message %zu can't be read by the other side", k);
    if (plain_len != payload.len || memcmp(run->plain, payload.data, plain_len) != 0)
        return fail(run, "message %zu is read as another payload", k);
    if (handshake && rift_noise_finished(from->noise))
        for (int i = 0; i < 2; i++)
            if (rift_noise_split(run->side[i].noise, run->side[i].key_send, run->side[i].key_receive) < 0)
                return fail(run, "no transport keys after message %zu", k);
    return 0;
}

static int check_hash(struct run *run, JsonObject *vector)
{
    wv_cleanup(bytes_fini) struct bytes hash = {0};
    if (hex_field(run, vector, "handshake_hash", false, RIFT_NOISE_HASH_BYTES, &hash) < 0)
        return -EINVAL;
    for (int i = 0; hash.data && i < 2; i++)
        if (memcmp(rift_noise_handshake_hash(run->side[i].noise), hash.data, hash.len) != 0)
            return fail(run, "the %s's handshake hash differs", i ? "responder" : "initiator");
    return 0;
}

static bool is_empty(JsonObject *vector, const char *name)
{
    JsonNode *node = member(vector, name);
    return !node || (JSON_NODE_HOLDS_ARRAY(node) && json_array_get_length(json_node_get_array(node)) == 0);
}

static int run_vector(struct run *run, JsonNode *node)
{
    if (!JSON_NODE_HOLDS_OBJECT(node))
        return fail(run, "malformed: the vector is not an object");
    JsonObject *vector = json_node_get_object(node);
    const char *protocol = text_of(vector, "protocol_name");
    if (!protocol)
        return fail(run, "malformed: no field \"protocol_name\"");
    if (strcmp(protocol, PROTOCOL) != 0)
        return fail(run, "skipped: protocol %.80s is not known here, only %s", protocol, PROTOCOL);
    if (!is_empty(vector, "init_psks") || !is_empty(vector, "resp_psks"))
        return fail(run, "skipped: pre-shared keys are not part of %s", PROTOCOL);
    JsonNode *list = member(vector, "messages");
    if (!list || !JSON_NODE_HOLDS_ARRAY(list))
        return fail(run, "malformed: no list \"messages\"");
    JsonArray *messages = json_node_get_array(list);
    size_t n = json_array_get_length(messages);
    if (n < 3 || n > MESSAGES_MAX)
        return fail(run, "malformed: %zu messages; a handshake has 3, a vector at most %d", n, MESSAGES_MAX);
    if (start_side(run, vector, true) < 0 || start_side(run, vector, false) < 0)
        return -EINVAL;
    for (size_t k = 0; k < n; k++)
        if (run_message(run, k, json_array_get_element(messages, (guint)k)) < 0)
            return -EINVAL;
    return check_hash(run, vector);
}

static bool passes(JsonNode *node, char failure[FAILURE_SIZE])
{
    /* A sealed payload is up to a tag longer than a Noise message may be. */
    wv_cleanup(wv_free_p) uint8_t *buffer = malloc(RIFT_NOISE_MESSAGE_BYTES + RIFT_SEAL_TAG_BYTES);
    wv_cleanup(wv_free_p) uint8_t *plain = malloc(RIFT_NOISE_MESSAGE_BYTES + RIFT_SEAL_TAG_BYTES);
    struct run run = {.buffer = buffer, .plain = plain, .failure = failure};
    if (!buffer || !plain) {
        snprintf(failure, FAILURE_SIZE, "out of memory");
        return false;
    }
    int r = run_vector(&run, node);
    rift_noise_free(run.side[0].noise);
    rift_noise_free(run.side[1].noise);
    return r == 0;
}

static void report_vector(JsonNode *node, size_t index, rift_vectors_report *report, void *context,
                          size_t *failed)
{
    char failure[FAILURE_SIZE] = "", name[96];
    const char *source = JSON_NODE_HOLDS_OBJECT(node) ? text_of(json_node_get_object(node), "source") : NULL;
    if (source)
        snprintf(name, sizeof name, "%.80s", source);
    else
        snprintf(name, sizeof name, "vector %zu", index);
    bool passed = passes(node, failure);
    if (!passed)
        (*failed)++;
    report(context, index, name, passed ? NULL : failure);
}

int rift_vectors_run(const char *json, size_t len, rift_vectors_report *report, void *context,
                     char *ret_error, size_t error_size, size_t *ret_failed)
{
    g_autoptr(JsonParser) parser = json_parser_new();
    g_autoptr(GError) error = NULL;
    if (!json_parser_load_from_data(parser, json, (gssize)len, &error)) {
        snprintf(ret_error, error_size, "not JSON: %s", error->message);
        return -EINVAL;
    }
    JsonNode *root = json_parser_get_root(parser);
    JsonNode *list =
        root && JSON_NODE_HOLDS_OBJECT(root) ? member(json_node_get_object(root), "vectors") : NULL;
    if (!list || !JSON_NODE_HOLDS_ARRAY(list)) {
        snprintf(ret_error, error_size, "not a vector file: no list \"vectors\" in an outermost object");
        return -EINVAL;
    }
    JsonArray *vectors = json_node_get_array(list);
    size_t n = json_array_get_length(vectors), failed = 0;
    if (n == 0) {
        snprintf(ret_error, error_size, "the list \"vectors\" is empty");
        return -EINVAL;
    }
    for (size_t i = 0; i < n; i++)
        report_vector(json_array_get_element(vectors, (guint)i), i, report, context, &failed);
    *ret_failed = failed;
    return 0;
}
