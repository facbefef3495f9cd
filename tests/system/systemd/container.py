"""A host as an administrator has it: a Debian with systemd in a container, the built tree installed into it, its units
run. Needs root, debootstrap and systemd-nspawn; says SKIP with the reason where that can't be had."""
import hashlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.dirname(HERE))
from harness import wait_for  # noqa: E402

BIN = os.environ.get("WAVRY_BIN", os.path.join(HERE, "../../../build/bin"))
BUILD = os.path.dirname(os.path.abspath(BIN))
STAGES = ["transport", "identity", "capture", "encoder", "input", "reach"]
# Loaded by name at run time, or used by the tests.
PACKAGES = ["gstreamer1.0-plugins-ugly", "xvfb", "dbus", "iproute2", "procps", "libpam-systemd", "kmod",
            "libwebsockets-evlib-ev"]
WATCHDOG_S = 2.0


def skip(reason):
    print(f"SKIP: systemd tests: {reason}")
    raise unittest.SkipTest(reason)


def linked_packages():
    """The Debian packages of the libraries that the installed programs are linked with."""
    programs = [f"{BIN}/{name}" for name in sorted(os.listdir(BIN)) if name.startswith("wavry")]
    ldd = subprocess.run(["ldd", *programs], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True).stdout
    files = sorted({os.path.realpath(path) for path in re.findall(r"=> (/\S+)", ldd)})
    owners = subprocess.run(["dpkg", "-S", *files], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True).stdout
    return sorted({line.split(":")[0] for line in owners.splitlines()})


def bed(*arguments, timeout, **environment):
    return subprocess.run([f"{HERE}/bed.sh", *arguments], env={**os.environ, **environment}, text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=timeout, check=False)


def make_tree():
    """A folder with a Debian that has all that the programs need, kept for the next time."""
    cache = os.path.join(BUILD, "systemd-tree")
    os.makedirs(cache, exist_ok=True)
    packages = sorted(set(PACKAGES + linked_packages()))
    made = bed("tree", f"{cache}/debian.tar", *packages, timeout=600, STATE=cache)
    if made.returncode != 0:
        skip("the Debian tree can't be made: " + made.stdout.strip()[-300:])
    name = hashlib.sha256(" ".join(packages).encode()).hexdigest()[:12]
    folder = f"{cache}/{name}"
    if not os.path.exists(f"{folder}.whole"):
        shutil.rmtree(folder, ignore_errors=True)
        os.makedirs(folder)
        subprocess.run(["tar", "-C", folder, "-xf", f"{cache}/debian.tar"], check=True)
        open(f"{folder}.whole", "w").close()
    return folder


def installed():
    """For setUpModule(): a container with the built tree in it, which goes down after the module's tests."""
    container = Container()
    unittest.addModuleCleanup(container.down)
    container.install()
    return container


def has_failed(test):
    """Whether TEST has, for what its cleanup shows."""
    result = getattr(test._outcome, "result", None)
    return bool(result) and any(one is test for one, _ in result.failures + result.errors)


