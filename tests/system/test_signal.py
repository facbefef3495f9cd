#!/usr/bin/env python3
"""/v1/signal, relays, leases and sessions at one wavry-gateway, over SQLite or, when WAVRY_TEST_POSTGRES names one,
PostgreSQL: who may say what to whom, and what a stranger, a flood, a reader that does not read and a wrong clock get."""
import base64
import ctypes
import json
import signal
import struct
import time
import unittest

from gateway_kit import GatewayTest, Machine, b64, sodium
from harness import wait_for
from signal_kit import Closed, Socket


class Relay:
    """A relay as the gateway knows it: a name and a key that signs heartbeats."""

    def __init__(self, name):
        self.name, self.machine, self.at = name, Machine(), 0

    def heartbeat(self, load=100, leases=3, draining=False, at=None, name=None):
        if at is None:
            at = self.at = max(self.at + 1, int(time.time()))
        message = b"RIFT 1 relay heartbeat\0" + (name or self.name).encode() + b"\0" + \
            struct.pack("<QIIB", at, load, leases, draining)
        return {"at": at, "load": load, "leases": leases, "draining": draining,
                "signature": b64(self.machine.sign(message))}


class SignalTest(GatewayTest):
    def setUp(self):
        super().setUp()
        self.add_admin()
        self.gateway(*self.options)
        self.admin = self.login()
        self.host, self.device, self.stranger = Machine(), Machine(), Machine()
        self.register(self.admin, "hosts", self.host, "tower")
        self.register(self.admin, "devices", self.device, "laptop")
        self.bob_id = self.add_account(self.admin, "bob")
        self.bob = self.login("bob")
        self.register(self.bob, "devices", self.stranger, "bob's phone")

    def socket(self, **more):
        s = Socket(self.port, self.api, **more)
        self.addCleanup(s.close)
        return s

    def online(self, machine, token=None):
        s = self.socket()
        self.assertEqual(s.hello(token or self.machine_login(machine))["key"], machine.key)
        return s

    def reach(self, a, b, frm, to, name="x1", sealed="c2VhbGVkIHRvIGI"):
        """A message goes from a to b, and a is told so."""
        a.signal(to.key, name, sealed)
        self.assertEqual(b.next(), {"type": "signal", "from": frm.key, "id": name, "sealed": sealed})
        self.assertEqual(a.next(), {"type": "sent", "id": name})

    def fails(self, a, to, error, name="f1"):
        a.signal(to.key, name)
        answer = a.next()
        self.assertEqual((answer.get("error"), answer.get("id")), (error, name), answer)


