"""What the system tests share: an X server, a host, clients, wavryctl. Everything that a test starts it stops, by id;
its files live in a temporary folder. Used with Python's unittest; the folder of the programs is in WAVRY_BIN."""
import json
import os
import random
import shutil
import signal
import socket
import struct
import subprocess
import tempfile
import time
import unittest

BIN = os.environ.get("WAVRY_BIN", os.path.join(os.path.dirname(__file__), "../../build/bin"))
STAGES = ["capture", "encoder", "transport", "input", "identity", "reach"]


def wait_for(condition, seconds, what):
    """Polls CONDITION until it is true; its value is returned. Fails the test after SECONDS, and never within a minute: a
    machine may be busy, and only who fails waits so long."""
    seconds = max(seconds, 60)
    deadline = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds} s: {what() if callable(what) else what}")
        time.sleep(0.02)


def free_port(kind):
    """One below those that the kernel gives to who asks for any: nobody gets it before it is used."""
    while True:
        port = random.randrange(10000, 30000)
        try:
            with socket.socket(socket.AF_INET6, kind) as s:
                s.bind(("::", port))
            return port
        except OSError:
            pass


def free_udp_port():
    return free_port(socket.SOCK_DGRAM)


def free_tcp_port():
    return free_port(socket.SOCK_STREAM)


