/* A client's numbers; see numbers.h. */
#include "client/numbers.h"

#include "lib/base/util.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

static const char *state_name(enum wv_client_state state)
{
    switch (state) {
    case WV_CLIENT_CONNECTING:
        return "connecting";
    case WV_CLIENT_CONNECTED:
        return "connected";
    case WV_CLIENT_LOST:
        return "lost";
    case WV_CLIENT_RECONNECTING:
        return "reconnecting";
    case WV_CLIENT_REFUSED:
        return "refused";
    case WV_CLIENT_CLOSED:
        break;
    }
    return "closed";
}

void wv_numbers_overlay(const struct wv_client_stats *s, const char *renderer, char *ret, size_t capacity)
{
#define MS(stage, q) ((double)s->recent[stage].q / 1000)
    uint64_t packets = s->packets_received + s->packets_lost;
    double loss = packets ? 100.0 * (double)s->packets_lost / (double)packets : 0;
    snprintf(ret, capacity,
             "%4ux%-4u %5.1f fps %6.2f Mbit/s %s\n"
             "rtt %6.2f ms   loss %5.2f %%   %s\n"
             "frames repaired %-6" PRIu64 " lost %" PRIu64 "\n"
             "latency      p50      p99 ms\n"
             "network  %7.2f  %7.2f\n"
             "decode   %7.2f  %7.2f\n"
             "present  %7.2f  %7.2f\n"
             "total    %7.2f  %7.2f\n"
             "input    %7.2f  %7.2f",
             s->width, s->height, s->fps, (double)s->bitrate_bps / 1e6, renderer, (double)s->rtt_us / 1000,
             loss, s->path, s->frames_repaired, s->frames_lost, MS(WV_CLIENT_STAGE_NETWORK, p50_us),
             MS(WV_CLIENT_STAGE_NETWORK, p99_us), MS(WV_CLIENT_STAGE_DECODE, p50_us),
             MS(WV_CLIENT_STAGE_DECODE, p99_us), MS(WV_CLIENT_STAGE_PRESENT, p50_us),
             MS(WV_CLIENT_STAGE_PRESENT, p99_us), MS(WV_CLIENT_STAGE_GLASS, p50_us),
             MS(WV_CLIENT_STAGE_GLASS, p99_us), MS(WV_CLIENT_STAGE_INPUT, p50_us),
             MS(WV_CLIENT_STAGE_INPUT, p99_us));
#undef MS
}

static void put_string(FILE *out, const char *name, const char *text)
{
    fprintf(out, "  \"%s\": \"", name);
    for (; *text; text++) {
        unsigned char ch = (unsigned char)*text;
        if (ch == '"' || ch == '\\')
            fprintf(out, "\\%c", ch);
        else if (ch < 0x20)
            fprintf(out, "\\u%04x", ch);
        else
            fputc(ch, out);
    }
    fputs("\",\n", out);
}

static void put_stages(FILE *out, const struct wv_client_stats *s)
{
    fputs("  \"stages\": {", out);
    for (int i = 0; i < WV_CLIENT_N_STAGES; i++)
        fprintf(out,
                "%s\n    \"%s\": {\"p50_us\": %" PRIu64 ", \"p99_us\": %" PRIu64 ", \"count\": %" PRIu64 "}",
                i ? "," : "", wv_client_stage_name((enum wv_client_stage)i), s->stage[i].p50_us,
                s->stage[i].p99_us, s->stage[i].count);
    fputs("\n  }\n", out);
}

static void put_numbers(FILE *out, const struct wv_client_stats *s)
{
    double seconds = (double)s->connected_ns / 1e9;
    fprintf(out, "  \"connects\": %" PRIu64 ",\n  \"connected_s\": %.3f,\n", s->connects, seconds);
    fprintf(out, "  \"width\": %u,\n  \"height\": %u,\n", s->width, s->height);
    fprintf(out, "  \"fps\": %.2f,\n", seconds > 0 ? (double)s->frames_shown / seconds : 0.0);
    fprintf(out, "  \"bitrate_bps\": %.0f,\n", seconds > 0 ? (double)s->media_bytes * 8 / seconds : 0.0);
    const struct {
        const char *name;
        uint64_t value;
    } counters[] = {
        {"frames_received", s->frames_received},
        {"frames_decoded", s->frames_decoded},
        {"frames_shown", s->frames_shown},
        {"frames_skipped", s->frames_skipped},
        {"frames_lost", s->frames_lost},
        {"frames_repaired", s->frames_repaired},
        {"fragments_repaired", s->fragments_repaired},
        {"repairs_received", s->repairs_received},
        {"decode_errors", s->decode_errors},
        {"control_errors", s->control_errors},
        {"keyframe_requests", s->keyframe_requests},
        {"packets_received", s->packets_received},
        {"packets_lost", s->packets_lost},
        {"packets_dropped", s->packets_dropped},
        {"packets_sent", s->packets_sent},
        {"bytes_received", s->bytes_received},
        {"input_sent", s->input_sent},
        {"rtt_us", s->rtt_us},
        {"path_switches", s->path_switches},
    };
    for (size_t i = 0; i < WV_ARRAY_SIZE(counters); i++)
        fprintf(out, "  \"%s\": %" PRIu64 ",\n", counters[i].name, counters[i].value);
    fprintf(out, "  \"clock_offset_us\": %" PRId64 ",\n", s->clock_offset_us);
}

int wv_numbers_write_json(const char *path, const struct wv_client_stats *stats, const char *host,
                          const char *reason, const char *snapshot)
{
    char *text = NULL;
    size_t len = 0;
    FILE *out = open_memstream(&text, &len);
    if (!out)
        return -ENOMEM;
    fputs("{\n", out);
    put_string(out, "client", "wavry-client " WAVRY_VERSION);
    put_string(out, "host", host);
    put_string(out, "state", state_name(stats->state));
    put_string(out, "reason", reason);
    put_string(out, "snapshot", snapshot);
    put_string(out, "path", stats->path);
    put_string(out, "path_why", stats->path_why);
    put_string(out, "path_address", stats->path_address);
    put_numbers(out, stats);
    put_stages(out, stats);
    fputs("}\n", out);
    int r = ferror(out) ? -ENOMEM : 0;
    if (fclose(out) != 0)
        r = -ENOMEM;
    if (r == 0)
        r = wv_write_file_atomic(path, text, len, 0644);
    free(text);
    return r;
}
