#!/usr/bin/env python3
"""The figures of wavry-relay. Forwarders run one at a time on core 1, the traffic's source and sink on core 0: over
loopback, and over a veth pair between two network namespaces. There the source has the kernel cut its trains into single
datagrams, so that it sends more than most can take, and they come in as from a network card: each by itself, or gathered
by the driver's GRO for who wants it so."""
import argparse
import json
import os
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time

BIN = os.environ.get("WAVRY_BIN", os.path.join(os.path.dirname(__file__), "../../build/bin"))
FORWARDER_CPU, TRAFFIC_CPU = "1", "0"
PAYLOAD = 1200
LEASES = 10000


def free_port():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Wire:
    """Two network namespaces and a veth pair: the traffic's end is 10.99.0.1, the forwarder's 10.99.0.2. With GRO the
    forwarder's end takes packets as a network card's driver does."""

    def __init__(self, gro):
        self.gro = gro
        self.traffic, self.forwarder = f"wvbt{os.getpid()}", f"wvbf{os.getpid()}"

    def __enter__(self):
        try:
            self.make()
        except BaseException:
            self.__exit__()
            raise
        return self

    def make(self):
        for name in (self.traffic, self.forwarder):
            self.ip("netns", "add", name)
        self.ip("link", "add", "wva", "netns", self.traffic, "type", "veth", "peer", "name", "wvb", "netns",
                self.forwarder)
        for name, link, address in ((self.traffic, "wva", "10.99.0.1/24"), (self.forwarder, "wvb", "10.99.0.2/24")):
            self.ip("-n", name, "address", "add", address, "dev", link)
            self.ip("-n", name, "link", "set", link, "up")
        self.ip("-n", self.traffic, "link", "set", "wva", "gso_max_segs", "1")  # trains are cut before they leave
        if self.gro:  # who sends segments of TCP uncut is not gathered from
            self.ip("netns", "exec", self.traffic, "ethtool", "-K", "wva", "tso", "off")
            self.ip("netns", "exec", self.forwarder, "ethtool", "-K", "wvb", "gro", "on")

    def __exit__(self, *_):
        for name in (self.traffic, self.forwarder):
            subprocess.run(["ip", "netns", "delete", name], check=False)

    @staticmethod
    def ip(*arguments):
        subprocess.run(["ip", *arguments], check=True)


class Forwarder:
    """COMMAND is told the ADDRESS and PORT to serve; None: nothing forwards."""

    def __init__(self, command, target, extra=(), settle=0.5):
        self.target, self.extra, self.port = target, list(extra), None
        self.command, self.settle, self.wire = command, settle, None

    def over(self, wire):
        self.wire = wire
        return self

    def inside(self, namespace):
        return ["ip", "netns", "exec", namespace] if self.wire else []

    def __enter__(self):
        self.port = free_port()
        if self.command is None:
            self.process = None
            return self
        address = "10.99.0.2" if self.wire else "127.0.0.1"
        command = ["taskset", "-c", FORWARDER_CPU, *self.inside(self.wire and self.wire.forwarder)]
        command += [part.replace("PORT", str(self.port)).replace("ADDRESS", address) for part in self.command]
        self.log = tempfile.TemporaryFile()
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log)
        time.sleep(self.settle)
        if self.process.poll() is not None:
            self.log.seek(0)
            sys.exit(f"{self.command[0]} ended: {self.log.read().decode(errors='replace')[-800:]}")
        return self

    def __exit__(self, *_):
        if self.process:
            self.process.send_signal(signal.SIGKILL if self.target == "bare" else signal.SIGTERM)
            try:
                self.process.wait(5)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()

    def measure(self, seconds, train=1, rate=0.0, flows=1):
        where = ["--here", "10.99.0.1", "--server", "10.99.0.2"] if self.wire else []
        result = subprocess.run(
            ["taskset", "-c", TRAFFIC_CPU, *self.inside(self.wire and self.wire.traffic), f"{BIN}/bench-relay", *where,
             "--port", str(self.port), "--seconds", str(seconds), "--train", str(train), "--rate", str(rate), "--flows",
             str(flows), "--cpu", FORWARDER_CPU, *self.extra, self.target],
            stdout=subprocess.PIPE, text=True, check=True, timeout=seconds + 60)
        return json.loads(result.stdout)

    def memory_kib(self):
        with open(f"/proc/{self.process.pid}/status") as f:
            fields = dict(line.split(":", 1) for line in f)
        return int(fields["VmRSS"].split()[0])