class Machines(SignalTest):
    def test_a_host_and_a_device_find_each_other(self):
        host, device = self.online(self.host), self.online(self.device)
        self.reach(device, host, self.device, self.host)
        self.reach(host, device, self.host, self.device, "y~!#", "A" * 10922)
        listed = self.ok("GET", "/v1/hosts", token=self.admin)["hosts"]
        self.assertEqual([(h["name"], h["online"]) for h in listed], [("tower", True)])
        host.close()
        wait_for(lambda: not self.ok("GET", "/v1/hosts", token=self.admin)["hosts"][0]["online"], 20, "the host offline")
        self.fails(device, self.host, "offline")
        self.counted("signals_sent_total", 2)
        self.counted("signals_offline_total")
        self.assertGreaterEqual(self.metric("signal_seconds_count"), 3)

    def test_who_may_not_is_told_the_same_of_all(self):
        host, device, stranger = self.online(self.host), self.online(self.device), self.online(self.stranger)
        self.fails(stranger, self.host, "not_allowed")
        self.fails(stranger, Machine(), "not_allowed")  # one that there is not
        self.fails(stranger, self.device, "not_allowed")
        self.fails(stranger, self.stranger, "not_allowed")
        self.fails(host, self.stranger, "not_allowed")
        self.register(self.admin, "hosts", second := Machine(), "attic")
        self.fails(host, second, "not_allowed")  # hosts have nothing to say to each other
        self.reach(device, host, self.device, self.host)

    def test_sharing_counts_at_once_and_so_does_its_end(self):
        host, stranger = self.online(self.host), self.online(self.stranger)
        self.fails(stranger, self.host, "not_allowed")
        for turn in range(3):
            self.ok("POST", f"/v1/hosts/{self.host.key}/shares", {"account": "bob", "grants": ["view"]}, self.admin)
            self.reach(stranger, host, self.stranger, self.host, f"a{turn}")
            self.reach(host, stranger, self.host, self.stranger, f"b{turn}")
            self.ok("DELETE", f"/v1/hosts/{self.host.key}/shares/{self.bob_id}", token=self.admin, status=204)
            self.fails(stranger, self.host, "not_allowed")
            self.fails(host, self.stranger, "not_allowed")

    def test_a_machine_that_is_removed_loses_its_connection(self):
        device, host = self.online(self.device), self.online(self.host)
        self.ok("DELETE", f"/v1/devices/{self.device.key}", token=self.admin, status=204)
        self.assertEqual(device.until_closed(), 4001)
        self.assertEqual(device.messages[-1]["error"], "not_allowed")
        stranger = self.online(self.stranger)
        self.ok("PATCH", f"/v1/accounts/{self.bob_id}", {"disabled": True}, self.admin)
        self.assertEqual(stranger.until_closed(), 4001)
        self.fails(host, self.stranger, "not_allowed")
        self.counted("sockets_revoked_total", 2)

    def test_a_newer_connection_replaces_the_older(self):
        token = self.machine_login(self.host)
        first, device = self.online(self.host, token), self.online(self.device)
        second = self.online(self.host, token)
        self.assertEqual(first.until_closed(), 4000)
        self.assertEqual(first.messages, [{"type": "replaced"}])
        self.reach(device, second, self.device, self.host)
        first.close()
        self.reach(second, device, self.host, self.device)
        self.counted("sockets_replaced_total")

    def test_tokens_that_are_none(self):
        for token in (b64(bytes(32)), self.admin, self.login("bob")):
            s = self.socket()
            s.send({"type": "hello", "token": token})
            self.assertEqual(s.until_closed(), 4001)
            self.assertEqual(s.messages[0]["error"], "not_allowed")
        token = self.machine_login(self.device)
        s = self.online(self.device, token)
        s.send({"type": "hello", "token": token})
        self.assertEqual(s.next()["error"], "bad_message")
        self.counted("sockets_refused_total", 3)

    def test_what_is_no_message(self):
        token = self.machine_login(self.device)
        first = [b"", b"{}", b"[]", b"null", b"\xff\xfe", b'{"type":"signal"}', b"{" * 5000, b'{"a":' * 40 + b"1" + b"}" * 40,
                 b'{"type":"hello"}', b'{"type":"hello","token":"x"}', b'{"type":"hello","token":1}',
                 json.dumps({"type": "hello", "token": token, "more": 1}).encode(),
                 json.dumps({"type": "signal", "to": self.host.key, "id": "a", "sealed": "AAAA"}).encode(),  # before the hello
                 b'{"type":"sessions","sessions":[]}',
                 b'{"type":"hello","type":"hello","token":"' + token.encode() + b'"}', b" " * 16385, b"x" * 100000]
        for data in first:
            s = self.socket()
            s.frame(1, data)
            self.assertEqual(s.until_closed(), 4001, data[:60])
            self.assertIn(s.messages[0]["error"], ("bad_message", "too_large"), data[:60])
        s, host = self.online(self.device, token), self.online(self.host)
        good = {"type": "signal", "to": self.host.key, "id": "a", "sealed": "AAAA"}
        bad = [{**good, "id": ""}, {**good, "id": "x" * 33}, {**good, "id": 'a"b'}, {**good, "id": "a b"}, {**good, "id": "ä"},
               {**good, "sealed": ""}, {**good, "sealed": "A"}, {**good, "sealed": "AAA="}, {**good, "sealed": "A+/A"},
               {**good, "to": self.host.key[:-1]}, {**good, "to": "wavry1" + "A" * 43}, {**good, "to": self.host.sign_key[:49]},
               {**good, "to": 1}, {**good, "more": 1}, {"type": "welcome"}, {"type": "sent", "id": "a"}, {"type": []},
               {"type": "sessions"}, {"type": "sessions", "sessions": [{}]}, {"type": "sessions", "sessions": [1] * 33}]
        for message in bad:
            s.send(message)
            self.assertEqual(s.next()["error"], "bad_message", message)
        for message in ({**good, "sealed": "A" * 10926}, {**good, "sealed": "A" * 16300}, {**good, "sealed": "A" * 100000}):
            s.send(message)
            self.assertEqual(s.next()["error"], "too_large", len(message["sealed"]))
        s.frame(2, json.dumps(good).encode())  # binary
        self.assertEqual(s.next()["error"], "bad_message")
        text = json.dumps(good).encode()  # in many fragments, and with a ping between
        s.frame(1, text[:1], fin=False)
        for i in range(1, len(text)):
            if i == 9:
                s.frame(9, b"are you there")
            s.frame(0, text[i:i + 1], fin=i == len(text) - 1)
        self.assertEqual(host.next()["id"], "a")
        self.assertEqual(s.next(), {"type": "sent", "id": "a"})

    def test_what_is_no_websocket_of_ours(self):
        for wrong in ({"path": "/v1/signals"}, {"path": "/"}, {"protocol": None}, {"protocol": "chat"}):
            with self.assertRaises(Closed, msg=wrong):
                self.socket(**wrong)
        self.online(self.device)

    def test_leaving(self):
        host, device = self.online(self.host), self.online(self.device)
        self.processes["gateway"].send_signal(signal.SIGTERM)
        for s in (host, device):
            self.assertEqual(s.until_closed(), 1001)
            self.assertEqual([m["type"] for m in s.messages], ["leaving"])
        self.assertEqual(self.processes["gateway"].wait(20), 0)

    def test_sessions_for_the_page(self):
        host, device = self.online(self.host), self.online(self.device)
        device.send({"type": "sessions", "sessions": []})
        self.assertEqual(device.next()["error"], "not_allowed")
        one = {"peer": self.device.key, "path": "relayed", "rtt_ms": 41.5, "loss": 0.01}
        host.send({"type": "sessions", "sessions": [one]})
        want = {**one, "host": self.host.key, "name": "tower"}
        wait_for(lambda: self.ok("GET", "/v1/sessions", token=self.admin)["sessions"] == [want], 20, "the session")
        self.assertEqual(self.ok("GET", "/v1/sessions", token=self.bob)["sessions"], [])
        host.send({"type": "sessions", "sessions": []})
        self.assertEqual(host.next()["error"], "too_many")


