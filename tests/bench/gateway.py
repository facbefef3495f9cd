#!/usr/bin/env python3
"""See gateway.sh. The gateway has one core, everything else the other ones; hosts, devices and the storms are processes
of their own."""
import argparse
import base64
import ctypes
import http.client
import json
import multiprocessing
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
NAME = "bench:443"
IDLE_S = 10
HEADERS = {"Content-Type": "application/json"}


def arguments():
    parser = argparse.ArgumentParser()
    parser.add_argument("--hosts", type=int, default=10000)
    parser.add_argument("--devices", type=int, default=500)
    parser.add_argument("--rate", type=float, default=1000)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--only", choices=["plain", "tls"])
    parser.add_argument("--json")
    return parser.parse_args()


def rss_mib(pid):
    with open(f"/proc/{pid}/status", encoding="ascii") as f:
        return int(re.search(r"^VmRSS:\s+(\d+)", f.read(), re.M).group(1)) / 1024


def cpu_s(pid):
    with open(f"/proc/{pid}/stat", encoding="ascii") as f:
        fields = f.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


# ---- storms: as many sign-ins at a time as threads, without a pause ----

def person(connection, number):
    """Half of them with a wrong password."""
    password = PASSWORD if number % 2 else "wrong " + PASSWORD
    connection.request("POST", "/v1/login", json.dumps({"account": "admin", "password": password}), HEADERS)
    answer = connection.getresponse()
    answer.read()
    return answer.status


def machine(connection, sodium, identity):
    """By its key: a challenge, and a token, which is a write to the database."""
    connection.request("POST", "/v1/challenge", json.dumps({"key": identity["key"]}), HEADERS)
    answer = connection.getresponse()
    body = answer.read()
    if answer.status != 200:
        return answer.status
    challenge = json.loads(body)["challenge"]
    words = b"RIFT 1 gateway\0" + NAME.encode() + b"\0" + base64.urlsafe_b64decode(challenge + "=")
    signature = ctypes.create_string_buffer(64)
    sodium.crypto_sign_detached(signature, None, words, ctypes.c_ulonglong(len(words)), bytes.fromhex(identity["sign_secret"]))
    text = base64.urlsafe_b64encode(signature.raw).decode().rstrip("=")
    connection.request("POST", "/v1/session", json.dumps({"key": identity["key"], "challenge": challenge, "signature": text}),
                       HEADERS)
    answer = connection.getresponse()
    answer.read()
    return answer.status


def storm(port, kind, identity, cpus, begun, ended, results):
    os.sched_setaffinity(0, cpus)
    os.nice(10)  # the load must not delay the clients that are measured
    sodium = ctypes.CDLL("libsodium.so.23")
    answers = {}

    def run(number):
        connection = None
        while not ended.is_set():
            try:
                connection = connection or http.client.HTTPConnection("127.0.0.1", port, timeout=30)
                status = person(connection, number) if kind == "people" else machine(connection, sodium, identity)
            except (OSError, http.client.HTTPException):
                connection, status = None, 0
            if begun.is_set():
                answers[status] = answers.get(status, 0) + 1
            time.sleep(0.02 if status == 503 else 0)

    threads = [threading.Thread(target=run, args=(i,), daemon=True) for i in range(24)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    results.put({str(k): v for k, v in sorted(answers.items())})


class Storm:
    def __init__(self, port, kind, identity, cpus):
        self.begun, self.ended, self.results = multiprocessing.Event(), multiprocessing.Event(), multiprocessing.Queue()
        self.process = multiprocessing.Process(
            target=storm, args=(port, kind, identity, cpus, self.begun, self.ended, self.results), daemon=True)
        self.process.start()
        time.sleep(1)
        self.begun.set()

    def end(self):
        self.ended.set()
        answers = self.results.get(timeout=60)
        self.process.join(60)
        return answers


# ---- who takes part ----

class Machines:
    """bench-gateway in a process; each of its lines is JSON."""

    def __init__(self, cpus, *arguments):
        self.process = subprocess.Popen(["taskset", "-c", ",".join(str(i) for i in cpus), f"{BIN}/bench-gateway",
                                         *(str(a) for a in arguments)],
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def line(self):
        line = self.process.stdout.readline()
        return json.loads(line) if line else sys.exit("the machines have ended")

    def say(self, word):
        self.process.stdin.write(word + "\n")
        self.process.stdin.flush()
        return self.line()

    def end(self):
        self.process.kill()
        self.process.wait()


def certificate(folder):
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days",
                    "2", "-subj", "/CN=bench", "-keyout", f"{folder}/tls.key", "-out", f"{folder}/tls.pem"],
                   check=True, stderr=subprocess.DEVNULL)