def figures(runs):
    """Medians over the rounds: datagrams a second, the same for each second of the core, core seconds per Gbit."""
    per_s = statistics.median(r["received"] / r["seconds"] for r in runs)
    per_core = statistics.median(r["received"] / max(r["busy_s"], 0.01) for r in runs)
    busy = statistics.median(r["busy_s"] / r["seconds"] for r in runs)
    return {"per_second": per_s, "busy": busy, "per_core_second": per_core,
            "core_per_gbit": 1e9 / (per_core * PAYLOAD * 8)}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=3)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json")
    options = parser.parse_args()
    folder = tempfile.mkdtemp(prefix="wavry-relay-bench-")
    try:
        result = run(options, folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    if options.json:
        with open(options.json, "w") as f:
            json.dump(result, f, indent=1)


def run(options, folder):
    key = os.path.join(folder, "issuer")
    public = subprocess.run([f"{BIN}/wavry-lease", "new", key], stdout=subprocess.PIPE, text=True, check=True).stdout
    with open(key) as f:
        seed = f.read().split()[1]
    with open(os.path.join(folder, "issuers"), "w") as f:
        f.write(public)
    command = [f"{BIN}/wavry-relay", "--set", "name=bench", "--set", f"issuers={folder}/issuers", "--set",
               "listen=ADDRESS:PORT", "--set", "allow=loopback private", "--set", f"max_leases={LEASES}", "--set",
               "proofs_per_s=100000", "--log-level", "warning"]
    arguments = ["--name", "bench", "--seed", seed]
    relay = Forwarder(command, "relay", arguments)
    forwarders = {
        # Without its spinning, which looks like work where there is none.
        "relay": Forwarder(command + ["--set", "spin_us=0"], "relay", arguments),
        "bare loop": Forwarder([f"{BIN}/bench-relay", "--here", "ADDRESS", "--port", "PORT", "loop"], "bare"),
        "bare loop, trains": Forwarder([f"{BIN}/bench-relay", "--here", "ADDRESS", "--port", "PORT", "loop-trains"],
                                       "bare"),
    }
    if shutil.which("turnserver"):
        forwarders["coturn"] = Forwarder(
            ["turnserver", "-n", "--no-auth", "--listening-ip=ADDRESS", "--relay-ip=ADDRESS",
             "--listening-port=PORT", "--relay-threads=1", "--allow-loopback-peers", "--no-cli", "--no-tls",
             "--no-dtls", "--no-tcp", "--no-rfc5780", "--log-file=/dev/null", "--simple-log", "--cli-password=unused",
             f"--pidfile={folder}/turn.pid", f"--userdb={folder}/turn.db"], "turn", settle=1.5)
    else:
        print("SKIP: coturn is not installed: no comparison with it")
    result = {"traffic": {}, "delay": {}}
    for name, train in (("single datagrams", 1), ("trains of 16, as a host sends frames", 16)):
        compare(options, name, forwarders, train, result)
    if os.getuid() == 0 and shutil.which("ip") and shutil.which("ethtool"):
        for gro, name in ((False, "single datagrams, veth"), (True, "single datagrams, veth with GRO")):
            with Wire(gro) as wire:
                compare(options, name, {who: f.over(wire) for who, f in forwarders.items()}, 16, result)
        for forwarder in forwarders.values():
            forwarder.over(None)
    else:
        print("SKIP: no root, ip or ethtool: nothing over a veth pair")
    half = result["traffic"]["single datagrams"]["relay"]["per_second"] / 2
    delays(options, {**forwarders, "relay, no spinning": forwarders["relay"], "relay": relay}, half, result)
    with relay:
        relay.measure(0, flows=LEASES)
        kib = relay.memory_kib()
    result["leases"] = {"n": LEASES, "rss_kib": kib}
    print(f"\n{LEASES} leases, both sides bound: {kib / 1024:.1f} MiB resident (at most 64)")
    return result


def compare(options, name, forwarders, train, result):
    runs = {who: [] for who in forwarders}
    for _ in range(options.rounds):  # in turns: what else the machine does hits all alike
        for who, forwarder in forwarders.items():
            with forwarder:
                runs[who].append(forwarder.measure(options.seconds, train))
    result["traffic"][name] = {who: figures(r) for who, r in runs.items()}
    table(name, result["traffic"][name])


def table(name, rows):
    print(f"\n{name}, {PAYLOAD} bytes:")
    print(f"  {'':20} {'datagrams/s':>12} {'core busy':>10} {'per core-second':>16} {'core-s per Gbit':>16}")
    for who, row in rows.items():
        print(f"  {who:20} {row['per_second']:12,.0f} {row['busy']:10.0%} {row['per_core_second']:16,.0f} "
              f"{row['core_per_gbit']:16.3f}")
    ours = rows["relay"]["per_core_second"]
    bare = rows["bare loop"]["per_core_second"]
    said = f"  relay: {ours / bare:.0%} of the bare loop (at least 70 %)"
    if "coturn" in rows:
        said += f", {ours / rows['coturn']['per_core_second']:.1f} times coturn (at least 5)"
    print(said)


def delays(options, forwarders, rate, result):
    print(f"\ndelay at half load ({rate:,.0f} datagrams/s), sender to the receiver's kernel, us; \"p99 as a rule\" is the "
          "median of each tenth of a second's:")
    pauses = subprocess.run(["taskset", "-c", FORWARDER_CPU, f"{BIN}/bench-relay", "--seconds", str(options.seconds),
                             "pauses"], stdout=subprocess.PIPE, text=True, check=True).stdout
    result["delay"]["pauses"] = json.loads(pauses)["pauses"]
    everybody = {"direct": Forwarder(None, "direct"), **forwarders}
    runs = {who: [] for who in everybody}
    for _ in range(options.rounds):
        for who, forwarder in everybody.items():
            with forwarder:
                runs[who].append(forwarder.measure(options.seconds, 1, rate))
    for who, r in runs.items():
        row = {key: statistics.median(x[key] for x in r) for key in ("p50_us", "p95_us", "p99_us", "usual_p99_us")}
        row["came"] = sum(x["received"] for x in r) / max(sum(x["sent"] for x in r), 1)
        row["busy"] = statistics.median(x["busy_s"] / x["seconds"] for x in r)
        result["delay"][who] = row
        print(f"  {who:22} median {row['p50_us']:7.1f}  p95 {row['p95_us']:7.1f}  p99 {row['p99_us']:8.1f}  p99 as a rule "
              f"{row['usual_p99_us']:7.1f}  {row['came']:.2%} came, core busy {row['busy']:.0%}")
    d = result["delay"]
    for key, said in (("p99_us", "p99"), ("usual_p99_us", "p99 as a rule")):
        d[f"added_{key}"] = d["relay"][key] - d["direct"]["p50_us"]
        print(f"  added by the relay, {said}: {d[f'added_{key}']:.0f} (at most 100); by the bare loop: "
              f"{d['bare loop'][key] - d['direct']['p50_us']:.0f}")
    print(f"  this machine's core was elsewhere, for more than 100 us at a time, for {d['pauses']:.2%} of the time")


if __name__ == "__main__":
    main()
