"""wan.py BIN-FOLDER [wan | freeze [SECONDS]] [--links L,...] [--seconds N] [--rounds N] [--peers P,...] [--json FILE]

How a remote desktop feels over a bad link: host and client in network namespaces of their own, a link between them
that delays, loses and narrows (bench-linkem), a page that scrolls at 30 pictures a second on the host's display
(bench-scene), and eyes and a finger on the client's (bench-glass). Peers take turns on each link in one run. Exit 1
when Wavry misses a figure. Everything that it starts it stops, by id."""
import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time

FPS = 30
# Click to photon may take this much longer than without the link, and one round trip.
P50_MS, P99_MS = 25, 80
LINKS = {  # settings of both directions, round trip, and (second, setting) of what changes
    "none": (["delay_ms=0"], 0, []),
    "40ms": (["delay_ms=20", "loss_percent=1", "kbit=10000"], 40, []),
    "80ms": (["delay_ms=40", "loss_percent=3", "kbit=10000"], 80, []),
    "step": (["delay_ms=20", "kbit=6000"], 40, [(1 / 3, "kbit=1500"), (2 / 3, "kbit=6000")]),
}
HOST, CLIENT = "10.78.44.1", "10.78.44.2"


def run(*command, **options):
    return subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, check=False, **options)


class Shield:
    """A CPU group of great weight for the whole measurement where there are such groups (version 1), so that a busy
    neighbour hardly shows; and how much of the machine others took, where that is counted."""

    def __init__(self):
        self.groups = []
        for kind in ("cpu", "cpuacct"):
            group = f"/sys/fs/cgroup/{kind}/wavry-wan-{os.getpid()}"
            try:
                os.mkdir(group)
                self.groups.append(group)
                if kind == "cpu":
                    self.write(group, "cpu.shares", 40960)
                self.write(group, "cgroup.procs", os.getpid())
            except OSError:
                pass

    @staticmethod
    def write(group, name, value):
        with open(os.path.join(group, name), "w") as f:
            f.write(str(value))

    def others_ns(self):
        try:
            used = []
            for group in ("/sys/fs/cgroup/cpuacct", self.groups[-1]):
                with open(f"{group}/cpuacct.usage") as f:
                    used.append(int(f.read()))
            return used[0] - used[1]
        except (OSError, IndexError):
            return 0

    @staticmethod
    def stolen_s():
        """Processor time that the machine was promised and did not get, where it is a virtual one."""
        with open("/proc/stat") as f:
            return int(f.readline().split()[8]) / os.sysconf("SC_CLK_TCK")

    def close(self):
        for group in self.groups:
            try:
                self.write(os.path.dirname(group), "cgroup.procs", os.getpid())
                os.rmdir(group)
            except OSError:
                pass


class Thief(threading.Thread):
    """Notes when a virtual machine does not get its processors: (seconds since the start, share of them) of each
    tenth of a second in which a tenth of them or more was stolen."""

    def __init__(self):
        super().__init__(daemon=True)
        self.began, self.going, self.seen = time.monotonic(), True, []
        self.start()

    def run(self):
        at, stolen = self.began, Shield.stolen_s()
        while self.going:
            time.sleep(0.1)
            now, more = time.monotonic(), Shield.stolen_s()
            share = (more - stolen) / (now - at) / os.cpu_count()
            if share >= 0.1:
                self.seen.append((at, now - at, share))
            at, stolen = now, more

    def caught(self, start):
        """As the watcher's stalls, its clock beginning at START."""
        self.going = False
        self.join()
        return [[at - start, lasted * 1000] for at, lasted, _ in self.seen]