def start(folder, a, tls):
    url = f"sqlite:{folder}/gateway.db"
    subprocess.run([f"{BIN}/bench-gateway", "prepare", url, str(a.hosts), str(a.devices)], check=True)
    subprocess.run([f"{BIN}/wavry-gateway", "--set", f"database={url}", "admin", "add", "admin"], input=PASSWORD + "\n",
                   text=True, check=True, stdout=subprocess.DEVNULL)
    options = {"names": NAME, "listen": "127.0.0.1:0", "database": url, "max_connections": a.hosts + a.devices + 1000,
               "connections_per_address": 1000000, "requests_per_s": 1000000, "logins_per_minute": 1000000,
               "wrong_per_minute": 1000000}
    if tls:
        certificate(folder)
        options.update(tls_certificate=f"{folder}/tls.pem", tls_key=f"{folder}/tls.key")
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


def measure(gateway, port, a, tls, machines):
    cpus = set(range(1, os.cpu_count())) or {0}
    os.sched_setaffinity(0, cpus)
    result = {"rss_empty_mib": rss_mib(gateway.pid)}
    hosts = Machines(cpus, "hosts", port, int(tls), a.hosts)
    machines.append(hosts)
    result.update(hosts.line())
    time.sleep(1)
    result["rss_mib"] = rss_mib(gateway.pid)
    cpu = cpu_s(gateway.pid)
    time.sleep(IDLE_S)
    result["idle_cpu"] = round((cpu_s(gateway.pid) - cpu) / IDLE_S, 4)
    devices = Machines(cpus, "devices", port, int(tls), a.hosts, a.devices, a.rate, a.seconds)
    machines.append(devices)
    devices.line()

    def exchanges(pattern):
        begun, cpu, hosts_cpu = time.monotonic(), cpu_s(gateway.pid), cpu_s(hosts.process.pid)
        line = devices.say(pattern)
        line["gateway_cpu"] = round((cpu_s(gateway.pid) - cpu) / (time.monotonic() - begun), 3)
        line["hosts_cpu_s"] = round(cpu_s(hosts.process.pid) - hosts_cpu, 2)
        return line

    result["warm"] = exchanges("warm")
    result["cold"] = exchanges("cold")
    result["rss_after_mib"] = rss_mib(gateway.pid)
    if not tls:
        identity = json.loads(subprocess.run([f"{BIN}/bench-gateway", "identity", "0"], stdout=subprocess.PIPE, text=True,
                                             check=True).stdout)
        for kind in ("people", "machines"):
            storming = Storm(port, kind, identity, cpus)
            result[kind] = exchanges("cold")
            result[kind]["logins"] = storming.end()
    return result


def run(a, tls):
    folder = tempfile.mkdtemp(prefix="wavry-bench-")
    gateway, machines = None, []
    try:
        gateway, port = start(folder, a, tls)
        return measure(gateway, port, a, tls, machines)
    finally:
        for m in machines:
            m.end()
        if gateway:
            gateway.kill()
            gateway.wait()
        shutil.rmtree(folder, ignore_errors=True)


WORDS = {"warm": "each pair again and again", "cold": "each pair for the first time",
         "people": "that, beside people who sign in", "machines": "that, beside machines that sign in"}


def tell(name, r, rate):
    print(f"{name}: {r['connected']} hosts connected in {r['connect_s']} s: {r['rss_mib']:.0f} MiB when idle "
          f"({r['rss_empty_mib']:.0f} MiB before), {100 * r['idle_cpu']:.1f} % of a core")
    for key, words in WORDS.items():
        if key not in r:
            continue
        e = r[key]
        print(f"  {rate:.0f} exchanges a second, {words}: p50 {e['p50_ms']:.2f} ms, p99 {e['p99_ms']:.2f} ms, "
              f"p99.9 {e['p999_ms']:.2f} ms, max {e['max_ms']:.1f} ms; {e['unanswered']} unanswered, {e['errors']} errors, "
              f"{100 * e['gateway_cpu']:.0f} % of a core; the load was late by p99 {e['load_late_p99_ms']:.2f} ms")
        if "logins" in e:
            print(f"    sign-ins meanwhile, by status: {e['logins']}")


def is_good(r):
    return r["rss_mib"] <= 200 and all(r[k]["p99_ms"] <= 20 and not r[k]["unanswered"] and not r[k]["errors"]
                                       for k in WORDS if k in r)


def main():
    a = arguments()
    result = {}
    for name in ("plain", "tls"):
        if a.only in (None, name):
            result[name] = run(a, name == "tls")
            tell({"plain": "Without TLS", "tls": "With TLS"}[name], result[name], a.rate)
    if a.json:
        with open(a.json, "w", encoding="ascii") as f:
            json.dump(result, f, indent=1)
    sys.exit(0 if all(is_good(r) for r in result.values()) else 1)


if __name__ == "__main__":
    main()