class Container:
    """One for all tests of a run: booting is cheap, the tree is not."""

    def __init__(self):
        if os.getuid() != 0:
            skip("they boot a container, which needs root")
        for program in ("debootstrap", "systemd-nspawn", "nsenter", "ip"):
            if not shutil.which(program):
                skip(f"{program} is missing (packages debootstrap, systemd-container, util-linux, iproute2)")
        self.dir = tempfile.mkdtemp(prefix="wavry-systemd-")
        self.state = os.path.join(self.dir, "state")
        os.makedirs(self.state)
        self.tree = make_tree()
        up = self.bed("up", self.tree, timeout=180)
        if up.returncode != 0:
            self.down()
            skip("the container does not boot here: " + up.stdout.strip()[-300:])
        with open(f"{self.state}/net") as f:
            number = f.read().strip()
            self.address, self.interface = f"10.77.{number}.2", f"wvb{number}"
        with open(f"{self.state}/leader") as f:
            self.leader = int(f.read())
        self.root = f"{self.state}/over/root"

    def bed(self, *arguments, timeout):
        return bed(*arguments, timeout=timeout, STATE=self.state)

    def down(self):
        self.bed("down", timeout=180)
        shutil.rmtree(self.dir, ignore_errors=True)

    def run(self, *command, timeout=120, check=False):
        result = subprocess.run(["nsenter", "-t", str(self.leader), "-a", "--", *command], stdin=subprocess.DEVNULL,
                                stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=timeout, check=False)
        if check and result.returncode != 0:
            raise AssertionError(f"{' '.join(command)}: {result.returncode}\n{result.stdout}{result.stderr}\n"
                                 + self.journal())
        return result

    def install(self):
        """The built tree, as a package would put it there."""
        subprocess.run(["cmake", "--install", BUILD], env={**os.environ, "DESTDIR": self.root},
                       check=True, stdout=subprocess.DEVNULL)
        for tool in ("wavry-demo-target", "wavry-held-keys"):
            shutil.copy(f"{BIN}/{tool}", f"{self.root}/usr/local/bin/{tool}")
        self.write("/etc/wavry/display.env", "WAVRY_SCREEN=1280x720\nWAVRY_SESSION=wavry-demo-target\n")
        self.run("systemd-sysusers", check=True)
        self.run("systemd-tmpfiles", "--create", "wavry.conf", check=True)
        self.run("systemctl", "daemon-reload", check=True)
        self.run("systemctl", "enable", "wavry-display", "wavry-host.target", check=True)

    def write(self, path, text):
        os.makedirs(os.path.dirname(self.root + path), exist_ok=True)
        with open(self.root + path, "w") as f:
            f.write(text)

    def systemctl(self, *arguments, check=True, timeout=180):
        return self.run("systemctl", *arguments, check=check, timeout=timeout)

    def wait_status(self, unit, word):
        """Until systemd knows what the unit has said of itself."""
        wait_for(lambda: word in self.show(unit, "StatusText").get("StatusText", ""), 30,
                 lambda: f"{word!r} in the status of {unit}: {self.show(unit, 'StatusText')}")

    def show(self, unit, *properties):
        text = self.run("systemctl", "show", unit, *[f"-p{name}" for name in properties]).stdout
        return dict(line.split("=", 1) for line in text.splitlines())

    def main_pid(self, stage):
        """Of the process that works, as the container counts; 0: there is none."""
        return self.stages().get(stage, {}).get("pid", 0)

    def service(self, stage):
        """The unit whose process works: transport's may be the spare's."""
        spare = f"wavry-{stage}-spare"
        if stage == "transport" and self.show(spare, "MainPID").get("MainPID") == str(self.main_pid(stage)):
            return spare
        return f"wavry-{stage}"

    def kill(self, stage, sig):
        pid = wait_for(lambda: self.main_pid(stage), 30, f"a process of {stage}")  # 0 would be our process group
        self.run("kill", f"-{sig}", str(pid), check=True)

    def journal(self, *arguments, lines=60):
        return self.run("journalctl", "-b", "--no-pager", "-o", "short-precise", "-n", str(lines),
                        *(arguments or ["-u", "wavry-*"])).stdout

    def stages(self):
        result = self.run("wavryctl", "stages", "--json")
        try:
            return {row["name"]: row for row in json.loads(result.stdout)["stages"]}
        except ValueError:
            return {}

    def all_ready(self):
        stages = self.stages()
        return all(stages.get(name, {}).get("state") == "ready" for name in STAGES) and stages

    def wait_ready(self, seconds=30):
        return wait_for(self.all_ready, seconds, lambda: f"every stage ready; {self.stages()}\n{self.journal()}")

    def wait_new(self, stage, old_pid, seconds=30):
        """Waits until another process of STAGE is ready."""
        def ready():
            row = self.stages().get(stage, {})
            return row.get("pid") not in (None, 0, old_pid) and row["state"] == "ready"
        wait_for(ready, seconds, lambda: f"a new {stage}; {self.stages().get(stage)}\n{self.journal()}")

    def host_pid(self, pid):
        """What process PID of the container is called out here."""
        for name in os.listdir("/proc"):
            try:
                with open(f"/proc/{name}/status") as f:
                    ids = re.search(r"^NSpid:\t(.*)$", f.read(), re.MULTILINE)[1].split()
                same = os.stat(f"/proc/{name}/ns/pid").st_ino == os.stat(f"/proc/{self.leader}/ns/pid").st_ino
            except (OSError, TypeError):
                continue
            if same and ids[-1] == str(pid):
                return int(name)
        raise AssertionError(f"no process {pid}")

    def host_key(self, *as_whom):
        """What a client must know of this host. AS_WHOM: a command before the one that asks."""
        return json.loads(self.run(*as_whom, "wavryctl", "status", "--json", check=True).stdout)["host_key"]

    def memory(self, item):
        """Where the memory called ITEM is in the supervisor's hands: (its process in the container, the descriptor)."""
        pid = self.show("wavry-supervisor", "MainPID")["MainPID"]
        found = re.search(rf"(\d+) -> /memfd:{re.escape(item)}", self.run("ls", "-l", f"/proc/{pid}/fd", check=True).stdout)
        if found:
            return int(pid), int(found[1])
        raise AssertionError(f"the supervisor has no {item}")

    def held_keys(self):
        """Codes that are down on the virtual display."""
        return self.run("runuser", "-u", "wavry-display", "--", "env", "DISPLAY=:50",
                        "XAUTHORITY=/run/wavry-display/Xauthority", "wavry-held-keys", check=True).stdout.split()

    def processes(self):
        """Of Wavry's, inside."""
        text = self.run("ps", "-eo", "pid=,user:20=,comm=").stdout
        return [line for line in text.splitlines() if " wavry-" in line]


