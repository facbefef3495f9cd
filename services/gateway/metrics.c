/* What the gateway counts; see metrics.h. */
#include "services/gateway/metrics.h"

#include "services/gateway/refusals.h"

#define COUNTER WV_METRIC_COUNTER
#define GAUGE   WV_METRIC_GAUGE
#define TIMES   WV_METRIC_HISTOGRAM

const struct wv_metric wv_gateway_metrics[WV_G_METRICS] = {
    [WV_G_CONNECTIONS] = {"connections", "connections", GAUGE, "Connections open now, WebSockets included."},
    [WV_G_CONNECTIONS_MAX] = {"connections_max", "connections", GAUGE, "Connections that there is room for."},
    [WV_G_ACCEPTED] = {"accepted_total", "connections", COUNTER, "Connections accepted."},
    [WV_G_ACCEPT_REFUSED] = {"accept_refused_total", "connections", COUNTER,
                             "Connections closed at once: too many in all, or from their address."},
    [WV_G_REQUESTS] = {"requests_total", "requests", COUNTER, "Requests received."},
    [WV_G_ANSWERED] = {"answered_total", "requests", COUNTER, "Of these, answered as asked."},
    [WV_G_REFUSED] = {"refused_total", "requests", COUNTER, "Of these, refused (4xx)."},
    [WV_G_FAILED] = {"failed_total", "requests", COUNTER, "Of these, failed at the gateway (5xx)."},
    [WV_G_REQUEST_US] = {"request_us", "us", TIMES, "From a request's last byte to the answer's first."},
    [WV_G_CUT] = {"cut_total", "connections", COUNTER,
                  "Connections cut within a request or an answer: too slow, or gone."},
    [WV_G_LOGINS] = {"logins_total", "logins", COUNTER, "People who signed in."},
    [WV_G_MACHINE_LOGINS] = {"machine_logins_total", "logins", COUNTER,
                             "Hosts and devices that signed in by their key."},
    [WV_G_RECOVERIES] = {"recoveries_total", "logins", COUNTER, "People who signed in by a recovery code."},
    [WV_G_PASSWORD_US] = {"password_us", "us", TIMES, "How long Argon2id took for a password."},
    [WV_G_STORE_US] = {"store_us", "us", TIMES, "How long one job of the database took."},
    [WV_G_STORE_WAITING] = {"store_waiting", "jobs", GAUGE, "Jobs that wait for the database."},
    [WV_G_SLOW_WAITING] = {"slow_waiting", "jobs", GAUGE, "Passwords that wait to be checked."},
    [WV_G_READY] = {"ready", "", GAUGE, "Whether /readyz says yes: 1, else 0."},
    [WV_G_DRAINING] = {"draining", "", GAUGE, "Whether the gateway is stopping: 1, else 0."},
    [WV_G_RELOADS] = {"reloads_total", "reloads", COUNTER, "Configurations read anew."},
    [WV_G_RELOADS_REFUSED] = {"reloads_refused_total", "reloads", COUNTER,
                              "Configurations or certificates that were wrong: what was there stayed."},
    [WV_G_LOOP_LATE] = {"loop_late_us", "us", TIMES,
                        "How late the event loop came to its five heartbeats a second."},
    [WV_G_REFUSED_BAD_REQUEST] = {"refused_bad_request_total", "requests", COUNTER,
                                  "Refused: broken, deep or unknown JSON, a wrong field, key or header."},
    [WV_G_REFUSED_NOT_FOUND] = {"refused_not_found_total", "requests", COUNTER,
                                "Refused: no such address, method or thing."},
    [WV_G_REFUSED_TOO_LARGE] = {"refused_too_large_total", "requests", COUNTER, "Refused: a large body."},
    [WV_G_REFUSED_UNAUTHORIZED] = {"refused_unauthorized_total", "requests", COUNTER,
                                   "Refused: no token, or one that is unknown or has ended."},
    [WV_G_REFUSED_CREDENTIALS] = {"refused_credentials_total", "logins", COUNTER,
                                  "Refused: wrong account, password, code or recovery code."},
    [WV_G_REFUSED_CODE_USED] = {"refused_code_used_total", "logins", COUNTER,
                                "Refused: a code that was used before."},
    [WV_G_REFUSED_CLOCK] = {"refused_clock_total", "requests", COUNTER,
                            "Refused: right, but of another time; look at the clocks."},
    [WV_G_REFUSED_PROOF] = {"refused_proof_total", "requests", COUNTER,
                            "Refused: a wrong signature, an unknown machine, a challenge used before."},
    [WV_G_REFUSED_FORBIDDEN] = {"refused_forbidden_total", "requests", COUNTER,
                                "Refused: not allowed to this token, or without the page's CSRF header."},
    [WV_G_REFUSED_CONFLICT] = {"refused_conflict_total", "requests", COUNTER,
                               "Refused: a name or key that is taken, or too many of a kind."},
    [WV_G_REFUSED_LIMITED] = {"refused_limited_total", "requests", COUNTER,
                              "Refused: too many requests from an address."},
    [WV_G_REFUSED_LOGIN_LIMITED] = {"refused_login_limited_total", "logins", COUNTER,
                                    "Refused: too many attempts to sign in from an address."},
    [WV_G_REFUSED_BUSY] = {"refused_busy_total", "requests", COUNTER,
                           "Refused: a full queue, or the gateway is stopping."},
    [WV_G_REFUSED_STORE_READ_ONLY] = {"refused_store_read_only_total", "requests", COUNTER,
                                      "Refused: the database is read-only."},
    [WV_G_REFUSED_STORE_FULL] = {"refused_store_full_total", "requests", COUNTER,
                                 "Refused: the database's disk is full."},
    [WV_G_REFUSED_STORE_AWAY] = {"refused_store_away_total", "requests", COUNTER,
                                 "Refused: the database can't be reached, or is held by another."},
    [WV_G_REFUSED_STORE_FAILED] = {"refused_store_failed_total", "requests", COUNTER,
                                   "Refused: the database or the gateway failed."},
    [WV_G_REFUSED_BUS_AWAY] = {"refused_bus_away_total", "requests", COUNTER,
                               "Refused: the other gateways can't be reached."},
};

const struct wv_refusal_entry wv_refusals[WV_N_REFUSALS] = {
#define X(name, status, code, metric, sentence)                                                              \
    [WV_REFUSE_##name] = {status, code, sentence, WV_G_REFUSED_##metric},
    WV_REFUSALS(X)
#undef X
};
