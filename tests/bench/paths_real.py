#!/usr/bin/env python3
"""The figures of ways with nothing stood in for: see paths.sh. A real gateway with TLS, a real relay, a whole host that encodes a
moving X display, and wavry-client, which finds the host by its name; 40 ms of round trip between the client and all others. The
networks and the programs' start are those of tests/system/test_reach_nat.py."""
import argparse
import json
import os
import signal
import subprocess
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


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--rounds", type=int, default=20)
    p.add_argument("--json")
    options = p.parse_args()
    if WHY_NOT:
        sys.exit(f"can't be measured here: {WHY_NOT}")
    bench = Bench(options)
    print("From the client's start to its first picture, ms; the steps are medians.\n")
    print("| way | times | p50 | p95 | most | " + " | ".join(STEPS) + " |\n|" + "---|" * (5 + len(STEPS)), flush=True)
    bench.first_pictures("direct", "port", "port")
    bench.first_pictures("relayed", "sym", "sym")
    if options.json:
        with open(options.json, "w") as f:
            json.dump(bench.result, f, indent=1)
    return 0


if __name__ == "__main__":
    sys.exit(main())
