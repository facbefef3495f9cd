#!/usr/bin/env python3
"""wavry-relay as a process: two peers written anew from WIRE.md (Python, libsodium), a relay that is killed, drained,
reloaded and lied to while they talk."""
import ctypes
import os
import signal
import socket
import struct
import subprocess
import time
import unittest

from harness import BIN, SystemTest, free_udp_port, wait_for

sodium = ctypes.CDLL("libsodium.so.23")
sodium.sodium_init()
MALFORMED, OTHER_RELAY, NOT_TRUSTED, FORGED, NOT_YET, EXPIRED, TOO_LONG, UNPROVEN = range(1, 9)
DRAINING, BAD_ADDRESS = 11, 12
WAIT_S = 30  # for what must come


class Key:
    def __init__(self):
        self.public, self.secret = ctypes.create_string_buffer(32), ctypes.create_string_buffer(64)
        sodium.crypto_sign_keypair(self.public, self.secret)
        self.public = self.public.raw

    def sign(self, message):
        signature = ctypes.create_string_buffer(64)
        sodium.crypto_sign_detached(signature, None, message, ctypes.c_ulonglong(len(message)), self.secret)
        return signature.raw


def name_hash(message, size):
    out = ctypes.create_string_buffer(16)
    sodium.crypto_generichash(out, ctypes.c_size_t(16), message, ctypes.c_ulonglong(len(message)), None,
                              ctypes.c_size_t(0))
    return out.raw[:size]


def lease(issuer, peers, relay="r", rate=100000, begin=0, seconds=600, lease_id=None):
    start = int(time.time()) + begin
    body = (bytes([1, 0, 0, 0]) + name_hash(b"RIFT 1 issuer" + issuer.public, 8) + (lease_id or os.urandom(16)) +
            name_hash(b"RIFT 1 relay" + relay.encode(), 16) + peers[0].public + peers[1].public +
            struct.pack("<IQQ", rate, start, start + seconds))
    return body + issuer.sign(b"RIFT 1 lease" + body)


class Peer:
    def __init__(self, relay_port, key, side, address="127.0.0.1"):
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        self.socket = socket.socket(family, socket.SOCK_DGRAM)
        self.socket.bind((address, 0))
        self.relay, self.key, self.side = (address, relay_port), key, side
        self.socket.settimeout(0.5)
        self.header = None

    def send(self, data):
        self.socket.sendto(data, self.relay)

    def receive(self, seconds=0.5):
        """The next datagram, None when there is none."""
        self.socket.settimeout(seconds)
        try:
            return self.socket.recv(2048)
        except socket.timeout:
            return None

    def receive_kind(self, kind, seconds=WAIT_S):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            d = self.receive(max(end - time.monotonic(), 0.01))
            if d and d[0] == kind:
                return d
        return None

    def challenge(self, lease_bytes):
        transaction = os.urandom(8)
        self.send(bytes([32, 1, 0, 0]) + transaction + lease_bytes[12:28] + bytes(68))
        answer = self.receive_kind(33)
        if not answer:
            return None, None
        assert answer[4:12] == transaction and len(answer) == 62
        return transaction, answer[12:36]

    def bind_datagram(self, lease_bytes, key=None, side=None):
        transaction, challenge = self.challenge(lease_bytes)
        head = bytes([34, 1, self.side if side is None else side, 0]) + transaction + challenge + lease_bytes
        return head + (key or self.key).sign(b"RIFT 1 relay bind" + head)

    def bind(self, lease_bytes, **options):
        """0 when bound, else the reason."""
        self.send(self.bind_datagram(lease_bytes, **options))
        end = time.monotonic() + WAIT_S
        while time.monotonic() < end:
            answer = self.receive(0.5)
            if answer and answer[0] == 35:
                self.header = answer[12:20]
                return 0
            if answer and answer[0] == 36:
                return answer[2]
        return None

    def pass_to(self, other, text, seconds=WAIT_S):
        self.send(self.header + text)
        got = other.receive_kind(48, seconds)
        return got == other.header + text


