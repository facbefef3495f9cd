#!/usr/bin/env python3
"""The figures of ways with nothing stood in for: see paths.sh. A real gateway with TLS, a real relay, a whole host that encodes a
moving X display, and wavry-client, which finds the host by its name; 40 ms of round trip between the client and all others. The
networks and the programs' start are those of tests/system/test_reach_nat.py."""
import argparse
import json
import os
import re
import signal
import socket
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../system"))
import nets  # noqa: E402
from harness import BIN, wait_for  # noqa: E402
from test_reach_nat import Nat, WHY_NOT  # noqa: E402

STEPS = ["started", "looked", "welcome", "offer", "answer", "way", "connected", "picture"]


def quantile(values, q):
    values = sorted(values)
    return values[min(int(len(values) * q), len(values) - 1)]


class Client:
    """A wavry-client in its network, and what it writes down."""

    def __init__(self, place):
        self.place = place
        self.path = place.path("timeline")
        if os.path.exists(self.path):
            os.unlink(self.path)
        self.begin = time.monotonic()
        self.process = place.start("client", place.inside("client", f"{BIN}/wavry-client", "desk", "--headless", "--give-up", "30",
                                                          "--timeline", self.path), XDG_CONFIG_HOME=place.path("person"))

    def events(self, since=0.0):
        """(seconds of the monotonic clock, event) of all that came after SINCE."""
        if not os.path.exists(self.path):
            return []
        with open(self.path) as f:
            lines = [line.split() for line in f if line.endswith("\n")]
        return [(int(at) / 1e6, what) for at, what in lines if int(at) / 1e6 >= since]

    def wait(self, *whats, since=0.0, seconds=60):
        """When the first of WHATS came."""
        def seen():
            return next((at for at, what in self.events(since) if what in whats), None)
        return wait_for(seen, seconds, lambda: f"one of {whats}; it wrote {self.events(since)[-20:]}")

    def steps(self):
        found = {}
        for at, what in self.events():
            name = "way" if what in ("direct", "relayed") else what
            found.setdefault(name, round((at - self.begin) * 1000))
        return {name: found[name] for name in STEPS if name in found}

    def way(self):
        return [what for _, what in self.events() if what in ("direct", "relayed")][-1]

    def longest_pause_ms(self, since, until):
        """The longest time without a new picture between SINCE and UNTIL, at which pictures may have been awaited already."""
        times = [at for at, what in self.events() if what == "picture"]
        times = [since, *[t for t in times if since < t < until], until]
        before = [t for t in (at for at, what in self.events() if what == "picture") if t <= since]
        times[0] = before[-1] if before else since
        return round(max(b - a for a, b in zip(times, times[1:])) * 1000)


class Place(Nat):
    """The networks with everything in them but the client."""

    def show_logs(self):
        pass

    def runTest(self):
        pass

    def start_host(self, *options):
        _, display = self.xvfb()
        self.target(display)
        super().start_host("--set", "capture.source=x11", "--display", display, *options)

    def connect(self):
        client = Client(self)
        client.wait("picture")
        return client

    def leave(self, client):
        self.stop(client.process, signal.SIGINT)
        wait_for(lambda: not self.sessions(), 30, "the session's end")