class Flood(SignalTest):
    """With a limit that the slowest machine is above."""
    options = ("--set", "signals_per_s=1")

    def test_a_flood_is_refused_then_ended(self):
        device, host = self.online(self.device), self.online(self.host)
        answers = []
        for first in range(0, 50, 10):  # the host keeps up: only the sender is too fast
            for i in range(first, first + 10):
                device.signal(self.host.key, f"n{i}")
            chunk = [device.next() for _ in range(10)]
            for answer in chunk:
                if answer["type"] == "sent":
                    self.assertEqual(host.next()["from"], self.device.key)
            answers += chunk
        self.assertEqual({a["id"] for a in answers}, {f"n{i}" for i in range(50)})
        kinds = [a.get("error", a["type"]) for a in answers]
        self.assertEqual(set(kinds), {"sent", "too_many"})
        self.assertGreaterEqual(kinds.count("sent"), 4)
        # All at once: of messages that come one by one some are within the limit.
        flood = b"".join(device.framed(1, json.dumps({"type": "signal", "to": self.host.key, "id": f"n{i}", "sealed": "AAAA"})
                                       .encode()) for i in range(1000))
        try:
            device.socket.sendall(flood)
        except OSError:
            pass
        self.assertIn(device.until_closed(), (1008, None))
        self.counted("sockets_flooded_total")
        other = self.online(self.device)  # nobody else is the worse for it
        host.signal(self.device.key, "after")
        self.assertEqual(other.next()["id"], "after")


class Idle(SignalTest):
    options = ("--set", "ping_s=5")

    def test_who_is_idle_stays_and_who_is_gone_does_not(self):
        idle, begun = self.online(self.host), time.monotonic()
        gone = self.online(self.device)

        def one_left():
            with self.assertRaises(TimeoutError):
                idle.next(0.2)  # pings are answered in here
            return self.metric("machines_here") == 1
        wait_for(one_left, 40, "who answers no ping gone")
        self.assertGreater(time.monotonic() - begun, 8.9)
        self.assertIsNone(gone.until_closed())
        idle.signal(self.device.key, "there?")  # it was silent for longer, and answered
        self.assertEqual(idle.next()["error"], "offline")