class Relay(SystemTest):
    def setUp(self):
        super().setUp()
        self.issuer, self.keys = Key(), [Key(), Key()]
        self.port = free_udp_port()
        self.trust([self.issuer])
        self.relay()

    def trust(self, issuers):
        import base64
        with open(self.path("issuers"), "w") as f:
            for key in issuers:
                f.write("ed25519." + base64.urlsafe_b64encode(key.public).decode().rstrip("=") + " # of the test\n")

    def relay(self, *options):
        self.process = self.start("relay", [
            f"{BIN}/wavry-relay", "--set", "name=r", "--set", f"listen={self.port}", "--set",
            f"issuers={self.path('issuers')}", "--set", f"state_file={self.path('state')}", "--set", "allow=loopback",
            "--set", f"metrics_socket={self.path('metrics')}", "--set", "proofs_per_s=1000", *options])
        wait_for(lambda: self.process.poll() is not None or self.metrics(), WAIT_S, lambda: self.read_log("relay"))
        self.assertIsNone(self.process.poll(), self.read_log("relay"))

    def again(self, sig=signal.SIGKILL, *options):
        self.stop(self.process, sig)
        self.relay(*options)

    def metrics(self):
        try:
            with socket.socket(socket.AF_UNIX) as s:
                s.settimeout(2)
                s.connect(self.path("metrics"))
                s.sendall(b"GET /metrics HTTP/1.0\r\nAccept: application/openmetrics-text\r\n\r\n")
                text = b""
                while chunk := s.recv(65536):
                    text += chunk
        except OSError:
            return {}
        self.assertTrue(text.endswith(b"# EOF\n"), text[-200:])
        return {line.split()[0].decode(): float(line.split()[1]) for line in text.split(b"\r\n\r\n", 1)[1].splitlines()
                if line and not line.startswith(b"#")}

    def count(self, name):
        return self.metrics()[f"wavry_relay_{name}"]

    def counted(self, name, value):
        """Waits until the metric is VALUE; a page is asked for five times a second at most."""
        time.sleep(0.25)
        wait_for(lambda: self.count(name) == value, WAIT_S, lambda: f"{name} is {self.count(name)}, not {value}")

    def pair(self, address="127.0.0.1", **terms):
        shown = lease(self.issuer, self.keys, **terms)
        peers = [Peer(self.port, key, side, address) for side, key in enumerate(self.keys)]
        for peer in peers:
            self.assertEqual(peer.bind(shown), 0)
        return shown, peers

    def test_both_directions_and_families(self):
        for address in ("127.0.0.1", "::1"):
            _, (a, b) = self.pair(address)
            self.assertTrue(a.pass_to(b, os.urandom(1452)))
            self.assertTrue(b.pass_to(a, b"back"))
        self.counted("leases", 2)
        self.counted("forwarded_total", 4)

    def test_what_is_refused(self):
        stranger, peer = Key(), Peer(self.port, self.keys[0], 0)
        good = lease(self.issuer, self.keys)
        changed = bytearray(good)
        changed[108] ^= 1
        cases = [(lease(stranger, self.keys), NOT_TRUSTED), (bytes(changed), FORGED),
                 (lease(self.issuer, self.keys, relay="other"), OTHER_RELAY),
                 (lease(self.issuer, self.keys, begin=-3700), EXPIRED),
                 (lease(self.issuer, self.keys, begin=3600), NOT_YET),
                 (lease(self.issuer, self.keys, seconds=3601), TOO_LONG),
                 (good[:1] + b"\1" + good[2:], MALFORMED)]
        names = ("not_trusted", "forged", "other_relay", "expired", "not_yet", "too_long", "malformed")
        for (shown, reason), name in zip(cases, names):
            self.assertEqual(peer.bind(shown), reason)
            self.counted(f"refused_{name}_total", 1)
        self.assertEqual(peer.bind(good, key=stranger), UNPROVEN)
        self.assertEqual(peer.bind(good, key=self.keys[0], side=1), UNPROVEN)
        self.counted("leases", 0)
        self.counted("refused_unproven_total", 2)
        for name in names:  # also those that a scrape has seen first
            self.said("relay", "reason=" + name.replace("_", "-"))
        self.assertEqual(peer.bind(good), 0)

    def test_spoofed_and_replayed(self):
        shown, (a, b) = self.pair()
        thief = Peer(self.port, self.keys[0], 0)
        thief.header = a.header
        self.assertFalse(thief.pass_to(b, b"in a's name", 0.3))
        a.send(a.header[:4] + bytes(4) + b"another token")
        self.assertIsNone(b.receive_kind(48, 0.3))
        self.counted("dropped_unknown_total", 2)
        kept = a.bind_datagram(shown)
        thief.send(kept)  # overheard
        self.assertIsNone(thief.receive(0.3))
        self.counted("unproven_total", 1)
        a.send(kept)
        self.assertIsNotNone(a.receive_kind(35))
        old = a.socket
        a.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        a.socket.bind(("127.0.0.1", 0))
        time.sleep(0.01)
        self.assertEqual(a.bind(shown), 0)
        self.assertTrue(b.pass_to(a, b"to the new address"))
        old.sendto(kept, a.relay)
        self.assertTrue(b.pass_to(a, b"still"))
        self.counted("refused_stale_total", 1)
        self.counted("moves_total", 1)

    def test_killed_under_traffic(self):
        _, (a, b) = self.pair()
        for _ in range(3):
            self.again()
            wait_for(lambda: a.pass_to(b, b"x", 0.1), WAIT_S, "datagrams pass again without a new proof")
            self.counted("restored_total", 1)
        self.assertTrue(b.pass_to(a, b"y"))
        # A state that is damaged costs the lease and nothing else.
        self.stop(self.process, signal.SIGKILL)
        with open(self.path("state"), "r+b") as f:
            f.seek(128 + 100)
            byte = f.read(1)
            f.seek(128 + 100)
            f.write(bytes([byte[0] ^ 1]))
        self.relay()
        self.assertFalse(a.pass_to(b, b"z", 0.2))
        self.counted("leases", 0)
        self.pair()

    def test_state_of_others(self):
        self.pair()
        self.stop(self.process, signal.SIGKILL)
        for content in (b"", b"x" * 100, os.urandom(5000)):
            with open(self.path("state"), "wb") as f:
                f.write(content)
            os.chmod(self.path("state"), 0o600)
            self.relay()
            self.counted("leases", 0)
            self.stop(self.process, signal.SIGKILL)
        os.chmod(self.path("state"), 0o666)
        self.process = self.start("refused", [f"{BIN}/wavry-relay", "--set", "name=r", "--set", f"listen={self.port}",
                                              "--set", f"issuers={self.path('issuers')}", "--set",
                                              f"state_file={self.path('state')}"])
        self.assertNotEqual(self.process.wait(WAIT_S), 0)

    def test_drain(self):
        shown, (a, b) = self.pair()
        self.process.send_signal(signal.SIGUSR1)
        self.said("relay", "draining")
        other = Peer(self.port, self.keys[0], 0)
        self.assertEqual(other.bind(lease(self.issuer, self.keys)), DRAINING)
        self.assertEqual(a.bind(lease(self.issuer, self.keys, seconds=1200, lease_id=shown[12:28])), DRAINING)
        self.assertTrue(a.pass_to(b, b"goes on"))
        self.again()
        self.counted("draining", 1)
        self.assertTrue(a.pass_to(b, b"goes on"))
        self.process.send_signal(signal.SIGUSR2)
        self.said("relay", "taken again")
        self.assertEqual(other.bind(lease(self.issuer, self.keys)), 0)

    def test_an_issuer_is_withdrawn(self):
        _, (a, b) = self.pair()
        self.trust([Key()])
        self.assertEqual(self.stop(self.process, signal.SIGHUP), 75)
        self.relay()
        self.assertFalse(a.pass_to(b, b"x", 0.2))
        self.counted("withdrawn_total", 1)

    def test_a_rate_is_kept_by_delay(self):
        _, (a, b) = self.pair(rate=8000)  # 1000 datagrams of 1000 bytes a second
        b.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        numbers, sent, idle, begun = [], 0, 0.0, time.monotonic()
        at, took = begun, 0.0
        while at - begun < 2:
            for _ in range(min(max(int(3000 * took), 10), 60)):
                a.send(a.header + struct.pack("<I", sent) + bytes(988))
                sent += 1
            while d := b.receive(0.0005):
                numbers.append(struct.unpack("<I", d[8:12])[0])
            time.sleep(0.002)
            took, at = time.monotonic() - at, time.monotonic()
            idle += took if took > 0.02 else 0  # this machine was busy otherwise: nothing may have waited in the relay
        while d := b.receive(1):
            numbers.append(struct.unpack("<I", d[8:12])[0])
        self.assertGreater(sent, 1500 * (at - begun - idle), "this machine sends fast enough to need shaping")
        self.assertGreater(len(numbers), 800 * (at - begun - idle))
        self.assertLess(len(numbers), 1000 * (at - begun) + 300)
        self.assertEqual(numbers, sorted(numbers))
        self.assertGreater(self.count("shaped_total"), 500)
        self.assertTrue(a.pass_to(b, b"and afterwards all is as before"))

    def test_what_comes_fast_leaves_together(self):
        self.again(signal.SIGTERM, "--set", "gather_us=1000", "--set", "spin_us=0")
        _, (a, b) = self.pair(rate=10000000)
        b.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        for i in range(3000):
            a.send(a.header + struct.pack("<I", i))
        numbers = []
        while d := b.receive_kind(48, 0.3):
            numbers.append(struct.unpack("<I", d[8:12])[0])
        self.assertGreater(len(numbers), 2000)
        self.assertEqual(numbers, sorted(numbers))
        self.assertLess(self.count("messages_sent_total"), self.count("forwarded_total") / 2)
        self.assertTrue(a.pass_to(b, b"and one alone leaves, too"))

    def test_stun(self):
        request = struct.pack(">HHI", 1, 0, 0x2112A442) + bytes(range(12))
        peer = Peer(self.port, self.keys[0], 0)
        peer.send(request)
        self.assertIsNone(peer.receive(0.3), "off unless configured")
        self.again(signal.SIGTERM, "--set", "stun_per_s=5")
        for address in ("127.0.0.1", "::1"):
            peer = Peer(self.port, self.keys[0], 0, address)
            peer.send(request)
            answer = peer.receive(5)
            self.assertEqual(answer[:2] + answer[4:20], b"\1\1" + request[4:], address)
            self.assertLessEqual(len(answer), len(request) + 32)
            port = struct.unpack(">H", answer[26:28])[0] ^ 0x2112
            ip = bytes(x ^ y for x, y in zip(answer[28:-8], answer[4:20]))
            family = socket.AF_INET6 if ":" in address else socket.AF_INET
            self.assertEqual((answer[20:22], socket.inet_ntop(family, ip), port),
                             (b"\0\x20", address, peer.socket.getsockname()[1]))
        for _ in range(50):
            peer.send(request)
        answers = 0
        while peer.receive(0.3):
            answers += 1
        self.assertGreaterEqual(answers, 5)
        self.assertLess(answers, 30, "only so many for one address")
        late = []  # on a busy machine
        wait_for(lambda: self.count("stun_answers_total") + self.count("stun_dropped_total") == 52, WAIT_S, lambda: self.metrics())
        while len(late) < self.count("stun_answers_total") - 2 - answers and (answer := peer.receive(WAIT_S)):
            late.append(answer)
        self.assertEqual(self.count("stun_answers_total"), 2 + answers + len(late))

    def test_addresses_that_are_not_served(self):
        self.again(signal.SIGTERM, "--set", "allow=")
        peer = Peer(self.port, self.keys[0], 0)
        self.assertEqual(peer.bind(lease(self.issuer, self.keys)), BAD_ADDRESS)

    def test_rubbish(self):
        _, (a, b) = self.pair()
        for i in range(2000):
            a.send(os.urandom(1 + i % 1500))
        a.send(b"")
        self.assertTrue(wait_for(lambda: a.pass_to(b, b"still there", 0.2), WAIT_S, "forwarding"))
        self.assertIsNone(self.process.poll())

    def test_configuration(self):
        def run(*options):
            return subprocess.run([f"{BIN}/wavry-relay", "--check-config", *options], stderr=subprocess.PIPE, text=True,
                                  timeout=WAIT_S, check=False)
        good = ["--set", "name=r", "--set", f"issuers={self.path('issuers')}"]
        self.assertEqual(run(*good).returncode, 0)
        for options, said in ((["--set", f"issuers={self.path('issuers')}"], "name"),
                              (good + ["--set", "listen=here"], "neither a port"),
                              (good + ["--set", "allow=all"], "there is no range"),
                              (good + ["--set", "max_lease=9"], "max_leases"),
                              (["--set", "name=r", "--set", "issuers=/nowhere"], "/nowhere")):
            result = run(*options)
            self.assertEqual(result.returncode, 78, options)
            self.assertIn(said, result.stderr)
        with open(self.path("issuers"), "a") as f:
            f.write("not a key\n")
        self.assertIn("issuers:2", run(*good).stderr)


if __name__ == "__main__":
    unittest.main()
