#!/usr/bin/env python3
"""A client and a host that know no address of each other find a way: through every kind of NAT that can be made of network
namespaces, direct where that is possible in principle, through a relay where it is not, and from one to the other in the
middle of a session. The ends are tests/system/ways_end.c."""
import base64
import ctypes
import json
import os
import queue
import subprocess
import tempfile
import threading
import time
import unittest

from harness import BIN, SystemTest, wait_for
import nets

WHY_NOT = nets.missing()
SEED = bytes(range(32))
WAIT = 30


def issuer_text():
    sodium = ctypes.CDLL("libsodium.so.23")
    sodium.sodium_init()
    public, secret = ctypes.create_string_buffer(32), ctypes.create_string_buffer(64)
    sodium.crypto_sign_seed_keypair(public, secret, SEED)
    return "ed25519." + base64.urlsafe_b64encode(public.raw).decode().rstrip("=")


class End:
    """A process of wavry-ways: commands in, lines out."""

    def __init__(self, net, space, log, *arguments):
        self.lines = queue.Queue()
        with open(log, "ab") as f:
            self.process = net.start(space, f"{BIN}/wavry-ways", *arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=f, text=True)
        threading.Thread(target=self.read, daemon=True).start()

    def read(self):
        for line in self.process.stdout:
            self.lines.put(line.strip())

    def line(self, seconds=WAIT):
        return self.lines.get(timeout=seconds)

    def await_line(self, text):
        while (line := self.line()) != text:
            assert line, f"{text} was not said"

    def event(self, name, seconds=WAIT):
        end = time.monotonic() + seconds
        while True:
            try:
                e = json.loads(self.lines.get(timeout=max(end - time.monotonic(), 0.01)))
            except queue.Empty:
                raise AssertionError(f"no {name} within {seconds} s") from None
            if e["event"] == name:
                return e

    def tell(self, command):
        self.process.stdin.write(command + "\n")
        self.process.stdin.flush()

    def mark(self):
        self.tell("mark")
        return self.event("mark")


class Meeting:
    """Host and client in networks of the given kinds, with a relay on the public side."""

    def __init__(self, folder, log, host, client, relay=True, second=None):
        self.folder, self.log, self.v6 = folder, log, "v6" in (host, client)
        self.with_relay = relay
        self.net = nets.Nets(BIN)
        try:
            self.net.up()
            self.net.home("host", host, "public", 2)
            self.net.home("client", client, "access", 1)
            if second:
                self.net.router("second", second, "access", "second", "198.51.100.3/24", "10.3.0", "client2")
        except Exception:
            self.net.down()
            raise
        self.host = self.client = None
        self.stun_answers = True  # false: not to the host, by what a test blocks

    def relay_address(self):
        return f"[{nets.RELAY6}]:{nets.RELAY_PORT}" if self.v6 else f"{nets.RELAY}:{nets.RELAY_PORT}"

    def stuns(self):
        servers = [f"[{nets.STUN6}]:3478"] if self.v6 else [f"{nets.STUN1}:3478", f"{nets.STUN2}:3478"]
        return [f"stun={s}" for s in servers]

    def start_relay(self):
        with open(f"{self.folder}/issuers", "w") as f:
            f.write(issuer_text() + "\n")
        with open(self.log("relay"), "ab") as f:
            self.relay = self.net.start("relay", f"{BIN}/wavry-relay", "--set", "name=r", "--set", f"listen={nets.RELAY_PORT}", "--set",
                                        f"issuers={self.folder}/issuers", "--set", f"state_file={self.folder}/state", "--set",
                                        f"metrics_socket={self.folder}/metrics", "--set", "proofs_per_s=1000", stderr=f, stdout=f)
        wait_for(lambda: os.path.exists(f"{self.folder}/metrics"), WAIT, "the relay's socket")

    def start_host(self):
        self.host = End(self.net, "host", self.log("host"), "host", f"{self.folder}/gateway", *self.stuns())
        self.key = self.host.line()
        if self.stun_answers:
            self.host.await_line("addressed")  # a host asks its STUN servers long before anybody comes

    def start_client(self, *options):
        relay = [f"relay={self.relay_address()}", f"issuer={SEED.hex()}"] if self.with_relay else []
        self.client = End(self.net, "client", self.log("client"), "client", f"{self.folder}/gateway", f"key={self.key}",
                          "signal_ms=40", "login_ms=200", *relay, *self.stuns(), *options)
        return self.client

    def start(self):
        if self.with_relay:
            self.start_relay()
        self.start_host()
        return self.start_client()

    def hang_up(self):
        self.net.stop(self.client.process)


