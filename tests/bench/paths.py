#!/usr/bin/env python3
"""The figures of ways: see paths.sh. The networks and the two ends are those of tests/system/test_paths.py."""
import argparse
import json
import os
import queue
import shutil
import subprocess
import sys
import tempfile
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../system"))
import nets  # noqa: E402
from test_paths import BIN, Meeting  # noqa: E402

NAMES = {"none": "public address", "full": "endpoint-independent", "port": "port-restricted", "sym": "symmetric",
         "double": "port-restricted twice", "v6": "IPv6, firewall", "blocked": "UDP blocked"}
SIGNAL_S = 0.04
PAIRS = [("none", "none"), ("none", "sym"), ("full", "port"), ("full", "sym"), ("port", "port"), ("port", "double"), ("double", "double"),
         ("sym", "full"), ("sym", "none"), ("port", "sym"), ("sym", "port"), ("sym", "sym"), ("blocked", "port"), ("v6", "v6")]


def quantile(values, q):
    values = sorted(values)
    return values[min(int(len(values) * q), len(values) - 1)]


class IceEnd:
    """A process of bench-ice, and what it said."""

    def __init__(self, net, space, role, server):
        self.said, self.changed = {}, threading.Condition()
        self.process = net.start(space, f"{BIN}/bench-ice", role, server, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        if self.process.stdout.readline() != "ready\n":
            raise RuntimeError("bench-ice does not start")

    def tell(self, line):
        try:
            self.process.stdin.write(line)
            self.process.stdin.flush()
        except (BrokenPipeError, ValueError):
            pass  # at the end of a round

    def pass_on(self, other):
        """What is meant for OTHER comes there, in order, as late as a message by way of a gateway."""
        under_way = queue.Queue()

        def read():
            for line in self.process.stdout:
                words = line.split()
                if words[0] in ("credentials", "candidate", "done"):
                    under_way.put((time.monotonic() + SIGNAL_S, line))
                with self.changed:
                    self.said[words[0]] = words[1:]
                    self.changed.notify()
            under_way.put((0, None))

        def write():
            while True:
                due, line = under_way.get()
                if not line:
                    return
                time.sleep(max(due - time.monotonic(), 0))
                other.tell(line)
        for target in (read, write):
            threading.Thread(target=target, daemon=True).start()

    def wait(self, seconds):
        with self.changed:
            self.changed.wait_for(lambda: "chosen" in self.said or "failed" in self.said, seconds)
        return self.said


class Bench:
    def __init__(self, options):
        self.options, self.result = options, {"matrix": [], "switches": {}}
        self.with_ice = os.path.exists(f"{BIN}/bench-ice") and shutil.which("turnserver")
        if not self.with_ice:
            print("coturn or libnice is missing: ICE is left out\n")

    def meeting(self, host, client, **more):
        self.folder = tempfile.mkdtemp(prefix="wavry-paths-")
        m = Meeting(self.folder, lambda name: f"{self.folder}/{name}.log", "port" if host == "blocked" else host, client, **more)
        if host == "blocked":
            m.net.block("hostnat", f"ip daddr != {nets.RELAY} ip saddr != {nets.RELAY} ip protocol udp")
            m.stun_answers = False
        return m

    def finish(self, m):
        m.net.down()
        shutil.rmtree(self.folder, ignore_errors=True)

    def pair(self, host, client):
        m, times, paths = self.meeting(host, client), [], []
        try:
            m.start_relay()
            m.start_host()
            for _ in range(self.options.rounds):
                end = m.start_client()
                times.append(end.event("first", 60)["ms"])
                paths.append(end.mark()["path"])
                m.hang_up()
                time.sleep(0.3)
            m.net.stop(m.host.process)
            m.net.stop(m.relay)  # coturn takes its port, too
            ice = self.ice(m) if self.with_ice else {}
        finally:
            self.finish(m)
        row = {"host": host, "client": client, "paths": sorted(set(paths)), "rounds": len(times), "p50_ms": quantile(times, 0.5),
               "p95_ms": quantile(times, 0.95), "most_ms": max(times), "ice": ice}
        self.result["matrix"].append(row)
        print(f"| {NAMES[host]} | {NAMES[client]} | {' and '.join(row['paths'])} | {row['p50_ms']} | {row['p95_ms']} | {row['most_ms']} | "
              f"{' and '.join(ice.get('paths', ['not run']))} | {ice.get('p50_ms', '')} | {ice.get('p95_ms', '')} |", flush=True)

    def ice(self, m):
        """ICE in the same networks, with coturn for STUN and TURN. Both ends begin at once; their words take as long as ours."""
        m.net.stop(m.net.stuns)
        server, *others = (nets.RELAY6, nets.STUN6) if m.v6 else (nets.RELAY, nets.STUN1, nets.STUN2)
        self.start_coturn(m, "--lt-cred-mech", "-u", "wavry:wavry", "-r", "test", *[w for a in (server, *others) for w in ("-L", a)])
        times, paths = [], []
        for _ in range(self.options.rounds):
            ends = [IceEnd(m.net, space, role, server) for space, role in (("client", "controlling"), ("host", "controlled"))]
            for end, other in (ends, ends[::-1]):
                end.pass_on(other)
            for end in ends:
                end.tell("go\n")
            said = ends[0].wait(30)
            time.sleep(0.5)  # a better pair may come still
            for end in ends:
                m.net.stop(end.process)
            chosen = said.get("chosen")
            paths.append("none" if not chosen else "relayed" if "relayed" in chosen else "direct")
            times.append(int(said["connected"][0]) if chosen else 30000)
        return {"paths": sorted(set(paths)), "p50_ms": quantile(times, 0.5), "p95_ms": quantile(times, 0.95), "times_ms": times}

    def start_coturn(self, m, *options):
        m.net.start("relay", "turnserver", "-n", "--no-tls", "--no-dtls", *options, "--no-stdout-log", "--log-file", "/dev/null", "--no-cli",
                    "--pidfile", f"{self.folder}/pid", stderr=subprocess.DEVNULL)
        time.sleep(1.5)

    def switches(self):
        away, back = [], []
        m = self.meeting("port", "port")
        try:
            end = m.start()
            end.event("first")
            for _ in range(self.options.switches):
                self.until(end, "direct")
                time.sleep(2)
                end.mark()
                m.net.block("hostnat", "ip saddr 198.51.100.1", "ip daddr 198.51.100.1")
                away.append(self.until(end, "relayed"))
                m.net.block("hostnat")
                back.append(self.until(end, "direct"))
        finally:
            self.finish(m)
        for name, gaps in (("direct to relayed", away), ("relayed to direct", back)):
            self.result["switches"][name] = gaps
            print(f"| {name} | {len(gaps)} | {quantile(gaps, 0.5)} | {quantile(gaps, 0.95)} | {max(gaps)} |", flush=True)

    def until(self, end, path):
        """The longest pause in the picture until the way is PATH, and for a second more."""
        gaps, deadline = [], time.monotonic() + 90
        while True:
            mark = end.mark()
            gaps.append(mark["longest_gap_ms"])
            if mark["path"] == path or time.monotonic() > deadline:
                break
            time.sleep(0.1)
        if mark["path"] != path:
            sys.exit(f"the way did not become {path}: {mark}")
        time.sleep(1)
        return max([*gaps, end.mark()["longest_gap_ms"]])

    def coturn(self):
        """What coturn's RFC 5780 test says of the kinds of NAT that are used here."""
        if not shutil.which("turnserver") or not shutil.which("turnutils_natdiscovery"):
            print("coturn is not installed: its view of the NATs is left out")
            return
        print("\n| NAT | mapping | filtering |\n|---|---|---|", flush=True)
        for kind in ("full", "port", "sym", "double"):
            m = self.meeting("none", kind)
            try:
                m.net.stop(m.net.stuns)
                self.start_coturn(m, "--no-auth", "-L", nets.STUN1, "-L", nets.STUN2)
                said = nets.run("timeout", "60", "turnutils_natdiscovery", "-m", "-f", nets.STUN1, namespace=m.net.space("client")).stdout
            finally:
                self.finish(m)
            words = [line.strip(" !") for line in said.splitlines() if "NAT with" in line]
            mapping = next((w for w in words if "Mapping" in w), "not said")
            filtering = next((w for w in words if "Filtering" in w), "not said")
            self.result.setdefault("coturn", {})[kind] = [mapping, filtering]
            print(f"| {NAMES[kind]} | {mapping} | {filtering} |", flush=True)


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--rounds", type=int, default=20)
    p.add_argument("--switches", type=int, default=5)
    p.add_argument("--pair", action="append", help="HOST-CLIENT, of the kinds of tests/system/nets.py: only these pairs")
    p.add_argument("--json")
    options = p.parse_args()
    why_not = nets.missing()
    if why_not:
        sys.exit(f"can't be measured here: {why_not}")
    if not os.path.exists(f"{BIN}/wavry-ways"):
        sys.exit(f"{BIN}/wavry-ways is missing: build the tests")
    bench = Bench(options)
    print("First picture after the client's start, ms; 200 ms of them for the sign-in to a gateway, 40 ms for each of its messages.\n")
    print("ICE: libnice with coturn, from the start of both to the first pair that works; its words take 40 ms, too.\n")
    print("| host | client | way | p50 | p95 | most | ICE's way | p50 | p95 |\n|---|---|---|---|---|---|---|---|---|", flush=True)
    for host, client in [p for p in PAIRS if not options.pair or "-".join(p) in options.pair]:
        bench.pair(host, client)
    if options.pair:
        return 0
    print("\n| change | times | p50 | p95 | most ms without a picture |\n|---|---|---|---|---|", flush=True)
    bench.switches()
    bench.coturn()
    if options.json:
        with open(options.json, "w") as f:
            json.dump(bench.result, f, indent=1)
    return 0


if __name__ == "__main__":
    sys.exit(main())