class SystemTest(unittest.TestCase):
    def setUp(self):
        self.dir = tempfile.mkdtemp(prefix="wavry-system-")
        os.chmod(self.dir, 0o711)
        self.addCleanup(shutil.rmtree, self.dir, ignore_errors=True)
        self.place = "host"  # the folder of the host that is asked; a test with two hosts changes it
        self.logs = []
        self.processes = {}  # the newest of each name
        self.addCleanup(self.show_logs)

    def show_logs(self):
        outcome = getattr(self._outcome, "result", None)
        failed = outcome and any(test is self for test, _ in outcome.failures + outcome.errors)
        for path in self.logs if failed or not self._outcome.success else []:
            with open(path, errors="replace") as f:
                print(f"---- {os.path.basename(path)}\n{f.read()[-6000:]}")

    def path(self, name):
        return os.path.join(self.dir, name)

    def start(self, name, command, **environment):
        log = open(self.path(f"{name}.log"), "ab")
        self.logs.append(log.name)
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                   env={**os.environ, "XDG_CONFIG_HOME": self.path("config"), **environment})
        log.close()
        self.processes[name] = process
        self.addCleanup(self.stop, process)
        return process

    def stop(self, process, sig=signal.SIGTERM):
        if process.poll() is None:
            process.send_signal(sig)
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        return process.returncode

    def read_log(self, name):
        with open(self.path(f"{name}.log"), errors="replace") as f:
            return f.read()

    def xvfb(self, size="1280x720", display=None, access=("-ac",)):
        """Starts an X server and returns (process, ":N"). ACCESS: its options that say who may come."""
        read, write = os.pipe()
        command = ["Xvfb"] + ([display] if display else []) + [
            "-displayfd", str(write), "-screen", "0", f"{size}x24", "-nolisten", "tcp", "-noreset", *access]
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                   stderr=subprocess.DEVNULL, pass_fds=[write])
        os.close(write)
        self.addCleanup(self.stop, process)
        with os.fdopen(read) as f:
            number = f.readline().strip()
        self.assertTrue(number, "Xvfb did not start")
        return process, f":{number}"

    def target(self, display, **environment):
        return self.start("target", [f"{BIN}/wavry-demo-target"], DISPLAY=display, **environment)

    # ---- host

    def host(self, display, *options, ready=True, port=None, **environment):
        """Starts a host in the folders self.place.run and self.place.state; its log is self.place.log."""
        self.port = port or free_udp_port()
        process = self.start(self.place, [f"{BIN}/wavry-supervisor", "--standalone", "--runtime-dir",
                                          self.path(f"{self.place}.run"), "--state-dir",
                                          self.path(f"{self.place}.state"), "--port", str(self.port),
                                          "--display", display, *options], **environment)
        if ready:
            wait_for(lambda: process.poll() is not None or self.all_ready(), 20,
                     lambda: "every stage ready; the host said:\n" + self.read_log(self.place))
            self.assertIsNone(process.poll(), self.read_log(self.place))
        return process

    def ctl(self, *arguments):
        return subprocess.run([f"{BIN}/wavryctl", "--socket", self.path(f"{self.place}.run/control.sock"),
                               *arguments],
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, check=False, timeout=60)

    def stages(self):
        """{name: row} of `wavryctl stages --json`, {} when there is no answer."""
        result = self.ctl("stages", "--json")
        if result.returncode != 0:
            return {}
        return {row["name"]: row for row in json.loads(result.stdout)["stages"]}

    def all_ready(self):
        stages = self.stages()
        return all(stages.get(name, {}).get("state") == "ready" for name in STAGES) and stages

    def ready_pid(self, stage, seconds=30):
        """The process of STAGE once that is ready. Never 0, which to os.kill() is everybody in our process group."""
        def pid():
            row = self.stages().get(stage, {})
            return row.get("state") == "ready" and row["pid"]
        return wait_for(pid, seconds, lambda: f"{stage} ready; {self.stages()}")

    def kill(self, stage, sig=signal.SIGKILL):
        """Sends SIG to the process of STAGE, whose number is returned for wait_successor()."""
        pid = self.ready_pid(stage)
        os.kill(pid, sig)
        return pid

    def wait_successor(self, stage, before, seconds=30):
        """Waits until all stages are ready, and STAGE is another process than BEFORE, at one and the same moment."""
        def seen():
            stages = self.all_ready()
            return stages and stages[stage]["pid"] != before and stages
        return wait_for(seen, seconds, lambda: f"another {stage}, and all ready; {self.stages()}")

    def metrics(self):
        result = self.ctl("metrics", "--json")
        return json.loads(result.stdout) if result.returncode == 0 else {}

    def sessions(self):
        result = self.ctl("sessions", "--json")
        return json.loads(result.stdout)["sessions"] if result.returncode == 0 else []

    # ---- clients

    def host_key(self):
        """The public key of the host at self.place, by its own word."""
        def ask():
            result = self.ctl("status", "--json")
            return result.stdout and json.loads(result.stdout).get("host_key")
        return wait_for(ask, 30, "the host's key")

    def pairing_code(self, *options):
        """Asks the host for a code: {"code": ..., "url": ..., "host_key": ...}."""
        result = self.ctl("pair", "--json", "--host", "127.0.0.1", *options)
        self.assertEqual(result.returncode, 0, result.stderr)
        return json.loads(result.stdout)

    def client(self, name, *arguments, timeout=90, **kwargs):
        """Runs wavry-client as NAME to its end: own identity, own known hosts. Returns (exit code, what it said)."""
        result = subprocess.run([f"{BIN}/wavry-client", *arguments, "--identity", self.path(f"{name}.identity"), "--set",
                                 f"known_hosts={self.path(name)}.known"], stdin=subprocess.DEVNULL,
                                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=timeout,
                                check=False, env={**os.environ, "XDG_CONFIG_HOME": self.path("config")}, **kwargs)
        return result.returncode, result.stdout

    def watches(self, command, said="", **environment):
        """Runs COMMAND, which is a client's, until the host has sent it pictures and it has SAID so much: however long
        that takes on a busy machine, which --seconds would count from its start. Returns (exit code, what it said); it
        ends with 0 when it showed a picture."""
        known = {row["id"] for row in self.sessions()}
        name = f"watcher{len(self.logs)}"
        process = self.start(name, [*command, "--headless", "--seconds", "120"], **environment)

        def watched():
            sent = any(row["frames_sent"] > 10 for row in self.sessions() if row["id"] not in known)
            return process.poll() is not None or (sent and said in self.read_log(name))
        wait_for(watched, 90, lambda: "a client that watches; it said:\n" + self.read_log(name) + "\nthe host said:\n" +
                 self.read_log(self.place)[-3000:])
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
        return process.wait(30), self.read_log(name)

    def pair(self, name, *options):
        """Pairs NAME with the host by a code, as a person does; OPTIONS are of wavryctl pair."""
        code = self.pairing_code(*options)["code"]
        status, said = self.client(name, "pair", f"127.0.0.1:{self.port}", "--code", code, "--name", name)
        self.assertEqual(status, 0, said)

    def paired_viewer(self, name, *options, seconds=220):
        """As viewer(), of a client that was paired: it knows the host from then."""
        return self.start(name, [f"{BIN}/wavry-client", f"127.0.0.1:{self.port}", "--headless", "--identity",
                                 self.path(f"{name}.identity"), "--set", f"known_hosts={self.path(name)}.known",
                                 "--seconds", str(seconds), "--stats-json", self.path(f"{name}.json"), *options])

    def authorize(self, identity, name="test"):
        key = subprocess.run([f"{BIN}/wavry-client", "--identity", identity, "--print-key"], text=True, check=True,
                             stdout=subprocess.PIPE, env={**os.environ, "XDG_CONFIG_HOME": self.path("config")}
                             ).stdout.strip()
        result = self.ctl("authorize", key, "--name", name)
        self.assertEqual(result.returncode, 0, result.stderr)
        return key

    def probe(self, seconds, *options):
        """Starts wavry-probe, authorized; its JSON goes to probe.json. SECONDS are from its start: on a busy machine it may
        need some to connect. Better let it run and end it by end_probe()."""
        self.authorize(self.path("probe.identity"), "probe")
        return self.start("probe", [f"{BIN}/wavry-probe", "127.0.0.1", "--port", str(self.port), "--identity",
                                    self.path("probe.identity"), "--host-key", self.host_key(), "--seconds", str(seconds), "--json",
                                    self.path("probe.json"), "--snapshot", self.path("probe.png"), "--verbose",
                                    *options])

    def end_probe(self, process):
        process.send_signal(signal.SIGTERM)
        return self.probe_result(process, 60)

    def probe_result(self, process, timeout):
        self.assertEqual(process.wait(timeout), 0, self.read_log("probe"))
        with open(self.path("probe.json")) as f:
            return json.load(f)

    def presses_seen(self):
        return self.read_log("probe").count("photon_ms=")

    def wait_for_press(self, seconds=30):
        """Waits until one more press, begun from now on, is seen."""
        base = self.presses_seen()
        wait_for(lambda: self.presses_seen() > base + 1, seconds,
                 lambda: "presses seen again; the probe said:\n" + self.read_log("probe")[-800:] +
                 "\nthe host said:\n" + self.read_log(self.place)[-3000:])

    def viewer(self, name, *options, seconds=220):
        """Starts a client without a window, authorized as NAME; its log is NAME.log."""
        identity = self.path(f"{name}.identity")
        self.authorize(identity, name)
        return self.start(name, [f"{BIN}/wavry-client", f"127.0.0.1:{self.port}", "--headless", "--identity", identity,
                                 "--host-key", self.host_key(), "--seconds", str(seconds), "--stats-json", self.path(f"{name}.json"), *options])

    def said(self, name, text, seconds=30):
        """Waits until the log of NAME holds TEXT."""
        wait_for(lambda: text in self.read_log(name), seconds, lambda: f"{name} saying {text!r}; it said:\n" +
                 self.read_log(name))

    def client_window(self, display, *options, name="client"):
        identity = self.path(f"{name}.identity")
        self.authorize(identity, name)
        return self.start(name, [f"{BIN}/wavry-client", f"127.0.0.1:{self.port}", "--fullscreen", "--identity",
                                 identity, "--host-key", self.host_key(), "--stats-json", self.path(f"{name}.json"), *options],
                          DISPLAY=display, SDL_VIDEODRIVER="x11")


class Screenshot:
    """What an X display shows, read with xwd: pixel(x, y) is (r, g, b)."""

    def __init__(self, display):
        data = subprocess.run(["xwd", "-root", "-silent", "-display", display], stdout=subprocess.PIPE,
                              check=True).stdout
        head = struct.unpack(">25I", data[:100])
        self.width, self.height, self.stride, colours = head[4], head[5], head[12], head[19]
        self.offset = head[0] + colours * 12
        self.data = data

    def pixel(self, x, y):
        at = self.offset + y * self.stride + 4 * x
        b, g, r = self.data[at:at + 3]
        return r, g, b

    def differs_from(self, other, threshold=48):
        """How many of the pixels on a grid of 4 differ by more than THRESHOLD in a channel."""
        return sum(max(abs(a - b) for a, b in zip(self.pixel(x, y), other.pixel(x, y))) > threshold
                   for y in range(0, self.height, 4) for x in range(0, self.width, 4))


def main():
    unittest.main(verbosity=2)