@unittest.skipIf(WHY_NOT, WHY_NOT)
class Paths(SystemTest):
    def log(self, name):
        path = self.path(f"{name}.log")
        if path not in self.logs:
            self.logs.append(path)
        return path

    def meet(self, host, client, **options):
        m = Meeting(tempfile.mkdtemp(dir=self.dir), self.log, host, client, **options)
        self.addCleanup(m.net.down)
        return m

    def expect(self, host, client, path, prepare=None):
        m = self.meet(host, client)
        if prepare:
            prepare(m)
        end = m.start()
        first = end.event("first")
        mark = self.marks_until(end, path)[-1]
        if path == "relayed":  # and so it stays
            time.sleep(2)
            mark = end.mark()
            self.assertEqual(mark["path"], path, f"host {host}, client {client}: {mark}")
        print(f"host {host}, client {client}: {mark['path']}, first picture after {first['ms']} ms; {mark['why']}", flush=True)
        return m, first, mark

    def test_endpoint_independent(self):
        self.expect("full", "port", "direct")

    def test_port_restricted(self):
        self.expect("port", "port", "direct")

    def test_symmetric_host_and_open_client(self):
        self.expect("sym", "full", "direct")

    def test_symmetric_client_and_open_host(self):
        self.expect("none", "sym", "direct")

    def test_symmetric_client_and_port_restricted_host(self):
        m, _, _ = self.expect("port", "sym", "relayed")
        wait_for(lambda: "gives every connection another port" in m.client.mark()["why"], WAIT, "the reason")

    def test_symmetric_on_both_sides(self):
        self.expect("sym", "sym", "relayed")

    def test_double_nat(self):
        self.expect("double", "double", "direct")

    def test_udp_blocked_towards_the_host(self):
        def block(m):
            m.net.block("hostnat", f"ip daddr != {nets.RELAY} ip saddr != {nets.RELAY} ip protocol udp")
            m.stun_answers = False
        self.expect("port", "port", "relayed", block)

    def test_ipv6_only(self):
        _, _, mark = self.expect("v6", "v6", "direct")
        self.assertTrue(mark["address"].startswith("["), mark)

    def test_without_a_relay(self):
        m = self.meet("port", "port", relay=False)
        end = m.start()
        end.event("first")
        self.marks_until(end, "direct")

    def marks_until(self, end, path):
        marks = []
        wait_for(lambda: marks.append(end.mark()) or marks[-1]["path"] == path, 60, path)
        return marks

    def test_there_and_back_during_a_session(self):
        m, _, _ = self.expect("port", "port", "direct")
        end = m.client
        time.sleep(2)
        end.mark()
        m.net.block("hostnat", "ip saddr 198.51.100.1", "ip daddr 198.51.100.1")
        gaps = [m["longest_gap_ms"] for m in self.marks_until(end, "relayed")]
        time.sleep(1)
        away = end.mark()
        away["longest_gap_ms"] = max(away["longest_gap_ms"], *gaps)
        self.assertEqual(away["path"], "relayed", away)
        self.assertIn("stopped answering", away["why"])
        m.net.block("hostnat")
        gaps = [m["longest_gap_ms"] for m in self.marks_until(end, "direct")]
        time.sleep(1)
        back = end.mark()
        back["longest_gap_ms"] = max(back["longest_gap_ms"], *gaps)
        self.assertEqual((back["path"], back["connects"]), ("direct", 1))
        print(f"to the relay: {away['longest_gap_ms']} ms without a picture; back: {back['longest_gap_ms']} ms", flush=True)

    def test_a_restart_of_transport_keeps_a_relayed_session(self):
        m, _, _ = self.expect("sym", "sym", "relayed")
        end = m.client
        time.sleep(1)
        end.mark()
        m.host.tell("restart")
        m.host.await_line("restarted")
        marks = []
        wait_for(lambda: time.sleep(0.5) or marks.append(end.mark()) or sum(k["frames"] for k in marks) > 100, WAIT, "pictures go on")
        self.assertEqual((marks[-1]["path"], marks[-1]["connects"]), ("relayed", 1), marks)
        print(f"transport killed under a relayed session: {max(k['longest_gap_ms'] for k in marks)} ms without a picture", flush=True)

    def move_to_another_network(self, host, relay):
        """The client goes from one router to another, as between two wireless networks. Returns the longest pause in ms."""
        m = self.meet(host, "port", relay=relay, second="port")
        net = m.net
        end = m.start()
        end.event("first")
        time.sleep(2)
        end.mark()
        net.ip("client2", "link", "set", "eth0", "down")
        must = nets.must
        must("ip", "link", "set", "eth0", "netns", net.space("client"), "name", "eth1", namespace=net.space("client2"))
        net.ip("client", "addr", "add", "10.3.0.2/24", "dev", "eth1")
        net.ip("client", "link", "set", "eth1", "up")
        net.ip("client", "link", "set", "eth0", "down")
        net.ip("client", "route", "replace", "default", "via", "10.3.0.1")
        marks = []
        wait_for(lambda: time.sleep(0.5) or marks.append(end.mark()) or sum(k["frames"] for k in marks) > 200, WAIT, "pictures go on")
        self.assertEqual(marks[-1]["connects"], 1, marks)
        self.marks_until(end, "direct")
        gap = max(k["longest_gap_ms"] for k in marks)
        print(f"another network, host {host}, {'a' if relay else 'no'} relay: {gap} ms without a picture", flush=True)
        net.down()
        return gap

    def moves_within(self, host, most_ms):
        """Without a relay; the machine may be busy, but not every time."""
        gaps = []
        while not gaps or (min(gaps) >= most_ms and len(gaps) < 4):
            gaps.append(self.move_to_another_network(host, False))
        self.assertLess(min(gaps), most_ms)

    def test_another_network_with_a_relay(self):
        self.move_to_another_network("port", True)

    def test_another_network_without_a_relay(self):
        """The host's router lets the new address in only after the host has heard of it, by a new offer, which goes at once:
        without that it went after 3 s of silence."""
        self.moves_within("port", 2500)

    def test_another_network_to_an_open_host(self):
        """Nobody has to be told: the session goes on from the new address."""
        self.moves_within("none", 1500)


if __name__ == "__main__":
    unittest.main(verbosity=2)