class Bench:
    def __init__(self, options):
        self.options, self.result = options, {"first": {}, "pauses": {}}

    def place(self, host, client):
        place = Place()
        place.setUp()
        try:
            place.begin(host, client)
        except BaseException:
            place.doCleanups()
            raise
        return place

    def first_pictures(self, name, host, client):
        place, rows, ways = self.place(host, client), [], set()
        try:
            for _ in range(self.options.rounds):
                client = place.connect()
                rows.append(client.steps())
                ways.add(client.way())
                place.leave(client)
        finally:
            place.doCleanups()
        if ways != {name}:
            sys.exit(f"host {host}, client {client}: {ways}")
        times = [r["picture"] for r in rows]
        self.result["first"][name] = rows
        print(f"| {name} | {len(times)} | {quantile(times, 0.5)} | {quantile(times, 0.95)} | {max(times)} | "
              + " | ".join(str(quantile([r[s] for r in rows], 0.5)) for s in STEPS) + " |", flush=True)


    def measure(self, name, client, change, settled, seconds=90):
        """How long no picture comes after CHANGE, until SETTLED(when it began) and two seconds more."""
        time.sleep(2)
        begin = time.monotonic()
        change()
        wait_for(lambda: settled(begin), seconds, lambda: f"{name}: {client.events(begin - 1)[-20:]}\n{client.place.read_log('client')[-2000:]}")
        time.sleep(2)
        client.wait("picture", since=time.monotonic(), seconds=seconds)
        pause = client.longest_pause_ms(begin, time.monotonic())
        self.result["pauses"].setdefault(name, []).append(pause)

    def say(self, *names):
        for name in names:
            pauses = self.result["pauses"][name]
            print(f"| {name} | {len(pauses)} | {quantile(pauses, 0.5)} | {quantile(pauses, 0.95)} | {max(pauses)} |", flush=True)

    def switches(self):
        """The direct way is cut, and mended."""
        place = self.place("port", "port")
        names = ("direct to relayed", "relayed to direct")
        try:
            client = place.connect()
            client.wait("direct")
            client.wait("lease")
            for _ in range(self.options.switches):
                self.measure(names[0], client, lambda: place.net.block("hostnat", "ip saddr 198.51.100.1", "ip daddr 198.51.100.1"),
                             lambda begin: "relayed" in [what for _, what in client.events(begin)])
                self.measure(names[1], client, lambda: place.net.block("hostnat"),
                             lambda begin: "direct" in [what for _, what in client.events(begin)])
        finally:
            place.doCleanups()
        self.say(*names)

    def moves(self):
        """Another address: of each machine by its router, of each router by its provider (which forgets all mappings, too)."""
        place = self.place("port", "port")
        turn = [0]

        def machine(who, lan):
            turn[0] += 1
            place.net.ip(who, "addr", "flush", "dev", "eth0", "scope", "global")
            place.net.ip(who, "addr", "add", f"{lan}.{10 + turn[0]}/24", "dev", "eth0")
            place.net.ip(who, "route", "replace", "default", "via", f"{lan}.1")

        def router(name, side):
            turn[0] += 1
            place.net.ip(name, "addr", "flush", "dev", "wan", "scope", "global")
            place.net.ip(name, "addr", "add", f"{nets.V4[side]}.{100 + turn[0]}/24", "dev", "wan")
            place.net.ip(name, "route", "replace", "default", "via", f"{nets.V4[side]}.254")

        changes = {"the client's address": lambda: machine("client", "10.1.0"), "the host's address": lambda: machine("host", "10.2.0"),
                   "the client's router has a new address": lambda: router("clientnat", "access"),
                   "the host's router has a new address": lambda: router("hostnat", "public")}
        try:
            for name, change in changes.items():
                if self.options.move not in name:
                    continue
                client = place.connect()
                client.wait("lease")
                for _ in range(self.options.moves):
                    self.measure(name, client, change, lambda begin: any(what == "picture" and at > begin + 1 for at, what in client.events(begin)))
                    self.settle(client)
                if len([1 for _, what in client.events() if what == "connected"]) != 1:
                    print(f"{name}: {[e for e in client.events() if e[1] != 'picture']}")
                place.leave(client)
                self.say(name)
        finally:
            place.doCleanups()

    def settle(self, client):
        """Until the session goes directly again, as long as that may take."""
        deadline = time.monotonic() + 40
        while client.way() != "direct" and time.monotonic() < deadline:
            time.sleep(0.1)

    def faults(self):
        """What lies between them is killed."""
        Place.gateway_options = ("--set", "lease_seconds=30")
        place = self.place("sym", "sym")
        try:
            client = place.connect()
            client.wait("relayed")
            for _ in range(self.options.moves):
                self.measure("the gateway is killed and restarted", client, lambda: self.restart_gateway(place),
                             lambda begin: time.monotonic() > begin + 4)
                self.measure("the relay is killed and restarted", client, lambda: self.restart_relay(place),
                             lambda begin: any(what == "picture" and at > begin + 1 for at, what in client.events(begin)))
        finally:
            place.doCleanups()
        self.say(*[n for n in self.result["pauses"] if n.endswith("killed and restarted")])

    def drains(self):
        """The relay that a session goes through is to be left."""
        Place.gateway_options = ("--set", "lease_seconds=30")
        place, name = self.place("sym", "sym"), "the relay is drained, and another takes over"
        try:
            place.start_relay("r2", 3480)
            client = place.connect()
            client.wait("relayed")
            for _ in range(self.options.moves):
                used = self.carrier(place)
                other = "r2" if used == "r1" else "r1"
                place.processes[other].send_signal(signal.SIGUSR2)
                time.sleep(3)  # its heartbeat says so
                self.measure(name, client, lambda: place.processes[used].send_signal(signal.SIGUSR1),
                             lambda begin: time.monotonic() > begin + 20 and self.carrier(place) == other)
        finally:
            place.doCleanups()
        self.say(name)

    def carrier(self, place):
        """The name of the relay that the session goes through."""
        def carried(name):
            with socket.socket(socket.AF_UNIX) as s:
                s.connect(place.path(f"{name}.sock"))
                s.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
                text = b"".join(iter(lambda: s.recv(65536), b"")).decode()
            return float(re.search(r"^wavry_relay_forwarded_bytes_total (\S+)$", text, re.MULTILINE)[1])
        before = {name: carried(name) for name in ("r1", "r2")}
        time.sleep(1)
        return max(before, key=lambda name: carried(name) - before[name])

    def restart_gateway(self, place):
        place.stop(place.processes["gateway"], signal.SIGKILL)
        place.run_gateway()

    def restart_relay(self, place):
        place.stop(place.processes["r1"], signal.SIGKILL)
        place.run_relay("r1", nets.RELAY_PORT)


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--rounds", type=int, default=20)
    p.add_argument("--switches", type=int, default=10)
    p.add_argument("--moves", type=int, default=5)
    p.add_argument("--move", default="", help="only moves whose name has this in it")
    p.add_argument("--only", choices=["first", "switches", "moves", "faults", "drains"])
    p.add_argument("--json")
    options = p.parse_args()
    if WHY_NOT:
        sys.exit(f"can't be measured here: {WHY_NOT}")
    bench = Bench(options)
    if options.only in (None, "first"):
        print("From the client's start to its first picture, ms; the steps are medians.\n")
        print("| way | times | p50 | p95 | most | " + " | ".join(STEPS) + " |\n|" + "---|" * (5 + len(STEPS)), flush=True)
        bench.first_pictures("direct", "port", "port")
        bench.first_pictures("relayed", "sym", "sym")
    if options.only != "first":
        print("\n| change | times | p50 | p95 | most ms without a picture |\n|---|---|---|---|---|", flush=True)
    for name in ("switches", "moves", "faults", "drains"):
        if options.only in (None, name):
            getattr(bench, name)()
    if options.json:
        with open(options.json, "w") as f:
            json.dump(bench.result, f, indent=1)
    return 0


if __name__ == "__main__":
    sys.exit(main())
