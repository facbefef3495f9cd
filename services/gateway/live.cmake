# What is alive in the gateway: presence, signaling, relays, leases.
target_sources(wv-gateway PRIVATE
  api_live.c bus_message.c leases.c live.c live_metrics.c presence.c relays.c sessions.c signal.c signal_ask.c
  signal_link.c signal_message.c signal_route.c)
wv_test(test_gateway_presence DEPS wv-gateway)
wv_test(test_gateway_relays DEPS wv-gateway)
wv_test(test_gateway_signal DEPS wv-gateway)
wv_fuzz(fuzz_gateway_signal DEPS wv-gateway)