class Wire:
    """Every datagram between this machine and the container's host, captured: wavry-nonces counts what is used twice."""

    def __init__(self, container):
        self.container = container
        self.process = subprocess.Popen([f"{BIN}/wavry-nonces", container.interface, container.address], text=True,
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        if self.process.stdout.readline() != "looking\n":
            raise AssertionError("wavry-nonces can't look at the wire")

    def counts(self):
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def notices_reuse(self):
        """Two datagrams with one counter and different bytes, to an id that nobody has: they must be counted."""
        before = self.counts()["reused"]
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
            for last in b"ab":
                s.sendto(b"\x10" + bytes(3) + b"\xff" * 4 + bytes(23) + bytes([last]), (self.container.address, 4820))
        return wait_for(lambda: self.counts()["reused"] == before + 1, 30, self.counts)

    def finish(self):
        """The numbers of all that was seen; AssertionError when something was missed or could not be noticed."""
        counts = self.counts()
        self.notices_reuse()
        self.stop()
        if counts["not_seen"] or not counts["from_host"] or not counts["from_clients"]:
            raise AssertionError(f"the wire was not seen whole: {counts}")
        return counts

    def stop(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()


class Client:
    """wavry-probe on this machine, on the host in the container, by way of a veth pair."""

    def __init__(self, container, folder, pause=20, again=1000):
        self.json = f"{folder}/probe.json"
        self.log_path = f"{folder}/probe.log"
        identity = f"{folder}/probe.identity"
        key = subprocess.run([f"{BIN}/wavry-client", "--identity", identity, "--print-key"], text=True, check=True,
                             stdout=subprocess.PIPE, env={**os.environ, "XDG_CONFIG_HOME": folder}).stdout.strip()
        container.run("wavryctl", "authorize", key, "--name", "probe", check=True)
        host_key = container.host_key()
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen([f"{BIN}/wavry-probe", container.address, "--identity", identity, "--host-key", host_key,
                                             "--seconds", "3600", "--pause", str(pause), "--again", str(again),
                                             "--json", self.json, "--verbose"], stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def log(self):
        with open(self.log_path, errors="replace") as f:
            return f.read()

    def presses(self):
        return self.log().count("photon_ms=")

    def wait_press(self, seconds=30):
        """Waits until a press that began from now on is seen."""
        base = self.presses()
        wait_for(lambda: self.presses() > base + 1, seconds, lambda: "presses seen: " + self.log()[-1500:])

    def presses_of_new_session(self):
        """Whether a press was seen after the last word about the connection."""
        log = self.log()
        return log.rfind("photon_ms=") > log.rfind("wavry-probe: ") >= 0

    def finish(self):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(30)
        with open(self.json) as f:
            return json.load(f)

    def stop(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()


class Keys:
    """wavry-keys on this machine: a client that shows nothing, and writes down each word about the connection. AS: who
    authorizes it, as a command."""

    def __init__(self, container, folder, *as_whom):
        self.log_path = f"{folder}/keys.log"
        identity = f"{folder}/keys.identity"
        key = subprocess.run([f"{BIN}/wavry-client", "--identity", identity, "--print-key"], text=True, check=True,
                             stdout=subprocess.PIPE, env={**os.environ, "XDG_CONFIG_HOME": folder}).stdout.strip()
        container.run(*as_whom, "wavryctl", "authorize", key, "--name", "keys", check=True)
        host_key = container.host_key(*as_whom)
        with open(self.log_path, "wb") as log:
            self.process = subprocess.Popen([f"{BIN}/wavry-keys", container.address, host_key, identity],
                                            stdin=subprocess.PIPE, stdout=log, stderr=log, text=True)

    def said(self):
        with open(self.log_path, errors="replace") as f:
            return f.read()

    def __enter__(self):
        wait_for(lambda: "connected" in self.said(), 30, self.said)
        return self

    def __exit__(self, *_):
        self.process.stdin.close()
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def waits(presses):
    """[(begin, seconds until the press, or after lost ones the next, was seen)]: what a person who presses waits for."""
    begun = None
    for begin, latency in presses:
        begun = begin if begun is None else begun
        if latency:
            yield begun, begin + latency / 1e3 - begun
            begun = None
    if begun is not None:
        yield begun, float("inf")


def freeze_ms(result, at, until):
    """How long nothing moved between AT and UNTIL (seconds, monotonic): pictures, or presses that were waiting."""
    gaps = [length for begin, length in result["gaps"] if begin < until and begin + length / 1e3 > at]
    waited = [took * 1e3 for begin, took in waits(result["presses"]) if begin < until and begin + took > at]
    return max(gaps, default=0.0), max(waited, default=0.0)


def now():
    return time.monotonic()
