#!/usr/bin/env python3
"""Two gateways that share PostgreSQL and NATS, the real servers: a client at one reaches a host at the other; then each
part is killed under load. What was acknowledged is never lost, and a moment later everything goes on. Run by
tests/with_postgres; needs nats-server."""
import os
import shutil
import signal
import socket
import subprocess
import threading
import time
import unittest

from gateway_kit import GatewayTest, Machine
from harness import free_tcp_port, wait_for
from signal_kit import Closed, Socket
from test_signal import Relay

NATS = shutil.which("nats-server", path="/usr/sbin:/usr/bin")
SERVER = os.environ.get("WAVRY_TEST_POSTGRES")
AFTER_S = 20  # from a server's return to new connections and signals: 5 s on a machine that does nothing else


class Peer(threading.Thread):
    """A host that stays connected to whichever of PORTS answers, its own one first, and notes what it received."""

    def __init__(self, machine, token, ports):
        super().__init__(daemon=True)
        self.machine, self.token, self.ports = machine, token, ports
        self.received, self.ended, self.at, self.link = set(), False, None, None

    def connect(self):
        for port in self.ports:
            try:
                link = Socket(port, timeout=5)
                link.hello(self.token)
                self.link, self.at = link, port
                return True
            except (OSError, Closed, AssertionError, TimeoutError):
                continue
        return False

    def run(self):
        while not self.ended:
            if not self.link and not self.connect():
                time.sleep(0.1)
                continue
            try:
                message = self.link.next(0.5)
                if message["type"] == "signal":
                    self.received.add(message["id"])
            except TimeoutError:
                continue
            except (OSError, Closed):
                self.link.close()
                self.link = self.at = None


class Caller(Peer):
    """A device that says something to a host again and again, and notes what was acknowledged."""

    def __init__(self, machine, token, ports, host):
        super().__init__(machine, token, ports)
        self.host, self.acknowledged, self.refused, self.n = host, set(), {}, 0

    def call(self):
        """One message. Returns "sent", an error, or None."""
        self.n += 1
        name = f"{self.machine.key[6:16]}-{self.n}"
        try:
            if not self.link and not self.connect():
                return None
            self.link.signal(self.host.key, name)
            deadline = time.monotonic() + 10
            while time.monotonic() < deadline:
                answer = self.link.next(10)
                if answer.get("id") == name and answer["type"] in ("sent", "error"):
                    result = answer.get("error", "sent")
                    if result == "sent":
                        self.acknowledged.add(name)
                    return result
        except (OSError, Closed, TimeoutError):
            if self.link:
                self.link.close()
            self.link = self.at = None
        return None

    def run(self):
        while not self.ended:
            result = self.call()
            self.refused[result] = self.refused.get(result, 0) + 1
            if result != "sent":
                time.sleep(0.02)
            time.sleep(0.03)


class Writer(threading.Thread):
    """Registers relays, one after the other, and notes which were acknowledged."""

    def __init__(self, test, ports, token):
        super().__init__(daemon=True)
        self.test, self.ports, self.token = test, ports, token
        self.acknowledged, self.ended, self.failed = set(), False, 0
        self.key = Relay("x").machine.sign_key

    def run(self):
        n = 0
        while not self.ended and n < 900:
            n += 1
            try:
                body = {"key": self.key, "address": "r.test:1", "region": "x"}
                if self.test.at(self.ports[n % 2]).request("PUT", f"/v1/relays/w{n}", body, self.token).status == 204:
                    self.acknowledged.add(f"w{n}")
                else:
                    self.failed += 1
            except (OSError, AssertionError, Exception):  # pylint: disable=broad-except
                self.failed += 1
            time.sleep(0.02)


class View:
    """The test's requests to one gateway, from any thread."""

    def __init__(self, test, port):
        self.test, self.port, self.api, self.tls = test, port, test.api, False

    def __getattr__(self, name):
        return getattr(type(self.test), name).__get__(self)

    def assertIn(self, *arguments):
        self.test.assertIn(*arguments)

    def assertEqual(self, *arguments):
        self.test.assertEqual(*arguments)