class Patience(SignalTest):
    options = ("--set", "patience_s=8")

    def test_who_does_not_read_or_never_says_hello_is_cut_and_holds_up_nobody(self):
        silent = self.socket()
        self.register(self.admin, "devices", second := Machine(), "tablet")
        slow, device, other = self.online(self.host), self.online(self.device), self.online(second)
        answers = []
        deadline = time.monotonic() + 60
        while not any(a.get("error") in ("too_many", "offline") for a in answers) and time.monotonic() < deadline:
            device.signal(self.host.key, f"n{len(answers)}", "A" * 10000)
            answers.append(device.next())
            time.sleep(0.05)
        self.assertEqual({a.get("error", a["type"]) for a in answers} - {"too_many", "offline"}, {"sent"})
        self.fails(other, self.device, "not_allowed")
        self.counted("sockets_slow_total")
        wait_for(lambda: self.metric("machines_here") == 2, 20, "the slow one gone")
        # Whatever was not written was answered, once, as not sent: nothing is still open.
        self.assertEqual(self.metric("signals_total"),
                         sum(self.metric(f"signals_{k}_total") for k in ("sent", "offline", "not_allowed", "too_many", "bad",
                                                                         "unavailable")))
        slow.close()
        self.assertEqual(silent.until_closed(), 1008)
        self.counted("sockets_refused_total")


