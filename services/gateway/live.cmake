# What is alive in the gateway: presence, signaling, relays, leases.
target_sources(wv-gateway PRIVATE presence.c)
wv_test(test_gateway_presence DEPS wv-gateway)
