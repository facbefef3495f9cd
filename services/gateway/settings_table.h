/* The gateway's configuration, declared once: included by settings.c alone. */
#pragma once

#include "lib/stage/config.h"

static const struct wv_config_entry wv_gateway_config[] = {
    {"names", WV_CONFIG_STRING, "", 0, 0, NULL,
     "HOST:PORT of this gateway as machines dial it, with spaces between; a port of 443 may be left out. "
     "What "
     "a machine signs names the gateway, so that no other one can use it. Needed."},
    {"listen", WV_CONFIG_STRING, "443", 0, 0, NULL,
     "TCP port, or ADDRESS:PORT of each address to serve, with spaces between; a port alone serves all "
     "addresses. Sockets of a socket unit are served instead."},
    {"tls_certificate", WV_CONFIG_STRING, "", 0, 0, NULL,
     "File with the certificate and its chain (PEM). Empty: plain HTTP, which is refused on any address but "
     "this machine's own unless trusted_proxies is set. Read again on a reload."},
    {"tls_key", WV_CONFIG_STRING, "", 0, 0, NULL,
     "File with the certificate's private key (PEM). Read again on a reload."},
    {"trusted_proxies", WV_CONFIG_STRING, "", 0, 0, NULL,
     "Addresses or ranges (10.0.0.0/8) of proxies whose X-Forwarded-For is believed. Read again on a "
     "reload."},
    {"database", WV_CONFIG_STRING, "sqlite:/var/lib/wavry-gateway/gateway.db", 0, 0, NULL,
     "sqlite:PATH, or postgresql://... for several gateways that share it."},
    {"store_threads", WV_CONFIG_INT, "4", 1, 64, NULL,
     "Connections to PostgreSQL for requests, and as many that read for signaling; SQLite always has one of "
     "each."},
    {"log_level", WV_CONFIG_CHOICE, "info", 0, 0, "error|warning|notice|info|debug",
     "What is logged. Read again on a reload."},
    {"max_connections", WV_CONFIG_INT, "12000", 16, 1000000, NULL,
     "Connections at once; more are closed at once."},
    {"connections_per_address", WV_CONFIG_INT, "256", 1, 1000000, NULL,
     "Connections at once of one IPv4 address or IPv6 /64; proxies that are trusted have no such limit. Read "
     "again on a reload."},
    {"patience_s", WV_CONFIG_INT, "20", 1, 3600, NULL,
     "How long a peer may take for a request's head, its body, or to take the answer, in seconds each. A "
     "machine's "
     "connection has half of it for its first message, and is cut when it takes nothing of what waits for it "
     "for "
     "three quarters of it."},
    {"requests_per_s", WV_CONFIG_INT, "20", 1, 1000000, NULL,
     "Requests a second of one IPv4 address or IPv6 /64, with a burst of five times as many. Read again on a "
     "reload."},
    {"logins_per_minute", WV_CONFIG_INT, "30", 1, 1000000, NULL,
     "Attempts to sign in a minute from one IPv4 address or IPv6 /64, to whatever accounts. Read again on a "
     "reload."},
    {"wrong_per_minute", WV_CONFIG_INT, "5", 1, 1000000, NULL,
     "Wrong attempts a minute at one account from one address; nobody else's are counted with them. Read "
     "again "
     "on a reload."},
    {"wrong_codes_per_hour", WV_CONFIG_INT, "10", 1, 1000000, NULL,
     "Wrong codes an hour at one account after its right password, from whatever addresses; recovery codes "
     "and keys of machines go on. Read again on a reload."},
    {"token_hours", WV_CONFIG_INT, "12", 1, 8760, NULL, "How long a sign-in by password lasts."},
    {"machine_token_hours", WV_CONFIG_INT, "24", 1, 8760, NULL,
     "How long a host's or device's sign-in by key lasts; it makes the next one by itself."},
    {"machines_per_account", WV_CONFIG_INT, "200", 1, 1000000, NULL, "Hosts and devices of one account."},
    {"audit_days", WV_CONFIG_INT, "90", 1, 36500, NULL, "How long the audit log is kept."},
    {"bus", WV_CONFIG_STRING, "local:", 0, 0, NULL,
     "How this gateway reaches the others that share its database: local: (it is the only one), or the NATS "
     "servers of all of them, nats://[USER:PASSWORD@]HOST:PORT or tls://..., with commas between."},
    {"signals_per_s", WV_CONFIG_INT, "20", 1, 1000000, NULL,
     "Messages a second of one machine's connection, with a burst of five times as many."},
    {"ping_s", WV_CONFIG_INT, "25", 1, 300, NULL,
     "A machine whose connection was silent for so many seconds, or up to two fifths less, is asked whether "
     "it is there, and cut when it was silent for 1.8 times as long. Shorter where routers forget idle "
     "connections."},
    {"stun_servers", WV_CONFIG_STRING, "", 0, 0, NULL,
     "HOST:PORT of STUN servers that machines may ask for their address, with spaces between, at most "
     "eight."},
    {"lease_kbps", WV_CONFIG_INT, "50000", 64, 10000000, NULL,
     "What a lease of a relay allows in each direction, in kbit/s; a relay may allow less."},
    {"lease_seconds", WV_CONFIG_INT, "600", 30, 86400, NULL,
     "How long a lease of a relay lasts; clients renew theirs. Relays refuse more than their max_lease_s."},
    {"metrics_socket", WV_CONFIG_STRING, "", 0, 0, NULL,
     "Unix socket to serve metrics on over HTTP; empty: none."},
    {"metrics_listen", WV_CONFIG_STRING, "", 0, 0, NULL,
     "ADDRESS:PORT of this machine itself to serve metrics on, as 127.0.0.1:9484; empty: none."},
};