class Relays(SignalTest):
    options = ("--set", "stun_servers=stun.test:4821 [::1]:4821", "--set", "lease_seconds=300", "--set", "lease_kbps=9000")

    def add_relay(self, name, region="eu"):
        relay = Relay(name)
        self.ok("PUT", f"/v1/relays/{name}", {"key": relay.machine.sign_key, "address": f"{name}:4821", "region": region},
                self.admin, 204)
        wait_for(lambda: name in [r["id"] for r in self.relays()], 20, name)
        return relay

    def relays(self):
        return self.ok("GET", "/v1/relays", token=self.admin)["relays"]

    def usable(self):
        return sorted(r["id"] for r in self.relays() if r["usable"])

    def beat(self, relay, status=204, **more):
        name = more.get("name") or relay.name
        return self.ok("POST", f"/v1/relays/{name}/heartbeat", relay.heartbeat(**more), status=status)

    def test_heartbeats(self):
        a, b = self.add_relay("a.test"), self.add_relay("b.test", "us")
        self.assertEqual(self.usable(), [])
        self.beat(a)
        self.assertEqual(self.usable(), ["a.test"])
        self.beat(b, load=960)
        self.assertEqual(self.usable(), ["a.test"])  # full
        self.beat(b, load=10)
        self.assertEqual(self.usable(), ["a.test", "b.test"])
        self.beat(b, draining=True)
        self.assertEqual(self.usable(), ["a.test"])
        path = "/v1/relays/a.test/heartbeat"
        old = a.heartbeat()
        self.ok("POST", path, old, status=204)
        self.refused("conflict", "POST", path, old)  # played again
        self.refused("clock", "POST", path, a.heartbeat(at=int(time.time()) + 3600))
        self.refused("clock", "POST", path, a.heartbeat(at=int(time.time()) - 3600))
        self.refused("proof", "POST", path, {**a.heartbeat(), "load": 0})
        self.refused("proof", "POST", path, b.heartbeat(name="a.test"))  # another relay's key
        self.refused("proof", "POST", path, a.heartbeat(name="b.test"))  # another relay's name
        self.refused("not_found", "POST", "/v1/relays/c.test/heartbeat", a.heartbeat(name="c.test"))
        self.refused("bad_field", "POST", path, {**a.heartbeat(), "load": 1001})
        self.beat(a)
        self.ok("POST", "/v1/relays/a.test/drain", {"drain": True}, self.admin, 204)
        wait_for(lambda: self.usable() == [], 20, "a drained relay")
        self.ok("POST", "/v1/relays/a.test/drain", {"drain": False}, self.admin, 204)

        def in_service():
            if time.time() >= a.at + 1:  # never ahead of the clock
                self.beat(a)
            return self.usable() == ["a.test"]
        wait_for(in_service, 40, "a relay in service")
        welcome = self.online(self.device)
        welcome.close()
        s = self.socket()
        answer = s.hello(self.machine_login(self.host))
        self.assertEqual(answer["stun"], ["stun.test:4821", "[::1]:4821"])
        self.assertEqual([r["id"] for r in answer["relays"]], ["a.test"])
        self.ok("DELETE", "/v1/relays/a.test", token=self.admin, status=204)
        wait_for(lambda: self.usable() == [], 20, "a relay removed")
        self.refused("not_found", "DELETE", "/v1/relays/a.test", token=self.admin)
        self.refused("not_admin", "GET", "/v1/relays", token=self.bob)
        self.refused("not_admin", "PUT", "/v1/relays/x", {"key": a.machine.sign_key, "address": "x:1", "region": "x"}, self.bob)
        for address in ("x", "x:0", "x:70000", ":1", "x:1y", "a b:1"):
            self.refused("bad_field", "PUT", "/v1/relays/x", {"key": a.machine.sign_key, "address": address + "", "region": "x"},
                         self.admin)
        actions = {line["action"] for line in self.ok("GET", "/v1/audit", token=self.admin)["audit"]}
        self.assertLessEqual({"relay registered", "relay drained", "relay undrained", "relay removed"}, actions)
        self.counted("relay_beats_refused_total", 6)

    def test_leases(self):
        token, stranger = self.machine_login(self.device), self.machine_login(self.stranger)
        h, c = Machine().sign_key, Machine().sign_key
        wish = {"host": self.host.key, "host_relay_key": h, "client_relay_key": c}
        self.refused("no_relay", "POST", "/v1/leases", wish, token)
        a, b = self.add_relay("a.test"), self.add_relay("b.test", "us")
        self.beat(a), self.beat(b)
        for region, name in (("eu", "a.test"), ("us", "b.test")) * 4:
            self.assertEqual(self.ok("POST", "/v1/leases", {**wish, "region": region}, token)["relay"]["id"], name)
        first = self.ok("POST", "/v1/leases", {**wish, "region": "eu"}, token).body
        self.assertEqual(first["relay"], {"id": "a.test", "address": "a.test:4821", "region": "eu",
                                          "key": a.machine.sign_key})
        raw = base64.urlsafe_b64decode(first["lease"].removeprefix("wavry-lease1."))
        issuer = self.ok("GET", "/v1/relays", token=self.admin)["issuer"]
        key = base64.urlsafe_b64decode(issuer.removeprefix("ed25519.") + "=")
        signed = b"RIFT 1 lease" + raw[:128]
        self.assertEqual(sodium.crypto_sign_verify_detached(raw[128:], signed, ctypes.c_ulonglong(len(signed)), key), 0)
        self.assertEqual(raw[44:76], base64.urlsafe_b64decode(h.removeprefix("ed25519.") + "="))
        self.assertEqual(raw[76:108], base64.urlsafe_b64decode(c.removeprefix("ed25519.") + "="))
        rate, begin, end = struct.unpack("<IQQ", raw[108:128])
        self.assertEqual((rate, end - begin, first["expires"]), (9000, 300, end))
        self.assertAlmostEqual(begin, time.time(), delta=20)
        again = self.ok("POST", "/v1/leases", {**wish, "lease": first["lease"]}, token).body
        renewed = base64.urlsafe_b64decode(again["lease"].removeprefix("wavry-lease1."))
        self.assertEqual((again["relay"], renewed[12:108]), (first["relay"], raw[12:108]))  # the same id, relay, keys
        self.refused("not_allowed", "POST", "/v1/leases", {**wish, "client_relay_key": Machine().sign_key,
                                                           "lease": first["lease"]}, token)
        self.refused("not_allowed", "POST", "/v1/leases", wish, stranger)
        self.refused("not_allowed", "POST", "/v1/leases", {**wish, "host": Machine().key}, token)
        self.refused("not_allowed", "POST", "/v1/leases", wish, self.admin)  # a person's token
        self.refused("bad_key", "POST", "/v1/leases", {**wish, "client_relay_key": h}, token)
        self.refused("no_token", "POST", "/v1/leases", wish)
        # Its relay leaves: the answer is a lease of another one.
        self.beat(a, draining=True)
        moved = self.ok("POST", "/v1/leases", {**wish, "lease": first["lease"]}, token)
        self.assertEqual(moved["relay"]["id"], "b.test")
        self.counted("leases_total", 11)


if __name__ == "__main__":
    unittest.main()