@unittest.skipUnless(SERVER and NATS, "needs PostgreSQL (tests/with_postgres) and nats-server")
class Several(GatewayTest):
    def at(self, port):
        return View(self, port)

    def start_nats(self):
        self.nats = self.start("nats", [NATS, "-a", "127.0.0.1", "-p", str(self.nats_port)])
        wait_for(self.nats_answers, 20, "nats-server")

    def nats_answers(self):
        if self.nats.poll() is not None:  # somebody else took the port a moment ago: the same one, until it is free
            self.nats = self.start("nats", [NATS, "-a", "127.0.0.1", "-p", str(self.nats_port)])
        try:
            with socket.create_connection(("127.0.0.1", self.nats_port), 1) as s:
                return s.recv(4) == b"INFO"
        except OSError:
            return False

    def start_gateway(self, name, port=None):
        self.gateway("--set", f"bus=nats://127.0.0.1:{self.nats_port}", "--set", "signals_per_s=1000", name=name,
                     listen=f"127.0.0.1:{port or 0}")
        return self.port

    def setUp(self):
        super().setUp()
        self.nats_port = free_tcp_port()
        self.start_nats()
        self.add_admin()
        self.a = self.start_gateway("a", free_tcp_port())
        self.b = self.start_gateway("b", free_tcp_port())
        self.port = self.a
        self.admin = self.login()
        self.host, self.device = Machine(), Machine()
        self.register(self.admin, "hosts", self.host, "tower")
        self.register(self.admin, "devices", self.device, "laptop")
        wait_for(lambda: self.metric("gateways", "a") == 1 and self.metric("gateways", "b") == 1, 20, "two gateways")

    def online(self, port, machine, token=None):
        s = Socket(port, self.api)
        self.addCleanup(s.close)
        s.hello(token or self.at(port).machine_login(machine))
        return s

    def eventually_sent(self, caller, to, name):
        """What one gateway knows the other hears a moment later."""
        def once():
            caller.signal(to.key, name)
            return caller.next().get("type") == "sent"
        wait_for(once, 20, f"{name} sent")

    def test_a_client_at_one_reaches_a_host_at_the_other(self):
        host, device = self.online(self.b, self.host), self.online(self.a, self.device)
        self.eventually_sent(device, self.host, "d1")
        self.assertEqual(host.next(), {"type": "signal", "from": self.device.key, "id": "d1", "sealed": "c2VhbGVk"})
        self.eventually_sent(host, self.device, "h1")
        self.assertEqual(device.next()["from"], self.host.key)
        for port in (self.a, self.b):
            wait_for(lambda p=port: self.at(p).ok("GET", "/v1/hosts", token=self.admin)["hosts"][0]["online"], 20, "online")
        # The same machine at the other gateway: the older connection ends.
        again = self.online(self.a, self.host)
        self.assertEqual(host.until_closed(), 4000)
        self.eventually_sent(device, self.host, "d2")
        self.assertEqual(again.next()["id"], "d2")
        # Sessions and rights are known everywhere.
        again.send({"type": "sessions", "sessions": [{"peer": self.device.key, "path": "direct", "rtt_ms": 3, "loss": 0}]})
        wait_for(lambda: len(self.at(self.b).ok("GET", "/v1/sessions", token=self.admin)["sessions"]) == 1, 20, "sessions")
        self.at(self.b).ok("DELETE", f"/v1/devices/{self.device.key}", token=self.admin, status=204)
        self.assertEqual(device.until_closed(), 4001)

    def test_relays_and_leases_are_everybodys(self):
        relay, token = Relay("r.test"), self.at(self.a).machine_login(self.device)
        self.at(self.a).ok("PUT", "/v1/relays/r.test", {"key": relay.machine.sign_key, "address": "r.test:1", "region": "x"},
                           self.admin, 204)
        wish = {"host": self.host.key, "host_relay_key": Machine().sign_key, "client_relay_key": Machine().sign_key}

        def lease(port, **more):
            return self.at(port).request("POST", "/v1/leases", {**wish, **more}, token)

        def listed_at_a():
            return [r["id"] for r in self.at(self.a).ok("GET", "/v1/relays", token=self.admin)["relays"]] == ["r.test"]

        def known_at_b():
            if time.time() >= relay.at + 1:  # never ahead of the clock: more than a moment of that is refused
                self.at(self.a).ok("POST", "/v1/relays/r.test/heartbeat", relay.heartbeat(), status=204)
            return lease(self.b).status == 200
        wait_for(listed_at_a, 20, "the relay in the list")
        wait_for(known_at_b, 20, "a relay that spoke to the other gateway only")
        first = lease(self.b).body["lease"]
        self.assertEqual(lease(self.a, lease=first).status, 200)  # one signs, the other renews: one issuer
        issuers = {self.at(p).ok("GET", "/v1/relays", token=self.admin)["issuer"] for p in (self.a, self.b)}
        self.assertEqual(len(issuers), 1)

    def test_one_that_leaves_sends_its_machines_to_the_other(self):
        host, device = self.online(self.b, self.host), self.online(self.a, self.device)
        self.eventually_sent(device, self.host, "d1")
        self.processes["b"].send_signal(signal.SIGTERM)
        self.assertEqual(host.until_closed(), 1001)
        self.assertEqual(host.messages[-1]["type"], "leaving")
        self.assertEqual(self.processes["b"].wait(20), 0)
        wait_for(lambda: self.metric("gateways", "a") == 0, 30, "that it left")
        self.assertEqual(self.metric("gateways_expired_total", "a"), 0)  # it said so, and was not missed
        again = self.online(self.a, self.host)
        self.eventually_sent(device, self.host, "d2")
        self.assertEqual(again.next()["id"], "d2")

    # ---- kills ----

    def load(self, pairs=6):
        """Hosts at one gateway and devices at the other, both ways round, and somebody who writes."""
        hosts, callers = [], []
        for i in range(pairs):
            host, device = Machine(), Machine()
            ports = [self.a, self.b] if i % 2 else [self.b, self.a]
            self.register(self.admin, "hosts", host, f"host {i}")
            self.register(self.admin, "devices", device, f"device {i}")
            hosts.append(Peer(host, self.machine_login(host), ports))
            callers.append(Caller(device, self.machine_login(device), ports[::-1], host))
        writer = Writer(self, [self.a, self.b], self.admin)
        threads = hosts + callers + [writer]
        for t in threads:
            t.start()
        self.addCleanup(self.end_load, threads)
        wait_for(lambda: all(len(c.acknowledged) >= 10 for c in callers) and len(writer.acknowledged) >= 5, 60, "load")
        return hosts, callers, writer

    @staticmethod
    def end_load(threads):
        for t in threads:
            t.ended = True
        for t in threads:
            t.join(30)

    def nothing_acknowledged_is_lost(self, hosts, callers, writer):
        self.end_load(callers + [writer])
        wait_for(lambda: all(c.acknowledged <= h.received for c, h in zip(callers, hosts)), 20,
                 lambda: [c.acknowledged - h.received for c, h in zip(callers, hosts)])
        self.end_load(hosts)
        stored = {r["id"] for r in wait_for(lambda: self.at(self.a).request("GET", "/v1/relays", token=self.admin), 20,
                                            "an answer")["relays"]}
        def all_stored():
            stored.update(r["id"] for r in self.at(self.a).ok("GET", "/v1/relays", token=self.admin)["relays"])
            return writer.acknowledged <= stored
        wait_for(all_stored, 20, lambda: writer.acknowledged - stored)  # the list is read every 5 s
        print(f"acknowledged: {sum(len(c.acknowledged) for c in callers)} signals, {len(writer.acknowledged)} writes; "
              f"not: {[c.refused for c in callers]}, {writer.failed} writes", flush=True)

    def new_ones_within(self, begun, hosts, callers, what):
        """From BEGUN, a new connection at each gateway and a signal from one to the other come soon; and the load goes on."""
        def fresh():
            try:
                host, device = self.online(self.b, self.host), self.online(self.a, self.device)
                device.signal(self.host.key, "new")
                return device.next().get("type") == "sent" and host.next()["id"] == "new"
            except (OSError, Closed, AssertionError, TimeoutError):
                return False
        wait_for(fresh, 60, "a new connection after " + what)
        took = time.monotonic() - begun
        before = [len(c.acknowledged) for c in callers]
        wait_for(lambda: all(len(c.acknowledged) >= n + 3 for c, n in zip(callers, before)), 60,
                 lambda: f"everybody's load to go on: {[(c.at, c.refused) for c in callers]}")
        print(f"{what}: new connections and signals after {took:.2f} s", flush=True)
        return took

    def test_a_gateway_is_killed(self):
        hosts, callers, writer = self.load()
        for _ in range(2):
            self.stop(self.processes["b"], signal.SIGKILL)
            # All find the other one.
            before = [len(c.acknowledged) for c in callers]
            wait_for(lambda n=before: all(len(c.acknowledged) >= k + 3 for c, k in zip(callers, n)), 60, "the load at one gateway")
            begun = time.monotonic()
            self.start_gateway("b", self.b)
            took = self.new_ones_within(begun, hosts, callers, "a gateway was killed")
            self.assertLess(took, AFTER_S)
        self.nothing_acknowledged_is_lost(hosts, callers, writer)

    def test_nats_is_killed(self):
        hosts, callers, writer = self.load()
        for _ in range(2):
            self.stop(self.nats, signal.SIGKILL)
            wait_for(lambda: self.metric("bus_up", "a") == 0 and self.metric("bus_up", "b") == 0, 20, "the bus down")
            self.assertEqual(self.at(self.a).request("GET", "/readyz").error, "bus_away")
            time.sleep(1)
            self.start_nats()
            begun = time.monotonic()
            took = self.new_ones_within(begun, hosts, callers, "NATS was killed")
            self.assertLess(took, AFTER_S)
            self.at(self.a).ok("GET", "/readyz")
        self.nothing_acknowledged_is_lost(hosts, callers, writer)

    def start_postgres(self):
        """Whether it runs again; the memory of the one that was killed may still be in use for a moment."""
        folder = os.environ["WAVRY_TEST_POSTGRES_DIR"]
        tool = sorted(f"/usr/lib/postgresql/{v}/bin/pg_ctl" for v in os.listdir("/usr/lib/postgresql"))[-1]
        run = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"] if os.getuid() == 0 else []
        result = subprocess.run([*run, tool, "-D", f"{folder}/data", "-l", f"{folder}/data/log", "-w", "-t", "60", "-o",
                                 f"-k {folder} -c listen_addresses= -c shared_buffers=16MB", "start"], check=False, cwd="/",
                                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=120)
        return result.returncode == 0

    def test_postgresql_is_killed(self):
        folder = os.environ["WAVRY_TEST_POSTGRES_DIR"]
        hosts, callers, writer = self.load()
        for _ in range(2):
            with open(f"{folder}/data/postmaster.pid", encoding="ascii") as f:
                pid = int(f.readline())
            children = subprocess.run(["ps", "-o", "pid=", "--ppid", str(pid)], stdout=subprocess.PIPE, text=True,
                                      check=False).stdout.split()
            for one in [pid, *map(int, children)]:
                try:
                    os.kill(one, signal.SIGKILL)
                except ProcessLookupError:
                    pass
            wait_for(lambda: self.at(self.a).request("GET", "/readyz").status == 503, 20, "a gateway that says so")
            # Who is connected goes on: rights that are known are known.
            before = [len(c.acknowledged) for c in callers]
            wait_for(lambda n=before: all(len(c.acknowledged) > k for c, k in zip(callers, n)), 20, "signals without a database")
            wait_for(self.start_postgres, 60, "PostgreSQL")
            begun = time.monotonic()
            took = self.new_ones_within(begun, hosts, callers, "PostgreSQL was killed")
            self.assertLess(took, AFTER_S)
        self.nothing_acknowledged_is_lost(hosts, callers, writer)


if __name__ == "__main__":
    unittest.main()
