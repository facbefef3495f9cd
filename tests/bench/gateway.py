#!/usr/bin/env python3
"""See gateway.sh. The gateway has one core, everything else the other ones."""
import argparse
import http.client
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time

BIN = os.environ.get("WAVRY_BIN", os.path.join(os.path.dirname(__file__), "../../build/bin"))
PASSWORD = "correct horse battery"


def arguments():
    parser = argparse.ArgumentParser()
    parser.add_argument("--hosts", type=int, default=10000)
    parser.add_argument("--devices", type=int, default=500)
    parser.add_argument("--rate", type=float, default=1000)
    parser.add_argument("--seconds", type=float, default=15)
    parser.add_argument("--json")
    return parser.parse_args()


def status(pid, name):
    with open(f"/proc/{pid}/status", encoding="ascii") as f:
        return int(re.search(rf"^{name}:\s+(\d+)", f.read(), re.M).group(1))


def cpu_s(pid):
    with open(f"/proc/{pid}/stat", encoding="ascii") as f:
        fields = f.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Storm:
    """As many sign-ins at a time as THREADS; half of them with a wrong password."""

    def __init__(self, port, threads=24):
        self.port, self.ended, self.answers = port, False, {}
        self.threads = [threading.Thread(target=self.run, args=(i,), daemon=True) for i in range(threads)]
        for t in self.threads:
            t.start()

    def run(self, number):
        while not self.ended:
            try:
                c = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
                password = PASSWORD if number % 2 else "wrong " + PASSWORD
                c.request("POST", "/v1/login", json.dumps({"account": "admin", "password": password}),
                          {"Content-Type": "application/json"})
                answer = c.getresponse().status
                c.close()
            except (OSError, http.client.HTTPException):
                answer = 0
            self.answers[answer] = self.answers.get(answer, 0) + 1
            time.sleep(0.02)

    def end(self):
        self.ended = True
        for t in self.threads:
            t.join(30)


def start(folder, a):
    url = f"sqlite:{folder}/gateway.db"
    subprocess.run([f"{BIN}/bench-gateway", "prepare", url, str(a.hosts), str(a.devices)], check=True)
    subprocess.run([f"{BIN}/wavry-gateway", "--set", f"database={url}", "admin", "add", "admin"], input=PASSWORD + "\n",
                   text=True, check=True, stdout=subprocess.DEVNULL)
    options = {"names": "bench:443", "listen": "127.0.0.1:0", "database": url, "max_connections": a.hosts + a.devices + 1000,
               "connections_per_address": 1000000, "requests_per_s": 1000000, "logins_per_minute": 1000000,
               "wrong_per_minute": 1000000}
    command = ["taskset", "-c", "0", f"{BIN}/wavry-gateway"]
    for name, value in options.items():
        command += ["--set", f"{name}={value}"]
    log = open(f"{folder}/log", "w+", encoding="utf-8")
    gateway = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
    for _ in range(1000):
        with open(f"{folder}/log", encoding="utf-8") as f:
            text = f.read()
        if "gateway: serving" in text:
            return gateway, int(re.findall(r"port=(\d+)", text)[-1])
        if gateway.poll() is not None:
            sys.exit(text)
        time.sleep(0.02)
    sys.exit("the gateway does not come up")


def measure(gateway, port, a):
    others = ",".join(str(i) for i in range(1, os.cpu_count())) or "0"
    os.sched_setaffinity(0, {int(i) for i in others.split(",")})
    result = {"rss_empty_mib": status(gateway.pid, "VmRSS") / 1024}
    machines = subprocess.Popen(["taskset", "-c", others, f"{BIN}/bench-gateway", "run", str(port), str(a.hosts),
                                 str(a.devices), str(a.rate), str(a.seconds)], stdin=subprocess.PIPE,
                                stdout=subprocess.PIPE, text=True)

    def next_line():
        line = machines.stdout.readline()
        return json.loads(line) if line else sys.exit("the machines have ended")

    def exchanges():
        begun, cpu = time.monotonic(), cpu_s(gateway.pid)
        machines.stdin.write("go\n")
        machines.stdin.flush()
        line = next_line()
        line["gateway_cpu"] = round((cpu_s(gateway.pid) - cpu) / (time.monotonic() - begun), 3)
        return line

    try:
        result.update(next_line())
        result["rss_mib"] = status(gateway.pid, "VmRSS") / 1024
        cpu = cpu_s(gateway.pid)
        time.sleep(10)
        result["idle_cpu"] = round((cpu_s(gateway.pid) - cpu) / 10, 4)
        result["quiet"] = exchanges()
        result["rss_after_mib"] = status(gateway.pid, "VmRSS") / 1024
        storm = Storm(port)
        time.sleep(1)
        storm.answers.clear()
        result["storm"] = exchanges()
        storm.end()
        result["storm"]["logins"] = {str(k): v for k, v in sorted(storm.answers.items())}
    finally:
        machines.kill()
        machines.wait()
    return result


def main():
    a = arguments()
    folder = tempfile.mkdtemp(prefix="wavry-bench-")
    gateway = None
    try:
        gateway, port = start(folder, a)
        result = measure(gateway, port, a)
    finally:
        if gateway:
            gateway.kill()
            gateway.wait()
        shutil.rmtree(folder, ignore_errors=True)
    print(f"{result['connected']} machines connected in {result['connect_s']} s: {result['rss_mib']:.0f} MiB "
          f"({result['rss_empty_mib']:.0f} MiB before), {100 * result['idle_cpu']:.1f} % of a core when idle")
    for name, words in (("quiet", "alone"), ("storm", "beside a login storm")):
        r = result[name]
        print(f"{a.rate:.0f} exchanges a second, {words}: p50 {r['p50_ms']:.2f} ms, p99 {r['p99_ms']:.2f} ms, "
              f"p99.9 {r['p999_ms']:.2f} ms, max {r['max_ms']:.1f} ms; {r['unanswered']} unanswered, {r['errors']} errors, "
              f"{100 * r['gateway_cpu']:.0f} % of a core")
    print(f"sign-ins meanwhile, by status: {result['storm']['logins']}")
    if a.json:
        with open(a.json, "w", encoding="ascii") as f:
            json.dump(result, f, indent=1)
    good = result["rss_mib"] <= 200 and result["quiet"]["p99_ms"] <= 20 and not result["quiet"]["unanswered"]
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