class Ground:
    """Two namespaces, a display in each, and all processes of one measurement."""

    def __init__(self, binaries, link):
        self.bin = binaries
        self.settings, self.rtt_ms, self.changes = LINKS[link]
        self.dir = tempfile.mkdtemp(prefix="wavry-wan-")
        os.chmod(self.dir, 0o711)
        self.processes = []
        self.spaces = {side: f"wavry-wan-{side}-{os.getpid()}" for side in ("host", "client")}

    def path(self, name):
        return os.path.join(self.dir, name)

    def __enter__(self):
        for space in self.spaces.values():
            made = run("ip", "netns", "add", space)
            if made.returncode != 0:
                sys.exit(f"wan.py: network namespaces can't be made ({made.stderr.strip()}); this needs root")
        self.link = subprocess.Popen([f"{self.bin}/bench-linkem", *self.spaces.values(), "wan0", *self.settings],
                                     stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.processes.append(self.link)
        if self.link.stdout.readline().strip() != "ready":
            sys.exit("wan.py: the link did not come up")
        for side, address in (("host", HOST), ("client", CLIENT)):
            for command in (["link", "set", "lo", "up"], ["addr", "add", f"{address}/24", "dev", "wan0"],
                            ["link", "set", "wan0", "up"]):
                subprocess.run(self.inside(side) + ["ip", *command], check=True)
        return self

    def __exit__(self, *_):
        for process in reversed(self.processes):
            if process.poll() is None:
                process.terminate()
                try:
                    process.wait(5)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()
        for space in self.spaces.values():
            run("ip", "netns", "del", space)
        shutil.rmtree(self.dir, ignore_errors=True)

    def inside(self, side):
        return ["nsenter", f"--net=/run/netns/{self.spaces[side]}"]

    def start(self, side, name, *command, **environment):
        with open(self.path(f"{name}.log"), "wb") as log:
            process = subprocess.Popen(self.inside(side) + list(command), stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                       env={**os.environ, "XDG_CONFIG_HOME": self.path("config"), **environment})
        self.processes.append(process)
        return process

    def log(self, name):
        with open(self.path(f"{name}.log"), errors="replace") as f:
            return f.read()

    def display(self, side, server="Xvfb", *options):
        """Starts an X server of the usual size on a free number. What is free is seen from outside of the namespaces
        only; a server that must be inside gets a number that nobody else takes."""
        place = self.inside(side) + [server, f":{100 + os.getpid() % 20000}"] if "vnc" in server else [server]
        read, write = os.pipe()
        size = ["-geometry", "1280x720", "-depth", "24"] if "vnc" in server else [
            "-screen", "0", "1280x720x24", "-nolisten", "tcp", "-noreset", "-ac"]
        with open(self.path(f"{side}-display.log"), "wb") as log:
            process = subprocess.Popen(place + ["-displayfd", str(write), *size, *options],
                                       stdin=subprocess.DEVNULL, stdout=log, stderr=log, pass_fds=[write])
        self.processes.append(process)
        os.close(write)
        with os.fdopen(read) as f:
            number = f.readline().strip()
        if not number:
            sys.exit(f"wan.py: {server} did not start: {self.log(f'{side}-display')}")
        return f":{number}"

    def change(self, setting):
        self.link.stdin.write(setting + "\n")
        self.link.stdin.flush()


class Wavry:
    programs = []

    def host(self, ground):
        self.ground = ground
        display = ground.display("host")
        ground.start("host", "host", f"{ground.bin}/wavry-supervisor", "--standalone", "--runtime-dir", ground.path("run"),
                     "--state-dir", ground.path("state"), "--display", display,
                     *os.environ.get("WAVRY_HOST_OPTIONS", "").split())
        for _ in range(200):
            if self.ctl("status").returncode == 0:
                return display
            time.sleep(0.1)
        sys.exit("wan.py: the host is not ready:\n" + ground.log("host"))

    def ctl(self, *arguments):
        return run(f"{self.ground.bin}/wavryctl", "--socket", self.ground.path("run/control.sock"), *arguments)

    def viewer(self, ground, display):
        identity = ground.path("identity")
        key = run(f"{ground.bin}/wavry-client", "--identity", identity, "--print-key",
                  env={**os.environ, "XDG_CONFIG_HOME": ground.path("config")}).stdout.strip()
        self.ctl("authorize", key, "--name", "wan")
        host_key = json.loads(self.ctl("status", "--json").stdout)["host_key"]
        ground.start("client", "client", f"{ground.bin}/wavry-client", "--fullscreen", "--identity", identity, "--host-key",
                     host_key, "--stats-json", ground.path("client.json"), HOST, DISPLAY=display, SDL_VIDEODRIVER="x11")

    def ended(self):
        """What the host counted, for whoever looks into a missed figure."""
        answer = self.ctl("metrics", "--json")
        return json.loads(answer.stdout) if answer.returncode == 0 else {}


class TigerVnc:
    programs = ["Xtigervnc", "xtigervncviewer"]

    def host(self, ground):
        return ground.display("host", "Xtigervnc", "-SecurityTypes", "None", "-rfbport", "5990", "-FrameRate", "60",
                              "-AlwaysShared")

    def viewer(self, ground, display):
        ground.start("client", "client", "xtigervncviewer", "-FullScreen", "-SecurityTypes", "None", f"{HOST}:5990",
                     DISPLAY=display)

    def ended(self):
        return {}


class X11Vnc(TigerVnc):
    programs = ["x11vnc", "xtigervncviewer"]
    options = []

    def host(self, ground):
        display = ground.display("host")
        ground.start("host", "host", "x11vnc", "-display", display, "-forever", "-shared", "-nopw", "-rfbport", "5990",
                     "-listen", HOST, *self.options)
        time.sleep(2)
        return display


class X11VncInAHurry(X11Vnc):
    options = ["-wait", "4", "-defer", "1", "-nowait_bog", "-noxrecord", "-threads"]


PEERS = {"wavry": Wavry, "tigervnc": TigerVnc, "x11vnc": X11Vnc, "x11vnc-fast": X11VncInAHurry}


def measure(options, peer_name, link, seconds):
    binaries = options.bin
    peer = PEERS[peer_name]()
    with Ground(binaries, link) as ground:
        host_display = peer.host(ground)
        client_display = ground.display("client")
        ground.start("host", "scene", f"{binaries}/bench-scene", str(FPS), DISPLAY=host_display)
        time.sleep(1)
        peer.viewer(ground, client_display)
        time.sleep(3)
        timers = [threading.Timer(at * seconds, ground.change, [setting]) for at, setting in ground.changes]
        for timer in timers:
            timer.start()
        others, began, stolen = options.shield.others_ns(), time.monotonic_ns(), options.shield.stolen_s()
        thief = Thief()
        glass = run(f"{binaries}/bench-glass", str(seconds), env={**os.environ, "DISPLAY": client_display})
        for timer in timers:
            timer.cancel()
        lasted = time.monotonic_ns() - began
        others = (options.shield.others_ns() - others) / lasted * 100
        stolen = (options.shield.stolen_s() - stolen) / (lasted / 1e9) * 100
        counted = peer.ended()
        if glass.returncode != 0:
            thief.caught(0)
            return {"failed": glass.stderr.strip() or f"bench-glass ended with {glass.returncode}",
                    "log": ground.log("client")[-500:]}
        seen = json.loads(glass.stdout)
        return {**seen, "stolen": thief.caught(seen["start"]), "rtt_ms": ground.rtt_ms, "others_percent": others,
                "stolen_percent": stolen, "counted": counted}


def quantile(values, q):
    values = sorted(values)
    return values[min(int(q * len(values)), len(values) - 1)] if values else float("nan")


def latencies(cells):
    """Of all rounds; a press that was never seen counts as long as was waited for it."""
    return [ms or 3000 for cell in cells for _, ms in cell.get("presses", [])]


def is_calm(cell, moment):
    """Whether the machine ran from a little before a press or a freeze until its end: the watcher was woken on time,
    and no processor was stolen. What else falls there is no link's making and no program's."""
    at, ms = moment
    return not any(start + lasted / 1000 >= at - 0.2 and start <= at + (ms or 3000) / 1000
                   for start, lasted in cell["stalls"] + cell["stolen"])


def calm(cells, name):
    return [moment for cell in cells for moment in cell.get(name, []) if is_calm(cell, moment)]


def figure(cells, name, q="p50"):
    """The median over CELLS of a number of theirs, or of one in a table of theirs."""
    values = [cell[name][q] if isinstance(cell[name], dict) else cell[name] for cell in cells if name in cell]
    return quantile(values, 0.5)


def print_counted(cell):
    """Where it may come from, on one line."""
    t, e = cell.get("counted", {}).get("transport"), cell.get("counted", {}).get("encoder")
    if t and e:
        names = [("sent", t, "frames_sent_total"), ("skipped", t, "frames_skipped_total"),
                 ("repeated", t, "fragments_repeated_total"), ("keyframes", e, "keyframes_total"),
                 ("holds", e, "holds_total")]
        print("    " + "  ".join(f"{label} {table[name]['value']}" for label, table, name in names if name in table))


HEADER = (f"{'link':<6} {'peer':<12} presses   p50 ms   p99 ms    fps  age p50  age p99 freezes  longest  others  stolen stalls  "
          "wavry's limits, p50 / p99")


def verdict(ms, limits):
    met = quantile(ms, 0.5) <= limits[0] and quantile(ms, 0.99) <= limits[1]
    return met, f"{'meets' if met else 'MISSES'} {limits[0]:.0f} / {limits[1]:.0f}"


def print_cells(link, peer, cells, said):
    ms = latencies(cells)
    freezes = sum(len(cell.get("freezes", [])) for cell in cells)
    stalls = sum(len(cell.get("stalls", [])) for cell in cells)
    longest = max([cell["longest_ms"] for cell in cells if "longest_ms" in cell], default=float("nan"))
    fps = quantile([cell["pictures"] / cell["seconds"] for cell in cells if "pictures" in cell], 0.5)
    print(f"{link:<6} {peer:<12} {len(ms):>7} {quantile(ms, .5):>8.1f} {quantile(ms, .99):>8.1f} {fps:>6.1f} "
          f"{figure(cells, 'age_ms', 'p50'):>8.0f} {figure(cells, 'age_ms', 'p99'):>8.0f} {freezes:>7} {longest:>8.0f} "
          f"{figure(cells, 'others_percent'):>6.0f}% {figure(cells, 'stolen_percent'):>6.1f}% {stalls:>6}  {said}", flush=True)


def print_link(link, peers, results, base_ms):
    """Returns whether Wavry met its figures; where the machine stalled, by the presses while it did not."""
    rtt = LINKS[link][1]
    limits = (base_ms + rtt + P50_MS, base_ms + rtt + P99_MS)
    good = True
    for peer in peers:
        cells = results[link, peer]
        judged = peer == "wavry" and link != "none"
        failed = " ".join(cell["failed"] for cell in cells if "failed" in cell)
        ms, quiet = latencies(cells), [ms or 3000 for _, ms in calm(cells, "presses")]
        met, said = verdict(ms, limits)
        print_cells(link, peer, cells, failed or (said if judged else ""))
        if len(quiet) < len(ms):
            met_calm, said = verdict(quiet, limits)
            met = met or met_calm
            print(f"{'':<6} {'  while calm':<12} {len(quiet):>7} {quantile(quiet, .5):>8.1f} {quantile(quiet, .99):>8.1f} "
                  f"{'':>24} {len(calm(cells, 'freezes')):>7} {'':>31}  {said if judged else ''}", flush=True)
        if judged:
            good = good and met and not failed
        for cell in cells if os.environ.get("WAVRY_WAN_VERBOSE") else []:
            print_counted(cell)
    return good


def wan(options):
    peers = [p for p in options.peers if all(shutil.which(program) for program in PEERS[p].programs)]
    for peer in set(options.peers) - set(peers):
        print(f"{peer}: not installed ({' '.join(PEERS[peer].programs)}), left out")
    results = {}
    print(HEADER)
    base = [measure(options, "wavry", "none", min(options.seconds, 15))]
    base_ms = quantile([ms or 3000 for _, ms in calm(base, "presses")] or latencies(base), 0.5)
    results["none", "wavry"] = base
    print_link("none", ["wavry"], results, base_ms)
    for _ in range(options.rounds):
        for link in options.links:
            for peer in peers:
                cell = measure(options, peer, link, options.seconds)
                results.setdefault((link, peer), []).append(cell)
                if options.rounds > 1:
                    print(f"# {link} {peer}: p50 {quantile(latencies([cell]), .5):.1f} p99 "
                          f"{quantile(latencies([cell]), .99):.1f}", flush=True)
    good = [print_link(link, peers, results, base_ms) for link in options.links]
    save(options, [{"link": link, "peer": peer, "cells": cells} for (link, peer), cells in results.items()])
    return all(good)


def freeze(options):
    link = options.links[0] if options.links else "40ms"
    cell = measure(options, "wavry", link, options.seconds)
    save(options, cell)
    if "failed" in cell:
        print(cell["failed"], cell["log"])
        return False
    print(f"{link}, {options.seconds:.0f} s: {cell['pictures']} pictures, age p50 {cell['age_ms']['p50']} p99 "
          f"{cell['age_ms']['p99']} ms, click to photon p50 {quantile(latencies([cell]), .5):.1f} p99 {quantile(latencies([cell]), .99):.1f} ms, "
          f"longest standstill {cell['longest_ms']:.0f} ms, freezes above 250 ms: {len(cell['freezes'])} (others took "
          f"{cell['others_percent']:.0f} % of a processor, {cell['stolen_percent']:.1f} % was stolen, the watcher stalled "
          f"{len(cell['stalls'])} times)")
    for at, ms in cell["freezes"]:
        print(f"    at {at:.1f} s: {ms:.0f} ms{'' if is_calm(cell, (at, ms)) else ', while the machine stalled'}")
    print_counted(cell)
    return not calm([cell], "freezes")


def save(options, data):
    if options.json:
        with open(options.json, "w") as f:
            json.dump(data, f)


def main():
    parser = argparse.ArgumentParser(usage=__doc__)
    parser.add_argument("bin")
    parser.add_argument("what", nargs="?", default="wan", choices=["wan", "freeze"])
    parser.add_argument("length", nargs="?", type=float)
    parser.add_argument("--links", type=lambda s: s.split(","))
    parser.add_argument("--seconds", type=float)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--peers", type=lambda s: s.split(","), default=["wavry", "tigervnc", "x11vnc"])
    parser.add_argument("--json")
    options = parser.parse_args()
    for link in options.links or []:
        if link not in LINKS:
            parser.error(f"no link {link}; there are {', '.join(LINKS)}")
    for peer in options.peers:
        if peer not in PEERS:
            parser.error(f"no peer {peer}; there are {', '.join(PEERS)}")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # by way of everything that ends what was started
    options.shield = Shield()
    try:
        if options.what == "freeze":
            options.seconds = options.length or options.seconds or 300
            return freeze(options)
        options.links = options.links or ["40ms", "80ms", "step"]
        options.seconds = options.seconds or 60
        return wan(options)
    finally:
        options.shield.close()


sys.exit(0 if main() else 1)
