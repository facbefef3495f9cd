#!/usr/bin/env python3
"""The figures of wavry-relay. Forwarders run one at a time on core 1, the traffic's source and sink on core 0."""
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


class Forwarder:
    def __init__(self, command, target, extra=(), environment=None, settle=0.5):
        self.target, self.extra, self.port = target, list(extra), None
        self.command, self.environment, self.settle = command, environment or {}, settle

    def __enter__(self):
        self.port = free_port()
        if self.command is None:
            self.process = None
            return self
        command = ["taskset", "-c", FORWARDER_CPU] + [part.replace("PORT", str(self.port)) for part in self.command]
        self.log = tempfile.TemporaryFile()
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log,
                                        env={**os.environ, **self.environment})
        time.sleep(self.settle)
        if self.process.poll() is not None:
            self.log.seek(0)
            sys.exit(f"{command[3]} ended: {self.log.read().decode(errors='replace')[-800:]}")
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
        result = subprocess.run(
            ["taskset", "-c", TRAFFIC_CPU, f"{BIN}/bench-relay", "--port", str(self.port), "--seconds", str(seconds),
             "--train", str(train), "--rate", str(rate), "--flows", str(flows), "--cpu", FORWARDER_CPU, *self.extra,
             self.target], stdout=subprocess.PIPE, text=True, check=True, timeout=seconds + 60)
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
               "listen=127.0.0.1:PORT", "--set", "allow=loopback", "--set", f"max_leases={LEASES}", "--set",
               "proofs_per_s=100000", "--log-level", "warning"]
    arguments = ["--name", "bench", "--seed", seed]
    relay = Forwarder(command, "relay", arguments)
    forwarders = {
        # Without its spinning, which looks like work where there is none.
        "relay": Forwarder(command + ["--set", "spin_us=0"], "relay", arguments),
        "bare loop": Forwarder([f"{BIN}/bench-relay", "--port", "PORT", "loop"], "bare"),
        "bare loop, trains": Forwarder([f"{BIN}/bench-relay", "--port", "PORT", "loop-trains"], "bare"),
    }
    if shutil.which("turnserver"):
        forwarders["coturn"] = Forwarder(
            ["turnserver", "-n", "--no-auth", "--listening-ip=127.0.0.1", "--relay-ip=127.0.0.1",
             "--listening-port=PORT", "--relay-threads=1", "--allow-loopback-peers", "--no-cli", "--no-tls",
             "--no-dtls", "--no-tcp", "--no-rfc5780", "--log-file=/dev/null", "--simple-log", "--cli-password=unused",
             f"--pidfile={folder}/turn.pid", f"--userdb={folder}/turn.db"], "turn", settle=1.5)
    else:
        print("SKIP: coturn is not installed: no comparison with it")
    result = {"traffic": {}, "delay": {}}
    for name, train in (("single datagrams", 1), ("trains of 16, as a host sends frames", 16)):
        runs = {who: [] for who in forwarders}
        for _ in range(options.rounds):  # in turns: what else the machine does hits all alike
            for who, forwarder in forwarders.items():
                with forwarder:
                    runs[who].append(forwarder.measure(options.seconds, train))
        result["traffic"][name] = {who: figures(r) for who, r in runs.items()}
        table(name, result["traffic"][name])
    half = result["traffic"]["single datagrams"]["relay"]["per_second"] / 2
    delays(options, {"relay": relay, "bare loop": forwarders["bare loop"]}, half, result)
    with relay:
        relay.measure(0, flows=LEASES)
        kib = relay.memory_kib()
    result["leases"] = {"n": LEASES, "rss_kib": kib}
    print(f"\n{LEASES} leases, both sides bound: {kib / 1024:.1f} MiB resident (at most 64)")
    return result


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
    print(f"\ndelay at half load ({rate:,.0f} datagrams/s), sender to the receiver's kernel, us:")
    pauses = subprocess.run(["taskset", "-c", FORWARDER_CPU, f"{BIN}/bench-relay", "--seconds", str(options.seconds),
                             "pauses"], stdout=subprocess.PIPE, text=True, check=True).stdout
    result["delay"]["pauses"] = json.loads(pauses)["pauses"]
    with Forwarder(None, "direct") as direct:
        result["delay"]["direct"] = direct.measure(options.seconds, 1, rate)
    for who, forwarder in forwarders.items():
        with forwarder:
            result["delay"][who] = forwarder.measure(options.seconds, 1, rate)
    for who in ("direct", *forwarders):
        r = result["delay"][who]
        print(f"  {who:20} median {r['p50_us']:7.1f}  p95 {r['p95_us']:7.1f}  p99 {r['p99_us']:7.1f}  "
              f"{r['received'] / max(r['sent'], 1):.2%} came")
    added = result["delay"]["relay"]["p99_us"] - result["delay"]["direct"]["p50_us"]
    result["delay"]["added_p99_us"] = added
    print(f"  added by the relay, p99: {added:.0f} (at most 100); this machine's core was elsewhere, for more than 100 us "
          f"at a time, for {result['delay']['pauses']:.2%} of the time")


if __name__ == "__main__":
    main()
