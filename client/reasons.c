/* Sentences for a person; see reasons.h. */
#include "client/reasons.h"

#include <stdio.h>

enum wv_client_reason wv_reason_of_close(enum rift_close_reason close)
{
    switch (close) {
    case RIFT_CLOSE_NORMAL:
    case RIFT_CLOSE_SHUTDOWN:
        return WV_CLIENT_REASON_SHUTDOWN;
    case RIFT_CLOSE_REVOKED:
        return WV_CLIENT_REASON_REVOKED;
    case RIFT_CLOSE_BUSY:
        return WV_CLIENT_REASON_BUSY;
    case RIFT_CLOSE_REPLACED:
        return WV_CLIENT_REASON_REPLACED;
    case RIFT_CLOSE_UNAUTHORIZED:
        return WV_CLIENT_REASON_UNAUTHORIZED;
    case RIFT_CLOSE_TIMEOUT:
        return WV_CLIENT_REASON_SILENT;
    case RIFT_CLOSE_PROTOCOL:
        break;
    }
    return WV_CLIENT_REASON_PROTOCOL;
}

bool wv_reason_is_final(enum wv_client_reason reason)
{
    switch (reason) {
    case WV_CLIENT_REASON_HOST_KEY:
    case WV_CLIENT_REASON_UNAUTHORIZED:
    case WV_CLIENT_REASON_REVOKED:
    case WV_CLIENT_REASON_REPLACED:
    case WV_CLIENT_REASON_UNPAIRED:
        return true;
    default:
        return false;
    }
}

void wv_reason_text(enum wv_client_reason reason, const char *where, const char *key, const char *detail,
                    char *ret)
{
    const char *open = detail[0] ? " (" : "", *close = detail[0] ? ")" : "";
#define SAY(format, ...) snprintf(ret, WV_CLIENT_TEXT_BYTES, format, __VA_ARGS__)
    switch (reason) {
    case WV_CLIENT_REASON_NONE:
        SAY("Connected to %s.", where);
        break;
    case WV_CLIENT_REASON_ABSENT:
        SAY("No Wavry host with the known key answers at %s%s%s%s. Is it running? On the host: wavryctl "
            "status. "
            "A firewall must let UDP to that port through. A host that was set up anew must be paired again.",
            where, open, detail, close);
        break;
    case WV_CLIENT_REASON_NAME:
        SAY("The name of the host %s can't be found. Check the spelling, or give its IP address.", where);
        break;
    case WV_CLIENT_REASON_NETWORK:
        SAY("This machine has no way to %s%s%s%s. Check the network connection.", where, open, detail, close);
        break;
    case WV_CLIENT_REASON_HOST_KEY:
        SAY("What answers at %s proved another key than the known one. Nothing was sent to it.", where);
        break;
    case WV_CLIENT_REASON_UNAUTHORIZED:
        SAY("The host at %s does not know this client's key. On the host run: wavryctl pair, and here: "
            "wavry-client pair; or on the host: wavryctl authorize %s",
            where, key);
        break;
    case WV_CLIENT_REASON_REVOKED:
        SAY("The host at %s no longer accepts this client's key%s%s%s. To allow it again, on the host run: "
            "wavryctl authorize %s",
            where, open, detail, close, key);
        break;
    case WV_CLIENT_REASON_BUSY:
        SAY("The host at %s has no free place%s%s%s: as many clients as it allows are connected.", where,
            open, detail, close);
        break;
    case WV_CLIENT_REASON_REPLACED:
        SAY("Another client with the same key has connected to %s and took over.", where);
        break;
    case WV_CLIENT_REASON_PROTOCOL:
        SAY("The host at %s and this client (%s) do not understand each other%s%s%s. Install the same "
            "version "
            "of Wavry on both.",
            where, WAVRY_VERSION, open, detail, close);
        break;
    case WV_CLIENT_REASON_SHUTDOWN:
        SAY("The host at %s goes away%s%s%s.", where, open, detail, close);
        break;
    case WV_CLIENT_REASON_SILENT:
        SAY("Nothing comes from %s any more. The host or the network between may be down.", where);
        break;
    case WV_CLIENT_REASON_NO_CODE:
        SAY("No Wavry host that shows a pairing code answers at %s%s%s%s. On the host run: wavryctl pair. "
            "Its "
            "code is good for a few minutes.",
            where, open, detail, close);
        break;
    case WV_CLIENT_REASON_UNPAIRED:
        SAY("The host at %s does not pair now%s%s%s: the code's time is over, it was used, or it was guessed "
            "wrong too often. On the host run: wavryctl pair",
            where, open, detail, close);
        break;
    }
#undef SAY
}
